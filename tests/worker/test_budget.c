/* SPDX-License-Identifier: Apache-2.0 */
/* training.memory_budget: kept, with the same bits on any layout; refused where it can't be. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/worker/session_runs.h"

static const char DEEP[] =
    "[{embedding: {name: wte, count: 27, width: 32}}, {position_embedding: {count: 16}}, "
    "{repeat: {name: h, times: 6, layers: [{residual: [layer_norm, {attention: {heads: 2, causal: true, "
    "dropout: 0.1}}]}, {residual: [layer_norm, {linear: {out: 128}}, gelu, {linear: {out: 32}}]}]}}, layer_norm, "
    "{linear: {out: 27, bias: false, tied: wte}}]";
/* images, with batch statistics within what is checkpointed */
static const char BLOCKS[] =
    "[{conv2d: {out: 8, kernel: [3], padding: [1]}}, {repeat: {times: 4, layers: [{residual: ["
    "{conv2d: {out: 8, kernel: [3], padding: [1], bias: false}}, batch_norm2d, relu, {dropout: {p: 0.1}}, "
    "{conv2d: {out: 8, kernel: [3], padding: [1], bias: false}}, batch_norm2d]}, relu]}}, flatten, {linear: {out: 5}}]";

/* transformer layers that stand alone: in the model's list; in a list of its own within it */
#define LAYER "{transformer_encoder_layer: {heads: 2, feedforward: 128, dropout: 0.1, causal: true}}"
#define AROUND(layers_x)                                                                                               \
    "[{embedding: {name: wte, count: 27, width: 32}}, {position_embedding: {count: 16}}, " layers_x ", layer_norm, "   \
    "{linear: {out: 27, bias: false, tied: wte}}]"
static const char ALONE[] = AROUND(LAYER ", " LAYER ", " LAYER ", " LAYER);
static const char GROUPED[] =
    AROUND("{sequential: {name: h, layers: [" LAYER ", " LAYER ", {sequential: [" LAYER ", " LAYER "]}]}}");

static const char PLAIN[] = "training.precision=f32";

static run_t whole;
static run_t kept;

static spec_job_t *job_of(const char *model, double budget, const char *setting)
{
    char set_budget[64];
    (void)snprintf(set_budget, sizeof(set_budget), "training.memory_budget=%lld", (long long)budget);
    const char *const set[] = {setting, budget > 0 ? set_budget : NULL, NULL};
    return run_job(model, 4, set);
}

static void run_whole(const char *model, const char *setting)
{
    spec_job_t *job = job_of(model, 0, setting);
    memset(&whole, 0, sizeof(whole));
    run_ok(job, 1, &whole);
    run_folder_clear();
    spec_job_free(job);
}

/* On 1, 2 and 4 ranks, and of the same bits as without a budget. */
static void assert_kept(const char *model, double share, const char *setting)
{
    run_whole(model, setting);
    const double budget = (double)(int64_t)(share * run_point(&whole, "activation_bytes", 12));
    spec_job_t *job = job_of(model, budget, setting);
    for (int n_ranks = 1; n_ranks <= 4; n_ranks *= 2) {
        memset(&kept, 0, sizeof(kept));
        run_ok(job, n_ranks, &kept);
        double taken = run_point(&kept, "activation_bytes", 12);
        if (!(taken <= budget)) {
            fail_msg("%d ranks: activations take %g bytes, the budget is %g", n_ranks, taken, budget);
        }
        assert_string_equal(kept.result.parameters_sha256, whole.result.parameters_sha256);
        assert_string_equal(kept.checkpoints[kept.n_checkpoints - 1].model_sha256,
                            whole.checkpoints[whole.n_checkpoints - 1].model_sha256);
        assert_int_equal(kept.n_notes, 1);
        assert_non_null(strstr(kept.notes[0], "; checkpointed: "));
        run_folder_clear();
    }
    spec_job_free(job);
}

static void half_of_the_activations_is_kept_with_the_same_bits(void **state)
{
    (void)state;
    assert_kept(DEEP, 0.5, PLAIN);
    assert_non_null(strstr(kept.notes[0], "; checkpointed: h.0, h.1"));
    assert_null(strstr(kept.notes[0], "h.5"));
    assert_kept(BLOCKS, 0.5, PLAIN);
}

