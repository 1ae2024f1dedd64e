/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gemm_few: matrix products in f32 with few rows or few columns.
 *
 * Note [Few rows]
 *   Such a product takes little longer than reading its larger operand, whose elements are used too few times to make
 * up for packing. Where both operands have k adjacent, sums are those of vectors along k (gemm_dots). Where b's rows
 * are adjacent elements, each is added to all rows of sums, which are in memory, a few rows of b at a time (gemm_rows).
 */
#include "cpu/vec/gemm.h"
#include "cpu/vec/tile.h"

enum {
    MOST_FEW = 3, /* lines of either operand whose sums are in registers together */
    MOST_MANY = 8,
    LINE = 16,                                         /* floats of a cache line */
    DOT_MOST_BLOCK_K = GEMM_MOST_BLOCK_K * SIMD_WIDTH, /* a lane's share is as long as a block elsewhere */
    TERMS = 8,                                         /* rows of b at a time */
    SUMS = 1 << 12,                                    /* in memory */
};

static inline int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Rows of a or columns of b. */
typedef struct lines {
    const float *data;
    int64_t count, step;
    int64_t c_step, bias_step; /* to the next line's sums */
} lines_t;

typedef struct dots {
    const gd_gemm_t *gemm;
    lines_t few, many;
} dots_t;

/* The sums of some lines of either side over terms [k, k_end); n_few and n_many are constants where it is called. */
static inline __attribute__((always_inline)) void dots_add(const dots_t *d, int n_few, int n_many, int64_t few,
                                                           int64_t many, int64_t k, int64_t k_end)
{
    const gd_gemm_t *g = d->gemm;
    const int64_t few_step = d->few.step, many_step = d->many.step, n = k_end - k,
                  n_whole = n / SIMD_WIDTH * SIMD_WIDTH;
    const float *a = d->few.data + few * few_step + k, *b = d->many.data + many * many_step + k;
    simd_f32_t sum[MOST_FEW][MOST_MANY];
#pragma GCC unroll 3
    for (int i = 0; i < n_few; i++) {
#pragma GCC unroll 8
        for (int j = 0; j < n_many; j++) {
            sum[i][j] = (simd_f32_t){0};
        }
    }
    for (int64_t t = 0; t < n_whole; t += SIMD_WIDTH) {
        simd_f32_t left[MOST_FEW];
#pragma GCC unroll 3
        for (int i = 0; i < n_few; i++) {
            left[i] = simd_load(a + i * few_step + t);
        }
#pragma GCC unroll 8
        for (int j = 0; j < n_many; j++) {
            const simd_f32_t right = simd_load(b + j * many_step + t);
#pragma GCC unroll 3
            for (int i = 0; i < n_few; i++) {
                sum[i][j] += left[i] * right;
            }
        }
    }
    const bool is_adding = g->is_accumulating || k > 0;
    const float *bias = k == 0 ? g->bias : NULL;
#pragma GCC unroll 3
    for (int i = 0; i < n_few; i++) {
#pragma GCC unroll 8
        for (int j = 0; j < n_many; j++) {
            float total = simd_sum_lanes(sum[i][j]);
            for (int64_t t = n_whole; t < n; t++) {
                total += a[i * few_step + t] * b[j * many_step + t];
            }
            if (bias != NULL) {
                total += bias[(few + i) * d->few.bias_step + (many + j) * d->many.bias_step];
            }
            float *c = g->c + (few + i) * d->few.c_step + (many + j) * d->many.c_step;
            *c = is_adding ? *c + total : total;
        }
    }
}

/* All of the few lines meet n_many of the others. */
static inline __attribute__((always_inline)) void dots_run(const dots_t *d, int n_many, int64_t many, int64_t k,
                                                           int64_t k_end)
{
    int64_t few = 0;
    for (; few + 3 <= d->few.count; few += 3) {
        dots_add(d, 3, n_many, few, many, k, k_end);
    }
    if (few + 2 == d->few.count) {
        dots_add(d, 2, n_many, few, many, k, k_end);
    } else if (few < d->few.count) {
        dots_add(d, 1, n_many, few, many, k, k_end);
    }
}

