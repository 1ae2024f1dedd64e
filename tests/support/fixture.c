/* SPDX-License-Identifier: Apache-2.0 */
/* fixture: log sink, descriptor and memory counts around each test. */
#include "tests/support/fixture.h"

#include <dirent.h>
#include <ftw.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"

enum { MAX_EXPECTED = 8, CLOSE_MS = 10000 /* gRPC closes sockets on threads of its own, a moment later */ };

static const char *expected[MAX_EXPECTED];
static int n_expected;
static int n_unexpected;
static int n_descriptors;
static int64_t n_blocks;
static int64_t n_tensors;

/* There when the test links the engine. Tensors live in pools, which mem_live_count doesn't see. */
extern int64_t gd_tensor_live_count(void) __attribute__((weak));

static int64_t tensors_count(void)
{
    return gd_tensor_live_count != NULL ? gd_tensor_live_count() : 0;
}
static char folder[64];

static void log_check(log_level_t level, const char *line, void *arg)
{
    (void)arg;
    if (level > LOG_LEVEL_WARN) {
        return;
    }
    for (int i = 0; i < n_expected; i++) {
        if (strstr(line, expected[i]) != NULL) {
            return;
        }
    }
    n_unexpected++;
    (void)fprintf(stderr, "unexpected log line: %s\n", line);
}

static int descriptors_count(void)
{
    int n = 0;
    DIR *dir = opendir("/proc/self/fd");
    if (dir == NULL) {
        return 0;
    }
    while (readdir(dir) != NULL) {
        n++;
    }
    (void)closedir(dir);
    return n;
}

int fixture_setup(void **state)
{
    (void)state;
    n_expected = 0;
    n_unexpected = 0;
    folder[0] = '\0';
    status_clear();
    log_set_sink(log_check, NULL);
    n_descriptors = descriptors_count();
    n_blocks = mem_live_count();
    n_tensors = tensors_count();
    return 0;
}

static int entry_remove(const char *path, const struct stat *info, int type, struct FTW *ftw)
{
    (void)info;
    (void)type;
    (void)ftw;
    return remove(path);
}

int fixture_teardown(void **state)
{
    (void)state;
    log_set_sink(NULL, NULL);
    if (folder[0] != '\0') {
        (void)nftw(folder, entry_remove, 16, FTW_DEPTH | FTW_PHYS);
    }
    int leaked_descriptors = descriptors_count() - n_descriptors;
    for (int i = 0; i < CLOSE_MS && leaked_descriptors > 0; i++) {
        clock_sleep_ms(1);
        leaked_descriptors = descriptors_count() - n_descriptors;
    }
    int64_t leaked_blocks = mem_live_count() - n_blocks;
    int64_t leaked_tensors = tensors_count() - n_tensors;
    if (n_unexpected > 0 || leaked_descriptors > 0 || leaked_blocks > 0 || leaked_tensors > 0) {
        (void)fprintf(stderr,
                      "fixture: %d unexpected log lines, %d leaked descriptors, %lld leaked blocks, "
                      "%lld leaked tensors\n",
                      n_unexpected, leaked_descriptors, (long long)leaked_blocks, (long long)leaked_tensors);
        return -1;
    }
    return 0;
}

void fixture_expect_log(const char *text)
{
    assert_true(n_expected < MAX_EXPECTED);
    expected[n_expected++] = text;
}

const char *fixture_folder(void)
{
    if (folder[0] == '\0') {
        (void)snprintf(folder, sizeof(folder), "/tmp/gradd-test-XXXXXX");
        assert_non_null(mkdtemp(folder));
    }
    return folder;
}

const char *fixture_write(const char *name, const void *bytes, size_t length)
{
    enum { N_PATHS = 16 };
    static char path[N_PATHS][256];
    static int next;
    char *own = path[next++ % N_PATHS];
    (void)snprintf(own, sizeof(path[0]), "%s/%s", fixture_folder(), name);
    FILE *file = fopen(own, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, length, file), length);
    assert_int_equal(fclose(file), 0);
    return own;
}

const char *fixture_write_text(const char *name, const char *text)
{
    return fixture_write(name, text, strlen(text));
}

const char *fixture_data(const char *name)
{
    static char path[512];
    const char *root = getenv("GRADD_DATA");
    const char *source = getenv("GRADD_SOURCE");
    if (root != NULL) {
        (void)snprintf(path, sizeof(path), "%s/%s", root, name);
    } else {
        (void)snprintf(path, sizeof(path), "%s/../shared/data/%s", source != NULL ? source : ".", name);
    }
    return access(path, R_OK) == 0 ? path : NULL;
}

const char *fixture_golden(const char *name)
{
    static char path[512];
    const char *source = getenv("GRADD_SOURCE");
    (void)snprintf(path, sizeof(path), "%s/tests/golden/%s", source != NULL ? source : ".", name);
    return path;
}

void fixture_assert_ok(status_t status, const char *call, const char *file, int line)
{
    if (status != ST_OK) {
        print_error("%s gave %s: %s (at %s)\n", call, status_name(status), status_message(), status_place());
        _fail(file, line);
    }
}

void fixture_assert_fails(status_t status, status_t code, const char *text, const char *call, const char *file,
                          int line)
{
    if (status != code || strstr(status_message(), text) == NULL) {
        print_error("%s gave %s: \"%s\"; expected %s with \"%s\"\n", call, status_name(status), status_message(),
                    status_name(code), text);
        _fail(file, line);
    }
}
