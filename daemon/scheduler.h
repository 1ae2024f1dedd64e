/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scheduler: which job gets slots next. First in, first out: a job waits for all that entered the queue before it, also
 * when it would fit and they don't; so nothing starves. Knows numbers only. Embedded; the caller locks.
 */
#ifndef GRADD_DAEMON_SCHEDULER_H
#define GRADD_DAEMON_SCHEDULER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "base/strbuf.h"

typedef struct dmn_waiting {
    int64_t id;
    int64_t queued_ns; /* order, then id */
    int slots;
} dmn_waiting_t;

typedef struct dmn_scheduler {
    int n_slots;
    int n_used;
    dmn_waiting_t *queue;
    int n_queued, capacity;
} dmn_scheduler_t;

void dmn_scheduler_init(dmn_scheduler_t *scheduler, int n_slots);
void dmn_scheduler_release(dmn_scheduler_t *scheduler);

/* Whether so many slots can ever be had; ST_ERR_INVAL: "needs 4 slots (4 workers × 1 thread); this daemon has 2". */
status_t dmn_scheduler_check(const dmn_scheduler_t *scheduler, int workers, int slots);
status_t dmn_scheduler_enqueue(dmn_scheduler_t *scheduler, int64_t id, int64_t queued_ns, int slots);
/* False when it wasn't queued. */
bool dmn_scheduler_remove(dmn_scheduler_t *scheduler, int64_t id);
/* The job at the head, when it fits now; it stays queued. */
bool dmn_scheduler_next(const dmn_scheduler_t *scheduler, int64_t *id_p);
void dmn_scheduler_take(dmn_scheduler_t *scheduler, int slots);
void dmn_scheduler_give(dmn_scheduler_t *scheduler, int slots);
/* What a queued job waits for; nothing is appended when it isn't queued. */
void dmn_scheduler_explain(const dmn_scheduler_t *scheduler, int64_t id, strbuf_t *text);

#endif
