/* SPDX-License-Identifier: Apache-2.0 */
/* windows: convolutions, pooling, padding and upsampling over one to three axes as modules. */
#include <math.h>
#include <string.h>

#include "gradd/modules.h"
#include "nn/fail.h"

static void numbers_describe(strbuf_t *text, const char *name, int n, const int *values)
{
    strbuf_appendf(text, "%s%s", text->length > 0 ? ", " : "", name);
    for (int d = 0; d < n; d++) {
        strbuf_appendf(text, "%s%d", d > 0 ? "x" : " ", values[d]);
    }
}

static status_t axes_check(const char *kind, int n_axes)
{
    return n_axes >= 1 && n_axes <= 3 ? ST_OK : ST_FAIL(ST_ERR_RANGE, "%s: %d spatial axes", kind, n_axes);
}

/* ---- convolutions ---- */

typedef struct conv {
    gd_module_t base;
    int n_axes;
    gd_conv_options_t options;
    gd_pad_mode_t mode; /* of before and after, which the convolution itself doesn't do */
    bool is_padded;
    int64_t before[3], after[3];
} conv_t;

static status_t conv_forward(gd_module_t *self, gd_tensor_t *x, gd_tensor_t **y_p)
{
    const conv_t *conv = (const conv_t *)self;
    gd_tensor_t *bias = self->n_parameters > 1 ? self->parameters[1].tensor : NULL;
    if (gd_tensor_n_dims(x) != conv->n_axes + 2) {
        return module_fail_shape(x, ", not [B, C] and %d spatial axes", conv->n_axes);
    }
    if (!conv->is_padded) {
        return gd_conv(x, self->parameters[0].tensor, bias, &conv->options, y_p);
    }
    gd_tensor_t *padded = NULL;
    status_t status = gd_pad_with(x, conv->n_axes, conv->before, conv->after, conv->mode, 0, &padded);
    if (status == ST_OK) {
        status = gd_conv(padded, self->parameters[0].tensor, bias, &conv->options, y_p);
    }
    (void)gd_tensor_unref(padded);
    return status;
}

static status_t conv_transpose_forward(gd_module_t *self, gd_tensor_t *x, gd_tensor_t **y_p)
{
    const conv_t *conv = (const conv_t *)self;
    if (gd_tensor_n_dims(x) != conv->n_axes + 2) {
        return module_fail_shape(x, ", not [B, C] and %d spatial axes", conv->n_axes);
    }
    return gd_conv_transpose(x, self->parameters[0].tensor, self->n_parameters > 1 ? self->parameters[1].tensor : NULL,
                             &conv->options, y_p);
}

static void conv_describe(const gd_module_t *self, strbuf_t *text)
{
    const conv_t *conv = (const conv_t *)self;
    gd_tensor_format_shape(self->parameters[0].tensor, text);
    numbers_describe(text, "stride", conv->n_axes, conv->options.stride);
    numbers_describe(text, "padding", conv->n_axes, conv->options.padding);
    if (conv->options.groups > 1) {
        strbuf_appendf(text, ", %d groups", conv->options.groups);
    }
}

static const gd_module_ops_t conv_ops[3] = {
    {.kind = "conv1d", .forward = conv_forward, .describe = conv_describe},
    {.kind = "conv2d", .forward = conv_forward, .describe = conv_describe},
    {.kind = "conv3d", .forward = conv_forward, .describe = conv_describe},
};
static const gd_module_ops_t conv_transpose_ops[3] = {
    {.kind = "conv_transpose1d", .forward = conv_transpose_forward, .describe = conv_describe},
    {.kind = "conv_transpose2d", .forward = conv_transpose_forward, .describe = conv_describe},
    {.kind = "conv_transpose3d", .forward = conv_transpose_forward, .describe = conv_describe},
};

