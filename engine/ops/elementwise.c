/* SPDX-License-Identifier: Apache-2.0 */
/* ops/elementwise: arithmetic of two tensors with broadcasting; scale and pow by numbers. */
#include "ops/helpers.h"

#define BINARY_SAMPLES                                                                                                 \
    {                                                                                                                  \
        {.in = {{2, {3, 4}, .lo = 0.5, .hi = 2}, {2, {3, 4}, .lo = 0.5, .hi = 2}}, .n_in = 2},                         \
            {.in = {{3, {2, 1, 4}, .lo = 0.5, .hi = 2}, {2, {3, 1}, .lo = 0.5, .hi = 2}}, .n_in = 2},                  \
            {.in = {{1, {5}, .lo = 0.5, .hi = 2}, {0, {0}, .lo = 0.5, .hi = 2}}, .n_in = 2},                           \
            {.in = {{0, {0}, .lo = 0.5, .hi = 2}, {0, {0}, .lo = 0.5, .hi = 2}}, .n_in = 2},                           \
            {.in = {{2, {0, 4}}, {1, {4}}}, .n_in = 2},                                                                \
            {.in = {{2, {3, 70}, .lo = 0.5, .hi = 2}, {1, {70}, .lo = 0.5, .hi = 2}}, .n_in = 2},                      \
            {.in = {{2, {3, 4}}, {2, {3, 5}}}, .n_in = 2, .expect = ST_ERR_SHAPE},                                     \
            {.in = {{2, {3, 4}, .lo = 0.5, .hi = 2}, {2, {3, 4}, .dtype = GD_DTYPE_I32, .lo = 1, .hi = 5}},            \
             .n_in = 2},                                                                                               \
            {.in = {{0, {0}, .lo = 0.5, .hi = 2}, {1, {4}, .dtype = GD_DTYPE_U8, .lo = 1, .hi = 5}}, .n_in = 2},       \
            {.in = {{2, {3, 4}, .lo = 0.5, .hi = 2}, {1, {4}, .dtype = GD_DTYPE_BF16, .lo = 0.5, .hi = 2}},            \
             .n_in = 2},                                                                                               \
            {.in = {{2, {3, 4}}}, .n_in = 1, .expect = ST_ERR_INVAL},                                                  \
    }

