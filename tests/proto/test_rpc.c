/* SPDX-License-Identifier: Apache-2.0 */
/* The RPC server and client against each other, over sockets in the test's folder. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "gradd.pb-c.h"
#include "grpc/health/v1/health.pb-c.h"
#include "grpc/reflection/v1/reflection.pb-c.h"
#include "proto/rpc.h"
#include "tests/support/fixture.h"

typedef Gradd__V1__Entry entry_t;

enum { WAIT_MS = 10000 };

/* What the handlers tell the tests. */
typedef struct shared {
    atomic_int n_started;
    atomic_int n_cancelled;
    atomic_bool is_released; /* "hold" calls may go */
} shared_t;

static shared_t shared;
static char address[128];

static void wait_for(atomic_int *value, int wanted)
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

static const rpc_method_t methods[] = {
    {"/test.Test/Echo", RPC_UNARY, &gradd__v1__entry__descriptor, echo},
    {"/test.Test/Hold", RPC_UNARY, &gradd__v1__entry__descriptor, hold},
    {"/test.Test/Count", RPC_SERVER_STREAM, &gradd__v1__entry__descriptor, count},
    {"/test.Test/Chat", RPC_BIDI, &gradd__v1__entry__descriptor, chat},
};
static const char *const services[] = {"test.Test", NULL};

static rpc_server_t *server_start(int max_calls)
{
    rpc_server_t *server = NULL;
    memset(&shared, 0, sizeof(shared));
    (void)snprintf(address, sizeof(address), "unix:%s/s", fixture_folder());
    rpc_server_options_t options = {
        .address = address,
        .methods = methods,
        .n_methods = sizeof(methods) / sizeof(methods[0]),
        .arg = &shared,
        .max_calls = max_calls,
        .file_descriptor_set = rpc_descriptor_set,
        .file_descriptor_set_size = rpc_descriptor_set_size,
        .services = services,
    };
    assert_ok(rpc_server_open(&options, &server));
    return server;
}

static rpc_channel_t *channel_start(void)
{
    rpc_channel_t *channel = NULL;
    assert_ok(rpc_channel_open(address, &channel));
    return channel;
}

static status_t call_entry(rpc_channel_t *channel, const char *path, const char *key, const char *value,
                           int64_t timeout_ms, entry_t **reply_p, rpc_code_t *code_p)
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

static rpc_stream_t *stream_start(rpc_channel_t *channel, const char *path, const char *key, const char *value)
{
    entry_t request = GRADD__V1__ENTRY__INIT;
    request.key = (char *)(uintptr_t)key;
    request.value = (char *)(uintptr_t)value;
    rpc_stream_t *stream = NULL;
    assert_ok(
        rpc_stream_open(channel, path, key != NULL ? &request.base : NULL, &gradd__v1__entry__descriptor, &stream));
    return stream;
}

/* ---- unary ---- */

static void unary_call_returns_the_response(void **state)
{
    (void)state;
    rpc_server_t *server = server_start(0);
    rpc_channel_t *channel = channel_start();
    entry_t *reply = NULL;
    rpc_code_t code = RPC_UNKNOWN;

    assert_ok(call_entry(channel, "/test.Test/Echo", "grüße", "π", WAIT_MS, &reply, &code));

    assert_string_equal(reply->key, "grüße");
    assert_string_equal(reply->value, "π");
    assert_int_equal(code, RPC_OK);
    protobuf_c_message_free_unpacked(&reply->base, NULL);
    rpc_channel_close(channel);
    rpc_server_close(server, WAIT_MS);
}

static void unary_failure_carries_code_and_message(void **state)
{
    (void)state;
    rpc_server_t *server = server_start(0);
    rpc_channel_t *channel = channel_start();
    entry_t *reply = NULL;
    rpc_code_t code = RPC_OK;

    assert_fails(
        call_entry(channel, "/test.Test/Echo", "fail", "job 7 is über 100 %\nsecond line", WAIT_MS, &reply, &code),
        ST_ERR_STATE, "job 7 is über 100 %\nsecond line");
    assert_int_equal(code, RPC_FAILED_PRECONDITION);
    assert_fails(call_entry(channel, "/test.Test/Echo", "silent", "", WAIT_MS, &reply, &code), ST_ERR_INTERNAL,
                 "/test.Test/Echo gave no response");

    rpc_channel_close(channel);
    rpc_server_close(server, WAIT_MS);
}

