/* SPDX-License-Identifier: Apache-2.0 */
/* client: a daemon in this process with fake workers, and its RPCs as functions. */
#ifndef GRADD_TESTS_DAEMON_CLIENT_H
#define GRADD_TESTS_DAEMON_CLIENT_H

#include "daemon/daemon.h"
#include "gradd.pb-c.h"
#include "proto/rpc.h"
#include "tests/daemon/support.h"

/* The launcher of fake workers: as slow as mpirun to notice a dead rank. Static buffer. */
const char *client_launcher(void);
/* dmn_options_t.attach_ms and heartbeat_ms of the next daemon, which sets them back to 0: the defaults. */
extern int64_t client_attach_ms;
extern int64_t client_heartbeat_ms;
/* On "<fixture folder>/state", with these slots. plan: FAKE_PLAN of the workers. */
dmn_daemon_t *client_daemon(int slots, const char *plan);
void client_open(void);
void client_close(void);

/* A unary call whose failure fails the test; release the answer with client_free. */
ProtobufCMessage *client_call(const char *method, const ProtobufCMessage *request,
                              const ProtobufCMessageDescriptor *response);
/* A call that must fail with this code and a message that has this text. */
void client_call_fails(const char *method, const ProtobufCMessage *request, const ProtobufCMessageDescriptor *response,
                       rpc_code_t code, const char *text);
void client_free(void *message);
rpc_stream_t *client_stream(const char *method, const ProtobufCMessage *request,
                            const ProtobufCMessageDescriptor *response);

/* A small valid job with so many workers; static buffer. */
const char *client_yaml(int workers, const char *rest);
/* Submits it and returns its number. */
int client_submit(int workers, const char *rest);
Gradd__V1__Job *client_get(int id);
Gradd__V1__State client_state(int id);
int64_t client_step(int id);
int client_attempt(int id);
/* Its reason, in a static buffer. */
const char *client_reason(int id);
void client_pause(int id);
void client_cancel(int id, bool is_forced);
void client_resume(int id, int workers);

#endif
