/* SPDX-License-Identifier: Apache-2.0 */
/* survey: the look ahead of a walk. See Note [Survey] in walk.h. */
#include "autograd/walk.h"

status_t walk_watch(walk_t *walk, tape_watch_t *watch)
{
    if (watch->walk == walk) {
        return ST_OK;
    }
    if (watch->walk != NULL) {
        return ST_FAIL(ST_ERR_STATE, "a hook can't walk back to a leaf whose gradient is being collected");
    }
    watch->walk = walk;
    watch->n_uses = 0;
    watch->is_done = false;
    watch->next = NULL;
    (void)gd_tensor_ref(watch->leaf);
    if (walk->last == NULL) {
        walk->last = &walk->watches;
    }
    *walk->last = watch;
    walk->last = &watch->next;
    return ST_OK;
}

bool walk_wants(const walk_t *walk, const tape_node_t *node, int i)
{
    if (!node->base.needs[i] || walk->n_inputs == 0) {
        return node->base.needs[i];
    }
    if (node->leaf[i] != NULL) {
        return walk_collects(walk, node->leaf[i]);
    }
    const tape_node_t *producer = node->producer[i]; /* NULL: freed */
    return producer != NULL && (producer->is_needed || producer->captured == walk->number);
}

/* Marks the node if something wanted lies below it, and counts its uses of leaves that collect. Nodes below have been
 * seen before. */
static status_t node_survey(walk_t *walk, tape_node_t *node)
{
    bool is_needed = walk->n_inputs == 0 || node->checkpoint != NULL; /* who knows what its leaves are */
    walk->n_unexpanded += node->checkpoint != NULL;
    for (int i = 0; i < node->base.n_in; i++) {
        gd_tensor_t *leaf = node->leaf[i];
        if (leaf != NULL && leaf->watch != NULL && (leaf->watch->is_wanted || walk->n_inputs == 0)) {
            status_t status = tape_hooks_first(&leaf->watch->hooks) != NULL || leaf->watch->is_wanted
                                  ? walk_watch(walk, leaf->watch)
                                  : ST_OK;
            if (status != ST_OK) {
                return status;
            }
        }
        is_needed = is_needed || walk_wants(walk, node, i);
    }
    node->is_needed = is_needed;
    for (int i = 0; i < node->base.n_in && is_needed; i++) {
        if (node->leaf[i] != NULL && walk_collects(walk, node->leaf[i])) {
            node->leaf[i]->watch->n_uses++;
        }
    }
    return ST_OK;
}

/* From the top: each node once, producers after what uses them; then judged the other way round. */
status_t walk_survey(walk_t *walk, tape_node_t *root)
{
    if (!walk->is_surveyed || root->surveyed == walk->number) {
        return ST_OK;
    }
    queue_t queue = {0};
    queue_t order = {0}; /* used as a stack: sequences descend, so that nothing moves in the heap */
    root->surveyed = walk->number;
    status_t status = queue_push(&queue, root);
    while (queue.n > 0 && status == ST_OK) {
        tape_node_t *node = queue_pop(&queue);
        status = queue_push(&order, node);
        for (int i = 0; i < node->base.n_in && status == ST_OK; i++) {
            tape_node_t *producer = node->producer[i];
            if (producer != NULL && producer->surveyed != walk->number) {
                producer->surveyed = walk->number;
                status = queue_push(&queue, producer);
            }
        }
    }
    while (order.n > 0 && status == ST_OK) {
        status = node_survey(walk, order.nodes[--order.n]);
    }
    queue_release(&queue);
    queue_release(&order);
    return status;
}
