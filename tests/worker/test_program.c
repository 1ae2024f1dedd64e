/* SPDX-License-Identifier: Apache-2.0 */
/* grad-worker as the shim starts it: two ranks under mpirun, against a scripted daemon. */
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"
#include "tests/worker/scripted_daemon.h"
#include "tests/worker/session_runs.h"
#include "worker/files.h"

/* Starts `mpirun -n 2 grad-worker` with an attempt's environment. */
static pid_t ranks_start(const char *attempt)
{
    char program[512];
    char logs[256];
    const char *bin = getenv("GRADD_BIN");
    (void)snprintf(program, sizeof(program), "%s/grad-worker", bin != NULL ? bin : ".");
    (void)snprintf(logs, sizeof(logs), "%s/logs", fixture_folder());
    assert_ok(wrk_folder_make(logs));
    char path[300];
    pid_t pid = 0;
    posix_spawn_file_actions_t actions;
    char *const arguments[] = {"mpirun", "--oversubscribe", "--bind-to", "none", "-n", "2", program, NULL};
    (void)setenv("GRADD_ADDRESS", the_daemon.address, 1);
    (void)setenv("GRADD_JOB", "7", 1);
    (void)setenv("GRADD_ATTEMPT", attempt, 1);
    (void)setenv("GRADD_TOKEN", "secret", 1);
    (void)setenv("GRADD_LOG_DIR", logs, 1);
    /* Open MPI unloads its plugins before leaks are looked for: what they leak has no name to be suppressed by */
    (void)setenv("ASAN_OPTIONS", "detect_leaks=0", 1);
    /* its plugins aren't instrumented either; our own threads are looked at in test_attach and test_session */
    (void)setenv("TSAN_OPTIONS", "report_bugs=0", 1);
    (void)setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 1);
    (void)setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 1);
    (void)snprintf(path, sizeof(path), "%s/mpirun.log", logs);
    (void)posix_spawn_file_actions_init(&actions);
    (void)posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    (void)posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, path, O_WRONLY | O_CREAT | O_APPEND, 0666);
    (void)posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO);
    assert_int_equal(posix_spawnp(&pid, "mpirun", &actions, NULL, arguments, environ), 0);
    (void)posix_spawn_file_actions_destroy(&actions);
    return pid;
}

