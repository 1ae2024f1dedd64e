/* SPDX-License-Identifier: Apache-2.0 */
/* reference_window: convolution and pooling over one to three axes, by their definitions. */
#include <math.h>

#include "tests/engine/reference_image.h"

/* Spatial sizes as depth, height, width; 1 where there is no such axis. */
static void sizes_get(const ref_tensor_t *t, int64_t sizes[3])
{
    for (int d = 0; d < 3; d++) {
        const int own = d - (5 - t->n_dims);
        sizes[d] = own >= 0 ? t->shape[2 + own] : 1;
    }
}

static void zero(ref_tensor_t *t)
{
    for (int64_t i = 0; i < t->numel; i++) {
        t->data[i] = 0;
    }
}

typedef enum wanted { WANTED_Y, WANTED_X, WANTED_WEIGHT } wanted_t;

/* Adds every product of two of x, weight and y to the third. */
static void conv_walk(const ref_tensor_t *x, const ref_tensor_t *weight, const ref_tensor_t *y, const gd_attrs_t *attrs,
                      wanted_t wanted)
{
    int64_t in[3], out[3], kernel[3];
    sizes_get(x, in);
    sizes_get(y, out);
    sizes_get(weight, kernel);
    const int64_t n_out = out[0] * out[1] * out[2], n_kernel = kernel[0] * kernel[1] * kernel[2];
    const int64_t c_group = weight->shape[1], o_group = weight->shape[0] / attrs->i[9];
    for (int64_t i = 0; i < y->numel; i++) {
        const int64_t b = i / n_out / y->shape[1], o = i / n_out % y->shape[1];
        for (int64_t k = 0; k < c_group * n_kernel; k++) {
            int64_t at_out = i % n_out, at_kernel = k % n_kernel, at = 0, scale = 1;
            int is_inside = 1;
            for (int d = 2; d >= 0; d--) {
                const int64_t p =
                    at_out % out[d] * attrs->i[d] - attrs->i[3 + d] + at_kernel % kernel[d] * attrs->i[6 + d];
                is_inside = is_inside && p >= 0 && p < in[d];
                at += p * scale;
                scale *= in[d];
                at_out /= out[d];
                at_kernel /= kernel[d];
            }
            if (!is_inside) {
                continue;
            }
            const int64_t c = o / o_group * c_group + k / n_kernel;
            double *px = x->data + (b * x->shape[1] + c) * scale + at;
            double *pw = weight->data + o * c_group * n_kernel + k;
            double *py = y->data + i;
            if (wanted == WANTED_Y) {
                *py += *px * *pw;
            } else if (wanted == WANTED_X) {
                *px += *py * *pw;
            } else {
                *pw += *px * *py;
            }
        }
    }
}

static void bias_add(const ref_tensor_t *bias, ref_tensor_t *y)
{
    for (int64_t i = 0; i < y->numel && bias->data != NULL; i++) {
        y->data[i] += bias->data[i / (y->numel / y->shape[0] / y->shape[1]) % y->shape[1]];
    }
}

void ref_conv3d(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    zero(out);
    conv_walk(&in[0], &in[1], out, attrs, WANTED_Y);
    bias_add(&in[2], out);
}

void ref_conv3d_backward_input(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    zero(out);
    conv_walk(out, &in[1], &in[0], attrs, WANTED_X);
}

void ref_conv3d_backward_weight(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    zero(&out[0]);
    zero(&out[1]);
    conv_walk(&in[1], &out[0], &in[0], attrs, WANTED_WEIGHT);
    for (int64_t i = 0; i < in[0].numel && attrs->i[13] == 0; i++) {
        out[1].data[i / (in[0].numel / in[0].shape[0] / in[0].shape[1]) % in[0].shape[1]] += in[0].data[i];
    }
}

void ref_conv_transpose(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    zero(out);
    conv_walk(out, &in[1], &in[0], attrs, WANTED_X);
    bias_add(&in[2], out);
}

/* First position of output i's window along axis d, one past the last, and what counts in an average. */
typedef struct window {
    int64_t begin, end, counted;
} window_t;

