/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pool: max and average pooling over planes of H × W; a plane is one thread's. The usual 2 × 2 windows with stride 2
 * have loops of their own, which vectorise.
 */
#include "cpu/vec/kernels.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>

#include "cpu/vec/half.h"

typedef struct pool {
    int64_t n_planes;
    int64_t height, width, out_height, out_width;
    int64_t kernel[2], stride[2], padding[2];
    const void *x;  /* backward: dy */
    void *y;        /* backward: dx */
    int32_t *index; /* position of the maximum in its plane */
} pool_t;

enum { PLANES_PER_BLOCK = 4 };

/* Pooled and full plane from the views of y (or dy) and x (or dx). attrs: i0,1 kernel; i2,3 stride; i4,5 padding. */
static pool_t pool_init(const gd_view_t *full, const gd_view_t *pooled, const gd_attrs_t *attrs)
{
    const int last = full->n_dims - 1;
    pool_t p = {
        .n_planes = 1,
        .height = full->shape[last - 1],
        .width = full->shape[last],
        .out_height = pooled->shape[last - 1],
        .out_width = pooled->shape[last],
        .kernel = {attrs->i[0], attrs->i[1]},
        .stride = {attrs->i[2], attrs->i[3]},
        .padding = {attrs->i[4], attrs->i[5]},
    };
    for (int i = 0; i < last - 1; i++) {
        p.n_planes *= full->shape[i];
    }
    return p;
}

/* A pool over 16-bit floats: planes go through f32 copies in the thread's scratch. */
typedef struct half_pool {
    pool_t pool;
    gd_cpu_body_func_t f32;
    int32_t dtype;
    int64_t n_read, n_written; /* elements of a plane of x and of y */
    atomic_bool is_out_of_memory;
} half_pool_t;

static void half_block(void *arg, int64_t begin, int64_t end)
{
    half_pool_t *h = arg;
    const int64_t n = end - begin;
    float *x = gd_cpu_scratch(GD_CPU_SLOT_WORKER, (size_t)(n * (h->n_read + h->n_written)) * sizeof(float));
    if (x == NULL) {
        atomic_store(&h->is_out_of_memory, true);
        return;
    }
    pool_t planes = h->pool;
    planes.n_planes = n;
    planes.x = x;
    planes.y = x + n * h->n_read;
    planes.index = h->pool.index != NULL ? h->pool.index + begin * h->pool.out_height * h->pool.out_width : NULL;
    half_read((const uint16_t *)h->pool.x + begin * h->n_read, h->dtype, x, n * h->n_read);
    h->f32(&planes, 0, n);
    half_write(planes.y, h->dtype, (uint16_t *)h->pool.y + begin * h->n_written, n * h->n_written);
}

/* is_backward: x is the pooled plane, y the full one. */
static status_t pool_run(const pool_t *p, const gd_kernel_args_t *args, const char *name, bool is_backward,
                         gd_cpu_body_func_t f32, gd_cpu_body_func_t f64)
{
    const int32_t dtype = args->in[0].dtype;
    const int64_t n_full = p->height * p->width, n_pooled = p->out_height * p->out_width;
    half_pool_t half = {.pool = *p,
                        .f32 = f32,
                        .dtype = dtype,
                        .n_read = is_backward ? n_pooled : n_full,
                        .n_written = is_backward ? n_full : n_pooled};
    switch (dtype) {
    case GD_DTYPE_F32:
        gd_cpu_parallel(args->n_threads, p->n_planes, PLANES_PER_BLOCK, f32, &half.pool);
        return ST_OK;
    case GD_DTYPE_F64:
        gd_cpu_parallel(args->n_threads, p->n_planes, PLANES_PER_BLOCK, f64, &half.pool);
        return ST_OK;
    case GD_DTYPE_BF16:
    case GD_DTYPE_F16:
        gd_cpu_parallel(args->n_threads, p->n_planes, PLANES_PER_BLOCK, half_block, &half);
        return !atomic_load(&half.is_out_of_memory)
                   ? ST_OK
                   : ST_FAIL(ST_ERR_NOMEM, "%s: scratch memory for planes of %lld", name, (long long)n_full);
    default:
        return gd_cpu_fail_dtype(name, dtype);
    }
}

static bool is_two_by_two(const pool_t *p)
{
    return p->kernel[0] == 2 && p->kernel[1] == 2 && p->stride[0] == 2 && p->stride[1] == 2 && p->padding[0] == 0 &&
           p->padding[1] == 0;
}

