/* SPDX-License-Identifier: Apache-2.0 */
/* layers_image: the kinds of layers for images and general use: each checks its input's shape, builds, says what it
 * gives. */
#include "worker/layers_image.h"

/* [B, C, …] with the given numbers of spatial axes. */
static status_t channels_check(const model_build_t *build, const Gradd__V1__Layer *layer, const wrk_shape_t *shape,
                               int least_axes, int most_axes, const char *wanted)
{
    const int n_axes = shape->n_dims - 1;
    return shape->dtype == GD_DTYPE_F32 && n_axes >= least_axes && n_axes <= most_axes
               ? ST_OK
               : model_fail_input(build, layer, shape, "wants %s", wanted);
}

/* ---- norms ---- */

static status_t rms_norm_build(model_build_t *build, const Gradd__V1__Layer *layer, wrk_shape_t *shape,
                               gd_module_t **module_p)
{
    const Gradd__V1__Layer__RmsNorm *norm = layer->rms_norm;
    if (shape->dtype != GD_DTYPE_F32 || shape->n_dims < 1) {
        return model_fail_input(build, layer, shape, "wants vectors [B, …, C]");
    }
    const int64_t width = shape->size[shape->n_dims - 1];
    status_t status = model_add_parameters(build, layer, 1, width);
    return status == ST_OK ? gd_rms_norm_new(width, norm->epsilon, norm->weight, module_p) : status;
}

static status_t group_norm_build(model_build_t *build, const Gradd__V1__Layer *layer, wrk_shape_t *shape,
                                 gd_module_t **module_p)
{
    const Gradd__V1__Layer__GroupNorm *norm = layer->group_norm;
    status_t status = channels_check(build, layer, shape, 0, GD_MAX_DIMS, "channels [B, C, …]");
    if (status == ST_OK) {
        status = model_range_check(layer, "groups", norm->groups, 1, WRK_MODEL_MAX_WIDTH);
    }
    if (status == ST_OK && shape->size[0] % norm->groups != 0) {
        status = model_fail_input(build, layer, shape, "wants channels that its %lld groups divide",
                                  (long long)norm->groups);
    }
    if (status == ST_OK) {
        status = model_add_parameters(build, layer, 2, shape->size[0]);
    }
    return status == ST_OK ? gd_group_norm_new(norm->groups, shape->size[0], norm->epsilon, norm->affine, module_p)
                           : status;
}

static status_t instance_norm_build(model_build_t *build, const Gradd__V1__Layer *layer, wrk_shape_t *shape,
                                    gd_module_t **module_p)
{
    const Gradd__V1__Layer__InstanceNorm *norm = layer->instance_norm;
    status_t status = channels_check(build, layer, shape, 1, GD_MAX_DIMS, "channels [B, C, T], [B, C, H, W], …");
    if (status == ST_OK) {
        status = model_add_parameters(build, layer, 2, shape->size[0]);
    }
    if (status != ST_OK) {
        return status;
    }
    return norm->track
               ? gd_instance_norm_running_new(shape->size[0], norm->epsilon, norm->momentum, norm->affine, module_p)
               : gd_instance_norm_new(shape->size[0], norm->epsilon, norm->affine, module_p);
}

static status_t batch_norm_build(model_build_t *build, const Gradd__V1__Layer *layer, wrk_shape_t *shape,
                                 gd_module_t **module_p)
{
    const bool is_1d = layer->kind_case == GRADD__V1__LAYER__KIND_BATCH_NORM1D;
    const Gradd__V1__Layer__BatchNorm2d *norm = is_1d ? layer->batch_norm1d : layer->batch_norm3d;
    status_t status = is_1d ? channels_check(build, layer, shape, 0, 1, "features [B, C] or channels [B, C, T]")
                            : channels_check(build, layer, shape, 3, 3, "volumes [B, C, D, H, W]");
    if (status == ST_OK) {
        status = model_add_parameters(build, layer, 2, shape->size[0]);
    }
    return status == ST_OK
               ? gd_batch_norm_new(is_1d ? 1 : 3, shape->size[0], norm->epsilon, norm->momentum, norm->affine, module_p)
               : status;
}

