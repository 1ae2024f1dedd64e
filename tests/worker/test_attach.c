/* SPDX-License-Identifier: Apache-2.0 */
/* A rank's connection against a scripted daemon: the job arrives, telemetry is stored once, a restart goes unnoticed,
 * commands come through, refusals and goodbyes are final. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/mem.h"
#include "gradd.pb-c.h"
#include "proto/rpc.h"
#include "tests/support/fixture.h"
#include "worker/attach.h"

enum { WAIT_MS = 10000, MAX_STEPS = 1000, SLICE_MS = 20 };

/* What the daemon is to do, and what it was told. */
typedef struct daemon {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    rpc_server_t *server;
    char address[128];
    uint8_t *job;
    size_t job_size;
    const char *refuse; /* NULL: welcome */
    bool is_mute;       /* doesn't acknowledge */
    bool drops_goodbye; /* ends the stream with an error instead of storing it, once */
    int command;        /* to send after the next telemetry, 0: none */
    bool had_job;       /* of the last hello */
    int n_hellos;
    int n_stored[MAX_STEPS]; /* points by step */
    int64_t last_step;
    int n_goodbyes;
    int64_t goodbye_step;
    char goodbye_message[64];
} daemon_t;

static daemon_t the_daemon;

static void daemon_changed(daemon_t *daemon)
{
    (void)pthread_cond_broadcast(&daemon->changed);
    (void)pthread_mutex_unlock(&daemon->lock);
}

