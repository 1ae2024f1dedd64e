/* SPDX-License-Identifier: Apache-2.0 */
/*
 * node: the tape's record of an applied op. Counted; owned by the op's first output and by the nodes that came after.
 *
 * Note [Releasing a long graph]: a node's inputs are released from a list that the outermost release works off, so a
 * chain of any length needs no deep stack.
 */
#ifndef GRADD_AUTOGRAD_NODE_H
#define GRADD_AUTOGRAD_NODE_H

#include "tensor/internal.h"

struct tape_node {
    gd_node_t base;
    int n_refs; /* a graph belongs to one thread */
    bool is_freed;
    bool is_queued;
    uint64_t sequence;
    gd_tensor_t *dy; /* gradient of out[0], collected during gd_backward */
    tape_node_t *next_release;
    tape_node_t *producer[GD_MAX_IN]; /* node of in[i] */
    gd_tensor_t *leaf[GD_MAX_IN];     /* in[i] itself, when it is a leaf that wants a gradient */
    uint32_t in_version[GD_MAX_IN];
    uint32_t out_version[GD_MAX_OUT];
};

/* Records id over in[n_in] as the maker of out[n_out]; out[0] becomes a result with this node. */
status_t tape_node_record(gd_op_id_t id, const gd_op_t *op, gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs,
                          gd_tensor_t *const *out, int n_out);
tape_node_t *tape_node_ref(tape_node_t *node);
tape_node_t *tape_node_unref(tape_node_t *node);
/* Drops what the node saved and its inputs' nodes; it can't be walked again. */
void tape_node_free_graph(tape_node_t *node);

#endif
