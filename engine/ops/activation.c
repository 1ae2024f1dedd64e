/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ops/activation: pointwise nonlinearities, one line each: ROW gives the op, its backward, an op of its own
 * (dy, what was saved) → dx that isn't differentiable itself, and the samples of both.
 */
#include "ops/helpers.h"

/* Two sets of attributes for the samples; what is saved lies in [lo_x, hi_x]. */
#define ROW(enum_x, name_x, saves_x, attrs_text_x, formula_x, derivative_x, onnx_x, lo_x, hi_x, one_x, other_x)        \
    static status_t name_x##_backward_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out) \
    {                                                                                                                  \
        (void)attrs;                                                                                                   \
        return gd_infer_same(#name_x "_backward", in, n_in, out);                                                      \
    }                                                                                                                  \
    static status_t name_x##_gradient(gd_node_t *node, gd_tensor_t *dy, gd_tensor_t **dx)                              \
    {                                                                                                                  \
        gd_tensor_t *in[2] = {dy, (saves_x) == GD_SAVE_OUTPUTS ? node->out[0] : node->in[0]};                          \
        return gd_op_apply_over(GD_OP_##enum_x##_BACKWARD, in, 2, &node->attrs, dx);                                   \
    }                                                                                                                  \
    const gd_op_t gd_op_##name_x = {                                                                                   \
        .name = #name_x,                                                                                               \
        .formula = "y = " formula_x,                                                                                   \
        .attrs = (attrs_text_x),                                                                                       \
        .n_in = 1,                                                                                                     \
        .n_in_required = 1,                                                                                            \
        .n_out = 1,                                                                                                    \
        .dtypes = OPS_DTYPES_FLOAT,                                                                                    \
        .saves = (saves_x),                                                                                            \
        .infer = gd_infer_like,                                                                                        \
        .backward = name_x##_gradient,                                                                                 \
        .onnx = (onnx_x),                                                                                              \
        .sample = {{.in = {{2, {3, 4}, .lo = -3, .hi = 3}}, .n_in = 1, .attrs = one_x},                                \
                   {.in = {{2, {3, 4}, .lo = -3, .hi = 3}}, .n_in = 1, .attrs = other_x},                              \
                   {.in = {{0, {0}}}, .n_in = 1, .attrs = other_x},                                                    \
                   {.in = {{2, {3, 0}}}, .n_in = 1, .attrs = one_x},                                                   \
                   {.in = {{2, {3, 69}, .lo = -9, .hi = 9}}, .n_in = 1, .attrs = one_x},                               \
                   {.in = {{2, {3, 69}, .lo = -9, .hi = 9}}, .n_in = 1, .attrs = other_x},                             \
                   {.in = {{1, {3}, .dtype = GD_DTYPE_I32, .int_limit = 5}},                                           \
                    .n_in = 1,                                                                                         \
                    .expect = ST_ERR_UNSUPPORTED}},                                                                    \
    };                                                                                                                 \
    const gd_op_t gd_op_##name_x##_backward = {                                                                        \
        .name = #name_x "_backward",                                                                                   \
        .formula = "dx = dy " derivative_x,                                                                            \
        .attrs = (attrs_text_x),                                                                                       \
        .n_in = 2,                                                                                                     \
        .n_in_required = 2,                                                                                            \
        .n_out = 1,                                                                                                    \
        .dtypes = OPS_DTYPES_FLOAT,                                                                                    \
        .infer = name_x##_backward_infer,                                                                              \
        .sample = {{.in = {{2, {3, 4}}, {2, {3, 4}, .lo = (lo_x), .hi = (hi_x)}}, .n_in = 2, .attrs = one_x},          \
                   {.in = {{0, {0}}, {0, {0}, .lo = (lo_x), .hi = (hi_x)}}, .n_in = 2, .attrs = other_x},              \
                   {.in = {{2, {3, 0}}, {2, {3, 0}}}, .n_in = 2},                                                      \
                   {.in = {{2, {3, 69}}, {2, {3, 69}, .lo = (lo_x), .hi = (hi_x)}}, .n_in = 2, .attrs = one_x},        \
                   {.in = {{2, {3, 69}}, {2, {3, 69}, .lo = (lo_x), .hi = (hi_x)}}, .n_in = 2, .attrs = other_x},      \
                   {.in = {{2, {3, 4}}, {2, {4, 3}}}, .n_in = 2, .expect = ST_ERR_SHAPE},                              \
                   {.in = {{2, {3, 4}}, {2, {3, 4}, .dtype = GD_DTYPE_I32, .int_limit = 3}},                           \
                    .n_in = 2,                                                                                         \
                    .expect = ST_ERR_DTYPE}},                                                                          \
    };

