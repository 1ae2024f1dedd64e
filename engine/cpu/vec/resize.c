/* SPDX-License-Identifier: Apache-2.0 */
/*
 * resize: what maps positions along the last one to three axes through tables: padding by a rule (pad_with) and
 * interpolation (upsample). The axes are depth, height, width; those that a tensor lacks have size 1.
 */
#include <math.h>
#include <stdatomic.h>
#include <string.h>

#include "cpu/map.h"
#include "cpu/vec/kernels.h"

typedef struct sizes {
    int64_t n_planes, in[3], out[3], n_in, n_out;
} sizes_t;

/* The last n_axes axes of both. */
static sizes_t sizes_get(const gd_view_t *in, const gd_view_t *out, int n_axes)
{
    sizes_t s = {.n_planes = 1, .n_in = 1, .n_out = 1};
    for (int d = 0; d < in->n_dims - n_axes; d++) {
        s.n_planes *= in->shape[d];
    }
    for (int d = 0; d < 3; d++) {
        const int own = d - (3 - n_axes);
        s.in[d] = own >= 0 ? in->shape[in->n_dims - n_axes + own] : 1;
        s.out[d] = own >= 0 ? out->shape[out->n_dims - n_axes + own] : 1;
        s.n_in *= s.in[d];
        s.n_out *= s.out[d];
    }
    return s;
}

static int64_t planes_per_block(int64_t n)
{
    return n < GD_CPU_MAP_GRAIN ? GD_CPU_MAP_GRAIN / (n > 0 ? n : 1) : 1;
}

/* ---- pad_with ---- */

enum { MODE_CONSTANT, MODE_REFLECT, MODE_REPLICATE, MODE_CIRCULAR };

typedef struct pad {
    sizes_t s;
    const int32_t *from[3]; /* [out]: position in x, -1: the constant */
    int64_t before[3];
    const void *x; /* backward: dy */
    void *y;       /* backward: dx */
    double value;
} pad_t;

static int32_t pad_source(int64_t i, int64_t n, int64_t mode)
{
    if (i >= 0 && i < n) {
        return (int32_t)i;
    }
    switch (mode) {
    case MODE_REFLECT:
        return (int32_t)(i < 0 ? -i : 2 * (n - 1) - i);
    case MODE_REPLICATE:
        return (int32_t)(i < 0 ? 0 : n - 1);
    case MODE_CIRCULAR:
        return (int32_t)(i < 0 ? i + n : i - n);
    default:
        return -1;
    }
}

static status_t pad_init(const char *op, const gd_view_t *small, const gd_view_t *large, const gd_attrs_t *attrs,
                         pad_t *p_p)
{
    pad_t p = {.s = sizes_get(small, large, (int)attrs->i[7]), .value = attrs->f[0]};
    int32_t *table =
        gd_cpu_scratch(GD_CPU_SLOT_KERNEL, (size_t)(p.s.out[0] + p.s.out[1] + p.s.out[2]) * sizeof(int32_t));
    if (table == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "%s: tables of positions", op);
    }
    for (int d = 0; d < 3; d++) {
        p.before[d] = attrs->i[d];
        p.from[d] = table;
        for (int64_t i = 0; i < p.s.out[d]; i++) {
            *table++ = pad_source(i - p.before[d], p.s.in[d], attrs->i[6]);
        }
    }
    *p_p = p;
    return ST_OK;
}

