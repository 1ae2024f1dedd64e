/* SPDX-License-Identifier: Apache-2.0 */
/* reference_tensor: functions of one, two and three operands, as plain loops over float64. */
#include "tests/engine/reference_tensor.h"

#include <math.h>

#include "ops/unary_kinds.h"

/* a, b and c are the operands, f the attributes. */
#define REF_POINTWISE(name_x, n_in_x, expression_x)                                                                    \
    void ref_##name_x(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)                              \
    {                                                                                                                  \
        const double *f = attrs->f;                                                                                    \
        (void)f;                                                                                                       \
        for (int64_t flat = 0; flat < out->numel; flat++) {                                                            \
            int64_t index[GD_MAX_DIMS];                                                                                \
            ref_index(out, flat, index);                                                                               \
            const double a = ref_at(&in[0], out->n_dims, index);                                                       \
            const double b = (n_in_x) > 1 ? ref_at(&in[1], out->n_dims, index) : 0;                                    \
            const double c = (n_in_x) > 2 ? ref_at(&in[2], out->n_dims, index) : 0;                                    \
            (void)b;                                                                                                   \
            (void)c;                                                                                                   \
            out->data[flat] = ref_as(out->dtype, (expression_x));                                                      \
        }                                                                                                              \
    }

static double nearest(double x)
{
    const double below = floor(x);
    const double fraction = x - below;
    return fraction > 0.5 || (fraction == 0.5 && fmod(below, 2) != 0) ? below + 1 : below;
}

REF_POINTWISE(abs, 1, a < 0 ? -a : a)
REF_POINTWISE(sign, 1, a > 0 ? 1 : a < 0 ? -1 : 0)
REF_POINTWISE(square, 1, a *a)
REF_POINTWISE(floor, 1, floor(a))
REF_POINTWISE(ceil, 1, ceil(a))
REF_POINTWISE(round, 1, nearest(a))
REF_POINTWISE(trunc, 1, a < 0 ? ceil(a) : floor(a))
REF_POINTWISE(sin, 1, sin(a))
REF_POINTWISE(cos, 1, cos(a))
REF_POINTWISE(tan, 1, sin(a) / cos(a))
REF_POINTWISE(exp2, 1, pow(2, a))
REF_POINTWISE(expm1, 1, expm1(a))
REF_POINTWISE(log1p, 1, log1p(a))
REF_POINTWISE(log2, 1, log2(a))
REF_POINTWISE(log10, 1, log10(a))
REF_POINTWISE(erf, 1, erf(a))
REF_POINTWISE(rsqrt, 1, 1 / sqrt(a))
REF_POINTWISE(reciprocal, 1, 1 / a)
REF_POINTWISE(isnan, 1, isnan(a))
REF_POINTWISE(isinf, 1, isinf(a))
REF_POINTWISE(isfinite, 1, isfinite(a))
REF_POINTWISE(logical_not, 1, a == 0)
REF_POINTWISE(clamp, 1, fmin(fmax(a, f[0]), f[1]))
REF_POINTWISE(maximum, 2, fmax(a, b))
REF_POINTWISE(minimum, 2, fmin(a, b))
REF_POINTWISE(power, 2, pow(a, b))
REF_POINTWISE(fmod, 2, fmod(a, b))
REF_POINTWISE(remainder, 2, a - b * floor(a / b))
REF_POINTWISE(atan2, 2, atan2(a, b))
REF_POINTWISE(eq, 2, a == b)
REF_POINTWISE(ne, 2, a != b)
REF_POINTWISE(lt, 2, a < b)
REF_POINTWISE(le, 2, a <= b)
REF_POINTWISE(gt, 2, a > b)
REF_POINTWISE(ge, 2, a >= b)
REF_POINTWISE(logical_and, 2, a != 0 && b != 0)
REF_POINTWISE(logical_or, 2, a != 0 || b != 0)
REF_POINTWISE(logical_xor, 2, (a != 0) != (b != 0))
REF_POINTWISE(where, 3, c != 0 ? a : b)

#define DOUBLE(name_x) name_x
void ref_unary_backward(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    const double *f = attrs->f;
    for (int64_t i = 0; i < out->numel; i++) {
        const double s = in[1].data[i];
        double derivative = 0;
        switch (attrs->i[0]) {
#define CASE(kind_x, derivative_x)                                                                                     \
    case UNARY_##kind_x:                                                                                               \
        derivative = derivative_x;                                                                                     \
        break;
            UNARY_KIND_LIST(CASE, double, DOUBLE)
        default:
            break;
        }
        out->data[i] = in[0].data[i] * derivative;
    }
}
