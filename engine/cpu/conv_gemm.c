/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conv_gemm: see conv_gemm.h.
 *
 * Note [Images are shared out, not products]
 *   Each thread takes whole images, or groups of their channels, and multiplies by itself: measured with oneDNN 2.6.3
 *   on two Zen 3 cores (peak 203 GFLOP/s), ResNet-50's 1 × 1 convolutions run at 150-190 GFLOP/s so, and at 130-180
 * with every product shared by the threads. What is left over after equal shares are such shared products. Gradients of
 *   the weight are summed by each thread over the images in order where there are groups enough to share out; else by
 *   each thread over its images in order, and then over the threads in order.
 *
 * Note [Bands]
 *   The pixels under the taps are copied for some rows of y at a time, as many as keep the copy in the second-level
 *   cache.
 */
#include "cpu/conv_gemm.h"

#include <string.h>

#include "cpu/conv_taps.h"
#include "cpu/conv_weight.h"
#include "cpu/kernels.h"

enum {
    BAND_FLOATS = 1 << 16,   /* of a band's pixels */
    LEAST_BAND_PIXELS = 256, /* of a row of them, for the products' sake */
    WORTH_THREADS = 1 << 18, /* terms of a product that is shared by the threads */
    MANY_GROUPS = 8          /* a thread: so many that the last ones may be unequally shared out */
};

typedef struct conv_gemm {
    const gd_conv_t *conv;
    const float *x;      /* [C,D·H·W] of each image; backward_input: dy */
    const float *weight; /* of each group [O,K]; backward_input: [K,O]; backward_weight: dy */
    const float *bias;
    float *y; /* backward_input: dx; backward_weight: dweight */
    int64_t n_in, n_out;
    int64_t group_in, group_out; /* channels of a group */
    int64_t group_rows;          /* K: its channels times the kernel's taps */
    int64_t n_rows, rows_a_band; /* of y */
    int64_t share;               /* images or groups a thread */
    float *partial;              /* backward_weight: [threads - 1] of them */
    int64_t n_parts;             /* of partial, that were written */
    int n_product_threads;
    _Atomic bool has_failed;
} conv_gemm_t;

static int64_t depth_of(int64_t size)
{
    return size > 0 ? size : 1;
}

static int64_t volume_of(const int64_t sizes[3])
{
    return sizes[0] * sizes[1] * depth_of(sizes[2]);
}

/* Whether each pixel of the image meets the kernel's only tap, in order. */
static bool is_as_it_lies(const gd_conv_t *c)
{
    const int n_axes = c->in[2] > 0 ? 3 : 2;
    for (int i = 0; i < n_axes; i++) {
        if (c->kernel[i] != 1 || c->padding[i] != 0 || c->stride[i] != 1) {
            return false;
        }
    }
    return true;
}

bool gd_conv_gemm_suits(const gd_conv_t *c, gd_conv_kind_t kind, bool has_bias, int n_threads)
{
    const bool is_pointwise = c->in[2] == 0 && c->kernel[0] == 1 && c->kernel[1] == 1 && c->padding[0] == 0 &&
                              c->padding[1] == 0 && c->groups == 1;
    if (c->dtype == GD_DTYPE_F32 && is_pointwise && (kind != GD_CONV_WEIGHT || !has_bias)) {
        return true;
    }
    if (c->dtype == GD_DTYPE_F32 && kind == GD_CONV_WEIGHT && gd_conv_weight_suits(c)) {
        return false;
    }
    return gd_onednn_conv_is_product(c, kind, has_bias, n_threads);
}

static conv_gemm_t conv_gemm_init(const gd_conv_t *conv)
{
    conv_gemm_t g = {
        .conv = conv,
        .n_in = volume_of(conv->in),
        .n_out = volume_of(conv->out),
        .group_in = conv->c_in / conv->groups,
        .group_out = conv->c_out / conv->groups,
        .group_rows = conv->c_in / conv->groups * volume_of(conv->kernel),
        .n_rows = conv->out[0] * depth_of(conv->out[2]),
    };
    g.rows_a_band = g.n_rows;
    if (!is_as_it_lies(conv)) {
        const int64_t pixels = BAND_FLOATS / g.group_rows;
        const int64_t rows = (pixels > LEAST_BAND_PIXELS ? pixels : LEAST_BAND_PIXELS) / conv->out[1];
        const int64_t n_bands = gd_cpu_n_blocks(g.n_rows, rows > 0 ? rows : 1);
        g.rows_a_band = gd_cpu_n_blocks(g.n_rows, n_bands);
    }
    return g;
}

