/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_data: what the targets of the dataset readers share: a dataset opened and read. */
#ifndef GRADD_TESTS_FUZZ_DATA_H
#define GRADD_TESTS_FUZZ_DATA_H

#include <stdlib.h>

#include "base/mem.h"
#include "tests/fuzz/fuzz_file.h"
#include "worker/data/dataset.h"

/* Opens the dataset, for a loss that ignores label -1, reads its first samples and its last, writes and reads text
 * with its vocabulary, and closes it. */
static inline void fuzz_dataset_run(const Gradd__V1__Dataset *spec)
{
    static const int64_t MAX_SAMPLE = 1 << 24;
    static const int64_t ignored = -1;
    wrk_dataset_options_t options = {.context = 4, .ignored = &ignored};
    wrk_dataset_t *dataset = NULL;
    if (wrk_dataset_open(spec, &options, &dataset) != ST_OK) {
        return;
    }
    int64_t count = wrk_dataset_count(dataset);
    int64_t n_input = wrk_dataset_input(dataset)->size_bytes;
    int64_t n_target = wrk_dataset_target(dataset)->size_bytes;
    if (n_input < MAX_SAMPLE && n_target < MAX_SAMPLE) {
        void *input = malloc((size_t)n_input);
        void *target = malloc((size_t)n_target);
        int64_t indices[3] = {0, count / 2, count - 1};
        for (int i = 0; i < 3 && input != NULL && target != NULL; i++) {
            (void)wrk_dataset_read(dataset, &indices[i], 1, input, target);
        }
        free(input);
        free(target);
    }
    if (wrk_dataset_is_text(dataset)) {
        static const int64_t numbers[] = {-1, 0, 1, 2, 3, 4, 5, 1 << 24};
        int64_t *tokens = NULL;
        int64_t n = 0;
        strbuf_t text = {0};
        if (wrk_dataset_encode(dataset, "ab\n\xc3\xa4", 5, &tokens, &n) == ST_OK) {
            wrk_dataset_decode(dataset, tokens, n, &text);
            mem_free(tokens);
        }
        wrk_dataset_decode(dataset, numbers, sizeof(numbers) / sizeof(numbers[0]), &text);
        strbuf_release(&text);
    }
    (void)wrk_dataset_check_classes(dataset, 2);
    wrk_dataset_close(dataset);
}

#endif
