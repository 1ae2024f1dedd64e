/* SPDX-License-Identifier: Apache-2.0 */
/* layers: modules with parameters: linear, convolution, embeddings. */
#include <math.h>

#include "gradd/modules.h"
#include "nn/fail.h"

/* The own tensor at `index`, NULL past the end: an absent bias. */
static gd_tensor_t *tensor_at(const gd_module_t *module, int index)
{
    return index < module->n_parameters ? module->parameters[index].tensor : NULL;
}

/* PyTorch's reset_parameters: weight kaiming_uniform with a = sqrt(5), bias uniform ±1/sqrt(fan-in). */
static gd_init_t init_weight(void)
{
    return (gd_init_t){.kind = GD_INIT_KAIMING_UNIFORM, .a = sqrt(5)};
}

static gd_init_t init_bias(int64_t fan_in)
{
    double bound = fan_in > 0 ? 1 / sqrt((double)fan_in) : 0;
    return (gd_init_t){.kind = GD_INIT_UNIFORM, .a = -bound, .b = bound};
}

/* ---- linear ---- */

static status_t linear_forward(gd_module_t *self, gd_tensor_t *x, gd_tensor_t **y_p)
{
    return gd_linear(x, tensor_at(self, 0), tensor_at(self, 1), y_p);
}

static void linear_describe(const gd_module_t *self, strbuf_t *text)
{
    const gd_tensor_t *weight = tensor_at(self, 0);
    strbuf_appendf(text, "in %lld, out %lld%s%s", (long long)gd_tensor_dim(weight, 1),
                   (long long)gd_tensor_dim(weight, 0), self->n_parameters > 1 ? "" : ", no bias",
                   self->parameters[0].is_shared ? ", tied" : "");
}

static const gd_module_ops_t linear_ops = {.kind = "linear", .forward = linear_forward, .describe = linear_describe};

static status_t linear_finish(gd_module_t *module, status_t status, int64_t n_in, int64_t n_out, bool has_bias,
                              gd_module_t **module_p)
{
    if (status == ST_OK && has_bias) {
        status = gd_module_add_parameter(module, "bias", 1, &n_out, init_bias(n_in), NULL);
    }
    if (status != ST_OK) {
        (void)gd_module_unref(module);
        return status;
    }
    *module_p = module;
    return ST_OK;
}

status_t gd_linear_new(int64_t n_in, int64_t n_out, bool has_bias, gd_module_t **module_p)
{
    gd_module_t *module = NULL;
    status_t status = gd_module_new(&linear_ops, sizeof(*module), &module);
    if (status != ST_OK) {
        return status;
    }
    status = gd_module_add_parameter(module, "weight", 2, (int64_t[]){n_out, n_in}, init_weight(), NULL);
    return linear_finish(module, status, n_in, n_out, has_bias, module_p);
}

status_t gd_linear_tied_new(gd_tensor_t *weight, bool has_bias, gd_module_t **module_p)
{
    if (gd_tensor_n_dims(weight) != 2) {
        return ST_FAIL(ST_ERR_SHAPE, "linear: a tied weight has 2 dimensions, not %d", gd_tensor_n_dims(weight));
    }
    gd_module_t *module = NULL;
    status_t status = gd_module_new(&linear_ops, sizeof(*module), &module);
    if (status != ST_OK) {
        return status;
    }
    status = gd_module_share_parameter(module, "weight", weight);
    return linear_finish(module, status, gd_tensor_dim(weight, 1), gd_tensor_dim(weight, 0), has_bias, module_p);
}

/* y = x W + b, W[n_in, n_out] */
static status_t linear_transposed_forward(gd_module_t *self, gd_tensor_t *x, gd_tensor_t **y_p)
{
    return gd_linear_transposed(x, tensor_at(self, 0), tensor_at(self, 1), y_p);
}

static void linear_transposed_describe(const gd_module_t *self, strbuf_t *text)
{
    const gd_tensor_t *weight = tensor_at(self, 0);
    strbuf_appendf(text, "in %lld, out %lld%s, transposed", (long long)gd_tensor_dim(weight, 0),
                   (long long)gd_tensor_dim(weight, 1), self->n_parameters > 1 ? "" : ", no bias");
}

static const gd_module_ops_t linear_transposed_ops = {
    .kind = "linear", .forward = linear_transposed_forward, .describe = linear_transposed_describe};

bool gd_module_linear_is_transposed(const gd_module_t *module)
{
    return module->ops == &linear_transposed_ops;
}

status_t gd_linear_transposed_new(int64_t n_in, int64_t n_out, bool has_bias, gd_module_t **module_p)
{
    gd_module_t *module = NULL;
    status_t status = gd_module_new(&linear_transposed_ops, sizeof(*module), &module);
    if (status != ST_OK) {
        return status;
    }
    /* kaiming_uniform with slope sqrt(5) by the true fan-in, which init.c would take from the weight's second axis */
    status = gd_module_add_parameter(module, "weight", 2, (int64_t[]){n_in, n_out}, init_bias(n_in), NULL);
    return linear_finish(module, status, n_in, n_out, has_bias, module_p);
}

/* ---- conv2d ---- */

typedef struct conv2d {
    gd_module_t base;
    gd_conv2d_options_t options;
} conv2d_t;

static status_t conv2d_forward(gd_module_t *self, gd_tensor_t *x, gd_tensor_t **y_p)
{
    return gd_conv2d(x, tensor_at(self, 0), tensor_at(self, 1), &((conv2d_t *)self)->options, y_p);
}

