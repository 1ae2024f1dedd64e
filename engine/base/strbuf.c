/* SPDX-License-Identifier: Apache-2.0 */
/* strbuf: a growing byte string. */
#include "base/strbuf.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

void strbuf_init(strbuf_t *buf)
{
    *buf = (strbuf_t){0};
}

void strbuf_release(strbuf_t *buf)
{
    mem_free(buf->data);
    strbuf_init(buf);
}

void strbuf_clear(strbuf_t *buf)
{
    buf->length = 0;
    if (buf->data != NULL) {
        buf->data[0] = '\0';
    }
}

static bool strbuf_reserve(strbuf_t *buf, size_t more)
{
    if (buf->is_failed) {
        return false;
    }
    if (buf->data != NULL && buf->capacity - buf->length > more) {
        return true;
    }
    size_t capacity = buf->capacity < 64 ? 64 : buf->capacity;
    while (capacity - buf->length <= more) {
        if (capacity > (size_t)-1 / 2) {
            buf->is_failed = true;
            return false;
        }
        capacity *= 2;
    }
    char *data = mem_realloc(buf->data, capacity);
    if (data == NULL) {
        buf->is_failed = true;
        return false;
    }
    buf->data = data;
    buf->capacity = capacity;
    return true;
}

void strbuf_append_bytes(strbuf_t *buf, const void *bytes, size_t length)
{
    if (!strbuf_reserve(buf, length)) {
        return;
    }
    if (length > 0) {
        memcpy(buf->data + buf->length, bytes, length);
    }
    buf->length += length;
    buf->data[buf->length] = '\0';
}

void strbuf_append(strbuf_t *buf, const char *text)
{
    strbuf_append_bytes(buf, text, strlen(text));
}

void strbuf_append_char(strbuf_t *buf, char c)
{
    strbuf_append_bytes(buf, &c, 1);
}

void strbuf_appendf(strbuf_t *buf, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (length < 0 || !strbuf_reserve(buf, (size_t)length)) {
        return;
    }
    va_start(args, format);
    (void)vsnprintf(buf->data + buf->length, (size_t)length + 1, format, args);
    va_end(args);
    buf->length += (size_t)length;
}

const char *strbuf_text(const strbuf_t *buf)
{
    return buf->data != NULL ? buf->data : "";
}

char *strbuf_detach(strbuf_t *buf)
{
    if (buf->is_failed) {
        strbuf_release(buf);
        return NULL;
    }
    char *text = buf->data != NULL ? buf->data : mem_strdup("");
    strbuf_init(buf);
    return text;
}
