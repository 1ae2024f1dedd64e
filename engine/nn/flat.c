/* SPDX-License-Identifier: Apache-2.0 */
/* flat: one buffer behind all parameters, one behind all gradients. */
#include "gradd/flat.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/node.h"
#include "base/hash.h"
#include "base/mem.h"
#include "cpu/cpu.h"
#include "cpu/optim.h"
#include "gradd/autograd.h"
#include "gradd/context.h"
#include "tensor/internal.h"

_Static_assert(GD_FLAT_ALIGN % GD_CPU_OPTIM_LANES == 0, "segments are whole groups of the optimizer kernels");

/* Old tensor → alias of the flat buffer, sorted by the old one's address. */
typedef struct flat_swap {
    gd_tensor_t *old;
    gd_tensor_t *alias;
} flat_swap_t;

static status_t segment_count(const char *full_name, gd_parameter_t *parameter, gd_module_t *owner, void *arg)
{
    (void)full_name;
    (void)owner;
    gd_flat_t *flat = arg;
    if (!parameter->is_buffer) {
        flat->n_segments++;
    }
    return ST_OK;
}

/* Second walk: n_segments counts up again. */
static status_t segment_add(const char *full_name, gd_parameter_t *parameter, gd_module_t *owner, void *arg)
{
    (void)owner;
    gd_flat_t *flat = arg;
    if (parameter->is_buffer) {
        return ST_OK;
    }
    gd_flat_segment_t *segment = &flat->segments[flat->n_segments];
    segment->name = mem_strdup(full_name);
    if (segment->name == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "flat parameters: name \"%s\"", full_name);
    }
    flat->n_segments++;
    segment->parameter = gd_tensor_ref(parameter->tensor); /* replaced by its alias below */
    segment->offset = flat->numel;
    segment->numel = gd_tensor_numel(parameter->tensor);
    flat->numel += (segment->numel + GD_FLAT_ALIGN - 1) / GD_FLAT_ALIGN * GD_FLAT_ALIGN;
    return ST_OK;
}

static int swap_compare(const void *a, const void *b)
{
    const flat_swap_t *x = a;
    const flat_swap_t *y = b;
    uintptr_t p = (uintptr_t)x->old;
    uintptr_t q = (uintptr_t)y->old;
    return p < q ? -1 : p > q;
}

/* Puts the aliases into every slot of the tree that holds an old tensor, shared ones too. */
static void module_swap(gd_module_t *module, const flat_swap_t *swaps, int n_swaps)
{
    for (int i = 0; i < module->n_parameters; i++) {
        const flat_swap_t key = {.old = module->parameters[i].tensor};
        const flat_swap_t *swap = bsearch(&key, swaps, (size_t)n_swaps, sizeof(*swaps), swap_compare);
        if (swap != NULL) {
            (void)gd_tensor_unref(module->parameters[i].tensor);
            module->parameters[i].tensor = gd_tensor_ref(swap->alias);
        }
    }
    for (int i = 0; i < module->n_children; i++) {
        module_swap(module->children[i], swaps, n_swaps);
    }
}

static status_t segment_alias(gd_flat_t *flat, const gd_flat_segment_t *segment, gd_tensor_t **alias_p)
{
    gd_tensor_t *old = segment->parameter;
    gd_tensor_t *alias = NULL;
    status_t status = gd_tensor_alias(flat->base, segment->offset, gd_tensor_n_dims(old), gd_tensor_shape(old), &alias);
    if (status == ST_OK) {
        status = gd_tensor_copy(alias, old);
    }
    if (status == ST_OK) {
        status = gd_tensor_set_requires_grad(alias, gd_tensor_requires_grad(old));
    }
    if (status != ST_OK) {
        (void)gd_tensor_unref(alias);
        return status_add_context(status, "flat parameters: \"%s\"", segment->name);
    }
    *alias_p = alias;
    return ST_OK;
}

/* Hooks on a parameter are the module's wish, not the old memory's. */
static void hooks_move(gd_tensor_t *from, gd_tensor_t *to)
{
    if (from->watch != NULL && from->watch->walk == NULL) {
        to->watch = from->watch;
        to->watch->leaf = to;
        from->watch = NULL;
    }
}

