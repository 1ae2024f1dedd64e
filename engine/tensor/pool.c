/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pool: free lists by size class; a 64-byte header before each block says where it belongs.
 *
 * Note [Segments]
 *   New blocks are cut from segments of 32 MiB, for which huge pages are asked: a step touches tens of megabytes over
 * and over, and with small pages each look-up that misses the processor's page cache costs as much as a miss of its
 * data, twice as much in a virtual machine (steps of a small GPT take 4 to 5 % longer). A segment's memory isn't used
 * before something is written there. Larger blocks have pages of their own. Where AddressSanitizer watches, every block
 * comes from the heap by itself, so that it sees what runs over an end.
 */
#include "tensor/pool.h"

#include <pthread.h>
#include <stdalign.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

/* Free blocks, and what lies beyond the size asked for, may not be touched; the sanitizer checks it. */
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(pointer_x, size_x) ((void)0)
#define ASAN_UNPOISON_MEMORY_REGION(pointer_x, size_x) ((void)0)
#endif

#include "base/assert.h"
#include "base/mem.h"

enum { POOL_ALIGN = 64, POOL_SMALL_LOG2 = 9, POOL_STEPS_LOG2 = 3, POOL_HUGE_PAGE = 2 << 20 };
enum { POOL_N_SMALL = (1 << POOL_SMALL_LOG2) / POOL_ALIGN, POOL_N_CLASSES = POOL_N_SMALL + 8 * 38 + 1 };
#define POOL_MAX_BYTES ((size_t)1 << 46)
static const size_t SEGMENT_BYTES = (size_t)32 << 20;
#ifdef __SANITIZE_ADDRESS__
static const size_t SEGMENT_MAX_BLOCK = 0;
#else
static const size_t SEGMENT_MAX_BLOCK = (size_t)8 << 20; /* with its header */
#endif

typedef struct pool_segment {
    char *memory;
    size_t used_bytes;
    int64_t n_blocks; /* cut from it */
    int64_t n_unused; /* of them, in free lists: only known within pool_trim */
} pool_segment_t;

typedef struct pool_block {
    alignas(POOL_ALIGN) gd_pool_t *pool;
    struct pool_block *next;
    pool_segment_t *segment; /* NULL: from the heap by itself */
    size_t size_bytes;       /* of the class, without this header */
    int size_class;
} pool_block_t;

struct gd_pool {
    pool_block_t *free_list[POOL_N_CLASSES];
    pool_segment_t *segment; /* that new blocks are cut from, or NULL */
    gd_memory_stats_t stats;
    int64_t n_in_use;
    pthread_mutex_t lock;  /* guards what follows */
    pool_block_t *foreign; /* freed by other threads */
    bool is_closed;
};

/* Smallest class that holds size_bytes; *rounded_p: its size. */
static int pool_class(size_t size_bytes, size_t *rounded_p)
{
    size_t units = size_bytes > 0 ? (size_bytes + POOL_ALIGN - 1) / POOL_ALIGN : 1;
    if (units <= POOL_N_SMALL) {
        *rounded_p = units * POOL_ALIGN;
        return (int)units - 1;
    }
    /* units in (2^k, 2^(k+1)], k ≥ 3: eight steps of 2^(k-3) */
    int log2 = 63 - __builtin_clzll((unsigned long long)units - 1);
    int shift = log2 - POOL_STEPS_LOG2;
    size_t step = ((units - 1) >> shift) & 7; /* 0 … 7 above 2^log2 */
    *rounded_p = (((size_t)8 + step + 1) << shift) * POOL_ALIGN;
    return POOL_N_SMALL + (log2 - POOL_STEPS_LOG2) * 8 + (int)step;
}

gd_pool_t *gd_pool_open(void)
{
    /* Not through mem_: cached blocks are no leaks, and live tensors have a count of their own. */
    gd_pool_t *pool = calloc(1, sizeof(*pool));
    if (pool != NULL && pthread_mutex_init(&pool->lock, NULL) != 0) {
        free(pool);
        return NULL;
    }
    return pool;
}

