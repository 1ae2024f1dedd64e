/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ops/inplace: changes of values in place, and how they are recorded.
 *
 * Note [Rebasing]: for a recorded change of x, an alias `old` takes over x's graph, the new values are computed from it
 * as a result of their own, copied over x's memory, and x takes over that result's graph. Where the op keeps its
 * inputs for backward, `old` is a copy of the values, so that they outlive the change.
 *
 *   before   x ──▶ node               after   x ──▶ new node ──▶ node
 *
 * Where x is a view its base is rebased too: see Note [Views follow their base].
 */
#include "gradd/inplace.h"

#include "autograd/node.h"
#include "ops/compose.h"

typedef struct change {
    const char *name;
    gd_tensor_t *x;
    gd_tensor_t *old; /* counted: what to compute from */
    bool is_recorded;
} change_t;

static bool has_shared_elements(const gd_tensor_t *x)
{
    for (int i = 0; i < x->n_dims; i++) {
        if (x->stride[i] == 0 && x->shape[i] > 1) {
            return true;
        }
    }
    return false;
}

/* is_kept: the values before the change must outlive it, when it is recorded. */
static status_t change_begin(change_t *change, const char *name, gd_tensor_t *x, gd_tensor_t *const *others,
                             int n_others, bool is_kept)
{
    const bool is_enabled = gd_grad_is_enabled();
    if (x == NULL) {
        return gd_op_check_given(name, x, 0);
    }
    bool is_tracked = gd_tensor_tracks(x);
    for (int i = 0; i < n_others; i++) {
        if (others[i] == NULL) {
            return gd_op_check_given(name, others[i], i + 1);
        }
    }
    for (int i = 0; i < n_others; i++) {
        is_tracked = is_tracked || gd_tensor_tracks(others[i]);
    }
    *change = (change_t){.name = name, .x = x, .is_recorded = is_enabled && is_tracked && gd_dtype_is_float(x->dtype)};
    if (is_enabled && ((x->requires_grad && x->node == NULL) || (x->base != NULL && x->base->requires_grad))) {
        return gd_op_fail_shapes(ST_ERR_STATE, name, x, NULL,
                                 x->base == NULL ? "a leaf that requires a gradient can't be changed in place while "
                                                   "gradients are on"
                                                 : "a view of a leaf that requires a gradient can't be changed in "
                                                   "place while gradients are on");
    }
    if (has_shared_elements(x)) {
        return gd_op_fail_shapes(ST_ERR_STATE, name, x, NULL,
                                 "several of its elements share memory (it was expanded); change a copy");
    }
    if (!change->is_recorded) {
        change->old = gd_tensor_ref(x);
        return ST_OK;
    }
    if (x->is_view && tape_view_obstacle(x) != NULL) {
        return gd_op_fail_shapes(ST_ERR_STATE, name, x, NULL, tape_view_obstacle(x));
    }
    status_t status = tape_view_refresh(name, "input", 0, x);
    if (status == ST_OK) {
        status = gd_tensor_new_alias(x, &change->old);
    }
    if (status == ST_OK && is_kept) {
        change->old = gd_tensor_unref(change->old);
        status = gd_tensor_new(x->dtype, x->n_dims, x->shape, &change->old);
        if (status == ST_OK) {
            status = gd_tensor_copy(change->old, x);
        }
    }
    if (status != ST_OK) {
        change->old = gd_tensor_unref(change->old);
        return status;
    }
    change->old->node = x->node;
    x->node = NULL;
    return ST_OK;
}

static status_t result_check(const change_t *change, const gd_tensor_t *y)
{
    const gd_tensor_t *x = change->x;
    if (!gd_shape_equal(x->n_dims, x->shape, y->n_dims, y->shape)) {
        return gd_op_fail_shapes(ST_ERR_SHAPE, change->name, x, y, "the result isn't of the tensor's shape");
    }
    if (gd_dtype_category(y->dtype) > gd_dtype_category(x->dtype)) {
        return ST_FAIL(ST_ERR_DTYPE, "%s: a result of %s doesn't go into %s", change->name, gd_dtype_name(y->dtype),
                       gd_dtype_name(x->dtype));
    }
    return ST_OK;
}

static void version_mark(const change_t *change)
{
    gd_storage_t *storage = change->x->storage;
    storage->changed_by = change->name;
    if (change->is_recorded) {
        storage->recorded_version = storage->version;
    }
}

