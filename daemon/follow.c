/* SPDX-License-Identifier: Apache-2.0 */
/* follow: the streams Watch, Logs and Metrics. Each can be taken up again where it broke off. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "daemon/daemon_internal.h"
#include "daemon/files.h"

enum { PAGE = 500, CHUNK_BYTES = 64 * 1024, LOOK_MS = 100, WAIT_MS = 500, MAX_NAMES = 100 };

static status_t job_state(dmn_daemon_t *daemon, int64_t id, dmn_job_t *job_p)
{
    return dmn_store_job_get(daemon->store, id, DMN_JOB_ROW, job_p);
}

/* ---- Watch ---- */

static status_t event_send(rpc_call_t *call, const dmn_event_t *event)
{
    char id[24];
    (void)snprintf(id, sizeof(id), "%" PRId64, event->job_id);
    Gradd__V1__Event message = GRADD__V1__EVENT__INIT;
    message.has_number = message.has_unix_ns = message.has_state = message.has_attempt = message.has_step = 1;
    message.number = event->number;
    message.job_id = id;
    message.unix_ns = event->unix_ns;
    message.state = (Gradd__V1__State)event->state;
    message.reason = event->reason;
    message.attempt = event->attempt;
    message.step = event->step;
    return rpc_call_write(call, &message.base);
}

/* One page; *n_p events were sent and *after moved on. */
static status_t events_send(dmn_daemon_t *daemon, rpc_call_t *call, int64_t id, int64_t *after, int *n_p)
{
    dmn_event_t *events = NULL;
    int n = 0;
    status_t status = dmn_store_events_get(daemon->store, id, *after, PAGE, &events, &n);
    for (int i = 0; status == ST_OK && i < n; i++) {
        status = event_send(call, &events[i]);
        *after = events[i].number;
    }
    dmn_events_release(events, status == ST_OK || n > 0 ? n : 0);
    *n_p = n;
    return status;
}

status_t dmn_rpc_watch(rpc_call_t *call, const ProtobufCMessage *request, void *arg)
{
    dmn_daemon_t *daemon = arg;
    const Gradd__V1__WatchRequest *watch = (const Gradd__V1__WatchRequest *)request;
    int64_t id = 0;
    int64_t after = watch->has_after ? watch->after : 0;
    status_t status = ST_OK;
    if (watch->id != NULL && watch->id[0] != '\0') {
        status = dmn_job_id_parse(watch->id, &id);
    }
    while (status == ST_OK && !rpc_call_is_cancelled(call)) {
        uint64_t seen = dmn_notice_number(daemon);
        dmn_job_t job = {0};
        /* The state before the events: a final one has its event among those that are read next. */
        status = id == 0 ? ST_OK : job_state(daemon, id, &job);
        bool is_final = dmn_state_is_final(job.state);
        dmn_job_release(&job);
        int n = 1;
        while (status == ST_OK && n > 0) {
            status = events_send(daemon, call, id, &after, &n);
        }
        if (status == ST_OK && is_final) {
            return ST_OK;
        }
        if (status == ST_OK) {
            dmn_notice_wait(daemon, seen, WAIT_MS);
        }
    }
    return status;
}

/* ---- Logs ---- */

static char *log_path(const dmn_daemon_t *daemon, const dmn_job_t *job, int rank)
{
    char *folder = dmn_job_folder(daemon, job->id);
    char *path = NULL;
    if (folder != NULL) {
        path = rank < 0 ? dmn_format("%s/attempts/%d/launcher.log", folder, job->attempt)
                        : dmn_format("%s/logs/rank-%d.log", folder, rank);
    }
    mem_free(folder);
    return path;
}

typedef struct tail {
    int fd; /* -1: the file isn't there yet */
    int attempt;
    int64_t offset;
    char *bytes;
} tail_t;

/* Opens the log once it is there; the launcher's is another file in each attempt, and is then read from its start. */
static status_t tail_open(dmn_daemon_t *daemon, const dmn_job_t *job, int rank, tail_t *tail)
{
    if (tail->fd >= 0 && (rank >= 0 || job->attempt == tail->attempt)) {
        return ST_OK;
    }
    bool is_next = tail->fd >= 0;
    char *path = log_path(daemon, job, rank);
    if (path == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "log of job %" PRId64, job->id);
    }
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    status_t status = ST_OK;
    if (fd < 0 && errno != ENOENT) {
        status = ST_FAIL(status_from_errno(errno), "opening %s: %s", path, strerror(errno));
    } else if (fd >= 0) {
        struct stat info;
        if (is_next) {
            (void)close(tail->fd);
            tail->offset = 0;
        }
        if (tail->offset < 0 && fstat(fd, &info) == 0) {
            tail->offset = info.st_size + tail->offset > 0 ? info.st_size + tail->offset : 0;
        }
        tail->fd = fd;
        tail->attempt = job->attempt;
    }
    mem_free(path);
    return status;
}

