/* SPDX-License-Identifier: Apache-2.0 */
/* The RPCs: what they answer, and what they refuse. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "daemon/files.h"
#include "tests/daemon/client.h"

enum { LIMIT_MS = 120000 };

#define WAIT_STATE(id_x, state_x) WAIT_UNTIL(client_state(id_x) == GRADD__V1__STATE__##state_x, LIMIT_MS)

static void submit_fails(char *yaml, rpc_code_t code, const char *text)
{
    char folder[512];
    (void)snprintf(folder, sizeof(folder), "%s", fixture_folder());
    Gradd__V1__SubmitRequest request = GRADD__V1__SUBMIT_REQUEST__INIT;
    request.yaml = yaml;
    request.directory = folder;
    client_call_fails("Submit", &request.base, &gradd__v1__submit_response__descriptor, code, text);
}

static int n_jobs(void)
{
    Gradd__V1__ListRequest request = GRADD__V1__LIST_REQUEST__INIT;
    Gradd__V1__ListResponse *response =
        (Gradd__V1__ListResponse *)client_call("List", &request.base, &gradd__v1__list_response__descriptor);
    int n = (int)response->n_jobs;
    client_free(response);
    return n;
}

static void invalid_jobs_are_refused_with_every_problem(void **state)
{
    (void)state;
    dmn_daemon_t *daemon = client_daemon(2, "");
    client_open();
    char yaml[4096];
    (void)snprintf(yaml, sizeof(yaml), "%s", client_yaml(1, "sede: 4\ncheckpoint: {every: -1}"));

    submit_fails(yaml, RPC_INVALID_ARGUMENT, "job.yaml:10:1: unknown key");
    submit_fails(yaml, RPC_INVALID_ARGUMENT, "job.yaml:11:21: checkpoint.every: -1");
    char empty[] = "";
    submit_fails(empty, RPC_INVALID_ARGUMENT, "job.yaml: the file is empty");
    submit_fails(NULL, RPC_INVALID_ARGUMENT, "the request has no job");
    char broken[] = "name: [";
    submit_fails(broken, RPC_INVALID_ARGUMENT, "job.yaml:");
    (void)snprintf(yaml, sizeof(yaml), "%s", client_yaml(4, ""));
    submit_fails(yaml, RPC_INVALID_ARGUMENT, "needs 4 slots (4 workers × 1 thread); this daemon has 2");

    assert_int_equal(n_jobs(), 0);
    client_close();
    dmn_daemon_close(daemon, 1000);
}

static void a_hundred_kilobytes_of_brackets_are_refused_quickly(void **state)
{
    (void)state;
    dmn_daemon_t *daemon = client_daemon(2, "");
    client_open();
    char *text = malloc(300001);
    assert_non_null(text);
    memset(text, '[', 100000);
    text[100000] = '\0';

    int64_t start_ns = clock_now_ns();
    submit_fails(text, RPC_INVALID_ARGUMENT, "job.yaml:1:");
    assert_true(clock_now_ns() - start_ns < 2 * CLOCK_NS_PER_S);
    memset(text, '#', 300000);
    text[300000] = '\0';
    submit_fails(text, RPC_INVALID_ARGUMENT, "the job has 300000 bytes; at most 262144");

    free(text);
    client_close();
    dmn_daemon_close(daemon, 1000);
}

static void validate_lists_problems_or_the_normalized_job(void **state)
{
    (void)state;
    dmn_daemon_t *daemon = client_daemon(2, "");
    client_open();
    char yaml[4096];
    char folder[512];
    (void)snprintf(folder, sizeof(folder), "%s", fixture_folder());
    Gradd__V1__SubmitRequest request = GRADD__V1__SUBMIT_REQUEST__INIT;
    request.yaml = yaml;
    request.directory = folder;

    (void)snprintf(yaml, sizeof(yaml), "%s", client_yaml(1, "sede: 4"));
    Gradd__V1__ValidateResponse *response = (Gradd__V1__ValidateResponse *)client_call(
        "Validate", &request.base, &gradd__v1__validate_response__descriptor);
    assert_int_equal(response->n_problems, 1);
    assert_string_equal(response->problems[0]->file, "job.yaml");
    assert_int_equal(response->problems[0]->line, 10);
    assert_non_null(strstr(response->problems[0]->message, "seed"));
    client_free(response);
    (void)snprintf(yaml, sizeof(yaml), "%s", client_yaml(4, ""));
    response = (Gradd__V1__ValidateResponse *)client_call("Validate", &request.base,
                                                          &gradd__v1__validate_response__descriptor);
    assert_int_equal(response->n_problems, 1);
    assert_non_null(strstr(response->problems[0]->message, "needs 4 slots"));
    client_free(response);
    (void)snprintf(yaml, sizeof(yaml), "%s", client_yaml(2, ""));
    response = (Gradd__V1__ValidateResponse *)client_call("Validate", &request.base,
                                                          &gradd__v1__validate_response__descriptor);
    assert_int_equal(response->n_problems, 0);
    assert_non_null(strstr(response->normalized_yaml, "microbatches: 4"));
    client_free(response);

    assert_int_equal(n_jobs(), 0);
    client_close();
    dmn_daemon_close(daemon, 1000);
}

static void unknown_jobs_and_bad_requests_are_named(void **state)
{
    (void)state;
    dmn_daemon_t *daemon = client_daemon(2, "");
    client_open();
    char seven[] = "7";
    char word[] = "seven";
    Gradd__V1__JobRequest request = GRADD__V1__JOB_REQUEST__INIT;
    Gradd__V1__ListRequest list = GRADD__V1__LIST_REQUEST__INIT;
    list.has_limit = 1;
    list.limit = 100000;

    client_call_fails("Get", &request.base, &gradd__v1__job__descriptor, RPC_INVALID_ARGUMENT, "names no job");
    request.id = seven;
    client_call_fails("Get", &request.base, &gradd__v1__job__descriptor, RPC_NOT_FOUND, "no job 7");
    client_call_fails("Pause", &request.base, &gradd__v1__job__descriptor, RPC_NOT_FOUND, "no job 7");
    request.id = word;
    client_call_fails("Get", &request.base, &gradd__v1__job__descriptor, RPC_NOT_FOUND, "no job seven");
    client_call_fails("List", &list.base, &gradd__v1__list_response__descriptor, RPC_INVALID_ARGUMENT, "1 to 1000");

    client_close();
    dmn_daemon_close(daemon, 1000);
}

static void final_jobs_are_not_steered(void **state)
{
    (void)state;
    dmn_daemon_t *daemon = client_daemon(1, "steps=4 every=100 step_ms=1 fail=3");
    client_open();
    int failed = client_submit(1, "");
    WAIT_STATE(failed, FAILED)
    client_close();
    dmn_daemon_close(daemon, 1000);
    daemon = client_daemon(1, "steps=4 step_ms=1");
    client_open();
    int succeeded = client_submit(1, "");
    WAIT_STATE(succeeded, SUCCEEDED)
    char id[24];
    Gradd__V1__JobRequest request = GRADD__V1__JOB_REQUEST__INIT;
    Gradd__V1__CancelRequest cancel = GRADD__V1__CANCEL_REQUEST__INIT;
    Gradd__V1__ResumeRequest resume = GRADD__V1__RESUME_REQUEST__INIT;
    request.id = cancel.id = resume.id = id;

    (void)snprintf(id, sizeof(id), "%d", succeeded);
    client_call_fails("Pause", &request.base, &gradd__v1__job__descriptor, RPC_FAILED_PRECONDITION, "is SUCCEEDED");
    client_call_fails("Cancel", &cancel.base, &gradd__v1__job__descriptor, RPC_FAILED_PRECONDITION,
                      "is SUCCEEDED already");
    client_call_fails("Resume", &resume.base, &gradd__v1__job__descriptor, RPC_FAILED_PRECONDITION, "is SUCCEEDED");
    (void)snprintf(id, sizeof(id), "%d", failed);
    client_call_fails("Resume", &resume.base, &gradd__v1__job__descriptor, RPC_FAILED_PRECONDITION,
                      "has no checkpoint to go on from");

    client_close();
    dmn_daemon_close(daemon, 1000);
}

static void a_resume_with_impossible_workers_changes_nothing(void **state)
{
    (void)state;
    dmn_daemon_t *daemon = client_daemon(4, "steps=100000 step_ms=10");
    client_open();
    int first = client_submit(4, "");
    int id = client_submit(2, "");
    char text[24];
    (void)snprintf(text, sizeof(text), "%d", id);
    client_pause(id);
    Gradd__V1__ResumeRequest resume = GRADD__V1__RESUME_REQUEST__INIT;
    resume.id = text;
    resume.has_workers = 1;

    resume.workers = 3;
    client_call_fails("Resume", &resume.base, &gradd__v1__job__descriptor, RPC_INVALID_ARGUMENT, "microbatches");
    resume.workers = -1;
    client_call_fails("Resume", &resume.base, &gradd__v1__job__descriptor, RPC_INVALID_ARGUMENT, "workers is -1");

    Gradd__V1__Job *job = client_get(id);
    assert_int_equal(job->state, GRADD__V1__STATE__PAUSED);
    assert_int_equal(job->workers, 2);
    client_free(job);
    client_cancel(id, false);
    client_cancel(first, true);
    WAIT_STATE(first, CANCELLED)
    client_close();
    dmn_daemon_close(daemon, 1000);
}

static void watch_tells_every_change_and_ends_with_the_last(void **state)
{
    (void)state;
    dmn_daemon_t *daemon = client_daemon(1, "steps=5 step_ms=5");
    client_open();
    int id = client_submit(1, "");
    char text[24];
    (void)snprintf(text, sizeof(text), "%d", id);
    Gradd__V1__WatchRequest request = GRADD__V1__WATCH_REQUEST__INIT;
    request.id = text;
    static const Gradd__V1__State expected[] = {GRADD__V1__STATE__QUEUED, GRADD__V1__STATE__STARTING,
                                                GRADD__V1__STATE__RUNNING, GRADD__V1__STATE__SUCCEEDED};

    rpc_stream_t *stream = client_stream("Watch", &request.base, &gradd__v1__event__descriptor);
    int64_t numbers[4];
    for (int i = 0; i < 4; i++) {
        ProtobufCMessage *message = NULL;
        assert_ok(rpc_stream_read(stream, LIMIT_MS, &message));
        assert_non_null(message);
        assert_int_equal(((Gradd__V1__Event *)message)->state, expected[i]);
        numbers[i] = ((Gradd__V1__Event *)message)->number;
        client_free(message);
    }
    ProtobufCMessage *message = NULL;
    assert_ok(rpc_stream_read(stream, LIMIT_MS, &message));
    assert_null(message);
    rpc_stream_close(stream);
    request.has_after = 1;
    request.after = numbers[2];
    stream = client_stream("Watch", &request.base, &gradd__v1__event__descriptor);
    assert_ok(rpc_stream_read(stream, LIMIT_MS, &message));
    assert_non_null(message);
    assert_int_equal(((Gradd__V1__Event *)message)->number, numbers[3]);
    client_free(message);
    assert_ok(rpc_stream_read(stream, LIMIT_MS, &message));
    assert_null(message);
    rpc_stream_close(stream);

    client_close();
    dmn_daemon_close(daemon, 1000);
}

/* Reads a log stream to its end; returns the last chunk's final state. */
static int log_read(int id, int rank, int64_t offset, bool is_following, char *text, size_t size)
{
    char name[24];
    (void)snprintf(name, sizeof(name), "%d", id);
    Gradd__V1__LogsRequest request = GRADD__V1__LOGS_REQUEST__INIT;
    request.id = name;
    request.has_rank = request.has_offset = request.has_follow = 1;
    request.rank = rank;
    request.offset = offset;
    request.follow = is_following;
    rpc_stream_t *stream = client_stream("Logs", &request.base, &gradd__v1__log_chunk__descriptor);
    size_t length = 0;
    int final_state = 0;
    for (;;) {
        ProtobufCMessage *message = NULL;
        assert_ok(rpc_stream_read(stream, LIMIT_MS, &message));
        if (message == NULL) {
            break;
        }
        const Gradd__V1__LogChunk *chunk = (const Gradd__V1__LogChunk *)message;
        assert_true(length + chunk->data.len < size);
        if (offset >= 0) {
            assert_int_equal(chunk->offset, offset + (int64_t)length);
        }
        if (chunk->data.len > 0) {
            memcpy(text + length, chunk->data.data, chunk->data.len);
        }
        length += chunk->data.len;
        final_state = chunk->has_final_state ? (int)chunk->final_state : 0;
        client_free(message);
    }
    text[length] = '\0';
    rpc_stream_close(stream);
    return final_state;
}

