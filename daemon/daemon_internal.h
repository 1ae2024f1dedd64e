/* SPDX-License-Identifier: Apache-2.0 */
/*
 * daemon_internal: what the supervisor and the RPC handlers share.
 *
 * Locks: daemon->lock over runs, the queue and every change of state; the store's own inside it; the notice lock is
 * innermost. Nothing is written to a gRPC stream under daemon->lock.
 */
#ifndef GRADD_DAEMON_DAEMON_INTERNAL_H
#define GRADD_DAEMON_DAEMON_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "daemon/daemon.h"
#include "daemon/jobs.h"
#include "daemon/launch.h"
#include "daemon/scheduler.h"
#include "daemon/store.h"
#include "gradd.pb-c.h"
#include "proto/rpc.h"
#include "proto/spec.h"

enum { DMN_MAX_LIST = 1000, DMN_MAX_CALLS = 1024, DMN_HOST_SIZE = 256 };

/* Commands by the numbers of Command.Kind; 0: none. */
typedef enum dmn_command {
    DMN_COMMAND_NONE,
    DMN_COMMAND_PAUSE,
    DMN_COMMAND_STOP,
    DMN_COMMAND_CHECKPOINT
} dmn_command_t;

/* One rank of a run, as its Attach stream shows it. Times are monotonic ns; 0: not. */
typedef struct dmn_run_rank {
    rpc_call_t *call;          /* NULL: not attached */
    int n_writers;             /* threads in rpc_call_write on call; it stays until they are out */
    int64_t heard_ns, lost_ns; /* lost: since when it has no stream, after it had one, perhaps with an earlier daemon */
    bool has_left;             /* said goodbye */
    bool is_local;             /* its pid is one of this host */
    pid_t pid;
    uint64_t starttime;
} dmn_run_rank_t;

/* A job that holds slots: an attempt under way, or one that waits for its backoff. Counted; under daemon->lock. */
typedef struct dmn_run {
    struct dmn_run *next;
    int n_refs;
    dmn_job_t job;         /* the row */
    dmn_attempt_t attempt; /* the latest */
    char *folder;          /* of the job */
    int threads, max_restarts;
    int64_t backoff_ms, grace_ms;
    bool is_live;  /* has a shim */
    bool is_ended; /* out of the list; handlers leave */
    int pidfd;
    bool is_child; /* the shim is ours to reap */
    bool is_exited;
    bool is_kill_sent, is_term_sent, is_grace_over;
    bool lacks_room;   /* the attempt could not be started on a full disk, which is not the job's fault */
    bool is_room_told; /* waits for room, and an event says so */
    char *kill_reason;
    dmn_command_t sent;
    int64_t launched_ns; /* by this daemon; 0: found again */
    int64_t retry_at_ns, kill_at_ns, finish_at_ns;
    int64_t failed_ns; /* a rank said that it failed: the others follow soon, or are killed */
    int64_t left_ns;   /* rank 0 said goodbye: the launcher ends soon, or is killed */
    int n_kills;
    int n_fruitless;               /* attempts in a row that saved no checkpoint */
    int64_t first_checkpoint_step; /* the newest when the attempt began */
    bool has_base_step;
    int64_t base_step; /* where the attempt began */
    dmn_run_rank_t *ranks;
    int n_ranks;
} dmn_run_t;

struct dmn_daemon {
    char *state_folder, *database, *program_folder, *launcher, *address, *worker_address;
    char host[DMN_HOST_SIZE], boot_id[DMN_BOOT_ID_SIZE];
    int64_t heartbeat_ms, attach_ms, started_ns;
    int lock_fd;
    dmn_store_t *store;

    pthread_mutex_t lock;
    pthread_cond_t writers_left; /* a rank's n_writers became 0 */
    dmn_run_t *runs;
    dmn_scheduler_t scheduler;

    pthread_t supervisor;
    bool has_supervisor;
    int epoll_fd, wake_fd;
    atomic_bool is_stopping;

    pthread_mutex_t notice_lock;
    pthread_cond_t noticed;
    uint64_t n_notices; /* grows with every change that a follower may wait for */

