/* SPDX-License-Identifier: Apache-2.0 */
/*
 * model: a job's layers as a module tree. Sizes of inputs are worked out from layer to layer, so that a model that
 * can't run is refused here, with both layers and both shapes in the message:
 *   gpt.yaml:12: conv2d "c2": wants images [B, C, H, W], but flatten at gpt.yaml:11 gives [B, 784]
 *
 * Children are named by their layer's `name`, else by their place (as in torch.nn.Sequential). `repeat` is a sequential
 * of sequentials "0" … "times - 1", so a layer in it is "h.3.ln". Parameters keep PyTorch's names below that.
 */
#ifndef GRADD_WORKER_MODEL_H
#define GRADD_WORKER_MODEL_H

#include "gradd/nn.h"
#include "proto/spec.h"

/* Limits on a model, counted after `repeat` is expanded. */
enum { WRK_MODEL_MAX_LAYERS = 10000, WRK_MODEL_MAX_WIDTH = 1 << 20, WRK_MODEL_MAX_COUNT = 1 << 24 };
#define WRK_MODEL_MAX_PARAMETERS (INT64_C(1) << 33)

/* Shape of a sample, without the batch axis: [C, H, W] f32 for images, [C] f32 for rows of a table, [T] i64
 * for tokens. */
typedef struct wrk_shape {
    gd_dtype_t dtype;
    int n_dims;
    int64_t size[GD_MAX_DIMS];
} wrk_shape_t;

/*
 * Builds the module of model->layers (`${…}` already replaced) for this input. *root_p: a new reference; parameters are
 * zero and paths unset: gd_module_set_paths and gd_module_initialise come next. *output_p (may be NULL): what the last
 * layer gives. ST_ERR_SHAPE, ST_ERR_RANGE, ST_ERR_NOT_FOUND (`tied`), ST_ERR_EXISTS (a name) name the layer, its file
 * and line.
 */
status_t wrk_model_build_layers(const Gradd__V1__Model *model, const wrk_shape_t *input, gd_module_t **root_p,
                                wrk_shape_t *output_p);

/* The same for a job and a dataset's input. */
status_t wrk_model_build(const spec_job_t *job, gd_dtype_t dtype, int n_dims, const int64_t *shape,
                         gd_module_t **model_p);

/* Sets parameters and buffers from the file of model.weights: see gd_module_load, also for report. */
status_t wrk_model_load_weights(const Gradd__V1__Weights *weights, gd_module_t *model, strbuf_t *report);

/* What the model's first position_embedding counts: the context of text samples where the data names none; 0: none. */
int64_t wrk_model_context(const spec_job_t *job);

#endif
