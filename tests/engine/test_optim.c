/* SPDX-License-Identifier: Apache-2.0 */
/* Flat buffers, optimizers and schedules against PyTorch's values (tests/golden/make_optim.py) and their own rules. */
#include "tests/support/fixture.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "gradd/autograd.h"
#include "gradd/context.h"
#include "gradd/optim.h"
#include "gradd/rng.h"
#include "gradd/safetensors.h"

static status_t no_forward(gd_module_t *self, gd_tensor_t *x, gd_tensor_t **y_p)
{
    (void)self;
    *y_p = gd_tensor_ref(x);
    return ST_OK;
}

static const gd_module_ops_t bag_ops = {.kind = "bag", .forward = no_forward};

/* A module with a weight[rows, columns] and a bias[columns]. */
static gd_module_t *bag_new(int64_t rows, int64_t columns)
{
    gd_module_t *module = NULL;
    const gd_init_t init = {.kind = GD_INIT_NORMAL, .b = 1};
    assert_ok(gd_module_new(&bag_ops, sizeof(*module), &module));
    assert_ok(gd_module_add_parameter(module, "weight", 2, (int64_t[]){rows, columns}, init, NULL));
    assert_ok(gd_module_add_parameter(module, "bias", 1, &columns, init, NULL));
    assert_ok(gd_module_initialise(module, 3));
    return module;
}

static float *buffer_new(int64_t numel)
{
    float *buffer = mem_alloc_aligned(64, (size_t)numel * sizeof(float));
    assert_non_null(buffer);
    memset(buffer, 0, (size_t)numel * sizeof(float));
    return buffer;
}

static const float *golden_at(const gd_safetensors_t *golden, const char *run, const char *name)
{
    char full[64];
    (void)snprintf(full, sizeof(full), "%s%s%s", run, run[0] != '\0' ? "." : "", name);
    const gd_safetensors_entry_t *entry = gd_safetensors_find(golden, full);
    assert_non_null(entry);
    return entry->data;
}

/* Relative to the element and to the root mean square of all, so that small states are held as closely as parameters.
 */
static void assert_close(const float *ours, const float *theirs, int n, double tolerance)
{
    double squares = 0;
    for (int i = 0; i < n; i++) {
        squares += (double)theirs[i] * (double)theirs[i];
    }
    const double rms = sqrt(squares / n);
    for (int i = 0; i < n; i++) {
        double difference = fabs((double)ours[i] - (double)theirs[i]);
        if (!(difference <= tolerance * (rms + fabs((double)theirs[i])))) {
            fail_msg("element %d is %.9g, PyTorch has %.9g", i, (double)ours[i], (double)theirs[i]);
        }
    }
}

enum { N_STEPS = 20, ROWS = 3, COLUMNS = 7 };

/* How many of the file's runs and schedules were compared; a name is compared once. */
static int n_runs_compared;
static int n_rates_compared;

static void run_against_golden(const char *run, const gd_optimizer_options_t *options)
{
    gd_safetensors_t *golden = NULL;
    n_runs_compared++;
    assert_ok(gd_safetensors_open(fixture_golden("optim.safetensors"), &golden));
    gd_module_t *module = bag_new(ROWS, COLUMNS);
    gd_flat_t *flat = NULL;
    assert_ok(gd_flat_open(module, &flat));
    assert_int_equal(flat->numel, 32 + 16);
    memcpy(flat->parameters, golden_at(golden, "", "weight"), ROWS * COLUMNS * sizeof(float));
    memcpy(flat->parameters + 32, golden_at(golden, "", "bias"), COLUMNS * sizeof(float));
    gd_optimizer_t *optimizer = NULL;
    assert_ok(gd_optimizer_open(options, flat, &optimizer));
    float *gradients = buffer_new(flat->numel);
    const gd_schedule_t schedule = {
        .kind = GD_SCHEDULE_COSINE, .lr = 0.02, .final_lr = 0.002, .warmup_steps = 4, .total_steps = 16};

    for (int step = 0; step < N_STEPS; step++) {
        for (int i = 0; i < ROWS * COLUMNS; i++) { /* twice the gradient, scaled by a half */
            gradients[i] = 2 * golden_at(golden, "", "weight_grads")[step * ROWS * COLUMNS + i];
        }
        for (int i = 0; i < COLUMNS; i++) {
            gradients[32 + i] = 2 * golden_at(golden, "", "bias_grads")[step * COLUMNS + i];
        }
        gd_optimizer_next(optimizer);
        assert_ok(gd_optimizer_update(optimizer, gradients, gd_schedule_lr(&schedule, step), 0.5, 0, flat->numel));
    }

    assert_close(flat->parameters, golden_at(golden, run, "weight"), ROWS * COLUMNS, 1e-6);
    assert_close(flat->parameters + 32, golden_at(golden, run, "bias"), COLUMNS, 1e-6);
    for (int i = 0; i < gd_optimizer_n_states(optimizer); i++) {
        const char *name = NULL;
        assert_non_null(gd_optimizer_state(optimizer, i, &name));
        gd_optimizer_slot_t slot;
        if (options->momentum == 0 && strcmp(name, "momentum_buffer") == 0) {
            continue; /* rmsprop's, centred: PyTorch has none then */
        }
        if (gd_optimizer_slot(optimizer, i, 0, &slot)) {
            assert_int_equal(slot.n_dims, 2);
            assert_close(slot.data, golden_at(golden, run, name), (int)(slot.shape[0] * slot.shape[1]), 1e-5);
        }
    }
    for (int i = ROWS * COLUMNS; i < 32; i++) {
        assert_true(flat->parameters[i] == 0.0F); /* the gap */
    }
    assert_int_equal(gd_optimizer_step_count(optimizer), N_STEPS);
    mem_free(gradients);
    gd_optimizer_close(optimizer);
    gd_flat_close(flat);
    (void)gd_module_unref(module);
    gd_safetensors_close(golden);
}

