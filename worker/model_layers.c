/* SPDX-License-Identifier: Apache-2.0 */
/* model_layers: one function per kind of layer: checks its input's shape, builds its module, says what it gives. */
#include <string.h>

#include "base/mem.h"
#include "worker/layers_image.h"

status_t model_range_check(const Gradd__V1__Layer *layer, const char *field, int64_t value, int64_t low, int64_t high)
{
    if (value < low || value > high) {
        return model_fail(ST_ERR_RANGE, layer, "%s %lld is not in %lld … %lld", field, (long long)value, (long long)low,
                          (long long)high);
    }
    return ST_OK;
}

static gd_init_t kaiming_get(gd_init_kind_t kind, const Gradd__V1__Init__Slope *slope)
{
    static const gd_gain_t gains[] = {
        [GRADD__V1__INIT__SLOPE__NONLINEARITY__leaky_relu] = GD_GAIN_LEAKY_RELU,
        [GRADD__V1__INIT__SLOPE__NONLINEARITY__relu] = GD_GAIN_RELU,
        [GRADD__V1__INIT__SLOPE__NONLINEARITY__linear] = GD_GAIN_LINEAR,
        [GRADD__V1__INIT__SLOPE__NONLINEARITY__tanh] = GD_GAIN_TANH,
        [GRADD__V1__INIT__SLOPE__NONLINEARITY__selu] = GD_GAIN_SELU,
    };
    gd_init_t init = {.kind = kind, .a = slope->slope, .uses_fan_out = slope->fan == GRADD__V1__INIT__SLOPE__FAN__out};
    if (slope->nonlinearity != GRADD__V1__INIT__SLOPE__NONLINEARITY__leaky_relu) {
        init.gain = gd_init_gain(gains[slope->nonlinearity], 0);
    }
    return init;
}

status_t model_init_apply(gd_module_t *module, const char *name, const Gradd__V1__Init *init)
{
    if (init == NULL) {
        return ST_OK;
    }
    gd_init_t to = {0};
    switch (init->kind_case) {
    case GRADD__V1__INIT__KIND_NORMAL:
        to = (gd_init_t){.kind = GD_INIT_NORMAL, .a = init->normal->mean, .b = init->normal->std};
        break;
    case GRADD__V1__INIT__KIND_UNIFORM:
        to = (gd_init_t){.kind = GD_INIT_UNIFORM, .a = init->uniform->low, .b = init->uniform->high};
        break;
    case GRADD__V1__INIT__KIND_XAVIER_UNIFORM:
        to = (gd_init_t){.kind = GD_INIT_XAVIER_UNIFORM, .a = init->xavier_uniform->gain};
        break;
    case GRADD__V1__INIT__KIND_XAVIER_NORMAL:
        to = (gd_init_t){.kind = GD_INIT_XAVIER_NORMAL, .a = init->xavier_normal->gain};
        break;
    case GRADD__V1__INIT__KIND_KAIMING_UNIFORM:
        to = kaiming_get(GD_INIT_KAIMING_UNIFORM, init->kaiming_uniform);
        break;
    case GRADD__V1__INIT__KIND_KAIMING_NORMAL:
        to = kaiming_get(GD_INIT_KAIMING_NORMAL, init->kaiming_normal);
        break;
    case GRADD__V1__INIT__KIND_TRUNC_NORMAL:
        to = (gd_init_t){.kind = GD_INIT_TRUNC_NORMAL,
                         .a = init->trunc_normal->mean,
                         .b = init->trunc_normal->std,
                         .c = init->trunc_normal->low,
                         .d = init->trunc_normal->high};
        break;
    case GRADD__V1__INIT__KIND_EYE:
        to = (gd_init_t){.kind = GD_INIT_EYE};
        break;
    case GRADD__V1__INIT__KIND_DIRAC:
        to = (gd_init_t){.kind = GD_INIT_DIRAC, .a = init->dirac->groups};
        break;
    case GRADD__V1__INIT__KIND_ORTHOGONAL:
        to = (gd_init_t){.kind = GD_INIT_ORTHOGONAL, .a = init->orthogonal->gain};
        break;
    case GRADD__V1__INIT__KIND_SPARSE:
        to = (gd_init_t){.kind = GD_INIT_SPARSE, .a = init->sparse->sparsity, .b = init->sparse->std};
        break;
    case GRADD__V1__INIT__KIND_CONSTANT:
        to = (gd_init_t){.kind = GD_INIT_CONSTANT, .a = init->constant->value};
        break;
    default:
        return ST_OK;
    }
    return gd_module_set_init(module, name, to);
}

