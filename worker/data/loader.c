/* SPDX-License-Identifier: Apache-2.0 */
/* loader: reader threads, the ring, and the one lock over both. */
#include "worker/data/loader.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "worker/data/source.h"

enum { MAX_MESSAGE = 1024 };

typedef struct loader_slot {
    int64_t item; /* -1: none */
    bool is_ready;
    status_t status;
    wrk_plan_t plan;
    char *inputs, *targets;
    char message[MAX_MESSAGE]; /* of status */
} loader_slot_t;

typedef struct loader_thread {
    wrk_loader_t *loader;
    pthread_t id;
    wrk_scratch_t scratch;
    bool is_behind; /* its scratch hasn't grown to loader->most yet */
} loader_thread_t;

struct wrk_loader {
    wrk_loader_options_t options;
    int64_t input_bytes, target_bytes; /* of a sample */
    loader_slot_t *slots;              /* [options.n_ahead] */
    loader_thread_t *threads; /* [max(options.n_threads, 1)]; the scratch of the first serves without threads */
    int n_threads;            /* that run */

    pthread_mutex_t lock; /* over all below and the slots' item, is_ready, status, plan */
    pthread_cond_t has_work, has_item;
    int64_t next_read, next_take, end;
    int n_busy; /* threads that read an item */
    struct {
        size_t size_bytes[WRK_SCRATCH_COUNT];
        const wrk_tool_ops_t *tool_ops[WRK_TOOL_COUNT];
    } most; /* of any thread's scratch */
    bool is_closing;
};

static loader_slot_t *slot_of(const wrk_loader_t *loader, int64_t item)
{
    return &loader->slots[item % loader->options.n_ahead];
}

static void slot_finish(loader_slot_t *slot, status_t status)
{
    slot->status = status;
    if (status != ST_OK) {
        (void)snprintf(slot->message, sizeof(slot->message), "%s", status_message());
    }
    slot->is_ready = true;
}

/* Takes the number of the next item to be read; the lock is held. */
static loader_slot_t *slot_begin(wrk_loader_t *loader)
{
    int64_t item = loader->next_read++;
    loader_slot_t *slot = slot_of(loader, item);
    slot->item = item;
    slot->is_ready = false;
    slot->plan.n = 0;
    slot->status = loader->options.plan(loader->options.arg, item, &slot->plan);
    return slot;
}

static status_t slot_read(const wrk_loader_t *loader, loader_slot_t *slot, wrk_scratch_t *scratch)
{
    if (slot->status != ST_OK) {
        return slot->status; /* the plan's */
    }
    return wrk_dataset_read_plan(loader->options.dataset, &slot->plan, scratch, slot->inputs, slot->targets);
}

/*
 * Note [Scratch grows everywhere at once]
 *   What one thread's scratch has grown to, the others' grows to before the item is given out: else a thread that reads
 *   its first item in a later step would allocate in it. It gets no spare room: they would outgrow each other. The lock
 *   is held.
 */
static void scratch_tell(wrk_loader_t *loader, loader_thread_t *thread)
{
    bool has_grown = false;
    for (int i = 0; i < WRK_SCRATCH_COUNT; i++) {
        if (thread->scratch.size_bytes[i] > loader->most.size_bytes[i]) {
            loader->most.size_bytes[i] = thread->scratch.size_bytes[i];
            has_grown = true;
        }
    }
    for (int i = 0; i < WRK_TOOL_COUNT; i++) {
        if (thread->scratch.tool[i] != NULL && loader->most.tool_ops[i] == NULL) {
            loader->most.tool_ops[i] = thread->scratch.tool_ops[i];
            has_grown = true;
        }
    }
    for (int i = 0; i < loader->n_threads && has_grown; i++) {
        loader->threads[i].is_behind = &loader->threads[i] != thread;
    }
    if (has_grown) {
        (void)pthread_cond_broadcast(&loader->has_work);
    }
}

static void scratch_follow(wrk_loader_t *loader, loader_thread_t *thread)
{
    for (int i = 0; i < WRK_SCRATCH_COUNT; i++) {
        if (loader->most.size_bytes[i] > 0) {
            (void)wrk_scratch_reserve(&thread->scratch, i, loader->most.size_bytes[i]);
        }
    }
    for (int i = 0; i < WRK_TOOL_COUNT; i++) {
        if (loader->most.tool_ops[i] != NULL) {
            (void)wrk_scratch_tool(&thread->scratch, i, loader->most.tool_ops[i]);
        }
    }
    thread->is_behind = false;
    (void)pthread_cond_signal(&loader->has_item);
}

