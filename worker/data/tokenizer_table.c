/* SPDX-License-Identifier: Apache-2.0 */
/* tokenizer_table: words by their bytes, merges by their pair, added tokens by their first byte; UTF-8 and GPT-2's
 * alphabet. */
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"
#include "worker/data/tokenizer_internal.h"

/* At most half full, so that a search ends soon. */
static int64_t table_size(int64_t n)
{
    int64_t size = 16;
    while (size < n * 2) {
        size *= 2;
    }
    return size;
}

/* ---- words ---- */

static uint64_t word_hash(const char *bytes, size_t length)
{
    uint64_t hash = hash_fnv1a(bytes, length);
    return hash ^ hash >> 29;
}

int32_t wrk_words_find(const wrk_tokenizer_t *tokenizer, const char *bytes, size_t length)
{
    uint64_t mask = (uint64_t)tokenizer->n_words - 1;
    for (uint64_t at = word_hash(bytes, length) & mask; tokenizer->words[at] >= 0; at = (at + 1) & mask) {
        const wrk_piece_t *piece = &tokenizer->pieces[tokenizer->words[at]];
        if (piece->length == length && memcmp(piece->bytes, bytes, length) == 0) {
            return tokenizer->words[at];
        }
    }
    return -1;
}

status_t wrk_words_build(wrk_tokenizer_t *tokenizer)
{
    tokenizer->n_words = table_size(tokenizer->size);
    tokenizer->words = mem_alloc((size_t)tokenizer->n_words * sizeof(*tokenizer->words));
    if (tokenizer->words == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "a table of %lld words", (long long)tokenizer->size);
    }
    memset(tokenizer->words, 0xFF, (size_t)tokenizer->n_words * sizeof(*tokenizer->words));
    uint64_t mask = (uint64_t)tokenizer->n_words - 1;
    for (int64_t id = 0; id < tokenizer->size; id++) {
        const wrk_piece_t *piece = &tokenizer->pieces[id];
        if (piece->is_word) {
            uint64_t at = word_hash(piece->bytes, piece->length) & mask;
            while (tokenizer->words[at] >= 0) {
                at = (at + 1) & mask;
            }
            tokenizer->words[at] = (int32_t)id;
        }
    }
    return ST_OK;
}

/* ---- merges ---- */

static uint64_t pair_hash(uint64_t pair)
{
    uint64_t hash = pair * 0x9E3779B97F4A7C15U;
    return hash ^ hash >> 32;
}

static wrk_merge_t *merge_place(const wrk_tokenizer_t *tokenizer, uint64_t pair)
{
    uint64_t mask = (uint64_t)tokenizer->n_merges - 1;
    uint64_t at = pair_hash(pair) & mask;
    while (tokenizer->merges[at].id >= 0 && tokenizer->merges[at].pair != pair) {
        at = (at + 1) & mask;
    }
    return &tokenizer->merges[at];
}

const wrk_merge_t *wrk_merges_find(const wrk_tokenizer_t *tokenizer, int32_t left, int32_t right)
{
    const wrk_merge_t *merge = merge_place(tokenizer, (uint64_t)left << 32 | (uint32_t)right);
    return merge->id >= 0 ? merge : NULL;
}

status_t wrk_merges_reserve(wrk_tokenizer_t *tokenizer, int64_t n)
{
    tokenizer->n_merges = table_size(n);
    tokenizer->merges = mem_alloc((size_t)tokenizer->n_merges * sizeof(*tokenizer->merges));
    if (tokenizer->merges == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "a table of %lld merges", (long long)n);
    }
    for (int64_t i = 0; i < tokenizer->n_merges; i++) {
        tokenizer->merges[i].id = -1;
    }
    return ST_OK;
}

void wrk_merges_add(wrk_tokenizer_t *tokenizer, int32_t left, int32_t right, uint32_t rank, int32_t id)
{
    uint64_t pair = (uint64_t)left << 32 | (uint32_t)right;
    *merge_place(tokenizer, pair) = (wrk_merge_t){.pair = pair, .rank = rank, .id = id};
}

/* ---- added tokens ---- */

static int added_compare(const void *a, const void *b)
{
    const wrk_added_t *x = a;
    const wrk_added_t *y = b;
    unsigned char first_x = (unsigned char)x->text[0];
    unsigned char first_y = (unsigned char)y->text[0];
    if (first_x != first_y) {
        return first_x < first_y ? -1 : 1;
    }
    if (x->length != y->length) {
        return x->length > y->length ? -1 : 1;
    }
    int order = strcmp(x->text, y->text);
    return order != 0 ? order : (x->id > y->id) - (x->id < y->id);
}

void wrk_added_sort(wrk_added_set_t *set)
{
    int64_t at = 0;
    if (set->n > 1) {
        qsort(set->item, (size_t)set->n, sizeof(*set->item), added_compare);
    }
    for (int byte = 0; byte < 256; byte++) {
        set->first[byte] = at;
        while (at < set->n && (unsigned char)set->item[at].text[0] == byte) {
            at++;
        }
    }
    set->first[256] = at;
}

/* ---- characters ---- */

/* GPT-2's bytes_to_unicode: printable bytes stand for themselves, the others for U+0100 … in ascending order. */
static bool is_printable(int byte)
{
    return (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

int wrk_alphabet_byte(const char **bytes_p)
{
    const unsigned char *text = (const unsigned char *)*bytes_p;
    size_t length = strnlen(*bytes_p, 4);
    size_t n = length > 0 ? wrk_utf8_length(*bytes_p, length) : 0;
    *bytes_p += n > 0 ? n : 1;
    if (n == 0 || n > 2) {
        return -1;
    }
    int point = n == 1 ? text[0] : (text[0] & 0x1F) << 6 | (text[1] & 0x3F);
    if (point < 256) {
        return is_printable(point) ? point : -1;
    }
    int rest = point - 256;
    for (int byte = 0; byte < 256; byte++) {
        if (!is_printable(byte) && rest-- == 0) {
            return byte;
        }
    }
    return -1;
}