static void long_failure_message_is_cut_not_lost(void **state)
{
    (void)state;
    rpc_server_t *server = server_start(0);
    rpc_channel_t *channel = channel_start();
    entry_t *reply = NULL;
    char *text = mem_alloc(100001);
    memset(text, 'a', 100000);
    text[100000] = '\0';

    assert_fails(call_entry(channel, "/test.Test/Echo", "fail", text, WAIT_MS, &reply, NULL), ST_ERR_STATE, "aaaaaaaa");

    mem_free(text);
    rpc_channel_close(channel);
    rpc_server_close(server, WAIT_MS);
}

static void *echo_often(void *arg)
{
    intptr_t n_wrong = 0;
    for (int i = 0; i < 50; i++) {
        char text[32];
        (void)snprintf(text, sizeof(text), "%p-%d", (void *)&n_wrong, i);
        entry_t *reply = NULL;
        if (call_entry(arg, "/test.Test/Echo", text, "", WAIT_MS, &reply, NULL) != ST_OK) {
            n_wrong++;
            continue;
        }
        n_wrong += strcmp(reply->key, text) != 0;
        protobuf_c_message_free_unpacked(&reply->base, NULL);
    }
    return (void *)n_wrong;
}

static void calls_from_many_threads_get_their_own_answers(void **state)
{
    (void)state;
    rpc_server_t *server = server_start(0);
    rpc_channel_t *channel = channel_start();
    pthread_t threads[8];

    for (int i = 0; i < 8; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, echo_often, channel), 0);
    }
    for (int i = 0; i < 8; i++) {
        void *n_wrong = NULL;
        (void)pthread_join(threads[i], &n_wrong);
        assert_null(n_wrong);
    }

    rpc_channel_close(channel);
    rpc_server_close(server, WAIT_MS);
}

static void deadline_ends_the_call_and_the_handler_sees_it(void **state)
{
    (void)state;
    rpc_server_t *server = server_start(0);
    rpc_channel_t *channel = channel_start();
    entry_t *reply = NULL;
    rpc_code_t code = RPC_OK;
    int64_t start = clock_now_ns();

    assert_int_equal(call_entry(channel, "/test.Test/Hold", "x", "", 100, &reply, &code), ST_ERR_TIMEOUT);

    assert_int_equal(code, RPC_DEADLINE_EXCEEDED);
    assert_true(clock_now_ns() - start < 5 * CLOCK_NS_PER_S);
    wait_for(&shared.n_cancelled, 1);
    rpc_channel_close(channel);
    rpc_server_close(server, WAIT_MS);
}

static void absent_server_is_named(void **state)
{
    (void)state;
    (void)snprintf(address, sizeof(address), "unix:%s/none", fixture_folder());
    rpc_channel_t *channel = channel_start();
    entry_t *reply = NULL;
    rpc_code_t code = RPC_OK;

    assert_fails(call_entry(channel, "/test.Test/Echo", "a", "b", WAIT_MS, &reply, &code), ST_ERR_PEER, address);

    assert_int_equal(code, RPC_UNAVAILABLE);
    assert_non_null(strstr(status_message(), "No such file"));
    rpc_channel_close(channel);
}

static void client_finds_a_restarted_server(void **state)
{
    (void)state;
    rpc_server_t *server = server_start(0);
    rpc_channel_t *channel = channel_start();
    entry_t *reply = NULL;
    assert_ok(call_entry(channel, "/test.Test/Echo", "a", "b", WAIT_MS, &reply, NULL));
    protobuf_c_message_free_unpacked(&reply->base, NULL);
    rpc_server_close(server, 0);
    assert_int_equal(call_entry(channel, "/test.Test/Echo", "a", "b", WAIT_MS, &reply, NULL), ST_ERR_PEER);
    server = server_start(0);

    int64_t deadline = clock_now_ns() + WAIT_MS * CLOCK_NS_PER_MS;
    status_t status;
    do {
        status = call_entry(channel, "/test.Test/Echo", "a", "b", WAIT_MS, &reply, NULL);
        clock_sleep_ms(20);
    } while (status == ST_ERR_PEER && clock_now_ns() < deadline);

    assert_ok(status);
    protobuf_c_message_free_unpacked(&reply->base, NULL);
    rpc_channel_close(channel);
    rpc_server_close(server, WAIT_MS);
}

/* ---- what strangers send ---- */

static void unknown_method_is_unimplemented(void **state)
{
    (void)state;
    rpc_server_t *server = server_start(0);
    rpc_channel_t *channel = channel_start();
    entry_t *reply = NULL;
    rpc_code_t code = RPC_OK;

    assert_fails(call_entry(channel, "/test.Test/Nothing", "a", "b", WAIT_MS, &reply, &code), ST_ERR_UNSUPPORTED,
                 "unknown method /test.Test/Nothing");

    assert_int_equal(code, RPC_UNIMPLEMENTED);
    rpc_channel_close(channel);
    rpc_server_close(server, WAIT_MS);
}

