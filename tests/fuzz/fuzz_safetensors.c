/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_safetensors: a file of weights from a stranger; every byte of what is accepted is read. */
#include "gradd/safetensors.h"
#include "tests/fuzz/fuzz_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    const fuzz_file_t made = fuzz_file_make(bytes, size);
    if (made.fd < 0) {
        return 0;
    }
    gd_safetensors_t *file = NULL;
    if (gd_safetensors_open(made.path, &file) == ST_OK) {
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
    (void)close(made.fd);
    return 0;
}
