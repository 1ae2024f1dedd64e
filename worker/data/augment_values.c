/* SPDX-License-Identifier: Apache-2.0 */
/* augment_values: steps that change values: colours, normalisation, erasing, noise. As torchvision's of the same names;
 * colours are 0 … 1. */
#include <math.h>

#include "worker/data/augment_internal.h"
#include "worker/data/source.h"

static const float RED = 0.2989F;
static const float GREEN = 0.587F;
static const float BLUE = 0.114F;

static int64_t plane_of(const wrk_image_t *image)
{
    return image->height * image->width;
}

static float unit_clamp(float value)
{
    return value < 0 ? 0 : value > 1 ? 1 : value;
}

/* ---- colours ---- */

static float grey_of(const float *pixel, int64_t plane)
{
    return RED * pixel[0] + GREEN * pixel[plane] + BLUE * pixel[2 * plane];
}

static status_t colours_check(const wrk_image_t *image)
{
    return image->channels == 3
               ? ST_OK
               : ST_FAIL(ST_ERR_INVAL, "takes images of 3 channels, these have %lld", (long long)image->channels);
}

static status_t jitter_read(const Gradd__V1__Augment *message, const wrk_image_t *image, augment_step_t *step)
{
    const Gradd__V1__Augment__ColorJitter *jitter = message->color_jitter;
    step->amount[0] = (float)jitter->brightness;
    step->amount[1] = (float)jitter->contrast;
    step->amount[2] = (float)jitter->saturation;
    step->amount[3] = (float)jitter->hue;
    return step->amount[2] > 0 || step->amount[3] > 0 ? colours_check(image) : ST_OK;
}

static void brightness_change(wrk_image_t *image, float factor)
{
    for (int64_t i = 0; i < image->channels * plane_of(image); i++) {
        image->data[i] = unit_clamp(image->data[i] * factor);
    }
}

/* Towards or away from the mean of the grey image. */
static void contrast_change(wrk_image_t *image, float factor)
{
    int64_t plane = plane_of(image);
    double sum = 0;
    for (int64_t i = 0; i < plane; i++) {
        sum += (double)(image->channels == 3 ? grey_of(image->data + i, plane) : image->data[i]);
    }
    float mean = (float)(sum / (double)plane);
    for (int64_t i = 0; i < image->channels * plane; i++) {
        image->data[i] = unit_clamp(factor * image->data[i] + (1 - factor) * mean);
    }
}

static void saturation_change(wrk_image_t *image, float factor)
{
    int64_t plane = plane_of(image);
    for (int64_t i = 0; i < plane; i++) {
        float grey = grey_of(image->data + i, plane);
        for (int64_t c = 0; c < 3; c++) {
            float *value = image->data + c * plane + i;
            *value = unit_clamp(factor * *value + (1 - factor) * grey);
        }
    }
}

/* Turns the hue of HSV by `turn` of the circle. */
static void pixel_turn(float *r, float *g, float *b, float turn)
{
    float high = fmaxf(*r, fmaxf(*g, *b));
    float low = fminf(*r, fminf(*g, *b));
    float chroma = high - low;
    if (!(chroma > 0)) {
        return;
    }
    float hue = high == *r ? (*g - *b) / chroma : high == *g ? 2 + (*b - *r) / chroma : 4 + (*r - *g) / chroma;
    hue = hue / 6 + turn;
    hue = (hue - floorf(hue)) * 6;
    float *const out[3] = {r, g, b};
    static const float shift[3] = {5, 3, 1};
    for (int c = 0; c < 3; c++) {
        float k = fmodf(shift[c] + hue, 6);
        *out[c] = high - chroma * fmaxf(0, fminf(fminf(k, 4 - k), 1));
    }
}

static void hue_change(wrk_image_t *image, float turn)
{
    int64_t plane = plane_of(image);
    for (int64_t i = 0; i < plane; i++) {
        float *pixel = image->data + i;
        pixel_turn(pixel, pixel + plane, pixel + 2 * plane, turn);
    }
}

