/* SPDX-License-Identifier: Apache-2.0 */
/* ops/pool_nd: max and average pooling over one to three axes, with dilation, rounding up, and adaptive windows. */
#include "ops/helpers.h"

#define POOL_ATTRS                                                                                                     \
    "i0,1,2 kernel of depth, height, width; i3,4,5 stride; i6,7,8 padding; i9,10,11 dilation; i12: 1 rounds sizes "    \
    "up, "                                                                                                             \
    "2 padding doesn't count in an average, 4 the kernel is the size of the result (adaptive)"

enum { MOST_STEP = 1 << 20, KERNEL = 0, STRIDE = 3, PADDING = 6, DILATION = 9, FLAGS = 12, SIZE = 13 };
enum { ROUNDS_UP = 1, EXCLUDES_PADDING = 2, IS_ADAPTIVE = 4 };

static status_t attrs_check(const char *op, const gd_attrs_t *attrs)
{
    static const char *const names[4] = {"kernel size", "stride", "padding", "dilation"};
    for (int i = 0; i < 12; i++) {
        const int64_t least = i / 3 == 2 ? 0 : 1;
        if (attrs->i[i] < least || attrs->i[i] > MOST_STEP) {
            return ST_FAIL(ST_ERR_RANGE, "%s: %s %lld is outside %lld … %d", op, names[i / 3], (long long)attrs->i[i],
                           (long long)least, MOST_STEP);
        }
    }
    for (int d = 0; d < 3; d++) { /* so that every window meets the image */
        if (attrs->i[PADDING + d] > attrs->i[KERNEL + d] / 2) {
            return ST_FAIL(ST_ERR_RANGE, "%s: padding %lld is above half the kernel size %lld", op,
                           (long long)attrs->i[PADDING + d], (long long)attrs->i[KERNEL + d]);
        }
    }
    return ST_OK;
}

/* What an image of `size` gives along axis d of three; below 1: the window is larger than the padded image. */
static int64_t size_out(const gd_attrs_t *attrs, int d, int64_t size)
{
    const int64_t stride = attrs->i[STRIDE + d], padding = attrs->i[PADDING + d];
    if ((attrs->i[FLAGS] & IS_ADAPTIVE) != 0) {
        return size > 0 ? attrs->i[KERNEL + d] : 0;
    }
    const int64_t room = size + 2 * padding - attrs->i[DILATION + d] * (attrs->i[KERNEL + d] - 1) - 1;
    if ((attrs->i[FLAGS] & ROUNDS_UP) == 0) {
        return room < 0 ? 0 : room / stride + 1;
    }
    if (room + stride - 1 < 0 || size < 1) {
        return 0;
    }
    const int64_t out = (room + stride - 1) / stride + 1;        /* one window may be larger than the padded image */
    return (out - 1) * stride >= size + padding ? out - 1 : out; /* the last window begins in the image */
}

static status_t pool_infer(const char *op, const gd_tensor_t *x, const gd_attrs_t *attrs, gd_meta_t *out)
{
    status_t status = attrs_check(op, attrs);
    if (status != ST_OK) {
        return status;
    }
    if (x->n_dims < 3 || x->n_dims > 5) {
        return gd_op_fail_shapes(ST_ERR_SHAPE, op, x, NULL, "[B,C,…] with one to three spatial axes is needed");
    }
    int64_t plane = 1;
    gd_meta_set(out, x->dtype, x->n_dims, x->shape);
    for (int d = 2; d < x->n_dims; d++) {
        out->shape[d] = size_out(attrs, d + 3 - x->n_dims, x->shape[d]);
        if (out->shape[d] < 1) {
            return gd_op_fail_shapes(ST_ERR_SHAPE, op, x, NULL, "the window is larger than the padded image");
        }
        if (__builtin_mul_overflow(plane, x->shape[d], &plane) || plane > INT32_MAX) {
            return gd_op_fail_shapes(ST_ERR_SHAPE, op, x, NULL, "a channel of more than 2147483647 positions");
        }
    }
    return ST_OK;
}

