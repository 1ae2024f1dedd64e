/* SPDX-License-Identifier: Apache-2.0 */
/*
 * panel: products of few rows with a matrix that is used many times (the weights of a recurrent layer): the matrix is
 * packed once, then every product reads it in the order of its panels.
 *
 * The right factor is b[k, group, unit]: an element at w + k·k_stride + group·group_stride + unit·unit_stride. A panel
 * holds the columns of PANEL units of each group, so that a kernel has all gates of a unit together:
 *   groups ≥ 2   SIMD_WIDTH units, one vector a group      panel[k][group][SIMD_WIDTH]
 *   one group    two vectors of units                      panel[k][2 SIMD_WIDTH]
 * Units past the last are zeros. Sums run over k in order, whatever rows and threads are.
 */
#ifndef GRADD_CPU_VEC_PANEL_H
#define GRADD_CPU_VEC_PANEL_H

#include "cpu/vec/tile.h"

/* Sums in registers: rows × vectors. */
#if defined(__AVX512F__)
enum { PANEL_SUMS = 24, PANEL_MAX_ROWS = 10 };
#else
enum { PANEL_SUMS = 10, PANEL_MAX_ROWS = 6 };
#endif
enum { PANEL_MAX_VECTORS = 4, PANEL_LINE = 16 /* floats of a cache line */ };

typedef struct panel_factor {
    const void *w;
    int64_t k;
    int64_t n_units;
    int64_t n_groups; /* at most PANEL_MAX_VECTORS */
    int64_t k_stride, group_stride, unit_stride;
    float *panels; /* packed; NULL for f64, whose products read w */
} panel_factor_t;

static inline int64_t panel_vectors(const panel_factor_t *f)
{
    return f->n_groups == 1 ? 2 : f->n_groups;
}

static inline int64_t panel_units(const panel_factor_t *f)
{
    return f->n_groups == 1 ? 2 * SIMD_WIDTH : SIMD_WIDTH;
}

static inline int64_t panel_count(const panel_factor_t *f)
{
    return (f->n_units + panel_units(f) - 1) / panel_units(f);
}

static inline int64_t panel_size(const panel_factor_t *f)
{
    return f->k * panel_vectors(f) * SIMD_WIDTH;
}

/* Fills panel number `index`. */
static inline void panel_pack(const panel_factor_t *f, int64_t index)
{
    const int64_t vectors = panel_vectors(f);
    float *panel = f->panels + index * panel_size(f);
    for (int64_t v = 0; v < vectors; v++) {
        const int64_t unit = index * panel_units(f) + (f->n_groups == 1 ? v * SIMD_WIDTH : 0);
        const int64_t group = f->n_groups == 1 ? 0 : v;
        const int64_t left = f->n_units - unit;
        const int64_t n = left < 0 ? 0 : left < SIMD_WIDTH ? left : SIMD_WIDTH;
        const float *from = (const float *)f->w + group * f->group_stride + (n > 0 ? unit : 0) * f->unit_stride;
        float *to = panel + v * SIMD_WIDTH;
        if (f->k_stride == 1 && n > 0) {
            tile_transpose(from, f->unit_stride, n, f->k, to, vectors * SIMD_WIDTH);
            continue;
        }
        for (int64_t k = 0; k < f->k; k++) {
            float *row = to + k * vectors * SIMD_WIDTH;
            for (int64_t u = 0; u < n; u++) {
                row[u] = from[k * f->k_stride + u * f->unit_stride];
            }
            for (int64_t u = n; u < SIMD_WIDTH; u++) {
                row[u] = 0.0F;
            }
        }
    }
}

/* sum[rows][vectors][SIMD_WIDTH] = a[rows, k] panel; rows and vectors are constants where it is called. */
static inline __attribute__((always_inline)) void panel_multiply(const float *a, int64_t a_row, const float *panel,
                                                                 const float *next, int64_t k, int rows, int vectors,
                                                                 float *sum)
{
    simd_f32_t s[PANEL_MAX_ROWS][PANEL_MAX_VECTORS];
#pragma GCC unroll 10
    for (int r = 0; r < rows; r++) {
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) {
            s[r][v] = (simd_f32_t){0};
        }
    }
    for (int64_t i = 0; i < k; i++) {
        simd_f32_t right[PANEL_MAX_VECTORS];
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) {
            right[v] = simd_load(panel + v * SIMD_WIDTH);
        }
#pragma GCC unroll 10
        for (int r = 0; r < rows; r++) {
            const simd_f32_t left = simd_set(a[r * a_row]);
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++) {
                s[r][v] += left * right[v];
            }
        }
        __builtin_prefetch(next, 0, 2);
        next += PANEL_LINE;
        a++;
        panel += (int64_t)vectors * SIMD_WIDTH;
    }
#pragma GCC unroll 10
    for (int r = 0; r < rows; r++) {
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) {
            simd_store(sum + (r * vectors + v) * SIMD_WIDTH, s[r][v]);
        }
    }
}

#define PANEL_CASE(rows_x)                                                                                             \
    case rows_x:                                                                                                       \
        if ((rows_x)*vectors <= PANEL_SUMS && (rows_x) <= PANEL_MAX_ROWS) {                                            \
            panel_multiply(a, a_row, panel, next, k, (rows_x), vectors, sum);                                          \
        }                                                                                                              \
        return;

static inline __attribute__((always_inline)) void panel_multiply_rows(const float *a, int64_t a_row, const float *panel,
                                                                      const float *next, int64_t k, int rows,
                                                                      int vectors, float *sum)
{
    switch (rows) {
        PANEL_CASE(1)
        PANEL_CASE(2)
        PANEL_CASE(3)
        PANEL_CASE(4)
        PANEL_CASE(5)
        PANEL_CASE(6)
        PANEL_CASE(7)
        PANEL_CASE(8)
        PANEL_CASE(9)
        PANEL_CASE(10)
    default:
        return;
    }
}
#undef PANEL_CASE

static inline int panel_max_rows(const panel_factor_t *f)
{
    const int most = PANEL_SUMS / (int)panel_vectors(f);
    return most < PANEL_MAX_ROWS ? most : PANEL_MAX_ROWS;
}

/*
 * sum[rows][vectors][SIMD_WIDTH] = a[rows, k] panel number `index`; rows ≤ panel_max_rows. Groups of rows, numbered, go
 * through a panel one after the other, and each fetches a part of the next panel meanwhile: panels come from afar once.
 */
static inline void panel_product(const panel_factor_t *f, const float *a, int64_t a_row, int64_t index, int64_t group,
                                 int rows, float *sum)
{
    const float *panel = f->panels + index * panel_size(f);
    const bool is_last = index + 1 == panel_count(f) || (group + 1) * PANEL_LINE > panel_vectors(f) * SIMD_WIDTH;
    const float *next = is_last ? panel : panel + panel_size(f) + group * f->k * PANEL_LINE;
    switch (panel_vectors(f)) {
    case 2:
        panel_multiply_rows(a, a_row, panel, next, f->k, rows, 2, sum);
        return;
    case 3:
        panel_multiply_rows(a, a_row, panel, next, f->k, rows, 3, sum);
        return;
    default:
        panel_multiply_rows(a, a_row, panel, next, f->k, rows, 4, sum);
        return;
    }
}

#endif
