/* SPDX-License-Identifier: Apache-2.0 */
/* jobs: the table of transitions, and what the end of an attempt means. */
#include "daemon/jobs.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"

enum { MAX_BACKOFF_MS = 5 * 60 * 1000 };

#define BIT(state_x) (1U << DMN_STATE_##state_x)

static const struct {
    const char *name;
    unsigned next;
} states[DMN_STATE_COUNT] = {
    [DMN_STATE_NONE] = {"NONE", BIT(QUEUED)},
    [DMN_STATE_QUEUED] = {"QUEUED", BIT(STARTING) | BIT(PAUSED) | BIT(CANCELLED)},
    [DMN_STATE_STARTING] = {"STARTING", BIT(RUNNING) | BIT(PAUSING) | BIT(CANCELLING) | BIT(RESTARTING) |
                                            BIT(SUCCEEDED) | BIT(FAILED)},
    [DMN_STATE_RUNNING] = {"RUNNING", BIT(PAUSING) | BIT(CANCELLING) | BIT(RESTARTING) | BIT(SUCCEEDED) | BIT(FAILED)},
    [DMN_STATE_PAUSING] = {"PAUSING", BIT(PAUSED) | BIT(CANCELLING) | BIT(SUCCEEDED) | BIT(FAILED)},
    [DMN_STATE_PAUSED] = {"PAUSED", BIT(QUEUED) | BIT(CANCELLED)},
    [DMN_STATE_RESTARTING] = {"RESTARTING", BIT(STARTING) | BIT(PAUSED) | BIT(CANCELLED)},
    [DMN_STATE_CANCELLING] = {"CANCELLING", BIT(CANCELLED) | BIT(SUCCEEDED)},
    [DMN_STATE_SUCCEEDED] = {"SUCCEEDED", 0},
    [DMN_STATE_FAILED] = {"FAILED", BIT(QUEUED)},
    [DMN_STATE_CANCELLED] = {"CANCELLED", BIT(QUEUED)},
};

const char *dmn_state_name(dmn_state_t state)
{
    return (unsigned)state < DMN_STATE_COUNT ? states[state].name : "?";
}

bool dmn_state_is_final(dmn_state_t state)
{
    return state == DMN_STATE_SUCCEEDED || state == DMN_STATE_FAILED || state == DMN_STATE_CANCELLED;
}

bool dmn_state_is_live(dmn_state_t state)
{
    return state == DMN_STATE_STARTING || state == DMN_STATE_RUNNING || state == DMN_STATE_PAUSING ||
           state == DMN_STATE_CANCELLING;
}

bool dmn_state_can_become(dmn_state_t from, dmn_state_t to)
{
    return (unsigned)from < DMN_STATE_COUNT && (unsigned)to < DMN_STATE_COUNT &&
           (states[from].next & (1U << (unsigned)to)) != 0;
}

/* At most DMN_MAX_REASON bytes, and no part of a character at the end: clients refuse what is not UTF-8. */
static char *reason_copy(const char *reason)
{
    size_t length = strlen(reason);
    if (length > DMN_MAX_REASON) {
        length = DMN_MAX_REASON;
        while (length > 0 && ((unsigned char)reason[length] & 0xc0) == 0x80) {
            length--;
        }
    }
    return mem_strndup(reason, length);
}

status_t dmn_job_change(dmn_store_t *store, dmn_job_t *job, dmn_state_t state, const char *reason)
{
    bool is_note = state == job->state;
    if (!is_note && !dmn_state_can_become(job->state, state)) {
        return ST_FAIL(ST_ERR_STATE, "job %" PRId64 " is %s and cannot become %s", job->id, dmn_state_name(job->state),
                       dmn_state_name(state));
    }
    char *text = reason_copy(reason);
    if (text == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "change of job %" PRId64, job->id);
    }
    dmn_job_t changed = *job;
    changed.state = state;
    if (!is_note) {
        changed.reason = text;
        changed.finished_ns = dmn_state_is_final(state) ? clock_wall_ns() : 0;
    }
    status_t status = dmn_store_job_save(store, &changed, text);
    if (status != ST_OK || is_note) {
        mem_free(text);
    } else {
        mem_free(job->reason);
        *job = changed;
    }
    return status;
}

status_t dmn_job_note(dmn_store_t *store, const dmn_job_t *job, const char *text)
{
    char *copy = reason_copy(text);
    status_t status =
        copy == NULL ? ST_FAIL(ST_ERR_NOMEM, "note of job %" PRId64, job->id) : dmn_store_job_note(store, job, copy);
    mem_free(copy);
    return status;
}

