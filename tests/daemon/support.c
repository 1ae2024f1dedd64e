/* SPDX-License-Identifier: Apache-2.0 */
/* support: waiting, scripts and processes for the daemon's tests. */
#include "tests/daemon/support.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "daemon/process.h"

extern char **environ;

int64_t support_deadline(int64_t limit_ms)
{
    return clock_now_ns() + limit_ms * CLOCK_NS_PER_MS;
}

bool support_is_past(int64_t deadline)
{
    clock_sleep_ms(5);
    return clock_now_ns() > deadline;
}

const char *support_path(const char *name)
{
    static char paths[8][512];
    static int next;
    char *path = paths[next++ % 8];
    (void)snprintf(path, sizeof(paths[0]), "%s/%s", fixture_folder(), name);
    return path;
}

const char *support_script(const char *name, const char *text)
{
    const char *path = support_path(name);
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    assert_true(fprintf(file, "#!/bin/sh\n%s\n", text) > 0);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(chmod(path, 0755), 0);
    return path;
}

const char *support_text(const char *path)
{
    static char text[65536];
    text[0] = '\0';
    FILE *file = fopen(path, "re");
    if (file != NULL) {
        text[fread(text, 1, sizeof(text) - 1, file)] = '\0';
        (void)fclose(file);
    }
    return text;
}

long support_number(const char *path)
{
    return strtol(support_text(path), NULL, 10);
}

bool support_exists(const char *path)
{
    return access(path, F_OK) == 0;
}

bool support_is_alive(long pid)
{
    return pid > 0 && dmn_process_is_alive((pid_t)pid, 0);
}

static bool text_put(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool is_done = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    if (fd >= 0) {
        (void)close(fd);
    }
    return is_done;
}

bool support_mounts_apart(void)
{
    char map[64];
    (void)snprintf(map, sizeof(map), "0 %u 1", (unsigned)geteuid());
    bool is_root = geteuid() == 0;
    return unshare(is_root ? CLONE_NEWNS : CLONE_NEWNS | CLONE_NEWUSER) == 0 &&
           (is_root || text_put("/proc/self/uid_map", map)) && mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;
}

static void disk_mount(const char *path, int64_t bytes, unsigned long flags)
{
    char options[64];
    (void)snprintf(options, sizeof(options), "size=%lld,mode=700", (long long)bytes);
    assert_int_equal(mount("tmpfs", path, "tmpfs", flags, options), 0);
}

void support_disk(const char *path, int64_t bytes)
{
    assert_int_equal(mkdir(path, 0700), 0);
    disk_mount(path, bytes, 0);
}

void support_disk_resize(const char *path, int64_t bytes)
{
    disk_mount(path, bytes, MS_REMOUNT);
}

void support_disk_fill(const char *path)
{
    static const char zeros[4096];
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    while (write(fd, zeros, sizeof(zeros)) > 0) {
    }
    assert_int_equal(errno, ENOSPC);
    assert_int_equal(close(fd), 0);
}

const char *support_program(const char *name)
{
    static char path[512];
    const char *folder = getenv("GRADD_BIN");
    assert_non_null(folder);
    (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
    return path;
}

pid_t support_spawn(const char *const *arguments)
{
    posix_spawn_file_actions_t actions;
    assert_int_equal(posix_spawn_file_actions_init(&actions), 0);
    assert_int_equal(posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0), 0);
    pid_t pid = -1;
    assert_int_equal(posix_spawn(&pid, arguments[0], &actions, NULL, (char *const *)(uintptr_t)arguments, environ), 0);
    assert_int_equal(posix_spawn_file_actions_destroy(&actions), 0);
    return pid;
}