/* The four changes in an order that is drawn. */
static status_t jitter_apply(const augment_step_t *step, augment_draw_t *draw, wrk_scratch_t *scratch,
                             wrk_image_t *image)
{
    int order[4] = {0, 1, 2, 3};
    float factor[4];
    (void)scratch;
    for (int i = 3; i > 0; i--) {
        int64_t k = wrk_draw_below(draw, i + 1);
        int swap = order[i];
        order[i] = order[k];
        order[k] = swap;
    }
    for (int i = 0; i < 3; i++) {
        factor[i] = wrk_draw_between(draw, fmaxf(0, 1 - step->amount[i]), 1 + step->amount[i]);
    }
    factor[3] = wrk_draw_between(draw, -step->amount[3], step->amount[3]);
    static void (*const change[4])(wrk_image_t *, float) = {brightness_change, contrast_change, saturation_change,
                                                            hue_change};
    for (int i = 0; i < 4; i++) {
        if (step->amount[order[i]] > 0) {
            change[order[i]](image, factor[order[i]]);
        }
    }
    return ST_OK;
}

static status_t grayscale_read(const Gradd__V1__Augment *message, const wrk_image_t *image, augment_step_t *step)
{
    step->p = (float)message->grayscale->p;
    return colours_check(image);
}

static status_t grayscale_apply(const augment_step_t *step, augment_draw_t *draw, wrk_scratch_t *scratch,
                                wrk_image_t *image)
{
    int64_t plane = plane_of(image);
    (void)scratch;
    if (wrk_draw_unit(draw) < step->p) {
        for (int64_t i = 0; i < plane; i++) {
            float grey = grey_of(image->data + i, plane);
            image->data[i] = grey;
            image->data[plane + i] = grey;
            image->data[2 * plane + i] = grey;
        }
    }
    return ST_OK;
}

static status_t normalize_read(const Gradd__V1__Augment *message, const wrk_image_t *image, augment_step_t *step)
{
    const Gradd__V1__Augment__Normalize *normalize = message->normalize;
    size_t n = (size_t)image->channels;
    if (n > AUGMENT_MAX_CHANNELS || (normalize->n_mean != 1 && normalize->n_mean != n) ||
        (normalize->n_std != 1 && normalize->n_std != n)) {
        return ST_FAIL(ST_ERR_INVAL,
                       "mean has %zu values and std %zu; one, or one for each of %zu channels, are wanted",
                       normalize->n_mean, normalize->n_std, n);
    }
    for (size_t c = 0; c < n; c++) {
        step->mean[c] = (float)normalize->mean[normalize->n_mean == 1 ? 0 : c];
        step->deviation[c] = (float)normalize->std[normalize->n_std == 1 ? 0 : c];
        if (!(step->deviation[c] > 0)) {
            return ST_FAIL(ST_ERR_INVAL, "the standard deviation %g is not above 0", (double)step->deviation[c]);
        }
    }
    return ST_OK;
}

static status_t normalize_apply(const augment_step_t *step, augment_draw_t *draw, wrk_scratch_t *scratch,
                                wrk_image_t *image)
{
    int64_t plane = plane_of(image);
    (void)draw;
    (void)scratch;
    for (int64_t c = 0; c < image->channels; c++) {
        for (int64_t i = c * plane; i < (c + 1) * plane; i++) {
            image->data[i] = (image->data[i] - step->mean[c]) / step->deviation[c];
        }
    }
    return ST_OK;
}

/* ---- erasing and noise ---- */

static void window_fill(wrk_image_t *image, int64_t top, int64_t end, int64_t left, int64_t right, float fill)
{
    for (int64_t row = 0; row < image->channels * image->height; row++) {
        int64_t y = row % image->height;
        for (int64_t x = left; y >= top && y < end && x < right; x++) {
            image->data[row * image->width + x] = fill;
        }
    }
}

static status_t erasing_read(const Gradd__V1__Augment *message, const wrk_image_t *image, augment_step_t *step)
{
    const Gradd__V1__Augment__RandomErasing *erasing = message->random_erasing;
    (void)image;
    step->p = (float)erasing->p;
    step->fill = (float)erasing->value;
    step->scale[0] = erasing->n_scale == 2 ? erasing->scale[0] : 0.02;
    step->scale[1] = erasing->n_scale == 2 ? erasing->scale[1] : 0.33;
    step->ratio[0] = erasing->n_ratio == 2 ? erasing->ratio[0] : 0.3;
    step->ratio[1] = erasing->n_ratio == 2 ? erasing->ratio[1] : 3.3;
    bool is_good = step->scale[0] > 0 && step->scale[0] <= step->scale[1] && step->ratio[0] > 0 &&
                   step->ratio[0] <= step->ratio[1];
    return is_good ? ST_OK : ST_FAIL(ST_ERR_INVAL, "scale and ratio are [least, most], above 0");
}

