/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hooks: forward, forward-pre and backward hooks of modules.
 *
 * For backward hooks the module's input and output pass through a view that changes nothing but has a node of its own:
 * the gradient of the input's view is what comes out of the module, whoever else uses the input. Hooks on both views
 * see dx and dy. Each forward has a call_t of its own, so a module may be used several times in a graph.
 */
#include "nn/hooks.h"

#include <string.h>

#include "autograd/node.h"
#include "base/mem.h"
#include "nn/fail.h"

struct gd_module_hooks {
    gd_hook_t *forward_pre;
    gd_hook_t *forward;
    gd_hook_t *backward;
};

/* One forward of a module with backward hooks; counted by the hooks on its views. */
typedef struct call {
    int n_refs;
    gd_module_t *module;
    gd_tensor_t *dy;
    bool has_dx;
} call_t;

void module_hooks_free(gd_module_hooks_t *hooks)
{
    if (hooks != NULL) {
        tape_hooks_release(&hooks->forward_pre);
        tape_hooks_release(&hooks->forward);
        tape_hooks_release(&hooks->backward);
        mem_free(hooks);
    }
}

static status_t hooks_get(gd_module_t *module)
{
    if (module->hooks == NULL) {
        module->hooks = mem_zalloc(sizeof(*module->hooks));
    }
    return module->hooks != NULL ? ST_OK : ST_FAIL(ST_ERR_NOMEM, "%s: a hook", module->ops->kind);
}

status_t gd_module_add_forward_pre_hook(gd_module_t *module, gd_module_forward_pre_hook_func_t func, void *arg,
                                        gd_hook_t **hook_p)
{
    gd_hook_t *hook = NULL;
    status_t status = hooks_get(module);
    if (status == ST_OK) {
        status = tape_hooks_add(&module->hooks->forward_pre, &hook);
    }
    if (status != ST_OK) {
        return status;
    }
    hook->func.forward_pre = func;
    hook->arg = arg;
    tape_hook_hand_out(hook, hook_p);
    return ST_OK;
}

status_t gd_module_add_forward_hook(gd_module_t *module, gd_module_forward_hook_func_t func, void *arg,
                                    gd_hook_t **hook_p)
{
    gd_hook_t *hook = NULL;
    status_t status = hooks_get(module);
    if (status == ST_OK) {
        status = tape_hooks_add(&module->hooks->forward, &hook);
    }
    if (status != ST_OK) {
        return status;
    }
    hook->func.forward = func;
    hook->arg = arg;
    tape_hook_hand_out(hook, hook_p);
    return ST_OK;
}

status_t gd_module_add_backward_hook(gd_module_t *module, gd_module_backward_hook_func_t func, void *arg,
                                     gd_hook_t **hook_p)
{
    gd_hook_t *hook = NULL;
    status_t status = hooks_get(module);
    if (status == ST_OK) {
        status = tape_hooks_add(&module->hooks->backward, &hook);
    }
    if (status != ST_OK) {
        return status;
    }
    hook->func.backward = func;
    hook->arg = arg;
    tape_hook_hand_out(hook, hook_p);
    return ST_OK;
}

/* ---- forward ---- */

static void value_replace(gd_tensor_t **value, gd_tensor_t *replacement)
{
    if (replacement != NULL) {
        (void)gd_tensor_unref(*value);
        *value = replacement;
    }
}

/* *x is replaced as the hooks say. */
static status_t forward_pre_run(gd_module_t *module, gd_tensor_t **x)
{
    status_t status = ST_OK;
    gd_hook_t *hook = tape_hooks_first(&module->hooks->forward_pre);
    tape_hooks_enter();
    while (hook != NULL && status == ST_OK) {
        gd_tensor_t *replacement = NULL;
        status = hook->func.forward_pre(module, *x, &replacement, hook->arg);
        value_replace(x, status == ST_OK ? replacement : NULL);
        hook = tape_hooks_first(&hook->next);
    }
    tape_hooks_leave();
    return status;
}

static status_t forward_run(gd_module_t *module, gd_tensor_t *x, gd_tensor_t **y)
{
    status_t status = ST_OK;
    gd_hook_t *hook = tape_hooks_first(&module->hooks->forward);
    tape_hooks_enter();
    while (hook != NULL && status == ST_OK) {
        gd_tensor_t *replacement = NULL;
        status = hook->func.forward(module, x, *y, &replacement, hook->arg);
        value_replace(y, status == ST_OK ? replacement : NULL);
        hook = tape_hooks_first(&hook->next);
    }
    tape_hooks_leave();
    return status;
}

/* ---- backward ---- */