/* weight[rows, columns, kernel…] and bias[n_bias] as PyTorch's reset_parameters leaves them. */
static status_t conv_make(const gd_module_ops_t *ops, int n_axes, const int64_t *shape, int64_t n_bias, bool has_bias,
                          const gd_conv_options_t *options, gd_module_t **module_p)
{
    gd_module_t *module = NULL;
    status_t status = gd_module_new(ops, sizeof(conv_t), &module);
    if (status != ST_OK) {
        return status;
    }
    conv_t *conv = (conv_t *)module;
    conv->n_axes = n_axes;
    conv->options = *options;
    int64_t fan_in = shape[1];
    for (int d = 0; d < n_axes; d++) {
        fan_in *= shape[2 + d];
    }
    const double bound = fan_in > 0 ? 1 / sqrt((double)fan_in) : 0;
    const gd_init_t weight_init = {.kind = GD_INIT_KAIMING_UNIFORM, .a = sqrt(5)};
    const gd_init_t bias_init = {.kind = GD_INIT_UNIFORM, .a = -bound, .b = bound};
    status = gd_module_add_parameter(module, "weight", n_axes + 2, shape, weight_init, NULL);
    if (status == ST_OK && has_bias) {
        status = gd_module_add_parameter(module, "bias", 1, &n_bias, bias_init, NULL);
    }
    if (status != ST_OK) {
        (void)gd_module_unref(module);
        return status;
    }
    *module_p = module;
    return ST_OK;
}

static status_t options_fill(const char *kind, int n_axes, int64_t c_in, int64_t c_out,
                             const gd_conv_options_t *options, gd_conv_options_t *filled_p)
{
    gd_conv_options_t filled = options != NULL ? *options : (gd_conv_options_t){.groups = 1};
    filled.groups = filled.groups != 0 ? filled.groups : 1;
    for (int d = 0; d < n_axes; d++) {
        filled.stride[d] = filled.stride[d] != 0 ? filled.stride[d] : 1;
        filled.dilation[d] = filled.dilation[d] != 0 ? filled.dilation[d] : 1;
    }
    *filled_p = filled;
    return filled.groups > 0 && c_in > 0 && c_out > 0 && c_in % filled.groups == 0 && c_out % filled.groups == 0
               ? ST_OK
               : ST_FAIL(ST_ERR_SHAPE, "%s: %d groups don't divide %lld and %lld channels", kind, filled.groups,
                         (long long)c_in, (long long)c_out);
}

status_t gd_conv_new(int n_axes, int64_t c_in, int64_t c_out, const int *kernel, const gd_conv_options_t *options,
                     gd_pad_mode_t mode, bool keeps_size, bool has_bias, gd_module_t **module_p)
{
    gd_conv_options_t filled;
    status_t status = axes_check("conv", n_axes);
    if (status == ST_OK) {
        status = options_fill(conv_ops[n_axes - 1].kind, n_axes, c_in, c_out, options, &filled);
    }
    if (status != ST_OK) {
        return status;
    }
    int64_t shape[5] = {c_out, c_in / filled.groups};
    int64_t before[3] = {0}, after[3] = {0};
    bool is_even = true;
    for (int d = 0; d < n_axes; d++) {
        shape[2 + d] = kernel[d];
        const int total = filled.dilation[d] * (kernel[d] - 1);
        if (keeps_size && filled.stride[d] != 1) {
            return ST_FAIL(ST_ERR_INVAL, "%s: a stride of %d can't keep the size", conv_ops[n_axes - 1].kind,
                           filled.stride[d]);
        }
        before[d] = keeps_size ? total / 2 : filled.padding[d];
        after[d] = keeps_size ? total - total / 2 : filled.padding[d];
        is_even = is_even && before[d] == after[d];
    }
    const bool is_padded = mode != GD_PAD_CONSTANT || !is_even;
    for (int d = 0; d < n_axes; d++) {
        filled.padding[d] = is_padded ? 0 : (int)before[d];
    }
    status = conv_make(&conv_ops[n_axes - 1], n_axes, shape, c_out, has_bias, &filled, module_p);
    if (status == ST_OK) {
        conv_t *conv = (conv_t *)*module_p;
        conv->mode = mode;
        conv->is_padded = is_padded;
        memcpy(conv->before, before, sizeof(before));
        memcpy(conv->after, after, sizeof(after));
    }
    return status;
}

