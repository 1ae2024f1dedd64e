/* SPDX-License-Identifier: Apache-2.0 */
/* ops/shape: views (no kernel: infer gives shape, strides and offset), contiguous and cast. */
#include "ops/helpers.h"

/* attrs of reshape and expand: i0 n_dims; i1 … sizes */
static status_t attrs_set_shape(gd_attrs_t *attrs, const char *op, int n_dims, const int64_t *shape)
{
    if (n_dims < 0 || n_dims > GD_MAX_DIMS) {
        return ST_FAIL(ST_ERR_RANGE, "%s: %d dimensions: at most %d are possible", op, n_dims, GD_MAX_DIMS);
    }
    attrs->i[0] = n_dims;
    for (int i = 0; i < n_dims; i++) {
        attrs->i[i + 1] = shape[i];
    }
    return ST_OK;
}

static status_t attrs_check_n_dims(const char *op, const gd_attrs_t *attrs)
{
    if (attrs->i[0] < 0 || attrs->i[0] > GD_MAX_DIMS) {
        return ST_FAIL(ST_ERR_RANGE, "%s: %lld dimensions: at most %d are possible", op, (long long)attrs->i[0],
                       GD_MAX_DIMS);
    }
    return ST_OK;
}

/* Resolves a size of -1 and compares the number of elements. */
static status_t reshape_sizes(const gd_tensor_t *x, const gd_attrs_t *attrs, gd_meta_t *out)
{
    status_t status = attrs_check_n_dims("reshape", attrs);
    if (status != ST_OK) {
        return status;
    }
    int n_dims = (int)attrs->i[0];
    int open = -1;
    int64_t known = 1;
    bool is_valid = true;
    out->n_dims = n_dims;
    for (int i = 0; i < n_dims; i++) {
        int64_t size = attrs->i[i + 1];
        out->shape[i] = size;
        if (size == -1 && open < 0) {
            open = i;
        } else if (size < 0 || (size > 0 && known > INT64_MAX / size)) {
            is_valid = false;
        } else {
            known *= size;
        }
    }
    if (is_valid && open >= 0 && known > 0 && x->numel % known == 0) {
        out->shape[open] = x->numel / known;
        known = x->numel;
        open = -1;
    }
    if (!is_valid || open >= 0 || known != x->numel) {
        strbuf_t text = {0};
        gd_shape_format(n_dims, attrs->i + 1, &text);
        strbuf_append(&text, " has another number of elements");
        status = gd_op_fail_shapes(ST_ERR_SHAPE, "reshape", x, NULL, strbuf_text(&text));
        strbuf_release(&text);
    }
    return status;
}

/* Strides of x seen with out's shape; false: the elements don't lie on such a grid. */
static bool reshape_strides(const gd_tensor_t *x, gd_meta_t *out)
{
    int64_t stride = 1;
    if (x->is_contiguous) {
        for (int i = out->n_dims - 1; i >= 0; i--) {
            out->stride[i] = stride;
            stride *= out->shape[i] > 0 ? out->shape[i] : 1;
        }
        return true;
    }
    /* Runs of x's dimensions that are contiguous among themselves, from the last on; each must be used up exactly. */
    int i = out->n_dims - 1;
    int d = x->n_dims - 1;
    while (d >= 0) {
        int64_t run = x->shape[d];
        int64_t base = x->stride[d];
        while (d > 0 && (x->shape[d - 1] == 1 || x->stride[d - 1] == run * base || run == 1)) {
            d--;
            base = run == 1 ? x->stride[d] : base;
            run *= x->shape[d];
        }
        d--;
        int64_t filled = 1;
        while (i >= 0 && filled < run) {
            out->stride[i] = base * filled;
            filled *= out->shape[i];
            i--;
        }
        if (filled != run) {
            return false;
        }
    }
    for (; i >= 0; i--) {
        out->stride[i] = 1; /* sizes of 1 */
    }
    return true;
}

static status_t reshape_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    (void)n_in;
    out->dtype = in[0]->dtype;
    out->offset = 0;
    status_t status = reshape_sizes(in[0], attrs, out);
    if (status == ST_OK && !reshape_strides(in[0], out)) {
        return gd_op_fail_shapes(ST_ERR_UNSUPPORTED, "reshape", in[0], NULL,
                                 "its strides have no such view; make it contiguous first");
    }
    return status;
}

static status_t reshape_backward(gd_node_t *node, gd_tensor_t *dy, gd_tensor_t **dx)
{
    return gd_reshape(dy, node->in_meta[0].n_dims, node->in_meta[0].shape, &dx[0]);
}

