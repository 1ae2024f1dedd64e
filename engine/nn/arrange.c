/* SPDX-License-Identifier: Apache-2.0 */
/* arrange: rearrangements, bags of embeddings, and functions of two parts of the input as modules. */
#include <math.h>
#include <string.h>

#include "gradd/modules.h"
#include "nn/fail.h"

/* ---- shuffles ---- */

typedef struct shuffle {
    gd_module_t base;
    int64_t n; /* factor or groups */
} shuffle_t;

static status_t pixel_shuffle_forward(gd_module_t *self, gd_tensor_t *x, gd_tensor_t **y_p)
{
    return gd_pixel_shuffle(x, (int)((const shuffle_t *)self)->n, y_p);
}

static status_t pixel_unshuffle_forward(gd_module_t *self, gd_tensor_t *x, gd_tensor_t **y_p)
{
    return gd_pixel_unshuffle(x, (int)((const shuffle_t *)self)->n, y_p);
}

static status_t channel_shuffle_forward(gd_module_t *self, gd_tensor_t *x, gd_tensor_t **y_p)
{
    return gd_channel_shuffle(x, ((const shuffle_t *)self)->n, y_p);
}

static void shuffle_describe(const gd_module_t *self, strbuf_t *text)
{
    strbuf_appendf(text, "%lld", (long long)((const shuffle_t *)self)->n);
}

static const gd_module_ops_t shuffle_ops[GD_SHUFFLE_COUNT] = {
    [GD_SHUFFLE_PIXELS] = {.kind = "pixel_shuffle", .forward = pixel_shuffle_forward, .describe = shuffle_describe},
    [GD_SHUFFLE_PIXELS_BACK] = {.kind = "pixel_unshuffle",
                                .forward = pixel_unshuffle_forward,
                                .describe = shuffle_describe},
    [GD_SHUFFLE_CHANNELS] = {.kind = "channel_shuffle",
                             .forward = channel_shuffle_forward,
                             .describe = shuffle_describe},
};

status_t gd_shuffle_new(gd_shuffle_t kind, int64_t n, gd_module_t **module_p)
{
    if ((unsigned)kind >= GD_SHUFFLE_COUNT || n < 1 || n > 1 << 20) {
        return ST_FAIL(ST_ERR_RANGE, "shuffle %d by %lld", (int)kind, (long long)n);
    }
    status_t status = gd_module_new(&shuffle_ops[kind], sizeof(shuffle_t), module_p);
    if (status == ST_OK) {
        ((shuffle_t *)*module_p)->n = n;
    }
    return status;
}

/* ---- windows as columns ---- */

typedef struct unfold {
    gd_module_t base;
    gd_pool_options_t options;
    int64_t size[2];
} unfold_t;

static status_t unfold_forward(gd_module_t *self, gd_tensor_t *x, gd_tensor_t **y_p)
{
    return gd_unfold(x, &((const unfold_t *)self)->options, y_p);
}

static status_t fold_forward(gd_module_t *self, gd_tensor_t *x, gd_tensor_t **y_p)
{
    const unfold_t *fold = (const unfold_t *)self;
    return gd_fold(x, &fold->options, fold->size, y_p);
}

static const gd_module_ops_t unfold_ops = {.kind = "unfold", .forward = unfold_forward};
static const gd_module_ops_t fold_ops = {.kind = "fold", .forward = fold_forward};

status_t gd_unfold_new(const gd_pool_options_t *options, gd_module_t **module_p)
{
    status_t status = gd_module_new(&unfold_ops, sizeof(unfold_t), module_p);
    if (status == ST_OK) {
        ((unfold_t *)*module_p)->options = *options;
    }
    return status;
}

status_t gd_fold_new(const gd_pool_options_t *options, const int64_t size[2], gd_module_t **module_p)
{
    status_t status = gd_module_new(&fold_ops, sizeof(unfold_t), module_p);
    if (status == ST_OK) {
        ((unfold_t *)*module_p)->options = *options;
        memcpy(((unfold_t *)*module_p)->size, size, 2 * sizeof(*size));
    }
    return status;
}

/* ---- embeddings with a padding ---- */

typedef struct padded {
    gd_module_t base;
    int64_t padding;
} padded_t;

static status_t padded_forward(gd_module_t *self, gd_tensor_t *ids, gd_tensor_t **y_p)
{
    return gd_embedding_padded(ids, self->parameters[0].tensor, ((const padded_t *)self)->padding, y_p);
}

static const gd_module_ops_t padded_ops = {.kind = "embedding", .forward = padded_forward};

status_t gd_embedding_padded_new(int64_t count, int64_t width, int64_t padding, gd_module_t **module_p)
{
    if (padding < 0 || padding >= count) {
        return ST_FAIL(ST_ERR_RANGE, "embedding: padding %lld of %lld rows", (long long)padding, (long long)count);
    }
    gd_module_t *module = NULL;
    status_t status = gd_module_new(&padded_ops, sizeof(padded_t), &module);
    if (status != ST_OK) {
        return status;
    }
    ((padded_t *)module)->padding = padding;
    const gd_init_t init = {.kind = GD_INIT_NORMAL, .a = 0, .b = 1, .zero_row = padding + 1};
    status = gd_module_add_parameter(module, "weight", 2, (const int64_t[2]){count, width}, init, NULL);
    if (status != ST_OK) {
        (void)gd_module_unref(module);
        return status;
    }
    *module_p = module;
    return ST_OK;
}

