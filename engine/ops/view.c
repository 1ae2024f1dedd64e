/* SPDX-License-Identifier: Apache-2.0 */
/* ops/view: more views (grids, diagonals, reversed axes, parts, memory formats), and copies made from such. */
#include "autograd/node.h"
#include "ops/compose.h"

/* dx = 0 with dy where the view looks; each element of x is seen at most once. */
static status_t view_backward(gd_node_t *node, gd_tensor_t *dy, gd_tensor_t **dx)
{
    gd_tensor_t *whole = NULL;
    gd_tensor_t *part = NULL;
    const gd_meta_t *meta = &node->in_meta[0];
    status_t status = gd_tensor_zeros(dy->dtype, meta->n_dims, meta->shape, &whole);
    if (status != ST_OK) {
        return status;
    }
    status = gd_op_apply(node->id, &whole, 1, &node->attrs, &part);
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

/* ---- as_strided: i0 n_dims, i1 offset, i2… sizes, i10… strides ---- */

_Static_assert(AS_STRIDE + GD_MAX_DIMS <= GD_MAX_ATTR_INT, "as_strided's attributes must fit");

static status_t as_strided_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    (void)n_in;
    const gd_tensor_t *x = in[0];
    int64_t numel = 0;
    int64_t last = attrs->i[1];
    bool is_over = last < 0;
    if (attrs->i[0] < 0 || attrs->i[0] > GD_MAX_DIMS) {
        return ST_FAIL(ST_ERR_RANGE, "as_strided: %lld dimensions: at most %d are possible", (long long)attrs->i[0],
                       GD_MAX_DIMS);
    }
    gd_meta_set(out, x->dtype, (int)attrs->i[0], attrs->i + AS_SHAPE);
    out->offset = attrs->i[1];
    status_t status = gd_shape_check(x->dtype, out->n_dims, out->shape, &numel);
    if (status != ST_OK) {
        return status_add_context(status, "as_strided");
    }
    for (int i = 0; i < out->n_dims; i++) {
        int64_t reach = 0;
        out->stride[i] = attrs->i[AS_STRIDE + i];
        if (numel > 0) {
            is_over = is_over || out->stride[i] < 0 ||
                      __builtin_mul_overflow(out->shape[i] - 1, out->stride[i], &reach) ||
                      __builtin_add_overflow(last, reach, &last);
        }
    }
    if (is_over || (numel > 0 ? last >= x->numel : attrs->i[1] > x->numel)) {
        return gd_op_fail_shapes(ST_ERR_RANGE, "as_strided", x, NULL,
                                 "the offset and strides lead out of the tensor, or are negative");
    }
    if (!x->is_contiguous) {
        return gd_op_fail_shapes(ST_ERR_UNSUPPORTED, "as_strided", x, NULL, "make it contiguous first");
    }
    return ST_OK;
}

/* The same grid over the elements' numbers tells where each dy goes; those that were seen several times get the sum. */
static status_t as_strided_sum(gd_node_t *node, gd_tensor_t *dy, gd_tensor_t **dx)
{
    const gd_meta_t *meta = &node->in_meta[0];
    int64_t numel = 1;
    for (int d = 0; d < meta->n_dims; d++) {
        numel *= meta->shape[d];
    }
    compose_t c = {0};
    gd_tensor_t *numbers = NULL;
    gd_tensor_t *index = NULL;
    gd_tensor_t *source = NULL;
    gd_tensor_t *gradient = NULL;
    status_t status = gd_tensor_new(GD_DTYPE_I64, 1, &numel, &numbers);
    numbers = compose_take(&c, status, numbers);
    for (int64_t i = 0; c.status == ST_OK && i < numel; i++) {
        ((int64_t *)gd_tensor_data(numbers))[i] = i;
    }
    gd_tensor_t *seen = compose_op(&c, GD_OP_AS_STRIDED, &numbers, 1, &node->attrs);
    if (c.status == ST_OK) {
        status = gd_reshape(seen, 1, &dy->numel, &index);
        index = compose_take(&c, status, index);
    }
    if (c.status == ST_OK) {
        status = gd_reshape(dy, 1, &dy->numel, &source);
        source = compose_take(&c, status, source);
    }
    gd_tensor_t *in[2] = {source, index};
    const gd_attrs_t attrs = {.i = {0, 1, 1, numel}};
    gd_tensor_t *flat = compose_op(&c, GD_OP_SCATTER, in, 2, &attrs);
    if (c.status == ST_OK) {
        status = gd_reshape(flat, meta->n_dims, meta->shape, &gradient);
        gradient = compose_take(&c, status, gradient);
    }
    return compose_finish(&c, gradient, dx);
}

