/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tokenizer: byte-pair encoding and WordPiece as Hugging Face's `tokenizers` does them, read from its tokenizer.json.
 *
 * Text goes through four stages: added tokens are cut out; the rest is normalised; then cut into words by patterns;
 * each word's symbols are merged in the order of the merges' ranks (Sennrich et al., ACL 2016), or the longest piece of
 * the vocabulary is taken off a word's start until nothing is left (Wu et al., 2016, as BERT does it). Known are
 *   model          BPE: merges as text or pairs, ignore_merges, byte_fallback, unk_token, fuse_unk
 *                  WordPiece: unk_token, continuing_subword_prefix, max_input_chars_per_word
 *   normalizer     NFC, NFD, NFKC, NFKD, Lowercase, StripAccents, BertNormalizer, Prepend, Replace of a text, Sequence
 *   pre_tokenizer  ByteLevel (GPT-2's pattern), Metaspace, Split by a text or regular expression and Punctuation (both
 *                  isolated or removed, Split inverted too), Digits, BertPreTokenizer, Whitespace, WhitespaceSplit,
 *                  Sequence
 *   decoder        ByteLevel; Metaspace; WordPiece; Replace, ByteFallback, Fuse and Strip as Llama 2 has them
 *   added_tokens   the longest that begins first; single_word, lstrip, rstrip; normalized ones are looked for in what
 *                  the normaliser makes of the text
 * Anything else is ST_ERR_UNSUPPORTED, naming the member of the file: a wrong token is worse than none. Encoding puts
 * no token around a text: what the post_processor would put there is told by wrk_tokenizer_mark.
 *
 * With a byte-level model any bytes can be encoded, and decoding gives them back; bytes that are no UTF-8 are words of
 * their own. Owned handle that never changes: any number of threads may use it.
 */
#ifndef GRADD_WORKER_DATA_TOKENIZER_H
#define GRADD_WORKER_DATA_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "base/strbuf.h"

typedef struct wrk_tokenizer wrk_tokenizer_t;

/* A growing list of tokens. Embedded: {0}, wrk_ids_release. */
typedef struct wrk_ids {
    int32_t *item;
    int64_t n, n_allocated;
} wrk_ids_t;
void wrk_ids_release(wrk_ids_t *ids);
/* ST_ERR_NOMEM. */
status_t wrk_ids_add(wrk_ids_t *ids, int32_t id);

/* ST_ERR_CORRUPT (no JSON, or not a tokenizer's) and ST_ERR_UNSUPPORTED name the file and the member. */
status_t wrk_tokenizer_open(const char *path, wrk_tokenizer_t **tokenizer_p);
/* NULL is fine. */
void wrk_tokenizer_close(wrk_tokenizer_t *tokenizer);
/* Largest token + 1. */
int64_t wrk_tokenizer_size(const wrk_tokenizer_t *tokenizer);

/* Whether both have the same token for every number. */
bool wrk_tokenizer_is_alike(const wrk_tokenizer_t *tokenizer, const wrk_tokenizer_t *other);

/* Tokens that have a part to play around a text: the file's padding, and what its post_processor (TemplateProcessing,
 * BertProcessing, RobertaProcessing, alone or in a Sequence) puts before and behind a single text. */
typedef enum wrk_mark { WRK_MARK_PADDING, WRK_MARK_BEGIN, WRK_MARK_END, WRK_MARK_COUNT } wrk_mark_t;
enum { WRK_MAX_MARKS = 8 };
typedef struct wrk_marks {
    int64_t id[WRK_MAX_MARKS]; /* in their order */
    int n;                     /* 0: none */
} wrk_marks_t;
/* Borrowed. */
const wrk_marks_t *wrk_tokenizer_marks(const wrk_tokenizer_t *tokenizer, wrk_mark_t mark);

/* Appends the text's tokens. ST_ERR_DATA names a character that has none. */
status_t wrk_tokenizer_encode(const wrk_tokenizer_t *tokenizer, const char *text, size_t length, wrk_ids_t *ids);
/* The same as 64-bit numbers. *tokens_p: mem_free. */
status_t wrk_tokens_encode(const wrk_tokenizer_t *tokenizer, const char *text, size_t length, int64_t **tokens_p,
                           int64_t *n_tokens_p);
/* Appends the bytes of tokens, nothing for one that isn't there. */
void wrk_tokenizer_decode(const wrk_tokenizer_t *tokenizer, const int64_t *tokens, int64_t n, strbuf_t *text);

#endif
