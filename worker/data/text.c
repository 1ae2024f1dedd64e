/* SPDX-License-Identifier: Apache-2.0 */
/*
 * text: one stream of tokens out of files of text, and windows of it.
 *
 * Tokens are kept in the fewest bytes that the vocabulary needs (1, 2 or 4). A vocabulary of characters is the sorted
 * list of the code points that occur in the whole files, so that training and validation parts of the same files
 * number them alike.
 */
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "worker/data/paths.h"
#include "worker/data/source.h"
#include "worker/data/tokenizer.h"
#include "worker/data/utf8.h"

enum { N_CODE_POINTS = 0x110000, N_BYTES = 256 };

typedef struct text_dataset {
    wrk_dataset_t base;
    void *tokens; /* [n_tokens] of the part */
    int token_bytes;
    int64_t context;
    int32_t *code_point; /* [n_classes] ascending; NULL: bytes, or the tokenizer's tokens */
    wrk_tokenizer_t *tokenizer;
    char *path;
} text_dataset_t;

/* The files one after another. */
typedef struct text_bytes {
    uint8_t *data;
    int64_t size_bytes;
    wrk_paths_t paths;
    int64_t *start; /* [n_items] where each file begins */
} text_bytes_t;

static void bytes_release(text_bytes_t *bytes)
{
    mem_free(bytes->data);
    mem_free(bytes->start);
    wrk_paths_release(&bytes->paths);
    *bytes = (text_bytes_t){0};
}

static status_t file_append(const char *path, text_bytes_t *bytes)
{
    int descriptor = -1;
    int64_t size_bytes = 0;
    status_t status = wrk_source_open(path, &descriptor, &size_bytes);
    if (status != ST_OK) {
        return status;
    }
    if (bytes->size_bytes + size_bytes > WRK_DATASET_MAX_BYTES) {
        status = ST_FAIL(ST_ERR_DATA, "%s: with the files before it more than %lld bytes", path,
                         (long long)WRK_DATASET_MAX_BYTES);
        goto close_file;
    }
    uint8_t *grown = mem_realloc(bytes->data, (size_t)(bytes->size_bytes + size_bytes));
    if (grown == NULL) {
        status = ST_FAIL(ST_ERR_NOMEM, "%s: %lld bytes", path, (long long)size_bytes);
        goto close_file;
    }
    bytes->data = grown;
    status = wrk_source_fill(path, descriptor, bytes->data + bytes->size_bytes, size_bytes);
    bytes->size_bytes += status == ST_OK ? size_bytes : 0;

close_file:
    (void)close(descriptor);
    return status;
}

/* `bytes` is the caller's to release also after a failure. */
static status_t bytes_read(const char *path, text_bytes_t *bytes)
{
    status_t status = wrk_paths_find(path, &bytes->paths);
    if (status != ST_OK) {
        return status;
    }
    bytes->start = mem_calloc((size_t)bytes->paths.n_items, sizeof(*bytes->start));
    if (bytes->start == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "%s: list of files", path);
    }
    for (int i = 0; i < bytes->paths.n_items && status == ST_OK; i++) {
        bytes->start[i] = bytes->size_bytes;
        status = file_append(bytes->paths.item[i], bytes);
    }
    return status;
}

/* End of file `i`. */
static int64_t file_end(const text_bytes_t *bytes, int i)
{
    return i + 1 < bytes->paths.n_items ? bytes->start[i + 1] : bytes->size_bytes;
}

static void token_set(void *tokens, int token_bytes, int64_t i, int64_t token)
{
    if (token_bytes == 1) {
        ((uint8_t *)tokens)[i] = (uint8_t)token;
    } else if (token_bytes == 2) {
        ((uint16_t *)tokens)[i] = (uint16_t)token;
    } else {
        ((int32_t *)tokens)[i] = (int32_t)token;
    }
}

static int64_t token_get(const text_dataset_t *text, int64_t i)
{
    switch (text->token_bytes) {
    case 1:
        return ((const uint8_t *)text->tokens)[i];
    case 2:
        return ((const uint16_t *)text->tokens)[i];
    default:
        return ((const int32_t *)text->tokens)[i];
    }
}

