/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_image: a JPEG or PNG file from a stranger. */
#include "tests/fuzz/fuzz_data.h"
#include "worker/data/image.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    wrk_scratch_t scratch = {0};
    for (int channels = 1; channels <= 3; channels += 2) {
        wrk_image_t image = {0};
        if (wrk_image_decode("fuzz", bytes, (int64_t)size, channels, true, &scratch, &image) == ST_OK) {
            (void)wrk_image_resize(&image, 5, 7, &scratch);
        }
    }
    wrk_scratch_release(&scratch);
    return 0;
}
