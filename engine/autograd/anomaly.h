/* SPDX-License-Identifier: Apache-2.0 */
/* anomaly: what the dispatch of ops, the tape and modules do in anomaly mode; off, context->anomaly is NULL. */
#ifndef GRADD_AUTOGRAD_ANOMALY_H
#define GRADD_AUTOGRAD_ANOMALY_H

#include "autograd/node.h"

/* The module whose forward runs; lies on the stack of gd_module_forward. */
typedef struct tape_scope {
    const char *path;
    const char *kind;
    const char *place; /* "gpt.yaml:12"; NULL: not built from a file */
} tape_scope_t;

/* Makes scope (NULL: none) the running one; returns the one before. In anomaly mode only. */
const tape_scope_t *tape_scope_set(const tape_scope_t *scope);

/* After an op's kernel: ST_ERR_NONFINITE where its first output has a value that the inputs don't explain. */
status_t tape_anomaly_forward(const gd_op_t *op, gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs,
                              const gd_tensor_t *out);
/* Where node was recorded, for messages; gd_pool_free. NULL: off, or no memory. */
char *tape_anomaly_origin(void);
/* Backward of node is about to run: its ops are not looked at one by one. NULL: over. Nothing when off. */
void tape_anomaly_enter(const tape_node_t *node);
/* After it: the gradients that it gave (dx) or wrote into leaves. */
status_t tape_anomaly_backward(const tape_node_t *node, const gd_tensor_t *dy, gd_tensor_t *const *dx);
void tape_anomaly_free(struct tape_anomaly *anomaly);

#endif
