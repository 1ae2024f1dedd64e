/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon with attempts of fake workers: ends of every kind, steering, and restarts of the daemon itself. A machine
 * that keeps a rank waiting for seconds must not change an outcome: the heartbeat is short only where a rank falls
 * silent, and there more attempts than two do no harm.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "base/clock.h"
#include "tests/daemon/client.h"

enum { LIMIT_MS = 120000, SILENT_MS = 1000 };

#define WAIT_STATE(id_x, state_x) WAIT_UNTIL(client_state(id_x) == GRADD__V1__STATE__##state_x, LIMIT_MS)

static void assert_reason_has(int id, const char *text)
{
    const char *reason = client_reason(id);
    if (strstr(reason, text) == NULL) {
        fail_msg("the reason is \"%s\", without \"%s\"", reason, text);
    }
}

static long rank_pid(int id, int rank)
{
    Gradd__V1__Job *job = client_get(id);
    long pid = 0;
    for (size_t i = 0; i < job->n_ranks; i++) {
        if (job->ranks[i]->rank == rank) {
            pid = (long)job->ranks[i]->pid;
        }
    }
    client_free(job);
    return pid;
}

static void a_job_runs_to_its_end(void **state)
{
    (void)state;
    dmn_daemon_t *daemon = client_daemon(2, "steps=10 step_ms=5");
    client_open();

    int id = client_submit(2, "");
    WAIT_STATE(id, SUCCEEDED)

    Gradd__V1__Job *job = client_get(id);
    assert_string_equal(job->name, "fake");
    assert_int_equal(job->step, 10);
    assert_int_equal(job->attempt, 1);
    assert_int_equal(job->restarts, 0);
    assert_int_equal(strlen(job->parameters_sha256), 64);
    assert_int_equal(job->n_metrics, 1);
    assert_string_equal(job->metrics[0]->name, "loss");
    assert_true(job->metrics[0]->value < 0.1);
    assert_int_equal(job->n_checkpoints, 1);
    assert_int_equal(job->checkpoints[0]->step, 10);
    assert_int_equal(job->n_ranks, 0);
    assert_true(job->first_step_unix_ns > job->submitted_unix_ns);
    assert_true(job->finished_unix_ns >= job->first_step_unix_ns);
    assert_non_null(strstr(job->yaml, "name: fake"));
    client_free(job);
    client_close();
    dmn_daemon_close(daemon, 1000);
}

static void the_longest_text_that_a_worker_samples_is_kept(void **state)
{
    (void)state;
    dmn_daemon_t *daemon = client_daemon(1, "steps=2 step_ms=5 text=786432");
    client_open();

    int id = client_submit(1, "");
    WAIT_STATE(id, SUCCEEDED)

    Gradd__V1__Job *job = client_get(id);
    assert_int_equal(strlen(job->text), 786432);
    client_free(job);
    client_close();
    dmn_daemon_close(daemon, 1000);
}

static void a_killed_rank_starts_the_job_again_from_its_checkpoint(void **state)
{
    (void)state;
    dmn_daemon_t *daemon = client_daemon(2, "steps=40 step_ms=10 crash=12");
    client_open();

    int id = client_submit(2, "restart: {backoff: 100ms}");
    WAIT_STATE(id, SUCCEEDED)

    Gradd__V1__Job *job = client_get(id);
    assert_int_equal(job->attempt, 2);
    assert_int_equal(job->restarts, 1);
    client_free(job);
    client_close();
    dmn_daemon_close(daemon, 1000);
}

static void a_killed_rank_is_noticed_without_its_launcher(void **state)
{
    (void)state;
    dmn_daemon_t *daemon = client_daemon(2, "steps=100000 step_ms=10");
    client_open();
    int id = client_submit(2, "restart: {backoff: 100ms}");
    WAIT_UNTIL(client_step(id) > 10 && rank_pid(id, 1) > 0, LIMIT_MS)

    int64_t start_ns = clock_now_ns();
    assert_int_equal(kill((pid_t)rank_pid(id, 1), SIGKILL), 0);
    WAIT_UNTIL(client_attempt(id) == 2 && client_state(id) == GRADD__V1__STATE__RUNNING, LIMIT_MS)
    int64_t elapsed_ms = (clock_now_ns() - start_ns) / CLOCK_NS_PER_MS;

    print_message("killed rank -> running again: %lld ms\n", (long long)elapsed_ms);
    assert_true(elapsed_ms < 5000);
    client_cancel(id, true);
    WAIT_STATE(id, CANCELLED)
    client_close();
    dmn_daemon_close(daemon, 1000);
}

