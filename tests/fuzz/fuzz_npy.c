/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_npy: an array file and an archive from a stranger; every element of what is accepted is read. The corpus is
 * replayed by tests/engine/test_npy.c. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "gradd/npy.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void array_read(gd_npy_t *npy)
{
    gd_tensor_t *t = NULL;
    if (gd_npy_read(npy, &t) == ST_OK) {
        volatile unsigned sum = 0;
        const uint8_t *data = gd_tensor_data(t);
        size_t n = (size_t)gd_tensor_numel(t) * gd_dtype_size(gd_tensor_dtype(t));
        for (size_t i = 0; i < n; i++) {
            sum += data[i];
        }
        (void)gd_tensor_unref(t);
    }
    gd_npy_close(npy);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    int fd = memfd_create("fuzz", 0);
    if (fd < 0 || write(fd, bytes, size) != (ssize_t)size) {
        (void)close(fd);
        return 0;
    }
    char path[64];
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    gd_npy_t *npy = NULL;
    if (gd_npy_open(path, &npy) == ST_OK) {
        array_read(npy);
    }
    gd_npz_t *npz = NULL;
    if (gd_npz_open(path, &npz) == ST_OK) {
        for (int i = 0; i < gd_npz_count(npz); i++) {
            if (gd_npz_get(npz, gd_npz_name(npz, i), &npy) == ST_OK) {
                array_read(npy);
            }
        }
        gd_npz_close(npz);
    }
    (void)close(fd);
    return 0;
}
