/* SPDX-License-Identifier: Apache-2.0 */
/* ops/reduce: sums and means over axes. attrs: i0 a bit per axis; i1 keep_dims; i2 add to the output
 * (apply_into); i3 1 + the output's dtype, 0 x's. */
#include "ops/helpers.h"

static status_t reduce_infer(const char *op, const gd_tensor_t *x, const gd_attrs_t *attrs, gd_meta_t *out)
{
    if (attrs->i[0] < 0 || attrs->i[0] >> x->n_dims != 0) {
        return ST_FAIL(ST_ERR_RANGE, "%s: axes 0x%llx of a tensor with %d dimensions", op,
                       (unsigned long long)attrs->i[0], x->n_dims);
    }
    out->dtype = GD_DTYPE_I64;
    status_t status = gd_dtype_is_float(x->dtype) ? gd_op_check_result(op, x->dtype, attrs->i[3], &out->dtype) : ST_OK;
    if (status != ST_OK) {
        return status;
    }
    out->offset = 0;
    out->n_dims = 0;
    for (int i = 0; i < x->n_dims; i++) {
        if ((attrs->i[0] >> i & 1) == 0) {
            out->shape[out->n_dims++] = x->shape[i];
        } else if (attrs->i[1] != 0) {
            out->shape[out->n_dims++] = 1;
        }
    }
    return ST_OK;
}

static status_t sum_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    (void)n_in;
    return reduce_infer("sum", in[0], attrs, out);
}

static status_t mean_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    (void)n_in;
    return reduce_infer("mean", in[0], attrs, out);
}

/* dx[…] = dy[kept axes], a view of dy */
static status_t sum_backward(gd_node_t *node, gd_tensor_t *dy, gd_tensor_t **dx)
{
    const gd_meta_t *meta = &node->in_meta[0];
    int64_t shape[GD_MAX_DIMS];
    for (int i = 0; i < meta->n_dims; i++) {
        shape[i] = (node->attrs.i[0] >> i & 1) != 0 ? 1 : meta->shape[i];
    }
    gd_tensor_t *kept = NULL;
    status_t status = gd_reshape(dy, meta->n_dims, shape, &kept);
    if (status == ST_OK) {
        status = gd_expand(kept, meta->n_dims, meta->shape, &dx[0]);
    }
    (void)gd_tensor_unref(kept);
    return status;
}

/* dx[…] = dy[kept axes] / n */
static status_t mean_backward(gd_node_t *node, gd_tensor_t *dy, gd_tensor_t **dx)
{
    double n = 1;
    for (int i = 0; i < node->in_meta[0].n_dims; i++) {
        n *= (node->attrs.i[0] >> i & 1) != 0 ? (double)node->in_meta[0].shape[i] : 1.0;
    }
    gd_tensor_t *scaled = NULL;
    status_t status = gd_scale(dy, n > 0 ? 1.0 / n : 0.0, 0.0, &scaled);
    if (status == ST_OK) {
        status = sum_backward(node, scaled, dx);
    }
    (void)gd_tensor_unref(scaled);
    return status;
}

#define REDUCE_SAMPLES(integers_x)                                                                                     \
    {                                                                                                                  \
        {.in = {{2, {3, 4}}}, .n_in = 1, .attrs = {.i = {1}}}, {.in = {{2, {3, 4}}}, .n_in = 1, .attrs = {.i = {2}}},  \
            {.in = {{2, {3, 4}}}, .n_in = 1, .attrs = {.i = {3}}},                                                     \
            {.in = {{3, {2, 3, 4}}}, .n_in = 1, .attrs = {.i = {5, 1}}},                                               \
            {.in = {{3, {2, 3, 4}}}, .n_in = 1, .attrs = {.i = {2, 0}}},                                               \
            {.in = {{4, {2, 3, 2, 5}}}, .n_in = 1, .attrs = {.i = {10}}}, {.in = {{0, {0}}}, .n_in = 1},               \
            {.in = {{2, {3, 100}}}, .n_in = 1, .attrs = {.i = {2}}},                                                   \
            {.in = {{2, {100, 37}}}, .n_in = 1, .attrs = {.i = {1}}},                                                  \
            {.in = {{2, {3, 4}}}, .n_in = 1, .attrs = {.i = {4}}, .expect = ST_ERR_RANGE},                             \
            {.in = {{1, {3}, .dtype = GD_DTYPE_I64, .int_limit = 4}},                                                  \
             .n_in = 1,                                                                                                \
             .attrs = {.i = {1}},                                                                                      \
             .expect = (integers_x)},                                                                                  \
    }

const gd_op_t gd_op_sum = {
    .name = "sum",
    .formula = "y[kept] = sum over the axes of x",
    .attrs = "i0 axes, a bit each; i1 keep_dims; i2 add to the output; i3 1 + the output's dtype, 0: x's",
    .n_in = 1,
    .n_in_required = 1,
    .n_out = 1,
    .dtypes = OPS_DTYPES_ALL,
    .autocast = GD_AUTOCAST_F32,
    .infer = sum_infer,
    .backward = sum_backward,
    .onnx = "ReduceSum",
    .sample = REDUCE_SAMPLES(ST_OK),
};

const gd_op_t gd_op_mean = {
    .name = "mean",
    .formula = "y[kept] = mean over the axes of x",
    .attrs = "i0 axes, a bit each; i1 keep_dims; i2 add to the output; i3 1 + the output's dtype, 0: x's",
    .n_in = 1,
    .n_in_required = 1,
    .n_out = 1,
    .dtypes = OPS_DTYPES_FLOAT,
    .autocast = GD_AUTOCAST_F32,
    .infer = mean_infer,
    .backward = mean_backward,
    .onnx = "ReduceMean",
    .sample = REDUCE_SAMPLES(ST_ERR_UNSUPPORTED),
};

static status_t reduce_apply(gd_op_id_t id, gd_tensor_t *x, int n_axes, const int *axes, bool keep_dims,
                             gd_tensor_t **y_p)
{
    gd_attrs_t attrs = {0};
    status_t status = gd_op_set_axes(gd_op_get(id)->name, x, n_axes, axes, keep_dims, &attrs);
    return status == ST_OK ? gd_op_apply(id, &x, 1, &attrs, y_p) : status;
}

status_t gd_sum(gd_tensor_t *x, int n_axes, const int *axes, bool keep_dims, gd_tensor_t **y_p)
{
    return reduce_apply(GD_OP_SUM, x, n_axes, axes, keep_dims, y_p);
}

status_t gd_mean(gd_tensor_t *x, int n_axes, const int *axes, bool keep_dims, gd_tensor_t **y_p)
{
    return reduce_apply(GD_OP_MEAN, x, n_axes, axes, keep_dims, y_p);
}
