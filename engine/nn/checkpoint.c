/* SPDX-License-Identifier: Apache-2.0 */
/* checkpoint: modules whose forward is not recorded but run once more. */
#include "autograd/anomaly.h"
#include "nn/hooks.h"

void gd_module_set_checkpoint(gd_module_t *module, bool is_checkpointed)
{
    module->is_checkpointed = is_checkpointed;
}

/* The forward itself, known to anomaly mode. */
static status_t scoped_forward(gd_module_t *module, gd_tensor_t *x, gd_tensor_t **y_p)
{
    const tape_scope_t scope = {.path = module->path, .kind = module->ops->kind, .place = module->place};
    const tape_scope_t *before = tape_scope_set(&scope);
    status_t status = module->ops->forward(module, x, y_p);
    (void)tape_scope_set(before);
    return status;
}

static status_t segment_run(gd_tensor_t *const *in, int n_in, gd_tensor_t **y_p, void *arg)
{
    (void)n_in;
    return scoped_forward(arg, in[0], y_p);
}

static void segment_release(void *arg)
{
    (void)gd_module_unref(arg);
}

static bool requires_grad(const gd_module_t *module)
{
    for (int i = 0; i < module->n_parameters; i++) {
        if (gd_tensor_requires_grad(module->parameters[i].tensor)) {
            return true;
        }
    }
    for (int i = 0; i < module->n_children; i++) {
        if (requires_grad(module->children[i])) {
            return true;
        }
    }
    return false;
}

status_t module_checkpoint_forward(gd_module_t *module, gd_tensor_t *x, gd_tensor_t **y_p)
{
    if (module->is_checkpointed && gd_grad_is_enabled() && (gd_tensor_requires_grad(x) || requires_grad(module))) {
        return gd_checkpoint(segment_run, gd_module_ref(module), segment_release, &x, 1, y_p);
    }
    return scoped_forward(module, x, y_p);
}
