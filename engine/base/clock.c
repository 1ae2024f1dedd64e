/* SPDX-License-Identifier: Apache-2.0 */
/* clock: POSIX clocks as 64-bit nanoseconds. */
#include "base/clock.h"

#include <errno.h>
#include <time.h>

static int64_t clock_read_ns(clockid_t id)
{
    struct timespec now;
    (void)clock_gettime(id, &now);
    return (int64_t)now.tv_sec * CLOCK_NS_PER_S + now.tv_nsec;
}

int64_t clock_now_ns(void)
{
    return clock_read_ns(CLOCK_MONOTONIC);
}

int64_t clock_wall_ns(void)
{
    return clock_read_ns(CLOCK_REALTIME);
}

void clock_sleep_ms(int64_t duration_ms)
{
    struct timespec left = {.tv_sec = duration_ms / 1000, .tv_nsec = (duration_ms % 1000) * CLOCK_NS_PER_MS};
    while (nanosleep(&left, &left) != 0 && errno == EINTR) {
    }
}
