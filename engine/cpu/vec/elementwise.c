/* SPDX-License-Identifier: Apache-2.0 */
/* elementwise: arithmetic, and how an op's types are chosen. Rows in engine/ops/elementwise.c. */
#include "cpu/vec/elementwise.h"

#include <math.h>

#include "cpu/map.h"
#include "cpu/vec/vecmath.h"
#include "gradd/tensor.h"

static int32_t compute_dtype(int32_t dtype)
{
    return dtype == GD_DTYPE_F64 ? GD_DTYPE_F64 : gd_dtype_is_float((gd_dtype_t)dtype) ? GD_DTYPE_F32 : GD_DTYPE_I64;
}

status_t CPU_FN(elementwise)(const gd_kernel_args_t *args, int n_in, const elementwise_t *op)
{
    const int32_t out = args->out[0].dtype;
    const int32_t compute = compute_dtype(op->is_bool ? gd_cpu_result_dtype(args->in, n_in) : out);
    gd_cpu_run_func_t run = compute == GD_DTYPE_F32 ? op->f32 : compute == GD_DTYPE_F64 ? op->f64 : op->i64;
    if (run == NULL) {
        return gd_cpu_fail_dtype(op->name, args->in[0].dtype);
    }
    const int32_t written = op->is_bool ? (int32_t)GD_DTYPE_BOOL : compute;
    if (args->in[0].dtype == compute && (n_in < 2 || args->in[1].dtype == compute) && out == written) {
        gd_cpu_map(args, n_in, run);
        return ST_OK;
    }
    gd_cpu_casts_t casts = {{NULL, NULL}, NULL};
    for (int i = 0; i < n_in; i++) {
        if (args->in[i].dtype != compute) {
            casts.in[i] = CPU_FN(convert_find)(args->in[i].dtype, compute);
            if (casts.in[i] == NULL) {
                return gd_cpu_fail_dtype(op->name, args->in[i].dtype);
            }
        }
    }
    if (out != written) {
        casts.out = CPU_FN(convert_find)(written, out);
        if (casts.out == NULL) {
            return gd_cpu_fail_dtype(op->name, out);
        }
    }
    gd_cpu_map_cast(args, n_in, run, &casts);
    return ST_OK;
}

BINARY_KERNEL(add, a_ + b_, a_ + b_, wrap_add(a_, b_))
BINARY_KERNEL(sub, a_ - b_, a_ - b_, wrap_sub(a_, b_))
BINARY_KERNEL(mul, a_ *b_, a_ *b_, wrap_mul(a_, b_))
BINARY_FLOAT_KERNEL(div, a_ / b_, a_ / b_)

UNARY_FLOAT_KERNEL(scale, a_ *(float)attrs->f[0] + (float)attrs->f[1], a_ * attrs->f[0] + attrs->f[1])
UNARY_KERNEL(neg, -a_, -a_, wrap_sub(0, a_))
UNARY_FLOAT_KERNEL(exp, vec_exp(a_), exp(a_))
UNARY_FLOAT_KERNEL(log, logf(a_), log(a_))
UNARY_FLOAT_KERNEL(sqrt, sqrtf(a_), sqrt(a_))

/* x² and x^-1 are common enough to be loops of their own. */
UNARY_FLOAT_KERNEL(power_scalar, powf(a_, (float)attrs->f[0]), pow(a_, attrs->f[0]))

CPU_KERNEL(pow)
{
    if (args->attrs->f[0] == 2.0) {
        return CPU_FN(square)(args);
    }
    if (args->attrs->f[0] == -1.0) {
        return CPU_FN(reciprocal)(args);
    }
    return CPU_FN(power_scalar)(args);
}
