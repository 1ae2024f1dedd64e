/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loopback: ranks are threads of one process that read and write one another's buffers.
 *
 * Note [A loopback collective]
 * Every rank publishes its arguments in its own slot of the world, then all meet (meet_begin). Each rank checks that
 * the others made the same call, does its share of the copying, and all meet again (meet_end), after which the buffers
 * are their owners' again. Only the first meeting has a deadline and can fail: behind it every rank is inside the
 * call, so the second one is certain, and no rank returns while another still reads its buffers.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/assert.h"
#include "base/mem.h"
#include "collectives/backend.h"

/* How often a rank yields its core before it sleeps on the condition variable. */
enum { N_YIELDS = 100, REDUCE_BLOCK_BYTES = 16384 };

static const int64_t DEFAULT_TIMEOUT_MS = INT64_C(10) * 60 * 1000;

typedef struct loopback_args {
    const char *call; /* a string literal; compared by content */
    const void *in;
    void *out;
    const int64_t *sizes, *offsets; /* allgatherv: sizes expected; alltoallv: of what is given to each rank */
    const int64_t *expected;        /* alltoallv: sizes expected from each rank */
    int64_t size_bytes;             /* must agree, unless is_ragged */
    int what;                       /* must agree: dtype, op or root */
    bool is_ragged;
} loopback_args_t;

typedef struct loopback_message {
    struct loopback_message *next;
    const void *buffer;
    int64_t size_bytes;
    int64_t wanted_bytes; /* what the receiver expected, where that differs */
    int from, to, tag;
    enum { MESSAGE_WAITS, MESSAGE_TAKEN, MESSAGE_DONE, MESSAGE_REFUSED } state;
} loopback_message_t;

typedef struct loopback_rank {
    _Alignas(64) loopback_args_t args;
    int64_t n_arrived; /* meetings this rank came to; under lock */
    bool is_gone;      /* closed or aborted; under lock */
} loopback_rank_t;

typedef struct loopback_world {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    atomic_int_fast64_t n_meetings; /* finished ones */
    int n_waiting;
    int n_open;
    int size;
    bool is_broken;
    loopback_message_t *first; /* sends that wait for their receiver, oldest first */
    loopback_rank_t *rank;
} loopback_world_t;

typedef struct loopback_group {
    coll_group_t base;
    loopback_world_t *world;
} loopback_group_t;

static loopback_world_t *world_of(coll_group_t *group)
{
    return ((loopback_group_t *)group)->world;
}

static struct timespec deadline_after(int64_t timeout_ms)
{
    struct timespec deadline;
    (void)clock_gettime(CLOCK_MONOTONIC, &deadline);
    deadline.tv_sec += timeout_ms / 1000;
    deadline.tv_nsec += (timeout_ms % 1000) * 1000000;
    if (deadline.tv_nsec >= 1000000000) {
        deadline.tv_sec++;
        deadline.tv_nsec -= 1000000000;
    }
    return deadline;
}

/* Waits for a change of the world; false when the deadline has passed. Under lock. */
static bool world_wait(loopback_world_t *world, const struct timespec *deadline)
{
    if (deadline == NULL) {
        (void)pthread_cond_wait(&world->changed, &world->lock);
        return true;
    }
    return pthread_cond_timedwait(&world->changed, &world->lock, deadline) != ETIMEDOUT;
}

static void world_break(loopback_world_t *world)
{
    world->is_broken = true;
    (void)pthread_cond_broadcast(&world->changed);
}

/* The ranks that have not come to meeting `number`, "1, 3"; under lock. */
static void missing_format(const loopback_world_t *world, int64_t number, bool is_gone, char *text, size_t size)
{
    size_t length = 0;
    text[0] = '\0';
    for (int r = 0; r < world->size && length < size; r++) {
        if (world->rank[r].n_arrived < number && (!is_gone || world->rank[r].is_gone)) {
            length += (size_t)snprintf(text + length, size - length, "%s%d", length > 0 ? ", " : "", r);
        }
    }
}

/* Why this rank must not wait on; ST_OK when it may. Under lock. */
static status_t world_check(coll_group_t *group, int64_t number, const char *call)
{
    loopback_world_t *world = world_of(group);
    char missing[64];
    missing_format(world, number, true, missing, sizeof(missing));
    if (missing[0] != '\0') {
        world_break(world);
        return ST_FAIL(ST_ERR_PEER, "%s on rank %d: rank %s has left the group", call, group->rank, missing);
    }
    if (world->is_broken) {
        return ST_FAIL(ST_ERR_PEER, "%s on rank %d: the group was broken by a failure on another rank", call,
                       group->rank);
    }
    return ST_OK;
}

