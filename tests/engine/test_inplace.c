/* SPDX-License-Identifier: Apache-2.0 */
/* Changes in place: values, versions, how they enter a graph, and what is refused. */
#include "tests/support/fixture.h"

#include <string.h>

#include "gradd/autograd.h"
#include "gradd/context.h"
#include "gradd/inplace.h"
#include "gradd/op.h"
#include "gradd/ops.h"

static gd_tensor_t *row(gd_dtype_t dtype, int64_t n, const double *values)
{
    gd_tensor_t *wide = NULL;
    gd_tensor_t *t = NULL;
    assert_ok(gd_tensor_from_data(GD_DTYPE_F64, 1, &n, values, &wide));
    assert_ok(gd_tensor_new(dtype, 1, &n, &t));
    assert_ok(gd_tensor_copy(t, wide));
    (void)gd_tensor_unref(wide);
    return t;
}

#define ROW(dtype_x, ...)                                                                                              \
    row(dtype_x, (int64_t)(sizeof((double[]){__VA_ARGS__}) / sizeof(double)), (const double[]){__VA_ARGS__})

static gd_tensor_t *leaf(const double *values)
{
    gd_tensor_t *t = row(GD_DTYPE_F64, 3, values);
    assert_ok(gd_tensor_set_requires_grad(t, true));
    return t;
}

#define LEAF(...) leaf((const double[]){__VA_ARGS__})

static void assert_near(gd_tensor_t *t, const double *expected, double tolerance)
{
    assert_non_null(t);
    for (int64_t i = 0; i < gd_tensor_dim(t, 0); i++) {
        gd_tensor_t *one = NULL;
        double value = 0;
        bool was_enabled = gd_grad_set_enabled(false);
        assert_ok(gd_select(t, 0, i, &one));
        (void)gd_grad_set_enabled(was_enabled);
        assert_ok(gd_tensor_item(one, &value));
        assert_true(value - expected[i] < tolerance && expected[i] - value < tolerance);
        (void)gd_tensor_unref(one);
    }
}

#define ASSERT_VALUES(t_x, ...) assert_near(t_x, (const double[]){__VA_ARGS__}, 1e-12)

static void backward_of_sum(gd_tensor_t *y)
{
    gd_tensor_t *sum = NULL;
    assert_ok(gd_sum(y, 0, NULL, false, &sum));
    assert_ok(gd_backward(sum, NULL, false));
    (void)gd_tensor_unref(sum);
}

static void values_change_where_they_lie(void **state)
{
    (void)state;
    gd_tensor_t *x = ROW(GD_DTYPE_F32, 1, 2, 3, 4);
    gd_tensor_t *y = ROW(GD_DTYPE_F32, 2, 2, 2, 2);
    gd_tensor_t *half = NULL;
    const void *data = gd_tensor_data(x);
    const uint32_t version = gd_tensor_version(x);

    assert_ok(gd_add_inplace(x, y));
    ASSERT_VALUES(x, 3, 4, 5, 6);
    assert_ok(gd_sub_inplace(x, y));
    assert_ok(gd_mul_inplace(x, x));
    ASSERT_VALUES(x, 1, 4, 9, 16);
    assert_ok(gd_div_inplace(x, y));
    assert_ok(gd_scale_inplace(x, 2, 1));
    ASSERT_VALUES(x, 2, 5, 10, 17);
    assert_ok(gd_clamp_inplace(x, 3, 12));
    ASSERT_VALUES(x, 3, 5, 10, 12);
    assert_ok(gd_op_apply_inplace(GD_OP_NEG, x, NULL, 0, NULL));
    ASSERT_VALUES(x, -3, -5, -10, -12);
    assert_ok(gd_slice(x, 0, 0, 4, 2, &half)); /* a view writes through */
    assert_ok(gd_fill_inplace(half, 7));
    ASSERT_VALUES(x, 7, -5, 7, -12);
    assert_ok(gd_copy_inplace(x, y));
    ASSERT_VALUES(half, 2, 2);
    assert_ok(gd_zero_inplace(x));
    ASSERT_VALUES(x, 0, 0, 0, 0);

    assert_ptr_equal(gd_tensor_data(x), data);
    assert_int_equal(gd_tensor_version(x), gd_tensor_version(half));
    assert_in_range(gd_tensor_version(x), version + 10, version + 30);
    (void)gd_tensor_unref(half);
    (void)gd_tensor_unref(x);
    (void)gd_tensor_unref(y);
}

