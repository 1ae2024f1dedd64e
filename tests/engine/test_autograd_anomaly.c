/* SPDX-License-Identifier: Apache-2.0 */
/* Anomaly mode names the op that made the first NaN or infinity, and where. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "gradd/chain.h"
#include "gradd/context.h"
#include "gradd/places.h"
#include "tests/support/fixture.h"

static gd_tensor_t *vector(float a, float b)
{
    const int64_t n = 2;
    gd_tensor_t *t = NULL;
    assert_ok(gd_tensor_from_data(GD_DTYPE_F32, 1, &n, (const float[]){a, b}, &t));
    assert_ok(gd_tensor_set_requires_grad(t, true));
    return t;
}

static int anomaly_on(void **state)
{
    (void)gd_anomaly_set(true);
    gd_rng_set_position(1, 6, 3);
    return fixture_setup(state);
}

static int anomaly_off(void **state)
{
    int result = fixture_teardown(state);
    (void)gd_anomaly_set(false);
    gd_rng_set_position(0, 0, 0);
    return result;
}

static void a_forward_that_overflows_is_named_with_its_line(void **state)
{
    (void)state;
    char line[64];
    gd_tensor_t *x = vector(1, 1000);
    gd_tensor_t *y = NULL;

    (void)snprintf(line, sizeof(line), "test_autograd_anomaly.c:%d", __LINE__ + 1);
    assert_fails(gd_exp(x, &y), ST_ERR_NONFINITE,
                 "step 7, microbatch 3: forward of exp made inf at element 1 of its output [2], inputs [2]; "
                 "outside of modules, called at ");

    assert_non_null(strstr(status_message(), line));
    assert_fails(gd_anomaly_check(), ST_ERR_NONFINITE, "forward of exp"); /* what a device would say only here */
    assert_ok(gd_anomaly_check());
    assert_null(y);
    (void)gd_tensor_unref(x);
}

static void a_nan_that_comes_in_is_said_to_have_been_there(void **state)
{
    (void)state;
    gd_tensor_t *x = vector(1, NAN);
    gd_tensor_t *w = vector(1, 2);
    gd_tensor_t *y = NULL;

    assert_fails(gd_add(w, x, &y), ST_ERR_NONFINITE, "input 1 had nan at element 1 before");

    (void)gd_tensor_unref(x);
    (void)gd_tensor_unref(w);
}

static void minus_infinity_of_a_mask_goes_on_but_not_further_than_softmax(void **state)
{
    (void)state;
    gd_tensor_t *mask = vector(0, -INFINITY);
    gd_tensor_t *all = vector(-INFINITY, -INFINITY);
    gd_tensor_t *x = vector(1, 2);
    gd_tensor_t *y = NULL;
    gd_tensor_t *z = NULL;

    assert_ok(gd_add(x, mask, &y));
    assert_ok(gd_softmax(y, 0, &z));
    z = gd_tensor_unref(z);
    assert_fails(gd_sub(all, all, &z), ST_ERR_NONFINITE, "forward of sub made nan");
    assert_fails(gd_scale(mask, -1, 0, &z), ST_ERR_NONFINITE, "forward of scale made inf at element 1");

    (void)gd_tensor_unref(mask);
    (void)gd_tensor_unref(all);
    (void)gd_tensor_unref(x);
    (void)gd_tensor_unref(y);
}

static void a_backward_that_fails_names_its_forward(void **state)
{
    (void)state;
    char line[64];
    gd_tensor_t *x = vector(4, 0);
    gd_tensor_t *y = NULL;
    gd_tensor_t *loss = NULL;
    (void)snprintf(line, sizeof(line), "test_autograd_anomaly.c:%d", __LINE__ + 1);
    assert_ok(gd_sqrt(x, &y));
    assert_ok(gd_sum(y, 0, NULL, false, &loss));

    assert_fails(
        gd_backward(loss, NULL, false), ST_ERR_NONFINITE,
        "backward of sqrt made inf at element 1 of the gradient of input 0, inputs [2], output [2]; its forward "
        "was outside of modules, called at ");

    assert_non_null(strstr(status_message(), line));
    (void)gd_tensor_unref(x);
    (void)gd_tensor_unref(y);
    (void)gd_tensor_unref(loss);
}

