/* SPDX-License-Identifier: Apache-2.0 */
/*
 * amx_conv_weight: see amx_conv.h.
 *
 * dweight[o,c,tap] = sum over positions p of dy[o,p] x[c,p + offset(tap)], in amx_layout.h's layout. Sums of 32 c x 32
 * o are products of x's rows, bf16 by bf16 as they lie, pairs of neighbours, from the tap's offset on, and of dy
 * turned: a row of a tile is a pair of positions, a column an output channel; [32 positions][part][tile 0, 1][16 rows
 * of 64 bytes]. Where the layout has no output dy is zero; x is there what it may be, so that where it is infinite or
 * NaN more taps may be NaN than its window has.
 *
 * Note [Bands of a gradient]
 *   A band of positions is packed for all channels of the thread; for a block of each side, sums over chunks of
 * CHUNK_STEPS times 32 positions are added for all taps, and those of a band to the whole. Bands and chunks are given
 * by the shape; a thread has all positions of its channels and taps.
 */
#include "cpu/amx_conv.h"

#ifdef __AMX_BF16__
#include "cpu/amx_layout.h"
#include "cpu/amx_tiles.h"
#include "cpu/cpu.h"

enum {
    CHUNK_STEPS = 4,
    PACKED_BYTES = 1200 << 10, /* of a band, of all channels */
    LEAST_BAND = 512,          /* positions */
    MOST_BAND = 4096,
    SUMS_AT_ONCE = 2,
    POSITION_BYTES = PANEL * N_PARTS * 2, /* of a packed position of 32 channels */
    BLOCK_FLOATS = PANEL * PANEL,
};

typedef struct problem {
    const gd_conv_t *conv;
    const float *dy, *x;
    float *dweight, *dbias;
    layout_t layout;
    int64_t n_taps, n_in, n_out; /* blocks of 32 channels */
    int64_t n_positions, reach, band;
    int64_t row_bytes; /* of a packed row of x: 64 times an odd number */
    int64_t in_parts, out_parts, tap_parts;
    _Atomic bool has_failed;
} problem_t;

/* What a thread has of the gradient. */
typedef struct part {
    int64_t in, in_end, out, out_end, tap, tap_end;
} part_t;

typedef struct finish {
    float *to; /* [32][32] */
    int64_t row, n_rows;
    float sums[BLOCK_FLOATS] __attribute__((aligned(64)));
} finish_t;

typedef struct lane {
    const problem_t *problem;
    part_t part;
    finish_t finish;
    float turned[2 * TILE * TILE] __attribute__((aligned(64)));
    int64_t n_steps;
    int64_t position[MOST_BAND / PANEL + 1]; /* of a step, from the band's begin on */
    runs_t runs[MOST_BAND / PANEL + 1];
    char *x;        /* [block][part][32][row_bytes] */
    char *dy;       /* [block][step] */
    float *band;    /* [tap][32][32]: sums of a band */
    float *sums;    /* [block of c][block of o][tap][32][32] */
    int32_t *place; /* of a weight [c][tap] within a block of sums, for the first o */
} lane_t;
enum { LANE_BYTES = (sizeof(lane_t) + 4095) / 4096 * 4096 };

/* 16 elements in their three parts, as they lie. */
static inline __attribute__((always_inline)) void elements_split(__m512 x, char *to, int64_t stride)
{
    const __m512 m_l = _mm512_sub_ps(x, cut_to_bf16(x)), m = round_to_bf16(m_l), l = _mm512_sub_ps(m_l, m);
    _mm256_storeu_si256((__m256i *)(void *)to, _mm512_cvtepi32_epi16(_mm512_srli_epi32(_mm512_castps_si512(x), 16)));
    _mm256_storeu_si256((__m256i *)(void *)(to + stride),
                        _mm512_cvtepi32_epi16(_mm512_srli_epi32(_mm512_castps_si512(m), 16)));
    _mm256_storeu_si256((__m256i *)(void *)(to + 2 * stride),
                        _mm512_cvtepi32_epi16(_mm512_srli_epi32(_mm512_castps_si512(l), 16)));
}

