/* SPDX-License-Identifier: Apache-2.0 */
/* ops/ctc: connectionist temporal classification. */
#include "gradd/loss.h"
#include "ops/helpers.h"

static status_t inputs_check(const char *op, gd_tensor_t *const *in, const gd_attrs_t *attrs)
{
    for (int i = 1; i < 4; i++) {
        if (in[i]->dtype != GD_DTYPE_I64) {
            return ST_FAIL(ST_ERR_DTYPE, "%s: input %d is %s, i64 is needed", op, i, gd_dtype_name(in[i]->dtype));
        }
    }
    const int64_t n_batch = in[0]->n_dims == 3 ? in[0]->shape[1] : -1;
    if (n_batch < 0 || in[1]->n_dims != 2 || in[1]->shape[0] != n_batch) {
        return gd_op_fail_shapes(ST_ERR_SHAPE, op, in[0], in[1], "[T, N, C] and targets [N, S] are needed");
    }
    if (in[2]->numel != n_batch || in[3]->numel != n_batch) {
        return gd_op_fail_shapes(ST_ERR_SHAPE, op, in[2], in[3], "one length for each sample is needed");
    }
    if (attrs->i[0] < 0 || attrs->i[0] >= in[0]->shape[2]) {
        return ST_FAIL(ST_ERR_RANGE, "%s: blank %lld is outside 0 … %lld", op, (long long)attrs->i[0],
                       (long long)in[0]->shape[2] - 1);
    }
    return ST_OK;
}

static status_t ctc_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    (void)n_in;
    status_t status = inputs_check("ctc", in, attrs);
    if (status == ST_OK) {
        gd_meta_set(out, in[0]->dtype, 1, &in[0]->shape[1]);
    }
    return status;
}

static status_t ctc_gradient(gd_node_t *node, gd_tensor_t *dy, gd_tensor_t **dx)
{
    gd_tensor_t *in[5] = {dy, node->in[0], node->in[1], node->in[2], node->in[3]};
    return gd_op_apply(GD_OP_CTC_BACKWARD, in, 5, &node->attrs, dx);
}

#define LABELS(limit_x) .dtype = GD_DTYPE_I64, .int_limit = (limit_x), .no_grad = true

const gd_op_t gd_op_ctc = {
    .name = "ctc",
    .formula = "loss_n = -log sum over paths that read targets_n of prod_t exp x[t,n,path_t]",
    .attrs = "i0 blank; i1 infinite losses are 0",
    .n_in = 4,
    .n_in_required = 4,
    .n_out = 1,
    .saves = GD_SAVE_INPUTS,
    .autocast = GD_AUTOCAST_F32,
    .contiguous_in = 15,
    .infer = ctc_infer,
    .backward = ctc_gradient,
    .sample = {{.in = {{3, {6, 3, 4}, .lo = -3, .hi = -0.1},
                       {2, {3, 2}, LABELS(3)},
                       {1, {3}, LABELS(7)},
                       {1, {3}, LABELS(3)}},
                .n_in = 4,
                .attrs = {.i = {3, 1}}},
               {.in = {{3, {7, 2, 3}, .lo = -3, .hi = -0.1},
                       {2, {2, 3}, LABELS(2)},
                       {1, {2}, LABELS(8)},
                       {1, {2}, LABELS(4)}},
                .n_in = 4,
                .attrs = {.i = {2, 1}}},
               {.in = {{3, {4, 8, 3}}, {2, {8, 2}, LABELS(3)}, {1, {8}, LABELS(90)}, {1, {8}, LABELS(3)}},
                .n_in = 4,
                .expect = ST_ERR_DATA},
               {.in = {{3, {4, 2, 3}}, {2, {3, 2}, LABELS(3)}, {1, {2}, LABELS(4)}, {1, {2}, LABELS(3)}},
                .n_in = 4,
                .expect = ST_ERR_SHAPE},
               {.in = {{3, {4, 2, 3}}, {2, {2, 2}}, {1, {2}, LABELS(4)}, {1, {2}, LABELS(3)}},
                .n_in = 4,
                .expect = ST_ERR_DTYPE}},
};

