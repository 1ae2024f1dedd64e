/* SPDX-License-Identifier: Apache-2.0 */
/* reference_nn: the loops of the ops in engine/ops/{norm,conv,pool,attention,embedding,loss}.c. */
#include "tests/engine/reference_nn.h"

#include <math.h>
#include <string.h>

static void zero(ref_tensor_t *t)
{
    for (int64_t i = 0; i < t->numel; i++) {
        t->data[i] = 0;
    }
}

/* Element i of an optional vector. */
static double value_or(const ref_tensor_t *t, int64_t i, double otherwise)
{
    return t->data != NULL ? t->data[i] : otherwise;
}

/* x as channels: element (b, c, s) of [B,C,S] with layer_norm's rows as B = 1. */
static int64_t spatial_size(const ref_tensor_t *x)
{
    int64_t size = 1;
    for (int d = 2; d < x->n_dims; d++) {
        size *= x->shape[d];
    }
    return size;
}

void ref_layer_norm(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    const int64_t n = in[0].shape[in[0].n_dims - 1];
    for (int64_t row = 0; row < in[0].numel / n; row++) {
        const double *x = in[0].data + row * n;
        double mean = 0, var = 0;
        for (int64_t i = 0; i < n; i++) {
            mean += x[i] / (double)n;
        }
        for (int64_t i = 0; i < n; i++) {
            var += (x[i] - mean) * (x[i] - mean) / (double)n;
        }
        out[1].data[row] = mean;
        out[2].data[row] = 1 / sqrt(var + attrs->f[0]);
        for (int64_t i = 0; i < n; i++) {
            out[0].data[row * n + i] =
                (x[i] - mean) * out[2].data[row] * value_or(&in[1], i, 1) + value_or(&in[2], i, 0);
        }
    }
}

void ref_layer_norm_backward(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    (void)attrs;
    const int64_t n = in[1].shape[in[1].n_dims - 1];
    zero(&out[1]);
    zero(&out[2]);
    for (int64_t row = 0; row < in[1].numel / n; row++) {
        const double *dy = in[0].data + row * n;
        const double *x = in[1].data + row * n;
        const double mean = in[2].data[row], rstd = in[3].data[row];
        double mean_g = 0, mean_dot = 0;
        for (int64_t i = 0; i < n; i++) {
            const double g = dy[i] * value_or(&in[4], i, 1), xhat = (x[i] - mean) * rstd;
            mean_g += g / (double)n;
            mean_dot += g * xhat / (double)n;
            out[1].data[i] += dy[i] * xhat;
            out[2].data[i] += dy[i];
        }
        for (int64_t i = 0; i < n; i++) {
            const double g = dy[i] * value_or(&in[4], i, 1), xhat = (x[i] - mean) * rstd;
            out[0].data[row * n + i] = rstd * (g - mean_g - xhat * mean_dot);
        }
    }
}

void ref_batch_norm(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    const int64_t channels = in[0].shape[1], size = spatial_size(&in[0]);
    const double count = (double)(in[0].shape[0] * size);
    for (int64_t c = 0; c < channels; c++) {
        double mean = 0, var = 0;
        for (int64_t i = 0; i < in[0].numel && attrs->i[0] != 0; i++) {
            mean += i / size % channels == c ? in[0].data[i] / count : 0;
        }
        for (int64_t i = 0; i < in[0].numel && attrs->i[0] != 0; i++) {
            var += i / size % channels == c ? (in[0].data[i] - mean) * (in[0].data[i] - mean) / count : 0;
        }
        out[1].data[c] = attrs->i[0] != 0 ? mean : in[3].data[c];
        out[2].data[c] = attrs->i[0] != 0 ? var : in[4].data[c];
    }
    for (int64_t i = 0; i < in[0].numel; i++) {
        const int64_t c = i / size % channels;
        out[0].data[i] =
            (in[0].data[i] - out[1].data[c]) / sqrt(out[2].data[c] + attrs->f[0]) * value_or(&in[1], c, 1) +
            value_or(&in[2], c, 0);
    }
}

