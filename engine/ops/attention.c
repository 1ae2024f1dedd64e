/* SPDX-License-Identifier: Apache-2.0 */
/* ops/attention: fused multi-head self-attention over packed queries, keys and values. */
#include <stdio.h>

#include "ops/helpers.h"

static status_t qkv_check(const char *op, const gd_tensor_t *qkv, const gd_attrs_t *attrs)
{
    const int64_t n_heads = attrs->i[0];
    if (qkv->n_dims != 3) {
        return gd_op_fail_shapes(ST_ERR_SHAPE, op, qkv, NULL, "[batch, time, 3 channels] is needed");
    }
    if (n_heads < 1 || qkv->shape[2] < 1 || qkv->shape[2] % 3 != 0 || qkv->shape[2] / 3 % n_heads != 0) {
        char why[96];
        (void)snprintf(why, sizeof(why), "the last size must be three times a multiple of the %lld heads",
                       (long long)n_heads);
        return gd_op_fail_shapes(ST_ERR_SHAPE, op, qkv, NULL, why);
    }
    return ST_OK;
}

static status_t attention_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    (void)n_in;
    const gd_tensor_t *qkv = in[0];
    status_t status = qkv_check("attention", qkv, attrs);
    if (status != ST_OK) {
        return status;
    }
    gd_meta_set(&out[0], qkv->dtype, 3, qkv->shape);
    out[0].shape[2] /= 3;
    gd_meta_set(&out[1], gd_dtype_widen(qkv->dtype), 3, (const int64_t[3]){qkv->shape[0], attrs->i[0], qkv->shape[1]});
    return ST_OK;
}

static status_t attention_gradient(gd_node_t *node, gd_tensor_t *dy, gd_tensor_t **dx)
{
    gd_tensor_t *in[4] = {dy, node->in[0], node->out[0], node->out[1]};
    return gd_op_apply(GD_OP_ATTENTION_BACKWARD, in, 4, &node->attrs, dx);
}

const gd_op_t gd_op_attention = {
    .name = "attention",
    .formula = "y[b,t,hd] = sum_u softmax_u(q[b,t,h]·k[b,u,h] / sqrt(D)) v[b,u,hd], u ≤ t where causal",
    .attrs = "i0 heads; i1 causal",
    .n_in = 1,
    .n_in_required = 1,
    .n_out = 2,
    .dtypes = OPS_DTYPES_FLOAT,
    .saves = GD_SAVE_INPUTS | GD_SAVE_OUTPUTS,
    .autocast = GD_AUTOCAST_LOWER,
    .contiguous_in = 1,
    .infer = attention_infer,
    .backward = attention_gradient,
    .sample = {{.in = {{3, {2, 3, 12}}}, .n_in = 1, .attrs = {.i = {2, 1}}},
               {.in = {{3, {1, 5, 6}}}, .n_in = 1, .attrs = {.i = {1, 0}}},
               {.in = {{3, {2, 19, 96}, .lo = -2, .hi = 2}}, .n_in = 1, .attrs = {.i = {2, 1}}},
               {.in = {{3, {1, 37, 30}, .lo = -2, .hi = 2}}, .n_in = 1, .attrs = {.i = {2, 0}}},
               {.in = {{3, {1, 35, 18}, .lo = -3, .hi = 3}}, .n_in = 1, .attrs = {.i = {1, 1}}},
               {.in = {{3, {1, 1, 6}}}, .n_in = 1, .attrs = {.i = {2, 1}}},
               {.in = {{3, {0, 3, 6}}}, .n_in = 1, .attrs = {.i = {2, 1}}},
               {.in = {{3, {2, 0, 6}}}, .n_in = 1, .attrs = {.i = {2, 1}}},
               {.in = {{3, {2, 3, 10}}}, .n_in = 1, .attrs = {.i = {2, 1}}, .expect = ST_ERR_SHAPE},
               {.in = {{3, {2, 3, 12}}}, .n_in = 1, .attrs = {.i = {3, 1}}, .expect = ST_ERR_SHAPE},
               {.in = {{2, {3, 12}}}, .n_in = 1, .attrs = {.i = {2, 1}}, .expect = ST_ERR_SHAPE},
               {.in = {{3, {2, 3, 12}}}, .n_in = 1, .expect = ST_ERR_SHAPE}},
};

extern const gd_op_t gd_op_attention_backward;

static status_t attention_backward_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    const gd_tensor_t *qkv = in[1];
    status_t status = qkv_check("attention_backward", qkv, attrs);
    if (status == ST_OK) {
        status = gd_op_check_mixed(&gd_op_attention_backward, in, n_in);
    }
    if (status != ST_OK) {
        return status;
    }
    const int64_t y_shape[3] = {qkv->shape[0], qkv->shape[1], qkv->shape[2] / 3};
    const int64_t lse_shape[3] = {qkv->shape[0], attrs->i[0], qkv->shape[1]};
    for (int i = 0; i < 4; i++) {
        if (i != 1 && !gd_shape_equal(3, i == 3 ? lse_shape : y_shape, in[i]->n_dims, in[i]->shape)) {
            return gd_op_fail_shapes(ST_ERR_SHAPE, "attention_backward", in[i], qkv,
                                     "the shapes don't belong together");
        }
    }
    gd_meta_set(out, qkv->dtype, 3, qkv->shape);
    return ST_OK;
}

const gd_op_t gd_op_attention_backward = {
    .name = "attention_backward",
    .formula =
        "ds = p (dy vᵀ - rowsum(dy y)) / sqrt(D), p = exp(q kᵀ / sqrt(D) - lse); dq = ds k, dk = dsᵀ q, dv = pᵀ dy",
    .attrs = "i0 heads; i1 causal",
    .n_in = 4,
    .n_in_required = 4,
    .n_out = 1,
    .dtypes = OPS_DTYPES_FLOAT,
    .contiguous_in = 15,
    .f32_in = 8,
    .infer = attention_backward_infer,
    .sample = {{.in = {{3, {2, 3, 4}}, {3, {2, 3, 12}}, {3, {2, 3, 4}}, {3, {2, 2, 3}, .lo = 1, .hi = 2}},
                .n_in = 4,
                .attrs = {.i = {2, 1}}},
               {.in = {{3, {1, 37, 10}}, {3, {1, 37, 30}}, {3, {1, 37, 10}}, {3, {1, 2, 37}, .lo = 3, .hi = 4}},
                .n_in = 4,
                .attrs = {.i = {2, 0}}},
               {.in = {{3, {1, 41, 32}}, {3, {1, 41, 96}}, {3, {1, 41, 32}}, {3, {1, 1, 41}, .lo = 3, .hi = 4}},
                .n_in = 4,
                .attrs = {.i = {1, 1}}},
               {.in = {{3, {2, 3, 4}}, {3, {2, 3, 12}}, {3, {2, 3, 4}}, {3, {2, 3, 2}}},
                .n_in = 4,
                .attrs = {.i = {2, 1}},
                .expect = ST_ERR_SHAPE}},
};

status_t gd_attention(gd_tensor_t *qkv, int n_heads, bool is_causal, gd_tensor_t **y_p)
{
    gd_tensor_t *out[2] = {NULL};
    const gd_attrs_t attrs = {.i = {n_heads, is_causal}};
    status_t status = gd_op_apply(GD_OP_ATTENTION, &qkv, 1, &attrs, out);
    if (status != ST_OK) {
        return status;
    }
    (void)gd_tensor_unref(out[1]);
    *y_p = out[0];
    return ST_OK;
}
