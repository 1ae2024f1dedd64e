/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kernels: the vector code of engine/cpu/vec behind the ops: accuracy over the whole range of f32, sizes that leave
 * remainders, and results that don't depend on the number of threads. ctest runs it once per instruction set.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "gradd/autograd.h"
#include "gradd/context.h"
#include "gradd/modules.h"
#include "gradd/op.h"
#include "gradd/ops.h"
#include "gradd/rng.h"
#include "tests/support/fixture.h"

enum { N = 1 << 20, N_GELU = 20011 };

/* Largest error of op against f in units of the last place of the result, over x evenly spaced in its bits. */
static double worst_ulp(gd_op_id_t id, double (*f)(double), float lo, float hi)
{
    gd_tensor_t *x = NULL;
    gd_tensor_t *y = NULL;
    assert_ok(gd_tensor_new(GD_DTYPE_F32, 1, (const int64_t[]){N}, &x));
    float *px = gd_tensor_data(x);
    for (int i = 0; i < N; i++) {
        uint32_t bits = (uint32_t)i * 4096u;
        memcpy(&px[i], &bits, sizeof(bits));
        if (!(px[i] >= lo && px[i] <= hi)) {
            px[i] = lo + (hi - lo) * (float)i / N;
        }
    }
    assert_ok(gd_op_apply(id, &x, 1, NULL, &y));
    const float *py = gd_tensor_data(y);
    double worst = 0;
    for (int i = 0; i < N; i++) {
        double expected = f((double)px[i]);
        double unit = ldexp(1, (expected == 0 || ilogb(expected) < -126 ? -126 : ilogb(expected)) - 23);
        double error = fabs((double)py[i] - expected) / unit;
        if (!(error <= worst)) {
            worst = error;
        }
    }
    (void)gd_tensor_unref(x);
    (void)gd_tensor_unref(y);
    return worst;
}

static double logistic(double x)
{
    return 1 / (1 + exp(-x));
}

static double gelu(double x)
{
    return 0.5 * x * erfc(-x / sqrt(2.0));
}

static void functions_are_accurate_to_a_few_units(void **state)
{
    (void)state;
    assert_true(worst_ulp(GD_OP_EXP, exp, -87, 88.7f) <= 2);
    assert_true(worst_ulp(GD_OP_TANH, tanh, -20, 20) <= 3);
    assert_true(worst_ulp(GD_OP_SIGMOID, logistic, -80, 80) <= 4);
    assert_true(worst_ulp(GD_OP_GELU, gelu, 0, 20) <= 10);
    assert_true(worst_ulp(GD_OP_LOG, log, 1e-30f, 1e30f) <= 2);
}

static void special_values_come_out_right(void **state)
{
    (void)state;
    const float values[6] = {NAN, INFINITY, -INFINITY, 1000, -1000, 0};
    const struct {
        gd_op_id_t id;
        float expected[6];
    } cases[] = {
        {GD_OP_EXP, {NAN, INFINITY, 0, INFINITY, 0, 1}},
        {GD_OP_TANH, {NAN, 1, -1, 1, -1, 0}},
        {GD_OP_SIGMOID, {NAN, 1, 0, 1, 0, 0.5f}},
        {GD_OP_RELU, {NAN, INFINITY, 0, 1000, 0, 0}},
        {GD_OP_SQRT, {NAN, INFINITY, NAN, sqrtf(1000), NAN, 0}},
        {GD_OP_LOG, {NAN, INFINITY, NAN, logf(1000), NAN, -INFINITY}},
    };
    for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
        gd_tensor_t *x = NULL;
        gd_tensor_t *y = NULL;
        assert_ok(gd_tensor_from_data(GD_DTYPE_F32, 1, (const int64_t[]){6}, values, &x));
        assert_ok(gd_op_apply(cases[c].id, &x, 1, NULL, &y));
        const float *got = gd_tensor_data(y);
        for (int i = 0; i < 6; i++) {
            float expected = cases[c].expected[i];
            bool is_right = isnan(expected) ? isnan(got[i]) : got[i] == expected || fabsf(got[i] - expected) < 1e-5f;
            if (!is_right) {
                print_error("%s(%g) is %g, expected %g\n", gd_op_get(cases[c].id)->name, (double)values[i],
                            (double)got[i], (double)expected);
                fail();
            }
        }
        (void)gd_tensor_unref(x);
        (void)gd_tensor_unref(y);
    }
}

