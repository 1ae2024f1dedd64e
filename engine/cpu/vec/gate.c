/* SPDX-License-Identifier: Apache-2.0 */
/* gate: activations with a second operand: glu, whose halves lie side by side along one axis, and prelu, whose slope
 * is learnt. */
#include <string.h>

#include "cpu/map.h"
#include "cpu/vec/kernels.h"
#include "cpu/vec/vecmath.h"

static inline double sigmoid_f64(double x)
{
    return 1.0 / (1.0 + exp(-x));
}

/* x[outer][2][half] → y[outer][half] */
typedef struct glu {
    int64_t half;
    const void *x;
    const void *dy;
    void *y; /* backward: dx */
} glu_t;

static glu_t glu_init(const gd_view_t *x, int axis)
{
    glu_t g = {.half = x->shape[axis] / 2, .x = x->data};
    for (int d = axis + 1; d < x->n_dims; d++) {
        g.half *= x->shape[d];
    }
    return g;
}

/* Elements [begin, end) of y: stretches that don't cross an outer index. y = a sigmoid(b); da = dy s, db = dy a s (1-s)
 */
#define DEFINE_GLU(forward_x, backward_x, type_x, sigmoid_x)                                                           \
    static void forward_x(void *arg, int64_t begin, int64_t end)                                                       \
    {                                                                                                                  \
        const glu_t *g = arg;                                                                                          \
        while (begin < end) {                                                                                          \
            const int64_t outer = begin / g->half, at = begin % g->half;                                               \
            const int64_t n = end - begin < g->half - at ? end - begin : g->half - at;                                 \
            const type_x *a = (const type_x *)g->x + outer * 2 * g->half + at;                                         \
            const type_x *b = a + g->half;                                                                             \
            type_x *y = (type_x *)g->y + begin;                                                                        \
            _Pragma("omp simd") for (int64_t i = 0; i < n; i++)                                                        \
            {                                                                                                          \
                y[i] = a[i] * sigmoid_x(b[i]);                                                                         \
            }                                                                                                          \
            begin += n;                                                                                                \
        }                                                                                                              \
    }                                                                                                                  \
    static void backward_x(void *arg, int64_t begin, int64_t end)                                                      \
    {                                                                                                                  \
        const glu_t *g = arg;                                                                                          \
        while (begin < end) {                                                                                          \
            const int64_t outer = begin / g->half, at = begin % g->half;                                               \
            const int64_t n = end - begin < g->half - at ? end - begin : g->half - at;                                 \
            const type_x *a = (const type_x *)g->x + outer * 2 * g->half + at;                                         \
            const type_x *b = a + g->half;                                                                             \
            const type_x *dy = (const type_x *)g->dy + begin;                                                          \
            type_x *da = (type_x *)g->y + outer * 2 * g->half + at;                                                    \
            type_x *db = da + g->half;                                                                                 \
            _Pragma("omp simd") for (int64_t i = 0; i < n; i++)                                                        \
            {                                                                                                          \
                const type_x s = sigmoid_x(b[i]);                                                                      \
                da[i] = dy[i] * s;                                                                                     \
                db[i] = dy[i] * a[i] * s * (1 - s);                                                                    \
            }                                                                                                          \
            begin += n;                                                                                                \
        }                                                                                                              \
    }
DEFINE_GLU(glu_f32, glu_backward_f32, float, vec_sigmoid)
DEFINE_GLU(glu_f64, glu_backward_f64, double, sigmoid_f64)

/* in: x[…,2n,…]; out: y[…,n,…]. attrs: i0 axis. */
CPU_KERNEL(glu)
{
    glu_t g = glu_init(&args->in[0], (int)args->attrs->i[0]);
    const int64_t n = gd_view_numel(&args->out[0]);
    g.y = args->out[0].data;
    return gd_cpu_parallel_real("glu", args->in[0].dtype, args->n_threads, n, GD_CPU_MAP_GRAIN,
                                (gd_cpu_bodies_t){glu_f32, glu_f64}, &g);
}

/* in: dy[…,n,…], x[…,2n,…]; out: dx[…,2n,…]. */
CPU_KERNEL(glu_backward)
{
    glu_t g = glu_init(&args->in[1], (int)args->attrs->i[0]);
    const int64_t n = gd_view_numel(&args->in[0]);
    g.dy = args->in[0].data;
    g.y = args->out[0].data;
    return gd_cpu_parallel_real("glu_backward", args->in[1].dtype, args->n_threads, n, GD_CPU_MAP_GRAIN,
                                (gd_cpu_bodies_t){glu_backward_f32, glu_backward_f64}, &g);
}

/*
 * x as [rows][n] with one slope a row: each (sample, channel) its own row; with one slope for all, rows are blocks of a
 * fixed size, and with as many slopes as a sample has elements ([B,C]) n = 1.
 */
typedef struct prelu {
    int64_t rows, n, numel, n_weights;
    const void *x, *dy, *weight;
    void *y;       /* backward: dx */
    void *partial; /* backward: [rows] */
} prelu_t;