/* Marks the code points that occur (table[c] = 1) and counts all characters. */
static status_t characters_count(const text_bytes_t *bytes, int32_t *table, int64_t *n_characters_p)
{
    int64_t n_characters = 0;
    for (int f = 0; f < bytes->paths.n_items; f++) {
        int64_t end = file_end(bytes, f);
        for (int64_t at = bytes->start[f]; at < end; n_characters++) {
            int32_t code_point = 0;
            const size_t n = wrk_utf8_decode((const char *)bytes->data + at, (size_t)(end - at), &code_point);
            if (n == 0) {
                return ST_FAIL(ST_ERR_DATA, "%s: offset %lld: byte 0x%02x is not UTF-8 (tokens: bytes takes any file)",
                               bytes->paths.item[f], (long long)(at - bytes->start[f]), bytes->data[at]);
            }
            table[code_point] = 1;
            at += (int64_t)n;
        }
    }
    *n_characters_p = n_characters;
    return ST_OK;
}

/* The vocabulary, own or another dataset's; table[c] becomes token + 1, 0 for what is not in it. */
static status_t vocabulary_make(text_dataset_t *text, const text_dataset_t *other, int32_t *table)
{
    int64_t n = 0;
    if (other != NULL) {
        n = other->base.n_classes;
    } else {
        for (int32_t c = 0; c < N_CODE_POINTS; c++) {
            n += table[c] != 0;
        }
    }
    text->code_point = mem_calloc((size_t)n, sizeof(*text->code_point));
    if (text->code_point == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "%s: vocabulary of %lld characters", text->path, (long long)n);
    }
    int64_t token = 0;
    for (int32_t c = 0; other == NULL && c < N_CODE_POINTS; c++) {
        if (table[c] != 0) {
            text->code_point[token++] = c;
        }
    }
    if (other != NULL) {
        memcpy(text->code_point, other->code_point, (size_t)n * sizeof(*text->code_point));
    }
    memset(table, 0, (size_t)N_CODE_POINTS * sizeof(*table));
    for (int64_t i = 0; i < n; i++) {
        table[text->code_point[i]] = (int32_t)i + 1;
    }
    text->base.n_classes = n;
    text->token_bytes = n <= N_BYTES ? 1 : n <= UINT16_MAX + 1 ? 2 : 4;
    return ST_OK;
}

/* Stores the tokens of characters [from, to) of the files. */
static status_t characters_store(text_dataset_t *text, const text_bytes_t *bytes, const int32_t *table, int64_t from,
                                 int64_t to)
{
    int64_t character = 0;
    for (int f = 0; f < bytes->paths.n_items; f++) {
        int64_t end = file_end(bytes, f);
        for (int64_t at = bytes->start[f]; at < end && character < to; character++) {
            int32_t code_point = 0;
            const size_t n = wrk_utf8_decode((const char *)bytes->data + at, (size_t)(end - at), &code_point);
            if (character >= from && table[code_point] == 0) {
                return ST_FAIL(ST_ERR_DATA, "%s: offset %lld: character U+%04X does not occur in the training data",
                               bytes->paths.item[f], (long long)(at - bytes->start[f]), (unsigned)code_point);
            }
            if (character >= from) {
                token_set(text->tokens, text->token_bytes, character - from, table[code_point] - 1);
            }
            at += (int64_t)n;
        }
    }
    return ST_OK;
}

/* [from, to) of n tokens; too few for one window is an error. */
static status_t part_get(const text_dataset_t *text, const Gradd__V1__Text *spec, int64_t n, int64_t *from_p,
                         int64_t *to_p)
{
    double from = spec->n_part == 2 ? spec->part[0] : 0.0;
    double to = spec->n_part == 2 ? spec->part[1] : 1.0;
    *from_p = (int64_t)floor(from * (double)n);
    *to_p = (int64_t)floor(to * (double)n);
    if (*to_p - *from_p < text->context + 1) {
        return ST_FAIL(ST_ERR_DATA,
                       "%s: part [%g, %g) of its %lld tokens has %lld; one window of context %lld takes %lld",
                       text->path, from, to, (long long)n, (long long)(*to_p - *from_p), (long long)text->context,
                       (long long)text->context + 1);
    }
    return ST_OK;
}

