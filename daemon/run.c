/* SPDX-License-Identifier: Apache-2.0 */
/* run: the attempts of one job, from launch to what their end means. All under the daemon's lock. */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "daemon/daemon_internal.h"
#include "daemon/files.h"

enum { FINISH_RETRY_MS = 1000, KILL_AGAIN_MS = 2000, MAX_KILLS = 5 };
enum { LAUNCH_ROOM = 16 << 20 }; /* bytes: Open MPI alone takes 8 MiB of the attempt's folder */

dmn_run_t *dmn_run_find(dmn_daemon_t *daemon, int64_t job_id)
{
    dmn_run_t *run = daemon->runs;
    while (run != NULL && run->job.id != job_id) {
        run = run->next;
    }
    return run;
}

dmn_run_t *dmn_run_ref(dmn_run_t *run)
{
    run->n_refs++;
    return run;
}

void dmn_run_unref(dmn_run_t *run)
{
    if (--run->n_refs > 0) {
        return;
    }
    dmn_job_release(&run->job);
    dmn_attempt_release(&run->attempt);
    if (run->pidfd >= 0) {
        (void)close(run->pidfd);
    }
    mem_free(run->folder);
    mem_free(run->kill_reason);
    mem_free(run->ranks);
    mem_free(run);
}

static status_t policy_read(dmn_run_t *run, const dmn_job_t *job)
{
    spec_job_t *spec = NULL;
    status_t status = spec_job_unpack(job->spec, job->spec_size, &spec);
    if (status != ST_OK) {
        return status_add_context(status, "spec of job %" PRId64, job->id);
    }
    Gradd__V1__Restart defaults = GRADD__V1__RESTART__INIT;
    const Gradd__V1__Restart *restart = spec->restart == NULL ? &defaults : spec->restart;
    run->max_restarts = restart->max;
    run->backoff_ms = restart->backoff;
    run->grace_ms = restart->grace;
    run->threads = spec->resources == NULL || spec->resources->threads < 1 ? 1 : spec->resources->threads;
    spec_job_free(spec);
    return ST_OK;
}

status_t dmn_run_open(dmn_daemon_t *daemon, int64_t job_id, dmn_run_t **run_p)
{
    dmn_run_t *run = mem_zalloc(sizeof(*run));
    if (run == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "run of job %" PRId64, job_id);
    }
    run->n_refs = 1;
    run->pidfd = -1;
    run->attempt.goodbye.outcome = DMN_OUTCOME_NONE;
    status_t status = dmn_store_job_get(daemon->store, job_id, DMN_JOB_ALL, &run->job);
    if (status == ST_OK) {
        status = policy_read(run, &run->job);
        mem_free(run->job.spec);
        mem_free(run->job.yaml);
        mem_free(run->job.text);
        run->job.spec = NULL;
        run->job.yaml = NULL;
        run->job.text = NULL;
    }
    if (status == ST_OK) {
        run->folder = dmn_job_folder(daemon, job_id);
        run->n_ranks = run->job.workers;
        run->ranks = mem_calloc((size_t)run->n_ranks, sizeof(*run->ranks));
        if (run->folder == NULL || run->ranks == NULL) {
            status = ST_FAIL(ST_ERR_NOMEM, "run of job %" PRId64, job_id);
        }
    }
    if (status != ST_OK) {
        dmn_run_unref(run);
        return status;
    }
    run->next = daemon->runs;
    daemon->runs = run;
    dmn_scheduler_take(&daemon->scheduler, run->job.slots);
    *run_p = run;
    return ST_OK;
}

void dmn_run_end(dmn_daemon_t *daemon, dmn_run_t *run)
{
    dmn_run_t **link = &daemon->runs;
    while (*link != run) {
        link = &(*link)->next;
    }
    *link = run->next;
    run->is_ended = true;
    run->is_live = false;
    dmn_scheduler_give(&daemon->scheduler, run->job.slots);
    dmn_run_unref(run);
}

