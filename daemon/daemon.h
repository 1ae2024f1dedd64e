/* SPDX-License-Identifier: Apache-2.0 */
/*
 * daemon: the whole of gradd as a library: state folder, store, supervisor, RPC servers. Owned handle.
 *
 * State folder (0700): lock, gradd.db, gradd.sock (0600), jobs/<id>/{job.yaml, logs/, checkpoints/,
 * attempts/<n>/{shim.json, launcher.log, exit.json, goodbye.json}}.
 */
#ifndef GRADD_DAEMON_DAEMON_H
#define GRADD_DAEMON_DAEMON_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

typedef struct dmn_options {
    const char *state_folder;        /* made when absent */
    const char *listen;              /* NULL: unix:<state folder>/gradd.sock, which is served in any case */
    const char *program_folder;      /* of grad-shim and grad-worker; NULL: beside the running program */
    const char *launcher;            /* NULL: $GRADD_LAUNCHER, else mpirun */
    int slots;                       /* 0: online cores */
    int64_t heartbeat_ms;            /* a rank that is silent for so long, attached or not, is given up; 0: 60 s */
    int64_t attach_ms;               /* ranks must attach within this time of the start; 0: 120 s */
    bool is_insecure_listen_allowed; /* TCP beyond loopback */
} dmn_options_t;

typedef struct dmn_daemon dmn_daemon_t;

/*
 * Takes the state folder's lock, finds running jobs again, serves. ST_ERR_BUSY when another daemon has the folder,
 * naming its pid. Signals: the caller should have SIGPIPE ignored.
 */
status_t dmn_daemon_open(const dmn_options_t *options, dmn_daemon_t **daemon_p);
/* Stops serving and leaves jobs running; grace_ms for calls under way. */
void dmn_daemon_close(dmn_daemon_t *daemon, int64_t grace_ms);
/* Where it listens, with the port that was bound. */
const char *dmn_daemon_address(const dmn_daemon_t *daemon);
int dmn_daemon_slots(const dmn_daemon_t *daemon);

/* ST_ERR_PERMISSION for a TCP address beyond loopback, saying why; ST_ERR_INVAL for what is no address. */
status_t dmn_listen_check(const char *address, bool is_insecure_allowed);

#endif
