/* SPDX-License-Identifier: Apache-2.0 */
/*
 * embedding: rows of a table by their ids. Backward adds the rows of dy in the order of the ids, each thread in columns
 * of its own, so the sums have one order whatever the number of threads.
 */
#include <string.h>

#include "cpu/vec/kernels.h"

enum { ROWS_PER_BLOCK = 64, COLUMNS_PER_BLOCK = 64 };

typedef struct embedding {
    const char *op;
    const void *ids;
    int32_t id_dtype;
    int64_t n_ids;
    int64_t n_rows;
    int64_t width;
    size_t element_size;
    const void *from; /* forward: weight; backward: dy */
    void *to;         /* forward: y; backward: dweight */
} embedding_t;

static int64_t id_get(const embedding_t *e, int64_t i)
{
    switch (e->id_dtype) {
    case GD_DTYPE_I64:
        return ((const int64_t *)e->ids)[i];
    case GD_DTYPE_I32:
        return ((const int32_t *)e->ids)[i];
    default:
        return ((const uint8_t *)e->ids)[i];
    }
}

static status_t ids_check(const embedding_t *e)
{
    for (int64_t i = 0; i < e->n_ids; i++) {
        const int64_t id = id_get(e, i);
        if (id < 0 || id >= e->n_rows) {
            return ST_FAIL(ST_ERR_DATA, "%s: id %lld at position %lld is outside 0 … %lld", e->op, (long long)id,
                           (long long)i, (long long)e->n_rows - 1);
        }
    }
    return ST_OK;
}

static void embedding_block(void *arg, int64_t begin, int64_t end)
{
    const embedding_t *e = arg;
    const size_t row_size = (size_t)e->width * e->element_size;
    for (int64_t i = begin; i < end; i++) {
        memcpy((char *)e->to + (size_t)i * row_size, (const char *)e->from + (size_t)id_get(e, i) * row_size, row_size);
    }
}

/* in: ids[…], weight[V,C]; out: y[…,C]. Any dtype of weight. */
CPU_KERNEL(embedding)
{
    const embedding_t e = {
        .op = "embedding",
        .ids = args->in[0].data,
        .id_dtype = args->in[0].dtype,
        .n_ids = gd_view_numel(&args->in[0]),
        .n_rows = args->in[1].shape[0],
        .width = args->in[1].shape[1],
        .element_size = gd_dtype_size((gd_dtype_t)args->in[1].dtype),
        .from = args->in[1].data,
        .to = args->out[0].data,
    };
    status_t status = ids_check(&e);
    if (status == ST_OK) {
        gd_cpu_parallel(args->n_threads, e.n_ids, ROWS_PER_BLOCK, embedding_block, (void *)(uintptr_t)&e);
    }
    return status;
}

static void backward_block_f32(void *arg, int64_t begin, int64_t end)
{
    const embedding_t *e = arg;
    for (int64_t i = 0; i < e->n_ids; i++) {
        const float *dy = (const float *)e->from + i * e->width;
        float *dweight = (float *)e->to + id_get(e, i) * e->width;
#pragma omp simd
        for (int64_t c = begin; c < end; c++) {
            dweight[c] += dy[c];
        }
    }
}

static void backward_block_f64(void *arg, int64_t begin, int64_t end)
{
    const embedding_t *e = arg;
    for (int64_t i = 0; i < e->n_ids; i++) {
        const double *dy = (const double *)e->from + i * e->width;
        double *dweight = (double *)e->to + id_get(e, i) * e->width;
        for (int64_t c = begin; c < end; c++) {
            dweight[c] += dy[c];
        }
    }
}

/* in: dy[…,C], ids[…]; out: dweight[V,C]. attrs: i0 rows V; i1 add to the output. */
CPU_KERNEL(embedding_backward)
{
    const embedding_t e = {
        .op = "embedding_backward",
        .ids = args->in[1].data,
        .id_dtype = args->in[1].dtype,
        .n_ids = gd_view_numel(&args->in[1]),
        .n_rows = args->out[0].shape[0],
        .width = args->out[0].shape[1],
        .element_size = gd_dtype_size((gd_dtype_t)args->out[0].dtype),
        .from = args->in[0].data,
        .to = args->out[0].data,
    };
    gd_cpu_body_func_t body = NULL;
    switch (args->out[0].dtype) {
    case GD_DTYPE_F32:
        body = backward_block_f32;
        break;
    case GD_DTYPE_F64:
        body = backward_block_f64;
        break;
    default:
        return gd_cpu_fail_dtype("embedding_backward", args->out[0].dtype);
    }
    status_t status = ids_check(&e);
    if (status != ST_OK) {
        return status;
    }
    if (args->attrs->i[1] == 0) {
        memset(e.to, 0, (size_t)(e.n_rows * e.width) * e.element_size);
    }
    gd_cpu_parallel(args->n_threads, e.width, COLUMNS_PER_BLOCK, body, (void *)(uintptr_t)&e);
    return ST_OK;
}
