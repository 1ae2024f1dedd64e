/* SPDX-License-Identifier: Apache-2.0 */
/* ops/index: joining, gathering and scattering along an axis, selection by mask. */
#include "cpu/kernels.h"
#include "ops/compose.h"
#include "ops/index_parts.h"

/* ---- cat ---- */

static status_t cat_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    int64_t axis = attrs->i[0];
    if (axis < 0 || axis >= in[0]->n_dims) {
        return ST_FAIL(ST_ERR_RANGE, "cat: axis %lld of tensors with %d dimensions", (long long)axis, in[0]->n_dims);
    }
    gd_dtype_t dtypes[GD_MAX_IN];
    int n_dims[GD_MAX_IN];
    gd_meta_set(out, in[0]->dtype, in[0]->n_dims, in[0]->shape);
    out->shape[axis] = 0;
    for (int i = 0; i < n_in; i++) {
        bool is_fitting = in[i] != NULL && in[i]->n_dims == out->n_dims;
        for (int d = 0; d < out->n_dims && is_fitting; d++) {
            is_fitting = d == axis || in[i]->shape[d] == out->shape[d];
        }
        if (!is_fitting) {
            return in[i] == NULL ? ST_FAIL(ST_ERR_INVAL, "cat: input %d is missing", i)
                                 : gd_op_fail_shapes(ST_ERR_SHAPE, "cat", in[0], in[i],
                                                     "sizes must be equal except along the axis");
        }
        out->shape[axis] += in[i]->shape[axis];
        dtypes[i] = in[i]->dtype;
        n_dims[i] = in[i]->n_dims;
    }
    out->dtype = gd_dtype_result(dtypes, n_dims, n_in);
    return ST_OK;
}

/* Each input gets its part of dy, a view. */
static status_t cat_backward(gd_node_t *node, gd_tensor_t *dy, gd_tensor_t **dx)
{
    const int axis = (int)node->attrs.i[0];
    int64_t start = 0;
    status_t status = ST_OK;
    for (int i = 0; i < node->n_in && status == ST_OK; i++) {
        const int64_t size = node->in_meta[i].shape[axis];
        if (node->needs[i]) {
            status = gd_slice(dy, axis, start, start + size, 1, &dx[i]);
        }
        start += size;
    }
    return status;
}

const gd_op_t gd_op_cat = {
    .name = "cat",
    .formula = "y[…, j, …] = the inputs one after the other along the axis",
    .attrs = "i0 axis",
    .n_in = GD_MAX_IN,
    .n_in_required = 1,
    .n_out = 1,
    .dtypes = OPS_DTYPES_ALL,
    .promotes = true,
    .autocast = GD_AUTOCAST_WIDEST,
    .infer = cat_infer,
    .backward = cat_backward,
    .onnx = "Concat",
    .sample = {{.in = {{2, {3, 4}}, {2, {2, 4}}, {2, {1, 4}}}, .n_in = 3},
               {.in = {{3, {2, 3, 4}}, {3, {2, 2, 4}}}, .n_in = 2, .attrs = {.i = {1}}},
               {.in = {{1, {3}}}, .n_in = 1},
               {.in = {{2, {3, 0}}, {2, {3, 2}}}, .n_in = 2, .attrs = {.i = {1}}},
               {.in = {{1, {3}}, {1, {4}, .dtype = GD_DTYPE_I32, .int_limit = 9}}, .n_in = 2},
               {.in = {{2, {3, 4}}, {2, {3, 5}}}, .n_in = 2, .expect = ST_ERR_SHAPE},
               {.in = {{0, {0}}, {0, {0}}}, .n_in = 2, .expect = ST_ERR_RANGE}},
};

static status_t cat_run(gd_tensor_t *const *x, int n, int axis, gd_tensor_t **y_p);

/* More than an op takes: groups first, then what these give. */
static status_t cat_groups(gd_tensor_t *const *x, int n, int axis, gd_tensor_t **y_p)
{
    gd_tensor_t *part[GD_MAX_IN] = {NULL};
    int n_parts = 0;
    int64_t size = GD_MAX_IN; /* the least power that leaves at most GD_MAX_IN groups */
    while (size * GD_MAX_IN < n) {
        size *= GD_MAX_IN;
    }
    status_t status = ST_OK;
    for (int64_t i = 0; i < n && status == ST_OK; i += size) {
        status = cat_run(x + i, (int)(n - i < size ? n - i : size), axis, &part[n_parts]);
        n_parts += status == ST_OK;
    }
    if (status == ST_OK) {
        status = cat_run(part, n_parts, axis, y_p);
    }
    while (n_parts > 0) {
        (void)gd_tensor_unref(part[--n_parts]);
    }
    return status;
}

