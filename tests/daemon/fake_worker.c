/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fake_worker: a rank without an engine, for the daemon's tests. Its steps are sleeps; its checkpoint is a number in a
 * file. The environment's FAKE_PLAN says what it does, as "key=value" separated by spaces: steps=N step_ms=N every=N
 * (checkpoint)   crash=STEP (rank 1, or 0 if alone, kills itself there in the first attempt) deaf=1 (ignores commands
 * and SIGTERM)    fail=STEP (permanent failure)   hang=STEP (attached, but silent, attempt 1)   vanish=STEP (alive,
 * but without its stream, attempt 1)   text=N (sampled text of so many bytes at the end)   refuse=ATTEMPT (permanent
 * failure before it knows its step)   late=N (rank 1 starts N ms after the others). Ranks don't wait for each other: a
 * late one reads a checkpoint that is past its STEP, and then STEP counts as reached. Like the real one it reconnects,
 * sends again what was not acknowledged, and writes goodbye.json before its goodbye.
 */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "daemon/files.h"
#include "gradd.pb-c.h"
#include "proto/rpc.h"

typedef struct worker {
    const char *job, *token, *folder;
    int attempt, rank;
    rpc_channel_t *channel;
    rpc_stream_t *stream;
    bool has_job;
    int64_t sequence, acknowledged;
    int command;
    char path[512];
} worker_t;

static long plan(const char *key, long otherwise)
{
    const char *text = getenv("FAKE_PLAN");
    size_t length = strlen(key);
    while (text != NULL && *text != '\0') {
        if (strncmp(text, key, length) == 0 && text[length] == '=') {
            return strtol(text + length + 1, NULL, 10);
        }
        text = strchr(text, ' ');
        text = text == NULL ? NULL : text + 1;
    }
    return otherwise;
}

static void stream_drop(worker_t *worker)
{
    if (worker->stream != NULL) {
        rpc_stream_close(worker->stream);
        worker->stream = NULL;
    }
}

/* Takes what the daemon sent, for at most timeout_ms. False: the stream is broken. */
static bool messages_take(worker_t *worker, int64_t timeout_ms)
{
    ProtobufCMessage *message = NULL;
    status_t status = rpc_stream_read(worker->stream, timeout_ms, &message);
    if (status == ST_ERR_TIMEOUT) {
        return true;
    }
    if (status != ST_OK || message == NULL) {
        return false;
    }
    const Gradd__V1__DaemonMessage *content = (const Gradd__V1__DaemonMessage *)message;
    if (content->refused != NULL) {
        (void)fprintf(stderr, "refused: %s\n", content->refused);
        _exit(9);
    }
    if (content->welcome != NULL) {
        worker->has_job = worker->has_job || content->welcome->job.len > 0;
    }
    if (content->has_ack) {
        worker->acknowledged = content->ack;
    }
    if (content->command != NULL && plan("deaf", 0) == 0) {
        worker->command = (int)content->command->kind;
    }
    protobuf_c_message_free_unpacked(message, NULL);
    return true;
}

static bool connect_again(worker_t *worker)
{
    stream_drop(worker);
    char host[64];
    (void)gethostname(host, sizeof(host));
    Gradd__V1__Hello hello = GRADD__V1__HELLO__INIT;
    char job[32];
    char token[128];
    (void)snprintf(job, sizeof(job), "%s", worker->job);
    (void)snprintf(token, sizeof(token), "%s", worker->token);
    hello.job_id = job;
    hello.token = token;
    hello.host = host;
    hello.has_attempt = hello.has_rank = hello.has_pid = hello.has_has_job = 1;
    hello.attempt = worker->attempt;
    hello.rank = worker->rank;
    hello.pid = getpid();
    hello.has_job = worker->has_job;
    Gradd__V1__WorkerMessage message = GRADD__V1__WORKER_MESSAGE__INIT;
    message.hello = &hello;
    if (rpc_stream_open(worker->channel, "/gradd.v1.Worker/Attach", NULL, &gradd__v1__daemon_message__descriptor,
                        &worker->stream) != ST_OK) {
        worker->stream = NULL;
        return false;
    }
    if (rpc_stream_write(worker->stream, &message.base) != ST_OK || !messages_take(worker, 2000)) {
        stream_drop(worker);
        return false;
    }
    return true;
}

/* Sends until it is acknowledged, over as many connections as it takes, for at most limit_ms. step -1: not known yet,
 * sent as 0 of 0. */