static void masks_and_indices_choose_what_changes(void **state)
{
    (void)state;
    gd_tensor_t *x = ROW(GD_DTYPE_F64, 1, 2, 3);
    gd_tensor_t *mask = ROW(GD_DTYPE_BOOL, 1, 0, 1);
    gd_tensor_t *index = ROW(GD_DTYPE_I32, 2, 0, 2);
    gd_tensor_t *source = ROW(GD_DTYPE_F64, 10, 20, 30);

    assert_ok(gd_masked_fill_inplace(x, mask, -1));
    ASSERT_VALUES(x, -1, 2, -1);
    assert_ok(gd_index_add_inplace(x, 0, index, source, 1));
    ASSERT_VALUES(x, 19, 2, 39);
    assert_ok(gd_scatter_inplace(x, 0, index, source));
    ASSERT_VALUES(x, 20, 2, 30);

    (void)gd_tensor_unref(x);
    (void)gd_tensor_unref(mask);
    (void)gd_tensor_unref(index);
    (void)gd_tensor_unref(source);
}

/* y = w²; y *= v; y += w: dw = 2 w v + 1, dv = w² */
static void a_change_of_a_result_is_part_of_the_graph(void **state)
{
    (void)state;
    gd_tensor_t *w = LEAF(1, 2, 3);
    gd_tensor_t *v = LEAF(4, 5, 6);
    gd_tensor_t *y = NULL;
    assert_ok(gd_mul(w, w, &y));

    assert_ok(gd_mul_inplace(y, v));
    assert_ok(gd_add_inplace(y, w));

    ASSERT_VALUES(y, 5, 22, 57);
    assert_false(gd_tensor_is_leaf(y));
    backward_of_sum(y);
    ASSERT_VALUES(gd_tensor_grad(w), 9, 21, 37);
    ASSERT_VALUES(gd_tensor_grad(v), 1, 4, 9);
    (void)gd_tensor_unref(y);
    (void)gd_tensor_unref(w);
    (void)gd_tensor_unref(v);
}

/* A plain buffer becomes a result; b *= b uses its values before the change. */
static void a_buffer_takes_up_a_graph(void **state)
{
    (void)state;
    gd_tensor_t *w = LEAF(1, 2, 3);
    gd_tensor_t *b = ROW(GD_DTYPE_F64, 1, 1, 1);

    assert_ok(gd_add_inplace(b, w));
    assert_ok(gd_mul_inplace(b, b));
    assert_ok(gd_clamp_inplace(b, 0, 10));
    assert_ok(gd_op_apply_inplace(GD_OP_EXP, b, NULL, 0, NULL));
    assert_ok(gd_op_apply_inplace(GD_OP_LOG, b, NULL, 0, NULL));

    ASSERT_VALUES(b, 4, 9, 10);
    backward_of_sum(b);
    ASSERT_VALUES(gd_tensor_grad(w), 4, 6, 0);
    (void)gd_tensor_unref(b);
    (void)gd_tensor_unref(w);
}