static status_t cat_run(gd_tensor_t *const *x, int n, int axis, gd_tensor_t **y_p)
{
    const gd_attrs_t attrs = {.i = {axis}};
    return n <= GD_MAX_IN ? gd_op_apply(GD_OP_CAT, x, n, &attrs, y_p) : cat_groups(x, n, axis, y_p);
}

status_t gd_cat(gd_tensor_t *const *x, int n, int axis, gd_tensor_t **y_p)
{
    if (n < 1 || x == NULL) {
        return ST_FAIL(ST_ERR_INVAL, "cat: %d tensors: at least one is needed", n);
    }
    int64_t at = axis;
    status_t status = gd_op_check_axis("cat", x[0], &at);
    return status == ST_OK ? cat_run(x, n, (int)at, y_p) : status;
}

/* cat of x[n] with a new axis each; made[n] is room for these. */
static status_t stack_run(gd_tensor_t *const *x, int n, int axis, gd_tensor_t **made, gd_tensor_t **y_p)
{
    for (int i = 0; i < n; i++) {
        if (x[i] == NULL) {
            return gd_op_check_given("stack", x[i], i);
        }
    }
    const int n_dims = x[0]->n_dims;
    const int at = axis < 0 ? axis + n_dims + 1 : axis;
    status_t status = ST_OK;
    int n_made = 0;
    while (n_made < n && status == ST_OK) {
        if (!gd_shape_equal(n_dims, x[0]->shape, x[n_made]->n_dims, x[n_made]->shape)) {
            status = gd_op_fail_shapes(ST_ERR_SHAPE, "stack", x[0], x[n_made], "shapes must be equal");
        } else {
            status = gd_unsqueeze(x[n_made], at, &made[n_made]);
        }
        n_made += status == ST_OK;
    }
    if (status == ST_OK) {
        status = cat_run(made, n, at, y_p);
    }
    while (n_made > 0) {
        (void)gd_tensor_unref(made[--n_made]);
    }
    return status;
}

status_t gd_stack(gd_tensor_t *const *x, int n, int axis, gd_tensor_t **y_p)
{
    if (n < 1 || x == NULL) {
        return ST_FAIL(ST_ERR_INVAL, "stack: %d tensors: at least one is needed", n);
    }
    gd_tensor_t **made = gd_pool_alloc(gd_context_pool(), (size_t)n * sizeof(*made));
    if (made == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "stack: %d tensors", n);
    }
    status_t status = stack_run(x, n, axis, made, y_p);
    gd_pool_free(gd_context_pool(), made);
    return status;
}

/* ---- gather ---- */

status_t gd_index_fits(const char *op, const gd_tensor_t *index, int64_t axis, int n_dims, const int64_t *shape)
{
    if (index->dtype != GD_DTYPE_I64) {
        return ST_FAIL(ST_ERR_DTYPE, "%s: the index is %s: i64 is needed", op, gd_dtype_name(index->dtype));
    }
    if (axis < 0 || (axis >= n_dims && axis > 0)) {
        return ST_FAIL(ST_ERR_RANGE, "%s: axis %lld of a tensor with %d dimensions", op, (long long)axis, n_dims);
    }
    bool is_fitting = index->n_dims == n_dims;
    for (int d = 0; d < n_dims && is_fitting; d++) {
        is_fitting = d == axis || index->shape[d] <= shape[d];
    }
    if (!is_fitting) {
        gd_tensor_t whole = {.n_dims = n_dims};
        for (int d = 0; d < n_dims; d++) {
            whole.shape[d] = shape[d];
        }
        return gd_op_fail_shapes(ST_ERR_SHAPE, op, &whole, index,
                                 "the index needs as many dimensions and, off the axis, sizes no larger");
    }
    return ST_OK;
}

static status_t gather_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    (void)n_in;
    gd_meta_set(out, in[0]->dtype, in[1]->n_dims, in[1]->shape);
    return gd_index_fits("gather", in[1], attrs->i[0], in[0]->n_dims, in[0]->shape);
}

