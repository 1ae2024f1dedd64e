/* SPDX-License-Identifier: Apache-2.0 */
/*
 * batch_norm: normalisation of each channel of x[B,C,…] over the batch and the positions. A channel is summed by one
 * thread: its rows (the positions of one sample) in lanes, the rows in f64 in order.
 */
#include <stdatomic.h>

#include "cpu/vec/half.h"
#include "cpu/vec/kernels.h"
#include "cpu/vec/simd.h"

typedef struct batch_norm {
    int64_t batch;
    int64_t channels;
    int64_t size; /* positions of a channel in one sample */
    const void *x;
    const void *dy;
    const void *weight;
    const void *bias;
    const void *running_mean;
    const void *running_var;
    void *y; /* backward: dx */
    void *mean;
    void *var;
    void *dweight;
    void *dbias;
    double epsilon;
    bool is_training;
    int32_t dtype;              /* of x, y, dy and dx; the rest is f32 beside 16 bits */
    gd_cpu_body_func_t channel; /* 16 bits: what runs on a channel's f32 copy */
    atomic_bool is_out_of_memory;
} batch_norm_t;

static const void *vector_at(const void *vector, int64_t c)
{
    return vector != NULL ? (const float *)vector + c : NULL;
}

/* One channel of 16-bit floats: its rows side by side in f32, as a batch norm of one channel. */
static void channel_half(void *arg, int64_t c, int64_t end)
{
    (void)end;
    batch_norm_t *b = arg;
    const int64_t n = b->batch * b->size;
    float *x = gd_cpu_scratch(GD_CPU_SLOT_WORKER, (size_t)(n * 3) * sizeof(float));
    if (x == NULL) {
        atomic_store(&b->is_out_of_memory, true);
        return;
    }
    float *dy = x + n;
    float *y = dy + n;
    const batch_norm_t one = {
        .batch = b->batch,
        .channels = 1,
        .size = b->size,
        .x = x,
        .dy = dy,
        .weight = vector_at(b->weight, c),
        .bias = vector_at(b->bias, c),
        .running_mean = vector_at(b->running_mean, c),
        .running_var = vector_at(b->running_var, c),
        .y = y,
        .mean = (float *)b->mean + c,
        .var = (float *)b->var + c,
        .dweight = (float *)(uintptr_t)vector_at(b->dweight, c),
        .dbias = (float *)(uintptr_t)vector_at(b->dbias, c),
        .epsilon = b->epsilon,
        .is_training = b->is_training,
    };
    for (int64_t i = 0; i < b->batch; i++) {
        const int64_t from = (i * b->channels + c) * b->size;
        half_read((const uint16_t *)b->x + from, b->dtype, x + i * b->size, b->size);
        if (b->dy != NULL) {
            half_read((const uint16_t *)b->dy + from, b->dtype, dy + i * b->size, b->size);
        }
    }
    b->channel((void *)(uintptr_t)&one, 0, 1);
    for (int64_t i = 0; i < b->batch; i++) {
        half_write(y + i * b->size, b->dtype, (uint16_t *)b->y + (i * b->channels + c) * b->size, b->size);
    }
}

static status_t half_run(batch_norm_t *b, const char *op, gd_cpu_body_func_t channel, int n_threads)
{
    b->channel = channel;
    gd_cpu_parallel(n_threads, b->channels, 1, channel_half, b);
    return !atomic_load(&b->is_out_of_memory)
               ? ST_OK
               : ST_FAIL(ST_ERR_NOMEM, "%s: scratch memory for a channel of %lld", op, (long long)(b->batch * b->size));
}

static double row_squares_f32(const float *x, int64_t n, float mean)
{
    float sum = 0.0F;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++) {
        sum += (x[i] - mean) * (x[i] - mean);
    }
    return (double)sum;
}

static void channel_f32(void *arg, int64_t c, int64_t end)
{
    (void)end;
    const batch_norm_t *b = arg;
    const int64_t step = b->channels * b->size;
    const float *x = (const float *)b->x + c * b->size;
    float *y = (float *)b->y + c * b->size;
    const double count = (double)(b->batch * b->size);
    float mean = 0.0F, var = 0.0F;
    if (b->is_training) {
        double sum = 0.0;
        for (int64_t i = 0; i < b->batch; i++) {
            sum += (double)simd_row_sum(x + i * step, b->size);
        }
        mean = (float)(sum / count);
        sum = 0.0;
        for (int64_t i = 0; i < b->batch; i++) {
            sum += row_squares_f32(x + i * step, b->size, mean);
        }
        var = (float)(sum / count);
    } else {
        mean = ((const float *)b->running_mean)[c];
        var = ((const float *)b->running_var)[c];
    }
    ((float *)b->mean)[c] = mean;
    ((float *)b->var)[c] = var;
    const float rstd = 1.0F / sqrtf(var + (float)b->epsilon);
    const float scale = rstd * (b->weight != NULL ? ((const float *)b->weight)[c] : 1.0F);
    const float shift = b->bias != NULL ? ((const float *)b->bias)[c] : 0.0F;
    for (int64_t i = 0; i < b->batch; i++) {
        const float *x_row = x + i * step;
        float *y_row = y + i * step;
#pragma omp simd
        for (int64_t j = 0; j < b->size; j++) {
            y_row[j] = (x_row[j] - mean) * scale + shift;
        }
    }
}

