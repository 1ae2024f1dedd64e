/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Collectives with small integers, which every order of additions sums exactly: on loopback with 1 … 5 ranks, and,
 * started as `test_group mpi` by mpirun, on MPI.
 */
#include <stdatomic.h>
#include <string.h>

#include "base/clock.h"
#include "collectives/backend.h"
#include "tests/collectives/ranks.h"

enum { MAX_RANKS = 8, N = 1003, MAX_LOOPBACK = 5 };

static coll_group_t *mpi_group; /* NULL: loopback */

static void everywhere_run(ranks_body_func_t body)
{
    if (mpi_group != NULL) {
        ranks_run_here(mpi_group, body, NULL);
        return;
    }
    for (int n_ranks = 1; n_ranks <= MAX_LOOPBACK; n_ranks++) {
        ranks_run(n_ranks, body, NULL);
    }
}

/* Element i of rank r. */
static int value(int rank, int i)
{
    return (i * 7 + rank * 13) % 11;
}

static int value_reduced(int size, int i, coll_op_t op)
{
    int result = value(0, i);
    for (int r = 1; r < size; r++) {
        int x = value(r, i);
        result = op == COLL_OP_SUM   ? result + x
                 : op == COLL_OP_MIN ? (x < result ? x : result)
                 : x > result        ? x
                                     : result;
    }
    return result;
}

static void element_set(void *buffer, int i, gd_dtype_t dtype, int x)
{
    switch (dtype) {
    case GD_DTYPE_F32:
        ((float *)buffer)[i] = (float)x;
        break;
    case GD_DTYPE_F64:
        ((double *)buffer)[i] = x;
        break;
    case GD_DTYPE_I64:
        ((int64_t *)buffer)[i] = x;
        break;
    case GD_DTYPE_I32:
        ((int32_t *)buffer)[i] = x;
        break;
    default:
        ((uint8_t *)buffer)[i] = (uint8_t)x;
        break;
    }
}

static bool element_is(const void *buffer, int i, gd_dtype_t dtype, int x)
{
    double expected[1];
    element_set(expected, 0, dtype, x);
    size_t size = (size_t)coll_dtype_size(dtype);
    return memcmp((const char *)buffer + (size_t)i * size, expected, size) == 0;
}

static const gd_dtype_t dtypes[] = {GD_DTYPE_F32, GD_DTYPE_F64, GD_DTYPE_I64, GD_DTYPE_I32, GD_DTYPE_U8};

static void allreduce_body(coll_group_t *group, void *arg)
{
    (void)arg;
    int rank = coll_group_rank(group);
    for (size_t d = 0; d < sizeof(dtypes) / sizeof(dtypes[0]); d++) {
        for (int op = 0; op < COLL_OP_COUNT; op++) {
            double buffer[N];
            for (int i = 0; i < N; i++) {
                element_set(buffer, i, dtypes[d], value(rank, i));
            }

            EXPECT_OK(coll_allreduce(group, buffer, N, dtypes[d], (coll_op_t)op));

            int n_wrong = 0;
            for (int i = 0; i < N; i++) {
                n_wrong += !element_is(buffer, i, dtypes[d], value_reduced(coll_group_size(group), i, (coll_op_t)op));
            }
            EXPECT(n_wrong == 0);
        }
    }
    EXPECT_OK(coll_allreduce(group, NULL, 0, GD_DTYPE_F32, COLL_OP_SUM));
}

static void allreduce_is_exact_for_every_dtype_and_op(void **state)
{
    (void)state;
    everywhere_run(allreduce_body);
}

static void reduce_scatter_body(coll_group_t *group, void *arg)
{
    (void)arg;
    int rank = coll_group_rank(group);
    int size = coll_group_size(group);
    int32_t buffer[MAX_RANKS * N];
    int32_t out[N];
    for (int i = 0; i < size * N; i++) {
        buffer[i] = value(rank, i);
    }

    EXPECT_OK(coll_reduce_scatter(group, buffer, out, N, GD_DTYPE_I32, COLL_OP_SUM));

    int n_wrong = 0;
    for (int i = 0; i < N; i++) {
        n_wrong += out[i] != value_reduced(size, rank * N + i, COLL_OP_SUM);
        n_wrong += buffer[i] != value(rank, i);
    }
    EXPECT(n_wrong == 0);
}

