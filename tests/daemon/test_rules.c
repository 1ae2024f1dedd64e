/* SPDX-License-Identifier: Apache-2.0 */
/* The pure parts: the table of transitions, what an attempt's end means, the queue, addresses. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "daemon/daemon_internal.h"
#include "daemon/jobs.h"
#include "daemon/scheduler.h"
#include "tests/daemon/support.h"

static void final_states_are_left_by_a_resume_only(void **state)
{
    (void)state;
    for (int to = 0; to < DMN_STATE_COUNT; to++) {
        assert_false(dmn_state_can_become(DMN_STATE_SUCCEEDED, (dmn_state_t)to));
        assert_int_equal(dmn_state_can_become(DMN_STATE_FAILED, (dmn_state_t)to), to == DMN_STATE_QUEUED);
        assert_int_equal(dmn_state_can_become(DMN_STATE_CANCELLED, (dmn_state_t)to), to == DMN_STATE_QUEUED);
    }
}

static void every_state_has_a_name_and_can_be_reached_and_left(void **state)
{
    (void)state;
    for (int s = DMN_STATE_QUEUED; s < DMN_STATE_COUNT; s++) {
        bool is_reached = false;
        bool is_left = false;
        for (int other = 0; other < DMN_STATE_COUNT; other++) {
            is_reached = is_reached || dmn_state_can_become((dmn_state_t)other, (dmn_state_t)s);
            is_left = is_left || dmn_state_can_become((dmn_state_t)s, (dmn_state_t)other);
        }
        assert_true(is_reached);
        assert_true(is_left || s == DMN_STATE_SUCCEEDED);
        assert_true(strlen(dmn_state_name((dmn_state_t)s)) > 3);
    }
    assert_string_equal(dmn_state_name((dmn_state_t)99), "?");
    assert_false(dmn_state_can_become((dmn_state_t)99, DMN_STATE_QUEUED));
}

static void a_job_changes_by_the_table_with_one_event_each(void **state)
{
    (void)state;
    dmn_store_t *store = NULL;
    uint8_t spec[] = "spec";
    char name[] = "n";
    char empty[] = "";
    assert_ok(dmn_store_open(support_path("db"), &store));
    dmn_job_t job = {.id = dmn_store_id_reserve(store),
                     .name = name,
                     .user = empty,
                     .yaml = empty,
                     .spec = spec,
                     .spec_size = 4,
                     .workers = 1,
                     .slots = 1,
                     .state = DMN_STATE_QUEUED,
                     .reason = empty};
    assert_ok(dmn_store_job_add(store, &job));
    dmn_job_t row = {0};
    assert_ok(dmn_store_job_get(store, job.id, DMN_JOB_ROW, &row));

    assert_fails(dmn_job_change(store, &row, DMN_STATE_RUNNING, "x"), ST_ERR_STATE,
                 "job 1 is QUEUED and cannot become RUNNING");
    assert_ok(dmn_job_change(store, &row, DMN_STATE_STARTING, "one"));
    assert_ok(dmn_job_change(store, &row, DMN_STATE_STARTING, "a note"));
    assert_ok(dmn_job_change(store, &row, DMN_STATE_FAILED, "two"));
    assert_fails(dmn_job_change(store, &row, DMN_STATE_RUNNING, "x"), ST_ERR_STATE, "is FAILED");
    /* cut between two characters, or no client could read the job any more */
    char text[DMN_MAX_REASON + 8];
    memset(text, 'x', sizeof(text));
    memcpy(text + DMN_MAX_REASON - 1, "\u00d7", sizeof("\u00d7"));
    assert_ok(dmn_job_change(store, &row, DMN_STATE_FAILED, text));

    dmn_event_t *events = NULL;
    int n = 0;
    assert_ok(dmn_store_events_get(store, job.id, 0, 100, &events, &n));
    assert_int_equal(n, 5);
    assert_int_equal(strlen(events[4].reason), DMN_MAX_REASON - 1);
    assert_int_equal(events[2].state, DMN_STATE_STARTING);
    assert_string_equal(events[2].reason, "a note");
    assert_int_equal(events[3].number, 4);
    assert_string_equal(row.reason, "two");
    assert_true(row.finished_ns > 0);
    dmn_events_release(events, n);
    dmn_job_release(&row);
    dmn_store_close(store);
}

