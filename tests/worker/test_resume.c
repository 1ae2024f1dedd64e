/* SPDX-License-Identifier: Apache-2.0 */
/* A job that was killed, paused or resized goes on to the bits of the undisturbed one; damaged checkpoints are stepped
 * over; stale attempts are kept out. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "tests/worker/session_runs.h"
#include "worker/files.h"

static run_t whole; /* the undisturbed run */
static run_t part;
static run_t rest;

/* A job, its undisturbed run in `whole`, and an empty folder. */
static spec_job_t *job_prepare(const char *model, const char *const *set)
{
    spec_job_t *job = run_job(model, 4, set);
    memset(&whole, 0, sizeof(whole));
    memset(&part, 0, sizeof(part));
    memset(&rest, 0, sizeof(rest));
    run_ok(job, 2, &whole);
    run_folder_clear();
    return job;
}

/* Runs up to a step, as if killed there. */
static void part_run(const spec_job_t *job, int n_ranks, int64_t last_step)
{
    part.last_step = last_step;
    run_ranks(job, n_ranks, &part);
    assert_int_equal(part.status, ST_ERR_CANCELLED);
}

static void rest_run(const spec_job_t *job, int n_ranks)
{
    rest.attempt = 2;
    run_ok(job, n_ranks, &rest);
    assert_int_equal(rest.result.outcome, WRK_OUTCOME_SUCCEEDED);
    assert_int_equal(rest.result.step, 12);
    assert_string_equal(rest.result.parameters_sha256, whole.result.parameters_sha256);
    assert_string_equal(rest.checkpoints[rest.n_checkpoints - 1].model_sha256,
                        whole.checkpoints[whole.n_checkpoints - 1].model_sha256);
    assert_string_equal(rest.checkpoints[rest.n_checkpoints - 1].optimizer_sha256,
                        whole.checkpoints[whole.n_checkpoints - 1].optimizer_sha256);
}

/* First step that a run reported. */
static int64_t first_step(const run_t *run)
{
    for (int i = 0; i < run->n_points; i++) {
        if (strcmp(run->points[i].name, "loss") == 0) {
            return run->points[i].step;
        }
    }
    return 0;
}

static void a_killed_job_goes_on_from_its_checkpoint_to_the_same_bits(void **state)
{
    (void)state;
    const char *const models[] = {MODEL_CNN, MODEL_GPT};
    for (int i = 0; i < 2; i++) {
        spec_job_t *job = job_prepare(models[i], NULL);
        part_run(job, 2, 8);

        rest_run(job, 2);

        assert_int_equal(first_step(&rest), 6);
        run_folder_clear();
        spec_job_free(job);
    }
}

static void a_job_killed_before_its_first_checkpoint_starts_anew(void **state)
{
    (void)state;
    spec_job_t *job = job_prepare(MODEL_MLP, NULL);
    part_run(job, 2, 3);

    rest_run(job, 2);

    assert_int_equal(first_step(&rest), 1);
    spec_job_free(job);
}

static void a_job_goes_on_with_another_number_of_ranks(void **state)
{
    (void)state;
    spec_job_t *job = job_prepare(MODEL_CNN, NULL);
    part_run(job, 4, 8);
    rest_run(job, 1);
    run_folder_clear();

    memset(&rest, 0, sizeof(rest));
    part_run(job, 1, 8);
    rest_run(job, 3);
    spec_job_free(job);
}

static void a_paused_job_leaves_at_the_same_step_on_all_ranks_and_goes_on(void **state)
{
    (void)state;
    spec_job_t *job = job_prepare(MODEL_MLP, NULL);
    part.command = WRK_COMMAND_PAUSE;
    part.command_step = 7;

    run_ok(job, 3, &part);

    assert_int_equal(part.result.outcome, WRK_OUTCOME_PAUSED);
    assert_int_equal(part.other_result.outcome, WRK_OUTCOME_PAUSED);
    assert_int_equal(part.result.step, 7);
    assert_int_equal(part.other_result.step, 7);
    assert_int_equal(part.checkpoints[part.n_checkpoints - 1].step, 7);
    rest_run(job, 2);
    assert_int_equal(first_step(&rest), 8);
    spec_job_free(job);
}

static void a_stopped_job_leaves_without_a_checkpoint(void **state)
{
    (void)state;
    spec_job_t *job = job_prepare(MODEL_MLP, NULL);
    part.command = WRK_COMMAND_STOP;
    part.command_step = 7;

    run_ok(job, 2, &part);

    assert_int_equal(part.result.outcome, WRK_OUTCOME_CANCELLED);
    assert_int_equal(part.result.step, 7);
    assert_int_equal(part.checkpoints[part.n_checkpoints - 1].step, 5);
    spec_job_free(job);
}

