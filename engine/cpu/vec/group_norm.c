/* SPDX-License-Identifier: Apache-2.0 */
/*
 * group_norm: x[B,C,…] normalised over each group of channels of a sample (one group a channel: instance
 * normalisation). A group is one thread's: its channels are summed in lanes, the channels in f64 in order; gradients of
 * weight and bias are summed over the samples in order.
 */
#include <math.h>
#include <string.h>

#include "cpu/vec/kernels.h"

typedef struct group_norm {
    int64_t n_groups; /* of all samples */
    int64_t groups;   /* of one */
    int64_t channels; /* of a group */
    int64_t size;     /* positions of a channel */
    const void *x;
    const void *dy;
    const void *weight; /* [C] or NULL */
    const void *bias;   /* [C] or NULL */
    void *y;            /* backward: dx */
    void *mean;         /* [B·groups] */
    void *rstd;
    void *partial; /* backward: [B][C][2] */
    double epsilon;
} group_norm_t;

#define DEFINE_FORWARD(name_x, type_x, sqrt_x)                                                                         \
    static void name_x(void *arg, int64_t group, int64_t end)                                                          \
    {                                                                                                                  \
        (void)end;                                                                                                     \
        const group_norm_t *g = arg;                                                                                   \
        const int64_t n = g->size;                                                                                     \
        const int64_t first = group % g->groups * g->channels;                                                         \
        const type_x *x = (const type_x *)g->x + group * g->channels * n;                                              \
        type_x *y = (type_x *)g->y + group * g->channels * n;                                                          \
        const double count = (double)(g->channels * n);                                                                \
        double total = 0;                                                                                              \
        for (int64_t c = 0; c < g->channels; c++) {                                                                    \
            type_x sum = 0;                                                                                            \
            _Pragma("omp simd reduction(+ : sum)") for (int64_t i = 0; i < n; i++)                                     \
            {                                                                                                          \
                sum += x[c * n + i];                                                                                   \
            }                                                                                                          \
            total += (double)sum;                                                                                      \
        }                                                                                                              \
        const type_x mean = (type_x)(total / count);                                                                   \
        total = 0;                                                                                                     \
        for (int64_t c = 0; c < g->channels; c++) {                                                                    \
            type_x sum = 0;                                                                                            \
            _Pragma("omp simd reduction(+ : sum)") for (int64_t i = 0; i < n; i++)                                     \
            {                                                                                                          \
                sum += (x[c * n + i] - mean) * (x[c * n + i] - mean);                                                  \
            }                                                                                                          \
            total += (double)sum;                                                                                      \
        }                                                                                                              \
        const type_x rstd = 1 / sqrt_x((type_x)(total / count) + (type_x)g->epsilon);                                  \
        ((type_x *)g->mean)[group] = mean;                                                                             \
        ((type_x *)g->rstd)[group] = rstd;                                                                             \
        for (int64_t c = 0; c < g->channels; c++) {                                                                    \
            const type_x scale = g->weight != NULL ? rstd * ((const type_x *)g->weight)[first + c] : rstd;             \
            const type_x shift = g->bias != NULL ? ((const type_x *)g->bias)[first + c] : 0;                           \
            _Pragma("omp simd") for (int64_t i = 0; i < n; i++)                                                        \
            {                                                                                                          \
                y[c * n + i] = (x[c * n + i] - mean) * scale + shift;                                                  \
            }                                                                                                          \
        }                                                                                                              \
    }
DEFINE_FORWARD(forward_f32, float, sqrtf)
DEFINE_FORWARD(forward_f64, double, sqrt)

static group_norm_t group_norm_init(const gd_view_t *x, const gd_attrs_t *attrs)
{
    group_norm_t g = {
        .groups = attrs->i[0],
        .n_groups = x->shape[0] * attrs->i[0],
        .channels = x->shape[1] / attrs->i[0],
        .size = 1,
        .x = x->data,
        .epsilon = attrs->f[0],
    };
    for (int i = 2; i < x->n_dims; i++) {
        g.size *= x->shape[i];
    }
    return g;
}

/* in: x[B,C,…], weight[C] or absent, bias[C] or absent; out: y, mean[B·groups], rstd[B·groups]. */
CPU_KERNEL(group_norm)
{
    group_norm_t g = group_norm_init(&args->in[0], args->attrs);
    g.weight = args->in[1].data;
    g.bias = args->in[2].data;
    g.y = args->out[0].data;
    g.mean = args->out[1].data;
    g.rstd = args->out[2].data;
    return gd_cpu_parallel_real("group_norm", args->in[0].dtype, args->n_threads, g.n_groups, 1,
                                (gd_cpu_bodies_t){forward_f32, forward_f64}, &g);
}

/* xhat = (x - mean) rstd, g = dy weight: dx = rstd (g - mean(g) - xhat mean(g xhat)), the means over the group;
 * partial: sum dy xhat and sum dy of each channel of the sample */
