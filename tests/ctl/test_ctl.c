/* SPDX-License-Identifier: Apache-2.0 */
/* gradctl: exact outputs and exit codes, against a fake service. */
#include <jansson.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "tests/ctl/fake.h"
#include "tests/support/fixture.h"

static run_t run; /* large */

static int setup(void **state)
{
    int result = fixture_setup(state);
    memset(&fake, 0, sizeof(fake));
    fake_start();
    return result;
}

static int teardown(void **state)
{
    if (fake.server != NULL) {
        fake_stop();
    }
    return fixture_teardown(state);
}

#define CTL_TEST(function_x) cmocka_unit_test_setup_teardown(function_x, setup, teardown)

static void watchers_wait(int n)
{
    int64_t deadline = clock_now_ns() + 20 * CLOCK_NS_PER_S;
    while (atomic_load(&fake.n_watchers) < n) {
        assert_true(clock_now_ns() < deadline);
        clock_sleep_ms(2);
    }
}

/* The interesting part of two texts that should be equal. */
static void assert_text(const char *actual, const char *expected)
{
    if (strcmp(actual, expected) != 0) {
        print_error("stderr: %s\n", run.err);
    }
    assert_string_equal(actual, expected);
}

/* ---- submit, validate ---- */

static void submit_prints_the_id_alone(void **state)
{
    (void)state;
    const char *path = fixture_write_text("job.yaml", "name: tiny\n");

    RUN(&run, "submit", path);

    assert_text(run.out, "7\n");
    assert_text(run.err, "warning: evaluation.every is larger than training.steps\n");
    assert_int_equal(run.code, 0);
}

static void submit_sends_folder_overrides_and_named_environment(void **state)
{
    (void)state;
    (void)fixture_write_text("model.yaml", "width: ${MODEL_DATA}\n");
    const char *path = fixture_write_text(
        "job.yaml", "path: ${GRADD_TEST_DATA}/x ${NOT_SET} ${4 * width}\nmodel: {file: model.yaml, with: {}}\n");

    RUN(&run, "submit", "--set", "training.steps=5", path, "--set=seed=1", "--name", "other");

    assert_int_equal(run.code, 0);
    const struct passwd *user = getpwuid(getuid());
    char expected[2048];
    (void)snprintf(expected, sizeof(expected),
                   "path: ${GRADD_TEST_DATA}/x ${NOT_SET} ${4 * width}\nmodel: {file: model.yaml, with: {}}\n|%s|%s|"
                   "training.steps=5;seed=1;name=other;|GRADD_TEST_DATA=/data;MODEL_DATA=/models;|%s",
                   path, fixture_folder(), user != NULL ? user->pw_name : "0");
    assert_string_equal(fake.submission, expected);
}

static void submit_reads_stdin(void **state)
{
    (void)state;
    char here[256], expected[512];
    const struct passwd *user = getpwuid(getuid());
    assert_non_null(getcwd(here, sizeof(here)));

    RUN(&run, "submit", "-"); /* stdin is empty */

    (void)snprintf(expected, sizeof(expected), "|stdin|%s|||%s", here, user != NULL ? user->pw_name : "0");
    assert_string_equal(fake.submission, expected);
    assert_int_equal(run.code, 0);
}

static void submit_of_an_invalid_job_exits_5_with_the_problems(void **state)
{
    (void)state;
    const char *path = fixture_write_text("job.yaml", "bad: 1\n");
    char expected[1024];

    RUN(&run, "submit", path);

    (void)snprintf(expected, sizeof(expected), "%s:1:1: unknown key \"bad\"\n%s:2:3: out of range\n", path, path);
    assert_text(run.err, expected);
    assert_text(run.out, "");
    assert_int_equal(run.code, 5);
}

static void submit_that_the_daemon_refuses_exits_3(void **state)
{
    (void)state;
    RUN(&run, "submit", fixture_write_text("job.yaml", "huge\n"));

    assert_text(run.err, "gradctl: the job needs 64 slots, this daemon has 2\n");
    assert_int_equal(run.code, 3);
}

