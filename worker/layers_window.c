/* SPDX-License-Identifier: Apache-2.0 */
/* layers_window: convolutions, pooling, padding and upsampling over one to three axes. */
#include "worker/layers_image.h"

enum { MOST_STEP = 1024, MOST_SIZE = 1 << 20 };

static const char *const wanted[4] = {"", "channels [B, C, T]", "images [B, C, H, W]", "volumes [B, C, D, H, W]"};

static status_t axes_check(const model_build_t *build, const Gradd__V1__Layer *layer, const wrk_shape_t *shape,
                           int n_axes)
{
    return shape->dtype == GD_DTYPE_F32 && shape->n_dims == n_axes + 1
               ? ST_OK
               : model_fail_input(build, layer, shape, "wants %s", wanted[n_axes]);
}

/* One number for all axes or one for each; none: the fallback. */
static status_t numbers_get(const Gradd__V1__Layer *layer, const char *field, size_t n, const int32_t *values,
                            int n_axes, int fallback, int low, int numbers_p[3])
{
    if (n > 1 && n != (size_t)n_axes) {
        return model_fail(ST_ERR_INVAL, layer, "%s has %zu numbers: one is possible, or %d", field, n, n_axes);
    }
    status_t status = ST_OK;
    for (int d = 0; d < n_axes && status == ST_OK; d++) {
        numbers_p[d] = n == 0 ? fallback : values[n > 1 ? d : 0];
        status = n == 0 ? ST_OK : model_range_check(layer, field, numbers_p[d], low, MOST_STEP);
    }
    return status;
}

/* A field with a number for each axis, or one for all. */
typedef struct window_field {
    const char *name;
    size_t n;
    const int32_t *values;
    int fallback, low;
    int *numbers; /* [n_axes] */
} window_field_t;

static status_t fields_get(const Gradd__V1__Layer *layer, const window_field_t *fields, int n, int n_axes)
{
    status_t status = ST_OK;
    for (int i = 0; i < n && status == ST_OK; i++) {
        const window_field_t *f = &fields[i];
        status = numbers_get(layer, f->name, f->n, f->values, n_axes, f->fallback, f->low, f->numbers);
    }
    return status;
}

/* Size along an axis after a window moves over it; below 1: it doesn't fit. */
static int64_t window_size(int64_t size, int kernel, int stride, int padding, int dilation, bool rounds_up)
{
    const int64_t room = size + 2 * (int64_t)padding - (int64_t)dilation * (kernel - 1) - 1;
    const int64_t rounded = room + (rounds_up ? stride - 1 : 0);
    if (rounded < 0) {
        return 0;
    }
    int64_t out = rounded / stride + 1;
    return rounds_up && (out - 1) * stride >= size + padding ? out - 1 : out;
}

static gd_pad_mode_t pad_mode_get(Gradd__V1__Layer__PadMode mode)
{
    switch (mode) {
    case GRADD__V1__LAYER__PAD_MODE__reflect:
        return GD_PAD_REFLECT;
    case GRADD__V1__LAYER__PAD_MODE__replicate:
        return GD_PAD_REPLICATE;
    case GRADD__V1__LAYER__PAD_MODE__circular:
        return GD_PAD_CIRCULAR;
    default:
        return GD_PAD_CONSTANT;
    }
}

/* A mode's limit on padding an axis; see gd_pad_with. */
static status_t padding_check(const model_build_t *build, const Gradd__V1__Layer *layer, const wrk_shape_t *shape,
                              int axis, gd_pad_mode_t mode, int64_t padding)
{
    const int64_t size = shape->size[1 + axis];
    const bool is_fit = mode == GD_PAD_REFLECT ? padding < size : mode == GD_PAD_CIRCULAR ? padding <= size : true;
    return is_fit ? ST_OK
                  : model_fail_input(build, layer, shape,
                                     "wants more than the %lld positions that are padded along axis %d",
                                     (long long)padding, axis + 2);
}

