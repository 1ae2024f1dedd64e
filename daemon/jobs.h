/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jobs: the state machine. Every change of state goes through dmn_job_change, which knows the table of transitions and
 * writes the change with its event; dmn_job_decide says what the end of an attempt means.
 *
 *   QUEUED → STARTING → RUNNING → SUCCEEDED | FAILED
 *              ↑ ↓        ↓ ↑
 *            RESTARTING ←─┘ └(next attempt is STARTING again)
 *   STARTING, RUNNING → PAUSING → PAUSED → QUEUED (resume)
 *   QUEUED, PAUSED, RESTARTING → CANCELLED;  STARTING, RUNNING, PAUSING → CANCELLING → CANCELLED
 *   SUCCEEDED, FAILED and CANCELLED are final; only a resume by the user takes FAILED and CANCELLED back to QUEUED.
 */
#ifndef GRADD_DAEMON_JOBS_H
#define GRADD_DAEMON_JOBS_H

#include "base/strbuf.h"
#include "daemon/store.h"

/* "QUEUED", …; "?" for numbers that are no state. */
const char *dmn_state_name(dmn_state_t state);
/* SUCCEEDED, FAILED, CANCELLED. */
bool dmn_state_is_final(dmn_state_t state);
/* An attempt's processes may exist. */
bool dmn_state_is_live(dmn_state_t state);
bool dmn_state_can_become(dmn_state_t from, dmn_state_t to);

/*
 * Moves the job on and stores it with one event, durably; on failure *job is as before. Same state: a note (the event
 * has the text, job->reason stays). Other columns of the state machine that the caller has set are stored too.
 * ST_ERR_STATE when the table has no such transition.
 */
status_t dmn_job_change(dmn_store_t *store, dmn_job_t *job, dmn_state_t state, const char *reason);
/* Stores an event that tells of the job and changes nothing: what workers say, which a full disk doesn't take. */
status_t dmn_job_note(dmn_store_t *store, const dmn_job_t *job, const char *text);

/* How an attempt ended, as far as it is known. */
typedef struct dmn_ending {
    dmn_state_t state; /* of the job before */
    bool has_exit;     /* the shim's exit.json was there; false: shim lost */
    int code, signal_number;
    const char *error;            /* the launcher could not be started; NULL or "": no */
    const dmn_goodbye_t *goodbye; /* outcome NONE: no word */
    const char *kill_reason;      /* why the daemon killed it; NULL: it didn't */
    bool is_grace_over;           /* killed because it did not leave in time */
    bool is_forced;               /* cancelled without grace */
    int charged, max_restarts;    /* restarts counted so far */
    int64_t checkpoint_step;      /* newest one; -1: none */
} dmn_ending_t;

typedef struct dmn_verdict {
    dmn_state_t state; /* SUCCEEDED, FAILED, CANCELLED, PAUSED or RESTARTING */
    bool is_charged;   /* RESTARTING: counts against restart.max */
} dmn_verdict_t;

/* What follows; appends the reason. Pure. */
dmn_verdict_t dmn_job_decide(const dmn_ending_t *ending, strbuf_t *reason);

/* backoff_ms doubled n times, at most 5 min. */
int64_t dmn_job_backoff_ms(int64_t backoff_ms, int n);

#endif
