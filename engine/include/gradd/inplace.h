/* SPDX-License-Identifier: Apache-2.0 */
/*
 * inplace: changes of a tensor's values where they lie. x keeps its memory, shape and dtype; everything that shares the
 * storage sees the change, and the storage's version goes up.
 *
 * With gradients on, the change becomes part of the graph as in PyTorch: x is from then on the result of the change,
 * and what was computed from its old values keeps its gradient. Where a backward would need values that were
 * overwritten, gd_backward fails with ST_ERR_STATE naming the op that saved them, the input and both versions. Where x
 * is a view, what it was taken from and the other views of that follow: their graphs tell of the new values too.
 * Refused with ST_ERR_STATE, because it can't be recorded: a leaf that requires a gradient, or a view of one (use
 * gd_grad_set_enabled(false), as optimizers do); a view that was taken while gradients were off, of what isn't
 * contiguous, or reversed (change a copy); a tensor in which several elements share memory (expanded).
 *
 * ST_ERR_SHAPE: the result isn't of x's shape; ST_ERR_DTYPE: its dtype is of a higher category than x's (a float into
 * integers). On failure x is unchanged.
 */
#ifndef GRADD_INPLACE_H
#define GRADD_INPLACE_H

#include "gradd/op.h"
#include "gradd/pointwise.h"

/* x = op(x, others[0], …): any op whose result has x's shape. attrs may be NULL. */
status_t gd_op_apply_inplace(gd_op_id_t id, gd_tensor_t *x, gd_tensor_t *const *others, int n_others,
                             const gd_attrs_t *attrs);

status_t gd_add_inplace(gd_tensor_t *x, gd_tensor_t *y);
status_t gd_sub_inplace(gd_tensor_t *x, gd_tensor_t *y);
status_t gd_mul_inplace(gd_tensor_t *x, gd_tensor_t *y);
status_t gd_div_inplace(gd_tensor_t *x, gd_tensor_t *y);
/* x op= number for any of these: gd_with_number_inplace(gd_mul_inplace, x, gd_int(2)); see gd_number_t. */
typedef status_t (*gd_inplace_func_t)(gd_tensor_t *x, gd_tensor_t *y);
status_t gd_with_number_inplace(gd_inplace_func_t function, gd_tensor_t *x, gd_number_t number);
status_t gd_scale_inplace(gd_tensor_t *x, double factor, double offset); /* x = factor x + offset, of floats */
status_t gd_clamp_inplace(gd_tensor_t *x, double lo, double hi);
status_t gd_masked_fill_inplace(gd_tensor_t *x, gd_tensor_t *mask, double value);
status_t gd_index_add_inplace(gd_tensor_t *x, int axis, gd_tensor_t *index, gd_tensor_t *source, double alpha);
status_t gd_scatter_inplace(gd_tensor_t *x, int axis, gd_tensor_t *index, gd_tensor_t *source);
status_t gd_masked_scatter_inplace(gd_tensor_t *x, gd_tensor_t *mask, gd_tensor_t *source);
/* x[indices] = values, or += values: see gd_index_put. */
status_t gd_index_put_inplace(gd_tensor_t *x, gd_tensor_t *const *indices, int n_indices, gd_tensor_t *values,
                              bool accumulates);
/* x no longer depends on what it was computed from; of a copy, on y (broadcast and cast) instead. */
status_t gd_fill_inplace(gd_tensor_t *x, double value);
status_t gd_zero_inplace(gd_tensor_t *x);
status_t gd_copy_inplace(gd_tensor_t *x, gd_tensor_t *y);

#endif
