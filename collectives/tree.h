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
 * On one host the exchange is no message at all: partials live in memory that all ranks map (coll_shared_open), and
 * each rank adds up its slice right out of it. The bits are the same either way.
 *
 * Owned handle, used by one thread; buffers are kept between steps: no allocation after coll_tree_open. The group is
 * borrowed and must outlive the tree.
 */
#ifndef GRADD_COLLECTIVES_TREE_H
#define GRADD_COLLECTIVES_TREE_H

#include <stdbool.h>

#include "collectives/group.h"

typedef struct coll_tree coll_tree_t;

typedef enum coll_tree_path {
    COLL_TREE_PATH_AUTO,     /* shared memory where all ranks can map it, else messages */
    COLL_TREE_PATH_MESSAGES, /* always messages */
} coll_tree_path_t;

/* Collective: all ranks open the same tree together. ST_ERR_INVAL for n_microbatches < 1 or numel < 0. A rank without
 * a share (more ranks than microbatches) takes part with nothing of its own. */
status_t coll_tree_open(coll_group_t *group, int64_t numel, int64_t n_microbatches, coll_tree_t **tree_p);
status_t coll_tree_open_path(coll_group_t *group, int64_t numel, int64_t n_microbatches, coll_tree_path_t path,
                             coll_tree_t **tree_p);
/* NULL is fine. Not collective. */
void coll_tree_close(coll_tree_t *tree);
/* Whether the ranks exchange through shared memory. */
bool coll_tree_is_shared(const coll_tree_t *tree);
/* Buffer (numel floats, 64-byte aligned, contents undefined) to write this rank's next microbatch's vector to; the
 * same one until the next push. NULL when the whole share was pushed and finish not yet called. */
float *coll_tree_slot(coll_tree_t *tree);
/* The slot is complete: combine. Call once for each microbatch of the share, in order. ST_ERR_STATE beyond the share.
 */
status_t coll_tree_push(coll_tree_t *tree);
/* After all pushes: *sum_p (64-byte aligned) is the total, the same bits on every rank, valid until the next
 * coll_tree_slot; this rank may change it. The next step then begins. ST_ERR_STATE while pushes are missing, else the
 * errors of the group. */
status_t coll_tree_finish(coll_tree_t *tree, float **sum_p);

#endif
