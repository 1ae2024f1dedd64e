/* SPDX-License-Identifier: Apache-2.0 */
/* ops/pointwise_loss: the elementwise losses as one op whose kind is an attribute; formulas in gradd/loss.h's terms:
 * d = x - y, s = softplus. */
#include "gradd/loss.h"
#include "ops/helpers.h"

enum { ATTR_KIND, ATTR_IS_REDUCED, ATTR_OPTION, ATTR_WHICH };

static status_t inputs_check(const char *op, gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs)
{
    if (attrs->i[ATTR_KIND] < 0 || attrs->i[ATTR_KIND] >= GD_LOSS_POINTWISE_COUNT) {
        return ST_FAIL(ST_ERR_INVAL, "%s: no loss %lld", op, (long long)attrs->i[ATTR_KIND]);
    }
    status_t status = gd_op_check_dtypes(op, in, n_in);
    for (int i = 1; i < n_in && status == ST_OK; i++) {
        if (in[i] != NULL && !gd_shape_equal(in[i]->n_dims, in[i]->shape, in[0]->n_dims, in[0]->shape)) {
            status = gd_op_fail_shapes(ST_ERR_SHAPE, op, in[0], in[i], "all inputs have one shape");
        }
    }
    if (status == ST_OK && attrs->i[ATTR_KIND] == GD_LOSS_GAUSSIAN_NLL && (n_in < 3 || in[2] == NULL)) {
        return ST_FAIL(ST_ERR_INVAL, "%s: the gaussian loss needs a variance", op);
    }
    return status;
}

static status_t pointwise_loss_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    status_t status = inputs_check("pointwise_loss", in, n_in, attrs);
    if (status == ST_OK) {
        gd_meta_set(out, in[0]->dtype, attrs->i[ATTR_IS_REDUCED] != 0 ? 0 : in[0]->n_dims, in[0]->shape);
    }
    return status;
}

/* dx[i] = scale dloss f_i(x, y, weight, pos_weight) */
static status_t pointwise_loss_gradient(gd_node_t *node, gd_tensor_t *dy, gd_tensor_t **dx)
{
    gd_tensor_t *in[5] = {dy};
    for (int i = 0; i < node->n_in; i++) {
        in[i + 1] = node->in[i];
    }
    status_t status = ST_OK;
    for (int i = 0; i < node->n_in && status == ST_OK; i++) {
        if (node->needs[i] && i == 3) {
            status = ST_FAIL(ST_ERR_UNSUPPORTED, "pointwise_loss: no gradient with respect to pos_weight");
        } else if (node->needs[i]) {
            gd_attrs_t attrs = node->attrs;
            attrs.i[ATTR_WHICH] = i;
            status = gd_op_apply(GD_OP_POINTWISE_LOSS_BACKWARD, in, node->n_in + 1, &attrs, &dx[i]);
        }
    }
    return status;
}

#define KIND(kind_x) .i = {(kind_x), 0, 0}
#define SUM_OF(kind_x, option_x) .i = {(kind_x), 1, (option_x)}
#define NO_GRAD .no_grad = true

