/* SPDX-License-Identifier: Apache-2.0 */
/* Replays tests/fuzz/corpus/spec through the fuzz target: what once crashed stays mended. */
#include "tests/support/fixture.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"

enum { MAX_BYTES = 512 * 1024 };

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void the_corpus_crashes_nothing(void **state)
{
    (void)state;
    char folder[512];
    int n_files = 0;
    assert_non_null(getenv("GRADD_SOURCE"));
    (void)snprintf(folder, sizeof(folder), "%s/tests/fuzz/corpus/spec", getenv("GRADD_SOURCE"));
    DIR *directory = opendir(folder);
    assert_non_null(directory);
    for (const struct dirent *entry = readdir(directory); entry != NULL; entry = readdir(directory)) {
        char path[1024];
        if (entry->d_name[0] == '.') {
            continue;
        }
        (void)snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);
        FILE *file = fopen(path, "rb");
        assert_non_null(file);
        uint8_t *bytes = mem_alloc(MAX_BYTES);
        assert_non_null(bytes);
        size_t size = fread(bytes, 1, MAX_BYTES, file);
        assert_int_equal(fclose(file), 0);

        assert_int_equal(LLVMFuzzerTestOneInput(bytes, size), 0);

        mem_free(bytes);
        n_files++;
    }
    assert_int_equal(closedir(directory), 0);
    assert_in_range(n_files, 8, 100000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {TEST(the_corpus_crashes_nothing)};
    return cmocka_run_group_tests_name("spec_corpus", tests, NULL, NULL);
}
