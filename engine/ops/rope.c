/* SPDX-License-Identifier: Apache-2.0 */
/* ops/rope: rotary position embedding; its gradient is the rotation back. */
#include "ops/helpers.h"

enum { MAX_ROTATED = 1024 };

static status_t rope_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    const gd_tensor_t *x = in[0];
    const int64_t n_heads = attrs->i[0];
    const int64_t rotated = attrs->i[1];
    if (x->n_dims != 3 || n_heads < 1 || x->shape[2] % n_heads != 0) {
        return gd_op_fail_shapes(ST_ERR_SHAPE, "rope", x, NULL, "[batch, time, heads x width] is needed");
    }
    if (rotated < 2 || rotated % 2 != 0 || rotated > x->shape[2] / n_heads || rotated > MAX_ROTATED) {
        return ST_FAIL(ST_ERR_RANGE, "rope: %lld rotated features of a head of %lld: an even number of at most %d",
                       (long long)rotated, (long long)(x->shape[2] / n_heads), MAX_ROTATED);
    }
    if (attrs->i[2] < 0 || !(attrs->f[0] > 0)) {
        return ST_FAIL(ST_ERR_RANGE, "rope: first position %lld, theta %g", (long long)attrs->i[2], attrs->f[0]);
    }
    if (!(attrs->f[1] >= 0) || attrs->i[5] < 0 ||
        (attrs->f[1] > 0 && attrs->i[5] > 0 && !(attrs->f[2] > 0 && attrs->f[3] > attrs->f[2]))) {
        return ST_FAIL(ST_ERR_RANGE, "rope: scaled by %g from a context of %lld between factors %g and %g", attrs->f[1],
                       (long long)attrs->i[5], attrs->f[2], attrs->f[3]);
    }
    return gd_infer_like(in, n_in, attrs, out);
}

static status_t rope_gradient(gd_node_t *node, gd_tensor_t *dy, gd_tensor_t **dx)
{
    gd_attrs_t attrs = node->attrs;
    attrs.i[4] = !attrs.i[4];
    return gd_op_apply(GD_OP_ROPE, &dy, 1, &attrs, dx);
}

const gd_op_t gd_op_rope = {
    .name = "rope",
    .formula =
        "(y_i, y_j) = (x_i, x_j) turned by t r, r = theta^(-2i/R), j = i + R/2; scaled: t r / f1, or with i5 t r "
        "(s + (1 - s) / f1), s = (i5 r / 2pi - f2) / (f3 - f2) within 0 … 1",
    .attrs = "i0 heads; i1 rotated features R; i2 first position; i3 interleaved: pairs (2i, 2i+1); i4 back; i5 old "
             "context, 0: none; f0 theta; f1 scaling, 0: none; f2 low factor; f3 high factor",
    .n_in = 1,
    .n_in_required = 1,
    .n_out = 1,
    .dtypes = OPS_DTYPES_FLOAT,
    .by_conversion = OPS_DTYPES_HALF,
    .saves = GD_SAVE_NONE,
    .contiguous_in = 1,
    .infer = rope_infer,
    .backward = rope_gradient,
    .onnx = "RotaryEmbedding",
    .sample = {{.in = {{3, {2, 5, 16}}}, .n_in = 1, .attrs = {.i = {2, 8}, .f = {10000}}},
               {.in = {{3, {1, 4, 30}}}, .n_in = 1, .attrs = {.i = {3, 4, 7}, .f = {100}}},
               {.in = {{3, {2, 3, 36}}}, .n_in = 1, .attrs = {.i = {1, 36, 3, 1}, .f = {500000}}},
               {.in = {{3, {2, 3, 8}}}, .n_in = 1, .attrs = {.i = {1, 8, 3, 0, 1}, .f = {10000}}},
               {.in = {{3, {1, 9, 32}}}, .n_in = 1, .attrs = {.i = {1, 32, 5, 0, 0, 64}, .f = {10000, 8, 1, 4}}},
               {.in = {{3, {1, 9, 32}}}, .n_in = 1, .attrs = {.i = {2, 16, 5, 1}, .f = {10000, 4}}},
               {.in = {{3, {1, 2, 8}}},
                .n_in = 1,
                .attrs = {.i = {1, 8, 0, 0, 0, 64}, .f = {10000, 8, 4, 1}},
                .expect = ST_ERR_RANGE},
               {.in = {{3, {2, 0, 8}}}, .n_in = 1, .attrs = {.i = {1, 8}, .f = {10000}}},
               {.in = {{3, {2, 3, 8}}}, .n_in = 1, .attrs = {.i = {3, 2}, .f = {10000}}, .expect = ST_ERR_SHAPE},
               {.in = {{3, {2, 3, 8}}}, .n_in = 1, .attrs = {.i = {2, 3}, .f = {10000}}, .expect = ST_ERR_RANGE},
               {.in = {{3, {2, 3, 8}}}, .n_in = 1, .attrs = {.i = {2, 4}}, .expect = ST_ERR_RANGE}},
};

status_t gd_rope(gd_tensor_t *x, const gd_rope_options_t *options, gd_tensor_t **y_p)
{
    const int64_t n_heads = options->n_heads > 0 ? options->n_heads : 1;
    const int64_t width = x->n_dims > 0 ? x->shape[x->n_dims - 1] / n_heads : 0;
    const gd_attrs_t attrs = {.i = {options->n_heads, options->rotated != 0 ? options->rotated : width,
                                    options->first_position, options->is_interleaved, 0,
                                    options->scaling > 0 ? options->old_context : 0},
                              .f = {options->theta > 0 ? options->theta : 10000, options->scaling, options->low_factor,
                                    options->high_factor}};
    return gd_op_apply(GD_OP_ROPE, &x, 1, &attrs, y_p);
}