static gd_attrs_t backward_attrs(const gd_node_t *node)
{
    gd_attrs_t attrs = node->attrs;
    const int n_dims = node->in_meta[0].n_dims;
    for (int d = 2; d < n_dims; d++) {
        attrs.i[SIZE + d + 3 - n_dims] = node->in_meta[0].shape[d];
    }
    return attrs;
}

/* dx of the size in i13,14,15. */
static status_t backward_infer(const char *op, const gd_tensor_t *dy, const gd_attrs_t *attrs, bool checks_windows,
                               gd_meta_t *out)
{
    if (dy->n_dims < 3 || dy->n_dims > 5) {
        return gd_op_fail_shapes(ST_ERR_SHAPE, op, dy, NULL, "[B,C,…] with one to three spatial axes is needed");
    }
    status_t status = checks_windows ? attrs_check(op, attrs) : ST_OK;
    if (status != ST_OK) {
        return status;
    }
    gd_meta_set(out, dy->dtype, dy->n_dims, dy->shape);
    for (int d = 2; d < dy->n_dims; d++) {
        const int axis = d + 3 - dy->n_dims;
        out->shape[d] = attrs->i[SIZE + axis];
        if (out->shape[d] < 1 || out->shape[d] > INT32_MAX ||
            (checks_windows && size_out(attrs, axis, out->shape[d]) != dy->shape[d])) {
            return gd_op_fail_shapes(ST_ERR_SHAPE, op, dy, NULL, "dy isn't the size that the image gives");
        }
    }
    return ST_OK;
}

static status_t max_pool_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    (void)n_in;
    status_t status = pool_infer("max_pool", in[0], attrs, &out[0]);
    if (status == ST_OK) {
        gd_meta_set(&out[1], GD_DTYPE_I32, out[0].n_dims, out[0].shape);
    }
    return status;
}

static status_t max_pool_gradient(gd_node_t *node, gd_tensor_t *dy, gd_tensor_t **dx)
{
    const gd_attrs_t attrs = backward_attrs(node);
    gd_tensor_t *in[2] = {dy, node->out[1]};
    return gd_op_apply(GD_OP_MAX_POOL_BACKWARD, in, 2, &attrs, dx);
}

const gd_op_t gd_op_max_pool = {
    .name = "max_pool",
    .formula =
        "y[b,c,…] = max over the window of x[b,c,…], position[b,c,…] where it is in its plane, the first of equals",
    .attrs = POOL_ATTRS,
    .n_in = 1,
    .n_in_required = 1,
    .n_out = 2,
    .dtypes = OPS_DTYPES_FLOAT,
    .by_conversion = OPS_DTYPES_HALF,
    .saves = GD_SAVE_OUTPUTS,
    .contiguous_in = 1,
    .infer = max_pool_infer,
    .backward = max_pool_gradient,
    .onnx = "MaxPool",
    .sample = {{.in = {{3, {2, 3, 9}}}, .n_in = 1, .attrs = {.i = {1, 1, 3, 1, 1, 2, 0, 0, 1, 1, 1, 1}}},
               {.in = {{4, {2, 2, 7, 8}}}, .n_in = 1, .attrs = {.i = {1, 3, 2, 1, 2, 1, 0, 1, 0, 1, 2, 3}}},
               {.in = {{5, {1, 2, 4, 5, 6}}}, .n_in = 1, .attrs = {.i = {2, 3, 2, 2, 2, 1, 1, 0, 1, 1, 1, 2}}},
               {.in = {{4, {1, 2, 6, 7}}}, .n_in = 1, .attrs = {.i = {1, 3, 3, 1, 2, 2, 0, 1, 1, 1, 1, 1, 1}}},
               {.in = {{4, {1, 2, 6, 7}}}, .n_in = 1, .attrs = {.i = {1, 4, 3, 1, 1, 1, 0, 0, 0, 1, 1, 1, 4}}},
               {.in = {{3, {0, 3, 9}}}, .n_in = 1, .attrs = {.i = {1, 1, 3, 1, 1, 2, 0, 0, 1, 1, 1, 1}}},
               {.in = {{3, {2, 3, 2}}},
                .n_in = 1,
                .attrs = {.i = {1, 1, 3, 1, 1, 2, 0, 0, 0, 1, 1, 1}},
                .expect = ST_ERR_SHAPE},
               {.in = {{2, {2, 3}}},
                .n_in = 1,
                .attrs = {.i = {1, 1, 3, 1, 1, 2, 0, 0, 1, 1, 1, 1}},
                .expect = ST_ERR_SHAPE},
               {.in = {{3, {2, 3, 9}}},
                .n_in = 1,
                .attrs = {.i = {1, 1, 3, 1, 1, 2, 0, 0, 2, 1, 1, 1}},
                .expect = ST_ERR_RANGE}},
};

