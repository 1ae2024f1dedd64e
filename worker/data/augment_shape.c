/* SPDX-License-Identifier: Apache-2.0 */
/* augment_shape: steps that move pixels: crops, flips, resizing, turns, shifts. As torchvision's of the same names. */
#include <math.h>
#include <string.h>

#include "worker/data/augment_internal.h"
#include "worker/data/source.h"

static const double PI = 3.14159265358979323846;

static status_t no_memory(int64_t height, int64_t width)
{
    return ST_FAIL(ST_ERR_NOMEM, "an image of %lld x %lld pixels", (long long)height, (long long)width);
}

/* The window [height, width] at (top, left) of an image, which may lie partly outside: there it is `fill`. */
static status_t window_take(wrk_image_t *image, int64_t top, int64_t left, int64_t height, int64_t width, float fill,
                            wrk_scratch_t *scratch)
{
    float *out = wrk_image_other(image, scratch, image->channels * height * width);
    if (out == NULL) {
        return no_memory(height, width);
    }
    /* columns from … end-1 of the window are inside */
    int64_t from = left < 0 ? -left : 0;
    int64_t end = image->width - left < width ? image->width - left : width;
    from = from < width ? from : width;
    end = end > from ? end : from;
    for (int64_t c = 0; c < image->channels; c++) {
        for (int64_t y = 0; y < height; y++) {
            float *row = out + (c * height + y) * width;
            bool is_inside = top + y >= 0 && top + y < image->height;
            int64_t first = is_inside ? from : width;
            int64_t last = is_inside ? end : width;
            for (int64_t x = 0; x < first; x++) {
                row[x] = fill;
            }
            if (last > first) {
                const float *in = image->data + (c * image->height + top + y) * image->width + left;
                memcpy(row + first, in + first, (size_t)(last - first) * sizeof(float));
            }
            for (int64_t x = last; x < width; x++) {
                row[x] = fill;
            }
        }
    }
    *image = (wrk_image_t){out, image->channels, height, width};
    return ST_OK;
}

/* ---- sizes ---- */

static status_t size_infer(const augment_step_t *step, wrk_image_t *image)
{
    image->height = step->size[0];
    image->width = step->size[1];
    return ST_OK;
}

static status_t size_check(const augment_step_t *step, const wrk_image_t *image, int64_t add_h, int64_t add_w)
{
    if (image->height + add_h >= step->size[0] && image->width + add_w >= step->size[1]) {
        return ST_OK;
    }
    return ST_FAIL(ST_ERR_DATA, "an image of %lld x %lld pixels is too small for a crop of %lld x %lld",
                   (long long)image->height, (long long)image->width, (long long)step->size[0],
                   (long long)step->size[1]);
}

static status_t center_crop_read(const Gradd__V1__Augment *message, const wrk_image_t *image, augment_step_t *step)
{
    (void)image;
    wrk_augment_pair(message->center_crop->n_size, message->center_crop->size, 0, step->size);
    return ST_OK;
}

static status_t center_crop_infer(const augment_step_t *step, wrk_image_t *image)
{
    status_t status = image->height > 0 ? size_check(step, image, 0, 0) : ST_OK;
    return status == ST_OK ? size_infer(step, image) : status;
}

static status_t center_crop_apply(const augment_step_t *step, augment_draw_t *draw, wrk_scratch_t *scratch,
                                  wrk_image_t *image)
{
    (void)draw;
    status_t status = size_check(step, image, 0, 0);
    if (status != ST_OK) {
        return status;
    }
    /* halves are rounded to even, as Python does */
    int64_t top = (int64_t)nearbyint((double)(image->height - step->size[0]) / 2);
    int64_t left = (int64_t)nearbyint((double)(image->width - step->size[1]) / 2);
    return window_take(image, top, left, step->size[0], step->size[1], 0, scratch);
}