/* ---- linear ---- */

static status_t linear_tied_find(const model_build_t *build, const Gradd__V1__Layer *layer,
                                 const Gradd__V1__Layer **embedding_p, gd_module_t **module_p)
{
    int n_found = 0;
    for (int i = 0; i < build->n_embeddings; i++) {
        const char *name = build->embeddings[i].layer->embedding->name;
        if (name != NULL && strcmp(name, layer->linear->tied) == 0) {
            *embedding_p = build->embeddings[i].layer;
            *module_p = build->embeddings[i].module;
            n_found++;
        }
    }
    if (n_found == 0) {
        return model_fail(ST_ERR_NOT_FOUND, layer, "tied to \"%s\": no embedding before it has that name",
                          layer->linear->tied);
    }
    return n_found == 1 ? ST_OK
                        : model_fail(ST_ERR_INVAL, layer, "tied to \"%s\": %d embeddings have that name",
                                     layer->linear->tied, n_found);
}

static status_t linear_tied_build(model_build_t *build, const Gradd__V1__Layer *layer, const wrk_shape_t *in,
                                  gd_module_t **module_p)
{
    const Gradd__V1__Layer *embedding = NULL;
    gd_module_t *owner = NULL;
    status_t status = linear_tied_find(build, layer, &embedding, &owner);
    if (status != ST_OK) {
        return status;
    }
    int64_t width = embedding->embedding->width;
    int64_t count = embedding->embedding->count;
    if (in->size[in->n_dims - 1] != width) {
        return model_fail_input(
            build, layer, in, "wants width %lld, that of the embedding \"%s\" at %s:%d it is tied to", (long long)width,
            layer->linear->tied, embedding->file != NULL ? embedding->file : "?", embedding->line);
    }
    if (layer->linear->has_out && layer->linear->out != count) {
        return model_fail(ST_ERR_SHAPE, layer, "out %lld differs from the %lld rows of the embedding \"%s\" at %s:%d",
                          (long long)layer->linear->out, (long long)count, layer->linear->tied,
                          embedding->file != NULL ? embedding->file : "?", embedding->line);
    }
    return gd_linear_tied_new(owner->parameters[0].tensor, layer->linear->bias, module_p);
}

/* [B, T, C] and [B, C] only: on an image the last axis is hardly what is meant. */
static status_t linear_build(model_build_t *build, const Gradd__V1__Layer *layer, wrk_shape_t *shape,
                             gd_module_t **module_p)
{
    const Gradd__V1__Layer__Linear *linear = layer->linear;
    if (shape->dtype != GD_DTYPE_F32 || shape->n_dims < 1 || shape->n_dims > 2) {
        return model_fail_input(build, layer, shape, "wants vectors [B, C] or [B, T, C]%s",
                                shape->n_dims == 3 ? " (flatten images first)" : "");
    }
    gd_module_t *module = NULL;
    bool is_tied = linear->tied != NULL && linear->tied[0] != '\0';
    if (is_tied && linear->transposed) {
        return model_fail(ST_ERR_INVAL, layer, "an embedding's weight can't be stored transposed: tied or transposed");
    }
    int64_t n_in = shape->size[shape->n_dims - 1];
    int64_t n_out = linear->out;
    status_t status = ST_OK;
    if (is_tied) {
        status = linear_tied_build(build, layer, shape, &module);
        n_out = status == ST_OK ? gd_tensor_dim(module->parameters[0].tensor, 0) : 0;
    } else {
        status = model_range_check(layer, "out", n_out, 1, WRK_MODEL_MAX_COUNT);
        if (status == ST_OK) {
            status = model_add_parameters(build, layer, n_out, n_in + 1);
        }
        if (status == ST_OK) {
            status = linear->transposed ? gd_linear_transposed_new(n_in, n_out, linear->bias, &module)
                                        : gd_linear_new(n_in, n_out, linear->bias, &module);
        }
        if (status == ST_OK) {
            status = model_init_apply(module, "weight", linear->init);
        }
    }
    if (status == ST_OK && linear->bias) {
        status = model_init_apply(module, "bias", linear->bias_init);
    }
    if (status != ST_OK) {
        (void)gd_module_unref(module);
        return status;
    }
    shape->size[shape->n_dims - 1] = n_out;
    *module_p = module;
    return ST_OK;
}

