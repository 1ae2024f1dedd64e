/* SPDX-License-Identifier: Apache-2.0 */
/*
 * view: the graph of views, and of what they are views of, when one of them is changed in place.
 *
 * Note [Views follow their base]: a view keeps its base, the tensor that all views of views lead back to. A recorded
 * change of a view gives the base a new graph, in which the view's place has the new values; a recorded change of the
 * base, or of another view of it, makes the view stale, and when it is used next it is taken anew from the base.
 *
 *   before   view ──▶ slice ──┐              after   view ──▶ change ──▶ slice ──┐
 *            base ────────────┴▶ node                base ──▶ put ──┴────────────┴▶ node
 *
 * Views that were taken while gradients were off keep no base: their changes can't be recorded. What a node keeps for
 * its backward are values alone: such a view lets go of its base, whose graph may lead to that very node.
 */
#include "autograd/node.h"
#include "ops/helpers.h"

void tape_view_begin(gd_tensor_t *t, gd_tensor_t *x)
{
    t->is_view = true;
    t->view_version = t->storage->version;
    if (gd_grad_is_enabled() && gd_dtype_is_float(t->dtype)) {
        gd_tensor_t *base = x->is_view ? x->base : x;
        t->base = base != NULL ? gd_tensor_ref(base) : NULL;
    }
}

/* The view as as_strided of its base; false where as_strided doesn't give such. */
static bool view_find(const gd_tensor_t *view, gd_attrs_t *attrs_p)
{
    const gd_tensor_t *base = view->base;
    if (base == NULL || !base->is_contiguous) {
        return false;
    }
    *attrs_p = (gd_attrs_t){.i = {view->n_dims, view->offset - base->offset}};
    for (int i = 0; i < view->n_dims; i++) {
        attrs_p->i[AS_SHAPE + i] = view->shape[i];
        attrs_p->i[AS_STRIDE + i] = view->stride[i];
        if (view->stride[i] < 0) {
            return false;
        }
    }
    return true;
}

/* Not, where each axis steps over all that those of smaller strides reach. */
bool tape_view_overlaps(const gd_tensor_t *view)
{
    int64_t reach = 0;
    bool is_taken[GD_MAX_DIMS] = {false};
    for (int n = 0; n < view->n_dims && view->numel > 0; n++) {
        int next = -1;
        for (int i = 0; i < view->n_dims; i++) {
            if (!is_taken[i] && (next < 0 || view->stride[i] < view->stride[next])) {
                next = i;
            }
        }
        is_taken[next] = true;
        if (view->shape[next] > 1 && view->stride[next] <= reach) {
            return true;
        }
        reach += (view->shape[next] - 1) * view->stride[next];
    }
    return false;
}

const char *tape_view_obstacle(const gd_tensor_t *view)
{
    gd_attrs_t attrs;
    if (view->base == NULL) {
        return "a view that was taken while gradients were off can't be changed in place as part of a graph; take it "
               "again";
    }
    if (!view_find(view, &attrs)) {
        return "a view of a tensor that isn't contiguous, or a reversed one, can't be changed in place as part of a "
               "graph; change a copy";
    }
    return tape_view_overlaps(view) ? "several of its elements share memory; change a copy" : NULL;
}

void tape_graph_move(gd_tensor_t *x, gd_tensor_t *from)
{
    tape_node_t *before = x->node;
    x->node = from->node != NULL ? tape_node_ref(from->node) : NULL;
    if (before != NULL && before->retainer == x) {
        before->retainer = NULL;
        if (x->node != NULL) {
            x->node->retainer = x;
        }
    }
    (void)tape_node_unref(before);
}

status_t tape_view_refresh(const char *op, const char *role, int index, gd_tensor_t *t)
{
    if (__builtin_expect(!gd_tensor_is_stale(t), 1)) {
        return ST_OK;
    }
    gd_attrs_t attrs;
    if (!view_find(t, &attrs)) {
        return gd_tensor_fail_stale(op, role, index, t);
    }
    gd_tensor_t *again = NULL;
    const bool was_enabled = gd_grad_set_enabled(true);
    status_t status = gd_op_apply(GD_OP_AS_STRIDED, &t->base, 1, &attrs, &again);
    (void)gd_grad_set_enabled(was_enabled);
    if (status == ST_OK) {
        tape_graph_move(t, again);
        t->view_version = again->view_version;
    }
    (void)gd_tensor_unref(again);
    return status;
}

/* in[0]: the base as it was, in[1]: the view's new values. The view's place gets no gradient in the base before. */
static status_t put_backward(gd_node_t *node, gd_tensor_t *dy, gd_tensor_t **dx)
{
    gd_tensor_t *whole = NULL;
    gd_tensor_t *place = NULL;
    gd_tensor_t *part = NULL;
    status_t status = gd_op_apply(GD_OP_CONTIGUOUS, &dy, 1, NULL, &whole);
    if (status == ST_OK) {
        status = gd_op_apply(GD_OP_AS_STRIDED, &whole, 1, &node->attrs, &place);
    }
    if (status == ST_OK && node->needs[1]) {
        status = gd_op_apply(GD_OP_CONTIGUOUS, &place, 1, NULL, &part);
    }
    if (status == ST_OK && node->needs[0]) {
        status = gd_tensor_fill(place, 0);
    }
    (void)gd_tensor_unref(place);
    if (status != ST_OK) {
        (void)gd_tensor_unref(whole);
        (void)gd_tensor_unref(part);
        return status;
    }
    dx[0] = node->needs[0] ? whole : gd_tensor_unref(whole);
    dx[1] = part;
    return ST_OK;
}

/* Not in the table of ops: the values are there already. */
static const gd_op_t put_row = {
    .name = "view_put", .n_in = 2, .n_in_required = 2, .n_out = 1, .backward = put_backward};

status_t tape_view_put_begin(const gd_tensor_t *view, gd_tensor_t *y, gd_tensor_t **put_p)
{
    gd_attrs_t attrs;
    gd_tensor_t *put = NULL;
    gd_tensor_t *in[2] = {view->base, y};
    if (!view_find(view, &attrs)) {
        return ST_FAIL(ST_ERR_INTERNAL, "view_put: the view isn't a part of its base");
    }
    status_t status = gd_tensor_new_alias(view->base, &put);
    if (status == ST_OK) {
        status = tape_node_record(GD_OP_COUNT, &put_row, in, 2, &attrs, &put, 1);
    }
    if (status != ST_OK) {
        (void)gd_tensor_unref(put);
        return status;
    }
    *put_p = put;
    return ST_OK;
}

void tape_view_put_finish(gd_tensor_t *view, gd_tensor_t *put)
{
    if (view != NULL) {
        tape_graph_move(view->base, put);
        view->view_version = view->storage->version;
    }
    (void)gd_tensor_unref(put);
}
