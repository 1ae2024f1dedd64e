/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Losses for every reduction with and without weights, ignored labels and label smoothing, also where all labels are
 * ignored or there is nothing, against PyTorch (tests/golden/make_loss_edges.py): the mean over nothing is NaN, its
 * gradient too where PyTorch's is, the sum 0. (A training step over labels that are all ignored has a loss of 0: the
 * worker divides by the labels of the whole batch, and by nothing where there are none.)
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "gradd/autograd.h"
#include "gradd/context.h"
#include "gradd/loss.h"
#include "gradd/ops.h"
#include "gradd/safetensors.h"
#include "tests/support/fixture.h"

static gd_safetensors_t *golden;
static int n_compared;
static const char *const reductions[] = {
    [GD_REDUCTION_MEAN] = "mean", [GD_REDUCTION_SUM] = "sum", [GD_REDUCTION_NONE] = "none"};

static const gd_safetensors_entry_t *entry_get(const char *name, const char *part)
{
    char key[128];
    (void)snprintf(key, sizeof(key), "%s%s%s", name, part[0] != '\0' ? "." : "", part);
    const gd_safetensors_entry_t *entry = gd_safetensors_find(golden, key);
    if (entry == NULL) {
        fail_msg("PyTorch's values lack %s", key);
    }
    return entry;
}

/* The first n rows (n < 0: all). */
static gd_tensor_t *tensor_get(const char *name, int64_t n)
{
    const gd_safetensors_entry_t *entry = entry_get(name, "");
    int64_t shape[GD_MAX_DIMS];
    gd_tensor_t *t = NULL;
    memcpy(shape, entry->shape, (size_t)entry->n_dims * sizeof(int64_t));
    shape[0] = n >= 0 ? n : shape[0];
    assert_ok(gd_tensor_from_data(entry->dtype, entry->n_dims, shape, entry->data, &t));
    return t;
}

static void compare(const char *name, const char *part, const gd_tensor_t *got)
{
    const gd_safetensors_entry_t *entry = entry_get(name, part);
    int64_t n = 1;
    for (int d = 0; d < entry->n_dims; d++) {
        n *= entry->shape[d];
    }
    assert_non_null(got);
    if (gd_tensor_n_dims(got) != entry->n_dims || gd_tensor_numel(got) != n) {
        fail_msg("%s: %s: the shapes differ", name, part);
    }
    for (int64_t i = 0; i < n; i++) {
        const double a = (double)((const float *)gd_tensor_data(got))[i];
        const double b = (double)((const float *)entry->data)[i];
        if (!((isnan(a) && isnan(b)) || a == b || fabs(a - b) <= 1e-5 * fabs(b) + 1e-6)) {
            fail_msg("%s: %s: element %lld is %.9g, PyTorch has %.9g", name, part, (long long)i, a, b);
        }
    }
}

/* The loss and the gradient of its sum. */
static void finish(const char *name, status_t status, gd_tensor_t *x, gd_tensor_t *loss)
{
    gd_tensor_t *ones = NULL;
    if (status != ST_OK) {
        fail_msg("%s: %s", name, status_message());
    }
    compare(name, "y", loss);
    assert_ok(gd_tensor_full(GD_DTYPE_F32, gd_tensor_n_dims(loss), gd_tensor_shape(loss), 1, &ones));
    assert_ok(gd_backward(loss, ones, false));
    compare(name, "dx", gd_tensor_grad(x));
    (void)gd_tensor_unref(ones);
    (void)gd_tensor_unref(loss);
    n_compared++;
}

