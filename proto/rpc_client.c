/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rpc_client: blocking calls on a channel. Each call has a completion queue of its own, plucked by whoever waits, so
 * that no thread is needed.
 */
#include <string.h>

#include <grpc/grpc_security.h>
#include <grpc/slice.h>
#include <grpc/support/time.h>

#include "base/assert.h"
#include "base/mem.h"
#include "proto/rpc_internal.h"

struct rpc_channel {
    grpc_channel *channel;
    char *address;
};

struct rpc_stream {
    rpc_channel_t *channel;
    grpc_call *call;
    grpc_completion_queue *queue;
    const ProtobufCMessageDescriptor *response;
    grpc_byte_buffer *request; /* of a server stream, until it is sent */
    grpc_byte_buffer *read_buffer;
    grpc_metadata_array initial_metadata, trailing_metadata;
    grpc_status_code code;
    grpc_slice details;
    char start_tag, initial_tag, status_tag, read_tag, write_tag; /* their addresses are the tags */
    pthread_mutex_t send_mutex;                                   /* writers, and batches that send */
    pthread_mutex_t read_mutex;                                   /* readers, and batches that receive */
    bool is_read_pending, is_finished, has_finished_writing;
    atomic_bool is_cancelled; /* by us */
};

status_t rpc_channel_open(const char *address, rpc_channel_t **channel_p)
{
    status_t status = rpc_address_check(address);
    if (status != ST_OK) {
        return status;
    }
    rpc_channel_t *channel = mem_zalloc(sizeof(*channel));
    char *copy = mem_strdup(address);
    if (channel == NULL || copy == NULL) {
        mem_free(channel);
        mem_free(copy);
        return ST_FAIL(ST_ERR_NOMEM, "channel to %s", address);
    }
    rpc_library_init();
    grpc_arg args[] = {
        rpc_arg_int(GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, RPC_CLIENT_MAX_BYTES),
        rpc_arg_int(GRPC_ARG_MAX_METADATA_SIZE, RPC_CLIENT_MAX_METADATA_BYTES),
        rpc_arg_int(GRPC_COMPRESSION_CHANNEL_ENABLED_ALGORITHMS_BITSET, 1), /* none */
        rpc_arg_int(GRPC_ARG_KEEPALIVE_TIME_MS, RPC_KEEPALIVE_MS),
        rpc_arg_int(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, RPC_KEEPALIVE_TIMEOUT_MS),
        rpc_arg_int(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1),
        rpc_arg_int(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0),
        rpc_arg_int(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 50),
        rpc_arg_int(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000),
        rpc_arg_int(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 3000), /* the time a connection attempt may take */
        rpc_arg_int(GRPC_ARG_DNS_MIN_TIME_BETWEEN_RESOLUTIONS_MS, 1000),
        rpc_arg_int(GRPC_ARG_ENABLE_HTTP_PROXY, 0), /* http_proxy is for the world outside, not for the cluster */
        rpc_arg_int(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1),
        rpc_arg_int(GRPC_ARG_SERVICE_CONFIG_DISABLE_RESOLUTION, 1),
        rpc_arg_int(GRPC_ARG_ENABLE_RETRIES, 0),
    };
    grpc_channel_args channel_args = {sizeof(args) / sizeof(args[0]), args};
    grpc_channel_credentials *credentials = grpc_insecure_credentials_create();
    channel->channel = grpc_channel_create(address, credentials, &channel_args);
    grpc_channel_credentials_release(credentials);
    channel->address = copy;
    *channel_p = channel;
    return ST_OK;
}

void rpc_channel_close(rpc_channel_t *channel)
{
    if (channel == NULL) {
        return;
    }
    grpc_channel_destroy(channel->channel);
    mem_free(channel->address);
    mem_free(channel);
    rpc_library_shutdown();
}

/* A server that is shutting down has gRPC cancel new calls, with these very details: it is gone, as far as we care. */
static rpc_code_t code_read(grpc_status_code code, grpc_slice details)
{
    bool is_dropped = code == GRPC_STATUS_CANCELLED && grpc_slice_str_cmp(details, "CANCELLED") == 0;
    return is_dropped ? RPC_UNAVAILABLE : (rpc_code_t)code;
}

/* Records the failure of a call that ended with a code. */
static status_t code_fail(const rpc_channel_t *channel, rpc_code_t code, grpc_slice details)
{
    int length = (int)GRPC_SLICE_LENGTH(details);
    const char *text = (const char *)GRPC_SLICE_START_PTR(details);
    if (code == RPC_UNAVAILABLE) {
        return ST_FAIL(ST_ERR_PEER, "%s: %.*s", channel->address, length, text);
    }
    if (length == 0) {
        return ST_FAIL(rpc_code_to_status(code), "%s answered %s", channel->address, rpc_code_name(code));
    }
    return ST_FAIL(rpc_code_to_status(code), "%.*s", length, text);
}

