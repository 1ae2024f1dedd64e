/* SPDX-License-Identifier: Apache-2.0 */
/* autograd: the tape, gradient buffers, errors. */
#include "gradd/autograd.h"

#include "gradd/context.h"
#include "gradd/op.h"
#include "gradd/ops.h"
#include "gradd/rng.h"
#include "tests/support/fixture.h"

static gd_tensor_t *vector(int64_t n, const float *values, bool requires_grad)
{
    gd_tensor_t *t = NULL;
    assert_ok(gd_tensor_from_data(GD_DTYPE_F32, 1, &n, values, &t));
    assert_ok(gd_tensor_set_requires_grad(t, requires_grad));
    return t;
}

static void assert_values(const gd_tensor_t *t, int n, const float *expected)
{
    assert_non_null(t);
    assert_int_equal(gd_tensor_numel(t), n);
    assert_true(gd_tensor_is_contiguous(t));
    const float *values = gd_tensor_data(t);
    for (int i = 0; i < n; i++) {
        assert_float_equal(values[i], expected[i], 1e-6f);
    }
}

static void gradients_of_a_shared_tensor_add_up(void **state)
{
    (void)state;
    gd_tensor_t *x = vector(3, (const float[]){1, 2, 3}, true);
    gd_tensor_t *square = NULL;
    gd_tensor_t *sum = NULL;
    gd_tensor_t *loss = NULL;

    assert_ok(gd_mul(x, x, &square));
    assert_ok(gd_add(square, x, &sum));
    assert_ok(gd_sum(sum, 0, NULL, false, &loss));
    assert_ok(gd_backward(loss, NULL, false));

    assert_values(gd_tensor_grad(x), 3, (const float[]){3, 5, 7});
    (void)gd_tensor_unref(square);
    (void)gd_tensor_unref(sum);
    (void)gd_tensor_unref(loss);
    (void)gd_tensor_unref(x);
}

static void a_second_backward_accumulates(void **state)
{
    (void)state;
    gd_tensor_t *x = vector(2, (const float[]){1, 2}, true);
    gd_tensor_t *y = NULL;
    gd_tensor_t *loss = NULL;

    assert_ok(gd_mul(x, x, &y));
    assert_ok(gd_sum(y, 0, NULL, false, &loss));
    assert_ok(gd_backward(loss, NULL, true));
    assert_ok(gd_backward(loss, NULL, false));

    assert_values(gd_tensor_grad(x), 2, (const float[]){4, 8});
    assert_fails(gd_backward(loss, NULL, false), ST_ERR_STATE, "freed by an earlier");
    (void)gd_tensor_unref(y);
    (void)gd_tensor_unref(loss);
    (void)gd_tensor_unref(x);
}

static void a_fresh_gradient_buffer_is_overwritten_then_added_to(void **state)
{
    (void)state;
    float buffer[2] = {100, 100};
    const int64_t n = 2;
    gd_tensor_t *x = vector(2, (const float[]){1, 2}, true);
    gd_tensor_t *grad = NULL;
    assert_ok(gd_tensor_wrap(GD_DTYPE_F32, 1, &n, buffer, NULL, NULL, &grad));
    assert_ok(gd_tensor_set_grad(x, grad, true));
    assert_true(gd_tensor_grad_is_fresh(x));

    for (int i = 0; i < 2; i++) {
        gd_tensor_t *y = NULL;
        gd_tensor_t *loss = NULL;
        assert_ok(gd_scale(x, 3, 0, &y));
        assert_ok(gd_sum(y, 0, NULL, false, &loss));
        assert_ok(gd_backward(loss, NULL, false));
        (void)gd_tensor_unref(y);
        (void)gd_tensor_unref(loss);
    }

    assert_false(gd_tensor_grad_is_fresh(x));
    assert_float_equal(buffer[0], 6, 0);
    assert_float_equal(buffer[1], 6, 0);
    (void)gd_tensor_unref(grad);
    (void)gd_tensor_unref(x);
}

static void a_broadcast_bias_gets_the_sum_in_its_buffer(void **state)
{
    (void)state;
    float buffer[3] = {7, 7, 7};
    const int64_t n = 3;
    gd_tensor_t *x = NULL;
    assert_ok(gd_tensor_zeros(GD_DTYPE_F32, 2, (const int64_t[]){4, 3}, &x));
    gd_tensor_t *bias = vector(3, (const float[]){1, 2, 3}, true);
    gd_tensor_t *grad = NULL;
    assert_ok(gd_tensor_wrap(GD_DTYPE_F32, 1, &n, buffer, NULL, NULL, &grad));
    assert_ok(gd_tensor_set_grad(bias, grad, true));
    gd_tensor_t *y = NULL;
    gd_tensor_t *loss = NULL;

    assert_ok(gd_add(x, bias, &y));
    assert_ok(gd_sum(y, 0, NULL, false, &loss));
    assert_ok(gd_backward(loss, NULL, true));
    assert_ok(gd_backward(loss, NULL, false));

    assert_values(grad, 3, (const float[]){8, 8, 8});
    assert_ptr_equal(gd_tensor_grad(bias), grad);
    (void)gd_tensor_unref(grad);
    (void)gd_tensor_unref(x);
    (void)gd_tensor_unref(bias);
    (void)gd_tensor_unref(y);
    (void)gd_tensor_unref(loss);
}

