/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pointwise: functions of one, two and three operands, element by element, in all dtypes. Part of gradd/ops.h.
 *
 * Operands of binary functions broadcast, and their dtypes are promoted, by PyTorch's rules (gd_dtype_result): the
 * result has the common dtype, unless it is said to be a float or a bool. bf16 and f16 are computed in f32 and rounded
 * once; integers wrap. Where the result is a float, integers and bool give f32. Gradients come back in each operand's
 * own dtype, summed over the axes along which it was broadcast.
 * Errors: ST_ERR_SHAPE names both shapes; ST_ERR_UNSUPPORTED where a function has no meaning for a dtype (bool - bool);
 * ST_ERR_DATA for an integer's remainder by zero.
 */
#ifndef GRADD_POINTWISE_H
#define GRADD_POINTWISE_H

#include "gradd/tensor.h"

/* X(name): status_t gd_<name>(gd_tensor_t *x, gd_tensor_t **y_p) */
#define GD_UNARY_LIST(X)                                                                                               \
    X(abs)                                                                                                             \
    X(sign)                                                                                                            \
    X(square)                                                                                                          \
    X(floor)                                                                                                           \
    X(ceil)                                                                                                            \
    X(round) /* half to even */                                                                                        \
    X(trunc)                                                                                                           \
    /* the result is a float */                                                                                        \
    X(sin)                                                                                                             \
    X(cos)                                                                                                             \
    X(tan)                                                                                                             \
    X(exp2)                                                                                                            \
    X(expm1)                                                                                                           \
    X(log1p)                                                                                                           \
    X(log2)                                                                                                            \
    X(log10)                                                                                                           \
    X(erf)                                                                                                             \
    X(rsqrt)                                                                                                           \
    X(reciprocal)                                                                                                      \
    /* the result is a bool */                                                                                         \
    X(isnan)                                                                                                           \
    X(isinf)                                                                                                           \
    X(isfinite)                                                                                                        \
    X(logical_not)

/* X(name): status_t gd_<name>(gd_tensor_t *a, gd_tensor_t *b, gd_tensor_t **y_p) */
#define GD_BINARY_LIST(X)                                                                                              \
    X(maximum) /* a NaN in either operand is the result; equal operands share the gradient */                          \
    X(minimum)                                                                                                         \
    X(power)     /* a^b */                                                                                             \
    X(fmod)      /* the dividend's sign, as C */                                                                       \
    X(remainder) /* the divisor's sign, as Python */                                                                   \
    X(atan2)     /* a float */                                                                                         \
    /* the result is a bool; operands are compared in their common dtype */                                            \
    X(eq)                                                                                                              \
    X(ne)                                                                                                              \
    X(lt)                                                                                                              \
    X(le)                                                                                                              \
    X(gt)                                                                                                              \
    X(ge)                                                                                                              \
    X(logical_and)                                                                                                     \
    X(logical_or)                                                                                                      \
    X(logical_xor)

#define GD_UNARY_DECLARE(name_x) status_t gd_##name_x(gd_tensor_t *x, gd_tensor_t **y_p);
GD_UNARY_LIST(GD_UNARY_DECLARE)
#undef GD_UNARY_DECLARE
#define GD_BINARY_DECLARE(name_x) status_t gd_##name_x(gd_tensor_t *a, gd_tensor_t *b, gd_tensor_t **y_p);
GD_BINARY_LIST(GD_BINARY_DECLARE)
#undef GD_BINARY_DECLARE

/* A C number as an operand. It doesn't widen a tensor's dtype: an integer only makes a bool tensor i64, a float only
 * makes integers and bool f32. */
typedef struct gd_number {
    bool is_float;
    int64_t i;
    double f;
} gd_number_t;

static inline gd_number_t gd_int(int64_t value)
{
    return (gd_number_t){.is_float = false, .i = value, .f = (double)value};
}

static inline gd_number_t gd_float(double value)
{
    return (gd_number_t){.is_float = true, .i = 0, .f = value};
}

/* The 0-d tensor that stands for the number beside x. ST_ERR_RANGE: an integer that x's dtype can't hold. */
status_t gd_number_beside(const gd_tensor_t *x, gd_number_t number, gd_tensor_t **t_p);

/* y = x op number for any binary function: gd_add, gd_sub, …, gd_ge: gd_with_number(gd_mul, x, gd_float(0.5), &y). The
 * other one is number op x. */
typedef status_t (*gd_binary_func_t)(gd_tensor_t *a, gd_tensor_t *b, gd_tensor_t **y_p);
status_t gd_with_number(gd_binary_func_t function, gd_tensor_t *x, gd_number_t number, gd_tensor_t **y_p);
status_t gd_number_with(gd_binary_func_t function, gd_number_t number, gd_tensor_t *x, gd_tensor_t **y_p);

/* y = x within [lo, hi]; a NaN stays; ±INFINITY: no bound. Bounds with a fraction make integers f32. */
status_t gd_clamp(gd_tensor_t *x, double lo, double hi, gd_tensor_t **y_p);

/* y = condition ? a : b, all broadcast; condition is bool or u8. */
status_t gd_where(gd_tensor_t *condition, gd_tensor_t *a, gd_tensor_t *b, gd_tensor_t **y_p);
/* y = mask ? value : x, of x's dtype; mask broadcasts to x. */
status_t gd_masked_fill(gd_tensor_t *x, gd_tensor_t *mask, double value, gd_tensor_t **y_p);
/* y = a + weight (b - a) */
status_t gd_lerp(gd_tensor_t *a, gd_tensor_t *b, double weight, gd_tensor_t **y_p);
/* y = x + factor a b; y = x + factor a / b */
status_t gd_addcmul(gd_tensor_t *x, gd_tensor_t *a, gd_tensor_t *b, double factor, gd_tensor_t **y_p);
status_t gd_addcdiv(gd_tensor_t *x, gd_tensor_t *a, gd_tensor_t *b, double factor, gd_tensor_t **y_p);

#endif
