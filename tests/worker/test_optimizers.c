/* SPDX-License-Identifier: Apache-2.0 */
/* Every optimizer, schedule and loss of the job's YAML: trains, and a killed job goes on to the same bits. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/worker/session_runs.h"

static run_t whole; /* the undisturbed run */
static run_t part;
static run_t rest;

static spec_job_t *whole_run(const char *const *set)
{
    spec_job_t *job = run_job(MODEL_MLP, 4, set);
    memset(&whole, 0, sizeof(whole));
    memset(&part, 0, sizeof(part));
    memset(&rest, 0, sizeof(rest));
    run_ok(job, 1, &whole);
    return job;
}

static void assert_same_rates(void)
{
    for (int64_t step = 6; step <= 12; step++) {
        assert_true(run_point(&rest, "learning_rate", step) == run_point(&whole, "learning_rate", step));
    }
}

/* Killed after step 8 on two ranks, resumed from step 5 on one. */
static void assert_resumable(const spec_job_t *job)
{
    run_folder_clear();
    part.last_step = 8;
    run_ranks(job, 2, &part);
    assert_int_equal(part.status, ST_ERR_CANCELLED);
    rest.attempt = 2;
    run_ok(job, 1, &rest);
    assert_string_equal(rest.result.parameters_sha256, whole.result.parameters_sha256);
    assert_string_equal(rest.checkpoints[rest.n_checkpoints - 1].optimizer_sha256,
                        whole.checkpoints[whole.n_checkpoints - 1].optimizer_sha256);
    assert_same_rates();
    run_folder_clear();
}

static void every_optimizer_trains_and_resumes(void **state)
{
    (void)state;
    static const char *const optimizers[] = {
        "training.optimizer={sgd: {lr: 0.05, momentum: 0.9, nesterov: true}}",
        "training.optimizer={adam: {lr: 0.01, weight_decay: 0.01}}",
        "training.optimizer={nadam: {lr: 0.01}}",
        "training.optimizer={nadam: {lr: 0.01, weight_decay: 0.1, decoupled: true}}",
        "training.optimizer={adamw: {lr: 0.01, amsgrad: true}}",
        "training.optimizer={sgd: {lr: 0.5, momentum: 0.9, dampening: 0.5}}",
        "training.optimizer={radam: {lr: 0.1, betas: [0.9, 0.9]}}",
        "training.optimizer={adagrad: {lr: 0.05}}",
        "training.optimizer={adadelta: {lr: 1, epsilon: 1e-4}}",
        "training.optimizer={rmsprop: {lr: 0.003, momentum: 0.5, centered: true}}",
        "training.optimizer={lamb: {lr: 0.1}}",
        "training.optimizer={lars: {lr: 0.5, trust_coefficient: 0.05, weight_decay: 0.01}}",
        "training.optimizer={lion: {lr: 0.005}}",
        "training.optimizer={adafactor: {lr: 0.1}}",
        "training.optimizer={muon: {lr: 0.1, adamw_lr: 0.02}}",
    };
    for (size_t i = 0; i < sizeof(optimizers) / sizeof(optimizers[0]); i++) {
        const char *const set[] = {optimizers[i], NULL};
        spec_job_t *job = whole_run(set);
        if (!(run_point(&whole, "loss", 12) < 0.95 * run_point(&whole, "loss", 1))) {
            fail_msg("%s: loss %g at first, %g at last", optimizers[i], run_point(&whole, "loss", 1),
                     run_point(&whole, "loss", 12));
        }

        assert_resumable(job);

        spec_job_free(job);
    }
}

static void assert_rates(const char *schedule, const double expected[12])
{
    const char *const set[] = {"training.optimizer={sgd: {lr: 0.1}}", schedule, NULL};
    spec_job_t *job = whole_run(set);
    for (int64_t step = 1; step <= 12; step++) {
        double lr = run_point(&whole, "learning_rate", step);
        if (!(fabs(lr - expected[step - 1]) < 1e-12)) {
            fail_msg("%s: rate %.15g at step %d, expected %.15g", schedule, lr, (int)step, expected[step - 1]);
        }
    }
    run_folder_clear();
    spec_job_free(job);
}

