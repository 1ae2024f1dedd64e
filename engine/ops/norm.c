/* SPDX-License-Identifier: Apache-2.0 */
/* ops/norm: normalisation over the last axis (layer_norm) and over all but the channels (batch_norm). */
#include "ops/helpers.h"

/* Inputs 1 … n_in - 1 are absent or [C]. */
static status_t vectors_check(const char *op, gd_tensor_t *const *in, int n_in, const gd_tensor_t *x, int64_t channels)
{
    for (int i = 0; i < n_in; i++) {
        if (in[i] != NULL && (in[i]->n_dims != 1 || in[i]->shape[0] != channels)) {
            return gd_op_fail_shapes(ST_ERR_SHAPE, op, x, in[i], "weight, bias and statistics must be [channels]");
        }
    }
    return ST_OK;
}

static status_t epsilon_check(const char *op, const gd_attrs_t *attrs)
{
    if (!(attrs->f[0] > 0.0)) {
        return ST_FAIL(ST_ERR_RANGE, "%s: epsilon %g must be above 0", op, attrs->f[0]);
    }
    return ST_OK;
}

/* x[…,C] seen as rows of C. */
static status_t rows_check(const char *op, const gd_tensor_t *x, int64_t *n_rows_p)
{
    if (x->n_dims < 1 || x->shape[x->n_dims - 1] < 1) {
        return gd_op_fail_shapes(ST_ERR_SHAPE, op, x, NULL, "a last dimension of at least 1 is needed");
    }
    *n_rows_p = x->numel / x->shape[x->n_dims - 1];
    return ST_OK;
}

extern const gd_op_t gd_op_layer_norm;
extern const gd_op_t gd_op_layer_norm_backward;
extern const gd_op_t gd_op_batch_norm;
extern const gd_op_t gd_op_batch_norm_backward;

static status_t layer_norm_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    const gd_tensor_t *x = in[0];
    int64_t n_rows = 0;
    status_t status = rows_check("layer_norm", x, &n_rows);
    if (status == ST_OK) {
        status = gd_op_check_mixed(&gd_op_layer_norm, in, n_in);
    }
    if (status == ST_OK) {
        status = vectors_check("layer_norm", in + 1, n_in - 1, x, x->shape[x->n_dims - 1]);
    }
    if (status == ST_OK) {
        status = epsilon_check("layer_norm", attrs);
    }
    if (status != ST_OK) {
        return status;
    }
    gd_meta_set(&out[0], x->dtype, x->n_dims, x->shape);
    gd_meta_set(&out[1], gd_dtype_widen(x->dtype), 1, &n_rows);
    gd_meta_set(&out[2], gd_dtype_widen(x->dtype), 1, &n_rows);
    return ST_OK;
}

static status_t layer_norm_gradient(gd_node_t *node, gd_tensor_t *dy, gd_tensor_t **dx)
{
    gd_tensor_t *in[5] = {dy, node->in[0], node->out[1], node->out[2], node->n_in > 1 ? node->in[1] : NULL};
    gd_tensor_t *gradient[3] = {NULL};
    /* around a layer_norm there is mostly a residual, whose gradient came first */
    const bool is_adding = node->needs[0] && node->into[0] != NULL && node->into_accumulates[0] &&
                           dy->dtype == GD_DTYPE_F32 && node->in[0]->dtype == GD_DTYPE_F32;
    const gd_attrs_t attrs = {.i = {is_adding}};
    gradient[0] = is_adding ? node->into[0] : NULL;
    status_t status =
        (is_adding ? gd_op_apply_outputs : gd_op_apply)(GD_OP_LAYER_NORM_BACKWARD, in, 5, &attrs, gradient);
    gradient[0] = is_adding ? NULL : gradient[0];
    if (status == ST_OK) {
        node->is_written[0] = is_adding;
        gd_node_hand_out(node, gradient, 3, dx);
    }
    return status;
}

