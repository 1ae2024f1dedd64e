/* SPDX-License-Identifier: Apache-2.0 */
/* layers_arrange: rearrangements, bags of embeddings, and functions of two parts of the input. */
#include "worker/layers_image.h"

enum { MOST_FACTOR = 1024 };

static status_t images_check(const model_build_t *build, const Gradd__V1__Layer *layer, const wrk_shape_t *shape)
{
    return shape->dtype == GD_DTYPE_F32 && shape->n_dims == 3
               ? ST_OK
               : model_fail_input(build, layer, shape, "wants images [B, C, H, W]");
}

MODEL_BUILD(pixel_shuffle)
{
    const bool is_back = layer->kind_case == GRADD__V1__LAYER__KIND_PIXEL_UNSHUFFLE;
    const int64_t r = is_back ? layer->pixel_unshuffle->factor : layer->pixel_shuffle->factor;
    const long long area = (long long)r * r;
    status_t status = images_check(build, layer, shape);
    if (status == ST_OK) {
        status = model_range_check(layer, "factor", r, 1, MOST_FACTOR);
    }
    if (status == ST_OK && !is_back && shape->size[0] % area != 0) {
        status = model_fail_input(build, layer, shape, "wants a multiple of %lld channels", area);
    }
    if (status == ST_OK && is_back && (shape->size[1] % r != 0 || shape->size[2] % r != 0)) {
        status = model_fail_input(build, layer, shape, "wants a height and width that %lld divides", (long long)r);
    }
    if (status != ST_OK) {
        return status;
    }
    shape->size[0] = is_back ? shape->size[0] * r * r : shape->size[0] / (r * r);
    for (int d = 1; d < 3; d++) {
        shape->size[d] = is_back ? shape->size[d] / r : shape->size[d] * r;
    }
    return gd_shuffle_new(is_back ? GD_SHUFFLE_PIXELS_BACK : GD_SHUFFLE_PIXELS, r, module_p);
}

MODEL_BUILD(channel_shuffle)
{
    const int64_t groups = layer->channel_shuffle->groups;
    status_t status = model_range_check(layer, "groups", groups, 1, WRK_MODEL_MAX_WIDTH);
    if (status == ST_OK && (shape->dtype != GD_DTYPE_F32 || shape->n_dims < 1 || shape->size[0] % groups != 0)) {
        status = model_fail_input(build, layer, shape, "wants channels [B, C, …] that %lld groups divide",
                                  (long long)groups);
    }
    return status == ST_OK ? gd_shuffle_new(GD_SHUFFLE_CHANNELS, groups, module_p) : status;
}

/* [height, width] from no, one or two numbers. */
static status_t pair_get(const Gradd__V1__Layer *layer, const char *field, size_t n, const int32_t *values,
                         int fallback, int low, int pair_p[3])
{
    pair_p[0] = n > 0 ? values[0] : fallback;
    pair_p[1] = n > 1 ? values[1] : pair_p[0];
    status_t status = model_range_check(layer, field, pair_p[0], low, MOST_FACTOR);
    return status == ST_OK ? model_range_check(layer, field, pair_p[1], low, MOST_FACTOR) : status;
}

MODEL_BUILD(unfold)
{
    const bool is_fold = layer->kind_case == GRADD__V1__LAYER__KIND_FOLD;
    const Gradd__V1__Layer__Unfold *unfold = layer->unfold; /* both have this message */
    gd_pool_options_t o = {.rounds_up = false};
    int size[3] = {0};
    status_t status = pair_get(layer, "kernel", unfold->n_kernel, unfold->kernel, 0, 1, o.kernel);
    if (status == ST_OK) {
        status = pair_get(layer, "stride", unfold->n_stride, unfold->stride, 1, 1, o.stride);
    }
    if (status == ST_OK) {
        status = pair_get(layer, "padding", unfold->n_padding, unfold->padding, 0, 0, o.padding);
    }
    if (status == ST_OK) {
        status = pair_get(layer, "dilation", unfold->n_dilation, unfold->dilation, 1, 1, o.dilation);
    }
    if (status == ST_OK && is_fold) {
        status = pair_get(layer, "size", unfold->n_size, unfold->size, 0, 1, size);
    } else if (status == ST_OK) {
        status = images_check(build, layer, shape);
        for (int i = 0; i < 2 && status == ST_OK; i++) {
            size[i] = (int)shape->size[1 + i];
        }
    }
    int64_t n = 1;
    for (int i = 0; i < 2 && status == ST_OK; i++) {
        const int64_t room = size[i] + 2 * (int64_t)o.padding[i] - (int64_t)o.dilation[i] * (o.kernel[i] - 1) - 1;
        n *= room >= 0 ? room / o.stride[i] + 1 : 0;
    }
    const int64_t n_kernel = (int64_t)o.kernel[0] * o.kernel[1];
    if (status == ST_OK && n < 1) {
        status = model_fail_input(build, layer, shape, "wants images that its window fits into");
    }
    if (status == ST_OK && is_fold &&
        (shape->dtype != GD_DTYPE_F32 || shape->n_dims != 2 || shape->size[0] % n_kernel != 0 || shape->size[1] != n)) {
        status = model_fail_input(build, layer, shape, "wants columns [B, C · %lld, %lld]", (long long)n_kernel,
                                  (long long)n);
    }
    if (status != ST_OK) {
        return status;
    }
    if (is_fold) {
        *shape =
            (wrk_shape_t){.dtype = GD_DTYPE_F32, .n_dims = 3, .size = {shape->size[0] / n_kernel, size[0], size[1]}};
        return gd_fold_new(&o, shape->size + 1, module_p);
    }
    *shape = (wrk_shape_t){.dtype = GD_DTYPE_F32, .n_dims = 2, .size = {shape->size[0] * n_kernel, n}};
    return gd_unfold_new(&o, module_p);
}

