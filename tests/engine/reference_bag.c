/* SPDX-License-Identifier: Apache-2.0 */
/* reference_bag: unfold, fold and embedding_bag by their definitions. */
#include "tests/engine/reference_image.h"

static void zero(ref_tensor_t *t)
{
    for (int64_t i = 0; i < t->numel; i++) {
        t->data[i] = 0;
    }
}

/* Each pair of an element of the columns [B,C·KH·KW,L] and a pixel of the image [B,C,H,W] that it stands for. */
static void unfold_walk(const ref_tensor_t *image, const ref_tensor_t *columns, const gd_attrs_t *attrs, int is_fold)
{
    const int64_t kh = attrs->i[0], kw = attrs->i[1], h = image->shape[2], w = image->shape[3];
    const int64_t ow = (w + 2 * attrs->i[5] - attrs->i[7] * (kw - 1) - 1) / attrs->i[3] + 1;
    const int64_t n = columns->shape[2];
    for (int64_t i = 0; i < columns->numel; i++) {
        const int64_t k = i / n % (kh * kw), plane = i / n / (kh * kw);
        const int64_t row = i % n / ow * attrs->i[2] - attrs->i[4] + k / kw * attrs->i[6];
        const int64_t column = i % n % ow * attrs->i[3] - attrs->i[5] + k % kw * attrs->i[7];
        const int is_inside = row >= 0 && row < h && column >= 0 && column < w;
        double *pixel = is_inside ? image->data + (plane * h + row) * w + column : NULL;
        if (is_inside && is_fold) {
            *pixel += columns->data[i];
        } else if (!is_fold) {
            columns->data[i] = is_inside ? *pixel : 0;
        }
    }
}

void ref_unfold(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    unfold_walk(&in[0], out, attrs, 0);
}

void ref_fold(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    zero(out);
    unfold_walk(out, &in[0], attrs, 1);
}

/* Bag of the id at a position. */
static int64_t bag_of(const ref_tensor_t *ids, const ref_tensor_t *offsets, int64_t position)
{
    if (offsets->data == NULL) {
        return position / ids->shape[1];
    }
    int64_t bag = 0;
    while (bag + 1 < offsets->numel && offsets->data[bag + 1] <= (double)position) {
        bag++;
    }
    return bag;
}

static double count_of(const ref_tensor_t *ids, const ref_tensor_t *offsets, const gd_attrs_t *attrs, int64_t bag)
{
    double n = 0;
    for (int64_t i = 0; i < ids->numel; i++) {
        n += bag_of(ids, offsets, i) == bag && ids->data[i] != (double)(attrs->i[1] - 1);
    }
    return n;
}

void ref_embedding_bag(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    const int64_t width = in[1].shape[1];
    zero(&out[0]);
    for (int64_t i = 0; i < out[1].numel; i++) {
        out[1].data[i] = -1;
    }
    for (int64_t i = 0; i < in[0].numel * width; i++) {
        const int64_t place = i / width;
        const int64_t id = (int64_t)in[0].data[place], bag = bag_of(&in[0], &in[2], place);
        const double value = in[1].data[id * width + i % width];
        const int64_t at = bag * width + i % width;
        if (id == attrs->i[1] - 1) {
            continue;
        }
        if (attrs->i[0] < 2) {
            out[0].data[at] += attrs->i[0] == 1 ? value / count_of(&in[0], &in[2], attrs, bag) : value;
        } else if (out[1].data[at] < 0 || value > out[0].data[at]) {
            out[0].data[at] = value;
            out[1].data[at] = (double)place;
        }
    }
}

void ref_embedding_bag_backward(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    const int64_t width = in[0].shape[1];
    zero(out);
    for (int64_t i = 0; i < in[1].numel * width; i++) {
        const int64_t place = i / width;
        const int64_t id = (int64_t)in[1].data[place], bag = bag_of(&in[1], &in[3], place);
        const int64_t at = bag * width + i % width;
        const double dy = in[0].data[at];
        if (id == attrs->i[1] - 1) {
            continue;
        }
        out->data[id * width + i % width] += attrs->i[0] == 0   ? dy
                                             : attrs->i[0] == 1 ? dy / count_of(&in[1], &in[3], attrs, bag)
                                             : in[2].data[at] == (double)place ? dy
                                                                               : 0;
    }
}
