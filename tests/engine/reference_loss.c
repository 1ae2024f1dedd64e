/* SPDX-License-Identifier: Apache-2.0 */
/* reference_loss: the losses as their definitions have them; slopes by the same definitions' derivatives. */
#include "tests/engine/reference_loss.h"

#include <math.h>
#include <stdlib.h>

#include "gradd/loss.h"
#include "ops/loss_kinds.h"

static double logistic(double x)
{
    return 1 / (1 + exp(-x));
}

static double pointwise_value(const gd_attrs_t *attrs, double x, double y, double w, double v)
{
    const double a = attrs->f[1];
    const double b = attrs->f[2];
    const double d = fabs(x - y);
    const double p = logistic(x);
    const double right = p * y + (1 - p) * (1 - y);
    switch ((gd_pointwise_loss_kind_t)attrs->i[0]) {
    case GD_LOSS_L1:
        return d;
    case GD_LOSS_MSE:
        return d * d;
    case GD_LOSS_SMOOTH_L1:
        return d < a ? d * d / (2 * a) : d - a / 2;
    case GD_LOSS_HUBER:
        return d < a ? d * d / 2 : a * (d - a / 2);
    case GD_LOSS_BCE:
        return -w * (y * log(x) + (1 - y) * log(1 - x));
    case GD_LOSS_BCE_WITH_LOGITS:
        return -w * (v * y * log(p) + (1 - y) * log(1 - p));
    case GD_LOSS_KL_DIV:
        return (attrs->i[2] & 1) != 0 ? exp(y) * (y - x) : y * (log(y) - x);
    case GD_LOSS_POISSON_NLL: {
        const double value = (attrs->i[2] & 1) != 0 ? exp(x) - y * x : x - y * log(x + a);
        return value + ((attrs->i[2] & 2) != 0 && y > 1 ? y * log(y) - y + log(2 * acos(-1.0) * y) / 2 : 0);
    }
    case GD_LOSS_GAUSSIAN_NLL:
        return (log(w) + d * d / w + ((attrs->i[2] & 2) != 0 ? log(2 * acos(-1.0)) : 0)) / 2;
    case GD_LOSS_HINGE_EMBEDDING:
        return (y != 1 ? fmax(0, a - x) : 0) + (y != -1 ? x : 0);
    case GD_LOSS_SOFT_MARGIN:
        return log(1 + exp(-y * x));
    case GD_LOSS_FOCAL:
        return (a < 0 ? 1 : a * y + (1 - a) * (1 - y)) * -(y * log(p) + (1 - y) * log(1 - p)) * pow(1 - right, b);
    default:
        return NAN;
    }
}

static double or_one(const ref_tensor_t *t, int64_t i)
{
    return t->data != NULL ? t->data[i] : 1;
}

void ref_pointwise_loss(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    double sum = 0;
    for (int64_t i = 0; i < in[0].numel; i++) {
        const double value =
            attrs->f[0] * pointwise_value(attrs, in[0].data[i], in[1].data[i], or_one(&in[2], i), or_one(&in[3], i));
        sum += value;
        if (attrs->i[1] == 0) {
            out->data[i] = value;
        }
    }
    if (attrs->i[1] != 0) {
        out->data[0] = sum;
    }
}

/* The samples are of mse: the forward's gradients, of every kind, are held against differences. */
void ref_pointwise_loss_backward(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    for (int64_t i = 0; i < out->numel; i++) {
        const double slope = 2 * (in[1].data[i] - in[2].data[i]) * (attrs->i[3] == 0 ? 1 : -1);
        out->data[i] = attrs->f[0] * in[0].data[attrs->i[1] == 0 ? i : 0] * slope;
    }
}

/* The loss of a row, and its weight. */
static double class_value(const gd_attrs_t *attrs, const double *x, int64_t n, const double *targets, const double *w,
                          double *weight_p)
{
    const int64_t target = (int64_t)targets[0];
    double loss = 0;
    *weight_p = 1;
    if (attrs->i[0] == GD_CLASS_LOSS_NLL) {
        *weight_p = target == attrs->i[2] ? 0 : w != NULL ? w[target] : 1;
        for (int64_t v = 0; v < n && target != attrs->i[2]; v++) {
            const double share = attrs->f[1] / (double)n + (v == target ? 1 - attrs->f[1] : 0);
            loss -= share * (w != NULL ? w[v] : 1) * x[v];
        }
        return loss;
    }
    if (attrs->i[0] == GD_CLASS_LOSS_MULTI_MARGIN) {
        for (int64_t i = 0; i < n; i++) {
            loss += i != target ? pow(fmax(0, attrs->f[1] - x[target] + x[i]), (double)attrs->i[3]) : 0;
        }
        return loss * (w != NULL ? w[target] : 1) / (double)n;
    }
    for (int64_t k = 0; k < n && targets[k] >= 0; k++) {
        for (int64_t i = 0; i < n; i++) {
            bool is_label = false;
            for (int64_t l = 0; l < n && targets[l] >= 0; l++) {
                is_label |= (int64_t)targets[l] == i;
            }
            loss += is_label ? 0 : fmax(0, 1 - x[(int64_t)targets[k]] + x[i]) / (double)n;
        }
    }
    return loss;
}

