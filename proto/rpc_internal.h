/* SPDX-License-Identifier: Apache-2.0 */
/* rpc_internal: what the files of rpc share. Only they (and their fuzz target and codec test) include it. */
#ifndef GRADD_PROTO_RPC_INTERNAL_H
#define GRADD_PROTO_RPC_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include <grpc/grpc.h>

#include "proto/rpc.h"

enum {
    RPC_SERVER_MAX_BYTES = 1024 * 1024,
    RPC_CLIENT_MAX_BYTES = 4 * 1024 * 1024,
    RPC_UNPACK_FACTOR = 16, /* unpacked size over wire size */
    RPC_MAX_PATH_BYTES = 100,
    RPC_MAX_DEPTH = 64,
    RPC_DEFAULT_MAX_CALLS = 256,
    RPC_MAX_STREAMS_PER_CONNECTION = 256,
    RPC_KEEPALIVE_MS = 30000,
    RPC_KEEPALIVE_TIMEOUT_MS = 10000,
    RPC_MIN_PING_INTERVAL_MS = 10000,
    RPC_MAX_DETAIL_BYTES = 7000, /* of a status message, percent-encoded: metadata is limited to 8 KiB */
    RPC_CLIENT_MAX_METADATA_BYTES = 64 * 1024
};

/* grpc_init with our log function / the matching grpc_shutdown. */
void rpc_library_init(void);
void rpc_library_shutdown(void);

/* "unix:/path" (at most 100 bytes of path) or "host:port"; ST_ERR_INVAL names what is wrong. */
status_t rpc_address_check(const char *address);
/* The path in "unix:/path" or "unix:///path"; NULL for others. Borrowed. */
const char *rpc_address_path(const char *address);

grpc_arg rpc_arg_int(const char *key, int value);

/* Packs into a new byte buffer (grpc_byte_buffer_destroy). */
status_t rpc_message_pack(const ProtobufCMessage *message, grpc_byte_buffer **buffer_p);
/*
 * Checks and unpacks; limit_bytes caps the memory it takes. ST_ERR_PARSE names the field. *message_p:
 * protobuf_c_message_free_unpacked with NULL allocator.
 */
status_t rpc_bytes_unpack(const ProtobufCMessageDescriptor *descriptor, const uint8_t *bytes, size_t size,
                          size_t limit_bytes, ProtobufCMessage **message_p);
/* As rpc_bytes_unpack; the buffer stays the caller's. */
status_t rpc_message_unpack(const ProtobufCMessageDescriptor *descriptor, grpc_byte_buffer *buffer, size_t limit_bytes,
                            ProtobufCMessage **message_p);

/* Reads one field's header in a serialised message: advances *cursor_p past it. is false at a malformed one. */
typedef struct rpc_wire_field {
    uint32_t number;
    uint32_t wire_type;
    const uint8_t *bytes; /* wire type 2 */
    size_t length;
    uint64_t value; /* wire type 0 */
} rpc_wire_field_t;
bool rpc_wire_next(const uint8_t **cursor_p, const uint8_t *end, rpc_wire_field_t *field_p);

/* Cuts text so that it fits into a status message. Returns a copy, mem_free; NULL when out of memory. */
char *rpc_detail_copy(const char *text);

/* Absolute CLOCK_MONOTONIC time for pthread_cond_timedwait. */
struct timespec rpc_deadline(int64_t timeout_ms);

/* ---- server ---- */
/* A tag of the completion queue: what to do when its operation is done. */
typedef struct rpc_tag {
    void (*done)(struct rpc_tag *tag, bool is_ok);
    rpc_call_t *call;
} rpc_tag_t;

typedef struct rpc_entry {
    rpc_method_t method;
    void *arg;
} rpc_entry_t;

/*
 * One call. Counted: the handler, the close notice and each operation under way hold a reference. Lock order:
 * server->mutex, call->mutex; write_mutex before both.
 */
struct rpc_call {
    rpc_server_t *server;
    const rpc_entry_t *entry;
    grpc_call *call;
    grpc_call_details details;
    grpc_metadata_array metadata;
    char *peer;
    rpc_tag_t accept_tag, close_tag, read_tag, write_tag, finish_tag;
    atomic_int n_refs;
    atomic_bool is_cancelled;
    atomic_bool saw_closing;
    int close_cancelled;         /* written by gRPC before close_tag */
    pthread_mutex_t write_mutex; /* one writer at a time */
    pthread_mutex_t mutex;       /* start_batch, and all below */
    pthread_cond_t changed;
    bool is_read_pending, is_read_done, is_read_ended;
    bool is_write_pending, is_write_ok;
    bool is_metadata_sent;
    grpc_byte_buffer *read_buffer;
    grpc_byte_buffer *response; /* unary: sent together with the status */
    /* under server->mutex */
    bool is_counted;  /* against max_calls, until its status is sent */
    bool is_admitted; /* has or had a handler */
    rpc_call_t *previous, *next;
    rpc_call_t *queue_next;
};

struct rpc_server {
    grpc_server *server;
    grpc_completion_queue *queue;
    rpc_entry_t *entries;
    int n_entries;
    int max_calls;
    int port;
    const uint8_t *file_descriptor_set;
    size_t file_descriptor_set_size;
    char **services; /* NULL-terminated */
    pthread_t poller;
    rpc_tag_t shutdown_tag;
    atomic_bool is_closing;
    pthread_mutex_t mutex;
    pthread_cond_t changed; /* a call ended, the shutdown is done */
    pthread_cond_t work;    /* something in the queue, or is_stopping */
    rpc_call_t *calls;      /* all that live */
    rpc_call_t *queue_first, *queue_last;
    int n_counted, n_admitted, n_queued;
    pthread_t *threads;
    int n_threads, n_idle;
    bool is_draining, is_stopping, is_shut_down;
};

rpc_call_t *rpc_call_new(rpc_server_t *server);
rpc_call_t *rpc_call_ref(rpc_call_t *call);
void rpc_call_unref(rpc_call_t *call);
/* Asks for the next message; mutex held. */
status_t rpc_call_start_read(rpc_call_t *call);
/* Sends the status (and a unary call's response); doesn't wait. */
void rpc_call_finish(rpc_call_t *call, rpc_code_t code, const char *message);
/* The call's request has come (or will not): called by the poller. */
void rpc_server_dispatch(rpc_call_t *call);
/* The call no longer counts against max_calls. */
void rpc_server_uncount(rpc_call_t *call);

/* Built-in services; arg is the server. */
enum { RPC_N_HEALTH_METHODS = 2, RPC_N_REFLECTION_METHODS = 2 };
extern const rpc_method_t rpc_health_methods[RPC_N_HEALTH_METHODS];
extern const rpc_method_t rpc_reflection_methods[RPC_N_REFLECTION_METHODS];

#endif
