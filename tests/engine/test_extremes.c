/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where numbers are large, or aren't finite: f32 is as good as f64 says although scores and logits are in the
 * thousands, and what isn't finite goes only where the formula, or PyTorch, takes it.
 */
#include <math.h>

#include "gradd/autograd.h"
#include "gradd/context.h"
#include "gradd/ops.h"
#include "tests/support/fixture.h"

typedef status_t (*function_t)(gd_tensor_t *const *x, gd_tensor_t **y_p);

/* Whole numbers between -most and most, which products of a few leave exact in f32. */
static gd_tensor_t *whole_numbers(int n_dims, const int64_t *shape, int most, uint32_t seed)
{
    gd_tensor_t *t = NULL;
    assert_ok(gd_tensor_new(GD_DTYPE_F64, n_dims, shape, &t));
    for (int64_t i = 0; i < gd_tensor_numel(t); i++) {
        seed = seed * 1664525U + 1013904223U;
        ((double *)gd_tensor_data(t))[i] = (double)(seed >> 8) / 0x1.0p24 * 2 * most - most;
        ((double *)gd_tensor_data(t))[i] = round(((double *)gd_tensor_data(t))[i]);
    }
    return t;
}

static gd_tensor_t *as(gd_tensor_t *t, gd_dtype_t dtype)
{
    gd_tensor_t *cast = NULL;
    assert_ok(gd_cast(t, dtype, &cast));
    return cast;
}

/* y and then the gradients of x[n], in f64. */
static void run(function_t function, gd_tensor_t *const *x, int n, gd_dtype_t dtype, gd_tensor_t **out)
{
    gd_tensor_t *in[3] = {NULL};
    gd_tensor_t *y = NULL;
    const bool was_recording = gd_grad_set_enabled(false);
    for (int i = 0; i < n; i++) {
        in[i] = as(x[i], dtype);
        assert_ok(gd_tensor_set_requires_grad(in[i], true));
    }
    (void)gd_grad_set_enabled(true);
    assert_ok(function(in, &y));
    (void)gd_grad_set_enabled(false);
    gd_tensor_t *dy = whole_numbers(gd_tensor_n_dims(y), gd_tensor_shape(y), 9, 5);
    gd_tensor_t *dy_cast = as(dy, dtype);
    assert_ok(gd_backward(y, dy_cast, false));
    out[0] = as(y, GD_DTYPE_F64);
    for (int i = 0; i < n; i++) {
        out[1 + i] = as(gd_tensor_grad(in[i]), GD_DTYPE_F64);
        (void)gd_tensor_unref(in[i]);
    }
    (void)gd_grad_set_enabled(was_recording);
    (void)gd_tensor_unref(dy);
    (void)gd_tensor_unref(dy_cast);
    (void)gd_tensor_unref(y);
}

/* f32 against f64, elements relative to themselves and the tensor. Takes x[n]. */
static void precision_check(const char *what, function_t function, gd_tensor_t **x, int n, double tolerance)
{
    gd_tensor_t *exact[4], *got[4];
    run(function, x, n, GD_DTYPE_F64, exact);
    run(function, x, n, GD_DTYPE_F32, got);
    for (int k = 0; k <= n; k++) {
        const double *a = gd_tensor_data(got[k]);
        const double *b = gd_tensor_data(exact[k]);
        double squares = 0;
        for (int64_t i = 0; i < gd_tensor_numel(exact[k]); i++) {
            squares += b[i] * b[i];
        }
        const double size = sqrt(squares / (double)gd_tensor_numel(exact[k]));
        assert_true(size > 0);
        for (int64_t i = 0; i < gd_tensor_numel(exact[k]); i++) {
            if (!(fabs(a[i] - b[i]) <= tolerance * (fabs(b[i]) + size))) {
                fail_msg("%s: element %lld of %d is %.9g, in f64 %.9g", what, (long long)i, k, a[i], b[i]);
            }
        }
        (void)gd_tensor_unref(got[k]);
        (void)gd_tensor_unref(exact[k]);
    }
    for (int i = 0; i < n; i++) {
        (void)gd_tensor_unref(x[i]);
    }
}

static status_t attention(gd_tensor_t *const *x, gd_tensor_t **y_p)
{
    return gd_attention(x[0], 2, false, y_p);
}

static status_t attention_causal(gd_tensor_t *const *x, gd_tensor_t **y_p)
{
    return gd_attention(x[0], 2, true, y_p);
}

static status_t grouped(gd_tensor_t *const *x, gd_tensor_t **y_p)
{
    const gd_sdpa_options_t options = {.n_heads = 4, .n_key_heads = 2, .is_causal = true};
    return gd_sdpa(x[0], x[1], x[2], &options, y_p);
}

