/* SPDX-License-Identifier: Apache-2.0 */
/* ops/gate: glu (Dauphin et al., ICML 2017) and prelu (He et al., ICCV 2015). */
#include "ops/helpers.h"

static status_t glu_check(const char *op, const gd_tensor_t *x, const gd_attrs_t *attrs)
{
    if (attrs->i[0] < 0 || attrs->i[0] >= x->n_dims) {
        return ST_FAIL(ST_ERR_RANGE, "%s: axis %lld of a tensor with %d dimensions", op, (long long)attrs->i[0],
                       x->n_dims);
    }
    if (x->shape[attrs->i[0]] % 2 != 0) {
        return gd_op_fail_shapes(ST_ERR_SHAPE, op, x, NULL, "the axis must have two halves");
    }
    return ST_OK;
}

static status_t glu_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    (void)n_in;
    status_t status = glu_check("glu", in[0], attrs);
    if (status == ST_OK) {
        gd_meta_set(out, in[0]->dtype, in[0]->n_dims, in[0]->shape);
        out->shape[attrs->i[0]] /= 2;
    }
    return status;
}

static status_t glu_gradient(gd_node_t *node, gd_tensor_t *dy, gd_tensor_t **dx)
{
    gd_tensor_t *in[2] = {dy, node->in[0]};
    return gd_op_apply(GD_OP_GLU_BACKWARD, in, 2, &node->attrs, dx);
}

const gd_op_t gd_op_glu = {
    .name = "glu",
    .formula = "y = a / (1 + exp(-b)), a and b the halves of x along the axis",
    .attrs = "i0 axis",
    .n_in = 1,
    .n_in_required = 1,
    .n_out = 1,
    .dtypes = OPS_DTYPES_FLOAT,
    .by_conversion = OPS_DTYPES_HALF,
    .saves = GD_SAVE_INPUTS,
    .contiguous_in = 1,
    .infer = glu_infer,
    .backward = glu_gradient,
    .sample = {{.in = {{2, {3, 8}, .lo = -3, .hi = 3}}, .n_in = 1, .attrs = {.i = {1}}},
               {.in = {{3, {2, 6, 21}, .lo = -3, .hi = 3}}, .n_in = 1, .attrs = {.i = {1}}},
               {.in = {{2, {4, 5}}}, .n_in = 1},
               {.in = {{2, {3, 0}}}, .n_in = 1, .attrs = {.i = {1}}},
               {.in = {{2, {3, 5}}}, .n_in = 1, .attrs = {.i = {1}}, .expect = ST_ERR_SHAPE},
               {.in = {{2, {3, 4}}}, .n_in = 1, .attrs = {.i = {2}}, .expect = ST_ERR_RANGE}},
};

static status_t glu_backward_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    const gd_tensor_t *dy = in[0];
    const gd_tensor_t *x = in[1];
    status_t status = gd_op_check_dtypes("glu_backward", in, n_in);
    if (status == ST_OK) {
        status = glu_check("glu_backward", x, attrs);
    }
    if (status != ST_OK) {
        return status;
    }
    gd_meta_set(out, x->dtype, x->n_dims, x->shape);
    out->shape[attrs->i[0]] /= 2;
    if (!gd_shape_equal(dy->n_dims, dy->shape, out->n_dims, out->shape)) {
        return gd_op_fail_shapes(ST_ERR_SHAPE, "glu_backward", dy, x, "dy must have half of x along the axis");
    }
    out->shape[attrs->i[0]] = x->shape[attrs->i[0]];
    return ST_OK;
}

const gd_op_t gd_op_glu_backward = {
    .name = "glu_backward",
    .formula = "da = dy s, db = dy a s (1 - s), s = 1 / (1 + exp(-b)), side by side as a and b in x",
    .attrs = "i0 axis",
    .n_in = 2,
    .n_in_required = 2,
    .n_out = 1,
    .dtypes = OPS_DTYPES_FLOAT,
    .by_conversion = OPS_DTYPES_HALF,
    .contiguous_in = 3,
    .infer = glu_backward_infer,
    .sample = {{.in = {{2, {3, 4}}, {2, {3, 8}, .lo = -3, .hi = 3}}, .n_in = 2, .attrs = {.i = {1}}},
               {.in = {{3, {2, 3, 21}}, {3, {2, 6, 21}, .lo = -3, .hi = 3}}, .n_in = 2, .attrs = {.i = {1}}},
               {.in = {{2, {3, 8}}, {2, {3, 8}}}, .n_in = 2, .attrs = {.i = {1}}, .expect = ST_ERR_SHAPE},
               {.in = {{2, {3, 4}}, {2, {3, 8}}}, .n_in = 2, .attrs = {.i = {-1}}, .expect = ST_ERR_RANGE}},
};

