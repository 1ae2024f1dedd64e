/* SPDX-License-Identifier: Apache-2.0 */
/*
 * norm: layer and batch normalisation. Statistics take two passes (mean, then squared deviations). Gradients of weight
 * and bias are summed in blocks of rows whose size depends on the shape only, then over the blocks in order.
 */
#include <stdatomic.h>

#include "cpu/vec/half.h"
#include "cpu/vec/kernels.h"
#include "cpu/vec/simd.h"

enum { ROWS_PER_BLOCK = 16, MOST_PARTIALS = 32 };

/* One pass over x[N,C]; type-free so that both dtypes share it. */
typedef struct layer_norm {
    int64_t n_rows;
    int64_t width;
    const void *x;
    const void *weight; /* [C] or NULL */
    const void *bias;   /* [C] or NULL */
    const void *dy;
    void *y; /* backward: dx */
    void *mean;
    void *rstd;
    void *partial; /* backward: [block][2][C], sums for weight and bias */
    int64_t rows_per_block;
    bool is_adding; /* backward, to dx */
    double epsilon;
    int32_t dtype; /* of x, y, dy and dx; the rest is f32 beside 16 bits */
    atomic_bool is_out_of_memory;
} layer_norm_t;

/* Two rows of f32 for 16-bit operands; a thread that gets none says so and does nothing. */
static float *rows_buffer(layer_norm_t *l)
{
    static float unused;
    if (!half_is(l->dtype)) {
        return &unused;
    }
    float *buffer = gd_cpu_scratch(GD_CPU_SLOT_WORKER, (size_t)l->width * 2 * sizeof(float));
    if (buffer == NULL) {
        atomic_store(&l->is_out_of_memory, true);
    }
    return buffer;
}

static status_t layer_norm_end(layer_norm_t *l, const char *op)
{
    return !atomic_load(&l->is_out_of_memory)
               ? ST_OK
               : ST_FAIL(ST_ERR_NOMEM, "%s: scratch memory for rows of %lld", op, (long long)l->width);
}

/* Sum of (x - mean)². */
static float row_squares(const float *x, int64_t n, float mean)
{
    simd_f32_t sums = {0};
    int64_t i = 0;
    for (; i + SIMD_WIDTH <= n; i += SIMD_WIDTH) {
        const simd_f32_t deviation = simd_load(x + i) - simd_set(mean);
        sums += deviation * deviation;
    }
    float sum = simd_sum_lanes(sums);
    for (; i < n; i++) {
        sum += (x[i] - mean) * (x[i] - mean);
    }
    return sum;
}

static void layer_norm_block_f32(void *arg, int64_t begin, int64_t end)
{
    layer_norm_t *l = arg;
    const int64_t n = l->width;
    const float *weight = l->weight;
    const float *bias = l->bias;
    float *buffer = rows_buffer(l);
    if (buffer == NULL) {
        return;
    }
    for (int64_t row = begin; row < end; row++) {
        const float *x = half_row(l->x, l->dtype, row * n, n, buffer);
        float *y = half_row_open(l->y, l->dtype, row * n, buffer);
        const float mean = simd_row_sum(x, n) / (float)n;
        const float rstd = 1.0F / sqrtf(row_squares(x, n, mean) / (float)n + (float)l->epsilon);
        ((float *)l->mean)[row] = mean;
        ((float *)l->rstd)[row] = rstd;
        if (weight != NULL && bias != NULL) {
#pragma omp simd
            for (int64_t i = 0; i < n; i++) {
                y[i] = (x[i] - mean) * rstd * weight[i] + bias[i];
            }
        } else {
            for (int64_t i = 0; i < n; i++) {
                y[i] = (x[i] - mean) * rstd * (weight != NULL ? weight[i] : 1.0F) + (bias != NULL ? bias[i] : 0.0F);
            }
        }
        half_row_put(y, l->y, l->dtype, row * n, n);
    }
}

static void layer_norm_block_f64(void *arg, int64_t begin, int64_t end)
{
    const layer_norm_t *l = arg;
    const int64_t n = l->width;
    const double *weight = l->weight;
    const double *bias = l->bias;
    for (int64_t row = begin; row < end; row++) {
        const double *x = (const double *)l->x + row * n;
        double *y = (double *)l->y + row * n;
        double mean = 0.0, squares = 0.0;
        for (int64_t i = 0; i < n; i++) {
            mean += x[i];
        }
        mean /= (double)n;
        for (int64_t i = 0; i < n; i++) {
            squares += (x[i] - mean) * (x[i] - mean);
        }
        const double rstd = 1.0 / sqrt(squares / (double)n + l->epsilon);
        ((double *)l->mean)[row] = mean;
        ((double *)l->rstd)[row] = rstd;
        for (int64_t i = 0; i < n; i++) {
            y[i] = (x[i] - mean) * rstd * (weight != NULL ? weight[i] : 1.0) + (bias != NULL ? bias[i] : 0.0);
        }
    }
}