/* dx = 0 with dy added where it was taken from */
static status_t gather_backward(gd_node_t *node, gd_tensor_t *dy, gd_tensor_t **dx)
{
    const gd_meta_t *meta = &node->in_meta[0];
    gd_tensor_t *in[2] = {dy, node->in[1]};
    gd_attrs_t attrs = {.i = {node->attrs.i[0], 1, meta->n_dims}};
    for (int d = 0; d < meta->n_dims; d++) {
        attrs.i[3 + d] = meta->shape[d];
    }
    return gd_op_apply(GD_OP_SCATTER, in, 2, &attrs, dx);
}

#define INDEX(limit_x) .dtype = GD_DTYPE_I64, .int_limit = (limit_x), .no_grad = true

const gd_op_t gd_op_gather = {
    .name = "gather",
    .formula = "y[…, j, …] = x[…, index[…, j, …], …]",
    .attrs = "i0 axis",
    .n_in = 2,
    .n_in_required = 2,
    .n_out = 1,
    .dtypes = OPS_DTYPES_ALL,
    .saves = GD_SAVE_INPUTS,
    .saves_in = 1u << 1,
    .infer = gather_infer,
    .backward = gather_backward,
    .onnx = "GatherElements",
    .sample = {{.in = {{2, {3, 5}}, {2, {3, 4}, INDEX(5)}}, .n_in = 2, .attrs = {.i = {1}}},
               {.in = {{2, {3, 5}}, {2, {7, 5}, INDEX(3)}}, .n_in = 2, .attrs = {.i = {0}}},
               {.in = {{3, {2, 4, 3}}, {3, {2, 5, 2}, INDEX(4)}}, .n_in = 2, .attrs = {.i = {1}}},
               {.in = {{1, {4}}, {1, {0}, INDEX(1)}}, .n_in = 2},
               {.in = {{1, {4}}, {1, {3}, INDEX(50)}}, .n_in = 2, .expect = ST_ERR_RANGE},
               {.in = {{2, {3, 5}}, {2, {4, 4}, INDEX(3)}}, .n_in = 2, .attrs = {.i = {1}}, .expect = ST_ERR_SHAPE},
               {.in = {{1, {4}}, {1, {3}, .dtype = GD_DTYPE_U8}}, .n_in = 2, .expect = ST_ERR_DTYPE},
               {.in = {{1, {4}}, {1, {3}, INDEX(3)}}, .n_in = 2, .attrs = {.i = {1}}, .expect = ST_ERR_RANGE}},
};

/* ---- scatter ---- */

/* Its shape comes from x, or from i2 … where x is absent. */
static status_t scatter_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    const gd_tensor_t *x = n_in > 2 ? in[2] : NULL;
    if (x == NULL && (attrs->i[2] < 0 || attrs->i[2] > GD_MAX_DIMS)) {
        return ST_FAIL(ST_ERR_RANGE, "scatter: %lld dimensions", (long long)attrs->i[2]);
    }
    if (x != NULL && x->dtype != in[0]->dtype) {
        return ST_FAIL(ST_ERR_DTYPE, "scatter: %s into %s: dtypes must be equal", gd_dtype_name(in[0]->dtype),
                       gd_dtype_name(x->dtype));
    }
    if (!gd_shape_equal(in[0]->n_dims, in[0]->shape, in[1]->n_dims, in[1]->shape)) {
        return gd_op_fail_shapes(ST_ERR_SHAPE, "scatter", in[0], in[1], "source and index must have equal shapes");
    }
    gd_meta_set(out, in[0]->dtype, x != NULL ? x->n_dims : (int)attrs->i[2], x != NULL ? x->shape : attrs->i + 3);
    int64_t numel = 0;
    status_t status = gd_shape_check(out->dtype, out->n_dims, out->shape, &numel);
    return status == ST_OK ? gd_index_fits("scatter", in[1], attrs->i[0], out->n_dims, out->shape) : status;
}

/* dsource = dy at its places; dx = dy, 0 at these places unless it was added to */
static status_t scatter_backward(gd_node_t *node, gd_tensor_t *dy, gd_tensor_t **dx)
{
    const gd_attrs_t attrs = {.i = {node->attrs.i[0]}};
    status_t status = ST_OK;
    if (node->needs[0]) {
        gd_tensor_t *in[2] = {dy, node->in[1]};
        status = gd_op_apply(GD_OP_GATHER, in, 2, &attrs, &dx[0]);
    }
    if (status == ST_OK && node->n_in > 2 && node->needs[2]) {
        if (node->attrs.i[1] != 0) {
            dx[2] = gd_tensor_ref(dy);
            return ST_OK;
        }
        compose_t c = {0};
        gd_tensor_t *zeros = NULL;
        gd_tensor_t *zero = compose_number(&c, dy, 0);
        if (c.status == ST_OK) {
            status = gd_expand(zero, node->in[1]->n_dims, node->in[1]->shape, &zeros);
            zeros = compose_take(&c, status, zeros);
        }
        gd_tensor_t *in[3] = {zeros, node->in[1], dy};
        gd_tensor_t *kept = compose_op(&c, GD_OP_SCATTER, in, 3, &attrs);
        status = compose_finish(&c, kept, &dx[2]);
    }
    return status;
}

