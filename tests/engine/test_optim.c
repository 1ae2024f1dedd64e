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

static void assert_close(const float *ours, const float *theirs, int n, double tolerance)
{
    for (int i = 0; i < n; i++) {
        double difference = fabs((double)ours[i] - (double)theirs[i]);
        if (!(difference <= tolerance * (1 + fabs((double)theirs[i])))) {
            fail_msg("element %d is %.9g, PyTorch has %.9g", i, (double)ours[i], (double)theirs[i]);
        }
    }
}

enum { N_STEPS = 20, ROWS = 3, COLUMNS = 7 };

static void run_against_golden(const char *run, const gd_optimizer_options_t *options)
{
    gd_safetensors_t *golden = NULL;
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
        gd_optimizer_update(optimizer, gradients, gd_schedule_lr(&schedule, step), 0.5, 0, flat->numel);
    }

    assert_close(flat->parameters, golden_at(golden, run, "weight"), ROWS * COLUMNS, 1e-6);
    assert_close(flat->parameters + 32, golden_at(golden, run, "bias"), COLUMNS, 1e-6);
    for (int i = 0; i < gd_optimizer_n_states(optimizer); i++) {
        const char *name = NULL;
        const float *state = gd_optimizer_state(optimizer, i, &name);
        assert_close(state, golden_at(golden, run, name), ROWS * COLUMNS, 1e-6);
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
    const gd_optimizer_options_t options = {.kind = kind,
                                            .momentum = 0.9,
                                            .is_nesterov = true,
                                            .beta1 = 0.9,
                                            .beta2 = 0.99,
                                            .epsilon = 1e-8,
                                            .weight_decay = 0.1,
                                            .decay_matrices_only = true};
    gd_optimizer_t *optimizer = NULL;
    assert_ok(gd_optimizer_open(&options, flat, &optimizer));
    float *gradients = buffer_new(flat->numel);
    for (uint32_t step = 0; step < 3; step++) {
        const gd_rng_key_t key = {.seed = 5, .step = step, .purpose = 5};
        gd_rng_fill_normal(&key, 0, 1, gradients, flat->numel);
        gd_optimizer_next(optimizer);
        for (int64_t first = 0; first < flat->numel; first += cut) {
            int64_t last = first + cut < flat->numel ? first + cut : flat->numel;
            gd_optimizer_update(optimizer, gradients, 0.01, 0.7, first, last);
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
            bits_after((gd_optimizer_kind_t)kind, cuts[i], (int)(i % 3) + 1, parts);
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
    options = (gd_optimizer_options_t){.kind = GD_OPTIMIZER_SGD, .weight_decay = (double)NAN};
    assert_fails(gd_optimizer_open(&options, flat, &optimizer), ST_ERR_RANGE, "weight decay");
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
        TEST(ranges_and_threads_dont_change_bits),
        TEST(clipping_is_pytorchs),
        TEST(the_norm_is_a_sum_of_blocks),
        TEST(schedules_follow_their_formulas),
        TEST(options_out_of_range_are_refused),
        TEST(flat_parameters_keep_values_and_are_the_modules_own),
        TEST(gradients_land_in_the_flat_buffer),
        TEST(the_hash_is_by_name_not_by_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