static status_t groups_check(const model_build_t *build, const Gradd__V1__Layer *layer, const wrk_shape_t *shape,
                             int64_t out, int groups)
{
    status_t status = model_range_check(layer, "out", out, 1, WRK_MODEL_MAX_WIDTH);
    if (status == ST_OK) {
        status = model_range_check(layer, "groups", groups, 1, WRK_MODEL_MAX_WIDTH);
    }
    if (status == ST_OK && shape->size[0] % groups != 0) {
        status = model_fail_input(build, layer, shape, "wants channels that its %d groups divide", groups);
    }
    if (status == ST_OK && out % groups != 0) {
        status =
            model_fail(ST_ERR_SHAPE, layer, "%d groups don't divide its %lld output channels", groups, (long long)out);
    }
    return status;
}

static status_t parameters_add(model_build_t *build, const Gradd__V1__Layer *layer, int n_axes, const int *kernel,
                               int64_t rows, int64_t columns)
{
    for (int d = 0; d < n_axes; d++) {
        columns *= kernel[d]; /* at most 2^20 · 2^30 */
    }
    return model_add_parameters(build, layer, rows, columns + 1);
}

/* ---- convolutions ---- */

typedef struct conv_sizes {
    int kernel[3];
    gd_conv_options_t options;
} conv_sizes_t;

MODEL_BUILD(conv)
{
    const bool is_1d = layer->kind_case == GRADD__V1__LAYER__KIND_CONV1D;
    const Gradd__V1__Layer__Conv *conv = is_1d ? layer->conv1d : layer->conv3d;
    const int n_axes = is_1d ? 1 : 3;
    conv_sizes_t s = {.options = {.groups = conv->groups}};
    status_t status = axes_check(build, layer, shape, n_axes);
    const window_field_t fields[] = {
        {"kernel", conv->n_kernel, conv->kernel, 0, 1, s.kernel},
        {"stride", conv->n_stride, conv->stride, 1, 1, s.options.stride},
        {"padding", conv->n_padding, conv->padding, 0, 0, s.options.padding},
        {"dilation", conv->n_dilation, conv->dilation, 1, 1, s.options.dilation},
    };
    if (status == ST_OK) {
        status = fields_get(layer, fields, 4, n_axes);
    }
    if (status == ST_OK) {
        status = groups_check(build, layer, shape, conv->out, conv->groups);
    }
    if (status == ST_OK) {
        status = parameters_add(build, layer, n_axes, s.kernel, conv->out, shape->size[0] / conv->groups);
    }
    return status == ST_OK ? model_conv_finish(build, layer, n_axes, s.kernel, &s.options, conv->out,
                                               conv->padding_mode, conv->same, conv->bias, conv->init, shape, module_p)
                           : status;
}

status_t model_conv_finish(model_build_t *build, const Gradd__V1__Layer *layer, int n_axes, const int *kernel,
                           const gd_conv_options_t *options, int64_t c_out, Gradd__V1__Layer__PadMode padding_mode,
                           bool keeps_size, bool has_bias, const Gradd__V1__Init *init, wrk_shape_t *shape,
                           gd_module_t **module_p)
{
    const gd_pad_mode_t mode = pad_mode_get(padding_mode);
    wrk_shape_t out = *shape;
    out.size[0] = c_out;
    status_t status = ST_OK;
    for (int d = 0; d < n_axes && status == ST_OK; d++) {
        if (keeps_size && (options->padding[d] != 0 || options->stride[d] != 1)) {
            return model_fail(ST_ERR_INVAL, layer, "same: it takes no padding, and a stride of 1 only");
        }
        const int64_t reach = (int64_t)options->dilation[d] * (kernel[d] - 1);
        status = padding_check(build, layer, shape, d, mode, keeps_size ? reach - reach / 2 : options->padding[d]);
        if (keeps_size || status != ST_OK) {
            continue;
        }
        out.size[1 + d] = window_size(shape->size[1 + d], kernel[d], options->stride[d], options->padding[d],
                                      options->dilation[d], false);
        if (out.size[1 + d] < 1) {
            return model_fail_input(build, layer, shape, "wants at least %lld positions along axis %d for its kernel",
                                    (long long)(reach + 1 - 2 * (int64_t)options->padding[d]), d + 2);
        }
    }
    if (status == ST_OK) {
        status = gd_conv_new(n_axes, shape->size[0], c_out, kernel, options, mode, keeps_size, has_bias, module_p);
        status = status == ST_OK ? model_init_apply(*module_p, "weight", init) : model_add_place(status, layer);
    }
    if (status == ST_OK) {
        *shape = out;
    }
    return status;
}