static void submit_of_unreadable_files_says_why(void **state)
{
    (void)state;
    char expected[512];
    char *large = calloc(1, 300 * 1024 + 1);
    memset(large, 'a', 300 * 1024);

    RUN(&run, "submit", "/no/such/job.yaml");
    assert_text(run.err, "gradctl: /no/such/job.yaml: No such file or directory\n");
    assert_int_equal(run.code, 5);

    const char *path = fixture_write_text("large.yaml", large);
    free(large);
    RUN(&run, "submit", path);
    (void)snprintf(expected, sizeof(expected), "gradctl: %s: larger than 256 KiB\n", path);
    assert_text(run.err, expected);
    assert_int_equal(run.code, 5);

    RUN(&run, "submit", "/tmp");
    assert_text(run.err, "gradctl: /tmp: Is a directory\n");
    assert_int_equal(run.code, 5);
}

static void validate_lists_problems_with_their_place(void **state)
{
    (void)state;
    const char *path = fixture_write_text("job.yaml", "a: 1\nb: 2\nbad: 1\n");
    char expected[512];

    RUN(&run, "validate", path);
    (void)snprintf(expected, sizeof(expected), "%s:3:5: unknown key \"bad\"\n", path);
    assert_text(run.err, expected);
    assert_text(run.out, "");
    assert_int_equal(run.code, 5);

    RUN(&run, "validate", "-o", "json", path);
    assert_int_equal(run.code, 5);
    json_t *problems = json_loads(run.out, 0, NULL);
    assert_int_equal(json_integer_value(json_object_get(json_array_get(problems, 0), "line")), 3);
    json_decref(problems);
}

static void validate_of_a_good_job_says_so(void **state)
{
    (void)state;
    const char *path = fixture_write_text("job.yaml", "name: tiny\n");
    char expected[512];

    RUN(&run, "validate", path);
    (void)snprintf(expected, sizeof(expected), "%s: valid\n", path);
    assert_text(run.out, expected);
    assert_int_equal(run.code, 0);

    RUN(&run, "validate", "--print", path);
    assert_text(run.out, "name: tiny\nseed: 0\n");
}

/* ---- show, list, info ---- */

static void show_json_holds_the_promised_fields(void **state)
{
    (void)state;
    RUN(&run, "show", "7", "-o", "json");

    assert_int_equal(run.code, 0);
    assert_text(run.out, "{\n"
                         "  \"id\": \"7\",\n"
                         "  \"name\": \"tiny, \\\"quoted\\\"\",\n"
                         "  \"state\": \"SUCCEEDED\",\n"
                         "  \"reason\": null,\n"
                         "  \"attempt\": 1,\n"
                         "  \"restarts\": 0,\n"
                         "  \"step\": 100,\n"
                         "  \"steps_total\": 100,\n"
                         "  \"metrics\": {\n"
                         "    \"loss\": 1.25,\n"
                         "    \"tokens_per_second\": 12345.0,\n"
                         "    \"grad_norm\": null\n"
                         "  },\n"
                         "  \"parameters_sha256\": \"0123456789abcdef\",\n"
                         "  \"fingerprint\": \"cpu avx512\",\n"
                         "  \"checkpoints\": [\n"
                         "    {\n"
                         "      \"step\": 50,\n"
                         "      \"path\": \"/state/jobs/7/checkpoints/step-50\",\n"
                         "      \"parameters_sha256\": \"abcd\",\n"
                         "      \"size_bytes\": 1048576,\n"
                         "      \"time\": \"2026-01-02T03:04:05.678Z\"\n"
                         "    }\n"
                         "  ],\n"
                         "  \"ranks\": [],\n"
                         "  \"user\": \"ada\",\n"
                         "  \"workers\": 2,\n"
                         "  \"slots\": 2,\n"
                         "  \"directory\": null,\n"
                         "  \"submitted\": \"2026-01-02T03:04:05.678Z\",\n"
                         "  \"started\": \"2026-01-02T03:04:06.678Z\",\n"
                         "  \"first_step\": \"2026-01-02T03:04:07.178Z\",\n"
                         "  \"finished\": \"2026-01-02T03:04:18.678Z\",\n"
                         "  \"submit_to_first_step_ms\": 1500,\n"
                         "  \"yaml\": \"name: tiny\\n\",\n"
                         "  \"text\": \"To be\\u001B or not\\n\"\n"
                         "}\n");
}