/* Waits until condition_x, looked at under the lock. */
#define WAIT_FOR(condition_x)                                                                                          \
    do {                                                                                                               \
        int64_t deadline_ns = clock_wall_ns() + WAIT_MS * CLOCK_NS_PER_MS;                                             \
        struct timespec at = {deadline_ns / CLOCK_NS_PER_S, deadline_ns % CLOCK_NS_PER_S};                             \
        int result = 0;                                                                                                \
        (void)pthread_mutex_lock(&the_daemon.lock);                                                                    \
        while (!(condition_x) && result == 0) {                                                                        \
            result = pthread_cond_timedwait(&the_daemon.changed, &the_daemon.lock, &at);                               \
        }                                                                                                              \
        (void)pthread_mutex_unlock(&the_daemon.lock);                                                                  \
        if (result != 0) {                                                                                             \
            fail_msg("waited in vain for " #condition_x);                                                              \
        }                                                                                                              \
    } while (0)

static status_t hello_answer(daemon_t *daemon, rpc_call_t *call, const Gradd__V1__Hello *hello)
{
    Gradd__V1__DaemonMessage reply = GRADD__V1__DAEMON_MESSAGE__INIT;
    Gradd__V1__Welcome welcome = GRADD__V1__WELCOME__INIT;
    (void)pthread_mutex_lock(&daemon->lock);
    daemon->n_hellos++;
    daemon->had_job = hello->has_job;
    const char *refuse = daemon->refuse;
    daemon_changed(daemon);
    if (refuse != NULL || strcmp(hello->token, "secret") != 0 || hello->attempt != 2) {
        reply.refused = (char *)(uintptr_t)(refuse != NULL ? refuse : "bad token");
        return rpc_call_write(call, &reply.base);
    }
    if (!hello->has_job) {
        welcome.has_job = 1;
        welcome.job = (ProtobufCBinaryData){daemon->job_size, daemon->job};
        welcome.job_directory = (char *)(uintptr_t) "/jobs/7";
    }
    reply.welcome = &welcome;
    return rpc_call_write(call, &reply.base);
}

static status_t telemetry_store(daemon_t *daemon, rpc_call_t *call, const Gradd__V1__Telemetry *telemetry)
{
    Gradd__V1__DaemonMessage reply = GRADD__V1__DAEMON_MESSAGE__INIT;
    Gradd__V1__Command command = GRADD__V1__COMMAND__INIT;
    (void)pthread_mutex_lock(&daemon->lock);
    for (size_t i = 0; i < telemetry->n_points; i++) {
        daemon->n_stored[telemetry->points[i]->step]++;
    }
    daemon->last_step = telemetry->step;
    bool is_mute = daemon->is_mute;
    if (daemon->command != 0) {
        command.has_kind = 1;
        command.kind = (Gradd__V1__Command__Kind)daemon->command;
        reply.command = &command;
        daemon->command = 0;
    }
    daemon_changed(daemon);
    reply.has_ack = 1;
    reply.ack = telemetry->sequence;
    return is_mute ? ST_OK : rpc_call_write(call, &reply.base);
}

static status_t goodbye_store(daemon_t *daemon, const Gradd__V1__Goodbye *goodbye)
{
    (void)pthread_mutex_lock(&daemon->lock);
    bool is_dropped = daemon->drops_goodbye;
    daemon->drops_goodbye = false;
    if (!is_dropped) {
        daemon->n_goodbyes++;
        daemon->goodbye_step = goodbye->step;
        (void)snprintf(daemon->goodbye_message, sizeof(daemon->goodbye_message), "%s", goodbye->message);
    }
    daemon_changed(daemon);
    return is_dropped ? ST_FAIL(ST_ERR_IO, "the disk is full") : ST_OK;
}

static status_t attach_handle(rpc_call_t *call, const ProtobufCMessage *request, void *arg)
{
    (void)request;
    daemon_t *daemon = arg;
    bool is_over = false;
    while (!is_over && !rpc_call_is_cancelled(call)) {
        ProtobufCMessage *received = NULL;
        status_t status = rpc_call_read(call, SLICE_MS, &received);
        if (status == ST_ERR_TIMEOUT) {
            continue;
        }
        if (status != ST_OK || received == NULL) {
            return status;
        }
        const Gradd__V1__WorkerMessage *message = (const Gradd__V1__WorkerMessage *)received;
        if (message->hello != NULL) {
            status = hello_answer(daemon, call, message->hello);
            is_over = daemon->refuse != NULL;
        } else if (message->telemetry != NULL) {
            status = telemetry_store(daemon, call, message->telemetry);
        } else if (message->goodbye != NULL) {
            status = goodbye_store(daemon, message->goodbye);
            is_over = true;
        }
        protobuf_c_message_free_unpacked(received, NULL);
        if (status != ST_OK) {
            return status;
        }
    }
    return ST_OK;
}

static void daemon_listen(daemon_t *daemon)
{
    static const rpc_method_t METHODS[] = {
        {"/gradd.v1.Worker/Attach", RPC_BIDI, &gradd__v1__worker_message__descriptor, attach_handle}};
    static const char *const SERVICES[] = {"gradd.v1.Worker", NULL};
    rpc_server_options_t options = {
        .address = daemon->address, .methods = METHODS, .n_methods = 1, .arg = daemon, .services = SERVICES};
    assert_ok(rpc_server_open(&options, &daemon->server));
}

static void daemon_start(void)
{
    Gradd__V1__Training training = GRADD__V1__TRAINING__INIT;
    spec_job_t job = GRADD__V1__JOB_SPEC__INIT;
    training.has_steps = 1;
    training.steps = 5;
    job.training = &training;
    the_daemon = (daemon_t){.job = NULL};
    (void)pthread_mutex_init(&the_daemon.lock, NULL);
    (void)pthread_cond_init(&the_daemon.changed, NULL);
    (void)snprintf(the_daemon.address, sizeof(the_daemon.address), "unix:%s/socket", fixture_folder());
    assert_ok(spec_job_pack(&job, &the_daemon.job, &the_daemon.job_size));
    daemon_listen(&the_daemon);
}

static void daemon_stop(void)
{
    if (the_daemon.server != NULL) {
        rpc_server_close(the_daemon.server, 0);
    }
    mem_free(the_daemon.job);
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
    daemon_start();
    wrk_attach_t *attach = attach_open(NULL, NULL);
    job_wait(attach);
    wrk_goodbye_t goodbye = {WRK_OUTCOME_SUCCEEDED, "", false, 300, "ab"};

    steps_put(attach, 1, 300);
    assert_ok(wrk_attach_goodbye(attach, &goodbye, WAIT_MS));

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
    daemon_start();
    wrk_attach_t *attach = attach_open(NULL, NULL);
    job_wait(attach);
    steps_put(attach, 1, 10);
    WAIT_FOR(the_daemon.n_stored[10] > 0);

    rpc_server_close(the_daemon.server, 0);
    the_daemon.server = NULL;
    steps_put(attach, 11, 20);
    daemon_listen(&the_daemon);
    WAIT_FOR(the_daemon.n_stored[20] > 0);

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
    daemon_start();
    the_daemon.is_mute = true;
    wrk_attach_t *attach = attach_open(NULL, NULL);
    job_wait(attach);
    steps_put(attach, 1, 3);
    WAIT_FOR(the_daemon.n_stored[3] == 1);

    rpc_server_close(the_daemon.server, 0);
    the_daemon.is_mute = false;
    daemon_listen(&the_daemon);

    WAIT_FOR(the_daemon.n_stored[1] == 2 && the_daemon.n_stored[2] == 2 && the_daemon.n_stored[3] == 2);
    wrk_attach_close(attach);
    daemon_stop();
}

static void a_goodbye_that_could_not_be_stored_is_said_again(void **state)
{
    (void)state;
    daemon_start();
    the_daemon.drops_goodbye = true;
    wrk_attach_t *attach = attach_open(NULL, NULL);
    job_wait(attach);
    wrk_goodbye_t goodbye = {WRK_OUTCOME_FAILED, "label 12 \xFF", true, 3, ""};

    assert_ok(wrk_attach_goodbye(attach, &goodbye, WAIT_MS));

    assert_int_equal(the_daemon.n_goodbyes, 1);
    assert_int_equal(the_daemon.n_hellos, 2);
    assert_string_equal(the_daemon.goodbye_message, "label 12 \xEF\xBF\xBD");
    wrk_attach_close(attach);
    daemon_stop();
}

static void a_goodbye_to_a_daemon_that_is_down_times_out(void **state)
{
    (void)state;
    daemon_start();
    wrk_attach_t *attach = attach_open(NULL, NULL);
    job_wait(attach);
    rpc_server_close(the_daemon.server, 0);
    the_daemon.server = NULL;
    wrk_goodbye_t goodbye = {WRK_OUTCOME_PAUSED, "", false, 3, ""};

    assert_fails(wrk_attach_goodbye(attach, &goodbye, 200), ST_ERR_TIMEOUT, "was not confirmed by the daemon at unix:");

    wrk_attach_close(attach);
    daemon_stop();
}

static void a_command_is_given_once(void **state)
{
    (void)state;
    daemon_start();
    the_daemon.command = GRADD__V1__COMMAND__KIND__PAUSE;
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
    daemon_start();
    the_daemon.refuse = "attempt 2 is stale: attempt 3 runs";
    wrk_attach_t *attach = attach_open(refusal_note, reason);

    assert_fails(wrk_attach_wait_job(attach, WAIT_MS, &job, &directory), ST_ERR_PERMISSION, "attempt 3 runs");

    wrk_attach_close(attach);
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
