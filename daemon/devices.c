/* SPDX-License-Identifier: Apache-2.0 */
/* devices: what `grad-worker --probe` says of this host's devices: how the daemon knows of them without linking the
 * engine. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "daemon/daemon_internal.h"
#include "daemon/files.h"

extern char **environ;

enum { PROBE_MS = 10000, MAX_PROBE_BYTES = 64 * 1024 };

/* All that comes through the pipe until its end, for at most PROBE_MS. */
static bool output_read(int fd, strbuf_t *text)
{
    const int64_t end_ns = clock_now_ns() + (int64_t)PROBE_MS * 1000000;
    char bytes[4096];
    for (;;) {
        const int64_t left_ms = (end_ns - clock_now_ns()) / 1000000;
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        if (left_ms <= 0 || text->length > MAX_PROBE_BYTES || (poll(&wait, 1, (int)left_ms) < 0 && errno != EINTR)) {
            return false;
        }
        const ssize_t n = (wait.revents & (POLLIN | POLLHUP)) != 0 ? read(fd, bytes, sizeof(bytes)) : -1;
        if (n == 0) {
            return true;
        }
        if (n > 0) {
            strbuf_append_bytes(text, bytes, (size_t)n);
        } else if (wait.revents != 0 && errno != EINTR) {
            return false;
        }
    }
}

/* The probe's JSON; false: there is no probe that answers. */
static bool probe_run(const char *program, strbuf_t *text)
{
    char *const arguments[] = {(char *)(uintptr_t)program, (char *)(uintptr_t) "--probe", NULL};
    int ends[2];
    pid_t pid = 0;
    posix_spawn_file_actions_t actions;
    if (pipe2(ends, O_CLOEXEC) != 0) {
        return false;
    }
    (void)posix_spawn_file_actions_init(&actions);
    (void)posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
    const int failure = posix_spawn(&pid, program, &actions, NULL, arguments, environ);
    (void)posix_spawn_file_actions_destroy(&actions);
    (void)close(ends[1]);
    bool is_read = failure == 0 && output_read(ends[0], text);
    (void)close(ends[0]);
    int code = -1;
    if (failure == 0) {
        if (!is_read) {
            (void)kill(pid, SIGKILL);
        }
        while (waitpid(pid, &code, 0) < 0 && errno == EINTR) {
        }
    }
    return is_read && code == 0;
}

status_t dmn_device_check(const dmn_daemon_t *daemon, const spec_job_t *job)
{
    if (job->resources == NULL || job->resources->device != GRADD__V1__RESOURCES__DEVICE__cuda) {
        return ST_OK;
    }
    char *program = dmn_format("%s/grad-worker", daemon->program_folder);
    strbuf_t text = {0};
    status_t status = program != NULL ? ST_OK : ST_FAIL(ST_ERR_NOMEM, "path of grad-worker");
    /* without an answer it is left to the workers, who say it too */
    if (status == ST_OK && probe_run(program, &text) && strstr(strbuf_text(&text), "\"kind\": \"cuda\"") == NULL) {
        status =
            ST_FAIL(ST_ERR_UNSUPPORTED, "resources.device: cuda: grad-worker here finds no such device; it has: cpu");
    }
    strbuf_release(&text);
    mem_free(program);
    return status;
}