/* where keeps its condition alone, gather and scatter their index: these values may go. */
static void values_that_no_backward_needs_may_be_overwritten(void **state)
{
    (void)state;
    gd_tensor_t *w = LEAF(1, 2, 3);
    gd_tensor_t *y = NULL;
    gd_tensor_t *z = NULL;
    gd_tensor_t *mask = ROW(GD_DTYPE_BOOL, 1, 0, 1);
    gd_tensor_t *index = ROW(GD_DTYPE_I64, 2, 2, 0);
    assert_ok(gd_scale(w, 2, 0, &y));

    assert_ok(gd_index_select(y, 0, index, &z)); /* 6, 6, 2 */
    assert_ok(gd_masked_fill_inplace(y, mask, 5));
    assert_ok(gd_index_add_inplace(y, 0, index, z, 1));

    ASSERT_VALUES(y, 7, 4, 17);
    backward_of_sum(y); /* w0 once, w1 once, w2 twice */
    ASSERT_VALUES(gd_tensor_grad(w), 2, 2, 4);
    (void)gd_tensor_unref(y);
    (void)gd_tensor_unref(z);
    (void)gd_tensor_unref(w);
    (void)gd_tensor_unref(mask);
    (void)gd_tensor_unref(index);
}

static void what_is_filled_or_copied_over_forgets_its_past(void **state)
{
    (void)state;
    gd_tensor_t *w = LEAF(1, 2, 3);
    gd_tensor_t *v = LEAF(4, 5, 6);
    gd_tensor_t *y = NULL;
    assert_ok(gd_mul(w, w, &y));

    assert_ok(gd_copy_inplace(y, v));
    backward_of_sum(y);
    assert_null(gd_tensor_grad(w));
    ASSERT_VALUES(gd_tensor_grad(v), 1, 1, 1);
    assert_ok(gd_fill_inplace(y, 2));
    assert_true(gd_tensor_is_leaf(y));
    assert_false(gd_tensor_requires_grad(y));

    (void)gd_tensor_unref(y);
    (void)gd_tensor_unref(w);
    (void)gd_tensor_unref(v);
}

static void a_backward_through_an_overwritten_value_names_it(void **state)
{
    (void)state;
    gd_tensor_t *w = LEAF(1, 2, 3);
    gd_tensor_t *y = NULL;
    gd_tensor_t *z = NULL;
    gd_tensor_t *e = NULL;

    assert_ok(gd_scale(w, 2, 0, &y));
    assert_ok(gd_mul(y, w, &z)); /* keeps y */
    assert_ok(gd_add_inplace(y, w));
    gd_tensor_t *dy = ROW(GD_DTYPE_F64, 1, 1, 1);
    assert_fails(gd_backward(z, dy, false), ST_ERR_STATE,
                 "mul: input 0, which backward needs, was changed in place by add (version 1, was 0 when saved): it is "
                 "[3], the inputs were [3], [3]");
    assert_ok(gd_exp(w, &e)); /* keeps its result */
    assert_ok(gd_zero_inplace(e));
    (void)gd_tensor_unref(e);
    assert_ok(gd_exp(w, &e));
    assert_ok(gd_scale_inplace(e, 2, 0));
    assert_fails(gd_backward(e, dy, false), ST_ERR_STATE,
                 "exp: its output, which backward needs, was changed in place by scale");

    (void)gd_tensor_unref(dy);
    (void)gd_tensor_unref(e);
    (void)gd_tensor_unref(y);
    (void)gd_tensor_unref(z);
    (void)gd_tensor_unref(w);
}

static void what_cannot_be_recorded_is_refused(void **state)
{
    (void)state;
    gd_tensor_t *w = LEAF(1, 2, 3);
    gd_tensor_t *y = NULL;
    gd_tensor_t *view = NULL;
    gd_tensor_t *wide = NULL;
    gd_tensor_t *out = NULL;
    assert_ok(gd_scale(w, 2, 0, &y));
    bool was_enabled = gd_grad_set_enabled(false);
    assert_ok(gd_slice(y, 0, 0, 2, 1, &view));
    (void)gd_grad_set_enabled(was_enabled);

    assert_fails(gd_add_inplace(w, y), ST_ERR_STATE, "add: [3]: a leaf that requires a gradient can't be changed");
    assert_ok(gd_expand(y, 2, (const int64_t[]){4, 3}, &wide));
    assert_fails(gd_zero_inplace(wide), ST_ERR_STATE, "fill: [4, 3]: several of its elements share memory");
    assert_ok(gd_mul_inplace(y, y));
    assert_ok(gd_neg(view, &out)); /* a view that never had a graph */
    assert_false(gd_tensor_requires_grad(out));
    out = gd_tensor_unref(out);
    ASSERT_VALUES(y, 4, 16, 36);
    was_enabled = gd_grad_set_enabled(false);
    assert_ok(gd_add_inplace(w, w)); /* as an optimizer does */
    assert_ok(gd_zero_inplace(view));
    (void)gd_grad_set_enabled(was_enabled);
    ASSERT_VALUES(w, 2, 4, 6);
    ASSERT_VALUES(y, 0, 0, 36);

    (void)gd_tensor_unref(wide);
    (void)gd_tensor_unref(view);
    (void)gd_tensor_unref(y);
    (void)gd_tensor_unref(w);
}

