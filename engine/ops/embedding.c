/* SPDX-License-Identifier: Apache-2.0 */
/* ops/embedding: rows of a table by their ids. */
#include "gradd/amp.h"
#include "ops/helpers.h"

enum { ID_DTYPES = 1 << GD_DTYPE_I64 | 1 << GD_DTYPE_I32 | 1 << GD_DTYPE_U8 };

#define IDS(limit_x) .dtype = GD_DTYPE_I64, .int_limit = (limit_x), .no_grad = true

static status_t ids_check(const char *op, const gd_tensor_t *ids)
{
    if ((ID_DTYPES >> ids->dtype & 1) == 0) {
        return ST_FAIL(ST_ERR_DTYPE, "%s: ids are %s, i64, i32 or u8 is needed", op, gd_dtype_name(ids->dtype));
    }
    return ST_OK;
}

static status_t embedding_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    (void)n_in;
    const gd_tensor_t *ids = in[0];
    const gd_tensor_t *weight = in[1];
    const gd_dtype_t dtype = gd_attr_dtype(attrs->i[0], weight->dtype);
    status_t status = ids_check("embedding", ids);
    if (status != ST_OK) {
        return status;
    }
    if (weight->n_dims != 2 || ids->n_dims >= GD_MAX_DIMS) {
        return gd_op_fail_shapes(ST_ERR_SHAPE, "embedding", ids, weight, "weight[rows, width] is needed");
    }
    if (dtype != weight->dtype && weight->dtype != gd_dtype_widen(dtype)) {
        return ST_FAIL(ST_ERR_DTYPE, "embedding: a result of dtype %lld from %s", (long long)(attrs->i[0] - 1),
                       gd_dtype_name(weight->dtype));
    }
    gd_meta_set(out, dtype, ids->n_dims, ids->shape);
    out->shape[out->n_dims++] = weight->shape[1];
    return ST_OK;
}

/* dweight[v] = sum of the rows of dy whose id is v, in their order; into the parameter's gradient if there is one */
static status_t embedding_gradient(gd_node_t *node, gd_tensor_t *dy, gd_tensor_t **dx)
{
    gd_tensor_t *in[2] = {dy, node->in[0]};
    const int64_t dtype = gd_attr_of_dtype(node->grad_dtype[1]);
    if (node->into[1] != NULL) {
        const gd_attrs_t attrs = {.i = {node->in_meta[1].shape[0], node->into_accumulates[1], dtype, node->attrs.i[1]}};
        status_t status = gd_op_apply_into(GD_OP_EMBEDDING_BACKWARD, in, 2, &attrs, node->into[1]);
        node->is_written[1] = status == ST_OK;
        return status;
    }
    const gd_attrs_t attrs = {.i = {node->in_meta[1].shape[0], 0, dtype, node->attrs.i[1]}};
    return gd_op_apply(GD_OP_EMBEDDING_BACKWARD, in, 2, &attrs, &dx[1]);
}

const gd_op_t gd_op_embedding = {
    .name = "embedding",
    .formula = "y[…,c] = weight[ids[…],c]",
    .attrs = "i0 1 + the output's dtype, 0: weight's; i1 1 + an id whose row gets no gradient, 0: none",
    .n_in = 2,
    .n_in_required = 2,
    .n_out = 1,
    .dtypes = ID_DTYPES,
    .saves = GD_SAVE_INPUTS,
    .contiguous_in = 3,
    .infer = embedding_infer,
    .backward = embedding_gradient,
    .onnx = "Gather",
    .sample =
        {{.in = {{1, {6}, IDS(4)}, {2, {4, 3}}}, .n_in = 2},
         {.in = {{2, {3, 5}, IDS(7)}, {2, {7, 67}}}, .n_in = 2},
         {.in = {{2, {3, 5}, .dtype = GD_DTYPE_U8, .int_limit = 7, .no_grad = true}, {2, {7, 2}}}, .n_in = 2},
         {.in = {{0, {0}, .dtype = GD_DTYPE_I32, .int_limit = 7, .no_grad = true}, {2, {7, 2}}}, .n_in = 2},
         {.in = {{1, {0}, IDS(4)}, {2, {4, 3}}}, .n_in = 2},
         {.in = {{2, {3, 5}, IDS(7)}, {2, {7, 67}}}, .n_in = 2, .attrs = {.i = {1 + GD_DTYPE_BF16}}},
         {.in = {{1, {9}, IDS(1000)}, {2, {4, 3}}}, .n_in = 2, .expect = ST_ERR_DATA},
         {.in = {{1, {6}, IDS(4)}, {2, {4, 3}}}, .n_in = 2, .attrs = {.i = {1 + GD_DTYPE_I64}}, .expect = ST_ERR_DTYPE},
         {.in = {{1, {6}, IDS(4)}, {1, {4}}}, .n_in = 2, .expect = ST_ERR_SHAPE},
         {.in = {{1, {6}}, {2, {4, 3}}}, .n_in = 2, .expect = ST_ERR_UNSUPPORTED}},
};

