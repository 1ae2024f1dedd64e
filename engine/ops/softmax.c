/* SPDX-License-Identifier: Apache-2.0 */
/* ops/softmax: softmax and log_softmax over the last axis, each with its backward as an op of its own. */
#include "ops/helpers.h"

static status_t rows_infer(const char *op, gd_tensor_t *const *in, int n_in, gd_meta_t *out)
{
    if (in[0]->n_dims == 0) {
        return gd_op_fail_shapes(ST_ERR_SHAPE, op, in[0], NULL, "at least one dimension is needed");
    }
    return gd_infer_same(op, in, n_in, out);
}

#define SOFTMAX_SAMPLES                                                                                                \
    {                                                                                                                  \
        {.in = {{2, {3, 4}, .lo = -3, .hi = 3}}, .n_in = 1}, {.in = {{3, {2, 3, 70}, .lo = -9, .hi = 9}}, .n_in = 1},  \
            {.in = {{1, {1}}}, .n_in = 1}, {.in = {{2, {0, 4}}}, .n_in = 1}, {.in = {{2, {3, 0}}}, .n_in = 1},         \
            {.in = {{0, {0}}}, .n_in = 1, .expect = ST_ERR_SHAPE},                                                     \
            {.in = {{1, {3}, .dtype = GD_DTYPE_I32, .int_limit = 5}}, .n_in = 1, .expect = ST_ERR_UNSUPPORTED},        \
    }

#define SOFTMAX_BACKWARD_SAMPLES(lo_x, hi_x)                                                                           \
    {                                                                                                                  \
        {.in = {{2, {3, 4}}, {2, {3, 4}, .lo = (lo_x), .hi = (hi_x)}}, .n_in = 2},                                     \
            {.in = {{3, {2, 3, 70}}, {3, {2, 3, 70}, .lo = (lo_x), .hi = (hi_x)}}, .n_in = 2},                         \
            {.in = {{2, {0, 4}}, {2, {0, 4}}}, .n_in = 2}, {.in = {{2, {3, 0}}, {2, {3, 0}}}, .n_in = 2},              \
            {.in = {{2, {3, 4}}, {2, {4, 3}}}, .n_in = 2, .expect = ST_ERR_SHAPE},                                     \
            {.in = {{0, {0}}, {0, {0}}}, .n_in = 2, .expect = ST_ERR_SHAPE},                                           \
    }

/* The op and its backward; y lies in [lo_x, hi_x]. */
#define SOFTMAX_ROW(enum_x, name_x, formula_x, backward_formula_x, autocast_x, onnx_x, lo_x, hi_x)                     \
    static status_t name_x##_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)          \
    {                                                                                                                  \
        (void)attrs;                                                                                                   \
        return rows_infer(#name_x, in, n_in, out);                                                                     \
    }                                                                                                                  \
    static status_t name_x##_backward_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out) \
    {                                                                                                                  \
        (void)attrs;                                                                                                   \
        return rows_infer(#name_x "_backward", in, n_in, out);                                                         \
    }                                                                                                                  \
    static status_t name_x##_gradient(gd_node_t *node, gd_tensor_t *dy, gd_tensor_t **dx)                              \
    {                                                                                                                  \
        return gd_op_binary(GD_OP_##enum_x##_BACKWARD, dy, node->out[0], &dx[0]);                                      \
    }                                                                                                                  \
    const gd_op_t gd_op_##name_x = {                                                                                   \
        .name = #name_x,                                                                                               \
        .formula = (formula_x),                                                                                        \
        .n_in = 1,                                                                                                     \
        .n_in_required = 1,                                                                                            \
        .n_out = 1,                                                                                                    \
        .dtypes = OPS_DTYPES_FLOAT,                                                                                    \
        .saves = GD_SAVE_OUTPUTS,                                                                                      \
        .autocast = (autocast_x),                                                                                      \
        .contiguous_in = 1,                                                                                            \
        .infer = name_x##_infer,                                                                                       \
        .backward = name_x##_gradient,                                                                                 \
        .onnx = (onnx_x),                                                                                              \
        .sample = SOFTMAX_SAMPLES,                                                                                     \
    };                                                                                                                 \
    const gd_op_t gd_op_##name_x##_backward = {                                                                        \
        .name = #name_x "_backward",                                                                                   \
        .formula = (backward_formula_x),                                                                               \
        .n_in = 2,                                                                                                     \
        .n_in_required = 2,                                                                                            \
        .n_out = 1,                                                                                                    \
        .dtypes = OPS_DTYPES_FLOAT,                                                                                    \
        .contiguous_in = 3,                                                                                            \
        .infer = name_x##_backward_infer,                                                                              \
        .sample = SOFTMAX_BACKWARD_SAMPLES(lo_x, hi_x),                                                                \
    };
SOFTMAX_ROW(SOFTMAX, softmax, "y[…,i] = exp(x[…,i]) / sum_j exp(x[…,j])",
            "dx[…,i] = y[…,i] (dy[…,i] - sum_j dy[…,j] y[…,j])", GD_AUTOCAST_KEEP, "Softmax", 0, 1)
SOFTMAX_ROW(LOG_SOFTMAX, log_softmax, "y[…,i] = x[…,i] - ln sum_j exp(x[…,j])",
            "dx[…,i] = dy[…,i] - exp(y[…,i]) sum_j dy[…,j]", GD_AUTOCAST_F32, "LogSoftmax", -3, 0)

/* Along another axis than the last: through a view that has it last. */
static status_t softmax_along(gd_op_id_t id, gd_tensor_t *x, int axis, gd_tensor_t **y_p)
{
    int64_t at = axis;
    status_t status = gd_op_check_axis(gd_op_get(id)->name, x, &at);
    if (status != ST_OK) {
        return status;
    }
    if (at == x->n_dims - 1) {
        return gd_op_unary(id, x, y_p);
    }
    gd_tensor_t *turned = NULL;
    gd_tensor_t *y = NULL;
    status = gd_transpose(x, (int)at, -1, &turned);
    if (status == ST_OK) {
        status = gd_op_unary(id, turned, &y);
    }
    if (status == ST_OK) {
        status = gd_transpose(y, (int)at, -1, y_p);
    }
    (void)gd_tensor_unref(turned);
    (void)gd_tensor_unref(y);
    return status;
}

status_t gd_softmax(gd_tensor_t *x, int axis, gd_tensor_t **y_p)
{
    return softmax_along(GD_OP_SOFTMAX, x, axis, y_p);
}

status_t gd_log_softmax(gd_tensor_t *x, int axis, gd_tensor_t **y_p)
{
    return softmax_along(GD_OP_LOG_SOFTMAX, x, axis, y_p);
}

status_t gd_softmin(gd_tensor_t *x, int axis, gd_tensor_t **y_p)
{
    gd_tensor_t *negative = NULL;
    status_t status = gd_neg(x, &negative);
    if (status == ST_OK) {
        status = gd_softmax(negative, axis, y_p);
    }
    (void)gd_tensor_unref(negative);
    return status;
}
