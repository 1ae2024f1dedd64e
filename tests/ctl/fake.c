/* SPDX-License-Identifier: Apache-2.0 */
/* fake: made-up jobs behind a real server; gradctl as a child process. */
#include "tests/ctl/fake.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "base/clock.h"
#include "gradd.pb-c.h"
#include "tests/support/fixture.h"

enum { DEADLINE_MS = 30000 };

fake_t fake;

static const char log_text[] = "line 1\nline 2\nline 3\nline 4\n";

/* 2026-01-02T03:04:05.678Z */
static const int64_t time_ns = INT64_C(1767323045678000000);
static const int64_t second_ns = INT64_C(1000000000);

/* protobuf-c's fields aren't const. */
#define TEXT(literal_x) ((char *)(uintptr_t)(literal_x))

/* What the handlers write and the tests read after the child's end: the lock orders them. */
static pthread_mutex_t noted = PTHREAD_MUTEX_INITIALIZER;

static void __attribute__((format(printf, 3, 4))) note(char *text, size_t size, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    (void)pthread_mutex_lock(&noted);
    (void)vsnprintf(text, size, format, arguments);
    (void)pthread_mutex_unlock(&noted);
    va_end(arguments);
}

/* ---- service ---- */

static status_t job_send(rpc_call_t *call, const char *id)
{
    Gradd__V1__Metric loss = GRADD__V1__METRIC__INIT, speed = GRADD__V1__METRIC__INIT, bad = GRADD__V1__METRIC__INIT;
    Gradd__V1__Metric *metrics[] = {&loss, &speed, &bad};
    Gradd__V1__Rank rank = GRADD__V1__RANK__INIT, *ranks[] = {&rank};
    Gradd__V1__CheckpointInfo checkpoint = GRADD__V1__CHECKPOINT_INFO__INIT, *checkpoints[] = {&checkpoint};
    Gradd__V1__Job job = GRADD__V1__JOB__INIT;
    job.id = (char *)(uintptr_t)id;
    loss.name = TEXT("loss");
    loss.value = 1.25;
    speed.name = TEXT("tokens_per_second");
    speed.value = 12345.0;
    bad.name = TEXT("grad_norm");
    bad.value = __builtin_nan("");
    rank.host = TEXT("node1");
    rank.pid = 4242;
    rank.has_pid = rank.has_rank = 1;
    checkpoint.step = 50;
    checkpoint.path = TEXT("/state/jobs/7/checkpoints/step-50");
    checkpoint.parameters_sha256 = TEXT("abcd");
    checkpoint.size_bytes = 1048576;
    checkpoint.unix_ns = time_ns;
    checkpoint.has_step = checkpoint.has_size_bytes = checkpoint.has_unix_ns = 1;
    loss.has_value = speed.has_value = bad.has_value = 1;
    job.name = TEXT("tiny, \"quoted\"");
    job.has_state = job.has_attempt = job.has_step = job.has_steps_total = job.has_workers = job.has_slots = 1;
    job.has_submitted_unix_ns = job.has_started_unix_ns = job.has_first_step_unix_ns = 1;
    job.attempt = 1;
    job.steps_total = 100;
    job.workers = 2;
    job.slots = 2;
    job.user = TEXT("ada");
    job.metrics = metrics;
    job.submitted_unix_ns = time_ns;
    job.started_unix_ns = time_ns + second_ns;
    job.first_step_unix_ns = time_ns + second_ns * 3 / 2;
    if (strcmp(id, "7") == 0 || (strcmp(id, "9") == 0 && atomic_load(&fake.is_finished))) {
        job.state = GRADD__V1__STATE__SUCCEEDED;
        job.step = 100;
        job.has_finished_unix_ns = 1;
        job.finished_unix_ns = time_ns + second_ns * 13;
        job.parameters_sha256 = TEXT("0123456789abcdef");
        job.fingerprint = TEXT("cpu avx512");
        job.n_metrics = 3;
        job.n_checkpoints = 1;
        job.checkpoints = checkpoints;
        job.yaml = TEXT("name: tiny\n");
        job.text = TEXT("To be\x1b or not\n");
    } else if (strcmp(id, "8") == 0) {
        job.state = GRADD__V1__STATE__FAILED;
        job.step = 5;
        job.has_finished_unix_ns = 1;
        job.finished_unix_ns = time_ns + second_ns * 66;
        job.reason = TEXT("rank 1 on node1: bad data");
    } else if (strcmp(id, "9") == 0) {
        job.state = GRADD__V1__STATE__RUNNING;
        job.step = atomic_load(&fake.step) > 0 ? atomic_load(&fake.step) : 40;
        job.n_metrics = 2;
        job.n_ranks = 1;
        job.ranks = ranks;
    } else {
        return ST_FAIL(ST_ERR_NOT_FOUND, "no job %s", id);
    }
    return rpc_call_write(call, &job.base);
}