#define DEFINE_PAD(forward_x, backward_x, type_x)                                                                      \
    static void forward_x(void *arg, int64_t begin, int64_t end)                                                       \
    {                                                                                                                  \
        const pad_t *p = arg;                                                                                          \
        const int64_t w_in = p->s.in[2], w_out = p->s.out[2], left = p->before[2];                                     \
        const type_x value = (type_x)p->value;                                                                         \
        for (int64_t row = begin * p->s.out[0] * p->s.out[1]; row < end * p->s.out[0] * p->s.out[1]; row++) {          \
            const int64_t plane = row / (p->s.out[0] * p->s.out[1]);                                                   \
            const int64_t d = p->from[0][row / p->s.out[1] % p->s.out[0]], h = p->from[1][row % p->s.out[1]];          \
            type_x *y = (type_x *)p->y + row * w_out;                                                                  \
            if (d < 0 || h < 0) {                                                                                      \
                for (int64_t i = 0; i < w_out; i++) {                                                                  \
                    y[i] = value;                                                                                      \
                }                                                                                                      \
                continue;                                                                                              \
            }                                                                                                          \
            const type_x *x = (const type_x *)p->x + ((plane * p->s.in[0] + d) * p->s.in[1] + h) * w_in;               \
            for (int64_t i = 0; i < left; i++) {                                                                       \
                y[i] = p->from[2][i] < 0 ? value : x[p->from[2][i]];                                                   \
            }                                                                                                          \
            memcpy(y + left, x, (size_t)w_in * sizeof(type_x));                                                        \
            for (int64_t i = left + w_in; i < w_out; i++) {                                                            \
                y[i] = p->from[2][i] < 0 ? value : x[p->from[2][i]];                                                   \
            }                                                                                                          \
        }                                                                                                              \
    }                                                                                                                  \
    static void backward_x(void *arg, int64_t begin, int64_t end)                                                      \
    {                                                                                                                  \
        const pad_t *p = arg;                                                                                          \
        const int64_t w_in = p->s.in[2], w_out = p->s.out[2], left = p->before[2];                                     \
        memset((type_x *)p->y + begin * p->s.n_in, 0, (size_t)((end - begin) * p->s.n_in) * sizeof(type_x));           \
        for (int64_t row = begin * p->s.out[0] * p->s.out[1]; row < end * p->s.out[0] * p->s.out[1]; row++) {          \
            const int64_t plane = row / (p->s.out[0] * p->s.out[1]);                                                   \
            const int64_t d = p->from[0][row / p->s.out[1] % p->s.out[0]], h = p->from[1][row % p->s.out[1]];          \
            if (d < 0 || h < 0) {                                                                                      \
                continue;                                                                                              \
            }                                                                                                          \
            const type_x *dy = (const type_x *)p->x + row * w_out;                                                     \
            type_x *dx = (type_x *)p->y + ((plane * p->s.in[0] + d) * p->s.in[1] + h) * w_in;                          \
            _Pragma("omp simd") for (int64_t i = 0; i < w_in; i++)                                                     \
            {                                                                                                          \
                dx[i] += dy[left + i];                                                                                 \
            }                                                                                                          \
            for (int64_t i = 0; i < w_out; i++) {                                                                      \
                if (i == left) {                                                                                       \
                    i += w_in;                                                                                         \
                }                                                                                                      \
                if (i < w_out && p->from[2][i] >= 0) {                                                                 \
                    dx[p->from[2][i]] += dy[i];                                                                        \
                }                                                                                                      \
            }                                                                                                          \
        }                                                                                                              \
    }
DEFINE_PAD(pad_f32, pad_backward_f32, float)
DEFINE_PAD(pad_f64, pad_backward_f64, double)

/* in: x[…]; out: y[…]. attrs: i0,1,2 before; i3,4,5 after; i6 mode; i7 axes; f0 value. */
CPU_KERNEL(pad_with)
{
    pad_t p;
    status_t status = pad_init("pad_with", &args->in[0], &args->out[0], args->attrs, &p);
    if (status != ST_OK) {
        return status;
    }
    p.x = args->in[0].data;
    p.y = args->out[0].data;
    return gd_cpu_parallel_real("pad_with", args->in[0].dtype, args->n_threads, p.s.n_planes,
                                planes_per_block(p.s.n_out), (gd_cpu_bodies_t){pad_f32, pad_f64}, &p);
}

