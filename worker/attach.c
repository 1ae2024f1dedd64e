/* SPDX-License-Identifier: Apache-2.0 */
/*
 * attach: a thread that connects and writes, and one that reads while a stream is open.
 *
 * Lock order: attach->lock is never held while the outbox's is taken by a call that blocks, nor over a gRPC call that
 * can block.
 */
#include "worker/attach.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "gradd.pb-c.h"
#include "proto/rpc.h"
#include "worker/outbox.h"
#include "worker/text.h"

static const char ATTACH_PATH[] = "/gradd.v1.Worker/Attach";

enum { FIRST_BACKOFF_MS = 50, READ_SLICE_MS = 100, MAX_REASON = 512 };

struct wrk_attach {
    wrk_attach_options_t options;
    char *address, *job_id, *token, *host;
    rpc_channel_t *channel;
    wrk_outbox_t *outbox;
    pthread_t thread;
    atomic_int command;

    pthread_mutex_t lock; /* over what follows */
    pthread_cond_t changed;
    bool is_closing;
    bool is_urgent;
    bool is_broken;    /* the stream of now */
    bool is_welcome;   /* it was welcomed */
    bool is_said;      /* the goodbye was written to it */
    bool is_delivered; /* the daemon has the goodbye */
    bool is_refused;
    bool has_goodbye;
    int n_connections;
    int64_t acknowledged_ns; /* when the newest acknowledgement came */
    rpc_stream_t *stream;
    spec_job_t *job;
    char *directory;
    bool has_job;
    char reason[MAX_REASON]; /* why the last connection ended */
    Gradd__V1__Goodbye goodbye;
    char *goodbye_message;
    char goodbye_sha256[HASH_SHA256_HEX_SIZE];
};

static void wait_until(wrk_attach_t *attach, int64_t deadline_ns)
{
    struct timespec at = {.tv_sec = deadline_ns / CLOCK_NS_PER_S, .tv_nsec = deadline_ns % CLOCK_NS_PER_S};
    (void)pthread_cond_timedwait(&attach->changed, &attach->lock, &at);
}

/* Under the lock. */
static void reason_set(wrk_attach_t *attach, const char *text)
{
    (void)snprintf(attach->reason, sizeof(attach->reason), "%s", text);
}

/* ---- reading ---- */

static void welcome_take(wrk_attach_t *attach, const Gradd__V1__Welcome *welcome)
{
    spec_job_t *job = NULL;
    char *directory = NULL;
    status_t status = ST_OK;
    (void)pthread_mutex_lock(&attach->lock);
    bool is_wanted = !attach->has_job && welcome->has_job && welcome->job.len > 0;
    attach->is_welcome = true;
    (void)pthread_mutex_unlock(&attach->lock);
    if (!is_wanted) {
        return;
    }
    status = spec_job_unpack(welcome->job.data, welcome->job.len, &job);
    if (status == ST_OK) {
        directory = mem_strdup(welcome->job_directory != NULL ? welcome->job_directory : ".");
    }
    (void)pthread_mutex_lock(&attach->lock);
    if (status == ST_OK && directory != NULL) {
        attach->job = job;
        attach->directory = directory;
        attach->has_job = true;
        job = NULL;
    } else {
        reason_set(attach, status == ST_OK ? "no memory for the job" : status_message());
        attach->is_broken = true;
    }
    (void)pthread_cond_broadcast(&attach->changed);
    (void)pthread_mutex_unlock(&attach->lock);
    spec_job_free(job);
}

static void command_take(wrk_attach_t *attach, Gradd__V1__Command__Kind kind)
{
    int command = kind == GRADD__V1__COMMAND__KIND__STOP    ? WRK_COMMAND_STOP
                  : kind == GRADD__V1__COMMAND__KIND__PAUSE ? WRK_COMMAND_PAUSE
                                                            : WRK_COMMAND_CHECKPOINT;
    /* of several that wait, the one that goes furthest */
    int before = atomic_load(&attach->command);
    while (command > before && !atomic_compare_exchange_weak(&attach->command, &before, command)) {
    }
}

