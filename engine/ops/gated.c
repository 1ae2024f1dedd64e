/* SPDX-License-Identifier: Apache-2.0 */
/* ops/gated: products with an activation of the one factor: SwiGLU, GEGLU and their like. */
#include "ops/helpers.h"

static status_t gate_check(const char *op, gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    if (attrs->i[0] < 0 || attrs->i[0] >= GD_GATE_COUNT) {
        return ST_FAIL(ST_ERR_INVAL, "%s: %lld is no gate", op, (long long)attrs->i[0]);
    }
    return gd_infer_same(op, in, n_in, out);
}

static status_t gated_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    return gate_check("gated", in, n_in, attrs, out);
}

static status_t gated_gradient(gd_node_t *node, gd_tensor_t *dy, gd_tensor_t **dx)
{
    gd_tensor_t *in[3] = {dy, node->in[0], node->in[1]};
    gd_tensor_t *gradient[2] = {NULL};
    status_t status = gd_op_apply(GD_OP_GATED_BACKWARD, in, 3, &node->attrs, gradient);
    if (status == ST_OK) {
        gd_node_hand_out(node, gradient, 2, dx);
    }
    return status;
}

#define GATE(gate_x) .attrs = {.i = {gate_x}}

const gd_op_t gd_op_gated = {
    .name = "gated",
    .formula = "y = f(a) b",
    .attrs = "i0 f: sigmoid, silu, gelu, gelu by tanh, relu, linear",
    .n_in = 2,
    .n_in_required = 2,
    .n_out = 1,
    .dtypes = OPS_DTYPES_FLOAT,
    .by_conversion = OPS_DTYPES_HALF,
    .saves = GD_SAVE_INPUTS,
    .autocast = GD_AUTOCAST_KEEP,
    .contiguous_in = 3,
    .infer = gated_infer,
    .backward = gated_gradient,
    .sample = {{.in = {{2, {3, 5}}, {2, {3, 5}}}, .n_in = 2, GATE(GD_GATE_SIGMOID)},
               {.in = {{2, {3, 21}, .lo = -3, .hi = 3}, {2, {3, 21}}}, .n_in = 2, GATE(GD_GATE_SILU)},
               {.in = {{2, {3, 21}, .lo = -3, .hi = 3}, {2, {3, 21}}}, .n_in = 2, GATE(GD_GATE_GELU)},
               {.in = {{2, {3, 21}, .lo = -3, .hi = 3}, {2, {3, 21}}}, .n_in = 2, GATE(GD_GATE_GELU_TANH)},
               {.in = {{2, {3, 5}}, {2, {3, 5}}}, .n_in = 2, GATE(GD_GATE_RELU)},
               {.in = {{1, {9}}, {1, {9}}}, .n_in = 2, GATE(GD_GATE_LINEAR)},
               {.in = {{2, {0, 5}}, {2, {0, 5}}}, .n_in = 2, GATE(GD_GATE_SILU)},
               {.in = {{2, {3, 5}}, {2, {3, 4}}}, .n_in = 2, GATE(GD_GATE_SILU), .expect = ST_ERR_SHAPE},
               {.in = {{2, {3, 5}}, {2, {3, 5}}}, .n_in = 2, GATE(17), .expect = ST_ERR_INVAL}},
};

static status_t gated_backward_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    status_t status = gate_check("gated_backward", in, n_in, attrs, &out[0]);
    if (status == ST_OK) {
        out[1] = out[0];
    }
    return status;
}

const gd_op_t gd_op_gated_backward = {
    .name = "gated_backward",
    .formula = "da = dy b f'(a), db = dy f(a)",
    .attrs = "i0 f: sigmoid, silu, gelu, gelu by tanh, relu, linear",
    .n_in = 3,
    .n_in_required = 3,
    .n_out = 2,
    .dtypes = OPS_DTYPES_FLOAT,
    .by_conversion = OPS_DTYPES_HALF,
    .autocast = GD_AUTOCAST_KEEP,
    .contiguous_in = 7,
    .infer = gated_backward_infer,
    .sample = {{.in = {{2, {3, 21}}, {2, {3, 21}, .lo = -3, .hi = 3}, {2, {3, 21}}}, .n_in = 3, GATE(GD_GATE_SILU)},
               {.in = {{2, {3, 5}}, {2, {3, 5}, .lo = -3, .hi = 3}, {2, {3, 5}}}, .n_in = 3, GATE(GD_GATE_GELU)},
               {.in = {{2, {3, 5}}, {2, {3, 5}}, {2, {3, 4}}}, .n_in = 3, GATE(GD_GATE_SILU), .expect = ST_ERR_SHAPE}},
};

status_t gd_gated(gd_gate_t gate, gd_tensor_t *a, gd_tensor_t *b, gd_tensor_t **y_p)
{
    gd_tensor_t *in[2] = {a, b};
    const gd_attrs_t attrs = {.i = {gate}};
    return gd_op_apply(GD_OP_GATED, in, 2, &attrs, y_p);
}
