/* SPDX-License-Identifier: Apache-2.0 */
/* tokenizer_file: tokenizer.json of Hugging Face's `tokenizers` → tables. What isn't known is refused by its name. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "worker/data/source.h"
#include "worker/data/tokenizer_internal.h"

enum { MAX_FILE_BYTES = 128 << 20, MAX_ADDED = 1 << 16 };

/* ---- vocabulary ---- */

/* The bytes of a token's text: in a byte-level vocabulary those that GPT-2's alphabet stands for. */
static status_t piece_set(wrk_tokenizer_t *tokenizer, int64_t id, const char *text, bool is_added)
{
    wrk_piece_t *piece = &tokenizer->pieces[id];
    size_t length = strlen(text);
    char *bytes = mem_strdup(text);
    if (bytes == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "token %lld", (long long)id);
    }
    bool is_word = !is_added && length > 0;
    if (is_word && tokenizer->is_byte_level) {
        size_t n = 0;
        for (const char *at = text; *at != '\0' && is_word;) {
            int byte = wrk_alphabet_byte(&at);
            is_word = byte >= 0;
            bytes[n] = (char)byte;
            n += is_word;
        }
        if (is_word) {
            length = n;
        } else {
            memcpy(bytes, text, length + 1); /* what can't come out of a word stands for itself */
        }
    }
    mem_free((void *)(uintptr_t)piece->bytes);
    *piece = (wrk_piece_t){bytes, (uint32_t)length, is_word};
    return ST_OK;
}

static status_t id_check(const json_t *value, const char *what)
{
    json_int_t id = json_integer_value(value);
    return json_is_integer(value) && id >= 0 && id < TOKENIZER_MAX_SIZE
               ? ST_OK
               : ST_FAIL(ST_ERR_CORRUPT, "%s: not a token's number (0 … %d)", what, (int)TOKENIZER_MAX_SIZE - 1);
}

/* How many tokens there are, by the largest number. */
static status_t size_find(wrk_tokenizer_t *tokenizer, json_t *vocab, const json_t *added)
{
    const char *key = NULL;
    json_t *value = NULL;
    size_t i = 0;
    if (!json_is_object(vocab) || json_object_size(vocab) == 0) {
        return ST_FAIL(ST_ERR_CORRUPT, "model.vocab: an object with tokens and their numbers is wanted");
    }
    json_object_foreach(vocab, key, value)
    {
        char what[96];
        (void)snprintf(what, sizeof(what), "model.vocab: \"%.60s\"", key);
        if (id_check(value, what) != ST_OK) {
            return ST_ERR_CORRUPT;
        }
        int64_t id = json_integer_value(value);
        tokenizer->size = id >= tokenizer->size ? id + 1 : tokenizer->size;
    }
    json_array_foreach(added, i, value)
    {
        char what[64];
        (void)snprintf(what, sizeof(what), "added_tokens[%zu].id", i);
        if (id_check(json_object_get(value, "id"), what) != ST_OK) {
            return ST_ERR_CORRUPT;
        }
        int64_t id = json_integer_value(json_object_get(value, "id"));
        tokenizer->size = id >= tokenizer->size ? id + 1 : tokenizer->size;
    }
    tokenizer->pieces = mem_calloc((size_t)tokenizer->size, sizeof(*tokenizer->pieces));
    return tokenizer->pieces != NULL ? ST_OK : ST_FAIL(ST_ERR_NOMEM, "%lld tokens", (long long)tokenizer->size);
}

static status_t vocab_read(wrk_tokenizer_t *tokenizer, json_t *vocab)
{
    const char *key = NULL;
    json_t *value = NULL;
    status_t status = ST_OK;
    json_object_foreach(vocab, key, value)
    {
        int64_t id = json_integer_value(value);
        if (tokenizer->pieces[id].bytes != NULL) {
            status = ST_FAIL(ST_ERR_CORRUPT, "model.vocab: \"%.60s\": number %lld is another token's too", key,
                             (long long)id);
        } else {
            status = piece_set(tokenizer, id, key, false);
        }
        if (status != ST_OK) {
            return status;
        }
    }
    return wrk_words_build(tokenizer);
}