static void message_handle(wrk_attach_t *attach, const Gradd__V1__DaemonMessage *message)
{
    if (message->refused != NULL) {
        /* first the callback: where it ends the process, nobody sees the rest */
        if (attach->options.refused != NULL) {
            attach->options.refused(attach->options.arg, message->refused);
        }
        (void)pthread_mutex_lock(&attach->lock);
        attach->is_refused = true;
        attach->is_broken = true;
        reason_set(attach, message->refused);
        (void)pthread_cond_broadcast(&attach->changed);
        (void)pthread_mutex_unlock(&attach->lock);
        return;
    }
    if (message->welcome != NULL) {
        welcome_take(attach, message->welcome);
    }
    if (message->has_ack) {
        wrk_outbox_acknowledge(attach->outbox, message->ack);
        (void)pthread_mutex_lock(&attach->lock);
        attach->acknowledged_ns = clock_now_ns();
        (void)pthread_cond_broadcast(&attach->changed);
        (void)pthread_mutex_unlock(&attach->lock);
    }
    if (message->command != NULL && message->command->has_kind) {
        command_take(attach, message->command->kind);
    }
}

static void *reader_run(void *arg)
{
    wrk_attach_t *attach = arg;
    for (;;) {
        (void)pthread_mutex_lock(&attach->lock);
        bool is_over = attach->is_broken || attach->is_closing;
        (void)pthread_mutex_unlock(&attach->lock);
        if (is_over) {
            return NULL;
        }
        ProtobufCMessage *message = NULL;
        status_t status = rpc_stream_read(attach->stream, READ_SLICE_MS, &message);
        if (status == ST_ERR_TIMEOUT && rpc_stream_code(attach->stream) == RPC_OK) {
            continue;
        }
        if (status == ST_OK && message != NULL) {
            message_handle(attach, (const Gradd__V1__DaemonMessage *)message);
            protobuf_c_message_free_unpacked(message, NULL);
            continue;
        }
        (void)pthread_mutex_lock(&attach->lock);
        attach->is_delivered = attach->is_delivered || (status == ST_OK && attach->is_said);
        attach->is_broken = true;
        reason_set(attach, status == ST_OK ? "the daemon ended the stream" : status_message());
        (void)pthread_cond_broadcast(&attach->changed);
        (void)pthread_mutex_unlock(&attach->lock);
        return NULL;
    }
}

/* ---- writing ---- */

static status_t hello_write(wrk_attach_t *attach, bool has_job)
{
    Gradd__V1__WorkerMessage message = GRADD__V1__WORKER_MESSAGE__INIT;
    Gradd__V1__Hello hello = GRADD__V1__HELLO__INIT;
    hello.job_id = attach->job_id;
    hello.has_attempt = 1;
    hello.attempt = attach->options.attempt;
    hello.token = attach->token;
    hello.has_rank = 1;
    hello.rank = attach->options.rank;
    hello.host = attach->host;
    hello.has_pid = 1;
    hello.pid = getpid();
    hello.has_has_job = 1;
    hello.has_job = has_job;
    message.hello = &hello;
    return rpc_stream_write(attach->stream, &message.base);
}

static status_t telemetry_write(wrk_attach_t *attach, int64_t *sent_ns)
{
    const Gradd__V1__Telemetry *telemetry = NULL;
    while ((telemetry = wrk_outbox_next(attach->outbox)) != NULL) {
        Gradd__V1__WorkerMessage message = GRADD__V1__WORKER_MESSAGE__INIT;
        message.telemetry = (Gradd__V1__Telemetry *)(uintptr_t)telemetry;
        status_t status = rpc_stream_write(attach->stream, &message.base);
        if (status != ST_OK) {
            return status;
        }
        *sent_ns = clock_now_ns();
    }
    return ST_OK;
}

/* The goodbye follows the last acknowledged message, and nothing follows the goodbye. */
static status_t goodbye_write(wrk_attach_t *attach)
{
    Gradd__V1__WorkerMessage message = GRADD__V1__WORKER_MESSAGE__INIT;
    message.goodbye = &attach->goodbye;
    (void)pthread_mutex_lock(&attach->lock);
    attach->is_said = true;
    (void)pthread_mutex_unlock(&attach->lock);
    status_t status = rpc_stream_write(attach->stream, &message.base);
    return status == ST_OK ? rpc_stream_finish_writing(attach->stream) : status;
}

