/* SPDX-License-Identifier: Apache-2.0 */
/*
 * autograd: reverse-mode differentiation over a dynamic tape.
 *
 * While gradients are enabled, an op with an input that requires them makes a node (op row, attributes, saved tensors)
 * owned by its outputs. gd_backward walks the nodes behind a tensor in reverse order of creation, and accumulates into
 * the .grad of the leaves. Reusing a graph needs keep_graph.
 */
#ifndef GRADD_AUTOGRAD_H
#define GRADD_AUTOGRAD_H

#include "gradd/tensor.h"

/* Leaves only: ST_ERR_STATE for the result of an op; ST_ERR_DTYPE for an integer tensor. */
status_t gd_tensor_set_requires_grad(gd_tensor_t *t, bool requires_grad);
bool gd_tensor_requires_grad(const gd_tensor_t *t);
bool gd_tensor_is_leaf(const gd_tensor_t *t);

/* Borrowed; NULL before the first backward. Same shape and dtype as t. */
gd_tensor_t *gd_tensor_grad(const gd_tensor_t *t);
/*
 * Gives t a gradient buffer to write to (a view of a flat buffer, say); NULL drops it. is_fresh: its content is
 * meaningless, so the next backward's first contribution overwrites instead of adding.
 */
status_t gd_tensor_set_grad(gd_tensor_t *t, gd_tensor_t *grad, bool is_fresh);
/* Whether the buffer given as fresh has still not been written (a parameter that the loss doesn't use). */
bool gd_tensor_grad_is_fresh(const gd_tensor_t *t);
void gd_tensor_zero_grad(gd_tensor_t *t);

/*
 * Computes d(root)/d(leaf) for every leaf behind root, or root itself, and adds it to the leaf's grad. dy: the gradient
 * of root, same shape; NULL for ones, allowed for a one-element root only (ST_ERR_SHAPE otherwise). Frees the graph
 * unless keep_graph. ST_ERR_STATE: root has no graph, it was freed already, or a saved value was overwritten in place.
 */
status_t gd_backward(gd_tensor_t *root, gd_tensor_t *dy, bool keep_graph);

/*
 * Gradients of the sum of outputs[n_outputs] with respect to inputs[n_inputs], leaves or results of ops, without
 * touching any .grad (torch.autograd.grad). dys[n_outputs], or NULL, or NULL entries: as dy of gd_backward. Only what
 * lies between is walked. gradients_p[n_inputs]: new references, of the inputs' shapes; an input that the outputs don't
 * depend on gets NULL with allow_unused, and is ST_ERR_STATE, naming its index, without. Hooks on the tensors between
 * and on the inputs run. On failure gradients_p is unchanged.
 */
status_t gd_grad(gd_tensor_t *const *outputs, gd_tensor_t *const *dys, int n_outputs, gd_tensor_t *const *inputs,
                 int n_inputs, bool allow_unused, bool keep_graph, gd_tensor_t **gradients_p);

/* From now on gd_backward adds to the .grad of t, the result of an op, too. Nothing new for a leaf. ST_ERR_STATE: no
 * gradient flows to t. */
status_t gd_tensor_retain_grad(gd_tensor_t *t);

/*
 * Hooks see a gradient once it is complete, before it goes on: into the op that made t, or into .grad of a leaf.
 * Several run in order of being added, each on what the one before gave; a retained .grad gets the last one's result.
 * *replacement_p (NULL before the call): a new reference of the same shape and dtype takes grad's place. An error ends
 * the backward with it. grad is borrowed and must not be changed in place.
 */
typedef status_t (*gd_tensor_hook_func_t)(gd_tensor_t *grad, gd_tensor_t **replacement_p, void *arg);
typedef struct gd_hook gd_hook_t;
/* hook_p (may be NULL: it lasts as long as t's graph): a handle for gd_hook_remove, which must be given back there; it
 * may outlive t. arg is borrowed. ST_ERR_STATE: no gradient flows to t. */
status_t gd_tensor_add_hook(gd_tensor_t *t, gd_tensor_hook_func_t func, void *arg, gd_hook_t **hook_p);
/* Takes the hook away (from a tensor or a module) and frees the handle; NULL is fine. A hook may remove itself. */
void gd_hook_remove(gd_hook_t *hook);

/*
 * Activation checkpointing (Chen, Xu, Zhang, Guestrin, "Training deep nets with sublinear memory cost", 2016): runs
 * func(in) without recording it, keeps the inputs alone, and runs it once more when the backward comes to it, in the
 * training mode and at the position of the random numbers of the first time. So values and gradients have the same bits
 * as without, as long as func is a function of its inputs, parameters and random numbers. in[n_in]: 1 … GD_MAX_IN,
 * none NULL; *y_p: a new reference, which requires a gradient. Batch statistics are left by the first run only; hooks
 * on modules inside run both times. release(arg) (may be NULL) is called when arg is needed no more, on failure too.
 * Without gradients enabled: func alone.
 */
typedef status_t (*gd_checkpoint_func_t)(gd_tensor_t *const *in, int n_in, gd_tensor_t **y_p, void *arg);
status_t gd_checkpoint(gd_checkpoint_func_t func, void *arg, void (*release)(void *arg), gd_tensor_t *const *in,
                       int n_in, gd_tensor_t **y_p);
/* Whether a forward is such a second run: what it leaves besides its result has been left already. */
bool gd_checkpoint_is_recomputing(void);

/*
 * Anomaly mode of this thread's context: the first NaN or infinity that an op's forward or backward makes is
 * ST_ERR_NONFINITE, with a message that names op, module path, file and line of the layer in its model file, shapes,
 * step and microbatch (as of gd_rng_set_position, steps from 1), for a backward where the forward was, and the source
 * line of the call where it is known (gradd/place.h). Minus infinity that comes in, or is an argument, may go on: masks
 * are made of it. Costs a look at every result; off, nothing. Returns what was set before.
 */
bool gd_anomaly_set(bool is_enabled);
bool gd_anomaly_is_on(void);
/*
 * The first failure since the last call, which is then forgotten: to be asked once a step. On the CPU the op itself has
 * failed with it; a device whose kernels run later reports here.
 */
status_t gd_anomaly_check(void);

/* The same values without a graph; shares storage. */
status_t gd_detach(gd_tensor_t *x, gd_tensor_t **y_p);

#endif
