/* SPDX-License-Identifier: Apache-2.0 */
/*
 * attach: the stream of one rank. Its telemetry is stored and then acknowledged; the supervisor writes commands to rank
 * 0's. A stream that ends without a goodbye makes the supervisor look whether the rank is dead.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "daemon/daemon_internal.h"

enum { HELLO_MS = 10000, READ_MS = 1000, MAX_METRIC_NAME = 64 };
/* A worker sends 256 KiB of sampled text; each byte that isn't UTF-8 has become three. */
enum { MAX_TEXT = 3 * 256 * 1024 };

typedef struct session {
    dmn_daemon_t *daemon;
    rpc_call_t *call;
    dmn_run_t *run;
    int number; /* the rank */
    int attempt;
} session_t;

/* Compares in a time that doesn't tell where the first difference is. */
static bool token_is_equal(const char *a, const char *b)
{
    size_t length = strlen(a);
    if (length != strlen(b) || length == 0) {
        return false;
    }
    unsigned difference = 0;
    for (size_t i = 0; i < length; i++) {
        difference |= (unsigned)(unsigned char)a[i] ^ (unsigned)(unsigned char)b[i];
    }
    return difference == 0;
}

static status_t refuse(rpc_call_t *call, int64_t job_id, int attempt)
{
    char reason[128];
    (void)snprintf(reason, sizeof(reason), "attempt %d of job %" PRId64 " is not the one under way", attempt, job_id);
    Gradd__V1__DaemonMessage message = GRADD__V1__DAEMON_MESSAGE__INIT;
    message.refused = reason;
    return rpc_call_write(call, &message.base);
}

static status_t hello_read(rpc_call_t *call, ProtobufCMessage **message_p)
{
    ProtobufCMessage *message = NULL;
    status_t status = rpc_call_read(call, HELLO_MS, &message);
    if (status != ST_OK) {
        return status;
    }
    if (message == NULL || ((const Gradd__V1__WorkerMessage *)message)->hello == NULL) {
        if (message != NULL) {
            protobuf_c_message_free_unpacked(message, NULL);
        }
        return ST_FAIL(ST_ERR_INVAL, "the first message of a stream must be a hello");
    }
    *message_p = message;
    return ST_OK;
}

/* Under the lock. */
static void rank_attach(session_t *session, const Gradd__V1__Hello *hello)
{
    dmn_run_rank_t *rank = &session->run->ranks[session->number];
    dmn_process_t process;
    bool is_here = strncmp(rpc_call_peer(session->call), "unix:", 5) == 0 ||
                   (hello->host != NULL && strcmp(hello->host, session->daemon->host) == 0);
    rank->call = session->call;
    rank->heard_ns = clock_now_ns();
    rank->lost_ns = 0;
    rank->pid = (pid_t)hello->pid;
    rank->is_local = is_here && hello->pid > 0 && dmn_process_read((pid_t)hello->pid, &process) == ST_OK;
    rank->starttime = rank->is_local ? process.starttime : 0;
    if (session->number == 0) {
        session->run->sent = DMN_COMMAND_NONE;
    }
}

/* Under the lock: *is_refused_p, or the session has a reference to its run. */
static void hello_check(session_t *session, const Gradd__V1__Hello *hello, int64_t job_id, bool *is_refused_p)
{
    dmn_run_t *run = dmn_run_find(session->daemon, job_id);
    *is_refused_p = run == NULL || !run->is_live || run->attempt.number != hello->attempt || hello->token == NULL ||
                    !token_is_equal(run->attempt.token, hello->token) || hello->rank < 0 ||
                    hello->rank >= run->n_ranks || run->is_kill_sent;
    if (!*is_refused_p) {
        session->run = dmn_run_ref(run);
        session->number = hello->rank;
        session->attempt = hello->attempt;
        rank_attach(session, hello);
    }
}

/* Under the lock, as an attempt that ends meanwhile has no live ranks any more. On a full disk the rank isn't listed,
 * but it is heard, and can be told to stop. */
static status_t rank_store(const session_t *session, const dmn_rank_t *rank)
{
    dmn_run_t *run = session->run;
    status_t status = ST_OK;
    (void)pthread_mutex_lock(&session->daemon->lock);
    if (run->is_live && run->attempt.number == session->attempt) {
        status = dmn_store_rank_set(session->daemon->store, run->job.id, rank);
        status = status == ST_ERR_NOSPACE ? ST_OK : status;
    }
    (void)pthread_mutex_unlock(&session->daemon->lock);
    return status;
}