/* Adds it to the set that it is looked for in; decoded, it is what is looked for. The normaliser is known by now. */
static status_t added_add(wrk_tokenizer_t *tokenizer, const json_t *token, const char *content)
{
    const bool is_normalized = wrk_json_is_true(token, "normalized", false);
    const int64_t id = json_integer_value(json_object_get(token, "id"));
    wrk_added_set_t *set = &tokenizer->added[is_normalized ? WRK_ADDED_NORMALIZED : WRK_ADDED_RAW];
    strbuf_t text = {0};
    status_t status = ST_OK;
    if (is_normalized) {
        status = wrk_tokenizer_normalize(tokenizer, content, strlen(content), &text);
    } else {
        strbuf_append(&text, content);
    }
    const size_t length = text.length; /* 0: nothing is left to be found */
    char *copy = status == ST_OK ? strbuf_detach(&text) : NULL;
    strbuf_release(&text);
    if (status == ST_OK && copy == NULL) {
        status = ST_FAIL(ST_ERR_NOMEM, "an added token");
    }
    if (status == ST_OK && (tokenizer->pieces[id].bytes == NULL || !tokenizer->pieces[id].is_word)) {
        status = piece_set(tokenizer, id, length > 0 ? copy : content, true);
    }
    if (status != ST_OK || length == 0) {
        mem_free(copy);
        return status;
    }
    set->item[set->n++] = (wrk_added_t){.text = copy,
                                        .length = length,
                                        .id = (int32_t)id,
                                        .is_single_word = wrk_json_is_true(token, "single_word", false),
                                        .takes_left = wrk_json_is_true(token, "lstrip", false),
                                        .takes_right = wrk_json_is_true(token, "rstrip", false)};
    return ST_OK;
}

static status_t added_read(wrk_tokenizer_t *tokenizer, const json_t *added)
{
    json_t *token = NULL;
    size_t i = 0;
    size_t n = json_array_size(added);
    if (n > MAX_ADDED) {
        return ST_FAIL(ST_ERR_UNSUPPORTED, "added_tokens: %zu; at most %d", n, (int)MAX_ADDED);
    }
    for (int k = 0; k < WRK_ADDED_COUNT; k++) {
        tokenizer->added[k].item = mem_calloc(n + 1, sizeof(wrk_added_t));
        if (tokenizer->added[k].item == NULL) {
            return ST_FAIL(ST_ERR_NOMEM, "%zu added tokens", n);
        }
    }
    json_array_foreach(added, i, token)
    {
        const char *content = wrk_json_text(token, "content");
        if (content[0] == '\0') {
            return ST_FAIL(ST_ERR_CORRUPT, "added_tokens[%zu].content: a text is wanted", i);
        }
        status_t status = added_add(tokenizer, token, content);
        if (status != ST_OK) {
            return status;
        }
    }
    for (int k = 0; k < WRK_ADDED_COUNT; k++) {
        wrk_added_sort(&tokenizer->added[k]);
    }
    return ST_OK;
}

/* ---- merges ---- */

/* Token of a merge's part, whose text is `length` bytes of the file's alphabet; its bytes are appended. -1: none. */
static int32_t part_find(const wrk_tokenizer_t *tokenizer, const char *text, size_t length, strbuf_t *bytes)
{
    size_t first = bytes->length;
    for (const char *at = text; at < text + length;) {
        const char *before = at;
        int byte = tokenizer->is_byte_level ? wrk_alphabet_byte(&at) : (unsigned char)*at++;
        if (byte < 0 || at > text + length || at == before) {
            return -1;
        }
        strbuf_append_char(bytes, (char)byte);
    }
    return bytes->is_failed ? -1 : wrk_words_find(tokenizer, strbuf_text(bytes) + first, bytes->length - first);
}

static status_t merge_read(wrk_tokenizer_t *tokenizer, const json_t *merge, size_t rank, strbuf_t *bytes)
{
    const char *left = NULL;
    const char *right = NULL;
    size_t left_length = 0;
    if (json_is_string(merge)) { /* "a b": the last space may not be a part, as `tokenizers` writes none there */
        left = json_string_value(merge);
        const char *space = strchr(left, ' ');
        right = space != NULL ? space + 1 : NULL;
        left_length = space != NULL ? (size_t)(space - left) : 0;
        right = right != NULL && strchr(right, ' ') == NULL ? right : NULL;
    } else if (json_array_size(merge) == 2) {
        left = json_string_value(json_array_get(merge, 0));
        right = json_string_value(json_array_get(merge, 1));
        left_length = left != NULL ? strlen(left) : 0;
    }
    if (left == NULL || right == NULL) {
        return ST_FAIL(ST_ERR_CORRUPT, "model.merges[%zu]: two texts are wanted, in a list or with a space between",
                       rank);
    }
    strbuf_clear(bytes);
    int32_t a = part_find(tokenizer, left, left_length, bytes);
    int32_t b = part_find(tokenizer, right, strlen(right), bytes);
    int32_t both = a >= 0 && b >= 0 ? wrk_words_find(tokenizer, strbuf_text(bytes), bytes->length) : -1;
    if (both < 0) {
        return ST_FAIL(ST_ERR_CORRUPT, "model.merges[%zu]: \"%.*s\", \"%.60s\" or both together are not in model.vocab",
                       rank, (int)(left_length < 60 ? left_length : 60), left, right);
    }
    wrk_merges_add(tokenizer, a, b, (uint32_t)rank, both);
    return ST_OK;
}