status_t dmn_run_change(dmn_daemon_t *daemon, dmn_run_t *run, dmn_state_t state, const char *reason)
{
    bool is_note = state == run->job.state;
    status_t status = dmn_job_change(daemon->store, &run->job, state, reason);
    if (status == ST_OK) {
        if (!is_note) {
            log_info("job %" PRId64 " is %s%s%s", run->job.id, dmn_state_name(state), reason[0] != '\0' ? ": " : "",
                     reason);
        }
        dmn_notice(daemon);
    }
    return status;
}

static int64_t checkpoint_step(dmn_daemon_t *daemon, int64_t job_id)
{
    dmn_checkpoint_t *checkpoints = NULL;
    int n = 0;
    if (dmn_store_checkpoints_get(daemon->store, job_id, &checkpoints, &n) != ST_OK) {
        return -1;
    }
    int64_t step = n > 0 ? checkpoints[n - 1].step : -1;
    dmn_checkpoints_release(checkpoints, n);
    return step;
}

/* Forgets the attempt before. */
static void run_reset(dmn_run_t *run)
{
    if (run->pidfd >= 0) {
        (void)close(run->pidfd);
    }
    dmn_attempt_release(&run->attempt);
    mem_free(run->kill_reason);
    run->kill_reason = NULL;
    run->pidfd = -1;
    run->is_live = run->is_child = run->is_exited = false;
    run->is_kill_sent = run->is_term_sent = run->is_grace_over = run->lacks_room = false;
    run->sent = DMN_COMMAND_NONE;
    run->launched_ns = run->retry_at_ns = run->kill_at_ns = run->finish_at_ns = 0;
    run->failed_ns = run->left_ns = 0;
    run->n_kills = 0;
    run->has_base_step = false;
    for (int i = 0; i < run->n_ranks; i++) {
        /* A stream of the attempt before may still be closing and wait for its writers. */
        run->ranks[i] = (dmn_run_rank_t){.n_writers = run->ranks[i].n_writers};
    }
}

void dmn_run_watch(dmn_daemon_t *daemon, dmn_run_t *run)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    if (run->pidfd >= 0 && epoll_ctl(daemon->epoll_fd, EPOLL_CTL_ADD, run->pidfd, &event) != 0) {
        log_error("watching the shim of job %" PRId64 ": %s", run->job.id, strerror(errno));
    }
}

static int pidfd_open_cloexec(pid_t pid)
{
    return (int)syscall(SYS_pidfd_open, pid, 0);
}

/* Stores who the shim is. Should that fail, its shim.json says it too. */
static status_t shim_adopt(dmn_daemon_t *daemon, dmn_run_t *run, pid_t pid)
{
    dmn_process_t process;
    run->is_live = true;
    run->is_child = true;
    run->attempt.pid = pid;
    run->pidfd = pidfd_open_cloexec(pid);
    if (run->pidfd < 0) {
        status_t status = ST_FAIL(ST_ERR_IO, "pidfd_open of grad-shim %d: %s", (int)pid, strerror(errno));
        (void)kill(pid, SIGUSR1);
        return status;
    }
    dmn_run_watch(daemon, run);
    if (dmn_process_read(pid, &process) == ST_OK) {
        run->attempt.starttime = process.starttime;
        memcpy(run->attempt.boot_id, daemon->boot_id, sizeof(run->attempt.boot_id));
        return dmn_store_attempt_shim(daemon->store, run->job.id, &run->attempt);
    }
    return ST_OK;
}

static status_t attempt_start(dmn_daemon_t *daemon, dmn_run_t *run)
{
    dmn_launch_t launch = {.program_folder = daemon->program_folder,
                           .launcher = daemon->launcher,
                           .address = daemon->worker_address,
                           .job_folder = run->folder,
                           .attempt = &run->attempt,
                           .job_id = run->job.id,
                           .workers = run->job.workers,
                           .threads = run->threads,
                           .grace_ms = run->grace_ms};
    pid_t pid = -1;
    status_t status = dmn_launch(&launch, &pid);
    if (status == ST_OK) {
        run->launched_ns = clock_now_ns();
        status = shim_adopt(daemon, run, pid);
        if (status != ST_OK && run->pidfd >= 0) {
            log_warn("job %" PRId64 ": %s", run->job.id, status_message());
            status = ST_OK;
        }
    }
    return status;
}

