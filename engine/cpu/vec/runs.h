/* SPDX-License-Identifier: Apache-2.0 */
/*
 * runs: makes elementwise kernels from an expression. a_ and b_ are the operands, attrs the attributes;
 * DEFINE_BINARY_KERNEL(name, f32 expression, f64 expression) defines CPU_KERNEL(name). The usual strides (1 and 0) get
 * vectorised loops of their own. y may be one of the inputs, element by element, hence `omp simd`.
 */
#ifndef GRADD_CPU_VEC_RUNS_H
#define GRADD_CPU_VEC_RUNS_H

#include "cpu/map.h"

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

#define DEFINE_MAP_KERNEL(name_x, n_in_x)                                                                              \
    CPU_KERNEL(name_x)                                                                                                 \
    {                                                                                                                  \
        switch (args->out[0].dtype) {                                                                                  \
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