static void a_silent_rank_is_given_up(void **state)
{
    (void)state;
    client_heartbeat_ms = SILENT_MS;
    dmn_daemon_t *daemon = client_daemon(2, "steps=300 step_ms=10 hang=7 late=200");
    client_open();

    int id = client_submit(2, "restart: {max: 20, backoff: 10ms}");
    WAIT_STATE(id, SUCCEEDED)

    assert_true(client_attempt(id) >= 2);
    client_close();
    dmn_daemon_close(daemon, 1000);
}

static void a_rank_that_loses_its_stream_and_stays_away_is_given_up(void **state)
{
    (void)state;
    client_heartbeat_ms = SILENT_MS;
    dmn_daemon_t *daemon = client_daemon(2, "steps=100000 step_ms=10 vanish=7");
    client_open();

    int id = client_submit(2, "restart: {max: 20, backoff: 10ms}");
    WAIT_UNTIL(client_attempt(id) >= 2 && client_state(id) == GRADD__V1__STATE__RUNNING, LIMIT_MS)

    client_cancel(id, true);
    WAIT_STATE(id, CANCELLED)
    client_close();
    dmn_daemon_close(daemon, 1000);
}

static void a_rank_that_hangs_over_a_restart_of_the_daemon_is_given_up(void **state)
{
    (void)state;
    dmn_daemon_t *daemon = client_daemon(2, "steps=100000 step_ms=10");
    client_open();
    int id = client_submit(2, "restart: {max: 20, backoff: 10ms}");
    WAIT_UNTIL(client_step(id) > 5 && rank_pid(id, 1) > 0, LIMIT_MS)

    assert_int_equal(kill((pid_t)rank_pid(id, 1), SIGSTOP), 0);
    client_close();
    dmn_daemon_close(daemon, 100);
    client_heartbeat_ms = SILENT_MS;
    daemon = client_daemon(2, "steps=100000 step_ms=10");
    client_open();
    WAIT_UNTIL(client_attempt(id) >= 2 && client_state(id) == GRADD__V1__STATE__RUNNING, LIMIT_MS)

    client_cancel(id, true);
    WAIT_STATE(id, CANCELLED)
    client_close();
    dmn_daemon_close(daemon, 1000);
}

static void a_permanent_failure_is_not_tried_again(void **state)
{
    (void)state;
    dmn_daemon_t *daemon = client_daemon(1, "fail=3");
    client_open();

    int id = client_submit(1, "");
    WAIT_STATE(id, FAILED)

    assert_reason_has(id, "labels out of range");
    assert_int_equal(client_attempt(id), 1);
    client_close();
    dmn_daemon_close(daemon, 1000);
}

static void an_attempt_that_ends_before_it_knows_its_step_leaves_the_progress(void **state)
{
    (void)state;
    dmn_daemon_t *daemon = client_daemon(1, "steps=10 crash=7 refuse=2");
    client_open();

    int id = client_submit(1, "restart: {max: 2, backoff: 10ms}");
    WAIT_STATE(id, FAILED)

    assert_reason_has(id, "other numerics");
    Gradd__V1__Job *job = client_get(id);
    assert_int_equal(job->attempt, 2);
    assert_int_equal(job->step, 6);
    assert_int_equal(job->steps_total, 10);
    client_free(job);
    client_close();
    dmn_daemon_close(daemon, 1000);
}

static void restarts_end_at_their_limit(void **state)
{
    (void)state;
    dmn_daemon_t *daemon = client_daemon(1, "");
    client_open();
    (void)support_script("launcher", "exit 7");

    int id = client_submit(1, "restart: {max: 2, backoff: 10ms}");
    WAIT_STATE(id, FAILED)

    assert_reason_has(id, "code 7");
    assert_reason_has(id, "restarted 2 times");
    assert_int_equal(client_attempt(id), 3);
    client_close();
    dmn_daemon_close(daemon, 1000);
}

static void pause_and_resume_go_on_from_the_checkpoint(void **state)
{
    (void)state;
    dmn_daemon_t *daemon = client_daemon(2, "steps=300 step_ms=10 every=1000");
    client_open();
    int id = client_submit(2, "");
    WAIT_UNTIL(client_step(id) > 5, LIMIT_MS)

    client_pause(id);
    WAIT_STATE(id, PAUSED)
    assert_reason_has(id, "paused at step ");
    int64_t step = client_step(id);
    client_resume(id, 1);
    WAIT_STATE(id, SUCCEEDED)

    Gradd__V1__Job *job = client_get(id);
    assert_true(step > 5);
    assert_int_equal(job->attempt, 2);
    assert_int_equal(job->restarts, 0);
    assert_int_equal(job->workers, 1);
    assert_int_equal(job->slots, 1);
    client_free(job);
    client_close();
    dmn_daemon_close(daemon, 1000);
}

