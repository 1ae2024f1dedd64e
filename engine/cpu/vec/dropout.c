/* SPDX-License-Identifier: Apache-2.0 */
/* dropout: masks drawn from the key's Philox stream, by element or by stretches of neighbours; row in
 * engine/ops/dropout.c. */
#include <stdbool.h>

#include "cpu/map.h"
#include "cpu/vec/half.h"
#include "cpu/vec/kernels.h"
#include "cpu/vec/mask.h"

typedef struct dropout {
    const void *x;
    void *y;
    int64_t n;
    gd_rng_key_t key;
    double scale, shift; /* of what is kept */
    double dropped;      /* what takes the place of the rest */
    int64_t stretch;     /* neighbours that share a draw */
    uint32_t threshold;  /* of 24 bits: kept where word >> 8 is at least this */
    int32_t dtype;
} dropout_t;

/* Elements that draw for themselves. */
static void elements_block(void *arg, int64_t begin, int64_t end)
{
    const dropout_t *d = arg;
    uint32_t mask[MASK_STRETCH];
    for (int64_t i = begin; i < end; i += MASK_STRETCH) {
        const int64_t n = end - i < MASK_STRETCH ? end - i : MASK_STRETCH;
        mask_draw(&d->key, d->threshold, i, n, mask);
        if (d->dtype == GD_DTYPE_F64) {
            const double *x = (const double *)d->x + i;
            double *y = (double *)d->y + i;
            for (int64_t j = 0; j < n; j++) {
                y[j] = mask[j] != 0 ? x[j] * d->scale + d->shift : d->dropped;
            }
        } else {
            float buffer[MASK_STRETCH];
            const float *x = half_row(d->x, d->dtype, i, n, buffer);
            float *y = half_row_open(d->y, d->dtype, i, buffer);
            const float scale = (float)d->scale, shift = (float)d->shift, dropped = (float)d->dropped;
#pragma omp simd
            for (int64_t j = 0; j < n; j++) {
                y[j] = mask[j] != 0 ? x[j] * scale + shift : dropped;
            }
            half_row_put(y, d->y, d->dtype, i, n);
        }
    }
}

static void stretch_fill(const dropout_t *d, int64_t stretch, bool is_kept)
{
    const double scale = is_kept ? d->scale : 0.0, shift = is_kept ? d->shift : d->dropped;
    if (d->dtype == GD_DTYPE_F64) {
        const double *x = (const double *)d->x + stretch * d->stretch;
        double *y = (double *)d->y + stretch * d->stretch;
        for (int64_t j = 0; j < d->stretch; j++) {
            y[j] = is_kept ? x[j] * scale + shift : shift;
        }
        return;
    }
    for (int64_t i = 0; i < d->stretch; i += MASK_STRETCH) {
        float buffer[MASK_STRETCH];
        const int64_t first = stretch * d->stretch + i;
        const int64_t n = d->stretch - i < MASK_STRETCH ? d->stretch - i : MASK_STRETCH;
        const float *x = half_row(d->x, d->dtype, first, n, buffer);
        float *y = half_row_open(d->y, d->dtype, first, buffer);
#pragma omp simd
        for (int64_t j = 0; j < n; j++) {
            y[j] = is_kept ? x[j] * (float)scale + (float)shift : (float)shift;
        }
        half_row_put(y, d->y, d->dtype, first, n);
    }
}

/* Channels or samples that draw as a whole. */
static void stretches_block(void *arg, int64_t begin, int64_t end)
{
    const dropout_t *d = arg;
    uint32_t mask[MASK_STRETCH];
    for (int64_t i = begin; i < end; i += MASK_STRETCH) {
        mask_draw(&d->key, d->threshold, i, MASK_STRETCH, mask);
        for (int64_t j = i; j < end && j < i + MASK_STRETCH; j++) {
            stretch_fill(d, j, mask[j - i] != 0);
        }
    }
}

CPU_KERNEL(dropout)
{
    const gd_view_t *x = &args->in[0];
    const gd_attrs_t *attrs = args->attrs;
    if (!gd_dtype_is_float((gd_dtype_t)x->dtype)) {
        return gd_cpu_fail_dtype("dropout", x->dtype);
    }
    const double p = attrs->f[0];
    dropout_t d = {.x = x->data,
                   .y = args->out[0].data,
                   .n = gd_view_numel(x),
                   .key = attrs->rng,
                   .scale = attrs->i[1] != 0 ? attrs->f[1] : 1.0 / (1.0 - p),
                   .shift = attrs->i[1] != 0 ? attrs->f[2] : 0.0,
                   .dropped = attrs->i[1] != 0 ? attrs->f[3] : 0.0,
                   .stretch = attrs->i[0] > 1 ? attrs->i[0] : 1,
                   .threshold = mask_threshold(p),
                   .dtype = x->dtype};
    if (d.stretch == 1) {
        gd_cpu_parallel(args->n_threads, d.n, GD_CPU_MAP_GRAIN, elements_block, &d);
        return ST_OK;
    }
    /* a multiple of 4, the numbers of one draw */
    const int64_t grain = (GD_CPU_MAP_GRAIN / d.stretch / 4 + 1) * 4;
    gd_cpu_parallel(args->n_threads, d.n / d.stretch, grain, stretches_block, &d);
    return ST_OK;
}
