/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tree: the ordered sum of microbatch vectors. See tree.h for the tree itself.
 *
 * Note [The plan of a tree]
 * What is added to what is known from (n_microbatches, size) alone, so every rank computes the plans of all ranks.
 * Nodes are combined as a binary counter: a stack of nodes in order of their index; after each new node, while the top
 * is a right child its left sibling is below it (the two merge), and while it is a left child without a sibling it
 * moves up one level as it is. A rank pushes its microbatches onto its stack; the nodes left there are its partials;
 * pushing the partials of all ranks in order onto one more stack leaves the root. In both cases the operands of every
 * addition are the same nodes in the same order, so the bits are those of one rank that holds everything.
 *
 * Note [Two barriers a finish]
 * With shared memory: barrier 1 tells that all partials are complete; each rank then adds up its slice of all partials
 * and leaves it in its region's result. Barrier 2 tells that all slices are there; each rank copies them to its own
 * sum. A partial is overwritten by the next step's pushes, which come after barrier 2; a result by the next finish,
 * after its barrier 1, which the ranks reach when they are done copying. So no third barrier is needed.
 */
#include "collectives/tree.h"

#include <string.h>

#include "base/assert.h"
#include "base/mem.h"
#include "collectives/backend.h"

enum { ALIGN_NUMEL = 16, BLOCK_NUMEL = 2048, ALIGN_BYTES = 64, NO_BUFFER = -1 };
/* Partials on a stack: at most 2·log2(microbatches) + 1, and the slot. */
enum { MAX_MICROBATCHES = 1 << 20, MAX_DEPTH = 48 };

/* A node on a stack: its place in the tree and the buffer that holds it. */
typedef struct tree_node {
    int64_t index;
    int level;
    int buffer;
} tree_node_t;

typedef struct tree_stack {
    tree_node_t node[MAX_DEPTH];
    int n_nodes;
} tree_stack_t;

/* What one rank has when its share is pushed. */
typedef struct tree_share {
    int64_t first, n;
    int n_buffers; /* taken while pushing, the slot included */
    int n_partials;
    tree_node_t partial[MAX_DEPTH];
} tree_share_t;

/* a = a + b over a slice; operands are source partials (≥ 0) or temporaries (-1 - t). */
typedef struct tree_add {
    int left, right, out;
} tree_add_t;

struct coll_tree {
    coll_group_t *group;
    int64_t numel, stride; /* stride: numel rounded up, floats from one buffer to the next */
    int64_t n_microbatches;
    int rank, size;

    tree_share_t *share; /* [size] */
    tree_stack_t stack;
    bool *is_used; /* [n_buffers of this rank] */
    int64_t n_pushed;
    int slot; /* buffer of the slot, NO_BUFFER: not handed out */

    /* the exchange */
    coll_shared_t *shared;
    float *buffers; /* [n_buffers][stride]: in this rank's shared region, or private */
    bool is_buffers_private;
    float *sum;           /* [stride]; NULL when size is 1 */
    float *received;      /* messages: [n_sources][slice of this rank] */
    float *temporaries;   /* [n_temporaries][BLOCK_NUMEL] */
    int n_sources;        /* partials of all ranks, in order */
    const float **source; /* [n_sources] where this rank's slice of each begins */
    int n_adds;
    tree_add_t *add;
    int64_t *slice_first, *slice_n; /* [size] in floats */
    int64_t *sizes;                 /* [4 · size] arguments of the exchange */
};

static int64_t level_width(int64_t n_microbatches, int level)
{
    return (n_microbatches + (INT64_C(1) << level) - 1) >> level;
}

/* Moves the top node up while it has no sibling; true when it then is the right child of the node below it. */
static bool stack_settle(tree_stack_t *stack, int64_t n_microbatches)
{
    tree_node_t *top = &stack->node[stack->n_nodes - 1];
    while (top->index % 2 == 0 && top->index > 0 && top->index + 1 == level_width(n_microbatches, top->level)) {
        top->index /= 2;
        top->level++;
    }
    if (stack->n_nodes < 2 || top->index % 2 == 0) {
        return false;
    }
    const tree_node_t *below = top - 1;
    return below->level == top->level && below->index + 1 == top->index;
}

static void stack_push(tree_stack_t *stack, tree_node_t node)
{
    ASSERT(stack->n_nodes < MAX_DEPTH);
    stack->node[stack->n_nodes++] = node;
}