static status_t tokens_alloc(text_dataset_t *text, int64_t n)
{
    text->tokens = mem_alloc((size_t)n * (size_t)text->token_bytes);
    if (text->tokens == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "%s: %lld tokens", text->path, (long long)n);
    }
    text->base.n_tokens = n;
    return ST_OK;
}

static status_t characters_load(text_dataset_t *text, const Gradd__V1__Text *spec, const text_dataset_t *other,
                                const text_bytes_t *bytes)
{
    int32_t *table = mem_calloc(N_CODE_POINTS, sizeof(*table));
    if (table == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "%s: table of characters", text->path);
    }
    int64_t n = 0;
    int64_t from = 0;
    int64_t to = 0;
    status_t status = characters_count(bytes, table, &n);
    if (status == ST_OK) {
        status = part_get(text, spec, n, &from, &to);
    }
    if (status == ST_OK) {
        status = vocabulary_make(text, other, table);
    }
    if (status == ST_OK) {
        status = tokens_alloc(text, to - from);
    }
    if (status == ST_OK) {
        status = characters_store(text, bytes, table, from, to);
    }
    mem_free(table);
    return status;
}

static status_t bytes_load(text_dataset_t *text, const Gradd__V1__Text *spec, const text_bytes_t *bytes)
{
    int64_t from = 0;
    int64_t to = 0;
    text->token_bytes = 1;
    text->base.n_classes = N_BYTES;
    status_t status = part_get(text, spec, bytes->size_bytes, &from, &to);
    if (status == ST_OK) {
        status = tokens_alloc(text, to - from);
    }
    if (status == ST_OK) {
        memcpy(text->tokens, bytes->data + from, (size_t)(to - from));
    }
    return status;
}

/* The tokens of all files, and those of the part kept. */
static status_t tokenizer_load(text_dataset_t *text, const Gradd__V1__Text *spec, const text_bytes_t *bytes)
{
    wrk_ids_t ids = {0};
    int64_t from = 0;
    int64_t to = 0;
    status_t status = ST_OK;
    for (int f = 0; f < bytes->paths.n_items && status == ST_OK; f++) {
        status = wrk_tokenizer_encode(text->tokenizer, (const char *)bytes->data + bytes->start[f],
                                      (size_t)(file_end(bytes, f) - bytes->start[f]), &ids);
        if (status != ST_OK) {
            status = status_add_context(status, "%s", bytes->paths.item[f]);
        }
    }
    text->base.n_classes = wrk_tokenizer_size(text->tokenizer);
    text->token_bytes = text->base.n_classes <= UINT16_MAX + 1 ? 2 : 4;
    if (status == ST_OK) {
        status = part_get(text, spec, ids.n, &from, &to);
    }
    if (status == ST_OK) {
        status = tokens_alloc(text, to - from);
    }
    for (int64_t i = from; i < to && status == ST_OK; i++) {
        token_set(text->tokens, text->token_bytes, i - from, ids.item[i]);
    }
    wrk_ids_release(&ids);
    return status;
}

static void text_close(wrk_dataset_t *dataset)
{
    text_dataset_t *text = (text_dataset_t *)dataset;
    mem_free(text->tokens);
    mem_free(text->code_point);
    mem_free(text->path);
    wrk_tokenizer_close(text->tokenizer);
    wrk_dataset_release(dataset);
    mem_free(text);
}

