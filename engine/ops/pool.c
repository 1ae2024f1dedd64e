/* SPDX-License-Identifier: Apache-2.0 */
/* ops/pool: 2-d max and average pooling; padding never wins a maximum and counts as zeros in an average. */
#include "ops/helpers.h"

#define POOL_ATTRS "i0,1 kernel; i2,3 stride; i4,5 padding"

enum { MOST_STEP = 1 << 20 };

static status_t attrs_check(const char *op, const gd_attrs_t *attrs)
{
    for (int i = 0; i < 4; i++) {
        if (attrs->i[i] < 1 || attrs->i[i] > MOST_STEP) {
            return ST_FAIL(ST_ERR_RANGE, "%s: %s %lld is outside 1 … %d", op, i < 2 ? "kernel size" : "stride",
                           (long long)attrs->i[i], MOST_STEP);
        }
    }
    for (int i = 0; i < 2; i++) { /* so that every window meets the image */
        if (attrs->i[4 + i] < 0 || attrs->i[4 + i] > attrs->i[i] / 2) {
            return ST_FAIL(ST_ERR_RANGE, "%s: padding %lld is outside 0 … half the kernel size %lld", op,
                           (long long)attrs->i[4 + i], (long long)attrs->i[i]);
        }
    }
    return ST_OK;
}

static status_t pool_infer(const char *op, const gd_tensor_t *x, const gd_attrs_t *attrs, gd_meta_t *out)
{
    status_t status = attrs_check(op, attrs);
    if (status != ST_OK) {
        return status;
    }
    if (x->n_dims != 4 || x->shape[2] > INT16_MAX || x->shape[3] > INT16_MAX) {
        return gd_op_fail_shapes(ST_ERR_SHAPE, op, x, NULL, "[B,C,H,W] with H and W up to 32767 is needed");
    }
    gd_meta_set(out, x->dtype, 4, x->shape);
    for (int i = 0; i < 2; i++) {
        const int64_t room = x->shape[2 + i] + 2 * attrs->i[4 + i] - attrs->i[i];
        if (room < 0) {
            return gd_op_fail_shapes(ST_ERR_SHAPE, op, x, NULL, "the window is larger than the padded image");
        }
        out->shape[2 + i] = room / attrs->i[2 + i] + 1;
    }
    return ST_OK;
}

/* dx of the image size in i6,7, from dy, which must be what that size gives. */
static status_t pool_backward_infer(const char *op, const gd_tensor_t *dy, const gd_attrs_t *attrs, gd_meta_t *out)
{
    status_t status = attrs_check(op, attrs);
    if (status != ST_OK) {
        return status;
    }
    if (dy->n_dims != 4) {
        return gd_op_fail_shapes(ST_ERR_SHAPE, op, dy, NULL, "[B,C,OH,OW] is needed");
    }
    gd_meta_set(out, dy->dtype, 4, dy->shape);
    for (int i = 0; i < 2; i++) {
        const int64_t size = attrs->i[6 + i];
        const int64_t room = size + 2 * attrs->i[4 + i] - attrs->i[i];
        if (size < 1 || size > INT16_MAX || room < 0 || dy->shape[2 + i] != room / attrs->i[2 + i] + 1) {
            return gd_op_fail_shapes(ST_ERR_SHAPE, op, dy, NULL, "dy isn't the size that the image gives");
        }
        out->shape[2 + i] = size;
    }
    return ST_OK;
}

static gd_attrs_t backward_attrs(const gd_node_t *node)
{
    gd_attrs_t attrs = node->attrs;
    attrs.i[6] = node->in_meta[0].shape[2];
    attrs.i[7] = node->in_meta[0].shape[3];
    return attrs;
}

static status_t max_pool2d_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    (void)n_in;
    status_t status = pool_infer("max_pool2d", in[0], attrs, &out[0]);
    if (status == ST_OK) {
        gd_meta_set(&out[1], GD_DTYPE_I32, 4, out[0].shape);
    }
    return status;
}

static status_t max_pool2d_gradient(gd_node_t *node, gd_tensor_t *dy, gd_tensor_t **dx)
{
    gd_tensor_t *in[2] = {dy, node->out[1]};
    const gd_attrs_t attrs = backward_attrs(node);
    return gd_op_apply(GD_OP_MAX_POOL2D_BACKWARD, in, 2, &attrs, dx);
}

