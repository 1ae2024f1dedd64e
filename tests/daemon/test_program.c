/* SPDX-License-Identifier: Apache-2.0 */
/* gradd as a program: arguments, signals, readiness, kill -9. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/daemon/client.h"

extern char **environ;

enum { LIMIT_MS = 120000, MAX_ARGUMENTS = 12 };

#define WAIT_STATE(id_x, state_x) WAIT_UNTIL(client_state(id_x) == GRADD__V1__STATE__##state_x, LIMIT_MS)

/* Starts gradd with these arguments (ends with NULL); its output goes to the files "out" and "err". */
static pid_t gradd_start(const char *const *arguments)
{
    const char *all[MAX_ARGUMENTS] = {support_program("gradd")};
    for (int i = 0; i < MAX_ARGUMENTS - 2 && arguments[i] != NULL; i++) {
        all[i + 1] = arguments[i];
    }
    posix_spawn_file_actions_t actions;
    pid_t pid = -1;
    int flags = O_WRONLY | O_CREAT | O_APPEND;
    assert_int_equal(posix_spawn_file_actions_init(&actions), 0);
    assert_int_equal(posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, support_path("out"), flags, 0600), 0);
    assert_int_equal(posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, support_path("err"), flags, 0600), 0);
    assert_int_equal(posix_spawn(&pid, all[0], &actions, NULL, (char *const *)(uintptr_t)all, environ), 0);
    assert_int_equal(posix_spawn_file_actions_destroy(&actions), 0);
    return pid;
}

static int gradd_wait(pid_t pid)
{
    int wait_status = -1;
    pid_t ended = 0;
    WAIT_UNTIL(ended == pid || (ended = waitpid(pid, &wait_status, WNOHANG)) == pid, LIMIT_MS)
    return WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : -WTERMSIG(wait_status);
}

static void assert_file_has(const char *name, const char *text)
{
    if (strstr(support_text(support_path(name)), text) == NULL) {
        fail_msg("%s is \"%s\", without \"%s\"", name, support_text(support_path(name)), text);
    }
}

/* Serving, with fake workers that follow the plan. */
static pid_t gradd_serve(const char *plan)
{
    char folder[512];
    (void)snprintf(folder, sizeof(folder), "%s", support_path("state"));
    assert_int_equal(setenv("FAKE_PLAN", plan, 1), 0);
    assert_int_equal(setenv("GRADD_LAUNCHER", client_launcher(), 1), 0);
    (void)unlink(support_path("err"));
    const char *arguments[] = {"--state-dir", folder, "--slots", "2", NULL};
    pid_t pid = gradd_start(arguments);
    WAIT_UNTIL(strstr(support_text(support_path("err")), "listening on unix:") != NULL, LIMIT_MS)
    return pid;
}

static void help_and_version_go_to_stdout(void **state)
{
    (void)state;
    const char *help[] = {"--help", NULL};
    const char *version[] = {"--version", NULL};

    assert_int_equal(gradd_wait(gradd_start(help)), 0);
    assert_file_has("out", "usage: gradd [--state-dir DIR]");
    assert_int_equal(gradd_wait(gradd_start(version)), 0);
    assert_file_has("out", "gradd " GRADD_VERSION "\n");
    assert_string_equal(support_text(support_path("err")), "");
}

static void wrong_arguments_are_named(void **state)
{
    (void)state;
    const char *slots[] = {"--slots", "many", NULL};
    const char *extra[] = {"serve", NULL};

    assert_int_equal(gradd_wait(gradd_start(slots)), 2);
    assert_file_has("err", "--slots many: must be a number from 1");
    assert_int_equal(gradd_wait(gradd_start(extra)), 2);
    assert_file_has("err", "unexpected argument serve");
}

static void an_open_address_is_refused(void **state)
{
    (void)state;
    char folder[512];
    (void)snprintf(folder, sizeof(folder), "%s", support_path("state"));
    const char *arguments[] = {"--state-dir", folder, "--listen", "0.0.0.0:0", NULL};

    assert_int_equal(gradd_wait(gradd_start(arguments)), 1);

    assert_file_has("err", "0.0.0.0:0 can be reached from other machines");
    assert_file_has("err", "--insecure-listen");
}