/* ---- embedding_bag ---- */

typedef struct bag {
    gd_module_t base;
    gd_bag_t mode;
    int64_t padding;
} bag_t;

static status_t bag_forward(gd_module_t *self, gd_tensor_t *ids, gd_tensor_t **y_p)
{
    const bag_t *bag = (const bag_t *)self;
    return gd_embedding_bag(ids, NULL, self->parameters[0].tensor, bag->mode, bag->padding, y_p);
}

static const gd_module_ops_t bag_ops = {.kind = "embedding_bag", .forward = bag_forward};

status_t gd_embedding_bag_new(int64_t count, int64_t width, gd_bag_t mode, int64_t padding, gd_module_t **module_p)
{
    if ((unsigned)mode >= GD_BAG_COUNT || padding >= count) {
        return ST_FAIL(ST_ERR_RANGE, "embedding_bag: mode %d, padding %lld of %lld rows", (int)mode, (long long)padding,
                       (long long)count);
    }
    gd_module_t *module = NULL;
    status_t status = gd_module_new(&bag_ops, sizeof(bag_t), &module);
    if (status != ST_OK) {
        return status;
    }
    ((bag_t *)module)->mode = mode;
    ((bag_t *)module)->padding = padding;
    const gd_init_t init = {.kind = GD_INIT_NORMAL, .a = 0, .b = 1, .zero_row = padding >= 0 ? padding + 1 : 0};
    status = gd_module_add_parameter(module, "weight", 2, (const int64_t[2]){count, width}, init, NULL);
    if (status != ST_OK) {
        (void)gd_module_unref(module);
        return status;
    }
    *module_p = module;
    return ST_OK;
}

/* ---- two parts of the input ---- */

typedef struct two {
    gd_module_t base;
    int64_t left;
    double epsilon;
} two_t;

/* x[B, left + right] */
static status_t bilinear_forward(gd_module_t *self, gd_tensor_t *x, gd_tensor_t **y_p)
{
    const int64_t left = ((const two_t *)self)->left;
    gd_tensor_t *a = NULL;
    gd_tensor_t *b = NULL;
    if (gd_tensor_n_dims(x) != 2 || gd_tensor_dim(x, 1) <= left) {
        return module_fail_shape(x, ", not [B, C] with more than %lld features", (long long)left);
    }
    status_t status = gd_slice(x, 1, 0, left, 1, &a);
    if (status == ST_OK) {
        status = gd_slice(x, 1, left, gd_tensor_dim(x, 1), 1, &b);
    }
    if (status == ST_OK) {
        status = gd_bilinear(a, b, self->parameters[0].tensor,
                             self->n_parameters > 1 ? self->parameters[1].tensor : NULL, y_p);
    }
    (void)gd_tensor_unref(a);
    (void)gd_tensor_unref(b);
    return status;
}

static const gd_module_ops_t bilinear_ops = {.kind = "bilinear", .forward = bilinear_forward};

status_t gd_bilinear_new(int64_t n_left, int64_t n_right, int64_t n_out, bool has_bias, gd_module_t **module_p)
{
    if (n_left < 1 || n_right < 1 || n_out < 1) {
        return ST_FAIL(ST_ERR_RANGE, "bilinear: %lld and %lld features to %lld", (long long)n_left, (long long)n_right,
                       (long long)n_out);
    }
    gd_module_t *module = NULL;
    status_t status = gd_module_new(&bilinear_ops, sizeof(two_t), &module);
    if (status != ST_OK) {
        return status;
    }
    ((two_t *)module)->left = n_left;
    const double bound = 1 / sqrt((double)n_left);
    const gd_init_t init = {.kind = GD_INIT_UNIFORM, .a = -bound, .b = bound};
    status = gd_module_add_parameter(module, "weight", 3, (const int64_t[3]){n_out, n_left, n_right}, init, NULL);
    if (status == ST_OK && has_bias) {
        status = gd_module_add_parameter(module, "bias", 1, &n_out, init, NULL);
    }
    if (status != ST_OK) {
        (void)gd_module_unref(module);
        return status;
    }
    *module_p = module;
    return ST_OK;
}

/* x[B, 2, C] → [B, 1] */
static status_t cosine_forward(gd_module_t *self, gd_tensor_t *x, gd_tensor_t **y_p)
{
    gd_tensor_t *part[3] = {NULL};
    if (gd_tensor_n_dims(x) != 3 || gd_tensor_dim(x, 1) != 2) {
        return module_fail_shape(x, ", not two vectors a sample, [B, 2, C]");
    }
    status_t status = gd_slice(x, 1, 0, 1, 1, &part[0]);
    if (status == ST_OK) {
        status = gd_slice(x, 1, 1, 2, 1, &part[1]);
    }
    if (status == ST_OK) {
        status = gd_cosine_similarity(part[0], part[1], 2, ((const two_t *)self)->epsilon, y_p);
    }
    for (int i = 0; i < 3; i++) {
        (void)gd_tensor_unref(part[i]);
    }
    return status;
}

static const gd_module_ops_t cosine_ops = {.kind = "cosine_similarity", .forward = cosine_forward};

status_t gd_cosine_similarity_new(double epsilon, gd_module_t **module_p)
{
    status_t status = gd_module_new(&cosine_ops, sizeof(two_t), module_p);
    if (status == ST_OK) {
        ((two_t *)*module_p)->epsilon = epsilon;
    }
    return status;
}
