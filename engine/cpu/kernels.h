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
status_t gd_cpu_conv3d(const gd_kernel_args_t *args);
status_t gd_cpu_conv3d_backward_input(const gd_kernel_args_t *args);
status_t gd_cpu_conv3d_backward_weight(const gd_kernel_args_t *args);
status_t gd_cpu_conv_transpose(const gd_kernel_args_t *args);

/* index.c */
status_t gd_cpu_cat(const gd_kernel_args_t *args);
status_t gd_cpu_pad(const gd_kernel_args_t *args);
status_t gd_cpu_triangle(const gd_kernel_args_t *args);
status_t gd_cpu_gather(const gd_kernel_args_t *args);
status_t gd_cpu_scatter(const gd_kernel_args_t *args);
status_t gd_cpu_index_places(const gd_kernel_args_t *args);
status_t gd_cpu_scatter_reduce(const gd_kernel_args_t *args);
status_t gd_cpu_scatter_reduce_backward(const gd_kernel_args_t *args);
/* ST_ERR_RANGE, with the first element of the index (any strides) that is outside 0 … size - 1. */
status_t gd_cpu_index_check(const char *op, const gd_view_t *index, int axis, int64_t size);
status_t gd_cpu_nonzero(const gd_kernel_args_t *args);
/* How many elements aren't 0; any strides. */
int64_t gd_cpu_count_nonzero(const gd_view_t *x);

/* sort.c */
status_t gd_cpu_sort(const gd_kernel_args_t *args);

#endif
