/* SPDX-License-Identifier: Apache-2.0 */
/* process: identities and trees of processes from /proc. */
#include "daemon/process.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"

/* Reads at most size - 1 bytes of a /proc file; -1 when it can't be read. */
static ssize_t proc_read(const char *path, char *text, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return -1;
    }
    size_t length = 0;
    while (length < size - 1) {
        ssize_t n = read(fd, text + length, size - 1 - length);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            break;
        }
        length += (size_t)n;
    }
    (void)close(fd);
    text[length] = '\0';
    return (ssize_t)length;
}

status_t dmn_process_read(pid_t pid, dmn_process_t *process_p)
{
    char path[64];
    char text[1024];
    (void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    if (pid <= 0 || proc_read(path, text, sizeof(text)) <= 0) {
        return ST_FAIL(ST_ERR_NOT_FOUND, "no process %d", (int)pid);
    }
    /* The second field is the name in brackets and may hold anything: count from the last bracket. */
    const char *rest = strrchr(text, ')');
    char state = '?';
    int parent = 0;
    unsigned long long starttime = 0;
    if (rest == NULL ||
        sscanf(rest + 1, " %c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu", &state,
               &parent, &starttime) != 3) {
        return ST_FAIL(ST_ERR_PARSE, "%s has an unknown form", path);
    }
    *process_p = (dmn_process_t){.pid = pid, .parent = (pid_t)parent, .state = state, .starttime = (uint64_t)starttime};
    return ST_OK;
}

status_t dmn_boot_id(char boot_id_p[DMN_BOOT_ID_SIZE])
{
    char text[DMN_BOOT_ID_SIZE];
    if (proc_read("/proc/sys/kernel/random/boot_id", text, sizeof(text)) <= 0) {
        return ST_FAIL(ST_ERR_IO, "reading /proc/sys/kernel/random/boot_id: %s", strerror(errno));
    }
    text[strcspn(text, "\n")] = '\0';
    memcpy(boot_id_p, text, sizeof(text));
    return ST_OK;
}

bool dmn_process_is_alive(pid_t pid, uint64_t starttime)
{
    dmn_process_t process;
    if (dmn_process_read(pid, &process) != ST_OK) {
        return false;
    }
    return process.state != 'Z' && process.state != 'X' && (starttime == 0 || process.starttime == starttime);
}

static int process_compare(const void *a, const void *b)
{
    const dmn_process_t *x = a;
    const dmn_process_t *y = b;
    return (x->pid > y->pid) - (x->pid < y->pid);
}

static int processes_list(dmn_process_t **list_p)
{
    DIR *dir = opendir("/proc");
    if (dir == NULL) {
        return 0;
    }
    dmn_process_t *list = NULL;
    int n = 0;
    int capacity = 0;
    for (struct dirent *entry = readdir(dir); entry != NULL && n < DMN_MAX_TREE; entry = readdir(dir)) {
        if (!isdigit((unsigned char)entry->d_name[0])) {
            continue;
        }
        if (n == capacity) {
            capacity = capacity == 0 ? 256 : 2 * capacity;
            dmn_process_t *grown = mem_realloc(list, (size_t)capacity * sizeof(*list));
            if (grown == NULL) {
                break;
            }
            list = grown;
        }
        if (dmn_process_read((pid_t)atoi(entry->d_name), &list[n]) == ST_OK) {
            n++;
        }
    }
    (void)closedir(dir);
    if (n > 0) {
        qsort(list, (size_t)n, sizeof(*list), process_compare);
    }
    *list_p = list;
    return n;
}

/* Whether root is above process in the list, which is sorted by pid. */
static bool process_is_below(const dmn_process_t *list, int n, const dmn_process_t *process, pid_t root)
{
    for (int depth = 0; depth < DMN_MAX_TREE && process != NULL; depth++) {
        if (process->parent == root) {
            return true;
        }
        dmn_process_t key = {.pid = process->parent};
        process = bsearch(&key, list, (size_t)n, sizeof(*list), process_compare);
    }
    return false;
}

int dmn_tree_signal(pid_t root, int signal_number)
{
    dmn_process_t *list = NULL;
    int n = processes_list(&list);
    int n_signalled = 0;
    for (int i = 0; i < n; i++) {
        if (list[i].state != 'Z' && list[i].state != 'X' && list[i].pid != root &&
            process_is_below(list, n, &list[i], root)) {
            n_signalled++;
            (void)kill(list[i].pid, signal_number);
        }
    }
    mem_free(list);
    return n_signalled;
}

static bool environment_has(pid_t pid, const char *entry, char *text, size_t size)
{
    char path[64];
    (void)snprintf(path, sizeof(path), "/proc/%d/environ", (int)pid);
    ssize_t length = proc_read(path, text, size);
    for (ssize_t at = 0; at < length; at += (ssize_t)strlen(text + at) + 1) {
        if (strcmp(text + at, entry) == 0) {
            return true;
        }
    }
    return false;
}

status_t dmn_marked_kill(const char *entry, int64_t limit_ms, int *n_p)
{
    enum { MAX_ENVIRONMENT = 256 * 1024, PERIOD_MS = 10 };
    char *text = mem_alloc(MAX_ENVIRONMENT);
    if (text == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "looking for processes");
    }
    int64_t end_ns = clock_now_ns() + limit_ms * CLOCK_NS_PER_MS;
    int n_first = -1;
    int n_found = 0;
    /* Until a round finds none: one may have forked while we looked. */
    do {
        dmn_process_t *list = NULL;
        int n = processes_list(&list);
        n_found = 0;
        for (int i = 0; i < n; i++) {
            if (list[i].pid != getpid() && list[i].state != 'Z' && list[i].state != 'X' &&
                environment_has(list[i].pid, entry, text, MAX_ENVIRONMENT)) {
                n_found++;
                (void)kill(list[i].pid, SIGKILL);
            }
        }
        mem_free(list);
        n_first = n_first < 0 ? n_found : n_first;
        if (n_found > 0) {
            clock_sleep_ms(PERIOD_MS);
        }
    } while (n_found > 0 && clock_now_ns() < end_ns);
    mem_free(text);
    *n_p = n_first;
    return n_found == 0 ? ST_OK : ST_FAIL(ST_ERR_TIMEOUT, "%d processes don't end", n_found);
}