const gd_op_t gd_op_scatter = {
    .name = "scatter",
    .formula = "y = x with y[…, index[…, j, …], …] = or += source[…, j, …]",
    .attrs = "i0 axis; i1 add; without x, i2 n_dims, i3… sizes of the zeros that are scattered into",
    .n_in = 3,
    .n_in_required = 2,
    .n_out = 1,
    .dtypes = OPS_DTYPES_ALL,
    .saves = GD_SAVE_INPUTS,
    .saves_in = 1u << 1,
    .infer = scatter_infer,
    .backward = scatter_backward,
    .onnx = "ScatterElements",
    .sample = {{.in = {{2, {3, 4}}, {2, {3, 4}, INDEX(5)}, {2, {3, 5}}}, .n_in = 3, .attrs = {.i = {1, 1}}},
               {.in = {{2, {7, 5}}, {2, {7, 5}, INDEX(3)}, {2, {3, 5}}}, .n_in = 3, .attrs = {.i = {0, 1}}},
               {.in = {{3, {2, 2, 2}}, {3, {2, 2, 2}, INDEX(4)}}, .n_in = 2, .attrs = {.i = {1, 1, 3, 2, 4, 3}}},
               {.in = {{2, {3, 1}}, {2, {3, 1}, INDEX(5)}, {2, {3, 5}}}, .n_in = 3, .attrs = {.i = {1, 0}}},
               {.in = {{1, {0}}, {1, {0}, INDEX(1)}, {1, {3}}}, .n_in = 3},
               {.in = {{1, {3}}, {1, {3}, INDEX(50)}, {1, {4}}}, .n_in = 3, .expect = ST_ERR_RANGE},
               {.in = {{1, {3}}, {1, {2}, INDEX(3)}, {1, {4}}}, .n_in = 3, .expect = ST_ERR_SHAPE},
               {.in = {{1, {3}}, {1, {3}, INDEX(3)}, {1, {4}, .dtype = GD_DTYPE_I64}},
                .n_in = 3,
                .expect = ST_ERR_DTYPE}},
};

/* ---- nonzero ---- */

static status_t nonzero_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    (void)n_in;
    (void)attrs;
    gd_view_t view;
    gd_tensor_get_view(in[0], &view);
    out->dtype = GD_DTYPE_I64;
    out->n_dims = 2;
    out->offset = 0;
    out->shape[0] = gd_cpu_count_nonzero(&view);
    out->shape[1] = in[0]->n_dims;
    return ST_OK;
}

const gd_op_t gd_op_nonzero = {
    .name = "nonzero",
    .formula = "y[n] = the index of the n-th element that isn't 0",
    .n_in = 1,
    .n_in_required = 1,
    .n_out = 1,
    .dtypes = OPS_DTYPES_ALL,
    .contiguous_in = 1,
    .infer = nonzero_infer,
    .onnx = "NonZero",
    .sample = {{.in = {{2, {3, 7}, .lo = -1, .hi = 2}}, .n_in = 1},
               {.in = {{0, {0}}}, .n_in = 1},
               {.in = {{2, {3, 0}}}, .n_in = 1},
               {.in = {{1, {3}}, {1, {3}}}, .n_in = 2, .expect = ST_ERR_INVAL}},
};

/* ---- functions ---- */

gd_tensor_t *compose_index(compose_t *c, const char *op, gd_tensor_t *index)
{
    gd_tensor_t *wide = NULL;
    if (c->status != ST_OK) {
        return NULL;
    }
    if (index == NULL) {
        c->status = ST_FAIL(ST_ERR_INVAL, "%s: the index is missing", op);
        return NULL;
    }
    if (gd_dtype_category(index->dtype) != GD_CATEGORY_INT) {
        c->status =
            ST_FAIL(ST_ERR_DTYPE, "%s: the index is %s: i64, i32 or u8 is needed", op, gd_dtype_name(index->dtype));
        return NULL;
    }
    status_t status = gd_cast(index, GD_DTYPE_I64, &wide);
    return compose_take(c, status, wide);
}

