/* SPDX-License-Identifier: Apache-2.0 */
/* tensor: construction, views and properties. */
#include "gradd/tensor.h"

#include <string.h>

#include "autograd/node.h"
#include "tensor/internal.h"
#include "tensor/storage.h"

static atomic_llong n_live;

int64_t gd_tensor_live_count(void)
{
    return (int64_t)atomic_load(&n_live);
}

status_t gd_shape_check(gd_dtype_t dtype, int n_dims, const int64_t *shape, int64_t *numel_p)
{
    if ((unsigned)dtype >= GD_DTYPE_COUNT) {
        return ST_FAIL(ST_ERR_DTYPE, "%d is no dtype", (int)dtype);
    }
    if (n_dims < 0 || n_dims > GD_MAX_DIMS) {
        return ST_FAIL(ST_ERR_RANGE, "a tensor of %d dimensions: at most %d are possible", n_dims, GD_MAX_DIMS);
    }
    int64_t limit = INT64_MAX / (int64_t)(2 * gd_dtype_size(dtype));
    int64_t numel = 1;
    int64_t product = 1; /* with empty dimensions counted as 1, so that strides don't overflow either */
    for (int i = 0; i < n_dims; i++) {
        if (shape[i] < 0) {
            return ST_FAIL(ST_ERR_RANGE, "dimension %d has the negative size %lld", i, (long long)shape[i]);
        }
        if (shape[i] > 0 && product > limit / shape[i]) {
            return ST_FAIL(ST_ERR_RANGE, "a tensor with dimension %d of size %lld is too large", i,
                           (long long)shape[i]);
        }
        product *= shape[i] > 0 ? shape[i] : 1;
        numel *= shape[i];
    }
    *numel_p = numel;
    return ST_OK;
}

bool gd_shape_equal(int n_dims_a, const int64_t *a, int n_dims_b, const int64_t *b)
{
    if (n_dims_a != n_dims_b) {
        return false;
    }
    for (int i = 0; i < n_dims_a; i++) {
        if (a[i] != b[i]) {
            return false;
        }
    }
    return true;
}

static void tensor_set_contiguous(gd_tensor_t *t, int n_dims, const int64_t *shape)
{
    int64_t stride = 1;
    t->n_dims = n_dims;
    for (int i = n_dims - 1; i >= 0; i--) {
        t->shape[i] = shape[i];
        t->stride[i] = stride;
        stride *= shape[i] > 0 ? shape[i] : 1;
    }
    t->is_contiguous = true;
}

/* A header without storage. */
static gd_tensor_t *tensor_alloc(gd_dtype_t dtype, int64_t numel)
{
    gd_tensor_t *t = gd_pool_alloc(gd_context_pool(), sizeof(*t));
    if (t != NULL) {
        atomic_init(&t->n_refs, 1);
        atomic_init(&t->n_saved, 0);
        t->dtype = dtype;
        t->requires_grad = false;
        t->is_grad_fresh = false;
        t->is_view = false;
        t->view_version = 0;
        t->offset = 0;
        t->numel = numel;
        t->storage = NULL;
        t->base = NULL;
        t->node = NULL;
        t->grad = NULL;
        t->watch = NULL;
        t->low = NULL;
        t->master = NULL;
        (void)atomic_fetch_add_explicit(&n_live, 1, memory_order_relaxed);
    }
    return t;
}

static void tensor_free(gd_tensor_t *t)
{
    (void)atomic_fetch_sub_explicit(&n_live, 1, memory_order_relaxed);
    gd_pool_free(gd_context_pool(), t);
}

status_t gd_tensor_new(gd_dtype_t dtype, int n_dims, const int64_t *shape, gd_tensor_t **t_p)
{
    int64_t numel = 0;
    status_t status = gd_shape_check(dtype, n_dims, shape, &numel);
    if (status != ST_OK) {
        return status;
    }
    gd_tensor_t *t = tensor_alloc(dtype, numel);
    if (t == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "a tensor header");
    }
    status = gd_storage_new((size_t)numel * gd_dtype_size(dtype), &t->storage);
    if (status != ST_OK) {
        tensor_free(t);
        return status;
    }
    tensor_set_contiguous(t, n_dims, shape);
    *t_p = t;
    return ST_OK;
}

status_t gd_tensor_new_meta(const gd_meta_t *meta, gd_tensor_t **t_p)
{
    return gd_tensor_new(meta->dtype, meta->n_dims, meta->shape, t_p);
}

