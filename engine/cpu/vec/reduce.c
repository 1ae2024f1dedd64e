/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reduce: sums and means over any set of axes, in an order that depends on the shape only.
 *
 *   columns  the innermost kept axis is dense: COLUMN_BLOCK columns at a time, down chunks of ROW_CHUNK rows
 *            in groups of ROW_GROUP; the chunks' sums are added in order            (bias gradients)
 *   rows     otherwise: one output at a time, each dense stretch in 64 lanes, stretches added in f64 (losses, means)
 */
#include <math.h>
#include <string.h>

#include "cpu/map.h"
#include "cpu/vec/half.h"
#include "cpu/vec/kernels.h"
#include "gradd/tensor.h"

enum {
    COLUMN_BLOCK = 128,
    ROW_CHUNK = 2048,
    ROW_GROUP = 64,
    LANES = 64,
    STRETCH = 4096,
    SERIAL_LIMIT = 16384,
    WHOLE_CHUNK = 65536
};

typedef struct reduction {
    gd_cpu_grid_t kept;
    gd_cpu_grid_t reduced;
    const void *x;
    void *y;
    double factor;
    int is_added; /* to what y holds */
    int32_t dtype;
    int32_t y_dtype;
    int64_t n_column_blocks;
    int64_t n_chunks;
    float *partial; /* [n_chunks][kept.numel], when n_chunks > 1 */
} reduction_t;

static void reduction_make(const gd_kernel_args_t *args, int is_mean, reduction_t *r)
{
    const gd_view_t *x = &args->in[0];
    gd_cpu_grid_split(x, args->attrs->i[0], &r->kept, &r->reduced);
    r->x = x->data;
    r->y = args->out[0].data;
    r->dtype = x->dtype;
    r->y_dtype = args->out[0].dtype;
    r->factor = !is_mean ? 1.0 : r->reduced.numel > 0 ? 1.0 / (double)r->reduced.numel : (double)NAN; /* 0 / 0 */
    r->is_added = args->attrs->i[2] != 0;
}

/* x[n] dense */
static double stretch_sum(const float *x, int64_t n)
{
    float lane[LANES] = {0};
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) {
#pragma omp simd
        for (int j = 0; j < LANES; j++) {
            lane[j] += x[i + j];
        }
    }
    for (int j = 0; i + j < n; j++) {
        lane[j] += x[i + j];
    }
    for (int width = LANES / 2; width > 0; width /= 2) {
#pragma omp simd
        for (int j = 0; j < width; j++) {
            lane[j] += lane[j + width];
        }
    }
    return (double)lane[0];
}

/* n elements from element `first` of x on */
static double run_sum_f32(const reduction_t *r, int64_t first, int64_t stride, int64_t n)
{
    float buffer[STRETCH];
    double sum = 0;
    if (stride == 1) {
        for (int64_t i = 0; i < n; i += STRETCH) {
            const int64_t length = n - i < STRETCH ? n - i : STRETCH;
            sum += stretch_sum(half_row(r->x, r->dtype, first + i, length, buffer), length);
        }
    } else {
        for (int64_t i = 0; i < n; i++) {
            sum += (double)*half_row(r->x, r->dtype, first + i * stride, 1, buffer);
        }
    }
    return sum;
}

/* Sum over reduced elements [begin, end) for the output whose first element is x[first]. */
static double range_sum_f32(const reduction_t *r, int64_t first, int64_t begin, int64_t end)
{
    double sum = 0;
    while (begin < end) {
        int64_t offset[3];
        int64_t n = gd_cpu_grid_seek(&r->reduced, 1, begin, offset);
        n = n < end - begin ? n : end - begin;
        sum += run_sum_f32(r, first + offset[0], r->reduced.stride[0][r->reduced.n_dims - 1], n);
        begin += n;
    }
    return sum;
}

/* y[k] (+)= sum */
static void y_put(const reduction_t *r, int64_t k, double sum)
{
    float buffer[1];
    float *y = half_row_open(r->y, r->y_dtype, k, buffer);
    if (r->is_added) {
        sum += (double)*half_row(r->y, r->y_dtype, k, 1, buffer);
    }
    *y = (float)sum;
    half_row_put(y, r->y, r->y_dtype, k, 1);
}

