/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conv_weight: dweight[o,c,k,l] = sum_{b,i,j} dy[b,o,i,j] x[b,c,i s + k d - p, j s + l d - p], in f32.
 *
 * Note [Taps of one panel]
 *   NR channels of x are copied into a panel, pixel by pixel, with the padding as zeros: for a stride s as s·s images,
 *   one for each remainder of row and column. A tap (k, l) of the kernel is then the same panel from another pixel on,
 *   and dy is read as it lies: for MR channels of it and the panel's NR, a row of pixels after the other adds to
 *   MR × NR sums in registers. Panels hold some images (CHUNK_FLOATS); of those, bands of about BAND_PIXELS pixels, so
 *   that dy and panel stay in the first-level cache over all taps. Threads share out panels (where they are too few,
 *   channels of dy too): a sum is formed in one order whatever the threads are.
 */
#include "cpu/conv_weight.h"

#include "cpu/cpu.h"
#include "cpu/vec/kernels.h"
#include "cpu/vec/tile.h"

#ifndef __AVX512F__ /* there oneDNN's are faster */
enum { MR = 6, NR = 2 * SIMD_WIDTH, BAND_PIXELS = 224, CHUNK_FLOATS = 1 << 16 };

typedef struct shape {
    const gd_conv_weight_t *args;
    const gd_conv_t *conv;
    int64_t n_taps;
    int64_t rows, columns; /* of a panel's image: a remainder of the padded image */
    int64_t image;         /* floats of all remainders of an image in a panel */
    int64_t chunk;         /* images at a time */
    int64_t n_panels;
    int64_t n_blocks; /* of MR channels of dy */
    int64_t n_splits; /* of the blocks, where panels are too few for the threads */
    _Atomic bool has_failed;
} shape_t;

/* One panel and the sums that belong to it, sum[block][tap][MR][NR]. */
typedef struct work {
    const shape_t *shape;
    float *panel;
    float *sum;
    const float *dy;            /* of the chunk's first image */
    int64_t begin_row, end_row; /* the band: rows of y, counted on from image to image */
} work_t;

/* Row `to` of a panel from row y of n_channels channels, beginning at column `first` of the image (may be padding). */
static void row_pack(const shape_t *s, const float *x, int64_t n_channels, int64_t y, int64_t first, float *to)
{
    const gd_conv_t *c = s->conv;
    const int64_t step = c->stride[1], plane = c->in[0] * c->in[1];
    int64_t left = first < 0 ? (-first + step - 1) / step : 0;
    int64_t end = c->in[1] > first ? (c->in[1] - first + step - 1) / step : 0;
    end = end < s->columns ? end : s->columns;
    if (y < 0 || y >= c->in[0] || left >= end) {
        memset(to, 0, (size_t)(s->columns * NR) * sizeof(float));
        return;
    }
    memset(to, 0, (size_t)(left * NR) * sizeof(float));
    memset(to + end * NR, 0, (size_t)((s->columns - end) * NR) * sizeof(float));
    const float *from = x + y * c->in[1] + first + left * step;
    to += left * NR;
    if (step == 1 && n_channels == NR) {
        tile_transpose(from, plane, NR, end - left, to, NR);
        return;
    }
    for (int64_t j = 0; j < end - left; j++) {
        for (int64_t k = 0; k < n_channels; k++) {
            to[j * NR + k] = from[k * plane + j * step];
        }
        for (int64_t k = n_channels; k < NR; k++) {
            to[j * NR + k] = 0;
        }
    }
}

static void image_pack(const shape_t *s, const float *x, int64_t n_channels, float *to)
{
    const gd_conv_t *c = s->conv;
    for (int64_t row_part = 0; row_part < c->stride[0]; row_part++) {
        for (int64_t column_part = 0; column_part < c->stride[1]; column_part++) {
            for (int64_t i = 0; i < s->rows; i++, to += s->columns * NR) {
                row_pack(s, x, n_channels, i * c->stride[0] + row_part - c->padding[0], column_part - c->padding[1],
                         to);
            }
        }
    }
}

