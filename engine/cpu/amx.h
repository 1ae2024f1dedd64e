/* SPDX-License-Identifier: Apache-2.0 */
/*
 * amx: matrix products in f32 on the tile registers of Intel's AMX, which multiply bf16 only.
 *
 * Note [Three parts of a float]
 *   Each element is cut into three bf16 numbers, x = h + m + l: h is x without its lower half, m what is left rounded
 * to bf16, l the rest, which fits exactly. Of the nine products of two such sums six are added, hh hm mh mm hl lh. The
 * others have either sign and are at most 2^-22 of |x y|, 2^-25 in the mean: a product of floats loses half of 2^-24 by
 * rounding. The unit multiplies exactly and adds in f32.
 *   Sums are made of chunks of 128 products, and long ones of spans of such chunks (amx.c). Measured against float64
 * (tests/engine/test_gemm_amx.c, k up to 50257), root mean square errors are a fifth to a half of oneDNN's, for noise
 * 6e-8 of the result at k = 64 and 1.5e-7 at k = 50257 (1.5e-7 and 5.9e-7); where one term outweighs all others they
 * are up to 8e-8 of the terms' sum, oneDNN's half of that. What differs besides:
 *   - an infinite or NaN element makes all results NaN that it has a part in (a row or column of c), never others;
 *   - results, and partial sums, above FLT_MAX (1 - 2^-7) may become infinite;
 *   - the unit takes numbers below FLT_MIN for zero: parts of elements below 1e-33 may be lost, at most FLT_MIN times
 *     the other factor.
 */
#ifndef GRADD_CPU_AMX_H
#define GRADD_CPU_AMX_H

#include "cpu/gemm.h"

/*
 * As gd_gemm_run, for any shape. The result doesn't depend on n_threads: each element of c is summed in one order,
 * whichever thread does it. Only where gd_cpu_isa() is GD_CPU_ISA_AMX. ST_ERR_NOMEM.
 */
status_t gd_amx_gemm(const gd_gemm_t *gemm);

#endif
