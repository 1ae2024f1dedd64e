/* SPDX-License-Identifier: Apache-2.0 */
/* ops/binary: y = f(a, b) in all dtypes; comparison, logic, choice; numbers as operands; what is composed of these. */
#include <math.h>

#include "ops/compose.h"

/* With a and b of the same dtype in each, of mixed ones, and shapes that don't fit. */
#define BINARY_SAMPLES(lo_x, hi_x)                                                                                     \
    {                                                                                                                  \
        {.in = {{2, {3, 4}, .lo = (lo_x), .hi = (hi_x)}, {2, {3, 4}, .lo = (lo_x), .hi = (hi_x)}}, .n_in = 2},         \
            {.in = {{3, {2, 1, 4}, .lo = (lo_x), .hi = (hi_x)}, {2, {3, 1}, .lo = (lo_x), .hi = (hi_x)}}, .n_in = 2},  \
            {.in = {{1, {70}, .lo = (lo_x), .hi = (hi_x)}, {0, {0}, .lo = (lo_x), .hi = (hi_x)}}, .n_in = 2},          \
            {.in = {{2, {0, 4}}, {1, {4}}}, .n_in = 2},                                                                \
            {.in = {{2, {3, 4}, .lo = (lo_x), .hi = (hi_x)}, {2, {3, 4}, .dtype = GD_DTYPE_I32, .lo = 1, .hi = 5}},    \
             .n_in = 2},                                                                                               \
            {.in = {{2, {3, 4}}, {2, {3, 5}}}, .n_in = 2, .expect = ST_ERR_SHAPE},                                     \
    }

/* ---- maximum, minimum: dy to the one that was taken, half to each of equal ones; to both where one is NaN ---- */

static status_t extremum_backward(gd_node_t *node, gd_op_id_t is_lost, gd_tensor_t *dy, gd_tensor_t **dx)
{
    for (int i = 0; i < 2; i++) {
        if (!node->needs[i]) {
            continue;
        }
        compose_t c = {0};
        gd_tensor_t *lost = compose_binary(&c, is_lost, node->in[i], node->in[1 - i]);
        gd_tensor_t *equal = compose_binary(&c, GD_OP_EQ, node->in[0], node->in[1]);
        gd_tensor_t *zero = compose_number(&c, dy, 0);
        gd_tensor_t *half = compose_scale(&c, dy, 0.5, 0);
        gd_tensor_t *share = compose_where(&c, equal, half, dy);
        gd_tensor_t *whole = compose_where(&c, lost, zero, share);
        status_t status = compose_finish_gradient(&c, whole, node, i, dx);
        if (status != ST_OK) {
            return status;
        }
    }
    return ST_OK;
}

static status_t maximum_backward(gd_node_t *node, gd_tensor_t *dy, gd_tensor_t **dx)
{
    return extremum_backward(node, GD_OP_LT, dy, dx);
}

static status_t minimum_backward(gd_node_t *node, gd_tensor_t *dy, gd_tensor_t **dx)
{
    return extremum_backward(node, GD_OP_GT, dy, dx);
}

