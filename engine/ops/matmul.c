/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ops/matmul: matrix products. Gradients are matrix products of transposed views; a weight's gradient is written by
 * the product itself into the parameter's gradient buffer (attrs i0: add to the output).
 */
#include "ops/compose.h"

/* y[…,M,N] = a[…,M,K] b[…,K,N] */
static status_t matmul_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    (void)n_in;
    const gd_tensor_t *a = in[0];
    const gd_tensor_t *b = in[1];
    if (a->dtype != b->dtype) {
        return ST_FAIL(ST_ERR_DTYPE, "matmul: %s and %s: dtypes must be equal", gd_dtype_name(a->dtype),
                       gd_dtype_name(b->dtype));
    }
    if (a->n_dims < 2 || b->n_dims < 2) {
        return gd_op_fail_shapes(ST_ERR_SHAPE, "matmul", a, b, "both need at least two dimensions");
    }
    if (a->shape[a->n_dims - 1] != b->shape[b->n_dims - 2]) {
        return gd_op_fail_shapes(ST_ERR_SHAPE, "matmul", a, b, "a's last and b's second-last size must be equal");
    }
    int n_dims = a->n_dims > b->n_dims ? a->n_dims : b->n_dims;
    status_t status = gd_op_check_result("matmul", a->dtype, attrs->i[1], &out->dtype);
    if (status != ST_OK) {
        return status;
    }
    out->n_dims = n_dims;
    out->offset = 0;
    for (int i = 0; i < n_dims - 2; i++) {
        int i_a = i - (n_dims - a->n_dims);
        int i_b = i - (n_dims - b->n_dims);
        int64_t size_a = i_a >= 0 ? a->shape[i_a] : 1;
        int64_t size_b = i_b >= 0 ? b->shape[i_b] : 1;
        if (size_a != size_b && size_a != 1 && size_b != 1) {
            return gd_op_fail_shapes(ST_ERR_SHAPE, "matmul", a, b, "leading sizes don't broadcast");
        }
        out->shape[i] = size_a == 1 ? size_b : size_a;
    }
    out->shape[n_dims - 2] = a->shape[a->n_dims - 2];
    out->shape[n_dims - 1] = b->shape[b->n_dims - 1];
    return ST_OK;
}

/* x[…,K] as x[rows,K] */
static status_t rows_view(gd_tensor_t *x, gd_tensor_t **y_p)
{
    int64_t width = x->shape[x->n_dims - 1];
    const int64_t shape[2] = {width > 0 ? x->numel / width : 0, width};
    if (width == 0) { /* the number of rows can't be read off the number of elements */
        int64_t rows = 1;
        for (int i = 0; i < x->n_dims - 1; i++) {
            rows *= x->shape[i];
        }
        return gd_reshape(x, 2, (const int64_t[2]){rows, 0}, y_p);
    }
    return gd_reshape(x, 2, shape, y_p);
}

status_t gd_node_product(gd_node_t *node, int i, gd_tensor_t *a, gd_tensor_t *b, gd_tensor_t **dx)
{
    gd_tensor_t *operands[2] = {a, b};
    const gd_meta_t *meta = &node->in_meta[i];
    gd_meta_t shape;
    gd_attrs_t attrs = {.i = {0, a->dtype != node->grad_dtype[i] ? gd_attr_of_dtype(node->grad_dtype[i]) : 0}};
    status_t status = matmul_infer(operands, 2, &attrs, &shape);
    if (status != ST_OK) {
        return status;
    }
    int64_t numel = 1;
    for (int d = 0; d < shape.n_dims; d++) {
        numel *= shape.shape[d];
    }
    if (node->into[i] != NULL && node->into[i]->numel == numel) {
        gd_tensor_t *out = NULL;
        attrs.i[0] = node->into_accumulates[i];
        status = gd_tensor_alias(node->into[i], 0, shape.n_dims, shape.shape, &out);
        if (status == ST_OK) {
            status = gd_op_apply_into(GD_OP_MATMUL, operands, 2, &attrs, out);
        }
        (void)gd_tensor_unref(out);
        node->is_written[i] = status == ST_OK;
        return status;
    }
    gd_tensor_t *product = NULL;
    status = gd_op_apply(GD_OP_MATMUL, operands, 2, &attrs, &product);
    if (status == ST_OK) {
        bool is_flat = shape.n_dims == 2 && meta->n_dims != 2;
        status = is_flat ? gd_reshape(product, meta->n_dims, meta->shape, &dx[i]) : gd_sum_to(node, i, product, &dx[i]);
    }
    (void)gd_tensor_unref(product);
    return status;
}

