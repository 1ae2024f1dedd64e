/* SPDX-License-Identifier: Apache-2.0 */
/* softmax: over the last axis of contiguous rows, with the largest value subtracted; sums in 16 fixed lanes. */
#include <math.h>
#include <stdatomic.h>

#include "cpu/vec/half.h"
#include "cpu/vec/kernels.h"
#include "cpu/vec/vecmath.h"

enum { LANES = 16, ROWS_GRAIN = 8192 };

typedef struct rows {
    const void *a; /* x, or dy */
    const void *b; /* y, in backward; NULL */
    void *y;       /* or dx */
    int64_t width;
    int32_t dtype;
    atomic_bool is_out_of_memory;
} rows_t;

/* Two rows of f32 for 16-bit operands; a thread that gets none says so and does nothing. */
static float *rows_buffer(rows_t *rows)
{
    static float unused;
    if (!half_is(rows->dtype)) {
        return &unused;
    }
    float *buffer = gd_cpu_scratch(GD_CPU_SLOT_WORKER, (size_t)rows->width * 2 * sizeof(float));
    if (buffer == NULL) {
        atomic_store(&rows->is_out_of_memory, true);
    }
    return buffer;
}

static inline float lanes_sum(float lane[LANES])
{
    for (int width = LANES / 2; width > 0; width /= 2) {
        for (int j = 0; j < width; j++) {
            lane[j] += lane[j + width];
        }
    }
    return lane[0];
}

static inline float row_max(const float *x, int64_t n)
{
    float lane[LANES];
    for (int j = 0; j < LANES; j++) {
        lane[j] = -INFINITY;
    }
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) {
#pragma omp simd
        for (int j = 0; j < LANES; j++) {
            lane[j] = x[i + j] > lane[j] ? x[i + j] : lane[j];
        }
    }
    for (int j = 0; i + j < n; j++) {
        lane[j] = x[i + j] > lane[j] ? x[i + j] : lane[j];
    }
    float max = lane[0];
    for (int j = 1; j < LANES; j++) {
        max = lane[j] > max ? lane[j] : max;
    }
    return max;
}

/* y[i] = exp(x[i] - max), unless y is NULL; returns the sum. A row of -inf alone gives NaN, as in PyTorch. */
static inline float row_exp(const float *x, float max, float *y, int64_t n)
{
    float lane[LANES] = {0};
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        if (y != NULL) {
#pragma omp simd
            for (int j = 0; j < LANES; j++) {
                const float e = vec_exp(x[i + j] - max);
                y[i + j] = e;
                lane[j] += e;
            }
        } else {
#pragma omp simd
            for (int j = 0; j < LANES; j++) {
                lane[j] += vec_exp(x[i + j] - max);
            }
        }
    }
    for (int j = 0; i + j < n; j++) {
        const float e = vec_exp(x[i + j] - max);
        if (y != NULL) {
            y[i + j] = e;
        }
        lane[j] += e;
    }
    return lanes_sum(lane);
}

static inline void softmax_f32(const float *x, const float *none, float *y, int64_t n)
{
    (void)none;
    const float factor = 1.0f / row_exp(x, row_max(x, n), y, n);
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        y[i] *= factor;
    }
}

static inline void log_softmax_f32(const float *x, const float *none, float *y, int64_t n)
{
    (void)none;
    const float max = row_max(x, n);
    const float log_sum = logf(row_exp(x, max, NULL, n));
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        y[i] = (x[i] - max) - log_sum; /* max + log_sum would round what is small beside max away */
    }
}

static inline float row_dot(const float *a, const float *b, int64_t n)
{
    float lane[LANES] = {0};
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) {
#pragma omp simd
        for (int j = 0; j < LANES; j++) {
            lane[j] += a[i + j] * b[i + j];
        }
    }
    for (int j = 0; i + j < n; j++) {
        lane[j] += a[i + j] * b[i + j];
    }
    return lanes_sum(lane);
}

static inline float row_sum(const float *a, int64_t n)
{
    float lane[LANES] = {0};
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) {
#pragma omp simd
        for (int j = 0; j < LANES; j++) {
            lane[j] += a[i + j];
        }
    }
    for (int j = 0; i + j < n; j++) {
        lane[j] += a[i + j];
    }
    return lanes_sum(lane);
}

static inline void softmax_backward_f32(const float *dy, const float *y, float *dx, int64_t n)
{
    const float dot = row_dot(dy, y, n);
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        dx[i] = y[i] * (dy[i] - dot);
    }
}

static inline void log_softmax_backward_f32(const float *dy, const float *y, float *dx, int64_t n)
{
    const float sum = row_sum(dy, n);
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        dx[i] = dy[i] - vec_exp(y[i]) * sum;
    }
}

static double row_max_f64(const double *x, int64_t n)
{
    double max = -INFINITY;
    for (int64_t i = 0; i < n; i++) {
        max = x[i] > max ? x[i] : max;
    }
    return max;
}

