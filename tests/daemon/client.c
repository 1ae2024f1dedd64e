/* SPDX-License-Identifier: Apache-2.0 */
/* client: a daemon with fake workers, and its RPCs. */
#include "tests/daemon/client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CALL_MS = 60000 };

int64_t client_attach_ms;
int64_t client_heartbeat_ms;
static rpc_channel_t *channel;

const char *client_launcher(void)
{
    const char *tests = getenv("GRADD_TESTS");
    char script[2048];
    assert_non_null(tests);
    (void)snprintf(
        script, sizeof(script),
        "n=1; while [ $# -gt 1 ]; do [ \"$1\" = -np ] && n=$2; shift; done\n"
        "i=0; while [ $i -lt $n ]; do FAKE_RANKS=$n FAKE_RANK=$i '%s/daemon_fake_worker' & i=$((i+1)); done\n"
        "code=0; wait || code=$?\nexit $code",
        tests);
    static char path[512];
    (void)snprintf(path, sizeof(path), "%s", support_script("launcher", script));
    return path;
}

dmn_daemon_t *client_daemon(int slots, const char *plan)
{
    static char folder[512];
    (void)snprintf(folder, sizeof(folder), "%s", support_path("state"));
    assert_int_equal(setenv("FAKE_PLAN", plan, 1), 0);
    dmn_options_t options = {.state_folder = folder,
                             .program_folder = getenv("GRADD_BIN"),
                             .launcher = client_launcher(),
                             .slots = slots,
                             .attach_ms = client_attach_ms,
                             .heartbeat_ms = client_heartbeat_ms};
    dmn_daemon_t *daemon = NULL;
    client_attach_ms = client_heartbeat_ms = 0;
    assert_ok(dmn_daemon_open(&options, &daemon));
    return daemon;
}

void client_open(void)
{
    char address[600];
    (void)snprintf(address, sizeof(address), "unix:%s/gradd.sock", support_path("state"));
    assert_ok(rpc_channel_open(address, &channel));
}

void client_close(void)
{
    rpc_channel_close(channel);
    channel = NULL;
}

ProtobufCMessage *client_call(const char *method, const ProtobufCMessage *request,
                              const ProtobufCMessageDescriptor *response)
{
    char path[128];
    (void)snprintf(path, sizeof(path), "/gradd.v1.Gradd/%s", method);
    ProtobufCMessage *answer = NULL;
    assert_ok(rpc_channel_call(channel, path, request, response, CALL_MS, &answer, NULL));
    return answer;
}

void client_call_fails(const char *method, const ProtobufCMessage *request, const ProtobufCMessageDescriptor *response,
                       rpc_code_t code, const char *text)
{
    char path[128];
    (void)snprintf(path, sizeof(path), "/gradd.v1.Gradd/%s", method);
    ProtobufCMessage *answer = NULL;
    rpc_code_t found = RPC_OK;
    status_t status = rpc_channel_call(channel, path, request, response, CALL_MS, &answer, &found);
    assert_true(status != ST_OK);
    if (found != code || strstr(status_message(), text) == NULL) {
        fail_msg("%s gave %s: %s; expected %s: %s", method, rpc_code_name(found), status_message(), rpc_code_name(code),
                 text);
    }
}

void client_free(void *message)
{
    protobuf_c_message_free_unpacked(message, NULL);
}

rpc_stream_t *client_stream(const char *method, const ProtobufCMessage *request,
                            const ProtobufCMessageDescriptor *response)
{
    char path[128];
    (void)snprintf(path, sizeof(path), "/gradd.v1.Gradd/%s", method);
    rpc_stream_t *stream = NULL;
    assert_ok(rpc_stream_open(channel, path, request, response, &stream));
    return stream;
}

const char *client_yaml(int workers, const char *rest)
{
    static char yaml[4096];
    FILE *file = fopen(support_path("data.txt"), "we");
    assert_non_null(file);
    for (int i = 0; i < 100; i++) {
        assert_true(fputs("a line of text to learn from\n", file) >= 0);
    }
    assert_int_equal(fclose(file), 0);
    (void)snprintf(yaml, sizeof(yaml),
                   "name: fake\n"
                   "resources: {workers: %d}\n"
                   "model:\n"
                   "  layers:\n"
                   "    - embedding: {name: wte, count: 256, width: 8}\n"
                   "    - position_embedding: {count: 16}\n"
                   "    - linear: {out: 256}\n"
                   "data: {train: {text: {path: data.txt}}}\n"
                   "training: {steps: 10, batch: 4, microbatches: 4, optimizer: {sgd: {lr: 0.1}}}\n"
                   "%s\n",
                   workers, rest);
    return yaml;
}

int client_submit(int workers, const char *rest)
{
    char folder[512];
    char yaml[4096];
    (void)snprintf(folder, sizeof(folder), "%s", fixture_folder());
    (void)snprintf(yaml, sizeof(yaml), "%s", client_yaml(workers, rest));
    Gradd__V1__SubmitRequest request = GRADD__V1__SUBMIT_REQUEST__INIT;
    request.yaml = yaml;
    request.directory = folder;
    Gradd__V1__SubmitResponse *response =
        (Gradd__V1__SubmitResponse *)client_call("Submit", &request.base, &gradd__v1__submit_response__descriptor);
    int id = atoi(response->id);
    client_free(response);
    assert_true(id > 0);
    return id;
}

static Gradd__V1__JobRequest request_of(int id)
{
    static char text[24];
    (void)snprintf(text, sizeof(text), "%d", id);
    Gradd__V1__JobRequest request = GRADD__V1__JOB_REQUEST__INIT;
    request.id = text;
    return request;
}

Gradd__V1__Job *client_get(int id)
{
    Gradd__V1__JobRequest request = request_of(id);
    return (Gradd__V1__Job *)client_call("Get", &request.base, &gradd__v1__job__descriptor);
}

Gradd__V1__State client_state(int id)
{
    Gradd__V1__Job *job = client_get(id);
    Gradd__V1__State state = job->state;
    client_free(job);
    return state;
}

int64_t client_step(int id)
{
    Gradd__V1__Job *job = client_get(id);
    int64_t step = job->step;
    client_free(job);
    return step;
}

int client_attempt(int id)
{
    Gradd__V1__Job *job = client_get(id);
    int attempt = job->attempt;
    client_free(job);
    return attempt;
}

const char *client_reason(int id)
{
    static char reason[512];
    Gradd__V1__Job *job = client_get(id);
    (void)snprintf(reason, sizeof(reason), "%s", job->reason);
    client_free(job);
    return reason;
}

void client_pause(int id)
{
    Gradd__V1__JobRequest request = request_of(id);
    client_free(client_call("Pause", &request.base, &gradd__v1__job__descriptor));
}

void client_cancel(int id, bool is_forced)
{
    Gradd__V1__JobRequest name = request_of(id);
    Gradd__V1__CancelRequest request = GRADD__V1__CANCEL_REQUEST__INIT;
    request.id = name.id;
    request.has_force = is_forced;
    request.force = is_forced;
    client_free(client_call("Cancel", &request.base, &gradd__v1__job__descriptor));
}

void client_resume(int id, int workers)
{
    Gradd__V1__JobRequest name = request_of(id);
    Gradd__V1__ResumeRequest request = GRADD__V1__RESUME_REQUEST__INIT;
    request.id = name.id;
    request.has_workers = workers > 0;
    request.workers = workers;
    client_free(client_call("Resume", &request.base, &gradd__v1__job__descriptor));
}