static void show_of_a_running_job_names_its_ranks(void **state)
{
    (void)state;
    RUN(&run, "show", "9", "-o", "yaml");

    assert_int_equal(run.code, 0);
    assert_text(run.out, "id: \"9\"\n"
                         "name: \"tiny, \\\"quoted\\\"\"\n"
                         "state: RUNNING\n"
                         "reason: null\n"
                         "attempt: 1\n"
                         "restarts: 0\n"
                         "step: 40\n"
                         "steps_total: 100\n"
                         "metrics:\n"
                         "  loss: 1.25\n"
                         "  tokens_per_second: 12345.0\n"
                         "parameters_sha256: null\n"
                         "fingerprint: null\n"
                         "checkpoints: []\n"
                         "ranks:\n"
                         "  - rank: 0\n"
                         "    host: node1\n"
                         "    pid: 4242\n"
                         "user: ada\n"
                         "workers: 2\n"
                         "slots: 2\n"
                         "directory: null\n"
                         "submitted: \"2026-01-02T03:04:05.678Z\"\n"
                         "started: \"2026-01-02T03:04:06.678Z\"\n"
                         "first_step: \"2026-01-02T03:04:07.178Z\"\n"
                         "finished: null\n"
                         "submit_to_first_step_ms: 1500\n"
                         "yaml: null\n"
                         "text: null\n");
}

static void show_as_a_table_is_readable_and_harmless(void **state)
{
    (void)state;
    RUN(&run, "show", "7");

    assert_int_equal(run.code, 0);
    assert_text(run.out, "id           7\n"
                         "name         tiny, \"quoted\"\n"
                         "state        SUCCEEDED\n"
                         "step         100 of 100\n"
                         "attempt      1 (0 restarts)\n"
                         "workers      2 on 2 slots\n"
                         "time         12.0s\n"
                         "user         ada\n"
                         "submitted    2026-01-02T03:04:05.678Z\n"
                         "started      2026-01-02T03:04:06.678Z\n"
                         "finished     2026-01-02T03:04:18.678Z\n"
                         "parameters   0123456789abcdef\n"
                         "fingerprint  cpu avx512\n"
                         "metrics      loss 1.25\n"
                         "             tokens_per_second 12345\n"
                         "             grad_norm nan\n"
                         "checkpoints  step 50  1.0 MiB  /state/jobs/7/checkpoints/step-50\n"
                         "\n"
                         "To be? or not\n\n");
    RUN(&run, "show", "--spec", "7");
    assert_text(run.out, "name: tiny\n");
}

static void unknown_job_exits_3(void **state)
{
    (void)state;
    static const char *const verbs[] = {"show", "watch", "logs", "metrics", "wait", "pause", "resume", "cancel"};
    for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
        RUN(&run, verbs[i], "404");
        assert_text(run.err, "gradctl: no job 404\n");
        assert_int_equal(run.code, 3);
    }
}

static void list_is_a_table_with_one_line_a_job(void **state)
{
    (void)state;
    RUN(&run, "list", "--state", "queued,running");

    assert_int_equal(run.code, 0);
    assert_string_equal(fake.request, "list 100 - 1 3");
    assert_text(run.out, "ID   NAME             STATE    STEP    LOSS  WORKERS  TIME  USER  REASON\n"
                         "250  first, \"quoted\"  QUEUED   0/100         2              ada   waits for 2 slots of 2\n"
                         "249  überlang         RUNNING  12/100        2              ada   \n");
}

