/* SPDX-License-Identifier: Apache-2.0 */
/*
 * backward: the walk over the tape.
 *
 * Nodes are taken from a heap by descending sequence number. An op's inputs exist before its output, so when a node is
 * taken, all that used its output have been taken before, and its dy is complete; sums of several contributions are
 * therefore formed in one order, whatever the graph's shape.
 */
#include <string.h>

#include "autograd/node.h"
#include "base/assert.h"

typedef struct queue {
    tape_node_t **nodes; /* a max-heap by sequence; holds references */
    int n;
    int capacity;
} queue_t;

static status_t queue_push(queue_t *queue, tape_node_t *node)
{
    if (queue->n == queue->capacity) {
        int capacity = queue->capacity > 0 ? 2 * queue->capacity : 64;
        tape_node_t **nodes = gd_pool_alloc(gd_context_pool(), (size_t)capacity * sizeof(tape_node_t *));
        if (nodes == NULL) {
            return ST_FAIL(ST_ERR_NOMEM, "the queue of gd_backward");
        }
        if (queue->n > 0) {
            memcpy(nodes, queue->nodes, (size_t)queue->n * sizeof(tape_node_t *));
        }
        gd_pool_free(gd_context_pool(), queue->nodes);
        queue->nodes = nodes;
        queue->capacity = capacity;
    }
    int i = queue->n++;
    while (i > 0 && queue->nodes[(i - 1) / 2]->sequence < node->sequence) {
        queue->nodes[i] = queue->nodes[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    queue->nodes[i] = tape_node_ref(node);
    node->is_queued = true;
    return ST_OK;
}

/* The caller gets the reference. */
static tape_node_t *queue_pop(queue_t *queue)
{
    tape_node_t *top = queue->nodes[0];
    tape_node_t *last = queue->nodes[--queue->n];
    int i = 0;
    for (;;) {
        int child = 2 * i + 1;
        if (child >= queue->n) {
            break;
        }
        if (child + 1 < queue->n && queue->nodes[child + 1]->sequence > queue->nodes[child]->sequence) {
            child++;
        }
        if (queue->nodes[child]->sequence <= last->sequence) {
            break;
        }
        queue->nodes[i] = queue->nodes[child];
        i = child;
    }
    queue->nodes[i] = last;
    top->is_queued = false;
    return top;
}

/* *sum_p += dx, where the sum may be overwritten only if nobody else sees it. Takes dx. */
static status_t gradient_add(gd_tensor_t **sum_p, gd_tensor_t *dx)
{
    if (*sum_p == NULL) {
        *sum_p = dx;
        return ST_OK;
    }
    gd_tensor_t *operands[2] = {*sum_p, dx};
    status_t status;
    if ((*sum_p)->is_contiguous && gd_tensor_is_sole(*sum_p)) {
        status = gd_op_apply_into(GD_OP_ADD, operands, 2, NULL, *sum_p);
    } else {
        gd_tensor_t *sum = NULL;
        status = gd_op_apply(GD_OP_ADD, operands, 2, NULL, &sum);
        if (status == ST_OK) {
            (void)gd_tensor_unref(*sum_p);
            *sum_p = sum;
        }
    }
    (void)gd_tensor_unref(dx);
    return status;
}

/* leaf.grad += dx. Takes dx. */
static status_t leaf_add(gd_tensor_t *leaf, gd_tensor_t *dx)
{
    if (leaf->grad == NULL) {
        if (dx->is_contiguous && gd_tensor_is_sole(dx) && dx->storage->release == NULL) {
            leaf->grad = dx;
            return ST_OK;
        }
        status_t status = gd_tensor_new(leaf->dtype, leaf->n_dims, leaf->shape, &leaf->grad);
        if (status != ST_OK) {
            (void)gd_tensor_unref(dx);
            return status;
        }
        leaf->is_grad_fresh = true;
    }
    status_t status;
    if (leaf->is_grad_fresh) {
        status = gd_tensor_copy(leaf->grad, dx);
        leaf->is_grad_fresh = false;
    } else {
        gd_tensor_t *operands[2] = {leaf->grad, dx};
        status = gd_op_apply_into(GD_OP_ADD, operands, 2, NULL, leaf->grad);
    }
    (void)gd_tensor_unref(dx);
    return status;
}

static status_t node_check(const tape_node_t *node)
{
    const gd_node_t *base = &node->base;
    if (node->is_freed) {
        return ST_FAIL(ST_ERR_STATE, "%s: its graph was freed by an earlier gd_backward; use keep_graph",
                       base->op->name);
    }
    if (base->op->backward == NULL) {
        return ST_FAIL(ST_ERR_UNSUPPORTED, "%s is not differentiable", base->op->name);
    }
    for (int i = 0; i < base->n_in; i++) {
        if (base->in[i] != NULL && base->in[i]->storage->version != node->in_version[i]) {
            return ST_FAIL(ST_ERR_STATE,
                           "%s: input %d, which backward needs, was changed in place (version %u, was %u when saved)",
                           base->op->name, i, base->in[i]->storage->version, node->in_version[i]);
        }
    }
    for (int i = 0; i < base->n_out; i++) {
        if (base->out[i] != NULL && base->out[i]->storage->version != node->out_version[i]) {
            return ST_FAIL(ST_ERR_STATE,
                           "%s: its output, which backward needs, was changed in place (version %u, was %u when saved)",
                           base->op->name, base->out[i]->storage->version, node->out_version[i]);
        }
    }
    return ST_OK;
}

/* Offers the gradient buffers of leaves; the same leaf twice among the inputs is offered once only. */
static void node_offer(tape_node_t *node)
{
    for (int i = 0; i < node->base.n_in; i++) {
        gd_tensor_t *leaf = node->leaf[i];
        node->base.into[i] = NULL;
        node->base.is_written[i] = false;
        if (leaf == NULL || leaf->grad == NULL || !leaf->grad->is_contiguous) {
            continue;
        }
        bool is_repeated = false;
        for (int j = 0; j < i; j++) {
            is_repeated = is_repeated || node->leaf[j] == leaf;
        }
        if (!is_repeated) {
            node->base.into[i] = leaf->grad;
            node->base.into_accumulates[i] = !leaf->is_grad_fresh;
        }
    }
}

static status_t node_route(tape_node_t *node, int i, gd_tensor_t *dx, queue_t *queue)
{
    const gd_meta_t *meta = &node->base.in_meta[i];
    if (!gd_shape_equal(dx->n_dims, dx->shape, meta->n_dims, meta->shape) || dx->dtype != meta->dtype) {
        (void)gd_tensor_unref(dx);
        return ST_FAIL(ST_ERR_INTERNAL, "%s: the gradient of input %d has another shape or dtype than the input",
                       node->base.op->name, i);
    }
    if (node->leaf[i] != NULL) {
        return leaf_add(node->leaf[i], dx);
    }
    tape_node_t *producer = node->producer[i];
    status_t status = gradient_add(&producer->dy, dx);
    if (status == ST_OK && !producer->is_queued) {
        status = queue_push(queue, producer);
    }
    return status;
}

static status_t node_run(tape_node_t *node, queue_t *queue)
{
    status_t status = node_check(node);
    if (status != ST_OK) {
        return status;
    }
    gd_tensor_t *dx[GD_MAX_IN] = {NULL};
    node_offer(node);
    status = node->base.op->backward(&node->base, node->dy, dx);
    node->dy = gd_tensor_unref(node->dy);
    for (int i = 0; i < node->base.n_in; i++) {
        if (node->base.is_written[i]) {
            node->leaf[i]->is_grad_fresh = false;
        }
        if (dx[i] != NULL) {
            if (status == ST_OK && node->base.needs[i]) {
                status = node_route(node, i, dx[i], queue);
            } else {
                (void)gd_tensor_unref(dx[i]);
            }
        }
    }
    return status;
}

static status_t root_gradient(gd_tensor_t *root, gd_tensor_t *dy, gd_tensor_t **dy_p)
{
    if (root->node == NULL) {
        return ST_FAIL(ST_ERR_STATE, "gd_backward: the root has no graph: no input of its op required a gradient");
    }
    if (root->node->is_freed) {
        return ST_FAIL(ST_ERR_STATE, "gd_backward: the root's graph was freed by an earlier call; use keep_graph");
    }
    if (dy == NULL) {
        if (root->numel != 1) {
            return ST_FAIL(ST_ERR_SHAPE, "gd_backward: a root of %lld elements needs a gradient to start from",
                           (long long)root->numel);
        }
        return gd_tensor_full(root->dtype, root->n_dims, root->shape, 1.0, dy_p);
    }
    if (!gd_shape_equal(root->n_dims, root->shape, dy->n_dims, dy->shape) || dy->dtype != root->dtype) {
        strbuf_t text = {0};
        gd_shape_format(root->n_dims, root->shape, &text);
        strbuf_append(&text, " and gradient ");
        gd_shape_format(dy->n_dims, dy->shape, &text);
        status_t status = ST_FAIL(ST_ERR_SHAPE, "gd_backward: root %s %s %s: shapes and dtypes must be equal",
                                  strbuf_text(&text), gd_dtype_name(root->dtype), gd_dtype_name(dy->dtype));
        strbuf_release(&text);
        return status;
    }
    *dy_p = gd_tensor_ref(dy);
    return ST_OK;
}

status_t gd_backward(gd_tensor_t *root, gd_tensor_t *dy, bool keep_graph)
{
    gd_tensor_t *start = NULL;
    status_t status = root_gradient(root, dy, &start);
    if (status != ST_OK) {
        return status;
    }
    bool was_enabled = gd_grad_set_enabled(false);
    queue_t queue = {0};
    root->node->dy = start;
    status = queue_push(&queue, root->node);
    while (status == ST_OK && queue.n > 0) {
        tape_node_t *node = queue_pop(&queue);
        status = node_run(node, &queue);
        if (!keep_graph && status == ST_OK) {
            tape_node_free_graph(node);
        }
        node->dy = gd_tensor_unref(node->dy);
        (void)tape_node_unref(node);
    }
    while (queue.n > 0) {
        tape_node_t *node = queue_pop(&queue);
        node->dy = gd_tensor_unref(node->dy);
        (void)tape_node_unref(node);
    }
    gd_pool_free(gd_context_pool(), queue.nodes);
    (void)gd_grad_set_enabled(was_enabled);
    return status;
}
