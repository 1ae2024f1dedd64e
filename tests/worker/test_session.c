/* SPDX-License-Identifier: Apache-2.0 */
/* The bits of the trained parameters don't depend on the number of ranks; what a session tells; what it refuses. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/worker/session_runs.h"
#include "worker/files.h"

/* Parameters and buffers of the last checkpoint. */
static void assert_same_end(const run_t *a, const run_t *b)
{
    assert_int_equal(a->result.step, b->result.step);
    assert_string_equal(a->result.parameters_sha256, b->result.parameters_sha256);
    assert_true(a->n_checkpoints > 0 && b->n_checkpoints > 0);
    const wrk_checkpoint_t *x = &a->checkpoints[a->n_checkpoints - 1];
    const wrk_checkpoint_t *y = &b->checkpoints[b->n_checkpoints - 1];
    assert_string_equal(x->parameters_sha256, a->result.parameters_sha256);
    assert_string_equal(x->model_sha256, y->model_sha256);
    assert_string_equal(x->optimizer_sha256, y->optimizer_sha256);
}

static void assert_same_curves(const run_t *a, const run_t *b)
{
    static const char *const NAMES[] = {"loss", "gradient_norm"};
    for (int64_t step = 1; step <= 12; step++) {
        for (int i = 0; i < 2; i++) {
            assert_true(run_point(a, NAMES[i], step) == run_point(b, NAMES[i], step));
        }
    }
    assert_true(run_point(a, "validation_loss", 12) == run_point(b, "validation_loss", 12));
    assert_true(run_point(a, "validation_accuracy", 12) == run_point(b, "validation_accuracy", 12));
}

static void layouts_compare(const char *model, int microbatches, const int *sizes)
{
    static run_t first;
    static run_t other;
    spec_job_t *job = run_job(model, microbatches, NULL);
    memset(&first, 0, sizeof(first));
    run_ok(job, sizes[0], &first);
    assert_int_equal(first.result.outcome, WRK_OUTCOME_SUCCEEDED);
    assert_int_equal(first.result.step, 12);
    for (int i = 1; sizes[i] > 0; i++) {
        run_folder_clear();
        memset(&other, 0, sizeof(other));
        run_ok(job, sizes[i], &other);
        assert_same_end(&first, &other);
        assert_same_curves(&first, &other);
    }
    spec_job_free(job);
}

static void an_mlp_trains_to_the_same_bits_on_1_2_and_4_ranks(void **state)
{
    (void)state;
    layouts_compare(MODEL_MLP, 4, (const int[]){1, 2, 4, 0});
}

static void a_cnn_with_batch_norm_and_dropout_trains_to_the_same_bits_on_1_2_and_4_ranks(void **state)
{
    (void)state;
    layouts_compare(MODEL_CNN, 4, (const int[]){1, 2, 4, 0});
}

static void a_gpt_trains_to_the_same_bits_on_1_2_and_4_ranks(void **state)
{
    (void)state;
    layouts_compare(MODEL_GPT, 4, (const int[]){1, 2, 4, 0});
}

static void an_lstm_trains_to_the_same_bits_on_1_2_and_4_ranks(void **state)
{
    (void)state;
    layouts_compare(MODEL_LSTM, 4, (const int[]){1, 2, 4, 0});
}

static void a_llama_with_dropped_weights_trains_to_the_same_bits_on_1_2_and_4_ranks(void **state)
{
    (void)state;
    layouts_compare(MODEL_LLAMA, 4, (const int[]){1, 2, 4, 0});
}

static void three_ranks_with_six_microbatches_give_the_bits_of_one(void **state)
{
    (void)state;
    layouts_compare(MODEL_CNN, 6, (const int[]){1, 3, 4, 0});
}

static void another_number_of_microbatches_is_another_job(void **state)
{
    (void)state;
    static run_t a;
    static run_t b;
    spec_job_t *two = run_job(MODEL_MLP, 2, NULL);
    spec_job_t *four = run_job(MODEL_MLP, 4, NULL);
    memset(&a, 0, sizeof(a));
    memset(&b, 0, sizeof(b));
    run_ok(two, 1, &a);
    run_folder_clear();
    run_ok(four, 1, &b);
    /* a test that compares hashes must be able to see a difference */
    assert_string_not_equal(a.result.parameters_sha256, b.result.parameters_sha256);
    spec_job_free(two);
    spec_job_free(four);
}