const gd_op_t gd_op_layer_norm = {
    .name = "layer_norm",
    .formula = "y[n,c] = (x[n,c] - mean_n) rstd_n weight[c] + bias[c], rstd_n = 1 / sqrt(var_n + epsilon)",
    .attrs = "f0 epsilon",
    .n_in = 3,
    .n_in_required = 1,
    .n_out = 3,
    .dtypes = OPS_DTYPES_FLOAT,
    .saves = GD_SAVE_INPUTS | GD_SAVE_OUTPUTS,
    .contiguous_in = 7,
    .f32_in = 6,
    .infer = layer_norm_infer,
    .backward = layer_norm_gradient,
    .adds_to_sums = true,
    .onnx = "LayerNormalization",
#define EPSILON .attrs = {.f = {1e-5}}
    .sample = {{.in = {{2, {3, 4}}, {1, {4}}, {1, {4}}}, .n_in = 3, EPSILON},
               {.in = {{3, {2, 3, 69}}, {1, {69}}, {1, {69}}}, .n_in = 3, EPSILON},
               {.in = {{2, {35, 6}}, {1, {6}}, {.is_absent = true}}, .n_in = 3, EPSILON},
               {.in = {{2, {3, 4}}, {.is_absent = true}, {1, {4}}}, .n_in = 3, EPSILON},
               {.in = {{1, {8}}}, .n_in = 1, EPSILON},
               {.in = {{2, {0, 4}}, {1, {4}}, {1, {4}}}, .n_in = 3, EPSILON},
               {.in = {{2, {3, 4}}, {1, {3}}, {1, {4}}}, .n_in = 3, EPSILON, .expect = ST_ERR_SHAPE},
               {.in = {{2, {3, 4}}, {1, {4}}, {2, {4, 1}}}, .n_in = 3, EPSILON, .expect = ST_ERR_SHAPE},
               {.in = {{0, {0}}}, .n_in = 1, EPSILON, .expect = ST_ERR_SHAPE},
               {.in = {{2, {3, 4}}}, .n_in = 1, .expect = ST_ERR_RANGE}},
};

static status_t layer_norm_backward_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    (void)attrs;
    const gd_tensor_t *x = in[1];
    int64_t n_rows = 0;
    status_t status = rows_check("layer_norm_backward", x, &n_rows);
    if (status == ST_OK) {
        status = gd_op_check_mixed(&gd_op_layer_norm_backward, in, n_in);
    }
    if (status == ST_OK) {
        status = gd_infer_same("layer_norm_backward", in, 2, &out[0]);
    }
    if (status != ST_OK) {
        return status;
    }
    const int64_t width = x->shape[x->n_dims - 1];
    status = vectors_check("layer_norm_backward", in + 2, 2, x, n_rows);
    if (status == ST_OK) {
        status = vectors_check("layer_norm_backward", in + 4, n_in - 4, x, width);
    }
    gd_meta_set(&out[1], gd_dtype_widen(x->dtype), 1, &width);
    gd_meta_set(&out[2], gd_dtype_widen(x->dtype), 1, &width);
    return status;
}

const gd_op_t gd_op_layer_norm_backward = {
    .name = "layer_norm_backward",
    .formula = "dx = rstd (g - mean(g) - xhat mean(g xhat)), g = dy weight, xhat = (x - mean) rstd; "
               "dweight = sum_n dy xhat, dbias = sum_n dy",
    .attrs = "i0 add dx to what is there; f32 only",
    .n_in = 5,
    .n_in_required = 4,
    .n_out = 3,
    .dtypes = OPS_DTYPES_FLOAT,
    .contiguous_in = 31,
    .f32_in = 28,
    .infer = layer_norm_backward_infer,
    .sample = {{.in = {{2, {3, 4}}, {2, {3, 4}}, {1, {3}}, {1, {3}, .lo = 0.5, .hi = 2}, {1, {4}}}, .n_in = 5},
               {.in = {{2, {37, 69}}, {2, {37, 69}}, {1, {37}}, {1, {37}, .lo = 0.5, .hi = 2}, {1, {69}}}, .n_in = 5},
               {.in = {{2, {3, 4}}, {2, {3, 4}}, {1, {4}}, {1, {3}}, {1, {4}}}, .n_in = 5, .expect = ST_ERR_SHAPE},
               {.in = {{2, {3, 4}}, {2, {4, 3}}, {1, {3}}, {1, {3}}, {1, {4}}}, .n_in = 5, .expect = ST_ERR_SHAPE}},
};

/* x[B,C,…] */
static status_t channels_check(const char *op, const gd_tensor_t *x)
{
    if (x->n_dims < 2) {
        return gd_op_fail_shapes(ST_ERR_SHAPE, op, x, NULL, "[batch, channels, …] is needed");
    }
    return ST_OK;
}