static void a_pause_that_is_ignored_kills_after_the_grace(void **state)
{
    (void)state;
    dmn_daemon_t *daemon = client_daemon(1, "steps=100000 step_ms=10 every=5 deaf=1");
    client_open();
    int id = client_submit(1, "restart: {grace: 300ms}");
    WAIT_UNTIL(client_step(id) > 10, LIMIT_MS)

    client_pause(id);
    WAIT_STATE(id, PAUSED)

    assert_reason_has(id,
                      "did not leave within its grace and was killed; a resume goes on from the checkpoint at step");
    client_close();
    dmn_daemon_close(daemon, 1000);
}

static void cancel_of_a_running_job_asks_its_workers(void **state)
{
    (void)state;
    dmn_daemon_t *daemon = client_daemon(2, "steps=100000 step_ms=10");
    client_open();
    int id = client_submit(1, "");
    WAIT_STATE(id, RUNNING)

    client_cancel(id, false);
    WAIT_STATE(id, CANCELLED)

    assert_string_equal(client_reason(id), "cancelled by the user");
    client_close();
    dmn_daemon_close(daemon, 1000);
}

static void a_cancel_that_is_ignored_kills_after_the_grace(void **state)
{
    (void)state;
    dmn_daemon_t *daemon = client_daemon(2, "steps=100000 step_ms=10 deaf=1");
    client_open();
    int id = client_submit(2, "restart: {grace: 300ms}");
    WAIT_STATE(id, RUNNING)
    long pids[2] = {rank_pid(id, 0), rank_pid(id, 1)};

    client_cancel(id, false);
    WAIT_STATE(id, CANCELLED)

    assert_reason_has(id, "did not leave within its grace");
    assert_false(support_is_alive(pids[0]));
    assert_false(support_is_alive(pids[1]));
    client_close();
    dmn_daemon_close(daemon, 1000);
}

static void a_forced_cancel_kills_at_once(void **state)
{
    (void)state;
    dmn_daemon_t *daemon = client_daemon(2, "steps=100000 step_ms=10 deaf=1");
    client_open();
    int id = client_submit(2, "restart: {grace: 1h}");
    WAIT_STATE(id, RUNNING)

    int64_t start_ns = clock_now_ns();
    client_cancel(id, false);
    client_cancel(id, true);
    WAIT_STATE(id, CANCELLED)

    assert_true(clock_now_ns() - start_ns < 5 * CLOCK_NS_PER_S);
    client_close();
    dmn_daemon_close(daemon, 1000);
}

static void ranks_get_their_number_of_threads_and_how_long_these_spin(void **state)
{
    (void)state;
    dmn_daemon_t *daemon = client_daemon(1, "");
    client_open();
    (void)support_script("launcher", "echo $OMP_NUM_THREADS $GOMP_SPINCOUNT >&2; exit 7");

    int id = client_submit(1, "restart: {max: 0}");
    WAIT_STATE(id, FAILED)

    char path[64];
    (void)snprintf(path, sizeof(path), "state/jobs/%d/attempts/1/launcher.log", id);
    assert_string_equal(support_text(support_path(path)), "1 20000\n");
    client_close();
    dmn_daemon_close(daemon, 1000);
}

static void a_cancel_before_the_ranks_attach_stops_the_launcher(void **state)
{
    (void)state;
    dmn_daemon_t *daemon = client_daemon(1, "");
    client_open();
    (void)support_script("launcher", "echo started >&2; sleep 1000");
    int id = client_submit(1, "restart: {grace: 1h}");
    char path[64];
    (void)snprintf(path, sizeof(path), "state/jobs/%d/attempts/1/launcher.log", id);
    WAIT_UNTIL(strcmp(support_text(support_path(path)), "started\n") == 0, LIMIT_MS)

    client_cancel(id, false);
    WAIT_STATE(id, CANCELLED)

    client_close();
    dmn_daemon_close(daemon, 1000);
}