/* An attempt that a full disk would end is not begun, and doesn't count. */
static status_t room_wait(dmn_daemon_t *daemon, dmn_run_t *run)
{
    run->retry_at_ns = clock_now_ns() + FINISH_RETRY_MS * CLOCK_NS_PER_MS;
    if (!run->is_room_told) {
        run->is_room_told = true;
        strbuf_t reason = {0};
        strbuf_appendf(&reason, "attempt %d waits for room: %s", run->job.attempt + 1, status_message());
        log_warn("job %" PRId64 ": %s", run->job.id, strbuf_text(&reason));
        (void)dmn_run_change(daemon, run, run->job.state, strbuf_text(&reason));
        strbuf_release(&reason);
    }
    return ST_OK;
}

status_t dmn_run_launch(dmn_daemon_t *daemon, dmn_run_t *run)
{
    if (dmn_room_check(daemon->state_folder, LAUNCH_ROOM) == ST_ERR_NOSPACE) {
        return room_wait(daemon, run);
    }
    run->is_room_told = false;
    run_reset(run);
    run->first_checkpoint_step = checkpoint_step(daemon, run->job.id);
    int64_t now_ns = clock_wall_ns();
    run->attempt = (dmn_attempt_t){.number = run->job.attempt + 1, .started_ns = now_ns};
    run->attempt.goodbye.outcome = DMN_OUTCOME_NONE;
    status_t status = dmn_token_make(run->attempt.token);
    if (status == ST_OK) {
        status = dmn_store_attempt_begin(daemon->store, run->job.id, &run->attempt);
    }
    dmn_job_t before = run->job;
    if (status == ST_OK) {
        run->job.attempt = run->attempt.number;
        run->job.first_step_ns = 0;
        run->job.deadline_ns = 0;
        run->job.is_forced = false;
        if (run->job.started_ns == 0) {
            run->job.started_ns = now_ns;
        }
        strbuf_t reason = {0};
        strbuf_appendf(&reason, "attempt %d on %d slot%s", run->attempt.number, run->job.slots,
                       run->job.slots == 1 ? "" : "s");
        status = dmn_run_change(daemon, run, DMN_STATE_STARTING, strbuf_text(&reason));
        strbuf_release(&reason);
    }
    if (status != ST_OK) {
        run->job.attempt = before.attempt;
        run->job.started_ns = before.started_ns;
        run->retry_at_ns = clock_now_ns() + FINISH_RETRY_MS * CLOCK_NS_PER_MS;
        return status;
    }
    status = attempt_start(daemon, run);
    if (status != ST_OK) {
        run->attempt.goodbye.outcome = DMN_OUTCOME_FAILED;
        run->attempt.goodbye.is_permanent = status == ST_ERR_NOT_FOUND;
        run->lacks_room = status == ST_ERR_NOSPACE;
        run->kill_reason = mem_strdup(status_message());
        run->launched_ns = 0;
        run->is_live = true;
        run->is_exited = true;
    }
    return ST_OK;
}