static void queue_discard(grpc_completion_queue *queue)
{
    grpc_completion_queue_shutdown(queue);
    /* A pluck queue has nothing left: every tag was plucked before. */
    (void)grpc_completion_queue_pluck(queue, NULL, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
    grpc_completion_queue_destroy(queue);
}

static gpr_timespec deadline_make(int64_t timeout_ms)
{
    if (timeout_ms < 0) {
        return gpr_inf_future(GPR_CLOCK_MONOTONIC);
    }
    return gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), gpr_time_from_millis(timeout_ms, GPR_TIMESPAN));
}

static bool pluck(grpc_completion_queue *queue, void *tag)
{
    grpc_event event = grpc_completion_queue_pluck(queue, tag, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
    return event.type == GRPC_OP_COMPLETE && event.success != 0;
}

status_t rpc_channel_call(rpc_channel_t *channel, const char *path, const ProtobufCMessage *request,
                          const ProtobufCMessageDescriptor *response, int64_t timeout_ms, ProtobufCMessage **response_p,
                          rpc_code_t *code_p)
{
    grpc_byte_buffer *sent = NULL;
    status_t status = rpc_message_pack(request, &sent);
    if (status != ST_OK) {
        return status;
    }
    grpc_byte_buffer *received = NULL;
    grpc_metadata_array initial_metadata, trailing_metadata;
    grpc_metadata_array_init(&initial_metadata);
    grpc_metadata_array_init(&trailing_metadata);
    grpc_status_code grpc_code = GRPC_STATUS_UNKNOWN;
    grpc_slice details = grpc_empty_slice();
    grpc_completion_queue *queue = grpc_completion_queue_create_for_pluck(NULL);
    grpc_slice method = grpc_slice_from_copied_string(path);
    grpc_call *call = grpc_channel_create_call(channel->channel, NULL, GRPC_PROPAGATE_DEFAULTS, queue, method, NULL,
                                               deadline_make(timeout_ms > 0 ? timeout_ms : -1), NULL);
    grpc_slice_unref(method);
    grpc_op ops[] = {
        {.op = GRPC_OP_SEND_INITIAL_METADATA},
        {.op = GRPC_OP_SEND_MESSAGE, .data.send_message.send_message = sent},
        {.op = GRPC_OP_SEND_CLOSE_FROM_CLIENT},
        {.op = GRPC_OP_RECV_INITIAL_METADATA, .data.recv_initial_metadata.recv_initial_metadata = &initial_metadata},
        {.op = GRPC_OP_RECV_MESSAGE, .data.recv_message.recv_message = &received},
        {.op = GRPC_OP_RECV_STATUS_ON_CLIENT,
         .data.recv_status_on_client = {.trailing_metadata = &trailing_metadata,
                                        .status = &grpc_code,
                                        .status_details = &details}},
    };
    grpc_call_error error = grpc_call_start_batch(call, ops, sizeof(ops) / sizeof(ops[0]), queue, NULL);
    if (error == GRPC_CALL_OK) {
        (void)pluck(queue, queue);
    }
    rpc_code_t code = error == GRPC_CALL_OK ? code_read(grpc_code, details) : RPC_INTERNAL;
    if (code != RPC_OK) {
        status = code_fail(channel, code, details);
    } else if (received == NULL) {
        code = RPC_INTERNAL;
        status = ST_FAIL(ST_ERR_INTERNAL, "%s: %s gave no response", channel->address, path);
    } else {
        status = rpc_message_unpack(response, received, (size_t)RPC_CLIENT_MAX_BYTES * RPC_UNPACK_FACTOR, response_p);
        code = status == ST_OK ? RPC_OK : RPC_INTERNAL;
    }
    if (received != NULL) {
        grpc_byte_buffer_destroy(received);
    }
    grpc_byte_buffer_destroy(sent);
    grpc_slice_unref(details);
    grpc_metadata_array_destroy(&initial_metadata);
    grpc_metadata_array_destroy(&trailing_metadata);
    grpc_call_unref(call);
    queue_discard(queue);
    if (code_p != NULL) {
        *code_p = code;
    }
    return status;
}

void rpc_warm_up(void)
{
    static rpc_channel_t
        *kept; /* while a channel is open, gRPC's event engine stays, with its threads and descriptors */
    static const ProtobufCMessageDescriptor empty = {
        .magic = PROTOBUF_C__MESSAGE_DESCRIPTOR_MAGIC, .name = "Empty", .sizeof_message = sizeof(ProtobufCMessage)};
    ProtobufCMessage nothing = PROTOBUF_C_MESSAGE_INIT(&empty);
    if (kept == NULL && rpc_channel_open("unix:/nonexistent", &kept) == ST_OK) {
        (void)rpc_channel_call(kept, "/none/None", &nothing, &empty, 1000, NULL, NULL);
    }
    status_clear();
}

/* ---- streams ---- */

/* The first batches: what is sent, the server's metadata, the status at the end. They fail only on misuse. */
static bool stream_start(rpc_stream_t *stream)
{
    grpc_op send[] = {
        {.op = GRPC_OP_SEND_INITIAL_METADATA},
        {.op = GRPC_OP_SEND_MESSAGE, .data.send_message.send_message = stream->request},
        {.op = GRPC_OP_SEND_CLOSE_FROM_CLIENT},
    };
    grpc_op initial = {.op = GRPC_OP_RECV_INITIAL_METADATA,
                       .data.recv_initial_metadata.recv_initial_metadata = &stream->initial_metadata};
    grpc_op final = {.op = GRPC_OP_RECV_STATUS_ON_CLIENT,
                     .data.recv_status_on_client = {.trailing_metadata = &stream->trailing_metadata,
                                                    .status = &stream->code,
                                                    .status_details = &stream->details}};
    size_t n_send = stream->request != NULL ? 3 : 1;
    return grpc_call_start_batch(stream->call, send, n_send, &stream->start_tag, NULL) == GRPC_CALL_OK &&
           grpc_call_start_batch(stream->call, &initial, 1, &stream->initial_tag, NULL) == GRPC_CALL_OK &&
           grpc_call_start_batch(stream->call, &final, 1, &stream->status_tag, NULL) == GRPC_CALL_OK;
}

status_t rpc_stream_open(rpc_channel_t *channel, const char *path, const ProtobufCMessage *request,
                         const ProtobufCMessageDescriptor *response, rpc_stream_t **stream_p)
{
    rpc_stream_t *stream = mem_zalloc(sizeof(*stream));
    if (stream == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "stream %s", path);
    }
    if (request != NULL) {
        status_t status = rpc_message_pack(request, &stream->request);
        if (status != ST_OK) {
            mem_free(stream);
            return status;
        }
        stream->has_finished_writing = true;
    }
    stream->channel = channel;
    stream->response = response;
    stream->code = GRPC_STATUS_OK;
    stream->details = grpc_empty_slice();
    grpc_metadata_array_init(&stream->initial_metadata);
    grpc_metadata_array_init(&stream->trailing_metadata);
    (void)pthread_mutex_init(&stream->send_mutex, NULL);
    (void)pthread_mutex_init(&stream->read_mutex, NULL);
    stream->queue = grpc_completion_queue_create_for_pluck(NULL);
    grpc_slice method = grpc_slice_from_copied_string(path);
    stream->call = grpc_channel_create_call(channel->channel, NULL, GRPC_PROPAGATE_DEFAULTS, stream->queue, method,
                                            NULL, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
    grpc_slice_unref(method);
    bool is_started = stream_start(stream);
    ASSERT(is_started);
    *stream_p = stream;
    return ST_OK;
}

/* After the last message: takes the status, once. */
static status_t stream_end(rpc_stream_t *stream)
{
    if (!stream->is_finished) {
        (void)pluck(stream->queue, &stream->status_tag);
        stream->is_finished = true;
    }
    rpc_code_t code = rpc_stream_code(stream);
    if (code == RPC_OK) {
        return ST_OK;
    }
    status_t status = code_fail(stream->channel, code, stream->details);
    return status == ST_ERR_TIMEOUT ? ST_ERR_PEER : status;
}

/* read_mutex held. */
static status_t stream_receive(rpc_stream_t *stream, int64_t timeout_ms, grpc_byte_buffer **buffer_p)
{
    if (stream->is_finished) {
        return stream_end(stream);
    }
    if (!stream->is_read_pending) {
        grpc_op op = {.op = GRPC_OP_RECV_MESSAGE, .data.recv_message.recv_message = &stream->read_buffer};
        if (grpc_call_start_batch(stream->call, &op, 1, &stream->read_tag, NULL) != GRPC_CALL_OK) {
            return ST_FAIL(ST_ERR_INTERNAL, "%s: gRPC refuses to read", stream->channel->address);
        }
        stream->is_read_pending = true;
    }
    grpc_event event = grpc_completion_queue_pluck(stream->queue, &stream->read_tag, deadline_make(timeout_ms), NULL);
    if (event.type == GRPC_QUEUE_TIMEOUT) {
        return ST_FAIL(ST_ERR_TIMEOUT, "no message from %s", stream->channel->address);
    }
    stream->is_read_pending = false;
    *buffer_p = stream->read_buffer;
    stream->read_buffer = NULL;
    return *buffer_p == NULL ? stream_end(stream) : ST_OK;
}

status_t rpc_stream_read(rpc_stream_t *stream, int64_t timeout_ms, ProtobufCMessage **message_p)
{
    grpc_byte_buffer *buffer = NULL;
    (void)pthread_mutex_lock(&stream->read_mutex);
    status_t status = stream_receive(stream, timeout_ms, &buffer);
    (void)pthread_mutex_unlock(&stream->read_mutex);
    if (status != ST_OK) {
        return status;
    }
    ProtobufCMessage *message = NULL;
    if (buffer != NULL) {
        status =
            rpc_message_unpack(stream->response, buffer, (size_t)RPC_CLIENT_MAX_BYTES * RPC_UNPACK_FACTOR, &message);
        grpc_byte_buffer_destroy(buffer);
        if (status != ST_OK) {
            return status;
        }
    }
    *message_p = message;
    return ST_OK;
}

static status_t stream_send(rpc_stream_t *stream, const grpc_op *op)
{
    (void)pthread_mutex_lock(&stream->send_mutex);
    status_t status = ST_OK;
    if (stream->has_finished_writing) {
        status = ST_FAIL(ST_ERR_STATE, "%s: this side of the stream has ended", stream->channel->address);
    } else if (grpc_call_start_batch(stream->call, op, 1, &stream->write_tag, NULL) != GRPC_CALL_OK ||
               !pluck(stream->queue, &stream->write_tag)) {
        status = ST_FAIL(ST_ERR_PEER, "%s: the stream is broken", stream->channel->address);
    } else if (op->op == GRPC_OP_SEND_CLOSE_FROM_CLIENT) {
        stream->has_finished_writing = true;
    }
    (void)pthread_mutex_unlock(&stream->send_mutex);
    return status;
}

status_t rpc_stream_write(rpc_stream_t *stream, const ProtobufCMessage *message)
{
    grpc_byte_buffer *buffer = NULL;
    status_t status = rpc_message_pack(message, &buffer);
    if (status != ST_OK) {
        return status;
    }
    grpc_op op = {.op = GRPC_OP_SEND_MESSAGE, .data.send_message.send_message = buffer};
    status = stream_send(stream, &op);
    grpc_byte_buffer_destroy(buffer);
    return status;
}

status_t rpc_stream_finish_writing(rpc_stream_t *stream)
{
    grpc_op op = {.op = GRPC_OP_SEND_CLOSE_FROM_CLIENT};
    return stream_send(stream, &op);
}

rpc_code_t rpc_stream_code(const rpc_stream_t *stream)
{
    if (!stream->is_finished) {
        return RPC_OK;
    }
    bool is_ours = stream->code == GRPC_STATUS_CANCELLED && atomic_load(&stream->is_cancelled);
    return is_ours ? RPC_CANCELLED : code_read(stream->code, stream->details);
}

void rpc_stream_cancel(rpc_stream_t *stream)
{
    atomic_store(&stream->is_cancelled, true);
    (void)grpc_call_cancel(stream->call, NULL);
}

void rpc_stream_close(rpc_stream_t *stream)
{
    if (stream == NULL) {
        return;
    }
    (void)grpc_call_cancel(stream->call, NULL);
    (void)pluck(stream->queue, &stream->start_tag);
    (void)pluck(stream->queue, &stream->initial_tag);
    if (stream->is_read_pending) {
        (void)pluck(stream->queue, &stream->read_tag);
    }
    if (!stream->is_finished) {
        (void)pluck(stream->queue, &stream->status_tag);
    }
    if (stream->read_buffer != NULL) {
        grpc_byte_buffer_destroy(stream->read_buffer);
    }
    if (stream->request != NULL) {
        grpc_byte_buffer_destroy(stream->request);
    }
    grpc_slice_unref(stream->details);
    grpc_metadata_array_destroy(&stream->initial_metadata);
    grpc_metadata_array_destroy(&stream->trailing_metadata);
    grpc_call_unref(stream->call);
    queue_discard(stream->queue);
    (void)pthread_mutex_destroy(&stream->send_mutex);
    (void)pthread_mutex_destroy(&stream->read_mutex);
    mem_free(stream);
}
