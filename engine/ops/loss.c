/* SPDX-License-Identifier: Apache-2.0 */
/* ops/loss: losses that are summed over their rows and scaled once, so that parts of a batch add up exactly. */
#include "ops/helpers.h"

/* The row count of logits[…,V] and targets[…], which must agree. */
static status_t classes_check(const char *op, const gd_tensor_t *logits, const gd_tensor_t *targets)
{
    if (logits->n_dims < 1 || logits->shape[logits->n_dims - 1] < 1) {
        return gd_op_fail_shapes(ST_ERR_SHAPE, op, logits, targets, "logits need a last dimension of classes");
    }
    if (targets->dtype != GD_DTYPE_I64 && targets->dtype != GD_DTYPE_I32) {
        return ST_FAIL(ST_ERR_DTYPE, "%s: targets are %s, i64 or i32 is needed", op, gd_dtype_name(targets->dtype));
    }
    if (logits->numel / logits->shape[logits->n_dims - 1] != targets->numel) {
        return gd_op_fail_shapes(ST_ERR_SHAPE, op, logits, targets, "one target for each row of logits is needed");
    }
    return ST_OK;
}

static status_t cross_entropy_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    (void)n_in;
    status_t status = classes_check("cross_entropy", in[0], in[1]);
    if (status != ST_OK) {
        return status;
    }
    if (!(attrs->f[1] >= 0.0 && attrs->f[1] < 1.0)) {
        return ST_FAIL(ST_ERR_RANGE, "cross_entropy: label smoothing %g is outside [0, 1)", attrs->f[1]);
    }
    gd_meta_set(&out[0], gd_dtype_widen(in[0]->dtype), 0, NULL);
    gd_meta_set(&out[1], gd_dtype_widen(in[0]->dtype), 1, &in[1]->numel);
    gd_meta_set(&out[2], GD_DTYPE_I64, 0, NULL);
    return ST_OK;
}

/* dlogits = scale dloss (softmax - (1 - s) onehot - s / V) */
static status_t cross_entropy_gradient(gd_node_t *node, gd_tensor_t *dy, gd_tensor_t **dx)
{
    gd_tensor_t *in[4] = {dy, node->in[0], node->in[1], node->out[1]};
    return gd_op_apply(GD_OP_CROSS_ENTROPY_BACKWARD, in, 4, &node->attrs, dx);
}

const gd_op_t gd_op_cross_entropy = {
    .name = "cross_entropy",
    .formula = "loss = scale sum_n (lse_n - (1-s) x[n,target_n] - s mean_v x[n,v]), lse_n = log sum_v exp x[n,v]",
    .attrs = "i0 ignored target; f0 scale; f1 label smoothing s",
    .n_in = 2,
    .n_in_required = 2,
    .n_out = 3,
    .dtypes = OPS_DTYPES_FLOAT,
    .saves = GD_SAVE_INPUTS | GD_SAVE_OUTPUTS,
    .contiguous_in = 3,
    .infer = cross_entropy_infer,
    .backward = cross_entropy_gradient,
    .onnx = "SoftmaxCrossEntropyLoss",
#define TARGETS(limit_x) .dtype = GD_DTYPE_I64, .int_limit = (limit_x), .no_grad = true
    .sample = {{.in = {{2, {3, 5}}, {1, {3}, TARGETS(5)}}, .n_in = 2, .attrs = {.i = {-1}, .f = {1.0}}},
               {.in = {{2, {4, 5}}, {1, {4}, TARGETS(5)}}, .n_in = 2, .attrs = {.i = {2}, .f = {0.5, 0.1}}},
               {.in = {{3, {2, 3, 7}, .lo = -9, .hi = 9}, {2, {2, 3}, TARGETS(7)}},
                .n_in = 2,
                .attrs = {.i = {-100}, .f = {0.25}}},
               {.in = {{2, {33, 65}, .lo = -4, .hi = 4}, {1, {33}, TARGETS(65)}},
                .n_in = 2,
                .attrs = {.i = {-1}, .f = {0.03}}},
               {.in = {{2, {3, 1}}, {1, {3}, TARGETS(1)}}, .n_in = 2, .attrs = {.i = {-1}, .f = {1.0}}},
               {.in = {{2, {0, 5}}, {1, {0}, TARGETS(5)}}, .n_in = 2, .attrs = {.i = {-1}, .f = {1.0}}},
               {.in = {{1, {5}}, {0, {0}, TARGETS(5)}}, .n_in = 2, .attrs = {.i = {-1}, .f = {1.0}}},
               {.in = {{2, {8, 2}}, {1, {8}, TARGETS(1000)}},
                .n_in = 2,
                .attrs = {.i = {-1}, .f = {1.0}},
                .expect = ST_ERR_DATA},
               {.in = {{2, {3, 5}}, {1, {4}, TARGETS(5)}}, .n_in = 2, .expect = ST_ERR_SHAPE},
               {.in = {{2, {3, 5}}, {1, {3}}}, .n_in = 2, .expect = ST_ERR_DTYPE},
               {.in = {{2, {3, 5}}, {1, {3}, TARGETS(5)}},
                .n_in = 2,
                .attrs = {.f = {1.0, 1.0}},
                .expect = ST_ERR_RANGE},
               {.in = {{2, {3, 0}}, {1, {3}, TARGETS(1)}}, .n_in = 2, .expect = ST_ERR_SHAPE}},
};

