/* SPDX-License-Identifier: Apache-2.0 */
/* Losses of pairs, triplets, sets of labels and sequences (worker/loss_pairs.c) from YAML: PyTorch's values and
 * gradients (tests/golden/make_losses.py), and bad targets are named. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "gradd/autograd.h"
#include "gradd/index.h"
#include "gradd/ops.h"
#include "gradd/safetensors.h"
#include "tests/support/fixture.h"
#include "tests/worker/loss_arrays.h"
#include "worker/loss.h"
#include "worker/session.h"

/* The loss that a job names, over x's samples and divided by them; the gradient of x, if it wants one. tokens: the
 * model's input, of which 0 is padding; NULL: none. */
static status_t loss_of_inputs(const char *yaml, gd_tensor_t *tokens, gd_tensor_t *x, gd_tensor_t *y, double *loss_p)
{
    array_write("x.npy", GD_DTYPE_F32, 2, (int64_t[]){1, 1}, &(float){0}); /* the job names them */
    array_write("y.npy", GD_DTYPE_F32, 2, (int64_t[]){1, 1}, &(float){0});
    spec_job_t *job = array_job("[flatten], padding: 0", yaml, NULL);
    const double factor = 1.0 / (double)gd_tensor_dim(x, 0);
    wrk_loss_t loss = {0};
    wrk_record_t record = {0};
    gd_tensor_t *value = NULL;
    assert_ok(wrk_loss_open(job, false, &loss));
    const wrk_batch_t batch = {tokens, y, NULL};
    status_t status = wrk_loss_compute(&loss, &batch, x, &factor, true, &value, &record);
    if (status == ST_OK) {
        *loss_p = record.loss[0];
        if (gd_tensor_requires_grad(x)) {
            assert_ok(gd_backward(value, NULL, false));
        }
    }
    (void)gd_tensor_unref(value);
    wrk_loss_release(&loss);
    spec_job_free(job);
    return status;
}

static status_t loss_compute(const char *yaml, gd_tensor_t *x, gd_tensor_t *y, double *loss_p)
{
    return loss_of_inputs(yaml, NULL, x, y, loss_p);
}

static const gd_safetensors_entry_t *entry_get(const gd_safetensors_t *golden, const char *name, const char *what)
{
    char full[96];
    (void)snprintf(full, sizeof(full), "%s.%s", name, what);
    const gd_safetensors_entry_t *entry = gd_safetensors_find(golden, full);
    assert_non_null(entry);
    return entry;
}

static gd_tensor_t *entry_tensor(const gd_safetensors_t *golden, const char *name, const char *what)
{
    const gd_safetensors_entry_t *entry = entry_get(golden, name, what);
    gd_tensor_t *raw = NULL;
    gd_tensor_t *t = NULL;
    assert_ok(gd_tensor_from_data(entry->dtype, entry->n_dims, entry->shape, entry->data, &raw));
    assert_ok(gd_cast(raw, entry->dtype == GD_DTYPE_I64 ? GD_DTYPE_I64 : GD_DTYPE_F32, &t));
    (void)gd_tensor_unref(raw);
    return t;
}

/* what0, what1, … of n members, stacked along axis 1. */
static gd_tensor_t *members_read(const gd_safetensors_t *golden, const char *name, const char *what, int n)
{
    gd_tensor_t *members[3] = {NULL};
    gd_tensor_t *t = NULL;
    for (int i = 0; i < n; i++) {
        char key[32];
        (void)snprintf(key, sizeof(key), "%s%d", what, i);
        members[i] = entry_tensor(golden, name, key);
    }
    if (n == 1) {
        return members[0];
    }
    assert_ok(gd_stack(members, n, 1, &t));
    for (int i = 0; i < n; i++) {
        (void)gd_tensor_unref(members[i]);
    }
    return t;
}

