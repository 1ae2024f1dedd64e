/* SPDX-License-Identifier: Apache-2.0 */
/* sequence: the fields of gd_sequence_t, for the modules of engine/nn that read it. */
#ifndef GRADD_NN_SEQUENCE_H
#define GRADD_NN_SEQUENCE_H

#include "gradd/sequence.h"

struct gd_sequence {
    int n_refs;
    int64_t padding;       /* -1: none */
    int64_t batch, length; /* B, T of the tokens in hand; -1: none were seen */
    gd_tensor_t *lengths;  /* i64 [B]: last token that isn't padding, + 1; NULL: nothing is padding */
    gd_tensor_t *mask;     /* f32 [B,1,1,T]: 0, -infinity for padding; NULL: it all lies behind the lengths */
    gd_tensor_t *kept;     /* f32 [B,T]: 1 where a token is, 0 for padding; NULL as lengths */
    gd_tensor_t *memory;
};

/* Takes a reference to `to` in the place of *slot. */
static inline void sequence_put(gd_sequence_t **slot, gd_sequence_t *to)
{
    gd_sequence_t *before = *slot;
    *slot = to != NULL ? gd_sequence_ref(to) : NULL;
    (void)gd_sequence_unref(before);
}

/* Whether the tokens in hand are those of x[B,T,…]: ST_ERR_SHAPE, ST_ERR_STATE. */
status_t sequence_check(const gd_sequence_t *sequence, const gd_tensor_t *x);

#endif
