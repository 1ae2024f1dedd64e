/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conv_gemm: see conv_gemm.h.
 *
 * Note [Images are shared out, not products]
 *   Each thread takes whole images and multiplies by itself: measured with oneDNN 2.6.3 on two Zen 3 cores (peak 203
 *   GFLOP/s), ResNet-50's 1 × 1 convolutions run at 150-190 GFLOP/s so, and at 130-180 with every product shared by the
 *   threads. Images that are left over after equal shares are such shared products. Gradients of the weight are summed
 *   by each thread over its images in order, and then over the threads in order.
 */
#include "cpu/conv_gemm.h"

#include <string.h>

#include "cpu/conv_weight.h"
#include "cpu/kernels.h"

typedef struct conv_gemm {
    const gd_conv_t *conv;
    const float *x;      /* [C,H,W] of each image; backward_input: dy */
    const float *weight; /* of each group [O,K]; backward_input: [K,O]; backward_weight: dy */
    const float *bias;
    float *y; /* backward_input: dx; backward_weight: dweight */
    int64_t n_in, n_out;
    int64_t n_rows;                /* of pixels: C taps of the kernel */
    int64_t group_rows, group_out; /* K, channels times taps, and O of a group */
    int64_t share;                 /* images a thread */
    float *partial;                /* backward_weight: [threads - 1] of them */
    int64_t n_parts;               /* of partial, that were written */
    int n_product_threads;
    _Atomic bool has_failed;
} conv_gemm_t;

static bool is_pointwise(const gd_conv_t *c)
{
    return c->in[2] == 0 && c->kernel[0] == 1 && c->kernel[1] == 1 && c->padding[0] == 0 && c->padding[1] == 0 &&
           c->groups == 1;
}

bool gd_conv_gemm_suits(const gd_conv_t *c, gd_conv_kind_t kind, bool has_bias, int n_threads)
{
    if (is_pointwise(c) && (kind != GD_CONV_WEIGHT || !has_bias)) {
        return true;
    }
    return gd_cpu_isa() < GD_CPU_ISA_V4 && c->in[2] == 0 && !(kind == GD_CONV_WEIGHT && gd_conv_weight_suits(c)) &&
           gd_onednn_conv_is_product(c, kind, has_bias, n_threads);
}

static bool is_strided(const gd_conv_t *c)
{
    return c->stride[0] != 1 || c->stride[1] != 1;
}

static conv_gemm_t conv_gemm_init(const gd_conv_t *conv, int n_threads)
{
    return (conv_gemm_t){
        .conv = conv,
        .n_in = conv->in[0] * conv->in[1],
        .n_out = conv->out[0] * conv->out[1],
        .n_rows = conv->c_in * conv->kernel[0] * conv->kernel[1],
        .group_rows = conv->c_in / conv->groups * conv->kernel[0] * conv->kernel[1],
        .group_out = conv->c_out / conv->groups,
        .share = conv->batch / (n_threads > 1 ? n_threads : 1),
    };
}

static void product_run(conv_gemm_t *g, const gd_product_t *product)
{
    if (gd_gemm_product(product, g->n_product_threads) != ST_OK) {
        g->has_failed = true;
    }
}

/* Between an image and its pixels under the taps of the kernel, either way, by the kernel of an op. */
static bool windows_run(const conv_gemm_t *g, gd_op_id_t id, const float *from, float *to)
{
    const gd_conv_t *c = g->conv;
    const gd_view_t image = {.n_dims = 4,
                             .dtype = GD_DTYPE_F32,
                             .shape = {1, c->c_in, c->in[0], c->in[1]},
                             .stride = {c->c_in * g->n_in, g->n_in, c->in[1], 1}};
    const gd_view_t columns = {.n_dims = 3,
                               .dtype = GD_DTYPE_F32,
                               .shape = {1, g->n_rows, g->n_out},
                               .stride = {g->n_rows * g->n_out, g->n_out, 1}};
    gd_view_t in = id == GD_OP_UNFOLD ? image : columns, out = id == GD_OP_UNFOLD ? columns : image;
    in.data = (void *)(uintptr_t)from;
    out.data = to;
    const gd_attrs_t attrs = {.i = {c->kernel[0], c->kernel[1], c->stride[0], c->stride[1], c->padding[0],
                                    c->padding[1], c->dilation[0], c->dilation[1]}};
    return gd_cpu_kernel(id)(&(gd_kernel_args_t){
               .in = &in, .n_in = 1, .out = &out, .n_out = 1, .attrs = &attrs, .n_threads = g->n_product_threads}) ==
           ST_OK;
}

