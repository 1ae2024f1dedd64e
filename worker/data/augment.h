/* SPDX-License-Identifier: Apache-2.0 */
/*
 * augment: what is done with images (and sound, images of height 1) between decoding and training, in the order of the
 * job's list. Internal to worker/data/.
 *
 * Note [Random numbers of augmentations]: each step of the list draws from a key of its own, (seed, epoch, sample, its
 * place in the list), purpose 3. So a sample looks the same whoever reads it, on any number of ranks and threads, and
 * after a resume.
 *
 * Owned handle that never changes; any number of threads may use it, each with a scratch of its own.
 */
#ifndef GRADD_WORKER_DATA_AUGMENT_H
#define GRADD_WORKER_DATA_AUGMENT_H

#include "job.pb-c.h"
#include "worker/data/dataset.h"

/* f32, [channels, height, width], rows one after another. */
typedef struct wrk_image {
    float *data;
    int64_t channels, height, width;
} wrk_image_t;

typedef struct wrk_augment wrk_augment_t;

/*
 * Copies the list. *image holds the channels and, where all images have them, height and width (else 0); it becomes
 * what the steps make of them. ST_ERR_INVAL names what doesn't fit.
 */
status_t wrk_augment_open(Gradd__V1__Augment *const *list, size_t n, wrk_image_t *image, wrk_augment_t **augment_p);
/* NULL is fine. */
void wrk_augment_close(wrk_augment_t *augment);

/* Which random numbers: plan's seed and epoch, and the sample. */
typedef struct wrk_draw_key {
    uint64_t seed;
    int64_t epoch;
    int64_t sample;
} wrk_draw_key_t;

/* All steps but mixing. image->data lies in WRK_BLOCK_IMAGE or, afterwards, also in WRK_BLOCK_OTHER. ST_ERR_DATA: an
 * image too small for a crop. */
status_t wrk_augment_apply(const wrk_augment_t *augment, wrk_draw_key_t key, wrk_scratch_t *scratch,
                           wrk_image_t *image);

/* Whether samples are mixed with another (mixup, cutmix), so that their targets are shares of classes. */
bool wrk_augment_has_mix(const wrk_augment_t *augment);
/* Mixes `other`, an image of the same size, into image; *share_p: what is left of it, 0 … 1. */
void wrk_augment_mix(const wrk_augment_t *augment, wrk_draw_key_t key, wrk_image_t *image, const float *other,
                     float *share_p);

/* resize.c: bilinear, over all source pixels that a target pixel covers, as Pillow and torchvision (antialias) do.
 * The result lies in the block that the image doesn't lie in. */
status_t wrk_image_resize(wrk_image_t *image, int64_t height, int64_t width, wrk_scratch_t *scratch);
/* Memory for the resize of any part of the image to that size, so that parts may differ. false: there is none. */
bool wrk_image_resize_reserve(const wrk_image_t *image, int64_t height, int64_t width, wrk_scratch_t *scratch);
/* The block that image->data doesn't lie in, for n floats. */
float *wrk_image_other(const wrk_image_t *image, wrk_scratch_t *scratch, int64_t n);

#endif
