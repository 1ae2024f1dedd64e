/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gemm: matrix products in f32: with AVX-512 those that gd_gemm_run doesn't leave to others, without it all.
 *
 * Note [Order of sums]
 *   A sum is formed over each block of k from zero, and blocks are added to c in their order. How k is cut into blocks
 * depends on k alone, so that neither threads nor the place of an element in c change its bits.
 *
 * Note [Blocks]
 *   c is made of tiles of at most MR × NR sums in registers: elements of a are broadcast against two vectors of a row
 * of b. A block of columns of b, packed panel by panel of NR columns, stays in the second-level cache while all rows of
 * a go by; a tile's rows stay in the first-level cache while the panels of the block go by. What can be read as it lies
 * isn't packed: a's rows where k is adjacent; small matrices; b where few rows meet it. Where b's rows are adjacent
 * elements and not far from one another, the first tile packs each panel on its way.
 */
#include "cpu/vec/gemm.h"

#include <unistd.h>

#include "cpu/vec/tile.h"

/* Sums of a tile in registers, rows × vectors: with SSE broadcasts are what is dear. */
#ifdef __AVX__
enum { MR = 6, VECTORS = 2 };
#else
enum { MR = 4, VECTORS = 3 };
#endif
enum {
    MOST_MR = 6,
    NR = VECTORS * SIMD_WIDTH,
    LINE = 16,                   /* floats of a cache line */
    BLOCK_M = 768,               /* rows of a, where they are packed */
    LEAST_BLOCK_N = 128,         /* columns of b: as many as half of the second-level cache has room for */
    MOST_BLOCK_N = 512,          /* within these */
    NEAR_FLOATS = 1 << 13,       /* blocks that stay in the first-level cache as they lie */
    FEW_ROWS = 48,               /* of a: so many don't make up for packing b */
    ON_THE_WAY_FLOATS = 1 << 18, /* blocks of b that the first tile packs; beyond them its reads come too late */
    DOTS_LINES = 16,             /* rows or columns of products by gemm_dots */
    DOTS_LEAST_K = SIMD_WIDTH > 8 ? 128 : 64,
    SMALL = 1 << 15, /* terms of a product that a second thread is not worth its start for */
};

typedef struct work {
    const gd_gemm_t *gemm;
    int64_t block_k, block_n;
    bool is_a_packed, is_b_packed, is_b_packed_on_the_way;
    gd_gemm_grid_t grid;
    _Atomic bool has_failed;
} work_t;

/* A thread's part of c, over a block of k. */
typedef struct part {
    const work_t *work;
    int64_t row, row_end, column, column_end, k, k_end;
    float *a_packed, *b_packed;
} part_t;

/* One vector of columns, or two: read as they lie or packed; read and packed on the way; packed, and k of a adjacent.
 */
typedef enum tile_kind { TILE_NARROW, TILE_WIDE, TILE_PACKING, TILE_PACKED, TILE_KIND_COUNT } tile_kind_t;

/* A tile's operands. */
typedef struct tile {
    const float *a, *b;
    int64_t a_row, a_k, b_row, k;
    int64_t columns; /* those of the tile that c has */
    float *c;
    int64_t c_row;
    const float *bias; /* or NULL */
    bool is_adding;
    int64_t ahead; /* from an element of b to the one to be fetched meanwhile */
    float *packed; /* where b's panel goes, if it is packed on the way */
} tile_t;

static inline int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* What adds sums to c: element by element, at the right edge. */
static __attribute__((noinline)) void edge_add(const tile_t *t, const float *sum, int rows)
{
    float *c = t->c;
    for (int r = 0; r < rows; r++, c += t->c_row, sum += NR) {
        for (int64_t j = 0; j < t->columns; j++) {
            const float with_bias = t->bias != NULL ? sum[j] + t->bias[j] : sum[j];
            c[j] = t->is_adding ? c[j] + with_bias : with_bias;
        }
    }
}