static status_t random_crop_read(const Gradd__V1__Augment *message, const wrk_image_t *image, augment_step_t *step)
{
    (void)image;
    const Gradd__V1__Augment__RandomCrop *crop = message->random_crop;
    wrk_augment_pair(crop->n_size, crop->size, 0, step->size);
    wrk_augment_pair(crop->n_padding, crop->padding, 0, step->padding);
    step->fill = (float)crop->fill;
    return ST_OK;
}

static status_t random_crop_infer(const augment_step_t *step, wrk_image_t *image)
{
    status_t status = image->height > 0 ? size_check(step, image, 2 * step->padding[0], 2 * step->padding[1]) : ST_OK;
    return status == ST_OK ? size_infer(step, image) : status;
}

static status_t random_crop_apply(const augment_step_t *step, augment_draw_t *draw, wrk_scratch_t *scratch,
                                  wrk_image_t *image)
{
    status_t status = size_check(step, image, 2 * step->padding[0], 2 * step->padding[1]);
    if (status != ST_OK) {
        return status;
    }
    int64_t top = wrk_draw_below(draw, image->height + 2 * step->padding[0] - step->size[0] + 1) - step->padding[0];
    int64_t left = wrk_draw_below(draw, image->width + 2 * step->padding[1] - step->size[1] + 1) - step->padding[1];
    return window_take(image, top, left, step->size[0], step->size[1], step->fill, scratch);
}

static status_t resize_read(const Gradd__V1__Augment *message, const wrk_image_t *image, augment_step_t *step)
{
    (void)image;
    wrk_augment_pair(message->resize->n_size, message->resize->size, 0, step->size);
    step->is_shorter_side = message->resize->n_size == 1;
    return ST_OK;
}

/* The size that a resize gives. */
static void resize_fit(const augment_step_t *step, const wrk_image_t *image, int64_t *height_p, int64_t *width_p)
{
    *height_p = step->size[0];
    *width_p = step->size[1];
    if (step->is_shorter_side && image->height < image->width) {
        *width_p = step->size[0] * image->width / image->height;
    } else if (step->is_shorter_side && image->width > 0) {
        *height_p = step->size[0] * image->height / image->width;
    }
}

static status_t resize_infer(const augment_step_t *step, wrk_image_t *image)
{
    if (step->is_shorter_side && image->height == 0) {
        return ST_OK; /* images of several sizes keep their proportions */
    }
    resize_fit(step, image, &image->height, &image->width);
    return ST_OK;
}

static status_t resize_apply(const augment_step_t *step, augment_draw_t *draw, wrk_scratch_t *scratch,
                             wrk_image_t *image)
{
    (void)draw;
    int64_t height = 0;
    int64_t width = 0;
    resize_fit(step, image, &height, &width);
    if (height > 1 << 16 || width > 1 << 16) {
        return ST_FAIL(ST_ERR_DATA, "an image of %lld x %lld pixels would become one of %lld x %lld",
                       (long long)image->height, (long long)image->width, (long long)height, (long long)width);
    }
    return wrk_image_resize(image, height, width, scratch);
}

static status_t resized_crop_read(const Gradd__V1__Augment *message, const wrk_image_t *image, augment_step_t *step)
{
    (void)image;
    const Gradd__V1__Augment__RandomResizedCrop *crop = message->random_resized_crop;
    wrk_augment_pair(crop->n_size, crop->size, 0, step->size);
    step->scale[0] = crop->n_scale == 2 ? crop->scale[0] : 0.08;
    step->scale[1] = crop->n_scale == 2 ? crop->scale[1] : 1;
    step->ratio[0] = crop->n_ratio == 2 ? crop->ratio[0] : 3.0 / 4;
    step->ratio[1] = crop->n_ratio == 2 ? crop->ratio[1] : 4.0 / 3;
    bool is_good = step->scale[0] > 0 && step->scale[0] <= step->scale[1] && step->ratio[0] > 0 &&
                   step->ratio[0] <= step->ratio[1];
    return is_good ? ST_OK : ST_FAIL(ST_ERR_INVAL, "scale and ratio are [least, most], above 0");
}

