/* SPDX-License-Identifier: Apache-2.0 */
/* ops/embedding_bag: sums, means or maxima over bags of a table's rows. */
#include "ops/helpers.h"

enum { ID_DTYPES = 1 << GD_DTYPE_I64 | 1 << GD_DTYPE_I32 | 1 << GD_DTYPE_U8 };

#define IDS(limit_x) .dtype = GD_DTYPE_I64, .int_limit = (limit_x), .no_grad = true
#define BAG_ATTRS "i0 mode: sum, mean, max; i1 an id that doesn't count + 1, 0: none"

/* ids[B,T] alone, or ids[N] with offsets[B]; *n_bags_p: B. */
static status_t bags_check(const char *op, const gd_tensor_t *ids, const gd_tensor_t *offsets, const gd_attrs_t *attrs,
                           int64_t *n_bags_p)
{
    if ((ID_DTYPES >> ids->dtype & 1) == 0 || (offsets != NULL && (ID_DTYPES >> offsets->dtype & 1) == 0)) {
        return ST_FAIL(ST_ERR_DTYPE, "%s: ids and offsets are integers: i64, i32 or u8", op);
    }
    if (attrs->i[0] < 0 || attrs->i[0] >= GD_BAG_COUNT || attrs->i[1] < 0) {
        return ST_FAIL(ST_ERR_RANGE, "%s: mode %lld, padding %lld", op, (long long)attrs->i[0],
                       (long long)attrs->i[1] - 1);
    }
    if (offsets != NULL ? ids->n_dims != 1 || offsets->n_dims != 1 : ids->n_dims != 2) {
        return gd_op_fail_shapes(ST_ERR_SHAPE, op, ids, offsets, "ids[B,T], or ids[N] and offsets[B] are needed");
    }
    if (ids->numel > INT32_MAX) {
        return gd_op_fail_shapes(ST_ERR_SHAPE, op, ids, NULL, "more than 2147483647 ids");
    }
    *n_bags_p = offsets != NULL ? offsets->shape[0] : ids->shape[0];
    return ST_OK;
}

static status_t embedding_bag_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    const gd_tensor_t *weight = in[1];
    int64_t n_bags = 0;
    status_t status = bags_check("embedding_bag", in[0], n_in > 2 ? in[2] : NULL, attrs, &n_bags);
    if (status != ST_OK) {
        return status;
    }
    if (weight->n_dims != 2) {
        return gd_op_fail_shapes(ST_ERR_SHAPE, "embedding_bag", in[0], weight, "weight[rows, width] is needed");
    }
    gd_meta_set(&out[0], weight->dtype, 2, (const int64_t[2]){n_bags, weight->shape[1]});
    gd_meta_set(&out[1], GD_DTYPE_I32, 2, (const int64_t[2]){n_bags, attrs->i[0] == GD_BAG_MAX ? weight->shape[1] : 0});
    return ST_OK;
}

static status_t embedding_bag_gradient(gd_node_t *node, gd_tensor_t *dy, gd_tensor_t **dx)
{
    gd_tensor_t *in[4] = {dy, node->in[0], node->attrs.i[0] == GD_BAG_MAX ? node->out[1] : NULL,
                          node->n_in > 2 ? node->in[2] : NULL};
    gd_attrs_t attrs = node->attrs;
    attrs.i[2] = node->in_meta[1].shape[0];
    return gd_op_apply(GD_OP_EMBEDDING_BAG_BACKWARD, in, 4, &attrs, &dx[1]);
}

const gd_op_t gd_op_embedding_bag = {
    .name = "embedding_bag",
    .formula = "y[b,c] = sum, mean or max over the ids i of bag b of weight[i,c]; 0 for an empty bag",
    .attrs = BAG_ATTRS,
    .n_in = 3,
    .n_in_required = 2,
    .n_out = 2,
    .dtypes = ID_DTYPES,
    .by_conversion = OPS_DTYPES_HALF,
    .saves = GD_SAVE_INPUTS | GD_SAVE_OUTPUTS,
    .contiguous_in = 7,
    .infer = embedding_bag_infer,
    .backward = embedding_bag_gradient,
    .sample = {{.in = {{2, {3, 4}, IDS(5)}, {2, {5, 3}}}, .n_in = 2},
               {.in = {{2, {3, 4}, IDS(5)}, {2, {5, 67}}}, .n_in = 2, .attrs = {.i = {1, 3}}},
               {.in = {{2, {3, 4}, IDS(5)}, {2, {5, 6}, .lo = -8, .hi = 8}}, .n_in = 2, .attrs = {.i = {2}}},
               {.in = {{2, {3, 4}, IDS(5)}, {2, {5, 6}, .lo = -8, .hi = 8}}, .n_in = 2, .attrs = {.i = {2, 1}}},
               {.in = {{1, {6}, IDS(4)}, {2, {4, 3}}, {1, {2}, IDS(1)}}, .n_in = 3, .attrs = {.i = {1}}},
               {.in = {{2, {3, 4}, .dtype = GD_DTYPE_U8, .int_limit = 5, .no_grad = true}, {2, {5, 3}}}, .n_in = 2},
               {.in = {{2, {0, 4}, IDS(5)}, {2, {5, 3}}}, .n_in = 2},
               {.in = {{2, {3, 4}, IDS(1000)}, {2, {5, 3}}}, .n_in = 2, .expect = ST_ERR_DATA},
               {.in = {{1, {6}, IDS(4)}, {2, {4, 3}}, {1, {5}, IDS(100)}}, .n_in = 3, .expect = ST_ERR_DATA},
               {.in = {{1, {6}, IDS(4)}, {2, {4, 3}}}, .n_in = 2, .expect = ST_ERR_SHAPE},
               {.in = {{2, {3, 4}, IDS(5)}, {2, {5, 3}}}, .n_in = 2, .attrs = {.i = {3}}, .expect = ST_ERR_RANGE}},
};

