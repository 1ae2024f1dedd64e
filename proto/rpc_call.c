/* SPDX-License-Identifier: Apache-2.0 */
/* rpc_call: one call on the server: reading, writing, its end. Handlers wait on `changed`; the poller wakes them. */
#include <errno.h>
#include <string.h>

#include <grpc/slice.h>
#include <grpc/support/alloc.h>

#include "base/mem.h"
#include "proto/rpc_internal.h"

static void close_done(rpc_tag_t *tag, bool is_ok)
{
    rpc_call_t *call = tag->call;
    (void)pthread_mutex_lock(&call->mutex);
    if (!is_ok || call->close_cancelled != 0) {
        atomic_store(&call->is_cancelled, true);
    }
    (void)pthread_cond_broadcast(&call->changed);
    (void)pthread_mutex_unlock(&call->mutex);
    rpc_call_unref(call);
}

static void read_done(rpc_tag_t *tag, bool is_ok)
{
    rpc_call_t *call = tag->call;
    (void)pthread_mutex_lock(&call->mutex);
    call->is_read_pending = false;
    if (call->read_buffer != NULL) {
        call->is_read_done = true;
    } else {
        call->is_read_ended = true;
        if (!is_ok || grpc_call_failed_before_recv_message(call->call) != 0) {
            atomic_store(&call->is_cancelled, true);
        }
    }
    (void)pthread_cond_broadcast(&call->changed);
    (void)pthread_mutex_unlock(&call->mutex);
    rpc_call_unref(call);
}

static void write_done(rpc_tag_t *tag, bool is_ok)
{
    rpc_call_t *call = tag->call;
    (void)pthread_mutex_lock(&call->mutex);
    call->is_write_pending = false;
    call->is_write_ok = is_ok;
    (void)pthread_cond_broadcast(&call->changed);
    (void)pthread_mutex_unlock(&call->mutex);
    rpc_call_unref(call);
}

static void finish_done(rpc_tag_t *tag, bool is_ok)
{
    (void)is_ok;
    rpc_call_unref(tag->call);
}

rpc_call_t *rpc_call_new(rpc_server_t *server)
{
    rpc_call_t *call = mem_zalloc(sizeof(*call));
    if (call == NULL) {
        return NULL;
    }
    call->server = server;
    atomic_init(&call->n_refs, 1);
    call->accept_tag = (rpc_tag_t){NULL, call};
    call->close_tag = (rpc_tag_t){close_done, call};
    call->read_tag = (rpc_tag_t){read_done, call};
    call->write_tag = (rpc_tag_t){write_done, call};
    call->finish_tag = (rpc_tag_t){finish_done, call};
    grpc_call_details_init(&call->details);
    grpc_metadata_array_init(&call->metadata);
    pthread_condattr_t attributes;
    (void)pthread_condattr_init(&attributes);
    (void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&call->changed, &attributes);
    (void)pthread_condattr_destroy(&attributes);
    (void)pthread_mutex_init(&call->mutex, NULL);
    (void)pthread_mutex_init(&call->write_mutex, NULL);
    return call;
}

rpc_call_t *rpc_call_ref(rpc_call_t *call)
{
    (void)atomic_fetch_add(&call->n_refs, 1);
    return call;
}

void rpc_call_unref(rpc_call_t *call)
{
    if (atomic_fetch_sub(&call->n_refs, 1) > 1) {
        return;
    }
    rpc_server_t *server = call->server;
    if (call->call != NULL) {
        grpc_call_unref(call->call);
    }
    grpc_call_details_destroy(&call->details);
    grpc_metadata_array_destroy(&call->metadata);
    if (call->read_buffer != NULL) {
        grpc_byte_buffer_destroy(call->read_buffer);
    }
    if (call->response != NULL) {
        grpc_byte_buffer_destroy(call->response);
    }
    gpr_free(call->peer);
    (void)pthread_mutex_lock(&server->mutex);
    if (call->previous != NULL) {
        call->previous->next = call->next;
    } else if (server->calls == call) {
        server->calls = call->next;
    }
    if (call->next != NULL) {
        call->next->previous = call->previous;
    }
    server->n_admitted -= call->is_admitted;
    (void)pthread_cond_broadcast(&server->changed);
    (void)pthread_mutex_unlock(&server->mutex);
    (void)pthread_mutex_destroy(&call->mutex);
    (void)pthread_mutex_destroy(&call->write_mutex);
    (void)pthread_cond_destroy(&call->changed);
    mem_free(call);
}

