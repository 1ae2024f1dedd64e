/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pool: the caching allocator behind a context. Blocks come in size classes (multiples of 64 bytes up to 512, then
 * eight steps to a power of two); a freed block waits in its class's list for the next request, so that a steady loop
 * asks the heap for nothing. 64-byte aligned.
 *
 * Ownership: owned handle. One thread allocates; any thread may free. A pool that is closed while blocks are out lives
 * on until the last of them is freed.
 */
#ifndef GRADD_TENSOR_POOL_H
#define GRADD_TENSOR_POOL_H

#include <stddef.h>

#include "gradd/context.h"

typedef struct gd_pool gd_pool_t;

/* NULL when memory is out. */
gd_pool_t *gd_pool_open(void);
void gd_pool_close(gd_pool_t *pool);
/* Uninitialised; NULL when memory is out (after giving back what the pool holds unused). */
void *gd_pool_alloc(gd_pool_t *pool, size_t size_bytes);
/* Back into the pool that pointer came from; own: the calling thread's pool. */
void gd_pool_free(gd_pool_t *own, void *pointer);
/* What a block takes: the size of its class. */
int64_t gd_pool_block_bytes(const void *pointer);
gd_memory_stats_t gd_pool_get_stats(gd_pool_t *pool);
void gd_pool_reset_peak(gd_pool_t *pool);

#endif