static status_t embedding_bag_backward_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    const char *op = "embedding_bag_backward";
    const gd_tensor_t *dy = in[0];
    const gd_tensor_t *position = n_in > 2 ? in[2] : NULL;
    int64_t n_bags = 0;
    status_t status = bags_check(op, in[1], n_in > 3 ? in[3] : NULL, attrs, &n_bags);
    if (status != ST_OK) {
        return status;
    }
    if (dy->n_dims != 2 || dy->shape[0] != n_bags) {
        return gd_op_fail_shapes(ST_ERR_SHAPE, op, dy, in[1], "one row of dy for each bag is needed");
    }
    if ((attrs->i[0] == GD_BAG_MAX) != (position != NULL) || attrs->i[2] < 1) {
        return ST_FAIL(ST_ERR_INVAL, "%s: positions belong to maxima; a table of %lld rows", op,
                       (long long)attrs->i[2]);
    }
    if (position != NULL &&
        (position->dtype != GD_DTYPE_I32 || !gd_shape_equal(2, dy->shape, position->n_dims, position->shape))) {
        return gd_op_fail_shapes(ST_ERR_SHAPE, op, dy, position, "positions are i32 and of dy's shape");
    }
    gd_meta_set(out, dy->dtype, 2, (const int64_t[2]){attrs->i[2], dy->shape[1]});
    return ST_OK;
}

const gd_op_t gd_op_embedding_bag_backward = {
    .name = "embedding_bag_backward",
    .formula =
        "dweight[i,c] += dy[b,c] for the ids i of bag b, by their number for means, where the maximum is for max",
    .attrs = BAG_ATTRS "; i2 rows of the table",
    .n_in = 4,
    .n_in_required = 2,
    .n_out = 1,
    .dtypes = OPS_DTYPES_FLOAT,
    .by_conversion = OPS_DTYPES_HALF,
    .contiguous_in = 15,
    .infer = embedding_bag_backward_infer,
    .sample = {{.in = {{2, {3, 6}}, {2, {3, 4}, IDS(5)}}, .n_in = 2, .attrs = {.i = {0, 2, 5}}},
               {.in = {{2, {3, 67}}, {2, {3, 4}, IDS(5)}}, .n_in = 2, .attrs = {.i = {1, 0, 5}}},
               {.in = {{2, {3, 6}}, {2, {3, 4}, IDS(5)}, {2, {3, 6}, .dtype = GD_DTYPE_I32, .int_limit = 12}},
                .n_in = 3,
                .attrs = {.i = {2, 0, 5}}},
               {.in = {{2, {4, 6}}, {2, {3, 4}, IDS(5)}}, .n_in = 2, .attrs = {.i = {1, 0, 5}}, .expect = ST_ERR_SHAPE},
               {.in = {{2, {3, 6}}, {2, {3, 4}, IDS(5)}}, .n_in = 2, .attrs = {.i = {2, 0, 5}}, .expect = ST_ERR_INVAL},
               {.in = {{2, {3, 6}}, {2, {3, 4}, IDS(9)}}, .n_in = 2, .attrs = {.i = {0, 0, 5}}, .expect = ST_ERR_DATA}},
};

status_t gd_embedding_bag(gd_tensor_t *ids, gd_tensor_t *offsets, gd_tensor_t *weight, gd_bag_t mode, int64_t padding,
                          gd_tensor_t **y_p)
{
    gd_tensor_t *in[3] = {ids, weight, offsets};
    gd_tensor_t *out[2] = {NULL};
    const gd_attrs_t attrs = {.i = {mode, padding >= 0 ? padding + 1 : 0}};
    status_t status = gd_op_apply(GD_OP_EMBEDDING_BAG, in, 3, &attrs, out);
    if (status == ST_OK) {
        (void)gd_tensor_unref(out[1]);
        *y_p = out[0];
    }
    return status;
}