/* x takes y's values and, when recorded, its graph; takes y, which is there when status is ST_OK. */
static status_t change_finish(change_t *change, status_t status, gd_tensor_t *y)
{
    gd_tensor_t *x = change->x;
    if (status == ST_OK) {
        status = result_check(change, y);
    }
    if (status == ST_OK && change->is_recorded && y->dtype != x->dtype) {
        gd_tensor_t *cast = NULL;
        status = gd_cast(y, x->dtype, &cast);
        if (status == ST_OK) {
            (void)gd_tensor_unref(y);
            y = cast;
        }
    }
    gd_tensor_t *put = NULL;
    if (status == ST_OK && change->is_recorded && x->is_view) {
        status = tape_view_put_begin(x, y, &put);
    }
    if (status == ST_OK && y != x) {
        status = gd_tensor_copy(x, y);
    }
    if (change->is_recorded) {
        x->node = change->old->node;
        change->old->node = NULL;
        if (status == ST_OK) {
            tape_graph_move(x, y);
        }
    }
    if (status == ST_OK) {
        version_mark(change);
    }
    if (put != NULL) {
        tape_view_put_finish(status == ST_OK ? x : NULL, put);
    }
    (void)gd_tensor_unref(change->old);
    (void)gd_tensor_unref(y);
    return status;
}

/* Whether the op may write its result over x while it reads in[n]: elementwise, and nothing else overlaps. */
static bool can_overwrite(const gd_op_t *op, const gd_tensor_t *x, gd_tensor_t *const *in, int n, gd_dtype_t dtype)
{
    if (!x->is_contiguous || dtype != x->dtype || op->is_view || op->contiguous_in != 0 || !op->is_elementwise) {
        return false;
    }
    for (int i = 0; i < n; i++) {
        if (in[i] != x && in[i]->storage == x->storage) {
            return false;
        }
    }
    return true;
}

static status_t result_compute(change_t *change, gd_op_id_t id, gd_tensor_t *const *in, int n_in,
                               const gd_attrs_t *attrs, gd_tensor_t **y_p)
{
    const gd_op_t *op = gd_op_get(id);
    gd_meta_t meta[GD_MAX_OUT];
    static const gd_attrs_t none;
    if (!change->is_recorded && op->is_elementwise && n_in == op->n_in &&
        op->infer(in, n_in, attrs != NULL ? attrs : &none, meta) == ST_OK &&
        can_overwrite(op, change->x, in, n_in, meta[0].dtype) &&
        gd_shape_equal(meta[0].n_dims, meta[0].shape, change->x->n_dims, change->x->shape)) {
        status_t status = gd_op_apply_into(id, in, n_in, attrs, change->x);
        if (status == ST_OK) {
            *y_p = gd_tensor_ref(change->x);
        }
        return status;
    }
    gd_tensor_t *out[GD_MAX_OUT] = {NULL};
    status_t status = gd_op_apply(id, in, n_in, attrs, out);
    for (int i = 1; i < GD_MAX_OUT; i++) {
        (void)gd_tensor_unref(out[i]);
    }
    if (status == ST_OK) {
        *y_p = out[0];
    }
    return status;
}

status_t gd_op_apply_inplace(gd_op_id_t id, gd_tensor_t *x, gd_tensor_t *const *others, int n_others,
                             const gd_attrs_t *attrs)
{
    if ((unsigned)id >= GD_OP_COUNT) {
        return ST_FAIL(ST_ERR_INVAL, "%d is no op", (int)id);
    }
    const gd_op_t *op = gd_op_get(id);
    if (n_others < 0 || n_others + 1 > op->n_in) {
        return ST_FAIL(ST_ERR_INVAL, "%s: %d inputs given, %d to %d are possible", op->name, n_others + 1,
                       op->n_in_required, op->n_in);
    }
    change_t change;
    status_t status =
        change_begin(&change, op->name, x, others, n_others, (op->saves & GD_SAVE_INPUTS) != 0 || op->is_view);
    if (status != ST_OK) {
        return status;
    }
    gd_tensor_t *in[GD_MAX_IN];
    gd_tensor_t *y = NULL;
    in[0] = change.old;
    for (int i = 0; i < n_others; i++) {
        in[i + 1] = others[i] == x ? change.old : others[i];
    }
    status = result_compute(&change, id, in, n_others + 1, attrs, &y);
    return change_finish(&change, status, y);
}

status_t gd_add_inplace(gd_tensor_t *x, gd_tensor_t *y)
{
    return gd_op_apply_inplace(GD_OP_ADD, x, &y, 1, NULL);
}

status_t gd_sub_inplace(gd_tensor_t *x, gd_tensor_t *y)
{
    return gd_op_apply_inplace(GD_OP_SUB, x, &y, 1, NULL);
}

status_t gd_mul_inplace(gd_tensor_t *x, gd_tensor_t *y)
{
    return gd_op_apply_inplace(GD_OP_MUL, x, &y, 1, NULL);
}

status_t gd_div_inplace(gd_tensor_t *x, gd_tensor_t *y)
{
    return gd_op_apply_inplace(GD_OP_DIV, x, &y, 1, NULL);
}

status_t gd_with_number_inplace(gd_inplace_func_t function, gd_tensor_t *x, gd_number_t number)
{
    gd_tensor_t *t = NULL;
    status_t status = gd_number_operand(x, number, true, &t);
    if (status == ST_OK) {
        status = function(x, t);
    }
    (void)gd_tensor_unref(t);
    return status;
}