/* Merges the two top nodes in the lower one's buffer; returns the buffer that is free now. */
static int stack_merge(tree_stack_t *stack)
{
    tree_node_t *top = &stack->node[--stack->n_nodes];
    top[-1].index /= 2;
    top[-1].level++;
    return top->buffer;
}

static int buffer_take(bool *is_used, int n_buffers)
{
    for (int i = 0; i < n_buffers; i++) {
        if (!is_used[i]) {
            is_used[i] = true;
            return i;
        }
    }
    return NO_BUFFER;
}

/* Plays a rank's pushes through, without numbers. */
static void share_plan(tree_share_t *share, int64_t n_microbatches)
{
    bool is_used[MAX_DEPTH] = {false};
    tree_stack_t stack = {.n_nodes = 0};
    share->n_buffers = 1;
    for (int64_t m = 0; m < share->n; m++) {
        int buffer = buffer_take(is_used, MAX_DEPTH);
        ASSERT(buffer != NO_BUFFER);
        share->n_buffers = buffer + 1 > share->n_buffers ? buffer + 1 : share->n_buffers;
        stack_push(&stack, (tree_node_t){.index = share->first + m, .buffer = buffer});
        while (stack_settle(&stack, n_microbatches)) {
            is_used[stack_merge(&stack)] = false;
        }
    }
    share->n_partials = stack.n_nodes;
    memcpy(share->partial, stack.node, (size_t)stack.n_nodes * sizeof(stack.node[0]));
}

/* out[n] = left[n] + right[n]; out may be either operand. */
static void floats_add(float *out, const float *left, const float *right, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        out[i] = left[i] + right[i];
    }
}

/* The additions that turn the sources into the root. Temporaries are numbered by their place on the stack. */
static void root_plan(coll_tree_t *tree, int *n_temporaries_p)
{
    tree_stack_t stack = {.n_nodes = 0};
    int source = 0;
    int n_temporaries = 0;
    for (int r = 0; r < tree->size; r++) {
        for (int p = 0; p < tree->share[r].n_partials; p++) {
            tree_node_t node = tree->share[r].partial[p];
            node.buffer = source++;
            stack_push(&stack, node);
            while (stack_settle(&stack, tree->n_microbatches)) {
                tree_add_t *add = &tree->add[tree->n_adds++];
                int place = stack.n_nodes - 2;
                add->left = stack.node[place].buffer;
                add->right = stack_merge(&stack);
                add->out = -1 - place;
                stack.node[place].buffer = add->out;
                n_temporaries = place + 1 > n_temporaries ? place + 1 : n_temporaries;
            }
        }
    }
    ASSERT(stack.n_nodes == 1 && source == tree->n_sources && tree->n_adds == tree->n_sources - 1);
    *n_temporaries_p = n_temporaries;
}

static const float *operand_get(const coll_tree_t *tree, int operand, int64_t offset)
{
    return operand >= 0 ? tree->source[operand] + offset : tree->temporaries + (int64_t)(-1 - operand) * BLOCK_NUMEL;
}

/* Adds this rank's slice of all sources along the tree into out[n]; also into `copy`, unless NULL. */
static void slice_reduce(const coll_tree_t *tree, float *out, float *copy, int64_t n)
{
    for (int64_t offset = 0; offset < n; offset += BLOCK_NUMEL) {
        int64_t numel = n - offset < BLOCK_NUMEL ? n - offset : BLOCK_NUMEL;
        for (int i = 0; i < tree->n_adds; i++) {
            const tree_add_t *add = &tree->add[i];
            bool is_last = i == tree->n_adds - 1;
            float *to = is_last ? out + offset : tree->temporaries + (int64_t)(-1 - add->out) * BLOCK_NUMEL;
            floats_add(to, operand_get(tree, add->left, offset), operand_get(tree, add->right, offset), numel);
        }
        if (tree->n_adds == 0) {
            memcpy(out + offset, tree->source[0] + offset, (size_t)numel * sizeof(float));
        }
        if (copy != NULL) {
            memcpy(copy + offset, out + offset, (size_t)numel * sizeof(float));
        }
    }
}

float *coll_tree_slot(coll_tree_t *tree)
{
    if (tree->n_pushed == tree->share[tree->rank].n) {
        return NULL;
    }
    if (tree->slot == NO_BUFFER) {
        tree->slot = buffer_take(tree->is_used, tree->share[tree->rank].n_buffers);
        ASSERT(tree->slot != NO_BUFFER);
    }
    return tree->buffers + tree->slot * tree->stride;
}