/* ---- images ---- */

static bool shape_is_image(const wrk_shape_t *shape)
{
    return shape->dtype == GD_DTYPE_F32 && shape->n_dims == 3;
}

/* [height, width] from no, one or two numbers. */
static void pair_get(size_t n, const int32_t *values, int fallback, int pair[2])
{
    pair[0] = n > 0 ? values[0] : fallback;
    pair[1] = n > 1 ? values[1] : pair[0];
}

static status_t pair_check(const Gradd__V1__Layer *layer, const char *field, const int pair[2], int low)
{
    status_t status = model_range_check(layer, field, pair[0], low, 1024);
    return status == ST_OK ? model_range_check(layer, field, pair[1], low, 1024) : status;
}

/* Height and width after a window moves over the image. */
static status_t window_apply(const model_build_t *build, const Gradd__V1__Layer *layer, const int kernel[2],
                             const int stride[2], const int padding[2], const int dilation[2], wrk_shape_t *shape)
{
    wrk_shape_t out = *shape;
    for (int i = 0; i < 2; i++) {
        int64_t reach = (int64_t)dilation[i] * (kernel[i] - 1) + 1;
        int64_t room = shape->size[1 + i] + 2 * (int64_t)padding[i] - reach;
        if (room < 0) {
            return model_fail_input(build, layer, shape,
                                    "wants images of at least %lld x %lld for its kernel %d x %d and padding %d x %d",
                                    (long long)dilation[0] * (kernel[0] - 1) + 1 - 2LL * padding[0],
                                    (long long)dilation[1] * (kernel[1] - 1) + 1 - 2LL * padding[1], kernel[0],
                                    kernel[1], padding[0], padding[1]);
        }
        out.size[1 + i] = room / stride[i] + 1;
    }
    *shape = out;
    return ST_OK;
}

static status_t conv2d_check(model_build_t *build, const Gradd__V1__Layer *layer, const int kernel[2],
                             const gd_conv2d_options_t *options, const wrk_shape_t *shape)
{
    const Gradd__V1__Layer__Conv2d *conv = layer->conv2d;
    if (!shape_is_image(shape)) {
        return model_fail_input(build, layer, shape, "wants images [B, C, H, W]");
    }
    status_t status = model_range_check(layer, "out", conv->out, 1, WRK_MODEL_MAX_WIDTH);
    if (status == ST_OK) {
        status = pair_check(layer, "kernel", kernel, 1);
    }
    if (status == ST_OK) {
        status = pair_check(layer, "stride", options->stride, 1);
    }
    if (status == ST_OK) {
        status = pair_check(layer, "padding", options->padding, 0);
    }
    if (status == ST_OK) {
        status = pair_check(layer, "dilation", options->dilation, 1);
    }
    if (status == ST_OK) {
        status = model_range_check(layer, "groups", conv->groups, 1, WRK_MODEL_MAX_WIDTH);
    }
    if (status != ST_OK) {
        return status;
    }
    if (shape->size[0] % conv->groups != 0) {
        return model_fail_input(build, layer, shape, "wants channels that its %d groups divide", conv->groups);
    }
    if (conv->out % conv->groups != 0) {
        return model_fail(ST_ERR_SHAPE, layer, "%d groups don't divide its %lld output channels", conv->groups,
                          (long long)conv->out);
    }
    return model_add_parameters(build, layer, conv->out,
                                shape->size[0] / conv->groups * (int64_t)kernel[0] * kernel[1] + 1);
}

