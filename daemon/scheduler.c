/* SPDX-License-Identifier: Apache-2.0 */
/* scheduler: FIFO over slots. */
#include "daemon/scheduler.h"

#include <inttypes.h>
#include <string.h>

#include "base/assert.h"
#include "base/mem.h"

void dmn_scheduler_init(dmn_scheduler_t *scheduler, int n_slots)
{
    *scheduler = (dmn_scheduler_t){.n_slots = n_slots};
}

void dmn_scheduler_release(dmn_scheduler_t *scheduler)
{
    mem_free(scheduler->queue);
    *scheduler = (dmn_scheduler_t){0};
}

static const char *plural(int n)
{
    return n == 1 ? "" : "s";
}

status_t dmn_scheduler_check(const dmn_scheduler_t *scheduler, int workers, int slots)
{
    if (slots <= scheduler->n_slots) {
        return ST_OK;
    }
    int threads = workers > 0 ? slots / workers : 0;
    return ST_FAIL(ST_ERR_INVAL, "needs %d slot%s (%d worker%s × %d thread%s); this daemon has %d", slots,
                   plural(slots), workers, plural(workers), threads, plural(threads), scheduler->n_slots);
}

static bool waiting_is_before(const dmn_waiting_t *a, const dmn_waiting_t *b)
{
    return a->queued_ns != b->queued_ns ? a->queued_ns < b->queued_ns : a->id < b->id;
}

status_t dmn_scheduler_enqueue(dmn_scheduler_t *scheduler, int64_t id, int64_t queued_ns, int slots)
{
    if (scheduler->n_queued == scheduler->capacity) {
        int capacity = scheduler->capacity == 0 ? 16 : 2 * scheduler->capacity;
        dmn_waiting_t *grown = mem_realloc(scheduler->queue, (size_t)capacity * sizeof(*grown));
        if (grown == NULL) {
            return ST_FAIL(ST_ERR_NOMEM, "queue of %d jobs", capacity);
        }
        scheduler->queue = grown;
        scheduler->capacity = capacity;
    }
    dmn_waiting_t waiting = {.id = id, .queued_ns = queued_ns, .slots = slots};
    int at = scheduler->n_queued;
    while (at > 0 && waiting_is_before(&waiting, &scheduler->queue[at - 1])) {
        at--;
    }
    memmove(&scheduler->queue[at + 1], &scheduler->queue[at],
            (size_t)(scheduler->n_queued - at) * sizeof(*scheduler->queue));
    scheduler->queue[at] = waiting;
    scheduler->n_queued++;
    return ST_OK;
}

static int waiting_find(const dmn_scheduler_t *scheduler, int64_t id)
{
    for (int i = 0; i < scheduler->n_queued; i++) {
        if (scheduler->queue[i].id == id) {
            return i;
        }
    }
    return -1;
}

bool dmn_scheduler_remove(dmn_scheduler_t *scheduler, int64_t id)
{
    int at = waiting_find(scheduler, id);
    if (at < 0) {
        return false;
    }
    scheduler->n_queued--;
    memmove(&scheduler->queue[at], &scheduler->queue[at + 1],
            (size_t)(scheduler->n_queued - at) * sizeof(*scheduler->queue));
    return true;
}

/* The head of the queue: the first job that fits an empty daemon. Others (of a time with more slots) hold nobody up. */
static int head_find(const dmn_scheduler_t *scheduler)
{
    int at = 0;
    while (at < scheduler->n_queued && scheduler->queue[at].slots > scheduler->n_slots) {
        at++;
    }
    return at;
}

bool dmn_scheduler_next(const dmn_scheduler_t *scheduler, int64_t *id_p)
{
    int at = head_find(scheduler);
    if (at == scheduler->n_queued || scheduler->queue[at].slots > scheduler->n_slots - scheduler->n_used) {
        return false;
    }
    *id_p = scheduler->queue[at].id;
    return true;
}

void dmn_scheduler_take(dmn_scheduler_t *scheduler, int slots)
{
    scheduler->n_used += slots;
}

void dmn_scheduler_give(dmn_scheduler_t *scheduler, int slots)
{
    scheduler->n_used -= slots;
    ASSERT(scheduler->n_used >= 0);
}

void dmn_scheduler_explain(const dmn_scheduler_t *scheduler, int64_t id, strbuf_t *text)
{
    int at = waiting_find(scheduler, id);
    if (at < 0) {
        return;
    }
    int slots = scheduler->queue[at].slots;
    if (slots > scheduler->n_slots) {
        strbuf_appendf(text, "needs %d slots; this daemon has %d (start gradd with --slots %d)", slots,
                       scheduler->n_slots, slots);
        return;
    }
    const dmn_waiting_t *head = &scheduler->queue[head_find(scheduler)];
    int n_before = 0;
    for (int i = 0; i < at; i++) {
        n_before += scheduler->queue[i].slots <= scheduler->n_slots ? 1 : 0;
    }
    if (n_before > 0) {
        strbuf_appendf(text, "waits behind %d job%s; job %" PRId64 " is next and ", n_before, plural(n_before),
                       head->id);
    }
    int n_free = scheduler->n_slots - scheduler->n_used;
    strbuf_appendf(text, "waits for %d slot%s: %d of %d free", head->slots, plural(head->slots),
                   n_free > 0 ? n_free : 0, scheduler->n_slots);
}
