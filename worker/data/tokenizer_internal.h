/* SPDX-License-Identifier: Apache-2.0 */
/* tokenizer_internal: the tokenizer's state, shared by tokenizer.c (encoding), tokenizer_decode.c, tokenizer_file.c
 * (reading: the model), tokenizer_steps.c (reading: what stands around the model) and tokenizer_table.c (vocabulary and
 * merges). */
#ifndef GRADD_WORKER_DATA_TOKENIZER_INTERNAL_H
#define GRADD_WORKER_DATA_TOKENIZER_INTERNAL_H

#include <jansson.h>
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

typedef enum wrk_step_kind { WRK_STEP_SPLIT, WRK_STEP_CUT, WRK_STEP_BYTES, WRK_STEP_METASPACE } wrk_step_kind_t;

/* Whether a Metaspace puts its character before a piece: none, each, the one that the text begins with. */
typedef enum wrk_prepend { WRK_PREPEND_NEVER, WRK_PREPEND_ALWAYS, WRK_PREPEND_FIRST } wrk_prepend_t;

/* A pre-tokenizer: cuts by a pattern (NULL: not at all), WRK_STEP_CUT by what characters are. WRK_STEP_BYTES may put a
 * space before it first, WRK_STEP_METASPACE puts `space` in the place of spaces and perhaps before it. */
typedef struct wrk_step {
    wrk_step_kind_t kind;
    wrk_char_cut_t cut;
    bool drops_places, drops_rest; /* the places found, what lies between them: not encoded */
    wrk_pattern_t *pattern;
    bool has_prefix_space;
    wrk_prepend_t prepend;
    char *space;
} wrk_step_t;

/* A normaliser: puts `text` before what isn't empty, or in the place of every `wanted`; brings it into a normal form;
 * or changes each character. */
typedef enum wrk_rewrite_kind {
    WRK_REWRITE_PREPEND,
    WRK_REWRITE_REPLACE,
    WRK_REWRITE_FORM,
    WRK_REWRITE_MAP
} wrk_rewrite_kind_t;
typedef struct wrk_rewrite {
    wrk_rewrite_kind_t kind;
    char *wanted;
    char *text;
    wrk_normal_form_t form;
    wrk_char_map_t map;
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
    bool is_word_piece;     /* no merges: the longest pieces, of the left one first */
    char *continuing;       /* WordPiece: what the vocabulary has before a piece inside a word */
    size_t longest;         /* WordPiece: bytes of the longest piece */
    int64_t max_characters; /* WordPiece: a longer word is unknown */
    wrk_marks_t marks[WRK_MARK_COUNT];
    wrk_step_t steps[TOKENIZER_MAX_STEPS];
    int n_steps;
    wrk_rewrite_t rewrites[TOKENIZER_MAX_STEPS];
    int n_rewrites;
    char *decode_from, *decode_to; /* decoder's Replace or Metaspace; NULL: none */
    bool decode_first_is_bare;     /* Metaspace: the first token loses decode_from */
    int decode_strip;              /* spaces taken from the start of a decoded text */
    bool decodes_bytes;            /* <0x0A> is a byte */
    bool decodes_words;            /* a space before each token that doesn't begin with decode_from, which is cut off */
    bool decodes_cleanly;          /* and no space before punctuation and shortened English words */
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
/* tokenizer_steps.c. Normalizer, pre_tokenizer; decoder, post_processor and padding, which are read behind the model.
 */
status_t wrk_tokenizer_read_before(wrk_tokenizer_t *tokenizer, const json_t *root);
status_t wrk_tokenizer_read_behind(wrk_tokenizer_t *tokenizer, const json_t *root);
/* Members of the file. The text, or "". Whether it is true, else fallback. Missing, null, false, "" or 0. */
const char *wrk_json_text(const json_t *object, const char *key);
bool wrk_json_is_true(const json_t *object, const char *key, bool fallback);
bool wrk_json_is_absent(const json_t *object, const char *key);
status_t wrk_text_copy(const char *text, char **copy_p);
/* tokenizer.c. What the normaliser makes of text[length], appended. */
status_t wrk_tokenizer_normalize(const wrk_tokenizer_t *tokenizer, const char *text, size_t length, strbuf_t *out);
/* Appends text[length] with `to` in the place of every `wanted`. */
void wrk_text_replace(const char *text, size_t length, const char *wanted, const char *to, strbuf_t *out);
/* Byte of a character of GPT-2's printable alphabet, -1: not in it. *bytes_p is moved behind the character. */
int wrk_alphabet_byte(const char **bytes_p);

#endif
