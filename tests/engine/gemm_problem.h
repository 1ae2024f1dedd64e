/* SPDX-License-Identifier: Apache-2.0 */
/* gemm_problem: operands for tests of matrix products, and the errors of a result against float64. */
#ifndef GRADD_TESTS_GEMM_PROBLEM_H
#define GRADD_TESTS_GEMM_PROBLEM_H

#include "cpu/gemm.h"

/* Operands of a product and the memory they are in. */
typedef struct gemm_problem {
    gd_gemm_t gemm;
    float *a, *b, *c, *bias;
    int64_t n_c;
} gemm_problem_t;

enum {
    GEMM_A_TURNED = 1,
    GEMM_B_TURNED = 2,
    GEMM_BIAS = 4,
    GEMM_ADDING = 8,
    GEMM_GAPS = 16, /* between rows */
    GEMM_N_LAYOUTS = 32
};

/* Operands from -1 to 1; layout: a sum of the above. c is zeros. */
gemm_problem_t gemm_problem_new(int64_t n_batch, int64_t m, int64_t n, int64_t k, unsigned layout);
void gemm_problem_release(gemm_problem_t *problem);
void gemm_problem_fill(float *x, int64_t n, uint32_t layer);
/* Multiplies each line of the inner axis by its own power of two, up to 2^most, on one side and divides on the other.
 */
void gemm_problem_spread(gemm_problem_t *problem, int most);
/* Makes the second half of the inner axis undo the first but for the last bits. */
void gemm_problem_cancel(gemm_problem_t *problem);

/* Errors of c against float64, by the sum of the terms' magnitudes: what rounding is measured by. */
typedef struct gemm_error {
    double most, mean_square;
} gemm_error_t;
/* before: what c held; every: one of so many elements is looked at. */
gemm_error_t gemm_error_measure(const gd_gemm_t *gemm, const float *before, int64_t every);

#endif
