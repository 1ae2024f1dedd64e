/* SPDX-License-Identifier: Apache-2.0 */
/* reference_sequence: the loops of engine/ops/{sdpa,rope,gated}.c. */
#include "tests/engine/reference_sequence.h"

#include <math.h>

#include "gradd/ops.h"
#include "gradd/rng.h"

/* ---- sdpa ---- */

typedef struct sdpa {
    const gd_attrs_t *attrs;
    const ref_tensor_t *q, *k, *v, *mask, *lengths;
    int64_t heads, key_heads, times, keys, width;
    double scale;
} sdpa_t;

static sdpa_t sdpa_get(const gd_attrs_t *attrs, const ref_tensor_t *q, const ref_tensor_t *k, const ref_tensor_t *v,
                       const ref_tensor_t *mask, const ref_tensor_t *lengths)
{
    sdpa_t a = {.attrs = attrs, .q = q, .k = k, .v = v, .mask = mask, .lengths = lengths};
    a.heads = attrs->i[0];
    a.key_heads = attrs->i[1];
    a.times = q->shape[1];
    a.keys = k->shape[1];
    a.width = q->shape[2] / a.heads;
    a.scale = attrs->f[0] > 0 ? attrs->f[0] : 1 / sqrt((double)a.width);
    return a;
}

static int64_t query_at(const sdpa_t *a, int64_t b, int64_t h, int64_t t)
{
    return ((b * a->times + t) * a->heads + h) * a->width;
}

static int64_t key_at(const sdpa_t *a, int64_t b, int64_t h, int64_t u)
{
    return ((b * a->keys + u) * a->key_heads + h * a->key_heads / a->heads) * a->width;
}

/* ALiBi's slopes by the authors' recursion. */
static double slope_of(int64_t h, int64_t n)
{
    const double power = pow(2, floor(log2((double)n)));
    if (power == (double)n) {
        return pow(2, -8 * (double)(h + 1) / (double)n);
    }
    return (double)h < power ? slope_of(h, (int64_t)power) : slope_of(2 * (h - (int64_t)power), 2 * (int64_t)power);
}

/* -INFINITY: hidden. */
static double score(const sdpa_t *a, int64_t b, int64_t h, int64_t t, int64_t u)
{
    const int64_t window = a->attrs->i[3];
    const bool is_hidden = (a->attrs->i[2] != 0 && u > t) || (window > 0 && (u <= t - window || u >= t + window)) ||
                           (a->lengths->data != NULL && (double)u >= a->lengths->data[b]);
    double s = 0;
    for (int64_t d = 0; d < a->width; d++) {
        s += a->scale * a->q->data[query_at(a, b, h, t) + d] * a->k->data[key_at(a, b, h, u) + d];
    }
    if (a->mask->data != NULL) {
        s += ref_at(a->mask, 4, (const int64_t[4]){b, h, t, u});
    }
    s -= a->attrs->i[4] != 0 ? slope_of(h, a->heads) * fabs((double)(t - u)) : 0;
    return is_hidden ? (double)-INFINITY : s;
}

static double factor(const sdpa_t *a, int64_t b, int64_t h, int64_t t, int64_t u)
{
    const double p = a->attrs->f[1];
    const int64_t at = ((b * a->heads + h) * a->times + t) * ((a->keys + 3) / 4 * 4) + u;
    uint32_t word[4];
    gd_philox(&a->attrs->rng, (uint32_t)(at / 4), word);
    return p == 0 ? 1 : (double)gd_rng_unit(word[at % 4]) >= p ? 1 / (1 - p) : 0;
}

void ref_sdpa(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    const sdpa_t a = sdpa_get(attrs, &in[0], &in[1], &in[2], &in[3], &in[4]);
    for (int64_t i = 0; i < out[1].numel; i++) {
        const int64_t b = i / a.times / a.heads, h = i / a.times % a.heads, t = i % a.times;
        double *y = out[0].data + query_at(&a, b, h, t);
        double sum = 0;
        for (int64_t u = 0; u < a.keys; u++) {
            sum += exp(score(&a, b, h, t, u));
        }
        out[1].data[i] = sum > 0 ? log(sum) : 0;
        for (int64_t d = 0; d < a.width; d++) {
            y[d] = 0;
            for (int64_t u = 0; u < a.keys && sum > 0; u++) {
                y[d] += exp(score(&a, b, h, t, u)) / sum * factor(&a, b, h, t, u) * a.v->data[key_at(&a, b, h, u) + d];
            }
        }
    }
}

