/* SPDX-License-Identifier: Apache-2.0 */
/* reference_rnn: the loops of engine/ops/rnn.c, one element after the other. */
#include <math.h>

#include "base/mem.h"
#include "gradd/ops.h"
#include "tests/engine/reference_sequence.h"

typedef struct sizes {
    int64_t kind, n_gates, length, batch, width, out;
    bool is_reverse;
} sizes_t;

static sizes_t sizes_get(const gd_attrs_t *attrs, const ref_tensor_t *gates, int64_t out)
{
    const int64_t n_gates = attrs->i[0] == GD_RNN_LSTM ? 4 : attrs->i[0] == GD_RNN_GRU ? 3 : 1;
    return (sizes_t){.kind = attrs->i[0],
                     .n_gates = n_gates,
                     .length = gates->shape[0],
                     .batch = gates->shape[1],
                     .width = gates->shape[2] / n_gates,
                     .out = out,
                     .is_reverse = attrs->i[1] != 0};
}

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

/* The time of step i; *before_p: the one before it, -1 for none. */
static int64_t time_of(const sizes_t *s, int64_t i, int64_t *before_p)
{
    const int64_t t = s->is_reverse ? s->length - 1 - i : i;
    *before_p = i == 0 ? -1 : s->is_reverse ? t + 1 : t - 1;
    return t;
}

/* Element u of row b of the state at time t, or of the first one. */
static double state_at(const ref_tensor_t *states, const ref_tensor_t *first, const sizes_t *s, int64_t t, int64_t b,
                       int64_t width, int64_t u)
{
    if (t >= 0) {
        return states->data[(t * s->batch + b) * width + u];
    }
    return first->data != NULL ? first->data[b * width + u] : 0;
}

void ref_rnn(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    const sizes_t s = sizes_get(attrs, &in[0], out[0].shape[2]);
    const int64_t g_size = s.n_gates * s.width;
    for (int64_t i = 0; i < s.length * s.batch; i++) {
        int64_t before = 0;
        const int64_t t = time_of(&s, i / s.batch, &before), b = i % s.batch, at = t * s.batch + b;
        for (int64_t j = 0; j < s.width; j++) {
            double pre[4], hidden[4];
            for (int64_t g = 0; g < s.n_gates; g++) {
                const int64_t row = g * s.width + j;
                hidden[g] = in[2].data != NULL ? in[2].data[row] : 0;
                for (int64_t k = 0; k < s.out; k++) {
                    hidden[g] += in[1].data[row * s.out + k] * state_at(&out[0], &in[4], &s, before, b, s.out, k);
                }
                pre[g] = in[0].data[at * g_size + row] + hidden[g];
            }
            double *gate = out[1].data + at * g_size + j;
            double h = 0;
            if (s.kind == GD_RNN_LSTM) {
                gate[0] = sigmoid(pre[0]);
                gate[s.width] = sigmoid(pre[1]);
                gate[2 * s.width] = tanh(pre[2]);
                gate[3 * s.width] = sigmoid(pre[3]);
                const double c =
                    gate[s.width] * state_at(&out[2], &in[5], &s, before, b, s.width, j) + gate[0] * gate[2 * s.width];
                out[2].data[at * s.width + j] = c;
                h = gate[3 * s.width] * tanh(c);
            } else if (s.kind == GD_RNN_GRU) {
                gate[0] = sigmoid(pre[0]);
                gate[s.width] = sigmoid(pre[1]);
                gate[2 * s.width] = tanh(in[0].data[at * g_size + 2 * s.width + j] + gate[0] * hidden[2]);
                out[2].data[at * s.width + j] = hidden[2];
                h = (1 - gate[s.width]) * gate[2 * s.width] +
                    gate[s.width] * state_at(&out[0], &in[4], &s, before, b, s.out, j);
            } else {
                h = gate[0] = s.kind == GD_RNN_TANH ? tanh(pre[0]) : fmax(pre[0], 0);
            }
            (in[3].data != NULL ? out[3].data : out[0].data)[at * s.width + j] = h;
        }
        for (int64_t k = 0; k < s.out && in[3].data != NULL; k++) {
            double sum = 0;
            for (int64_t j = 0; j < s.width; j++) {
                sum += in[3].data[k * s.width + j] * out[3].data[at * s.width + j];
            }
            out[0].data[at * s.out + k] = sum;
        }
    }
}