/* da = dy b a^(b - 1), 0 where b = 0; db = dy y ln a, 0 where a = 0 and b ≥ 0 */
static status_t power_backward(gd_node_t *node, gd_tensor_t *dy, gd_tensor_t **dx)
{
    const gd_dtype_t wide = gd_dtype_widen(dy->dtype);
    status_t status = ST_OK;
    if (node->needs[0]) {
        compose_t c = {0};
        gd_tensor_t *a = compose_cast(&c, node->in[0], wide);
        gd_tensor_t *b = compose_cast(&c, node->in[1], wide);
        gd_tensor_t *one = compose_number(&c, b, 1);
        gd_tensor_t *exponent = compose_binary(&c, GD_OP_SUB, b, one);
        gd_tensor_t *power = compose_binary(&c, GD_OP_POWER, a, exponent);
        gd_tensor_t *factor = compose_binary(&c, GD_OP_MUL, b, power);
        gd_tensor_t *product = compose_binary(&c, GD_OP_MUL, dy, factor);
        gd_tensor_t *zero_b = compose_number(&c, b, 0);
        gd_tensor_t *is_constant = compose_binary(&c, GD_OP_EQ, b, zero_b);
        gd_tensor_t *zero = compose_number(&c, product, 0);
        gd_tensor_t *da = compose_where(&c, is_constant, zero, product);
        status = compose_finish_gradient(&c, da, node, 0, dx);
    }
    if (status == ST_OK && node->needs[1]) {
        compose_t c = {0};
        gd_tensor_t *a = compose_cast(&c, node->in[0], wide);
        gd_tensor_t *b = compose_cast(&c, node->in[1], wide);
        gd_tensor_t *logarithm = compose_unary(&c, GD_OP_LOG, a);
        gd_tensor_t *scaled = compose_binary(&c, GD_OP_MUL, node->out[0], logarithm);
        gd_tensor_t *product = compose_binary(&c, GD_OP_MUL, dy, scaled);
        gd_tensor_t *zero_a = compose_number(&c, a, 0);
        gd_tensor_t *zero_b = compose_number(&c, b, 0);
        gd_tensor_t *is_zero = compose_binary(&c, GD_OP_EQ, a, zero_a);
        gd_tensor_t *is_power = compose_binary(&c, GD_OP_GE, b, zero_b);
        gd_tensor_t *is_flat = compose_binary(&c, GD_OP_LOGICAL_AND, is_zero, is_power);
        gd_tensor_t *zero = compose_number(&c, product, 0);
        gd_tensor_t *db = compose_where(&c, is_flat, zero, product);
        status = compose_finish_gradient(&c, db, node, 1, dx);
    }
    return status;
}

/* da = dy, db = -dy quotient(a / b) */
static status_t modulo_backward(gd_node_t *node, gd_op_id_t to_integer, gd_tensor_t *dy, gd_tensor_t **dx)
{
    status_t status = node->needs[0] ? gd_sum_to(node, 0, dy, &dx[0]) : ST_OK;
    if (status == ST_OK && node->needs[1]) {
        compose_t c = {0};
        const gd_dtype_t wide = gd_dtype_widen(dy->dtype); /* the quotient isn't rounded before it is cut off */
        gd_tensor_t *a = compose_cast(&c, node->in[0], wide);
        gd_tensor_t *quotient = compose_binary(&c, GD_OP_DIV, a, compose_cast(&c, node->in[1], wide));
        gd_tensor_t *whole = compose_unary(&c, to_integer, quotient);
        gd_tensor_t *product = compose_binary(&c, GD_OP_MUL, dy, whole);
        gd_tensor_t *db = compose_unary(&c, GD_OP_NEG, product);
        status = compose_finish_gradient(&c, db, node, 1, dx);
    }
    return status;
}

static status_t fmod_backward(gd_node_t *node, gd_tensor_t *dy, gd_tensor_t **dx)
{
    return modulo_backward(node, GD_OP_TRUNC, dy, dx);
}

static status_t remainder_backward(gd_node_t *node, gd_tensor_t *dy, gd_tensor_t **dx)
{
    return modulo_backward(node, GD_OP_FLOOR, dy, dx);
}

