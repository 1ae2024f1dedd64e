/* SPDX-License-Identifier: Apache-2.0 */
/*
 * session: one rank's training of one job, from its data to its last checkpoint. Knows neither gRPC nor MPI: the group
 * of ranks is passed in, telemetry goes out and commands come in through wrk_events_t.
 *
 * Owned handle; opened, run and closed on one thread, the same that uses the group. Every rank of the group calls the
 * same functions in the same order. An error of one rank is agreed on at the next exchange and returned on every rank,
 * with "rank 1: " in front and the code that rank had; after ST_ERR_COMM, ST_ERR_PEER or ST_ERR_TIMEOUT the group is
 * broken, and the caller ends the job (coll_group_abort).
 *
 * Note [The bits don't depend on the layout]: the microbatch is the unit of work. Its samples are a function of (seed,
 * step, microbatch), its random numbers of (seed, step, microbatch, layer), its gradient goes into a slot of
 * coll_tree, whose sum runs along one fixed tree, and what else it leaves (loss, hits, batch statistics) travels in one
 * record, applied in microbatch order by every rank. After the exchange each rank does the same arithmetic on the same
 * numbers. So the parameters are a function of the job (and of the numerics fingerprint), not of the number of ranks.
 */
#ifndef GRADD_WORKER_SESSION_H
#define GRADD_WORKER_SESSION_H

#include <stdbool.h>
#include <stdint.h>

#include "collectives/group.h"
#include "proto/spec.h"
#include "worker/checkpoint.h"

/* What people may ask a running job for. Rank 0 takes it, puts it into the control word, and every rank acts on it at
 * the end of the same step. */
typedef enum wrk_command {
    WRK_COMMAND_NONE,
    WRK_COMMAND_CHECKPOINT, /* save and go on */
    WRK_COMMAND_PAUSE,      /* save and leave */
    WRK_COMMAND_STOP        /* leave */
} wrk_command_t;

typedef enum wrk_outcome {
    WRK_OUTCOME_SUCCEEDED,
    WRK_OUTCOME_PAUSED,
    WRK_OUTCOME_CANCELLED,
    WRK_OUTCOME_FAILED
} wrk_outcome_t;

/* One value of a curve. name is a string constant. */
typedef struct wrk_point {
    const char *name;
    int64_t step;
    double value;
    int64_t unix_ns;
} wrk_point_t;

/* Called on the session's thread; each may be NULL, and must be quick and not fail. On ranks other than 0 only
 * progress is called. points and progress must not allocate. */
typedef struct wrk_events {
    void *arg;
    /* step: steps finished. phase: "starting" (until a step of this session is finished; step: where it begins),
     * "training", "evaluating", "checkpointing". */
    void (*progress)(void *arg, int64_t step, int64_t steps_total, const char *phase);
    void (*points)(void *arg, const wrk_point_t *points, int n);
    void (*checkpoints)(void *arg, const wrk_checkpoint_t *list, int n, const char *directory);
    void (*fingerprint)(void *arg, const char *fingerprint);
    void (*note)(void *arg, const char *text);
    void (*text)(void *arg, const char *text);
    /* The command that waits, which is then gone; rank 0 only. */
    wrk_command_t (*take_command)(void *arg);
} wrk_events_t;

typedef struct wrk_session_options {
    const char *directory; /* the job's folder; used by rank 0 only */
    int attempt;           /* ≥ 1, the fencing token of checkpoints */
    const char *host;      /* for messages; NULL: "localhost" */
    wrk_events_t events;
    int64_t last_step; /* tests: leave as if killed after so many steps in all, 0: never */
} wrk_session_options_t;

typedef struct wrk_result {
    wrk_outcome_t outcome;
    int64_t step; /* steps finished */
    char parameters_sha256[HASH_SHA256_HEX_SIZE];
} wrk_result_t;

typedef struct wrk_session wrk_session_t;

/*
 * Opens data, model and optimizer, and restores the newest checkpoint that is intact. job and options->directory are
 * borrowed until close. ST_ERR_STATE: the checkpoint was made under another numerics fingerprint and
 * checkpoint.allow_fingerprint_change is not set, or a newer attempt has begun.
 */
status_t wrk_session_open(const spec_job_t *job, coll_group_t *group, const wrk_session_options_t *options,
                          wrk_session_t **session_p);
/* Trains to the end, or until a command says otherwise. *result_p is set on success; on failure its step alone. */
status_t wrk_session_run(wrk_session_t *session, wrk_result_t *result_p);
/* NULL is fine. */
void wrk_session_close(wrk_session_t *session);

/* Whether trying again cannot help: bad data, a bad spec, numbers that diverge. */
bool wrk_status_is_permanent(status_t status);

/* For tests: steps finished. */
int64_t wrk_session_step(const wrk_session_t *session);

#endif
