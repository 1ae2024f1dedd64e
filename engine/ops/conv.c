/* SPDX-License-Identifier: Apache-2.0 */
/* ops/conv: 2-d convolution with groups, stride, padding and dilation, in PyTorch's layouts. */
#include "ops/conv.h"

#define CONV_ATTRS "i0,1 stride; i2,3 padding; i4,5 dilation; i6 groups"

status_t gd_conv_check_attrs(const char *op, const gd_attrs_t *attrs, int n)
{
    static const char *const names[3] = {"stride", "padding", "dilation"};
    for (int i = 0; i < 3 * n; i++) {
        const int64_t least = i / n == 1 ? 0 : 1;
        if (attrs->i[i] < least || attrs->i[i] > CONV_MOST_STEP) {
            return ST_FAIL(ST_ERR_RANGE, "%s: %s %lld is outside %lld … %d", op, names[i / n], (long long)attrs->i[i],
                           (long long)least, CONV_MOST_STEP);
        }
    }
    if (attrs->i[3 * n] < 1) {
        return ST_FAIL(ST_ERR_RANGE, "%s: %lld groups", op, (long long)attrs->i[3 * n]);
    }
    return ST_OK;
}

status_t gd_conv_check_call(const char *op, gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, int n)
{
    status_t status = gd_conv_check_attrs(op, attrs, n);
    return status == ST_OK ? gd_op_check_dtypes(op, in, n_in) : status;
}

/* Output sizes of x[B,C,H,W] under weight[O,C/groups,KH,KW]. */
static status_t sizes_get(const char *op, const gd_tensor_t *x, const gd_tensor_t *weight, const int64_t *weight_shape,
                          const gd_attrs_t *attrs, int64_t size_p[2])
{
    for (int i = 0; i < 2; i++) {
        const int64_t reach = attrs->i[4 + i] * (weight_shape[2 + i] - 1) + 1;
        const int64_t room = x->shape[2 + i] + 2 * attrs->i[2 + i] - reach;
        if (weight_shape[2 + i] < 1 || room < 0) {
            return gd_op_fail_shapes(ST_ERR_SHAPE, op, x, weight, "the kernel is larger than the padded image");
        }
        size_p[i] = room / attrs->i[i] + 1;
    }
    return ST_OK;
}

extern const gd_op_t gd_op_conv2d;

static status_t conv2d_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    const gd_tensor_t *x = in[0];
    const gd_tensor_t *weight = in[1];
    const gd_tensor_t *bias = n_in > 2 ? in[2] : NULL;
    status_t status = gd_conv_check_attrs("conv2d", attrs, 2);
    if (status == ST_OK) {
        status = gd_op_check_mixed(&gd_op_conv2d, in, n_in);
    }
    if (status != ST_OK) {
        return status;
    }
    if (x->n_dims != 4 || weight->n_dims != 4) {
        return gd_op_fail_shapes(ST_ERR_SHAPE, "conv2d", x, weight,
                                 "x[B,C,H,W] and weight[O,C/groups,KH,KW] are needed");
    }
    if (weight->shape[0] < 1 || x->shape[1] < 1 || x->shape[1] % attrs->i[6] != 0 ||
        weight->shape[1] != x->shape[1] / attrs->i[6] || weight->shape[0] % attrs->i[6] != 0) {
        return gd_op_fail_shapes(ST_ERR_SHAPE, "conv2d", x, weight, "the channels don't fit each other and the groups");
    }
    if (bias != NULL && (bias->n_dims != 1 || bias->shape[0] != weight->shape[0])) {
        return gd_op_fail_shapes(ST_ERR_SHAPE, "conv2d", weight, bias, "bias must be [output channels]");
    }
    int64_t size[2] = {0, 0};
    status = sizes_get("conv2d", x, weight, weight->shape, attrs, size);
    if (status == ST_OK) {
        gd_meta_set(out, x->dtype, 4, (const int64_t[4]){x->shape[0], weight->shape[0], size[0], size[1]});
    }
    return status;
}