static bool telemetry_send(worker_t *worker, int64_t step, const char *phase, bool has_checkpoint, int64_t limit_ms)
{
    int64_t end_ns = clock_now_ns() + limit_ms * CLOCK_NS_PER_MS;
    char name[] = "loss";
    char phase_text[32];
    char sha256[] = "00";
    (void)snprintf(phase_text, sizeof(phase_text), "%s", phase);
    Gradd__V1__MetricPoint point = GRADD__V1__METRIC_POINT__INIT;
    point.name = name;
    point.has_step = point.has_value = point.has_unix_ns = 1;
    point.step = step;
    point.value = 1.0 / (double)(step + 1);
    point.unix_ns = clock_wall_ns();
    Gradd__V1__MetricPoint *points[] = {&point};
    Gradd__V1__CheckpointInfo info = GRADD__V1__CHECKPOINT_INFO__INIT;
    info.has_step = 1;
    info.step = step;
    info.path = worker->path;
    info.parameters_sha256 = sha256;
    Gradd__V1__CheckpointInfo *checkpoints[] = {&info};
    Gradd__V1__Telemetry telemetry = GRADD__V1__TELEMETRY__INIT;
    telemetry.has_sequence = telemetry.has_step = telemetry.has_steps_total = 1;
    telemetry.sequence = ++worker->sequence;
    telemetry.step = step < 0 ? 0 : step;
    telemetry.steps_total = step < 0 ? 0 : plan("steps", 10);
    telemetry.phase = phase_text;
    telemetry.points = points;
    telemetry.n_points = worker->rank == 0 && strcmp(phase, "training") == 0 ? 1 : 0;
    telemetry.checkpoints = checkpoints;
    telemetry.n_checkpoints = has_checkpoint ? 1 : 0;
    static char text[1024 * 1024];
    bool is_last = step == plan("steps", 10) && strcmp(phase, "checkpointing") == 0;
    if (worker->rank == 0 && is_last && plan("text", 0) > 0) {
        memset(text, 'x', (size_t)plan("text", 0));
        telemetry.text = text;
    }
    Gradd__V1__WorkerMessage message = GRADD__V1__WORKER_MESSAGE__INIT;
    message.telemetry = &telemetry;
    while (clock_now_ns() < end_ns) {
        if ((worker->stream == NULL && !connect_again(worker)) ||
            rpc_stream_write(worker->stream, &message.base) != ST_OK) {
            stream_drop(worker);
            clock_sleep_ms(20);
            continue;
        }
        while (worker->acknowledged < worker->sequence && clock_now_ns() < end_ns) {
            if (!messages_take(worker, 100)) {
                stream_drop(worker);
                break;
            }
        }
        if (worker->acknowledged >= worker->sequence) {
            return true;
        }
    }
    return false;
}

static int leave(worker_t *worker, Gradd__V1__Goodbye__Outcome outcome, const char *message, bool is_permanent,
                 int64_t step)
{
    static const char *const names[] = {"succeeded", "paused", "cancelled", "failed"};
    char sha256[65];
    char text[256];
    char record[512];
    char path[600];
    memset(sha256, 'a', 64);
    sha256[64] = '\0';
    (void)snprintf(text, sizeof(text), "%s", message);
    int length = snprintf(record, sizeof(record),
                          "{\"outcome\": \"%s\", \"message\": \"%s\", \"is_permanent\": %s, \"rank\": %d, \"step\": "
                          "%" PRId64 ", \"parameters_sha256\": \"%s\"}",
                          names[outcome], text, is_permanent ? "true" : "false", worker->rank, step, sha256);
    (void)snprintf(path, sizeof(path), "%s/attempts/%d/goodbye.json", worker->folder, worker->attempt);
    if (worker->rank == 0 && dmn_file_write_durable(path, record, (size_t)length) != ST_OK) {
        return 4;
    }
    Gradd__V1__Goodbye goodbye = GRADD__V1__GOODBYE__INIT;
    goodbye.has_outcome = goodbye.has_is_permanent = goodbye.has_step = 1;
    goodbye.outcome = outcome;
    goodbye.message = text;
    goodbye.is_permanent = is_permanent;
    goodbye.step = step;
    goodbye.parameters_sha256 = sha256;
    Gradd__V1__WorkerMessage last = GRADD__V1__WORKER_MESSAGE__INIT;
    last.goodbye = &goodbye;
    if (worker->stream != NULL || connect_again(worker)) {
        (void)rpc_stream_write(worker->stream, &last.base);
        (void)rpc_stream_finish_writing(worker->stream);
        int64_t end_ns = clock_now_ns() + CLOCK_NS_PER_S;
        while (messages_take(worker, 100) && clock_now_ns() < end_ns) {
        }
    }
    return outcome == GRADD__V1__GOODBYE__OUTCOME__FAILED ? 5 : 0;
}