static void a_checkpoint_that_was_asked_for_is_written_and_training_goes_on(void **state)
{
    (void)state;
    const char *const set[] = {"checkpoint.keep=10", NULL};
    spec_job_t *job = job_prepare(MODEL_MLP, set);
    part.command = WRK_COMMAND_CHECKPOINT;
    part.command_step = 7;

    run_ok(job, 2, &part);

    assert_int_equal(part.result.outcome, WRK_OUTCOME_SUCCEEDED);
    assert_string_equal(part.result.parameters_sha256, whole.result.parameters_sha256);
    assert_int_equal(part.n_checkpoints, 4);
    assert_int_equal(part.checkpoints[1].step, 7);
    spec_job_free(job);
}

static void old_checkpoints_beyond_keep_are_removed(void **state)
{
    (void)state;
    const char *const set[] = {"checkpoint.every=2", "checkpoint.keep=3", NULL};
    spec_job_t *job = run_job(MODEL_MLP, 4, set);
    memset(&whole, 0, sizeof(whole));

    run_ok(job, 1, &whole);

    assert_int_equal(whole.n_checkpoints, 3);
    int n_entries = 0;
    DIR *dir = opendir(run_path("checkpoints"));
    assert_non_null(dir);
    for (const struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        n_entries += entry->d_name[0] != '.';
        assert_true(strncmp(entry->d_name, ".tmp", 4) != 0);
    }
    (void)closedir(dir);
    assert_int_equal(n_entries, 3);
    assert_int_equal(whole.checkpoints[0].step, 8);
    assert_int_equal(whole.checkpoints[2].step, 12);
    spec_job_free(job);
}

static void byte_flip(const char *name)
{
    char byte = 0;
    int fd = open(run_path(name), O_RDWR);
    assert_true(fd >= 0);
    off_t middle = lseek(fd, 0, SEEK_END) - 20;
    assert_int_equal(pread(fd, &byte, 1, middle), 1);
    byte = (char)(byte ^ 1);
    assert_int_equal(pwrite(fd, &byte, 1, middle), 1);
    (void)close(fd);
}

static void a_corrupt_newest_checkpoint_is_stepped_over_and_told(void **state)
{
    (void)state;
    const char *const set[] = {"checkpoint.every=3", NULL};
    spec_job_t *job = job_prepare(MODEL_CNN, set);
    part_run(job, 2, 8);
    byte_flip("checkpoints/step-00000006/model.safetensors");

    rest_run(job, 2);

    assert_int_equal(rest.n_notes, 1);
    assert_non_null(strstr(rest.notes[0], "checkpoint step-6 is corrupt (model.safetensors: SHA-256 is "));
    assert_non_null(strstr(rest.notes[0], "); falling back to step-3"));
    assert_int_equal(first_step(&rest), 4);
    spec_job_free(job);
}

static void when_every_checkpoint_is_corrupt_the_job_starts_anew(void **state)
{
    (void)state;
    const char *const set[] = {"checkpoint.every=3", NULL};
    spec_job_t *job = job_prepare(MODEL_MLP, set);
    part_run(job, 1, 7);
    byte_flip("checkpoints/step-00000003/optimizer.safetensors");
    assert_int_equal(truncate(run_path("checkpoints/step-00000006/manifest.json"), 40), 0);

    rest_run(job, 1);

    assert_int_equal(rest.n_notes, 2);
    assert_non_null(strstr(rest.notes[0], "manifest.json"));
    assert_non_null(strstr(rest.notes[1], "falling back to the start"));
    assert_int_equal(first_step(&rest), 1);
    spec_job_free(job);
}

static void a_checkpoint_of_other_numerics_is_refused_unless_allowed(void **state)
{
    (void)state;
    spec_job_t *job = job_prepare(MODEL_MLP, NULL);
    part_run(job, 1, 6);
    char *text = NULL;
    assert_ok(wrk_file_read(run_path("checkpoints/step-00000005/manifest.json"), 65536, &text, NULL));
    char *place = strstr(text, "\"fingerprint\": \"cpu");
    assert_non_null(place);
    place[strlen("\"fingerprint\": \"")] = 'x'; /* cpu → xpu */
    assert_ok(wrk_file_replace(run_path("checkpoints/step-00000005/manifest.json"), text, strlen(text)));
    mem_free(text);

    rest.attempt = 2;
    run_ranks(job, 2, &rest);
    assert_int_equal(rest.status, ST_ERR_STATE);
    assert_int_equal(rest.other_status, ST_ERR_STATE);
    assert_true(wrk_status_is_permanent(rest.status));
    assert_non_null(strstr(rest.message, "checkpoint step-5 was made under the numerics \"xpu"));

    memset(&rest, 0, sizeof(rest));
    job->checkpoint->has_allow_fingerprint_change = 1;
    job->checkpoint->allow_fingerprint_change = 1;
    rest_run(job, 2);
    assert_non_null(strstr(rest.notes[0], "the numerics changed from \"xpu"));
    spec_job_free(job);
}

