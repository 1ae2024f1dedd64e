/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reserve: disk space kept back for what must not fail when a disk is full: a file whose blocks are allocated, and
 * which is cut shorter to make room. A file system that allocates nothing ahead (ZFS, compressed btrfs) keeps none.
 * Embedded: {.fd = -1}, dmn_reserve_release. One thread.
 */
#ifndef GRADD_DAEMON_RESERVE_H
#define GRADD_DAEMON_RESERVE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

typedef struct dmn_reserve {
    int fd; /* -1: none, which is always full */
    int64_t size, full_size;
} dmn_reserve_t;

/* Opens or makes the file, and fills nothing. */
status_t dmn_reserve_open(const char *path, int64_t full_size, dmn_reserve_t *reserve);
/* The file stays, and what it keeps back. */
void dmn_reserve_release(dmn_reserve_t *reserve);
/* Brings it to its full size; false: the disk has no room for that. */
bool dmn_reserve_fill(dmn_reserve_t *reserve);
/* Gives up to so many bytes to whoever writes next; false: nothing is left. */
bool dmn_reserve_give(dmn_reserve_t *reserve, int64_t bytes);

#endif
