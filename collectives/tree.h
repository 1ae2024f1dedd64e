/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tree: the sum of per-microbatch vectors along one fixed binary tree over the microbatch index, so that the bits of
 * the result don't depend on which rank held which microbatch.
 *
 * The tree: level 0 has the microbatches 0 … n-1; node i of level k+1 is node 2i + node 2i+1 of level k (left operand
 * first), or node 2i alone where 2i+1 doesn't exist. A rank's share is contiguous (coll_share); it sums the complete
 * nodes inside it as microbatches are pushed, keeping at most 2·log2(n)+1 partial sums; what straddles ranks is summed
 * at the end: ranks exchange slices of their partials (all-to-all), each rank sums its slice along the tree, then
 * slices are gathered. Wire bytes equal a ring all-reduce's where shares are whole subtrees.
 *
 * Owned handle; buffers are kept between steps: no allocation after the first step.
 */
#ifndef GRADD_COLLECTIVES_TREE_H
#define GRADD_COLLECTIVES_TREE_H

#include "collectives/group.h"

typedef struct coll_tree coll_tree_t;

status_t coll_tree_open(coll_group_t *group, int64_t numel, int64_t n_microbatches, coll_tree_t **tree_p);
void coll_tree_close(coll_tree_t *tree);
/* Buffer (numel floats, 64-byte aligned) to write this rank's next microbatch's vector to. */
float *coll_tree_slot(coll_tree_t *tree);
/* The slot is complete: combine. Call once for each microbatch of the share, in order. */
status_t coll_tree_push(coll_tree_t *tree);
/* After all pushes: *sum_p is the total, the same bits on every rank, valid until the next coll_tree_slot. */
status_t coll_tree_finish(coll_tree_t *tree, float **sum_p);

#endif
