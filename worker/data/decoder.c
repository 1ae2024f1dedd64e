/* SPDX-License-Identifier: Apache-2.0 */
/* decoder: see decoder.h. */
#include "worker/data/decoder.h"

#include "base/mem.h"

enum { LINE = 64 };

/* What the block had no room for; the bytes come a line behind it. */
struct wrk_decoder_piece {
    wrk_decoder_piece_t *next;
};

void *wrk_decoder_alloc(wrk_decoder_t *decoder, size_t size_bytes)
{
    if (size_bytes > SIZE_MAX / 2 || decoder->wanted > SIZE_MAX / 2) {
        return NULL;
    }
    const size_t size = (size_bytes + LINE - 1) / LINE * LINE;
    decoder->wanted += size;
    if (size <= decoder->scratch->size_bytes[WRK_BLOCK_DECODER] - decoder->used) {
        char *pointer = (char *)decoder->scratch->block[WRK_BLOCK_DECODER] + decoder->used;
        decoder->used += size;
        return pointer;
    }
    wrk_decoder_piece_t *piece = mem_alloc_aligned(LINE, LINE + size);
    if (piece == NULL) {
        return NULL;
    }
    piece->next = decoder->pieces;
    decoder->pieces = piece;
    return (char *)piece + LINE;
}

void wrk_decoder_finish(wrk_decoder_t *decoder)
{
    while (decoder->pieces != NULL) {
        wrk_decoder_piece_t *next = decoder->pieces->next;
        mem_free(decoder->pieces);
        decoder->pieces = next;
    }
    if (decoder->wanted > decoder->scratch->size_bytes[WRK_BLOCK_DECODER]) {
        /* a fourth more: files differ a little. Without memory the next file is decoded in pieces */
        (void)wrk_scratch_get(decoder->scratch, WRK_BLOCK_DECODER, decoder->wanted + decoder->wanted / 4);
    }
    *decoder = (wrk_decoder_t){.scratch = decoder->scratch};
}
