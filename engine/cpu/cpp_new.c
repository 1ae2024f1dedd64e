/* SPDX-License-Identifier: Apache-2.0 */
/* cpp_new: see Note [oneDNN's blocks] in cpp_new.h. */
#include "cpu/cpp_new.h"

#include <dlfcn.h>
#include <omp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/assert.h"

#ifdef __has_feature
#define HAS_FEATURE(feature_x) __has_feature(feature_x)
#else
#define HAS_FEATURE(feature_x) 0
#endif

typedef enum source { SOURCE_UNTOLD, SOURCE_BLOCKS, SOURCE_LIBRARY } source_t;
static _Thread_local source_t source;

void gd_cpp_new_begin(bool is_lasting)
{
    source = is_lasting ? SOURCE_LIBRARY : SOURCE_BLOCKS;
}

void gd_cpp_new_end(void)
{
    source = SOURCE_UNTOLD;
}

bool gd_cpp_new_is_within(void)
{
    return source != SOURCE_UNTOLD;
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || HAS_FEATURE(address_sanitizer) ||                 \
    HAS_FEATURE(thread_sanitizer)
bool gd_cpp_new_is_replaced(void)
{
    return false;
}
#else
enum { N_SHELVES = 256, N_WORDS = GD_CPP_N_BLOCKS / 64 };

typedef union block {
    _Alignas(64) unsigned char byte[GD_CPP_BLOCK_SIZE];
} block_t;

/* The blocks of shelf i are blocks[i]; untouched ones cost no memory. Bit j of word k stands for block 64 k + j. */
static block_t blocks[N_SHELVES][GD_CPP_N_BLOCKS];

/* A thread's: it alone takes blocks off and knows free; other threads put back into returned. */
typedef struct shelf {
    _Alignas(64) uint64_t free[N_WORDS];
    bool was_used;
    _Alignas(64) _Atomic uint64_t returned[N_WORDS];
    atomic_bool is_owned;
} shelf_t;

static shelf_t shelves[N_SHELVES];
static _Thread_local shelf_t *own;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t own_key;

/* The C++ library's operators, behind ours. */
typedef void *(*new_func_t)(size_t size_bytes);
typedef void (*delete_func_t)(void *pointer);
static _Atomic(new_func_t) library_new;
static _Atomic(delete_func_t) library_delete;

bool gd_cpp_new_is_replaced(void)
{
    return true;
}

/* At the thread's end: the shelf is the next thread's, with the blocks that are out. */
static void shelf_leave(void *arg)
{
    shelf_t *shelf = arg;
    own = NULL;
    atomic_store_explicit(&shelf->is_owned, false, memory_order_release);
}

static void key_new(void)
{
    (void)pthread_key_create(&own_key, shelf_leave);
}

/* NULL when more threads than shelves want one. */
static shelf_t *shelf_claim(void)
{
    (void)pthread_once(&once, key_new);
    for (int i = 0; i < N_SHELVES; i++) {
        shelf_t *shelf = &shelves[i];
        if (!atomic_load_explicit(&shelf->is_owned, memory_order_relaxed) &&
            !atomic_exchange_explicit(&shelf->is_owned, true, memory_order_acquire)) {
            if (!shelf->was_used) {
                shelf->was_used = true;
                memset(shelf->free, 0xFF, sizeof(shelf->free));
            }
            (void)pthread_setspecific(own_key, shelf);
            return shelf;
        }
    }
    return NULL;
}

/* What other threads have put back; false: nothing. */
static bool shelf_gather(shelf_t *shelf)
{
    uint64_t any = 0;
    for (int k = 0; k < N_WORDS; k++) {
        shelf->free[k] |= atomic_exchange_explicit(&shelf->returned[k], 0, memory_order_acquire);
        any |= shelf->free[k];
    }
    return any != 0;
}

static void *block_take(void)
{
    if (own == NULL) {
        own = shelf_claim();
    }
    shelf_t *shelf = own;
    if (shelf == NULL) {
        return NULL;
    }
    do {
        for (int k = 0; k < N_WORDS; k++) {
            const uint64_t free = shelf->free[k];
            if (free != 0) {
                shelf->free[k] = free & (free - 1);
                return &blocks[shelf - shelves][64 * k + __builtin_ctzll(free)];
            }
        }
    } while (shelf_gather(shelf));
    return NULL;
}

static void block_return(size_t offset)
{
    const size_t index = offset / sizeof(block_t);
    shelf_t *shelf = &shelves[index / GD_CPP_N_BLOCKS];
    const size_t k = index % GD_CPP_N_BLOCKS / 64;
    const uint64_t bit = UINT64_C(1) << (index % 64);
    if (shelf == own) {
        shelf->free[k] |= bit;
    } else {
        (void)atomic_fetch_or_explicit(&shelf->returned[k], bit, memory_order_release);
    }
}

/* Without a C++ library there is nobody to call ours. */
static void *library_find(const char *name)
{
    void *function = dlsym(RTLD_NEXT, name);
    ASSERT(function != NULL);
    return function;
}

/* operator new(size_t): throws through here, hence this file's -fexceptions. */
__attribute__((weak, visibility("default"))) void *cpp_new(size_t size_bytes) __asm__("_Znwm");
void *cpp_new(size_t size_bytes)
{
    if (size_bytes <= GD_CPP_BLOCK_SIZE &&
        (source == SOURCE_BLOCKS || (source == SOURCE_UNTOLD && omp_in_parallel()))) {
        void *block = block_take();
        if (block != NULL) {
            return block;
        }
    }
    new_func_t function = atomic_load_explicit(&library_new, memory_order_relaxed);
    if (function == NULL) {
        *(void **)&function = library_find("_Znwm");
        atomic_store_explicit(&library_new, function, memory_order_relaxed);
    }
    return function(size_bytes);
}

/* operator delete(void *) */
__attribute__((weak, visibility("default"))) void cpp_delete(void *pointer) __asm__("_ZdlPv");
void cpp_delete(void *pointer)
{
    const size_t offset = (size_t)((uintptr_t)pointer - (uintptr_t)blocks);
    if (offset < sizeof(blocks)) {
        block_return(offset);
        return;
    }
    delete_func_t function = atomic_load_explicit(&library_delete, memory_order_relaxed);
    if (function == NULL) {
        *(void **)&function = library_find("_ZdlPv");
        atomic_store_explicit(&library_delete, function, memory_order_relaxed);
    }
    function(pointer);
}
#endif