/* The shim's exit.json says that no process is left. Without one, what is left is killed here. */
static status_t ending_read(dmn_daemon_t *daemon, dmn_run_t *run, dmn_exit_t *record, dmn_ending_t *ending)
{
    ending->has_exit = dmn_exit_read(run->folder, run->attempt.number, record) == ST_OK;
    if (!ending->has_exit) {
        int n = 0;
        status_t status = dmn_launch_kill_strays(&run->attempt, &n);
        if (status != ST_OK) {
            return status_add_context(status, "attempt %d of job %" PRId64, run->attempt.number, run->job.id);
        }
        log_info("job %" PRId64 ": attempt %d left no exit record; killed %d processes of it", run->job.id,
                 run->attempt.number, n);
        /* A launch that failed counts as an end like any other, unless the disk is full. */
        ending->has_exit = run->kill_reason != NULL && run->launched_ns == 0 && !run->is_kill_sent && !run->lacks_room;
    }
    ending->code = record->code;
    ending->signal_number = record->signal_number;
    ending->error = record->error;
    if (run->attempt.goodbye.outcome == DMN_OUTCOME_NONE) {
        dmn_goodbye_t goodbye;
        if (dmn_goodbye_read(run->folder, run->attempt.number, &goodbye) == ST_OK) {
            dmn_goodbye_release(&run->attempt.goodbye);
            run->attempt.goodbye = goodbye;
            if (dmn_store_attempt_goodbye(daemon->store, run->job.id, run->attempt.number, &goodbye) != ST_OK) {
                log_warn("job %" PRId64 ": %s", run->job.id, status_message());
            }
        }
    }
    return ST_OK;
}

status_t dmn_run_finish(dmn_daemon_t *daemon, dmn_run_t *run)
{
    if (run->is_child && run->attempt.pid > 0) {
        (void)waitpid((pid_t)run->attempt.pid, NULL, WNOHANG);
    }
    dmn_exit_t record = {0};
    dmn_ending_t ending = {.state = run->job.state,
                           .goodbye = &run->attempt.goodbye,
                           .kill_reason = run->kill_reason,
                           .is_grace_over = run->is_grace_over,
                           .is_forced = run->job.is_forced,
                           .charged = run->job.charged,
                           .max_restarts = run->max_restarts,
                           .checkpoint_step = checkpoint_step(daemon, run->job.id)};
    status_t status = ending_read(daemon, run, &record, &ending);
    if (status != ST_OK) {
        run->finish_at_ns = clock_now_ns() + FINISH_RETRY_MS * CLOCK_NS_PER_MS;
        return status;
    }
    /* Before the state changes: a daemon that comes after a crash here does it all again. */
    dmn_launch_clean(run->folder, &run->attempt);
    strbuf_t reason = {0};
    dmn_verdict_t verdict = dmn_job_decide(&ending, &reason);
    dmn_job_t before = run->job;
    if (verdict.state == DMN_STATE_RESTARTING) {
        /* Doubles from failure to failure, unless the attempt got anywhere. */
        run->n_fruitless = ending.checkpoint_step > run->first_checkpoint_step ? 0 : run->n_fruitless;
        int64_t wait_ns = dmn_job_backoff_ms(run->backoff_ms, run->n_fruitless++) * CLOCK_NS_PER_MS;
        run->job.restarts++;
        run->job.charged += verdict.is_charged ? 1 : 0;
        run->job.retry_ns = clock_wall_ns() + wait_ns;
        run->retry_at_ns = clock_now_ns() + wait_ns;
    }
    status = dmn_store_attempt_end(daemon->store, run->job.id, run->attempt.number, record.code, record.signal_number,
                                   strbuf_text(&reason));
    if (status == ST_OK) {
        status = dmn_run_change(daemon, run, verdict.state, strbuf_text(&reason));
    }
    strbuf_release(&reason);
    if (status != ST_OK) {
        run->job.restarts = before.restarts;
        run->job.charged = before.charged;
        run->job.retry_ns = before.retry_ns;
        run->finish_at_ns = clock_now_ns() + FINISH_RETRY_MS * CLOCK_NS_PER_MS;
        return status;
    }
    run->is_live = false;
    run->is_exited = false;
    if (run->pidfd >= 0) {
        (void)close(run->pidfd);
        run->pidfd = -1;
    }
    if (verdict.state != DMN_STATE_RESTARTING) {
        dmn_run_end(daemon, run);
    }
    return ST_OK;
}