const gd_op_t gd_op_reshape = {
    .name = "reshape",
    .formula = "y[j…] = x[i…], same order of elements",
    .attrs = "i0 n_dims; i1… sizes, one may be -1",
    .n_in = 1,
    .n_in_required = 1,
    .n_out = 1,
    .dtypes = OPS_DTYPES_ALL,
    .is_view = true,
    .infer = reshape_infer,
    .backward = reshape_backward,
    .onnx = "Reshape",
    .sample = {{.in = {{2, {3, 4}}}, .n_in = 1, .attrs = {.i = {3, 2, 3, 2}}},
               {.in = {{2, {3, 4}}}, .n_in = 1, .attrs = {.i = {2, -1, 2}}},
               {.in = {{0, {0}}}, .n_in = 1, .attrs = {.i = {2, 1, 1}}},
               {.in = {{2, {3, 0}}}, .n_in = 1, .attrs = {.i = {1, 0}}},
               {.in = {{2, {3, 4}}}, .n_in = 1, .attrs = {.i = {2, 5, 2}}, .expect = ST_ERR_SHAPE},
               {.in = {{2, {3, 4}}}, .n_in = 1, .attrs = {.i = {2, -1, -1}}, .expect = ST_ERR_SHAPE},
               {.in = {{2, {3, 4}}}, .n_in = 1, .attrs = {.i = {9}}, .expect = ST_ERR_RANGE}},
};

static status_t permute_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    (void)n_in;
    const gd_tensor_t *x = in[0];
    unsigned seen = 0;
    out->dtype = x->dtype;
    out->n_dims = x->n_dims;
    out->offset = 0;
    for (int i = 0; i < x->n_dims; i++) {
        int64_t axis = attrs->i[i];
        if (axis < 0 || axis >= x->n_dims || (seen >> axis & 1u) != 0) {
            return ST_FAIL(ST_ERR_RANGE, "permute: axis %lld at place %d: the order must hold each of 0 … %d once",
                           (long long)axis, i, x->n_dims - 1);
        }
        seen |= 1u << axis;
        out->shape[i] = x->shape[axis];
        out->stride[i] = x->stride[axis];
    }
    return ST_OK;
}

static status_t permute_backward(gd_node_t *node, gd_tensor_t *dy, gd_tensor_t **dx)
{
    gd_attrs_t inverse = {0};
    for (int i = 0; i < node->in_meta[0].n_dims; i++) {
        inverse.i[node->attrs.i[i]] = i;
    }
    return gd_op_apply(GD_OP_PERMUTE, &dy, 1, &inverse, dx);
}

const gd_op_t gd_op_permute = {
    .name = "permute",
    .formula = "y.shape[i] = x.shape[order[i]]",
    .attrs = "i0… order of x's axes",
    .n_in = 1,
    .n_in_required = 1,
    .n_out = 1,
    .dtypes = OPS_DTYPES_ALL,
    .is_view = true,
    .infer = permute_infer,
    .backward = permute_backward,
    .onnx = "Transpose",
    .sample = {{.in = {{3, {2, 3, 4}}}, .n_in = 1, .attrs = {.i = {2, 0, 1}}},
               {.in = {{0, {0}}}, .n_in = 1},
               {.in = {{3, {2, 0, 4}}}, .n_in = 1, .attrs = {.i = {1, 0, 2}}},
               {.in = {{2, {2, 3}}}, .n_in = 1, .attrs = {.i = {0, 0}}, .expect = ST_ERR_RANGE},
               {.in = {{2, {2, 3}}}, .n_in = 1, .attrs = {.i = {0, 2}}, .expect = ST_ERR_RANGE}},
};

/* Clamps start and stop as Python does. */
static void slice_resolve(int64_t size, const gd_attrs_t *attrs, int64_t *start_p, int64_t *stop_p)
{
    int64_t start = attrs->i[1] < 0 ? (attrs->i[1] + size < 0 ? 0 : attrs->i[1] + size) : attrs->i[1];
    int64_t stop = attrs->i[2] < 0 ? attrs->i[2] + size : attrs->i[2];
    start = start > size ? size : start;
    stop = stop > size ? size : stop;
    *start_p = start;
    *stop_p = stop < start ? start : stop;
}