static void sgd_takes_pytorchs_steps(void **state)
{
    (void)state;
    run_against_golden("sgd", &(gd_optimizer_options_t){.kind = GD_OPTIMIZER_SGD});
    run_against_golden("sgd_decay", &(gd_optimizer_options_t){.kind = GD_OPTIMIZER_SGD, .weight_decay = 0.1});
    run_against_golden("momentum",
                       &(gd_optimizer_options_t){.kind = GD_OPTIMIZER_SGD, .momentum = 0.9, .weight_decay = 0.1});
    run_against_golden(
        "nesterov",
        &(gd_optimizer_options_t){.kind = GD_OPTIMIZER_SGD, .momentum = 0.9, .is_nesterov = true, .weight_decay = 0.1});
}

/* Every kind with its defaults, and with everything that its options offer. */
static void the_others_take_pytorchs_steps(void **state)
{
    (void)state;
    static const struct {
        const char *run;
        gd_optimizer_kind_t kind;
    } kinds[] = {
        {"adam", GD_OPTIMIZER_ADAM},           {"nadam", GD_OPTIMIZER_NADAM},       {"radam", GD_OPTIMIZER_RADAM},
        {"adagrad", GD_OPTIMIZER_ADAGRAD},     {"adadelta", GD_OPTIMIZER_ADADELTA}, {"rmsprop", GD_OPTIMIZER_RMSPROP},
        {"lion", GD_OPTIMIZER_LION},           {"lamb", GD_OPTIMIZER_LAMB},         {"lars", GD_OPTIMIZER_LARS},
        {"adafactor", GD_OPTIMIZER_ADAFACTOR}, {"muon", GD_OPTIMIZER_MUON},
    };
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        gd_optimizer_options_t options;
        char run[32];
        gd_optimizer_defaults(kinds[i].kind, &options);
        run_against_golden(kinds[i].run, &options);
        options.weight_decay = 0.1;
        options.momentum = 0.8;
        options.is_nesterov = false;
        options.is_centered = true;
        options.lr_decay = 0.05;
        options.initial_accumulator = 0.2;
        options.beta1 = 0.8;
        options.beta2 = 0.95;
        options.momentum_decay = 0.01;
        options.rho = 0.8;
        options.alpha = 0.9;
        options.trust_coefficient = 0.02;
        options.beta2_decay = -0.6;
        options.clip_threshold = 1.2;
        options.matches_adamw = true;
        (void)snprintf(run, sizeof(run), "%s_options", kinds[i].run);
        run_against_golden(run, &options);
    }
}

