/* SPDX-License-Identifier: Apache-2.0 */
/* launch: the shim's command line and environment. */
#include "daemon/launch.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/mem.h"
#include "daemon/files.h"

extern char **environ;

/* A list of texts that ends with NULL, for exec; owns them. */
typedef struct list {
    char **items;
    int n, capacity;
    bool is_failed;
} list_t;

static void list_take(list_t *list, char *text)
{
    if (list->n + 1 >= list->capacity) {
        int capacity = list->capacity == 0 ? 64 : 2 * list->capacity;
        char **grown = mem_realloc(list->items, (size_t)capacity * sizeof(*grown));
        if (grown == NULL) {
            list->is_failed = true;
            mem_free(text);
            return;
        }
        list->items = grown;
        list->capacity = capacity;
    }
    if (text == NULL) {
        list->is_failed = true;
        return;
    }
    list->items[list->n++] = text;
    list->items[list->n] = NULL;
}

static void list_add(list_t *list, const char *text)
{
    list_take(list, mem_strdup(text));
}

static void list_release(list_t *list)
{
    for (int i = 0; i < list->n; i++) {
        mem_free(list->items[i]);
    }
    mem_free(list->items);
}

status_t dmn_token_make(char token_p[DMN_TOKEN_SIZE])
{
    uint8_t bytes[(DMN_TOKEN_SIZE - 1) / 2];
    if (getrandom(bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes)) {
        return ST_FAIL(ST_ERR_IO, "getrandom: %s", strerror(errno));
    }
    for (size_t i = 0; i < sizeof(bytes); i++) {
        (void)snprintf(token_p + 2 * i, 3, "%02x", bytes[i]);
    }
    return ST_OK;
}

char *dmn_attempt_folder(const char *job_folder, int number)
{
    return dmn_format("%s/attempts/%d", job_folder, number);
}

/* Where the ranks' shared memory segments are: named by the token, so that they can be removed after a kill. */
static char *segments_folder(const dmn_attempt_t *attempt)
{
    return dmn_format("/dev/shm/gradd-%.16s", attempt->token);
}

/*
 * Whether one rank may read another's memory (Open MPI's single-copy transfers between ranks of a host). In containers
 * it is often forbidden, and then every transfer fails with a message.
 */
static bool single_copy_is_allowed(void)
{
    char scope = '0';
    int fd = geteuid() == 0 ? -1 : open("/proc/sys/kernel/yama/ptrace_scope", O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        (void)!read(fd, &scope, 1);
        (void)close(fd);
    }
    char from = 'x';
    char to = 0;
    struct iovec remote = {.iov_base = &from, .iov_len = 1};
    struct iovec local = {.iov_base = &to, .iov_len = 1};
    return scope == '0' && process_vm_readv(getpid(), &local, 1, &remote, 1, 0) == 1;
}

/*
 * Note [mpirun's arguments]: ranks are not bound, as each concurrent mpirun would bind its own to the same first cores;
 * idle ranks yield, as there may be more ranks than cores; plm isolated, btl self and vader, pml ob1: one host, and no
 * time spent on looking for networks and resource managers; the session folder and the shared memory segments have
 * names of our own, as a killed mpirun leaves them behind.
 */