MODEL_BUILD(conv_transpose)
{
    const Gradd__V1__Layer__ConvTranspose *conv = layer->conv_transpose1d; /* all three have this message */
    const int n_axes = 1 + (int)(layer->kind_case - GRADD__V1__LAYER__KIND_CONV_TRANSPOSE1D);
    conv_sizes_t s = {.options = {.groups = conv->groups}};
    status_t status = axes_check(build, layer, shape, n_axes);
    const window_field_t fields[] = {
        {"kernel", conv->n_kernel, conv->kernel, 0, 1, s.kernel},
        {"stride", conv->n_stride, conv->stride, 1, 1, s.options.stride},
        {"padding", conv->n_padding, conv->padding, 0, 0, s.options.padding},
        {"output_padding", conv->n_output_padding, conv->output_padding, 0, 0, s.options.output_padding},
        {"dilation", conv->n_dilation, conv->dilation, 1, 1, s.options.dilation},
    };
    if (status == ST_OK) {
        status = fields_get(layer, fields, 5, n_axes);
    }
    if (status == ST_OK) {
        status = groups_check(build, layer, shape, conv->out, conv->groups);
    }
    if (status == ST_OK) {
        status = parameters_add(build, layer, n_axes, s.kernel, shape->size[0], conv->out / conv->groups);
    }
    wrk_shape_t out = *shape;
    for (int d = 0; d < n_axes && status == ST_OK; d++) {
        if (s.options.output_padding[d] >= s.options.stride[d] &&
            s.options.output_padding[d] >= s.options.dilation[d]) {
            return model_fail(ST_ERR_RANGE, layer, "output_padding %d isn't below the stride %d or the dilation %d",
                              s.options.output_padding[d], s.options.stride[d], s.options.dilation[d]);
        }
        out.size[1 + d] = (shape->size[1 + d] - 1) * s.options.stride[d] - 2 * (int64_t)s.options.padding[d] +
                          (int64_t)s.options.dilation[d] * (s.kernel[d] - 1) + 1 + s.options.output_padding[d];
        if (out.size[1 + d] < 1) {
            return model_fail_input(build, layer, shape, "wants less padding along axis %d: nothing is left", d + 2);
        }
    }
    if (status == ST_OK) {
        out.size[0] = conv->out;
        status = gd_conv_transpose_new(n_axes, shape->size[0], conv->out, s.kernel, &s.options, conv->bias, module_p);
    }
    if (status == ST_OK) {
        *shape = out;
        status = model_init_apply(*module_p, "weight", conv->init);
    }
    return status;
}

/* ---- pooling ---- */

