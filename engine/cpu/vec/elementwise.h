/* SPDX-License-Identifier: Apache-2.0 */
/*
 * elementwise: kernels of y = f(a, b) and y = f(x) over all dtypes.
 *
 * An op is computed in one of three types: f32 (for f32, bf16, f16, and for integers where the result is a float), f64
 * or i64 (for all integers and bool; storing wraps, or asks for ≠ 0). Where operands and result have that type already,
 * they are walked as they are; otherwise they are converted a piece at a time (gd_cpu_map_cast).
 */
#ifndef GRADD_CPU_VEC_ELEMENTWISE_H
#define GRADD_CPU_VEC_ELEMENTWISE_H

#include "cpu/vec/kernels.h"

typedef struct elementwise {
    const char *name;
    gd_cpu_run_func_t f32, f64, i64; /* NULL: not in this type */
    int is_bool;                     /* the functions write bytes 0 and 1, whatever they read */
} elementwise_t;

status_t CPU_FN(elementwise)(const gd_kernel_args_t *args, int n_in, const elementwise_t *op);

/* Loops over elements of type in_x; a_ and b_ are the operands, attrs the attributes. y may be an input. */
#define ELEMENTWISE_LOOP(in_x, out_x, get_a_x, get_b_x, expression_x)                                                  \
    _Pragma("omp simd") for (int64_t i = 0; i < n; i++)                                                                \
    {                                                                                                                  \
        const in_x a_ = get_a_x;                                                                                       \
        const in_x b_ = get_b_x;                                                                                       \
        (void)a_;                                                                                                      \
        (void)b_;                                                                                                      \
        py[i] = (out_x)(expression_x);                                                                                 \
    }

#define UNARY_RUN(function_x, in_x, out_x, expression_x)                                                               \
    static void function_x(const void *a, int64_t sa, const void *b, int64_t sb, void *y, int64_t n,                   \
                           const gd_attrs_t *attrs)                                                                    \
    {                                                                                                                  \
        (void)b;                                                                                                       \
        (void)sb;                                                                                                      \
        (void)attrs;                                                                                                   \
        const in_x *pa = a;                                                                                            \
        out_x *py = y;                                                                                                 \
        if (sa == 1) {                                                                                                 \
            ELEMENTWISE_LOOP(in_x, out_x, pa[i], 0, expression_x)                                                      \
        } else {                                                                                                       \
            ELEMENTWISE_LOOP(in_x, out_x, pa[i * sa], 0, expression_x)                                                 \
        }                                                                                                              \
    }

#define BINARY_RUN(function_x, in_x, out_x, expression_x)                                                              \
    static void function_x(const void *a, int64_t sa, const void *b, int64_t sb, void *y, int64_t n,                   \
                           const gd_attrs_t *attrs)                                                                    \
    {                                                                                                                  \
        (void)attrs;                                                                                                   \
        const in_x *pa = a;                                                                                            \
        const in_x *pb = b;                                                                                            \
        out_x *py = y;                                                                                                 \
        if (sa == 1 && sb == 1) {                                                                                      \
            ELEMENTWISE_LOOP(in_x, out_x, pa[i], pb[i], expression_x)                                                  \
        } else if (sa == 1 && sb == 0) {                                                                               \
            const in_x one = pb[0];                                                                                    \
            ELEMENTWISE_LOOP(in_x, out_x, pa[i], one, expression_x)                                                    \
        } else if (sa == 0 && sb == 1) {                                                                               \
            const in_x one = pa[0];                                                                                    \
            ELEMENTWISE_LOOP(in_x, out_x, one, pb[i], expression_x)                                                    \
        } else {                                                                                                       \
            ELEMENTWISE_LOOP(in_x, out_x, pa[i * sa], pb[i * sb], expression_x)                                        \
        }                                                                                                              \
    }

#define ELEMENTWISE_KERNEL(name_x, n_in_x, i64_x, is_bool_x)                                                           \
    CPU_KERNEL(name_x)                                                                                                 \
    {                                                                                                                  \
        static const elementwise_t op = {#name_x, name_x##_run_f32, name_x##_run_f64, i64_x, is_bool_x};               \
        return CPU_FN(elementwise)(args, n_in_x, &op);                                                                 \
    }

/* Expressions in f32, f64 and i64. */
#define UNARY_KERNEL(name_x, f32_x, f64_x, i64_x)                                                                      \
    UNARY_RUN(name_x##_run_f32, float, float, f32_x)                                                                   \
    UNARY_RUN(name_x##_run_f64, double, double, f64_x)                                                                 \
    UNARY_RUN(name_x##_run_i64, int64_t, int64_t, i64_x)                                                               \
    ELEMENTWISE_KERNEL(name_x, 1, name_x##_run_i64, 0)

#define BINARY_KERNEL(name_x, f32_x, f64_x, i64_x)                                                                     \
    BINARY_RUN(name_x##_run_f32, float, float, f32_x)                                                                  \
    BINARY_RUN(name_x##_run_f64, double, double, f64_x)                                                                \
    BINARY_RUN(name_x##_run_i64, int64_t, int64_t, i64_x)                                                              \
    ELEMENTWISE_KERNEL(name_x, 2, name_x##_run_i64, 0)

/* Those whose result is a float. */
#define UNARY_FLOAT_KERNEL(name_x, f32_x, f64_x)                                                                       \
    UNARY_RUN(name_x##_run_f32, float, float, f32_x)                                                                   \
    UNARY_RUN(name_x##_run_f64, double, double, f64_x)                                                                 \
    ELEMENTWISE_KERNEL(name_x, 1, NULL, 0)

#define BINARY_FLOAT_KERNEL(name_x, f32_x, f64_x)                                                                      \
    BINARY_RUN(name_x##_run_f32, float, float, f32_x)                                                                  \
    BINARY_RUN(name_x##_run_f64, double, double, f64_x)                                                                \
    ELEMENTWISE_KERNEL(name_x, 2, NULL, 0)

/* Those whose result is a bool: one expression for all types. */
#define UNARY_BOOL_KERNEL(name_x, float_x, i64_x)                                                                      \
    UNARY_RUN(name_x##_run_f32, float, uint8_t, float_x)                                                               \
    UNARY_RUN(name_x##_run_f64, double, uint8_t, float_x)                                                              \
    UNARY_RUN(name_x##_run_i64, int64_t, uint8_t, i64_x)                                                               \
    ELEMENTWISE_KERNEL(name_x, 1, name_x##_run_i64, 1)

#define BINARY_BOOL_KERNEL(name_x, expression_x)                                                                       \
    BINARY_RUN(name_x##_run_f32, float, uint8_t, expression_x)                                                         \
    BINARY_RUN(name_x##_run_f64, double, uint8_t, expression_x)                                                        \
    BINARY_RUN(name_x##_run_i64, int64_t, uint8_t, expression_x)                                                       \
    ELEMENTWISE_KERNEL(name_x, 2, name_x##_run_i64, 1)

/* Arithmetic of i64 that wraps. */
static inline int64_t wrap_add(int64_t a, int64_t b)
{
    return (int64_t)((uint64_t)a + (uint64_t)b);
}

static inline int64_t wrap_sub(int64_t a, int64_t b)
{
    return (int64_t)((uint64_t)a - (uint64_t)b);
}

static inline int64_t wrap_mul(int64_t a, int64_t b)
{
    return (int64_t)((uint64_t)a * (uint64_t)b);
}

#endif
