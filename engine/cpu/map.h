/* SPDX-License-Identifier: Apache-2.0 */
/*
 * map: elementwise loops over one or two broadcast inputs of any strides and one contiguous output. Dimensions that
 * lie on one grid are merged, and a run function is called for each innermost stretch, block by block in parallel.
 */
#ifndef GRADD_CPU_MAP_H
#define GRADD_CPU_MAP_H

#include "cpu/cpu.h"

enum { GD_CPU_MAP_GRAIN = 8192 /* elements a block */, GD_CPU_GRID_VIEWS = 4 };

/* How many rows or planes of n elements make a block. */
static inline int64_t gd_cpu_map_planes(int64_t n)
{
    return n < GD_CPU_MAP_GRAIN ? GD_CPU_MAP_GRAIN / (n > 0 ? n : 1) : 1;
}

/* y[i] = f(a[i sa], b[i sb]) for i < n; b is NULL for one input. y may be a or b itself. */
typedef void (*gd_cpu_run_func_t)(const void *a, int64_t sa, const void *b, int64_t sb, void *y, int64_t n,
                                  const gd_attrs_t *attrs);

/* Over args' first n_in inputs (1 or 2), broadcast to the output's shape; run takes them and the output as they are. */
void gd_cpu_map(const gd_kernel_args_t *args, int n_in, gd_cpu_run_func_t run);

/* x[n] of one dtype to y[n] of another, both with strides. */
typedef void (*gd_cpu_convert_func_t)(const void *x, int64_t sx, void *y, int64_t sy, int64_t n);

/* How gd_cpu_map_cast brings operands to what run computes in; a NULL function: it is that already. */
typedef struct gd_cpu_casts {
    gd_cpu_convert_func_t in[2];
    gd_cpu_convert_func_t out;
} gd_cpu_casts_t;
/* The same with conversion, CAST_CHUNK elements at a time, in buffers on the stack: of at most 8 bytes an element. */
void gd_cpu_map_cast(const gd_kernel_args_t *args, int n_in, gd_cpu_run_func_t run, const gd_cpu_casts_t *casts);

/* The common dtype of views, as gd_dtype_result says. */
int32_t gd_cpu_result_dtype(const gd_view_t *views, int n);

/* A grid that up to four views share: sizes with merged dimensions, and strides per operand; last is innermost. */
typedef struct gd_cpu_grid {
    int n_dims; /* ≥ 1 */
    int64_t numel;
    int64_t size[GD_MAX_DIMS];
    int64_t stride[GD_CPU_GRID_VIEWS][GD_MAX_DIMS];
} gd_cpu_grid_t;
/* views[n]: broadcast to the shape of views[0]. */
void gd_cpu_grid_make(const gd_view_t *const *views, int n, gd_cpu_grid_t *grid_p);
/* Of one view: the axes that a reduction keeps, and those with a bit in `axes`, which it reduces. */
void gd_cpu_grid_split(const gd_view_t *x, int64_t axes, gd_cpu_grid_t *kept_p, gd_cpu_grid_t *reduced_p);
/* offset_p[n]: offsets of element `index` of the grid per operand; returns how many elements are left in its innermost
 * stretch. */
int64_t gd_cpu_grid_seek(const gd_cpu_grid_t *grid, int n, int64_t index, int64_t *offset_p);

#endif
