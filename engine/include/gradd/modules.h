/* SPDX-License-Identifier: Apache-2.0 */
/*
 * modules: constructors of modules for images and general use, beside the basic ones of gradd/nn.h. Weights, names,
 * layouts and first values as in PyTorch's modules of the same name.
 */
#ifndef GRADD_MODULES_H
#define GRADD_MODULES_H

#include "gradd/nn.h"

/* ---- norms (engine/nn/norms.c); epsilon above 0 (ST_ERR_RANGE) ---- */
/* Rows x[…,width] divided by their root mean square. */
status_t gd_rms_norm_new(int64_t width, double epsilon, bool has_weight, gd_module_t **module_p);
/* Over the last n_axes axes, which have this shape. */
status_t gd_layer_norm_axes_new(int n_axes, const int64_t *shape, double epsilon, bool has_bias,
                                gd_module_t **module_p);
/* x[B,C,…]; ST_ERR_SHAPE where n_groups doesn't divide the channels. */
status_t gd_group_norm_new(int64_t n_groups, int64_t channels, double epsilon, bool is_affine, gd_module_t **module_p);
/* x[B,C,…], by each channel's own mean and variance, in evaluation too. */
status_t gd_instance_norm_new(int64_t channels, double epsilon, bool is_affine, gd_module_t **module_p);
/* x[B,C] or x[B,C,…] with n_axes spatial axes (1: one or none), with running statistics: see gd_module_statistics_size.
 */
status_t gd_batch_norm_new(int n_axes, int64_t channels, double epsilon, double momentum, gd_module_t **module_p);

#endif