static void mpirun_add(list_t *list, const dmn_launch_t *launch, const char *attempt_folder)
{
    static const char *const exported[] = {"GRADD_ADDRESS", "GRADD_JOB",     "GRADD_ATTEMPT",   "GRADD_TOKEN",
                                           "GRADD_JOB_DIR", "GRADD_LOG_DIR", "OMP_NUM_THREADS", "GOMP_SPINCOUNT"};
    static const char *const settings[][2] = {
        {"mpi_yield_when_idle", "1"},
        {"plm", "isolated"},
        {"btl", "self,vader"},
        {"pml", "ob1"},
    };
    list_add(list, launch->launcher);
    if (geteuid() == 0) {
        list_add(list, "--allow-run-as-root");
    }
    list_add(list, "--bind-to");
    list_add(list, "none");
    list_add(list, "--oversubscribe");
    list_add(list, "-np");
    list_take(list, dmn_format("%d", launch->workers));
    for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++) {
        list_add(list, "--mca");
        list_add(list, settings[i][0]);
        list_add(list, settings[i][1]);
    }
    list_add(list, "--mca");
    list_add(list, "orte_tmpdir_base");
    list_take(list, dmn_format("%s/tmp", attempt_folder));
    list_add(list, "--mca");
    list_add(list, "btl_vader_backing_directory");
    list_take(list, segments_folder(launch->attempt));
    if (!single_copy_is_allowed()) {
        list_add(list, "--mca");
        list_add(list, "btl_vader_single_copy_mechanism");
        list_add(list, "none");
    }
    for (size_t i = 0; i < sizeof(exported) / sizeof(exported[0]); i++) {
        list_add(list, "-x");
        list_add(list, exported[i]);
    }
    list_take(list, dmn_format("%s/grad-worker", launch->program_folder));
}

static bool variable_is_kept(const char *variable)
{
    static const char *const dropped[] = {"OMPI_",          "PMIX_",
                                          "PMI_",           "ORTE_",
                                          "SLURM_",         "GRADD_ADDRESS=",
                                          "GRADD_JOB=",     "GRADD_ATTEMPT=",
                                          "GRADD_TOKEN=",   "GRADD_JOB_DIR=",
                                          "GRADD_LOG_DIR=", "GRADD_LAUNCHER=",
                                          "NOTIFY_SOCKET=", "OMP_NUM_THREADS=",
                                          "GOMP_SPINCOUNT="};
    for (size_t i = 0; i < sizeof(dropped) / sizeof(dropped[0]); i++) {
        if (strncmp(variable, dropped[i], strlen(dropped[i])) == 0) {
            return false;
        }
    }
    return true;
}

/*
 * Note [Threads that wait]: libgomp's threads spin 300,000 times (10 ms and more) for each other at the end of a
 * parallel loop before they sleep. When anything else runs on the cores, the thread that is waited for may have none:
 * beside one busy process a step of 85 ms took 760 ms on both cores of a machine; 360 ms with 20,000 times, which costs
 * nothing measurable when it is quiet. What the daemon's own environment says about it goes before.
 */
static const char *spin_count(void)
{
    const char *given = getenv("GOMP_SPINCOUNT");
    return given != NULL ? given : "20000";
}

static void environment_fill(list_t *list, const dmn_launch_t *launch)
{
    for (char **variable = environ; *variable != NULL; variable++) {
        if (variable_is_kept(*variable)) {
            list_add(list, *variable);
        }
    }
    list_take(list, dmn_format("GRADD_ADDRESS=%s", launch->address));
    list_take(list, dmn_format("GRADD_JOB=%" PRId64, launch->job_id));
    list_take(list, dmn_format("GRADD_ATTEMPT=%d", launch->attempt->number));
    list_take(list, dmn_format("GRADD_TOKEN=%s", launch->attempt->token));
    list_take(list, dmn_format("GRADD_JOB_DIR=%s", launch->job_folder));
    list_take(list, dmn_format("GRADD_LOG_DIR=%s/logs", launch->job_folder));
    list_take(list, dmn_format("OMP_NUM_THREADS=%d", launch->threads));
    list_take(list, dmn_format("GOMP_SPINCOUNT=%s", spin_count()));
}

static status_t shim_spawn(const list_t *arguments, const list_t *environment, pid_t *pid_p)
{
    posix_spawnattr_t attributes;
    sigset_t none;
    sigset_t all;
    (void)sigemptyset(&none);
    (void)sigfillset(&all);
    if (posix_spawnattr_init(&attributes) != 0) {
        return ST_FAIL(ST_ERR_NOMEM, "starting %s", arguments->items[0]);
    }
    (void)posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSID);
    (void)posix_spawnattr_setsigmask(&attributes, &none);
    (void)posix_spawnattr_setsigdefault(&attributes, &all);
    int error = posix_spawn(pid_p, arguments->items[0], NULL, &attributes, arguments->items, environment->items);
    (void)posix_spawnattr_destroy(&attributes);
    if (error != 0) {
        return ST_FAIL(status_from_errno(error), "starting %s: %s", arguments->items[0], strerror(error));
    }
    return ST_OK;
}

