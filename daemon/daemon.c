/* SPDX-License-Identifier: Apache-2.0 */
/* daemon: opening and closing of the whole, and the notices that followers wait for. */
#include "daemon/daemon_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "daemon/files.h"

void dmn_notice(dmn_daemon_t *daemon)
{
    (void)pthread_mutex_lock(&daemon->notice_lock);
    daemon->n_notices++;
    (void)pthread_cond_broadcast(&daemon->noticed);
    (void)pthread_mutex_unlock(&daemon->notice_lock);
}

uint64_t dmn_notice_number(dmn_daemon_t *daemon)
{
    (void)pthread_mutex_lock(&daemon->notice_lock);
    uint64_t number = daemon->n_notices;
    (void)pthread_mutex_unlock(&daemon->notice_lock);
    return number;
}

void dmn_notice_wait(dmn_daemon_t *daemon, uint64_t seen, int64_t timeout_ms)
{
    int64_t end_ns = clock_now_ns() + timeout_ms * CLOCK_NS_PER_MS;
    struct timespec end = {.tv_sec = end_ns / CLOCK_NS_PER_S, .tv_nsec = end_ns % CLOCK_NS_PER_S};
    (void)pthread_mutex_lock(&daemon->notice_lock);
    int code = 0;
    while (daemon->n_notices == seen && code == 0) {
        code = pthread_cond_timedwait(&daemon->noticed, &daemon->notice_lock, &end);
    }
    (void)pthread_mutex_unlock(&daemon->notice_lock);
}

char *dmn_job_folder(const dmn_daemon_t *daemon, int64_t id)
{
    return dmn_format("%s/jobs/%" PRId64, daemon->state_folder, id);
}

const char *dmn_daemon_address(const dmn_daemon_t *daemon)
{
    return daemon->address;
}

int dmn_daemon_slots(const dmn_daemon_t *daemon)
{
    return daemon->scheduler.n_slots;
}

/* ---- addresses ---- */

static bool host_is_loopback(const char *host, size_t length)
{
    static const char *const names[] = {"localhost", "[::1]", "ip6-localhost"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strlen(names[i]) == length && strncmp(host, names[i], length) == 0) {
            return true;
        }
    }
    /* 127.0.0.0/8, but not a name such as 127.example.org */
    return length > 4 && strncmp(host, "127.", 4) == 0 && strspn(host, "0123456789.") >= length;
}

status_t dmn_listen_check(const char *address, bool is_insecure_allowed)
{
    if (strncmp(address, "unix:", 5) == 0) {
        const char *path = address + 5;
        size_t longest = sizeof(((struct sockaddr_un *)NULL)->sun_path) - 1;
        if (path[0] == '\0' || strlen(path) > longest) {
            return ST_FAIL(ST_ERR_INVAL, "%s: a socket's path has 1 to %zu bytes, this one has %zu", address, longest,
                           strlen(path));
        }
        return ST_OK;
    }
    const char *colon = strrchr(address, ':');
    char *end = NULL;
    long port = colon == NULL ? -1 : strtol(colon + 1, &end, 10);
    if (colon == NULL || colon == address || end == colon + 1 || *end != '\0' || port < 0 || port > 65535) {
        return ST_FAIL(ST_ERR_INVAL, "%s is no address: use unix:/path or host:port", address);
    }
    if (!host_is_loopback(address, (size_t)(colon - address)) && !is_insecure_allowed) {
        return ST_FAIL(
            ST_ERR_PERMISSION,
            "%s can be reached from other machines, and gradd neither encrypts nor asks who calls: anyone who "
            "reaches it can run jobs as this user. Use unix:/path or 127.0.0.1:port (with an ssh tunnel), or "
            "--insecure-listen if the network is yours alone",
            address);
    }
    return ST_OK;
}

/* ---- opening ---- */

static status_t lock_take(dmn_daemon_t *daemon)
{
    char *path = dmn_format("%s/lock", daemon->state_folder);
    if (path == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "lock of %s", daemon->state_folder);
    }
    status_t status = ST_OK;
    daemon->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (daemon->lock_fd < 0) {
        status = ST_FAIL(status_from_errno(errno), "opening %s: %s", path, strerror(errno));
    } else if (flock(daemon->lock_fd, LOCK_EX | LOCK_NB) != 0) {
        char pid[32] = "";
        ssize_t n = pread(daemon->lock_fd, pid, sizeof(pid) - 1, 0);
        pid[n > 0 ? strcspn(pid, "\n") : 0] = '\0';
        status = ST_FAIL(ST_ERR_BUSY, "another gradd (pid %s) has the state folder %s",
                         pid[0] != '\0' ? pid : "unknown", daemon->state_folder);
    } else {
        char pid[32];
        int n = snprintf(pid, sizeof(pid), "%d\n", (int)getpid());
        /* over what is there: a full disk has no other block */
        if (pwrite(daemon->lock_fd, pid, (size_t)n, 0) != n || ftruncate(daemon->lock_fd, n) != 0) {
            status = ST_FAIL(status_from_errno(errno), "writing %s: %s", path, strerror(errno));
        }
    }
    mem_free(path);
    return status;
}