static void results_that_do_not_fit_change_nothing(void **state)
{
    (void)state;
    gd_tensor_t *x = ROW(GD_DTYPE_I32, 1, 2, 3);
    gd_tensor_t *floats = ROW(GD_DTYPE_F32, 1, 2, 3);
    gd_tensor_t *wide = ROW(GD_DTYPE_I64, 10, 20, 30);
    gd_tensor_t *square = NULL;
    assert_ok(gd_expand(wide, 2, (const int64_t[]){2, 3}, &square));

    assert_fails(gd_add_inplace(x, floats), ST_ERR_DTYPE, "add: a result of f32 doesn't go into i32");
    assert_fails(gd_div_inplace(x, x), ST_ERR_DTYPE, "div: a result of f32 doesn't go into i32");
    assert_fails(gd_add_inplace(x, square), ST_ERR_SHAPE,
                 "add: [3] and [2, 3]: the result isn't of the tensor's shape");
    ASSERT_VALUES(x, 1, 2, 3);
    assert_ok(gd_add_inplace(x, wide)); /* i64 goes into i32 */
    ASSERT_VALUES(x, 11, 22, 33);

    (void)gd_tensor_unref(square);
    (void)gd_tensor_unref(wide);
    (void)gd_tensor_unref(floats);
    (void)gd_tensor_unref(x);
}

/* x[1:] += x[:-1] reads what it reads before it writes. */
static void overlapping_parts_are_read_first(void **state)
{
    (void)state;
    gd_tensor_t *x = ROW(GD_DTYPE_F32, 1, 2, 3, 4);
    gd_tensor_t *head = NULL;
    gd_tensor_t *tail = NULL;
    assert_ok(gd_slice(x, 0, 0, 3, 1, &head));
    assert_ok(gd_slice(x, 0, 1, 4, 1, &tail));

    assert_ok(gd_add_inplace(tail, head));

    ASSERT_VALUES(x, 1, 3, 5, 7);
    (void)gd_tensor_unref(head);
    (void)gd_tensor_unref(tail);
    (void)gd_tensor_unref(x);
}

