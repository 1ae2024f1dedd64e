/* SPDX-License-Identifier: Apache-2.0 */
/* conv: the kernels of conv2d, conv3d and conv_transpose. f32 goes to cpu/conv_gemm.c, cpu/amx_conv.c or oneDNN, bf16
 * to oneDNN or cpu/conv_gemm.c (only where the processor multiplies it: see gd_op_t.has_bf16_products); f64, for
 * gradient checks, walks the definition. */
#include <string.h>

#include "cpu/amx_conv.h"
#include "cpu/conv_gemm.h"
#include "cpu/conv_weight.h"
#include "cpu/kernels.h"
#include "cpu/onednn.h"

/* The spatial axes of a view from its third on, in gd_conv_t's order. */
static void sizes_get(const gd_view_t *view, int64_t sizes_p[3])
{
    const bool is_3d = view->n_dims == 5;
    sizes_p[0] = view->shape[is_3d ? 3 : 2];
    sizes_p[1] = view->shape[is_3d ? 4 : 3];
    sizes_p[2] = is_3d ? view->shape[2] : 0;
}

/* x, weight and y of the convolution, whichever of them is computed. attrs of conv2d: i0,1 stride; i2,3 padding;
 * i4,5 dilation; i6 groups. Of conv3d and conv_transpose: three each of depth, height, width; i9 groups. Another dtype
 * than f32, bf16 and f64 is refused. */
static status_t conv_init(const char *op, const gd_view_t *x, const gd_view_t *weight, const gd_view_t *y,
                          const gd_attrs_t *attrs, bool is_2d_op, gd_conv_t *conv_p)
{
    if (x->dtype != GD_DTYPE_F32 && x->dtype != GD_DTYPE_F64 && x->dtype != GD_DTYPE_BF16) {
        return gd_cpu_fail_dtype(op, x->dtype);
    }
    gd_conv_t conv = {
        .batch = x->shape[0],
        .c_in = x->shape[1],
        .c_out = weight->shape[0],
        .groups = attrs->i[is_2d_op ? 6 : 9],
        .dtype = x->dtype,
        .dweight_dtype = weight->dtype,
    };
    sizes_get(x, conv.in);
    sizes_get(y, conv.out);
    sizes_get(weight, conv.kernel);
    for (int i = 0; i < 2; i++) {
        conv.stride[i] = attrs->i[is_2d_op ? i : 1 + i];
        conv.padding[i] = attrs->i[is_2d_op ? 2 + i : 4 + i];
        conv.dilation[i] = attrs->i[is_2d_op ? 4 + i : 7 + i];
    }
    if (x->n_dims == 5) {
        conv.stride[2] = attrs->i[0];
        conv.padding[2] = attrs->i[3];
        conv.dilation[2] = attrs->i[6];
    }
    *conv_p = conv;
    return ST_OK;
}

static int64_t depth_of(int64_t size)
{
    return size > 0 ? size : 1;
}

/* Calls term for every pair of an output element and a weight that meet in an input element. */
typedef void (*term_func_t)(void *arg, int64_t x, int64_t weight, int64_t y);
static void conv_walk_image(const gd_conv_t *c, int64_t b, int64_t o, term_func_t term, void *arg)
{
    const int64_t c_group = c->c_in / c->groups;
    const int64_t first = o / (c->c_out / c->groups) * c_group;
    const int64_t plane_out = c->out[0] * c->out[1], plane_kernel = c->kernel[0] * c->kernel[1];
    const int64_t n_out = plane_out * depth_of(c->out[2]), n_kernel = plane_kernel * depth_of(c->kernel[2]);
    for (int64_t i = 0; i < n_out; i++) {
        for (int64_t k = 0; k < c_group * n_kernel; k++) {
            const int64_t depth =
                i / plane_out * c->stride[2] - c->padding[2] + k % n_kernel / plane_kernel * c->dilation[2];
            const int64_t row = i / c->out[1] % c->out[0] * c->stride[0] - c->padding[0] +
                                k / c->kernel[1] % c->kernel[0] * c->dilation[0];
            const int64_t column = i % c->out[1] * c->stride[1] - c->padding[1] + k % c->kernel[1] * c->dilation[1];
            if (depth >= 0 && depth < depth_of(c->in[2]) && row >= 0 && row < c->in[0] && column >= 0 &&
                column < c->in[1]) {
                const int64_t plane = (b * c->c_in + first + k / n_kernel) * depth_of(c->in[2]) + depth;
                term(arg, (plane * c->in[0] + row) * c->in[1] + column, o * c_group * n_kernel + k,
                     (b * c->c_out + o) * n_out + i);
            }
        }
    }
}

static void conv_walk(const gd_conv_t *c, term_func_t term, void *arg)
{
    for (int64_t b = 0; b < c->batch; b++) {
        for (int64_t o = 0; o < c->c_out; o++) {
            conv_walk_image(c, b, o, term, arg);
        }
    }
}

