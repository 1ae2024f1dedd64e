/* SPDX-License-Identifier: Apache-2.0 */
/* grad-shim with scripted launchers: whatever they do, exit.json comes and no process is left. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "daemon/files.h"
#include "daemon/process.h"
#include "tests/daemon/support.h"

/* At once: long before a grace of a minute, however busy the machine. */
enum { LIMIT_MS = 60000, AT_ONCE_MS = 5000 };

static pid_t shim_start(const char *script, const char *grace_ms)
{
    const char *arguments[] = {support_program("grad-shim"),
                               "--attempt-dir",
                               fixture_folder(),
                               "--grace-ms",
                               grace_ms,
                               "--",
                               script,
                               fixture_folder(),
                               NULL};
    return support_spawn(arguments);
}

static int shim_wait(pid_t shim, int64_t limit_ms)
{
    int wait_status = -1;
    pid_t ended = 0;
    WAIT_UNTIL(ended == shim || (ended = waitpid(shim, &wait_status, WNOHANG)) == shim, limit_ms)
    return WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : -1;
}

static void assert_record_has(const char *text)
{
    const char *record = support_text(support_path("exit.json"));
    if (strstr(record, text) == NULL) {
        fail_msg("exit.json is %s, without %s", record, text);
    }
}

static void exit_code_and_output_of_the_launcher_are_recorded(void **state)
{
    (void)state;
    const char *script = support_script("launcher", "echo out; echo err >&2; exit 7");

    pid_t shim = shim_start(script, "100");

    assert_int_equal(shim_wait(shim, LIMIT_MS), 0);
    assert_record_has("\"code\": 7, \"signal\": 0");
    assert_record_has("\"killed_strays\": 0, \"stopped\": false");
    assert_string_equal(support_text(support_path("launcher.log")), "out\nerr\n");
}

static void identity_is_written_before_the_launcher_starts(void **state)
{
    (void)state;
    const char *script = support_script("launcher", "cp \"$1/shim.json\" \"$1/seen\"");

    pid_t shim = shim_start(script, "100");
    int code = shim_wait(shim, LIMIT_MS);

    int pid = 0;
    unsigned long long starttime = 0;
    char boot_id[DMN_BOOT_ID_SIZE];
    char seen_boot_id[DMN_BOOT_ID_SIZE] = "";
    assert_int_equal(code, 0);
    assert_int_equal(sscanf(support_text(support_path("seen")),
                            "{\"pid\": %d, \"starttime\": %llu, \"boot_id\": \"%39[^\"]", &pid, &starttime,
                            seen_boot_id),
                     3);
    assert_int_equal(pid, shim);
    assert_true(starttime > 0);
    assert_ok(dmn_boot_id(boot_id));
    assert_string_equal(seen_boot_id, boot_id);
}

static void a_launchers_session_gives_way_to_others(void **state)
{
    (void)state;
    if (!support_exists("/proc/self/autogroup")) {
        skip(); /* a kernel without CONFIG_SCHED_AUTOGROUP: all processes are equal */
    }
    const char *script = support_script("launcher", "cp /proc/self/autogroup \"$1/autogroup\"");

    pid_t shim = shim_start(script, "100");

    assert_int_equal(shim_wait(shim, LIMIT_MS), 0);
    assert_non_null(strstr(support_text(support_path("autogroup")), " nice 5\n"));
}

static void a_launcher_that_cannot_start_is_code_127_with_the_cause(void **state)
{
    (void)state;

    pid_t shim = shim_start("/nowhere/mpirun", "100");

    assert_int_equal(shim_wait(shim, LIMIT_MS), 0);
    assert_record_has("\"code\": 127");
    assert_record_has("starting /nowhere/mpirun: No such file or directory");
}

static void daemonised_strays_are_killed_when_the_launcher_ends(void **state)
{
    (void)state;
    const char *script = support_script(
        "launcher", "setsid sh -c 'trap \"\" TERM HUP; echo $$ >\"$0/stray\"; while :; do sleep 0.1; done' \"$1\" &\n"
                    "while [ ! -s \"$1/stray\" ]; do sleep 0.01; done\nexit 0");

    pid_t shim = shim_start(script, "100");

    assert_int_equal(shim_wait(shim, LIMIT_MS), 0);
    long stray = support_number(support_path("stray"));
    assert_true(stray > 0);
    assert_false(support_is_alive(stray));
    assert_record_has("\"code\": 0");
    assert_null(strstr(support_text(support_path("exit.json")), "\"killed_strays\": 0,"));
}

