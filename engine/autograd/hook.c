/* SPDX-License-Identifier: Apache-2.0 */
/* hook: adding, removing and running hooks. */
#include "autograd/hook.h"

#include <string.h>

#include "tensor/internal.h"

static void hook_unref(gd_hook_t *hook)
{
    if (--hook->n_refs > 0) {
        return;
    }
    if (hook->release != NULL) {
        hook->release(hook->arg);
    }
    gd_pool_free(gd_context_pool(), hook);
}

status_t tape_hooks_add(gd_hook_t **list, gd_hook_t **hook_p)
{
    gd_hook_t *hook = gd_pool_alloc(gd_context_pool(), sizeof(*hook));
    if (hook == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "a hook");
    }
    memset(hook, 0, sizeof(*hook));
    hook->n_refs = 1;
    while (*list != NULL) {
        list = &(*list)->next;
    }
    *list = hook;
    *hook_p = hook;
    return ST_OK;
}

static _Thread_local int n_runs;

void tape_hooks_enter(void)
{
    n_runs++;
}

void tape_hooks_leave(void)
{
    n_runs--;
}

gd_hook_t *tape_hooks_first(gd_hook_t **list)
{
    while (*list != NULL && (*list)->is_removed) {
        gd_hook_t *removed = *list;
        if (n_runs > 0) { /* perhaps the very hook that runs, further out */
            list = &removed->next;
        } else {
            *list = removed->next;
            hook_unref(removed);
        }
    }
    return *list;
}

void tape_hooks_release(gd_hook_t **list)
{
    while (*list != NULL) {
        gd_hook_t *hook = *list;
        *list = hook->next;
        hook_unref(hook);
    }
}

void tape_hook_hand_out(gd_hook_t *hook, gd_hook_t **hook_p)
{
    if (hook_p != NULL) {
        hook->n_refs++;
        *hook_p = hook;
    }
}

void gd_hook_remove(gd_hook_t *hook)
{
    if (hook != NULL) {
        hook->is_removed = true;
        hook_unref(hook);
    }
}

status_t tape_hook_replace(gd_tensor_t **t, gd_tensor_t *replacement, const char *what)
{
    if (replacement == NULL) {
        return ST_OK;
    }
    const gd_tensor_t *old = *t;
    if (replacement->dtype != old->dtype ||
        !gd_shape_equal(replacement->n_dims, replacement->shape, old->n_dims, old->shape)) {
        strbuf_t text = {0};
        strbuf_appendf(&text, "%s ", gd_dtype_name(replacement->dtype));
        gd_shape_format(replacement->n_dims, replacement->shape, &text);
        strbuf_appendf(&text, " in place of %s %s ", what, gd_dtype_name(old->dtype));
        gd_shape_format(old->n_dims, old->shape, &text);
        status_t status = ST_FAIL(ST_ERR_SHAPE, "a hook gave %s: shape and dtype must stay", strbuf_text(&text));
        strbuf_release(&text);
        (void)gd_tensor_unref(replacement);
        return status;
    }
    (void)gd_tensor_unref(*t);
    *t = replacement;
    return ST_OK;
}

status_t tape_hooks_run(gd_hook_t **list, gd_tensor_t **grad)
{
    status_t status = ST_OK;
    gd_hook_t *hook = tape_hooks_first(list);
    tape_hooks_enter();
    while (hook != NULL && status == ST_OK) {
        gd_tensor_t *replacement = NULL;
        status = hook->func.tensor(*grad, &replacement, hook->arg);
        if (status == ST_OK) {
            status = tape_hook_replace(grad, replacement, "the gradient");
        }
        hook = tape_hooks_first(&hook->next);
    }
    tape_hooks_leave();
    return status;
}
