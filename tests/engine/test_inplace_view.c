/* SPDX-License-Identifier: Apache-2.0 */
/* Changes in place of views that are part of a graph: expected gradients are PyTorch's for the same programs. */
#include "tests/support/fixture.h"

#include "gradd/autograd.h"
#include "gradd/context.h"
#include "gradd/inplace.h"
#include "gradd/ops.h"

/* 1, 2, … n in the shape. */
static gd_tensor_t *counted(int n_dims, const int64_t *shape)
{
    gd_tensor_t *t = NULL;
    assert_ok(gd_tensor_new(GD_DTYPE_F64, n_dims, shape, &t));
    for (int64_t i = 0; i < gd_tensor_numel(t); i++) {
        ((double *)gd_tensor_data(t))[i] = (double)(i + 1);
    }
    return t;
}

static gd_tensor_t *leaf_new(void)
{
    gd_tensor_t *x = counted(2, (const int64_t[]){3, 4});
    assert_ok(gd_tensor_set_requires_grad(x, true));
    return x;
}

static void assert_values(gd_tensor_t *t, const double *expected)
{
    gd_tensor_t *plain = NULL;
    assert_non_null(t);
    assert_ok(gd_tensor_new(GD_DTYPE_F64, gd_tensor_n_dims(t), gd_tensor_shape(t), &plain));
    assert_ok(gd_tensor_copy(plain, t));
    for (int64_t i = 0; i < gd_tensor_numel(t); i++) {
        assert_true(((const double *)gd_tensor_data(plain))[i] == expected[i]);
    }
    (void)gd_tensor_unref(plain);
}
#define ASSERT_VALUES(t_x, ...) assert_values(t_x, (const double[]){__VA_ARGS__})

/* x's gradient of 1 y[0] + 2 y[1] + …; the graph stays. */
static void backward_of(gd_tensor_t *y, gd_tensor_t *x)
{
    gd_tensor_t *weights = counted(gd_tensor_n_dims(y), gd_tensor_shape(y));
    assert_ok(gd_tensor_set_grad(x, NULL, false));
    assert_ok(gd_backward(y, weights, true));
    (void)gd_tensor_unref(weights);
}

static void a_change_of_a_row_reaches_the_base(void **state)
{
    (void)state;
    gd_tensor_t *x = leaf_new();
    gd_tensor_t *y = NULL;
    gd_tensor_t *row = NULL;
    assert_ok(gd_scale(x, 2, 0, &y));
    assert_ok(gd_tensor_retain_grad(y));
    assert_ok(gd_select(y, 0, 1, &row));

    assert_ok(gd_mul_inplace(row, row));

    backward_of(y, x);
    ASSERT_VALUES(y, 2, 4, 6, 8, 100, 144, 196, 256, 18, 20, 22, 24);
    ASSERT_VALUES(gd_tensor_grad(x), 2, 4, 6, 8, 200, 288, 392, 512, 18, 20, 22, 24);
    ASSERT_VALUES(gd_tensor_grad(y), 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12);
    backward_of(row, x);
    ASSERT_VALUES(gd_tensor_grad(x), 0, 0, 0, 0, 40, 96, 168, 256, 0, 0, 0, 0);
    (void)gd_tensor_unref(row);
    (void)gd_tensor_unref(y);
    (void)gd_tensor_unref(x);
}

static void rows_written_into_zeros_build_a_graph(void **state)
{
    (void)state;
    gd_tensor_t *x = leaf_new();
    gd_tensor_t *z = NULL;
    gd_tensor_t *first = NULL;
    assert_ok(gd_tensor_zeros(GD_DTYPE_F64, 2, (const int64_t[]){3, 4}, &z));
    assert_ok(gd_select(z, 0, 0, &first));

    for (int i = 0; i < 3; i++) {
        gd_tensor_t *to = NULL;
        gd_tensor_t *from = NULL;
        gd_tensor_t *scaled = NULL;
        assert_ok(gd_select(z, 0, i, &to));
        assert_ok(gd_select(x, 0, 2 - i, &from));
        assert_ok(gd_scale(from, i + 1, 0, &scaled));
        assert_ok(gd_copy_inplace(to, scaled));
        (void)gd_tensor_unref(to);
        (void)gd_tensor_unref(from);
        (void)gd_tensor_unref(scaled);
    }

    ASSERT_VALUES(z, 9, 10, 11, 12, 10, 12, 14, 16, 3, 6, 9, 12);
    backward_of(z, x);
    ASSERT_VALUES(gd_tensor_grad(x), 27, 30, 33, 36, 10, 12, 14, 16, 1, 2, 3, 4);
    assert_true(gd_tensor_requires_grad(first)); /* taken before there was a graph */
    backward_of(first, x);
    ASSERT_VALUES(gd_tensor_grad(x), 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4);
    (void)gd_tensor_unref(first);
    (void)gd_tensor_unref(z);
    (void)gd_tensor_unref(x);
}