static void reduce_scatter_gives_each_rank_its_part(void **state)
{
    (void)state;
    everywhere_run(reduce_scatter_body);
}

static void allgather_body(coll_group_t *group, void *arg)
{
    (void)arg;
    int rank = coll_group_rank(group);
    int size = coll_group_size(group);
    for (int is_in_place = 0; is_in_place < 2; is_in_place++) {
        int32_t out[MAX_RANKS * N] = {0};
        int32_t own[N];
        int32_t *in = is_in_place ? out + rank * N : own;
        for (int i = 0; i < N; i++) {
            in[i] = value(rank, i);
        }

        EXPECT_OK(coll_allgather(group, in, (int64_t)sizeof(own), out));

        int n_wrong = 0;
        for (int r = 0; r < size; r++) {
            for (int i = 0; i < N; i++) {
                n_wrong += out[r * N + i] != value(r, i);
            }
        }
        EXPECT(n_wrong == 0);
    }
}

static void allgather_orders_parts_by_rank(void **state)
{
    (void)state;
    everywhere_run(allgather_body);
}

/* Rank r gives r·5 bytes (rank 0 nothing), stored in reverse order of rank. */
static void allgatherv_body(coll_group_t *group, void *arg)
{
    (void)arg;
    int rank = coll_group_rank(group);
    int size = coll_group_size(group);
    uint8_t in[MAX_RANKS * 5];
    uint8_t out[MAX_RANKS * MAX_RANKS * 5];
    int64_t sizes[MAX_RANKS];
    int64_t offsets[MAX_RANKS];
    for (int r = 0; r < size; r++) {
        sizes[r] = r * 5;
        offsets[r] = (size - 1 - r) * MAX_RANKS * 5;
    }
    memset(in, 'a' + rank, sizeof(in));
    memset(out, 0, sizeof(out));

    EXPECT_OK(coll_allgatherv(group, in, sizes[rank], out, sizes, offsets));

    for (int r = 0; r < size; r++) {
        for (int i = 0; i < MAX_RANKS * 5; i++) {
            EXPECT(out[offsets[r] + i] == (i < sizes[r] ? 'a' + r : 0));
        }
    }
}

static void allgatherv_takes_parts_of_different_sizes(void **state)
{
    (void)state;
    everywhere_run(allgatherv_body);
}

/* Rank a gives rank b 3·a + b elements of value 100·a + b. */
static void alltoallv_body(coll_group_t *group, void *arg)
{
    (void)arg;
    enum { ROOM = 4 * MAX_RANKS };
    int rank = coll_group_rank(group);
    int size = coll_group_size(group);
    int32_t in[MAX_RANKS * ROOM];
    int32_t out[MAX_RANKS * ROOM];
    int64_t in_sizes[MAX_RANKS];
    int64_t out_sizes[MAX_RANKS];
    int64_t offsets[MAX_RANKS];
    for (int r = 0; r < size; r++) {
        in_sizes[r] = 4 * (3 * rank + r);
        out_sizes[r] = 4 * (3 * r + rank);
        offsets[r] = r * ROOM * 4;
        for (int i = 0; i < ROOM; i++) {
            in[r * ROOM + i] = 100 * rank + r;
            out[r * ROOM + i] = -1;
        }
    }

    EXPECT_OK(coll_alltoallv(group, in, in_sizes, offsets, out, out_sizes, offsets));

    for (int r = 0; r < size; r++) {
        for (int i = 0; i < ROOM; i++) {
            EXPECT(out[r * ROOM + i] == (i < out_sizes[r] / 4 ? 100 * r + rank : -1));
        }
    }
}

static void alltoallv_takes_every_pair_its_own_size(void **state)
{
    (void)state;
    everywhere_run(alltoallv_body);
}

