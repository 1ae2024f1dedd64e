/* SPDX-License-Identifier: Apache-2.0 */
/* ops/dropout: elements, channels or samples zeroed at random; SELU's variant. */
#include <math.h>

#include "ops/helpers.h"

static status_t dropout_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    if (!(attrs->f[0] >= 0 && attrs->f[0] <= 1)) {
        return ST_FAIL(ST_ERR_RANGE, "dropout: probability %g: it must be in [0, 1]", attrs->f[0]);
    }
    if (attrs->i[0] < 0 || (attrs->i[0] > 1 && in[0]->numel % attrs->i[0] != 0)) {
        return gd_op_fail_shapes(ST_ERR_SHAPE, "dropout", in[0], NULL, "isn't cut into stretches of the given length");
    }
    return gd_infer_like(in, n_in, attrs, out);
}

/* The same mask again, drawn anew; constants are gone. */
static status_t dropout_gradient(gd_node_t *node, gd_tensor_t *dy, gd_tensor_t **dx)
{
    gd_attrs_t attrs = node->attrs;
    attrs.f[2] = 0;
    attrs.f[3] = 0;
    return gd_op_apply(GD_OP_DROPOUT, &dy, 1, &attrs, dx);
}

const gd_op_t gd_op_dropout = {
    .name = "dropout",
    .formula = "y[i] = x[i] / (1 - p) where u[i/i0] ≥ p, else 0; u[j] uniform, word j of the key's Philox stream; "
               "with i1: f1 x[i] + f2 where it is kept, else f3",
    .attrs = "f0 p; i0 neighbours that share a draw, 0: 1; i1 with f1 scale, f2 shift of what is kept, f3 in place of "
             "the rest; rng key",
    .n_in = 1,
    .n_in_required = 1,
    .n_out = 1,
    .dtypes = OPS_DTYPES_FLOAT,
    .is_random = true,
    .contiguous_in = 1,
    .infer = dropout_infer,
    .backward = dropout_gradient,
    .onnx = "Dropout",
    .sample =
        {{.in = {{2, {3, 4}}}, .n_in = 1, .attrs = {.f = {0.5}, .rng = {.seed = 7, .step = 3}}},
         {.in = {{2, {13, 71}}}, .n_in = 1, .attrs = {.f = {0.25}, .rng = {.seed = 8, .layer = 5}}},
         {.in = {{4, {3, 5, 4, 7}}}, .n_in = 1, .attrs = {.f = {0.5}, .i = {28}, .rng = {.seed = 9}}},
         {.in = {{2, {13, 71}}}, .n_in = 1, .attrs = {.f = {0.3, 0.7, 0.2, -0.4}, .i = {0, 1}, .rng = {.seed = 8}}},
         {.in = {{3, {13, 2, 71}}}, .n_in = 1, .attrs = {.f = {0.3, 0.7, 0.2, -0.4}, .i = {71, 1}, .rng = {.seed = 8}}},
         {.in = {{0, {0}}}, .n_in = 1, .attrs = {.f = {0.1}}},
         {.in = {{2, {0, 3}}}, .n_in = 1, .attrs = {.f = {0.1}}},
         {.in = {{2, {3, 4}}}, .n_in = 1, .attrs = {.f = {0.5}, .i = {5}}, .expect = ST_ERR_SHAPE},
         {.in = {{2, {3, 4}}}, .n_in = 1, .attrs = {.f = {1}}},
         {.in = {{2, {3, 4}}}, .n_in = 1, .attrs = {.f = {1.5}}, .expect = ST_ERR_RANGE},
         {.in = {{2, {3, 4}}}, .n_in = 1, .attrs = {.f = {-0.5}}, .expect = ST_ERR_RANGE}},
};

status_t gd_dropout(gd_tensor_t *x, double p, gd_rng_key_t key, gd_tensor_t **y_p)
{
    if (p == 0.0) {
        *y_p = gd_tensor_ref(x);
        return ST_OK;
    }
    const gd_attrs_t attrs = {.f = {p}, .rng = key};
    return gd_op_apply(GD_OP_DROPOUT, &x, 1, &attrs, y_p);
}

/* Elements of one channel (n_kept 2) or of one sample (n_kept 1); ST_ERR_SHAPE. */
static status_t stretch_get(const gd_tensor_t *x, int n_kept, int64_t *stretch_p)
{
    if (x->n_dims < n_kept) {
        return gd_op_fail_shapes(ST_ERR_SHAPE, "dropout", x, NULL,
                                 n_kept == 1 ? "[batch, …] is needed" : "[batch, channels, …] is needed");
    }
    *stretch_p = 1;
    for (int d = n_kept; d < x->n_dims; d++) {
        *stretch_p *= x->shape[d];
    }
    return ST_OK;
}

status_t gd_dropout_leading(gd_tensor_t *x, int n_axes, double p, gd_rng_key_t key, gd_tensor_t **y_p)
{
    gd_attrs_t attrs = {.f = {p}, .rng = key};
    status_t status = stretch_get(x, n_axes, &attrs.i[0]);
    return status == ST_OK ? gd_op_apply(GD_OP_DROPOUT, &x, 1, &attrs, y_p) : status;
}

status_t gd_alpha_dropout(gd_tensor_t *x, bool by_channel, double p, gd_rng_key_t key, gd_tensor_t **y_p)
{
    if (p == 1.0) { /* nothing is left whose mean and variance could be kept */
        return gd_dropout(x, p, key, y_p);
    }
    const double saturated = -1.7580993408473766; /* selu(-infinity) */
    const double a = 1 / sqrt((1 - p) * (1 + p * saturated * saturated));
    const double b = -a * saturated * p;
    gd_attrs_t attrs = {.f = {p, a, b, a * saturated + b}, .i = {0, 1}, .rng = key};
    status_t status = by_channel ? stretch_get(x, 2, &attrs.i[0]) : ST_OK;
    return status == ST_OK ? gd_op_apply(GD_OP_DROPOUT, &x, 1, &attrs, y_p) : status;
}