static void rows_block_f32(void *arg, int64_t begin, int64_t end)
{
    const reduction_t *r = arg;
    for (int64_t k = begin; k < end; k++) {
        int64_t offset[3];
        (void)gd_cpu_grid_seek(&r->kept, 1, k, offset);
        y_put(r, k, r->factor * range_sum_f32(r, offset[0], 0, r->reduced.numel));
    }
}

static void rows_block_f64(void *arg, int64_t begin, int64_t end)
{
    const reduction_t *r = arg;
    double *y = r->y;
    for (int64_t k = begin; k < end; k++) {
        int64_t first[3];
        (void)gd_cpu_grid_seek(&r->kept, 1, k, first);
        double sum = 0;
        for (int64_t i = 0; i < r->reduced.numel;) {
            int64_t offset[3];
            int64_t n = gd_cpu_grid_seek(&r->reduced, 1, i, offset);
            int64_t stride = r->reduced.stride[0][r->reduced.n_dims - 1];
            const double *x = (const double *)r->x + first[0] + offset[0];
            for (int64_t j = 0; j < n; j++) {
                sum += x[j * stride];
            }
            i += n;
        }
        y[k] = r->factor * sum + (r->is_added ? y[k] : 0.0);
    }
}

/* sum[n] += the sums of n_rows rows, formed apart so that long columns keep their precision */
static inline void rows_add(const reduction_t *r, int64_t first, int64_t stride, int64_t n_rows, int64_t n, float *sum)
{
    float group[COLUMN_BLOCK] = {0};
    const float *x = (const float *)r->x + (half_is(r->dtype) ? 0 : first);
    if (half_is(r->dtype)) {
        for (int64_t i = 0; i < n_rows; i++) {
            float row[COLUMN_BLOCK];
            half_read((const uint16_t *)r->x + first + i * stride, r->dtype, row, n);
#pragma omp simd
            for (int64_t j = 0; j < n; j++) {
                group[j] += row[j];
            }
        }
    } else if (n == COLUMN_BLOCK) {
        for (int64_t i = 0; i < n_rows; i++) {
#pragma omp simd
            for (int j = 0; j < COLUMN_BLOCK; j++) {
                group[j] += x[i * stride + j];
            }
        }
    } else {
        for (int64_t i = 0; i < n_rows; i++) {
#pragma omp simd
            for (int64_t j = 0; j < n; j++) {
                group[j] += x[i * stride + j];
            }
        }
    }
#pragma omp simd
    for (int j = 0; j < COLUMN_BLOCK; j++) {
        sum[j] += group[j];
    }
}

/* One unit: COLUMN_BLOCK columns, ROW_CHUNK rows, of one outer kept index. */
static void columns_unit(const reduction_t *r, int64_t unit)
{
    const int last = r->kept.n_dims - 1;
    const int64_t width = r->kept.size[last];
    const int64_t chunk = unit % r->n_chunks;
    const int64_t column = unit / r->n_chunks % r->n_column_blocks * COLUMN_BLOCK;
    const int64_t k = unit / (r->n_chunks * r->n_column_blocks) * width + column;
    const int64_t n = width - column < COLUMN_BLOCK ? width - column : COLUMN_BLOCK;
    int64_t row = chunk * ROW_CHUNK;
    const int64_t end = row + ROW_CHUNK < r->reduced.numel ? row + ROW_CHUNK : r->reduced.numel;
    int64_t offset[3];
    (void)gd_cpu_grid_seek(&r->kept, 1, k, offset);
    const int64_t first = offset[0];
    const int64_t stride = r->reduced.stride[0][r->reduced.n_dims - 1];
    float sum[COLUMN_BLOCK] = {0};
    while (row < end) {
        int64_t n_rows = gd_cpu_grid_seek(&r->reduced, 1, row, offset);
        n_rows = n_rows < end - row ? n_rows : end - row;
        n_rows = n_rows < ROW_GROUP ? n_rows : ROW_GROUP;
        rows_add(r, first + offset[0], stride, n_rows, n, sum);
        row += n_rows;
    }
    if (r->n_chunks > 1) {
        memcpy(r->partial + chunk * r->kept.numel + k, sum, (size_t)n * sizeof(float));
        return;
    }
    float before[COLUMN_BLOCK];
    const float *old = r->is_added ? half_row(r->y, r->y_dtype, k, n, before) : NULL;
    float *y = half_row_open(r->y, r->y_dtype, k, before);
    for (int64_t j = 0; j < n; j++) {
        y[j] = (float)r->factor * sum[j] + (old != NULL ? old[j] : 0.0f);
    }
    half_row_put(y, r->y, r->y_dtype, k, n);
}