static status_t welcome_send(const session_t *session, bool has_job)
{
    dmn_job_t job = {0};
    status_t status =
        has_job ? ST_OK : dmn_store_job_get(session->daemon->store, session->run->job.id, DMN_JOB_ALL, &job);
    if (status == ST_OK) {
        Gradd__V1__Welcome welcome = GRADD__V1__WELCOME__INIT;
        welcome.has_job = !has_job;
        welcome.job.data = job.spec;
        welcome.job.len = job.spec_size;
        welcome.job_directory = session->run->folder;
        Gradd__V1__DaemonMessage message = GRADD__V1__DAEMON_MESSAGE__INIT;
        message.welcome = &welcome;
        status = rpc_call_write(session->call, &message.base);
    }
    dmn_job_release(&job);
    return status;
}

/* ---- telemetry ---- */

static bool name_is_good(const char *name)
{
    if (name == NULL || name[0] == '\0' || strlen(name) > MAX_METRIC_NAME) {
        return false;
    }
    for (const char *c = name; *c != '\0'; c++) {
        if ((unsigned char)*c <= ' ' || *c == 127) {
            return false;
        }
    }
    return true;
}

static status_t points_convert(const Gradd__V1__Telemetry *telemetry, dmn_point_t **points_p)
{
    dmn_point_t *points = mem_calloc(telemetry->n_points, sizeof(*points));
    if (points == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "%zu points", telemetry->n_points);
    }
    for (size_t i = 0; i < telemetry->n_points; i++) {
        const Gradd__V1__MetricPoint *point = telemetry->points[i];
        if (!name_is_good(point->name)) {
            mem_free(points);
            return ST_FAIL(ST_ERR_INVAL, "point %zu has a bad name", i);
        }
        points[i] =
            (dmn_point_t){.name = point->name, .step = point->step, .unix_ns = point->unix_ns, .value = point->value};
    }
    *points_p = points;
    return ST_OK;
}

static status_t checkpoints_convert(const Gradd__V1__Telemetry *telemetry, dmn_checkpoint_t **checkpoints_p)
{
    dmn_checkpoint_t *checkpoints = mem_calloc(telemetry->n_checkpoints, sizeof(*checkpoints));
    if (checkpoints == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "%zu checkpoints", telemetry->n_checkpoints);
    }
    for (size_t i = 0; i < telemetry->n_checkpoints; i++) {
        const Gradd__V1__CheckpointInfo *info = telemetry->checkpoints[i];
        checkpoints[i] = (dmn_checkpoint_t){.step = info->step,
                                            .size_bytes = info->size_bytes,
                                            .unix_ns = info->unix_ns,
                                            .path = info->path,
                                            .parameters_sha256 = info->parameters_sha256};
    }
    *checkpoints_p = checkpoints;
    return ST_OK;
}

static status_t telemetry_store(const session_t *session, const Gradd__V1__Telemetry *telemetry)
{
    dmn_point_t *points = NULL;
    dmn_checkpoint_t *checkpoints = NULL;
    if (telemetry->text != NULL && strlen(telemetry->text) > MAX_TEXT) {
        return ST_FAIL(ST_ERR_INVAL, "sampled text of %zu bytes", strlen(telemetry->text));
    }
    status_t status = points_convert(telemetry, &points);
    if (status == ST_OK) {
        status = checkpoints_convert(telemetry, &checkpoints);
    }
    if (status == ST_OK) {
        /* until rank 0 has looked for a checkpoint it knows neither its step nor how many there are */
        bool has_progress = session->number == 0 && telemetry->has_step && telemetry->steps_total > 0;
        dmn_report_t report = {.job_id = session->run->job.id,
                               .has_progress = has_progress,
                               .step = telemetry->step,
                               .steps_total = telemetry->steps_total,
                               .points = points,
                               .n_points = (int)telemetry->n_points,
                               .checkpoints = checkpoints,
                               .n_checkpoints = (int)telemetry->n_checkpoints,
                               .fingerprint = telemetry->fingerprint,
                               .text = telemetry->text};
        bool is_empty = !report.has_progress && report.n_points == 0 && report.n_checkpoints == 0 &&
                        report.fingerprint == NULL && report.text == NULL;
        status = is_empty ? ST_OK : dmn_store_report(session->daemon->store, &report);
    }
    mem_free(points);
    mem_free(checkpoints);
    return status;
}

/* When the first step of the attempt was finished: as its metrics say, else now. */
static int64_t first_step_time(const Gradd__V1__Telemetry *telemetry)
{
    int64_t first_ns = clock_wall_ns();
    for (size_t i = 0; i < telemetry->n_points; i++) {
        int64_t unix_ns = telemetry->points[i]->unix_ns;
        if (unix_ns > 0 && unix_ns < first_ns) {
            first_ns = unix_ns;
        }
    }
    return first_ns;
}

