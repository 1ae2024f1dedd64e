/* SPDX-License-Identifier: Apache-2.0 */
/*
 * view: what a kernel sees of a tensor. Plain C that nvcc accepts too: the only engine header a .cu may include.
 */
#ifndef GRADD_VIEW_H
#define GRADD_VIEW_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { GD_MAX_DIMS = 8, GD_MAX_IN = 8, GD_MAX_OUT = 4, GD_MAX_ATTR_INT = 18, GD_MAX_ATTR_FLOAT = 6 };

/* X(enum, name, bytes per element) */
#define GD_DTYPE_LIST(X)                                                                                               \
    X(F32, "f32", 4)                                                                                                   \
    X(F64, "f64", 8)                                                                                                   \
    X(BF16, "bf16", 2)                                                                                                 \
    X(F16, "f16", 2)                                                                                                   \
    X(I64, "i64", 8)                                                                                                   \
    X(I32, "i32", 4)                                                                                                   \
    X(U8, "u8", 1)                                                                                                     \
    X(BOOL, "bool", 1)

typedef enum gd_dtype {
#define GD_DTYPE_ENUM(name, text, size) GD_DTYPE_##name,
    GD_DTYPE_LIST(GD_DTYPE_ENUM)
#undef GD_DTYPE_ENUM
        GD_DTYPE_COUNT
} gd_dtype_t;

/* data points at element (0, …, 0); strides are in elements and may be 0 (expanded) or negative. */
typedef struct gd_view {
    void *data;
    int64_t shape[GD_MAX_DIMS];
    int64_t stride[GD_MAX_DIMS];
    int32_t n_dims;
    int32_t dtype; /* gd_dtype_t */
} gd_view_t;

/*
 * Which random numbers an op draws: a pure function of these and of the element's index, never of the layout.
 * layer is a hash of the module's path (or parameter's name), so that it doesn't depend on how a model is split.
 */
typedef struct gd_rng_key {
    uint64_t seed;
    uint32_t step;
    uint32_t microbatch;
    uint32_t layer;
    uint32_t purpose; /* 0 dropout, 1 parameter initialisation, 2 data order, 3 augmentation, 4 sampling, 5 user */
} gd_rng_key_t;

/* The non-tensor arguments of an op; each op's row says what it puts where. */
typedef struct gd_attrs {
    int64_t i[GD_MAX_ATTR_INT];
    double f[GD_MAX_ATTR_FLOAT];
    gd_rng_key_t rng;
} gd_attrs_t;

#ifdef __cplusplus
}
#endif

#endif
