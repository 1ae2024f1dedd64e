/* SPDX-License-Identifier: Apache-2.0 */
/*
 * strbuf: a growing byte string, always NUL-terminated. Embedded: strbuf_init or {0}, strbuf_release.
 * Running out of memory sets is_failed and further appends do nothing: check once, at the end.
 */
#ifndef GRADD_BASE_STRBUF_H
#define GRADD_BASE_STRBUF_H

#include <stdbool.h>
#include <stddef.h>

typedef struct strbuf {
    char *data; /* NULL while nothing was appended; use strbuf_text */
    size_t length;
    size_t capacity;
    bool is_failed;
} strbuf_t;

void strbuf_init(strbuf_t *buf);
void strbuf_release(strbuf_t *buf);
/* Empties it and keeps the memory. */
void strbuf_clear(strbuf_t *buf);
void strbuf_append(strbuf_t *buf, const char *text);
void strbuf_append_bytes(strbuf_t *buf, const void *bytes, size_t length);
void strbuf_append_char(strbuf_t *buf, char c);
void strbuf_appendf(strbuf_t *buf, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The text, "" when empty. Borrowed until the next change. */
const char *strbuf_text(const strbuf_t *buf);
/* Moves the text out (mem_free it) and leaves buf empty; NULL when out of memory. */
char *strbuf_detach(strbuf_t *buf);

#endif
