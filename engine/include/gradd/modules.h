/* SPDX-License-Identifier: Apache-2.0 */
/*
 * modules: constructors of modules for images and general use, beside the basic ones of gradd/nn.h. Weights, names,
 * layouts and first values as in PyTorch's modules of the same name. *module_p: a new reference; ST_ERR_RANGE,
 * ST_ERR_INVAL, ST_ERR_SHAPE: a number or kind that is impossible or doesn't fit another. B batch, C channels.
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
/* With running statistics, which evaluation normalises by. */
status_t gd_instance_norm_running_new(int64_t channels, double epsilon, double momentum, bool is_affine,
                                      gd_module_t **module_p);
/* x[B,C] or x[B,C,…] with n_axes spatial axes (1: one or none), with running statistics: see gd_module_statistics_size.
 */
status_t gd_batch_norm_new(int n_axes, int64_t channels, double epsilon, double momentum, bool is_affine,
                           gd_module_t **module_p);

/* ---- activations, dropout (engine/nn/activations.c); pointwise activations are in gradd/nn.h ---- */
typedef enum gd_along {
    GD_ALONG_SOFTMAX,
    GD_ALONG_LOG_SOFTMAX,
    GD_ALONG_SOFTMIN,
    GD_ALONG_GLU,
    GD_ALONG_COUNT
} gd_along_t;
/* axis: of x with its batch; below 0 from the end. */
status_t gd_along_new(gd_along_t kind, int axis, gd_module_t **module_p);
/* a · f(b) of the halves a and b along the axis: GLU with another gate than the sigmoid (Shazeer, 2020). */
status_t gd_glu_gated_new(gd_gate_t gate, int axis, gd_module_t **module_p);
/* Slopes are drawn from [lower, upper) in training, and their mean in evaluation; ST_ERR_RANGE. */
status_t gd_rrelu_new(double lower, double upper, gd_module_t **module_p);
/* count 1: one slope; else one for each channel of x[B,C,…]. slope: the first value, in PyTorch 0.25. */
status_t gd_prelu_new(int64_t count, double slope, gd_module_t **module_p);
typedef enum gd_dropout_kind {
    GD_DROPOUT_ELEMENTS,
    GD_DROPOUT_CHANNELS, /* of x[B,C,…], as in PyTorch's Dropout1d, 2d, 3d */
    GD_DROPOUT_SAMPLES,  /* stochastic depth (Huang et al., ECCV 2016) */
    GD_DROPOUT_ALPHA,    /* for selu */
    GD_DROPOUT_ALPHA_CHANNELS,
    GD_DROPOUT_COUNT
} gd_dropout_kind_t;
/* p in [0, 1]: ST_ERR_RANGE. */
status_t gd_dropout_kind_new(gd_dropout_kind_t kind, double p, gd_module_t **module_p);

/* ---- windows (engine/nn/windows.c): n_axes spatial axes, 1 … 3; arrays have an element for each ---- */
/* mode: how the options' padding is filled (CONSTANT: zeros). keeps_size: PyTorch's padding="same", for stride 1; the
 * options' padding is ignored. ST_ERR_SHAPE where the groups don't divide the channels. */
status_t gd_conv_new(int n_axes, int64_t c_in, int64_t c_out, const int *kernel, const gd_conv_options_t *options,
                     gd_pad_mode_t mode, bool keeps_size, bool has_bias, gd_module_t **module_p);
/* The adjoint in x: [B,c_in,…] → [B,c_out,…] of the sizes that gd_conv_transpose says. */
status_t gd_conv_transpose_new(int n_axes, int64_t c_in, int64_t c_out, const int *kernel,
                               const gd_conv_options_t *options, bool has_bias, gd_module_t **module_p);
/* [B,C,…] → [B,C,…]: see gd_max_pool; adaptive: of the given size[n_axes]. */
status_t gd_pool_new(int n_axes, bool is_max, const gd_pool_options_t *options, gd_module_t **module_p);
status_t gd_adaptive_pool_new(int n_axes, bool is_max, const int *size, gd_module_t **module_p);
/* [B,C,…] → [B,C,1,…], of one to three axes. */
status_t gd_global_pool_new(bool is_max, gd_module_t **module_p);
/* Of the last n_axes axes; see gd_pad_with. */
status_t gd_pad_new(int n_axes, const int64_t *before, const int64_t *after, gd_pad_mode_t mode, double value,
                    gd_module_t **module_p);
/* To size, or by factors when they aren't NULL; see gd_upsample. */
status_t gd_upsample_new(int n_axes, gd_upsample_t mode, const int64_t *size, const double *factors,
                         bool aligns_corners, gd_module_t **module_p);

/* ---- rearrangements, bags, two parts of the input (engine/nn/arrange.c) ---- */
typedef enum gd_shuffle {
    GD_SHUFFLE_PIXELS,
    GD_SHUFFLE_PIXELS_BACK,
    GD_SHUFFLE_CHANNELS,
    GD_SHUFFLE_COUNT
} gd_shuffle_t;
/* n: the factor r of [B,C·r²,H,W] → [B,C,H·r,W·r] and back, or the groups of [B,C,…]. */
status_t gd_shuffle_new(gd_shuffle_t kind, int64_t n, gd_module_t **module_p);
/* [B,C,H,W] → [B,C·KH·KW,L] and back to images of size H, W: see gd_unfold. */
status_t gd_unfold_new(const gd_pool_options_t *options, gd_module_t **module_p);
status_t gd_fold_new(const gd_pool_options_t *options, const int64_t size[2], gd_module_t **module_p);
/* An embedding whose row `padding` is 0 at first and gets no gradient. */
status_t gd_embedding_padded_new(int64_t count, int64_t width, int64_t padding, gd_module_t **module_p);
/* ids[B,T] → [B,width]; ids equal to padding don't count (-1: none). */
status_t gd_embedding_bag_new(int64_t count, int64_t width, gd_bag_t mode, int64_t padding, gd_module_t **module_p);
/* x[B, n_left + n_right] → [B, n_out]: its first features and the rest, see gd_bilinear. */
status_t gd_bilinear_new(int64_t n_left, int64_t n_right, int64_t n_out, bool has_bias, gd_module_t **module_p);
/* Of x[B, 2, C] → [B, 1]. */
status_t gd_cosine_similarity_new(double epsilon, gd_module_t **module_p);

#endif
