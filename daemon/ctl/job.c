/* SPDX-License-Identifier: Apache-2.0 */
/* job: states, numbers, times and jobs as text and as JSON. */
#include <math.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "base/clock.h"
#include "daemon/ctl/ctl.h"

const char *ctl_state_name(Gradd__V1__State state)
{
    const ProtobufCEnumValue *value = protobuf_c_enum_descriptor_get_value(&gradd__v1__state__descriptor, (int)state);
    return value != NULL ? value->name : "UNKNOWN";
}

Gradd__V1__State ctl_state_parse(const char *name)
{
    for (unsigned i = 0; i < gradd__v1__state__descriptor.n_values; i++) {
        if (strcasecmp(gradd__v1__state__descriptor.values[i].name, name) == 0) {
            return (Gradd__V1__State)gradd__v1__state__descriptor.values[i].value;
        }
    }
    return (Gradd__V1__State)0;
}

bool ctl_state_is_final(Gradd__V1__State state)
{
    return state == GRADD__V1__STATE__SUCCEEDED || state == GRADD__V1__STATE__FAILED ||
           state == GRADD__V1__STATE__CANCELLED;
}

const char *ctl_state_color(const ctl_t *ctl, Gradd__V1__State state)
{
    if (!ctl->has_color) {
        return "";
    }
    switch (state) {
    case GRADD__V1__STATE__RUNNING:
        return "\033[36m";
    case GRADD__V1__STATE__SUCCEEDED:
        return "\033[32m";
    case GRADD__V1__STATE__FAILED:
        return "\033[31m";
    case GRADD__V1__STATE__RESTARTING:
    case GRADD__V1__STATE__PAUSING:
    case GRADD__V1__STATE__PAUSED:
    case GRADD__V1__STATE__CANCELLING:
    case GRADD__V1__STATE__CANCELLED:
        return "\033[33m";
    default:
        return "";
    }
}

const char *ctl_color_end(const ctl_t *ctl)
{
    return ctl->has_color ? "\033[0m" : "";
}

bool ctl_job_metric(const ctl_job_t *job, const char *name, double *value_p)
{
    for (size_t i = 0; i < job->n_metrics; i++) {
        if (job->metrics[i]->name != NULL && strcmp(job->metrics[i]->name, name) == 0) {
            *value_p = job->metrics[i]->value;
            return true;
        }
    }
    return false;
}

json_t *ctl_number(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

json_t *ctl_text(const char *text)
{
    return text != NULL && text[0] != '\0' ? json_string(text) : json_null();
}

void ctl_time_format(int64_t unix_ns, char text_p[32])
{
    time_t seconds = (time_t)(unix_ns / CLOCK_NS_PER_S);
    struct tm utc;
    char date[24];
    (void)gmtime_r(&seconds, &utc);
    (void)strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &utc);
    (void)snprintf(text_p, 32, "%s.%03dZ", date, (int)(unix_ns % CLOCK_NS_PER_S / CLOCK_NS_PER_MS));
}

json_t *ctl_time(int64_t unix_ns)
{
    if (unix_ns <= 0) {
        return json_null();
    }
    char text[32];
    ctl_time_format(unix_ns, text);
    return json_string(text);
}

void ctl_duration_format(int64_t ns, char text_p[32])
{
    int64_t s = ns / CLOCK_NS_PER_S;
    if (s < 60) {
        int64_t ms = ns / CLOCK_NS_PER_MS;
        (void)snprintf(text_p, 32, "%.1fs", (double)ms / 1000.0);
    } else if (s < 3600) {
        (void)snprintf(text_p, 32, "%dm%02ds", (int)(s / 60), (int)(s % 60));
    } else if (s < 48 * 3600) {
        (void)snprintf(text_p, 32, "%dh%02dm", (int)(s / 3600), (int)(s % 3600 / 60));
    } else {
        (void)snprintf(text_p, 32, "%dd%02dh", (int)(s / 86400), (int)(s % 86400 / 3600));
    }
}

void ctl_value_format(double value, bool is_short, char text_p[32])
{
    double size = fabs(value);
    if (is_short && size >= 1e9) {
        (void)snprintf(text_p, 32, "%.2fG", value / 1e9);
    } else if (is_short && size >= 1e6) {
        (void)snprintf(text_p, 32, "%.2fM", value / 1e6);
    } else if (is_short && size >= 1e4) {
        (void)snprintf(text_p, 32, "%.1fk", value / 1e3);
    } else if (size >= 1000.0 && size < 1e9) {
        (void)snprintf(text_p, 32, "%.0f", value);
    } else {
        (void)snprintf(text_p, 32, "%.4g", value);
    }
}

