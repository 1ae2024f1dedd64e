/* SPDX-License-Identifier: Apache-2.0 */
/*
 * backward: the walk over the tape.
 *
 * Nodes are taken from a heap by descending sequence number. An op's inputs exist before its output, so when a node is
 * taken, all that used its output have been taken before, and its dy is complete; sums of several contributions are
 * therefore formed in one order, whatever the graph's shape.
 */
#include <stdio.h>
#include <string.h>

#include "autograd/anomaly.h"
#include "autograd/walk.h"
#include "gradd/amp.h"
#include "gradd/ops.h"

/* *sum_p += dx, where the sum may be overwritten only if nobody else sees it. Takes dx. */
static status_t gradient_add(gd_tensor_t **sum_p, gd_tensor_t *dx)
{
    if (*sum_p == NULL) {
        *sum_p = dx;
        return ST_OK;
    }
    gd_tensor_t *operands[2] = {*sum_p, dx};
    status_t status;
    if ((*sum_p)->is_contiguous && gd_tensor_is_sole(*sum_p)) {
        status = gd_op_apply_into(GD_OP_ADD, operands, 2, NULL, *sum_p);
    } else {
        gd_tensor_t *sum = NULL;
        status = gd_op_apply(GD_OP_ADD, operands, 2, NULL, &sum);
        if (status == ST_OK) {
            (void)gd_tensor_unref(*sum_p);
            *sum_p = sum;
        }
    }
    (void)gd_tensor_unref(dx);
    return status;
}

/* leaf.grad += dx. Takes dx. */
static status_t leaf_add(gd_tensor_t *leaf, gd_tensor_t *dx)
{
    if (leaf->grad == NULL) {
        if (dx->is_contiguous && gd_tensor_is_spare(dx)) {
            leaf->grad = dx;
            return ST_OK;
        }
        status_t status = gd_tensor_new(leaf->dtype, leaf->n_dims, leaf->shape, &leaf->grad);
        if (status != ST_OK) {
            (void)gd_tensor_unref(dx);
            return status;
        }
        leaf->is_grad_fresh = true;
    }
    status_t status;
    if (leaf->is_grad_fresh) {
        status = gd_tensor_copy(leaf->grad, dx);
        leaf->is_grad_fresh = false;
    } else {
        gd_tensor_t *operands[2] = {leaf->grad, dx};
        status = gd_op_apply_into(GD_OP_ADD, operands, 2, NULL, leaf->grad);
    }
    (void)gd_tensor_unref(dx);
    return status;
}

/* "[2, 3], none, [3]" of the node's inputs. */
static void node_format_inputs(const tape_node_t *node, strbuf_t *text)
{
    for (int i = 0; i < node->base.n_in; i++) {
        strbuf_append(text, i > 0 ? ", " : "");
        if (node->base.in[i] != NULL || node->base.in_meta[i].n_dims > 0) {
            gd_shape_format(node->base.in_meta[i].n_dims, node->base.in_meta[i].shape, text);
        } else {
            strbuf_append(text, "none");
        }
    }
}

/* what: "input 1", "its output" */
static status_t overwritten_fail(const tape_node_t *node, const char *what, const gd_tensor_t *saved, uint32_t version)
{
    strbuf_t text = {0};
    const char *changed_by = saved->storage->changed_by;
    strbuf_appendf(&text,
                   "%s: %s, which backward needs, was changed in place%s%s (version %u, was %u when saved): it is ",
                   node->base.op->name, what, changed_by != NULL ? " by " : "", changed_by != NULL ? changed_by : "",
                   saved->storage->version, version);
    gd_shape_format(saved->n_dims, saved->shape, &text);
    strbuf_append(&text, ", the inputs were ");
    node_format_inputs(node, &text);
    status_t status = ST_FAIL(ST_ERR_STATE, "%s", strbuf_text(&text));
    strbuf_release(&text);
    return status;
}

