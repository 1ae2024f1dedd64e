/* SPDX-License-Identifier: Apache-2.0 */
/* chain: sticky errors. */
#include "gradd/chain.h"

#include <stdio.h>
#include <string.h>

/* Where the tensor goes that a full chain has no place for. */
static _Thread_local gd_tensor_t *beyond;

gd_tensor_t **gd_chain_slot(const char *place, gd_chain_t *chain)
{
    gd_place_set(place);
    if (chain->n < GD_CHAIN_SIZE) {
        chain->made[chain->n] = NULL;
        return &chain->made[chain->n];
    }
    beyond = NULL;
    return &beyond;
}

gd_tensor_t *gd_chain_add(gd_chain_t *chain, status_t status)
{
    gd_place_set(NULL);
    if (chain->status == ST_OK && status == ST_OK && chain->n == GD_CHAIN_SIZE) {
        beyond = gd_tensor_unref(beyond);
        status = ST_FAIL(ST_ERR_RANGE, "a chain of more than %d tensors", GD_CHAIN_SIZE);
    }
    if (chain->status != ST_OK || status != ST_OK) {
        chain->status = chain->status != ST_OK ? chain->status : status;
        return NULL;
    }
    return chain->made[chain->n++];
}

gd_tensor_t *gd_chain_unary_at(const char *place, gd_chain_t *chain, gd_unary_func_t op, gd_tensor_t *x)
{
    return chain->status == ST_OK ? gd_chain_add(chain, op(x, gd_chain_slot(place, chain))) : NULL;
}

gd_tensor_t *gd_chain_binary_at(const char *place, gd_chain_t *chain, gd_binary_func_t op, gd_tensor_t *a,
                                gd_tensor_t *b)
{
    return chain->status == ST_OK ? gd_chain_add(chain, op(a, b, gd_chain_slot(place, chain))) : NULL;
}

gd_tensor_t *gd_chain_forward_at(const char *place, gd_chain_t *chain, gd_module_t *module, gd_tensor_t *x)
{
    return chain->status == ST_OK ? gd_chain_add(chain, gd_module_forward(module, x, gd_chain_slot(place, chain)))
                                  : NULL;
}

gd_tensor_t *gd_chain_child_at(const char *place, gd_chain_t *chain, gd_module_t *self, const char *name,
                               gd_tensor_t *x)
{
    for (int i = 0; i < self->n_children; i++) {
        if (strcmp(self->child_names[i], name) == 0) {
            return gd_chain_forward_at(place, chain, self->children[i], x);
        }
    }
    if (chain->status == ST_OK) {
        chain->status = ST_FAIL(ST_ERR_NOT_FOUND, "%s has no child \"%s\"", self->ops->kind, name);
    }
    return NULL;
}

status_t gd_chain_end(gd_chain_t *chain, gd_tensor_t *y, gd_tensor_t **y_p)
{
    if (chain->status == ST_OK && y_p != NULL) {
        *y_p = gd_tensor_ref(y);
    }
    while (chain->n > 0) {
        (void)gd_tensor_unref(chain->made[--chain->n]);
    }
    return chain->status;
}

gd_build_t gd_build_begin(const gd_module_ops_t *ops, size_t size)
{
    gd_build_t build = {0};
    build.status = gd_module_new(ops, size > 0 ? size : sizeof(gd_module_t), &build.module);
    return build;
}

gd_build_t gd_build_sequential(void)
{
    gd_build_t build = {0};
    build.status = gd_sequential_new(&build.module);
    return build;
}

gd_module_t **gd_build_slot(gd_build_t *build)
{
    build->made = NULL;
    return &build->made;
}

void gd_build_child(gd_build_t *build, const char *name, status_t made)
{
    char index[16];
    if (build->status == ST_OK) {
        build->status = made;
    }
    if (build->status == ST_OK) {
        (void)snprintf(index, sizeof(index), "%d", build->module->n_children);
        build->status = gd_module_add_child(build->module, name != NULL ? name : index, build->made);
    }
    if (made == ST_OK) {
        build->made = gd_module_unref(build->made); /* the parent has its own reference */
    }
}

status_t gd_build_end(gd_build_t *build, gd_module_t **module_p)
{
    if (build->status != ST_OK) {
        build->module = gd_module_unref(build->module);
        return build->status;
    }
    *module_p = build->module;
    return ST_OK;
}