static status_t text_read(const wrk_dataset_t *dataset, int64_t index, wrk_scratch_t *scratch, void *input,
                          void *target)
{
    (void)scratch;
    const text_dataset_t *text = (const text_dataset_t *)dataset;
    int64_t *in = input;
    int64_t *out = target;
    for (int64_t t = 0; t < text->context; t++) {
        in[t] = token_get(text, index + t);
    }
    for (int64_t t = 0; out != NULL && t < text->context; t++) {
        out[t] = token_get(text, index + t + 1);
    }
    return ST_OK;
}

static const char *kind_name(const text_dataset_t *text)
{
    return text->tokenizer != NULL ? "tokens" : text->code_point != NULL ? "characters" : "bytes";
}

static status_t text_check_classes(const wrk_dataset_t *dataset, int64_t n_classes)
{
    const text_dataset_t *text = (const text_dataset_t *)dataset;
    return ST_FAIL(ST_ERR_DATA, "%s: a vocabulary of %lld %s; the model has %lld", text->path,
                   (long long)dataset->n_classes, kind_name(text), (long long)n_classes);
}

static void text_decode(const wrk_dataset_t *dataset, const int64_t *tokens, int64_t n, strbuf_t *out)
{
    const text_dataset_t *text = (const text_dataset_t *)dataset;
    if (text->tokenizer != NULL) {
        wrk_tokenizer_decode(text->tokenizer, tokens, n, out);
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        char bytes[WRK_UTF8_MAX] = {(char)tokens[i]};
        if (tokens[i] >= 0 && tokens[i] < dataset->n_classes) {
            int size = text->code_point != NULL ? wrk_utf8_encode(text->code_point[tokens[i]], bytes) : 1;
            strbuf_append_bytes(out, bytes, (size_t)size);
        }
    }
}

/* Token of a code point; -1 when it is not in the vocabulary. */
static int64_t code_point_find(const text_dataset_t *text, int32_t code_point)
{
    int64_t low = 0;
    int64_t high = text->base.n_classes;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (text->code_point[middle] < code_point) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < text->base.n_classes && text->code_point[low] == code_point ? low : -1;
}

static status_t text_encode(const wrk_dataset_t *dataset, const char *bytes, size_t length, int64_t **tokens_p,
                            int64_t *n_tokens_p)
{
    const text_dataset_t *text = (const text_dataset_t *)dataset;
    int64_t n_tokens = 0;
    status_t status = ST_OK;
    if (text->tokenizer != NULL) {
        return wrk_tokens_encode(text->tokenizer, bytes, length, tokens_p, n_tokens_p);
    }
    int64_t *tokens = mem_calloc(length > 0 ? length : 1, sizeof(*tokens));
    if (tokens == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "tokens of %zu bytes", length);
    }
    for (size_t at = 0; at < length && status == ST_OK;) {
        if (text->code_point == NULL) {
            tokens[n_tokens++] = (uint8_t)bytes[at++];
            continue;
        }
        int32_t code_point = 0;
        const size_t n = wrk_utf8_decode(bytes + at, length - at, &code_point);
        tokens[n_tokens] = n > 0 ? code_point_find(text, code_point) : -1;
        if (n == 0) {
            status = ST_FAIL(ST_ERR_DATA, "offset %zu of the text: byte 0x%02x is not UTF-8", at, (uint8_t)bytes[at]);
        } else if (tokens[n_tokens] < 0) {
            status =
                ST_FAIL(ST_ERR_DATA, "offset %zu of the text: character U+%04X does not occur in the training data", at,
                        (unsigned)code_point);
        }
        n_tokens++;
        at += n;
    }
    if (status != ST_OK) {
        mem_free(tokens);
        return status;
    }
    *tokens_p = tokens;
    *n_tokens_p = n_tokens;
    return ST_OK;
}

static const wrk_dataset_ops_t text_ops = {
    .close = text_close,
    .read = text_read,
    .check_classes = text_check_classes,
    .encode_text = text_encode,
    .decode_text = text_decode,
};

