/* SPDX-License-Identifier: Apache-2.0 */
/* Every rank gets all records in microbatch order, rank 0's word, and the same error. */
#include <pthread.h>
#include <string.h>

#include "tests/support/fixture.h"
#include "worker/exchange.h"

enum { MAX_RANKS = 4, N_RECORDS = 6 };

typedef struct rank_run {
    coll_group_t *group;
    int failing; /* rank that fails, -1: none; MAX_RANKS: all */
    status_t status;
    char message[256];
    uint32_t word;
    int64_t sum; /* Σ (m + 1) · record m, and -1 where a record is wrong */
} rank_run_t;

static status_t records_exchange(rank_run_t *run, wrk_exchange_t *exchange)
{
    int rank = coll_group_rank(run->group);
    int64_t first = 0;
    int64_t n = 0;
    coll_share(N_RECORDS, coll_group_size(run->group), rank, &first, &n);
    for (int64_t i = 0; i < n; i++) {
        int64_t *record = wrk_exchange_own(exchange, i);
        *record = 100 + first + i;
    }
    status_t own = ST_OK;
    if (run->failing == rank || run->failing == MAX_RANKS) {
        own = ST_FAIL(ST_ERR_DATA, run->failing == MAX_RANKS ? "all alike" : "label 12 of sample 7");
    }
    return wrk_exchange_run(exchange, own, rank == 0 ? 42 : 7, 5, &run->word);
}

static void *rank_main(void *arg)
{
    rank_run_t *run = arg;
    wrk_exchange_t *exchange = NULL;
    run->status = wrk_exchange_open(run->group, N_RECORDS, 12, &exchange);
    for (int round = 0; round < 2 && run->status == ST_OK; round++) {
        run->sum = 0;
        run->status = records_exchange(run, exchange);
        for (int64_t m = 0; m < N_RECORDS && run->status == ST_OK; m++) {
            const int64_t *record = wrk_exchange_get(exchange, m);
            run->sum = *record == 100 + m ? run->sum + 1 : -100;
        }
    }
    (void)strncpy(run->message, status_message(), sizeof(run->message) - 1);
    wrk_exchange_close(exchange);
    coll_group_close(run->group);
    return NULL;
}

static void ranks_run(int size, int failing, rank_run_t *runs)
{
    coll_group_t *groups[MAX_RANKS];
    pthread_t threads[MAX_RANKS];
    assert_ok(coll_loopback_open(size, groups));
    for (int r = 0; r < size; r++) {
        runs[r] = (rank_run_t){.group = groups[r], .failing = failing};
        assert_int_equal(pthread_create(&threads[r], NULL, rank_main, &runs[r]), 0);
    }
    for (int r = 0; r < size; r++) {
        (void)pthread_join(threads[r], NULL);
    }
}

static void every_rank_gets_all_records_and_the_word_of_rank_0(void **state)
{
    (void)state;
    for (int size = 1; size <= MAX_RANKS; size++) {
        rank_run_t runs[MAX_RANKS];
        ranks_run(size, -1, runs);
        for (int r = 0; r < size; r++) {
            assert_int_equal(runs[r].status, ST_OK);
            assert_int_equal(runs[r].sum, N_RECORDS);
            assert_int_equal(runs[r].word, 42);
        }
    }
}

static void an_error_of_one_rank_is_returned_on_all(void **state)
{
    (void)state;
    rank_run_t runs[MAX_RANKS];
    ranks_run(3, 1, runs);
    for (int r = 0; r < 3; r++) {
        assert_int_equal(runs[r].status, ST_ERR_DATA);
        assert_string_equal(runs[r].message, "rank 1: label 12 of sample 7");
    }
}

static void an_error_of_all_ranks_needs_no_rank(void **state)
{
    (void)state;
    rank_run_t runs[MAX_RANKS];
    ranks_run(2, MAX_RANKS, runs);
    assert_string_equal(runs[0].message, "all alike");
    assert_string_equal(runs[1].message, "all alike");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_rank_gets_all_records_and_the_word_of_rank_0),
        TEST(an_error_of_one_rank_is_returned_on_all),
        TEST(an_error_of_all_ranks_needs_no_rank),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
