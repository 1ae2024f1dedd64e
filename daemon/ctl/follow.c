/* SPDX-License-Identifier: Apache-2.0 */
/*
 * follow: waits for jobs, with their progress. States come from Watch, so that none is missed; numbers from Get,
 * whenever Watch is quiet for a moment.
 */
#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "daemon/ctl/ctl.h"

enum { BAR_WIDTH = 24, N_SAMPLES = 32, LINE_MS = 2000, GET_MS = 2000 };

/* When which step was seen: the speed, for the time that is left. A ring. */
typedef struct speed {
    int64_t ns[N_SAMPLES], steps[N_SAMPLES];
    int n, attempt;
} speed_t;

typedef struct follow {
    ctl_t *ctl;
    const char *id;
    ctl_job_t *job; /* as last seen */
    Gradd__V1__WatchRequest request;
    ctl_feed_t feed;
    speed_t speed;
    bool is_shown, is_bar, is_away;
    int64_t line_ns, line_step; /* last printed line */
} follow_t;

static void speed_add(speed_t *speed, const ctl_job_t *job)
{
    int last = (speed->n + N_SAMPLES - 1) % N_SAMPLES;
    if (job->attempt != speed->attempt || (speed->n > 0 && job->step < speed->steps[last])) {
        *speed = (speed_t){.attempt = job->attempt};
    }
    if (job->step > 0 && (speed->n == 0 || job->step > speed->steps[last])) {
        speed->ns[speed->n % N_SAMPLES] = clock_now_ns();
        speed->steps[speed->n % N_SAMPLES] = job->step;
        speed->n++;
    }
}

/* Nanoseconds to the last step; -1 when unknown. */
static int64_t speed_left(const speed_t *speed, const ctl_job_t *job)
{
    if (speed->n < 2 || job->steps_total <= job->step) {
        return -1;
    }
    int last = (speed->n - 1) % N_SAMPLES;
    int first = speed->n > N_SAMPLES ? speed->n % N_SAMPLES : 0;
    double per_step = (double)(speed->ns[last] - speed->ns[first]) / (double)(speed->steps[last] - speed->steps[first]);
    return (int64_t)(per_step * (double)(job->steps_total - job->step));
}

static void metric_append(strbuf_t *line, const ctl_job_t *job, const char *name, const char *label, bool is_rate)
{
    double value;
    char text[32];
    if (ctl_job_metric(job, name, &value)) {
        ctl_value_format(value, is_rate, text);
        strbuf_appendf(line, "  %s %s", is_rate ? text : label, is_rate ? label : text);
    }
}

static void progress_append(const follow_t *follow, strbuf_t *line)
{
    const ctl_job_t *job = follow->job;
    metric_append(line, job, "loss", "loss", false);
    metric_append(line, job, "validation_loss", "validation", false);
    metric_append(line, job, "validation_accuracy", "accuracy", false);
    double value;
    if (ctl_job_metric(job, "tokens_per_second", &value)) {
        metric_append(line, job, "tokens_per_second", "tokens/s", true);
    } else {
        metric_append(line, job, "samples_per_second", "samples/s", true);
    }
    int64_t left = speed_left(&follow->speed, job);
    if (left >= 0) {
        char text[32];
        ctl_duration_format(left, text);
        strbuf_appendf(line, "  ETA %s", text);
    }
}