/* Positions [begin, begin + n) of a block of channels of x. */
static __attribute__((noinline)) void x_pack(const problem_t *p, int64_t block, int64_t begin, int64_t n, char *to)
{
    const gd_conv_t *c = p->conv;
    const layout_t *l = &p->layout;
    const int64_t channel = block * PANEL, plane = l->in[0] * l->in[1], n_channels = c->c_in - channel;
    int64_t row = begin / l->pitch, column = begin % l->pitch;
    for (int64_t at = 0; at < n; row++) {
        const int64_t image = row / l->rows, y = row % l->rows - l->padding[0];
        const bool is_there = image < c->batch && y >= 0 && y < l->in[0];
        const float *from = p->x + (is_there ? (image * c->c_in + channel) * plane + y * l->in[1] : 0);
        const int64_t end = smaller(l->pitch, column + n - at);
        for (; column < end; column += TILE) {
            const int64_t x = column - l->padding[1], here = smaller(TILE, end - column);
            const __mmask16 mask = is_there ? mask_first(l->in[1] - x) & (__mmask16)~mask_first(-x) : 0;
            for (int64_t i = 0; i < PANEL; i++) {
                elements_split(_mm512_maskz_loadu_ps(i < n_channels ? mask : 0, from + i * plane + x),
                               to + i * p->row_bytes + at * 2, PANEL * p->row_bytes);
            }
            at += here;
        }
        column = 0;
    }
}

/* 16 positions of 16 channels of dy, a row each, where the runs say that there are outputs. */
static inline __attribute__((always_inline)) void dy_load(const float *dy, int64_t plane, int64_t n_channels,
                                                          const run_t *runs, int64_t n_runs, float *to)
{
    for (int64_t i = 0; i < TILE; i++) {
        __m512 row = _mm512_setzero_ps();
        for (int64_t r = 0; r < n_runs && i < n_channels; r++) {
            const __m512 packed = _mm512_maskz_loadu_ps(runs[r].first, dy + i * plane + runs[r].offset);
            row = _mm512_mask_expand_ps(row, runs[r].mask, packed);
        }
        _mm512_store_ps(to + i * TILE, row);
    }
}

/* A step of 32 positions of a block of channels of dy. */
static __attribute__((noinline)) void dy_pack(lane_t *lane, int64_t block, const runs_t *runs, char *to)
{
    const problem_t *p = lane->problem;
    const int64_t plane = p->layout.out[0] * p->layout.out[1];
    float loaded[TILE * TILE] __attribute__((aligned(64)));
    for (int64_t tile = 0; tile < 2; tile++, to += TILE_BYTES) {
        const int64_t channel = block * PANEL + tile * TILE;
        const float *dy = p->dy + (channel < p->conv->c_out ? channel * plane : 0);
        for (int64_t half = 0; half < 2; half++) {
            const run_t *run = half == 0 ? runs->run : runs->run + runs->n_left;
            const int64_t n_runs = half == 0 ? runs->n_left : runs->n - runs->n_left;
            dy_load(dy, plane, p->conv->c_out - channel, run, n_runs, loaded);
            square_transpose(loaded, TILE, 0, lane->turned);
            for (int64_t i = 0; i < TILE / 2; i++) {
                row_split(_mm512_load_ps(lane->turned + 2 * i * TILE),
                          _mm512_load_ps(lane->turned + (2 * i + 1) * TILE), to + (half * TILE / 2 + i) * 64,
                          2 * TILE_BYTES);
            }
        }
    }
}

static inline __attribute__((always_inline)) void finish_some(finish_t *f, int64_t n)
{
    const int64_t end = smaller(f->row + n, f->n_rows);
    for (; f->row < end; f->row++) {
        float *to = f->to + f->row * PANEL;
        const float *sums = f->sums + f->row * PANEL;
        _mm512_store_ps(to, _mm512_add_ps(_mm512_load_ps(to), _mm512_load_ps(sums)));
        _mm512_store_ps(to + TILE, _mm512_add_ps(_mm512_load_ps(to + TILE), _mm512_load_ps(sums + TILE)));
    }
}

#define TILES_LOAD_A(from_x, part_x)                                                                                   \
    do {                                                                                                               \
        TILE_LOAD(4, (from_x) + (part_x)*part, stride);                                                                \
        if (has_lower) {                                                                                               \
            TILE_LOAD(5, (from_x) + (part_x)*part + TILE * stride, stride);                                            \
        }                                                                                                              \
    } while (0)
#define TILES_LOAD_B(from_x, part_x)                                                                                   \
    do {                                                                                                               \
        TILE_LOAD_ONCE(6, (from_x) + (part_x)*2 * TILE_BYTES, 64);                                                     \
        if (has_right) {                                                                                               \
            TILE_LOAD_ONCE(7, (from_x) + (part_x)*2 * TILE_BYTES + TILE_BYTES, 64);                                    \
        }                                                                                                              \
    } while (0)