/* The gates' gradients at (at, j) from dh; carry: of the row's unit, to the step before. */
static void unit_backward(const ref_tensor_t *in, const sizes_t *s, int64_t at, int64_t before, int64_t j, double dh,
                          ref_tensor_t *out, double *carry)
{
    const int64_t g_size = s->n_gates * s->width, b = at % s->batch;
    const double *gate = in[2].data + at * g_size + j;
    double *dx = out[0].data + at * g_size + j;
    if (s->kind == GD_RNN_LSTM) {
        const double i = gate[0], f = gate[s->width], g = gate[2 * s->width], o = gate[3 * s->width];
        const double tc = tanh(in[3].data[at * s->width + j]);
        const double dc = *carry + dh * o * (1 - tc * tc);
        dx[0] = dc * g * i * (1 - i);
        dx[s->width] = dc * state_at(&in[3], &in[7], s, before, b, s->width, j) * f * (1 - f);
        dx[2 * s->width] = dc * i * (1 - g * g);
        dx[3 * s->width] = dh * tc * o * (1 - o);
        *carry = dc * f;
    } else if (s->kind == GD_RNN_GRU) {
        const double r = gate[0], z = gate[s->width], n = gate[2 * s->width];
        const double share = in[3].data[at * s->width + j];
        const double h_before = state_at(&in[4], &in[6], s, before, b, s->out, j);
        double *dhidden = out[1].data + at * g_size + j;
        dx[2 * s->width] = dh * (1 - z) * (1 - n * n);
        dx[s->width] = dh * (h_before - n) * z * (1 - z);
        dx[0] = dx[2 * s->width] * share * r * (1 - r);
        dhidden[0] = dx[0];
        dhidden[s->width] = dx[s->width];
        dhidden[2 * s->width] = dx[2 * s->width] * r;
        *carry = dh * z;
    } else {
        dx[0] = s->kind == GD_RNN_TANH ? dh * (1 - gate[0] * gate[0]) : gate[0] > 0 ? dh : 0;
    }
}

void ref_rnn_backward(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    const sizes_t s = sizes_get(attrs, &in[2], in[0].shape[2]);
    const int64_t g_size = s.n_gates * s.width;
    double *carry = mem_calloc((size_t)(s.batch * s.width + 1), sizeof(double));
    double *dh = mem_calloc((size_t)(s.batch * s.out + 1), sizeof(double)); /* to the state before, through the gates */
    for (int64_t i = s.length - 1; i >= 0; i--) {
        int64_t before = 0;
        const int64_t t = time_of(&s, i, &before);
        for (int64_t b = 0; b < s.batch; b++) {
            const int64_t at = t * s.batch + b;
            double *row = dh + b * s.out;
            for (int64_t k = 0; k < s.out; k++) {
                row[k] += in[0].data[at * s.out + k] + (s.kind == GD_RNN_GRU ? carry[b * s.width + k] : 0);
                if (in[5].data != NULL) {
                    out[1].data[at * s.out + k] = row[k];
                }
            }
            for (int64_t j = 0; j < s.width; j++) {
                double dcell = in[5].data != NULL ? 0 : row[j];
                for (int64_t k = 0; k < s.out && in[5].data != NULL; k++) {
                    dcell += row[k] * in[5].data[k * s.width + j];
                }
                unit_backward(in, &s, at, before, j, dcell, out, &carry[b * s.width + j]);
            }
            const double *dgates = (s.kind == GD_RNN_GRU ? out[1].data : out[0].data) + at * g_size;
            for (int64_t k = 0; k < s.out; k++) {
                row[k] = 0;
                for (int64_t g = 0; g < g_size; g++) {
                    row[k] += dgates[g] * in[1].data[g * s.out + k];
                }
            }
        }
    }
    for (int64_t i = 0; i < s.batch * s.out && in[6].data != NULL; i++) {
        out[2].data[i] = dh[i] + (s.kind == GD_RNN_GRU ? carry[i] : 0);
    }
    for (int64_t i = 0; i < s.batch * s.width && in[7].data != NULL; i++) {
        out[3].data[i] = carry[i];
    }
    mem_free(dh);
    mem_free(carry);
}
