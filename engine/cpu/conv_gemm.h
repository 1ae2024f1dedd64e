/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conv_gemm: 2-d convolutions in f32 as matrix products over images as they lie, [C, H·W], where that is faster than
 * oneDNN's kernels, whose blocked layout must be copied to and from; below AVX-512 also where oneDNN's are products
 * too, over the pixels under each tap of the kernel, [C·KH·KW, OH·OW].
 */
#ifndef GRADD_CPU_CONV_GEMM_H
#define GRADD_CPU_CONV_GEMM_H

#include "cpu/onednn.h"

/* Whether the functions below are for this convolution: above all for 1 × 1 kernels without padding and groups. */
bool gd_conv_gemm_suits(const gd_conv_t *conv, gd_conv_kind_t kind, bool has_bias, int n_threads);

/* Arguments and errors as in onednn.h. */
status_t gd_conv_gemm_forward(const gd_conv_t *conv, const float *x, const float *weight, const float *bias, float *y,
                              int n_threads);
status_t gd_conv_gemm_backward_input(const gd_conv_t *conv, const float *dy, const float *weight, float *dx,
                                     int n_threads);
status_t gd_conv_gemm_backward_weight(const gd_conv_t *conv, const float *dy, const float *x, float *dweight,
                                      float *dbias, int n_threads);

#endif
