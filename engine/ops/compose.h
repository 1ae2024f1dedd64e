/* SPDX-License-Identifier: Apache-2.0 */
/*
 * compose: functions and gradients written as expressions of ops. Embedded: a compose_t keeps the temporaries and the
 * first error; after an error every further step does nothing and gives NULL, so that only the end is checked:
 *
 *   compose_t c = {0};
 *   gd_tensor_t *square = compose_binary(&c, GD_OP_MUL, x, x);
 *   gd_tensor_t *sum = compose_binary(&c, GD_OP_ADD, square, y);
 *   return compose_finish(&c, sum, y_p);
 */
#ifndef GRADD_OPS_COMPOSE_H
#define GRADD_OPS_COMPOSE_H

#include "ops/helpers.h"

enum { COMPOSE_MAX = 32 };

typedef struct compose {
    gd_tensor_t *made[COMPOSE_MAX]; /* counted */
    int n_made;
    status_t status;
} compose_t;

/* Results are borrowed from c; operands that are NULL while all is well are passed on as absent inputs. */
gd_tensor_t *compose_op(compose_t *c, gd_op_id_t id, gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs);
gd_tensor_t *compose_unary(compose_t *c, gd_op_id_t id, gd_tensor_t *x);
gd_tensor_t *compose_binary(compose_t *c, gd_op_id_t id, gd_tensor_t *a, gd_tensor_t *b);
/* factor x + offset, for a floating x */
gd_tensor_t *compose_scale(compose_t *c, gd_tensor_t *x, double factor, double offset);
/* x in the dtype, x itself where it has it. */
gd_tensor_t *compose_cast(compose_t *c, gd_tensor_t *x, gd_dtype_t dtype);
/* A 0-d tensor of like's dtype. */
gd_tensor_t *compose_number(compose_t *c, const gd_tensor_t *like, double value);
/* condition ? a : b, of equal dtypes */
gd_tensor_t *compose_where(compose_t *c, gd_tensor_t *condition, gd_tensor_t *a, gd_tensor_t *b);
/* The result of another function, which gave status and, when ST_OK, a new reference to t. */
gd_tensor_t *compose_take(compose_t *c, status_t status, gd_tensor_t *t);

/* Releases all and hands out a reference to y; the first error otherwise. */
status_t compose_finish(compose_t *c, gd_tensor_t *y, gd_tensor_t **y_p);
/* The same with y as the gradient of the node's input i, summed over broadcast axes. */
status_t compose_finish_gradient(compose_t *c, gd_tensor_t *y, gd_node_t *node, int i, gd_tensor_t **dx);

#endif