typedef struct end_case {
    dmn_state_t before;
    dmn_outcome_t outcome;
    bool is_permanent, has_exit;
    int code;
    int charged;
    dmn_state_t after;
    bool is_charged;
    const char *reason;
} end_case_t;

static void the_end_of_an_attempt_is_judged(void **state)
{
    (void)state;
    static const end_case_t cases[] = {
        {DMN_STATE_RUNNING, DMN_OUTCOME_SUCCEEDED, false, true, 0, 0, DMN_STATE_SUCCEEDED, false, "finished at step 9"},
        {DMN_STATE_RUNNING, DMN_OUTCOME_SUCCEEDED, false, false, 0, 0, DMN_STATE_SUCCEEDED, false, "finished"},
        {DMN_STATE_CANCELLING, DMN_OUTCOME_SUCCEEDED, false, true, 0, 0, DMN_STATE_SUCCEEDED, false, "finished"},
        {DMN_STATE_CANCELLING, DMN_OUTCOME_NONE, false, true, 137, 0, DMN_STATE_CANCELLED, false, "by the user"},
        {DMN_STATE_CANCELLING, DMN_OUTCOME_FAILED, true, true, 5, 0, DMN_STATE_CANCELLED, false, "by the user"},
        {DMN_STATE_PAUSING, DMN_OUTCOME_PAUSED, false, true, 0, 0, DMN_STATE_PAUSED, false, "paused at step 9"},
        {DMN_STATE_PAUSING, DMN_OUTCOME_NONE, false, true, 139, 9, DMN_STATE_PAUSED, false, "signal 11"},
        {DMN_STATE_PAUSING, DMN_OUTCOME_FAILED, true, true, 5, 0, DMN_STATE_FAILED, false, "the word"},
        {DMN_STATE_RUNNING, DMN_OUTCOME_FAILED, true, true, 5, 0, DMN_STATE_FAILED, false, "the word"},
        {DMN_STATE_RUNNING, DMN_OUTCOME_FAILED, false, true, 5, 0, DMN_STATE_RESTARTING, true,
         "the word; starts again"},
        {DMN_STATE_RUNNING, DMN_OUTCOME_NONE, false, true, 139, 2, DMN_STATE_RESTARTING, true, "step 5"},
        {DMN_STATE_RUNNING, DMN_OUTCOME_NONE, false, true, 139, 3, DMN_STATE_FAILED, false, "restarted 3 times"},
        {DMN_STATE_RUNNING, DMN_OUTCOME_NONE, false, false, 0, 3, DMN_STATE_RESTARTING, false, "were lost"},
        {DMN_STATE_STARTING, DMN_OUTCOME_NONE, false, true, 1, 0, DMN_STATE_RESTARTING, true, "code 1 and no word"},
        {DMN_STATE_RUNNING, DMN_OUTCOME_PAUSED, false, true, 0, 0, DMN_STATE_RESTARTING, true, "starts again"},
        {DMN_STATE_RUNNING, DMN_OUTCOME_CANCELLED, false, true, 0, 0, DMN_STATE_RESTARTING, true, "starts again"},
    };
    char word[] = "the word";
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        dmn_goodbye_t goodbye = {.outcome = cases[i].outcome,
                                 .message = cases[i].outcome == DMN_OUTCOME_FAILED ? word : NULL,
                                 .is_permanent = cases[i].is_permanent,
                                 .step = 9};
        dmn_ending_t ending = {.state = cases[i].before,
                               .has_exit = cases[i].has_exit,
                               .code = cases[i].code,
                               .goodbye = &goodbye,
                               .charged = cases[i].charged,
                               .max_restarts = 3,
                               .checkpoint_step = 5};
        strbuf_t reason = {0};

        dmn_verdict_t verdict = dmn_job_decide(&ending, &reason);

        if (verdict.state != cases[i].after || verdict.is_charged != cases[i].is_charged ||
            strstr(strbuf_text(&reason), cases[i].reason) == NULL) {
            fail_msg("case %zu: %s, charged %d, \"%s\"", i, dmn_state_name(verdict.state), verdict.is_charged,
                     strbuf_text(&reason));
        }
        assert_true(dmn_state_can_become(cases[i].before, verdict.state));
        strbuf_release(&reason);
    }
}

