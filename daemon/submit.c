/* SPDX-License-Identifier: Apache-2.0 */
/* submit: Submit and Validate. The YAML is read on the call's own thread. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "daemon/daemon_internal.h"
#include "daemon/files.h"

enum { MAX_PAIRS = 1000, MAX_USER = 128, MAX_ERROR_TEXT = 1900 };

static status_t pairs_read(Gradd__V1__Entry *const *entries, size_t n, const char *what, spec_pair_t **pairs_p)
{
    if (n > MAX_PAIRS) {
        return ST_FAIL(ST_ERR_INVAL, "%zu entries of %s; at most %d are read", n, what, (int)MAX_PAIRS);
    }
    spec_pair_t *pairs = mem_calloc(n, sizeof(*pairs));
    if (pairs == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "%zu entries of %s", n, what);
    }
    for (size_t i = 0; i < n; i++) {
        if (entries[i]->key == NULL || entries[i]->key[0] == '\0') {
            mem_free(pairs);
            return ST_FAIL(ST_ERR_INVAL, "entry %zu of %s has no key", i, what);
        }
        pairs[i] = (spec_pair_t){.key = entries[i]->key, .value = entries[i]->value == NULL ? "" : entries[i]->value};
    }
    *pairs_p = pairs;
    return ST_OK;
}

static status_t request_parse(const Gradd__V1__SubmitRequest *request, spec_job_t **job_p, spec_problems_t *problems)
{
    if (request->yaml == NULL) {
        return ST_FAIL(ST_ERR_INVAL, "the request has no job (field yaml)");
    }
    size_t length = strlen(request->yaml);
    if (length > SPEC_MAX_TEXT_BYTES) {
        return ST_FAIL(ST_ERR_INVAL, "the job has %zu bytes; at most %d are read", length, (int)SPEC_MAX_TEXT_BYTES);
    }
    if (request->directory != NULL && request->directory[0] != '\0' && request->directory[0] != '/') {
        return ST_FAIL(ST_ERR_INVAL, "directory %.256s is not absolute", request->directory);
    }
    if (request->user != NULL && strlen(request->user) > MAX_USER) {
        return ST_FAIL(ST_ERR_INVAL, "user has %zu bytes; at most %d", strlen(request->user), (int)MAX_USER);
    }
    spec_pair_t *set = NULL;
    spec_pair_t *environment = NULL;
    status_t status = pairs_read(request->set, request->n_set, "set", &set);
    if (status == ST_OK) {
        status = pairs_read(request->environment, request->n_environment, "environment", &environment);
    }
    if (status == ST_OK) {
        bool has_name = request->file_name != NULL && request->file_name[0] != '\0';
        bool has_directory = request->directory != NULL && request->directory[0] != '\0';
        spec_source_t source = {.text = request->yaml,
                                .text_length = length,
                                .file_name = has_name ? request->file_name : NULL,
                                .directory = has_directory ? request->directory : NULL,
                                .set = set,
                                .n_set = (int)request->n_set,
                                .environment = environment,
                                .n_environment = (int)request->n_environment};
        status = spec_job_parse(&source, job_p, problems);
    }
    mem_free(set);
    mem_free(environment);
    return status;
}

/* All problems as one message, as far as a gRPC status can hold them. */
static status_t problems_fail(const spec_problems_t *problems)
{
    strbuf_t text = {0};
    int n_shown = 0;
    for (; n_shown < problems->n_items; n_shown++) {
        strbuf_t line = {0};
        spec_problems_t one = {.items = &problems->items[n_shown], .n_items = 1};
        spec_problems_format(&one, &line);
        if (n_shown > 0 && text.length + line.length > MAX_ERROR_TEXT) {
            strbuf_release(&line);
            break;
        }
        strbuf_append(&text, strbuf_text(&line));
        strbuf_release(&line);
    }
    if (n_shown < problems->n_items) {
        strbuf_appendf(&text, "and %d more; Validate lists all\n", problems->n_items - n_shown);
    }
    if (text.length > 0 && text.data[text.length - 1] == '\n') {
        text.data[text.length - 1] = '\0';
    }
    status_t status = ST_FAIL(ST_ERR_PARSE, "%s", strbuf_text(&text));
    strbuf_release(&text);
    return status;
}