static status_t cross_entropy_backward_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    (void)n_in;
    (void)attrs;
    status_t status = classes_check("cross_entropy_backward", in[1], in[2]);
    if (status != ST_OK) {
        return status;
    }
    if (in[0]->numel != 1 || in[3]->numel != in[2]->numel) {
        return gd_op_fail_shapes(ST_ERR_SHAPE, "cross_entropy_backward", in[0], in[3],
                                 "a 0-d gradient and one logsumexp for each row are needed");
    }
    if (in[0]->dtype != gd_dtype_widen(in[1]->dtype) || in[3]->dtype != in[0]->dtype) {
        return ST_FAIL(
            ST_ERR_DTYPE,
            "cross_entropy_backward: gradient %s, logits %s, logsumexp %s: must be equal, f32 beside 16 bits",
            gd_dtype_name(in[0]->dtype), gd_dtype_name(in[1]->dtype), gd_dtype_name(in[3]->dtype));
    }
    gd_meta_set(out, in[1]->dtype, in[1]->n_dims, in[1]->shape);
    return ST_OK;
}

const gd_op_t gd_op_cross_entropy_backward = {
    .name = "cross_entropy_backward",
    .formula = "dx[n,v] = scale dloss (exp(x[n,v] - lse_n) - (1-s) [v = target_n] - s / V)",
    .attrs = "i0 ignored target; f0 scale; f1 label smoothing s",
    .n_in = 4,
    .n_in_required = 4,
    .n_out = 1,
    .dtypes = OPS_DTYPES_FLOAT,
    .contiguous_in = 15,
    .f32_in = 9,
    .infer = cross_entropy_backward_infer,
    .sample = {{.in = {{0, {0}}, {2, {3, 5}}, {1, {3}, TARGETS(5)}, {1, {3}, .lo = 1, .hi = 2}},
                .n_in = 4,
                .attrs = {.i = {-1}, .f = {0.5}}},
               {.in = {{0, {0}}, {2, {3, 65}}, {1, {3}, TARGETS(65)}, {1, {3}, .lo = 3, .hi = 4}},
                .n_in = 4,
                .attrs = {.i = {2}, .f = {0.5, 0.2}}},
               {.in = {{0, {0}}, {2, {3, 5}}, {1, {3}, TARGETS(5)}, {1, {4}}}, .n_in = 4, .expect = ST_ERR_SHAPE},
               {.in = {{0, {0}}, {2, {8, 2}}, {1, {8}, TARGETS(1000)}, {1, {8}}}, .n_in = 4, .expect = ST_ERR_DATA}},
};

