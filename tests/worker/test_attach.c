/* SPDX-License-Identifier: Apache-2.0 */
/* A rank's connection against a scripted daemon: the job arrives, telemetry is stored once, a restart goes unnoticed,
 * commands come through, refusals and goodbyes are final. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "tests/worker/scripted_daemon.h"
#include "worker/attach.h"

/* A job that only has to arrive. */
static void job_serve(void)
{
    Gradd__V1__Training training = GRADD__V1__TRAINING__INIT;
    spec_job_t job = GRADD__V1__JOB_SPEC__INIT;
    training.has_steps = 1;
    training.steps = 5;
    job.training = &training;
    daemon_start(&job, "/jobs/7");
}

static wrk_attach_t *attach_open(void (*refused)(void *arg, const char *reason), void *arg)
{
    wrk_attach_t *attach = NULL;
    wrk_attach_options_t options = {.address = the_daemon.address,
                                    .job_id = "7",
                                    .token = "secret",
                                    .host = "here",
                                    .attempt = 2,
                                    .batch_ms = 5,
                                    .max_backoff_ms = 100,
                                    .refused = refused,
                                    .arg = arg};
    assert_ok(wrk_attach_open(&options, &attach));
    return attach;
}

static void job_wait(wrk_attach_t *attach)
{
    spec_job_t *job = NULL;
    char *directory = NULL;
    assert_ok(wrk_attach_wait_job(attach, WAIT_MS, &job, &directory));
    assert_string_equal(directory, "/jobs/7");
    assert_int_equal(job->training->steps, 5);
    spec_job_free(job);
    mem_free(directory);
}

static void steps_put(wrk_attach_t *attach, int64_t first, int64_t last)
{
    wrk_events_t events = wrk_attach_events(attach);
    for (int64_t step = first; step <= last; step++) {
        wrk_point_t point = {"loss", step, 1.0, 1};
        events.points(events.arg, &point, 1);
        events.progress(events.arg, step, MAX_STEPS, "training");
    }
}

static void telemetry_arrives_and_the_goodbye_comes_last(void **state)
{
    (void)state;
    job_serve();
    wrk_attach_t *attach = attach_open(NULL, NULL);
    job_wait(attach);
    wrk_goodbye_t goodbye = {WRK_OUTCOME_SUCCEEDED, "", false, 300, "ab"};

    steps_put(attach, 1, 300);
    assert_ok(wrk_attach_goodbye(attach, &goodbye, WAIT_MS));
    daemon_pause();

    for (int step = 1; step <= 300; step++) {
        assert_int_equal(the_daemon.n_stored[step], 1);
    }
    assert_int_equal(the_daemon.last_step, 300);
    assert_int_equal(the_daemon.n_goodbyes, 1);
    assert_int_equal(the_daemon.goodbye_step, 300);
    wrk_attach_close(attach);
    daemon_stop();
}

static void a_daemon_restart_loses_nothing(void **state)
{
    (void)state;
    job_serve();
    wrk_attach_t *attach = attach_open(NULL, NULL);
    job_wait(attach);
    steps_put(attach, 1, 10);
    WAIT_FOR(the_daemon.n_stored[10] > 0);

    daemon_pause();
    steps_put(attach, 11, 20);
    daemon_listen(&the_daemon);
    WAIT_FOR(the_daemon.n_stored[20] > 0);
    daemon_pause();

    assert_true(the_daemon.had_job);
    assert_true(wrk_attach_n_connections(attach) >= 2);
    for (int step = 1; step <= 20; step++) {
        assert_true(the_daemon.n_stored[step] >= 1);
    }
    wrk_attach_close(attach);
    daemon_stop();
}

static void what_was_not_acknowledged_is_sent_again(void **state)
{
    (void)state;
    job_serve();
    DAEMON_SET(the_daemon.is_mute = true);
    wrk_attach_t *attach = attach_open(NULL, NULL);
    job_wait(attach);
    steps_put(attach, 1, 3);
    WAIT_FOR(the_daemon.n_stored[3] == 1);

    daemon_pause();
    DAEMON_SET(the_daemon.is_mute = false);
    daemon_listen(&the_daemon);

    WAIT_FOR(the_daemon.n_stored[1] == 2 && the_daemon.n_stored[2] == 2 && the_daemon.n_stored[3] == 2);
    wrk_attach_close(attach);
    daemon_stop();
}

