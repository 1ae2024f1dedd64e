/* SPDX-License-Identifier: Apache-2.0 */
/* queue: a binary heap. */
#include "autograd/queue.h"

#include <string.h>

status_t queue_push(queue_t *queue, tape_node_t *node)
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
    queue->nodes[i] = node;
    return ST_OK;
}

tape_node_t *queue_pop(queue_t *queue)
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
    return top;
}

void queue_release(queue_t *queue)
{
    gd_pool_free(gd_context_pool(), queue->nodes);
    *queue = (queue_t){0};
}