#define DEFINE_BACKWARD(name_x, type_x)                                                                                \
    static void name_x(void *arg, int64_t group, int64_t end)                                                          \
    {                                                                                                                  \
        (void)end;                                                                                                     \
        const group_norm_t *g = arg;                                                                                   \
        const int64_t n = g->size;                                                                                     \
        const int64_t first = group % g->groups * g->channels;                                                         \
        const type_x *x = (const type_x *)g->x + group * g->channels * n;                                              \
        const type_x *dy = (const type_x *)g->dy + group * g->channels * n;                                            \
        type_x *dx = (type_x *)g->y + group * g->channels * n;                                                         \
        type_x *partial = (type_x *)g->partial + group * g->channels * 2;                                              \
        const type_x mean = ((const type_x *)g->mean)[group];                                                          \
        const type_x rstd = ((const type_x *)g->rstd)[group];                                                          \
        const type_x *weight = g->weight != NULL ? (const type_x *)g->weight + first : NULL;                           \
        double total = 0, dot = 0;                                                                                     \
        for (int64_t c = 0; c < g->channels; c++) {                                                                    \
            type_x row_sum = 0, row_dot = 0;                                                                           \
            _Pragma("omp simd reduction(+ : row_sum, row_dot)") for (int64_t i = 0; i < n; i++)                        \
            {                                                                                                          \
                row_sum += dy[c * n + i];                                                                              \
                row_dot += dy[c * n + i] * (x[c * n + i] - mean);                                                      \
            }                                                                                                          \
            partial[2 * c] = row_dot * rstd;                                                                           \
            partial[2 * c + 1] = row_sum;                                                                              \
            total += (double)(weight != NULL ? weight[c] * row_sum : row_sum);                                         \
            dot += (double)(weight != NULL ? weight[c] * partial[2 * c] : partial[2 * c]);                             \
        }                                                                                                              \
        const double count = (double)(g->channels * n);                                                                \
        const type_x mean_g = (type_x)(total / count);                                                                 \
        const type_x factor = (type_x)(dot / count) * rstd;                                                            \
        for (int64_t c = 0; c < g->channels; c++) {                                                                    \
            const type_x w = weight != NULL ? weight[c] : 1;                                                           \
            _Pragma("omp simd") for (int64_t i = 0; i < n; i++)                                                        \
            {                                                                                                          \
                dx[c * n + i] = rstd * (w * dy[c * n + i] - mean_g - (x[c * n + i] - mean) * factor);                  \
            }                                                                                                          \
        }                                                                                                              \
    }
DEFINE_BACKWARD(backward_f32, float)
DEFINE_BACKWARD(backward_f64, double)

#define DEFINE_REDUCE(name_x, type_x)                                                                                  \
    static void name_x(const type_x *partial, int64_t batch, int64_t channels, type_x *dweight, type_x *dbias)         \
    {                                                                                                                  \
        memset(dweight, 0, (size_t)channels * sizeof(type_x));                                                         \
        memset(dbias, 0, (size_t)channels * sizeof(type_x));                                                           \
        for (int64_t b = 0; b < batch; b++) {                                                                          \
            for (int64_t c = 0; c < channels; c++) {                                                                   \
                dweight[c] += partial[2 * (b * channels + c)];                                                         \
                dbias[c] += partial[2 * (b * channels + c) + 1];                                                       \
            }                                                                                                          \
        }                                                                                                              \
    }
DEFINE_REDUCE(reduce_f32, float)
DEFINE_REDUCE(reduce_f64, double)

/* in: dy, x[B,C,…], mean[B·groups], rstd[B·groups], weight[C] or absent; out: dx, dweight[C], dbias[C]. */
CPU_KERNEL(group_norm_backward)
{
    const gd_view_t *x = &args->in[1];
    const bool is_f32 = x->dtype == GD_DTYPE_F32;
    if (!is_f32 && x->dtype != GD_DTYPE_F64) {
        return gd_cpu_fail_dtype("group_norm_backward", x->dtype);
    }
    group_norm_t g = group_norm_init(x, args->attrs);
    g.dy = args->in[0].data;
    g.mean = args->in[2].data;
    g.rstd = args->in[3].data;
    g.weight = args->in[4].data;
    g.y = args->out[0].data;
    const size_t element_size = gd_dtype_size((gd_dtype_t)x->dtype);
    g.partial = gd_cpu_scratch(GD_CPU_SLOT_KERNEL, (size_t)(g.n_groups * g.channels * 2) * element_size);
    if (g.partial == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "group_norm_backward: partial sums of %lld groups", (long long)g.n_groups);
    }
    gd_cpu_parallel(args->n_threads, g.n_groups, 1, is_f32 ? backward_f32 : backward_f64, &g);
    if (is_f32) {
        reduce_f32(g.partial, x->shape[0], x->shape[1], args->out[1].data, args->out[2].data);
    } else {
        reduce_f64(g.partial, x->shape[0], x->shape[1], args->out[1].data, args->out[2].data);
    }
    return ST_OK;
}
