/* SPDX-License-Identifier: Apache-2.0 */
/* Hooks on modules: order (as PyTorch's), what they see, what they may change. */
#include <string.h>

#include "gradd/context.h"
#include "gradd/flat.h"
#include "gradd/nn.h"
#include "tests/support/fixture.h"

static char events[512];

static void event_add(const char *kind, const gd_module_t *module, const char *more)
{
    const char *name = module->path[0] != '\0' ? module->path : "root";
    assert_true(strlen(events) + strlen(kind) + strlen(name) + strlen(more) + 2 < sizeof(events));
    (void)strcat(events, kind);
    (void)strcat(events, name);
    (void)strcat(events, more);
    (void)strcat(events, " ");
}

static status_t pre_note(gd_module_t *module, gd_tensor_t *x, gd_tensor_t **x_p, void *arg)
{
    (void)x;
    (void)x_p;
    (void)arg;
    event_add("pre:", module, "");
    return ST_OK;
}

static status_t forward_note(gd_module_t *module, gd_tensor_t *x, gd_tensor_t *y, gd_tensor_t **y_p, void *arg)
{
    (void)x;
    (void)y;
    (void)y_p;
    (void)arg;
    event_add("fwd:", module, "");
    return ST_OK;
}

static status_t backward_note(gd_module_t *module, gd_tensor_t *dx, gd_tensor_t *dy, gd_tensor_t **dx_p, void *arg)
{
    (void)dx_p;
    (void)arg;
    assert_non_null(dy);
    event_add("bwd:", module, dx == NULL ? "(none)" : "");
    return ST_OK;
}

static status_t tensor_note(gd_tensor_t *grad, gd_tensor_t **replacement_p, void *arg)
{
    (void)grad;
    (void)replacement_p;
    (void)strcat(events, arg);
    (void)strcat(events, " ");
    return ST_OK;
}

/* linear 2 → 3 and 3 → 1 without bias, a ReLU between */
static gd_module_t *model_make(void)
{
    gd_module_t *root = NULL;
    gd_module_t *layers[3] = {NULL};
    static const char *const names[] = {"0", "1", "2"};
    assert_ok(gd_sequential_new(&root));
    assert_ok(gd_linear_new(2, 3, false, &layers[0]));
    assert_ok(gd_activation_new(GD_ACTIVATION_RELU, &layers[1]));
    assert_ok(gd_linear_new(3, 1, false, &layers[2]));
    for (int i = 0; i < 3; i++) {
        assert_ok(gd_module_add_child(root, names[i], layers[i]));
        (void)gd_module_unref(layers[i]);
    }
    assert_ok(gd_module_set_paths(root));
    assert_ok(gd_module_initialise(root, 3));
    events[0] = '\0';
    return root;
}

static gd_tensor_t *input_make(bool requires_grad)
{
    gd_tensor_t *x = NULL;
    assert_ok(gd_tensor_from_data(GD_DTYPE_F32, 2, (const int64_t[]){1, 2}, (const float[]){1, 2}, &x));
    assert_ok(gd_tensor_set_requires_grad(x, requires_grad));
    return x;
}

static void hooks_run_in_pytorchs_order(void **state)
{
    (void)state;
    gd_module_t *root = model_make();
    gd_tensor_t *x = input_make(true);
    gd_tensor_t *y = NULL;
    gd_module_t *modules[] = {root, root->children[0], root->children[1], root->children[2]};
    for (int i = 0; i < 4; i++) {
        assert_ok(gd_module_add_forward_pre_hook(modules[i], pre_note, NULL, NULL));
        assert_ok(gd_module_add_forward_hook(modules[i], forward_note, NULL, NULL));
        assert_ok(gd_module_add_backward_hook(modules[i], backward_note, NULL, NULL));
    }
    assert_ok(gd_tensor_add_hook(root->children[0]->parameters[0].tensor, tensor_note, "w0", NULL));
    assert_ok(gd_tensor_add_hook(root->children[2]->parameters[0].tensor, tensor_note, "w2", NULL));
    assert_ok(gd_tensor_add_hook(x, tensor_note, "x", NULL));

    assert_ok(gd_module_forward(root, x, &y));
    assert_ok(gd_tensor_add_hook(y, tensor_note, "y", NULL));
    assert_ok(gd_backward(y, NULL, false));

    assert_string_equal(events, "pre:root pre:0 fwd:0 pre:1 fwd:1 pre:2 fwd:2 fwd:root y w2 bwd:2 bwd:1 w0 bwd:0 "
                                "bwd:root x ");
    (void)gd_tensor_unref(x);
    (void)gd_tensor_unref(y);
    (void)gd_module_unref(root);
}

