/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_sequences: a table of texts from a stranger; its first byte says how it is read. */
#include "tests/fuzz/fuzz_data.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    Gradd__V1__Sequences sequences = GRADD__V1__SEQUENCES__INIT;
    Gradd__V1__Dataset spec = GRADD__V1__DATASET__INIT;
    char source[] = "0";
    char target[] = "-1";
    if (size == 0) {
        return 0;
    }
    fuzz_file_t file = fuzz_file_make(bytes + 1, size - 1);
    sequences.path = file.path;
    sequences.source = source;
    sequences.target = target;
    sequences.length = 5;
    sequences.classes = (bytes[0] & 1) != 0;
    sequences.header = (bytes[0] & 2) != 0;
    sequences.marks = (bytes[0] & 4) != 0;
    sequences.tokens =
        (bytes[0] & 8) != 0 ? GRADD__V1__SEQUENCES__TOKENS__bytes : GRADD__V1__SEQUENCES__TOKENS__characters;
    sequences.has_target_length = !sequences.classes;
    sequences.target_length = 4;
    spec.kind_case = GRADD__V1__DATASET__KIND_SEQUENCES;
    spec.sequences = &sequences;
    fuzz_dataset_run(&spec);
    (void)close(file.fd);
    return 0;
}
