/* SPDX-License-Identifier: Apache-2.0 */
/* Replays the corpora of the readers of datasets, weights and checkpoints through their fuzz targets, and every file
 * cut short and with flipped bits: nothing crashes, nothing leaks. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "tests/support/fixture.h"

enum { MAX_BYTES = 64 * 1024, N_CUTS = 24 };

#define TARGETS(X)                                                                                                     \
    X(arrays)                                                                                                          \
    X(cifar) X(csv) X(idx) X(image) X(manifest) X(safetensors) X(sequences) X(text) X(tokenizer) X(tokens) X(wav)
#define TARGET_DECLARE(name_x) int fuzz_##name_x(const uint8_t *bytes, size_t size);
TARGETS(TARGET_DECLARE)

static void file_replay(const char *path, int (*target)(const uint8_t *bytes, size_t size))
{
    uint8_t *bytes = mem_alloc(MAX_BYTES);
    assert_non_null(bytes);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    size_t size = fread(bytes, 1, MAX_BYTES, file);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(target(bytes, size), 0);
    for (size_t i = 0; i < N_CUTS; i++) {
        size_t at = size * i / N_CUTS;
        assert_int_equal(target(bytes, at), 0);
        if (at < size) {
            bytes[at] ^= 0x81;
            assert_int_equal(target(bytes, size), 0);
            bytes[at] ^= 0x81;
        }
    }
    mem_free(bytes);
}

static void corpus_replay(const char *name, int (*target)(const uint8_t *bytes, size_t size))
{
    char folder[512];
    int n_files = 0;
    assert_non_null(getenv("GRADD_SOURCE"));
    (void)snprintf(folder, sizeof(folder), "%s/tests/fuzz/corpus/%s", getenv("GRADD_SOURCE"), name);
    DIR *directory = opendir(folder);
    assert_non_null(directory);
    for (const struct dirent *entry = readdir(directory); entry != NULL; entry = readdir(directory)) {
        char path[1024];
        if (entry->d_name[0] != '.') {
            (void)snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);
            file_replay(path, target);
            n_files++;
        }
    }
    assert_int_equal(closedir(directory), 0);
    assert_true(n_files > 0);
}

#define TARGET_TEST(name_x)                                                                                            \
    static void the_corpus_of_##name_x##_crashes_nothing(void **state)                                                 \
    {                                                                                                                  \
        (void)state;                                                                                                   \
        corpus_replay(#name_x, fuzz_##name_x);                                                                         \
    }
TARGETS(TARGET_TEST)

int main(void)
{
#define TARGET_ROW(name_x) TEST(the_corpus_of_##name_x##_crashes_nothing),
    const struct CMUnitTest tests[] = {TARGETS(TARGET_ROW)};
    return cmocka_run_group_tests_name("data_corpus", tests, NULL, NULL);
}