/* weight[1], or one for each channel of x[B,C,…] */
static status_t slopes_check(const char *op, const gd_tensor_t *x, const gd_tensor_t *weight)
{
    if (weight->n_dims != 1 || weight->shape[0] < 1 ||
        (weight->shape[0] > 1 && (x->n_dims < 2 || x->shape[1] != weight->shape[0]))) {
        return gd_op_fail_shapes(ST_ERR_SHAPE, op, x, weight, "weight must be [1] or [channels]");
    }
    return ST_OK;
}

static status_t prelu_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    status_t status = gd_op_check_dtypes("prelu", in, n_in);
    if (status == ST_OK) {
        status = slopes_check("prelu", in[0], in[1]);
    }
    return status == ST_OK ? gd_infer_like(in, n_in, attrs, out) : status;
}

static status_t prelu_gradient(gd_node_t *node, gd_tensor_t *dy, gd_tensor_t **dx)
{
    gd_tensor_t *in[3] = {dy, node->in[0], node->in[1]};
    gd_tensor_t *gradient[2] = {NULL};
    status_t status = gd_op_apply(GD_OP_PRELU_BACKWARD, in, 3, NULL, gradient);
    if (status == ST_OK) {
        gd_node_hand_out(node, gradient, 2, dx);
    }
    return status;
}

const gd_op_t gd_op_prelu = {
    .name = "prelu",
    .formula = "y[b,c,…] = x where x > 0, else weight[c] x",
    .n_in = 2,
    .n_in_required = 2,
    .n_out = 1,
    .dtypes = OPS_DTYPES_FLOAT,
    .by_conversion = OPS_DTYPES_HALF,
    .saves = GD_SAVE_INPUTS,
    .contiguous_in = 3,
    .infer = prelu_infer,
    .backward = prelu_gradient,
    .onnx = "PRelu",
    .sample = {{.in = {{2, {3, 4}}, {1, {1}}}, .n_in = 2},
               {.in = {{2, {5, 7}}, {1, {7}}}, .n_in = 2},
               {.in = {{4, {2, 3, 4, 5}}, {1, {3}}}, .n_in = 2},
               {.in = {{2, {90, 97}}, {1, {1}}}, .n_in = 2},
               {.in = {{0, {0}}, {1, {1}}}, .n_in = 2},
               {.in = {{3, {2, 3, 0}}, {1, {3}}}, .n_in = 2},
               {.in = {{2, {3, 4}}, {1, {3}}}, .n_in = 2, .expect = ST_ERR_SHAPE},
               {.in = {{2, {3, 4}}, {2, {1, 4}}}, .n_in = 2, .expect = ST_ERR_SHAPE}},
};

static status_t prelu_backward_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    (void)attrs;
    status_t status = gd_op_check_dtypes("prelu_backward", in, n_in);
    if (status == ST_OK) {
        status = gd_infer_same("prelu_backward", in, 2, &out[0]);
    }
    if (status == ST_OK) {
        status = slopes_check("prelu_backward", in[1], in[2]);
    }
    if (status == ST_OK) {
        gd_meta_set(&out[1], in[2]->dtype, 1, in[2]->shape);
    }
    return status;
}

const gd_op_t gd_op_prelu_backward = {
    .name = "prelu_backward",
    .formula = "dx = dy where x > 0, else weight[c] dy; dweight[c] = sum of dy x where x ≤ 0",
    .n_in = 3,
    .n_in_required = 3,
    .n_out = 2,
    .dtypes = OPS_DTYPES_FLOAT,
    .by_conversion = OPS_DTYPES_HALF,
    .contiguous_in = 7,
    .infer = prelu_backward_infer,
    .sample = {{.in = {{2, {3, 4}}, {2, {3, 4}}, {1, {1}}}, .n_in = 3},
               {.in = {{3, {2, 5, 33}}, {3, {2, 5, 33}}, {1, {5}}}, .n_in = 3},
               {.in = {{2, {9, 5}}, {2, {9, 5}}, {1, {5}}}, .n_in = 3},
               {.in = {{2, {3, 4}}, {2, {3, 5}}, {1, {1}}}, .n_in = 3, .expect = ST_ERR_SHAPE},
               {.in = {{2, {3, 4}}, {2, {3, 4}}, {1, {3}}}, .n_in = 3, .expect = ST_ERR_SHAPE}},
};

status_t gd_glu(gd_tensor_t *x, int axis, gd_tensor_t **y_p)
{
    gd_attrs_t attrs = {.i = {axis}};
    status_t status = gd_op_check_axis("glu", x, &attrs.i[0]);
    return status == ST_OK ? gd_op_apply(GD_OP_GLU, &x, 1, &attrs, y_p) : status;
}

status_t gd_prelu(gd_tensor_t *x, gd_tensor_t *weight, gd_tensor_t **y_p)
{
    return gd_op_binary(GD_OP_PRELU, x, weight, y_p);
}
