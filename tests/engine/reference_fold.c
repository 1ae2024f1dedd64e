/* SPDX-License-Identifier: Apache-2.0 */
/* reference_fold: reductions besides sum and mean, as plain loops over float64. */
#include <math.h>

#include "tests/engine/reference_tensor.h"

/* Joins a value to what an output has so far; is_first: it has none. */
typedef double (*join_func_t)(double sum, double value, bool is_first, double p);

static void fold(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out, double start, join_func_t join)
{
    for (int64_t to = 0; to < out->numel; to++) {
        out->data[to] = start;
        bool is_first = true;
        for (int64_t flat = 0; flat < in->numel; flat++) {
            int64_t index[GD_MAX_DIMS];
            int64_t place = 0;
            ref_index(in, flat, index);
            for (int d = 0; d < in->n_dims; d++) {
                if ((attrs->i[0] >> d & 1) == 0) {
                    place = place * in->shape[d] + index[d];
                }
            }
            if (place == to) {
                out->data[to] = join(out->data[to], in->data[flat], is_first, attrs->f[0]);
                is_first = false;
            }
        }
    }
}

static double join_max(double sum, double value, bool is_first, double p)
{
    (void)p;
    return is_first || value > sum ? value : sum;
}

static double join_min(double sum, double value, bool is_first, double p)
{
    (void)p;
    return is_first || value < sum ? value : sum;
}

static double join_prod(double sum, double value, bool is_first, double p)
{
    (void)is_first;
    (void)p;
    return sum * value;
}

static double join_any(double sum, double value, bool is_first, double p)
{
    (void)is_first;
    (void)p;
    return sum != 0 || value != 0;
}

static double join_all(double sum, double value, bool is_first, double p)
{
    (void)is_first;
    (void)p;
    return sum != 0 && value != 0;
}

static double join_norm(double sum, double value, bool is_first, double p)
{
    const double magnitude = fabs(value);
    return isinf(p) ? (p > 0 ? join_max : join_min)(sum, magnitude, is_first, p) : sum + pow(magnitude, p);
}

void ref_amax(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    fold(in, attrs, out, 0, join_max);
}

void ref_amin(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    fold(in, attrs, out, 0, join_min);
}

void ref_prod(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    fold(in, attrs, out, 1, join_prod);
}

void ref_any(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    fold(in, attrs, out, 0, join_any);
}

void ref_all(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    fold(in, attrs, out, 1, join_all);
}

void ref_norm(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    const double p = attrs->f[0];
    fold(in, attrs, out, 0, join_norm);
    for (int64_t i = 0; i < out->numel && !isinf(p) && p != 0; i++) {
        out->data[i] = pow(out->data[i], 1 / p);
    }
}

/* The extremum first, then the first element that equals it. */
static void place_find(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out, join_func_t join)
{
    fold(in, attrs, out, 0, join);
    for (int64_t to = 0; to < out->numel; to++) {
        const double extremum = out->data[to];
        bool is_found = false;
        for (int64_t flat = 0; flat < in->numel && !is_found; flat++) {
            int64_t index[GD_MAX_DIMS];
            int64_t kept = 0;
            int64_t reduced = 0;
            ref_index(in, flat, index);
            for (int d = 0; d < in->n_dims; d++) {
                int64_t *place = (attrs->i[0] >> d & 1) == 0 ? &kept : &reduced;
                *place = *place * in->shape[d] + index[d];
            }
            if (kept == to && in->data[flat] == extremum) {
                out->data[to] = (double)reduced;
                is_found = true;
            }
        }
    }
}

void ref_argmax(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    place_find(in, attrs, out, join_max);
}

void ref_argmin(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    place_find(in, attrs, out, join_min);
}