static void columns_block(void *arg, int64_t begin, int64_t end)
{
    for (int64_t unit = begin; unit < end; unit++) {
        columns_unit(arg, unit);
    }
}

static status_t columns_run(reduction_t *r, int n_threads)
{
    const int64_t width = r->kept.size[r->kept.n_dims - 1];
    r->n_column_blocks = gd_cpu_n_blocks(width, COLUMN_BLOCK);
    r->n_chunks = gd_cpu_n_blocks(r->reduced.numel, ROW_CHUNK);
    if (r->n_chunks > 1) {
        r->partial = gd_cpu_scratch(GD_CPU_SLOT_KERNEL, (size_t)(r->n_chunks * r->kept.numel) * sizeof(float));
        if (r->partial == NULL) {
            return ST_FAIL(ST_ERR_NOMEM, "sum: %lld partial sums", (long long)(r->n_chunks * r->kept.numel));
        }
    }
    gd_cpu_parallel(n_threads, r->kept.numel / width * r->n_column_blocks * r->n_chunks, 1, columns_block, r);
    for (int64_t k = 0; r->n_chunks > 1 && k < r->kept.numel; k++) {
        double sum = 0;
        for (int64_t chunk = 0; chunk < r->n_chunks; chunk++) {
            sum += (double)r->partial[chunk * r->kept.numel + k];
        }
        y_put(r, k, r->factor * sum);
    }
    return ST_OK;
}

static void whole_block(void *arg, int64_t begin, int64_t end)
{
    const reduction_t *r = arg;
    double *partial = (double *)(void *)r->partial;
    partial[begin / WHOLE_CHUNK] = range_sum_f32(r, 0, begin, end);
}

/* One output: blocks of WHOLE_CHUNK in parallel, their sums added in order. */
static status_t whole_run(reduction_t *r, int n_threads)
{
    int64_t n_blocks = gd_cpu_n_blocks(r->reduced.numel, WHOLE_CHUNK);
    r->partial = gd_cpu_scratch(GD_CPU_SLOT_KERNEL, (size_t)n_blocks * sizeof(double));
    if (r->partial == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "sum: %lld partial sums", (long long)n_blocks);
    }
    gd_cpu_parallel(n_threads, r->reduced.numel, WHOLE_CHUNK, whole_block, r);
    const double *partial = (const double *)(const void *)r->partial;
    double sum = 0;
    for (int64_t i = 0; i < n_blocks; i++) {
        sum += partial[i];
    }
    y_put(r, 0, r->factor * sum);
    return ST_OK;
}

static status_t reduce(const gd_kernel_args_t *args, int is_mean)
{
    reduction_t r;
    reduction_make(args, is_mean, &r);
    if (r.kept.numel == 0) {
        return ST_OK;
    }
    const int64_t n = r.reduced.numel > 0 ? r.reduced.numel : 1;
    const int n_threads = n * r.kept.numel < SERIAL_LIMIT ? 1 : args->n_threads;
    const int64_t grain = SERIAL_LIMIT / n > 0 ? SERIAL_LIMIT / n : 1;
    if (args->in[0].dtype == GD_DTYPE_F64) {
        gd_cpu_parallel(n_threads, r.kept.numel, grain, rows_block_f64, &r);
        return ST_OK;
    }
    if (!gd_dtype_is_float((gd_dtype_t)args->in[0].dtype)) {
        return gd_cpu_fail_dtype(is_mean ? "mean" : "sum", args->in[0].dtype);
    }
    const int last = r.kept.n_dims - 1;
    if (r.kept.stride[0][last] == 1 && r.kept.numel > 1 && r.reduced.numel > 0) {
        return columns_run(&r, n_threads);
    }
    if (r.kept.numel == 1 && r.reduced.numel > WHOLE_CHUNK) {
        return whole_run(&r, n_threads);
    }
    gd_cpu_parallel(n_threads, r.kept.numel, grain, rows_block_f32, &r);
    return ST_OK;
}

CPU_KERNEL(sum)
{
    return gd_dtype_is_float((gd_dtype_t)args->in[0].dtype) ? reduce(args, 0) : CPU_FN(sum_integers)(args);
}

CPU_KERNEL(mean)
{
    return reduce(args, 1);
}