/* The sizes of the image (i7,8) and of the kernel (i9,10) travel as attributes: backward's inputs don't show both. */
static status_t conv2d_gradient(gd_node_t *node, gd_tensor_t *dy, gd_tensor_t **dx)
{
    gd_attrs_t attrs = node->attrs;
    for (int i = 0; i < 2; i++) {
        attrs.i[7 + i] = node->in_meta[0].shape[2 + i];
        attrs.i[9 + i] = node->in_meta[1].shape[2 + i];
    }
    status_t status = ST_OK;
    if (node->needs[0]) {
        gd_tensor_t *in[2] = {dy, node->in[1]};
        status = gd_op_apply(GD_OP_CONV2D_BACKWARD_INPUT, in, 2, &attrs, &dx[0]);
    }
    const bool needs_bias = node->n_in > 2 && node->needs[2];
    if (status == ST_OK && (node->needs[1] || needs_bias)) {
        gd_tensor_t *in[2] = {dy, node->in[0]};
        gd_tensor_t *gradient[3] = {NULL};
        attrs.i[11] = !needs_bias;
        attrs.i[12] = dy->dtype != node->grad_dtype[1] ? gd_attr_of_dtype(node->grad_dtype[1]) : 0;
        if (!needs_bias && node->into[1] != NULL && !node->into_accumulates[1]) {
            status = gd_op_apply_into(GD_OP_CONV2D_BACKWARD_WEIGHT, in, 2, &attrs, node->into[1]);
            node->is_written[1] = status == ST_OK;
            return status;
        }
        status = gd_op_apply(GD_OP_CONV2D_BACKWARD_WEIGHT, in, 2, &attrs, gradient + 1);
        if (status == ST_OK) {
            gradient[0] = dx[0];
            gd_node_hand_out(node, gradient, 3, dx);
        }
    }
    return status;
}

#define UNIT .attrs = {.i = {1, 1, 0, 0, 1, 1, 1}}
#define PADDED .attrs = {.i = {1, 1, 1, 1, 1, 1, 1}}

const gd_op_t gd_op_conv2d = {
    .name = "conv2d",
    .formula = "y[b,o,i,j] = bias[o] + sum_{c,k,l} weight[o,c,k,l] x[b,c',i s + k d - p, j s + l d - p]",
    .attrs = CONV_ATTRS,
    .n_in = 3,
    .n_in_required = 2,
    .n_out = 1,
    .dtypes = OPS_DTYPES_FLOAT,
    .by_conversion = 1 << GD_DTYPE_BF16 | 1 << GD_DTYPE_F16,
    .has_bf16_products = true,
    .saves = GD_SAVE_INPUTS_FOR_OTHERS,
    .autocast = GD_AUTOCAST_LOWER,
    .contiguous_in = 7,
    .f32_in = 4,
    .infer = conv2d_infer,
    .backward = conv2d_gradient,
    .onnx = "Conv",
    .sample = {{.in = {{4, {2, 3, 5, 6}}, {4, {4, 3, 3, 3}}, {1, {4}}}, .n_in = 3, UNIT},
               {.in = {{4, {1, 1, 7, 7}}, {4, {2, 1, 3, 3}}, {1, {2}}}, .n_in = 3, PADDED},
               {.in = {{4, {2, 4, 6, 5}}, {4, {6, 2, 3, 2}}}, .n_in = 2, .attrs = {.i = {2, 1, 1, 0, 1, 2, 2}}},
               {.in = {{4, {1, 20, 4, 4}}, {4, {17, 20, 1, 1}}, {1, {17}}}, .n_in = 3, UNIT},
               {.in = {{4, {1, 3, 6, 6}}, {4, {3, 1, 3, 3}}}, .n_in = 2, .attrs = {.i = {1, 1, 1, 1, 1, 1, 3}}},
               {.in = {{4, {0, 3, 5, 6}}, {4, {4, 3, 3, 3}}, {1, {4}}}, .n_in = 3, UNIT},
               {.in = {{4, {2, 3, 5, 6}}, {4, {4, 2, 3, 3}}}, .n_in = 2, UNIT, .expect = ST_ERR_SHAPE},
               {.in = {{4, {2, 3, 2, 6}}, {4, {4, 3, 3, 3}}}, .n_in = 2, UNIT, .expect = ST_ERR_SHAPE},
               {.in = {{4, {2, 3, 5, 6}}, {4, {4, 3, 3, 3}}, {1, {3}}}, .n_in = 3, UNIT, .expect = ST_ERR_SHAPE},
               {.in = {{3, {3, 5, 6}}, {4, {4, 3, 3, 3}}}, .n_in = 2, UNIT, .expect = ST_ERR_SHAPE},
               {.in = {{4, {2, 3, 5, 6}}, {4, {4, 3, 3, 3}}}, .n_in = 2, .expect = ST_ERR_RANGE}},
};