/* Where x isn't a number, neither relu nor its gradient hides it: all the parameters before it would stay finite. */
static void a_gradient_through_relu_is_nan_where_x_is(void **state)
{
    (void)state;
    const float x[4] = {NAN, 2, 0, -1};
    gd_tensor_t *in = NULL;
    gd_tensor_t *y = NULL;
    gd_tensor_t *dy = NULL;
    assert_ok(gd_tensor_from_data(GD_DTYPE_F32, 1, (const int64_t[]){4}, x, &in));
    assert_ok(gd_tensor_from_data(GD_DTYPE_F32, 1, (const int64_t[]){4}, (const float[]){NAN, 5, 5, 5}, &dy));
    assert_ok(gd_tensor_set_requires_grad(in, true));

    assert_ok(gd_relu(in, &y));
    assert_ok(gd_backward(y, dy, false));

    const float *dx = gd_tensor_data(gd_tensor_grad(in));
    assert_true(isnan(dx[0]) && dx[1] == 5 && dx[2] == 0 && dx[3] == 0);
    (void)gd_tensor_unref(dy);
    (void)gd_tensor_unref(y);
    (void)gd_tensor_unref(in);
}

static void a_gradient_through_a_relu_recurrence_is_nan_where_x_is(void **state)
{
    (void)state;
    const int64_t shape[3] = {1, 1, 4};
    gd_tensor_t *in = NULL;
    gd_tensor_t *w = NULL;
    gd_tensor_t *y = NULL;
    gd_tensor_t *dy = NULL;
    assert_ok(gd_tensor_from_data(GD_DTYPE_F32, 3, shape, (const float[]){NAN, 2, 0, -1}, &in));
    assert_ok(gd_tensor_from_data(GD_DTYPE_F32, 3, shape, (const float[]){NAN, 5, 5, 5}, &dy));
    assert_ok(gd_tensor_full(GD_DTYPE_F32, 2, (const int64_t[]){4, 4}, 1, &w));
    assert_ok(gd_tensor_set_requires_grad(in, true));

    assert_ok(gd_rnn(GD_RNN_RELU, false, in, &(gd_rnn_weights_t){.w_hh = w}, NULL, NULL, &y, NULL));
    assert_ok(gd_backward(y, dy, false));

    const float *h = gd_tensor_data(y);
    const float *dx = gd_tensor_data(gd_tensor_grad(in));
    assert_true(isnan(h[0]) && h[1] == 2 && h[2] == 0 && h[3] == 0);
    assert_true(isnan(dx[0]) && dx[1] == 5 && dx[2] == 0 && dx[3] == 0);
    (void)gd_tensor_unref(w);
    (void)gd_tensor_unref(dy);
    (void)gd_tensor_unref(y);
    (void)gd_tensor_unref(in);
}

/* Cut off at both ends or in the middle: a gradient of 0 would keep all before it finite. */
static void a_gradient_through_what_cuts_off_goes_on_where_x_is_nan(void **state)
{
    (void)state;
    static const gd_activation_t kinds[5] = {GD_ACTIVATION_RELU6, GD_ACTIVATION_HARDTANH, GD_ACTIVATION_SOFTSHRINK,
                                             GD_ACTIVATION_HARDSHRINK, GD_ACTIVATION_THRESHOLD};
    for (int k = 0; k < 5; k++) {
        gd_module_t *module = NULL;
        gd_tensor_t *x = NULL;
        gd_tensor_t *y = NULL;
        assert_ok(gd_activation_new(kinds[k], &module));
        assert_ok(gd_tensor_full(GD_DTYPE_F32, 1, (const int64_t[]){1}, (double)NAN, &x));
        assert_ok(gd_tensor_set_requires_grad(x, true));

        assert_ok(gd_module_forward(module, x, &y));
        assert_ok(gd_backward(y, NULL, false));

        assert_true(isnan(*(const float *)gd_tensor_data(y)));
        assert_true(*(const float *)gd_tensor_data(gd_tensor_grad(x)) == 1.0F);
        (void)gd_tensor_unref(y);
        (void)gd_tensor_unref(x);
        (void)gd_module_unref(module);
    }
}

