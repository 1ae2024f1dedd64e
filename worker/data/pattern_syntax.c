/* SPDX-License-Identifier: Apache-2.0 */
/* pattern_syntax: Oniguruma's regular expressions, as tokenizers have them, in PCRE2's words. What would mean something
 * else there, and can't be said, is refused: a wrong token is worse than none. */
#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "worker/data/pattern.h"

/* What stands in a set for \s, \S and \w. PCRE2's \s has U+180E besides Unicode's White_Space, its \w has no marks. */
#define WHITE_SPACE                                                                                                    \
    "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"
#define NO_WHITE_SPACE                                                                                                 \
    "\\x{0}-\\x{8}\\x{e}-\\x{1f}\\x{21}-\\x{84}\\x{86}-\\x{9f}\\x{a1}-\\x{167f}\\x{1681}-\\x{1fff}\\x{200b}-\\x{2027}" \
    "\\x{202a}-\\x{202e}\\x{2030}-\\x{205e}\\x{2060}-\\x{2fff}\\x{3001}-\\x{10ffff}"
#define SET_WORD                                                                                                       \
    "\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}\\x{24b6}-\\x{24e9}\\x{1f130}-\\x{1f149}\\x{1f150}-\\x{1f169}"                   \
    "\\x{1f170}-\\x{1f189}"
/* Alone it is of Latin-1's table, where superscripts and fractions are of words. */
#define WORD "[" SET_WORD "\\x{b2}\\x{b3}\\x{b9}\\x{bc}-\\x{be}]"
#define NO_WORD "[^" SET_WORD "\\x{b2}\\x{b3}\\x{b9}\\x{bc}-\\x{be}]"

/* Escapes with a meaning of their own; NULL: none there. */
static const struct {
    char letter;
    const char *outside, *inside; /* of a set */
} escapes[] = {
    {'s', "[" WHITE_SPACE "]", WHITE_SPACE},
    {'S', "[^" WHITE_SPACE "]", NO_WHITE_SPACE},
    {'w', WORD, SET_WORD},
    {'W', NO_WORD, NULL},
    {'b', "(?:(?<=" WORD ")(?!" WORD ")|(?<!" WORD ")(?=" WORD "))", "\\x{8}"},
    {'B', "(?:(?<=" WORD ")(?=" WORD ")|(?<!" WORD ")(?!" WORD "))", NULL},
    {'h', "[0-9A-Fa-f]", "0-9A-Fa-f"},
    {'H', "[^0-9A-Fa-f]", NULL},
    {'v', "\\x{b}", "\\x{b}"},
    {'X', NULL, NULL},
    {'Q', NULL, NULL},
    {'E', NULL, NULL},
};
/* ^ and $ are of lines; none begins behind a line break that ends the text. */
static const char LINE_START[] = "(?:\\A|(?<=\\n)(?!\\z))";
static const char LINE_END[] = "(?=\\n|\\z)";

typedef struct rewriter {
    const char *text;
    const char *at;
    bool is_set; /* between [ and ] */
    strbuf_t *out;
} rewriter_t;

static status_t refuse(const rewriter_t *rewriter, int length)
{
    return ST_FAIL(ST_ERR_UNSUPPORTED, "the pattern \"%.60s\": offset %td: \"%.*s\"%s isn't known", rewriter->text,
                   rewriter->at - rewriter->text, length, rewriter->at, rewriter->is_set ? " in a set" : "");
}

/* Copies n bytes as they are. */
static void take(rewriter_t *rewriter, size_t n)
{
    strbuf_append_bytes(rewriter->out, rewriter->at, n);
    rewriter->at += n;
}

