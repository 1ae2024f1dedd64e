/* SPDX-License-Identifier: Apache-2.0 */
/* steer: Pause, Resume and Cancel. Each is a row first; the supervisor carries it out, this one or the next daemon's.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "daemon/daemon_internal.h"

/* The state of a job that has no run, or that has one without a process. Takes it out of the queue and of its slots. */
static status_t idle_change(dmn_daemon_t *daemon, int64_t id, dmn_state_t state, const char *reason)
{
    dmn_run_t *run = dmn_run_find(daemon, id);
    if (run != NULL) {
        status_t status = dmn_run_change(daemon, run, state, reason);
        if (status == ST_OK) {
            dmn_run_end(daemon, run);
        }
        return status;
    }
    dmn_job_t job = {0};
    status_t status = dmn_store_job_get(daemon->store, id, DMN_JOB_ROW, &job);
    if (status == ST_OK) {
        status = dmn_job_change(daemon->store, &job, state, reason);
    }
    if (status == ST_OK) {
        (void)dmn_scheduler_remove(&daemon->scheduler, id);
        log_info("job %" PRId64 " is %s: %s", id, dmn_state_name(state), reason);
        dmn_notice(daemon);
    }
    dmn_job_release(&job);
    return status;
}

static status_t state_get(dmn_daemon_t *daemon, int64_t id, dmn_state_t *state_p)
{
    dmn_job_t job = {0};
    status_t status = dmn_store_job_get(daemon->store, id, DMN_JOB_ROW, &job);
    if (status == ST_OK) {
        *state_p = job.state;
    }
    dmn_job_release(&job);
    return status;
}

/* PAUSING and CANCELLING: with a deadline, which is stored. */
static status_t leaving_begin(dmn_daemon_t *daemon, dmn_run_t *run, dmn_state_t state, const char *reason)
{
    int64_t deadline_ns = run->job.deadline_ns;
    int64_t grace_ns = run->grace_ms * CLOCK_NS_PER_MS;
    run->job.deadline_ns = clock_wall_ns() + grace_ns;
    status_t status = dmn_run_change(daemon, run, state, reason);
    if (status != ST_OK) {
        run->job.deadline_ns = deadline_ns;
        return status;
    }
    if (!run->is_kill_sent) {
        run->kill_at_ns = clock_now_ns() + grace_ns;
    }
    dmn_supervisor_wake(daemon);
    return ST_OK;
}

static status_t pause_do(dmn_daemon_t *daemon, int64_t id)
{
    dmn_state_t state = DMN_STATE_NONE;
    status_t status = state_get(daemon, id, &state);
    if (status != ST_OK) {
        return status;
    }
    switch (state) {
    case DMN_STATE_QUEUED:
        return idle_change(daemon, id, DMN_STATE_PAUSED, "paused before it started");
    case DMN_STATE_RESTARTING:
        return idle_change(daemon, id, DMN_STATE_PAUSED, "paused between two attempts");
    case DMN_STATE_STARTING:
    case DMN_STATE_RUNNING: {
        dmn_run_t *run = dmn_run_find(daemon, id);
        return run == NULL ? ST_FAIL(ST_ERR_INTERNAL, "job %" PRId64 " has no attempt under way", id)
                           : leaving_begin(daemon, run, DMN_STATE_PAUSING, "asked to save a checkpoint and leave");
    }
    case DMN_STATE_PAUSING:
    case DMN_STATE_PAUSED:
        return ST_OK;
    default:
        return ST_FAIL(ST_ERR_STATE, "job %" PRId64 " is %s; only a job that waits or runs can be paused", id,
                       dmn_state_name(state));
    }
}

static status_t cancel_live(dmn_daemon_t *daemon, int64_t id, bool is_forced)
{
    dmn_run_t *run = dmn_run_find(daemon, id);
    if (run == NULL) {
        return ST_FAIL(ST_ERR_INTERNAL, "job %" PRId64 " has no attempt under way", id);
    }
    bool was_forced = run->job.is_forced;
    bool is_new = run->job.state != DMN_STATE_CANCELLING;
    status_t status = ST_OK;
    if (is_forced && !was_forced) {
        run->job.is_forced = true;
        status = is_new ? leaving_begin(daemon, run, DMN_STATE_CANCELLING, "killed by the user")
                        : dmn_run_change(daemon, run, DMN_STATE_CANCELLING, "killed by the user, without grace");
        if (status != ST_OK) {
            run->job.is_forced = was_forced;
            return status;
        }
        dmn_run_kill(daemon, run, NULL);
    } else if (is_new) {
        status = leaving_begin(daemon, run, DMN_STATE_CANCELLING, "asked to leave");
    }
    return status;
}

static status_t cancel_do(dmn_daemon_t *daemon, int64_t id, bool is_forced)
{
    dmn_state_t state = DMN_STATE_NONE;
    status_t status = state_get(daemon, id, &state);
    if (status != ST_OK) {
        return status;
    }
    if (dmn_state_is_live(state)) {
        return cancel_live(daemon, id, is_forced);
    }
    if (state == DMN_STATE_CANCELLED) {
        return ST_OK;
    }
    if (dmn_state_is_final(state)) {
        return ST_FAIL(ST_ERR_STATE, "job %" PRId64 " is %s already", id, dmn_state_name(state));
    }
    return idle_change(daemon, id, DMN_STATE_CANCELLED, "cancelled by the user");
}

