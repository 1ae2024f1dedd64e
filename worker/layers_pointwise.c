/* SPDX-License-Identifier: Apache-2.0 */
/* layers_pointwise: activations and dropouts. */
#include "worker/layers_image.h"

static status_t numbers_check(const model_build_t *build, const Gradd__V1__Layer *layer, const wrk_shape_t *shape)
{
    return shape->dtype == GD_DTYPE_F32 ? ST_OK : model_fail_input(build, layer, shape, "wants numbers [B, …]");
}

MODEL_BUILD(activation)
{
    status_t status = numbers_check(build, layer, shape);
    if (status != ST_OK) {
        return status;
    }
    switch (layer->kind_case) {
    case GRADD__V1__LAYER__KIND_RELU6:
        return gd_activation_new(GD_ACTIVATION_RELU6, module_p);
    case GRADD__V1__LAYER__KIND_LEAKY_RELU:
        return gd_activation_with_new(GD_ACTIVATION_LEAKY_RELU, layer->leaky_relu->slope, 0, module_p);
    case GRADD__V1__LAYER__KIND_ELU:
        return gd_activation_with_new(GD_ACTIVATION_ELU, layer->elu->alpha, 0, module_p);
    case GRADD__V1__LAYER__KIND_SELU:
        return gd_activation_new(GD_ACTIVATION_SELU, module_p);
    case GRADD__V1__LAYER__KIND_CELU:
        return gd_activation_with_new(GD_ACTIVATION_CELU, layer->celu->alpha, 0, module_p);
    case GRADD__V1__LAYER__KIND_HARDTANH:
        if (layer->hardtanh->low > layer->hardtanh->high) {
            return model_fail(ST_ERR_RANGE, layer, "low %g is above high %g", layer->hardtanh->low,
                              layer->hardtanh->high);
        }
        return gd_activation_with_new(GD_ACTIVATION_HARDTANH, layer->hardtanh->low, layer->hardtanh->high, module_p);
    case GRADD__V1__LAYER__KIND_HARDSIGMOID:
        return gd_activation_new(GD_ACTIVATION_HARDSIGMOID, module_p);
    case GRADD__V1__LAYER__KIND_HARDSWISH:
        return gd_activation_new(GD_ACTIVATION_HARDSWISH, module_p);
    case GRADD__V1__LAYER__KIND_SOFTPLUS:
        return gd_activation_with_new(GD_ACTIVATION_SOFTPLUS, layer->softplus->beta, layer->softplus->threshold,
                                      module_p);
    case GRADD__V1__LAYER__KIND_SOFTSIGN:
        return gd_activation_new(GD_ACTIVATION_SOFTSIGN, module_p);
    case GRADD__V1__LAYER__KIND_SOFTSHRINK:
        return gd_activation_with_new(GD_ACTIVATION_SOFTSHRINK, layer->softshrink->width, 0, module_p);
    case GRADD__V1__LAYER__KIND_HARDSHRINK:
        return gd_activation_with_new(GD_ACTIVATION_HARDSHRINK, layer->hardshrink->width, 0, module_p);
    case GRADD__V1__LAYER__KIND_TANHSHRINK:
        return gd_activation_new(GD_ACTIVATION_TANHSHRINK, module_p);
    case GRADD__V1__LAYER__KIND_LOG_SIGMOID:
        return gd_activation_new(GD_ACTIVATION_LOG_SIGMOID, module_p);
    case GRADD__V1__LAYER__KIND_MISH:
        return gd_activation_new(GD_ACTIVATION_MISH, module_p);
    default:
        return gd_activation_with_new(GD_ACTIVATION_THRESHOLD, layer->threshold->threshold, layer->threshold->value,
                                      module_p);
    }
}

MODEL_BUILD(prelu)
{
    status_t status = numbers_check(build, layer, shape);
    if (status == ST_OK && layer->prelu->per_channel && shape->n_dims < 1) {
        status = model_fail_input(build, layer, shape, "wants channels [B, C, …]");
    }
    const int64_t count = status == ST_OK && layer->prelu->per_channel ? shape->size[0] : 1;
    if (status == ST_OK) {
        status = model_add_parameters(build, layer, 1, count);
    }
    return status == ST_OK ? gd_prelu_new(count, layer->prelu->slope, module_p) : status;
}

