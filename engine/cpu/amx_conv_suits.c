/* SPDX-License-Identifier: Apache-2.0 */
/* amx_conv_suits: which convolutions amx_conv.c is for; compiled for every processor, unlike that. */
#include "cpu/amx_conv.h"
#include "cpu/cpu.h"
#include "gradd/op.h"

bool gd_amx_conv_can(const gd_conv_t *c, gd_conv_kind_t kind)
{
    if (c->dtype != GD_DTYPE_F32 || c->dweight_dtype != GD_DTYPE_F32 || c->groups != 1 || c->in[2] != 0) {
        return false;
    }
    const int64_t n_taps = c->kernel[0] * c->kernel[1];
    if (c->c_in * n_taps > INT32_MAX / 16) {
        return false;
    }
    for (int i = 0; i < 2; i++) {
        const int64_t reach = (c->kernel[i] - 1) * c->dilation[i];
        if (c->stride[i] != 1 || (kind == GD_CONV_INPUT && c->padding[i] > reach)) {
            return false;
        }
    }
    return true;
}

static double round_up(int64_t n, int64_t step)
{
    return (double)(gd_cpu_n_blocks(n, step) * step);
}

/* What channels cost in blocks of 32 of which the last may be a half. */
static double blocks_cost(int64_t channels)
{
    const int64_t rest = (channels - 1) % 32 + 1;
    return (double)(channels - rest) + (rest > 16 ? 32 : 22);
}

/*
 * Both sides' times on a Sapphire Rapids core, in ns, fitted to 50 convolutions of 3 to 512 channels. Few channels
 * leave most of a tile empty, small images much too; oneDNN's blocks are of 16, but for the few channels of a first
 * layer.
 */
bool gd_amx_conv_suits(const gd_conv_t *c, gd_conv_kind_t kind)
{
    const int64_t n_taps = c->kernel[0] * c->kernel[1];
    if (gd_cpu_isa() != GD_CPU_ISA_AMX || !gd_amx_conv_can(c, kind) || n_taps == 1) {
        return false;
    }
    const bool is_input = kind == GD_CONV_INPUT;
    const int64_t *in = is_input ? c->out : c->in, *out = is_input ? c->in : c->out;
    int64_t layout[2]; /* an image with its padding */
    for (int i = 0; i < 2; i++) {
        const int64_t padding = is_input ? (c->kernel[i] - 1) * c->dilation[i] - c->padding[i] : c->padding[i];
        layout[i] = in[i] + padding > out[i] ? in[i] + padding : out[i];
    }
    const double call = 8000, onednn_call = 4000, onednn_gflops = 165;
    const int64_t n_in = is_input ? c->c_out : c->c_in, n_out = is_input ? c->c_in : c->c_out;
    const double positions = (double)(c->batch * layout[0] * layout[1]), taps = (double)n_taps;
    const double c_in = round_up(n_in, 32), c_out = round_up(n_out, 32), weights = c_in * c_out * taps;
    double amx_ns = call;
    if (kind == GD_CONV_WEIGHT) {
        if (n_in <= 32 && n_out <= 32) {
            return false; /* one block: threads would share its taps, and each pack all pixels */
        }
        amx_ns += positions * (0.31 * c_in + 0.5 * c_out) + weights +
                  2 * positions * taps * blocks_cost(n_in) * blocks_cost(n_out) / 370;
    } else {
        amx_ns += positions * 0.5 * c_in + 0.45 * weights + 2 * positions * taps * c_in * blocks_cost(n_out) / 430;
    }
    const double onednn_flop = 2 * (double)(c->batch * c->out[0] * c->out[1]) * taps * round_up(c->c_out, 16) *
                               (is_input ? round_up(c->c_in, 16) : (double)c->c_in);
    return 1.05 * amx_ns < onednn_call + onednn_flop / onednn_gflops;
}