/* Under the lock: STARTING becomes RUNNING when a step is finished that the attempt didn't begin with. */
static status_t progress_note(const session_t *session, const Gradd__V1__Telemetry *telemetry)
{
    dmn_run_t *run = session->run;
    bool is_starting = telemetry->phase != NULL && strcmp(telemetry->phase, "starting") == 0;
    if (session->number != 0 || !telemetry->has_step || run->is_ended || run->attempt.number != session->attempt) {
        return ST_OK;
    }
    if (!run->has_base_step || is_starting) {
        run->has_base_step = true;
        run->base_step = is_starting || run->job.attempt > 1 ? telemetry->step : 0;
    }
    bool is_on = telemetry->step > run->base_step;
    if (!is_on || run->job.first_step_ns != 0 || !dmn_state_is_live(run->job.state)) {
        return ST_OK;
    }
    run->job.first_step_ns = first_step_time(telemetry);
    status_t status = ST_OK;
    if (run->job.state == DMN_STATE_STARTING) {
        char reason[64];
        (void)snprintf(reason, sizeof(reason), "first step of attempt %d finished", run->attempt.number);
        status = dmn_run_change(session->daemon, run, DMN_STATE_RUNNING, reason);
    }
    if (status != ST_OK) {
        run->job.first_step_ns = 0;
    }
    return status;
}

static status_t telemetry_handle(const session_t *session, const Gradd__V1__Telemetry *telemetry)
{
    status_t status = telemetry_store(session, telemetry);
    if (status != ST_OK) {
        return status;
    }
    (void)pthread_mutex_lock(&session->daemon->lock);
    status = progress_note(session, telemetry);
    if (status == ST_OK && telemetry->note != NULL && telemetry->note[0] != '\0' && !session->run->is_ended) {
        status = dmn_job_note(session->daemon->store, &session->run->job, telemetry->note);
    }
    (void)pthread_mutex_unlock(&session->daemon->lock);
    dmn_notice(session->daemon);
    if (status == ST_OK && telemetry->has_sequence) {
        Gradd__V1__DaemonMessage message = GRADD__V1__DAEMON_MESSAGE__INIT;
        message.has_ack = 1;
        message.ack = telemetry->sequence;
        status = rpc_call_write(session->call, &message.base);
    }
    return status;
}

/* ---- goodbye ---- */

/* Whether a word weighs more than the one there is: rank 0's good outcomes, then permanent failures, then the first. */
static bool goodbye_is_stronger(const dmn_goodbye_t *old, const dmn_goodbye_t *new, int rank)
{
    if (old->outcome == DMN_OUTCOME_NONE) {
        return rank == 0 || new->outcome == DMN_OUTCOME_FAILED;
    }
    if (rank == 0 && new->outcome != DMN_OUTCOME_FAILED) {
        return true;
    }
    return old->outcome == DMN_OUTCOME_FAILED && new->outcome == DMN_OUTCOME_FAILED &&new->is_permanent &&
           !old->is_permanent;
}

static status_t goodbye_handle(const session_t *session, const Gradd__V1__Goodbye *goodbye)
{
    dmn_daemon_t *daemon = session->daemon;
    dmn_run_t *run = session->run;
    dmn_goodbye_t word = {.outcome = goodbye->has_outcome ? (dmn_outcome_t)goodbye->outcome : DMN_OUTCOME_FAILED,
                          .message = mem_strdup(goodbye->message == NULL ? "" : goodbye->message),
                          .is_permanent = goodbye->has_is_permanent && goodbye->is_permanent,
                          .step = goodbye->step,
                          .parameters_sha256 =
                              mem_strdup(goodbye->parameters_sha256 == NULL ? "" : goodbye->parameters_sha256)};
    status_t status = ST_OK;
    if (word.outcome < DMN_OUTCOME_SUCCEEDED || word.outcome > DMN_OUTCOME_FAILED) {
        status = ST_FAIL(ST_ERR_INVAL, "no outcome has the number %d", (int)word.outcome);
    } else if (word.message == NULL || word.parameters_sha256 == NULL) {
        status = ST_FAIL(ST_ERR_NOMEM, "goodbye of rank %d", session->number);
    }
    (void)pthread_mutex_lock(&daemon->lock);
    if (status == ST_OK && !run->is_ended && run->attempt.number == session->attempt) {
        if (goodbye_is_stronger(&run->attempt.goodbye, &word, session->number)) {
            status = dmn_store_attempt_goodbye(daemon->store, run->job.id, session->attempt, &word);
            if (status == ST_OK) {
                dmn_goodbye_release(&run->attempt.goodbye);
                run->attempt.goodbye = word;
                word = (dmn_goodbye_t){.outcome = DMN_OUTCOME_NONE};
            }
        }
        if (status == ST_OK) {
            run->ranks[session->number].has_left = true;
            if (goodbye->outcome == GRADD__V1__GOODBYE__OUTCOME__FAILED && run->failed_ns == 0) {
                run->failed_ns = clock_now_ns();
            }
            if (session->number == 0 && run->left_ns == 0) {
                run->left_ns = clock_now_ns();
            }
        }
    }
    (void)pthread_mutex_unlock(&daemon->lock);
    dmn_goodbye_release(&word);
    return status;
}