static status_t chunk_send(rpc_call_t *call, const tail_t *tail, size_t size, dmn_state_t final_state)
{
    Gradd__V1__LogChunk chunk = GRADD__V1__LOG_CHUNK__INIT;
    chunk.has_offset = 1;
    chunk.offset = tail->offset < 0 ? 0 : tail->offset;
    chunk.has_data = size > 0;
    chunk.data.data = (uint8_t *)tail->bytes;
    chunk.data.len = size;
    chunk.has_final_state = final_state != DMN_STATE_NONE;
    chunk.final_state = (Gradd__V1__State)final_state;
    return rpc_call_write(call, &chunk.base);
}

/* From the offset to the end of the file as it is now. */
static status_t tail_send(rpc_call_t *call, tail_t *tail)
{
    while (tail->fd >= 0 && !rpc_call_is_cancelled(call)) {
        ssize_t n = pread(tail->fd, tail->bytes, CHUNK_BYTES, tail->offset);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return ST_FAIL(ST_ERR_IO, "reading the log: %s", strerror(errno));
        }
        if (n == 0) {
            return ST_OK;
        }
        status_t status = chunk_send(call, tail, (size_t)n, DMN_STATE_NONE);
        if (status != ST_OK) {
            return status;
        }
        tail->offset += n;
    }
    return ST_OK;
}

static status_t log_follow(dmn_daemon_t *daemon, rpc_call_t *call, int64_t id, int rank, bool is_following,
                           tail_t *tail)
{
    while (!rpc_call_is_cancelled(call)) {
        uint64_t seen = dmn_notice_number(daemon);
        dmn_job_t job = {0};
        /* The state before the file: in a final one nothing is written any more. */
        status_t status = job_state(daemon, id, &job);
        if (status == ST_OK && tail->fd >= 0) {
            status = tail_send(call, tail);
        }
        if (status == ST_OK) {
            status = tail_open(daemon, &job, rank, tail);
        }
        if (status == ST_OK) {
            status = tail_send(call, tail);
        }
        dmn_state_t state = job.state;
        dmn_job_release(&job);
        if (status != ST_OK || !is_following) {
            return status;
        }
        if (dmn_state_is_final(state)) {
            return chunk_send(call, tail, 0, state);
        }
        dmn_notice_wait(daemon, seen, LOOK_MS);
    }
    return ST_OK;
}

status_t dmn_rpc_logs(rpc_call_t *call, const ProtobufCMessage *request, void *arg)
{
    dmn_daemon_t *daemon = arg;
    const Gradd__V1__LogsRequest *logs = (const Gradd__V1__LogsRequest *)request;
    int64_t id = 0;
    dmn_job_t job = {0};
    status_t status = dmn_job_id_parse(logs->id, &id);
    if (status == ST_OK) {
        status = job_state(daemon, id, &job);
    }
    if (status == ST_OK && (logs->rank < -1 || logs->rank >= job.workers)) {
        status = ST_FAIL(ST_ERR_INVAL, "job %" PRId64 " has ranks 0 to %d (and -1, its launcher), not %d", id,
                         job.workers - 1, logs->rank);
        /* A job that was resumed with fewer workers keeps the others' logs. */
        char *path = logs->rank >= 0 ? log_path(daemon, &job, logs->rank) : NULL;
        if (path != NULL && access(path, R_OK) == 0) {
            status = ST_OK;
        }
        mem_free(path);
    }
    dmn_job_release(&job);
    if (status != ST_OK) {
        return status;
    }
    tail_t tail = {.fd = -1, .offset = logs->has_offset ? logs->offset : 0, .bytes = mem_alloc(CHUNK_BYTES)};
    if (tail.bytes == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "log of job %" PRId64, id);
    }
    status = log_follow(daemon, call, id, logs->rank, logs->has_follow && logs->follow, &tail);
    if (tail.fd >= 0) {
        (void)close(tail.fd);
    }
    mem_free(tail.bytes);
    return status;
}

/* ---- Metrics ---- */

static bool name_is_wanted(const Gradd__V1__MetricsRequest *query, const char *name)
{
    for (size_t i = 0; i < query->n_names; i++) {
        if (strcmp(query->names[i], name) == 0) {
            return true;
        }
    }
    return query->n_names == 0;
}

