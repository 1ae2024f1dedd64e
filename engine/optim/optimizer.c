/* SPDX-License-Identifier: Apache-2.0 */
/* optimizer: one pass of a vector kernel over the flat buffers; weight decay by runs of segments. */
#include <math.h>
#include <string.h>

#include "base/assert.h"
#include "base/mem.h"
#include "cpu/cpu.h"
#include "cpu/optim.h"
#include "gradd/context.h"
#include "gradd/optim.h"

enum { MAX_STATES = 2, GRAIN = 16384 };

/* Elements up to `end` (from the run before) with or without weight decay. */
typedef struct optim_run {
    int64_t end;
    bool has_decay;
} optim_run_t;

struct gd_optimizer {
    gd_optimizer_options_t options;
    float *parameters;
    int64_t numel;
    int64_t n_steps;
    float *states[MAX_STATES]; /* n_states of them, [numel] */
    int n_states;
    optim_run_t *runs;
    int n_runs;
};

static const char *const state_names[GD_OPTIMIZER_COUNT][MAX_STATES] = {
    [GD_OPTIMIZER_SGD] = {"momentum_buffer"},
    [GD_OPTIMIZER_ADAMW] = {"exp_avg", "exp_avg_sq"},
};

static status_t options_check(const gd_optimizer_options_t *options)
{
    if ((unsigned)options->kind >= GD_OPTIMIZER_COUNT) {
        return ST_FAIL(ST_ERR_INVAL, "%d is no optimizer", (int)options->kind);
    }
    if (!(options->weight_decay >= 0)) {
        return ST_FAIL(ST_ERR_RANGE, "optimizer: weight decay %g is negative", options->weight_decay);
    }
    if (options->kind == GD_OPTIMIZER_SGD) {
        if (!(options->momentum >= 0)) {
            return ST_FAIL(ST_ERR_RANGE, "sgd: momentum %g is negative", options->momentum);
        }
        if (options->is_nesterov && options->momentum == 0) {
            return ST_FAIL(ST_ERR_INVAL, "sgd: nesterov needs a momentum");
        }
        return ST_OK;
    }
    if (!(options->beta1 >= 0 && options->beta1 < 1 && options->beta2 >= 0 && options->beta2 < 1)) {
        return ST_FAIL(ST_ERR_RANGE, "adamw: betas %g and %g are not in [0, 1)", options->beta1, options->beta2);
    }
    return options->epsilon > 0 ? ST_OK : ST_FAIL(ST_ERR_RANGE, "adamw: epsilon %g is not positive", options->epsilon);
}

/* Neighbouring segments of the same kind become one run; a run includes the gaps behind its segments. */
static void runs_fill(gd_optimizer_t *optimizer, const gd_flat_t *flat)
{
    for (int i = 0; i < flat->n_segments; i++) {
        const gd_flat_segment_t *segment = &flat->segments[i];
        bool has_decay = !optimizer->options.decay_matrices_only || gd_tensor_n_dims(segment->parameter) >= 2;
        int64_t end = i + 1 < flat->n_segments ? flat->segments[i + 1].offset : flat->numel;
        if (optimizer->n_runs > 0 && optimizer->runs[optimizer->n_runs - 1].has_decay == has_decay) {
            optimizer->runs[optimizer->n_runs - 1].end = end;
        } else {
            optimizer->runs[optimizer->n_runs++] = (optim_run_t){.end = end, .has_decay = has_decay};
        }
    }
}

status_t gd_optimizer_open(const gd_optimizer_options_t *options, gd_flat_t *flat, gd_optimizer_t **optimizer_p)
{
    status_t status = options_check(options);
    if (status != ST_OK) {
        return status;
    }
    gd_optimizer_t *optimizer = mem_zalloc(sizeof(*optimizer));
    if (optimizer == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "optimizer");
    }
    optimizer->options = *options;
    optimizer->parameters = flat->parameters;
    optimizer->numel = flat->numel;
    optimizer->n_states = options->kind == GD_OPTIMIZER_ADAMW ? 2 : options->momentum > 0;
    optimizer->runs = mem_calloc((size_t)flat->n_segments + 1, sizeof(*optimizer->runs));
    bool is_complete = optimizer->runs != NULL;
    for (int i = 0; i < optimizer->n_states && is_complete; i++) {
        size_t size = (size_t)flat->numel * sizeof(float);
        optimizer->states[i] = mem_alloc_aligned(64, size > 0 ? size : 64);
        is_complete = optimizer->states[i] != NULL;
        if (is_complete) {
            memset(optimizer->states[i], 0, size);
        }
    }
    if (!is_complete) {
        gd_optimizer_close(optimizer);
        return ST_FAIL(ST_ERR_NOMEM, "optimizer: state of %lld elements", (long long)flat->numel);
    }
    runs_fill(optimizer, flat);
    *optimizer_p = optimizer;
    return ST_OK;
}