static void training_makes_the_loss_smaller_and_is_told_as_points(void **state)
{
    (void)state;
    static run_t run;
    const char *const set[] = {"training.steps=40", "training.log_every=4", NULL};
    spec_job_t *job = run_job(MODEL_MLP, 2, set);
    memset(&run, 0, sizeof(run));

    run_ok(job, 2, &run);

    assert_int_equal(run.steps_total, 40);
    assert_true(run_point(&run, "loss", 40) < 0.7 * run_point(&run, "loss", 1));
    assert_true(run_point(&run, "validation_accuracy", 40) > 0.5);
    assert_true(run_point(&run, "training_accuracy", 40) <= 1);
    assert_true(run_point(&run, "samples_per_second", 8) > 0);
    assert_true(run_point(&run, "step_seconds", 8) > 0);
    assert_true(run_point(&run, "gradient_norm", 8) > 0);
    /* linear warm-up over 3 steps: lr (step + 1) / 4 at the first */
    assert_true(fabs(run_point(&run, "learning_rate", 1) - 0.01 / 4) < 1e-12);
    for (int i = 0; i < run.n_points; i++) {
        bool is_evaluation = strncmp(run.points[i].name, "validation_", 11) == 0;
        int64_t step = run.points[i].step;
        assert_true(is_evaluation ? step % 5 == 0 : step % 4 == 0 || step == 1);
    }
    spec_job_free(job);
}

static void reading_ahead_changes_no_bit(void **state)
{
    (void)state;
    static run_t run;
    char expected[HASH_SHA256_HEX_SIZE] = "";
    const char *const settings[][3] = {{"data.prefetch.threads=0"},
                                       {"data.prefetch.threads=1", "data.prefetch.batches=1"},
                                       {"data.prefetch.threads=3", "data.prefetch.batches=5"}};
    for (int i = 0; i < 3; i++) {
        const char *const set[] = {settings[i][0], settings[i][1], NULL};
        spec_job_t *job = run_job(MODEL_MLP, 2, set);
        memset(&run, 0, sizeof(run));
        run_ok(job, 1 + i % 2, &run);
        if (i == 0) {
            memcpy(expected, run.result.parameters_sha256, sizeof(expected));
        }
        assert_string_equal(run.result.parameters_sha256, expected);
        spec_job_free(job);
        run_folder_clear();
    }
}

static void text_is_sampled_at_the_end(void **state)
{
    (void)state;
    static run_t a;
    static run_t b;
    const char *const set[] = {"generate.prompt=abc", "generate.tokens=40", "generate.top_k=5", NULL};
    spec_job_t *job = run_job(MODEL_GPT, 2, set);
    memset(&a, 0, sizeof(a));
    memset(&b, 0, sizeof(b));

    run_ok(job, 1, &a);
    run_folder_clear();
    run_ok(job, 2, &b);

    assert_int_equal(strlen(a.text), 43);
    assert_memory_equal(a.text, "abc", 3);
    assert_string_equal(a.text, b.text);
    spec_job_free(job);
}

static void without_a_prompt_text_begins_with_what_the_data_has(void **state)
{
    (void)state;
    static run_t run;
    const char *const set[] = {"generate.tokens=4", NULL};
    spec_job_t *job = run_job(MODEL_GPT, 2, set); /* its data has no line break */
    memset(&run, 0, sizeof(run));

    run_ok(job, 2, &run);

    assert_int_equal(strlen(run.text), 5);
    assert_int_equal(run.text[0], ' ');
    spec_job_free(job);
}

static void a_prompt_that_the_data_cannot_spell_is_refused_at_the_start(void **state)
{
    (void)state;
    static run_t run;
    const char *const set[] = {"generate.prompt=ab\xC3\xA9", "generate.tokens=4", NULL};
    spec_job_t *job = run_job(MODEL_GPT, 2, set);
    memset(&run, 0, sizeof(run));

    run_ranks(job, 2, &run);

    assert_int_equal(run.status, ST_ERR_DATA);
    assert_int_equal(run.other_status, ST_ERR_DATA);
    assert_int_equal(run.n_points, 0);
    assert_string_equal(run.message, "generate.prompt: offset 2 of the text: character U+00E9 does not occur in the "
                                     "training data");
    spec_job_free(job);
}