static void logs_come_from_an_offset_and_follow_to_the_end(void **state)
{
    (void)state;
    dmn_daemon_t *daemon = client_daemon(2, "steps=20 step_ms=5");
    client_open();
    int id = client_submit(2, "");
    char text[4096];

    assert_int_equal(log_read(id, 1, 0, true, text, sizeof(text)), GRADD__V1__STATE__SUCCEEDED);
    assert_string_equal(text, "rank 1 attempt 1\n");
    assert_int_equal(log_read(id, 0, 7, false, text, sizeof(text)), 0);
    assert_string_equal(text, "attempt 1\n");
    assert_int_equal(log_read(id, 0, -3, false, text, sizeof(text)), 0);
    assert_string_equal(text, " 1\n");
    assert_int_equal(log_read(id, 0, 1000000, false, text, sizeof(text)), 0);
    assert_string_equal(text, "");
    assert_int_equal(log_read(id, -1, 0, true, text, sizeof(text)), GRADD__V1__STATE__SUCCEEDED);
    assert_string_equal(text, "");

    Gradd__V1__LogsRequest request = GRADD__V1__LOGS_REQUEST__INIT;
    char name[24];
    (void)snprintf(name, sizeof(name), "%d", id);
    request.id = name;
    request.has_rank = 1;
    request.rank = 2;
    rpc_stream_t *stream = client_stream("Logs", &request.base, &gradd__v1__log_chunk__descriptor);
    ProtobufCMessage *message = NULL;
    assert_fails(rpc_stream_read(stream, LIMIT_MS, &message), ST_ERR_INVAL, "has ranks 0 to 1");
    rpc_stream_close(stream);
    client_close();
    dmn_daemon_close(daemon, 1000);
}