/* dy[B,O,OH,OW] must be what an image of i7 × i8 and a kernel of i9 × i10 give. */
static status_t output_check(const char *op, const gd_tensor_t *dy, const gd_tensor_t *other, const gd_attrs_t *attrs)
{
    if (dy->n_dims != 4 || other->n_dims != 4) {
        return gd_op_fail_shapes(ST_ERR_SHAPE, op, dy, other, "both need four dimensions");
    }
    for (int i = 0; i < 2; i++) {
        const int64_t room = attrs->i[7 + i] + 2 * attrs->i[2 + i] - attrs->i[4 + i] * (attrs->i[9 + i] - 1) - 1;
        if (attrs->i[7 + i] < 1 || attrs->i[9 + i] < 1 || attrs->i[7 + i] > INT32_MAX ||
            attrs->i[9 + i] > CONV_MOST_STEP || room < 0 || dy->shape[2 + i] != room / attrs->i[i] + 1) {
            return gd_op_fail_shapes(ST_ERR_SHAPE, op, dy, other, "dy isn't the size that image and kernel give");
        }
    }
    return ST_OK;
}

static status_t conv2d_backward_input_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    const char *op = "conv2d_backward_input";
    const gd_tensor_t *dy = in[0];
    const gd_tensor_t *weight = in[1];
    status_t status = gd_conv_check_call(op, in, n_in, attrs, 2);
    if (status == ST_OK) {
        status = output_check(op, dy, weight, attrs);
    }
    if (status != ST_OK) {
        return status;
    }
    if (dy->shape[1] != weight->shape[0] || weight->shape[0] < 1 || weight->shape[1] < 1 ||
        weight->shape[0] % attrs->i[6] != 0 || weight->shape[2] != attrs->i[9] || weight->shape[3] != attrs->i[10]) {
        return gd_op_fail_shapes(ST_ERR_SHAPE, op, dy, weight, "channels or kernel don't fit");
    }
    const int64_t shape[4] = {dy->shape[0], weight->shape[1] * attrs->i[6], attrs->i[7], attrs->i[8]};
    gd_meta_set(out, dy->dtype, 4, shape);
    return ST_OK;
}

const gd_op_t gd_op_conv2d_backward_input = {
    .name = "conv2d_backward_input",
    .formula = "dx = the adjoint of conv2d in x, applied to dy",
    .attrs = CONV_ATTRS "; i7,8 image size; i9,10 kernel size",
    .n_in = 2,
    .n_in_required = 2,
    .n_out = 1,
    .dtypes = OPS_DTYPES_FLOAT,
    .by_conversion = 1 << GD_DTYPE_BF16 | 1 << GD_DTYPE_F16,
    .has_bf16_products = true,
    .contiguous_in = 3,
    .infer = conv2d_backward_input_infer,
    .sample =
        {{.in = {{4, {2, 4, 3, 4}}, {4, {4, 3, 3, 3}}}, .n_in = 2, .attrs = {.i = {1, 1, 0, 0, 1, 1, 1, 5, 6, 3, 3}}},
         {.in = {{4, {2, 6, 3, 3}}, {4, {6, 2, 3, 2}}}, .n_in = 2, .attrs = {.i = {2, 1, 1, 0, 1, 2, 2, 6, 5, 3, 2}}},
         {.in = {{4, {2, 6, 3, 3}}, {4, {6, 5, 1, 1}}}, .n_in = 2, .attrs = {.i = {2, 3, 0, 0, 1, 1, 1, 5, 9, 1, 1}}},
         {.in = {{4, {2, 4, 3, 4}}, {4, {5, 3, 3, 3}}},
          .n_in = 2,
          .attrs = {.i = {1, 1, 0, 0, 1, 1, 1, 5, 6, 3, 3}},
          .expect = ST_ERR_SHAPE},
         {.in = {{4, {2, 4, 4, 4}}, {4, {4, 3, 3, 3}}},
          .n_in = 2,
          .attrs = {.i = {1, 1, 0, 0, 1, 1, 1, 5, 6, 3, 3}},
          .expect = ST_ERR_SHAPE}},
};