static void views_of_one_base_follow_each_other(void **state)
{
    (void)state;
    gd_tensor_t *x = leaf_new();
    gd_tensor_t *y = NULL;
    gd_tensor_t *turned = NULL;
    gd_tensor_t *odd = NULL;
    gd_tensor_t *left = NULL;
    assert_ok(gd_scale(x, 1, 1, &y));
    assert_ok(gd_transpose(y, 0, 1, &turned));
    assert_ok(gd_slice(turned, 0, 1, 4, 2, &odd));
    assert_ok(gd_slice(y, 1, 0, 2, 1, &left));

    assert_ok(gd_mul_inplace(odd, odd));
    assert_ok(gd_scale_inplace(left, 3, 1));
    assert_ok(gd_mul_inplace(turned, turned));

    backward_of(y, x);
    ASSERT_VALUES(gd_tensor_grad(x), 42, 2016, 24, 2000, 570, 74592, 112, 23328, 1674, 480480, 264, 105456);
    backward_of(odd, x);
    ASSERT_VALUES(gd_tensor_grad(x), 0, 1008, 0, 2000, 0, 24864, 0, 14580, 0, 144144, 0, 52728);
    backward_of(left, x);
    ASSERT_VALUES(gd_tensor_grad(x), 42, 2016, 0, 0, 342, 49728, 0, 0, 930, 288288, 0, 0);
    backward_of(turned, x);
    ASSERT_VALUES(gd_tensor_grad(x), 42, 4032, 56, 5000, 228, 62160, 128, 32076, 558, 288288, 216, 105456);
    (void)gd_tensor_unref(left);
    (void)gd_tensor_unref(odd);
    (void)gd_tensor_unref(turned);
    (void)gd_tensor_unref(y);
    (void)gd_tensor_unref(x);
}

/* What a function gives may be a view of a tensor that only it has seen. */
static void a_base_that_was_let_go_still_counts(void **state)
{
    (void)state;
    gd_tensor_t *x = leaf_new();
    gd_tensor_t *y = NULL;
    gd_tensor_t *wide = NULL;
    gd_tensor_t *column = NULL;
    assert_ok(gd_scale(x, 2, 0, &y));
    assert_ok(gd_reshape(y, 2, (const int64_t[]){2, 6}, &wide));
    y = gd_tensor_unref(y);
    assert_ok(gd_select(wide, 1, 2, &column));

    assert_ok(gd_mul_inplace(column, column));

    backward_of(wide, x);
    ASSERT_VALUES(gd_tensor_grad(x), 2, 4, 72, 8, 10, 12, 14, 16, 648, 20, 22, 24);
    (void)gd_tensor_unref(column);
    (void)gd_tensor_unref(wide);
    (void)gd_tensor_unref(x);
}

static void a_view_taken_before_a_change_of_its_base_is_taken_anew(void **state)
{
    (void)state;
    gd_tensor_t *x = leaf_new();
    gd_tensor_t *y = NULL;
    gd_tensor_t *row = NULL;
    gd_tensor_t *sum = NULL;
    gd_tensor_t *gradients[2] = {NULL, NULL};
    assert_ok(gd_scale(x, 2, 0, &y));
    assert_ok(gd_select(y, 0, 2, &row));
    assert_ok(gd_mul_inplace(y, y));

    assert_ok(gd_sum(row, 0, NULL, false, &sum));
    assert_ok(gd_grad(&sum, NULL, 1, (gd_tensor_t *const[]){y, row}, 2, false, true, gradients));
    ASSERT_VALUES(gradients[0], 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1);
    ASSERT_VALUES(gradients[1], 1, 1, 1, 1);
    backward_of(row, x);
    ASSERT_VALUES(gd_tensor_grad(x), 0, 0, 0, 0, 0, 0, 0, 0, 72, 160, 264, 384);
    (void)gd_tensor_unref(gradients[0]);
    (void)gd_tensor_unref(gradients[1]);
    (void)gd_tensor_unref(sum);
    (void)gd_tensor_unref(row);
    (void)gd_tensor_unref(y);
    (void)gd_tensor_unref(x);
}