static void ranks_that_never_attach_are_given_up(void **state)
{
    (void)state;
    client_attach_ms = 300;
    dmn_daemon_t *daemon = client_daemon(1, "");
    client_open();
    (void)support_script("launcher", "sleep 1000");

    int id = client_submit(1, "restart: {max: 1, backoff: 10ms}");
    WAIT_STATE(id, FAILED)

    assert_reason_has(id, "rank 0 did not connect within 300 ms");
    client_close();
    dmn_daemon_close(daemon, 1000);
}

static void a_stopped_shim_is_woken_to_obey(void **state)
{
    (void)state;
    dmn_daemon_t *daemon = client_daemon(1, "steps=100000 step_ms=10");
    client_open();
    int id = client_submit(1, "");
    WAIT_STATE(id, RUNNING)
    long pid = rank_pid(id, 0);
    char path[64];
    int shim = 0;
    (void)snprintf(path, sizeof(path), "state/jobs/%d/attempts/1/shim.json", id);
    assert_int_equal(sscanf(support_text(support_path(path)), "{\"pid\": %d", &shim), 1);

    assert_int_equal(kill((pid_t)shim, SIGSTOP), 0);
    client_cancel(id, true);
    WAIT_STATE(id, CANCELLED)

    assert_false(support_is_alive(pid));
    client_close();
    dmn_daemon_close(daemon, 1000);
}

static void a_restarted_daemon_takes_running_jobs_up_again(void **state)
{
    (void)state;
    dmn_daemon_t *daemon = client_daemon(2, "steps=400 step_ms=10");
    client_open();
    int id = client_submit(2, "");
    WAIT_UNTIL(client_step(id) > 10, LIMIT_MS)
    long pid = rank_pid(id, 0);

    client_close();
    dmn_daemon_close(daemon, 100);
    daemon = client_daemon(2, "");
    client_open();

    assert_int_equal(rank_pid(id, 0), pid);
    WAIT_STATE(id, SUCCEEDED)
    assert_int_equal(client_attempt(id), 1);
    assert_int_equal(client_step(id), 400);
    client_close();
    dmn_daemon_close(daemon, 1000);
}

static void an_end_without_a_daemon_is_read_from_the_records(void **state)
{
    (void)state;
    dmn_daemon_t *daemon = client_daemon(2, "steps=30 step_ms=10");
    client_open();
    int id = client_submit(1, "");
    WAIT_UNTIL(client_step(id) > 2, LIMIT_MS)
    char path[64];
    (void)snprintf(path, sizeof(path), "state/jobs/%d/attempts/1/exit.json", id);

    client_close();
    dmn_daemon_close(daemon, 100);
    WAIT_UNTIL(support_exists(support_path(path)), LIMIT_MS)
    daemon = client_daemon(2, "");
    client_open();

    WAIT_STATE(id, SUCCEEDED)
    Gradd__V1__Job *job = client_get(id);
    assert_int_equal(strlen(job->parameters_sha256), 64);
    assert_int_equal(job->attempt, 1);
    client_free(job);
    client_close();
    dmn_daemon_close(daemon, 1000);
}

static void a_lost_shim_costs_no_restart_and_leaves_no_process(void **state)
{
    (void)state;
    dmn_daemon_t *daemon = client_daemon(2, "steps=300 step_ms=10");
    client_open();
    int id = client_submit(2, "restart: {max: 0, backoff: 10ms}");
    WAIT_UNTIL(client_step(id) > 10, LIMIT_MS)
    long pids[2] = {rank_pid(id, 0), rank_pid(id, 1)};
    char path[64];
    int shim = 0;
    (void)snprintf(path, sizeof(path), "state/jobs/%d/attempts/1/shim.json", id);
    assert_int_equal(sscanf(support_text(support_path(path)), "{\"pid\": %d", &shim), 1);

    assert_int_equal(kill((pid_t)shim, SIGKILL), 0);
    WAIT_STATE(id, SUCCEEDED)

    assert_int_equal(client_attempt(id), 2);
    assert_false(support_is_alive(pids[0]));
    assert_false(support_is_alive(pids[1]));
    client_close();
    dmn_daemon_close(daemon, 1000);
}

static void a_cancel_is_carried_on_by_the_next_daemon(void **state)
{
    (void)state;
    dmn_daemon_t *daemon = client_daemon(2, "steps=100000 step_ms=10 deaf=1");
    client_open();
    int id = client_submit(1, "restart: {grace: 1s}");
    WAIT_STATE(id, RUNNING)

    client_cancel(id, false);
    client_close();
    dmn_daemon_close(daemon, 100);
    daemon = client_daemon(2, "");
    client_open();

    WAIT_STATE(id, CANCELLED)
    client_close();
    dmn_daemon_close(daemon, 1000);
}