/* All ranks meet. `is_certain`: the others are known to come, so nothing can fail. */
static status_t world_meet(coll_group_t *group, const char *call, bool is_certain)
{
    loopback_world_t *world = world_of(group);
    (void)pthread_mutex_lock(&world->lock);
    int64_t number = ++world->rank[group->rank].n_arrived;
    status_t status = is_certain ? ST_OK : world_check(group, number, call);
    if (status != ST_OK) {
        (void)pthread_mutex_unlock(&world->lock);
        return status;
    }
    if (++world->n_waiting == world->size) {
        world->n_waiting = 0;
        atomic_store_explicit(&world->n_meetings, number, memory_order_release);
        (void)pthread_cond_broadcast(&world->changed);
        (void)pthread_mutex_unlock(&world->lock);
        return ST_OK;
    }
    (void)pthread_mutex_unlock(&world->lock);

    for (int i = 0; i < N_YIELDS; i++) {
        if (atomic_load_explicit(&world->n_meetings, memory_order_acquire) >= number) {
            return ST_OK;
        }
        (void)sched_yield();
    }

    bool has_deadline = !is_certain && group->timeout_ms > 0;
    struct timespec deadline = deadline_after(group->timeout_ms);
    (void)pthread_mutex_lock(&world->lock);
    while (atomic_load_explicit(&world->n_meetings, memory_order_relaxed) < number) {
        status = is_certain ? ST_OK : world_check(group, number, call);
        if (status != ST_OK) {
            break;
        }
        if (!world_wait(world, has_deadline ? &deadline : NULL) &&
            atomic_load_explicit(&world->n_meetings, memory_order_relaxed) < number) {
            char missing[64];
            missing_format(world, number, false, missing, sizeof(missing));
            status = ST_FAIL(ST_ERR_TIMEOUT, "%s on rank %d: rank %s did not come within %lld ms", call, group->rank,
                             missing, (long long)group->timeout_ms);
            world_break(world);
            break;
        }
    }
    (void)pthread_mutex_unlock(&world->lock);
    return status;
}

/* Publishes this rank's arguments, meets, and checks that all ranks make the same call. See
 * Note [A loopback collective]. On failure the call is over for this rank. */
static status_t meet_begin(coll_group_t *group, const loopback_args_t *args)
{
    loopback_world_t *world = world_of(group);
    world->rank[group->rank].args = *args;
    status_t status = world_meet(group, args->call, false);
    if (status != ST_OK) {
        return status;
    }
    for (int r = 0; r < world->size; r++) {
        const loopback_args_t *other = &world->rank[r].args;
        if (strcmp(other->call, args->call) != 0 || other->what != args->what ||
            (!args->is_ragged && other->size_bytes != args->size_bytes)) {
            (void)world_meet(group, args->call, true);
            return ST_FAIL(ST_ERR_COMM, "rank %d calls %s (%lld bytes, %d) while rank %d calls %s (%lld bytes, %d)",
                           group->rank, args->call, (long long)args->size_bytes, args->what, r, other->call,
                           (long long)other->size_bytes, other->what);
        }
    }
    return ST_OK;
}

static void meet_end(coll_group_t *group, const char *call)
{
    (void)world_meet(group, call, true);
}

/* Parts that a sender and its receiver count differently; all ranks come to the same verdict, as all look at all. */
static status_t parts_check(const char *call, int from, int to, int64_t given, int64_t expected)
{
    if (given != expected) {
        return ST_FAIL(ST_ERR_COMM, "%s: rank %d gives %lld bytes to rank %d, which expects %lld", call, from,
                       (long long)given, to, (long long)expected);
    }
    return ST_OK;
}

static void bytes_copy(void *to, const void *from, int64_t size_bytes)
{
    if (size_bytes > 0 && to != from) {
        memcpy(to, from, (size_t)size_bytes);
    }
}

/* Reduces elements [first, first + n) of all ranks' inputs, ranks ascending, a cached block at a time, and stores them
 * to `out` (element `first` at its start) or, where that is NULL, back to every rank's buffer. */