static window_t window_get(const gd_attrs_t *attrs, int d, int64_t i, int64_t in, int64_t out)
{
    if ((attrs->i[12] & 4) != 0) {
        const int64_t begin = (int64_t)floor((double)(i * in) / (double)out);
        const int64_t end = (int64_t)ceil((double)((i + 1) * in) / (double)out);
        return (window_t){begin, end, end - begin};
    }
    const int64_t begin = i * attrs->i[3 + d] - attrs->i[6 + d];
    const int64_t end = begin + attrs->i[9 + d] * (attrs->i[d] - 1) + 1;
    const int64_t padded = (end < in + attrs->i[6 + d] ? end : in + attrs->i[6 + d]) - begin;
    const int64_t inside = (end < in ? end : in) - (begin > 0 ? begin : 0);
    return (window_t){begin, end, (attrs->i[12] & 2) != 0 ? inside : padded};
}

/* Calls for every output and position of its window in the plane (sizes of x). */
typedef void (*visit_func_t)(void *arg, int64_t x, int64_t y, double share);
static void pool_walk(const ref_tensor_t *x, const ref_tensor_t *y, const gd_attrs_t *attrs, visit_func_t visit,
                      void *arg)
{
    int64_t in[3], out[3];
    sizes_get(x, in);
    sizes_get(y, out);
    const int64_t n_in = in[0] * in[1] * in[2], n_out = out[0] * out[1] * out[2];
    for (int64_t i = 0; i < y->numel; i++) {
        const int64_t at = i % n_out;
        const int64_t index[3] = {at / out[2] / out[1], at / out[2] % out[1], at % out[2]};
        window_t w[3];
        for (int d = 0; d < 3; d++) {
            w[d] = window_get(attrs, d, index[d], in[d], out[d]);
        }
        const double share = 1 / (double)(w[0].counted * w[1].counted * w[2].counted);
        for (int64_t k = 0; k < n_in; k++) {
            const int64_t p[3] = {k / in[2] / in[1], k / in[2] % in[1], k % in[2]};
            int is_inside = 1;
            for (int d = 0; d < 3; d++) {
                is_inside =
                    is_inside && p[d] >= w[d].begin && p[d] < w[d].end && (p[d] - w[d].begin) % attrs->i[9 + d] == 0;
            }
            if (is_inside) {
                visit(arg, i / n_out * n_in + k, i, share);
            }
        }
    }
}

typedef struct pooled {
    const double *from;
    double *to;
    double *position;
    int64_t n_in;
} pooled_t;

static void visit_max(void *arg, int64_t x, int64_t y, double share)
{
    (void)share;
    const pooled_t *p = arg;
    if (p->position[y] < 0 || p->from[x] > p->to[y]) {
        p->to[y] = p->from[x];
        p->position[y] = (double)(x % p->n_in);
    }
}

void ref_max_pool(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    for (int64_t i = 0; i < out[1].numel; i++) {
        out[1].data[i] = -1;
    }
    pooled_t p = {in[0].data, out[0].data, out[1].data, 1};
    for (int d = 2; d < in[0].n_dims; d++) {
        p.n_in *= in[0].shape[d];
    }
    pool_walk(&in[0], &out[0], attrs, visit_max, &p);
}

void ref_max_pool_backward(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    (void)attrs;
    int64_t n_in = 1, n_out = 1;
    for (int d = 2; d < out->n_dims; d++) {
        n_in *= out->shape[d];
        n_out *= in[0].shape[d];
    }
    zero(out);
    for (int64_t i = 0; i < in[0].numel; i++) {
        out->data[i / n_out * n_in + (int64_t)in[1].data[i]] += in[0].data[i];
    }
}

static void visit_avg(void *arg, int64_t x, int64_t y, double share)
{
    const pooled_t *p = arg;
    p->to[y] += p->from[x] * share;
}

void ref_avg_pool(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    pooled_t p = {in[0].data, out[0].data, NULL, 0};
    zero(out);
    pool_walk(&in[0], &out[0], attrs, visit_avg, &p);
}

static void visit_avg_backward(void *arg, int64_t x, int64_t y, double share)
{
    const pooled_t *p = arg;
    p->to[x] += p->from[y] * share;
}

void ref_avg_pool_backward(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    pooled_t p = {in[0].data, out[0].data, NULL, 0};
    zero(out);
    pool_walk(out, &in[0], attrs, visit_avg_backward, &p);
}
