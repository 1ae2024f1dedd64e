/* SPDX-License-Identifier: Apache-2.0 */
/* rng: numbers from Philox words. */
#include "gradd/rng.h"

#include <math.h>

/* Two 32-bit words an index: index i has the words 2 (i mod 2) and 2 (i mod 2) + 1 of block i / 2. */
static uint64_t word_64(const gd_rng_key_t *key, uint32_t index)
{
    uint32_t word[4];
    gd_philox(key, index / 2, word);
    return (uint64_t)word[index % 2 * 2] << 32 | word[index % 2 * 2 + 1];
}

uint64_t gd_rng_below(const gd_rng_key_t *key, uint32_t index, uint64_t n)
{
    /* high half of the 128-bit product (Lemire, "Fast random integer generation in an interval", 2019), by halves */
    const uint64_t x = word_64(key, index);
    const uint64_t x_low = x & 0xFFFFFFFFu;
    const uint64_t x_high = x >> 32;
    const uint64_t n_low = n & 0xFFFFFFFFu;
    const uint64_t n_high = n >> 32;
    const uint64_t middle = x_high * n_low + (x_low * n_low >> 32);
    const uint64_t carry = (middle & 0xFFFFFFFFu) + x_low * n_high;
    return x_high * n_high + (middle >> 32) + (carry >> 32);
}

void gd_rng_fill_uniform(const gd_rng_key_t *key, float lo, float hi, float *out, int64_t n)
{
    uint32_t word[4];
    for (int64_t i = 0; i < n; i += 4) {
        gd_philox(key, (uint32_t)(i / 4), word);
        for (int64_t j = 0; j < 4 && i + j < n; j++) {
            float value = lo + (hi - lo) * gd_rng_unit(word[j]);
            out[i + j] = value < hi || !(lo < hi) ? value : lo; /* rounding may reach hi */
        }
    }
}

void gd_rng_fill_normal(const gd_rng_key_t *key, float mean, float std, float *out, int64_t n)
{
    const double two_pi = 6.283185307179586476925286766559;
    uint32_t word[4];
    for (int64_t i = 0; i < n; i += 4) {
        gd_philox(key, (uint32_t)(i / 4), word);
        double normal[4];
        for (int pair = 0; pair < 2; pair++) {
            /* in (0, 1], so that the logarithm is finite */
            double u = ((double)word[2 * pair] + 1.0) * 0x1.0p-32;
            double angle = two_pi * (double)word[2 * pair + 1] * 0x1.0p-32;
            double radius = sqrt(-2.0 * log(u));
            normal[2 * pair] = radius * cos(angle);
            normal[2 * pair + 1] = radius * sin(angle);
        }
        for (int64_t j = 0; j < 4 && i + j < n; j++) {
            out[i + j] = (float)((double)mean + (double)std * normal[j]);
        }
    }
}

void gd_rng_permutation(const gd_rng_key_t *key, uint32_t *out, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        out[i] = i;
    }
    for (uint32_t i = n; i > 1; i--) {
        uint32_t j = (uint32_t)gd_rng_below(key, i - 1, i);
        uint32_t swapped = out[i - 1];
        out[i - 1] = out[j];
        out[j] = swapped;
    }
}
