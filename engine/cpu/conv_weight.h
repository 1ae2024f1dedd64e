/* SPDX-License-Identifier: Apache-2.0 */
/* conv_weight: the gradient of a convolution's weight in f32, faster than oneDNN's where it has no AVX-512. */
#ifndef GRADD_CPU_CONV_WEIGHT_H
#define GRADD_CPU_CONV_WEIGHT_H

#include "cpu/onednn.h"

/* Whether gd_conv_weight is for this convolution and instruction set: without groups, channels enough for vectors. */
bool gd_conv_weight_suits(const gd_conv_t *conv);

typedef struct gd_conv_weight {
    const gd_conv_t *conv;
    const float *dy;
    const float *x;
    float *dweight;
    float *dbias; /* or NULL */
    int n_threads;
} gd_conv_weight_t;

/* The result doesn't depend on n_threads. ST_ERR_NOMEM. */
status_t gd_conv_weight(const gd_conv_weight_t *args);

/* vec/conv_weight.c, of each instruction set that uses it. */
#ifdef __x86_64__
status_t gd_cpu_conv_weight_v2(const gd_conv_weight_t *args);
status_t gd_cpu_conv_weight_v3(const gd_conv_weight_t *args);
#else
status_t gd_cpu_conv_weight_base(const gd_conv_weight_t *args);
#endif

#endif
