/* SPDX-License-Identifier: Apache-2.0 */
/* rpc_service: a service for the tests of rpc: Echo, Hold (unary), Count (server stream), Chat (bidi). */
#ifndef GRADD_TESTS_PROTO_RPC_SERVICE_H
#define GRADD_TESTS_PROTO_RPC_SERVICE_H

#include <stdatomic.h>

#include "gradd.pb-c.h"
#include "proto/rpc.h"

typedef Gradd__V1__Entry entry_t;

enum { WAIT_MS = 10000, N_METHODS = 4 };

/* What the handlers tell the tests. */
typedef struct shared {
    atomic_int n_started;
    atomic_int n_cancelled;
    atomic_bool is_released; /* "hold" calls may go */
} shared_t;

extern shared_t shared;
extern char address[128]; /* of the last server */
extern const rpc_method_t methods[N_METHODS];

/* Waits until the count is reached. */
void wait_for(atomic_int *value, int wanted);
/* Serves in the test's folder. */
rpc_server_t *server_start(int max_calls);
rpc_channel_t *channel_start(void);
status_t call_entry(rpc_channel_t *channel, const char *path, const char *key, const char *value, int64_t timeout_ms,
                    entry_t **reply_p, rpc_code_t *code_p);
/* key NULL: bidi. */
rpc_stream_t *stream_start(rpc_channel_t *channel, const char *path, const char *key, const char *value);

typedef struct closing {
    rpc_server_t *server;
    int64_t grace_ms, took_ns;
} closing_t;
/* Thread: closes the server of a closing_t and takes the time. */
void *close_server(void *arg);

#endif
