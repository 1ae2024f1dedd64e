/* SPDX-License-Identifier: Apache-2.0 */
/*
 * launch: starts an attempt: grad-shim → mpirun → one grad-worker a rank. Stateless.
 *
 * The workers' environment has GRADD_ADDRESS, GRADD_JOB, GRADD_ATTEMPT, GRADD_TOKEN (the attempt's secret; also the
 * mark by which its processes are found in /proc), GRADD_JOB_DIR, GRADD_LOG_DIR, OMP_NUM_THREADS, GOMP_SPINCOUNT;
 * variables of an Open MPI or Slurm step that gradd itself may run in are taken out.
 *
 * Note [A launcher for tests]: the environment variable GRADD_LAUNCHER (or dmn_options_t.launcher) names a program that
 * is run instead of mpirun, with mpirun's arguments. Tests script whole attempts with it; it is also the way to a
 * wrapper around mpirun.
 */
#ifndef GRADD_DAEMON_LAUNCH_H
#define GRADD_DAEMON_LAUNCH_H

#include <sys/types.h>

#include "daemon/store.h"

typedef struct dmn_launch {
    const char *program_folder; /* where grad-shim and grad-worker are */
    const char *launcher;       /* "mpirun", or the tests' */
    const char *address;        /* of gradd, for the workers */
    const char *job_folder;     /* absolute */
    const dmn_attempt_t *attempt;
    int64_t job_id;
    int workers, threads;
    int64_t grace_ms;
} dmn_launch_t;

/* A random token in hex. */
status_t dmn_token_make(char token_p[DMN_TOKEN_SIZE]);
/* "<job folder>/attempts/<number>"; mem_free. NULL when memory is out. */
char *dmn_attempt_folder(const char *job_folder, int number);
/* Makes the attempt's folder and starts its shim. The caller reaps *pid_p. ST_ERR_NOT_FOUND: a program is missing, and
 * trying again can't help. */
status_t dmn_launch(const dmn_launch_t *launch, pid_t *pid_p);
/* Removes what an attempt leaves outside and inside of its folder: shared memory segments, Open MPI's session folder.
 */
void dmn_launch_clean(const char *job_folder, const dmn_attempt_t *attempt);
/* SIGKILLs what is left of an attempt, by the token in the processes' environment: see dmn_marked_kill. */
status_t dmn_launch_kill_strays(const dmn_attempt_t *attempt, int *n_p);

/* What the shim recorded. ST_ERR_NOT_FOUND when there is no such file (yet). */
status_t dmn_shim_read(const char *job_folder, dmn_attempt_t *attempt_p);
typedef struct dmn_exit {
    int code, signal_number, n_strays;
    char error[512];
} dmn_exit_t;
status_t dmn_exit_read(const char *job_folder, int number, dmn_exit_t *exit_p);
/* What the workers left in goodbye.json. */
status_t dmn_goodbye_read(const char *job_folder, int number, dmn_goodbye_t *goodbye_p);

#endif