/*
 * y[R,N] = x[R,K] w, where w is [K,N] or, transposed, [N,K]; R: all leading axes together.
 *   dx[R,K] = dy wᵀ         dw[K,N] = xᵀ dy   (dw[N,K] = dyᵀ x)
 */
static status_t rows_backward(gd_node_t *node, gd_tensor_t *dy, bool is_w_transposed, gd_tensor_t **dx)
{
    gd_tensor_t *dy_rows = NULL;
    gd_tensor_t *x_rows = NULL;
    gd_tensor_t *turned = NULL;
    status_t status = rows_view(dy, &dy_rows);
    if (status == ST_OK && node->needs[1]) {
        status = rows_view(node->in[0], &x_rows);
        if (status == ST_OK) {
            status = gd_transpose(is_w_transposed ? dy_rows : x_rows, 0, 1, &turned);
        }
        if (status == ST_OK) {
            status = gd_node_product(node, 1, turned, is_w_transposed ? x_rows : dy_rows, dx);
        }
        turned = gd_tensor_unref(turned);
    }
    if (status == ST_OK && node->needs[0]) {
        status = is_w_transposed ? gd_contiguous(node->in[1], &turned) : gd_transpose(node->in[1], 0, 1, &turned);
        if (status == ST_OK) {
            status = gd_node_product(node, 0, dy_rows, turned, dx);
        }
    }
    (void)gd_tensor_unref(turned);
    (void)gd_tensor_unref(x_rows);
    (void)gd_tensor_unref(dy_rows);
    return status;
}

/* da = dy bᵀ, db = aᵀ dy */
static status_t matmul_backward(gd_node_t *node, gd_tensor_t *dy, gd_tensor_t **dx)
{
    if (node->in_meta[1].n_dims == 2) {
        return rows_backward(node, dy, false, dx);
    }
    gd_tensor_t *turned = NULL;
    status_t status = ST_OK;
    if (node->needs[0]) {
        status = gd_transpose(node->in[1], -2, -1, &turned);
        if (status == ST_OK) {
            status = gd_node_product(node, 0, dy, turned, dx);
        }
        turned = gd_tensor_unref(turned);
    }
    if (status == ST_OK && node->needs[1]) {
        status = gd_transpose(node->in[0], -2, -1, &turned);
        if (status == ST_OK) {
            status = gd_node_product(node, 1, turned, dy, dx);
        }
        turned = gd_tensor_unref(turned);
    }
    return status;
}