static int metrics_read(int id, int64_t from_step, bool is_following)
{
    char name[24];
    char loss[] = "loss";
    char *names[] = {loss};
    (void)snprintf(name, sizeof(name), "%d", id);
    Gradd__V1__MetricsRequest request = GRADD__V1__METRICS_REQUEST__INIT;
    request.id = name;
    request.names = names;
    request.n_names = 1;
    request.has_from_step = request.has_follow = 1;
    request.from_step = from_step;
    request.follow = is_following;
    rpc_stream_t *stream = client_stream("Metrics", &request.base, &gradd__v1__metric_batch__descriptor);
    int n = 0;
    int64_t last = from_step - 1;
    for (;;) {
        ProtobufCMessage *message = NULL;
        assert_ok(rpc_stream_read(stream, LIMIT_MS, &message));
        if (message == NULL) {
            break;
        }
        const Gradd__V1__MetricBatch *batch = (const Gradd__V1__MetricBatch *)message;
        for (size_t i = 0; i < batch->n_points; i++, n++) {
            assert_string_equal(batch->points[i]->name, "loss");
            assert_int_equal(batch->points[i]->step, last + 1);
            last = batch->points[i]->step;
        }
        client_free(message);
    }
    rpc_stream_close(stream);
    return n;
}

static void metrics_follow_without_a_gap(void **state)
{
    (void)state;
    dmn_daemon_t *daemon = client_daemon(1, "steps=700 step_ms=1 every=1000");
    client_open();
    int id = client_submit(1, "");
    WAIT_UNTIL(client_step(id) > 20, LIMIT_MS)

    assert_int_equal(metrics_read(id, 1, true), 700);
    assert_int_equal(metrics_read(id, 1, false), 700);
    assert_int_equal(metrics_read(id, 690, false), 11);

    client_close();
    dmn_daemon_close(daemon, 1000);
}

