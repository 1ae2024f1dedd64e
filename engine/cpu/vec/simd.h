/* SPDX-License-Identifier: Apache-2.0 */
/*
 * simd: vectors of this build's width for loops that gcc doesn't vectorise by itself: reductions, whose order must be
 * written down. Lane i of a vector takes elements i, i + SIMD_WIDTH, …; lanes are added as a binary tree.
 */
#ifndef GRADD_CPU_VEC_SIMD_H
#define GRADD_CPU_VEC_SIMD_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__)
enum { SIMD_WIDTH = 16 };
typedef float simd_f32_t __attribute__((vector_size(64), may_alias));
typedef int32_t simd_i32_t __attribute__((vector_size(64), may_alias));
typedef float simd_unaligned_t __attribute__((vector_size(64), aligned(4), may_alias));
#elif defined(__AVX__)
enum { SIMD_WIDTH = 8 };
typedef float simd_f32_t __attribute__((vector_size(32), may_alias));
typedef int32_t simd_i32_t __attribute__((vector_size(32), may_alias));
typedef float simd_unaligned_t __attribute__((vector_size(32), aligned(4), may_alias));
#else
enum { SIMD_WIDTH = 4 };
typedef float simd_f32_t __attribute__((vector_size(16), may_alias));
typedef int32_t simd_i32_t __attribute__((vector_size(16), may_alias));
typedef float simd_unaligned_t __attribute__((vector_size(16), aligned(4), may_alias));
#endif

static inline simd_f32_t simd_load(const float *p)
{
    return *(const simd_unaligned_t *)(const void *)p;
}

static inline void simd_store(float *p, simd_f32_t v)
{
    *(simd_unaligned_t *)(void *)p = v;
}

static inline simd_f32_t simd_set(float x)
{
    return x - (simd_f32_t){0}; /* not 0 + x, which isn't x for -0 */
}

/* a where it is larger, or where b isn't a number; else b: a NaN in `a` is lost, a NaN in `b` too. */
static inline simd_f32_t simd_max(simd_f32_t a, simd_f32_t b)
{
    const simd_i32_t is_larger = (simd_i32_t)(b > a);
    return (simd_f32_t)(((simd_i32_t)b & is_larger) | ((simd_i32_t)a & ~is_larger));
}

static inline float simd_sum_lanes(simd_f32_t v)
{
    float lane[SIMD_WIDTH];
    memcpy(lane, &v, sizeof(lane));
    for (int half = SIMD_WIDTH / 2; half > 0; half /= 2) {
        for (int i = 0; i < half; i++) {
            lane[i] += lane[i + half];
        }
    }
    return lane[0];
}

static inline float simd_max_lanes(simd_f32_t v)
{
    float lane[SIMD_WIDTH];
    memcpy(lane, &v, sizeof(lane));
    for (int half = SIMD_WIDTH / 2; half > 0; half /= 2) {
        for (int i = 0; i < half; i++) {
            lane[i] = lane[i + half] > lane[i] ? lane[i + half] : lane[i];
        }
    }
    return lane[0];
}

/* The largest of x[n]; -INFINITY for none. */
static inline float simd_row_max(const float *x, int64_t n)
{
    float most = -INFINITY;
    int64_t i = 0;
    if (n >= 2 * SIMD_WIDTH) {
        simd_f32_t a = simd_load(x);
        simd_f32_t b = simd_load(x + SIMD_WIDTH);
        for (i = 2 * SIMD_WIDTH; i + 2 * SIMD_WIDTH <= n; i += 2 * SIMD_WIDTH) {
            a = simd_max(a, simd_load(x + i));
            b = simd_max(b, simd_load(x + i + SIMD_WIDTH));
        }
        most = simd_max_lanes(simd_max(a, b));
    }
    for (; i < n; i++) {
        most = x[i] > most ? x[i] : most;
    }
    return most;
}

/* The sum of x[n]. */
static inline float simd_row_sum(const float *x, int64_t n)
{
    simd_f32_t a = {0};
    simd_f32_t b = {0};
    int64_t i = 0;
    for (; i + 2 * SIMD_WIDTH <= n; i += 2 * SIMD_WIDTH) {
        a += simd_load(x + i);
        b += simd_load(x + i + SIMD_WIDTH);
    }
    float sum = simd_sum_lanes(a + b);
    for (; i < n; i++) {
        sum += x[i];
    }
    return sum;
}

#endif
