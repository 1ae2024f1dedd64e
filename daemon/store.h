/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store: the daemon's memory on disk, one SQLite file. store*.c are the only users of SQLite.
 *
 * Every function that changes something is one transaction, and durable (WAL, synchronous=FULL) when it returns ST_OK;
 * after a failure nothing of it is there. Beside the file lies PATH-reserve, 4 MiB of the disk: on a full one
 * dmn_store_job_save, _attempt_goodbye and _attempt_end take from it, so that a job can be cancelled and its end is
 * kept (some hundred such changes); everything else is ST_ERR_NOSPACE until the reserve is whole again. Owned handle;
 * thread-safe (one connection behind a mutex). Texts and arrays handed out belong to the caller, released by the
 * matching …_release.
 *
 * Tables: jobs (one row a job: what was submitted, and the state machine's columns), attempts (who its shim is, how it
 * ended), events (number 1, 2, 3 … without gaps over all jobs), metrics (primary key job, step, name; storing a point
 * again replaces it), last_metrics (of each name the value at the highest step), checkpoints (those that are kept),
 * ranks (of the latest attempt). Times are Unix nanoseconds.
 */
#ifndef GRADD_DAEMON_STORE_H
#define GRADD_DAEMON_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "daemon/process.h"

enum { DMN_TOKEN_SIZE = 65, DMN_MAX_REASON = 4096 };

typedef struct dmn_store dmn_store_t;

/* States are those of gradd.proto, by number. */
typedef enum dmn_state {
    DMN_STATE_NONE = 0,
    DMN_STATE_QUEUED = 1,
    DMN_STATE_STARTING = 2,
    DMN_STATE_RUNNING = 3,
    DMN_STATE_PAUSING = 4,
    DMN_STATE_PAUSED = 5,
    DMN_STATE_RESTARTING = 6,
    DMN_STATE_CANCELLING = 7,
    DMN_STATE_SUCCEEDED = 8,
    DMN_STATE_FAILED = 9,
    DMN_STATE_CANCELLED = 10,
    DMN_STATE_COUNT = 11
} dmn_state_t;

/* One row of jobs. Embedded: {0}, dmn_job_release. */
typedef struct dmn_job {
    int64_t id;
    /* as submitted */
    char *name, *user, *yaml; /* yaml: only with DMN_JOB_ALL */
    uint8_t *spec;            /* packed JobSpec; only with DMN_JOB_ALL */
    size_t spec_size;
    int workers, slots;
    int64_t submitted_ns;
    /* the state machine's: dmn_store_job_save writes these */
    dmn_state_t state;
    char *reason;
    int attempt;
    int restarts;        /* shown: attempts after the first */
    int charged;         /* of them, those that count against restart.max; a resume sets it to 0 */
    bool is_forced;      /* cancelled without grace */
    int64_t queued_ns;   /* entered the queue: its order */
    int64_t retry_ns;    /* RESTARTING: not before */
    int64_t deadline_ns; /* PAUSING, CANCELLING: killed then */
    int64_t started_ns, first_step_ns, finished_ns;
    /* the workers': dmn_store_report and dmn_store_attempt_goodbye write these */
    int64_t step, steps_total;
    char *parameters_sha256, *fingerprint;
    char *text; /* only with DMN_JOB_ALL */
} dmn_job_t;

typedef enum dmn_job_part { DMN_JOB_ROW, DMN_JOB_ALL } dmn_job_part_t;

void dmn_job_release(dmn_job_t *job);
void dmn_jobs_release(dmn_job_t *jobs, int n);

/* How an attempt said that it ended; the numbers of Goodbye.Outcome, and none. */
typedef enum dmn_outcome {
    DMN_OUTCOME_NONE = -1,
    DMN_OUTCOME_SUCCEEDED = 0,
    DMN_OUTCOME_PAUSED = 1,
    DMN_OUTCOME_CANCELLED = 2,
    DMN_OUTCOME_FAILED = 3
} dmn_outcome_t;

typedef struct dmn_goodbye {
    dmn_outcome_t outcome;
    char *message; /* NULL: none */
    bool is_permanent;
    int64_t step;
    char *parameters_sha256; /* NULL: none */
} dmn_goodbye_t;
void dmn_goodbye_release(dmn_goodbye_t *goodbye);

typedef struct dmn_attempt {
    int number;
    char token[DMN_TOKEN_SIZE];
    int64_t pid; /* of its shim; 0: not known */
    uint64_t starttime;
    char boot_id[DMN_BOOT_ID_SIZE];
    int64_t started_ns, ended_ns; /* ended_ns 0: under way */
    dmn_goodbye_t goodbye;
} dmn_attempt_t;
void dmn_attempt_release(dmn_attempt_t *attempt);

typedef struct dmn_event {
    int64_t number, job_id, unix_ns, step;
    dmn_state_t state;
    int attempt;
    char *reason;
} dmn_event_t;
void dmn_events_release(dmn_event_t *events, int n);

