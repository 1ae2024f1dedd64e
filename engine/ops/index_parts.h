/* SPDX-License-Identifier: Apache-2.0 */
/* index_parts: what functions that take indices share; in index.c. */
#ifndef GRADD_OPS_INDEX_PARTS_H
#define GRADD_OPS_INDEX_PARTS_H

#include "ops/compose.h"

/* index along the axis of something with n_dims and shape: i64, as many dimensions, off the axis no larger. */
status_t gd_index_fits(const char *op, const gd_tensor_t *index, int64_t axis, int n_dims, const int64_t *shape);
/* The index as i64. */
gd_tensor_t *compose_index(compose_t *c, const char *op, gd_tensor_t *index);
/* The axis counted from the front; 0 for a 0-d x. */
int64_t compose_axis(compose_t *c, const char *op, const gd_tensor_t *x, int axis);
/* index[J] as an index of like's shape with J along the axis; a view. */
gd_tensor_t *compose_index_over(compose_t *c, const char *op, gd_tensor_t *index, const gd_tensor_t *like,
                                int64_t axis);
/* x broadcast to meta's shape, as one row. */
gd_tensor_t *compose_flat(compose_t *c, gd_tensor_t *x, const gd_meta_t *meta);

#endif
