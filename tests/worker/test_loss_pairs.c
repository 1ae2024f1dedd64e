/* SPDX-License-Identifier: Apache-2.0 */
/* Losses of pairs, triplets, sets of labels and sequences (worker/loss_pairs.c) from YAML: jobs on arrays that learn,
 * the same bits on any number of ranks, and what doesn't fit is named. Values and gradients: test_loss_values.c. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "tests/worker/loss_arrays.h"
#include "tests/worker/session_runs.h"

enum { N = 64, MAX_WIDTH = 32 };

static run_t run;
static float values[N * MAX_WIDTH];
static float targets[N * MAX_WIDTH];

/* n members of width 8 a sample: the first three numbers are what is told of them, the rest is noise. The third member
 * is told something else; with strangers odd samples' second one, too. */
static void members_write(int n, bool has_labels, bool has_strangers)
{
    uint32_t seed = 3;
    for (int i = 0; i < N; i++) {
        float told[3] = {noise(&seed), noise(&seed), noise(&seed)};
        for (int m = 0; m < n; m++) {
            float *row = values + (i * n + m) * 8;
            for (int k = 0; k < 8; k++) {
                row[k] = k < 3 && !(m == 2 || (has_strangers && m == 1 && i % 2 == 1)) ? told[k] : noise(&seed);
            }
        }
        targets[i] = i % 2 == 0 ? 1 : has_labels ? 0 : -1;
    }
    array_write("x.npy", GD_DTYPE_F32, 3, (int64_t[]){N, n, 8}, values);
    array_write("y.npy", has_labels ? GD_DTYPE_I64 : GD_DTYPE_F32, 1, (int64_t[]){N}, targets);
}

static void pairs_write(void)
{
    members_write(2, false, true);
}

static void matches_write(void)
{
    members_write(2, false, false);
}

static void labelled_pairs_write(void)
{
    members_write(2, true, true);
}

static void triplets_write(void)
{
    members_write(3, true, false);
}

static void ranking_write(void)
{
    members_write(2, false, true);
    for (int i = 0; i < N; i++) {
        const float *a = values + i * 16;
        targets[i] = a[0] + 2 * a[1] > a[8] + 2 * a[9] ? 1 : -1;
    }
    array_write("y.npy", GD_DTYPE_F32, 1, (int64_t[]){N}, targets);
}

/* Six numbers; those of the first three above 0 are labels: a list ended by -1, or 0 and 1. */
static void sets_make(bool is_list)
{
    uint32_t seed = 9;
    for (int i = 0; i < N; i++) {
        int n = 0;
        for (int k = 0; k < 6; k++) {
            values[i * 6 + k] = noise(&seed);
        }
        for (int k = 0; k < 3; k++) {
            targets[i * 3 + k] = is_list ? -1 : values[i * 6 + k] > 0;
        }
        for (int k = 0; k < 3 && is_list; k++) {
            if (values[i * 6 + k] > 0) {
                targets[i * 3 + n++] = (float)k;
            }
        }
    }
    array_write("x.npy", GD_DTYPE_F32, 2, (int64_t[]){N, 6}, values);
    array_write("y.npy", GD_DTYPE_F32, 2, (int64_t[]){N, 3}, targets);
}

static void lists_write(void)
{
    sets_make(true);
}

static void label_lists_write(void)
{
    sets_make(true);
    array_write("y.npy", GD_DTYPE_I64, 2, (int64_t[]){N, 3}, targets);
}

static void sets_write(void)
{
    sets_make(false);
}

/* Seven steps of four numbers; one to three labels 1 … 3, each loud for two steps. The rest of a target is `padding`.
 */
static void sequences_make(gd_dtype_t dtype, float padding)
{
    uint32_t seed = 5;
    for (int i = 0; i < N; i++) {
        const int n = 1 + i % 3;
        for (int s = 0; s < 3; s++) {
            targets[i * 3 + s] = s < n ? 1 + floorf((noise(&seed) + 1) * 1.4999F) : padding;
        }
        for (int t = 0; t < 7; t++) {
            const int label = t % 2 == 0 || t / 2 >= n ? 0 : (int)targets[i * 3 + t / 2];
            for (int k = 0; k < 4; k++) {
                values[(i * 7 + t) * 4 + k] = 0.3F * noise(&seed) + (k == label ? 1.0F : 0.0F);
            }
        }
    }
    array_write("x.npy", GD_DTYPE_F32, 3, (int64_t[]){N, 7, 4}, values);
    array_write("y.npy", dtype, 2, (int64_t[]){N, 3}, targets);
}

