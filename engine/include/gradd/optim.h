/* SPDX-License-Identifier: Apache-2.0 */
/*
 * optim: optimizers over flat buffers (multi-tensor kernels over the whole model), learning-rate schedules as pure
 * functions, clipping, the average of the parameters. Owned handle; not thread-safe.
 */
#ifndef GRADD_OPTIM_H
#define GRADD_OPTIM_H

#include "gradd/flat.h"

/* PyTorch's formulas where PyTorch has the optimizer; the others' papers are named in engine/optim/. */
typedef enum gd_optimizer_kind {
    GD_OPTIMIZER_SGD,
    GD_OPTIMIZER_ADAMW,
    GD_OPTIMIZER_ADAM,
    GD_OPTIMIZER_NADAM,
    GD_OPTIMIZER_RADAM,
    GD_OPTIMIZER_ADAGRAD,
    GD_OPTIMIZER_ADADELTA,
    GD_OPTIMIZER_RMSPROP,
    GD_OPTIMIZER_LION,
    GD_OPTIMIZER_LAMB, /* this one and those below work on whole tensors */
    GD_OPTIMIZER_LARS,
    GD_OPTIMIZER_ADAFACTOR,
    GD_OPTIMIZER_MUON, /* AdamW for what isn't a matrix */
    GD_OPTIMIZER_COUNT
} gd_optimizer_kind_t;

/* A rule for parameters by their full names; the first whose pattern fits a name counts. */
typedef struct gd_optimizer_group {
    const char *pattern; /* as a shell's: * ? [a-z]; * also stands for dots */
    double lr_scale;     /* the learning rate is multiplied by it */
    bool has_weight_decay;
    double weight_decay; /* in place of the options', whatever the number of dimensions */
    bool is_frozen;      /* neither updated nor differentiated */
    bool is_adamw;       /* muon: these matrices (embeddings, the output layer) are left to AdamW */
} gd_optimizer_group_t;

/* 0 in a field that a kind needs positive is refused: see gd_optimizer_defaults. */
typedef struct gd_optimizer_options {
    gd_optimizer_kind_t kind;
    double momentum;              /* sgd, rmsprop, lars, muon */
    bool is_nesterov;             /* sgd, muon */
    double dampening;             /* sgd: of the gradient that comes into the buffer; not with nesterov */
    bool is_amsgrad;              /* adam, adamw: divided by the largest mean of squares so far */
    bool is_decoupled;            /* nadam, radam: weight decay as adamw's */
    bool is_maximizing;           /* every kind: up the gradient */
    double beta1, beta2, epsilon; /* beta1 and beta2: the adam family, lion, lamb, muon's AdamW */
    double weight_decay;          /* added to the gradient; adamw, lion, lamb, adafactor, muon: decoupled */
    bool decay_matrices_only;   /* weight decay, and lamb's and lars' ratio, for parameters of ≥ 2 dimensions only */
    double momentum_decay;      /* nadam */
    double alpha;               /* rmsprop: decay of the mean of squares */
    bool is_centered;           /* rmsprop */
    double rho;                 /* adadelta */
    double lr_decay;            /* adagrad */
    double initial_accumulator; /* adagrad */
    double trust_coefficient;   /* lars */
    double beta2_decay;         /* adafactor: ≤ 0 */
    double epsilon2;            /* adafactor: least root mean square of a parameter that scales its steps */
    double clip_threshold;      /* adafactor */
    int ns_steps;               /* muon: Newton-Schulz iterations */
    bool matches_adamw;         /* muon: steps 0.2 sqrt(max(rows, columns)) long, else sqrt(max(1, rows / columns)) */
    double adamw_lr_scale;      /* muon: AdamW's learning rate as a multiple of muon's */
    double average_decay;       /* > 0: the state "average" follows the parameters: a += (1 - decay) (p - a) */
    const gd_optimizer_group_t *groups; /* [n_groups], borrowed during open */
    int n_groups;
} gd_optimizer_options_t;

typedef struct gd_optimizer gd_optimizer_t;

/* PyTorch's defaults for the kind, the papers' where PyTorch has none; no groups, no average. */
void gd_optimizer_defaults(gd_optimizer_kind_t kind, gd_optimizer_options_t *options_p);
/* flat must outlive the optimizer. ST_ERR_RANGE, ST_ERR_INVAL: an option out of range, a pattern that fits nothing,
 * no parameter that is learnt. */
status_t gd_optimizer_open(const gd_optimizer_options_t *options, gd_flat_t *flat, gd_optimizer_t **optimizer_p);
void gd_optimizer_close(gd_optimizer_t *optimizer);
/*
 * One step over flat->parameters: gradients[numel] are multiplied by gradient_scale (clipping) inside the kernel.
 * ranges of elements may be updated apart (sharding): [first, last), multiples of GD_FLAT_ALIGN; the whole is
 * 0, numel. Kinds that work on whole tensors update those that begin in the range, as a whole. gd_optimizer_next must
 * be called once per step before. ST_ERR_STATE: it wasn't; ST_ERR_RANGE: no such range; ST_ERR_NOMEM (muon).
 */
