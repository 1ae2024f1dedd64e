/* SPDX-License-Identifier: Apache-2.0 */
/*
 * optim: CPU kernels over flat f32 buffers: optimizer updates and sums of squares. Not ops: they work in place on
 * ranges [first, last) that are multiples of GD_CPU_OPTIM_LANES elements, and an element's result depends neither on
 * the range nor on the thread.
 */
#ifndef GRADD_CPU_OPTIM_H
#define GRADD_CPU_OPTIM_H

#include <stdint.h>

enum { GD_CPU_OPTIM_LANES = 16 };

/*
 * g = gradient_scale · gradient + decay · p;  buf = momentum · buf + g;  p -= lr · (nesterov ? g + momentum · buf :
 * buf) momentum 0: state NULL, p -= lr · g.
 */
typedef struct gd_cpu_sgd {
    float *parameters;
    const float *gradients;
    float *momentum_buffer;
    float gradient_scale, lr, momentum, decay;
    int is_nesterov;
} gd_cpu_sgd_t;

/*
 * g = gradient_scale · gradient;  m += (1 - beta1) (g - m);  v = beta2 · v + (1 - beta2) g²
 * p = keep · p - step_size · m / (sqrt(v) · root_scale + epsilon)
 * keep = 1 - lr · weight decay, step_size = lr / (1 - beta1^t), root_scale = 1 / sqrt(1 - beta2^t).
 */
typedef struct gd_cpu_adamw {
    float *parameters;
    const float *gradients;
    float *exp_avg, *exp_avg_sq;
    float gradient_scale, one_minus_beta1, beta2, one_minus_beta2, keep, step_size, root_scale, epsilon;
} gd_cpu_adamw_t;

typedef struct gd_cpu_optim {
    void (*sgd)(const gd_cpu_sgd_t *args, int64_t first, int64_t last);
    void (*adamw)(const gd_cpu_adamw_t *args, int64_t first, int64_t last);
    /* Sum of squares of x[n] in f64, in a fixed order; any n. */
    double (*sum_squares)(const float *x, int64_t n);
} gd_cpu_optim_t;

/* The kernels of the instruction set in use. */
const gd_cpu_optim_t *gd_cpu_optim(void);

#endif