static void pool_destroy(gd_pool_t *pool)
{
    (void)pthread_mutex_destroy(&pool->lock);
    free(pool);
}

/* Back to the heap, with its segment if that was the last of its blocks. */
static void block_free(pool_block_t *block)
{
    ASAN_UNPOISON_MEMORY_REGION(block + 1, block->size_bytes);
    pool_segment_t *segment = block->segment;
    if (segment == NULL) {
        free(block);
    } else if (--segment->n_blocks == 0) {
        free(segment->memory);
        free(segment);
    }
}

static void pool_put(gd_pool_t *pool, pool_block_t *block)
{
    ASAN_POISON_MEMORY_REGION(block + 1, block->size_bytes);
    block->next = pool->free_list[block->size_class];
    pool->free_list[block->size_class] = block;
    pool->stats.in_use_bytes -= (int64_t)block->size_bytes;
    pool->n_in_use--;
}

static void pool_drain(gd_pool_t *pool)
{
    (void)pthread_mutex_lock(&pool->lock);
    pool_block_t *block = pool->foreign;
    pool->foreign = NULL;
    (void)pthread_mutex_unlock(&pool->lock);
    while (block != NULL) {
        pool_block_t *next = block->next;
        pool_put(pool, block);
        block = next;
    }
}

/* Gives unused blocks back to the heap: all, or all but those whose segment has others in use. */
static void pool_trim(gd_pool_t *pool, bool is_all)
{
    for (int i = 0; i < POOL_N_CLASSES; i++) {
        for (const pool_block_t *block = pool->free_list[i]; block != NULL; block = block->next) {
            if (block->segment != NULL) {
                block->segment->n_unused++;
            }
        }
    }
    if (pool->segment != NULL && (is_all || pool->segment->n_unused == pool->segment->n_blocks)) {
        pool->segment = NULL; /* goes with its last block */
    }
    for (int i = 0; i < POOL_N_CLASSES; i++) {
        pool_block_t *block = pool->free_list[i], **end = &pool->free_list[i];
        while (block != NULL) {
            pool_block_t *next = block->next;
            pool_segment_t *segment = block->segment;
            if (!is_all && segment != NULL && segment->n_unused-- < segment->n_blocks) {
                *end = block;
                end = &block->next;
            } else {
                pool->stats.held_bytes -= (int64_t)block->size_bytes;
                block_free(block);
            }
            block = next;
        }
        *end = NULL;
    }
}

void gd_pool_close(gd_pool_t *pool)
{
    if (pool == NULL) {
        return;
    }
    pool_drain(pool);
    pool_trim(pool, true);
    (void)pthread_mutex_lock(&pool->lock);
    pool->is_closed = true;
    pool_block_t *block = pool->foreign; /* freed since the drain */
    while (block != NULL) {
        pool_block_t *next = block->next;
        block_free(block);
        pool->n_in_use--;
        block = next;
    }
    bool is_empty = pool->n_in_use == 0;
    (void)pthread_mutex_unlock(&pool->lock);
    if (is_empty) {
        pool_destroy(pool);
    }
}

/* Memory of the heap; where it doesn't suffice, what the pool holds unused is given back first. */
static void *pool_memory(gd_pool_t *pool, size_t size_bytes)
{
    void *pointer = NULL;
    const bool is_large = size_bytes >= 2 * (size_t)POOL_HUGE_PAGE;
    const size_t alignment = is_large ? (size_t)POOL_HUGE_PAGE : POOL_ALIGN;
    if (posix_memalign(&pointer, alignment, size_bytes) != 0) {
        pool_trim(pool, false);
        if (posix_memalign(&pointer, alignment, size_bytes) != 0) {
            return NULL;
        }
    }
    if (is_large) {
        (void)madvise(pointer, size_bytes, MADV_HUGEPAGE); /* advice only */
    }
    return pointer;
}