static void a_second_daemon_on_the_folder_is_refused(void **state)
{
    (void)state;
    dmn_daemon_t *daemon = client_daemon(1, "");
    dmn_daemon_t *second = NULL;
    dmn_options_t options = {.state_folder = support_path("state"), .program_folder = "/", .slots = 1};
    char text[128];
    (void)snprintf(text, sizeof(text), "another gradd (pid %d) has the state folder", (int)getpid());

    assert_fails(dmn_daemon_open(&options, &second), ST_ERR_BUSY, text);

    client_open();
    assert_int_equal(n_jobs(), 0);
    client_close();
    dmn_daemon_close(daemon, 1000);
}

static void a_submit_that_cannot_be_stored_leaves_nothing(void **state)
{
    (void)state;
    dmn_daemon_t *daemon = client_daemon(1, "steps=3 step_ms=1");
    client_open();
    char yaml[4096];
    (void)snprintf(yaml, sizeof(yaml), "%s", client_yaml(1, ""));
    /* a file where the folder of all jobs should be: works for root too */
    assert_ok(dmn_file_write_durable(support_path("state/jobs"), "x", 1));

    submit_fails(yaml, RPC_INTERNAL, "the job is not accepted: ");
    assert_int_equal(n_jobs(), 0);
    assert_int_equal(unlink(support_path("state/jobs")), 0);
    int id = client_submit(1, "");
    WAIT_STATE(id, SUCCEEDED)

    client_close();
    dmn_daemon_close(daemon, 1000);
}