/* da = dy b / (a² + b²), db = -dy a / (a² + b²) */
static status_t atan2_backward(gd_node_t *node, gd_tensor_t *dy, gd_tensor_t **dx)
{
    for (int i = 0; i < 2; i++) {
        if (!node->needs[i]) {
            continue;
        }
        compose_t c = {0};
        const gd_dtype_t wide = gd_dtype_widen(dy->dtype);
        gd_tensor_t *in[2] = {compose_cast(&c, node->in[0], wide), compose_cast(&c, node->in[1], wide)};
        gd_tensor_t *aa = compose_binary(&c, GD_OP_MUL, in[0], in[0]);
        gd_tensor_t *bb = compose_binary(&c, GD_OP_MUL, in[1], in[1]);
        gd_tensor_t *sum = compose_binary(&c, GD_OP_ADD, aa, bb);
        gd_tensor_t *zero = compose_number(&c, sum, 0);
        gd_tensor_t *quotient = compose_where(&c, compose_binary(&c, GD_OP_EQ, sum, zero), zero,
                                              compose_binary(&c, GD_OP_DIV, dy, sum)); /* at (0, 0): 0 */
        gd_tensor_t *product = compose_binary(&c, GD_OP_MUL, quotient, in[1 - i]);
        gd_tensor_t *gradient = i == 0 ? product : compose_unary(&c, GD_OP_NEG, product);
        status_t status = compose_finish_gradient(&c, gradient, node, i, dx);
        if (status != ST_OK) {
            return status;
        }
    }
    return ST_OK;
}

#define BINARY_ROW(name_x, formula_x, dtypes_x, finish_x, saves_x, autocast_x, backward_x, onnx_x, lo_x, hi_x)         \
    static status_t name_x##_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)          \
    {                                                                                                                  \
        (void)n_in;                                                                                                    \
        (void)attrs;                                                                                                   \
        status_t status = gd_meta_broadcast(#name_x, in[0], in[1], out);                                               \
        out->dtype = finish_x(out->dtype);                                                                             \
        return status;                                                                                                 \
    }                                                                                                                  \
    OPS_BINARY_ROW(name_x, "y = " formula_x, dtypes_x, saves_x, autocast_x, backward_x, onnx_x,                        \
                   BINARY_SAMPLES(lo_x, hi_x))
#define DTYPE_SAME(dtype_x) (dtype_x)
#define DTYPE_FLOAT(dtype_x) gd_dtype_float_of(dtype_x)
#define DTYPE_BOOL(dtype_x) GD_DTYPE_BOOL
#define TEST_ROW(name_x, formula_x, onnx_x)                                                                            \
    BINARY_ROW(name_x, formula_x, OPS_DTYPES_ALL, DTYPE_BOOL, GD_SAVE_NONE, GD_AUTOCAST_WIDEST, NULL, onnx_x, -2, 2)

BINARY_ROW(maximum, "the larger of a and b", OPS_DTYPES_ALL, DTYPE_SAME, GD_SAVE_INPUTS, GD_AUTOCAST_WIDEST,
           maximum_backward, "Max", -2, 2)
BINARY_ROW(minimum, "the smaller of a and b", OPS_DTYPES_ALL, DTYPE_SAME, GD_SAVE_INPUTS, GD_AUTOCAST_WIDEST,
           minimum_backward, "Min", -2, 2)
BINARY_ROW(power, "a^b", OPS_DTYPES_NUMBER, DTYPE_SAME, GD_SAVE_INPUTS | GD_SAVE_OUTPUTS, GD_AUTOCAST_F32,
           power_backward, "Pow", 0.5, 3)
BINARY_ROW(fmod, "a - b trunc(a / b)", OPS_DTYPES_NUMBER, DTYPE_SAME, GD_SAVE_INPUTS, GD_AUTOCAST_WIDEST, fmod_backward,
           "Mod", 0.5, 3)
BINARY_ROW(remainder, "a - b floor(a / b)", OPS_DTYPES_NUMBER, DTYPE_SAME, GD_SAVE_INPUTS, GD_AUTOCAST_WIDEST,
           remainder_backward, NULL, 0.5, 3)
BINARY_ROW(atan2, "the angle of the point (b, a)", OPS_DTYPES_ALL, DTYPE_FLOAT, GD_SAVE_INPUTS, GD_AUTOCAST_F32,
           atan2_backward, NULL, 0.5, 3)
TEST_ROW(eq, "a = b", "Equal")
TEST_ROW(ne, "a ≠ b", NULL)
TEST_ROW(lt, "a < b", "Less")
TEST_ROW(le, "a ≤ b", "LessOrEqual")
TEST_ROW(gt, "a > b", "Greater")
TEST_ROW(ge, "a ≥ b", "GreaterOrEqual")
TEST_ROW(logical_and, "a ≠ 0 and b ≠ 0", "And")
TEST_ROW(logical_or, "a ≠ 0 or b ≠ 0", "Or")
TEST_ROW(logical_xor, "one of a and b is 0", "Xor")

/* ---- where ---- */

static status_t where_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    (void)n_in;
    (void)attrs;
    const gd_tensor_t *condition = in[2];
    if (condition->dtype != GD_DTYPE_BOOL && condition->dtype != GD_DTYPE_U8) {
        return ST_FAIL(ST_ERR_DTYPE, "where: the condition is %s: it must be bool or u8",
                       gd_dtype_name(condition->dtype));
    }
    if (in[0]->dtype != in[1]->dtype) {
        return ST_FAIL(ST_ERR_DTYPE, "where: %s and %s: dtypes must be equal", gd_dtype_name(in[0]->dtype),
                       gd_dtype_name(in[1]->dtype));
    }
    status_t status = gd_meta_broadcast("where", in[0], in[1], out);
    if (status != ST_OK) {
        return status;
    }
    /* the condition's shape with that of a and b */
    gd_tensor_t both = {.dtype = out->dtype, .n_dims = out->n_dims};
    for (int i = 0; i < out->n_dims; i++) {
        both.shape[i] = out->shape[i];
    }
    status = gd_meta_broadcast("where", &both, condition, out);
    out->dtype = in[0]->dtype;
    return status;
}

