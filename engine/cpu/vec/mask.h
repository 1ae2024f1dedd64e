/* SPDX-License-Identifier: Apache-2.0 */
/* mask: which elements dropout keeps, drawn in stretches so that each line is a vector loop. */
#ifndef GRADD_CPU_VEC_MASK_H
#define GRADD_CPU_VEC_MASK_H

#include <math.h>
#include <stdint.h>

#include "gradd/view.h"

enum { MASK_STRETCH = 256 }; /* elements whose masks are drawn together */

/* Of 24 bits: an element is kept where its word >> 8 is at least this. */
static inline uint32_t mask_threshold(double p)
{
    return (uint32_t)ceil(p * 0x1.0p24);
}

/* Words of n_blocks blocks of four, c[word of the block][block], from element `first` on, a multiple of 4. gd_philox,
 * word by word over the blocks. */
static inline void mask_blocks(const gd_rng_key_t *key, int64_t first, int n_blocks, uint32_t c[4][MASK_STRETCH / 4])
{
    uint32_t k0 = (uint32_t)key->seed;
    uint32_t k1 = (uint32_t)(key->seed >> 32) ^ (key->purpose * 0x9E3779B9u);
    const uint32_t block = (uint32_t)(first / 4);
    for (int i = 0; i < n_blocks; i++) {
        c[0][i] = block + (uint32_t)i;
        c[1][i] = key->layer;
        c[2][i] = key->microbatch;
        c[3][i] = key->step;
    }
    for (int round = 0; round < 10; round++) {
#pragma omp simd
        for (int i = 0; i < n_blocks; i++) {
            const uint64_t p0 = (uint64_t)0xD2511F53u * c[0][i];
            const uint64_t p1 = (uint64_t)0xCD9E8D57u * c[2][i];
            c[0][i] = (uint32_t)(p1 >> 32) ^ c[1][i] ^ k0;
            c[1][i] = (uint32_t)p1;
            c[2][i] = (uint32_t)(p0 >> 32) ^ c[3][i] ^ k1;
            c[3][i] = (uint32_t)p0;
        }
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
}

/* mask[i] = 1 or 0 for elements first … first + n - 1, n ≤ MASK_STRETCH, and up to three more; first is a multiple of
 * 4. */
static inline void mask_draw(const gd_rng_key_t *key, uint32_t threshold, int64_t first, int64_t n,
                             uint32_t mask[MASK_STRETCH])
{
    uint32_t c[4][MASK_STRETCH / 4];
    const int n_blocks = (int)((n + 3) / 4);
    mask_blocks(key, first, n_blocks, c);
    for (int i = 0; i < n_blocks; i++) {
        for (int j = 0; j < 4; j++) {
            mask[4 * i + j] = (c[j][i] >> 8) >= threshold;
        }
    }
}

/* The words themselves. */
static inline void mask_words(const gd_rng_key_t *key, int64_t first, int64_t n, uint32_t word[MASK_STRETCH])
{
    uint32_t c[4][MASK_STRETCH / 4];
    const int n_blocks = (int)((n + 3) / 4);
    mask_blocks(key, first, n_blocks, c);
    for (int i = 0; i < n_blocks; i++) {
        for (int j = 0; j < 4; j++) {
            word[4 * i + j] = c[j][i];
        }
    }
}

#endif
