/* SPDX-License-Identifier: Apache-2.0 */
/* tokenizer_internal: the tokenizer's state, shared by tokenizer.c (encoding, decoding), tokenizer_file.c (reading) and
 * tokenizer_table.c (vocabulary and merges). */
#ifndef GRADD_WORKER_DATA_TOKENIZER_INTERNAL_H
#define GRADD_WORKER_DATA_TOKENIZER_INTERNAL_H

#include <stdbool.h>

#include "worker/data/pattern.h"
#include "worker/data/tokenizer.h"
#include "worker/data/unicode.h"
#include "worker/data/utf8.h"

enum { TOKENIZER_MAX_SIZE = 1 << 24, TOKENIZER_MAX_STEPS = 16, TOKENIZER_MAX_TEXT = 256 };

/* What a token stands for: bytes (in a byte-level vocabulary), or the text of the vocabulary. */
typedef struct wrk_piece {
    const char *bytes; /* NULL: there is no such token */
    uint32_t length;
    bool is_word; /* in the vocabulary, so that words can become it */
} wrk_piece_t;

typedef struct wrk_merge {
    uint64_t pair; /* left << 32 | right */
    uint32_t rank;
    int32_t id; /* -1: an empty place of the table */
} wrk_merge_t;

typedef struct wrk_added {
    const char *text;
    size_t length;
    int32_t id;
    bool is_single_word, takes_left, takes_right; /* only between words; with the white space before, behind it */
} wrk_added_t;

/* Added tokens that are looked for at once: in the text as it is, or in what the normaliser makes of it. */
enum { WRK_ADDED_RAW, WRK_ADDED_NORMALIZED, WRK_ADDED_COUNT };
typedef struct wrk_added_set {
    wrk_added_t *item; /* [n] by first byte, the longest first */
    int64_t n;
    int64_t first[257]; /* those that begin with byte b: first[b] … first[b + 1] */
} wrk_added_set_t;

typedef enum wrk_step_kind { WRK_STEP_SPLIT, WRK_STEP_BYTES, WRK_STEP_METASPACE } wrk_step_kind_t;

/* Whether a Metaspace puts its character before a piece: none, each, the one that the text begins with. */
typedef enum wrk_prepend { WRK_PREPEND_NEVER, WRK_PREPEND_ALWAYS, WRK_PREPEND_FIRST } wrk_prepend_t;

/* A pre-tokenizer: cuts by a pattern (NULL: not at all). WRK_STEP_BYTES may put a space before it first,
 * WRK_STEP_METASPACE puts `space` in the place of spaces and perhaps before it. */
typedef struct wrk_step {
    wrk_step_kind_t kind;
    wrk_pattern_t *pattern;
    bool has_prefix_space;
    wrk_prepend_t prepend;
    char *space;
} wrk_step_t;

/* A normaliser: puts `text` before what isn't empty (wanted NULL), or in the place of every `wanted`; text NULL: brings
 * it into a normal form. */
typedef struct wrk_rewrite {
    char *wanted;
    char *text;
    wrk_normal_form_t form;
} wrk_rewrite_t;

struct wrk_tokenizer {
    char *path;
    wrk_piece_t *pieces; /* [size] */
    int64_t size;
    int32_t *words; /* [n_words], a power of two: tokens by the hash of their bytes; -1: empty */
    int64_t n_words;
    wrk_merge_t *merges; /* [n_merges], a power of two */
    int64_t n_merges;
    wrk_added_set_t added[WRK_ADDED_COUNT];
    int32_t byte_ids[256]; /* byte-level: the token of each byte; byte_fallback: of <0x00> …; -1: none */
    int32_t unknown;       /* -1: none */
    bool is_byte_level, has_byte_fallback, is_unknown_fused, ignores_merges;
    wrk_step_t steps[TOKENIZER_MAX_STEPS];
    int n_steps;
    wrk_rewrite_t rewrites[TOKENIZER_MAX_STEPS];
    int n_rewrites;
    char *decode_from, *decode_to; /* decoder's Replace or Metaspace; NULL: none */
    bool decode_first_is_bare;     /* Metaspace: the first token loses decode_from */
    int decode_strip;              /* spaces taken from the start of a decoded text */
    bool decodes_bytes;            /* <0x0A> is a byte */
};

/* ---- tokenizer_table.c ---- */
/* Token of a word in the vocabulary, -1: none. */
int32_t wrk_words_find(const wrk_tokenizer_t *tokenizer, const char *bytes, size_t length);
/* Makes the table of words out of the pieces. */
status_t wrk_words_build(wrk_tokenizer_t *tokenizer);
/* NULL: the two are not merged. */
const wrk_merge_t *wrk_merges_find(const wrk_tokenizer_t *tokenizer, int32_t left, int32_t right);
/* Room for n merges, all empty. */
status_t wrk_merges_reserve(wrk_tokenizer_t *tokenizer, int64_t n);
/* A pair that is there already keeps the last rank, as in `tokenizers`. */
void wrk_merges_add(wrk_tokenizer_t *tokenizer, int32_t left, int32_t right, uint32_t rank, int32_t id);
/* Sorts the tokens and fills first. */
void wrk_added_sort(wrk_added_set_t *set);
/* tokenizer.c. What the normaliser makes of text[length], appended. */
status_t wrk_tokenizer_normalize(const wrk_tokenizer_t *tokenizer, const char *text, size_t length, strbuf_t *out);
/* Byte of a character of GPT-2's printable alphabet, -1: not in it. *bytes_p is moved behind the character. */
int wrk_alphabet_byte(const char **bytes_p);

#endif
