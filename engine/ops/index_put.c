/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ops/index_put: reading and writing by several indices at once, as NumPy's and PyTorch's x[i, :, j] and x[mask].
 *
 * Note [Indexed axes come first]: the indexed axes of x are moved to the front and taken as one axis of places; the
 * indices, broadcast against each other, become places along it. What remains is gather and scatter of rows, so that
 * gradients, order of sums and bits are theirs.
 */
#include "ops/compose.h"
#include "ops/index_parts.h"

/* ---- index_places ---- */

static status_t index_places_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    gd_meta_set(out, GD_DTYPE_I64, 0, NULL);
    for (int k = 0; k < n_in; k++) {
        gd_tensor_t so_far = {.dtype = GD_DTYPE_I64, .n_dims = out->n_dims};
        for (int d = 0; d < out->n_dims; d++) {
            so_far.shape[d] = out->shape[d];
        }
        if (in[k] == NULL || in[k]->dtype != GD_DTYPE_I64) {
            return ST_FAIL(ST_ERR_DTYPE, "index_places: index %d must be i64", k);
        }
        if (attrs->i[k] < 0) {
            return ST_FAIL(ST_ERR_RANGE, "index_places: size %lld", (long long)attrs->i[k]);
        }
        status_t status = gd_meta_broadcast("index_places", &so_far, in[k], out);
        if (status != ST_OK) {
            return status;
        }
    }
    return ST_OK;
}

#define INDEX(limit_x) .dtype = GD_DTYPE_I64, .int_limit = (limit_x), .no_grad = true

const gd_op_t gd_op_index_places = {
    .name = "index_places",
    .formula = "y = (index_0 size_1 + index_1) size_2 + index_2 …, broadcast; negative ones from the end",
    .attrs = "i[k] the size that index k counts in",
    .n_in = GD_MAX_IN,
    .n_in_required = 1,
    .n_out = 1,
    .dtypes = 1 << GD_DTYPE_I64,
    .infer = index_places_infer,
    .sample =
        {{.in = {{2, {3, 1}, INDEX(4)}, {1, {5}, INDEX(6)}}, .n_in = 2, .attrs = {.i = {4, 6}}},
         {.in = {{1, {7}, .dtype = GD_DTYPE_I64, .lo = -3, .hi = 2, .no_grad = true}}, .n_in = 1, .attrs = {.i = {3}}},
         {.in = {{0, {0}, INDEX(2)}, {2, {2, 2}, INDEX(2)}, {1, {2}, INDEX(3)}}, .n_in = 3, .attrs = {.i = {2, 2, 3}}},
         {.in = {{1, {0}, INDEX(1)}}, .n_in = 1, .attrs = {.i = {0}}},
         {.in = {{1, {9}, INDEX(50)}}, .n_in = 1, .attrs = {.i = {3}}, .expect = ST_ERR_RANGE},
         {.in = {{1, {3}, INDEX(2)}, {1, {2}, INDEX(2)}}, .n_in = 2, .attrs = {.i = {2, 2}}, .expect = ST_ERR_SHAPE},
         {.in = {{1, {3}, .dtype = GD_DTYPE_I32}}, .n_in = 1, .expect = ST_ERR_UNSUPPORTED}},
};

/* ---- x[indices] ---- */

typedef struct indexing {
    const char *op;
    gd_tensor_t *index[GD_MAX_DIMS]; /* of each axis of x, i64; NULL: all of it */
    int order[GD_MAX_DIMS];          /* x's axes, the indexed ones first */
    int n_indexed;
    int front;                      /* where the indices' shape stands in the result */
    gd_tensor_t *places;            /* of the indices' shape */
    int64_t n_places;               /* that there are */
    int64_t n_rest;                 /* elements of a row */
    int n_dims;                     /* of the result … */
    int64_t shape[GD_MAX_DIMS];     /* … as the caller sees it … */
    int64_t row_shape[GD_MAX_DIMS]; /* … and with the indices' shape first */
    int from_rows[GD_MAX_DIMS];     /* permutations between the two */
    int to_rows[GD_MAX_DIMS];
} indexing_t;

/* A mask stands for the index of its set elements along each of its axes. */
static status_t mask_expand(compose_t *c, indexing_t *g, const gd_tensor_t *x, gd_tensor_t *mask, int axis)
{
    bool is_fitting = mask->n_dims >= 1 && axis + mask->n_dims <= x->n_dims;
    for (int d = 0; d < mask->n_dims && is_fitting; d++) {
        is_fitting = mask->shape[d] == x->shape[axis + d];
    }
    if (!is_fitting) {
        return gd_op_fail_shapes(ST_ERR_SHAPE, g->op, x, mask, "a mask needs the sizes of the axes that it stands for");
    }
    gd_tensor_t *places = compose_unary(c, GD_OP_NONZERO, mask);
    for (int d = 0; d < mask->n_dims && c->status == ST_OK; d++) {
        gd_tensor_t *column = NULL;
        status_t status = gd_select(places, 1, d, &column);
        g->index[axis + d] = compose_take(c, status, column);
    }
    return c->status;
}

