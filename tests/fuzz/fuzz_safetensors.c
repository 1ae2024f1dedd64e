/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_safetensors: a file of weights from a stranger; every byte of what is accepted is read. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "gradd/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    int fd = memfd_create("fuzz", 0);
    if (fd < 0 || write(fd, bytes, size) != (ssize_t)size) {
        (void)close(fd);
        return 0;
    }
    char path[64];
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    gd_safetensors_t *file = NULL;
    if (gd_safetensors_open(path, &file) == ST_OK) {
        volatile unsigned sum = 0;
        for (int i = 0; i < gd_safetensors_count(file); i++) {
            const gd_safetensors_entry_t *entry = gd_safetensors_at(file, i);
            size_t n = gd_dtype_size(entry->dtype);
            for (int d = 0; d < entry->n_dims; d++) {
                n *= (size_t)entry->shape[d];
            }
            for (size_t j = 0; j < n; j++) {
                sum += ((const uint8_t *)entry->data)[j];
            }
        }
        gd_safetensors_close(file);
    }
    (void)close(fd);
    return 0;
}