static status_t conv2d_backward_weight_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    const char *op = "conv2d_backward_weight";
    const gd_tensor_t *dy = in[0];
    const gd_tensor_t *x = in[1];
    status_t status = gd_conv_check_call(op, in, n_in, attrs, 2);
    if (status == ST_OK) {
        status = output_check(op, dy, x, attrs);
    }
    if (status != ST_OK) {
        return status;
    }
    if (x->shape[0] != dy->shape[0] || x->shape[1] < 1 || x->shape[1] % attrs->i[6] != 0 || dy->shape[1] < 1 ||
        dy->shape[1] % attrs->i[6] != 0 || x->shape[2] != attrs->i[7] || x->shape[3] != attrs->i[8]) {
        return gd_op_fail_shapes(ST_ERR_SHAPE, op, dy, x, "batch, channels or image don't fit");
    }
    const int64_t shape[4] = {dy->shape[1], x->shape[1] / attrs->i[6], attrs->i[9], attrs->i[10]};
    gd_dtype_t dtype = dy->dtype;
    status = gd_op_check_result(op, dy->dtype, attrs->i[12], &dtype);
    gd_meta_set(&out[0], dtype, 4, shape);
    gd_meta_set(&out[1], gd_dtype_widen(dy->dtype), 1, shape);
    return status;
}

const gd_op_t gd_op_conv2d_backward_weight = {
    .name = "conv2d_backward_weight",
    .formula = "dweight = the adjoint of conv2d in weight, applied to dy; dbias[o] = sum dy[:,o,:,:]",
    .attrs = CONV_ATTRS "; i7,8 image size; i9,10 kernel size; i11 dbias isn't wanted, it is zero; "
                        "i12 1 + dweight's dtype, 0: dy's",
    .n_in = 2,
    .n_in_required = 2,
    .n_out = 2,
    .dtypes = OPS_DTYPES_FLOAT,
    .by_conversion = 1 << GD_DTYPE_BF16 | 1 << GD_DTYPE_F16,
    .has_bf16_products = true,
    .contiguous_in = 3,
    .infer = conv2d_backward_weight_infer,
    .sample =
        {{.in = {{4, {2, 4, 3, 4}}, {4, {2, 3, 5, 6}}}, .n_in = 2, .attrs = {.i = {1, 1, 0, 0, 1, 1, 1, 5, 6, 3, 3}}},
         {.in = {{4, {2, 6, 3, 3}}, {4, {2, 4, 6, 5}}}, .n_in = 2, .attrs = {.i = {2, 1, 1, 0, 1, 2, 2, 6, 5, 3, 2}}},
         {.in = {{4, {2, 6, 3, 3}}, {4, {2, 5, 5, 9}}},
          .n_in = 2,
          .attrs = {.i = {2, 3, 0, 0, 1, 1, 1, 5, 9, 1, 1, 1}}},
         {.in = {{4, {3, 7, 5, 6}}, {4, {3, 4, 5, 6}}},
          .n_in = 2,
          .attrs = {.i = {1, 1, 1, 1, 1, 1, 1, 5, 6, 3, 3, 1}}},
         {.in = {{4, {1, 4, 3, 4}}, {4, {2, 3, 5, 6}}},
          .n_in = 2,
          .attrs = {.i = {1, 1, 0, 0, 1, 1, 1, 5, 6, 3, 3}},
          .expect = ST_ERR_SHAPE}},
};

status_t gd_conv2d(gd_tensor_t *x, gd_tensor_t *weight, gd_tensor_t *bias, const gd_conv2d_options_t *options,
                   gd_tensor_t **y_p)
{
    const gd_conv2d_options_t none = {{0}, {0}, {0}, 0};
    const gd_conv2d_options_t *o = options != NULL ? options : &none;
    gd_attrs_t attrs = {.i = {[6] = o->groups != 0 ? o->groups : 1}};
    for (int i = 0; i < 2; i++) {
        attrs.i[i] = o->stride[i] != 0 ? o->stride[i] : 1;
        attrs.i[2 + i] = o->padding[i];
        attrs.i[4 + i] = o->dilation[i] != 0 ? o->dilation[i] : 1;
    }
    gd_tensor_t *in[3] = {x, weight, bias};
    return gd_op_apply(GD_OP_CONV2D, in, 3, &attrs, y_p);
}
