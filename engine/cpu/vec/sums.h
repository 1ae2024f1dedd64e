/* SPDX-License-Identifier: Apache-2.0 */
/* sums: what the kernels of losses add up: sums of blocks in f64, then over the blocks in order; numbers in views. */
#ifndef GRADD_CPU_VEC_SUMS_H
#define GRADD_CPU_VEC_SUMS_H

#include "cpu/cpu.h"

/* One sum of what each block leaves, or two of them. */
typedef struct sums {
    double *of_block[2]; /* [block] */
    double total[2];
} sums_t;

/* Runs body over [0, n) in blocks of `grain` elements. sums is a member of arg, where body leaves n_sums numbers at
 * each block's place; total is set when it has run. ST_ERR_NOMEM, naming the op. */
static inline status_t sums_run(const char *op, int n_threads, int64_t n, int64_t grain, gd_cpu_body_func_t body,
                                void *arg, int n_sums, sums_t *sums)
{
    const int64_t n_blocks = gd_cpu_n_blocks(n, grain);
    double *of_block = gd_cpu_scratch(GD_CPU_SLOT_KERNEL, (size_t)(n_blocks * n_sums) * sizeof(double));
    if (of_block == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "%s: %lld partial sums", op, (long long)n_blocks);
    }
    for (int k = 0; k < n_sums; k++) {
        sums->of_block[k] = of_block + k * n_blocks;
    }
    gd_cpu_parallel(n_threads, n, grain, body, arg);
    for (int k = 0; k < n_sums; k++) {
        sums->total[k] = 0.0;
        for (int64_t i = 0; i < n_blocks; i++) {
            sums->total[k] += sums->of_block[k][i];
        }
    }
    return ST_OK;
}

/* Element i of a contiguous view, f32 or f64; a loss's own is number 0. */
static inline void number_put(const gd_view_t *out, int64_t i, double value)
{
    if (out->dtype == GD_DTYPE_F32) {
        ((float *)out->data)[i] = (float)value;
    } else {
        ((double *)out->data)[i] = value;
    }
}

static inline double number_get(const gd_view_t *in, int64_t i)
{
    return in->dtype == GD_DTYPE_F32 ? (double)((const float *)in->data)[i] : ((const double *)in->data)[i];
}

#endif