/* The chain of merges that a push sets off, done block by block so that each partial is read once from memory. */
static void chain_add(const coll_tree_t *tree, const int *buffer, int n_buffers)
{
    for (int64_t offset = 0; offset < tree->numel; offset += BLOCK_NUMEL) {
        int64_t numel = tree->numel - offset < BLOCK_NUMEL ? tree->numel - offset : BLOCK_NUMEL;
        for (int i = 0; i + 1 < n_buffers; i++) {
            float *left = tree->buffers + buffer[i + 1] * tree->stride + offset;
            const float *right = tree->buffers + buffer[i] * tree->stride + offset;
            floats_add(left, left, right, numel);
        }
    }
}

status_t coll_tree_push(coll_tree_t *tree)
{
    const tree_share_t *share = &tree->share[tree->rank];
    if (coll_tree_slot(tree) == NULL) {
        return ST_FAIL(ST_ERR_STATE, "rank %d pushes more than its %lld microbatches", tree->rank, (long long)share->n);
    }
    int chain[MAX_DEPTH];
    int n_chain = 0;
    chain[n_chain++] = tree->slot;
    stack_push(&tree->stack, (tree_node_t){.index = share->first + tree->n_pushed, .buffer = tree->slot});
    while (stack_settle(&tree->stack, tree->n_microbatches)) {
        tree->is_used[stack_merge(&tree->stack)] = false;
        chain[n_chain++] = tree->stack.node[tree->stack.n_nodes - 1].buffer;
    }
    chain_add(tree, chain, n_chain);
    tree->slot = NO_BUFFER;
    tree->n_pushed++;
    return ST_OK;
}

static float *region_buffers(const coll_tree_t *tree, int rank)
{
    return tree->shared->region[rank];
}

/* A region: the most buffers that a rank needs, then its slice of the result. */
static int64_t region_result_offset(const coll_tree_t *tree)
{
    int n_buffers = 0;
    for (int r = 0; r < tree->size; r++) {
        n_buffers = tree->share[r].n_buffers > n_buffers ? tree->share[r].n_buffers : n_buffers;
    }
    return n_buffers * tree->stride;
}

/* See Note [Two barriers a finish]. */
static status_t finish_shared(coll_tree_t *tree)
{
    int64_t result = region_result_offset(tree);
    int64_t first = tree->slice_first[tree->rank];
    status_t status = coll_barrier(tree->group);
    if (status != ST_OK) {
        return status;
    }
    slice_reduce(tree, region_buffers(tree, tree->rank) + result, tree->sum + first, tree->slice_n[tree->rank]);
    status = coll_barrier(tree->group);
    if (status != ST_OK) {
        return status;
    }
    for (int r = 0; r < tree->size; r++) {
        if (r != tree->rank && tree->slice_n[r] > 0) {
            memcpy(tree->sum + tree->slice_first[r], region_buffers(tree, r) + result,
                   (size_t)tree->slice_n[r] * sizeof(float));
        }
    }
    return ST_OK;
}

/* Round p of the exchange moves every rank's p-th partial: its slices lie in place, so nothing is packed. */
static status_t finish_messages(coll_tree_t *tree)
{
    int64_t *in_sizes = tree->sizes;
    int64_t *in_offsets = in_sizes + tree->size;
    int64_t *out_sizes = in_offsets + tree->size;
    int64_t *out_offsets = out_sizes + tree->size;
    const tree_share_t *own = &tree->share[tree->rank];
    int n_rounds = 0;
    for (int r = 0; r < tree->size; r++) {
        n_rounds = tree->share[r].n_partials > n_rounds ? tree->share[r].n_partials : n_rounds;
    }
    for (int p = 0; p < n_rounds; p++) {
        bool has_partial = p < own->n_partials;
        int source = p;
        for (int r = 0; r < tree->size; r++) {
            bool has_other = p < tree->share[r].n_partials && r != tree->rank;
            in_sizes[r] = has_partial && r != tree->rank ? tree->slice_n[r] * (int64_t)sizeof(float) : 0;
            in_offsets[r] = tree->slice_first[r] * (int64_t)sizeof(float);
            out_sizes[r] = has_other ? tree->slice_n[tree->rank] * (int64_t)sizeof(float) : 0;
            out_offsets[r] = has_other ? source * tree->slice_n[tree->rank] * (int64_t)sizeof(float) : 0;
            source += tree->share[r].n_partials;
        }
        const float *in = has_partial ? tree->buffers + own->partial[p].buffer * tree->stride : tree->buffers;
        status_t status = coll_alltoallv(tree->group, in, in_sizes, in_offsets, tree->received, out_sizes, out_offsets);
        if (status != ST_OK) {
            return status;
        }
    }
    float *slice = tree->sum + tree->slice_first[tree->rank];
    slice_reduce(tree, slice, NULL, tree->slice_n[tree->rank]);
    for (int r = 0; r < tree->size; r++) {
        out_sizes[r] = tree->slice_n[r] * (int64_t)sizeof(float);
        out_offsets[r] = tree->slice_first[r] * (int64_t)sizeof(float);
    }
    return coll_allgatherv(tree->group, slice, out_sizes[tree->rank], tree->sum, out_sizes, out_offsets);
}