/* The pool's next segment; NULL when memory is out. What is left of the one before stays unused. */
static pool_segment_t *segment_new(gd_pool_t *pool)
{
    pool_segment_t *segment = calloc(1, sizeof(*segment));
    if (segment == NULL) {
        return NULL;
    }
    segment->memory = pool_memory(pool, SEGMENT_BYTES);
    if (segment->memory == NULL) {
        free(segment);
        return NULL;
    }
    pool->segment = segment;
    return segment;
}

static pool_block_t *pool_block_new(gd_pool_t *pool, size_t size_bytes)
{
    const size_t total = sizeof(pool_block_t) + size_bytes;
    pool_segment_t *segment = NULL;
    if (total <= SEGMENT_MAX_BLOCK) {
        segment = pool->segment;
        if (segment == NULL || SEGMENT_BYTES - segment->used_bytes < total) {
            segment = segment_new(pool);
        }
    }
    pool_block_t *block = NULL;
    if (segment != NULL) {
        block = (pool_block_t *)(void *)(segment->memory + segment->used_bytes);
        segment->used_bytes += total;
        segment->n_blocks++;
    } else {
        block = pool_memory(pool, total); /* also where there is no room for a whole segment */
    }
    if (block == NULL) {
        return NULL;
    }
    block->segment = segment;
    pool->stats.n_system_allocations++;
    pool->stats.held_bytes += (int64_t)size_bytes;
    return block;
}

void *gd_pool_alloc(gd_pool_t *pool, size_t size_bytes)
{
    if (size_bytes > POOL_MAX_BYTES) {
        return NULL;
    }
    size_t rounded = 0;
    int size_class = pool_class(size_bytes, &rounded);
    pool_block_t *block = pool->free_list[size_class];
    if (block == NULL) {
        pool_drain(pool);
        block = pool->free_list[size_class];
    }
    if (block != NULL) {
        pool->free_list[size_class] = block->next;
    } else {
        block = pool_block_new(pool, rounded);
        if (block == NULL) {
            return NULL;
        }
        block->pool = pool;
        block->size_bytes = rounded;
        block->size_class = size_class;
    }
    pool->n_in_use++;
    pool->stats.in_use_bytes += (int64_t)rounded;
    if (pool->stats.in_use_bytes > pool->stats.peak_bytes) {
        pool->stats.peak_bytes = pool->stats.in_use_bytes;
    }
    ASAN_POISON_MEMORY_REGION(block + 1, block->size_bytes);
    ASAN_UNPOISON_MEMORY_REGION(block + 1, size_bytes);
    return block + 1;
}

void gd_pool_free(gd_pool_t *own, void *pointer)
{
    if (pointer == NULL) {
        return;
    }
    pool_block_t *block = (pool_block_t *)pointer - 1;
    gd_pool_t *pool = block->pool;
    if (pool == own) {
        pool_put(pool, block);
        return;
    }
    bool is_empty = false;
    (void)pthread_mutex_lock(&pool->lock);
    if (pool->is_closed) {
        block_free(block);
        pool->n_in_use--;
        is_empty = pool->n_in_use == 0;
    } else {
        block->next = pool->foreign;
        pool->foreign = block;
    }
    (void)pthread_mutex_unlock(&pool->lock);
    if (is_empty) {
        pool_destroy(pool);
    }
}

int64_t gd_pool_block_bytes(const void *pointer)
{
    return (int64_t)((const pool_block_t *)pointer - 1)->size_bytes;
}

gd_memory_stats_t gd_pool_get_stats(gd_pool_t *pool)
{
    pool_drain(pool);
    return pool->stats;
}

void gd_pool_reset_peak(gd_pool_t *pool)
{
    pool_drain(pool);
    pool->stats.peak_bytes = pool->stats.in_use_bytes;
}