static void jobs_wait_for_slots_in_their_order(void **state)
{
    (void)state;
    dmn_daemon_t *daemon = client_daemon(2, "steps=100000 step_ms=10");
    client_open();
    int first = client_submit(1, "");
    int second = client_submit(2, "");
    int third = client_submit(1, "");
    WAIT_STATE(first, RUNNING)

    assert_int_equal(client_state(second), GRADD__V1__STATE__QUEUED);
    assert_reason_has(second, "waits for 2 slots: 1 of 2 free");
    assert_int_equal(client_state(third), GRADD__V1__STATE__QUEUED);
    assert_reason_has(third, "waits behind 1 job");
    client_cancel(third, false);
    assert_int_equal(client_state(third), GRADD__V1__STATE__CANCELLED);
    client_pause(second);
    assert_int_equal(client_state(second), GRADD__V1__STATE__PAUSED);
    client_resume(second, 0);
    client_cancel(first, true);
    WAIT_STATE(second, RUNNING)
    client_cancel(second, true);
    WAIT_STATE(second, CANCELLED)
    client_close();
    dmn_daemon_close(daemon, 1000);
}

static bool can_mount;

/* A full disk isn't the job's fault: no restart is counted, and with room again it goes on. */
static void an_attempt_waits_for_room_on_the_disk(void **state)
{
    (void)state;
    enum { SMALL = 12 << 20, LARGE = 64 << 20 };
    if (!can_mount) {
        print_message("mounting a small disk isn't permitted\n");
        skip();
    }
    support_disk(support_path("state"), LARGE);
    fixture_expect_log("waits for room");
    dmn_daemon_t *daemon = client_daemon(2, "steps=100 step_ms=10");
    client_open();
    int id = client_submit(1, "restart: {max: 0}\n");
    int later = client_submit(2, "");
    int cancelled = client_submit(2, "");
    WAIT_STATE(id, RUNNING)
    support_disk_resize(support_path("state"), SMALL);
    WAIT_STATE(id, SUCCEEDED)
    WAIT_UNTIL(strstr(client_reason(later), "waits for room") != NULL, LIMIT_MS)
    client_cancel(cancelled, false);
    assert_int_equal(client_state(cancelled), GRADD__V1__STATE__CANCELLED);
    assert_int_equal(client_attempt(later), 0);

    support_disk_resize(support_path("state"), LARGE);

    WAIT_STATE(later, SUCCEEDED)
    assert_int_equal(client_attempt(later), 1);
    client_close();
    dmn_daemon_close(daemon, 1000);
    assert_int_equal(umount2(support_path("state"), MNT_DETACH), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_job_runs_to_its_end),
        TEST(the_longest_text_that_a_worker_samples_is_kept),
        TEST(a_killed_rank_starts_the_job_again_from_its_checkpoint),
        TEST(a_killed_rank_is_noticed_without_its_launcher),
        TEST(a_silent_rank_is_given_up),
        TEST(a_rank_that_loses_its_stream_and_stays_away_is_given_up),
        TEST(a_rank_that_hangs_over_a_restart_of_the_daemon_is_given_up),
        TEST(a_permanent_failure_is_not_tried_again),
        TEST(an_attempt_that_ends_before_it_knows_its_step_leaves_the_progress),
        TEST(restarts_end_at_their_limit),
        TEST(pause_and_resume_go_on_from_the_checkpoint),
        TEST(a_pause_that_is_ignored_kills_after_the_grace),
        TEST(cancel_of_a_running_job_asks_its_workers),
        TEST(a_cancel_that_is_ignored_kills_after_the_grace),
        TEST(a_forced_cancel_kills_at_once),
        TEST(ranks_get_their_number_of_threads_and_how_long_these_spin),
        TEST(a_cancel_before_the_ranks_attach_stops_the_launcher),
        TEST(ranks_that_never_attach_are_given_up),
        TEST(a_stopped_shim_is_woken_to_obey),
        TEST(a_restarted_daemon_takes_running_jobs_up_again),
        TEST(an_end_without_a_daemon_is_read_from_the_records),
        TEST(a_lost_shim_costs_no_restart_and_leaves_no_process),
        TEST(a_cancel_is_carried_on_by_the_next_daemon),
        TEST(jobs_wait_for_slots_in_their_order),
        TEST(an_attempt_waits_for_room_on_the_disk),
    };
    can_mount = geteuid() == 0 && support_mounts_apart();
    rpc_warm_up();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
