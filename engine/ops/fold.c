/* SPDX-License-Identifier: Apache-2.0 */
/* ops/fold: reductions besides sum and mean. attrs: i0 a bit per axis; i1 keep_dims. */
#include <math.h>

#include "ops/compose.h"

/* can_be_empty: whether the axes may hold no elements. */
static status_t fold_infer(const char *op, const gd_tensor_t *x, const gd_attrs_t *attrs, bool can_be_empty,
                           gd_dtype_t dtype, gd_meta_t *out)
{
    if (attrs->i[0] < 0 || attrs->i[0] >> x->n_dims != 0) {
        return ST_FAIL(ST_ERR_RANGE, "%s: axes 0x%llx of a tensor with %d dimensions", op,
                       (unsigned long long)attrs->i[0], x->n_dims);
    }
    out->dtype = dtype;
    out->offset = 0;
    out->n_dims = 0;
    for (int i = 0; i < x->n_dims; i++) {
        const bool is_reduced = (attrs->i[0] >> i & 1) != 0;
        if (is_reduced && x->shape[i] == 0 && !can_be_empty) {
            return gd_op_fail_shapes(ST_ERR_SHAPE, op, x, NULL, "there is nothing along the reduced axes");
        }
        if (!is_reduced || attrs->i[1] != 0) {
            out->shape[out->n_dims++] = is_reduced ? 1 : x->shape[i];
        }
    }
    return ST_OK;
}

/* t, which has the node's output's shape, with the reduced axes at size 1. */
static gd_tensor_t *compose_kept(compose_t *c, const gd_node_t *node, gd_tensor_t *t)
{
    int64_t shape[GD_MAX_DIMS];
    gd_tensor_t *kept = NULL;
    if (c->status != ST_OK) {
        return NULL;
    }
    for (int i = 0; i < node->in_meta[0].n_dims; i++) {
        shape[i] = (node->attrs.i[0] >> i & 1) != 0 ? 1 : node->in_meta[0].shape[i];
    }
    status_t status = gd_reshape(t, node->in_meta[0].n_dims, shape, &kept);
    return compose_take(c, status, kept);
}

/* x summed over the node's axes, which stay */
static gd_tensor_t *compose_sum_kept(compose_t *c, const gd_node_t *node, gd_tensor_t *x)
{
    const gd_attrs_t attrs = {.i = {node->attrs.i[0], 1}};
    return compose_op(c, GD_OP_SUM, &x, 1, &attrs);
}

/* dy shared by the elements of x that equal y */
static gd_tensor_t *compose_share(compose_t *c, const gd_node_t *node, gd_tensor_t *x, gd_tensor_t *y, gd_tensor_t *dy)
{
    gd_tensor_t *is_taken = compose_binary(c, GD_OP_EQ, x, compose_kept(c, node, y));
    gd_tensor_t *n = compose_sum_kept(c, node, is_taken);
    gd_tensor_t *share = compose_binary(c, GD_OP_DIV, compose_kept(c, node, dy), n);
    return compose_where(c, is_taken, share, compose_number(c, dy, 0));
}

static status_t extremum_backward(gd_node_t *node, gd_tensor_t *dy, gd_tensor_t **dx)
{
    compose_t c = {0};
    gd_tensor_t *gradient = compose_share(&c, node, node->in[0], node->out[0], dy);
    return compose_finish(&c, gradient, dx);
}

/*
 * dx[i] = dy times the product of the others: product / x[i] without a zero; with one, the product of the others for
 * that one and 0 for these; with more, 0.
 */
