/* SPDX-License-Identifier: Apache-2.0 */
/*
 * amx_tiles: what the files that multiply f32 by AMX's tiles share (amx.c, amx_conv.c); for files compiled with AMX.
 * How elements are cut: amx.h, Note [Three parts of a float]. Sums of 32 x 32 are in tiles 0-3, row by row; a's two
 * tiles of 16 rows go to 4 and 5, b's of 16 columns to 6 and 7.
 */
#ifndef GRADD_CPU_AMX_TILES_H
#define GRADD_CPU_AMX_TILES_H

#include <immintrin.h>
#include <stdint.h>

enum {
    N_PARTS = 3,
    TILE = 16,         /* rows of a tile; columns of sums */
    TILE_BYTES = 1024, /* 16 rows of 64 */
    PANEL = 2 * TILE,  /* rows or columns of a panel */
    STEP = 32,         /* elements of k of a tile */
    STEP_BYTES = 2 * N_PARTS * TILE_BYTES,
};

static inline int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* The first n of 16 lanes; n may be less than 0 or more than 16. */
static inline __mmask16 mask_first(int64_t n)
{
    return (__mmask16)(n >= 16 ? 0xFFFFU : n <= 0 ? 0U : (1U << n) - 1);
}

/* x without what bf16 has no room for. */
static inline __m512 cut_to_bf16(__m512 x)
{
    return _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32((int)0xFFFF0000U)));
}

/* x rounded to bf16, halves away from zero. */
static inline __m512 round_to_bf16(__m512 x)
{
    return cut_to_bf16(_mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(x), _mm512_set1_epi32(0x8000))));
}

/* The bf16 pairs (low, high) of 16 lanes, cut. */
static inline __m512i pair_up(__m512 low, __m512 high)
{
    return _mm512_mask_blend_epi16(0xAAAAAAAAU, _mm512_srli_epi32(_mm512_castps_si512(low), 16),
                                   _mm512_castps_si512(high));
}

/* One row of a tile in its three parts; to[part * stride]. */
static inline __attribute__((always_inline)) void row_split(__m512 low, __m512 high, char *to, int64_t stride)
{
    _mm512_storeu_si512(to, pair_up(low, high));
    low = _mm512_sub_ps(low, cut_to_bf16(low));
    high = _mm512_sub_ps(high, cut_to_bf16(high));
    const __m512 low_m = round_to_bf16(low), high_m = round_to_bf16(high);
    _mm512_storeu_si512(to + stride, pair_up(low_m, high_m));
    _mm512_storeu_si512(to + 2 * stride, pair_up(_mm512_sub_ps(low, low_m), _mm512_sub_ps(high, high_m)));
}

/* to[16][16] = fromᵀ, of floats; rows of `from` are `stride` apart. Fetches the square that lies `ahead`. */
static inline __attribute__((always_inline)) void square_transpose(const float *from, int64_t stride, int64_t ahead,
                                                                   float *to)
{
    __m512 r[TILE], t[TILE];
#pragma GCC unroll 16
    for (int i = 0; i < TILE; i++) {
        __builtin_prefetch(from + i * stride + ahead, 0, 2);
        r[i] = _mm512_loadu_ps(from + i * stride);
    }
#pragma GCC unroll 8
    for (int i = 0; i < TILE; i += 2) {
        t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < TILE; i += 4) {
        r[i] = _mm512_shuffle_ps(t[i], t[i + 2], 0x44);
        r[i + 1] = _mm512_shuffle_ps(t[i], t[i + 2], 0xEE);
        r[i + 2] = _mm512_shuffle_ps(t[i + 1], t[i + 3], 0x44);
        r[i + 3] = _mm512_shuffle_ps(t[i + 1], t[i + 3], 0xEE);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        t[i] = _mm512_shuffle_f32x4(r[i], r[i + 4], 0x88);
        t[i + 4] = _mm512_shuffle_f32x4(r[i], r[i + 4], 0xDD);
        t[i + 8] = _mm512_shuffle_f32x4(r[i + 8], r[i + 12], 0x88);
        t[i + 12] = _mm512_shuffle_f32x4(r[i + 8], r[i + 12], 0xDD);
    }
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) {
        _mm512_store_ps(to + TILE * i, _mm512_shuffle_f32x4(t[i], t[i + 8], 0x88));
        _mm512_store_ps(to + TILE * (i + 8), _mm512_shuffle_f32x4(t[i], t[i + 8], 0xDD));
    }
}

/* gcc 12's intrinsics don't say that they read memory. */
#define TILE_LOAD(tile_x, from_x, stride_x)                                                                            \
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm" #tile_x ::"r"(from_x), "r"((int64_t)(stride_x)) : "memory")
#define TILE_LOAD_ONCE(tile_x, from_x, stride_x)                                                                       \
    __asm__ volatile("tileloaddt1 (%0,%1,1), %%tmm" #tile_x ::"r"(from_x), "r"((int64_t)(stride_x)) : "memory")
#define TILE_STORE(tile_x, to_x, stride_x)                                                                             \
    __asm__ volatile("tilestored %%tmm" #tile_x ", (%0,%1,1)" ::"r"(to_x), "r"((int64_t)(stride_x)) : "memory")
#define TILE_ZERO(tile_x) __asm__ volatile("tilezero %%tmm" #tile_x ::)
/* tiles 0-3 += tiles 4, 5 (of a) times tiles 6, 7 (of b) */
#define TILE_MULTIPLY()                                                                                                \
    __asm__ volatile("tdpbf16ps %%tmm6, %%tmm4, %%tmm0\n\ttdpbf16ps %%tmm7, %%tmm4, %%tmm1\n\t"                        \
                     "tdpbf16ps %%tmm6, %%tmm5, %%tmm2\n\ttdpbf16ps %%tmm7, %%tmm5, %%tmm3" ::)
/* The same where a or b may have no second tile; flags that the compiler knows. */
#define TILE_MULTIPLY_SOME(has_5_x, has_7_x)                                                                           \
    do {                                                                                                               \
        __asm__ volatile("tdpbf16ps %%tmm6, %%tmm4, %%tmm0" ::);                                                       \
        if (has_7_x) {                                                                                                 \
            __asm__ volatile("tdpbf16ps %%tmm7, %%tmm4, %%tmm1" ::);                                                   \
        }                                                                                                              \
        if (has_5_x) {                                                                                                 \
            __asm__ volatile("tdpbf16ps %%tmm6, %%tmm5, %%tmm2" ::);                                                   \
        }                                                                                                              \
        if ((has_5_x) && (has_7_x)) {                                                                                  \
            __asm__ volatile("tdpbf16ps %%tmm7, %%tmm5, %%tmm3" ::);                                                   \
        }                                                                                                              \
    } while (0)

static inline void tiles_configure(void)
{
    struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t bytes[16];
        uint8_t rows[16];
    } config __attribute__((aligned(64))) = {.palette = 1};
    for (int i = 0; i < 8; i++) {
        config.bytes[i] = 64;
        config.rows[i] = TILE;
    }
    __asm__ volatile("ldtilecfg %0" ::"m"(config));
}

static inline void tiles_release(void)
{
    __asm__ volatile("tilerelease" ::);
}

static inline void sums_store(float *to, int64_t row)
{
    const int64_t row_bytes = row * (int64_t)sizeof(float);
    char *upper = (char *)to, *lower = upper + TILE * row_bytes;
    TILE_STORE(0, upper, row_bytes);
    TILE_STORE(1, upper + 64, row_bytes);
    TILE_STORE(2, lower, row_bytes);
    TILE_STORE(3, lower + 64, row_bytes);
}

#endif