static void conv2d_describe(const gd_module_t *self, strbuf_t *text)
{
    const gd_conv2d_options_t *options = &((const conv2d_t *)self)->options;
    const int64_t *shape = gd_tensor_shape(tensor_at(self, 0));
    const int64_t c_in = shape[1] * options->groups;
    strbuf_appendf(text, "in %lld, out %lld, kernel %lldx%lld, stride %dx%d, padding %dx%d", (long long)c_in,
                   (long long)shape[0], (long long)shape[2], (long long)shape[3], options->stride[0],
                   options->stride[1], options->padding[0], options->padding[1]);
}

static const gd_module_ops_t conv2d_ops = {.kind = "conv2d", .forward = conv2d_forward, .describe = conv2d_describe};

status_t gd_conv2d_new(int64_t c_in, int64_t c_out, const int kernel[2], const gd_conv2d_options_t *options,
                       bool has_bias, gd_module_t **module_p)
{
    gd_conv2d_options_t filled = options != NULL ? *options : (gd_conv2d_options_t){0};
    for (int i = 0; i < 2; i++) {
        filled.stride[i] = filled.stride[i] != 0 ? filled.stride[i] : 1;
        filled.dilation[i] = filled.dilation[i] != 0 ? filled.dilation[i] : 1;
    }
    filled.groups = filled.groups != 0 ? filled.groups : 1;
    if (filled.groups < 0 || c_in % filled.groups != 0 || c_out % filled.groups != 0) {
        return ST_FAIL(ST_ERR_SHAPE, "conv2d: %d groups don't divide %lld and %lld channels", filled.groups,
                       (long long)c_in, (long long)c_out);
    }
    gd_module_t *module = NULL;
    status_t status = gd_module_new(&conv2d_ops, sizeof(conv2d_t), &module);
    if (status != ST_OK) {
        return status;
    }
    ((conv2d_t *)module)->options = filled;
    const int64_t shape[4] = {c_out, c_in / filled.groups, kernel[0], kernel[1]};
    status = gd_module_add_parameter(module, "weight", 4, shape, init_weight(), NULL);
    if (status == ST_OK && has_bias) {
        status = gd_module_add_parameter(module, "bias", 1, &c_out, init_bias(shape[1] * shape[2] * shape[3]), NULL);
    }
    if (status != ST_OK) {
        (void)gd_module_unref(module);
        return status;
    }
    *module_p = module;
    return ST_OK;
}

/* ---- embeddings ---- */

static status_t embedding_forward(gd_module_t *self, gd_tensor_t *ids, gd_tensor_t **y_p)
{
    return gd_embedding(ids, tensor_at(self, 0), y_p);
}

/* y[B,T,C] = x[B,T,C] + weight[0 … T-1, C] */
static status_t position_embedding_forward(gd_module_t *self, gd_tensor_t *x, gd_tensor_t **y_p)
{
    gd_tensor_t *weight = tensor_at(self, 0);
    if (gd_tensor_n_dims(x) < 2 || gd_tensor_dim(x, -2) > gd_tensor_dim(weight, 0) ||
        gd_tensor_dim(x, -1) != gd_tensor_dim(weight, 1)) {
        return module_fail_shape(x, ", but there are positions for at most %lld vectors of %lld",
                                 (long long)gd_tensor_dim(weight, 0), (long long)gd_tensor_dim(weight, 1));
    }
    gd_tensor_t *rows = NULL;
    gd_tensor_t *cast = NULL;
    status_t status = gd_slice(weight, 0, 0, gd_tensor_dim(x, -2), 1, &rows);
    if (status == ST_OK) { /* under autocast x has fewer bits: it keeps them */
        status = gd_cast(rows, gd_tensor_dtype(x), &cast);
    }
    if (status == ST_OK) {
        status = gd_add(x, cast, y_p);
    }
    (void)gd_tensor_unref(cast);
    (void)gd_tensor_unref(rows);
    return status;
}

static void embedding_describe(const gd_module_t *self, strbuf_t *text)
{
    const gd_tensor_t *weight = tensor_at(self, 0);
    strbuf_appendf(text, "count %lld, width %lld", (long long)gd_tensor_dim(weight, 0),
                   (long long)gd_tensor_dim(weight, 1));
}

static const gd_module_ops_t embedding_ops = {
    .kind = "embedding", .forward = embedding_forward, .describe = embedding_describe};
static const gd_module_ops_t position_embedding_ops = {
    .kind = "position_embedding", .forward = position_embedding_forward, .describe = embedding_describe};

static status_t table_new(const gd_module_ops_t *ops, int64_t count, int64_t width, gd_module_t **module_p)
{
    gd_module_t *module = NULL;
    status_t status = gd_module_new(ops, sizeof(*module), &module);
    if (status != ST_OK) {
        return status;
    }
    const gd_init_t init = {.kind = GD_INIT_NORMAL, .a = 0, .b = 1};
    status = gd_module_add_parameter(module, "weight", 2, (int64_t[]){count, width}, init, NULL);
    if (status != ST_OK) {
        (void)gd_module_unref(module);
        return status;
    }
    *module_p = module;
    return ST_OK;
}

status_t gd_embedding_new(int64_t count, int64_t width, gd_module_t **module_p)
{
    return table_new(&embedding_ops, count, width, module_p);
}

status_t gd_position_embedding_new(int64_t count, int64_t width, gd_module_t **module_p)
{
    return table_new(&position_embedding_ops, count, width, module_p);
}
