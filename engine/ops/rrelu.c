/* SPDX-License-Identifier: Apache-2.0 */
/* ops/rrelu: leaky ReLU whose slope is drawn for each element (Xu et al., 2015); the backward draws it again. */
#include "ops/helpers.h"

enum { ATTR_LOWER, ATTR_UPPER };

static status_t slopes_check(const char *op, const gd_attrs_t *attrs)
{
    const double lower = attrs->f[ATTR_LOWER], upper = attrs->f[ATTR_UPPER];
    return lower <= upper ? ST_OK : ST_FAIL(ST_ERR_RANGE, "%s: slopes from %g to %g", op, lower, upper);
}

static status_t rrelu_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    status_t status = slopes_check("rrelu", attrs);
    return status == ST_OK ? gd_infer_like(in, n_in, attrs, out) : status;
}

static status_t rrelu_gradient(gd_node_t *node, gd_tensor_t *dy, gd_tensor_t **dx)
{
    gd_tensor_t *in[2] = {dy, node->in[0]};
    return gd_op_apply(GD_OP_RRELU_BACKWARD, in, 2, &node->attrs, dx);
}

#define SLOPES(lower_x, upper_x, layer_x)                                                                              \
    {                                                                                                                  \
        .f = {(lower_x), (upper_x)}, .rng = {.seed = 7, .layer = (layer_x) }                                           \
    }
#define SPREAD .lo = -3, .hi = 3

const gd_op_t gd_op_rrelu = {
    .name = "rrelu",
    .formula =
        "y[i] = x[i] where x[i] > 0, else a[i] x[i], a[i] = f0 + (f1 - f0) u[i]; u[i] uniform, word i of the key's "
        "Philox stream",
    .attrs = "f0 least slope; f1 largest slope; rng key",
    .n_in = 1,
    .n_in_required = 1,
    .n_out = 1,
    .dtypes = OPS_DTYPES_FLOAT,
    .saves = GD_SAVE_INPUTS,
    .is_random = true,
    .contiguous_in = 1,
    .infer = rrelu_infer,
    .backward = rrelu_gradient,
    .sample = {{.in = {{2, {3, 4}, SPREAD}}, .n_in = 1, .attrs = SLOPES(0.125, 0.3333333333333333, 1)},
               {.in = {{2, {13, 71}, SPREAD}}, .n_in = 1, .attrs = SLOPES(-0.5, 0.5, 2)},
               {.in = {{1, {5}, SPREAD}}, .n_in = 1, .attrs = SLOPES(0.25, 0.25, 3)},
               {.in = {{0, {0}}}, .n_in = 1, .attrs = SLOPES(0.1, 0.3, 4)},
               {.in = {{2, {0, 3}}}, .n_in = 1, .attrs = SLOPES(0.1, 0.3, 5)},
               {.in = {{2, {3, 4}}}, .n_in = 1, .attrs = SLOPES(0.3, 0.1, 6), .expect = ST_ERR_RANGE}},
};

static status_t rrelu_backward_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    status_t status = slopes_check("rrelu_backward", attrs);
    return status == ST_OK ? gd_infer_same("rrelu_backward", in, n_in, out) : status;
}

const gd_op_t gd_op_rrelu_backward = {
    .name = "rrelu_backward",
    .formula = "dx[i] = dy[i] where x[i] > 0, else a[i] dy[i]",
    .attrs = "as rrelu",
    .n_in = 2,
    .n_in_required = 2,
    .n_out = 1,
    .dtypes = OPS_DTYPES_FLOAT,
    .is_random = true,
    .contiguous_in = 3,
    .infer = rrelu_backward_infer,
    .sample = {{.in = {{2, {3, 4}}, {2, {3, 4}, SPREAD}}, .n_in = 2, .attrs = SLOPES(0.125, 0.3333333333333333, 1)},
               {.in = {{2, {13, 71}}, {2, {13, 71}, SPREAD}}, .n_in = 2, .attrs = SLOPES(-0.5, 0.5, 2)},
               {.in = {{0, {0}}, {0, {0}}}, .n_in = 2, .attrs = SLOPES(0.1, 0.3, 4)},
               {.in = {{2, {3, 4}}, {2, {4, 3}}}, .n_in = 2, .attrs = SLOPES(0.1, 0.3, 5), .expect = ST_ERR_SHAPE},
               {.in = {{2, {3, 4}}, {2, {3, 4}}}, .n_in = 2, .attrs = SLOPES(0.3, 0.1, 6), .expect = ST_ERR_RANGE}},
};

status_t gd_rrelu(gd_tensor_t *x, double lower, double upper, gd_rng_key_t key, gd_tensor_t **y_p)
{
    const gd_attrs_t attrs = {.f = {lower, upper}, .rng = key};
    return gd_op_apply(GD_OP_RRELU, &x, 1, &attrs, y_p);
}