/* in: dy[…]; out: dx[…]. */
CPU_KERNEL(pad_with_backward)
{
    pad_t p;
    status_t status = pad_init("pad_with_backward", &args->out[0], &args->in[0], args->attrs, &p);
    if (status != ST_OK) {
        return status;
    }
    p.x = args->in[0].data;
    p.y = args->out[0].data;
    return gd_cpu_parallel_real("pad_with_backward", args->in[0].dtype, args->n_threads, p.s.n_planes,
                                planes_per_block(p.s.n_out), (gd_cpu_bodies_t){pad_backward_f32, pad_backward_f64}, &p);
}

/* ---- upsample ---- */

enum { MODE_NEAREST, MODE_LINEAR, MODE_CUBIC, MOST_TAPS = 4 };

/* Along one axis output i is the sum over taps of weight[t][i] x[from[t][i]]. */
typedef struct taps {
    int32_t *from[MOST_TAPS];
    double *weight[MOST_TAPS];
} taps_t;

typedef struct upsample {
    sizes_t s;
    int n_taps;
    taps_t axis[3];
    const void *x; /* backward: dy */
    void *y;       /* backward: dx */
    atomic_bool is_out_of_memory;
} upsample_t;

/* Keys, "Cubic convolution interpolation", 1981, with a = -0.75 */
static double cubic(double distance)
{
    const double a = -0.75, x = fabs(distance);
    return x <= 1 ? ((a + 2) * x - (a + 3)) * x * x + 1 : ((a * x - 5 * a) * x + 8 * a) * x - 4 * a;
}

/* step: of the source for one of the output; with align_corners from the first to the last. */
static void taps_fill(const taps_t *taps, int64_t in, int64_t out, int64_t mode, bool aligns_corners, double factor)
{
    const double step = aligns_corners ? (out > 1 ? (double)(in - 1) / (double)(out - 1) : 0)
                        : factor > 0   ? 1 / factor
                                       : (double)in / (double)out;
    for (int64_t i = 0; i < out; i++) {
        double at = aligns_corners ? (double)i * step : ((double)i + 0.5) * step - 0.5;
        if (mode == MODE_NEAREST) {
            const int64_t from = factor > 0 ? (int64_t)floor((double)i * step) : i * in / out;
            taps->from[0][i] = (int32_t)(from < in ? from : in - 1);
            taps->weight[0][i] = 1;
        } else if (mode == MODE_LINEAR) {
            at = at > 0 ? at : 0;
            const int64_t first = (int64_t)at < in ? (int64_t)at : in - 1;
            taps->from[0][i] = (int32_t)first;
            taps->from[1][i] = (int32_t)(first + 1 < in ? first + 1 : first);
            taps->weight[1][i] = at - (double)first;
            taps->weight[0][i] = 1 - taps->weight[1][i];
        } else {
            const int64_t first = (int64_t)floor(at) - 1;
            for (int t = 0; t < MOST_TAPS; t++) {
                const int64_t from = first + t;
                taps->from[t][i] = (int32_t)(from < 0 ? 0 : from < in ? from : in - 1);
                taps->weight[t][i] = cubic(at - (double)from);
            }
        }
    }
}

static status_t upsample_init(const char *op, const gd_view_t *small, const gd_view_t *large, const gd_attrs_t *attrs,
                              upsample_t *u_p)
{
    const int n_axes = (int)attrs->i[5];
    upsample_t u = {.s = sizes_get(small, large, n_axes),
                    .n_taps = attrs->i[3] == MODE_NEAREST  ? 1
                              : attrs->i[3] == MODE_LINEAR ? 2
                                                           : MOST_TAPS};
    const int64_t n = u.s.out[0] + u.s.out[1] + u.s.out[2];
    double *weight = gd_cpu_scratch(GD_CPU_SLOT_KERNEL, (size_t)(n * u.n_taps) * (sizeof(double) + sizeof(int32_t)));
    if (weight == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "%s: tables of %lld positions", op, (long long)n);
    }
    int32_t *from = (int32_t *)(void *)(weight + n * u.n_taps);
    for (int d = 0; d < 3; d++) {
        for (int t = 0; t < u.n_taps; t++) {
            u.axis[d].weight[t] = weight;
            u.axis[d].from[t] = from;
            weight += u.s.out[d];
            from += u.s.out[d];
        }
        if (d < 3 - n_axes) { /* an axis of size 1 that isn't there */
            for (int t = 0; t < u.n_taps; t++) {
                u.axis[d].from[t][0] = 0;
                u.axis[d].weight[t][0] = t == 0;
            }
        } else {
            taps_fill(&u.axis[d], u.s.in[d], u.s.out[d], attrs->i[3], attrs->i[4] != 0, attrs->f[d - (3 - n_axes)]);
        }
    }
    *u_p = u;
    return ST_OK;
}