enum { CHANNELS_PER_BLOCK = 64 };

/*
 * x[B,C] in f32: channels [begin, end) side by side, row by row, with the sums of channel_f32.
 */
static void columns_f32(void *arg, int64_t begin, int64_t end)
{
    const batch_norm_t *b = arg;
    const int64_t n = end - begin;
    const float *x = (const float *)b->x + begin;
    float *y = (float *)b->y + begin;
    float *mean = (float *)b->mean + begin;
    float *var = (float *)b->var + begin;
    float scale[CHANNELS_PER_BLOCK], shift[CHANNELS_PER_BLOCK];
    double sum[CHANNELS_PER_BLOCK] = {0}, squares[CHANNELS_PER_BLOCK] = {0};
    if (b->is_training) {
        for (int64_t i = 0; i < b->batch; i++) {
            for (int64_t c = 0; c < n; c++) {
                sum[c] += (double)x[i * b->channels + c];
            }
        }
        for (int64_t c = 0; c < n; c++) {
            mean[c] = (float)(sum[c] / (double)b->batch);
        }
        for (int64_t i = 0; i < b->batch; i++) {
            for (int64_t c = 0; c < n; c++) {
                const float d = x[i * b->channels + c] - mean[c];
                squares[c] += (double)(d * d);
            }
        }
        for (int64_t c = 0; c < n; c++) {
            var[c] = (float)(squares[c] / (double)b->batch);
        }
    } else {
        memcpy(mean, (const float *)b->running_mean + begin, (size_t)n * sizeof(float));
        memcpy(var, (const float *)b->running_var + begin, (size_t)n * sizeof(float));
    }
    for (int64_t c = 0; c < n; c++) {
        scale[c] = (b->weight != NULL ? ((const float *)b->weight)[begin + c] : 1.0F);
        scale[c] *= 1.0F / sqrtf(var[c] + (float)b->epsilon);
        shift[c] = b->bias != NULL ? ((const float *)b->bias)[begin + c] : 0.0F;
    }
    for (int64_t i = 0; i < b->batch; i++) {
#pragma omp simd
        for (int64_t c = 0; c < n; c++) {
            y[i * b->channels + c] = (x[i * b->channels + c] - mean[c]) * scale[c] + shift[c];
        }
    }
}

static void channel_f64(void *arg, int64_t c, int64_t end)
{
    (void)end;
    const batch_norm_t *b = arg;
    const int64_t step = b->channels * b->size;
    const double *x = (const double *)b->x + c * b->size;
    double *y = (double *)b->y + c * b->size;
    const double count = (double)(b->batch * b->size);
    double mean = 0.0, var = 0.0;
    if (b->is_training) {
        for (int64_t i = 0; i < b->batch * b->size; i++) {
            mean += x[i / b->size * step + i % b->size];
        }
        mean /= count;
        for (int64_t i = 0; i < b->batch * b->size; i++) {
            const double d = x[i / b->size * step + i % b->size] - mean;
            var += d * d;
        }
        var /= count;
    } else {
        mean = ((const double *)b->running_mean)[c];
        var = ((const double *)b->running_var)[c];
    }
    ((double *)b->mean)[c] = mean;
    ((double *)b->var)[c] = var;
    const double rstd = 1.0 / sqrt(var + b->epsilon);
    for (int64_t i = 0; i < b->batch * b->size; i++) {
        const int64_t at = i / b->size * step + i % b->size;
        const double weight = b->weight != NULL ? ((const double *)b->weight)[c] : 1.0;
        const double bias = b->bias != NULL ? ((const double *)b->bias)[c] : 0.0;
        y[at] = (x[at] - mean) * rstd * weight + bias;
    }
}