static void ranks_reduce(loopback_world_t *world, int64_t first, int64_t n, gd_dtype_t dtype, coll_op_t op, char *out)
{
    _Alignas(64) char block[REDUCE_BLOCK_BYTES];
    int64_t element_bytes = coll_dtype_size(dtype);
    int64_t block_numel = REDUCE_BLOCK_BYTES / element_bytes;
    for (int64_t i = 0; i < n; i += block_numel) {
        int64_t numel = n - i < block_numel ? n - i : block_numel;
        int64_t offset = (first + i) * element_bytes;
        memcpy(block, (const char *)world->rank[0].args.in + offset, (size_t)(numel * element_bytes));
        for (int r = 1; r < world->size; r++) {
            coll_reduce(block, (const char *)world->rank[r].args.in + offset, numel, dtype, op);
        }
        if (out != NULL) {
            memcpy(out + i * element_bytes, block, (size_t)(numel * element_bytes));
            continue;
        }
        for (int r = 0; r < world->size; r++) {
            memcpy((char *)world->rank[r].args.out + offset, block, (size_t)(numel * element_bytes));
        }
    }
}

static status_t loopback_allreduce(coll_group_t *group, void *buffer, int64_t n, gd_dtype_t dtype, coll_op_t op)
{
    loopback_args_t args = {.call = "allreduce",
                            .in = buffer,
                            .out = buffer,
                            .size_bytes = n * coll_dtype_size(dtype),
                            .what = (int)dtype * COLL_OP_COUNT + (int)op};
    status_t status = meet_begin(group, &args);
    if (status != ST_OK) {
        return status;
    }
    int64_t first = 0;
    int64_t n_own = 0;
    coll_share(n, group->size, group->rank, &first, &n_own);
    ranks_reduce(world_of(group), first, n_own, dtype, op, NULL);
    meet_end(group, args.call);
    return ST_OK;
}

static status_t loopback_reduce_scatter(coll_group_t *group, const void *buffer, void *out, int64_t n, gd_dtype_t dtype,
                                        coll_op_t op)
{
    loopback_args_t args = {.call = "reduce_scatter",
                            .in = buffer,
                            .size_bytes = n * coll_dtype_size(dtype),
                            .what = (int)dtype * COLL_OP_COUNT + (int)op};
    status_t status = meet_begin(group, &args);
    if (status != ST_OK) {
        return status;
    }
    ranks_reduce(world_of(group), n * group->rank, n, dtype, op, out);
    meet_end(group, args.call);
    return ST_OK;
}

static status_t loopback_allgatherv(coll_group_t *group, const void *in, int64_t size_bytes, void *out,
                                    const int64_t *sizes, const int64_t *offsets)
{
    loopback_world_t *world = world_of(group);
    loopback_args_t args = {
        .call = "allgatherv", .in = in, .sizes = sizes, .size_bytes = size_bytes, .is_ragged = true};
    status_t status = meet_begin(group, &args);
    if (status != ST_OK) {
        return status;
    }
    for (int to = 0; to < world->size && status == ST_OK; to++) {
        for (int from = 0; from < world->size && status == ST_OK; from++) {
            status =
                parts_check(args.call, from, to, world->rank[from].args.size_bytes, world->rank[to].args.sizes[from]);
        }
    }
    for (int r = 0; r < world->size && status == ST_OK; r++) {
        bytes_copy((char *)out + offsets[r], world->rank[r].args.in, sizes[r]);
    }
    meet_end(group, args.call);
    return status;
}

static status_t loopback_alltoallv(coll_group_t *group, const void *in, const int64_t *in_sizes,
                                   const int64_t *in_offsets, void *out, const int64_t *out_sizes,
                                   const int64_t *out_offsets)
{
    loopback_world_t *world = world_of(group);
    loopback_args_t args = {.call = "alltoallv",
                            .in = in,
                            .sizes = in_sizes,
                            .offsets = in_offsets,
                            .expected = out_sizes,
                            .is_ragged = true};
    status_t status = meet_begin(group, &args);
    if (status != ST_OK) {
        return status;
    }
    for (int to = 0; to < world->size && status == ST_OK; to++) {
        for (int from = 0; from < world->size && status == ST_OK; from++) {
            status =
                parts_check(args.call, from, to, world->rank[from].args.sizes[to], world->rank[to].args.expected[from]);
        }
    }
    for (int r = 0; r < world->size && status == ST_OK; r++) {
        const loopback_args_t *other = &world->rank[r].args;
        bytes_copy((char *)out + out_offsets[r], (const char *)other->in + other->offsets[group->rank], out_sizes[r]);
    }
    meet_end(group, args.call);
    return status;
}

