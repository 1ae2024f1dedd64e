/* SPDX-License-Identifier: Apache-2.0 */
/* rpc_service: the handlers of the test's service, and helpers to call it. */
#include "tests/proto/rpc_service.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "tests/support/fixture.h"

shared_t shared;
char address[128];

void wait_for(atomic_int *value, int wanted)
{
    int64_t deadline = clock_now_ns() + WAIT_MS * CLOCK_NS_PER_MS;
    while (atomic_load(value) < wanted) {
        assert_true(clock_now_ns() < deadline);
        clock_sleep_ms(1);
    }
}

/* ---- the service ---- */

static status_t echo(rpc_call_t *call, const ProtobufCMessage *request, void *arg)
{
    (void)arg;
    const entry_t *entry = (const entry_t *)request;
    if (strcmp(entry->key, "fail") == 0) {
        return ST_FAIL(ST_ERR_STATE, "%s", entry->value);
    }
    if (strcmp(entry->key, "silent") == 0) {
        return ST_OK;
    }
    return rpc_call_write(call, request);
}

/* Writes value's number of messages, or without end for "endless" (until cancelled). */
static status_t count(rpc_call_t *call, const ProtobufCMessage *request, void *arg)
{
    shared_t *s = arg;
    const entry_t *entry = (const entry_t *)request;
    bool is_endless = strcmp(entry->key, "endless") == 0;
    int n = is_endless ? INT32_MAX : atoi(entry->value);
    atomic_fetch_add(&s->n_started, 1);
    for (int i = 0; i < n; i++) {
        char text[16];
        (void)snprintf(text, sizeof(text), "%d", i);
        entry_t reply = GRADD__V1__ENTRY__INIT;
        reply.key = text;
        status_t status =
            rpc_call_is_cancelled(call) ? ST_FAIL(ST_ERR_PEER, "gone") : rpc_call_write(call, &reply.base);
        if (status != ST_OK) {
            atomic_fetch_add(&s->n_cancelled, 1);
            return status;
        }
    }
    return strcmp(entry->key, "fail") == 0 ? ST_FAIL(ST_ERR_NOT_FOUND, "after %d", n) : ST_OK;
}

/* Waits for its end without writing; "stubborn" until the test releases it. */
static status_t hold(rpc_call_t *call, const ProtobufCMessage *request, void *arg)
{
    shared_t *s = arg;
    bool is_stubborn = strcmp(((const entry_t *)request)->key, "stubborn") == 0;
    atomic_fetch_add(&s->n_started, 1);
    while (is_stubborn ? !atomic_load(&s->is_released) : !rpc_call_wait(call, 1000)) {
        if (is_stubborn) {
            clock_sleep_ms(5);
        }
    }
    atomic_fetch_add(&s->n_cancelled, 1);
    return rpc_call_write(call, request);
}

static void *chat_write(void *arg)
{
    for (int i = 0; i < 100; i++) {
        char text[16];
        (void)snprintf(text, sizeof(text), "s%d", i);
        entry_t reply = GRADD__V1__ENTRY__INIT;
        reply.key = text;
        if (rpc_call_write(arg, &reply.base) != ST_OK) {
            break;
        }
    }
    return NULL;
}

/* Reads to the end while another thread writes; then says how much was read. */
static status_t chat(rpc_call_t *call, const ProtobufCMessage *request, void *arg)
{
    (void)request;
    shared_t *s = arg;
    atomic_fetch_add(&s->n_started, 1);
    pthread_t writer;
    assert_int_equal(pthread_create(&writer, NULL, chat_write, call), 0);
    int n = 0;
    ProtobufCMessage *message = NULL;
    status_t status;
    do {
        status = rpc_call_read(call, 50, &message);
        if (status == ST_OK && message != NULL) {
            n++;
            protobuf_c_message_free_unpacked(message, NULL);
        }
    } while (status == ST_ERR_TIMEOUT || (status == ST_OK && message != NULL));
    (void)pthread_join(writer, NULL);
    if (status != ST_OK) {
        atomic_fetch_add(&s->n_cancelled, 1);
        return status;
    }
    char text[16];
    (void)snprintf(text, sizeof(text), "read %d", n);
    entry_t reply = GRADD__V1__ENTRY__INIT;
    reply.key = text;
    return rpc_call_write(call, &reply.base);
}

const rpc_method_t methods[N_METHODS] = {
    {"/test.Test/Echo", RPC_UNARY, &gradd__v1__entry__descriptor, echo},
    {"/test.Test/Hold", RPC_UNARY, &gradd__v1__entry__descriptor, hold},
    {"/test.Test/Count", RPC_SERVER_STREAM, &gradd__v1__entry__descriptor, count},
    {"/test.Test/Chat", RPC_BIDI, &gradd__v1__entry__descriptor, chat},
};
static const char *const services[] = {"test.Test", NULL};

rpc_server_t *server_start(int max_calls)
{
    rpc_server_t *server = NULL;
    memset(&shared, 0, sizeof(shared));
    (void)snprintf(address, sizeof(address), "unix:%s/s", fixture_folder());
    rpc_server_options_t options = {
        .address = address,
        .methods = methods,
        .n_methods = N_METHODS,
        .arg = &shared,
        .max_calls = max_calls,
        .file_descriptor_set = rpc_descriptor_set,
        .file_descriptor_set_size = rpc_descriptor_set_size,
        .services = services,
    };
    assert_ok(rpc_server_open(&options, &server));
    return server;
}

rpc_channel_t *channel_start(void)
{
    rpc_channel_t *channel = NULL;
    assert_ok(rpc_channel_open(address, &channel));
    return channel;
}

status_t call_entry(rpc_channel_t *channel, const char *path, const char *key, const char *value, int64_t timeout_ms,
                    entry_t **reply_p, rpc_code_t *code_p)
{
    entry_t request = GRADD__V1__ENTRY__INIT;
    request.key = (char *)(uintptr_t)key;
    request.value = (char *)(uintptr_t)value;
    ProtobufCMessage *reply = NULL;
    status_t status =
        rpc_channel_call(channel, path, &request.base, &gradd__v1__entry__descriptor, timeout_ms, &reply, code_p);
    if (status == ST_OK) {
        *reply_p = (entry_t *)reply;
    }
    return status;
}

rpc_stream_t *stream_start(rpc_channel_t *channel, const char *path, const char *key, const char *value)
{
    entry_t request = GRADD__V1__ENTRY__INIT;
    request.key = (char *)(uintptr_t)key;
    request.value = (char *)(uintptr_t)value;
    rpc_stream_t *stream = NULL;
    assert_ok(
        rpc_stream_open(channel, path, key != NULL ? &request.base : NULL, &gradd__v1__entry__descriptor, &stream));
    return stream;
}

void *close_server(void *arg)
{
    closing_t *closing = arg;
    int64_t start = clock_now_ns();
    rpc_server_close(closing->server, closing->grace_ms);
    closing->took_ns = clock_now_ns() - start;
    return NULL;
}