static void a_gradient_through_the_deviation_of_one_element_is_nan_as_its_value(void **state)
{
    (void)state;
    static const int axis[1] = {0};
    for (int64_t n = 1; n <= 3; n++) {
        gd_tensor_t *x = NULL;
        gd_tensor_t *y = NULL;
        assert_ok(gd_tensor_from_data(GD_DTYPE_F32, 1, &n, (const float[]){2, 3, 4}, &x));
        assert_ok(gd_tensor_set_requires_grad(x, true));

        assert_ok(gd_std(x, 2, 1, axis, false, &y)); /* PyTorch: NaN, infinity, sqrt 2 */
        assert_ok(gd_backward(y, NULL, false));

        const float value = *(const float *)gd_tensor_data(y);
        const float *dx = gd_tensor_data(gd_tensor_grad(x));
        assert_true(n == 1 ? isnan(value) : n == 2 ? isinf(value) : fabsf(value - sqrtf(2)) < 1e-6F);
        assert_true(n == 3 ? fabsf(dx[0] + sqrtf(0.5F)) < 1e-6F && dx[1] == 0 : isnan(dx[0]) != 0);
        (void)gd_tensor_unref(y);
        (void)gd_tensor_unref(x);
    }
}

/* As PyTorch: which one was taken isn't known, and neither may stay finite by an accident. */
static void a_gradient_through_a_maximum_goes_to_both_where_one_is_nan(void **state)
{
    (void)state;
    status_t (*const functions[2])(gd_tensor_t *, gd_tensor_t *, gd_tensor_t **) = {gd_maximum, gd_minimum};
    static const float wanted[2][2][6] = {{{1, 2, 3, 2, 5, 0}, {1, 2, 3, 2, 0, 6}},
                                          {{1, 2, 3, 2, 0, 6}, {1, 2, 3, 2, 5, 0}}};
    const int64_t shape[1] = {6};
    for (int k = 0; k < 2; k++) {
        gd_tensor_t *in[2] = {NULL};
        gd_tensor_t *y = NULL;
        gd_tensor_t *dy = NULL;
        assert_ok(gd_tensor_from_data(GD_DTYPE_F32, 1, shape, (const float[]){NAN, 1, NAN, 2, 3, 1}, &in[0]));
        assert_ok(gd_tensor_from_data(GD_DTYPE_F32, 1, shape, (const float[]){1, NAN, NAN, 2, 1, 3}, &in[1]));
        assert_ok(gd_tensor_from_data(GD_DTYPE_F32, 1, shape, (const float[]){1, 2, 3, 4, 5, 6}, &dy));
        for (int i = 0; i < 2; i++) {
            assert_ok(gd_tensor_set_requires_grad(in[i], true));
        }

        assert_ok(functions[k](in[0], in[1], &y));
        assert_ok(gd_backward(y, dy, false));

        for (int i = 0; i < 2; i++) {
            assert_memory_equal(gd_tensor_data(gd_tensor_grad(in[i])), wanted[k][i], sizeof(wanted[k][i]));
            (void)gd_tensor_unref(in[i]);
        }
        (void)gd_tensor_unref(dy);
        (void)gd_tensor_unref(y);
    }
}

