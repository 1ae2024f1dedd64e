/* SPDX-License-Identifier: Apache-2.0 */
/* ops/unary: y = f(x) in all dtypes. dx = dy f'(s), s being what was saved, in one kernel: see unary_kinds.h. */
#include "ops/unary_kinds.h"

#include <math.h>

#include "ops/compose.h"

/* Half-open intervals are sampled, so that a gradient isn't taken at a jump; the last one must fail. */
#define UNARY_SAMPLES(lo_x, hi_x)                                                                                      \
    {                                                                                                                  \
        {.in = {{2, {3, 4}, .lo = (lo_x), .hi = (hi_x)}}, .n_in = 1},                                                  \
            {.in = {{0, {0}, .lo = (lo_x), .hi = (hi_x)}}, .n_in = 1}, {.in = {{2, {3, 0}}}, .n_in = 1},               \
            {.in = {{2, {3, 67}, .lo = (lo_x), .hi = (hi_x)}}, .n_in = 1},                                             \
            {.in = {{1, {3}}, {1, {3}}}, .n_in = 2, .expect = ST_ERR_INVAL},                                           \
    }

static status_t backward_apply(const gd_node_t *node, enum unary_kind kind, gd_tensor_t *dy, gd_tensor_t *saved,
                               gd_tensor_t **dx)
{
    gd_tensor_t *in[2] = {dy, saved};
    gd_attrs_t attrs = {.i = {kind}};
    attrs.f[0] = node->attrs.f[0];
    attrs.f[1] = node->attrs.f[1];
    return gd_op_apply_over(GD_OP_UNARY_BACKWARD, in, 2, &attrs, dx);
}

