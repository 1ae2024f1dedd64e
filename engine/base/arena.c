/* SPDX-License-Identifier: Apache-2.0 */
/* arena: a list of chunks, filled one after the other. */
#include "base/arena.h"

#include <stdint.h>
#include <string.h>

#include "base/mem.h"

enum { ARENA_ALIGN = 64, ARENA_CHUNK_DEFAULT = 65536 };

struct arena_chunk {
    arena_chunk_t *next;
    size_t size;
    size_t used;
    unsigned char *data; /* ARENA_ALIGN-aligned, after this header in the same block */
};

void arena_init(arena_t *arena, size_t chunk_size)
{
    *arena = (arena_t){.chunk_size = chunk_size > 0 ? chunk_size : ARENA_CHUNK_DEFAULT};
}

void arena_release(arena_t *arena)
{
    arena_chunk_t *chunk = arena->first;
    while (chunk != NULL) {
        arena_chunk_t *next = chunk->next;
        mem_free(chunk);
        chunk = next;
    }
    arena->first = NULL;
    arena->current = NULL;
}

void arena_reset(arena_t *arena)
{
    for (arena_chunk_t *chunk = arena->first; chunk != NULL; chunk = chunk->next) {
        chunk->used = 0;
    }
    arena->current = arena->first;
}

static arena_chunk_t *arena_chunk_new(size_t size)
{
    const size_t header = (sizeof(arena_chunk_t) + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN;
    arena_chunk_t *chunk = mem_alloc_aligned(ARENA_ALIGN, header + size);
    if (chunk != NULL) {
        *chunk = (arena_chunk_t){.size = size, .data = (unsigned char *)chunk + header};
    }
    return chunk;
}

void *arena_alloc(arena_t *arena, size_t size_bytes)
{
    if (size_bytes > SIZE_MAX - ARENA_ALIGN) {
        return NULL;
    }
    size_t size = (size_bytes + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN;
    arena_chunk_t *chunk = arena->current;
    while (chunk != NULL && chunk->size - chunk->used < size && chunk->next != NULL) {
        chunk = chunk->next;
    }
    if (chunk == NULL || chunk->size - chunk->used < size) {
        arena_chunk_t *fresh = arena_chunk_new(size > arena->chunk_size ? size : arena->chunk_size);
        if (fresh == NULL) {
            return NULL;
        }
        if (chunk == NULL) {
            arena->first = fresh;
        } else {
            chunk->next = fresh;
        }
        chunk = fresh;
    }
    arena->current = chunk;
    void *pointer = chunk->data + chunk->used;
    chunk->used += size;
    return memset(pointer, 0, size);
}

char *arena_strdup(arena_t *arena, const char *text)
{
    size_t size = strlen(text) + 1;
    char *copy = arena_alloc(arena, size);
    return copy != NULL ? memcpy(copy, text, size) : NULL;
}
