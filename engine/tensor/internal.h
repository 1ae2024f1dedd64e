/* SPDX-License-Identifier: Apache-2.0 */
/*
 * internal: the structs behind the engine's counted types, for engine/tensor, engine/autograd and engine/ops.
 *
 *   gd_tensor_t ──▶ gd_storage_t ──▶ bytes        shape, strides and offset are the tensor's, bytes and version the
 *        │  ▲                                     storage's; views share a storage
 *        ▼  │ saved inputs, leaves
 *     tape_node_t ──▶ tape_node_t of the inputs   owned by the output; never the other way round, so no cycles
 */
#ifndef GRADD_TENSOR_INTERNAL_H
#define GRADD_TENSOR_INTERNAL_H

#include <stdatomic.h>

#include "gradd/autograd.h"
#include "gradd/context.h"
#include "gradd/op.h"
#include "gradd/tensor.h"
#include "tensor/pool.h"

typedef struct gd_storage {
    atomic_int n_refs;
    uint32_t version;
    uint32_t recorded_version; /* after the last change in place that became part of a graph; 0: none */
    bool is_wrapped;           /* the bytes are a caller's, not the pool's */
    const char *changed_by;    /* the op that changed it last in place, where that is known; NULL */
    unsigned char *data;
    size_t size_bytes;
    void (*release)(void *arg); /* wrapped memory only */
    void *arg;
} gd_storage_t;

typedef struct tape_node tape_node_t;
typedef struct tape_watch tape_watch_t;

struct gd_tensor {
    atomic_int n_refs;
    atomic_int n_saved; /* those of n_refs that nodes hold */
    gd_dtype_t dtype;
    int n_dims;
    bool is_contiguous;
    bool requires_grad; /* leaves; results have a node instead */
    bool is_grad_fresh;
    bool is_view;          /* made by a view op */
    uint32_t view_version; /* of the storage then, or when its graph was last brought up to date */
    int64_t offset;        /* elements */
    int64_t numel;
    gd_storage_t *storage;
    gd_tensor_t *base;   /* counted; of a view, what all views lead back to; see Note [Views follow their base] */
    tape_node_t *node;   /* counted; NULL: a leaf */
    gd_tensor_t *grad;   /* counted */
    tape_watch_t *watch; /* owned; hooks of a leaf; NULL: none */
    gd_tensor_t *low;    /* counted; autocast's copy of a leaf; see Note [Parameters are cast once] */
    gd_tensor_t *master; /* not counted; of a copy, the leaf that it stands for; NULL when that is gone */
    uint32_t low_version;
    int64_t shape[GD_MAX_DIMS];
    int64_t stride[GD_MAX_DIMS];
};

struct gd_context {
    gd_pool_t *pool;
    int n_threads;
    gd_device_t device;
    bool is_grad_enabled;
    bool is_recomputing;
    bool is_training;    /* this and what follows: see gd_context_modes_t */
    gd_dtype_t autocast; /* GD_DTYPE_F32: off */
    uint64_t rng_seed;
    uint32_t rng_step;
    uint32_t rng_microbatch;
    struct tape_anomaly *anomaly; /* owned; NULL: anomaly mode is off */
};

/* What a forward's values depend on besides tensors: a second run of it must find the same. */
typedef struct gd_context_modes {
    bool is_training;
    gd_dtype_t autocast;
    uint64_t rng_seed;
    uint32_t rng_step;
    uint32_t rng_microbatch;
} gd_context_modes_t;
gd_context_modes_t gd_context_get_modes(void);
void gd_context_set_modes(const gd_context_modes_t *modes);

/* context.c. Whether this build computes on the device: ST_ERR_UNSUPPORTED, or ST_ERR_INVAL where it is none, naming it
 * and what there is. */
status_t gd_device_check(gd_device_t device);
/* context.c. The calling thread's context; aborts only if the very first allocation of a thread fails. */
gd_pool_t *gd_context_pool(void);

/* A tensor of the meta's shape and dtype with storage of its own (strides ignored), or over given storage. */
status_t gd_tensor_new_meta(const gd_meta_t *meta, gd_tensor_t **t_p);
status_t gd_tensor_new_view(const gd_tensor_t *base, const gd_meta_t *meta, gd_tensor_t **t_p);
/* The same tensor without graph, sharing storage. */
status_t gd_tensor_new_alias(const gd_tensor_t *t, gd_tensor_t **t_p);
/* numel and byte size of a shape: ST_ERR_RANGE for negative sizes or overflow. */
status_t gd_shape_check(gd_dtype_t dtype, int n_dims, const int64_t *shape, int64_t *numel_p);
bool gd_shape_equal(int n_dims_a, const int64_t *a, int n_dims_b, const int64_t *b);
/* Appends "[2, 3]". */
void gd_shape_format(int n_dims, const int64_t *shape, strbuf_t *text);

/* A view of what a recorded change in place has made of its base since: its graph tells of the values before. */
static inline bool gd_tensor_is_stale(const gd_tensor_t *t)
{
    return t->is_view && t->storage->recorded_version > t->view_version;
}

static inline bool gd_tensor_tracks(const gd_tensor_t *t)
{
    return t->requires_grad || t->node != NULL || (gd_tensor_is_stale(t) && t->base != NULL);
}

static inline void gd_tensor_get_view(const gd_tensor_t *t, gd_view_t *view_p)
{
    view_p->data = t->storage->data + (size_t)t->offset * gd_dtype_size(t->dtype);
    view_p->n_dims = t->n_dims;
    view_p->dtype = (int32_t)t->dtype;
    for (int i = 0; i < t->n_dims; i++) {
        view_p->shape[i] = t->shape[i];
        view_p->stride[i] = t->stride[i];
    }
}

/*
 * A reference that a node holds, for the values alone. When only such are left, the tensor lets go of its own graph:
 * after a change in place that may lead to the very node, and neither would ever be freed.
 */
gd_tensor_t *gd_tensor_save(gd_tensor_t *t);
gd_tensor_t *gd_tensor_unsave(gd_tensor_t *t);

/* ST_ERR_STATE, for a stale one. */
status_t gd_tensor_fail_stale(const char *op, const char *role, int index, const gd_tensor_t *t);

/* For who has written t's values: by is the name that an error gives, a constant. */
static inline void gd_tensor_mark_changed(gd_tensor_t *t, const char *by)
{
    t->storage->version++;
    t->storage->changed_by = by;
}

/* True when nobody else can see t's values. */
static inline bool gd_tensor_is_sole(const gd_tensor_t *t)
{
    if (atomic_load_explicit(&t->n_refs, memory_order_acquire) != 1) {
        return false;
    }
    const int n_storage_refs = atomic_load_explicit(&t->storage->n_refs, memory_order_acquire);
    return n_storage_refs == 1 || (n_storage_refs == 2 && t->base != NULL &&
                                   atomic_load_explicit(&t->base->n_refs, memory_order_acquire) == 1);
}

/* True when that holds and the memory isn't a caller's either: it may be taken for something else. */
static inline bool gd_tensor_is_spare(const gd_tensor_t *t)
{
    return gd_tensor_is_sole(t) && !t->storage->is_wrapped;
}

#endif