/* From the input, or from the output. */
#define BACKWARD_OF_INPUT(name_x, kind_x)                                                                              \
    static status_t name_x##_backward(gd_node_t *node, gd_tensor_t *dy, gd_tensor_t **dx)                              \
    {                                                                                                                  \
        return backward_apply(node, UNARY_##kind_x, dy, node->in[0], dx);                                              \
    }
#define BACKWARD_OF_OUTPUT(name_x, kind_x)                                                                             \
    static status_t name_x##_backward(gd_node_t *node, gd_tensor_t *dy, gd_tensor_t **dx)                              \
    {                                                                                                                  \
        return backward_apply(node, UNARY_##kind_x, dy, node->out[0], dx);                                             \
    }

BACKWARD_OF_INPUT(abs, ABS)
BACKWARD_OF_INPUT(square, SQUARE)
BACKWARD_OF_INPUT(sin, SIN)
BACKWARD_OF_INPUT(cos, COS)
BACKWARD_OF_OUTPUT(tan, TAN)
BACKWARD_OF_OUTPUT(exp2, EXP2)
BACKWARD_OF_OUTPUT(expm1, EXPM1)
BACKWARD_OF_INPUT(log1p, LOG1P)
BACKWARD_OF_INPUT(log2, LOG2)
BACKWARD_OF_INPUT(log10, LOG10)
BACKWARD_OF_INPUT(erf, ERF)
BACKWARD_OF_OUTPUT(rsqrt, RSQRT)
BACKWARD_OF_OUTPUT(reciprocal, RECIPROCAL)
BACKWARD_OF_INPUT(clamp, CLAMP)

static status_t neg_backward(gd_node_t *node, gd_tensor_t *dy, gd_tensor_t **dx)
{
    (void)node;
    return gd_neg(dy, &dx[0]);
}

/* dx = dy y */
static status_t exp_backward(gd_node_t *node, gd_tensor_t *dy, gd_tensor_t **dx)
{
    return gd_mul(dy, node->out[0], &dx[0]);
}

/* dx = dy / x */
static status_t log_backward(gd_node_t *node, gd_tensor_t *dy, gd_tensor_t **dx)
{
    return gd_div(dy, node->in[0], &dx[0]);
}

/* dx = dy / (2 y) */
static status_t sqrt_backward(gd_node_t *node, gd_tensor_t *dy, gd_tensor_t **dx)
{
    gd_tensor_t *quotient = NULL;
    status_t status = gd_div(dy, node->out[0], &quotient);
    if (status == ST_OK) {
        status = gd_scale(quotient, 0.5, 0.0, &dx[0]);
    }
    (void)gd_tensor_unref(quotient);
    return status;
}

/* Steps have the gradient 0. */
static status_t step_backward(gd_node_t *node, gd_tensor_t *dy, gd_tensor_t **dx)
{
    (void)node;
    return gd_tensor_zeros(dy->dtype, dy->n_dims, dy->shape, &dx[0]);
}

#define UNARY_ROW(name_x, formula_x, dtypes_x, infer_x, saves_x, autocast_x, backward_x, onnx_x, lo_x, hi_x)           \
    const gd_op_t gd_op_##name_x = {                                                                                   \
        .name = #name_x,                                                                                               \
        .formula = "y = " formula_x,                                                                                   \
        .n_in = 1,                                                                                                     \
        .n_in_required = 1,                                                                                            \
        .n_out = 1,                                                                                                    \
        .dtypes = (dtypes_x),                                                                                          \
        .saves = (saves_x),                                                                                            \
        .autocast = (autocast_x),                                                                                      \
        .infer = (infer_x),                                                                                            \
        .is_elementwise = true,                                                                                        \
        .backward = (backward_x),                                                                                      \
        .onnx = (onnx_x),                                                                                              \
        .sample = UNARY_SAMPLES(lo_x, hi_x),                                                                           \
    };
/* A function of all numbers with a result of their dtype; a function with a float result; a test. */
#define NUMBER_ROW(name_x, formula_x, saves_x, backward_x, onnx_x, lo_x, hi_x)                                         \
    UNARY_ROW(name_x, formula_x, OPS_DTYPES_NUMBER, gd_infer_like, saves_x, GD_AUTOCAST_KEEP, backward_x, onnx_x,      \
              lo_x, hi_x)
#define FLOAT_ROW(name_x, formula_x, saves_x, onnx_x, lo_x, hi_x)                                                      \
    UNARY_ROW(name_x, formula_x, OPS_DTYPES_ALL, gd_infer_float, saves_x, GD_AUTOCAST_F32, name_x##_backward, onnx_x,  \
              lo_x, hi_x)
#define TEST_ROW(name_x, formula_x, onnx_x)                                                                            \
    UNARY_ROW(name_x, formula_x, OPS_DTYPES_ALL, gd_infer_bool, GD_SAVE_NONE, GD_AUTOCAST_KEEP, NULL, onnx_x, -2, 2)

NUMBER_ROW(abs, "|x|", GD_SAVE_INPUTS, abs_backward, "Abs", -2, 2)
NUMBER_ROW(neg, "-x", GD_SAVE_NONE, neg_backward, "Neg", -1, 1)
NUMBER_ROW(sign, "1, 0 or -1", GD_SAVE_NONE, step_backward, "Sign", -2, 2)
NUMBER_ROW(square, "x²", GD_SAVE_INPUTS, square_backward, NULL, -2, 2)
NUMBER_ROW(floor, "the integer at or below x", GD_SAVE_NONE, step_backward, "Floor", -3, 3)
NUMBER_ROW(ceil, "the integer at or above x", GD_SAVE_NONE, step_backward, "Ceil", -3, 3)
NUMBER_ROW(round, "the nearest integer, the even one of two", GD_SAVE_NONE, step_backward, "Round", -3, 3)
NUMBER_ROW(trunc, "x without its fraction", GD_SAVE_NONE, step_backward, NULL, -3, 3)
FLOAT_ROW(exp, "exp(x)", GD_SAVE_OUTPUTS, "Exp", -3, 3)
FLOAT_ROW(log, "ln(x)", GD_SAVE_INPUTS, "Log", 0.25, 4)
UNARY_ROW(sqrt, "sqrt(x)", OPS_DTYPES_ALL, gd_infer_float, GD_SAVE_OUTPUTS, GD_AUTOCAST_KEEP, sqrt_backward, "Sqrt",
          0.25, 4)
FLOAT_ROW(sin, "sin x", GD_SAVE_INPUTS, "Sin", -3, 3)
FLOAT_ROW(cos, "cos x", GD_SAVE_INPUTS, "Cos", -3, 3)
FLOAT_ROW(tan, "tan x", GD_SAVE_OUTPUTS, "Tan", -1, 1)
FLOAT_ROW(exp2, "2^x", GD_SAVE_OUTPUTS, NULL, -3, 3)
FLOAT_ROW(expm1, "exp(x) - 1", GD_SAVE_OUTPUTS, NULL, -2, 2)
FLOAT_ROW(log1p, "ln(1 + x)", GD_SAVE_INPUTS, NULL, -0.5, 3)
FLOAT_ROW(log2, "log2 x", GD_SAVE_INPUTS, NULL, 0.25, 4)
FLOAT_ROW(log10, "log10 x", GD_SAVE_INPUTS, NULL, 0.25, 4)
FLOAT_ROW(erf, "2 / sqrt(pi) times the integral of exp(-t²) from 0 to x", GD_SAVE_INPUTS, "Erf", -2, 2)
FLOAT_ROW(rsqrt, "1 / sqrt(x)", GD_SAVE_OUTPUTS, NULL, 0.5, 4)
FLOAT_ROW(reciprocal, "1 / x", GD_SAVE_OUTPUTS, "Reciprocal", 0.5, 4)
TEST_ROW(isnan, "x is no number", "IsNaN")
TEST_ROW(isinf, "x is plus or minus infinity", "IsInf")
TEST_ROW(isfinite, "x is a finite number", NULL)
TEST_ROW(logical_not, "x = 0", "Not")

static status_t clamp_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    if (!(attrs->f[0] <= attrs->f[1])) {
        return ST_FAIL(ST_ERR_RANGE, "clamp: the lower bound %g isn't below the upper one %g", attrs->f[0],
                       attrs->f[1]);
    }
    return gd_infer_like(in, n_in, attrs, out);
}

