/* SPDX-License-Identifier: Apache-2.0 */
/* Chains and builds keep the first error, and release what was made before it. */
#include "gradd/chain.h"
#include "tests/support/fixture.h"

static gd_tensor_t *scalar(double value)
{
    gd_tensor_t *t = NULL;
    assert_ok(gd_tensor_scalar(GD_DTYPE_F32, value, &t));
    return t;
}

static void a_chain_hands_out_its_result_alone(void **state)
{
    (void)state;
    gd_tensor_t *x = scalar(3);
    gd_tensor_t *y = NULL;
    double value = 0;
    gd_chain_t c = {0};

    gd_tensor_t *square = gd_chain_binary(&c, gd_mul, x, x);
    assert_ok(gd_chain_end(&c, gd_chain_call(&c, gd_scale, square, 2, 1), &y));

    assert_ok(gd_tensor_item(y, &value));
    assert_true(value == 19);
    (void)gd_tensor_unref(x);
    (void)gd_tensor_unref(y);
}

static void a_chain_keeps_its_first_error(void **state)
{
    (void)state;
    gd_tensor_t *x = scalar(3);
    gd_tensor_t *y = x;
    gd_module_t *module = NULL;
    gd_chain_t c = {0};
    assert_ok(gd_sequential_new(&module));

    gd_tensor_t *h = gd_chain_unary(&c, gd_relu, x);
    h = gd_chain_child(&c, module, "head", h);
    h = gd_chain_call(&c, gd_softmax, gd_chain_unary(&c, gd_relu, h), 5);

    assert_null(h);
    assert_fails(gd_chain_end(&c, h, &y), ST_ERR_NOT_FOUND, "sequential has no child \"head\"");
    assert_ptr_equal(y, x);
    (void)gd_module_unref(module);
    (void)gd_tensor_unref(x);
}

static void a_chain_has_an_end(void **state)
{
    (void)state;
    gd_tensor_t *x = scalar(3);
    gd_tensor_t *y = x;
    gd_chain_t c = {0};

    for (int i = 0; i < GD_CHAIN_SIZE + 3; i++) {
        y = gd_chain_unary(&c, gd_relu, y);
    }

    assert_fails(gd_chain_end(&c, y, &y), ST_ERR_RANGE, "more than 64 tensors");
    (void)gd_tensor_unref(x);
}

static void a_build_numbers_its_children(void **state)
{
    (void)state;
    gd_module_t *module = NULL;
    gd_build_t b = gd_build_sequential();

    gd_build_child(&b, NULL, gd_flatten_new(gd_build_slot(&b)));
    gd_build_child(&b, "head", gd_linear_new(2, 3, true, gd_build_slot(&b)));
    gd_build_child(&b, NULL, gd_flatten_new(gd_build_slot(&b)));
    assert_ok(gd_build_end(&b, &module));

    assert_int_equal(module->n_children, 3);
    assert_string_equal(module->child_names[0], "0");
    assert_string_equal(module->child_names[1], "head");
    assert_string_equal(module->child_names[2], "2");
    (void)gd_module_unref(module);
}

static void a_build_keeps_its_first_error(void **state)
{
    (void)state;
    gd_module_t *module = NULL;
    gd_build_t b = gd_build_sequential();

    gd_build_child(&b, NULL, gd_flatten_new(gd_build_slot(&b)));
    gd_build_child(&b, NULL, gd_dropout_new(2, gd_build_slot(&b)));
    gd_build_child(&b, "a.b", gd_flatten_new(gd_build_slot(&b)));

    assert_fails(gd_build_end(&b, &module), ST_ERR_RANGE, "dropout: p 2");
    assert_null(module);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_chain_hands_out_its_result_alone), TEST(a_chain_keeps_its_first_error), TEST(a_chain_has_an_end),
        TEST(a_build_numbers_its_children),       TEST(a_build_keeps_its_first_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