static status_t root_forward(gd_module_t *self, gd_tensor_t *x, gd_tensor_t **y_p)
{
    gd_chain_t c = {0};
    gd_tensor_t *h = gd_chain_child(&c, self, "fc", x);
    return gd_chain_end(&c, gd_chain_unary(&c, gd_sqrt, h), y_p);
}

static void a_module_is_named_by_path_and_place_in_its_file(void **state)
{
    (void)state;
    static const gd_module_ops_t ops = {.kind = "square_root", .forward = root_forward};
    gd_build_t b = gd_build_begin(&ops, 0);
    gd_build_t outer = gd_build_sequential();
    gd_module_t *model = NULL;
    gd_tensor_t *x = NULL;
    gd_tensor_t *y = NULL;
    gd_build_child(&b, "fc", gd_linear_new(2, 2, true, gd_build_slot(&b)));
    gd_build_child(&outer, "head", gd_build_end(&b, gd_build_slot(&outer)));
    assert_ok(gd_build_end(&outer, &model));
    assert_ok(gd_module_set_paths(model));
    assert_ok(gd_module_set_place(model->children[0], "net.yaml", 7));
    assert_ok(gd_tensor_zeros(GD_DTYPE_F32, 2, (const int64_t[]){1, 2}, &x));

    assert_ok(gd_module_forward(model, x, &y)); /* the weights are zero */
    gd_tensor_t *dy = NULL;
    assert_ok(gd_tensor_full(GD_DTYPE_F32, 2, (const int64_t[]){1, 2}, 1, &dy));
    assert_fails(gd_backward(y, dy, false), ST_ERR_NONFINITE,
                 "backward of sqrt made inf at element 0 of the gradient of input 0, inputs [1, 2], output [1, 2]; its "
                 "forward was in head (square_root) at net.yaml:7, called at ");
    assert_non_null(strstr(status_message(), "test_autograd_anomaly.c:"));
    y = gd_tensor_unref(y);
    assert_ok(gd_tensor_fill(model->children[0]->children[0]->parameters[1].tensor, -1));
    assert_fails(gd_module_forward(model, x, &y), ST_ERR_NONFINITE,
                 "step 7, microbatch 3: forward of sqrt made nan at element 0 of its output [1, 2], "
                 "inputs [1, 2]; in head (square_root) at net.yaml:7, called at ");

    (void)gd_tensor_unref(dy);
    (void)gd_tensor_unref(x);
    (void)gd_module_unref(model);
}

static void other_float_types_and_views_are_looked_at_too(void **state)
{
    (void)state;
    const double values[2] = {1, -1};
    const int64_t n = 2;
    gd_tensor_t *x = NULL;
    gd_tensor_t *y = NULL;
    assert_ok(gd_tensor_from_data(GD_DTYPE_F64, 1, &n, values, &x));

    assert_fails(gd_sqrt(x, &y), ST_ERR_NONFINITE, "forward of sqrt made nan at element 1");
    (void)gd_anomaly_set(false);
    assert_ok(gd_sqrt(x, &y));

    (void)gd_anomaly_set(true);
    (void)gd_tensor_unref(x);
    (void)gd_tensor_unref(y);
}

#define ANOMALY_TEST(function_x) cmocka_unit_test_setup_teardown(function_x, anomaly_on, anomaly_off)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ANOMALY_TEST(a_forward_that_overflows_is_named_with_its_line),
        ANOMALY_TEST(a_nan_that_comes_in_is_said_to_have_been_there),
        ANOMALY_TEST(minus_infinity_of_a_mask_goes_on_but_not_further_than_softmax),
        ANOMALY_TEST(a_backward_that_fails_names_its_forward),
        ANOMALY_TEST(a_module_is_named_by_path_and_place_in_its_file),
        ANOMALY_TEST(other_float_types_and_views_are_looked_at_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