static void product_run(conv_gemm_t *g, const gd_product_t *product)
{
    if (gd_gemm_product(product, g->n_product_threads) != ST_OK) {
        g->has_failed = true;
    }
}

/* Rows [row, row_end) of y and the pixels under their taps. */
typedef struct band {
    int64_t row, row_end;
    int64_t n, offset; /* pixels, and y's before them */
    float *pixels;     /* [K, n]: the image itself, or in scratch memory */
} band_t;

/* The band that begins at the row. image: of a group; false: no memory. */
static bool band_init(conv_gemm_t *g, const float *image, int64_t row, band_t *band_p)
{
    const gd_conv_t *c = g->conv;
    band_t band = {.row = row, .row_end = row + g->rows_a_band, .offset = row * c->out[1]};
    band.row_end = band.row_end < g->n_rows ? band.row_end : g->n_rows;
    band.n = (band.row_end - row) * c->out[1];
    band.pixels = (float *)(uintptr_t)image;
    if (!is_as_it_lies(c)) {
        band.pixels = gd_cpu_scratch(GD_CPU_SLOT_WORKER, (size_t)(g->group_rows * band.n) * sizeof(float));
        g->has_failed = g->has_failed || band.pixels == NULL;
    }
    *band_p = band;
    return band.pixels != NULL;
}

static gd_conv_taps_func_t gather_func(void)
{
#ifdef __x86_64__
    return gd_cpu_isa() == GD_CPU_ISA_V2   ? gd_cpu_conv_taps_gather_v2
           : gd_cpu_isa() == GD_CPU_ISA_V3 ? gd_cpu_conv_taps_gather_v3
                                           : gd_cpu_conv_taps_gather_v4;
#else
    return gd_cpu_conv_taps_gather_base;
#endif
}

static gd_conv_taps_func_t scatter_func(void)
{
#ifdef __x86_64__
    return gd_cpu_isa() == GD_CPU_ISA_V2   ? gd_cpu_conv_taps_scatter_v2
           : gd_cpu_isa() == GD_CPU_ISA_V3 ? gd_cpu_conv_taps_scatter_v3
                                           : gd_cpu_conv_taps_scatter_v4;
#else
    return gd_cpu_conv_taps_scatter_base;
#endif
}

/* Between a group's image and a band's copy of its pixels, where it is one. */
static void band_copy(const conv_gemm_t *g, const band_t *band, const float *image, gd_conv_taps_func_t copy)
{
    if (band->pixels != image) {
        copy(&(gd_conv_taps_t){.conv = g->conv,
                               .channels = g->group_in,
                               .row = band->row,
                               .row_end = band->row_end,
                               .image = (float *)(uintptr_t)image,
                               .pixels = band->pixels,
                               .n_threads = g->n_product_threads});
    }
}

/* Runs body for n images or groups: equal shares side by side, then what is left over, one by one, with all threads. */
static status_t shares_run(conv_gemm_t *g, int64_t n, int n_threads, gd_cpu_body_func_t body)
{
    g->share = n / (n_threads > 1 ? n_threads : 1);
    const int64_t n_shared = n_threads > 1 ? g->share * n_threads : n;
    if (n_shared > 0) {
        g->n_product_threads = 1;
        gd_cpu_parallel(n_threads, n_shared, g->share, body, g);
    }
    const int64_t n_terms = g->group_rows * g->group_out * g->n_out; /* of an image's group */
    g->n_product_threads = n_terms >= WORTH_THREADS ? n_threads : 1;
    for (int64_t i = n_shared; i < n; i++) {
        body(g, i, i + 1);
    }
    return g->has_failed ? ST_FAIL(ST_ERR_NOMEM, "convolution: memory for the pixels or panels of an image") : ST_OK;
}