static status_t escape_rewrite(rewriter_t *rewriter)
{
    const char *at = rewriter->at;
    for (size_t i = 0; i < sizeof(escapes) / sizeof(escapes[0]); i++) {
        const char *own = rewriter->is_set ? escapes[i].inside : escapes[i].outside;
        if (at[1] == escapes[i].letter) {
            strbuf_append(rewriter->out, own != NULL ? own : "");
            status_t status = own != NULL ? ST_OK : refuse(rewriter, 2);
            rewriter->at += 2;
            return status;
        }
    }
    if (at[1] == 'u') {
        size_t n = 0;
        while (n < 4 && isxdigit((unsigned char)at[2 + n])) {
            n++;
        }
        strbuf_appendf(rewriter->out, "\\x{%.4s}", at + 2);
        status_t status = n == 4 ? ST_OK : refuse(rewriter, 2);
        rewriter->at += 2 + n;
        return status;
    }
    const char *end = at[1] != '\0' && strchr("pPxo", at[1]) != NULL && at[2] == '{' ? strchr(at, '}') : NULL;
    take(rewriter, end != NULL ? (size_t)(end - at) + 1 : at[1] != '\0' ? 2 : 1);
    return ST_OK;
}

/* {n}, {n,}, {n,m}, {,m}; another brace is itself. Behind the first +, and behind {n} ?, are marks of their own, not
 * what PCRE2 takes them for. */
static status_t repeat_rewrite(rewriter_t *rewriter)
{
    const char *at = rewriter->at + 1;
    const size_t n_least = strspn(at, "0123456789");
    const bool has_comma = at[n_least] == ',';
    const size_t n_most = has_comma ? strspn(at + n_least + 1, "0123456789") : 0;
    const char *end = at + n_least + has_comma + n_most;
    if (*end != '}' || n_least + n_most == 0) {
        strbuf_append(rewriter->out, "\\{");
        rewriter->at++;
        return ST_OK;
    }
    if (end[1] == '+' || (end[1] == '?' && !has_comma)) {
        return refuse(rewriter, (int)(end - rewriter->at) + 2);
    }
    strbuf_append(rewriter->out, n_least > 0 ? "{" : "{0");
    rewriter->at++;
    take(rewriter, (size_t)(end - at) + 1);
    return ST_OK;
}

/* A group's options: those for case and white space mean the same in both. */
static status_t group_rewrite(rewriter_t *rewriter)
{
    const char *options = rewriter->at + 2;
    const bool has_options = rewriter->at[1] == '?' && (isalpha((unsigned char)*options) || *options == '-');
    const size_t n = has_options ? strspn(options, "ix-") : 0;
    if (has_options && options[n] != ':' && options[n] != ')') {
        return refuse(rewriter, 3 + (int)n);
    }
    take(rewriter, has_options ? 2 + n : 1);
    return ST_OK;
}

static status_t set_rewrite(rewriter_t *rewriter)
{
    if (rewriter->at[0] == '[' || strncmp(rewriter->at, "&&", 2) == 0) {
        return refuse(rewriter, rewriter->at[0] == '[' ? 1 : 2); /* sets in a set, what two have in common */
    }
    rewriter->is_set = rewriter->at[0] != ']';
    take(rewriter, 1);
    return ST_OK;
}

static void set_begin(rewriter_t *rewriter)
{
    rewriter->is_set = true;
    take(rewriter, rewriter->at[1] == '^' ? 2 : 1);
    if (rewriter->at[0] == ']') {
        take(rewriter, 1);
    }
}

status_t wrk_pattern_rewrite(const char *text, strbuf_t *out)
{
    rewriter_t rewriter = {.text = text, .at = text, .out = out};
    status_t status = ST_OK;
    while (*rewriter.at != '\0' && status == ST_OK) {
        const char c = *rewriter.at;
        if (c == '\\') {
            status = escape_rewrite(&rewriter);
        } else if (rewriter.is_set) {
            status = set_rewrite(&rewriter);
        } else if (c == '[') {
            set_begin(&rewriter);
        } else if (c == '{') {
            status = repeat_rewrite(&rewriter);
        } else if (c == '(') {
            status = group_rewrite(&rewriter);
        } else if (c == '^' || c == '$') {
            strbuf_append(out, c == '^' ? LINE_START : LINE_END);
            rewriter.at++;
        } else {
            take(&rewriter, 1);
        }
    }
    return status;
}