status_t gd_conv_transpose_new(int n_axes, int64_t c_in, int64_t c_out, const int *kernel,
                               const gd_conv_options_t *options, bool has_bias, gd_module_t **module_p)
{
    gd_conv_options_t filled;
    status_t status = axes_check("conv_transpose", n_axes);
    if (status == ST_OK) {
        status = options_fill(conv_transpose_ops[n_axes - 1].kind, n_axes, c_in, c_out, options, &filled);
    }
    if (status != ST_OK) {
        return status;
    }
    int64_t shape[5] = {c_in, c_out / filled.groups};
    for (int d = 0; d < n_axes; d++) {
        shape[2 + d] = kernel[d];
    }
    return conv_make(&conv_transpose_ops[n_axes - 1], n_axes, shape, c_out, has_bias, &filled, module_p);
}

/* ---- pooling ---- */

typedef struct pool {
    gd_module_t base;
    int n_axes;
    gd_pool_options_t options; /* adaptive: kernel is the size */
    bool is_max, is_adaptive;
} pool_t;

static status_t pool_forward(gd_module_t *self, gd_tensor_t *x, gd_tensor_t **y_p)
{
    const pool_t *pool = (const pool_t *)self;
    int size[3] = {1, 1, 1};
    if (pool->n_axes > 0 && gd_tensor_n_dims(x) != pool->n_axes + 2) {
        return module_fail_shape(x, ", not [B, C] and %d spatial axes", pool->n_axes);
    }
    if (pool->n_axes > 0) {
        memcpy(size, pool->options.kernel, sizeof(size));
    }
    if (pool->is_adaptive) {
        return pool->is_max ? gd_adaptive_max_pool(x, size, y_p) : gd_adaptive_avg_pool(x, size, y_p);
    }
    return pool->is_max ? gd_max_pool(x, &pool->options, y_p) : gd_avg_pool(x, &pool->options, y_p);
}

static void pool_describe(const gd_module_t *self, strbuf_t *text)
{
    const pool_t *pool = (const pool_t *)self;
    numbers_describe(text, pool->is_adaptive ? "to" : "kernel", pool->n_axes, pool->options.kernel);
    if (!pool->is_adaptive) {
        numbers_describe(text, "stride", pool->n_axes, pool->options.stride);
        numbers_describe(text, "padding", pool->n_axes, pool->options.padding);
    }
}

#define ROW(kind_x)                                                                                                    \
    {                                                                                                                  \
        .kind = (kind_x), .forward = pool_forward, .describe = pool_describe                                           \
    }
static const gd_module_ops_t pool_ops[2][4] = {
    {ROW("global_avg_pool"), ROW("avg_pool1d"), ROW("avg_pool2d"), ROW("avg_pool3d")},
    {ROW("global_max_pool"), ROW("max_pool1d"), ROW("max_pool2d"), ROW("max_pool3d")},
};
static const gd_module_ops_t adaptive_ops[2] = {ROW("adaptive_avg_pool"), ROW("adaptive_max_pool")};
#undef ROW

static status_t pool_make(const gd_module_ops_t *ops, int n_axes, bool is_max, bool is_adaptive,
                          const gd_pool_options_t *options, gd_module_t **module_p)
{
    status_t status = gd_module_new(ops, sizeof(pool_t), module_p);
    if (status == ST_OK) {
        pool_t *pool = (pool_t *)*module_p;
        pool->n_axes = n_axes;
        pool->options = *options;
        pool->is_max = is_max;
        pool->is_adaptive = is_adaptive;
        for (int d = 0; d < n_axes; d++) {
            pool->options.stride[d] = options->stride[d] != 0 ? options->stride[d] : options->kernel[d];
        }
    }
    return status;
}

