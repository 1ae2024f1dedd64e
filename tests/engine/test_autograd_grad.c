/* SPDX-License-Identifier: Apache-2.0 */
/* Gradients of results: gd_grad, retained gradients, hooks on tensors. Orders and values are PyTorch's. */
#include <string.h>

#include "gradd/autograd.h"
#include "gradd/ops.h"
#include "tests/support/fixture.h"

static gd_tensor_t *vector(float a, float b, bool requires_grad)
{
    const int64_t n = 2;
    gd_tensor_t *t = NULL;
    assert_ok(gd_tensor_from_data(GD_DTYPE_F32, 1, &n, (const float[]){a, b}, &t));
    assert_ok(gd_tensor_set_requires_grad(t, requires_grad));
    return t;
}

static void assert_pair(gd_tensor_t *t, float a, float b)
{
    assert_non_null(t);
    const float *data = gd_tensor_data(t);
    assert_float_equal(data[0], a, 0);
    assert_float_equal(data[1], b, 0);
}

static char events[256];

static void event_add(const char *text)
{
    assert_true(strlen(events) + strlen(text) + 2 < sizeof(events));
    (void)strcat(events, text);
    (void)strcat(events, " ");
}

static status_t name_hook(gd_tensor_t *grad, gd_tensor_t **replacement_p, void *arg)
{
    (void)grad;
    (void)replacement_p;
    event_add(arg);
    return ST_OK;
}

static status_t scale_hook(gd_tensor_t *grad, gd_tensor_t **replacement_p, void *arg)
{
    return gd_scale(grad, *(const double *)arg, 0, replacement_p);
}

/* a = 3 x; loss = sum of x a a; outputs [a, loss] */
static void graph_make(gd_tensor_t *x, gd_tensor_t **a_p, gd_tensor_t **loss_p)
{
    gd_tensor_t *square = NULL;
    gd_tensor_t *product = NULL;
    assert_ok(gd_scale(x, 3, 0, a_p));
    assert_ok(gd_mul(*a_p, *a_p, &square));
    assert_ok(gd_mul(x, square, &product));
    assert_ok(gd_sum(product, 0, NULL, false, loss_p));
    (void)gd_tensor_unref(square);
    (void)gd_tensor_unref(product);
}

static void gd_grad_gives_gradients_of_leaves_and_results_and_leaves_grad_alone(void **state)
{
    (void)state;
    gd_tensor_t *x = vector(1, 2, true);
    gd_tensor_t *a = NULL;
    gd_tensor_t *loss = NULL;
    gd_tensor_t *gradients[3] = {NULL};
    graph_make(x, &a, &loss);
    assert_ok(gd_tensor_retain_grad(a));

    assert_ok(gd_grad(&loss, NULL, 1, (gd_tensor_t *[]){x, a, x}, 3, false, true, gradients));

    assert_pair(gradients[0], 27, 108); /* 27 x² */
    assert_pair(gradients[1], 6, 24);   /* 2 x a */
    assert_pair(gradients[2], 27, 108);
    assert_null(gd_tensor_grad(x));
    assert_null(gd_tensor_grad(a));
    for (int i = 0; i < 3; i++) {
        (void)gd_tensor_unref(gradients[i]);
    }
    assert_ok(gd_backward(loss, NULL, false)); /* the graph was kept, and works as before */
    assert_pair(gd_tensor_grad(x), 27, 108);
    assert_pair(gd_tensor_grad(a), 6, 24);
    (void)gd_tensor_unref(x);
    (void)gd_tensor_unref(a);
    (void)gd_tensor_unref(loss);
}

static void gd_grad_of_several_outputs_starts_from_what_it_is_given(void **state)
{
    (void)state;
    gd_tensor_t *x = vector(1, 2, true);
    gd_tensor_t *dy = vector(10, 100, false);
    gd_tensor_t *a = NULL;
    gd_tensor_t *loss = NULL;
    gd_tensor_t *gradient = NULL;
    graph_make(x, &a, &loss);

    assert_ok(
        gd_grad((gd_tensor_t *[]){loss, a, x}, (gd_tensor_t *[]){NULL, dy, dy}, 3, &x, 1, false, false, &gradient));

    assert_pair(gradient, 27 + 30 + 10, 108 + 300 + 100);
    (void)gd_tensor_unref(gradient);
    assert_fails(gd_grad(&loss, NULL, 1, &x, 1, false, false, &gradient), ST_ERR_STATE, "freed by an earlier");
    (void)gd_tensor_unref(x);
    (void)gd_tensor_unref(dy);
    (void)gd_tensor_unref(a);
    (void)gd_tensor_unref(loss);
}

