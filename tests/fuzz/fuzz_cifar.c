/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_cifar: a CIFAR batch from a stranger, as each kind of labels. */
#include "tests/fuzz/fuzz_data.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    Gradd__V1__Cifar cifar = GRADD__V1__CIFAR__INIT;
    Gradd__V1__Dataset spec = GRADD__V1__DATASET__INIT;
    fuzz_file_t file = fuzz_file_make(bytes, size);
    cifar.path = file.path;
    spec.kind_case = GRADD__V1__DATASET__KIND_CIFAR;
    spec.cifar = &cifar;
    for (int labels = 0; labels < 3; labels++) {
        cifar.labels = (Gradd__V1__Cifar__Labels)labels;
        fuzz_dataset_run(&spec);
    }
    (void)close(file.fd);
    return 0;
}