static status_t aliases_make(gd_flat_t *flat, gd_module_t *root)
{
    flat_swap_t *swaps = mem_calloc((size_t)flat->n_segments + 1, sizeof(*swaps));
    if (swaps == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "flat parameters");
    }
    status_t status = ST_OK;
    int n = 0;
    while (n < flat->n_segments && status == ST_OK) {
        swaps[n].old = flat->segments[n].parameter;
        status = segment_alias(flat, &flat->segments[n], &swaps[n].alias);
        n += status == ST_OK;
    }
    if (status == ST_OK) {
        for (int i = 0; i < n; i++) {
            flat->segments[i].parameter = gd_tensor_ref(swaps[i].alias);
        }
        qsort(swaps, (size_t)n, sizeof(*swaps), swap_compare);
        module_swap(root, swaps, n);
        for (int i = 0; i < n; i++) {
            hooks_move(swaps[i].old, swaps[i].alias);
            (void)gd_tensor_unref(swaps[i].old);
        }
    }
    for (int i = 0; i < n; i++) {
        (void)gd_tensor_unref(swaps[i].alias);
    }
    mem_free(swaps);
    return status;
}

status_t gd_flat_open(gd_module_t *root, gd_flat_t **flat_p)
{
    gd_flat_t *flat = mem_zalloc(sizeof(*flat));
    if (flat == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "flat parameters");
    }
    status_t status = gd_module_visit(root, segment_count, flat);
    flat->segments = mem_calloc((size_t)flat->n_segments + 1, sizeof(*flat->segments));
    flat->n_segments = 0;
    if (status == ST_OK && flat->segments == NULL) {
        status = ST_FAIL(ST_ERR_NOMEM, "flat parameters");
    }
    if (status == ST_OK) {
        status = gd_module_visit(root, segment_add, flat);
    }
    if (status == ST_OK) {
        size_t size = (size_t)(flat->numel > 0 ? flat->numel : GD_FLAT_ALIGN) * sizeof(float);
        flat->parameters = mem_alloc_aligned(64, size);
        if (flat->parameters == NULL) {
            status = ST_FAIL(ST_ERR_NOMEM, "flat parameters: %zu bytes", size);
        } else {
            memset(flat->parameters, 0, size);
            status = gd_tensor_wrap(GD_DTYPE_F32, 1, &flat->numel, flat->parameters, mem_free, flat->parameters,
                                    &flat->base);
            if (status != ST_OK) {
                mem_free(flat->parameters);
            }
        }
    }
    if (status == ST_OK) {
        status = aliases_make(flat, root);
    }
    if (status != ST_OK) {
        gd_flat_close(flat);
        return status;
    }
    *flat_p = flat;
    return ST_OK;
}

void gd_flat_close(gd_flat_t *flat)
{
    if (flat == NULL) {
        return;
    }
    for (int i = 0; i < flat->n_segments; i++) {
        mem_free(flat->segments[i].name);
        (void)gd_tensor_unref(flat->segments[i].parameter);
    }
    (void)gd_tensor_unref(flat->base);
    mem_free(flat->segments);
    mem_free(flat);
}

status_t gd_flat_set_gradients(gd_flat_t *flat, float *gradients)
{
    gd_tensor_t *base = NULL;
    status_t status = ST_OK;
    for (int i = 0; i < flat->n_segments && status == ST_OK; i++) {
        const gd_flat_segment_t *segment = &flat->segments[i];
        gd_tensor_t *parameter = segment->parameter;
        gd_tensor_t *grad = gd_tensor_grad(parameter);
        if (grad != NULL && gd_tensor_data(grad) == gradients + segment->offset) {
            status = gd_tensor_set_grad(parameter, grad, true); /* the steady state: nothing new */
            continue;
        }
        gd_tensor_t *alias = NULL;
        if (base == NULL) {
            status = gd_tensor_wrap(GD_DTYPE_F32, 1, &flat->numel, gradients, NULL, NULL, &base);
        }
        if (status == ST_OK) {
            status =
                gd_tensor_alias(base, segment->offset, gd_tensor_n_dims(parameter), gd_tensor_shape(parameter), &alias);
        }
        if (status == ST_OK) {
            status = gd_tensor_set_grad(parameter, alias, true);
        }
        (void)gd_tensor_unref(alias);
    }
    (void)gd_tensor_unref(base);
    return status;
}

void gd_flat_touch(const gd_flat_t *flat)
{
    gd_tensor_mark_changed(flat->base, "an update of all parameters");
}

void gd_flat_copies(const gd_flat_t *flat, uint16_t **copies_p)
{
    for (int i = 0; i < flat->n_segments; i++) {
        gd_tensor_t *copy = flat->segments[i].parameter->low;
        const bool is_fit =
            copy != NULL && copy->dtype == GD_DTYPE_BF16 && copy->is_contiguous && gd_tensor_is_sole(copy);
        copies_p[i] = is_fit ? gd_tensor_data(copy) : NULL;
    }
}