/* Writes beyond so many bytes of a file fail, as on a full disk. */
static void writes_limit(rlim_t bytes)
{
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = bytes;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static void a_full_disk_at_submit_leaves_nothing(void **state)
{
    (void)state;
    dmn_daemon_t *daemon = client_daemon(1, "steps=3 step_ms=1");
    client_open();
    char yaml[4096];
    (void)snprintf(yaml, sizeof(yaml), "%s", client_yaml(1, ""));
    (void)signal(SIGXFSZ, SIG_IGN);

    /* first the job's own file is refused, then the database's journal */
    writes_limit(10);
    submit_fails(yaml, RPC_INTERNAL, "the job is not accepted: writing ");
    writes_limit(1000);
    submit_fails(yaml, RPC_INTERNAL, "gradd.db");
    writes_limit(RLIM_INFINITY);

    assert_int_equal(n_jobs(), 0);
    assert_false(support_exists(support_path("state/jobs/1")));
    assert_false(support_exists(support_path("state/jobs/2")));
    int id = client_submit(1, "");
    WAIT_STATE(id, SUCCEEDED)
    client_close();
    dmn_daemon_close(daemon, 1000);
}

static void a_worker_with_a_wrong_token_is_refused(void **state)
{
    (void)state;
    dmn_daemon_t *daemon = client_daemon(1, "steps=100000 step_ms=10");
    client_open();
    int id = client_submit(1, "");
    WAIT_STATE(id, RUNNING)
    char address[600];
    char job[24];
    char token[] = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    (void)snprintf(address, sizeof(address), "unix:%s", support_path("state/gradd.sock"));
    (void)snprintf(job, sizeof(job), "%d", id);
    rpc_channel_t *channel = NULL;
    rpc_stream_t *stream = NULL;
    assert_ok(rpc_channel_open(address, &channel));
    assert_ok(
        rpc_stream_open(channel, "/gradd.v1.Worker/Attach", NULL, &gradd__v1__daemon_message__descriptor, &stream));
    Gradd__V1__Hello hello = GRADD__V1__HELLO__INIT;
    hello.job_id = job;
    hello.token = token;
    hello.has_attempt = hello.has_rank = 1;
    hello.attempt = 1;
    Gradd__V1__WorkerMessage message = GRADD__V1__WORKER_MESSAGE__INIT;
    message.hello = &hello;

    assert_ok(rpc_stream_write(stream, &message.base));
    ProtobufCMessage *answer = NULL;
    assert_ok(rpc_stream_read(stream, LIMIT_MS, &answer));
    assert_non_null(answer);
    assert_non_null(strstr(((Gradd__V1__DaemonMessage *)answer)->refused, "is not the one under way"));

    client_free(answer);
    rpc_stream_close(stream);
    rpc_channel_close(channel);
    assert_int_equal(client_state(id), GRADD__V1__STATE__RUNNING);
    client_cancel(id, true);
    WAIT_STATE(id, CANCELLED)
    client_close();
    dmn_daemon_close(daemon, 1000);
}

static void the_socket_of_a_living_daemon_is_not_taken_over(void **state)
{
    (void)state;
    dmn_daemon_t *daemon = client_daemon(3, "");
    char listen[600];
    char folder[512];
    (void)snprintf(listen, sizeof(listen), "unix:%s", support_path("state/gradd.sock"));
    (void)snprintf(folder, sizeof(folder), "%s", support_path("other"));
    dmn_options_t options = {.state_folder = folder, .listen = listen, .program_folder = getenv("GRADD_BIN")};
    dmn_daemon_t *other = NULL;

    assert_fails(dmn_daemon_open(&options, &other), ST_ERR_BUSY, "gradd.sock: another process does");
    client_open();
    assert_int_equal(n_jobs(), 0);

    client_close();
    dmn_daemon_close(daemon, 1000);
}

static void info_and_modes_of_the_state_folder(void **state)
{
    (void)state;
    dmn_daemon_t *daemon = client_daemon(3, "");
    client_open();
    Gradd__V1__InfoRequest request = GRADD__V1__INFO_REQUEST__INIT;
    struct stat info;

    Gradd__V1__Info *answer = (Gradd__V1__Info *)client_call("GetInfo", &request.base, &gradd__v1__info__descriptor);
    assert_int_equal(answer->slots, 3);
    assert_int_equal(answer->slots_used, 0);
    assert_int_equal(answer->pid, getpid());
    assert_string_equal(answer->version, GRADD_VERSION);
    client_free(answer);
    assert_int_equal(stat(support_path("state/gradd.sock"), &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
    assert_int_equal(stat(support_path("state"), &info), 0);
    assert_int_equal(info.st_mode & 0777, 0700);

    client_close();
    dmn_daemon_close(daemon, 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(invalid_jobs_are_refused_with_every_problem),
        TEST(a_hundred_kilobytes_of_brackets_are_refused_quickly),
        TEST(validate_lists_problems_or_the_normalized_job),
        TEST(unknown_jobs_and_bad_requests_are_named),
        TEST(final_jobs_are_not_steered),
        TEST(a_resume_with_impossible_workers_changes_nothing),
        TEST(watch_tells_every_change_and_ends_with_the_last),
        TEST(logs_come_from_an_offset_and_follow_to_the_end),
        TEST(metrics_follow_without_a_gap),
        TEST(a_second_daemon_on_the_folder_is_refused),
        TEST(a_submit_that_cannot_be_stored_leaves_nothing),
        TEST(a_full_disk_at_submit_leaves_nothing),
        TEST(a_worker_with_a_wrong_token_is_refused),
        TEST(the_socket_of_a_living_daemon_is_not_taken_over),
        TEST(info_and_modes_of_the_state_folder),
    };
    rpc_warm_up();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
