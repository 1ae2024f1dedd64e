/* SPDX-License-Identifier: Apache-2.0 */
/* ops/resize: padding by a rule and interpolation along the last axes. */
#include "ops/helpers.h"

enum { MOST_SIZE = 1 << 24 };

/* ---- pad_with ---- */

#define PAD_ATTRS                                                                                                      \
    "i0,1,2 before of depth, height, width; i3,4,5 after; i6 mode: constant, reflect, replicate, circular; "           \
    "i7 how many of the last axes; f0 the constant"

static status_t pad_check(const char *op, const gd_tensor_t *t, const gd_attrs_t *attrs)
{
    const int64_t n_axes = attrs->i[7];
    if (n_axes < 1 || n_axes > 3 || attrs->i[6] < 0 || attrs->i[6] >= GD_PAD_COUNT) {
        return ST_FAIL(ST_ERR_RANGE, "%s: %lld axes in mode %lld", op, (long long)n_axes, (long long)attrs->i[6]);
    }
    if (t->n_dims < n_axes) {
        return gd_op_fail_shapes(ST_ERR_SHAPE, op, t, NULL, "has fewer axes than are padded");
    }
    for (int i = 0; i < 6; i++) {
        const bool is_there = i % 3 >= 3 - n_axes;
        if (attrs->i[i] < 0 || attrs->i[i] > MOST_SIZE || (!is_there && attrs->i[i] != 0)) {
            return ST_FAIL(ST_ERR_RANGE, "%s: %lld positions of padding", op, (long long)attrs->i[i]);
        }
    }
    return ST_OK;
}

/* Reflection needs a position beyond the edge for each, circular padding as many as there are. */
static status_t pad_fits(const char *op, const gd_tensor_t *t, const gd_attrs_t *attrs, int axis, int64_t size)
{
    const int64_t before = attrs->i[axis], after = attrs->i[3 + axis];
    const int64_t most = attrs->i[6] == GD_PAD_REFLECT                ? size - 1
                         : attrs->i[6] == GD_PAD_CIRCULAR             ? size
                         : size > 0 || attrs->i[6] == GD_PAD_CONSTANT ? MOST_SIZE
                                                                      : 0;
    return before <= most && after <= most
               ? ST_OK
               : gd_op_fail_shapes(ST_ERR_SHAPE, op, t, NULL, "the padding is larger than this mode can fill");
}

static status_t pad_with_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    (void)n_in;
    const gd_tensor_t *x = in[0];
    const int n_axes = (int)attrs->i[7];
    status_t status = pad_check("pad_with", x, attrs);
    if (status != ST_OK) {
        return status;
    }
    gd_meta_set(out, x->dtype, x->n_dims, x->shape);
    for (int d = 3 - n_axes; d < 3 && status == ST_OK; d++) {
        const int own = x->n_dims - 3 + d;
        status = pad_fits("pad_with", x, attrs, d, x->shape[own]);
        out->shape[own] += attrs->i[d] + attrs->i[3 + d];
    }
    return status;
}

static status_t pad_with_gradient(gd_node_t *node, gd_tensor_t *dy, gd_tensor_t **dx)
{
    return gd_op_apply(GD_OP_PAD_WITH_BACKWARD, &dy, 1, &node->attrs, dx);
}

