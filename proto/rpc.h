/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rpc: gRPC C core behind blocking calls. proto/rpc*.c are the only users of grpc headers.
 *
 * Server: each call runs its handler on a thread of its own out of a bounded pool; more calls than that are answered
 * RESOURCE_EXHAUSTED at once. Client: blocking calls with deadlines. Messages are protobuf-c messages; received ones
 * are unpacked with a capped allocator (server: 1 MiB on the wire, 16 MiB unpacked; client: 4 and 64) and every string
 * is checked to be UTF-8 without NUL. Compressed messages are refused (they have no bound). Owned handles.
 * One thread polls the server's completion queue, starts and ends calls and wakes the handlers, which never poll.
 * Threads: rpc_call_read and rpc_call_write (and the stream's pair) may run on two different threads at once; two
 * writers are serialised inside.
 * Addresses: "unix:/path" or "host:port".
 */
#ifndef GRADD_PROTO_RPC_H
#define GRADD_PROTO_RPC_H

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

/* gRPC's status codes, by number. */
typedef enum rpc_code {
    RPC_OK = 0,
    RPC_CANCELLED = 1,
    RPC_UNKNOWN = 2,
    RPC_INVALID_ARGUMENT = 3,
    RPC_DEADLINE_EXCEEDED = 4,
    RPC_NOT_FOUND = 5,
    RPC_ALREADY_EXISTS = 6,
    RPC_PERMISSION_DENIED = 7,
    RPC_RESOURCE_EXHAUSTED = 8,
    RPC_FAILED_PRECONDITION = 9,
    RPC_UNIMPLEMENTED = 12,
    RPC_INTERNAL = 13,
    RPC_UNAVAILABLE = 14
} rpc_code_t;
const char *rpc_code_name(rpc_code_t code);
/* ST_ERR_NOT_FOUND → NOT_FOUND, … for handlers; and back for clients. */
rpc_code_t rpc_code_from_status(status_t status);
status_t rpc_code_to_status(rpc_code_t code);

/* The .proto files of gradd, health and reflection as a serialised FileDescriptorSet. */
extern const uint8_t rpc_descriptor_set[];
extern const size_t rpc_descriptor_set_size;

/* Starts gRPC for the rest of the process, with the descriptors it keeps. For main() of tests that count them. */
void rpc_warm_up(void);

/* ---- server ---- */
typedef struct rpc_server rpc_server_t;
typedef struct rpc_call rpc_call_t;

typedef enum rpc_kind { RPC_UNARY, RPC_SERVER_STREAM, RPC_BIDI } rpc_kind_t;

/* Runs on the call's thread. request: the unpacked message (borrowed), NULL for bidi. Returning a failure sends
 * rpc_code_from_status and status_message() as the call's status; ST_OK sends OK. */
typedef status_t (*rpc_handler_func_t)(rpc_call_t *call, const ProtobufCMessage *request, void *arg);

typedef struct rpc_method {
    const char *path; /* "/gradd.v1.Gradd/Submit" */
    rpc_kind_t kind;
    const ProtobufCMessageDescriptor *request;
    rpc_handler_func_t handler;
} rpc_method_t;

typedef struct rpc_server_options {
    const char *address;
    const rpc_method_t *methods;
    int n_methods;
    void *arg;                          /* for the handlers */
    int max_calls;                      /* handlers at a time; 0: 256 */
    const uint8_t *file_descriptor_set; /* serialised FileDescriptorSet, for reflection; NULL: none */
    size_t file_descriptor_set_size;
    const char *const *services; /* full names, NULL-terminated: for health and reflection */
} rpc_server_options_t;

/* Binds and serves, with grpc.health.v1 and reflection (v1, v1alpha) added. Errors name the address and the cause. */
status_t rpc_server_open(const rpc_server_options_t *options, rpc_server_t **server_p);
/* Health NOT_SERVING, no new calls; waits up to grace_ms for running ones, cancels the rest, joins all threads. */
void rpc_server_close(rpc_server_t *server, int64_t grace_ms);
/* The port bound, for "host:0"; 0 for unix sockets. */
int rpc_server_port(const rpc_server_t *server);

/* True once the client is gone, cancelled, past its deadline, or the server closes. Cheap; for waiting loops.
 * A stream whose handler saw that the server closes ends with UNAVAILABLE even if the handler returns ST_OK. */
bool rpc_call_is_cancelled(rpc_call_t *call);
/* Sleeps up to timeout_ms or until rpc_call_is_cancelled; returns that. */
bool rpc_call_wait(rpc_call_t *call, int64_t timeout_ms);
/* Sends a response (unary: exactly one). ST_ERR_PEER when the client is gone. Blocks under flow control. */
status_t rpc_call_write(rpc_call_t *call, const ProtobufCMessage *message);
/*
 * Next request message of a bidi call: ST_OK with *message_p (protobuf_c_message_free_unpacked with NULL allocator), or
 * *message_p NULL when the client has finished writing; ST_ERR_TIMEOUT after timeout_ms (call again);
 * ST_ERR_PEER when it is gone; ST_ERR_PARSE for a bad message.
 */
status_t rpc_call_read(rpc_call_t *call, int64_t timeout_ms, ProtobufCMessage **message_p);
/* Client's address as gRPC gives it; borrowed from the call. */
const char *rpc_call_peer(rpc_call_t *call);

/* ---- client ---- */
typedef struct rpc_channel rpc_channel_t;
typedef struct rpc_stream rpc_stream_t;

/* Doesn't connect yet. */
status_t rpc_channel_open(const char *address, rpc_channel_t **channel_p);
void rpc_channel_close(rpc_channel_t *channel);
/*
 * Unary call. On failure *code_p (may be NULL) is the gRPC code, status_message() the server's message;
 * UNAVAILABLE names the address. timeout_ms ≤ 0: no deadline. *response_p: protobuf_c_message_free_unpacked(…, NULL).
 */
status_t rpc_channel_call(rpc_channel_t *channel, const char *path, const ProtobufCMessage *request,
                          const ProtobufCMessageDescriptor *response, int64_t timeout_ms, ProtobufCMessage **response_p,
                          rpc_code_t *code_p);
/* Server stream (request given, sent at once) or bidi (request NULL). No deadline. */
status_t rpc_stream_open(rpc_channel_t *channel, const char *path, const ProtobufCMessage *request,
                         const ProtobufCMessageDescriptor *response, rpc_stream_t **stream_p);
/* As rpc_call_read; *message_p NULL with ST_OK at the end of a stream that ended OK; otherwise the status's code
 * (never ST_ERR_TIMEOUT: a stream that ended with DEADLINE_EXCEEDED gives ST_ERR_PEER). */
status_t rpc_stream_read(rpc_stream_t *stream, int64_t timeout_ms, ProtobufCMessage **message_p);
status_t rpc_stream_write(rpc_stream_t *stream, const ProtobufCMessage *message);
status_t rpc_stream_finish_writing(rpc_stream_t *stream);
/* Final gRPC code after a failed read. */
rpc_code_t rpc_stream_code(const rpc_stream_t *stream);
/* Cancels the call: blocked and later reads and writes fail. Any thread. */
void rpc_stream_cancel(rpc_stream_t *stream);
/* Cancels what is under way and frees. No other thread may be inside a call on the stream. */
void rpc_stream_close(rpc_stream_t *stream);

#endif
