/* SPDX-License-Identifier: Apache-2.0 */
/* log: formats a line and hands it to stderr or the sink. */
#include "base/log.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { LINE_SIZE = 4096, NAME_SIZE = 64 };

static const char *const level_names[LOG_LEVEL_COUNT] = {"error", "warn", "info", "debug"};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t level_once = PTHREAD_ONCE_INIT;
static atomic_int level_now = LOG_LEVEL_INFO;
static char log_name[NAME_SIZE];
static log_sink_func_t log_sink;
static void *log_sink_arg;

static void level_read_environment(void)
{
    const char *text = getenv("GRADD_LOG");
    for (int i = 0; text != NULL && i < LOG_LEVEL_COUNT; i++) {
        if (strcmp(text, level_names[i]) == 0) {
            atomic_store(&level_now, i);
        }
    }
}

void log_set_level(log_level_t level)
{
    (void)pthread_once(&level_once, level_read_environment);
    atomic_store(&level_now, (int)level);
}

log_level_t log_get_level(void)
{
    (void)pthread_once(&level_once, level_read_environment);
    return (log_level_t)atomic_load(&level_now);
}

void log_set_name(const char *name)
{
    (void)pthread_mutex_lock(&lock);
    (void)snprintf(log_name, sizeof(log_name), "%s", name != NULL ? name : "");
    (void)pthread_mutex_unlock(&lock);
}

void log_set_sink(log_sink_func_t sink, void *arg)
{
    (void)pthread_mutex_lock(&lock);
    log_sink = sink;
    log_sink_arg = arg;
    (void)pthread_mutex_unlock(&lock);
}

void log_write(log_level_t level, const char *format, ...)
{
    if (level > log_get_level()) {
        return;
    }
    char line[LINE_SIZE];
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    struct tm utc;
    (void)gmtime_r(&now.tv_sec, &utc);
    size_t length = strftime(line, sizeof(line), "%Y-%m-%dT%H:%M:%S", &utc);

    (void)pthread_mutex_lock(&lock);
    length += (size_t)snprintf(line + length, sizeof(line) - length, ".%03ldZ %-5s %s%s", now.tv_nsec / 1000000,
                               level_names[level], log_name, log_name[0] != '\0' ? ": " : "");
    va_list args;
    va_start(args, format);
    int n = vsnprintf(line + length, sizeof(line) - length - 1, format, args);
    va_end(args);
    if (n > 0) {
        length += (size_t)n;
    }
    if (length > sizeof(line) - 2) {
        length = sizeof(line) - 2;
    }
    line[length] = '\0';
    if (log_sink != NULL) {
        log_sink(level, line, log_sink_arg);
    } else {
        line[length] = '\n';
        ssize_t written = write(STDERR_FILENO, line, length + 1);
        (void)written;
    }
    (void)pthread_mutex_unlock(&lock);
}
