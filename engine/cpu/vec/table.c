/* SPDX-License-Identifier: Apache-2.0 */
/* table: the CPU backend's kernels of one instruction set; compiled once a set. An empty slot: no kernel. */
#include "cpu/vec/kernels.h"

const gd_kernel_func_t CPU_JOIN(gd_cpu_kernels_, GD_ISA)[GD_OP_COUNT] = {
    /* clang-format off: one a line */
    [GD_OP_MATMUL] = gd_cpu_matmul,
    [GD_OP_LINEAR] = gd_cpu_linear,
    [GD_OP_CONTIGUOUS] = CPU_FN(cast),
    [GD_OP_CAST] = CPU_FN(cast),
    [GD_OP_ADD] = CPU_FN(add),
    [GD_OP_SUB] = CPU_FN(sub),
    [GD_OP_MUL] = CPU_FN(mul),
    [GD_OP_DIV] = CPU_FN(div),
    [GD_OP_SCALE] = CPU_FN(scale),
    [GD_OP_NEG] = CPU_FN(neg),
    [GD_OP_EXP] = CPU_FN(exp),
    [GD_OP_LOG] = CPU_FN(log),
    [GD_OP_SQRT] = CPU_FN(sqrt),
    [GD_OP_POW] = CPU_FN(pow),
    [GD_OP_SUM] = CPU_FN(sum),
    [GD_OP_MEAN] = CPU_FN(mean),
    /* clang-format on */
};
