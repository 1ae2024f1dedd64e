/* SPDX-License-Identifier: Apache-2.0 */
/* status: the per-thread record of the last failure. */
#include "base/status.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { MESSAGE_SIZE = 2048 };

static _Thread_local char thread_message[MESSAGE_SIZE];
static _Thread_local const char *thread_file = "";
static _Thread_local int thread_line;

static const struct {
    const char *name;
    const char *text;
} codes[ST_COUNT] = {
#define ST_ROW(name, text) [ST_##name] = {#name, text},
    ST_CODE_LIST(ST_ROW)
#undef ST_ROW
};

void status_fail(const char *file, int line, const char *format, ...)
{
    /* The format's arguments may point into the old message: build the new one beside it. */
    char message[MESSAGE_SIZE];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(message, sizeof(message), format, args);
    va_end(args);
    memcpy(thread_message, message, strlen(message) + 1);
    thread_file = file;
    thread_line = line;
}

status_t status_add_context(status_t code, const char *format, ...)
{
    char message[MESSAGE_SIZE];
    va_list args;
    va_start(args, format);
    int length = vsnprintf(message, sizeof(message), format, args);
    va_end(args);
    if (length < 0 || (size_t)length + 3 > sizeof(message)) {
        return code;
    }
    (void)snprintf(message + length, sizeof(message) - (size_t)length, ": %s", thread_message);
    memcpy(thread_message, message, strlen(message) + 1);
    return code;
}

const char *status_message(void)
{
    return thread_message;
}

const char *status_text(status_t code)
{
    return (unsigned)code < ST_COUNT ? codes[code].text : "unknown status";
}

const char *status_name(status_t code)
{
    return (unsigned)code < ST_COUNT ? codes[code].name : "ERR_UNKNOWN";
}

const char *status_place(void)
{
    static _Thread_local char place[256];
    if (thread_file[0] == '\0') {
        return "";
    }
    (void)snprintf(place, sizeof(place), "%s:%d", thread_file, thread_line);
    return place;
}

void status_clear(void)
{
    thread_message[0] = '\0';
    thread_file = "";
    thread_line = 0;
}

status_t status_from_errno(int error_number)
{
    switch (error_number) {
    case 0:
        return ST_OK;
    case ENOENT:
        return ST_ERR_NOT_FOUND;
    case EEXIST:
        return ST_ERR_EXISTS;
    case EACCES:
    case EPERM:
    case EROFS:
        return ST_ERR_PERMISSION;
    case ENOSPC:
    case EDQUOT:
        return ST_ERR_NOSPACE;
    case ENOMEM:
        return ST_ERR_NOMEM;
    case ETIMEDOUT:
        return ST_ERR_TIMEOUT;
    default:
        return ST_ERR_IO;
    }
}