static status_t slice_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    (void)n_in;
    int64_t axis = attrs->i[0];
    status_t status = gd_op_check_axis("slice", in[0], &axis);
    if (status != ST_OK) {
        return status;
    }
    int64_t step = attrs->i[3];
    if (step < 1) {
        return ST_FAIL(ST_ERR_RANGE, "slice: step %lld: it must be at least 1", (long long)step);
    }
    int64_t start = 0;
    int64_t stop = 0;
    gd_meta_like(in[0], out);
    slice_resolve(out->shape[axis], attrs, &start, &stop);
    out->offset = start * out->stride[axis];
    out->shape[axis] = (stop - start) / step + ((stop - start) % step != 0);
    if (out->shape[axis] > 1) {
        out->stride[axis] *= step;
    }
    if (out->shape[axis] == 0) {
        out->offset = 0;
    }
    return ST_OK;
}

/* dx = 0 outside the slice, dy inside */
static status_t slice_backward(gd_node_t *node, gd_tensor_t *dy, gd_tensor_t **dx)
{
    gd_tensor_t *whole = NULL;
    gd_tensor_t *part = NULL;
    const gd_meta_t *meta = &node->in_meta[0];
    status_t status = gd_tensor_zeros(meta->dtype, meta->n_dims, meta->shape, &whole);
    if (status != ST_OK) {
        return status;
    }
    status = gd_op_apply(GD_OP_SLICE, &whole, 1, &node->attrs, &part);
    if (status == ST_OK) {
        status = gd_tensor_copy(part, dy);
    }
    (void)gd_tensor_unref(part);
    if (status != ST_OK) {
        (void)gd_tensor_unref(whole);
        return status;
    }
    dx[0] = whole;
    return ST_OK;
}

const gd_op_t gd_op_slice = {
    .name = "slice",
    .formula = "y[…, i, …] = x[…, start + i step, …]",
    .attrs = "i0 axis; i1 start; i2 stop, both negative from the end and clamped; i3 step ≥ 1",
    .n_in = 1,
    .n_in_required = 1,
    .n_out = 1,
    .dtypes = OPS_DTYPES_ALL,
    .is_view = true,
    .infer = slice_infer,
    .backward = slice_backward,
    .onnx = "Slice",
    .sample = {{.in = {{2, {5, 4}}}, .n_in = 1, .attrs = {.i = {0, 1, 4, 2}}},
               {.in = {{2, {5, 4}}}, .n_in = 1, .attrs = {.i = {-1, -3, 100, 1}}},
               {.in = {{2, {5, 4}}}, .n_in = 1, .attrs = {.i = {0, 4, 2, 1}}},
               {.in = {{2, {5, 4}}}, .n_in = 1, .attrs = {.i = {2, 0, 1, 1}}, .expect = ST_ERR_RANGE},
               {.in = {{2, {5, 4}}}, .n_in = 1, .attrs = {.i = {0, 0, 1, 0}}, .expect = ST_ERR_RANGE}},
};

static status_t expand_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    (void)n_in;
    const gd_tensor_t *x = in[0];
    status_t status = attrs_check_n_dims("expand", attrs);
    if (status != ST_OK) {
        return status;
    }
    int n_dims = (int)attrs->i[0];
    int lead = n_dims - x->n_dims;
    out->dtype = x->dtype;
    out->n_dims = n_dims;
    out->offset = 0;
    bool is_valid = lead >= 0;
    for (int i = 0; i < n_dims && is_valid; i++) {
        int64_t have = i >= lead ? x->shape[i - lead] : 1;
        int64_t want = attrs->i[i + 1] == -1 && i >= lead ? have : attrs->i[i + 1];
        is_valid = want >= 0 && (have == want || have == 1);
        out->shape[i] = want;
        out->stride[i] = have == want && i >= lead ? x->stride[i - lead] : 0;
    }
    if (!is_valid) {
        strbuf_t text = {0};
        strbuf_append(&text, "can't be expanded to ");
        gd_shape_format(n_dims, attrs->i + 1, &text);
        status = gd_op_fail_shapes(ST_ERR_SHAPE, "expand", x, NULL, strbuf_text(&text));
        strbuf_release(&text);
        return status;
    }
    int64_t numel = 0;
    return gd_shape_check(out->dtype, n_dims, out->shape, &numel);
}

static status_t expand_backward(gd_node_t *node, gd_tensor_t *dy, gd_tensor_t **dx)
{
    return gd_sum_to(node, 0, dy, &dx[0]);
}

