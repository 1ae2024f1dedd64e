/* SPDX-License-Identifier: Apache-2.0 */
/*
 * amx_conv: see amx_conv.h.
 *
 * Note [Packed pixels and weights]
 *   Pixels are laid out by amx_layout.h. Input channels go in blocks of 32, pairs are channels (c, c + 16). A block of
 * pixels is packed as [part h, m, l][16 pairs][positions], weights as [block of 32 output channels][block of 32 input
 * channels][tap], each of these a step: [part][tile 0, 1][16 rows of 64 bytes].
 *
 * Note [Chunks of a convolution]
 *   A chunk is up to MOST_STEPS steps: as many taps, of as many blocks of input channels. Sums of 32 output channels x
 * 32 positions stay in tile registers over one, from zero; chunks are added in their order. What is added to memory is
 * added between the products of the next block, see amx.c, Note [Rounds].
 *   Of a band of positions, a chunk's inputs are packed into the second-level cache. For each 32 positions come all
 * blocks of output channels: pixels stay in the first-level cache, weights are loaded from the second with the hint
 * that they needn't.
 */
#include "cpu/amx_conv.h"

#ifdef __AMX_BF16__
#include "cpu/amx_layout.h"
#include "cpu/amx_tiles.h"
#include "cpu/cpu.h"

enum {
    MOST_STEPS = 9,
    BAND_BYTES = 640 << 10,           /* of packed pixels */
    SUMS_BYTES = 768 << 10,           /* of a band's sums between chunks */
    WEIGHTS_BYTES = 896 << 10,        /* of a chunk's weights, for a group of output channels */
    LEAST_BAND = 256,                 /* positions */
    SUMS_AT_ONCE = 2,                 /* rows of sums finished between products */
    PIXEL_BYTES = N_PARTS * TILE * 4, /* of a position, for a block of channels */
};

/* y = x convolved with weight; the gradient of x is that of dy with the weights turned round. */
typedef struct problem {
    int64_t batch, c_in, c_out;
    int64_t kernel[2], dilation[2];
    layout_t layout;
    const float *x, *weight, *bias;
    float *y;
    int64_t weight_out, weight_in; /* distances between weights of neighbouring channels */
    bool is_flipped;               /* taps are stored from last to first */

    int64_t n_taps, n_in, n_out;      /* blocks of 32 channels */
    int64_t in_per_chunk, n_chunks;   /* blocks of input channels */
    int64_t taps_per_chunk, tap_cuts; /* chunks of a block's taps */
    int64_t reach;                    /* the last tap's offset */
    int64_t n_positions;
    int64_t band, group; /* positions, blocks of output channels that are done at a time */
    int64_t width;       /* of packed pixels, positions: 16 times an odd number, for the sake of the cache's sets */
    int64_t position_parts, out_parts;
    char *packed; /* weights */
    _Atomic bool has_failed;
} problem_t;

/* Sums of a block that are still to be added to others, or written to y. */
typedef struct finish {
    float *partial; /* [32][32] or NULL */
    bool is_to_y;
    const float *bias; /* or NULL */
    float *y;
    int64_t y_row, row, n_rows;
    const runs_t *runs;
    float sums[PANEL * PANEL] __attribute__((aligned(64)));
} finish_t;

/* What a thread does. */
typedef struct lane {
    const problem_t *problem;
    int64_t offset[MOST_STEPS]; /* of a step's pixels, bytes */
    runs_t runs[2];
    finish_t finish;
    float *pixels; /* [block of a chunk][part][16][width] */
    float *partial;
} lane_t;
enum { LANE_BYTES = (sizeof(lane_t) + 4095) / 4096 * 4096 };

/* The rows of 16 output channels of a step, for weights of block `in`. */
static void weights_pack(void *arg, int64_t begin, int64_t end)
{
    const problem_t *p = arg;
    const __m512i lanes = _mm512_mullo_epi32(_mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0),
                                             _mm512_set1_epi32((int)p->weight_in));
    for (int64_t unit = begin; unit < end; unit++) {
        const int64_t out = unit / p->n_in * PANEL, in = unit % p->n_in * STEP;
        const __mmask16 has_low = mask_first(p->c_in - in), has_high = mask_first(p->c_in - in - TILE);
        char *to = p->packed + unit * p->n_taps * STEP_BYTES;
        for (int64_t row = 0; row < PANEL; row++) {
            const bool is_there = out + row < p->c_out;
            const float *from = p->weight + (is_there ? (out + row) * p->weight_out + in * p->weight_in : 0);
            const float *high_from = from + (has_high && is_there ? TILE * p->weight_in : 0);
            for (int64_t tap = 0; tap < p->n_taps; tap++) {
                const int64_t at = p->is_flipped ? p->n_taps - 1 - tap : tap;
                const __m512 low = _mm512_mask_i32gather_ps(_mm512_setzero_ps(), is_there ? has_low : 0, lanes,
                                                            from + at, sizeof(float));
                const __m512 high = _mm512_mask_i32gather_ps(_mm512_setzero_ps(), is_there ? has_high : 0, lanes,
                                                             high_from + at, sizeof(float));
                row_split(low, high, to + tap * STEP_BYTES + row * 64, 2 * TILE_BYTES);
            }
        }
    }
}

