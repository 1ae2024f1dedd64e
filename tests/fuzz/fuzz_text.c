/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_text: a text from a stranger; the first byte chooses bytes or characters, which have to be UTF-8. */
#include "tests/fuzz/fuzz_data.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    Gradd__V1__Text text = GRADD__V1__TEXT__INIT;
    Gradd__V1__Dataset spec = GRADD__V1__DATASET__INIT;
    if (size == 0) {
        return 0;
    }
    fuzz_file_t file = fuzz_file_make(bytes + 1, size - 1);
    text.path = file.path;
    text.tokens = bytes[0] % 2 == 0 ? GRADD__V1__TEXT__TOKENS__bytes : GRADD__V1__TEXT__TOKENS__characters;
    spec.kind_case = GRADD__V1__DATASET__KIND_TEXT;
    spec.text = &text;
    fuzz_dataset_run(&spec);
    (void)close(file.fd);
    return 0;
}