static status_t conv2d_build(model_build_t *build, const Gradd__V1__Layer *layer, wrk_shape_t *shape,
                             gd_module_t **module_p)
{
    const Gradd__V1__Layer__Conv2d *conv = layer->conv2d;
    int kernel[2];
    gd_conv2d_options_t options = {.groups = conv->groups};
    pair_get(conv->n_kernel, conv->kernel, 0, kernel);
    pair_get(conv->n_stride, conv->stride, 1, options.stride);
    pair_get(conv->n_padding, conv->padding, 0, options.padding);
    pair_get(conv->n_dilation, conv->dilation, 1, options.dilation);
    wrk_shape_t out = *shape;
    status_t status = conv2d_check(build, layer, kernel, &options, shape);
    if (status == ST_OK && (conv->same || conv->padding_mode != GRADD__V1__LAYER__PAD_MODE__zeros)) {
        gd_conv_options_t general = {.groups = conv->groups};
        for (int i = 0; i < 2; i++) {
            general.stride[i] = options.stride[i];
            general.padding[i] = options.padding[i];
            general.dilation[i] = options.dilation[i];
        }
        return model_conv_finish(build, layer, 2, kernel, &general, conv->out, conv->padding_mode, conv->same,
                                 conv->bias, conv->init, shape, module_p);
    }
    if (status == ST_OK) {
        status = window_apply(build, layer, kernel, options.stride, options.padding, options.dilation, &out);
    }
    gd_module_t *module = NULL;
    if (status == ST_OK) {
        status = gd_conv2d_new(shape->size[0], conv->out, kernel, &options, conv->bias, &module);
    }
    if (status == ST_OK) {
        status = model_init_apply(module, "weight", conv->init);
    }
    if (status != ST_OK) {
        (void)gd_module_unref(module);
        return status;
    }
    out.size[0] = conv->out;
    *shape = out;
    *module_p = module;
    return ST_OK;
}

static status_t pool2d_build(model_build_t *build, const Gradd__V1__Layer *layer, wrk_shape_t *shape,
                             gd_module_t **module_p)
{
    bool is_max = layer->kind_case == GRADD__V1__LAYER__KIND_MAX_POOL2D;
    const Gradd__V1__Layer__Pool2d *pool = is_max ? layer->max_pool2d : layer->avg_pool2d;
    if (!shape_is_image(shape)) {
        return model_fail_input(build, layer, shape, "wants images [B, C, H, W]");
    }
    gd_pool2d_options_t options = {0};
    pair_get(pool->n_kernel, pool->kernel, 0, options.kernel);
    pair_get(pool->n_stride, pool->stride, 0, options.stride);
    pair_get(pool->n_padding, pool->padding, 0, options.padding);
    for (int i = 0; i < 2; i++) {
        options.stride[i] = options.stride[i] != 0 ? options.stride[i] : options.kernel[i];
    }
    status_t status = pair_check(layer, "kernel", options.kernel, 1);
    if (status == ST_OK) {
        status = pair_check(layer, "stride", options.stride, 1);
    }
    if (status == ST_OK && (pool->n_dilation > 0 || pool->round_up || !pool->count_padding)) {
        gd_pool_options_t general = {.rounds_up = pool->round_up, .excludes_padding = !pool->count_padding};
        pair_get(pool->n_dilation, pool->dilation, 1, general.dilation);
        for (int i = 0; i < 2; i++) {
            general.kernel[i] = options.kernel[i];
            general.stride[i] = options.stride[i];
            general.padding[i] = options.padding[i];
        }
        return model_pool_finish(build, layer, 2, is_max, &general, shape, module_p);
    }
    for (int i = 0; i < 2 && status == ST_OK; i++) {
        status = model_range_check(layer, "padding", options.padding[i], 0, options.kernel[i] / 2);
    }
    if (status == ST_OK) {
        status =
            window_apply(build, layer, options.kernel, options.stride, options.padding, (const int[2]){1, 1}, shape);
    }
    if (status != ST_OK) {
        return status;
    }
    return is_max ? gd_max_pool2d_new(&options, module_p) : gd_avg_pool2d_new(&options, module_p);
}

