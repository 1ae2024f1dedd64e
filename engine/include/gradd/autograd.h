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
 * Computes d(root)/d(leaf) for every leaf behind root and adds it to the leaf's grad. dy: the gradient of root, same
 * shape; NULL for ones, allowed for a one-element root only (ST_ERR_SHAPE otherwise). Frees the graph unless
 * keep_graph. ST_ERR_STATE: root has no graph, it was freed already, or a saved value was overwritten in place.
 */
status_t gd_backward(gd_tensor_t *root, gd_tensor_t *dy, bool keep_graph);

/* The same values without a graph; shares storage. */
status_t gd_detach(gd_tensor_t *x, gd_tensor_t **y_p);

#endif
