/* SPDX-License-Identifier: Apache-2.0 */
/* oneDNN's parallel loops as engine/cpu/cpp_parallel.c runs them: who takes part, who meets, and whose threads stay. */
#include <dlfcn.h>
#include <omp.h>
#include <pthread.h>
#include <stdatomic.h>

#include "cpu/cpp_new.h"
#include "cpu/onednn.h"
#include "tests/support/fixture.h"

enum { N_ALL = 4, N_MEETINGS = 50 };

/* std::function<void(int, int)>, as the C++ library lays it out, and what the loop's body has seen. */
typedef struct body {
    void *functor[2];
    void *manager;
    void (*invoke)(struct body *self, int *thread, int *n_threads);
    void (*barrier)(void);
    atomic_int n_calls[N_ALL];
    atomic_int n_there[N_MEETINGS];
    atomic_int n_early;
    int n_wanted;
    pthread_t id[N_ALL];
} body_t;
typedef void (*parallel_func_t)(int n, body_t *body);

static void body_invoke(body_t *body, int *thread, int *n_threads)
{
    atomic_fetch_add(&body->n_calls[*thread], 1);
    atomic_fetch_add(&body->n_early, *n_threads != body->n_wanted);
    body->id[*thread] = pthread_self();
    for (int i = 0; i < N_MEETINGS; i++) {
        atomic_fetch_add(&body->n_there[i], 1);
        body->barrier();
        atomic_fetch_add(&body->n_early, atomic_load(&body->n_there[i]) != body->n_wanted);
        body->barrier();
    }
}

static void ids_get(pthread_t *id)
{
#pragma omp parallel num_threads(N_ALL)
    id[omp_get_thread_num()] = pthread_self();
}

static void the_first_threads_of_a_whole_team_run_a_smaller_loop(void **state)
{
    (void)state;
    (void)gd_onednn_version(); /* what the linker sees no use of, it leaves away */
    if (!gd_cpp_parallel_is_replaced()) {
        FIXTURE_SKIP("a sanitizer's threads are not OpenMP's");
    }
    parallel_func_t parallel = NULL;
    void (*barrier)(void) = NULL;
    *(void **)&parallel = dlsym(RTLD_DEFAULT, "_ZN4dnnl4impl8parallelEiRKSt8functionIFviiEE");
    *(void **)&barrier = dlsym(RTLD_DEFAULT, "GOMP_barrier");
    assert_non_null(parallel);
    assert_non_null(barrier);
    omp_set_num_threads(N_ALL);
    pthread_t before[N_ALL], after[N_ALL];
    ids_get(before);

    for (int n = 1; n <= N_ALL; n++) {
        body_t body = {.manager = &body, .invoke = body_invoke, .barrier = barrier, .n_wanted = n};
        gd_cpp_new_begin(false);
        parallel(n, &body);
        gd_cpp_new_end();

        assert_int_equal(body.n_early, 0);
        for (int i = 0; i < N_ALL; i++) {
            assert_int_equal(body.n_calls[i], i < n);
            assert_true(i >= n || pthread_equal(body.id[i], before[i]));
        }
        ids_get(after);
        assert_memory_equal(after, before, sizeof(before)); /* nobody was sent away */
    }
    omp_set_num_threads(1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_first_threads_of_a_whole_team_run_a_smaller_loop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