static bool session_is_over(const session_t *session)
{
    (void)pthread_mutex_lock(&session->daemon->lock);
    bool is_over = session->run->is_ended || session->run->attempt.number != session->attempt ||
                   session->run->ranks[session->number].call != session->call;
    (void)pthread_mutex_unlock(&session->daemon->lock);
    return is_over;
}

static status_t messages_handle(const session_t *session)
{
    for (;;) {
        ProtobufCMessage *message = NULL;
        status_t status = rpc_call_read(session->call, READ_MS, &message);
        if (session_is_over(session)) {
            if (status == ST_OK && message != NULL) {
                protobuf_c_message_free_unpacked(message, NULL);
            }
            return ST_OK;
        }
        if (status == ST_ERR_TIMEOUT) {
            continue;
        }
        if (status != ST_OK || message == NULL) {
            return status;
        }
        (void)pthread_mutex_lock(&session->daemon->lock);
        session->run->ranks[session->number].heard_ns = clock_now_ns();
        (void)pthread_mutex_unlock(&session->daemon->lock);
        const Gradd__V1__WorkerMessage *content = (const Gradd__V1__WorkerMessage *)message;
        if (content->telemetry != NULL) {
            status = telemetry_handle(session, content->telemetry);
        }
        if (status == ST_OK && content->goodbye != NULL) {
            status = goodbye_handle(session, content->goodbye);
        }
        protobuf_c_message_free_unpacked(message, NULL);
        if (status != ST_OK) {
            return status;
        }
    }
}

static void session_close(session_t *session)
{
    dmn_daemon_t *daemon = session->daemon;
    (void)pthread_mutex_lock(&daemon->lock);
    dmn_run_rank_t *rank = &session->run->ranks[session->number];
    if (rank->call == session->call && session->run->attempt.number == session->attempt) {
        rank->call = NULL;
        rank->lost_ns = clock_now_ns();
    }
    while (rank->n_writers > 0) {
        (void)pthread_cond_wait(&daemon->writers_left, &daemon->lock);
    }
    dmn_run_unref(session->run);
    (void)pthread_mutex_unlock(&daemon->lock);
    dmn_supervisor_wake(daemon);
}

status_t dmn_rpc_attach(rpc_call_t *call, const ProtobufCMessage *request, void *arg)
{
    (void)request;
    session_t session = {.daemon = arg, .call = call};
    ProtobufCMessage *message = NULL;
    int64_t job_id = 0;
    status_t status = hello_read(call, &message);
    if (status != ST_OK) {
        return status;
    }
    const Gradd__V1__Hello *hello = ((const Gradd__V1__WorkerMessage *)message)->hello;
    status = dmn_job_id_parse(hello->job_id, &job_id);
    bool is_refused = true;
    if (status == ST_OK) {
        (void)pthread_mutex_lock(&session.daemon->lock);
        hello_check(&session, hello, job_id, &is_refused);
        (void)pthread_mutex_unlock(&session.daemon->lock);
        if (is_refused) {
            status = refuse(call, job_id, hello->attempt);
        }
    }
    if (status == ST_OK && !is_refused) {
        char localhost[] = "";
        dmn_rank_t rank = {
            .rank = session.number, .host = hello->host == NULL ? localhost : hello->host, .pid = hello->pid};
        status = rank_store(&session, &rank);
        if (status == ST_OK) {
            status = welcome_send(&session, hello->has_has_job && hello->has_job);
        }
        dmn_supervisor_wake(session.daemon);
    }
    protobuf_c_message_free_unpacked(message, NULL);
    if (!is_refused) {
        if (status == ST_OK) {
            status = messages_handle(&session);
        }
        session_close(&session);
    }
    return status;
}