static void ranks_die_within_a_second_of_a_killed_launcher(void **state)
{
    (void)state;
    const char *script = support_script("launcher", "echo $$ >\"$1/launcher.pid\"\n"
                                                    "for r in 0 1; do setsid sh -c 'trap \"\" TERM; echo $$ >\"$0\"; "
                                                    "sleep 60; sleep 60' \"$1/rank-$r\" & done\nwait");
    pid_t shim = shim_start(script, "60000");
    WAIT_UNTIL(support_number(support_path("rank-0")) > 0 && support_number(support_path("rank-1")) > 0 &&
                   support_number(support_path("launcher.pid")) > 0,
               LIMIT_MS)
    long ranks[2] = {support_number(support_path("rank-0")), support_number(support_path("rank-1"))};

    int64_t start = clock_now_ns();
    assert_int_equal(kill((pid_t)support_number(support_path("launcher.pid")), SIGKILL), 0);

    assert_int_equal(shim_wait(shim, LIMIT_MS), 0);
    int64_t elapsed_ms = (clock_now_ns() - start) / CLOCK_NS_PER_MS;
    assert_true(elapsed_ms < AT_ONCE_MS);
    assert_false(support_is_alive(ranks[0]));
    assert_false(support_is_alive(ranks[1]));
    assert_record_has("\"code\": -1, \"signal\": 9");
}

static void stop_gives_the_grace_and_then_kills(void **state)
{
    (void)state;
    const char *script = support_script(
        "launcher", "trap 'echo term >\"$1/term\"' TERM\necho $$ >\"$1/pid\"\nwhile :; do sleep 0.05; done");
    pid_t shim = shim_start(script, "400");
    WAIT_UNTIL(support_number(support_path("pid")) > 0, LIMIT_MS)

    int64_t start = clock_now_ns();
    assert_int_equal(kill(shim, SIGTERM), 0);

    assert_int_equal(shim_wait(shim, LIMIT_MS), 0);
    int64_t elapsed_ms = (clock_now_ns() - start) / CLOCK_NS_PER_MS;
    assert_true(elapsed_ms >= 400);
    assert_true(support_exists(support_path("term")));
    assert_record_has("\"signal\": 9");
    assert_record_has("\"stopped\": true");
}

static void stop_ends_early_when_all_obey(void **state)
{
    (void)state;
    const char *script = support_script(
        "launcher", "trap 'exit 3' TERM\nsh -c 'echo $$ >\"$0/rank\"; while :; do sleep 0.05; done' \"$1\" &\n"
                    "while [ ! -s \"$1/rank\" ]; do sleep 0.01; done\necho $$ >\"$1/pid\"\nwait");
    pid_t shim = shim_start(script, "60000");
    WAIT_UNTIL(support_number(support_path("pid")) > 0, LIMIT_MS)

    assert_int_equal(kill(shim, SIGTERM), 0);

    assert_int_equal(shim_wait(shim, LIMIT_MS), 0);
    assert_false(support_is_alive(support_number(support_path("rank"))));
    assert_record_has("\"code\": 3");
}

static void kill_now_ends_everything_at_once(void **state)
{
    (void)state;
    const char *script = support_script(
        "launcher", "trap '' TERM\nsetsid sh -c 'trap \"\" TERM; echo $$ >\"$0/rank\"; sleep 60; sleep 60' \"$1\" &\n"
                    "echo $$ >\"$1/pid\"\nwait; sleep 60");
    pid_t shim = shim_start(script, "60000");
    WAIT_UNTIL(support_number(support_path("rank")) > 0 && support_number(support_path("pid")) > 0, LIMIT_MS)

    int64_t start = clock_now_ns();
    assert_int_equal(kill(shim, SIGUSR1), 0);

    assert_int_equal(shim_wait(shim, LIMIT_MS), 0);
    assert_true(clock_now_ns() - start < AT_ONCE_MS * CLOCK_NS_PER_MS);
    assert_false(support_is_alive(support_number(support_path("rank"))));
    assert_false(support_is_alive(support_number(support_path("pid"))));
}