const gd_op_t gd_op_pointwise_loss = {
    .name = "pointwise_loss",
    .formula = "loss = scale f(x, y, weight, pos_weight), each element's or their sum; f by kind: |d|, d², …",
    .attrs = "i0 kind; i1 summed; i2 option bits; f0 scale; f1 a; f2 b",
    .n_in = 4,
    .n_in_required = 2,
    .n_out = 1,
    .saves = GD_SAVE_INPUTS,
    .autocast = GD_AUTOCAST_F32,
    .contiguous_in = 15,
    .infer = pointwise_loss_infer,
    .backward = pointwise_loss_gradient,
    .sample =
        {{.in = {{2, {3, 4}, .lo = 0.5}, {2, {3, 4}, .hi = 0.4}}, .n_in = 2, .attrs = {KIND(GD_LOSS_L1), .f = {2.0}}},
         {.in = {{2, {3, 4}}, {2, {3, 4}}}, .n_in = 2, .attrs = {SUM_OF(GD_LOSS_MSE, 0), .f = {0.5}}},
         {.in = {{2, {5, 4}, .lo = -2, .hi = 2}, {2, {5, 4}}},
          .n_in = 2,
          .attrs = {KIND(GD_LOSS_SMOOTH_L1), .f = {1.0, 0.7}}},
         {.in = {{2, {90, 91}, .lo = -2, .hi = 2}, {2, {90, 91}}},
          .n_in = 2,
          .attrs = {SUM_OF(GD_LOSS_HUBER, 0), .f = {0.001, 1.5}}},
         {.in = {{1, {9}, .lo = -2, .hi = 2}, {1, {9}}},
          .n_in = 2,
          .attrs = {SUM_OF(GD_LOSS_HUBER, 0), .f = {1.0, 0.5}}},
         {.in = {{1, {9}, .lo = 0.1, .hi = 0.9}, {1, {9}, .lo = 0, .hi = 1}, {1, {9}, .lo = 1, .hi = 2, NO_GRAD}},
          .n_in = 3,
          .attrs = {KIND(GD_LOSS_BCE), .f = {1.0}}},
         {.in = {{1, {9}, .lo = -3, .hi = 3},
                 {1, {9}, .lo = 0, .hi = 1},
                 {.is_absent = true},
                 {1, {9}, .lo = 1, .hi = 2, NO_GRAD}},
          .n_in = 4,
          .attrs = {SUM_OF(GD_LOSS_BCE_WITH_LOGITS, 0), .f = {0.3}}},
         {.in = {{2, {2, 5}}, {2, {2, 5}}}, .n_in = 2, .attrs = {SUM_OF(GD_LOSS_KL_DIV, 1), .f = {0.3}}},
         {.in = {{2, {2, 5}}, {2, {2, 5}, .lo = 0.2, .hi = 1}}, .n_in = 2, .attrs = {KIND(GD_LOSS_KL_DIV), .f = {1.0}}},
         {.in = {{2, {2, 5}}, {2, {2, 5}, .lo = 0.2, .hi = 4, NO_GRAD}},
          .n_in = 2,
          .attrs = {SUM_OF(GD_LOSS_POISSON_NLL, 3), .f = {1.0}}},
         {.in = {{2, {2, 5}, .lo = 0.3, .hi = 2}, {2, {2, 5}, .lo = 0.2, .hi = 4}},
          .n_in = 2,
          .attrs = {KIND(GD_LOSS_POISSON_NLL), .f = {1.0, 1e-8}}},
         {.in = {{1, {9}}, {1, {9}}, {1, {9}, .lo = 0.5, .hi = 2}},
          .n_in = 3,
          .attrs = {SUM_OF(GD_LOSS_GAUSSIAN_NLL, 2), .f = {0.5, 1e-6}}},
         {.in = {{1, {9}, .lo = -0.9, .hi = 0.4}, {1, {9}, .lo = 0.6, .hi = 0.9, NO_GRAD}},
          .n_in = 2,
          .attrs = {KIND(GD_LOSS_HINGE_EMBEDDING), .f = {1.0, 0.5}}},
         {.in = {{1, {9}, .lo = -3, .hi = 3}, {1, {9}, NO_GRAD}},
          .n_in = 2,
          .attrs = {SUM_OF(GD_LOSS_SOFT_MARGIN, 0), .f = {1.0}}},
         {.in = {{1, {9}, .lo = -3, .hi = 3}, {1, {9}, .lo = 0, .hi = 1, NO_GRAD}},
          .n_in = 2,
          .attrs = {SUM_OF(GD_LOSS_FOCAL, 0), .f = {1.0, 0.25, 2.0}}},
         {.in = {{1, {9}, .lo = -3, .hi = 3}, {1, {9}, .lo = 0, .hi = 1, NO_GRAD}},
          .n_in = 2,
          .attrs = {KIND(GD_LOSS_FOCAL), .f = {1.0, -1.0, 1.5}}},
         {.in = {{2, {0, 4}}, {2, {0, 4}}}, .n_in = 2, .attrs = {SUM_OF(GD_LOSS_L1, 0), .f = {1.0}}},
         {.in = {{2, {3, 4}}, {2, {4, 3}}}, .n_in = 2, .expect = ST_ERR_SHAPE},
         {.in = {{2, {3, 4}}, {2, {3, 4}}}, .n_in = 2, .attrs = {KIND(99)}, .expect = ST_ERR_INVAL},
         {.in = {{2, {3, 4}}, {2, {3, 4}}}, .n_in = 2, .attrs = {KIND(GD_LOSS_GAUSSIAN_NLL)}, .expect = ST_ERR_INVAL}},
};

