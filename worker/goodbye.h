/* SPDX-License-Identifier: Apache-2.0 */
/*
 * goodbye: the last word of an attempt as a file, <job directory>/attempts/<n>/goodbye.json, for a daemon that was down
 * when the attempt ended:
 *   {"outcome": "succeeded" | "paused" | "cancelled" | "failed", "message": "…", "is_permanent": false, "rank": 0,
 *    "step": 2000, "parameters_sha256": "…"}
 * parameters_sha256 is absent when it isn't known. It is written, and durable, before the Goodbye message is sent.
 */
#ifndef GRADD_WORKER_GOODBYE_H
#define GRADD_WORKER_GOODBYE_H

#include "worker/attach.h"

/* Rank 0's word stands whoever wrote before; another rank's is kept only when there is none yet (ST_OK all the same).
 */
status_t wrk_goodbye_write(const char *directory, int attempt, int rank, const wrk_goodbye_t *goodbye);
/* "succeeded", … */
const char *wrk_outcome_name(wrk_outcome_t outcome);

#endif
