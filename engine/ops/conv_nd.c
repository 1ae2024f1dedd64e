/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ops/conv_nd: 3-d convolution, transposed convolution in 2-d and 3-d (the gradient of a convolution for its input, as
 * an op: Dumoulin and Visin, 2016), and convolution over any number of axes out of these and conv2d.
 */
#include "ops/conv.h"

#define CONV_ATTRS "i0,1,2 stride of depth, height, width; i3,4,5 padding; i6,7,8 dilation; i9 groups"

enum { STRIDE = 0, PADDING = 3, DILATION = 6, GROUPS = 9, SIZE = 10, NO_BIAS = 13 };

/* Attribute of spatial axis `axis` (of n): the last ones are height and width. */
static int64_t attr_of(const gd_attrs_t *attrs, int first, int axis, int n)
{
    return attrs->i[first + 3 - n + axis];
}

/* What a convolution over `size` gives along an axis; below 1: the kernel is larger than the padded image. */
static int64_t size_out(const gd_attrs_t *attrs, int axis, int n, int64_t size, int64_t kernel)
{
    const int64_t room = size + 2 * attr_of(attrs, PADDING, axis, n) - attr_of(attrs, DILATION, axis, n) * (kernel - 1);
    return kernel < 1 || size < 0 || room < 1 ? 0 : (room - 1) / attr_of(attrs, STRIDE, axis, n) + 1;
}

/* x[B,C,…] and weight[O,C/groups,…] of a convolution with n spatial axes, bias[n_bias] or none. */
static status_t operands_check(const char *op, const gd_tensor_t *x, const gd_tensor_t *weight, const gd_tensor_t *bias,
                               int n, int64_t channels, int64_t n_bias)
{
    if (x->n_dims != n + 2 || weight->n_dims != n + 2) {
        return gd_op_fail_shapes(ST_ERR_SHAPE, op, x, weight, "x and weight need the same number of spatial axes");
    }
    if (x->shape[1] < 1 || x->shape[1] != channels) {
        return gd_op_fail_shapes(ST_ERR_SHAPE, op, x, weight, "the channels don't fit each other and the groups");
    }
    if (bias != NULL && (bias->n_dims != 1 || bias->shape[0] != n_bias)) {
        return gd_op_fail_shapes(ST_ERR_SHAPE, op, weight, bias, "bias must be [output channels]");
    }
    return ST_OK;
}

static status_t conv3d_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    const gd_tensor_t *x = in[0];
    const gd_tensor_t *weight = in[1];
    status_t status = gd_conv_check_call("conv3d", in, n_in, attrs, 3);
    if (status == ST_OK) {
        status = operands_check("conv3d", x, weight, n_in > 2 ? in[2] : NULL, 3, weight->shape[1] * attrs->i[GROUPS],
                                weight->shape[0]);
    }
    if (status == ST_OK && (weight->shape[0] < 1 || weight->shape[0] % attrs->i[GROUPS] != 0)) {
        status = gd_op_fail_shapes(ST_ERR_SHAPE, "conv3d", x, weight, "the groups don't divide the output channels");
    }
    if (status != ST_OK) {
        return status;
    }
    gd_meta_set(out, x->dtype, 5, x->shape);
    out->shape[1] = weight->shape[0];
    for (int d = 0; d < 3; d++) {
        out->shape[2 + d] = size_out(attrs, d, 3, x->shape[2 + d], weight->shape[2 + d]);
        if (out->shape[2 + d] < 1) {
            return gd_op_fail_shapes(ST_ERR_SHAPE, "conv3d", x, weight, "the kernel is larger than the padded volume");
        }
    }
    return ST_OK;
}

static void sizes_put(gd_attrs_t *attrs, const gd_meta_t *meta)
{
    for (int d = 0; d < meta->n_dims - 2; d++) {
        attrs->i[SIZE + 3 - (meta->n_dims - 2) + d] = meta->shape[2 + d];
    }
}