static status_t prod_backward(gd_node_t *node, gd_tensor_t *dy, gd_tensor_t **dx)
{
    compose_t c = {0};
    gd_tensor_t *x = node->in[0];
    gd_tensor_t *zero = compose_number(&c, x, 0);
    gd_tensor_t *is_zero = compose_binary(&c, GD_OP_EQ, x, zero);
    gd_tensor_t *n_zeros = compose_sum_kept(&c, node, is_zero);
    gd_tensor_t *mended = compose_where(&c, is_zero, compose_number(&c, x, 1), x);
    const gd_attrs_t attrs = {.i = {node->attrs.i[0], 1}};
    gd_tensor_t *product = compose_op(&c, GD_OP_PROD, &mended, 1, &attrs);
    gd_tensor_t *others = compose_binary(&c, GD_OP_DIV, product, mended);
    gd_tensor_t *of_zeros = compose_unary(&c, GD_OP_LOGICAL_NOT, is_zero);
    gd_tensor_t *n_other_zeros = NULL;
    if (c.status == ST_OK) { /* n_zeros - 1 for a zero, n_zeros else */
        gd_tensor_t *one = NULL;
        status_t status = gd_tensor_scalar(GD_DTYPE_I64, 1, &one);
        one = compose_take(&c, status, one);
        gd_tensor_t *less = compose_binary(&c, GD_OP_SUB, n_zeros, one);
        gd_tensor_t *sum = compose_binary(&c, GD_OP_ADD, less, of_zeros);
        n_other_zeros = compose_unary(&c, GD_OP_LOGICAL_NOT, sum);
    }
    gd_tensor_t *masked = compose_where(&c, n_other_zeros, others, zero);
    gd_tensor_t *gradient = compose_binary(&c, GD_OP_MUL, compose_kept(&c, node, dy), masked);
    return compose_finish(&c, gradient, dx);
}

/* dx = dy sign(x) (|x| / y)^(p - 1), 0 where y = 0; p = ±inf: dy shared by those with |x| = y */
static status_t norm_backward(gd_node_t *node, gd_tensor_t *dy, gd_tensor_t **dx)
{
    compose_t c = {0};
    const double p = node->attrs.f[0];
    gd_tensor_t *x = node->in[0];
    if (p == 0) {
        return gd_tensor_zeros(dy->dtype, x->n_dims, x->shape, &dx[0]);
    }
    gd_tensor_t *sign = compose_unary(&c, GD_OP_SIGN, x);
    if (isinf(p)) {
        gd_tensor_t *magnitude = compose_unary(&c, GD_OP_ABS, x);
        gd_tensor_t *share = compose_share(&c, node, magnitude, node->out[0], dy);
        gd_tensor_t *gradient = compose_binary(&c, GD_OP_MUL, share, sign);
        return compose_finish(&c, gradient, dx);
    }
    gd_tensor_t *y = compose_kept(&c, node, node->out[0]);
    gd_tensor_t *upstream = compose_kept(&c, node, dy);
    gd_tensor_t *ratio = p == 2 ? compose_binary(&c, GD_OP_DIV, x, y) : NULL;
    if (p == 1) {
        ratio = sign;
    } else if (p != 2) {
        gd_tensor_t *magnitude = compose_unary(&c, GD_OP_ABS, x);
        gd_tensor_t *part = compose_binary(&c, GD_OP_DIV, magnitude, y);
        const gd_attrs_t exponent = {.f = {p - 1}};
        gd_tensor_t *power = compose_op(&c, GD_OP_POW, &part, 1, &exponent);
        ratio = compose_binary(&c, GD_OP_MUL, power, sign);
        if (p < 1) { /* at 0, where the slope is infinite, 0 as PyTorch's */
            ratio = compose_where(&c, compose_unary(&c, GD_OP_LOGICAL_NOT, x), compose_number(&c, ratio, 0), ratio);
        }
    }
    gd_tensor_t *product = compose_binary(&c, GD_OP_MUL, upstream, ratio);
    gd_tensor_t *zero = compose_number(&c, dy, 0);
    gd_tensor_t *is_zero = compose_binary(&c, GD_OP_EQ, y, zero);
    gd_tensor_t *gradient = compose_where(&c, is_zero, zero, product);
    return compose_finish(&c, gradient, dx);
}

