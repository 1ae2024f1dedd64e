/* SPDX-License-Identifier: Apache-2.0 */
/* pool: blocks of all sizes, segments, and what happens when memory is out. */
#include "tensor/pool.h"

#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "tests/support/fixture.h"

enum { N_BLOCKS = 300, MIB = 1 << 20 };

typedef struct piece {
    unsigned char *data;
    size_t size_bytes;
} piece_t;

/* Each 64th byte and the last tell which piece it is. */
static void piece_mark(const piece_t *piece, int id)
{
    for (size_t i = 0; i < piece->size_bytes; i += 64) {
        piece->data[i] = (unsigned char)id;
    }
    piece->data[piece->size_bytes - 1] = (unsigned char)id;
}

static void assert_piece_is(const piece_t *piece, int id)
{
    for (size_t i = 0; i < piece->size_bytes; i += 64) {
        assert_int_equal(piece->data[i], (unsigned char)id);
    }
    assert_int_equal(piece->data[piece->size_bytes - 1], (unsigned char)id);
}

static void blocks_of_all_sizes_keep_what_is_written(void **state)
{
    (void)state;
    static piece_t pieces[N_BLOCKS];
    gd_pool_t *pool = gd_pool_open();
    assert_non_null(pool);
    uint32_t random = 1;
    for (int i = 0; i < N_BLOCKS; i++) {
        random = random * 1664525U + 1013904223U;
        /* from 1 byte to 1 MiB, in the mean of logarithms 1 KiB; a few that don't fit a segment's limit */
        const size_t size =
            i % 100 == 99 ? (size_t)(9 + i / 100) * MIB : ((size_t)1 << (random >> 28)) * 64 - (size_t)(i % 64);
        pieces[i] = (piece_t){.data = gd_pool_alloc(pool, size), .size_bytes = size};
        assert_non_null(pieces[i].data);
        assert_int_equal((uintptr_t)pieces[i].data % 64, 0);
        piece_mark(&pieces[i], i);
    }
    for (int i = 0; i < N_BLOCKS; i += 2) {
        assert_piece_is(&pieces[i], i);
        gd_pool_free(pool, pieces[i].data);
    }
    for (int i = 0; i < N_BLOCKS; i += 2) {
        pieces[i].data = gd_pool_alloc(pool, pieces[i].size_bytes);
        piece_mark(&pieces[i], i + 1);
    }
    const gd_memory_stats_t stats = gd_pool_get_stats(pool);
    assert_int_equal(stats.n_system_allocations, N_BLOCKS);
    assert_int_equal(stats.in_use_bytes, stats.held_bytes);

    gd_pool_close(pool); /* lives on until the last block is freed */

    for (int i = 0; i < N_BLOCKS; i++) {
        assert_piece_is(&pieces[i], i | 1);
        gd_pool_free(NULL, pieces[i].data);
    }
}

static void unused_segments_are_given_back_when_memory_is_out(void **state)
{
    (void)state;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    skip(); /* sanitizers reserve more address space than a limit would leave */
#endif
    enum { N = 96, KEPT = 40 };
    static piece_t pieces[N];
    struct rlimit before;
    long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    assert_non_null(file);
    assert_int_equal(fscanf(file, "%ld", &pages), 1);
    (void)fclose(file);
    assert_int_equal(getrlimit(RLIMIT_AS, &before), 0);
    gd_pool_t *pool = gd_pool_open();
    const struct rlimit limit = {.rlim_cur = (rlim_t)pages * 4096 + (rlim_t)176 * MIB, .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_AS, &limit), 0);
    for (int i = 0; i < N; i++) {
        pieces[i] = (piece_t){.data = gd_pool_alloc(pool, MIB - 64), .size_bytes = MIB - 64};
        assert_non_null(pieces[i].data);
        piece_mark(&pieces[i], i);
    }
    void *too_much = gd_pool_alloc(pool, (size_t)96 * MIB);
    for (int i = 0; i < N; i++) {
        if (i != KEPT) {
            gd_pool_free(pool, pieces[i].data);
        }
    }

    unsigned char *large = gd_pool_alloc(pool, (size_t)96 * MIB);

    assert_int_equal(setrlimit(RLIMIT_AS, &before), 0);
    assert_null(too_much);
    assert_non_null(large);
    large[(size_t)96 * MIB - 1] = 1;
    assert_piece_is(&pieces[KEPT], KEPT);
    gd_pool_free(pool, large);
    unsigned char *small = gd_pool_alloc(pool, MIB - 64); /* from what the kept block's segment still holds */
    assert_non_null(small);
    gd_pool_free(pool, small);
    gd_pool_free(pool, pieces[KEPT].data);
    gd_pool_close(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(blocks_of_all_sizes_keep_what_is_written),
        TEST(unused_segments_are_given_back_when_memory_is_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
