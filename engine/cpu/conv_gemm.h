/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conv_gemm: convolutions in f32 as matrix products over images as they lie, [C, H·W], where that is faster than
 * oneDNN's kernels, whose blocked layout must be copied to and from.
 */
#ifndef GRADD_CPU_CONV_GEMM_H
#define GRADD_CPU_CONV_GEMM_H

#include "cpu/onednn.h"

/* Whether the functions below are for this convolution: a 1 × 1 kernel without padding and groups, any stride. */
bool gd_conv_gemm_suits(const gd_conv_t *conv);

/* Arguments and errors as in onednn.h. */
status_t gd_conv_gemm_forward(const gd_conv_t *conv, const float *x, const float *weight, const float *bias, float *y,
                              int n_threads);
status_t gd_conv_gemm_backward_input(const gd_conv_t *conv, const float *dy, const float *weight, float *dx,
                                     int n_threads);
/* Without a gradient of the bias. */
status_t gd_conv_gemm_backward_weight(const gd_conv_t *conv, const float *dy, const float *x, float *dweight,
                                      int n_threads);

#endif
