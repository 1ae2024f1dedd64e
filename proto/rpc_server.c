/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rpc_server: takes calls and gives each a thread of a bounded pool.
 *
 * All calls come through generic requests, so that an unknown method is answered too (without one outstanding it would
 * hang until the client's deadline), and all completions through one queue that one thread polls.
 */
#include <errno.h>
#include <netdb.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <grpc/grpc_security.h>
#include <grpc/slice.h>
#include <grpc/support/time.h>

#include "base/mem.h"
#include "proto/rpc_internal.h"

enum { N_ARMED = 32, STACK_BYTES = 1024 * 1024 };

static void accept_done(rpc_tag_t *tag, bool is_ok);

/* ---- pool ---- */

static void call_run(rpc_call_t *call)
{
    const rpc_method_t *method = &call->entry->method;
    ProtobufCMessage *request = NULL;
    status_t status = ST_OK;
    status_clear();
    if (method->kind != RPC_BIDI) {
        (void)pthread_mutex_lock(&call->mutex);
        grpc_byte_buffer *buffer = call->read_buffer;
        call->read_buffer = NULL;
        call->is_read_done = false;
        (void)pthread_mutex_unlock(&call->mutex);
        if (buffer == NULL) {
            status = ST_FAIL(ST_ERR_INVAL, "%s needs a request message", method->path);
        } else {
            status =
                rpc_message_unpack(method->request, buffer, (size_t)RPC_SERVER_MAX_BYTES * RPC_UNPACK_FACTOR, &request);
            grpc_byte_buffer_destroy(buffer);
        }
    }
    if (status == ST_OK) {
        status = method->handler(call, request, call->entry->arg);
    }
    if (request != NULL) {
        protobuf_c_message_free_unpacked(request, NULL);
    }
    if (status == ST_OK && method->kind == RPC_UNARY && call->response == NULL) {
        status = ST_FAIL(ST_ERR_INTERNAL, "%s gave no response", method->path);
    }
    rpc_code_t code = rpc_code_from_status(status);
    const char *message = status_message();
    if (method->kind != RPC_UNARY && atomic_load(&call->saw_closing)) {
        code = RPC_UNAVAILABLE;
        message = "the server is shutting down";
    }
    rpc_server_uncount(call);
    rpc_call_finish(call, code, message);
    rpc_call_unref(call);
}

static void *pool_run(void *arg)
{
    rpc_server_t *server = arg;
    (void)pthread_mutex_lock(&server->mutex);
    for (;;) {
        while (server->queue_first == NULL && !server->is_stopping) {
            server->n_idle++;
            (void)pthread_cond_wait(&server->work, &server->mutex);
            server->n_idle--;
        }
        rpc_call_t *call = server->queue_first;
        if (call == NULL) {
            break;
        }
        server->queue_first = call->queue_next;
        server->queue_last = server->queue_first == NULL ? NULL : server->queue_last;
        server->n_queued--;
        (void)pthread_mutex_unlock(&server->mutex);
        call_run(call);
        (void)pthread_mutex_lock(&server->mutex);
    }
    (void)pthread_mutex_unlock(&server->mutex);
    return NULL;
}

/* Starts a thread with all signals blocked: they belong to the program's main thread. */
static int thread_start(pthread_t *thread_p, void *(*run)(void *), void *arg)
{
    sigset_t all, before;
    pthread_attr_t attributes;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    (void)pthread_attr_init(&attributes);
    (void)pthread_attr_setstacksize(&attributes, STACK_BYTES);
    int error = pthread_create(thread_p, &attributes, run, arg);
    (void)pthread_attr_destroy(&attributes);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error;
}

void rpc_server_dispatch(rpc_call_t *call)
{
    rpc_server_t *server = call->server;
    (void)rpc_call_ref(call); /* the handler's */
    (void)pthread_mutex_lock(&server->mutex);
    if (server->n_queued >= server->n_idle && server->n_threads < server->max_calls &&
        thread_start(&server->threads[server->n_threads], pool_run, server) == 0) {
        server->n_threads++;
    }
    bool is_taken = server->n_threads > 0;
    if (is_taken) {
        if (server->queue_last != NULL) {
            server->queue_last->queue_next = call;
        } else {
            server->queue_first = call;
        }
        server->queue_last = call;
        server->n_queued++;
        (void)pthread_cond_signal(&server->work);
    }
    (void)pthread_mutex_unlock(&server->mutex);
    if (!is_taken) {
        rpc_server_uncount(call);
        rpc_call_finish(call, RPC_RESOURCE_EXHAUSTED, "no thread for the call");
        rpc_call_unref(call);
    }
}

void rpc_server_uncount(rpc_call_t *call)
{
    rpc_server_t *server = call->server;
    (void)pthread_mutex_lock(&server->mutex);
    if (call->is_counted) {
        call->is_counted = false;
        server->n_counted--;
    }
    (void)pthread_mutex_unlock(&server->mutex);
}

/* ---- accepting ---- */

static void server_arm(rpc_server_t *server)
{
    (void)pthread_mutex_lock(&server->mutex);
    bool is_draining = server->is_draining;
    (void)pthread_mutex_unlock(&server->mutex);
    if (is_draining) {
        return;
    }
    rpc_call_t *call = rpc_call_new(server);
    if (call == NULL) {
        return; /* fewer calls wait to be taken; the others re-arm as they come */
    }
    call->accept_tag.done = accept_done;
    grpc_call_error error = grpc_server_request_call(server->server, &call->call, &call->details, &call->metadata,
                                                     server->queue, server->queue, &call->accept_tag);
    if (error != GRPC_CALL_OK) {
        rpc_call_unref(call);
    }
}

static const rpc_entry_t *entry_find(const rpc_server_t *server, grpc_slice path)
{
    size_t length = GRPC_SLICE_LENGTH(path);
    for (int i = 0; i < server->n_entries; i++) {
        const char *candidate = server->entries[i].method.path;
        if (strlen(candidate) == length && memcmp(candidate, GRPC_SLICE_START_PTR(path), length) == 0) {
            return &server->entries[i];
        }
    }
    return NULL;
}

/* Puts the call among those that live and counts it; gives the code to refuse it with. */
static rpc_code_t call_admit(rpc_call_t *call)
{
    rpc_server_t *server = call->server;
    rpc_code_t code = RPC_OK;
    (void)pthread_mutex_lock(&server->mutex);
    call->next = server->calls;
    if (call->next != NULL) {
        call->next->previous = call;
    }
    server->calls = call;
    if (call->entry == NULL) {
        code = RPC_UNIMPLEMENTED;
    } else if (atomic_load(&server->is_closing)) {
        code = RPC_UNAVAILABLE;
    } else if (server->n_counted >= server->max_calls) {
        code = RPC_RESOURCE_EXHAUSTED;
    } else {
        server->n_counted++;
        server->n_admitted++;
        call->is_counted = call->is_admitted = true;
    }
    (void)pthread_mutex_unlock(&server->mutex);
    return code;
}

static void call_refuse(rpc_call_t *call, rpc_code_t code)
{
    char message[256];
    if (code == RPC_UNIMPLEMENTED) {
        (void)snprintf(message, sizeof(message), "unknown method %.*s",
                       (int)GRPC_SLICE_LENGTH(call->details.method) < 200 ? (int)GRPC_SLICE_LENGTH(call->details.method)
                                                                          : 200,
                       (const char *)GRPC_SLICE_START_PTR(call->details.method));
    } else if (code == RPC_RESOURCE_EXHAUSTED) {
        (void)snprintf(message, sizeof(message), "%d calls are being served already: try again later",
                       call->server->max_calls);
    } else {
        (void)snprintf(message, sizeof(message), "the server is shutting down");
    }
    rpc_call_finish(call, code, message);
}

/* The request of a unary call or a server stream has come. */
static void request_done(rpc_tag_t *tag, bool is_ok)
{
    rpc_call_t *call = tag->call;
    (void)pthread_mutex_lock(&call->mutex);
    call->is_read_pending = false;
    bool is_gone = !is_ok || (call->read_buffer == NULL && grpc_call_failed_before_recv_message(call->call) != 0);
    call->is_read_ended = true;
    (void)pthread_mutex_unlock(&call->mutex);
    if (is_gone) {
        rpc_server_uncount(call);
        rpc_call_finish(call, RPC_CANCELLED, "the request could not be read");
    } else {
        rpc_server_dispatch(call);
    }
    rpc_call_unref(call);
}

static void accept_done(rpc_tag_t *tag, bool is_ok)
{
    rpc_call_t *call = tag->call;
    rpc_server_t *server = call->server;
    if (!is_ok) {
        rpc_call_unref(call);
        return;
    }
    server_arm(server);
    call->peer = grpc_call_get_peer(call->call);
    call->entry = entry_find(server, call->details.method);
    rpc_code_t code = call_admit(call);
    grpc_op op = {.op = GRPC_OP_RECV_CLOSE_ON_SERVER, .data.recv_close_on_server.cancelled = &call->close_cancelled};
    (void)rpc_call_ref(call);
    if (grpc_call_start_batch(call->call, &op, 1, &call->close_tag, NULL) != GRPC_CALL_OK) {
        rpc_call_unref(call);
    }
    if (code != RPC_OK) {
        call_refuse(call, code);
    } else if (call->entry->method.kind == RPC_BIDI) {
        rpc_server_dispatch(call);
    } else {
        call->read_tag.done = request_done;
        (void)pthread_mutex_lock(&call->mutex);
        status_t status = rpc_call_start_read(call);
        (void)pthread_mutex_unlock(&call->mutex);
        if (status != ST_OK) {
            rpc_server_uncount(call);
            rpc_call_finish(call, RPC_INTERNAL, status_message());
        }
    }
    rpc_call_unref(call); /* what accept_tag held */
}

static void shutdown_done(rpc_tag_t *tag, bool is_ok)
{
    (void)is_ok;
    rpc_server_t *server = (rpc_server_t *)((char *)tag - offsetof(rpc_server_t, shutdown_tag));
    (void)pthread_mutex_lock(&server->mutex);
    server->is_shut_down = true;
    (void)pthread_cond_broadcast(&server->changed);
    (void)pthread_mutex_unlock(&server->mutex);
}

static void *poller_run(void *arg)
{
    rpc_server_t *server = arg;
    for (;;) {
        grpc_event event = grpc_completion_queue_next(server->queue, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
        if (event.type == GRPC_QUEUE_SHUTDOWN) {
            return NULL;
        }
        if (event.type == GRPC_OP_COMPLETE) {
            rpc_tag_t *tag = event.tag;
            tag->done(tag, event.success != 0);
        }
    }
}

/* ---- opening ---- */

/* gRPC only logs why it can't bind: binds once more to learn the reason. */
static status_t bind_fail(const char *address)
{
    const char *path = rpc_address_path(address);
    int error = 0;
    if (path != NULL) {
        struct sockaddr_un name = {.sun_family = AF_UNIX};
        (void)snprintf(name.sun_path, sizeof(name.sun_path), "%s", path);
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        error = fd < 0 || bind(fd, (const struct sockaddr *)&name, sizeof(name)) != 0 ? errno : 0;
        if (fd >= 0) {
            (void)close(fd);
            if (error == 0) {
                (void)unlink(path);
            }
        }
        return ST_FAIL(status_from_errno(error), "cannot listen on %s: %s", address,
                       error != 0 ? strerror(error) : "gRPC refuses the address");
    }
    const char *colon = strrchr(address, ':');
    char host[256];
    bool is_bracketed = address[0] == '[';
    (void)snprintf(host, sizeof(host), "%.*s", (int)(colon - address) - (is_bracketed ? 2 : 0),
                   address + (is_bracketed ? 1 : 0));
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *found = NULL;
    int lookup = getaddrinfo(host, colon + 1, &hints, &found);
    if (lookup != 0) {
        return ST_FAIL(ST_ERR_NOT_FOUND, "cannot listen on %s: %s", address, gai_strerror(lookup));
    }
    int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    error = fd < 0 || bind(fd, found->ai_addr, found->ai_addrlen) != 0 || listen(fd, 1) != 0 ? errno : 0;
    if (fd >= 0) {
        (void)close(fd);
    }
    freeaddrinfo(found);
    status_t code = error == EADDRINUSE ? ST_ERR_EXISTS : status_from_errno(error);
    return ST_FAIL(error == 0 ? ST_ERR_IO : code, "cannot listen on %s: %s", address,
                   error != 0 ? strerror(error) : "gRPC refuses the address");
}

static status_t entries_build(rpc_server_t *server, const rpc_server_options_t *options)
{
    int n_reflection = options->file_descriptor_set != NULL ? RPC_N_REFLECTION_METHODS : 0;
    int n_services = 0;
    while (options->services != NULL && options->services[n_services] != NULL) {
        n_services++;
    }
    server->n_entries = options->n_methods + RPC_N_HEALTH_METHODS + n_reflection;
    server->entries = mem_calloc((size_t)server->n_entries, sizeof(*server->entries));
    server->threads = mem_calloc((size_t)server->max_calls, sizeof(*server->threads));
    server->services = mem_calloc((size_t)n_services + 1, sizeof(*server->services));
    if (server->entries == NULL || server->threads == NULL || server->services == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "server on %s", options->address);
    }
    for (int i = 0; i < n_services; i++) {
        server->services[i] = mem_strdup(options->services[i]);
        if (server->services[i] == NULL) {
            return ST_FAIL(ST_ERR_NOMEM, "server on %s", options->address);
        }
    }
    rpc_entry_t *entry = server->entries;
    for (int i = 0; i < options->n_methods; i++) {
        *entry++ = (rpc_entry_t){options->methods[i], options->arg};
    }
    for (int i = 0; i < RPC_N_HEALTH_METHODS; i++) {
        *entry++ = (rpc_entry_t){rpc_health_methods[i], server};
    }
    for (int i = 0; i < n_reflection; i++) {
        *entry++ = (rpc_entry_t){rpc_reflection_methods[i], server};
    }
    return ST_OK;
}

static void server_free(rpc_server_t *server)
{
    for (int i = 0; server->services != NULL && server->services[i] != NULL; i++) {
        mem_free(server->services[i]);
    }
    mem_free(server->services);
    mem_free(server->entries);
    mem_free(server->threads);
    (void)pthread_mutex_destroy(&server->mutex);
    (void)pthread_cond_destroy(&server->changed);
    (void)pthread_cond_destroy(&server->work);
    mem_free(server);
}

static void server_create(rpc_server_t *server)
{
    grpc_arg args[] = {
        rpc_arg_int(GRPC_ARG_ALLOW_REUSEPORT, 0), /* else a second server binds the same port */
        rpc_arg_int(GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, RPC_SERVER_MAX_BYTES),
        rpc_arg_int(GRPC_ARG_MAX_CONCURRENT_STREAMS, RPC_MAX_STREAMS_PER_CONNECTION),
        rpc_arg_int(GRPC_COMPRESSION_CHANNEL_ENABLED_ALGORITHMS_BITSET, 1), /* none */
        rpc_arg_int(GRPC_ARG_KEEPALIVE_TIME_MS, RPC_KEEPALIVE_MS),
        rpc_arg_int(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, RPC_KEEPALIVE_TIMEOUT_MS),
        rpc_arg_int(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1),
        rpc_arg_int(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0),
        rpc_arg_int(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, RPC_MIN_PING_INTERVAL_MS),
    };
    grpc_channel_args channel_args = {sizeof(args) / sizeof(args[0]), args};
    server->server = grpc_server_create(&channel_args, NULL);
    server->queue = grpc_completion_queue_create_for_next(NULL);
    grpc_server_register_completion_queue(server->server, server->queue, NULL);
}

/* Undoes server_create on a server whose poller doesn't run. */
static void server_discard(rpc_server_t *server)
{
    gpr_timespec forever = gpr_inf_future(GPR_CLOCK_MONOTONIC);
    grpc_server_shutdown_and_notify(server->server, server->queue, &server->shutdown_tag);
    grpc_event event = grpc_completion_queue_next(server->queue, forever, NULL);
    while (event.type == GRPC_OP_COMPLETE && event.tag != &server->shutdown_tag) {
        rpc_tag_t *tag = event.tag;
        tag->done(tag, event.success != 0);
        event = grpc_completion_queue_next(server->queue, forever, NULL);
    }
    grpc_server_destroy(server->server);
    grpc_completion_queue_shutdown(server->queue);
    do {
        event = grpc_completion_queue_next(server->queue, forever, NULL);
    } while (event.type != GRPC_QUEUE_SHUTDOWN);
    grpc_completion_queue_destroy(server->queue);
}

status_t rpc_server_open(const rpc_server_options_t *options, rpc_server_t **server_p)
{
    status_t status = rpc_address_check(options->address);
    if (status != ST_OK) {
        return status;
    }
    rpc_server_t *server = mem_zalloc(sizeof(*server));
    if (server == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "server on %s", options->address);
    }
    server->max_calls = options->max_calls > 0 ? options->max_calls : RPC_DEFAULT_MAX_CALLS;
    server->file_descriptor_set = options->file_descriptor_set;
    server->file_descriptor_set_size = options->file_descriptor_set_size;
    server->shutdown_tag.done = shutdown_done;
    pthread_condattr_t attributes;
    (void)pthread_condattr_init(&attributes);
    (void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&server->changed, &attributes);
    (void)pthread_condattr_destroy(&attributes);
    (void)pthread_cond_init(&server->work, NULL);
    (void)pthread_mutex_init(&server->mutex, NULL);
    status = entries_build(server, options);
    if (status != ST_OK) {
        goto err_free;
    }
    rpc_library_init();
    server_create(server);
    grpc_server_credentials *credentials = grpc_insecure_server_credentials_create();
    int port = grpc_server_add_http2_port(server->server, options->address, credentials);
    grpc_server_credentials_release(credentials);
    if (port == 0) {
        status = bind_fail(options->address);
        goto err_discard;
    }
    server->port = rpc_address_path(options->address) != NULL ? 0 : port;
    grpc_server_start(server->server);
    for (int i = 0; i < N_ARMED; i++) {
        server_arm(server);
    }
    int error = thread_start(&server->poller, poller_run, server);
    if (error != 0) {
        status = ST_FAIL(ST_ERR_NOMEM, "thread of the server on %s: %s", options->address, strerror(error));
        goto err_discard;
    }
    *server_p = server;
    return ST_OK;

err_discard:
    server->is_draining = true;
    server_discard(server);
    rpc_library_shutdown();
err_free:
    server_free(server);
    return status;
}

