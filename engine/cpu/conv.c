/* SPDX-License-Identifier: Apache-2.0 */
/* conv: the kernels of conv2d. f32 and bf16 go to oneDNN (bf16 only where the
 * processor multiplies it: see gd_op_t.has_bf16_products); f64, for gradient checks, walks the definition. */
#include <string.h>

#include "cpu/conv_gemm.h"
#include "cpu/conv_weight.h"
#include "cpu/kernels.h"
#include "cpu/onednn.h"

/* attrs: i0,1 stride; i2,3 padding; i4,5 dilation; i6 groups. */
static gd_conv_t conv_init(const gd_view_t *x, const gd_view_t *weight, const gd_view_t *y, const gd_attrs_t *attrs)
{
    gd_conv_t conv = {
        .batch = x->shape[0],
        .c_in = x->shape[1],
        .c_out = weight->shape[0],
        .groups = attrs->i[6],
        .dtype = x->dtype,
        .dweight_dtype = weight->dtype,
    };
    for (int i = 0; i < 2; i++) {
        conv.in[i] = x->shape[2 + i];
        conv.out[i] = y->shape[2 + i];
        conv.kernel[i] = weight->shape[2 + i];
        conv.stride[i] = attrs->i[i];
        conv.padding[i] = attrs->i[2 + i];
        conv.dilation[i] = attrs->i[4 + i];
    }
    return conv;
}

