/* SPDX-License-Identifier: Apache-2.0 */
/*
 * optim: optimizer updates and sums of squares; compiled once per instruction set.
 * Every loop body is a whole group of GD_CPU_OPTIM_LANES elements, so that all elements go through the same vector
 * code: no scalar tail with other roundings.
 */
#include "cpu/optim.h"

#include <math.h>

#include "cpu/cpu.h"

enum { LANES = GD_CPU_OPTIM_LANES };

extern const gd_cpu_optim_t CPU_FN(optim);

static void sgd_plain(const gd_cpu_sgd_t *args, int64_t first, int64_t last)
{
    const float scale = args->gradient_scale;
    const float lr = args->lr;
    const float decay = args->decay;
    for (int64_t i = first; i < last; i += LANES) {
        float *restrict p = args->parameters + i;
        const float *restrict dp = args->gradients + i;
#pragma omp simd
        for (int j = 0; j < LANES; j++) {
            const float g = dp[j] * scale + decay * p[j];
            p[j] -= lr * g;
        }
    }
}

static void sgd_momentum(const gd_cpu_sgd_t *args, int64_t first, int64_t last)
{
    const float scale = args->gradient_scale;
    const float lr = args->lr;
    const float decay = args->decay;
    const float momentum = args->momentum;
    /* step = buf + nesterov (g + momentum buf - buf), as factors of both */
    const float of_gradient = args->is_nesterov ? 1.0F : 0.0F;
    const float of_buffer = args->is_nesterov ? momentum : 1.0F;
    for (int64_t i = first; i < last; i += LANES) {
        float *restrict p = args->parameters + i;
        float *restrict buffer = args->momentum_buffer + i;
        const float *restrict dp = args->gradients + i;
#pragma omp simd
        for (int j = 0; j < LANES; j++) {
            const float g = dp[j] * scale + decay * p[j];
            const float b = momentum * buffer[j] + g;
            buffer[j] = b;
            p[j] -= lr * (of_buffer * b + of_gradient * g);
        }
    }
}

static void sgd(const gd_cpu_sgd_t *args, int64_t first, int64_t last)
{
    if (args->momentum_buffer == NULL) {
        sgd_plain(args, first, last);
    } else {
        sgd_momentum(args, first, last);
    }
}

static void adamw(const gd_cpu_adamw_t *args, int64_t first, int64_t last)
{
    const gd_cpu_adamw_t a = *args;
    for (int64_t i = first; i < last; i += LANES) {
        float *restrict p = a.parameters + i;
        float *restrict m = a.exp_avg + i;
        float *restrict v = a.exp_avg_sq + i;
        const float *restrict dp = a.gradients + i;
#pragma omp simd
        for (int j = 0; j < LANES; j++) {
            const float g = dp[j] * a.gradient_scale;
            const float mean = m[j] + a.one_minus_beta1 * (g - m[j]);
            const float square = a.beta2 * v[j] + a.one_minus_beta2 * g * g;
            m[j] = mean;
            v[j] = square;
            p[j] = p[j] * a.keep - a.step_size * (mean / (sqrtf(square) * a.root_scale + a.epsilon));
        }
    }
}

static double sum_squares(const float *x, int64_t n)
{
    double sum[LANES] = {0};
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) {
#pragma omp simd
        for (int j = 0; j < LANES; j++) {
            const double value = (double)x[i + j];
            sum[j] += value * value; /* the product is exact: contraction changes nothing */
        }
    }
    for (int j = 0; i + j < n; j++) {
        const double value = (double)x[i + j];
        sum[j] += value * value;
    }
    for (int half = LANES / 2; half > 0; half /= 2) {
        for (int j = 0; j < half; j++) {
            sum[j] += sum[j + half];
        }
    }
    return sum[0];
}

const gd_cpu_optim_t CPU_FN(optim) = {.sgd = sgd, .adamw = adamw, .sum_squares = sum_squares};