void ref_batch_norm_backward(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    const int64_t channels = in[1].shape[1], size = spatial_size(&in[1]);
    const double count = (double)(in[1].shape[0] * size);
    zero(&out[1]);
    zero(&out[2]);
    for (int64_t i = 0; i < in[1].numel; i++) {
        const int64_t c = i / size % channels;
        out[1].data[c] += in[0].data[i] * (in[1].data[i] - in[2].data[c]) / sqrt(in[3].data[c] + attrs->f[0]);
        out[2].data[c] += in[0].data[i];
    }
    for (int64_t i = 0; i < in[1].numel; i++) {
        const int64_t c = i / size % channels;
        const double rstd = 1 / sqrt(in[3].data[c] + attrs->f[0]);
        const double xhat = (in[1].data[i] - in[2].data[c]) * rstd;
        const double shift = attrs->i[0] != 0 ? (out[2].data[c] + xhat * out[1].data[c]) / count : 0;
        out[0].data[i] = value_or(&in[4], c, 1) * rstd * (in[0].data[i] - shift);
    }
}

typedef enum conv_part { CONV_Y, CONV_X, CONV_WEIGHT } conv_part_t;

/* Adds every term of the convolution to the array that `part` names; the others are read. */
static void conv_add(const gd_attrs_t *attrs, const ref_tensor_t *x, const ref_tensor_t *w, const ref_tensor_t *y,
                     conv_part_t part)
{
    const int64_t o_group = w->shape[0] / attrs->i[6];
    for (int64_t yi = 0; yi < y->numel; yi++) {
        int64_t at[GD_MAX_DIMS];
        ref_index(y, yi, at);
        for (int64_t k = 0; k < w->shape[1] * w->shape[2] * w->shape[3]; k++) {
            const int64_t wi = at[1] * w->shape[1] * w->shape[2] * w->shape[3] + k;
            int64_t tap[GD_MAX_DIMS];
            ref_index(w, wi, tap);
            const int64_t row = at[2] * attrs->i[0] - attrs->i[2] + tap[2] * attrs->i[4];
            const int64_t column = at[3] * attrs->i[1] - attrs->i[3] + tap[3] * attrs->i[5];
            if (row < 0 || row >= x->shape[2] || column < 0 || column >= x->shape[3]) {
                continue;
            }
            const int64_t channel = at[1] / o_group * w->shape[1] + tap[1];
            const int64_t xi = ((at[0] * x->shape[1] + channel) * x->shape[2] + row) * x->shape[3] + column;
            if (part == CONV_Y) {
                y->data[yi] += x->data[xi] * w->data[wi];
            } else if (part == CONV_X) {
                x->data[xi] += y->data[yi] * w->data[wi];
            } else {
                w->data[wi] += x->data[xi] * y->data[yi];
            }
        }
    }
}

void ref_conv2d(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    for (int64_t i = 0; i < out->numel; i++) {
        int64_t at[GD_MAX_DIMS];
        ref_index(out, i, at);
        out->data[i] = value_or(&in[2], at[1], 0);
    }
    conv_add(attrs, &in[0], &in[1], out, CONV_Y);
}

void ref_conv2d_backward_input(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    zero(out);
    conv_add(attrs, out, &in[1], &in[0], CONV_X);
}

void ref_conv2d_backward_weight(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    zero(&out[0]);
    zero(&out[1]);
    conv_add(attrs, &in[1], &out[0], &in[0], CONV_WEIGHT);
    for (int64_t i = 0; i < in[0].numel && attrs->i[11] == 0; i++) {
        int64_t at[GD_MAX_DIMS];
        ref_index(&in[0], i, at);
        out[1].data[at[1]] += in[0].data[i];
    }
}

/* Whether row and column of the plane lie in window (i, j). */
static bool is_in_window(const gd_attrs_t *attrs, int64_t i, int64_t j, int64_t row, int64_t column)
{
    const int64_t first_row = i * attrs->i[2] - attrs->i[4], first_column = j * attrs->i[3] - attrs->i[5];
    return row >= first_row && row < first_row + attrs->i[0] && column >= first_column &&
           column < first_column + attrs->i[1];
}

void ref_max_pool2d(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    const int64_t size = in[0].shape[2] * in[0].shape[3], width = in[0].shape[3];
    for (int64_t o = 0; o < out[0].numel; o++) {
        int64_t at[GD_MAX_DIMS];
        ref_index(&out[0], o, at);
        const double *plane = in[0].data + (at[0] * in[0].shape[1] + at[1]) * size;
        out[0].data[o] = -INFINITY;
        for (int64_t i = 0; i < size; i++) {
            if (is_in_window(attrs, at[2], at[3], i / width, i % width) && plane[i] > out[0].data[o]) {
                out[0].data[o] = plane[i];
                out[1].data[o] = (double)i;
            }
        }
    }
}

