/* SPDX-License-Identifier: Apache-2.0 */
/* ops/rms_norm: rows divided by their root mean square (Zhang and Sennrich, NeurIPS 2019). */
#include "ops/helpers.h"

/* x[…,C] with C ≥ 1, in[1 … n_in - 1] absent or [wanted]. */
static status_t rows_check(const char *op, const gd_tensor_t *x, int64_t *n_rows_p)
{
    if (x->n_dims < 1 || x->shape[x->n_dims - 1] < 1) {
        return gd_op_fail_shapes(ST_ERR_SHAPE, op, x, NULL, "a last dimension of at least 1 is needed");
    }
    *n_rows_p = x->numel / x->shape[x->n_dims - 1];
    return ST_OK;
}

static status_t vector_check(const char *op, const gd_tensor_t *x, const gd_tensor_t *vector, int64_t size)
{
    if (vector != NULL && (vector->n_dims != 1 || vector->shape[0] != size)) {
        return gd_op_fail_shapes(ST_ERR_SHAPE, op, x, vector, "weight must be [width], statistics [rows]");
    }
    return ST_OK;
}

extern const gd_op_t gd_op_rms_norm;
extern const gd_op_t gd_op_rms_norm_backward;

static status_t rms_norm_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    const gd_tensor_t *x = in[0];
    int64_t n_rows = 0;
    status_t status = rows_check("rms_norm", x, &n_rows);
    if (status == ST_OK) {
        status = gd_op_check_mixed(&gd_op_rms_norm, in, n_in);
    }
    if (status == ST_OK) {
        status = vector_check("rms_norm", x, n_in > 1 ? in[1] : NULL, x->shape[x->n_dims - 1]);
    }
    if (status != ST_OK) {
        return status;
    }
    if (!(attrs->f[0] > 0.0)) {
        return ST_FAIL(ST_ERR_RANGE, "rms_norm: epsilon %g must be above 0", attrs->f[0]);
    }
    gd_meta_set(&out[0], x->dtype, x->n_dims, x->shape);
    gd_meta_set(&out[1], gd_dtype_widen(x->dtype), 1, &n_rows);
    return ST_OK;
}

static status_t rms_norm_gradient(gd_node_t *node, gd_tensor_t *dy, gd_tensor_t **dx)
{
    gd_tensor_t *in[4] = {dy, node->in[0], node->out[1], node->n_in > 1 ? node->in[1] : NULL};
    gd_tensor_t *gradient[2] = {NULL};
    status_t status = gd_op_apply(GD_OP_RMS_NORM_BACKWARD, in, 4, NULL, gradient);
    if (status == ST_OK) {
        gd_node_hand_out(node, gradient, 2, dx);
    }
    return status;
}

#define EPSILON .attrs = {.f = {1e-5}}

const gd_op_t gd_op_rms_norm = {
    .name = "rms_norm",
    .formula = "y[n,c] = x[n,c] rstd_n weight[c], rstd_n = 1 / sqrt(mean_c(x[n,c]²) + epsilon)",
    .attrs = "f0 epsilon",
    .n_in = 2,
    .n_in_required = 1,
    .n_out = 2,
    .dtypes = OPS_DTYPES_FLOAT,
    .by_conversion = OPS_DTYPES_HALF,
    .f32_in = 2,
    .saves = GD_SAVE_INPUTS | GD_SAVE_OUTPUTS,
    .contiguous_in = 3,
    .infer = rms_norm_infer,
    .backward = rms_norm_gradient,
    .onnx = "RMSNormalization",
    .sample = {{.in = {{2, {3, 4}}, {1, {4}}}, .n_in = 2, EPSILON},
               {.in = {{3, {2, 3, 69}}, {1, {69}}}, .n_in = 2, EPSILON},
               {.in = {{2, {35, 6}}}, .n_in = 1, EPSILON},
               {.in = {{1, {8}}, {1, {8}}}, .n_in = 2, EPSILON},
               {.in = {{2, {0, 4}}, {1, {4}}}, .n_in = 2, EPSILON},
               {.in = {{2, {3, 4}}, {1, {3}}}, .n_in = 2, EPSILON, .expect = ST_ERR_SHAPE},
               {.in = {{0, {0}}}, .n_in = 1, EPSILON, .expect = ST_ERR_SHAPE},
               {.in = {{2, {3, 4}}}, .n_in = 1, .expect = ST_ERR_RANGE}},
};

static status_t rms_norm_backward_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    (void)attrs;
    const char *op = "rms_norm_backward";
    const gd_tensor_t *x = in[1];
    int64_t n_rows = 0;
    status_t status = rows_check(op, x, &n_rows);
    if (status == ST_OK) {
        status = gd_op_check_mixed(&gd_op_rms_norm_backward, in, n_in);
    }
    if (status == ST_OK) {
        status = gd_infer_same(op, in, 2, &out[0]);
    }
    if (status != ST_OK) {
        return status;
    }
    const int64_t width = x->shape[x->n_dims - 1];
    status = vector_check(op, x, in[2], n_rows);
    if (status == ST_OK) {
        status = vector_check(op, x, n_in > 3 ? in[3] : NULL, width);
    }
    gd_meta_set(&out[1], gd_dtype_widen(x->dtype), 1, &width);
    return status;
}

const gd_op_t gd_op_rms_norm_backward = {
    .name = "rms_norm_backward",
    .formula = "dx = rstd (g - xhat mean(g xhat)), g = dy weight, xhat = x rstd; dweight = sum_n dy xhat",
    .n_in = 4,
    .n_in_required = 3,
    .n_out = 2,
    .dtypes = OPS_DTYPES_FLOAT,
    .by_conversion = OPS_DTYPES_HALF,
    .f32_in = 12,
    .contiguous_in = 15,
    .infer = rms_norm_backward_infer,
    .sample = {{.in = {{2, {3, 4}}, {2, {3, 4}}, {1, {3}, .lo = 0.5, .hi = 2}, {1, {4}}}, .n_in = 4},
               {.in = {{2, {37, 69}}, {2, {37, 69}}, {1, {37}, .lo = 0.5, .hi = 2}, {1, {69}}}, .n_in = 4},
               {.in = {{2, {3, 4}}, {2, {3, 4}}, {1, {4}}, {1, {4}}}, .n_in = 4, .expect = ST_ERR_SHAPE},
               {.in = {{2, {3, 4}}, {2, {4, 3}}, {1, {3}}, {1, {4}}}, .n_in = 4, .expect = ST_ERR_SHAPE}},
};

status_t gd_rms_norm(gd_tensor_t *x, gd_tensor_t *weight, double epsilon, gd_tensor_t **y_p)
{
    gd_tensor_t *in[2] = {x, weight};
    gd_tensor_t *out[2] = {NULL};
    const gd_attrs_t attrs = {.f = {epsilon}};
    status_t status = gd_op_apply(GD_OP_RMS_NORM, in, 2, &attrs, out);
    if (status != ST_OK) {
        return status;
    }
    (void)gd_tensor_unref(out[1]);
    *y_p = out[0];
    return ST_OK;
}