status_t model_pool_finish(model_build_t *build, const Gradd__V1__Layer *layer, int n_axes, bool is_max,
                           const gd_pool_options_t *options, wrk_shape_t *shape, gd_module_t **module_p)
{
    wrk_shape_t out = *shape;
    for (int d = 0; d < n_axes; d++) {
        const int dilation = options->dilation[d];
        status_t status = model_range_check(layer, "padding", options->padding[d], 0, options->kernel[d] / 2);
        if (status == ST_OK && !is_max && dilation != 1) {
            status = model_fail(ST_ERR_INVAL, layer, "dilation is for maxima only");
        }
        if (status != ST_OK) {
            return status;
        }
        out.size[1 + d] = window_size(shape->size[1 + d], options->kernel[d], options->stride[d], options->padding[d],
                                      dilation, options->rounds_up);
        if (out.size[1 + d] < 1) {
            return model_fail_input(build, layer, shape, "wants at least %lld positions along axis %d for its window",
                                    (long long)dilation * (options->kernel[d] - 1) + 1 - 2 * options->padding[d] -
                                        (options->rounds_up ? options->stride[d] - 1 : 0),
                                    d + 2);
        }
    }
    *shape = out;
    return gd_pool_new(n_axes, is_max, options, module_p);
}

MODEL_BUILD(pool)
{
    const Gradd__V1__Layer__Pool *pool = layer->max_pool1d; /* all four have this message */
    const int n_axes =
        layer->kind_case == GRADD__V1__LAYER__KIND_MAX_POOL1D || layer->kind_case == GRADD__V1__LAYER__KIND_AVG_POOL1D
            ? 1
            : 3;
    const bool is_max =
        layer->kind_case == GRADD__V1__LAYER__KIND_MAX_POOL1D || layer->kind_case == GRADD__V1__LAYER__KIND_MAX_POOL3D;
    gd_pool_options_t o = {.rounds_up = pool->round_up, .excludes_padding = !pool->count_padding};
    status_t status = axes_check(build, layer, shape, n_axes);
    const window_field_t fields[] = {
        {"kernel", pool->n_kernel, pool->kernel, 0, 1, o.kernel},
        {"stride", pool->n_stride, pool->stride, 0, 1, o.stride},
        {"padding", pool->n_padding, pool->padding, 0, 0, o.padding},
        {"dilation", pool->n_dilation, pool->dilation, 1, 1, o.dilation},
    };
    if (status == ST_OK) {
        status = fields_get(layer, fields, 4, n_axes);
    }
    for (int d = 0; d < n_axes; d++) {
        o.stride[d] = o.stride[d] != 0 ? o.stride[d] : o.kernel[d];
    }
    return status == ST_OK ? model_pool_finish(build, layer, n_axes, is_max, &o, shape, module_p) : status;
}

MODEL_BUILD(adaptive_pool)
{
    const bool is_max = layer->kind_case == GRADD__V1__LAYER__KIND_ADAPTIVE_MAX_POOL;
    const Gradd__V1__Layer__AdaptivePool *pool = is_max ? layer->adaptive_max_pool : layer->adaptive_avg_pool;
    const int n_axes = shape->n_dims - 1;
    int size[3] = {0};
    if (shape->dtype != GD_DTYPE_F32 || n_axes < 1 || n_axes > 3) {
        return model_fail_input(build, layer, shape, "wants [B, C, …] with one to three spatial axes");
    }
    status_t status = numbers_get(layer, "out", pool->n_out, pool->out, n_axes, 0, 1, size);
    for (int d = 0; d < n_axes; d++) {
        shape->size[1 + d] = size[d];
    }
    return status == ST_OK ? gd_adaptive_pool_new(n_axes, is_max, size, module_p) : status;
}

MODEL_BUILD(global_pool)
{
    const int n_axes = shape->n_dims - 1;
    if (shape->dtype != GD_DTYPE_F32 || n_axes < 1 || n_axes > 3) {
        return model_fail_input(build, layer, shape, "wants [B, C, …] with one to three spatial axes");
    }
    for (int d = 0; d < n_axes; d++) {
        shape->size[1 + d] = 1;
    }
    return gd_global_pool_new(layer->kind_case == GRADD__V1__LAYER__KIND_GLOBAL_MAX_POOL, module_p);
}

/* ---- padding, upsampling ---- */

