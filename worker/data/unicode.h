/* SPDX-License-Identifier: Apache-2.0 */
/*
 * unicode: normal forms (Unicode Standard Annex 15), what characters are and what becomes of them, of utf8proc's
 * tables. Internal to worker/data/. Texts are UTF-8; bytes that are none stay as they are.
 */
#ifndef GRADD_WORKER_DATA_UNICODE_H
#define GRADD_WORKER_DATA_UNICODE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/status.h"
#include "base/strbuf.h"

typedef enum wrk_normal_form { WRK_NFC, WRK_NFD, WRK_NFKC, WRK_NFKD, WRK_NORMAL_FORM_COUNT } wrk_normal_form_t;

/* Appends text[length] in the form. ST_ERR_NOMEM. */
status_t wrk_unicode_normalize(wrk_normal_form_t form, const char *text, size_t length, strbuf_t *out);
/* Whether text[length > 0] begins or ends with a character of words: \w of Unicode Technical Standard 18. */
bool wrk_unicode_begins_with_word(const char *text, size_t length);
bool wrk_unicode_ends_with_word(const char *text, size_t length);

/* What becomes of each character of a text. The two that strip, and what is punctuation or control, are of the Unicode
 * versions whose tables `tokenizers` has for them. */
typedef enum wrk_char_map {
    WRK_MAP_CLEAN,            /* control characters and U+FFFD go, white space becomes a space */
    WRK_MAP_SPACE_CHINESE,    /* spaces around CJK ideographs */
    WRK_MAP_STRIP_NONSPACING, /* category Mn goes */
    WRK_MAP_STRIP_MARKS,      /* categories Mn, Mc, Me go */
    WRK_MAP_LOWERCASE,
    WRK_CHAR_MAP_COUNT
} wrk_char_map_t;
/* Appends what the map makes of text[length]. ST_ERR_NOMEM. */
status_t wrk_unicode_map(wrk_char_map_t map, const char *text, size_t length, strbuf_t *out);

/* Places where a text is cut: a run of White_Space; one punctuation character, ASCII's symbols among them; a run of
 * characters of words, or of characters that are neither that nor white space. */
typedef enum wrk_char_cut { WRK_CUT_SPACES, WRK_CUT_PUNCTUATION, WRK_CUT_WORDS } wrk_char_cut_t;
/* The first such place at or behind `from` in text[length]: [*start_p, *end_p); both are length where there is none. */
void wrk_unicode_find(wrk_char_cut_t cut, const char *text, size_t length, size_t from, size_t *start_p, size_t *end_p);

/* Bytes of White_Space at the start and at the end of text[length]. */
size_t wrk_unicode_space_before(const char *text, size_t length);
size_t wrk_unicode_space_behind(const char *text, size_t length);

#endif
