/* SPDX-License-Identifier: Apache-2.0 */
/*
 * amx: see amx.h.
 *
 * Note [Packed panels]
 *   A panel is 32 rows of a, or 32 columns of b, as two tiles side by side; for each step of 32 elements of k it holds
 *   [part h, m, l][tile 0, 1][16 rows of 64 bytes]. Row i of a's tile is row i of a, its 16 words are pairs of k; row i
 * of b's tile is pair i, its words are columns. A pair is (k, k + 16): any pairing will do that both sides share, and
 * this one needs no shuffles.
 *
 * Note [Sums in chunks]
 *   A chunk is CHUNK_STEPS steps of a panel: sums of 32 x 32 stay in tile registers over one, from zero. Chunks are
 * added to c in their order; where there are more than SPAN_CHUNKS, those of a span are summed first. So there are
 * fewer than 128 + 16 + k / 2048 roundings between a product and c, which is what keeps long sums exact.
 *
 * Note [Rounds]
 *   A thread's part of c is done in rounds: some panels of one side (the shared ones) meet some of the other (the own
 * ones) over one chunk. The shared ones are packed first, into the second-level cache; then come the own ones, one
 * after the other. The matrix unit takes 64 cycles for four products of tiles, in which the rest of the core has little
 * to do: the next own panel is packed, and finished sums are added to c, in small units between the products. Three
 * rules that this file's speed hangs on, each worth 4 to 10 % of a small product:
 *   - own panels are meant to stay in the first-level cache, hence shared ones are loaded with the hint that they
 * needn't (TILE_LOAD_ONCE);
 *   - sums lie in memory a few products before they are read: a load waits for a tile's store until that has reached
 *     the cache, and what comes after the load waits too;
 *   - for the same reason nothing is read in one piece that was just written in several (a structure that is copied).
 */
#include "cpu/amx.h"

#ifdef __AMX_BF16__
#include "cpu/amx_tiles.h"
#include "cpu/cpu.h"
#include "cpu/gemm_parts.h"

enum {
    CHUNK_STEPS = 4, /* a panel's chunk, 24 KiB, is half of the first-level cache */
    CHUNK_BYTES = CHUNK_STEPS * STEP_BYTES,
    SPAN_CHUNKS = 16,    /* longer sums are cut into spans of so many chunks */
    GROUP_PANELS = 16,   /* shared panels of a round, at most */
    GROUP_CHUNKS = 32,   /* of shared panels packed for a round: a third of the second-level cache */
    GROUP_BLOCKS = 1024, /* of c in a round, where others add to it: more, and c is fetched from far, less, and panels
                            are packed more often */
    FAR_BYTES = 2 << 20, /* matrices from this size on don't stay in the second-level cache */
    ROWS_AT_ONCE = 4,    /* of a tile, packed between products */
    SUMS_AT_ONCE = 3,    /* rows of sums added to c between products */
};

/* a's rows or b's columns: `line` is the distance between neighbours, `along_k` that of a line's elements. */
typedef struct side {
    const float *data;
    int64_t extent;
    int64_t line, along_k;
    bool is_b;
    int64_t ahead; /* from an element to the next panel's, where that is to be fetched; else 0 */
} side_t;

typedef struct work {
    const gd_gemm_t *gemm;
    side_t shared, own;
    int64_t n_shared, n_own; /* panels */
    gd_gemm_grid_t grid;     /* rows: own panels, columns: shared ones */
    int64_t c_ahead; /* from an element of c to that of the block after the next, where it is to be fetched; else 0 */
    _Atomic bool has_failed;
} work_t;

/* Panels [own, own_end) of one side meet panels [shared, shared_end) of the other over chunks [chunk, chunk_end). */
typedef struct round {
    int64_t own, own_end, shared, shared_end, chunk, chunk_end;
} round_t;

/* A thread's part of c, and how it is cut into rounds: chunks of k within own groups within shared groups. */
typedef struct part {
    int64_t own, own_end, shared, shared_end;
    int64_t shared_per_round, own_per_round, chunks_per_round, own_rounds, chunk_rounds, n_chunks, n_rounds;
} part_t;

static round_t round_get(const part_t *part, int64_t index)
{
    const int64_t group = index / part->chunk_rounds;
    const int64_t own = part->own + group % part->own_rounds * part->own_per_round;
    const int64_t shared = part->shared + group / part->own_rounds * part->shared_per_round;
    const int64_t chunk = index % part->chunk_rounds * part->chunks_per_round;
    return (round_t){.own = own,
                     .own_end = smaller(own + part->own_per_round, part->own_end),
                     .shared = shared,
                     .shared_end = smaller(shared + part->shared_per_round, part->shared_end),
                     .chunk = chunk,
                     .chunk_end = smaller(chunk + part->chunks_per_round, part->n_chunks)};
}