static void list_json_is_an_array(void **state)
{
    (void)state;
    RUN(&run, "list", "-o", "json");

    json_t *rows = json_loads(run.out, 0, NULL);
    assert_int_equal(json_array_size(rows), 100);
    assert_string_equal(json_string_value(json_object_get(json_array_get(rows, 99), "id")), "151");
    json_decref(rows);
    RUN(&run, "list", "--all", "-o", "json");
    rows = json_loads(run.out, 0, NULL);
    assert_int_equal(json_array_size(rows), 250);
    json_decref(rows);
    RUN(&run, "list", "--limit", "120", "-o", "json");
    rows = json_loads(run.out, 0, NULL);
    assert_int_equal(json_array_size(rows), 120);
    json_decref(rows);
}

static void list_csv_quotes_what_needs_it(void **state)
{
    (void)state;
    RUN(&run, "list", "--state", "QUEUED", "--limit", "1", "-o", "csv");

    assert_text(
        run.out,
        "id,name,state,reason,attempt,restarts,step,steps_total,metrics,parameters_sha256,fingerprint,checkpoints,"
        "ranks,user,workers,slots,directory,submitted,started,first_step,finished,submit_to_first_step_ms\n"
        "250,\"first, \"\"quoted\"\"\",QUEUED,\"waits for 2 slots\nof 2\",0,0,0,100,{},,,[],[],ada,2,0,,,,,,\n");
}

static void info_names_the_daemon(void **state)
{
    (void)state;
    char expected[512];
    RUN(&run, "info");
    (void)snprintf(expected, sizeof(expected),
                   "address  %s\nversion  9.9.9\nslots    4, 1 in use\nstate    /state\nhost     node0\npid      77\n"
                   "started  2026-01-02T03:04:05.678Z\n",
                   fake.address);
    assert_text(run.out, expected);
    RUN(&run, "info", "-o", "json");
    json_t *object = json_loads(run.out, 0, NULL);
    assert_int_equal(json_integer_value(json_object_get(object, "slots_used")), 1);
    json_decref(object);
}

/* ---- pause, resume, cancel ---- */

static void steering_verbs_send_their_options(void **state)
{
    (void)state;
    RUN(&run, "pause", "9");
    assert_text(run.out, "job 9 RUNNING\n");
    assert_string_equal(fake.request, "pause 9");
    RUN(&run, "resume", "9", "--workers", "4");
    assert_string_equal(fake.request, "resume 9 1 4");
    RUN(&run, "resume", "9");
    assert_string_equal(fake.request, "resume 9 0 0");
    RUN(&run, "cancel", "--force", "9");
    assert_string_equal(fake.request, "cancel 9 1");
    RUN(&run, "cancel", "9", "8");
    assert_text(run.out, "job 9 RUNNING\njob 8 FAILED\n");
    RUN(&run, "pause", "7", "9");
    assert_text(run.err, "gradctl: job 7 is SUCCEEDED: nothing to pause\n");
    assert_text(run.out, "job 9 RUNNING\n");
    assert_int_equal(run.code, 3);
}

/* ---- watch, logs, metrics ---- */

static void watch_prints_each_change_and_ends(void **state)
{
    (void)state;
    RUN(&run, "watch", "7");
    assert_text(run.out, "2026-01-02T03:04:06.678Z  job 7  QUEUED      step 0  waits for 2 slots\n"
                         "2026-01-02T03:04:07.678Z  job 7  RUNNING     step 40\n"
                         "2026-01-02T03:04:08.678Z  job 7  SUCCEEDED   step 100\n");
    assert_int_equal(run.code, 0);
    RUN(&run, "watch", "8", "-o", "json");
    assert_int_equal(run.code, 1);
    assert_non_null(strstr(run.out,
                           "{\"number\":3,\"job\":\"8\",\"time\":\"2026-01-02T03:04:08.678Z\",\"state\":\"FAILED\","
                           "\"reason\":null,\"attempt\":1,\"step\":5}\n"));
}