static prelu_t prelu_init(const gd_view_t *x, const gd_view_t *weight)
{
    prelu_t p = {.numel = gd_view_numel(x), .n_weights = gd_view_numel(weight), .n = GD_CPU_MAP_GRAIN};
    if (p.n_weights > 1) {
        p.n = 1;
        for (int d = 2; d < x->n_dims; d++) {
            p.n *= x->shape[d];
        }
    }
    p.rows = p.n > 0 ? gd_cpu_n_blocks(p.numel, p.n) : 0;
    p.x = x->data;
    p.weight = weight->data;
    return p;
}

/* Rows [begin, end). dx = dy where x > 0, else w dy; partial = sum of dy x where x ≤ 0 */
#define DEFINE_PRELU(forward_x, backward_x, reduce_x, type_x)                                                          \
    static void forward_x(void *arg, int64_t begin, int64_t end)                                                       \
    {                                                                                                                  \
        const prelu_t *p = arg;                                                                                        \
        for (int64_t row = begin; row < end; row++) {                                                                  \
            const int64_t n = p->numel - row * p->n < p->n ? p->numel - row * p->n : p->n;                             \
            const type_x *x = (const type_x *)p->x + row * p->n;                                                       \
            type_x *y = (type_x *)p->y + row * p->n;                                                                   \
            const type_x w = ((const type_x *)p->weight)[p->n_weights > 1 ? row % p->n_weights : 0];                   \
            _Pragma("omp simd") for (int64_t i = 0; i < n; i++)                                                        \
            {                                                                                                          \
                y[i] = x[i] > 0 ? x[i] : w * x[i];                                                                     \
            }                                                                                                          \
        }                                                                                                              \
    }                                                                                                                  \
    static void backward_x(void *arg, int64_t begin, int64_t end)                                                      \
    {                                                                                                                  \
        const prelu_t *p = arg;                                                                                        \
        for (int64_t row = begin; row < end; row++) {                                                                  \
            const int64_t n = p->numel - row * p->n < p->n ? p->numel - row * p->n : p->n;                             \
            const type_x *x = (const type_x *)p->x + row * p->n;                                                       \
            const type_x *dy = (const type_x *)p->dy + row * p->n;                                                     \
            type_x *dx = (type_x *)p->y + row * p->n;                                                                  \
            const type_x w = ((const type_x *)p->weight)[p->n_weights > 1 ? row % p->n_weights : 0];                   \
            type_x sum = 0;                                                                                            \
            _Pragma("omp simd reduction(+ : sum)") for (int64_t i = 0; i < n; i++)                                     \
            {                                                                                                          \
                dx[i] = x[i] > 0 ? dy[i] : w * dy[i];                                                                  \
                sum += x[i] > 0 ? (type_x)0 : dy[i] * x[i];                                                            \
            }                                                                                                          \
            ((type_x *)p->partial)[row] = sum;                                                                         \
        }                                                                                                              \
    }                                                                                                                  \
    static void reduce_x(const prelu_t *p, type_x *dweight)                                                            \
    {                                                                                                                  \
        memset(dweight, 0, (size_t)p->n_weights * sizeof(type_x));                                                     \
        for (int64_t row = 0; row < p->rows; row += p->n_weights) {                                                    \
            for (int64_t c = 0; c < p->n_weights; c++) {                                                               \
                dweight[c] += ((const type_x *)p->partial)[row + c];                                                   \
            }                                                                                                          \
        }                                                                                                              \
    }
DEFINE_PRELU(prelu_f32, prelu_backward_f32, prelu_reduce_f32, float)
DEFINE_PRELU(prelu_f64, prelu_backward_f64, prelu_reduce_f64, double)

/* Rows a block: about GD_CPU_MAP_GRAIN elements. */
/* in: x[B,C,…], weight[1 or C]; out: y. */
CPU_KERNEL(prelu)
{
    prelu_t p = prelu_init(&args->in[0], &args->in[1]);
    p.y = args->out[0].data;
    return gd_cpu_parallel_real("prelu", args->in[0].dtype, args->n_threads, p.rows, gd_cpu_map_planes(p.n),
                                (gd_cpu_bodies_t){prelu_f32, prelu_f64}, &p);
}

/* in: dy, x[B,C,…], weight[1 or C]; out: dx, dweight. */
CPU_KERNEL(prelu_backward)
{
    const bool is_f32 = args->in[1].dtype == GD_DTYPE_F32;
    if (!is_f32 && args->in[1].dtype != GD_DTYPE_F64) {
        return gd_cpu_fail_dtype("prelu_backward", args->in[1].dtype);
    }
    prelu_t p = prelu_init(&args->in[1], &args->in[2]);
    p.dy = args->in[0].data;
    p.y = args->out[0].data;
    p.partial = gd_cpu_scratch(GD_CPU_SLOT_KERNEL, (size_t)(p.rows + 1) * sizeof(double));
    if (p.partial == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "prelu_backward: partial sums of %lld rows", (long long)p.rows);
    }
    gd_cpu_parallel(args->n_threads, p.rows, gd_cpu_map_planes(p.n), is_f32 ? prelu_backward_f32 : prelu_backward_f64,
                    &p);
    if (is_f32) {
        prelu_reduce_f32(&p, args->out[1].data);
    } else {
        prelu_reduce_f64(&p, args->out[1].data);
    }
    return ST_OK;
}
