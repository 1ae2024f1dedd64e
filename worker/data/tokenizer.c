/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tokenizer: encoding.
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

enum { CACHE_LEAST = 1 << 6, CACHE_MOST = 1 << 14, CACHE_KEY = 24, CACHE_IDS = 8 };

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
    cached_word_t *cache; /* [n_cache], a power of two */
    size_t n_cache;
    symbol_t *symbols;
    int64_t n_symbols, symbols_allocated;
    candidate_t *queue; /* a binary heap */
    int64_t n_queue, queue_allocated;
    strbuf_t prefixed, spaced, piece;
    bool ends_unknown; /* the last symbol stands for what has no token */
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

status_t wrk_ids_add(wrk_ids_t *ids, int32_t id)
{
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
        status = wrk_ids_add(encoder->ids, symbols[i].id);
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
    encoder->ends_unknown = false;
    if (n > 0) {
        encoder->symbols[n - 1].next = (int32_t)n;
    }
    encoder->n_symbols = n + 1;
    return ST_OK;
}

/* The token of what is not in the vocabulary. */
static status_t unknown_add(encoder_t *encoder, const char *bytes, size_t length)
{
    const wrk_tokenizer_t *tokenizer = encoder->tokenizer;
    if (tokenizer->unknown < 0) {
        const bool is_text = wrk_utf8_length(bytes, length) == length && !tokenizer->is_byte_level;
        return is_text ? ST_FAIL(ST_ERR_DATA, "\"%.*s\" has no token in %s, which has no unk_token", (int)length, bytes,
                                 tokenizer->path)
                       : ST_FAIL(ST_ERR_DATA, "byte 0x%02x has no token in %s, which has no unk_token",
                                 (unsigned char)bytes[0], tokenizer->path);
    }
    if (tokenizer->is_unknown_fused && encoder->n_symbols > 0 && encoder->ends_unknown) {
        return ST_OK;
    }
    status_t status = symbol_add(encoder, tokenizer->unknown);
    encoder->ends_unknown = true;
    return status;
}

static status_t bytes_add(encoder_t *encoder, const char *bytes, size_t length)
{
    status_t status = ST_OK;
    for (size_t i = 0; i < length && status == ST_OK; i++) {
        int32_t id = encoder->tokenizer->byte_ids[(unsigned char)bytes[i]];
        status = id >= 0 ? symbol_add(encoder, id) : unknown_add(encoder, bytes + i, 1);
    }
    return status;
}

/* A character that is not in the vocabulary: its bytes, where all of them are. */
static status_t fallback_add(encoder_t *encoder, const char *bytes, size_t length)
{
    bool has_bytes = encoder->tokenizer->has_byte_fallback;
    for (size_t i = 0; i < length && has_bytes; i++) {
        has_bytes = encoder->tokenizer->byte_ids[(unsigned char)bytes[i]] >= 0;
    }
    return has_bytes ? bytes_add(encoder, bytes, length) : unknown_add(encoder, bytes, length);
}

static status_t characters_add(encoder_t *encoder, const char *word, size_t length)
{
    status_t status = ST_OK;
    for (size_t at = 0; at < length && status == ST_OK;) {
        size_t n = wrk_utf8_length(word + at, length - at);
        int32_t id = n > 0 ? wrk_words_find(encoder->tokenizer, word + at, n) : -1;
        n = n > 0 ? n : 1;
        status = id >= 0 ? symbol_add(encoder, id) : fallback_add(encoder, word + at, n);
        at += n;
    }
    return status;
}