static status_t global_avg_pool2d_build(model_build_t *build, const Gradd__V1__Layer *layer, wrk_shape_t *shape,
                                        gd_module_t **module_p)
{
    if (!shape_is_image(shape)) {
        return model_fail_input(build, layer, shape, "wants images [B, C, H, W]");
    }
    shape->size[1] = 1;
    shape->size[2] = 1;
    return gd_global_avg_pool2d_new(module_p);
}

/* ---- norms ---- */

static status_t batch_norm2d_build(model_build_t *build, const Gradd__V1__Layer *layer, wrk_shape_t *shape,
                                   gd_module_t **module_p)
{
    if (!shape_is_image(shape)) {
        return model_fail_input(build, layer, shape, "wants images [B, C, H, W]");
    }
    const Gradd__V1__Layer__BatchNorm2d *norm = layer->batch_norm2d;
    status_t status = model_add_parameters(build, layer, 2, shape->size[0]);
    return status == ST_OK ? gd_batch_norm_new(2, shape->size[0], norm->epsilon, norm->momentum, norm->affine, module_p)
                           : status;
}

static status_t layer_norm_build(model_build_t *build, const Gradd__V1__Layer *layer, wrk_shape_t *shape,
                                 gd_module_t **module_p)
{
    if (shape->dtype != GD_DTYPE_F32 || shape->n_dims < 1) {
        return model_fail_input(build, layer, shape, "wants vectors [B, …, C]");
    }
    const int axes = layer->layer_norm->axes;
    int64_t width = 1;
    if (axes < 1 || axes > shape->n_dims) {
        return model_fail_input(build, layer, shape, "wants samples of at least %d axes", axes);
    }
    for (int d = shape->n_dims - axes; d < shape->n_dims; d++) {
        width *= shape->size[d];
    }
    status_t status = model_add_parameters(build, layer, 2, width);
    if (status == ST_OK && axes > 1) {
        return gd_layer_norm_axes_new(axes, shape->size + shape->n_dims - axes, layer->layer_norm->epsilon,
                                      layer->layer_norm->bias, module_p);
    }
    return status == ST_OK ? gd_layer_norm_new(width, layer->layer_norm->epsilon, layer->layer_norm->bias, module_p)
                           : status;
}

/* ---- tokens ---- */

static status_t embedding_register(model_build_t *build, const Gradd__V1__Layer *layer, gd_module_t *module)
{
    model_embedding_t *list =
        mem_realloc(build->embeddings, (size_t)(build->n_embeddings + 1) * sizeof(*build->embeddings));
    if (list == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "list of embeddings");
    }
    build->embeddings = list;
    list[build->n_embeddings++] = (model_embedding_t){.layer = layer, .module = module};
    return ST_OK;
}

static status_t embedding_build(model_build_t *build, const Gradd__V1__Layer *layer, wrk_shape_t *shape,
                                gd_module_t **module_p)
{
    const Gradd__V1__Layer__Embedding *embedding = layer->embedding;
    if (shape->dtype != GD_DTYPE_I64 || shape->n_dims != 1) {
        return model_fail_input(build, layer, shape, "wants tokens [B, T] i64");
    }
    status_t status = model_range_check(layer, "count", embedding->count, 1, WRK_MODEL_MAX_COUNT);
    if (status == ST_OK) {
        status = model_range_check(layer, "width", embedding->width, 1, WRK_MODEL_MAX_WIDTH);
    }
    if (status == ST_OK) {
        status = model_add_parameters(build, layer, embedding->count, embedding->width);
    }
    gd_module_t *module = NULL;
    if (status == ST_OK) {
        status = embedding->has_padding
                     ? model_range_check(layer, "padding", embedding->padding, 0, embedding->count - 1)
                     : ST_OK;
    }
    if (status == ST_OK) {
        status = embedding->has_padding
                     ? gd_embedding_padded_new(embedding->count, embedding->width, embedding->padding, &module)
                     : gd_embedding_new(embedding->count, embedding->width, &module);
    }
    if (status == ST_OK) {
        status = model_init_apply(module, "weight", embedding->init);
    }
    if (status == ST_OK) {
        status = embedding_register(build, layer, module);
    }
    if (status != ST_OK) {
        (void)gd_module_unref(module);
        return status;
    }
    shape->dtype = GD_DTYPE_F32;
    shape->n_dims = 2;
    shape->size[1] = embedding->width;
    *module_p = module;
    return ST_OK;
}