static void exit_describe(const dmn_ending_t *ending, strbuf_t *text)
{
    if (ending->kill_reason != NULL) {
        strbuf_append(text, ending->kill_reason);
    } else if (ending->goodbye->outcome == DMN_OUTCOME_FAILED && ending->goodbye->message != NULL &&
               ending->goodbye->message[0] != '\0') {
        strbuf_append(text, ending->goodbye->message);
    } else if (!ending->has_exit) {
        strbuf_append(text, "the attempt's processes were lost (its grad-shim is gone)");
    } else if (ending->error != NULL && ending->error[0] != '\0') {
        strbuf_append(text, ending->error);
    } else if (ending->code < 0) {
        strbuf_appendf(text, "the launcher was killed by signal %d (%s)", ending->signal_number,
                       strsignal(ending->signal_number));
    } else if (ending->code > 128 && ending->code < 128 + 65) {
        strbuf_appendf(text, "a rank was killed by signal %d (%s)", ending->code - 128, strsignal(ending->code - 128));
    } else {
        strbuf_appendf(text, "the launcher ended with code %d and no word from the workers; its log is rank -1's",
                       ending->code);
    }
}

static void checkpoint_describe(const dmn_ending_t *ending, strbuf_t *text)
{
    if (ending->checkpoint_step >= 0) {
        strbuf_appendf(text, "from the checkpoint at step %" PRId64, ending->checkpoint_step);
    } else {
        strbuf_append(text, "from the start: there is no checkpoint");
    }
}

static dmn_verdict_t pause_decide(const dmn_ending_t *ending, strbuf_t *reason)
{
    if (ending->goodbye->outcome == DMN_OUTCOME_PAUSED) {
        strbuf_appendf(reason, "paused at step %" PRId64, ending->goodbye->step);
        return (dmn_verdict_t){.state = DMN_STATE_PAUSED};
    }
    if (ending->is_grace_over) {
        strbuf_append(reason, "did not leave within its grace and was killed");
    } else {
        exit_describe(ending, reason);
    }
    strbuf_append(reason, "; a resume goes on ");
    checkpoint_describe(ending, reason);
    return (dmn_verdict_t){.state = DMN_STATE_PAUSED};
}

dmn_verdict_t dmn_job_decide(const dmn_ending_t *ending, strbuf_t *reason)
{
    const dmn_goodbye_t *goodbye = ending->goodbye;
    if (goodbye->outcome == DMN_OUTCOME_SUCCEEDED) {
        strbuf_appendf(reason, "finished at step %" PRId64, goodbye->step);
        return (dmn_verdict_t){.state = DMN_STATE_SUCCEEDED};
    }
    if (ending->state == DMN_STATE_CANCELLING) {
        strbuf_append(reason, ending->is_forced       ? "killed by the user"
                              : ending->is_grace_over ? "cancelled; did not leave within its grace and was killed"
                                                      : "cancelled by the user");
        return (dmn_verdict_t){.state = DMN_STATE_CANCELLED};
    }
    bool is_unstartable = ending->has_exit && ending->error != NULL && ending->error[0] != '\0';
    if (is_unstartable || (goodbye->outcome == DMN_OUTCOME_FAILED && goodbye->is_permanent)) {
        exit_describe(ending, reason);
        return (dmn_verdict_t){.state = DMN_STATE_FAILED};
    }
    if (ending->state == DMN_STATE_PAUSING) {
        return pause_decide(ending, reason);
    }
    /* A lost shim is not the job's fault. */
    bool is_charged = ending->has_exit;
    exit_describe(ending, reason);
    if (is_charged && ending->charged >= ending->max_restarts) {
        if (ending->max_restarts > 0) {
            strbuf_appendf(reason, " (restarted %d times, the most that restart.max allows)", ending->charged);
        } else {
            strbuf_append(reason, " (restart.max is 0)");
        }
        return (dmn_verdict_t){.state = DMN_STATE_FAILED};
    }
    strbuf_append(reason, "; starts again ");
    checkpoint_describe(ending, reason);
    return (dmn_verdict_t){.state = DMN_STATE_RESTARTING, .is_charged = is_charged};
}

int64_t dmn_job_backoff_ms(int64_t backoff_ms, int n)
{
    int64_t wait_ms = backoff_ms < 0 ? 0 : backoff_ms;
    for (int i = 0; i < n && wait_ms < MAX_BACKOFF_MS; i++) {
        wait_ms *= 2;
    }
    return wait_ms < MAX_BACKOFF_MS ? wait_ms : MAX_BACKOFF_MS;
}