static void gd_grad_refuses_inputs_that_the_outputs_do_not_depend_on(void **state)
{
    (void)state;
    gd_tensor_t *x = vector(1, 2, true);
    gd_tensor_t *other = vector(1, 2, true);
    gd_tensor_t *constant = vector(1, 2, false);
    gd_tensor_t *a = NULL;
    gd_tensor_t *loss = NULL;
    gd_tensor_t *gradients[2] = {NULL};
    graph_make(x, &a, &loss);

    assert_fails(gd_grad(&loss, NULL, 1, (gd_tensor_t *[]){x, other}, 2, false, true, gradients), ST_ERR_STATE,
                 "don't depend on input 1");
    assert_fails(gd_grad(&loss, NULL, 1, (gd_tensor_t *[]){x, constant}, 2, true, true, gradients), ST_ERR_STATE,
                 "input 1 requires no gradient");
    assert_fails(gd_grad(&constant, NULL, 1, &x, 1, true, true, gradients), ST_ERR_STATE, "output 0 has no graph");
    assert_fails(gd_grad(&a, NULL, 1, &x, 1, true, true, gradients), ST_ERR_SHAPE, "2 elements");
    assert_fails(gd_grad(NULL, NULL, 0, &x, 1, true, true, gradients), ST_ERR_INVAL, "0 outputs");
    assert_null(gradients[0]);
    assert_ok(gd_grad(&loss, NULL, 1, (gd_tensor_t *[]){x, other}, 2, true, false, gradients));

    assert_pair(gradients[0], 27, 108);
    assert_null(gradients[1]);
    (void)gd_tensor_unref(gradients[0]);
    (void)gd_tensor_unref(x);
    (void)gd_tensor_unref(other);
    (void)gd_tensor_unref(constant);
    (void)gd_tensor_unref(a);
    (void)gd_tensor_unref(loss);
}

static void a_retained_gradient_accumulates_and_may_be_dropped(void **state)
{
    (void)state;
    gd_tensor_t *x = vector(1, 2, true);
    gd_tensor_t *constant = vector(1, 2, false);
    gd_tensor_t *a = NULL;
    gd_tensor_t *loss = NULL;
    graph_make(x, &a, &loss);

    assert_fails(gd_tensor_retain_grad(constant), ST_ERR_STATE, "requires no gradient");
    assert_ok(gd_tensor_retain_grad(x));
    assert_ok(gd_tensor_retain_grad(a));
    assert_ok(gd_backward(loss, NULL, true));
    assert_ok(gd_backward(loss, NULL, true));
    assert_pair(gd_tensor_grad(a), 12, 48);
    (void)gd_tensor_unref(a); /* the graph lives on without it */
    assert_ok(gd_backward(loss, NULL, false));

    assert_pair(gd_tensor_grad(x), 81, 324);
    (void)gd_tensor_unref(x);
    (void)gd_tensor_unref(constant);
    (void)gd_tensor_unref(loss);
}

static void hooks_run_in_order_and_replace_gradients(void **state)
{
    (void)state;
    gd_tensor_t *x = vector(1, 2, true);
    gd_tensor_t *a = NULL;
    gd_tensor_t *loss = NULL;
    const double two = 2;
    const double ten = 10;
    graph_make(x, &a, &loss);
    events[0] = '\0';
    assert_ok(gd_tensor_retain_grad(a)); /* sees what the hooks made of it, though it came first */
    assert_ok(gd_tensor_add_hook(a, name_hook, "a", NULL));
    assert_ok(gd_tensor_add_hook(a, scale_hook, (void *)&two, NULL));
    assert_ok(gd_tensor_add_hook(x, name_hook, "x", NULL));
    assert_ok(gd_tensor_add_hook(x, scale_hook, (void *)&ten, NULL));
    assert_ok(gd_tensor_add_hook(loss, name_hook, "loss1", NULL));
    assert_ok(gd_tensor_add_hook(loss, name_hook, "loss2", NULL));

    assert_ok(gd_backward(loss, NULL, true));

    assert_string_equal(events, "loss1 loss2 a x ");
    assert_pair(gd_tensor_grad(a), 12, 48);
    assert_pair(gd_tensor_grad(x), 450, 1800); /* 10 (9 x² + 3 · 2 · 2 x a): x's hook ran once, on the sum */
    gd_tensor_t *gradients[2] = {NULL};
    assert_ok(gd_grad(&loss, NULL, 1, (gd_tensor_t *[]){x, a}, 2, false, false, gradients));
    assert_pair(gradients[0], 450, 1800);
    assert_pair(gradients[1], 12, 48);
    (void)gd_tensor_unref(gradients[0]);
    (void)gd_tensor_unref(gradients[1]);
    (void)gd_tensor_unref(x);
    (void)gd_tensor_unref(a);
    (void)gd_tensor_unref(loss);
}

static gd_hook_t *own_hook;

static status_t once_hook(gd_tensor_t *grad, gd_tensor_t **replacement_p, void *arg)
{
    (void)grad;
    (void)replacement_p;
    event_add(arg);
    gd_hook_remove(own_hook);
    return ST_OK;
}