static void broadcast_body(coll_group_t *group, void *arg)
{
    (void)arg;
    int rank = coll_group_rank(group);
    for (int root = 0; root < coll_group_size(group); root++) {
        int32_t buffer[N];
        for (int i = 0; i < N; i++) {
            buffer[i] = value(rank, i);
        }

        EXPECT_OK(coll_broadcast(group, buffer, (int64_t)sizeof(buffer), root));

        int n_wrong = 0;
        for (int i = 0; i < N; i++) {
            n_wrong += buffer[i] != value(root, i);
        }
        EXPECT(n_wrong == 0);
        EXPECT_OK(coll_barrier(group));
    }
}

static void broadcast_gives_all_ranks_the_roots_bytes(void **state)
{
    (void)state;
    everywhere_run(broadcast_body);
}

/* A ring: even ranks send first. Two tags, received in the other order from a rank that sends both. */
static void send_recv_body(coll_group_t *group, void *arg)
{
    (void)arg;
    int rank = coll_group_rank(group);
    int size = coll_group_size(group);
    if (size == 1) {
        return;
    }
    int next = (rank + 1) % size;
    int previous = (rank + size - 1) % size;
    int32_t out[N];
    int32_t in[N] = {0};
    for (int i = 0; i < N; i++) {
        out[i] = value(rank, i);
    }
    if (rank == 0) {
        EXPECT_OK(coll_send(group, out, (int64_t)sizeof(out), next, 7));
        EXPECT_OK(coll_recv(group, in, (int64_t)sizeof(in), previous, 7));
    } else {
        EXPECT_OK(coll_recv(group, in, (int64_t)sizeof(in), previous, 7));
        EXPECT_OK(coll_send(group, out, (int64_t)sizeof(out), next, 7));
    }
    int n_wrong = 0;
    for (int i = 0; i < N; i++) {
        n_wrong += in[i] != value(previous, i);
    }
    EXPECT(n_wrong == 0);
    EXPECT_OK(rank == 0 ? coll_send(group, NULL, 0, 1, 0) : rank == 1 ? coll_recv(group, NULL, 0, 0, 0) : ST_OK);
}

static void send_and_recv_pass_a_message_round_a_ring(void **state)
{
    (void)state;
    everywhere_run(send_recv_body);
}

static void wrong_arguments_body(coll_group_t *group, void *arg)
{
    (void)arg;
    int32_t x = 0;
    int rank = coll_group_rank(group);
    EXPECT_FAILS(coll_allreduce(group, &x, 1, GD_DTYPE_BF16, COLL_OP_SUM), ST_ERR_DTYPE, "can't be reduced");
    EXPECT_FAILS(coll_allreduce(group, &x, -1, GD_DTYPE_I32, COLL_OP_SUM), ST_ERR_INVAL, "-1 elements");
    EXPECT_FAILS(coll_allreduce(group, NULL, 1, GD_DTYPE_I32, COLL_OP_SUM), ST_ERR_INVAL, "no buffer");
    EXPECT_FAILS(coll_broadcast(group, &x, 4, coll_group_size(group)), ST_ERR_INVAL, "root");
    EXPECT_FAILS(coll_send(group, &x, 4, rank, 0), ST_ERR_INVAL, "peer");
    EXPECT_FAILS(coll_recv(group, &x, 4, -1, 0), ST_ERR_INVAL, "peer -1");
    if (coll_group_size(group) > 1) {
        EXPECT_FAILS(coll_send(group, &x, 4, rank == 0 ? 1 : 0, 40000), ST_ERR_INVAL, "tag 40000");
    }
    EXPECT_OK(coll_barrier(group)); /* none of these broke the group */
}

static void wrong_arguments_are_refused_without_harm(void **state)
{
    (void)state;
    everywhere_run(wrong_arguments_body);
}

static void pieces_body(coll_group_t *group, void *arg)
{
    allreduce_body(group, arg);
    reduce_scatter_body(group, arg);
    allgather_body(group, arg);
    allgatherv_body(group, arg);
    alltoallv_body(group, arg);
    broadcast_body(group, arg);
    send_recv_body(group, arg);
}

static void long_messages_go_in_pieces(void **state)
{
    (void)state;
    coll_mpi_set_chunk(24);
    everywhere_run(pieces_body);
    coll_mpi_set_chunk(INT64_C(1) << 30);
}

