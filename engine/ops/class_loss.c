/* SPDX-License-Identifier: Apache-2.0 */
/* ops/class_loss: losses over rows of classes as one op whose kind is an attribute. */
#include "gradd/loss.h"
#include "ops/helpers.h"
#include "ops/loss_kinds.h"

enum { ATTR_KIND, ATTR_REDUCTION, ATTR_IGNORE, ATTR_POWER };

/* x[…,C], targets[…] or […,C], weight[C] or NULL. */
static status_t inputs_check(const char *op, const gd_tensor_t *x, const gd_tensor_t *targets,
                             const gd_tensor_t *weight, const gd_attrs_t *attrs)
{
    const int64_t kind = attrs->i[ATTR_KIND];
    if (kind < 0 || kind >= GD_CLASS_LOSS_COUNT || attrs->i[ATTR_REDUCTION] < GD_CLASS_EACH ||
        attrs->i[ATTR_REDUCTION] > GD_CLASS_MEAN) {
        return ST_FAIL(ST_ERR_INVAL, "%s: no loss %lld or reduction %lld", op, (long long)kind,
                       (long long)attrs->i[ATTR_REDUCTION]);
    }
    if (x->n_dims < 1 || x->shape[x->n_dims - 1] < 1) {
        return gd_op_fail_shapes(ST_ERR_SHAPE, op, x, targets, "a last dimension of classes is needed");
    }
    if (targets->dtype != GD_DTYPE_I64 && targets->dtype != GD_DTYPE_I32) {
        return ST_FAIL(ST_ERR_DTYPE, "%s: targets are %s, i64 or i32 is needed", op, gd_dtype_name(targets->dtype));
    }
    const int64_t n_classes = x->shape[x->n_dims - 1];
    const bool is_many = kind == GD_CLASS_LOSS_MULTI_LABEL_MARGIN;
    if (targets->numel != (is_many ? x->numel : x->numel / n_classes)) {
        return gd_op_fail_shapes(ST_ERR_SHAPE, op, x, targets,
                                 is_many ? "as many targets as classes a row are needed"
                                         : "one target for each row is needed");
    }
    if (weight != NULL && weight->dtype != x->dtype) {
        return ST_FAIL(ST_ERR_DTYPE, "%s: weight %s, x %s: must be equal", op, gd_dtype_name(weight->dtype),
                       gd_dtype_name(x->dtype));
    }
    if (weight != NULL && (weight->numel != n_classes || is_many)) {
        return gd_op_fail_shapes(ST_ERR_SHAPE, op, x, weight, "one weight for each class is needed");
    }
    if (kind == GD_CLASS_LOSS_NLL ? !(attrs->f[1] >= 0.0 && attrs->f[1] < 1.0)
                                  : attrs->i[ATTR_POWER] < 1 || attrs->i[ATTR_POWER] > 2) {
        return ST_FAIL(ST_ERR_RANGE, "%s: label smoothing %g is outside [0, 1), or power %lld is not 1 or 2", op,
                       attrs->f[1], (long long)attrs->i[ATTR_POWER]);
    }
    return ST_OK;
}

static status_t class_loss_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    status_t status = inputs_check("class_loss", in[0], in[1], n_in > 2 ? in[2] : NULL, attrs);
    if (status != ST_OK) {
        return status;
    }
    const bool is_each = attrs->i[ATTR_REDUCTION] == GD_CLASS_EACH;
    gd_meta_set(&out[0], in[0]->dtype, is_each ? in[0]->n_dims - 1 : 0, in[0]->shape);
    gd_meta_set(&out[1], in[0]->dtype, 0, NULL);
    return ST_OK;
}

static status_t class_loss_gradient(gd_node_t *node, gd_tensor_t *dy, gd_tensor_t **dx)
{
    if (node->n_in > 2 && node->needs[2]) {
        return ST_FAIL(ST_ERR_UNSUPPORTED, "class_loss: no gradient with respect to the weight");
    }
    gd_tensor_t *in[5] = {dy, node->in[0], node->in[1], node->out[1], node->n_in > 2 ? node->in[2] : NULL};
    return gd_op_apply(GD_OP_CLASS_LOSS_BACKWARD, in, in[4] != NULL ? 5 : 4, &node->attrs, dx);
}

#define TARGETS(limit_x) .dtype = GD_DTYPE_I64, .int_limit = (limit_x), .no_grad = true
#define WEIGHT .lo = 0.5, .hi = 2, .no_grad = true