static status_t conv3d_gradient(gd_node_t *node, gd_tensor_t *dy, gd_tensor_t **dx)
{
    gd_attrs_t attrs = node->attrs;
    status_t status = ST_OK;
    if (node->needs[0]) {
        gd_tensor_t *in[2] = {dy, node->in[1]};
        sizes_put(&attrs, &node->in_meta[0]);
        status = gd_op_apply(GD_OP_CONV3D_BACKWARD_INPUT, in, 2, &attrs, &dx[0]);
    }
    const bool needs_bias = node->n_in > 2 && node->needs[2];
    if (status == ST_OK && (node->needs[1] || needs_bias)) {
        gd_tensor_t *in[2] = {dy, node->in[0]};
        gd_tensor_t *gradient[3] = {NULL};
        sizes_put(&attrs, &node->in_meta[1]);
        attrs.i[NO_BIAS] = !needs_bias;
        status = gd_op_apply(GD_OP_CONV3D_BACKWARD_WEIGHT, in, 2, &attrs, gradient + 1);
        if (status == ST_OK) {
            gradient[0] = dx[0];
            gd_node_hand_out(node, gradient, 3, dx);
        }
    }
    return status;
}

#define UNIT .attrs = {.i = {1, 1, 1, 0, 0, 0, 1, 1, 1, 1}}

const gd_op_t gd_op_conv3d = {
    .name = "conv3d",
    .formula = "y[b,o,h,i,j] = bias[o] + sum_{c,m,k,l} weight[o,c,m,k,l] x[b,c',h s + m d - p, i s + k d - p, …]",
    .attrs = CONV_ATTRS,
    .n_in = 3,
    .n_in_required = 2,
    .n_out = 1,
    .dtypes = OPS_DTYPES_FLOAT,
    .by_conversion = OPS_DTYPES_HALF,
    .saves = GD_SAVE_INPUTS_FOR_OTHERS,
    .autocast = GD_AUTOCAST_LOWER,
    .contiguous_in = 7,
    .infer = conv3d_infer,
    .backward = conv3d_gradient,
    .onnx = "Conv",
    .sample = {{.in = {{5, {2, 2, 3, 4, 5}}, {5, {3, 2, 2, 3, 3}}, {1, {3}}}, .n_in = 3, UNIT},
               {.in = {{5, {1, 4, 4, 5, 6}}, {5, {6, 2, 2, 3, 2}}, {1, {6}}},
                .n_in = 3,
                .attrs = {.i = {2, 1, 2, 1, 0, 1, 1, 2, 1, 2}}},
               {.in = {{5, {1, 3, 2, 3, 3}}, {5, {5, 3, 1, 1, 1}}}, .n_in = 2, UNIT},
               {.in = {{5, {0, 2, 3, 4, 5}}, {5, {3, 2, 2, 3, 3}}}, .n_in = 2, UNIT},
               {.in = {{5, {1, 2, 3, 4, 5}}, {5, {3, 3, 2, 3, 3}}}, .n_in = 2, UNIT, .expect = ST_ERR_SHAPE},
               {.in = {{5, {1, 2, 1, 4, 5}}, {5, {3, 2, 2, 3, 3}}}, .n_in = 2, UNIT, .expect = ST_ERR_SHAPE},
               {.in = {{4, {2, 3, 4, 5}}, {5, {3, 2, 2, 3, 3}}}, .n_in = 2, UNIT, .expect = ST_ERR_SHAPE},
               {.in = {{5, {1, 2, 3, 4, 5}}, {5, {3, 2, 2, 3, 3}}}, .n_in = 2, .expect = ST_ERR_RANGE}},
};