/* da = condition ? dy : 0, db = condition ? 0 : dy */
static status_t where_backward(gd_node_t *node, gd_tensor_t *dy, gd_tensor_t **dx)
{
    for (int i = 0; i < 2; i++) {
        if (!node->needs[i]) {
            continue;
        }
        compose_t c = {0};
        gd_tensor_t *zero = compose_number(&c, dy, 0);
        gd_tensor_t *part = compose_where(&c, node->in[2], i == 0 ? dy : zero, i == 0 ? zero : dy);
        status_t status = compose_finish_gradient(&c, part, node, i, dx);
        if (status != ST_OK) {
            return status;
        }
    }
    return ST_OK;
}

const gd_op_t gd_op_where = {
    .name = "where",
    .formula = "y = condition ? a : b",
    .n_in = 3,
    .n_in_required = 3,
    .n_out = 1,
    .dtypes = OPS_DTYPES_ALL,
    .saves = GD_SAVE_INPUTS,
    .saves_in = 1u << 2,
    .autocast = GD_AUTOCAST_WIDEST,
    .infer = where_infer,
    .backward = where_backward,
    .onnx = "Where",
    .sample = {{.in = {{2, {3, 40}}, {2, {3, 40}}, {2, {3, 40}, .dtype = GD_DTYPE_BOOL}}, .n_in = 3},
               {.in = {{1, {4}}, {2, {3, 1}}, {3, {2, 1, 1}, .dtype = GD_DTYPE_BOOL}}, .n_in = 3},
               {.in = {{0, {0}}, {2, {3, 5}}, {1, {5}, .dtype = GD_DTYPE_U8, .int_limit = 2}}, .n_in = 3},
               {.in = {{2, {0, 5}}, {1, {5}}, {1, {5}, .dtype = GD_DTYPE_BOOL}}, .n_in = 3},
               {.in = {{1, {5}}, {1, {5}}, {1, {4}, .dtype = GD_DTYPE_BOOL}}, .n_in = 3, .expect = ST_ERR_SHAPE},
               {.in = {{1, {5}}, {1, {5}}, {1, {5}, .dtype = GD_DTYPE_I64}}, .n_in = 3, .expect = ST_ERR_DTYPE},
               {.in = {{1, {5}}, {1, {5}, .dtype = GD_DTYPE_I64}, {1, {5}, .dtype = GD_DTYPE_BOOL}},
                .n_in = 3,
                .expect = ST_ERR_DTYPE}},
};