static bool strides_are_contiguous(int n_dims, const int64_t *shape, const int64_t *stride, int64_t numel)
{
    if (numel == 0) {
        return true;
    }
    int64_t expected = 1;
    for (int i = n_dims - 1; i >= 0; i--) {
        if (shape[i] != 1 && stride[i] != expected) {
            return false;
        }
        expected *= shape[i];
    }
    return true;
}

status_t gd_tensor_new_view(const gd_tensor_t *base, const gd_meta_t *meta, gd_tensor_t **t_p)
{
    int64_t numel = 1;
    for (int i = 0; i < meta->n_dims; i++) {
        numel *= meta->shape[i];
    }
    gd_tensor_t *t = tensor_alloc(meta->dtype, numel);
    if (t == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "a tensor header");
    }
    t->storage = gd_storage_ref(base->storage);
    t->offset = base->offset + meta->offset;
    t->n_dims = meta->n_dims;
    for (int i = 0; i < meta->n_dims; i++) {
        t->shape[i] = meta->shape[i];
        t->stride[i] = meta->stride[i];
    }
    t->is_contiguous = strides_are_contiguous(t->n_dims, t->shape, t->stride, numel);
    *t_p = t;
    return ST_OK;
}

status_t gd_tensor_new_alias(const gd_tensor_t *t, gd_tensor_t **t_p)
{
    gd_meta_t meta;
    gd_meta_like(t, &meta);
    return gd_tensor_new_view(t, &meta, t_p);
}

status_t gd_tensor_zeros(gd_dtype_t dtype, int n_dims, const int64_t *shape, gd_tensor_t **t_p)
{
    gd_tensor_t *t = NULL;
    status_t status = gd_tensor_new(dtype, n_dims, shape, &t);
    if (status != ST_OK) {
        return status;
    }
    memset(t->storage->data, 0, t->storage->size_bytes);
    *t_p = t;
    return ST_OK;
}

status_t gd_tensor_full(gd_dtype_t dtype, int n_dims, const int64_t *shape, double value, gd_tensor_t **t_p)
{
    gd_tensor_t *t = NULL;
    status_t status = gd_tensor_new(dtype, n_dims, shape, &t);
    if (status != ST_OK) {
        return status;
    }
    status = gd_tensor_fill(t, value);
    if (status != ST_OK) {
        (void)gd_tensor_unref(t);
        return status;
    }
    t->storage->version = 0;
    t->storage->changed_by = NULL;
    *t_p = t;
    return ST_OK;
}

status_t gd_tensor_from_data(gd_dtype_t dtype, int n_dims, const int64_t *shape, const void *data, gd_tensor_t **t_p)
{
    gd_tensor_t *t = NULL;
    status_t status = gd_tensor_new(dtype, n_dims, shape, &t);
    if (status != ST_OK) {
        return status;
    }
    if (t->storage->size_bytes > 0) {
        memcpy(t->storage->data, data, t->storage->size_bytes);
    }
    *t_p = t;
    return ST_OK;
}

status_t gd_tensor_wrap(gd_dtype_t dtype, int n_dims, const int64_t *shape, void *data, void (*release)(void *arg),
                        void *arg, gd_tensor_t **t_p)
{
    int64_t numel = 0;
    status_t status = gd_shape_check(dtype, n_dims, shape, &numel);
    if (status != ST_OK) {
        return status;
    }
    gd_tensor_t *t = tensor_alloc(dtype, numel);
    if (t == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "a tensor header");
    }
    status = gd_storage_wrap(data, (size_t)numel * gd_dtype_size(dtype), release, arg, &t->storage);
    if (status != ST_OK) {
        tensor_free(t);
        return status;
    }
    tensor_set_contiguous(t, n_dims, shape);
    *t_p = t;
    return ST_OK;
}

status_t gd_tensor_scalar(gd_dtype_t dtype, double value, gd_tensor_t **t_p)
{
    return gd_tensor_full(dtype, 0, NULL, value, t_p);
}

status_t gd_tensor_alias(gd_tensor_t *base, int64_t offset, int n_dims, const int64_t *shape, gd_tensor_t **t_p)
{
    int64_t numel = 0;
    status_t status = gd_shape_check(base->dtype, n_dims, shape, &numel);
    if (status != ST_OK) {
        return status;
    }
    int64_t available = (int64_t)(base->storage->size_bytes / gd_dtype_size(base->dtype)) - base->offset;
    if (offset < 0 || offset > available || numel > available - offset) {
        return ST_FAIL(ST_ERR_RANGE, "alias of %lld elements from element %lld on: the storage has %lld",
                       (long long)numel, (long long)offset, (long long)available);
    }
    gd_tensor_t *t = tensor_alloc(base->dtype, numel);
    if (t == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "a tensor header");
    }
    t->storage = gd_storage_ref(base->storage);
    t->offset = base->offset + offset;
    tensor_set_contiguous(t, n_dims, shape);
    *t_p = t;
    return ST_OK;
}

