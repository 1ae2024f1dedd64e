/* SPDX-License-Identifier: Apache-2.0 */
/* gemm: matrix products in f32. What gemm.c and gemm_few.c share. */
#ifndef GRADD_CPU_VEC_GEMM_H
#define GRADD_CPU_VEC_GEMM_H

#include "cpu/cpu.h"
#include "cpu/gemm_parts.h"

enum {
    GEMM_MOST_BLOCK_K = 256,
    GEMM_ROWS_MOST = 8, /* rows of a for gemm_rows */
};

/* Terms added up before their sum is added to others', see Note [Order of sums]: k in equal parts, at most `most`. */
static inline int64_t gemm_block_k(int64_t k, int64_t most)
{
    return k > 0 ? gd_cpu_n_blocks(k, gd_cpu_n_blocks(k, most)) : 1;
}

/*
 * Products of few rows or columns, see Note [Few rows]: both operands have k adjacent; at most GEMM_ROWS_MOST rows, and
 * b's rows are adjacent elements. k is at least 1.
 */
void CPU_FN(gemm_dots)(const gd_gemm_t *gemm);
void CPU_FN(gemm_rows)(const gd_gemm_t *gemm);

#endif
