/* SPDX-License-Identifier: Apache-2.0 */
/*
 * yield: how a rank waits for the others.
 *
 * Note [A rank that waits]
 * MPI's waits poll, and between two polls Open MPI calls sched_yield (mpi_yield_when_idle). On Linux with the EEVDF
 * scheduler (6.6 and later) a yield no longer lets others run that have a right to it: two ranks that train at full
 * speed and yield to each other kept a runnable `gradctl show` off both cores for up to 23 s, and with what follows
 * for up to 3 s. (The rest of the cure is session_give_way in daemon/shim/main.c.) So this file puts its own
 * sched_yield before the C library's, for the whole process: whoever waits yields for YIELD_NS, which is longer than a
 * wait for a rank in step, and then sleeps for SLEEP_NS between polls. A sleeping rank frees its core for certain. Two
 * ranks on two cores lose nothing measurable, four on two 15 to 25 % of steps of 3 ms.
 */
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

/* Calls further apart belong to two waits. */
static const int64_t SAME_WAIT_NS = 20 * 1000;
static const int64_t YIELD_NS = 100 * 1000;
static const int64_t SLEEP_NS = 20 * 1000;
/* What the kernel may sleep longer, so as to wake for several timers at once. The default, 50 us, is
 * longer than SLEEP_NS. */
static const unsigned long TIMER_SLACK_NS = 1000;

typedef struct wait_state {
    bool is_known;
    int64_t begin_ns;
    int64_t last_ns;
} wait_state_t;

static _Thread_local wait_state_t wait_state;

static void wait_poll(void)
{
    wait_state_t *wait = &wait_state;
    if (!wait->is_known) {
        wait->is_known = true;
        (void)prctl(PR_SET_TIMERSLACK, TIMER_SLACK_NS, 0UL, 0UL, 0UL);
    }
    int64_t now_ns = clock_now_ns();
    if (now_ns - wait->last_ns > SAME_WAIT_NS) {
        wait->begin_ns = now_ns;
    }
    if (now_ns - wait->begin_ns >= YIELD_NS) {
        struct timespec pause = {.tv_nsec = SLEEP_NS};
        (void)nanosleep(&pause, NULL);
    } else {
        (void)syscall(SYS_sched_yield);
    }
    wait->last_ns = clock_now_ns();
}

int sched_yield(void)
{
    wait_poll();
    return 0;
}