static void squared_error_trains_too(void **state)
{
    (void)state;
    static run_t run;
    const char *const set[] = {"training.loss=mse", "training.steps=30", NULL};
    spec_job_t *job = run_job(MODEL_MLP, 2, set);
    memset(&run, 0, sizeof(run));

    run_ok(job, 2, &run);

    assert_true(run_point(&run, "loss", 30) < run_point(&run, "loss", 1));
    spec_job_free(job);
}

static void epochs_say_how_many_steps_there_are(void **state)
{
    (void)state;
    static run_t run;
    spec_job_t *job = run_job(MODEL_MLP, 2, NULL);
    memset(&run, 0, sizeof(run));
    job->training->has_steps = 0;
    job->training->has_epochs = 1;
    job->training->epochs = 3;

    run_ok(job, 1, &run);

    assert_int_equal(run.result.step, 3 * (96 / 12));
    spec_job_free(job);
}

static void a_loss_that_is_not_finite_is_an_error_for_good(void **state)
{
    (void)state;
    static run_t run;
    const char *const set[] = {"training.optimizer.adamw.lr=1e30", "training.clip_norm=0", NULL};
    spec_job_t *job = run_job(MODEL_MLP, 2, set);
    memset(&run, 0, sizeof(run));

    run_ranks(job, 2, &run);

    assert_int_equal(run.status, ST_ERR_NONFINITE);
    assert_int_equal(run.other_status, ST_ERR_NONFINITE);
    assert_true(wrk_status_is_permanent(run.status));
    assert_non_null(strstr(run.message, " of step "));
    assert_non_null(strstr(run.message, " is "));
    spec_job_free(job);
}

static void anomaly_mode_names_the_layer_and_op_that_diverged(void **state)
{
    (void)state;
    static run_t run;
    const char *const set[] = {"training.optimizer.adamw.lr=1e30", "training.clip_norm=0", "training.anomaly=true",
                               NULL};
    spec_job_t *job = run_job(MODEL_MLP, 2, set);
    memset(&run, 0, sizeof(run));

    run_ranks(job, 2, &run);

    assert_int_equal(run.status, ST_ERR_NONFINITE);
    assert_int_equal(run.other_status, ST_ERR_NONFINITE);
    assert_true(wrk_status_is_permanent(run.status));
    /* the first step moved the weights by some 1e29: products of two layers' are out of range */
    assert_non_null(strstr(run.message, "step 2, microbatch "));
    assert_non_null(strstr(run.message, "forward of linear made "));
    assert_non_null(strstr(run.message, " of its output [6, 5], inputs [6, 16], [5, 16], [5]; in 4 (linear) at "));
    spec_job_free(job);
}

static void anomaly_mode_changes_no_bits(void **state)
{
    (void)state;
    static run_t plain;
    static run_t watched;
    const char *const set[] = {"training.anomaly=true", NULL};
    spec_job_t *job = run_job(MODEL_GPT, 2, NULL);
    spec_job_t *other = run_job(MODEL_GPT, 2, set);
    memset(&plain, 0, sizeof(plain));
    memset(&watched, 0, sizeof(watched));

    run_ok(job, 1, &plain);
    run_folder_clear();
    run_ok(other, 1, &watched);

    assert_same_end(&plain, &watched);
    spec_job_free(job);
    spec_job_free(other);
}

/* The bits of a model don't depend on which of its groups are checkpointed. */
static void checkpoint_compare(const char *plain_model, const char *model, const char *microbatches)
{
    static run_t plain;
    static run_t checkpointed;
    const char *const set[] = {microbatches, NULL};
    spec_job_t *job = run_job(plain_model, 2, set);
    spec_job_t *other = run_job(model, 2, set);
    memset(&plain, 0, sizeof(plain));
    memset(&checkpointed, 0, sizeof(checkpointed));

    run_ok(job, 1, &plain);
    run_folder_clear();
    run_ok(other, 2, &checkpointed);

    assert_same_end(&plain, &checkpointed);
    assert_same_curves(&plain, &checkpointed);
    run_folder_clear();
    spec_job_free(job);
    spec_job_free(other);
}

static void checkpointed_groups_change_no_bits(void **state)
{
    (void)state;
    static const char cnn[] =
        "[{sequential: {checkpoint: %s, layers: [{conv2d: {out: 4, kernel: [3], padding: [1]}}, "
        "batch_norm2d, relu, {residual: {checkpoint: %s, layers: [{conv2d: {out: 4, kernel: [3], "
        "padding: [1]}}, batch_norm2d, {dropout: {p: 0.2}}]}}]}}, {repeat: {times: 2, checkpoint: "
        "%s, layers: [relu, {conv2d: {out: 4, kernel: [1]}}]}}, flatten, {linear: {out: 5}}]";
    char plain[640];
    char checkpointed[640];
    (void)snprintf(plain, sizeof(plain), cnn, "false", "false", "false");
    (void)snprintf(checkpointed, sizeof(checkpointed), cnn, "true", "true", "true");

    checkpoint_compare(plain, checkpointed, "training.microbatches=4");
}

