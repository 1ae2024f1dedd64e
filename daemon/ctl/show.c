/* SPDX-License-Identifier: Apache-2.0 */
/* show: lists and shows jobs and the daemon; the verbs that steer jobs. */
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "daemon/ctl/ctl.h"
#include "proto/spec.h"

enum { PAGE = 100 };

/* How long the job has run, or ran; "" before its start. */
static void elapsed_format(const ctl_job_t *job, char text_p[32])
{
    text_p[0] = '\0';
    if (job->started_unix_ns > 0) {
        int64_t end = job->finished_unix_ns > 0 ? job->finished_unix_ns : clock_wall_ns();
        ctl_duration_format(end > job->started_unix_ns ? end - job->started_unix_ns : 0, text_p);
    }
}

static void list_row(ctl_table_t *table, const ctl_job_t *job)
{
    char text[64];
    double loss;
    ctl_table_add(table, job->id);
    ctl_table_add(table, job->name);
    ctl_table_add_state(table, job->state);
    (void)snprintf(text, sizeof(text), "%lld/%lld", (long long)job->step, (long long)job->steps_total);
    ctl_table_add(table, text);
    text[0] = '\0';
    if (ctl_job_metric(job, "loss", &loss)) {
        ctl_value_format(loss, false, text);
    }
    ctl_table_add(table, text);
    (void)snprintf(text, sizeof(text), "%d", job->workers);
    ctl_table_add(table, text);
    elapsed_format(job, text);
    ctl_table_add(table, text);
    ctl_table_add(table, job->user);
    ctl_table_add(table, job->reason);
}

int ctl_list(ctl_t *ctl)
{
    static const char *const header[] = {"ID", "NAME", "STATE", "STEP", "LOSS", "WORKERS", "TIME", "USER", "REASON"};
    ctl_table_t table = {.n_columns = sizeof(header) / sizeof(header[0])};
    for (int i = 0; i < table.n_columns; i++) {
        ctl_table_add(&table, header[i]);
    }
    Gradd__V1__State states[GRADD__V1__STATE__CANCELLED + 1];
    Gradd__V1__ListRequest request = GRADD__V1__LIST_REQUEST__INIT;
    request.states = states;
    for (int i = 0; i < ctl->states.n_items && request.n_states < sizeof(states) / sizeof(states[0]); i++) {
        states[request.n_states++] = ctl_state_parse(ctl->states.items[i]);
    }
    json_t *rows = json_array();
    char before[32] = "";
    int64_t left = ctl->is_all ? INT64_MAX : ctl->limit;
    int result = CTL_OK;
    bool is_more = true;
    while (is_more && left > 0 && result == CTL_OK) {
        ProtobufCMessage *message = NULL;
        request.has_limit = 1;
        request.limit = left < PAGE ? (int32_t)left : PAGE;
        request.before = before[0] != '\0' ? before : NULL;
        result = ctl_call(ctl, "List", &request.base, &gradd__v1__list_response__descriptor, &message);
        const Gradd__V1__ListResponse *response = (const Gradd__V1__ListResponse *)message;
        size_t n = response != NULL ? response->n_jobs : 0;
        for (size_t i = 0; i < n; i++) {
            list_row(&table, response->jobs[i]);
            (void)json_array_append_new(rows, ctl_job_json(response->jobs[i], false));
            (void)snprintf(before, sizeof(before), "%s", response->jobs[i]->id);
        }
        is_more = n == (size_t)request.limit;
        left -= (int64_t)n;
        ctl_message_free(message);
    }
    if (result == CTL_OK && ctl->format == CTL_TABLE) {
        ctl_table_write(ctl, &table);
    } else if (result == CTL_OK) {
        ctl_render(ctl, rows);
    }
    json_decref(rows);
    ctl_table_release(&table);
    return result;
}

static void pair_add(ctl_table_t *table, const char *key, const char *value)
{
    if (value != NULL && value[0] != '\0') {
        ctl_table_add(table, key);
        ctl_table_add(table, value);
    }
}

static void time_add(ctl_table_t *table, const char *key, int64_t unix_ns)
{
    char text[32];
    if (unix_ns > 0) {
        ctl_time_format(unix_ns, text);
        pair_add(table, key, text);
    }
}