static status_t as_strided_backward(gd_node_t *node, gd_tensor_t *dy, gd_tensor_t **dx)
{
    gd_tensor_t grid = {.n_dims = dy->n_dims, .numel = dy->numel};
    for (int i = 0; i < dy->n_dims; i++) {
        grid.shape[i] = dy->shape[i];
        grid.stride[i] = node->attrs.i[AS_STRIDE + i];
    }
    return tape_view_overlaps(&grid) ? as_strided_sum(node, dy, dx) : view_backward(node, dy, dx);
}

const gd_op_t gd_op_as_strided = {
    .name = "as_strided",
    .formula = "y[i…] = x.flat[offset + sum i stride]",
    .attrs = "i0 n_dims; i1 offset; i2… sizes; i10… strides",
    .n_in = 1,
    .n_in_required = 1,
    .n_out = 1,
    .dtypes = OPS_DTYPES_ALL,
    .is_view = true,
    .infer = as_strided_infer,
    .backward = as_strided_backward,
    .sample =
        {{.in = {{2, {3, 4}}}, .n_in = 1, .attrs = {.i = {2, 1, [AS_SHAPE] = 3, 4, [AS_STRIDE] = 1, 2}}},
         {.in = {{1, {7}}}, .n_in = 1, .attrs = {.i = {2, 0, [AS_SHAPE] = 2, 3, [AS_STRIDE] = 3, 1}}},
         {.in = {{1, {7}}}, .n_in = 1, .attrs = {.i = {0, 6}}},
         {.in = {{1, {7}}}, .n_in = 1, .attrs = {.i = {1, 5, [AS_SHAPE] = 3, [AS_STRIDE] = 1}}, .expect = ST_ERR_RANGE},
         {.in = {{1, {7}}},
          .n_in = 1,
          .attrs = {.i = {1, -1, [AS_SHAPE] = 3, [AS_STRIDE] = 1}},
          .expect = ST_ERR_RANGE},
         {.in = {{1, {7}}},
          .n_in = 1,
          .attrs = {.i = {1, 3, [AS_SHAPE] = 3, [AS_STRIDE] = -1}},
          .expect = ST_ERR_RANGE},
         {.in = {{1, {7}}},
          .n_in = 1,
          .attrs = {.i = {1, 0, [AS_SHAPE] = 3, [AS_STRIDE] = INT64_MAX}},
          .expect = ST_ERR_RANGE}},
};

/* ---- diagonal: i0 offset, i1 and i2 the axes ---- */

static status_t diagonal_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    (void)n_in;
    const gd_tensor_t *x = in[0];
    const int64_t offset = attrs->i[0];
    const int64_t a = attrs->i[1];
    const int64_t b = attrs->i[2];
    if (a < 0 || b < 0 || a >= x->n_dims || b >= x->n_dims || a == b) {
        return ST_FAIL(ST_ERR_RANGE, "diagonal: axes %lld and %lld of a tensor with %d dimensions", (long long)a,
                       (long long)b, x->n_dims);
    }
    out->dtype = x->dtype;
    out->n_dims = 0;
    for (int i = 0; i < x->n_dims; i++) {
        if (i != a && i != b) {
            out->shape[out->n_dims] = x->shape[i];
            out->stride[out->n_dims++] = x->stride[i];
        }
    }
    const int64_t rows = offset >= 0 ? x->shape[a] : offset > -x->shape[a] ? x->shape[a] + offset : 0;
    const int64_t columns = offset <= 0 ? x->shape[b] : offset < x->shape[b] ? x->shape[b] - offset : 0;
    const int64_t n = rows < columns ? rows : columns;
    out->shape[out->n_dims] = n;
    out->stride[out->n_dims++] = x->stride[a] + x->stride[b];
    out->offset = n == 0 ? 0 : offset >= 0 ? offset * x->stride[b] : -offset * x->stride[a];
    return ST_OK;
}