/* Groups of images, in order: y[O,N] = weight[O,K] x[K,N] + bias[O] */
static void forward_groups(void *arg, int64_t begin, int64_t end)
{
    conv_gemm_t *g = arg;
    for (int64_t i = begin; i < end; i++) {
        const float *image = g->x + i * g->group_in * g->n_in;
        float *y = g->y + i * g->group_out * g->n_out;
        const int64_t group = i % g->conv->groups;
        for (int64_t o = 0; o < g->group_out && g->bias != NULL; o++) {
            const float bias = g->bias[group * g->group_out + o];
            for (int64_t j = 0; j < g->n_out; j++) {
                y[o * g->n_out + j] = bias;
            }
        }
        band_t band;
        for (int64_t row = 0; row < g->n_rows && band_init(g, image, row, &band); row = band.row_end) {
            band_copy(g, &band, image, gather_func());
            product_run(g, &(gd_product_t){.m = g->group_out,
                                           .n = band.n,
                                           .k = g->group_rows,
                                           .a = g->weight + group * g->group_out * g->group_rows,
                                           .a_row = g->group_rows,
                                           .b = band.pixels,
                                           .b_row = band.n,
                                           .c = y + band.offset,
                                           .c_row = g->n_out,
                                           .is_accumulating = g->bias != NULL});
        }
    }
}

/* Groups of images, in order: dx[K,N] = weight[O,K]ᵀ dy[O,N] */
static void backward_input_groups(void *arg, int64_t begin, int64_t end)
{
    conv_gemm_t *g = arg;
    for (int64_t i = begin; i < end; i++) {
        float *dx = g->y + i * g->group_in * g->n_in;
        const int64_t group = i % g->conv->groups;
        if (!is_as_it_lies(g->conv)) {
            memset(dx, 0, (size_t)(g->group_in * g->n_in) * sizeof(float));
        }
        band_t band;
        for (int64_t row = 0; row < g->n_rows && band_init(g, dx, row, &band); row = band.row_end) {
            product_run(g, &(gd_product_t){.m = g->group_rows,
                                           .n = band.n,
                                           .k = g->group_out,
                                           .a = g->weight + group * g->group_rows * g->group_out,
                                           .a_row = g->group_out,
                                           .b = g->x + i * g->group_out * g->n_out + band.offset,
                                           .b_row = g->n_out,
                                           .c = band.pixels,
                                           .c_row = band.n});
            band_copy(g, &band, dx, scatter_func());
        }
    }
}

/* sum[O,K] (+)= dy[O,N] x[K,N]ᵀ of one group of an image */
static void weight_add(conv_gemm_t *g, int64_t image, int64_t group, float *sum, bool is_adding)
{
    const int64_t i = image * g->conv->groups + group;
    const float *x = g->x + i * g->group_in * g->n_in;
    band_t band;
    for (int64_t row = 0; row < g->n_rows && band_init(g, x, row, &band); row = band.row_end) {
        band_copy(g, &band, x, gather_func());
        product_run(g, &(gd_product_t){.m = g->group_out,
                                       .n = g->group_rows,
                                       .k = band.n,
                                       .a = g->weight + i * g->group_out * g->n_out + band.offset,
                                       .a_row = g->n_out,
                                       .b = band.pixels,
                                       .b_row = band.n,
                                       .is_b_transposed = true,
                                       .c = sum + group * g->group_out * g->group_rows,
                                       .c_row = g->group_rows,
                                       .is_accumulating = is_adding || row > 0});
    }
}

static void backward_weight_groups(void *arg, int64_t begin, int64_t end)
{
    conv_gemm_t *g = arg;
    for (int64_t group = begin; group < end; group++) {
        for (int64_t i = 0; i < g->conv->batch; i++) {
            weight_add(g, i, group, g->y, i > 0);
        }
    }
}