static void an_in_place_change_of_a_saved_tensor_is_refused(void **state)
{
    (void)state;
    gd_tensor_t *x = vector(2, (const float[]){1, 2}, true);
    gd_tensor_t *w = vector(2, (const float[]){3, 4}, false);
    gd_tensor_t *y = NULL;
    gd_tensor_t *loss = NULL;
    assert_ok(gd_mul(x, w, &y));
    assert_ok(gd_sum(y, 0, NULL, false, &loss));

    assert_ok(gd_tensor_fill(w, 0));

    assert_fails(gd_backward(loss, NULL, false), ST_ERR_STATE, "mul: input 1, which backward needs, was changed");
    (void)gd_tensor_unref(x);
    (void)gd_tensor_unref(w);
    (void)gd_tensor_unref(y);
    (void)gd_tensor_unref(loss);
}

/* What gives its input back (a reshape to the same shape) needn't be told from what doesn't. */
static void a_leaf_is_a_root_of_itself(void **state)
{
    (void)state;
    gd_tensor_t *x = vector(2, (const float[]){1, 2}, true);
    gd_tensor_t *dy = vector(2, (const float[]){3, -4}, false);

    assert_ok(gd_backward(x, dy, false));
    assert_ok(gd_backward(x, dy, false));

    const float *grad = gd_tensor_data(gd_tensor_grad(x));
    assert_true(gd_tensor_grad(x) != dy && grad[0] == 6 && grad[1] == -8);
    (void)gd_tensor_unref(x);
    (void)gd_tensor_unref(dy);
}

static void roots_that_cannot_be_walked_are_refused(void **state)
{
    (void)state;
    gd_tensor_t *x = vector(2, (const float[]){1, 2}, true);
    gd_tensor_t *y = NULL;
    gd_tensor_t *ids = NULL;
    assert_ok(gd_tensor_zeros(GD_DTYPE_I64, 0, NULL, &ids));
    assert_ok(gd_scale(x, 2, 0, &y));

    assert_fails(gd_backward(ids, NULL, false), ST_ERR_STATE, "has no graph");
    assert_fails(gd_backward(x, NULL, false), ST_ERR_SHAPE, "2 elements needs a gradient");
    assert_fails(gd_backward(y, NULL, false), ST_ERR_SHAPE, "2 elements needs a gradient");
    assert_fails(gd_backward(y, ids, false), ST_ERR_SHAPE, "root [2] and gradient []");
    assert_fails(gd_tensor_set_requires_grad(y, true), ST_ERR_STATE, "result of scale");
    assert_fails(gd_tensor_set_requires_grad(ids, true), ST_ERR_DTYPE, "i64");
    assert_fails(gd_tensor_set_grad(x, ids, true), ST_ERR_SHAPE, "[2] f32 takes no gradient [] i64");
    assert_true(gd_tensor_is_leaf(x));
    assert_false(gd_tensor_is_leaf(y));
    (void)gd_tensor_unref(x);
    (void)gd_tensor_unref(y);
    (void)gd_tensor_unref(ids);
}

static void nothing_is_recorded_while_gradients_are_off(void **state)
{
    (void)state;
    gd_tensor_t *x = vector(2, (const float[]){1, 2}, true);
    gd_tensor_t *y = NULL;

    bool before = gd_grad_set_enabled(false);
    assert_ok(gd_scale(x, 2, 0, &y));
    (void)gd_grad_set_enabled(before);

    assert_true(gd_tensor_is_leaf(y));
    assert_false(gd_tensor_requires_grad(y));
    (void)gd_tensor_unref(y);
    (void)gd_tensor_unref(x);
}

static void a_detached_tensor_shares_values_and_has_no_graph(void **state)
{
    (void)state;
    gd_tensor_t *x = vector(2, (const float[]){1, 2}, true);
    gd_tensor_t *y = NULL;
    gd_tensor_t *z = NULL;
    assert_ok(gd_scale(x, 2, 0, &y));

    assert_ok(gd_detach(y, &z));

    assert_false(gd_tensor_requires_grad(z));
    assert_ptr_equal(gd_tensor_data(y), gd_tensor_data(z));
    (void)gd_tensor_unref(x);
    (void)gd_tensor_unref(y);
    (void)gd_tensor_unref(z);
}