#define X GD_SAVE_INPUTS
#define Y GD_SAVE_OUTPUTS
#define NONE                                                                                                           \
    {                                                                                                                  \
        .i = { 0 }                                                                                                     \
    }
#define TANH                                                                                                           \
    {                                                                                                                  \
        .i = { 1 }                                                                                                     \
    }
#define F(a_x, b_x)                                                                                                    \
    {                                                                                                                  \
        .f = {(a_x), (b_x) }                                                                                           \
    }

/* clang-format off: one a line or two */
ROW(RELU, relu, Y, NULL, "max(x, 0)", "where y > 0, else 0", "Relu", -1, 1, NONE, NONE)
ROW(GELU, gelu, X, "i0 tanh approximation", "x Phi(x); with i0: x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x³)))",
    "gelu'(x)", "Gelu", -3, 3, NONE, TANH)
ROW(TANH, tanh, Y, NULL, "tanh(x)", "(1 - y²)", "Tanh", -1, 1, NONE, NONE)
ROW(SIGMOID, sigmoid, Y, NULL, "1 / (1 + exp(-x))", "y (1 - y)", "Sigmoid", 0, 1, NONE, NONE)
ROW(SILU, silu, X, NULL, "x / (1 + exp(-x))", "s (1 + x (1 - s)), s = 1 / (1 + exp(-x))", NULL, -3, 3, NONE, NONE)
ROW(LEAKY_RELU, leaky_relu, X, "f0 slope", "x where x > 0, else f0 x", "where x > 0, else f0 dy", "LeakyRelu", -3, 3,
    F(0.01, 0), F(-0.5, 0))
ROW(ELU, elu, X, "f0 alpha", "x where x > 0, else f0 (exp(x) - 1)", "where x > 0, else f0 exp(x) dy", "Elu", -3, 3,
    F(1, 0), F(0.3, 0))
ROW(SELU, selu, X, NULL, "1.0507 (x where x > 0, else 1.6733 (exp(x) - 1)) (Klambauer et al., NeurIPS 2017)",
    "1.0507 (1 where x > 0, else 1.6733 exp(x))", "Selu", -3, 3, NONE, NONE)
ROW(CELU, celu, X, "f0 alpha", "x where x > 0, else f0 (exp(x / f0) - 1)", "where x > 0, else exp(x / f0) dy", "Celu",
    -3, 3, F(1, 0), F(0.4, 0))
ROW(HARDTANH, hardtanh, X, "f0 lowest; f1 highest", "min(max(x, f0), f1)", "where f0 < x < f1, else 0", "Clip", -3, 3,
    F(-1, 1), F(0, 6))
ROW(HARDSIGMOID, hardsigmoid, X, NULL, "min(max(x / 6 + 1/2, 0), 1)", "/ 6 where -3 < x < 3, else 0", "HardSigmoid", -6,
    6, NONE, NONE)
ROW(HARDSWISH, hardswish, X, NULL, "x min(max(x / 6 + 1/2, 0), 1)", "0 where x ≤ -3, 1 where x ≥ 3, else (x / 3 + 1/2)",
    "HardSwish", -6, 6, NONE, NONE)
