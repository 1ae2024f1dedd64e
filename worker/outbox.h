/* SPDX-License-Identifier: Apache-2.0 */
/*
 * outbox: a rank's telemetry between the session, which puts it in, and the attach thread, which takes messages out.
 *
 * Messages (Telemetry of proto/gradd.proto) are numbered from 1 and kept until the daemon acknowledges their number.
 * After a lost connection the same numbers go out again with the same points, notes and text; step, phase, fingerprint
 * and checkpoints in them are the newest. At most WRK_OUTBOX_IN_FLIGHT messages are unacknowledged at a time: what
 * comes meanwhile waits as points, of which the oldest are dropped beyond WRK_OUTBOX_POINTS.
 *
 * Owned handle; thread-safe. Putting points and progress in allocates nothing.
 */
#ifndef GRADD_WORKER_OUTBOX_H
#define GRADD_WORKER_OUTBOX_H

#include "gradd.pb-c.h"
#include "worker/session.h"

enum { WRK_OUTBOX_POINTS = 100000, WRK_OUTBOX_IN_FLIGHT = 32, WRK_OUTBOX_MESSAGE_POINTS = 512, WRK_OUTBOX_NOTES = 64 };

typedef struct wrk_outbox wrk_outbox_t;

status_t wrk_outbox_open(wrk_outbox_t **outbox_p);
/* NULL is fine. */
void wrk_outbox_close(wrk_outbox_t *outbox);

/* Each returns whether it is worth sending at once: the first step, a note, a checkpoint, a text. */
bool wrk_outbox_progress(wrk_outbox_t *outbox, int64_t step, int64_t steps_total, const char *phase);
bool wrk_outbox_points(wrk_outbox_t *outbox, const wrk_point_t *points, int n);
bool wrk_outbox_checkpoints(wrk_outbox_t *outbox, const wrk_checkpoint_t *list, int n, const char *directory);
bool wrk_outbox_fingerprint(wrk_outbox_t *outbox, const char *fingerprint);
/* Notes beyond WRK_OUTBOX_NOTES that wait are dropped; texts are cut at 256 KiB. */
bool wrk_outbox_note(wrk_outbox_t *outbox, const char *text);
bool wrk_outbox_text(wrk_outbox_t *outbox, const char *text);
/* Makes a message due though nothing changed: a heartbeat. */
void wrk_outbox_touch(wrk_outbox_t *outbox);

/*
 * The next message to send; NULL when there is none now. Borrowed until the next call; one thread calls it.
 * Points: name, step, value, unix_ns are all set.
 */
const Gradd__V1__Telemetry *wrk_outbox_next(wrk_outbox_t *outbox);
/* Everything up to this number is stored. */
void wrk_outbox_acknowledge(wrk_outbox_t *outbox, int64_t sequence);
/* The connection was lost: what is not acknowledged goes out again. */
void wrk_outbox_rewind(wrk_outbox_t *outbox);
/* Nothing waits and everything is acknowledged. */
bool wrk_outbox_is_drained(wrk_outbox_t *outbox);
/* Number of messages sent on this connection and not acknowledged. */
int wrk_outbox_n_unacknowledged(wrk_outbox_t *outbox);
int64_t wrk_outbox_n_dropped(wrk_outbox_t *outbox);

#endif
