/* SPDX-License-Identifier: Apache-2.0 */
/* activations: pointwise nonlinearities, softmax and dropout as modules: a table of kinds, ops and default numbers. */
#include "gradd/context.h"
#include "gradd/modules.h"
#include "gradd/op.h"
#include "nn/fail.h"

/* ---- activations ---- */

typedef struct activation {
    gd_module_t base;
    gd_op_id_t op;
    gd_attrs_t attrs;
} activation_t;

static status_t activation_forward(gd_module_t *self, gd_tensor_t *x, gd_tensor_t **y_p)
{
    const activation_t *activation = (const activation_t *)self;
    if (activation->op == GD_OP_GELU) {
        return gd_gelu(x, activation->attrs.i[0] != 0, y_p);
    }
    return gd_op_apply(activation->op, &x, 1, &activation->attrs, y_p);
}

static status_t activation_forward_last(gd_module_t *self, gd_tensor_t *x, gd_tensor_t **y_p)
{
    const activation_t *activation = (const activation_t *)self;
    if (activation->op == GD_OP_GELU) {
        return gd_gelu_last(x, activation->attrs.i[0] != 0, y_p);
    }
    return gd_op_apply_reusing(activation->op, &x, 1, &activation->attrs, x, y_p);
}

/* X(enum, kind, op, tanh approximation, f0, f1): how many numbers a caller may give is up to the op's attributes */
#define ACTIVATIONS(X)                                                                                                 \
    X(RELU, "relu", RELU, 0, 0, 0)                                                                                     \
    X(GELU, "gelu", GELU, 0, 0, 0)                                                                                     \
    X(GELU_TANH, "gelu_tanh", GELU, 1, 0, 0)                                                                           \
    X(TANH, "tanh", TANH, 0, 0, 0)                                                                                     \
    X(SIGMOID, "sigmoid", SIGMOID, 0, 0, 0)                                                                            \
    X(SILU, "silu", SILU, 0, 0, 0)                                                                                     \
    X(RELU6, "relu6", HARDTANH, 0, 0, 6)                                                                               \
    X(LEAKY_RELU, "leaky_relu", LEAKY_RELU, 0, 0.01, 0)                                                                \
    X(ELU, "elu", ELU, 0, 1, 0)                                                                                        \
    X(SELU, "selu", SELU, 0, 0, 0)                                                                                     \
    X(CELU, "celu", CELU, 0, 1, 0)                                                                                     \
    X(HARDTANH, "hardtanh", HARDTANH, 0, -1, 1)                                                                        \
    X(HARDSIGMOID, "hardsigmoid", HARDSIGMOID, 0, 0, 0)                                                                \
    X(HARDSWISH, "hardswish", HARDSWISH, 0, 0, 0)                                                                      \
    X(SOFTPLUS, "softplus", SOFTPLUS, 0, 1, 20)                                                                        \
    X(SOFTSIGN, "softsign", SOFTSIGN, 0, 0, 0)                                                                         \
    X(SOFTSHRINK, "softshrink", SOFTSHRINK, 0, 0.5, 0)                                                                 \
    X(HARDSHRINK, "hardshrink", HARDSHRINK, 0, 0.5, 0)                                                                 \
    X(TANHSHRINK, "tanhshrink", TANHSHRINK, 0, 0, 0)                                                                   \
    X(LOG_SIGMOID, "log_sigmoid", LOG_SIGMOID, 0, 0, 0)                                                                \
    X(MISH, "mish", MISH, 0, 0, 0)                                                                                     \
    X(THRESHOLD, "threshold", THRESHOLD, 0, 0, 0)

#define ROW(enum_x, kind_x, op_x, tanh_x, a_x, b_x)                                                                    \
    [GD_ACTIVATION_##                                                                                                  \
        enum_x] = {{.kind = (kind_x), .forward = activation_forward, .forward_last = activation_forward_last},         \
                   GD_OP_##op_x,                                                                                       \
                   {.i = {(tanh_x)}, .f = {(a_x), (b_x)}}},
static const struct {
    gd_module_ops_t ops;
    gd_op_id_t op;
    gd_attrs_t attrs;
} activations[GD_ACTIVATION_COUNT] = {ACTIVATIONS(ROW)};
#undef ROW

status_t gd_activation_new(gd_activation_t activation, gd_module_t **module_p)
{
    if ((unsigned)activation >= GD_ACTIVATION_COUNT) {
        return ST_FAIL(ST_ERR_INVAL, "%d is no activation", (int)activation);
    }
    status_t status = gd_module_new(&activations[activation].ops, sizeof(activation_t), module_p);
    if (status == ST_OK) {
        ((activation_t *)*module_p)->op = activations[activation].op;
        ((activation_t *)*module_p)->attrs = activations[activation].attrs;
    }
    return status;
}