/* Adds the sums to c; rows and vectors are constants where it is called. */
static inline __attribute__((always_inline)) void sums_add(const tile_t *t, simd_f32_t (*sum)[VECTORS], int rows,
                                                           int vectors)
{
    if (t->bias != NULL) {
#pragma GCC unroll 3
        for (int v = 0; v < vectors; v++) {
            const simd_f32_t bias = simd_load(t->bias + v * SIMD_WIDTH);
#pragma GCC unroll 6
            for (int r = 0; r < rows; r++) {
                sum[r][v] += bias;
            }
        }
    }
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++) {
#pragma GCC unroll 3
        for (int v = 0; v < vectors; v++) {
            float *to = t->c + r * t->c_row + v * SIMD_WIDTH;
            if (t->is_adding) {
                sum[r][v] += simd_load(to);
            }
            simd_store(to, sum[r][v]);
        }
    }
}

/* rows and kind are constants where it is called. */
static inline __attribute__((always_inline)) void tile_run(const tile_t *t, int rows, tile_kind_t kind)
{
    const bool is_packed = kind == TILE_PACKED, is_packing = kind == TILE_PACKING;
    const int vectors = kind == TILE_NARROW ? 1 : VECTORS;
    const int64_t a_row = t->a_row, a_k = is_packed ? 1 : t->a_k, b_row = is_packed ? NR : t->b_row;
    const int64_t n_terms = t->k, ahead = t->ahead;
    const float *a = t->a, *b = t->b, *next = b + ahead;
    float *packed = t->packed;
    simd_f32_t sum[MR][VECTORS];
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++) {
        __builtin_prefetch(t->c + r * t->c_row, 1, 3);
#pragma GCC unroll 3
        for (int v = 0; v < vectors; v++) {
            sum[r][v] = (simd_f32_t){0};
        }
    }
#pragma GCC unroll 4
    for (int64_t k = 0; k < n_terms; k++) {
        simd_f32_t right[VECTORS];
#pragma GCC unroll 3
        for (int v = 0; v < vectors; v++) {
            right[v] = simd_load(b + v * SIMD_WIDTH);
            if (is_packing) {
                simd_store(packed + v * SIMD_WIDTH, right[v]);
            }
        }
        if (is_packed) { /* a pointer of its own: measurably faster than an index */
            __builtin_prefetch(next, 0, 3);
            next += NR;
        } else {
            __builtin_prefetch(b + ahead, 0, 3);
        }
#pragma GCC unroll 6
        for (int r = 0; r < rows; r++) {
            const simd_f32_t left = simd_set(a[r * a_row]);
#pragma GCC unroll 3
            for (int v = 0; v < vectors; v++) {
                sum[r][v] += left * right[v];
            }
        }
        a += a_k;
        b += b_row;
        packed += is_packing ? NR : 0;
    }
    if (!is_packed && !is_packing && t->columns < vectors * SIMD_WIDTH) {
        float part[MR * NR];
#pragma GCC unroll 6
        for (int r = 0; r < rows; r++) {
#pragma GCC unroll 3
            for (int v = 0; v < vectors; v++) {
                simd_store(part + r * NR + v * SIMD_WIDTH, sum[r][v]);
            }
        }
        edge_add(t, part, rows);
        return;
    }
    sums_add(t, sum, rows, vectors);
}

typedef void (*tile_func_t)(const tile_t *tile);
#define DEFINE_TILE(kind_x, name_x, rows_x)                                                                            \
    static void name_x##rows_x(const tile_t *tile)                                                                     \
    {                                                                                                                  \
        tile_run(tile, (rows_x) <= MR ? (rows_x) : 1, kind_x);                                                         \
    }