/* n positions of a row of the layout, from `column` on: of image row `from` (its first pixel), or 0 channels: zeros. */
static void row_pack(const problem_t *p, const float *from, int64_t n_channels, int64_t column, int64_t n, float *to)
{
    const int64_t plane = p->layout.in[0] * p->layout.in[1], part = TILE * p->width * (int64_t)sizeof(float);
    for (int64_t j = 0; j < n; j += TILE) {
        const int64_t x = column + j - p->layout.padding[1];
        const __mmask16 mask = mask_first(p->layout.in[1] - x) & (__mmask16)~mask_first(-x);
        const float *low = from + x;
        for (int64_t i = 0; i < TILE; i++, low += plane) {
            const __m512 a = _mm512_maskz_loadu_ps(i < n_channels ? mask : 0, low);
            const __m512 b = _mm512_maskz_loadu_ps(i + TILE < n_channels ? mask : 0, low + TILE * plane);
            row_split(a, b, (char *)(to + i * p->width + j), part);
        }
    }
}

/* Positions [begin, begin + n) of a block of channels. */
static __attribute__((noinline)) void pixels_pack(const problem_t *p, int64_t block, int64_t begin, int64_t n,
                                                  float *to)
{
    const int64_t channel = block * STEP, plane = p->layout.in[0] * p->layout.in[1];
    int64_t row = begin / p->layout.pitch, column = begin % p->layout.pitch;
    for (int64_t at = 0; at < n; row++, column = 0) {
        const int64_t image = row / p->layout.rows, y = row % p->layout.rows - p->layout.padding[0];
        const bool is_there = image < p->batch && y >= 0 && y < p->layout.in[0];
        const float *from = p->x + (is_there ? (image * p->c_in + channel) * plane + y * p->layout.in[1] : 0);
        const int64_t left = p->layout.pitch - column < n - at ? p->layout.pitch - column : n - at;
        row_pack(p, from, is_there ? p->c_in - channel : 0, column, left, to + at);
        at += left;
    }
}

static inline __attribute__((always_inline)) void finish_some(finish_t *f, int64_t n)
{
    const int64_t end = smaller(f->row + n, f->n_rows);
    for (; f->row < end; f->row++) {
        __m512 left = _mm512_load_ps(f->sums + f->row * PANEL), right = _mm512_load_ps(f->sums + f->row * PANEL + TILE);
        if (f->partial != NULL) {
            float *partial = f->partial + f->row * PANEL;
            left = _mm512_add_ps(left, _mm512_load_ps(partial));
            right = _mm512_add_ps(right, _mm512_load_ps(partial + TILE));
            if (!f->is_to_y) {
                _mm512_store_ps(partial, left);
                _mm512_store_ps(partial + TILE, right);
                continue;
            }
        }
        if (f->bias != NULL) {
            const __m512 bias = _mm512_set1_ps(f->bias[f->row]);
            left = _mm512_add_ps(left, bias);
            right = _mm512_add_ps(right, bias);
        }
        float *y = f->y + f->row * f->y_row;
        const runs_t *runs = f->runs;
        for (int64_t i = 0; i < runs->n; i++) {
            const run_t *run = &runs->run[i];
            const __m512 x = i < runs->n_left ? left : right;
            _mm512_mask_storeu_ps(y + run->offset, run->first, _mm512_maskz_compress_ps(run->mask, x));
        }
    }
}

#define TILES_LOAD_A(from_x, part_x)                                                                                   \
    do {                                                                                                               \
        TILE_LOAD_ONCE(4, (from_x) + (part_x)*2 * TILE_BYTES, 64);                                                     \
        if (has_lower) {                                                                                               \
            TILE_LOAD_ONCE(5, (from_x) + (part_x)*2 * TILE_BYTES + TILE_BYTES, 64);                                    \
        }                                                                                                              \
    } while (0)