status_t gd_activation_with_new(gd_activation_t activation, double a, double b, gd_module_t **module_p)
{
    status_t status = gd_activation_new(activation, module_p);
    if (status == ST_OK) {
        ((activation_t *)*module_p)->attrs.f[0] = a;
        ((activation_t *)*module_p)->attrs.f[1] = b;
    }
    return status;
}

/* ---- along an axis ---- */

typedef struct along {
    gd_module_t base;
    status_t (*func)(gd_tensor_t *x, int axis, gd_tensor_t **y_p);
    int axis;
} along_t;

static status_t along_forward(gd_module_t *self, gd_tensor_t *x, gd_tensor_t **y_p)
{
    const along_t *along = (const along_t *)self;
    return along->func(x, along->axis, y_p);
}

static void along_describe(const gd_module_t *self, strbuf_t *text)
{
    strbuf_appendf(text, "axis %d", ((const along_t *)self)->axis);
}

static const struct {
    gd_module_ops_t ops;
    status_t (*func)(gd_tensor_t *x, int axis, gd_tensor_t **y_p);
} alongs[GD_ALONG_COUNT] = {
    [GD_ALONG_SOFTMAX] = {{.kind = "softmax", .forward = along_forward, .describe = along_describe}, gd_softmax},
    [GD_ALONG_LOG_SOFTMAX] = {{.kind = "log_softmax", .forward = along_forward, .describe = along_describe},
                              gd_log_softmax},
    [GD_ALONG_SOFTMIN] = {{.kind = "softmin", .forward = along_forward, .describe = along_describe}, gd_softmin},
    [GD_ALONG_GLU] = {{.kind = "glu", .forward = along_forward, .describe = along_describe}, gd_glu},
};

status_t gd_along_new(gd_along_t kind, int axis, gd_module_t **module_p)
{
    if ((unsigned)kind >= GD_ALONG_COUNT) {
        return ST_FAIL(ST_ERR_INVAL, "%d is no function along an axis", (int)kind);
    }
    status_t status = gd_module_new(&alongs[kind].ops, sizeof(along_t), module_p);
    if (status == ST_OK) {
        ((along_t *)*module_p)->func = alongs[kind].func;
        ((along_t *)*module_p)->axis = axis;
    }
    return status;
}

/* ---- glu with another gate ---- */

typedef struct glu {
    gd_module_t base;
    gd_gate_t gate;
    int axis;
} glu_t;

static status_t glu_forward(gd_module_t *self, gd_tensor_t *x, gd_tensor_t **y_p)
{
    const glu_t *glu = (const glu_t *)self;
    const int axis = glu->axis < 0 ? glu->axis + gd_tensor_n_dims(x) : glu->axis;
    if (axis < 0 || axis >= gd_tensor_n_dims(x) || gd_tensor_dim(x, axis) % 2 != 0) {
        return module_fail_shape(x, ": two halves along axis %d are needed", axis);
    }
    const int64_t half = gd_tensor_dim(x, axis) / 2;
    gd_tensor_t *a = NULL;
    gd_tensor_t *b = NULL;
    status_t status = gd_slice(x, axis, 0, half, 1, &a);
    if (status == ST_OK) {
        status = gd_slice(x, axis, half, 2 * half, 1, &b);
    }
    if (status == ST_OK) {
        status = gd_gated(glu->gate, b, a, y_p);
    }
    (void)gd_tensor_unref(b);
    (void)gd_tensor_unref(a);
    return status;
}

static void glu_describe(const gd_module_t *self, strbuf_t *text)
{
    strbuf_appendf(text, "axis %d, gate %d", ((const glu_t *)self)->axis, (int)((const glu_t *)self)->gate);
}

static const gd_module_ops_t glu_ops = {.kind = "glu", .forward = glu_forward, .describe = glu_describe};

status_t gd_glu_gated_new(gd_gate_t gate, int axis, gd_module_t **module_p)
{
    if ((unsigned)gate >= GD_GATE_COUNT) {
        return ST_FAIL(ST_ERR_INVAL, "glu: %d is no gate", (int)gate);
    }
    status_t status = gd_module_new(&glu_ops, sizeof(glu_t), module_p);
    if (status == ST_OK) {
        ((glu_t *)*module_p)->gate = gate;
        ((glu_t *)*module_p)->axis = axis;
    }
    return status;
}

/* ---- rrelu ---- */

typedef struct rrelu {
    gd_module_t base;
    double lower, upper;
} rrelu_t;

static status_t rrelu_forward(gd_module_t *self, gd_tensor_t *x, gd_tensor_t **y_p)
{
    const rrelu_t *rrelu = (const rrelu_t *)self;
    return gd_training_is_on() ? gd_rrelu(x, rrelu->lower, rrelu->upper, gd_rng_key(self->layer, 0), y_p)
                               : gd_leaky_relu(x, (rrelu->lower + rrelu->upper) / 2, y_p);
}

static void rrelu_describe(const gd_module_t *self, strbuf_t *text)
{
    strbuf_appendf(text, "slopes %g … %g", ((const rrelu_t *)self)->lower, ((const rrelu_t *)self)->upper);
}