static status_t node_check(const tape_node_t *node)
{
    const gd_node_t *base = &node->base;
    if (node->is_freed) {
        return ST_FAIL(ST_ERR_STATE, "%s: its graph was freed by an earlier gd_backward; use keep_graph",
                       base->op->name);
    }
    if (base->op->backward == NULL && node->checkpoint == NULL) {
        return ST_FAIL(ST_ERR_UNSUPPORTED, "%s is not differentiable", base->op->name);
    }
    for (int i = 0; i < base->n_in; i++) {
        if (base->in[i] != NULL && base->in[i]->storage->version != node->in_version[i]) {
            char what[24];
            (void)snprintf(what, sizeof(what), "input %d", i);
            return overwritten_fail(node, what, base->in[i], node->in_version[i]);
        }
    }
    for (int i = 0; i < base->n_out; i++) {
        if (base->out[i] != NULL && base->out[i]->storage->version != node->out_version[i]) {
            return overwritten_fail(node, "its output", base->out[i], node->out_version[i]);
        }
    }
    return ST_OK;
}

/* The sum of what others have contributed to the gradient of in[i], where nobody else sees it; NULL: none. */
static gd_tensor_t *node_pending_sum(const tape_node_t *node, int i)
{
    const tape_node_t *producer = node->producer[i];
    if (!node->base.op->adds_to_sums || producer == NULL || producer->dy == NULL || !producer->dy->is_contiguous ||
        producer->dy->dtype != node->base.grad_dtype[i] || !gd_tensor_is_sole(producer->dy)) {
        return NULL;
    }
    for (int j = 0; j < node->base.n_in; j++) {
        if (j != i && node->producer[j] == producer) {
            return NULL;
        }
    }
    return producer->dy;
}

/* Offers the gradient buffers of leaves; the same leaf twice among the inputs is offered once only. */
static void node_offer(const walk_t *walk, tape_node_t *node)
{
    for (int i = 0; i < node->base.n_in; i++) {
        gd_tensor_t *leaf = node->leaf[i];
        node->base.into[i] = leaf == NULL ? node_pending_sum(node, i) : NULL;
        node->base.into_accumulates[i] = node->base.into[i] != NULL;
        node->base.is_written[i] = false;
        if (walk->n_inputs > 0 || leaf == NULL || leaf->grad == NULL || !leaf->grad->is_contiguous ||
            walk_collects(walk, leaf)) {
            continue;
        }
        bool is_repeated = false;
        for (int j = 0; j < i; j++) {
            is_repeated = is_repeated || node->leaf[j] == leaf;
        }
        if (!is_repeated) {
            node->base.into[i] = leaf->grad;
            node->base.into_accumulates[i] = !leaf->is_grad_fresh;
        }
    }
}

/* ---- leaves that collect ---- */

/* All contributions are there: hooks, then .grad or the caller of gd_grad. */
static status_t watch_pass_on(walk_t *walk, tape_watch_t *watch)
{
    watch->is_done = true;
    if (watch->sum == NULL) {
        return ST_OK;
    }
    status_t status = tape_hooks_run(&watch->hooks, &watch->sum);
    if (status != ST_OK) {
        return status;
    }
    for (int i = 0; i < walk->n_inputs; i++) {
        if (walk->inputs[i] == watch->leaf) {
            walk->gradients[i] = gd_tensor_ref(watch->sum);
        }
    }
    gd_tensor_t *sum = watch->sum;
    watch->sum = NULL;
    if (walk->n_inputs == 0) {
        return leaf_add(watch->leaf, sum);
    }
    (void)gd_tensor_unref(sum);
    return ST_OK;
}

/* One use of the leaf is dealt with. */
static status_t watch_count(walk_t *walk, tape_watch_t *watch)
{
    watch->n_uses--;
    return watch->n_uses == 0 && walk->n_unexpanded == 0 ? watch_pass_on(walk, watch) : ST_OK;
}

/* dx on its way to the node or leaf behind an input. Takes dx. */
static status_t gradient_route(walk_t *walk, tape_node_t *producer, gd_tensor_t *leaf, gd_tensor_t *dx)
{
    if (leaf != NULL) {
        return walk_collects(walk, leaf) ? gradient_add(&leaf->watch->sum, dx) : leaf_add(leaf, dx);
    }
    if (producer->queue != NULL && producer->queue != walk) {
        (void)gd_tensor_unref(dx);
        return ST_FAIL(ST_ERR_STATE, "%s: a hook can't walk the graph that is being walked", producer->base.op->name);
    }
    status_t status = gradient_add(&producer->dy, dx);
    if (status == ST_OK && producer->queue == NULL) {
        status = queue_push(&walk->queue, producer);
        if (status == ST_OK) {
            producer->queue = walk;
            (void)tape_node_ref(producer);
        }
    }
    return status;
}

