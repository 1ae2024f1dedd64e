/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tokenizer: encoding and decoding.
 *
 * A word's symbols are merged with a queue of the possible merges by (rank, position), as `tokenizers` does: the time
 * is n log n for n bytes, whatever the word. Short words are remembered for the length of a call: their tokens are a
 * function of their bytes.
 */
#include "worker/data/tokenizer.h"

#include <string.h>

#include "base/hash.h"
#include "base/mem.h"
#include "worker/data/tokenizer_internal.h"

enum { CACHE_SIZE = 1 << 14, CACHE_KEY = 24, CACHE_IDS = 8 };

typedef struct cached_word {
    uint8_t length; /* 0: empty */
    uint8_t n_ids;
    char key[CACHE_KEY];
    int32_t ids[CACHE_IDS];
} cached_word_t;

typedef struct symbol {
    int32_t id;             /* -1: merged into the one before it */
    int32_t previous, next; /* -1: none */
} symbol_t;

typedef struct candidate {
    uint64_t order; /* rank << 32 | position */
    int32_t id;     /* what the merge gives */
} candidate_t;

typedef struct encoder {
    const wrk_tokenizer_t *tokenizer;
    wrk_matcher_t matcher;
    wrk_ids_t *ids;
    cached_word_t *cache;
    symbol_t *symbols;
    int64_t n_symbols, symbols_allocated;
    candidate_t *queue; /* a binary heap */
    int64_t n_queue, queue_allocated;
    strbuf_t prefixed;
} encoder_t;

/* ---- lists ---- */

void wrk_ids_release(wrk_ids_t *ids)
{
    mem_free(ids->item);
    *ids = (wrk_ids_t){0};
}

static status_t array_reserve(void **array, int64_t *n_allocated, int64_t n, size_t item_bytes)
{
    if (n <= *n_allocated) {
        return ST_OK;
    }
    int64_t wanted = *n_allocated * 2 > n ? *n_allocated * 2 : n + 64;
    void *grown = mem_realloc(*array, (size_t)wanted * item_bytes);
    if (grown == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "%lld tokens", (long long)wanted);
    }
    *array = grown;
    *n_allocated = wanted;
    return ST_OK;
}

static status_t id_add(encoder_t *encoder, int32_t id)
{
    wrk_ids_t *ids = encoder->ids;
    status_t status = array_reserve((void **)&ids->item, &ids->n_allocated, ids->n + 1, sizeof(*ids->item));
    if (status == ST_OK) {
        ids->item[ids->n++] = id;
    }
    return status;
}

/* ---- the queue ---- */