static void dots_part(void *arg, int64_t begin, int64_t end)
{
    const dots_t *d = arg;
    const int64_t n_terms = d->gemm->k, block_k = gemm_block_k(n_terms, DOT_MOST_BLOCK_K);
    for (int64_t k = 0; k < n_terms; k += block_k) {
        const int64_t k_end = smaller(k + block_k, n_terms);
        int64_t many = begin;
        for (; d->few.count == 1 && many + 8 <= end; many += 8) {
            dots_add(d, 1, 8, 0, many, k, k_end);
        }
        for (; many + 4 <= end; many += 4) {
            dots_run(d, 4, many, k, k_end);
        }
        for (; many < end; many++) {
            dots_run(d, 1, many, k, k_end);
        }
    }
}

/* Lines or columns a thread has, in whole cache lines of c. */
static int64_t share_of(int64_t n, int n_threads)
{
    return gd_cpu_n_blocks(gd_cpu_n_blocks(n, n_threads > 1 ? n_threads : 1), LINE) * LINE;
}

void CPU_FN(gemm_dots)(const gd_gemm_t *g)
{
    const lines_t rows = {.data = g->a, .count = g->m, .step = g->a_row, .c_step = g->c_row};
    const lines_t columns = {.data = g->b, .count = g->n, .step = g->b_col, .c_step = 1, .bias_step = 1};
    dots_t d = {.gemm = g, .few = g->m < g->n ? rows : columns, .many = g->m < g->n ? columns : rows};
    gd_cpu_parallel(g->n_threads, d.many.count, share_of(d.many.count, g->n_threads), dots_part, &d);
}

/* sum[rows, n] (+)= a b over terms [k, k_end), n in whole vectors. */
static void rows_add(const gd_gemm_t *g, const float *b, int64_t b_row, int64_t k, int64_t k_end, int64_t n, float *sum,
                     int64_t sum_row, bool is_adding)
{
    for (int64_t row = 0; row < g->m; row += TILE_ROWS) {
        const tile_product_t product = {.n = n,
                                        .k = k_end - k,
                                        .a = g->a + row * g->a_row + k * g->a_col,
                                        .a_row = g->a_row,
                                        .a_k = g->a_col,
                                        .b = b,
                                        .b_row = b_row,
                                        .c = sum + row * sum_row,
                                        .c_row = sum_row,
                                        .is_adding = is_adding};
        tile_product_run(&product, smaller(g->m - row, TILE_ROWS));
    }
}

/* Columns [column, column + n) of c, n ≤ width, over the block of k. */
static void rows_block(const gd_gemm_t *g, int64_t column, int64_t n, int64_t k, int64_t k_end, int64_t width)
{
    float sum[SUMS] __attribute__((aligned(64)));
    float rest[TERMS * SIMD_WIDTH] = {0}; /* what is left of b's rows after whole vectors */
    const int64_t n_whole = n / SIMD_WIDTH * SIMD_WIDTH;
    for (int64_t t = k; t < k_end; t += TERMS) {
        const int64_t t_end = smaller(t + TERMS, k_end);
        const float *b = g->b + t * g->b_row + column;
        rows_add(g, b, g->b_row, t, t_end, n_whole, sum, width, t > k);
        if (n_whole < n) {
            for (int64_t i = 0; i < t_end - t; i++) {
                memcpy(rest + i * SIMD_WIDTH, b + i * g->b_row + n_whole, (size_t)(n - n_whole) * sizeof(float));
            }
            rows_add(g, rest, SIMD_WIDTH, t, t_end, SIMD_WIDTH, sum + n_whole, width, t > k);
        }
    }
    for (int64_t row = 0; row < g->m; row++) {
        float *c = g->c + row * g->c_row + column;
        const float *from = sum + row * width;
        const bool is_adding = g->is_accumulating || k > 0;
        for (int64_t j = 0; j < n; j++) {
            const float total = g->bias != NULL && k == 0 ? from[j] + g->bias[column + j] : from[j];
            c[j] = is_adding ? c[j] + total : total;
        }
    }
}

static void rows_part(void *arg, int64_t begin, int64_t end)
{
    const gd_gemm_t *g = arg;
    const int64_t width = SUMS / g->m / LINE * LINE, block_k = gemm_block_k(g->k, GEMM_MOST_BLOCK_K);
    for (int64_t k = 0; k < g->k; k += block_k) {
        for (int64_t column = begin; column < end; column += width) {
            rows_block(g, column, smaller(width, end - column), k, smaller(k + block_k, g->k), width);
        }
    }
}

void CPU_FN(gemm_rows)(const gd_gemm_t *g)
{
    gd_gemm_t copy = *g;
    gd_cpu_parallel(g->n_threads, g->n, share_of(g->n, g->n_threads), rows_part, &copy);
}