#define DEFINE_TILES(kind_x, name_x)                                                                                   \
    DEFINE_TILE(kind_x, name_x, 1)                                                                                     \
    DEFINE_TILE(kind_x, name_x, 2)                                                                                     \
    DEFINE_TILE(kind_x, name_x, 3)                                                                                     \
    DEFINE_TILE(kind_x, name_x, 4)                                                                                     \
    DEFINE_TILE(kind_x, name_x, 5)                                                                                     \
    DEFINE_TILE(kind_x, name_x, 6)
DEFINE_TILES(TILE_NARROW, tile_narrow_)
DEFINE_TILES(TILE_WIDE, tile_wide_)
DEFINE_TILES(TILE_PACKING, tile_packing_)
DEFINE_TILES(TILE_PACKED, tile_packed_)
#undef DEFINE_TILES
#undef DEFINE_TILE
#define TILES(name_x)                                                                                                  \
    {                                                                                                                  \
        NULL, name_x##1, name_x##2, name_x##3, name_x##4, name_x##5, name_x##6                                         \
    }
static const tile_func_t tile_of[TILE_KIND_COUNT][MOST_MR + 1] = {
    [TILE_NARROW] = TILES(tile_narrow_),
    [TILE_WIDE] = TILES(tile_wide_),
    [TILE_PACKING] = TILES(tile_packing_),
    [TILE_PACKED] = TILES(tile_packed_),
};
#undef TILES

/* Floats from a packed row of a, a packed panel of b to the next: a line more than they have, lest all rows begin in
 * the same set of the cache. */
static int64_t a_packed_row(const work_t *w)
{
    return gd_cpu_n_blocks(w->block_k, SIMD_WIDTH) * SIMD_WIDTH + LINE;
}

static int64_t b_packed_panel(const work_t *w)
{
    return w->block_k * NR + LINE;
}

/* Rows [row, row_end) of a over the block of k, which is adjacent then. */
static void a_pack(const part_t *p, int64_t row, int64_t row_end)
{
    const gd_gemm_t *g = p->work->gemm;
    tile_transpose(g->a + row + p->k * g->a_col, g->a_col, p->k_end - p->k, row_end - row, p->a_packed,
                   a_packed_row(p->work));
}

/* Columns [column, end) of b over the block of k; columns that the last panel lacks are zeros. */
static void b_pack(const part_t *p, int64_t column, int64_t end, float *to)
{
    const gd_gemm_t *g = p->work->gemm;
    const int64_t panel = b_packed_panel(p->work), n_terms = p->k_end - p->k;
    if (g->b_col != 1) {
        for (int64_t j = column; j < end; j += NR, to += panel) {
            tile_transpose(g->b + j * g->b_col + p->k, g->b_col, smaller(end - j, NR), n_terms, to, NR);
        }
        return;
    }
    const float *from = g->b + p->k * g->b_row;
    for (int64_t k = 0; k < n_terms; k++, from += g->b_row, to += NR) {
        float *row = to;
        int64_t j = column;
        for (; j + NR <= end; j += NR, row += panel) {
#pragma GCC unroll 3
            for (int v = 0; v < VECTORS; v++) {
                simd_store(row + v * SIMD_WIDTH, simd_load(from + j + v * SIMD_WIDTH));
            }
        }
        for (int64_t i = 0; j < end && i < NR; i++) {
            row[i] = j + i < end ? from[j + i] : 0.0F;
        }
    }
}

/* Fetches a slice, number `index` of n, of the rows of a that come next. */
static void a_fetch(const part_t *p, const float *a, int64_t a_row, int64_t rows, int64_t index, int64_t n)
{
    const int64_t n_terms = p->k_end - p->k, slice = gd_cpu_n_blocks(n_terms, n * LINE) * LINE;
    for (int64_t k = index * slice; k < smaller((index + 1) * slice, n_terms); k += LINE) {
        for (int64_t r = 0; r < rows; r++) {
            __builtin_prefetch(a + r * a_row + k, 0, 2);
        }
    }
}

