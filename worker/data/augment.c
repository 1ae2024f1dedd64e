/* SPDX-License-Identifier: Apache-2.0 */
/* augment: the list of steps, their random numbers, and the mixing of samples. See Note [Random numbers of
 * augmentations]. */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "worker/data/augment_internal.h"

enum { PURPOSE_AUGMENTATION = 3, MAX_TRIES = 64 };

struct wrk_augment {
    augment_step_t step[AUGMENT_MAX_STEPS];
    int n_steps;
    bool has_mix;
};

/* ---- random numbers ---- */

static augment_draw_t draw_begin(wrk_draw_key_t key, uint32_t place)
{
    return (augment_draw_t){.key = {.seed = key.seed,
                                    .step = (uint32_t)key.epoch,
                                    .microbatch = (uint32_t)key.sample,
                                    .layer = place ^ (uint32_t)((uint64_t)key.sample >> 32) << 8,
                                    .purpose = PURPOSE_AUGMENTATION}};
}

static uint32_t draw_word(augment_draw_t *draw)
{
    if (draw->n % 4 == 0) {
        gd_philox(&draw->key, draw->n / 4, draw->word);
    }
    return draw->word[draw->n++ % 4];
}

float wrk_draw_unit(augment_draw_t *draw)
{
    return gd_rng_unit(draw_word(draw));
}

int64_t wrk_draw_below(augment_draw_t *draw, int64_t n)
{
    return (int64_t)(((uint64_t)draw_word(draw) * (uint64_t)n) >> 32); /* n is a number of pixels: below 2^32 */
}

/* Uniform in (0, 1), 53 bits. */
static double draw_double(augment_draw_t *draw)
{
    uint64_t high = draw_word(draw);
    return ((double)((high << 32 | draw_word(draw)) >> 11) + 0.5) * 0x1.0p-53;
}

/* Gamma(alpha, 1): Marsaglia and Tsang, "A simple method for generating gamma variables", 2000. */
static double draw_gamma(augment_draw_t *draw, double alpha)
{
    double boost = alpha < 1 ? pow(draw_double(draw), 1 / alpha) : 1;
    double d = (alpha < 1 ? alpha + 1 : alpha) - 1.0 / 3;
    double c = 1 / sqrt(9 * d);
    for (int i = 0; i < MAX_TRIES; i++) {
        double radius = sqrt(-2 * log(draw_double(draw)));
        double x = radius * cos(2 * 3.14159265358979323846 * draw_double(draw));
        double v = (1 + c * x) * (1 + c * x) * (1 + c * x);
        double u = draw_double(draw);
        if (v > 0 && log(u) < 0.5 * x * x + d - d * v + d * log(v)) {
            return boost * d * v;
        }
    }
    return boost * d;
}

static double draw_beta(augment_draw_t *draw, double alpha)
{
    double x = draw_gamma(draw, alpha);
    double y = draw_gamma(draw, alpha);
    return x + y > 0 ? x / (x + y) : 0.5;
}

/* ---- the list ---- */

void wrk_augment_pair(size_t n, const int32_t *items, int64_t fallback, int64_t pair[2])
{
    pair[0] = n > 0 ? items[0] : fallback;
    pair[1] = n > 1 ? items[1] : pair[0];
}

static status_t mix_read(const Gradd__V1__Augment *message, const wrk_image_t *image, augment_step_t *step)
{
    (void)image;
    const Gradd__V1__Augment__Mix *mix =
        message->kind_case == GRADD__V1__AUGMENT__KIND_MIXUP ? message->mixup : message->cutmix;
    step->alpha = mix->alpha;
    step->p = (float)mix->p;
    return step->alpha > 0 ? ST_OK : ST_FAIL(ST_ERR_INVAL, "alpha %g is not above 0", step->alpha);
}

static const augment_kind_t mix_kinds[] = {
    {GRADD__V1__AUGMENT__KIND_MIXUP, mix_read, NULL, NULL},
    {GRADD__V1__AUGMENT__KIND_CUTMIX, mix_read, NULL, NULL},
};

static const augment_kind_t *kind_find(int kind_case)
{
    const struct {
        const augment_kind_t *kinds;
        int n;
    } tables[] = {{wrk_shape_kinds, wrk_n_shape_kinds}, {wrk_value_kinds, wrk_n_value_kinds}, {mix_kinds, 2}};
    for (size_t t = 0; t < sizeof(tables) / sizeof(tables[0]); t++) {
        for (int i = 0; i < tables[t].n; i++) {
            if (tables[t].kinds[i].kind_case == kind_case) {
                return &tables[t].kinds[i];
            }
        }
    }
    return NULL;
}