/* What PyTorch's optimizers have besides. */
static void further_options_are_pytorchs(void **state)
{
    (void)state;
    static const struct {
        const char *run;
        gd_optimizer_options_t with; /* what isn't 0 here, over the kind's defaults */
    } cases[] = {
        {"sgd_dampening", {.kind = GD_OPTIMIZER_SGD, .momentum = 0.9, .dampening = 0.3, .weight_decay = 0.1}},
        {"adam_amsgrad",
         {.kind = GD_OPTIMIZER_ADAM, .is_amsgrad = true, .beta1 = 0.8, .beta2 = 0.95, .weight_decay = 0.1}},
        {"adamw_amsgrad",
         {.kind = GD_OPTIMIZER_ADAMW, .is_amsgrad = true, .beta1 = 0.8, .beta2 = 0.95, .weight_decay = 0.1}},
        {"nadam_decoupled", {.kind = GD_OPTIMIZER_NADAM, .is_decoupled = true, .weight_decay = 0.1}},
        {"radam_decoupled", {.kind = GD_OPTIMIZER_RADAM, .is_decoupled = true, .weight_decay = 0.1}},
        {"sgd_maximize",
         {.kind = GD_OPTIMIZER_SGD, .momentum = 0.9, .is_nesterov = true, .is_maximizing = true, .weight_decay = 0.1}},
        {"adamw_maximize",
         {.kind = GD_OPTIMIZER_ADAMW, .is_amsgrad = true, .is_maximizing = true, .weight_decay = 0.1}},
        {"adam_maximize", {.kind = GD_OPTIMIZER_ADAM, .is_maximizing = true, .weight_decay = 0.1}},
        {"nadam_maximize", {.kind = GD_OPTIMIZER_NADAM, .is_maximizing = true, .weight_decay = 0.1}},
        {"radam_maximize", {.kind = GD_OPTIMIZER_RADAM, .is_maximizing = true, .weight_decay = 0.1}},
        {"adagrad_maximize", {.kind = GD_OPTIMIZER_ADAGRAD, .is_maximizing = true, .weight_decay = 0.1}},
        {"adadelta_maximize", {.kind = GD_OPTIMIZER_ADADELTA, .is_maximizing = true, .weight_decay = 0.1}},
        {"rmsprop_maximize", {.kind = GD_OPTIMIZER_RMSPROP, .is_maximizing = true, .weight_decay = 0.1}},
        {"rmsprop_centered", {.kind = GD_OPTIMIZER_RMSPROP, .is_centered = true}},
        {"rmsprop_momentum", {.kind = GD_OPTIMIZER_RMSPROP, .momentum = 0.8}},
        {"adafactor_maximize", {.kind = GD_OPTIMIZER_ADAFACTOR, .is_maximizing = true, .weight_decay = 0.1}},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const gd_optimizer_options_t *with = &cases[i].with;
        gd_optimizer_options_t options;
        gd_optimizer_defaults(with->kind, &options);
        options.momentum = with->momentum;
        options.dampening = with->dampening;
        options.weight_decay = with->weight_decay;
        options.is_nesterov = with->is_nesterov;
        options.is_centered = with->is_centered;
        options.is_amsgrad = with->is_amsgrad;
        options.is_decoupled = with->is_decoupled;
        options.is_maximizing = with->is_maximizing;
        options.beta1 = with->beta1 > 0 ? with->beta1 : options.beta1;
        options.beta2 = with->beta2 > 0 ? with->beta2 : options.beta2;
        run_against_golden(cases[i].run, &options);
    }
}

/* An option that a kind hasn't isn't passed over. */
static void options_of_other_kinds_are_refused(void **state)
{
    (void)state;
    static const struct {
        gd_optimizer_options_t options;
        status_t code;
        const char *message;
    } cases[] = {
        {{.kind = GD_OPTIMIZER_LAMB, .is_amsgrad = true}, ST_ERR_INVAL, "lamb: amsgrad is for adam and adamw"},
        {{.kind = GD_OPTIMIZER_ADAM, .is_decoupled = true},
         ST_ERR_INVAL,
         "adam: decoupled is for nadam and radam; adam with it is adamw"},
        {{.kind = GD_OPTIMIZER_ADAGRAD, .dampening = 0.5}, ST_ERR_INVAL, "adagrad: dampening is for sgd"},
        {{.kind = GD_OPTIMIZER_SGD, .momentum = 0.9, .dampening = 2},
         ST_ERR_RANGE,
         "sgd: dampening 2 is not in [0, 1]"},
        {{.kind = GD_OPTIMIZER_SGD, .momentum = 0.9, .is_nesterov = true, .dampening = 0.5},
         ST_ERR_INVAL,
         "sgd: nesterov needs a dampening of 0"},
    };
    gd_module_t *module = bag_new(ROWS, COLUMNS);
    gd_flat_t *flat = NULL;
    assert_ok(gd_flat_open(module, &flat));
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        gd_optimizer_options_t options;
        gd_optimizer_t *optimizer = NULL;
        gd_optimizer_defaults(cases[i].options.kind, &options);
        options.momentum = cases[i].options.momentum;
        options.dampening = cases[i].options.dampening;
        options.is_nesterov = cases[i].options.is_nesterov;
        options.is_amsgrad = cases[i].options.is_amsgrad;
        options.is_decoupled = cases[i].options.is_decoupled;
        assert_fails(gd_optimizer_open(&options, flat, &optimizer), cases[i].code, cases[i].message);
    }
    gd_flat_close(flat);
    (void)gd_module_unref(module);
}

static void adamw_takes_pytorchs_steps(void **state)
{
    (void)state;
    run_against_golden(
        "adamw", &(gd_optimizer_options_t){
                     .kind = GD_OPTIMIZER_ADAMW, .beta1 = 0.9, .beta2 = 0.99, .epsilon = 1e-8, .weight_decay = 0.1});
    run_against_golden("adamw_matrices", &(gd_optimizer_options_t){.kind = GD_OPTIMIZER_ADAMW,
                                                                   .beta1 = 0.9,
                                                                   .beta2 = 0.999,
                                                                   .epsilon = 1e-8,
                                                                   .weight_decay = 0.1,
                                                                   .decay_matrices_only = true});
}