#define TILES_LOAD_B(from_x, part_x)                                                                                   \
    do {                                                                                                               \
        TILE_LOAD(6, (from_x) + (part_x)*part, stride);                                                                \
        TILE_LOAD(7, (from_x) + (part_x)*part + 64, stride);                                                           \
    } while (0)

/* Tiles 0-3 = the six products of n_steps steps, small ones first; 2 and 3 are zero where no channels are for them. */
static inline __attribute__((always_inline)) void sums_of(const char *a, const char *pixels, int64_t n_steps,
                                                          lane_t *lane, bool has_lower)
{
    const int64_t stride = lane->problem->width * (int64_t)sizeof(float), part = TILE * stride;
    TILE_ZERO(0);
    TILE_ZERO(1);
    TILE_ZERO(2);
    TILE_ZERO(3);
    for (int64_t i = 0; i < n_steps; i++, a += STEP_BYTES) {
        const char *b = pixels + lane->offset[i];
        TILES_LOAD_B(b, 2);
        TILES_LOAD_A(a, 0);
        TILE_MULTIPLY_SOME(has_lower, true);
        TILES_LOAD_B(b, 1);
        TILE_MULTIPLY_SOME(has_lower, true);
        TILES_LOAD_A(a, 1);
        TILE_MULTIPLY_SOME(has_lower, true);
        finish_some(&lane->finish, SUMS_AT_ONCE);
        TILES_LOAD_B(b, 0);
        TILE_MULTIPLY_SOME(has_lower, true);
        finish_some(&lane->finish, SUMS_AT_ONCE);
        TILES_LOAD_A(a, 2);
        TILE_MULTIPLY_SOME(has_lower, true);
        finish_some(&lane->finish, SUMS_AT_ONCE);
        TILES_LOAD_A(a, 0);
        TILE_MULTIPLY_SOME(has_lower, true);
    }
}

static void sums_run(const char *a, const char *pixels, int64_t n_steps, lane_t *lane, bool has_lower)
{
    if (has_lower) {
        sums_of(a, pixels, n_steps, lane, true);
    } else {
        sums_of(a, pixels, n_steps, lane, false);
    }
}

/* What becomes of the sums in tiles, those of a chunk for block `out` of output channels. */
static void block_finish(lane_t *lane, int64_t chunk, int64_t out, const runs_t *runs, float *partial)
{
    const problem_t *p = lane->problem;
    finish_t *f = &lane->finish;
    const bool is_last = chunk == p->n_chunks - 1;
    if (chunk == 0 && !is_last) {
        sums_store(partial, PANEL);
        return;
    }
    sums_store(f->sums, PANEL);
    f->partial = chunk == 0 ? NULL : partial;
    f->is_to_y = is_last;
    f->bias = p->bias != NULL ? p->bias + out * PANEL : NULL;
    f->y_row = p->layout.out[0] * p->layout.out[1];
    f->y = p->y + out * PANEL * f->y_row;
    f->row = 0;
    f->n_rows = is_last ? smaller(PANEL, p->c_out - out * PANEL) : PANEL;
    f->runs = runs;
}

/* One chunk of sums of outputs [begin, end), blocks [out, out_end) of channels. */
static void chunk_run(lane_t *lane, int64_t chunk, int64_t begin, int64_t end, int64_t out, int64_t out_end)
{
    const problem_t *p = lane->problem;
    const int64_t in = chunk / p->tap_cuts * p->in_per_chunk;
    const int64_t in_end = smaller(in + p->in_per_chunk, p->n_in);
    const int64_t tap = chunk % p->tap_cuts * p->taps_per_chunk;
    const int64_t tap_end = smaller(tap + p->taps_per_chunk, p->n_taps);
    int64_t n_steps = 0;
    for (int64_t i = in; i < in_end; i++) {
        for (int64_t t = tap; t < tap_end; t++) {
            const int64_t at = t / p->kernel[1] * p->dilation[0] * p->layout.pitch + t % p->kernel[1] * p->dilation[1];
            lane->offset[n_steps++] = (i - in) * PIXEL_BYTES * p->width + at * (int64_t)sizeof(float);
        }
        if (chunk % p->tap_cuts == 0) {
            pixels_pack(p, i, begin, smaller(end - begin + PANEL + p->reach, p->width - TILE),
                        lane->pixels + (i - in) * N_PARTS * TILE * p->width);
        }
    }
    float *partial = lane->partial;
    runs_t *runs = &lane->runs[0], *other = &lane->runs[1];
    cursor_t cursor = cursor_begin(&p->layout, begin);
    while (cursor.at < end) {
        const char *pixels = (const char *)(lane->pixels + (cursor.at - begin));
        runs_find(&p->layout, &cursor, end, runs);
        for (int64_t o = out; o < out_end; o++, partial += PANEL * PANEL) {
            sums_run(p->packed + ((o * p->n_in + in) * p->n_taps + tap) * STEP_BYTES, pixels, n_steps, lane,
                     p->c_out - o * PANEL > TILE);
            finish_some(&lane->finish, PANEL);
            block_finish(lane, chunk, o, runs, partial);
        }
        runs_t *last = runs;
        runs = other;
        other = last;
    }
    finish_some(&lane->finish, PANEL);
}

