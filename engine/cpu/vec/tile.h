/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tile: small matrix products for kernels that hold their operands in registers and cache (attention). Every product
 * has the form c[m,n] (+)= a[m,k] b[k,n]: elements of `a`, at any strides, are broadcast against vectors of b's rows.
 */
#ifndef GRADD_CPU_VEC_TILE_H
#define GRADD_CPU_VEC_TILE_H

#include <stdbool.h>

#include "cpu/vec/simd.h"

/* Rows of c in registers at a time: with two vectors each, half of the register file. */
#if defined(__AVX512F__)
enum { TILE_ROWS = 8 };
#else
enum { TILE_ROWS = 4 };
#endif

/* Strides in elements; rows of b and c are adjacent elements. n: a multiple of SIMD_WIDTH. */
typedef struct tile_product {
    int64_t n;
    int64_t k;
    const float *a;
    int64_t a_row, a_k;
    const float *b;
    int64_t b_row;
    float *c;
    int64_t c_row;
    bool is_adding;
} tile_product_t;

/* `rows` rows from row m on, `vectors` vectors of columns from column n on; both constants where it is called. */
static inline __attribute__((always_inline)) void tile_multiply(const tile_product_t *p, int rows, int vectors,
                                                                int64_t m, int64_t n)
{
    simd_f32_t sum[TILE_ROWS][2];
    const float *a = p->a + m * p->a_row;
    const float *b = p->b + n;
    float *c = p->c + m * p->c_row + n;
    const int64_t a_row = p->a_row, a_k = p->a_k, b_row = p->b_row, n_terms = p->k;
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++) {
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++) {
            sum[r][v] = p->is_adding ? simd_load(c + r * p->c_row + v * SIMD_WIDTH) : (simd_f32_t){0};
        }
    }
    for (int64_t k = 0; k < n_terms; k++) {
        simd_f32_t right[2];
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++) {
            right[v] = simd_load(b + v * SIMD_WIDTH);
        }
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) {
            const simd_f32_t left = simd_set(a[r * a_row]);
#pragma GCC unroll 2
            for (int v = 0; v < vectors; v++) {
                sum[r][v] += left * right[v];
            }
        }
        a += a_k;
        b += b_row;
    }
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++) {
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++) {
            simd_store(c + r * p->c_row + v * SIMD_WIDTH, sum[r][v]);
        }
    }
}

static inline __attribute__((always_inline)) void tile_row_group(const tile_product_t *p, int rows, int64_t m)
{
    int64_t n = 0;
    for (; n + 2 * SIMD_WIDTH <= p->n; n += 2 * SIMD_WIDTH) {
        tile_multiply(p, rows, 2, m, n);
    }
    if (n < p->n) {
        tile_multiply(p, rows, 1, m, n);
    }
}

/* The product for m ≤ TILE_ROWS rows. */
static inline void tile_product_run(const tile_product_t *p, int64_t m)
{
    int64_t row = 0;
#if defined(__AVX512F__)
    if (m == 8) {
        tile_row_group(p, 8, 0);
        return;
    }
#endif
    if (m - row >= 4) {
        tile_row_group(p, 4, row);
        row += 4;
    }
    if (m - row >= 2) {
        tile_row_group(p, 2, row);
        row += 2;
    }
    if (m - row >= 1) {
        tile_row_group(p, 1, row);
    }
}

/* Lane l of a pair of rows (a, b) whose blocks of `step` lanes off the diagonal are exchanged. */
#define TILE_LOW(l_x, step_x) (((l_x) & (step_x)) != 0 ? (l_x) - (step_x) + SIMD_WIDTH : (l_x))
#define TILE_HIGH(l_x, step_x) (((l_x) & (step_x)) != 0 ? (l_x) + SIMD_WIDTH : (l_x) + (step_x))
#define DEFINE_TILE_EXCHANGE(name_x, step_x)                                                                           \
    static inline __attribute__((always_inline)) void name_x(simd_f32_t *row)                                          \
    {                                                                                                                  \
        _Pragma("GCC unroll 16") for (int i = 0; i < SIMD_WIDTH; i++)                                                  \
        {                                                                                                              \
            if ((i & (step_x)) == 0) {                                                                                 \
                const simd_f32_t a = row[i];                                                                           \
                const simd_f32_t b = row[i + (step_x)];                                                                \
                row[i] = __builtin_shufflevector(a, b, SIMD_LANES(TILE_LOW, step_x));                                  \
                row[i + (step_x)] = __builtin_shufflevector(a, b, SIMD_LANES(TILE_HIGH, step_x));                      \
            }                                                                                                          \
        }                                                                                                              \
    }
DEFINE_TILE_EXCHANGE(tile_exchange_1, 1)
DEFINE_TILE_EXCHANGE(tile_exchange_2, 2)
#if defined(__AVX__)
DEFINE_TILE_EXCHANGE(tile_exchange_4, 4)
#endif
#if defined(__AVX512F__)
DEFINE_TILE_EXCHANGE(tile_exchange_8, 8)
#endif

/* row[i][j] = row[j][i] by exchanging ever larger blocks (Eklundh). */
static inline __attribute__((always_inline)) void tile_turn(simd_f32_t *row)
{
    tile_exchange_1(row);
    tile_exchange_2(row);
#if defined(__AVX__)
    tile_exchange_4(row);
#endif
#if defined(__AVX512F__)
    tile_exchange_8(row);
#endif
}

static inline void tile_turn_whole(const float *from, int64_t from_row, float *to, int64_t to_row)
{
    simd_f32_t row[SIMD_WIDTH];
#pragma GCC unroll 16
    for (int i = 0; i < SIMD_WIDTH; i++) {
        row[i] = simd_load(from + i * from_row);
    }
    tile_turn(row);
#pragma GCC unroll 16
    for (int i = 0; i < SIMD_WIDTH; i++) {
        simd_store(to + i * to_row, row[i]);
    }
}

/* The same of a block at the edge: what isn't there counts as zeros. */
static inline void tile_turn_part(const float *from, int64_t from_row, int64_t rows, int64_t columns, float *to,
                                  int64_t to_row)
{
    float block[SIMD_WIDTH * SIMD_WIDTH] = {0};
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t j = 0; j < columns; j++) {
            block[j * SIMD_WIDTH + i] = from[i * from_row + j];
        }
    }
    for (int64_t j = 0; j < columns; j++) {
        memcpy(to + j * to_row, block + j * SIMD_WIDTH, SIMD_WIDTH * sizeof(float));
    }
}

/*
 * to[d * to_row + t] = from[t * from_row + d] for t < n_rows, d < n_columns; columns t … up to a multiple of SIMD_WIDTH
 * are filled with zeros.
 */
static inline void tile_transpose(const float *from, int64_t from_row, int64_t n_rows, int64_t n_columns, float *to,
                                  int64_t to_row)
{
    for (int64_t t = 0; t < n_rows; t += SIMD_WIDTH) {
        for (int64_t d = 0; d < n_columns; d += SIMD_WIDTH) {
            const float *block = from + t * from_row + d;
            float *turned = to + d * to_row + t;
            const int64_t rows = n_rows - t < SIMD_WIDTH ? n_rows - t : SIMD_WIDTH;
            const int64_t columns = n_columns - d < SIMD_WIDTH ? n_columns - d : SIMD_WIDTH;
            if (rows == SIMD_WIDTH && columns == SIMD_WIDTH) {
                tile_turn_whole(block, from_row, turned, to_row);
            } else {
                tile_turn_part(block, from_row, rows, columns, turned, to_row);
            }
        }
    }
}

#endif
