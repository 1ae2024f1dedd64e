/* SPDX-License-Identifier: Apache-2.0 */
/* Files are replaced whole or not at all, folders made and removed whole, and manifests read strictly. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "tests/support/fixture.h"
#include "worker/files.h"
#include "worker/goodbye.h"
#include "worker/manifest.h"

static const char *path_in_folder(const char *name)
{
    static char path[256];
    (void)snprintf(path, sizeof(path), "%s/%s", fixture_folder(), name);
    return path;
}

static void assert_content(const char *path, const char *expected)
{
    char *text = NULL;
    size_t size = 0;
    assert_ok(wrk_file_read(path, 1000, &text, &size));
    assert_string_equal(text, expected);
    assert_int_equal(size, strlen(expected));
    mem_free(text);
}

static void a_replaced_file_has_the_new_bytes_and_leaves_no_others(void **state)
{
    (void)state;
    const char *path = path_in_folder("file");

    assert_ok(wrk_file_replace(path, "one", 3));
    assert_ok(wrk_file_replace(path, "three", 5));

    assert_content(path, "three");
    assert_fails(wrk_file_create(path, "four", 4), ST_ERR_EXISTS, path);
    assert_content(path, "three");
    assert_int_equal(rmdir(fixture_folder()), -1);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(fixture_folder()), 0);
}

static void errors_name_the_path_and_the_cause(void **state)
{
    (void)state;
    char *text = NULL;
    assert_fails(wrk_file_replace(path_in_folder("no/file"), "x", 1), ST_ERR_NOT_FOUND, "no/file");
    assert_fails(wrk_file_read(path_in_folder("none"), 10, &text, NULL), ST_ERR_NOT_FOUND, "No such file");
    assert_ok(wrk_file_replace(path_in_folder("big"), "0123456789a", 11));
    assert_fails(wrk_file_read(path_in_folder("big"), 10, &text, NULL), ST_ERR_RANGE, "at most 10 bytes");
    assert_fails(wrk_folder_make(path_in_folder("big/folder")), ST_ERR_IO, "big");
    assert_fails(wrk_file_write("/dev/full", "x", 1), ST_ERR_NOSPACE, "cannot write /dev/full: No space left");
}

static void folders_are_made_and_removed_with_what_is_in_them(void **state)
{
    (void)state;
    struct stat info;
    assert_ok(wrk_folder_make(path_in_folder("a/b/c")));
    assert_ok(wrk_folder_make(path_in_folder("a/b/c")));
    assert_ok(wrk_file_replace(path_in_folder("a/b/c/file"), "x", 1));

    assert_ok(wrk_tree_remove(path_in_folder("a")));

    assert_int_equal(stat(path_in_folder("a"), &info), -1);
    assert_ok(wrk_tree_remove(path_in_folder("a")));
}

static void a_file_is_hashed(void **state)
{
    (void)state;
    char hex[HASH_SHA256_HEX_SIZE];
    int64_t size = 0;
    assert_ok(wrk_file_replace(path_in_folder("abc"), "abc", 3));

    assert_ok(wrk_file_sha256(path_in_folder("abc"), hex, &size));

    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_int_equal(size, 3);
}

static void a_manifest_comes_back_as_it_was(void **state)
{
    (void)state;
    wrk_checkpoint_t written = {.step = 250, .seed = UINT64_MAX, .attempt = 3, .unix_ns = 12, .wall_seconds = 1.5};
    wrk_checkpoint_t read;
    written.samples = 3000;
    (void)snprintf(written.fingerprint, sizeof(written.fingerprint), "cpu \"x\"");
    (void)snprintf(written.parameters_sha256, sizeof(written.parameters_sha256), "aa");
    (void)snprintf(written.model_sha256, sizeof(written.model_sha256), "bb");
    (void)snprintf(written.optimizer_sha256, sizeof(written.optimizer_sha256), "cc");

    assert_ok(wrk_manifest_write(path_in_folder("manifest.json"), &written, 10, 20));
    assert_ok(wrk_manifest_read(path_in_folder("manifest.json"), &read));

    assert_int_equal(read.step, 250);
    assert_true(read.seed == UINT64_MAX);
    assert_int_equal(read.attempt, 3);
    assert_int_equal(read.samples, 3000);
    assert_int_equal(read.size_bytes, 30);
    assert_true(read.wall_seconds == 1.5);
    assert_string_equal(read.fingerprint, "cpu \"x\"");
    assert_string_equal(read.optimizer_sha256, "cc");
}

static void a_damaged_manifest_is_refused_with_the_place(void **state)
{
    (void)state;
    wrk_checkpoint_t read;
    const char *path = path_in_folder("manifest.json");
    assert_ok(wrk_file_replace(path, "{\"format\": 1,", 13));
    assert_fails(wrk_manifest_read(path, &read), ST_ERR_CORRUPT, "manifest.json:1:");
    assert_ok(wrk_file_replace(path, "{\"format\": 1}", 13));
    assert_fails(wrk_manifest_read(path, &read), ST_ERR_CORRUPT, "step");
}

/* Numbers that would be cut off, wrapped around or added up beyond 64 bits. */
static void a_manifest_with_numbers_out_of_range_is_refused(void **state)
{
    (void)state;
    static const char *const fields[][5] = {
        /* seed, attempt, samples, size of the second file, which is named; the first's is 9223372036854775807 - 8 */
        {"1", "1", "1", "8", ""},
        {"1", "1", "1", "9", "files[optimizer.safetensors].size_bytes"},
        {"18446744073709551616", "1", "1", "8", "seed"},
        {"-5", "1", "1", "8", "seed"},
        {"", "1", "1", "8", "seed"},
        {"1", "4294967297", "1", "8", "attempt"},
        {"1", "1", "-1", "8", "data.samples"},
        {"1", "1", "1", "-1", "files[optimizer.safetensors].size_bytes"},
    };
    const char *path = path_in_folder("manifest.json");
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        char text[1024];
        wrk_checkpoint_t read;
        const int n = snprintf(
            text, sizeof(text),
            "{\"format\": 1, \"step\": 1, \"seed\": \"%s\", \"attempt\": %s, \"unix_ns\": 1, \"wall_seconds\": 1, "
            "\"data\": {\"samples\": %s}, \"fingerprint\": \"\", \"parameters_sha256\": \"\", \"files\": "
            "{\"model.safetensors\": {\"sha256\": \"\", \"size_bytes\": 9223372036854775799}, "
            "\"optimizer.safetensors\": {\"sha256\": \"\", \"size_bytes\": %s}}}",
            fields[i][0], fields[i][1], fields[i][2], fields[i][3]);
        assert_ok(wrk_file_replace(path, text, (size_t)n));
        if (i == 0) {
            assert_ok(wrk_manifest_read(path, &read));
            assert_true(read.size_bytes == INT64_MAX);
        } else {
            char message[80];
            (void)snprintf(message, sizeof(message), "manifest.json: %s is out of range", fields[i][4]);
            assert_fails(wrk_manifest_read(path, &read), ST_ERR_CORRUPT, message);
        }
    }
}

