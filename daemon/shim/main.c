/* SPDX-License-Identifier: Apache-2.0 */
/*
 * grad-shim --attempt-dir DIR --grace-ms N -- PROGRAM ARGUMENT…
 *
 * Owns the processes of one attempt and outlives the daemon. It decides nothing.
 *   DIR/shim.json      first, durable: {"pid", "starttime", "boot_id"}: how a later daemon finds it again
 *   DIR/launcher.log   output of the launcher and all below it, appended
 *   DIR/exit.json      last, durable: {"code", "signal", "unix_ns", "killed_strays", "stopped", "error"}. code -1:
 * ended by a signal; 127 with an error: PROGRAM could not be started SIGTERM: SIGTERM to all below it, SIGKILL after
 * the grace.  SIGUSR1: SIGKILL at once. When the launcher ends, every process below is killed. exit.json says that none
 * is left: the shim is a subreaper, so that what daemonised comes back to it as a child, and it writes only when it has
 * no child any more.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "daemon/files.h"
#include "daemon/process.h"

enum { EXIT_USAGE = 2, EXIT_SETUP = 3, KILL_PERIOD_MS = 20 };

typedef struct shim {
    const char *folder;
    int64_t grace_ms;
    char **program;
    sigset_t signals;
    pid_t launcher;
    bool is_launcher_gone, is_stopping, is_killing, has_children;
    int64_t kill_at_ns;
    int wait_status, n_strays;
    char error[256];
} shim_t;

static int usage(void)
{
    (void)fputs("usage: grad-shim --attempt-dir DIR --grace-ms N -- PROGRAM ARGUMENT...\n"
                "Runs PROGRAM, owns all its descendants, writes DIR/exit.json when none is left. Started by gradd.\n"
                "SIGTERM stops with grace, SIGUSR1 kills at once.\n",
                stderr);
    return EXIT_USAGE;
}

static bool arguments_parse(shim_t *shim, int argc, char **argv)
{
    int i = 1;
    for (; i + 1 < argc && strcmp(argv[i], "--") != 0; i += 2) {
        char *end = NULL;
        if (strcmp(argv[i], "--attempt-dir") == 0) {
            shim->folder = argv[i + 1];
        } else if (strcmp(argv[i], "--grace-ms") == 0) {
            shim->grace_ms = strtoll(argv[i + 1], &end, 10);
            if (end == argv[i + 1] || *end != '\0' || shim->grace_ms < 0) {
                return false;
            }
        } else {
            return false;
        }
    }
    if (shim->folder == NULL || i + 1 >= argc || strcmp(argv[i], "--") != 0) {
        return false;
    }
    shim->program = argv + i + 1;
    return true;
}

static status_t record_write(const shim_t *shim, const char *name, const strbuf_t *text)
{
    char *path = dmn_format("%s/%s", shim->folder, name);
    status_t status = path == NULL || text->is_failed ? ST_FAIL(ST_ERR_NOMEM, "writing %s", name)
                                                      : dmn_file_write_durable(path, strbuf_text(text), text->length);
    mem_free(path);
    return status;
}

static status_t identity_write(const shim_t *shim)
{
    char boot_id[DMN_BOOT_ID_SIZE];
    dmn_process_t self;
    status_t status = dmn_boot_id(boot_id);
    if (status == ST_OK) {
        status = dmn_process_read(getpid(), &self);
    }
    if (status != ST_OK) {
        return status;
    }
    strbuf_t text = {0};
    strbuf_appendf(&text, "{\"pid\": %d, \"starttime\": %" PRIu64 ", \"boot_id\": \"%s\"}\n", (int)getpid(),
                   self.starttime, boot_id);
    status = record_write(shim, "shim.json", &text);
    strbuf_release(&text);
    return status;
}

static status_t exit_write(const shim_t *shim)
{
    bool is_exited = WIFEXITED(shim->wait_status);
    strbuf_t text = {0};
    strbuf_appendf(&text,
                   "{\"code\": %d, \"signal\": %d, \"unix_ns\": %" PRId64
                   ", \"killed_strays\": %d, \"stopped\": %s, \"error\": \"",
                   is_exited ? WEXITSTATUS(shim->wait_status) : -1, is_exited ? 0 : WTERMSIG(shim->wait_status),
                   clock_wall_ns(), shim->n_strays, shim->is_stopping || shim->is_killing ? "true" : "false");
    for (const char *c = shim->error; *c != '\0'; c++) {
        if (*c == '"' || *c == '\\') {
            strbuf_append_char(&text, '\\');
        }
        strbuf_append_char(&text, (unsigned char)*c < ' ' ? ' ' : *c);
    }
    strbuf_append(&text, "\"}\n");
    status_t status = record_write(shim, "exit.json", &text);
    strbuf_release(&text);
    return status;
}

/* stdin from /dev/null, stdout and stderr to the attempt's launcher.log; no other descriptor stays open. */
static status_t streams_open(const shim_t *shim)
{
    char *path = dmn_format("%s/launcher.log", shim->folder);
    if (path == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "launcher.log");
    }
    int log = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    status_t status = ST_OK;
    if (log < 0 || null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(log, STDOUT_FILENO) < 0 ||
        dup2(log, STDERR_FILENO) < 0) {
        status = ST_FAIL(status_from_errno(errno), "redirecting to %s: %s", path, strerror(errno));
    } else {
        (void)close_range(STDERR_FILENO + 1, ~0U, 0);
    }
    mem_free(path);
    return status;
}