static void classes_check(bool is_nll, gd_reduction_t reduction, int bits, const char *kind)
{
    char name[96];
    char labels[32];
    const bool has_weight = (bits & 4) != 0, ignores = (bits & 2) != 0, smooths = (bits & 1) != 0;
    (void)snprintf(name, sizeof(name), "%s.%s.%d%d%d.%s", is_nll ? "nll" : "cross_entropy", reductions[reduction],
                   has_weight, ignores, smooths, kind);
    (void)snprintf(labels, sizeof(labels), "targets.%s", kind);
    gd_tensor_t *targets = tensor_get(labels, -1);
    gd_tensor_t *x = tensor_get("x", gd_tensor_numel(targets));
    gd_tensor_t *weight = has_weight ? tensor_get("weight", -1) : NULL;
    gd_tensor_t *logarithms = NULL;
    gd_tensor_t *loss = NULL;
    const int64_t ignored = ignores ? 2 : -100;
    assert_ok(gd_tensor_set_requires_grad(x, true));

    status_t status;
    if (is_nll) {
        assert_ok(gd_log_softmax(x, -1, &logarithms));
        status = gd_nll_loss(logarithms, targets, weight, ignored, reduction, &loss);
    } else {
        status = gd_cross_entropy_loss(x, targets, weight, ignored, smooths ? 0.2 : 0, reduction, &loss);
    }

    finish(name, status, x, loss);
    (void)gd_tensor_unref(logarithms);
    (void)gd_tensor_unref(weight);
    (void)gd_tensor_unref(x);
    (void)gd_tensor_unref(targets);
}

static status_t pointwise_run(int kind, gd_tensor_t *x, gd_tensor_t *y, gd_reduction_t reduction, gd_tensor_t **loss_p)
{
    switch (kind) {
    case 0:
        return gd_l1_loss(x, y, reduction, loss_p);
    case 1:
        return gd_mse_loss(x, y, reduction, loss_p);
    case 2:
        return gd_smooth_l1_loss(x, y, 1, reduction, loss_p);
    case 3:
        return gd_huber_loss(x, y, 1, reduction, loss_p);
    case 4:
        return gd_bce_loss(x, y, NULL, reduction, loss_p);
    case 5:
        return gd_bce_with_logits_loss(x, y, NULL, NULL, reduction, loss_p);
    case 6:
        return gd_kl_div_loss(x, y, false, reduction, loss_p);
    case 7:
        return gd_poisson_nll_loss(x, y, true, false, 1e-8, reduction, loss_p);
    case 8:
        return gd_hinge_embedding_loss(x, y, 1, reduction, loss_p);
    default:
        return gd_soft_margin_loss(x, y, reduction, loss_p);
    }
}

static void every_combination_is_pytorchs(void **state)
{
    (void)state;
    static const char *const labels[] = {"mixed", "ignored", "empty"};
    static const char *const kinds[] = {
        "l1",     "mse",         "smooth_l1",       "huber",      "bce", "bce_with_logits",
        "kl_div", "poisson_nll", "hinge_embedding", "soft_margin"};
    bool was_enabled = gd_grad_set_enabled(true);
    assert_ok(gd_safetensors_open(fixture_golden("loss_edges.safetensors"), &golden));
    for (int r = 0; r < 3; r++) {
        for (int bits = 0; bits < 8; bits++) {
            for (int k = 0; k < 3; k++) {
                classes_check(false, (gd_reduction_t)r, bits, labels[k]);
                if ((bits & 1) == 0) {
                    classes_check(true, (gd_reduction_t)r, bits, labels[k]);
                }
            }
        }
        for (int k = 0; k < 20; k++) {
            char name[96];
            const int n = k % 2 == 0 ? 6 : 0;
            (void)snprintf(name, sizeof(name), "%s.%s.%d", kinds[k / 2], reductions[r], n);
            gd_tensor_t *x = tensor_get("pointwise.x", n);
            gd_tensor_t *y = tensor_get("pointwise.y", n);
            gd_tensor_t *loss = NULL;
            for (int i = 0; i < n && k / 2 >= 8; i++) {
                float *sign = (float *)gd_tensor_data(y) + i;
                *sign = *sign > 0.4F ? 1.0F : -1.0F;
            }
            assert_ok(gd_tensor_set_requires_grad(x, true));
            status_t status = pointwise_run(k / 2, x, y, (gd_reduction_t)r, &loss);
            finish(name, status, x, loss);
            (void)gd_tensor_unref(y);
            (void)gd_tensor_unref(x);
        }
    }
    int n_cases = 0;
    for (int i = 0; i < gd_safetensors_count(golden); i++) {
        const char *name = gd_safetensors_at(golden, i)->name;
        n_cases += strlen(name) > 3 && strcmp(name + strlen(name) - 3, ".dx") == 0;
    }
    assert_int_equal(n_compared, n_cases);
    gd_safetensors_close(golden);
    (void)gd_grad_set_enabled(was_enabled);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_combination_is_pytorchs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
