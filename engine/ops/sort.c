/* SPDX-License-Identifier: Apache-2.0 */
/* ops/sort: order along an axis; running sums and products. */
#include "ops/compose.h"

static status_t axis_check(const char *op, const gd_tensor_t *x, int64_t axis)
{
    if (axis < 0 || (axis >= x->n_dims && axis > 0)) {
        return ST_FAIL(ST_ERR_RANGE, "%s: axis %lld of a tensor with %d dimensions", op, (long long)axis, x->n_dims);
    }
    return ST_OK;
}

static status_t sort_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    (void)n_in;
    gd_meta_set(&out[0], in[0]->dtype, in[0]->n_dims, in[0]->shape);
    gd_meta_set(&out[1], GD_DTYPE_I64, in[0]->n_dims, in[0]->shape);
    return axis_check("sort", in[0], attrs->i[0]);
}

/* dx[…, indices[…, j, …], …] = dy[…, j, …] */
static status_t sort_backward(gd_node_t *node, gd_tensor_t *dy, gd_tensor_t **dx)
{
    const gd_meta_t *meta = &node->in_meta[0];
    gd_tensor_t *in[2] = {dy, node->out[1]};
    gd_attrs_t attrs = {.i = {node->attrs.i[0], 0, meta->n_dims}};
    for (int d = 0; d < meta->n_dims; d++) {
        attrs.i[3 + d] = meta->shape[d];
    }
    return gd_op_apply(GD_OP_SCATTER, in, 2, &attrs, dx);
}

const gd_op_t gd_op_sort = {
    .name = "sort",
    .formula = "y = x in order along the axis; indices = where each was",
    .attrs = "i0 axis; i1 descending",
    .n_in = 1,
    .n_in_required = 1,
    .n_out = 2,
    .dtypes = OPS_DTYPES_ALL,
    .saves = GD_SAVE_OUTPUTS,
    .infer = sort_infer,
    .backward = sort_backward,
    .sample = {{.in = {{2, {3, 50}, .lo = -9, .hi = 9}}, .n_in = 1, .attrs = {.i = {1}}},
               {.in = {{3, {2, 7, 3}, .lo = -9, .hi = 9}}, .n_in = 1, .attrs = {.i = {1, 1}}},
               {.in = {{0, {0}}}, .n_in = 1},
               {.in = {{2, {3, 0}}}, .n_in = 1, .attrs = {.i = {1}}},
               {.in = {{2, {3, 4}}}, .n_in = 1, .attrs = {.i = {2}}, .expect = ST_ERR_RANGE}},
};

/* ---- cumsum, cumprod ---- */

static status_t scan_infer(const char *op, const gd_tensor_t *x, const gd_attrs_t *attrs, gd_meta_t *out)
{
    gd_meta_set(out, gd_dtype_is_float(x->dtype) ? x->dtype : GD_DTYPE_I64, x->n_dims, x->shape);
    return axis_check(op, x, attrs->i[0]);
}

static status_t cumsum_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    (void)n_in;
    return scan_infer("cumsum", in[0], attrs, out);
}

static status_t cumprod_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    (void)n_in;
    return scan_infer("cumprod", in[0], attrs, out);
}

/* dx[j] = dy[j] + … + dy[last] */
static status_t cumsum_backward(gd_node_t *node, gd_tensor_t *dy, gd_tensor_t **dx)
{
    const gd_attrs_t attrs = {.i = {node->attrs.i[0], node->attrs.i[1] == 0}};
    return gd_op_apply(GD_OP_CUMSUM, &dy, 1, &attrs, dx);
}

/*
 * dx[j] = sum over k ≥ j of dy[k] y[k] / x[j]. Behind a zero every y is 0, and what x[j] = 0 gets is the sum of
 * dy[k] times the product of the others, which is found with the first zero of a line replaced by 1.
 */
