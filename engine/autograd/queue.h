/* SPDX-License-Identifier: Apache-2.0 */
/* queue: nodes by descending sequence number. Embedded; zero is empty; memory from the current context's pool. */
#ifndef GRADD_AUTOGRAD_QUEUE_H
#define GRADD_AUTOGRAD_QUEUE_H

#include "autograd/node.h"

typedef struct queue {
    tape_node_t **nodes; /* a max-heap by sequence; references are the caller's affair */
    int n;
    int capacity;
} queue_t;

status_t queue_push(queue_t *queue, tape_node_t *node);
/* The one with the highest sequence number; the queue isn't empty. */
tape_node_t *queue_pop(queue_t *queue);
void queue_release(queue_t *queue);

#endif