status_t coll_tree_finish(coll_tree_t *tree, float **sum_p)
{
    const tree_share_t *share = &tree->share[tree->rank];
    if (tree->n_pushed != share->n) {
        return ST_FAIL(ST_ERR_STATE, "rank %d has pushed %lld of its %lld microbatches", tree->rank,
                       (long long)tree->n_pushed, (long long)share->n);
    }
    float *sum = tree->sum;
    status_t status = ST_OK;
    if (tree->size == 1) {
        sum = tree->buffers + tree->stack.node[0].buffer * tree->stride;
    } else if (tree->shared != NULL) {
        status = finish_shared(tree);
    } else {
        status = finish_messages(tree);
    }
    if (status != ST_OK) {
        return status;
    }
    memset(tree->is_used, 0, (size_t)share->n_buffers * sizeof(*tree->is_used));
    tree->stack.n_nodes = 0;
    tree->n_pushed = 0;
    *sum_p = sum;
    return ST_OK;
}

bool coll_tree_is_shared(const coll_tree_t *tree)
{
    return tree->shared != NULL;
}

void coll_tree_close(coll_tree_t *tree)
{
    if (tree == NULL) {
        return;
    }
    coll_shared_close(tree->shared);
    if (tree->is_buffers_private) {
        mem_free(tree->buffers);
    }
    mem_free(tree->sum);
    mem_free(tree->received);
    mem_free(tree->temporaries);
    mem_free(tree->source);
    mem_free(tree->add);
    mem_free(tree->slice_first);
    mem_free(tree->sizes);
    mem_free(tree->is_used);
    mem_free(tree->share);
    mem_free(tree);
}

static float *floats_alloc(int64_t n)
{
    return mem_alloc_aligned(ALIGN_BYTES, (size_t)n * sizeof(float));
}

/* Where this rank's slice of every rank's partials begins. */
static void sources_point(coll_tree_t *tree)
{
    int64_t first = tree->slice_first[tree->rank];
    int source = 0;
    for (int r = 0; r < tree->size; r++) {
        for (int p = 0; p < tree->share[r].n_partials; p++, source++) {
            int64_t offset = tree->share[r].partial[p].buffer * tree->stride + first;
            if (tree->shared != NULL) {
                tree->source[source] = region_buffers(tree, r) + offset;
            } else if (r == tree->rank) {
                tree->source[source] = tree->buffers + offset;
            } else {
                tree->source[source] = tree->received + source * tree->slice_n[tree->rank];
            }
        }
    }
}

/* Slices begin at multiples of 64 bytes, so that no two ranks write one cache line. */
static void slices_plan(coll_tree_t *tree)
{
    int64_t n_lines = tree->stride / ALIGN_NUMEL;
    for (int r = 0; r < tree->size; r++) {
        int64_t first_line = 0;
        int64_t own_lines = 0;
        coll_share(n_lines, tree->size, r, &first_line, &own_lines);
        int64_t first = first_line * ALIGN_NUMEL;
        int64_t end = first + own_lines * ALIGN_NUMEL;
        end = end < tree->numel ? end : tree->numel;
        tree->slice_first[r] = first < tree->numel ? first : tree->numel;
        tree->slice_n[r] = end > first ? end - first : 0;
    }
}