static void rounds_cut(const work_t *w, part_t *part)
{
    const int64_t n_own = part->own_end - part->own, n_shared = part->shared_end - part->shared;
    part->n_chunks = gd_cpu_n_blocks(w->gemm->k, CHUNK_STEPS * STEP);
    part->shared_per_round = smaller(GROUP_PANELS, n_shared);
    part->chunks_per_round = smaller(GROUP_CHUNKS / part->shared_per_round, part->n_chunks);
    part->chunk_rounds = gd_cpu_n_blocks(part->n_chunks, part->chunks_per_round);
    part->own_per_round = part->n_chunks > 1 ? smaller(n_own, GROUP_BLOCKS / part->shared_per_round) : n_own;
    part->own_rounds = gd_cpu_n_blocks(n_own, part->own_per_round);
    part->n_rounds = gd_cpu_n_blocks(n_shared, part->shared_per_round) * part->own_rounds * part->chunk_rounds;
}

static int64_t chunk_steps(const work_t *w, int64_t chunk)
{
    return smaller(CHUNK_STEPS, gd_cpu_n_blocks(w->gemm->k, STEP) - chunk * CHUNK_STEPS);
}

/* A panel on its way into packed form, over a chunk. */
typedef struct pack {
    const work_t *work;
    const side_t *side;
    int64_t panel, step;
    int64_t tile, n_tiles; /* 2 step + tile */
    char *to;              /* the tile's */
    /* the tile at hand: rows of low and high elements of pairs, and how many squares are still to be turned */
    const float *low, *high;
    int64_t row_stride, row, n_unturned, ahead;
    float padded[STEP * TILE] __attribute__((aligned(64)));
    float turned[2 * TILE * TILE] __attribute__((aligned(64)));
} pack_t;

/* A tile's elements, of which the matrix may lack some: they are zero. */
static void tile_pad(const float *from, int64_t row, bool is_along_k, int64_t n_lines, int64_t k_left, float *to)
{
    const int64_t n_rows = is_along_k ? n_lines : k_left, n_columns = is_along_k ? k_left : n_lines;
    const int64_t rows = is_along_k ? TILE : STEP, columns = is_along_k ? STEP : TILE;
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t j = 0; j < columns; j += TILE) {
            const __mmask16 mask = mask_first(i < n_rows ? n_columns - j : 0);
            _mm512_store_ps(to + i * columns + j, _mm512_maskz_loadu_ps(mask, from + i * row + j));
        }
    }
}

/* A tile's rows are those of the matrix, or turned: where k is adjacent and pairs of k are rows, or neither. */
static void tile_begin(pack_t *p)
{
    const side_t *s = p->side;
    const bool is_along_k = s->along_k == 1;
    const int64_t line = p->panel * PANEL + (p->tile & 1) * TILE, k = (p->step + p->tile / 2) * STEP;
    const int64_t n_lines = s->extent - line, k_left = p->work->gemm->k - k;
    const float *from = s->data + line * s->line + k * s->along_k;
    int64_t row_stride = is_along_k ? s->line : s->along_k;
    p->ahead = s->ahead;
    if (n_lines < TILE || k_left < STEP) {
        tile_pad(from, row_stride, is_along_k, n_lines, k_left, p->padded);
        from = p->padded;
        p->ahead = 0;
        row_stride = is_along_k ? STEP : TILE;
    }
    p->low = from;
    p->high = from + (is_along_k ? TILE : TILE * row_stride);
    p->row_stride = row_stride;
    p->n_unturned = is_along_k == s->is_b ? 2 : 0;
}

static void pack_begin(pack_t *p, const work_t *w, const side_t *side, int64_t panel, int64_t chunk, char *to)
{
    p->work = w;
    p->side = side;
    p->panel = panel;
    p->step = chunk * CHUNK_STEPS;
    p->tile = p->row = 0;
    p->n_tiles = 2 * chunk_steps(w, chunk);
    p->to = to;
    tile_begin(p);
}