static status_t merges_read(wrk_tokenizer_t *tokenizer, const json_t *merges)
{
    json_t *merge = NULL;
    size_t rank = 0;
    strbuf_t bytes = {0};
    if (!json_is_array(merges)) {
        return ST_FAIL(ST_ERR_CORRUPT, "model.merges: a list is wanted");
    }
    status_t status = wrk_merges_reserve(tokenizer, (int64_t)json_array_size(merges));
    json_array_foreach(merges, rank, merge)
    {
        if (status == ST_OK) {
            status = merge_read(tokenizer, merge, rank, &bytes);
        }
    }
    strbuf_release(&bytes);
    return status;
}

/* The token of each byte. */
static void bytes_find(wrk_tokenizer_t *tokenizer)
{
    for (int byte = 0; byte < 256; byte++) {
        char name[8];
        char own = (char)byte;
        (void)snprintf(name, sizeof(name), "<0x%02X>", byte);
        tokenizer->byte_ids[byte] = tokenizer->is_byte_level       ? wrk_words_find(tokenizer, &own, 1)
                                    : tokenizer->has_byte_fallback ? wrk_words_find(tokenizer, name, strlen(name))
                                                                   : -1;
    }
}

static status_t byte_pairs_read(wrk_tokenizer_t *tokenizer, const json_t *model)
{
    static const char *const refused[] = {"dropout", "continuing_subword_prefix", "end_of_word_suffix"};
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        if (!wrk_json_is_absent(model, refused[i])) {
            return ST_FAIL(ST_ERR_UNSUPPORTED, "model.%s", refused[i]);
        }
    }
    tokenizer->ignores_merges = wrk_json_is_true(model, "ignore_merges", false);
    tokenizer->has_byte_fallback = wrk_json_is_true(model, "byte_fallback", false);
    tokenizer->is_unknown_fused = wrk_json_is_true(model, "fuse_unk", false);
    status_t status = merges_read(tokenizer, json_object_get(model, "merges"));
    bytes_find(tokenizer);
    return status;
}

static status_t word_pieces_read(wrk_tokenizer_t *tokenizer, const json_t *model)
{
    const json_t *longest_word = json_object_get(model, "max_input_chars_per_word");
    const json_t *prefix = json_object_get(model, "continuing_subword_prefix");
    const bool has_prefix = prefix != NULL && !json_is_null(prefix);
    if (tokenizer->is_byte_level) {
        return ST_FAIL(ST_ERR_UNSUPPORTED, "model.type: \"WordPiece\" behind ByteLevel");
    }
    if (has_prefix && !json_is_string(prefix)) {
        return ST_FAIL(ST_ERR_CORRUPT, "model.continuing_subword_prefix: a text is wanted");
    }
    tokenizer->max_characters = longest_word != NULL ? json_integer_value(longest_word) : 100;
    if (longest_word != NULL && (!json_is_integer(longest_word) || tokenizer->max_characters < 1)) {
        return ST_FAIL(ST_ERR_CORRUPT, "model.max_input_chars_per_word: a number from 1 is wanted");
    }
    for (int64_t id = 0; id < tokenizer->size; id++) {
        const wrk_piece_t *piece = &tokenizer->pieces[id];
        tokenizer->longest = piece->is_word && piece->length > tokenizer->longest ? piece->length : tokenizer->longest;
    }
    return wrk_text_copy(has_prefix ? json_string_value(prefix) : "##", &tokenizer->continuing);
}

/* The token of words and characters that the vocabulary hasn't. */
static status_t unknown_find(wrk_tokenizer_t *tokenizer, const json_t *model)
{
    const char *unknown = wrk_json_text(model, "unk_token");
    if (tokenizer->is_word_piece && unknown[0] == '\0') {
        unknown = "[UNK]";
    }
    tokenizer->unknown = unknown[0] != '\0' ? wrk_words_find(tokenizer, unknown, strlen(unknown)) : -1;
    return unknown[0] != '\0' && tokenizer->unknown < 0
               ? ST_FAIL(ST_ERR_CORRUPT, "model.unk_token: \"%.60s\" is not in model.vocab", unknown)
               : ST_OK;
}