static void job_lists_add(ctl_table_t *table, const ctl_job_t *job)
{
    char text[320];
    for (size_t i = 0; i < job->n_metrics; i++) {
        char value[32];
        ctl_value_format(job->metrics[i]->value, false, value);
        (void)snprintf(text, sizeof(text), "%s %s", job->metrics[i]->name, value);
        pair_add(table, i == 0 ? "metrics" : " ", text);
    }
    for (size_t i = 0; i < job->n_checkpoints; i++) {
        const Gradd__V1__CheckpointInfo *c = job->checkpoints[i];
        (void)snprintf(text, sizeof(text), "step %lld  %.1f MiB  %s", (long long)c->step,
                       (double)c->size_bytes / (1024.0 * 1024.0), c->path != NULL ? c->path : "");
        pair_add(table, i == 0 ? "checkpoints" : " ", text);
    }
    for (size_t i = 0; i < job->n_ranks; i++) {
        const Gradd__V1__Rank *r = job->ranks[i];
        (void)snprintf(text, sizeof(text), "%d on %s, pid %lld", r->rank, r->host != NULL ? r->host : "?",
                       (long long)r->pid);
        pair_add(table, i == 0 ? "ranks" : " ", text);
    }
}

static void job_write(const ctl_t *ctl, const ctl_job_t *job)
{
    char text[64];
    ctl_table_t table = {.n_columns = 2};
    pair_add(&table, "id", job->id);
    pair_add(&table, "name", job->name);
    ctl_table_add(&table, "state");
    ctl_table_add_state(&table, job->state);
    pair_add(&table, "reason", job->reason);
    (void)snprintf(text, sizeof(text), "%lld of %lld", (long long)job->step, (long long)job->steps_total);
    pair_add(&table, "step", text);
    (void)snprintf(text, sizeof(text), "%d (%d restarts)", job->attempt, job->restarts);
    pair_add(&table, "attempt", text);
    (void)snprintf(text, sizeof(text), "%d on %d slots", job->workers, job->slots);
    pair_add(&table, "workers", text);
    elapsed_format(job, text);
    pair_add(&table, "time", text);
    pair_add(&table, "user", job->user);
    time_add(&table, "submitted", job->submitted_unix_ns);
    time_add(&table, "started", job->started_unix_ns);
    time_add(&table, "finished", job->finished_unix_ns);
    pair_add(&table, "parameters", job->parameters_sha256);
    pair_add(&table, "fingerprint", job->fingerprint);
    pair_add(&table, "directory", job->directory);
    job_lists_add(&table, job);
    ctl_table_write(ctl, &table);
    ctl_table_release(&table);
    if (job->text != NULL && job->text[0] != '\0') {
        (void)fputs("\n", stdout);
        ctl_write_clean(stdout, job->text, true);
        (void)fputs("\n", stdout);
    }
}

int ctl_show(ctl_t *ctl)
{
    ctl_job_t *job = NULL;
    int result = ctl_get(ctl, ctl->args[0], &job);
    if (result != CTL_OK) {
        return result;
    }
    if (ctl->is_spec) {
        (void)fputs(job->yaml != NULL ? job->yaml : "", stdout);
    } else if (ctl->format == CTL_TABLE) {
        job_write(ctl, job);
    } else {
        json_t *object = ctl_job_json(job, true);
        ctl_render(ctl, object);
        json_decref(object);
    }
    ctl_message_free(job);
    return CTL_OK;
}

/* Says in which state a job is after a request; takes the message. */
static void outcome_write(const ctl_t *ctl, ProtobufCMessage *message)
{
    const ctl_job_t *job = (const ctl_job_t *)message;
    (void)printf("job %s %s%s%s\n", job->id, ctl_state_color(ctl, job->state), ctl_state_name(job->state),
                 ctl_color_end(ctl));
    ctl_message_free(message);
}

int ctl_pause(ctl_t *ctl)
{
    int worst = CTL_OK;
    for (int i = 0; i < ctl->n_args; i++) {
        Gradd__V1__JobRequest request = GRADD__V1__JOB_REQUEST__INIT;
        request.id = ctl->args[i];
        ProtobufCMessage *message = NULL;
        int result = ctl_call(ctl, "Pause", &request.base, &gradd__v1__job__descriptor, &message);
        if (result == CTL_OK) {
            outcome_write(ctl, message);
        }
        worst = result > worst ? result : worst;
    }
    return worst;
}

