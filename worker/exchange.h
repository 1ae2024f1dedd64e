/* SPDX-License-Identifier: Apache-2.0 */
/*
 * exchange: one small message among all ranks: each rank's error or none, rank 0's control word, and a record for each
 * microbatch, of which every rank afterwards has all, in microbatch order.
 *
 * Owned handle; used on the group's thread. Its buffers are made at open: running allocates nothing.
 */
#ifndef GRADD_WORKER_EXCHANGE_H
#define GRADD_WORKER_EXCHANGE_H

#include <stdint.h>

#include "collectives/group.h"

enum { WRK_EXCHANGE_MESSAGE = 480 };

typedef struct wrk_exchange wrk_exchange_t;

/* n_records are dealt to the ranks as coll_share says; 0: the message carries errors and the word alone.
 * record_bytes: rounded up to 8. */
status_t wrk_exchange_open(coll_group_t *group, int64_t n_records, int64_t record_bytes, wrk_exchange_t **exchange_p);
/* NULL is fine. */
void wrk_exchange_close(wrk_exchange_t *exchange);

/* Where this rank writes the record of its i-th microbatch before a run; 8-byte aligned. */
void *wrk_exchange_own(wrk_exchange_t *exchange, int64_t i);
/*
 * Collective. own: how this rank's part went, with its message recorded as by ST_FAIL. word, step: rank 0's word is
 * handed out through word_p (may be NULL); steps are compared. Returns on every rank alike: ST_OK, or the error of the
 * lowest rank that has one, "rank N: " before its message (without it when all ranks say the same). An own error
 * that says that the group is broken is returned at once.
 */
status_t wrk_exchange_run(wrk_exchange_t *exchange, status_t own, uint32_t word, int64_t step, uint32_t *word_p);
/* Record of microbatch m, after a run that returned ST_OK. */
const void *wrk_exchange_get(const wrk_exchange_t *exchange, int64_t m);

/* The same for an error alone, once. */
status_t wrk_agree(coll_group_t *group, status_t own);

#endif
