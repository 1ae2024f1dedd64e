/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pool_nd: max and average pooling over one to three axes, windows of a fixed size or as adaptive pooling cuts them.
 * Where a window begins and ends along each axis is worked out once, in tables; a plane (volume) is one thread's.
 */
#include <math.h>
#include <string.h>

#include "cpu/map.h"
#include "cpu/vec/kernels.h"

enum { KERNEL = 0, STRIDE = 3, PADDING = 6, DILATION = 9, FLAGS = 12, EXCLUDES_PADDING = 2, IS_ADAPTIVE = 4 };

typedef struct axis {
    int64_t in, out, step;
    const int32_t *begin, *end; /* [out]: first position in the image and one past the last */
    const double *share;        /* [out]: 1 / positions that count in an average */
} axis_t;

typedef struct pool_nd {
    axis_t axis[3]; /* depth, height, width */
    int64_t n_planes, n_in, n_out;
    const void *x; /* backward: dy */
    void *y;       /* backward: dx */
    int32_t *index;
} pool_nd_t;

static void axis_fill(const gd_attrs_t *attrs, int d, axis_t *axis, int32_t *begin, int32_t *end, double *share)
{
    const int64_t kernel = attrs->i[KERNEL + d], stride = attrs->i[STRIDE + d], padding = attrs->i[PADDING + d];
    axis->step = attrs->i[DILATION + d];
    for (int64_t i = 0; i < axis->out; i++) {
        int64_t first = i * stride - padding;
        int64_t last = first + axis->step * (kernel - 1) + 1;
        int64_t counted = (last < axis->in + padding ? last : axis->in + padding) - first;
        if ((attrs->i[FLAGS] & IS_ADAPTIVE) != 0) {
            first = i * axis->in / axis->out;
            last = ((i + 1) * axis->in + axis->out - 1) / axis->out;
            counted = last - first;
        }
        while (first < 0) {
            first += axis->step;
        }
        last = last < axis->in ? last : axis->in;
        begin[i] = (int32_t)first;
        end[i] = (int32_t)last;
        share[i] = 1.0 / (double)((attrs->i[FLAGS] & EXCLUDES_PADDING) != 0 ? last - first : counted);
    }
    axis->begin = begin;
    axis->end = end;
    axis->share = share;
}

/* large is x or dx, small y or dy: [B,C,…]. ST_ERR_NOMEM. */
static status_t pool_nd_init(const char *op, const gd_view_t *large, const gd_view_t *small, const gd_attrs_t *attrs,
                             pool_nd_t *p_p)
{
    pool_nd_t p = {.n_planes = large->shape[0] * large->shape[1], .n_in = 1, .n_out = 1};
    const int n_axes = large->n_dims - 2;
    int64_t n_entries = 0;
    for (int d = 0; d < 3; d++) {
        const int own = d - (3 - n_axes);
        p.axis[d].in = own >= 0 ? large->shape[2 + own] : 1;
        p.axis[d].out = own >= 0 ? small->shape[2 + own] : 1;
        p.n_in *= p.axis[d].in;
        p.n_out *= p.axis[d].out;
        n_entries += p.axis[d].out;
    }
    double *share =
        gd_cpu_scratch(GD_CPU_SLOT_KERNEL, (size_t)(n_entries + 1) * (sizeof(double) + 2 * sizeof(int32_t)));
    if (share == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "%s: tables of %lld windows", op, (long long)n_entries);
    }
    int32_t *begin = (int32_t *)(void *)(share + n_entries);
    int32_t *end = begin + n_entries;
    for (int d = 0; d < 3; d++) {
        axis_fill(attrs, d, &p.axis[d], begin, end, share);
        begin += p.axis[d].out;
        end += p.axis[d].out;
        share += p.axis[d].out;
    }
    *p_p = p;
    return ST_OK;
}

/* Runs the statement for each (h, i) of the output and of each its rows of the window: `row` is the offset of that row
 * in the plane, at `out` the first output of the row. */
#define FOR_OUTPUT_ROWS(p_x)                                                                                           \
    for (int64_t h = 0, out = 0; h < (p_x)->axis[0].out; h++)                                                          \
        for (int64_t i = 0; i < (p_x)->axis[1].out; i++, out += (p_x)->axis[2].out)
#define FOR_WINDOW_ROWS(p_x)                                                                                           \
    for (int64_t d = (p_x)->axis[0].begin[h]; d < (p_x)->axis[0].end[h]; d += (p_x)->axis[0].step)                     \
        for (int64_t r = (p_x)->axis[1].begin[i]; r < (p_x)->axis[1].end[i]; r += (p_x)->axis[1].step)

