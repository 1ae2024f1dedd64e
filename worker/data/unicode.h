/* SPDX-License-Identifier: Apache-2.0 */
/*
 * unicode: normal forms (Unicode Standard Annex 15) and what characters are, of utf8proc's tables. Internal to
 * worker/data/. Texts are UTF-8; bytes that are none stay as they are.
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
/* Bytes of White_Space at the start and at the end of text[length]. */
size_t wrk_unicode_space_before(const char *text, size_t length);
size_t wrk_unicode_space_behind(const char *text, size_t length);

#endif
