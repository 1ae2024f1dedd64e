/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dataset: samples of a job's data, read by index (from memory, mapped files, or files decoded as they are needed); and
 * which samples make a step.
 *
 * A sample is an input and a target of fixed shape. Kinds:
 *   idx   images and labels in IDX files, gzipped or plain. Input f32 [1, H, W] (for a file of 4 dimensions [C, H, W]),
 *         (x / 255 - mean) / standard deviation; target i64 [] (one label). Sample i is image i.
 *   text  one stream of tokens (bytes, or UTF-8 code points numbered in ascending order of the distinct ones of the
 *         *whole* files, whatever `part` is). T = context. Sample i is the window that starts at token i of the part:
 *         input i64 [T] = tokens i … i+T-1, target i64 [T] = tokens i+1 … i+T.
 *   tokens  the same, of a stream that is tokens already, in shards.
 *   cifar   images of CIFAR-10 or CIFAR-100: input f32 [3, 32, 32], 0 … 1; target i64 [].
 *   image_folder  JPEG and PNG files: input f32 [channels, H, W], 0 … 1; target i64 [].
 *   csv     rows of a table: input f32 [columns]; target f32 [target columns], or i64 [] where it is a class.
 *   sequences  texts of a table as tokens, filled up with padding: input i64 [length]; target i64 [], a class; or
 *         with texts as targets input i64 [length + target_length], target i64 [target_length].
 *   npy     NumPy arrays: input f32 or i64 (tokens), of a row's shape; target f32 of a row's shape, or i64 labels.
 *   wav     sound: input f32 [1, 1, length], -1 … 1; target i64 [].
 * Of these, idx, cifar, image_folder, npy and wav take augmentations: the input has the shape that they give, and with
 * mixup or cutmix the target is f32 [classes], shares of the classes.
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
#include "base/strbuf.h"
#include "gradd/view.h"
#include "job.pb-c.h"

/* Limits on what a file may make us hold. */
enum { WRK_DATASET_MAX_FILES = 1 << 24 };
#define WRK_DATASET_MAX_BYTES (INT64_C(64) << 30)

typedef struct wrk_dataset wrk_dataset_t;

/* {0} is fine. */
typedef struct wrk_dataset_options {
    int32_t context;           /* of token streams: tokens a sample, where the spec has no context of its own */
    const wrk_dataset_t *like; /* the training dataset, for a validation dataset: its numbering of characters and of
                                  classes and its normalisation count; NULL: own */
    const int64_t *ignored; /* a label that the loss leaves out: it may be below 0 and is no class; NULL: there is none.
                               Known to npy, csv and sequences */
    const char *name;       /* put before error messages, "data.train"; NULL: nothing */
} wrk_dataset_options_t;

/* One sample's input or target. */
typedef struct wrk_dataset_field {
    gd_dtype_t dtype;
    int32_t n_dims;
    int64_t shape[GD_MAX_DIMS];
    int64_t numel;
    int64_t size_bytes;
} wrk_dataset_field_t;

/* Opens and reads the files. `spec` is borrowed for the call, options->like for the call too. */
status_t wrk_dataset_open(const Gradd__V1__Dataset *spec, const wrk_dataset_options_t *options,
                          wrk_dataset_t **dataset_p);
/* NULL is fine. */
void wrk_dataset_close(wrk_dataset_t *dataset);

/* Number of sample indices: images, or window starts (tokens - T). Always > 0. */
int64_t wrk_dataset_count(const wrk_dataset_t *dataset);
/* Borrowed, as long as the dataset. */
const wrk_dataset_field_t *wrk_dataset_input(const wrk_dataset_t *dataset);
const wrk_dataset_field_t *wrk_dataset_target(const wrk_dataset_t *dataset);
/* Vocabulary size, number of classes, or largest label + 1; 0 where targets are values. */
int64_t wrk_dataset_n_classes(const wrk_dataset_t *dataset);
/* Whether samples are windows of a stream of tokens. */
bool wrk_dataset_is_stream(const wrk_dataset_t *dataset);
/* Whether wrk_dataset_encode and wrk_dataset_decode know the tokens. */
bool wrk_dataset_is_text(const wrk_dataset_t *dataset);
/* Tokens of the part (streams), else 0. */
int64_t wrk_dataset_n_tokens(const wrk_dataset_t *dataset);
/* Targets a sample: labels, or where they are f32, rows of values (all but the last dimension). */
int64_t wrk_dataset_n_targets(const wrk_dataset_t *dataset);