static void call_unref(void *arg)
{
    call_t *call = arg;
    if (--call->n_refs == 0) {
        (void)gd_tensor_unref(call->dy);
        (void)gd_module_unref(call->module);
        gd_pool_free(gd_context_pool(), call);
    }
}

/* *dx is replaced as the hooks say; NULL: the input requires no gradient. */
static status_t backward_run(call_t *call, gd_tensor_t **dx)
{
    status_t status = ST_OK;
    gd_hook_t *hook = call->module->hooks != NULL ? tape_hooks_first(&call->module->hooks->backward) : NULL;
    tape_hooks_enter();
    while (hook != NULL && status == ST_OK) {
        gd_tensor_t *replacement = NULL;
        status = hook->func.backward(call->module, *dx, call->dy, &replacement, hook->arg);
        if (status == ST_OK && *dx != NULL) {
            status = tape_hook_replace(dx, replacement, "the input's gradient");
        } else {
            (void)gd_tensor_unref(replacement);
        }
        hook = tape_hooks_first(&hook->next);
    }
    tape_hooks_leave();
    return status == ST_OK ? ST_OK : module_add_context(status, call->module);
}

static status_t dy_seen(gd_tensor_t *dy, gd_tensor_t **replacement_p, void *arg)
{
    (void)replacement_p;
    call_t *call = arg;
    gd_tensor_t *none = NULL;
    (void)gd_tensor_unref(call->dy);
    call->dy = gd_tensor_ref(dy);
    return call->has_dx ? ST_OK : backward_run(call, &none);
}

static status_t dx_seen(gd_tensor_t *dx, gd_tensor_t **replacement_p, void *arg)
{
    gd_tensor_t *current = gd_tensor_ref(dx);
    status_t status = backward_run(arg, &current);
    if (status == ST_OK && current != dx) {
        *replacement_p = current;
        return ST_OK;
    }
    (void)gd_tensor_unref(current);
    return status;
}

/* *t passes through a view whose gradient the function sees. */
static status_t view_watch(gd_tensor_t **t, call_t *call, gd_tensor_hook_func_t func)
{
    gd_attrs_t attrs = {.i = {(*t)->n_dims}};
    memcpy(&attrs.i[1], (*t)->shape, (size_t)(*t)->n_dims * sizeof(int64_t));
    gd_tensor_t *view = NULL;
    status_t status = gd_op_apply(GD_OP_EXPAND, t, 1, &attrs, &view);
    if (status != ST_OK) {
        return status;
    }
    gd_hook_t *hook = NULL;
    status = tape_hooks_add(&view->node->hooks, &hook);
    if (status != ST_OK) {
        (void)gd_tensor_unref(view);
        return status;
    }
    hook->func.tensor = func;
    hook->arg = call;
    hook->release = call_unref;
    call->n_refs++;
    value_replace(t, view);
    return ST_OK;
}

static status_t call_new(gd_module_t *module, call_t **call_p)
{
    call_t *call = gd_pool_alloc(gd_context_pool(), sizeof(*call));
    if (call == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "%s: a hook", module->ops->kind);
    }
    *call = (call_t){.n_refs = 1, .module = gd_module_ref(module)};
    *call_p = call;
    return ST_OK;
}

static status_t hooked_forward(gd_module_t *module, gd_tensor_t *x, gd_tensor_t **y_p)
{
    gd_tensor_t *y = NULL;
    call_t *call = NULL;
    x = gd_tensor_ref(x);
    status_t status = forward_pre_run(module, &x);
    bool is_watched = gd_grad_is_enabled() && tape_hooks_first(&module->hooks->backward) != NULL;
    if (status == ST_OK && is_watched) {
        status = call_new(module, &call);
    }
    if (status == ST_OK && is_watched && gd_tensor_tracks(x)) {
        call->has_dx = true;
        status = view_watch(&x, call, dx_seen);
    }
    if (status == ST_OK) {
        status = module_checkpoint_forward(module, x, &y);
    }
    if (status == ST_OK) {
        status = forward_run(module, x, &y);
    }
    if (status == ST_OK && is_watched && gd_tensor_tracks(y)) {
        status = view_watch(&y, call, dy_seen);
    }
    if (call != NULL) {
        call_unref(call);
    }
    (void)gd_tensor_unref(x);
    if (status != ST_OK) {
        (void)gd_tensor_unref(y);
        return status;
    }
    *y_p = y;
    return ST_OK;
}

status_t module_hooks_forward(gd_module_t *module, gd_tensor_t *x, gd_tensor_t **y_p)
{
    return module->hooks != NULL ? hooked_forward(module, x, y_p) : module_checkpoint_forward(module, x, y_p);
}