void gd_optimizer_next(gd_optimizer_t *optimizer);
status_t gd_optimizer_update(gd_optimizer_t *optimizer, const float *gradients, double lr, double gradient_scale,
                             int64_t first, int64_t last);
/* Exchanges the parameters and their average, all of it; twice gives what was before. Nothing before the first step
 * or without average_decay. */
void gd_optimizer_swap_average(gd_optimizer_t *optimizer);
/* State for checkpoints: the step count and named f32 buffers ("exp_avg", "exp_avg_sq", "momentum_buffer", …). */
/* Of an index out of range: NULL, and 0 elements. Memory of the optimizer, [gd_optimizer_state_numel]. */
int64_t gd_optimizer_step_count(const gd_optimizer_t *optimizer);
void gd_optimizer_set_step_count(gd_optimizer_t *optimizer, int64_t n_steps);
int gd_optimizer_n_states(const gd_optimizer_t *optimizer);
float *gd_optimizer_state(gd_optimizer_t *optimizer, int index, const char **name_p);
int64_t gd_optimizer_state_numel(const gd_optimizer_t *optimizer, int index);
/* The part of state `index` that belongs to flat->segments[segment]; false: there is none. */
typedef struct gd_optimizer_slot {
    float *data;
    int n_dims;
    int64_t shape[GD_MAX_DIMS];
} gd_optimizer_slot_t;
bool gd_optimizer_slot(gd_optimizer_t *optimizer, int index, int segment, gd_optimizer_slot_t *slot_p);

/* Clamps every element to [-limit, limit]; limit ≤ 0: nothing. */
void gd_clip_value(float *gradients, int64_t numel, double limit);

/* min(1, max_norm / (norm + 1e-6)), PyTorch's formula; 1 when max_norm ≤ 0. */
double gd_clip_scale(double norm, double max_norm);

/* t: steps since the warm-up's end. Formulas of PyTorch's schedulers of the same names. */
typedef enum gd_schedule_kind {
    GD_SCHEDULE_CONSTANT,
    GD_SCHEDULE_COSINE,
    GD_SCHEDULE_LINEAR,
    GD_SCHEDULE_STEP,            /* lr gamma^(t / every) */
    GD_SCHEDULE_MULTI_STEP,      /* lr gamma^(milestones reached, counted from the schedule's begin) */
    GD_SCHEDULE_EXPONENTIAL,     /* lr gamma^t */
    GD_SCHEDULE_COSINE_RESTARTS, /* cosines of `every` steps, each `factor` times as long as the one before */
    GD_SCHEDULE_POLYNOMIAL,      /* final_lr + (lr - final_lr) (1 - t / length)^power */
    GD_SCHEDULE_ONE_CYCLE,       /* lr / factor up to lr over rise of the steps, down to lr / factor / final_factor */
    GD_SCHEDULE_STABLE_DECAY,    /* lr, and over the last decay_steps down to final_lr by shape */
    GD_SCHEDULE_PRODUCT,         /* lr times the product of the parts' rates, each over the part's own lr */
    GD_SCHEDULE_SEQUENCE,        /* parts[i] from step milestones[i - 1] on, counting from 0 again */
    GD_SCHEDULE_COUNT
} gd_schedule_kind_t;

typedef enum gd_decay_shape { GD_DECAY_LINEAR, GD_DECAY_COSINE, GD_DECAY_SQRT } gd_decay_shape_t;

typedef struct gd_schedule gd_schedule_t;
struct gd_schedule {
    gd_schedule_kind_t kind;
    double lr; /* peak */
    double final_lr;
    int64_t warmup_steps; /* linear from lr/(warmup+1), as nanoGPT: lr (step + 1) / (warmup + 1) */
    int64_t total_steps;
    double gamma;
    int64_t every;
    double power;
    double rise; /* share of the steps */
    double factor, final_factor;
    int64_t decay_steps;
    gd_decay_shape_t shape;    /* stable_decay; one_cycle: linear or cosine */
    const int64_t *milestones; /* borrowed, ascending; sequence: n_parts - 1 */
    int n_milestones;
    const gd_schedule_t *parts; /* borrowed */
    int n_parts;
};

/* Learning rate of step `step` (0-based). */
double gd_schedule_lr(const gd_schedule_t *schedule, int64_t step);

/* Reduces the rate when a measure (the validation loss) has not become less for some evaluations, as PyTorch's
 * ReduceLROnPlateau with mode "min" and a relative threshold. */
typedef struct gd_plateau_options {
    double factor;
    int64_t patience; /* evaluations without progress that are let pass */
    double threshold; /* progress is a value below best (1 - threshold) */
    int64_t cooldown; /* evaluations after a reduction that don't count */
    double min_scale; /* the least scale */
} gd_plateau_options_t;

/* Plain memory: a checkpoint saves it. */
typedef struct gd_plateau {
    double scale; /* what the learning rate is multiplied by */
    double best;
    int64_t n_bad;
    int64_t cooldown;
} gd_plateau_t;

/* Scale 1, nothing seen. update: one evaluation's value; lowers the scale, to min_scale at the least. */
void gd_plateau_init(gd_plateau_t *plateau);
void gd_plateau_update(gd_plateau_t *plateau, const gd_plateau_options_t *options, double value);

#endif