/* Zhong et al., "Random erasing data augmentation", AAAI 2020. */
static status_t erasing_apply(const augment_step_t *step, augment_draw_t *draw, wrk_scratch_t *scratch,
                              wrk_image_t *image)
{
    double low = log(step->ratio[0]);
    double high = log(step->ratio[1]);
    (void)scratch;
    if (wrk_draw_unit(draw) >= step->p) {
        return ST_OK;
    }
    for (int i = 0; i < 10; i++) {
        double share = step->scale[0] + (step->scale[1] - step->scale[0]) * (double)wrk_draw_unit(draw);
        double area = share * (double)plane_of(image);
        double ratio = exp(low + (high - low) * (double)wrk_draw_unit(draw));
        int64_t height = (int64_t)nearbyint(sqrt(area * ratio));
        int64_t width = (int64_t)nearbyint(sqrt(area / ratio));
        if (height < image->height && width < image->width) {
            int64_t top = wrk_draw_below(draw, image->height - height + 1);
            int64_t left = wrk_draw_below(draw, image->width - width + 1);
            window_fill(image, top, top + height, left, left + width, step->fill);
            return ST_OK;
        }
    }
    return ST_OK;
}

static status_t cutout_read(const Gradd__V1__Augment *message, const wrk_image_t *image, augment_step_t *step)
{
    (void)image;
    wrk_augment_pair(message->cutout->n_size, message->cutout->size, 0, step->size);
    step->fill = (float)message->cutout->fill;
    return ST_OK;
}

/* A window about a place anywhere in the image, so that it may lie partly outside (DeVries and Taylor, 2017). */
static status_t cutout_apply(const augment_step_t *step, augment_draw_t *draw, wrk_scratch_t *scratch,
                             wrk_image_t *image)
{
    (void)scratch;
    int64_t top = wrk_draw_below(draw, image->height) - step->size[0] / 2;
    int64_t left = wrk_draw_below(draw, image->width) - step->size[1] / 2;
    int64_t right = left + step->size[1] < image->width ? left + step->size[1] : image->width;
    window_fill(image, top, top + step->size[0], left > 0 ? left : 0, right, step->fill);
    return ST_OK;
}

static status_t noise_read(const Gradd__V1__Augment *message, const wrk_image_t *image, augment_step_t *step)
{
    (void)image;
    step->amount[0] = (float)message->noise->std;
    return ST_OK;
}

static status_t noise_apply(const augment_step_t *step, augment_draw_t *draw, wrk_scratch_t *scratch,
                            wrk_image_t *image)
{
    int64_t n = image->channels * plane_of(image);
    float *noise = wrk_image_other(image, scratch, n);
    if (noise == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "noise for %lld values", (long long)n);
    }
    gd_rng_fill_normal(&draw->key, 0, step->amount[0], noise, n);
    for (int64_t i = 0; i < n; i++) {
        image->data[i] += noise[i];
    }
    return ST_OK;
}

const augment_kind_t wrk_value_kinds[] = {
    {GRADD__V1__AUGMENT__KIND_COLOR_JITTER, jitter_read, NULL, jitter_apply},
    {GRADD__V1__AUGMENT__KIND_GRAYSCALE, grayscale_read, NULL, grayscale_apply},
    {GRADD__V1__AUGMENT__KIND_NORMALIZE, normalize_read, NULL, normalize_apply},
    {GRADD__V1__AUGMENT__KIND_RANDOM_ERASING, erasing_read, NULL, erasing_apply},
    {GRADD__V1__AUGMENT__KIND_CUTOUT, cutout_read, NULL, cutout_apply},
    {GRADD__V1__AUGMENT__KIND_NOISE, noise_read, NULL, noise_apply},
};
const int wrk_n_value_kinds = (int)(sizeof(wrk_value_kinds) / sizeof(wrk_value_kinds[0]));
