/* SPDX-License-Identifier: Apache-2.0 */
/*
 * node: the tape's record of an applied op. Counted; owned by the op's first output and by the nodes that came after.
 *
 * Note [Releasing a long graph]: a node's inputs are released from a list that the outermost release works off, so a
 * chain of any length needs no deep stack.
 */
#ifndef GRADD_AUTOGRAD_NODE_H
#define GRADD_AUTOGRAD_NODE_H

#include "autograd/hook.h"
#include "tensor/internal.h"

typedef struct tape_checkpoint tape_checkpoint_t;

struct tape_node {
    gd_node_t base;
    int n_refs; /* a graph belongs to one thread */
    bool is_freed;
    bool is_needed;    /* by gd_grad; as of the survey `surveyed` */
    const void *queue; /* the walk's that it waits in; NULL: none */
    uint64_t sequence;
    uint64_t surveyed;             /* number of the last survey that met it */
    uint64_t captured;             /* number of the last gd_grad that wants its output's gradient */
    gd_tensor_t *dy;               /* gradient of out[0], collected during gd_backward */
    gd_hook_t *hooks;              /* of out[0] */
    gd_tensor_t *retainer;         /* not counted: the result whose .grad is kept, which tells when it dies */
    tape_checkpoint_t *checkpoint; /* owned; NULL: an op */
    char *origin;                  /* where it was recorded, in anomaly mode; gd_pool_free */
    tape_node_t *next_release;
    tape_node_t *producer[GD_MAX_IN]; /* node of in[i] */
    gd_tensor_t *leaf[GD_MAX_IN];     /* in[i] itself, when it is a leaf that wants a gradient */
    uint32_t in_version[GD_MAX_IN];
    uint32_t out_version[GD_MAX_OUT];
};

/*
 * A leaf that has hooks or whose gradient gd_grad was asked for: contributions are collected here, and pass on when the
 * last one has come.
 */
struct tape_watch {
    gd_hook_t *hooks;
    const void *walk;   /* that collects; NULL: none */
    gd_tensor_t *leaf;  /* not counted */
    gd_tensor_t *sum;   /* what has come */
    int n_uses;         /* contributions to come */
    bool is_wanted;     /* by gd_grad */
    bool is_done;       /* passed on */
    tape_watch_t *next; /* in the walk's list, in order of being met */
};

/* t's own, made when it has none. */
status_t tape_watch_get(gd_tensor_t *t, tape_watch_t **watch_p);
void tape_watch_free(tape_watch_t *watch);
/* Whether any leaf of the process has one. */
bool tape_watch_exists(void);

/* checkpoint.c. Runs the checkpointed function once more, recording it. */
status_t tape_checkpoint_run(const tape_checkpoint_t *checkpoint, gd_tensor_t *const *in, int n_in, gd_tensor_t **y_p);
/* NULL is fine. */
void tape_checkpoint_free(tape_checkpoint_t *checkpoint);

/* view.c. Note [Views follow their base]. t has just been made as a view of x. */
void tape_view_begin(gd_tensor_t *t, gd_tensor_t *x);
/* Brings a stale view's graph up to date. ST_ERR_STATE, naming op, role and index, where that isn't possible. */
status_t tape_view_refresh(const char *op, const char *role, int index, gd_tensor_t *t);
/* Whether an element may have several indices; strides ≥ 0. */
bool tape_view_overlaps(const gd_tensor_t *view);
/* What keeps a view from being changed in place as part of a graph; NULL: nothing. */
const char *tape_view_obstacle(const gd_tensor_t *view);
/*
 * The graph of the view's base where the view's place has the values y. tape_view_put_begin: *put_p, for _finish, which
 * hands it to the base, or to be dropped.
 */
status_t tape_view_put_begin(const gd_tensor_t *view, gd_tensor_t *y, gd_tensor_t **put_p);
void tape_view_put_finish(gd_tensor_t *view, gd_tensor_t *put);
/* x takes over the graph of `from`; a retained gradient is from now on that of the new one. */
void tape_graph_move(gd_tensor_t *x, gd_tensor_t *from);

/* Records id over in[n_in] as the maker of out[n_out]; out[0] becomes a result with this node. */
status_t tape_node_record(gd_op_id_t id, const gd_op_t *op, gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs,
                          gd_tensor_t *const *out, int n_out);
tape_node_t *tape_node_ref(tape_node_t *node);
tape_node_t *tape_node_unref(tape_node_t *node);
/* Drops what the node saved and its inputs' nodes; it can't be walked again. */
void tape_node_free_graph(tape_node_t *node);

#endif