static void hooks_can_be_removed_even_by_themselves_and_outlive_their_tensor(void **state)
{
    (void)state;
    gd_tensor_t *x = vector(1, 2, true);
    gd_tensor_t *a = NULL;
    gd_tensor_t *loss = NULL;
    gd_hook_t *first = NULL;
    gd_hook_t *last = NULL;
    graph_make(x, &a, &loss);
    events[0] = '\0';
    assert_ok(gd_tensor_add_hook(x, name_hook, "first", &first));
    assert_ok(gd_tensor_add_hook(x, once_hook, "once", &own_hook));
    assert_ok(gd_tensor_add_hook(x, name_hook, "last", &last));

    assert_ok(gd_backward(loss, NULL, true));
    gd_hook_remove(first);
    assert_ok(gd_backward(loss, NULL, false));

    assert_string_equal(events, "first once last last ");
    (void)gd_tensor_unref(a);
    (void)gd_tensor_unref(loss);
    (void)gd_tensor_unref(x);
    gd_hook_remove(last);
    gd_hook_remove(NULL);
}

static status_t bad_hook(gd_tensor_t *grad, gd_tensor_t **replacement_p, void *arg)
{
    (void)arg;
    return gd_sum(grad, 0, NULL, false, replacement_p);
}

static status_t failing_hook(gd_tensor_t *grad, gd_tensor_t **replacement_p, void *arg)
{
    (void)grad;
    (void)replacement_p;
    (void)arg;
    return ST_FAIL(ST_ERR_DATA, "the hook's own reason");
}

static void an_error_of_a_hook_ends_the_backward(void **state)
{
    (void)state;
    gd_tensor_t *x = vector(1, 2, true);
    gd_tensor_t *constant = vector(1, 2, false);
    gd_tensor_t *a = NULL;
    gd_tensor_t *loss = NULL;
    gd_hook_t *hook = NULL;
    graph_make(x, &a, &loss);

    assert_fails(gd_tensor_add_hook(constant, failing_hook, NULL, NULL), ST_ERR_STATE, "requires no gradient");
    assert_ok(gd_tensor_add_hook(a, bad_hook, NULL, &hook));
    assert_fails(gd_backward(loss, NULL, true), ST_ERR_SHAPE, "a hook gave f32 [] in place of the gradient f32 [2]");
    gd_hook_remove(hook);
    assert_ok(gd_tensor_add_hook(x, failing_hook, NULL, &hook));
    assert_fails(gd_backward(loss, NULL, true), ST_ERR_DATA, "own reason");
    gd_hook_remove(hook);
    assert_ok(gd_tensor_set_grad(x, NULL, false)); /* what came before the first error stays added */
    assert_ok(gd_backward(loss, NULL, false));     /* nothing was left behind in the graph */

    assert_pair(gd_tensor_grad(x), 27, 108);
    (void)gd_tensor_unref(x);
    (void)gd_tensor_unref(constant);
    (void)gd_tensor_unref(a);
    (void)gd_tensor_unref(loss);
}

static void a_use_beside_the_graph_does_not_hold_a_leafs_hook_back(void **state)
{
    (void)state;
    gd_tensor_t *x = vector(1, 2, true);
    gd_tensor_t *y = NULL;
    gd_tensor_t *z = NULL;
    gd_tensor_t *product = NULL;
    gd_tensor_t *loss = NULL;
    events[0] = '\0';
    assert_ok(gd_tensor_add_hook(x, name_hook, "x", NULL));
    assert_ok(gd_scale(x, 2, 0, &y));
    assert_ok(gd_detach(y, &z));
    assert_ok(gd_mul(x, z, &product));
    assert_ok(gd_sum(product, 0, NULL, false, &loss));

    assert_ok(gd_backward(loss, NULL, false));

    assert_string_equal(events, "x ");
    assert_pair(gd_tensor_grad(x), 2, 4);
    (void)gd_tensor_unref(x);
    (void)gd_tensor_unref(z);
    (void)gd_tensor_unref(product);
    (void)gd_tensor_unref(y);
    (void)gd_tensor_unref(loss);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(gd_grad_gives_gradients_of_leaves_and_results_and_leaves_grad_alone),
        TEST(gd_grad_of_several_outputs_starts_from_what_it_is_given),
        TEST(gd_grad_refuses_inputs_that_the_outputs_do_not_depend_on),
        TEST(a_retained_gradient_accumulates_and_may_be_dropped),
        TEST(hooks_run_in_order_and_replace_gradients),
        TEST(hooks_can_be_removed_even_by_themselves_and_outlive_their_tensor),
        TEST(an_error_of_a_hook_ends_the_backward),
        TEST(a_use_beside_the_graph_does_not_hold_a_leafs_hook_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
