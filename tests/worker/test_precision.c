/* SPDX-License-Identifier: Apache-2.0 */
/* training.precision: the same bits on any layout and after a death, losses near f32's, the loss scale of f16. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "tests/worker/session_runs.h"

static run_t whole;
static run_t part;
static run_t rest;

static spec_job_t *job_run(const char *model, const char *const *set, int n_ranks, run_t *run)
{
    spec_job_t *job = run_job(model, 4, set);
    run_folder_clear();
    memset(run, 0, sizeof(*run));
    run_ok(job, n_ranks, run);
    run_folder_clear();
    return job;
}

static void assert_same_end(const run_t *a, const run_t *b)
{
    assert_string_equal(a->result.parameters_sha256, b->result.parameters_sha256);
    assert_string_equal(a->checkpoints[a->n_checkpoints - 1].model_sha256,
                        b->checkpoints[b->n_checkpoints - 1].model_sha256);
    assert_string_equal(a->checkpoints[a->n_checkpoints - 1].optimizer_sha256,
                        b->checkpoints[b->n_checkpoints - 1].optimizer_sha256);
    assert_true(run_point(a, "validation_loss", 12) == run_point(b, "validation_loss", 12));
}

/* On 1, 2 and 4 ranks, and killed after step 8 on two ranks, resumed from step 5 on one. */
static void assert_layout_free(const char *model, const char *const *set)
{
    spec_job_t *job = job_run(model, set, 1, &whole);
    for (int n_ranks = 2; n_ranks <= 4; n_ranks += 2) {
        memset(&rest, 0, sizeof(rest));
        run_ok(job, n_ranks, &rest);
        assert_same_end(&rest, &whole);
        run_folder_clear();
    }
    memset(&part, 0, sizeof(part));
    part.last_step = 8;
    run_ranks(job, 2, &part);
    assert_int_equal(part.status, ST_ERR_CANCELLED);
    memset(&rest, 0, sizeof(rest));
    rest.attempt = 2;
    run_ok(job, 1, &rest);
    assert_same_end(&rest, &whole);
    run_folder_clear();
    spec_job_free(job);
}

static const char *const BF16[] = {"training.precision=bf16", NULL};
static const char *const F16[] = {"training.precision=f16", NULL};

static void bf16_has_the_same_bits_on_every_layout_and_after_a_death(void **state)
{
    (void)state;
    assert_layout_free(MODEL_MLP, BF16);
    assert_layout_free(MODEL_CNN, BF16);
    assert_layout_free(MODEL_GPT, BF16);
    assert_non_null(strstr(whole.fingerprint, " bf16-"));
}

static void f16_has_the_same_bits_on_every_layout_and_after_a_death(void **state)
{
    (void)state;
    assert_layout_free(MODEL_CNN, F16);
    assert_layout_free(MODEL_GPT, F16);
    assert_non_null(strstr(whole.fingerprint, " f16"));
}

/* 60 steps; the last 10 losses' mean. */
static double end_loss(const char *model, const char *precision)
{
    char set_precision[48];
    (void)snprintf(set_precision, sizeof(set_precision), "training.precision=%s", precision);
    const char *const set[] = {"training.steps=60", "training.optimizer.adamw.lr=0.005", set_precision, NULL};
    spec_job_free(job_run(model, set, 1, &whole));
    double sum = 0;
    for (int64_t step = 51; step <= 60; step++) {
        sum += run_point(&whole, "loss", step);
    }
    return sum / 10;
}

/* Within 3 % of f32's loss, and it has fallen by more than that. */
static void training_in_16_bits_reaches_the_loss_of_f32(void **state)
{
    (void)state;
    const char *const models[] = {MODEL_GPT, MODEL_CNN};
    for (size_t i = 0; i < sizeof(models) / sizeof(models[0]); i++) {
        double wide = end_loss(models[i], "f32");
        double first = run_point(&whole, "loss", 1);
        assert_true(wide < 0.9 * first);
        static const char *const precisions[] = {"bf16", "f16"};
        for (int p = 0; p < 2; p++) {
            double narrow = end_loss(models[i], precisions[p]);
            if (!(fabs(narrow - wide) <= 0.03 * wide)) {
                fail_msg("model %zu, %s: loss %g at the end, f32 %g", i, precisions[p], narrow, wide);
            }
        }
    }
}