void dmn_run_kill(dmn_daemon_t *daemon, dmn_run_t *run, const char *reason)
{
    if (run->kill_reason == NULL && reason != NULL) {
        run->kill_reason = mem_strdup(reason);
    }
    run->is_kill_sent = true;
    run->n_kills++;
    run->kill_at_ns = clock_now_ns() + KILL_AGAIN_MS * CLOCK_NS_PER_MS;
    /* A shim that doesn't do it (stopped, say) is killed itself; its processes are then found by their environment. */
    int signal_number = run->n_kills > MAX_KILLS ? SIGKILL : SIGUSR1;
    if (run->pidfd >= 0) {
        if (syscall(SYS_pidfd_send_signal, run->pidfd, signal_number, NULL, 0) != 0 && errno != ESRCH) {
            log_error("job %" PRId64 ": signalling its shim: %s", run->job.id, strerror(errno));
        }
        (void)syscall(SYS_pidfd_send_signal, run->pidfd, SIGCONT, NULL, 0);
    }
    dmn_supervisor_wake(daemon);
}

/* The shim by {pid, start time, boot id}; leaves pidfd -1 when it is gone. */
static void shim_find(dmn_daemon_t *daemon, dmn_run_t *run)
{
    dmn_attempt_t *attempt = &run->attempt;
    if (attempt->pid == 0) {
        (void)dmn_shim_read(run->folder, attempt);
    }
    if (attempt->pid <= 0 || strcmp(attempt->boot_id, daemon->boot_id) != 0) {
        return;
    }
    int pidfd = pidfd_open_cloexec((pid_t)attempt->pid);
    /* After the open: the process that is looked at is the one that pidfd holds, or that one is gone. */
    if (pidfd >= 0 && !dmn_process_is_alive((pid_t)attempt->pid, attempt->starttime)) {
        (void)close(pidfd);
        pidfd = -1;
    }
    run->pidfd = pidfd;
}

status_t dmn_run_recover(dmn_daemon_t *daemon, dmn_run_t *run)
{
    int64_t now_ns = clock_now_ns();
    int64_t wall_ns = clock_wall_ns();
    if (run->job.state == DMN_STATE_RESTARTING) {
        int64_t wait_ns = run->job.retry_ns - wall_ns;
        int64_t longest_ns = dmn_job_backoff_ms(run->backoff_ms, run->job.restarts) * CLOCK_NS_PER_MS;
        run->retry_at_ns = now_ns + (wait_ns < 0 ? 0 : wait_ns < longest_ns ? wait_ns : longest_ns);
        return ST_OK;
    }
    status_t status = dmn_store_attempt_get(daemon->store, run->job.id, run->job.attempt, &run->attempt);
    if (status != ST_OK) {
        return status;
    }
    run->first_checkpoint_step = checkpoint_step(daemon, run->job.id);
    run->is_live = true;
    run->is_child = true; /* true when the same process opens a daemon again; otherwise there is nothing to reap */
    shim_find(daemon, run);
    if (run->pidfd < 0) {
        log_info("job %" PRId64 ": attempt %d ended while no daemon was there", run->job.id, run->attempt.number);
        run->is_exited = true;
        return ST_OK;
    }
    if (run->job.deadline_ns > 0) {
        int64_t wait_ns = run->job.deadline_ns - wall_ns;
        int64_t longest_ns = run->grace_ms * CLOCK_NS_PER_MS;
        run->kill_at_ns = now_ns + (wait_ns < 0 ? 0 : wait_ns < longest_ns ? wait_ns : longest_ns);
    }
    if (run->job.is_forced && run->job.state == DMN_STATE_CANCELLING) {
        dmn_run_kill(daemon, run, NULL);
    }
    if (run->attempt.goodbye.outcome != DMN_OUTCOME_NONE) {
        run->left_ns = now_ns;
    }
    for (int i = 0; i < run->n_ranks; i++) {
        /* They come back; a rank that hangs does not, and nobody has heard it yet. */
        run->ranks[i].lost_ns = now_ns;
    }
    dmn_run_watch(daemon, run);
    log_info("job %" PRId64 ": attempt %d found again, grad-shim %" PRId64, run->job.id, run->attempt.number,
             run->attempt.pid);
    return ST_OK;
}