/* Writes to an open stream until it breaks or the attach closes. */
static status_t stream_serve(wrk_attach_t *attach)
{
    status_t status = ST_OK;
    int64_t batch_ns = attach->options.batch_ms * CLOCK_NS_PER_MS;
    int64_t sent_ns = clock_now_ns();
    int64_t next_ns = sent_ns;
    while (status == ST_OK) {
        (void)pthread_mutex_lock(&attach->lock);
        while (!attach->is_closing && !attach->is_broken && !attach->is_urgent && clock_now_ns() < next_ns) {
            wait_until(attach, next_ns);
        }
        bool is_over = attach->is_closing || attach->is_broken;
        bool is_ending = attach->has_goodbye && !attach->is_said;
        bool is_said = attach->is_said;
        int64_t quiet_ns = clock_now_ns() - attach->acknowledged_ns;
        attach->is_urgent = false;
        (void)pthread_mutex_unlock(&attach->lock);
        if (is_over) {
            return ST_OK;
        }
        if (!is_said) {
            if (!is_ending && clock_now_ns() - sent_ns > attach->options.heartbeat_ms * CLOCK_NS_PER_MS) {
                wrk_outbox_touch(attach->outbox);
            }
            status = telemetry_write(attach, &sent_ns);
            if (status == ST_OK && is_ending && wrk_outbox_is_drained(attach->outbox)) {
                status = goodbye_write(attach);
            }
        }
        if (status == ST_OK && quiet_ns > attach->options.acknowledge_ms * CLOCK_NS_PER_MS &&
            (is_said || wrk_outbox_n_unacknowledged(attach->outbox) > 0)) {
            return ST_FAIL(ST_ERR_TIMEOUT, "no acknowledgement for %lld ms", (long long)(quiet_ns / CLOCK_NS_PER_MS));
        }
        next_ns = clock_now_ns() + (is_ending ? 5 * CLOCK_NS_PER_MS : batch_ns);
    }
    return status;
}

/* One connection, from hello to its end. */
static void connection_run(wrk_attach_t *attach)
{
    pthread_t reader;
    rpc_stream_t *stream = NULL;
    status_t status =
        rpc_stream_open(attach->channel, ATTACH_PATH, NULL, &gradd__v1__daemon_message__descriptor, &stream);
    (void)pthread_mutex_lock(&attach->lock);
    attach->stream = stream;
    attach->is_broken = false;
    attach->is_welcome = false;
    attach->is_said = false;
    attach->is_urgent = true;
    attach->acknowledged_ns = clock_now_ns();
    bool has_job = attach->has_job;
    (void)pthread_mutex_unlock(&attach->lock);
    if (status == ST_OK) {
        wrk_outbox_rewind(attach->outbox);
        status = hello_write(attach, has_job);
        bool is_reading = pthread_create(&reader, NULL, reader_run, attach) == 0;
        if (status == ST_OK && is_reading) {
            (void)pthread_mutex_lock(&attach->lock);
            attach->n_connections++;
            (void)pthread_mutex_unlock(&attach->lock);
            status = stream_serve(attach);
        }
        /* a failed write says little; what the reader finds at the end of the stream says more */
        (void)pthread_mutex_lock(&attach->lock);
        int64_t deadline_ns = clock_now_ns() + READ_SLICE_MS * CLOCK_NS_PER_MS;
        while (status != ST_OK && !attach->is_broken && !attach->is_closing && clock_now_ns() < deadline_ns) {
            wait_until(attach, deadline_ns);
        }
        if (!attach->is_broken && status != ST_OK) {
            reason_set(attach, status_message());
        }
        attach->is_broken = true;
        (void)pthread_mutex_unlock(&attach->lock);
        if (is_reading) {
            (void)pthread_join(reader, NULL);
        }
        (void)pthread_mutex_lock(&attach->lock);
        attach->stream = NULL;
        (void)pthread_mutex_unlock(&attach->lock);
        rpc_stream_close(stream);
    } else {
        (void)pthread_mutex_lock(&attach->lock);
        reason_set(attach, status_message());
        (void)pthread_mutex_unlock(&attach->lock);
    }
}

static void *attach_run(void *arg)
{
    wrk_attach_t *attach = arg;
    int64_t backoff_ms = FIRST_BACKOFF_MS;
    for (;;) {
        connection_run(attach);
        (void)pthread_mutex_lock(&attach->lock);
        if (attach->is_welcome) {
            backoff_ms = FIRST_BACKOFF_MS;
        }
        int64_t deadline_ns = clock_now_ns() + backoff_ms * CLOCK_NS_PER_MS;
        backoff_ms = 2 * backoff_ms < attach->options.max_backoff_ms ? 2 * backoff_ms : attach->options.max_backoff_ms;
        bool is_done = attach->is_delivered || attach->is_refused;
        while (!attach->is_closing && (is_done || clock_now_ns() < deadline_ns)) {
            wait_until(attach, is_done ? clock_now_ns() + CLOCK_NS_PER_S : deadline_ns);
        }
        bool is_closing = attach->is_closing;
        if (!is_closing) {
            log_debug("connecting to %s again: %s", attach->address, attach->reason);
        }
        (void)pthread_mutex_unlock(&attach->lock);
        if (is_closing) {
            return NULL;
        }
    }
}

/* ---- open and close ---- */