/* Plans of all ranks and the tables that depend on them. */
static status_t tree_plan(coll_tree_t *tree)
{
    tree->share = mem_calloc((size_t)tree->size, sizeof(*tree->share));
    tree->slice_first = mem_calloc((size_t)tree->size * 2, sizeof(int64_t));
    tree->sizes = mem_calloc((size_t)tree->size * 4, sizeof(int64_t));
    if (tree->share == NULL || tree->slice_first == NULL || tree->sizes == NULL) {
        return ST_ERR_NOMEM;
    }
    tree->slice_n = tree->slice_first + tree->size;
    for (int r = 0; r < tree->size; r++) {
        tree_share_t *share = &tree->share[r];
        coll_share(tree->n_microbatches, tree->size, r, &share->first, &share->n);
        share_plan(share, tree->n_microbatches);
        tree->n_sources += share->n_partials;
    }
    slices_plan(tree);
    tree->is_used = mem_calloc((size_t)tree->share[tree->rank].n_buffers, sizeof(*tree->is_used));
    tree->source = mem_calloc((size_t)tree->n_sources, sizeof(*tree->source));
    tree->add = mem_calloc((size_t)tree->n_sources, sizeof(*tree->add));
    if (tree->is_used == NULL || tree->source == NULL || tree->add == NULL) {
        return ST_ERR_NOMEM;
    }
    int n_temporaries = 0;
    root_plan(tree, &n_temporaries);
    tree->temporaries = floats_alloc((int64_t)n_temporaries * BLOCK_NUMEL);
    return tree->temporaries != NULL ? ST_OK : ST_ERR_NOMEM;
}

static status_t tree_buffers_alloc(coll_tree_t *tree, coll_tree_path_t path)
{
    status_t status = ST_OK;
    if (tree->size > 1 && path == COLL_TREE_PATH_AUTO) {
        int64_t numel = region_result_offset(tree) + (tree->stride / ALIGN_NUMEL / tree->size + 1) * ALIGN_NUMEL;
        status = coll_shared_open(tree->group, numel * (int64_t)sizeof(float), &tree->shared);
        if (status != ST_OK) {
            return status;
        }
    }
    if (tree->shared != NULL) {
        tree->buffers = region_buffers(tree, tree->rank);
    } else {
        tree->buffers = floats_alloc(tree->share[tree->rank].n_buffers * tree->stride);
        tree->is_buffers_private = true;
    }
    if (tree->size > 1) {
        tree->sum = floats_alloc(tree->stride);
    }
    if (tree->size > 1 && tree->shared == NULL) {
        tree->received = floats_alloc(tree->n_sources * tree->slice_n[tree->rank]);
    }
    bool is_complete = tree->buffers != NULL && (tree->size == 1 || tree->sum != NULL) &&
                       (tree->size == 1 || tree->shared != NULL || tree->received != NULL);
    return is_complete ? ST_OK : ST_ERR_NOMEM;
}

status_t coll_tree_open_path(coll_group_t *group, int64_t numel, int64_t n_microbatches, coll_tree_path_t path,
                             coll_tree_t **tree_p)
{
    if (numel < 0 || numel > INT64_C(1) << 40 || n_microbatches < 1 || n_microbatches > MAX_MICROBATCHES) {
        return ST_FAIL(ST_ERR_INVAL, "tree of %lld microbatches with %lld elements each", (long long)n_microbatches,
                       (long long)numel);
    }
    coll_tree_t *tree = mem_zalloc(sizeof(*tree));
    if (tree == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "tree of %lld elements", (long long)numel);
    }
    tree->group = group;
    tree->numel = numel;
    tree->stride = (numel / ALIGN_NUMEL + 1) * ALIGN_NUMEL;
    tree->n_microbatches = n_microbatches;
    tree->rank = coll_group_rank(group);
    tree->size = coll_group_size(group);
    tree->slot = NO_BUFFER;
    status_t status = tree_plan(tree);
    if (status == ST_OK) {
        status = tree_buffers_alloc(tree, path);
    }
    if (status == ST_ERR_NOMEM) {
        status = ST_FAIL(ST_ERR_NOMEM, "tree of %lld elements over %d ranks", (long long)numel, tree->size);
    }
    if (status != ST_OK) {
        coll_tree_close(tree);
        return status;
    }
    sources_point(tree);
    *tree_p = tree;
    return ST_OK;
}

status_t coll_tree_open(coll_group_t *group, int64_t numel, int64_t n_microbatches, coll_tree_t **tree_p)
{
    return coll_tree_open_path(group, numel, n_microbatches, COLL_TREE_PATH_AUTO, tree_p);
}