static status_t conv3d_backward_input_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    const char *op = "conv3d_backward_input";
    const gd_tensor_t *dy = in[0];
    const gd_tensor_t *weight = in[1];
    status_t status = gd_conv_check_call(op, in, n_in, attrs, 3);
    if (status == ST_OK) {
        status = operands_check(op, dy, weight, NULL, 3, weight->shape[0], 0);
    }
    for (int d = 0; d < 3 && status == ST_OK; d++) {
        if (size_out(attrs, d, 3, attrs->i[SIZE + d], weight->shape[2 + d]) != dy->shape[2 + d]) {
            status = gd_op_fail_shapes(ST_ERR_SHAPE, op, dy, weight, "dy isn't the size that volume and kernel give");
        }
    }
    if (status == ST_OK && weight->shape[0] % attrs->i[GROUPS] != 0) {
        status = gd_op_fail_shapes(ST_ERR_SHAPE, op, dy, weight, "the groups don't divide the output channels");
    }
    if (status == ST_OK) {
        const int64_t shape[5] = {dy->shape[0], weight->shape[1] * attrs->i[GROUPS], attrs->i[SIZE], attrs->i[SIZE + 1],
                                  attrs->i[SIZE + 2]};
        gd_meta_set(out, dy->dtype, 5, shape);
    }
    return status;
}

const gd_op_t gd_op_conv3d_backward_input = {
    .name = "conv3d_backward_input",
    .formula = "dx = the adjoint of conv3d in x, applied to dy",
    .attrs = CONV_ATTRS "; i10,11,12 size of x",
    .n_in = 2,
    .n_in_required = 2,
    .n_out = 1,
    .dtypes = OPS_DTYPES_FLOAT,
    .by_conversion = OPS_DTYPES_HALF,
    .contiguous_in = 3,
    .infer = conv3d_backward_input_infer,
    .sample = {{.in = {{5, {2, 3, 2, 2, 3}}, {5, {3, 2, 2, 3, 3}}},
                .n_in = 2,
                .attrs = {.i = {1, 1, 1, 0, 0, 0, 1, 1, 1, 1, 3, 4, 5}}},
               {.in = {{5, {1, 6, 3, 1, 4}}, {5, {6, 2, 2, 3, 2}}},
                .n_in = 2,
                .attrs = {.i = {2, 1, 2, 1, 0, 1, 1, 2, 1, 2, 4, 5, 6}}},
               {.in = {{5, {2, 3, 2, 2, 3}}, {5, {3, 2, 2, 3, 3}}},
                .n_in = 2,
                .attrs = {.i = {1, 1, 1, 0, 0, 0, 1, 1, 1, 1, 3, 4, 6}},
                .expect = ST_ERR_SHAPE},
               {.in = {{5, {2, 4, 2, 2, 3}}, {5, {3, 2, 2, 3, 3}}},
                .n_in = 2,
                .attrs = {.i = {1, 1, 1, 0, 0, 0, 1, 1, 1, 1, 3, 4, 5}},
                .expect = ST_ERR_SHAPE}},
};

static status_t conv3d_backward_weight_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    const char *op = "conv3d_backward_weight";
    const gd_tensor_t *dy = in[0];
    const gd_tensor_t *x = in[1];
    status_t status = gd_conv_check_call(op, in, n_in, attrs, 3);
    if (status != ST_OK) {
        return status;
    }
    bool is_fit = dy->n_dims == 5 && x->n_dims == 5 && dy->shape[0] == x->shape[0] && x->shape[1] > 0 &&
                  dy->shape[1] > 0 && x->shape[1] % attrs->i[GROUPS] == 0 && dy->shape[1] % attrs->i[GROUPS] == 0;
    for (int d = 0; d < 3 && is_fit; d++) {
        is_fit = attrs->i[SIZE + d] <= CONV_MOST_STEP &&
                 size_out(attrs, d, 3, x->shape[2 + d], attrs->i[SIZE + d]) == dy->shape[2 + d];
    }
    if (!is_fit) {
        return gd_op_fail_shapes(ST_ERR_SHAPE, op, dy, x, "batch, channels or sizes don't fit the kernel");
    }
    const int64_t shape[5] = {dy->shape[1], x->shape[1] / attrs->i[GROUPS], attrs->i[SIZE], attrs->i[SIZE + 1],
                              attrs->i[SIZE + 2]};
    gd_meta_set(&out[0], dy->dtype, 5, shape);
    gd_meta_set(&out[1], dy->dtype, 1, shape);
    return ST_OK;
}