/* in: x[…,C], weight[C] or absent, bias[C] or absent; out: y[…,C], mean[N], rstd[N]. attrs: f0 epsilon. */
CPU_KERNEL(layer_norm)
{
    const gd_view_t *x = &args->in[0];
    layer_norm_t l = {
        .width = x->shape[x->n_dims - 1],
        .n_rows = gd_view_numel(&args->out[1]),
        .x = x->data,
        .weight = args->in[1].data,
        .bias = args->in[2].data,
        .y = args->out[0].data,
        .mean = args->out[1].data,
        .rstd = args->out[2].data,
        .epsilon = args->attrs->f[0],
        .dtype = x->dtype,
    };
    if (!gd_dtype_is_float((gd_dtype_t)x->dtype)) {
        return gd_cpu_fail_dtype("layer_norm", x->dtype);
    }
    gd_cpu_parallel(args->n_threads, l.n_rows, ROWS_PER_BLOCK,
                    x->dtype == GD_DTYPE_F64 ? layer_norm_block_f64 : layer_norm_block_f32, &l);
    return layer_norm_end(&l, "layer_norm");
}

/* What dx of a row is computed from; weight may be NULL. */
typedef struct row_gradient {
    const float *x, *dy, *weight;
    float mean, rstd;
    float sum, dot; /* mean(g), mean(g xhat) */
} row_gradient_t;

static inline simd_f32_t row_g(const row_gradient_t *r, int64_t i)
{
    simd_f32_t g = simd_load(r->dy + i);
    if (r->weight != NULL) {
        g *= simd_load(r->weight + i);
    }
    return g;
}

/* Adds dy xhat to dweight[n] and dy to dbias[n]; fills in the row's sum and dot. */
static void row_sum(row_gradient_t *r, int64_t n, float *dweight, float *dbias)
{
    const simd_f32_t mean = simd_set(r->mean), rstd = simd_set(r->rstd);
    simd_f32_t sums = {0}, dots = {0};
    int64_t i = 0;
    for (; i + SIMD_WIDTH <= n; i += SIMD_WIDTH) {
        const simd_f32_t dy = simd_load(r->dy + i);
        const simd_f32_t xhat = (simd_load(r->x + i) - mean) * rstd;
        const simd_f32_t g = row_g(r, i);
        simd_store(dweight + i, simd_load(dweight + i) + dy * xhat);
        simd_store(dbias + i, simd_load(dbias + i) + dy);
        sums += g;
        dots += g * xhat;
    }
    float sum = simd_sum_lanes(sums), dot = simd_sum_lanes(dots);
    for (; i < n; i++) {
        const float xhat = (r->x[i] - r->mean) * r->rstd;
        const float g = r->weight != NULL ? r->dy[i] * r->weight[i] : r->dy[i];
        dweight[i] += r->dy[i] * xhat;
        dbias[i] += r->dy[i];
        sum += g;
        dot += g * xhat;
    }
    r->sum = sum / (float)n;
    r->dot = dot / (float)n;
}

/* dx[n] = or += rstd (g - mean(g) - xhat mean(g xhat)). What is added is rounded first, as a tensor would have been. */
static void row_differentiate(const row_gradient_t *r, int64_t n, bool is_adding, float *dx)
{
    const simd_f32_t mean = simd_set(r->mean), rstd = simd_set(r->rstd), a = simd_set(r->sum), b = simd_set(r->dot);
    int64_t i = 0;
    for (; i + SIMD_WIDTH <= n; i += SIMD_WIDTH) {
        simd_f32_t gradient = rstd * (row_g(r, i) - a - (simd_load(r->x + i) - mean) * rstd * b);
        if (is_adding) {
            __asm__("" : "+x"(gradient)); /* else the addition is contracted with the product */
            gradient += simd_load(dx + i);
        }
        simd_store(dx + i, gradient);
    }
    for (; i < n; i++) {
        const float g = r->weight != NULL ? r->dy[i] * r->weight[i] : r->dy[i];
        float gradient = r->rstd * (g - r->sum - (r->x[i] - r->mean) * r->rstd * r->dot);
        if (is_adding) {
            __asm__("" : "+x"(gradient));
            gradient += dx[i];
        }
        dx[i] = gradient;
    }
}

/*
 * xhat = (x - mean) rstd, g = dy weight:  dx = rstd (g - mean(g) - xhat mean(g xhat)),
 * dweight = sum of rows dy xhat, dbias = sum of rows dy
 */
