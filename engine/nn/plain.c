/* SPDX-License-Identifier: Apache-2.0 */
/* plain: modules without parameters: pooling, flatten, containers. */
#include "gradd/nn.h"
#include "nn/fail.h"

static status_t plain_new(const gd_module_ops_t *ops, gd_module_t **module_p)
{
    return gd_module_new(ops, sizeof(gd_module_t), module_p);
}

/* ---- pooling ---- */

typedef struct pool2d {
    gd_module_t base;
    gd_pool2d_options_t options;
} pool2d_t;

static status_t max_pool2d_forward(gd_module_t *self, gd_tensor_t *x, gd_tensor_t **y_p)
{
    return gd_max_pool2d(x, &((pool2d_t *)self)->options, y_p);
}

static status_t avg_pool2d_forward(gd_module_t *self, gd_tensor_t *x, gd_tensor_t **y_p)
{
    return gd_avg_pool2d(x, &((pool2d_t *)self)->options, y_p);
}

static void pool2d_describe(const gd_module_t *self, strbuf_t *text)
{
    const gd_pool2d_options_t *options = &((const pool2d_t *)self)->options;
    strbuf_appendf(text, "kernel %dx%d, stride %dx%d, padding %dx%d", options->kernel[0], options->kernel[1],
                   options->stride[0], options->stride[1], options->padding[0], options->padding[1]);
}

static const gd_module_ops_t max_pool2d_ops = {
    .kind = "max_pool2d", .forward = max_pool2d_forward, .describe = pool2d_describe};
static const gd_module_ops_t avg_pool2d_ops = {
    .kind = "avg_pool2d", .forward = avg_pool2d_forward, .describe = pool2d_describe};

static status_t pool2d_new(const gd_module_ops_t *ops, const gd_pool2d_options_t *options, gd_module_t **module_p)
{
    gd_module_t *module = NULL;
    status_t status = gd_module_new(ops, sizeof(pool2d_t), &module);
    if (status != ST_OK) {
        return status;
    }
    pool2d_t *pool = (pool2d_t *)module;
    pool->options = *options;
    for (int i = 0; i < 2; i++) {
        if (pool->options.stride[i] == 0) {
            pool->options.stride[i] = options->kernel[i];
        }
    }
    *module_p = module;
    return ST_OK;
}

status_t gd_max_pool2d_new(const gd_pool2d_options_t *options, gd_module_t **module_p)
{
    return pool2d_new(&max_pool2d_ops, options, module_p);
}

status_t gd_avg_pool2d_new(const gd_pool2d_options_t *options, gd_module_t **module_p)
{
    return pool2d_new(&avg_pool2d_ops, options, module_p);
}

/* x[B,C,H,W] → y[B,C,1,1] */
static status_t global_avg_pool2d_forward(gd_module_t *self, gd_tensor_t *x, gd_tensor_t **y_p)
{
    (void)self;
    if (gd_tensor_n_dims(x) != 4) {
        return module_fail_shape(x, ", not images [B, C, H, W]");
    }
    return gd_mean(x, 2, (int[]){2, 3}, true, y_p);
}

static const gd_module_ops_t global_avg_pool2d_ops = {.kind = "global_avg_pool2d",
                                                      .forward = global_avg_pool2d_forward};

status_t gd_global_avg_pool2d_new(gd_module_t **module_p)
{
    return plain_new(&global_avg_pool2d_ops, module_p);
}

/* ---- flatten ---- */

static status_t flatten_forward(gd_module_t *self, gd_tensor_t *x, gd_tensor_t **y_p)
{
    (void)self;
    if (gd_tensor_n_dims(x) < 1) {
        return module_fail_shape(x, ", without a batch axis to keep");
    }
    int64_t rest = 1;
    for (int d = 1; d < gd_tensor_n_dims(x); d++) {
        rest *= gd_tensor_dim(x, d);
    }
    return gd_reshape(x, 2, (int64_t[]){gd_tensor_dim(x, 0), rest}, y_p);
}

static const gd_module_ops_t flatten_ops = {.kind = "flatten", .forward = flatten_forward};

status_t gd_flatten_new(gd_module_t **module_p)
{
    return plain_new(&flatten_ops, module_p);
}

/* ---- containers ---- */

static status_t sequential_forward(gd_module_t *self, gd_tensor_t *x, gd_tensor_t **y_p)
{
    gd_tensor_t *y = gd_tensor_ref(x);
    for (int i = 0; i < self->n_children; i++) {
        gd_tensor_t *next = NULL;
        status_t status = gd_module_forward_last(self->children[i], y, &next);
        (void)gd_tensor_unref(y);
        if (status != ST_OK) {
            return status;
        }
        y = next;
    }
    *y_p = y;
    return ST_OK;
}

static const gd_module_ops_t sequential_ops = {.kind = "sequential", .forward = sequential_forward};

status_t gd_sequential_new(gd_module_t **module_p)
{
    return plain_new(&sequential_ops, module_p);
}
