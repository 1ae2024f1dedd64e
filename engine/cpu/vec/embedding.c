/* SPDX-License-Identifier: Apache-2.0 */
/*
 * embedding: rows of a table by their ids. Backward adds the rows of dy in the order of the ids, each thread in columns
 * of its own, so the sums have one order whatever the number of threads.
 */
#include <string.h>

#include "cpu/vec/half.h"
#include "cpu/vec/kernels.h"
#include "gradd/tensor.h"

enum { ROWS_PER_BLOCK = 64, COLUMNS_PER_BLOCK = 64 };

typedef struct embedding {
    const char *op;
    const void *ids;
    int32_t id_dtype;
    int64_t n_ids;
    int64_t n_rows;
    int64_t width;
    size_t element_size;
    int32_t from_dtype;
    int32_t to_dtype;
    const void *from; /* forward: weight; backward: dy */
    void *to;         /* forward: y; backward: dweight */
    int64_t padding;  /* backward: an id that gets nothing; -1: none */
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

/* From f32 to 16 bits. */
static void embedding_round_block(void *arg, int64_t begin, int64_t end)
{
    const embedding_t *e = arg;
    for (int64_t i = begin; i < end; i++) {
        half_write((const float *)e->from + id_get(e, i) * e->width, e->to_dtype, (uint16_t *)e->to + i * e->width,
                   e->width);
    }
}

/* in: ids[…], weight[V,C]; out: y[…,C]. Any dtype of weight; y has it, or 16 bits for f32. */
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
        .from_dtype = args->in[1].dtype,
        .to_dtype = args->out[0].dtype,
        .from = args->in[1].data,
        .to = args->out[0].data,
    };
    status_t status = ids_check(&e);
    if (status == ST_OK) {
        gd_cpu_parallel(args->n_threads, e.n_ids, ROWS_PER_BLOCK,
                        e.from_dtype == e.to_dtype ? embedding_block : embedding_round_block, (void *)(uintptr_t)&e);
    }
    return status;
}

/* dy of 16 bits, dweight f32 or of 16 bits: a stretch of columns at a time through buffers. */
static void backward_stretch_half(const embedding_t *e, int64_t i, int64_t begin, int64_t n)
{
    float dy[COLUMNS_PER_BLOCK];
    float sum[COLUMNS_PER_BLOCK];
    const int64_t to = id_get(e, i) * e->width + begin;
    const float *x = half_row(e->from, e->from_dtype, i * e->width + begin, n, dy);
    float *dweight = half_row_open(e->to, e->to_dtype, to, sum);
    (void)half_row(e->to, e->to_dtype, to, n, sum);
#pragma omp simd
    for (int64_t c = 0; c < n; c++) {
        dweight[c] += x[c];
    }
    half_row_put(dweight, e->to, e->to_dtype, to, n);
}

static void backward_block_f32(void *arg, int64_t begin, int64_t end)
{
    const embedding_t *e = arg;
    for (int64_t i = 0; i < e->n_ids; i++) {
        if (id_get(e, i) != e->padding) {
            backward_stretch_half(e, i, begin, end - begin);
        }
    }
}

static void backward_block_f64(void *arg, int64_t begin, int64_t end)
{
    const embedding_t *e = arg;
    for (int64_t i = 0; i < e->n_ids; i++) {
        const double *dy = (const double *)e->from + i * e->width;
        double *dweight = (double *)e->to + id_get(e, i) * e->width;
        for (int64_t c = begin; c < end && id_get(e, i) != e->padding; c++) {
            dweight[c] += dy[c];
        }
    }
}

/* in: dy[…,C], ids[…]; out: dweight[V,C]. attrs: i0 rows V; i1 add to the output; i3 1 + the padding. */
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
        .from_dtype = args->in[0].dtype,
        .to_dtype = args->out[0].dtype,
        .from = args->in[0].data,
        .to = args->out[0].data,
        .padding = args->attrs->i[3] - 1,
    };
    if (!gd_dtype_is_float((gd_dtype_t)e.to_dtype)) {
        return gd_cpu_fail_dtype("embedding_backward", e.to_dtype);
    }
    const gd_cpu_body_func_t body = e.to_dtype == GD_DTYPE_F64 ? backward_block_f64 : backward_block_f32;
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
