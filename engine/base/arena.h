/* SPDX-License-Identifier: Apache-2.0 */
/*
 * arena: bump allocation of small objects that all die together (tape nodes of a step, a parsed document).
 * Embedded: arena_init, arena_release. Not thread-safe. arena_reset keeps the chunks, so that a steady state
 * allocates nothing from the heap.
 */
#ifndef GRADD_BASE_ARENA_H
#define GRADD_BASE_ARENA_H

#include <stddef.h>

typedef struct arena_chunk arena_chunk_t;

typedef struct arena {
    arena_chunk_t *first;
    arena_chunk_t *current;
    size_t chunk_size;
} arena_t;

/* chunk_size: bytes per heap block; 0 for 64 KiB. */
void arena_init(arena_t *arena, size_t chunk_size);
void arena_release(arena_t *arena);
void arena_reset(arena_t *arena);
/* Zeroed, aligned to 64 bytes; NULL when memory is out. */
void *arena_alloc(arena_t *arena, size_t size_bytes);
char *arena_strdup(arena_t *arena, const char *text);

#endif