/* ---- functions ---- */

#define BINARY_WRAPPER(name_x)                                                                                         \
    status_t gd_##name_x(gd_tensor_t *a, gd_tensor_t *b, gd_tensor_t **y_p)                                            \
    {                                                                                                                  \
        return gd_op_binary((gd_op_id_t)gd_op_id_##name_x, a, b, y_p);                                                 \
    }
GD_BINARY_LIST(BINARY_WRAPPER)

status_t gd_number_beside(const gd_tensor_t *x, gd_number_t number, gd_tensor_t **t_p)
{
    gd_dtype_t dtype = x->dtype;
    if (number.is_float) {
        return gd_tensor_scalar(gd_dtype_float_of(dtype), number.f, t_p);
    }
    if (dtype == GD_DTYPE_BOOL) {
        dtype = GD_DTYPE_I64;
    }
    if ((dtype == GD_DTYPE_I32 && number.i != (int32_t)number.i) ||
        (dtype == GD_DTYPE_U8 && number.i != (uint8_t)number.i)) {
        return ST_FAIL(ST_ERR_RANGE, "the number %lld beside a tensor of %s, which can't hold it", (long long)number.i,
                       gd_dtype_name(dtype));
    }
    gd_tensor_t *t = NULL;
    status_t status = gd_tensor_scalar(dtype, number.f, &t);
    if (status != ST_OK) {
        return status;
    }
    if (dtype == GD_DTYPE_I64) {
        *(int64_t *)gd_tensor_data(t) = number.i; /* a double may not hold it */
    }
    *t_p = t;
    return ST_OK;
}

status_t gd_number_operand(const gd_tensor_t *x, gd_number_t number, bool is_arithmetic, gd_tensor_t **t_p)
{
    if (x == NULL) {
        return gd_op_check_given("number", x, 0);
    }
    const bool is_half = x->n_dims > 0 && gd_dtype_is_float(x->dtype) && gd_dtype_widen(x->dtype) != x->dtype;
    return is_arithmetic && is_half ? gd_tensor_scalar(GD_DTYPE_F32, number.f, t_p) : gd_number_beside(x, number, t_p);
}

static status_t number_apply(gd_binary_func_t function, gd_tensor_t *x, gd_number_t number, bool is_first,
                             gd_tensor_t **y_p)
{
    gd_tensor_t *t = NULL;
    const bool is_arithmetic = function == gd_add || function == gd_sub || function == gd_mul || function == gd_div;
    status_t status = gd_number_operand(x, number, is_arithmetic, &t);
    if (status == ST_OK) {
        status = is_first ? function(t, x, y_p) : function(x, t, y_p);
    }
    (void)gd_tensor_unref(t);
    return status;
}

status_t gd_with_number(gd_binary_func_t function, gd_tensor_t *x, gd_number_t number, gd_tensor_t **y_p)
{
    return number_apply(function, x, number, false, y_p);
}

status_t gd_number_with(gd_binary_func_t function, gd_number_t number, gd_tensor_t *x, gd_tensor_t **y_p)
{
    return number_apply(function, x, number, true, y_p);
}

status_t gd_where(gd_tensor_t *condition, gd_tensor_t *a, gd_tensor_t *b, gd_tensor_t **y_p)
{
    if (a == NULL || b == NULL) {
        return gd_op_check_given("where", NULL, a == NULL ? 0 : 1);
    }
    const gd_dtype_t dtype = gd_dtype_result((gd_dtype_t[]){a->dtype, b->dtype}, (int[]){a->n_dims, b->n_dims}, 2);
    compose_t c = {0};
    gd_tensor_t *a_cast = NULL;
    gd_tensor_t *b_cast = NULL;
    status_t status = gd_cast(a, dtype, &a_cast);
    a_cast = compose_take(&c, status, a_cast);
    status = gd_cast(b, dtype, &b_cast);
    b_cast = compose_take(&c, status, b_cast);
    gd_tensor_t *y = compose_where(&c, condition, a_cast, b_cast);
    return compose_finish(&c, y, y_p);
}

status_t gd_masked_fill(gd_tensor_t *x, gd_tensor_t *mask, double value, gd_tensor_t **y_p)
{
    compose_t c = {0};
    gd_tensor_t *filling = compose_number(&c, x, value);
    gd_tensor_t *y = compose_where(&c, mask, filling, x);
    if (c.status == ST_OK && !gd_shape_equal(y->n_dims, y->shape, x->n_dims, x->shape)) {
        c.status = gd_op_fail_shapes(ST_ERR_SHAPE, "masked_fill", x, mask, "the mask doesn't broadcast to the tensor");
    }
    return compose_finish(&c, y, y_p);
}

/* The dtype of a result that is composed of several steps, and in wide_p, what these are computed in: rounded once. */
static gd_dtype_t composed_dtype(gd_tensor_t *const *in, int n_in, gd_dtype_t *wide_p)
{
    gd_dtype_t dtypes[3];
    int n_dims[3];
    for (int i = 0; i < n_in; i++) {
        dtypes[i] = in[i]->dtype;
        n_dims[i] = in[i]->n_dims;
    }
    const gd_dtype_t dtype = gd_dtype_result(dtypes, n_dims, n_in);
    *wide_p = gd_dtype_widen(dtype);
    return dtype;
}

/* From the nearer end, so that 1 gives b. */
status_t gd_lerp(gd_tensor_t *a, gd_tensor_t *b, double weight, gd_tensor_t **y_p)
{
    compose_t c = {0};
    gd_dtype_t wide = GD_DTYPE_F32;
    const gd_dtype_t dtype = composed_dtype((gd_tensor_t *[]){a, b}, 2, &wide);
    const bool is_near_a = fabs(weight) < 0.5;
    gd_tensor_t *wide_a = compose_cast(&c, a, wide);
    gd_tensor_t *wide_b = compose_cast(&c, b, wide);
    gd_tensor_t *difference = compose_binary(&c, GD_OP_SUB, wide_b, wide_a);
    gd_tensor_t *part = compose_scale(&c, difference, is_near_a ? weight : weight - 1, 0);
    gd_tensor_t *y = compose_binary(&c, GD_OP_ADD, is_near_a ? wide_a : wide_b, part);
    return compose_finish(&c, compose_cast(&c, y, dtype), y_p);
}

static status_t add_combined(gd_op_id_t id, gd_tensor_t *x, gd_tensor_t *a, gd_tensor_t *b, double factor,
                             gd_tensor_t **y_p)
{
    compose_t c = {0};
    gd_dtype_t wide = GD_DTYPE_F32;
    const gd_dtype_t dtype = composed_dtype((gd_tensor_t *[]){x, a, b}, 3, &wide);
    gd_tensor_t *wide_a = compose_cast(&c, a, id == GD_OP_DIV ? gd_dtype_float_of(wide) : wide);
    gd_tensor_t *scaled = compose_scale(&c, wide_a, factor, 0);
    gd_tensor_t *combined = compose_binary(&c, id, scaled, compose_cast(&c, b, wide));
    gd_tensor_t *y = compose_binary(&c, GD_OP_ADD, compose_cast(&c, x, wide), combined);
    return compose_finish(&c, gd_dtype_is_float(dtype) ? compose_cast(&c, y, dtype) : y, y_p);
}

status_t gd_addcmul(gd_tensor_t *x, gd_tensor_t *a, gd_tensor_t *b, double factor, gd_tensor_t **y_p)
{
    return add_combined(GD_OP_MUL, x, a, b, factor, y_p);
}

status_t gd_addcdiv(gd_tensor_t *x, gd_tensor_t *a, gd_tensor_t *b, double factor, gd_tensor_t **y_p)
{
    return add_combined(GD_OP_DIV, x, a, b, factor, y_p);
}
