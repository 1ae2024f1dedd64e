/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rms_norm: rows divided by their root mean square. The gradient of the weight is summed in blocks of rows whose size
 * depends on the shape only, then over the blocks in order.
 */
#include <math.h>
#include <string.h>

#include "cpu/vec/kernels.h"

enum { ROWS_PER_BLOCK = 16, MOST_PARTIALS = 32 };

typedef struct rms_norm {
    int64_t n_rows;
    int64_t width;
    int64_t rows_per_block; /* backward */
    const void *x;
    const void *weight; /* [C] or NULL */
    const void *dy;
    void *y; /* backward: dx */
    void *rstd;
    void *partial; /* backward: [block][C] */
    double epsilon;
} rms_norm_t;

/* y = x rstd weight, rstd = 1 / sqrt(mean(x²) + epsilon) */
#define DEFINE_FORWARD(name_x, type_x, sqrt_x)                                                                         \
    static void name_x(void *arg, int64_t begin, int64_t end)                                                          \
    {                                                                                                                  \
        const rms_norm_t *r = arg;                                                                                     \
        const int64_t n = r->width;                                                                                    \
        const type_x *weight = r->weight;                                                                              \
        for (int64_t row = begin; row < end; row++) {                                                                  \
            const type_x *x = (const type_x *)r->x + row * n;                                                          \
            type_x *y = (type_x *)r->y + row * n;                                                                      \
            type_x squares = 0;                                                                                        \
            _Pragma("omp simd reduction(+ : squares)") for (int64_t i = 0; i < n; i++)                                 \
            {                                                                                                          \
                squares += x[i] * x[i];                                                                                \
            }                                                                                                          \
            const type_x rstd = 1 / sqrt_x(squares / (type_x)n + (type_x)r->epsilon);                                  \
            ((type_x *)r->rstd)[row] = rstd;                                                                           \
            if (weight != NULL) {                                                                                      \
                _Pragma("omp simd") for (int64_t i = 0; i < n; i++)                                                    \
                {                                                                                                      \
                    y[i] = x[i] * rstd * weight[i];                                                                    \
                }                                                                                                      \
            } else {                                                                                                   \
                _Pragma("omp simd") for (int64_t i = 0; i < n; i++)                                                    \
                {                                                                                                      \
                    y[i] = x[i] * rstd;                                                                                \
                }                                                                                                      \
            }                                                                                                          \
        }                                                                                                              \
    }
DEFINE_FORWARD(forward_f32, float, sqrtf)
DEFINE_FORWARD(forward_f64, double, sqrt)

/* in: x[…,C], weight[C] or absent; out: y[…,C], rstd[N]. attrs: f0 epsilon. */
CPU_KERNEL(rms_norm)
{
    const gd_view_t *x = &args->in[0];
    rms_norm_t r = {
        .width = x->shape[x->n_dims - 1],
        .n_rows = gd_view_numel(&args->out[1]),
        .x = x->data,
        .weight = args->in[1].data,
        .y = args->out[0].data,
        .rstd = args->out[1].data,
        .epsilon = args->attrs->f[0],
    };
    return gd_cpu_parallel_real("rms_norm", x->dtype, args->n_threads, r.n_rows, ROWS_PER_BLOCK,
                                (gd_cpu_bodies_t){forward_f32, forward_f64}, &r);
}

/* xhat = x rstd, g = dy weight:  dx = rstd (g - xhat mean(g xhat)), dweight = sum of rows dy xhat; one pass for the
 * sums, one for dx, while the row is in the first cache. */