static void a_checkpoint_of_another_model_is_refused_with_the_tensor(void **state)
{
    (void)state;
    spec_job_t *job = job_prepare(MODEL_MLP, NULL);
    spec_job_t *other =
        run_job("[flatten, {linear: {out: 12}}, relu, {dropout: {p: 0.25}}, {linear: {out: 5}}]", 4, NULL);
    part_run(job, 1, 6);

    rest.attempt = 2;
    run_ranks(other, 1, &rest);

    assert_int_equal(rest.status, ST_ERR_STATE);
    assert_non_null(strstr(rest.message, "[12, 64] in the model, [16, 64] f32 in the checkpoint"));
    spec_job_free(job);
    spec_job_free(other);
}

static void a_stale_attempt_is_kept_out(void **state)
{
    (void)state;
    spec_job_t *job = job_prepare(MODEL_MLP, NULL);
    part.attempt = 3;
    part_run(job, 1, 6);

    rest.attempt = 2;
    run_ranks(job, 2, &rest);

    assert_int_equal(rest.status, ST_ERR_STATE);
    assert_non_null(strstr(rest.message, "attempt 2 is stale: attempt 3 has begun"));
    spec_job_free(job);
}

/* Attempt 1 was frozen between its look at the attempt file and the rename of its checkpoint. */
static void a_stale_attempt_that_is_thawed_takes_nothing_from_the_newer_one(void **state)
{
    (void)state;
    struct stat info;
    bool is_found = true;
    wrk_checkpoint_t checkpoint = {.step = 3};
    wrk_checkpoint_store_t *store = NULL;
    wrk_checkpoint_state_t stale = {0};
    const gd_optimizer_options_t options = {.kind = GD_OPTIMIZER_SGD};
    spec_job_t *job = job_prepare(MODEL_MLP, NULL);
    assert_ok(gd_linear_new(2, 2, true, &stale.model));
    assert_ok(gd_flat_open(stale.model, &stale.flat));
    assert_ok(gd_optimizer_open(&options, stale.flat, &stale.optimizer));
    assert_ok(wrk_checkpoint_store_open(run_path(""), 1, 1, &store));
    assert_ok(wrk_checkpoint_find(store, NULL, NULL, &checkpoint, &is_found));
    assert_false(is_found);
    rest_run(job, 1);
    assert_ok(wrk_file_replace(run_path("attempt"), "1\n", 2));

    assert_ok(wrk_checkpoint_save(store, &stale, &checkpoint));

    assert_int_equal(stat(run_path("checkpoints/step-00000003"), &info), 0);
    assert_int_equal(stat(run_path("checkpoints/step-00000010"), &info), 0);
    assert_int_equal(stat(run_path("checkpoints/step-00000012"), &info), 0);
    wrk_checkpoint_store_close(store);
    gd_optimizer_close(stale.optimizer);
    gd_flat_close(stale.flat);
    (void)gd_module_unref(stale.model);
    spec_job_free(job);
}

/* What the hashes vouch for is still not believed. */
static void a_step_count_that_is_no_number_is_refused(void **state)
{
    (void)state;
    char before[HASH_SHA256_HEX_SIZE];
    char after[HASH_SHA256_HEX_SIZE];
    char path[512];
    char *bytes = NULL;
    size_t size = 0;
    spec_job_t *job = job_prepare(MODEL_MLP, NULL);
    part_run(job, 1, 6);
    (void)snprintf(path, sizeof(path), "%s", run_path("checkpoints/step-00000005/optimizer.safetensors"));
    assert_ok(wrk_file_sha256(path, before, NULL));
    assert_ok(wrk_file_read(path, 1 << 20, &bytes, &size));
    char *place = strstr(bytes + 8, "\"step_count\":\"5\"");
    assert_non_null(place);
    place[strlen("\"step_count\":\"")] = '-';
    assert_ok(wrk_file_replace(path, bytes, size));
    mem_free(bytes);
    assert_ok(wrk_file_sha256(path, after, NULL));
    (void)snprintf(path, sizeof(path), "%s", run_path("checkpoints/step-00000005/manifest.json"));
    assert_ok(wrk_file_read(path, 65536, &bytes, &size));
    place = strstr(bytes, before);
    assert_non_null(place);
    memcpy(place, after, strlen(after));
    assert_ok(wrk_file_replace(path, bytes, size));
    mem_free(bytes);

    rest.attempt = 2;
    run_ranks(job, 1, &rest);

    assert_int_equal(rest.status, ST_ERR_CORRUPT);
    assert_string_equal(rest.message, "checkpoint step-5: the checkpoint's optimizer.safetensors has \"-\" as its "
                                      "step_count, at step 5");
    spec_job_free(job);
}

