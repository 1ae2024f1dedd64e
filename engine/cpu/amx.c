/* SPDX-License-Identifier: Apache-2.0 */
/*
 * amx: see amx.h.
 *
 * Note [Packed panels]
 *   A panel is 32 rows of a, or 32 columns of b, as two tiles side by side; for each step of 32 elements of k it holds
 *   [part h, m, l][tile 0, 1][16 rows of 64 bytes]. Row i of a's tile is row i of a, its 16 words are pairs of k; row i
 * of b's tile is pair i, its words are columns. A pair is (k, k + 16): any pairing will do that both sides share, and
 * this one needs no shuffles. The side with fewer panels is packed once, for all threads; of the other each thread
 * packs the few panels that it is about to use. 32 x 32 sums stay in tile registers over CHUNK_STEPS steps.
 */
#include "cpu/amx.h"

#ifdef __AMX_BF16__
#include <immintrin.h>

#include "cpu/cpu.h"

enum {
    N_PARTS = 3,
    N_PRODUCTS = 6,    /* of parts */
    TILE = 16,         /* rows of a tile; columns of c's */
    TILE_BYTES = 1024, /* 16 rows of 64 */
    PANEL = 2 * TILE,  /* rows or columns of a panel */
    STEP = 32,         /* elements of k of a tile */
    STEP_BYTES = 2 * N_PARTS * TILE_BYTES,
    CHUNK_STEPS = 4, /* a panel's chunk, 24 KiB, is half of the first-level cache */
    CHUNK_BYTES = CHUNK_STEPS * STEP_BYTES,
    PANEL_LINES = PANEL * CHUNK_STEPS * STEP * 4 / 64, /* of 64 bytes, that a chunk is packed from */
    GROUP_PANELS = 32,                                 /* their chunks are less than half of the second-level cache */
};

/* a's rows or b's columns: `line` is the distance between neighbours, `along_k` that of a line's elements. */
typedef struct side {
    const float *data;
    int64_t extent;
    int64_t line, along_k;
    bool is_b;
} side_t;

typedef struct work {
    const gd_gemm_t *gemm;
    side_t shared, own;
    int64_t n_shared, n_own; /* panels */
    int64_t shared_per_part, own_per_part, shared_parts;
    _Atomic bool has_failed;
} work_t;

static inline int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* The first n of 16 lanes; n may be less than 0 or more than 16. */
static inline __mmask16 mask_first(int64_t n)
{
    return (__mmask16)(n >= 16 ? 0xFFFFU : n <= 0 ? 0U : (1U << n) - 1);
}

/*
 * Note [Fetching ahead]
 *   What comes next, a panel to pack or a block of c, is mostly in the other core's cache or in memory, in pieces too
 *   short for the processor to foresee: without help two thirds of the time were waiting. So while the matrix unit
 *   multiplies, or a panel is packed, the lines of the next one are asked for, a few at a time.
 */
typedef struct fetch {
    const char *row;
    int64_t row_bytes, n_rows; /* rows are left */
    int64_t n_lines, line;     /* of 64 bytes, in a row */
} fetch_t;

static inline fetch_t fetch_init(const float *from, int64_t stride, int64_t n_rows, int64_t n_columns)
{
    const int64_t size = (int64_t)sizeof(float);
    const int64_t offset = (int64_t)((uintptr_t)from & 63);
    return (fetch_t){.row = (const char *)from - offset,
                     .row_bytes = stride * size,
                     .n_rows = n_rows,
                     .n_lines = (offset + n_columns * size + 63) / 64};
}

static inline __attribute__((always_inline)) void fetch_some(fetch_t *f, int64_t n, bool is_for_writing)
{
    for (; n > 0 && f->n_rows > 0; n--) {
        if (is_for_writing) {
            __builtin_prefetch(f->row + f->line * 64, 1);
        } else {
            __builtin_prefetch(f->row + f->line * 64, 0, 2);
        }
        if (++f->line == f->n_lines) {
            f->line = 0;
            f->row += f->row_bytes;
            f->n_rows--;
        }
    }
}