void ref_sdpa_backward(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    const sdpa_t a = sdpa_get(attrs, &in[1], &in[2], &in[3], &in[6], &in[7]);
    for (int part = 0; part < 3; part++) {
        for (int64_t i = 0; i < out[part].numel; i++) {
            out[part].data[i] = 0;
        }
    }
    for (int64_t i = 0; i < in[5].numel; i++) {
        const int64_t b = i / a.times / a.heads, h = i / a.times % a.heads, t = i % a.times;
        const int64_t q = query_at(&a, b, h, t);
        double delta = 0;
        for (int64_t d = 0; d < a.width; d++) {
            delta += in[0].data[q + d] * in[4].data[q + d];
        }
        for (int64_t u = 0; u < a.keys; u++) {
            const int64_t k = key_at(&a, b, h, u);
            const double p = exp(score(&a, b, h, t, u) - in[5].data[i]), m = factor(&a, b, h, t, u);
            double dp = 0;
            for (int64_t d = 0; d < a.width; d++) {
                dp += m * in[0].data[q + d] * a.v->data[k + d];
            }
            for (int64_t d = 0; d < a.width; d++) {
                out[0].data[q + d] += a.scale * p * (dp - delta) * a.k->data[k + d];
                out[1].data[k + d] += a.scale * p * (dp - delta) * a.q->data[q + d];
                out[2].data[k + d] += p * m * in[0].data[q + d];
            }
        }
    }
}

/* ---- rope ---- */

/* Radians a position of a pair whose unscaled rate is 1 / slowness; as transformers' _compute_llama3_parameters. */
static double rope_rate(const gd_attrs_t *attrs, double slowness)
{
    const double scaling = attrs->f[1], low = attrs->f[2], high = attrs->f[3], context = (double)attrs->i[5];
    const double wavelength = 2 * 3.14159265358979323846 * slowness;
    if (scaling <= 0) {
        return 1 / slowness;
    }
    if (context <= 0 || wavelength > context / low) {
        return 1 / slowness / scaling;
    }
    if (wavelength < context / high) {
        return 1 / slowness;
    }
    const double smooth = (context / wavelength - low) / (high - low);
    return (1 - smooth) / slowness / scaling + smooth / slowness;
}

void ref_rope(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    const int64_t width = in->shape[2] / attrs->i[0], rotated = attrs->i[1];
    for (int64_t i = 0; i < in->numel; i++) {
        const int64_t t = i / in->shape[2] % in->shape[1], feature = i % in->shape[2] % width;
        out->data[i] = in->data[i];
        if (feature >= rotated) {
            continue;
        }
        const bool is_interleaved = attrs->i[3] != 0;
        const int64_t pair = is_interleaved ? feature / 2 : feature % (rotated / 2);
        const bool is_second = is_interleaved ? feature % 2 == 1 : feature >= rotated / 2;
        const int64_t step = (is_interleaved ? 1 : rotated / 2) * (is_second ? -1 : 1);
        double angle =
            (double)(t + attrs->i[2]) * rope_rate(attrs, pow(attrs->f[0], 2 * (double)pair / (double)rotated));
        angle = attrs->i[4] != 0 ? -angle : angle;
        out->data[i] = in->data[i] * cos(angle) + (is_second ? 1 : -1) * in->data[i + step] * sin(angle);
    }
}

/* ---- gated ---- */

static double gate(int64_t kind, double x)
{
    switch (kind) {
    case GD_GATE_SIGMOID:
        return 1 / (1 + exp(-x));
    case GD_GATE_SILU:
        return x / (1 + exp(-x));
    case GD_GATE_GELU:
        return x / 2 * (1 + erf(x / sqrt(2)));
    case GD_GATE_GELU_TANH:
        return x / 2 * (1 + tanh(sqrt(2 / 3.14159265358979323846) * (x + 0.044715 * x * x * x)));
    case GD_GATE_RELU:
        return fmax(x, 0);
    default:
        return x;
    }
}

static double gate_slope(int64_t kind, double x)
{
    const double s = 1 / (1 + exp(-x));
    const double u = sqrt(2 / 3.14159265358979323846) * (x + 0.044715 * x * x * x);
    switch (kind) {
    case GD_GATE_SIGMOID:
        return s * (1 - s);
    case GD_GATE_SILU:
        return s + x * s * (1 - s);
    case GD_GATE_GELU:
        return (1 + erf(x / sqrt(2))) / 2 + x * exp(-x * x / 2) / sqrt(2 * 3.14159265358979323846);
    case GD_GATE_GELU_TANH:
        return (1 + tanh(u)) / 2 +
               x / 2 * (1 - tanh(u) * tanh(u)) * sqrt(2 / 3.14159265358979323846) * (1 + 3 * 0.044715 * x * x);
    case GD_GATE_RELU:
        return x > 0;
    default:
        return 1;
    }
}

void ref_gated(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    for (int64_t i = 0; i < out->numel; i++) {
        out->data[i] = gate(attrs->i[0], in[0].data[i]) * in[1].data[i];
    }
}

void ref_gated_backward(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    for (int64_t i = 0; i < out[0].numel; i++) {
        const double a = in[1].data[i];
        out[0].data[i] = in[0].data[i] * in[2].data[i] * gate_slope(attrs->i[0], a);
        out[1].data[i] = in[0].data[i] * gate(attrs->i[0], a);
    }
}
