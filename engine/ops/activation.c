/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ops/activation: pointwise nonlinearities, softmax over the last axis, dropout. Each backward is a kernel, and so an
 * op, of its own: (dy, what was saved) → dx; not differentiable itself.
 */
#include "ops/helpers.h"

#define ACTIVATION_SAMPLES                                                                                             \
    {                                                                                                                  \
        {.in = {{2, {3, 4}, .lo = -3, .hi = 3}}, .n_in = 1}, {.in = {{0, {0}}}, .n_in = 1},                            \
            {.in = {{2, {3, 0}}}, .n_in = 1}, {.in = {{2, {3, 69}, .lo = -6, .hi = 6}}, .n_in = 1},                    \
            {.in = {{1, {3}, .dtype = GD_DTYPE_I32, .int_limit = 5}}, .n_in = 1, .expect = ST_ERR_UNSUPPORTED},        \
    }

/* (dy, saved) of one shape; saved in [lo, hi] */
#define BACKWARD_SAMPLES(lo_x, hi_x)                                                                                   \
    {                                                                                                                  \
        {.in = {{2, {3, 4}}, {2, {3, 4}, .lo = (lo_x), .hi = (hi_x)}}, .n_in = 2},                                     \
            {.in = {{0, {0}}, {0, {0}, .lo = (lo_x), .hi = (hi_x)}}, .n_in = 2},                                       \
            {.in = {{2, {3, 0}}, {2, {3, 0}}}, .n_in = 2},                                                             \
            {.in = {{2, {3, 69}}, {2, {3, 69}, .lo = (lo_x), .hi = (hi_x)}}, .n_in = 2},                               \
            {.in = {{2, {3, 4}}, {2, {4, 3}}}, .n_in = 2, .expect = ST_ERR_SHAPE},                                     \
            {.in = {{2, {3, 4}}, {2, {3, 4}, .dtype = GD_DTYPE_I32, .int_limit = 3}},                                  \
             .n_in = 2,                                                                                                \
             .expect = ST_ERR_DTYPE},                                                                                  \
    }

static status_t relu_backward_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    (void)attrs;
    return gd_infer_same("relu_backward", in, n_in, out);
}

/* dx = dy where y > 0 */
static status_t relu_gradient(gd_node_t *node, gd_tensor_t *dy, gd_tensor_t **dx)
{
    return gd_op_binary(GD_OP_RELU_BACKWARD, dy, node->out[0], &dx[0]);
}

const gd_op_t gd_op_relu = {
    .name = "relu",
    .formula = "y = max(x, 0)",
    .n_in = 1,
    .n_in_required = 1,
    .n_out = 1,
    .dtypes = OPS_DTYPES_FLOAT,
    .saves = GD_SAVE_OUTPUTS,
    .infer = gd_infer_like,
    .backward = relu_gradient,
    .onnx = "Relu",
    .sample = ACTIVATION_SAMPLES,
};

const gd_op_t gd_op_relu_backward = {
    .name = "relu_backward",
    .formula = "dx = dy where y > 0, else 0",
    .n_in = 2,
    .n_in_required = 2,
    .n_out = 1,
    .dtypes = OPS_DTYPES_FLOAT,
    .infer = relu_backward_infer,
    .sample = BACKWARD_SAMPLES(-1, 1),
};

static status_t gelu_backward_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    (void)attrs;
    return gd_infer_same("gelu_backward", in, n_in, out);
}

static status_t gelu_gradient(gd_node_t *node, gd_tensor_t *dy, gd_tensor_t **dx)
{
    gd_tensor_t *in[2] = {dy, node->in[0]};
    return gd_op_apply(GD_OP_GELU_BACKWARD, in, 2, &node->attrs, dx);
}

