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

/* All lane numbers through a function macro of lane and step, as arguments of __builtin_shufflevector. */
#define SIMD_LANES_4(f_x, l_x, step_x)                                                                                 \
    f_x((l_x), step_x), f_x((l_x) + 1, step_x), f_x((l_x) + 2, step_x), f_x((l_x) + 3, step_x)
#if defined(__AVX512F__)
#define SIMD_LANES(f_x, step_x)                                                                                        \
    SIMD_LANES_4(f_x, 0, step_x), SIMD_LANES_4(f_x, 4, step_x), SIMD_LANES_4(f_x, 8, step_x),                          \
        SIMD_LANES_4(f_x, 12, step_x)
#elif defined(__AVX__)
#define SIMD_LANES(f_x, step_x) SIMD_LANES_4(f_x, 0, step_x), SIMD_LANES_4(f_x, 4, step_x)
#else
#define SIMD_LANES(f_x, step_x) SIMD_LANES_4(f_x, 0, step_x)
#endif

/* Lanes of v moved down by step, around the end. */
#define SIMD_NEXT_LANE(l_x, step_x) (((l_x) + (step_x)) % SIMD_WIDTH)
#define SIMD_ROTATE(v_x, step_x) __builtin_shufflevector((v_x), (v_x), SIMD_LANES(SIMD_NEXT_LANE, step_x))

static inline float simd_sum_lanes(simd_f32_t v)
{
#if defined(__AVX512F__)
    v += SIMD_ROTATE(v, 8);
#endif
#if defined(__AVX__)
    v += SIMD_ROTATE(v, 4);
#endif
    v += SIMD_ROTATE(v, 2);
    v += SIMD_ROTATE(v, 1);
    return v[0];
}

static inline float simd_max_lanes(simd_f32_t v)
{
#if defined(__AVX512F__)
    v = simd_max(v, SIMD_ROTATE(v, 8));
#endif
#if defined(__AVX__)
    v = simd_max(v, SIMD_ROTATE(v, 4));
#endif
    v = simd_max(v, SIMD_ROTATE(v, 2));
    v = simd_max(v, SIMD_ROTATE(v, 1));
    return v[0];
}

/* v in the first n lanes, otherwise in the rest. */
static inline simd_f32_t simd_first(simd_f32_t v, int64_t n, float otherwise)
{
    simd_i32_t lane;
    for (int i = 0; i < SIMD_WIDTH; i++) {
        lane[i] = i;
    }
    const simd_i32_t is_in = lane < (int32_t)n;
    return (simd_f32_t)(((simd_i32_t)v & is_in) | ((simd_i32_t)simd_set(otherwise) & ~is_in));
}

/* exp of x ≤ 0, as softmax needs it; 1e-38 below -87, NaN for NaN. The polynomial of vec_exp. */
static inline simd_f32_t simd_exp_negative(simd_f32_t x)
{
    x = simd_max(x, simd_set(-87.0F));
    const simd_f32_t shifted = x * 0x1.715476p0F + 0x1.8p23F; /* the low bits hold n */
    const simd_f32_t n = shifted - 0x1.8p23F;
    const simd_f32_t r = (x - n * 0x1.63p-1F) - n * -0x1.bd0106p-13F;
    simd_f32_t p = r * 1.9875691500e-4F + 1.3981999507e-3F;
    p = p * r + 8.3334519073e-3F;
    p = p * r + 4.1665795894e-2F;
    p = p * r + 1.6666665459e-1F;
    p = p * r + 5.0000001201e-1F;
    p = p * (r * r) + r + 1.0F;
    return p * (simd_f32_t)(((simd_i32_t)shifted - 0x4B400000 + 127) << 23);
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