static status_t position_embedding_build(model_build_t *build, const Gradd__V1__Layer *layer, wrk_shape_t *shape,
                                         gd_module_t **module_p)
{
    const Gradd__V1__Layer__PositionEmbedding *embedding = layer->position_embedding;
    if (shape->dtype != GD_DTYPE_F32 || shape->n_dims != 2) {
        return model_fail_input(build, layer, shape, "wants vectors [B, T, C]");
    }
    status_t status = model_range_check(layer, "count", embedding->count, 1, WRK_MODEL_MAX_COUNT);
    if (status == ST_OK && shape->size[0] > embedding->count) {
        status = model_fail_input(build, layer, shape, "wants at most its count of %lld positions",
                                  (long long)embedding->count);
    }
    if (status == ST_OK) {
        status = model_add_parameters(build, layer, embedding->count, shape->size[1]);
    }
    gd_module_t *module = NULL;
    if (status == ST_OK) {
        status = gd_position_embedding_new(embedding->count, shape->size[1], &module);
    }
    if (status == ST_OK) {
        status = model_init_apply(module, "weight", embedding->init);
    }
    if (status != ST_OK) {
        (void)gd_module_unref(module);
        return status;
    }
    *module_p = module;
    return ST_OK;
}

/* ---- without parameters ---- */

static status_t flatten_build(model_build_t *build, const Gradd__V1__Layer *layer, wrk_shape_t *shape,
                              gd_module_t **module_p)
{
    if (shape->dtype != GD_DTYPE_F32) {
        return model_fail_input(build, layer, shape, "wants numbers [B, …]");
    }
    const int start = layer->flatten->start;
    const int end = layer->flatten->end < 0 ? shape->n_dims : layer->flatten->end;
    const bool is_whole = start == 1 && end == shape->n_dims;
    if (!is_whole && (start < 1 || end < start || end > shape->n_dims)) {
        return model_fail_input(build, layer, shape, "wants axes %d to %d", start, end);
    }
    int64_t numel = 1;
    for (int d = start - 1; d < end; d++) {
        if (__builtin_mul_overflow(numel, shape->size[d], &numel)) {
            return model_fail_input(build, layer, shape, "wants samples of fewer elements");
        }
    }
    wrk_shape_t out = {.dtype = shape->dtype, .n_dims = shape->n_dims - (end - start)};
    for (int d = 0; d < out.n_dims; d++) {
        out.size[d] = d == start - 1 ? numel : shape->size[d < start ? d : d + end - start];
    }
    if (is_whole) {
        out = (wrk_shape_t){.dtype = shape->dtype, .n_dims = 1, .size = {numel}};
    }
    *shape = out;
    return is_whole ? gd_flatten_new(module_p) : gd_reshape_samples_new(out.n_dims, out.size, module_p);
}

static status_t dropout_build(const Gradd__V1__Layer *layer, gd_module_t **module_p)
{
    status_t status = gd_dropout_new(layer->dropout->p, module_p);
    return status == ST_OK ? ST_OK : model_add_place(status, layer);
}

