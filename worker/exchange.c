/* SPDX-License-Identifier: Apache-2.0 */
/* exchange: an all-gather of [header | records of the share] per rank. */
#include "worker/exchange.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"

typedef struct header {
    int64_t step;
    int32_t status;
    uint32_t word;
    char message[WRK_EXCHANGE_MESSAGE];
} header_t;

struct wrk_exchange {
    coll_group_t *group;
    int rank;
    int size;
    int64_t n_records;
    int64_t record_bytes;
    int64_t *sizes;   /* [size] bytes of each rank's part */
    int64_t *offsets; /* [size] */
    char *all;
};

status_t wrk_exchange_open(coll_group_t *group, int64_t n_records, int64_t record_bytes, wrk_exchange_t **exchange_p)
{
    wrk_exchange_t *exchange = mem_zalloc(sizeof(*exchange));
    if (exchange == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "exchange");
    }
    exchange->group = group;
    exchange->rank = coll_group_rank(group);
    exchange->size = coll_group_size(group);
    exchange->n_records = n_records;
    exchange->record_bytes = (record_bytes + 7) / 8 * 8;
    exchange->sizes = mem_calloc((size_t)exchange->size, sizeof(int64_t));
    exchange->offsets = mem_calloc((size_t)exchange->size, sizeof(int64_t));
    int64_t total = (int64_t)sizeof(header_t) * exchange->size + n_records * exchange->record_bytes;
    exchange->all = mem_zalloc((size_t)total);
    if (exchange->sizes == NULL || exchange->offsets == NULL || exchange->all == NULL) {
        wrk_exchange_close(exchange);
        return ST_FAIL(ST_ERR_NOMEM, "%lld bytes for the records of %lld microbatches", (long long)total,
                       (long long)n_records);
    }
    int64_t offset = 0;
    for (int r = 0; r < exchange->size; r++) {
        int64_t first = 0;
        int64_t n = 0;
        coll_share(n_records, exchange->size, r, &first, &n);
        exchange->sizes[r] = (int64_t)sizeof(header_t) + n * exchange->record_bytes;
        exchange->offsets[r] = offset;
        offset += exchange->sizes[r];
    }
    *exchange_p = exchange;
    return ST_OK;
}

void wrk_exchange_close(wrk_exchange_t *exchange)
{
    if (exchange == NULL) {
        return;
    }
    mem_free(exchange->sizes);
    mem_free(exchange->offsets);
    mem_free(exchange->all);
    mem_free(exchange);
}

static header_t *exchange_header(const wrk_exchange_t *exchange, int rank)
{
    return (header_t *)(void *)(exchange->all + exchange->offsets[rank]);
}

void *wrk_exchange_own(wrk_exchange_t *exchange, int64_t i)
{
    return exchange->all + exchange->offsets[exchange->rank] + (int64_t)sizeof(header_t) + i * exchange->record_bytes;
}

const void *wrk_exchange_get(const wrk_exchange_t *exchange, int64_t m)
{
    /* parts lie in rank order and shares in microbatch order: only the headers stand between */
    int rank = exchange->size - 1;
    int64_t first = 0;
    int64_t n = 0;
    for (; rank >= 0; rank--) {
        coll_share(exchange->n_records, exchange->size, rank, &first, &n);
        if (m >= first && n > 0) {
            break;
        }
    }
    return exchange->all + exchange->offsets[rank] + (int64_t)sizeof(header_t) + (m - first) * exchange->record_bytes;
}

/* The error of the lowest rank that has one. */
static status_t errors_read(const wrk_exchange_t *exchange)
{
    const header_t *first = NULL;
    int first_rank = 0;
    int n_same = 0;
    for (int r = 0; r < exchange->size; r++) {
        const header_t *header = exchange_header(exchange, r);
        if (header->status == ST_OK) {
            continue;
        }
        if (first == NULL) {
            first = header;
            first_rank = r;
        }
        n_same += strcmp(header->message, first->message) == 0;
    }
    if (first == NULL) {
        return ST_OK;
    }
    status_t code = first->status > ST_OK && first->status < ST_COUNT ? (status_t)first->status : ST_ERR_INTERNAL;
    if (n_same == exchange->size) {
        return ST_FAIL(code, "%s", first->message);
    }
    return ST_FAIL(code, "rank %d: %s", first_rank, first->message);
}

status_t wrk_exchange_run(wrk_exchange_t *exchange, status_t own, uint32_t word, int64_t step, uint32_t *word_p)
{
    if (own == ST_ERR_COMM || own == ST_ERR_PEER || own == ST_ERR_TIMEOUT) {
        return own;
    }
    header_t *header = exchange_header(exchange, exchange->rank);
    header->status = (int32_t)own;
    header->word = word;
    header->step = step;
    (void)snprintf(header->message, sizeof(header->message), "%s", own == ST_OK ? "" : status_message());

    status_t status = coll_allgatherv(exchange->group, header, exchange->sizes[exchange->rank], exchange->all,
                                      exchange->sizes, exchange->offsets);
    if (status == ST_OK) {
        status = errors_read(exchange);
    }
    if (status != ST_OK) {
        return status;
    }
    const header_t *root = exchange_header(exchange, 0);
    for (int r = 1; r < exchange->size; r++) {
        if (exchange_header(exchange, r)->step != root->step) {
            return ST_FAIL(ST_ERR_INTERNAL, "rank %d is at step %lld while rank 0 is at step %lld", r,
                           (long long)exchange_header(exchange, r)->step, (long long)root->step);
        }
    }
    if (word_p != NULL) {
        *word_p = root->word;
    }
    return ST_OK;
}

status_t wrk_agree(coll_group_t *group, status_t own)
{
    wrk_exchange_t *exchange = NULL;
    status_t status = wrk_exchange_open(group, 0, 0, &exchange);
    if (status == ST_OK) {
        status = wrk_exchange_run(exchange, own, 0, 0, NULL);
        wrk_exchange_close(exchange);
    }
    return status;
}