static void shared_body(coll_group_t *group, void *arg)
{
    (void)arg;
    coll_shared_t *shared = NULL;
    int rank = coll_group_rank(group);
    EXPECT_OK(coll_shared_open(group, 3 * 4096, &shared));
    EXPECT(shared != NULL);
    if (shared == NULL) {
        return;
    }
    memset(shared->region[rank], 'a' + rank, 3 * 4096);

    EXPECT_OK(coll_barrier(group));

    for (int r = 0; r < coll_group_size(group); r++) {
        const char *region = shared->region[r];
        EXPECT(region[0] == 'a' + r && region[3 * 4096 - 1] == 'a' + r);
    }
    coll_shared_close(shared);
}

static void ranks_of_one_host_see_one_anothers_regions(void **state)
{
    (void)state;
    everywhere_run(shared_body);
}

/* ---- failures: loopback only, as an MPI job ends by them ---- */

static void absent_rank_body(coll_group_t *group, void *arg)
{
    atomic_int *n_done = arg;
    float x = 1.0f;
    coll_group_set_timeout(group, 30);
    if (coll_group_rank(group) == 1) {
        while (atomic_load(n_done) < 2) { /* never comes, but doesn't leave either */
            clock_sleep_ms(1);
        }
        return;
    }
    status_t status = coll_allreduce(group, &x, 1, GD_DTYPE_F32, COLL_OP_SUM);

    EXPECT(status == ST_ERR_TIMEOUT || status == ST_ERR_PEER); /* who notices second is told of the first */
    if (status == ST_ERR_TIMEOUT) {
        EXPECT(strstr(status_message(), "rank 1 did not come within 30 ms") != NULL);
    }
    EXPECT_FAILS(coll_barrier(group), ST_ERR_COMM, "broken by an earlier failure");
    atomic_fetch_add(n_done, 1);
}

static void a_rank_that_never_comes_is_named_after_the_timeout(void **state)
{
    (void)state;
    atomic_int n_done = 0;
    int64_t start_ns = clock_now_ns();

    ranks_run(3, absent_rank_body, &n_done);

    assert_true(clock_now_ns() - start_ns < 10 * CLOCK_NS_PER_S);
}

static void leaving_body(coll_group_t *group, void *arg)
{
    (void)arg;
    float x = 1.0f;
    EXPECT_OK(coll_barrier(group));
    if (coll_group_rank(group) == 2) {
        return; /* closes */
    }
    EXPECT_FAILS(coll_allreduce(group, &x, 1, GD_DTYPE_F32, COLL_OP_SUM), ST_ERR_PEER, "rank 2 has left the group");
}

static void a_rank_that_closes_ends_the_wait_of_the_others(void **state)
{
    (void)state;
    ranks_run(4, leaving_body, NULL);
}

static void aborting_body(coll_group_t *group, void *arg)
{
    (void)arg;
    if (coll_group_rank(group) == 0) {
        coll_group_abort(group, 3);
        return;
    }
    EXPECT(coll_barrier(group) == ST_ERR_PEER);
}

static void abort_on_one_rank_fails_the_others(void **state)
{
    (void)state;
    ranks_run(3, aborting_body, NULL);
}

static void silent_peer_body(coll_group_t *group, void *arg)
{
    atomic_int *n_done = arg;
    int32_t x = 0;
    coll_group_set_timeout(group, 20);
    if (coll_group_rank(group) == 0) {
        EXPECT_FAILS(coll_recv(group, &x, 4, 1, 0), ST_ERR_TIMEOUT, "rank 1 did not come within 20 ms");
        atomic_fetch_add(n_done, 1);
    }
    while (atomic_load(n_done) == 0) {
        clock_sleep_ms(1);
    }
}

static void a_receive_from_a_silent_rank_times_out(void **state)
{
    (void)state;
    atomic_int n_done = 0;
    ranks_run(2, silent_peer_body, &n_done);
}

static void wrong_size_body(coll_group_t *group, void *arg)
{
    (void)arg;
    int32_t x[4] = {0};
    status_t status = coll_group_rank(group) == 0 ? coll_send(group, x, 16, 1, 5) : coll_recv(group, x, 8, 0, 5);
    EXPECT_FAILS(status, ST_ERR_COMM, "rank 0 sends 16 bytes with tag 5 to rank 1, which expects 8");
}

