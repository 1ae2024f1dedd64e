/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conv_gemm: convolutions as matrix products over images as they lie, [C, D·H·W], where that is faster than oneDNN's
 * kernels, whose blocked layout must be copied to and from; and where oneDNN's are products too, over the pixels under
 * each tap of the kernel, [C·KD·KH·KW, OD·OH·OW].
 */
#ifndef GRADD_CPU_CONV_GEMM_H
#define GRADD_CPU_CONV_GEMM_H

#include "cpu/onednn.h"

/* Whether the functions below are for this convolution. */
bool gd_conv_gemm_suits(const gd_conv_t *conv, gd_conv_kind_t kind, bool has_bias, int n_threads);

/* Arguments and errors as in onednn.h. bf16 is multiplied as f32, and results are rounded once. */
status_t gd_conv_gemm_forward(const gd_conv_t *conv, const void *x, const void *weight, const float *bias, void *y,
                              int n_threads);
status_t gd_conv_gemm_backward_input(const gd_conv_t *conv, const void *dy, const void *weight, void *dx,
                                     int n_threads);
status_t gd_conv_gemm_backward_weight(const gd_conv_t *conv, const void *dy, const void *x, void *dweight, float *dbias,
                                      int n_threads);

#endif
