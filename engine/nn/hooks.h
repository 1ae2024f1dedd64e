/* SPDX-License-Identifier: Apache-2.0 */
/* hooks: what gd_module_forward does for a module that has hooks or is checkpointed, or in anomaly mode. */
#ifndef GRADD_NN_HOOKS_H
#define GRADD_NN_HOOKS_H

#include "gradd/nn.h"

/* As gd_module_forward, with the module's hooks. */
status_t module_hooks_forward(gd_module_t *module, gd_tensor_t *x, gd_tensor_t **y_p);
/* checkpoint.c. Without hooks: recorded, or as a checkpointed segment. */
status_t module_checkpoint_forward(gd_module_t *module, gd_tensor_t *x, gd_tensor_t **y_p);
/* NULL is fine. */
void module_hooks_free(gd_module_hooks_t *hooks);

#endif
