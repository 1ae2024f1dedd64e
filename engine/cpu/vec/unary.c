/* SPDX-License-Identifier: Apache-2.0 */
/* unary: functions of one operand and their gradients. Rows in engine/ops/unary.c. */
#include <math.h>

#include "cpu/vec/elementwise.h"
#include "ops/unary_kinds.h"

UNARY_KERNEL(abs, fabsf(a_), fabs(a_), a_ < 0 ? wrap_sub(0, a_) : a_)
UNARY_KERNEL(sign, (float)((a_ > 0) - (a_ < 0)), (double)((a_ > 0) - (a_ < 0)), (a_ > 0) - (a_ < 0))
UNARY_KERNEL(square, a_ *a_, a_ *a_, wrap_mul(a_, a_))
UNARY_KERNEL(floor, floorf(a_), floor(a_), a_)
UNARY_KERNEL(ceil, ceilf(a_), ceil(a_), a_)
UNARY_KERNEL(round, nearbyintf(a_), nearbyint(a_), a_)
UNARY_KERNEL(trunc, truncf(a_), trunc(a_), a_)
UNARY_FLOAT_KERNEL(sin, sinf(a_), sin(a_))
UNARY_FLOAT_KERNEL(cos, cosf(a_), cos(a_))
UNARY_FLOAT_KERNEL(tan, tanf(a_), tan(a_))
UNARY_FLOAT_KERNEL(exp2, exp2f(a_), exp2(a_))
UNARY_FLOAT_KERNEL(expm1, expm1f(a_), expm1(a_))
UNARY_FLOAT_KERNEL(log1p, log1pf(a_), log1p(a_))
UNARY_FLOAT_KERNEL(log2, log2f(a_), log2(a_))
UNARY_FLOAT_KERNEL(log10, log10f(a_), log10(a_))
UNARY_FLOAT_KERNEL(erf, erff(a_), erf(a_))
UNARY_FLOAT_KERNEL(rsqrt, 1.0f / sqrtf(a_), 1.0 / sqrt(a_))
UNARY_FLOAT_KERNEL(reciprocal, 1.0f / a_, 1.0 / a_)

UNARY_BOOL_KERNEL(isnan, a_ != a_, 0)
UNARY_BOOL_KERNEL(isinf, a_ - a_ != a_ - a_ && a_ == a_, 0)
UNARY_BOOL_KERNEL(isfinite, a_ - a_ == 0, 1)
UNARY_BOOL_KERNEL(logical_not, a_ == 0, a_ == 0)

/* NaN stays: it is on neither side of a bound. For integers the bounds lie in i0 and i1. */
UNARY_KERNEL(clamp, a_<(float)attrs->f[0] ? (float)attrs->f[0] : a_>(float) attrs->f[1] ? (float)attrs->f[1] : a_,
             a_<attrs->f[0] ? attrs->f[0] : a_> attrs->f[1] ? attrs->f[1] : a_,
             a_<attrs->i[0] ? attrs->i[0] : a_> attrs->i[1] ? attrs->i[1] : a_)

/* a_: dy, b_: what was saved */
#define FN_F32(name_x) name_x##f
#define FN_F64(name_x) name_x
#define BACKWARD_RUN(kind_x, derivative_x, type_x, suffix_x)                                                           \
    static inline type_x derivative_##kind_x##_##suffix_x(type_x s, const double *f)                                   \
    {                                                                                                                  \
        (void)f;                                                                                                       \
        return derivative_x;                                                                                           \
    }                                                                                                                  \
    BINARY_RUN(backward_##kind_x##_##suffix_x, type_x, type_x, a_ *derivative_##kind_x##_##suffix_x(b_, attrs->f))
#define BACKWARD_RUN_F32(kind_x, derivative_x) BACKWARD_RUN(kind_x, derivative_x, float, f32)
#define BACKWARD_RUN_F64(kind_x, derivative_x) BACKWARD_RUN(kind_x, derivative_x, double, f64)
UNARY_KIND_LIST(BACKWARD_RUN_F32, float, FN_F32)
UNARY_KIND_LIST(BACKWARD_RUN_F64, double, FN_F64)

CPU_KERNEL(unary_backward)
{
    static const elementwise_t op[UNARY_KIND_COUNT] = {
#define BACKWARD_ROW(kind_x, derivative_x)                                                                             \
    [UNARY_##kind_x] = {"unary_backward", backward_##kind_x##_f32, backward_##kind_x##_f64, NULL, 0},
        UNARY_KIND_LIST(BACKWARD_ROW, , )};
    return CPU_FN(elementwise)(args, 2, &op[args->attrs->i[0]]);
}