static gd_tensor_t *noise(int n_dims, const int64_t *shape, uint32_t layer)
{
    gd_tensor_t *t = NULL;
    const gd_rng_key_t key = {.seed = 1, .layer = layer};
    assert_ok(gd_tensor_new(GD_DTYPE_F32, n_dims, shape, &t));
    gd_rng_fill_uniform(&key, 0.5f, 2, gd_tensor_data(t), gd_tensor_numel(t));
    return t;
}

static const gd_op_id_t parallel_ops[] = {
    GD_OP_ADD,  GD_OP_MUL,  GD_OP_EXP,        GD_OP_GELU,         GD_OP_GELU_BACKWARD,    GD_OP_SUM,
    GD_OP_MEAN, GD_OP_RELU, GD_OP_SOFTMAX,    GD_OP_LOG_SOFTMAX,  GD_OP_SOFTMAX_BACKWARD, GD_OP_DROPOUT,
    GD_OP_CAST, GD_OP_TANH, GD_OP_CONTIGUOUS, GD_OP_SILU_BACKWARD};

static void assert_same_bits(gd_op_id_t id, const gd_attrs_t *attrs, gd_tensor_t **in)
{
    gd_tensor_t *y[3] = {NULL};
    for (int n_threads = 1; n_threads <= 3; n_threads++) {
        assert_ok(gd_context_set_n_threads(n_threads));
        assert_ok(gd_op_apply(id, in, gd_op_get(id)->n_in, attrs, &y[n_threads - 1]));
    }
    assert_ok(gd_context_set_n_threads(1));
    for (int i = 1; i < 3; i++) {
        size_t size = (size_t)gd_tensor_numel(y[0]) * gd_dtype_size(gd_tensor_dtype(y[0]));
        if (memcmp(gd_tensor_data(y[0]), gd_tensor_data(y[i]), size) != 0) {
            print_error("%s differs between 1 and %d threads\n", gd_op_get(id)->name, i + 1);
            fail();
        }
    }
    for (int i = 0; i < 3; i++) {
        (void)gd_tensor_unref(y[i]);
    }
}

static void results_do_not_depend_on_the_number_of_threads(void **state)
{
    (void)state;
    const int64_t shapes[][2] = {{301, 1003}, {5000, 37}, {3, 200001}};
    for (size_t s = 0; s < 3; s++) {
        gd_tensor_t *in[2] = {noise(2, shapes[s], 1), noise(2, shapes[s], 2)};
        gd_tensor_t *turned[2] = {NULL};
        assert_ok(gd_transpose(in[0], 0, 1, &turned[0]));
        assert_ok(gd_transpose(in[1], 0, 1, &turned[1]));
        for (size_t i = 0; i < sizeof(parallel_ops) / sizeof(parallel_ops[0]); i++) {
            gd_op_id_t id = parallel_ops[i];
            gd_attrs_t attrs = {.f = {0.25}, .rng = {.seed = 4}};
            attrs.i[0] = id == GD_OP_CAST ? GD_DTYPE_BF16 : 0;
            assert_same_bits(id, &attrs, in);
            assert_same_bits(id, &attrs, turned);
            for (int64_t axes = 1; axes < 4 && (id == GD_OP_SUM || id == GD_OP_MEAN); axes++) {
                attrs.i[0] = axes;
                assert_same_bits(id, &attrs, in);
                assert_same_bits(id, &attrs, turned);
            }
        }
        for (int i = 0; i < 2; i++) {
            (void)gd_tensor_unref(in[i]);
            (void)gd_tensor_unref(turned[i]);
        }
    }
}