static status_t ctc_backward_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    (void)n_in;
    status_t status = inputs_check("ctc_backward", in + 1, attrs);
    if (status != ST_OK) {
        return status;
    }
    if (in[0]->numel != in[1]->shape[1] || in[0]->dtype != in[1]->dtype) {
        return gd_op_fail_shapes(ST_ERR_SHAPE, "ctc_backward", in[0], in[1],
                                 "a gradient for each sample, of x's dtype, is needed");
    }
    gd_meta_set(out, in[1]->dtype, 3, in[1]->shape);
    return ST_OK;
}

const gd_op_t gd_op_ctc_backward = {
    .name = "ctc_backward",
    .formula = "dx[t,n,c] = -dloss_n P(path_t = c | path reads targets_n)",
    .attrs = "i0 blank; i1 infinite losses are 0",
    .n_in = 5,
    .n_in_required = 5,
    .n_out = 1,
    .contiguous_in = 31,
    .infer = ctc_backward_infer,
    .sample = {{.in = {{1, {3}},
                       {3, {6, 3, 4}, .lo = -3, .hi = -0.1},
                       {2, {3, 2}, LABELS(3)},
                       {1, {3}, LABELS(7)},
                       {1, {3}, LABELS(3)}},
                .n_in = 5,
                .attrs = {.i = {3, 1}}},
               {.in = {{1, {1}},
                       {3, {3, 1, 3}, .lo = -3, .hi = -0.1},
                       {2, {1, 1}, LABELS(2)},
                       {1, {1}, LABELS(4)},
                       {1, {1}, LABELS(2)}},
                .n_in = 5,
                .attrs = {.i = {2, 1}}},
               {.in = {{1, {2}}, {3, {6, 3, 4}}, {2, {3, 2}, LABELS(3)}, {1, {3}, LABELS(7)}, {1, {3}, LABELS(3)}},
                .n_in = 5,
                .expect = ST_ERR_SHAPE}},
};

/* mean_n of loss_n / max(1, target_length_n), as factors of each loss. */
static status_t mean_factors(gd_tensor_t *loss, gd_tensor_t *target_lengths, gd_tensor_t **factors_p)
{
    gd_tensor_t *lengths = NULL;
    gd_tensor_t *factors = NULL;
    status_t status = gd_tensor_new(loss->dtype, 1, loss->shape, &factors);
    if (status == ST_OK) {
        status = gd_contiguous(target_lengths, &lengths);
    }
    if (status != ST_OK) {
        (void)gd_tensor_unref(factors);
        return status;
    }
    const int64_t *length = gd_tensor_data(lengths);
    for (int64_t n = 0; n < loss->numel; n++) {
        const double factor = 1.0 / ((double)(length[n] > 1 ? length[n] : 1) * (double)loss->numel);
        if (loss->dtype == GD_DTYPE_F32) {
            ((float *)gd_tensor_data(factors))[n] = (float)factor;
        } else {
            ((double *)gd_tensor_data(factors))[n] = factor;
        }
    }
    (void)gd_tensor_unref(lengths);
    *factors_p = factors;
    return ST_OK;
}

status_t gd_ctc_loss(gd_tensor_t *x, gd_tensor_t *targets, gd_tensor_t *input_lengths, gd_tensor_t *target_lengths,
                     int64_t blank, bool is_zero_infinity, gd_reduction_t reduction, gd_tensor_t **loss_p)
{
    gd_tensor_t *in[4] = {x, targets, input_lengths, target_lengths};
    gd_tensor_t *each = NULL;
    gd_tensor_t *factors = NULL;
    gd_tensor_t *scaled = NULL;
    const gd_attrs_t attrs = {.i = {blank, is_zero_infinity}};
    status_t status = gd_op_apply(GD_OP_CTC, in, 4, &attrs, &each);
    if (status != ST_OK || reduction == GD_REDUCTION_NONE) {
        if (status == ST_OK) {
            *loss_p = each;
        }
        return status;
    }
    if (reduction == GD_REDUCTION_MEAN) {
        status = mean_factors(each, target_lengths, &factors);
        if (status == ST_OK) {
            status = gd_mul(each, factors, &scaled);
        }
    } else {
        scaled = gd_tensor_ref(each);
    }
    if (status == ST_OK) {
        status = gd_sum(scaled, 0, NULL, false, loss_p);
    }
    (void)gd_tensor_unref(scaled);
    (void)gd_tensor_unref(factors);
    (void)gd_tensor_unref(each);
    return status;
}