static status_t submission_note(const Gradd__V1__SubmitRequest *request)
{
    char text[sizeof(fake.submission)];
    char *at = text;
    char *end = text + sizeof(text);
    at += snprintf(at, (size_t)(end - at), "%s|%s|%s|", request->yaml, request->file_name, request->directory);
    for (size_t i = 0; i < request->n_set; i++) {
        at += snprintf(at, (size_t)(end - at), "%s=%s;", request->set[i]->key, request->set[i]->value);
    }
    at += snprintf(at, (size_t)(end - at), "|");
    for (size_t i = 0; i < request->n_environment; i++) {
        at += snprintf(at, (size_t)(end - at), "%s=%s;", request->environment[i]->key, request->environment[i]->value);
    }
    (void)snprintf(at, (size_t)(end - at), "|%s", request->user);
    note(fake.submission, sizeof(fake.submission), "%s", text);
    return ST_OK;
}

static status_t submit(rpc_call_t *call, const ProtobufCMessage *message, void *arg)
{
    (void)arg;
    const Gradd__V1__SubmitRequest *request = (const Gradd__V1__SubmitRequest *)message;
    if (strstr(request->yaml, "bad") != NULL) {
        return ST_FAIL(ST_ERR_PARSE, "%s:1:1: unknown key \"bad\"\n%s:2:3: out of range\n", request->file_name,
                       request->file_name);
    }
    if (strstr(request->yaml, "huge") != NULL) {
        return ST_FAIL(ST_ERR_STATE, "the job needs 64 slots, this daemon has 2");
    }
    (void)submission_note(request);
    Gradd__V1__SubmitResponse response = GRADD__V1__SUBMIT_RESPONSE__INIT;
    char *warnings[] = {TEXT("evaluation.every is larger than training.steps")};
    bool is_running = strstr(request->yaml, "running") != NULL;
    response.id = is_running ? TEXT("9") : TEXT("7");
    response.n_warnings = is_running ? 0 : 1;
    response.warnings = warnings;
    return rpc_call_write(call, &response.base);
}

static status_t validate(rpc_call_t *call, const ProtobufCMessage *message, void *arg)
{
    (void)arg;
    const Gradd__V1__SubmitRequest *request = (const Gradd__V1__SubmitRequest *)message;
    Gradd__V1__Problem problem = GRADD__V1__PROBLEM__INIT, *problems[] = {&problem};
    Gradd__V1__ValidateResponse response = GRADD__V1__VALIDATE_RESPONSE__INIT;
    problem.file = request->file_name;
    problem.line = 3;
    problem.column = 5;
    problem.has_line = problem.has_column = 1;
    problem.message = TEXT("unknown key \"bad\"");
    response.problems = problems;
    response.n_problems = strstr(request->yaml, "bad") != NULL;
    response.normalized_yaml = TEXT("name: tiny\nseed: 0\n");
    return rpc_call_write(call, &response.base);
}

static status_t get(rpc_call_t *call, const ProtobufCMessage *message, void *arg)
{
    (void)arg;
    return job_send(call, ((const Gradd__V1__JobRequest *)message)->id);
}