const gd_op_t gd_op_diagonal = {
    .name = "diagonal",
    .formula = "y[…, i] = x[…, i, …, i + offset, …]",
    .attrs = "i0 offset; i1, i2 axes",
    .n_in = 1,
    .n_in_required = 1,
    .n_out = 1,
    .dtypes = OPS_DTYPES_ALL,
    .is_view = true,
    .infer = diagonal_infer,
    .backward = view_backward,
    .sample = {{.in = {{2, {4, 5}}}, .n_in = 1, .attrs = {.i = {0, 0, 1}}},
               {.in = {{3, {2, 4, 3}}}, .n_in = 1, .attrs = {.i = {-1, 1, 2}}},
               {.in = {{3, {2, 4, 3}}}, .n_in = 1, .attrs = {.i = {1, 2, 0}}},
               {.in = {{2, {4, 5}}}, .n_in = 1, .attrs = {.i = {9, 0, 1}}},
               {.in = {{2, {4, 5}}}, .n_in = 1, .attrs = {.i = {0, 1, 1}}, .expect = ST_ERR_RANGE}},
};

/* ---- flip: i0 a bit per axis ---- */

static status_t flip_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    (void)n_in;
    gd_meta_like(in[0], out);
    if (attrs->i[0] < 0 || attrs->i[0] >> in[0]->n_dims != 0) {
        return ST_FAIL(ST_ERR_RANGE, "flip: axes 0x%llx of a tensor with %d dimensions",
                       (unsigned long long)attrs->i[0], in[0]->n_dims);
    }
    for (int i = 0; i < out->n_dims; i++) {
        if ((attrs->i[0] >> i & 1) != 0 && out->shape[i] > 1 && in[0]->numel > 0) {
            out->offset += (out->shape[i] - 1) * out->stride[i];
            out->stride[i] = -out->stride[i];
        }
    }
    return ST_OK;
}

const gd_op_t gd_op_flip = {
    .name = "flip",
    .formula = "y[…, i, …] = x[…, size - 1 - i, …]",
    .attrs = "i0 axes, a bit each",
    .n_in = 1,
    .n_in_required = 1,
    .n_out = 1,
    .dtypes = OPS_DTYPES_ALL,
    .is_view = true,
    .infer = flip_infer,
    .backward = view_backward,
    .sample = {{.in = {{2, {4, 5}}}, .n_in = 1, .attrs = {.i = {1}}},
               {.in = {{3, {2, 4, 3}}}, .n_in = 1, .attrs = {.i = {6}}},
               {.in = {{2, {0, 3}}}, .n_in = 1, .attrs = {.i = {3}}},
               {.in = {{0, {0}}}, .n_in = 1},
               {.in = {{2, {4, 5}}}, .n_in = 1, .attrs = {.i = {4}}, .expect = ST_ERR_RANGE}},
};

/* ---- pad: i0… before, i8… after, f0 the value ---- */

static status_t pad_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    (void)n_in;
    int64_t numel = 0;
    gd_meta_set(out, in[0]->dtype, in[0]->n_dims, in[0]->shape);
    for (int i = 0; i < out->n_dims; i++) {
        const int64_t before = attrs->i[i];
        const int64_t after = attrs->i[GD_MAX_DIMS + i];
        if (before < 0 || after < 0 || __builtin_add_overflow(out->shape[i], before, &out->shape[i]) ||
            __builtin_add_overflow(out->shape[i], after, &out->shape[i])) {
            return ST_FAIL(ST_ERR_RANGE, "pad: %lld before and %lld after axis %d; use gd_slice to take away",
                           (long long)before, (long long)after, i);
        }
    }
    status_t status = gd_shape_check(out->dtype, out->n_dims, out->shape, &numel);
    return status == ST_OK ? ST_OK : status_add_context(status, "pad");
}

/* The middle of dy, a view. */
static status_t pad_backward(gd_node_t *node, gd_tensor_t *dy, gd_tensor_t **dx)
{
    compose_t c = {0};
    gd_tensor_t *part = dy;
    for (int i = 0; i < dy->n_dims && c.status == ST_OK; i++) {
        const int64_t before = node->attrs.i[i];
        gd_tensor_t *next = NULL;
        status_t status = gd_slice(part, i, before, before + node->in_meta[0].shape[i], 1, &next);
        part = compose_take(&c, status, next);
    }
    return compose_finish(&c, part, dx);
}