static void a_backward_hook_runs_where_the_input_requires_no_gradient(void **state)
{
    (void)state;
    gd_module_t *root = model_make();
    gd_tensor_t *x = input_make(false);
    gd_tensor_t *y = NULL;
    gd_hook_t *hook = NULL;
    assert_ok(gd_module_add_backward_hook(root, backward_note, NULL, &hook));

    assert_ok(gd_module_forward(root, x, &y));
    assert_ok(gd_backward(y, NULL, false));
    y = gd_tensor_unref(y);
    bool before = gd_grad_set_enabled(false);
    assert_ok(gd_module_forward(root, x, &y)); /* without a graph there is nothing to hook */
    (void)gd_grad_set_enabled(before);
    assert_true(gd_tensor_is_leaf(y));
    y = gd_tensor_unref(y);
    gd_hook_remove(hook);
    assert_ok(gd_module_forward(root, x, &y));
    assert_ok(gd_backward(y, NULL, false));

    assert_string_equal(events, "bwd:root(none) ");
    (void)gd_tensor_unref(x);
    (void)gd_tensor_unref(y);
    (void)gd_module_unref(root);
}

static status_t pre_double(gd_module_t *module, gd_tensor_t *x, gd_tensor_t **x_p, void *arg)
{
    (void)module;
    (void)arg;
    return gd_scale(x, 2, 0, x_p);
}

static status_t forward_double(gd_module_t *module, gd_tensor_t *x, gd_tensor_t *y, gd_tensor_t **y_p, void *arg)
{
    (void)module;
    (void)x;
    (void)arg;
    return gd_scale(y, 2, 0, y_p);
}

static status_t backward_double(gd_module_t *module, gd_tensor_t *dx, gd_tensor_t *dy, gd_tensor_t **dx_p, void *arg)
{
    (void)module;
    (void)dy;
    (void)arg;
    return gd_scale(dx, 2, 0, dx_p);
}

static void hooks_change_values_and_gradients(void **state)
{
    (void)state;
    gd_module_t *root = model_make();
    gd_tensor_t *x = input_make(true);
    gd_tensor_t *y = NULL;
    double plain = 0;
    double hooked = 0;
    gd_hook_t *hooks[3] = {NULL};
    assert_ok(gd_module_forward(root, x, &y));
    assert_ok(gd_tensor_item(y, &plain));
    assert_ok(gd_backward(y, NULL, false));
    float dx = ((const float *)gd_tensor_data(gd_tensor_grad(x)))[0];
    assert_true(plain != 0 && dx != 0.0F);
    y = gd_tensor_unref(y);
    assert_ok(gd_tensor_set_grad(x, NULL, false));

    assert_ok(gd_module_add_forward_pre_hook(root, pre_double, NULL, &hooks[0]));
    assert_ok(gd_module_add_forward_hook(root, forward_double, NULL, &hooks[1]));
    assert_ok(gd_module_add_backward_hook(root->children[0], backward_double, NULL, &hooks[2]));
    assert_ok(gd_module_forward(root, x, &y));
    assert_ok(gd_tensor_item(y, &hooked));
    assert_ok(gd_backward(y, NULL, false));

    assert_true(hooked == 4 * plain); /* everything is linear: powers of two are exact */
    assert_float_equal(((const float *)gd_tensor_data(gd_tensor_grad(x)))[0], 8 * dx, 0);
    for (int i = 0; i < 3; i++) {
        gd_hook_remove(hooks[i]);
    }
    (void)gd_tensor_unref(x);
    (void)gd_tensor_unref(y);
    (void)gd_module_unref(root);
}

static status_t forward_fail(gd_module_t *module, gd_tensor_t *x, gd_tensor_t *y, gd_tensor_t **y_p, void *arg)
{
    (void)module;
    (void)x;
    (void)y;
    (void)y_p;
    (void)arg;
    return ST_FAIL(ST_ERR_DATA, "seen enough");
}