static void parts_are_filled_and_replaced(void **state)
{
    (void)state;
    gd_tensor_t *x = leaf_new();
    gd_tensor_t *other = counted(1, (const int64_t[]){3});
    gd_tensor_t *y = NULL;
    gd_tensor_t *part = NULL;
    gd_tensor_t *diagonal = NULL;
    assert_ok(gd_tensor_set_requires_grad(other, true));
    assert_ok(gd_mul(x, x, &y));
    assert_ok(gd_slice(y, 1, 1, 3, 1, &part));
    assert_ok(gd_diagonal(y, 1, 0, 1, &diagonal));

    assert_ok(gd_fill_inplace(part, 7));
    assert_ok(gd_copy_inplace(diagonal, other));

    ASSERT_VALUES(y, 1, 1, 7, 16, 25, 7, 2, 64, 81, 7, 7, 3);
    backward_of(y, x);
    ASSERT_VALUES(gd_tensor_grad(x), 2, 0, 0, 32, 50, 0, 0, 128, 162, 0, 0, 0);
    ASSERT_VALUES(gd_tensor_grad(other), 2, 7, 12);
    (void)gd_tensor_unref(diagonal);
    (void)gd_tensor_unref(part);
    (void)gd_tensor_unref(y);
    (void)gd_tensor_unref(other);
    (void)gd_tensor_unref(x);
}

static void what_a_backward_needs_is_guarded(void **state)
{
    (void)state;
    gd_tensor_t *x = leaf_new();
    gd_tensor_t *y = NULL;
    gd_tensor_t *row = NULL;
    gd_tensor_t *weights = counted(2, (const int64_t[]){3, 4});
    assert_ok(gd_exp(x, &y));
    assert_ok(gd_select(y, 0, 0, &row));

    assert_ok(gd_scale_inplace(row, 2, 0));

    assert_fails(gd_backward(y, weights, false), ST_ERR_STATE, "exp: its output, which backward needs, was changed");
    (void)gd_tensor_unref(weights);
    (void)gd_tensor_unref(row);
    (void)gd_tensor_unref(y);
    (void)gd_tensor_unref(x);
}

/* The view is held by the node of a product that its base then comes to depend on: the fixture sees what stays. */
static void a_base_changed_by_what_was_made_of_its_view_is_freed(void **state)
{
    (void)state;
    for (int k = 0; k < 2; k++) {
        gd_tensor_t *x = leaf_new();
        gd_tensor_t *z = NULL;
        gd_tensor_t *view = NULL;
        gd_tensor_t *product = NULL;
        assert_ok(gd_tensor_zeros(GD_DTYPE_F64, 2, (const int64_t[]){3, 4}, &z));
        assert_ok(gd_slice(z, 0, 0, 3, 1, &view));
        assert_ok(gd_mul(view, x, &product));
        assert_ok(gd_add_inplace(k == 0 ? z : view, product));

        product = gd_tensor_unref(product);
        view = gd_tensor_unref(view);
        (void)gd_tensor_unref(z);
        (void)gd_tensor_unref(x);
    }
}

static void views_that_do_not_lead_back_are_refused(void **state)
{
    (void)state;
    gd_tensor_t *x = leaf_new();
    gd_tensor_t *y = NULL;
    gd_tensor_t *of_leaf = NULL;
    gd_tensor_t *unrecorded = NULL;
    gd_tensor_t *windows = NULL;
    gd_tensor_t *turned = NULL;
    gd_tensor_t *detached = NULL;
    gd_tensor_t *row = NULL;
    gd_tensor_t *column = NULL;
    assert_ok(gd_select(x, 0, 1, &of_leaf));
    assert_ok(gd_scale(x, 2, 0, &y));
    const bool was_enabled = gd_grad_set_enabled(false);
    assert_ok(gd_select(y, 0, 0, &unrecorded));
    (void)gd_grad_set_enabled(was_enabled);
    assert_ok(gd_as_strided(y, 2, (const int64_t[]){3, 2}, (const int64_t[]){1, 1}, 0, &windows));
    assert_ok(gd_transpose(y, 0, 1, &turned));
    assert_ok(gd_detach(turned, &detached));
    assert_ok(gd_select(detached, 1, 0, &row));
    assert_ok(gd_select(x, 0, 2, &column));

    assert_fails(gd_zero_inplace(of_leaf), ST_ERR_STATE, "fill: [4]: a view of a leaf that requires a gradient");
    assert_fails(gd_copy_inplace(unrecorded, of_leaf), ST_ERR_STATE,
                 "copy: [4]: a view that was taken while gradients were off");
    assert_fails(gd_zero_inplace(windows), ST_ERR_STATE, "fill: [3, 2]: several of its elements share memory");
    assert_fails(gd_copy_inplace(row, column), ST_ERR_STATE, "copy: [4]: a view of a tensor that isn't contiguous");
    ASSERT_VALUES(y, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24);
    (void)gd_tensor_unref(column);
    (void)gd_tensor_unref(row);
    (void)gd_tensor_unref(detached);
    (void)gd_tensor_unref(turned);
    (void)gd_tensor_unref(windows);
    (void)gd_tensor_unref(unrecorded);
    (void)gd_tensor_unref(of_leaf);
    (void)gd_tensor_unref(y);
    (void)gd_tensor_unref(x);
}

