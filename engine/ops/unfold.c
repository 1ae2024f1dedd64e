/* SPDX-License-Identifier: Apache-2.0 */
/* ops/unfold: the windows of images as columns (unfold), and their sum back into images (fold): each other's adjoints.
 */
#include "ops/helpers.h"

#define UNFOLD_ATTRS "i0,1 kernel; i2,3 stride; i4,5 padding; i6,7 dilation; i8,9 image size"

enum { MOST_STEP = 1 << 20 };

static status_t attrs_check(const char *op, const gd_attrs_t *attrs)
{
    static const char *const names[4] = {"kernel size", "stride", "padding", "dilation"};
    for (int i = 0; i < 8; i++) {
        const int64_t least = i / 2 == 2 ? 0 : 1;
        if (attrs->i[i] < least || attrs->i[i] > MOST_STEP) {
            return ST_FAIL(ST_ERR_RANGE, "%s: %s %lld is outside %lld … %d", op, names[i / 2], (long long)attrs->i[i],
                           (long long)least, MOST_STEP);
        }
    }
    return ST_OK;
}

/* Windows in an image of this size; 0: none fits. */
static int64_t windows_count(const gd_attrs_t *attrs, const int64_t size[2])
{
    int64_t n = 1;
    for (int i = 0; i < 2; i++) {
        const int64_t room = size[i] + 2 * attrs->i[4 + i] - attrs->i[6 + i] * (attrs->i[i] - 1) - 1;
        n *= size[i] < 1 || size[i] > INT32_MAX || room < 0 ? 0 : room / attrs->i[2 + i] + 1;
    }
    return n;
}

static status_t unfold_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    (void)n_in;
    const gd_tensor_t *x = in[0];
    status_t status = attrs_check("unfold", attrs);
    if (status != ST_OK) {
        return status;
    }
    if (x->n_dims != 4) {
        return gd_op_fail_shapes(ST_ERR_SHAPE, "unfold", x, NULL, "[B,C,H,W] is needed");
    }
    const int64_t n = windows_count(attrs, x->shape + 2);
    if (n < 1) {
        return gd_op_fail_shapes(ST_ERR_SHAPE, "unfold", x, NULL, "the window is larger than the padded image");
    }
    const int64_t shape[3] = {x->shape[0], x->shape[1] * attrs->i[0] * attrs->i[1], n};
    gd_meta_set(out, x->dtype, 3, shape);
    return ST_OK;
}

static status_t unfold_gradient(gd_node_t *node, gd_tensor_t *dy, gd_tensor_t **dx)
{
    gd_attrs_t attrs = node->attrs;
    attrs.i[8] = node->in_meta[0].shape[2];
    attrs.i[9] = node->in_meta[0].shape[3];
    return gd_op_apply(GD_OP_FOLD, &dy, 1, &attrs, dx);
}

const gd_op_t gd_op_unfold = {
    .name = "unfold",
    .formula = "y[b,(c,k,l),(i,j)] = x[b,c,i s + k d - p,j s + l d - p], 0 outside",
    .attrs = UNFOLD_ATTRS " (fold)",
    .n_in = 1,
    .n_in_required = 1,
    .n_out = 1,
    .dtypes = OPS_DTYPES_FLOAT,
    .by_conversion = OPS_DTYPES_HALF,
    .contiguous_in = 1,
    .infer = unfold_infer,
    .backward = unfold_gradient,
    .sample = {{.in = {{4, {2, 3, 5, 6}}}, .n_in = 1, .attrs = {.i = {3, 2, 1, 1, 0, 0, 1, 1}}},
               {.in = {{4, {1, 2, 7, 6}}}, .n_in = 1, .attrs = {.i = {2, 3, 2, 3, 1, 2, 2, 1}}},
               {.in = {{4, {0, 2, 7, 6}}}, .n_in = 1, .attrs = {.i = {2, 3, 2, 3, 1, 2, 2, 1}}},
               {.in = {{4, {1, 2, 2, 6}}}, .n_in = 1, .attrs = {.i = {3, 3, 1, 1, 0, 0, 1, 1}}, .expect = ST_ERR_SHAPE},
               {.in = {{3, {2, 7, 6}}}, .n_in = 1, .attrs = {.i = {3, 3, 1, 1, 0, 0, 1, 1}}, .expect = ST_ERR_SHAPE},
               {.in = {{4, {1, 2, 7, 6}}}, .n_in = 1, .expect = ST_ERR_RANGE}},
};

