/* SPDX-License-Identifier: Apache-2.0 */
/* node: making and releasing the tape's records. */
#include "autograd/node.h"

#include <string.h>

#include "autograd/anomaly.h"

static _Thread_local uint64_t next_sequence;
static _Thread_local tape_node_t *release_list;
static _Thread_local bool is_releasing;

/* Saved outputs are aliases without graph: a node that referred to its own output would never die. */
static status_t node_save(tape_node_t *node, gd_tensor_t *const *out, int n_out)
{
    const gd_op_t *op = node->base.op;
    if ((op->saves & GD_SAVE_OUTPUTS) == 0) {
        return ST_OK;
    }
    for (int i = 0; i < n_out; i++) {
        if (out[i] != NULL && (op->saves_out == 0 || (op->saves_out >> i & 1u) != 0)) {
            status_t status = gd_tensor_new_alias(out[i], &node->base.out[i]);
            if (status != ST_OK) {
                return status;
            }
            node->out_version[i] = out[i]->storage->version;
        }
    }
    return ST_OK;
}

static void node_link(tape_node_t *node, gd_tensor_t *const *in)
{
    for (int i = 0; i < node->base.n_in; i++) {
        gd_tensor_t *t = in[i];
        node->base.in[i] = NULL;
        node->base.needs[i] = false;
        node->producer[i] = NULL;
        node->leaf[i] = NULL;
        if (t == NULL) {
            node->base.in_meta[i] = (gd_meta_t){0};
            continue;
        }
        gd_meta_like(t, &node->base.in_meta[i]);
        node->base.grad_dtype[i] = t->dtype;
        if (t->master != NULL) { /* the gradient goes straight to what the copy was made from */
            node->base.grad_dtype[i] = t->master->dtype;
            node->base.needs[i] = t->requires_grad;
            node->leaf[i] = t->requires_grad ? gd_tensor_ref(t->master) : NULL;
        } else if (t->node != NULL) {
            node->producer[i] = tape_node_ref(t->node);
            node->base.needs[i] = true;
        } else if (t->requires_grad) {
            node->leaf[i] = gd_tensor_ref(t);
            node->base.needs[i] = true;
        }
    }
}

/* A checkpointed segment goes on from its inputs' graphs. */
static bool has_values_only(const tape_node_t *node)
{
    return node->base.id != GD_OP_COUNT;
}

static bool is_input_kept(const gd_node_t *node, int i)
{
    const gd_op_t *op = node->op;
    bool is_wanted = (op->saves & GD_SAVE_INPUTS_FOR_OTHERS) != GD_SAVE_INPUTS_FOR_OTHERS;
    for (int k = 0; k < node->n_in; k++) {
        is_wanted = is_wanted || (k != i && node->needs[k]);
    }
    return is_wanted && (op->saves & GD_SAVE_INPUTS) != 0 && (op->saves_in == 0 || (op->saves_in >> i & 1u) != 0);
}

static void node_save_inputs(tape_node_t *node, gd_tensor_t *const *in)
{
    for (int i = 0; i < node->base.n_in; i++) {
        if (in[i] != NULL && is_input_kept(&node->base, i)) {
            node->base.in[i] = has_values_only(node) ? gd_tensor_save(in[i]) : gd_tensor_ref(in[i]);
            node->in_version[i] = in[i]->storage->version;
        }
    }
}

status_t tape_node_record(gd_op_id_t id, const gd_op_t *op, gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs,
                          gd_tensor_t *const *out, int n_out)
{
    for (int i = 0; i < n_in; i++) {
        status_t status = in[i] != NULL ? tape_view_refresh(op->name, "input", i, in[i]) : ST_OK;
        if (status != ST_OK) {
            return status;
        }
    }
    tape_node_t *node = gd_pool_alloc(gd_context_pool(), sizeof(*node));
    if (node == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "%s: a node of the graph", op->name);
    }
    node->base.op = op;
    node->base.id = id;
    node->base.n_in = n_in;
    node->base.n_out = n_out;
    node->base.attrs = *attrs;
    memset(node->base.out, 0, sizeof(node->base.out));
    node->n_refs = 1;
    node->is_freed = false;
    node->is_needed = false;
    node->queue = NULL;
    node->surveyed = 0;
    node->captured = 0;
    node->hooks = NULL;
    node->retainer = NULL;
    node->checkpoint = NULL;
    node->origin = NULL;
    node->sequence = ++next_sequence;
    node->dy = NULL;
    node->next_release = NULL;
    node_link(node, in);
    node_save_inputs(node, in);
    status_t status = node_save(node, out, n_out);
    if (status != ST_OK) {
        (void)tape_node_unref(node);
        return status;
    }
    if (__builtin_expect(gd_context_get()->anomaly != NULL, 0)) {
        node->origin = tape_anomaly_origin();
    }
    out[0]->node = node;
    return ST_OK;
}

tape_node_t *tape_node_ref(tape_node_t *node)
{
    node->n_refs++;
    return node;
}

void tape_node_free_graph(tape_node_t *node)
{
    if (node->is_freed) {
        return;
    }
    node->is_freed = true;
    tape_checkpoint_free(node->checkpoint);
    node->checkpoint = NULL;
    for (int i = 0; i < node->base.n_in; i++) {
        node->base.in[i] =
            has_values_only(node) ? gd_tensor_unsave(node->base.in[i]) : gd_tensor_unref(node->base.in[i]);
        node->leaf[i] = gd_tensor_unref(node->leaf[i]);
        node->producer[i] = tape_node_unref(node->producer[i]);
    }
    for (int i = 0; i < node->base.n_out; i++) {
        node->base.out[i] = gd_tensor_unref(node->base.out[i]);
    }
}

/* See Note [Releasing a long graph]. */
tape_node_t *tape_node_unref(tape_node_t *node)
{
    if (node == NULL || --node->n_refs > 0) {
        return NULL;
    }
    node->next_release = release_list;
    release_list = node;
    if (is_releasing) {
        return NULL;
    }
    is_releasing = true;
    while (release_list != NULL) {
        tape_node_t *dead = release_list;
        release_list = dead->next_release;
        tape_node_free_graph(dead);
        (void)gd_tensor_unref(dead->dy);
        tape_hooks_release(&dead->hooks);
        gd_pool_free(gd_context_pool(), dead->origin);
        gd_pool_free(gd_context_pool(), dead);
    }
    is_releasing = false;
    return NULL;
}
