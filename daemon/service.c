/* SPDX-License-Identifier: Apache-2.0 */
/* service: the table of RPCs; Get, List, GetInfo, and jobs as messages. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "daemon/daemon_internal.h"

status_t dmn_job_id_parse(const char *text, int64_t *id_p)
{
    if (text == NULL || text[0] == '\0') {
        return ST_FAIL(ST_ERR_INVAL, "the request names no job (field id)");
    }
    char *end = NULL;
    errno = 0;
    long long id = strtoll(text, &end, 10);
    if (errno != 0 || *end != '\0' || id <= 0 || text[0] < '0' || text[0] > '9') {
        return ST_FAIL(ST_ERR_NOT_FOUND, "no job %.64s: ids are numbers", text);
    }
    *id_p = id;
    return ST_OK;
}

/* A job as a message, with what it points to. Embedded: {0}, message_release. */
typedef struct message {
    Gradd__V1__Job job;
    char id[24];
    dmn_job_t row;
    dmn_point_t *points;
    dmn_checkpoint_t *checkpoints;
    dmn_rank_t *ranks;
    int n_points, n_checkpoints, n_ranks;
    Gradd__V1__Metric *metrics;
    Gradd__V1__CheckpointInfo *infos;
    Gradd__V1__Rank *rank_messages;
    void **pointers; /* the arrays of pointers that protobuf-c wants, in one block */
    char *folder;
    strbuf_t reason;
} message_t;

static void message_release(message_t *message)
{
    dmn_job_release(&message->row);
    dmn_points_release(message->points, message->n_points);
    dmn_checkpoints_release(message->checkpoints, message->n_checkpoints);
    dmn_ranks_release(message->ranks, message->n_ranks);
    mem_free(message->metrics);
    mem_free(message->infos);
    mem_free(message->rank_messages);
    mem_free(message->pointers);
    mem_free(message->folder);
    strbuf_release(&message->reason);
}

static status_t lists_fill(message_t *message)
{
    size_t n = (size_t)message->n_points + (size_t)message->n_checkpoints + (size_t)message->n_ranks;
    message->metrics = mem_calloc((size_t)message->n_points, sizeof(*message->metrics));
    message->infos = mem_calloc((size_t)message->n_checkpoints, sizeof(*message->infos));
    message->rank_messages = mem_calloc((size_t)message->n_ranks, sizeof(*message->rank_messages));
    message->pointers = mem_calloc(n, sizeof(*message->pointers));
    if (message->metrics == NULL || message->infos == NULL || message->rank_messages == NULL ||
        message->pointers == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "answer of %zu entries", n);
    }
    void **next = message->pointers;
    message->job.metrics = (Gradd__V1__Metric **)next;
    message->job.n_metrics = (size_t)message->n_points;
    for (int i = 0; i < message->n_points; i++) {
        gradd__v1__metric__init(&message->metrics[i]);
        message->metrics[i].name = message->points[i].name;
        message->metrics[i].has_value = 1;
        message->metrics[i].value = message->points[i].value;
        *next++ = &message->metrics[i];
    }
    message->job.checkpoints = (Gradd__V1__CheckpointInfo **)next;
    message->job.n_checkpoints = (size_t)message->n_checkpoints;
    for (int i = 0; i < message->n_checkpoints; i++) {
        Gradd__V1__CheckpointInfo *info = &message->infos[i];
        gradd__v1__checkpoint_info__init(info);
        info->has_step = info->has_size_bytes = info->has_unix_ns = 1;
        info->step = message->checkpoints[i].step;
        info->size_bytes = message->checkpoints[i].size_bytes;
        info->unix_ns = message->checkpoints[i].unix_ns;
        info->path = message->checkpoints[i].path;
        info->parameters_sha256 = message->checkpoints[i].parameters_sha256;
        *next++ = info;
    }
    message->job.ranks = (Gradd__V1__Rank **)next;
    message->job.n_ranks = (size_t)message->n_ranks;
    for (int i = 0; i < message->n_ranks; i++) {
        Gradd__V1__Rank *rank = &message->rank_messages[i];
        gradd__v1__rank__init(rank);
        rank->has_rank = rank->has_pid = 1;
        rank->rank = message->ranks[i].rank;
        rank->pid = message->ranks[i].pid;
        rank->host = message->ranks[i].host;
        *next++ = rank;
    }
    return ST_OK;
}