static void too_large_message_is_refused(void **state)
{
    (void)state;
    rpc_server_t *server = server_start(0);
    rpc_channel_t *channel = channel_start();
    entry_t *reply = NULL;
    rpc_code_t code = RPC_OK;
    size_t size = 1024 * 1024 + 1;
    char *text = mem_alloc(size + 1);
    memset(text, 'a', size);
    text[size] = '\0';

    assert_int_equal(call_entry(channel, "/test.Test/Echo", "k", text, WAIT_MS, &reply, &code), ST_ERR_BUSY);
    assert_int_equal(code, RPC_RESOURCE_EXHAUSTED);
    assert_non_null(strstr(status_message(), "1048576"));
    text[size - 100] = '\0';
    assert_ok(call_entry(channel, "/test.Test/Echo", "k", text, WAIT_MS, &reply, &code));

    protobuf_c_message_free_unpacked(&reply->base, NULL);
    mem_free(text);
    rpc_channel_close(channel);
    rpc_server_close(server, WAIT_MS);
}

static void string_that_is_not_utf8_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"a\xff", "\xc0\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe2\x82"};
    rpc_server_t *server = server_start(0);
    rpc_channel_t *channel = channel_start();

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        entry_t *reply = NULL;
        rpc_code_t code = RPC_OK;
        assert_fails(call_entry(channel, "/test.Test/Echo", "k", bad[i], WAIT_MS, &reply, &code), ST_ERR_INVAL,
                     "gradd.v1.Entry.value: not UTF-8");
        assert_int_equal(code, RPC_INVALID_ARGUMENT);
    }

    rpc_channel_close(channel);
    rpc_server_close(server, WAIT_MS);
}

/* Sends `bytes` as the Entry message's wire form: a LogChunk's bytes field has the same number and wire type. */
static status_t call_bytes(rpc_channel_t *channel, uint8_t *bytes, size_t size)
{
    Gradd__V1__LogChunk chunk = GRADD__V1__LOG_CHUNK__INIT;
    chunk.has_data = 1;
    chunk.data.data = bytes;
    chunk.data.len = size;
    ProtobufCMessage *reply = NULL;
    status_t status =
        rpc_channel_call(channel, "/test.Test/Echo", &chunk.base, &gradd__v1__entry__descriptor, WAIT_MS, &reply, NULL);
    if (status == ST_OK) {
        protobuf_c_message_free_unpacked(reply, NULL);
    }
    return status;
}

static void string_with_a_nul_is_refused(void **state)
{
    (void)state;
    rpc_server_t *server = server_start(0);
    rpc_channel_t *channel = channel_start();

    assert_fails(call_bytes(channel, (uint8_t[]){'a', 0, 'b'}, 3), ST_ERR_INVAL,
                 "gradd.v1.Entry.value: a NUL character at byte 1");

    rpc_channel_close(channel);
    rpc_server_close(server, WAIT_MS);
}

static void message_that_grows_when_unpacked_is_refused(void **state)
{
    (void)state;
    rpc_server_t *server = server_start(0);
    rpc_channel_t *channel = channel_start();
    Gradd__V1__Problem problem = GRADD__V1__PROBLEM__INIT;
    Gradd__V1__Problem **problems = mem_calloc(400000, sizeof(*problems));
    for (size_t i = 0; i < 400000; i++) {
        problems[i] = &problem;
    }
    Gradd__V1__ValidateResponse bomb = GRADD__V1__VALIDATE_RESPONSE__INIT;
    bomb.n_problems = 400000; /* 800 KB on the wire; as unknown or as known fields, more than 16 MiB unpacked */
    bomb.problems = problems;
    ProtobufCMessage *reply = NULL;

    assert_fails(
        rpc_channel_call(channel, "/test.Test/Echo", &bomb.base, &gradd__v1__entry__descriptor, WAIT_MS, &reply, NULL),
        ST_ERR_INVAL, "more than 16777216 bytes when unpacked");

    mem_free(problems);
    rpc_channel_close(channel);
    rpc_server_close(server, WAIT_MS);
}

static void garbage_on_the_socket_harms_nobody(void **state)
{
    (void)state;
    rpc_server_t *server = server_start(0);
    rpc_channel_t *channel = channel_start();
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    (void)snprintf(name.sun_path, sizeof(name.sun_path), "%s", address + 5);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&name, sizeof(name)), 0);
    static const char text[] = "GET / HTTP/1.1\r\n\r\n\x00\x01\x02\xff\xff";

    assert_true(write(fd, text, sizeof(text)) > 0);
    (void)close(fd);

    entry_t *reply = NULL;
    assert_ok(call_entry(channel, "/test.Test/Echo", "a", "b", WAIT_MS, &reply, NULL));
    protobuf_c_message_free_unpacked(&reply->base, NULL);
    rpc_channel_close(channel);
    rpc_server_close(server, WAIT_MS);
}