/* x rounded to bf16 (halves away from zero), as a float. What overflows becomes the largest bf16 instead. */
static inline __m512 round_to_bf16(__m512 x, bool may_overflow)
{
    const __m512i upper = _mm512_set1_epi32((int)0xFFFF0000U);
    const __m512i bits = _mm512_add_epi32(_mm512_castps_si512(x), _mm512_set1_epi32(0x8000));
    const __m512 rounded = _mm512_castsi512_ps(_mm512_and_si512(bits, upper));
    /* 2: the smaller magnitude, with the first operand's sign */
    return may_overflow ? _mm512_range_ps(rounded, _mm512_castsi512_ps(_mm512_set1_epi32(0x7F7F0000)), 2) : rounded;
}

/* The bf16 pairs (low, high) of 16 lanes, whose values are bf16 numbers already. */
static inline __m512i pair_up(__m512 low, __m512 high)
{
    return _mm512_mask_blend_epi16(0xAAAAAAAAU, _mm512_srli_epi32(_mm512_castps_si512(low), 16),
                                   _mm512_castps_si512(high));
}

/* One row of a tile in its three parts; to[part * stride]. */
static inline __attribute__((always_inline)) void row_split(__m512 low, __m512 high, char *to, int64_t stride)
{
    const __m512 low_h = round_to_bf16(low, true), high_h = round_to_bf16(high, true);
    _mm512_store_si512(to, pair_up(low_h, high_h));
    low = _mm512_sub_ps(low, low_h);
    high = _mm512_sub_ps(high, high_h);
    const __m512 low_m = round_to_bf16(low, false), high_m = round_to_bf16(high, false);
    _mm512_store_si512(to + stride, pair_up(low_m, high_m));
    _mm512_store_si512(to + 2 * stride, pair_up(_mm512_sub_ps(low, low_m), _mm512_sub_ps(high, high_m)));
}