static void loopback_is_served_beside_the_socket(void **state)
{
    (void)state;
    char folder[512];
    (void)snprintf(folder, sizeof(folder), "%s", support_path("state"));
    const char *arguments[] = {"--state-dir", folder, "--listen", "127.0.0.1:0", NULL};

    pid_t pid = gradd_start(arguments);
    WAIT_UNTIL(strstr(support_text(support_path("err")), "listening on 127.0.0.1:") != NULL, LIMIT_MS)
    int port = atoi(strstr(support_text(support_path("err")), "listening on 127.0.0.1:") + 23);

    assert_true(port > 0);
    char address[64];
    rpc_channel_t *channel = NULL;
    ProtobufCMessage *answer = NULL;
    Gradd__V1__InfoRequest request = GRADD__V1__INFO_REQUEST__INIT;
    (void)snprintf(address, sizeof(address), "127.0.0.1:%d", port);
    assert_ok(rpc_channel_open(address, &channel));
    assert_ok(rpc_channel_call(channel, "/gradd.v1.Gradd/GetInfo", &request.base, &gradd__v1__info__descriptor,
                               LIMIT_MS, &answer, NULL));
    client_free(answer);
    rpc_channel_close(channel);
    client_open();
    answer = client_call("GetInfo", &request.base, &gradd__v1__info__descriptor);
    assert_int_equal(((Gradd__V1__Info *)answer)->pid, pid);
    client_free(answer);
    client_close();
    assert_int_equal(kill(pid, SIGINT), 0);
    assert_int_equal(gradd_wait(pid), 0);
}

static void sigterm_leaves_jobs_running_and_the_next_daemon_has_them(void **state)
{
    (void)state;
    pid_t pid = gradd_serve("steps=400 step_ms=10");
    client_open();
    int id = client_submit(2, "");
    WAIT_UNTIL(client_step(id) > 5, LIMIT_MS)
    client_close();

    assert_int_equal(kill(pid, SIGTERM), 0);
    assert_int_equal(gradd_wait(pid), 0);
    pid = gradd_serve("");
    client_open();

    WAIT_STATE(id, SUCCEEDED)
    assert_int_equal(client_attempt(id), 1);
    client_close();
    assert_int_equal(kill(pid, SIGTERM), 0);
    assert_int_equal(gradd_wait(pid), 0);
}

static void kill_9_loses_no_job_and_no_step(void **state)
{
    (void)state;
    enum { ROUNDS = 4 };
    pid_t pid = gradd_serve("steps=300 step_ms=10 every=1000");
    client_open();
    int running = client_submit(1, "");
    int ids[ROUNDS];
    WAIT_UNTIL(client_step(running) > 5, LIMIT_MS)
    for (int i = 0; i < ROUNDS; i++) {
        ids[i] = client_submit(1, "");
        client_close();

        assert_int_equal(kill(pid, SIGKILL), 0);
        assert_int_equal(gradd_wait(pid), -SIGKILL);
        pid = gradd_serve("steps=300 step_ms=10 every=1000");
        client_open();
    }

    WAIT_STATE(running, SUCCEEDED)
    assert_int_equal(client_attempt(running), 1);
    for (int i = 0; i < ROUNDS; i++) {
        WAIT_STATE(ids[i], SUCCEEDED)
    }
    client_close();
    assert_int_equal(kill(pid, SIGTERM), 0);
    assert_int_equal(gradd_wait(pid), 0);
}

static void a_second_gradd_names_the_first(void **state)
{
    (void)state;
    pid_t pid = gradd_serve("");
    char folder[512];
    char text[64];
    (void)snprintf(folder, sizeof(folder), "%s", support_path("state"));
    const char *arguments[] = {"--state-dir", folder, NULL};

    assert_int_equal(gradd_wait(gradd_start(arguments)), 1);

    (void)snprintf(text, sizeof(text), "another gradd (pid %d)", (int)pid);
    assert_file_has("err", text);
    client_open();
    Gradd__V1__InfoRequest request = GRADD__V1__INFO_REQUEST__INIT;
    client_free(client_call("GetInfo", &request.base, &gradd__v1__info__descriptor));
    client_close();
    assert_int_equal(kill(pid, SIGTERM), 0);
    assert_int_equal(gradd_wait(pid), 0);
}

static void readiness_is_told_to_systemd(void **state)
{
    (void)state;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char text[32] = "";
    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", support_path("notify"));
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(setenv("NOTIFY_SOCKET", address.sun_path, 1), 0);

    pid_t pid = gradd_serve("");

    WAIT_UNTIL(recv(fd, text, sizeof(text) - 1, 0) > 0, LIMIT_MS)
    assert_string_equal(text, "READY=1");
    assert_int_equal(unsetenv("NOTIFY_SOCKET"), 0);
    assert_int_equal(close(fd), 0);
    assert_int_equal(kill(pid, SIGTERM), 0);
    assert_int_equal(gradd_wait(pid), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(help_and_version_go_to_stdout),
        TEST(wrong_arguments_are_named),
        TEST(an_open_address_is_refused),
        TEST(loopback_is_served_beside_the_socket),
        TEST(sigterm_leaves_jobs_running_and_the_next_daemon_has_them),
        TEST(kill_9_loses_no_job_and_no_step),
        TEST(a_second_gradd_names_the_first),
        TEST(readiness_is_told_to_systemd),
    };
    rpc_warm_up();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