#define FOLD_SAMPLES(empty_x)                                                                                          \
    {                                                                                                                  \
        {.in = {{2, {3, 4}, .lo = -2, .hi = 2}}, .n_in = 1, .attrs = {.i = {1}, .f = {2}}},                            \
            {.in = {{2, {3, 4}, .lo = -2, .hi = 2}}, .n_in = 1, .attrs = {.i = {3}, .f = {1}}},                        \
            {.in = {{3, {2, 3, 4}, .lo = -2, .hi = 2}}, .n_in = 1, .attrs = {.i = {5, 1}, .f = {3}}},                  \
            {.in = {{4, {2, 3, 2, 5}, .lo = -2, .hi = 2}}, .n_in = 1, .attrs = {.i = {10}, .f = {INFINITY}}},          \
            {.in = {{2, {2, 9}, .lo = -2, .hi = 2}}, .n_in = 1, .attrs = {.i = {2}, .f = {-INFINITY}}},                \
            {.in = {{0, {0}, .lo = 1, .hi = 2}}, .n_in = 1, .attrs = {.f = {0.5}}},                                    \
            {.in = {{2, {3, 0}}}, .n_in = 1, .attrs = {.i = {1}, .f = {2}}},                                           \
            {.in = {{2, {3, 0}}}, .n_in = 1, .attrs = {.i = {2}, .f = {2}}, .expect = (empty_x)},                      \
            {.in = {{2, {3, 4}}}, .n_in = 1, .attrs = {.i = {4}}, .expect = ST_ERR_RANGE},                             \
    }

#define FOLD_ROW(name_x, formula_x, dtypes_x, dtype_x, saves_x, backward_x, onnx_x, can_be_empty_x)                    \
    static status_t name_x##_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)          \
    {                                                                                                                  \
        (void)n_in;                                                                                                    \
        return fold_infer(#name_x, in[0], attrs, can_be_empty_x, dtype_x, out);                                        \
    }                                                                                                                  \
    const gd_op_t gd_op_##name_x = {                                                                                   \
        .name = #name_x,                                                                                               \
        .formula = "y[kept] = " formula_x,                                                                             \
        .attrs = "i0 axes, a bit each; i1 keep_dims; f0 p of a norm",                                                  \
        .n_in = 1,                                                                                                     \
        .n_in_required = 1,                                                                                            \
        .n_out = 1,                                                                                                    \
        .dtypes = (dtypes_x),                                                                                          \
        .saves = (saves_x),                                                                                            \
        .infer = name_x##_infer,                                                                                       \
        .backward = (backward_x),                                                                                      \
        .onnx = (onnx_x),                                                                                              \
        .sample = FOLD_SAMPLES((can_be_empty_x) ? ST_OK : ST_ERR_SHAPE),                                               \
    };
#define SUM_DTYPE (gd_dtype_is_float(in[0]->dtype) ? in[0]->dtype : GD_DTYPE_I64)
enum { SAVE_BOTH = GD_SAVE_INPUTS | GD_SAVE_OUTPUTS };

FOLD_ROW(amax, "the largest along the axes", OPS_DTYPES_ALL, in[0]->dtype, SAVE_BOTH, extremum_backward, "ReduceMax",
         false)
FOLD_ROW(amin, "the smallest along the axes", OPS_DTYPES_ALL, in[0]->dtype, SAVE_BOTH, extremum_backward, "ReduceMin",
         false)
FOLD_ROW(prod, "the product along the axes", OPS_DTYPES_ALL, SUM_DTYPE, GD_SAVE_INPUTS, prod_backward, "ReduceProd",
         true)
FOLD_ROW(norm, "(sum |x|^p)^(1/p)", OPS_DTYPES_FLOAT, in[0]->dtype, SAVE_BOTH, norm_backward, NULL, true)
FOLD_ROW(any, "whether one along the axes isn't 0", OPS_DTYPES_ALL, GD_DTYPE_BOOL, GD_SAVE_NONE, NULL, NULL, true)
FOLD_ROW(all, "whether none along the axes is 0", OPS_DTYPES_ALL, GD_DTYPE_BOOL, GD_SAVE_NONE, NULL, NULL, true)
FOLD_ROW(argmax, "where along the axes the largest is", OPS_DTYPES_ALL, GD_DTYPE_I64, GD_SAVE_NONE, NULL, "ArgMax",
         false)
FOLD_ROW(argmin, "where along the axes the smallest is", OPS_DTYPES_ALL, GD_DTYPE_I64, GD_SAVE_NONE, NULL, "ArgMin",
         false)