static status_t backward_fail(gd_module_t *module, gd_tensor_t *dx, gd_tensor_t *dy, gd_tensor_t **dx_p, void *arg)
{
    (void)dx;
    (void)dx_p;
    return forward_fail(module, dy, dy, NULL, arg);
}

static void errors_of_hooks_name_the_module(void **state)
{
    (void)state;
    gd_module_t *root = model_make();
    gd_tensor_t *x = input_make(true);
    gd_tensor_t *y = NULL;
    gd_hook_t *hook = NULL;

    assert_ok(gd_module_add_forward_hook(root->children[1], forward_fail, NULL, &hook));
    assert_fails(gd_module_forward(root, x, &y), ST_ERR_DATA, "1 (relu): seen enough");
    gd_hook_remove(hook);
    assert_ok(gd_module_add_backward_hook(root->children[1], backward_fail, NULL, &hook));
    assert_ok(gd_module_forward(root, x, &y));
    assert_fails(gd_backward(y, NULL, false), ST_ERR_DATA, "1 (relu): seen enough");

    gd_hook_remove(hook);
    (void)gd_tensor_unref(x);
    (void)gd_tensor_unref(y);
    (void)gd_module_unref(root);
}

typedef struct rerun {
    gd_hook_t *own;
    bool has_run;
} rerun_t;

/* Once: leaves the list, runs the module again, and adds a hook that might get the memory of the one that left. */
static status_t rerun_hook(gd_module_t *module, gd_tensor_t *x, gd_tensor_t **x_p, void *arg)
{
    rerun_t *rerun = arg;
    gd_tensor_t *y = NULL;
    (void)x_p;
    if (rerun->has_run) {
        return ST_OK;
    }
    rerun->has_run = true;
    event_add("rerun:", module, "");
    gd_hook_remove(rerun->own);
    assert_ok(gd_module_forward(module, x, &y));
    (void)gd_tensor_unref(y);
    return gd_module_add_forward_pre_hook(module->children[0], pre_note, NULL, NULL);
}

static void a_hook_may_leave_and_run_its_module_again(void **state)
{
    (void)state;
    gd_module_t *root = model_make();
    gd_tensor_t *x = input_make(false);
    gd_tensor_t *y = NULL;
    rerun_t rerun = {.own = NULL};
    assert_ok(gd_module_add_forward_pre_hook(root, rerun_hook, &rerun, &rerun.own));
    assert_ok(gd_module_add_forward_pre_hook(root, pre_note, NULL, NULL));

    assert_ok(gd_module_forward(root, x, &y));

    assert_string_equal(events, "rerun:root pre:root pre:root pre:0 ");
    (void)gd_tensor_unref(x);
    (void)gd_tensor_unref(y);
    (void)gd_module_unref(root);
}

/* gd_flat_open puts another tensor in the parameter's place: the hook is on the parameter all the same. */
static void a_hook_on_a_parameter_goes_along_into_the_flat_buffer(void **state)
{
    (void)state;
    gd_module_t *root = model_make();
    gd_tensor_t *x = input_make(false);
    gd_tensor_t *y = NULL;
    gd_flat_t *flat = NULL;
    gd_hook_t *hook = NULL;
    assert_ok(gd_tensor_add_hook(root->children[0]->parameters[0].tensor, tensor_note, "w0", NULL));
    assert_ok(gd_tensor_add_hook(root->children[2]->parameters[0].tensor, tensor_note, "w2", &hook));

    assert_ok(gd_flat_open(root, &flat));

    assert_ok(gd_module_forward(root, x, &y));
    assert_ok(gd_backward(y, NULL, true));
    assert_string_equal(events, "w2 w0 ");
    gd_hook_remove(hook);
    assert_ok(gd_backward(y, NULL, false));
    assert_string_equal(events, "w2 w0 w0 ");
    (void)gd_tensor_unref(x);
    (void)gd_tensor_unref(y);
    (void)gd_module_unref(root);
    gd_flat_close(flat);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(hooks_run_in_pytorchs_order),
        TEST(a_backward_hook_runs_where_the_input_requires_no_gradient),
        TEST(hooks_change_values_and_gradients),
        TEST(errors_of_hooks_name_the_module),
        TEST(a_hook_may_leave_and_run_its_module_again),
        TEST(a_hook_on_a_parameter_goes_along_into_the_flat_buffer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