const gd_op_t gd_op_gelu = {
    .name = "gelu",
    .formula = "y = x Phi(x); with i0: y = x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x³)))",
    .attrs = "i0 tanh approximation",
    .n_in = 1,
    .n_in_required = 1,
    .n_out = 1,
    .dtypes = OPS_DTYPES_FLOAT,
    .saves = GD_SAVE_INPUTS,
    .infer = gd_infer_like,
    .backward = gelu_gradient,
    .onnx = "Gelu",
    .sample = {{.in = {{2, {3, 4}, .lo = -3, .hi = 3}}, .n_in = 1},
               {.in = {{2, {3, 4}, .lo = -3, .hi = 3}}, .n_in = 1, .attrs = {.i = {1}}},
               {.in = {{0, {0}}}, .n_in = 1, .attrs = {.i = {1}}},
               {.in = {{2, {3, 0}}}, .n_in = 1},
               {.in = {{2, {3, 69}, .lo = -6, .hi = 6}}, .n_in = 1},
               {.in = {{2, {3, 69}, .lo = -6, .hi = 6}}, .n_in = 1, .attrs = {.i = {1}}}},
};

const gd_op_t gd_op_gelu_backward = {
    .name = "gelu_backward",
    .formula = "dx = dy gelu'(x)",
    .attrs = "i0 tanh approximation",
    .n_in = 2,
    .n_in_required = 2,
    .n_out = 1,
    .dtypes = OPS_DTYPES_FLOAT,
    .infer = gelu_backward_infer,
    .sample = {{.in = {{2, {3, 4}}, {2, {3, 4}, .lo = -3, .hi = 3}}, .n_in = 2},
               {.in = {{2, {3, 4}}, {2, {3, 4}, .lo = -3, .hi = 3}}, .n_in = 2, .attrs = {.i = {1}}},
               {.in = {{2, {3, 69}}, {2, {3, 69}, .lo = -6, .hi = 6}}, .n_in = 2},
               {.in = {{2, {3, 69}}, {2, {3, 69}, .lo = -6, .hi = 6}}, .n_in = 2, .attrs = {.i = {1}}},
               {.in = {{2, {3, 0}}, {2, {3, 0}}}, .n_in = 2},
               {.in = {{2, {3, 4}}, {2, {4, 3}}}, .n_in = 2, .expect = ST_ERR_SHAPE}},
};

static status_t tanh_backward_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    (void)attrs;
    return gd_infer_same("tanh_backward", in, n_in, out);
}

static status_t tanh_gradient(gd_node_t *node, gd_tensor_t *dy, gd_tensor_t **dx)
{
    return gd_op_binary(GD_OP_TANH_BACKWARD, dy, node->out[0], &dx[0]);
}

const gd_op_t gd_op_tanh = {
    .name = "tanh",
    .formula = "y = tanh(x)",
    .n_in = 1,
    .n_in_required = 1,
    .n_out = 1,
    .dtypes = OPS_DTYPES_FLOAT,
    .saves = GD_SAVE_OUTPUTS,
    .infer = gd_infer_like,
    .backward = tanh_gradient,
    .onnx = "Tanh",
    .sample = ACTIVATION_SAMPLES,
};

const gd_op_t gd_op_tanh_backward = {
    .name = "tanh_backward",
    .formula = "dx = dy (1 - y²)",
    .n_in = 2,
    .n_in_required = 2,
    .n_out = 1,
    .dtypes = OPS_DTYPES_FLOAT,
    .infer = tanh_backward_infer,
    .sample = BACKWARD_SAMPLES(-1, 1),
};

static status_t sigmoid_backward_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    (void)attrs;
    return gd_infer_same("sigmoid_backward", in, n_in, out);
}

static status_t sigmoid_gradient(gd_node_t *node, gd_tensor_t *dy, gd_tensor_t **dx)
{
    return gd_op_binary(GD_OP_SIGMOID_BACKWARD, dy, node->out[0], &dx[0]);
}