/* A checkpointed segment runs without a graph first, with one later. */
static void gelu_gives_the_same_bits_with_and_without_a_graph(void **state)
{
    (void)state;
    gd_tensor_t *x = NULL;
    assert_ok(gd_tensor_new(GD_DTYPE_F32, 1, (const int64_t[]){N_GELU}, &x));
    gd_rng_fill_normal(&(gd_rng_key_t){.seed = 3}, 0, 2, gd_tensor_data(x), N_GELU);
    assert_ok(gd_tensor_set_requires_grad(x, true));
    for (int is_tanh = 0; is_tanh < 2; is_tanh++) {
        gd_tensor_t *y = NULL;
        gd_tensor_t *plain = NULL;
        assert_ok(gd_gelu(x, is_tanh != 0, &y));
        const bool was_enabled = gd_grad_set_enabled(false);
        assert_ok(gd_gelu(x, is_tanh != 0, &plain));
        assert_memory_equal(gd_tensor_data(y), gd_tensor_data(plain), N_GELU * sizeof(float));
        plain = gd_tensor_unref(plain);
        (void)gd_grad_set_enabled(was_enabled);
        (void)gd_tensor_unref(y);
    }
    (void)gd_tensor_unref(x);
}

/* Sums of any axes of a permuted tensor against f64 loops, at sizes that reach every path of the kernel. */
static void sums_of_every_layout_are_right(void **state)
{
    (void)state;
    const int64_t shapes[][3] = {{2, 3, 70000}, {70000, 2, 3}, {2, 5000, 130}, {7, 1, 9}, {1, 4099, 1}};
    const int orders[][3] = {{0, 1, 2}, {2, 1, 0}, {1, 2, 0}, {1, 0, 2}};
    for (size_t s = 0; s < 5; s++) {
        gd_tensor_t *x = noise(3, shapes[s], 3);
        for (size_t o = 0; o < 4; o++) {
            gd_tensor_t *turned = NULL;
            gd_tensor_t *wide = NULL;
            assert_ok(gd_permute(x, orders[o], &turned));
            assert_ok(gd_cast(turned, GD_DTYPE_F64, &wide));
            for (int64_t axes = 0; axes < 8; axes++) {
                const gd_attrs_t attrs = {.i = {axes, 1}};
                gd_tensor_t *y = NULL;
                gd_tensor_t *expected = NULL;
                assert_ok(gd_op_apply(GD_OP_SUM, &turned, 1, &attrs, &y));
                assert_ok(gd_op_apply(GD_OP_SUM, &wide, 1, &attrs, &expected));
                const float *got = gd_tensor_data(y);
                const double *want = gd_tensor_data(expected);
                for (int64_t i = 0; i < gd_tensor_numel(y); i++) {
                    assert_true(fabs((double)got[i] - want[i]) <= 1e-6 * want[i]);
                }
                (void)gd_tensor_unref(y);
                (void)gd_tensor_unref(expected);
            }
            (void)gd_tensor_unref(turned);
            (void)gd_tensor_unref(wide);
        }
        (void)gd_tensor_unref(x);
    }
}

static void dropout_keeps_the_expected_share(void **state)
{
    (void)state;
    gd_tensor_t *x = NULL;
    gd_tensor_t *y = NULL;
    gd_tensor_t *same = NULL;
    assert_ok(gd_tensor_full(GD_DTYPE_F32, 1, (const int64_t[]){N}, 1, &x));

    assert_ok(gd_dropout(x, 0.2, (gd_rng_key_t){.seed = 9}, &y));
    assert_ok(gd_dropout(x, 0, (gd_rng_key_t){.seed = 9}, &same));

    const float *values = gd_tensor_data(y);
    int n_kept = 0;
    for (int i = 0; i < N; i++) {
        assert_true(values[i] == 0 || values[i] == 1.25f);
        n_kept += values[i] != 0;
    }
    assert_true(abs(n_kept - 838861) < 5 * 410);
    assert_ptr_equal(same, x);
    (void)gd_tensor_unref(x);
    (void)gd_tensor_unref(y);
    (void)gd_tensor_unref(same);
}