static batch_norm_t batch_norm_init(const gd_view_t *x, const gd_attrs_t *attrs)
{
    batch_norm_t b = {
        .batch = x->shape[0],
        .channels = x->shape[1],
        .size = 1,
        .x = x->data,
        .is_training = attrs->i[0] != 0,
        .epsilon = attrs->f[0],
        .dtype = x->dtype,
    };
    for (int i = 2; i < x->n_dims; i++) {
        b.size *= x->shape[i];
    }
    return b;
}

/*
 * in: x[B,C,…], weight[C] or absent, bias[C] or absent, running mean[C], running variance[C] (evaluation only);
 * out: y, mean[C], var[C] that were used. attrs: i0 training; f0 epsilon.
 */
CPU_KERNEL(batch_norm)
{
    batch_norm_t b = batch_norm_init(&args->in[0], args->attrs);
    b.weight = args->in[1].data;
    b.bias = args->in[2].data;
    b.running_mean = args->in[3].data;
    b.running_var = args->in[4].data;
    b.y = args->out[0].data;
    b.mean = args->out[1].data;
    b.var = args->out[2].data;
    switch (args->in[0].dtype) {
    case GD_DTYPE_F32:
        if (b.size == 1) {
            gd_cpu_parallel(args->n_threads, b.channels, CHANNELS_PER_BLOCK, columns_f32, &b);
        } else {
            gd_cpu_parallel(args->n_threads, b.channels, 1, channel_f32, &b);
        }
        return ST_OK;
    case GD_DTYPE_F64:
        gd_cpu_parallel(args->n_threads, b.channels, 1, channel_f64, &b);
        return ST_OK;
    case GD_DTYPE_BF16:
    case GD_DTYPE_F16:
        return half_run(&b, "batch_norm", channel_f32, args->n_threads);
    default:
        return gd_cpu_fail_dtype("batch_norm", args->in[0].dtype);
    }
}

static void row_scale_f32(const float *x, int64_t n, float scale, float *y)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        y[i] = scale * x[i];
    }
}

/*
 * xhat = (x - mean) rstd: dbias = sum dy, dweight = sum dy xhat,
 * dx = weight rstd (dy - mean(dy) - xhat mean(dy xhat)); in evaluation the statistics are constants: dx = weight rstd
 * dy
 */
static void channel_backward_f32(void *arg, int64_t c, int64_t end)
{
    (void)end;
    const batch_norm_t *b = arg;
    const int64_t step = b->channels * b->size;
    const float *x = (const float *)b->x + c * b->size;
    const float *dy = (const float *)b->dy + c * b->size;
    float *dx = (float *)b->y + c * b->size;
    const float mean = ((const float *)b->mean)[c];
    const float rstd = 1.0F / sqrtf(((const float *)b->var)[c] + (float)b->epsilon);
    double sum = 0.0, dot = 0.0;
    for (int64_t i = 0; i < b->batch; i++) {
        const float *x_row = x + i * step;
        const float *dy_row = dy + i * step;
        float row_sum = 0.0F, row_dot = 0.0F;
#pragma omp simd reduction(+ : row_sum, row_dot)
        for (int64_t j = 0; j < b->size; j++) {
            row_sum += dy_row[j];
            row_dot += dy_row[j] * (x_row[j] - mean);
        }
        sum += (double)row_sum;
        dot += (double)row_dot;
    }
    dot *= (double)rstd;
    ((float *)b->dweight)[c] = (float)dot;
    ((float *)b->dbias)[c] = (float)sum;
    const double count = (double)(b->batch * b->size);
    const float scale = rstd * (b->weight != NULL ? ((const float *)b->weight)[c] : 1.0F);
    const float mean_dy = (float)(sum / count);
    const float factor = (float)(dot / count) * rstd;
    for (int64_t i = 0; i < b->batch; i++) {
        const float *x_row = x + i * step;
        const float *dy_row = dy + i * step;
        float *dx_row = dx + i * step;
        if (!b->is_training) { /* not by a factor of 0: x may not be finite */
            row_scale_f32(dy_row, b->size, scale, dx_row);
            continue;
        }
#pragma omp simd
        for (int64_t j = 0; j < b->size; j++) {
            dx_row[j] = scale * (dy_row[j] - mean_dy - (x_row[j] - mean) * factor);
        }
    }
}

