/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_idx: IDX images from a stranger, labels being the same file. */
#include "tests/fuzz/fuzz_data.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    Gradd__V1__Idx idx = GRADD__V1__IDX__INIT;
    Gradd__V1__Dataset spec = GRADD__V1__DATASET__INIT;
    fuzz_file_t file = fuzz_file_make(bytes, size);
    size_t n_labels = size > 16 && size < 4096 ? size - 16 : 0;
    uint8_t labels[4096 + 8] = {0, 0, 8, 1, 0, 0, (uint8_t)(n_labels >> 8), (uint8_t)n_labels};
    fuzz_file_t other = fuzz_file_make(labels, n_labels + 8);
    idx.images = file.path;
    spec.kind_case = GRADD__V1__DATASET__KIND_IDX;
    spec.idx = &idx;
    for (int i = 0; i < 2; i++) {
        idx.labels = i == 0 ? file.path : other.path;
        fuzz_dataset_run(&spec);
    }
    (void)close(other.fd);
    (void)close(file.fd);
    return 0;
}
