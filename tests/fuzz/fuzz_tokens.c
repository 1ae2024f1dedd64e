/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_tokens: a shard of tokens from a stranger. */
#include "tests/fuzz/fuzz_data.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    Gradd__V1__Tokens tokens = GRADD__V1__TOKENS__INIT;
    Gradd__V1__Dataset spec = GRADD__V1__DATASET__INIT;
    fuzz_file_t file = fuzz_file_make(bytes, size);
    tokens.path = file.path;
    spec.kind_case = GRADD__V1__DATASET__KIND_TOKENS;
    spec.tokens = &tokens;
    fuzz_dataset_run(&spec);
    (void)close(file.fd);
    return 0;
}
