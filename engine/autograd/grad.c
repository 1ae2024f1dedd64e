/* SPDX-License-Identifier: Apache-2.0 */
/* grad: the gradient side of a tensor. */
#include <string.h>

#include "autograd/node.h"

status_t gd_tensor_set_requires_grad(gd_tensor_t *t, bool requires_grad)
{
    if (t->node != NULL) {
        return ST_FAIL(ST_ERR_STATE, "requires_grad can be set for leaves only; this is the result of %s",
                       t->node->base.op->name);
    }
    if (requires_grad && !gd_dtype_is_float(t->dtype)) {
        return ST_FAIL(ST_ERR_DTYPE, "a tensor of %s can't require a gradient", gd_dtype_name(t->dtype));
    }
    t->requires_grad = requires_grad;
    return ST_OK;
}

bool gd_tensor_requires_grad(const gd_tensor_t *t)
{
    return gd_tensor_tracks(t);
}

bool gd_tensor_is_leaf(const gd_tensor_t *t)
{
    return t->node == NULL;
}

gd_tensor_t *gd_tensor_grad(const gd_tensor_t *t)
{
    return t->grad;
}

status_t gd_tensor_set_grad(gd_tensor_t *t, gd_tensor_t *grad, bool is_fresh)
{
    if (grad != NULL) {
        if (grad->dtype != t->dtype || !gd_shape_equal(grad->n_dims, grad->shape, t->n_dims, t->shape)) {
            strbuf_t text = {0};
            gd_shape_format(t->n_dims, t->shape, &text);
            strbuf_appendf(&text, " %s takes no gradient ", gd_dtype_name(t->dtype));
            gd_shape_format(grad->n_dims, grad->shape, &text);
            status_t status = ST_FAIL(ST_ERR_SHAPE, "a tensor %s %s", strbuf_text(&text), gd_dtype_name(grad->dtype));
            strbuf_release(&text);
            return status;
        }
        if (grad->grad != NULL || grad->node != NULL || grad == t) {
            return ST_FAIL(ST_ERR_STATE, "a gradient buffer must be a leaf without a gradient of its own");
        }
        (void)gd_tensor_ref(grad);
    }
    (void)gd_tensor_unref(t->grad);
    t->grad = grad;
    t->is_grad_fresh = grad != NULL && is_fresh;
    return ST_OK;
}

bool gd_tensor_grad_is_fresh(const gd_tensor_t *t)
{
    return t->is_grad_fresh;
}

void gd_tensor_zero_grad(gd_tensor_t *t)
{
    if (t->grad != NULL) {
        (void)gd_tensor_fill(t->grad, 0.0);
        t->is_grad_fresh = false;
    }
}

status_t gd_detach(gd_tensor_t *x, gd_tensor_t **y_p)
{
    return x != NULL ? gd_tensor_new_alias(x, y_p) : ST_FAIL(ST_ERR_INVAL, "detach: input 0 is missing");
}

static atomic_int n_watches;

bool tape_watch_exists(void)
{
    return atomic_load_explicit(&n_watches, memory_order_relaxed) > 0;
}

status_t tape_watch_get(gd_tensor_t *t, tape_watch_t **watch_p)
{
    if (t->watch == NULL) {
        tape_watch_t *watch = gd_pool_alloc(gd_context_pool(), sizeof(*watch));
        if (watch == NULL) {
            return ST_FAIL(ST_ERR_NOMEM, "a hook");
        }
        memset(watch, 0, sizeof(*watch));
        watch->leaf = t;
        t->watch = watch;
        (void)atomic_fetch_add_explicit(&n_watches, 1, memory_order_relaxed);
    }
    *watch_p = t->watch;
    return ST_OK;
}

void tape_watch_free(tape_watch_t *watch)
{
    (void)atomic_fetch_sub_explicit(&n_watches, 1, memory_order_relaxed);
    tape_hooks_release(&watch->hooks);
    (void)gd_tensor_unref(watch->sum);
    gd_pool_free(gd_context_pool(), watch);
}

static status_t untracked_fail(const char *function)
{
    return ST_FAIL(ST_ERR_STATE, "%s: the tensor requires no gradient", function);
}

status_t gd_tensor_retain_grad(gd_tensor_t *t)
{
    status_t status = tape_view_refresh("gd_tensor_retain_grad", "tensor", 0, t);
    if (status != ST_OK) {
        return status;
    }
    if (!gd_tensor_tracks(t)) {
        return untracked_fail("gd_tensor_retain_grad");
    }
    if (t->node != NULL) {
        t->node->retainer = t;
    }
    return ST_OK;
}

status_t gd_tensor_add_hook(gd_tensor_t *t, gd_tensor_hook_func_t func, void *arg, gd_hook_t **hook_p)
{
    status_t status = tape_view_refresh("gd_tensor_add_hook", "tensor", 0, t);
    if (status != ST_OK) {
        return status;
    }
    if (!gd_tensor_tracks(t)) {
        return untracked_fail("gd_tensor_add_hook");
    }
    gd_hook_t **list = NULL;
    if (t->node != NULL) {
        list = &t->node->hooks;
    } else {
        tape_watch_t *watch = NULL;
        status = tape_watch_get(t, &watch);
        if (status != ST_OK) {
            return status;
        }
        list = &watch->hooks;
    }
    gd_hook_t *hook = NULL;
    status = tape_hooks_add(list, &hook);
    if (status != ST_OK) {
        return status;
    }
    hook->func.tensor = func;
    hook->arg = arg;
    tape_hook_hand_out(hook, hook_p);
    return ST_OK;
}
