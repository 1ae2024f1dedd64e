/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gemm_parts: what our codes for matrix products (amx.c, vec/gemm.c) share: how threads divide a product, or a batch of
 * them. Private to engine/cpu.
 */
#ifndef GRADD_CPU_GEMM_PARTS_H
#define GRADD_CPU_GEMM_PARTS_H

#include "cpu/gemm.h"

/* Parts of a grid of blocks, each some whole rows and columns of it; the last ones may be smaller. */
typedef struct gd_gemm_grid {
    int64_t rows_per_part, columns_per_part;
    int64_t row_parts, column_parts;
} gd_gemm_grid_t;

/* What a part takes: so much for each of its blocks, its rows and its columns of blocks. */
typedef struct gd_gemm_cost {
    int64_t block, row, column;
} gd_gemm_cost_t;

/*
 * Cuts n_rows × n_columns blocks into as many parts as there are threads, at most, so that the largest takes the least.
 * Every part packs the rows and columns it has for itself: fetching what another core has packed takes longer. It
 * decides who computes an element, not how.
 */
gd_gemm_grid_t gd_gemm_divide(int64_t n_rows, int64_t n_columns, int n_threads, const gd_gemm_cost_t *cost);

/* Runs `one` for each matrix of a batch: as many at a time as there are threads, what is left over with all threads. */
typedef status_t (*gd_gemm_func_t)(const gd_gemm_t *gemm);
status_t gd_gemm_batch(const gd_gemm_t *gemm, gd_gemm_func_t one);

/* vec/gemm.c, of each instruction set that uses it: as gd_gemm_run, for any shape. */
#ifdef __x86_64__
status_t gd_cpu_gemm_v2(const gd_gemm_t *gemm);
status_t gd_cpu_gemm_v3(const gd_gemm_t *gemm);
status_t gd_cpu_gemm_v4(const gd_gemm_t *gemm);
#else
status_t gd_cpu_gemm_base(const gd_gemm_t *gemm);
#endif

#endif