/* Parameters and states after three steps over ranges cut at `cut` and with n_threads, as one hash. */
static void bits_after(gd_optimizer_kind_t kind, int64_t cut, int n_threads, char hex_p[65])
{
    int n_before = gd_context_n_threads();
    assert_ok(gd_context_set_n_threads(n_threads));
    gd_module_t *module = bag_new(300, 333);
    gd_flat_t *flat = NULL;
    assert_ok(gd_flat_open(module, &flat));
    gd_optimizer_options_t options;
    gd_optimizer_defaults(kind, &options);
    options.momentum = 0.9;
    options.is_nesterov = true;
    options.is_centered = true;
    options.beta2 = 0.99;
    options.weight_decay = 0.1;
    options.decay_matrices_only = true;
    options.average_decay = 0.9;
    gd_optimizer_t *optimizer = NULL;
    assert_ok(gd_optimizer_open(&options, flat, &optimizer));
    float *gradients = buffer_new(flat->numel);
    for (uint32_t step = 0; step < 3; step++) {
        const gd_rng_key_t key = {.seed = 5, .step = step, .purpose = 5};
        gd_rng_fill_normal(&key, 0, 1, gradients, flat->numel);
        gd_optimizer_next(optimizer);
        for (int64_t first = 0; first < flat->numel; first += cut) {
            int64_t last = first + cut < flat->numel ? first + cut : flat->numel;
            assert_ok(gd_optimizer_update(optimizer, gradients, 0.01, 0.7, first, last));
        }
    }
    assert_ok(gd_flat_sha256(flat, hex_p));
    mem_free(gradients);
    gd_optimizer_close(optimizer);
    gd_flat_close(flat);
    (void)gd_module_unref(module);
    assert_ok(gd_context_set_n_threads(n_before));
}

static void ranges_and_threads_dont_change_bits(void **state)
{
    (void)state;
    for (int kind = 0; kind < GD_OPTIMIZER_COUNT; kind++) {
        char whole[65];
        bits_after((gd_optimizer_kind_t)kind, INT64_MAX / 2, 1, whole);
        static const int64_t cuts[] = {16, 48, 16384, 50000 / 16 * 16};
        for (size_t i = 0; i < sizeof(cuts) / sizeof(cuts[0]); i++) {
            char parts[65];
            /* oneDNN's products, which muon uses, are bound to a number of threads */
            int n_threads = kind == GD_OPTIMIZER_MUON ? 1 : (int)(i % 3) + 1;
            bits_after((gd_optimizer_kind_t)kind, cuts[i], n_threads, parts);
            assert_string_equal(parts, whole);
        }
    }
}

static void clipping_is_pytorchs(void **state)
{
    (void)state;
    gd_safetensors_t *golden = NULL;
    assert_ok(gd_safetensors_open(fixture_golden("optim.safetensors"), &golden));
    float gradients[64] = {0};
    memcpy(gradients, golden_at(golden, "", "weight_grads"), ROWS * COLUMNS * sizeof(float));
    memcpy(gradients + 32, golden_at(golden, "", "bias_grads"), COLUMNS * sizeof(float));
    double expected = 0;
    memcpy(&expected, gd_safetensors_find(golden, "norm")->data, sizeof(expected));

    double norm = gd_flat_norm(gradients, 64);
    double scale = gd_clip_scale(norm, 1.0);

    assert_true(fabs(norm - expected) < 1e-6 * expected);
    for (int i = 0; i < ROWS * COLUMNS; i++) {
        gradients[i] *= (float)scale;
    }
    assert_close(gradients, golden_at(golden, "", "clipped"), ROWS * COLUMNS, 1e-6);
    memcpy(gradients, golden_at(golden, "", "weight_grads"), ROWS * COLUMNS * sizeof(float));
    gd_clip_value(gradients, 64, 0.5);
    assert_close(gradients, golden_at(golden, "", "clipped_by_value"), ROWS * COLUMNS, 0);
    gradients[0] = NAN;
    gradients[1] = -INFINITY;
    gd_clip_value(gradients, 64, 0.25);
    assert_true(isnan(gradients[0]) && gradients[1] == -0.25F);
    assert_true(gd_clip_scale(0.5, 1.0) == 1.0);
    assert_true(gd_clip_scale(1e9, 0) == 1.0);
    gd_safetensors_close(golden);
}

static void the_norm_is_a_sum_of_blocks(void **state)
{
    (void)state;
    enum { N = 2 * GD_NORM_BLOCK + 77 };
    float *x = buffer_new(N);
    const gd_rng_key_t key = {.seed = 11, .purpose = 5};
    gd_rng_fill_normal(&key, 0, 3, x, N);
    double sums[3] = {0};
    gd_flat_norm_blocks(x, N, sums);

    double exact = 0;
    for (int i = 0; i < N; i++) {
        exact += (double)x[i] * (double)x[i];
    }
    double norm = gd_flat_norm(x, N);

    assert_true(norm == sqrt(sums[0] + sums[1] + sums[2]));
    assert_true(fabs(norm - sqrt(exact)) < 1e-12 * norm);
    assert_ok(gd_context_set_n_threads(2));
    assert_true(gd_flat_norm(x, N) == norm);
    assert_ok(gd_context_set_n_threads(1));
    mem_free(x);
}