/* One unit of packing, if there is any left: a square turned, or some rows split. */
static __attribute__((noinline)) void pack_some(pack_t *p)
{
    if (p->tile == p->n_tiles) {
        return;
    }
    if (p->n_unturned == 2) {
        square_transpose(p->low, p->row_stride, p->ahead, p->turned);
        p->low = p->turned;
        p->n_unturned = 1;
        return;
    }
    if (p->n_unturned == 1) {
        square_transpose(p->high, p->row_stride, p->ahead, p->turned + TILE * TILE);
        p->high = p->turned + TILE * TILE;
        p->row_stride = TILE;
        p->n_unturned = 0;
        p->ahead = 0;
        return;
    }
    const int64_t stride = p->row_stride, ahead = p->ahead;
    const float *low = p->low + p->row * stride, *high = p->high + p->row * stride;
    char *to = p->to + 64 * p->row;
#pragma GCC unroll 4
    for (int64_t i = 0; i < ROWS_AT_ONCE; i++, low += stride, high += stride) {
        __builtin_prefetch(low + ahead, 0, 2);
        __builtin_prefetch(high + ahead, 0, 2);
        row_split(_mm512_loadu_ps(low), _mm512_loadu_ps(high), to + 64 * i, 2 * TILE_BYTES);
    }
    p->row += ROWS_AT_ONCE;
    if (p->row == TILE) {
        p->row = 0;
        p->to += p->tile & 1 ? STEP_BYTES - TILE_BYTES : TILE_BYTES;
        if (++p->tile < p->n_tiles) {
            tile_begin(p);
        }
    }
}

static void pack_end(pack_t *p)
{
    while (p->tile < p->n_tiles) {
        pack_some(p);
    }
}

/* Sums of a block that are still to be added to c. */
typedef struct finish {
    const float *bias;    /* or NULL */
    const float *partial; /* [32][32], or NULL: the span's other chunks */
    float *c;
    int64_t c_row, row, n_rows, ahead;
    __mmask16 left, right;
    bool is_adding;
    float sums[PANEL * PANEL] __attribute__((aligned(64)));
} finish_t;

static inline __attribute__((always_inline)) void finish_some(finish_t *f, int64_t n)
{
    const int64_t end = smaller(f->row + n, f->n_rows);
    for (; f->row < end; f->row++) {
        float *c = f->c + f->row * f->c_row;
        __m512 x = _mm512_load_ps(f->sums + f->row * PANEL), y = _mm512_load_ps(f->sums + f->row * PANEL + TILE);
        __builtin_prefetch(c + f->ahead, 1);
        __builtin_prefetch(c + f->ahead + TILE, 1);
        if (f->partial != NULL) {
            x = _mm512_add_ps(x, _mm512_load_ps(f->partial + f->row * PANEL));
            y = _mm512_add_ps(y, _mm512_load_ps(f->partial + f->row * PANEL + TILE));
        }
        if (f->is_adding) {
            x = _mm512_add_ps(x, _mm512_maskz_loadu_ps(f->left, c));
            y = _mm512_add_ps(y, _mm512_maskz_loadu_ps(f->right, c + TILE));
        }
        if (f->bias != NULL) {
            x = _mm512_add_ps(x, _mm512_maskz_loadu_ps(f->left, f->bias));
            y = _mm512_add_ps(y, _mm512_maskz_loadu_ps(f->right, f->bias + TILE));
        }
        _mm512_mask_storeu_ps(c, f->left, x);
        _mm512_mask_storeu_ps(c + TILE, f->right, y);
    }
}

/* What a thread does. */
typedef struct lane {
    const work_t *work;
    const part_t *part;
    char *own_packed[2], *shared_packed;
    pack_t pack;
    finish_t finish;
    float *partial; /* [block of a round][32][32], where sums are cut into spans */
} lane_t;
enum { LANE_BYTES = (sizeof(lane_t) + 4095) / 4096 * 4096 };

/* A part of a step's two tiles. */
#define TILES_LOAD(tile_x, next_x, from_x, part_x, is_shared_x)                                                        \
    do {                                                                                                               \
        const char *tiles = (from_x) + (part_x)*2 * TILE_BYTES;                                                        \
        if (is_shared_x) {                                                                                             \
            TILE_LOAD_ONCE(tile_x, tiles, 64);                                                                         \
            TILE_LOAD_ONCE(next_x, tiles + TILE_BYTES, 64);                                                            \
        } else {                                                                                                       \
            TILE_LOAD(tile_x, tiles, 64);                                                                              \
            TILE_LOAD(next_x, tiles + TILE_BYTES, 64);                                                                 \
        }                                                                                                              \
    } while (0)