/* Calls term for every pair of an output element and a weight that meet in an input element. */
typedef void (*term_func_t)(void *arg, int64_t x, int64_t weight, int64_t y);
static void conv_walk_image(const gd_conv_t *c, int64_t b, int64_t o, term_func_t term, void *arg)
{
    const int64_t c_group = c->c_in / c->groups;
    const int64_t first = o / (c->c_out / c->groups) * c_group;
    const int64_t n_kernel = c->kernel[0] * c->kernel[1];
    for (int64_t i = 0; i < c->out[0] * c->out[1]; i++) {
        for (int64_t k = 0; k < c_group * n_kernel; k++) {
            const int64_t row =
                i / c->out[1] * c->stride[0] - c->padding[0] + k % n_kernel / c->kernel[1] * c->dilation[0];
            const int64_t column = i % c->out[1] * c->stride[1] - c->padding[1] + k % c->kernel[1] * c->dilation[1];
            if (row >= 0 && row < c->in[0] && column >= 0 && column < c->in[1]) {
                const int64_t plane = b * c->c_in + first + k / n_kernel;
                term(arg, (plane * c->in[0] + row) * c->in[1] + column, o * c_group * n_kernel + k,
                     (b * c->c_out + o) * c->out[0] * c->out[1] + i);
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

/* in: x[B,C,H,W], weight[O,C/groups,KH,KW], bias[O] or absent; out: y[B,O,OH,OW]. */
status_t gd_cpu_conv2d(const gd_kernel_args_t *args)
{
    const gd_view_t *x = &args->in[0];
    const gd_view_t *y = &args->out[0];
    const gd_conv_t conv = conv_init(x, &args->in[1], y, args->attrs);
    if (x->dtype != GD_DTYPE_F32 && x->dtype != GD_DTYPE_F64 && x->dtype != GD_DTYPE_BF16) {
        return gd_cpu_fail_dtype("conv2d", x->dtype);
    }
    if (gd_view_numel(y) == 0) {
        return ST_OK;
    }
    if (x->dtype == GD_DTYPE_F32 && gd_conv_gemm_suits(&conv)) {
        return gd_conv_gemm_forward(&conv, x->data, args->in[1].data, args->in[2].data, y->data, args->n_threads);
    }
    if (x->dtype != GD_DTYPE_F64) {
        return gd_onednn_conv_forward(&conv, x->data, args->in[1].data, args->in[2].data, y->data, args->n_threads);
    }
    const arrays_t arrays = {x->data, args->in[1].data, y->data};
    const double *bias = args->in[2].data;
    const int64_t n = conv.out[0] * conv.out[1];
    for (int64_t i = 0; i < conv.batch * conv.c_out * n; i++) {
        arrays.y[i] = bias != NULL ? bias[i / n % conv.c_out] : 0.0;
    }
    conv_walk(&conv, term_forward, (void *)(uintptr_t)&arrays);
    return ST_OK;
}

/* in: dy[B,O,OH,OW], weight; out: dx[B,C,H,W]. */
status_t gd_cpu_conv2d_backward_input(const gd_kernel_args_t *args)
{
    const gd_view_t *dy = &args->in[0];
    const gd_view_t *dx = &args->out[0];
    const gd_conv_t conv = conv_init(dx, &args->in[1], dy, args->attrs);
    if (dx->dtype != GD_DTYPE_F32 && dx->dtype != GD_DTYPE_F64 && dx->dtype != GD_DTYPE_BF16) {
        return gd_cpu_fail_dtype("conv2d_backward_input", dx->dtype);
    }
    if (gd_view_numel(dx) == 0) {
        return ST_OK;
    }
    if (dx->dtype == GD_DTYPE_F32 && gd_conv_gemm_suits(&conv)) {
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

/* in: dy[B,O,OH,OW], x[B,C,H,W]; out: dweight, dbias[O]. attrs i11: no dbias is wanted, it is zero. */
status_t gd_cpu_conv2d_backward_weight(const gd_kernel_args_t *args)
{
    const gd_view_t *dy = &args->in[0];
    const gd_view_t *x = &args->in[1];
    const gd_view_t *dweight = &args->out[0];
    const gd_conv_t conv = conv_init(x, dweight, dy, args->attrs);
    if (x->dtype != GD_DTYPE_F32 && x->dtype != GD_DTYPE_F64 && x->dtype != GD_DTYPE_BF16) {
        return gd_cpu_fail_dtype("conv2d_backward_weight", x->dtype);
    }
    const size_t size = gd_dtype_size((gd_dtype_t)args->out[1].dtype);
    if (gd_view_numel(dy) == 0 || gd_view_numel(x) == 0) {
        memset(dweight->data, 0, (size_t)gd_view_numel(dweight) * gd_dtype_size((gd_dtype_t)dweight->dtype));
        memset(args->out[1].data, 0, (size_t)conv.c_out * size);
        return ST_OK;
    }
    const bool needs_bias = args->attrs->i[11] == 0;
    if (!needs_bias) {
        memset(args->out[1].data, 0, (size_t)conv.c_out * size);
    }
    if (x->dtype == GD_DTYPE_F32 && !needs_bias && gd_conv_gemm_suits(&conv)) {
        return gd_conv_gemm_backward_weight(&conv, dy->data, x->data, dweight->data, args->n_threads);
    }
    float *f32_dbias = needs_bias ? args->out[1].data : NULL;
    if (x->dtype == GD_DTYPE_F32 && gd_conv_weight_suits(&conv)) {
        return gd_conv_weight(&(gd_conv_weight_t){.conv = &conv,
                                                  .dy = dy->data,
                                                  .x = x->data,
                                                  .dweight = dweight->data,
                                                  .dbias = f32_dbias,
                                                  .n_threads = args->n_threads});
    }
    if (x->dtype != GD_DTYPE_F64) {
        return gd_onednn_conv_backward_weight(&conv, dy->data, x->data, dweight->data, f32_dbias, args->n_threads);
    }
    const arrays_t arrays = {x->data, dweight->data, dy->data};
    double *dbias = args->out[1].data;
    memset(arrays.weight, 0, (size_t)gd_view_numel(dweight) * size);
    conv_walk(&conv, term_weight, (void *)(uintptr_t)&arrays);
    const int64_t n = conv.out[0] * conv.out[1];
    memset(dbias, 0, (size_t)conv.c_out * size);
    for (int64_t i = 0; i < conv.batch * conv.c_out * n && needs_bias; i++) {
        dbias[i / n % conv.c_out] += arrays.y[i];
    }
    return ST_OK;
}