static void layers_that_stand_alone_are_picked(void **state)
{
    (void)state;
    assert_kept(ALONE, 0.5, PLAIN);
    assert_non_null(strstr(kept.notes[0], "; checkpointed: 2, 3"));
    assert_null(strstr(kept.notes[0], ", 5"));
    assert_kept(GROUPED, 0.5, PLAIN);
    assert_non_null(strstr(kept.notes[0], "; checkpointed: h.0, h.1"));
    assert_null(strstr(kept.notes[0], "h.2.1"));
    assert_kept(GROUPED, 0.4, PLAIN);
    assert_non_null(strstr(kept.notes[0], "h.2.0"));
}

static void what_the_job_has_checkpointed_stays_so(void **state)
{
    (void)state;
    static const char model[] = AROUND("{sequential: {checkpoint: true, layers: [" LAYER ", " LAYER "]}}, " LAYER);
    run_whole(model, PLAIN);
    spec_job_t *job = job_of(model, run_point(&whole, "activation_bytes", 12), PLAIN);
    memset(&kept, 0, sizeof(kept));
    run_ok(job, 2, &kept);
    run_folder_clear();

    assert_true(run_point(&kept, "activation_bytes", 12) == run_point(&whole, "activation_bytes", 12));
    assert_int_equal(kept.n_notes, 0);
    spec_job_free(job);
}

static void other_precisions_and_losses_keep_it_too(void **state)
{
    (void)state;
    assert_kept(DEEP, 0.5, "training.precision=bf16");
    assert_kept(BLOCKS, 0.5, "training.precision=f16");
    assert_kept(DEEP, 0.5, "training.fused_loss=on");
    assert_kept(DEEP, 0.5, "training.loss={cross_entropy: {ignore_index: 3}}");
}

static void a_budget_that_fits_changes_nothing(void **state)
{
    (void)state;
    run_whole(DEEP, PLAIN);
    spec_job_t *job = job_of(DEEP, run_point(&whole, "activation_bytes", 12), PLAIN);
    memset(&kept, 0, sizeof(kept));
    run_ok(job, 2, &kept);
    run_folder_clear();

    assert_true(run_point(&kept, "activation_bytes", 12) == run_point(&whole, "activation_bytes", 12));
    assert_string_equal(kept.result.parameters_sha256, whole.result.parameters_sha256);
    assert_int_equal(kept.n_notes, 0);
    spec_job_free(job);
}

static void more_ranks_than_microbatches_keep_it(void **state)
{
    (void)state;
    const char *const set[] = {"training.memory_budget=1GiB", NULL};
    spec_job_t *job = run_job(MODEL_MLP, 1, set);
    memset(&kept, 0, sizeof(kept));
    run_ok(job, 3, &kept);
    run_folder_clear();
    spec_job_free(job);
}

/* The error names the least there is, and with that as the budget the job runs. */
static void the_impossible_is_refused_with_the_least_there_is(void **state)
{
    (void)state;
    spec_job_t *job = job_of(DEEP, 1000, PLAIN);
    memset(&kept, 0, sizeof(kept));
    run_ranks(job, 2, &kept);
    run_folder_clear();
    spec_job_free(job);

    assert_int_equal(kept.status, ST_ERR_INVAL);
    assert_int_equal(kept.other_status, ST_ERR_INVAL);
    assert_true(wrk_status_is_permanent(kept.status));
    assert_non_null(strstr(kept.message, "training.memory_budget is 1000 bytes"));
    assert_non_null(strstr(kept.message, "more training.microbatches"));
    static const char before[] = "take at least ";
    const char *least = strstr(kept.message, before);
    assert_non_null(least);
    const double budget = strtod(least + sizeof(before) - 1, NULL);
    job = job_of(DEEP, budget - 1, PLAIN);
    memset(&kept, 0, sizeof(kept));
    run_ranks(job, 1, &kept);
    run_folder_clear();
    spec_job_free(job);
    assert_int_equal(kept.status, ST_ERR_INVAL);
    least = strstr(kept.message, before);
    assert_non_null(least);
    assert_true(strtod(least + sizeof(before) - 1, NULL) == budget);
    job = job_of(DEEP, budget, PLAIN);
    memset(&kept, 0, sizeof(kept));
    run_ok(job, 2, &kept);
    assert_true(run_point(&kept, "activation_bytes", 12) <= budget);
    run_folder_clear();
    spec_job_free(job);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(half_of_the_activations_is_kept_with_the_same_bits),
        TEST(layers_that_stand_alone_are_picked),
        TEST(what_the_job_has_checkpointed_stays_so),
        TEST(other_precisions_and_losses_keep_it_too),
        TEST(a_budget_that_fits_changes_nothing),
        TEST(more_ranks_than_microbatches_keep_it),
        TEST(the_impossible_is_refused_with_the_least_there_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
