/* SPDX-License-Identifier: Apache-2.0 */
/* reference_image: the loops of rms_norm and group_norm. */
#include "tests/engine/reference_image.h"

#include <math.h>

static double value_or(const ref_tensor_t *t, int64_t i, double otherwise)
{
    return t->data != NULL ? t->data[i] : otherwise;
}

static void zero(ref_tensor_t *t)
{
    for (int64_t i = 0; i < t->numel; i++) {
        t->data[i] = 0;
    }
}

void ref_rms_norm(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    const int64_t n = in[0].shape[in[0].n_dims - 1];
    for (int64_t row = 0; row < in[0].numel / n; row++) {
        double squares = 0;
        for (int64_t i = 0; i < n; i++) {
            squares += in[0].data[row * n + i] * in[0].data[row * n + i];
        }
        out[1].data[row] = 1 / sqrt(squares / (double)n + attrs->f[0]);
        for (int64_t i = 0; i < n; i++) {
            out[0].data[row * n + i] = in[0].data[row * n + i] * out[1].data[row] * value_or(&in[1], i, 1);
        }
    }
}

void ref_rms_norm_backward(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    (void)attrs;
    const int64_t n = in[1].shape[in[1].n_dims - 1];
    zero(&out[1]);
    for (int64_t row = 0; row < in[1].numel / n; row++) {
        const double rstd = in[2].data[row];
        double dot = 0;
        for (int64_t i = 0; i < n; i++) {
            const double xhat = in[1].data[row * n + i] * rstd;
            dot += in[0].data[row * n + i] * value_or(&in[3], i, 1) * xhat / (double)n;
            out[1].data[i] += in[3].data != NULL ? in[0].data[row * n + i] * xhat : 0;
        }
        for (int64_t i = 0; i < n; i++) {
            const double g = in[0].data[row * n + i] * value_or(&in[3], i, 1);
            out[0].data[row * n + i] = rstd * (g - in[1].data[row * n + i] * rstd * dot);
        }
    }
}

/* Channel of element i of x[B,C,…], and its group among those of all samples. */
static int64_t channel_of(const ref_tensor_t *x, int64_t i)
{
    return i / (x->numel / x->shape[0] / x->shape[1]) % x->shape[1];
}

static int64_t group_of(const ref_tensor_t *x, int64_t i, int64_t n_groups)
{
    return i / (x->numel / x->shape[0] / n_groups);
}

void ref_group_norm(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    const ref_tensor_t *x = &in[0];
    const int64_t n = out[1].numel > 0 ? x->numel / out[1].numel : 0;
    const double count = (double)n;
    zero(&out[1]);
    zero(&out[2]);
    for (int64_t i = 0; i < x->numel; i++) {
        out[1].data[group_of(x, i, attrs->i[0])] += x->data[i] / count;
    }
    for (int64_t i = 0; i < x->numel; i++) {
        const int64_t g = group_of(x, i, attrs->i[0]);
        out[2].data[g] += (x->data[i] - out[1].data[g]) * (x->data[i] - out[1].data[g]) / count;
    }
    for (int64_t g = 0; g < out[2].numel; g++) {
        out[2].data[g] = 1 / sqrt(out[2].data[g] + attrs->f[0]);
    }
    for (int64_t i = 0; i < x->numel; i++) {
        const int64_t g = group_of(x, i, attrs->i[0]), c = channel_of(x, i);
        out[0].data[i] =
            (x->data[i] - out[1].data[g]) * out[2].data[g] * value_or(&in[1], c, 1) + value_or(&in[2], c, 0);
    }
}

void ref_group_norm_backward(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    const ref_tensor_t *x = &in[1];
    const int64_t per_group = x->numel / in[2].numel;
    zero(&out[1]);
    zero(&out[2]);
    for (int64_t i = 0; i < x->numel; i++) {
        const int64_t g = group_of(x, i, attrs->i[0]), c = channel_of(x, i);
        double mean_g = 0, dot = 0;
        for (int64_t j = g * per_group; j < (g + 1) * per_group; j++) {
            const double gradient = in[0].data[j] * value_or(&in[4], channel_of(x, j), 1) / (double)per_group;
            mean_g += gradient;
            dot += gradient * (x->data[j] - in[2].data[g]) * in[3].data[g];
        }
        const double xhat = (x->data[i] - in[2].data[g]) * in[3].data[g];
        out[1].data[c] += in[0].data[i] * xhat;
        out[2].data[c] += in[0].data[i];
        out[0].data[i] = in[3].data[g] * (in[0].data[i] * value_or(&in[4], c, 1) - mean_g - xhat * dot);
    }
}