static status_t fold_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    (void)n_in;
    const gd_tensor_t *x = in[0];
    status_t status = attrs_check("fold", attrs);
    if (status != ST_OK) {
        return status;
    }
    const int64_t n_kernel = attrs->i[0] * attrs->i[1];
    if (x->n_dims != 3 || x->shape[1] % n_kernel != 0 || x->shape[2] < 1 ||
        x->shape[2] != windows_count(attrs, attrs->i + 8)) {
        return gd_op_fail_shapes(ST_ERR_SHAPE, "fold", x, NULL,
                                 "isn't [B,C·KH·KW,L] with the windows of the wanted image");
    }
    const int64_t shape[4] = {x->shape[0], x->shape[1] / n_kernel, attrs->i[8], attrs->i[9]};
    gd_meta_set(out, x->dtype, 4, shape);
    return ST_OK;
}

static status_t fold_gradient(gd_node_t *node, gd_tensor_t *dy, gd_tensor_t **dx)
{
    return gd_op_apply(GD_OP_UNFOLD, &dy, 1, &node->attrs, dx);
}

const gd_op_t gd_op_fold = {
    .name = "fold",
    .formula = "y[b,c,h,w] = sum of x[b,(c,k,l),(i,j)] over i s + k d - p = h, j s + l d - p = w",
    .attrs = UNFOLD_ATTRS,
    .n_in = 1,
    .n_in_required = 1,
    .n_out = 1,
    .dtypes = OPS_DTYPES_FLOAT,
    .by_conversion = OPS_DTYPES_HALF,
    .contiguous_in = 1,
    .infer = fold_infer,
    .backward = fold_gradient,
    .onnx = "Col2Im",
    .sample =
        {{.in = {{3, {2, 18, 15}}}, .n_in = 1, .attrs = {.i = {3, 2, 1, 1, 0, 0, 1, 1, 5, 6}}},
         {.in = {{3, {1, 12, 12}}}, .n_in = 1, .attrs = {.i = {2, 3, 2, 3, 1, 2, 2, 1, 7, 6}}},
         {.in = {{3, {1, 12, 12}}}, .n_in = 1, .attrs = {.i = {2, 3, 2, 3, 1, 2, 2, 1, 9, 6}}, .expect = ST_ERR_SHAPE},
         {.in = {{3, {1, 13, 12}}}, .n_in = 1, .attrs = {.i = {2, 3, 2, 3, 1, 2, 2, 1, 7, 6}}, .expect = ST_ERR_SHAPE},
         {.in = {{3, {1, 12, 12}}}, .n_in = 1, .expect = ST_ERR_RANGE}},
};

static gd_attrs_t options_attrs(const gd_pool_options_t *o)
{
    gd_attrs_t attrs = {.i = {0}};
    for (int i = 0; i < 2; i++) {
        attrs.i[i] = o->kernel[i];
        attrs.i[2 + i] = o->stride[i] != 0 ? o->stride[i] : 1;
        attrs.i[4 + i] = o->padding[i];
        attrs.i[6 + i] = o->dilation[i] != 0 ? o->dilation[i] : 1;
    }
    return attrs;
}

status_t gd_unfold(gd_tensor_t *x, const gd_pool_options_t *options, gd_tensor_t **y_p)
{
    const gd_attrs_t attrs = options_attrs(options);
    return gd_op_apply(GD_OP_UNFOLD, &x, 1, &attrs, y_p);
}

status_t gd_fold(gd_tensor_t *x, const gd_pool_options_t *options, const int64_t size[2], gd_tensor_t **y_p)
{
    gd_attrs_t attrs = options_attrs(options);
    attrs.i[8] = size[0];
    attrs.i[9] = size[1];
    return gd_op_apply(GD_OP_FOLD, &x, 1, &attrs, y_p);
}
