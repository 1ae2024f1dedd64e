/* SPDX-License-Identifier: Apache-2.0 */
/* reference_index_put: places from several indices, and values brought together at them, as plain loops. */
#include <math.h>

#include "gradd/index.h"
#include "tests/engine/reference_tensor.h"

static int64_t place_of(const ref_tensor_t *t, const int64_t *index)
{
    int64_t flat = 0;
    for (int d = 0; d < t->n_dims; d++) {
        flat = flat * t->shape[d] + index[d];
    }
    return flat;
}

void ref_index_places(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    for (int64_t flat = 0; flat < out->numel; flat++) {
        int64_t index[GD_MAX_DIMS];
        double place = 0;
        ref_index(out, flat, index);
        for (int k = 0; k < GD_MAX_IN && in[k].data != NULL; k++) {
            const double at = ref_at(&in[k], out->n_dims, index);
            const double size = (double)attrs->i[k];
            place = place * size + (at < 0 ? at + size : at);
        }
        out->data[flat] = place;
    }
}

/* What comes to place `at` of x from source and, if it counts, from x itself; skip: the one of source left out. */
static double gather_up(const ref_tensor_t *source, const ref_tensor_t *index, const ref_tensor_t *x,
                        const gd_attrs_t *attrs, int64_t at, double *n_p)
{
    double value = NAN;
    double n = 0;
    for (int64_t flat = -1; flat < source->numel; flat++) {
        int64_t place[GD_MAX_DIMS];
        if (flat >= 0) {
            ref_index(source, flat, place);
            if (source->n_dims > 0) {
                place[attrs->i[0]] = (int64_t)index->data[flat];
            }
        }
        if (flat < 0 ? attrs->i[2] == 0 : place_of(x, place) != at) {
            continue;
        }
        const double next = flat < 0 ? x->data[at] : source->data[flat];
        value = n == 0                           ? next
                : attrs->i[1] == GD_SCATTER_PROD ? value * next
                : attrs->i[1] == GD_SCATTER_MAX  ? fmax(value, next)
                : attrs->i[1] == GD_SCATTER_MIN  ? fmin(value, next)
                                                 : value + next;
        n++;
    }
    *n_p = n;
    return n == 0 ? x->data[at] : attrs->i[1] == GD_SCATTER_MEAN ? value / n : value;
}

void ref_scatter_reduce(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    for (int64_t at = 0; at < out->numel; at++) {
        double n = 0;
        out->data[at] = gather_up(&in[0], &in[1], &in[2], attrs, at, &n);
    }
}

/* The sample is of the mean with x: the forward's gradients, of every kind, are held against differences. */
void ref_scatter_reduce_backward(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    for (int64_t at = 0; at < out[1].numel; at++) {
        double n = 0;
        (void)gather_up(&in[1], &in[2], &in[3], attrs, at, &n);
        out[1].data[at] = in[0].data[at] / n;
        for (int64_t flat = 0; flat < out[0].numel; flat++) {
            int64_t place[GD_MAX_DIMS];
            ref_index(&out[0], flat, place);
            place[attrs->i[0]] = (int64_t)in[2].data[flat];
            if (place_of(&in[3], place) == at) {
                out[0].data[flat] = in[0].data[at] / n;
            }
        }
    }
}