/* ---- streams ---- */

static void server_stream_arrives_in_order_and_ends(void **state)
{
    (void)state;
    rpc_server_t *server = server_start(0);
    rpc_channel_t *channel = channel_start();
    rpc_stream_t *stream = stream_start(channel, "/test.Test/Count", "n", "1000");
    ProtobufCMessage *message = NULL;

    for (int i = 0; i < 1000; i++) {
        assert_ok(rpc_stream_read(stream, WAIT_MS, &message));
        assert_int_equal(atoi(((entry_t *)message)->key), i);
        protobuf_c_message_free_unpacked(message, NULL);
    }
    assert_ok(rpc_stream_read(stream, WAIT_MS, &message));

    assert_null(message);
    assert_ok(rpc_stream_read(stream, WAIT_MS, &message));
    rpc_stream_close(stream);
    rpc_channel_close(channel);
    rpc_server_close(server, WAIT_MS);
}

static void server_stream_ends_with_its_failure(void **state)
{
    (void)state;
    rpc_server_t *server = server_start(0);
    rpc_channel_t *channel = channel_start();
    rpc_stream_t *stream = stream_start(channel, "/test.Test/Count", "fail", "1");
    ProtobufCMessage *message = NULL;

    assert_ok(rpc_stream_read(stream, WAIT_MS, &message));
    protobuf_c_message_free_unpacked(message, NULL);
    assert_fails(rpc_stream_read(stream, WAIT_MS, &message), ST_ERR_NOT_FOUND, "after 1");

    assert_int_equal(rpc_stream_code(stream), RPC_NOT_FOUND);
    rpc_stream_close(stream);
    rpc_channel_close(channel);
    rpc_server_close(server, WAIT_MS);
}

static void read_of_a_quiet_stream_times_out_and_goes_on(void **state)
{
    (void)state;
    rpc_server_t *server = server_start(0);
    rpc_channel_t *channel = channel_start();
    rpc_stream_t *stream = stream_start(channel, "/test.Test/Chat", NULL, NULL);
    ProtobufCMessage *message = NULL;
    for (int i = 0; i < 100; i++) {
        assert_ok(rpc_stream_read(stream, WAIT_MS, &message));
        protobuf_c_message_free_unpacked(message, NULL);
    }

    assert_fails(rpc_stream_read(stream, 20, &message), ST_ERR_TIMEOUT, "no message");
    assert_fails(rpc_stream_read(stream, 0, &message), ST_ERR_TIMEOUT, "no message");
    assert_int_equal(rpc_stream_code(stream), RPC_OK);
    assert_ok(rpc_stream_finish_writing(stream));

    assert_ok(rpc_stream_read(stream, WAIT_MS, &message));
    assert_string_equal(((entry_t *)message)->key, "read 0");
    protobuf_c_message_free_unpacked(message, NULL);
    assert_ok(rpc_stream_read(stream, WAIT_MS, &message));
    assert_null(message);
    assert_fails(rpc_stream_finish_writing(stream), ST_ERR_STATE, "has ended");
    rpc_stream_close(stream);
    rpc_channel_close(channel);
    rpc_server_close(server, WAIT_MS);
}

static void *client_write(void *arg)
{
    for (int i = 0; i < 200; i++) {
        entry_t message = GRADD__V1__ENTRY__INIT;
        message.key = (char[]){"c"};
        if (rpc_stream_write(arg, &message.base) != ST_OK) {
            return NULL;
        }
    }
    (void)rpc_stream_finish_writing(arg);
    return NULL;
}

static void bidi_stream_runs_both_ways_at_once(void **state)
{
    (void)state;
    rpc_server_t *server = server_start(0);
    rpc_channel_t *channel = channel_start();
    rpc_stream_t *stream = stream_start(channel, "/test.Test/Chat", NULL, NULL);
    pthread_t writer;
    assert_int_equal(pthread_create(&writer, NULL, client_write, stream), 0);
    ProtobufCMessage *message = NULL;

    for (int i = 0; i < 100; i++) {
        char expected[16];
        (void)snprintf(expected, sizeof(expected), "s%d", i);
        assert_ok(rpc_stream_read(stream, WAIT_MS, &message));
        assert_string_equal(((entry_t *)message)->key, expected);
        protobuf_c_message_free_unpacked(message, NULL);
    }
    assert_ok(rpc_stream_read(stream, WAIT_MS, &message));
    assert_string_equal(((entry_t *)message)->key, "read 200");
    protobuf_c_message_free_unpacked(message, NULL);
    assert_ok(rpc_stream_read(stream, WAIT_MS, &message));

    assert_null(message);
    (void)pthread_join(writer, NULL);
    rpc_stream_close(stream);
    rpc_channel_close(channel);
    rpc_server_close(server, WAIT_MS);
}