static void attach_free(wrk_attach_t *attach)
{
    if (attach->channel != NULL) {
        rpc_channel_close(attach->channel);
    }
    wrk_outbox_close(attach->outbox);
    if (attach->job != NULL) {
        spec_job_free(attach->job);
    }
    mem_free(attach->directory);
    mem_free(attach->goodbye_message);
    mem_free(attach->address);
    mem_free(attach->job_id);
    mem_free(attach->token);
    mem_free(attach->host);
    mem_free(attach);
}

status_t wrk_attach_open(const wrk_attach_options_t *options, wrk_attach_t **attach_p)
{
    wrk_attach_t *attach = mem_zalloc(sizeof(*attach));
    if (attach == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "connection to %s", options->address);
    }
    status_t status = ST_OK;
    attach->options = *options;
    attach->options.batch_ms = options->batch_ms > 0 ? options->batch_ms : options->rank == 0 ? 100 : 1000;
    attach->options.heartbeat_ms = options->heartbeat_ms > 0 ? options->heartbeat_ms : 2000;
    attach->options.acknowledge_ms = options->acknowledge_ms > 0 ? options->acknowledge_ms : 30000;
    attach->options.max_backoff_ms = options->max_backoff_ms > 0 ? options->max_backoff_ms : 2000;
    attach->address = mem_strdup(options->address);
    attach->job_id = mem_strdup(options->job_id);
    attach->token = mem_strdup(options->token);
    attach->host = mem_strdup(options->host != NULL ? options->host : "localhost");
    if (attach->address == NULL || attach->job_id == NULL || attach->token == NULL || attach->host == NULL) {
        status = ST_FAIL(ST_ERR_NOMEM, "connection to %s", options->address);
        goto err_free;
    }
    status = wrk_outbox_open(&attach->outbox);
    if (status == ST_OK) {
        status = rpc_channel_open(attach->address, &attach->channel);
    }
    if (status != ST_OK) {
        goto err_free;
    }
    pthread_condattr_t attributes;
    (void)pthread_mutex_init(&attach->lock, NULL);
    (void)pthread_condattr_init(&attributes);
    (void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&attach->changed, &attributes);
    (void)pthread_condattr_destroy(&attributes);
    if (pthread_create(&attach->thread, NULL, attach_run, attach) != 0) {
        status = ST_FAIL(ST_ERR_NOMEM, "no thread for the connection to %s", attach->address);
        (void)pthread_cond_destroy(&attach->changed);
        (void)pthread_mutex_destroy(&attach->lock);
        goto err_free;
    }
    *attach_p = attach;
    return ST_OK;

err_free:
    attach_free(attach);
    return status;
}

void wrk_attach_close(wrk_attach_t *attach)
{
    if (attach == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&attach->lock);
    attach->is_closing = true;
    if (attach->stream != NULL) {
        /* a write may be waiting for a daemon that doesn't read */
        rpc_stream_cancel(attach->stream);
    }
    (void)pthread_cond_broadcast(&attach->changed);
    (void)pthread_mutex_unlock(&attach->lock);
    (void)pthread_join(attach->thread, NULL);
    (void)pthread_cond_destroy(&attach->changed);
    (void)pthread_mutex_destroy(&attach->lock);
    attach_free(attach);
}

status_t wrk_attach_wait_job(wrk_attach_t *attach, int64_t timeout_ms, spec_job_t **job_p, char **directory_p)
{
    int64_t deadline_ns = clock_now_ns() + timeout_ms * CLOCK_NS_PER_MS;
    status_t status = ST_OK;
    (void)pthread_mutex_lock(&attach->lock);
    while (!attach->has_job && !attach->is_refused && clock_now_ns() < deadline_ns) {
        wait_until(attach, deadline_ns);
    }
    if (attach->has_job) {
        *job_p = attach->job;
        *directory_p = attach->directory;
        attach->job = NULL;
        attach->directory = NULL;
    } else if (attach->is_refused) {
        status = ST_FAIL(ST_ERR_PERMISSION, "the daemon refuses this attempt: %s", attach->reason);
    } else {
        status = ST_FAIL(ST_ERR_TIMEOUT, "no job from the daemon at %s within %lld ms: %s", attach->address,
                         (long long)timeout_ms, attach->reason);
    }
    (void)pthread_mutex_unlock(&attach->lock);
    return status;
}