void ref_max_pool2d_backward(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    (void)attrs;
    zero(out);
    const int64_t n_small = in[0].shape[2] * in[0].shape[3], n_large = out->shape[2] * out->shape[3];
    for (int64_t i = 0; i < in[0].numel; i++) {
        out->data[i / n_small * n_large + (int64_t)in[1].data[i]] += in[0].data[i];
    }
}

void ref_avg_pool2d(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    const int64_t size = in[0].shape[2] * in[0].shape[3], width = in[0].shape[3];
    for (int64_t o = 0; o < out->numel; o++) {
        int64_t at[GD_MAX_DIMS];
        ref_index(out, o, at);
        out->data[o] = 0;
        for (int64_t i = 0; i < size; i++) {
            out->data[o] += is_in_window(attrs, at[2], at[3], i / width, i % width)
                                ? in[0].data[(at[0] * in[0].shape[1] + at[1]) * size + i]
                                : 0;
        }
        out->data[o] /= (double)(attrs->i[0] * attrs->i[1]);
    }
}

void ref_avg_pool2d_backward(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    const int64_t size = out->shape[2] * out->shape[3], width = out->shape[3];
    zero(out);
    for (int64_t o = 0; o < in[0].numel; o++) {
        int64_t at[GD_MAX_DIMS];
        ref_index(&in[0], o, at);
        for (int64_t i = 0; i < size; i++) {
            out->data[(at[0] * out->shape[1] + at[1]) * size + i] +=
                is_in_window(attrs, at[2], at[3], i / width, i % width)
                    ? in[0].data[o] / (double)(attrs->i[0] * attrs->i[1])
                    : 0;
        }
    }
}

/* part 0, 1, 2: query, key, value of head h at (b, t) */
static double *qkv_at(const ref_tensor_t *qkv, int64_t n_heads, int part, int64_t b, int64_t h, int64_t t)
{
    const int64_t c = qkv->shape[2] / 3;
    return qkv->data + (b * qkv->shape[1] + t) * 3 * c + part * c + h * (c / n_heads);
}

static double score(const ref_tensor_t *qkv, int64_t n_heads, int64_t b, int64_t h, int64_t t, int64_t u)
{
    const int64_t d = qkv->shape[2] / 3 / n_heads;
    double sum = 0;
    for (int64_t i = 0; i < d; i++) {
        sum += qkv_at(qkv, n_heads, 0, b, h, t)[i] * qkv_at(qkv, n_heads, 1, b, h, u)[i];
    }
    return sum / sqrt((double)d);
}

void ref_attention(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    const int64_t n_heads = attrs->i[0], n_times = in[0].shape[1], c = in[0].shape[2] / 3, d = c / n_heads;
    zero(&out[0]);
    for (int64_t i = 0; i < out[1].numel; i++) {
        const int64_t b = i / n_times / n_heads, h = i / n_times % n_heads, t = i % n_times;
        const int64_t n_keys = attrs->i[1] != 0 ? t + 1 : n_times;
        double sum = 0;
        for (int64_t u = 0; u < n_keys; u++) {
            sum += exp(score(&in[0], n_heads, b, h, t, u));
        }
        out[1].data[i] = log(sum);
        for (int64_t u = 0; u < n_keys; u++) {
            const double p = exp(score(&in[0], n_heads, b, h, t, u)) / sum;
            for (int64_t j = 0; j < d; j++) {
                out[0].data[(b * n_times + t) * c + h * d + j] += p * qkv_at(&in[0], n_heads, 2, b, h, u)[j];
            }
        }
    }
}

void ref_attention_backward(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    const ref_tensor_t *qkv = &in[1];
    const int64_t n_heads = attrs->i[0], n_times = qkv->shape[1], c = qkv->shape[2] / 3, d = c / n_heads;
    zero(out);
    for (int64_t i = 0; i < in[3].numel; i++) {
        const int64_t b = i / n_times / n_heads, h = i / n_times % n_heads, t = i % n_times;
        const double *dy = in[0].data + (b * n_times + t) * c + h * d;
        const double *y = in[2].data + (b * n_times + t) * c + h * d;
        double delta = 0;
        for (int64_t j = 0; j < d; j++) {
            delta += dy[j] * y[j];
        }
        for (int64_t u = 0; u < (attrs->i[1] != 0 ? t + 1 : n_times); u++) {
            const double p = exp(score(qkv, n_heads, b, h, t, u) - in[3].data[i]);
            double dp = 0;
            for (int64_t j = 0; j < d; j++) {
                dp += dy[j] * qkv_at(qkv, n_heads, 2, b, h, u)[j];
            }
            const double ds = p * (dp - delta) / sqrt((double)d);
            for (int64_t j = 0; j < d; j++) {
                qkv_at(out, n_heads, 0, b, h, t)[j] += ds * qkv_at(qkv, n_heads, 1, b, h, u)[j];
                qkv_at(out, n_heads, 1, b, h, u)[j] += ds * qkv_at(qkv, n_heads, 0, b, h, t)[j];
                qkv_at(out, n_heads, 2, b, h, u)[j] += p * dy[j];
            }
        }
    }
}

