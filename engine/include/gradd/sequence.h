/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sequence: what layers know of the tokens in hand besides x: which places hold no token (padding), and the memory that
 * a decoder attends to. A module that sees the tokens fills it in its forward, modules behind it read it in theirs.
 *
 * Ownership: gd_sequence_t is counted; modules hold references of their own. It keeps what the last forward left, so
 * that a checkpointed segment's second run (gd_checkpoint) finds what the first one did: use one for one model, and let
 * the backward of a forward come before the next forward.
 * Padding: attention doesn't see keys that are padding. A query whose keys are all padding gets zeros (PyTorch: NaN),
 * and its gradients are zeros. Places of padding are computed like others: what they give is to be left out behind it
 * (gd_pool_tokens_new, ignore_index of a loss).
 */
#ifndef GRADD_SEQUENCE_H
#define GRADD_SEQUENCE_H

#include "gradd/nn.h"

/* padding: the token that stands for none; below 0: there is no such token. */
status_t gd_sequence_new(int64_t padding, gd_sequence_t **sequence_p);
gd_sequence_t *gd_sequence_ref(gd_sequence_t *sequence);
/* NULL is fine; returns NULL. */
gd_sequence_t *gd_sequence_unref(gd_sequence_t *sequence);

/* Looks at tokens[B,T] (i64): from now on these are the tokens in hand. ST_ERR_SHAPE, ST_ERR_DTYPE. */
status_t gd_sequence_look(gd_sequence_t *sequence, gd_tensor_t *tokens);
/* memory[B,T,C]: what an encoder gave for these tokens; a reference is kept until the next. */
void gd_sequence_set_memory(gd_sequence_t *sequence, gd_tensor_t *memory);
/* Borrowed. ST_ERR_STATE: there is none yet. */
status_t gd_sequence_get_memory(const gd_sequence_t *sequence, gd_tensor_t **memory_p);
/* What hides the padding among keys[B,T,C]: both NULL where there is none of it. Borrowed, until the next look.
 * sequence NULL: no padding. ST_ERR_SHAPE: the tokens in hand are others than the keys; ST_ERR_STATE: none were seen.
 */
status_t gd_sequence_get_masks(const gd_sequence_t *sequence, const gd_tensor_t *keys, gd_multihead_masks_t *masks_p);

/* x itself; looks at it. x[B,T] i64. */
status_t gd_padding_new(gd_sequence_t *sequence, gd_module_t **module_p);
/*
 * x[B,T,C] → y[B,C] over the tokens that aren't padding: their mean, or one of them by its place among them (below 0
 * from the end), in f32. Zeros for a sample that has no such token.
 */
status_t gd_pool_tokens_new(gd_sequence_t *sequence, bool is_mean, int64_t index, gd_module_t **module_p);
/*
 * tokens[B, n_source + T] i64 → what the child "decoder" gives for the last T, while the child "encoder" has run on the
 * first n_source, and its result is the memory of the source. The two children are added after it is made, in this
 * order; padding: as of gd_sequence_new, of both parts.
 */
status_t gd_encoder_decoder_new(int64_t n_source, int64_t padding, gd_module_t **module_p);
/* Borrowed from the module: what the layers in its children read. */
gd_sequence_t *gd_encoder_decoder_source(const gd_module_t *module);
gd_sequence_t *gd_encoder_decoder_target(const gd_module_t *module);

/* What modules read from now on (NULL: nothing): own: of x; memory: attention is to that sequence's memory. */
void gd_multihead_set_sequences(gd_module_t *module, gd_sequence_t *own, gd_sequence_t *memory);
/* Encoder and decoder layers; a decoder layer's memory is needed for gd_module_forward. */
void gd_transformer_set_sequences(gd_module_t *module, gd_sequence_t *own, gd_sequence_t *memory);
void gd_attend_set_sequence(gd_module_t *module, gd_sequence_t *own);
/* A sample ends at its last token that isn't padding, as with PyTorch's pack_padded_sequence: the second direction
 * begins there, and outputs behind it are zeros. */
void gd_recurrent_set_sequence(gd_module_t *module, gd_sequence_t *own);

#endif
