/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_file: a file out of a target's bytes, for readers that take a path. */
#ifndef GRADD_TESTS_FUZZ_FILE_H
#define GRADD_TESTS_FUZZ_FILE_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

typedef struct fuzz_file {
    int fd;
    char path[64];
} fuzz_file_t;

/* A file in memory; fd -1: it can't be made. */
static inline fuzz_file_t fuzz_file_make(const uint8_t *bytes, size_t size)
{
    fuzz_file_t file = {.fd = memfd_create("fuzz", 0)};
    if (file.fd >= 0 && size > 0 && write(file.fd, bytes, size) != (ssize_t)size) {
        (void)close(file.fd);
        file.fd = -1;
    }
    (void)snprintf(file.path, sizeof(file.path), "/proc/self/fd/%d", file.fd);
    return file;
}

#endif
