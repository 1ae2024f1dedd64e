/* SPDX-License-Identifier: Apache-2.0 */
/* ops/group_norm: normalisation over groups of a sample's channels (Wu and He, ECCV 2018). */
#include "ops/helpers.h"

/* x[B,C,…] whose channels i0 groups divide, epsilon above 0, vectors [size] where they are there. */
static status_t groups_check(const char *op, const gd_tensor_t *x, const gd_attrs_t *attrs)
{
    if (x->n_dims < 2 || x->shape[1] < 1) {
        return gd_op_fail_shapes(ST_ERR_SHAPE, op, x, NULL, "[batch, channels, …] is needed");
    }
    if (attrs->i[0] < 1 || x->shape[1] % attrs->i[0] != 0) {
        return ST_FAIL(ST_ERR_RANGE, "%s: %lld groups don't divide %lld channels", op, (long long)attrs->i[0],
                       (long long)x->shape[1]);
    }
    if (!(attrs->f[0] > 0.0)) {
        return ST_FAIL(ST_ERR_RANGE, "%s: epsilon %g must be above 0", op, attrs->f[0]);
    }
    return ST_OK;
}

static status_t vectors_check(const char *op, const gd_tensor_t *x, gd_tensor_t *const *vectors, int n, int64_t size)
{
    for (int i = 0; i < n; i++) {
        if (vectors[i] != NULL && (vectors[i]->n_dims != 1 || vectors[i]->shape[0] != size)) {
            return gd_op_fail_shapes(ST_ERR_SHAPE, op, x, vectors[i],
                                     "weight and bias must be [channels], statistics [batch · groups]");
        }
    }
    return ST_OK;
}

extern const gd_op_t gd_op_group_norm;
extern const gd_op_t gd_op_group_norm_backward;

static status_t group_norm_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    const gd_tensor_t *x = in[0];
    status_t status = groups_check("group_norm", x, attrs);
    if (status == ST_OK) {
        status = gd_op_check_mixed(&gd_op_group_norm, in, n_in);
    }
    if (status == ST_OK) {
        status = vectors_check("group_norm", x, in + 1, n_in - 1, x->shape[1]);
    }
    if (status != ST_OK) {
        return status;
    }
    const int64_t n_groups = x->shape[0] * attrs->i[0];
    if (n_groups > 0 && x->numel == 0) {
        return gd_op_fail_shapes(ST_ERR_SHAPE, "group_norm", x, NULL, "a channel needs at least one value");
    }
    gd_meta_set(&out[0], x->dtype, x->n_dims, x->shape);
    gd_meta_set(&out[1], gd_dtype_widen(x->dtype), 1, &n_groups);
    gd_meta_set(&out[2], gd_dtype_widen(x->dtype), 1, &n_groups);
    return ST_OK;
}

static status_t group_norm_gradient(gd_node_t *node, gd_tensor_t *dy, gd_tensor_t **dx)
{
    gd_tensor_t *in[5] = {dy, node->in[0], node->out[1], node->out[2], node->n_in > 1 ? node->in[1] : NULL};
    gd_tensor_t *gradient[3] = {NULL};
    status_t status = gd_op_apply(GD_OP_GROUP_NORM_BACKWARD, in, 5, &node->attrs, gradient);
    if (status == ST_OK) {
        gd_node_hand_out(node, gradient, 3, dx);
    }
    return status;
}

#define GROUPS(n_x) .attrs = {.i = {(n_x)}, .f = {1e-5}}