const gd_op_t gd_op_max_pool2d = {
    .name = "max_pool2d",
    .formula = "y[b,c,i,j] = max over the window of x[b,c,:,:]; also its position in the plane (i32)",
    .attrs = POOL_ATTRS,
    .n_in = 1,
    .n_in_required = 1,
    .n_out = 2,
    .dtypes = OPS_DTYPES_FLOAT,
    .saves = GD_SAVE_OUTPUTS,
    .contiguous_in = 1,
    .infer = max_pool2d_infer,
    .backward = max_pool2d_gradient,
    .onnx = "MaxPool",
    .sample = {{.in = {{4, {2, 3, 4, 6}}}, .n_in = 1, .attrs = {.i = {2, 2, 2, 2, 0, 0}}},
               {.in = {{4, {2, 2, 4, 11}}}, .n_in = 1, .attrs = {.i = {2, 2, 2, 2, 0, 0}}},
               {.in = {{4, {1, 5, 7, 37}}}, .n_in = 1, .attrs = {.i = {2, 2, 2, 2, 0, 0}}},
               {.in = {{4, {2, 2, 5, 7}}}, .n_in = 1, .attrs = {.i = {3, 3, 2, 2, 1, 1}}},
               {.in = {{4, {1, 2, 6, 5}}}, .n_in = 1, .attrs = {.i = {3, 2, 1, 3, 0, 1}}},
               {.in = {{4, {0, 3, 4, 6}}}, .n_in = 1, .attrs = {.i = {2, 2, 2, 2, 0, 0}}},
               {.in = {{4, {2, 3, 1, 6}}}, .n_in = 1, .attrs = {.i = {2, 2, 2, 2, 0, 0}}, .expect = ST_ERR_SHAPE},
               {.in = {{3, {3, 4, 6}}}, .n_in = 1, .attrs = {.i = {2, 2, 2, 2, 0, 0}}, .expect = ST_ERR_SHAPE},
               {.in = {{4, {2, 3, 4, 6}}}, .n_in = 1, .attrs = {.i = {2, 2, 0, 2, 0, 0}}, .expect = ST_ERR_RANGE},
               {.in = {{4, {2, 3, 4, 6}}}, .n_in = 1, .attrs = {.i = {2, 2, 2, 2, 2, 0}}, .expect = ST_ERR_RANGE}},
};

static status_t max_pool2d_backward_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    (void)n_in;
    if (in[1]->dtype != GD_DTYPE_I32) {
        return ST_FAIL(ST_ERR_DTYPE, "max_pool2d_backward: positions are %s, i32 is needed",
                       gd_dtype_name(in[1]->dtype));
    }
    if (!gd_shape_equal(in[0]->n_dims, in[0]->shape, in[1]->n_dims, in[1]->shape)) {
        return gd_op_fail_shapes(ST_ERR_SHAPE, "max_pool2d_backward", in[0], in[1], "shapes must be equal");
    }
    return pool_backward_infer("max_pool2d_backward", in[0], attrs, out);
}

#define POSITIONS(limit_x) .dtype = GD_DTYPE_I32, .int_limit = (limit_x), .no_grad = true

const gd_op_t gd_op_max_pool2d_backward = {
    .name = "max_pool2d_backward",
    .formula = "dx[b,c,position[b,c,i,j]] += dy[b,c,i,j]",
    .attrs = POOL_ATTRS "; i6,7 image size",
    .n_in = 2,
    .n_in_required = 2,
    .n_out = 1,
    .dtypes = OPS_DTYPES_FLOAT,
    .contiguous_in = 3,
    .infer = max_pool2d_backward_infer,
    .sample = {{.in = {{4, {2, 3, 2, 3}}, {4, {2, 3, 2, 3}, POSITIONS(24)}},
                .n_in = 2,
                .attrs = {.i = {2, 2, 2, 2, 0, 0, 4, 6}}},
               {.in = {{4, {1, 5, 3, 3}}, {4, {1, 5, 3, 3}, POSITIONS(4)}},
                .n_in = 2,
                .attrs = {.i = {3, 3, 2, 2, 1, 1, 6, 5}}},
               {.in = {{4, {2, 3, 2, 3}}, {4, {2, 3, 2, 3}, POSITIONS(1000)}},
                .n_in = 2,
                .attrs = {.i = {2, 2, 2, 2, 0, 0, 4, 6}},
                .expect = ST_ERR_DATA},
               {.in = {{4, {2, 3, 2, 3}}, {4, {2, 3, 2, 2}, POSITIONS(24)}},
                .n_in = 2,
                .attrs = {.i = {2, 2, 2, 2, 0, 0, 4, 6}},
                .expect = ST_ERR_SHAPE},
               {.in = {{4, {2, 3, 3, 3}}, {4, {2, 3, 3, 3}, POSITIONS(24)}},
                .n_in = 2,
                .attrs = {.i = {2, 2, 2, 2, 0, 0, 4, 6}},
                .expect = ST_ERR_SHAPE}},
};