typedef struct arrays {
    double *x, *weight, *y;
} arrays_t;

static void term_forward(void *arg, int64_t x, int64_t weight, int64_t y)
{
    const arrays_t *a = arg;
    a->y[y] += a->x[x] * a->weight[weight];
}

static void term_input(void *arg, int64_t x, int64_t weight, int64_t y)
{
    const arrays_t *a = arg;
    a->x[x] += a->y[y] * a->weight[weight];
}

static void term_weight(void *arg, int64_t x, int64_t weight, int64_t y)
{
    const arrays_t *a = arg;
    a->weight[weight] += a->x[x] * a->y[y];
}

static int64_t positions(const int64_t sizes[3])
{
    return sizes[0] * sizes[1] * depth_of(sizes[2]);
}

static status_t forward_run(const char *op, const gd_kernel_args_t *args, bool is_2d_op)
{
    const gd_view_t *x = &args->in[0];
    const gd_view_t *y = &args->out[0];
    gd_conv_t conv;
    status_t status = conv_init(op, x, &args->in[1], y, args->attrs, is_2d_op, &conv);
    if (status != ST_OK) {
        return status;
    }
    if (gd_view_numel(y) == 0) {
        return ST_OK;
    }
    if (gd_amx_conv_suits(&conv, GD_CONV_FORWARD)) {
        return gd_amx_conv_forward(&conv, x->data, args->in[1].data, args->in[2].data, y->data, args->n_threads);
    }
    if (x->dtype != GD_DTYPE_F64 &&
        gd_conv_gemm_suits(&conv, GD_CONV_FORWARD, args->in[2].data != NULL, args->n_threads)) {
        return gd_conv_gemm_forward(&conv, x->data, args->in[1].data, args->in[2].data, y->data, args->n_threads);
    }
    if (x->dtype != GD_DTYPE_F64) {
        return gd_onednn_conv_forward(&conv, x->data, args->in[1].data, args->in[2].data, y->data, args->n_threads);
    }
    const arrays_t arrays = {x->data, args->in[1].data, y->data};
    const double *bias = args->in[2].data;
    const int64_t n = positions(conv.out);
    for (int64_t i = 0; i < conv.batch * conv.c_out * n; i++) {
        arrays.y[i] = bias != NULL ? bias[i / n % conv.c_out] : 0.0;
    }
    conv_walk(&conv, term_forward, (void *)(uintptr_t)&arrays);
    return ST_OK;
}

static status_t input_run(const char *op, const gd_kernel_args_t *args, bool is_2d_op)
{
    const gd_view_t *dy = &args->in[0];
    const gd_view_t *dx = &args->out[0];
    gd_conv_t conv;
    status_t status = conv_init(op, dx, &args->in[1], dy, args->attrs, is_2d_op, &conv);
    if (status != ST_OK) {
        return status;
    }
    if (gd_view_numel(dx) == 0) {
        return ST_OK;
    }
    if (gd_amx_conv_suits(&conv, GD_CONV_INPUT)) {
        return gd_amx_conv_backward_input(&conv, dy->data, args->in[1].data, dx->data, args->n_threads);
    }
    if (dx->dtype != GD_DTYPE_F64 && gd_conv_gemm_suits(&conv, GD_CONV_INPUT, false, args->n_threads)) {
        return gd_conv_gemm_backward_input(&conv, dy->data, args->in[1].data, dx->data, args->n_threads);
    }
    if (dx->dtype != GD_DTYPE_F64) {
        return gd_onednn_conv_backward_input(&conv, dy->data, args->in[1].data, dx->data, args->n_threads);
    }
    const arrays_t arrays = {dx->data, args->in[1].data, dy->data};
    memset(arrays.x, 0, (size_t)gd_view_numel(dx) * sizeof(double));
    conv_walk(&conv, term_input, (void *)(uintptr_t)&arrays);
    return ST_OK;
}

