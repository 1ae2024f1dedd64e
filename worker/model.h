/* SPDX-License-Identifier: Apache-2.0 */
/* model: a job's layers as a module tree. */
#ifndef GRADD_WORKER_MODEL_H
#define GRADD_WORKER_MODEL_H

#include "gradd/nn.h"
#include "proto/spec.h"

/*
 * Builds the module of job->model->layers for one sample's input of this shape (without the batch axis: [1, 28, 28] for
 * images, [T] for tokens), working out each layer's input sizes on the way. Parameters are zero and paths unset:
 * gd_module_set_paths and gd_module_initialise come next. Errors name the layer, its file and line, and the shapes.
 */
status_t wrk_model_build(const spec_job_t *job, int n_dims, const int64_t *shape, gd_module_t **model_p);

/* What the model's first position_embedding counts: the context of text samples where the data names none; 0: none. */
int64_t wrk_model_context(const spec_job_t *job);

#endif