/* The pixels that the kernel meets, [C·KH·KW, OH·OW]: the image itself, or a copy in scratch memory; NULL: no memory.
 */
static const float *pixels_get(const conv_gemm_t *g, const float *image)
{
    const gd_conv_t *c = g->conv;
    if (is_pointwise(c) && !is_strided(c)) {
        return image;
    }
    float *pixels = gd_cpu_scratch(GD_CPU_SLOT_WORKER, (size_t)(g->n_rows * g->n_out) * sizeof(float));
    if (!is_pointwise(c)) {
        return pixels != NULL && windows_run(g, GD_OP_UNFOLD, image, pixels) ? pixels : NULL;
    }
    for (int64_t row = 0; row < c->c_in * c->out[0] && pixels != NULL; row++) {
        const float *from = image + row / c->out[0] * g->n_in + row % c->out[0] * c->stride[0] * c->in[1];
        for (int64_t j = 0; j < c->out[1]; j++) {
            pixels[row * c->out[1] + j] = from[j * c->stride[1]];
        }
    }
    return pixels;
}

/* The other way: an image of zeros but at the pixels. */
static void pixels_put(conv_gemm_t *g, const float *pixels, float *image)
{
    const gd_conv_t *c = g->conv;
    if (!is_pointwise(c)) {
        if (!windows_run(g, GD_OP_FOLD, pixels, image)) {
            g->has_failed = true;
        }
        return;
    }
    memset(image, 0, (size_t)(c->c_in * g->n_in) * sizeof(float));
    for (int64_t row = 0; row < c->c_in * c->out[0]; row++) {
        float *to = image + row / c->out[0] * g->n_in + row % c->out[0] * c->stride[0] * c->in[1];
        for (int64_t j = 0; j < c->out[1]; j++) {
            to[j * c->stride[1]] = pixels[row * c->out[1] + j];
        }
    }
}

/* Runs body for the images: equal shares side by side, then what is left over, one by one, with all threads. */
static status_t images_run(conv_gemm_t *g, int n_threads, gd_cpu_body_func_t body)
{
    const int64_t n_shared = n_threads > 1 ? g->share * n_threads : g->conv->batch;
    if (n_shared > 0) {
        g->n_product_threads = 1;
        gd_cpu_parallel(n_threads, n_shared, n_threads > 1 ? g->share : n_shared, body, g);
    }
    g->n_product_threads = n_threads;
    for (int64_t i = n_shared; i < g->conv->batch; i++) {
        body(g, i, i + 1);
    }
    return g->has_failed ? ST_FAIL(ST_ERR_NOMEM, "convolution: memory for the pixels or panels of an image") : ST_OK;
}

/* y[O,N] = weight[O,K] x[K,N] + bias[O], group by group */
static void forward_images(void *arg, int64_t begin, int64_t end)
{
    conv_gemm_t *g = arg;
    const gd_conv_t *c = g->conv;
    for (int64_t i = begin; i < end; i++) {
        const float *pixels = pixels_get(g, g->x + i * c->c_in * g->n_in);
        float *y = g->y + i * c->c_out * g->n_out;
        if (pixels == NULL) {
            g->has_failed = true;
            return;
        }
        for (int64_t o = 0; o < c->c_out && g->bias != NULL; o++) {
            for (int64_t j = 0; j < g->n_out; j++) {
                y[o * g->n_out + j] = g->bias[o];
            }
        }
        for (int64_t group = 0; group < c->groups; group++) {
            product_run(g, &(gd_product_t){.m = g->group_out,
                                           .n = g->n_out,
                                           .k = g->group_rows,
                                           .a = g->weight + group * g->group_out * g->group_rows,
                                           .a_row = g->group_rows,
                                           .b = pixels + group * g->group_rows * g->n_out,
                                           .b_row = g->n_out,
                                           .c = y + group * g->group_out * g->n_out,
                                           .c_row = g->n_out,
                                           .is_accumulating = g->bias != NULL});
        }
    }
}

