/* SPDX-License-Identifier: Apache-2.0 */
/*
 * process: who a process is, by /proc. A pid alone is reused; {pid, start time, boot id} is not. Used by gradd and
 * grad-shim; stateless.
 */
#ifndef GRADD_DAEMON_PROCESS_H
#define GRADD_DAEMON_PROCESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/status.h"

enum { DMN_BOOT_ID_SIZE = 40, DMN_MAX_TREE = 65536 };

typedef struct dmn_process {
    pid_t pid;
    pid_t parent;
    char state;         /* 'R', 'S', … 'Z' is a zombie */
    uint64_t starttime; /* clock ticks since boot */
} dmn_process_t;

/* ST_ERR_NOT_FOUND when there is no such process. */
status_t dmn_process_read(pid_t pid, dmn_process_t *process_p);
/* The kernel's boot id. */
status_t dmn_boot_id(char boot_id_p[DMN_BOOT_ID_SIZE]);
/* Alive, not a zombie, and started at starttime (0: any). */
bool dmn_process_is_alive(pid_t pid, uint64_t starttime);
/* Signals every process below root that still runs, but not root itself, and returns how many there were. Zombies are
 * not counted. Sees children that were re-parented to root when root is a subreaper. */
int dmn_tree_signal(pid_t root, int signal_number);
/*
 * Kills (SIGKILL) every process whose environment holds the entry "name=value", but not this process, and waits until
 * none is left, for at most limit_ms: ST_ERR_TIMEOUT. *n_p: how many were seen first. Only processes of this user can
 * be seen. For what is left of an attempt whose shim is gone.
 */
status_t dmn_marked_kill(const char *entry, int64_t limit_ms, int *n_p);

#endif
