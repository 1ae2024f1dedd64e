/* SPDX-License-Identifier: Apache-2.0 */
/*
 * onednn: matrix products and convolutions in f32. onednn.c is the only file that calls oneDNN, whose C API changes
 * between versions 2 and 3. Primitives are cached per thread by shape, strides and thread count: after the first call
 * with a shape nothing is compiled, and we allocate nothing.
 * Source: oneDNN 2.6 developer guide.
 */
#ifndef GRADD_CPU_ONEDNN_H
#define GRADD_CPU_ONEDNN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "cpu/gemm.h"

/*
 * As gd_gemm_run. For matrices with gaps, and all below AVX-512, oneDNN has only code that packs them into memory from
 * the heap (see Note [oneDNN's blocks]): then *is_declined_p is true and nothing is done, unless is_declined_p is NULL.
 */
status_t gd_onednn_gemm(const gd_gemm_t *gemm, bool *is_declined_p);
/*
 * The same with bf16 behind a and b, and behind c where is_c_bf16; sums are f32, the bias too. Only where
 * gd_onednn_has_bf16: where the processor multiplies bf16 by itself, and GRADD_ISA doesn't say otherwise.
 */
status_t gd_onednn_gemm_bf16(const gd_gemm_t *gemm, bool is_c_bf16, bool *is_declined_p);
bool gd_onednn_has_bf16(void);
/* "amx", "avx512_bf16" or "none": what multiplies bf16, for gd_numerics_fingerprint. */
const char *gd_onednn_bf16_name(void);

/* Geometry of a 2-d convolution: x[B,C,H,W], weight[O,C/groups,KH,KW], y[B,O,OH,OW], all row-major. Of a 3-d one, with
 * axes D,H,W in memory, the depth is the third element; in[2] is 0 in 2-d ones. */
typedef struct gd_conv {
    int64_t batch;
    int64_t c_in;
    int64_t c_out;
    int64_t groups;
    int64_t in[3];
    int64_t out[3];
    int64_t kernel[3];
    int64_t stride[3];
    int64_t padding[3];
    int64_t dilation[3];
    int32_t dtype;         /* f32, or bf16 where gd_onednn_has_bf16: of x, y, weight and their gradients */
    int32_t dweight_dtype; /* of the weight's gradient: f32 beside bf16 too. The bias and its gradient are f32. */
} gd_conv_t;

typedef enum gd_conv_kind { GD_CONV_FORWARD, GD_CONV_INPUT, GD_CONV_WEIGHT } gd_conv_kind_t;
/*
 * Whether oneDNN has only its own matrix products for a convolution or a gradient of it, which pack into memory from
 * the heap: see Note [oneDNN's blocks].
 */
bool gd_onednn_conv_is_product(const gd_conv_t *conv, gd_conv_kind_t kind, bool has_bias, int n_threads);

/* bias[O] may be NULL. */
status_t gd_onednn_conv_forward(const gd_conv_t *conv, const void *x, const void *weight, const float *bias, void *y,
                                int n_threads);
status_t gd_onednn_conv_backward_input(const gd_conv_t *conv, const void *dy, const void *weight, void *dx,
                                       int n_threads);
/* dbias[O] may be NULL. */
status_t gd_onednn_conv_backward_weight(const gd_conv_t *conv, const void *dy, const void *x, void *dweight,
                                        float *dbias, int n_threads);

/* "2.6.3" */
const char *gd_onednn_version(void);

#endif