/* Adds the band to the sums of `rows` channels of dy, with the panel seen from a tap on. */
static inline __attribute__((always_inline)) void band_add(const work_t *w, int rows, const float *panel,
                                                           const float *dy, float *to)
{
    const shape_t *s = w->shape;
    const gd_conv_t *c = s->conv;
    const int64_t height = c->out[0], width = c->out[1], plane = height * width;
    simd_f32_t sum[MR][2];
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++) {
        sum[r][0] = simd_load(to + r * NR);
        sum[r][1] = simd_load(to + r * NR + SIMD_WIDTH);
    }
    int64_t image = w->begin_row / height, row = w->begin_row % height;
    for (int64_t i = w->begin_row; i < w->end_row; i++) {
        const float *a = dy + image * c->c_out * plane + row * width;
        const float *b = panel + image * s->image + row * s->columns * NR;
        for (int64_t j = 0; j < width; j++) {
            const simd_f32_t left_half = simd_load(b + j * NR);
            const simd_f32_t right_half = simd_load(b + j * NR + SIMD_WIDTH);
#pragma GCC unroll 8
            for (int r = 0; r < rows; r++) {
                const simd_f32_t factor = simd_set(a[r * plane + j]);
                sum[r][0] += factor * left_half;
                sum[r][1] += factor * right_half;
            }
        }
        if (++row == height) {
            row = 0;
            image++;
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++) {
        simd_store(to + r * NR, sum[r][0]);
        simd_store(to + r * NR + SIMD_WIDTH, sum[r][1]);
    }
}

static void block_add(const work_t *w, int64_t rows, const float *panel, const float *dy, float *to)
{
    switch (rows) {
    case 6:
        band_add(w, 6, panel, dy, to);
        break;
    case 5:
        band_add(w, 5, panel, dy, to);
        break;
    case 4:
        band_add(w, 4, panel, dy, to);
        break;
    case 3:
        band_add(w, 3, panel, dy, to);
        break;
    case 2:
        band_add(w, 2, panel, dy, to);
        break;
    default:
        band_add(w, 1, panel, dy, to);
        break;
    }
}

/* All taps and the blocks [begin, end) of dy's channels. */
static void band_run(const work_t *w, int64_t begin, int64_t end)
{
    const shape_t *s = w->shape;
    const gd_conv_t *c = s->conv;
    for (int64_t block = begin; block < end; block++) {
        const int64_t o = block * MR;
        const int64_t rows = c->c_out - o < MR ? c->c_out - o : MR;
        for (int64_t tap = 0; tap < s->n_taps; tap++) {
            const int64_t i = tap / c->kernel[1] * c->dilation[0], j = tap % c->kernel[1] * c->dilation[1];
            const int64_t part = i % c->stride[0] * c->stride[1] + j % c->stride[1];
            const int64_t pixel = (part * s->rows + i / c->stride[0]) * s->columns + j / c->stride[1];
            block_add(w, rows, w->panel + pixel * NR, w->dy + o * c->out[0] * c->out[1],
                      w->sum + (block - begin) * s->n_taps * MR * NR + tap * MR * NR);
        }
    }
}

/* The finished sums of channels [first, first + n_channels) of x. */
static void sums_write(const work_t *w, int64_t begin, int64_t end, int64_t first, int64_t n_channels)
{
    const shape_t *s = w->shape;
    const gd_conv_t *c = s->conv;
    for (int64_t o = begin * MR; o < end * MR && o < c->c_out; o++) {
        const float *sum = w->sum + (o / MR - begin) * s->n_taps * MR * NR + o % MR * NR;
        float *to = s->args->dweight + (o * c->c_in + first) * s->n_taps;
        for (int64_t k = 0; k < n_channels; k++) {
            for (int64_t tap = 0; tap < s->n_taps; tap++) {
                to[k * s->n_taps + tap] = sum[tap * MR * NR + k];
            }
        }
    }
}