static void indexed_places_are_assigned_and_recorded(void **state)
{
    (void)state;
    gd_tensor_t *w = LEAF(1, 2, 3);
    gd_tensor_t *v = LEAF(10, 20, 30);
    gd_tensor_t *mask = ROW(GD_DTYPE_BOOL, 1, 0, 1);
    gd_tensor_t *ends = ROW(GD_DTYPE_I64, -1, 0, -1);
    gd_tensor_t *short_mask = ROW(GD_DTYPE_BOOL, 1, 0);
    gd_tensor_t *outside = ROW(GD_DTYPE_I64, 0, 3);
    gd_tensor_t *whole = ROW(GD_DTYPE_I64, 7, 8, 9);
    gd_tensor_t *x = NULL, *square = NULL, *two = NULL;
    assert_ok(gd_tensor_scalar(GD_DTYPE_F64, 2, &two));
    assert_ok(gd_mul(w, two, &x));
    const uint32_t version = gd_tensor_version(x);

    assert_ok(gd_index_put_inplace(x, &mask, 1, two, false));
    ASSERT_VALUES(x, 2, 4, 2);
    assert_ok(gd_index_put_inplace(x, &ends, 1, v, true));
    ASSERT_VALUES(x, 22, 4, 42);
    assert_ok(gd_masked_scatter_inplace(x, mask, v));
    ASSERT_VALUES(x, 10, 4, 20);
    assert_true(gd_tensor_version(x) > version);
    assert_ok(gd_mul(x, x, &square));
    backward_of_sum(square); /* x = v0, 2 w1, v1 */
    ASSERT_VALUES(gd_tensor_grad(w), 0, 16, 0);
    ASSERT_VALUES(gd_tensor_grad(v), 20, 40, 0);

    (void)gd_tensor_unref(square);
    assert_ok(gd_mul(x, x, &square));
    assert_ok(gd_index_put_inplace(x, &mask, 1, two, false));
    assert_fails(gd_backward(square, v, false), ST_ERR_STATE, "was changed in place");
    assert_fails(gd_index_put_inplace(x, &short_mask, 1, two, false), ST_ERR_SHAPE,
                 "index_put: [3] and [2]: a mask needs the sizes of the axes that it stands for");
    assert_fails(gd_index_put_inplace(x, &outside, 1, two, false), ST_ERR_RANGE,
                 "index 3 (element 1 of index 0) for an axis of size 3");
    assert_fails(gd_index_put_inplace(whole, &mask, 1, two, false), ST_ERR_DTYPE,
                 "index_put: values of f64 don't go into i64");
    ASSERT_VALUES(x, 2, 4, 2);
    gd_tensor_t *const all[] = {w, v, mask, ends, short_mask, outside, whole, x, square, two};
    for (size_t k = 0; k < sizeof(all) / sizeof(all[0]); k++) {
        (void)gd_tensor_unref(all[k]);
    }
}

static void a_sum_lies_in_the_memory_of_an_operand_that_nobody_else_sees(void **state)
{
    (void)state;
    double ones[3] = {1, 1, 1};
    const int64_t shape[1] = {3};
    gd_tensor_t *x = LEAF(1, 2, 3);
    gd_tensor_t *twice = NULL;
    gd_tensor_t *wrapped = NULL;
    gd_tensor_t *y[4] = {NULL};
    assert_ok(gd_scale(x, 2, 0, &twice));
    assert_ok(gd_tensor_wrap(GD_DTYPE_F64, 1, shape, ones, NULL, NULL, &wrapped));
    const void *data = gd_tensor_data(twice);

    assert_ok(gd_add_last(x, wrapped, &y[0]));
    (void)gd_tensor_ref(twice);
    assert_ok(gd_add_last(x, twice, &y[1]));
    (void)gd_tensor_unref(twice);
    assert_ok(gd_exp(x, &y[2])); /* keeps its result */
    gd_tensor_t *exponential = y[2];
    y[2] = NULL;
    assert_ok(gd_add_last(x, exponential, &y[2]));
    assert_ok(gd_add_last(x, twice, &y[3]));

    assert_true(ones[0] == 1 && gd_tensor_data(y[0]) != (void *)ones);
    assert_ptr_not_equal(gd_tensor_data(y[1]), data);
    assert_ptr_not_equal(gd_tensor_data(y[2]), gd_tensor_data(exponential));
    assert_ptr_equal(gd_tensor_data(y[3]), data);
    (void)gd_tensor_unref(twice);
    ASSERT_VALUES(y[0], 2, 3, 4);
    ASSERT_VALUES(y[1], 3, 6, 9);
    ASSERT_VALUES(y[3], 3, 6, 9);
    backward_of_sum(y[3]);
    ASSERT_VALUES(gd_tensor_grad(x), 3, 3, 3);
    for (int i = 0; i < 4; i++) {
        (void)gd_tensor_unref(y[i]);
    }
    (void)gd_tensor_unref(exponential);
    (void)gd_tensor_unref(wrapped);
    (void)gd_tensor_unref(x);
}

