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

/* ---- what becomes of characters ---- */

/* Punctuation, nonspacing marks and format characters that `unicode_categories` (Unicode 8), the crate behind the parts
 * for BERT in `tokenizers`, doesn't know as such; between them lies none that it knows. */
static const utf8proc_int32_t newer_than_8[][2] = {
    {0x061D, 0x061D},   {0x07FD, 0x07FD},   {0x0890, 0x08E2},   {0x09FD, 0x09FE},   {0x0A76, 0x0A76},
    {0x0AFA, 0x0AFF},   {0x0B55, 0x0B55},   {0x0C04, 0x0C3C},   {0x0C77, 0x0C77},   {0x0C84, 0x0C84},
    {0x0D00, 0x0D00},   {0x0D3B, 0x0D3C},   {0x0D81, 0x0D81},   {0x0EBA, 0x0EBA},   {0x0ECE, 0x0ECE},
    {0x180F, 0x1886},   {0x1ABF, 0x1ACE},   {0x1B7D, 0x1B7E},   {0x1DF6, 0x1DFB},   {0x2E43, 0x2E5D},
    {0xA82C, 0xA82C},   {0xA8C5, 0xA8C5},   {0xA8FF, 0xA8FF},   {0xA9BD, 0xA9BD},   {0x10D24, 0x10F89},
    {0x11070, 0x11074}, {0x110C2, 0x110CD}, {0x111C9, 0x111C9}, {0x111CF, 0x111CF}, {0x1123E, 0x11241},
    {0x1133B, 0x1133B}, {0x11438, 0x1145E}, {0x11660, 0x1166C}, {0x116B9, 0x116B9}, {0x1182F, 0x11FFF},
    {0x12FF1, 0x13455}, {0x16E97, 0x16F4F}, {0x16FE2, 0x16FE4}, {0x1CF00, 0x1CF46}, {0x1E000, 0x1E4EF},
    {0x1E944, 0x1E95F},
};
/* Marks that StripAccents' crate `unicode_normalization_alignments` (Unicode 9) doesn't know. */
static const utf8proc_int32_t newer_marks[][2] = {
    {0x07FD, 0x07FD},   {0x0898, 0x08D3},   {0x09FE, 0x09FE},   {0x0AFA, 0x0AFF},   {0x0B55, 0x0B55},
    {0x0C04, 0x0C3C},   {0x0CF3, 0x0D00},   {0x0D3B, 0x0D3C},   {0x0D81, 0x0D81},   {0x0EBA, 0x0EBA},
    {0x0ECE, 0x0ECE},   {0x1715, 0x1715},   {0x180F, 0x180F},   {0x1ABF, 0x1ACE},   {0x1CF7, 0x1CF7},
    {0x1DF6, 0x1DFA},   {0xA82C, 0xA82C},   {0xA8FF, 0xA8FF},   {0x10D24, 0x10F85}, {0x11070, 0x11074},
    {0x110C2, 0x110C2}, {0x11145, 0x11146}, {0x111C9, 0x111C9}, {0x111CE, 0x111CF}, {0x11241, 0x11241},
    {0x1133B, 0x1133B}, {0x1145E, 0x1145E}, {0x1182C, 0x11A99}, {0x11D31, 0x13455}, {0x16F4F, 0x16F4F},
    {0x16F7F, 0x16F87}, {0x16FE4, 0x16FF1}, {0x1CF00, 0x1CF46}, {0x1E08F, 0x1E4EF},
};

#define N_RANGES(table) ((int)(sizeof(table) / sizeof((table)[0])))