/* ---- functions ---- */

#define FOLD_FUNCTION(name_x, id_x)                                                                                    \
    status_t gd_##name_x(gd_tensor_t *x, int n_axes, const int *axes, bool keep_dims, gd_tensor_t **y_p)               \
    {                                                                                                                  \
        gd_attrs_t attrs = {0};                                                                                        \
        status_t status = gd_op_set_axes(#name_x, x, n_axes, axes, keep_dims, &attrs);                                 \
        return status == ST_OK ? gd_op_apply(id_x, &x, 1, &attrs, y_p) : status;                                       \
    }
FOLD_FUNCTION(amax, GD_OP_AMAX)
FOLD_FUNCTION(amin, GD_OP_AMIN)
FOLD_FUNCTION(prod, GD_OP_PROD)
FOLD_FUNCTION(any, GD_OP_ANY)
FOLD_FUNCTION(all, GD_OP_ALL)
FOLD_FUNCTION(argmax, GD_OP_ARGMAX)
FOLD_FUNCTION(argmin, GD_OP_ARGMIN)

status_t gd_norm(gd_tensor_t *x, double p, int n_axes, const int *axes, bool keep_dims, gd_tensor_t **y_p)
{
    gd_attrs_t attrs = {.f = {p}};
    status_t status = gd_op_set_axes("norm", x, n_axes, axes, keep_dims, &attrs);
    return status == ST_OK ? gd_op_apply(GD_OP_NORM, &x, 1, &attrs, y_p) : status;
}

/* t without the axis, or itself. */
static gd_tensor_t *compose_drop_axis(compose_t *c, gd_tensor_t *t, int axis, bool keep_dims)
{
    gd_tensor_t *squeezed = NULL;
    if (c->status != ST_OK || keep_dims) {
        return t;
    }
    status_t status = gd_squeeze(t, axis, &squeezed);
    return compose_take(c, status, squeezed);
}

static status_t extremum_along(const char *op, gd_op_id_t id, gd_tensor_t *x, int axis, bool keep_dims,
                               gd_tensor_t **values_p, gd_tensor_t **indices_p)
{
    int64_t at = axis;
    status_t status = gd_op_check_axis(op, x, &at);
    if (status != ST_OK) {
        return status;
    }
    compose_t c = {0};
    const gd_attrs_t places = {.i = {(int64_t)1 << at, 1}};
    const gd_attrs_t along = {.i = {at}};
    gd_tensor_t *index = compose_op(&c, id, &x, 1, &places);
    gd_tensor_t *in[2] = {x, index};
    gd_tensor_t *values = compose_op(&c, GD_OP_GATHER, in, 2, &along);
    values = compose_drop_axis(&c, values, (int)at, keep_dims);
    index = compose_drop_axis(&c, index, (int)at, keep_dims);
    gd_tensor_t *indices = c.status == ST_OK ? gd_tensor_ref(index) : NULL;
    status = compose_finish(&c, values, values_p);
    if (status == ST_OK && indices_p != NULL) {
        *indices_p = indices;
    } else {
        (void)gd_tensor_unref(indices);
    }
    return status;
}

status_t gd_max(gd_tensor_t *x, int axis, bool keep_dims, gd_tensor_t **values_p, gd_tensor_t **indices_p)
{
    return extremum_along("max", GD_OP_ARGMAX, x, axis, keep_dims, values_p, indices_p);
}

status_t gd_min(gd_tensor_t *x, int axis, bool keep_dims, gd_tensor_t **values_p, gd_tensor_t **indices_p)
{
    return extremum_along("min", GD_OP_ARGMIN, x, axis, keep_dims, values_p, indices_p);
}

/* x less its mean along the axes; *n_p: elements along them */
static gd_tensor_t *compose_centred(compose_t *c, const char *op, gd_tensor_t *x, int n_axes, const int *axes,
                                    bool keep_dims, gd_attrs_t *attrs, double *n_p)
{
    c->status = gd_op_set_axes(op, x, n_axes, axes, keep_dims, attrs);
    const gd_attrs_t kept = {.i = {attrs->i[0], 1}};
    *n_p = 1;
    for (int i = 0; i < x->n_dims; i++) {
        *n_p *= (attrs->i[0] >> i & 1) != 0 ? (double)x->shape[i] : 1.0;
    }
    gd_tensor_t *mean = compose_op(c, GD_OP_MEAN, &x, 1, &kept);
    return compose_binary(c, GD_OP_SUB, x, mean);
}

status_t gd_var(gd_tensor_t *x, double correction, int n_axes, const int *axes, bool keep_dims, gd_tensor_t **y_p)
{
    compose_t c = {0};
    gd_attrs_t attrs = {0};
    double n = 0;
    gd_tensor_t *centred = compose_centred(&c, "var", x, n_axes, axes, keep_dims, &attrs, &n);
    gd_tensor_t *square = compose_unary(&c, GD_OP_SQUARE, centred);
    gd_tensor_t *sum = compose_op(&c, GD_OP_SUM, &square, 1, &attrs);
    gd_tensor_t *y = compose_scale(&c, sum, 1.0 / (n > correction ? n - correction : 0.0), 0);
    return compose_finish(&c, y, y_p);
}

/* As a norm, whose gradient is 0 where all elements are equal; with too few of them it isn't a number, as y. */
status_t gd_std(gd_tensor_t *x, double correction, int n_axes, const int *axes, bool keep_dims, gd_tensor_t **y_p)
{
    compose_t c = {0};
    gd_attrs_t attrs = {0};
    double n = 0;
    gd_tensor_t *centred = compose_centred(&c, "std", x, n_axes, axes, keep_dims, &attrs, &n);
    attrs.f[0] = 2;
    if (n <= correction) {
        centred = compose_scale(&c, centred, (double)INFINITY, 0);
    }
    gd_tensor_t *norm = compose_op(&c, GD_OP_NORM, &centred, 1, &attrs);
    gd_tensor_t *y = compose_scale(&c, norm, 1.0 / sqrt(n > correction ? n - correction : 0.0), 0);
    return compose_finish(&c, y, y_p);
}

/* m + ln sum exp(x - m), m the largest, a constant as far as gradients go, or 0 where it isn't finite */
status_t gd_logsumexp(gd_tensor_t *x, int n_axes, const int *axes, bool keep_dims, gd_tensor_t **y_p)
{
    compose_t c = {0};
    gd_attrs_t attrs = {0};
    status_t status = gd_op_set_axes("logsumexp", x, n_axes, axes, keep_dims, &attrs);
    if (status != ST_OK) {
        return status;
    }
    if (!gd_dtype_is_float(x->dtype)) {
        gd_tensor_t *wide = NULL;
        status = gd_cast(x, GD_DTYPE_F32, &wide);
        x = compose_take(&c, status, wide);
        if (c.status != ST_OK) {
            return compose_finish(&c, NULL, y_p);
        }
    }
    const gd_attrs_t kept = {.i = {attrs.i[0], 1}};
    gd_tensor_t *constant = NULL;
    status = gd_detach(x, &constant);
    constant = compose_take(&c, status, constant);
    gd_tensor_t *largest = compose_number(&c, x, 0);
    gd_tensor_t *offset = largest;
    if (x->numel > 0) {
        largest = compose_op(&c, GD_OP_AMAX, &constant, 1, &kept);
        offset = compose_where(&c, compose_unary(&c, GD_OP_ISFINITE, largest), largest, offset);
    }
    gd_tensor_t *shifted = compose_binary(&c, GD_OP_SUB, x, offset);
    gd_tensor_t *power = compose_unary(&c, GD_OP_EXP, shifted);
    gd_tensor_t *sum = compose_op(&c, GD_OP_SUM, &power, 1, &kept);
    gd_tensor_t *logarithm = compose_unary(&c, GD_OP_LOG, sum);
    gd_tensor_t *y = compose_binary(&c, GD_OP_ADD, logarithm, offset);
    for (int i = x->n_dims - 1; i >= 0; i--) {
        if ((attrs.i[0] >> i & 1) != 0) {
            y = compose_drop_axis(&c, y, i, keep_dims);
        }
    }
    return compose_finish(&c, y, y_p);
}