static void sequences_write(void)
{
    sequences_make(GD_DTYPE_F32, -1);
}

static void ended_sequences_write(void)
{
    sequences_make(GD_DTYPE_I64, -1);
}

static void padded_sequences_write(void)
{
    sequences_make(GD_DTYPE_I64, 0);
}

/* The same with i % 3 + 5 steps a sample, behind which everything is noise, and as many labels as its target says; of
 * sample `bad` the first label is 9. */
static void given_sequences_make(int bad)
{
    static float rows[N * 5];
    uint32_t seed = 8;
    sequences_make(GD_DTYPE_F32, 1);
    for (int i = 0; i < N; i++) {
        rows[i * 5] = 5 + (float)(i % 3);
        rows[i * 5 + 1] = 1 + (float)(i % 3);
        memcpy(rows + i * 5 + 2, targets + i * 3, 3 * sizeof(float));
        rows[i * 5 + 2] = i == bad ? 9 : rows[i * 5 + 2];
        for (int t = 5 + i % 3; t < 7; t++) {
            for (int k = 0; k < 4; k++) {
                values[(i * 7 + t) * 4 + k] = 3 * noise(&seed);
            }
        }
    }
    array_write("x.npy", GD_DTYPE_F32, 3, (int64_t[]){N, 7, 4}, values);
    array_write("y.npy", GD_DTYPE_I64, 2, (int64_t[]){N, 5}, rows);
}

static void given_sequences_write(void)
{
    given_sequences_make(-1);
}

/* Tokens, each twice, and padding behind them; the labels are the tokens without those that stand twice. */
static void token_sequences_write(void)
{
    uint32_t seed = 6;
    for (int i = 0; i < N; i++) {
        for (int t = 0; t < 8; t++) {
            values[i * 8 + t] = t >= 2 * (2 + i % 3) ? 0
                                : t % 2 == 1         ? values[i * 8 + t - 1]
                                                     : 1 + floorf((noise(&seed) + 1) * 2.4999F);
        }
        int n = 0;
        for (int t = 0; t < 8; t++) {
            const float token = values[i * 8 + t];
            if (token > 0 && (t == 0 || token != values[i * 8 + t - 1])) {
                targets[i * 4 + n++] = token;
            }
        }
        for (; n < 4; n++) {
            targets[i * 4 + n] = 0;
        }
    }
    array_write("x.npy", GD_DTYPE_I64, 2, (int64_t[]){N, 8}, values);
    array_write("y.npy", GD_DTYPE_I64, 2, (int64_t[]){N, 4}, targets);
}

