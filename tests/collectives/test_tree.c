/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ordered tree reduction against a plain recursive reference, to the bit: on loopback with every number of
 * microbatches 1 … 9 and of ranks 1 … 5, and, started as `test_tree mpi` by mpirun, on MPI.
 */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "collectives/tree.h"
#include "tests/collectives/ranks.h"

enum { MAX_MICROBATCHES = 70, MAX_NUMEL = 5003 };

static coll_group_t *mpi_group;

typedef struct tree_case {
    int64_t numel;
    int64_t n_microbatches;
    coll_tree_path_t path;
    int n_steps;
} tree_case_t;

/* Element i of microbatch m in step s: signs and magnitudes that make the order of additions visible. */
static float element(int64_t m, int64_t i, int step)
{
    uint64_t x = (uint64_t)(m * 1000003 + i * 7919 + step * 104729 + 12345) * UINT64_C(0x9E3779B97F4A7C15);
    x ^= x >> 29;
    x *= UINT64_C(0xBF58476D1CE4E5B9);
    float unit = (float)(x >> 40) * 0x1.0p-24f - 0.5f;
    return unit * (float)(1 << (x & 15));
}

/* The definition: node i of level k is node 2i plus node 2i+1 of the level below, or node 2i alone. */
static float reference(int64_t n, int level, int64_t index, int64_t i, int step)
{
    if (level == 0) {
        return element(index, i, step);
    }
    int64_t width_below = (n + (INT64_C(1) << (level - 1)) - 1) >> (level - 1);
    float left = reference(n, level - 1, 2 * index, i, step);
    return 2 * index + 1 < width_below ? left + reference(n, level - 1, 2 * index + 1, i, step) : left;
}

static float reference_root(int64_t n, int64_t i, int step)
{
    int level = 0;
    while ((INT64_C(1) << level) < n) {
        level++;
    }
    return reference(n, level, 0, i, step);
}

static void tree_steps(coll_group_t *group, coll_tree_t *tree, const tree_case_t *what)
{
    int64_t first = 0;
    int64_t n_own = 0;
    coll_share(what->n_microbatches, coll_group_size(group), coll_group_rank(group), &first, &n_own);
    for (int step = 0; step < what->n_steps; step++) {
        float *sum = NULL;
        for (int64_t m = first; m < first + n_own; m++) {
            float *slot = coll_tree_slot(tree);
            EXPECT(slot != NULL && (uintptr_t)slot % 64 == 0 && slot == coll_tree_slot(tree));
            for (int64_t i = 0; slot != NULL && i < what->numel; i++) {
                slot[i] = element(m, i, step);
            }
            EXPECT_OK(coll_tree_push(tree));
        }
        EXPECT(coll_tree_slot(tree) == NULL || n_own == 0);

        EXPECT_OK(coll_tree_finish(tree, &sum));

        int64_t n_wrong = 0;
        for (int64_t i = 0; sum != NULL && i < what->numel; i++) {
            float expected = reference_root(what->n_microbatches, i, step);
            n_wrong += memcmp(&sum[i], &expected, sizeof(float)) != 0;
            sum[i] = -1.0f; /* a rank may change its sum without harm to others */
        }
        EXPECT(sum != NULL && n_wrong == 0);
    }
}

static void tree_body(coll_group_t *group, void *arg)
{
    const tree_case_t *what = arg;
    coll_tree_t *tree = NULL;
    EXPECT_OK(coll_tree_open_path(group, what->numel, what->n_microbatches, what->path, &tree));
    if (tree == NULL) {
        return;
    }
    EXPECT(coll_group_size(group) == 1 || coll_tree_is_shared(tree) == (what->path == COLL_TREE_PATH_AUTO));
    tree_steps(group, tree, what);
    coll_tree_close(tree);
}

static void every_layout_run(int64_t numel, coll_tree_path_t path)
{
    for (int64_t n = 1; n <= 9; n++) {
        tree_case_t what = {.numel = numel, .n_microbatches = n, .path = path, .n_steps = 2};
        if (mpi_group != NULL) {
            ranks_run_here(mpi_group, tree_body, &what);
            continue;
        }
        for (int n_ranks = 1; n_ranks <= n && n_ranks <= 8; n_ranks++) {
            ranks_run(n_ranks, tree_body, &what);
        }
    }
}

static void bits_do_not_depend_on_the_layout_through_shared_memory(void **state)
{
    (void)state;
    every_layout_run(331, COLL_TREE_PATH_AUTO);
}

