/* SPDX-License-Identifier: Apache-2.0 */
/* gemm_parts: see gemm_parts.h. */
#include "cpu/gemm_parts.h"

#include "cpu/cpu.h"

gd_gemm_grid_t gd_gemm_divide(int64_t n_rows, int64_t n_columns, int n_threads, const gd_gemm_cost_t *cost)
{
    gd_gemm_grid_t grid = {.rows_per_part = n_rows, .columns_per_part = n_columns};
    int64_t least = INT64_MAX;
    for (int64_t parts = 1; parts <= n_threads; parts++) {
        if (n_threads % parts != 0) {
            continue;
        }
        const int64_t columns = gd_cpu_n_blocks(n_columns, parts);
        const int64_t rows = gd_cpu_n_blocks(n_rows, n_threads / parts);
        const int64_t total = rows * columns * cost->block + rows * cost->row + columns * cost->column;
        if (total < least) {
            least = total;
            grid.rows_per_part = rows;
            grid.columns_per_part = columns;
        }
    }
    grid.row_parts = gd_cpu_n_blocks(n_rows, grid.rows_per_part);
    grid.column_parts = gd_cpu_n_blocks(n_columns, grid.columns_per_part);
    return grid;
}

static gd_gemm_t batch_member(const gd_gemm_t *g, int64_t i, int n_threads)
{
    gd_gemm_t one = *g;
    one.n_batch = 1;
    one.a += i * g->a_batch;
    one.b += i * g->b_batch;
    one.c += i * g->c_batch;
    one.n_threads = n_threads;
    return one;
}

typedef struct batch {
    const gd_gemm_t *gemm;
    gd_gemm_func_t one;
    _Atomic bool has_failed;
} batch_t;

static void members_run(void *arg, int64_t begin, int64_t end)
{
    batch_t *batch = arg;
    for (int64_t i = begin; i < end; i++) {
        const gd_gemm_t one = batch_member(batch->gemm, i, 1);
        if (batch->one(&one) != ST_OK) {
            batch->has_failed = true;
        }
    }
}

status_t gd_gemm_batch(const gd_gemm_t *gemm, gd_gemm_func_t one)
{
    if (gemm->n_batch == 1) {
        return one(gemm);
    }
    const int64_t threads = gemm->n_threads > 1 ? gemm->n_threads : 1;
    const int64_t n_shared = gemm->n_batch / threads * threads;
    batch_t batch = {.gemm = gemm, .one = one};
    if (n_shared > 0) {
        gd_cpu_parallel((int)threads, n_shared, n_shared / threads, members_run, &batch);
    }
    status_t status = batch.has_failed ? ST_FAIL(ST_ERR_NOMEM, "matrix product: packed panels") : ST_OK;
    for (int64_t i = n_shared; i < gemm->n_batch && status == ST_OK; i++) {
        const gd_gemm_t left_over = batch_member(gemm, i, gemm->n_threads);
        status = one(&left_over);
    }
    return status;
}
