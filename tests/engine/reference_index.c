/* SPDX-License-Identifier: Apache-2.0 */
/* reference_index: joining, selection, sorting, views and running sums, as plain loops over float64. */
#include <math.h>

#include "tests/engine/reference_tensor.h"

/* The element's place in t, whose sizes aren't broadcast. */
static int64_t place_of(const ref_tensor_t *t, const int64_t *index)
{
    int64_t flat = 0;
    for (int d = 0; d < t->n_dims; d++) {
        flat = flat * t->shape[d] + index[d];
    }
    return flat;
}

void ref_cat(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    for (int64_t flat = 0; flat < out->numel; flat++) {
        int64_t index[GD_MAX_DIMS];
        const ref_tensor_t *part = in;
        ref_index(out, flat, index);
        while (index[attrs->i[0]] >= part->shape[attrs->i[0]]) {
            index[attrs->i[0]] -= part->shape[attrs->i[0]];
            part++;
        }
        out->data[flat] = part->data[place_of(part, index)];
    }
}

void ref_gather(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    for (int64_t flat = 0; flat < out->numel; flat++) {
        int64_t index[GD_MAX_DIMS];
        ref_index(out, flat, index);
        index[attrs->i[0]] = (int64_t)in[1].data[flat];
        out->data[flat] = in[0].data[place_of(&in[0], index)];
    }
}

void ref_scatter(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    for (int64_t flat = 0; flat < out->numel; flat++) {
        out->data[flat] = in[2].data != NULL ? in[2].data[flat] : 0;
    }
    for (int64_t flat = 0; flat < in[0].numel; flat++) {
        int64_t index[GD_MAX_DIMS];
        ref_index(&in[0], flat, index);
        index[attrs->i[0]] = (int64_t)in[1].data[flat];
        double *to = &out->data[place_of(out, index)];
        *to = ref_as(out->dtype, attrs->i[1] != 0 ? *to + in[0].data[flat] : in[0].data[flat]);
    }
}

void ref_nonzero(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    (void)attrs;
    double *to = out->data;
    for (int64_t flat = 0; flat < in->numel; flat++) {
        int64_t index[GD_MAX_DIMS];
        ref_index(in, flat, index);
        for (int d = 0; d < in->n_dims && in->data[flat] != 0; d++) {
            *to++ = (double)index[d];
        }
    }
}

/* Each element's rank in its line, counted. */
void ref_sort(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    const int64_t axis = attrs->i[0];
    for (int64_t flat = 0; flat < in->numel; flat++) {
        int64_t index[GD_MAX_DIMS] = {0};
        int64_t other[GD_MAX_DIMS] = {0};
        int64_t rank = 0;
        ref_index(in, flat, index);
        ref_index(in, flat, other);
        for (int64_t j = 0; in->n_dims > 0 && j < in->shape[axis]; j++) {
            other[axis] = j;
            const double mine = in->data[flat];
            const double that = in->data[place_of(in, other)];
            rank += (attrs->i[1] != 0 ? that > mine : that < mine) || (that == mine && j < index[axis]);
        }
        other[axis] = rank;
        out[0].data[place_of(in, other)] = in->data[flat];
        out[1].data[place_of(in, other)] = (double)index[axis];
    }
}

static void scan(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out, bool is_product)
{
    const int64_t axis = attrs->i[0];
    for (int64_t flat = 0; flat < in->numel; flat++) {
        int64_t index[GD_MAX_DIMS] = {0};
        double sum = is_product;
        ref_index(in, flat, index);
        const int64_t end = index[axis];
        const int64_t size = in->n_dims > 0 ? in->shape[axis] : 1;
        for (int64_t j = 0; j < size; j++) {
            index[axis] = j;
            if (attrs->i[1] != 0 ? j >= end : j <= end) {
                const double value = in->data[place_of(in, index)];
                sum = is_product ? sum * value : sum + value;
            }
        }
        out->data[flat] = sum;
    }
}

void ref_cumsum(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    scan(in, attrs, out, false);
}

void ref_cumprod(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    scan(in, attrs, out, true);
}

void ref_as_strided(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    for (int64_t flat = 0; flat < out->numel; flat++) {
        int64_t index[GD_MAX_DIMS];
        int64_t at = attrs->i[1];
        ref_index(out, flat, index);
        for (int d = 0; d < out->n_dims; d++) {
            at += index[d] * attrs->i[2 + GD_MAX_DIMS + d];
        }
        out->data[flat] = in->data[at];
    }
}

void ref_diagonal(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    for (int64_t flat = 0; flat < out->numel; flat++) {
        int64_t index[GD_MAX_DIMS];
        int64_t from[GD_MAX_DIMS];
        int n = 0;
        ref_index(out, flat, index);
        const int64_t i = index[out->n_dims - 1];
        for (int d = 0; d < in->n_dims; d++) {
            from[d] = d == attrs->i[1]   ? i + (attrs->i[0] < 0 ? -attrs->i[0] : 0)
                      : d == attrs->i[2] ? i + (attrs->i[0] > 0 ? attrs->i[0] : 0)
                                         : index[n++];
        }
        out->data[flat] = in->data[place_of(in, from)];
    }
}

void ref_flip(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    for (int64_t flat = 0; flat < out->numel; flat++) {
        int64_t index[GD_MAX_DIMS];
        ref_index(out, flat, index);
        for (int d = 0; d < in->n_dims; d++) {
            index[d] = (attrs->i[0] >> d & 1) != 0 ? in->shape[d] - 1 - index[d] : index[d];
        }
        out->data[flat] = in->data[place_of(in, index)];
    }
}

void ref_pad(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    for (int64_t flat = 0; flat < out->numel; flat++) {
        int64_t index[GD_MAX_DIMS];
        bool is_inside = true;
        ref_index(out, flat, index);
        for (int d = 0; d < in->n_dims; d++) {
            index[d] -= attrs->i[d];
            is_inside = is_inside && index[d] >= 0 && index[d] < in->shape[d];
        }
        out->data[flat] = is_inside ? in->data[place_of(in, index)] : attrs->f[0];
    }
}

static void triangle(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    for (int64_t flat = 0; flat < out->numel; flat++) {
        int64_t index[GD_MAX_DIMS];
        ref_index(out, flat, index);
        const int64_t above = index[out->n_dims - 1] - index[out->n_dims - 2] - attrs->i[0];
        out->data[flat] = (attrs->i[1] != 0 ? above >= 0 : above <= 0) ? in->data[flat] : 0;
    }
}

void ref_tril(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    triangle(in, attrs, out);
}

void ref_triu(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    triangle(in, attrs, out);
}