const gd_op_t gd_op_class_loss = {
    .name = "class_loss",
    .formula =
        "loss_n by kind: nll -(1-s) w[t] x[t] - s mean_v w[v] x[v]; multi_margin w[t] mean_i≠t max(0, m - x[t] + "
        "x[i])^p; multi_label_margin mean over labels and others",
    .attrs =
        "i0 kind; i1 each, summed, or over the weights; i2 ignored target; i3 power; f0 scale; f1 smoothing or margin",
    .n_in = 3,
    .n_in_required = 2,
    .n_out = 2,
    .saves = GD_SAVE_INPUTS | GD_SAVE_OUTPUTS,
    .autocast = GD_AUTOCAST_F32,
    .contiguous_in = 7,
    .infer = class_loss_infer,
    .backward = class_loss_gradient,
    .sample = {{.in = {{2, {3, 5}}, {1, {3}, TARGETS(5)}},
                .n_in = 2,
                .attrs = {.i = {GD_CLASS_LOSS_NLL, GD_CLASS_EACH, -100}, .f = {2.0}}},
               {.in = {{2, {40, 5}}, {1, {40}, TARGETS(5)}, {1, {5}, WEIGHT}},
                .n_in = 3,
                .attrs = {.i = {GD_CLASS_LOSS_NLL, GD_CLASS_MEAN, 2}, .f = {1.0, 0.1}}},
               {.in = {{3, {2, 2, 5}}, {2, {2, 2}, TARGETS(5)}, {1, {5}, WEIGHT}},
                .n_in = 3,
                .attrs = {.i = {GD_CLASS_LOSS_NLL, GD_CLASS_SUM, 2}, .f = {0.5}}},
               {.in = {{2, {4, 5}}, {1, {4}, TARGETS(5)}},
                .n_in = 2,
                .attrs = {.i = {GD_CLASS_LOSS_MULTI_MARGIN, GD_CLASS_SUM, 0, 1}, .f = {0.5, 2.5}}},
               {.in = {{2, {4, 5}}, {1, {4}, TARGETS(5)}, {1, {5}, WEIGHT}},
                .n_in = 3,
                .attrs = {.i = {GD_CLASS_LOSS_MULTI_MARGIN, GD_CLASS_EACH, 0, 2}, .f = {1.0, 0.7}}},
               {.in = {{2, {4, 5}, .lo = -0.4, .hi = 0.4}, {2, {4, 5}, TARGETS(5)}},
                .n_in = 2,
                .attrs = {.i = {GD_CLASS_LOSS_MULTI_LABEL_MARGIN, GD_CLASS_SUM, 0, 1}, .f = {1.0}}},
               {.in = {{2, {0, 5}}, {1, {0}, TARGETS(5)}},
                .n_in = 2,
                .attrs = {.i = {GD_CLASS_LOSS_NLL, GD_CLASS_SUM, 2}, .f = {0.5}}},
               {.in = {{2, {8, 2}}, {1, {8}, TARGETS(1000)}},
                .n_in = 2,
                .attrs = {.i = {GD_CLASS_LOSS_NLL, GD_CLASS_SUM, -1}},
                .expect = ST_ERR_DATA},
               {.in = {{2, {3, 5}}, {1, {4}, TARGETS(5)}}, .n_in = 2, .expect = ST_ERR_SHAPE},
               {.in = {{2, {3, 5}}, {1, {3}, TARGETS(5)}, {1, {4}}}, .n_in = 3, .expect = ST_ERR_SHAPE},
               {.in = {{2, {3, 5}}, {1, {3}}}, .n_in = 2, .expect = ST_ERR_DTYPE},
               {.in = {{2, {3, 5}}, {1, {3}, TARGETS(5)}},
                .n_in = 2,
                .attrs = {.i = {GD_CLASS_LOSS_MULTI_MARGIN, 1, 0, 3}},
                .expect = ST_ERR_RANGE}},
};

static status_t class_loss_backward_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    status_t status = inputs_check("class_loss_backward", in[1], in[2], n_in > 4 ? in[4] : NULL, attrs);
    if (status != ST_OK) {
        return status;
    }
    const int64_t n_rows = in[1]->numel / in[1]->shape[in[1]->n_dims - 1];
    if (in[0]->numel != (attrs->i[ATTR_REDUCTION] == GD_CLASS_EACH ? n_rows : 1) || in[3]->numel != 1) {
        return gd_op_fail_shapes(ST_ERR_SHAPE, "class_loss_backward", in[0], in[3],
                                 "a gradient of the loss's shape and a 0-d total are needed");
    }
    if (in[0]->dtype != in[1]->dtype || in[3]->dtype != in[1]->dtype) {
        return ST_FAIL(ST_ERR_DTYPE, "class_loss_backward: gradient %s, x %s, total %s: must be equal",
                       gd_dtype_name(in[0]->dtype), gd_dtype_name(in[1]->dtype), gd_dtype_name(in[3]->dtype));
    }
    gd_meta_set(out, in[1]->dtype, in[1]->n_dims, in[1]->shape);
    return ST_OK;
}