status_t wrk_attach_goodbye(wrk_attach_t *attach, const wrk_goodbye_t *goodbye, int64_t timeout_ms)
{
    static const Gradd__V1__Goodbye__Outcome OUTCOMES[] = {
        [WRK_OUTCOME_SUCCEEDED] = GRADD__V1__GOODBYE__OUTCOME__SUCCEEDED,
        [WRK_OUTCOME_PAUSED] = GRADD__V1__GOODBYE__OUTCOME__PAUSED,
        [WRK_OUTCOME_CANCELLED] = GRADD__V1__GOODBYE__OUTCOME__CANCELLED,
        [WRK_OUTCOME_FAILED] = GRADD__V1__GOODBYE__OUTCOME__FAILED,
    };
    int64_t deadline_ns = clock_now_ns() + timeout_ms * CLOCK_NS_PER_MS;
    status_t status = ST_OK;
    strbuf_t message = {0};
    (void)pthread_mutex_lock(&attach->lock);
    gradd__v1__goodbye__init(&attach->goodbye);
    wrk_text_append(&message, goodbye->message, strlen(goodbye->message));
    attach->goodbye_message = strbuf_detach(&message);
    (void)snprintf(attach->goodbye_sha256, sizeof(attach->goodbye_sha256), "%s", goodbye->parameters_sha256);
    attach->goodbye.has_outcome = 1;
    attach->goodbye.outcome = OUTCOMES[goodbye->outcome];
    attach->goodbye.message = attach->goodbye_message;
    attach->goodbye.has_is_permanent = 1;
    attach->goodbye.is_permanent = goodbye->is_permanent;
    attach->goodbye.has_step = 1;
    attach->goodbye.step = goodbye->step;
    attach->goodbye.parameters_sha256 = attach->goodbye_sha256[0] != '\0' ? attach->goodbye_sha256 : NULL;
    attach->has_goodbye = true;
    attach->is_urgent = true;
    (void)pthread_cond_broadcast(&attach->changed);
    while (!attach->is_delivered && !attach->is_refused && clock_now_ns() < deadline_ns) {
        wait_until(attach, deadline_ns);
    }
    if (attach->is_refused) {
        status = ST_FAIL(ST_ERR_PERMISSION, "the daemon refuses this attempt: %s", attach->reason);
    } else if (!attach->is_delivered) {
        status = ST_FAIL(ST_ERR_TIMEOUT, "the goodbye was not confirmed by the daemon at %s within %lld ms: %s",
                         attach->address, (long long)timeout_ms, attach->reason);
    }
    (void)pthread_mutex_unlock(&attach->lock);
    return status;
}

int wrk_attach_n_connections(wrk_attach_t *attach)
{
    (void)pthread_mutex_lock(&attach->lock);
    int n = attach->n_connections;
    (void)pthread_mutex_unlock(&attach->lock);
    return n;
}

/* ---- events of the session ---- */

static void attach_wake(wrk_attach_t *attach, bool is_urgent)
{
    if (is_urgent) {
        (void)pthread_mutex_lock(&attach->lock);
        attach->is_urgent = true;
        (void)pthread_cond_broadcast(&attach->changed);
        (void)pthread_mutex_unlock(&attach->lock);
    }
}

static void progress_put(void *arg, int64_t step, int64_t steps_total, const char *phase)
{
    wrk_attach_t *attach = arg;
    attach_wake(attach, wrk_outbox_progress(attach->outbox, step, steps_total, phase));
}

static void points_put(void *arg, const wrk_point_t *points, int n)
{
    wrk_attach_t *attach = arg;
    attach_wake(attach, wrk_outbox_points(attach->outbox, points, n));
}

static void checkpoints_put(void *arg, const wrk_checkpoint_t *list, int n, const char *directory)
{
    wrk_attach_t *attach = arg;
    attach_wake(attach, wrk_outbox_checkpoints(attach->outbox, list, n, directory));
}

static void fingerprint_put(void *arg, const char *fingerprint)
{
    wrk_attach_t *attach = arg;
    attach_wake(attach, wrk_outbox_fingerprint(attach->outbox, fingerprint));
}

static void note_put(void *arg, const char *text)
{
    wrk_attach_t *attach = arg;
    attach_wake(attach, wrk_outbox_note(attach->outbox, text));
}

static void text_put(void *arg, const char *text)
{
    wrk_attach_t *attach = arg;
    attach_wake(attach, wrk_outbox_text(attach->outbox, text));
}

static wrk_command_t command_give(void *arg)
{
    wrk_attach_t *attach = arg;
    return (wrk_command_t)atomic_exchange(&attach->command, WRK_COMMAND_NONE);
}

wrk_events_t wrk_attach_events(wrk_attach_t *attach)
{
    return (wrk_events_t){
        .arg = attach,
        .progress = progress_put,
        .points = points_put,
        .checkpoints = checkpoints_put,
        .fingerprint = fingerprint_put,
        .note = note_put,
        .text = text_put,
        .take_command = command_give,
    };
}