static void schedules_follow_their_formulas(void **state)
{
    (void)state;
    gd_safetensors_t *golden = NULL;
    assert_ok(gd_safetensors_open(fixture_golden("optim.safetensors"), &golden));
    double expected[N_STEPS];
    memcpy(expected, gd_safetensors_find(golden, "cosine_lr")->data, sizeof(expected));
    gd_schedule_t schedule = {
        .kind = GD_SCHEDULE_COSINE, .lr = 0.02, .final_lr = 0.002, .warmup_steps = 4, .total_steps = 16};
    for (int step = 0; step < N_STEPS; step++) {
        assert_true(fabs(gd_schedule_lr(&schedule, step) - expected[step]) < 1e-15);
    }
    schedule.kind = GD_SCHEDULE_LINEAR;
    assert_true(fabs(gd_schedule_lr(&schedule, 3) - 0.016) < 1e-15);
    assert_true(fabs(gd_schedule_lr(&schedule, 10) - 0.011) < 1e-15);
    assert_true(fabs(gd_schedule_lr(&schedule, 99) - 0.002) < 1e-15);
    schedule.kind = GD_SCHEDULE_CONSTANT;
    assert_true(fabs(gd_schedule_lr(&schedule, 0) - 0.004) < 1e-15);
    assert_true(gd_schedule_lr(&schedule, 4) == 0.02);
    assert_true(gd_schedule_lr(&schedule, 1000000) == 0.02);
    gd_safetensors_close(golden);
}

static void assert_rates(const gd_safetensors_t *golden, const char *name, const gd_schedule_t *schedule)
{
    enum { N = 40 };
    char full[64];
    double expected[N];
    n_rates_compared++;
    (void)snprintf(full, sizeof(full), "lr.%s", name);
    memcpy(expected, gd_safetensors_find(golden, full)->data, sizeof(expected));
    for (int step = 0; step < N; step++) {
        double lr = gd_schedule_lr(schedule, step);
        if (!(fabs(lr - expected[step]) <= 1e-12)) {
            fail_msg("%s: rate %.15g at step %d, PyTorch has %.15g", name, lr, step, expected[step]);
        }
    }
}

static void schedules_are_pytorchs(void **state)
{
    (void)state;
    gd_safetensors_t *golden = NULL;
    assert_ok(gd_safetensors_open(fixture_golden("optim.safetensors"), &golden));
    const gd_schedule_t base = {.lr = 0.02, .total_steps = 40, .factor = 1};
    const gd_schedule_t parts[] = {
        {.kind = GD_SCHEDULE_STEP, .lr = 0.02, .every = 7, .gamma = 0.5},
        {.kind = GD_SCHEDULE_EXPONENTIAL, .lr = 0.02, .gamma = 0.95},
        {.kind = GD_SCHEDULE_LINEAR, .lr = 0.02, .final_lr = 0.002, .total_steps = 15},
        {.kind = GD_SCHEDULE_EXPONENTIAL, .lr = 0.02, .gamma = 0.9},
    };
    gd_schedule_t s = base;
    assert_rates(golden, "step", &parts[0]);
    s.kind = GD_SCHEDULE_MULTI_STEP;
    s.gamma = 0.3;
    s.milestones = (const int64_t[]){5, 11, 30};
    s.n_milestones = 3;
    assert_rates(golden, "multi_step", &s);
    assert_rates(golden, "exponential", &parts[1]);
    s = base;
    s.final_lr = 0.002;
    s.kind = GD_SCHEDULE_COSINE;
    assert_rates(golden, "cosine", &s);
    s.kind = GD_SCHEDULE_LINEAR;
    assert_rates(golden, "linear", &s);
    s.kind = GD_SCHEDULE_COSINE_RESTARTS;
    s.every = 5;
    s.factor = 2;
    assert_rates(golden, "cosine_restarts", &s);
    s.every = 6;
    s.factor = 1;
    s.final_lr = 0;
    assert_rates(golden, "cosine_restarts_same", &s);
    s.kind = GD_SCHEDULE_POLYNOMIAL;
    s.power = 2;
    assert_rates(golden, "polynomial", &s);
    s = (gd_schedule_t){.kind = GD_SCHEDULE_ONE_CYCLE,
                        .lr = 0.02,
                        .total_steps = 41,
                        .rise = 0.3,
                        .factor = 25,
                        .final_factor = 1e4,
                        .shape = GD_DECAY_COSINE};
    assert_rates(golden, "one_cycle", &s);
    s.rise = 0.4;
    s.factor = 10;
    s.final_factor = 100;
    s.shape = GD_DECAY_LINEAR;
    assert_rates(golden, "one_cycle_linear", &s);
    s = (gd_schedule_t){.kind = GD_SCHEDULE_PRODUCT, .lr = 0.02, .parts = parts, .n_parts = 2};
    assert_rates(golden, "chained", &s);
    s = (gd_schedule_t){.kind = GD_SCHEDULE_SEQUENCE,
                        .lr = 0.02,
                        .parts = parts + 2,
                        .n_parts = 2,
                        .milestones = (const int64_t[]){15},
                        .n_milestones = 1};
    assert_rates(golden, "sequence", &s);
    gd_safetensors_close(golden);
}

