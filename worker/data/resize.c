/* SPDX-License-Identifier: Apache-2.0 */
/* resize: bilinear with antialiasing (Pillow's ImagingResample: a triangle as wide as the scale, normalised weights),
 * first along rows, then along columns. */
#include <math.h>

#include "worker/data/augment.h"
#include "worker/data/source.h"

enum { ROWS_AT_ONCE = 4 };

/* Weights of a target pixel: source pixels first … first+n-1. */
typedef struct span {
    int64_t first, n;
} span_t;

typedef struct filter {
    span_t *span;  /* [n_out] */
    float *weight; /* [n_out, n_max] */
    int64_t n_max;
} filter_t;

float *wrk_image_other(const wrk_image_t *image, wrk_scratch_t *scratch, int64_t n)
{
    const bool is_first = image->data == scratch->block[WRK_BLOCK_IMAGE];
    const int other = is_first ? WRK_BLOCK_OTHER : WRK_BLOCK_IMAGE;
    /* as much as the block that the image is in, for which of the two comes next may depend on chance; and no more, or
     * the two would outgrow each other */
    const size_t least = scratch->size_bytes[is_first ? WRK_BLOCK_IMAGE : WRK_BLOCK_OTHER];
    const size_t size = (size_t)n * sizeof(float);
    return size > least ? wrk_scratch_get(scratch, other, size) : wrk_scratch_reserve(scratch, other, least);
}

static size_t filter_bytes(int64_t n_in, int64_t n_out, int64_t *n_max_p)
{
    double scale = (double)n_in / (double)n_out;
    *n_max_p = (int64_t)ceil(scale > 1 ? scale : 1) * 2 + 1;
    return (size_t)n_out * (sizeof(span_t) + (size_t)*n_max_p * sizeof(float));
}

static filter_t filter_make(int64_t n_in, int64_t n_out, int64_t n_max, void *memory)
{
    filter_t filter = {memory, (float *)((span_t *)memory + n_out), n_max};
    double scale = (double)n_in / (double)n_out;
    double width = scale > 1 ? scale : 1;
    for (int64_t i = 0; i < n_out; i++) {
        double centre = ((double)i + 0.5) * scale;
        int64_t first = (int64_t)(centre - width + 0.5);
        int64_t end = (int64_t)(centre + width + 0.5);
        first = first > 0 ? first : 0;
        end = end < n_in ? end : n_in;
        double total = 0;
        for (int64_t k = first; k < end; k++) {
            double distance = fabs(((double)k - centre + 0.5) / width);
            total += distance < 1 ? 1 - distance : 0;
        }
        for (int64_t k = first; k < end; k++) {
            double distance = fabs(((double)k - centre + 0.5) / width);
            filter.weight[i * n_max + k - first] = (float)((distance < 1 ? 1 - distance : 0) / total);
        }
        filter.span[i] = (span_t){first, end - first};
    }
    return filter;
}

/* n rows at once, each its own sum in the order of the source's pixels: n hides the additions' latency. */
static inline void some_rows_filter(const filter_t *filter, const float *in, int n, int64_t n_in, int64_t n_out,
                                    float *out)
{
    for (int64_t x = 0; x < n_out; x++) {
        const float *weight = filter->weight + x * filter->n_max;
        const float *source = in + filter->span[x].first;
        float sum[ROWS_AT_ONCE] = {0};
        for (int64_t k = 0; k < filter->span[x].n; k++) {
            for (int i = 0; i < n; i++) {
                sum[i] += weight[k] * source[i * n_in + k];
            }
        }
        for (int i = 0; i < n; i++) {
            out[i * n_out + x] = sum[i];
        }
    }
}

static void rows_filter(const filter_t *filter, const float *in, int64_t n_rows, int64_t n_in, int64_t n_out,
                        float *out)
{
    int64_t y = 0;
    for (; y + ROWS_AT_ONCE <= n_rows; y += ROWS_AT_ONCE) {
        some_rows_filter(filter, in + y * n_in, ROWS_AT_ONCE, n_in, n_out, out + y * n_out);
    }
    for (; y < n_rows; y++) {
        some_rows_filter(filter, in + y * n_in, 1, n_in, n_out, out + y * n_out);
    }
}

static void columns_filter(const filter_t *filter, const float *in, int64_t width, int64_t n_out, float *out)
{
    for (int64_t y = 0; y < n_out; y++) {
        const float *weight = filter->weight + y * filter->n_max;
        const float *source = in + filter->span[y].first * width;
        for (int64_t x = 0; x < width; x++) {
            out[y * width + x] = 0;
        }
        for (int64_t k = 0; k < filter->span[y].n; k++) {
            for (int64_t x = 0; x < width; x++) {
                out[y * width + x] += weight[k] * source[k * width + x];
            }
        }
    }
}

bool wrk_image_resize_reserve(const wrk_image_t *image, int64_t height, int64_t width, wrk_scratch_t *scratch)
{
    int64_t n_max = 0;
    const size_t across = filter_bytes(image->width, width, &n_max);
    const size_t down = filter_bytes(image->height, height, &n_max);
    const int64_t rows = image->height > height ? image->height : height;
    const int64_t columns = image->width > width ? image->width : width;
    return wrk_scratch_get(scratch, WRK_BLOCK_WEIGHTS, across > down ? across : down) != NULL &&
           wrk_image_other(image, scratch, image->channels * rows * columns) != NULL;
}

status_t wrk_image_resize(wrk_image_t *image, int64_t height, int64_t width, wrk_scratch_t *scratch)
{
    int64_t n_max = 0;
    int64_t c = image->channels;
    if (width != image->width) {
        void *memory = wrk_scratch_get(scratch, WRK_BLOCK_WEIGHTS, filter_bytes(image->width, width, &n_max));
        float *out = wrk_image_other(image, scratch, c * image->height * width);
        if (memory == NULL || out == NULL) {
            return ST_FAIL(ST_ERR_NOMEM, "an image of %lld x %lld pixels", (long long)image->height, (long long)width);
        }
        filter_t filter = filter_make(image->width, width, n_max, memory);
        rows_filter(&filter, image->data, c * image->height, image->width, width, out);
        *image = (wrk_image_t){out, c, image->height, width};
    }
    if (height != image->height) {
        void *memory = wrk_scratch_get(scratch, WRK_BLOCK_WEIGHTS, filter_bytes(image->height, height, &n_max));
        float *out = wrk_image_other(image, scratch, c * height * width);
        if (memory == NULL || out == NULL) {
            return ST_FAIL(ST_ERR_NOMEM, "an image of %lld x %lld pixels", (long long)height, (long long)width);
        }
        filter_t filter = filter_make(image->height, height, n_max, memory);
        for (int64_t i = 0; i < c; i++) {
            columns_filter(&filter, image->data + i * image->height * width, width, height, out + i * height * width);
        }
        *image = (wrk_image_t){out, c, height, width};
    }
    return ST_OK;
}