/* The folder of the running program, where grad-shim and grad-worker are too. */
static char *program_folder_find(void)
{
    char path[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);
    if (n <= 0) {
        return NULL;
    }
    path[n] = '\0';
    char *slash = strrchr(path, '/');
    if (slash != NULL) {
        *slash = '\0';
    }
    return mem_strdup(path);
}

static status_t names_fill(dmn_daemon_t *daemon, const dmn_options_t *options)
{
    status_t status = dmn_folder_make(options->state_folder, 0700);
    if (status != ST_OK) {
        return status;
    }
    char *real = realpath(options->state_folder, NULL);
    if (real == NULL) {
        return ST_FAIL(status_from_errno(errno), "%s: %s", options->state_folder, strerror(errno));
    }
    const char *launcher = options->launcher != NULL ? options->launcher : getenv("GRADD_LAUNCHER");
    daemon->state_folder = mem_strdup(real);
    free(real);
    daemon->program_folder =
        options->program_folder != NULL ? mem_strdup(options->program_folder) : program_folder_find();
    daemon->launcher = mem_strdup(launcher != NULL && launcher[0] != '\0' ? launcher : "mpirun");
    if (daemon->state_folder != NULL) {
        daemon->database = dmn_format("%s/gradd.db", daemon->state_folder);
        daemon->worker_address = dmn_format("unix:%s/gradd.sock", daemon->state_folder);
    }
    if (daemon->database == NULL || daemon->worker_address == NULL || daemon->program_folder == NULL ||
        daemon->launcher == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "opening %s", options->state_folder);
    }
    daemon->address = mem_strdup(options->listen != NULL ? options->listen : daemon->worker_address);
    if (daemon->address == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "opening %s", options->state_folder);
    }
    if (gethostname(daemon->host, sizeof(daemon->host) - 1) != 0) {
        (void)snprintf(daemon->host, sizeof(daemon->host), "localhost");
    }
    status = dmn_boot_id(daemon->boot_id);
    if (status == ST_OK) {
        status = dmn_listen_check(daemon->worker_address, true);
    }
    return status == ST_OK ? dmn_listen_check(daemon->address, options->is_insecure_listen_allowed) : status;
}

/* The queue, and the runs of what an earlier daemon left. */
static status_t jobs_load(dmn_daemon_t *daemon)
{
    enum {
        HELD = 1U << DMN_STATE_STARTING | 1U << DMN_STATE_RUNNING | 1U << DMN_STATE_PAUSING |
               1U << DMN_STATE_CANCELLING | 1U << DMN_STATE_RESTARTING
    };
    dmn_job_t *jobs = NULL;
    int n = 0;
    status_t status = dmn_store_job_list(daemon->store, HELD | 1U << DMN_STATE_QUEUED, 0, INT_MAX, &jobs, &n);
    for (int i = 0; status == ST_OK && i < n; i++) {
        if (jobs[i].state == DMN_STATE_QUEUED) {
            status = dmn_scheduler_enqueue(&daemon->scheduler, jobs[i].id, jobs[i].queued_ns, jobs[i].slots);
            continue;
        }
        dmn_run_t *run = NULL;
        status = dmn_run_open(daemon, jobs[i].id, &run);
        if (status == ST_OK) {
            status = dmn_run_recover(daemon, run);
        }
    }
    dmn_jobs_release(jobs, n);
    return status;
}

/*
 * Removes the socket of a daemon that was killed. One that somebody listens on stays: its owner may have another state
 * folder, and so another lock.
 */
static status_t old_socket_remove(const char *path)
{
    struct stat info;
    if (lstat(path, &info) != 0 || !S_ISSOCK(info.st_mode)) {
        return ST_OK;
    }
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    (void)snprintf(name.sun_path, sizeof(name.sun_path), "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return ST_FAIL(ST_ERR_IO, "a socket for %s: %s", path, strerror(errno));
    }
    /* EAGAIN: somebody listens, and is busy */
    bool is_taken = connect(fd, (const struct sockaddr *)&name, sizeof(name)) == 0 || errno == EAGAIN;
    (void)close(fd);
    if (is_taken) {
        return ST_FAIL(ST_ERR_BUSY, "cannot listen on unix:%s: another process does", path);
    }
    (void)unlink(path);
    return ST_OK;
}

static status_t server_open(dmn_daemon_t *daemon, const char *address, rpc_server_t **server_p)
{
    static const char *const services[] = {"gradd.v1.Gradd", "gradd.v1.Worker", NULL};
    rpc_server_options_t options = {.address = address,
                                    .methods = dmn_methods,
                                    .n_methods = dmn_n_methods,
                                    .arg = daemon,
                                    .max_calls = DMN_MAX_CALLS,
                                    .file_descriptor_set = rpc_descriptor_set,
                                    .file_descriptor_set_size = rpc_descriptor_set_size,
                                    .services = services};
    bool is_unix = strncmp(address, "unix:", 5) == 0;
    status_t status = is_unix ? old_socket_remove(address + 5) : ST_OK;
    if (status == ST_OK) {
        status = rpc_server_open(&options, server_p);
    }
    if (status == ST_OK && is_unix && chmod(address + 5, 0600) != 0) {
        status = ST_FAIL(status_from_errno(errno), "chmod of %s: %s", address + 5, strerror(errno));
    }
    return status;
}