MODEL_BUILD(embedding_bag)
{
    const Gradd__V1__Layer__EmbeddingBag *bag = layer->embedding_bag;
    const gd_bag_t mode = bag->mode == GRADD__V1__LAYER__EMBEDDING_BAG__MODE__sum   ? GD_BAG_SUM
                          : bag->mode == GRADD__V1__LAYER__EMBEDDING_BAG__MODE__max ? GD_BAG_MAX
                                                                                    : GD_BAG_MEAN;
    if (shape->dtype != GD_DTYPE_I64 || shape->n_dims != 1) {
        return model_fail_input(build, layer, shape, "wants tokens [B, T] i64");
    }
    status_t status = model_range_check(layer, "count", bag->count, 1, WRK_MODEL_MAX_COUNT);
    if (status == ST_OK) {
        status = model_range_check(layer, "width", bag->width, 1, WRK_MODEL_MAX_WIDTH);
    }
    if (status == ST_OK && bag->has_padding) {
        status = model_range_check(layer, "padding", bag->padding, 0, bag->count - 1);
    }
    if (status == ST_OK) {
        status = model_add_parameters(build, layer, bag->count, bag->width);
    }
    if (status == ST_OK) {
        status = gd_embedding_bag_new(bag->count, bag->width, mode, bag->has_padding ? bag->padding : -1, module_p);
    }
    if (status != ST_OK) {
        return status;
    }
    *shape = (wrk_shape_t){.dtype = GD_DTYPE_F32, .n_dims = 1, .size = {bag->width}};
    return model_init_apply(*module_p, "weight", bag->init);
}

MODEL_BUILD(bilinear)
{
    const Gradd__V1__Layer__Bilinear *bilinear = layer->bilinear;
    status_t status = model_range_check(layer, "out", bilinear->out, 1, WRK_MODEL_MAX_WIDTH);
    if (status == ST_OK) {
        status = model_range_check(layer, "left", bilinear->left, 1, WRK_MODEL_MAX_WIDTH);
    }
    if (status == ST_OK && (shape->dtype != GD_DTYPE_F32 || shape->n_dims != 1 || shape->size[0] <= bilinear->left)) {
        status = model_fail_input(build, layer, shape, "wants vectors [B, C] of more than its left %lld features",
                                  (long long)bilinear->left);
    }
    const int64_t right = status == ST_OK ? shape->size[0] - bilinear->left : 1;
    if (status == ST_OK) {
        status = model_add_parameters(build, layer, bilinear->out, bilinear->left * right + 1);
    }
    if (status != ST_OK) {
        return status;
    }
    shape->size[0] = bilinear->out;
    status = gd_bilinear_new(bilinear->left, right, bilinear->out, bilinear->bias, module_p);
    return status == ST_OK ? model_init_apply(*module_p, "weight", bilinear->init) : status;
}

MODEL_BUILD(cosine_similarity)
{
    if (shape->dtype != GD_DTYPE_F32 || shape->n_dims != 2 || shape->size[0] != 2) {
        return model_fail_input(build, layer, shape, "wants two vectors a sample, [B, 2, C]");
    }
    *shape = (wrk_shape_t){.dtype = GD_DTYPE_F32, .n_dims = 1, .size = {1}};
    return gd_cosine_similarity_new(layer->cosine_similarity->epsilon, module_p);
}

/* The axis becomes several; one of their sizes may be -1. */
MODEL_BUILD(unflatten)
{
    const Gradd__V1__Layer__Unflatten *unflatten = layer->unflatten;
    const int axis = unflatten->axis;
    wrk_shape_t out = {.dtype = shape->dtype, .n_dims = shape->n_dims - 1 + (int)unflatten->n_sizes};
    if (shape->dtype != GD_DTYPE_F32 || axis < 1 || axis > shape->n_dims) {
        return model_fail_input(build, layer, shape, "wants numbers with an axis %d", axis);
    }
    if (unflatten->n_sizes < 1 || out.n_dims >= GD_MAX_DIMS) {
        return model_fail(ST_ERR_RANGE, layer, "samples of %d dimensions", out.n_dims);
    }
    int64_t known = 1;
    int open = -1;
    for (int d = 0; d < out.n_dims; d++) {
        const int inner = d - (axis - 1);
        const bool is_new = inner >= 0 && inner < (int)unflatten->n_sizes;
        out.size[d] = is_new ? unflatten->sizes[inner] : shape->size[inner < 0 ? d : d - (int)unflatten->n_sizes + 1];
        if (is_new && out.size[d] < 0 && open < 0) {
            open = d;
        } else if (is_new && (out.size[d] < 1 || __builtin_mul_overflow(known, out.size[d], &known))) {
            return model_fail(ST_ERR_RANGE, layer, "size %lld among its sizes", (long long)out.size[d]);
        }
    }
    const int64_t size = shape->size[axis - 1];
    if (open >= 0 ? size % known != 0 : size != known) {
        return model_fail_input(build, layer, shape, "wants %s%lld positions along axis %d",
                                open >= 0 ? "a multiple of " : "", (long long)known, axis);
    }
    if (open >= 0) {
        out.size[open] = size / known;
    }
    *shape = out;
    return gd_reshape_samples_new(out.n_dims, out.size, module_p);
}
