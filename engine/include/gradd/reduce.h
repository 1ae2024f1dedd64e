/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reduce: reductions over any axes besides gd_sum and gd_mean. Part of gradd/ops.h.
 *
 * axes[n_axes]; n_axes 0: all; keep_dims leaves the axes with size 1. A NaN anywhere is the result. Floats are
 * accumulated in f64, in an order that depends on the shape only; sums and products of integers and bool are i64. Over
 * nothing, a product is 1, a norm 0, any false, all true, logsumexp -inf; where there is no such value (largest,
 * smallest, their places) it is ST_ERR_SHAPE.
 */
#ifndef GRADD_REDUCE_H
#define GRADD_REDUCE_H

#include "gradd/tensor.h"

/* The largest, the smallest; elements that are equal share the gradient. */
status_t gd_amax(gd_tensor_t *x, int n_axes, const int *axes, bool keep_dims, gd_tensor_t **y_p);
status_t gd_amin(gd_tensor_t *x, int n_axes, const int *axes, bool keep_dims, gd_tensor_t **y_p);
status_t gd_prod(gd_tensor_t *x, int n_axes, const int *axes, bool keep_dims, gd_tensor_t **y_p);
/* (sum |x|^p)^(1/p) of floats; p = ±INFINITY: the largest, smallest |x|; 0: how many aren't 0. */
status_t gd_norm(gd_tensor_t *x, double p, int n_axes, const int *axes, bool keep_dims, gd_tensor_t **y_p);
/* bool: whether any, all elements aren't 0. */
status_t gd_any(gd_tensor_t *x, int n_axes, const int *axes, bool keep_dims, gd_tensor_t **y_p);
status_t gd_all(gd_tensor_t *x, int n_axes, const int *axes, bool keep_dims, gd_tensor_t **y_p);
/* Where the largest, smallest is (i64), the first of equal ones; over several axes its place in their row-major
 * order. */
status_t gd_argmax(gd_tensor_t *x, int n_axes, const int *axes, bool keep_dims, gd_tensor_t **y_p);
status_t gd_argmin(gd_tensor_t *x, int n_axes, const int *axes, bool keep_dims, gd_tensor_t **y_p);
/* Value and place along one axis; the gradient goes to that place. indices_p may be NULL. */
status_t gd_max(gd_tensor_t *x, int axis, bool keep_dims, gd_tensor_t **values_p, gd_tensor_t **indices_p);
status_t gd_min(gd_tensor_t *x, int axis, bool keep_dims, gd_tensor_t **values_p, gd_tensor_t **indices_p);
/* sum (x - mean)² / (n - correction), and its root, of floats; correction 1 is the unbiased one. */
status_t gd_var(gd_tensor_t *x, double correction, int n_axes, const int *axes, bool keep_dims, gd_tensor_t **y_p);
status_t gd_std(gd_tensor_t *x, double correction, int n_axes, const int *axes, bool keep_dims, gd_tensor_t **y_p);
/* ln sum exp x, without overflow; integers and bool give f32 */
status_t gd_logsumexp(gd_tensor_t *x, int n_axes, const int *axes, bool keep_dims, gd_tensor_t **y_p);

#endif