#define TILES_LOAD_A(from_x, part_x) TILES_LOAD(4, 5, from_x, part_x, is_a_shared)
#define TILES_LOAD_B(from_x, part_x) TILES_LOAD(6, 7, from_x, part_x, !is_a_shared)

/* Tiles 0-3 = the six products of n_steps steps, small ones first. */
static inline __attribute__((always_inline)) void sums_run(const char *a, const char *b, bool is_a_shared,
                                                           int64_t n_steps, lane_t *lane)
{
    TILE_ZERO(0);
    TILE_ZERO(1);
    TILE_ZERO(2);
    TILE_ZERO(3);
    for (int64_t i = 0; i < n_steps; i++, a += STEP_BYTES, b += STEP_BYTES) {
        TILES_LOAD_A(a, 2);
        TILES_LOAD_B(b, 0);
        TILE_MULTIPLY();
        pack_some(&lane->pack);
        TILES_LOAD_A(a, 1);
        TILE_MULTIPLY();
        pack_some(&lane->pack);
        TILES_LOAD_B(b, 1);
        TILE_MULTIPLY();
        pack_some(&lane->pack);
        TILES_LOAD_A(a, 0);
        TILE_MULTIPLY();
        finish_some(&lane->finish, SUMS_AT_ONCE);
        TILES_LOAD_B(b, 2);
        TILE_MULTIPLY();
        finish_some(&lane->finish, SUMS_AT_ONCE);
        TILES_LOAD_B(b, 0);
        TILE_MULTIPLY();
        finish_some(&lane->finish, SUMS_AT_ONCE);
    }
}

/* Where the block of c lies. */
static void block_place(const work_t *w, int64_t own, int64_t shared, int64_t *row_p, int64_t *column_p)
{
    *row_p = (w->own.is_b ? shared : own) * PANEL;
    *column_p = (w->own.is_b ? own : shared) * PANEL;
}

/* Where the sums in tiles go: into a block's partial sums, but a span's last chunk into c. */
static void block_finish(const work_t *w, int64_t n_chunks, int64_t chunk, int64_t own, int64_t shared, float *partial,
                         finish_t *f)
{
    const gd_gemm_t *g = w->gemm;
    const int64_t span = n_chunks > SPAN_CHUNKS ? SPAN_CHUNKS : 1;
    const bool is_first = chunk % span == 0, is_last = chunk % span == span - 1 || chunk == n_chunks - 1;
    if (!is_last && is_first) {
        sums_store(partial, PANEL);
        return;
    }
    if (!is_last) {
        sums_store(f->sums, PANEL);
        f->bias = f->partial = NULL;
        f->c = partial;
        f->c_row = PANEL;
        f->row = 0;
        f->n_rows = PANEL;
        f->ahead = 0;
        f->left = f->right = mask_first(TILE);
        f->is_adding = true;
        return;
    }
    int64_t row = 0, column = 0;
    block_place(w, own, shared, &row, &column);
    const int64_t rows = smaller(g->m - row, PANEL), columns = smaller(g->n - column, PANEL);
    float *c = g->c + row * g->c_row + column;
    const bool is_adding = chunk >= span || g->is_accumulating;
    const float *bias = chunk < span && g->bias != NULL ? g->bias + column : NULL;
    if (rows == PANEL && columns == PANEL && !is_adding && bias == NULL && is_first && w->c_ahead == 0) {
        sums_store(c, g->c_row);
        return;
    }
    sums_store(f->sums, PANEL);
    f->bias = bias;
    f->partial = is_first ? NULL : partial;
    f->c = c;
    f->c_row = g->c_row;
    f->row = 0;
    f->n_rows = rows;
    f->ahead = w->c_ahead;
    f->left = mask_first(columns);
    f->right = mask_first(columns - TILE);
    f->is_adding = is_adding;
}

