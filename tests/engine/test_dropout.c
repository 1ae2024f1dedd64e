/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Dropout in training: PyTorch's generator isn't ours, but for the mask that ours draws, values and gradients are
 * PyTorch's formulas in float64; whole channels and samples go together; the share that is kept, and for the kinds for
 * selu mean and variance, are what they should be.
 */
#include <math.h>

#include "gradd/autograd.h"
#include "gradd/context.h"
#include "gradd/modules.h"
#include "gradd/ops.h"
#include "tests/support/fixture.h"

#define SATURATED 1.7580993408473766 /* -selu(-infinity); PyTorch's alpha */

static bool is_alpha(gd_dropout_kind_t kind)
{
    return kind == GD_DROPOUT_ALPHA || kind == GD_DROPOUT_ALPHA_CHANNELS;
}

/* Axes that a draw belongs to; 0: every element has its own. */
static int leading_axes(gd_dropout_kind_t kind)
{
    return kind == GD_DROPOUT_CHANNELS || kind == GD_DROPOUT_ALPHA_CHANNELS ? 2 : kind == GD_DROPOUT_SAMPLES;
}

/* Of about normal distribution: sums of twelve uniform numbers. */
static gd_tensor_t *normal_new(int n_dims, const int64_t *shape)
{
    gd_tensor_t *t = NULL;
    uint32_t seed = 1;
    assert_ok(gd_tensor_new(GD_DTYPE_F32, n_dims, shape, &t));
    for (int64_t i = 0; i < gd_tensor_numel(t); i++) {
        double sum = -6;
        for (int k = 0; k < 12; k++) {
            seed = seed * 1664525U + 1013904223U;
            sum += (double)(seed >> 8) / 16777216.0;
        }
        ((float *)gd_tensor_data(t))[i] = (float)sum;
    }
    return t;
}

/* Twice at the same position the mask is the same: of ones, what is kept is the larger value. */
static gd_tensor_t *forward(gd_module_t *module, gd_tensor_t *x)
{
    gd_tensor_t *y = NULL;
    gd_rng_set_position(11, 5, 2);
    assert_ok(gd_module_forward(module, x, &y));
    return y;
}

static void assert_near(const char *what, int64_t i, float got, double expected)
{
    if (!(fabs((double)got - expected) <= 1e-6 * fmax(1, fabs(expected)))) {
        fail_msg("%s: element %lld is %.9g, by PyTorch's formula %.9g", what, (long long)i, (double)got, expected);
    }
}

/* Values and gradients against the formulas of torch.nn.functional, given the mask. */
static void formula_check(gd_dropout_kind_t kind, double p, gd_tensor_t *x, const gd_tensor_t *ones, gd_tensor_t *y)
{
    const int64_t n = gd_tensor_numel(x);
    const double a = 1 / sqrt((SATURATED * SATURATED * p + 1) * (1 - p));
    gd_tensor_t *dy = normal_new(gd_tensor_n_dims(x), gd_tensor_shape(x));
    assert_ok(gd_backward(y, dy, false));
    const float *dx = gd_tensor_data(gd_tensor_grad(x));
    int64_t n_kept = 0;
    for (int64_t i = 0; i < n; i++) {
        const double noise = ((const float *)gd_tensor_data(ones))[i] > 0.5F;
        const double value = (double)((const float *)gd_tensor_data(x))[i];
        const double upstream = (double)((const float *)gd_tensor_data(dy))[i];
        const double scale = is_alpha(kind) ? noise * a : noise / (1 - p);
        const double shift = is_alpha(kind) ? (noise - 1) * SATURATED * a + SATURATED * a * p : 0;
        assert_near("value", i, ((const float *)gd_tensor_data(y))[i], value * scale + shift);
        assert_near("gradient", i, dx[i], upstream * scale);
        n_kept += noise > 0;
    }
    int64_t n_draws = n;
    for (int d = leading_axes(kind); d > 0 && d < gd_tensor_n_dims(x); d++) {
        n_draws /= gd_tensor_dim(x, d);
    }
    const double share = (double)n_kept / (double)n;
    assert_true(fabs(share - (1 - p)) <= 4.5 * sqrt(p * (1 - p) / (double)n_draws));
    (void)gd_tensor_unref(dy);
}

/* All elements of a draw have one fate. */
static void stretches_check(gd_dropout_kind_t kind, const gd_tensor_t *ones)
{
    int64_t stretch = 1;
    for (int d = leading_axes(kind); d > 0 && d < gd_tensor_n_dims(ones); d++) {
        stretch *= gd_tensor_dim(ones, d);
    }
    const float *mask = gd_tensor_data(ones);
    for (int64_t i = 0; i < gd_tensor_numel(ones); i++) {
        assert_true(mask[i] == mask[i / stretch * stretch]);
    }
}

