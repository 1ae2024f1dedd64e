/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_npy: an array file and an archive from a stranger; every element of what is accepted is read. The corpus is
 * replayed by tests/engine/test_npy.c. */
#include "gradd/npy.h"
#include "tests/fuzz/fuzz_file.h"

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
    const fuzz_file_t made = fuzz_file_make(bytes, size);
    if (made.fd < 0) {
        return 0;
    }
    gd_npy_t *npy = NULL;
    if (gd_npy_open(made.path, &npy) == ST_OK) {
        array_read(npy);
    }
    gd_npz_t *npz = NULL;
    if (gd_npz_open(made.path, &npz) == ST_OK) {
        for (int i = 0; i < gd_npz_count(npz); i++) {
            if (gd_npz_get(npz, gd_npz_name(npz, i), &npy) == ST_OK) {
                array_read(npy);
            }
        }
        gd_npz_close(npz);
    }
    (void)close(made.fd);
    return 0;
}