static void a_launcher_that_cannot_start_fails_at_once(void **state)
{
    (void)state;
    dmn_goodbye_t goodbye = {.outcome = DMN_OUTCOME_NONE};
    dmn_ending_t ending = {.state = DMN_STATE_STARTING,
                           .has_exit = true,
                           .code = 127,
                           .goodbye = &goodbye,
                           .error = "starting mpirun: No such file or directory",
                           .max_restarts = 3,
                           .checkpoint_step = -1};
    strbuf_t reason = {0};

    assert_int_equal(dmn_job_decide(&ending, &reason).state, DMN_STATE_FAILED);

    assert_string_equal(strbuf_text(&reason), "starting mpirun: No such file or directory");
    strbuf_release(&reason);
}

static void backoff_doubles_up_to_five_minutes(void **state)
{
    (void)state;
    assert_int_equal(dmn_job_backoff_ms(1000, 0), 1000);
    assert_int_equal(dmn_job_backoff_ms(1000, 3), 8000);
    assert_int_equal(dmn_job_backoff_ms(1000, 1000), 300000);
    assert_int_equal(dmn_job_backoff_ms(0, 5), 0);
}

static void the_queue_is_first_in_first_out(void **state)
{
    (void)state;
    dmn_scheduler_t scheduler;
    int64_t id = 0;
    dmn_scheduler_init(&scheduler, 4);
    assert_ok(dmn_scheduler_enqueue(&scheduler, 3, 300, 1));
    assert_ok(dmn_scheduler_enqueue(&scheduler, 1, 100, 3));
    assert_ok(dmn_scheduler_enqueue(&scheduler, 2, 200, 4));

    assert_true(dmn_scheduler_next(&scheduler, &id));
    assert_int_equal(id, 1);
    dmn_scheduler_take(&scheduler, 3);
    assert_true(dmn_scheduler_remove(&scheduler, 1));

    /* job 3 would fit, but it is not its turn */
    assert_false(dmn_scheduler_next(&scheduler, &id));
    strbuf_t text = {0};
    dmn_scheduler_explain(&scheduler, 2, &text);
    assert_string_equal(strbuf_text(&text), "waits for 4 slots: 1 of 4 free");
    strbuf_clear(&text);
    dmn_scheduler_explain(&scheduler, 3, &text);
    assert_string_equal(strbuf_text(&text), "waits behind 1 job; job 2 is next and waits for 4 slots: 1 of 4 free");
    strbuf_clear(&text);
    dmn_scheduler_explain(&scheduler, 1, &text);
    assert_string_equal(strbuf_text(&text), "");
    dmn_scheduler_give(&scheduler, 3);
    assert_true(dmn_scheduler_next(&scheduler, &id));
    assert_int_equal(id, 2);
    assert_false(dmn_scheduler_remove(&scheduler, 77));
    strbuf_release(&text);
    dmn_scheduler_release(&scheduler);
}

static void a_job_of_a_bigger_daemon_holds_nobody_up(void **state)
{
    (void)state;
    dmn_scheduler_t scheduler;
    int64_t id = 0;
    strbuf_t text = {0};
    dmn_scheduler_init(&scheduler, 2);
    assert_ok(dmn_scheduler_enqueue(&scheduler, 1, 100, 4));
    assert_ok(dmn_scheduler_enqueue(&scheduler, 2, 200, 2));

    assert_true(dmn_scheduler_next(&scheduler, &id));
    assert_int_equal(id, 2);
    dmn_scheduler_explain(&scheduler, 1, &text);
    assert_string_equal(strbuf_text(&text), "needs 4 slots; this daemon has 2 (start gradd with --slots 4)");
    strbuf_clear(&text);
    dmn_scheduler_explain(&scheduler, 2, &text);
    assert_string_equal(strbuf_text(&text), "waits for 2 slots: 2 of 2 free");

    strbuf_release(&text);
    dmn_scheduler_release(&scheduler);
}

