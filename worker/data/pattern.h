/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pattern: a regular expression over UTF-8 text, as Oniguruma reads it for tokenizers: \p{L}, \p{N}, \s are Unicode's.
 * Matched by PCRE2 with a limit on steps: a pattern may come from a stranger. Internal to worker/data/.
 *
 * Owned handle that never changes; wrk_matcher_t is one thread's memory to match with. Embedded: {0},
 * wrk_matcher_release.
 */
#ifndef GRADD_WORKER_DATA_PATTERN_H
#define GRADD_WORKER_DATA_PATTERN_H

#include <stdbool.h>
#include <stddef.h>

#include "base/status.h"
#include "base/strbuf.h"

typedef struct wrk_pattern wrk_pattern_t;
typedef struct wrk_matcher {
    void *data, *context, *stack;
} wrk_matcher_t;

/* is_literal: the text itself. ST_ERR_PARSE says what is wrong and where in the pattern, ST_ERR_UNSUPPORTED what is not
 * known. */
status_t wrk_pattern_open(const char *text, bool is_literal, wrk_pattern_t **pattern_p);
void wrk_pattern_close(wrk_pattern_t *pattern);

/* ST_ERR_NOMEM. */
status_t wrk_matcher_init(wrk_matcher_t *matcher);
void wrk_matcher_release(wrk_matcher_t *matcher);

/* The first match at or behind `from` in text[length], which must be UTF-8: [*start_p, *end_p), which may be an empty
 * place behind `from`. At the end of the text, and where there is none: both are length. ST_ERR_DATA: too many steps.
 */
status_t wrk_pattern_find(const wrk_pattern_t *pattern, wrk_matcher_t *matcher, const char *text, size_t length,
                          size_t from, size_t *start_p, size_t *end_p);

/* pattern_syntax.c. Appends the pattern as PCRE2 is to read it. ST_ERR_UNSUPPORTED. */
status_t wrk_pattern_rewrite(const char *text, strbuf_t *out);

#endif
