/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tokens: a stream of tokens in shards, mapped into memory.
 *
 * Two formats, told apart by the first four bytes, or named by the job:
 *   llmc     256 little-endian 32-bit words: 20240520, version 1, number of tokens, zeroes; then the tokens, 16 bits
 *            each. 20240801, version 7: 32 bits each. (https://github.com/karpathy/llm.c, dev/data/data_common.py)
 *   nanogpt  tokens of 16 bits and nothing else. (https://github.com/karpathy/nanoGPT, data/<name>/prepare.py)
 * The shards are one stream, in name order: a window may begin in one and end in the next. As with every mapped file,
 * who cuts one short while a job reads it ends the job (SIGBUS).
 */
#include <math.h>
#include <string.h>
#include <sys/mman.h>

#include "base/mem.h"
#include "worker/data/paths.h"
#include "worker/data/source.h"
#include "worker/data/tokenizer.h"

enum { HEADER_WORDS = 256, HEADER_BYTES = 1024 };

static const uint32_t MAGIC_GPT2 = 20240520;
static const uint32_t MAGIC_LLAMA3 = 20240801;

typedef struct shard {
    const char *path; /* borrowed from paths */
    const uint8_t *data;
    int64_t size_bytes;
    int64_t data_offset;
    int64_t first; /* number of its first token in the stream */
    int64_t n;
    int token_bytes; /* 2 or 4 */
} shard_t;

typedef struct tokens_dataset {
    wrk_dataset_t base;
    wrk_paths_t paths;
    shard_t *shards;
    int n_shards;
    int64_t from; /* where the part begins in the stream */
    int64_t context;
    wrk_tokenizer_t *tokenizer; /* NULL: none */
    bool is_checked;            /* every token of the part was seen to be below n_classes */
} tokens_dataset_t;

static uint32_t word_get(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

static int64_t token_get(const shard_t *shard, int64_t i)
{
    const uint8_t *bytes = shard->data + shard->data_offset + i * shard->token_bytes;
    return shard->token_bytes == 2 ? (int64_t)(bytes[0] | bytes[1] << 8) : (int64_t)word_get(bytes);
}

/* ---- opening ---- */

static status_t header_read(shard_t *shard)
{
    if (shard->size_bytes < HEADER_BYTES) {
        return ST_FAIL(ST_ERR_CORRUPT, "%s: truncated: %lld bytes, the header alone has %d", shard->path,
                       (long long)shard->size_bytes, (int)HEADER_BYTES);
    }
    uint32_t magic = word_get(shard->data);
    uint32_t version = word_get(shard->data + 4);
    uint32_t n = word_get(shard->data + 8);
    if (magic != MAGIC_GPT2 && magic != MAGIC_LLAMA3) {
        return ST_FAIL(ST_ERR_CORRUPT, "%s: offset 0: %u instead of llm.c's %u or %u", shard->path, magic, MAGIC_GPT2,
                       MAGIC_LLAMA3);
    }
    uint32_t known = magic == MAGIC_GPT2 ? 1 : 7;
    if (version != known) {
        return ST_FAIL(ST_ERR_UNSUPPORTED, "%s: offset 4: version %u; %u is read", shard->path, version, known);
    }
    shard->token_bytes = magic == MAGIC_GPT2 ? 2 : 4;
    shard->data_offset = HEADER_BYTES;
    shard->n = (shard->size_bytes - HEADER_BYTES) / shard->token_bytes;
    if (shard->size_bytes != HEADER_BYTES + (int64_t)n * shard->token_bytes) {
        return ST_FAIL(ST_ERR_CORRUPT,
                       "%s: %s: its header (offset 8) says %u tokens of %d bytes, the file has %lld bytes", shard->path,
                       (int64_t)n > shard->n ? "truncated" : "more bytes follow", n, shard->token_bytes,
                       (long long)shard->size_bytes);
    }
    return ST_OK;
}

static status_t shard_open(const Gradd__V1__Tokens *spec, shard_t *shard)
{
    status_t status = wrk_source_map(shard->path, &shard->data, &shard->size_bytes);
    if (status != ST_OK) {
        return status;
    }
    uint32_t magic = shard->size_bytes >= 4 ? word_get(shard->data) : 0;
    bool has_header =
        spec->format == GRADD__V1__TOKENS__FORMAT__llmc ||
        (spec->format == GRADD__V1__TOKENS__FORMAT__detect && (magic == MAGIC_GPT2 || magic == MAGIC_LLAMA3));
    if (has_header) {
        return header_read(shard);
    }
    if (shard->size_bytes % 2 != 0) {
        return ST_FAIL(ST_ERR_CORRUPT, "%s: %lld bytes: no header, and not a whole number of tokens of 2 bytes",
                       shard->path, (long long)shard->size_bytes);
    }
    shard->token_bytes = 2;
    shard->n = shard->size_bytes / 2;
    return ST_OK;
}

static status_t shards_open(tokens_dataset_t *tokens, const Gradd__V1__Tokens *spec, int64_t *n_tokens_p)
{
    int64_t n_tokens = 0;
    status_t status = wrk_paths_find(spec->path, &tokens->paths);
    if (status != ST_OK) {
        return status;
    }
    tokens->shards = mem_calloc((size_t)tokens->paths.n_items, sizeof(*tokens->shards));
    if (tokens->shards == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "%s: list of files", spec->path);
    }
    for (int i = 0; i < tokens->paths.n_items && status == ST_OK; i++) {
        shard_t *shard = &tokens->shards[tokens->n_shards++];
        shard->path = tokens->paths.item[i];
        status = shard_open(spec, shard);
        shard->first = n_tokens;
        n_tokens += shard->n;
    }
    *n_tokens_p = n_tokens;
    return status;
}

static void tokens_close(wrk_dataset_t *dataset)
{
    tokens_dataset_t *tokens = (tokens_dataset_t *)dataset;
    for (int i = 0; i < tokens->n_shards; i++) {
        if (tokens->shards[i].data != NULL) {
            (void)munmap((void *)(uintptr_t)tokens->shards[i].data, (size_t)tokens->shards[i].size_bytes);
        }
    }
    mem_free(tokens->shards);
    wrk_tokenizer_close(tokens->tokenizer);
    wrk_paths_release(&tokens->paths);
    wrk_dataset_release(dataset);
    mem_free(tokens);
}

/* ---- reading ---- */

/* The shard that holds token i of the stream. */
static const shard_t *shard_find(const tokens_dataset_t *tokens, int64_t i)
{
    int low = 0;
    int high = tokens->n_shards - 1;
    while (low < high) {
        int middle = low + (high - low + 1) / 2;
        if (tokens->shards[middle].first <= i) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    return &tokens->shards[low];
}

/* Copies tokens i … i+n-1 of the stream; each must be below `limit`. */
static status_t tokens_copy(const tokens_dataset_t *tokens, int64_t i, int64_t n, int64_t limit, int64_t *out)
{
    const shard_t *shard = shard_find(tokens, i);
    for (int64_t t = 0; t < n; t++) {
        while (i + t >= shard->first + shard->n) {
            shard++;
        }
        int64_t at = i + t - shard->first;
        out[t] = token_get(shard, at);
        if (out[t] >= limit) {
            return ST_FAIL(ST_ERR_DATA, "%s: offset %lld: token %lld; the vocabulary has %lld", shard->path,
                           (long long)(shard->data_offset + at * shard->token_bytes), (long long)out[t],
                           (long long)limit);
        }
    }
    return ST_OK;
}

static status_t tokens_read(const wrk_dataset_t *dataset, int64_t index, wrk_scratch_t *scratch, void *input,
                            void *target)
{
    const tokens_dataset_t *tokens = (const tokens_dataset_t *)dataset;
    int64_t first = tokens->from + index;
    (void)scratch;
    status_t status = tokens_copy(tokens, first, tokens->context, dataset->n_classes, input);
    if (status != ST_OK || target == NULL) {
        return status;
    }
    int64_t *out = target;
    memcpy(out, (int64_t *)input + 1, (size_t)(tokens->context - 1) * sizeof(*out));
    return tokens_copy(tokens, first + tokens->context, 1, dataset->n_classes, out + tokens->context - 1);
}

/* Finds the first token that the model has no output for. */
static status_t tokens_check_classes(const wrk_dataset_t *dataset, int64_t n_classes)
{
    const tokens_dataset_t *tokens = (const tokens_dataset_t *)dataset;
    int64_t token = 0;
    for (int64_t i = 0; tokens->is_checked && i < dataset->n_tokens; i++) {
        status_t status = tokens_copy(tokens, tokens->from + i, 1, n_classes, &token);
        if (status != ST_OK) {
            return status;
        }
    }
    return ST_FAIL(ST_ERR_DATA, "%s: a vocabulary of %lld tokens; the model has %lld", tokens->shards[0].path,
                   (long long)dataset->n_classes, (long long)n_classes);
}

static status_t tokens_encode(const wrk_dataset_t *dataset, const char *text, size_t length, int64_t **tokens_p,
                              int64_t *n_tokens_p)
{
    return wrk_tokens_encode(((const tokens_dataset_t *)dataset)->tokenizer, text, length, tokens_p, n_tokens_p);
}

static void tokens_decode(const wrk_dataset_t *dataset, const int64_t *list, int64_t n, strbuf_t *text)
{
    wrk_tokenizer_decode(((const tokens_dataset_t *)dataset)->tokenizer, list, n, text);
}

static const wrk_dataset_ops_t tokens_ops = {
    .close = tokens_close,
    .read = tokens_read,
    .check_classes = tokens_check_classes,
};
/* With a tokenizer. */
static const wrk_dataset_ops_t text_ops = {
    .close = tokens_close,
    .read = tokens_read,
    .check_classes = tokens_check_classes,
    .encode_text = tokens_encode,
    .decode_text = tokens_decode,
};

static status_t part_set(tokens_dataset_t *tokens, const Gradd__V1__Tokens *spec, int64_t n)
{
    double from = spec->n_part == 2 ? spec->part[0] : 0.0;
    double to = spec->n_part == 2 ? spec->part[1] : 1.0;
    if (!(from >= 0.0 && from < to && to <= 1.0)) {
        return ST_FAIL(ST_ERR_INVAL, "tokens.part [%g, %g) is not inside [0, 1)", from, to);
    }
    tokens->from = (int64_t)floor(from * (double)n);
    tokens->base.n_tokens = (int64_t)floor(to * (double)n) - tokens->from;
    tokens->base.count = tokens->base.n_tokens - tokens->context;
    if (tokens->base.count < 1) {
        return ST_FAIL(ST_ERR_DATA,
                       "%s: part [%g, %g) of its %lld tokens has %lld; one window of context %lld takes %lld",
                       spec->path, from, to, (long long)n, (long long)tokens->base.n_tokens, (long long)tokens->context,
                       (long long)tokens->context + 1);
    }
    return ST_OK;
}

/* The vocabulary's size: what the job says, the tokenizer's, or one more than the largest token, which takes a pass
 * over all. */
static void classes_count(tokens_dataset_t *tokens, const Gradd__V1__Tokens *spec)
{
    int64_t largest = 0;
    if (spec->vocabulary > 0 || tokens->tokenizer != NULL) {
        tokens->base.n_classes = spec->vocabulary > 0 ? spec->vocabulary : wrk_tokenizer_size(tokens->tokenizer);
        return;
    }
    for (int s = 0; s < tokens->n_shards; s++) {
        const shard_t *shard = &tokens->shards[s];
        for (int64_t i = 0; i < shard->n; i++) {
            int64_t token = token_get(shard, i);
            largest = token > largest ? token : largest;
        }
    }
    tokens->base.n_classes = largest + 1;
    tokens->is_checked = true;
}

status_t wrk_tokens_open(const Gradd__V1__Tokens *spec, const wrk_dataset_options_t *options, wrk_dataset_t **dataset_p)
{
    int64_t n_tokens = 0;
    int64_t context = spec->has_context ? spec->context : options->context;
    if (spec->path == NULL || spec->path[0] == '\0') {
        return ST_FAIL(ST_ERR_INVAL, "tokens.path is missing");
    }
    if (context < 1) {
        return ST_FAIL(ST_ERR_INVAL, "tokens.context is %lld: give it, or a model that has a context",
                       (long long)context);
    }
    tokens_dataset_t *tokens = mem_zalloc(sizeof(*tokens));
    if (tokens == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "dataset");
    }
    tokens->base.ops = spec->tokenizer != NULL ? &text_ops : &tokens_ops;
    tokens->context = context;
    status_t status = spec->tokenizer != NULL ? wrk_tokenizer_open(spec->tokenizer, &tokens->tokenizer) : ST_OK;
    if (status == ST_OK) {
        status = shards_open(tokens, spec, &n_tokens);
    }
    if (status == ST_OK) {
        status = part_set(tokens, spec, n_tokens);
    }
    if (status != ST_OK) {
        tokens_close(&tokens->base);
        return status;
    }
    classes_count(tokens, spec);
    wrk_dataset_field_init(&tokens->base.input, GD_DTYPE_I64, 1, &context);
    tokens->base.target = tokens->base.input;
    *dataset_p = &tokens->base;
    return ST_OK;
}