static void rank_0_has_the_last_word(void **state)
{
    (void)state;
    wrk_goodbye_t failed = {WRK_OUTCOME_FAILED, "rank 1: \xFF", true, 7, ""};
    wrk_goodbye_t paused = {WRK_OUTCOME_PAUSED, "", false, 8, "aa"};
    char *text = NULL;

    assert_ok(wrk_goodbye_write(fixture_folder(), 2, 1, &failed));
    assert_ok(wrk_file_read(path_in_folder("attempts/2/goodbye.json"), 1000, &text, NULL));
    assert_non_null(strstr(text, "\"outcome\": \"failed\""));
    assert_non_null(strstr(text, "\"is_permanent\": true"));
    assert_null(strstr(text, "parameters_sha256"));
    mem_free(text);
    assert_ok(wrk_goodbye_write(fixture_folder(), 2, 0, &paused));
    assert_ok(wrk_goodbye_write(fixture_folder(), 2, 1, &failed));

    assert_ok(wrk_file_read(path_in_folder("attempts/2/goodbye.json"), 1000, &text, NULL));
    assert_non_null(strstr(text, "\"outcome\": \"paused\""));
    assert_non_null(strstr(text, "\"parameters_sha256\": \"aa\""));
    mem_free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_replaced_file_has_the_new_bytes_and_leaves_no_others),
        TEST(errors_name_the_path_and_the_cause),
        TEST(folders_are_made_and_removed_with_what_is_in_them),
        TEST(a_file_is_hashed),
        TEST(a_manifest_comes_back_as_it_was),
        TEST(a_damaged_manifest_is_refused_with_the_place),
        TEST(a_manifest_with_numbers_out_of_range_is_refused),
        TEST(rank_0_has_the_last_word),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
