/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cpp_parallel: oneDNN's parallel loops, run on all of the thread's team.
 *
 * Note [A smaller team costs threads]
 *   oneDNN starts its loops through dnnl::impl::parallel(n, f), which opens an OpenMP region of n threads; where work
 * is scarce, n is smaller than the number of threads there are. libgomp then ends the threads that are left over and
 *   makes new ones for the next region: system calls, memory from the heap, and scratch memory that is lost with its
 *   thread. So this function, which the dynamic linker finds before the library's, opens a region of all threads, of
 *   which the first n call f. Where f waits at a barrier of the region, those n must meet there, not all: hence
 *   GOMP_barrier too. Both serve calls within gd_cpp_new_begin and _end only, are weak, and leave all else to the
 *   libraries, so that other code of the process goes on as without us.
 */
#include <dlfcn.h>
#include <omp.h>
#include <sched.h>
#include <stdatomic.h>
#include <stddef.h>

#include "base/assert.h"
#include "cpu/cpp_new.h"

#ifdef __has_feature
#define HAS_FEATURE(feature_x) __has_feature(feature_x)
#else
#define HAS_FEATURE(feature_x) 0
#endif

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && !HAS_FEATURE(address_sanitizer) &&              \
    !HAS_FEATURE(thread_sanitizer)
bool gd_cpp_parallel_is_replaced(void)
{
    return true;
}

/* std::function<void(int, int)> of GNU's C++ library, part of its binary interface. */
typedef struct cpp_function {
    void *functor[2];
    void *manager;
    void (*invoke)(const struct cpp_function *self, int *thread, int *n_threads);
} cpp_function_t;

typedef void (*parallel_func_t)(int n, const cpp_function_t *f);
typedef void (*barrier_func_t)(void);
static _Atomic(parallel_func_t) library_parallel;
static _Atomic(barrier_func_t) library_barrier;

/* Of the first n threads of a region; round counts how often they have met. */
typedef struct meeting {
    int n;
    atomic_int n_there;
    atomic_int round;
} meeting_t;

static _Thread_local meeting_t *meeting_own;

static void meeting_wait(meeting_t *meeting)
{
    enum { SPINS = 2000 };
    const int round = atomic_load_explicit(&meeting->round, memory_order_acquire);
    if (atomic_fetch_add_explicit(&meeting->n_there, 1, memory_order_acq_rel) + 1 == meeting->n) {
        atomic_store_explicit(&meeting->n_there, 0, memory_order_relaxed);
        atomic_store_explicit(&meeting->round, round + 1, memory_order_release);
        return;
    }
    for (int i = 0; atomic_load_explicit(&meeting->round, memory_order_acquire) == round; i++) {
        if (i >= SPINS) {
            (void)sched_yield();
        }
    }
}

/* In the library that comes next; who calls ours has it. */
static void *library_find(const char *name)
{
    void *function = dlsym(RTLD_NEXT, name);
    ASSERT(function != NULL);
    return function;
}

/* dnnl::impl::parallel(int, const std::function<void(int, int)> &): n 0 stands for all threads. */
__attribute__((weak, visibility("default"))) void
cpp_parallel(int n, const cpp_function_t *f) __asm__("_ZN4dnnl4impl8parallelEiRKSt8functionIFviiEE");
void cpp_parallel(int n, const cpp_function_t *f)
{
    const int n_all = omp_get_max_threads();
    if (!gd_cpp_new_is_within() || omp_in_parallel() || n <= 1 || n >= n_all) {
        parallel_func_t function = atomic_load_explicit(&library_parallel, memory_order_relaxed);
        if (function == NULL) {
            *(void **)&function = library_find("_ZN4dnnl4impl8parallelEiRKSt8functionIFviiEE");
            atomic_store_explicit(&library_parallel, function, memory_order_relaxed);
        }
        function(n, f);
        return;
    }
    meeting_t meeting = {.n = n};
#pragma omp parallel num_threads(n_all)
    {
        const int n_there = omp_get_num_threads(); /* fewer where the system has no more */
        meeting_own = n_there >= n ? &meeting : NULL;
        for (int i = omp_get_thread_num(); i < n; i += n_there) {
            int thread = i, n_threads = n;
            f->invoke(f, &thread, &n_threads);
        }
        meeting_own = NULL;
    }
}

/* What #pragma omp barrier calls. */
__attribute__((weak, visibility("default"))) void gomp_barrier(void) __asm__("GOMP_barrier");
void gomp_barrier(void)
{
    if (meeting_own != NULL) {
        meeting_wait(meeting_own);
        return;
    }
    barrier_func_t function = atomic_load_explicit(&library_barrier, memory_order_relaxed);
    if (function == NULL) {
        *(void **)&function = library_find("GOMP_barrier");
        atomic_store_explicit(&library_barrier, function, memory_order_relaxed);
    }
    function();
}
#else
bool gd_cpp_parallel_is_replaced(void)
{
    return false;
}
#endif