static status_t flat_scaled(gd_tensor_t *const *in, int n_in, gd_tensor_t **y_p, void *arg)
{
    (void)n_in;
    gd_tensor_t *y = NULL;
    status_t status = gd_scale(in[0], *(const double *)arg, 0, &y);
    if (status == ST_OK) {
        status = gd_reshape(y, 1, (const int64_t[]){12}, y_p);
    }
    (void)gd_tensor_unref(y);
    return status;
}

static status_t nothing_made(gd_tensor_t *const *in, int n_in, gd_tensor_t **y_p, void *arg)
{
    (void)in;
    (void)n_in;
    (void)y_p;
    (void)arg;
    return ST_OK;
}

static void the_result_of_a_checkpoint_may_be_changed(void **state)
{
    (void)state;
    double factor = 3;
    gd_tensor_t *x = leaf_new();
    gd_tensor_t *y = NULL;
    gd_tensor_t *part = NULL;
    assert_ok(gd_checkpoint(flat_scaled, &factor, NULL, &x, 1, &y)); /* a view of what it has let go */
    assert_ok(gd_slice(y, 0, 4, 8, 1, &part));

    assert_ok(gd_scale_inplace(part, 10, 0));
    assert_ok(gd_scale_inplace(y, 2, 1));

    backward_of(y, x);
    ASSERT_VALUES(gd_tensor_grad(x), 6, 12, 18, 24, 300, 360, 420, 480, 54, 60, 66, 72);
    part = gd_tensor_unref(part);
    assert_fails(gd_checkpoint(nothing_made, NULL, NULL, &x, 1, &part), ST_ERR_INVAL, "the function gave no result");
    (void)gd_tensor_unref(y);
    (void)gd_tensor_unref(x);
}

/* As PyTorch's add_(1), mul_(2.5): integers stay what they are, 16 bits are rounded once. */
static void numbers_go_into_tensors(void **state)
{
    (void)state;
    gd_tensor_t *i = NULL;
    gd_tensor_t *h = NULL;
    assert_ok(gd_arange(GD_DTYPE_I32, 1, 4, 1, &i));
    assert_ok(gd_tensor_full(GD_DTYPE_BF16, 1, (const int64_t[]){2}, 100, &h));

    assert_ok(gd_with_number_inplace(gd_mul_inplace, i, gd_int(3)));
    assert_ok(gd_with_number_inplace(gd_sub_inplace, i, gd_int(1)));
    assert_ok(gd_with_number_inplace(gd_mul_inplace, h, gd_float(1.005)));

    ASSERT_VALUES(i, 2, 5, 8);
    ASSERT_VALUES(h, 100.5, 100.5); /* 1.005 rounded first: 101 */
    assert_fails(gd_with_number_inplace(gd_add_inplace, i, gd_float(0.5)), ST_ERR_DTYPE,
                 "add: a result of f32 doesn't go into i32");
    assert_fails(gd_with_number_inplace(gd_add_inplace, NULL, gd_int(1)), ST_ERR_INVAL, "input 0 is missing");
    (void)gd_tensor_unref(h);
    (void)gd_tensor_unref(i);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_change_of_a_row_reaches_the_base),
        TEST(rows_written_into_zeros_build_a_graph),
        TEST(views_of_one_base_follow_each_other),
        TEST(a_base_that_was_let_go_still_counts),
        TEST(a_view_taken_before_a_change_of_its_base_is_taken_anew),
        TEST(parts_are_filled_and_replaced),
        TEST(what_a_backward_needs_is_guarded),
        TEST(a_base_changed_by_what_was_made_of_its_view_is_freed),
        TEST(views_that_do_not_lead_back_are_refused),
        TEST(the_result_of_a_checkpoint_may_be_changed),
        TEST(numbers_go_into_tensors),
    };
    return cmocka_run_group_tests_name("inplace_view", tests, NULL, NULL);
}
