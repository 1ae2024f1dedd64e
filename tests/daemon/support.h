/* SPDX-License-Identifier: Apache-2.0 */
/* support: waiting with a deadline, scripts and processes for the daemon's tests. */
#ifndef GRADD_TESTS_DAEMON_SUPPORT_H
#define GRADD_TESTS_DAEMON_SUPPORT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "tests/support/fixture.h"

/* Waits for a condition, looking every 5 ms; fails the test at the deadline. */
#define WAIT_UNTIL(condition_x, limit_ms)                                                                              \
    for (int64_t support_end = support_deadline(limit_ms); !(condition_x);) {                                          \
        if (support_is_past(support_end)) {                                                                            \
            fail_msg("not within %lld ms: %s", (long long)(limit_ms), #condition_x);                                   \
        }                                                                                                              \
    }
int64_t support_deadline(int64_t limit_ms);
/* Sleeps 5 ms. */
bool support_is_past(int64_t deadline);

/* "<fixture folder>/<name>"; in one of a few static buffers. */
const char *support_path(const char *name);
/* Writes an executable shell script into the fixture's folder and returns its path. */
const char *support_script(const char *name, const char *text);
/* The number in a file; 0 while it isn't there. */
long support_number(const char *path);
/* The text of a file, "" when absent; in a static buffer. */
const char *support_text(const char *path);
bool support_exists(const char *path);
/* Alive and not a zombie. */
bool support_is_alive(long pid);
/* From now on this thread, and those that it starts, see their own mounts only. Before other threads; false: not
 * permitted here. */
bool support_mounts_apart(void);
/* Makes a folder, and mounts a disk of so many bytes at it. After support_mounts_apart. */
void support_disk(const char *path, int64_t bytes);
/* Another size for it. */
void support_disk_resize(const char *path, int64_t bytes);
/* Fills the disk with a file of that name, to the last byte. */
void support_disk_fill(const char *path);
/* A program of the build: "<GRADD_BIN>/<name>". */
const char *support_program(const char *name);
/* Starts it; output to /dev/null. */
pid_t support_spawn(const char *const *arguments);

#endif