static status_t weight_run(const char *op, const gd_kernel_args_t *args, bool is_2d_op)
{
    const gd_view_t *dy = &args->in[0];
    const gd_view_t *x = &args->in[1];
    const gd_view_t *dweight = &args->out[0];
    gd_conv_t conv;
    status_t status = conv_init(op, x, dweight, dy, args->attrs, is_2d_op, &conv);
    if (status != ST_OK) {
        return status;
    }
    const size_t size = gd_dtype_size((gd_dtype_t)args->out[1].dtype);
    if (gd_view_numel(dy) == 0 || gd_view_numel(x) == 0) {
        memset(dweight->data, 0, (size_t)gd_view_numel(dweight) * gd_dtype_size((gd_dtype_t)dweight->dtype));
        memset(args->out[1].data, 0, (size_t)conv.c_out * size);
        return ST_OK;
    }
    const bool needs_bias = args->attrs->i[is_2d_op ? 11 : 13] == 0;
    if (!needs_bias) {
        memset(args->out[1].data, 0, (size_t)conv.c_out * size);
    }
    float *f32_dbias = needs_bias ? args->out[1].data : NULL;
    if (x->dtype != GD_DTYPE_F64 && gd_conv_gemm_suits(&conv, GD_CONV_WEIGHT, needs_bias, args->n_threads)) {
        return gd_conv_gemm_backward_weight(&conv, dy->data, x->data, dweight->data, f32_dbias, args->n_threads);
    }
    if (x->dtype == GD_DTYPE_F32 && gd_conv_weight_suits(&conv)) {
        return gd_conv_weight(&(gd_conv_weight_t){.conv = &conv,
                                                  .dy = dy->data,
                                                  .x = x->data,
                                                  .dweight = dweight->data,
                                                  .dbias = f32_dbias,
                                                  .n_threads = args->n_threads});
    }
    if (gd_amx_conv_suits(&conv, GD_CONV_WEIGHT)) {
        return gd_amx_conv_backward_weight(&conv, dy->data, x->data, dweight->data, f32_dbias, args->n_threads);
    }
    if (x->dtype != GD_DTYPE_F64) {
        return gd_onednn_conv_backward_weight(&conv, dy->data, x->data, dweight->data, f32_dbias, args->n_threads);
    }
    const arrays_t arrays = {x->data, dweight->data, dy->data};
    double *dbias = args->out[1].data;
    memset(arrays.weight, 0, (size_t)gd_view_numel(dweight) * size);
    conv_walk(&conv, term_weight, (void *)(uintptr_t)&arrays);
    const int64_t n = positions(conv.out);
    memset(dbias, 0, (size_t)conv.c_out * size);
    for (int64_t i = 0; i < conv.batch * conv.c_out * n && needs_bias; i++) {
        dbias[i / n % conv.c_out] += arrays.y[i];
    }
    return ST_OK;
}

/* in: x[B,C,H,W], weight[O,C/groups,KH,KW], bias[O] or absent; out: y[B,O,OH,OW]. */
status_t gd_cpu_conv2d(const gd_kernel_args_t *args)
{
    return forward_run("conv2d", args, true);
}

/* in: dy[B,O,OH,OW], weight; out: dx[B,C,H,W]. */
status_t gd_cpu_conv2d_backward_input(const gd_kernel_args_t *args)
{
    return input_run("conv2d_backward_input", args, true);
}

/* in: dy[B,O,OH,OW], x[B,C,H,W]; out: dweight, dbias[O]. attrs i11: no dbias is wanted, it is zero. */
status_t gd_cpu_conv2d_backward_weight(const gd_kernel_args_t *args)
{
    return weight_run("conv2d_backward_weight", args, true);
}

/* The same with a depth in front of the height; i13: no dbias is wanted. */
status_t gd_cpu_conv3d(const gd_kernel_args_t *args)
{
    return forward_run("conv3d", args, false);
}

status_t gd_cpu_conv3d_backward_input(const gd_kernel_args_t *args)
{
    return input_run("conv3d_backward_input", args, false);
}

status_t gd_cpu_conv3d_backward_weight(const gd_kernel_args_t *args)
{
    return weight_run("conv3d_backward_weight", args, false);
}

typedef struct bias_add {
    int64_t channels, n;
    const void *bias;
    void *y;
    bool is_f64;
} bias_add_t;

static void bias_add_planes(void *arg, int64_t begin, int64_t end)
{
    const bias_add_t *b = arg;
    for (int64_t plane = begin; plane < end; plane++) {
        for (int64_t i = plane * b->n; i < (plane + 1) * b->n && b->is_f64; i++) {
            ((double *)b->y)[i] += ((const double *)b->bias)[plane % b->channels];
        }
        for (int64_t i = plane * b->n; i < (plane + 1) * b->n && !b->is_f64; i++) {
            ((float *)b->y)[i] += ((const float *)b->bias)[plane % b->channels];
        }
    }
}

/* in: x[B,C,…], weight[C,O/groups,…], bias[O] or absent; out: y[B,O,…]: what conv's gradient for its input is. */
status_t gd_cpu_conv_transpose(const gd_kernel_args_t *args)
{
    status_t status = input_run("conv_transpose", args, false);
    if (status != ST_OK || args->in[2].data == NULL) {
        return status;
    }
    const gd_view_t *y = &args->out[0];
    bias_add_t add = {.channels = y->shape[1],
                      .n = y->shape[2],
                      .bias = args->in[2].data,
                      .y = y->data,
                      .is_f64 = y->dtype == GD_DTYPE_F64};
    for (int d = 3; d < y->n_dims; d++) {
        add.n *= y->shape[d];
    }
    gd_cpu_parallel(args->n_threads, y->shape[0] * y->shape[1], 1, bias_add_planes, &add);
    return ST_OK;
}
