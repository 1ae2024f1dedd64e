/* SPDX-License-Identifier: Apache-2.0 */
/* activation: pointwise functions and their derivatives; rows in engine/ops/activation.c. a_ is dy, b_ what was saved.
 */
#include <math.h>

#include "cpu/map.h"
#include "cpu/vec/kernels.h"
#include "cpu/vec/pointwise.h"
#include "cpu/vec/runs.h"
#include "cpu/vec/vecmath.h"

/* A NaN goes through: it isn't < 0. */
DEFINE_UNARY_KERNEL(relu, a_ < 0.0f ? 0.0f : a_, a_ < 0.0 ? 0.0 : a_)
/* what isn't a number is let through, so that a gradient says so too */
DEFINE_BINARY_KERNEL(relu_backward, b_ <= 0.0f ? 0.0f : a_, b_ <= 0.0 ? 0.0 : a_)

DEFINE_UNARY_KERNEL(tanh, vec_tanh(a_), tanh(a_))
DEFINE_BINARY_KERNEL(tanh_backward, a_ *(1.0f - b_ * b_), a_ *(1.0 - b_ * b_))

DEFINE_UNARY_KERNEL(sigmoid, vec_sigmoid(a_), sigmoid_f64(a_))
DEFINE_BINARY_KERNEL(sigmoid_backward, a_ *b_ *(1.0f - b_), a_ *b_ *(1.0 - b_))

DEFINE_UNARY_KERNEL(silu, a_ *vec_sigmoid(a_), a_ *sigmoid_f64(a_))
DEFINE_BINARY_KERNEL(silu_backward, a_ *silu_derivative(b_), a_ *silu_derivative_f64(b_))

DEFINE_BINARY_KERNEL(gelu_exact_backward, a_ *gelu_exact_derivative(b_), a_ *gelu_exact_derivative_f64(b_))
DEFINE_BINARY_KERNEL(gelu_tanh_backward, a_ *gelu_tanh_derivative(b_), a_ *gelu_tanh_derivative_f64(b_))

CPU_KERNEL(gelu_backward)
{
    return args->attrs->i[0] != 0 ? CPU_FN(gelu_tanh_backward)(args) : CPU_FN(gelu_exact_backward)(args);
}

/* log(1 + x) for x in [0, 1]: 2 artanh(s), s = x / (2 + x) ≤ 1/3, by its series. */
static inline float log1p_unit(float x)
{
    const float s = x / (2.0f + x);
    const float z = s * s;
    float p = 1.0f / 15;
    p = p * z + 1.0f / 13;
    p = p * z + 1.0f / 11;
    p = p * z + 1.0f / 9;
    p = p * z + 1.0f / 7;
    p = p * z + 1.0f / 5;
    p = p * z + 1.0f / 3;
    return 2.0f * (p * z * s + s);
}

/* exp(x) - 1: near 0 vec_exp's polynomial without its 1. */
static inline float expm1_f32(float x)
{
    float p = 1.9875691500e-4f;
    p = p * x + 1.3981999507e-3f;
    p = p * x + 8.3334519073e-3f;
    p = p * x + 4.1665795894e-2f;
    p = p * x + 1.6666665459e-1f;
    p = p * x + 5.0000001201e-1f;
    const float small = p * (x * x) + x;
    return fabsf(x) < 0.34f ? small : vec_exp(x) - 1.0f;
}

#define T float
#define NAME(name_x) name_x##_value_f32
#define EXP vec_exp
#define EXPM1 expm1_f32
#define LOG1P log1p_unit
#define TANH vec_tanh
#define ABS fabsf
#include "cpu/vec/activation_body.h"
#undef T
#undef NAME
#undef EXP
#undef EXPM1
#undef LOG1P
#undef TANH
#undef ABS

#define T double
#define NAME(name_x) name_x##_value_f64
#define EXP exp
#define EXPM1 expm1
#define LOG1P log1p
#define TANH tanh
#define ABS fabs
#include "cpu/vec/activation_body.h"

#define DEFINE_ACTIVATION(name_x)                                                                                      \
    DEFINE_UNARY_KERNEL(name_x, name_x##_value_f32(a_, (float)attrs->f[0], (float)attrs->f[1]),                        \
                        name_x##_value_f64(a_, attrs->f[0], attrs->f[1]))                                              \
    DEFINE_BINARY_KERNEL(name_x##_backward,                                                                            \
                         a_ *name_x##_derivative_value_f32(b_, (float)attrs->f[0], (float)attrs->f[1]),                \
                         a_ *name_x##_derivative_value_f64(b_, attrs->f[0], attrs->f[1]))
DEFINE_ACTIVATION(leaky_relu)
DEFINE_ACTIVATION(elu)
DEFINE_ACTIVATION(selu)
DEFINE_ACTIVATION(celu)
DEFINE_ACTIVATION(hardtanh)
DEFINE_ACTIVATION(hardsigmoid)
DEFINE_ACTIVATION(hardswish)
DEFINE_ACTIVATION(softplus)
DEFINE_ACTIVATION(softsign)
DEFINE_ACTIVATION(softshrink)
DEFINE_ACTIVATION(hardshrink)
DEFINE_ACTIVATION(tanhshrink)
DEFINE_ACTIVATION(log_sigmoid)
DEFINE_ACTIVATION(mish)
DEFINE_ACTIVATION(threshold)
