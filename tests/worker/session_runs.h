/* SPDX-License-Identifier: Apache-2.0 */
/* session_runs: small jobs on synthetic data, run on loopback ranks that are threads of the test. */
#ifndef GRADD_TESTS_WORKER_SESSION_RUNS_H
#define GRADD_TESTS_WORKER_SESSION_RUNS_H

#include "tests/support/job_text.h"
#include "worker/session.h"

enum { RUN_MAX_RANKS = 8, RUN_MAX_POINTS = 4096, RUN_MAX_NOTES = 8, RUN_MAX_STEPS = 64 };

/* Models of the tests, as YAML lists of layers. */
extern const char MODEL_MLP[];
extern const char MODEL_CNN[]; /* batch norm and dropout */
extern const char MODEL_GPT[]; /* text data */
extern const char MODEL_LLAMA[];
extern const char MODEL_LSTM[]; /* text data, dropout between layers */

/* What a run is told, and what it told. */
typedef struct run {
    /* in */
    const char *directory;       /* NULL: "job" in the test's folder */
    int attempt;                 /* 0: 1 */
    int64_t last_step;           /* leave as if killed */
    int64_t command_step;        /* from this step on … */
    wrk_command_t command;       /* … this command waits, once */
    int64_t (*heap_count)(void); /* calls of the heap until now; may be NULL */
    /* out */
    status_t status; /* rank 0's */
    char message[1024];
    status_t other_status; /* of the highest rank */
    wrk_result_t result;
    wrk_result_t other_result;
    wrk_point_t points[RUN_MAX_POINTS];
    int n_points;
    char notes[RUN_MAX_NOTES][1024];
    int n_notes;
    wrk_checkpoint_t checkpoints[WRK_MAX_CHECKPOINTS];
    int n_checkpoints;
    char fingerprint[WRK_MAX_FINGERPRINT];
    char text[4096];
    int64_t steps_total;
    int64_t heap_at[RUN_MAX_STEPS]; /* heap_count() when step i was finished */
} run_t;

/* Makes the data files once a test and parses a job: seed 7, 12 steps of 12 samples in `microbatches`, adamw,
 * checkpoint and evaluation every 5 steps, validation data. set: pairs "path=value", NULL-terminated, may be NULL. */
spec_job_t *run_job(const char *model, int microbatches, const char *const *set);
/* Runs the job on n_ranks threads to its end. */
void run_ranks(const spec_job_t *job, int n_ranks, run_t *run);
/* The same, expected to succeed. */
void run_ok(const spec_job_t *job, int n_ranks, run_t *run);
/* The same on n_ranks[0], n_ranks[1], … ranks (0 ends them), each from an empty folder and of the same bits:
 * parameters, and validation_loss at the end. run: the first one. */
void run_layouts(const spec_job_t *job, const int *n_ranks, run_t *run);
/* The folder that runs use when they name none is made empty again. */
void run_folder_clear(void);
/* Value of the curve at the step; fails the test when there is none. */
double run_point(const run_t *run, const char *name, int64_t step);
/* path below the job's folder. */
const char *run_path(const char *name);

#endif