status_t dmn_rpc_pause(rpc_call_t *call, const ProtobufCMessage *request, void *arg)
{
    dmn_daemon_t *daemon = arg;
    int64_t id = 0;
    status_t status = dmn_job_id_parse(((const Gradd__V1__JobRequest *)request)->id, &id);
    if (status == ST_OK) {
        (void)pthread_mutex_lock(&daemon->lock);
        status = pause_do(daemon, id);
        (void)pthread_mutex_unlock(&daemon->lock);
        dmn_supervisor_wake(daemon);
    }
    return status == ST_OK ? dmn_job_send(daemon, call, id, DMN_JOB_ROW) : status;
}

status_t dmn_rpc_cancel(rpc_call_t *call, const ProtobufCMessage *request, void *arg)
{
    dmn_daemon_t *daemon = arg;
    const Gradd__V1__CancelRequest *cancel = (const Gradd__V1__CancelRequest *)request;
    int64_t id = 0;
    status_t status = dmn_job_id_parse(cancel->id, &id);
    if (status == ST_OK) {
        (void)pthread_mutex_lock(&daemon->lock);
        status = cancel_do(daemon, id, cancel->has_force && cancel->force);
        (void)pthread_mutex_unlock(&daemon->lock);
        dmn_supervisor_wake(daemon);
    }
    return status == ST_OK ? dmn_job_send(daemon, call, id, DMN_JOB_ROW) : status;
}

/* ---- Resume ---- */

static status_t resume_check(dmn_daemon_t *daemon, const dmn_job_t *job)
{
    if (job->state == DMN_STATE_PAUSED) {
        return ST_OK;
    }
    if (job->state != DMN_STATE_FAILED && job->state != DMN_STATE_CANCELLED) {
        return ST_FAIL(ST_ERR_STATE, "job %" PRId64 " is %s; only a paused, failed or cancelled job can be resumed",
                       job->id, dmn_state_name(job->state));
    }
    dmn_checkpoint_t *checkpoints = NULL;
    int n = 0;
    status_t status = dmn_store_checkpoints_get(daemon->store, job->id, &checkpoints, &n);
    if (status == ST_OK) {
        dmn_checkpoints_release(checkpoints, n);
        if (n == 0) {
            status = ST_FAIL(ST_ERR_STATE, "job %" PRId64 " is %s and has no checkpoint to go on from", job->id,
                             dmn_state_name(job->state));
        }
    }
    return status;
}

/* The job with another number of workers; checked whole, as at its submit. */
static status_t workers_change(dmn_daemon_t *daemon, dmn_job_t *job, int workers)
{
    spec_job_t *spec = NULL;
    spec_problems_t problems = {0};
    uint8_t *packed = NULL;
    size_t packed_size = 0;
    char value[16];
    (void)snprintf(value, sizeof(value), "%d", workers);
    status_t status = spec_job_unpack(job->spec, job->spec_size, &spec);
    if (status != ST_OK) {
        return status;
    }
    status = spec_job_set(spec, "resources.workers", value, &problems);
    if (status == ST_OK) {
        status = dmn_scheduler_check(&daemon->scheduler, workers, spec_job_slots(spec));
    }
    if (status == ST_OK) {
        status = spec_job_pack(spec, &packed, &packed_size);
    }
    if (status == ST_OK) {
        status = dmn_store_job_respec(daemon->store, job->id, packed, packed_size, workers, spec_job_slots(spec));
    }
    if (status == ST_OK) {
        job->workers = workers;
        job->slots = spec_job_slots(spec);
    }
    mem_free(packed);
    spec_problems_release(&problems);
    spec_job_free(spec);
    return status;
}

static status_t resume_do(dmn_daemon_t *daemon, int64_t id, int workers)
{
    dmn_job_t job = {0};
    status_t status = dmn_store_job_get(daemon->store, id, DMN_JOB_ALL, &job);
    if (status == ST_OK) {
        status = resume_check(daemon, &job);
    }
    if (status == ST_OK && workers > 0 && workers != job.workers) {
        status = workers_change(daemon, &job, workers);
    }
    if (status == ST_OK) {
        status = dmn_scheduler_check(&daemon->scheduler, job.workers, job.slots);
    }
    if (status == ST_OK) {
        char reason[64];
        (void)snprintf(reason, sizeof(reason), "resumed with %d worker%s", job.workers, job.workers == 1 ? "" : "s");
        job.queued_ns = clock_wall_ns();
        job.charged = 0;
        job.is_forced = false;
        job.deadline_ns = 0;
        job.retry_ns = 0;
        status = dmn_job_change(daemon->store, &job, DMN_STATE_QUEUED, reason);
    }
    if (status == ST_OK) {
        status = dmn_scheduler_enqueue(&daemon->scheduler, id, job.queued_ns, job.slots);
        log_info("job %" PRId64 " is QUEUED: %s", id, job.reason);
        dmn_notice(daemon);
    }
    dmn_job_release(&job);
    return status;
}

status_t dmn_rpc_resume(rpc_call_t *call, const ProtobufCMessage *request, void *arg)
{
    dmn_daemon_t *daemon = arg;
    const Gradd__V1__ResumeRequest *resume = (const Gradd__V1__ResumeRequest *)request;
    int64_t id = 0;
    status_t status = dmn_job_id_parse(resume->id, &id);
    if (status == ST_OK && resume->has_workers && resume->workers < 0) {
        status = ST_FAIL(ST_ERR_INVAL, "workers is %d; it must be at least 1, or 0 for as before", resume->workers);
    }
    if (status == ST_OK) {
        (void)pthread_mutex_lock(&daemon->lock);
        status = resume_do(daemon, id, resume->has_workers ? resume->workers : 0);
        (void)pthread_mutex_unlock(&daemon->lock);
        dmn_supervisor_wake(daemon);
    }
    return status == ST_OK ? dmn_job_send(daemon, call, id, DMN_JOB_ROW) : status;
}