static void same_values(const char *name, const gd_tensor_t *ours, gd_tensor_t *theirs)
{
    gd_tensor_t *flat = NULL;
    assert_ok(gd_contiguous(theirs, &flat));
    assert_int_equal(gd_tensor_numel(ours), gd_tensor_numel(flat));
    for (int64_t i = 0; i < gd_tensor_numel(ours); i++) {
        const double a = (double)((const float *)gd_tensor_data(ours))[i];
        const double b = (double)((const float *)gd_tensor_data(flat))[i];
        if (!(fabs(a - b) <= 1e-5 * fabs(b) + 1e-6)) {
            fail_msg("%s: gradient %lld is %.9g, PyTorch has %.9g", name, (long long)i, a, b);
        }
    }
    (void)gd_tensor_unref(flat);
}

static void means_agree_with_pytorch(void **state)
{
    (void)state;
    static const struct {
        const char *name, *loss;
        int n_members;
        const char *target; /* NULL: not used */
    } cases[] = {
        {"cosine_embedding", "{cosine_embedding: {margin: -0.2}}", 2, "2"},
        {"margin_ranking", "{margin_ranking: {margin: 0.3}}", 2, "2"},
        {"triplet", "triplet_margin", 3, NULL},
        {"triplet_swap", "{triplet_margin: {margin: 2, p: 3, swap: true}}", 3, NULL},
        {"info_nce", "{info_nce: {temperature: 0.2}}", 2, NULL},
        {"multi_label_margin", "multilabel_margin", 1, "1"},
        {"multi_label_soft_margin", "multilabel_soft_margin", 1, "1"},
    };
    gd_safetensors_t *golden = NULL;
    assert_ok(gd_safetensors_open(fixture_golden("losses.safetensors"), &golden));
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const char *name = cases[i].name;
        gd_tensor_t *x = members_read(golden, name, "", cases[i].n_members);
        gd_tensor_t *y = entry_tensor(golden, name, cases[i].target != NULL ? cases[i].target : "0");
        gd_tensor_t *dx = members_read(golden, name, "mean.grad", cases[i].n_members);
        gd_tensor_t *wanted = entry_tensor(golden, name, "mean.loss");
        double loss = 0;
        double mean = 0;
        assert_ok(gd_tensor_item(wanted, &mean));
        assert_ok(gd_tensor_set_requires_grad(x, true));

        assert_ok(loss_compute(cases[i].loss, x, y, &loss));

        if (!(fabs(loss - mean) <= 1e-5 * fabs(mean))) {
            fail_msg("%s: %.9g, PyTorch has %.9g", name, loss, mean);
        }
        same_values(name, gd_tensor_grad(x), dx);
        (void)gd_tensor_unref(wanted);
        (void)gd_tensor_unref(dx);
        (void)gd_tensor_unref(y);
        (void)gd_tensor_unref(x);
    }
    gd_safetensors_close(golden);
}