static void schedules_of_the_yaml_are_the_engines(void **state)
{
    (void)state;
    assert_rates("training.schedule={step: {every: 5, gamma: 0.5}}",
                 (double[]){0.1, 0.1, 0.1, 0.1, 0.1, 0.05, 0.05, 0.05, 0.05, 0.05, 0.025, 0.025});
    assert_rates("training.schedule={multi_step: {milestones: [2, 10], gamma: 0.1, warmup: 1}}",
                 (double[]){0.05, 0.1, 0.01, 0.01, 0.01, 0.01, 0.01, 0.01, 0.01, 0.01, 0.001, 0.001});
    assert_rates("training.schedule={cosine_restarts: {length: 2, factor: 2}}",
                 (double[]){0.1, 0.05, 0.1, 0.1 * (1 + sqrt(0.5)) / 2, 0.05, 0.1 * (1 - sqrt(0.5)) / 2, 0.1,
                            0.05 * (1 + cos(M_PI / 8)), 0.05 * (1 + sqrt(0.5)), 0.05 * (1 + cos(3 * M_PI / 8)), 0.05,
                            0.05 * (1 + cos(5 * M_PI / 8))});
    assert_rates("training.schedule={stable_decay: {warmup: 1, decay: 4, final_lr: 0.02}}",
                 (double[]){0.05, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.08, 0.06, 0.04});
    assert_rates("training.schedule={polynomial: {power: 1}}",
                 (double[]){0.1, 0.1 * 11 / 12, 0.1 * 10 / 12, 0.1 * 9 / 12, 0.1 * 8 / 12, 0.1 * 7 / 12, 0.1 * 6 / 12,
                            0.1 * 5 / 12, 0.1 * 4 / 12, 0.1 * 3 / 12, 0.1 * 2 / 12, 0.1 * 1 / 12});
    assert_rates("training.schedule={one_cycle: {rise: 0.5, divisor: 10, final_divisor: 10, shape: linear}}",
                 (double[]){0.01, 0.028, 0.046, 0.064, 0.082, 0.1, 0.1 - 0.0165, 0.1 - 0.033, 0.1 - 0.0495, 0.1 - 0.066,
                            0.1 - 0.0825, 0.001});
    assert_rates("training.schedule={chained: {parts: [{step: {every: 6, gamma: 0.5}}, {exponential: {gamma: 0.5}}]}}",
                 (double[]){0.1, 0.05, 0.025, 0.0125, 0.1 / 16, 0.1 / 32, 0.1 / 128, 0.1 / 256, 0.1 / 512, 0.1 / 1024,
                            0.1 / 2048, 0.1 / 4096});
    assert_rates("training.schedule={sequence: {parts: [{linear: {}}, constant], milestones: [4]}}",
                 (double[]){0.1, 0.075, 0.05, 0.025, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1});
}

/* A rate of nothing: the loss never falls, so every evaluation beyond the first is a bad one. */
static void a_plateau_reduces_the_rate_and_resumes(void **state)
{
    (void)state;
    const char *const set[] = {"training.optimizer={sgd: {lr: 1e-30}}",
                               "training.schedule={plateau: {factor: 0.5, patience: 0}}", "evaluation.every=2", NULL};
    spec_job_t *job = whole_run(set);

    assert_true(run_point(&whole, "learning_rate", 4) == 1e-30);
    assert_true(run_point(&whole, "learning_rate", 5) == 0.5e-30);
    assert_true(run_point(&whole, "learning_rate", 11) == 0.0625e-30);
    assert_resumable(job);

    spec_job_free(job);
}

static void the_average_is_evaluated_saved_and_resumed(void **state)
{
    (void)state;
    char plain[HASH_SHA256_HEX_SIZE];
    spec_job_t *job = whole_run(NULL);
    memcpy(plain, whole.result.parameters_sha256, sizeof(plain));
    double loss = run_point(&whole, "validation_loss", 12);
    run_folder_clear();
    spec_job_free(job);

    const char *const set[] = {"training.average={decay: 0.5}", NULL};
    job = whole_run(set);

    assert_string_equal(whole.result.parameters_sha256, plain); /* training itself is what it was */
    assert_true(run_point(&whole, "validation_loss", 12) != loss);
    assert_int_equal(access(run_path("checkpoints/step-00000012/average.safetensors"), F_OK), 0);
    assert_resumable(job);
    spec_job_free(job);

    const char *const unused[] = {"training.average={decay: 0.5, evaluate: false, save: false}", NULL};
    job = whole_run(unused);
    assert_true(run_point(&whole, "validation_loss", 12) == loss);
    assert_int_equal(access(run_path("checkpoints/step-00000012/average.safetensors"), F_OK), -1);
    spec_job_free(job);
}

