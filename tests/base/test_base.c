/* SPDX-License-Identifier: Apache-2.0 */
/* The leaf library: status, strbuf, arena, hash, mem. */
#include "tests/support/fixture.h"

#include <errno.h>
#include <string.h>

#include "base/arena.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/strbuf.h"

static void a_failure_records_its_message_and_place(void **state)
{
    (void)state;

    status_t status = ST_FAIL(ST_ERR_SHAPE, "a [%d] and b [%d]", 3, 4);

    assert_int_equal(status, ST_ERR_SHAPE);
    assert_string_equal(status_message(), "a [3] and b [4]");
    assert_non_null(strstr(status_place(), "test_base.c:"));
    assert_string_equal(status_text(status), "shape mismatch");
    assert_string_equal(status_name(status), "ERR_SHAPE");
}

static void context_is_put_before_the_message(void **state)
{
    (void)state;
    (void)ST_FAIL(ST_ERR_IO, "disk");

    status_t status = status_add_context(ST_ERR_IO, "layer %d", 3);

    assert_int_equal(status, ST_ERR_IO);
    assert_string_equal(status_message(), "layer 3: disk");
}

static void errno_maps_to_codes(void **state)
{
    (void)state;
    assert_int_equal(status_from_errno(ENOENT), ST_ERR_NOT_FOUND);
    assert_int_equal(status_from_errno(ENOSPC), ST_ERR_NOSPACE);
    assert_int_equal(status_from_errno(EBADF), ST_ERR_IO);
}

static void strbuf_grows_and_detaches(void **state)
{
    (void)state;
    strbuf_t buf = {0};
    for (int i = 0; i < 1000; i++) {
        strbuf_appendf(&buf, "%d,", i);
    }
    assert_int_equal(buf.length, 3890);

    char *text = strbuf_detach(&buf);

    assert_int_equal(strlen(text), 3890);
    assert_string_equal(strbuf_text(&buf), "");
    mem_free(text);
}

static void arena_reset_reuses_its_chunks(void **state)
{
    (void)state;
    arena_t arena;
    arena_init(&arena, 1024);
    void *first = arena_alloc(&arena, 100);
    for (int i = 0; i < 100; i++) {
        void *pointer = arena_alloc(&arena, 200);
        assert_non_null(pointer);
        assert_int_equal((uintptr_t)pointer % 64, 0);
    }
    assert_non_null(arena_alloc(&arena, 5000));
    int64_t n_before = mem_total_count();

    arena_reset(&arena);

    assert_ptr_equal(arena_alloc(&arena, 100), first);
    for (int i = 0; i < 100; i++) {
        assert_non_null(arena_alloc(&arena, 200));
    }
    assert_int_equal(mem_total_count(), n_before);
    arena_release(&arena);
}

static void sha256_gives_the_published_value(void **state)
{
    (void)state;
    hash_sha256_t *hash = NULL;
    assert_ok(hash_sha256_open(&hash));
    hash_sha256_update(hash, "ab", 2);
    hash_sha256_update(hash, "c", 1);
    char hex[HASH_SHA256_HEX_SIZE];
    hash_sha256_close(hash, hex);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"); /* FIPS 180-4 */
}

static void fnv1a_gives_the_published_value(void **state)
{
    (void)state;
    assert_true(hash_fnv1a_text("foobar") == UINT64_C(0x85944171f73967e8));
}

static void an_expected_warning_may_be_logged(void **state)
{
    (void)state;
    fixture_expect_log("as expected");
    log_warn("as expected %d", 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_failure_records_its_message_and_place),
        TEST(context_is_put_before_the_message),
        TEST(errno_maps_to_codes),
        TEST(strbuf_grows_and_detaches),
        TEST(arena_reset_reuses_its_chunks),
        TEST(sha256_gives_the_published_value),
        TEST(fnv1a_gives_the_published_value),
        TEST(an_expected_warning_may_be_logged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