static void watch_goes_on_after_a_restart_of_the_daemon(void **state)
{
    (void)state;
    run_start(&run, false, (const char *const[]){"watch", "9", NULL});
    run_expect(&run, "RUNNING");

    fake_stop();
    atomic_store(&fake.is_finished, true);
    clock_sleep_ms(300);
    fake_start();

    run_finish(&run);
    assert_text(run.out, "2026-01-02T03:04:06.678Z  job 9  QUEUED      step 0  waits for 2 slots\n"
                         "2026-01-02T03:04:07.678Z  job 9  RUNNING     step 40\n"
                         "2026-01-02T03:04:08.678Z  job 9  SUCCEEDED   step 100\n");
    assert_int_equal(run.code, 0);
}

static void logs_print_bytes_as_they_are(void **state)
{
    (void)state;
    RUN(&run, "logs", "7");
    assert_text(run.out, "line 1\nline 2\nline 3\nline 4\n");
    assert_string_equal(fake.request, "logs 0 0 0");
    RUN(&run, "logs", "7", "--rank", "1", "--offset", "-7");
    assert_text(run.out, "line 4\n");
    assert_string_equal(fake.request, "logs 1 -7 0");
    RUN(&run, "logs", "7", "--rank", "launcher", "--offset", "7");
    assert_text(run.out, "line 2\nline 3\nline 4\n");
    assert_string_equal(fake.request, "logs -1 7 0");
    RUN(&run, "logs", "7", "--tail", "2");
    assert_text(run.out, "line 3\nline 4\n");
    RUN(&run, "logs", "7", "--tail", "99");
    assert_text(run.out, "line 1\nline 2\nline 3\nline 4\n");
    RUN(&run, "logs", "7", "--tail", "1", "-f");
    assert_text(run.out, "line 4\n");
}

static void followed_log_is_whole_after_a_restart(void **state)
{
    (void)state;
    run_start(&run, false, (const char *const[]){"logs", "-f", "9", NULL});
    run_expect(&run, "line 1\nlin");

    fake_stop();
    atomic_store(&fake.is_finished, true);
    fake_start();

    run_finish(&run);
    assert_text(run.out, "line 1\nline 2\nline 3\nline 4\n");
    assert_string_equal(fake.request, "logs 0 10 1");
    assert_int_equal(run.code, 0);
}

static void metrics_are_a_table_of_steps(void **state)
{
    (void)state;
    RUN(&run, "metrics", "7");
    assert_text(run.out, "STEP  loss   validation_loss\n"
                         "10    4      \n"
                         "20    2      41.5\n"
                         "30    1.333  \n"
                         "40    1      41.5\n");
    RUN(&run, "metrics", "7", "--name", "loss", "--from-step", "30", "-o", "csv");
    assert_string_equal(fake.request, "metrics loss 30 0");
    assert_text(run.out, "name,step,value,time\n"
                         "loss,30,1.333333333,2026-01-02T03:04:35.678Z\n"
                         "loss,40,1.0,2026-01-02T03:04:45.678Z\n"
                         "validation_loss,40,41.5,2026-01-02T03:04:45.678Z\n");
}

static void followed_metrics_have_no_gap_and_no_double_after_a_restart(void **state)
{
    (void)state;
    run_start(&run, false, (const char *const[]){"metrics", "-f", "9", NULL});
    run_expect(&run, "step 20  validation_loss 41.5\n");

    fake_stop();
    atomic_store(&fake.is_finished, true);
    fake_start();

    run_finish(&run);
    assert_text(run.out, "step 10  loss 4\nstep 20  loss 2\nstep 20  validation_loss 41.5\nstep 30  loss 1.333\n"
                         "step 40  loss 1\nstep 40  validation_loss 41.5\n");
    assert_string_equal(fake.request, "metrics - 20 1");
}

static void plot_draws_a_curve(void **state)
{
    (void)state;
    RUN(&run, "metrics", "7", "--plot", "--name", "loss");

    assert_int_equal(run.code, 0);
    assert_memory_equal(run.out, "loss\n", 5);
    assert_non_null(strstr(run.out, "       4 ┤"));
    assert_non_null(strstr(run.out, "       1 ┤"));
    assert_non_null(strstr(run.out, "step 10 … 40\n"));
    assert_non_null(strstr(run.out, "⠤")); /* some dots */
    assert_null(strchr(run.out, '\x1b'));
}

