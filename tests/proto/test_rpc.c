/* SPDX-License-Identifier: Apache-2.0 */
/* The RPC server and client against each other: unary calls, hostile input, limits, addresses. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "tests/proto/rpc_service.h"
#include "tests/support/fixture.h"

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
        TEST(full_pool_refuses_at_once_and_recovers),
        TEST(closing_ends_streams_with_unavailable),
        TEST(closing_cancels_after_the_grace),
        TEST(closing_lets_running_calls_finish),
        TEST(bad_addresses_are_refused_with_the_reason),
        TEST(taken_port_is_refused),
        TEST(tcp_works_like_a_unix_socket),
        TEST(codes_survive_the_way_there_and_back),
    };
    rpc_warm_up();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
