/* SPDX-License-Identifier: Apache-2.0 */
/* optim: picks the optimizer kernels of the instruction set in use. */
#include "cpu/optim.h"

#include "cpu/cpu.h"

#ifdef __x86_64__
extern const gd_cpu_optim_t gd_cpu_optim_v2;
extern const gd_cpu_optim_t gd_cpu_optim_v3;
extern const gd_cpu_optim_t gd_cpu_optim_v4;
#else
extern const gd_cpu_optim_t gd_cpu_optim_base;
#endif

const gd_cpu_optim_t *gd_cpu_optim(void)
{
#ifdef __x86_64__
    const gd_cpu_isa_t isa = gd_cpu_isa();
    if (isa >= GD_CPU_ISA_V4) {
        return &gd_cpu_optim_v4;
    }
    return isa == GD_CPU_ISA_V3 ? &gd_cpu_optim_v3 : &gd_cpu_optim_v2;
#else
    return &gd_cpu_optim_base;
#endif
}