static void handler_sees_that_the_client_cancelled(void **state)
{
    (void)state;
    rpc_server_t *server = server_start(0);
    rpc_channel_t *channel = channel_start();
    rpc_stream_t *counting = stream_start(channel, "/test.Test/Count", "endless", "");
    rpc_stream_t *chatting = stream_start(channel, "/test.Test/Chat", NULL, NULL);
    wait_for(&shared.n_started, 2);

    rpc_stream_close(counting);
    rpc_stream_close(chatting);

    wait_for(&shared.n_cancelled, 2);
    rpc_channel_close(channel);
    rpc_server_close(server, WAIT_MS);
}

static void cancelling_wakes_a_blocked_reader(void **state)
{
    (void)state;
    rpc_server_t *server = server_start(0);
    rpc_channel_t *channel = channel_start();
    rpc_stream_t *stream = stream_start(channel, "/test.Test/Chat", NULL, NULL);
    ProtobufCMessage *message = NULL;
    for (int i = 0; i < 100; i++) {
        assert_ok(rpc_stream_read(stream, WAIT_MS, &message));
        protobuf_c_message_free_unpacked(message, NULL);
    }

    rpc_stream_cancel(stream);

    assert_int_equal(rpc_stream_read(stream, -1, &message), ST_ERR_CANCELLED);
    assert_int_equal(rpc_stream_code(stream), RPC_CANCELLED);
    rpc_stream_close(stream);
    rpc_channel_close(channel);
    rpc_server_close(server, WAIT_MS);
}

/* ---- limits and closing ---- */

static void full_pool_refuses_at_once_and_recovers(void **state)
{
    (void)state;
    rpc_server_t *server = server_start(2);
    rpc_channel_t *channel = channel_start();
    rpc_stream_t *first = stream_start(channel, "/test.Test/Count", "endless", "");
    rpc_stream_t *second = stream_start(channel, "/test.Test/Count", "endless", "");
    wait_for(&shared.n_started, 2);
    entry_t *reply = NULL;
    rpc_code_t code = RPC_OK;

    assert_fails(call_entry(channel, "/test.Test/Echo", "a", "b", WAIT_MS, &reply, &code), ST_ERR_BUSY,
                 "2 calls are being served already");
    assert_int_equal(code, RPC_RESOURCE_EXHAUSTED);
    rpc_stream_close(first);
    wait_for(&shared.n_cancelled, 1);
    int64_t deadline = clock_now_ns() + WAIT_MS * CLOCK_NS_PER_MS;
    status_t status;
    do {
        status = call_entry(channel, "/test.Test/Echo", "a", "b", WAIT_MS, &reply, NULL);
    } while (status == ST_ERR_BUSY && clock_now_ns() < deadline);

    assert_ok(status);
    protobuf_c_message_free_unpacked(&reply->base, NULL);
    rpc_stream_close(second);
    rpc_channel_close(channel);
    rpc_server_close(server, WAIT_MS);
}

typedef struct closing {
    rpc_server_t *server;
    int64_t grace_ms, took_ns;
} closing_t;

static void *close_server(void *arg)
{
    closing_t *closing = arg;
    int64_t start = clock_now_ns();
    rpc_server_close(closing->server, closing->grace_ms);
    closing->took_ns = clock_now_ns() - start;
    return NULL;
}

static void closing_ends_streams_with_unavailable(void **state)
{
    (void)state;
    closing_t closing = {server_start(0), WAIT_MS, 0};
    rpc_channel_t *channel = channel_start();
    rpc_stream_t *counting = stream_start(channel, "/test.Test/Count", "endless", "");
    rpc_stream_t *chatting = stream_start(channel, "/test.Test/Chat", NULL, NULL);
    wait_for(&shared.n_started, 2);
    pthread_t closer;
    assert_int_equal(pthread_create(&closer, NULL, close_server, &closing), 0);

    rpc_stream_t *streams[] = {counting, chatting};
    for (int i = 0; i < 2; i++) {
        ProtobufCMessage *message = NULL;
        status_t status;
        while ((status = rpc_stream_read(streams[i], WAIT_MS, &message)) == ST_OK && message != NULL) {
            protobuf_c_message_free_unpacked(message, NULL);
        }
        assert_int_equal(status, ST_ERR_PEER);
        assert_int_equal(rpc_stream_code(streams[i]), RPC_UNAVAILABLE);
    }

    (void)pthread_join(closer, NULL);
    assert_true(closing.took_ns < 5 * CLOCK_NS_PER_S);
    rpc_stream_close(counting);
    rpc_stream_close(chatting);
    rpc_channel_close(channel);
}

