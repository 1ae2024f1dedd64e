/* SPDX-License-Identifier: Apache-2.0 */
/* C++'s operators as engine/cpu/cpp_new.c replaces them: all their forms, threads, and what they don't serve. */
#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/cpp_new.h"
#include "cpu/onednn.h"
#include "tests/support/fixture.h"

/* Looked up, so that a sanitizer's own are found where ours stand aside. */
typedef void *(*new_func_t)(size_t size_bytes);
typedef void *(*new_nothrow_func_t)(size_t size_bytes, const char *tag);
typedef void *(*new_aligned_func_t)(size_t size_bytes, size_t alignment);
typedef void (*delete_func_t)(void *pointer);
typedef void (*delete_sized_func_t)(void *pointer, size_t size_bytes);

static new_func_t cpp_new, cpp_new_array;
static new_nothrow_func_t cpp_new_nothrow;
static new_aligned_func_t cpp_new_aligned;
static delete_func_t cpp_delete, cpp_delete_array;
static delete_sized_func_t cpp_delete_sized, cpp_delete_aligned;

static void functions_find(void)
{
    (void)gd_onednn_version(); /* what the linker sees no use of, it leaves away: oneDNN, and with it C++'s library */
    *(void **)&cpp_new = dlsym(RTLD_DEFAULT, "_Znwm");
    *(void **)&cpp_new_array = dlsym(RTLD_DEFAULT, "_Znam");
    *(void **)&cpp_new_nothrow = dlsym(RTLD_DEFAULT, "_ZnwmRKSt9nothrow_t");
    *(void **)&cpp_new_aligned = dlsym(RTLD_DEFAULT, "_ZnwmSt11align_val_t");
    *(void **)&cpp_delete = dlsym(RTLD_DEFAULT, "_ZdlPv");
    *(void **)&cpp_delete_array = dlsym(RTLD_DEFAULT, "_ZdaPv");
    *(void **)&cpp_delete_sized = dlsym(RTLD_DEFAULT, "_ZdlPvm");
    *(void **)&cpp_delete_aligned = dlsym(RTLD_DEFAULT, "_ZdlPvSt11align_val_t");
}

/* Whether a block is one of a thread's own: these lie at multiples of their size beside each other. */
static bool is_ours(void *pointer)
{
    gd_cpp_new_begin(false);
    void *near = cpp_new(1);
    gd_cpp_new_end();
    const int64_t distance = (char *)pointer - (char *)near;
    cpp_delete(near);
    return distance % GD_CPP_BLOCK_SIZE == 0 && llabs(distance) < (int64_t)GD_CPP_BLOCK_SIZE * GD_CPP_N_BLOCKS;
}

static void skip_unless_replaced(void)
{
    if (!gd_cpp_new_is_replaced()) {
        FIXTURE_SKIP("a sanitizer has its own operators");
    }
}

static void small_blocks_are_ours_within_begin_and_end_only(void **state)
{
    (void)state;
    skip_unless_replaced();

    void *before = cpp_new(32);
    gd_cpp_new_begin(false);
    void *within = cpp_new(32);
    void *array = cpp_new_array(GD_CPP_BLOCK_SIZE);
    void *nothrow = cpp_new_nothrow(1, "");
    void *empty = cpp_new(0);
    void *large = cpp_new(GD_CPP_BLOCK_SIZE + 1);
    gd_cpp_new_end();
    gd_cpp_new_begin(true);
    void *first = cpp_new(32);
    gd_cpp_new_end();

    assert_false(is_ours(before));
    assert_true(is_ours(within));
    assert_true(is_ours(array));
    assert_true(is_ours(nothrow));
    assert_true(is_ours(empty));
    assert_false(is_ours(large));
    assert_false(is_ours(first));
    assert_ptr_not_equal(within, empty);
    memset(array, 1, GD_CPP_BLOCK_SIZE);
    memset(large, 2, GD_CPP_BLOCK_SIZE + 1);
    cpp_delete(before);
    cpp_delete_sized(within, 32);
    cpp_delete_array(array);
    cpp_delete(nothrow);
    cpp_delete(empty);
    cpp_delete(large);
    cpp_delete(first);
    cpp_delete(NULL);
}

