/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ops/gelu: gd_gelu, and the op that it is where a gradient will be asked for: forward has exp(-x²/2) and Phi(x) in
 * hand, so it writes the slope too. Backward is a product then, and nobody keeps x: the memory is the same.
 * In 16 bits the slope would be rounded, so there backward computes it from x (gelu, gelu_backward).
 */
#include "gradd/context.h"
#include "ops/helpers.h"

enum { OUT_SLOPE = 1 };

static status_t gelu_with_slope_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    (void)n_in;
    (void)attrs;
    gd_meta_set(&out[0], in[0]->dtype, in[0]->n_dims, in[0]->shape);
    gd_meta_set(&out[OUT_SLOPE], in[0]->dtype, in[0]->n_dims, in[0]->shape);
    return ST_OK;
}

static status_t gelu_with_slope_gradient(gd_node_t *node, gd_tensor_t *dy, gd_tensor_t **dx)
{
    gd_tensor_t *in[2] = {dy, node->out[OUT_SLOPE]};
    return gd_op_apply_over(GD_OP_MUL, in, 2, NULL, dx);
}

#define X                                                                                                              \
    {                                                                                                                  \
        2, {3, 69}, .lo = -9, .hi = 9                                                                                  \
    }

const gd_op_t gd_op_gelu_with_slope = {
    .name = "gelu_with_slope",
    .formula = "y as gelu; slope = gelu'(x)",
    .attrs = "i0 tanh approximation",
    .n_in = 1,
    .n_in_required = 1,
    .n_out = 2,
    .saves = GD_SAVE_OUTPUTS,
    .saves_out = 1u << OUT_SLOPE,
    .contiguous_in = 1,
    .infer = gelu_with_slope_infer,
    .backward = gelu_with_slope_gradient,
    .onnx = "Gelu",
    .sample = {{.in = {{2, {3, 4}, .lo = -3, .hi = 3}}, .n_in = 1},
               {.in = {{2, {3, 4}, .lo = -3, .hi = 3}}, .n_in = 1, .attrs = {.i = {1}}},
               {.in = {X}, .n_in = 1},
               {.in = {X}, .n_in = 1, .attrs = {.i = {1}}},
               {.in = {{0, {0}}}, .n_in = 1},
               {.in = {{2, {3, 0}}}, .n_in = 1},
               {.in = {{1, {3}, .dtype = GD_DTYPE_I32, .int_limit = 5}}, .n_in = 1, .expect = ST_ERR_UNSUPPORTED},
               {.in = {{1, {3}, .dtype = GD_DTYPE_BF16}}, .n_in = 1, .expect = ST_ERR_UNSUPPORTED}},
};

static status_t gelu_apply(gd_tensor_t *x, const gd_tensor_t *spare, bool tanh_approximation, gd_tensor_t **y_p)
{
    const gd_attrs_t attrs = {.i = {tanh_approximation}};
    const bool is_wide = x->dtype == GD_DTYPE_F32 || x->dtype == GD_DTYPE_F64;
    if (!is_wide || !gd_grad_is_enabled() || !gd_tensor_tracks(x)) {
        return gd_op_apply_reusing(GD_OP_GELU, &x, 1, &attrs, spare, y_p);
    }
    gd_tensor_t *out[2] = {NULL};
    status_t status = gd_op_apply_reusing(GD_OP_GELU_WITH_SLOPE, &x, 1, &attrs, spare, out);
    if (status == ST_OK) {
        (void)gd_tensor_unref(out[OUT_SLOPE]);
        *y_p = out[0];
    }
    return status;
}

status_t gd_gelu(gd_tensor_t *x, bool tanh_approximation, gd_tensor_t **y_p)
{
    return gelu_apply(x, NULL, tanh_approximation, y_p);
}

status_t gd_gelu_last(gd_tensor_t *x, bool tanh_approximation, gd_tensor_t **y_p)
{
    return gelu_apply(x, x, tanh_approximation, y_p);
}