/* ---- wait ---- */

static void wait_exits_0_only_when_all_succeeded(void **state)
{
    (void)state;
    RUN(&run, "wait", "7");
    assert_text(run.out, "job 7 SUCCEEDED after 12.0s, step 100, sha256 0123456789abcdef\n");
    assert_int_equal(run.code, 0);
    RUN(&run, "wait", "8", "7");
    assert_text(run.out, "job 8 FAILED after 1m05s, step 5: rank 1 on node1: bad data\n"
                         "job 7 SUCCEEDED after 12.0s, step 100, sha256 0123456789abcdef\n");
    assert_int_equal(run.code, 1);
    RUN(&run, "wait", "404", "7");
    assert_int_equal(run.code, 3);
}

static void wait_gives_up_after_its_timeout(void **state)
{
    (void)state;
    RUN(&run, "wait", "--timeout", "0.3", "9");
    assert_text(run.err, "gradctl: job 9 is still RUNNING: gave up after 0.3 s\n");
    assert_int_equal(run.code, 1);
}

static void wait_survives_a_restart_of_the_daemon(void **state)
{
    (void)state;
    run_start(&run, false, (const char *const[]){"wait", "9", NULL});
    watchers_wait(1);

    fake_stop();
    atomic_store(&fake.is_finished, true);
    clock_sleep_ms(300);
    fake_start();

    run_finish(&run);
    assert_text(run.out, "job 9 SUCCEEDED after 12.0s, step 100, sha256 0123456789abcdef\n");
    assert_int_equal(run.code, 0);
}

static void progress_on_a_pipe_is_plain_lines(void **state)
{
    (void)state;
    run_start(&run, false,
              (const char *const[]){"submit", "--follow", fixture_write_text("job.yaml", "running\n"), NULL});
    run_expect(&run, "tokens/s");
    atomic_store(&fake.is_finished, true);

    run_finish(&run);

    assert_text(run.out, "9\n"
                         "QUEUED: waits for 2 slots\n"
                         "RUNNING at step 40\n"
                         "step 40/100  loss 1.25  12.3k tokens/s\n"
                         "\nTo be? or not\n\n\n"
                         "job 9 SUCCEEDED after 12.0s, step 100, sha256 0123456789abcdef\n");
    assert_int_equal(run.code, 0);
}

static void progress_on_a_terminal_is_a_bar(void **state)
{
    (void)state;
    run_start(&run, true, (const char *const[]){"wait", "--progress", "9", NULL});
    run_expect(&run, "40/100  loss 1.25  12.3k tokens/s");
    atomic_store(&fake.is_finished, true);

    run_finish(&run);

    assert_non_null(strstr(run.out, "█████████▌"));
    assert_non_null(strstr(run.out, "\033[36mRUNNING\033[0m"));
    assert_non_null(strstr(run.out, "job 9 \033[32mSUCCEEDED\033[0m after 12.0s"));
    assert_int_equal(run.code, 0);
}

static void interrupt_detaches_and_the_job_goes_on(void **state)
{
    (void)state;
    run_start(&run, false, (const char *const[]){"wait", "--progress", "9", NULL});
    run_expect(&run, "RUNNING");

    assert_int_equal(kill(run.pid, SIGINT), 0);

    run_finish(&run);
    assert_text(run.err,
                "detached: job 9 goes on (gradctl wait --progress 9 shows it again, gradctl cancel 9 ends it)\n");
    assert_int_equal(run.code, 130);
}

static void progress_goes_on_after_a_restart_of_the_daemon(void **state)
{
    (void)state;
    run_start(&run, false, (const char *const[]){"wait", "--progress", "9", NULL});
    run_expect(&run, "step 40/100");

    fake_stop();
    atomic_store(&fake.step, 60);
    fake_start();

    run_expect(&run, "step 60/100");
    atomic_store(&fake.is_finished, true);
    run_finish(&run);
    assert_int_equal(run.code, 0);
}

