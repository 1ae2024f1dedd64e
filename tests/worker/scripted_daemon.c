/* SPDX-License-Identifier: Apache-2.0 */
/* scripted_daemon: see the header. */
#include "tests/worker/scripted_daemon.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"

enum { SLICE_MS = 20 };

daemon_t the_daemon;

static void daemon_changed(daemon_t *daemon)
{
    (void)pthread_cond_broadcast(&daemon->changed);
    (void)pthread_mutex_unlock(&daemon->lock);
}

static status_t hello_answer(daemon_t *daemon, rpc_call_t *call, const Gradd__V1__Hello *hello, bool *is_over_p)
{
    Gradd__V1__DaemonMessage reply = GRADD__V1__DAEMON_MESSAGE__INIT;
    Gradd__V1__Welcome welcome = GRADD__V1__WELCOME__INIT;
    (void)pthread_mutex_lock(&daemon->lock);
    daemon->n_hellos++;
    if (hello->rank >= 0 && hello->rank < MAX_RANKS) {
        daemon->pid[hello->rank] = hello->pid;
    }
    daemon->had_job = hello->has_job;
    const char *refuse = daemon->refuse;
    daemon_changed(daemon);
    if (refuse != NULL || strcmp(hello->token, "secret") != 0 || hello->attempt != 2) {
        reply.refused = (char *)(uintptr_t)(refuse != NULL ? refuse : "bad token");
        *is_over_p = true;
        return rpc_call_write(call, &reply.base);
    }
    if (!hello->has_job) {
        welcome.has_job = 1;
        welcome.job = (ProtobufCBinaryData){daemon->job_size, daemon->job};
        welcome.job_directory = daemon->directory;
    }
    reply.welcome = &welcome;
    return rpc_call_write(call, &reply.base);
}

static status_t telemetry_store(daemon_t *daemon, rpc_call_t *call, int32_t rank, const Gradd__V1__Telemetry *telemetry)
{
    Gradd__V1__DaemonMessage reply = GRADD__V1__DAEMON_MESSAGE__INIT;
    Gradd__V1__Command command = GRADD__V1__COMMAND__INIT;
    reply.has_ack = 1;
    reply.ack = telemetry->sequence;
    if (rank != 0) {
        return rpc_call_write(call, &reply.base);
    }
    (void)pthread_mutex_lock(&daemon->lock);
    for (size_t i = 0; i < telemetry->n_points; i++) {
        int64_t step = telemetry->points[i]->step;
        daemon->n_stored[step < MAX_STEPS ? step : 0]++;
    }
    daemon->last_step = telemetry->step;
    if (telemetry->step > 0 && daemon->first_step_ns == 0) {
        daemon->first_step_ns = clock_now_ns();
    }
    if (telemetry->note != NULL) {
        size_t length = strlen(daemon->notes);
        (void)snprintf(daemon->notes + length, sizeof(daemon->notes) - length, "%s\n", telemetry->note);
    }
    bool is_mute = daemon->is_mute;
    if (daemon->command != 0) {
        command.has_kind = 1;
        command.kind = (Gradd__V1__Command__Kind)daemon->command;
        reply.command = &command;
        daemon->command = 0;
    }
    daemon_changed(daemon);
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
        daemon->goodbye_outcome = (int)goodbye->outcome;
        daemon->is_permanent = goodbye->is_permanent;
        (void)snprintf(daemon->parameters_sha256, sizeof(daemon->parameters_sha256), "%s",
                       goodbye->parameters_sha256 != NULL ? goodbye->parameters_sha256 : "");
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
    int32_t rank = 0;
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
            rank = message->hello->rank;
            status = hello_answer(daemon, call, message->hello, &is_over);
        } else if (message->telemetry != NULL) {
            status = telemetry_store(daemon, call, rank, message->telemetry);
        } else if (message->goodbye != NULL) {
            status = rank == 0 ? goodbye_store(daemon, message->goodbye) : ST_OK;
            is_over = true;
        }
        protobuf_c_message_free_unpacked(received, NULL);
        if (status != ST_OK) {
            return status;
        }
    }
    return ST_OK;
}

void daemon_listen(daemon_t *daemon)
{
    static const rpc_method_t METHODS[] = {
        {"/gradd.v1.Worker/Attach", RPC_BIDI, &gradd__v1__worker_message__descriptor, attach_handle}};
    static const char *const SERVICES[] = {"gradd.v1.Worker", NULL};
    rpc_server_options_t options = {
        .address = daemon->address, .methods = METHODS, .n_methods = 1, .arg = daemon, .services = SERVICES};
    assert_ok(rpc_server_open(&options, &daemon->server));
}

void daemon_start(const spec_job_t *job, const char *directory)
{
    the_daemon = (daemon_t){.job = NULL};
    (void)snprintf(the_daemon.directory, sizeof(the_daemon.directory), "%s", directory);
    (void)pthread_mutex_init(&the_daemon.lock, NULL);
    (void)pthread_cond_init(&the_daemon.changed, NULL);
    (void)snprintf(the_daemon.address, sizeof(the_daemon.address), "unix:%s/socket", fixture_folder());
    assert_ok(spec_job_pack(job, &the_daemon.job, &the_daemon.job_size));
    daemon_listen(&the_daemon);
}

void daemon_pause(void)
{
    if (the_daemon.server != NULL) {
        rpc_server_close(the_daemon.server, 0);
        the_daemon.server = NULL;
    }
}

void daemon_stop(void)
{
    daemon_pause();
    mem_free(the_daemon.job);
}