static void closing_cancels_after_the_grace(void **state)
{
    (void)state;
    closing_t closing = {server_start(0), 200, 0};
    rpc_channel_t *channel = channel_start();
    rpc_stream_t *stalled = stream_start(channel, "/test.Test/Count", "endless", ""); /* nobody reads: it blocks */
    wait_for(&shared.n_started, 1);

    (void)close_server(&closing);

    assert_true(closing.took_ns < 5 * CLOCK_NS_PER_S);
    assert_int_equal(atomic_load(&shared.n_cancelled), 1);
    rpc_stream_close(stalled);
    rpc_channel_close(channel);
}

static void *hold_call(void *arg)
{
    entry_t *reply = NULL;
    status_t status = call_entry(arg, "/test.Test/Hold", "stubborn", "", WAIT_MS, &reply, NULL);
    if (status == ST_OK) {
        protobuf_c_message_free_unpacked(&reply->base, NULL);
    }
    return (void *)(intptr_t)status;
}

static void closing_lets_running_calls_finish(void **state)
{
    (void)state;
    closing_t closing = {server_start(0), WAIT_MS, 0};
    rpc_channel_t *channel = channel_start();
    pthread_t caller, closer;
    assert_int_equal(pthread_create(&caller, NULL, hold_call, channel), 0);
    wait_for(&shared.n_started, 1);

    assert_int_equal(pthread_create(&closer, NULL, close_server, &closing), 0);
    atomic_store(&shared.is_released, true);

    void *status = NULL;
    (void)pthread_join(caller, &status);
    assert_int_equal((intptr_t)status, ST_OK);
    (void)pthread_join(closer, NULL);
    rpc_channel_close(channel);
}

/* ---- addresses ---- */

static status_t open_at(const char *where, rpc_server_t **server_p)
{
    rpc_server_options_t options = {.address = where};
    return rpc_server_open(&options, server_p);
}

static void bad_addresses_are_refused_with_the_reason(void **state)
{
    (void)state;
    rpc_server_t *server = NULL;
    rpc_channel_t *channel = NULL;
    char path[160];
    memset(path, 'x', sizeof(path));
    memcpy(path, "unix:/", 6);
    path[sizeof(path) - 1] = '\0';

    assert_fails(open_at(path, &server), ST_ERR_INVAL, "has 154 bytes; at most 100 fit");
    assert_fails(rpc_channel_open(path, &channel), ST_ERR_INVAL, "has 154 bytes");
    assert_fails(open_at("unix:", &server), ST_ERR_INVAL, "has no path");
    assert_fails(open_at("nonsense", &server), ST_ERR_INVAL, "neither \"unix:/path\" nor \"host:port\"");
    assert_fails(open_at("host:99999", &server), ST_ERR_INVAL, "neither");
    assert_fails(open_at("", &server), ST_ERR_INVAL, "address is empty");
    assert_fails(open_at("unix:/no/such/folder/socket", &server), ST_ERR_NOT_FOUND,
                 "cannot listen on unix:/no/such/folder/socket: No such file or directory");
}

static void taken_port_is_refused(void **state)
{
    (void)state;
    rpc_server_t *first = NULL;
    rpc_server_t *second = NULL;
    assert_ok(open_at("127.0.0.1:0", &first));
    char taken[64];
    (void)snprintf(taken, sizeof(taken), "127.0.0.1:%d", rpc_server_port(first));
    assert_true(rpc_server_port(first) > 0);

    assert_fails(open_at(taken, &second), ST_ERR_EXISTS, "Address already in use");

    rpc_server_close(first, 0);
}

static void tcp_works_like_a_unix_socket(void **state)
{
    (void)state;
    rpc_server_options_t options = {.address = "127.0.0.1:0", .methods = methods, .n_methods = 4, .arg = &shared};
    rpc_server_t *server = NULL;
    assert_ok(rpc_server_open(&options, &server));
    (void)snprintf(address, sizeof(address), "127.0.0.1:%d", rpc_server_port(server));
    rpc_channel_t *channel = channel_start();
    entry_t *reply = NULL;

    assert_ok(call_entry(channel, "/test.Test/Echo", "a", "b", WAIT_MS, &reply, NULL));

    protobuf_c_message_free_unpacked(&reply->base, NULL);
    rpc_channel_close(channel);
    rpc_server_close(server, WAIT_MS);
}

/* ---- built-in services ---- */