int64_t compose_axis(compose_t *c, const char *op, const gd_tensor_t *x, int axis)
{
    int64_t at = axis;
    if (c->status == ST_OK && x->n_dims > 0) {
        c->status = gd_op_check_axis(op, x, &at);
    } else if (c->status == ST_OK && axis != 0 && axis != -1) {
        c->status = ST_FAIL(ST_ERR_RANGE, "%s: axis %d of a 0-d tensor", op, axis);
    }
    return x->n_dims > 0 ? at : 0;
}

status_t gd_gather(gd_tensor_t *x, int axis, gd_tensor_t *index, gd_tensor_t **y_p)
{
    compose_t c = {0};
    const gd_attrs_t attrs = {.i = {compose_axis(&c, "gather", x, axis)}};
    gd_tensor_t *in[2] = {x, compose_index(&c, "gather", index)};
    gd_tensor_t *y = compose_op(&c, GD_OP_GATHER, in, 2, &attrs);
    return compose_finish(&c, y, y_p);
}

/* x seen with the index's sizes, or the index with x's, off the axis. */
static gd_tensor_t *compose_expand_off_axis(compose_t *c, gd_tensor_t *x, const gd_tensor_t *other, int64_t axis)
{
    int64_t shape[GD_MAX_DIMS];
    gd_tensor_t *y = NULL;
    if (c->status != ST_OK) {
        return NULL;
    }
    for (int d = 0; d < x->n_dims; d++) {
        shape[d] = d != axis && x->shape[d] == 1 ? other->shape[d] : x->shape[d];
    }
    status_t status = gd_expand(x, x->n_dims, shape, &y);
    return compose_take(c, status, y);
}

status_t gd_take_along_dim(gd_tensor_t *x, int axis, gd_tensor_t *index, gd_tensor_t **y_p)
{
    compose_t c = {0};
    const int64_t at = compose_axis(&c, "take_along_dim", x, axis);
    if (c.status == ST_OK && x->n_dims != index->n_dims) {
        c.status = gd_op_fail_shapes(ST_ERR_SHAPE, "take_along_dim", x, index, "as many dimensions are needed");
    }
    gd_tensor_t *wide = compose_index(&c, "take_along_dim", index);
    gd_tensor_t *of_index = compose_expand_off_axis(&c, wide, x, at);
    gd_tensor_t *in[2] = {compose_expand_off_axis(&c, x, index, at), of_index};
    const gd_attrs_t attrs = {.i = {at}};
    gd_tensor_t *y = compose_op(&c, GD_OP_GATHER, in, 2, &attrs);
    return compose_finish(&c, y, y_p);
}

static status_t scatter_apply(const char *op, gd_tensor_t *x, int axis, gd_tensor_t *index, gd_tensor_t *source,
                              bool is_add, gd_tensor_t **y_p)
{
    compose_t c = {0};
    const gd_attrs_t attrs = {.i = {compose_axis(&c, op, x, axis), is_add}};
    gd_tensor_t *in[3] = {source, compose_index(&c, op, index), x};
    gd_tensor_t *y = compose_op(&c, GD_OP_SCATTER, in, 3, &attrs);
    return compose_finish(&c, y, y_p);
}

status_t gd_scatter(gd_tensor_t *x, int axis, gd_tensor_t *index, gd_tensor_t *source, gd_tensor_t **y_p)
{
    return scatter_apply("scatter", x, axis, index, source, false, y_p);
}

status_t gd_scatter_add(gd_tensor_t *x, int axis, gd_tensor_t *index, gd_tensor_t *source, gd_tensor_t **y_p)
{
    return scatter_apply("scatter_add", x, axis, index, source, true, y_p);
}

