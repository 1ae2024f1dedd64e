/* SPDX-License-Identifier: Apache-2.0 */
/* The CPU backend's shared parts: choice of the instruction set, parallel blocks, scratch memory. */
#include <stdlib.h>
#include <string.h>

#include "cpu/cpu.h"
#include "tests/support/fixture.h"

enum { MOST_BLOCKS = 64 };

typedef struct seen {
    int64_t begin[MOST_BLOCKS];
    int64_t end[MOST_BLOCKS];
} seen_t;

static void see_block(void *arg, int64_t begin, int64_t end)
{
    seen_t *seen = arg;
    seen->begin[begin / 10] = begin;
    seen->end[begin / 10] = end;
}

static void blocks_do_not_depend_on_the_number_of_threads(void **state)
{
    (void)state;
    for (int n_threads = 1; n_threads <= 3; n_threads++) {
        seen_t seen;
        memset(&seen, 0xff, sizeof(seen));

        gd_cpu_parallel(n_threads, 95, 10, see_block, &seen);

        assert_int_equal(gd_cpu_n_blocks(95, 10), 10);
        for (int64_t block = 0; block < 10; block++) {
            assert_int_equal(seen.begin[block], block * 10);
            assert_int_equal(seen.end[block], block == 9 ? 95 : block * 10 + 10);
        }
        assert_int_equal(seen.begin[10], -1);
    }
}

static void no_work_calls_nothing(void **state)
{
    (void)state;
    seen_t seen;
    memset(&seen, 0xff, sizeof(seen));

    gd_cpu_parallel(2, 0, 10, see_block, &seen);

    assert_int_equal(seen.begin[0], -1);
}

static void scratch_is_kept_grown_and_aligned(void **state)
{
    (void)state;
    void *small = gd_cpu_scratch(GD_CPU_SLOT_KERNEL, 100);
    void *other = gd_cpu_scratch(GD_CPU_SLOT_WORKER, 100);

    assert_non_null(small);
    assert_ptr_equal(gd_cpu_scratch(GD_CPU_SLOT_KERNEL, 50), small);
    assert_ptr_not_equal(other, small);

    char *large = gd_cpu_scratch(GD_CPU_SLOT_KERNEL, 1 << 20);

    assert_non_null(large);
    assert_int_equal((uintptr_t)large % 64, 0);
    memset(large, 1, 1 << 20);
}

static void the_instruction_set_has_a_name(void **state)
{
    (void)state;
    const char *name = gd_cpu_isa_name();
    const char *wanted = getenv("GRADD_ISA");

    if (wanted != NULL && strcmp(wanted, "v2") == 0) {
        assert_string_equal(name, "sse4");
    } else if (wanted != NULL && strcmp(wanted, "v4") == 0) {
        assert_string_not_equal(name, "avx512+amx");
    } else {
        assert_true(strcmp(name, "sse4") == 0 || strcmp(name, "avx2") == 0 || strcmp(name, "avx512") == 0 ||
                    strcmp(name, "avx512+amx") == 0 || strcmp(name, "generic") == 0);
    }
    assert_null(gd_cpu_kernel(GD_OP_COUNT));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(blocks_do_not_depend_on_the_number_of_threads),
        TEST(no_work_calls_nothing),
        TEST(scratch_is_kept_grown_and_aligned),
        TEST(the_instruction_set_has_a_name),
    };
    return cmocka_run_group_tests_name("engine/cpu", tests, NULL, NULL);
}
