/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log: leveled lines on stderr, "2026-11-23T05:36:59.123Z warn  worker rank 1: message".
 * Library code logs at debug only; programs log the rest. Thread-safe; a line is one write.
 */
#ifndef GRADD_BASE_LOG_H
#define GRADD_BASE_LOG_H

typedef enum log_level {
    LOG_LEVEL_ERROR,
    LOG_LEVEL_WARN,
    LOG_LEVEL_INFO,
    LOG_LEVEL_DEBUG,
    LOG_LEVEL_COUNT
} log_level_t;

/* Gets a finished line without its newline. Called under the log's lock: must not log. */
typedef void (*log_sink_func_t)(log_level_t level, const char *line, void *arg);

/* Lines above this level are dropped; default info, or the environment's GRADD_LOG=error|warn|info|debug. */
void log_set_level(log_level_t level);
log_level_t log_get_level(void);
/* What stands before each message, "worker rank 1"; copied (at most 63 bytes); NULL or "" for none. */
void log_set_name(const char *name);
/* Sends the lines elsewhere (tests); NULL restores stderr. */
void log_set_sink(log_sink_func_t sink, void *arg);

void log_write(log_level_t level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) log_write(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warn(...) log_write(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...) log_write(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_write(LOG_LEVEL_DEBUG, __VA_ARGS__)

#endif