static void panels_run(void *arg, int64_t begin, int64_t end)
{
    shape_t *s = arg;
    const gd_conv_t *c = s->conv;
    const int64_t per_split = gd_cpu_n_blocks(s->n_blocks, s->n_splits);
    const int64_t n_sums = per_split * s->n_taps * MR * NR;
    float *scratch = gd_cpu_scratch(GD_CPU_SLOT_WORKER, (size_t)(s->chunk * s->image + n_sums) * sizeof(float));
    if (scratch == NULL) {
        s->has_failed = true;
        return;
    }
    work_t w = {.shape = s, .panel = scratch, .sum = scratch + s->chunk * s->image};
    const int64_t band = gd_cpu_n_blocks(BAND_PIXELS, c->out[1]);
    for (int64_t at = begin; at < end; at++) {
        const int64_t first = at / s->n_splits * NR;
        const int64_t n_channels = c->c_in - first < NR ? c->c_in - first : NR;
        const int64_t block = at % s->n_splits * per_split;
        const int64_t block_end = block + per_split < s->n_blocks ? block + per_split : s->n_blocks;
        memset(w.sum, 0, (size_t)n_sums * sizeof(float));
        for (int64_t image = 0; image < c->batch; image += s->chunk) {
            const int64_t n = c->batch - image < s->chunk ? c->batch - image : s->chunk;
            for (int64_t i = 0; i < n; i++) {
                image_pack(s, s->args->x + ((image + i) * c->c_in + first) * c->in[0] * c->in[1], n_channels,
                           w.panel + i * s->image);
            }
            w.dy = s->args->dy + image * c->c_out * c->out[0] * c->out[1];
            for (int64_t row = 0; row < n * c->out[0]; row += band) {
                w.begin_row = row;
                w.end_row = row + band < n * c->out[0] ? row + band : n * c->out[0];
                band_run(&w, block, block_end);
            }
        }
        sums_write(&w, block, block_end, first, n_channels);
    }
}

static void bias_run(void *arg, int64_t begin, int64_t end)
{
    const shape_t *s = arg;
    const gd_conv_t *c = s->conv;
    const int64_t plane = c->out[0] * c->out[1];
    for (int64_t o = begin; o < end; o++) {
        double sum = 0;
        for (int64_t b = 0; b < c->batch; b++) {
            sum += (double)simd_row_sum(s->args->dy + (b * c->c_out + o) * plane, plane);
        }
        s->args->dbias[o] = (float)sum;
    }
}

status_t CPU_FN(conv_weight)(const gd_conv_weight_t *args)
{
    const gd_conv_t *c = args->conv;
    shape_t s = {
        .args = args,
        .conv = c,
        .n_taps = c->kernel[0] * c->kernel[1],
        .rows = c->out[0] + (c->kernel[0] - 1) * c->dilation[0] / c->stride[0],
        .columns = c->out[1] + (c->kernel[1] - 1) * c->dilation[1] / c->stride[1],
        .n_panels = gd_cpu_n_blocks(c->c_in, NR),
        .n_blocks = gd_cpu_n_blocks(c->c_out, MR),
    };
    s.image = c->stride[0] * c->stride[1] * s.rows * s.columns * NR;
    s.chunk = CHUNK_FLOATS / s.image > 1 ? CHUNK_FLOATS / s.image : 1;
    s.chunk = s.chunk < c->batch ? s.chunk : c->batch;
    s.n_splits = args->n_threads > 1 && s.n_panels % args->n_threads != 0 ? args->n_threads : 1;
    gd_cpu_parallel(args->n_threads, s.n_panels * s.n_splits, 1, panels_run, &s);
    if (args->dbias != NULL) {
        gd_cpu_parallel(args->n_threads, c->c_out, 1, bias_run, &s);
    }
    return s.has_failed ? ST_FAIL(ST_ERR_NOMEM, "convolution: panels for the gradient of the weight") : ST_OK;
}
#endif