static void bar_append(const ctl_t *ctl, const ctl_job_t *job, strbuf_t *line)
{
    static const char *const eighths[] = {" ", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
    double part = job->steps_total > 0 ? (double)job->step / (double)job->steps_total : 0.0;
    int filled = (int)(fmin(part, 1.0) * BAR_WIDTH * 8.0);
    strbuf_append(line, ctl->has_unicode ? "" : "[");
    strbuf_append(line, ctl->has_color ? "\033[36m" : "");
    for (int i = 0; i < BAR_WIDTH; i++) {
        int here = filled - 8 * i;
        if (ctl->has_unicode) {
            bool is_first_empty = here <= 0 && here > -8;
            strbuf_append(line, is_first_empty && ctl->has_color ? "\033[2m" : "");
            strbuf_append(line, here >= 8 ? "█" : here > 0 ? eighths[here] : "·");
        } else {
            strbuf_append_char(line, here >= 4 ? '#' : '-');
        }
    }
    strbuf_append(line, ctl_color_end(ctl));
    strbuf_append(line, ctl->has_unicode ? "" : "]");
    strbuf_appendf(line, " %3.0f%%  %lld/%lld", part * 100.0, (long long)job->step, (long long)job->steps_total);
}

static void bar_clear(follow_t *follow)
{
    if (follow->is_bar) {
        (void)fputs("\r\033[K", stdout);
        follow->is_bar = false;
    }
}

/* The bar on a terminal; elsewhere a line, at most every 2 s and only when the job has moved. */
static void progress_show(follow_t *follow)
{
    const ctl_t *ctl = follow->ctl;
    const ctl_job_t *job = follow->job;
    int64_t now = clock_now_ns();
    if (!follow->is_shown || ctl_state_is_final(job->state)) {
        return;
    }
    strbuf_t line = {0};
    if (ctl->is_terminal) {
        bar_append(ctl, job, &line);
        progress_append(follow, &line);
        strbuf_appendf(&line, "  %s%s%s", ctl_state_color(ctl, job->state), ctl_state_name(job->state),
                       ctl_color_end(ctl));
        strbuf_append(&line, follow->is_away ? "  (the daemon is away)" : "");
        /* no wrapping: the line must stay one line to be drawn over */
        (void)printf("\r\033[?7l%s\033[K\033[?7h", strbuf_text(&line));
        follow->is_bar = true;
    } else if (job->step != follow->line_step && now - follow->line_ns >= LINE_MS * CLOCK_NS_PER_MS &&
               follow->request.after > 0) { /* the states so far come first */
        strbuf_appendf(&line, "step %lld/%lld", (long long)job->step, (long long)job->steps_total);
        progress_append(follow, &line);
        (void)printf("%s\n", strbuf_text(&line));
        follow->line_ns = now;
        follow->line_step = job->step;
    }
    (void)fflush(stdout);
    strbuf_release(&line);
}

static void event_show(follow_t *follow, const Gradd__V1__Event *event)
{
    const ctl_t *ctl = follow->ctl;
    if (!follow->is_shown) {
        return;
    }
    bar_clear(follow);
    (void)printf("%s%s%s", ctl_state_color(ctl, event->state), ctl_state_name(event->state), ctl_color_end(ctl));
    if (event->step > 0) {
        (void)printf(" at step %lld", (long long)event->step);
    }
    if (event->attempt > 1) {
        (void)printf(", attempt %d", event->attempt);
    }
    if (event->reason != NULL && event->reason[0] != '\0') {
        (void)fputs(": ", stdout);
        ctl_write_clean(stdout, event->reason, false);
    }
    (void)fputc('\n', stdout);
    (void)fflush(stdout);
}

/* The job as it is now; an absent daemon is no failure here. */
static status_t job_refresh(follow_t *follow, rpc_code_t *code_p)
{
    Gradd__V1__JobRequest request = GRADD__V1__JOB_REQUEST__INIT;
    request.id = (char *)(uintptr_t)follow->id;
    ProtobufCMessage *message = NULL;
    status_t status = rpc_channel_call(follow->ctl->channel, "/gradd.v1.Gradd/Get", &request.base,
                                       &gradd__v1__job__descriptor, GET_MS, &message, code_p);
    if (status == ST_OK) {
        ctl_message_free(follow->job);
        follow->job = (ctl_job_t *)message;
        follow->is_away = false;
        speed_add(&follow->speed, follow->job);
    } else if (*code_p == RPC_UNAVAILABLE || *code_p == RPC_DEADLINE_EXCEEDED) {
        follow->is_away = true;
        return ST_OK;
    }
    return status;
}

static int ending_write(const follow_t *follow)
{
    const ctl_t *ctl = follow->ctl;
    const ctl_job_t *job = follow->job;
    char duration[32];
    int64_t start = job->started_unix_ns > 0 ? job->started_unix_ns : job->submitted_unix_ns;
    ctl_duration_format(job->finished_unix_ns > start ? job->finished_unix_ns - start : 0, duration);
    if (follow->is_shown && job->text != NULL && job->text[0] != '\0') {
        (void)fputs("\n", stdout);
        ctl_write_clean(stdout, job->text, true);
        (void)fputs("\n\n", stdout);
    }
    (void)printf("job %s %s%s%s after %s, step %lld", follow->id, ctl_state_color(ctl, job->state),
                 ctl_state_name(job->state), ctl_color_end(ctl), duration, (long long)job->step);
    if (job->state == GRADD__V1__STATE__SUCCEEDED && job->parameters_sha256 != NULL) {
        (void)printf(", sha256 %s", job->parameters_sha256);
    } else if (job->reason != NULL && job->reason[0] != '\0') {
        (void)fputs(": ", stdout);
        ctl_write_clean(stdout, job->reason, false);
    }
    (void)fputc('\n', stdout);
    (void)fflush(stdout);
    return job->state == GRADD__V1__STATE__SUCCEEDED ? CTL_OK : CTL_JOB_FAILED;
}

/* One turn: an event, or a look at the job. */
static status_t follow_turn(follow_t *follow, rpc_code_t *code_p)
{
    ProtobufCMessage *message = NULL;
    status_t status = ctl_feed_read(&follow->feed, CTL_TICK_MS, &message);
    if (status == ST_OK && message != NULL) {
        const Gradd__V1__Event *event = (const Gradd__V1__Event *)message;
        bool is_new = event->number > follow->request.after;
        bool is_final = ctl_state_is_final(event->state);
        if (is_new) {
            follow->request.after = event->number;
            if (!is_final) {
                event_show(follow, event);
            }
        }
        ctl_message_free(message);
        return is_final ? job_refresh(follow, code_p) : ST_OK;
    }
    if (status == ST_OK) { /* the stream's end without a final state: open it again */
        ctl_feed_close(&follow->feed);
        clock_sleep_ms(CTL_TICK_MS);
    } else if (status != ST_ERR_TIMEOUT) {
        *code_p = follow->feed.code;
        return status;
    }
    follow->is_away = follow->feed.stream == NULL;
    status = follow->is_away ? ST_OK : job_refresh(follow, code_p);
    progress_show(follow);
    return status;
}

static int follow_run(follow_t *follow, int64_t deadline_ns)
{
    ctl_t *ctl = follow->ctl;
    rpc_code_t code = RPC_OK;
    while (!ctl_state_is_final(follow->job->state)) {
        if (ctl_is_interrupted()) {
            bar_clear(follow);
            (void)fflush(stdout);
            (void)fprintf(stderr,
                          "detached: job %s goes on (gradctl wait --progress %s shows it again, gradctl cancel %s ends "
                          "it)\n",
                          follow->id, follow->id, follow->id);
            return CTL_INTERRUPTED;
        }
        if (deadline_ns != 0 && clock_now_ns() > deadline_ns) {
            bar_clear(follow);
            (void)fflush(stdout);
            (void)fprintf(stderr, "gradctl: job %s is still %s: gave up after %g s\n", follow->id,
                          ctl_state_name(follow->job->state), ctl->timeout_s);
            return CTL_JOB_FAILED;
        }
        status_t status = follow_turn(follow, &code);
        if (status != ST_OK) {
            bar_clear(follow);
            (void)fflush(stdout);
            return ctl_fail(ctl, status, code);
        }
    }
    bar_clear(follow);
    return ending_write(follow);
}

int ctl_follow(ctl_t *ctl, const char *id, bool is_shown, int64_t deadline_ns)
{
    follow_t follow = {.ctl = ctl, .id = id, .is_shown = is_shown, .line_step = 0};
    int result = ctl_get(ctl, id, &follow.job);
    if (result != CTL_OK) {
        return result;
    }
    gradd__v1__watch_request__init(&follow.request);
    follow.request.id = (char *)(uintptr_t)id;
    follow.request.has_after = 1;
    follow.feed = (ctl_feed_t){
        .ctl = ctl, .method = "Watch", .request = &follow.request.base, .response = &gradd__v1__event__descriptor};
    result = follow_run(&follow, deadline_ns);
    ctl_feed_close(&follow.feed);
    ctl_message_free(follow.job);
    return result;
}

int ctl_wait(ctl_t *ctl)
{
    int worst = CTL_OK;
    int64_t deadline = ctl->timeout_s > 0 ? clock_now_ns() + (int64_t)(ctl->timeout_s * (double)CLOCK_NS_PER_S) : 0;
    ctl_catch_interrupts();
    for (int i = 0; i < ctl->n_args && worst != CTL_INTERRUPTED; i++) {
        if (ctl->is_progress && ctl->n_args > 1) {
            (void)printf("job %s:\n", ctl->args[i]);
        }
        int result = ctl_follow(ctl, ctl->args[i], ctl->is_progress, deadline);
        worst = result > worst ? result : worst;
    }
    return worst;
}
