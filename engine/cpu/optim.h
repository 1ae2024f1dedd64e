/* SPDX-License-Identifier: Apache-2.0 */
/*
 * optim: CPU kernels over flat f32 buffers: optimizer updates and sums of squares. Not ops: they work in place, the
 * updates on ranges [first, last) that are multiples of GD_CPU_OPTIM_LANES elements, and an element's result depends
 * neither on the range nor on the thread.
 */
#ifndef GRADD_CPU_OPTIM_H
#define GRADD_CPU_OPTIM_H

#include <stdint.h>

enum { GD_CPU_OPTIM_LANES = 16 };

/*
 * What an elementwise update reads; each uses the fields its formula names. g = gradient_scale · gradient, plus
 * decay · p where the weight decay is coupled; keep = 1 - lr · decay where it is decoupled.
 */
typedef struct gd_cpu_update {
    float *parameters;
    const float *gradients;
    float *state[3]; /* s0, s1, s2 below; NULL: not in use */
    float gradient_scale, lr, decay, keep;
    float beta1, one_minus_beta1, beta2, one_minus_beta2;
    float step_size, gradient_step, root_scale, epsilon;
    float undamped; /* sgd: what of g comes into the buffer */
    int is_nesterov, is_centered;
} gd_cpu_update_t;

typedef void (*gd_cpu_update_func_t)(const gd_cpu_update_t *args, int64_t first, int64_t last);

/* One row of a matrix (or a whole vector) for Adafactor: g = gradient_scale · gradient,
 * u = g / sqrt(max(row · column, floor)). */
typedef struct gd_cpu_factored {
    float *parameters;
    const float *gradients;
    const float *column; /* [n] */
    float gradient_scale, row, floor, keep, step_size;
} gd_cpu_factored_t;

typedef struct gd_cpu_optim {
    /* s0 = beta1 s0 + undamped g;  p -= lr · (nesterov ? g + beta1 s0 : s0); s0 NULL: p -= lr · g */
    gd_cpu_update_func_t sgd;
    /* s0 += (1 - beta1) (g - s0);  s1 = beta2 s1 + (1 - beta2) g²
     * p = keep p - step_size s0 / (sqrt(s1) root_scale + epsilon); decay decoupled (adamw) or coupled (adam).
     * with s2: s2 = max(s2, s1) stands in s1's place. nadam: p = keep p - gradient_step g / (…) - step_size s0 / (…);
     * radam: root_scale 0: p = keep p - step_size s0. Their decay is coupled or decoupled: the other one is none */
    gd_cpu_update_func_t adamw, adam, nadam, radam;
    /* s0 += g²;  p -= lr g / (sqrt(s0) + epsilon) */
    gd_cpu_update_func_t adagrad;
    /* s0 = beta1 s0 + (1 - beta1) g²;  d = g sqrt(s1 + epsilon) / sqrt(s0 + epsilon);  s1 = beta1 s1 + (1 - beta1) d²
     * p -= lr d */
    gd_cpu_update_func_t adadelta;
    /* s0 = beta2 s0 + (1 - beta2) g²;  centred: s2 += (1 - beta2) (g - s2);  a = sqrt(s0 - s2²) + epsilon
     * s1 = beta1 s1 + g / a;  p -= lr s1; s1 NULL: p -= lr g / a */
    gd_cpu_update_func_t rmsprop;
    /* p = keep p - lr sign(beta1 s0 + (1 - beta1) g);  s0 = beta2 s0 + (1 - beta2) g */
    gd_cpu_update_func_t lion;
    /* s0 = beta1 s0 + lr g;  p -= s0 (lr: the tensor's own) */
    gd_cpu_update_func_t lars;
    /* s0 and s1 as adamw's, and the sums of squares of p and of u = s0 step_size / (sqrt(s1) root_scale + epsilon) +
     * decay p; then p -= lr u */
    void (*lamb_moments)(const gd_cpu_update_t *args, int64_t first, int64_t last, double sums_p[2]);
    gd_cpu_update_func_t lamb;
    /* average += (1 - decay) (p - average), weight = 1 - decay; p is args->parameters, average s0 */
    gd_cpu_update_func_t average;

    /* x = min(max(x, -limit), limit), NaN stays; any n */
    void (*clip)(float *x, float limit, int64_t n);
    /* sum of squares of x[n] in f64, in a fixed order; any n */
    double (*sum_squares)(const float *x, int64_t n);
    /* sums[i] += (scale x[i])²; any n */
    void (*add_squares)(double *sums, const float *x, float scale, int64_t n);
    /* sum of u² in f64, in a fixed order; then p = keep p - step_size u; any n */
    double (*factored_sum)(const gd_cpu_factored_t *args, int64_t n);
    void (*factored)(const gd_cpu_factored_t *args, int64_t n);
    /* g = scale x;  s += weight (g - s);  out = nesterov ? g + (1 - weight) (s - g) : s; any n */
    void (*momentum)(float *s, const float *x, float *out, float scale, float weight, int is_nesterov, int64_t n);
    /* y = a y + b x; any n */
    void (*combine)(float *y, const float *x, float a, float b, int64_t n);
    /* y = x in bf16, rounded to even as a cast does; any n. is_far: past the caches, which won't hold y long enough */
    void (*round_bf16)(const float *x, uint16_t *y, int64_t n, int is_far);
} gd_cpu_optim_t;

/* The kernels of the instruction set in use. */
const gd_cpu_optim_t *gd_cpu_optim(void);

#endif
