/* SPDX-License-Identifier: Apache-2.0 */
/* reference_activation: activations by their definitions, and their derivatives; a, b are the attributes f0, f1. */
#include <math.h>

#include "tests/engine/reference_image.h"

#define ACTIVATION(name_x, value_x, derivative_x)                                                                      \
    void ref_##name_x(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)                              \
    {                                                                                                                  \
        const double a = attrs->f[0], b = attrs->f[1];                                                                 \
        (void)a;                                                                                                       \
        (void)b;                                                                                                       \
        for (int64_t i = 0; i < out->numel; i++) {                                                                     \
            const double x = in[0].data[i];                                                                            \
            out->data[i] = (value_x);                                                                                  \
        }                                                                                                              \
    }                                                                                                                  \
    void ref_##name_x##_backward(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)                   \
    {                                                                                                                  \
        const double a = attrs->f[0], b = attrs->f[1];                                                                 \
        (void)a;                                                                                                       \
        (void)b;                                                                                                       \
        for (int64_t i = 0; i < out->numel; i++) {                                                                     \
            const double x = in[1].data[i];                                                                            \
            out->data[i] = in[0].data[i] * (derivative_x);                                                             \
        }                                                                                                              \
    }

static double logistic(double x)
{
    return 1 / (1 + exp(-x));
}

static double softplus(double x)
{
    return log1p(exp(x));
}

static double squared(double x)
{
    return x * x;
}

static const double selu_scale = 1.0507009873554805, selu_alpha = 1.6732632423543772;

ACTIVATION(leaky_relu, x > 0 ? x : a * x, x > 0 ? 1 : a)
ACTIVATION(elu, x > 0 ? x : a * (exp(x) - 1), x > 0 ? 1 : a * exp(x))
ACTIVATION(selu, selu_scale *(x > 0 ? x : selu_alpha * (exp(x) - 1)), selu_scale *(x > 0 ? 1 : selu_alpha * exp(x)))
ACTIVATION(celu, fmax(x, 0) + fmin(0, a *(exp(x / a) - 1)), x > 0 ? 1 : exp(x / a))
ACTIVATION(hardtanh, fmin(fmax(x, a), b), x > a && x < b)
ACTIVATION(hardsigmoid, fmin(fmax(x + 3, 0), 6) / 6, x > -3 && x < 3 ? 1 / 6.0 : 0)
ACTIVATION(hardswish, x *fmin(fmax(x + 3, 0), 6) / 6, x <= -3 ? 0 : x >= 3 ? 1 : (2 * x + 3) / 6)
ACTIVATION(softplus, a *x > b ? x : softplus(a * x) / a, a *x > b ? 1 : logistic(a * x))
ACTIVATION(softsign, x / (1 + fabs(x)), 1 / squared(1 + fabs(x)))
ACTIVATION(softshrink, x > a ? x - a : x < -a ? x + a : 0, fabs(x) > a)
ACTIVATION(hardshrink, fabs(x) > a ? x : 0, fabs(x) > a)
ACTIVATION(tanhshrink, x - tanh(x), squared(tanh(x)))
ACTIVATION(log_sigmoid, log(logistic(x)), 1 - logistic(x))
ACTIVATION(mish, x *tanh(softplus(x)), tanh(softplus(x)) + x * (1 - squared(tanh(softplus(x)))) * logistic(x))
ACTIVATION(threshold, x > a ? x : b, x > a)

/* Index of the second half's partner of element i of y[outer][half]; half counts what follows the axis too. */
static int64_t half_size(const ref_tensor_t *x, int64_t axis)
{
    int64_t half = x->shape[axis] / 2;
    for (int d = (int)axis + 1; d < x->n_dims; d++) {
        half *= x->shape[d];
    }
    return half;
}

void ref_glu(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    const int64_t half = half_size(&in[0], attrs->i[0]);
    for (int64_t i = 0; i < out->numel; i++) {
        const int64_t at = i / half * 2 * half + i % half;
        out->data[i] = in[0].data[at] * logistic(in[0].data[at + half]);
    }
}

void ref_glu_backward(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    const int64_t half = half_size(&in[1], attrs->i[0]);
    for (int64_t i = 0; i < in[0].numel; i++) {
        const int64_t at = i / half * 2 * half + i % half;
        const double s = logistic(in[1].data[at + half]);
        out->data[at] = in[0].data[i] * s;
        out->data[at + half] = in[0].data[i] * in[1].data[at] * s * (1 - s);
    }
}

static int64_t slope_of(const ref_tensor_t *x, const ref_tensor_t *weight, int64_t i)
{
    return weight->numel > 1 ? i / (x->numel / x->shape[0] / x->shape[1]) % x->shape[1] : 0;
}

void ref_prelu(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    (void)attrs;
    for (int64_t i = 0; i < out->numel; i++) {
        const double x = in[0].data[i];
        out->data[i] = x > 0 ? x : in[1].data[slope_of(&in[0], &in[1], i)] * x;
    }
}

void ref_prelu_backward(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    (void)attrs;
    for (int64_t c = 0; c < out[1].numel; c++) {
        out[1].data[c] = 0;
    }
    for (int64_t i = 0; i < out->numel; i++) {
        const double x = in[1].data[i];
        const int64_t c = slope_of(&in[1], &in[2], i);
        out->data[i] = in[0].data[i] * (x > 0 ? 1 : in[2].data[c]);
        out[1].data[c] += x > 0 ? 0 : in[0].data[i] * x;
    }
}