/* Waits for mpirun's end; its exit code, 128 + signal, or -1 after WAIT_MS, when it is killed. */
static int ranks_wait(pid_t pid)
{
    int status = 0;
    int64_t deadline_ns = clock_now_ns() + WAIT_MS * CLOCK_NS_PER_MS;
    while (waitpid(pid, &status, WNOHANG) == 0) {
        if (clock_now_ns() > deadline_ns) {
            (void)kill(pid, SIGKILL);
            (void)waitpid(pid, &status, 0);
            return -1;
        }
        clock_sleep_ms(5);
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static char *log_read(int rank)
{
    char path[300];
    char *text = NULL;
    (void)snprintf(path, sizeof(path), "%s/logs/rank-%d.log", fixture_folder(), rank);
    assert_ok(wrk_file_read(path, 1 << 20, &text, NULL));
    return text;
}

static void program_prepare(const spec_job_t *job)
{
    char directory[128];
    (void)snprintf(directory, sizeof(directory), "%s/job", fixture_folder());
    daemon_start(job, directory);
}

static bool has_mpirun(void)
{
    return system("command -v mpirun >/dev/null 2>&1") == 0;
}

static void two_processes_train_to_the_bits_of_one_thread(void **state)
{
    (void)state;
    if (!has_mpirun()) {
        FIXTURE_SKIP("no mpirun");
    }
    static run_t run;
    spec_job_t *job = run_job(MODEL_MLP, 4, NULL);
    memset(&run, 0, sizeof(run));
    run_ok(job, 1, &run);
    run_folder_clear();
    program_prepare(job);
    int64_t started_ns = clock_now_ns();

    int code = ranks_wait(ranks_start("2"));
    daemon_pause();

    char *log = log_read(0);
    if (code != 0) {
        print_message("%s\n", log);
    }
    assert_int_equal(code, 0);
    assert_int_equal(the_daemon.n_goodbyes, 1);
    assert_int_equal(the_daemon.goodbye_outcome, GRADD__V1__GOODBYE__OUTCOME__SUCCEEDED);
    assert_int_equal(the_daemon.goodbye_step, 12);
    assert_string_equal(the_daemon.parameters_sha256, run.result.parameters_sha256);
    assert_int_equal(the_daemon.n_hellos, 2);
    for (int step = 1; step <= 12; step++) {
        assert_true(the_daemon.n_stored[step] > 0);
    }
    assert_non_null(strstr(log, "parameters in 4 tensors"));
    assert_non_null(strstr(log, "on 2 ranks (mpi)"));
    assert_non_null(strstr(log, run.result.parameters_sha256));
    print_message("start of mpirun to the first step told: %.0f ms\n",
                  (double)(the_daemon.first_step_ns - started_ns) * 1e-6);
    mem_free(log);
    daemon_stop();
    spec_job_free(job);
}

static void a_job_that_cannot_succeed_exits_with_2_and_says_why(void **state)
{
    (void)state;
    if (!has_mpirun()) {
        FIXTURE_SKIP("no mpirun");
    }
    spec_job_t *job = run_job("[flatten, {linear: {out: 3}}]", 2, NULL);
    char *text = NULL;
    program_prepare(job);

    int code = ranks_wait(ranks_start("2"));
    daemon_pause();

    assert_int_equal(code, 2);
    assert_int_equal(the_daemon.n_goodbyes, 1);
    assert_int_equal(the_daemon.goodbye_outcome, GRADD__V1__GOODBYE__OUTCOME__FAILED);
    assert_true(the_daemon.is_permanent);
    assert_non_null(strstr(the_daemon.goodbye_message, "train-labels"));
    assert_ok(wrk_file_read(run_path("attempts/2/goodbye.json"), 4096, &text, NULL));
    assert_non_null(strstr(text, "\"outcome\": \"failed\""));
    mem_free(text);
    text = log_read(1);
    assert_non_null(strstr(text, "step 0: bad data: "));
    mem_free(text);
    daemon_stop();
    spec_job_free(job);
}

static void a_stale_attempt_exits_with_3(void **state)
{
    (void)state;
    if (!has_mpirun()) {
        FIXTURE_SKIP("no mpirun");
    }
    spec_job_t *job = run_job(MODEL_MLP, 2, NULL);
    program_prepare(job);
    DAEMON_SET(the_daemon.refuse = "attempt 2 is stale");

    int code = ranks_wait(ranks_start("2"));
    daemon_pause();

    char *log = log_read(0);
    assert_int_equal(code, 3);
    assert_non_null(strstr(log, "refused by the daemon: attempt 2 is stale"));
    mem_free(log);
    daemon_stop();
    spec_job_free(job);
}

static void a_pause_reaches_all_ranks_and_is_no_failure(void **state)
{
    (void)state;
    if (!has_mpirun()) {
        FIXTURE_SKIP("no mpirun");
    }
    const char *const set[] = {"training.steps=100000", "checkpoint.every=100000", "evaluation.every=100000",
                               "training.log_every=100", NULL};
    spec_job_t *job = run_job(MODEL_MLP, 2, set);
    program_prepare(job);
    DAEMON_SET(the_daemon.command = GRADD__V1__COMMAND__KIND__PAUSE);

    int code = ranks_wait(ranks_start("2"));
    daemon_pause();

    assert_int_equal(code, 0);
    assert_int_equal(the_daemon.goodbye_outcome, GRADD__V1__GOODBYE__OUTCOME__PAUSED);
    assert_true(the_daemon.goodbye_step > 0 && the_daemon.goodbye_step < 100000);
    char name[64];
    (void)snprintf(name, sizeof(name), "checkpoints/step-%08lld/manifest.json", (long long)the_daemon.goodbye_step);
    assert_int_equal(access(run_path(name), F_OK), 0);
    daemon_stop();
    spec_job_free(job);
}

static void no_rank_outlives_its_launcher(void **state)
{
    (void)state;
    if (!has_mpirun()) {
        FIXTURE_SKIP("no mpirun");
    }
    const char *const set[] = {"training.steps=10000000", "checkpoint.every=10000000", "evaluation.every=10000000",
                               "training.log_every=100", NULL};
    spec_job_t *job = run_job(MODEL_MLP, 2, set);
    program_prepare(job);
    pid_t pid = ranks_start("2");
    WAIT_FOR(the_daemon.first_step_ns > 0 && the_daemon.pid[1] > 0);
    daemon_pause();

    (void)kill(pid, SIGKILL);
    assert_int_equal(ranks_wait(pid), 128 + SIGKILL);

    /* orphans come to this process, their subreaper */
    int64_t deadline_ns = clock_now_ns() + 5 * CLOCK_NS_PER_S;
    for (int r = 0; r < 2; r++) {
        pid_t ended = 0;
        while (ended == 0 && clock_now_ns() < deadline_ns) {
            ended = waitpid((pid_t)the_daemon.pid[r], NULL, WNOHANG);
            clock_sleep_ms(5);
        }
        assert_int_equal(ended, the_daemon.pid[r]);
    }
    daemon_stop();
    spec_job_free(job);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(two_processes_train_to_the_bits_of_one_thread),
        TEST(a_job_that_cannot_succeed_exits_with_2_and_says_why),
        TEST(a_stale_attempt_exits_with_3),
        TEST(a_pause_reaches_all_ranks_and_is_no_failure),
        TEST(no_rank_outlives_its_launcher),
    };
    (void)prctl(PR_SET_CHILD_SUBREAPER, 1);
    rpc_warm_up();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
