/* SPDX-License-Identifier: Apache-2.0 */
/*
 * half: 16-bit floats for kernels that compute in f32: a row is read into a buffer, worked on by the loops for f32, and
 * written back; a row that is f32 already is used where it lies. Buffers are small or a thread's scratch, so that the
 * detour stays in the cache. Integer arithmetic, not the processor's conversions: those treat subnormal numbers and
 * NaN differently from one processor to the next.
 */
#ifndef GRADD_CPU_VEC_HALF_H
#define GRADD_CPU_VEC_HALF_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "gradd/view.h"

static inline uint32_t float_bits(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof(bits));
    return bits;
}

static inline float bits_float(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof(x));
    return x;
}

/* Round to nearest even; NaN stays NaN. */
static inline uint16_t bf16_from_f32(float x)
{
    const uint32_t bits = float_bits(x);
    const uint32_t rounded = (bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16;
    return (uint16_t)((bits & 0x7FFFFFFFu) > 0x7F800000u ? (bits >> 16 | 0x40u) : rounded);
}

static inline float bf16_to_f32(uint16_t h)
{
    return bits_float((uint32_t)h << 16);
}

/* Without branches: normal results by moving the exponent, subnormal ones by letting the adder round at 2^-24. */
static inline uint16_t f16_from_f32(float x)
{
    const uint32_t bits = float_bits(x);
    const uint32_t sign = bits >> 16 & 0x8000u;
    const uint32_t a = bits & 0x7FFFFFFFu;
    const uint32_t normal = (a - (112u << 23) + 0xFFFu + (a >> 13 & 1u)) >> 13;
    const uint32_t subnormal = float_bits(bits_float(a) + 0.5f) - 0x3F000000u;
    const uint32_t special = a > 0x7F800000u ? 0x7E00u : 0x7C00u;
    uint32_t h = a < (113u << 23) ? subnormal : normal;
    h = a >= 0x47800000u ? special : h;
    return (uint16_t)(sign | h);
}

static inline float f16_to_f32(uint16_t h)
{
    const uint32_t sign = (uint32_t)(h & 0x8000u) << 16;
    const uint32_t a = h & 0x7FFFu;
    const uint32_t normal = (a << 13) + (112u << 23);
    const uint32_t special = (a << 13) + (224u << 23);
    const uint32_t subnormal = float_bits((float)a * 0x1.0p-24f);
    uint32_t bits = a < 0x400u ? subnormal : normal;
    bits = a >= 0x7C00u ? special : bits;
    return bits_float(sign | bits);
}

static inline bool half_is(int32_t dtype)
{
    return dtype == GD_DTYPE_BF16 || dtype == GD_DTYPE_F16;
}

/* y[n] = x[n] */
static inline void half_read(const uint16_t *x, int32_t dtype, float *y, int64_t n)
{
    if (dtype == GD_DTYPE_BF16) {
#pragma omp simd
        for (int64_t i = 0; i < n; i++) {
            y[i] = bf16_to_f32(x[i]);
        }
        return;
    }
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        y[i] = f16_to_f32(x[i]);
    }
}

static inline void half_write(const float *x, int32_t dtype, uint16_t *y, int64_t n)
{
    if (dtype == GD_DTYPE_BF16) {
#pragma omp simd
        for (int64_t i = 0; i < n; i++) {
            y[i] = bf16_from_f32(x[i]);
        }
        return;
    }
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        y[i] = f16_from_f32(x[i]);
    }
}

/* Elements first … first + n - 1 of base as f32: where they lie, or in buffer[n]. */
static inline const float *half_row(const void *base, int32_t dtype, int64_t first, int64_t n, float *buffer)
{
    if (!half_is(dtype)) {
        return (const float *)base + first;
    }
    half_read((const uint16_t *)base + first, dtype, buffer, n);
    return buffer;
}

/* Where f32 results for elements first … of base are put; half_row_put then brings them there. */
static inline float *half_row_open(void *base, int32_t dtype, int64_t first, float *buffer)
{
    return half_is(dtype) ? buffer : (float *)base + first;
}

static inline void half_row_put(const float *row, void *base, int32_t dtype, int64_t first, int64_t n)
{
    if (half_is(dtype)) {
        half_write(row, dtype, (uint16_t *)base + first, n);
    }
}

#endif