static status_t node_route(walk_t *walk, tape_node_t *node, int i, gd_tensor_t *dx)
{
    const gd_meta_t *meta = &node->base.in_meta[i];
    if (!gd_shape_equal(dx->n_dims, dx->shape, meta->n_dims, meta->shape) || !gd_dtype_is_float(dx->dtype)) {
        (void)gd_tensor_unref(dx);
        return ST_FAIL(ST_ERR_INTERNAL, "%s: the gradient of input %d has another shape or dtype than the input",
                       node->base.op->name, i);
    }
    if (dx->dtype != node->base.grad_dtype[i]) {
        gd_tensor_t *cast = NULL;
        status_t status = gd_cast(dx, node->base.grad_dtype[i], &cast);
        (void)gd_tensor_unref(dx);
        if (status != ST_OK) {
            return status;
        }
        dx = cast;
    }
    return gradient_route(walk, node->producer[i], node->leaf[i], dx);
}

/* The leaves whose last contribution came while others were not known yet. */
static status_t watches_pass_on(walk_t *walk, bool is_end)
{
    status_t status = ST_OK;
    for (tape_watch_t *watch = walk->watches; watch != NULL && status == ST_OK; watch = watch->next) {
        if (!watch->is_done && (is_end || watch->n_uses == 0)) {
            status = watch_pass_on(walk, watch);
        }
    }
    return status;
}

/* ---- a node ---- */

static bool tensor_has(const gd_tensor_t *a, const gd_tensor_t *b)
{
    return a->dtype == b->dtype && gd_shape_equal(a->n_dims, a->shape, b->n_dims, b->shape);
}

/*
 * Note [Checkpoints are spliced in]: a checkpointed segment comes up when all that used its result is done. Its forward
 * is then recorded anew, over the same inputs, and takes the segment's place: the new nodes have higher sequence
 * numbers than any that waits, so that they are walked at once, in the order that they would have had all along, and
 * hand their gradients on into the same sums.
 */
static status_t node_expand(walk_t *walk, tape_node_t *node)
{
    gd_tensor_t *y = NULL;
    gd_tensor_t *dy = node->dy;
    status_t status = node_check(node);
    if (status == ST_OK) {
        status = tape_checkpoint_run(node->checkpoint, node->base.in, node->base.n_in, &y);
    }
    if (status != ST_OK) {
        return status;
    }
    node->dy = NULL;
    if (!tensor_has(y, dy)) {
        status = ST_FAIL(ST_ERR_STATE, "%s: its second run gave another shape or dtype", node->base.op->name);
    } else if (y->node != NULL) {
        status = walk_survey(walk, y->node);
    } else if (y->requires_grad && walk->is_surveyed && y->watch != NULL && y->watch->walk == walk) {
        y->watch->n_uses++; /* the segment gave a leaf itself */
    }
    bool is_wanted = y->node != NULL ? walk->n_inputs == 0 || y->node->is_needed || y->node->captured == walk->number
                                     : y->requires_grad && (walk->n_inputs == 0 || walk_collects(walk, y));
    if (status == ST_OK && is_wanted) {
        status = gradient_route(walk, y->node, y->node == NULL ? y : NULL, dy);
    } else {
        (void)gd_tensor_unref(dy);
    }
    if (walk->is_surveyed) {
        walk->n_unexpanded--;
    }
    if (status == ST_OK && is_wanted && y->node == NULL && walk_collects(walk, y)) {
        status = watch_count(walk, y->watch);
    }
    (void)gd_tensor_unref(y);
    return status == ST_OK && walk->is_surveyed && walk->n_unexpanded == 0 ? watches_pass_on(walk, false) : status;
}