const gd_op_t gd_op_matmul = {
    .name = "matmul",
    .formula = "y[…,m,n] = sum_k a[…,m,k] b[…,k,n]",
    .attrs = "i0 add to the output; i1 1 + the output's dtype, 0: a's",
    .n_in = 2,
    .n_in_required = 2,
    .n_out = 1,
    .dtypes = OPS_DTYPES_FLOAT,
    .saves = GD_SAVE_INPUTS_FOR_OTHERS,
    .autocast = GD_AUTOCAST_LOWER,
    .infer = matmul_infer,
    .backward = matmul_backward,
    .onnx = "MatMul",
    .sample = {{.in = {{2, {3, 4}}, {2, {4, 2}}}, .n_in = 2},
               {.in = {{3, {2, 3, 4}}, {3, {2, 4, 5}}}, .n_in = 2},
               {.in = {{3, {2, 3, 4}}, {2, {4, 5}}}, .n_in = 2},
               {.in = {{4, {2, 1, 3, 4}}, {3, {3, 4, 2}}}, .n_in = 2},
               {.in = {{2, {3, 4}}, {3, {2, 4, 5}}}, .n_in = 2},
               {.in = {{2, {3, 0}}, {2, {0, 2}}}, .n_in = 2},
               {.in = {{2, {0, 4}}, {2, {4, 2}}}, .n_in = 2},
               {.in = {{2, {17, 33}}, {2, {33, 19}}}, .n_in = 2},
               {.in = {{2, {3, 4}}, {2, {5, 2}}}, .n_in = 2, .expect = ST_ERR_SHAPE},
               {.in = {{1, {4}}, {2, {4, 2}}}, .n_in = 2, .expect = ST_ERR_SHAPE},
               {.in = {{3, {2, 3, 4}}, {3, {3, 4, 5}}}, .n_in = 2, .expect = ST_ERR_SHAPE}},
};

/* y[…,N] = x[…,K] w[N,K]ᵀ + bias[N], or x w[K,N] + bias */
static status_t linear_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    const bool is_stored_turned = attrs->i[1] != 0;
    const gd_tensor_t *x = in[0];
    const gd_tensor_t *w = in[1];
    const gd_tensor_t *bias = n_in > 2 ? in[2] : NULL;
    if (x->dtype != w->dtype || (bias != NULL && bias->dtype != gd_dtype_widen(x->dtype))) {
        return ST_FAIL(
            ST_ERR_DTYPE, "linear: x %s, weight %s, bias %s: dtypes must be equal, the bias f32 beside 16 bits",
            gd_dtype_name(x->dtype), gd_dtype_name(w->dtype), bias != NULL ? gd_dtype_name(bias->dtype) : "none");
    }
    if (x->n_dims < 1 || w->n_dims != 2 || x->shape[x->n_dims - 1] != w->shape[!is_stored_turned]) {
        return gd_op_fail_shapes(ST_ERR_SHAPE, "linear", x, w,
                                 is_stored_turned ? "x[…, in] and weight[in, out] must agree"
                                                  : "x[…, in] and weight[out, in] must agree");
    }
    const int64_t n = w->shape[is_stored_turned];
    if (bias != NULL && (bias->n_dims != 1 || bias->shape[0] != n)) {
        return gd_op_fail_shapes(ST_ERR_SHAPE, "linear", w, bias, "the weight's out and bias[out] must agree");
    }
    gd_meta_set(out, x->dtype, x->n_dims, x->shape);
    out->shape[x->n_dims - 1] = n;
    return ST_OK;
}

/* dx = dy w, dw = dyᵀ x, dbias = sum of dy's rows */
static status_t linear_backward(gd_node_t *node, gd_tensor_t *dy, gd_tensor_t **dx)
{
    status_t status = rows_backward(node, dy, node->attrs.i[1] == 0, dx);
    if (status == ST_OK && node->n_in > 2 && node->needs[2]) {
        status = gd_sum_to(node, 2, dy, &dx[2]);
    }
    return status;
}

