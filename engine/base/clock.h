/* SPDX-License-Identifier: Apache-2.0 */
/* clock: nanoseconds, monotonic for durations and wall for records. */
#ifndef GRADD_BASE_CLOCK_H
#define GRADD_BASE_CLOCK_H

#include <stdint.h>

#define CLOCK_NS_PER_MS INT64_C(1000000)
#define CLOCK_NS_PER_S INT64_C(1000000000)

/* Monotonic time in ns since an arbitrary start. */
int64_t clock_now_ns(void);
/* Unix time in ns. */
int64_t clock_wall_ns(void);
/* Sleeps at least that long; continues after signals. */
void clock_sleep_ms(int64_t duration_ms);

#endif