static void row_fill(message_t *message, dmn_job_part_t part)
{
    const dmn_job_t *row = &message->row;
    Gradd__V1__Job *job = &message->job;
    job->id = message->id;
    job->name = row->name;
    job->has_state = 1;
    job->state = (Gradd__V1__State)row->state;
    job->reason = message->reason.length > 0 ? message->reason.data : row->reason;
    job->has_attempt = job->has_step = job->has_steps_total = job->has_workers = job->has_slots = job->has_restarts = 1;
    job->attempt = row->attempt;
    job->step = row->step;
    job->steps_total = row->steps_total;
    job->workers = row->workers;
    job->slots = row->slots;
    job->restarts = row->restarts;
    job->parameters_sha256 = row->parameters_sha256;
    job->fingerprint = row->fingerprint;
    job->has_submitted_unix_ns = 1;
    job->submitted_unix_ns = row->submitted_ns;
    job->has_started_unix_ns = row->started_ns > 0;
    job->started_unix_ns = row->started_ns;
    job->has_first_step_unix_ns = row->first_step_ns > 0;
    job->first_step_unix_ns = row->first_step_ns;
    job->has_finished_unix_ns = row->finished_ns > 0;
    job->finished_unix_ns = row->finished_ns;
    job->user = row->user;
    job->directory = message->folder;
    if (part == DMN_JOB_ALL) {
        job->yaml = row->yaml;
        job->text = row->text;
    }
}

/* What a job that could begin waits for, in the place of the row's reason or behind it. */
static void wait_explain(dmn_daemon_t *daemon, message_t *message)
{
    const dmn_job_t *row = &message->row;
    (void)pthread_mutex_lock(&daemon->lock);
    const dmn_run_t *run = dmn_run_find(daemon, row->id);
    if (run != NULL && !run->is_live && run->is_room_told) {
        strbuf_appendf(&message->reason, "%s%swaits for room on the disk of %s",
                       row->state == DMN_STATE_RESTARTING ? row->reason : "",
                       row->state == DMN_STATE_RESTARTING ? "; " : "", daemon->state_folder);
    } else if (row->state == DMN_STATE_QUEUED) {
        dmn_scheduler_explain(&daemon->scheduler, row->id, &message->reason);
    }
    (void)pthread_mutex_unlock(&daemon->lock);
}

/* Takes the row over, also on failure. */
static status_t message_fill(dmn_daemon_t *daemon, dmn_job_t *row, dmn_job_part_t part, message_t *message)
{
    *message = (message_t){.row = *row};
    *row = (dmn_job_t){0};
    gradd__v1__job__init(&message->job);
    int64_t id = message->row.id;
    (void)snprintf(message->id, sizeof(message->id), "%" PRId64, id);
    message->folder = dmn_job_folder(daemon, id);
    status_t status = dmn_store_last_points(daemon->store, id, &message->points, &message->n_points);
    if (status == ST_OK) {
        status = dmn_store_checkpoints_get(daemon->store, id, &message->checkpoints, &message->n_checkpoints);
    }
    if (status == ST_OK) {
        status = dmn_store_ranks_get(daemon->store, id, &message->ranks, &message->n_ranks);
    }
    if (status == ST_OK) {
        wait_explain(daemon, message);
    }
    if (status == ST_OK) {
        status = lists_fill(message);
    }
    if (status == ST_OK) {
        row_fill(message, part);
    }
    return status;
}

status_t dmn_job_send(dmn_daemon_t *daemon, rpc_call_t *call, int64_t id, dmn_job_part_t part)
{
    dmn_job_t row = {0};
    status_t status = dmn_store_job_get(daemon->store, id, part, &row);
    if (status != ST_OK) {
        return status;
    }
    message_t message;
    status = message_fill(daemon, &row, part, &message);
    if (status == ST_OK) {
        status = rpc_call_write(call, &message.job.base);
    }
    message_release(&message);
    return status;
}

static status_t get(rpc_call_t *call, const ProtobufCMessage *request, void *arg)
{
    int64_t id = 0;
    status_t status = dmn_job_id_parse(((const Gradd__V1__JobRequest *)request)->id, &id);
    return status == ST_OK ? dmn_job_send(arg, call, id, DMN_JOB_ALL) : status;
}

static status_t list_send(dmn_daemon_t *daemon, rpc_call_t *call, dmn_job_t *rows, int n)
{
    message_t *messages = mem_calloc((size_t)n, sizeof(*messages));
    Gradd__V1__Job **jobs = mem_calloc((size_t)n, sizeof(Gradd__V1__Job *));
    status_t status = ST_OK;
    if (messages == NULL || jobs == NULL) {
        status = ST_FAIL(ST_ERR_NOMEM, "list of %d jobs", n);
    }
    int n_filled = 0;
    while (status == ST_OK && n_filled < n) {
        status = message_fill(daemon, &rows[n_filled], DMN_JOB_ROW, &messages[n_filled]);
        jobs[n_filled] = &messages[n_filled].job;
        n_filled++;
    }
    if (status == ST_OK) {
        Gradd__V1__ListResponse response = GRADD__V1__LIST_RESPONSE__INIT;
        response.jobs = jobs;
        response.n_jobs = (size_t)n;
        status = rpc_call_write(call, &response.base);
    }
    for (int i = 0; i < n_filled; i++) {
        message_release(&messages[i]);
    }
    mem_free(messages);
    mem_free(jobs);
    return status;
}