gd_tensor_t *compose_index_over(compose_t *c, const char *op, gd_tensor_t *index, const gd_tensor_t *like, int64_t axis)
{
    int64_t shape[GD_MAX_DIMS];
    gd_tensor_t *upright = NULL;
    gd_tensor_t *y = NULL;
    gd_tensor_t *wide = compose_index(c, op, index);
    if (c->status != ST_OK) {
        return NULL;
    }
    if (index->n_dims > 1) {
        c->status = gd_op_fail_shapes(ST_ERR_SHAPE, op, index, NULL, "the index must have one dimension");
        return NULL;
    }
    for (int d = 0; d < like->n_dims; d++) {
        shape[d] = d == axis ? index->numel : 1;
    }
    status_t status = gd_reshape(wide, like->n_dims, shape, &upright);
    upright = compose_take(c, status, upright);
    if (c->status != ST_OK) {
        return NULL;
    }
    for (int d = 0; d < like->n_dims; d++) {
        shape[d] = d == axis ? index->numel : like->shape[d];
    }
    status = gd_expand(upright, like->n_dims, shape, &y);
    return compose_take(c, status, y);
}

status_t gd_index_select(gd_tensor_t *x, int axis, gd_tensor_t *index, gd_tensor_t **y_p)
{
    compose_t c = {0};
    const gd_attrs_t attrs = {.i = {compose_axis(&c, "index_select", x, axis)}};
    gd_tensor_t *in[2] = {x, compose_index_over(&c, "index_select", index, x, attrs.i[0])};
    gd_tensor_t *y = compose_op(&c, GD_OP_GATHER, in, 2, &attrs);
    return compose_finish(&c, y, y_p);
}

status_t gd_index_add(gd_tensor_t *x, int axis, gd_tensor_t *index, gd_tensor_t *source, double alpha,
                      gd_tensor_t **y_p)
{
    compose_t c = {0};
    const gd_attrs_t attrs = {.i = {compose_axis(&c, "index_add", x, axis), 1}};
    gd_tensor_t *over = compose_index_over(&c, "index_add", index, x, attrs.i[0]);
    c.status = c.status == ST_OK ? gd_op_check_given("index_add", source, 1) : c.status;
    gd_tensor_t *scaled = source;
    if (alpha != 1.0) {
        gd_tensor_t *factor = compose_number(&c, source, alpha);
        scaled = compose_binary(&c, GD_OP_MUL, source, factor);
    }
    if (c.status == ST_OK && !gd_shape_equal(source->n_dims, source->shape, over->n_dims, over->shape)) {
        c.status = gd_op_fail_shapes(ST_ERR_SHAPE, "index_add", x, source,
                                     "the source needs the tensor's sizes off the axis and the index's along it");
    }
    gd_tensor_t *in[3] = {scaled, over, x};
    gd_tensor_t *y = compose_op(&c, GD_OP_SCATTER, in, 3, &attrs);
    return compose_finish(&c, y, y_p);
}

status_t gd_nonzero(gd_tensor_t *x, gd_tensor_t **y_p)
{
    return gd_op_unary(GD_OP_NONZERO, x, y_p);
}

gd_tensor_t *compose_flat(compose_t *c, gd_tensor_t *x, const gd_meta_t *meta)
{
    gd_tensor_t *whole = NULL;
    gd_tensor_t *flat = NULL;
    if (c->status != ST_OK) {
        return NULL;
    }
    status_t status = gd_expand(x, meta->n_dims, meta->shape, &whole);
    whole = compose_take(c, status, whole);
    if (c->status != ST_OK) {
        return NULL;
    }
    status = gd_reshape(whole, 1, &whole->numel, &flat);
    return compose_take(c, status, flat);
}

status_t gd_masked_select(gd_tensor_t *x, gd_tensor_t *mask, gd_tensor_t **y_p)
{
    compose_t c = {0};
    gd_meta_t meta;
    if (mask->dtype != GD_DTYPE_BOOL && mask->dtype != GD_DTYPE_U8) {
        return ST_FAIL(ST_ERR_DTYPE, "masked_select: the mask is %s: it must be bool or u8",
                       gd_dtype_name(mask->dtype));
    }
    c.status = gd_meta_broadcast("masked_select", x, mask, &meta);
    gd_tensor_t *flat = compose_flat(&c, x, &meta);
    gd_tensor_t *flat_mask = compose_flat(&c, mask, &meta);
    gd_tensor_t *places = compose_unary(&c, GD_OP_NONZERO, flat_mask);
    gd_tensor_t *index = NULL;
    gd_tensor_t *y = NULL;
    if (c.status == ST_OK) {
        status_t status = gd_reshape(places, 1, &places->numel, &index);
        index = compose_take(&c, status, index);
    }
    if (c.status == ST_OK) {
        status_t status = gd_index_select(flat, 0, index, &y);
        y = compose_take(&c, status, y);
    }
    return compose_finish(&c, y, y_p);
}
