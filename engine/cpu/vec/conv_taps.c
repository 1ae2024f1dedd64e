/* SPDX-License-Identifier: Apache-2.0 */
/* conv_taps: see conv_taps.h. A channel is one thread's. */
#include "cpu/conv_taps.h"

#include <string.h>

#include "cpu/cpu.h"

/* One tap along the width: pixels [first, last) of a row of y meet the image, the first one at `from`. */
typedef struct tap {
    int64_t first, last, from;
} tap_t;

static int64_t depth_of(int64_t size)
{
    return size > 0 ? size : 1;
}

static tap_t tap_get(const gd_conv_t *c, int64_t k)
{
    const int64_t offset = k * c->dilation[1] - c->padding[1], step = c->stride[1];
    tap_t tap = {.first = offset < 0 ? (-offset + step - 1) / step : 0};
    tap.last = offset < c->in[1] ? (c->in[1] - 1 - offset) / step + 1 : 0;
    tap.last = tap.last < c->out[1] ? tap.last : c->out[1];
    tap.first = tap.first < tap.last ? tap.first : tap.last;
    tap.from = offset + tap.first * step;
    return tap;
}

static void row_gather(const float *restrict x, const tap_t *tap, int64_t step, int64_t n, float *restrict y)
{
    for (int64_t j = 0; j < tap->first; j++) {
        y[j] = 0;
    }
    if (step == 1) {
        for (int64_t j = tap->first; j < tap->last; j++) {
            y[j] = x[tap->from + j - tap->first];
        }
    } else {
        for (int64_t j = tap->first; j < tap->last; j++) {
            y[j] = x[tap->from + (j - tap->first) * step];
        }
    }
    for (int64_t j = tap->last; j < n; j++) {
        y[j] = 0;
    }
}

static void row_scatter(float *restrict x, const tap_t *tap, int64_t step, const float *restrict y)
{
    if (step == 1) {
        for (int64_t j = tap->first; j < tap->last; j++) {
            x[tap->from + j - tap->first] += y[j];
        }
        return;
    }
    for (int64_t j = tap->first; j < tap->last; j++) {
        x[tap->from + (j - tap->first) * step] += y[j];
    }
}

/* is_gather is a constant where it is called. */
static inline __attribute__((always_inline)) void channel_run(const gd_conv_taps_t *t, int64_t channel, bool is_gather)
{
    const gd_conv_t *c = t->conv;
    const int64_t n_rows = t->row_end - t->row, n = c->out[1], n_depth = depth_of(c->kernel[2]);
    float *image = t->image + channel * depth_of(c->in[2]) * c->in[0] * c->in[1];
    float *pixels = t->pixels + channel * n_depth * c->kernel[0] * c->kernel[1] * n_rows * n;
    for (int64_t k = 0; k < n_depth * c->kernel[0]; k++) {
        const int64_t from_depth = k / c->kernel[0] * c->dilation[2] - c->padding[2];
        const int64_t from_row = k % c->kernel[0] * c->dilation[0] - c->padding[0];
        for (int64_t l = 0; l < c->kernel[1]; l++) {
            const tap_t tap = tap_get(c, l);
            int64_t depth = from_depth + t->row / c->out[0] * c->stride[2], i = t->row % c->out[0];
            for (int64_t r = 0; r < n_rows; r++, i++, pixels += n) {
                if (i == c->out[0]) {
                    depth += c->stride[2];
                    i = 0;
                }
                const int64_t row = from_row + i * c->stride[0];
                if (depth < 0 || depth >= depth_of(c->in[2]) || row < 0 || row >= c->in[0]) {
                    if (is_gather) {
                        memset(pixels, 0, (size_t)n * sizeof(float));
                    }
                    continue;
                }
                float *x = image + (depth * c->in[0] + row) * c->in[1];
                if (is_gather) {
                    row_gather(x, &tap, c->stride[1], n, pixels);
                } else {
                    row_scatter(x, &tap, c->stride[1], pixels);
                }
            }
        }
    }
}

static void channels_gather(void *arg, int64_t begin, int64_t end)
{
    for (int64_t channel = begin; channel < end; channel++) {
        channel_run(arg, channel, true);
    }
}

static void channels_scatter(void *arg, int64_t begin, int64_t end)
{
    for (int64_t channel = begin; channel < end; channel++) {
        channel_run(arg, channel, false);
    }
}

void CPU_FN(conv_taps_gather)(const gd_conv_taps_t *taps)
{
    gd_cpu_parallel(taps->n_threads, taps->channels, 1, channels_gather, (void *)(uintptr_t)taps);
}

void CPU_FN(conv_taps_scatter)(const gd_conv_taps_t *taps)
{
    gd_cpu_parallel(taps->n_threads, taps->channels, 1, channels_scatter, (void *)(uintptr_t)taps);
}