static status_t fit_check(dmn_daemon_t *daemon, const spec_job_t *job)
{
    int workers = job->resources == NULL ? 1 : job->resources->workers;
    (void)pthread_mutex_lock(&daemon->lock);
    status_t status = dmn_scheduler_check(&daemon->scheduler, workers, spec_job_slots(job));
    (void)pthread_mutex_unlock(&daemon->lock);
    return status == ST_OK ? dmn_device_check(daemon, job) : status;
}

/* ---- Submit ---- */

/* The job's folder with job.yaml, durable. One of that number without a row was never acknowledged: it is replaced. */
static status_t folder_make(const dmn_daemon_t *daemon, int64_t id, const char *yaml)
{
    static const char *const below[] = {"logs", "checkpoints", "attempts"};
    char *jobs = dmn_format("%s/jobs", daemon->state_folder);
    char *folder = dmn_job_folder(daemon, id);
    char *file = folder == NULL ? NULL : dmn_format("%s/job.yaml", folder);
    status_t status = ST_OK;
    if (jobs == NULL || file == NULL) {
        status = ST_FAIL(ST_ERR_NOMEM, "folder of job %" PRId64, id);
    }
    if (status == ST_OK) {
        status = dmn_folder_make(jobs, 0700);
    }
    if (status == ST_OK) {
        status = dmn_tree_remove(folder);
    }
    for (size_t i = 0; status == ST_OK && i < sizeof(below) / sizeof(below[0]); i++) {
        char *path = dmn_format("%s/%s", folder, below[i]);
        status = path == NULL ? ST_FAIL(ST_ERR_NOMEM, "folder of job %" PRId64, id) : dmn_folder_make(path, 0700);
        mem_free(path);
    }
    if (status == ST_OK) {
        status = dmn_file_write_durable(file, yaml, strlen(yaml));
    }
    if (status == ST_OK) {
        status = dmn_folder_sync(jobs);
    }
    mem_free(jobs);
    mem_free(folder);
    mem_free(file);
    return status;
}

static void folder_remove(const dmn_daemon_t *daemon, int64_t id)
{
    char *folder = dmn_job_folder(daemon, id);
    if (folder != NULL) {
        (void)dmn_tree_remove(folder);
    }
    mem_free(folder);
}

/* What went wrong must survive the clean-up, which may fail too and record its own message. */
static status_t job_abandon(const dmn_daemon_t *daemon, int64_t id, status_t status)
{
    char *message = mem_strdup(status_message());
    folder_remove(daemon, id);
    status = ST_FAIL(status, "the job is not accepted: %s", message == NULL ? status_text(status) : message);
    mem_free(message);
    return status;
}

static status_t job_store(dmn_daemon_t *daemon, const Gradd__V1__SubmitRequest *request, const spec_job_t *spec,
                          int64_t *id_p)
{
    uint8_t *packed = NULL;
    size_t packed_size = 0;
    status_t status = spec_job_pack(spec, &packed, &packed_size);
    if (status != ST_OK) {
        return status;
    }
    char empty[] = "";
    char reason[] = "submitted";
    int64_t now_ns = clock_wall_ns();
    dmn_job_t job = {.id = dmn_store_id_reserve(daemon->store),
                     .name = spec->name == NULL ? empty : spec->name,
                     .user = request->user == NULL ? empty : request->user,
                     .yaml = request->yaml,
                     .spec = packed,
                     .spec_size = packed_size,
                     .workers = spec->resources == NULL ? 1 : spec->resources->workers,
                     .slots = spec_job_slots(spec),
                     .submitted_ns = now_ns,
                     .queued_ns = now_ns,
                     .state = DMN_STATE_QUEUED,
                     .reason = reason,
                     .steps_total = spec->training == NULL ? 0 : spec->training->steps};
    status = folder_make(daemon, job.id, request->yaml);
    if (status == ST_OK) {
        status = dmn_store_job_add(daemon->store, &job);
    }
    mem_free(packed);
    if (status != ST_OK) {
        return job_abandon(daemon, job.id, status);
    }
    (void)pthread_mutex_lock(&daemon->lock);
    status = dmn_scheduler_enqueue(&daemon->scheduler, job.id, job.queued_ns, job.slots);
    (void)pthread_mutex_unlock(&daemon->lock);
    if (status != ST_OK) {
        /* Accepted all the same: it is on disk, and the next start of the daemon queues it. */
        log_error("job %" PRId64 " is stored but not queued: %s", job.id, status_message());
    }
    *id_p = job.id;
    return ST_OK;
}

