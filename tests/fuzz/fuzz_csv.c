/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_csv: a table from a stranger; its first byte says how it is read. */
#include "tests/fuzz/fuzz_data.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    Gradd__V1__Csv csv = GRADD__V1__CSV__INIT;
    Gradd__V1__Dataset spec = GRADD__V1__DATASET__INIT;
    char *target[] = {"0"};
    if (size == 0) {
        return 0;
    }
    fuzz_file_t file = fuzz_file_make(bytes + 1, size - 1);
    csv.path = file.path;
    csv.target = target;
    csv.n_target = 1;
    csv.classes = (bytes[0] & 1) != 0;
    csv.header = (bytes[0] & 2) != 0;
    csv.normalize = (bytes[0] & 4) != 0;
    spec.kind_case = GRADD__V1__DATASET__KIND_CSV;
    spec.csv = &csv;
    fuzz_dataset_run(&spec);
    (void)close(file.fd);
    return 0;
}
