/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fake: a gradd.v1.Gradd service with made-up jobs, in the test's process, and gradctl run against it.
 * Jobs: 7 succeeded, 8 failed, 9 runs (it succeeds once fake_finish was called), others don't exist.
 */
#ifndef GRADD_TESTS_CTL_FAKE_H
#define GRADD_TESTS_CTL_FAKE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <sys/types.h>

#include "proto/rpc.h"

enum { FAKE_TEXT_BYTES = 512 * 1024 };

typedef struct fake {
    rpc_server_t *server;
    char address[128];
    atomic_bool is_finished; /* job 9 */
    atomic_int step;         /* of job 9; 0: 40 */
    atomic_int n_watchers;   /* streams that have sent what they had */
    bool is_unnamed;         /* gradctl isn't told the address */
    char submission[4096];   /* the last one, as text */
    char request[256];       /* the last Pause, Resume, Cancel, List, Logs or Metrics */
} fake_t;

extern fake_t fake;

void fake_start(void);
/* Closes the server; fake_start serves at the same address again. */
void fake_stop(void);

/* What a run of gradctl gave. */
typedef struct run {
    pid_t pid;
    int out_fd, err_fd;
    int code; /* 128 + signal when killed */
    char out[FAKE_TEXT_BYTES], err[FAKE_TEXT_BYTES];
} run_t;

/* Starts gradctl with arguments up to NULL; stdout is a pipe, or a terminal. GRADD_ADDRESS is the fake's. */
void run_start(run_t *run, bool is_terminal, const char *const *arguments);
/* Reads stdout until it contains text. */
void run_expect(run_t *run, const char *text);
/* Waits for its end. */
void run_finish(run_t *run);
/* All of that, for gradctl's arguments. */
#define RUN(run_x, ...)                                                                                                \
    do {                                                                                                               \
        run_start((run_x), false, (const char *const[]){__VA_ARGS__, NULL});                                           \
        run_finish(run_x);                                                                                             \
    } while (0)

#endif
