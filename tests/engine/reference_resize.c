/* SPDX-License-Identifier: Apache-2.0 */
/* reference_resize: padding and interpolation as sums over all pairs of positions, weighted axis by axis. */
#include <math.h>

#include "tests/engine/reference_image.h"

/* The share of position k of an axis of x in position i of y. */
typedef double (*share_func_t)(const gd_attrs_t *attrs, int axis, int n_axes, int64_t i, int64_t out, int64_t k,
                               int64_t in);

static double share_pad(const gd_attrs_t *attrs, int axis, int n_axes, int64_t i, int64_t out, int64_t k, int64_t in)
{
    (void)n_axes;
    (void)out;
    int64_t at = i - attrs->i[axis];
    if (attrs->i[6] == 1) {
        at = at < 0 ? -at : at >= in ? 2 * (in - 1) - at : at;
    } else if (attrs->i[6] == 2) {
        at = at < 0 ? 0 : at >= in ? in - 1 : at;
    } else if (attrs->i[6] == 3) {
        at = (at + in) % in;
    }
    return at == k;
}

static double cubic(double x)
{
    const double a = -0.75;
    x = fabs(x);
    return x <= 1  ? (a + 2) * pow(x, 3) - (a + 3) * pow(x, 2) + 1
           : x < 2 ? a * pow(x, 3) - 5 * a * pow(x, 2) + 8 * a * x - 4 * a
                   : 0;
}

static double share_upsample(const gd_attrs_t *attrs, int axis, int n_axes, int64_t i, int64_t out, int64_t k,
                             int64_t in)
{
    const double factor = axis >= 3 - n_axes ? attrs->f[axis - (3 - n_axes)] : 0;
    const double step = factor > 0 ? 1 / factor : (double)in / (double)out;
    if (axis < 3 - n_axes) {
        return 1;
    }
    if (attrs->i[3] == 0) {
        const double at = floor((double)i * step + 1e-9);
        return (double)k == fmin(at, (double)(in - 1));
    }
    double at =
        attrs->i[4] != 0 ? (out > 1 ? (double)(i * (in - 1)) / (double)(out - 1) : 0) : ((double)i + 0.5) * step - 0.5;
    if (attrs->i[3] == 1) {
        at = in == out ? (double)i : fmin(fmax(at, 0), (double)(in - 1));
        return fmax(0, 1 - fabs(at - (double)k));
    }
    double sum = 0;
    for (int64_t t = -3; t < in + 3; t++) { /* positions outside stand for the edge */
        const int64_t held = t < 0 ? 0 : t >= in ? in - 1 : t;
        sum += held == k ? cubic(at - (double)t) : 0;
    }
    return sum;
}

/* Calls of large[i] and small[k] with their share, over the last n_axes axes. */
static void walk(const ref_tensor_t *small, const ref_tensor_t *large, const gd_attrs_t *attrs, int n_axes,
                 share_func_t share_of, double *to_small, double *to_large)
{
    int64_t in[3], out[3];
    for (int d = 0; d < 3; d++) {
        const int own = small->n_dims - 3 + d;
        in[d] = d >= 3 - n_axes ? small->shape[own] : 1;
        out[d] = d >= 3 - n_axes ? large->shape[own] : 1;
    }
    const int64_t n_in = in[0] * in[1] * in[2], n_out = out[0] * out[1] * out[2];
    for (int64_t i = 0; i < large->numel; i++) {
        const int64_t a[3] = {i % n_out / out[2] / out[1], i % n_out / out[2] % out[1], i % out[2]};
        for (int64_t k = 0; k < n_in; k++) {
            const int64_t b[3] = {k / in[2] / in[1], k / in[2] % in[1], k % in[2]};
            double share = 1;
            for (int d = 0; d < 3; d++) {
                share *= share_of(attrs, d, n_axes, a[d], out[d], b[d], in[d]);
            }
            if (to_large != NULL) {
                to_large[i] += share * small->data[i / n_out * n_in + k];
            } else {
                to_small[i / n_out * n_in + k] += share * large->data[i];
            }
        }
    }
}

static void fill(ref_tensor_t *t, double value)
{
    for (int64_t i = 0; i < t->numel; i++) {
        t->data[i] = value;
    }
}

void ref_pad_with(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    /* the constant is what is missing from a share of 1: that of an image of ones */
    double ones[4096], covered[4096];
    for (int64_t i = 0; i < 4096; i++) {
        ones[i] = 1;
        covered[i] = 0;
    }
    ref_tensor_t image = in[0];
    image.data = ones;
    walk(&image, out, attrs, (int)attrs->i[7], share_pad, NULL, covered);
    fill(out, 0);
    walk(&in[0], out, attrs, (int)attrs->i[7], share_pad, NULL, out->data);
    for (int64_t i = 0; i < out->numel; i++) {
        out->data[i] += (1 - covered[i]) * attrs->f[0];
    }
}

void ref_pad_with_backward(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    fill(out, 0);
    walk(out, &in[0], attrs, (int)attrs->i[7], share_pad, out->data, NULL);
}

void ref_upsample(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    fill(out, 0);
    walk(&in[0], out, attrs, (int)attrs->i[5], share_upsample, NULL, out->data);
}

void ref_upsample_backward(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    fill(out, 0);
    walk(out, &in[0], attrs, (int)attrs->i[5], share_upsample, out->data, NULL);
}