const gd_op_t gd_op_pad_with = {
    .name = "pad_with",
    .formula = "y[…,i] = x[…,from(i - before)], from of what is outside by the mode; or the constant",
    .attrs = PAD_ATTRS,
    .n_in = 1,
    .n_in_required = 1,
    .n_out = 1,
    .dtypes = OPS_DTYPES_FLOAT,
    .by_conversion = OPS_DTYPES_HALF,
    .contiguous_in = 1,
    .infer = pad_with_infer,
    .backward = pad_with_gradient,
    .onnx = "Pad",
    .sample = {{.in = {{2, {3, 5}}}, .n_in = 1, .attrs = {.i = {0, 0, 2, 0, 0, 1, 0, 1}, .f = {1.5}}},
               {.in = {{4, {2, 2, 3, 5}}}, .n_in = 1, .attrs = {.i = {0, 2, 4, 0, 1, 3, 1, 2}}},
               {.in = {{3, {2, 3, 5}}}, .n_in = 1, .attrs = {.i = {0, 4, 0, 0, 1, 7, 2, 2}}},
               {.in = {{4, {2, 2, 3, 5}}}, .n_in = 1, .attrs = {.i = {1, 0, 5, 2, 3, 1, 3, 3}}},
               {.in = {{2, {0, 5}}}, .n_in = 1, .attrs = {.i = {0, 0, 2, 0, 0, 1, 1, 1}}},
               {.in = {{2, {3, 5}}}, .n_in = 1, .attrs = {.i = {0, 0, 5, 0, 0, 1, 1, 1}}, .expect = ST_ERR_SHAPE},
               {.in = {{2, {3, 5}}}, .n_in = 1, .attrs = {.i = {0, 0, -1, 0, 0, 1, 0, 1}}, .expect = ST_ERR_RANGE},
               {.in = {{2, {3, 5}}}, .n_in = 1, .attrs = {.i = {0, 0, 1, 0, 0, 1, 0, 3}}, .expect = ST_ERR_SHAPE},
               {.in = {{2, {3, 5}}}, .n_in = 1, .expect = ST_ERR_RANGE}},
};

static status_t pad_with_backward_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    (void)n_in;
    const gd_tensor_t *dy = in[0];
    status_t status = pad_check("pad_with_backward", dy, attrs);
    if (status != ST_OK) {
        return status;
    }
    gd_meta_set(out, dy->dtype, dy->n_dims, dy->shape);
    for (int d = 3 - (int)attrs->i[7]; d < 3 && status == ST_OK; d++) {
        const int own = dy->n_dims - 3 + d;
        out->shape[own] -= attrs->i[d] + attrs->i[3 + d];
        status = out->shape[own] < 0
                     ? gd_op_fail_shapes(ST_ERR_SHAPE, "pad_with_backward", dy, NULL, "is smaller than the padding")
                     : pad_fits("pad_with_backward", dy, attrs, d, out->shape[own]);
    }
    return status;
}

const gd_op_t gd_op_pad_with_backward = {
    .name = "pad_with_backward",
    .formula = "dx[…,from(i - before)] += dy[…,i]",
    .attrs = PAD_ATTRS,
    .n_in = 1,
    .n_in_required = 1,
    .n_out = 1,
    .dtypes = OPS_DTYPES_FLOAT,
    .by_conversion = OPS_DTYPES_HALF,
    .contiguous_in = 1,
    .infer = pad_with_backward_infer,
    .sample = {{.in = {{2, {3, 8}}}, .n_in = 1, .attrs = {.i = {0, 0, 2, 0, 0, 1, 0, 1}}},
               {.in = {{4, {2, 2, 6, 12}}}, .n_in = 1, .attrs = {.i = {0, 2, 4, 0, 1, 3, 1, 2}}},
               {.in = {{4, {2, 5, 6, 11}}}, .n_in = 1, .attrs = {.i = {1, 0, 5, 2, 3, 1, 3, 3}}},
               {.in = {{2, {3, 2}}}, .n_in = 1, .attrs = {.i = {0, 0, 2, 0, 0, 1, 0, 1}}, .expect = ST_ERR_SHAPE},
               {.in = {{2, {3, 8}}}, .n_in = 1, .expect = ST_ERR_RANGE}},
};

status_t gd_pad_with(gd_tensor_t *x, int n_axes, const int64_t *before, const int64_t *after, gd_pad_mode_t mode,
                     double value, gd_tensor_t **y_p)
{
    gd_attrs_t attrs = {.i = {[6] = mode, [7] = n_axes}, .f = {value}};
    for (int d = 0; d < n_axes && n_axes <= 3; d++) {
        attrs.i[3 - n_axes + d] = before[d];
        attrs.i[6 - n_axes + d] = after[d];
    }
    return gd_op_apply(GD_OP_PAD_WITH, &x, 1, &attrs, y_p);
}