const gd_op_t gd_op_pad = {
    .name = "pad",
    .formula = "y = x with a border of one value",
    .attrs = "i0… before; i8… after; f0 value",
    .n_in = 1,
    .n_in_required = 1,
    .n_out = 1,
    .dtypes = OPS_DTYPES_ALL,
    .infer = pad_infer,
    .backward = pad_backward,
    .onnx = "Pad",
    .sample = {{.in = {{2, {3, 4}}}, .n_in = 1, .attrs = {.i = {1, 0, [GD_MAX_DIMS] = 2, 3}, .f = {1}}},
               {.in = {{3, {2, 0, 3}}}, .n_in = 1, .attrs = {.i = {0, 1, [GD_MAX_DIMS] = 0, 1}}},
               {.in = {{0, {0}}}, .n_in = 1},
               {.in = {{1, {3}}}, .n_in = 1, .attrs = {.i = {-1}}, .expect = ST_ERR_RANGE}},
};

/* ---- tril, triu: i0 diagonal, i1 upper ---- */

static status_t triangle_infer(const char *op, const gd_tensor_t *x, bool is_upper, const gd_attrs_t *attrs,
                               gd_meta_t *out)
{
    gd_meta_set(out, x->dtype, x->n_dims, x->shape);
    if (x->n_dims < 2) {
        return gd_op_fail_shapes(ST_ERR_SHAPE, op, x, NULL, "at least two dimensions are needed");
    }
    const int64_t limit = INT64_MAX / 4;
    if ((attrs->i[1] != 0) != is_upper || attrs->i[0] < -limit || attrs->i[0] > limit) {
        return ST_FAIL(ST_ERR_RANGE, "%s: diagonal %lld", op, (long long)attrs->i[0]);
    }
    return ST_OK;
}

static status_t tril_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    (void)n_in;
    return triangle_infer("tril", in[0], false, attrs, out);
}

static status_t triu_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    (void)n_in;
    return triangle_infer("triu", in[0], true, attrs, out);
}

static status_t triangle_backward(gd_node_t *node, gd_tensor_t *dy, gd_tensor_t **dx)
{
    return gd_op_apply(node->id, &dy, 1, &node->attrs, dx);
}

#define TRIANGLE_ROW(name_x, formula_x, upper_x)                                                                       \
    const gd_op_t gd_op_##name_x = {                                                                                   \
        .name = #name_x,                                                                                               \
        .formula = formula_x,                                                                                          \
        .attrs = "i0 diagonal; i1 upper",                                                                              \
        .n_in = 1,                                                                                                     \
        .n_in_required = 1,                                                                                            \
        .n_out = 1,                                                                                                    \
        .dtypes = OPS_DTYPES_ALL,                                                                                      \
        .contiguous_in = 1,                                                                                            \
        .infer = name_x##_infer,                                                                                       \
        .backward = triangle_backward,                                                                                 \
        .onnx = "Trilu",                                                                                               \
        .sample = {{.in = {{2, {4, 5}}}, .n_in = 1, .attrs = {.i = {0, upper_x}}},                                     \
                   {.in = {{3, {2, 5, 3}}}, .n_in = 1, .attrs = {.i = {-1, upper_x}}},                                 \
                   {.in = {{2, {3, 5}}}, .n_in = 1, .attrs = {.i = {2, upper_x}}},                                     \
                   {.in = {{2, {0, 3}}}, .n_in = 1, .attrs = {.i = {9, upper_x}}},                                     \
                   {.in = {{1, {3}}}, .n_in = 1, .attrs = {.i = {0, upper_x}}, .expect = ST_ERR_SHAPE}},               \
    };
TRIANGLE_ROW(tril, "y[i, j] = x[i, j] where j ≤ i + diagonal, else 0", 0)
TRIANGLE_ROW(triu, "y[i, j] = x[i, j] where j ≥ i + diagonal, else 0", 1)

/* ---- functions ---- */