/* Tiles 0-3 = the six products of steps [begin, end), of x from a tap's offset on. */
static inline __attribute__((always_inline)) void sums_of(lane_t *lane, const char *x, const char *dy, int64_t begin,
                                                          int64_t end, bool has_lower, bool has_right)
{
    const int64_t stride = lane->problem->row_bytes, part = PANEL * stride;
    TILE_ZERO(0);
    TILE_ZERO(1);
    TILE_ZERO(2);
    TILE_ZERO(3);
    for (int64_t i = begin; i < end; i++) {
        const char *a = x + 2 * lane->position[i], *b = dy + i * STEP_BYTES;
        TILES_LOAD_A(a, 2);
        TILES_LOAD_B(b, 0);
        TILE_MULTIPLY_SOME(has_lower, has_right);
        TILES_LOAD_A(a, 1);
        TILE_MULTIPLY_SOME(has_lower, has_right);
        TILES_LOAD_B(b, 1);
        TILE_MULTIPLY_SOME(has_lower, has_right);
        finish_some(&lane->finish, SUMS_AT_ONCE);
        TILES_LOAD_A(a, 0);
        TILE_MULTIPLY_SOME(has_lower, has_right);
        finish_some(&lane->finish, SUMS_AT_ONCE);
        TILES_LOAD_B(b, 2);
        TILE_MULTIPLY_SOME(has_lower, has_right);
        finish_some(&lane->finish, SUMS_AT_ONCE);
        TILES_LOAD_B(b, 0);
        TILE_MULTIPLY_SOME(has_lower, has_right);
    }
}

/* A block of either side that is done, and which tiles of it have channels. */
typedef struct block {
    const char *x, *dy;
    bool has_lower, has_right;
} block_t;

static void sums_run(lane_t *lane, const block_t *block, int64_t offset, int64_t begin, int64_t end)
{
    const char *x = block->x + 2 * offset;
    if (block->has_lower && block->has_right) {
        sums_of(lane, x, block->dy, begin, end, true, true);
    } else if (block->has_lower) {
        sums_of(lane, x, block->dy, begin, end, true, false);
    } else if (block->has_right) {
        sums_of(lane, x, block->dy, begin, end, false, true);
    } else {
        sums_of(lane, x, block->dy, begin, end, false, false);
    }
}

/* A band's sums of a block of either side, added to `sums`, or as they are. */
static void block_run(lane_t *lane, const block_t *block, bool is_first, float *sums)
{
    const problem_t *p = lane->problem;
    const gd_conv_t *c = p->conv;
    finish_t *f = &lane->finish;
    const int64_t n_taps = lane->part.tap_end - lane->part.tap;
    for (int64_t step = 0; step < lane->n_steps; step += CHUNK_STEPS) {
        for (int64_t tap = 0; tap < n_taps; tap++) {
            const int64_t t = lane->part.tap + tap;
            const int64_t offset =
                t / c->kernel[1] * c->dilation[0] * p->layout.pitch + t % c->kernel[1] * c->dilation[1];
            float *to = lane->band + tap * BLOCK_FLOATS;
            sums_run(lane, block, offset, step, smaller(step + CHUNK_STEPS, lane->n_steps));
            finish_some(f, PANEL);
            if (step == 0) {
                sums_store(to, PANEL);
            } else {
                sums_store(f->sums, PANEL);
                f->to = to;
                f->row = 0;
            }
        }
    }
    finish_some(f, PANEL);
    for (int64_t i = 0; i < n_taps * BLOCK_FLOATS; i += TILE) {
        const __m512 sum = _mm512_load_ps(lane->band + i);
        _mm512_store_ps(sums + i, is_first ? sum : _mm512_add_ps(sum, _mm512_load_ps(sums + i)));
    }
}

static void band_run(lane_t *lane, int64_t begin, int64_t end)
{
    const problem_t *p = lane->problem;
    const part_t *part = &lane->part;
    const int64_t n_taps = part->tap_end - part->tap;
    cursor_t cursor = cursor_begin(&p->layout, begin);
    lane->n_steps = 0;
    while (cursor.at < end) {
        lane->position[lane->n_steps] = cursor.at - begin;
        runs_find(&p->layout, &cursor, end, &lane->runs[lane->n_steps++]);
    }
    if (lane->n_steps == 0) { /* padding between images; the first position is an output */
        return;
    }
    const int64_t dy_bytes = (p->band / PANEL + 1) * STEP_BYTES;
    for (int64_t o = part->out; o < part->out_end; o++) {
        for (int64_t i = 0; i < lane->n_steps; i++) {
            dy_pack(lane, o, &lane->runs[i], lane->dy + (o - part->out) * dy_bytes + i * STEP_BYTES);
        }
    }
    float *sums = lane->sums;
    for (int64_t c = part->in; c < part->in_end; c++) {
        x_pack(p, c, begin, end - begin + PANEL + p->reach, lane->x);
        for (int64_t o = part->out; o < part->out_end; o++, sums += n_taps * BLOCK_FLOATS) {
            const block_t block = {.x = lane->x,
                                   .dy = lane->dy + (o - part->out) * dy_bytes,
                                   .has_lower = p->conv->c_in - c * PANEL > TILE,
                                   .has_right = p->conv->c_out - o * PANEL > TILE};
            block_run(lane, &block, begin == 0, sums);
        }
    }
}

