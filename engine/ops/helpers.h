/* SPDX-License-Identifier: Apache-2.0 */
/* helpers: what rows of several families share. */
#ifndef GRADD_OPS_HELPERS_H
#define GRADD_OPS_HELPERS_H

#include "gradd/op.h"
#include "gradd/ops.h"
#include "tensor/internal.h"

enum {
    OPS_DTYPES_ALL = (1 << GD_DTYPE_COUNT) - 1,
    OPS_DTYPES_NUMBER = OPS_DTYPES_ALL & ~(1 << GD_DTYPE_BOOL),
    OPS_DTYPES_HALF = 1 << GD_DTYPE_BF16 | 1 << GD_DTYPE_F16,
    OPS_DTYPES_FLOAT = 1 << GD_DTYPE_F32 | 1 << GD_DTYPE_F64 | 1 << GD_DTYPE_BF16 | 1 << GD_DTYPE_F16
};

/* Where as_strided's attributes have the sizes and strides. */
enum { AS_SHAPE = 2, AS_STRIDE = AS_SHAPE + GD_MAX_DIMS };

/* The names as ids, for functions made from lists of names. */
enum {
#define GD_OP(ENUM, name) gd_op_id_##name = GD_OP_##ENUM,
#include "ops/ops.def"
#undef GD_OP
};

void gd_meta_set(gd_meta_t *meta_p, gd_dtype_t dtype, int n_dims, const int64_t *shape);
/* "<op>: [2, 3] and [4]: <why>"; b may be NULL. Returns code. */
status_t gd_op_fail_shapes(status_t code, const char *op, const gd_tensor_t *a, const gd_tensor_t *b, const char *why);
/* ST_ERR_INVAL where input `index` is NULL. */
status_t gd_op_check_given(const char *op, const gd_tensor_t *x, int index);
/* Makes a negative axis count from the end; ST_ERR_RANGE; ST_ERR_INVAL where x is NULL. */
status_t gd_op_check_axis(const char *op, const gd_tensor_t *x, int64_t *axis);
/* A reduction's i0, a bit for each of the axes (n_axes 0: all), and i1. ST_ERR_RANGE; ST_ERR_INVAL: one given twice, x
 * NULL, axes NULL though there are some. */
status_t gd_op_set_axes(const char *op, const gd_tensor_t *x, int n_axes, const int *axes, bool keep_dims,
                        gd_attrs_t *attrs);
/* gd_number_beside, where 16 bits are computed in f32 without rounding the number before. */
status_t gd_number_operand(const gd_tensor_t *x, gd_number_t number, bool is_arithmetic, gd_tensor_t **t_p);
/* One input, one output, same shape and dtype. */
status_t gd_infer_like(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out);
/* The same with the dtype of a floating result, or bool. */
status_t gd_infer_float(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out);
status_t gd_infer_bool(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out);
/* The dtype of a result that is a float: dtype itself, or f32 from integers and bool. */
static inline gd_dtype_t gd_dtype_float_of(gd_dtype_t dtype)
{
    return gd_dtype_is_float(dtype) ? dtype : GD_DTYPE_F32;
}
/* Inputs of the same shape and dtype (backward kernels). */
status_t gd_infer_same(const char *op, gd_tensor_t *const *in, int n_in, gd_meta_t *out);

/*
 * Sums dy over the axes along which an input of shape `meta` was broadcast. *dx_p: a new reference, dy itself when
 * there are none. Where node->into[i] can take the sum, it is written there instead and *dx_p stays NULL.
 */
status_t gd_sum_to(gd_node_t *node, int i, gd_tensor_t *dy, gd_tensor_t **dx_p);

/*
 * The gradient of in[i] as the product a b: into the leaf's buffer if there is one, else as a new tensor, summed over
 * broadcast axes. The product may have the input's elements in another shape (leading axes flattened).
 */
status_t gd_node_product(gd_node_t *node, int i, gd_tensor_t *a, gd_tensor_t *b, gd_tensor_t **dx);

/* Applies an op without attributes. */
status_t gd_op_unary(gd_op_id_t id, gd_tensor_t *x, gd_tensor_t **y_p);
status_t gd_op_binary(gd_op_id_t id, gd_tensor_t *a, gd_tensor_t *b, gd_tensor_t **y_p);

/*
 * Applies an elementwise op in backward whose result has the shape and dtype of in[0], which is dy: in dy's own memory
 * where nobody else sees it, which spares a third of the traffic. Anomaly mode wants to look at dy afterwards.
 */
status_t gd_op_apply_over(gd_op_id_t id, gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_tensor_t **dx);

/* Every input that is there has the first one's dtype; ST_ERR_DTYPE. */
status_t gd_op_check_dtypes(const char *op, gd_tensor_t *const *in, int n_in);
/* The same, but those with a bit in the row's f32_in are f32 where the others are of 16 bits. */
status_t gd_op_check_mixed(const gd_op_t *op, gd_tensor_t *const *in, int n_in);
/* f32 for 16-bit floats, otherwise dtype itself: of statistics and sums. */
static inline gd_dtype_t gd_dtype_widen(gd_dtype_t dtype)
{
    return dtype == GD_DTYPE_BF16 || dtype == GD_DTYPE_F16 ? GD_DTYPE_F32 : dtype;
}
/* An attribute that holds a dtype, 0 meaning `otherwise`. */
static inline int64_t gd_attr_of_dtype(gd_dtype_t dtype)
{
    return (int64_t)dtype + 1;
}
static inline gd_dtype_t gd_attr_dtype(int64_t attr, gd_dtype_t otherwise)
{
    return attr > 0 ? (gd_dtype_t)(attr - 1) : otherwise;
}
/* The dtype that a floating op's output is asked to have: x's, or from 16 bits f32. ST_ERR_DTYPE. */
status_t gd_op_check_result(const char *op, gd_dtype_t x, int64_t attr, gd_dtype_t *dtype_p);
/* Moves gradient[i] into dx[i] where input i needs it and drops it elsewhere. */
void gd_node_hand_out(const gd_node_t *node, gd_tensor_t *const *gradient, int n, gd_tensor_t **dx);

/* The row of an op of two operands that are broadcast, with `name`_infer as its infer function; last its samples. */
#define OPS_BINARY_ROW(name_x, formula_x, dtypes_x, saves_x, autocast_x, backward_x, onnx_x, ...)                      \
    const gd_op_t gd_op_##name_x = {                                                                                   \
        .name = #name_x,                                                                                               \
        .formula = formula_x,                                                                                          \
        .n_in = 2,                                                                                                     \
        .n_in_required = 2,                                                                                            \
        .n_out = 1,                                                                                                    \
        .dtypes = (dtypes_x),                                                                                          \
        .promotes = true,                                                                                              \
        .saves = (saves_x),                                                                                            \
        .autocast = (autocast_x),                                                                                      \
        .infer = name_x##_infer,                                                                                       \
        .is_elementwise = true,                                                                                        \
        .backward = (backward_x),                                                                                      \
        .onnx = (onnx_x),                                                                                              \
        .sample = __VA_ARGS__,                                                                                         \
    };

#endif