gd_tensor_t *gd_tensor_ref(gd_tensor_t *t)
{
    (void)atomic_fetch_add_explicit(&t->n_refs, 1, memory_order_relaxed);
    return t;
}

static tape_node_t *graph_take(gd_tensor_t *t)
{
    tape_node_t *node = t->node;
    if (node != NULL && node->retainer == t) {
        node->retainer = NULL;
    }
    t->node = NULL;
    return node;
}

/* A view lets go of its base together with its graph. Before the last reference goes that isn't a node's: then no other
 * thread has it. */
static gd_tensor_t *base_take(gd_tensor_t *t)
{
    if (!t->is_view || atomic_load_explicit(&t->n_refs, memory_order_acquire) !=
                           atomic_load_explicit(&t->n_saved, memory_order_relaxed) + 1) {
        return NULL;
    }
    gd_tensor_t *base = t->base;
    t->base = NULL;
    return base;
}

gd_tensor_t *gd_tensor_unref(gd_tensor_t *t)
{
    if (t == NULL) {
        return NULL;
    }
    const bool has_graph = t->node != NULL; /* then no other thread has it */
    gd_tensor_t *base = base_take(t);
    const int n_left = atomic_fetch_sub_explicit(&t->n_refs, 1, memory_order_acq_rel) - 1;
    if (n_left == 0) {
        (void)gd_storage_unref(t->storage);
        (void)gd_tensor_unref(t->grad); /* a gradient has none of its own: no deep recursion */
        if (t->watch != NULL) {
            tape_watch_free(t->watch);
        }
        if (t->low != NULL) {
            t->low->master = NULL;
            (void)gd_tensor_unref(t->low);
        }
        base = base != NULL ? base : t->base;
        tape_node_t *node = graph_take(t);
        tensor_free(t);
        (void)tape_node_unref(node);
    } else if (has_graph && n_left == atomic_load_explicit(&t->n_saved, memory_order_relaxed)) {
        (void)tape_node_unref(graph_take(t));
    }
    return gd_tensor_unref(base); /* which has none of its own */
}

gd_tensor_t *gd_tensor_save(gd_tensor_t *t)
{
    (void)atomic_fetch_add_explicit(&t->n_saved, 1, memory_order_relaxed);
    return gd_tensor_ref(t);
}

gd_tensor_t *gd_tensor_unsave(gd_tensor_t *t)
{
    if (t != NULL) {
        (void)atomic_fetch_sub_explicit(&t->n_saved, 1, memory_order_relaxed);
    }
    return gd_tensor_unref(t);
}

status_t gd_tensor_fail_stale(const char *op, const char *role, int index, const gd_tensor_t *t)
{
    strbuf_t text = {0};
    gd_shape_format(t->n_dims, t->shape, &text);
    status_t status = ST_FAIL(
        ST_ERR_STATE, "%s: %s %d %s is a view that was taken before %s changed its base in place: take it again", op,
        role, index, strbuf_text(&text), t->storage->changed_by);
    strbuf_release(&text);
    return status;
}

int gd_tensor_n_dims(const gd_tensor_t *t)
{
    return t->n_dims;
}

const int64_t *gd_tensor_shape(const gd_tensor_t *t)
{
    return t->shape;
}

const int64_t *gd_tensor_strides(const gd_tensor_t *t)
{
    return t->stride;
}

int64_t gd_tensor_dim(const gd_tensor_t *t, int axis)
{
    int i = axis < 0 ? axis + t->n_dims : axis;
    return i >= 0 && i < t->n_dims ? t->shape[i] : -1;
}

int64_t gd_tensor_numel(const gd_tensor_t *t)
{
    return t->numel;
}

gd_dtype_t gd_tensor_dtype(const gd_tensor_t *t)
{
    return t->dtype;
}

gd_device_t gd_tensor_device(const gd_tensor_t *t)
{
    (void)t;
    return GD_DEVICE_CPU;
}

bool gd_tensor_is_contiguous(const gd_tensor_t *t)
{
    return t->is_contiguous;
}

void *gd_tensor_data(const gd_tensor_t *t)
{
    return t->storage->data + (size_t)t->offset * gd_dtype_size(t->dtype);
}

gd_view_t gd_tensor_view(const gd_tensor_t *t)
{
    gd_view_t view;
    gd_tensor_get_view(t, &view);
    return view;
}

uint32_t gd_tensor_version(const gd_tensor_t *t)
{
    return t->storage->version;
}