/* Starts a batch whose tag holds a reference; mutex held. */
static status_t batch_start(rpc_call_t *call, const grpc_op *ops, size_t n_ops, rpc_tag_t *tag)
{
    (void)rpc_call_ref(call);
    grpc_call_error error = grpc_call_start_batch(call->call, ops, n_ops, tag, NULL);
    if (error != GRPC_CALL_OK) {
        (void)atomic_fetch_sub(&call->n_refs, 1); /* never the last: the caller holds one */
        return ST_FAIL(ST_ERR_INTERNAL, "gRPC refuses an operation: %s", grpc_call_error_to_string(error));
    }
    return ST_OK;
}

bool rpc_call_is_cancelled(rpc_call_t *call)
{
    if (atomic_load(&call->is_cancelled)) {
        return true;
    }
    if (atomic_load(&call->server->is_closing)) {
        atomic_store(&call->saw_closing, true);
        return true;
    }
    return false;
}

/* Why the call is over; the caller has seen that it is. */
static status_t cancelled_fail(rpc_call_t *call)
{
    if (atomic_load(&call->is_cancelled)) {
        return ST_FAIL(ST_ERR_PEER, "client %s is gone", rpc_call_peer(call));
    }
    return ST_FAIL(ST_ERR_PEER, "the server is shutting down");
}

bool rpc_call_wait(rpc_call_t *call, int64_t timeout_ms)
{
    struct timespec deadline = rpc_deadline(timeout_ms);
    (void)pthread_mutex_lock(&call->mutex);
    bool is_over = rpc_call_is_cancelled(call);
    while (!is_over && pthread_cond_timedwait(&call->changed, &call->mutex, &deadline) != ETIMEDOUT) {
        is_over = rpc_call_is_cancelled(call);
    }
    (void)pthread_mutex_unlock(&call->mutex);
    return is_over;
}

const char *rpc_call_peer(rpc_call_t *call)
{
    return call->peer != NULL ? call->peer : "unknown";
}

status_t rpc_call_start_read(rpc_call_t *call)
{
    grpc_op op = {.op = GRPC_OP_RECV_MESSAGE, .data.recv_message.recv_message = &call->read_buffer};
    call->is_read_pending = true;
    status_t status = batch_start(call, &op, 1, &call->read_tag);
    if (status != ST_OK) {
        call->is_read_pending = false;
    }
    return status;
}

status_t rpc_call_read(rpc_call_t *call, int64_t timeout_ms, ProtobufCMessage **message_p)
{
    struct timespec deadline = rpc_deadline(timeout_ms);
    status_t status = ST_OK;
    grpc_byte_buffer *buffer = NULL;
    (void)pthread_mutex_lock(&call->mutex);
    if (!call->is_read_pending && !call->is_read_done && !call->is_read_ended) {
        status = rpc_call_start_read(call);
    }
    bool is_timeout = false;
    while (status == ST_OK && !call->is_read_done) {
        if (rpc_call_is_cancelled(call)) {
            status = cancelled_fail(call);
        } else if (call->is_read_ended) {
            break;
        } else if (is_timeout) {
            status = ST_FAIL(ST_ERR_TIMEOUT, "no message from %s", rpc_call_peer(call));
        } else {
            is_timeout = pthread_cond_timedwait(&call->changed, &call->mutex, &deadline) == ETIMEDOUT;
        }
    }
    if (status == ST_OK && call->is_read_done) {
        buffer = call->read_buffer;
        call->read_buffer = NULL;
        call->is_read_done = false;
    }
    (void)pthread_mutex_unlock(&call->mutex);
    if (status != ST_OK) {
        return status;
    }
    ProtobufCMessage *message = NULL;
    if (buffer != NULL) {
        status = rpc_message_unpack(call->entry->method.request, buffer,
                                    (size_t)RPC_SERVER_MAX_BYTES * RPC_UNPACK_FACTOR, &message);
        grpc_byte_buffer_destroy(buffer);
        if (status != ST_OK) {
            return status;
        }
    }
    *message_p = message;
    return ST_OK;
}