static status_t batch_norm_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    const gd_tensor_t *x = in[0];
    const bool is_training = attrs->i[0] != 0;
    status_t status = channels_check("batch_norm", x);
    if (status == ST_OK) {
        status = gd_op_check_mixed(&gd_op_batch_norm, in, n_in);
    }
    if (status == ST_OK) {
        status = vectors_check("batch_norm", in + 1, n_in - 1, x, x->shape[1]);
    }
    if (status == ST_OK) {
        status = epsilon_check("batch_norm", attrs);
    }
    if (status != ST_OK) {
        return status;
    }
    if (is_training && x->shape[1] > 0 && x->numel / x->shape[1] < 1) {
        return gd_op_fail_shapes(ST_ERR_SHAPE, "batch_norm", x, NULL, "training needs a value for each channel");
    }
    if (!is_training && (n_in < 5 || in[3] == NULL || in[4] == NULL)) {
        return ST_FAIL(ST_ERR_INVAL, "batch_norm: evaluation needs a running mean and variance");
    }
    gd_meta_set(&out[0], x->dtype, x->n_dims, x->shape);
    gd_meta_set(&out[1], gd_dtype_widen(x->dtype), 1, &x->shape[1]);
    gd_meta_set(&out[2], gd_dtype_widen(x->dtype), 1, &x->shape[1]);
    return ST_OK;
}

static status_t batch_norm_gradient(gd_node_t *node, gd_tensor_t *dy, gd_tensor_t **dx)
{
    gd_tensor_t *in[5] = {dy, node->in[0], node->out[1], node->out[2], node->n_in > 1 ? node->in[1] : NULL};
    gd_tensor_t *gradient[3] = {NULL};
    status_t status = gd_op_apply(GD_OP_BATCH_NORM_BACKWARD, in, 5, &node->attrs, gradient);
    if (status == ST_OK) {
        gd_node_hand_out(node, gradient, 3, dx);
    }
    return status;
}

#define CHANNELS(n_x)                                                                                                  \
    {                                                                                                                  \
        1,                                                                                                             \
        {                                                                                                              \
            (n_x)                                                                                                      \
        }                                                                                                              \
    }
#define STATISTICS(n_x, lo_x)                                                                                          \
    {                                                                                                                  \
        1, {(n_x)}, .lo = (lo_x), .hi = 2, .no_grad = true                                                             \
    }
#define TRAINING .attrs = {.i = {1}, .f = {1e-5}}
#define EVALUATION .attrs = {.i = {0}, .f = {1e-5}}

const gd_op_t gd_op_batch_norm = {
    .name = "batch_norm",
    .formula = "y[b,c,…] = (x - mean_c) / sqrt(var_c + epsilon) weight_c + bias_c; mean, var: of the batch or running",
    .attrs = "i0 training; f0 epsilon",
    .n_in = 5,
    .n_in_required = 1,
    .n_out = 3,
    .dtypes = OPS_DTYPES_FLOAT,
    .saves = GD_SAVE_INPUTS | GD_SAVE_OUTPUTS,
    .contiguous_in = 31,
    .f32_in = 30,
    .infer = batch_norm_infer,
    .backward = batch_norm_gradient,
    .onnx = "BatchNormalization",
    .sample = {{.in = {{4, {2, 3, 2, 2}}, CHANNELS(3), CHANNELS(3)}, .n_in = 3, TRAINING},
               {.in = {{4, {3, 2, 5, 7}}, CHANNELS(2), CHANNELS(2)}, .n_in = 3, TRAINING},
               {.in = {{2, {9, 4}}, CHANNELS(4), CHANNELS(4)}, .n_in = 3, TRAINING},
               {.in = {{3, {2, 3, 40}}}, .n_in = 1, TRAINING},
               {.in = {{4, {2, 3, 2, 2}}, CHANNELS(3), CHANNELS(3), STATISTICS(3, -1), STATISTICS(3, 0.5)},
                .n_in = 5,
                EVALUATION},
               {.in = {{4, {2, 3, 2, 2}}, CHANNELS(2), CHANNELS(3)}, .n_in = 3, TRAINING, .expect = ST_ERR_SHAPE},
               {.in = {{1, {3}}}, .n_in = 1, TRAINING, .expect = ST_ERR_SHAPE},
               {.in = {{2, {0, 3}}}, .n_in = 1, TRAINING, .expect = ST_ERR_SHAPE},
               {.in = {{2, {2, 3}}}, .n_in = 1, EVALUATION, .expect = ST_ERR_INVAL}},
};

