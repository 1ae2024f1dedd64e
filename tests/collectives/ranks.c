/* SPDX-License-Identifier: Apache-2.0 */
/* ranks: threads, one a rank, and a count of failures. */
#include "tests/collectives/ranks.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

enum { MAX_RANKS = 8 };

typedef struct rank_thread {
    pthread_t thread;
    coll_group_t *group;
    ranks_body_func_t body;
    void *arg;
} rank_thread_t;

static atomic_int n_failures;

void ranks_expect(bool is_met, const char *what, const char *file, int line)
{
    if (!is_met) {
        atomic_fetch_add(&n_failures, 1);
        print_error("%s:%d: expected %s\n", file, line, what);
    }
}

void ranks_expect_ok(status_t status, const char *call, const char *file, int line)
{
    if (status != ST_OK) {
        atomic_fetch_add(&n_failures, 1);
        print_error("%s:%d: %s gave %s: %s\n", file, line, call, status_name(status), status_message());
    }
}

void ranks_expect_fails(status_t status, status_t code, const char *text, const char *call, const char *file, int line)
{
    if (status != code || strstr(status_message(), text) == NULL) {
        atomic_fetch_add(&n_failures, 1);
        print_error("%s:%d: %s gave %s: \"%s\"; expected %s with \"%s\"\n", file, line, call, status_name(status),
                    status_message(), status_name(code), text);
    }
}

static void *rank_main(void *arg)
{
    rank_thread_t *rank = arg;
    rank->body(rank->group, rank->arg);
    coll_group_close(rank->group);
    return NULL;
}

void ranks_run(int n_ranks, ranks_body_func_t body, void *arg)
{
    coll_group_t *group[MAX_RANKS];
    rank_thread_t rank[MAX_RANKS];
    assert_in_range(n_ranks, 1, MAX_RANKS);
    atomic_store(&n_failures, 0);
    assert_ok(coll_loopback_open(n_ranks, group));
    for (int r = 0; r < n_ranks; r++) {
        rank[r] = (rank_thread_t){.group = group[r], .body = body, .arg = arg};
        assert_int_equal(pthread_create(&rank[r].thread, NULL, rank_main, &rank[r]), 0);
    }
    for (int r = 0; r < n_ranks; r++) {
        assert_int_equal(pthread_join(rank[r].thread, NULL), 0);
    }
    assert_int_equal(atomic_load(&n_failures), 0);
}

void ranks_run_here(coll_group_t *group, ranks_body_func_t body, void *arg)
{
    atomic_store(&n_failures, 0);
    body(group, arg);
    assert_int_equal(atomic_load(&n_failures), 0);
}
