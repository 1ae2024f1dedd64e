/* SPDX-License-Identifier: Apache-2.0 */
/* norms: layer_norm, rms_norm, batch_norm, group_norm, instance_norm as modules. */
#include "gradd/context.h"
#include "gradd/modules.h"
#include "nn/fail.h"

typedef struct norms {
    gd_module_t base;
    int64_t n_groups; /* 0: one per channel */
    double epsilon;
} norms_t;

static gd_tensor_t *tensor_at(const gd_module_t *module, int index)
{
    return index < module->n_parameters ? module->parameters[index].tensor : NULL;
}

static void norms_describe(const gd_module_t *self, strbuf_t *text)
{
    const norms_t *norm = (const norms_t *)self;
    if (tensor_at(self, 0) != NULL) {
        gd_tensor_format_shape(tensor_at(self, 0), text);
        strbuf_append(text, ", ");
    }
    if (norm->n_groups > 0) {
        strbuf_appendf(text, "%lld groups, ", (long long)norm->n_groups);
    }
    strbuf_appendf(text, "epsilon %g", norm->epsilon);
}

/* What layer_norm of one axis and batch_norm say. */
static void width_describe(const gd_module_t *self, strbuf_t *text)
{
    strbuf_appendf(text, "%lld, epsilon %g", (long long)gd_tensor_dim(tensor_at(self, 0), 0),
                   ((const norms_t *)self)->epsilon);
}

static const gd_init_t init_zeros = {.kind = GD_INIT_ZEROS};
static const gd_init_t init_ones = {.kind = GD_INIT_ONES};

static status_t norms_new(const gd_module_ops_t *ops, int n_dims, const int64_t *shape, int n_parameters,
                          double epsilon, gd_module_t **module_p)
{
    if (!(epsilon > 0)) {
        return ST_FAIL(ST_ERR_RANGE, "%s: epsilon %g must be above 0", ops->kind, epsilon);
    }
    gd_module_t *module = NULL;
    status_t status = gd_module_new(ops, sizeof(norms_t), &module);
    if (status != ST_OK) {
        return status;
    }
    ((norms_t *)module)->epsilon = epsilon;
    if (n_parameters > 0) {
        status = gd_module_add_parameter(module, "weight", n_dims, shape, init_ones, NULL);
    }
    if (status == ST_OK && n_parameters > 1) {
        status = gd_module_add_parameter(module, "bias", n_dims, shape, init_zeros, NULL);
    }
    if (status != ST_OK) {
        (void)gd_module_unref(module);
        return status;
    }
    *module_p = module;
    return ST_OK;
}

/* ---- layer_norm ---- */

static status_t layer_norm_forward(gd_module_t *self, gd_tensor_t *x, gd_tensor_t **y_p)
{
    return gd_layer_norm(x, tensor_at(self, 0), tensor_at(self, 1), ((const norms_t *)self)->epsilon, y_p);
}

static const gd_module_ops_t layer_norm_ops = {
    .kind = "layer_norm", .forward = layer_norm_forward, .describe = width_describe};

status_t gd_layer_norm_new(int64_t width, double epsilon, bool has_bias, gd_module_t **module_p)
{
    return norms_new(&layer_norm_ops, 1, &width, has_bias ? 2 : 1, epsilon, module_p);
}

/* ---- rms_norm ---- */

static status_t rms_norm_forward(gd_module_t *self, gd_tensor_t *x, gd_tensor_t **y_p)
{
    return gd_rms_norm(x, tensor_at(self, 0), ((const norms_t *)self)->epsilon, y_p);
}

static const gd_module_ops_t rms_norm_ops = {
    .kind = "rms_norm", .forward = rms_norm_forward, .describe = norms_describe};

status_t gd_rms_norm_new(int64_t width, double epsilon, bool has_weight, gd_module_t **module_p)
{
    return norms_new(&rms_norm_ops, 1, &width, has_weight ? 1 : 0, epsilon, module_p);
}

/* ---- layer_norm over several axes ---- */

/* x[…, shape of the weight] as rows, and back. */
static status_t layer_norm_axes_forward(gd_module_t *self, gd_tensor_t *x, gd_tensor_t **y_p)
{
    gd_tensor_t *weight = tensor_at(self, 0);
    gd_tensor_t *bias = tensor_at(self, 1);
    const int n_own = gd_tensor_n_dims(weight);
    const int n_rest = gd_tensor_n_dims(x) - n_own;
    for (int d = 0; d < n_own; d++) {
        if (n_rest < 0 || gd_tensor_dim(x, n_rest + d) != gd_tensor_dim(weight, d)) {
            strbuf_t text = {0};
            gd_tensor_format_shape(weight, &text);
            status_t status = module_fail_shape(x, ", which doesn't end in the weight's %s", strbuf_text(&text));
            strbuf_release(&text);
            return status;
        }
    }
    const int64_t width = gd_tensor_numel(weight);
    gd_tensor_t *flat[4] = {NULL};
    int64_t rows[GD_MAX_DIMS];
    for (int d = 0; d < n_rest; d++) {
        rows[d] = gd_tensor_dim(x, d);
    }
    rows[n_rest] = width;
    status_t status = gd_reshape(x, n_rest + 1, rows, &flat[0]);
    if (status == ST_OK) {
        status = gd_reshape(weight, 1, &width, &flat[1]);
    }
    if (status == ST_OK && bias != NULL) {
        status = gd_reshape(bias, 1, &width, &flat[2]);
    }
    if (status == ST_OK) {
        status = gd_layer_norm(flat[0], flat[1], flat[2], ((const norms_t *)self)->epsilon, &flat[3]);
    }
    if (status == ST_OK) {
        status = gd_reshape(flat[3], gd_tensor_n_dims(x), gd_tensor_shape(x), y_p);
    }
    for (int i = 0; i < 4; i++) {
        (void)gd_tensor_unref(flat[i]);
    }
    return status;
}