status_t gd_narrow(gd_tensor_t *x, int axis, int64_t start, int64_t length, gd_tensor_t **y_p)
{
    int64_t at = axis;
    status_t status = gd_op_check_axis("narrow", x, &at);
    if (status != ST_OK) {
        return status;
    }
    const int64_t first = start < 0 ? start + x->shape[at] : start;
    if (first < 0 || length < 0 || first > x->shape[at] || length > x->shape[at] - first) {
        return ST_FAIL(ST_ERR_RANGE, "narrow: %lld elements from %lld on of axis %lld of size %lld", (long long)length,
                       (long long)start, (long long)at, (long long)x->shape[at]);
    }
    return gd_slice(x, (int)at, first, first + length, 1, y_p);
}

status_t gd_select(gd_tensor_t *x, int axis, int64_t index, gd_tensor_t **y_p)
{
    int64_t at = axis;
    status_t status = gd_op_check_axis("select", x, &at);
    if (status != ST_OK) {
        return status;
    }
    const int64_t size = x->shape[at];
    if (index < -size || index >= size) {
        return ST_FAIL(ST_ERR_RANGE, "select: index %lld of axis %lld of size %lld", (long long)index, (long long)at,
                       (long long)size);
    }
    gd_tensor_t *part = NULL;
    index += index < 0 ? size : 0;
    status = gd_slice(x, (int)at, index, index + 1, 1, &part);
    if (status == ST_OK) {
        status = gd_squeeze(part, (int)at, y_p);
    }
    (void)gd_tensor_unref(part);
    return status;
}

static status_t parts_fail(const char *op, const gd_tensor_t *x, int64_t n, int n_max)
{
    strbuf_t text = {0};
    strbuf_appendf(&text, "%lld parts, there is room for %d", (long long)n, n_max);
    status_t status = gd_op_fail_shapes(ST_ERR_RANGE, op, x, NULL, strbuf_text(&text));
    strbuf_release(&text);
    return status;
}

static status_t parts_take(const char *op, gd_tensor_t *x, int64_t axis, int64_t size, int n_max, bool is_unbound,
                           gd_tensor_t **parts_p, int *n_p)
{
    const int64_t whole = x->shape[axis];
    const int64_t n = whole == 0 && !is_unbound ? 1 : (whole + size - 1) / size;
    if (n > n_max) {
        return parts_fail(op, x, n, n_max);
    }
    status_t status = ST_OK;
    int n_made = 0;
    while (n_made < n && status == ST_OK) {
        const int64_t start = n_made * size;
        status = is_unbound ? gd_select(x, (int)axis, start, &parts_p[n_made])
                            : gd_slice(x, (int)axis, start, start + size, 1, &parts_p[n_made]);
        n_made += status == ST_OK;
    }
    if (status != ST_OK) {
        while (n_made > 0) {
            n_made--;
            parts_p[n_made] = gd_tensor_unref(parts_p[n_made]);
        }
        return status;
    }
    *n_p = n_made;
    return ST_OK;
}

status_t gd_split(gd_tensor_t *x, int axis, int64_t size, int n_max, gd_tensor_t **parts_p, int *n_p)
{
    int64_t at = axis;
    status_t status = gd_op_check_axis("split", x, &at);
    if (status == ST_OK && size < 1) {
        status = ST_FAIL(ST_ERR_RANGE, "split: parts of size %lld", (long long)size);
    }
    return status == ST_OK ? parts_take("split", x, at, size, n_max, false, parts_p, n_p) : status;
}

status_t gd_chunk(gd_tensor_t *x, int axis, int n_chunks, int n_max, gd_tensor_t **parts_p, int *n_p)
{
    int64_t at = axis;
    status_t status = gd_op_check_axis("chunk", x, &at);
    if (status == ST_OK && n_chunks < 1) {
        status = ST_FAIL(ST_ERR_RANGE, "chunk: %d chunks", n_chunks);
    }
    if (status != ST_OK) {
        return status;
    }
    const int64_t size = (x->shape[at] + n_chunks - 1) / n_chunks;
    return parts_take("chunk", x, at, size > 0 ? size : 1, n_max, false, parts_p, n_p);
}

status_t gd_unbind(gd_tensor_t *x, int axis, int n_max, gd_tensor_t **parts_p, int *n_p)
{
    int64_t at = axis;
    status_t status = gd_op_check_axis("unbind", x, &at);
    return status == ST_OK ? parts_take("unbind", x, at, 1, n_max, true, parts_p, n_p) : status;
}