/* The finished sums of a block of either side; `to` is the first of its first channel's weights. */
static void block_write(const lane_t *lane, const float *sums, int64_t n_in, int64_t n_out, float *to)
{
    const problem_t *p = lane->problem;
    const int64_t n_taps = lane->part.tap_end - lane->part.tap;
    const bool is_whole = n_taps == p->n_taps; /* channels of x lie side by side */
    const int64_t n_rows = is_whole ? 1 : n_in, n = is_whole ? n_in * n_taps : n_taps;
    for (int64_t o = 0; o < n_out; o++) {
        for (int64_t row = 0; row < n_rows; row++) {
            float *weights = to + (o * p->conv->c_in + row) * p->n_taps;
            for (int64_t i = 0; i < n; i += TILE) {
                const __mmask16 mask = mask_first(n - i);
                const __m512i place = _mm512_maskz_loadu_epi32(mask, lane->place + row * n + i);
                const __m512 x = _mm512_mask_i32gather_ps(_mm512_setzero_ps(), mask, place, sums + o, sizeof(float));
                _mm512_mask_storeu_ps(weights + i, mask, x);
            }
        }
    }
}

static void part_write(lane_t *lane)
{
    const problem_t *p = lane->problem;
    const gd_conv_t *c = p->conv;
    const part_t *part = &lane->part;
    const int64_t n_taps = part->tap_end - part->tap;
    for (int64_t i = 0; i < PANEL * n_taps; i++) {
        lane->place[i] = (int32_t)(i % n_taps * BLOCK_FLOATS + i / n_taps * PANEL);
    }
    const float *sums = lane->sums;
    for (int64_t in = part->in; in < part->in_end; in++) {
        for (int64_t out = part->out; out < part->out_end; out++, sums += n_taps * BLOCK_FLOATS) {
            block_write(lane, sums, smaller(PANEL, c->c_in - in * PANEL), smaller(PANEL, c->c_out - out * PANEL),
                        p->dweight + (out * PANEL * c->c_in + in * PANEL) * p->n_taps + part->tap);
        }
    }
}

static void parts_run(void *arg, int64_t begin, int64_t end)
{
    problem_t *p = arg;
    const int64_t in_per_part = gd_cpu_n_blocks(p->n_in, p->in_parts);
    const int64_t out_per_part = gd_cpu_n_blocks(p->n_out, p->out_parts);
    const int64_t taps_per_part = gd_cpu_n_blocks(p->n_taps, p->tap_parts);
    const int64_t x_bytes = N_PARTS * PANEL * p->row_bytes;
    const int64_t dy_bytes = out_per_part * (p->band / PANEL + 1) * STEP_BYTES;
    const int64_t tap_bytes = BLOCK_FLOATS * (int64_t)sizeof(float) * taps_per_part;
    char *scratch = gd_cpu_scratch(GD_CPU_SLOT_WORKER, (size_t)(LANE_BYTES + x_bytes + dy_bytes + tap_bytes +
                                                                in_per_part * out_per_part * tap_bytes +
                                                                PANEL * taps_per_part * (int64_t)sizeof(int32_t)));
    if (scratch == NULL) {
        p->has_failed = true;
        return;
    }
    lane_t *lane = (lane_t *)(void *)scratch;
    lane->problem = p;
    lane->finish.row = lane->finish.n_rows = PANEL;
    lane->x = scratch + LANE_BYTES;
    lane->dy = lane->x + x_bytes;
    lane->band = (float *)(void *)(lane->dy + dy_bytes);
    lane->sums = lane->band + taps_per_part * BLOCK_FLOATS;
    lane->place = (int32_t *)(void *)(lane->sums + in_per_part * out_per_part * taps_per_part * BLOCK_FLOATS);
    tiles_configure();
    for (int64_t i = begin; i < end; i++) {
        const int64_t in = i / (p->out_parts * p->tap_parts) * in_per_part;
        const int64_t out = i / p->tap_parts % p->out_parts * out_per_part;
        const int64_t tap = i % p->tap_parts * taps_per_part;
        lane->part = (part_t){.in = in,
                              .in_end = smaller(in + in_per_part, p->n_in),
                              .out = out,
                              .out_end = smaller(out + out_per_part, p->n_out),
                              .tap = tap,
                              .tap_end = smaller(tap + taps_per_part, p->n_taps)};
        if (lane->part.in >= lane->part.in_end || out >= lane->part.out_end || tap >= lane->part.tap_end) {
            continue;
        }
        for (int64_t at = 0; at < p->n_positions; at += p->band) {
            band_run(lane, at, smaller(at + p->band, p->n_positions));
        }
        part_write(lane);
    }
    tiles_release();
}