/* In PyTorch's order: pairs of [before, after] from the last axis on; one number for all sides of all axes. */
MODEL_BUILD(pad)
{
    const Gradd__V1__Layer__Pad *pad = layer->pad;
    const int n_spatial = shape->n_dims - 1;
    const int n_axes = pad->n_padding == 1 ? n_spatial : (int)pad->n_padding / 2;
    int64_t before[3] = {0}, after[3] = {0};
    if (shape->dtype != GD_DTYPE_F32 || n_spatial < 1 || n_spatial > 3) {
        return model_fail_input(build, layer, shape, "wants [B, C, …] with one to three spatial axes");
    }
    if (pad->n_padding != 1 && (pad->n_padding % 2 != 0 || n_axes > n_spatial || n_axes < 1)) {
        return model_fail(ST_ERR_INVAL, layer, "padding has %zu numbers: one, or two for each of at most %d axes",
                          pad->n_padding, n_spatial);
    }
    const gd_pad_mode_t mode = pad_mode_get(pad->mode);
    status_t status = ST_OK;
    wrk_shape_t out = *shape;
    for (int d = 0; d < n_axes && status == ST_OK; d++) {
        const int from_end = n_axes - 1 - d;
        const int axis = n_spatial - n_axes + d; /* spatial */
        before[d] = pad->padding[pad->n_padding == 1 ? 0 : 2 * from_end];
        after[d] = pad->padding[pad->n_padding == 1 ? 0 : 2 * from_end + 1];
        status = model_range_check(layer, "padding", before[d] < after[d] ? before[d] : after[d], 0, MOST_STEP);
        if (status == ST_OK) {
            status = padding_check(build, layer, shape, axis, mode, before[d] > after[d] ? before[d] : after[d]);
        }
        out.size[1 + axis] += before[d] + after[d];
    }
    if (status == ST_OK) {
        *shape = out;
        status = gd_pad_new(n_axes, before, after, mode, pad->value, module_p);
    }
    return status;
}

MODEL_BUILD(upsample)
{
    const Gradd__V1__Layer__Upsample *up = layer->upsample;
    const int n_axes = shape->n_dims - 1;
    int64_t size[3] = {0};
    double factors[3] = {0};
    if (shape->dtype != GD_DTYPE_F32 || n_axes < 1 || n_axes > 3) {
        return model_fail_input(build, layer, shape, "wants [B, C, …] with one to three spatial axes");
    }
    const size_t n = up->n_size + up->n_scale;
    if ((up->n_size > 0) == (up->n_scale > 0) || (n > 1 && n != (size_t)n_axes)) {
        return model_fail(ST_ERR_INVAL, layer, "takes size or scale, with one number or one for each of %d axes",
                          n_axes);
    }
    if (up->mode == GRADD__V1__LAYER__UPSAMPLE__MODE__cubic && n_axes != 2) {
        return model_fail_input(build, layer, shape, "cubic wants images [B, C, H, W]");
    }
    for (int d = 0; d < n_axes; d++) {
        const int at = n > 1 ? d : 0;
        factors[d] = up->n_scale > 0 ? up->scale[at] : 0;
        size[d] = up->n_size > 0 ? up->size[at] : (int64_t)((double)shape->size[1 + d] * factors[d]);
        status_t status = model_range_check(layer, "the size", size[d], 1, MOST_SIZE);
        if (status != ST_OK) {
            return status;
        }
        shape->size[1 + d] = size[d];
    }
    const gd_upsample_t mode = up->mode == GRADD__V1__LAYER__UPSAMPLE__MODE__linear  ? GD_UPSAMPLE_LINEAR
                               : up->mode == GRADD__V1__LAYER__UPSAMPLE__MODE__cubic ? GD_UPSAMPLE_CUBIC
                                                                                     : GD_UPSAMPLE_NEAREST;
    return gd_upsample_new(n_axes, mode, size, up->n_scale > 0 ? factors : NULL, up->align_corners, module_p);
}