/* What its op does with the complete dy. */
static status_t node_differentiate(walk_t *walk, tape_node_t *node)
{
    status_t status = node_check(node);
    if (status != ST_OK) {
        return status;
    }
    gd_tensor_t *dx[GD_MAX_IN] = {NULL};
    bool needs[GD_MAX_IN];
    for (int i = 0; i < node->base.n_in; i++) {
        needs[i] = node->base.needs[i];
        node->base.needs[i] = walk_wants(walk, node, i);
    }
    node_offer(walk, node);
    status = node->base.op->backward(&node->base, node->dy, dx);
    if (__builtin_expect(gd_anomaly_is_on(), 0) && status == ST_OK) {
        status = tape_anomaly_backward(node, node->dy, dx);
    }
    node->dy = gd_tensor_unref(node->dy);
    for (int i = 0; i < node->base.n_in; i++) {
        if (node->base.is_written[i] && node->leaf[i] != NULL) {
            node->leaf[i]->is_grad_fresh = false;
        }
        if (dx[i] != NULL) {
            if (status == ST_OK && node->base.needs[i]) {
                status = node_route(walk, node, i, dx[i]);
            } else {
                (void)gd_tensor_unref(dx[i]);
            }
        }
        if (status == ST_OK && node->leaf[i] != NULL && walk_collects(walk, node->leaf[i])) {
            status = watch_count(walk, node->leaf[i]->watch);
        }
    }
    for (int i = 0; i < node->base.n_in; i++) {
        node->base.needs[i] = needs[i];
    }
    return status;
}

/* .grad of a result += dy, in memory of its own: others go on with dy. */
static status_t node_retain(const tape_node_t *node)
{
    gd_tensor_t *copy = NULL;
    gd_tensor_t *t = node->retainer;
    if (t->grad != NULL) {
        return leaf_add(t, gd_tensor_ref(node->dy));
    }
    status_t status = gd_tensor_new(node->dy->dtype, node->dy->n_dims, node->dy->shape, &copy);
    if (status == ST_OK) {
        status = gd_tensor_copy(copy, node->dy);
    }
    return status == ST_OK ? leaf_add(t, copy) : status;
}

static status_t node_run(walk_t *walk, tape_node_t *node)
{
    status_t status = tape_hooks_run(&node->hooks, &node->dy);
    if (status == ST_OK && walk->n_inputs == 0 && node->retainer != NULL) {
        status = node_retain(node);
    }
    if (status == ST_OK && walk->n_inputs > 0 && node->captured == walk->number) {
        for (int i = 0; i < walk->n_inputs; i++) {
            if (walk->inputs[i]->node == node) {
                walk->gradients[i] = gd_tensor_ref(node->dy);
            }
        }
    }
    if (status != ST_OK || (walk->n_inputs > 0 && !node->is_needed)) {
        return status;
    }
    status = node->checkpoint != NULL ? node_expand(walk, node) : node_differentiate(walk, node);
    if (status == ST_OK && !walk->keep_graph) {
        tape_node_free_graph(node);
    }
    return status;
}

/* ---- walks ---- */

static status_t root_gradient(const char *function, gd_tensor_t *root, gd_tensor_t *dy, gd_tensor_t **dy_p)
{
    if (root->node != NULL && root->node->is_freed) {
        return ST_FAIL(ST_ERR_STATE, "%s: the root's graph was freed by an earlier call; use keep_graph", function);
    }
    if (dy == NULL) {
        if (root->numel != 1) {
            return ST_FAIL(ST_ERR_SHAPE, "%s: a root of %lld elements needs a gradient to start from", function,
                           (long long)root->numel);
        }
        return gd_tensor_full(root->dtype, root->n_dims, root->shape, 1.0, dy_p);
    }
    if (!gd_shape_equal(root->n_dims, root->shape, dy->n_dims, dy->shape) || dy->dtype != root->dtype) {
        strbuf_t text = {0};
        gd_shape_format(root->n_dims, root->shape, &text);
        strbuf_append(&text, " and gradient ");
        gd_shape_format(dy->n_dims, dy->shape, &text);
        status_t status = ST_FAIL(ST_ERR_SHAPE, "%s: root %s %s %s: shapes and dtypes must be equal", function,
                                  strbuf_text(&text), gd_dtype_name(root->dtype), gd_dtype_name(dy->dtype));
        strbuf_release(&text);
        return status;
    }
    *dy_p = gd_tensor_ref(dy);
    return ST_OK;
}