static void what_can_never_fit_is_refused_with_its_sum(void **state)
{
    (void)state;
    dmn_scheduler_t scheduler;
    dmn_scheduler_init(&scheduler, 2);

    assert_ok(dmn_scheduler_check(&scheduler, 2, 2));
    assert_fails(dmn_scheduler_check(&scheduler, 4, 4), ST_ERR_INVAL,
                 "needs 4 slots (4 workers × 1 thread); this daemon has 2");
    assert_fails(dmn_scheduler_check(&scheduler, 1, 3), ST_ERR_INVAL,
                 "needs 3 slots (1 worker × 3 threads); this daemon has 2");
    dmn_scheduler_release(&scheduler);
}

static void addresses_beyond_this_machine_are_refused(void **state)
{
    (void)state;
    static const char *const good[] = {"unix:/run/gradd.sock", "127.0.0.1:0", "127.3.2.1:7433", "localhost:1",
                                       "[::1]:7433"};
    static const char *const open[] = {"0.0.0.0:7433", "[::]:7433", "10.0.0.1:1", "127.example.org:80",
                                       "localhost.example.org:80"};
    static const char *const bad[] = {"", "unix:", "host", "host:", ":80", "host:http", "host:99999", "host:-1"};
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        assert_ok(dmn_listen_check(good[i], false));
    }
    for (size_t i = 0; i < sizeof(open) / sizeof(open[0]); i++) {
        assert_fails(dmn_listen_check(open[i], false), ST_ERR_PERMISSION, "can be reached from other machines");
        assert_ok(dmn_listen_check(open[i], true));
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_fails(dmn_listen_check(bad[i], true), ST_ERR_INVAL, bad[i]);
    }
}

static void a_device_that_no_worker_has_is_refused_at_submit(void **state)
{
    (void)state;
    Gradd__V1__Resources resources = GRADD__V1__RESOURCES__INIT;
    spec_job_t job = GRADD__V1__JOB_SPEC__INIT;
    dmn_daemon_t daemon = {.program_folder = (char *)(uintptr_t)fixture_folder()};
    char path[300];
    job.resources = &resources;
    resources.device = GRADD__V1__RESOURCES__DEVICE__cuda;
    (void)snprintf(path, sizeof(path), "%s/grad-worker", fixture_folder());
    static const char *const probes[] = {
        "#!/bin/sh\necho '{\"devices\": [{\"kind\": \"cpu\", \"index\": 0}]}'\n",
        "#!/bin/sh\necho '{\"devices\": [{\"kind\": \"cpu\"}, {\"kind\": \"cuda\"}]}'\n",
        "#!/bin/sh\nexit 1\n", /* says nothing: the workers will */
    };
    for (int i = 0; i < 3; i++) {
        FILE *file = fopen(path, "w");
        assert_non_null(file);
        assert_true(fputs(probes[i], file) >= 0);
        assert_int_equal(fclose(file), 0);
        assert_int_equal(chmod(path, 0700), 0);
        if (i == 0) {
            assert_fails(dmn_device_check(&daemon, &job), ST_ERR_UNSUPPORTED,
                         "resources.device: cuda: grad-worker here finds no such device; it has: cpu");
        } else {
            assert_ok(dmn_device_check(&daemon, &job));
        }
    }
    resources.device = GRADD__V1__RESOURCES__DEVICE__cpu;
    assert_ok(dmn_device_check(&daemon, &job));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(final_states_are_left_by_a_resume_only),
        TEST(every_state_has_a_name_and_can_be_reached_and_left),
        TEST(a_job_changes_by_the_table_with_one_event_each),
        TEST(the_end_of_an_attempt_is_judged),
        TEST(a_launcher_that_cannot_start_fails_at_once),
        TEST(backoff_doubles_up_to_five_minutes),
        TEST(the_queue_is_first_in_first_out),
        TEST(a_job_of_a_bigger_daemon_holds_nobody_up),
        TEST(what_can_never_fit_is_refused_with_its_sum),
        TEST(a_device_that_no_worker_has_is_refused_at_submit),
        TEST(addresses_beyond_this_machine_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