/* The longest piece at word[from …]: its token and where it ends; -1: there is none. */
static status_t piece_find(encoder_t *encoder, const char *word, size_t length, size_t from, int32_t *id_p,
                           size_t *end_p)
{
    const wrk_tokenizer_t *tokenizer = encoder->tokenizer;
    strbuf_t *text = &encoder->piece;
    strbuf_clear(text);
    strbuf_append(text, from > 0 ? tokenizer->continuing : "");
    const size_t before = text->length;
    const size_t room = tokenizer->longest > before ? tokenizer->longest - before : 0;
    strbuf_append_bytes(text, word + from, length - from < room ? length - from : room);
    if (text->is_failed) {
        return ST_FAIL(ST_ERR_NOMEM, "a word of %zu bytes", length);
    }
    int32_t id = -1;
    size_t n = text->length;
    for (; n > before; n--) {
        const bool is_character = n == text->length || ((unsigned char)strbuf_text(text)[n] & 0xC0) != 0x80;
        id = is_character ? wrk_words_find(tokenizer, strbuf_text(text), n) : -1;
        if (id >= 0) {
            break;
        }
    }
    *id_p = id;
    *end_p = from + n - before;
    return ST_OK;
}

static int64_t characters_count(const char *text, size_t length)
{
    int64_t n = 0;
    for (size_t i = 0; i < length; i++) {
        n += ((unsigned char)text[i] & 0xC0) != 0x80;
    }
    return n;
}

/* WordPiece: piece by piece from the left; a word with a rest that is none, or a long one, is unknown as a whole. */
static status_t word_cut(encoder_t *encoder, const char *word, size_t length)
{
    const wrk_tokenizer_t *tokenizer = encoder->tokenizer;
    const int64_t first = encoder->ids->n;
    bool is_known = characters_count(word, length) <= tokenizer->max_characters;
    status_t status = ST_OK;
    for (size_t at = 0; at < length && is_known && status == ST_OK;) {
        int32_t id = -1;
        status = piece_find(encoder, word, length, at, &id, &at);
        is_known = id >= 0;
        if (status == ST_OK && is_known) {
            status = wrk_ids_add(encoder->ids, id);
        }
    }
    if (status == ST_OK && !is_known) {
        encoder->ids->n = first;
        status = wrk_ids_add(encoder->ids, tokenizer->unknown);
    }
    return status;
}

