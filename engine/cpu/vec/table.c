/* SPDX-License-Identifier: Apache-2.0 */
/* table: the CPU backend's kernels of one instruction set; compiled once a set. An empty slot: no kernel. */
#include "cpu/vec/kernels.h"

const gd_kernel_func_t CPU_JOIN(gd_cpu_kernels_, GD_ISA)[GD_OP_COUNT] = {
    [GD_OP_MATMUL] = gd_cpu_matmul,
    [GD_OP_LINEAR] = gd_cpu_linear,
};
