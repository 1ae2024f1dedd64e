/* SPDX-License-Identifier: Apache-2.0 */
/*
 * supervise: one thread that watches every attempt: the end of its shim (pidfd), deadlines, ranks that went silent,
 * commands that wait for rank 0, the queue. Each round looks at everything; what wakes it need not say why.
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "daemon/daemon_internal.h"
#include "daemon/process.h"

enum {
    RECONNECT_MS = 300,
    RETURN_MS = 5000,
    LEAVING_MS = 10000,
    FAILING_MS = 1000,
    LEFT_MS = 30000,
    LONGEST_WAIT_MS = 60000
};

static void sooner(int64_t *wake_ns, int64_t at_ns)
{
    if (at_ns > 0 && at_ns < *wake_ns) {
        *wake_ns = at_ns;
    }
}

static bool shim_has_exited(const dmn_run_t *run)
{
    struct pollfd poll_fd = {.fd = run->pidfd, .events = POLLIN};
    return run->pidfd >= 0 && poll(&poll_fd, 1, 0) == 1;
}

static bool rank_is_dead(const dmn_run_rank_t *rank)
{
    return rank->is_local && rank->pid > 0 && !dmn_process_is_alive(rank->pid, rank->starttime);
}

/* A rank without a stream must be back by then: heard for a heartbeat's time, and with time to connect again. */
static int64_t return_time(const dmn_daemon_t *daemon, const dmn_run_rank_t *rank)
{
    int64_t heard_ns = rank->heard_ns > 0 ? rank->heard_ns : rank->lost_ns;
    int64_t silent_ns = heard_ns + daemon->heartbeat_ms * CLOCK_NS_PER_MS;
    int64_t lost_ns = rank->lost_ns + RETURN_MS * CLOCK_NS_PER_MS;
    return silent_ns > lost_ns ? silent_ns : lost_ns;
}

/*
 * A rank whose stream broke: dead, and the attempt is killed at once, as mpirun takes seconds to notice. Alive: it may
 * reconnect, but not at any time: a stopped process keeps no connection. When one has said goodbye the attempt is
 * ending by itself.
 */
static void lost_rank_check(dmn_daemon_t *daemon, dmn_run_t *run, int number, int64_t now_ns, int64_t *wake_ns)
{
    dmn_run_rank_t *rank = &run->ranks[number];
    char reason[128];
    bool is_ending = run->attempt.goodbye.outcome != DMN_OUTCOME_NONE;
    int64_t check_ns = rank->lost_ns + (is_ending ? LEAVING_MS : RECONNECT_MS) * CLOCK_NS_PER_MS;
    bool is_dead = rank_is_dead(rank);
    if (is_dead && (!is_ending || now_ns >= check_ns)) {
        (void)snprintf(reason, sizeof(reason), "rank %d (pid %d) died", number, (int)rank->pid);
        dmn_run_kill(daemon, run, reason);
    } else if (!is_ending && now_ns >= return_time(daemon, rank)) {
        (void)snprintf(reason, sizeof(reason), "rank %d has been away for %" PRId64 " ms", number,
                       (now_ns - rank->lost_ns) / CLOCK_NS_PER_MS);
        dmn_run_kill(daemon, run, reason);
    } else if (now_ns < check_ns) {
        sooner(wake_ns, check_ns);
        sooner(wake_ns, now_ns + 20 * CLOCK_NS_PER_MS);
    } else {
        sooner(wake_ns, now_ns + CLOCK_NS_PER_S);
    }
}

static void rank_check(dmn_daemon_t *daemon, dmn_run_t *run, int number, int64_t now_ns, int64_t *wake_ns)
{
    dmn_run_rank_t *rank = &run->ranks[number];
    char reason[128];
    if (rank->has_left) {
        return;
    }
    if (rank->call == NULL && rank->lost_ns > 0) {
        lost_rank_check(daemon, run, number, now_ns, wake_ns);
    } else if (rank->call != NULL) {
        int64_t silent_ns = rank->heard_ns + daemon->heartbeat_ms * CLOCK_NS_PER_MS;
        if (now_ns >= silent_ns) {
            (void)snprintf(reason, sizeof(reason), "rank %d (pid %d) sent nothing for %" PRId64 " ms", number,
                           (int)rank->pid, daemon->heartbeat_ms);
            dmn_run_kill(daemon, run, reason);
        }
        sooner(wake_ns, silent_ns);
    }
}