static status_t model_read(wrk_tokenizer_t *tokenizer, const json_t *root)
{
    const json_t *model = json_object_get(root, "model");
    const json_t *added = json_object_get(root, "added_tokens");
    const char *type = wrk_json_text(model, "type");
    if (!json_is_object(model)) {
        return ST_FAIL(ST_ERR_CORRUPT, "model: not the file of a tokenizer");
    }
    tokenizer->is_word_piece = strcmp(type, "WordPiece") == 0;
    if (!tokenizer->is_word_piece && strcmp(type, "BPE") != 0 &&
        !(type[0] == '\0' && json_object_get(model, "merges") != NULL)) {
        return ST_FAIL(ST_ERR_UNSUPPORTED, "model.type: \"%.40s\"; BPE and WordPiece are read", type);
    }
    status_t status = size_find(tokenizer, json_object_get(model, "vocab"), added);
    if (status == ST_OK) {
        status = vocab_read(tokenizer, json_object_get(model, "vocab"));
    }
    if (status == ST_OK) {
        status = added_read(tokenizer, added);
    }
    if (status == ST_OK) {
        status = tokenizer->is_word_piece ? word_pieces_read(tokenizer, model) : byte_pairs_read(tokenizer, model);
    }
    return status == ST_OK ? unknown_find(tokenizer, model) : status;
}

/* ---- the file ---- */

static status_t root_read(wrk_tokenizer_t *tokenizer, const json_t *root)
{
    status_t status = wrk_tokenizer_read_before(tokenizer, root);
    if (status == ST_OK) {
        status = model_read(tokenizer, root);
    }
    return status == ST_OK ? wrk_tokenizer_read_behind(tokenizer, root) : status;
}

status_t wrk_tokenizer_open(const char *path, wrk_tokenizer_t **tokenizer_p)
{
    void *text = NULL;
    size_t capacity = 0;
    int64_t length = 0;
    json_error_t error;
    wrk_tokenizer_t *tokenizer = mem_zalloc(sizeof(*tokenizer));
    if (tokenizer == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "tokenizer");
    }
    status_t status = wrk_text_copy(path, &tokenizer->path);
    if (status == ST_OK) {
        status = wrk_source_read(path, MAX_FILE_BYTES, &text, &capacity, &length);
    }
    json_t *root = status == ST_OK ? json_loadb(text, (size_t)length, JSON_REJECT_DUPLICATES, &error) : NULL;
    mem_free(text);
    if (status == ST_OK && root == NULL) {
        status = ST_FAIL(ST_ERR_CORRUPT, "%s: line %d, column %d: %s", path, error.line, error.column, error.text);
    } else if (status == ST_OK) {
        status = root_read(tokenizer, root);
        status = status == ST_OK ? ST_OK : status_add_context(status, "%s", path);
    }
    json_decref(root);
    if (status != ST_OK) {
        wrk_tokenizer_close(tokenizer);
        return status;
    }
    *tokenizer_p = tokenizer;
    return ST_OK;
}

void wrk_tokenizer_close(wrk_tokenizer_t *tokenizer)
{
    if (tokenizer == NULL) {
        return;
    }
    for (int64_t i = 0; tokenizer->pieces != NULL && i < tokenizer->size; i++) {
        mem_free((void *)(uintptr_t)tokenizer->pieces[i].bytes);
    }
    for (int k = 0; k < WRK_ADDED_COUNT; k++) {
        for (int64_t i = 0; i < tokenizer->added[k].n; i++) {
            mem_free((void *)(uintptr_t)tokenizer->added[k].item[i].text);
        }
        mem_free(tokenizer->added[k].item);
    }
    for (int i = 0; i < tokenizer->n_steps; i++) {
        wrk_pattern_close(tokenizer->steps[i].pattern);
        mem_free(tokenizer->steps[i].space);
    }
    for (int i = 0; i < tokenizer->n_rewrites; i++) {
        mem_free(tokenizer->rewrites[i].wanted);
        mem_free(tokenizer->rewrites[i].text);
    }
    mem_free(tokenizer->continuing);
    mem_free(tokenizer->pieces);
    mem_free(tokenizer->words);
    mem_free(tokenizer->merges);
    mem_free(tokenizer->decode_from);
    mem_free(tokenizer->decode_to);
    mem_free(tokenizer->path);
    mem_free(tokenizer);
}