static status_t list(rpc_call_t *call, const ProtobufCMessage *message, void *arg)
{
    (void)arg;
    const Gradd__V1__ListRequest *request = (const Gradd__V1__ListRequest *)message;
    char text[256];
    int written =
        snprintf(text, sizeof(text), "list %d %s", request->limit, request->before != NULL ? request->before : "-");
    for (size_t i = 0; i < request->n_states; i++) {
        written += snprintf(text + written, sizeof(text) - (size_t)written, " %d", (int)request->states[i]);
    }
    note(fake.request, sizeof(fake.request), "%s", text);
    enum { N = 250 };
    static Gradd__V1__Job jobs[N];
    static Gradd__V1__Job *pointers[N];
    static char ids[N][8];
    Gradd__V1__ListResponse response = GRADD__V1__LIST_RESPONSE__INIT;
    int newest = request->before != NULL ? atoi(request->before) - 1 : N;
    bool is_two = request->n_states > 0;
    for (int i = newest; i > (is_two ? N - 2 : 0) && (int)response.n_jobs < request->limit; i--) {
        size_t at = response.n_jobs++;
        gradd__v1__job__init(&jobs[at]);
        (void)snprintf(ids[at], sizeof(ids[at]), "%d", i);
        jobs[at].id = ids[at];
        jobs[at].name = i == N ? TEXT("first, \"quoted\"") : TEXT("überlang");
        jobs[at].has_state = jobs[at].has_step = jobs[at].has_steps_total = jobs[at].has_workers = 1;
        jobs[at].state = i == N ? GRADD__V1__STATE__QUEUED : GRADD__V1__STATE__RUNNING;
        jobs[at].step = i == N ? 0 : 12;
        jobs[at].steps_total = 100;
        jobs[at].workers = 2;
        jobs[at].user = TEXT("ada");
        jobs[at].reason = i == N ? TEXT("waits for 2 slots\nof 2") : NULL;
        pointers[at] = &jobs[at];
    }
    response.jobs = pointers;
    return rpc_call_write(call, &response.base);
}

static status_t event_send(rpc_call_t *call, const char *id, int64_t number, Gradd__V1__State state, int64_t step)
{
    Gradd__V1__Event event = GRADD__V1__EVENT__INIT;
    event.job_id = (char *)(uintptr_t)id;
    event.has_number = event.has_unix_ns = event.has_state = event.has_attempt = event.has_step = 1;
    event.number = number;
    event.unix_ns = time_ns + number * second_ns;
    event.state = state;
    event.attempt = 1;
    event.step = step;
    event.reason = state == GRADD__V1__STATE__QUEUED ? TEXT("waits for 2 slots") : NULL;
    return rpc_call_write(call, &event.base);
}

static status_t watch(rpc_call_t *call, const ProtobufCMessage *message, void *arg)
{
    (void)arg;
    static const Gradd__V1__State states[] = {GRADD__V1__STATE__QUEUED, GRADD__V1__STATE__RUNNING};
    const Gradd__V1__WatchRequest *request = (const Gradd__V1__WatchRequest *)message;
    const char *id = request->id != NULL ? request->id : "9";
    status_t status = ST_OK;
    for (int64_t number = request->after + 1; number <= 2 && status == ST_OK; number++) {
        status = event_send(call, id, number, states[number - 1], number == 2 ? 40 : 0);
    }
    atomic_fetch_add(&fake.n_watchers, 1);
    while (strcmp(id, "9") == 0 && !atomic_load(&fake.is_finished)) {
        if (rpc_call_wait(call, 10)) {
            return ST_OK;
        }
    }
    bool is_failed = strcmp(id, "8") == 0;
    return status != ST_OK ? status
                           : event_send(call, id, 3, is_failed ? GRADD__V1__STATE__FAILED : GRADD__V1__STATE__SUCCEEDED,
                                        is_failed ? 5 : 100);
}