status_t gd_pool_new(int n_axes, bool is_max, const gd_pool_options_t *options, gd_module_t **module_p)
{
    status_t status = axes_check("pool", n_axes);
    return status == ST_OK ? pool_make(&pool_ops[is_max][n_axes], n_axes, is_max, false, options, module_p) : status;
}

status_t gd_adaptive_pool_new(int n_axes, bool is_max, const int *size, gd_module_t **module_p)
{
    gd_pool_options_t options = {.rounds_up = false};
    status_t status = axes_check("adaptive_pool", n_axes);
    if (status != ST_OK) {
        return status;
    }
    memcpy(options.kernel, size, (size_t)n_axes * sizeof(*size));
    return pool_make(&adaptive_ops[is_max], n_axes, is_max, true, &options, module_p);
}

status_t gd_global_pool_new(bool is_max, gd_module_t **module_p)
{
    const gd_pool_options_t options = {.rounds_up = false};
    return pool_make(&pool_ops[is_max][0], 0, is_max, true, &options, module_p);
}

/* ---- padding ---- */

typedef struct pad {
    gd_module_t base;
    int n_axes;
    int64_t before[3], after[3];
    gd_pad_mode_t mode;
    double value;
} pad_t;

static status_t pad_forward(gd_module_t *self, gd_tensor_t *x, gd_tensor_t **y_p)
{
    const pad_t *pad = (const pad_t *)self;
    return gd_pad_with(x, pad->n_axes, pad->before, pad->after, pad->mode, pad->value, y_p);
}

static const gd_module_ops_t pad_ops = {.kind = "pad", .forward = pad_forward};

status_t gd_pad_new(int n_axes, const int64_t *before, const int64_t *after, gd_pad_mode_t mode, double value,
                    gd_module_t **module_p)
{
    status_t status = axes_check("pad", n_axes);
    if (status == ST_OK) {
        status = gd_module_new(&pad_ops, sizeof(pad_t), module_p);
    }
    if (status == ST_OK) {
        pad_t *pad = (pad_t *)*module_p;
        pad->n_axes = n_axes;
        memcpy(pad->before, before, (size_t)n_axes * sizeof(*before));
        memcpy(pad->after, after, (size_t)n_axes * sizeof(*after));
        pad->mode = mode;
        pad->value = value;
    }
    return status;
}

/* ---- upsampling ---- */

typedef struct upsample {
    gd_module_t base;
    gd_upsample_t mode;
    int n_axes;
    int64_t size[3];
    double factors[3];
    bool has_factors, aligns_corners;
} upsample_t;

static status_t upsample_forward(gd_module_t *self, gd_tensor_t *x, gd_tensor_t **y_p)
{
    const upsample_t *up = (const upsample_t *)self;
    if (gd_tensor_n_dims(x) != up->n_axes + 2) {
        return module_fail_shape(x, ", not [B, C] and %d spatial axes", up->n_axes);
    }
    return gd_upsample(x, up->mode, up->size, up->has_factors ? up->factors : NULL, up->aligns_corners, y_p);
}

static const gd_module_ops_t upsample_ops = {.kind = "upsample", .forward = upsample_forward};

status_t gd_upsample_new(int n_axes, gd_upsample_t mode, const int64_t *size, const double *factors,
                         bool aligns_corners, gd_module_t **module_p)
{
    status_t status = axes_check("upsample", n_axes);
    if (status == ST_OK) {
        status = gd_module_new(&upsample_ops, sizeof(upsample_t), module_p);
    }
    if (status == ST_OK) {
        upsample_t *up = (upsample_t *)*module_p;
        up->mode = mode;
        up->n_axes = n_axes;
        up->has_factors = factors != NULL;
        up->aligns_corners = aligns_corners;
        for (int d = 0; d < n_axes; d++) {
            up->size[d] = factors == NULL ? size[d] : 0;
            up->factors[d] = factors != NULL ? factors[d] : 0;
        }
    }
    return status;
}
