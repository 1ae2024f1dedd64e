/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dataset: samples of a job's data, held in memory and read by index; and which samples make a step.
 *
 * A sample is an input and a target of fixed shape. Kinds:
 *   idx   images and labels in IDX files, gzipped or plain. Input f32 [1, H, W] (for a file of 4 dimensions [C, H, W]),
 *         (x / 255 - mean) / standard deviation; target i64 [] (one label). Sample i is image i.
 *   text  one stream of tokens (bytes, or UTF-8 code points numbered in ascending order of the distinct ones of the
 *         *whole* files, whatever `part` is). T = context. Sample i is the window that starts at token i of the part:
 *         input i64 [T] = tokens i … i+T-1, target i64 [T] = tokens i+1 … i+T.
 *
 * Owned handles. A dataset never changes after it is opened: any number of threads may read it. Errors name the file
 * and the offset in it: ST_ERR_NOT_FOUND, ST_ERR_PERMISSION, ST_ERR_IO (reading), ST_ERR_CORRUPT (a malformed or
 * truncated file), ST_ERR_DATA (well-formed, but not what the job needs), ST_ERR_INVAL (the job's own fields).
 */
#ifndef GRADD_WORKER_DATA_DATASET_H
#define GRADD_WORKER_DATA_DATASET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "gradd/view.h"
#include "job.pb-c.h"

/* Limits on what a file may make us hold. */
enum { WRK_DATASET_MAX_FILES = 65536, WRK_DATASET_MAX_TOKEN_BYTES = 4 };
#define WRK_DATASET_MAX_BYTES (INT64_C(64) << 30)

typedef struct wrk_dataset wrk_dataset_t;

/* {0} is fine for idx. */
typedef struct wrk_dataset_options {
    int32_t context;                    /* text: tokens a sample, used where the spec has no context of its own */
    const wrk_dataset_t *vocabulary_of; /* text as characters: number them as this (training) dataset does; NULL: own */
    const char *name;                   /* put before error messages, "data.train"; NULL: nothing */
} wrk_dataset_options_t;

/* One sample's input or target. */
typedef struct wrk_dataset_field {
    gd_dtype_t dtype;
    int32_t n_dims;
    int64_t shape[GD_MAX_DIMS];
    int64_t numel;
    int64_t size_bytes;
} wrk_dataset_field_t;

/* Opens and reads the files. `spec` is borrowed for the call, options->vocabulary_of for the call too. */
status_t wrk_dataset_open(const Gradd__V1__Dataset *spec, const wrk_dataset_options_t *options,
                          wrk_dataset_t **dataset_p);
/* NULL is fine. */
void wrk_dataset_close(wrk_dataset_t *dataset);

/* Number of sample indices: images, or window starts (tokens - T). Always > 0. */
int64_t wrk_dataset_count(const wrk_dataset_t *dataset);
/* Borrowed, as long as the dataset. */
const wrk_dataset_field_t *wrk_dataset_input(const wrk_dataset_t *dataset);
const wrk_dataset_field_t *wrk_dataset_target(const wrk_dataset_t *dataset);
/* Vocabulary size, or largest label + 1. */
int64_t wrk_dataset_n_classes(const wrk_dataset_t *dataset);
bool wrk_dataset_is_text(const wrk_dataset_t *dataset);
/* Tokens of the part (text), else 0. */
int64_t wrk_dataset_n_tokens(const wrk_dataset_t *dataset);

/* Checks that every target is below n_classes (the width of the model's output). ST_ERR_DATA names file, sample, label
 * and the limit. Call it once the model is built, before the first step. */
status_t wrk_dataset_check_classes(const wrk_dataset_t *dataset, int64_t n_classes);

/* Memory that reading works in, one for each thread: it grows to what the largest sample takes, and stays. Embedded:
 * {0}, wrk_scratch_release. */
enum { WRK_SCRATCH_COUNT = 4 };
typedef struct wrk_scratch {
    void *block[WRK_SCRATCH_COUNT];
    size_t size_bytes[WRK_SCRATCH_COUNT];
} wrk_scratch_t;
void wrk_scratch_release(wrk_scratch_t *scratch);

/* Which samples are read, and for which epoch: random numbers of augmentations are keyed by (seed, epoch, sample). */
typedef struct wrk_plan {
    int64_t *indices; /* [n] */
    int64_t n;
    uint64_t seed;
    int64_t epoch;
    int64_t partner; /* mixup: the sample that the last one is mixed with; the others are with the next of indices */
} wrk_plan_t;

/* Fills a batch: inputs[n, …] and targets[n, …], contiguous, in the order of the plan. targets may be NULL, scratch too
 * (then memory is taken for the call). Threads may read at once, each with its own scratch. ST_ERR_RANGE for an index
 * outside 0 … count-1; what is wrong with a sample's file names it. */
status_t wrk_dataset_read_plan(const wrk_dataset_t *dataset, const wrk_plan_t *plan, wrk_scratch_t *scratch,
                               void *inputs, void *targets);
/* The same for seed 0, epoch 0. */
status_t wrk_dataset_read(const wrk_dataset_t *dataset, const int64_t *indices, int64_t n, void *inputs, void *targets);

/* ---- text only ---- */
/* Bytes of a token (1 … 4, not NUL-terminated); returns how many, 0 for a token outside the vocabulary. */
int wrk_dataset_decode(const wrk_dataset_t *dataset, int64_t token, char bytes[WRK_DATASET_MAX_TOKEN_BYTES]);
/* tokens has room for `length` entries. ST_ERR_DATA names the byte offset of what is not in the vocabulary. */
status_t wrk_dataset_encode(const wrk_dataset_t *dataset, const char *text, size_t length, int64_t *tokens,
                            int64_t *n_tokens_p);

/* ---- which samples make a step ---- */
/*
 * The training order: a pure function of (seed, step, batch, count), whoever asks.
 *   idx   epoch = step / steps per epoch; the epoch's permutation is Philox (purpose 2, word step = epoch); a step
 * takes `batch` consecutive entries; the incomplete last batch of an epoch is dropped. text  sample j of a step starts
 * at gd_rng_below(key(purpose 2, step), j, count), as nanoGPT draws its windows. Owned handle, used by one thread at a
 * time (it keeps the current epoch's permutation); borrows nothing.
 */
typedef struct wrk_order wrk_order_t;
/* ST_ERR_DATA when the dataset has less than one batch. */
status_t wrk_order_open(const wrk_dataset_t *dataset, uint64_t seed, int64_t batch, wrk_order_t **order_p);
void wrk_order_close(wrk_order_t *order);
/* Text: tokens / (batch · T), at least 1. */
int64_t wrk_order_steps_per_epoch(const wrk_order_t *order);
/* indices[n] = samples first … first+n-1 of this step's batch (steps count from 0). ST_ERR_RANGE outside the batch. */
status_t wrk_order_get(wrk_order_t *order, int64_t step, int64_t first, int64_t n, int64_t *indices);

/* The evaluation order: samples one after another, covering the dataset once (text: windows that don't overlap, the
 * incomplete last one dropped). */
int64_t wrk_dataset_eval_count(const wrk_dataset_t *dataset);
/* Index of evaluation sample i of n, 0 ≤ i < n ≤ eval_count: all of them when n = eval_count, else spread evenly. */
int64_t wrk_dataset_eval_index(const wrk_dataset_t *dataset, int64_t i, int64_t n);

#endif