static status_t indices_read(compose_t *c, indexing_t *g, const gd_tensor_t *x, gd_tensor_t *const *indices, int n)
{
    int axis = 0;
    if (x == NULL || (n > 0 && indices == NULL)) {
        return ST_FAIL(ST_ERR_INVAL, "%s: the %s missing", g->op, x == NULL ? "tensor is" : "indices are");
    }
    for (int i = 0; i < n && c->status == ST_OK; i++) {
        const bool is_mask = indices[i] != NULL && indices[i]->dtype == GD_DTYPE_BOOL;
        if (axis >= x->n_dims) {
            return ST_FAIL(ST_ERR_SHAPE, "%s: more indices than the %d dimensions", g->op, x->n_dims);
        }
        if (is_mask) {
            c->status = mask_expand(c, g, x, indices[i], axis);
            axis += indices[i]->n_dims;
            continue;
        }
        g->index[axis++] = indices[i] != NULL ? compose_index(c, g->op, indices[i]) : NULL;
    }
    return c->status;
}

/* The order of x's axes, and the shape of the result. */
static status_t axes_plan(indexing_t *g, const gd_tensor_t *x, const gd_tensor_t *places)
{
    int n = places->n_dims;
    const int n_rest = x->n_dims - g->n_indexed;
    if (n + n_rest > GD_MAX_DIMS) {
        return ST_FAIL(ST_ERR_RANGE, "%s: the result has %d dimensions, %d are possible", g->op, n + n_rest,
                       GD_MAX_DIMS);
    }
    g->n_dims = n + n_rest;
    g->n_rest = 1;
    for (int d = 0; d < n; d++) {
        g->row_shape[d] = places->shape[d];
    }
    for (int i = g->n_indexed; i < x->n_dims; i++) {
        g->row_shape[n++] = x->shape[g->order[i]];
        g->n_rest *= x->shape[g->order[i]];
    }
    for (int d = 0; d < g->n_dims; d++) { /* d: in the result */
        const int of_rows = d < g->front ? places->n_dims + d : d < g->front + places->n_dims ? d - g->front : d;
        g->from_rows[d] = of_rows;
        g->to_rows[of_rows] = d;
        g->shape[d] = g->row_shape[of_rows];
    }
    return ST_OK;
}

static status_t indexing_plan(compose_t *c, indexing_t *g, const gd_tensor_t *x, gd_tensor_t *const *indices, int n)
{
    gd_tensor_t *in[GD_MAX_DIMS];
    gd_attrs_t attrs = {.i = {0}};
    bool is_apart = false;
    int last = -1;
    int n_rest = 0;
    status_t status = indices_read(c, g, x, indices, n);
    if (status != ST_OK) {
        return status;
    }
    g->n_places = 1;
    for (int d = 0; d < x->n_dims; d++) {
        if (g->index[d] == NULL) {
            continue;
        }
        is_apart = is_apart || (last >= 0 && last + 1 != d);
        g->front = last < 0 ? d : g->front;
        last = d;
        in[g->n_indexed] = g->index[d];
        attrs.i[g->n_indexed] = x->shape[d];
        g->order[g->n_indexed++] = d;
        g->n_places *= x->shape[d];
    }
    if (g->n_indexed == 0) {
        return ST_FAIL(ST_ERR_INVAL, "%s: no index is given", g->op);
    }
    g->front = is_apart ? 0 : g->front;
    for (int d = 0; d < x->n_dims; d++) {
        if (g->index[d] == NULL) {
            g->order[g->n_indexed + n_rest++] = d;
        }
    }
    g->places = compose_op(c, GD_OP_INDEX_PLACES, in, g->n_indexed, &attrs);
    return c->status == ST_OK ? axes_plan(g, x, g->places) : c->status;
}

static gd_tensor_t *compose_reshape(compose_t *c, gd_tensor_t *x, int n_dims, const int64_t *shape)
{
    gd_tensor_t *y = NULL;
    if (c->status != ST_OK) {
        return NULL;
    }
    status_t status = gd_reshape(x, n_dims, shape, &y);
    return compose_take(c, status, y);
}

static gd_tensor_t *compose_permute(compose_t *c, gd_tensor_t *x, const int *order)
{
    gd_tensor_t *y = NULL;
    if (c->status != ST_OK) {
        return NULL;
    }
    status_t status = gd_permute(x, order, &y);
    return compose_take(c, status, y);
}

/* x as [places, elements of a row] */
static gd_tensor_t *compose_rows(compose_t *c, const indexing_t *g, gd_tensor_t *x)
{
    const int64_t shape[2] = {g->n_places, g->n_rest};
    return compose_reshape(c, compose_permute(c, x, g->order), 2, shape);
}