static void progress_of_several_jobs_names_each(void **state)
{
    (void)state;
    RUN(&run, "wait", "--progress", "8", "7");

    assert_text(run.out, "job 8:\njob 8 FAILED after 1m05s, step 5: rank 1 on node1: bad data\n"
                         "job 7:\n\nTo be? or not\n\n\n"
                         "job 7 SUCCEEDED after 12.0s, step 100, sha256 0123456789abcdef\n");
    assert_int_equal(run.code, 1);
}

/* ---- usage ---- */

static void wrong_usage_exits_2_and_says_what(void **state)
{
    (void)state;
    static const struct {
        const char *arguments[4];
        const char *text;
    } cases[] = {
        {{"shwo", "7"}, "gradctl: no verb \"shwo\"; did you mean \"show\"?; see gradctl --help\n"},
        {{"show"}, "usage: gradctl show [options] ID\n"},
        {{"show", "7", "8"}, "usage: gradctl show [options] ID\n"},
        {{"show", "--bogus", "7"}, "gradctl show: unknown option --bogus; see gradctl show --help\n"},
        {{"list", "--limit"}, "gradctl list: a value is missing after --limit; see gradctl list --help\n"},
        {{"list", "--limit", "x"}, "gradctl list: bad value of an option: \"x\"\n"},
        {{"list", "-o", "xml"}, "gradctl list: --output is table, json, yaml or csv, not \"xml\"\n"},
        {{"list", "--state", "sleeping"}, "gradctl list: no such state: \"sleeping\"\n"},
        {{"submit", "x", "--set", "nothing"}, "gradctl submit: --set takes KEY=VALUE, not \"nothing\"\n"},
        {{"wait", "--timeout", "-1", "7"}, "gradctl wait: bad value of an option: \"-1\"\n"},
        {{"--address"}, "gradctl: unknown option --address; see gradctl --help\n"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const char *arguments[5] = {cases[i].arguments[0], cases[i].arguments[1], cases[i].arguments[2],
                                    cases[i].arguments[3], NULL};
        run_start(&run, false, arguments);
        run_finish(&run);
        assert_text(run.err, cases[i].text);
        assert_text(run.out, "");
        assert_int_equal(run.code, 2);
    }
}

static void absent_daemon_exits_4_and_is_named(void **state)
{
    (void)state;
    static const char *const verbs[] = {"show", "watch", "logs", "metrics", "wait", "cancel"};
    for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
        RUN(&run, "--address", "unix:/nonexistent/gradd.sock", verbs[i], "7");
        assert_non_null(strstr(run.err, "gradctl: cannot reach the daemon: unix:/nonexistent/gradd.sock: "));
        assert_int_equal(run.code, 4);
    }
    RUN(&run, "show", "--address", "nonsense", "7");
    assert_text(run.err, "gradctl: address \"nonsense\" is neither \"unix:/path\" nor \"host:port\"\n");
    assert_int_equal(run.code, 2);
}

static void daemon_is_found_by_its_usual_sockets(void **state)
{
    (void)state;
    if (access("/run/gradd/gradd.sock", F_OK) == 0 || access("/var/lib/gradd/gradd.sock", F_OK) == 0) {
        FIXTURE_SKIP("a daemon serves this machine");
    }
    fake.is_unnamed = true; /* no GRADD_ADDRESS: XDG_RUNTIME_DIR is the test's folder */
    char expected[512];

    RUN(&run, "list");
    (void)snprintf(
        expected, sizeof(expected),
        "gradctl: no daemon found; looked for %s/gradd.sock /run/gradd/gradd.sock /var/lib/gradd/gradd.sock\n",
        fixture_folder());
    assert_memory_equal(run.err, expected, strlen(expected));
    assert_int_equal(run.code, 4);
    char socket_path[256];
    (void)snprintf(socket_path, sizeof(socket_path), "%s/gradd.sock", fixture_folder());
    assert_int_equal(link(fake.address + 5, socket_path), 0);

    RUN(&run, "pause", "9");
    assert_text(run.out, "job 9 RUNNING\n");
}