/* From the queued roots down; then leaves whose last contribution never came (an op that gives no gradient) pass on
 * what they have. Leaves nothing behind in the graph. */
static status_t walk_run(walk_t *walk, status_t status)
{
    bool was_enabled = gd_grad_set_enabled(false);
    gd_dtype_t autocast = gd_autocast_set(GD_DTYPE_F32); /* gradients follow the dtypes of the forward */
    while (walk->queue.n > 0) {
        tape_node_t *node = queue_pop(&walk->queue);
        node->queue = NULL;
        if (status == ST_OK) {
            tape_anomaly_enter(node);
            status = node_run(walk, node);
        }
        node->dy = gd_tensor_unref(node->dy);
        (void)tape_node_unref(node);
    }
    tape_anomaly_enter(NULL);
    if (status == ST_OK) {
        status = watches_pass_on(walk, true);
    }
    while (walk->watches != NULL) {
        tape_watch_t *watch = walk->watches;
        walk->watches = watch->next;
        watch->walk = NULL;
        watch->sum = gd_tensor_unref(watch->sum);
        (void)gd_tensor_unref(watch->leaf);
    }
    queue_release(&walk->queue);
    (void)gd_autocast_set(autocast);
    (void)gd_grad_set_enabled(was_enabled);
    return status;
}

static _Thread_local uint64_t next_survey;

static status_t root_survey(walk_t *walk, gd_tensor_t *root)
{
    if (root->node != NULL) {
        return walk_survey(walk, root->node);
    }
    if (root->watch == NULL) {
        return ST_OK;
    }
    status_t status = walk_watch(walk, root->watch);
    root->watch->n_uses++;
    return status;
}

status_t gd_backward(gd_tensor_t *root, gd_tensor_t *dy, bool keep_graph)
{
    if (root == NULL) {
        return ST_FAIL(ST_ERR_INVAL, "gd_backward: there is no root");
    }
    status_t status = tape_view_refresh("gd_backward", "root", 0, root);
    if (status != ST_OK) {
        return status;
    }
    if (!gd_tensor_tracks(root)) {
        return ST_FAIL(ST_ERR_STATE, "gd_backward: the root has no graph: no input of its op required a gradient");
    }
    const bool is_leaf = root->node == NULL; /* what gives its input back, a reshape to the same shape say */
    gd_tensor_t *start = NULL;
    status = root_gradient("gd_backward", root, dy, &start);
    if (status != ST_OK) {
        return status;
    }
    walk_t walk = {.keep_graph = keep_graph, .is_surveyed = tape_watch_exists()};
    if (walk.is_surveyed) {
        walk.number = ++next_survey;
        status = root_survey(&walk, root);
    }
    if (status == ST_OK) {
        status = gradient_route(&walk, root->node, is_leaf ? root : NULL, start);
    } else {
        (void)gd_tensor_unref(start);
    }
    if (status == ST_OK && is_leaf && walk_collects(&walk, root)) {
        status = watch_count(&walk, root->watch);
    }
    return walk_run(&walk, status);
}

/* ---- gd_grad ---- */

/* Marks what is asked for. */
static status_t inputs_mark(const walk_t *walk)
{
    for (int i = 0; i < walk->n_inputs; i++) {
        gd_tensor_t *input = walk->inputs[i];
        if (!gd_tensor_tracks(input)) {
            return ST_FAIL(ST_ERR_STATE, "gd_grad: input %d requires no gradient", i);
        }
        if (input->node != NULL) {
            input->node->captured = walk->number;
            continue;
        }
        tape_watch_t *watch = NULL;
        status_t status = tape_watch_get(input, &watch);
        if (status != ST_OK) {
            return status;
        }
        watch->is_wanted = true;
    }
    return ST_OK;
}

