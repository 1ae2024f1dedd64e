/* SPDX-License-Identifier: Apache-2.0 */
/*
 * amx_layout: where the pixels of a convolution lie for the matrix unit; for files compiled with AMX.
 *
 * Note [A tap is an offset]
 *   The images of a batch are laid out one below the other, with padding between rows and between images, which
 * neighbours share: position p of this row of pixels is row p / pitch, column p % pitch. An output at p needs the input
 * at p + (i d pitch + j d) for tap (i, j). So the pixels, cut and paired once, serve all taps: a tile of 16 outputs'
 * inputs is loaded from another offset for each. Outputs that fall into the padding are computed and dropped.
 */
#ifndef GRADD_CPU_AMX_LAYOUT_H
#define GRADD_CPU_AMX_LAYOUT_H

#include <stdint.h>

#include "cpu/amx_tiles.h"

/* Images of a convolution of stride 1 and the layout's sizes: positions of a row, rows of an image. */
typedef struct layout {
    int64_t channels; /* of the outputs */
    int64_t in[2], out[2], padding[2];
    int64_t pitch, rows;
} layout_t;

/* Outputs of a tile that lie side by side in memory: those of the mask, from `offset` on. */
typedef struct run {
    int64_t offset;
    __mmask16 mask, first;
} run_t;

enum { MOST_RUNS = 16 }; /* of 16 positions */
typedef struct runs {
    run_t run[2 * MOST_RUNS];
    int64_t n_left, n; /* of the left tile, of both */
} runs_t;

static inline int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* Sets the sizes. Padding is shared by neighbours; where there are more outputs, they need places. */
static inline void layout_measure(layout_t *l)
{
    l->pitch = larger(l->in[1] + l->padding[1], l->out[1]);
    l->rows = larger(l->in[0] + l->padding[0], l->out[0]);
}

/* A position on its way through the outputs. */
typedef struct cursor {
    int64_t at, image, row, column;
} cursor_t;

/* Goes on to the next output, if this isn't one. */
static inline void cursor_settle(const layout_t *l, cursor_t *c)
{
    if (c->column >= l->out[1]) {
        c->at += l->pitch - c->column;
        c->column = 0;
        c->row++;
    }
    if (c->row >= l->out[0]) {
        c->at += (l->rows - c->row) * l->pitch - c->column;
        c->row = c->column = 0;
        c->image++;
    }
}

/* At the first output from `at` on. */
static inline cursor_t cursor_begin(const layout_t *l, int64_t at)
{
    const int64_t row = at / l->pitch;
    cursor_t c = {.at = at, .image = row / l->rows, .row = row % l->rows, .column = at % l->pitch};
    cursor_settle(l, &c);
    return c;
}

/*
 * Where the outputs of 32 positions from the cursor on are in memory, channel 0's; those from `end` on are left out.
 * Moves the cursor to the first output after them.
 */
static inline void runs_find(const layout_t *l, cursor_t *c, int64_t end, runs_t *runs)
{
    const int64_t plane = l->out[0] * l->out[1], begin = c->at;
    int64_t last_image = -1, tile = begin, n_runs = 0;
    runs->n_left = -1;
    end = smaller(end, begin + PANEL);
    while (c->at < end) {
        if (tile == begin && c->at >= begin + TILE) {
            tile = begin + TILE;
            last_image = -1;
            runs->n_left = n_runs;
        }
        const int64_t n = smaller(l->out[1] - c->column, smaller(end, tile + TILE) - c->at);
        n_runs += c->image != last_image;
        run_t *run = &runs->run[n_runs - 1];
        if (c->image != last_image) {
            run->offset = c->image * l->channels * plane + c->row * l->out[1] + c->column;
            run->mask = 0;
        }
        run->mask |= (__mmask16)(mask_first(n) << (c->at - tile));
        run->first = mask_first(__builtin_popcount(run->mask));
        last_image = c->image;
        c->at += n;
        c->column += n;
        cursor_settle(l, c);
    }
    runs->n = n_runs;
    runs->n_left = runs->n_left < 0 ? n_runs : runs->n_left;
}

#endif