/* Sends one message of a stream and waits until flow control has taken it. */
static status_t call_send(rpc_call_t *call, grpc_byte_buffer *buffer)
{
    (void)pthread_mutex_lock(&call->mutex);
    if (atomic_load(&call->is_cancelled)) {
        (void)pthread_mutex_unlock(&call->mutex);
        return cancelled_fail(call);
    }
    grpc_op ops[2] = {{.op = GRPC_OP_SEND_MESSAGE, .data.send_message.send_message = buffer},
                      {.op = GRPC_OP_SEND_INITIAL_METADATA}};
    call->is_write_pending = true;
    status_t status = batch_start(call, ops, call->is_metadata_sent ? 1 : 2, &call->write_tag);
    if (status != ST_OK) {
        call->is_write_pending = false;
        (void)pthread_mutex_unlock(&call->mutex);
        return status;
    }
    call->is_metadata_sent = true;
    while (call->is_write_pending) {
        (void)pthread_cond_wait(&call->changed, &call->mutex);
    }
    if (!call->is_write_ok) {
        status = ST_FAIL(ST_ERR_PEER, "client %s is gone", rpc_call_peer(call));
    }
    (void)pthread_mutex_unlock(&call->mutex);
    return status;
}

status_t rpc_call_write(rpc_call_t *call, const ProtobufCMessage *message)
{
    grpc_byte_buffer *buffer = NULL;
    status_t status = rpc_message_pack(message, &buffer);
    if (status != ST_OK) {
        return status;
    }
    if (call->entry->method.kind == RPC_UNARY) {
        if (call->response != NULL) {
            grpc_byte_buffer_destroy(buffer);
            return ST_FAIL(ST_ERR_STATE, "second response of a unary call");
        }
        call->response = buffer;
        return ST_OK;
    }
    (void)pthread_mutex_lock(&call->write_mutex);
    status = call_send(call, buffer);
    (void)pthread_mutex_unlock(&call->write_mutex);
    grpc_byte_buffer_destroy(buffer);
    return status;
}

void rpc_call_finish(rpc_call_t *call, rpc_code_t code, const char *message)
{
    char *detail = code == RPC_OK ? NULL : rpc_detail_copy(message);
    grpc_slice detail_slice = grpc_slice_from_copied_string(detail != NULL ? detail : "");
    grpc_op ops[3];
    size_t n_ops = 0;
    memset(ops, 0, sizeof(ops));
    (void)pthread_mutex_lock(&call->mutex);
    if (!call->is_metadata_sent) {
        ops[n_ops++].op = GRPC_OP_SEND_INITIAL_METADATA;
        call->is_metadata_sent = true;
    }
    if (code == RPC_OK && call->response != NULL) {
        ops[n_ops].op = GRPC_OP_SEND_MESSAGE;
        ops[n_ops++].data.send_message.send_message = call->response;
    }
    ops[n_ops].op = GRPC_OP_SEND_STATUS_FROM_SERVER;
    ops[n_ops].data.send_status_from_server.status = (grpc_status_code)code;
    ops[n_ops++].data.send_status_from_server.status_details = &detail_slice;
    status_t status = batch_start(call, ops, n_ops, &call->finish_tag);
    (void)pthread_mutex_unlock(&call->mutex);
    if (status != ST_OK) {
        (void)grpc_call_cancel(call->call, NULL);
    }
    grpc_slice_unref(detail_slice);
    mem_free(detail);
}