status_t gd_as_strided(gd_tensor_t *x, int n_dims, const int64_t *shape, const int64_t *stride, int64_t offset,
                       gd_tensor_t **y_p)
{
    gd_attrs_t attrs = {.i = {n_dims, offset}};
    for (int i = 0; i < n_dims && i < GD_MAX_DIMS; i++) {
        attrs.i[AS_SHAPE + i] = shape[i];
        attrs.i[AS_STRIDE + i] = stride[i];
    }
    return gd_op_apply(GD_OP_AS_STRIDED, &x, 1, &attrs, y_p);
}

status_t gd_diagonal(gd_tensor_t *x, int offset, int axis_a, int axis_b, gd_tensor_t **y_p)
{
    gd_attrs_t attrs = {.i = {offset, axis_a, axis_b}};
    status_t status = gd_op_check_axis("diagonal", x, &attrs.i[1]);
    if (status == ST_OK) {
        status = gd_op_check_axis("diagonal", x, &attrs.i[2]);
    }
    return status == ST_OK ? gd_op_apply(GD_OP_DIAGONAL, &x, 1, &attrs, y_p) : status;
}

status_t gd_movedim(gd_tensor_t *x, int from, int to, gd_tensor_t **y_p)
{
    int64_t a = from;
    int64_t b = to;
    status_t status = gd_op_check_axis("movedim", x, &a);
    if (status == ST_OK) {
        status = gd_op_check_axis("movedim", x, &b);
    }
    if (status != ST_OK) {
        return status;
    }
    int order[GD_MAX_DIMS];
    int next = 0;
    for (int i = 0; i < x->n_dims; i++) {
        next += next == a;
        order[i] = i == b ? (int)a : next++;
    }
    return gd_permute(x, order, y_p);
}

static const int to_last[4] = {0, 2, 3, 1};
static const int from_last[4] = {0, 3, 1, 2};

bool gd_tensor_is_channels_last(const gd_tensor_t *x)
{
    int64_t expected = 1;
    for (int i = 3; i >= 0 && x->n_dims == 4; i--) {
        const int axis = to_last[i];
        if (x->shape[axis] != 1 && x->stride[axis] != expected) {
            return false;
        }
        expected *= x->shape[axis];
    }
    return x->n_dims == 4;
}

status_t gd_channels_last(gd_tensor_t *x, gd_tensor_t **y_p)
{
    if (x->n_dims != 4) {
        return gd_op_fail_shapes(ST_ERR_SHAPE, "channels_last", x, NULL, "[B, C, H, W] is needed");
    }
    if (gd_tensor_is_channels_last(x)) {
        *y_p = gd_tensor_ref(x);
        return ST_OK;
    }
    gd_tensor_t *turned = NULL;
    gd_tensor_t *copy = NULL;
    status_t status = gd_permute(x, to_last, &turned);
    if (status == ST_OK) {
        status = gd_contiguous(turned, &copy);
    }
    if (status == ST_OK) {
        status = gd_permute(copy, from_last, y_p);
    }
    (void)gd_tensor_unref(turned);
    (void)gd_tensor_unref(copy);
    return status;
}

status_t gd_flip(gd_tensor_t *x, int n_axes, const int *axes, gd_tensor_t **y_p)
{
    gd_attrs_t attrs = {0};
    status_t status = gd_op_set_axes("flip", x, n_axes, axes, false, &attrs);
    if (status != ST_OK) {
        return status;
    }
    gd_tensor_t *view = NULL;
    status = gd_op_apply(GD_OP_FLIP, &x, 1, &attrs, &view);
    if (status == ST_OK) {
        status = gd_op_unary(GD_OP_CONTIGUOUS, view, y_p);
    }
    (void)gd_tensor_unref(view);
    return status;
}

status_t gd_roll(gd_tensor_t *x, int axis, int64_t shift, gd_tensor_t **y_p)
{
    int64_t at = axis;
    status_t status = gd_op_check_axis("roll", x, &at);
    if (status != ST_OK) {
        return status;
    }
    const int64_t size = x->shape[at];
    const int64_t cut = size > 0 ? ((size - shift % size) % size) : 0;
    gd_tensor_t *part[2] = {NULL, NULL};
    status = gd_slice(x, (int)at, cut, size, 1, &part[0]);
    if (status == ST_OK) {
        status = gd_slice(x, (int)at, 0, cut, 1, &part[1]);
    }
    if (status == ST_OK) {
        status = gd_cat(part, 2, (int)at, y_p);
    }
    (void)gd_tensor_unref(part[0]);
    (void)gd_tensor_unref(part[1]);
    return status;
}