static tile_kind_t kind_of(const tile_t *t, bool is_packing)
{
    if (is_packing) {
        return TILE_PACKING;
    }
    if (t->columns < NR) {
        return t->columns > SIMD_WIDTH ? TILE_WIDE : TILE_NARROW;
    }
    return t->a_k == 1 && t->b_row == NR ? TILE_PACKED : TILE_WIDE;
}

/* Rows [row, row_end) of a meet columns [column, end) of b, over the block of k. */
static void block_multiply(const part_t *p, int64_t row, int64_t row_end, int64_t column, int64_t end)
{
    const work_t *w = p->work;
    const gd_gemm_t *g = w->gemm;
    const int64_t panel = b_packed_panel(w), n_panels = gd_cpu_n_blocks(end - column, NR);
    const int64_t n_tiles = gd_cpu_n_blocks(row_end - row, MR), whole = column + (end - column) / NR * NR;
    /* columns from here on are packed before the first tile: all, or the last panel's, for reading whole vectors */
    const int64_t packed = w->is_b_packed && !w->is_b_packed_on_the_way ? column : whole;
    tile_t t = {
        .a_row = w->is_a_packed ? a_packed_row(w) : g->a_row,
        .a_k = w->is_a_packed ? 1 : g->a_col,
        .k = p->k_end - p->k,
        .c_row = g->c_row,
        .is_adding = g->is_accumulating || p->k > 0,
    };
    if (packed < end) {
        b_pack(p, packed, end, p->b_packed + (packed - column) / NR * panel);
    }
    for (int64_t tile = 0; tile < n_tiles; tile++) {
        const int64_t first = (row_end - row) * tile / n_tiles, last = (row_end - row) * (tile + 1) / n_tiles;
        const int64_t rows = last - first;
        t.a = w->is_a_packed ? p->a_packed + first * t.a_row : g->a + (row + first) * g->a_row + p->k * g->a_col;
        for (int64_t j = column, index = 0; j < end; j += NR, index++) {
            t.columns = smaller(end - j, NR);
            const bool is_packing = w->is_b_packed_on_the_way && tile == 0 && j < whole;
            float *b_packed = p->b_packed + index * panel;
            if (j < packed && (is_packing || !w->is_b_packed)) {
                t.b = g->b + p->k * g->b_row + j;
                t.b_row = g->b_row;
                t.ahead = j + 2 * NR <= end ? NR : 0;
            } else {
                t.b = b_packed;
                t.b_row = NR;
                t.ahead = index + 1 < n_panels ? panel : -index * panel;
            }
            t.packed = b_packed;
            t.c = g->c + (row + first) * g->c_row + j;
            t.bias = g->bias != NULL && p->k == 0 ? g->bias + j : NULL;
            if (t.a_k == 1 && tile + 1 < n_tiles) {
                a_fetch(p, t.a + rows * t.a_row, t.a_row, rows, index, n_panels);
            }
            tile_of[kind_of(&t, is_packing)][rows](&t);
        }
    }
}

static void blocks_run(part_t *p)
{
    const work_t *w = p->work;
    const int64_t block_m = w->is_a_packed ? BLOCK_M : p->row_end - p->row;
    p->k_end = 0;
    do { /* once for no terms too, for the bias */
        p->k = p->k_end;
        p->k_end = smaller(p->k + w->block_k, w->gemm->k);
        for (int64_t row = p->row; row < p->row_end; row += block_m) {
            const int64_t row_end = smaller(row + block_m, p->row_end);
            if (w->is_a_packed) {
                a_pack(p, row, row_end);
            }
            for (int64_t column = p->column; column < p->column_end; column += w->block_n) {
                block_multiply(p, row, row_end, column, smaller(column + w->block_n, p->column_end));
            }
        }
    } while (p->k_end < w->gemm->k);
}

