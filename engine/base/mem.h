/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mem: heap allocation with counters, so that tests can see leaks and allocations on a hot path.
 * Ownership: what mem_alloc and friends return is freed with mem_free.
 */
#ifndef GRADD_BASE_MEM_H
#define GRADD_BASE_MEM_H

#include <stddef.h>
#include <stdint.h>

/* Returns NULL when memory is out (nothing is recorded; the caller knows what it was for). size 0 gives a valid
 * pointer. */
void *mem_alloc(size_t size_bytes);
void *mem_zalloc(size_t size_bytes);
/* Zeroed array of n × size bytes; NULL on overflow. */
void *mem_calloc(size_t n, size_t size_bytes);
void *mem_realloc(void *pointer, size_t size_bytes);
/* alignment: a power of two ≥ sizeof(void *). From 4 MiB on huge pages are asked for. */
void *mem_alloc_aligned(size_t alignment, size_t size_bytes);
char *mem_strdup(const char *text);
char *mem_strndup(const char *text, size_t length);
/* NULL is fine. Frees memory of every function above. */
void mem_free(void *pointer);

/* Blocks alive now / blocks ever allocated through this module, over all threads. */
int64_t mem_live_count(void);
int64_t mem_total_count(void);

#endif
