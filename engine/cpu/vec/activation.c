/* SPDX-License-Identifier: Apache-2.0 */
/* activation: pointwise functions and their derivatives; rows in engine/ops/activation.c. a_ is dy, b_ what was saved.
 */
#include <math.h>

#include "cpu/map.h"
#include "cpu/vec/kernels.h"
#include "cpu/vec/runs.h"
#include "cpu/vec/vecmath.h"

#define INV_SQRT_2 0.70710678118654752440
#define INV_SQRT_2PI 0.39894228040143267794
#define GELU_SCALE 0.79788456080286535588 /* sqrt(2/pi) */
#define GELU_CUBIC 0.044715

/* A NaN goes through: it isn't < 0. */
DEFINE_UNARY_KERNEL(relu, a_ < 0.0f ? 0.0f : a_, a_ < 0.0 ? 0.0 : a_)
DEFINE_BINARY_KERNEL(relu_backward, b_ > 0.0f ? a_ : 0.0f, b_ > 0.0 ? a_ : 0.0)

DEFINE_UNARY_KERNEL(tanh, vec_tanh(a_), tanh(a_))
DEFINE_BINARY_KERNEL(tanh_backward, a_ *(1.0f - b_ * b_), a_ *(1.0 - b_ * b_))

static inline double sigmoid_f64(double x)
{
    return 1.0 / (1.0 + exp(-x));
}

DEFINE_UNARY_KERNEL(sigmoid, vec_sigmoid(a_), sigmoid_f64(a_))
DEFINE_BINARY_KERNEL(sigmoid_backward, a_ *b_ *(1.0f - b_), a_ *b_ *(1.0 - b_))

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

DEFINE_UNARY_KERNEL(silu, a_ *vec_sigmoid(a_), a_ *sigmoid_f64(a_))
DEFINE_BINARY_KERNEL(silu_backward, a_ *silu_derivative(b_), a_ *silu_derivative_f64(b_))

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

DEFINE_UNARY_KERNEL(gelu_exact, gelu_exact(a_), gelu_exact_f64(a_))
DEFINE_UNARY_KERNEL(gelu_tanh, gelu_tanh(a_), gelu_tanh_f64(a_))
DEFINE_BINARY_KERNEL(gelu_exact_backward, a_ *gelu_exact_derivative(b_), a_ *gelu_exact_derivative_f64(b_))
DEFINE_BINARY_KERNEL(gelu_tanh_backward, a_ *gelu_tanh_derivative(b_), a_ *gelu_tanh_derivative_f64(b_))

CPU_KERNEL(gelu)
{
    return args->attrs->i[0] != 0 ? CPU_FN(gelu_tanh)(args) : CPU_FN(gelu_exact)(args);
}

CPU_KERNEL(gelu_backward)
{
    return args->attrs->i[0] != 0 ? CPU_FN(gelu_tanh_backward)(args) : CPU_FN(gelu_exact_backward)(args);
}

typedef struct dropout {
    const void *x;
    void *y;
    int64_t n;
    gd_rng_key_t key;
    double keep_scale;
    uint32_t threshold; /* of 24 bits: kept where word >> 8 is at least this */
    int32_t dtype;
} dropout_t;

enum { DROPOUT_STRETCH = 256 }; /* elements whose masks are drawn together */

/*
 * mask[i] = 1 or 0 for elements first … first + DROPOUT_STRETCH - 1; first is a multiple of 4. gd_philox, word by word
 * over DROPOUT_STRETCH / 4 blocks, so that each line is a vector loop.
 */
static void mask_draw(const dropout_t *d, int64_t first, uint32_t mask[DROPOUT_STRETCH])
{
    enum { N = DROPOUT_STRETCH / 4 };
    uint32_t c[4][N];
    uint32_t k0 = (uint32_t)d->key.seed;
    uint32_t k1 = (uint32_t)(d->key.seed >> 32) ^ (d->key.purpose * 0x9E3779B9u);
    const uint32_t block = (uint32_t)(first / 4);
    for (uint32_t i = 0; i < N; i++) {
        c[0][i] = block + i;
        c[1][i] = d->key.layer;
        c[2][i] = d->key.microbatch;
        c[3][i] = d->key.step;
    }
    for (int round = 0; round < 10; round++) {
#pragma omp simd
        for (int i = 0; i < N; i++) {
            const uint64_t p0 = (uint64_t)0xD2511F53u * c[0][i];
            const uint64_t p1 = (uint64_t)0xCD9E8D57u * c[2][i];
            c[0][i] = (uint32_t)(p1 >> 32) ^ c[1][i] ^ k0;
            c[1][i] = (uint32_t)p1;
            c[2][i] = (uint32_t)(p0 >> 32) ^ c[3][i] ^ k1;
            c[3][i] = (uint32_t)p0;
        }
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    for (int i = 0; i < N; i++) {
        for (int j = 0; j < 4; j++) {
            mask[4 * i + j] = (c[j][i] >> 8) >= d->threshold;
        }
    }
}

static void dropout_block(void *arg, int64_t begin, int64_t end)
{
    const dropout_t *d = arg;
    uint32_t mask[DROPOUT_STRETCH];
    for (int64_t i = begin; i < end; i += DROPOUT_STRETCH) {
        const int64_t n = end - i < DROPOUT_STRETCH ? end - i : DROPOUT_STRETCH;
        mask_draw(d, i, mask);
        if (d->dtype == GD_DTYPE_F64) {
            const double *x = (const double *)d->x + i;
            double *y = (double *)d->y + i;
            for (int64_t j = 0; j < n; j++) {
                y[j] = mask[j] != 0 ? x[j] * d->keep_scale : 0.0;
            }
        } else {
            float buffer[DROPOUT_STRETCH];
            const float *x = half_row(d->x, d->dtype, i, n, buffer);
            float *y = half_row_open(d->y, d->dtype, i, buffer);
            const float scale = (float)d->keep_scale;
#pragma omp simd
            for (int64_t j = 0; j < n; j++) {
                y[j] = mask[j] != 0 ? x[j] * scale : 0.0f;
            }
            half_row_put(y, d->y, d->dtype, i, n);
        }
    }
}

CPU_KERNEL(dropout)
{
    const gd_view_t *x = &args->in[0];
    if (!gd_dtype_is_float((gd_dtype_t)x->dtype)) {
        return gd_cpu_fail_dtype("dropout", x->dtype);
    }
    const double p = args->attrs->f[0];
    dropout_t d = {.x = x->data,
                   .y = args->out[0].data,
                   .n = gd_view_numel(x),
                   .key = args->attrs->rng,
                   .keep_scale = 1.0 / (1.0 - p),
                   .threshold = (uint32_t)ceil(p * 0x1.0p24),
                   .dtype = x->dtype};
    gd_cpu_parallel(args->n_threads, d.n, GD_CPU_MAP_GRAIN, dropout_block, &d);
    return ST_OK;
}