/* One row of the output from the rows of the plane that it is made of, summed first in `sum`[width of x]; backward the
 * other way round. */
#define DEFINE_UPSAMPLE(forward_x, backward_x, type_x)                                                                 \
    static void forward_x(void *arg, int64_t begin, int64_t end)                                                       \
    {                                                                                                                  \
        upsample_t *u = arg;                                                                                           \
        const int64_t w_in = u->s.in[2], w_out = u->s.out[2];                                                          \
        const taps_t *w = &u->axis[2];                                                                                 \
        type_x *sum = gd_cpu_scratch(GD_CPU_SLOT_WORKER, (size_t)w_in * sizeof(type_x));                               \
        if (sum == NULL) {                                                                                             \
            atomic_store(&u->is_out_of_memory, true);                                                                  \
            return;                                                                                                    \
        }                                                                                                              \
        for (int64_t row = begin * u->s.out[0] * u->s.out[1]; row < end * u->s.out[0] * u->s.out[1]; row++) {          \
            const int64_t plane = row / (u->s.out[0] * u->s.out[1]);                                                   \
            const int64_t d = row / u->s.out[1] % u->s.out[0], h = row % u->s.out[1];                                  \
            type_x *restrict y = (type_x *)u->y + row * w_out;                                                         \
            memset(sum, 0, (size_t)w_in * sizeof(type_x));                                                             \
            for (int t = 0; t < u->n_taps * u->n_taps; t++) {                                                          \
                const int a = t / u->n_taps, b = t % u->n_taps;                                                        \
                const type_x weight = (type_x)(u->axis[0].weight[a][d] * u->axis[1].weight[b][h]);                     \
                if (weight == 0) {                                                                                     \
                    continue;                                                                                          \
                }                                                                                                      \
                const type_x *x =                                                                                      \
                    (const type_x *)u->x +                                                                             \
                    ((plane * u->s.in[0] + u->axis[0].from[a][d]) * u->s.in[1] + u->axis[1].from[b][h]) * w_in;        \
                _Pragma("omp simd") for (int64_t i = 0; i < w_in; i++)                                                 \
                {                                                                                                      \
                    sum[i] += weight * x[i];                                                                           \
                }                                                                                                      \
            }                                                                                                          \
            for (int64_t j = 0; j < w_out; j++) {                                                                      \
                y[j] = (type_x)w->weight[0][j] * sum[w->from[0][j]];                                                   \
            }                                                                                                          \
            for (int t = 1; t < u->n_taps; t++) {                                                                      \
                for (int64_t j = 0; j < w_out; j++) {                                                                  \
                    y[j] += (type_x)w->weight[t][j] * sum[w->from[t][j]];                                              \
                }                                                                                                      \
            }                                                                                                          \
        }                                                                                                              \
    }                                                                                                                  \
    static void backward_x(void *arg, int64_t begin, int64_t end)                                                      \
    {                                                                                                                  \
        upsample_t *u = arg;                                                                                           \
        const int64_t w_in = u->s.in[2], w_out = u->s.out[2];                                                          \
        const taps_t *w = &u->axis[2];                                                                                 \
        type_x *sum = gd_cpu_scratch(GD_CPU_SLOT_WORKER, (size_t)w_in * sizeof(type_x));                               \
        if (sum == NULL) {                                                                                             \
            atomic_store(&u->is_out_of_memory, true);                                                                  \
            return;                                                                                                    \
        }                                                                                                              \
        memset((type_x *)u->y + begin * u->s.n_in, 0, (size_t)((end - begin) * u->s.n_in) * sizeof(type_x));           \
        for (int64_t row = begin * u->s.out[0] * u->s.out[1]; row < end * u->s.out[0] * u->s.out[1]; row++) {          \
            const int64_t plane = row / (u->s.out[0] * u->s.out[1]);                                                   \
            const int64_t d = row / u->s.out[1] % u->s.out[0], h = row % u->s.out[1];                                  \
            const type_x *dy = (const type_x *)u->x + row * w_out;                                                     \
            memset(sum, 0, (size_t)w_in * sizeof(type_x));                                                             \
            for (int t = 0; t < u->n_taps; t++) {                                                                      \
                for (int64_t j = 0; j < w_out; j++) {                                                                  \
                    sum[w->from[t][j]] += (type_x)w->weight[t][j] * dy[j];                                             \
                }                                                                                                      \
            }                                                                                                          \
            for (int t = 0; t < u->n_taps * u->n_taps; t++) {                                                          \
                const int a = t / u->n_taps, b = t % u->n_taps;                                                        \
                const type_x weight = (type_x)(u->axis[0].weight[a][d] * u->axis[1].weight[b][h]);                     \
                if (weight == 0) {                                                                                     \
                    continue;                                                                                          \
                }                                                                                                      \
                type_x *dx =                                                                                           \
                    (type_x *)u->y +                                                                                   \
                    ((plane * u->s.in[0] + u->axis[0].from[a][d]) * u->s.in[1] + u->axis[1].from[b][h]) * w_in;        \
                _Pragma("omp simd") for (int64_t i = 0; i < w_in; i++)                                                 \
                {                                                                                                      \
                    dx[i] += weight * sum[i];                                                                          \
                }                                                                                                      \
            }                                                                                                          \
        }                                                                                                              \
    }