static status_t points_send(rpc_call_t *call, const Gradd__V1__MetricsRequest *query, const dmn_point_t *points, int n)
{
    Gradd__V1__MetricPoint *items = mem_calloc((size_t)n, sizeof(*items));
    Gradd__V1__MetricPoint **pointers = mem_calloc((size_t)n, sizeof(Gradd__V1__MetricPoint *));
    status_t status = ST_OK;
    size_t n_wanted = 0;
    if (items == NULL || pointers == NULL) {
        status = ST_FAIL(ST_ERR_NOMEM, "%d points", n);
    }
    for (int i = 0; status == ST_OK && i < n; i++) {
        if (!name_is_wanted(query, points[i].name)) {
            continue;
        }
        Gradd__V1__MetricPoint *item = &items[n_wanted];
        gradd__v1__metric_point__init(item);
        item->name = points[i].name;
        item->has_step = item->has_value = item->has_unix_ns = 1;
        item->step = points[i].step;
        item->value = points[i].value;
        item->unix_ns = points[i].unix_ns;
        pointers[n_wanted++] = item;
    }
    if (status == ST_OK && n_wanted > 0) {
        Gradd__V1__MetricBatch batch = GRADD__V1__METRIC_BATCH__INIT;
        batch.points = pointers;
        batch.n_points = n_wanted;
        status = rpc_call_write(call, &batch.base);
    }
    mem_free(items);
    mem_free(pointers);
    return status;
}

/* What is stored now, in the order of steps. */
static status_t history_send(dmn_daemon_t *daemon, rpc_call_t *call, int64_t id, const Gradd__V1__MetricsRequest *query)
{
    int64_t step = query->has_from_step ? query->from_step : INT64_MIN;
    char *name = NULL;
    int n = PAGE;
    status_t status = ST_OK;
    while (status == ST_OK && n == PAGE && !rpc_call_is_cancelled(call)) {
        dmn_point_t *points = NULL;
        n = 0;
        status = dmn_store_points_get(daemon->store, id, step, name, PAGE, &points, &n);
        if (status == ST_OK && n > 0) {
            status = points_send(call, query, points, n);
            mem_free(name);
            step = points[n - 1].step;
            name = points[n - 1].name;
            points[n - 1].name = NULL;
        }
        dmn_points_release(points, n);
    }
    mem_free(name);
    return status;
}

/* What is stored from a sequence number on, until the job is final. */
static status_t metrics_follow(dmn_daemon_t *daemon, rpc_call_t *call, int64_t id,
                               const Gradd__V1__MetricsRequest *query, int64_t sequence)
{
    int64_t from_step = query->has_from_step ? query->from_step : INT64_MIN;
    while (!rpc_call_is_cancelled(call)) {
        uint64_t seen = dmn_notice_number(daemon);
        dmn_job_t job = {0};
        status_t status = job_state(daemon, id, &job);
        bool is_final = dmn_state_is_final(job.state);
        dmn_job_release(&job);
        int n = PAGE;
        while (status == ST_OK && n == PAGE) {
            dmn_point_t *points = NULL;
            n = 0;
            status = dmn_store_points_after(daemon->store, id, from_step, sequence, PAGE, &points, &n);
            if (status == ST_OK && n > 0) {
                status = points_send(call, query, points, n);
                sequence = points[n - 1].sequence;
            }
            dmn_points_release(points, n);
        }
        if (status != ST_OK || is_final) {
            return status;
        }
        dmn_notice_wait(daemon, seen, WAIT_MS);
    }
    return ST_OK;
}

status_t dmn_rpc_metrics(rpc_call_t *call, const ProtobufCMessage *request, void *arg)
{
    dmn_daemon_t *daemon = arg;
    const Gradd__V1__MetricsRequest *query = (const Gradd__V1__MetricsRequest *)request;
    int64_t id = 0;
    dmn_job_t job = {0};
    if (query->n_names > MAX_NAMES) {
        return ST_FAIL(ST_ERR_INVAL, "%zu names; at most %d", query->n_names, (int)MAX_NAMES);
    }
    status_t status = dmn_job_id_parse(query->id, &id);
    if (status == ST_OK) {
        status = job_state(daemon, id, &job);
    }
    dmn_job_release(&job);
    if (status != ST_OK) {
        return status;
    }
    int64_t sequence = dmn_store_points_sequence(daemon->store);
    status = history_send(daemon, call, id, query);
    if (status == ST_OK && query->has_follow && query->follow) {
        status = metrics_follow(daemon, call, id, query, sequence);
    }
    return status;
}