static status_t max_pool_backward_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    (void)n_in;
    if (in[1]->dtype != GD_DTYPE_I32) {
        return ST_FAIL(ST_ERR_DTYPE, "max_pool_backward: positions are %s, i32 is needed", gd_dtype_name(in[1]->dtype));
    }
    if (!gd_shape_equal(in[0]->n_dims, in[0]->shape, in[1]->n_dims, in[1]->shape)) {
        return gd_op_fail_shapes(ST_ERR_SHAPE, "max_pool_backward", in[0], in[1], "shapes must be equal");
    }
    return backward_infer("max_pool_backward", in[0], attrs, false, out);
}

#define POSITIONS(limit_x) .dtype = GD_DTYPE_I32, .int_limit = (limit_x), .no_grad = true

const gd_op_t gd_op_max_pool_backward = {
    .name = "max_pool_backward",
    .formula = "dx[b,c,position[b,c,…]] += dy[b,c,…]",
    .attrs = "i13,14,15 size of x",
    .n_in = 2,
    .n_in_required = 2,
    .n_out = 1,
    .dtypes = OPS_DTYPES_FLOAT,
    .by_conversion = OPS_DTYPES_HALF,
    .contiguous_in = 3,
    .infer = max_pool_backward_infer,
    .sample = {{.in = {{4, {2, 3, 2, 3}}, {4, {2, 3, 2, 3}, POSITIONS(24)}}, .n_in = 2, .attrs = {.i = {[14] = 4, 6}}},
               {.in = {{3, {1, 5, 9}}, {3, {1, 5, 9}, POSITIONS(4)}}, .n_in = 2, .attrs = {.i = {[15] = 11}}},
               {.in = {{3, {1, 5, 9}}, {3, {1, 5, 9}, POSITIONS(1000)}},
                .n_in = 2,
                .attrs = {.i = {[15] = 11}},
                .expect = ST_ERR_DATA},
               {.in = {{3, {1, 5, 9}}, {3, {1, 5, 8}, POSITIONS(4)}},
                .n_in = 2,
                .attrs = {.i = {[15] = 11}},
                .expect = ST_ERR_SHAPE},
               {.in = {{3, {1, 5, 9}}, {3, {1, 5, 9}, POSITIONS(4)}}, .n_in = 2, .expect = ST_ERR_SHAPE}},
};

static status_t avg_pool_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    (void)n_in;
    for (int d = 0; d < 3; d++) {
        if (attrs->i[DILATION + d] > 1) {
            return ST_FAIL(ST_ERR_RANGE, "avg_pool: dilation %lld: only 1 is possible",
                           (long long)attrs->i[DILATION + d]);
        }
    }
    return pool_infer("avg_pool", in[0], attrs, out);
}

static status_t avg_pool_gradient(gd_node_t *node, gd_tensor_t *dy, gd_tensor_t **dx)
{
    const gd_attrs_t attrs = backward_attrs(node);
    return gd_op_apply(GD_OP_AVG_POOL_BACKWARD, &dy, 1, &attrs, dx);
}

