/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flat: all parameters of a model side by side in one f32 buffer, and their gradients in another of the same layout.
 * What optimizers, clipping, collectives, hashing and checkpoints work on.
 *
 * Layout: parameters (no buffers) in order of registration, each starting at a multiple of GD_FLAT_ALIGN elements,
 * gaps zero. Owned handle.
 */
#ifndef GRADD_FLAT_H
#define GRADD_FLAT_H

#include "gradd/nn.h"

enum { GD_FLAT_ALIGN = 16, GD_NORM_BLOCK = 16384 };

typedef struct gd_flat_segment {
    char *name;             /* full name */
    gd_tensor_t *parameter; /* alias of the flat buffer, and the module's own tensor */
    int64_t offset;
    int64_t numel;
} gd_flat_segment_t;

typedef struct gd_flat {
    gd_flat_segment_t *segments;
    int n_segments;
    int64_t numel;     /* with gaps: a multiple of GD_FLAT_ALIGN */
    float *parameters; /* [numel], 64-byte aligned */
    gd_tensor_t *base; /* owns them together with its aliases: the module may outlive the handle */
} gd_flat_t;

/* Moves the module's parameters into one buffer: the modules' tensors become aliases of it, values kept, shared ones
 * too (when their owner is in the tree). Hooks on the old tensors go along, their gradients are dropped. ST_ERR_NOMEM
 * names the bytes.
 */
status_t gd_flat_open(gd_module_t *root, gd_flat_t **flat_p);
void gd_flat_close(gd_flat_t *flat);
/* Points every parameter's grad into gradients[numel] (64-byte aligned), fresh: the next backward overwrites it. */
status_t gd_flat_set_gradients(gd_flat_t *flat, float *gradients);
/* For who has written flat->parameters: counts as an in-place change of every parameter. */
void gd_flat_touch(const gd_flat_t *flat);
/*
 * For who writes all of flat->parameters and rounds them to bf16 while they are near: copies_p[n_segments], where
 * autocast's copy of each segment lies ([numel], bf16), or NULL where it has none of its own. _keep, when both are
 * written and after gd_flat_touch: the copies stand for the parameters as they are now.
 */
void gd_flat_copies(const gd_flat_t *flat, uint16_t **copies_p);
void gd_flat_copies_keep(const gd_flat_t *flat, uint16_t *const *copies);
/* Bytes of the copies of parameters in fewer bits that autocast keeps (gradd/amp.h): memory of the context's pool. */
int64_t gd_flat_copies_bytes(const gd_flat_t *flat);
/* After backward: zeroes the segments that no contribution was written to, and the gaps. */
void gd_flat_finish_gradients(gd_flat_t *flat);
/* SHA-256 over name, NUL, and bytes of each parameter, in name order. */
status_t gd_flat_sha256(const gd_flat_t *flat, char hex_p[65]);
/* sqrt of the sum of squares: per GD_NORM_BLOCK elements in f64, then over blocks in order. */
double gd_flat_norm(const float *x, int64_t numel);
/* The sums of the blocks alone, sums_p[ceil(numel / GD_NORM_BLOCK)], for callers that hold a part of the blocks. */
void gd_flat_norm_blocks(const float *x, int64_t numel, double *sums_p);

#endif