static void the_loss_scale_skips_steps_and_recovers(void **state)
{
    (void)state;
    const char *const set[] = {"training.precision=f16", "training.loss_scale={init: 1e12, backoff: 0.0009765625}",
                               NULL};
    assert_layout_free(MODEL_GPT, set);

    double skipped = run_point(&whole, "skipped_steps", 12);
    double scale = run_point(&whole, "loss_scale", 12);

    assert_true(skipped >= 1 && skipped <= 6);
    assert_true(fabs(scale / (1e12 * pow(0.0009765625, skipped)) - 1) < 1e-6);
    assert_true(run_point(&whole, "loss", 12) < run_point(&whole, "loss", 1));
}

static void a_loss_scale_changes_only_roundings_in_f32(void **state)
{
    (void)state;
    const char *const set[] = {"training.loss_scale={init: 65536}", NULL};
    spec_job_free(job_run(MODEL_MLP, NULL, 1, &whole));
    spec_job_free(job_run(MODEL_MLP, set, 1, &rest));

    assert_string_equal(rest.result.parameters_sha256, whole.result.parameters_sha256); /* a power of two */
    assert_true(run_point(&rest, "loss", 12) == run_point(&whole, "loss", 12));
    assert_true(run_point(&rest, "gradient_norm", 12) == run_point(&whole, "gradient_norm", 12));
    assert_true(run_point(&rest, "loss_scale", 12) == 65536);
}

static double activation_bytes(const char *precision)
{
    char set_precision[48];
    (void)snprintf(set_precision, sizeof(set_precision), "training.precision=%s", precision);
    const char *const set[] = {"training.steps=2", set_precision, NULL};
    static const char MODEL[] = "[{embedding: {name: wte, count: 27, width: 256}}, {position_embedding: {count: 16}}, "
                                "{repeat: {times: 3, layers: ["
                                "{residual: [layer_norm, {attention: {heads: 2, causal: true}}]}, "
                                "{residual: [layer_norm, {linear: {out: 1024}}, gelu, {linear: {out: 256}}]}]}}, "
                                "layer_norm, {linear: {out: 27, bias: false, tied: wte}}]";
    spec_job_free(job_run(MODEL, set, 1, &whole));
    return run_point(&whole, "activation_bytes", 2);
}

static void activations_of_bf16_take_at_most_six_tenths(void **state)
{
    (void)state;
    double wide = activation_bytes("f32");
    double narrow = activation_bytes("bf16");

    if (!(narrow <= 0.6 * wide)) {
        fail_msg("activations take %g bytes in bf16, %g in f32", narrow, wide);
    }
}

static void gradients_that_are_finite_at_no_scale_end_the_job(void **state)
{
    (void)state;
    const char *const set[] = {"training.precision=f16", "training.loss_scale={init: 1e-6, backoff: 1e-6}",
                               "training.optimizer.adamw.lr=1e30", NULL};
    spec_job_t *job = run_job(MODEL_MLP, 4, set);
    memset(&whole, 0, sizeof(whole));

    run_ranks(job, 1, &whole);

    assert_int_equal(whole.status, ST_ERR_NONFINITE);
    assert_non_null(strstr(whole.message, "aren't finite at any loss scale"));
    run_folder_clear();
    spec_job_free(job);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(bf16_has_the_same_bits_on_every_layout_and_after_a_death),
        TEST(f16_has_the_same_bits_on_every_layout_and_after_a_death),
        TEST(training_in_16_bits_reaches_the_loss_of_f32),
        TEST(the_loss_scale_skips_steps_and_recovers),
        TEST(a_loss_scale_changes_only_roundings_in_f32),
        TEST(gradients_that_are_finite_at_no_scale_end_the_job),
        TEST(activations_of_bf16_take_at_most_six_tenths),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