static void bias_run(void *arg, int64_t begin, int64_t end)
{
    const problem_t *p = arg;
    const int64_t plane = p->layout.out[0] * p->layout.out[1];
    for (int64_t o = begin; o < end; o++) {
        double sum = 0;
        for (int64_t b = 0; b < p->conv->batch; b++) {
            const float *dy = p->dy + (b * p->conv->c_out + o) * plane;
            __m512 lanes = _mm512_setzero_ps();
            for (int64_t i = 0; i < plane; i += TILE) {
                lanes = _mm512_add_ps(lanes, _mm512_maskz_loadu_ps(mask_first(plane - i), dy + i));
            }
            sum += (double)_mm512_reduce_add_ps(lanes);
        }
        p->dbias[o] = (float)sum;
    }
}

/* Cuts the gradient among threads. It decides who computes an element, not how. */
static void problem_divide(problem_t *p, int n_threads)
{
    int64_t least = INT64_MAX;
    for (int64_t in = 1; in <= n_threads; in++) {
        for (int64_t out = 1; out <= n_threads / in; out++) {
            const int64_t taps = n_threads / in / out;
            const int64_t n_in = gd_cpu_n_blocks(p->n_in, in), n_out = gd_cpu_n_blocks(p->n_out, out);
            const int64_t n_taps = gd_cpu_n_blocks(p->n_taps, taps);
            const int64_t cost = n_in * n_out * n_taps * 440 + n_in * 500 + n_out * 600; /* cycles, about */
            if (cost < least) {
                least = cost;
                p->in_parts = in;
                p->out_parts = out;
                p->tap_parts = taps;
            }
        }
    }
}

status_t gd_amx_conv_backward_weight(const gd_conv_t *c, const float *dy, const float *x, float *dweight, float *dbias,
                                     int n_threads)
{
    problem_t p = {.conv = c, .dy = dy, .x = x, .dweight = dweight, .dbias = dbias};
    layout_t *l = &p.layout;
    *l = (layout_t){.channels = c->c_out,
                    .in = {c->in[0], c->in[1]},
                    .out = {c->out[0], c->out[1]},
                    .padding = {c->padding[0], c->padding[1]}};
    layout_measure(l);
    p.n_taps = c->kernel[0] * c->kernel[1];
    p.n_in = gd_cpu_n_blocks(c->c_in, PANEL);
    p.n_out = gd_cpu_n_blocks(c->c_out, PANEL);
    p.n_positions = c->batch * l->rows * l->pitch;
    p.reach = (c->kernel[0] - 1) * c->dilation[0] * l->pitch + (c->kernel[1] - 1) * c->dilation[1];
    p.band = larger(PACKED_BYTES / (POSITION_BYTES * (1 + p.n_out)), larger(p.reach, LEAST_BAND));
    p.band = smaller(smaller(p.band, MOST_BAND), p.n_positions);
    p.band = gd_cpu_n_blocks(p.n_positions, gd_cpu_n_blocks(p.n_positions, p.band));
    p.row_bytes = (gd_cpu_n_blocks(p.band + PANEL + p.reach + TILE, PANEL)) * 64;
    p.row_bytes += p.row_bytes / 64 % 2 == 0 ? 64 : 0;
    problem_divide(&p, n_threads > 1 ? n_threads : 1);
    gd_cpu_parallel(n_threads, p.in_parts * p.out_parts * p.tap_parts, 1, parts_run, &p);
    if (dbias != NULL) {
        gd_cpu_parallel(n_threads, c->c_out, 1, bias_run, &p);
    }
    return p.has_failed ? ST_FAIL(ST_ERR_NOMEM, "convolution: gradient of the weight") : ST_OK;
}
#else
status_t gd_amx_conv_backward_weight(const gd_conv_t *c, const float *dy, const float *x, float *dweight, float *dbias,
                                     int n_threads)
{
    (void)c, (void)dy, (void)x, (void)dweight, (void)dbias, (void)n_threads;
    return ST_FAIL(ST_ERR_UNSUPPORTED, "convolution: built without AMX");
}
#endif