#define DEFINE_MAX(name_x, type_x)                                                                                     \
    static void name_x(void *arg, int64_t begin, int64_t end)                                                          \
    {                                                                                                                  \
        const pool_nd_t *p = arg;                                                                                      \
        const axis_t *w = &p->axis[2];                                                                                 \
        for (int64_t plane = begin; plane < end; plane++) {                                                            \
            const type_x *x = (const type_x *)p->x + plane * p->n_in;                                                  \
            type_x *y = (type_x *)p->y + plane * p->n_out;                                                             \
            int32_t *index = p->index + plane * p->n_out;                                                              \
            FOR_OUTPUT_ROWS(p)                                                                                         \
            {                                                                                                          \
                for (int64_t j = 0; j < w->out; j++) {                                                                 \
                    index[out + j] = -1;                                                                               \
                    y[out + j] = -(type_x)INFINITY; /* of nothing: dilation may step over the image */                 \
                }                                                                                                      \
                FOR_WINDOW_ROWS(p)                                                                                     \
                {                                                                                                      \
                    const int64_t row = (d * p->axis[1].in + r) * w->in;                                               \
                    for (int64_t j = 0; j < w->out; j++) {                                                             \
                        type_x most = y[out + j];                                                                      \
                        int32_t at = index[out + j];                                                                   \
                        for (int64_t k = w->begin[j]; k < w->end[j]; k += w->step) {                                   \
                            const type_x value = x[row + k];                                                           \
                            const bool is_more = at < 0 || value > most || value != value;                             \
                            most = is_more ? value : most;                                                             \
                            at = is_more ? (int32_t)(row + k) : at;                                                    \
                        }                                                                                              \
                        y[out + j] = most;                                                                             \
                        index[out + j] = at;                                                                           \
                    }                                                                                                  \
                }                                                                                                      \
            }                                                                                                          \
        }                                                                                                              \
    }
DEFINE_MAX(max_f32, float)
DEFINE_MAX(max_f64, double)

/* in: x[B,C,…]; out: y[B,C,…], index (i32) of each maximum in its plane. */
CPU_KERNEL(max_pool)
{
    pool_nd_t p;
    status_t status = pool_nd_init("max_pool", &args->in[0], &args->out[0], args->attrs, &p);
    if (status != ST_OK) {
        return status;
    }
    p.x = args->in[0].data;
    p.y = args->out[0].data;
    p.index = args->out[1].data;
    return gd_cpu_parallel_real("max_pool", args->in[0].dtype, args->n_threads, p.n_planes, gd_cpu_map_planes(p.n_in),
                                (gd_cpu_bodies_t){max_f32, max_f64}, &p);
}

#define DEFINE_MAX_BACKWARD(name_x, type_x)                                                                            \
    static void name_x(void *arg, int64_t begin, int64_t end)                                                          \
    {                                                                                                                  \
        const pool_nd_t *p = arg;                                                                                      \
        memset((type_x *)p->y + begin * p->n_in, 0, (size_t)((end - begin) * p->n_in) * sizeof(type_x));               \
        for (int64_t plane = begin; plane < end; plane++) {                                                            \
            const type_x *dy = (const type_x *)p->x + plane * p->n_out;                                                \
            type_x *dx = (type_x *)p->y + plane * p->n_in;                                                             \
            for (int64_t i = 0; i < p->n_out; i++) {                                                                   \
                const int32_t at = p->index[plane * p->n_out + i];                                                     \
                if (at >= 0) {                                                                                         \
                    dx[at] += dy[i];                                                                                   \
                }                                                                                                      \
            }                                                                                                          \
        }                                                                                                              \
    }
DEFINE_MAX_BACKWARD(max_backward_f32, float)
DEFINE_MAX_BACKWARD(max_backward_f64, double)

/* in: dy[B,C,…], index; out: dx[B,C,…]. */
CPU_KERNEL(max_pool_backward)
{
    const gd_view_t *dx = &args->out[0];
    pool_nd_t p = {.n_planes = dx->shape[0] * dx->shape[1], .n_in = 1, .n_out = 1};
    for (int d = 2; d < dx->n_dims; d++) {
        p.n_in *= dx->shape[d];
        p.n_out *= args->in[0].shape[d];
    }
    p.x = args->in[0].data;
    p.y = dx->data;
    p.index = args->in[1].data;
    int is_bad = 0;
    for (int64_t i = 0; i < p.n_planes * p.n_out; i++) {
        is_bad |= (p.index[i] < -1) | (p.index[i] >= p.n_in);
    }
    if (is_bad != 0) {
        return ST_FAIL(ST_ERR_DATA, "max_pool_backward: a position is outside the %lld of a plane", (long long)p.n_in);
    }
    return gd_cpu_parallel_real("max_pool_backward", dx->dtype, args->n_threads, p.n_planes, gd_cpu_map_planes(p.n_in),
                                (gd_cpu_bodies_t){max_backward_f32, max_backward_f64}, &p);
}