/* Warm-up, constant and stable rates as PyTorch composes them: SequentialLR of LinearLR, ConstantLR and a decay. */
static void warmups_and_stable_rates_are_pytorchs(void **state)
{
    (void)state;
    gd_safetensors_t *golden = NULL;
    assert_ok(gd_safetensors_open(fixture_golden("optim.safetensors"), &golden));
    gd_schedule_t s = {.kind = GD_SCHEDULE_CONSTANT, .lr = 0.02, .total_steps = 40};
    assert_rates(golden, "constant", &s);
    s.warmup_steps = 6;
    assert_rates(golden, "constant_warmup", &s);
    s.final_lr = 0.002;
    s.kind = GD_SCHEDULE_COSINE;
    assert_rates(golden, "cosine_warmup", &s);
    s.kind = GD_SCHEDULE_LINEAR;
    assert_rates(golden, "linear_warmup", &s);
    s.kind = GD_SCHEDULE_STABLE_DECAY;
    s.decay_steps = 12;
    s.shape = GD_DECAY_LINEAR;
    assert_rates(golden, "stable_decay", &s);
    s.shape = GD_DECAY_COSINE;
    assert_rates(golden, "stable_decay_cosine", &s);
    s.shape = GD_DECAY_SQRT;
    s.warmup_steps = 0;
    assert_rates(golden, "stable_decay_sqrt", &s);
    gd_safetensors_close(golden);
}

/* Runs after all that compares: nothing in the file is only there. */
static void every_run_and_schedule_of_the_file_was_compared(void **state)
{
    (void)state;
    gd_safetensors_t *golden = NULL;
    int n_runs = 0;
    int n_rates = 0;
    assert_ok(gd_safetensors_open(fixture_golden("optim.safetensors"), &golden));
    for (int i = 0; i < gd_safetensors_count(golden); i++) {
        const char *name = gd_safetensors_at(golden, i)->name;
        const size_t length = strlen(name);
        n_runs += length > 7 && strcmp(name + length - 7, ".weight") == 0;
        n_rates += strncmp(name, "lr.", 3) == 0;
    }
    assert_int_equal(n_runs_compared, n_runs);
    assert_int_equal(n_rates_compared, n_rates);
    gd_safetensors_close(golden);
}

static void a_plateau_is_pytorchs(void **state)
{
    (void)state;
    gd_safetensors_t *golden = NULL;
    assert_ok(gd_safetensors_open(fixture_golden("optim.safetensors"), &golden));
    double values[N_STEPS];
    double scales[N_STEPS];
    memcpy(values, gd_safetensors_find(golden, "plateau.values")->data, sizeof(values));
    memcpy(scales, gd_safetensors_find(golden, "plateau.scales")->data, sizeof(scales));
    const gd_plateau_options_t options = {
        .factor = 0.3, .patience = 1, .threshold = 1e-3, .cooldown = 2, .min_scale = 0.02};
    gd_plateau_t plateau;
    gd_plateau_init(&plateau);
    for (int i = 0; i < N_STEPS; i++) {
        gd_plateau_update(&plateau, &options, values[i]);
        assert_true(fabs(plateau.scale - scales[i]) < 1e-12);
    }
    assert_true(plateau.scale < 0.1); /* it was reduced at all */
    gd_safetensors_close(golden);
}

static void a_plateau_never_raises_the_rate(void **state)
{
    (void)state;
    const gd_plateau_options_t options = {.factor = 0.5, .min_scale = 2};
    gd_plateau_t plateau;
    gd_plateau_init(&plateau);

    for (int i = 0; i < 4; i++) {
        gd_plateau_update(&plateau, &options, 1.0);
    }

    assert_true(plateau.scale == 1);
}

static void the_average_is_pytorchs_and_swaps_back(void **state)
{
    (void)state;
    gd_safetensors_t *golden = NULL;
    assert_ok(gd_safetensors_open(fixture_golden("optim.safetensors"), &golden));
    static const gd_optimizer_kind_t kinds[] = {GD_OPTIMIZER_SGD, GD_OPTIMIZER_LARS}; /* elementwise, by tensor */
    for (int k = 0; k < 2; k++) {
        gd_module_t *module = bag_new(ROWS, COLUMNS);
        gd_flat_t *flat = NULL;
        assert_ok(gd_flat_open(module, &flat));
        gd_optimizer_options_t options;
        gd_optimizer_defaults(kinds[k], &options);
        options.average_decay = 0.9;
        gd_optimizer_t *optimizer = NULL;
        assert_ok(gd_optimizer_open(&options, flat, &optimizer));
        float *gradients = buffer_new(flat->numel);
        float last[ROWS * COLUMNS];
        for (int step = 0; step < N_STEPS; step++) {
            const float *values = golden_at(golden, "", "weight_grads") + step * ROWS * COLUMNS;
            memcpy(flat->parameters, values, sizeof(last));
            gd_optimizer_next(optimizer);
            assert_ok(gd_optimizer_update(optimizer, gradients, 0.1, 1, 0, flat->numel)); /* nothing to learn */
        }
        memcpy(last, flat->parameters, sizeof(last));

        gd_optimizer_swap_average(optimizer);

        assert_close(flat->parameters, golden_at(golden, "", "average"), ROWS * COLUMNS, 1e-6);
        gd_optimizer_swap_average(optimizer);
        assert_memory_equal(flat->parameters, last, sizeof(last));
        mem_free(gradients);
        gd_optimizer_close(optimizer);
        gd_flat_close(flat);
        (void)gd_module_unref(module);
    }
    gd_safetensors_close(golden);
}

