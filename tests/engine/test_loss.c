/* SPDX-License-Identifier: Apache-2.0 */
/* Losses and their gradients against PyTorch's (tests/golden/make_losses.py), for every reduction; bad input. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "gradd/autograd.h"
#include "gradd/loss.h"
#include "gradd/ops.h"
#include "gradd/safetensors.h"
#include "tests/support/fixture.h"

enum { MOST_IN = 4 };

typedef status_t (*loss_func_t)(gd_tensor_t **in, gd_reduction_t reduction, gd_tensor_t **loss_p);

#define CASE(name_x, call_x)                                                                                           \
    static status_t name_x(gd_tensor_t **in, gd_reduction_t reduction, gd_tensor_t **loss_p)                           \
    {                                                                                                                  \
        return call_x;                                                                                                 \
    }

CASE(l1, gd_l1_loss(in[0], in[1], reduction, loss_p))
CASE(mse, gd_mse_loss(in[0], in[1], reduction, loss_p))
CASE(smooth_l1, gd_smooth_l1_loss(in[0], in[1], 0.7, reduction, loss_p))
CASE(huber, gd_huber_loss(in[0], in[1], 1.3, reduction, loss_p))
CASE(bce, gd_bce_loss(in[0], in[1], in[2], reduction, loss_p))
CASE(bce_with_logits, gd_bce_with_logits_loss(in[0], in[1], in[2], in[3], reduction, loss_p))
CASE(kl_div, gd_kl_div_loss(in[0], in[1], false, reduction, loss_p))
CASE(kl_div_log, gd_kl_div_loss(in[0], in[1], true, reduction, loss_p))
CASE(poisson_nll, gd_poisson_nll_loss(in[0], in[1], true, false, 1e-8, reduction, loss_p))
CASE(poisson_nll_full, gd_poisson_nll_loss(in[0], in[1], false, true, 1e-8, reduction, loss_p))
CASE(gaussian_nll, gd_gaussian_nll_loss(in[0], in[1], in[2], false, 1e-6, reduction, loss_p))
CASE(gaussian_nll_full, gd_gaussian_nll_loss(in[0], in[1], in[2], true, 0.3, reduction, loss_p))
CASE(hinge_embedding, gd_hinge_embedding_loss(in[0], in[1], 0.8, reduction, loss_p))
CASE(soft_margin, gd_soft_margin_loss(in[0], in[1], reduction, loss_p))
CASE(focal, gd_focal_loss(in[0], in[1], 0.25, 2, reduction, loss_p))
CASE(focal_plain, gd_focal_loss(in[0], in[1], -1, 1.5, reduction, loss_p))
CASE(nll, gd_nll_loss(in[0], in[1], NULL, -100, reduction, loss_p))
CASE(nll_weight, gd_nll_loss(in[0], in[1], in[2], 2, reduction, loss_p))
CASE(cross_entropy, gd_cross_entropy_loss(in[0], in[1], NULL, -100, 0, reduction, loss_p))
CASE(cross_entropy_smooth, gd_cross_entropy_loss(in[0], in[1], in[2], -100, 0.2, reduction, loss_p))
CASE(multi_margin, gd_multi_margin_loss(in[0], in[1], NULL, 1, 1, reduction, loss_p))
CASE(multi_margin_2, gd_multi_margin_loss(in[0], in[1], in[2], 2, 0.6, reduction, loss_p))
CASE(multi_label_margin, gd_multi_label_margin_loss(in[0], in[1], reduction, loss_p))
CASE(multi_label_soft_margin, gd_multi_label_soft_margin_loss(in[0], in[1], in[2], reduction, loss_p))
CASE(margin_ranking, gd_margin_ranking_loss(in[0], in[1], in[2], 0.3, reduction, loss_p))
CASE(cosine_embedding, gd_cosine_embedding_loss(in[0], in[1], in[2], -0.2, reduction, loss_p))
CASE(dice, gd_dice_loss(in[0], in[1], 1, reduction, loss_p))
CASE(info_nce, gd_info_nce_loss(in[0], in[1], 0.2, reduction, loss_p))
CASE(triplet, gd_triplet_margin_loss(in[0], in[1], in[2], &(gd_triplet_options_t){.margin = 1, .epsilon = 1e-6},
                                     reduction, loss_p))
CASE(triplet_swap,
     gd_triplet_margin_loss(in[0], in[1], in[2],
                            &(gd_triplet_options_t){.margin = 2, .p = 3, .epsilon = 1e-6, .has_swap = true}, reduction,
                            loss_p))

static status_t manhattan(void *arg, gd_tensor_t *a, gd_tensor_t *b, gd_tensor_t **distance_p)
{
    return gd_pairwise_distance(a, b, 1, *(const double *)arg, distance_p);
}

static status_t triplet_distance(gd_tensor_t **in, gd_reduction_t reduction, gd_tensor_t **loss_p)
{
    double epsilon = 0;
    const gd_triplet_options_t options = {.margin = 1.5, .distance = manhattan, .arg = &epsilon};
    return gd_triplet_margin_loss(in[0], in[1], in[2], &options, reduction, loss_p);
}

static status_t ctc_of(gd_tensor_t **in, bool is_zero_infinity, gd_reduction_t reduction, gd_tensor_t **loss_p)
{
    gd_tensor_t *logarithms = NULL;
    status_t status = gd_log_softmax(in[0], -1, &logarithms);
    if (status == ST_OK) {
        status = gd_ctc_loss(logarithms, in[1], in[2], in[3], 0, is_zero_infinity, reduction, loss_p);
    }
    (void)gd_tensor_unref(logarithms);
    return status;
}

CASE(ctc, ctc_of(in, false, reduction, loss_p))
CASE(ctc_zero_infinity, ctc_of(in, true, reduction, loss_p))

static const struct {
    const char *name;
    loss_func_t loss;
} cases[] = {
    {"l1", l1},
    {"mse", mse},
    {"smooth_l1", smooth_l1},
    {"huber", huber},
    {"bce", bce},
    {"bce_weight", bce},
    {"bce_with_logits", bce_with_logits},
    {"bce_with_logits_weights", bce_with_logits},
    {"kl_div", kl_div},
    {"kl_div_log", kl_div_log},
    {"poisson_nll", poisson_nll},
    {"poisson_nll_full", poisson_nll_full},
    {"gaussian_nll", gaussian_nll},
    {"gaussian_nll_full", gaussian_nll_full},
    {"hinge_embedding", hinge_embedding},
    {"soft_margin", soft_margin},
    {"focal", focal},
    {"focal_plain", focal_plain},
    {"nll", nll},
    {"nll_weight", nll_weight},
    {"cross_entropy", cross_entropy},
    {"cross_entropy_smooth", cross_entropy_smooth},
    {"multi_margin", multi_margin},
    {"multi_margin_2", multi_margin_2},
    {"multi_label_margin", multi_label_margin},
    {"multi_label_soft_margin", multi_label_soft_margin},
    {"multi_label_soft_margin_weight", multi_label_soft_margin},
    {"ctc", ctc},
    {"ctc_zero_infinity", ctc_zero_infinity},
    {"margin_ranking", margin_ranking},
    {"cosine_embedding", cosine_embedding},
    {"triplet", triplet},
    {"triplet_swap", triplet_swap},
    {"triplet_distance", triplet_distance},
    {"dice", dice},
    {"info_nce", info_nce},
};

static const gd_safetensors_entry_t *entry_find(const gd_safetensors_t *golden, const char *name, const char *what)
{
    char full[96];
    (void)snprintf(full, sizeof(full), "%s.%s", name, what);
    return gd_safetensors_find(golden, full);
}

static void compare(const char *name, const char *what, const gd_tensor_t *ours, const gd_safetensors_entry_t *theirs)
{
    int64_t numel = 1;
    for (int d = 0; d < theirs->n_dims; d++) {
        numel *= theirs->shape[d];
    }
    assert_int_equal(gd_tensor_numel(ours), numel);
    gd_tensor_t *wide = NULL;
    assert_ok(gd_tensor_new(GD_DTYPE_F64, gd_tensor_n_dims(ours), gd_tensor_shape(ours), &wide));
    assert_ok(gd_tensor_copy(wide, (gd_tensor_t *)(uintptr_t)ours));
    const double *a = gd_tensor_data(wide);
    double tolerance = gd_tensor_dtype(ours) == GD_DTYPE_F64 ? 1e-12 : 1e-5;
    double largest = 1e-3;
    for (int64_t i = 0; i < numel; i++) {
        double b = 0;
        memcpy(&b, (const char *)theirs->data + i * 8, sizeof(b));
        largest = isfinite(b) && fabs(b) > largest ? fabs(b) : largest;
    }
    for (int64_t i = 0; i < numel; i++) {
        double b = 0;
        memcpy(&b, (const char *)theirs->data + i * 8, sizeof(b));
        if (!(a[i] == b || fabs(a[i] - b) <= tolerance * largest)) {
            fail_msg("%s, %s: element %lld is %.9g, PyTorch has %.9g", name, what, (long long)i, a[i], b);
        }
    }
    (void)gd_tensor_unref(wide);
}

static void inputs_read(const gd_safetensors_t *golden, const char *name, gd_dtype_t dtype, gd_tensor_t **in)
{
    for (int i = 0; i < MOST_IN; i++) {
        char index[8];
        (void)snprintf(index, sizeof(index), "%d", i);
        const gd_safetensors_entry_t *entry = entry_find(golden, name, index);
        if (entry == NULL) {
            return;
        }
        gd_tensor_t *narrow = NULL;
        assert_ok(gd_tensor_from_data(entry->dtype, entry->n_dims, entry->shape, entry->data, &narrow));
        assert_ok(gd_cast(narrow, entry->dtype == GD_DTYPE_F32 ? dtype : entry->dtype, &in[i]));
        (void)gd_tensor_unref(narrow);
        (void)snprintf(index, sizeof(index), "grad%d", i);
        char gradient[32];
        (void)snprintf(gradient, sizeof(gradient), "sum.%s", index);
        if (entry_find(golden, name, gradient) != NULL) {
            assert_ok(gd_tensor_set_requires_grad(in[i], true));
        }
    }
}

static void case_run(const gd_safetensors_t *golden, const char *name, loss_func_t apply, gd_reduction_t reduction,
                     gd_dtype_t dtype)
{
    static const char *const reductions[] = {"mean", "sum", "none"};
    gd_tensor_t *in[MOST_IN] = {NULL};
    gd_tensor_t *loss = NULL;
    gd_tensor_t *dloss = NULL;
    char what[32];
    inputs_read(golden, name, dtype, in);

    assert_ok(apply(in, reduction, &loss));

    (void)snprintf(what, sizeof(what), "%s.loss", reductions[reduction]);
    const gd_safetensors_entry_t *expected = entry_find(golden, name, what);
    assert_non_null(expected);
    compare(name, what, loss, expected);
    assert_ok(gd_tensor_new(dtype, gd_tensor_n_dims(loss), gd_tensor_shape(loss), &dloss));
    for (int64_t i = 0; i < gd_tensor_numel(loss); i++) {
        if (dtype == GD_DTYPE_F32) {
            ((float *)gd_tensor_data(dloss))[i] = (float)(i + 1);
        } else {
            ((double *)gd_tensor_data(dloss))[i] = (double)(i + 1);
        }
    }
    assert_ok(gd_backward(loss, dloss, false));
    for (int i = 0; i < MOST_IN && in[i] != NULL; i++) {
        (void)snprintf(what, sizeof(what), "%s.grad%d", reductions[reduction], i);
        expected = entry_find(golden, name, what);
        if (expected != NULL) {
            assert_non_null(gd_tensor_grad(in[i]));
            compare(name, what, gd_tensor_grad(in[i]), expected);
        }
    }
    (void)gd_tensor_unref(dloss);
    (void)gd_tensor_unref(loss);
    for (int i = 0; i < MOST_IN; i++) {
        (void)gd_tensor_unref(in[i]);
    }
}

static void values_and_gradients_are_pytorchs(void **state)
{
    (void)state;
    gd_safetensors_t *golden = NULL;
    assert_ok(gd_safetensors_open(fixture_golden("losses.safetensors"), &golden));
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        for (int reduction = 0; reduction < 3; reduction++) {
            case_run(golden, cases[i].name, cases[i].loss, (gd_reduction_t)reduction, GD_DTYPE_F32);
            case_run(golden, cases[i].name, cases[i].loss, (gd_reduction_t)reduction, GD_DTYPE_F64);
        }
    }
    gd_safetensors_close(golden);
}

static void every_case_of_the_file_is_compared(void **state)
{
    (void)state;
    static const char suffix[] = ".mean.loss";
    gd_safetensors_t *golden = NULL;
    size_t n_cases = 0;
    assert_ok(gd_safetensors_open(fixture_golden("losses.safetensors"), &golden));
    for (int i = 0; i < gd_safetensors_count(golden); i++) {
        const char *name = gd_safetensors_at(golden, i)->name;
        const size_t length = strlen(name);
        n_cases += length >= sizeof(suffix) && strcmp(name + length + 1 - sizeof(suffix), suffix) == 0;
    }
    assert_int_equal(n_cases, sizeof(cases) / sizeof(cases[0]));
    gd_safetensors_close(golden);
}

static void several_tasks_are_summed_by_weight(void **state)
{
    (void)state;
    gd_tensor_t *losses[2] = {NULL};
    gd_tensor_t *sum = NULL;
    const double weights[2] = {0.5, 3};
    double value = 0;
    for (int i = 0; i < 2; i++) {
        assert_ok(gd_tensor_full(GD_DTYPE_F32, 0, NULL, i + 1, &losses[i]));
        assert_ok(gd_tensor_set_requires_grad(losses[i], true));
    }

    assert_ok(gd_weighted_sum_loss(losses, weights, 2, &sum));

    assert_ok(gd_tensor_item(sum, &value));
    assert_true(value == 6.5);
    assert_ok(gd_backward(sum, NULL, false));
    assert_ok(gd_tensor_item(gd_tensor_grad(losses[1]), &value));
    assert_true(value == 3);
    assert_fails(gd_weighted_sum_loss(losses, weights, 0, &sum), ST_ERR_INVAL, "no losses");
    (void)gd_tensor_unref(sum);
    (void)gd_tensor_unref(losses[0]);
    (void)gd_tensor_unref(losses[1]);
}

static void bad_input_is_refused_with_its_shapes(void **state)
{
    (void)state;
    gd_tensor_t *x = NULL;
    gd_tensor_t *y = NULL;
    gd_tensor_t *labels = NULL;
    gd_tensor_t *loss = NULL;
    assert_ok(gd_tensor_zeros(GD_DTYPE_F32, 2, (int64_t[]){3, 4}, &x));
    assert_ok(gd_tensor_zeros(GD_DTYPE_F32, 2, (int64_t[]){4, 3}, &y));
    assert_ok(gd_tensor_full(GD_DTYPE_I64, 1, (int64_t[]){3}, 7, &labels));
    assert_fails(gd_margin_ranking_loss(x, y, x, 0, GD_REDUCTION_MEAN, &loss), ST_ERR_SHAPE,
                 "margin_ranking: [3, 4] and [4, 3]");
    assert_fails(gd_nll_loss(x, labels, NULL, -100, GD_REDUCTION_MEAN, &loss), ST_ERR_DATA,
                 "label 7 of row 0 is outside 0 … 3");
    assert_fails(gd_huber_loss(x, x, 0, GD_REDUCTION_MEAN, &loss), ST_ERR_RANGE, "delta 0 is not positive");
    assert_fails(gd_info_nce_loss(x, x, 0, GD_REDUCTION_MEAN, &loss), ST_ERR_INVAL, "a positive temperature");
    assert_true(gd_l1_loss(x, y, GD_REDUCTION_MEAN, &loss) != ST_OK);
    assert_ok(gd_tensor_set_requires_grad(x, true));
    assert_ok(gd_focal_loss(y, y, 0.25, 2, GD_REDUCTION_SUM, &loss));
    (void)gd_tensor_unref(loss);
    assert_ok(gd_focal_loss(x, x, 0.25, 2, GD_REDUCTION_SUM, &loss));
    assert_fails(gd_backward(loss, NULL, false), ST_ERR_UNSUPPORTED, "no gradient with respect to input 1");
    (void)gd_tensor_unref(loss);
    (void)gd_tensor_unref(labels);
    (void)gd_tensor_unref(y);
    (void)gd_tensor_unref(x);
}

/* One probability that isn't a number is no reason for a loss that is infinite, or left out by zero_infinity. */
static void ctc_of_a_nan_is_nan(void **state)
{
    (void)state;
    const float logarithms[2][2] = {{0, -INFINITY}, {NAN, -INFINITY}};
    const int64_t target = 1;
    const int64_t n_times = 2;
    gd_tensor_t *x = NULL;
    gd_tensor_t *targets = NULL;
    gd_tensor_t *times = NULL;
    gd_tensor_t *lengths = NULL;
    assert_ok(gd_tensor_from_data(GD_DTYPE_F32, 3, (int64_t[]){2, 1, 2}, logarithms, &x));
    assert_ok(gd_tensor_from_data(GD_DTYPE_I64, 2, (int64_t[]){1, 1}, &target, &targets));
    assert_ok(gd_tensor_from_data(GD_DTYPE_I64, 1, (int64_t[]){1}, &n_times, &times));
    assert_ok(gd_tensor_from_data(GD_DTYPE_I64, 1, (int64_t[]){1}, &target, &lengths));
    for (int is_zero_infinity = 0; is_zero_infinity < 2; is_zero_infinity++) {
        gd_tensor_t *loss = NULL;
        double value = 0;
        assert_ok(gd_ctc_loss(x, targets, times, lengths, 0, is_zero_infinity, GD_REDUCTION_SUM, &loss));
        assert_ok(gd_tensor_item(loss, &value));
        assert_true(isnan(value));
        (void)gd_tensor_unref(loss);
    }
    (void)gd_tensor_unref(lengths);
    (void)gd_tensor_unref(times);
    (void)gd_tensor_unref(targets);
    (void)gd_tensor_unref(x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(values_and_gradients_are_pytorchs),
        TEST(every_case_of_the_file_is_compared),
        TEST(several_tasks_are_summed_by_weight),
        TEST(bad_input_is_refused_with_its_shapes),
        TEST(ctc_of_a_nan_is_nan),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