static status_t queue_push(encoder_t *encoder, candidate_t candidate)
{
    status_t status = array_reserve((void **)&encoder->queue, &encoder->queue_allocated, encoder->n_queue + 1,
                                    sizeof(*encoder->queue));
    if (status != ST_OK) {
        return status;
    }
    int64_t at = encoder->n_queue++;
    while (at > 0 && encoder->queue[(at - 1) / 2].order > candidate.order) {
        encoder->queue[at] = encoder->queue[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    encoder->queue[at] = candidate;
    return ST_OK;
}

static candidate_t queue_pop(encoder_t *encoder)
{
    candidate_t *queue = encoder->queue;
    candidate_t first = queue[0];
    candidate_t last = queue[--encoder->n_queue];
    int64_t at = 0;
    for (int64_t child = 1; child < encoder->n_queue; child = 2 * at + 1) {
        child += child + 1 < encoder->n_queue && queue[child + 1].order < queue[child].order;
        if (queue[child].order >= last.order) {
            break;
        }
        queue[at] = queue[child];
        at = child;
    }
    queue[at] = last;
    return first;
}

/* ---- merging ---- */

static status_t pair_offer(encoder_t *encoder, int32_t position)
{
    int32_t next = position >= 0 ? encoder->symbols[position].next : -1;
    if (next < 0) {
        return ST_OK;
    }
    const wrk_merge_t *merge =
        wrk_merges_find(encoder->tokenizer, encoder->symbols[position].id, encoder->symbols[next].id);
    if (merge == NULL) {
        return ST_OK;
    }
    return queue_push(encoder, (candidate_t){(uint64_t)merge->rank << 32 | (uint32_t)position, merge->id});
}

static status_t symbols_merge(encoder_t *encoder)
{
    symbol_t *symbols = encoder->symbols;
    status_t status = ST_OK;
    encoder->n_queue = 0;
    for (int32_t i = 0; i + 1 < (int32_t)encoder->n_symbols && status == ST_OK; i++) {
        status = pair_offer(encoder, i);
    }
    while (encoder->n_queue > 0 && status == ST_OK) {
        candidate_t best = queue_pop(encoder);
        int32_t left = (int32_t)(uint32_t)best.order;
        int32_t right = symbols[left].next;
        if (symbols[left].id < 0 || right < 0) {
            continue; /* one of the two has gone into another merge */
        }
        const wrk_merge_t *merge = wrk_merges_find(encoder->tokenizer, symbols[left].id, symbols[right].id);
        if (merge == NULL || merge->id != best.id) {
            continue;
        }
        symbols[left].id = best.id;
        symbols[left].next = symbols[right].next;
        symbols[right].id = -1;
        if (symbols[left].next >= 0) {
            symbols[symbols[left].next].previous = left;
        }
        status = pair_offer(encoder, symbols[left].previous);
        if (status == ST_OK) {
            status = pair_offer(encoder, left);
        }
    }
    for (int32_t i = 0; i >= 0 && encoder->n_symbols > 0 && status == ST_OK; i = symbols[i].next) {
        status = id_add(encoder, symbols[i].id);
    }
    return status;
}

static status_t symbol_add(encoder_t *encoder, int32_t id)
{
    int64_t n = encoder->n_symbols;
    if (n == INT32_MAX) {
        return ST_FAIL(ST_ERR_DATA, "a word of more than %d symbols", INT32_MAX);
    }
    status_t status =
        array_reserve((void **)&encoder->symbols, &encoder->symbols_allocated, n + 1, sizeof(*encoder->symbols));
    if (status != ST_OK) {
        return status;
    }
    encoder->symbols[n] = (symbol_t){id, (int32_t)n - 1, -1};
    if (n > 0) {
        encoder->symbols[n - 1].next = (int32_t)n;
    }
    encoder->n_symbols = n + 1;
    return ST_OK;
}

static status_t bytes_add(encoder_t *encoder, const char *bytes, size_t length)
{
    status_t status = ST_OK;
    for (size_t i = 0; i < length && status == ST_OK; i++) {
        int32_t id = encoder->tokenizer->byte_ids[(unsigned char)bytes[i]];
        status = id >= 0 ? symbol_add(encoder, id)
                         : ST_FAIL(ST_ERR_DATA, "byte 0x%02x has no token in %s", (unsigned char)bytes[i],
                                   encoder->tokenizer->path);
    }
    return status;
}

/* A character that is not in the vocabulary. */
static status_t unknown_add(encoder_t *encoder, const char *bytes, size_t length)
{
    const wrk_tokenizer_t *tokenizer = encoder->tokenizer;
    bool has_bytes = tokenizer->has_byte_fallback;
    for (size_t i = 0; i < length && has_bytes; i++) {
        has_bytes = tokenizer->byte_ids[(unsigned char)bytes[i]] >= 0;
    }
    if (has_bytes) {
        return bytes_add(encoder, bytes, length);
    }
    if (tokenizer->unknown < 0) {
        return ST_FAIL(ST_ERR_DATA, "\"%.*s\" has no token in %s, which has no unk_token", (int)length, bytes,
                       tokenizer->path);
    }
    bool is_fused = tokenizer->is_unknown_fused && encoder->n_symbols > 0 &&
                    encoder->symbols[encoder->n_symbols - 1].id == tokenizer->unknown;
    return is_fused ? ST_OK : symbol_add(encoder, tokenizer->unknown);
}

static status_t characters_add(encoder_t *encoder, const char *word, size_t length)
{
    status_t status = ST_OK;
    for (size_t at = 0; at < length && status == ST_OK;) {
        size_t n = wrk_utf8_length(word + at, length - at);
        int32_t id = n > 0 ? wrk_words_find(encoder->tokenizer, word + at, n) : -1;
        n = n > 0 ? n : 1;
        status = id >= 0 ? symbol_add(encoder, id) : unknown_add(encoder, word + at, n);
        at += n;
    }
    return status;
}

static status_t word_merge(encoder_t *encoder, const char *word, size_t length)
{
    const wrk_tokenizer_t *tokenizer = encoder->tokenizer;
    int32_t whole = tokenizer->ignores_merges ? wrk_words_find(tokenizer, word, length) : -1;
    if (whole >= 0) {
        return id_add(encoder, whole);
    }
    encoder->n_symbols = 0;
    status_t status =
        tokenizer->is_byte_level ? bytes_add(encoder, word, length) : characters_add(encoder, word, length);
    return status == ST_OK ? symbols_merge(encoder) : status;
}

/* Appends a word's tokens. */
static status_t word_encode(encoder_t *encoder, const char *word, size_t length)
{
    if (length == 0) {
        return ST_OK;
    }
    if (length > CACHE_KEY) {
        return word_merge(encoder, word, length);
    }
    uint64_t hash = hash_fnv1a(word, length);
    cached_word_t *cached = &encoder->cache[(hash ^ hash >> 20) % CACHE_SIZE];
    status_t status = ST_OK;
    if (cached->length == length && memcmp(cached->key, word, length) == 0) {
        for (int i = 0; i < cached->n_ids && status == ST_OK; i++) {
            status = id_add(encoder, cached->ids[i]);
        }
        return status;
    }
    int64_t first = encoder->ids->n;
    status = word_merge(encoder, word, length);
    int64_t n = encoder->ids->n - first;
    if (status == ST_OK && n > 0 && n <= CACHE_IDS) {
        cached->length = (uint8_t)length;
        cached->n_ids = (uint8_t)n;
        memcpy(cached->key, word, length);
        memcpy(cached->ids, encoder->ids->item + first, (size_t)n * sizeof(*cached->ids));
    }
    return status;
}

/* ---- cutting ---- */

/* text[length] is UTF-8; goes through step `s` and those after it. */
static status_t piece_encode(encoder_t *encoder, const char *text, size_t length, int s)
{
    if (s == encoder->tokenizer->n_steps || length == 0) {
        return word_encode(encoder, text, length);
    }
    const wrk_step_t *step = &encoder->tokenizer->steps[s];
    if (step->has_prefix_space && text[0] != ' ') {
        strbuf_clear(&encoder->prefixed);
        strbuf_append_char(&encoder->prefixed, ' ');
        strbuf_append_bytes(&encoder->prefixed, text, length);
        if (encoder->prefixed.is_failed) {
            return ST_FAIL(ST_ERR_NOMEM, "a text of %zu bytes", length);
        }
        text = strbuf_text(&encoder->prefixed); /* only the last step has it: nobody overwrites it */
        length++;
    }
    if (step->pattern == NULL) {
        return piece_encode(encoder, text, length, s + 1);
    }
    status_t status = ST_OK;
    for (size_t at = 0; at < length && status == ST_OK;) {
        size_t start = 0;
        size_t end = 0;
        status = wrk_pattern_find(step->pattern, &encoder->matcher, text, length, at, &start, &end);
        if (status == ST_OK && start > at) {
            status = piece_encode(encoder, text + at, start - at, s + 1);
        }
        if (status == ST_OK && end > start) {
            status = piece_encode(encoder, text + start, end - start, s + 1);
        }
        at = end;
    }
    return status;
}

/* Runs of UTF-8 go through the steps, runs of other bytes are words. */
static status_t runs_encode(encoder_t *encoder, const char *text, size_t length)
{
    status_t status = ST_OK;
    for (size_t at = 0; at < length && status == ST_OK;) {
        size_t start = at;
        size_t n = wrk_utf8_length(text + at, length - at);
        bool is_text = n > 0;
        while (at < length && (n > 0) == is_text) {
            at += is_text ? n : 1;
            n = at < length ? wrk_utf8_length(text + at, length - at) : 0;
        }
        status = is_text ? piece_encode(encoder, text + start, at - start, 0)
                         : word_encode(encoder, text + start, at - start);
    }
    return status;
}

static void text_replace(const char *text, size_t length, const wrk_rewrite_t *rewrite, strbuf_t *out)
{
    size_t n = rewrite->wanted != NULL ? strlen(rewrite->wanted) : 0;
    strbuf_append(out, n == 0 ? rewrite->text : "");
    for (size_t at = 0; at < length;) {
        if (n > 0 && n <= length - at && memcmp(text + at, rewrite->wanted, n) == 0) {
            strbuf_append(out, rewrite->text);
            at += n;
        } else {
            strbuf_append_char(out, text[at++]);
        }
    }
}

/* What lies between added tokens. */
static status_t segment_encode(encoder_t *encoder, const char *text, size_t length)
{
    const wrk_tokenizer_t *tokenizer = encoder->tokenizer;
    if (length == 0 || tokenizer->n_rewrites == 0) {
        return runs_encode(encoder, text, length);
    }
    strbuf_t rewritten = {0};
    strbuf_append_bytes(&rewritten, text, length);
    for (int i = 0; i < tokenizer->n_rewrites; i++) {
        strbuf_t next = {0};
        text_replace(strbuf_text(&rewritten), rewritten.length, &tokenizer->rewrites[i], &next);
        next.is_failed |= rewritten.is_failed;
        strbuf_release(&rewritten);
        rewritten = next;
    }
    status_t status = rewritten.is_failed ? ST_FAIL(ST_ERR_NOMEM, "a text of %zu bytes", length)
                                          : runs_encode(encoder, strbuf_text(&rewritten), rewritten.length);
    strbuf_release(&rewritten);
    return status;
}

/* The added token at text, the longest one; NULL: none. */
static const wrk_added_t *added_find(const wrk_tokenizer_t *tokenizer, const char *text, size_t left)
{
    unsigned char first = (unsigned char)text[0];
    for (int64_t i = tokenizer->added_first[first]; i < tokenizer->added_first[first + 1]; i++) {
        const wrk_added_t *added = &tokenizer->added[i];
        if (added->length <= left && memcmp(added->text, text, added->length) == 0) {
            return added;
        }
    }
    return NULL;
}

static status_t text_encode(encoder_t *encoder, const char *text, size_t length)
{
    status_t status = ST_OK;
    size_t start = 0;
    for (size_t at = 0; at < length && status == ST_OK;) {
        const wrk_added_t *added = added_find(encoder->tokenizer, text + at, length - at);
        if (added == NULL) {
            at++;
            continue;
        }
        status = segment_encode(encoder, text + start, at - start);
        if (status == ST_OK) {
            status = id_add(encoder, added->id);
        }
        at += added->length;
        start = at;
    }
    if (status == ST_OK) {
        status = segment_encode(encoder, text + start, length - start);
    }
    return status;
}

status_t wrk_tokenizer_encode(const wrk_tokenizer_t *tokenizer, const char *text, size_t length, wrk_ids_t *ids)
{
    encoder_t encoder = {.tokenizer = tokenizer, .ids = ids};
    encoder.cache = mem_calloc(CACHE_SIZE, sizeof(*encoder.cache));
    status_t status = encoder.cache != NULL ? wrk_matcher_init(&encoder.matcher)
                                            : ST_FAIL(ST_ERR_NOMEM, "memory to encode text with");
    if (status == ST_OK) {
        status = text_encode(&encoder, text, length);
        wrk_matcher_release(&encoder.matcher);
    }
    strbuf_release(&encoder.prefixed);
    mem_free(encoder.queue);
    mem_free(encoder.symbols);
    mem_free(encoder.cache);
    return status;
}

status_t wrk_tokens_encode(const wrk_tokenizer_t *tokenizer, const char *text, size_t length, int64_t **tokens_p,
                           int64_t *n_tokens_p)
{
    wrk_ids_t ids = {0};
    status_t status = wrk_tokenizer_encode(tokenizer, text, length, &ids);
    int64_t *tokens = status == ST_OK ? mem_calloc(ids.n > 0 ? (size_t)ids.n : 1, sizeof(*tokens)) : NULL;
    if (status == ST_OK && tokens == NULL) {
        status = ST_FAIL(ST_ERR_NOMEM, "%lld tokens", (long long)ids.n);
    }
    for (int64_t i = 0; i < ids.n && status == ST_OK; i++) {
        tokens[i] = ids.item[i];
    }
    if (status == ST_OK) {
        *tokens_p = tokens;
        *n_tokens_p = ids.n;
    }
    wrk_ids_release(&ids);
    return status;
}

/* ---- decoding ---- */

int64_t wrk_tokenizer_size(const wrk_tokenizer_t *tokenizer)
{
    return tokenizer->size;
}

static int digit_of(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                  : -1;
}

/* The byte that "<0x0A>" names; -1: it is no such token. */
static int byte_of(const wrk_piece_t *piece)
{
    const char *c = piece->bytes;
    bool is_named = piece->length == 6 && memcmp(c, "<0x", 3) == 0 && c[5] == '>';
    return is_named && digit_of(c[3]) >= 0 && digit_of(c[4]) >= 0 ? digit_of(c[3]) * 16 + digit_of(c[4]) : -1;
}

void wrk_tokenizer_decode(const wrk_tokenizer_t *tokenizer, const int64_t *tokens, int64_t n, strbuf_t *text)
{
    strbuf_t own = {0};
    const wrk_rewrite_t back = {tokenizer->decode_from, tokenizer->decode_to};
    for (int64_t i = 0; i < n; i++) {
        const wrk_piece_t *piece = tokens[i] >= 0 && tokens[i] < tokenizer->size ? &tokenizer->pieces[tokens[i]] : NULL;
        if (piece == NULL || piece->bytes == NULL) {
            continue;
        }
        int byte = tokenizer->decodes_bytes ? byte_of(piece) : -1;
        if (byte >= 0) {
            strbuf_append_char(&own, (char)byte);
        } else if (tokenizer->decode_from != NULL) {
            text_replace(piece->bytes, piece->length, &back, &own);
        } else {
            strbuf_append_bytes(&own, piece->bytes, piece->length);
        }
    }
    size_t start = 0;
    while (start < own.length && start < (size_t)tokenizer->decode_strip && strbuf_text(&own)[start] == ' ') {
        start++;
    }
    strbuf_append_bytes(text, strbuf_text(&own) + start, own.length - start);
    text->is_failed |= own.is_failed;
    strbuf_release(&own);
}