static const struct {
    Gradd__V1__Layer__KindCase kind;
    model_build_func_t build;
} rows[] = {
    {GRADD__V1__LAYER__KIND_RMS_NORM, rms_norm_build},
    {GRADD__V1__LAYER__KIND_GROUP_NORM, group_norm_build},
    {GRADD__V1__LAYER__KIND_INSTANCE_NORM, instance_norm_build},
    {GRADD__V1__LAYER__KIND_BATCH_NORM1D, batch_norm_build},
    {GRADD__V1__LAYER__KIND_BATCH_NORM3D, batch_norm_build},
    {GRADD__V1__LAYER__KIND_CONV1D, model_conv_build},
    {GRADD__V1__LAYER__KIND_CONV3D, model_conv_build},
    {GRADD__V1__LAYER__KIND_CONV_TRANSPOSE1D, model_conv_transpose_build},
    {GRADD__V1__LAYER__KIND_CONV_TRANSPOSE2D, model_conv_transpose_build},
    {GRADD__V1__LAYER__KIND_CONV_TRANSPOSE3D, model_conv_transpose_build},
    {GRADD__V1__LAYER__KIND_MAX_POOL1D, model_pool_build},
    {GRADD__V1__LAYER__KIND_MAX_POOL3D, model_pool_build},
    {GRADD__V1__LAYER__KIND_AVG_POOL1D, model_pool_build},
    {GRADD__V1__LAYER__KIND_AVG_POOL3D, model_pool_build},
    {GRADD__V1__LAYER__KIND_ADAPTIVE_AVG_POOL, model_adaptive_pool_build},
    {GRADD__V1__LAYER__KIND_ADAPTIVE_MAX_POOL, model_adaptive_pool_build},
    {GRADD__V1__LAYER__KIND_GLOBAL_AVG_POOL, model_global_pool_build},
    {GRADD__V1__LAYER__KIND_GLOBAL_MAX_POOL, model_global_pool_build},
    {GRADD__V1__LAYER__KIND_PAD, model_pad_build},
    {GRADD__V1__LAYER__KIND_UPSAMPLE, model_upsample_build},
    {GRADD__V1__LAYER__KIND_PIXEL_SHUFFLE, model_pixel_shuffle_build},
    {GRADD__V1__LAYER__KIND_PIXEL_UNSHUFFLE, model_pixel_shuffle_build},
    {GRADD__V1__LAYER__KIND_CHANNEL_SHUFFLE, model_channel_shuffle_build},
    {GRADD__V1__LAYER__KIND_UNFOLD, model_unfold_build},
    {GRADD__V1__LAYER__KIND_FOLD, model_unfold_build},
    {GRADD__V1__LAYER__KIND_EMBEDDING_BAG, model_embedding_bag_build},
    {GRADD__V1__LAYER__KIND_BILINEAR, model_bilinear_build},
    {GRADD__V1__LAYER__KIND_COSINE_SIMILARITY, model_cosine_similarity_build},
    {GRADD__V1__LAYER__KIND_UNFLATTEN, model_unflatten_build},
    {GRADD__V1__LAYER__KIND_RELU6, model_activation_build},
    {GRADD__V1__LAYER__KIND_LEAKY_RELU, model_activation_build},
    {GRADD__V1__LAYER__KIND_ELU, model_activation_build},
    {GRADD__V1__LAYER__KIND_SELU, model_activation_build},
    {GRADD__V1__LAYER__KIND_CELU, model_activation_build},
    {GRADD__V1__LAYER__KIND_HARDTANH, model_activation_build},
    {GRADD__V1__LAYER__KIND_HARDSIGMOID, model_activation_build},
    {GRADD__V1__LAYER__KIND_HARDSWISH, model_activation_build},
    {GRADD__V1__LAYER__KIND_SOFTPLUS, model_activation_build},
    {GRADD__V1__LAYER__KIND_SOFTSIGN, model_activation_build},
    {GRADD__V1__LAYER__KIND_SOFTSHRINK, model_activation_build},
    {GRADD__V1__LAYER__KIND_HARDSHRINK, model_activation_build},
    {GRADD__V1__LAYER__KIND_TANHSHRINK, model_activation_build},
    {GRADD__V1__LAYER__KIND_LOG_SIGMOID, model_activation_build},
    {GRADD__V1__LAYER__KIND_MISH, model_activation_build},
    {GRADD__V1__LAYER__KIND_THRESHOLD, model_activation_build},
    {GRADD__V1__LAYER__KIND_PRELU, model_prelu_build},
    {GRADD__V1__LAYER__KIND_RRELU, model_rrelu_build},
    {GRADD__V1__LAYER__KIND_SOFTMAX2D, model_softmax2d_build},
    {GRADD__V1__LAYER__KIND_GLU, model_along_build},
    {GRADD__V1__LAYER__KIND_SOFTMAX, model_along_build},
    {GRADD__V1__LAYER__KIND_LOG_SOFTMAX, model_along_build},
    {GRADD__V1__LAYER__KIND_SOFTMIN, model_along_build},
    {GRADD__V1__LAYER__KIND_DROPOUT1D, model_dropout_build},
    {GRADD__V1__LAYER__KIND_DROPOUT2D, model_dropout_build},
    {GRADD__V1__LAYER__KIND_DROPOUT3D, model_dropout_build},
    {GRADD__V1__LAYER__KIND_ALPHA_DROPOUT, model_dropout_build},
    {GRADD__V1__LAYER__KIND_FEATURE_ALPHA_DROPOUT, model_dropout_build},
    {GRADD__V1__LAYER__KIND_DROP_PATH, model_dropout_build},
};

model_build_func_t model_image_find(Gradd__V1__Layer__KindCase kind)
{
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (rows[i].kind == kind) {
            return rows[i].build;
        }
    }
    return NULL;
}