status_t gd_conv_gemm_forward(const gd_conv_t *conv, const float *x, const float *weight, const float *bias, float *y,
                              int n_threads)
{
    conv_gemm_t g = conv_gemm_init(conv, n_threads);
    g.x = x;
    g.weight = weight;
    g.bias = bias;
    g.y = y;
    return images_run(&g, n_threads, forward_images);
}

/* dx[K,N] = weight[O,K]ᵀ dy[O,N], group by group */
static void backward_input_images(void *arg, int64_t begin, int64_t end)
{
    conv_gemm_t *g = arg;
    const gd_conv_t *c = g->conv;
    for (int64_t i = begin; i < end; i++) {
        float *dx = g->y + i * c->c_in * g->n_in;
        float *pixels = dx;
        if (!is_pointwise(c) || is_strided(c)) {
            pixels = gd_cpu_scratch(GD_CPU_SLOT_WORKER, (size_t)(g->n_rows * g->n_out) * sizeof(float));
        }
        if (pixels == NULL) {
            g->has_failed = true;
            return;
        }
        for (int64_t group = 0; group < c->groups; group++) {
            product_run(g, &(gd_product_t){.m = g->group_rows,
                                           .n = g->n_out,
                                           .k = g->group_out,
                                           .a = g->weight + group * g->group_rows * g->group_out,
                                           .a_row = g->group_out,
                                           .b = g->x + (i * c->c_out + group * g->group_out) * g->n_out,
                                           .b_row = g->n_out,
                                           .c = pixels + group * g->group_rows * g->n_out,
                                           .c_row = g->n_out});
        }
        if (pixels != dx) {
            pixels_put(g, pixels, dx);
        }
    }
}

/* to[columns, rows] = from[rows, columns]ᵀ */
static status_t matrix_transpose(const float *from, int64_t rows, int64_t columns, float *to, int n_threads)
{
    const gd_view_t in = {.data = (void *)(uintptr_t)from,
                          .n_dims = 2,
                          .dtype = GD_DTYPE_F32,
                          .shape = {columns, rows},
                          .stride = {1, columns}};
    gd_view_t out = {.data = to, .n_dims = 2, .dtype = GD_DTYPE_F32, .shape = {columns, rows}, .stride = {rows, 1}};
    const gd_attrs_t attrs = {.i = {0}};
    return gd_cpu_kernel(GD_OP_CONTIGUOUS)(
        &(gd_kernel_args_t){.in = &in, .n_in = 1, .out = &out, .n_out = 1, .attrs = &attrs, .n_threads = n_threads});
}

status_t gd_conv_gemm_backward_input(const gd_conv_t *conv, const float *dy, const float *weight, float *dx,
                                     int n_threads)
{
    conv_gemm_t g = conv_gemm_init(conv, n_threads);
    /* turned once: oneDNN is 2-3 times slower with a transposed left operand and few columns */
    const int64_t group_size = g.group_rows * g.group_out;
    float *turned = gd_cpu_scratch(GD_CPU_SLOT_KERNEL, (size_t)(conv->groups * group_size) * sizeof(float));
    if (turned == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "convolution: a transposed weight");
    }
    status_t status = ST_OK;
    for (int64_t group = 0; group < conv->groups && status == ST_OK; group++) {
        status = matrix_transpose(weight + group * group_size, g.group_out, g.group_rows, turned + group * group_size,
                                  n_threads);
    }
    g.x = dy;
    g.weight = turned;
    g.y = dx;
    return status == ST_OK ? images_run(&g, n_threads, backward_input_images) : status;
}