static status_t batch_norm_backward_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    const gd_tensor_t *x = in[1];
    status_t status = channels_check("batch_norm_backward", x);
    if (status == ST_OK) {
        status = epsilon_check("batch_norm_backward", attrs);
    }
    if (status == ST_OK) {
        status = gd_op_check_mixed(&gd_op_batch_norm_backward, in, n_in);
    }
    if (status == ST_OK) {
        status = gd_infer_same("batch_norm_backward", in, 2, &out[0]);
    }
    if (status == ST_OK) {
        status = vectors_check("batch_norm_backward", in + 2, n_in - 2, x, x->shape[1]);
    }
    if (status != ST_OK) {
        return status;
    }
    gd_meta_set(&out[1], gd_dtype_widen(x->dtype), 1, &x->shape[1]);
    gd_meta_set(&out[2], gd_dtype_widen(x->dtype), 1, &x->shape[1]);
    return ST_OK;
}

const gd_op_t gd_op_batch_norm_backward = {
    .name = "batch_norm_backward",
    .formula = "dx = weight rstd (dy - mean(dy) - xhat mean(dy xhat)), in evaluation weight rstd dy; "
               "dweight = sum dy xhat, dbias = sum dy",
    .attrs = "i0 training; f0 epsilon",
    .n_in = 5,
    .n_in_required = 4,
    .n_out = 3,
    .dtypes = OPS_DTYPES_FLOAT,
    .contiguous_in = 31,
    .f32_in = 28,
    .infer = batch_norm_backward_infer,
    .sample = {{.in = {{3, {2, 3, 5}}, {3, {2, 3, 5}}, STATISTICS(3, -1), STATISTICS(3, 0.5), CHANNELS(3)},
                .n_in = 5,
                TRAINING},
               {.in = {{3, {2, 3, 5}}, {3, {2, 3, 5}}, STATISTICS(3, -1), STATISTICS(3, 0.5), CHANNELS(3)},
                .n_in = 5,
                EVALUATION},
               {.in = {{3, {2, 3, 5}}, {3, {2, 3, 4}}, CHANNELS(3), CHANNELS(3), CHANNELS(3)},
                .n_in = 5,
                TRAINING,
                .expect = ST_ERR_SHAPE}},
};

status_t gd_layer_norm(gd_tensor_t *x, gd_tensor_t *weight, gd_tensor_t *bias, double epsilon, gd_tensor_t **y_p)
{
    gd_tensor_t *in[3] = {x, weight, bias};
    gd_tensor_t *out[3] = {NULL};
    const gd_attrs_t attrs = {.f = {epsilon}};
    status_t status = gd_op_apply(GD_OP_LAYER_NORM, in, 3, &attrs, out);
    if (status != ST_OK) {
        return status;
    }
    (void)gd_tensor_unref(out[1]);
    (void)gd_tensor_unref(out[2]);
    *y_p = out[0];
    return ST_OK;
}

status_t gd_batch_norm(gd_tensor_t *x, gd_tensor_t *weight, gd_tensor_t *bias, gd_tensor_t *running_mean,
                       gd_tensor_t *running_var, bool is_training, double epsilon, gd_tensor_t **y_p,
                       gd_tensor_t **mean_p, gd_tensor_t **var_p)
{
    /* training doesn't read the running statistics, and must not hold them: the caller updates them in place */
    gd_tensor_t *in[5] = {x, weight, bias, is_training ? NULL : running_mean, is_training ? NULL : running_var};
    gd_tensor_t *out[3] = {NULL};
    const gd_attrs_t attrs = {.i = {is_training}, .f = {epsilon}};
    status_t status = gd_op_apply(GD_OP_BATCH_NORM, in, 5, &attrs, out);
    if (status != ST_OK) {
        return status;
    }
    if (is_training && mean_p != NULL) {
        *mean_p = gd_tensor_ref(out[1]);
    }
    if (is_training && var_p != NULL) {
        *var_p = gd_tensor_ref(out[2]);
    }
    (void)gd_tensor_unref(out[1]);
    (void)gd_tensor_unref(out[2]);
    *y_p = out[0];
    return ST_OK;
}