/* What backward needs isn't overwritten; without a graph nothing is needed. */
static void an_activation_lies_in_the_memory_of_an_input_that_backward_does_not_need(void **state)
{
    (void)state;
    const gd_op_id_t ops[2] = {GD_OP_RELU, GD_OP_SILU};
    const double expected[2][3] = {{2, 2, 0}, {1.85534102, 2.18156850, -0.18156850}};
    for (int i = 0; i < 2; i++) {
        gd_tensor_t *x = LEAF(0.5, 1, -1);
        gd_tensor_t *twice = NULL;
        gd_tensor_t *y = NULL;
        gd_tensor_t *detached = ROW(GD_DTYPE_F64, 1, 2, 3);
        gd_tensor_t *plain = NULL;
        assert_ok(gd_scale(x, 2, 0, &twice));

        assert_ok(gd_op_apply_reusing(ops[i], &twice, 1, NULL, twice, &y));
        assert_ok(gd_op_apply_reusing(ops[i], &detached, 1, NULL, detached, &plain));

        assert_true((gd_tensor_data(y) == gd_tensor_data(twice)) == (ops[i] == GD_OP_RELU));
        assert_ptr_equal(gd_tensor_data(plain), gd_tensor_data(detached));
        (void)gd_tensor_unref(twice);
        backward_of_sum(y);
        assert_near(gd_tensor_grad(x), expected[i], 1e-6);
        (void)gd_tensor_unref(plain);
        (void)gd_tensor_unref(detached);
        (void)gd_tensor_unref(y);
        (void)gd_tensor_unref(x);
    }
}

/* y holds the node that made it, which holds y for the backward of an earlier one: the fixture sees it if they stay. */
static void a_change_by_what_was_made_of_it_is_freed(void **state)
{
    (void)state;
    gd_tensor_t *x = LEAF(1, 2, 3);
    gd_tensor_t *y = NULL;
    gd_tensor_t *inverse = NULL;
    assert_ok(gd_neg(x, &y));
    assert_ok(gd_div(x, y, &inverse));
    assert_ok(gd_add_inplace(y, inverse));

    inverse = gd_tensor_unref(inverse);
    (void)gd_tensor_unref(y);
    (void)gd_tensor_unref(x);
}

static void a_constant_factor_does_not_hold_the_other(void **state)
{
    (void)state;
    gd_tensor_t *x = LEAF(1, 2, 3);
    gd_tensor_t *constant = ROW(GD_DTYPE_F64, 4, 5, 6);
    gd_tensor_t *y = NULL;
    gd_tensor_t *product = NULL;
    assert_ok(gd_neg(x, &y));
    assert_ok(gd_mul(y, constant, &product));
    assert_ok(gd_add_inplace(y, constant));

    backward_of_sum(product);
    ASSERT_VALUES(gd_tensor_grad(x), -4, -5, -6);
    (void)gd_tensor_unref(product);
    (void)gd_tensor_unref(y);
    (void)gd_tensor_unref(constant);
    (void)gd_tensor_unref(x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(values_change_where_they_lie),
        TEST(masks_and_indices_choose_what_changes),
        TEST(a_change_of_a_result_is_part_of_the_graph),
        TEST(a_buffer_takes_up_a_graph),
        TEST(values_that_no_backward_needs_may_be_overwritten),
        TEST(what_is_filled_or_copied_over_forgets_its_past),
        TEST(a_backward_through_an_overwritten_value_names_it),
        TEST(a_change_by_what_was_made_of_it_is_freed),
        TEST(a_constant_factor_does_not_hold_the_other),
        TEST(what_cannot_be_recorded_is_refused),
        TEST(results_that_do_not_fit_change_nothing),
        TEST(overlapping_parts_are_read_first),
        TEST(indexed_places_are_assigned_and_recorded),
        TEST(a_sum_lies_in_the_memory_of_an_operand_that_nobody_else_sees),
        TEST(an_activation_lies_in_the_memory_of_an_input_that_backward_does_not_need),
    };
    return cmocka_run_group_tests_name("inplace", tests, NULL, NULL);
}