DEFINE_UPSAMPLE(upsample_f32, upsample_backward_f32, float)
DEFINE_UPSAMPLE(upsample_f64, upsample_backward_f64, double)

static status_t upsample_end(upsample_t *u, const char *op)
{
    return !atomic_load(&u->is_out_of_memory) ? ST_OK : ST_FAIL(ST_ERR_NOMEM, "%s: a row of scratch memory", op);
}

/* in: x[B,C,…]; out: y[B,C,…]. attrs: i3 mode; i4 align corners; i5 axes; f0,1,2 factors, 0: from the sizes. */
CPU_KERNEL(upsample)
{
    upsample_t u;
    status_t status = upsample_init("upsample", &args->in[0], &args->out[0], args->attrs, &u);
    if (status != ST_OK) {
        return status;
    }
    u.x = args->in[0].data;
    u.y = args->out[0].data;
    status = gd_cpu_parallel_real("upsample", args->in[0].dtype, args->n_threads, u.s.n_planes,
                                  planes_per_block(u.s.n_out), (gd_cpu_bodies_t){upsample_f32, upsample_f64}, &u);
    return status == ST_OK ? upsample_end(&u, "upsample") : status;
}

/* in: dy[B,C,…]; out: dx[B,C,…]. */
CPU_KERNEL(upsample_backward)
{
    upsample_t u;
    status_t status = upsample_init("upsample_backward", &args->out[0], &args->in[0], args->attrs, &u);
    if (status != ST_OK) {
        return status;
    }
    u.x = args->in[0].data;
    u.y = args->out[0].data;
    status = gd_cpu_parallel_real("upsample_backward", args->in[0].dtype, args->n_threads, u.s.n_planes,
                                  planes_per_block(u.s.n_out),
                                  (gd_cpu_bodies_t){upsample_backward_f32, upsample_backward_f64}, &u);
    return status == ST_OK ? upsample_end(&u, "upsample_backward") : status;
}
