/* SPDX-License-Identifier: Apache-2.0 */
/*
 * source: what a kind of dataset implements, and reading of files. Internal to worker/data/.
 *
 * dataset.c checks indices and hands a read to its kind sample by sample range; idx.c and text.c fill the common
 * members at open.
 */
#ifndef GRADD_WORKER_DATA_SOURCE_H
#define GRADD_WORKER_DATA_SOURCE_H

#include "worker/data/dataset.h"

typedef struct wrk_dataset_ops {
    void (*close)(wrk_dataset_t *dataset);
    /* The index is in range; target may be NULL. Any number of threads may be in it, each with a scratch of its own. */
    status_t (*read)(const wrk_dataset_t *dataset, int64_t index, wrk_scratch_t *scratch, void *input, void *target);
    status_t (*check_classes)(const wrk_dataset_t *dataset, int64_t n_classes);
} wrk_dataset_ops_t;

/* First member of idx's and text's own struct. */
struct wrk_dataset {
    const wrk_dataset_ops_t *ops;
    int64_t count;
    int64_t n_classes;
    int64_t n_tokens; /* text, else 0 */
    wrk_dataset_field_t input, target;
};

status_t wrk_idx_open(const Gradd__V1__Idx *spec, wrk_dataset_t **dataset_p);
status_t wrk_text_open(const Gradd__V1__Text *spec, const wrk_dataset_options_t *options, wrk_dataset_t **dataset_p);
extern const wrk_dataset_ops_t wrk_text_ops;
int wrk_text_decode(const wrk_dataset_t *dataset, int64_t token, char bytes[WRK_DATASET_MAX_TOKEN_BYTES]);
status_t wrk_text_encode(const wrk_dataset_t *dataset, const char *text, size_t length, int64_t *tokens,
                         int64_t *n_tokens_p);

/* Sets numel and size_bytes from dtype and shape. */
void wrk_dataset_field_init(wrk_dataset_field_t *field, gd_dtype_t dtype, int n_dims, const int64_t *shape);

/* Opens a regular file for reading: its descriptor and size. */
status_t wrk_source_open(const char *path, int *descriptor_p, int64_t *size_p);

#endif