static void bits_do_not_depend_on_the_layout_through_messages(void **state)
{
    (void)state;
    every_layout_run(331, COLL_TREE_PATH_MESSAGES);
}

static void one_case_run(int n_ranks, int64_t numel, int64_t n_microbatches, int n_steps)
{
    for (int path = 0; path < 2; path++) {
        tree_case_t what = {
            .numel = numel, .n_microbatches = n_microbatches, .path = (coll_tree_path_t)path, .n_steps = n_steps};
        if (mpi_group != NULL) {
            ranks_run_here(mpi_group, tree_body, &what);
        } else {
            ranks_run(n_ranks, tree_body, &what);
        }
    }
}

static void vectors_longer_than_a_block_and_shorter_than_the_ranks(void **state)
{
    (void)state;
    one_case_run(3, MAX_NUMEL, 7, 2);
    one_case_run(4, 16, 6, 1);
    one_case_run(4, 1, 6, 1);
    one_case_run(4, 0, 6, 1);
}

static void many_microbatches_straddle_many_ranks(void **state)
{
    (void)state;
    one_case_run(5, 37, MAX_MICROBATCHES, 2);
    one_case_run(7, 37, 23, 20);
}

static void a_rank_without_microbatches_gets_the_sum_too(void **state)
{
    (void)state;
    one_case_run(5, 100, 2, 3);
}

static void allocations_body(coll_group_t *group, void *arg)
{
    tree_case_t what = {.numel = 100, .n_microbatches = 6, .n_steps = 3};
    coll_tree_t *tree = NULL;
    (void)arg;
    EXPECT_OK(coll_tree_open(group, what.numel, what.n_microbatches, &tree));
    EXPECT_OK(coll_barrier(group));
    int64_t n_blocks = mem_total_count();
    EXPECT_OK(coll_barrier(group));

    tree_steps(group, tree, &what);

    EXPECT(mem_total_count() == n_blocks);
    EXPECT_OK(coll_barrier(group));
    coll_tree_close(tree);
}

static void steps_allocate_nothing(void **state)
{
    (void)state;
    if (mpi_group != NULL) {
        ranks_run_here(mpi_group, allocations_body, NULL);
    } else {
        ranks_run(4, allocations_body, NULL);
    }
}

static void misuse_is_an_error(void **state)
{
    (void)state;
    coll_group_t *group = NULL;
    coll_tree_t *tree = NULL;
    float *sum = NULL;
    assert_ok(coll_loopback_open(1, &group));
    assert_fails(coll_tree_open(group, 4, 0, &tree), ST_ERR_INVAL, "0 microbatches");
    assert_fails(coll_tree_open(group, -1, 2, &tree), ST_ERR_INVAL, "-1 elements");
    assert_ok(coll_tree_open(group, 4, 2, &tree));

    assert_fails(coll_tree_finish(tree, &sum), ST_ERR_STATE, "has pushed 0 of its 2 microbatches");
    for (int m = 0; m < 2; m++) {
        memset(coll_tree_slot(tree), 0, 4 * sizeof(float));
        assert_ok(coll_tree_push(tree));
    }
    assert_fails(coll_tree_push(tree), ST_ERR_STATE, "more than its 2 microbatches");
    assert_null(coll_tree_slot(tree));
    assert_ok(coll_tree_finish(tree, &sum));

    coll_tree_close(tree);
    coll_group_close(group);
}

#define TREE_TESTS                                                                                                     \
    TEST(bits_do_not_depend_on_the_layout_through_shared_memory),                                                      \
        TEST(bits_do_not_depend_on_the_layout_through_messages),                                                       \
        TEST(vectors_longer_than_a_block_and_shorter_than_the_ranks), TEST(many_microbatches_straddle_many_ranks),     \
        TEST(a_rank_without_microbatches_gets_the_sum_too), TEST(steps_allocate_nothing)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {TREE_TESTS, TEST(misuse_is_an_error)};
    const struct CMUnitTest mpi_tests[] = {TREE_TESTS};
    if (argc < 2 || strcmp(argv[1], "mpi") != 0) {
        return cmocka_run_group_tests_name("tree over threads", tests, NULL, NULL);
    }
    if (coll_mpi_open(&mpi_group) != ST_OK || coll_group_size(mpi_group) < 2) {
        print_error("start me with mpirun -np 2 or more: %s\n", status_message());
        return 1;
    }
    int n_failed = cmocka_run_group_tests_name("tree over MPI", mpi_tests, NULL, NULL);
    coll_group_close(mpi_group);
    return n_failed;
}