static status_t list(rpc_call_t *call, const ProtobufCMessage *request, void *arg)
{
    dmn_daemon_t *daemon = arg;
    const Gradd__V1__ListRequest *query = (const Gradd__V1__ListRequest *)request;
    unsigned states = 0;
    int64_t before = 0;
    for (size_t i = 0; i < query->n_states; i++) {
        if ((unsigned)query->states[i] >= DMN_STATE_COUNT) {
            return ST_FAIL(ST_ERR_INVAL, "no state has the number %d", (int)query->states[i]);
        }
        states |= 1U << (unsigned)query->states[i];
    }
    if (query->before != NULL && query->before[0] != '\0') {
        status_t status = dmn_job_id_parse(query->before, &before);
        if (status != ST_OK) {
            return status;
        }
    }
    if (query->limit < 1 || query->limit > DMN_MAX_LIST) {
        return ST_FAIL(ST_ERR_INVAL, "limit is %d; it must be 1 to %d", (int)query->limit, (int)DMN_MAX_LIST);
    }
    dmn_job_t *rows = NULL;
    int n = 0;
    status_t status = dmn_store_job_list(daemon->store, states, before, query->limit, &rows, &n);
    if (status == ST_OK) {
        status = list_send(daemon, call, rows, n);
        dmn_jobs_release(rows, n);
    }
    return status;
}

static status_t get_info(rpc_call_t *call, const ProtobufCMessage *request, void *arg)
{
    (void)request;
    dmn_daemon_t *daemon = arg;
    Gradd__V1__Info info = GRADD__V1__INFO__INIT;
    char version[] = GRADD_VERSION;
    info.version = version;
    info.has_slots = info.has_slots_used = info.has_started_unix_ns = info.has_pid = 1;
    (void)pthread_mutex_lock(&daemon->lock);
    info.slots = daemon->scheduler.n_slots;
    info.slots_used = daemon->scheduler.n_used;
    (void)pthread_mutex_unlock(&daemon->lock);
    info.state_directory = daemon->state_folder;
    info.started_unix_ns = daemon->started_ns;
    info.pid = getpid();
    info.host = daemon->host;
    return rpc_call_write(call, &info.base);
}

const rpc_method_t dmn_methods[] = {
    {"/gradd.v1.Gradd/Submit", RPC_UNARY, &gradd__v1__submit_request__descriptor, dmn_rpc_submit},
    {"/gradd.v1.Gradd/Validate", RPC_UNARY, &gradd__v1__submit_request__descriptor, dmn_rpc_validate},
    {"/gradd.v1.Gradd/Get", RPC_UNARY, &gradd__v1__job_request__descriptor, get},
    {"/gradd.v1.Gradd/List", RPC_UNARY, &gradd__v1__list_request__descriptor, list},
    {"/gradd.v1.Gradd/Watch", RPC_SERVER_STREAM, &gradd__v1__watch_request__descriptor, dmn_rpc_watch},
    {"/gradd.v1.Gradd/Logs", RPC_SERVER_STREAM, &gradd__v1__logs_request__descriptor, dmn_rpc_logs},
    {"/gradd.v1.Gradd/Metrics", RPC_SERVER_STREAM, &gradd__v1__metrics_request__descriptor, dmn_rpc_metrics},
    {"/gradd.v1.Gradd/Pause", RPC_UNARY, &gradd__v1__job_request__descriptor, dmn_rpc_pause},
    {"/gradd.v1.Gradd/Resume", RPC_UNARY, &gradd__v1__resume_request__descriptor, dmn_rpc_resume},
    {"/gradd.v1.Gradd/Cancel", RPC_UNARY, &gradd__v1__cancel_request__descriptor, dmn_rpc_cancel},
    {"/gradd.v1.Gradd/GetInfo", RPC_UNARY, &gradd__v1__info_request__descriptor, get_info},
    {"/gradd.v1.Worker/Attach", RPC_BIDI, &gradd__v1__worker_message__descriptor, dmn_rpc_attach},
};
const int dmn_n_methods = (int)(sizeof(dmn_methods) / sizeof(dmn_methods[0]));