/* Of ctc's four samples the first two have as many steps as the outputs. */
static void ctc_agrees_with_pytorch_and_ends_targets_at_the_padding(void **state)
{
    (void)state;
    gd_safetensors_t *golden = NULL;
    gd_tensor_t *x = NULL;
    gd_tensor_t *y = NULL;
    gd_tensor_t *dx = NULL;
    assert_ok(gd_safetensors_open(fixture_golden("losses.safetensors"), &golden));
    gd_tensor_t *const steps_first[2] = {entry_tensor(golden, "ctc", "0"), entry_tensor(golden, "ctc", "sum.grad0")};
    gd_tensor_t *each = entry_tensor(golden, "ctc", "none.loss");
    gd_tensor_t *labels = entry_tensor(golden, "ctc", "1");
    gd_tensor_t *out[2] = {NULL};
    for (int i = 0; i < 2; i++) {
        gd_tensor_t *turned = NULL;
        gd_tensor_t *part = NULL;
        assert_ok(gd_transpose(steps_first[i], 0, 1, &turned));
        assert_ok(gd_slice(turned, 0, 0, 2, 1, &part));
        assert_ok(i == 0 ? gd_contiguous(part, &out[i]) : gd_scale(part, 0.125, 0, &out[i]));
        (void)gd_tensor_unref(part);
        (void)gd_tensor_unref(turned);
        (void)gd_tensor_unref(steps_first[i]);
    }
    x = out[0];
    dx = out[1];
    /* two more places, filled up */
    float with_padding[2][6];
    for (int row = 0; row < 2; row++) {
        for (int s = 0; s < 6; s++) {
            with_padding[row][s] = s < 4 ? (float)((const int64_t *)gd_tensor_data(labels))[row * 4 + s] : -1;
        }
    }
    assert_ok(gd_tensor_from_data(GD_DTYPE_F32, 2, (int64_t[]){2, 6}, with_padding, &y));
    assert_ok(gd_tensor_set_requires_grad(x, true));
    double loss = 0;

    assert_ok(loss_compute("ctc", x, y, &loss));

    const float *of_samples = gd_tensor_data(each);
    const double mean = ((double)of_samples[0] + (double)of_samples[1]) / 8;
    assert_true(fabs(loss - mean) <= 1e-5 * mean);
    same_values("ctc", gd_tensor_grad(x), dx);
    (void)gd_tensor_unref(y);
    (void)gd_tensor_unref(dx);
    (void)gd_tensor_unref(x);
    (void)gd_tensor_unref(labels);
    (void)gd_tensor_unref(each);
    gd_safetensors_close(golden);
}

/* A golden tensor [T, N, V] as [N, T, V], times a factor. */
static gd_tensor_t *samples_first(const gd_safetensors_t *golden, const char *name, const char *what, double factor)
{
    gd_tensor_t *raw = entry_tensor(golden, name, what);
    gd_tensor_t *turned = NULL;
    gd_tensor_t *scaled = NULL;
    gd_tensor_t *t = NULL;
    assert_ok(gd_transpose(raw, 0, 1, &turned));
    assert_ok(gd_scale(turned, factor, 0, &scaled));
    assert_ok(gd_contiguous(scaled, &t));
    (void)gd_tensor_unref(scaled);
    (void)gd_tensor_unref(turned);
    (void)gd_tensor_unref(raw);
    return t;
}

/* Targets that begin with the golden lengths, labels beyond them, and tokens as long as the inputs. */
static void given_make(const gd_safetensors_t *golden, const char *name, gd_dtype_t dtype, gd_tensor_t **y_p,
                       gd_tensor_t **tokens_p)
{
    gd_tensor_t *labels = entry_tensor(golden, name, "1");
    gd_tensor_t *lengths[2] = {entry_tensor(golden, name, "2"), entry_tensor(golden, name, "3")};
    gd_tensor_t *raw = NULL;
    float rows[4][6];
    int64_t tokens[4][9];
    for (int n = 0; n < 4; n++) {
        for (int k = 0; k < 2; k++) {
            rows[n][k] = (float)((const int64_t *)gd_tensor_data(lengths[k]))[n];
        }
        for (int s = 0; s < 4; s++) {
            rows[n][2 + s] = (float)((const int64_t *)gd_tensor_data(labels))[n * 4 + s];
        }
        for (int t = 0; t < 9; t++) { /* padding within a sample counts */
            tokens[n][t] = t + 1 == (int)rows[n][0] || (t < (int)rows[n][0] && t % 2 == 0);
        }
    }
    assert_ok(gd_tensor_from_data(GD_DTYPE_F32, 2, (int64_t[]){4, 6}, rows, &raw));
    assert_ok(gd_cast(raw, dtype, y_p));
    assert_ok(gd_tensor_from_data(GD_DTYPE_I64, 2, (int64_t[]){4, 9}, tokens, tokens_p));
    (void)gd_tensor_unref(raw);
    (void)gd_tensor_unref(lengths[1]);
    (void)gd_tensor_unref(lengths[0]);
    (void)gd_tensor_unref(labels);
}