static status_t step_add(wrk_augment_t *augment, const Gradd__V1__Augment *message, wrk_image_t *image)
{
    const augment_kind_t *kind = kind_find((int)message->kind_case);
    if (kind == NULL || augment->n_steps == AUGMENT_MAX_STEPS) {
        return ST_FAIL(ST_ERR_INVAL, "a step that is not known, or more than %d", (int)AUGMENT_MAX_STEPS);
    }
    augment_step_t *step = &augment->step[augment->n_steps++];
    *step = (augment_step_t){.kind = kind, .place = (uint32_t)augment->n_steps};
    status_t status = kind->read != NULL ? kind->read(message, image, step) : ST_OK;
    if (status == ST_OK && kind->apply != NULL && augment->has_mix &&
        message->kind_case != GRADD__V1__AUGMENT__KIND_NORMALIZE) {
        status = ST_FAIL(ST_ERR_INVAL, "behind mixup or cutmix, which come last (normalize may follow)");
    }
    augment->has_mix |= kind->apply == NULL;
    return status == ST_OK && kind->infer != NULL ? kind->infer(step, image) : status;
}

status_t wrk_augment_open(Gradd__V1__Augment *const *list, size_t n, wrk_image_t *image, wrk_augment_t **augment_p)
{
    wrk_augment_t *augment = mem_zalloc(sizeof(*augment));
    if (augment == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "augmentations");
    }
    for (size_t i = 0; i < n; i++) {
        status_t status = step_add(augment, list[i], image);
        if (status != ST_OK) {
            const ProtobufCFieldDescriptor *field =
                protobuf_c_message_descriptor_get_field(&gradd__v1__augment__descriptor, (unsigned)list[i]->kind_case);
            mem_free(augment);
            return status_add_context(status, "augment[%zu].%s", i, field != NULL ? field->name : "");
        }
    }
    *augment_p = augment;
    return ST_OK;
}

void wrk_augment_close(wrk_augment_t *augment)
{
    mem_free(augment);
}

bool wrk_augment_has_mix(const wrk_augment_t *augment)
{
    return augment != NULL && augment->has_mix;
}

status_t wrk_augment_apply(const wrk_augment_t *augment, wrk_draw_key_t key, wrk_scratch_t *scratch, wrk_image_t *image)
{
    status_t status = ST_OK;
    for (int i = 0; i < augment->n_steps && status == ST_OK; i++) {
        const augment_step_t *step = &augment->step[i];
        if (step->kind->apply != NULL) {
            augment_draw_t draw = draw_begin(key, step->place);
            status = step->kind->apply(step, &draw, scratch, image);
        }
    }
    return status;
}

/* ---- mixing ---- */

/* Zhang et al., "mixup: Beyond empirical risk minimization", ICLR 2018. */
static float mixup_apply(augment_draw_t *draw, double alpha, wrk_image_t *image, const float *other)
{
    float share = (float)draw_beta(draw, alpha);
    int64_t n = image->channels * image->height * image->width;
    for (int64_t i = 0; i < n; i++) {
        image->data[i] = share * image->data[i] + (1 - share) * other[i];
    }
    return share;
}

static int64_t clamp(int64_t value, int64_t max)
{
    return value < 0 ? 0 : value > max ? max : value;
}

/* Yun et al., "CutMix: Regularization strategy to train strong classifiers", ICCV 2019. */
static float cutmix_apply(augment_draw_t *draw, double alpha, wrk_image_t *image, const float *other)
{
    double cut = sqrt(1 - draw_beta(draw, alpha));
    int64_t h = image->height;
    int64_t w = image->width;
    int64_t half_h = (int64_t)((double)h * cut) / 2;
    int64_t half_w = (int64_t)((double)w * cut) / 2;
    int64_t y = wrk_draw_below(draw, h);
    int64_t x = wrk_draw_below(draw, w);
    int64_t top = clamp(y - half_h, h);
    int64_t end = clamp(y + half_h, h);
    int64_t left = clamp(x - half_w, w);
    int64_t right = clamp(x + half_w, w);
    for (int64_t row = 0; row < image->channels * h; row++) {
        if (row % h >= top && row % h < end && right > left) {
            memcpy(image->data + row * w + left, other + row * w + left, (size_t)(right - left) * sizeof(float));
        }
    }
    return 1.0F - (float)((end - top) * (right - left)) / (float)(h * w);
}

void wrk_augment_mix(const wrk_augment_t *augment, wrk_draw_key_t key, wrk_image_t *image, const float *other,
                     float *share_p)
{
    *share_p = 1;
    for (int i = 0; i < augment->n_steps; i++) {
        const augment_step_t *step = &augment->step[i];
        augment_draw_t draw = draw_begin(key, step->place);
        if (step->kind->apply == NULL && wrk_draw_unit(&draw) < step->p) {
            bool is_cut = step->kind->kind_case == GRADD__V1__AUGMENT__KIND_CUTMIX;
            *share_p =
                is_cut ? cutmix_apply(&draw, step->alpha, image, other) : mixup_apply(&draw, step->alpha, image, other);
            return; /* at most one of the two */
        }
    }
}