int ctl_resume(ctl_t *ctl)
{
    Gradd__V1__ResumeRequest request = GRADD__V1__RESUME_REQUEST__INIT;
    request.id = ctl->args[0];
    request.has_workers = ctl->workers > 0;
    request.workers = (int32_t)ctl->workers;
    ProtobufCMessage *message = NULL;
    int result = ctl_call(ctl, "Resume", &request.base, &gradd__v1__job__descriptor, &message);
    if (result == CTL_OK) {
        outcome_write(ctl, message);
    }
    return result;
}

int ctl_cancel(ctl_t *ctl)
{
    int worst = CTL_OK;
    for (int i = 0; i < ctl->n_args; i++) {
        Gradd__V1__CancelRequest request = GRADD__V1__CANCEL_REQUEST__INIT;
        request.id = ctl->args[i];
        request.has_force = ctl->is_force;
        request.force = ctl->is_force;
        ProtobufCMessage *message = NULL;
        int result = ctl_call(ctl, "Cancel", &request.base, &gradd__v1__job__descriptor, &message);
        if (result == CTL_OK) {
            outcome_write(ctl, message);
        }
        worst = result > worst ? result : worst;
    }
    return worst;
}

int ctl_info(ctl_t *ctl)
{
    Gradd__V1__InfoRequest request = GRADD__V1__INFO_REQUEST__INIT;
    ProtobufCMessage *message = NULL;
    int result = ctl_call(ctl, "GetInfo", &request.base, &gradd__v1__info__descriptor, &message);
    if (result != CTL_OK) {
        return result;
    }
    const Gradd__V1__Info *info = (const Gradd__V1__Info *)message;
    if (ctl->format == CTL_TABLE) {
        char text[64];
        ctl_table_t table = {.n_columns = 2};
        pair_add(&table, "address", ctl->found_address);
        pair_add(&table, "version", info->version);
        (void)snprintf(text, sizeof(text), "%d, %d in use", info->slots, info->slots_used);
        pair_add(&table, "slots", text);
        pair_add(&table, "state", info->state_directory);
        pair_add(&table, "host", info->host);
        (void)snprintf(text, sizeof(text), "%lld", (long long)info->pid);
        pair_add(&table, "pid", text);
        time_add(&table, "started", info->started_unix_ns);
        ctl_table_write(ctl, &table);
        ctl_table_release(&table);
    } else {
        json_t *object = json_pack("{s:s, s:o, s:i, s:i, s:o, s:o, s:I, s:o}", "address", ctl->found_address, "version",
                                   ctl_text(info->version), "slots", info->slots, "slots_used", info->slots_used,
                                   "state_directory", ctl_text(info->state_directory), "host", ctl_text(info->host),
                                   "pid", (json_int_t)info->pid, "started", ctl_time(info->started_unix_ns));
        ctl_render(ctl, object);
        json_decref(object);
    }
    ctl_message_free(message);
    return CTL_OK;
}

int ctl_explain(ctl_t *ctl)
{
    strbuf_t text = {0};
    status_t status = spec_explain(ctl->n_args > 0 ? ctl->args[0] : "", &text);
    if (status == ST_OK) {
        (void)fputs(strbuf_text(&text), stdout);
    } else {
        (void)fprintf(stderr, "gradctl: %s\n", status_message());
    }
    strbuf_release(&text);
    return status == ST_OK ? CTL_OK : CTL_REFUSED;
}

int ctl_schema(ctl_t *ctl)
{
    (void)ctl;
    strbuf_t text = {0};
    status_t status = spec_schema(&text);
    if (status == ST_OK) {
        (void)fputs(strbuf_text(&text), stdout);
        (void)fputs(text.length > 0 && text.data[text.length - 1] == '\n' ? "" : "\n", stdout);
    } else {
        (void)fprintf(stderr, "gradctl: %s\n", status_message());
    }
    strbuf_release(&text);
    return status == ST_OK ? CTL_OK : CTL_REFUSED;
}