void ref_embedding(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    (void)attrs;
    const int64_t width = in[1].shape[1];
    for (int64_t i = 0; i < out->numel; i++) {
        out->data[i] = in[1].data[(int64_t)in[0].data[i / width] * width + i % width];
    }
}

void ref_embedding_backward(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    const int64_t width = out->shape[1];
    zero(out);
    for (int64_t i = 0; i < in[0].numel; i++) {
        const int64_t id = (int64_t)in[1].data[i / width];
        out->data[id * width + i % width] += id != attrs->i[3] - 1 ? in[0].data[i] : 0;
    }
}

void ref_cross_entropy(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    const int64_t n = in[0].shape[in[0].n_dims - 1];
    out[0].data[0] = 0;
    out[2].data[0] = 0;
    for (int64_t row = 0; row < in[1].numel; row++) {
        const double *x = in[0].data + row * n;
        const int64_t target = (int64_t)in[1].data[row];
        double sum_exp = 0, mean = 0;
        int64_t best = 0;
        for (int64_t i = 0; i < n; i++) {
            sum_exp += exp(x[i]);
            mean += x[i] / (double)n;
            best = x[i] > x[best] ? i : best;
        }
        out[1].data[row] = log(sum_exp);
        if (target != attrs->i[0]) {
            const double smoothing = attrs->f[1];
            out[0].data[0] += attrs->f[0] * (log(sum_exp) - (1 - smoothing) * x[target] - smoothing * mean);
            out[2].data[0] += best == target;
        }
    }
}

void ref_cross_entropy_slope(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    const int64_t n = in[0].shape[in[0].n_dims - 1];
    double loss = 0;
    int64_t n_correct = 0;
    for (int64_t row = 0; row < in[1].numel; row++) {
        const double *x = in[0].data + row * n;
        const int64_t target = (int64_t)in[1].data[row];
        double sum = 0, total = 0;
        int64_t largest = 0;
        for (int64_t v = 0; v < n; v++) {
            sum += exp(x[v]);
            largest = x[v] > x[largest] ? v : largest;
        }
        for (int64_t v = 0; v < n; v++) { /* the share of class v in the row's targets */
            const double share = attrs->f[1] / (double)n + (v == target ? 1 - attrs->f[1] : 0);
            const double weighted = target != attrs->i[0] ? share * (in[2].data != NULL ? in[2].data[v] : 1) : 0;
            loss += weighted * (log(sum) - x[v]);
            out[0].data[row * n + v] = -attrs->f[0] * weighted;
            total += weighted;
        }
        for (int64_t v = 0; v < n; v++) {
            out[0].data[row * n + v] += attrs->f[0] * total * exp(x[v]) / sum;
        }
        n_correct += target == largest && target != attrs->i[0];
    }
    out[1].data[0] = attrs->f[0] * loss;
    out[2].data[0] = (double)n_correct;
}

void ref_cross_entropy_backward(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    const int64_t n = in[1].shape[in[1].n_dims - 1];
    for (int64_t i = 0; i < out->numel; i++) {
        const int64_t target = (int64_t)in[2].data[i / n];
        const double onehot = i % n == target ? 1 - attrs->f[1] : 0;
        const double d = exp(in[1].data[i] - in[3].data[i / n]) - onehot - attrs->f[1] / (double)n;
        out->data[i] = target == attrs->i[0] ? 0 : attrs->f[0] * in[0].data[0] * d;
    }
}

void ref_mse(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    out->data[0] = 0;
    for (int64_t i = 0; i < in[0].numel; i++) {
        out->data[0] += attrs->f[0] * (in[0].data[i] - in[1].data[i]) * (in[0].data[i] - in[1].data[i]);
    }
}

void ref_mse_backward(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    for (int64_t i = 0; i < out->numel; i++) {
        out->data[i] = 2 * attrs->f[0] * in[0].data[0] * (in[1].data[i] - in[2].data[i]);
    }
}
