/* SPDX-License-Identifier: Apache-2.0 */
/*
 * map: elementwise loops over one or two broadcast inputs of any strides and one contiguous output. Dimensions that
 * lie on one grid are merged, and a run function is called for each innermost stretch, block by block in parallel.
 */
#ifndef GRADD_CPU_MAP_H
#define GRADD_CPU_MAP_H

#include "cpu/cpu.h"

enum { GD_CPU_MAP_GRAIN = 8192 }; /* elements a block */

/* y[i] = f(a[i sa], b[i sb]) for i < n; b is NULL for one input. y may be a or b itself. */
typedef void (*gd_cpu_run_func_t)(const void *a, int64_t sa, const void *b, int64_t sb, void *y, int64_t n,
                                  const gd_attrs_t *attrs);

/* Over args' first n_in inputs (1 or 2), broadcast to the output's shape; all have the output's dtype. */
void gd_cpu_map(const gd_kernel_args_t *args, int n_in, gd_cpu_run_func_t run);

/* A grid that two or three views share: sizes with merged dimensions, and strides per operand; last is innermost. */
typedef struct gd_cpu_grid {
    int n_dims; /* ≥ 1 */
    int64_t numel;
    int64_t size[GD_MAX_DIMS];
    int64_t stride[3][GD_MAX_DIMS];
} gd_cpu_grid_t;
/* views[n]: broadcast to the shape of views[0]. */
void gd_cpu_grid_make(const gd_view_t *const *views, int n, gd_cpu_grid_t *grid_p);
/* Offsets of element `index` of the grid per operand; returns how many elements are left in its innermost stretch. */
int64_t gd_cpu_grid_seek(const gd_cpu_grid_t *grid, int n, int64_t index, int64_t offset_p[3]);

#endif
