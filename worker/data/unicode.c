/* SPDX-License-Identifier: Apache-2.0 */
/* unicode: utf8proc over the runs of a text that are UTF-8. */
#include "worker/data/unicode.h"

#include <stdlib.h>
#include <utf8proc.h>

/* Length of the character at text[left > 0] and its code point; 0: no UTF-8. */
static size_t character_read(const char *text, size_t left, utf8proc_int32_t *point_p)
{
    const utf8proc_ssize_t limit = left < 4 ? (utf8proc_ssize_t)left : 4;
    const utf8proc_ssize_t n = utf8proc_iterate((const utf8proc_uint8_t *)text, limit, point_p);
    return n > 0 ? (size_t)n : 0;
}

/* Bytes from the start that are UTF-8, or that aren't. */
static size_t run_length(const char *text, size_t length, bool is_text)
{
    size_t at = 0;
    while (at < length) {
        utf8proc_int32_t point = 0;
        const size_t n = character_read(text + at, length - at, &point);
        if ((n > 0) != is_text) {
            break;
        }
        at += is_text ? n : 1;
    }
    return at;
}

status_t wrk_unicode_normalize(wrk_normal_form_t form, const char *text, size_t length, strbuf_t *out)
{
    static const int options[WRK_NORMAL_FORM_COUNT] = {
        [WRK_NFC] = UTF8PROC_STABLE | UTF8PROC_COMPOSE,
        [WRK_NFD] = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE,
        [WRK_NFKC] = UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT,
        [WRK_NFKD] = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT,
    };
    for (size_t at = 0; at < length;) {
        const size_t n_text = run_length(text + at, length - at, true);
        const size_t n_other = run_length(text + at + n_text, length - at - n_text, false);
        utf8proc_uint8_t *made = NULL;
        if (n_text > 0) {
            const utf8proc_ssize_t n = utf8proc_map((const utf8proc_uint8_t *)text + at, (utf8proc_ssize_t)n_text,
                                                    &made, (utf8proc_option_t)options[form]);
            if (n < 0) {
                return ST_FAIL(n == UTF8PROC_ERROR_NOMEM ? ST_ERR_NOMEM : ST_ERR_DATA, "a text of %zu bytes: %s",
                               n_text, utf8proc_errmsg(n));
            }
            strbuf_append_bytes(out, (const char *)made, (size_t)n);
            free(made); /* utf8proc's own, of the C library's heap */
        }
        strbuf_append_bytes(out, text + at + n_text, n_other);
        at += n_text + n_other;
    }
    return out->is_failed ? ST_FAIL(ST_ERR_NOMEM, "a text of %zu bytes", length) : ST_OK;
}

/* ---- what characters are ---- */

/* Alphabetic, marks, decimal digits, connectors and joiners; the circled and squared letters are Alphabetic symbols. */
static bool is_word(utf8proc_int32_t c)
{
    switch (utf8proc_category(c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
        return true;
    default:
        return c == 0x200C || c == 0x200D || (c >= 0x24B6 && c <= 0x24E9) || (c >= 0x1F130 && c <= 0x1F149) ||
               (c >= 0x1F150 && c <= 0x1F169) || (c >= 0x1F170 && c <= 0x1F189);
    }
}

static bool is_space(utf8proc_int32_t c)
{
    return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

/* Length of the last character of text[length > 0] and its code point; 0: no UTF-8. */
static size_t last_read(const char *text, size_t length, utf8proc_int32_t *point_p)
{
    for (size_t n = 1; n <= 4 && n <= length; n++) {
        if (((unsigned char)text[length - n] & 0xC0) != 0x80) {
            return character_read(text + length - n, n, point_p) == n ? n : 0;
        }
    }
    return 0;
}

bool wrk_unicode_begins_with_word(const char *text, size_t length)
{
    utf8proc_int32_t point = 0;
    return length > 0 && character_read(text, length, &point) > 0 && is_word(point);
}

bool wrk_unicode_ends_with_word(const char *text, size_t length)
{
    utf8proc_int32_t point = 0;
    return length > 0 && last_read(text, length, &point) > 0 && is_word(point);
}

size_t wrk_unicode_space_before(const char *text, size_t length)
{
    size_t at = 0;
    utf8proc_int32_t point = 0;
    while (at < length) {
        const size_t n = character_read(text + at, length - at, &point);
        if (n == 0 || !is_space(point)) {
            break;
        }
        at += n;
    }
    return at;
}

size_t wrk_unicode_space_behind(const char *text, size_t length)
{
    size_t left = length;
    utf8proc_int32_t point = 0;
    while (left > 0) {
        const size_t n = last_read(text, left, &point);
        if (n == 0 || !is_space(point)) {
            break;
        }
        left -= n;
    }
    return length - left;
}