ROW(SOFTPLUS, softplus, X, "f0 beta; f1 threshold", "log(1 + exp(f0 x)) / f0; x where f0 x > f1",
    "/ (1 + exp(-f0 x)); dy where f0 x > f1", "Softplus", -3, 3, F(1, 20), F(2, 1.5))
ROW(SOFTSIGN, softsign, X, NULL, "x / (1 + |x|)", "/ (1 + |x|)²", "Softsign", -3, 3, NONE, NONE)
ROW(SOFTSHRINK, softshrink, X, "f0 width", "x - f0 where x > f0, x + f0 where x < -f0, else 0",
    "where |x| > f0, else 0", "Shrink", -3, 3, F(0.5, 0), F(1, 0))
ROW(HARDSHRINK, hardshrink, X, "f0 width", "x where |x| > f0, else 0", "where |x| > f0, else 0", "Shrink", -3, 3,
    F(0.5, 0), F(1, 0))
ROW(TANHSHRINK, tanhshrink, X, NULL, "x - tanh(x)", "tanh(x)²", NULL, -3, 3, NONE, NONE)
ROW(LOG_SIGMOID, log_sigmoid, X, NULL, "-log(1 + exp(-x))", "/ (1 + exp(x))", NULL, -3, 3, NONE, NONE)
ROW(MISH, mish, X, NULL, "x tanh(log(1 + exp(x))) (Misra, BMVC 2020)", "mish'(x)", "Mish", -3, 3, NONE, NONE)
ROW(THRESHOLD, threshold, X, "f0 threshold; f1 value", "x where x > f0, else f1", "where x > f0, else 0", NULL, -3, 3,
    F(0.1, 20), F(-1, -2))
/* clang-format on */

#undef X
#undef Y

/* Wrappers: without attributes, with one number, with two. */
#define PLAIN(enum_x, name_x)                                                                                          \
    status_t gd_##name_x(gd_tensor_t *x, gd_tensor_t **y_p)                                                            \
    {                                                                                                                  \
        return gd_op_unary(GD_OP_##enum_x, x, y_p);                                                                    \
    }
#define WITH_ONE(enum_x, name_x, a_x)                                                                                  \
    status_t gd_##name_x(gd_tensor_t *x, double a_x, gd_tensor_t **y_p)                                                \
    {                                                                                                                  \
        const gd_attrs_t attrs = {.f = {a_x}};                                                                         \
        return gd_op_apply(GD_OP_##enum_x, &x, 1, &attrs, y_p);                                                        \
    }
#define WITH_TWO(enum_x, name_x, a_x, b_x)                                                                             \
    status_t gd_##name_x(gd_tensor_t *x, double a_x, double b_x, gd_tensor_t **y_p)                                    \
    {                                                                                                                  \
        const gd_attrs_t attrs = {.f = {a_x, b_x}};                                                                    \
        return gd_op_apply(GD_OP_##enum_x, &x, 1, &attrs, y_p);                                                        \
    }
PLAIN(RELU, relu)
PLAIN(TANH, tanh)
PLAIN(SIGMOID, sigmoid)
PLAIN(SILU, silu)
PLAIN(SELU, selu)
PLAIN(HARDSIGMOID, hardsigmoid)
PLAIN(HARDSWISH, hardswish)
PLAIN(SOFTSIGN, softsign)
PLAIN(TANHSHRINK, tanhshrink)
PLAIN(LOG_SIGMOID, log_sigmoid)
PLAIN(MISH, mish)
WITH_ONE(LEAKY_RELU, leaky_relu, slope)
WITH_ONE(ELU, elu, alpha)
WITH_ONE(CELU, celu, alpha)
WITH_ONE(SOFTSHRINK, softshrink, width)
WITH_ONE(HARDSHRINK, hardshrink, width)
WITH_TWO(HARDTANH, hardtanh, low, high)
WITH_TWO(SOFTPLUS, softplus, beta, threshold)
WITH_TWO(THRESHOLD, threshold, threshold, value)