const gd_op_t gd_op_avg_pool = {
    .name = "avg_pool",
    .formula = "y[b,c,…] = mean over the window of x[b,c,…]; padding counts as zeros, beyond it nothing does",
    .attrs = POOL_ATTRS,
    .n_in = 1,
    .n_in_required = 1,
    .n_out = 1,
    .dtypes = OPS_DTYPES_FLOAT,
    .by_conversion = OPS_DTYPES_HALF,
    .contiguous_in = 1,
    .infer = avg_pool_infer,
    .backward = avg_pool_gradient,
    .onnx = "AveragePool",
    .sample = {{.in = {{3, {2, 3, 9}}}, .n_in = 1, .attrs = {.i = {1, 1, 3, 1, 1, 2, 0, 0, 1, 1, 1, 1}}},
               {.in = {{4, {2, 2, 7, 8}}}, .n_in = 1, .attrs = {.i = {1, 3, 2, 1, 2, 2, 0, 1, 1, 1, 1, 1, 2}}},
               {.in = {{4, {2, 2, 7, 8}}}, .n_in = 1, .attrs = {.i = {1, 3, 3, 1, 2, 2, 0, 1, 1, 1, 1, 1, 1}}},
               {.in = {{4, {2, 2, 7, 8}}}, .n_in = 1, .attrs = {.i = {1, 3, 3, 1, 2, 2, 0, 1, 1, 1, 1, 1, 3}}},
               {.in = {{5, {1, 2, 4, 5, 6}}}, .n_in = 1, .attrs = {.i = {2, 3, 2, 2, 2, 1, 1, 0, 1, 1, 1, 1}}},
               {.in = {{4, {1, 2, 6, 7}}}, .n_in = 1, .attrs = {.i = {1, 4, 3, 1, 1, 1, 0, 0, 0, 1, 1, 1, 4}}},
               {.in = {{4, {1, 2, 3, 2}}}, .n_in = 1, .attrs = {.i = {1, 4, 3, 1, 1, 1, 0, 0, 0, 1, 1, 1, 4}}},
               {.in = {{3, {2, 3, 9}}},
                .n_in = 1,
                .attrs = {.i = {1, 1, 3, 1, 1, 2, 0, 0, 1, 1, 1, 2}},
                .expect = ST_ERR_RANGE},
               {.in = {{3, {2, 3, 2}}},
                .n_in = 1,
                .attrs = {.i = {1, 1, 3, 1, 1, 2, 0, 0, 0, 1, 1, 1}},
                .expect = ST_ERR_SHAPE}},
};

static status_t avg_pool_backward_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    (void)n_in;
    return backward_infer("avg_pool_backward", in[0], attrs, true, out);
}

const gd_op_t gd_op_avg_pool_backward = {
    .name = "avg_pool_backward",
    .formula = "dx[b,c,k] = sum over the windows that hold k of dy[b,c,…] / what counts in the window",
    .attrs = POOL_ATTRS "; i13,14,15 size of x",
    .n_in = 1,
    .n_in_required = 1,
    .n_out = 1,
    .dtypes = OPS_DTYPES_FLOAT,
    .by_conversion = OPS_DTYPES_HALF,
    .contiguous_in = 1,
    .infer = avg_pool_backward_infer,
    .sample = {{.in = {{3, {2, 3, 5}}}, .n_in = 1, .attrs = {.i = {1, 1, 3, 1, 1, 2, 0, 0, 1, 1, 1, 1, 0, 0, 0, 9}}},
               {.in = {{4, {2, 2, 4, 5}}}, .n_in = 1, .attrs = {.i = {1, 3, 2, 1, 2, 2, 0, 1, 1, 1, 1, 1, 2, 0, 7, 8}}},
               {.in = {{3, {2, 3, 4}}},
                .n_in = 1,
                .attrs = {.i = {1, 1, 3, 1, 1, 2, 0, 0, 1, 1, 1, 1, 0, 0, 0, 9}},
                .expect = ST_ERR_SHAPE}},
};

/* ---- functions ---- */