const gd_op_t gd_op_linear = {
    .name = "linear",
    .formula = "y[…,n] = sum_k x[…,k] w[n,k] + bias[n]",
    .attrs = "i0 add to the output; i1 the weight is w[k,n]",
    .n_in = 3,
    .n_in_required = 2,
    .n_out = 1,
    .saves = GD_SAVE_INPUTS_FOR_OTHERS,
    .dtypes = OPS_DTYPES_FLOAT,
    .autocast = GD_AUTOCAST_LOWER,
    .contiguous_in = 7,
    .f32_in = 4,
    .infer = linear_infer,
    .backward = linear_backward,
    .onnx = "Gemm",
    .sample = {{.in = {{2, {3, 4}}, {2, {5, 4}}, {1, {5}}}, .n_in = 3},
               {.in = {{3, {2, 3, 4}}, {2, {5, 4}}, {1, {5}}}, .n_in = 3},
               {.in = {{2, {3, 4}}, {2, {5, 4}}, {.is_absent = true}}, .n_in = 3},
               {.in = {{1, {4}}, {2, {5, 4}}, {1, {5}}}, .n_in = 3},
               {.in = {{2, {0, 4}}, {2, {5, 4}}, {1, {5}}}, .n_in = 3},
               {.in = {{2, {18, 35}}, {2, {21, 35}}, {1, {21}}}, .n_in = 3},
               {.in = {{2, {3, 4}}, {2, {4, 5}}, {1, {5}}}, .n_in = 3, .attrs = {.i = {0, 1}}},
               {.in = {{3, {2, 9, 35}}, {2, {35, 21}}, {.is_absent = true}}, .n_in = 3, .attrs = {.i = {0, 1}}},
               {.in = {{1, {4}}, {2, {4, 5}}, {1, {5}}}, .n_in = 3, .attrs = {.i = {0, 1}}},
               {.in = {{2, {3, 4}}, {2, {5, 4}}}, .n_in = 2, .attrs = {.i = {0, 1}}, .expect = ST_ERR_SHAPE},
               {.in = {{2, {3, 4}}, {2, {4, 5}}}, .n_in = 2, .expect = ST_ERR_SHAPE},
               {.in = {{2, {3, 4}}, {2, {5, 4}}, {1, {4}}}, .n_in = 3, .expect = ST_ERR_SHAPE},
               {.in = {{0, {0}}, {2, {5, 4}}}, .n_in = 2, .expect = ST_ERR_SHAPE}},
};

/* x with an axis of size 1, or without it. */
static gd_tensor_t *compose_axis(compose_t *c, gd_tensor_t *x, int axis, bool is_added)
{
    gd_tensor_t *y = NULL;
    if (c->status != ST_OK) {
        return NULL;
    }
    status_t status = is_added ? gd_unsqueeze(x, axis, &y) : gd_squeeze(x, axis, &y);
    return compose_take(c, status, y);
}

status_t gd_matmul(gd_tensor_t *a, gd_tensor_t *b, gd_tensor_t **y_p)
{
    if (a == NULL || b == NULL || (a->n_dims != 1 && b->n_dims != 1)) {
        return gd_op_binary(GD_OP_MATMUL, a, b, y_p);
    }
    compose_t c = {0};
    gd_tensor_t *rows = a->n_dims == 1 ? compose_axis(&c, a, 0, true) : a;
    gd_tensor_t *columns = b->n_dims == 1 ? compose_axis(&c, b, 1, true) : b;
    gd_tensor_t *y = compose_binary(&c, GD_OP_MATMUL, rows, columns);
    y = b->n_dims == 1 ? compose_axis(&c, y, -1, false) : y;
    y = a->n_dims == 1 ? compose_axis(&c, y, b->n_dims == 1 ? -1 : -2, false) : y;
    return compose_finish(&c, y, y_p);
}

status_t gd_linear(gd_tensor_t *x, gd_tensor_t *weight, gd_tensor_t *bias, gd_tensor_t **y_p)
{
    gd_tensor_t *in[3] = {x, weight, bias};
    return gd_op_apply(GD_OP_LINEAR, in, 3, NULL, y_p);
}

status_t gd_linear_transposed(gd_tensor_t *x, gd_tensor_t *weight, gd_tensor_t *bias, gd_tensor_t **y_p)
{
    gd_tensor_t *in[3] = {x, weight, bias};
    const gd_attrs_t attrs = {.i = {0, 1}};
    return gd_op_apply(GD_OP_LINEAR, in, 3, &attrs, y_p);
}