static status_t logs(rpc_call_t *call, const ProtobufCMessage *message, void *arg)
{
    (void)arg;
    const Gradd__V1__LogsRequest *request = (const Gradd__V1__LogsRequest *)message;
    note(fake.request, sizeof(fake.request), "logs %d %lld %d", request->rank, (long long)request->offset,
         request->follow);
    int64_t size = sizeof(log_text) - 1;
    int64_t offset = request->offset < 0 ? size + request->offset : request->offset;
    offset = offset < 0 ? 0 : offset;
    /* A running job's log stops in the middle of a line until the job has finished. */
    bool is_partial = strcmp(request->id, "9") == 0 && request->follow && !atomic_load(&fake.is_finished);
    int64_t limit = is_partial ? 10 : size;
    while (offset < limit) {
        int64_t n = limit - offset < 5 ? limit - offset : 5;
        Gradd__V1__LogChunk chunk = GRADD__V1__LOG_CHUNK__INIT;
        chunk.has_offset = chunk.has_data = 1;
        chunk.offset = offset;
        chunk.data.data = (uint8_t *)(uintptr_t)log_text + offset;
        chunk.data.len = (size_t)n;
        status_t status = rpc_call_write(call, &chunk.base);
        if (status != ST_OK) {
            return status;
        }
        offset += n;
    }
    atomic_fetch_add(&fake.n_watchers, 1);
    while (is_partial && !rpc_call_wait(call, 10)) {
    }
    return ST_OK;
}

static status_t metrics(rpc_call_t *call, const ProtobufCMessage *message, void *arg)
{
    (void)arg;
    const Gradd__V1__MetricsRequest *request = (const Gradd__V1__MetricsRequest *)message;
    note(fake.request, sizeof(fake.request), "metrics %s %lld %d", request->n_names > 0 ? request->names[0] : "-",
         (long long)request->from_step, request->follow);
    bool is_partial = strcmp(request->id, "9") == 0 && request->follow && !atomic_load(&fake.is_finished);
    for (int step = 10; step <= (is_partial ? 20 : 40); step += 10) {
        Gradd__V1__MetricPoint loss = GRADD__V1__METRIC_POINT__INIT, validation = GRADD__V1__METRIC_POINT__INIT;
        Gradd__V1__MetricPoint *points[] = {&loss, &validation};
        Gradd__V1__MetricBatch batch = GRADD__V1__METRIC_BATCH__INIT;
        loss.name = TEXT("loss");
        validation.name = TEXT("validation_loss");
        loss.has_step = loss.has_value = loss.has_unix_ns = 1;
        validation.has_step = validation.has_value = validation.has_unix_ns = 1;
        loss.step = validation.step = step;
        loss.unix_ns = validation.unix_ns = time_ns + step * second_ns;
        loss.value = 40.0 / step;
        validation.value = 41.5;
        batch.points = points;
        batch.n_points = step % 20 == 0 ? 2 : 1;
        if (step >= request->from_step) {
            status_t status = rpc_call_write(call, &batch.base);
            if (status != ST_OK) {
                return status;
            }
        }
    }
    atomic_fetch_add(&fake.n_watchers, 1);
    while (is_partial && !rpc_call_wait(call, 10)) {
    }
    return ST_OK;
}

static status_t pause_job(rpc_call_t *call, const ProtobufCMessage *message, void *arg)
{
    (void)arg;
    const char *id = ((const Gradd__V1__JobRequest *)message)->id;
    note(fake.request, sizeof(fake.request), "pause %s", id);
    if (strcmp(id, "7") == 0) {
        return ST_FAIL(ST_ERR_STATE, "job 7 is SUCCEEDED: nothing to pause");
    }
    return job_send(call, id);
}

static status_t resume_job(rpc_call_t *call, const ProtobufCMessage *message, void *arg)
{
    (void)arg;
    const Gradd__V1__ResumeRequest *request = (const Gradd__V1__ResumeRequest *)message;
    note(fake.request, sizeof(fake.request), "resume %s %d %d", request->id, request->has_workers, request->workers);
    return job_send(call, request->id);
}