static bool is_one_behind(const wrk_loader_t *loader)
{
    for (int i = 0; i < loader->n_threads; i++) {
        if (loader->threads[i].is_behind) {
            return true;
        }
    }
    return false;
}

static void *thread_run(void *arg)
{
    loader_thread_t *thread = arg;
    wrk_loader_t *loader = thread->loader;
    (void)pthread_mutex_lock(&loader->lock);
    while (!loader->is_closing) {
        if (thread->is_behind) {
            scratch_follow(loader, thread);
        }
        if (loader->next_read >= loader->end || loader->next_read >= loader->next_take + loader->options.n_ahead) {
            (void)pthread_cond_wait(&loader->has_work, &loader->lock);
            continue;
        }
        loader_slot_t *slot = slot_begin(loader);
        loader->n_busy++;
        (void)pthread_mutex_unlock(&loader->lock);
        status_t status = slot_read(loader, slot, &thread->scratch);
        (void)pthread_mutex_lock(&loader->lock);
        slot_finish(slot, status);
        scratch_tell(loader, thread);
        loader->n_busy--;
        (void)pthread_cond_signal(&loader->has_item);
    }
    (void)pthread_mutex_unlock(&loader->lock);
    return NULL;
}

/* Signals are the main thread's. */
static status_t threads_start(wrk_loader_t *loader)
{
    sigset_t all;
    sigset_t before;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    int code = 0;
    for (int i = 0; i < loader->options.n_threads && code == 0; i++) {
        loader->threads[i].loader = loader;
        code = pthread_create(&loader->threads[i].id, NULL, thread_run, &loader->threads[i]);
        loader->n_threads += code == 0;
    }
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return code == 0 ? ST_OK
                     : ST_FAIL(ST_ERR_IO, "thread %d of %d to read data can't be started: %s", loader->n_threads + 1,
                               loader->options.n_threads, strerror(code));
}

static status_t slots_alloc(wrk_loader_t *loader)
{
    int64_t n_max = loader->options.n_max;
    loader->slots = mem_calloc((size_t)loader->options.n_ahead, sizeof(*loader->slots));
    bool is_failed = loader->slots == NULL;
    for (int64_t i = 0; i < loader->options.n_ahead && !is_failed; i++) {
        loader_slot_t *slot = &loader->slots[i];
        slot->item = -1;
        slot->inputs = mem_alloc_aligned(64, (size_t)(n_max * loader->input_bytes));
        slot->targets = mem_alloc_aligned(64, (size_t)(n_max * loader->target_bytes));
        slot->plan.indices = mem_calloc((size_t)n_max, sizeof(*slot->plan.indices));
        is_failed = slot->inputs == NULL || slot->targets == NULL || slot->plan.indices == NULL;
    }
    return !is_failed ? ST_OK
                      : ST_FAIL(ST_ERR_NOMEM, "%lld times %lld samples of %lld bytes read ahead",
                                (long long)loader->options.n_ahead, (long long)n_max,
                                (long long)(loader->input_bytes + loader->target_bytes));
}

static int64_t clamp(int64_t value, int64_t min, int64_t max)
{
    return value < min ? min : value > max ? max : value;
}

status_t wrk_loader_open(const wrk_loader_options_t *options, wrk_loader_t **loader_p)
{
    wrk_loader_t *loader = mem_zalloc(sizeof(*loader));
    if (loader == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "loader");
    }
    loader->options = *options;
    loader->input_bytes = wrk_dataset_input(options->dataset)->size_bytes;
    loader->target_bytes = wrk_dataset_target(options->dataset)->size_bytes;
    int64_t item_bytes = options->n_max * (loader->input_bytes + loader->target_bytes);
    int64_t n_fit = WRK_LOADER_MAX_BYTES / (item_bytes > 0 ? item_bytes : 1);
    loader->options.n_threads = (int)clamp(options->n_threads, 0, WRK_LOADER_MAX_THREADS);
    loader->options.n_ahead = loader->options.n_threads == 0 ? 1 : clamp(options->n_ahead, 1, WRK_LOADER_MAX_AHEAD);
    loader->options.n_ahead = clamp(n_fit, 1, loader->options.n_ahead);
    (void)pthread_mutex_init(&loader->lock, NULL);
    (void)pthread_cond_init(&loader->has_work, NULL);
    (void)pthread_cond_init(&loader->has_item, NULL);
    status_t status = slots_alloc(loader);
    if (status == ST_OK) {
        size_t n = (size_t)clamp(loader->options.n_threads, 1, WRK_LOADER_MAX_THREADS);
        loader->threads = mem_calloc(n, sizeof(*loader->threads));
        status = loader->threads != NULL ? threads_start(loader) : ST_FAIL(ST_ERR_NOMEM, "loader");
    }
    if (status != ST_OK) {
        wrk_loader_close(loader);
        return status;
    }
    *loader_p = loader;
    return ST_OK;
}