static void layer_norm_backward_block_f32(void *arg, int64_t begin, int64_t end)
{
    layer_norm_t *l = arg;
    const int64_t n = l->width;
    const float *weight = l->weight;
    float *restrict dweight = (float *)l->partial + begin / l->rows_per_block * 2 * n;
    float *restrict dbias = dweight + n;
    memset(dweight, 0, (size_t)n * 2 * sizeof(float));
    float *buffer = rows_buffer(l);
    if (buffer == NULL) {
        return;
    }
    for (int64_t row = begin; row < end; row++) {
        const float *x = half_row(l->x, l->dtype, row * n, n, buffer);
        const float *dy = half_row(l->dy, l->dtype, row * n, n, buffer + n);
        float *dx = half_row_open(l->y, l->dtype, row * n, buffer);
        row_gradient_t r = {x, dy, weight, ((const float *)l->mean)[row], ((const float *)l->rstd)[row], 0, 0};
        row_sum(&r, n, dweight, dbias);
        row_differentiate(&r, n, l->is_adding, dx);
        half_row_put(dx, l->y, l->dtype, row * n, n);
    }
}

static void layer_norm_backward_block_f64(void *arg, int64_t begin, int64_t end)
{
    const layer_norm_t *l = arg;
    const int64_t n = l->width;
    const double *weight = l->weight;
    double *dweight = (double *)l->partial + begin / l->rows_per_block * 2 * n;
    double *dbias = dweight + n;
    memset(dweight, 0, (size_t)n * 2 * sizeof(double));
    for (int64_t row = begin; row < end; row++) {
        const double *x = (const double *)l->x + row * n;
        const double *dy = (const double *)l->dy + row * n;
        double *dx = (double *)l->y + row * n;
        const double mean = ((const double *)l->mean)[row];
        const double rstd = ((const double *)l->rstd)[row];
        double sum = 0.0, dot = 0.0;
        for (int64_t i = 0; i < n; i++) {
            const double xhat = (x[i] - mean) * rstd;
            const double g = dy[i] * (weight != NULL ? weight[i] : 1.0);
            dweight[i] += dy[i] * xhat;
            dbias[i] += dy[i];
            sum += g;
            dot += g * xhat;
        }
        for (int64_t i = 0; i < n; i++) {
            const double g = dy[i] * (weight != NULL ? weight[i] : 1.0);
            dx[i] = rstd * (g - sum / (double)n - (x[i] - mean) * rstd * dot / (double)n);
        }
    }
}

/* in: dy[…,C], x[…,C], mean[N], rstd[N], weight[C] or absent; out: dx[…,C], dweight[C], dbias[C]. attrs: i0
 * add to dx, f32 only. */
CPU_KERNEL(layer_norm_backward)
{
    const gd_view_t *x = &args->in[1];
    if (!gd_dtype_is_float((gd_dtype_t)x->dtype)) {
        return gd_cpu_fail_dtype("layer_norm_backward", x->dtype);
    }
    const bool is_adding = args->attrs->i[0] != 0;
    if (is_adding && x->dtype != GD_DTYPE_F32) {
        return gd_cpu_fail_dtype("layer_norm_backward, adding", x->dtype);
    }
    layer_norm_t l = {
        .is_adding = is_adding,
        .width = x->shape[x->n_dims - 1],
        .n_rows = gd_view_numel(&args->in[2]),
        .x = x->data,
        .weight = args->in[4].data,
        .dy = args->in[0].data,
        .y = args->out[0].data,
        .mean = args->in[2].data,
        .rstd = args->in[3].data,
        .dtype = x->dtype,
    };
    l.rows_per_block = (l.n_rows + MOST_PARTIALS - 1) / MOST_PARTIALS;
    l.rows_per_block = l.rows_per_block < ROWS_PER_BLOCK ? ROWS_PER_BLOCK : l.rows_per_block;
    const int64_t n_blocks = gd_cpu_n_blocks(l.n_rows, l.rows_per_block);
    const size_t element_size = gd_dtype_size((gd_dtype_t)args->out[1].dtype);
    l.partial = gd_cpu_scratch(GD_CPU_SLOT_KERNEL, (size_t)(n_blocks * 2 * l.width) * element_size);
    if (l.partial == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "layer_norm_backward: partial sums of %lld blocks", (long long)n_blocks);
    }
    const bool is_f32 = x->dtype != GD_DTYPE_F64;
    gd_cpu_parallel(args->n_threads, l.n_rows, l.rows_per_block,
                    is_f32 ? layer_norm_backward_block_f32 : layer_norm_backward_block_f64, &l);
    for (int output = 0; output < 2; output++) {
        void *sum = args->out[1 + output].data;
        memset(sum, 0, (size_t)l.width * element_size);
        for (int64_t block = 0; block < n_blocks; block++) {
            const int64_t from = (block * 2 + output) * l.width;
            for (int64_t i = 0; i < l.width && is_f32; i++) {
                ((float *)sum)[i] += ((const float *)l.partial)[from + i];
            }
            for (int64_t i = 0; i < l.width && !is_f32; i++) {
                ((double *)sum)[i] += ((const double *)l.partial)[from + i];
            }
        }
    }
    return layer_norm_end(&l, "layer_norm_backward");
}
