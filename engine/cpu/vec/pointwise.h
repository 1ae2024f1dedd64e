/* SPDX-License-Identifier: Apache-2.0 */
/* pointwise: activation functions and their derivatives that several kernels compute. */
#ifndef GRADD_CPU_VEC_POINTWISE_H
#define GRADD_CPU_VEC_POINTWISE_H

#include "cpu/vec/vecmath.h"

#define INV_SQRT_2 0.70710678118654752440
#define INV_SQRT_2PI 0.39894228040143267794
#define GELU_SCALE 0.79788456080286535588 /* sqrt(2/pi) */
#define GELU_CUBIC 0.044715

static inline double sigmoid_f64(double x)
{
    return 1.0 / (1.0 + exp(-x));
}

static inline float silu_derivative(float x)
{
    const float s = vec_sigmoid(x);
    return s * (1.0f + x * (1.0f - s));
}

static inline double silu_derivative_f64(double x)
{
    const double s = sigmoid_f64(x);
    return s * (1.0 + x * (1.0 - s));
}

/* x Phi(x) */
static inline float gelu_exact(float x)
{
    return x * vec_normal_cdf(x, vec_exp(-0.5f * x * x));
}

static inline double gelu_exact_f64(double x)
{
    return 0.5 * x * erfc(-x * INV_SQRT_2);
}

/* Phi(x) + x phi(x) */
static inline float gelu_exact_derivative(float x)
{
    const float e = vec_exp(-0.5f * x * x);
    return vec_normal_cdf(x, e) + x * (float)INV_SQRT_2PI * e;
}

static inline double gelu_exact_derivative_f64(double x)
{
    return 0.5 * erfc(-x * INV_SQRT_2) + x * INV_SQRT_2PI * exp(-0.5 * x * x);
}

/* x/2 (1 + tanh(u)) = x / (1 + exp(-2u)), u = sqrt(2/pi) (x + 0.044715 x³): one exp, no cancellation */
static inline float gelu_tanh(float x)
{
    const float u = (float)GELU_SCALE * x * (1.0f + (float)GELU_CUBIC * x * x);
    return x * vec_sigmoid(2.0f * u);
}

static inline double gelu_tanh_f64(double x)
{
    return x * sigmoid_f64(2.0 * GELU_SCALE * x * (1.0 + GELU_CUBIC * x * x));
}

/* s + x s (1 - s) 2u', s = 1 / (1 + exp(-2u)) */
static inline float gelu_tanh_derivative(float x)
{
    const float cubic = (float)GELU_CUBIC * x * x;
    const float s = vec_sigmoid(2.0f * (float)GELU_SCALE * x * (1.0f + cubic));
    return s + x * s * (1.0f - s) * (2.0f * (float)GELU_SCALE) * (1.0f + 3.0f * cubic);
}

static inline double gelu_tanh_derivative_f64(double x)
{
    const double cubic = GELU_CUBIC * x * x;
    const double s = sigmoid_f64(2.0 * GELU_SCALE * x * (1.0 + cubic));
    return s + x * s * (1.0 - s) * 2.0 * GELU_SCALE * (1.0 + 3.0 * cubic);
}

#endif