/* What the targets above are where their labels are ended by padding. */
static gd_tensor_t *ended_make(gd_tensor_t *given)
{
    gd_tensor_t *ended = NULL;
    float rows[4][4];
    for (int n = 0; n < 4; n++) {
        const int64_t *row = (const int64_t *)gd_tensor_data(given) + (ptrdiff_t)n * 6;
        for (int s = 0; s < 4; s++) {
            rows[n][s] = s < row[1] ? (float)row[2 + s] : -1;
        }
    }
    assert_ok(gd_tensor_from_data(GD_DTYPE_F32, 2, (int64_t[]){4, 4}, rows, &ended));
    return ended;
}

/* nn.CTCLoss with input_lengths and target_lengths of each sample: its reductions and their gradients. */
static void ctc_with_lengths_agrees_with_pytorch(void **state)
{
    (void)state;
    enum { BATCH = 16 }; /* of the job; the golden one is 4 */
    static const struct {
        const char *name, *loss, *reduction;
        double factor; /* of PyTorch's reduction */
        bool has_tokens;
    } cases[] = {
        {"ctc", "{ctc: {lengths: given}}", "mean", 1, false},
        {"ctc", "{ctc: {lengths: given, reduction: batch_mean}}", "sum", 0.25, false},
        {"ctc", "{ctc: {lengths: given, reduction: sum}}", "sum", BATCH / 4.0, false},
        {"ctc", "{ctc: {lengths: tokens}}", "mean", 1, true},
        {"ctc_zero_infinity", "{ctc: {lengths: given, zero_infinity: true}}", "mean", 1, false},
        {"ctc_zero_infinity", "{ctc: {lengths: given, zero_infinity: true, reduction: sum}}", "sum", BATCH / 4.0,
         false},
        {"ctc_zero_infinity", "{ctc: {lengths: tokens, zero_infinity: true, reduction: batch_mean}}", "sum", 0.25,
         true},
        {"ctc", "{sum: [{loss: {ctc: {lengths: given, reduction: sum}}, weight: 0.5}]}", "sum", BATCH / 8.0, false},
    };
    gd_safetensors_t *golden = NULL;
    assert_ok(gd_safetensors_open(fixture_golden("losses.safetensors"), &golden));
    for (size_t i = 0; i < 2 * sizeof(cases) / sizeof(cases[0]); i++) {
        const size_t c = i / 2;
        char what[32];
        gd_tensor_t *y = NULL;
        gd_tensor_t *tokens = NULL;
        double loss = 0;
        double wanted = 0;
        given_make(golden, cases[c].name, i % 2 == 0 || cases[c].has_tokens ? GD_DTYPE_I64 : GD_DTYPE_F32, &y, &tokens);
        if (cases[c].has_tokens) {
            gd_tensor_t *ended = ended_make(y);
            (void)gd_tensor_unref(y);
            y = ended;
        }
        gd_tensor_t *x = samples_first(golden, cases[c].name, "0", 1);
        (void)snprintf(what, sizeof(what), "%s.grad0", cases[c].reduction);
        gd_tensor_t *dx = samples_first(golden, cases[c].name, what, cases[c].factor);
        (void)snprintf(what, sizeof(what), "%s.loss", cases[c].reduction);
        gd_tensor_t *theirs = entry_tensor(golden, cases[c].name, what);
        assert_ok(gd_tensor_item(theirs, &wanted));
        assert_ok(gd_tensor_set_requires_grad(x, true));

        assert_ok(loss_of_inputs(cases[c].loss, tokens, x, y, &loss));

        wanted *= cases[c].factor;
        if (!(fabs(loss - wanted) <= 1e-5 * fabs(wanted))) {
            fail_msg("%s: %.9g, PyTorch has %.9g", cases[c].loss, loss, wanted);
        }
        same_values(cases[c].loss, gd_tensor_grad(x), dx);
        (void)gd_tensor_unref(theirs);
        (void)gd_tensor_unref(dx);
        (void)gd_tensor_unref(x);
        (void)gd_tensor_unref(tokens);
        (void)gd_tensor_unref(y);
    }
    gd_safetensors_close(golden);
}