static void parts_run(void *arg, int64_t begin, int64_t end)
{
    work_t *w = arg;
    const gd_gemm_t *g = w->gemm;
    const gd_gemm_grid_t *grid = &w->grid;
    const int64_t a_rows = smaller(BLOCK_M, gd_cpu_n_blocks(g->m, LINE) * LINE);
    const int64_t a_floats = w->is_a_packed ? a_rows * a_packed_row(w) : 0;
    const int64_t b_floats = gd_cpu_n_blocks(smaller(g->n, w->block_n), NR) * b_packed_panel(w);
    float *scratch = gd_cpu_scratch(GD_CPU_SLOT_GEMM, (size_t)(a_floats + b_floats) * sizeof(float));
    if (scratch == NULL) {
        w->has_failed = true;
        return;
    }
    for (int64_t i = begin; i < end; i++) {
        const int64_t row = i / grid->column_parts * grid->rows_per_part * MR;
        const int64_t column = i % grid->column_parts * grid->columns_per_part * NR;
        part_t part = {.work = w,
                       .row = row,
                       .row_end = smaller(row + grid->rows_per_part * MR, g->m),
                       .column = column,
                       .column_end = smaller(column + grid->columns_per_part * NR, g->n),
                       .a_packed = scratch,
                       .b_packed = scratch + a_floats};
        blocks_run(&part);
    }
}

static int64_t block_n_of(int64_t block_k)
{
    const int64_t cache = sysconf(_SC_LEVEL2_CACHE_SIZE) / (int64_t)sizeof(float); /* 0 or -1: not known */
    const int64_t n = cache / 2 / block_k;
    return (n < LEAST_BLOCK_N ? LEAST_BLOCK_N : smaller(n, MOST_BLOCK_N)) / NR * NR;
}

static bool is_small(const gd_gemm_t *g)
{
    return g->m * g->n <= SMALL && g->m * g->n * g->k <= SMALL;
}

/* Whether b, whose rows are adjacent elements, is packed, and whether by the first tile. */
static void b_decide(work_t *w)
{
    const gd_gemm_t *g = w->gemm;
    const int64_t block = w->block_k * g->b_row;
    w->is_b_packed = g->b_col != 1 || (g->m > FEW_ROWS && block > NEAR_FLOATS);
    w->is_b_packed_on_the_way =
        w->is_b_packed && g->b_col == 1 && block <= ON_THE_WAY_FLOATS && g->k * g->b_row <= 2 * ON_THE_WAY_FLOATS;
}

status_t CPU_FN(gemm)(const gd_gemm_t *gemm)
{
    gd_gemm_t g = *gemm;
    if (g.m == 0 || g.n == 0) {
        return ST_OK;
    }
    if (is_small(&g)) {
        g.n_threads = 1;
    }
    if (g.a_col == 1 && g.b_row == 1 && (g.m <= DOTS_LINES || g.n <= DOTS_LINES) && g.k >= DOTS_LEAST_K) {
        CPU_FN(gemm_dots)(&g);
        return ST_OK;
    }
    if (g.b_col == 1 && g.m <= GEMM_ROWS_MOST && g.k > 0) {
        CPU_FN(gemm_rows)(&g);
        return ST_OK;
    }
    work_t w = {.gemm = &g};
    w.block_k = gemm_block_k(g.k, GEMM_MOST_BLOCK_K);
    w.block_n = block_n_of(w.block_k);
    w.is_a_packed = g.a_col != 1 && w.block_k * g.a_col > NEAR_FLOATS;
    b_decide(&w);
    const gd_gemm_cost_t cost = {.block = 5, .row = 1, .column = 8}; /* about what tiles and packing take */
    w.grid = gd_gemm_divide(gd_cpu_n_blocks(g.m, MR), gd_cpu_n_blocks(g.n, NR), g.n_threads, &cost);
    gd_cpu_parallel(g.n_threads, w.grid.row_parts * w.grid.column_parts, 1, parts_run, &w);
    return w.has_failed ? ST_FAIL(ST_ERR_NOMEM, "matrix product: packed panels") : ST_OK;
}
