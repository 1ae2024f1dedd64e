/* SPDX-License-Identifier: Apache-2.0 */
/* scripted_daemon: an in-process server of the Attach stream that does what a test tells it and keeps what it is told.
 */
#ifndef GRADD_TESTS_WORKER_SCRIPTED_DAEMON_H
#define GRADD_TESTS_WORKER_SCRIPTED_DAEMON_H

#include <pthread.h>
#include <time.h>

#include "base/clock.h"
#include "gradd.pb-c.h"
#include "proto/rpc.h"
#include "proto/spec.h"
#include "tests/support/fixture.h"

enum { WAIT_MS = 20000, MAX_STEPS = 1000, MAX_RANKS = 8 };

/* What the daemon is to do, and what it was told. */
typedef struct daemon {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    rpc_server_t *server;
    char address[128];
    char directory[128];
    uint8_t *job;
    size_t job_size;
    const char *refuse; /* NULL: welcome */
    bool is_mute;       /* doesn't acknowledge */
    bool drops_goodbye; /* ends the stream with an error instead of storing it, once */
    int command;        /* to send after the next telemetry, 0: none */
    bool had_job;       /* of the last hello */
    int n_hellos;
    int n_stored[MAX_STEPS]; /* points by step */
    int64_t last_step;
    int n_goodbyes;
    int64_t goodbye_step;
    int goodbye_outcome;
    bool is_permanent;
    char goodbye_message[512];
    char parameters_sha256[80];
    int64_t pid[MAX_RANKS];
    int64_t first_step_ns; /* when the first finished step was told, monotonic */
    char notes[2048];
} daemon_t;

/* Only rank 0's telemetry and goodbye are kept. */
extern daemon_t the_daemon;

/* Changes what the daemon does. */
#define DAEMON_SET(assignment_x)                                                                                       \
    do {                                                                                                               \
        (void)pthread_mutex_lock(&the_daemon.lock);                                                                    \
        assignment_x;                                                                                                  \
        (void)pthread_mutex_unlock(&the_daemon.lock);                                                                  \
    } while (0)

/* Waits until condition_x, looked at under the lock. */
#define WAIT_FOR(condition_x)                                                                                          \
    do {                                                                                                               \
        int64_t deadline_ns = clock_wall_ns() + WAIT_MS * CLOCK_NS_PER_MS;                                             \
        struct timespec at = {deadline_ns / CLOCK_NS_PER_S, deadline_ns % CLOCK_NS_PER_S};                             \
        int result = 0;                                                                                                \
        (void)pthread_mutex_lock(&the_daemon.lock);                                                                    \
        while (!(condition_x) && result == 0) {                                                                        \
            result = pthread_cond_timedwait(&the_daemon.changed, &the_daemon.lock, &at);                               \
        }                                                                                                              \
        (void)pthread_mutex_unlock(&the_daemon.lock);                                                                  \
        if (result != 0) {                                                                                             \
            fail_msg("waited in vain for " #condition_x);                                                              \
        }                                                                                                              \
    } while (0)

/* Serves this job, whose folder is `directory`, on a socket in the test's folder. */
void daemon_start(const spec_job_t *job, const char *directory);
/* Ends all calls: what the daemon was told can then be read without its lock. */
void daemon_pause(void);
/* After daemon_pause: serves again. */
void daemon_listen(daemon_t *daemon);
void daemon_stop(void);

#endif
