/* SPDX-License-Identifier: Apache-2.0 */
/*
 * internal: what the files of optim share. optimizer.c opens and keeps the state; elementwise.c updates by runs of
 * elements; by_norm.c (LAMB, LARS), adafactor.c and muon.c update whole tensors.
 */
#ifndef GRADD_OPTIM_INTERNAL_H
#define GRADD_OPTIM_INTERNAL_H

#include "cpu/cpu.h"
#include "cpu/optim.h"
#include "gradd/optim.h"

enum { OPTIM_MAX_STATES = 4, OPTIM_MAX_GROUPS = 256, OPTIM_GRAIN = 16384, OPTIM_STATE_SHIFT = 784 };

/* What tensors of one kind are updated with; there is one for each distinct set of values. */
typedef struct optim_class {
    double lr_scale;
    double decay;
    bool is_frozen;
    bool is_adamw;    /* muon: by AdamW */
    bool has_no_norm; /* lamb, lars: ratio 1 */
} optim_class_t;

/* Elements up to `end` (from the run before), of one class. */
typedef struct optim_run {
    int64_t end;
    int class;
} optim_run_t;

typedef struct optim_state {
    const char *name;
    float *block; /* owns data, which lies OPTIM_STATE_SHIFT elements further from state to state */
    float *data;
    int64_t numel;
    int64_t *offset; /* [n_segments] in data; -1: the segment has none */
} optim_state_t;

/* A part of a tensor; blocks of all tensors in their order. end: with the gap behind the tensor. */
typedef struct optim_block {
    int segment;
    int64_t begin, end;
} optim_block_t;

struct gd_optimizer {
    gd_optimizer_options_t options; /* without groups */
    const gd_flat_t *flat;
    int64_t n_steps;
    double mu_product; /* nadam, of all steps so far */
    optim_state_t states[OPTIM_MAX_STATES];
    int n_states;
    int average; /* index of the state, -1: none */
    optim_class_t classes[4 * (OPTIM_MAX_GROUPS + 1)];
    int n_classes;
    int *class_of;     /* [n_segments] */
    uint16_t **copies; /* [n_segments], of the parameters in bf16 */
    optim_run_t *runs;
    int n_runs;
    optim_block_t *blocks; /* kinds that work on whole tensors */
    int64_t *first_block;  /* [n_segments + 1] */
    double *sums;          /* [n_blocks][2] */
    double *ratio;         /* [n_segments] */
    float *scratch;        /* muon: x[m, n], a[m, m], b[m, m]; adafactor: doubles, columns + rows of one tensor */
};

/* One step's values, the same for all tensors but for their class. */
typedef struct optim_step {
    gd_optimizer_t *optimizer;
    const gd_cpu_optim_t *kernels;
    const float *gradients;
    double lr, gradient_scale;
    int64_t first; /* blocks of the parallel loop count from here */
    const gd_cpu_update_t *of_class;
    uint16_t *const *copies; /* to be written too, or NULL */
} optim_step_t;

/* The segment's end with its gap. */
int64_t optim_segment_end(const gd_flat_t *flat, int segment);
bool optim_is_by_tensor(gd_optimizer_kind_t kind);
/* Segments [*from_p, *to_p) that begin in [first, last). */
void optim_segments_in(const gd_flat_t *flat, int64_t first, int64_t last, int *from_p, int *to_p);

/* elementwise.c */
void optim_coefficients(const gd_optimizer_t *optimizer, const optim_class_t *class, double lr, double gradient_scale,
                        const float *gradients, gd_cpu_update_t *args_p);
void optim_elementwise(const optim_step_t *step, int64_t last);
/* Of the segments [from, to): the average follows. */
void optim_average(const optim_step_t *step, int from, int to);
/* by_norm.c */
void optim_by_norm(const optim_step_t *step, int from, int to);
/* adafactor.c */
void optim_adafactor(const optim_step_t *step, int from, int to);
/* muon.c */
status_t optim_muon(const optim_step_t *step, int from, int to);
/* Bytes of scratch that the largest tensor wants. */
size_t optim_adafactor_scratch(const gd_optimizer_t *optimizer);
size_t optim_muon_scratch(const gd_optimizer_t *optimizer);

#endif