static void health_answers(void **state)
{
    (void)state;
    rpc_server_t *server = server_start(0);
    rpc_channel_t *channel = channel_start();
    Grpc__Health__V1__HealthCheckRequest request = GRPC__HEALTH__V1__HEALTH_CHECK_REQUEST__INIT;
    static const char *const known[] = {"", "test.Test"};
    ProtobufCMessage *reply = NULL;

    for (int i = 0; i < 2; i++) {
        request.service = (char *)(uintptr_t)known[i];
        assert_ok(rpc_channel_call(channel, "/grpc.health.v1.Health/Check", &request.base,
                                   &grpc__health__v1__health_check_response__descriptor, WAIT_MS, &reply, NULL));
        assert_int_equal(((Grpc__Health__V1__HealthCheckResponse *)reply)->status, 1);
        protobuf_c_message_free_unpacked(reply, NULL);
    }
    request.service = (char[]){"other"};

    assert_fails(rpc_channel_call(channel, "/grpc.health.v1.Health/Check", &request.base,
                                  &grpc__health__v1__health_check_response__descriptor, WAIT_MS, &reply, NULL),
                 ST_ERR_NOT_FOUND, "no service \"other\"");
    rpc_channel_close(channel);
    rpc_server_close(server, WAIT_MS);
}

static void health_watch_tells_of_the_shutdown(void **state)
{
    (void)state;
    closing_t closing = {server_start(0), WAIT_MS, 0};
    rpc_channel_t *channel = channel_start();
    Grpc__Health__V1__HealthCheckRequest request = GRPC__HEALTH__V1__HEALTH_CHECK_REQUEST__INIT;
    rpc_stream_t *known = NULL;
    rpc_stream_t *unknown = NULL;
    ProtobufCMessage *message = NULL;
    assert_ok(rpc_stream_open(channel, "/grpc.health.v1.Health/Watch", &request.base,
                              &grpc__health__v1__health_check_response__descriptor, &known));
    request.service = (char[]){"other"};
    assert_ok(rpc_stream_open(channel, "/grpc.health.v1.Health/Watch", &request.base,
                              &grpc__health__v1__health_check_response__descriptor, &unknown));

    assert_ok(rpc_stream_read(known, WAIT_MS, &message));
    assert_int_equal(((Grpc__Health__V1__HealthCheckResponse *)message)->status, 1);
    protobuf_c_message_free_unpacked(message, NULL);
    assert_ok(rpc_stream_read(unknown, WAIT_MS, &message));
    assert_int_equal(((Grpc__Health__V1__HealthCheckResponse *)message)->status, 3);
    protobuf_c_message_free_unpacked(message, NULL);
    pthread_t closer;
    assert_int_equal(pthread_create(&closer, NULL, close_server, &closing), 0);

    assert_ok(rpc_stream_read(known, WAIT_MS, &message));
    assert_int_equal(((Grpc__Health__V1__HealthCheckResponse *)message)->status, 2);
    protobuf_c_message_free_unpacked(message, NULL);
    assert_int_equal(rpc_stream_read(known, WAIT_MS, &message), ST_ERR_PEER);
    (void)pthread_join(closer, NULL);
    rpc_stream_close(known);
    rpc_stream_close(unknown);
    rpc_channel_close(channel);
}

typedef Grpc__Reflection__V1__ServerReflectionRequest reflection_request_t;
typedef Grpc__Reflection__V1__ServerReflectionResponse reflection_response_t;

static reflection_response_t *reflection_ask(rpc_stream_t *stream, int kind, const char *text)
{
    reflection_request_t request = GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__INIT;
    request.message_request_case = kind;
    request.file_by_filename = (char *)(uintptr_t)text;
    ProtobufCMessage *message = NULL;
    assert_ok(rpc_stream_write(stream, &request.base));
    assert_ok(rpc_stream_read(stream, WAIT_MS, &message));
    assert_non_null(message);
    reflection_response_t *response = (reflection_response_t *)message;
    assert_int_equal(response->original_request->message_request_case, kind);
    return response;
}

