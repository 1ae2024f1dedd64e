/* SPDX-License-Identifier: Apache-2.0 */
/*
 * runs: makes elementwise kernels from an expression. a_ and b_ are the operands, attrs the attributes;
 * DEFINE_BINARY_KERNEL(name, f32 expression, f64 expression) defines CPU_KERNEL(name). The usual strides (1 and 0) get
 * vectorised loops of their own; 16-bit floats go through the f32 expression. y may be one of the inputs, element by
 * element, hence `omp simd`.
 */
#ifndef GRADD_CPU_VEC_RUNS_H
#define GRADD_CPU_VEC_RUNS_H

#include "cpu/map.h"
#include "cpu/vec/half.h"

#define DEFINE_UNARY_RUN(function_x, type_x, expression_x)                                                             \
    static void function_x(const void *a, int64_t sa, const void *b, int64_t sb, void *y, int64_t n,                   \
                           const gd_attrs_t *attrs)                                                                    \
    {                                                                                                                  \
        (void)b;                                                                                                       \
        (void)sb;                                                                                                      \
        (void)attrs;                                                                                                   \
        const type_x *pa = a;                                                                                          \
        type_x *py = y;                                                                                                \
        if (sa == 1) {                                                                                                 \
            _Pragma("omp simd") for (int64_t i = 0; i < n; i++)                                                        \
            {                                                                                                          \
                const type_x a_ = pa[i];                                                                               \
                py[i] = (expression_x);                                                                                \
            }                                                                                                          \
            return;                                                                                                    \
        }                                                                                                              \
        for (int64_t i = 0; i < n; i++) {                                                                              \
            const type_x a_ = pa[i * sa];                                                                              \
            py[i] = (expression_x);                                                                                    \
        }                                                                                                              \
    }

#define DEFINE_BINARY_RUN(function_x, type_x, expression_x)                                                            \
    static void function_x(const void *a, int64_t sa, const void *b, int64_t sb, void *y, int64_t n,                   \
                           const gd_attrs_t *attrs)                                                                    \
    {                                                                                                                  \
        (void)attrs;                                                                                                   \
        const type_x *pa = a;                                                                                          \
        const type_x *pb = b;                                                                                          \
        type_x *py = y;                                                                                                \
        if (sa == 1 && sb == 1) {                                                                                      \
            _Pragma("omp simd") for (int64_t i = 0; i < n; i++)                                                        \
            {                                                                                                          \
                const type_x a_ = pa[i];                                                                               \
                const type_x b_ = pb[i];                                                                               \
                py[i] = (expression_x);                                                                                \
            }                                                                                                          \
        } else if (sa == 1 && sb == 0) {                                                                               \
            const type_x b_ = pb[0];                                                                                   \
            _Pragma("omp simd") for (int64_t i = 0; i < n; i++)                                                        \
            {                                                                                                          \
                const type_x a_ = pa[i];                                                                               \
                py[i] = (expression_x);                                                                                \
            }                                                                                                          \
        } else if (sa == 0 && sb == 1) {                                                                               \
            const type_x a_ = pa[0];                                                                                   \
            _Pragma("omp simd") for (int64_t i = 0; i < n; i++)                                                        \
            {                                                                                                          \
                const type_x b_ = pb[i];                                                                               \
                py[i] = (expression_x);                                                                                \
            }                                                                                                          \
        } else {                                                                                                       \
            for (int64_t i = 0; i < n; i++) {                                                                          \
                const type_x a_ = pa[i * sa];                                                                          \
                const type_x b_ = pb[i * sb];                                                                          \
                py[i] = (expression_x);                                                                                \
            }                                                                                                          \
        }                                                                                                              \
    }

enum { RUN_STRETCH = 256 };

static inline void run_gather(const uint16_t *x, int64_t stride, int32_t dtype, float *y, int64_t n)
{
    if (stride == 1) {
        half_read(x, dtype, y, n);
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        half_read(x + i * stride, dtype, y + i, 1);
    }
}

/* run's f32 loop over 16-bit operands, stretch by stretch. */
static inline void run_half(gd_cpu_run_func_t run, int32_t dtype, const void *a, int64_t sa, const void *b, int64_t sb,
                            void *y, int64_t n, const gd_attrs_t *attrs)
{
    float fa[RUN_STRETCH];
    float fb[RUN_STRETCH];
    float fy[RUN_STRETCH];
    for (int64_t i = 0; i < n; i += RUN_STRETCH) {
        const int64_t length = n - i < RUN_STRETCH ? n - i : RUN_STRETCH;
        run_gather((const uint16_t *)a + i * sa, sa, dtype, fa, sa == 0 ? 1 : length);
        if (b != NULL) {
            run_gather((const uint16_t *)b + i * sb, sb, dtype, fb, sb == 0 ? 1 : length);
        }
        run(fa, sa == 0 ? 0 : 1, b != NULL ? fb : NULL, sb == 0 ? 0 : 1, fy, length, attrs);
        half_write(fy, dtype, (uint16_t *)y + i, length);
    }
}

#define DEFINE_HALF_RUN(function_x, run_x, dtype_x)                                                                    \
    static void function_x(const void *a, int64_t sa, const void *b, int64_t sb, void *y, int64_t n,                   \
                           const gd_attrs_t *attrs)                                                                    \
    {                                                                                                                  \
        run_half(run_x, dtype_x, a, sa, b, sb, y, n, attrs);                                                           \
    }

#define DEFINE_MAP_KERNEL(name_x, n_in_x)                                                                              \
    DEFINE_HALF_RUN(name_x##_run_bf16, name_x##_run_f32, GD_DTYPE_BF16)                                                \
    DEFINE_HALF_RUN(name_x##_run_f16, name_x##_run_f32, GD_DTYPE_F16)                                                  \
    CPU_KERNEL(name_x)                                                                                                 \
    {                                                                                                                  \
        switch (args->out[0].dtype) {                                                                                  \
        case GD_DTYPE_BF16:                                                                                            \
            gd_cpu_map(args, (n_in_x), name_x##_run_bf16);                                                             \
            return ST_OK;                                                                                              \
        case GD_DTYPE_F16:                                                                                             \
            gd_cpu_map(args, (n_in_x), name_x##_run_f16);                                                              \
            return ST_OK;                                                                                              \
        case GD_DTYPE_F32:                                                                                             \
            gd_cpu_map(args, (n_in_x), name_x##_run_f32);                                                              \
            return ST_OK;                                                                                              \
        case GD_DTYPE_F64:                                                                                             \
            gd_cpu_map(args, (n_in_x), name_x##_run_f64);                                                              \
            return ST_OK;                                                                                              \
        default:                                                                                                       \
            return gd_cpu_fail_dtype(#name_x, args->out[0].dtype);                                                     \
        }                                                                                                              \
    }

#define DEFINE_UNARY_KERNEL(name_x, f32_x, f64_x)                                                                      \
    DEFINE_UNARY_RUN(name_x##_run_f32, float, f32_x)                                                                   \
    DEFINE_UNARY_RUN(name_x##_run_f64, double, f64_x)                                                                  \
    CPU_KERNEL(name_x);                                                                                                \
    DEFINE_MAP_KERNEL(name_x, 1)

#define DEFINE_BINARY_KERNEL(name_x, f32_x, f64_x)                                                                     \
    DEFINE_BINARY_RUN(name_x##_run_f32, float, f32_x)                                                                  \
    DEFINE_BINARY_RUN(name_x##_run_f64, double, f64_x)                                                                 \
    CPU_KERNEL(name_x);                                                                                                \
    DEFINE_MAP_KERNEL(name_x, 2)

#endif