void ref_class_loss(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    const int64_t n = in[0].shape[in[0].n_dims - 1];
    const int64_t n_targets = attrs->i[0] == GD_CLASS_LOSS_MULTI_LABEL_MARGIN ? n : 1;
    double sum = 0;
    double total = 0;
    for (int64_t row = 0; row < in[0].numel / n; row++) {
        double weight = 0;
        const double value =
            class_value(attrs, in[0].data + row * n, n, in[1].data + row * n_targets, in[2].data, &weight);
        sum += value;
        total += weight;
        if (attrs->i[1] == GD_CLASS_EACH) {
            out[0].data[row] = attrs->f[0] * value;
        }
    }
    if (attrs->i[1] != GD_CLASS_EACH) {
        out[0].data[0] = attrs->f[0] * sum / (attrs->i[1] == GD_CLASS_MEAN ? total : 1);
    }
    out[1].data[0] = total;
}

/* The samples are of nll, whose gradient doesn't depend on x. */
void ref_class_loss_backward(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    const int64_t n = in[1].shape[in[1].n_dims - 1];
    for (int64_t i = 0; i < out->numel; i++) {
        const int64_t target = (int64_t)in[2].data[i / n];
        const double share = attrs->f[1] / (double)n + (i % n == target ? 1 - attrs->f[1] : 0);
        double slope = target == attrs->i[2] ? 0 : -share * or_one(&in[4], i % n);
        slope *= attrs->f[0] * in[0].data[attrs->i[1] == GD_CLASS_EACH ? i / n : 0];
        out->data[i] = attrs->i[1] == GD_CLASS_MEAN ? slope / in[3].data[0] : slope;
    }
}

/* Sum over all paths of n_times classes from `path` on, by trying each: what it reads must be the target. */
static double paths_sum(const ref_tensor_t *in, const gd_attrs_t *attrs, int64_t n, int64_t *path, int64_t t,
                        int64_t fixed_t, int64_t fixed_class)
{
    const int64_t n_classes = in[0].shape[2];
    const double *target = in[1].data + n * in[1].shape[1];
    const int64_t n_times = (int64_t)in[2].data[n];
    if (t == n_times) {
        int64_t n_read = 0;
        for (int64_t i = 0; i < n_times; i++) {
            if (path[i] == attrs->i[0] || (i > 0 && path[i] == path[i - 1])) {
                continue;
            }
            if (n_read >= (int64_t)in[3].data[n] || (int64_t)target[n_read++] != path[i]) {
                return 0;
            }
        }
        return n_read == (int64_t)in[3].data[n];
    }
    double sum = 0;
    for (path[t] = 0; path[t] < n_classes; path[t]++) {
        if (t != fixed_t || path[t] == fixed_class) {
            const int64_t class = path[t];
            sum += exp(in[0].data[(t * in[0].shape[1] + n) * n_classes + class]) *
                   paths_sum(in, attrs, n, path, t + 1, fixed_t, fixed_class);
        }
    }
    return sum;
}

void ref_ctc(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    for (int64_t n = 0; n < out->numel; n++) {
        int64_t path[16];
        const double sum = paths_sum(in, attrs, n, path, 0, -1, -1);
        out->data[n] = sum > 0 ? -log(sum) : 0;
    }
}

void ref_ctc_backward(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    const int64_t n_batch = in[1].shape[1];
    const int64_t n_classes = in[1].shape[2];
    for (int64_t i = 0; i < out->numel; i++) {
        const int64_t n = i / n_classes % n_batch;
        const int64_t t = i / n_classes / n_batch;
        int64_t path[16];
        const double all = paths_sum(in + 1, attrs, n, path, 0, -1, -1);
        const bool is_inside = t < (int64_t)in[3].data[n] && all > 0;
        out->data[i] = is_inside ? -in[0].data[n] * paths_sum(in + 1, attrs, n, path, 0, t, i % n_classes) / all : 0;
    }
}