static status_t loopback_broadcast(coll_group_t *group, void *buffer, int64_t size_bytes, int root)
{
    loopback_args_t args = {.call = "broadcast", .in = buffer, .size_bytes = size_bytes, .what = root};
    status_t status = meet_begin(group, &args);
    if (status != ST_OK) {
        return status;
    }
    bytes_copy(buffer, world_of(group)->rank[root].args.in, size_bytes);
    meet_end(group, args.call);
    return ST_OK;
}

static status_t loopback_barrier(coll_group_t *group)
{
    loopback_args_t args = {.call = "barrier"};
    status_t status = meet_begin(group, &args);
    if (status == ST_OK) {
        meet_end(group, args.call); /* the slots are read until all have checked them */
    }
    return status;
}

static void message_unlink(loopback_world_t *world, loopback_message_t *message)
{
    for (loopback_message_t **link = &world->first; *link != NULL; link = &(*link)->next) {
        if (*link == message) {
            *link = message->next;
            return;
        }
    }
}

/* Waits for `peer` to do its part; ST_OK: something changed. Under lock. */
static status_t peer_wait(coll_group_t *group, const char *call, int peer, const struct timespec *deadline)
{
    loopback_world_t *world = world_of(group);
    if (world->rank[peer].is_gone) {
        world_break(world);
        return ST_FAIL(ST_ERR_PEER, "%s on rank %d: rank %d has left the group", call, group->rank, peer);
    }
    if (world->is_broken) {
        return ST_FAIL(ST_ERR_PEER, "%s on rank %d: the group was broken by a failure on another rank", call,
                       group->rank);
    }
    if (!world_wait(world, deadline)) {
        world_break(world);
        return ST_FAIL(ST_ERR_TIMEOUT, "%s on rank %d: rank %d did not come within %lld ms", call, group->rank, peer,
                       (long long)group->timeout_ms);
    }
    return ST_OK;
}

static status_t message_refuse(const loopback_message_t *message)
{
    return ST_FAIL(ST_ERR_COMM, "rank %d sends %lld bytes with tag %d to rank %d, which expects %lld", message->from,
                   (long long)message->size_bytes, message->tag, message->to, (long long)message->wanted_bytes);
}

/* A send returns when its receiver has the bytes (rendezvous): code that works here needs no buffering anywhere. */
static status_t loopback_send(coll_group_t *group, const void *buffer, int64_t size_bytes, int peer, int tag)
{
    loopback_world_t *world = world_of(group);
    loopback_message_t message = {
        .buffer = buffer, .size_bytes = size_bytes, .from = group->rank, .to = peer, .tag = tag};
    struct timespec deadline = deadline_after(group->timeout_ms);
    status_t status = ST_OK;
    (void)pthread_mutex_lock(&world->lock);
    loopback_message_t **link = &world->first;
    while (*link != NULL) {
        link = &(*link)->next;
    }
    *link = &message;
    (void)pthread_cond_broadcast(&world->changed);
    while (status == ST_OK && message.state == MESSAGE_WAITS) {
        status = peer_wait(group, "send", peer, group->timeout_ms > 0 ? &deadline : NULL);
    }
    while (message.state == MESSAGE_TAKEN) {
        (void)world_wait(world, NULL);
    }
    if (message.state == MESSAGE_WAITS) {
        message_unlink(world, &message);
    } else {
        status = message.state == MESSAGE_DONE ? ST_OK : message_refuse(&message);
    }
    (void)pthread_mutex_unlock(&world->lock);
    return status;
}

static loopback_message_t *message_find(loopback_world_t *world, int from, int to, int tag)
{
    for (loopback_message_t *message = world->first; message != NULL; message = message->next) {
        if (message->from == from && message->to == to && message->tag == tag) {
            return message;
        }
    }
    return NULL;
}

static status_t loopback_recv(coll_group_t *group, void *buffer, int64_t size_bytes, int peer, int tag)
{
    loopback_world_t *world = world_of(group);
    struct timespec deadline = deadline_after(group->timeout_ms);
    status_t status = ST_OK;
    loopback_message_t *message = NULL;
    (void)pthread_mutex_lock(&world->lock);
    while (status == ST_OK && (message = message_find(world, peer, group->rank, tag)) == NULL) {
        status = peer_wait(group, "recv", peer, group->timeout_ms > 0 ? &deadline : NULL);
    }
    if (message == NULL) {
        (void)pthread_mutex_unlock(&world->lock);
        return status;
    }
    message_unlink(world, message);
    if (message->size_bytes != size_bytes) {
        message->wanted_bytes = size_bytes;
        status = message_refuse(message);
        message->state = MESSAGE_REFUSED;
    } else {
        message->state = MESSAGE_TAKEN;
        (void)pthread_mutex_unlock(&world->lock);
        bytes_copy(buffer, message->buffer, size_bytes);
        (void)pthread_mutex_lock(&world->lock);
        message->state = MESSAGE_DONE;
    }
    (void)pthread_cond_broadcast(&world->changed);
    (void)pthread_mutex_unlock(&world->lock);
    return status;
}