static status_t cumprod_backward(gd_node_t *node, gd_tensor_t *dy, gd_tensor_t **dx)
{
    compose_t c = {0};
    gd_tensor_t *x = node->in[0];
    const gd_attrs_t forward = {.i = {node->attrs.i[0], node->attrs.i[1]}};
    const gd_attrs_t reverse = {.i = {node->attrs.i[0], node->attrs.i[1] == 0}};
    gd_tensor_t *zero = compose_number(&c, x, 0);
    gd_tensor_t *one = compose_number(&c, x, 1);
    gd_tensor_t *is_zero = compose_binary(&c, GD_OP_EQ, x, zero);
    gd_tensor_t *n_zeros = compose_op(&c, GD_OP_CUMSUM, &is_zero, 1, &forward);
    gd_tensor_t *first = NULL;
    if (c.status == ST_OK) {
        gd_tensor_t *number = NULL;
        status_t status = gd_tensor_scalar(GD_DTYPE_I64, 1, &number);
        number = compose_take(&c, status, number);
        gd_tensor_t *is_first = compose_binary(&c, GD_OP_EQ, n_zeros, number);
        first = compose_binary(&c, GD_OP_LOGICAL_AND, is_first, is_zero);
    }
    /* where there is no zero up to k */
    gd_tensor_t *weighted = compose_binary(&c, GD_OP_MUL, dy, node->out[0]);
    gd_tensor_t *sums = compose_op(&c, GD_OP_CUMSUM, &weighted, 1, &reverse);
    gd_tensor_t *divisor = compose_where(&c, is_zero, one, x);
    gd_tensor_t *plain = compose_binary(&c, GD_OP_DIV, sums, divisor);
    /* at the first zero */
    gd_tensor_t *mended = compose_where(&c, first, one, x);
    gd_tensor_t *product = compose_op(&c, GD_OP_CUMPROD, &mended, 1, &forward);
    gd_tensor_t *weighted_mended = compose_binary(&c, GD_OP_MUL, dy, product);
    gd_tensor_t *sums_mended = compose_op(&c, GD_OP_CUMSUM, &weighted_mended, 1, &reverse);
    gd_tensor_t *wide_zero = compose_number(&c, dy, 0);
    gd_tensor_t *rest = compose_where(&c, is_zero, wide_zero, plain);
    gd_tensor_t *y = compose_where(&c, first, sums_mended, rest);
    return compose_finish(&c, y, dx);
}

#define SCAN_SAMPLES                                                                                                   \
    {                                                                                                                  \
        {.in = {{2, {3, 6}, .lo = -2, .hi = 2}}, .n_in = 1, .attrs = {.i = {1}}},                                      \
            {.in = {{3, {2, 5, 3}, .lo = -2, .hi = 2}}, .n_in = 1, .attrs = {.i = {1, 1}}},                            \
            {.in = {{0, {0}}}, .n_in = 1}, {.in = {{2, {0, 3}}}, .n_in = 1},                                           \
            {.in = {{2, {3, 4}}}, .n_in = 1, .attrs = {.i = {-1}}, .expect = ST_ERR_RANGE},                            \
    }

const gd_op_t gd_op_cumsum = {
    .name = "cumsum",
    .formula = "y[…, j, …] = sum over k ≤ j of x[…, k, …]",
    .attrs = "i0 axis; i1 from the end",
    .n_in = 1,
    .n_in_required = 1,
    .n_out = 1,
    .dtypes = OPS_DTYPES_ALL,
    .autocast = GD_AUTOCAST_F32,
    .infer = cumsum_infer,
    .backward = cumsum_backward,
    .onnx = "CumSum",
    .sample = SCAN_SAMPLES,
};

const gd_op_t gd_op_cumprod = {
    .name = "cumprod",
    .formula = "y[…, j, …] = product over k ≤ j of x[…, k, …]",
    .attrs = "i0 axis; i1 from the end",
    .n_in = 1,
    .n_in_required = 1,
    .n_out = 1,
    .dtypes = OPS_DTYPES_ALL,
    .saves = GD_SAVE_INPUTS | GD_SAVE_OUTPUTS,
    .autocast = GD_AUTOCAST_F32,
    .infer = cumprod_infer,
    .backward = cumprod_backward,
    .sample = SCAN_SAMPLES,
};

