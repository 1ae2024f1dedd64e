/* SPDX-License-Identifier: Apache-2.0 */
/*
 * walk: one pass of gd_backward or gd_grad over the tape; shared by backward.c and survey.c.
 *
 * Note [Survey]: most walks need no look ahead: a node's dy is complete when the node comes up. The gradient of a leaf
 * isn't the end of anything, though, so where a leaf has hooks the uses of it below the roots are counted first; and
 * gd_grad marks the nodes that lead to what it was asked for, and leaves the others alone.
 */
#ifndef GRADD_AUTOGRAD_WALK_H
#define GRADD_AUTOGRAD_WALK_H

#include "autograd/queue.h"

typedef struct walk {
    queue_t queue; /* of nodes with a dy; holds references */
    bool keep_graph;
    bool is_surveyed;
    uint64_t number;       /* of the survey */
    tape_watch_t *watches; /* of the leaves that collect */
    tape_watch_t **last;
    int n_unexpanded; /* checkpointed segments to come: what uses their leaves isn't known yet */
    /* gd_grad; n_inputs 0: gd_backward */
    gd_tensor_t *const *inputs;
    int n_inputs;
    gd_tensor_t **gradients; /* [n_inputs] */
} walk_t;

/* Begins collecting at the leaf, whose watch has hooks or is wanted. ST_ERR_STATE: another walk does already. */
status_t walk_watch(walk_t *walk, tape_watch_t *watch);
/* Looks at all that is below root and not surveyed yet. */
status_t walk_survey(walk_t *walk, tape_node_t *root);
/* Whether a contribution to the leaf is collected, and who collects. */
static inline bool walk_collects(const walk_t *walk, const gd_tensor_t *leaf)
{
    return walk->is_surveyed && leaf->watch != NULL && leaf->watch->walk == walk;
}
/* Whether input i of the node wants a gradient in this walk. */
bool walk_wants(const walk_t *walk, const tape_node_t *node, int i);

#endif