const gd_op_t gd_op_conv3d_backward_weight = {
    .name = "conv3d_backward_weight",
    .formula = "dweight = the adjoint of conv3d in weight, applied to dy; dbias[o] = sum dy[:,o,…]",
    .attrs = CONV_ATTRS "; i10,11,12 size of the kernel; i13 dbias isn't wanted, it is zero",
    .n_in = 2,
    .n_in_required = 2,
    .n_out = 2,
    .dtypes = OPS_DTYPES_FLOAT,
    .by_conversion = OPS_DTYPES_HALF,
    .contiguous_in = 3,
    .infer = conv3d_backward_weight_infer,
    .sample = {{.in = {{5, {2, 3, 2, 2, 3}}, {5, {2, 2, 3, 4, 5}}},
                .n_in = 2,
                .attrs = {.i = {1, 1, 1, 0, 0, 0, 1, 1, 1, 1, 2, 3, 3}}},
               {.in = {{5, {1, 6, 3, 1, 4}}, {5, {1, 4, 4, 5, 6}}},
                .n_in = 2,
                .attrs = {.i = {2, 1, 2, 1, 0, 1, 1, 2, 1, 2, 2, 3, 2, 1}}},
               {.in = {{5, {2, 3, 2, 2, 3}}, {5, {1, 2, 3, 4, 5}}},
                .n_in = 2,
                .attrs = {.i = {1, 1, 1, 0, 0, 0, 1, 1, 1, 1, 2, 3, 3}},
                .expect = ST_ERR_SHAPE}},
};

/* x[B,C,…], weight[C,O/groups,…] → y[B,O, i10,11,12]: a convolution of y with this weight has x's size. */
static status_t conv_transpose_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    const char *op = "conv_transpose";
    const gd_tensor_t *x = in[0];
    const gd_tensor_t *weight = in[1];
    const int n = x->n_dims - 2;
    status_t status = gd_conv_check_call(op, in, n_in, attrs, 3);
    if (status == ST_OK && (n < 2 || n > 3)) {
        status = gd_op_fail_shapes(ST_ERR_SHAPE, op, x, weight, "x[B,C,H,W] or [B,C,D,H,W] is needed");
    }
    if (status == ST_OK) {
        status = operands_check(op, x, weight, n_in > 2 ? in[2] : NULL, n, weight->shape[0],
                                weight->n_dims > 1 ? weight->shape[1] * attrs->i[GROUPS] : 0);
    }
    if (status == ST_OK && (weight->shape[1] < 1 || weight->shape[0] % attrs->i[GROUPS] != 0)) {
        status = gd_op_fail_shapes(ST_ERR_SHAPE, op, x, weight, "the groups don't divide the channels");
    }
    if (status != ST_OK) {
        return status;
    }
    gd_meta_set(out, x->dtype, x->n_dims, x->shape);
    out->shape[1] = weight->shape[1] * attrs->i[GROUPS];
    for (int d = 0; d < n; d++) {
        out->shape[2 + d] = attr_of(attrs, SIZE, d, n);
        if (size_out(attrs, d, n, out->shape[2 + d], weight->shape[2 + d]) != x->shape[2 + d]) {
            return gd_op_fail_shapes(ST_ERR_SHAPE, op, x, weight,
                                     "no convolution of the wanted size has x's: see stride and output padding");
        }
    }
    return ST_OK;
}

/* Strides, paddings, dilations and groups as conv2d has them. */
static gd_attrs_t attrs_2d(const gd_attrs_t *attrs)
{
    gd_attrs_t two = {.i = {[6] = attrs->i[GROUPS]}};
    for (int i = 0; i < 2; i++) {
        two.i[i] = attrs->i[STRIDE + 1 + i];
        two.i[2 + i] = attrs->i[PADDING + 1 + i];
        two.i[4 + i] = attrs->i[DILATION + 1 + i];
    }
    return two;
}