/* ---- functions ---- */

/* A negative axis counts from the end; 0-d tensors have one that isn't there. */
static status_t axis_get(const char *op, const gd_tensor_t *x, int axis, int64_t *axis_p)
{
    *axis_p = axis;
    if (x->n_dims == 0 && (axis == 0 || axis == -1)) {
        *axis_p = 0;
        return ST_OK;
    }
    return gd_op_check_axis(op, x, axis_p);
}

static status_t sort_apply(const char *op, gd_tensor_t *x, int axis, bool is_descending, gd_tensor_t *out[2])
{
    gd_attrs_t attrs = {.i = {0, is_descending}};
    status_t status = axis_get(op, x, axis, &attrs.i[0]);
    return status == ST_OK ? gd_op_apply(GD_OP_SORT, &x, 1, &attrs, out) : status;
}

status_t gd_sort(gd_tensor_t *x, int axis, bool is_descending, gd_tensor_t **values_p, gd_tensor_t **indices_p)
{
    gd_tensor_t *out[2] = {NULL};
    status_t status = sort_apply("sort", x, axis, is_descending, out);
    if (status != ST_OK) {
        return status;
    }
    *values_p = out[0];
    if (indices_p != NULL) {
        *indices_p = out[1];
    } else {
        (void)gd_tensor_unref(out[1]);
    }
    return ST_OK;
}

status_t gd_argsort(gd_tensor_t *x, int axis, bool is_descending, gd_tensor_t **indices_p)
{
    gd_tensor_t *out[2] = {NULL};
    status_t status = sort_apply("argsort", x, axis, is_descending, out);
    if (status == ST_OK) {
        (void)gd_tensor_unref(out[0]);
        *indices_p = out[1];
    }
    return status;
}

status_t gd_topk(gd_tensor_t *x, int64_t k, int axis, bool is_largest, gd_tensor_t **values_p, gd_tensor_t **indices_p)
{
    int64_t at = axis;
    status_t status = gd_op_check_axis("topk", x, &at);
    if (status != ST_OK) {
        return status;
    }
    if (k < 0 || k > x->shape[at]) {
        return ST_FAIL(ST_ERR_RANGE, "topk: %lld of axis %lld of size %lld", (long long)k, (long long)at,
                       (long long)x->shape[at]);
    }
    gd_tensor_t *out[2] = {NULL};
    gd_tensor_t *part[2] = {NULL};
    status = sort_apply("topk", x, (int)at, is_largest, out);
    for (int i = 0; i < 2 && status == ST_OK; i++) {
        status = gd_slice(out[i], (int)at, 0, k, 1, &part[i]);
    }
    (void)gd_tensor_unref(out[0]);
    (void)gd_tensor_unref(out[1]);
    if (status != ST_OK) {
        (void)gd_tensor_unref(part[0]);
        return status;
    }
    *values_p = part[0];
    if (indices_p != NULL) {
        *indices_p = part[1];
    } else {
        (void)gd_tensor_unref(part[1]);
    }
    return ST_OK;
}

static status_t scan_apply(gd_op_id_t id, gd_tensor_t *x, int axis, gd_tensor_t **y_p)
{
    gd_attrs_t attrs = {0};
    status_t status = axis_get(gd_op_get(id)->name, x, axis, &attrs.i[0]);
    return status == ST_OK ? gd_op_apply(id, &x, 1, &attrs, y_p) : status;
}

status_t gd_cumsum(gd_tensor_t *x, int axis, gd_tensor_t **y_p)
{
    return scan_apply(GD_OP_CUMSUM, x, axis, y_p);
}

status_t gd_cumprod(gd_tensor_t *x, int axis, gd_tensor_t **y_p)
{
    return scan_apply(GD_OP_CUMPROD, x, axis, y_p);
}