const gd_op_t gd_op_class_loss_backward = {
    .name = "class_loss_backward",
    .formula = "dx = scale dloss loss_n'(x)",
    .attrs =
        "i0 kind; i1 each, summed, or over the weights; i2 ignored target; i3 power; f0 scale; f1 smoothing or margin",
    .n_in = 5,
    .n_in_required = 4,
    .n_out = 1,
    .contiguous_in = 31,
    .infer = class_loss_backward_infer,
    .sample = {{.in = {{0, {0}}, {2, {3, 5}}, {1, {3}, TARGETS(5)}, {0, {0}, .lo = 2, .hi = 3}},
                .n_in = 4,
                .attrs = {.i = {GD_CLASS_LOSS_NLL, GD_CLASS_MEAN, -1}, .f = {0.5}}},
               {.in = {{1, {3}}, {2, {3, 5}}, {1, {3}, TARGETS(5)}, {0, {0}}, {1, {5}, WEIGHT}},
                .n_in = 5,
                .attrs = {.i = {GD_CLASS_LOSS_NLL, GD_CLASS_EACH, 2}, .f = {0.5, 0.2}}},
               {.in = {{0, {0}}, {2, {3, 5}}, {1, {3}, TARGETS(5)}, {1, {2}}},
                .n_in = 4,
                .attrs = {.i = {GD_CLASS_LOSS_NLL, GD_CLASS_SUM, 2}},
                .expect = ST_ERR_SHAPE}},
};

static status_t class_loss(int kind, gd_tensor_t *x, gd_tensor_t *targets, gd_tensor_t *weight, gd_attrs_t attrs,
                           gd_reduction_t reduction, gd_tensor_t **loss_p)
{
    gd_tensor_t *in[3] = {x, targets, weight};
    gd_tensor_t *out[2] = {NULL};
    const int64_t n_classes = x->n_dims > 0 ? x->shape[x->n_dims - 1] : 1;
    const bool is_mean = reduction == GD_REDUCTION_MEAN;
    attrs.i[ATTR_KIND] = kind;
    attrs.i[ATTR_REDUCTION] = reduction == GD_REDUCTION_NONE         ? GD_CLASS_EACH
                              : is_mean && kind == GD_CLASS_LOSS_NLL ? GD_CLASS_MEAN
                                                                     : GD_CLASS_SUM;
    attrs.f[0] = is_mean && kind != GD_CLASS_LOSS_NLL && n_classes > 0 ? (double)n_classes / (double)x->numel : 1;
    status_t status = gd_op_apply(GD_OP_CLASS_LOSS, in, weight != NULL ? 3 : 2, &attrs, out);
    if (status == ST_OK) {
        *loss_p = out[0];
        (void)gd_tensor_unref(out[1]);
    }
    return status;
}

status_t gd_nll_loss(gd_tensor_t *x, gd_tensor_t *targets, gd_tensor_t *weight, int64_t ignore_index,
                     gd_reduction_t reduction, gd_tensor_t **loss_p)
{
    const gd_attrs_t attrs = {.i = {[ATTR_IGNORE] = ignore_index}};
    return class_loss(GD_CLASS_LOSS_NLL, x, targets, weight, attrs, reduction, loss_p);
}

status_t gd_cross_entropy_loss(gd_tensor_t *x, gd_tensor_t *targets, gd_tensor_t *weight, int64_t ignore_index,
                               double label_smoothing, gd_reduction_t reduction, gd_tensor_t **loss_p)
{
    if (weight == NULL && reduction == GD_REDUCTION_SUM) {
        return gd_cross_entropy(x, targets, 1.0, ignore_index, label_smoothing, loss_p, NULL);
    }
    gd_tensor_t *logarithms = NULL;
    const gd_attrs_t attrs = {.i = {[ATTR_IGNORE] = ignore_index}, .f = {0, label_smoothing}};
    status_t status = gd_log_softmax(x, -1, &logarithms);
    if (status == ST_OK) {
        status = class_loss(GD_CLASS_LOSS_NLL, logarithms, targets, weight, attrs, reduction, loss_p);
    }
    (void)gd_tensor_unref(logarithms);
    return status;
}

status_t gd_multi_margin_loss(gd_tensor_t *x, gd_tensor_t *targets, gd_tensor_t *weight, int power, double margin,
                              gd_reduction_t reduction, gd_tensor_t **loss_p)
{
    const gd_attrs_t attrs = {.i = {[ATTR_POWER] = power}, .f = {0, margin}};
    return class_loss(GD_CLASS_LOSS_MULTI_MARGIN, x, targets, weight, attrs, reduction, loss_p);
}

status_t gd_multi_label_margin_loss(gd_tensor_t *x, gd_tensor_t *targets, gd_reduction_t reduction,
                                    gd_tensor_t **loss_p)
{
    const gd_attrs_t attrs = {.i = {[ATTR_POWER] = 1}};
    return class_loss(GD_CLASS_LOSS_MULTI_LABEL_MARGIN, x, targets, NULL, attrs, reduction, loss_p);
}