static void blocks_are_aligned_for_any_type_and_the_overaligned_keep_theirs(void **state)
{
    (void)state;
    skip_unless_replaced();

    gd_cpp_new_begin(false);
    void *plain = cpp_new(48);
    void *overaligned = cpp_new_aligned(64, 4096);
    gd_cpp_new_end();

    assert_int_equal((uintptr_t)plain % _Alignof(max_align_t), 0);
    assert_int_equal((uintptr_t)overaligned % 4096, 0);
    cpp_delete(plain);
    cpp_delete_aligned(overaligned, 4096);
}

static void a_freed_block_is_used_again_and_the_surplus_comes_from_the_library(void **state)
{
    (void)state;
    skip_unless_replaced();
    enum { N = 3 * GD_CPP_N_BLOCKS };
    static unsigned char *block[N];

    for (int round = 0; round < 3; round++) {
        gd_cpp_new_begin(false);
        for (int i = 0; i < N; i++) {
            block[i] = cpp_new(64);
            memset(block[i], i % 251, 64);
        }
        gd_cpp_new_end();
        int n_damaged = 0;
        for (int i = 0; i < N; i++) {
            n_damaged += block[i][0] != i % 251 || block[i][63] != i % 251;
        }
        assert_int_equal(n_damaged, 0);
        for (int i = 0; i < N; i++) {
            cpp_delete(block[i]);
        }
    }

    gd_cpp_new_begin(false);
    void *again = cpp_new(64);
    gd_cpp_new_end();
    assert_true(is_ours(again));
    cpp_delete(again);
}

static void a_request_that_can_t_be_met_throws_through_ours(void **state)
{
    (void)state;
    skip_unless_replaced();

    /* the C++ library's form catches what the operator it calls, ours, passes on */
    assert_null(cpp_new_nothrow(SIZE_MAX / 2, ""));
}

static void *blocks_delete(void *arg)
{
    void **block = arg;
    for (int i = 0; i < GD_CPP_N_BLOCKS; i++) {
        cpp_delete(block[i]);
    }
    return NULL;
}

static void blocks_freed_by_another_thread_come_back(void **state)
{
    (void)state;
    skip_unless_replaced();
    static void *block[GD_CPP_N_BLOCKS];

    for (int round = 0; round < 8; round++) {
        gd_cpp_new_begin(false);
        for (int i = 0; i < GD_CPP_N_BLOCKS; i++) {
            block[i] = cpp_new(8);
        }
        gd_cpp_new_end();
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, blocks_delete, block), 0);
        assert_int_equal(pthread_join(thread, NULL), 0);

        assert_true(is_ours(block[0]));
        assert_true(is_ours(block[GD_CPP_N_BLOCKS - 1]));
    }
}

static void *block_make(void *arg)
{
    gd_cpp_new_begin(false);
    *(void **)arg = cpp_new(8);
    gd_cpp_new_end();
    return NULL;
}

static void a_thread_takes_over_the_blocks_of_one_that_ended(void **state)
{
    (void)state;
    skip_unless_replaced();
    enum { N = 1000 }; /* more threads than could each keep its blocks */
    uintptr_t low = UINTPTR_MAX, high = 0;

    for (int i = 0; i < N; i++) {
        void *block = NULL;
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, block_make, &block), 0);
        assert_int_equal(pthread_join(thread, NULL), 0);
        low = (uintptr_t)block < low ? (uintptr_t)block : low;
        high = (uintptr_t)block > high ? (uintptr_t)block : high;
        cpp_delete(block);
    }

    /* all of them in one thread's place */
    assert_true(high - low < (uintptr_t)GD_CPP_BLOCK_SIZE * GD_CPP_N_BLOCKS);
}

int main(void)
{
    functions_find();
    const struct CMUnitTest tests[] = {
        TEST(small_blocks_are_ours_within_begin_and_end_only),
        TEST(blocks_are_aligned_for_any_type_and_the_overaligned_keep_theirs),
        TEST(a_freed_block_is_used_again_and_the_surplus_comes_from_the_library),
        TEST(a_request_that_can_t_be_met_throws_through_ours),
        TEST(blocks_freed_by_another_thread_come_back),
        TEST(a_thread_takes_over_the_blocks_of_one_that_ended),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
