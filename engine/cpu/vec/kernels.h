/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kernels: declarations of the CPU kernels, by file. Included by engine/cpu/vec/ only: CPU_KERNEL(name) declares the
 * one of this build's instruction set, gd_cpu_<name> without CPU_FN is common to all.
 */
#ifndef GRADD_CPU_VEC_KERNELS_H
#define GRADD_CPU_VEC_KERNELS_H

#include "cpu/kernels.h"

#endif