static inline void softmax_f64(const double *x, const double *none, double *y, int64_t n)
{
    (void)none;
    const double max = row_max_f64(x, n);
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        y[i] = exp(x[i] - max);
        sum += y[i];
    }
    for (int64_t i = 0; i < n; i++) {
        y[i] /= sum;
    }
}

static inline void log_softmax_f64(const double *x, const double *none, double *y, int64_t n)
{
    (void)none;
    const double max = row_max_f64(x, n);
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        sum += exp(x[i] - max);
    }
    const double log_sum = log(sum);
    for (int64_t i = 0; i < n; i++) {
        y[i] = (x[i] - max) - log_sum;
    }
}

static inline void softmax_backward_f64(const double *dy, const double *y, double *dx, int64_t n)
{
    double dot = 0;
    for (int64_t i = 0; i < n; i++) {
        dot += dy[i] * y[i];
    }
    for (int64_t i = 0; i < n; i++) {
        dx[i] = y[i] * (dy[i] - dot);
    }
}

static inline void log_softmax_backward_f64(const double *dy, const double *y, double *dx, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        sum += dy[i];
    }
    for (int64_t i = 0; i < n; i++) {
        dx[i] = dy[i] - exp(y[i]) * sum;
    }
}

/* Always inline, so that the row's function is too: a call costs as much as a narrow row. */
static inline __attribute__((always_inline)) void rows_f32(rows_t *rows, int64_t begin, int64_t end,
                                                           void (*row_func)(const float *a, const float *b, float *y,
                                                                            int64_t n))
{
    const int64_t n = rows->width;
    float *buffer = rows_buffer(rows);
    for (int64_t row = begin; row < end && buffer != NULL; row++) {
        const float *a = half_row(rows->a, rows->dtype, row * n, n, buffer);
        const float *b = rows->b != NULL ? half_row(rows->b, rows->dtype, row * n, n, buffer + n) : NULL;
        float *y = half_row_open(rows->y, rows->dtype, row * n, buffer);
        row_func(a, b, y, n);
        half_row_put(y, rows->y, rows->dtype, row * n, n);
    }
}

static inline __attribute__((always_inline)) void rows_f64(const rows_t *rows, int64_t begin, int64_t end,
                                                           void (*row_func)(const double *a, const double *b, double *y,
                                                                            int64_t n))
{
    const int64_t n = rows->width;
    const double *a = rows->a;
    const double *b = rows->b;
    for (int64_t row = begin; row < end; row++) {
        row_func(a + row * n, b != NULL ? b + row * n : NULL, (double *)rows->y + row * n, n);
    }
}

#define DEFINE_BODIES(name_x)                                                                                          \
    static void name_x##_body_f32(void *arg, int64_t begin, int64_t end)                                               \
    {                                                                                                                  \
        rows_f32(arg, begin, end, name_x##_f32);                                                                       \
    }                                                                                                                  \
    static void name_x##_body_f64(void *arg, int64_t begin, int64_t end)                                               \
    {                                                                                                                  \
        rows_f64(arg, begin, end, name_x##_f64);                                                                       \
    }
DEFINE_BODIES(softmax)
DEFINE_BODIES(log_softmax)
DEFINE_BODIES(softmax_backward)
DEFINE_BODIES(log_softmax_backward)

static status_t rows_run(const gd_kernel_args_t *args, const char *name, gd_cpu_bodies_t bodies)
{
    const gd_view_t *y = &args->out[0];
    if (!gd_dtype_is_float((gd_dtype_t)y->dtype)) {
        return gd_cpu_fail_dtype(name, y->dtype);
    }
    rows_t rows = {.a = args->in[0].data,
                   .b = args->n_in > 1 ? args->in[1].data : NULL,
                   .y = y->data,
                   .width = y->shape[y->n_dims - 1],
                   .dtype = y->dtype};
    const int64_t numel = gd_view_numel(y);
    if (numel == 0) {
        return ST_OK;
    }
    const int64_t grain = ROWS_GRAIN / rows.width > 0 ? ROWS_GRAIN / rows.width : 1;
    gd_cpu_parallel(args->n_threads, numel / rows.width, grain, y->dtype == GD_DTYPE_F64 ? bodies.f64 : bodies.f32,
                    &rows);
    if (atomic_load(&rows.is_out_of_memory)) {
        return ST_FAIL(ST_ERR_NOMEM, "%s: scratch memory for rows of %lld", name, (long long)rows.width);
    }
    return ST_OK;
}

CPU_KERNEL(softmax)
{
    return rows_run(args, "softmax", (gd_cpu_bodies_t){softmax_body_f32, softmax_body_f64});
}

CPU_KERNEL(log_softmax)
{
    return rows_run(args, "log_softmax", (gd_cpu_bodies_t){log_softmax_body_f32, log_softmax_body_f64});
}

CPU_KERNEL(softmax_backward)
{
    return rows_run(args, "softmax_backward", (gd_cpu_bodies_t){softmax_backward_body_f32, softmax_backward_body_f64});
}

CPU_KERNEL(log_softmax_backward)
{
    return rows_run(args, "log_softmax_backward",
                    (gd_cpu_bodies_t){log_softmax_backward_body_f32, log_softmax_backward_body_f64});
}
