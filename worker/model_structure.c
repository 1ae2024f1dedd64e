/* SPDX-License-Identifier: Apache-2.0 */
/* model_structure: layers that change shapes and little else. */
#include "worker/model_build.h"

static status_t numbers_check(const model_build_t *build, const Gradd__V1__Layer *layer, const wrk_shape_t *shape,
                              int min_dims, const char *wanted)
{
    bool is_fit = shape->dtype == GD_DTYPE_F32 && shape->n_dims >= min_dims;
    return is_fit ? ST_OK : model_fail_input(build, layer, shape, "wants %s", wanted);
}

/* Takes an axis (of a sample) out of the shape. */
static void axis_remove(wrk_shape_t *shape, int axis)
{
    for (int d = axis; d + 1 < shape->n_dims; d++) {
        shape->size[d] = shape->size[d + 1];
    }
    shape->n_dims--;
}

/* mean and select over the tokens that aren't padding. */
static status_t pool_tokens_build(model_build_t *build, const Gradd__V1__Layer *layer, wrk_shape_t *shape,
                                  gd_module_t **module_p)
{
    const bool is_mean = layer->kind_case == GRADD__V1__LAYER__KIND_MEAN;
    if (!build->own.has_padding) {
        return model_fail(ST_ERR_INVAL, layer, "skip_padding: the model names no padding token");
    }
    if (shape->dtype != GD_DTYPE_F32 || shape->n_dims != 2) {
        return model_fail_input(build, layer, shape, "wants vectors [B, T, C]");
    }
    status_t status = model_padding_check(build, layer, shape);
    if (status == ST_OK && is_mean && (layer->mean->n_axes != 1 || layer->mean->axes[0] != 1)) {
        status = model_fail(ST_ERR_INVAL, layer, "skip_padding: the mean is over axis 1, the tokens");
    }
    if (status == ST_OK) {
        axis_remove(shape, 0);
        status = gd_pool_tokens_new(build->own.sequence, is_mean, is_mean ? 0 : layer->select->index, module_p);
    }
    return status;
}

static status_t select_build(model_build_t *build, const Gradd__V1__Layer *layer, wrk_shape_t *shape,
                             gd_module_t **module_p)
{
    int64_t index = layer->select->index;
    status_t status = numbers_check(build, layer, shape, 2, "vectors [B, T, …]");
    if (status == ST_OK && (index >= shape->size[0] || index < -shape->size[0])) {
        status = model_fail_input(build, layer, shape, "wants at least %lld tokens to select number %lld",
                                  (long long)(index < 0 ? -index : index + 1), (long long)index);
    }
    if (status != ST_OK) {
        return status;
    }
    if (layer->select->skip_padding) {
        return pool_tokens_build(build, layer, shape, module_p);
    }
    axis_remove(shape, 0);
    return gd_select_new(index, module_p);
}

/* mean and transpose: axes that the sample has, each once. */
static status_t axes_check(const model_build_t *build, const Gradd__V1__Layer *layer,
                           const Gradd__V1__Layer__Axes *axes, const wrk_shape_t *shape)
{
    status_t status = numbers_check(build, layer, shape, 1, "numbers [B, …]");
    for (size_t i = 0; i < axes->n_axes && status == ST_OK; i++) {
        if (axes->axes[i] < 1 || axes->axes[i] > shape->n_dims) {
            return model_fail_input(build, layer, shape, "wants an axis %d", axes->axes[i]);
        }
        for (size_t k = 0; k < i; k++) {
            if (axes->axes[k] == axes->axes[i]) {
                return model_fail(ST_ERR_INVAL, layer, "axis %d is given twice", axes->axes[i]);
            }
        }
    }
    return status;
}

static status_t mean_build(model_build_t *build, const Gradd__V1__Layer *layer, wrk_shape_t *shape,
                           gd_module_t **module_p)
{
    const Gradd__V1__Layer__Axes *axes = layer->mean;
    status_t status = axes_check(build, layer, axes, shape);
    if (status != ST_OK || axes->skip_padding) {
        return status == ST_OK ? pool_tokens_build(build, layer, shape, module_p) : status;
    }
    for (int d = shape->n_dims; d >= 1; d--) {
        bool is_gone = false;
        for (size_t i = 0; i < axes->n_axes; i++) {
            is_gone = is_gone || axes->axes[i] == d;
        }
        if (is_gone) {
            axis_remove(shape, d - 1);
        }
    }
    return gd_mean_over_new((int)axes->n_axes, axes->axes, module_p);
}