static void labels_that_the_model_has_no_output_for_are_an_error_for_good(void **state)
{
    (void)state;
    static run_t run;
    spec_job_t *job = run_job("[flatten, {linear: {out: 3}}]", 2, NULL);
    memset(&run, 0, sizeof(run));

    run_ranks(job, 2, &run);

    assert_int_equal(run.status, ST_ERR_DATA);
    assert_true(wrk_status_is_permanent(run.status));
    assert_non_null(strstr(run.message, "train-labels"));
    spec_job_free(job);
}

static void a_missing_data_file_is_an_error_of_all_ranks(void **state)
{
    (void)state;
    static run_t run;
    char path[256];
    spec_job_t *job = run_job(MODEL_MLP, 2, NULL);
    memset(&run, 0, sizeof(run));
    (void)snprintf(path, sizeof(path), "%s/train-images", fixture_folder());
    assert_ok(wrk_tree_remove(path));

    run_ranks(job, 2, &run);

    assert_int_equal(run.status, ST_ERR_NOT_FOUND);
    assert_int_equal(run.other_status, ST_ERR_NOT_FOUND);
    assert_non_null(strstr(run.message, "train-images"));
    spec_job_free(job);
}

static void a_device_that_is_not_there_is_an_error_of_all_ranks(void **state)
{
    (void)state;
    spec_job_t *job = run_job(MODEL_MLP, 2, (const char *const[]){"resources.device=cuda", NULL});
    static run_t run;
    memset(&run, 0, sizeof(run));

    run_ranks(job, 2, &run);

    assert_int_equal(run.status, ST_ERR_UNSUPPORTED);
    assert_int_equal(run.other_status, ST_ERR_UNSUPPORTED);
    assert_string_equal(run.message, "resources.device: device cuda: this build has no kernels for it; device "
                                     "cpu is there");
    spec_job_free(job);
}

static void an_output_of_the_wrong_shape_is_refused(void **state)
{
    (void)state;
    static run_t run;
    spec_job_t *job = run_job("[{conv2d: {out: 4, kernel: [3]}}]", 2, NULL);
    memset(&run, 0, sizeof(run));

    run_ranks(job, 1, &run);

    assert_int_equal(run.status, ST_ERR_SHAPE);
    assert_non_null(strstr(run.message, "[1, 4, 6, 6]"));
    spec_job_free(job);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_mlp_trains_to_the_same_bits_on_1_2_and_4_ranks),
        TEST(a_cnn_with_batch_norm_and_dropout_trains_to_the_same_bits_on_1_2_and_4_ranks),
        TEST(a_gpt_trains_to_the_same_bits_on_1_2_and_4_ranks),
        TEST(an_lstm_trains_to_the_same_bits_on_1_2_and_4_ranks),
        TEST(a_llama_with_dropped_weights_trains_to_the_same_bits_on_1_2_and_4_ranks),
        TEST(three_ranks_with_six_microbatches_give_the_bits_of_one),
        TEST(another_number_of_microbatches_is_another_job),
        TEST(training_makes_the_loss_smaller_and_is_told_as_points),
        TEST(reading_ahead_changes_no_bit),
        TEST(text_is_sampled_at_the_end),
        TEST(without_a_prompt_text_begins_with_what_the_data_has),
        TEST(a_prompt_that_the_data_cannot_spell_is_refused_at_the_start),
        TEST(squared_error_trains_too),
        TEST(epochs_say_how_many_steps_there_are),
        TEST(a_loss_that_is_not_finite_is_an_error_for_good),
        TEST(anomaly_mode_names_the_layer_and_op_that_diverged),
        TEST(anomaly_mode_changes_no_bits),
        TEST(checkpointed_groups_change_no_bits),
        TEST(labels_that_the_model_has_no_output_for_are_an_error_for_good),
        TEST(a_missing_data_file_is_an_error_of_all_ranks),
        TEST(a_device_that_is_not_there_is_an_error_of_all_ranks),
        TEST(an_output_of_the_wrong_shape_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
