/* SPDX-License-Identifier: Apache-2.0 */
/* pattern: PCRE2 with its compiler to machine code where the system allows that. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "worker/data/pattern.h"

#include <pcre2.h>
#include <string.h>

#include "base/mem.h"
#include "worker/data/utf8.h"

enum { MATCH_LIMIT = 10 * 1000 * 1000, HEAP_LIMIT_KIB = 64 * 1024, STACK_START = 64 * 1024, STACK_MAX = 16 << 20 };

struct wrk_pattern {
    pcre2_code *code;
};

status_t wrk_pattern_open(const char *text, bool is_literal, wrk_pattern_t **pattern_p)
{
    strbuf_t rewritten = {0};
    status_t status = ST_OK;
    if (is_literal) {
        strbuf_append(&rewritten, text);
    } else {
        status = wrk_pattern_rewrite(text, &rewritten);
    }
    wrk_pattern_t *pattern = mem_zalloc(sizeof(*pattern));
    if (status == ST_OK && (pattern == NULL || rewritten.is_failed)) {
        status = ST_FAIL(ST_ERR_NOMEM, "a pattern");
    }
    if (status != ST_OK) {
        mem_free(pattern);
        strbuf_release(&rewritten);
        return status;
    }
    int code = 0;
    PCRE2_SIZE offset = 0;
    uint32_t options = PCRE2_UTF | (is_literal ? PCRE2_LITERAL : PCRE2_UCP);
    pattern->code = pcre2_compile((PCRE2_SPTR)strbuf_text(&rewritten), rewritten.length, options, &code, &offset, NULL);
    if (pattern->code == NULL) {
        char message[120] = "";
        (void)pcre2_get_error_message(code, (PCRE2_UCHAR *)message, sizeof(message));
        status = ST_FAIL(ST_ERR_PARSE, "the pattern \"%.60s\": offset %zu: %s", text, (size_t)offset, message);
        mem_free(pattern);
    } else {
        (void)pcre2_jit_compile(pattern->code, PCRE2_JIT_COMPLETE); /* without it, it is interpreted */
        *pattern_p = pattern;
    }
    strbuf_release(&rewritten);
    return status;
}

void wrk_pattern_close(wrk_pattern_t *pattern)
{
    if (pattern != NULL) {
        pcre2_code_free(pattern->code);
        mem_free(pattern);
    }
}

status_t wrk_matcher_init(wrk_matcher_t *matcher)
{
    matcher->data = pcre2_match_data_create(1, NULL);
    matcher->context = pcre2_match_context_create(NULL);
    matcher->stack = pcre2_jit_stack_create(STACK_START, STACK_MAX, NULL);
    if (matcher->data == NULL || matcher->context == NULL) {
        wrk_matcher_release(matcher);
        return ST_FAIL(ST_ERR_NOMEM, "memory to match patterns with");
    }
    (void)pcre2_set_match_limit(matcher->context, MATCH_LIMIT);
    (void)pcre2_set_heap_limit(matcher->context, HEAP_LIMIT_KIB);
    if (matcher->stack != NULL) {
        pcre2_jit_stack_assign(matcher->context, NULL, matcher->stack);
    }
    return ST_OK;
}

void wrk_matcher_release(wrk_matcher_t *matcher)
{
    pcre2_match_data_free(matcher->data);
    pcre2_match_context_free(matcher->context);
    pcre2_jit_stack_free(matcher->stack);
    *matcher = (wrk_matcher_t){0};
}

status_t wrk_pattern_find(const wrk_pattern_t *pattern, wrk_matcher_t *matcher, const char *text, size_t length,
                          size_t from, size_t *start_p, size_t *end_p)
{
    const PCRE2_SIZE *place = pcre2_get_ovector_pointer(matcher->data);
    int n = 0;
    size_t at = from;
    while (n >= 0 && at < length) {
        n = pcre2_match(pattern->code, (PCRE2_SPTR)text, length, at, PCRE2_NO_UTF_CHECK, matcher->data,
                        matcher->context);
        if (n >= 0 && place[1] > from) {
            *start_p = place[0];
            *end_p = place[1];
            return ST_OK;
        }
        at += wrk_utf8_length(text + at, length - at); /* nothing was found at `from`: that cuts nothing */
    }
    if (n < 0 && n != PCRE2_ERROR_NOMATCH) {
        char message[120] = "";
        (void)pcre2_get_error_message(n, (PCRE2_UCHAR *)message, sizeof(message));
        return ST_FAIL(n == PCRE2_ERROR_NOMEMORY ? ST_ERR_NOMEM : ST_ERR_DATA,
                       "offset %zu of the text: the tokenizer's pattern fails: %s", from, message);
    }
    *start_p = length;
    *end_p = length;
    return ST_OK;
}