static status_t options_attrs(const char *op, const gd_tensor_t *x, const gd_pool_options_t *o, gd_attrs_t *attrs_p)
{
    const int n = x->n_dims - 2;
    gd_attrs_t attrs = {.i = {1, 1, 1, 1, 1, 1, 0, 0, 0, 1, 1, 1}};
    if (n < 1 || n > 3) {
        return gd_op_fail_shapes(ST_ERR_SHAPE, op, x, NULL, "[B,C,…] with one to three spatial axes is needed");
    }
    for (int d = 0; d < n; d++) {
        const int axis = 3 - n + d;
        attrs.i[KERNEL + axis] = o->kernel[d];
        attrs.i[STRIDE + axis] = o->stride[d] != 0 ? o->stride[d] : o->kernel[d];
        attrs.i[PADDING + axis] = o->padding[d];
        attrs.i[DILATION + axis] = o->dilation[d] != 0 ? o->dilation[d] : 1;
    }
    attrs.i[FLAGS] = (o->rounds_up ? ROUNDS_UP : 0) | (o->excludes_padding ? EXCLUDES_PADDING : 0);
    *attrs_p = attrs;
    return ST_OK;
}

static status_t max_apply(gd_tensor_t *x, const gd_attrs_t *attrs, gd_tensor_t **y_p)
{
    gd_tensor_t *out[2] = {NULL};
    status_t status = gd_op_apply(GD_OP_MAX_POOL, &x, 1, attrs, out);
    if (status == ST_OK) {
        (void)gd_tensor_unref(out[1]);
        *y_p = out[0];
    }
    return status;
}

/* Images without the special cases: max_pool2d and avg_pool2d have kernels of their own. */
static bool is_plain(const gd_tensor_t *x, const gd_pool_options_t *o, gd_pool2d_options_t *plain_p)
{
    bool is_it = x->n_dims == 4 && !o->rounds_up && !o->excludes_padding;
    for (int d = 0; d < 2; d++) {
        is_it = is_it && o->dilation[d] <= 1;
        plain_p->kernel[d] = o->kernel[d];
        plain_p->stride[d] = o->stride[d];
        plain_p->padding[d] = o->padding[d];
    }
    return is_it;
}

status_t gd_max_pool(gd_tensor_t *x, const gd_pool_options_t *options, gd_tensor_t **y_p)
{
    gd_attrs_t attrs;
    gd_pool2d_options_t plain;
    if (is_plain(x, options, &plain)) {
        return gd_max_pool2d(x, &plain, y_p);
    }
    status_t status = options_attrs("max_pool", x, options, &attrs);
    return status == ST_OK ? max_apply(x, &attrs, y_p) : status;
}

status_t gd_avg_pool(gd_tensor_t *x, const gd_pool_options_t *options, gd_tensor_t **y_p)
{
    gd_attrs_t attrs;
    gd_pool2d_options_t plain;
    if (is_plain(x, options, &plain)) {
        return gd_avg_pool2d(x, &plain, y_p);
    }
    status_t status = options_attrs("avg_pool", x, options, &attrs);
    return status == ST_OK ? gd_op_apply(GD_OP_AVG_POOL, &x, 1, &attrs, y_p) : status;
}

static status_t adaptive_attrs(const char *op, const gd_tensor_t *x, const int *size, gd_attrs_t *attrs_p)
{
    gd_pool_options_t options = {.rounds_up = false};
    for (int d = 0; d < 3 && d < x->n_dims - 2; d++) {
        options.kernel[d] = size[d];
        options.stride[d] = 1;
    }
    status_t status = options_attrs(op, x, &options, attrs_p);
    attrs_p->i[FLAGS] = IS_ADAPTIVE;
    return status;
}

status_t gd_adaptive_max_pool(gd_tensor_t *x, const int *size, gd_tensor_t **y_p)
{
    gd_attrs_t attrs;
    status_t status = adaptive_attrs("max_pool", x, size, &attrs);
    return status == ST_OK ? max_apply(x, &attrs, y_p) : status;
}

status_t gd_adaptive_avg_pool(gd_tensor_t *x, const int *size, gd_tensor_t **y_p)
{
    gd_attrs_t attrs;
    status_t status = adaptive_attrs("avg_pool", x, size, &attrs);
    if (status != ST_OK) {
        return status;
    }
    bool is_global = true;
    for (int d = 0; d < x->n_dims - 2; d++) {
        is_global = is_global && size[d] == 1;
    }
    static const int axes[3] = {2, 3, 4};
    return is_global ? gd_mean(x, x->n_dims - 2, axes, true, y_p) : gd_op_apply(GD_OP_AVG_POOL, &x, 1, &attrs, y_p);
}
