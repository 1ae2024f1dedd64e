/* SPDX-License-Identifier: Apache-2.0 */
/*
 * amx_conv: 2-d convolutions in f32 by the tiles of Intel's AMX, which multiply bf16 only: see amx.h, Note [Three parts
 * of a float], for what becomes of an element, its errors, and of numbers that aren't finite. As there, an output is
 * NaN where an infinite or NaN element of x lies under the kernel, and all outputs of a channel are where one of its
 * weights is.
 */
#ifndef GRADD_CPU_AMX_CONV_H
#define GRADD_CPU_AMX_CONV_H

#include "cpu/onednn.h"

/* What the functions below can do: f32, stride 1, no groups, and for the gradient of x no padding beyond the kernel. */
bool gd_amx_conv_can(const gd_conv_t *conv, gd_conv_kind_t kind);
/* And are expected to be faster at than oneDNN; a function of the shape and the instruction set. */
bool gd_amx_conv_suits(const gd_conv_t *conv, gd_conv_kind_t kind);

/*
 * Arguments as in onednn.h. Each element is summed in one order, whichever thread does it and whatever else is in the
 * batch. Only where gd_cpu_isa() is GD_CPU_ISA_AMX, and only what gd_amx_conv_can. ST_ERR_NOMEM.
 */
status_t gd_amx_conv_forward(const gd_conv_t *conv, const float *x, const float *weight, const float *bias, float *y,
                             int n_threads);
status_t gd_amx_conv_backward_input(const gd_conv_t *conv, const float *dy, const float *weight, float *dx,
                                    int n_threads);
/* dbias may be NULL. What isn't finite may reach the gradients of all of its channel's weights. */
status_t gd_amx_conv_backward_weight(const gd_conv_t *conv, const float *dy, const float *x, float *dweight,
                                     float *dbias, int n_threads);

#endif
