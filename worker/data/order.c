/* SPDX-License-Identifier: Apache-2.0 */
/* order: which samples make a training step. */
#include <string.h>

#include "base/mem.h"
#include "gradd/rng.h"
#include "worker/data/dataset.h"

enum { PURPOSE_DATA_ORDER = 2 };

struct wrk_order {
    uint64_t seed;
    int64_t batch;
    int64_t count;
    int64_t steps_per_epoch;
    bool is_stream;
    int64_t epoch;         /* of the permutation; -1: none yet */
    uint32_t *permutation; /* [count]; NULL for a stream */
};

static gd_rng_key_t key_of(const wrk_order_t *order, int64_t step)
{
    return (gd_rng_key_t){.seed = order->seed, .step = (uint32_t)step, .purpose = PURPOSE_DATA_ORDER};
}

status_t wrk_order_open(const wrk_dataset_t *dataset, uint64_t seed, int64_t batch, wrk_order_t **order_p)
{
    int64_t count = wrk_dataset_count(dataset);
    bool is_stream = wrk_dataset_is_stream(dataset);
    if (batch < 1) {
        return ST_FAIL(ST_ERR_INVAL, "batch of %lld samples", (long long)batch);
    }
    if (!is_stream && count < batch) {
        return ST_FAIL(ST_ERR_DATA, "the dataset has %lld samples, less than one batch of %lld", (long long)count,
                       (long long)batch);
    }
    if (!is_stream && count > UINT32_MAX) {
        return ST_FAIL(ST_ERR_DATA, "the dataset has %lld samples; at most %lld can be shuffled", (long long)count,
                       (long long)UINT32_MAX);
    }
    wrk_order_t *order = mem_zalloc(sizeof(*order));
    uint32_t *permutation = is_stream ? NULL : mem_calloc((size_t)count, sizeof(*permutation));
    if (order == NULL || (!is_stream && permutation == NULL)) {
        mem_free(order);
        mem_free(permutation);
        return ST_FAIL(ST_ERR_NOMEM, "order of %lld samples", (long long)count);
    }
    int64_t steps = count / batch;
    if (is_stream) {
        steps = wrk_dataset_n_tokens(dataset) / batch / wrk_dataset_input(dataset)->numel;
    }
    *order = (wrk_order_t){.seed = seed,
                           .batch = batch,
                           .count = count,
                           .steps_per_epoch = steps > 0 ? steps : 1,
                           .is_stream = is_stream,
                           .epoch = -1,
                           .permutation = permutation};
    *order_p = order;
    return ST_OK;
}

void wrk_order_close(wrk_order_t *order)
{
    if (order != NULL) {
        mem_free(order->permutation);
        mem_free(order);
    }
}

int64_t wrk_order_steps_per_epoch(const wrk_order_t *order)
{
    return order->steps_per_epoch;
}

status_t wrk_order_get(wrk_order_t *order, int64_t step, int64_t first, int64_t n, int64_t *indices)
{
    if (step < 0 || step > UINT32_MAX || first < 0 || n < 0 || first > order->batch - n) {
        return ST_FAIL(ST_ERR_RANGE, "samples %lld … %lld of step %lld, whose batch has %lld", (long long)first,
                       (long long)(first + n - 1), (long long)step, (long long)order->batch);
    }
    if (order->is_stream) {
        gd_rng_key_t key = key_of(order, step);
        for (int64_t i = 0; i < n; i++) {
            indices[i] = (int64_t)gd_rng_below(&key, (uint32_t)(first + i), (uint64_t)order->count);
        }
        return ST_OK;
    }
    int64_t epoch = step / order->steps_per_epoch;
    if (epoch != order->epoch) {
        gd_rng_key_t key = key_of(order, epoch);
        gd_rng_permutation(&key, order->permutation, (uint32_t)order->count);
        order->epoch = epoch;
    }
    const uint32_t *batch = order->permutation + (step % order->steps_per_epoch) * order->batch;
    for (int64_t i = 0; i < n; i++) {
        indices[i] = batch[first + i];
    }
    return ST_OK;
}