static int64_t checkpoint_read(const worker_t *worker)
{
    char *text = NULL;
    if (dmn_file_read(worker->path, 64, &text, NULL) != ST_OK) {
        return 0;
    }
    return strtoll(text, NULL, 10);
}

static bool checkpoint_write(const worker_t *worker, int64_t step)
{
    char text[32];
    int length = snprintf(text, sizeof(text), "%" PRId64, step);
    return dmn_file_write_durable(worker->path, text, (size_t)length) == ST_OK;
}

/* Whether the plan has `event` at this step or, since a rank may start past it, at one before. */
static bool is_due(const char *event, int64_t step)
{
    long planned = plan(event, -1);
    return planned >= 0 && step >= planned;
}

static int train(worker_t *worker)
{
    int n_ranks = atoi(getenv("FAKE_RANKS"));
    long steps = plan("steps", 10);
    long every = plan("every", 5);
    int64_t step = checkpoint_read(worker);
    bool is_victim = worker->rank == (n_ranks > 1 ? 1 : 0) && worker->attempt == 1;
    (void)telemetry_send(worker, -1, "starting", false, 60000);
    if (worker->attempt == plan("refuse", -1)) {
        return leave(worker, GRADD__V1__GOODBYE__OUTCOME__FAILED, "other numerics", true, 0);
    }
    (void)telemetry_send(worker, step, "starting", false, 60000);
    while (step < steps) {
        clock_sleep_ms(plan("step_ms", 10));
        step++;
        if (is_victim && is_due("crash", step)) {
            (void)raise(SIGKILL);
        }
        if (is_victim && is_due("vanish", step)) {
            stream_drop(worker);
            clock_sleep_ms(3600 * 1000);
        }
        if (is_victim && is_due("hang", step)) {
            clock_sleep_ms(3600 * 1000);
        }
        if (worker->rank == 0 && is_due("fail", step)) {
            return leave(worker, GRADD__V1__GOODBYE__OUTCOME__FAILED, "labels out of range", true, step);
        }
        bool is_saving = worker->rank == 0 && step % every == 0;
        if (is_saving && !checkpoint_write(worker, step)) {
            return 4;
        }
        /* Steps go on while there is no daemon. */
        (void)telemetry_send(worker, step, "training", is_saving, worker->stream == NULL ? 30 : 300);
        if (worker->rank == 0 && worker->command == GRADD__V1__COMMAND__KIND__PAUSE) {
            if (!checkpoint_write(worker, step)) {
                return 4;
            }
            (void)telemetry_send(worker, step, "checkpointing", true, 1000);
            return leave(worker, GRADD__V1__GOODBYE__OUTCOME__PAUSED, "", false, step);
        }
        if (worker->rank == 0 && worker->command == GRADD__V1__COMMAND__KIND__STOP) {
            return leave(worker, GRADD__V1__GOODBYE__OUTCOME__CANCELLED, "", false, step);
        }
    }
    (void)telemetry_send(worker, step, "checkpointing", false, 1000);
    return leave(worker, GRADD__V1__GOODBYE__OUTCOME__SUCCEEDED, "", false, step);
}

int main(void)
{
    worker_t worker = {.job = getenv("GRADD_JOB"), .token = getenv("GRADD_TOKEN"), .folder = getenv("GRADD_JOB_DIR")};
    const char *attempt = getenv("GRADD_ATTEMPT");
    const char *rank = getenv("FAKE_RANK");
    const char *address = getenv("GRADD_ADDRESS");
    if (worker.job == NULL || worker.token == NULL || worker.folder == NULL || attempt == NULL || rank == NULL ||
        address == NULL || getenv("FAKE_RANKS") == NULL) {
        return 2;
    }
    worker.attempt = atoi(attempt);
    worker.rank = atoi(rank);
    (void)snprintf(worker.path, sizeof(worker.path), "%s/checkpoints/step", worker.folder);
    char log[512];
    (void)snprintf(log, sizeof(log), "%s/rank-%d.log", getenv("GRADD_LOG_DIR"), worker.rank);
    FILE *file = fopen(log, "ae");
    if (file == NULL || fprintf(file, "rank %d attempt %d\n", worker.rank, worker.attempt) < 0 || fclose(file) != 0) {
        return 3;
    }
    if (plan("deaf", 0) != 0) {
        (void)signal(SIGTERM, SIG_IGN);
    }
    if (rpc_channel_open(address, &worker.channel) != ST_OK) {
        return 3;
    }
    if (worker.rank == 1) {
        clock_sleep_ms(plan("late", 0));
    }
    /* Without cleaning up: _exit as a killed rank would. */
    _exit(train(&worker));
}