static status_t servers_open(dmn_daemon_t *daemon)
{
    status_t status = server_open(daemon, daemon->worker_address, &daemon->servers[0]);
    if (status != ST_OK || strcmp(daemon->address, daemon->worker_address) == 0) {
        return status;
    }
    status = server_open(daemon, daemon->address, &daemon->servers[1]);
    int port = status == ST_OK ? rpc_server_port(daemon->servers[1]) : 0;
    if (port > 0) {
        /* "host:0" */
        const char *colon = strrchr(daemon->address, ':');
        char *address = dmn_format("%.*s:%d", (int)(colon - daemon->address), daemon->address, port);
        if (address == NULL) {
            return ST_FAIL(ST_ERR_NOMEM, "address of %s", daemon->address);
        }
        mem_free(daemon->address);
        daemon->address = address;
    }
    return status;
}

static void locks_init(dmn_daemon_t *daemon)
{
    pthread_condattr_t attributes;
    (void)pthread_condattr_init(&attributes);
    (void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    (void)pthread_mutex_init(&daemon->lock, NULL);
    (void)pthread_mutex_init(&daemon->notice_lock, NULL);
    (void)pthread_cond_init(&daemon->writers_left, &attributes);
    (void)pthread_cond_init(&daemon->noticed, &attributes);
    (void)pthread_condattr_destroy(&attributes);
}

static status_t parts_open(dmn_daemon_t *daemon, const dmn_options_t *options)
{
    status_t status = names_fill(daemon, options);
    if (status == ST_OK) {
        status = lock_take(daemon);
    }
    if (status == ST_OK) {
        status = dmn_store_open(daemon->database, &daemon->store);
    }
    if (status != ST_OK) {
        return status;
    }
    daemon->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    daemon->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN};
    if (daemon->epoll_fd < 0 || daemon->wake_fd < 0 ||
        epoll_ctl(daemon->epoll_fd, EPOLL_CTL_ADD, daemon->wake_fd, &event) != 0) {
        return ST_FAIL(status_from_errno(errno), "event loop: %s", strerror(errno));
    }
    status = jobs_load(daemon);
    if (status == ST_OK) {
        status = servers_open(daemon);
    }
    return status == ST_OK ? dmn_supervisor_start(daemon) : status;
}

status_t dmn_daemon_open(const dmn_options_t *options, dmn_daemon_t **daemon_p)
{
    dmn_daemon_t *daemon = mem_zalloc(sizeof(*daemon));
    if (daemon == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "opening the daemon");
    }
    daemon->lock_fd = daemon->epoll_fd = daemon->wake_fd = -1;
    daemon->heartbeat_ms = options->heartbeat_ms > 0 ? options->heartbeat_ms : 60000;
    daemon->attach_ms = options->attach_ms > 0 ? options->attach_ms : 120000;
    daemon->started_ns = clock_wall_ns();
    long n_cores = sysconf(_SC_NPROCESSORS_ONLN);
    dmn_scheduler_init(&daemon->scheduler, options->slots > 0 ? options->slots : n_cores > 0 ? (int)n_cores : 1);
    locks_init(daemon);
    status_t status = parts_open(daemon, options);
    if (status != ST_OK) {
        dmn_daemon_close(daemon, 0);
        return status;
    }
    *daemon_p = daemon;
    return ST_OK;
}

void dmn_daemon_close(dmn_daemon_t *daemon, int64_t grace_ms)
{
    if (daemon == NULL) {
        return;
    }
    for (int i = 1; i >= 0; i--) {
        if (daemon->servers[i] != NULL) {
            rpc_server_close(daemon->servers[i], grace_ms);
        }
    }
    dmn_supervisor_stop(daemon);
    while (daemon->runs != NULL) {
        dmn_run_end(daemon, daemon->runs);
    }
    dmn_scheduler_release(&daemon->scheduler);
    dmn_store_close(daemon->store);
    int fds[] = {daemon->epoll_fd, daemon->wake_fd, daemon->lock_fd};
    for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
        if (fds[i] >= 0) {
            (void)close(fds[i]);
        }
    }
    (void)pthread_mutex_destroy(&daemon->lock);
    (void)pthread_mutex_destroy(&daemon->notice_lock);
    (void)pthread_cond_destroy(&daemon->writers_left);
    (void)pthread_cond_destroy(&daemon->noticed);
    mem_free(daemon->state_folder);
    mem_free(daemon->database);
    mem_free(daemon->program_folder);
    mem_free(daemon->launcher);
    mem_free(daemon->address);
    mem_free(daemon->worker_address);
    mem_free(daemon);
}