static void softmax_runs_along_any_axis_and_survives_large_values(void **state)
{
    (void)state;
    const float values[6] = {1000, -1000, 1000, 0, -INFINITY, 0};
    gd_tensor_t *x = NULL;
    gd_tensor_t *rows = NULL;
    gd_tensor_t *columns = NULL;
    gd_tensor_t *dense = NULL;
    assert_ok(gd_tensor_from_data(GD_DTYPE_F32, 2, (const int64_t[]){2, 3}, values, &x));

    assert_ok(gd_softmax(x, -1, &rows));
    assert_ok(gd_softmax(x, 0, &columns));
    assert_ok(gd_contiguous(columns, &dense));

    const float by_row[6] = {0.5f, 0, 0.5f, 0.5f, 0, 0.5f};
    const float by_column[6] = {1, 1, 1, 0, 0, 0};
    assert_memory_equal(gd_tensor_data(rows), by_row, sizeof(by_row));
    assert_memory_equal(gd_tensor_data(dense), by_column, sizeof(by_column));
    assert_fails(gd_softmax(x, 2, &rows), ST_ERR_RANGE, "softmax: axis 2");
    (void)gd_tensor_unref(x);
    (void)gd_tensor_unref(rows);
    (void)gd_tensor_unref(columns);
    (void)gd_tensor_unref(dense);
}

/* Training draws a slope for each element, the same again in the backward; evaluation takes the mean. */
static void rrelu_draws_its_slopes(void **state)
{
    (void)state;
    gd_module_t *module = NULL;
    gd_tensor_t *x = NULL, *y = NULL, *dy = NULL;
    const int64_t n = 4096;
    assert_ok(gd_rrelu_new(0.1, 0.3, &module));
    assert_ok(gd_tensor_full(GD_DTYPE_F32, 1, &n, -2, &x));
    assert_ok(gd_tensor_full(GD_DTYPE_F32, 1, &n, 1, &dy));
    assert_ok(gd_tensor_set_requires_grad(x, true));
    const bool was_training = gd_training_set(true);

    assert_ok(gd_module_forward(module, x, &y));
    assert_ok(gd_backward(y, dy, false));

    double sum = 0;
    double squares = 0;
    for (int64_t i = 0; i < n; i++) {
        const double slope = (double)((const float *)gd_tensor_data(gd_tensor_grad(x)))[i];
        assert_true(slope >= 0.1 - 1e-7 && slope < 0.3);
        assert_true(fabs((double)((const float *)gd_tensor_data(y))[i] + 2 * slope) < 1e-6);
        sum += slope;
        squares += (slope - 0.2) * (slope - 0.2);
    }
    assert_true(fabs(sum / (double)n - 0.2) < 0.005);
    assert_true(fabs(squares / (double)n - 0.04 / 12) < 0.0003);
    y = gd_tensor_unref(y);
    (void)gd_training_set(false);
    assert_ok(gd_module_forward(module, x, &y));
    assert_true(fabs((double)((const float *)gd_tensor_data(y))[7] + 0.4) < 1e-6);
    gd_module_t *none = NULL;
    assert_fails(gd_rrelu_new(0.4, 0.3, &none), ST_ERR_RANGE, "rrelu: slopes from 0.4 to 0.3");
    (void)gd_training_set(was_training);
    (void)gd_tensor_unref(y);
    (void)gd_tensor_unref(dy);
    (void)gd_tensor_unref(x);
    (void)gd_module_unref(module);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(functions_are_accurate_to_a_few_units),
        TEST(special_values_come_out_right),
        TEST(a_gradient_through_relu_is_nan_where_x_is),
        TEST(a_gradient_through_a_relu_recurrence_is_nan_where_x_is),
        TEST(a_gradient_through_what_cuts_off_goes_on_where_x_is_nan),
        TEST(a_gradient_through_the_deviation_of_one_element_is_nan_as_its_value),
        TEST(a_gradient_through_a_maximum_goes_to_both_where_one_is_nan),
        TEST(results_do_not_depend_on_the_number_of_threads),
        TEST(gelu_gives_the_same_bits_with_and_without_a_graph),
        TEST(sums_of_every_layout_are_right),
        TEST(dropout_keeps_the_expected_share),
        TEST(rrelu_draws_its_slopes),
        TEST(softmax_runs_along_any_axis_and_survives_large_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
