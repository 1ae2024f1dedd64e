/* SPDX-License-Identifier: Apache-2.0 */
/* helpers: infer functions and backward pieces that rows of several families share. */
#include "ops/helpers.h"

status_t gd_infer_like(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    (void)n_in;
    (void)attrs;
    gd_meta_set(out, in[0]->dtype, in[0]->n_dims, in[0]->shape);
    return ST_OK;
}

status_t gd_infer_float(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    (void)n_in;
    (void)attrs;
    gd_meta_set(out, gd_dtype_float_of(in[0]->dtype), in[0]->n_dims, in[0]->shape);
    return ST_OK;
}

status_t gd_infer_bool(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    (void)n_in;
    (void)attrs;
    gd_meta_set(out, GD_DTYPE_BOOL, in[0]->n_dims, in[0]->shape);
    return ST_OK;
}

status_t gd_infer_same(const char *op, gd_tensor_t *const *in, int n_in, gd_meta_t *out)
{
    for (int i = 1; i < n_in; i++) {
        if (in[i]->dtype != in[0]->dtype) {
            return ST_FAIL(ST_ERR_DTYPE, "%s: %s and %s: dtypes must be equal", op, gd_dtype_name(in[0]->dtype),
                           gd_dtype_name(in[i]->dtype));
        }
        if (!gd_shape_equal(in[0]->n_dims, in[0]->shape, in[i]->n_dims, in[i]->shape)) {
            return gd_op_fail_shapes(ST_ERR_SHAPE, op, in[0], in[i], "shapes must be equal");
        }
    }
    return gd_infer_like(in, n_in, NULL, out);
}

status_t gd_op_unary(gd_op_id_t id, gd_tensor_t *x, gd_tensor_t **y_p)
{
    return gd_op_apply(id, &x, 1, NULL, y_p);
}

status_t gd_op_binary(gd_op_id_t id, gd_tensor_t *a, gd_tensor_t *b, gd_tensor_t **y_p)
{
    gd_tensor_t *in[2] = {a, b};
    return gd_op_apply(id, in, 2, NULL, y_p);
}

status_t gd_op_apply_over(gd_op_id_t id, gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_tensor_t **dx)
{
    gd_tensor_t *dy = in[0];
    if (!dy->is_contiguous || !gd_tensor_is_spare(dy) || gd_anomaly_is_on()) {
        return gd_op_apply(id, in, n_in, attrs, dx);
    }
    status_t status = gd_op_apply_into(id, in, n_in, attrs, dy);
    if (status == ST_OK) {
        *dx = gd_tensor_ref(dy);
    }
    return status;
}

/* The sum in the leaf's own buffer, seen without the summed axes. */
static status_t sum_write(gd_node_t *node, int i, gd_tensor_t *dy, gd_attrs_t *attrs, int n_kept, const int64_t *kept)
{
    gd_tensor_t *out = NULL;
    status_t status = gd_tensor_alias(node->into[i], 0, n_kept, kept, &out);
    if (status != ST_OK) {
        return status;
    }
    attrs->i[2] = node->into_accumulates[i];
    status = gd_op_apply_into(GD_OP_SUM, &dy, 1, attrs, out);
    (void)gd_tensor_unref(out);
    node->is_written[i] = status == ST_OK;
    return status;
}

status_t gd_sum_to(gd_node_t *node, int i, gd_tensor_t *dy, gd_tensor_t **dx_p)
{
    const gd_meta_t *meta = &node->in_meta[i];
    int lead = dy->n_dims - meta->n_dims;
    int64_t mask = 0;
    int64_t kept[GD_MAX_DIMS];
    int n_kept = 0;
    for (int d = 0; d < dy->n_dims; d++) {
        if (d < lead || (meta->shape[d - lead] == 1 && dy->shape[d] != 1)) {
            mask |= (int64_t)1 << d;
        } else {
            kept[n_kept++] = dy->shape[d];
        }
    }
    if (mask == 0) {
        *dx_p = gd_tensor_ref(dy);
        return ST_OK;
    }
    /* the sum of 16-bit floats for an f32 leaf is written as f32; other dtypes are cast on the way on */
    const bool is_widened = dy->dtype != node->grad_dtype[i] && gd_dtype_widen(dy->dtype) == node->grad_dtype[i];
    gd_attrs_t attrs = {.i = {mask, 0, 0, is_widened ? gd_attr_of_dtype(node->grad_dtype[i]) : 0}};
    if (node->into[i] != NULL && (is_widened || dy->dtype == node->grad_dtype[i])) {
        return sum_write(node, i, dy, &attrs, n_kept, kept);
    }
    gd_tensor_t *sum = NULL;
    status_t status = gd_op_apply(GD_OP_SUM, &dy, 1, &attrs, &sum);
    if (status == ST_OK) {
        status = gd_reshape(sum, meta->n_dims, meta->shape, dx_p);
    }
    (void)gd_tensor_unref(sum);
    return status;
}

status_t gd_op_check_dtypes(const char *op, gd_tensor_t *const *in, int n_in)
{
    for (int i = 1; i < n_in; i++) {
        if (in[i] != NULL && in[i]->dtype != in[0]->dtype) {
            return ST_FAIL(ST_ERR_DTYPE, "%s: input 0 is %s and input %d is %s: dtypes must be equal", op,
                           gd_dtype_name(in[0]->dtype), i, gd_dtype_name(in[i]->dtype));
        }
    }
    return ST_OK;
}

status_t gd_op_check_mixed(const gd_op_t *op, gd_tensor_t *const *in, int n_in)
{
    gd_dtype_t dtype = GD_DTYPE_COUNT;
    for (int i = 0; i < n_in && dtype == GD_DTYPE_COUNT; i++) {
        dtype = in[i] != NULL && (op->f32_in >> i & 1u) == 0 ? in[i]->dtype : dtype;
    }
    for (int i = 0; i < n_in; i++) {
        const gd_dtype_t wanted = (op->f32_in >> i & 1u) != 0 ? gd_dtype_widen(dtype) : dtype;
        if (in[i] != NULL && in[i]->dtype != wanted) {
            return ST_FAIL(ST_ERR_DTYPE, "%s: input %d is %s, %s is needed beside %s", op->name, i,
                           gd_dtype_name(in[i]->dtype), gd_dtype_name(wanted), gd_dtype_name(dtype));
        }
    }
    return ST_OK;
}

status_t gd_op_check_result(const char *op, gd_dtype_t x, int64_t attr, gd_dtype_t *dtype_p)
{
    const gd_dtype_t dtype = gd_attr_dtype(attr, x);
    if (dtype != x && dtype != gd_dtype_widen(x)) {
        return ST_FAIL(ST_ERR_DTYPE, "%s: a result of dtype %lld from %s", op, (long long)(attr - 1), gd_dtype_name(x));
    }
    *dtype_p = dtype;
    return ST_OK;
}

void gd_node_hand_out(const gd_node_t *node, gd_tensor_t *const *gradient, int n, gd_tensor_t **dx)
{
    for (int i = 0; i < n; i++) {
        if (i < node->n_in && node->needs[i]) {
            dx[i] = gradient[i];
        } else {
            (void)gd_tensor_unref(gradient[i]);
        }
    }
}