/* Packs the panels of a round, and multiplies them. */
static void round_run(lane_t *lane, const round_t *r)
{
    const work_t *w = lane->work;
    pack_t *pack = &lane->pack;
    const int64_t n_shared = r->shared_end - r->shared, n_chunks = r->chunk_end - r->chunk;
    char *to = lane->shared_packed;
    for (int64_t i = 0; i < n_chunks * n_shared; i++, to += CHUNK_BYTES) {
        pack_begin(pack, w, &w->shared, r->shared + i % n_shared, r->chunk + i / n_shared, to);
        pack_end(pack);
    }
    pack_begin(pack, w, &w->own, r->own, r->chunk, lane->own_packed[0]);
    pack_end(pack);
    const int64_t n_own = (r->own_end - r->own) * n_chunks;
    for (int64_t i = 0; i < n_own; i++) {
        const char *own_packed = lane->own_packed[i & 1];
        if (i + 1 < n_own) {
            pack_begin(pack, w, &w->own, r->own + (i + 1) / n_chunks, r->chunk + (i + 1) % n_chunks,
                       lane->own_packed[(i + 1) & 1]);
        }
        const int64_t own = i / n_chunks, chunk = r->chunk + i % n_chunks, n_steps = chunk_steps(w, chunk);
        const char *other = lane->shared_packed + i % n_chunks * n_shared * CHUNK_BYTES;
        float *partial = lane->partial + own * n_shared * PANEL * PANEL;
        for (int64_t j = 0; j < n_shared; j++, other += CHUNK_BYTES, partial += PANEL * PANEL) {
            if (w->own.is_b) {
                sums_run(other, own_packed, true, n_steps, lane);
            } else {
                sums_run(own_packed, other, false, n_steps, lane);
            }
            finish_some(&lane->finish, PANEL);
            block_finish(w, lane->part->n_chunks, chunk, r->own + own, r->shared + j, partial, &lane->finish);
        }
        pack_end(pack);
    }
}

static void part_run(const work_t *w, char *scratch, const part_t *part)
{
    lane_t *lane = (lane_t *)(void *)scratch;
    lane->work = w;
    lane->part = part;
    lane->finish.row = lane->finish.n_rows = 0;
    lane->own_packed[0] = scratch + LANE_BYTES;
    lane->own_packed[1] = lane->own_packed[0] + CHUNK_BYTES;
    lane->shared_packed = lane->own_packed[1] + CHUNK_BYTES;
    lane->partial = (float *)(void *)(lane->shared_packed + GROUP_CHUNKS * CHUNK_BYTES);
    for (int64_t i = 0; i < part->n_rounds; i++) {
        const round_t round = round_get(part, i);
        round_run(lane, &round);
    }
    finish_some(&lane->finish, PANEL);
}

static void parts_run(void *arg, int64_t begin, int64_t end)
{
    work_t *w = arg;
    const bool has_spans = w->gemm->k > SPAN_CHUNKS * CHUNK_STEPS * STEP;
    const int64_t partial_bytes = has_spans ? GROUP_BLOCKS * PANEL * PANEL * (int64_t)sizeof(float) : 0;
    char *scratch =
        gd_cpu_scratch(GD_CPU_SLOT_GEMM, (size_t)(LANE_BYTES + (2 + GROUP_CHUNKS) * CHUNK_BYTES + partial_bytes));
    if (scratch == NULL) {
        w->has_failed = true;
        return;
    }
    tiles_configure();
    for (int64_t i = begin; i < end; i++) {
        const int64_t own = i / w->grid.column_parts * w->grid.rows_per_part;
        const int64_t shared = i % w->grid.column_parts * w->grid.columns_per_part;
        part_t part = {.own = own,
                       .own_end = smaller(own + w->grid.rows_per_part, w->n_own),
                       .shared = shared,
                       .shared_end = smaller(shared + w->grid.columns_per_part, w->n_shared)};
        rounds_cut(w, &part);
        part_run(w, scratch, &part);
    }
    tiles_release();
}

static bool is_far(int64_t rows, int64_t columns)
{
    return rows * columns * (int64_t)sizeof(float) >= FAR_BYTES;
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
    w.shared.ahead = is_far(w.shared.extent, g->k) ? PANEL * w.shared.line : 0;
    w.own.ahead = is_far(w.own.extent, g->k) ? PANEL * w.own.line : 0;
    w.c_ahead = is_far(g->m, g->n) ? 2 * PANEL * (is_a_shared ? g->c_row : 1) : 0;
    const gd_gemm_cost_t cost = {.block = 5, .row = 8, .column = 8}; /* about what blocks and panels take */
    w.grid = gd_gemm_divide(w.n_own, w.n_shared, g->n_threads, &cost);
    gd_cpu_parallel(g->n_threads, w.grid.row_parts * w.grid.column_parts, 1, parts_run, &w);
    return w.has_failed ? ST_FAIL(ST_ERR_NOMEM, "matrix product: packed panels") : ST_OK;
}

status_t gd_amx_gemm(const gd_gemm_t *gemm)
{
    return gd_gemm_batch(gemm, matrix_run);
}
#else
status_t gd_amx_gemm(const gd_gemm_t *gemm)
{
    (void)gemm;
    return ST_FAIL(ST_ERR_UNSUPPORTED, "matrix product: built without AMX");
}
#endif