static status_t pointwise_loss_backward_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    status_t status = inputs_check("pointwise_loss_backward", in + 1, n_in - 1, attrs);
    if (status == ST_OK) {
        status = gd_op_check_dtypes("pointwise_loss_backward", in, n_in);
    }
    if (status != ST_OK) {
        return status;
    }
    bool fits = attrs->i[ATTR_IS_REDUCED] != 0
                    ? in[0]->numel == 1
                    : gd_shape_equal(in[0]->n_dims, in[0]->shape, in[1]->n_dims, in[1]->shape);
    if (!fits) {
        return gd_op_fail_shapes(ST_ERR_SHAPE, "pointwise_loss_backward", in[0], in[1],
                                 "a gradient of the loss's shape is needed");
    }
    if (attrs->i[ATTR_WHICH] < 0 || attrs->i[ATTR_WHICH] > 2) {
        return ST_FAIL(ST_ERR_INVAL, "pointwise_loss_backward: input %lld", (long long)attrs->i[ATTR_WHICH]);
    }
    gd_meta_set(out, in[1]->dtype, in[1]->n_dims, in[1]->shape);
    return ST_OK;
}

const gd_op_t gd_op_pointwise_loss_backward = {
    .name = "pointwise_loss_backward",
    .formula = "dx = scale dloss f'(x, y, weight, pos_weight), by input i3",
    .attrs = "i0 kind; i1 summed; i2 option bits; i3 input; f0 scale; f1 a; f2 b",
    .n_in = 5,
    .n_in_required = 3,
    .n_out = 1,
    .contiguous_in = 31,
    .infer = pointwise_loss_backward_infer,
    .sample =
        {{.in = {{0, {0}}, {2, {3, 4}}, {2, {3, 4}}}, .n_in = 3, .attrs = {.i = {GD_LOSS_MSE, 1, 0, 0}, .f = {0.5}}},
         {.in = {{2, {3, 4}}, {2, {3, 4}}, {2, {3, 4}}}, .n_in = 3, .attrs = {.i = {GD_LOSS_MSE, 0, 0, 1}, .f = {0.5}}},
         {.in = {{2, {3, 4}}, {2, {3, 4}}, {2, {3, 4}}},
          .n_in = 3,
          .attrs = {.i = {GD_LOSS_FOCAL, 0, 0, 1}, .f = {0.5}},
          .expect = ST_ERR_UNSUPPORTED},
         {.in = {{0, {0}}, {2, {3, 4}}, {2, {3, 4}}},
          .n_in = 3,
          .attrs = {.i = {GD_LOSS_MSE, 0, 0, 0}},
          .expect = ST_ERR_SHAPE}},
};

status_t gd_pointwise_loss(gd_tensor_t *x, gd_tensor_t *y, gd_tensor_t *weight, gd_tensor_t *pos_weight,
                           const gd_pointwise_loss_options_t *options, bool is_reduced, double scale,
                           gd_tensor_t **loss_p)
{
    gd_tensor_t *const given[4] = {x, y, weight, pos_weight};
    gd_tensor_t *in[4] = {NULL};
    const gd_attrs_t attrs = {.i = {(int64_t)options->kind, is_reduced, options->option},
                              .f = {scale, options->a, options->b}};
    status_t status = ST_OK;
    for (int i = 0; i < 4 && status == ST_OK; i++) {
        if (given[i] == NULL) {
            continue;
        }
        if (gd_shape_equal(given[i]->n_dims, given[i]->shape, x->n_dims, x->shape)) {
            in[i] = gd_tensor_ref(given[i]);
        } else {
            status = gd_expand(given[i], x->n_dims, x->shape, &in[i]);
        }
    }
    if (status == ST_OK) {
        status = gd_op_apply(GD_OP_POINTWISE_LOSS, in, pos_weight != NULL ? 4 : weight != NULL ? 3 : 2, &attrs, loss_p);
    }
    for (int i = 0; i < 4; i++) {
        (void)gd_tensor_unref(in[i]);
    }
    return status;
}
