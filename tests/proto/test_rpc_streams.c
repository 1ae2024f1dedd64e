/* SPDX-License-Identifier: Apache-2.0 */
/* Streams of the RPC server and client; health and reflection. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "grpc/health/v1/health.pb-c.h"
#include "grpc/reflection/v1/reflection.pb-c.h"
#include "tests/proto/rpc_service.h"
#include "tests/support/fixture.h"

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
    request.message_request_case = (Grpc__Reflection__V1__ServerReflectionRequest__MessageRequestCase)kind;
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(server_stream_arrives_in_order_and_ends),
        TEST(server_stream_ends_with_its_failure),
        TEST(read_of_a_quiet_stream_times_out_and_goes_on),
        TEST(bidi_stream_runs_both_ways_at_once),
        TEST(handler_sees_that_the_client_cancelled),
        TEST(cancelling_wakes_a_blocked_reader),
        TEST(health_answers),
        TEST(health_watch_tells_of_the_shutdown),
        TEST(reflection_answers),
    };
    rpc_warm_up();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