/* x n times along the axis: [outer, 1, size inner] expanded to [outer, n, size inner], and put together again. */
static gd_tensor_t *compose_repeat(compose_t *c, gd_tensor_t *x, int axis, int64_t n)
{
    if (c->status != ST_OK || n == 1) {
        return x;
    }
    int64_t apart[3] = {1, 1, 1};
    int64_t shape[GD_MAX_DIMS];
    for (int i = 0; i < x->n_dims; i++) {
        shape[i] = i == axis ? x->shape[i] * n : x->shape[i];
        apart[i < axis ? 0 : 2] *= x->shape[i];
    }
    gd_tensor_t *split = NULL;
    gd_tensor_t *expanded = NULL;
    gd_tensor_t *y = NULL;
    status_t status = gd_reshape(x, 3, apart, &split);
    split = compose_take(c, status, split);
    if (c->status == ST_OK) {
        apart[1] = n;
        status = gd_expand(split, 3, apart, &expanded);
        expanded = compose_take(c, status, expanded);
    }
    if (c->status == ST_OK) {
        status = gd_reshape(expanded, x->n_dims, shape, &y);
        y = compose_take(c, status, y);
    }
    return y;
}

status_t gd_repeat(gd_tensor_t *x, int n_dims, const int64_t *times, gd_tensor_t **y_p)
{
    const int lead = n_dims - x->n_dims;
    if (lead < 0 || n_dims > GD_MAX_DIMS) {
        return ST_FAIL(ST_ERR_RANGE, "repeat: %d counts for a tensor with %d dimensions", n_dims, x->n_dims);
    }
    gd_meta_t meta = {.dtype = x->dtype, .n_dims = n_dims};
    for (int i = 0; i < n_dims; i++) {
        const int64_t size = i < lead ? 1 : x->shape[i - lead];
        if (times[i] < 0 || __builtin_mul_overflow(size, times[i], &meta.shape[i])) {
            return ST_FAIL(ST_ERR_RANGE, "repeat: axis %d %lld times", i, (long long)times[i]);
        }
    }
    int64_t numel = 0;
    compose_t c = {0};
    c.status = gd_shape_check(x->dtype, n_dims, meta.shape, &numel);
    gd_tensor_t *y = NULL;
    int64_t shape[GD_MAX_DIMS];
    for (int i = 0; i < n_dims; i++) {
        shape[i] = i < lead ? 1 : x->shape[i - lead];
    }
    if (c.status == ST_OK) {
        status_t status = gd_reshape(x, n_dims, shape, &y);
        y = compose_take(&c, status, y);
    }
    for (int i = n_dims - 1; i >= 0; i--) {
        y = compose_repeat(&c, y, i, times[i]);
    }
    if (c.status == ST_OK && y->storage == x->storage) { /* never x's own memory */
        y = compose_unary(&c, GD_OP_CONTIGUOUS, y);
    }
    return compose_finish(&c, y, y_p);
}

status_t gd_pad(gd_tensor_t *x, const int64_t *before, const int64_t *after, double value, gd_tensor_t **y_p)
{
    gd_attrs_t attrs = {.f = {value}};
    for (int i = 0; i < x->n_dims; i++) {
        attrs.i[i] = before[i];
        attrs.i[GD_MAX_DIMS + i] = after[i];
    }
    return gd_op_apply(GD_OP_PAD, &x, 1, &attrs, y_p);
}

status_t gd_tril(gd_tensor_t *x, int64_t diagonal, gd_tensor_t **y_p)
{
    const gd_attrs_t attrs = {.i = {diagonal, 0}};
    return gd_op_apply(GD_OP_TRIL, &x, 1, &attrs, y_p);
}

status_t gd_triu(gd_tensor_t *x, int64_t diagonal, gd_tensor_t **y_p)
{
    const gd_attrs_t attrs = {.i = {diagonal, 1}};
    return gd_op_apply(GD_OP_TRIU, &x, 1, &attrs, y_p);
}
