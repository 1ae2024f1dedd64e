/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_arrays: a NumPy array from a stranger, as inputs and as targets. */
#include "tests/fuzz/fuzz_data.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    Gradd__V1__Npy npy = GRADD__V1__NPY__INIT;
    Gradd__V1__Dataset spec = GRADD__V1__DATASET__INIT;
    fuzz_file_t file = fuzz_file_make(bytes, size);
    npy.inputs = file.path;
    npy.targets = file.path;
    spec.kind_case = GRADD__V1__DATASET__KIND_NPY;
    spec.npy = &npy;
    fuzz_dataset_run(&spec);
    (void)close(file.fd);
    return 0;
}
