/* SPDX-License-Identifier: Apache-2.0 */
/*
 * decoder: memory for a library while it decodes one file: a block of the thread's scratch, which grows to what a file
 * has taken, so that the next ones take nothing from the heap. Internal to worker/data/. Embedded.
 */
#ifndef GRADD_WORKER_DATA_DECODER_H
#define GRADD_WORKER_DATA_DECODER_H

#include "worker/data/source.h"

typedef struct wrk_decoder_piece wrk_decoder_piece_t;

/* {.scratch} begins. */
typedef struct wrk_decoder {
    wrk_scratch_t *scratch;
    size_t used;   /* of the block */
    size_t wanted; /* by the file so far */
    wrk_decoder_piece_t *pieces;
} wrk_decoder_t;

/* Uninitialised, aligned to 64 bytes, until wrk_decoder_finish; single ones aren't freed. NULL: no memory. */
void *wrk_decoder_alloc(wrk_decoder_t *decoder, size_t size_bytes);
/* All of it at once. */
void wrk_decoder_finish(wrk_decoder_t *decoder);

#endif