const gd_op_t gd_op_clamp = {
    .name = "clamp",
    .formula = "y = lo where x < lo, hi where x > hi, x elsewhere",
    .attrs = "f0 lo; f1 hi; i0, i1 the same for integers",
    .n_in = 1,
    .n_in_required = 1,
    .n_out = 1,
    .dtypes = OPS_DTYPES_NUMBER,
    .saves = GD_SAVE_INPUTS,
    .infer = clamp_infer,
    .is_elementwise = true,
    .backward = clamp_backward,
    .onnx = "Clip",
    .sample = {{.in = {{2, {3, 40}, .lo = -2, .hi = 3}}, .n_in = 1, .attrs = {.f = {-1, 2}, .i = {-1, 2}}},
               {.in = {{0, {0}}}, .n_in = 1, .attrs = {.f = {0, 2}, .i = {0, 2}}},
               {.in = {{2, {0, 3}}}, .n_in = 1, .attrs = {.f = {0, 2}, .i = {0, 2}}},
               {.in = {{1, {3}}}, .n_in = 1, .attrs = {.f = {1, 0}}, .expect = ST_ERR_RANGE}},
};

static status_t unary_backward_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    if (attrs->i[0] < 0 || attrs->i[0] >= UNARY_KIND_COUNT) {
        return ST_FAIL(ST_ERR_RANGE, "unary_backward: no kind %lld", (long long)attrs->i[0]);
    }
    return gd_infer_same("unary_backward", in, n_in, out);
}

/* clang-format off */
#define KIND_SAMPLE(kind_x, derivative_x)                                                                              \
    {.in = {{2, {3, 37}}, {2, {3, 37}, .lo = 0.3, .hi = 2.2}}, .n_in = 2,                                              \
     .attrs = {.i = {UNARY_##kind_x}, .f = {0.5, 1.5}}},
const gd_op_t gd_op_unary_backward = {
    .name = "unary_backward",
    .formula = "dx = dy f'(s)",
    .attrs = "i0 kind; f0, f1 of clamp",
    .n_in = 2,
    .n_in_required = 2,
    .n_out = 1,
    .dtypes = OPS_DTYPES_FLOAT,
    .infer = unary_backward_infer,
    .sample = {UNARY_KIND_LIST(KIND_SAMPLE, , )
               {.in = {{1, {3}}, {1, {4}}}, .n_in = 2, .expect = ST_ERR_SHAPE},
               {.in = {{1, {3}}, {1, {3}}}, .n_in = 2, .attrs = {.i = {-1}}, .expect = ST_ERR_RANGE}},
};
/* clang-format on */

#define UNARY_WRAPPER(name_x)                                                                                          \
    status_t gd_##name_x(gd_tensor_t *x, gd_tensor_t **y_p)                                                            \
    {                                                                                                                  \
        return gd_op_apply((gd_op_id_t)gd_op_id_##name_x, &x, 1, NULL, y_p);                                           \
    }
GD_UNARY_LIST(UNARY_WRAPPER)
UNARY_WRAPPER(neg)
UNARY_WRAPPER(exp)
UNARY_WRAPPER(log)
UNARY_WRAPPER(sqrt)

/* A bound for integers: the nearest inside the interval. */
static int64_t bound_of(double bound, bool is_lower)
{
    const double whole = is_lower ? ceil(bound) : floor(bound);
    return whole >= 0x1p63 ? INT64_MAX : whole <= -0x1p63 ? INT64_MIN : (int64_t)whole;
}

status_t gd_clamp(gd_tensor_t *x, double lo, double hi, gd_tensor_t **y_p)
{
    const gd_attrs_t attrs = {.f = {lo, hi}, .i = {bound_of(lo, true), bound_of(hi, false)}};
    const bool is_whole = (isinf(lo) || lo == floor(lo)) && (isinf(hi) || hi == floor(hi));
    if (gd_dtype_is_float(x->dtype) || is_whole) {
        return gd_op_apply(GD_OP_CLAMP, &x, 1, &attrs, y_p);
    }
    compose_t c = {0};
    gd_tensor_t *wide = NULL;
    status_t status = gd_cast(x, GD_DTYPE_F32, &wide);
    wide = compose_take(&c, status, wide);
    gd_tensor_t *y = compose_op(&c, GD_OP_CLAMP, &wide, 1, &attrs);
    return compose_finish(&c, y, y_p);
}