/* dweight[O,K] += dy[O,N] x[K,N]ᵀ, group by group; the first share's sum is dweight itself, the others' are partial
 * ones. */
static void backward_weight_images(void *arg, int64_t begin, int64_t end)
{
    conv_gemm_t *g = arg;
    const gd_conv_t *c = g->conv;
    const int64_t part = g->share > 0 ? begin / g->share : 0;
    const bool is_left_over = part > g->n_parts || g->share == 0;
    float *sum = part == 0 || is_left_over ? g->y : g->partial + (part - 1) * c->c_out * g->group_rows;
    for (int64_t i = begin; i < end; i++) {
        const float *pixels = pixels_get(g, g->x + i * c->c_in * g->n_in);
        if (pixels == NULL) {
            g->has_failed = true;
            return;
        }
        for (int64_t group = 0; group < c->groups; group++) {
            product_run(g, &(gd_product_t){.m = g->group_out,
                                           .n = g->group_rows,
                                           .k = g->n_out,
                                           .a = g->weight + (i * c->c_out + group * g->group_out) * g->n_out,
                                           .a_row = g->n_out,
                                           .b = pixels + group * g->group_rows * g->n_out,
                                           .b_row = g->n_out,
                                           .is_b_transposed = true,
                                           .c = sum + group * g->group_out * g->group_rows,
                                           .c_row = g->group_rows,
                                           .is_accumulating = i > begin || (is_left_over && i > 0)});
        }
    }
}

typedef struct sum {
    float *total;
    const float *partial;
    int64_t n, n_parts;
} sum_t;

static void partial_add(void *arg, int64_t begin, int64_t end)
{
    const sum_t *sum = arg;
    for (int64_t part = 0; part < sum->n_parts; part++) {
        const float *partial = sum->partial + part * sum->n;
        for (int64_t i = begin; i < end; i++) {
            sum->total[i] += partial[i];
        }
    }
}

typedef struct bias_sum {
    const gd_conv_t *conv;
    const float *dy;
    int64_t n_out;
    float *dbias;
} bias_sum_t;

static void bias_sum_channels(void *arg, int64_t begin, int64_t end)
{
    const bias_sum_t *b = arg;
    for (int64_t o = begin; o < end; o++) {
        double sum[4] = {0};
        for (int64_t i = 0; i < b->conv->batch; i++) {
            const float *dy = b->dy + (i * b->conv->c_out + o) * b->n_out;
            for (int64_t j = 0; j < b->n_out; j++) {
                sum[j & 3] += (double)dy[j];
            }
        }
        b->dbias[o] = (float)((sum[0] + sum[1]) + (sum[2] + sum[3]));
    }
}

status_t gd_conv_gemm_backward_weight(const gd_conv_t *conv, const float *dy, const float *x, float *dweight,
                                      float *dbias, int n_threads)
{
    enum { GRAIN = 1 << 14 };
    conv_gemm_t g = conv_gemm_init(conv, n_threads);
    const int64_t n = conv->c_out * g.group_rows;
    g.x = x;
    g.weight = dy;
    g.y = dweight;
    g.n_parts = n_threads > 1 && g.share > 0 ? n_threads - 1 : 0;
    if (g.n_parts > 0) {
        g.partial = gd_cpu_scratch(GD_CPU_SLOT_KERNEL, (size_t)(g.n_parts * n) * sizeof(float));
        if (g.partial == NULL) {
            return ST_FAIL(ST_ERR_NOMEM, "convolution: partial gradients of the weight");
        }
    }
    status_t status = images_run(&g, n_threads, backward_weight_images);
    if (status == ST_OK && g.n_parts > 0) {
        sum_t sum = {.total = dweight, .partial = g.partial, .n = n, .n_parts = g.n_parts};
        gd_cpu_parallel(n_threads, n, GRAIN, partial_add, &sum);
    }
    if (dbias != NULL) {
        bias_sum_t bias = {.conv = conv, .dy = dy, .n_out = g.n_out, .dbias = dbias};
        gd_cpu_parallel(n_threads, conv->c_out, 1, bias_sum_channels, &bias);
    }
    return status;
}