/* to[16][16] = fromᵀ, of floats; rows of `from` are `stride` apart. */
static inline __attribute__((always_inline)) void square_transpose(const float *from, int64_t stride, float *to)
{
    __m512 r[TILE], t[TILE];
#pragma GCC unroll 16
    for (int i = 0; i < TILE; i++) {
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

/*
 * Packs a tile's three parts, to `to` and 2 and 4 KiB after it. `from` holds 32 elements of k of 16 lines, whose rows
 * are `stride` apart: k adjacent where is_along_k, else lines adjacent. is_b: for a tile whose rows are pairs of k.
 */
static inline __attribute__((always_inline)) void tile_split(const float *from, int64_t stride, bool is_along_k,
                                                             bool is_b, char *to)
{
    float turned[2 * TILE * TILE] __attribute__((aligned(64)));
    const int64_t to_high = is_along_k ? TILE : TILE * stride; /* from an element to its pair's other one */
    if (is_along_k == is_b) {
        square_transpose(from, stride, turned);
        square_transpose(from + to_high, stride, turned + TILE * TILE);
    }
    for (int64_t i = 0; i < TILE; i++) {
        const float *low = is_along_k == is_b ? turned + i * TILE : from + i * stride;
        const float *high = is_along_k == is_b ? low + TILE * TILE : low + to_high;
        row_split(_mm512_loadu_ps(low), _mm512_loadu_ps(high), to + 64 * i, 2 * TILE_BYTES);
    }
}

static void tile_split_any(const float *from, int64_t stride, bool is_along_k, bool is_b, char *to)
{
    if (is_along_k) {
        if (is_b) {
            tile_split(from, stride, true, true, to);
        } else {
            tile_split(from, stride, true, false, to);
        }
    } else if (is_b) {
        tile_split(from, stride, false, true, to);
    } else {
        tile_split(from, stride, false, false, to);
    }
}

/* Packs 16 lines from `line` and 32 elements from `k`; what the matrix doesn't have is zero. */
static void tile_pack(const side_t *s, int64_t n_k, int64_t line, int64_t k, char *to)
{
    const bool is_along_k = s->along_k == 1;
    const int64_t stride = is_along_k ? s->line : s->along_k;
    const float *from = s->data + line * s->line + k * s->along_k;
    const int64_t n_lines = smaller(s->extent - line, TILE), k_left = smaller(n_k - k, STEP);
    if (n_lines == TILE && k_left == STEP) {
        tile_split_any(from, stride, is_along_k, s->is_b, to);
        return;
    }
    float copy[STEP * TILE] __attribute__((aligned(64))) = {0};
    const int64_t n_rows = is_along_k ? n_lines : k_left, columns = is_along_k ? k_left : n_lines;
    const int64_t copy_stride = is_along_k ? STEP : TILE;
    for (int64_t i = 0; i < n_rows; i++) {
        float *row = copy + i * copy_stride;
        _mm512_store_ps(row, _mm512_maskz_loadu_ps(mask_first(columns), from + i * stride));
        if (is_along_k) {
            _mm512_store_ps(row + TILE, _mm512_maskz_loadu_ps(mask_first(columns - TILE), from + i * stride + TILE));
        }
    }
    tile_split_any(copy, copy_stride, is_along_k, s->is_b, to);
}

/* Packs n_steps steps from `step` of a panel, and fetches what comes next. */
static void panel_pack(const side_t *s, int64_t n_k, int64_t panel, int64_t step, int64_t n_steps, char *to,
                       fetch_t *next)
{
    for (int64_t i = 0; i < n_steps; i++) {
        for (int64_t tile = 0; tile < 2; tile++) {
            fetch_some(next, PANEL_LINES / (2 * CHUNK_STEPS), false);
            tile_pack(s, n_k, panel * PANEL + tile * TILE, (step + i) * STEP, to + i * STEP_BYTES + tile * TILE_BYTES);
        }
    }
}

/* What panel_pack will read. */
static fetch_t panel_fetch(const side_t *s, int64_t n_k, int64_t panel, int64_t step, int64_t n_steps)
{
    const int64_t line = panel * PANEL, k = step * STEP;
    const int64_t n_lines = smaller(s->extent - line, PANEL), k_left = smaller(n_k - k, n_steps * STEP);
    const float *from = s->data + line * s->line + k * s->along_k;
    return s->along_k == 1 ? fetch_init(from, s->line, n_lines, k_left) : fetch_init(from, s->along_k, k_left, n_lines);
}

/* gcc 12's intrinsics don't say that they read memory. */
#define TILE_LOAD(tile_x, from_x, stride_x)                                                                            \
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm" #tile_x ::"r"(from_x), "r"((int64_t)(stride_x)) : "memory")
#define TILE_STORE(tile_x, to_x, stride_x)                                                                             \
    __asm__ volatile("tilestored %%tmm" #tile_x ", (%0,%1,1)" ::"r"(to_x), "r"((int64_t)(stride_x)) : "memory")
#define TILE_ZERO(tile_x) __asm__ volatile("tilezero %%tmm" #tile_x ::)
/* tiles 0-3 += tiles 4, 5 (of a) times tiles 6, 7 (of b) */
#define TILE_MULTIPLY()                                                                                                \
    __asm__ volatile("tdpbf16ps %%tmm6, %%tmm4, %%tmm0\n\ttdpbf16ps %%tmm7, %%tmm4, %%tmm1\n\t"                        \
                     "tdpbf16ps %%tmm6, %%tmm5, %%tmm2\n\ttdpbf16ps %%tmm7, %%tmm5, %%tmm3" ::)
#define TILE_LOAD_A(from_x, part_x)                                                                                    \
    TILE_LOAD(4, (from_x) + (part_x)*2 * TILE_BYTES, 64);                                                              \
    TILE_LOAD(5, (from_x) + (part_x)*2 * TILE_BYTES + TILE_BYTES, 64)
#define TILE_LOAD_B(from_x, part_x)                                                                                    \
    TILE_LOAD(6, (from_x) + (part_x)*2 * TILE_BYTES, 64);                                                              \
    TILE_LOAD(7, (from_x) + (part_x)*2 * TILE_BYTES + TILE_BYTES, 64)

static void tiles_configure(void)
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

static void tiles_release(void)
{
    __asm__ volatile("tilerelease" ::);
}

/*
 * c[32,32] (+)= the six products of n_steps steps, or + bias[32]; rows of c are row_bytes apart. The small products are
 * added first.
 */
typedef enum start { START_ZERO, START_BIAS, START_C } start_t;
typedef struct ahead {
    fetch_t panel;       /* the panel to be packed next */
    fetch_t c;           /* the block of c that comes next */
    int64_t n_per_group; /* lines of the panel for a group of four products */
} ahead_t;

static inline __attribute__((always_inline)) void products_run(ahead_t *ahead)
{
    TILE_MULTIPLY();
    fetch_some(&ahead->panel, ahead->n_per_group, false);
    fetch_some(&ahead->c, 3, true);
}

static void sums_run(const char *a, const char *b, int64_t n_steps, start_t start, const float *bias, char *c,
                     int64_t row_bytes, ahead_t *ahead_p)
{
    ahead_t ahead = *ahead_p;
    char *lower = c + TILE * row_bytes;
    if (start == START_ZERO) {
        TILE_ZERO(0);
        TILE_ZERO(1);
        TILE_ZERO(2);
        TILE_ZERO(3);
    } else {
        const char *from = start == START_C ? c : (const char *)bias;
        const char *from_lower = start == START_C ? lower : from;
        const int64_t stride = start == START_C ? row_bytes : 0;
        TILE_LOAD(0, from, stride);
        TILE_LOAD(1, from + 64, stride);
        TILE_LOAD(2, from_lower, stride);
        TILE_LOAD(3, from_lower + 64, stride);
    }
    for (int64_t i = 0; i < n_steps; i++, a += STEP_BYTES, b += STEP_BYTES) {
        TILE_LOAD_A(a, 2);
        TILE_LOAD_B(b, 0);
        products_run(&ahead);
        TILE_LOAD_A(a, 1);
        products_run(&ahead);
        TILE_LOAD_B(b, 1);
        products_run(&ahead);
        TILE_LOAD_A(a, 0);
        products_run(&ahead);
        TILE_LOAD_B(b, 2);
        products_run(&ahead);
        TILE_LOAD_B(b, 0);
        products_run(&ahead);
    }
    TILE_STORE(0, c, row_bytes);
    TILE_STORE(1, c + 64, row_bytes);
    TILE_STORE(2, lower, row_bytes);
    TILE_STORE(3, lower + 64, row_bytes);
    ahead_p->panel = ahead.panel;
}

/* The block of c from (row, column) on, of which less than 32 x 32 may be c's: then by way of a copy. */
static void block_run(const gd_gemm_t *g, int64_t row, int64_t column, const char *a, const char *b, int64_t n_steps,
                      bool is_first, ahead_t *ahead)
{
    const bool is_adding = !is_first || g->is_accumulating;
    const float *bias = is_first && g->bias != NULL ? g->bias + column : NULL;
    const int64_t rows = smaller(g->m - row, PANEL), columns = smaller(g->n - column, PANEL);
    float *c = g->c + row * g->c_row + column;
    if (rows == PANEL && columns == PANEL && !(is_adding && bias != NULL)) {
        const start_t start = is_adding ? START_C : bias != NULL ? START_BIAS : START_ZERO;
        sums_run(a, b, n_steps, start, bias, (char *)c, g->c_row * (int64_t)sizeof(float), ahead);
        return;
    }
    float copy[PANEL * PANEL] __attribute__((aligned(64)));
    const __mmask16 left = mask_first(columns), right = mask_first(columns - TILE);
    for (int64_t i = 0; i < PANEL; i++) {
        __m512 x = _mm512_setzero_ps(), y = _mm512_setzero_ps();
        if (bias != NULL) {
            x = _mm512_maskz_loadu_ps(left, bias);
            y = _mm512_maskz_loadu_ps(right, bias + TILE);
        }
        if (is_adding && i < rows) {
            x = _mm512_add_ps(x, _mm512_maskz_loadu_ps(left, c + i * g->c_row));
            y = _mm512_add_ps(y, _mm512_maskz_loadu_ps(right, c + i * g->c_row + TILE));
        }
        _mm512_store_ps(copy + i * PANEL, x);
        _mm512_store_ps(copy + i * PANEL + TILE, y);
    }
    sums_run(a, b, n_steps, START_C, NULL, (char *)copy, PANEL * (int64_t)sizeof(float), ahead);
    for (int64_t i = 0; i < rows; i++) {
        _mm512_mask_storeu_ps(c + i * g->c_row, left, _mm512_load_ps(copy + i * PANEL));
        _mm512_mask_storeu_ps(c + i * g->c_row + TILE, right, _mm512_load_ps(copy + i * PANEL + TILE));
    }
}

/* Panels [own, own_end) of one side meet panels [shared, shared_end) of the other in c's blocks. */
typedef struct part {
    int64_t own, own_end, shared, shared_end;
} part_t;

/* Where the block of c lies. */
static void block_place(const work_t *w, int64_t own, int64_t shared, int64_t *row_p, int64_t *column_p)
{
    *row_p = (w->own.is_b ? shared : own) * PANEL;
    *column_p = (w->own.is_b ? own : shared) * PANEL;
}

/* Panel `own`, packed in own_packed, times the group's. */
static void group_run(const work_t *w, const part_t *group, int64_t own, const char *own_packed,
                      const char *shared_packed, int64_t step, int64_t n_steps, fetch_t *next)
{
    const gd_gemm_t *g = w->gemm;
    const int64_t n_groups = (group->shared_end - group->shared) * n_steps * N_PRODUCTS;
    ahead_t ahead = {.panel = *next, .n_per_group = gd_cpu_n_blocks(PANEL_LINES, n_groups)};
    for (int64_t j = group->shared; j < group->shared_end; j++) {
        const char *other = shared_packed + (j - group->shared) * CHUNK_BYTES;
        int64_t row = 0, column = 0;
        const bool is_last = j + 1 == group->shared_end;
        block_place(w, is_last ? smaller(own + 1, group->own_end - 1) : own, is_last ? group->shared : j + 1, &row,
                    &column);
        ahead.c = fetch_init(g->c + row * g->c_row + column, g->c_row, smaller(g->m - row, PANEL),
                             smaller(g->n - column, PANEL));
        block_place(w, own, j, &row, &column);
        block_run(g, row, column, w->own.is_b ? other : own_packed, w->own.is_b ? own_packed : other, n_steps,
                  step == 0, &ahead);
    }
}

static void part_run(const work_t *w, char *scratch, const part_t *part)
{
    const int64_t n_k = w->gemm->k, all_steps = gd_cpu_n_blocks(n_k, STEP);
    char *packed = scratch + CHUNK_BYTES;
    part_t group = *part;
    for (; group.shared < part->shared_end; group.shared = group.shared_end) {
        group.shared_end = smaller(group.shared + GROUP_PANELS, part->shared_end);
        for (int64_t step = 0; step < all_steps; step += CHUNK_STEPS) {
            const int64_t n_steps = smaller(CHUNK_STEPS, all_steps - step);
            for (int64_t j = group.shared; j < group.shared_end; j++) {
                fetch_t next = j + 1 < group.shared_end ? panel_fetch(&w->shared, n_k, j + 1, step, n_steps)
                                                        : panel_fetch(&w->own, n_k, group.own, step, n_steps);
                panel_pack(&w->shared, n_k, j, step, n_steps, packed + (j - group.shared) * CHUNK_BYTES, &next);
            }
            for (int64_t i = group.own; i < group.own_end; i++) {
                fetch_t next = i + 1 < group.own_end
                                   ? panel_fetch(&w->own, n_k, i + 1, step, n_steps)
                                   : panel_fetch(&w->shared, n_k, group.shared, step + n_steps, CHUNK_STEPS);
                panel_pack(&w->own, n_k, i, step, n_steps, scratch, &(fetch_t){.n_rows = 0});
                group_run(w, &group, i, scratch, packed, step, n_steps, &next);
            }
        }
    }
}

static void parts_run(void *arg, int64_t begin, int64_t end)
{
    work_t *w = arg;
    const int64_t group = smaller(w->shared_per_part, GROUP_PANELS);
    char *scratch = gd_cpu_scratch(GD_CPU_SLOT_GEMM, (size_t)((1 + group) * CHUNK_BYTES));
    if (scratch == NULL) {
        w->has_failed = true;
        return;
    }
    tiles_configure();
    for (int64_t i = begin; i < end; i++) {
        const int64_t own = i / w->shared_parts * w->own_per_part;
        const int64_t shared = i % w->shared_parts * w->shared_per_part;
        const part_t part = {.own = own,
                             .own_end = smaller(own + w->own_per_part, w->n_own),
                             .shared = shared,
                             .shared_end = smaller(shared + w->shared_per_part, w->n_shared)};
        part_run(w, scratch, &part);
    }
    tiles_release();
}

/*
 * Cuts c into as many parts as there are threads, so that the largest takes the least: blocks to multiply, and panels
 * to pack, which every part does for itself (fetching what another core has packed takes longer). It decides who
 * computes an element, not how.
 */
static void work_divide(work_t *w, int n_threads)
{
    const int64_t block_cost = 5, panel_cost = 8; /* about what they take */
    int64_t least = INT64_MAX;
    for (int64_t parts = 1; parts <= n_threads; parts++) {
        if (n_threads % parts != 0) {
            continue;
        }
        const int64_t shared = gd_cpu_n_blocks(w->n_shared, parts);
        const int64_t own = gd_cpu_n_blocks(w->n_own, n_threads / parts);
        const int64_t cost = own * shared * block_cost + (own + shared) * panel_cost;
        if (cost < least) {
            least = cost;
            w->own_per_part = own;
            w->shared_per_part = shared;
        }
    }
    w->shared_parts = gd_cpu_n_blocks(w->n_shared, w->shared_per_part);
}

/* One matrix product. */
static status_t matrix_run(const gd_gemm_t *g)
{
    const side_t a = {.data = g->a, .extent = g->m, .line = g->a_row, .along_k = g->a_col};
    const side_t b = {.data = g->b, .extent = g->n, .line = g->b_col, .along_k = g->b_row, .is_b = true};
    const bool is_a_shared = g->m < g->n;
    work_t w = {.gemm = g, .shared = is_a_shared ? a : b, .own = is_a_shared ? b : a};
    w.n_shared = gd_cpu_n_blocks(w.shared.extent, PANEL);
    w.n_own = gd_cpu_n_blocks(w.own.extent, PANEL);
    work_divide(&w, g->n_threads > 1 ? g->n_threads : 1);
    const int64_t n_parts = gd_cpu_n_blocks(w.n_own, w.own_per_part) * w.shared_parts;
    gd_cpu_parallel(g->n_threads, n_parts, 1, parts_run, &w);
    return w.has_failed ? ST_FAIL(ST_ERR_NOMEM, "matrix product: packed panels") : ST_OK;
}

static gd_gemm_t gemm_member(const gd_gemm_t *g, int64_t i, int n_threads)
{
    gd_gemm_t one = *g;
    one.n_batch = 1;
    one.a += i * g->a_batch;
    one.b += i * g->b_batch;
    one.c += i * g->c_batch;
    one.n_threads = n_threads;
    return one;
}

typedef struct batch {
    const gd_gemm_t *gemm;
    _Atomic bool has_failed;
} batch_t;

static void members_run(void *arg, int64_t begin, int64_t end)
{
    batch_t *batch = arg;
    for (int64_t i = begin; i < end; i++) {
        const gd_gemm_t one = gemm_member(batch->gemm, i, 1);
        if (matrix_run(&one) != ST_OK) {
            batch->has_failed = true;
        }
    }
}

status_t gd_amx_gemm(const gd_gemm_t *gemm)
{
    const int64_t threads = gemm->n_threads > 1 ? gemm->n_threads : 1;
    const int64_t n_shared = threads > 1 ? gemm->n_batch / threads * threads : 0; /* one a thread at a time */
    batch_t batch = {.gemm = gemm};
    if (n_shared > 0 && gemm->n_batch > 1) {
        gd_cpu_parallel((int)threads, n_shared, n_shared / threads, members_run, &batch);
    }
    status_t status = batch.has_failed ? ST_FAIL(ST_ERR_NOMEM, "matrix product: packed panels") : ST_OK;
    for (int64_t i = gemm->n_batch > 1 ? n_shared : 0; i < gemm->n_batch && status == ST_OK; i++) {
        const gd_gemm_t one = gemm_member(gemm, i, gemm->n_threads);
        status = matrix_run(&one);
    }
    return status;
}
#else
status_t gd_amx_gemm(const gd_gemm_t *gemm)
{
    (void)gemm;
    return ST_FAIL(ST_ERR_UNSUPPORTED, "matrix product: built without AMX");
}
#endif
