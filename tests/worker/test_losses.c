/* SPDX-License-Identifier: Apache-2.0 */
/* Losses of the YAML with their parameters: they train, on any number of ranks alike, and what doesn't fit is named. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "tests/worker/session_runs.h"

static run_t run;
static const char PROBABILITIES[] = "[flatten, {linear: {out: 16}}, relu, {linear: {out: 5}}, sigmoid]";
static const char LOG_PROBABILITIES[] = "[flatten, {linear: {out: 16}}, relu, {linear: {out: 5}}, log_softmax]";
static const char PLAIN[] = "[flatten, {linear: {out: 16}}, relu, {linear: {out: 5}}]";
static const char DOUBLE[] = "[flatten, {linear: {out: 16}}, relu, {linear: {out: 10}}, sigmoid]";

static spec_job_t *loss_job(const char *model, const char *loss)
{
    char set[512];
    (void)snprintf(set, sizeof(set), "training.loss=%s", loss);
    return run_job(model, 4, (const char *const[]){set, "training.steps=20", NULL});
}

static void losses_with_parameters_fall_on_any_number_of_ranks(void **state)
{
    (void)state;
    static const struct {
        const char *model, *loss;
    } cases[] = {
        {PLAIN, "{cross_entropy: {weight: [1, 2, 0.5, 1, 3], label_smoothing: 0.1}}"},
        {PLAIN, "{cross_entropy: {ignore_index: 2}}"},
        {PLAIN, "{focal: {alpha: 0.5, gamma: 1}}"},
        {PLAIN, "{huber: {delta: 0.3}}"},
        {PLAIN, "{smooth_l1: {beta: 0.3}}"},
        {PLAIN, "{bce_with_logits: {pos_weight: 2, weight: [1, 2, 1, 2, 1]}}"},
        {PLAIN, "{multi_margin: {p: 2, margin: 0.5, weight: [1, 2, 1, 2, 1]}}"},
        {PLAIN, "{poisson_nll: {full: true}}"},
        {PLAIN, "{hinge_embedding: {margin: 2}}"},
        {PLAIN, "[{loss: cross_entropy}, {loss: {huber: {delta: 2}}, weight: 0.1}]"},
        {PLAIN, "{sum: [{loss: mse, outputs: [0, 5]}, {loss: {cross_entropy: {ignore_index: 1}}}]}"},
        {PROBABILITIES, "{bce: {weight: [1, 2, 1, 2, 1]}}"},
        {PROBABILITIES, "{dice: {epsilon: 0.5}}"},
        {LOG_PROBABILITIES, "{nll: {weight: [1, 2, 1, 2, 1], ignore_index: 4}}"},
        {LOG_PROBABILITIES, "{kl_div: {batch_mean: true}}"},
        {DOUBLE, "{gaussian_nll: {epsilon: 0.01}}"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        spec_job_t *job = loss_job(cases[i].model, cases[i].loss[0] == '[' ? "mse" : cases[i].loss);
        if (cases[i].loss[0] == '[') { /* the list alone */
            char set[512];
            spec_job_free(job);
            (void)snprintf(set, sizeof(set), "training.loss.sum=%s", cases[i].loss);
            job = run_job(cases[i].model, 4, (const char *const[]){set, "training.steps=20", NULL});
        }
        run_layouts(job, (const int[]){1, 4, 0}, &run);
        if (!(run_point(&run, "loss", 20) < run_point(&run, "loss", 1)) ||
            !(run_point(&run, "validation_loss", 20) < run_point(&run, "validation_loss", 5))) {
            fail_msg("%s: loss %g at first, %g at last", cases[i].loss, run_point(&run, "loss", 1),
                     run_point(&run, "loss", 20));
        }
        spec_job_free(job);
    }
}

static void what_is_ignored_counts_neither_in_the_loss_nor_as_hit(void **state)
{
    (void)state;
    /* every label is ignored but one: the model soon says it always */
    spec_job_t *job = run_job(
        PLAIN, 4,
        (const char *const[]){"training.loss={cross_entropy: {weight: [0, 0, 1, 0, 0]}}", "training.steps=30", NULL});
    memset(&run, 0, sizeof(run));

    run_ok(job, 2, &run);

    assert_true(run_point(&run, "loss", 30) < 0.3 * run_point(&run, "loss", 1));
    run_folder_clear();
    spec_job_free(job);
}

static void what_does_not_fit_is_named_at_the_start(void **state)
{
    (void)state;
    static const struct {
        const char *model, *loss, *message;
    } cases[] = {
        {PLAIN, "{cross_entropy: {weight: [1, 2]}}", "training.loss: cross_entropy: 2 weights for 5 outputs"},
        {PLAIN, "{sum: [{loss: mse}, {loss: l1, outputs: [3, 9]}]}",
         "training.loss.sum[1]: l1: [3, 9) is beyond the 5 that there are"},
        {PLAIN, "gaussian_nll", "training.loss: gaussian_nll: 5 outputs: as many means as variances are needed"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        spec_job_t *job = loss_job(cases[i].model, cases[i].loss);
        memset(&run, 0, sizeof(run));
        run_ranks(job, 2, &run);
        assert_int_equal(run.status, ST_ERR_SHAPE);
        assert_string_equal(run.message, cases[i].message);
        spec_job_free(job);
    }
}

static void a_fused_loss_trains_as_the_other_on_any_number_of_ranks(void **state)
{
    (void)state;
    double loss[2];
    for (int i = 0; i < 2; i++) {
        spec_job_t *job = run_job(
            MODEL_GPT, 4, (const char *const[]){i == 0 ? "training.fused_loss=on" : "training.fused_loss=off", NULL});
        run_layouts(job, (const int[]){1, 4, 0}, &run);
        loss[i] = run_point(&run, "validation_loss", 12);
        spec_job_free(job);
    }
    assert_true(fabs(loss[0] - loss[1]) <= 1e-5 * loss[1]);

    spec_job_t *job = run_job(PLAIN, 4, (const char *const[]){"training.fused_loss=on", NULL});
    memset(&run, 0, sizeof(run));
    run_ranks(job, 1, &run);
    assert_int_equal(run.status, ST_ERR_INVAL);
    assert_string_equal(run.message, "training.fused_loss: the model's last layer isn't linear without a bias");
    spec_job_free(job);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(losses_with_parameters_fall_on_any_number_of_ranks),
        TEST(what_is_ignored_counts_neither_in_the_loss_nor_as_hit),
        TEST(what_does_not_fit_is_named_at_the_start),
        TEST(a_fused_loss_trains_as_the_other_on_any_number_of_ranks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