const gd_op_t gd_op_sigmoid = {
    .name = "sigmoid",
    .formula = "y = 1 / (1 + exp(-x))",
    .n_in = 1,
    .n_in_required = 1,
    .n_out = 1,
    .dtypes = OPS_DTYPES_FLOAT,
    .saves = GD_SAVE_OUTPUTS,
    .infer = gd_infer_like,
    .backward = sigmoid_gradient,
    .onnx = "Sigmoid",
    .sample = ACTIVATION_SAMPLES,
};

const gd_op_t gd_op_sigmoid_backward = {
    .name = "sigmoid_backward",
    .formula = "dx = dy y (1 - y)",
    .n_in = 2,
    .n_in_required = 2,
    .n_out = 1,
    .dtypes = OPS_DTYPES_FLOAT,
    .infer = sigmoid_backward_infer,
    .sample = BACKWARD_SAMPLES(0, 1),
};

static status_t silu_backward_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    (void)attrs;
    return gd_infer_same("silu_backward", in, n_in, out);
}

static status_t silu_gradient(gd_node_t *node, gd_tensor_t *dy, gd_tensor_t **dx)
{
    return gd_op_binary(GD_OP_SILU_BACKWARD, dy, node->in[0], &dx[0]);
}

const gd_op_t gd_op_silu = {
    .name = "silu",
    .formula = "y = x / (1 + exp(-x))",
    .n_in = 1,
    .n_in_required = 1,
    .n_out = 1,
    .dtypes = OPS_DTYPES_FLOAT,
    .saves = GD_SAVE_INPUTS,
    .infer = gd_infer_like,
    .backward = silu_gradient,
    .sample = ACTIVATION_SAMPLES,
};

const gd_op_t gd_op_silu_backward = {
    .name = "silu_backward",
    .formula = "dx = dy s (1 + x (1 - s)), s = 1 / (1 + exp(-x))",
    .n_in = 2,
    .n_in_required = 2,
    .n_out = 1,
    .dtypes = OPS_DTYPES_FLOAT,
    .infer = silu_backward_infer,
    .sample = BACKWARD_SAMPLES(-3, 3),
};

static status_t rows_infer(const char *op, gd_tensor_t *const *in, int n_in, gd_meta_t *out)
{
    if (in[0]->n_dims == 0) {
        return gd_op_fail_shapes(ST_ERR_SHAPE, op, in[0], NULL, "at least one dimension is needed");
    }
    return gd_infer_same(op, in, n_in, out);
}

static status_t softmax_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    (void)attrs;
    return rows_infer("softmax", in, n_in, out);
}

static status_t softmax_backward_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    (void)attrs;
    return rows_infer("softmax_backward", in, n_in, out);
}

static status_t softmax_gradient(gd_node_t *node, gd_tensor_t *dy, gd_tensor_t **dx)
{
    return gd_op_binary(GD_OP_SOFTMAX_BACKWARD, dy, node->out[0], &dx[0]);
}

#define SOFTMAX_SAMPLES                                                                                                \
    {                                                                                                                  \
        {.in = {{2, {3, 4}, .lo = -3, .hi = 3}}, .n_in = 1}, {.in = {{3, {2, 3, 70}, .lo = -9, .hi = 9}}, .n_in = 1},  \
            {.in = {{1, {1}}}, .n_in = 1}, {.in = {{2, {0, 4}}}, .n_in = 1}, {.in = {{2, {3, 0}}}, .n_in = 1},         \
            {.in = {{0, {0}}}, .n_in = 1, .expect = ST_ERR_SHAPE},                                                     \
            {.in = {{1, {3}, .dtype = GD_DTYPE_I32, .int_limit = 5}}, .n_in = 1, .expect = ST_ERR_UNSUPPORTED},        \
    }