status_t gd_scale_inplace(gd_tensor_t *x, double factor, double offset)
{
    const gd_attrs_t attrs = {.f = {factor, offset}};
    return gd_op_apply_inplace(GD_OP_SCALE, x, NULL, 0, &attrs);
}

status_t gd_clamp_inplace(gd_tensor_t *x, double lo, double hi)
{
    change_t change;
    gd_tensor_t *y = NULL;
    status_t status = change_begin(&change, "clamp", x, NULL, 0, true);
    if (status != ST_OK) {
        return status;
    }
    status = gd_clamp(change.old, lo, hi, &y);
    return change_finish(&change, status, y);
}

status_t gd_masked_fill_inplace(gd_tensor_t *x, gd_tensor_t *mask, double value)
{
    change_t change;
    gd_tensor_t *y = NULL;
    status_t status = change_begin(&change, "masked_fill", x, NULL, 0, false);
    if (status != ST_OK) {
        return status;
    }
    status = gd_masked_fill(change.old, mask, value, &y);
    return change_finish(&change, status, y);
}

status_t gd_index_add_inplace(gd_tensor_t *x, int axis, gd_tensor_t *index, gd_tensor_t *source, double alpha)
{
    change_t change;
    gd_tensor_t *y = NULL;
    status_t status = change_begin(&change, "index_add", x, &source, 1, source == x);
    if (status != ST_OK) {
        return status;
    }
    status = gd_index_add(change.old, axis, index, source == x ? change.old : source, alpha, &y);
    return change_finish(&change, status, y);
}

status_t gd_scatter_inplace(gd_tensor_t *x, int axis, gd_tensor_t *index, gd_tensor_t *source)
{
    change_t change;
    gd_tensor_t *y = NULL;
    status_t status = change_begin(&change, "scatter", x, &source, 1, false);
    if (status != ST_OK) {
        return status;
    }
    status = gd_scatter(change.old, axis, index, source == x ? change.old : source, &y);
    return change_finish(&change, status, y);
}

status_t gd_masked_scatter_inplace(gd_tensor_t *x, gd_tensor_t *mask, gd_tensor_t *source)
{
    change_t change;
    gd_tensor_t *y = NULL;
    status_t status = change_begin(&change, "masked_scatter", x, &source, 1, false);
    if (status != ST_OK) {
        return status;
    }
    status = gd_masked_scatter(change.old, mask, source == x ? change.old : source, &y);
    return change_finish(&change, status, y);
}

status_t gd_index_put_inplace(gd_tensor_t *x, gd_tensor_t *const *indices, int n_indices, gd_tensor_t *values,
                              bool accumulates)
{
    change_t change;
    gd_tensor_t *y = NULL;
    status_t status = change_begin(&change, "index_put", x, &values, 1, false);
    if (status != ST_OK) {
        return status;
    }
    status = gd_index_put(change.old, indices, n_indices, values == x ? change.old : values, accumulates, &y);
    return change_finish(&change, status, y);
}

/* y as something of its own, of x's shape and dtype. */
static status_t copy_make(gd_tensor_t *y, const gd_tensor_t *x, gd_tensor_t **copy_p)
{
    compose_t c = {0};
    gd_tensor_t *whole = NULL;
    status_t status = gd_expand(y, x->n_dims, x->shape, &whole);
    whole = compose_take(&c, status, whole);
    const gd_attrs_t attrs = {.i = {(int64_t)x->dtype}};
    gd_tensor_t *copy = c.status != ST_OK          ? NULL
                        : whole->dtype == x->dtype ? compose_unary(&c, GD_OP_CONTIGUOUS, whole)
                                                   : compose_op(&c, GD_OP_CAST, &whole, 1, &attrs);
    return compose_finish(&c, copy, copy_p);
}

status_t gd_copy_inplace(gd_tensor_t *x, gd_tensor_t *y)
{
    change_t change;
    gd_tensor_t *copy = NULL;
    status_t status = change_begin(&change, "copy", x, &y, 1, false);
    if (status != ST_OK) {
        return status;
    }
    if (gd_dtype_category(y->dtype) > gd_dtype_category(x->dtype)) {
        status = result_check(&change, y); /* before copy_make casts it */
    }
    status = status == ST_OK ? copy_make(y == x ? change.old : y, x, &copy) : status;
    return change_finish(&change, status, copy);
}

status_t gd_fill_inplace(gd_tensor_t *x, double value)
{
    change_t change;
    gd_tensor_t *number = NULL;
    gd_tensor_t *whole = NULL;
    status_t status = change_begin(&change, "fill", x, NULL, 0, false);
    if (status != ST_OK) {
        return status;
    }
    status = gd_tensor_scalar(x->dtype, value, &number);
    if (status == ST_OK) {
        status = gd_expand(number, x->n_dims, x->shape, &whole);
    }
    (void)gd_tensor_unref(number);
    return change_finish(&change, status, whole);
}

status_t gd_zero_inplace(gd_tensor_t *x)
{
    return gd_fill_inplace(x, 0);
}