static void groups_pick_parameters_by_name(void **state)
{
    (void)state;
    const char *const biases[] = {"training.groups=[{match: \"*weight\", freeze: true}]", NULL};
    spec_job_t *job = whole_run(biases);
    char hex[HASH_SHA256_HEX_SIZE];
    memcpy(hex, whole.result.parameters_sha256, sizeof(hex));
    double norm = run_point(&whole, "gradient_norm", 1);
    run_folder_clear();
    spec_job_free(job);

    const char *const weights[] = {"training.groups=[{match: \"*bias\", freeze: true}, {match: \"*\", lr_scale: 0.5}]",
                                   NULL};
    job = whole_run(weights);
    assert_string_not_equal(whole.result.parameters_sha256, hex);
    double other = run_point(&whole, "gradient_norm", 1);
    assert_resumable(job);
    spec_job_free(job);

    const char *const clipped[] = {"training.clip_value=0.001", NULL};
    job = whole_run(NULL);
    double both = run_point(&whole, "gradient_norm", 1); /* what is frozen has no gradient */
    assert_true(fabs(both * both - norm * norm - other * other) < 1e-5 * both * both);
    run_folder_clear();
    spec_job_free(job);
    job = whole_run(clipped);
    assert_in_range(run_point(&whole, "gradient_norm", 12) * 1e6, 1, 0.001 * 1e6 * sqrt(2000));
    run_folder_clear();
    spec_job_free(job);

    const char *const none[] = {"training.groups=[{match: \"nothing.*\"}]", NULL};
    job = run_job(MODEL_MLP, 4, none);
    run_ranks(job, 1, &whole);
    assert_int_equal(whole.status, ST_ERR_INVAL);
    assert_string_equal(whole.message, "training.optimizer: no parameter's name fits the pattern \"nothing.*\"");
    spec_job_free(job);

    const char *const all[] = {"training.groups=[{match: \"*\", freeze: true}]", NULL};
    job = run_job(MODEL_MLP, 4, all);
    run_ranks(job, 1, &whole);
    assert_int_equal(whole.status, ST_ERR_INVAL);
    assert_string_equal(whole.message, "training.optimizer: all 4 parameters are frozen: nothing is left to learn");
    spec_job_free(job);
}

static void every_loss_of_the_yaml_falls(void **state)
{
    (void)state;
    static const char *const losses[] = {"mse",         "l1",          "smooth_l1", "huber", "bce_with_logits",
                                         "poisson_nll", "soft_margin", "nll",       "focal", "multi_margin"};
    for (size_t i = 0; i < sizeof(losses) / sizeof(losses[0]); i++) {
        char loss[64];
        (void)snprintf(loss, sizeof(loss), "training.loss=%s", losses[i]);
        const char *const set[] = {loss, "training.steps=20", NULL};
        spec_job_t *job = whole_run(set);
        if (!(run_point(&whole, "loss", 20) < run_point(&whole, "loss", 1)) ||
            !(run_point(&whole, "validation_loss", 20) < run_point(&whole, "validation_loss", 5))) {
            fail_msg("%s: loss %g at first, %g at last", loss, run_point(&whole, "loss", 1),
                     run_point(&whole, "loss", 20));
        }
        run_folder_clear();
        spec_job_free(job);
    }
}

/* The sigmoid inside the loss or in the model: the same training but for rounding. */
static void a_loss_of_probabilities_trains_as_that_of_logits(void **state)
{
    (void)state;
    static const char head[] = "[flatten, {linear: {out: 16}}, relu, {linear: {out: 5}}";
    static const char *const tails[] = {"]", ", sigmoid]"};
    static const char *const losses[] = {"training.loss=bce_with_logits", "training.loss=bce"};
    double loss[2];
    for (int i = 0; i < 2; i++) {
        char model[128];
        const char *const set[] = {losses[i], NULL};
        (void)snprintf(model, sizeof(model), "%s%s", head, tails[i]);
        spec_job_t *job = run_job(model, 2, set);
        memset(&whole, 0, sizeof(whole));
        run_ok(job, 1, &whole);
        loss[i] = run_point(&whole, "loss", 12);
        run_folder_clear();
        spec_job_free(job);
    }
    assert_true(fabs(loss[0] - loss[1]) < 1e-4 * loss[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_optimizer_trains_and_resumes),
        TEST(schedules_of_the_yaml_are_the_engines),
        TEST(a_plateau_reduces_the_rate_and_resumes),
        TEST(the_average_is_evaluated_saved_and_resumed),
        TEST(groups_pick_parameters_by_name),
        TEST(every_loss_of_the_yaml_falls),
        TEST(a_loss_of_probabilities_trains_as_that_of_logits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