static int64_t pixels_bytes(const problem_t *p)
{
    return p->in_per_chunk * PIXEL_BYTES * p->width;
}

static void parts_run(void *arg, int64_t begin, int64_t end)
{
    problem_t *p = arg;
    const int64_t partial_bytes =
        p->n_chunks > 1 ? gd_cpu_n_blocks(p->band, PANEL) * p->group * PANEL * PANEL * (int64_t)sizeof(float) : 0;
    char *scratch = gd_cpu_scratch(GD_CPU_SLOT_WORKER, (size_t)(LANE_BYTES + pixels_bytes(p) + partial_bytes));
    if (scratch == NULL) {
        p->has_failed = true;
        return;
    }
    lane_t *lane = (lane_t *)(void *)scratch;
    lane->problem = p;
    lane->finish.row = lane->finish.n_rows = 0;
    lane->pixels = (float *)(void *)(scratch + LANE_BYTES);
    lane->partial = (float *)(void *)(scratch + LANE_BYTES + pixels_bytes(p));
    const int64_t per_part = gd_cpu_n_blocks(p->n_positions, p->position_parts);
    const int64_t out_per_part = gd_cpu_n_blocks(p->n_out, p->out_parts);
    tiles_configure();
    for (int64_t i = begin; i < end; i++) {
        const int64_t first = i / p->out_parts * per_part, last = smaller(first + per_part, p->n_positions);
        const int64_t out = i % p->out_parts * out_per_part, out_end = smaller(out + out_per_part, p->n_out);
        for (int64_t at = first; at < last; at += p->band) {
            for (int64_t o = out; o < out_end; o += p->group) {
                for (int64_t chunk = 0; chunk < p->n_chunks; chunk++) {
                    chunk_run(lane, chunk, at, smaller(at + p->band, last), o, smaller(o + p->group, out_end));
                }
            }
        }
    }
    tiles_release();
}

/* The layout of pixels, and how sums are cut into chunks. */
static void problem_lay_out(problem_t *p)
{
    p->n_taps = p->kernel[0] * p->kernel[1];
    p->n_in = gd_cpu_n_blocks(p->c_in, STEP);
    p->n_out = gd_cpu_n_blocks(p->c_out, PANEL);
    p->tap_cuts = gd_cpu_n_blocks(p->n_taps, MOST_STEPS);
    p->taps_per_chunk = gd_cpu_n_blocks(p->n_taps, p->tap_cuts);
    p->in_per_chunk = smaller(larger(MOST_STEPS / p->n_taps, 1), p->n_in);
    p->n_chunks = gd_cpu_n_blocks(p->n_in, p->in_per_chunk) * p->tap_cuts;
    layout_measure(&p->layout);
    p->reach = (p->kernel[0] - 1) * p->dilation[0] * p->layout.pitch + (p->kernel[1] - 1) * p->dilation[1];
    p->n_positions = p->batch * p->layout.rows * p->layout.pitch;
}

