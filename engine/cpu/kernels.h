/* SPDX-License-Identifier: Apache-2.0 */
/* kernels: the CPU kernels that are compiled once, whatever the instruction set; see the rows for what they compute. */
#ifndef GRADD_CPU_KERNELS_H
#define GRADD_CPU_KERNELS_H

#include "cpu/cpu.h"

/* matmul.c */
status_t gd_cpu_matmul(const gd_kernel_args_t *args);
status_t gd_cpu_linear(const gd_kernel_args_t *args);

/* conv.c */
status_t gd_cpu_conv2d(const gd_kernel_args_t *args);
status_t gd_cpu_conv2d_backward_input(const gd_kernel_args_t *args);
status_t gd_cpu_conv2d_backward_weight(const gd_kernel_args_t *args);

#endif