static void world_free(loopback_world_t *world)
{
    (void)pthread_cond_destroy(&world->changed);
    (void)pthread_mutex_destroy(&world->lock);
    mem_free(world->rank);
    mem_free(world);
}

static void loopback_close(coll_group_t *group)
{
    loopback_world_t *world = world_of(group);
    (void)pthread_mutex_lock(&world->lock);
    world->rank[group->rank].is_gone = true;
    bool is_last = --world->n_open == 0;
    (void)pthread_cond_broadcast(&world->changed);
    (void)pthread_mutex_unlock(&world->lock);
    if (is_last) {
        world_free(world);
    }
    mem_free(group->sizes);
    mem_free(group);
}

static void loopback_abort(coll_group_t *group, int exit_code)
{
    (void)exit_code;
    loopback_world_t *world = world_of(group);
    (void)pthread_mutex_lock(&world->lock);
    world->rank[group->rank].is_gone = true;
    world_break(world);
    (void)pthread_mutex_unlock(&world->lock);
}

static const coll_group_ops_t loopback_ops = {
    .name = "loopback",
    .close = loopback_close,
    .abort = loopback_abort,
    .allreduce = loopback_allreduce,
    .reduce_scatter = loopback_reduce_scatter,
    .allgatherv = loopback_allgatherv,
    .alltoallv = loopback_alltoallv,
    .broadcast = loopback_broadcast,
    .barrier = loopback_barrier,
    .send = loopback_send,
    .recv = loopback_recv,
};

static status_t world_new(int size, loopback_world_t **world_p)
{
    loopback_world_t *world = mem_zalloc(sizeof(*world));
    if (world == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "loopback world of %d ranks", size);
    }
    world->rank = mem_alloc_aligned(_Alignof(loopback_rank_t), (size_t)size * sizeof(*world->rank));
    if (world->rank == NULL) {
        mem_free(world);
        return ST_FAIL(ST_ERR_NOMEM, "loopback world of %d ranks", size);
    }
    memset(world->rank, 0, (size_t)size * sizeof(*world->rank));
    world->size = size;
    world->n_open = size;
    pthread_condattr_t attributes;
    (void)pthread_condattr_init(&attributes);
    (void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    int result = pthread_mutex_init(&world->lock, NULL);
    ASSERT(result == 0);
    result = pthread_cond_init(&world->changed, &attributes);
    ASSERT(result == 0);
    (void)pthread_condattr_destroy(&attributes);
    *world_p = world;
    return ST_OK;
}

status_t coll_loopback_open(int n_ranks, coll_group_t **group_p)
{
    if (n_ranks < 1) {
        return ST_FAIL(ST_ERR_INVAL, "loopback group of %d ranks", n_ranks);
    }
    loopback_world_t *world = NULL;
    status_t status = world_new(n_ranks, &world);
    if (status != ST_OK) {
        return status;
    }
    loopback_group_t **group = mem_calloc((size_t)n_ranks, sizeof(loopback_group_t *));
    if (group == NULL) {
        goto err_free_world;
    }
    for (int r = 0; r < n_ranks; r++) {
        group[r] = mem_zalloc(sizeof(*group[r]));
        if (group[r] == NULL) {
            goto err_free_groups;
        }
        group[r]->world = world;
        group[r]->base = (coll_group_t){.ops = &loopback_ops,
                                        .rank = r,
                                        .size = n_ranks,
                                        .timeout_ms = DEFAULT_TIMEOUT_MS,
                                        .sizes = mem_calloc((size_t)n_ranks * 2, sizeof(int64_t))};
        if (group[r]->base.sizes == NULL) {
            goto err_free_groups;
        }
    }
    for (int r = 0; r < n_ranks; r++) {
        group_p[r] = &group[r]->base;
    }
    mem_free(group);
    return ST_OK;

err_free_groups:
    for (int r = 0; r < n_ranks; r++) {
        if (group[r] != NULL) {
            mem_free(group[r]->base.sizes);
            mem_free(group[r]);
        }
    }
    mem_free(group);
err_free_world:
    world_free(world);
    return ST_FAIL(ST_ERR_NOMEM, "loopback group of %d ranks", n_ranks);
}