/* The same for conv2d's gradient for its weight, of an image dy; no dbias is wanted. */
static gd_attrs_t attrs_2d_weight(const gd_attrs_t *attrs, const gd_tensor_t *dy, const gd_meta_t *weight)
{
    gd_attrs_t two = attrs_2d(attrs);
    for (int i = 0; i < 2; i++) {
        two.i[7 + i] = dy->shape[2 + i];
        two.i[9 + i] = weight->shape[2 + i];
    }
    two.i[11] = 1;
    return two;
}

/* dx = the convolution of dy, dweight = that convolution's weight gradient with dy as the image, dbias = sum of dy */
static status_t conv_transpose_gradient(gd_node_t *node, gd_tensor_t *dy, gd_tensor_t **dx)
{
    const bool is_3d = node->in_meta[0].n_dims == 5;
    gd_attrs_t attrs = is_3d ? node->attrs : attrs_2d_weight(&node->attrs, dy, &node->in_meta[1]);
    status_t status = ST_OK;
    if (node->needs[0]) {
        gd_tensor_t *in[2] = {dy, node->in[1]};
        status = gd_op_apply(is_3d ? GD_OP_CONV3D : GD_OP_CONV2D, in, 2, &attrs, &dx[0]);
    }
    if (status == ST_OK && node->needs[1]) {
        gd_tensor_t *in[2] = {node->in[0], dy};
        gd_tensor_t *gradient[2] = {NULL};
        if (is_3d) {
            sizes_put(&attrs, &node->in_meta[1]);
            attrs.i[NO_BIAS] = 1;
        }
        status =
            gd_op_apply(is_3d ? GD_OP_CONV3D_BACKWARD_WEIGHT : GD_OP_CONV2D_BACKWARD_WEIGHT, in, 2, &attrs, gradient);
        dx[1] = gradient[0];
        (void)gd_tensor_unref(gradient[1]);
    }
    if (status == ST_OK && node->n_in > 2 && node->needs[2]) {
        static const int axes[4] = {0, 2, 3, 4};
        status = gd_sum(dy, is_3d ? 4 : 3, axes, false, &dx[2]);
    }
    return status;
}

const gd_op_t gd_op_conv_transpose = {
    .name = "conv_transpose",
    .formula = "y[b,o,…] = bias[o] + the adjoint of a convolution with this weight, applied to x",
    .attrs = CONV_ATTRS "; i10,11,12 size of y",
    .n_in = 3,
    .n_in_required = 2,
    .n_out = 1,
    .dtypes = OPS_DTYPES_FLOAT,
    .by_conversion = OPS_DTYPES_HALF,
    .saves = GD_SAVE_INPUTS_FOR_OTHERS,
    .autocast = GD_AUTOCAST_LOWER,
    .contiguous_in = 7,
    .infer = conv_transpose_infer,
    .backward = conv_transpose_gradient,
    .onnx = "ConvTranspose",
    .sample = {{.in = {{4, {2, 4, 3, 4}}, {4, {4, 3, 2, 2}}, {1, {3}}},
                .n_in = 3,
                .attrs = {.i = {1, 2, 2, 0, 0, 0, 1, 1, 1, 1, 1, 6, 8}}},
               {.in = {{4, {1, 4, 3, 4}}, {4, {4, 3, 3, 2}}, {1, {6}}},
                .n_in = 3,
                .attrs = {.i = {1, 2, 3, 0, 1, 0, 1, 1, 2, 2, 1, 6, 12}}},
               {.in = {{5, {1, 2, 2, 3, 2}}, {5, {2, 3, 2, 2, 3}}, {1, {3}}},
                .n_in = 3,
                .attrs = {.i = {2, 1, 1, 0, 0, 1, 1, 1, 1, 1, 4, 4, 2}}},
               {.in = {{4, {0, 4, 3, 4}}, {4, {4, 3, 2, 2}}},
                .n_in = 2,
                .attrs = {.i = {1, 2, 2, 0, 0, 0, 1, 1, 1, 1, 1, 6, 8}}},
               {.in = {{4, {2, 4, 3, 4}}, {4, {4, 3, 2, 2}}},
                .n_in = 2,
                .attrs = {.i = {1, 2, 2, 0, 0, 0, 1, 1, 1, 1, 1, 8, 8}},
                .expect = ST_ERR_SHAPE},
               {.in = {{4, {2, 4, 3, 4}}, {4, {3, 4, 2, 2}}},
                .n_in = 2,
                .attrs = {.i = {1, 2, 2, 0, 0, 0, 1, 1, 1, 1, 1, 6, 8}},
                .expect = ST_ERR_SHAPE},
               {.in = {{3, {2, 4, 3}}, {3, {4, 3, 2}}},
                .n_in = 2,
                .attrs = {.i = {1, 1, 1, 0, 0, 0, 1, 1, 1, 1}},
                .expect = ST_ERR_SHAPE},
               {.in = {{4, {2, 4, 3, 4}}, {4, {4, 3, 2, 2}}}, .n_in = 2, .expect = ST_ERR_RANGE}},
};