status_t gd_index_get(gd_tensor_t *x, gd_tensor_t *const *indices, int n_indices, gd_tensor_t **y_p)
{
    compose_t c = {0};
    indexing_t g = {.op = "index"};
    gd_tensor_t *taken = NULL;
    c.status = indexing_plan(&c, &g, x, indices, n_indices);
    gd_tensor_t *rows = c.status == ST_OK ? compose_rows(&c, &g, x) : NULL;
    gd_tensor_t *flat = c.status == ST_OK ? compose_reshape(&c, g.places, 1, &g.places->numel) : NULL;
    if (c.status == ST_OK) {
        status_t status = gd_index_select(rows, 0, flat, &taken);
        taken = compose_take(&c, status, taken);
    }
    taken = compose_reshape(&c, taken, g.n_dims, g.row_shape);
    return compose_finish(&c, compose_permute(&c, taken, g.from_rows), y_p);
}

/* values of x's dtype; ST_ERR_DTYPE where they would lose what they are. */
static gd_tensor_t *compose_values(compose_t *c, const char *op, const gd_tensor_t *x, gd_tensor_t *values)
{
    gd_tensor_t *cast = NULL;
    if (c->status != ST_OK) {
        return NULL;
    }
    if (gd_dtype_category(values->dtype) > gd_dtype_category(x->dtype)) {
        c->status = ST_FAIL(ST_ERR_DTYPE, "%s: values of %s don't go into %s", op, gd_dtype_name(values->dtype),
                            gd_dtype_name(x->dtype));
        return NULL;
    }
    status_t status = gd_cast(values, x->dtype, &cast);
    return compose_take(c, status, cast);
}

/* rows[P,R] with values[L,R] at places[L]. */
static gd_tensor_t *compose_scatter_rows(compose_t *c, const char *op, gd_tensor_t *rows, gd_tensor_t *places,
                                         gd_tensor_t *values, bool is_added)
{
    const gd_attrs_t attrs = {.i = {0, is_added}};
    gd_tensor_t *in[3] = {values, c->status == ST_OK ? compose_index_over(c, op, places, rows, 0) : NULL, rows};
    return compose_op(c, GD_OP_SCATTER, in, 3, &attrs);
}

status_t gd_index_put(gd_tensor_t *x, gd_tensor_t *const *indices, int n_indices, gd_tensor_t *values, bool accumulates,
                      gd_tensor_t **y_p)
{
    compose_t c = {0};
    indexing_t g = {.op = "index_put"};
    int64_t shape[GD_MAX_DIMS];
    int back[GD_MAX_DIMS];
    gd_tensor_t *whole = NULL;
    c.status = indexing_plan(&c, &g, x, indices, n_indices);
    gd_tensor_t *cast = compose_values(&c, g.op, x, values);
    if (c.status == ST_OK) {
        status_t status = gd_expand(cast, g.n_dims, g.shape, &whole);
        whole = compose_take(&c, status, whole);
    }
    whole = compose_permute(&c, whole, g.to_rows);
    if (c.status == ST_OK) {
        whole = compose_reshape(&c, whole, 2, (const int64_t[2]){g.places->numel, g.n_rest});
    }
    gd_tensor_t *flat = c.status == ST_OK ? compose_reshape(&c, g.places, 1, &g.places->numel) : NULL;
    gd_tensor_t *rows = c.status == ST_OK ? compose_rows(&c, &g, x) : NULL;
    gd_tensor_t *y = compose_scatter_rows(&c, g.op, rows, flat, whole, accumulates);
    for (int i = 0; i < x->n_dims && c.status == ST_OK; i++) {
        shape[i] = x->shape[g.order[i]];
        back[g.order[i]] = i;
    }
    y = compose_reshape(&c, y, x->n_dims, shape);
    return compose_finish(&c, compose_permute(&c, y, back), y_p);
}

status_t gd_masked_scatter(gd_tensor_t *x, gd_tensor_t *mask, gd_tensor_t *source, gd_tensor_t **y_p)
{
    compose_t c = {0};
    gd_meta_t meta;
    gd_tensor_t *values = NULL;
    if (mask->dtype != GD_DTYPE_BOOL && mask->dtype != GD_DTYPE_U8) {
        return ST_FAIL(ST_ERR_DTYPE, "masked_scatter: the mask is %s: it must be bool or u8",
                       gd_dtype_name(mask->dtype));
    }
    c.status = gd_meta_broadcast("masked_scatter", x, mask, &meta);
    gd_tensor_t *flat = compose_flat(&c, x, &meta);
    gd_tensor_t *places = compose_unary(&c, GD_OP_NONZERO, compose_flat(&c, mask, &meta));
    if (c.status == ST_OK && places->numel > source->numel) {
        c.status = gd_op_fail_shapes(ST_ERR_SHAPE, "masked_scatter", mask, source,
                                     "the source has fewer elements than the mask sets");
    }
    gd_tensor_t *cast = compose_values(&c, "masked_scatter", x, source);
    cast = c.status == ST_OK ? compose_reshape(&c, cast, 1, &source->numel) : NULL;
    if (c.status == ST_OK) {
        status_t status = gd_slice(cast, 0, 0, places->numel, 1, &values);
        values = compose_take(&c, status, values);
        places = compose_reshape(&c, places, 1, &places->numel);
    }
    gd_tensor_t *y = compose_scatter_rows(&c, "masked_scatter", flat, places, values, false);
    return compose_finish(&c, compose_reshape(&c, y, meta.n_dims, meta.shape), y_p);
}