static const gd_module_ops_t layer_norm_axes_ops = {
    .kind = "layer_norm", .forward = layer_norm_axes_forward, .describe = norms_describe};

status_t gd_layer_norm_axes_new(int n_axes, const int64_t *shape, double epsilon, bool has_bias, gd_module_t **module_p)
{
    if (n_axes < 1 || n_axes >= GD_MAX_DIMS) {
        return ST_FAIL(ST_ERR_RANGE, "layer_norm: over %d axes", n_axes);
    }
    return norms_new(&layer_norm_axes_ops, n_axes, shape, has_bias ? 2 : 1, epsilon, module_p);
}

/* ---- group_norm, instance_norm ---- */

static status_t group_norm_forward(gd_module_t *self, gd_tensor_t *x, gd_tensor_t **y_p)
{
    const norms_t *norm = (const norms_t *)self;
    const int64_t channels = gd_tensor_n_dims(x) > 1 ? gd_tensor_dim(x, 1) : 1;
    return gd_group_norm(x, norm->n_groups > 0 ? norm->n_groups : channels, tensor_at(self, 0), tensor_at(self, 1),
                         norm->epsilon, y_p);
}

static const gd_module_ops_t group_norm_ops = {
    .kind = "group_norm", .forward = group_norm_forward, .describe = norms_describe};
static const gd_module_ops_t instance_norm_ops = {
    .kind = "instance_norm", .forward = group_norm_forward, .describe = norms_describe};

status_t gd_group_norm_new(int64_t n_groups, int64_t channels, double epsilon, bool is_affine, gd_module_t **module_p)
{
    if (n_groups < 1 || channels < 1 || channels % n_groups != 0) {
        return ST_FAIL(ST_ERR_SHAPE, "group_norm: %lld groups don't divide %lld channels", (long long)n_groups,
                       (long long)channels);
    }
    status_t status = norms_new(&group_norm_ops, 1, &channels, is_affine ? 2 : 0, epsilon, module_p);
    if (status == ST_OK) {
        ((norms_t *)*module_p)->n_groups = n_groups;
    }
    return status;
}

status_t gd_instance_norm_new(int64_t channels, double epsilon, bool is_affine, gd_module_t **module_p)
{
    return norms_new(&instance_norm_ops, 1, &channels, is_affine ? 2 : 0, epsilon, module_p);
}

/* ---- with running statistics: batch_norm, instance_norm ---- */

/* The own tensors: weight and bias, or none, then the running mean and variance. */
typedef struct running {
    gd_tensor_t *weight, *bias, *mean, *var;
} running_t;

static running_t running_get(const gd_module_t *self)
{
    const int first = self->n_parameters - 2;
    return (running_t){.weight = first > 0 ? tensor_at(self, 0) : NULL,
                       .bias = first > 1 ? tensor_at(self, 1) : NULL,
                       .mean = tensor_at(self, first),
                       .var = tensor_at(self, first + 1)};
}

static status_t running_new(const gd_module_ops_t *ops, int64_t channels, double epsilon, double momentum,
                            bool is_affine, gd_module_t **module_p)
{
    if (channels < 1) {
        return ST_FAIL(ST_ERR_RANGE, "%s: %lld channels", ops->kind, (long long)channels);
    }
    gd_module_t *module = NULL;
    status_t status = norms_new(ops, 1, &channels, is_affine ? 2 : 0, epsilon, &module);
    if (status != ST_OK) {
        return status;
    }
    module->momentum = momentum;
    module->statistics_channels = channels;
    status = gd_module_add_buffer(module, "running_mean", 1, &channels, 0, NULL);
    if (status == ST_OK) {
        status = gd_module_add_buffer(module, "running_var", 1, &channels, 1, NULL);
    }
    if (status != ST_OK) {
        (void)gd_module_unref(module);
        return status;
    }
    *module_p = module;
    return ST_OK;
}