static status_t avg_pool2d_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    (void)n_in;
    return pool_infer("avg_pool2d", in[0], attrs, out);
}

static status_t avg_pool2d_gradient(gd_node_t *node, gd_tensor_t *dy, gd_tensor_t **dx)
{
    const gd_attrs_t attrs = backward_attrs(node);
    return gd_op_apply(GD_OP_AVG_POOL2D_BACKWARD, &dy, 1, &attrs, dx);
}

const gd_op_t gd_op_avg_pool2d = {
    .name = "avg_pool2d",
    .formula = "y[b,c,i,j] = (sum over the window of x[b,c,:,:]) / (KH KW)",
    .attrs = POOL_ATTRS,
    .n_in = 1,
    .n_in_required = 1,
    .n_out = 1,
    .dtypes = OPS_DTYPES_FLOAT,
    .contiguous_in = 1,
    .infer = avg_pool2d_infer,
    .backward = avg_pool2d_gradient,
    .onnx = "AveragePool",
    .sample = {{.in = {{4, {2, 3, 4, 6}}}, .n_in = 1, .attrs = {.i = {2, 2, 2, 2, 0, 0}}},
               {.in = {{4, {2, 2, 5, 7}}}, .n_in = 1, .attrs = {.i = {3, 3, 2, 2, 1, 1}}},
               {.in = {{4, {1, 2, 6, 5}}}, .n_in = 1, .attrs = {.i = {6, 5, 1, 1, 0, 0}}},
               {.in = {{4, {2, 0, 4, 6}}}, .n_in = 1, .attrs = {.i = {2, 2, 2, 2, 0, 0}}},
               {.in = {{4, {2, 3, 1, 6}}}, .n_in = 1, .attrs = {.i = {2, 2, 2, 2, 0, 0}}, .expect = ST_ERR_SHAPE}},
};

static status_t avg_pool2d_backward_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    (void)n_in;
    return pool_backward_infer("avg_pool2d_backward", in[0], attrs, out);
}

const gd_op_t gd_op_avg_pool2d_backward = {
    .name = "avg_pool2d_backward",
    .formula = "dx[b,c,k,l] = sum over the windows (i,j) that hold (k,l) of dy[b,c,i,j] / (KH KW)",
    .attrs = POOL_ATTRS "; i6,7 image size",
    .n_in = 1,
    .n_in_required = 1,
    .n_out = 1,
    .dtypes = OPS_DTYPES_FLOAT,
    .contiguous_in = 1,
    .infer = avg_pool2d_backward_infer,
    .sample =
        {{.in = {{4, {2, 3, 2, 3}}}, .n_in = 1, .attrs = {.i = {2, 2, 2, 2, 0, 0, 4, 6}}},
         {.in = {{4, {2, 2, 3, 4}}}, .n_in = 1, .attrs = {.i = {3, 3, 2, 2, 1, 1, 5, 7}}},
         {.in = {{4, {2, 3, 3, 3}}}, .n_in = 1, .attrs = {.i = {2, 2, 2, 2, 0, 0, 4, 6}}, .expect = ST_ERR_SHAPE}},
};

static gd_attrs_t options_attrs(const gd_pool2d_options_t *o)
{
    gd_attrs_t attrs = {.i = {0}};
    for (int i = 0; i < 2; i++) {
        attrs.i[i] = o->kernel[i];
        attrs.i[2 + i] = o->stride[i] != 0 ? o->stride[i] : o->kernel[i];
        attrs.i[4 + i] = o->padding[i];
    }
    return attrs;
}

status_t gd_max_pool2d(gd_tensor_t *x, const gd_pool2d_options_t *options, gd_tensor_t **y_p)
{
    gd_tensor_t *out[2] = {NULL};
    const gd_attrs_t attrs = options_attrs(options);
    status_t status = gd_op_apply(GD_OP_MAX_POOL2D, &x, 1, &attrs, out);
    if (status != ST_OK) {
        return status;
    }
    (void)gd_tensor_unref(out[1]);
    *y_p = out[0];
    return ST_OK;
}

status_t gd_avg_pool2d(gd_tensor_t *x, const gd_pool2d_options_t *options, gd_tensor_t **y_p)
{
    const gd_attrs_t attrs = options_attrs(options);
    return gd_op_apply(GD_OP_AVG_POOL2D, &x, 1, &attrs, y_p);
}