    rpc_server_t *servers[2];
};

/* ---- daemon.c ---- */
/* Something was stored: wakes followers. */
void dmn_notice(dmn_daemon_t *daemon);
uint64_t dmn_notice_number(dmn_daemon_t *daemon);
/* Waits until the number is another than `seen` or timeout_ms is over. */
void dmn_notice_wait(dmn_daemon_t *daemon, uint64_t seen, int64_t timeout_ms);
/* "<state>/jobs/<id>"; mem_free. */
char *dmn_job_folder(const dmn_daemon_t *daemon, int64_t id);

/* ---- run.c; all under daemon->lock ---- */
dmn_run_t *dmn_run_find(dmn_daemon_t *daemon, int64_t job_id);
/* A run for a job (its row and spec are read from the store), added to the list. */
status_t dmn_run_open(dmn_daemon_t *daemon, int64_t job_id, dmn_run_t **run_p);
/* Takes it out of the list; its memory goes with the last reference. */
void dmn_run_end(dmn_daemon_t *daemon, dmn_run_t *run);
dmn_run_t *dmn_run_ref(dmn_run_t *run);
void dmn_run_unref(dmn_run_t *run);
/* Change of state with notice. */
status_t dmn_run_change(dmn_daemon_t *daemon, dmn_run_t *run, dmn_state_t state, const char *reason);
/* Starts the next attempt: row, STARTING, shim. A failure to start is a failed attempt. */
status_t dmn_run_launch(dmn_daemon_t *daemon, dmn_run_t *run);
/* After the shim is gone: decides and stores what follows, cleans up. */
status_t dmn_run_finish(dmn_daemon_t *daemon, dmn_run_t *run);
/* Kills the attempt; the first reason stays. */
void dmn_run_kill(dmn_daemon_t *daemon, dmn_run_t *run, const char *reason);
/* A job that an earlier daemon left in a live state or RESTARTING. */
status_t dmn_run_recover(dmn_daemon_t *daemon, dmn_run_t *run);
void dmn_run_watch(dmn_daemon_t *daemon, dmn_run_t *run);

/* ---- supervise.c ---- */
status_t dmn_supervisor_start(dmn_daemon_t *daemon);
void dmn_supervisor_stop(dmn_daemon_t *daemon);
void dmn_supervisor_wake(dmn_daemon_t *daemon);

/* ---- service.c, steer.c, follow.c, attach.c: RPC handlers ---- */
extern const rpc_method_t dmn_methods[];
extern const int dmn_n_methods;
status_t dmn_rpc_submit(rpc_call_t *call, const ProtobufCMessage *request, void *arg);
status_t dmn_rpc_validate(rpc_call_t *call, const ProtobufCMessage *request, void *arg);
status_t dmn_rpc_pause(rpc_call_t *call, const ProtobufCMessage *request, void *arg);
status_t dmn_rpc_resume(rpc_call_t *call, const ProtobufCMessage *request, void *arg);
status_t dmn_rpc_cancel(rpc_call_t *call, const ProtobufCMessage *request, void *arg);
status_t dmn_rpc_watch(rpc_call_t *call, const ProtobufCMessage *request, void *arg);
status_t dmn_rpc_logs(rpc_call_t *call, const ProtobufCMessage *request, void *arg);
status_t dmn_rpc_metrics(rpc_call_t *call, const ProtobufCMessage *request, void *arg);
status_t dmn_rpc_attach(rpc_call_t *call, const ProtobufCMessage *request, void *arg);
/* devices.c: whether this host's grad-worker has the kind of device that the job asks for; ST_ERR_UNSUPPORTED. */
status_t dmn_device_check(const dmn_daemon_t *daemon, const spec_job_t *job);
/* Job ids are decimal texts; ST_ERR_INVAL / ST_ERR_NOT_FOUND. */
status_t dmn_job_id_parse(const char *text, int64_t *id_p);
/* Sends the job as it is now. */
status_t dmn_job_send(dmn_daemon_t *daemon, rpc_call_t *call, int64_t id, dmn_job_part_t part);

#endif