/* Cuts the outputs among threads, and a thread's into bands. It decides who computes an element, not how. */
static void problem_divide(problem_t *p, int n_threads)
{
    const int64_t block_cost = 400 * p->n_taps * p->n_in, position_cost = 12 * p->n_in; /* cycles, about */
    int64_t least = INT64_MAX;
    for (int64_t parts = 1; parts <= n_threads; parts++) {
        if (n_threads % parts != 0) {
            continue;
        }
        const int64_t n_out = gd_cpu_n_blocks(p->n_out, parts);
        const int64_t n_positions = gd_cpu_n_blocks(p->n_positions, n_threads / parts);
        const int64_t cost = gd_cpu_n_blocks(n_positions, PANEL) * n_out * block_cost + n_positions * position_cost;
        if (cost < least) {
            least = cost;
            p->out_parts = parts;
            p->position_parts = n_threads / parts;
        }
    }
    const int64_t n_out = gd_cpu_n_blocks(p->n_out, p->out_parts);
    const int64_t n_positions = gd_cpu_n_blocks(p->n_positions, p->position_parts);
    const int64_t steps = p->taps_per_chunk * p->in_per_chunk;
    const int64_t groups = gd_cpu_n_blocks(n_out * steps * STEP_BYTES, WEIGHTS_BYTES);
    p->group = gd_cpu_n_blocks(n_out, groups);
    int64_t band = BAND_BYTES / (PIXEL_BYTES * p->in_per_chunk) - p->reach;
    if (p->n_chunks > 1) {
        band = smaller(band, SUMS_BYTES / (PANEL * (int64_t)sizeof(float) * p->group));
    }
    band = larger(band, larger(p->reach / 2, LEAST_BAND));
    p->band = gd_cpu_n_blocks(n_positions, gd_cpu_n_blocks(n_positions, band));
    p->width = (gd_cpu_n_blocks(p->band + PANEL + p->reach, TILE) + 1) * TILE;
    p->width += p->width / TILE % 2 == 0 ? TILE : 0;
}

static status_t problem_run(problem_t *p, int n_threads)
{
    problem_lay_out(p);
    problem_divide(p, n_threads > 1 ? n_threads : 1);
    p->packed = gd_cpu_scratch(GD_CPU_SLOT_KERNEL, (size_t)(p->n_out * p->n_in * p->n_taps * STEP_BYTES));
    if (p->packed == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "convolution: packed weights");
    }
    gd_cpu_parallel(n_threads, p->n_out * p->n_in, 1, weights_pack, p);
    gd_cpu_parallel(n_threads, p->position_parts * p->out_parts, 1, parts_run, p);
    return p->has_failed ? ST_FAIL(ST_ERR_NOMEM, "convolution: packed pixels") : ST_OK;
}

status_t gd_amx_conv_forward(const gd_conv_t *c, const float *x, const float *weight, const float *bias, float *y,
                             int n_threads)
{
    const int64_t n_taps = c->kernel[0] * c->kernel[1];
    problem_t p = {
        .batch = c->batch,
        .c_in = c->c_in,
        .c_out = c->c_out,
        .kernel = {c->kernel[0], c->kernel[1]},
        .layout = {.channels = c->c_out,
                   .in = {c->in[0], c->in[1]},
                   .out = {c->out[0], c->out[1]},
                   .padding = {c->padding[0], c->padding[1]}},
        .dilation = {c->dilation[0], c->dilation[1]},
        .x = x,
        .weight = weight,
        .bias = bias,
        .y = y,
        .weight_out = c->c_in * n_taps,
        .weight_in = n_taps,
    };
    return problem_run(&p, n_threads);
}

/* What the padding must be for dy to come out as large as x. */
static int64_t padding_turned(const gd_conv_t *c, int axis)
{
    return (c->kernel[axis] - 1) * c->dilation[axis] - c->padding[axis];
}

status_t gd_amx_conv_backward_input(const gd_conv_t *c, const float *dy, const float *weight, float *dx, int n_threads)
{
    const int64_t n_taps = c->kernel[0] * c->kernel[1];
    problem_t p = {
        .batch = c->batch,
        .c_in = c->c_out,
        .c_out = c->c_in,
        .kernel = {c->kernel[0], c->kernel[1]},
        .layout = {.channels = c->c_in,
                   .in = {c->out[0], c->out[1]},
                   .out = {c->in[0], c->in[1]},
                   .padding = {padding_turned(c, 0), padding_turned(c, 1)}},
        .dilation = {c->dilation[0], c->dilation[1]},
        .x = dy,
        .weight = weight,
        .y = dx,
        .weight_out = n_taps,
        .weight_in = c->c_in * n_taps,
        .is_flipped = true,
    };
    return problem_run(&p, n_threads);
}
#else
status_t gd_amx_conv_forward(const gd_conv_t *c, const float *x, const float *weight, const float *bias, float *y,
                             int n_threads)
{
    (void)c, (void)x, (void)weight, (void)bias, (void)y, (void)n_threads;
    return ST_FAIL(ST_ERR_UNSUPPORTED, "convolution: built without AMX");
}

status_t gd_amx_conv_backward_input(const gd_conv_t *c, const float *dy, const float *weight, float *dx, int n_threads)
{
    (void)c, (void)dy, (void)weight, (void)dx, (void)n_threads;
    return ST_FAIL(ST_ERR_UNSUPPORTED, "convolution: built without AMX");
}
#endif
