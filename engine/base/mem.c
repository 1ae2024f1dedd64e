/* SPDX-License-Identifier: Apache-2.0 */
/* mem: counted wrappers around the C heap. */
#include "base/mem.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { HUGE_PAGE = 2 << 20 };

static atomic_int_fast64_t n_live;
static atomic_int_fast64_t n_total;

static void *block_count(void *pointer)
{
    if (pointer != NULL) {
        atomic_fetch_add_explicit(&n_live, 1, memory_order_relaxed);
        atomic_fetch_add_explicit(&n_total, 1, memory_order_relaxed);
    }
    return pointer;
}

void *mem_alloc(size_t size_bytes)
{
    return block_count(malloc(size_bytes > 0 ? size_bytes : 1));
}

void *mem_zalloc(size_t size_bytes)
{
    return block_count(calloc(1, size_bytes > 0 ? size_bytes : 1));
}

void *mem_calloc(size_t n, size_t size_bytes)
{
    return block_count(n > 0 && size_bytes > 0 ? calloc(n, size_bytes) : calloc(1, 1));
}

void *mem_realloc(void *pointer, size_t size_bytes)
{
    if (pointer == NULL) {
        return mem_alloc(size_bytes);
    }
    atomic_fetch_add_explicit(&n_total, 1, memory_order_relaxed);
    return realloc(pointer, size_bytes > 0 ? size_bytes : 1);
}

void *mem_alloc_aligned(size_t alignment, size_t size_bytes)
{
    void *pointer = NULL;
    const int is_large = size_bytes >= 2 * (size_t)HUGE_PAGE;
    alignment = is_large && alignment < (size_t)HUGE_PAGE ? (size_t)HUGE_PAGE : alignment;
    if (posix_memalign(&pointer, alignment, size_bytes > 0 ? size_bytes : 1) != 0) {
        return NULL;
    }
    if (is_large) {
        (void)madvise(pointer, size_bytes, MADV_HUGEPAGE); /* advice only */
    }
    return block_count(pointer);
}

char *mem_strdup(const char *text)
{
    return mem_strndup(text, strlen(text));
}

char *mem_strndup(const char *text, size_t length)
{
    size_t n = strnlen(text, length);
    char *copy = mem_alloc(n + 1);
    if (copy != NULL) {
        memcpy(copy, text, n);
        copy[n] = '\0';
    }
    return copy;
}

void mem_free(void *pointer)
{
    if (pointer != NULL) {
        atomic_fetch_sub_explicit(&n_live, 1, memory_order_relaxed);
        free(pointer);
    }
}

int64_t mem_live_count(void)
{
    return (int64_t)atomic_load(&n_live);
}

int64_t mem_total_count(void)
{
    return (int64_t)atomic_load(&n_total);
}
