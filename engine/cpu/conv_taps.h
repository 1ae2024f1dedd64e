/* SPDX-License-Identifier: Apache-2.0 */
/* conv_taps: the pixels that each tap of a convolution's kernel meets, as rows of a matrix. Private to engine/cpu. */
#ifndef GRADD_CPU_CONV_TAPS_H
#define GRADD_CPU_CONV_TAPS_H

#include "cpu/onednn.h"

/* Some channels of an image, and y's rows [row, row_end) of the OD·OH there are, with OW pixels each. */
typedef struct gd_conv_taps {
    const gd_conv_t *conv;
    int64_t channels;
    int64_t row, row_end;
    float *image;  /* [channels, D·H·W] */
    float *pixels; /* [channels·KD·KH·KW, (row_end - row)·OW] */
    int n_threads;
} gd_conv_taps_t;

/* vec/conv_taps.c, of each instruction set: pixels from image, padding as zeros; image += pixels, tap after tap. */
typedef void (*gd_conv_taps_func_t)(const gd_conv_taps_t *taps);
#ifdef __x86_64__
void gd_cpu_conv_taps_gather_v2(const gd_conv_taps_t *taps);
void gd_cpu_conv_taps_gather_v3(const gd_conv_taps_t *taps);
void gd_cpu_conv_taps_gather_v4(const gd_conv_taps_t *taps);
void gd_cpu_conv_taps_scatter_v2(const gd_conv_taps_t *taps);
void gd_cpu_conv_taps_scatter_v3(const gd_conv_taps_t *taps);
void gd_cpu_conv_taps_scatter_v4(const gd_conv_taps_t *taps);
#else
void gd_cpu_conv_taps_gather_base(const gd_conv_taps_t *taps);
void gd_cpu_conv_taps_scatter_base(const gd_conv_taps_t *taps);
#endif

#endif