#define DEFINE_AVG(forward_x, backward_x, type_x)                                                                      \
    static void forward_x(void *arg, int64_t begin, int64_t end)                                                       \
    {                                                                                                                  \
        const pool_nd_t *p = arg;                                                                                      \
        const axis_t *w = &p->axis[2];                                                                                 \
        for (int64_t plane = begin; plane < end; plane++) {                                                            \
            const type_x *x = (const type_x *)p->x + plane * p->n_in;                                                  \
            type_x *y = (type_x *)p->y + plane * p->n_out;                                                             \
            FOR_OUTPUT_ROWS(p)                                                                                         \
            {                                                                                                          \
                memset(y + out, 0, (size_t)w->out * sizeof(type_x));                                                   \
                FOR_WINDOW_ROWS(p)                                                                                     \
                {                                                                                                      \
                    const type_x *row = x + (d * p->axis[1].in + r) * w->in;                                           \
                    for (int64_t j = 0; j < w->out; j++) {                                                             \
                        type_x sum = y[out + j];                                                                       \
                        for (int64_t k = w->begin[j]; k < w->end[j]; k++) {                                            \
                            sum += row[k];                                                                             \
                        }                                                                                              \
                        y[out + j] = sum;                                                                              \
                    }                                                                                                  \
                }                                                                                                      \
                const double share = p->axis[0].share[h] * p->axis[1].share[i];                                        \
                for (int64_t j = 0; j < w->out; j++) {                                                                 \
                    y[out + j] *= (type_x)(share * w->share[j]);                                                       \
                }                                                                                                      \
            }                                                                                                          \
        }                                                                                                              \
    }                                                                                                                  \
    static void backward_x(void *arg, int64_t begin, int64_t end)                                                      \
    {                                                                                                                  \
        const pool_nd_t *p = arg;                                                                                      \
        const axis_t *w = &p->axis[2];                                                                                 \
        memset((type_x *)p->y + begin * p->n_in, 0, (size_t)((end - begin) * p->n_in) * sizeof(type_x));               \
        for (int64_t plane = begin; plane < end; plane++) {                                                            \
            const type_x *dy = (const type_x *)p->x + plane * p->n_out;                                                \
            type_x *dx = (type_x *)p->y + plane * p->n_in;                                                             \
            FOR_OUTPUT_ROWS(p)                                                                                         \
            {                                                                                                          \
                const double share = p->axis[0].share[h] * p->axis[1].share[i];                                        \
                FOR_WINDOW_ROWS(p)                                                                                     \
                {                                                                                                      \
                    type_x *row = dx + (d * p->axis[1].in + r) * w->in;                                                \
                    for (int64_t j = 0; j < w->out; j++) {                                                             \
                        const type_x part = dy[out + j] * (type_x)(share * w->share[j]);                               \
                        for (int64_t k = w->begin[j]; k < w->end[j]; k++) {                                            \
                            row[k] += part;                                                                            \
                        }                                                                                              \
                    }                                                                                                  \
                }                                                                                                      \
            }                                                                                                          \
        }                                                                                                              \
    }
DEFINE_AVG(avg_f32, avg_backward_f32, float)
DEFINE_AVG(avg_f64, avg_backward_f64, double)

/* large is x or dx, small y or dy. */
static status_t avg_run(const char *op, const gd_kernel_args_t *args, const gd_view_t *large, const gd_view_t *small,
                        gd_cpu_bodies_t bodies)
{
    pool_nd_t p;
    status_t status = pool_nd_init(op, large, small, args->attrs, &p);
    if (status != ST_OK) {
        return status;
    }
    p.x = args->in[0].data;
    p.y = args->out[0].data;
    return gd_cpu_parallel_real(op, large->dtype, args->n_threads, p.n_planes, gd_cpu_map_planes(p.n_in), bodies, &p);
}

/* in: x[B,C,…]; out: y[B,C,…]. */
CPU_KERNEL(avg_pool)
{
    return avg_run("avg_pool", args, &args->in[0], &args->out[0], (gd_cpu_bodies_t){avg_f32, avg_f64});
}

/* in: dy[B,C,…]; out: dx[B,C,…]. */
CPU_KERNEL(avg_pool_backward)
{
    return avg_run("avg_pool_backward", args, &args->out[0], &args->in[0],
                   (gd_cpu_bodies_t){avg_backward_f32, avg_backward_f64});
}