/* ---- upsample ---- */

#define UPSAMPLE_ATTRS                                                                                                 \
    "i0,1,2 depth, height, width of y; i3 mode: nearest, linear, cubic; i4 corners are aligned; i5 how many of the "   \
    "last axes; f0,1,2 factors that positions are computed with, 0: the sizes' ratio"

static status_t upsample_check(const char *op, const gd_tensor_t *t, const gd_attrs_t *attrs)
{
    const int64_t n_axes = attrs->i[5];
    if (n_axes < 1 || n_axes > 3 || attrs->i[3] < 0 || attrs->i[3] >= GD_UPSAMPLE_COUNT) {
        return ST_FAIL(ST_ERR_RANGE, "%s: %lld axes in mode %lld", op, (long long)n_axes, (long long)attrs->i[3]);
    }
    if (t->n_dims != n_axes + 2) {
        return gd_op_fail_shapes(ST_ERR_SHAPE, op, t, NULL, "[B,C,…] with as many spatial axes as sizes is needed");
    }
    for (int d = 0; d < 3; d++) {
        const bool is_there = d >= 3 - n_axes;
        if ((is_there && (attrs->i[d] < 1 || attrs->i[d] > MOST_SIZE)) || !(attrs->f[d] >= 0)) {
            return ST_FAIL(ST_ERR_RANGE, "%s: size %lld, factor %g", op, (long long)attrs->i[d], attrs->f[d]);
        }
    }
    return ST_OK;
}

static status_t upsample_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    (void)n_in;
    const gd_tensor_t *x = in[0];
    status_t status = upsample_check("upsample", x, attrs);
    if (status != ST_OK) {
        return status;
    }
    gd_meta_set(out, x->dtype, x->n_dims, x->shape);
    for (int d = 2; d < x->n_dims; d++) {
        if (x->shape[d] < 1) {
            return gd_op_fail_shapes(ST_ERR_SHAPE, "upsample", x, NULL, "an axis is empty");
        }
        out->shape[d] = attrs->i[3 - x->n_dims + d];
    }
    return ST_OK;
}

static status_t upsample_gradient(gd_node_t *node, gd_tensor_t *dy, gd_tensor_t **dx)
{
    gd_attrs_t attrs = node->attrs;
    const int n_dims = node->in_meta[0].n_dims;
    for (int d = 2; d < n_dims; d++) {
        attrs.i[6 + 3 - n_dims + d] = node->in_meta[0].shape[d];
    }
    return gd_op_apply(GD_OP_UPSAMPLE_BACKWARD, &dy, 1, &attrs, dx);
}

const gd_op_t gd_op_upsample = {
    .name = "upsample",
    .formula = "y[b,c,…] = sum over taps along each axis of weight(i) x[b,c,from(i)]",
    .attrs = UPSAMPLE_ATTRS,
    .n_in = 1,
    .n_in_required = 1,
    .n_out = 1,
    .dtypes = OPS_DTYPES_FLOAT,
    .by_conversion = OPS_DTYPES_HALF,
    .contiguous_in = 1,
    .infer = upsample_infer,
    .backward = upsample_gradient,
    .onnx = "Resize",
    .sample = {{.in = {{3, {2, 3, 5}}}, .n_in = 1, .attrs = {.i = {1, 1, 11, 0, 0, 1}}},
               {.in = {{4, {1, 2, 4, 5}}}, .n_in = 1, .attrs = {.i = {1, 8, 10, 1, 0, 2}, .f = {2, 2}}},
               {.in = {{4, {1, 2, 4, 5}}}, .n_in = 1, .attrs = {.i = {1, 7, 3, 1, 1, 2}}},
               {.in = {{5, {1, 2, 2, 3, 4}}}, .n_in = 1, .attrs = {.i = {3, 5, 9, 1, 0, 3}}},
               {.in = {{4, {1, 2, 4, 5}}}, .n_in = 1, .attrs = {.i = {1, 7, 11, 2, 0, 2}}},
               {.in = {{4, {1, 1, 6, 5}}}, .n_in = 1, .attrs = {.i = {1, 4, 8, 2, 1, 2}}},
               {.in = {{4, {0, 2, 4, 5}}}, .n_in = 1, .attrs = {.i = {1, 7, 11, 0, 0, 2}}},
               {.in = {{4, {1, 2, 4, 5}}}, .n_in = 1, .attrs = {.i = {1, 7, 0, 0, 0, 2}}, .expect = ST_ERR_RANGE},
               {.in = {{3, {1, 2, 4}}}, .n_in = 1, .attrs = {.i = {1, 7, 9, 0, 0, 2}}, .expect = ST_ERR_SHAPE},
               {.in = {{4, {1, 2, 0, 5}}}, .n_in = 1, .attrs = {.i = {1, 7, 9, 0, 0, 2}}, .expect = ST_ERR_SHAPE}},
};