static status_t transpose_build(model_build_t *build, const Gradd__V1__Layer *layer, wrk_shape_t *shape,
                                gd_module_t **module_p)
{
    const Gradd__V1__Layer__Axes *axes = layer->transpose;
    if (axes->n_axes != 2 || axes->skip_padding) {
        return axes->skip_padding ? model_fail(ST_ERR_INVAL, layer, "skip_padding is for mean")
                                  : model_fail(ST_ERR_INVAL, layer, "takes two axes, not %zu", axes->n_axes);
    }
    status_t status = axes_check(build, layer, axes, shape);
    if (status != ST_OK) {
        return status;
    }
    int64_t size = shape->size[axes->axes[0] - 1];
    shape->size[axes->axes[0] - 1] = shape->size[axes->axes[1] - 1];
    shape->size[axes->axes[1] - 1] = size;
    return gd_transpose_axes_new(axes->axes[0], axes->axes[1], module_p);
}

static status_t reshape_build(model_build_t *build, const Gradd__V1__Layer *layer, wrk_shape_t *shape,
                              gd_module_t **module_p)
{
    const Gradd__V1__Layer__Reshape *reshape = layer->reshape;
    wrk_shape_t out = {.dtype = shape->dtype, .n_dims = (int)reshape->n_shape};
    int64_t numel = 1;
    int64_t known = 1;
    int open = -1;
    if (reshape->n_shape < 1 || reshape->n_shape >= GD_MAX_DIMS) {
        return model_fail(ST_ERR_RANGE, layer, "samples of %zu dimensions", reshape->n_shape);
    }
    status_t status = numbers_check(build, layer, shape, 0, "numbers [B, …]");
    for (int d = 0; d < shape->n_dims; d++) {
        numel *= shape->size[d];
    }
    for (int d = 0; d < out.n_dims && status == ST_OK; d++) {
        out.size[d] = reshape->shape[d];
        if (out.size[d] < 0 && open >= 0) {
            return model_fail(ST_ERR_INVAL, layer, "two sizes of its shape are open");
        }
        open = out.size[d] < 0 ? d : open;
        if (out.size[d] == 0 || (out.size[d] > 0 && __builtin_mul_overflow(known, out.size[d], &known))) {
            return model_fail(ST_ERR_RANGE, layer, "size %lld in its shape", (long long)out.size[d]);
        }
    }
    if (status != ST_OK) {
        return status;
    }
    if (open >= 0) {
        out.size[open] = numel / known;
    }
    if (open >= 0 ? numel % known != 0 : numel != known) {
        return model_fail_input(build, layer, shape, "wants samples of %s%lld elements",
                                open >= 0 ? "a multiple of " : "", (long long)known);
    }
    status = gd_reshape_samples_new(out.n_dims, out.size, module_p);
    *shape = out;
    return status;
}

static status_t tokens_build(model_build_t *build, const Gradd__V1__Layer *layer, wrk_shape_t *shape,
                             gd_module_t **module_p)
{
    if (shape->dtype != GD_DTYPE_F32 || shape->n_dims != 3) {
        return model_fail_input(build, layer, shape, "wants images [B, C, H, W]");
    }
    *shape =
        (wrk_shape_t){.dtype = GD_DTYPE_F32, .n_dims = 2, .size = {shape->size[1] * shape->size[2], shape->size[0]}};
    return gd_tokens_new(module_p);
}

static status_t attend_build(model_build_t *build, const Gradd__V1__Layer *layer, wrk_shape_t *shape,
                             gd_module_t **module_p)
{
    const Gradd__V1__Layer__Attend *attend = layer->attend;
    status_t status = model_range_check(layer, "heads", attend->heads, 1, WRK_MODEL_MAX_WIDTH);
    if (status == ST_OK &&
        (shape->dtype != GD_DTYPE_F32 || shape->n_dims != 2 || shape->size[1] % (3 * (int64_t)attend->heads) != 0)) {
        status = model_fail_input(build, layer, shape,
                                  "wants queries, keys and values [B, T, 3C] with a C that its %d heads divide",
                                  attend->heads);
    }
    if (status == ST_OK) {
        status = model_padding_check(build, layer, shape);
    }
    if (status != ST_OK) {
        return status;
    }
    shape->size[1] /= 3;
    status = gd_attend_new(attend->heads, attend->causal, module_p);
    if (status == ST_OK && build->own.has_padding) {
        gd_attend_set_sequence(*module_p, build->own.sequence);
    }
    return status;
}

