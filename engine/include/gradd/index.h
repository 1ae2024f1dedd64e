/* SPDX-License-Identifier: Apache-2.0 */
/*
 * index: views, joining, selection by index, sorting and sums along an axis. Part of gradd/ops.h.
 *
 * All work in all dtypes and on any strides; axes may be negative, counted from the end. Views share memory with x (and
 * its version); the others give new tensors. Index tensors are i64, i32 or u8; a value outside the axis is ST_ERR_RANGE
 * naming the first such. Gradients flow to values, never to indices; sums into the same place are formed in the order
 * of the index, so that results don't depend on threads.
 */
#ifndef GRADD_INDEX_H
#define GRADD_INDEX_H

#include "gradd/tensor.h"

/* ---- views ---- */

/* x[…, index, …] without the axis; index may be negative. */
status_t gd_select(gd_tensor_t *x, int axis, int64_t index, gd_tensor_t **y_p);
/* x[…, start : start + length, …], start < 0 counted from the end; unlike gd_slice nothing is clamped. */
status_t gd_narrow(gd_tensor_t *x, int axis, int64_t start, int64_t length, gd_tensor_t **y_p);
/*
 * Parts of x along the axis: of `size` each, the last may be smaller; at most n_chunks of equal size; one for each
 * index, without the axis. parts_p[n_max] receives *n_p new references; ST_ERR_RANGE where there would be more.
 */
status_t gd_split(gd_tensor_t *x, int axis, int64_t size, int n_max, gd_tensor_t **parts_p, int *n_p);
status_t gd_chunk(gd_tensor_t *x, int axis, int n_chunks, int n_max, gd_tensor_t **parts_p, int *n_p);
status_t gd_unbind(gd_tensor_t *x, int axis, int n_max, gd_tensor_t **parts_p, int *n_p);
/* Any grid over the elements of a contiguous x: y[i…] = x.flat[offset + sum i stride]. Everything is checked against
 * x's bounds; strides ≥ 0; elements may be seen several times. */
status_t gd_as_strided(gd_tensor_t *x, int n_dims, const int64_t *shape, const int64_t *stride, int64_t offset,
                       gd_tensor_t **y_p);
/* y[…, i] = x[…, i, …, i + offset, …]: the diagonal of two axes becomes the last one. */
status_t gd_diagonal(gd_tensor_t *x, int offset, int axis_a, int axis_b, gd_tensor_t **y_p);
/* The axis moved to another place; the others keep their order. */
status_t gd_movedim(gd_tensor_t *x, int from, int to, gd_tensor_t **y_p);

/* Memory format of [B, C, H, W]: whether the channels are innermost; a copy that lies so, x itself where it does.
 * Shape and values stay: what isn't aware of it takes the tensor by its strides. */
bool gd_tensor_is_channels_last(const gd_tensor_t *x);
status_t gd_channels_last(gd_tensor_t *x, gd_tensor_t **y_p);

/* ---- copies ---- */

/* x with the axes in reverse; n_axes 0: all. */
status_t gd_flip(gd_tensor_t *x, int n_axes, const int *axes, gd_tensor_t **y_p);
/* x moved by shift along the axis, around the end. */
status_t gd_roll(gd_tensor_t *x, int axis, int64_t shift, gd_tensor_t **y_p);
/* x times[i] times along axis i; n_dims may be larger than x's. */
status_t gd_repeat(gd_tensor_t *x, int n_dims, const int64_t *times, gd_tensor_t **y_p);
/* before[i] and after[i] elements of value around axis i; both have x's number of dimensions. */
status_t gd_pad(gd_tensor_t *x, const int64_t *before, const int64_t *after, double value, gd_tensor_t **y_p);
/* The last two axes: what is on or below (above) the diagonal; 0 elsewhere. */
status_t gd_tril(gd_tensor_t *x, int64_t diagonal, gd_tensor_t **y_p);
status_t gd_triu(gd_tensor_t *x, int64_t diagonal, gd_tensor_t **y_p);

/* Side by side along the axis; dtypes are promoted. cat: other sizes equal. stack: along a new axis. n ≥ 1. */
status_t gd_cat(gd_tensor_t *const *x, int n, int axis, gd_tensor_t **y_p);
status_t gd_stack(gd_tensor_t *const *x, int n, int axis, gd_tensor_t **y_p);

