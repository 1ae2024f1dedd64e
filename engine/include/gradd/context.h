/* SPDX-License-Identifier: Apache-2.0 */
/*
 * context: what an engine thread carries along: memory pool, random-number position, modes, threads.
 *
 * Owned handle, one per thread (loopback ranks are threads, each with its own). A thread without one gets a default
 * context at its first call, released at thread exit.
 *
 * Contexts of one device share its memory: an op's inputs may be of several, its results and their memory are the
 * current one's, whichever thread drops them. What a closed context's tensors hold stays until the last of them is
 * dropped.
 */
#ifndef GRADD_CONTEXT_H
#define GRADD_CONTEXT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "gradd/tensor.h"

typedef struct gd_context gd_context_t;

typedef struct gd_context_options {
    int n_threads; /* for kernels; 0: 1 */
    gd_device_t device;
} gd_context_options_t;

/* ST_ERR_RANGE: threads below 0 or above 1024; ST_ERR_UNSUPPORTED: a device that this build has no kernels for;
 * ST_ERR_INVAL: no device. */
status_t gd_context_open(const gd_context_options_t *options, gd_context_t **context_p);
void gd_context_close(gd_context_t *context);
/* Makes context the thread's own; NULL: back to the default one. Returns the one before (borrowed). */
gd_context_t *gd_context_set_current(gd_context_t *context);
gd_context_t *gd_context_get(void);

/* Threads of this thread's kernels, 1 … 1024 (ST_ERR_RANGE). */
int gd_context_n_threads(void);
status_t gd_context_set_n_threads(int n_threads);

/* Gradient recording of this thread; both return the old value, to be put back by the caller. */
bool gd_grad_set_enabled(bool is_enabled);
bool gd_grad_is_enabled(void);
/* Training mode (dropout, batch statistics) or evaluation; default evaluation. */
bool gd_training_set(bool is_training);
bool gd_training_is_on(void);

/* Position of the random numbers of dropout and friends: see gd_rng_key_t. */
void gd_rng_set_position(uint64_t seed, uint32_t step, uint32_t microbatch);
/* The key for a layer at the current position. */
gd_rng_key_t gd_rng_key(uint32_t layer, uint32_t purpose);

/* Memory of this context's pool, in bytes: in use now, the highest since the last reset, and held from the system;
 * n_system_allocations counts blocks that had to be new: constant in a steady training loop. */
typedef struct gd_memory_stats {
    int64_t in_use_bytes;
    int64_t peak_bytes;
    int64_t held_bytes;
    int64_t n_system_allocations;
} gd_memory_stats_t;
gd_memory_stats_t gd_memory_get_stats(void);
void gd_memory_reset_peak(void);

/* What besides the job can change bits on this device: "cpu avx512 onednn-2.6.3 libc-2.36 kernels-1 threads-1"; under
 * autocast its dtype too, and what multiplies it: "bf16-amx". */
void gd_numerics_fingerprint(strbuf_t *text);

#endif