static void ranks_check(dmn_daemon_t *daemon, dmn_run_t *run, int64_t now_ns, int64_t *wake_ns)
{
    int64_t attach_ns = run->launched_ns + daemon->attach_ms * CLOCK_NS_PER_MS;
    for (int i = 0; i < run->n_ranks && !run->is_kill_sent; i++) {
        dmn_run_rank_t *rank = &run->ranks[i];
        rank_check(daemon, run, i, now_ns, wake_ns);
        if (run->launched_ns > 0 && rank->heard_ns == 0) {
            if (now_ns >= attach_ns && !run->is_kill_sent) {
                char reason[128];
                (void)snprintf(reason, sizeof(reason), "rank %d did not connect within %" PRId64 " ms", i,
                               daemon->attach_ms);
                dmn_run_kill(daemon, run, reason);
            }
            sooner(wake_ns, attach_ns);
        }
    }
}

static void deadline_check(dmn_daemon_t *daemon, dmn_run_t *run, int64_t now_ns, int64_t *wake_ns)
{
    if (run->kill_at_ns == 0) {
        return;
    }
    if (now_ns >= run->kill_at_ns) {
        run->is_grace_over = run->is_grace_over || !run->is_kill_sent;
        dmn_run_kill(daemon, run, NULL);
    }
    sooner(wake_ns, run->kill_at_ns);
}

/* After a goodbye the attempt ends by itself, or not: mpirun takes seconds to end ranks whose peer has failed, and a
 * rank may hang in its last barrier. */
static void goodbye_check(dmn_daemon_t *daemon, dmn_run_t *run, int64_t now_ns, int64_t *wake_ns)
{
    int64_t kill_ns = run->failed_ns > 0 ? run->failed_ns + FAILING_MS * CLOCK_NS_PER_MS
                      : run->left_ns > 0 ? run->left_ns + LEFT_MS * CLOCK_NS_PER_MS
                                         : 0;
    if (kill_ns > 0 && now_ns >= kill_ns) {
        dmn_run_kill(daemon, run, NULL);
    }
    sooner(wake_ns, kill_ns);
}

static dmn_command_t command_wanted(const dmn_run_t *run)
{
    return run->job.state == DMN_STATE_PAUSING      ? DMN_COMMAND_PAUSE
           : run->job.state == DMN_STATE_CANCELLING ? DMN_COMMAND_STOP
                                                    : DMN_COMMAND_NONE;
}

/* Without a rank 0 to ask, a cancelled attempt gets SIGTERM. */
static void term_send(dmn_run_t *run)
{
    if (run->job.state == DMN_STATE_CANCELLING && run->launched_ns > 0 && run->ranks[0].heard_ns == 0 &&
        !run->is_term_sent && run->pidfd >= 0) {
        run->is_term_sent = true;
        (void)syscall(SYS_pidfd_send_signal, run->pidfd, SIGTERM, NULL, 0);
    }
}

/* The run may be gone afterwards. */
static void run_check(dmn_daemon_t *daemon, dmn_run_t *run, int64_t now_ns, int64_t *wake_ns)
{
    status_t status = ST_OK;
    if (!run->is_live) {
        if (run->job.state == DMN_STATE_RESTARTING || run->job.state == DMN_STATE_QUEUED) {
            if (now_ns >= run->retry_at_ns) {
                status = dmn_run_launch(daemon, run);
                if (status == ST_OK) {
                    sooner(wake_ns, now_ns);
                }
            }
            sooner(wake_ns, run->retry_at_ns);
        }
    } else if (run->is_exited || shim_has_exited(run)) {
        run->is_exited = true;
        if (run->pidfd >= 0) {
            /* A pidfd stays readable: out of the set, or it would wake us without end. */
            (void)epoll_ctl(daemon->epoll_fd, EPOLL_CTL_DEL, run->pidfd, NULL);
        }
        if (now_ns >= run->finish_at_ns) {
            status = dmn_run_finish(daemon, run);
            sooner(wake_ns, status == ST_OK ? now_ns : run->finish_at_ns);
        } else {
            sooner(wake_ns, run->finish_at_ns);
        }
    } else {
        term_send(run);
        if (!run->is_kill_sent) {
            ranks_check(daemon, run, now_ns, wake_ns);
            goodbye_check(daemon, run, now_ns, wake_ns);
        }
        deadline_check(daemon, run, now_ns, wake_ns);
    }
    if (status != ST_OK) {
        log_error("%s; trying again", status_message());
    }
}