/* weight[V] has the statistics' dtype. */
static status_t cross_entropy_slope_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    const gd_tensor_t *weight = n_in > 2 ? in[2] : NULL;
    status_t status = classes_check("cross_entropy_slope", in[0], in[1]);
    if (status != ST_OK) {
        return status;
    }
    if (!(attrs->f[1] >= 0.0 && attrs->f[1] < 1.0)) {
        return ST_FAIL(ST_ERR_RANGE, "cross_entropy_slope: label smoothing %g is outside [0, 1)", attrs->f[1]);
    }
    if (weight != NULL && weight->numel != in[0]->shape[in[0]->n_dims - 1]) {
        return gd_op_fail_shapes(ST_ERR_SHAPE, "cross_entropy_slope", in[0], weight,
                                 "one weight for each class is needed");
    }
    if (weight != NULL && weight->dtype != gd_dtype_widen(in[0]->dtype)) {
        return ST_FAIL(ST_ERR_DTYPE, "cross_entropy_slope: logits %s, weight %s: must be equal, f32 beside 16 bits",
                       gd_dtype_name(in[0]->dtype), gd_dtype_name(weight->dtype));
    }
    gd_meta_set(&out[0], in[0]->dtype, in[0]->n_dims, in[0]->shape);
    gd_meta_set(&out[1], gd_dtype_widen(in[0]->dtype), 0, NULL);
    gd_meta_set(&out[2], GD_DTYPE_I64, 0, NULL);
    return ST_OK;
}

#define WEIGHT .lo = 0.5, .hi = 2, .no_grad = true
const gd_op_t gd_op_cross_entropy_slope = {
    .name = "cross_entropy_slope",
    .formula = "dx = dloss/dx; loss = scale sum_n ((1-s) w[t] (lse_n - x[n,t]) + s / V sum_v w[v] (lse_n - x[n,v])); "
               "and how many rows are largest at t = target_n",
    .attrs = "i0 ignored target; f0 scale; f1 label smoothing s",
    .n_in = 3,
    .n_in_required = 2,
    .n_out = 3,
    .dtypes = OPS_DTYPES_FLOAT,
    .contiguous_in = 7,
    .f32_in = 4,
    .infer = cross_entropy_slope_infer,
    .sample = {{.in = {{2, {3, 5}}, {1, {3}, TARGETS(5)}}, .n_in = 2, .attrs = {.i = {-1}, .f = {1.0}}},
               {.in = {{2, {40, 5}}, {1, {40}, TARGETS(5)}}, .n_in = 2, .attrs = {.i = {2}, .f = {0.5, 0.1}}},
               {.in = {{2, {33, 65}, .lo = -4, .hi = 4}, {1, {33}, TARGETS(65)}, {1, {65}, WEIGHT}},
                .n_in = 3,
                .attrs = {.i = {7}, .f = {0.03, 0.2}}},
               {.in = {{3, {2, 3, 7}, .lo = -9, .hi = 9}, {2, {2, 3}, TARGETS(7)}, {1, {7}, WEIGHT}},
                .n_in = 3,
                .attrs = {.i = {-100}, .f = {0.25}}},
               {.in = {{2, {0, 5}}, {1, {0}, TARGETS(5)}}, .n_in = 2, .attrs = {.i = {-1}, .f = {1.0}}},
               {.in = {{2, {8, 2}}, {1, {8}, TARGETS(1000)}},
                .n_in = 2,
                .attrs = {.i = {-1}, .f = {1.0}},
                .expect = ST_ERR_DATA},
               {.in = {{2, {3, 5}}, {1, {3}, TARGETS(5)}, {1, {4}}}, .n_in = 3, .expect = ST_ERR_SHAPE},
               {.in = {{2, {3, 5}}, {1, {4}, TARGETS(5)}}, .n_in = 2, .expect = ST_ERR_SHAPE},
               {.in = {{2, {3, 5}}, {1, {3}, TARGETS(5)}},
                .n_in = 2,
                .attrs = {.f = {1.0, 1.0}},
                .expect = ST_ERR_RANGE}},
};

static status_t mse_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    (void)attrs;
    status_t status = gd_infer_same("mse", in, n_in, out);
    out->n_dims = 0;
    return status;
}

