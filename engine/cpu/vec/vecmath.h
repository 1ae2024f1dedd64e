/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vecmath: f32 functions without branches or calls, so that gcc vectorises loops over them. Errors, tested against
 * libm's double functions (tests/engine/test_kernels.c): exp ≤ 2 ulp, tanh ≤ 3 ulp; NaN in, NaN out.
 */
#ifndef GRADD_CPU_VEC_VECMATH_H
#define GRADD_CPU_VEC_VECMATH_H

#include <math.h>
#include <stdint.h>
#include <string.h>

static inline float vec_from_bits(int32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof(x));
    return x;
}

static inline int32_t vec_to_bits(float x)
{
    int32_t bits;
    memcpy(&bits, &x, sizeof(bits));
    return bits;
}

/*
 * 2^n · 2^f with n = round(x log2 e), f in [-½, ½] by the polynomial of Cephes' expf. Results below the normal range
 * are 0.
 */
static inline float vec_exp(float x)
{
    const float shifted = x * 0x1.715476p0f + 0x1.8p23f; /* its low bits hold n */
    const float n = shifted - 0x1.8p23f;
    const float r = (x - n * 0x1.63p-1f) - n * -0x1.bd0106p-13f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    /* n goes to the exponent; unsigned, so that values out of range, replaced below, may wrap */
    const uint32_t bits = (uint32_t)vec_to_bits(p) + ((uint32_t)vec_to_bits(shifted) << 23);
    float y = vec_from_bits((int32_t)bits);
    y = x > 88.72283f ? INFINITY : y;
    y = x < -87.33654f ? 0.0f : y;
    return y;
}

/* Near 0 the odd polynomial of Cephes' tanhf, elsewhere 1 - 2 / (exp(2|x|) + 1). */
static inline float vec_tanh(float x)
{
    const float a = fabsf(x);
    const float z = x * x;
    float p = -5.70498872745e-3f;
    p = p * z + 2.06390887954e-2f;
    p = p * z - 5.37397155531e-2f;
    p = p * z + 1.33314422036e-1f;
    p = p * z - 3.33332819422e-1f;
    const float small = p * z * x + x;
    const float large = copysignf(1.0f - 2.0f / (vec_exp(2.0f * a) + 1.0f), x);
    return a < 0.625f ? small : large;
}

/*
 * Standard normal distribution function, given e = exp(-x²/2), which the density needs too. The lower tail is
 * t p(t) e, t = 1 / (1 + 0.42 |x| / sqrt 2), in the manner of Abramowitz and Stegun 7.1.26; p is a minimax polynomial
 * for the relative error (1.7e-7 on |x| < 13).
 */
static inline float vec_normal_cdf(float x, float e)
{
    const float t = 1.0f / (1.0f + 0.296984848f * fabsf(x));
    float p = 0.0351963863f;
    p = p * t - 0.160469383f;
    p = p * t + 0.220932648f;
    p = p * t - 0.0658207536f;
    p = p * t + 0.134671509f;
    p = p * t + 0.0972703174f;
    p = p * t + 0.119808093f;
    p = p * t + 0.118411101f;
    const float tail = p * t * e;
    return x > 0.0f ? 1.0f - tail : tail;
}

/* 1 / (1 + exp(-x)) */
static inline float vec_sigmoid(float x)
{
    return 1.0f / (1.0f + vec_exp(-x));
}

#endif