static void help_version_and_completion_need_no_daemon(void **state)
{
    (void)state;
    fake_stop();
    RUN(&run, "version");
    assert_text(run.out, "gradctl " GRADD_VERSION "\n");
    RUN(&run, "--help");
    assert_non_null(strstr(run.out, "\n  5    the job file is invalid\n"));
    assert_non_null(strstr(run.out, "unix:$XDG_STATE_HOME/gradd/gradd.sock and unix:/var/lib/gradd/gradd.sock.\n"));
    assert_int_equal(run.code, 0);
    RUN(&run, "help", "logs");
    assert_memory_equal(run.out, "usage: gradctl logs [options] ID\n", 33);
    RUN(&run, "logs", "--help");
    assert_non_null(strstr(run.out, "--rank RANK"));
    RUN(&run, "completion", "bash");
    assert_non_null(strstr(run.out, "complete -o default -F _gradctl gradctl\n"));
    RUN(&run, "completion", "fish");
    assert_int_equal(run.code, 2);
    RUN(&run, "explain", "training.batch");
    assert_memory_equal(run.out, "training.batch: ", 16);
    assert_int_equal(run.code, 0);
    RUN(&run, "explain", "training.bach");
    assert_int_equal(run.code, 3);
    assert_non_null(strstr(run.err, "training.batch"));
    RUN(&run, "schema");
    json_t *schema = json_loads(run.out, 0, NULL);
    assert_non_null(schema);
    json_decref(schema);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CTL_TEST(submit_prints_the_id_alone),
        CTL_TEST(submit_sends_folder_overrides_and_named_environment),
        CTL_TEST(submit_reads_stdin),
        CTL_TEST(submit_of_an_invalid_job_exits_5_with_the_problems),
        CTL_TEST(submit_that_the_daemon_refuses_exits_3),
        CTL_TEST(submit_of_unreadable_files_says_why),
        CTL_TEST(validate_lists_problems_with_their_place),
        CTL_TEST(validate_of_a_good_job_says_so),
        CTL_TEST(show_json_holds_the_promised_fields),
        CTL_TEST(show_of_a_running_job_names_its_ranks),
        CTL_TEST(show_as_a_table_is_readable_and_harmless),
        CTL_TEST(unknown_job_exits_3),
        CTL_TEST(list_is_a_table_with_one_line_a_job),
        CTL_TEST(list_json_is_an_array),
        CTL_TEST(list_csv_quotes_what_needs_it),
        CTL_TEST(info_names_the_daemon),
        CTL_TEST(steering_verbs_send_their_options),
        CTL_TEST(watch_prints_each_change_and_ends),
        CTL_TEST(watch_goes_on_after_a_restart_of_the_daemon),
        CTL_TEST(logs_print_bytes_as_they_are),
        CTL_TEST(followed_log_is_whole_after_a_restart),
        CTL_TEST(metrics_are_a_table_of_steps),
        CTL_TEST(followed_metrics_have_no_gap_and_no_double_after_a_restart),
        CTL_TEST(plot_draws_a_curve),
        CTL_TEST(wait_exits_0_only_when_all_succeeded),
        CTL_TEST(wait_gives_up_after_its_timeout),
        CTL_TEST(wait_survives_a_restart_of_the_daemon),
        CTL_TEST(progress_on_a_pipe_is_plain_lines),
        CTL_TEST(progress_on_a_terminal_is_a_bar),
        CTL_TEST(progress_goes_on_after_a_restart_of_the_daemon),
        CTL_TEST(progress_of_several_jobs_names_each),
        CTL_TEST(interrupt_detaches_and_the_job_goes_on),
        CTL_TEST(wrong_usage_exits_2_and_says_what),
        CTL_TEST(absent_daemon_exits_4_and_is_named),
        CTL_TEST(daemon_is_found_by_its_usual_sockets),
        CTL_TEST(help_version_and_completion_need_no_daemon),
    };
    rpc_warm_up();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
