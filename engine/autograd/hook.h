/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hook: lists of functions that see gradients (of tensors) or values (of modules).
 *
 * A hook is counted: its list and the handle that the user holds are one reference each. Removing marks it; the list
 * drops it when it is next walked while no hook runs, so a hook may remove itself or another one, and run its module
 * again.
 */
#ifndef GRADD_AUTOGRAD_HOOK_H
#define GRADD_AUTOGRAD_HOOK_H

#include "gradd/nn.h"

struct gd_hook {
    int n_refs; /* a list belongs to one thread */
    bool is_removed;
    gd_hook_t *next;
    union {
        gd_tensor_hook_func_t tensor;
        gd_module_forward_pre_hook_func_t forward_pre;
        gd_module_forward_hook_func_t forward;
        gd_module_backward_hook_func_t backward;
    } func;
    void *arg;
    void (*release)(void *arg); /* when the hook dies; NULL: nothing */
};

/* Appends a zeroed hook; *hook_p is borrowed from the list. */
status_t tape_hooks_add(gd_hook_t **list, gd_hook_t **hook_p);
/* The first of list that isn't removed, dropping removed ones; NULL: none. Going on: tape_hooks_first(&hook->next),
 * all of it between enter and leave. */
gd_hook_t *tape_hooks_first(gd_hook_t **list);
void tape_hooks_enter(void);
void tape_hooks_leave(void);
void tape_hooks_release(gd_hook_t **list);
/* A reference for the user, where he wants one. */
void tape_hook_hand_out(gd_hook_t *hook, gd_hook_t **hook_p);

/* Runs the hooks of a tensor over its gradient; *grad is replaced as they say. */
status_t tape_hooks_run(gd_hook_t **list, gd_tensor_t **grad);
/* A hook's replacement for what has t's shape and dtype: takes *replacement and puts it into *t, or leaves *t where it
 * is NULL. what: "the gradient". */
status_t tape_hook_replace(gd_tensor_t **t, gd_tensor_t *replacement, const char *what);

#endif