/* The infer function and the row of an operation of arithmetic. */
#define ARITHMETIC_INFER(name_x)                                                                                       \
    static status_t name_x##_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)          \
    {                                                                                                                  \
        (void)n_in;                                                                                                    \
        (void)attrs;                                                                                                   \
        return gd_meta_broadcast(#name_x, in[0], in[1], out);                                                          \
    }
#define ARITHMETIC_ROW(name_x, formula_x, dtypes_x, saves_x, onnx_x)                                                   \
    OPS_BINARY_ROW(name_x, formula_x, dtypes_x, saves_x, GD_AUTOCAST_WIDEST, name_x##_backward, onnx_x, BINARY_SAMPLES)

/* da = dy, db = dy */
static status_t add_backward(gd_node_t *node, gd_tensor_t *dy, gd_tensor_t **dx)
{
    status_t status = ST_OK;
    for (int i = 0; i < 2 && status == ST_OK; i++) {
        if (node->needs[i]) {
            status = gd_sum_to(node, i, dy, &dx[i]);
        }
    }
    return status;
}

ARITHMETIC_INFER(add)
ARITHMETIC_ROW(add, "y = a + b", OPS_DTYPES_ALL, GD_SAVE_NONE, "Add")

/* dx[i] = sum over the broadcast axes of a product that was made for it; takes product. */
static status_t reduce_take(gd_node_t *node, int i, gd_tensor_t *product, gd_tensor_t **dx)
{
    status_t status = gd_sum_to(node, i, product, &dx[i]);
    (void)gd_tensor_unref(product);
    return status;
}

/* da = dy, db = -dy */
static status_t sub_backward(gd_node_t *node, gd_tensor_t *dy, gd_tensor_t **dx)
{
    status_t status = ST_OK;
    if (node->needs[0]) {
        status = gd_sum_to(node, 0, dy, &dx[0]);
    }
    if (status == ST_OK && node->needs[1]) {
        gd_tensor_t *negated = NULL;
        status = gd_neg(dy, &negated);
        if (status == ST_OK) {
            status = reduce_take(node, 1, negated, dx);
        }
    }
    return status;
}

ARITHMETIC_INFER(sub)
ARITHMETIC_ROW(sub, "y = a - b", OPS_DTYPES_NUMBER, GD_SAVE_NONE, "Sub")

/* da = dy b, db = dy a */
static status_t mul_backward(gd_node_t *node, gd_tensor_t *dy, gd_tensor_t **dx)
{
    status_t status = ST_OK;
    for (int i = 0; i < 2 && status == ST_OK; i++) {
        if (node->needs[i]) {
            gd_tensor_t *product = NULL;
            status = gd_mul(dy, node->in[1 - i], &product);
            if (status == ST_OK) {
                status = reduce_take(node, i, product, dx);
            }
        }
    }
    return status;
}

ARITHMETIC_INFER(mul)
ARITHMETIC_ROW(mul, "y = a b", OPS_DTYPES_ALL, GD_SAVE_INPUTS_FOR_OTHERS, "Mul")

static status_t div_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    (void)n_in;
    (void)attrs;
    status_t status = gd_meta_broadcast("div", in[0], in[1], out);
    out->dtype = gd_dtype_float_of(out->dtype);
    return status;
}

/* -(q a) / b, where q = dy / b */
static status_t div_gradient_b(gd_tensor_t *q, gd_tensor_t *a, gd_tensor_t *b, gd_tensor_t **db_p)
{
    gd_tensor_t *product = NULL;
    gd_tensor_t *quotient = NULL;
    status_t status = gd_mul(q, a, &product);
    if (status == ST_OK) {
        status = gd_div(product, b, &quotient);
    }
    if (status == ST_OK) {
        status = gd_neg(quotient, db_p);
    }
    (void)gd_tensor_unref(product);
    (void)gd_tensor_unref(quotient);
    return status;
}

/* da = dy / b, db = -(dy / b) a / b */
static status_t div_backward(gd_node_t *node, gd_tensor_t *dy, gd_tensor_t **dx)
{
    gd_tensor_t *q = NULL;
    status_t status = gd_div(dy, node->in[1], &q);
    if (status == ST_OK && node->needs[0]) {
        status = gd_sum_to(node, 0, q, &dx[0]);
    }
    if (status == ST_OK && node->needs[1]) {
        gd_tensor_t *db = NULL;
        status = div_gradient_b(q, node->in[0], node->in[1], &db);
        if (status == ST_OK) {
            status = reduce_take(node, 1, db, dx);
        }
    }
    (void)gd_tensor_unref(q);
    return status;
}

ARITHMETIC_ROW(div, "y = a / b", OPS_DTYPES_ALL, GD_SAVE_INPUTS, "Div")

/* dx = factor dy */
static status_t scale_backward(gd_node_t *node, gd_tensor_t *dy, gd_tensor_t **dx)
{
    return gd_scale(dy, node->attrs.f[0], 0.0, &dx[0]);
}

const gd_op_t gd_op_scale = {
    .name = "scale",
    .formula = "y = factor x + offset",
    .attrs = "f0 factor; f1 offset",
    .n_in = 1,
    .n_in_required = 1,
    .n_out = 1,
    .dtypes = OPS_DTYPES_FLOAT,
    .infer = gd_infer_like,
    .is_elementwise = true,
    .backward = scale_backward,
    .sample = {{.in = {{2, {3, 4}}}, .n_in = 1, .attrs = {.f = {-2.5, 0.75}}},
               {.in = {{0, {0}}}, .n_in = 1, .attrs = {.f = {3}}},
               {.in = {{2, {3, 0}}}, .n_in = 1, .attrs = {.f = {3}}}},
};

/* dx = dy exponent x^(exponent - 1) */
static status_t pow_backward(gd_node_t *node, gd_tensor_t *dy, gd_tensor_t **dx)
{
    gd_tensor_t *power = NULL;
    gd_tensor_t *product = NULL;
    if (node->attrs.f[0] == 0) { /* at 0 too, where x^-1 is infinite */
        return gd_tensor_zeros(dy->dtype, dy->n_dims, dy->shape, &dx[0]);
    }
    status_t status = gd_pow(node->in[0], node->attrs.f[0] - 1.0, &power);
    if (status == ST_OK) {
        status = gd_mul(dy, power, &product);
    }
    if (status == ST_OK) {
        status = gd_scale(product, node->attrs.f[0], 0.0, &dx[0]);
    }
    (void)gd_tensor_unref(power);
    (void)gd_tensor_unref(product);
    return status;
}

const gd_op_t gd_op_pow = {
    .name = "pow",
    .formula = "y = x^exponent",
    .attrs = "f0 exponent",
    .n_in = 1,
    .n_in_required = 1,
    .n_out = 1,
    .dtypes = OPS_DTYPES_FLOAT,
    .saves = GD_SAVE_INPUTS,
    .autocast = GD_AUTOCAST_F32,
    .infer = gd_infer_like,
    .is_elementwise = true,
    .backward = pow_backward,
    .onnx = "Pow",
    .sample = {{.in = {{2, {3, 4}, .lo = 0.25, .hi = 3}}, .n_in = 1, .attrs = {.f = {2.5}}},
               {.in = {{2, {3, 4}}}, .n_in = 1, .attrs = {.f = {2}}},
               {.in = {{2, {3, 4}, .lo = 0.5, .hi = 3}}, .n_in = 1, .attrs = {.f = {-1}}},
               {.in = {{0, {0}, .lo = 0.5, .hi = 3}}, .n_in = 1, .attrs = {.f = {3}}},
               {.in = {{2, {3, 0}}}, .n_in = 1, .attrs = {.f = {2}}}},
};

status_t gd_add(gd_tensor_t *a, gd_tensor_t *b, gd_tensor_t **y_p)
{
    return gd_op_binary(GD_OP_ADD, a, b, y_p);
}

status_t gd_add_last(gd_tensor_t *a, gd_tensor_t *b, gd_tensor_t **y_p)
{
    gd_tensor_t *in[2] = {a, b};
    return gd_op_apply_reusing(GD_OP_ADD, in, 2, NULL, b, y_p);
}

status_t gd_sub(gd_tensor_t *a, gd_tensor_t *b, gd_tensor_t **y_p)
{
    return gd_op_binary(GD_OP_SUB, a, b, y_p);
}

status_t gd_mul(gd_tensor_t *a, gd_tensor_t *b, gd_tensor_t **y_p)
{
    return gd_op_binary(GD_OP_MUL, a, b, y_p);
}

status_t gd_div(gd_tensor_t *a, gd_tensor_t *b, gd_tensor_t **y_p)
{
    return gd_op_binary(GD_OP_DIV, a, b, y_p);
}

status_t gd_scale(gd_tensor_t *x, double factor, double offset, gd_tensor_t **y_p)
{
    const gd_attrs_t attrs = {.f = {factor, offset}};
    return gd_op_apply(GD_OP_SCALE, &x, 1, &attrs, y_p);
}

status_t gd_pow(gd_tensor_t *x, double exponent, gd_tensor_t **y_p)
{
    const gd_attrs_t attrs = {.f = {exponent}};
    return gd_op_apply(GD_OP_POW, &x, 1, &attrs, y_p);
}