void wrk_loader_start(wrk_loader_t *loader, int64_t first, int64_t end)
{
    (void)pthread_mutex_lock(&loader->lock);
    loader->end = loader->next_read; /* no more of the old ones */
    while (loader->n_busy > 0) {
        (void)pthread_cond_wait(&loader->has_item, &loader->lock);
    }
    for (int64_t i = 0; i < loader->options.n_ahead; i++) {
        loader->slots[i].item = -1;
        loader->slots[i].is_ready = false;
    }
    loader->next_read = first;
    loader->next_take = first;
    loader->end = end;
    (void)pthread_cond_broadcast(&loader->has_work);
    (void)pthread_mutex_unlock(&loader->lock);
}

status_t wrk_loader_take(wrk_loader_t *loader, void *inputs, void *targets, int64_t *indices)
{
    (void)pthread_mutex_lock(&loader->lock);
    int64_t item = loader->next_take;
    int64_t end = loader->end;
    if (item >= end) {
        (void)pthread_mutex_unlock(&loader->lock);
        return ST_FAIL(ST_ERR_STATE, "item %lld of a loader that ends at %lld", (long long)item, (long long)end);
    }
    loader_slot_t *slot = slot_of(loader, item);
    if (loader->n_threads == 0) {
        (void)slot_begin(loader);
        slot_finish(slot, slot_read(loader, slot, &loader->threads[0].scratch));
    }
    while (slot->item != item || !slot->is_ready || is_one_behind(loader)) {
        (void)pthread_cond_wait(&loader->has_item, &loader->lock);
    }
    (void)pthread_mutex_unlock(&loader->lock);

    /* the slot is this item's until next_take moves on */
    status_t status = slot->status;
    if (status == ST_OK) {
        memcpy(inputs, slot->inputs, (size_t)(slot->plan.n * loader->input_bytes));
        memcpy(targets, slot->targets, (size_t)(slot->plan.n * loader->target_bytes));
        if (indices != NULL) {
            memcpy(indices, slot->plan.indices, (size_t)slot->plan.n * sizeof(*indices));
        }
    } else {
        (void)ST_FAIL(status, "%s", slot->message);
    }
    (void)pthread_mutex_lock(&loader->lock);
    loader->next_take++;
    (void)pthread_cond_signal(&loader->has_work);
    (void)pthread_mutex_unlock(&loader->lock);
    return status;
}

void wrk_loader_close(wrk_loader_t *loader)
{
    if (loader == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&loader->lock);
    loader->is_closing = true;
    (void)pthread_cond_broadcast(&loader->has_work);
    (void)pthread_mutex_unlock(&loader->lock);
    for (int i = 0; i < loader->n_threads; i++) {
        (void)pthread_join(loader->threads[i].id, NULL);
    }
    for (int i = 0; loader->threads != NULL && i < (int)clamp(loader->options.n_threads, 1, WRK_LOADER_MAX_THREADS);
         i++) {
        wrk_scratch_release(&loader->threads[i].scratch);
    }
    for (int64_t i = 0; loader->slots != NULL && i < loader->options.n_ahead; i++) {
        mem_free(loader->slots[i].inputs);
        mem_free(loader->slots[i].targets);
        mem_free(loader->slots[i].plan.indices);
    }
    mem_free(loader->slots);
    mem_free(loader->threads);
    (void)pthread_cond_destroy(&loader->has_item);
    (void)pthread_cond_destroy(&loader->has_work);
    (void)pthread_mutex_destroy(&loader->lock);
    mem_free(loader);
}