/* ---- over any number of axes ---- */

/* Strides, paddings, dilations of n axes and the groups; zeros are defaults. */
static gd_attrs_t options_attrs(const gd_conv_options_t *o, int n)
{
    gd_attrs_t attrs = {.i = {1, 1, 1, 0, 0, 0, 1, 1, 1}};
    for (int d = 0; d < n; d++) {
        attrs.i[STRIDE + 3 - n + d] = o->stride[d] != 0 ? o->stride[d] : 1;
        attrs.i[PADDING + 3 - n + d] = o->padding[d];
        attrs.i[DILATION + 3 - n + d] = o->dilation[d] != 0 ? o->dilation[d] : 1;
    }
    attrs.i[GROUPS] = o->groups != 0 ? o->groups : 1;
    return attrs;
}

typedef status_t (*conv_func_t)(gd_tensor_t *x, gd_tensor_t *weight, gd_tensor_t *bias, const gd_attrs_t *attrs,
                                gd_tensor_t **y_p);

/* One axis as an image of height 1. */
static status_t one_axis(conv_func_t conv, gd_tensor_t *x, gd_tensor_t *weight, gd_tensor_t *bias,
                         const gd_attrs_t *attrs, gd_tensor_t **y_p)
{
    gd_tensor_t *image = NULL;
    gd_tensor_t *kernel = NULL;
    gd_tensor_t *y = NULL;
    status_t status = gd_unsqueeze(x, 2, &image);
    if (status == ST_OK) {
        status = gd_unsqueeze(weight, 2, &kernel);
    }
    if (status == ST_OK) {
        status = conv(image, kernel, bias, attrs, &y);
    }
    if (status == ST_OK) {
        status = gd_squeeze(y, 2, y_p);
    }
    (void)gd_tensor_unref(image);
    (void)gd_tensor_unref(kernel);
    (void)gd_tensor_unref(y);
    return status;
}

static status_t conv_apply(gd_tensor_t *x, gd_tensor_t *weight, gd_tensor_t *bias, const gd_attrs_t *attrs,
                           gd_tensor_t **y_p)
{
    gd_tensor_t *in[3] = {x, weight, bias};
    if (x->n_dims == 5) {
        return gd_op_apply(GD_OP_CONV3D, in, 3, attrs, y_p);
    }
    const gd_attrs_t two = attrs_2d(attrs);
    return gd_op_apply(GD_OP_CONV2D, in, 3, &two, y_p);
}

static status_t ranks_check(const char *op, const gd_tensor_t *x, const gd_tensor_t *weight)
{
    if (x->n_dims < 3 || x->n_dims > 5 || weight->n_dims != x->n_dims) {
        return gd_op_fail_shapes(ST_ERR_SHAPE, op, x, weight,
                                 "x[B,C,…] with one to three spatial axes is needed, and a weight with as many");
    }
    return ST_OK;
}

status_t gd_conv(gd_tensor_t *x, gd_tensor_t *weight, gd_tensor_t *bias, const gd_conv_options_t *options,
                 gd_tensor_t **y_p)
{
    const gd_conv_options_t none = {.groups = 0};
    status_t status = ranks_check("conv", x, weight);
    if (status != ST_OK) {
        return status;
    }
    const gd_attrs_t attrs = options_attrs(options != NULL ? options : &none, x->n_dims - 2);
    return x->n_dims == 3 ? one_axis(conv_apply, x, weight, bias, &attrs, y_p)
                          : conv_apply(x, weight, bias, &attrs, y_p);
}

