/* SPDX-License-Identifier: Apache-2.0 */
/* elementwise: y = f(a, b) and y = f(x), f32 vectorised, f64 plain. Rows in engine/ops/elementwise.c. */
#include <math.h>

#include "cpu/map.h"
#include "cpu/vec/kernels.h"
#include "cpu/vec/runs.h"
#include "cpu/vec/vecmath.h"

DEFINE_BINARY_KERNEL(add, a_ + b_, a_ + b_)
DEFINE_BINARY_KERNEL(sub, a_ - b_, a_ - b_)
DEFINE_BINARY_KERNEL(mul, a_ *b_, a_ *b_)
DEFINE_BINARY_KERNEL(div, a_ / b_, a_ / b_)

DEFINE_UNARY_KERNEL(scale, a_ *(float)attrs->f[0] + (float)attrs->f[1], a_ * attrs->f[0] + attrs->f[1])
DEFINE_UNARY_KERNEL(neg, -a_, -a_)
DEFINE_UNARY_KERNEL(exp, vec_exp(a_), exp(a_))
DEFINE_UNARY_KERNEL(log, logf(a_), log(a_))
DEFINE_UNARY_KERNEL(sqrt, sqrtf(a_), sqrt(a_))

/* x² and x^-1 are common enough to be loops of their own. */
DEFINE_UNARY_KERNEL(square, a_ *a_, a_ *a_)
DEFINE_UNARY_KERNEL(reciprocal, 1.0f / a_, 1.0 / a_)
DEFINE_UNARY_KERNEL(power, powf(a_, (float)attrs->f[0]), pow(a_, attrs->f[0]))

CPU_KERNEL(pow)
{
    if (args->attrs->f[0] == 2.0) {
        return CPU_FN(square)(args);
    }
    if (args->attrs->f[0] == -1.0) {
        return CPU_FN(reciprocal)(args);
    }
    return CPU_FN(power)(args);
}
