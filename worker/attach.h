/* SPDX-License-Identifier: Apache-2.0 */
/*
 * attach: a rank's connection to the daemon, on threads of its own: gets the job, sends telemetry, receives commands.
 *
 * It reconnects with backoff for as long as it is open, so that a daemon may be restarted without the training
 * noticing. The protocol is described at WorkerMessage in proto/gradd.proto.
 *
 * Owned handle. The functions are called on the session's thread.
 */
#ifndef GRADD_WORKER_ATTACH_H
#define GRADD_WORKER_ATTACH_H

#include "worker/session.h"

typedef struct wrk_attach wrk_attach_t;

typedef struct wrk_attach_options {
    const char *address; /* copied, like the other texts */
    const char *job_id;
    const char *token;
    const char *host;
    int attempt;
    int rank;
    int64_t batch_ms;       /* between messages; 0: 100 on rank 0, 1000 on others */
    int64_t heartbeat_ms;   /* a message at least so often; 0: 2000 */
    int64_t acknowledge_ms; /* without an acknowledgement for so long the connection counts as dead; 0: 30000 */
    int64_t max_backoff_ms; /* 0: 2000; the first is 50 */
    /* The daemon says that this attempt is not to run (stale attempt, bad token). Called once, on the attach's own
     * thread; a worker ends its process there. */
    void (*refused)(void *arg, const char *reason);
    void *arg;
} wrk_attach_options_t;

typedef struct wrk_goodbye {
    wrk_outcome_t outcome;
    const char *message; /* "" for none */
    bool is_permanent;
    int64_t step;
    const char *parameters_sha256; /* "" for none */
} wrk_goodbye_t;

/* Starts connecting at once and returns. */
status_t wrk_attach_open(const wrk_attach_options_t *options, wrk_attach_t **attach_p);
/* Cancels what is under way. NULL is fine. */
void wrk_attach_close(wrk_attach_t *attach);

/* Waits for the welcome. *job_p: spec_job_free; *directory_p: mem_free. ST_ERR_TIMEOUT says what the last try to
 * connect ended with. Once. */
status_t wrk_attach_wait_job(wrk_attach_t *attach, int64_t timeout_ms, spec_job_t **job_p, char **directory_p);

/* Callbacks for a session that feed this connection; valid until close. */
wrk_events_t wrk_attach_events(wrk_attach_t *attach);

/* Sends all telemetry that waits, then the goodbye; keeps trying (over reconnects too) until the daemon has confirmed
 * it or timeout_ms is over: ST_ERR_TIMEOUT. */
status_t wrk_attach_goodbye(wrk_attach_t *attach, const wrk_goodbye_t *goodbye, int64_t timeout_ms);

/* Connections made so far, for tests. */
int wrk_attach_n_connections(wrk_attach_t *attach);

#endif