/* dy, x[B,C] in f32: channels [begin, end) side by side, with the sums of channel_backward_f32. */
static void columns_backward_f32(void *arg, int64_t begin, int64_t end)
{
    const batch_norm_t *b = arg;
    const int64_t n = end - begin;
    const float *x = (const float *)b->x + begin;
    const float *dy = (const float *)b->dy + begin;
    float *dx = (float *)b->y + begin;
    const float *mean = (const float *)b->mean + begin;
    float scale[CHANNELS_PER_BLOCK], mean_dy[CHANNELS_PER_BLOCK], factor[CHANNELS_PER_BLOCK];
    double sum[CHANNELS_PER_BLOCK] = {0}, dot[CHANNELS_PER_BLOCK] = {0};
    for (int64_t i = 0; i < b->batch; i++) {
        for (int64_t c = 0; c < n; c++) {
            const int64_t at = i * b->channels + c;
            sum[c] += (double)dy[at];
            dot[c] += (double)(dy[at] * (x[at] - mean[c]));
        }
    }
    for (int64_t c = 0; c < n; c++) {
        const float rstd = 1.0F / sqrtf(((const float *)b->var)[begin + c] + (float)b->epsilon);
        dot[c] *= (double)rstd;
        ((float *)b->dweight)[begin + c] = (float)dot[c];
        ((float *)b->dbias)[begin + c] = (float)sum[c];
        scale[c] = rstd * (b->weight != NULL ? ((const float *)b->weight)[begin + c] : 1.0F);
        mean_dy[c] = (float)(sum[c] / (double)b->batch);
        factor[c] = (float)(dot[c] / (double)b->batch) * rstd;
    }
    for (int64_t i = 0; i < b->batch; i++) {
        if (!b->is_training) {
#pragma omp simd
            for (int64_t c = 0; c < n; c++) {
                dx[i * b->channels + c] = scale[c] * dy[i * b->channels + c];
            }
            continue;
        }
#pragma omp simd
        for (int64_t c = 0; c < n; c++) {
            const int64_t at = i * b->channels + c;
            dx[at] = scale[c] * (dy[at] - mean_dy[c] - (x[at] - mean[c]) * factor[c]);
        }
    }
}

static void channel_backward_f64(void *arg, int64_t c, int64_t end)
{
    (void)end;
    const batch_norm_t *b = arg;
    const int64_t step = b->channels * b->size;
    const double *x = (const double *)b->x + c * b->size;
    const double *dy = (const double *)b->dy + c * b->size;
    double *dx = (double *)b->y + c * b->size;
    const double mean = ((const double *)b->mean)[c];
    const double rstd = 1.0 / sqrt(((const double *)b->var)[c] + b->epsilon);
    const double count = (double)(b->batch * b->size);
    double sum = 0.0, dot = 0.0;
    for (int64_t i = 0; i < b->batch * b->size; i++) {
        const int64_t at = i / b->size * step + i % b->size;
        sum += dy[at];
        dot += dy[at] * (x[at] - mean) * rstd;
    }
    ((double *)b->dweight)[c] = dot;
    ((double *)b->dbias)[c] = sum;
    const double scale = rstd * (b->weight != NULL ? ((const double *)b->weight)[c] : 1.0);
    for (int64_t i = 0; i < b->batch * b->size; i++) {
        const int64_t at = i / b->size * step + i % b->size;
        const double correction = sum / count + (x[at] - mean) * rstd * dot / count;
        dx[at] = scale * (dy[at] - (b->is_training ? correction : 0.0));
    }
}

/*
 * in: dy, x[B,C,…], mean[C], var[C], weight[C] or absent; out: dx, dweight[C], dbias[C].
 * attrs: i0 training; f0 epsilon.
 */
CPU_KERNEL(batch_norm_backward)
{
    batch_norm_t b = batch_norm_init(&args->in[1], args->attrs);
    b.dy = args->in[0].data;
    b.mean = args->in[2].data;
    b.var = args->in[3].data;
    b.weight = args->in[4].data;
    b.y = args->out[0].data;
    b.dweight = args->out[1].data;
    b.dbias = args->out[2].data;
    switch (args->in[1].dtype) {
    case GD_DTYPE_F32:
        if (b.size == 1) {
            gd_cpu_parallel(args->n_threads, b.channels, CHANNELS_PER_BLOCK, columns_backward_f32, &b);
        } else {
            gd_cpu_parallel(args->n_threads, b.channels, 1, channel_backward_f32, &b);
        }
        return ST_OK;
    case GD_DTYPE_F64:
        gd_cpu_parallel(args->n_threads, b.channels, 1, channel_backward_f64, &b);
        return ST_OK;
    case GD_DTYPE_BF16:
    case GD_DTYPE_F16:
        return half_run(&b, "batch_norm_backward", channel_backward_f32, args->n_threads);
    default:
        return gd_cpu_fail_dtype("batch_norm_backward", args->in[1].dtype);
    }
}