static void groups_change_rate_decay_and_freeze(void **state)
{
    (void)state;
    for (int kind = 0; kind < GD_OPTIMIZER_COUNT; kind++) {
        gd_module_t *module = bag_new(4, 4);
        gd_flat_t *flat = NULL;
        assert_ok(gd_flat_open(module, &flat));
        gd_optimizer_options_t options;
        gd_optimizer_defaults((gd_optimizer_kind_t)kind, &options);
        const gd_optimizer_group_t groups[] = {{.pattern = "b*", .lr_scale = 1, .is_frozen = true},
                                               {.pattern = "*", .lr_scale = 0, .has_weight_decay = true}};
        options.groups = groups;
        options.n_groups = 2;
        gd_optimizer_t *optimizer = NULL;
        assert_ok(gd_optimizer_open(&options, flat, &optimizer));
        float *gradients = buffer_new(flat->numel);
        float before[32];
        for (int64_t i = 0; i < flat->numel; i++) {
            gradients[i] = 1;
        }
        memcpy(before, flat->parameters, sizeof(before));

        gd_optimizer_next(optimizer);
        assert_ok(gd_optimizer_update(optimizer, gradients, 0.1, 1, 0, flat->numel));

        assert_false(gd_tensor_requires_grad(flat->segments[1].parameter));
        assert_true(gd_tensor_requires_grad(flat->segments[0].parameter));
        assert_memory_equal(flat->parameters + 16, before + 16, 16 * sizeof(float)); /* frozen */
        assert_memory_equal(flat->parameters, before, 16 * sizeof(float));           /* a rate of 0 */
        mem_free(gradients);
        gd_optimizer_close(optimizer);
        gd_flat_close(flat);
        (void)gd_module_unref(module);
    }
}

static void options_out_of_range_are_refused(void **state)
{
    (void)state;
    gd_module_t *module = bag_new(2, 2);
    gd_flat_t *flat = NULL;
    assert_ok(gd_flat_open(module, &flat));
    gd_optimizer_t *optimizer = NULL;
    gd_optimizer_options_t options = {.kind = GD_OPTIMIZER_ADAMW, .beta1 = 1, .beta2 = 0.9, .epsilon = 1e-8};
    assert_fails(gd_optimizer_open(&options, flat, &optimizer), ST_ERR_RANGE, "betas 1 and 0.9 are not in [0, 1)");
    options = (gd_optimizer_options_t){.kind = GD_OPTIMIZER_ADAMW, .epsilon = 0};
    assert_fails(gd_optimizer_open(&options, flat, &optimizer), ST_ERR_RANGE, "epsilon 0 is not positive");
    options = (gd_optimizer_options_t){.kind = GD_OPTIMIZER_SGD, .is_nesterov = true};
    assert_fails(gd_optimizer_open(&options, flat, &optimizer), ST_ERR_INVAL, "nesterov needs a momentum");
    const gd_optimizer_group_t group = {.pattern = "head.*", .lr_scale = 1};
    options = (gd_optimizer_options_t){.kind = GD_OPTIMIZER_SGD, .groups = &group, .n_groups = 1};
    assert_fails(gd_optimizer_open(&options, flat, &optimizer), ST_ERR_INVAL,
                 "no parameter's name fits the pattern \"head.*\"");
    gd_optimizer_defaults(GD_OPTIMIZER_ADAFACTOR, &options);
    options.beta2_decay = 0.1;
    assert_fails(gd_optimizer_open(&options, flat, &optimizer), ST_ERR_RANGE, "beta2 decay 0.1");
    options = (gd_optimizer_options_t){.kind = GD_OPTIMIZER_SGD, .weight_decay = (double)NAN};
    assert_fails(gd_optimizer_open(&options, flat, &optimizer), ST_ERR_RANGE, "weight decay");
    options.weight_decay = 0;
    assert_ok(gd_optimizer_open(&options, flat, &optimizer));
    assert_fails(gd_optimizer_update(optimizer, flat->parameters, 1, 1, 0, flat->numel), ST_ERR_STATE,
                 "an update before the first gd_optimizer_next");
    gd_optimizer_next(optimizer);
    assert_fails(gd_optimizer_update(optimizer, flat->parameters, 1, 1, 3, 7), ST_ERR_RANGE, "elements 3 to 7");
    gd_optimizer_close(optimizer);
    gd_flat_close(flat);
    (void)gd_module_unref(module);
}

