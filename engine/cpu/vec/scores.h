/* SPDX-License-Identifier: Apache-2.0 */
/* scores: what attention's kernels do with a row of scores. */
#ifndef GRADD_CPU_VEC_SCORES_H
#define GRADD_CPU_VEC_SCORES_H

#include "cpu/vec/tile.h"

enum { QUERY_ROWS = 32 }; /* whose scores are in memory together */

static inline int64_t round_up(int64_t n)
{
    return (n + SIMD_WIDTH - 1) / SIMD_WIDTH * SIMD_WIDTH;
}

/*
 * Floats of scratch memory for a head, enough for attention.c and sdpa.c alike: a model takes the one or the other as a
 * microbatch has padding or not, and its first step must take the memory for both. length: of queries or keys, the
 * larger.
 */
static inline int64_t scores_scratch(int64_t width, int64_t length)
{
    const int64_t padded_width = round_up(width), padded_length = round_up(length), rows = length * padded_width;
    const int64_t copies = width == padded_width ? 0 : 4 * rows, halves = 5 * length * width;
    return 2 * width * padded_length + 2 * (QUERY_ROWS * padded_length + SIMD_WIDTH) + 2 * rows +
           TILE_ROWS * padded_width + copies + halves;
}

/*
 * Note [A large logsumexp is no offset]: f32 rounds a logsumexp of 1000 by up to 3e-5, and so would every exp(s -
 * logsumexp) be off. Beyond this size backward takes the row's largest score as its offset and divides by its own sum,
 * as forward did, of scores that are scaled first, so that the largest one's exponential is 1; up to it the error is
 * below 1e-6. Large scores come of large queries and keys, by which what is left of dP - delta is multiplied: so delta
 * is summed from dP itself there, and is dP in every bit where one key has all the weight, instead of dy·y.
 */
#define LOGSUMEXP_MOST 16.0F

/*
 * x[0 … n) = exp(scale x - offset) ≤ 1, and zeros up to end, a whole number of vectors, which may be overwritten.
 * Returns the sum. The edge is cut in registers: a vector that was just written in parts would be slow to load.
 */
static inline float row_exp(float *x, int64_t n, int64_t end, float scale, float offset)
{
    simd_f32_t sum = {0};
    int64_t j = 0;
    for (; j + SIMD_WIDTH <= n; j += SIMD_WIDTH) {
        const simd_f32_t p = simd_exp_negative(scale * simd_load(x + j) - offset);
        simd_store(x + j, p);
        sum += p;
    }
    if (j < n) {
        const simd_f32_t p = simd_first(simd_exp_negative(scale * simd_load(x + j) - offset), n - j, 0.0F);
        simd_store(x + j, p);
        sum += p;
        j += SIMD_WIDTH;
    }
    for (; j < end; j += SIMD_WIDTH) {
        simd_store(x + j, (simd_f32_t){0});
    }
    return simd_sum_lanes(sum);
}

/* x[n] times factor, n a whole number of vectors. */
static inline void row_scale(float *x, int64_t n, float factor)
{
    for (int64_t j = 0; j < n; j += SIMD_WIDTH) {
        simd_store(x + j, factor * simd_load(x + j));
    }
}

/* By the sum of them, which is 0 where there are none. */
static inline void row_divide(float *x, int64_t n, float sum)
{
    row_scale(x, n, sum != 0.0F ? 1.0F / sum : 0.0F);
}

/* a[n] · b[n], n a whole number of vectors. */
static inline float row_dot(const float *a, const float *b, int64_t n)
{
    simd_f32_t sum = {0};
    for (int64_t j = 0; j < n; j += SIMD_WIDTH) {
        sum += simd_load(a + j) * simd_load(b + j);
    }
    return simd_sum_lanes(sum);
}

/* The largest of x[n], n ≥ 1; x goes on to a whole number of vectors. */
static inline float row_max(const float *x, int64_t n)
{
    simd_f32_t most = simd_first(simd_load(x), n, -INFINITY);
    for (int64_t j = SIMD_WIDTH; j < n; j += SIMD_WIDTH) {
        most = simd_max(most, simd_first(simd_load(x + j), n - j, -INFINITY));
    }
    return simd_max_lanes(most);
}

#endif