/* The first share's sum is dweight itself, the others' are partial ones; what is left over is added to dweight. */
static void backward_weight_images(void *arg, int64_t begin, int64_t end)
{
    conv_gemm_t *g = arg;
    const int64_t part = g->share > 0 ? begin / g->share : 0;
    const bool is_left_over = part > g->n_parts || g->share == 0;
    const int64_t n = g->conv->c_out * g->group_rows;
    float *sum = part == 0 || is_left_over ? g->y : g->partial + (part - 1) * n;
    for (int64_t i = begin; i < end; i++) {
        for (int64_t group = 0; group < g->conv->groups; group++) {
            weight_add(g, i, group, sum, i > begin || (is_left_over && i > 0));
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

static status_t weight_run(const gd_conv_t *conv, const float *dy, const float *x, float *dweight, float *dbias,
                           int n_threads)
{
    enum { GRAIN = 1 << 14 };
    conv_gemm_t g = conv_gemm_init(conv);
    const int64_t n = conv->c_out * g.group_rows;
    const int64_t threads = n_threads > 1 ? n_threads : 1;
    const bool is_by_group = conv->groups % threads == 0 || conv->groups >= MANY_GROUPS * threads;
    g.x = x;
    g.weight = dy;
    g.y = dweight;
    g.n_parts = !is_by_group && conv->batch >= threads ? n_threads - 1 : 0;
    if (g.n_parts > 0) {
        g.partial = gd_cpu_scratch(GD_CPU_SLOT_KERNEL, (size_t)(g.n_parts * n) * sizeof(float));
        if (g.partial == NULL) {
            return ST_FAIL(ST_ERR_NOMEM, "convolution: partial gradients of the weight");
        }
    }
    status_t status = is_by_group ? shares_run(&g, conv->groups, n_threads, backward_weight_groups)
                                  : shares_run(&g, conv->batch, n_threads, backward_weight_images);
    if (status == ST_OK && g.n_parts > 0) {
        sum_t sum = {.total = dweight, .partial = g.partial, .n = n, .n_parts = g.n_parts};
        gd_cpu_parallel(n_threads, n, GRAIN, partial_add, &sum);
    }
    if (status == ST_OK && dbias != NULL) {
        bias_sum_t bias = {.conv = conv, .dy = dy, .n_out = g.n_out, .dbias = dbias};
        gd_cpu_parallel(n_threads, conv->c_out, 1, bias_sum_channels, &bias);
    }
    return status;
}

/* to = from, by the kernel of an op: a copy or a conversion. */
static status_t view_copy(gd_op_id_t id, const gd_view_t *from, const gd_view_t *to, int n_threads)
{
    const gd_attrs_t attrs = {.i = {to->dtype}};
    gd_view_t out = *to;
    return gd_cpu_kernel(id)(
        &(gd_kernel_args_t){.in = from, .n_in = 1, .out = &out, .n_out = 1, .attrs = &attrs, .n_threads = n_threads});
}

static status_t input_run(const gd_conv_t *conv, const float *dy, const float *weight, float *dx, int n_threads)
{
    conv_gemm_t g = conv_gemm_init(conv);
    /* turned once: oneDNN is 2-3 times slower with a transposed left operand and few columns */
    const int64_t n = conv->groups * g.group_rows * g.group_out;
    float *turned = gd_cpu_scratch(GD_CPU_SLOT_KERNEL, (size_t)n * sizeof(float));
    if (turned == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "convolution: a transposed weight");
    }
    const gd_view_t from = {.data = (void *)(uintptr_t)weight,
                            .n_dims = 3,
                            .dtype = GD_DTYPE_F32,
                            .shape = {conv->groups, g.group_rows, g.group_out},
                            .stride = {g.group_rows * g.group_out, 1, g.group_rows}};
    gd_view_t to = from;
    to.data = turned;
    to.stride[1] = g.group_out;
    to.stride[2] = 1;
    status_t status = view_copy(GD_OP_CONTIGUOUS, &from, &to, n_threads);
    g.x = dy;
    g.weight = turned;
    g.y = dx;
    return status == ST_OK ? shares_run(&g, conv->batch * conv->groups, n_threads, backward_input_groups) : status;
}

static status_t forward_run(const gd_conv_t *conv, const float *x, const float *weight, const float *bias, float *y,
                            int n_threads)
{
    conv_gemm_t g = conv_gemm_init(conv);
    g.x = x;
    g.weight = weight;
    g.bias = bias;
    g.y = y;
    return shares_run(&g, conv->batch * conv->groups, n_threads, forward_groups);
}

/* ---- bf16 ---- */

/* What stands for the arrays in f32: themselves, or memory for their conversion. */
typedef struct wide {
    float *in[2];
    float *out;
} wide_t;

static int64_t x_numel(const gd_conv_t *c)
{
    return c->batch * c->c_in * volume_of(c->in);
}

static int64_t y_numel(const gd_conv_t *c)
{
    return c->batch * c->c_out * volume_of(c->out);
}

static int64_t weight_numel(const gd_conv_t *c)
{
    return c->c_out * (c->c_in / c->groups) * volume_of(c->kernel);
}

static status_t numbers_convert(const void *from, int32_t from_dtype, void *to, int32_t to_dtype, int64_t n,
                                int n_threads)
{
    const gd_view_t in = {
        .data = (void *)(uintptr_t)from, .n_dims = 1, .dtype = from_dtype, .shape = {n}, .stride = {1}};
    const gd_view_t out = {.data = to, .n_dims = 1, .dtype = to_dtype, .shape = {n}, .stride = {1}};
    return view_copy(GD_OP_CAST, &in, &out, n_threads);
}

/* in: n[0] and n[1] numbers of the convolution's dtype; out: n[2] of out_dtype. */
static status_t wide_init(const gd_conv_t *c, const void *const *in, void *out, int32_t out_dtype, const int64_t *n,
                          int n_threads, wide_t *wide_p)
{
    wide_t wide = {.in = {(float *)(uintptr_t)in[0], (float *)(uintptr_t)in[1]}, .out = out};
    if (c->dtype == GD_DTYPE_F32) {
        *wide_p = wide;
        return ST_OK;
    }
    const int64_t line = 64 / (int64_t)sizeof(float), n_out = out_dtype == GD_DTYPE_F32 ? 0 : n[2];
    const int64_t first = gd_cpu_n_blocks(n[0], line) * line, second = gd_cpu_n_blocks(n[1], line) * line;
    float *memory = gd_cpu_scratch(GD_CPU_SLOT_CONVERTED, (size_t)(first + second + n_out) * sizeof(float));
    if (memory == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "convolution: copies of %lld numbers in f32", (long long)(first + second + n_out));
    }
    wide.in[0] = memory;
    wide.in[1] = memory + first;
    wide.out = n_out > 0 ? memory + first + second : out;
    status_t status = ST_OK;
    for (int i = 0; i < 2 && status == ST_OK; i++) {
        status = numbers_convert(in[i], c->dtype, wide.in[i], GD_DTYPE_F32, n[i], n_threads);
    }
    *wide_p = wide;
    return status;
}

static status_t wide_finish(const wide_t *wide, void *out, int32_t out_dtype, int64_t n, int n_threads)
{
    return wide->out == out ? ST_OK : numbers_convert(wide->out, GD_DTYPE_F32, out, out_dtype, n, n_threads);
}

status_t gd_conv_gemm_forward(const gd_conv_t *conv, const void *x, const void *weight, const float *bias, void *y,
                              int n_threads)
{
    const int64_t n[3] = {x_numel(conv), weight_numel(conv), y_numel(conv)};
    wide_t wide;
    status_t status = wide_init(conv, (const void *const[2]){x, weight}, y, conv->dtype, n, n_threads, &wide);
    if (status == ST_OK) {
        status = forward_run(conv, wide.in[0], wide.in[1], bias, wide.out, n_threads);
    }
    return status == ST_OK ? wide_finish(&wide, y, conv->dtype, n[2], n_threads) : status;
}

status_t gd_conv_gemm_backward_input(const gd_conv_t *conv, const void *dy, const void *weight, void *dx, int n_threads)
{
    const int64_t n[3] = {y_numel(conv), weight_numel(conv), x_numel(conv)};
    wide_t wide;
    status_t status = wide_init(conv, (const void *const[2]){dy, weight}, dx, conv->dtype, n, n_threads, &wide);
    if (status == ST_OK) {
        status = input_run(conv, wide.in[0], wide.in[1], wide.out, n_threads);
    }
    return status == ST_OK ? wide_finish(&wide, dx, conv->dtype, n[2], n_threads) : status;
}

status_t gd_conv_gemm_backward_weight(const gd_conv_t *conv, const void *dy, const void *x, void *dweight, float *dbias,
                                      int n_threads)
{
    const int64_t n[3] = {y_numel(conv), x_numel(conv), weight_numel(conv)};
    wide_t wide;
    status_t status = wide_init(conv, (const void *const[2]){dy, x}, dweight, conv->dweight_dtype, n, n_threads, &wide);
    if (status == ST_OK) {
        status = weight_run(conv, wide.in[0], wide.in[1], wide.out, dbias, n_threads);
    }
    return status == ST_OK ? wide_finish(&wide, dweight, conv->dweight_dtype, n[2], n_threads) : status;
}