static status_t cancel_job(rpc_call_t *call, const ProtobufCMessage *message, void *arg)
{
    (void)arg;
    const Gradd__V1__CancelRequest *request = (const Gradd__V1__CancelRequest *)message;
    note(fake.request, sizeof(fake.request), "cancel %s %d", request->id, request->force);
    return job_send(call, request->id);
}

static status_t info(rpc_call_t *call, const ProtobufCMessage *message, void *arg)
{
    (void)message;
    (void)arg;
    Gradd__V1__Info reply = GRADD__V1__INFO__INIT;
    reply.version = TEXT("9.9.9");
    reply.has_slots = reply.has_slots_used = reply.has_started_unix_ns = reply.has_pid = 1;
    reply.slots = 4;
    reply.slots_used = 1;
    reply.state_directory = TEXT("/state");
    reply.started_unix_ns = time_ns;
    reply.pid = 77;
    reply.host = TEXT("node0");
    return rpc_call_write(call, &reply.base);
}

static const rpc_method_t methods[] = {
    {"/gradd.v1.Gradd/Submit", RPC_UNARY, &gradd__v1__submit_request__descriptor, submit},
    {"/gradd.v1.Gradd/Validate", RPC_UNARY, &gradd__v1__submit_request__descriptor, validate},
    {"/gradd.v1.Gradd/Get", RPC_UNARY, &gradd__v1__job_request__descriptor, get},
    {"/gradd.v1.Gradd/List", RPC_UNARY, &gradd__v1__list_request__descriptor, list},
    {"/gradd.v1.Gradd/Watch", RPC_SERVER_STREAM, &gradd__v1__watch_request__descriptor, watch},
    {"/gradd.v1.Gradd/Logs", RPC_SERVER_STREAM, &gradd__v1__logs_request__descriptor, logs},
    {"/gradd.v1.Gradd/Metrics", RPC_SERVER_STREAM, &gradd__v1__metrics_request__descriptor, metrics},
    {"/gradd.v1.Gradd/Pause", RPC_UNARY, &gradd__v1__job_request__descriptor, pause_job},
    {"/gradd.v1.Gradd/Resume", RPC_UNARY, &gradd__v1__resume_request__descriptor, resume_job},
    {"/gradd.v1.Gradd/Cancel", RPC_UNARY, &gradd__v1__cancel_request__descriptor, cancel_job},
    {"/gradd.v1.Gradd/GetInfo", RPC_UNARY, &gradd__v1__info_request__descriptor, info},
};

void fake_start(void)
{
    (void)snprintf(fake.address, sizeof(fake.address), "unix:%s/s", fixture_folder());
    rpc_server_options_t options = {
        .address = fake.address, .methods = methods, .n_methods = sizeof(methods) / sizeof(methods[0])};
    assert_ok(rpc_server_open(&options, &fake.server));
}

void fake_stop(void)
{
    rpc_server_close(fake.server, 2000);
    fake.server = NULL;
}

/* ---- gradctl ---- */

static int terminal_open(int *child_fd_p)
{
    int parent = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    assert_true(parent >= 0);
    assert_int_equal(grantpt(parent), 0);
    assert_int_equal(unlockpt(parent), 0);
    struct winsize size = {.ws_row = 24, .ws_col = 100};
    *child_fd_p = open(ptsname(parent), O_RDWR | O_NOCTTY | O_CLOEXEC);
    assert_true(*child_fd_p >= 0);
    assert_int_equal(ioctl(parent, TIOCSWINSZ, &size), 0);
    return parent;
}