const gd_op_t gd_op_expand = {
    .name = "expand",
    .formula = "y[…, i] = x[…, i] or x[…, 0] where x's size is 1",
    .attrs = "i0 n_dims; i1… sizes, -1 keeps",
    .n_in = 1,
    .n_in_required = 1,
    .n_out = 1,
    .dtypes = OPS_DTYPES_ALL,
    .is_view = true,
    .infer = expand_infer,
    .backward = expand_backward,
    .onnx = "Expand",
    .sample = {{.in = {{2, {3, 1}}}, .n_in = 1, .attrs = {.i = {3, 2, 3, 4}}},
               {.in = {{2, {3, 1}}}, .n_in = 1, .attrs = {.i = {2, -1, 5}}},
               {.in = {{0, {0}}}, .n_in = 1, .attrs = {.i = {1, 4}}},
               {.in = {{2, {3, 1}}}, .n_in = 1, .attrs = {.i = {2, 3, 0}}},
               {.in = {{2, {3, 2}}}, .n_in = 1, .attrs = {.i = {2, 3, 4}}, .expect = ST_ERR_SHAPE},
               {.in = {{2, {3, 2}}}, .n_in = 1, .attrs = {.i = {1, 2}}, .expect = ST_ERR_SHAPE}},
};

static status_t contiguous_backward(gd_node_t *node, gd_tensor_t *dy, gd_tensor_t **dx)
{
    (void)node;
    dx[0] = gd_tensor_ref(dy);
    return ST_OK;
}

const gd_op_t gd_op_contiguous = {
    .name = "contiguous",
    .formula = "y = x, row-major",
    .n_in = 1,
    .n_in_required = 1,
    .n_out = 1,
    .dtypes = OPS_DTYPES_ALL,
    .infer = gd_infer_like,
    .backward = contiguous_backward,
    .onnx = "Identity",
    .sample = {{.in = {{3, {2, 3, 4}}}, .n_in = 1}, {.in = {{0, {0}}}, .n_in = 1}, {.in = {{2, {0, 3}}}, .n_in = 1}},
};

static status_t cast_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    (void)n_in;
    if (attrs->i[0] < 0 || attrs->i[0] >= GD_DTYPE_COUNT) {
        return ST_FAIL(ST_ERR_DTYPE, "cast: %lld is no dtype", (long long)attrs->i[0]);
    }
    gd_meta_set(out, (gd_dtype_t)attrs->i[0], in[0]->n_dims, in[0]->shape);
    return ST_OK;
}

static status_t cast_backward(gd_node_t *node, gd_tensor_t *dy, gd_tensor_t **dx)
{
    return gd_cast(dy, node->in_meta[0].dtype, &dx[0]);
}

const gd_op_t gd_op_cast = {
    .name = "cast",
    .formula = "y = x, rounded to nearest even (floats), towards zero (integers); bool: x ≠ 0",
    .attrs = "i0 dtype",
    .n_in = 1,
    .n_in_required = 1,
    .n_out = 1,
    .dtypes = OPS_DTYPES_ALL,
    .infer = cast_infer,
    .backward = cast_backward,
    .onnx = "Cast",
    .sample = {{.in = {{2, {3, 4}}}, .n_in = 1, .attrs = {.i = {GD_DTYPE_F64}}},
               {.in = {{0, {0}}}, .n_in = 1, .attrs = {.i = {GD_DTYPE_F64}}},
               {.in = {{2, {0, 3}}}, .n_in = 1, .attrs = {.i = {GD_DTYPE_F64}}},
               {.in = {{1, {3}}}, .n_in = 1, .attrs = {.i = {GD_DTYPE_COUNT}}, .expect = ST_ERR_DTYPE}},
};

status_t gd_reshape(gd_tensor_t *x, int n_dims, const int64_t *shape, gd_tensor_t **y_p)
{
    if (x == NULL) {
        return gd_op_check_given("reshape", x, 0);
    }
    /* while nothing is recorded the result has no graph, though x may have one */
    if (gd_shape_equal(x->n_dims, x->shape, n_dims, shape) && (gd_grad_is_enabled() || !gd_tensor_tracks(x))) {
        *y_p = gd_tensor_ref(x);
        return ST_OK;
    }
    gd_attrs_t attrs = {0};
    gd_meta_t meta;
    status_t status = attrs_set_shape(&attrs, "reshape", n_dims, shape);
    if (status == ST_OK) {
        status = reshape_sizes(x, &attrs, &meta);
    }
    if (status != ST_OK) {
        return status;
    }
    if (reshape_strides(x, &meta)) {
        return gd_op_apply(GD_OP_RESHAPE, &x, 1, &attrs, y_p);
    }
    gd_tensor_t *copy = NULL;
    status = gd_contiguous(x, &copy);
    if (status == ST_OK) {
        status = gd_op_apply(GD_OP_RESHAPE, &copy, 1, &attrs, y_p);
    }
    (void)gd_tensor_unref(copy);
    return status;
}