static void reflection_answers(void **state)
{
    (void)state;
    static const char *const symbols[] = {
        "gradd.v1.Gradd",        "gradd.v1.Gradd.Submit",           "gradd.v1.Job",   "gradd.v1.Job.state",
        "gradd.v1.Command.Kind", "gradd.v1.Goodbye.Outcome.PAUSED", "gradd.v1.QUEUED"};
    static const char *const unknown[] = {"gradd.v1.Nothing", "gradd", "gradd.v1", "", "gradd.v1.Job.", "Job"};
    static const char *const paths[] = {"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
                                        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"};
    rpc_server_t *server = server_start(0);
    rpc_channel_t *channel = channel_start();
    for (int p = 0; p < 2; p++) {
        rpc_stream_t *stream = NULL;
        assert_ok(rpc_stream_open(channel, paths[p], NULL,
                                  &grpc__reflection__v1__server_reflection_response__descriptor, &stream));

        reflection_response_t *r = reflection_ask(stream, 7, "");
        assert_int_equal(r->list_services_response->n_service, 4);
        assert_string_equal(r->list_services_response->service[3]->name, "test.Test");
        protobuf_c_message_free_unpacked(&r->base, NULL);
        for (size_t i = 0; i < sizeof(symbols) / sizeof(symbols[0]); i++) {
            r = reflection_ask(stream, 4, symbols[i]);
            assert_int_equal(r->message_response_case, 4);
            ProtobufCBinaryData file = r->file_descriptor_response->file_descriptor_proto[0];
            assert_memory_equal(file.data, "\x0a\x0bgradd.proto\x12\x08gradd.v1", 23);
            protobuf_c_message_free_unpacked(&r->base, NULL);
        }
        for (size_t i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++) {
            r = reflection_ask(stream, 4, unknown[i]);
            assert_int_equal(r->message_response_case, 7);
            assert_int_equal(r->error_response->error_code, RPC_NOT_FOUND);
            protobuf_c_message_free_unpacked(&r->base, NULL);
        }
        r = reflection_ask(stream, 3, "grpc/health/v1/health.proto");
        assert_int_equal(r->message_response_case, 4);
        protobuf_c_message_free_unpacked(&r->base, NULL);
        r = reflection_ask(stream, 3, "job.proto");
        assert_string_equal(r->error_response->error_message, "no file \"job.proto\"");
        protobuf_c_message_free_unpacked(&r->base, NULL);
        r = reflection_ask(stream, 6, "gradd.v1.Job");
        assert_int_equal(r->error_response->error_code, RPC_NOT_FOUND);
        protobuf_c_message_free_unpacked(&r->base, NULL);
        assert_ok(rpc_stream_finish_writing(stream));
        ProtobufCMessage *message = NULL;
        assert_ok(rpc_stream_read(stream, WAIT_MS, &message));
        assert_null(message);
        rpc_stream_close(stream);
    }
    rpc_channel_close(channel);
    rpc_server_close(server, WAIT_MS);
}

static void codes_survive_the_way_there_and_back(void **state)
{
    (void)state;
    static const status_t kept[] = {ST_OK,         ST_ERR_INVAL,      ST_ERR_UNSUPPORTED, ST_ERR_NOT_FOUND,
                                    ST_ERR_EXISTS, ST_ERR_PERMISSION, ST_ERR_PEER,        ST_ERR_TIMEOUT,
                                    ST_ERR_STATE,  ST_ERR_BUSY,       ST_ERR_CANCELLED,   ST_ERR_INTERNAL};
    for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++) {
        assert_int_equal(rpc_code_to_status(rpc_code_from_status(kept[i])), kept[i]);
    }
    assert_string_equal(rpc_code_name(RPC_UNAVAILABLE), "UNAVAILABLE");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(unary_call_returns_the_response),
        TEST(unary_failure_carries_code_and_message),
        TEST(long_failure_message_is_cut_not_lost),
        TEST(calls_from_many_threads_get_their_own_answers),
        TEST(deadline_ends_the_call_and_the_handler_sees_it),
        TEST(absent_server_is_named),
        TEST(client_finds_a_restarted_server),
        TEST(unknown_method_is_unimplemented),
        TEST(too_large_message_is_refused),
        TEST(string_that_is_not_utf8_is_refused),
        TEST(string_with_a_nul_is_refused),
        TEST(message_that_grows_when_unpacked_is_refused),
        TEST(garbage_on_the_socket_harms_nobody),
        TEST(server_stream_arrives_in_order_and_ends),
        TEST(server_stream_ends_with_its_failure),
        TEST(read_of_a_quiet_stream_times_out_and_goes_on),
        TEST(bidi_stream_runs_both_ways_at_once),
        TEST(handler_sees_that_the_client_cancelled),
        TEST(cancelling_wakes_a_blocked_reader),
        TEST(full_pool_refuses_at_once_and_recovers),
        TEST(closing_ends_streams_with_unavailable),
        TEST(closing_cancels_after_the_grace),
        TEST(closing_lets_running_calls_finish),
        TEST(bad_addresses_are_refused_with_the_reason),
        TEST(taken_port_is_refused),
        TEST(tcp_works_like_a_unix_socket),
        TEST(health_answers),
        TEST(health_watch_tells_of_the_shutdown),
        TEST(reflection_answers),
        TEST(codes_survive_the_way_there_and_back),
    };
    rpc_warm_up();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
