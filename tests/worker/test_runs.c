/* SPDX-License-Identifier: Apache-2.0 */
/* Whole runs: PyTorch's first 50 losses from the same weights on the same batches (tests/golden/make_runs.py). */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gradd/safetensors.h"
#include "tests/worker/session_runs.h"

static void compare_with_pytorch(const char *name, int n_ranks)
{
    static run_t run;
    static char hash[HASH_SHA256_HEX_SIZE];
    gd_safetensors_t *golden = NULL;
    char directory[512];
    char file_name[64];
    (void)snprintf(directory, sizeof(directory), "%s", fixture_golden("runs"));
    (void)snprintf(file_name, sizeof(file_name), "%s.yaml", name);
    spec_job_t *job = job_text_read(directory, file_name, NULL);
    assert_ok(gd_safetensors_open(fixture_golden("runs/losses.safetensors"), &golden));
    const gd_safetensors_entry_t *theirs = gd_safetensors_find(golden, name);
    assert_non_null(theirs);
    assert_int_equal(theirs->shape[0], 50);
    memset(&run, 0, sizeof(run));

    run_ok(job, n_ranks, &run);
    if (n_ranks > 1) { /* whatever the number of ranks */
        assert_string_equal(run.result.parameters_sha256, hash);
    }
    memcpy(hash, run.result.parameters_sha256, sizeof(hash));

    for (int step = 1; step <= 50; step++) {
        const double ours = run_point(&run, "loss", step);
        const double wanted = ((const double *)theirs->data)[step - 1];
        if (!(fabs(ours - wanted) <= 1e-4)) {
            fail_msg("%s, %d ranks: loss %d is %.9g, PyTorch has %.9g", name, n_ranks, step, ours, wanted);
        }
    }
    run_folder_clear();
    gd_safetensors_close(golden);
    spec_job_free(job);
}

static void a_gpt_has_pytorch_s_losses(void **state)
{
    (void)state;
    compare_with_pytorch("gpt", 1);
    compare_with_pytorch("gpt", 2);
}

static void a_resnet_has_pytorch_s_losses(void **state)
{
    (void)state;
    compare_with_pytorch("resnet18", 1);
}

static void an_lstm_has_pytorch_s_losses(void **state)
{
    (void)state;
    compare_with_pytorch("lstm", 1);
    compare_with_pytorch("lstm", 2);
}

static void weights_of_classes_are_summed_over_the_whole_batch(void **state)
{
    (void)state;
    compare_with_pytorch("weighted", 1);
    compare_with_pytorch("weighted", 4);
}

static void tasks_are_weighted_as_in_pytorch(void **state)
{
    (void)state;
    compare_with_pytorch("tasks", 1);
    compare_with_pytorch("tasks", 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_gpt_has_pytorch_s_losses),       TEST(a_resnet_has_pytorch_s_losses),
        TEST(an_lstm_has_pytorch_s_losses),     TEST(weights_of_classes_are_summed_over_the_whole_batch),
        TEST(tasks_are_weighted_as_in_pytorch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
