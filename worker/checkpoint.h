/* SPDX-License-Identifier: Apache-2.0 */
/*
 * checkpoint: a job's saved states on disk. Used by rank 0 only; the state travels to the other ranks by broadcast.
 *
 *   <job directory>/
 *     attempt                      number of the newest attempt: the fencing token (Note [Fencing])
 *     checkpoints/
 *       step-00000250/
 *         model.safetensors        parameters and buffers by full name, in their own shapes
 *         optimizer.safetensors    "<state>.<parameter name>" in the state's shape, "average.<parameter name>";
 *                                  metadata: step_count; plateau and loss_scale where the job has them
 *         average.safetensors      when asked for: the model with averaged parameters, for readers; not read here
 *         manifest.json            everything below, with the SHA-256 of the two files
 *       .tmp-<attempt>-<what>      being written or being removed; never read
 *
 * A checkpoint is complete or absent: it is written into a temporary folder, its files and the folder are fsynced, then
 * the folder is renamed and its parent fsynced. manifest.json, format 1:
 *   {"format": 1, "version": "0.1.0", "step": 250, "seed": 1337, "attempt": 1, "unix_ns": …, "wall_seconds": …,
 *    "data": {"samples": 3000}, "rng": {"seed": 1337, "step": 250, "microbatch": 0}, "fingerprint": "cpu avx512 …",
 *    "parameters_sha256": "…", "files": {"model.safetensors": {"sha256": "…", "size_bytes": …}, …}}
 * Steps count from 0; "step": 250 means that steps 0 … 249 are finished and step 250 comes next. The data cursor and
 * the random numbers are functions of the step: they are recorded for readers, not needed for resuming.
 *
 * Owned handle; one thread.
 */
#ifndef GRADD_WORKER_CHECKPOINT_H
#define GRADD_WORKER_CHECKPOINT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/hash.h"
#include "base/status.h"
#include "gradd/amp.h"
#include "gradd/optim.h"

enum { WRK_MAX_FINGERPRINT = 256, WRK_MAX_CHECKPOINTS = 64, WRK_CHECKPOINT_FORMAT = 1 };

typedef struct wrk_checkpoint {
    int64_t step;
    uint64_t seed;
    int attempt;
    int64_t unix_ns;
    double wall_seconds; /* of training behind it, over all attempts */
    int64_t samples;     /* training samples used so far */
    int64_t size_bytes;  /* of the two tensor files */
    char fingerprint[WRK_MAX_FINGERPRINT];
    char parameters_sha256[HASH_SHA256_HEX_SIZE];
    char model_sha256[HASH_SHA256_HEX_SIZE];
    char optimizer_sha256[HASH_SHA256_HEX_SIZE];
} wrk_checkpoint_t;

/* What is saved and restored; borrowed. */
typedef struct wrk_checkpoint_state {
    gd_module_t *model;
    gd_flat_t *flat;
    gd_optimizer_t *optimizer;
    gd_plateau_t *plateau;    /* NULL: the schedule has none */
    gd_grad_scaler_t *scaler; /* NULL: the loss isn't scaled */
    bool has_average_file;
} wrk_checkpoint_state_t;

typedef void (*wrk_note_func_t)(void *arg, const char *text);

typedef struct wrk_checkpoint_store wrk_checkpoint_store_t;

/*
 * Claims the job directory (made when missing) for this attempt and removes what dead attempts left unfinished.
 * keep: how many checkpoints stay, ≥ 1. ST_ERR_STATE: a newer attempt has begun.
 */
status_t wrk_checkpoint_store_open(const char *directory, int attempt, int keep, wrk_checkpoint_store_t **store_p);
/* NULL is fine. */
void wrk_checkpoint_store_close(wrk_checkpoint_store_t *store);

/*
 * Writes a checkpoint and removes the oldest ones beyond keep. checkpoint: step, seed, wall_seconds, samples,
 * fingerprint are read; the rest is filled in. Errors name path and cause: ST_ERR_NOSPACE, ST_ERR_IO, …;
 * ST_ERR_STATE: a newer attempt has begun (this one must stop). What was there before stays usable.
 */
status_t wrk_checkpoint_save(wrk_checkpoint_store_t *store, const wrk_checkpoint_state_t *state,
                             wrk_checkpoint_t *checkpoint);
/*
 * The newest checkpoint whose files match their hashes; *is_found_p false when there is none. Each corrupt one is told
 * to note (may be NULL): "checkpoint step-250 is corrupt (why); falling back to step-200". ST_ERR_PERMISSION and
 * ST_ERR_NOMEM: it could not be looked at; nothing is known about it.
 */
status_t wrk_checkpoint_find(wrk_checkpoint_store_t *store, wrk_note_func_t note, void *arg,
                             wrk_checkpoint_t *checkpoint_p, bool *is_found_p);
/* Reads it into state. ST_ERR_STATE names the first tensor that is missing or of another shape. */
status_t wrk_checkpoint_load(wrk_checkpoint_store_t *store, const wrk_checkpoint_t *checkpoint,
                             const wrk_checkpoint_state_t *state);
/* The kept ones with a readable manifest, oldest first; returns how many were put into list_p[max]. */
int wrk_checkpoint_list(wrk_checkpoint_store_t *store, wrk_checkpoint_t *list_p, int max);
/* Its folder, for people and telemetry. path_p: room for WRK_MAX_PATH. */
void wrk_checkpoint_path(const wrk_checkpoint_store_t *store, int64_t step, char *path_p);

#endif
