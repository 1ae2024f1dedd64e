/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_manifest: a checkpoint's manifest.json from a damaged disk. What is taken is whole: written again, it reads the
 * same. */
#include <stdlib.h>
#include <string.h>

#include "tests/fuzz/fuzz_file.h"
#include "worker/manifest.h"

static bool are_equal(const wrk_checkpoint_t *a, const wrk_checkpoint_t *b)
{
    return a->step == b->step && a->seed == b->seed && a->attempt == b->attempt && a->unix_ns == b->unix_ns &&
           a->samples == b->samples && a->size_bytes == b->size_bytes && strcmp(a->fingerprint, b->fingerprint) == 0 &&
           strcmp(a->parameters_sha256, b->parameters_sha256) == 0 && strcmp(a->model_sha256, b->model_sha256) == 0 &&
           strcmp(a->optimizer_sha256, b->optimizer_sha256) == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    wrk_checkpoint_t checkpoint;
    wrk_checkpoint_t again;
    fuzz_file_t file = fuzz_file_make(bytes, size);
    if (wrk_manifest_read(file.path, &checkpoint) == ST_OK) {
        if (checkpoint.step < 0 || checkpoint.samples < 0 || checkpoint.size_bytes < 0) {
            abort();
        }
        if (wrk_manifest_write(file.path, &checkpoint, checkpoint.size_bytes, 0) == ST_OK &&
            (wrk_manifest_read(file.path, &again) != ST_OK || !are_equal(&checkpoint, &again))) {
            abort();
        }
    }
    (void)close(file.fd);
    return 0;
}