#define DEFINE_BACKWARD(name_x, type_x)                                                                                \
    static void name_x(void *arg, int64_t begin, int64_t end)                                                          \
    {                                                                                                                  \
        const rms_norm_t *r = arg;                                                                                     \
        const int64_t n = r->width;                                                                                    \
        const type_x *weight = r->weight;                                                                              \
        type_x *restrict dweight = (type_x *)r->partial + begin / r->rows_per_block * n;                               \
        memset(dweight, 0, (size_t)n * sizeof(type_x));                                                                \
        for (int64_t row = begin; row < end; row++) {                                                                  \
            const type_x *x = (const type_x *)r->x + row * n;                                                          \
            const type_x *dy = (const type_x *)r->dy + row * n;                                                        \
            type_x *dx = (type_x *)r->y + row * n;                                                                     \
            const type_x rstd = ((const type_x *)r->rstd)[row];                                                        \
            type_x dot = 0;                                                                                            \
            if (weight == NULL) {                                                                                      \
                _Pragma("omp simd reduction(+ : dot)") for (int64_t i = 0; i < n; i++)                                 \
                {                                                                                                      \
                    dot += dy[i] * x[i];                                                                               \
                }                                                                                                      \
                const type_x share = dot * rstd * rstd / (type_x)n;                                                    \
                _Pragma("omp simd") for (int64_t i = 0; i < n; i++)                                                    \
                {                                                                                                      \
                    dx[i] = rstd * (dy[i] - x[i] * share);                                                             \
                }                                                                                                      \
                continue;                                                                                              \
            }                                                                                                          \
            _Pragma("omp simd reduction(+ : dot)") for (int64_t i = 0; i < n; i++)                                     \
            {                                                                                                          \
                const type_x product = dy[i] * x[i];                                                                   \
                dweight[i] += product * rstd;                                                                          \
                dot += product * weight[i];                                                                            \
            }                                                                                                          \
            const type_x share = dot * rstd * rstd / (type_x)n;                                                        \
            _Pragma("omp simd") for (int64_t i = 0; i < n; i++)                                                        \
            {                                                                                                          \
                dx[i] = rstd * (dy[i] * weight[i] - x[i] * share);                                                     \
            }                                                                                                          \
        }                                                                                                              \
    }
DEFINE_BACKWARD(backward_f32, float)
DEFINE_BACKWARD(backward_f64, double)

/* in: dy[…,C], x[…,C], rstd[N], weight[C] or absent; out: dx[…,C], dweight[C] (zero without a weight). */
CPU_KERNEL(rms_norm_backward)
{
    const gd_view_t *x = &args->in[1];
    const bool is_f32 = x->dtype == GD_DTYPE_F32;
    if (!is_f32 && x->dtype != GD_DTYPE_F64) {
        return gd_cpu_fail_dtype("rms_norm_backward", x->dtype);
    }
    rms_norm_t r = {
        .width = x->shape[x->n_dims - 1],
        .n_rows = gd_view_numel(&args->in[2]),
        .x = x->data,
        .weight = args->in[3].data,
        .dy = args->in[0].data,
        .y = args->out[0].data,
        .rstd = args->in[2].data,
    };
    r.rows_per_block = (r.n_rows + MOST_PARTIALS - 1) / MOST_PARTIALS;
    r.rows_per_block = r.rows_per_block < ROWS_PER_BLOCK ? ROWS_PER_BLOCK : r.rows_per_block;
    const int64_t n_blocks = gd_cpu_n_blocks(r.n_rows, r.rows_per_block);
    const size_t element_size = gd_dtype_size((gd_dtype_t)x->dtype);
    r.partial = gd_cpu_scratch(GD_CPU_SLOT_KERNEL, (size_t)(n_blocks * r.width) * element_size);
    if (r.partial == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "rms_norm_backward: partial sums of %lld blocks", (long long)n_blocks);
    }
    gd_cpu_parallel(args->n_threads, r.n_rows, r.rows_per_block, is_f32 ? backward_f32 : backward_f64, &r);
    void *sum = args->out[1].data;
    memset(sum, 0, (size_t)r.width * element_size);
    for (int64_t block = 0; block < n_blocks; block++) {
        for (int64_t i = 0; i < r.width && is_f32; i++) {
            ((float *)sum)[i] += ((const float *)r.partial)[block * r.width + i];
        }
        for (int64_t i = 0; i < r.width && !is_f32; i++) {
            ((double *)sum)[i] += ((const double *)r.partial)[block * r.width + i];
        }
    }
    return ST_OK;
}