typedef struct dmn_point {
    char *name;
    int64_t step, unix_ns;
    double value;
    int64_t sequence; /* set when read: grows with each point stored */
} dmn_point_t;
void dmn_points_release(dmn_point_t *points, int n);

typedef struct dmn_checkpoint {
    int64_t step, size_bytes, unix_ns;
    char *path, *parameters_sha256;
} dmn_checkpoint_t;
void dmn_checkpoints_release(dmn_checkpoint_t *checkpoints, int n);

typedef struct dmn_rank {
    int rank;
    char *host;
    int64_t pid;
} dmn_rank_t;
void dmn_ranks_release(dmn_rank_t *ranks, int n);

/* What a worker reports; texts borrowed. */
typedef struct dmn_report {
    int64_t job_id;
    bool has_progress;
    int64_t step, steps_total;
    const dmn_point_t *points;
    int n_points;
    const dmn_checkpoint_t *checkpoints; /* replaces the job's list when n_checkpoints > 0 */
    int n_checkpoints;
    const char *fingerprint, *text; /* NULL: unchanged */
} dmn_report_t;

/* Opens or makes the file and brings its schema up to date. ST_ERR_UNSUPPORTED when a newer gradd made it. */
status_t dmn_store_open(const char *path, dmn_store_t **store_p);
void dmn_store_close(dmn_store_t *store);

/* Number for a new job, above every one given before; not durable until dmn_store_job_add. */
int64_t dmn_store_id_reserve(dmn_store_t *store);
/* Inserts the row with its first event. */
status_t dmn_store_job_add(dmn_store_t *store, const dmn_job_t *job);
/* ST_ERR_NOT_FOUND: "no job 12". */
status_t dmn_store_job_get(dmn_store_t *store, int64_t id, dmn_job_part_t part, dmn_job_t *job_p);
/* Rows with id < before (0: all) in a state whose bit (1 << state) is set in states (0: all); highest ids first. */
status_t dmn_store_job_list(dmn_store_t *store, unsigned states, int64_t before, int limit, dmn_job_t **jobs_p,
                            int *n_p);
/* Writes the state machine's columns and one event with the job's state and this reason. */
status_t dmn_store_job_save(dmn_store_t *store, const dmn_job_t *job, const char *reason);
/* An event without a change of state. */
status_t dmn_store_job_note(dmn_store_t *store, const dmn_job_t *job, const char *text);
/* Another spec for the job, with its workers and slots. */
status_t dmn_store_job_respec(dmn_store_t *store, int64_t id, const uint8_t *spec, size_t spec_size, int workers,
                              int slots);

/* A row for a new attempt, replacing one of that number; forgets the ranks of earlier ones. */
status_t dmn_store_attempt_begin(dmn_store_t *store, int64_t job_id, const dmn_attempt_t *attempt);
status_t dmn_store_attempt_shim(dmn_store_t *store, int64_t job_id, const dmn_attempt_t *attempt);
/* Also sets the job's parameters_sha256 when there is one. */
status_t dmn_store_attempt_goodbye(dmn_store_t *store, int64_t job_id, int number, const dmn_goodbye_t *goodbye);
status_t dmn_store_attempt_end(dmn_store_t *store, int64_t job_id, int number, int code, int signal_number,
                               const char *reason);
status_t dmn_store_attempt_get(dmn_store_t *store, int64_t job_id, int number, dmn_attempt_t *attempt_p);

status_t dmn_store_rank_set(dmn_store_t *store, int64_t job_id, const dmn_rank_t *rank);
status_t dmn_store_ranks_get(dmn_store_t *store, int64_t job_id, dmn_rank_t **ranks_p, int *n_p);

/* Events above number `after`, in order, of one job (0: all jobs). */
status_t dmn_store_events_get(dmn_store_t *store, int64_t job_id, int64_t after, int limit, dmn_event_t **events_p,
                              int *n_p);

/* All of a report, at once. */
status_t dmn_store_report(dmn_store_t *store, const dmn_report_t *report);
/* Points in the order of (step, name), from step from_step and behind (step, name) of the last page; after_name NULL:
 * from the first name on. */
status_t dmn_store_points_get(dmn_store_t *store, int64_t job_id, int64_t from_step, const char *after_name, int limit,
                              dmn_point_t **points_p, int *n_p);
/* Points in the order in which they were stored, above a sequence number: for followers. */
status_t dmn_store_points_after(dmn_store_t *store, int64_t job_id, int64_t from_step, int64_t sequence, int limit,
                                dmn_point_t **points_p, int *n_p);
/* Number of the point stored last, over all jobs. */
int64_t dmn_store_points_sequence(dmn_store_t *store);
status_t dmn_store_last_points(dmn_store_t *store, int64_t job_id, dmn_point_t **points_p, int *n_p);
status_t dmn_store_checkpoints_get(dmn_store_t *store, int64_t job_id, dmn_checkpoint_t **checkpoints_p, int *n_p);

#endif