static status_t word_merge(encoder_t *encoder, const char *word, size_t length)
{
    const wrk_tokenizer_t *tokenizer = encoder->tokenizer;
    if (tokenizer->is_word_piece) {
        return word_cut(encoder, word, length);
    }
    int32_t whole = tokenizer->ignores_merges ? wrk_words_find(tokenizer, word, length) : -1;
    if (whole >= 0) {
        return wrk_ids_add(encoder->ids, whole);
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
    cached_word_t *cached = &encoder->cache[(hash ^ hash >> 20) & (encoder->n_cache - 1)];
    status_t status = ST_OK;
    if (cached->length == length && memcmp(cached->key, word, length) == 0) {
        for (int i = 0; i < cached->n_ids && status == ST_OK; i++) {
            status = wrk_ids_add(encoder->ids, cached->ids[i]);
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

void wrk_text_replace(const char *text, size_t length, const char *wanted, const char *to, strbuf_t *out)
{
    const size_t n = strlen(wanted);
    for (size_t at = 0; at < length;) {
        if (n <= length - at && memcmp(text + at, wanted, n) == 0) {
            strbuf_append(out, to);
            at += n;
        } else {
            strbuf_append_char(out, text[at++]);
        }
    }
}

/*
 * What a piece of text is passed on with: n_start, how many of its bytes, from its first one on, were made of the
 * character that the whole text begins with. Above 0, the piece is a first one; after a normaliser that puts something
 * before that character, or makes it two, there may be several.
 */
static size_t start_behind(size_t n_start, size_t at)
{
    return n_start > at ? n_start - at : 0;
}

/* Fills encoder->spaced: the step's character in the place of spaces, and before the piece. */
static status_t metaspace_put(encoder_t *encoder, const wrk_step_t *step, const char *text, size_t length,
                              size_t n_start)
{
    const size_t n = strlen(step->space);
    const bool has_one = text[0] == ' ' || (length >= n && memcmp(text, step->space, n) == 0);
    const bool is_wanted = step->prepend == WRK_PREPEND_ALWAYS || (step->prepend == WRK_PREPEND_FIRST && n_start > 0);
    strbuf_clear(&encoder->spaced);
    strbuf_append(&encoder->spaced, is_wanted && !has_one ? step->space : "");
    wrk_text_replace(text, length, " ", step->space, &encoder->spaced);
    return encoder->spaced.is_failed ? ST_FAIL(ST_ERR_NOMEM, "a text of %zu bytes", length) : ST_OK;
}

/* text[length] is UTF-8; goes through step `s` and those after it. */
static status_t piece_encode(encoder_t *encoder, const char *text, size_t length, size_t n_start, int s)
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
    if (step->kind == WRK_STEP_METASPACE) {
        status_t spaced = metaspace_put(encoder, step, text, length, n_start);
        if (spaced != ST_OK) {
            return spaced;
        }
        text = strbuf_text(&encoder->spaced); /* the only such step */
        length = encoder->spaced.length;
    }
    if (step->pattern == NULL && step->kind != WRK_STEP_CUT) {
        return piece_encode(encoder, text, length, n_start, s + 1);
    }
    status_t status = ST_OK;
    for (size_t at = 0; at < length && status == ST_OK;) {
        size_t start = 0;
        size_t end = 0;
        if (step->kind == WRK_STEP_CUT) {
            wrk_unicode_find(step->cut, text, length, at, &start, &end);
        } else {
            status = wrk_pattern_find(step->pattern, &encoder->matcher, text, length, at, &start, &end);
        }
        if (status == ST_OK && start > at && !step->drops_rest) {
            status = piece_encode(encoder, text + at, start - at, start_behind(n_start, at), s + 1);
        }
        if (status == ST_OK && end > start && !step->drops_places) {
            status = piece_encode(encoder, text + start, end - start, start_behind(n_start, start), s + 1);
        }
        at = end;
    }
    return status;
}

/* Runs of UTF-8 go through the steps, runs of other bytes are words. */
static status_t runs_encode(encoder_t *encoder, const char *text, size_t length, size_t n_start)
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
        status = is_text ? piece_encode(encoder, text + start, at - start, start_behind(n_start, start), 0)
                         : word_encode(encoder, text + start, at - start);
    }
    return status;
}

static status_t rewrite_apply(const wrk_rewrite_t *rewrite, const char *text, size_t length, strbuf_t *out)
{
    switch (rewrite->kind) {
    case WRK_REWRITE_FORM:
        return wrk_unicode_normalize(rewrite->form, text, length, out);
    case WRK_REWRITE_MAP:
        return wrk_unicode_map(rewrite->map, text, length, out);
    case WRK_REWRITE_REPLACE:
        wrk_text_replace(text, length, rewrite->wanted, rewrite->text, out);
        break;
    case WRK_REWRITE_PREPEND:
        strbuf_append(out, length > 0 ? rewrite->text : "");
        strbuf_append_bytes(out, text, length);
        break;
    }
    return ST_OK;
}

status_t wrk_tokenizer_normalize(const wrk_tokenizer_t *tokenizer, const char *text, size_t length, strbuf_t *out)
{
    strbuf_t made = {0};
    status_t status = ST_OK;
    strbuf_append_bytes(&made, text, length);
    for (int i = 0; i < tokenizer->n_rewrites && status == ST_OK; i++) {
        strbuf_t next = {0};
        status = rewrite_apply(&tokenizer->rewrites[i], strbuf_text(&made), made.length, &next);
        next.is_failed |= made.is_failed;
        strbuf_release(&made);
        made = next;
    }
    strbuf_append_bytes(out, strbuf_text(&made), made.length);
    if (status == ST_OK && (made.is_failed || out->is_failed)) {
        status = ST_FAIL(ST_ERR_NOMEM, "a text of %zu bytes", length);
    }
    strbuf_release(&made);
    return status;
}

/* ---- added tokens ---- */

/* The added token at text, the longest one; NULL: none. */
static const wrk_added_t *added_find(const wrk_added_set_t *set, const char *text, size_t left)
{
    unsigned char first = (unsigned char)text[0];
    for (int64_t i = set->first[first]; i < set->first[first + 1]; i++) {
        const wrk_added_t *added = &set->item[i];
        if (added->length <= left && memcmp(added->text, text, added->length) == 0) {
            return added;
        }
    }
    return NULL;
}

/* Whether the token at text[start, end) may stand there: one that is a word of its own has no word beside it. */
static bool added_is_fit(const wrk_added_t *added, const char *text, size_t length, size_t start, size_t end)
{
    return !added->is_single_word ||
           (!wrk_unicode_ends_with_word(text, start) && !wrk_unicode_begins_with_word(text + end, length - end));
}

/* What lies between added tokens goes to `piece`. */
typedef status_t (*piece_func_t)(encoder_t *encoder, const char *text, size_t length, size_t n_start);

static status_t added_cut(encoder_t *encoder, const wrk_added_set_t *set, const char *text, size_t length,
                          size_t n_start, piece_func_t piece)
{
    status_t status = ST_OK;
    size_t done = 0;
    for (size_t at = 0; at < length && set->n > 0 && status == ST_OK;) {
        const wrk_added_t *added = added_find(set, text + at, length - at);
        if (added == NULL) {
            at++;
            continue;
        }
        size_t start = at;
        size_t end = at + added->length;
        at = end;
        if (!added_is_fit(added, text, length, start, end)) {
            continue;
        }
        if (added->takes_left) {
            const size_t left = start - wrk_unicode_space_behind(text, start);
            start = left > done ? left : done; /* the token before may have taken them */
        }
        end += added->takes_right ? wrk_unicode_space_before(text + end, length - end) : 0;
        if (start >= end) {
            continue; /* the token before has taken all of it */
        }
        if (start > done) {
            status = piece(encoder, text + done, start - done, start_behind(n_start, done));
        }
        if (status == ST_OK) {
            status = wrk_ids_add(encoder->ids, added->id);
        }
        done = end;
    }
    return status == ST_OK && done < length ? piece(encoder, text + done, length - done, start_behind(n_start, done))
                                            : status;
}

/* What lies between the tokens that are looked for in the text as it is. */
static status_t segment_encode(encoder_t *encoder, const char *text, size_t length, size_t n_start)
{
    const wrk_tokenizer_t *tokenizer = encoder->tokenizer;
    const wrk_added_set_t *set = &tokenizer->added[WRK_ADDED_NORMALIZED];
    if (tokenizer->n_rewrites == 0) {
        return added_cut(encoder, set, text, length, n_start, runs_encode);
    }
    strbuf_t made = {0};
    status_t status = ST_OK;
    if (n_start > 0) {
        const size_t n = wrk_utf8_length(text, length);
        status = wrk_tokenizer_normalize(tokenizer, text, n > 0 ? n : 1, &made);
        n_start = made.length;
        strbuf_clear(&made);
    }
    if (status == ST_OK) {
        status = wrk_tokenizer_normalize(tokenizer, text, length, &made);
    }
    if (status == ST_OK) {
        status = added_cut(encoder, set, strbuf_text(&made), made.length, n_start, runs_encode);
    }
    strbuf_release(&made);
    return status;
}

status_t wrk_tokenizer_encode(const wrk_tokenizer_t *tokenizer, const char *text, size_t length, wrk_ids_t *ids)
{
    encoder_t encoder = {.tokenizer = tokenizer, .ids = ids, .n_cache = CACHE_LEAST};
    while (encoder.n_cache < CACHE_MOST && encoder.n_cache < length / 4) {
        encoder.n_cache *= 2; /* a short text is not worth the clearing of a large one */
    }
    encoder.cache = mem_calloc(encoder.n_cache, sizeof(*encoder.cache));
    status_t status = encoder.cache != NULL ? wrk_matcher_init(&encoder.matcher)
                                            : ST_FAIL(ST_ERR_NOMEM, "memory to encode text with");
    if (status == ST_OK) {
        status = added_cut(&encoder, &tokenizer->added[WRK_ADDED_RAW], text, length, 1, segment_encode);
        wrk_matcher_release(&encoder.matcher);
    }
    strbuf_release(&encoder.prefixed);
    strbuf_release(&encoder.spaced);
    strbuf_release(&encoder.piece);
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
