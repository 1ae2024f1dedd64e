/* SPDX-License-Identifier: Apache-2.0 */
/*
 * optim: optimizers over flat buffers (one kernel for the whole model), learning-rate schedules as pure functions.
 * Owned handle; not thread-safe.
 */
#ifndef GRADD_OPTIM_H
#define GRADD_OPTIM_H

#include "gradd/flat.h"

typedef enum gd_optimizer_kind { GD_OPTIMIZER_SGD, GD_OPTIMIZER_ADAMW, GD_OPTIMIZER_COUNT } gd_optimizer_kind_t;

typedef struct gd_optimizer_options {
    gd_optimizer_kind_t kind;
    double momentum; /* sgd */
    bool is_nesterov;
    double beta1, beta2, epsilon; /* adamw; Loshchilov and Hutter, ICLR 2019 */
    double weight_decay;          /* sgd: added to the gradient; adamw: decoupled */
    bool decay_matrices_only;     /* weight decay for parameters of ≥ 2 dimensions only */
} gd_optimizer_options_t;

typedef struct gd_optimizer gd_optimizer_t;

status_t gd_optimizer_open(const gd_optimizer_options_t *options, gd_flat_t *flat, gd_optimizer_t **optimizer_p);
void gd_optimizer_close(gd_optimizer_t *optimizer);
/*
 * One step over flat->parameters: gradients[numel] are multiplied by gradient_scale (clipping) inside the kernel.
 * ranges of elements may be updated apart (sharding): [first, last), multiples of GD_FLAT_ALIGN; the whole is
 * 0, numel. gd_optimizer_next must be called once per step before.
 */
void gd_optimizer_next(gd_optimizer_t *optimizer);
void gd_optimizer_update(gd_optimizer_t *optimizer, const float *gradients, double lr, double gradient_scale,
                         int64_t first, int64_t last);
/* State for checkpoints: the step count and named flat f32 buffers of numel elements ("exp_avg", "exp_avg_sq",
 * "momentum_buffer"). */
int64_t gd_optimizer_step_count(const gd_optimizer_t *optimizer);
void gd_optimizer_set_step_count(gd_optimizer_t *optimizer, int64_t n_steps);
int gd_optimizer_n_states(const gd_optimizer_t *optimizer);
float *gd_optimizer_state(gd_optimizer_t *optimizer, int index, const char **name_p);

/* min(1, max_norm / (norm + 1e-6)), PyTorch's formula; 1 when max_norm ≤ 0. */
double gd_clip_scale(double norm, double max_norm);

typedef enum gd_schedule_kind {
    GD_SCHEDULE_CONSTANT,
    GD_SCHEDULE_COSINE,
    GD_SCHEDULE_LINEAR,
    GD_SCHEDULE_COUNT
} gd_schedule_kind_t;

typedef struct gd_schedule {
    gd_schedule_kind_t kind;
    double lr; /* peak */
    double final_lr;
    int64_t warmup_steps; /* linear from lr/(warmup+1), as nanoGPT: lr (step + 1) / (warmup + 1) */
    int64_t total_steps;
} gd_schedule_t;

/* Learning rate of step `step` (0-based). */
double gd_schedule_lr(const gd_schedule_t *schedule, int64_t step);

#endif
