/* SPDX-License-Identifier: Apache-2.0 */
/*
 * resample: a sound at another sample rate, by libsamplerate's band-limited interpolation (medium quality: 121 dB
 * between signal and noise, 90 % of the band kept). Internal to worker/data/.
 *
 * Value k of the result stands at frame k · from / to of the source; outside of its frames a source is 0. Of a long
 * source only a window is wanted; so only the frames that reach into it are read:
 *
 *   source   |------[=====margin=====|~~~~ window ~~~~|=margin=]-------|     first, n_frames
 *   result   |--------------------skip|################|---------------|     n
 *
 * `first` is a frame where a value of the result stands exactly, so the window's values are those of the whole.
 * One thread's arithmetic, without a choice by instruction set: the same source gives the same bits.
 */
#ifndef GRADD_WORKER_DATA_RESAMPLE_H
#define GRADD_WORKER_DATA_RESAMPLE_H

#include <stdbool.h>
#include <stdint.h>

#include "worker/data/source.h"

/* What a source may have: so no product below overflows. */
#define WRK_RESAMPLE_MAX_FRAMES (INT64_C(1) << 48)

typedef struct wrk_resample_window {
    int32_t from, to;        /* rates */
    int64_t first, n_frames; /* of the source, to be fed */
    int64_t skip, n;         /* values made of them: dropped, then kept */
} wrk_resample_window_t;

/* ST_ERR_DATA: the rates are further apart than 256 to 1. */
status_t wrk_resample_check(int32_t from, int32_t to);
/* Values of the whole result: n_frames · to / from, rounded up. */
int64_t wrk_resample_count(int32_t from, int32_t to, int64_t n_frames);
/* The window of values at … at+n-1 of the result of n_frames. */
wrk_resample_window_t wrk_resample_window(int32_t from, int32_t to, int64_t n_frames, int64_t at, int64_t n);

/* Borrowed from the thread's scratch, which keeps it. */
typedef struct wrk_resampler wrk_resampler_t;
/* out[window->n]: borrowed until the next begin, which ends what went before. ST_ERR_NOMEM. */
status_t wrk_resampler_begin(const wrk_resample_window_t *window, wrk_scratch_t *scratch, float *out,
                             wrk_resampler_t **resampler_p);
/* The window's frames, one part after another. Behind the last one all of out is filled. */
status_t wrk_resampler_feed(wrk_resampler_t *resampler, const float *frames, int64_t n);

#endif