static void a_message_of_another_size_fails_on_both_sides(void **state)
{
    (void)state;
    ranks_run(2, wrong_size_body, NULL);
}

static void disagreeing_body(coll_group_t *group, void *arg)
{
    (void)arg;
    float x[4] = {0};
    status_t status =
        coll_group_rank(group) == 0 ? coll_barrier(group) : coll_allreduce(group, x, 4, GD_DTYPE_F32, COLL_OP_SUM);
    EXPECT_FAILS(status, ST_ERR_COMM, "rank");
    EXPECT(strstr(status_message(), "allreduce") != NULL && strstr(status_message(), "barrier") != NULL);
}

static void ranks_that_make_different_calls_are_told_so(void **state)
{
    (void)state;
    ranks_run(2, disagreeing_body, NULL);
}

static void without_a_launcher_the_world_has_one_rank(void **state)
{
    (void)state;
    coll_group_t *group = NULL;
    int32_t x = 5;

    assert_ok(coll_mpi_open(&group));

    assert_int_equal(coll_group_size(group), 1);
    assert_int_equal(coll_group_rank(group), 0);
    assert_ok(coll_allreduce(group, &x, 1, GD_DTYPE_I32, COLL_OP_SUM));
    assert_int_equal(x, 5);
    coll_group_close(group);
}

static void shares_cover_all_microbatches_evenly(void **state)
{
    (void)state;
    for (int64_t n = 0; n < 12; n++) {
        for (int size = 1; size < 7; size++) {
            int64_t next = 0;
            for (int r = 0; r < size; r++) {
                int64_t first = 0;
                int64_t n_own = 0;
                coll_share(n, size, r, &first, &n_own);
                assert_int_equal(first, next);
                assert_true(n_own == n / size || n_own == n / size + 1);
                next += n_own;
            }
            assert_int_equal(next, n);
        }
    }
}

#define COLLECTIVE_TESTS                                                                                               \
    TEST(allreduce_is_exact_for_every_dtype_and_op), TEST(reduce_scatter_gives_each_rank_its_part),                    \
        TEST(allgather_orders_parts_by_rank), TEST(allgatherv_takes_parts_of_different_sizes),                         \
        TEST(alltoallv_takes_every_pair_its_own_size), TEST(broadcast_gives_all_ranks_the_roots_bytes),                \
        TEST(send_and_recv_pass_a_message_round_a_ring), TEST(wrong_arguments_are_refused_without_harm),               \
        TEST(long_messages_go_in_pieces), TEST(ranks_of_one_host_see_one_anothers_regions)

static int mpi_main(void)
{
    const struct CMUnitTest tests[] = {COLLECTIVE_TESTS};
    if (coll_mpi_open(&mpi_group) != ST_OK) {
        print_error("coll_mpi_open: %s\n", status_message());
        return 1;
    }
    if (coll_group_size(mpi_group) < 2 || coll_group_size(mpi_group) > MAX_RANKS ||
        strcmp(coll_group_backend(mpi_group), "mpi") != 0) {
        print_error("start me with mpirun -np 2 … %d\n", (int)MAX_RANKS);
        return 1;
    }
    int n_failed = cmocka_run_group_tests_name("collectives over MPI", tests, NULL, NULL);
    coll_group_close(mpi_group);
    return n_failed;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {COLLECTIVE_TESTS,
                                       TEST(a_rank_that_never_comes_is_named_after_the_timeout),
                                       TEST(a_rank_that_closes_ends_the_wait_of_the_others),
                                       TEST(abort_on_one_rank_fails_the_others),
                                       TEST(a_receive_from_a_silent_rank_times_out),
                                       TEST(a_message_of_another_size_fails_on_both_sides),
                                       TEST(ranks_that_make_different_calls_are_told_so),
                                       TEST(without_a_launcher_the_world_has_one_rank),
                                       TEST(shares_cover_all_microbatches_evenly)};
    if (argc > 1 && strcmp(argv[1], "mpi") == 0) {
        return mpi_main();
    }
    return cmocka_run_group_tests_name("collectives over threads", tests, NULL, NULL);
}