static void queue_serve(dmn_daemon_t *daemon, int64_t *wake_ns)
{
    int64_t id = 0;
    while (dmn_scheduler_next(&daemon->scheduler, &id)) {
        dmn_run_t *run = NULL;
        status_t status = dmn_run_open(daemon, id, &run);
        if (status == ST_OK) {
            (void)dmn_scheduler_remove(&daemon->scheduler, id);
            if (run->job.state != DMN_STATE_QUEUED) {
                /* steered between the moment it was stored and the moment it entered the queue */
                dmn_run_end(daemon, run);
                continue;
            }
            status = dmn_run_launch(daemon, run);
        }
        if (status != ST_OK) {
            log_error("starting job %" PRId64 ": %s; trying again", id, status_message());
            sooner(wake_ns, clock_now_ns() + CLOCK_NS_PER_S);
            if (run == NULL) {
                return;
            }
        }
        sooner(wake_ns, clock_now_ns());
    }
}

/* Sends one command that waits; false when there was none. The lock is free while it is written. */
static bool command_send(dmn_daemon_t *daemon)
{
    dmn_run_t *run = daemon->runs;
    while (run != NULL && !(run->is_live && run->ranks[0].call != NULL && command_wanted(run) != DMN_COMMAND_NONE &&
                            command_wanted(run) != run->sent)) {
        run = run->next;
    }
    if (run == NULL) {
        return false;
    }
    dmn_run_rank_t *rank = &run->ranks[0];
    rpc_call_t *call = rank->call;
    dmn_command_t command = command_wanted(run);
    (void)dmn_run_ref(run);
    run->sent = command;
    rank->n_writers++;
    (void)pthread_mutex_unlock(&daemon->lock);
    Gradd__V1__Command kind = GRADD__V1__COMMAND__INIT;
    kind.has_kind = 1;
    kind.kind = (Gradd__V1__Command__Kind)command;
    Gradd__V1__DaemonMessage message = GRADD__V1__DAEMON_MESSAGE__INIT;
    message.command = &kind;
    if (rpc_call_write(call, &message.base) != ST_OK) {
        log_debug("job %" PRId64 ": command not sent: %s", run->job.id, status_message());
    }
    (void)pthread_mutex_lock(&daemon->lock);
    rank->n_writers--;
    (void)pthread_cond_broadcast(&daemon->writers_left);
    dmn_run_unref(run);
    return true;
}

static void *supervisor_run(void *arg)
{
    dmn_daemon_t *daemon = arg;
    while (!atomic_load(&daemon->is_stopping)) {
        int64_t now_ns = clock_now_ns();
        int64_t wake_ns = now_ns + LONGEST_WAIT_MS * CLOCK_NS_PER_MS;
        (void)pthread_mutex_lock(&daemon->lock);
        for (dmn_run_t *run = daemon->runs, *next = NULL; run != NULL; run = next) {
            next = run->next;
            run_check(daemon, run, now_ns, &wake_ns);
        }
        queue_serve(daemon, &wake_ns);
        while (command_send(daemon)) {
        }
        (void)pthread_mutex_unlock(&daemon->lock);
        int64_t wait_ns = wake_ns - clock_now_ns();
        int wait_ms = wait_ns <= 0 ? 0 : (int)(wait_ns / CLOCK_NS_PER_MS) + 1;
        struct epoll_event event;
        if (epoll_wait(daemon->epoll_fd, &event, 1, wait_ms) > 0) {
            uint64_t count = 0;
            (void)!read(daemon->wake_fd, &count, sizeof(count));
        }
    }
    return NULL;
}

status_t dmn_supervisor_start(dmn_daemon_t *daemon)
{
    if (pthread_create(&daemon->supervisor, NULL, supervisor_run, daemon) != 0) {
        return ST_FAIL(ST_ERR_NOMEM, "no thread for the supervisor");
    }
    daemon->has_supervisor = true;
    return ST_OK;
}

void dmn_supervisor_stop(dmn_daemon_t *daemon)
{
    if (daemon->has_supervisor) {
        atomic_store(&daemon->is_stopping, true);
        dmn_supervisor_wake(daemon);
        (void)pthread_join(daemon->supervisor, NULL);
        daemon->has_supervisor = false;
    }
}

void dmn_supervisor_wake(dmn_daemon_t *daemon)
{
    uint64_t one = 1;
    (void)!write(daemon->wake_fd, &one, sizeof(one));
}