static void losses_of_samples_fall_on_any_number_of_ranks(void **state)
{
    (void)state;
    static const struct {
        void (*write)(void);
        const char *model, *loss;
    } cases[] = {
        {pairs_write, "[{linear: {out: 6}}]", "{cosine_embedding: {margin: 0.1}}"},
        {labelled_pairs_write, "[{linear: {out: 6}}]", "cosine_embedding"},
        {ranking_write, "[{linear: {out: 1}}]", "{margin_ranking: {margin: 0.5}}"},
        {ranking_write, "[flatten, {linear: {out: 2}}]", "margin_ranking"},
        {triplets_write, "[{linear: {out: 4}}]", "{triplet_margin: {margin: 0.5}}"},
        {triplets_write, "[{linear: {out: 4}}]", "{triplet_margin: {p: 1.5, swap: true}}"},
        {matches_write, "[{linear: {out: 4}}]", "{info_nce: {temperature: 0.2}}"},
        {pairs_write, "[{linear: {out: 4}}]",
         "{sum: [{loss: cosine_embedding}, {loss: info_nce, weight: 0.1, outputs: [0, 3]}]}"},
        {lists_write, "[{linear: {out: 5}}]", "multilabel_margin"},
        {sets_write, "[{linear: {out: 3}}]", "{multilabel_soft_margin: {weight: [1, 2, 1]}}"},
        {sequences_write, "[{linear: {out: 4}}]", "ctc"},
        {ended_sequences_write, "[{linear: {out: 4}}]", "ctc"},
        {label_lists_write, "[{linear: {out: 5}}]", "multilabel_margin"},
        {padded_sequences_write, "[{linear: {out: 4}}]", "{ctc: {padding: 0, zero_infinity: true}}"},
        {given_sequences_write, "[{linear: {out: 4}}]", "{ctc: {lengths: given, reduction: batch_mean}}"},
        {token_sequences_write, "[{embedding: {count: 6, width: 8}}, {linear: {out: 6}}], padding: 0",
         "{ctc: {lengths: tokens, padding: 0}}"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        cases[i].write();
        spec_job_t *job = array_job(cases[i].model, cases[i].loss, NULL);
        run_layouts(job, (const int[]){1, 2, 0}, &run);
        if (!(run_point(&run, "loss", 30) < 0.9 * run_point(&run, "loss", 1)) ||
            !(run_point(&run, "validation_loss", 30) < 0.9 * run_point(&run, "loss", 1))) {
            fail_msg("%s: loss %g at first, %g at last, %g of others", cases[i].loss, run_point(&run, "loss", 1),
                     run_point(&run, "loss", 30), run_point(&run, "validation_loss", 30));
        }
        spec_job_free(job);
    }
}

/* Four classes for each of three steps, some of them left out by the label `ignored`. */
static void left_out_write(float ignored)
{
    uint32_t seed = 12;
    for (int i = 0; i < N; i++) {
        for (int t = 0; t < 3; t++) {
            float *x = values + (i * 3 + t) * 4;
            for (int k = 0; k < 4; k++) {
                x[k] = noise(&seed);
            }
            const float label = x[0] > 0 ? (x[1] > 0 ? 0 : 1) : 2;
            targets[i * 3 + t] = (i + t) % 3 == 0 ? ignored : label;
        }
    }
    array_write("x.npy", GD_DTYPE_F32, 3, (int64_t[]){N, 3, 4}, values);
    array_write("y.npy", GD_DTYPE_I64, 2, (int64_t[]){N, 3}, targets);
}

/* A target that is left out leaves no trace, whatever its number is. */
static void ignored_labels_may_lie_outside_the_classes(void **state)
{
    (void)state;
    static const float ignored[] = {3, -1, -100, 255};
    static const struct {
        const char *model, *loss, *fused;
    } cases[] = {
        {"[{linear: {out: 8}}, tanh, {linear: {out: 4, bias: false}}]", "cross_entropy", "off"},
        {"[{linear: {out: 8}}, tanh, {linear: {out: 4, bias: false}}]", "cross_entropy", "on"},
        {"[{linear: {out: 4}}, log_softmax]", "nll", "off"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char hash[HASH_SHA256_HEX_SIZE] = "";
        double loss = 0;
        for (size_t k = 0; k < sizeof(ignored) / sizeof(ignored[0]); k++) {
            char text[128];
            (void)snprintf(text, sizeof(text), "{%s: {ignore_index: %d}}, fused_loss: %s", cases[i].loss,
                           (int)ignored[k], cases[i].fused);
            left_out_write(ignored[k]);
            spec_job_t *job = array_job(cases[i].model, text, NULL);
            memset(&run, 0, sizeof(run));
            run_ok(job, 1 + (int)k % 2, &run);
            if (k == 0) {
                memcpy(hash, run.result.parameters_sha256, sizeof(hash));
                loss = run_point(&run, "validation_loss", 30);
                assert_true(loss < 0.9 * run_point(&run, "validation_loss", 10));
            }
            assert_string_equal(run.result.parameters_sha256, hash);
            assert_true(run_point(&run, "validation_loss", 30) == loss);
            run_folder_clear();
            spec_job_free(job);
        }
    }
    left_out_write(-1);
    spec_job_t *job = array_job("[{linear: {out: 4}}]",
                                "{sum: [{loss: {cross_entropy: {ignore_index: -1}}}, {loss: "
                                "focal}]}",
                                NULL);
    memset(&run, 0, sizeof(run));
    run_ranks(job, 1, &run);
    assert_int_equal(run.status, ST_ERR_DATA);
    assert_non_null(strstr(run.message, "y.npy: row 0, element 0: label -1 is not in 0"));
    spec_job_free(job);
}

static void what_does_not_fit_is_named_at_the_start(void **state)
{
    (void)state;
    static const struct {
        void (*write)(void);
        const char *model, *loss, *set;
        status_t status;
        const char *message;
    } cases[] = {
        {triplets_write, "[{linear: {out: 6}}]", "cosine_embedding", NULL, ST_ERR_SHAPE,
         "training.loss: cosine_embedding: the model's outputs are [1, 3, 6]; [samples, 2, width] is needed"},
        {pairs_write, "[{linear: {out: 6}}]", "margin_ranking", NULL, ST_ERR_SHAPE,
         "training.loss: margin_ranking: the model's outputs are [1, 2, 6]; [samples, 2] is needed"},
        {pairs_write, "[flatten, {linear: {out: 6}}]", "triplet_margin", NULL, ST_ERR_SHAPE,
         "training.loss: triplet_margin: the model's outputs are [1, 6]; [samples, 3, width] is needed"},
        {pairs_write, "[{linear: {out: 6}}]", "info_nce", "training.microbatches=16", ST_ERR_INVAL,
         "training.loss: info_nce: a microbatch of one sample has no other keys to compare with; give fewer "
         "training.microbatches"},
        {sets_write, "[{linear: {out: 6}}]", "{sum: [{loss: mse, outputs: [0, 3]}, {loss: ctc}]}", NULL, ST_ERR_SHAPE,
         "training.loss.sum[1]: ctc: the model's outputs are [1, 6]; [samples, steps, labels and blank] is needed"},
        {sequences_write, "[{linear: {out: 4}}]", "{ctc: {blank: 4}}", NULL, ST_ERR_RANGE,
         "training.loss: ctc: ctc: blank 4 is outside 0 … 3"},
        {padded_sequences_write, "[{linear: {out: 4}}]", "ctc", NULL, ST_ERR_DATA,
         "training.loss: ctc: label 0 of sample 0 is the blank, and not the padding, -1"},
        {sequences_write, "[{linear: {out: 4}}]", "multilabel_margin", NULL, ST_ERR_SHAPE,
         "training.loss: multilabel_margin: the model's outputs are [1, 7, 4]; [samples, classes] is needed"},
        {lists_write, "[{reshape: {shape: [2, 3]}}, {linear: {out: 4}}]", "cosine_embedding", NULL, ST_ERR_SHAPE,
         "training.loss: cosine_embedding: 3 targets a sample; one is needed, 1 or -1"},
        {sets_write, "[{linear: {out: 2}}]", "{multilabel_soft_margin: {weight: [1, 2]}}", NULL, ST_ERR_DATA, NULL},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        cases[i].write();
        spec_job_t *job = array_job(cases[i].model, cases[i].loss, (const char *const[]){cases[i].set, NULL});
        memset(&run, 0, sizeof(run));
        run_ranks(job, 1, &run);
        if (cases[i].message != NULL) {
            assert_string_equal(run.message, cases[i].message);
        }
        assert_int_equal(run.status, cases[i].status);
        spec_job_free(job);
    }
}

/* Not its row in a microbatch, which says nothing to whoever has the data. */
static void a_bad_target_is_named_by_its_sample(void **state)
{
    (void)state;
    static const struct {
        int sample;
        const char *message;
    } cases[] = {
        {37, "microbatch 1: training.loss: ctc: label 9 of sample 37 is outside 0 … 3"},
        {N * 3 / 4 + 11, "data.validation: training.loss: ctc: label 9 of sample 11 is outside 0 … 3"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        given_sequences_make(cases[i].sample);
        spec_job_t *job = array_job("[{linear: {out: 4}}]", "{ctc: {lengths: given}}", NULL);
        memset(&run, 0, sizeof(run));
        run_ranks(job, 2, &run);
        if (run.status != ST_ERR_DATA || strstr(run.message, cases[i].message) == NULL) {
            fail_msg("%s", run.message);
        }
        run_folder_clear();
        spec_job_free(job);
    }
}

/* Shares of two classes are some of the values that a target has: hits are counted of those alone. */
static void hits_are_counted_in_a_part_of_the_targets(void **state)
{
    (void)state;
    uint32_t seed = 21;
    for (int i = 0; i < N; i++) {
        float *x = values + i * 4;
        float *y = targets + i * 4;
        for (int k = 0; k < 4; k++) {
            x[k] = noise(&seed);
        }
        y[0] = y[1] = 5 * noise(&seed);
        y[2] = x[0] > x[1];
        y[3] = 1 - y[2];
    }
    array_write("x.npy", GD_DTYPE_F32, 2, (int64_t[]){N, 4}, values);
    array_write("y.npy", GD_DTYPE_F32, 2, (int64_t[]){N, 4}, targets);
    spec_job_t *job = array_job("[{linear: {out: 4}}]",
                                "{sum: [{loss: cross_entropy, outputs: [2, 4], targets: [2, 4]},"
                                " {loss: mse, weight: 0.01, outputs: [0, 2], targets: [0, 2]}]}",
                                (const char *const[]){"training.steps=200", NULL});
    memset(&run, 0, sizeof(run));
    run_ok(job, 1, &run);
    assert_true(run_point(&run, "training_accuracy", 200) > 0.9);
    run_folder_clear();
    spec_job_free(job);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(losses_of_samples_fall_on_any_number_of_ranks), TEST(ignored_labels_may_lie_outside_the_classes),
        TEST(what_does_not_fit_is_named_at_the_start),       TEST(a_bad_target_is_named_by_its_sample),
        TEST(hits_are_counted_in_a_part_of_the_targets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
