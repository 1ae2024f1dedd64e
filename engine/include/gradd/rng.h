/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rng: Philox4x32-10 (Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
 * Counter-based: element i of a key is a pure function of both. key words: seed low, seed high ^ purpose; counter
 * words: block index i/4, layer, microbatch, step. Plain C, usable from kernels.
 */
#ifndef GRADD_RNG_H
#define GRADD_RNG_H

#include "gradd/view.h"

/* Four 32-bit words of block `block` (elements 4·block … 4·block+3). */
static inline void gd_philox(const gd_rng_key_t *key, uint32_t block, uint32_t word[4])
{
    uint32_t k0 = (uint32_t)key->seed;
    uint32_t k1 = (uint32_t)(key->seed >> 32) ^ (key->purpose * 0x9E3779B9u);
    uint32_t c0 = block;
    uint32_t c1 = key->layer;
    uint32_t c2 = key->microbatch;
    uint32_t c3 = key->step;
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0;
        uint64_t p1 = (uint64_t)0xCD9E8D57u * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    word[0] = c0;
    word[1] = c1;
    word[2] = c2;
    word[3] = c3;
}

/* Uniform in [0, 1) with 24 bits. */
static inline float gd_rng_unit(uint32_t word)
{
    return (float)(word >> 8) * 0x1.0p-24f;
}

/* Uniform integer in [0, n) from element `index` of key; bias < n/2^64. */
uint64_t gd_rng_below(const gd_rng_key_t *key, uint32_t index, uint64_t n);
/* Fills out[n] with uniforms in [lo, hi) / normals (Box-Muller). */
void gd_rng_fill_uniform(const gd_rng_key_t *key, float lo, float hi, float *out, int64_t n);
void gd_rng_fill_normal(const gd_rng_key_t *key, float mean, float std, float *out, int64_t n);
/* A permutation of 0 … n-1 (Fisher-Yates over the key's words). out[n]. */
void gd_rng_permutation(const gd_rng_key_t *key, uint32_t *out, uint32_t n);

#endif
