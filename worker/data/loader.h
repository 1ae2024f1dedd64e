/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loader: items (the samples of a microbatch) read ahead of their use by threads of its own, into a ring of bounded
 * size.
 *
 *   items   … 6   7   8   9 …          taken by the caller, in ascending order
 *   slots    [2] [3] [0] [1]           item k lies in slot k mod n_ahead; a slot is given to item k + n_ahead once
 *                                      item k is taken
 *
 * What item k holds is a function of k alone (the plan), so neither the number of threads nor a resume in the middle
 * changes it. An error stays with its item: it is returned when that item is taken. After the first items nothing is
 * allocated but where a file is larger than all before, and by libsndfile.
 *
 * Owned handle: opened, used and closed by one thread.
 */
#ifndef GRADD_WORKER_DATA_LOADER_H
#define GRADD_WORKER_DATA_LOADER_H

#include "worker/data/dataset.h"

/* Which samples item k has: at most n_max. Called under the loader's lock, by any of its threads. */
typedef status_t (*wrk_plan_func_t)(void *arg, int64_t item, wrk_plan_t *plan);

/* What a ring may hold of inputs and targets; with larger items it has fewer, at least 1. */
#define WRK_LOADER_MAX_BYTES (INT64_C(1) << 30)
enum { WRK_LOADER_MAX_THREADS = 256, WRK_LOADER_MAX_AHEAD = 4096 };

typedef struct wrk_loader_options {
    const wrk_dataset_t *dataset; /* borrowed until close */
    wrk_plan_func_t plan;
    void *arg;
    int64_t n_max;   /* samples of the largest item */
    int n_threads;   /* 0: an item is read when it is taken */
    int64_t n_ahead; /* items in the ring */
} wrk_loader_options_t;

typedef struct wrk_loader wrk_loader_t;

/* ST_ERR_NOMEM; ST_ERR_IO when no thread can be started. */
status_t wrk_loader_open(const wrk_loader_options_t *options, wrk_loader_t **loader_p);
/* Reads items first … end-1 from now on, and forgets what was read of others. */
void wrk_loader_start(wrk_loader_t *loader, int64_t first, int64_t end);
/* Waits for the next item and copies it: inputs[n, …], targets[n, …], and which samples they are, indices[n] (NULL: not
 * wanted). The item's own error, its plan's or its samples'; ST_ERR_STATE beyond the end. */
status_t wrk_loader_take(wrk_loader_t *loader, void *inputs, void *targets, int64_t *indices);
/* Ends the threads. NULL is fine. */
void wrk_loader_close(wrk_loader_t *loader);

#endif