void ctl_write_clean(FILE *file, const char *text, bool is_block)
{
    for (const unsigned char *c = (const unsigned char *)text; *c != '\0'; c++) {
        bool is_line = *c == '\n' || *c == '\t';
        if (c[0] == 0xc2 && c[1] >= 0x80 && c[1] < 0xa0) {
            (void)fputc('?', file); /* C1 control */
            c++;
        } else if (*c >= ' ' && *c != 0x7f) {
            (void)fputc(*c, file);
        } else {
            (void)fputc(!is_line ? '?' : is_block ? *c : ' ', file);
        }
    }
}

static json_t *checkpoints_json(const ctl_job_t *job)
{
    json_t *list = json_array();
    for (size_t i = 0; i < job->n_checkpoints; i++) {
        const Gradd__V1__CheckpointInfo *c = job->checkpoints[i];
        (void)json_array_append_new(list,
                                    json_pack("{s:I, s:o, s:o, s:I, s:o}", "step", (json_int_t)c->step, "path",
                                              ctl_text(c->path), "parameters_sha256", ctl_text(c->parameters_sha256),
                                              "size_bytes", (json_int_t)c->size_bytes, "time", ctl_time(c->unix_ns)));
    }
    return list;
}

static json_t *ranks_json(const ctl_job_t *job)
{
    json_t *list = json_array();
    for (size_t i = 0; i < job->n_ranks; i++) {
        const Gradd__V1__Rank *r = job->ranks[i];
        (void)json_array_append_new(
            list, json_pack("{s:i, s:o, s:I}", "rank", r->rank, "host", ctl_text(r->host), "pid", (json_int_t)r->pid));
    }
    return list;
}

json_t *ctl_job_json(const ctl_job_t *job, bool is_whole)
{
    json_t *metrics = json_object();
    for (size_t i = 0; i < job->n_metrics; i++) {
        if (job->metrics[i]->name != NULL) {
            (void)json_object_set_new(metrics, job->metrics[i]->name, ctl_number(job->metrics[i]->value));
        }
    }
    int64_t first_step_ms = (job->first_step_unix_ns - job->submitted_unix_ns) / CLOCK_NS_PER_MS;
    json_t *object = json_object();
    (void)json_object_set_new(object, "id", ctl_text(job->id));
    (void)json_object_set_new(object, "name", ctl_text(job->name));
    (void)json_object_set_new(object, "state", json_string(ctl_state_name(job->state)));
    (void)json_object_set_new(object, "reason", ctl_text(job->reason));
    (void)json_object_set_new(object, "attempt", json_integer(job->attempt));
    (void)json_object_set_new(object, "restarts", json_integer(job->restarts));
    (void)json_object_set_new(object, "step", json_integer(job->step));
    (void)json_object_set_new(object, "steps_total", json_integer(job->steps_total));
    (void)json_object_set_new(object, "metrics", metrics);
    (void)json_object_set_new(object, "parameters_sha256", ctl_text(job->parameters_sha256));
    (void)json_object_set_new(object, "fingerprint", ctl_text(job->fingerprint));
    (void)json_object_set_new(object, "checkpoints", checkpoints_json(job));
    (void)json_object_set_new(object, "ranks", ranks_json(job));
    (void)json_object_set_new(object, "user", ctl_text(job->user));
    (void)json_object_set_new(object, "workers", json_integer(job->workers));
    (void)json_object_set_new(object, "slots", json_integer(job->slots));
    (void)json_object_set_new(object, "directory", ctl_text(job->directory));
    (void)json_object_set_new(object, "submitted", ctl_time(job->submitted_unix_ns));
    (void)json_object_set_new(object, "started", ctl_time(job->started_unix_ns));
    (void)json_object_set_new(object, "first_step", ctl_time(job->first_step_unix_ns));
    (void)json_object_set_new(object, "finished", ctl_time(job->finished_unix_ns));
    (void)json_object_set_new(object, "submit_to_first_step_ms",
                              job->first_step_unix_ns > 0 ? json_integer(first_step_ms) : json_null());
    if (is_whole) {
        (void)json_object_set_new(object, "yaml", ctl_text(job->yaml));
        (void)json_object_set_new(object, "text", ctl_text(job->text));
    }
    return object;
}