#define SOFTMAX_BACKWARD_SAMPLES(lo_x, hi_x)                                                                           \
    {                                                                                                                  \
        {.in = {{2, {3, 4}}, {2, {3, 4}, .lo = (lo_x), .hi = (hi_x)}}, .n_in = 2},                                     \
            {.in = {{3, {2, 3, 70}}, {3, {2, 3, 70}, .lo = (lo_x), .hi = (hi_x)}}, .n_in = 2},                         \
            {.in = {{2, {0, 4}}, {2, {0, 4}}}, .n_in = 2}, {.in = {{2, {3, 0}}, {2, {3, 0}}}, .n_in = 2},              \
            {.in = {{2, {3, 4}}, {2, {4, 3}}}, .n_in = 2, .expect = ST_ERR_SHAPE},                                     \
            {.in = {{0, {0}}, {0, {0}}}, .n_in = 2, .expect = ST_ERR_SHAPE},                                           \
    }

const gd_op_t gd_op_softmax = {
    .name = "softmax",
    .formula = "y[…,i] = exp(x[…,i]) / sum_j exp(x[…,j])",
    .n_in = 1,
    .n_in_required = 1,
    .n_out = 1,
    .dtypes = OPS_DTYPES_FLOAT,
    .saves = GD_SAVE_OUTPUTS,
    .contiguous_in = 1,
    .infer = softmax_infer,
    .backward = softmax_gradient,
    .onnx = "Softmax",
    .sample = SOFTMAX_SAMPLES,
};

const gd_op_t gd_op_softmax_backward = {
    .name = "softmax_backward",
    .formula = "dx[…,i] = y[…,i] (dy[…,i] - sum_j dy[…,j] y[…,j])",
    .n_in = 2,
    .n_in_required = 2,
    .n_out = 1,
    .dtypes = OPS_DTYPES_FLOAT,
    .contiguous_in = 3,
    .infer = softmax_backward_infer,
    .sample = SOFTMAX_BACKWARD_SAMPLES(0, 1),
};

static status_t log_softmax_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    (void)attrs;
    return rows_infer("log_softmax", in, n_in, out);
}

static status_t log_softmax_backward_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    (void)attrs;
    return rows_infer("log_softmax_backward", in, n_in, out);
}

static status_t log_softmax_gradient(gd_node_t *node, gd_tensor_t *dy, gd_tensor_t **dx)
{
    return gd_op_binary(GD_OP_LOG_SOFTMAX_BACKWARD, dy, node->out[0], &dx[0]);
}

const gd_op_t gd_op_log_softmax = {
    .name = "log_softmax",
    .formula = "y[…,i] = x[…,i] - ln sum_j exp(x[…,j])",
    .n_in = 1,
    .n_in_required = 1,
    .n_out = 1,
    .dtypes = OPS_DTYPES_FLOAT,
    .saves = GD_SAVE_OUTPUTS,
    .autocast = GD_AUTOCAST_F32,
    .contiguous_in = 1,
    .infer = log_softmax_infer,
    .backward = log_softmax_gradient,
    .onnx = "LogSoftmax",
    .sample = SOFTMAX_SAMPLES,
};

const gd_op_t gd_op_log_softmax_backward = {
    .name = "log_softmax_backward",
    .formula = "dx[…,i] = dy[…,i] - exp(y[…,i]) sum_j dy[…,j]",
    .n_in = 2,
    .n_in_required = 2,
    .n_out = 1,
    .dtypes = OPS_DTYPES_FLOAT,
    .contiguous_in = 3,
    .infer = log_softmax_backward_infer,
    .sample = SOFTMAX_BACKWARD_SAMPLES(-3, 0),
};

static status_t dropout_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    if (!(attrs->f[0] >= 0 && attrs->f[0] < 1)) {
        return ST_FAIL(ST_ERR_RANGE, "dropout: probability %g: it must be in [0, 1)", attrs->f[0]);
    }
    return gd_infer_like(in, n_in, attrs, out);
}

/* The same mask again, drawn anew. */
static status_t dropout_gradient(gd_node_t *node, gd_tensor_t *dy, gd_tensor_t **dx)
{
    return gd_op_apply(GD_OP_DROPOUT, &dy, 1, &node->attrs, dx);
}