int rpc_server_port(const rpc_server_t *server)
{
    return server->port;
}

/* ---- closing ---- */

void rpc_server_close(rpc_server_t *server, int64_t grace_ms)
{
    if (server == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&server->mutex);
    atomic_store(&server->is_closing, true);
    for (rpc_call_t *call = server->calls; call != NULL; call = call->next) {
        (void)pthread_mutex_lock(&call->mutex);
        (void)pthread_cond_broadcast(&call->changed);
        (void)pthread_mutex_unlock(&call->mutex);
    }
    (void)pthread_mutex_unlock(&server->mutex);
    /*
     * Running calls end first, while new ones are still answered (UNAVAILABLE): once gRPC shuts down, it cancels new
     * calls without a word, and waits for idle clients that may not be polling.
     */
    struct timespec deadline = rpc_deadline(grace_ms);
    (void)pthread_mutex_lock(&server->mutex);
    int error = 0;
    while (server->n_admitted > 0 && error != ETIMEDOUT) {
        error = pthread_cond_timedwait(&server->changed, &server->mutex, &deadline);
    }
    server->is_draining = true;
    (void)pthread_mutex_unlock(&server->mutex);
    grpc_server_shutdown_and_notify(server->server, server->queue, &server->shutdown_tag);
    grpc_server_cancel_all_calls(server->server);

    /* Every call must be gone before the queue shuts down: a batch started after that aborts the process. */
    (void)pthread_mutex_lock(&server->mutex);
    while (!server->is_shut_down || server->calls != NULL) {
        (void)pthread_cond_wait(&server->changed, &server->mutex);
    }
    server->is_stopping = true;
    (void)pthread_cond_broadcast(&server->work);
    (void)pthread_mutex_unlock(&server->mutex);
    for (int i = 0; i < server->n_threads; i++) {
        (void)pthread_join(server->threads[i], NULL);
    }
    grpc_server_destroy(server->server);
    grpc_completion_queue_shutdown(server->queue);
    (void)pthread_join(server->poller, NULL);
    grpc_completion_queue_destroy(server->queue);
    rpc_library_shutdown();
    server_free(server);
}