static status_t spec_check(const Gradd__V1__Text *spec, const wrk_dataset_options_t *options, int64_t *context_p)
{
    if (spec->path == NULL || spec->path[0] == '\0') {
        return ST_FAIL(ST_ERR_INVAL, "text.path is missing");
    }
    if (spec->n_part != 0 && spec->n_part != 2) {
        return ST_FAIL(ST_ERR_INVAL, "text.part has %zu values; it is [from, to)", spec->n_part);
    }
    if (spec->n_part == 2 && !(spec->part[0] >= 0.0 && spec->part[0] < spec->part[1] && spec->part[1] <= 1.0)) {
        return ST_FAIL(ST_ERR_INVAL, "text.part [%g, %g) is not inside [0, 1)", spec->part[0], spec->part[1]);
    }
    *context_p = spec->has_context ? spec->context : options->context;
    if (*context_p < 1) {
        return ST_FAIL(ST_ERR_INVAL, "text.context is %lld: give it, or a model that has a context",
                       (long long)*context_p);
    }
    return ST_OK;
}

/* A validation set has to number its tokens as the training set does. */
static status_t like_check(const text_dataset_t *text, const text_dataset_t *other, bool has_characters)
{
    const char *own = text->tokenizer != NULL ? "tokens" : has_characters ? "characters" : "bytes";
    if (other != NULL && strcmp(own, kind_name(other)) != 0) {
        return ST_FAIL(ST_ERR_INVAL, "%s: text.tokens is %s, but the training data's is %s", text->path, own,
                       kind_name(other));
    }
    if (other != NULL && text->tokenizer != NULL && wrk_tokenizer_size(text->tokenizer) != other->base.n_classes) {
        return ST_FAIL(ST_ERR_INVAL, "%s: text.tokenizer has %lld tokens, the training data's %lld", text->path,
                       (long long)wrk_tokenizer_size(text->tokenizer), (long long)other->base.n_classes);
    }
    if (other != NULL && text->tokenizer != NULL && !wrk_tokenizer_is_alike(text->tokenizer, other->tokenizer)) {
        return ST_FAIL(ST_ERR_INVAL, "%s: text.tokenizer numbers tokens otherwise than the training data's",
                       text->path);
    }
    return ST_OK;
}

static status_t text_load(text_dataset_t *text, const Gradd__V1__Text *spec, const text_dataset_t *other)
{
    bool has_characters = spec->tokenizer == NULL && spec->tokens == GRADD__V1__TEXT__TOKENS__characters;
    text_bytes_t bytes = {0};
    status_t status = spec->tokenizer != NULL ? wrk_tokenizer_open(spec->tokenizer, &text->tokenizer) : ST_OK;
    if (status == ST_OK) {
        status = like_check(text, other, has_characters);
    }
    if (status == ST_OK) {
        status = bytes_read(spec->path, &bytes);
    }
    if (status == ST_OK) {
        status = text->tokenizer != NULL ? tokenizer_load(text, spec, &bytes)
                 : has_characters        ? characters_load(text, spec, other, &bytes)
                                         : bytes_load(text, spec, &bytes);
    }
    bytes_release(&bytes);
    return status;
}

status_t wrk_text_open(const Gradd__V1__Text *spec, const wrk_dataset_options_t *options, wrk_dataset_t **dataset_p)
{
    int64_t context = 0;
    status_t status = spec_check(spec, options, &context);
    if (status != ST_OK) {
        return status;
    }
    bool is_same_kind = options->like != NULL && options->like->ops == &text_ops;
    text_dataset_t *text = mem_zalloc(sizeof(*text));
    if (text == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "dataset");
    }
    text->base.ops = &text_ops;
    text->context = context;
    text->path = mem_strdup(spec->path);
    status = text->path != NULL ? text_load(text, spec, is_same_kind ? (const text_dataset_t *)options->like : NULL)
                                : ST_FAIL(ST_ERR_NOMEM, "dataset");
    if (status != ST_OK) {
        text_close(&text->base);
        return status;
    }
    text->base.count = text->base.n_tokens - context;
    wrk_dataset_field_init(&text->base.input, GD_DTYPE_I64, 1, &context);
    text->base.target = text->base.input;
    *dataset_p = &text->base;
    return ST_OK;
}