static status_t elementwise_build(model_build_t *build, const Gradd__V1__Layer *layer, const wrk_shape_t *shape,
                                  gd_module_t **module_p)
{
    if (shape->dtype != GD_DTYPE_F32) {
        return model_fail_input(build, layer, shape, "wants numbers [B, …]");
    }
    switch (layer->kind_case) {
    case GRADD__V1__LAYER__KIND_DROPOUT:
        return dropout_build(layer, module_p);
    case GRADD__V1__LAYER__KIND_RELU:
        return gd_activation_new(GD_ACTIVATION_RELU, module_p);
    case GRADD__V1__LAYER__KIND_GELU:
        return gd_activation_new(layer->gelu->tanh ? GD_ACTIVATION_GELU_TANH : GD_ACTIVATION_GELU, module_p);
    case GRADD__V1__LAYER__KIND_TANH:
        return gd_activation_new(GD_ACTIVATION_TANH, module_p);
    case GRADD__V1__LAYER__KIND_SIGMOID:
        return gd_activation_new(GD_ACTIVATION_SIGMOID, module_p);
    case GRADD__V1__LAYER__KIND_SILU:
        return gd_activation_new(GD_ACTIVATION_SILU, module_p);
    default:
        return model_fail(ST_ERR_UNSUPPORTED, layer, "this build has no such layer");
    }
}

status_t model_leaf_build(model_build_t *build, const Gradd__V1__Layer *layer, wrk_shape_t *shape,
                          gd_module_t **module_p)
{
    model_build_func_t image_build = model_image_find(layer->kind_case);
    if (image_build != NULL) {
        return image_build(build, layer, shape, module_p);
    }
    switch (layer->kind_case) {
    case GRADD__V1__LAYER__KIND_LINEAR:
        return linear_build(build, layer, shape, module_p);
    case GRADD__V1__LAYER__KIND_CONV2D:
        return conv2d_build(build, layer, shape, module_p);
    case GRADD__V1__LAYER__KIND_MAX_POOL2D:
    case GRADD__V1__LAYER__KIND_AVG_POOL2D:
        return pool2d_build(build, layer, shape, module_p);
    case GRADD__V1__LAYER__KIND_GLOBAL_AVG_POOL2D:
        return global_avg_pool2d_build(build, layer, shape, module_p);
    case GRADD__V1__LAYER__KIND_BATCH_NORM2D:
        return batch_norm2d_build(build, layer, shape, module_p);
    case GRADD__V1__LAYER__KIND_LAYER_NORM:
        return layer_norm_build(build, layer, shape, module_p);
    case GRADD__V1__LAYER__KIND_EMBEDDING:
        return embedding_build(build, layer, shape, module_p);
    case GRADD__V1__LAYER__KIND_POSITION_EMBEDDING:
        return position_embedding_build(build, layer, shape, module_p);
    case GRADD__V1__LAYER__KIND_FLATTEN:
        return flatten_build(build, layer, shape, module_p);
    case GRADD__V1__LAYER__KIND_IDENTITY:
    case GRADD__V1__LAYER__KIND_SELECT:
    case GRADD__V1__LAYER__KIND_MEAN:
    case GRADD__V1__LAYER__KIND_TRANSPOSE:
    case GRADD__V1__LAYER__KIND_RESHAPE:
    case GRADD__V1__LAYER__KIND_TOKENS:
    case GRADD__V1__LAYER__KIND_TOKEN_TYPE_EMBEDDING:
    case GRADD__V1__LAYER__KIND_PREPEND_PARAMETER:
    case GRADD__V1__LAYER__KIND_ADD_PARAMETER:
    case GRADD__V1__LAYER__KIND_ATTEND:
        return model_shaper_build(build, layer, shape, module_p);
    case GRADD__V1__LAYER__KIND_ATTENTION:
    case GRADD__V1__LAYER__KIND_MULTIHEAD_ATTENTION:
    case GRADD__V1__LAYER__KIND_TRANSFORMER_ENCODER_LAYER:
    case GRADD__V1__LAYER__KIND_TRANSFORMER_DECODER_LAYER:
    case GRADD__V1__LAYER__KIND_GATED_MLP:
    case GRADD__V1__LAYER__KIND_SINUSOIDAL_POSITIONS:
    case GRADD__V1__LAYER__KIND_RNN:
    case GRADD__V1__LAYER__KIND_LSTM:
    case GRADD__V1__LAYER__KIND_GRU:
        return model_sequence_build(build, layer, shape, module_p);
    default:
        return elementwise_build(build, layer, shape, module_p);
    }
}