/* Checks that every target is below n_classes, the width of the model's output, or that as many values are wanted.
 * ST_ERR_DATA names file, sample, label and the limit. Call it once the model is built, before the first step. */
status_t wrk_dataset_check_classes(const wrk_dataset_t *dataset, int64_t n_classes);

/* What a library keeps from file to file. open: NULL, memory is out. */
typedef struct wrk_tool_ops {
    void *(*open)(void);
    void (*close)(void *tool);
} wrk_tool_ops_t;

/* Memory that reading works in, one for each thread: it grows to what the largest sample takes, and stays; and the
 * tools that samples have taken. Embedded: {0}, wrk_scratch_release. */
enum {
    WRK_BLOCK_IMAGE,
    WRK_BLOCK_OTHER,
    WRK_BLOCK_FILE,
    WRK_BLOCK_ROWS,
    WRK_BLOCK_WEIGHTS,
    WRK_BLOCK_DECODER,
    WRK_BLOCK_SOUND,
    WRK_SCRATCH_COUNT
};
enum { WRK_TOOL_FLAC, WRK_TOOL_RESAMPLER, WRK_TOOL_COUNT };
typedef struct wrk_scratch {
    void *block[WRK_SCRATCH_COUNT];
    size_t size_bytes[WRK_SCRATCH_COUNT];
    void *tool[WRK_TOOL_COUNT]; /* NULL: not taken yet */
    const wrk_tool_ops_t *tool_ops[WRK_TOOL_COUNT];
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
/* What answers to a text are made of, where samples are a text and its answer. */
typedef struct wrk_answer {
    int64_t padding, begin; /* tokens that no answer has */
    int64_t end;            /* the one behind an answer */
    int64_t n_most;         /* tokens, with the end */
} wrk_answer_t;
/* NULL: text goes on. Else wrk_dataset_encode gives a text as a sample's input has it, filled up, with `begin` behind
 * it, and wrk_dataset_decode what an answer's tokens stand for. Borrowed. */
const wrk_answer_t *wrk_dataset_answer(const wrk_dataset_t *dataset);
/* Appends the bytes that tokens stand for, nothing for one outside the vocabulary or one that no text has. */
void wrk_dataset_decode(const wrk_dataset_t *dataset, const int64_t *tokens, int64_t n, strbuf_t *text);
/* *tokens_p: mem_free. ST_ERR_DATA names the byte offset of what is not in the vocabulary. */
status_t wrk_dataset_encode(const wrk_dataset_t *dataset, const char *text, size_t length, int64_t **tokens_p,
                            int64_t *n_tokens_p);

/* ---- which samples make a step ---- */
/*
 * The training order: a pure function of (seed, step, batch, count), whoever asks.
 *   streams  sample j of a step starts at gd_rng_below(key(purpose 2, step), j, count), as nanoGPT draws its windows
 *   others   epoch = step / steps per epoch; the epoch's permutation is Philox (purpose 2, word step = epoch); a step
 *            takes `batch` consecutive entries; the incomplete last batch of an epoch is dropped
 * Owned handle, used by one thread at a
 * time (it keeps the current epoch's permutation); borrows nothing.
 */
typedef struct wrk_order wrk_order_t;
/* ST_ERR_DATA when the dataset has less than one batch. */
status_t wrk_order_open(const wrk_dataset_t *dataset, uint64_t seed, int64_t batch, wrk_order_t **order_p);
void wrk_order_close(wrk_order_t *order);
/* Streams: tokens / (batch · T), at least 1. */
int64_t wrk_order_steps_per_epoch(const wrk_order_t *order);
/* indices[n] = samples first … first+n-1 of this step's batch (steps count from 0). ST_ERR_RANGE outside the batch. */
status_t wrk_order_get(wrk_order_t *order, int64_t step, int64_t first, int64_t n, int64_t *indices);

/* The evaluation order: samples one after another, covering the dataset once (streams: windows that don't overlap, the
 * incomplete last one dropped). */
int64_t wrk_dataset_eval_count(const wrk_dataset_t *dataset);
/* Index of evaluation sample i of n, 0 ≤ i < n ≤ eval_count: all of them when n = eval_count, else spread evenly. */
int64_t wrk_dataset_eval_index(const wrk_dataset_t *dataset, int64_t i, int64_t n);

#endif