static status_t batch_norm_forward(gd_module_t *self, gd_tensor_t *x, gd_tensor_t **y_p)
{
    const bool is_training = gd_training_is_on();
    const running_t running = running_get(self);
    gd_tensor_t *mean = NULL;
    gd_tensor_t *var = NULL;
    status_t status =
        gd_batch_norm(x, running.weight, running.bias, running.mean, running.var, is_training,
                      ((norms_t *)self)->epsilon, y_p, is_training ? &mean : NULL, is_training ? &var : NULL);
    if (status != ST_OK || !is_training) {
        return status;
    }
    gd_module_statistics_keep(self, mean, var, gd_tensor_numel(x) / self->statistics_channels);
    return ST_OK;
}

static const gd_module_ops_t batch_norm_ops[] = {
    {.kind = "batch_norm1d", .forward = batch_norm_forward, .describe = width_describe},
    {.kind = "batch_norm2d", .forward = batch_norm_forward, .describe = width_describe},
    {.kind = "batch_norm3d", .forward = batch_norm_forward, .describe = width_describe},
};

status_t gd_batch_norm_new(int n_axes, int64_t channels, double epsilon, double momentum, bool is_affine,
                           gd_module_t **module_p)
{
    if (n_axes < 1 || n_axes > 3) {
        return ST_FAIL(ST_ERR_RANGE, "batch_norm: over %d axes", n_axes);
    }
    return running_new(&batch_norm_ops[n_axes - 1], channels, epsilon, momentum, is_affine, module_p);
}

status_t gd_batch_norm2d_new(int64_t channels, double epsilon, double momentum, gd_module_t **module_p)
{
    return gd_batch_norm_new(2, channels, epsilon, momentum, true, module_p);
}

/* Mean over the samples of statistics[B * C]. */
static status_t samples_mean(gd_tensor_t *statistics, const int64_t shape[2], gd_tensor_t **mean_p)
{
    gd_tensor_t *by_sample = NULL;
    status_t status = gd_reshape(statistics, 2, shape, &by_sample);
    if (status == ST_OK) {
        status = gd_mean(by_sample, 1, (int[]){0}, false, mean_p);
    }
    (void)gd_tensor_unref(by_sample);
    return status;
}

/* Keeps the means over the samples of each channel's mean and variance: those of a batch_norm of x[1,B * C,values]. */
static status_t instance_statistics_keep(gd_module_t *self, gd_tensor_t *x)
{
    const int64_t shape[2] = {gd_tensor_dim(x, 0), gd_tensor_dim(x, 1)};
    const int64_t n_values = gd_tensor_numel(x) / (shape[0] * shape[1]);
    gd_tensor_t *rows = NULL;
    gd_tensor_t *out[3] = {NULL}; /* normalised, mean, variance */
    gd_tensor_t *mean = NULL;
    gd_tensor_t *var = NULL;
    const bool was_enabled = gd_grad_set_enabled(false);
    status_t status = gd_reshape(x, 3, (int64_t[]){1, shape[0] * shape[1], n_values}, &rows);
    if (status == ST_OK) {
        status =
            gd_batch_norm(rows, NULL, NULL, NULL, NULL, true, ((norms_t *)self)->epsilon, &out[0], &out[1], &out[2]);
    }
    if (status == ST_OK) {
        status = samples_mean(out[1], shape, &mean);
    }
    if (status == ST_OK) {
        status = samples_mean(out[2], shape, &var);
    }
    if (status == ST_OK) {
        gd_module_statistics_keep(self, mean, var, n_values);
    } else {
        (void)gd_tensor_unref(mean);
    }
    (void)gd_grad_set_enabled(was_enabled);
    for (int i = 0; i < 3; i++) {
        (void)gd_tensor_unref(out[i]);
    }
    (void)gd_tensor_unref(rows);
    return status;
}

static status_t instance_norm_running_forward(gd_module_t *self, gd_tensor_t *x, gd_tensor_t **y_p)
{
    const running_t running = running_get(self);
    const double epsilon = ((norms_t *)self)->epsilon;
    if (!gd_training_is_on()) {
        return gd_batch_norm(x, running.weight, running.bias, running.mean, running.var, false, epsilon, y_p, NULL,
                             NULL);
    }
    gd_tensor_t *y = NULL;
    const int64_t channels = gd_tensor_n_dims(x) > 1 ? gd_tensor_dim(x, 1) : 0;
    if (channels != self->statistics_channels || gd_tensor_numel(x) == 0) {
        return module_fail_shape(x, ", not [B, %lld, values …]", (long long)self->statistics_channels);
    }
    status_t status = gd_group_norm(x, channels, running.weight, running.bias, epsilon, &y);
    if (status == ST_OK) {
        status = instance_statistics_keep(self, x);
    }
    if (status != ST_OK) {
        (void)gd_tensor_unref(y);
        return status;
    }
    *y_p = y;
    return ST_OK;
}

static const gd_module_ops_t instance_norm_running_ops = {
    .kind = "instance_norm", .forward = instance_norm_running_forward, .describe = norms_describe};

status_t gd_instance_norm_running_new(int64_t channels, double epsilon, double momentum, bool is_affine,
                                      gd_module_t **module_p)
{
    return running_new(&instance_norm_running_ops, channels, epsilon, momentum, is_affine, module_p);
}
