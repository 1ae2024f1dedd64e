/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gemm: matrix products in f32. Shapes that are worth it go to the processor's matrix unit (amx.h); of the others, with
 * AVX-512, matrices without gaps to oneDNN (onednn.h); small ones and all else to vec/gemm.c. Which one is a function
 * of the shape, the strides and the instruction set alone.
 */
#ifndef GRADD_CPU_GEMM_H
#define GRADD_CPU_GEMM_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

/*
 * c[b,m,n] = sum_k a[b,m,k] b[b,k,n] + bias[n] (+ c where is_accumulating). Strides in elements; of a's and b's row
 * and column strides one must be 1 and the other at least the extent along it. c's columns are adjacent.
 */
typedef struct gd_gemm {
    int64_t n_batch;
    int64_t m;
    int64_t n;
    int64_t k;
    const float *a;
    const float *b;
    const float *bias; /* [n] or NULL */
    float *c;
    int64_t a_batch, a_row, a_col;
    int64_t b_batch, b_row, b_col;
    int64_t c_batch, c_row;
    bool is_accumulating;
    int n_threads;
} gd_gemm_t;

/* ST_ERR_NOMEM. */
status_t gd_gemm_run(const gd_gemm_t *gemm);

/*
 * c[m,n] = sum_k a[m,k] b[k,n] (+ c where is_accumulating), rows of a, b and c at distances a_row, b_row, c_row;
 * is_b_transposed: b[n,k]. n_threads is 1 within gd_cpu_parallel. ST_ERR_NOMEM.
 */
typedef struct gd_product {
    int64_t m, n, k;
    const float *a;
    const float *b;
    float *c;
    int64_t a_row, b_row, c_row;
    bool is_b_transposed;
    bool is_accumulating;
} gd_product_t;
status_t gd_gemm_product(const gd_product_t *product, int n_threads);

#endif