static void values_and_gradients_are_pytorchs_for_the_mask(void **state)
{
    (void)state;
    static const struct {
        gd_dropout_kind_t kind;
        int n_dims;
        int64_t shape[5];
    } cases[] = {
        {GD_DROPOUT_ELEMENTS, 2, {400, 50}},
        {GD_DROPOUT_CHANNELS, 3, {100, 30, 7}}, /* Dropout1d */
        {GD_DROPOUT_CHANNELS, 4, {100, 30, 3, 2}},
        {GD_DROPOUT_CHANNELS, 5, {100, 30, 2, 2, 3}},
        {GD_DROPOUT_SAMPLES, 2, {2000, 5}},
        {GD_DROPOUT_ALPHA, 2, {400, 50}},
        {GD_DROPOUT_ALPHA_CHANNELS, 4, {100, 30, 3, 2}},
    };
    static const double p[] = {0.1, 0.5, 0.9};
    bool was_recording = gd_grad_set_enabled(true);
    bool was_training = gd_training_set(true);
    for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]) * 3; c++) {
        const int n_dims = cases[c / 3].n_dims;
        gd_module_t *module = NULL;
        gd_tensor_t *ones = NULL;
        gd_tensor_t *x = normal_new(n_dims, cases[c / 3].shape);
        assert_ok(gd_dropout_kind_new(cases[c / 3].kind, p[c % 3], &module));
        assert_ok(gd_module_set_paths(module));
        assert_ok(gd_tensor_full(GD_DTYPE_F32, n_dims, cases[c / 3].shape, 1, &ones));
        assert_ok(gd_tensor_set_requires_grad(x, true));

        gd_tensor_t *mask = forward(module, ones);
        gd_tensor_t *y = forward(module, x);
        if (is_alpha(cases[c / 3].kind)) { /* what is dropped is moved: not 0, but the smaller of two values */
            const double a = 1 / sqrt((SATURATED * SATURATED * p[c % 3] + 1) * (1 - p[c % 3]));
            const float dropped = (float)(-SATURATED * a + SATURATED * a * p[c % 3]);
            for (int64_t i = 0; i < gd_tensor_numel(mask); i++) {
                float *at = (float *)gd_tensor_data(mask) + i;
                *at = fabsf(*at - dropped) > 1e-4F ? 1.0F : 0.0F;
            }
        }

        stretches_check(cases[c / 3].kind, mask);
        formula_check(cases[c / 3].kind, p[c % 3], x, mask, y);
        (void)gd_tensor_unref(y);
        (void)gd_tensor_unref(mask);
        (void)gd_tensor_unref(ones);
        (void)gd_tensor_unref(x);
        (void)gd_module_unref(module);
    }
    (void)gd_training_set(was_training);
    (void)gd_grad_set_enabled(was_recording);
}

static void moments(const gd_tensor_t *t, double *mean_p, double *variance_p)
{
    const int64_t n = gd_tensor_numel(t);
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < n; i++) {
        const double x = (double)((const float *)gd_tensor_data(t))[i];
        sum += x;
        squares += x * x;
    }
    *mean_p = sum / (double)n;
    *variance_p = squares / (double)n - *mean_p * *mean_p;
}

static void alpha_kinds_keep_mean_and_variance(void **state)
{
    (void)state;
    static const gd_dropout_kind_t kinds[] = {GD_DROPOUT_ALPHA, GD_DROPOUT_ALPHA_CHANNELS};
    gd_tensor_t *x = normal_new(3, (const int64_t[3]){500, 200, 2});
    bool was_training = gd_training_set(true);
    for (int i = 0; i < 4; i++) {
        gd_module_t *module = NULL;
        double mean = 0, variance = 0;
        assert_ok(gd_dropout_kind_new(kinds[i / 2], i % 2 == 0 ? 0.1 : 0.5, &module));
        assert_ok(gd_module_set_paths(module));
        gd_tensor_t *y = forward(module, x);

        moments(y, &mean, &variance);
        assert_true(fabs(mean) <= 0.02);
        assert_true(fabs(variance - 1) <= 0.03);
        (void)gd_tensor_unref(y);
        (void)gd_module_unref(module);
    }
    (void)gd_training_set(was_training);
    (void)gd_tensor_unref(x);
}

/* With p = 1 nothing is left, of the gradient neither, and nothing that isn't a number comes of 1 / (1 - p). */
static void all_may_be_dropped(void **state)
{
    (void)state;
    gd_tensor_t *x = normal_new(4, (const int64_t[4]){3, 5, 2, 2});
    bool was_training = gd_training_set(true);
    bool was_recording = gd_grad_set_enabled(true);
    assert_ok(gd_tensor_set_requires_grad(x, true));
    for (int kind = 0; kind < GD_DROPOUT_COUNT; kind++) {
        gd_module_t *module = NULL;
        assert_ok(gd_dropout_kind_new((gd_dropout_kind_t)kind, 1, &module));
        assert_ok(gd_module_set_paths(module));
        gd_tensor_t *y = forward(module, x);

        assert_ok(gd_backward(y, y, false));

        for (int64_t i = 0; i < gd_tensor_numel(x); i++) {
            assert_true(((float *)gd_tensor_data(y))[i] == 0.0F);
            assert_true(((float *)gd_tensor_data(gd_tensor_grad(x)))[i] == 0.0F);
        }
        (void)gd_tensor_unref(y);
        (void)gd_module_unref(module);
    }
    (void)gd_grad_set_enabled(was_recording);
    (void)gd_training_set(was_training);
    (void)gd_tensor_unref(x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(values_and_gradients_are_pytorchs_for_the_mask),
        TEST(alpha_kinds_keep_mean_and_variance),
        TEST(all_may_be_dropped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