static void flat_parameters_keep_values_and_are_the_modules_own(void **state)
{
    (void)state;
    gd_module_t *module = bag_new(3, 7);
    gd_module_t *head = NULL;
    assert_ok(gd_module_new(&bag_ops, sizeof(*head), &head));
    assert_ok(gd_module_share_parameter(head, "weight", module->parameters[0].tensor));
    assert_ok(gd_module_add_child(module, "head", head));
    float before[21];
    memcpy(before, gd_tensor_data(module->parameters[0].tensor), sizeof(before));

    gd_flat_t *flat = NULL;
    assert_ok(gd_flat_open(module, &flat));

    assert_int_equal(flat->n_segments, 2); /* the shared one once */
    assert_string_equal(flat->segments[0].name, "weight");
    assert_string_equal(flat->segments[1].name, "bias");
    assert_int_equal(flat->segments[1].offset, 32);
    assert_int_equal((uintptr_t)flat->parameters % 64, 0);
    assert_memory_equal(flat->parameters, before, sizeof(before));
    assert_ptr_equal(gd_tensor_data(module->parameters[0].tensor), flat->parameters);
    assert_ptr_equal(head->parameters[0].tensor, module->parameters[0].tensor);
    assert_true(gd_tensor_requires_grad(module->parameters[1].tensor));
    gd_flat_close(flat);
    assert_memory_equal(gd_tensor_data(module->parameters[0].tensor), before, sizeof(before)); /* outlives the handle */
    (void)gd_module_unref(head);
    (void)gd_module_unref(module);
}

/* loss = sum(weight · x); the bias is not used. */
static void gradients_land_in_the_flat_buffer(void **state)
{
    (void)state;
    gd_module_t *module = bag_new(3, 7);
    gd_flat_t *flat = NULL;
    assert_ok(gd_flat_open(module, &flat));
    float *gradients = buffer_new(flat->numel);
    for (int round = 0; round < 2; round++) {
        for (int64_t i = 0; i < flat->numel; i++) {
            gradients[i] = 99; /* left over */
        }
        assert_ok(gd_flat_set_gradients(flat, gradients));
        gd_tensor_t *x = NULL;
        gd_tensor_t *product = NULL;
        gd_tensor_t *loss = NULL;
        assert_ok(gd_tensor_full(GD_DTYPE_F32, 2, (int64_t[]){3, 7}, 2.5, &x));
        assert_ok(gd_mul(module->parameters[0].tensor, x, &product));
        assert_ok(gd_sum(product, 0, NULL, false, &loss));

        assert_ok(gd_backward(loss, NULL, false));
        gd_flat_finish_gradients(flat);

        for (int64_t i = 0; i < flat->numel; i++) {
            assert_true(gradients[i] == (i < 21 ? 2.5F : 0.0F));
        }
        (void)gd_tensor_unref(x);
        (void)gd_tensor_unref(product);
        (void)gd_tensor_unref(loss);
    }
    gd_flat_close(flat);
    (void)gd_module_unref(module);
    mem_free(gradients);
}

static void the_hash_is_by_name_not_by_order(void **state)
{
    (void)state;
    char hex[2][65];
    for (int swap = 0; swap < 2; swap++) {
        gd_module_t *root = NULL;
        assert_ok(gd_module_new(&bag_ops, sizeof(*root), &root));
        static const char *const names[] = {"a", "b"};
        for (int i = 0; i < 2; i++) {
            gd_module_t *child = bag_new(2, 3);
            assert_ok(gd_module_add_child(root, names[i ^ swap], child));
            (void)gd_module_unref(child);
        }
        assert_ok(gd_module_initialise(root, 42)); /* by name too */
        gd_flat_t *flat = NULL;
        assert_ok(gd_flat_open(root, &flat));
        assert_ok(gd_flat_sha256(flat, hex[swap]));
        gd_flat_close(flat);
        (void)gd_module_unref(root);
    }
    assert_string_equal(hex[0], hex[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(sgd_takes_pytorchs_steps),
        TEST(adamw_takes_pytorchs_steps),
        TEST(the_others_take_pytorchs_steps),
        TEST(further_options_are_pytorchs),
        TEST(options_of_other_kinds_are_refused),
        TEST(ranges_and_threads_dont_change_bits),
        TEST(clipping_is_pytorchs),
        TEST(the_norm_is_a_sum_of_blocks),
        TEST(schedules_follow_their_formulas),
        TEST(schedules_are_pytorchs),
        TEST(warmups_and_stable_rates_are_pytorchs),
        TEST(every_run_and_schedule_of_the_file_was_compared),
        TEST(a_plateau_is_pytorchs),
        TEST(a_plateau_never_raises_the_rate),
        TEST(the_average_is_pytorchs_and_swaps_back),
        TEST(groups_change_rate_decay_and_freeze),
        TEST(options_out_of_range_are_refused),
        TEST(flat_parameters_keep_values_and_are_the_modules_own),
        TEST(gradients_land_in_the_flat_buffer),
        TEST(the_hash_is_by_name_not_by_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