status_t dmn_rpc_submit(rpc_call_t *call, const ProtobufCMessage *request, void *arg)
{
    dmn_daemon_t *daemon = arg;
    const Gradd__V1__SubmitRequest *submit = (const Gradd__V1__SubmitRequest *)request;
    spec_job_t *spec = NULL;
    spec_problems_t problems = {0};
    int64_t id = 0;
    status_t status = request_parse(submit, &spec, &problems);
    if (status == ST_ERR_PARSE && problems.n_items > 0) {
        status = problems_fail(&problems);
    }
    if (status == ST_OK) {
        status = fit_check(daemon, spec);
    }
    if (status == ST_OK) {
        status = job_store(daemon, submit, spec, &id);
    }
    spec_problems_release(&problems);
    if (spec != NULL) {
        spec_job_free(spec);
    }
    if (status != ST_OK) {
        return status;
    }
    log_info("job %" PRId64 " is QUEUED", id);
    dmn_notice(daemon);
    dmn_supervisor_wake(daemon);
    char text[24];
    (void)snprintf(text, sizeof(text), "%" PRId64, id);
    Gradd__V1__SubmitResponse response = GRADD__V1__SUBMIT_RESPONSE__INIT;
    response.id = text;
    return rpc_call_write(call, &response.base);
}

/* ---- Validate ---- */

static status_t problems_send(rpc_call_t *call, const spec_problems_t *problems)
{
    size_t n = (size_t)problems->n_items;
    Gradd__V1__Problem *items = mem_calloc(n, sizeof(*items));
    Gradd__V1__Problem **pointers = mem_calloc(n, sizeof(Gradd__V1__Problem *));
    status_t status = ST_OK;
    if (items == NULL || pointers == NULL) {
        status = ST_FAIL(ST_ERR_NOMEM, "%zu problems", n);
    } else {
        for (size_t i = 0; i < n; i++) {
            gradd__v1__problem__init(&items[i]);
            items[i].file = problems->items[i].file;
            items[i].has_line = items[i].has_column = 1;
            items[i].line = problems->items[i].line;
            items[i].column = problems->items[i].column;
            items[i].message = problems->items[i].message;
            pointers[i] = &items[i];
        }
        Gradd__V1__ValidateResponse response = GRADD__V1__VALIDATE_RESPONSE__INIT;
        response.problems = pointers;
        response.n_problems = n;
        status = rpc_call_write(call, &response.base);
    }
    mem_free(items);
    mem_free(pointers);
    return status;
}

status_t dmn_rpc_validate(rpc_call_t *call, const ProtobufCMessage *request, void *arg)
{
    dmn_daemon_t *daemon = arg;
    const Gradd__V1__SubmitRequest *submit = (const Gradd__V1__SubmitRequest *)request;
    spec_job_t *spec = NULL;
    spec_problems_t problems = {0};
    strbuf_t yaml = {0};
    status_t status = request_parse(submit, &spec, &problems);
    if (status == ST_ERR_PARSE && problems.n_items > 0) {
        status = problems_send(call, &problems);
    } else if (status == ST_OK && fit_check(daemon, spec) != ST_OK) {
        char *message = mem_strdup(status_message());
        char name[] = "job.yaml";
        spec_problem_t item = {.file =
                                   submit->file_name != NULL && submit->file_name[0] != '\0' ? submit->file_name : name,
                               .message = message};
        spec_problems_t one = {.items = &item, .n_items = 1};
        status = problems_send(call, &one);
        mem_free(message);
    } else if (status == ST_OK) {
        status = spec_job_format(spec, &yaml);
        if (status == ST_OK) {
            Gradd__V1__ValidateResponse response = GRADD__V1__VALIDATE_RESPONSE__INIT;
            response.normalized_yaml = yaml.data;
            status = rpc_call_write(call, &response.base);
        }
    }
    strbuf_release(&yaml);
    spec_problems_release(&problems);
    if (spec != NULL) {
        spec_job_free(spec);
    }
    return status;
}