static void a_chain_of_many_ops_is_walked_and_released(void **state)
{
    (void)state;
    const int n = 200000;
    gd_tensor_t *x = vector(1, (const float[]){1}, true);
    gd_tensor_t *walked = gd_tensor_ref(x);
    gd_tensor_t *dropped = gd_tensor_ref(x);

    for (int i = 0; i < n; i++) {
        gd_tensor_t *next = NULL;
        assert_int_equal(gd_scale(walked, 1, 1, &next), ST_OK);
        (void)gd_tensor_unref(walked);
        walked = next;
        if (i < n / 10) {
            assert_int_equal(gd_scale(dropped, 1, 1, &next), ST_OK);
            (void)gd_tensor_unref(dropped);
            dropped = next;
        }
    }
    assert_ok(gd_backward(walked, NULL, false));

    assert_values(gd_tensor_grad(x), 1, (const float[]){1});
    (void)gd_tensor_unref(dropped);
    (void)gd_tensor_unref(walked);
    (void)gd_tensor_unref(x);
}

/* h goes around the norm and through it; `spy` holds on to the gradient that came around, so that it can't be added to.
 */
static status_t spy_keep(gd_tensor_t *dy, gd_tensor_t **replacement_p, void *arg)
{
    (void)replacement_p;
    *(gd_tensor_t **)arg = gd_tensor_ref(dy);
    return ST_OK;
}

static void a_norms_gradient_has_the_same_bits_added_in_place_or_apart(void **state)
{
    (void)state;
    enum { ROWS = 5, WIDTH = 301 };
    gd_tensor_t *gradient[2] = {NULL};
    for (int has_spy = 0; has_spy < 2; has_spy++) {
        gd_tensor_t *x = NULL, *h = NULL, *norm = NULL, *y = NULL, *branch = NULL, *root = NULL, *dy = NULL,
                    *seen = NULL;
        assert_ok(gd_tensor_new(GD_DTYPE_F32, 2, (const int64_t[]){ROWS, WIDTH}, &x));
        gd_rng_fill_normal(&(gd_rng_key_t){.seed = 8}, 0, 1, gd_tensor_data(x), ROWS * WIDTH);
        assert_ok(gd_tensor_new(GD_DTYPE_F32, 2, (const int64_t[]){ROWS, WIDTH}, &dy));
        gd_rng_fill_normal(&(gd_rng_key_t){.seed = 9}, 0, 1, gd_tensor_data(dy), ROWS * WIDTH);
        assert_ok(gd_tensor_set_requires_grad(x, true));
        assert_ok(gd_scale(x, 1, 0, &h));
        assert_ok(gd_layer_norm(h, NULL, NULL, 1e-5, &norm));
        assert_ok(gd_scale(norm, 1, 0, &branch));
        assert_ok(gd_add(h, branch, &y));
        assert_ok(gd_scale(y, 1, 0, &root));
        if (has_spy) {
            assert_ok(gd_tensor_add_hook(branch, spy_keep, &seen, NULL));
        }

        assert_ok(gd_backward(root, dy, false));

        gradient[has_spy] = gd_tensor_ref(gd_tensor_grad(x));
        assert_true(has_spy == (seen != NULL));
        gd_tensor_t *mine[] = {x, h, norm, y, branch, root, dy, seen};
        for (size_t i = 0; i < sizeof(mine) / sizeof(mine[0]); i++) {
            (void)gd_tensor_unref(mine[i]);
        }
    }
    assert_memory_equal(gd_tensor_data(gradient[0]), gd_tensor_data(gradient[1]), ROWS * WIDTH * sizeof(float));
    (void)gd_tensor_unref(gradient[0]);
    (void)gd_tensor_unref(gradient[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(gradients_of_a_shared_tensor_add_up),
        TEST(a_second_backward_accumulates),
        TEST(a_fresh_gradient_buffer_is_overwritten_then_added_to),
        TEST(a_broadcast_bias_gets_the_sum_in_its_buffer),
        TEST(a_norms_gradient_has_the_same_bits_added_in_place_or_apart),
        TEST(an_in_place_change_of_a_saved_tensor_is_refused),
        TEST(a_leaf_is_a_root_of_itself),
        TEST(roots_that_cannot_be_walked_are_refused),
        TEST(nothing_is_recorded_while_gradients_are_off),
        TEST(a_detached_tensor_shares_values_and_has_no_graph),
        TEST(a_chain_of_many_ops_is_walked_and_released),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
