/* SPDX-License-Identifier: Apache-2.0 */
/* augment_internal: the steps, shared by augment.c (the list, mixing), augment_shape.c (crops, flips, turns) and
 * augment_values.c (colours, erasing, noise). */
#ifndef GRADD_WORKER_DATA_AUGMENT_INTERNAL_H
#define GRADD_WORKER_DATA_AUGMENT_INTERNAL_H

#include "gradd/rng.h"
#include "worker/data/augment.h"

enum { AUGMENT_MAX_CHANNELS = 16, AUGMENT_MAX_STEPS = 32 };

/* A step's settings; each kind says which it uses. */
typedef struct augment_step {
    const struct augment_kind *kind;
    uint32_t place; /* in the list, from 1 */
    int64_t size[2];
    int64_t padding[2];
    bool is_shorter_side; /* resize: size[0] is the shorter side's */
    float p, fill;
    double scale[2], ratio[2];
    float amount[4]; /* jitter: brightness, contrast, saturation, hue; noise: deviation; rotate: degrees */
    float mean[AUGMENT_MAX_CHANNELS], deviation[AUGMENT_MAX_CHANNELS];
    double alpha;
} augment_step_t;

/* Random numbers of a step, one after another. */
typedef struct augment_draw {
    gd_rng_key_t key;
    uint32_t n; /* drawn */
    uint32_t word[4];
} augment_draw_t;

typedef struct augment_kind {
    int kind_case;
    /* Settings out of the message (its defaults are the schema's); NULL: none. */
    status_t (*read)(const Gradd__V1__Augment *message, const wrk_image_t *image, augment_step_t *step);
    /* What it makes of an image's size; NULL: the same. */
    status_t (*infer)(const augment_step_t *step, wrk_image_t *image);
    /* NULL: it mixes samples. */
    status_t (*apply)(const augment_step_t *step, augment_draw_t *draw, wrk_scratch_t *scratch, wrk_image_t *image);
} augment_kind_t;

/* Uniform in [0, 1). */
float wrk_draw_unit(augment_draw_t *draw);
static inline float wrk_draw_between(augment_draw_t *draw, float low, float high)
{
    return low + (high - low) * wrk_draw_unit(draw);
}
/* Uniform in 0 … n-1. */
int64_t wrk_draw_below(augment_draw_t *draw, int64_t n);

/* [height, width] of a list of one or two numbers; none: `fallback`. */
void wrk_augment_pair(size_t n, const int32_t *items, int64_t fallback, int64_t pair[2]);

extern const augment_kind_t wrk_shape_kinds[];
extern const int wrk_n_shape_kinds;
extern const augment_kind_t wrk_value_kinds[];
extern const int wrk_n_value_kinds;

#endif