static status_t windowed(gd_tensor_t *const *x, gd_tensor_t **y_p)
{
    const gd_sdpa_options_t options = {.n_heads = 4, .n_key_heads = 2, .window = 3};
    return gd_sdpa(x[0], x[1], x[2], &options, y_p);
}

/* Every head of four features in the first n of a row begins with 128: 8192 is in each score. */
static gd_tensor_t *lift(gd_tensor_t *t, int64_t n)
{
    const int64_t width = gd_tensor_dim(t, 2);
    for (int64_t i = 0; i < gd_tensor_numel(t); i += 4) {
        ((double *)gd_tensor_data(t))[i] = i % width < n ? 128 : ((double *)gd_tensor_data(t))[i];
    }
    return t;
}

static void attention_of_scores_of_thousands_has_the_gradients_of_f64(void **state)
{
    (void)state;
    gd_tensor_t *qkv = lift(whole_numbers(3, (int64_t[]){2, 19, 24}, 2, 1), 16);
    precision_check("attention", attention, &qkv, 1, 1e-4);
    qkv = lift(whole_numbers(3, (int64_t[]){2, 19, 24}, 2, 2), 16);
    precision_check("attention, causal", attention_causal, &qkv, 1, 1e-4);
    for (int i = 0; i < 2; i++) {
        gd_tensor_t *x[] = {lift(whole_numbers(3, (int64_t[]){2, 19, 16}, 2, 3), 16),
                            lift(whole_numbers(3, (int64_t[]){2, 19, 8}, 2, 4), 8),
                            whole_numbers(3, (int64_t[]){2, 19, 8}, 2, 6)};
        precision_check(i == 0 ? "sdpa, grouped" : "sdpa, window", i == 0 ? grouped : windowed, x, 3, 1e-4);
    }
}

static status_t cross_entropy(gd_tensor_t *const *x, gd_tensor_t **y_p)
{
    static const int64_t labels[] = {1, 0, 2, 1};
    gd_tensor_t *targets = NULL;
    gd_tensor_t *moved = NULL;
    assert_ok(gd_tensor_from_data(GD_DTYPE_I64, 1, (int64_t[]){4}, labels, &targets));
    assert_ok(gd_scale(x[0], 1, 12345, &moved));
    status_t status = gd_cross_entropy(moved, targets, 1, -100, 0.1, y_p, NULL);
    (void)gd_tensor_unref(moved);
    (void)gd_tensor_unref(targets);
    return status;
}

static status_t log_softmax(gd_tensor_t *const *x, gd_tensor_t **y_p)
{
    gd_tensor_t *moved = NULL;
    assert_ok(gd_scale(x[0], 1, 12345, &moved));
    status_t status = gd_log_softmax(moved, -1, y_p);
    (void)gd_tensor_unref(moved);
    return status;
}

static void what_all_logits_have_in_common_costs_no_precision(void **state)
{
    (void)state;
    gd_tensor_t *x = whole_numbers(2, (int64_t[]){4, 7}, 3, 7);
    precision_check("cross_entropy", cross_entropy, &x, 1, 1e-5);
    x = whole_numbers(2, (int64_t[]){4, 7}, 3, 8);
    precision_check("log_softmax", log_softmax, &x, 1, 1e-5);
}

static gd_tensor_t *floats(int n_dims, const int64_t *shape, const float *values)
{
    gd_tensor_t *t = NULL;
    assert_ok(gd_tensor_from_data(GD_DTYPE_F32, n_dims, shape, values, &t));
    return t;
}

/* Its statistics are constants, so the gradient knows nothing of x. */
static void batch_norm_in_evaluation_has_a_gradient_where_x_is_infinite(void **state)
{
    (void)state;
    static const int64_t shapes[2][3] = {{2, 2, 1}, {2, 1, 2}};
    const bool was_recording = gd_grad_set_enabled(true);
    for (int k = 0; k < 2; k++) {
        const int64_t channels = shapes[k][1];
        gd_tensor_t *x = floats(3, shapes[k], (const float[]){1, INFINITY, -INFINITY, NAN});
        gd_tensor_t *mean = floats(1, &channels, (const float[]){0, 0});
        gd_tensor_t *var = floats(1, &channels, (const float[]){1, 1});
        gd_tensor_t *dy = floats(3, shapes[k], (const float[]){1, 2, 3, 4});
        gd_tensor_t *y = NULL;
        assert_ok(gd_tensor_set_requires_grad(x, true));
        assert_ok(gd_batch_norm(x, NULL, NULL, mean, var, false, 1e-12, &y, NULL, NULL));

        assert_ok(gd_backward(y, dy, false));

        for (int i = 0; i < 4; i++) {
            assert_true(((float *)gd_tensor_data(gd_tensor_grad(x)))[i] == (float)(i + 1));
        }
        (void)gd_tensor_unref(x);
        (void)gd_tensor_unref(mean);
        (void)gd_tensor_unref(var);
        (void)gd_tensor_unref(dy);
        (void)gd_tensor_unref(y);
    }
    (void)gd_grad_set_enabled(was_recording);
}