void gd_optimizer_close(gd_optimizer_t *optimizer)
{
    if (optimizer == NULL) {
        return;
    }
    for (int i = 0; i < MAX_STATES; i++) {
        mem_free(optimizer->states[i]);
    }
    mem_free(optimizer->runs);
    mem_free(optimizer);
}

void gd_optimizer_next(gd_optimizer_t *optimizer)
{
    optimizer->n_steps++;
}

/* What a run with or without decay is updated with: [0] without, [1] with. */
typedef struct update_args {
    const gd_optimizer_t *optimizer;
    const gd_cpu_optim_t *kernels;
    int64_t first; /* blocks of the parallel loop count from here */
    gd_cpu_sgd_t sgd[2];
    gd_cpu_adamw_t adamw[2];
} update_args_t;

/* The run that element `at` lies in. */
static int run_find(const gd_optimizer_t *optimizer, int64_t at)
{
    int low = 0;
    int high = optimizer->n_runs - 1;
    while (low < high) {
        int middle = low + (high - low) / 2;
        if (optimizer->runs[middle].end > at) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return low;
}

static void update_body(void *arg, int64_t begin, int64_t end)
{
    const update_args_t *args = arg;
    const gd_optimizer_t *optimizer = args->optimizer;
    begin += args->first;
    end += args->first;
    for (int i = run_find(optimizer, begin); begin < end; i++) {
        const optim_run_t *run = &optimizer->runs[i];
        int64_t stop = run->end < end ? run->end : end;
        if (optimizer->options.kind == GD_OPTIMIZER_SGD) {
            args->kernels->sgd(&args->sgd[run->has_decay], begin, stop);
        } else {
            args->kernels->adamw(&args->adamw[run->has_decay], begin, stop);
        }
        begin = stop;
    }
}

void gd_optimizer_update(gd_optimizer_t *optimizer, const float *gradients, double lr, double gradient_scale,
                         int64_t first, int64_t last)
{
    ASSERT(optimizer->n_steps > 0);
    ASSERT(first >= 0 && first <= last && last <= optimizer->numel);
    ASSERT(first % GD_FLAT_ALIGN == 0 && last % GD_FLAT_ALIGN == 0);
    const gd_optimizer_options_t *options = &optimizer->options;
    update_args_t args = {.optimizer = optimizer, .kernels = gd_cpu_optim(), .first = first};
    /* As PyTorch: all of this in double, rounded once. */
    const double correction1 = 1 - pow(options->beta1, (double)optimizer->n_steps);
    const double correction2 = 1 - pow(options->beta2, (double)optimizer->n_steps);
    for (int i = 0; i < 2; i++) {
        double decay = i == 1 ? options->weight_decay : 0;
        args.sgd[i] = (gd_cpu_sgd_t){.parameters = optimizer->parameters,
                                     .gradients = gradients,
                                     .momentum_buffer = optimizer->states[0],
                                     .gradient_scale = (float)gradient_scale,
                                     .lr = (float)lr,
                                     .momentum = (float)options->momentum,
                                     .decay = (float)decay,
                                     .is_nesterov = options->is_nesterov};
        args.adamw[i] = (gd_cpu_adamw_t){.parameters = optimizer->parameters,
                                         .gradients = gradients,
                                         .exp_avg = optimizer->states[0],
                                         .exp_avg_sq = optimizer->states[1],
                                         .gradient_scale = (float)gradient_scale,
                                         .one_minus_beta1 = (float)(1 - options->beta1),
                                         .beta2 = (float)options->beta2,
                                         .one_minus_beta2 = (float)(1 - options->beta2),
                                         .keep = (float)(1 - lr * decay),
                                         .step_size = (float)(lr / correction1),
                                         .root_scale = (float)(1 / sqrt(correction2)),
                                         .epsilon = (float)options->epsilon};
    }
    gd_cpu_parallel(gd_context_n_threads(), last - first, GRAIN, update_body, &args);
}

int64_t gd_optimizer_step_count(const gd_optimizer_t *optimizer)
{
    return optimizer->n_steps;
}

void gd_optimizer_set_step_count(gd_optimizer_t *optimizer, int64_t n_steps)
{
    optimizer->n_steps = n_steps;
}

int gd_optimizer_n_states(const gd_optimizer_t *optimizer)
{
    return optimizer->n_states;
}

float *gd_optimizer_state(gd_optimizer_t *optimizer, int index, const char **name_p)
{
    if (index < 0 || index >= optimizer->n_states) {
        return NULL;
    }
    if (name_p != NULL) {
        *name_p = state_names[optimizer->options.kind][index];
    }
    return optimizer->states[index];
}