static status_t embedding_backward_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    (void)n_in;
    const gd_tensor_t *dy = in[0];
    const gd_tensor_t *ids = in[1];
    status_t status = ids_check("embedding_backward", ids);
    if (status != ST_OK) {
        return status;
    }
    if (dy->n_dims != ids->n_dims + 1 || !gd_shape_equal(ids->n_dims, dy->shape, ids->n_dims, ids->shape)) {
        return gd_op_fail_shapes(ST_ERR_SHAPE, "embedding_backward", dy, ids, "one row of dy for each id is needed");
    }
    if (attrs->i[0] < 0) {
        return ST_FAIL(ST_ERR_RANGE, "embedding_backward: a table of %lld rows", (long long)attrs->i[0]);
    }
    gd_dtype_t dtype = dy->dtype;
    status = gd_op_check_result("embedding_backward", dy->dtype, attrs->i[2], &dtype);
    if (status != ST_OK) {
        return status;
    }
    gd_meta_set(out, dtype, 2, (const int64_t[2]){attrs->i[0], dy->shape[dy->n_dims - 1]});
    return ST_OK;
}

const gd_op_t gd_op_embedding_backward = {
    .name = "embedding_backward",
    .formula = "dweight[v,c] = sum over positions with ids = v of dy[…,c]",
    .attrs = "i0 rows of the table; i1 add to the output; i2 1 + the output's dtype, 0: dy's; i3 1 + an id whose row "
             "gets nothing, "
             "0: none",
    .n_in = 2,
    .n_in_required = 2,
    .n_out = 1,
    .dtypes = OPS_DTYPES_FLOAT,
    .contiguous_in = 3,
    .infer = embedding_backward_infer,
    .sample = {{.in = {{2, {6, 3}}, {1, {6}, IDS(4)}}, .n_in = 2, .attrs = {.i = {4}}},
               {.in = {{3, {3, 5, 67}}, {2, {3, 5}, IDS(7)}}, .n_in = 2, .attrs = {.i = {7}}},
               {.in = {{3, {3, 5, 67}}, {2, {3, 5}, IDS(7)}}, .n_in = 2, .attrs = {.i = {7, 0, 0, 3}}},
               {.in = {{2, {6, 3}}, {1, {5}, IDS(4)}}, .n_in = 2, .attrs = {.i = {4}}, .expect = ST_ERR_SHAPE},
               {.in = {{2, {9, 3}}, {1, {9}, IDS(1000)}}, .n_in = 2, .attrs = {.i = {4}}, .expect = ST_ERR_DATA}},
};

status_t gd_embedding(gd_tensor_t *ids, gd_tensor_t *weight, gd_tensor_t **y_p)
{
    return gd_embedding_padded(ids, weight, -1, y_p);
}

status_t gd_embedding_padded(gd_tensor_t *ids, gd_tensor_t *weight, int64_t padding, gd_tensor_t **y_p)
{
    /* under autocast the rows are rounded as they are read: the table itself isn't cast for the few that are */
    gd_tensor_t *in[2] = {ids, weight};
    const gd_dtype_t lower = gd_autocast_get();
    const bool is_lower = lower != GD_DTYPE_F32 && weight->dtype == GD_DTYPE_F32;
    const gd_attrs_t attrs = {.i = {is_lower ? gd_attr_of_dtype(lower) : 0, padding >= 0 ? padding + 1 : 0}};
    return gd_op_apply(GD_OP_EMBEDDING, in, 2, &attrs, y_p);
}