/* Rows and columns [from, to) of the plane that window (i, j) covers. */
typedef struct window {
    int64_t row, row_end, column, column_end;
} window_t;

static window_t window_get(const pool_t *p, int64_t i, int64_t j)
{
    const int64_t row = i * p->stride[0] - p->padding[0];
    const int64_t column = j * p->stride[1] - p->padding[1];
    return (window_t){
        .row = row > 0 ? row : 0,
        .row_end = row + p->kernel[0] < p->height ? row + p->kernel[0] : p->height,
        .column = column > 0 ? column : 0,
        .column_end = column + p->kernel[1] < p->width ? column + p->kernel[1] : p->width,
    };
}

/* One output of a 2 × 2 window: the first of equal maxima, a NaN before all. */
static inline void max_of_four(const float *top, const float *low, int32_t at, int32_t width, float *y, int32_t *index)
{
    const float value[4] = {top[0], top[1], low[0], low[1]};
    const int32_t place[4] = {at, at + 1, at + width, at + width + 1};
    float most = value[0];
    int32_t first = place[0];
    for (int i = 1; i < 4; i++) {
        const int is_larger = (value[i] > most) | (value[i] != value[i]);
        most = is_larger ? value[i] : most;
        first = is_larger ? place[i] : first;
    }
    *y = most;
    *index = first;
}