/* Whether c lies in one of the ascending ranges. */
static bool ranges_have(const utf8proc_int32_t (*range)[2], int n, utf8proc_int32_t c)
{
    int low = 0;
    int high = n;
    while (low < high) {
        const int middle = (low + high) / 2;
        if (range[middle][1] < c) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < n && range[low][0] <= c;
}

static bool is_newer(utf8proc_int32_t c)
{
    return ranges_have(newer_than_8, N_RANGES(newer_than_8), c);
}

static bool is_control(utf8proc_int32_t c)
{
    const utf8proc_category_t category = utf8proc_category(c);
    return category == UTF8PROC_CATEGORY_CC || category == UTF8PROC_CATEGORY_CO ||
           (category == UTF8PROC_CATEGORY_CF && !is_newer(c));
}

static bool is_nonspacing(utf8proc_int32_t c)
{
    return (utf8proc_category(c) == UTF8PROC_CATEGORY_MN && !is_newer(c)) || c == 0x1734;
}

static bool is_mark(utf8proc_int32_t c)
{
    const utf8proc_category_t category = utf8proc_category(c);
    return ((category == UTF8PROC_CATEGORY_MN || category == UTF8PROC_CATEGORY_MC ||
             category == UTF8PROC_CATEGORY_ME) &&
            !ranges_have(newer_marks, N_RANGES(newer_marks), c)) ||
           c == 0x1CF2 || c == 0x1CF3;
}

static bool is_punctuation(utf8proc_int32_t c)
{
    if (c < 0x80) {
        return (c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') || (c >= '{' && c <= '~');
    }
    const utf8proc_category_t category = utf8proc_category(c);
    return (category >= UTF8PROC_CATEGORY_PC && category <= UTF8PROC_CATEGORY_PO && !is_newer(c)) || c == 0x166D ||
           c == 0x111C9;
}

/* The blocks that BERT's tokenizer.py calls Chinese, as `tokenizers` has them. */
static bool is_chinese(utf8proc_int32_t c)
{
    static const utf8proc_int32_t block[][2] = {{0x3400, 0x4DBF},   {0x4E00, 0x9FFF},   {0xF900, 0xFAFF},
                                                {0x20000, 0x2A6DF}, {0x2A700, 0x2B73F}, {0x2B740, 0x2B81F},
                                                {0x2B920, 0x2CEAF}, {0x2F800, 0x2FA1F}};
    return ranges_have(block, N_RANGES(block), c);
}

static void point_append(utf8proc_int32_t point, strbuf_t *out)
{
    utf8proc_uint8_t bytes[4];
    strbuf_append_bytes(out, (const char *)bytes, (size_t)utf8proc_encode_char(point, bytes));
}

static void character_map(wrk_char_map_t map, utf8proc_int32_t c, const char *bytes, size_t n, strbuf_t *out)
{
    bool is_kept = true;
    if (map == WRK_MAP_LOWERCASE) {
        point_append(c == 0x130 ? 'i' : utf8proc_tolower(c), out);
        strbuf_append(out, c == 0x130 ? "\xcc\x87" : ""); /* the one that becomes two: SpecialCasing.txt */
        return;
    }
    if (map == WRK_MAP_CLEAN && (c == '\t' || c == '\n' || c == '\r')) {
        strbuf_append_char(out, ' ');
        return;
    }
    switch (map) {
    case WRK_MAP_CLEAN:
        is_kept = c != 0xFFFD && !is_control(c);
        break;
    case WRK_MAP_STRIP_NONSPACING:
        is_kept = !is_nonspacing(c);
        break;
    case WRK_MAP_STRIP_MARKS:
        is_kept = !is_mark(c);
        break;
    default:
        break;
    }
    const bool is_spaced = map == WRK_MAP_SPACE_CHINESE && is_chinese(c);
    if (is_kept && map == WRK_MAP_CLEAN && is_space(c)) {
        strbuf_append_char(out, ' ');
    } else if (is_kept) {
        strbuf_append(out, is_spaced ? " " : "");
        strbuf_append_bytes(out, bytes, n);
        strbuf_append(out, is_spaced ? " " : "");
    }
}

status_t wrk_unicode_map(wrk_char_map_t map, const char *text, size_t length, strbuf_t *out)
{
    for (size_t at = 0; at < length;) {
        utf8proc_int32_t point = 0;
        const size_t n = character_read(text + at, length - at, &point);
        if (n > 0) {
            character_map(map, point, text + at, n, out);
        } else {
            strbuf_append_char(out, text[at]);
        }
        at += n > 0 ? n : 1;
    }
    return out->is_failed ? ST_FAIL(ST_ERR_NOMEM, "a text of %zu bytes", length) : ST_OK;
}

/* ---- cutting ---- */

/* Characters of the same kind, above 0, make up a place together; those of kind 0 lie between. */
static int cut_kind(wrk_char_cut_t cut, utf8proc_int32_t c)
{
    switch (cut) {
    case WRK_CUT_SPACES:
        return is_space(c);
    case WRK_CUT_PUNCTUATION:
        return is_punctuation(c);
    default:
        return is_space(c) ? 0 : is_word(c) ? 1 : 2;
    }
}

void wrk_unicode_find(wrk_char_cut_t cut, const char *text, size_t length, size_t from, size_t *start_p, size_t *end_p)
{
    size_t start = length;
    size_t at = from;
    int kind = 0;
    while (at < length) {
        utf8proc_int32_t point = 0;
        const size_t n = character_read(text + at, length - at, &point);
        const int own = n > 0 ? cut_kind(cut, point) : 0;
        if (start < length && own != kind) {
            break;
        }
        if (start == length && own > 0) {
            start = at;
            kind = own;
        }
        at += n > 0 ? n : 1;
        if (start < length && cut == WRK_CUT_PUNCTUATION) {
            break;
        }
    }
    *start_p = start;
    *end_p = start < length ? at : length;
}
