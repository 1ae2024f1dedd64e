/* SPDX-License-Identifier: Apache-2.0 */
/* reference_random: ops that draw numbers, element by element. */
#include "gradd/rng.h"
#include "tests/engine/reference_sequence.h"

/* Slope of element i where x isn't positive. */
static double rrelu_slope(const gd_attrs_t *attrs, int64_t i, double x)
{
    uint32_t word[4];
    gd_philox(&attrs->rng, (uint32_t)(i / 4), word);
    return x > 0 ? 1 : attrs->f[0] + (attrs->f[1] - attrs->f[0]) * (double)gd_rng_unit(word[i % 4]);
}

void ref_rrelu(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    for (int64_t i = 0; i < in->numel; i++) {
        out->data[i] = in->data[i] * rrelu_slope(attrs, i, in->data[i]);
    }
}

void ref_rrelu_backward(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    for (int64_t i = 0; i < in->numel; i++) {
        out->data[i] = in[0].data[i] * rrelu_slope(attrs, i, in[1].data[i]);
    }
}