static status_t conv_transpose_apply(gd_tensor_t *x, gd_tensor_t *weight, gd_tensor_t *bias, const gd_attrs_t *attrs,
                                     gd_tensor_t **y_p)
{
    gd_tensor_t *in[3] = {x, weight, bias};
    return gd_op_apply(GD_OP_CONV_TRANSPOSE, in, 3, attrs, y_p);
}

/*
 * y's sizes, into attrs, and how many more outputs than x has a convolution of y would give: output padding of a
 * stride or more makes room for them. The kernel reaches y from them too, so x gets as many zeros.
 */
static status_t transpose_sizes(const gd_tensor_t *x, const gd_tensor_t *weight, const gd_conv_options_t *o,
                                gd_attrs_t *attrs, int64_t *surplus, bool *has_surplus_p)
{
    const int n = x->n_dims - 2;
    attrs->i[SIZE] = attrs->i[SIZE + 1] = attrs->i[SIZE + 2] = 1;
    for (int d = 0; d < n; d++) {
        const int64_t stride = attr_of(attrs, STRIDE, d, n);
        const int64_t dilation = attr_of(attrs, DILATION, d, n);
        const int64_t most = stride > dilation ? stride : dilation;
        if (o->output_padding[d] < 0 || o->output_padding[d] >= most) {
            return ST_FAIL(ST_ERR_RANGE,
                           "conv_transpose: output padding %d of spatial axis %d must be below the larger of stride "
                           "%lld and dilation %lld, and not negative",
                           o->output_padding[d], d, (long long)stride, (long long)dilation);
        }
        const int64_t size = (x->shape[2 + d] - 1) * stride - 2 * attr_of(attrs, PADDING, d, n) +
                             dilation * (weight->shape[2 + d] - 1) + 1 + o->output_padding[d];
        if (size < 1) {
            return gd_op_fail_shapes(ST_ERR_SHAPE, "conv_transpose", x, weight, "the padding leaves nothing of y");
        }
        attrs->i[SIZE + 3 - n + d] = size;
        surplus[d] = x->shape[2 + d] > 0 ? size_out(attrs, d, n, size, weight->shape[2 + d]) - x->shape[2 + d] : 0;
        surplus[d] = surplus[d] > 0 ? surplus[d] : 0;
        *has_surplus_p = *has_surplus_p || surplus[d] > 0;
    }
    return ST_OK;
}

status_t gd_conv_transpose(gd_tensor_t *x, gd_tensor_t *weight, gd_tensor_t *bias, const gd_conv_options_t *options,
                           gd_tensor_t **y_p)
{
    const gd_conv_options_t none = {.groups = 0};
    const gd_conv_options_t *o = options != NULL ? options : &none;
    status_t status = ranks_check("conv_transpose", x, weight);
    if (status != ST_OK) {
        return status;
    }
    const int n = x->n_dims - 2;
    const int64_t before[3] = {0};
    int64_t surplus[3] = {0};
    bool has_surplus = false;
    gd_tensor_t *padded = NULL;
    gd_attrs_t attrs = options_attrs(o, n);
    status = gd_conv_check_attrs("conv_transpose", &attrs, 3);
    if (status == ST_OK) {
        status = transpose_sizes(x, weight, o, &attrs, surplus, &has_surplus);
    }
    if (status == ST_OK && has_surplus) {
        status = gd_pad_with(x, n, before, surplus, GD_PAD_CONSTANT, 0, &padded);
    }
    if (status == ST_OK) {
        gd_tensor_t *in = padded != NULL ? padded : x;
        status = n == 1 ? one_axis(conv_transpose_apply, in, weight, bias, &attrs, y_p)
                        : conv_transpose_apply(in, weight, bias, &attrs, y_p);
    }
    (void)gd_tensor_unref(padded);
    return status;
}
