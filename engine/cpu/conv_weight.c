/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conv_weight: see conv_weight.h. Measured with oneDNN 2.6.3 on two Zen 3 cores: gradients of ResNet-50's 3 × 3 weights
 * take it 14-33 ms, of 1.85 GFLOP each, and the copies between layouts besides; these 10-14 ms.
 */
#include "cpu/conv_weight.h"

#include "cpu/cpu.h"

enum { FEWEST_CHANNELS = 12 }; /* of the 16 of a panel */

bool gd_conv_weight_suits(const gd_conv_t *c)
{
    return gd_cpu_isa() < GD_CPU_ISA_V4 && c->groups == 1 && c->in[2] == 0 && c->c_in >= FEWEST_CHANNELS;
}

status_t gd_conv_weight(const gd_conv_weight_t *args)
{
#ifdef __x86_64__
    return gd_cpu_isa() == GD_CPU_ISA_V3 ? gd_cpu_conv_weight_v3(args) : gd_cpu_conv_weight_v2(args);
#else
    return gd_cpu_conv_weight_base(args);
#endif
}