static status_t token_type_embedding_build(model_build_t *build, const Gradd__V1__Layer *layer,
                                           const wrk_shape_t *shape, gd_module_t **module_p)
{
    const Gradd__V1__Layer__TokenTypeEmbedding *types = layer->token_type_embedding;
    if (shape->dtype != GD_DTYPE_F32 || shape->n_dims != 2) {
        return model_fail_input(build, layer, shape, "wants vectors [B, T, C]");
    }
    status_t status = model_range_check(layer, "count", types->count, 1, WRK_MODEL_MAX_COUNT);
    if (status == ST_OK) {
        status = model_add_parameters(build, layer, types->count, shape->size[1]);
    }
    if (status == ST_OK) {
        status = gd_token_type_embedding_new(types->count, shape->size[1], module_p);
    }
    return status == ST_OK ? model_init_apply(*module_p, "weight", types->init) : status;
}

static status_t prepend_parameter_build(model_build_t *build, const Gradd__V1__Layer *layer, wrk_shape_t *shape,
                                        gd_module_t **module_p)
{
    const Gradd__V1__Layer__PrependParameter *prepend = layer->prepend_parameter;
    if (shape->dtype != GD_DTYPE_F32 || shape->n_dims != 2) {
        return model_fail_input(build, layer, shape, "wants vectors [B, T, C]");
    }
    status_t status = model_range_check(layer, "count", prepend->count, 1, WRK_MODEL_MAX_WIDTH);
    if (status == ST_OK && prepend->name == NULL) {
        status = model_fail(ST_ERR_INVAL, layer, "needs a name: its parameter's");
    }
    if (status == ST_OK) {
        status = model_add_parameters(build, layer, prepend->count, shape->size[1]);
    }
    if (status == ST_OK) {
        status = gd_prepend_parameter_new(prepend->name, prepend->count, shape->size[1], module_p);
        status = status == ST_OK ? ST_OK : model_add_place(status, layer);
    }
    if (status != ST_OK) {
        return status;
    }
    shape->size[0] += prepend->count;
    return model_init_apply(*module_p, prepend->name, prepend->init);
}

static status_t add_parameter_build(model_build_t *build, const Gradd__V1__Layer *layer, const wrk_shape_t *shape,
                                    gd_module_t **module_p)
{
    const Gradd__V1__Layer__AddParameter *add = layer->add_parameter;
    int64_t numel = 1;
    status_t status = numbers_check(build, layer, shape, 0, "numbers [B, …]");
    if (status == ST_OK && add->name == NULL) {
        status = model_fail(ST_ERR_INVAL, layer, "needs a name: its parameter's");
    }
    for (int d = 0; d < shape->n_dims && status == ST_OK; d++) {
        if (__builtin_mul_overflow(numel, shape->size[d], &numel)) {
            status = model_fail_input(build, layer, shape, "wants samples of fewer elements");
        }
    }
    if (status == ST_OK) {
        status = model_add_parameters(build, layer, 1, numel);
    }
    if (status == ST_OK) {
        status = gd_add_parameter_new(add->name, shape->n_dims, shape->size, module_p);
        status = status == ST_OK ? ST_OK : model_add_place(status, layer);
    }
    return status == ST_OK ? model_init_apply(*module_p, add->name, add->init) : status;
}

status_t model_shaper_build(model_build_t *build, const Gradd__V1__Layer *layer, wrk_shape_t *shape,
                            gd_module_t **module_p)
{
    switch (layer->kind_case) {
    case GRADD__V1__LAYER__KIND_SELECT:
        return select_build(build, layer, shape, module_p);
    case GRADD__V1__LAYER__KIND_MEAN:
        return mean_build(build, layer, shape, module_p);
    case GRADD__V1__LAYER__KIND_TRANSPOSE:
        return transpose_build(build, layer, shape, module_p);
    case GRADD__V1__LAYER__KIND_RESHAPE:
        return reshape_build(build, layer, shape, module_p);
    case GRADD__V1__LAYER__KIND_TOKENS:
        return tokens_build(build, layer, shape, module_p);
    case GRADD__V1__LAYER__KIND_ATTEND:
        return attend_build(build, layer, shape, module_p);
    case GRADD__V1__LAYER__KIND_TOKEN_TYPE_EMBEDDING:
        return token_type_embedding_build(build, layer, shape, module_p);
    case GRADD__V1__LAYER__KIND_PREPEND_PARAMETER:
        return prepend_parameter_build(build, layer, shape, module_p);
    case GRADD__V1__LAYER__KIND_ADD_PARAMETER:
        return add_parameter_build(build, layer, shape, module_p);
    default:
        return gd_identity_new(module_p);
    }
}