static status_t resized_crop_apply(const augment_step_t *step, augment_draw_t *draw, wrk_scratch_t *scratch,
                                   wrk_image_t *image)
{
    double low = log(step->ratio[0]);
    double high = log(step->ratio[1]);
    double area = (double)(image->height * image->width);
    int64_t height = 0;
    int64_t width = 0;
    bool is_found = false;
    for (int i = 0; i < 10 && !is_found; i++) {
        double target = area * (step->scale[0] + (step->scale[1] - step->scale[0]) * (double)wrk_draw_unit(draw));
        double ratio = exp(low + (high - low) * (double)wrk_draw_unit(draw));
        width = (int64_t)nearbyint(sqrt(target * ratio));
        height = (int64_t)nearbyint(sqrt(target / ratio));
        is_found = width > 0 && width <= image->width && height > 0 && height <= image->height;
    }
    int64_t top = 0;
    int64_t left = 0;
    if (is_found) {
        top = wrk_draw_below(draw, image->height - height + 1);
        left = wrk_draw_below(draw, image->width - width + 1);
    } else { /* the middle, with the nearest ratio that is allowed */
        double ratio = (double)image->width / (double)image->height;
        width = image->width;
        height = image->height;
        if (ratio < step->ratio[0]) {
            height = (int64_t)nearbyint((double)width / step->ratio[0]);
        } else if (ratio > step->ratio[1]) {
            width = (int64_t)nearbyint((double)height * step->ratio[1]);
        }
        height = height < 1 ? 1 : height;
        width = width < 1 ? 1 : width;
        top = (image->height - height) / 2;
        left = (image->width - width) / 2;
    }
    if (!wrk_image_resize_reserve(image, step->size[0], step->size[1], scratch)) {
        return ST_FAIL(ST_ERR_NOMEM, "a crop of %lld x %lld pixels", (long long)height, (long long)width);
    }
    status_t status = window_take(image, top, left, height, width, 0, scratch);
    return status == ST_OK ? wrk_image_resize(image, step->size[0], step->size[1], scratch) : status;
}

/* ---- flips and turns ---- */

static status_t flip_read(const Gradd__V1__Augment *message, const wrk_image_t *image, augment_step_t *step)
{
    (void)image;
    bool is_vertical = message->kind_case == GRADD__V1__AUGMENT__KIND_VERTICAL_FLIP;
    step->p = (float)(is_vertical ? message->vertical_flip->p : message->horizontal_flip->p);
    return ST_OK;
}

static status_t horizontal_flip_apply(const augment_step_t *step, augment_draw_t *draw, wrk_scratch_t *scratch,
                                      wrk_image_t *image)
{
    (void)scratch;
    if (wrk_draw_unit(draw) >= step->p) {
        return ST_OK;
    }
    for (int64_t row = 0; row < image->channels * image->height; row++) {
        float *data = image->data + row * image->width;
        for (int64_t a = 0, b = image->width - 1; a < b; a++, b--) {
            float value = data[a];
            data[a] = data[b];
            data[b] = value;
        }
    }
    return ST_OK;
}

static status_t vertical_flip_apply(const augment_step_t *step, augment_draw_t *draw, wrk_scratch_t *scratch,
                                    wrk_image_t *image)
{
    (void)scratch;
    if (wrk_draw_unit(draw) >= step->p) {
        return ST_OK;
    }
    for (int64_t c = 0; c < image->channels; c++) {
        float *plane = image->data + c * image->height * image->width;
        for (int64_t a = 0, b = image->height - 1; a < b; a++, b--) {
            for (int64_t x = 0; x < image->width; x++) {
                float value = plane[a * image->width + x];
                plane[a * image->width + x] = plane[b * image->width + x];
                plane[b * image->width + x] = value;
            }
        }
    }
    return ST_OK;
}

static status_t rotate_read(const Gradd__V1__Augment *message, const wrk_image_t *image, augment_step_t *step)
{
    (void)image;
    step->amount[0] = (float)message->rotate->degrees;
    step->fill = (float)message->rotate->fill;
    return ST_OK;
}

