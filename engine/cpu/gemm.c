/* SPDX-License-Identifier: Apache-2.0 */
/* gemm: chooses the code for a matrix product. */
#include "cpu/gemm.h"

#include "cpu/amx.h"
#include "cpu/cpu.h"
#include "cpu/gemm_parts.h"
#include "cpu/onednn.h"

static double round_up(int64_t n, int64_t step)
{
    return (double)(gd_cpu_n_blocks(n, step) * step);
}

/*
 * Whether AMX is expected to be faster: both sides' times on a Sapphire Rapids core, in ns, fitted to 76 products of 32
 * to 12544 (within a fifth for most; where they are closer than that, either will do). From the shape alone, so that a
 * product is computed in the same way whatever else is going on.
 */
static bool amx_suits(const gd_gemm_t *g)
{
    if (gd_cpu_isa() != GD_CPU_ISA_AMX) {
        return false;
    }
    const double amx_call = 300, amx_per_packed = 0.13, amx_per_result = 0.05, amx_gflops = 430;
    const double onednn_call = 350, onednn_gflops = 175;
    const double m = round_up(g->m, 32), n = round_up(g->n, 32), k = round_up(g->k, 32);
    const double amx_ns = amx_call + (m + n) * k * amx_per_packed + m * n * amx_per_result + 2 * m * n * k / amx_gflops;
    const double onednn_ns = onednn_call + 2 * (double)g->m * (double)g->n * (double)g->k / onednn_gflops;
    return 1.05 * amx_ns < onednn_ns;
}

/* Whether a product is so small that what counts is how long a call of oneDNN takes, or is a few sums along lines. */
static bool is_small(const gd_gemm_t *g)
{
    const int64_t most = 1 << 14, most_sums = 144;
    const bool is_along_lines = g->a_col == 1 && g->b_row == 1;
    return g->m * g->n <= most && (g->m * g->n * g->k <= most || (is_along_lines && g->m * g->n <= most_sums));
}

static gd_gemm_func_t vector_gemm(void)
{
#ifdef __x86_64__
    return gd_cpu_isa() == GD_CPU_ISA_V2   ? gd_cpu_gemm_v2
           : gd_cpu_isa() == GD_CPU_ISA_V3 ? gd_cpu_gemm_v3
                                           : gd_cpu_gemm_v4;
#else
    return gd_cpu_gemm_base;
#endif
}

status_t gd_gemm_run(const gd_gemm_t *gemm)
{
    if (amx_suits(gemm)) {
        return gd_amx_gemm(gemm);
    }
    bool is_declined = true;
    if (gd_cpu_isa() >= GD_CPU_ISA_V4 && !is_small(gemm)) {
        const status_t status = gd_onednn_gemm(gemm, &is_declined);
        if (status != ST_OK) {
            return status;
        }
    }
    return is_declined ? gd_gemm_batch(gemm, vector_gemm()) : ST_OK;
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