/* Vectors of outputs; their width is chosen by the row's, since images shrink to few columns. */
#define DEFINE_MAX_LANES(name_x, n_x, even_x, odd_x, count_x)                                                          \
    typedef float name_x##_f32_t __attribute__((vector_size(4 * (n_x)), aligned(4), may_alias));                       \
    typedef int32_t name_x##_i32_t __attribute__((vector_size(4 * (n_x)), aligned(4), may_alias));                     \
    static inline void name_x(const float *top, const float *low, int32_t at, int32_t width, float *y, int32_t *index) \
    {                                                                                                                  \
        const name_x##_f32_t *p = (const name_x##_f32_t *)(const void *)top;                                           \
        const name_x##_f32_t *q = (const name_x##_f32_t *)(const void *)low;                                           \
        const name_x##_i32_t count = {count_x};                                                                        \
        const name_x##_i32_t base = at + 2 * count;                                                                    \
        const name_x##_i32_t place[3] = {base + 1, base + width, base + width + 1};                                    \
        const name_x##_f32_t other[3] = {__builtin_shufflevector(p[0], p[1], odd_x),                                   \
                                         __builtin_shufflevector(q[0], q[1], even_x),                                  \
                                         __builtin_shufflevector(q[0], q[1], odd_x)};                                  \
        name_x##_f32_t most = __builtin_shufflevector(p[0], p[1], even_x);                                             \
        name_x##_i32_t first = base;                                                                                   \
        for (int i = 0; i < 3; i++) {                                                                                  \
            const name_x##_i32_t is_larger =                                                                           \
                (name_x##_i32_t)(other[i] > most) | (name_x##_i32_t)(other[i] != other[i]);                            \
            most = (name_x##_f32_t)(((name_x##_i32_t)other[i] & is_larger) | ((name_x##_i32_t)most & ~is_larger));     \
            first = (place[i] & is_larger) | (first & ~is_larger);                                                     \
        }                                                                                                              \
        *(name_x##_f32_t *)(void *)y = most;                                                                           \
        *(name_x##_i32_t *)(void *)index = first;                                                                      \
    }
#define LIST(...) __VA_ARGS__
DEFINE_MAX_LANES(max_of_four_4, 4, LIST(0, 2, 4, 6), LIST(1, 3, 5, 7), LIST(0, 1, 2, 3))
DEFINE_MAX_LANES(max_of_four_8, 8, LIST(0, 2, 4, 6, 8, 10, 12, 14), LIST(1, 3, 5, 7, 9, 11, 13, 15),
                 LIST(0, 1, 2, 3, 4, 5, 6, 7))

/* The last vector of a row goes back over outputs that are done already rather than past the row's end. */
static void max_two_by_two(const pool_t *p, const float *x, float *y, int32_t *index)
{
    const int32_t width = (int32_t)p->width;
    const int64_t n = p->out_width;
    const int64_t lanes = n >= 8 ? 8 : n >= 4 ? 4 : 1;
    for (int64_t i = 0; i < p->out_height; i++) {
        const float *top = x + 2 * i * p->width;
        const float *low = top + p->width;
        float *y_row = y + i * n;
        int32_t *index_row = index + i * n;
        const int32_t first = (int32_t)(2 * i) * width;
        for (int64_t j = 0; j < n; j += lanes) {
            const int64_t k = j + lanes <= n ? j : n - lanes;
            const int32_t at = first + 2 * (int32_t)k;
            if (lanes == 8) {
                max_of_four_8(top + 2 * k, low + 2 * k, at, width, y_row + k, index_row + k);
            } else if (lanes == 4) {
                max_of_four_4(top + 2 * k, low + 2 * k, at, width, y_row + k, index_row + k);
            } else {
                max_of_four(top + 2 * k, low + 2 * k, at, width, y_row + k, index_row + k);
            }
        }
    }
}

/* Defines name_x(arg, begin, end): the maxima of planes [begin, end), whatever the window. */
#define DEFINE_MAX_PLANES(name_x, type_x)                                                                              \
    static void name_x(const pool_t *p, int64_t begin, int64_t end)                                                    \
    {                                                                                                                  \
        const int64_t n_out = p->out_height * p->out_width;                                                            \
        for (int64_t plane = begin; plane < end; plane++) {                                                            \
            const type_x *x = (const type_x *)p->x + plane * p->height * p->width;                                     \
            for (int64_t i = 0; i < n_out; i++) {                                                                      \
                const window_t w = window_get(p, i / p->out_width, i % p->out_width);                                  \
                int64_t at = w.row * p->width + w.column;                                                              \
                type_x most = x[at];                                                                                   \
                for (int64_t row = w.row; row < w.row_end; row++) {                                                    \
                    for (int64_t k = row * p->width + w.column; k < row * p->width + w.column_end; k++) {              \
                        if (x[k] > most || x[k] != x[k]) {                                                             \
                            most = x[k];                                                                               \
                            at = k;                                                                                    \
                        }                                                                                              \
                    }                                                                                                  \
                }                                                                                                      \
                ((type_x *)p->y)[plane * n_out + i] = most;                                                            \
                p->index[plane * n_out + i] = (int32_t)at;                                                             \
            }                                                                                                          \
        }                                                                                                              \
    }
DEFINE_MAX_PLANES(max_planes_f32, float)
DEFINE_MAX_PLANES(max_planes_f64, double)

static void max_block_f32(void *arg, int64_t begin, int64_t end)
{
    const pool_t *p = arg;
    if (!is_two_by_two(p)) {
        max_planes_f32(p, begin, end);
        return;
    }
    const int64_t n_out = p->out_height * p->out_width;
    for (int64_t plane = begin; plane < end; plane++) {
        max_two_by_two(p, (const float *)p->x + plane * p->height * p->width, (float *)p->y + plane * n_out,
                       p->index + plane * n_out);
    }
}

static void max_block_f64(void *arg, int64_t begin, int64_t end)
{
    max_planes_f64(arg, begin, end);
}

/* in: x[B,C,H,W]; out: y[B,C,OH,OW], index[B,C,OH,OW] (i32). */
CPU_KERNEL(max_pool2d)
{
    pool_t p = pool_init(&args->in[0], &args->out[0], args->attrs);
    p.x = args->in[0].data;
    p.y = args->out[0].data;
    p.index = args->out[1].data;
    return pool_run(&p, args, "max_pool2d", false, max_block_f32, max_block_f64);
}

/* Defines name_x(arg, begin, end): dx of planes [begin, end): dy goes where the maximum was. */
#define DEFINE_MAX_BACKWARD(name_x, type_x)                                                                            \
    static void name_x(void *arg, int64_t begin, int64_t end)                                                          \
    {                                                                                                                  \
        const pool_t *p = arg;                                                                                         \
        const int64_t n = p->height * p->width, n_out = p->out_height * p->out_width;                                  \
        memset((type_x *)p->y + begin * n, 0, (size_t)((end - begin) * n) * sizeof(type_x));                           \
        for (int64_t plane = begin; plane < end; plane++) {                                                            \
            const type_x *dy = (const type_x *)p->x + plane * n_out;                                                   \
            type_x *dx = (type_x *)p->y + plane * n;                                                                   \
            for (int64_t i = 0; i < n_out; i++) {                                                                      \
                dx[p->index[plane * n_out + i]] += dy[i];                                                              \
            }                                                                                                          \
        }                                                                                                              \
    }
DEFINE_MAX_BACKWARD(max_backward_f32, float)
DEFINE_MAX_BACKWARD(max_backward_f64, double)

/* in: dy[B,C,OH,OW], index[B,C,OH,OW]; out: dx[B,C,H,W]. */
CPU_KERNEL(max_pool2d_backward)
{
    pool_t p = pool_init(&args->out[0], &args->in[0], args->attrs);
    p.x = args->in[0].data;
    p.y = args->out[0].data;
    p.index = args->in[1].data;
    const int64_t n = gd_view_numel(&args->in[1]);
    int is_bad = 0;
    for (int64_t i = 0; i < n; i++) {
        is_bad |= (p.index[i] < 0) | (p.index[i] >= p.height * p.width);
    }
    if (is_bad != 0) {
        return ST_FAIL(ST_ERR_DATA, "max_pool2d_backward: a position is outside the plane of %lld × %lld",
                       (long long)p.height, (long long)p.width);
    }
    return pool_run(&p, args, "max_pool2d_backward", true, max_backward_f32, max_backward_f64);
}

/* Defines name_x(arg, begin, end): averages of planes [begin, end); padding counts as zeros. */
#define DEFINE_AVG(name_x, type_x)                                                                                     \
    static void name_x(void *arg, int64_t begin, int64_t end)                                                          \
    {                                                                                                                  \
        const pool_t *p = arg;                                                                                         \
        const int64_t n_out = p->out_height * p->out_width;                                                            \
        const type_x factor = (type_x)(1.0 / (double)(p->kernel[0] * p->kernel[1]));                                   \
        for (int64_t plane = begin; plane < end; plane++) {                                                            \
            const type_x *x = (const type_x *)p->x + plane * p->height * p->width;                                     \
            for (int64_t i = 0; i < n_out; i++) {                                                                      \
                const window_t w = window_get(p, i / p->out_width, i % p->out_width);                                  \
                type_x sum = 0;                                                                                        \
                for (int64_t row = w.row; row < w.row_end; row++) {                                                    \
                    for (int64_t k = row * p->width + w.column; k < row * p->width + w.column_end; k++) {              \
                        sum += x[k];                                                                                   \
                    }                                                                                                  \
                }                                                                                                      \
                ((type_x *)p->y)[plane * n_out + i] = sum * factor;                                                    \
            }                                                                                                          \
        }                                                                                                              \
    }
DEFINE_AVG(avg_block_f32, float)
DEFINE_AVG(avg_block_f64, double)

/* in: x[B,C,H,W]; out: y[B,C,OH,OW]. */
CPU_KERNEL(avg_pool2d)
{
    pool_t p = pool_init(&args->in[0], &args->out[0], args->attrs);
    p.x = args->in[0].data;
    p.y = args->out[0].data;
    return pool_run(&p, args, "avg_pool2d", false, avg_block_f32, avg_block_f64);
}

/* Defines name_x(arg, begin, end): dx of planes [begin, end): each window spreads its dy evenly. */
#define DEFINE_AVG_BACKWARD(name_x, type_x)                                                                            \
    static void name_x(void *arg, int64_t begin, int64_t end)                                                          \
    {                                                                                                                  \
        const pool_t *p = arg;                                                                                         \
        const int64_t n = p->height * p->width, n_out = p->out_height * p->out_width;                                  \
        const type_x factor = (type_x)(1.0 / (double)(p->kernel[0] * p->kernel[1]));                                   \
        memset((type_x *)p->y + begin * n, 0, (size_t)((end - begin) * n) * sizeof(type_x));                           \
        for (int64_t plane = begin; plane < end; plane++) {                                                            \
            type_x *dx = (type_x *)p->y + plane * n;                                                                   \
            for (int64_t i = 0; i < n_out; i++) {                                                                      \
                const window_t w = window_get(p, i / p->out_width, i % p->out_width);                                  \
                const type_x share = ((const type_x *)p->x)[plane * n_out + i] * factor;                               \
                for (int64_t row = w.row; row < w.row_end; row++) {                                                    \
                    for (int64_t k = row * p->width + w.column; k < row * p->width + w.column_end; k++) {              \
                        dx[k] += share;                                                                                \
                    }                                                                                                  \
                }                                                                                                      \
            }                                                                                                          \
        }                                                                                                              \
    }
DEFINE_AVG_BACKWARD(avg_backward_f32, float)
DEFINE_AVG_BACKWARD(avg_backward_f64, double)

/* in: dy[B,C,OH,OW]; out: dx[B,C,H,W]. */
CPU_KERNEL(avg_pool2d_backward)
{
    pool_t p = pool_init(&args->out[0], &args->in[0], args->attrs);
    p.x = args->in[0].data;
    p.y = args->out[0].data;
    return pool_run(&p, args, "avg_pool2d_backward", true, avg_backward_f32, avg_backward_f64);
}
