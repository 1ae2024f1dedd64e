/* SPDX-License-Identifier: Apache-2.0 */
/*
 * chain: computations and modules written down without an error check after each line.
 *
 * Both are embedded and sticky: the first failure is kept, what follows does nothing, and _end returns it after
 * releasing all that was made in between. Single-threaded.
 *
 *   static status_t block_forward(gd_module_t *self, gd_tensor_t *x, gd_tensor_t **y_p)
 *   {
 *       gd_chain_t c = {0};
 *       gd_tensor_t *h = gd_chain_unary(&c, gd_relu, gd_chain_child(&c, self, "fc1", x));
 *       return gd_chain_end(&c, gd_chain_child(&c, self, "fc2", h), y_p);
 *   }
 */
#ifndef GRADD_CHAIN_H
#define GRADD_CHAIN_H

#include "gradd/nn.h"
#include "gradd/place.h"

enum { GD_CHAIN_SIZE = 64 };

/* {0} begins one. Its tensors are borrowed from it until _end; NULL stands for one that couldn't be made, and is taken
 * as an argument. At most GD_CHAIN_SIZE of them (ST_ERR_RANGE). */
typedef struct gd_chain {
    status_t status;
    int n;
    gd_tensor_t *made[GD_CHAIN_SIZE];
} gd_chain_t;

typedef status_t (*gd_unary_func_t)(gd_tensor_t *x, gd_tensor_t **y_p);
typedef status_t (*gd_binary_func_t)(gd_tensor_t *a, gd_tensor_t *b, gd_tensor_t **y_p);
#define gd_chain_unary(chain_x, op_x, x_x) gd_chain_unary_at(GD_PLACE, chain_x, op_x, x_x)
#define gd_chain_binary(chain_x, op_x, a_x, b_x) gd_chain_binary_at(GD_PLACE, chain_x, op_x, a_x, b_x)
#define gd_chain_forward(chain_x, module_x, x_x) gd_chain_forward_at(GD_PLACE, chain_x, module_x, x_x)
/* Forward of self's child of that name; ST_ERR_NOT_FOUND. */
#define gd_chain_child(chain_x, self_x, name_x, x_x) gd_chain_child_at(GD_PLACE, chain_x, self_x, name_x, x_x)
/* Any other function whose last argument is y_p: gd_chain_call(&c, gd_softmax, x, -1). The arguments may not be calls
 * with the same chain themselves. */
#define gd_chain_call(chain_x, function_x, ...)                                                                        \
    ((chain_x)->status == ST_OK ? gd_chain_add((chain_x), function_x(__VA_ARGS__, gd_chain_slot(GD_PLACE, (chain_x)))) \
                                : NULL)
gd_tensor_t *gd_chain_unary_at(const char *place, gd_chain_t *chain, gd_unary_func_t op, gd_tensor_t *x);
gd_tensor_t *gd_chain_binary_at(const char *place, gd_chain_t *chain, gd_binary_func_t op, gd_tensor_t *a,
                                gd_tensor_t *b);
gd_tensor_t *gd_chain_forward_at(const char *place, gd_chain_t *chain, gd_module_t *module, gd_tensor_t *x);
gd_tensor_t *gd_chain_child_at(const char *place, gd_chain_t *chain, gd_module_t *self, const char *name,
                               gd_tensor_t *x);
/* What gd_chain_call is made of: where the next tensor goes, and what came of it. */
gd_tensor_t **gd_chain_slot(const char *place, gd_chain_t *chain);
gd_tensor_t *gd_chain_add(gd_chain_t *chain, status_t status);
/* Ends the chain with y (borrowed from it, or NULL where y_p is) as its result; *y_p: a new reference. */
status_t gd_chain_end(gd_chain_t *chain, gd_tensor_t *y, gd_tensor_t **y_p);

/* A module in the making. */
typedef struct gd_build {
    status_t status;
    gd_module_t *module; /* NULL when not even it could be made; parameters may be added in between */
    gd_module_t *made;
} gd_build_t;

/* size: as of gd_module_new; 0: sizeof(gd_module_t). */
gd_build_t gd_build_begin(const gd_module_ops_t *ops, size_t size);
gd_build_t gd_build_sequential(void);
/* gd_build_child(&b, "fc1", gd_linear_new(8, 8, true, gd_build_slot(&b))): adds the module that the constructor made.
 * name NULL: its place among the children, as in torch.nn.Sequential. */
gd_module_t **gd_build_slot(gd_build_t *build);
void gd_build_child(gd_build_t *build, const char *name, status_t made);
/* *module_p: a new reference. */
status_t gd_build_end(gd_build_t *build, gd_module_t **module_p);

#endif