static void hardswish_of_minus_infinity_is_not_a_number(void **state)
{
    (void)state;
    gd_tensor_t *x = floats(1, (int64_t[]){3}, (const float[]){-INFINITY, -5, INFINITY});
    gd_tensor_t *y = NULL;

    assert_ok(gd_hardswish(x, &y)); /* -infinity times 0, as PyTorch computes it: a blow-up isn't hidden */

    const float *values = gd_tensor_data(y);
    assert_true(isnan(values[0]) && values[1] == 0.0F && values[2] == INFINITY);
    (void)gd_tensor_unref(x);
    (void)gd_tensor_unref(y);
}

/* Linear interpolation along an axis that keeps its size is a copy: a neighbour isn't touched, not by a weight of 0. */
static void upsample_to_the_same_width_copies(void **state)
{
    (void)state;
    gd_tensor_t *x = floats(4, (int64_t[]){1, 1, 1, 4}, (const float[]){1, INFINITY, 3, NAN});
    gd_tensor_t *dy = floats(4, (int64_t[]){1, 1, 2, 4}, (const float[]){1, INFINITY, 3, NAN, 1, 1, 1, 1});
    gd_tensor_t *y = NULL;
    const bool was_recording = gd_grad_set_enabled(true);
    assert_ok(gd_tensor_set_requires_grad(x, true));

    assert_ok(gd_upsample(x, GD_UPSAMPLE_LINEAR, (int64_t[]){2, 4}, NULL, false, &y));
    assert_ok(gd_backward(y, dy, false));

    const float *values = gd_tensor_data(y);
    const float *dx = gd_tensor_data(gd_tensor_grad(x));
    assert_true(values[0] == 1 && values[1] == INFINITY && values[2] == 3 && values[4] == 1 && values[6] == 3);
    assert_true(dx[0] == 2 && dx[1] == INFINITY && dx[2] == 4 && isnan(dx[3]));
    (void)gd_grad_set_enabled(was_recording);
    (void)gd_tensor_unref(x);
    (void)gd_tensor_unref(dy);
    (void)gd_tensor_unref(y);
}

/* What PyTorch's Upsample gives for 0, 1, 2 … along the last axis. */
static void nearest_of_a_size_that_a_factor_keeps_or_doubles_is_pytorchs(void **state)
{
    (void)state;
    static const struct {
        int n_axes;
        double factor;
        int n, n_out;
        float expected[8];
    } cases[] = {
        {2, 1.1, 5, 5, {0, 1, 2, 3, 4}},          {2, 2.2, 4, 8, {0, 0, 1, 1, 2, 2, 3, 3}},
        {2, 1.4, 5, 7, {0, 0, 1, 2, 2, 3, 4}},    {1, 1.1, 5, 5, {0, 0, 1, 2, 3}},
        {1, 2.2, 4, 8, {0, 0, 0, 1, 1, 2, 2, 3}}, {3, 1.4, 2, 2, {0, 0}},
    };
    static const float numbers[] = {0, 1, 2, 3, 4};
    for (size_t k = 0; k < sizeof(cases) / sizeof(cases[0]); k++) {
        int64_t shape[5] = {1, 1, 1, 1, 1};
        double factors[3] = {1, 1, 1};
        gd_tensor_t *y = NULL;
        shape[1 + cases[k].n_axes] = cases[k].n;
        factors[cases[k].n_axes - 1] = cases[k].factor;
        gd_tensor_t *x = floats(2 + cases[k].n_axes, shape, numbers);

        assert_ok(gd_upsample(x, GD_UPSAMPLE_NEAREST, NULL, factors, false, &y));

        assert_int_equal(gd_tensor_numel(y), cases[k].n_out);
        for (int i = 0; i < cases[k].n_out; i++) {
            if (((float *)gd_tensor_data(y))[i] != cases[k].expected[i]) {
                fail_msg("%d axes, %d by %g: element %d is %g", cases[k].n_axes, cases[k].n, cases[k].factor, i,
                         (double)((float *)gd_tensor_data(y))[i]);
            }
        }
        (void)gd_tensor_unref(x);
        (void)gd_tensor_unref(y);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(attention_of_scores_of_thousands_has_the_gradients_of_f64),
        TEST(what_all_logits_have_in_common_costs_no_precision),
        TEST(batch_norm_in_evaluation_has_a_gradient_where_x_is_infinite),
        TEST(hardswish_of_minus_infinity_is_not_a_number),
        TEST(upsample_to_the_same_width_copies),
        TEST(nearest_of_a_size_that_a_factor_keeps_or_doubles_is_pytorchs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