static float pixel_get(const wrk_image_t *image, const float *plane, int64_t y, int64_t x, float fill)
{
    bool is_inside = y >= 0 && y < image->height && x >= 0 && x < image->width;
    return is_inside ? plane[y * image->width + x] : fill;
}

/* About the middle, counter-clockwise, bilinear between the four nearest pixels. */
static status_t rotate_apply(const augment_step_t *step, augment_draw_t *draw, wrk_scratch_t *scratch,
                             wrk_image_t *image)
{
    double angle = (double)wrk_draw_between(draw, -step->amount[0], step->amount[0]) * PI / 180;
    double cosine = cos(angle);
    double sine = sin(angle);
    double middle_y = (double)(image->height - 1) / 2;
    double middle_x = (double)(image->width - 1) / 2;
    int64_t plane_size = image->height * image->width;
    float *out = wrk_image_other(image, scratch, image->channels * plane_size);
    if (out == NULL) {
        return no_memory(image->height, image->width);
    }
    for (int64_t y = 0; y < image->height; y++) {
        for (int64_t x = 0; x < image->width; x++) {
            double dy = (double)y - middle_y;
            double dx = (double)x - middle_x;
            double from_x = cosine * dx - sine * dy + middle_x;
            double from_y = sine * dx + cosine * dy + middle_y;
            int64_t left = (int64_t)floor(from_x);
            int64_t top = (int64_t)floor(from_y);
            float u = (float)(from_x - (double)left);
            float v = (float)(from_y - (double)top);
            for (int64_t c = 0; c < image->channels; c++) {
                const float *plane = image->data + c * plane_size;
                float above = pixel_get(image, plane, top, left, step->fill) * (1 - u) +
                              pixel_get(image, plane, top, left + 1, step->fill) * u;
                float below = pixel_get(image, plane, top + 1, left, step->fill) * (1 - u) +
                              pixel_get(image, plane, top + 1, left + 1, step->fill) * u;
                out[c * plane_size + y * image->width + x] = above * (1 - v) + below * v;
            }
        }
    }
    image->data = out;
    return ST_OK;
}

static status_t time_shift_read(const Gradd__V1__Augment *message, const wrk_image_t *image, augment_step_t *step)
{
    (void)image;
    step->size[1] = message->time_shift->max;
    return ST_OK;
}

/* Along the rows, to either side; zeroes come in. */
static status_t time_shift_apply(const augment_step_t *step, augment_draw_t *draw, wrk_scratch_t *scratch,
                                 wrk_image_t *image)
{
    int64_t by = wrk_draw_below(draw, 2 * step->size[1] + 1) - step->size[1];
    return window_take(image, 0, by, image->height, image->width, 0, scratch);
}

const augment_kind_t wrk_shape_kinds[] = {
    {GRADD__V1__AUGMENT__KIND_RESIZE, resize_read, resize_infer, resize_apply},
    {GRADD__V1__AUGMENT__KIND_CENTER_CROP, center_crop_read, center_crop_infer, center_crop_apply},
    {GRADD__V1__AUGMENT__KIND_RANDOM_CROP, random_crop_read, random_crop_infer, random_crop_apply},
    {GRADD__V1__AUGMENT__KIND_RANDOM_RESIZED_CROP, resized_crop_read, size_infer, resized_crop_apply},
    {GRADD__V1__AUGMENT__KIND_HORIZONTAL_FLIP, flip_read, NULL, horizontal_flip_apply},
    {GRADD__V1__AUGMENT__KIND_VERTICAL_FLIP, flip_read, NULL, vertical_flip_apply},
    {GRADD__V1__AUGMENT__KIND_ROTATE, rotate_read, NULL, rotate_apply},
    {GRADD__V1__AUGMENT__KIND_TIME_SHIFT, time_shift_read, NULL, time_shift_apply},
};
const int wrk_n_shape_kinds = (int)(sizeof(wrk_shape_kinds) / sizeof(wrk_shape_kinds[0]));
