/* SPDX-License-Identifier: Apache-2.0 */
/* dataset: what all kinds share: opening by kind, checks, batches, evaluation order. */
#include "worker/data/dataset.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "worker/data/source.h"

static const int64_t dtype_bytes[GD_DTYPE_COUNT] = {
#define DTYPE_BYTES(name, text, size) [GD_DTYPE_##name] = (size),
    GD_DTYPE_LIST(DTYPE_BYTES)
#undef DTYPE_BYTES
};

void wrk_dataset_field_init(wrk_dataset_field_t *field, gd_dtype_t dtype, int n_dims, const int64_t *shape)
{
    *field = (wrk_dataset_field_t){.dtype = dtype, .n_dims = n_dims, .numel = 1};
    for (int d = 0; d < n_dims; d++) {
        field->shape[d] = shape[d];
        field->numel *= shape[d];
    }
    field->size_bytes = field->numel * dtype_bytes[dtype];
}

status_t wrk_source_open(const char *path, int *descriptor_p, int64_t *size_p)
{
    /* O_NONBLOCK: a FIFO would wait for its writer; for a regular file it means nothing */
    int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (descriptor < 0) {
        return ST_FAIL(status_from_errno(errno), "%s: %s", path, strerror(errno));
    }
    struct stat info;
    status_t status = ST_OK;
    if (fstat(descriptor, &info) != 0) {
        status = ST_FAIL(status_from_errno(errno), "%s: %s", path, strerror(errno));
    } else if (!S_ISREG(info.st_mode)) {
        status = ST_FAIL(ST_ERR_INVAL, "%s: not a regular file", path);
    } else if (info.st_size > WRK_DATASET_MAX_BYTES) {
        status = ST_FAIL(ST_ERR_DATA, "%s: %lld bytes; at most %lld are read", path, (long long)info.st_size,
                         (long long)WRK_DATASET_MAX_BYTES);
    }
    if (status != ST_OK) {
        (void)close(descriptor);
        return status;
    }
    *descriptor_p = descriptor;
    *size_p = info.st_size;
    return ST_OK;
}

status_t wrk_dataset_open(const Gradd__V1__Dataset *spec, const wrk_dataset_options_t *options,
                          wrk_dataset_t **dataset_p)
{
    static const wrk_dataset_options_t no_options = {0};
    options = options != NULL ? options : &no_options;
    status_t status = ST_OK;
    if (spec->kind_case == GRADD__V1__DATASET__KIND_TEXT) {
        status = wrk_text_open(spec->text, options, dataset_p);
    } else if (spec->kind_case == GRADD__V1__DATASET__KIND_IDX) {
        status = wrk_idx_open(spec->idx, dataset_p);
    } else {
        status = ST_FAIL(ST_ERR_INVAL, "no kind of dataset is given (text, idx)");
    }
    if (status != ST_OK && options->name != NULL) {
        return status_add_context(status, "%s", options->name);
    }
    return status;
}

void wrk_dataset_close(wrk_dataset_t *dataset)
{
    if (dataset != NULL) {
        dataset->ops->close(dataset);
    }
}

int64_t wrk_dataset_count(const wrk_dataset_t *dataset)
{
    return dataset->count;
}

const wrk_dataset_field_t *wrk_dataset_input(const wrk_dataset_t *dataset)
{
    return &dataset->input;
}

const wrk_dataset_field_t *wrk_dataset_target(const wrk_dataset_t *dataset)
{
    return &dataset->target;
}

int64_t wrk_dataset_n_classes(const wrk_dataset_t *dataset)
{
    return dataset->n_classes;
}

bool wrk_dataset_is_text(const wrk_dataset_t *dataset)
{
    return dataset->ops == &wrk_text_ops;
}

int64_t wrk_dataset_n_tokens(const wrk_dataset_t *dataset)
{
    return dataset->n_tokens;
}

status_t wrk_dataset_check_classes(const wrk_dataset_t *dataset, int64_t n_classes)
{
    return dataset->n_classes <= n_classes ? ST_OK : dataset->ops->check_classes(dataset, n_classes);
}

void wrk_scratch_release(wrk_scratch_t *scratch)
{
    for (int i = 0; i < WRK_SCRATCH_COUNT; i++) {
        mem_free(scratch->block[i]);
    }
    *scratch = (wrk_scratch_t){0};
}

status_t wrk_dataset_read_plan(const wrk_dataset_t *dataset, const wrk_plan_t *plan, wrk_scratch_t *scratch,
                               void *inputs, void *targets)
{
    wrk_scratch_t own = {0};
    status_t status = ST_OK;
    for (int64_t i = 0; i < plan->n; i++) {
        if (plan->indices[i] < 0 || plan->indices[i] >= dataset->count) {
            return ST_FAIL(ST_ERR_RANGE, "sample %lld of a dataset of %lld", (long long)plan->indices[i],
                           (long long)dataset->count);
        }
    }
    for (int64_t i = 0; i < plan->n && status == ST_OK; i++) {
        char *target = targets != NULL ? (char *)targets + i * dataset->target.size_bytes : NULL;
        status = dataset->ops->read(dataset, plan->indices[i], scratch != NULL ? scratch : &own,
                                    (char *)inputs + i * dataset->input.size_bytes, target);
    }
    wrk_scratch_release(&own);
    return status;
}

status_t wrk_dataset_read(const wrk_dataset_t *dataset, const int64_t *indices, int64_t n, void *inputs, void *targets)
{
    wrk_plan_t plan = {
        .indices = (int64_t *)(uintptr_t)indices, .n = n, .partner = n > 0 ? indices[0] : 0}; /* they are only read */
    return wrk_dataset_read_plan(dataset, &plan, NULL, inputs, targets);
}

int wrk_dataset_decode(const wrk_dataset_t *dataset, int64_t token, char bytes[WRK_DATASET_MAX_TOKEN_BYTES])
{
    return wrk_dataset_is_text(dataset) ? wrk_text_decode(dataset, token, bytes) : 0;
}

status_t wrk_dataset_encode(const wrk_dataset_t *dataset, const char *text, size_t length, int64_t *tokens,
                            int64_t *n_tokens_p)
{
    if (!wrk_dataset_is_text(dataset)) {
        return ST_FAIL(ST_ERR_STATE, "only a text dataset encodes text");
    }
    return wrk_text_encode(dataset, text, length, tokens, n_tokens_p);
}

int64_t wrk_dataset_eval_count(const wrk_dataset_t *dataset)
{
    return wrk_dataset_is_text(dataset) ? (dataset->n_tokens - 1) / dataset->input.shape[0] : dataset->count;
}

int64_t wrk_dataset_eval_index(const wrk_dataset_t *dataset, int64_t i, int64_t n)
{
    int64_t count = wrk_dataset_eval_count(dataset);
    int64_t place = i * (count / n) + i * (count % n) / n; /* i · count / n without overflow */
    return wrk_dataset_is_text(dataset) ? place * dataset->input.shape[0] : place;
}