static void launcher_start(shim_t *shim)
{
    int report[2];
    pid_t self = getpid();
    if (pipe2(report, O_CLOEXEC) != 0 || (shim->launcher = fork()) < 0) {
        (void)snprintf(shim->error, sizeof(shim->error), "starting %s: %s", shim->program[0], strerror(errno));
        shim->is_launcher_gone = true;
        shim->wait_status = 127 << 8;
        return;
    }
    if (shim->launcher == 0) {
        /* Should the shim be killed, the launcher ends too; what it leaves is found by its environment. */
        (void)prctl(PR_SET_PDEATHSIG, SIGTERM);
        sigset_t none;
        (void)sigemptyset(&none);
        (void)sigprocmask(SIG_SETMASK, &none, NULL);
        if (getppid() == self) {
            (void)execvp(shim->program[0], shim->program);
        }
        int error = errno;
        (void)!write(report[1], &error, sizeof(error));
        _exit(127);
    }
    (void)close(report[1]);
    int error = 0;
    if (read(report[0], &error, sizeof(error)) == (ssize_t)sizeof(error)) {
        (void)snprintf(shim->error, sizeof(shim->error), "starting %s: %s", shim->program[0], strerror(error));
    }
    (void)close(report[0]);
}

static void children_reap(shim_t *shim)
{
    for (;;) {
        int wait_status = 0;
        pid_t pid = waitpid(-1, &wait_status, WNOHANG);
        if (pid < 0 && errno == EINTR) {
            continue;
        }
        if (pid <= 0) {
            shim->has_children = pid == 0;
            return;
        }
        if (pid == shim->launcher) {
            shim->is_launcher_gone = true;
            shim->wait_status = wait_status;
        }
    }
}

static void signal_handle(shim_t *shim, int signal_number)
{
    if (signal_number == SIGTERM && !shim->is_stopping) {
        shim->is_stopping = true;
        shim->kill_at_ns = clock_now_ns() + shim->grace_ms * CLOCK_NS_PER_MS;
        (void)dmn_tree_signal(getpid(), SIGTERM);
    } else if (signal_number == SIGUSR1) {
        shim->is_killing = true;
    }
}

/* Until no process is left. */
static void watch(shim_t *shim)
{
    bool is_first_round = true;
    for (;;) {
        children_reap(shim);
        if (!shim->has_children && shim->is_launcher_gone) {
            return;
        }
        int64_t wait_ms = -1;
        if (shim->is_stopping && clock_now_ns() >= shim->kill_at_ns) {
            shim->is_killing = true;
        } else if (shim->is_stopping) {
            wait_ms = (shim->kill_at_ns - clock_now_ns()) / CLOCK_NS_PER_MS + 1;
        }
        if (shim->is_killing || shim->is_launcher_gone) {
            int n = dmn_tree_signal(getpid(), SIGKILL);
            if (is_first_round && shim->is_launcher_gone) {
                shim->n_strays = n;
            }
            is_first_round = false;
            wait_ms = KILL_PERIOD_MS;
        }
        siginfo_t info;
        int signal_number;
        if (wait_ms < 0) {
            signal_number = sigwaitinfo(&shim->signals, &info);
        } else {
            struct timespec wait = {.tv_sec = wait_ms / 1000, .tv_nsec = (wait_ms % 1000) * 1000000};
            signal_number = sigtimedwait(&shim->signals, &info, &wait);
        }
        if (signal_number > 0) {
            signal_handle(shim, signal_number);
        }
    }
}

/*
 * Linux (CONFIG_SCHED_AUTOGROUP) shares out the cores between sessions first and between processes second, and the
 * shim has just begun a session. With equal shares, ranks that never sleep kept a runnable `gradctl show` of 10 ms off
 * both cores of a 6.18 kernel for 1 to 23 s; with nice 5 for the session as a whole its longest was 0.4 s. Ranks that
 * are alone on their cores lose nothing; beside two busy processes of another session on two cores they kept half of
 * their speed (150 to 210 of 310 steps/s), but with nice 10 a tenth, since one late rank keeps all waiting. Their own
 * nice values stay as they are. A kernel or a cgroup that doesn't group by session needs none of this: hence no error.
 */
static void session_give_way(void)
{
    static const char NICE[] = "5";
    int file = open("/proc/self/autogroup", O_WRONLY | O_CLOEXEC);
    if (file >= 0) {
        (void)!write(file, NICE, sizeof(NICE) - 1);
        (void)close(file);
    }
}

int main(int argc, char **argv)
{
    shim_t shim = {.grace_ms = 30000};
    if (!arguments_parse(&shim, argc, argv)) {
        return usage();
    }
    (void)setsid();
    session_give_way();
    (void)sigemptyset(&shim.signals);
    (void)sigaddset(&shim.signals, SIGTERM);
    (void)sigaddset(&shim.signals, SIGUSR1);
    (void)sigaddset(&shim.signals, SIGCHLD);
    sigset_t blocked = shim.signals;
    (void)sigaddset(&blocked, SIGINT);
    (void)sigaddset(&blocked, SIGHUP);
    (void)sigprocmask(SIG_SETMASK, &blocked, NULL);
    if (prctl(PR_SET_CHILD_SUBREAPER, 1) != 0) {
        (void)fprintf(stderr, "grad-shim: PR_SET_CHILD_SUBREAPER: %s\n", strerror(errno));
        return EXIT_SETUP;
    }
    if (identity_write(&shim) != ST_OK || streams_open(&shim) != ST_OK) {
        (void)fprintf(stderr, "grad-shim: %s\n", status_message());
        return EXIT_SETUP;
    }
    launcher_start(&shim);
    watch(&shim);
    if (exit_write(&shim) != ST_OK) {
        (void)fprintf(stderr, "grad-shim: %s\n", status_message());
        return EXIT_SETUP;
    }
    return 0;
}