static const gd_module_ops_t rrelu_ops = {.kind = "rrelu", .forward = rrelu_forward, .describe = rrelu_describe};

status_t gd_rrelu_new(double lower, double upper, gd_module_t **module_p)
{
    if (!(lower <= upper)) {
        return ST_FAIL(ST_ERR_RANGE, "rrelu: slopes from %g to %g", lower, upper);
    }
    status_t status = gd_module_new(&rrelu_ops, sizeof(rrelu_t), module_p);
    if (status == ST_OK) {
        ((rrelu_t *)*module_p)->lower = lower;
        ((rrelu_t *)*module_p)->upper = upper;
    }
    return status;
}

/* ---- prelu ---- */

static status_t prelu_forward(gd_module_t *self, gd_tensor_t *x, gd_tensor_t **y_p)
{
    return gd_prelu(x, self->parameters[0].tensor, y_p);
}

static void prelu_describe(const gd_module_t *self, strbuf_t *text)
{
    strbuf_appendf(text, "%lld slopes", (long long)gd_tensor_numel(self->parameters[0].tensor));
}

static const gd_module_ops_t prelu_ops = {.kind = "prelu", .forward = prelu_forward, .describe = prelu_describe};

status_t gd_prelu_new(int64_t count, double slope, gd_module_t **module_p)
{
    gd_module_t *module = NULL;
    status_t status = gd_module_new(&prelu_ops, sizeof(*module), &module);
    if (status != ST_OK) {
        return status;
    }
    const gd_init_t init = {.kind = GD_INIT_CONSTANT, .a = slope};
    status = gd_module_add_parameter(module, "weight", 1, &count, init, NULL);
    if (status != ST_OK) {
        (void)gd_module_unref(module);
        return status;
    }
    *module_p = module;
    return ST_OK;
}

/* ---- dropout ---- */

typedef struct dropout {
    gd_module_t base;
    gd_dropout_kind_t kind;
    double p;
} dropout_t;

static status_t dropout_forward(gd_module_t *self, gd_tensor_t *x, gd_tensor_t **y_p)
{
    const dropout_t *dropout = (const dropout_t *)self;
    if (dropout->p == 0 || !gd_training_is_on()) {
        *y_p = gd_tensor_ref(x);
        return ST_OK;
    }
    const gd_rng_key_t key = gd_rng_key(self->layer, 0);
    switch (dropout->kind) {
    case GD_DROPOUT_CHANNELS:
        return gd_dropout_leading(x, 2, dropout->p, key, y_p);
    case GD_DROPOUT_SAMPLES:
        return gd_dropout_leading(x, 1, dropout->p, key, y_p);
    case GD_DROPOUT_ALPHA:
    case GD_DROPOUT_ALPHA_CHANNELS:
        return gd_alpha_dropout(x, dropout->kind == GD_DROPOUT_ALPHA_CHANNELS, dropout->p, key, y_p);
    default:
        return gd_dropout(x, dropout->p, key, y_p);
    }
}

static void dropout_describe(const gd_module_t *self, strbuf_t *text)
{
    strbuf_appendf(text, "p %g", ((const dropout_t *)self)->p);
}

#define ROW(kind_x)                                                                                                    \
    {                                                                                                                  \
        .kind = (kind_x), .forward = dropout_forward, .describe = dropout_describe                                     \
    }
static const gd_module_ops_t dropout_ops[GD_DROPOUT_COUNT] = {
    [GD_DROPOUT_ELEMENTS] = ROW("dropout"),
    [GD_DROPOUT_CHANNELS] = ROW("dropout of channels"),
    [GD_DROPOUT_SAMPLES] = ROW("drop_path"),
    [GD_DROPOUT_ALPHA] = ROW("alpha_dropout"),
    [GD_DROPOUT_ALPHA_CHANNELS] = ROW("feature_alpha_dropout"),
};
#undef ROW

status_t gd_dropout_kind_new(gd_dropout_kind_t kind, double p, gd_module_t **module_p)
{
    if ((unsigned)kind >= GD_DROPOUT_COUNT) {
        return ST_FAIL(ST_ERR_INVAL, "%d is no dropout", (int)kind);
    }
    if (!(p >= 0 && p <= 1)) {
        return ST_FAIL(ST_ERR_RANGE, "%s: p %g is not in [0, 1]", dropout_ops[kind].kind, p);
    }
    gd_module_t *module = NULL;
    status_t status = gd_module_new(&dropout_ops[kind], sizeof(dropout_t), &module);
    if (status != ST_OK) {
        return status;
    }
    ((dropout_t *)module)->kind = kind;
    ((dropout_t *)module)->p = p;
    *module_p = module;
    return ST_OK;
}

status_t gd_dropout_new(double p, gd_module_t **module_p)
{
    return gd_dropout_kind_new(GD_DROPOUT_ELEMENTS, p, module_p);
}
