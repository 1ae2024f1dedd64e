/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gelu: rows in engine/ops/gelu.c and activation.c. Value and slope share exp and the distribution function; gelu,
 * which wants the value only, goes through the same loop, so that its bits are the same with a graph and without one (a
 * checkpointed segment runs both ways).
 */
#include "cpu/map.h"
#include "cpu/vec/kernels.h"
#include "cpu/vec/pointwise.h"
#include "cpu/vec/runs.h"

enum { GELU_CHUNK = 512, GELU_PART = 16, AHEAD_BYTES = 1024 };

typedef struct gelu {
    const void *x;
    void *y;
    void *slope;
} gelu_t;

/*
 * Two results to one operand: what will be written is fetched ahead as such, across the ends of pages, where the
 * processor's own fetching stops. Addresses past the end do nothing: hence numbers, not pointers.
 */
static inline void gelu_fetch(const void *x, const void *y, const void *slope)
{
    __builtin_prefetch((const void *)((uintptr_t)x + AHEAD_BYTES), 0, 3);     /* NOLINT(performance-no-int-to-ptr) */
    __builtin_prefetch((const void *)((uintptr_t)y + AHEAD_BYTES), 1, 3);     /* NOLINT(performance-no-int-to-ptr) */
    __builtin_prefetch((const void *)((uintptr_t)slope + AHEAD_BYTES), 1, 3); /* NOLINT(performance-no-int-to-ptr) */
}

/*
 * name_x_pair_*: y[n] and slope[n] of x[n], y may be x. name_x_run_*: as gd_cpu_map wants it, a chunk at a time.
 * name_x_block_*: a block of gelu_with_slope.
 */
#define DEFINE_GELU(name_x, suffix_x, type_x, value_x, slope_x)                                                        \
    static inline __attribute__((always_inline)) void name_x##_part_##suffix_x(const type_x *x, type_x *y,             \
                                                                               type_x *slope, int64_t n)               \
    {                                                                                                                  \
        _Pragma("omp simd") for (int64_t i = 0; i < n; i++)                                                            \
        {                                                                                                              \
            const type_x x_ = x[i];                                                                                    \
            y[i] = (value_x);                                                                                          \
            slope[i] = (slope_x);                                                                                      \
        }                                                                                                              \
    }                                                                                                                  \
    static                                                                                                             \
        __attribute__((noinline)) void name_x##_pair_##suffix_x(const type_x *x, type_x *y, type_x *slope, int64_t n)  \
    {                                                                                                                  \
        int64_t i = 0;                                                                                                 \
        for (; i + GELU_PART <= n; i += GELU_PART) {                                                                   \
            gelu_fetch(x + i, y + i, slope + i);                                                                       \
            name_x##_part_##suffix_x(x + i, y + i, slope + i, GELU_PART);                                              \
        }                                                                                                              \
        name_x##_part_##suffix_x(x + i, y + i, slope + i, n - i);                                                      \
    }                                                                                                                  \
    static void name_x##_run_##suffix_x(const void *a, int64_t sa, const void *b, int64_t sb, void *y, int64_t n,      \
                                        const gd_attrs_t *attrs)                                                       \
    {                                                                                                                  \
        (void)b;                                                                                                       \
        (void)sb;                                                                                                      \
        (void)attrs;                                                                                                   \
        type_x slope[GELU_CHUNK];                                                                                      \
        type_x copy[GELU_CHUNK];                                                                                       \
        for (int64_t begin = 0; begin < n; begin += GELU_CHUNK) {                                                      \
            const int64_t length = n - begin < GELU_CHUNK ? n - begin : GELU_CHUNK;                                    \
            const type_x *x = (const type_x *)a + begin * sa;                                                          \
            for (int64_t i = 0; sa != 1 && i < length; i++) {                                                          \
                copy[i] = x[i * sa];                                                                                   \
            }                                                                                                          \
            name_x##_pair_##suffix_x(sa == 1 ? x : copy, (type_x *)y + begin, slope, length);                          \
        }                                                                                                              \
    }                                                                                                                  \
    static void name_x##_block_##suffix_x(void *arg, int64_t begin, int64_t end)                                       \
    {                                                                                                                  \
        const gelu_t *g = arg;                                                                                         \
        name_x##_pair_##suffix_x((const type_x *)g->x + begin, (type_x *)g->y + begin, (type_x *)g->slope + begin,     \
                                 end - begin);                                                                         \
    }

DEFINE_GELU(gelu_exact, f32, float, gelu_exact(x_), gelu_exact_derivative(x_))
DEFINE_GELU(gelu_exact, f64, double, gelu_exact_f64(x_), gelu_exact_derivative_f64(x_))
DEFINE_GELU(gelu_tanh, f32, float, gelu_tanh(x_), gelu_tanh_derivative(x_))
DEFINE_GELU(gelu_tanh, f64, double, gelu_tanh_f64(x_), gelu_tanh_derivative_f64(x_))
CPU_KERNEL(gelu_exact);
CPU_KERNEL(gelu_tanh);
DEFINE_MAP_KERNEL(gelu_exact, 1)
DEFINE_MAP_KERNEL(gelu_tanh, 1)

CPU_KERNEL(gelu)
{
    return args->attrs->i[0] != 0 ? CPU_FN(gelu_tanh)(args) : CPU_FN(gelu_exact)(args);
}

/* in: x; out: y, slope. attrs: i0 tanh approximation. */
CPU_KERNEL(gelu_with_slope)
{
    static const gd_cpu_body_func_t blocks[2][2] = {{gelu_exact_block_f32, gelu_tanh_block_f32},
                                                    {gelu_exact_block_f64, gelu_tanh_block_f64}};
    const gd_view_t *x = &args->in[0];
    gelu_t g = {.x = x->data, .y = args->out[0].data, .slope = args->out[1].data};
    if (x->dtype != GD_DTYPE_F32 && x->dtype != GD_DTYPE_F64) {
        return gd_cpu_fail_dtype("gelu_with_slope", x->dtype);
    }
    gd_cpu_parallel(args->n_threads, gd_view_numel(x), GD_CPU_MAP_GRAIN,
                    blocks[x->dtype == GD_DTYPE_F64][args->attrs->i[0] != 0], &g);
    return ST_OK;
}