/* y[…, j, …] = x[…, index[…, j, …], …]; index has x's number of dimensions and, off the axis, sizes ≤ x's. */
status_t gd_gather(gd_tensor_t *x, int axis, gd_tensor_t *index, gd_tensor_t **y_p);
/* The same where x and index broadcast against each other off the axis. */
status_t gd_take_along_dim(gd_tensor_t *x, int axis, gd_tensor_t *index, gd_tensor_t **y_p);
/* x with y[…, index[…, j, …], …] = source[…, j, …] (the last one of equal ones), or += it. source has index's shape. */
status_t gd_scatter(gd_tensor_t *x, int axis, gd_tensor_t *index, gd_tensor_t *source, gd_tensor_t **y_p);
status_t gd_scatter_add(gd_tensor_t *x, int axis, gd_tensor_t *index, gd_tensor_t *source, gd_tensor_t **y_p);
/* y[…, j, …] = x[…, index[j], …]; x with y[…, index[j], …] += alpha source[…, j, …]. index[J]. */
status_t gd_index_select(gd_tensor_t *x, int axis, gd_tensor_t *index, gd_tensor_t **y_p);
status_t gd_index_add(gd_tensor_t *x, int axis, gd_tensor_t *index, gd_tensor_t *source, double alpha,
                      gd_tensor_t **y_p);
/* The elements of x where mask (bool or u8, broadcast) isn't 0, in order. y[n] */
status_t gd_masked_select(gd_tensor_t *x, gd_tensor_t *mask, gd_tensor_t **y_p);
/* The places where mask isn't 0 take source's first elements, in order. Dtypes as in gd_index_put. */
status_t gd_masked_scatter(gd_tensor_t *x, gd_tensor_t *mask, gd_tensor_t *source, gd_tensor_t **y_p);
/*
 * x[indices[0], indices[1], …] as NumPy and PyTorch have it; n_indices may be less than x's dimensions. NULL: all of
 * the axis; i64, i32 or u8: broadcast against each other, negative ones count from the end; bool: a mask over as many
 * axes as it has dimensions, which stands for gd_nonzero's columns. The indices' shape comes where the indexed axes
 * were if these are neighbours, else first. put: x with the values, broadcast to that shape, there (the last one of
 * equal places) or added; values are cast to x's dtype, ST_ERR_DTYPE for a float into integers and the like. Gradients
 * flow to x and values. ST_ERR_RANGE names the first index outside; ST_ERR_SHAPE: a mask of other sizes than its axes.
 */
status_t gd_index_get(gd_tensor_t *x, gd_tensor_t *const *indices, int n_indices, gd_tensor_t **y_p);
status_t gd_index_put(gd_tensor_t *x, gd_tensor_t *const *indices, int n_indices, gd_tensor_t *values, bool accumulates,
                      gd_tensor_t **y_p);
typedef enum gd_scatter_reduction {
    GD_SCATTER_SUM,
    GD_SCATTER_PROD,
    GD_SCATTER_MEAN,
    GD_SCATTER_MAX,
    GD_SCATTER_MIN,
    GD_SCATTER_KIND_COUNT
} gd_scatter_reduction_t;
/* x with source[…, j, …] brought together at index[…, j, …] along the axis, and with what x has there if has_self;
 * where nothing comes, x stays. Floating dtypes, source's equal to x's. Of equal largest or smallest ones each has its
 * share of the gradient. */
status_t gd_scatter_reduce(gd_tensor_t *x, int axis, gd_tensor_t *index, gd_tensor_t *source,
                           gd_scatter_reduction_t kind, bool has_self, gd_tensor_t **y_p);
/* The indices of the elements that aren't 0: y[n, n_dims], i64. */
status_t gd_nonzero(gd_tensor_t *x, gd_tensor_t **y_p);

/* Along the axis, stably; NaN counts as larger than all. indices_p (i64; may be NULL): where they were. */
status_t gd_sort(gd_tensor_t *x, int axis, bool is_descending, gd_tensor_t **values_p, gd_tensor_t **indices_p);
status_t gd_argsort(gd_tensor_t *x, int axis, bool is_descending, gd_tensor_t **indices_p);
/* The k largest (smallest), sorted; the first of equal ones. */
status_t gd_topk(gd_tensor_t *x, int64_t k, int axis, bool is_largest, gd_tensor_t **values_p, gd_tensor_t **indices_p);

/* y[…, j, …] = x[…, 0, …] + … + x[…, j, …], or their product; integers and bool give i64. */
status_t gd_cumsum(gd_tensor_t *x, int axis, gd_tensor_t **y_p);
status_t gd_cumprod(gd_tensor_t *x, int axis, gd_tensor_t **y_p);

#endif