const gd_op_t gd_op_group_norm = {
    .name = "group_norm",
    .formula = "y[b,c,…] = (x - mean) rstd weight_c + bias_c; mean, rstd over the channels of c's group in sample b",
    .attrs = "i0 groups; f0 epsilon",
    .n_in = 3,
    .n_in_required = 1,
    .n_out = 3,
    .dtypes = OPS_DTYPES_FLOAT,
    .by_conversion = OPS_DTYPES_HALF,
    .f32_in = 6,
    .saves = GD_SAVE_INPUTS | GD_SAVE_OUTPUTS,
    .contiguous_in = 7,
    .infer = group_norm_infer,
    .backward = group_norm_gradient,
    .onnx = "GroupNormalization",
    .sample = {{.in = {{4, {2, 6, 3, 5}}, {1, {6}}, {1, {6}}}, .n_in = 3, GROUPS(2)},
               {.in = {{3, {3, 4, 21}}, {1, {4}}, {1, {4}}}, .n_in = 3, GROUPS(4)},
               {.in = {{3, {2, 6, 4}}, {1, {6}}}, .n_in = 2, GROUPS(3)},
               {.in = {{2, {3, 8}}, {.is_absent = true}, {1, {8}}}, .n_in = 3, GROUPS(2)},
               {.in = {{5, {1, 2, 2, 3, 2}}}, .n_in = 1, GROUPS(1)},
               {.in = {{3, {0, 4, 3}}, {1, {4}}, {1, {4}}}, .n_in = 3, GROUPS(2)},
               {.in = {{3, {2, 6, 4}}}, .n_in = 1, GROUPS(4), .expect = ST_ERR_RANGE},
               {.in = {{3, {2, 6, 4}}, {1, {4}}}, .n_in = 2, GROUPS(2), .expect = ST_ERR_SHAPE},
               {.in = {{3, {2, 6, 0}}}, .n_in = 1, GROUPS(2), .expect = ST_ERR_SHAPE},
               {.in = {{1, {6}}}, .n_in = 1, GROUPS(2), .expect = ST_ERR_SHAPE}},
};

static status_t group_norm_backward_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    const char *op = "group_norm_backward";
    const gd_tensor_t *x = in[1];
    status_t status = groups_check(op, x, attrs);
    if (status == ST_OK) {
        status = gd_op_check_mixed(&gd_op_group_norm_backward, in, n_in);
    }
    if (status == ST_OK) {
        status = gd_infer_same(op, in, 2, &out[0]);
    }
    if (status == ST_OK) {
        status = vectors_check(op, x, in + 2, 2, x->shape[0] * attrs->i[0]);
    }
    if (status == ST_OK) {
        status = vectors_check(op, x, in + 4, n_in - 4, x->shape[1]);
    }
    if (status != ST_OK) {
        return status;
    }
    gd_meta_set(&out[1], gd_dtype_widen(x->dtype), 1, &x->shape[1]);
    gd_meta_set(&out[2], gd_dtype_widen(x->dtype), 1, &x->shape[1]);
    return ST_OK;
}

const gd_op_t gd_op_group_norm_backward = {
    .name = "group_norm_backward",
    .formula = "dx = rstd (g - mean(g) - xhat mean(g xhat)), g = dy weight, means over the group; "
               "dweight = sum dy xhat, dbias = sum dy",
    .attrs = "i0 groups; f0 epsilon",
    .n_in = 5,
    .n_in_required = 4,
    .n_out = 3,
    .dtypes = OPS_DTYPES_FLOAT,
    .by_conversion = OPS_DTYPES_HALF,
    .f32_in = 28,
    .contiguous_in = 31,
    .infer = group_norm_backward_infer,
    .sample =
        {{.in = {{3, {2, 6, 5}}, {3, {2, 6, 5}}, {1, {4}}, {1, {4}, .lo = 0.5, .hi = 2}, {1, {6}}},
          .n_in = 5,
          GROUPS(2)},
         {.in = {{4, {3, 4, 3, 7}}, {4, {3, 4, 3, 7}}, {1, {12}}, {1, {12}, .lo = 0.5, .hi = 2}}, .n_in = 4, GROUPS(4)},
         {.in = {{3, {2, 6, 5}}, {3, {2, 6, 5}}, {1, {3}}, {1, {4}}}, .n_in = 4, GROUPS(2), .expect = ST_ERR_SHAPE},
         {.in = {{3, {2, 6, 5}}, {3, {2, 6, 4}}, {1, {4}}, {1, {4}}}, .n_in = 4, GROUPS(2), .expect = ST_ERR_SHAPE}},
};

status_t gd_group_norm(gd_tensor_t *x, int64_t n_groups, gd_tensor_t *weight, gd_tensor_t *bias, double epsilon,
                       gd_tensor_t **y_p)
{
    gd_tensor_t *in[3] = {x, weight, bias};
    gd_tensor_t *out[3] = {NULL};
    const gd_attrs_t attrs = {.i = {n_groups}, .f = {epsilon}};
    status_t status = gd_op_apply(GD_OP_GROUP_NORM, in, 3, &attrs, out);
    if (status != ST_OK) {
        return status;
    }
    (void)gd_tensor_unref(out[1]);
    (void)gd_tensor_unref(out[2]);
    *y_p = out[0];
    return ST_OK;
}