static void inputs_unmark(const walk_t *walk)
{
    for (int i = 0; i < walk->n_inputs; i++) {
        gd_tensor_t *input = walk->inputs[i];
        if (input->watch == NULL) {
            continue;
        }
        input->watch->is_wanted = false;
        if (tape_hooks_first(&input->watch->hooks) == NULL && input->watch->walk == NULL) {
            tape_watch_free(input->watch);
            input->watch = NULL;
        }
    }
}

static status_t output_survey(walk_t *walk, gd_tensor_t *output, int index)
{
    if (!gd_tensor_tracks(output)) {
        return ST_FAIL(ST_ERR_STATE, "gd_grad: output %d has no graph: no input of its op required a gradient", index);
    }
    if (output->node != NULL) {
        return walk_survey(walk, output->node);
    }
    if (output->watch == NULL || !output->watch->is_wanted) {
        return ST_OK;
    }
    status_t status = walk_watch(walk, output->watch);
    output->watch->n_uses++;
    return status;
}

/* Before any of them is marked: the graph of one may be that of another's base. */
static status_t views_refresh(const char *role, gd_tensor_t *const *tensors, int n)
{
    status_t status = ST_OK;
    for (int i = 0; i < n && status == ST_OK; i++) {
        status = tensors[i] != NULL ? tape_view_refresh("gd_grad", role, i, tensors[i])
                                    : ST_FAIL(ST_ERR_INVAL, "gd_grad: %s %d is missing", role, i);
    }
    return status;
}

/* Lets the output's gradient in. */
static status_t output_start(walk_t *walk, gd_tensor_t *output, gd_tensor_t *dy)
{
    if (output->node == NULL && !walk_collects(walk, output)) {
        return ST_OK;
    }
    gd_tensor_t *start = NULL;
    status_t status = root_gradient("gd_grad", output, dy, &start);
    if (status == ST_OK) {
        status = gradient_route(walk, output->node, output->node == NULL ? output : NULL, start);
    }
    return status == ST_OK && output->node == NULL ? watch_count(walk, output->watch) : status;
}

status_t gd_grad(gd_tensor_t *const *outputs, gd_tensor_t *const *dys, int n_outputs, gd_tensor_t *const *inputs,
                 int n_inputs, bool allow_unused, bool keep_graph, gd_tensor_t **gradients_p)
{
    if (n_outputs < 1 || n_inputs < 1) {
        return ST_FAIL(ST_ERR_INVAL, "gd_grad: %d outputs and %d inputs: at least one of each is needed", n_outputs,
                       n_inputs);
    }
    status_t status = views_refresh("output", outputs, n_outputs);
    status = status == ST_OK ? views_refresh("input", inputs, n_inputs) : status;
    if (status != ST_OK) {
        return status;
    }
    size_t size_bytes = (size_t)n_inputs * sizeof(gd_tensor_t *);
    gd_tensor_t **gradients = gd_pool_alloc(gd_context_pool(), size_bytes);
    if (gradients == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "gd_grad: %d gradients", n_inputs);
    }
    memset(gradients, 0, size_bytes);
    walk_t walk = {.keep_graph = keep_graph,
                   .is_surveyed = true,
                   .number = ++next_survey,
                   .inputs = inputs,
                   .n_inputs = n_inputs,
                   .gradients = gradients};
    status = inputs_mark(&walk);
    for (int i = 0; i < n_outputs && status == ST_OK; i++) {
        status = output_survey(&walk, outputs[i], i);
    }
    for (int i = 0; i < n_outputs && status == ST_OK; i++) {
        status = output_start(&walk, outputs[i], dys != NULL ? dys[i] : NULL);
    }
    status = walk_run(&walk, status);
    inputs_unmark(&walk);
    for (int i = 0; i < n_inputs && status == ST_OK && !allow_unused; i++) {
        if (gradients[i] == NULL) {
            status = ST_FAIL(ST_ERR_STATE, "gd_grad: the outputs don't depend on input %d; see allow_unused", i);
        }
    }
    for (int i = 0; i < n_inputs && status != ST_OK; i++) {
        (void)gd_tensor_unref(gradients[i]);
    }
    if (status == ST_OK) {
        memcpy(gradients_p, gradients, size_bytes);
    }
    gd_pool_free(gd_context_pool(), gradients);
    return status;
}