static status_t folders_make(const dmn_launch_t *launch, const char *attempt_folder)
{
    char *temporary = dmn_format("%s/tmp", attempt_folder);
    char *logs = dmn_format("%s/logs", launch->job_folder);
    char *segments = segments_folder(launch->attempt);
    status_t status = ST_OK;
    if (temporary == NULL || logs == NULL || segments == NULL) {
        status = ST_FAIL(ST_ERR_NOMEM, "folders of attempt %d", launch->attempt->number);
    }
    if (status == ST_OK) {
        status = dmn_tree_remove(attempt_folder);
    }
    if (status == ST_OK) {
        status = dmn_folder_make(temporary, 0700);
    }
    if (status == ST_OK) {
        status = dmn_folder_make(logs, 0700);
    }
    if (status == ST_OK) {
        status = dmn_folder_make(segments, 0700);
    }
    mem_free(temporary);
    mem_free(logs);
    mem_free(segments);
    return status;
}

/* mpirun's own answer to a missing program is code 132, which looks like a rank killed by SIGILL. */
static status_t programs_check(const dmn_launch_t *launch)
{
    char *worker = dmn_format("%s/grad-worker", launch->program_folder);
    if (worker == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "attempt %d", launch->attempt->number);
    }
    status_t status = ST_OK;
    if (strcmp(launch->launcher, "mpirun") == 0 && access(worker, X_OK) != 0) {
        status = ST_FAIL(ST_ERR_NOT_FOUND, "%s: %s; it is installed beside gradd", worker, strerror(errno));
    }
    mem_free(worker);
    return status;
}

status_t dmn_launch(const dmn_launch_t *launch, pid_t *pid_p)
{
    list_t arguments = {0};
    list_t environment = {0};
    char *folder = dmn_attempt_folder(launch->job_folder, launch->attempt->number);
    if (folder == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "attempt %d", launch->attempt->number);
    }
    status_t status = programs_check(launch);
    if (status == ST_OK) {
        status = folders_make(launch, folder);
    }
    if (status == ST_OK) {
        list_take(&arguments, dmn_format("%s/grad-shim", launch->program_folder));
        list_add(&arguments, "--attempt-dir");
        list_add(&arguments, folder);
        list_add(&arguments, "--grace-ms");
        list_take(&arguments, dmn_format("%" PRId64, launch->grace_ms));
        list_add(&arguments, "--");
        mpirun_add(&arguments, launch, folder);
        environment_fill(&environment, launch);
        status = arguments.is_failed || environment.is_failed
                     ? ST_FAIL(ST_ERR_NOMEM, "command line of attempt %d", launch->attempt->number)
                     : shim_spawn(&arguments, &environment, pid_p);
    }
    list_release(&arguments);
    list_release(&environment);
    mem_free(folder);
    return status;
}

void dmn_launch_clean(const char *job_folder, const dmn_attempt_t *attempt)
{
    char *segments = segments_folder(attempt);
    char *temporary = dmn_format("%s/attempts/%d/tmp", job_folder, attempt->number);
    if (segments != NULL && temporary != NULL && attempt->token[0] != '\0') {
        (void)dmn_tree_remove(segments);
        (void)dmn_tree_remove(temporary);
    }
    mem_free(segments);
    mem_free(temporary);
}

status_t dmn_launch_kill_strays(const dmn_attempt_t *attempt, int *n_p)
{
    enum { LIMIT_MS = 1000 };
    char mark[sizeof("GRADD_TOKEN=") + DMN_TOKEN_SIZE];
    *n_p = 0;
    if (attempt->token[0] == '\0') {
        return ST_OK;
    }
    (void)snprintf(mark, sizeof(mark), "GRADD_TOKEN=%s", attempt->token);
    return dmn_marked_kill(mark, LIMIT_MS, n_p);
}