static void a_killed_shim_takes_its_launcher_along(void **state)
{
    (void)state;
    const char *script = support_script("launcher", "echo $$ >\"$1/pid\"\nwhile :; do sleep 0.05; done");
    pid_t shim = shim_start(script, "60000");
    WAIT_UNTIL(support_number(support_path("pid")) > 0, LIMIT_MS)

    assert_int_equal(kill(shim, SIGKILL), 0);
    assert_int_equal(waitpid(shim, NULL, 0), shim);

    WAIT_UNTIL(!support_is_alive(support_number(support_path("pid"))), LIMIT_MS)
    assert_false(support_exists(support_path("exit.json")));
}

static void processes_are_found_by_their_environment(void **state)
{
    (void)state;
    const char *script =
        support_script("stray", "GRADD_TOKEN=test-$$; export GRADD_TOKEN; echo $$ >\"$1/pid.tmp\"; mv \"$1/pid.tmp\" "
                                "\"$1/pid\"; exec sleep 60");
    const char *arguments[] = {script, fixture_folder(), NULL};
    pid_t pid = support_spawn(arguments);
    WAIT_UNTIL(support_number(support_path("pid")) > 0, LIMIT_MS)
    char mark[64];
    (void)snprintf(mark, sizeof(mark), "GRADD_TOKEN=test-%d", (int)pid);

    /* the shell's own environment doesn't have it yet until it is the sleep */
    int n = 0;
    WAIT_UNTIL(dmn_marked_kill(mark, 5000, &n) == ST_OK && n > 0, LIMIT_MS)

    int wait_status = 0;
    assert_int_equal(waitpid(pid, &wait_status, 0), pid);
    assert_true(WIFSIGNALED(wait_status));
    assert_ok(dmn_marked_kill(mark, 1000, &n));
    assert_int_equal(n, 0);
}

static void durable_files_replace_and_errors_name_the_path(void **state)
{
    (void)state;
    char *text = NULL;
    size_t size = 0;

    assert_ok(dmn_file_write_durable(support_path("file"), "one", 3));
    assert_ok(dmn_file_write_durable(support_path("file"), "second", 6));

    assert_ok(dmn_file_read(support_path("file"), 100, &text, &size));
    assert_int_equal(size, 6);
    mem_free(text);
    assert_fails(dmn_file_read(support_path("file"), 5, &text, &size), ST_ERR_RANGE, "6 bytes, at most 5");
    assert_fails(dmn_file_read(support_path("none"), 5, &text, &size), ST_ERR_NOT_FOUND, "/none: No such file");
    assert_fails(dmn_file_write_durable("/nowhere/file", "x", 1), ST_ERR_NOT_FOUND, "/nowhere/file");
    assert_ok(dmn_folder_make(support_path("a/b/c"), 0700));
    assert_ok(dmn_folder_make(support_path("a/b/c"), 0700));
    assert_fails(dmn_folder_make(support_path("file/b"), 0700), ST_ERR_IO, "file");
    assert_ok(dmn_tree_remove(support_path("a")));
    assert_ok(dmn_tree_remove(support_path("a")));
    assert_false(support_exists(support_path("a")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(exit_code_and_output_of_the_launcher_are_recorded),
        TEST(identity_is_written_before_the_launcher_starts),
        TEST(a_launchers_session_gives_way_to_others),
        TEST(a_launcher_that_cannot_start_is_code_127_with_the_cause),
        TEST(daemonised_strays_are_killed_when_the_launcher_ends),
        TEST(ranks_die_within_a_second_of_a_killed_launcher),
        TEST(stop_gives_the_grace_and_then_kills),
        TEST(stop_ends_early_when_all_obey),
        TEST(kill_now_ends_everything_at_once),
        TEST(a_killed_shim_takes_its_launcher_along),
        TEST(processes_are_found_by_their_environment),
        TEST(durable_files_replace_and_errors_name_the_path),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