status_t gd_permute(gd_tensor_t *x, const int *order, gd_tensor_t **y_p)
{
    gd_attrs_t attrs = {0};
    if (x == NULL) {
        return gd_op_check_given("permute", x, 0);
    }
    if (order == NULL && x->n_dims > 0) {
        return ST_FAIL(ST_ERR_INVAL, "permute: the order is missing");
    }
    for (int i = 0; i < x->n_dims; i++) {
        attrs.i[i] = order[i] < 0 ? order[i] + x->n_dims : order[i];
    }
    return gd_op_apply(GD_OP_PERMUTE, &x, 1, &attrs, y_p);
}

status_t gd_transpose(gd_tensor_t *x, int axis_a, int axis_b, gd_tensor_t **y_p)
{
    int64_t a = axis_a;
    int64_t b = axis_b;
    status_t status = gd_op_check_axis("transpose", x, &a);
    if (status == ST_OK) {
        status = gd_op_check_axis("transpose", x, &b);
    }
    if (status != ST_OK) {
        return status;
    }
    gd_attrs_t attrs = {0};
    for (int i = 0; i < x->n_dims; i++) {
        attrs.i[i] = i == a ? b : i == b ? a : i;
    }
    return gd_op_apply(GD_OP_PERMUTE, &x, 1, &attrs, y_p);
}

status_t gd_slice(gd_tensor_t *x, int axis, int64_t start, int64_t stop, int64_t step, gd_tensor_t **y_p)
{
    const gd_attrs_t attrs = {.i = {axis, start, stop, step}};
    return gd_op_apply(GD_OP_SLICE, &x, 1, &attrs, y_p);
}

status_t gd_expand(gd_tensor_t *x, int n_dims, const int64_t *shape, gd_tensor_t **y_p)
{
    gd_attrs_t attrs = {0};
    status_t status = attrs_set_shape(&attrs, "expand", n_dims, shape);
    return status == ST_OK ? gd_op_apply(GD_OP_EXPAND, &x, 1, &attrs, y_p) : status;
}

status_t gd_squeeze(gd_tensor_t *x, int axis, gd_tensor_t **y_p)
{
    int64_t at = axis;
    status_t status = gd_op_check_axis("squeeze", x, &at);
    if (status != ST_OK) {
        return status;
    }
    if (x->shape[at] != 1) {
        return ST_FAIL(ST_ERR_SHAPE, "squeeze: axis %lld has size %lld, not 1", (long long)at, (long long)x->shape[at]);
    }
    int64_t shape[GD_MAX_DIMS];
    int n = 0;
    for (int i = 0; i < x->n_dims; i++) {
        if (i != at) {
            shape[n++] = x->shape[i];
        }
    }
    return gd_reshape(x, n, shape, y_p);
}

status_t gd_unsqueeze(gd_tensor_t *x, int axis, gd_tensor_t **y_p)
{
    if (x == NULL) {
        return gd_op_check_given("unsqueeze", x, 0);
    }
    int at = axis < 0 ? axis + x->n_dims + 1 : axis;
    if (at < 0 || at > x->n_dims || x->n_dims == GD_MAX_DIMS) {
        return ST_FAIL(ST_ERR_RANGE, "unsqueeze: axis %d for a tensor with %d dimensions", axis, x->n_dims);
    }
    int64_t shape[GD_MAX_DIMS];
    for (int i = 0; i < at; i++) {
        shape[i] = x->shape[i];
    }
    shape[at] = 1;
    for (int i = at; i < x->n_dims; i++) {
        shape[i + 1] = x->shape[i];
    }
    return gd_reshape(x, x->n_dims + 1, shape, y_p);
}

status_t gd_contiguous(gd_tensor_t *x, gd_tensor_t **y_p)
{
    if (x != NULL && x->is_contiguous) {
        *y_p = gd_tensor_ref(x);
        return ST_OK;
    }
    return gd_op_apply(GD_OP_CONTIGUOUS, &x, 1, NULL, y_p);
}

status_t gd_cast(gd_tensor_t *x, gd_dtype_t dtype, gd_tensor_t **y_p)
{
    if (x != NULL && x->dtype == dtype) {
        *y_p = gd_tensor_ref(x);
        return ST_OK;
    }
    const gd_attrs_t attrs = {.i = {(int64_t)dtype}};
    return gd_op_apply(GD_OP_CAST, &x, 1, &attrs, y_p);
}
