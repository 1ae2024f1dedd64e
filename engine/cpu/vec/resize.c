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

/* A row of the larger side: its plane, and its place along depth and height. */
typedef struct row {
    int64_t plane, d, h;
} row_t;

static inline row_t row_get(const sizes_t *s, int64_t row)
{
    return (row_t){.plane = row / (s->out[0] * s->out[1]), .d = row / s->out[1] % s->out[0], .h = row % s->out[1]};
}

/* The first row of a plane of the larger side; where a row of the smaller side begins. */
static inline int64_t rows_of(const sizes_t *s, int64_t plane)
{
    return plane * s->out[0] * s->out[1];
}

static inline int64_t offset_in(const sizes_t *s, int64_t plane, int64_t d, int64_t h)
{
    return ((plane * s->in[0] + d) * s->in[1] + h) * s->in[2];
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
        for (int64_t row = rows_of(&p->s, begin); row < rows_of(&p->s, end); row++) {                                  \
            const row_t at = row_get(&p->s, row);                                                                      \
            const int64_t d = p->from[0][at.d], h = p->from[1][at.h];                                                  \
            type_x *y = (type_x *)p->y + row * w_out;                                                                  \
            if (d < 0 || h < 0) {                                                                                      \
                for (int64_t i = 0; i < w_out; i++) {                                                                  \
                    y[i] = value;                                                                                      \
                }                                                                                                      \
                continue;                                                                                              \
            }                                                                                                          \
            const type_x *x = (const type_x *)p->x + offset_in(&p->s, at.plane, d, h);                                 \
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
        for (int64_t row = rows_of(&p->s, begin); row < rows_of(&p->s, end); row++) {                                  \
            const row_t at = row_get(&p->s, row);                                                                      \
            const int64_t d = p->from[0][at.d], h = p->from[1][at.h];                                                  \
            if (d < 0 || h < 0) {                                                                                      \
                continue;                                                                                              \
            }                                                                                                          \
            const type_x *dy = (const type_x *)p->x + row * w_out;                                                     \
            type_x *dx = (type_x *)p->y + offset_in(&p->s, at.plane, d, h);                                            \
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

/* small is x or dx, large y or dy. */
static status_t pad_run(const char *op, const gd_kernel_args_t *args, const gd_view_t *small, const gd_view_t *large,
                        gd_cpu_bodies_t bodies)
{
    pad_t p;
    status_t status = pad_init(op, small, large, args->attrs, &p);
    if (status != ST_OK) {
        return status;
    }
    p.x = args->in[0].data;
    p.y = args->out[0].data;
    return gd_cpu_parallel_real(op, small->dtype, args->n_threads, p.s.n_planes, gd_cpu_map_planes(p.s.n_out), bodies,
                                &p);
}

/* in: x[…]; out: y[…]. attrs: i0,1,2 before; i3,4,5 after; i6 mode; i7 axes; f0 value. */
CPU_KERNEL(pad_with)
{
    return pad_run("pad_with", args, &args->in[0], &args->out[0], (gd_cpu_bodies_t){pad_f32, pad_f64});
}

/* in: dy[…]; out: dx[…]. */
CPU_KERNEL(pad_with_backward)
{
    return pad_run("pad_with_backward", args, &args->out[0], &args->in[0],
                   (gd_cpu_bodies_t){pad_backward_f32, pad_backward_f64});
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
    int n_width_taps; /* those along the width that aren't 0 everywhere: one where it is copied */
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

/*
 * step: of the source for one of the output; with align_corners from the first to the last. of_images: two axes; the
 * nearest of a size that a factor keeps or doubles is then of these sizes, and the factor's own digits say nothing, as
 * in PyTorch, which does so with two axes alone.
 */
static void taps_fill(const taps_t *taps, int64_t in, int64_t out, const gd_attrs_t *attrs, double factor)
{
    const int64_t mode = attrs->i[3];
    const bool aligns_corners = attrs->i[4] != 0, of_images = attrs->i[5] == 2;
    const double step = aligns_corners ? (out > 1 ? (double)(in - 1) / (double)(out - 1) : 0)
                        : factor > 0   ? 1 / factor
                                       : (double)in / (double)out;
    for (int64_t i = 0; i < out; i++) {
        double at = aligns_corners ? (double)i * step : ((double)i + 0.5) * step - 0.5;
        if (mode == MODE_NEAREST) {
            const bool is_even = factor <= 0 || (of_images && (out == in || out == 2 * in));
            const int64_t from = is_even ? i * in / out : (int64_t)floor((double)i * step);
            taps->from[0][i] = (int32_t)(from < in ? from : in - 1);
            taps->weight[0][i] = 1;
        } else if (mode == MODE_LINEAR) {
            at = in == out ? (double)i : at > 0 ? at : 0; /* a size that a factor keeps is copied, as in PyTorch */
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
            taps_fill(&u.axis[d], u.s.in[d], u.s.out[d], attrs, attrs->f[d - (3 - n_axes)]);
        }
    }
    u.n_width_taps = attrs->i[3] == MODE_LINEAR && u.s.in[2] == u.s.out[2] ? 1 : u.n_taps;
    *u_p = u;
    return ST_OK;
}

/* Tap t of n_taps² along depth and height for a row of the larger side: its weight, and where its row of the smaller
 * one begins. */
static inline double tap_get(const upsample_t *u, const row_t *at, int t, int64_t *from_p)
{
    const taps_t *depth = &u->axis[0], *height = &u->axis[1];
    const int a = t / u->n_taps, b = t % u->n_taps;
    *from_p = offset_in(&u->s, at->plane, depth->from[a][at->d], height->from[b][at->h]);
    return depth->weight[a][at->d] * height->weight[b][at->h];
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
        for (int64_t row = rows_of(&u->s, begin); row < rows_of(&u->s, end); row++) {                                  \
            const row_t at = row_get(&u->s, row);                                                                      \
            type_x *restrict y = (type_x *)u->y + row * w_out;                                                         \
            memset(sum, 0, (size_t)w_in * sizeof(type_x));                                                             \
            for (int t = 0; t < u->n_taps * u->n_taps; t++) {                                                          \
                int64_t from = 0;                                                                                      \
                const type_x weight = (type_x)tap_get(u, &at, t, &from);                                               \
                if (weight == 0) {                                                                                     \
                    continue;                                                                                          \
                }                                                                                                      \
                const type_x *x = (const type_x *)u->x + from;                                                         \
                _Pragma("omp simd") for (int64_t i = 0; i < w_in; i++)                                                 \
                {                                                                                                      \
                    sum[i] += weight * x[i];                                                                           \
                }                                                                                                      \
            }                                                                                                          \
            for (int64_t j = 0; j < w_out; j++) {                                                                      \
                y[j] = (type_x)w->weight[0][j] * sum[w->from[0][j]];                                                   \
            }                                                                                                          \
            for (int t = 1; t < u->n_width_taps; t++) {                                                                \
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
        for (int64_t row = rows_of(&u->s, begin); row < rows_of(&u->s, end); row++) {                                  \
            const row_t at = row_get(&u->s, row);                                                                      \
            const type_x *dy = (const type_x *)u->x + row * w_out;                                                     \
            memset(sum, 0, (size_t)w_in * sizeof(type_x));                                                             \
            for (int t = 0; t < u->n_width_taps; t++) {                                                                \
                for (int64_t j = 0; j < w_out; j++) {                                                                  \
                    sum[w->from[t][j]] += (type_x)w->weight[t][j] * dy[j];                                             \
                }                                                                                                      \
            }                                                                                                          \
            for (int t = 0; t < u->n_taps * u->n_taps; t++) {                                                          \
                int64_t from = 0;                                                                                      \
                const type_x weight = (type_x)tap_get(u, &at, t, &from);                                               \
                if (weight == 0) {                                                                                     \
                    continue;                                                                                          \
                }                                                                                                      \
                type_x *dx = (type_x *)u->y + from;                                                                    \
                _Pragma("omp simd") for (int64_t i = 0; i < w_in; i++)                                                 \
                {                                                                                                      \
                    dx[i] += weight * sum[i];                                                                          \
                }                                                                                                      \
            }                                                                                                          \
        }                                                                                                              \
    }
DEFINE_UPSAMPLE(upsample_f32, upsample_backward_f32, float)
DEFINE_UPSAMPLE(upsample_f64, upsample_backward_f64, double)

/* small is x or dx, large y or dy. */
static status_t upsample_run(const char *op, const gd_kernel_args_t *args, const gd_view_t *small,
                             const gd_view_t *large, gd_cpu_bodies_t bodies)
{
    upsample_t u;
    status_t status = upsample_init(op, small, large, args->attrs, &u);
    if (status != ST_OK) {
        return status;
    }
    u.x = args->in[0].data;
    u.y = args->out[0].data;
    status =
        gd_cpu_parallel_real(op, small->dtype, args->n_threads, u.s.n_planes, gd_cpu_map_planes(u.s.n_out), bodies, &u);
    if (status == ST_OK && atomic_load(&u.is_out_of_memory)) {
        return ST_FAIL(ST_ERR_NOMEM, "%s: a row of scratch memory", op);
    }
    return status;
}

/* in: x[B,C,…]; out: y[B,C,…]. attrs: i3 mode; i4 align corners; i5 axes; f0,1,2 factors, 0: from the sizes. */
CPU_KERNEL(upsample)
{
    return upsample_run("upsample", args, &args->in[0], &args->out[0], (gd_cpu_bodies_t){upsample_f32, upsample_f64});
}

/* in: dy[B,C,…]; out: dx[B,C,…]. */
CPU_KERNEL(upsample_backward)
{
    return upsample_run("upsample_backward", args, &args->out[0], &args->in[0],
                        (gd_cpu_bodies_t){upsample_backward_f32, upsample_backward_f64});
}