static void a_goodbye_that_could_not_be_stored_is_said_again(void **state)
{
    (void)state;
    job_serve();
    DAEMON_SET(the_daemon.drops_goodbye = true);
    wrk_attach_t *attach = attach_open(NULL, NULL);
    job_wait(attach);
    wrk_goodbye_t goodbye = {WRK_OUTCOME_FAILED, "label 12 \xFF", true, 3, ""};

    assert_ok(wrk_attach_goodbye(attach, &goodbye, WAIT_MS));
    daemon_pause();

    assert_int_equal(the_daemon.n_goodbyes, 1);
    assert_int_equal(the_daemon.n_hellos, 2);
    assert_string_equal(the_daemon.goodbye_message, "label 12 \xEF\xBF\xBD");
    wrk_attach_close(attach);
    daemon_stop();
}

static void a_goodbye_to_a_daemon_that_is_down_times_out(void **state)
{
    (void)state;
    job_serve();
    wrk_attach_t *attach = attach_open(NULL, NULL);
    job_wait(attach);
    daemon_pause();
    wrk_goodbye_t goodbye = {WRK_OUTCOME_PAUSED, "", false, 3, ""};

    assert_fails(wrk_attach_goodbye(attach, &goodbye, 200), ST_ERR_TIMEOUT, "was not confirmed by the daemon at unix:");

    wrk_attach_close(attach);
    daemon_stop();
}

static void a_command_is_given_once(void **state)
{
    (void)state;
    job_serve();
    DAEMON_SET(the_daemon.command = GRADD__V1__COMMAND__KIND__PAUSE);
    wrk_attach_t *attach = attach_open(NULL, NULL);
    wrk_events_t events = wrk_attach_events(attach);
    job_wait(attach);
    steps_put(attach, 1, 1);
    WAIT_FOR(the_daemon.n_stored[1] == 1);

    wrk_command_t command = WRK_COMMAND_NONE;
    int64_t deadline_ns = clock_now_ns() + WAIT_MS * CLOCK_NS_PER_MS;
    while (command == WRK_COMMAND_NONE && clock_now_ns() < deadline_ns) {
        command = events.take_command(events.arg);
        clock_sleep_ms(1);
    }

    assert_int_equal(command, WRK_COMMAND_PAUSE);
    assert_int_equal(events.take_command(events.arg), WRK_COMMAND_NONE);
    wrk_attach_close(attach);
    daemon_stop();
}

static void refusal_note(void *arg, const char *reason)
{
    (void)snprintf(arg, 64, "%s", reason);
}

static void a_refused_rank_is_told_why_and_does_not_come_back(void **state)
{
    (void)state;
    char reason[64] = "";
    spec_job_t *job = NULL;
    char *directory = NULL;
    job_serve();
    DAEMON_SET(the_daemon.refuse = "attempt 2 is stale: attempt 3 runs");
    wrk_attach_t *attach = attach_open(refusal_note, reason);

    assert_fails(wrk_attach_wait_job(attach, WAIT_MS, &job, &directory), ST_ERR_PERMISSION, "attempt 3 runs");

    wrk_attach_close(attach);
    daemon_pause();
    assert_string_equal(reason, "attempt 2 is stale: attempt 3 runs");
    assert_int_equal(the_daemon.n_hellos, 1);
    daemon_stop();
}

static void without_a_daemon_the_wait_says_where_and_why(void **state)
{
    (void)state;
    spec_job_t *job = NULL;
    char *directory = NULL;
    (void)snprintf(the_daemon.address, sizeof(the_daemon.address), "unix:%s/nobody", fixture_folder());
    wrk_attach_t *attach = attach_open(NULL, NULL);

    assert_fails(wrk_attach_wait_job(attach, 300, &job, &directory), ST_ERR_TIMEOUT, "nobody");

    wrk_attach_close(attach);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(telemetry_arrives_and_the_goodbye_comes_last),      TEST(a_daemon_restart_loses_nothing),
        TEST(what_was_not_acknowledged_is_sent_again),           TEST(a_goodbye_that_could_not_be_stored_is_said_again),
        TEST(a_goodbye_to_a_daemon_that_is_down_times_out),      TEST(a_command_is_given_once),
        TEST(a_refused_rank_is_told_why_and_does_not_come_back), TEST(without_a_daemon_the_wait_says_where_and_why),
    };
    rpc_warm_up();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