static void bad_targets_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *loss;
        int64_t shape[3];
        float target[8];
        int n_targets;
        status_t status;
        const char *message;
    } cases[] = {
        {"cosine_embedding", {2, 2, 3}, {1, 0}, 2, ST_ERR_DATA, "the target 0 of sample 1 is neither 1 nor -1"},
        {"margin_ranking", {2, 2, 1}, {1, 0.5F}, 2, ST_ERR_DATA, "the target 0.5 of sample 1 is no label"},
        {"ctc",
         {2, 3, 4},
         {1, 2, 1, 1, 2, -1, 1, 1},
         8,
         ST_ERR_DATA,
         "the target of sample 0 has 4 labels and 1 repeats; the outputs have 3 steps"},
        {"ctc", {2, 5, 4}, {1, 2, 4, -1}, 4, ST_ERR_DATA, "label 4 of sample 1 is outside 0 … 3, and not the padding"},
        {"{ctc: {lengths: given}}",
         {2, 3, 4},
         {3, 1, 2, 4, 1, 2},
         6,
         ST_ERR_DATA,
         "the target of sample 1 gives it 4 steps; the outputs have 0 … 3"},
        {"{ctc: {lengths: given}}",
         {2, 3, 4},
         {3, 1, 2, 3, 2, 2},
         6,
         ST_ERR_DATA,
         "the target of sample 1 gives it 2 labels; it has room for 0 … 1"},
        {"{ctc: {lengths: given}}", {2, 3, 4}, {3, -1, 2, 3, 1, 2}, 6, ST_ERR_DATA, "sample 0 gives it -1 labels"},
        {"{ctc: {lengths: given}}",
         {2, 3, 4},
         {1, 1, 2, 9, 0, 1, 1, 9},
         8,
         ST_ERR_DATA,
         "sample 1 has 1 labels and 0 repeats; the outputs have 0 steps"},
        {"{ctc: {lengths: given}}", {2, 3, 4}, {3, 1, 2, 3, 1, 7}, 6, ST_ERR_DATA, "label 7 of sample 1 is outside 0"},
        {"{ctc: {lengths: given}}", {2, 3, 4}, {3, 3}, 2, ST_ERR_SHAPE, "lengths: given: 1 number a target"},
        {"{ctc: {lengths: tokens}}",
         {2, 3, 4},
         {1, 2},
         2,
         ST_ERR_SHAPE,
         "are [2, 3, 4]; a step for each token of the input (lengths: tokens) is needed"},
        {"multilabel_margin", {2, 3, 0}, {1, 2, 3, -1}, 4, ST_ERR_DATA, "label 3 of sample 1 is outside 0 … 2"},
        {"multilabel_margin",
         {2, 3, 0},
         {0, 1, 2, 0, 1, -1, -1, -1},
         8,
         ST_ERR_DATA,
         "sample 0 has more than the 3 labels that there are"},
        {"multilabel_margin", {2, 3, 0}, {0, 1, 2}, 3, ST_ERR_SHAPE, "3 labels for 2 samples"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        gd_tensor_t *x = NULL;
        gd_tensor_t *y = NULL;
        double loss = 0;
        const int64_t n = cases[i].n_targets;
        assert_ok(gd_tensor_full(GD_DTYPE_F32, cases[i].shape[2] > 0 ? 3 : 2, cases[i].shape, 0.5, &x));
        assert_ok(gd_tensor_from_data(GD_DTYPE_F32, 1, &n, cases[i].target, &y));
        assert_fails(loss_compute(cases[i].loss, x, y, &loss), cases[i].status, cases[i].message);
        (void)gd_tensor_unref(y);
        (void)gd_tensor_unref(x);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(means_agree_with_pytorch),
        TEST(ctc_agrees_with_pytorch_and_ends_targets_at_the_padding),
        TEST(ctc_with_lengths_agrees_with_pytorch),
        TEST(bad_targets_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