/* dx = 2 scale dloss (x - y), dy = -dx */
static status_t mse_gradient(gd_node_t *node, gd_tensor_t *dy, gd_tensor_t **dx)
{
    gd_tensor_t *in[3] = {dy, node->in[0], node->in[1]};
    status_t status = ST_OK;
    if (node->needs[0]) {
        status = gd_op_apply(GD_OP_MSE_BACKWARD, in, 3, &node->attrs, &dx[0]);
    }
    if (status == ST_OK && node->needs[1]) {
        in[1] = node->in[1];
        in[2] = node->in[0];
        status = gd_op_apply(GD_OP_MSE_BACKWARD, in, 3, &node->attrs, &dx[1]);
    }
    return status;
}

const gd_op_t gd_op_mse = {
    .name = "mse",
    .formula = "loss = scale sum (x - y)²",
    .attrs = "f0 scale",
    .n_in = 2,
    .n_in_required = 2,
    .n_out = 1,
    .saves = GD_SAVE_INPUTS,
    .autocast = GD_AUTOCAST_F32,
    .contiguous_in = 3,
    .infer = mse_infer,
    .backward = mse_gradient,
    .sample = {{.in = {{2, {3, 4}}, {2, {3, 4}}}, .n_in = 2, .attrs = {.f = {0.5}}},
               {.in = {{0, {0}}, {0, {0}}}, .n_in = 2, .attrs = {.f = {1.0}}},
               {.in = {{2, {0, 4}}, {2, {0, 4}}}, .n_in = 2, .attrs = {.f = {1.0}}},
               {.in = {{2, {70, 73}}, {2, {70, 73}}}, .n_in = 2, .attrs = {.f = {0.001}}},
               {.in = {{2, {3, 4}}, {2, {4, 3}}}, .n_in = 2, .expect = ST_ERR_SHAPE}},
};

static status_t mse_backward_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    (void)attrs;
    if (in[0]->numel != 1) {
        return gd_op_fail_shapes(ST_ERR_SHAPE, "mse_backward", in[0], in[1], "a 0-d gradient is needed");
    }
    status_t status = gd_op_check_dtypes("mse_backward", in, n_in);
    return status == ST_OK ? gd_infer_same("mse_backward", in + 1, 2, out) : status;
}

const gd_op_t gd_op_mse_backward = {
    .name = "mse_backward",
    .formula = "dx = 2 scale dloss (x - y)",
    .attrs = "f0 scale",
    .n_in = 3,
    .n_in_required = 3,
    .n_out = 1,
    .contiguous_in = 7,
    .infer = mse_backward_infer,
    .sample = {{.in = {{0, {0}}, {2, {3, 4}}, {2, {3, 4}}}, .n_in = 3, .attrs = {.f = {0.5}}},
               {.in = {{0, {0}}, {2, {70, 73}}, {2, {70, 73}}}, .n_in = 3, .attrs = {.f = {0.5}}},
               {.in = {{0, {0}}, {2, {3, 4}}, {2, {4, 3}}}, .n_in = 3, .expect = ST_ERR_SHAPE}},
};

status_t gd_cross_entropy(gd_tensor_t *logits, gd_tensor_t *targets, double scale, int64_t ignore_index,
                          double label_smoothing, gd_tensor_t **loss_p, int64_t *n_correct_p)
{
    gd_tensor_t *in[2] = {logits, targets};
    gd_tensor_t *out[3] = {NULL};
    const gd_attrs_t attrs = {.i = {ignore_index}, .f = {scale, label_smoothing}};
    status_t status = gd_op_apply(GD_OP_CROSS_ENTROPY, in, 2, &attrs, out);
    if (status != ST_OK) {
        return status;
    }
    if (n_correct_p != NULL) {
        *n_correct_p = *(const int64_t *)gd_tensor_data(out[2]);
    }
    *loss_p = out[0];
    (void)gd_tensor_unref(out[1]);
    (void)gd_tensor_unref(out[2]);
    return ST_OK;
}

status_t gd_mse(gd_tensor_t *x, gd_tensor_t *y, double scale, gd_tensor_t **loss_p)
{
    gd_tensor_t *in[2] = {x, y};
    const gd_attrs_t attrs = {.f = {scale}};
    return gd_op_apply(GD_OP_MSE, in, 2, &attrs, loss_p);
}