MODEL_BUILD(along)
{
    static const gd_along_t kinds[] = {GD_ALONG_GLU, GD_ALONG_SOFTMAX, GD_ALONG_LOG_SOFTMAX, GD_ALONG_SOFTMIN};
    const gd_along_t kind = kinds[layer->kind_case - GRADD__V1__LAYER__KIND_GLU];
    const int32_t axis = layer->glu->axis; /* all four have this message */
    status_t status = numbers_check(build, layer, shape);
    const int at = axis < 0 ? shape->n_dims : axis;
    if (status == ST_OK && shape->n_dims == 0) {
        status = model_fail_input(build, layer, shape, "wants an axis besides the batch");
    }
    if (status == ST_OK && (at < 1 || at > shape->n_dims)) {
        status = at < 1 ? model_fail(ST_ERR_RANGE, layer, "axis %d is the batch", axis)
                        : model_fail_input(build, layer, shape, "wants an axis %d", at);
    }
    const bool is_gated = layer->glu->gate != GRADD__V1__LAYER__GATED_MLP__GATE__sigmoid;
    if (status == ST_OK && is_gated && kind != GD_ALONG_GLU) {
        return model_fail(ST_ERR_INVAL, layer, "gate is for glu");
    }
    if (status == ST_OK && kind == GD_ALONG_GLU) {
        if (shape->size[at - 1] % 2 != 0) {
            return model_fail_input(build, layer, shape, "wants two halves along axis %d", at);
        }
        shape->size[at - 1] /= 2;
    }
    if (status == ST_OK && is_gated) {
        return gd_glu_gated_new(model_gate(layer->glu->gate), at, module_p);
    }
    return status == ST_OK ? gd_along_new(kind, at, module_p) : status;
}

MODEL_BUILD(rrelu)
{
    status_t status = numbers_check(build, layer, shape);
    if (status == ST_OK) {
        status = gd_rrelu_new(layer->rrelu->lower, layer->rrelu->upper, module_p);
        status = status == ST_OK ? ST_OK : model_add_place(status, layer);
    }
    return status;
}

MODEL_BUILD(softmax2d)
{
    if (shape->dtype != GD_DTYPE_F32 || shape->n_dims != 3) {
        return model_fail_input(build, layer, shape, "wants images [B, C, H, W]");
    }
    return gd_along_new(GD_ALONG_SOFTMAX, 1, module_p);
}

MODEL_BUILD(dropout)
{
    status_t status = numbers_check(build, layer, shape);
    gd_dropout_kind_t kind = GD_DROPOUT_CHANNELS;
    int n_axes = 0; /* spatial, wanted */
    switch (layer->kind_case) {
    case GRADD__V1__LAYER__KIND_DROPOUT1D:
        n_axes = 1;
        break;
    case GRADD__V1__LAYER__KIND_DROPOUT2D:
        n_axes = 2;
        break;
    case GRADD__V1__LAYER__KIND_DROPOUT3D:
        n_axes = 3;
        break;
    case GRADD__V1__LAYER__KIND_ALPHA_DROPOUT:
        kind = GD_DROPOUT_ALPHA;
        break;
    case GRADD__V1__LAYER__KIND_FEATURE_ALPHA_DROPOUT:
        kind = GD_DROPOUT_ALPHA_CHANNELS;
        break;
    default:
        kind = GD_DROPOUT_SAMPLES;
        break;
    }
    if (status == ST_OK && n_axes > 0 && shape->n_dims != n_axes + 1) {
        static const char *const wanted[] = {"channels [B, C, T]", "images [B, C, H, W]", "volumes [B, C, D, H, W]"};
        status = model_fail_input(build, layer, shape, "wants %s", wanted[n_axes - 1]);
    }
    if (status == ST_OK && kind == GD_DROPOUT_ALPHA_CHANNELS && shape->n_dims < 1) {
        status = model_fail_input(build, layer, shape, "wants channels [B, C, …]");
    }
    if (status == ST_OK) {
        status = gd_dropout_kind_new(kind, layer->dropout1d->p, module_p); /* all have this message */
        status = status == ST_OK ? ST_OK : model_add_place(status, layer);
    }
    return status;
}
