/* SPDX-License-Identifier: Apache-2.0 */
/* gemm: chooses the code for a matrix product. */
#include "cpu/gemm.h"

#include "cpu/amx.h"
#include "cpu/cpu.h"
#include "cpu/onednn.h"

static double round_up(int64_t n, int64_t step)
{
    return (double)(gd_cpu_n_blocks(n, step) * step);
}

/*
 * Whether AMX is expected to be faster by a tenth: both sides' times as measured on a Sapphire Rapids core, in ns.
 * From the shape alone, so that a product is computed in the same way whatever else is going on.
 */
static bool amx_suits(const gd_gemm_t *g)
{
    const double ns_per_call = 2000, ns_per_packed = 0.3;
    const double amx_gflops = 380, onednn_gflops = 155;
    if (gd_cpu_isa() != GD_CPU_ISA_AMX) {
        return false;
    }
    const double m = round_up(g->m, 32), n = round_up(g->n, 32), k = round_up(g->k, 32);
    const double amx_ns = ns_per_call + (m + n) * k * ns_per_packed + 2 * m * n * k / amx_gflops;
    return 1.1 * amx_ns < 2 * (double)g->m * (double)g->n * (double)g->k / onednn_gflops;
}

status_t gd_gemm_run(const gd_gemm_t *gemm)
{
    if (amx_suits(gemm)) {
        return gd_amx_gemm(gemm);
    }
    return gd_onednn_gemm(gemm);
}

status_t gd_gemm_product(const gd_product_t *p, int n_threads)
{
    const gd_gemm_t gemm = {
        .n_batch = 1,
        .m = p->m,
        .n = p->n,
        .k = p->k,
        .a = p->a,
        .b = p->b,
        .c = p->c,
        .a_row = p->a_row,
        .a_col = 1,
        .b_row = p->is_b_transposed ? 1 : p->b_row,
        .b_col = p->is_b_transposed ? p->b_row : 1,
        .c_row = p->c_row,
        .is_accumulating = p->is_accumulating,
        .n_threads = n_threads,
    };
    return gd_gemm_run(&gemm);
}
