/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vecmath: f32 functions without branches or calls, so that gcc vectorises loops over them. Errors, tested against
 * libm's double functions (tests/engine/test_kernels.c): exp ≤ 2 ulp, tanh ≤ 3 ulp, erf ≤ 3 ulp; NaN in, NaN out.
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

/* 2^n · 2^f with n = round(x log2 e), f in [-½, ½] by the polynomial of Cephes' expf. */
static inline float vec_exp(float x)
{
    float c = x > 89.0f ? 89.0f : x; /* a NaN stays one */
    c = c < -104.0f ? -104.0f : c;
    const float shifted = c * 0x1.715476p0f + 0x1.8p23f; /* the low bits hold n */
    const float n = shifted - 0x1.8p23f;
    const int32_t k = vec_to_bits(shifted) - 0x4B400000;
    const float r = (c - n * 0x1.63p-1f) - n * -0x1.bd0106p-13f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    /* two factors, so that results near the ends of the range come out right */
    const int32_t half = k >> 1;
    return p * vec_from_bits((half + 127) * (1 << 23)) * vec_from_bits((k - half + 127) * (1 << 23));
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

/* Two polynomials (after N. Juffa's erff): odd around 0, 1 - exp of one in |x| elsewhere. */
static inline float vec_erf(float x)
{
    const float t = fabsf(x) < 4.0f ? fabsf(x) : (x != x ? x : 4.0f);
    const float s = t * t;
    float q = -1.72853470e-5f * t + 3.83197126e-4f;
    float u = -3.88396438e-3f * t + 2.42546219e-2f;
    q = q * s + u;
    q = q * t - 1.06777877e-1f;
    q = q * t - 6.34846687e-1f;
    q = q * t - 1.28717512e-1f;
    q = q * t - t;
    const float large = copysignf(1.0f - vec_exp(q), x);
    float p = -5.96761703e-4f;
    p = p * s + 4.99119423e-3f;
    p = p * s - 2.67681349e-2f;
    p = p * s + 1.12819925e-1f;
    p = p * s - 3.76125336e-1f;
    p = p * s + 1.28379166e-1f;
    const float small = p * x + x;
    return t > 0.927734375f ? large : small;
}

/* 1 / (1 + exp(-x)) */
static inline float vec_sigmoid(float x)
{
    return 1.0f / (1.0f + vec_exp(-x));
}

#endif