void run_start(run_t *run, bool is_terminal, const char *const *arguments)
{
    char program[512], address[160];
    const char *argv[32] = {"gradctl"};
    int out[2], err[2];
    const char *bin = getenv("GRADD_BIN");
    (void)snprintf(program, sizeof(program), "%s/gradctl", bin != NULL ? bin : "build/dev/bin");
    (void)snprintf(address, sizeof(address), fake.is_unnamed ? "XDG_RUNTIME_DIR=%s" : "GRADD_ADDRESS=%s",
                   fake.is_unnamed ? fixture_folder() : fake.address);
    for (int i = 0; arguments[i] != NULL && i < 30; i++) {
        argv[i + 1] = arguments[i];
    }
    static const char *const sanitizers[] = {"ASAN_OPTIONS", "LSAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS"};
    char copies[4][512];
    const char *environment[16] = {address,    "GRADD_TEST_DATA=/data", "MODEL_DATA=/models",
                                   "UNUSED=x", "LC_ALL=C.UTF-8",        "TERM=xterm"};
    for (int i = 0, n = 6; i < 4; i++) {
        const char *value = getenv(sanitizers[i]);
        if (value != NULL) {
            (void)snprintf(copies[i], sizeof(copies[i]), "%s=%s", sanitizers[i], value);
            environment[n++] = copies[i];
        }
    }
    memset(run, 0, sizeof(*run));
    (void)pthread_mutex_lock(&noted);
    (void)pthread_mutex_unlock(&noted);
    assert_int_equal(pipe2(err, O_CLOEXEC), 0);
    if (is_terminal) {
        out[0] = terminal_open(&out[1]);
    } else {
        assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    }
    posix_spawn_file_actions_t actions;
    (void)posix_spawn_file_actions_init(&actions);
    (void)posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    (void)posix_spawn_file_actions_adddup2(&actions, out[1], 1);
    (void)posix_spawn_file_actions_adddup2(&actions, err[1], 2);
    assert_int_equal(posix_spawn(&run->pid, program, &actions, NULL, (char *const *)(uintptr_t)argv,
                                 (char *const *)(uintptr_t)environment),
                     0);
    (void)posix_spawn_file_actions_destroy(&actions);
    (void)close(out[1]);
    (void)close(err[1]);
    run->out_fd = out[0];
    run->err_fd = err[0];
}

/* Reads what there is; false at the end of the file. */
static bool text_read(int fd, char *text)
{
    size_t length = strlen(text);
    ssize_t n = read(fd, text + length, FAKE_TEXT_BYTES - 1 - length);
    if (n > 0) {
        text[length + (size_t)n] = '\0';
    }
    return n > 0;
}

static void run_read(run_t *run, const char *text)
{
    int64_t deadline = clock_now_ns() + DEADLINE_MS * CLOCK_NS_PER_MS;
    bool is_open[2] = {true, true};
    while ((text == NULL || strstr(run->out, text) == NULL) && (is_open[0] || is_open[1])) {
        struct pollfd fds[2] = {{.fd = is_open[0] ? run->out_fd : -1, .events = POLLIN},
                                {.fd = is_open[1] ? run->err_fd : -1, .events = POLLIN}};
        (void)poll(fds, 2, 100);
        is_open[0] = is_open[0] && (fds[0].revents == 0 || text_read(run->out_fd, run->out));
        is_open[1] = is_open[1] && (fds[1].revents == 0 || text_read(run->err_fd, run->err));
        if (clock_now_ns() > deadline) {
            (void)kill(run->pid, SIGKILL);
            print_error("gradctl hangs; out: %s\nerr: %s\n", run->out, run->err);
            fail();
        }
    }
}

void run_expect(run_t *run, const char *text)
{
    run_read(run, text);
    if (strstr(run->out, text) == NULL) {
        print_error("no \"%s\" in: %s\nerr: %s\n", text, run->out, run->err);
        fail();
    }
}

void run_finish(run_t *run)
{
    int status = 0;
    run_read(run, NULL);
    assert_int_equal(waitpid(run->pid, &status, 0), run->pid);
    (void)pthread_mutex_lock(&noted);
    (void)pthread_mutex_unlock(&noted);
    run->code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    (void)close(run->out_fd);
    (void)close(run->err_fd);
}
