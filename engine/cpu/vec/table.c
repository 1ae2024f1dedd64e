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
    [GD_OP_RELU] = CPU_FN(relu),
    [GD_OP_RELU_BACKWARD] = CPU_FN(relu_backward),
    [GD_OP_GELU] = CPU_FN(gelu),
    [GD_OP_GELU_BACKWARD] = CPU_FN(gelu_backward),
    [GD_OP_TANH] = CPU_FN(tanh),
    [GD_OP_TANH_BACKWARD] = CPU_FN(tanh_backward),
    [GD_OP_SIGMOID] = CPU_FN(sigmoid),
    [GD_OP_SIGMOID_BACKWARD] = CPU_FN(sigmoid_backward),
    [GD_OP_SILU] = CPU_FN(silu),
    [GD_OP_SILU_BACKWARD] = CPU_FN(silu_backward),
    [GD_OP_SOFTMAX] = CPU_FN(softmax),
    [GD_OP_SOFTMAX_BACKWARD] = CPU_FN(softmax_backward),
    [GD_OP_LOG_SOFTMAX] = CPU_FN(log_softmax),
    [GD_OP_LOG_SOFTMAX_BACKWARD] = CPU_FN(log_softmax_backward),
    [GD_OP_DROPOUT] = CPU_FN(dropout),
    /* clang-format on */
};