const gd_op_t gd_op_dropout = {
    .name = "dropout",
    .formula = "y[i] = x[i] / (1 - p) where u[i] ≥ p, else 0; u[i] uniform, word i of the key's Philox stream",
    .attrs = "f0 p; rng key",
    .n_in = 1,
    .n_in_required = 1,
    .n_out = 1,
    .dtypes = OPS_DTYPES_FLOAT,
    .is_random = true,
    .contiguous_in = 1,
    .infer = dropout_infer,
    .backward = dropout_gradient,
    .onnx = "Dropout",
    .sample = {{.in = {{2, {3, 4}}}, .n_in = 1, .attrs = {.f = {0.5}, .rng = {.seed = 7, .step = 3}}},
               {.in = {{2, {13, 71}}}, .n_in = 1, .attrs = {.f = {0.25}, .rng = {.seed = 8, .layer = 5}}},
               {.in = {{0, {0}}}, .n_in = 1, .attrs = {.f = {0.1}}},
               {.in = {{2, {0, 3}}}, .n_in = 1, .attrs = {.f = {0.1}}},
               {.in = {{2, {3, 4}}}, .n_in = 1, .attrs = {.f = {1}}, .expect = ST_ERR_RANGE},
               {.in = {{2, {3, 4}}}, .n_in = 1, .attrs = {.f = {-0.5}}, .expect = ST_ERR_RANGE}},
};

status_t gd_relu(gd_tensor_t *x, gd_tensor_t **y_p)
{
    return gd_op_unary(GD_OP_RELU, x, y_p);
}

status_t gd_gelu(gd_tensor_t *x, bool tanh_approximation, gd_tensor_t **y_p)
{
    const gd_attrs_t attrs = {.i = {tanh_approximation}};
    return gd_op_apply(GD_OP_GELU, &x, 1, &attrs, y_p);
}

status_t gd_tanh(gd_tensor_t *x, gd_tensor_t **y_p)
{
    return gd_op_unary(GD_OP_TANH, x, y_p);
}

status_t gd_sigmoid(gd_tensor_t *x, gd_tensor_t **y_p)
{
    return gd_op_unary(GD_OP_SIGMOID, x, y_p);
}

status_t gd_silu(gd_tensor_t *x, gd_tensor_t **y_p)
{
    return gd_op_unary(GD_OP_SILU, x, y_p);
}

/* Along another axis than the last: through a view that has it last. */
static status_t softmax_along(gd_op_id_t id, gd_tensor_t *x, int axis, gd_tensor_t **y_p)
{
    int64_t at = axis;
    status_t status = gd_op_check_axis(gd_op_get(id)->name, x, &at);
    if (status != ST_OK) {
        return status;
    }
    if (at == x->n_dims - 1) {
        return gd_op_unary(id, x, y_p);
    }
    gd_tensor_t *turned = NULL;
    gd_tensor_t *y = NULL;
    status = gd_transpose(x, (int)at, -1, &turned);
    if (status == ST_OK) {
        status = gd_op_unary(id, turned, &y);
    }
    if (status == ST_OK) {
        status = gd_transpose(y, (int)at, -1, y_p);
    }
    (void)gd_tensor_unref(turned);
    (void)gd_tensor_unref(y);
    return status;
}

status_t gd_softmax(gd_tensor_t *x, int axis, gd_tensor_t **y_p)
{
    return softmax_along(GD_OP_SOFTMAX, x, axis, y_p);
}

status_t gd_log_softmax(gd_tensor_t *x, int axis, gd_tensor_t **y_p)
{
    return softmax_along(GD_OP_LOG_SOFTMAX, x, axis, y_p);
}

status_t gd_dropout(gd_tensor_t *x, double p, gd_rng_key_t key, gd_tensor_t **y_p)
{
    if (p == 0.0) {
        *y_p = gd_tensor_ref(x);
        return ST_OK;
    }
    const gd_attrs_t attrs = {.f = {p}, .rng = key};
    return gd_op_apply(GD_OP_DROPOUT, &x, 1, &attrs, y_p);
}