static void what_dead_attempts_left_unfinished_is_removed(void **state)
{
    (void)state;
    struct stat info;
    spec_job_t *job = job_prepare(MODEL_MLP, NULL);
    assert_ok(wrk_folder_make(run_path("checkpoints/.tmp-1-step-00000005")));
    assert_ok(wrk_file_write(run_path("checkpoints/.tmp-1-step-00000005/model.safetensors"), "x", 1));

    rest_run(job, 1);

    assert_int_equal(stat(run_path("checkpoints/.tmp-1-step-00000005"), &info), -1);
    spec_job_free(job);
}

static void a_checkpoint_that_cannot_be_written_is_told_and_the_last_one_fails_the_job(void **state)
{
    (void)state;
    spec_job_t *job = job_prepare(MODEL_MLP, NULL);
    /* a file where the folder of step 5 is to be: rename fails, whoever asks */
    assert_ok(wrk_folder_make(run_path("checkpoints")));
    assert_ok(wrk_file_write(run_path("checkpoints/step-00000005"), "x", 1));
    fixture_expect_log("checkpoint step-5 was not written");

    run_ok(job, 2, &rest);

    assert_int_equal(rest.result.outcome, WRK_OUTCOME_SUCCEEDED);
    assert_string_equal(rest.result.parameters_sha256, whole.result.parameters_sha256);
    assert_int_equal(rest.n_notes, 2);
    assert_non_null(strstr(rest.notes[0], "checkpoint step-5 is corrupt"));
    assert_non_null(strstr(rest.notes[1], "checkpoint step-5 was not written, training goes on: cannot rename"));
    assert_non_null(strstr(rest.notes[1], "Not a directory"));

    run_folder_clear();
    memset(&rest, 0, sizeof(rest));
    assert_ok(wrk_folder_make(run_path("checkpoints")));
    assert_ok(wrk_file_write(run_path("checkpoints/step-00000012"), "x", 1));
    job->checkpoint->every = 100; /* the next one written would remove it */
    run_ranks(job, 2, &rest);
    assert_int_not_equal(rest.status, ST_OK);
    assert_int_equal(rest.status, rest.other_status);
    assert_false(wrk_status_is_permanent(rest.status));
    assert_non_null(strstr(rest.message, "checkpoint step-12: cannot rename"));
    spec_job_free(job);
}

static void a_job_that_had_finished_ends_at_once_with_the_same_bits(void **state)
{
    (void)state;
    spec_job_t *job = job_prepare(MODEL_MLP, NULL);
    run_ok(job, 2, &part);

    rest_run(job, 1);

    assert_int_equal(first_step(&rest), 0);
    assert_true(run_point(&rest, "validation_loss", 12) == run_point(&whole, "validation_loss", 12));
    spec_job_free(job);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_killed_job_goes_on_from_its_checkpoint_to_the_same_bits),
        TEST(a_job_killed_before_its_first_checkpoint_starts_anew),
        TEST(a_job_goes_on_with_another_number_of_ranks),
        TEST(a_paused_job_leaves_at_the_same_step_on_all_ranks_and_goes_on),
        TEST(a_stopped_job_leaves_without_a_checkpoint),
        TEST(a_checkpoint_that_was_asked_for_is_written_and_training_goes_on),
        TEST(old_checkpoints_beyond_keep_are_removed),
        TEST(a_corrupt_newest_checkpoint_is_stepped_over_and_told),
        TEST(when_every_checkpoint_is_corrupt_the_job_starts_anew),
        TEST(a_checkpoint_of_other_numerics_is_refused_unless_allowed),
        TEST(a_checkpoint_of_another_model_is_refused_with_the_tensor),
        TEST(a_stale_attempt_is_kept_out),
        TEST(a_stale_attempt_that_is_thawed_takes_nothing_from_the_newer_one),
        TEST(a_step_count_that_is_no_number_is_refused),
        TEST(what_dead_attempts_left_unfinished_is_removed),
        TEST(a_checkpoint_that_cannot_be_written_is_told_and_the_last_one_fails_the_job),
        TEST(a_job_that_had_finished_ends_at_once_with_the_same_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