static status_t upsample_backward_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    (void)n_in;
    const gd_tensor_t *dy = in[0];
    status_t status = upsample_check("upsample_backward", dy, attrs);
    if (status != ST_OK) {
        return status;
    }
    gd_meta_set(out, dy->dtype, dy->n_dims, dy->shape);
    for (int d = 2; d < dy->n_dims; d++) {
        out->shape[d] = attrs->i[6 + 3 - dy->n_dims + d];
        if (out->shape[d] < 1 || out->shape[d] > MOST_SIZE || dy->shape[d] != attrs->i[3 - dy->n_dims + d]) {
            return gd_op_fail_shapes(ST_ERR_SHAPE, "upsample_backward", dy, NULL, "doesn't have the size of y");
        }
    }
    return ST_OK;
}

const gd_op_t gd_op_upsample_backward = {
    .name = "upsample_backward",
    .formula = "dx[b,c,from(i)] += weight(i) dy[b,c,i] over the taps along each axis",
    .attrs = UPSAMPLE_ATTRS "; i6,7,8 size of x",
    .n_in = 1,
    .n_in_required = 1,
    .n_out = 1,
    .dtypes = OPS_DTYPES_FLOAT,
    .by_conversion = OPS_DTYPES_HALF,
    .contiguous_in = 1,
    .infer = upsample_backward_infer,
    .sample =
        {{.in = {{3, {2, 3, 11}}}, .n_in = 1, .attrs = {.i = {1, 1, 11, 0, 0, 1, 1, 1, 5}}},
         {.in = {{4, {1, 2, 7, 11}}}, .n_in = 1, .attrs = {.i = {1, 7, 11, 2, 0, 2, 1, 4, 5}}},
         {.in = {{4, {1, 2, 7, 11}}}, .n_in = 1, .attrs = {.i = {1, 7, 10, 1, 0, 2, 1, 4, 5}}, .expect = ST_ERR_SHAPE},
         {.in = {{4, {1, 2, 7, 11}}}, .n_in = 1, .attrs = {.i = {1, 7, 11, 1, 0, 4, 1, 4, 5}}, .expect = ST_ERR_RANGE}},
};

status_t gd_upsample(gd_tensor_t *x, gd_upsample_t mode, const int64_t *size, const double *factors,
                     bool aligns_corners, gd_tensor_t **y_p)
{
    const int n_axes = x->n_dims - 2;
    gd_attrs_t attrs = {.i = {1, 1, 1, mode, aligns_corners && mode != GD_UPSAMPLE_NEAREST, n_axes}};
    for (int d = 0; d < n_axes && n_axes <= 3; d++) {
        const double scaled = factors != NULL ? (double)x->shape[2 + d] * factors[d] : 0;
        attrs.f[d] = factors != NULL ? factors[d] : 0;
        attrs.i[3 - n_axes + d] = factors == NULL ? size[d] : scaled >= 1 && scaled <= MOST_SIZE ? (int64_t)scaled : 0;
    }
    return gd_op_apply(GD_OP_UPSAMPLE, &x, 1, &attrs, y_p);
}