void gd_flat_copies_keep(const gd_flat_t *flat, uint16_t *const *copies)
{
    for (int i = 0; i < flat->n_segments; i++) {
        gd_tensor_t *parameter = flat->segments[i].parameter;
        if (copies[i] != NULL) {
            parameter->low->storage->version++;
            parameter->low_version = parameter->storage->version;
        }
    }
}

int64_t gd_flat_copies_bytes(const gd_flat_t *flat)
{
    int64_t size_bytes = 0;
    for (int i = 0; i < flat->n_segments; i++) {
        const gd_tensor_t *copy = flat->segments[i].parameter->low;
        size_bytes += copy != NULL ? gd_pool_block_bytes(copy->storage) : 0;
    }
    return size_bytes;
}

void gd_flat_finish_gradients(gd_flat_t *flat)
{
    for (int i = 0; i < flat->n_segments; i++) {
        const gd_flat_segment_t *segment = &flat->segments[i];
        gd_tensor_t *grad = gd_tensor_grad(segment->parameter);
        if (grad == NULL) {
            continue;
        }
        float *data = gd_tensor_data(grad);
        int64_t used = gd_tensor_grad_is_fresh(segment->parameter) ? 0 : segment->numel;
        int64_t size = (segment->numel + GD_FLAT_ALIGN - 1) / GD_FLAT_ALIGN * GD_FLAT_ALIGN;
        memset(data + used, 0, (size_t)(size - used) * sizeof(float));
    }
}

static int segment_compare(const void *a, const void *b)
{
    const gd_flat_segment_t *const *x = a;
    const gd_flat_segment_t *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

status_t gd_flat_sha256(const gd_flat_t *flat, char hex_p[65])
{
    const gd_flat_segment_t **sorted = mem_calloc((size_t)flat->n_segments + 1, sizeof(*sorted));
    if (sorted == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "names of %d parameters", flat->n_segments);
    }
    hash_sha256_t *hash = NULL;
    status_t status = hash_sha256_open(&hash);
    if (status == ST_OK) {
        for (int i = 0; i < flat->n_segments; i++) {
            sorted[i] = &flat->segments[i];
        }
        qsort(sorted, (size_t)flat->n_segments, sizeof(const gd_flat_segment_t *), segment_compare);
        for (int i = 0; i < flat->n_segments; i++) {
            hash_sha256_update(hash, sorted[i]->name, strlen(sorted[i]->name) + 1);
            hash_sha256_update(hash, flat->parameters + sorted[i]->offset, (size_t)sorted[i]->numel * sizeof(float));
        }
        hash_sha256_close(hash, hex_p);
    }
    mem_free(sorted);
    return status;
}

typedef struct norm_args {
    const gd_cpu_optim_t *kernels;
    const float *x;
    double *sums;
} norm_args_t;

static void norm_body(void *arg, int64_t begin, int64_t end)
{
    const norm_args_t *args = arg;
    args->sums[begin / GD_NORM_BLOCK] = args->kernels->sum_squares(args->x + begin, end - begin);
}

void gd_flat_norm_blocks(const float *x, int64_t numel, double *sums_p)
{
    norm_args_t args = {.kernels = gd_cpu_optim(), .x = x, .sums = sums_p};
    gd_cpu_parallel(gd_context_n_threads(), numel, GD_NORM_BLOCK, norm_body, &args);
}

double gd_flat_norm(const float *x, int64_t numel)
{
    int64_t n_blocks = gd_cpu_n_blocks(numel, GD_NORM_BLOCK);
    double total = 0;
    double *sums = gd_cpu_scratch(GD_CPU_SLOT_KERNEL, (size_t)n_blocks * sizeof(double));
    if (sums != NULL) {
        gd_flat_norm_blocks(x, numel, sums);
    }
    for (int64_t i = 0; i < n_blocks; i++) {
        if (sums != NULL) {
            total += sums[i];
        } else { /* out of memory: the same sums, one after the other */
            int64_t begin = i * GD_NORM_BLOCK;
            int64_t length = numel - begin < GD_NORM_BLOCK ? numel - begin : GD_NORM_BLOCK;
            total += gd_cpu_optim()->sum_squares(x + begin, length);
        }
    }
    return sqrt(total);
}
