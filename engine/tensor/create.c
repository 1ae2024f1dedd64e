/* SPDX-License-Identifier: Apache-2.0 */
/* create: tensors from rules and from random numbers, made in f64, f32 or i64 and then cast. */
#include "gradd/create.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "tensor/internal.h"

/* t as dtype: itself, or a copy of it; takes t. */
static status_t cast_take(gd_tensor_t *t, gd_dtype_t dtype, gd_tensor_t **t_p)
{
    if (t->dtype == dtype) {
        *t_p = t;
        return ST_OK;
    }
    gd_tensor_t *cast = NULL;
    status_t status = gd_tensor_new(dtype, t->n_dims, t->shape, &cast);
    if (status == ST_OK) {
        status = gd_tensor_copy(cast, t);
    }
    (void)gd_tensor_unref(t);
    if (status != ST_OK) {
        (void)gd_tensor_unref(cast);
        return status;
    }
    cast->storage->version = 0;
    *t_p = cast;
    return ST_OK;
}

status_t gd_ones(gd_dtype_t dtype, int n_dims, const int64_t *shape, gd_tensor_t **t_p)
{
    return gd_tensor_full(dtype, n_dims, shape, 1, t_p);
}

status_t gd_empty_like(const gd_tensor_t *x, gd_tensor_t **t_p)
{
    return gd_tensor_new(x->dtype, x->n_dims, x->shape, t_p);
}

status_t gd_zeros_like(const gd_tensor_t *x, gd_tensor_t **t_p)
{
    return gd_tensor_zeros(x->dtype, x->n_dims, x->shape, t_p);
}

status_t gd_ones_like(const gd_tensor_t *x, gd_tensor_t **t_p)
{
    return gd_tensor_full(x->dtype, x->n_dims, x->shape, 1, t_p);
}

status_t gd_full_like(const gd_tensor_t *x, double value, gd_tensor_t **t_p)
{
    return gd_tensor_full(x->dtype, x->n_dims, x->shape, value, t_p);
}

/* ---- rules ---- */

/* Whole numbers are counted as such, so that i64 keeps all its digits. */
static status_t integers_make(int64_t n, double start, double step, gd_tensor_t **t_p)
{
    status_t status = gd_tensor_new(GD_DTYPE_I64, 1, &n, t_p);
    for (int64_t i = 0; status == ST_OK && i < n; i++) {
        ((int64_t *)gd_tensor_data(*t_p))[i] = (int64_t)start + i * (int64_t)step;
    }
    return status;
}

status_t gd_arange(gd_dtype_t dtype, double start, double end, double step, gd_tensor_t **t_p)
{
    const double count = ceil((end - start) / step);
    if (step == 0 || !isfinite(count) || count < 0 || count > 0x1p53) {
        return ST_FAIL(ST_ERR_RANGE, "arange: from %g to %g in steps of %g", start, end, step);
    }
    const int64_t n = (int64_t)count;
    gd_tensor_t *t = NULL;
    status_t status = ST_OK;
    if (start == floor(start) && step == floor(step) && fabs(start) < 0x1p53 && fabs(end) < 0x1p53) {
        status = integers_make(n, start, step, &t);
    } else {
        status = gd_tensor_new(GD_DTYPE_F64, 1, &n, &t);
        for (int64_t i = 0; status == ST_OK && i < n; i++) {
            ((double *)gd_tensor_data(t))[i] = start + (double)i * step;
        }
    }
    return status == ST_OK ? cast_take(t, dtype, t_p) : status;
}

status_t gd_linspace(gd_dtype_t dtype, double start, double end, int64_t n, gd_tensor_t **t_p)
{
    gd_tensor_t *t = NULL;
    if (n < 0 || !isfinite(start) || !isfinite(end)) {
        return ST_FAIL(ST_ERR_RANGE, "linspace: %lld numbers from %g to %g", (long long)n, start, end);
    }
    status_t status = gd_tensor_new(GD_DTYPE_F64, 1, &n, &t);
    if (status != ST_OK) {
        return status;
    }
    const double step = n > 1 ? (end - start) / (double)(n - 1) : 0;
    double *out = gd_tensor_data(t);
    for (int64_t i = 0; i < n; i++) { /* from both ends, so that both are met */
        out[i] = i < (n + 1) / 2 ? start + step * (double)i : end - step * (double)(n - 1 - i);
    }
    return cast_take(t, dtype, t_p);
}

status_t gd_eye(gd_dtype_t dtype, int64_t rows, int64_t columns, gd_tensor_t **t_p)
{
    gd_tensor_t *t = NULL;
    const int64_t shape[2] = {rows, columns};
    status_t status = gd_tensor_zeros(GD_DTYPE_U8, 2, shape, &t);
    if (status != ST_OK) {
        return status;
    }
    for (int64_t i = 0; i < rows && i < columns; i++) {
        ((uint8_t *)gd_tensor_data(t))[i * columns + i] = 1;
    }
    return cast_take(t, dtype, t_p);
}

/* ---- random numbers ---- */

enum { WORDS = 4 };

/* As many elements as the generator's 32-bit counter has places for. */
static status_t count_check(const char *function, int64_t n)
{
    return n <= UINT32_MAX ? ST_OK
                           : ST_FAIL(ST_ERR_RANGE, "%s: %lld elements: at most %u can be drawn from one key", function,
                                     (long long)n, UINT32_MAX);
}

/* A new tensor of floats in f32, or f64 where dtype is that. */
static status_t floats_new(const char *function, gd_dtype_t dtype, int n_dims, const int64_t *shape, gd_tensor_t **t_p)
{
    if (!gd_dtype_is_float(dtype)) {
        return ST_FAIL(ST_ERR_DTYPE, "%s: random numbers of %s: a floating dtype is needed", function,
                       (unsigned)dtype < GD_DTYPE_COUNT ? gd_dtype_name(dtype) : "no dtype");
    }
    gd_tensor_t *t = NULL;
    status_t status = gd_tensor_new(dtype == GD_DTYPE_F64 ? GD_DTYPE_F64 : GD_DTYPE_F32, n_dims, shape, &t);
    if (status == ST_OK) {
        status = count_check(function, t->numel);
    }
    if (status != ST_OK) {
        (void)gd_tensor_unref(t);
        return status;
    }
    *t_p = t;
    return ST_OK;
}

/* In [0, 1) with 53 bits: element i from half a block of words. */
static double unit_f64(const gd_rng_key_t *key, int64_t i)
{
    uint32_t word[WORDS];
    gd_philox(key, (uint32_t)(i / 2), word);
    const uint64_t bits = (uint64_t)word[i % 2 * 2] << 32 | word[i % 2 * 2 + 1];
    return (double)(bits >> 11) * 0x1p-53;
}

status_t gd_rand(const gd_rng_key_t *key, gd_dtype_t dtype, int n_dims, const int64_t *shape, gd_tensor_t **t_p)
{
    gd_tensor_t *t = NULL;
    status_t status = floats_new("rand", dtype, n_dims, shape, &t);
    if (status != ST_OK) {
        return status;
    }
    if (dtype == GD_DTYPE_F64) {
        for (int64_t i = 0; i < t->numel; i++) {
            ((double *)gd_tensor_data(t))[i] = unit_f64(key, i);
        }
    } else {
        gd_rng_fill_uniform(key, 0.0F, 1.0F, gd_tensor_data(t), t->numel);
    }
    if (dtype != GD_DTYPE_BF16 && dtype != GD_DTYPE_F16) {
        *t_p = t;
        return ST_OK;
    }
    /* 16 bits would round up to 1: the bits that they don't hold are cut off first */
    const float steps = dtype == GD_DTYPE_BF16 ? 0x1p8F : 0x1p11F;
    float *values = gd_tensor_data(t);
    for (int64_t i = 0; i < t->numel; i++) {
        values[i] = floorf(values[i] * steps) / steps;
    }
    return cast_take(t, dtype, t_p);
}

status_t gd_randn(const gd_rng_key_t *key, gd_dtype_t dtype, int n_dims, const int64_t *shape, gd_tensor_t **t_p)
{
    const double two_pi = 6.283185307179586476925286766559;
    gd_tensor_t *t = NULL;
    status_t status = floats_new("randn", dtype, n_dims, shape, &t);
    if (status != ST_OK) {
        return status;
    }
    if (dtype == GD_DTYPE_F64) {
        for (int64_t i = 0; i < t->numel; i += 2) {
            const double radius = sqrt(-2 * log(1 - unit_f64(key, i)));
            const double angle = two_pi * unit_f64(key, i + 1);
            double *out = (double *)gd_tensor_data(t) + i;
            out[0] = radius * cos(angle);
            if (i + 1 < t->numel) {
                out[1] = radius * sin(angle);
            }
        }
    } else {
        gd_rng_fill_normal(key, 0.0F, 1.0F, gd_tensor_data(t), t->numel);
    }
    return cast_take(t, dtype, t_p);
}

status_t gd_randint(const gd_rng_key_t *key, int64_t lo, int64_t hi, gd_dtype_t dtype, int n_dims, const int64_t *shape,
                    gd_tensor_t **t_p)
{
    gd_tensor_t *t = NULL;
    if (lo >= hi) {
        return ST_FAIL(ST_ERR_RANGE, "randint: nothing from %lld to %lld", (long long)lo, (long long)hi);
    }
    status_t status = gd_tensor_new(GD_DTYPE_I64, n_dims, shape, &t);
    if (status == ST_OK) {
        status = count_check("randint", t->numel);
    }
    if (status != ST_OK) {
        (void)gd_tensor_unref(t);
        return status;
    }
    const uint64_t range = (uint64_t)hi - (uint64_t)lo;
    for (int64_t i = 0; i < t->numel; i++) {
        ((int64_t *)gd_tensor_data(t))[i] = (int64_t)((uint64_t)lo + gd_rng_below(key, (uint32_t)i, range));
    }
    return cast_take(t, dtype, t_p);
}

status_t gd_randperm(const gd_rng_key_t *key, int64_t n, gd_tensor_t **t_p)
{
    gd_tensor_t *t = NULL;
    if (n < 0) {
        return ST_FAIL(ST_ERR_RANGE, "randperm: %lld numbers", (long long)n);
    }
    status_t status = count_check("randperm", n);
    if (status == ST_OK) {
        status = gd_tensor_new(GD_DTYPE_I64, 1, &n, &t);
    }
    if (status != ST_OK) {
        return status;
    }
    /* Fisher and Yates, as gd_rng_permutation */
    int64_t *out = gd_tensor_data(t);
    for (int64_t i = 0; i < n; i++) {
        out[i] = i;
    }
    for (int64_t i = n; i > 1; i--) {
        const int64_t j = (int64_t)gd_rng_below(key, (uint32_t)(i - 1), (uint64_t)i);
        const int64_t swapped = out[i - 1];
        out[i - 1] = out[j];
        out[j] = swapped;
    }
    *t_p = t;
    return ST_OK;
}

/* x as a dense tensor of f64. */
static status_t wide_copy(const gd_tensor_t *x, gd_tensor_t **wide_p)
{
    gd_tensor_t *wide = NULL;
    status_t status = gd_tensor_new(GD_DTYPE_F64, x->n_dims, x->shape, &wide);
    if (status == ST_OK) {
        status = gd_tensor_copy(wide, x);
    }
    if (status != ST_OK) {
        (void)gd_tensor_unref(wide);
        return status;
    }
    *wide_p = wide;
    return ST_OK;
}

status_t gd_bernoulli(const gd_rng_key_t *key, const gd_tensor_t *p, gd_tensor_t **t_p)
{
    gd_tensor_t *t = NULL;
    if (!gd_dtype_is_float(p->dtype)) {
        return ST_FAIL(ST_ERR_DTYPE, "bernoulli: probabilities of %s: a floating dtype is needed",
                       gd_dtype_name(p->dtype));
    }
    status_t status = count_check("bernoulli", p->numel);
    if (status == ST_OK) {
        status = wide_copy(p, &t);
    }
    if (status != ST_OK) {
        return status;
    }
    double *value = gd_tensor_data(t);
    for (int64_t i = 0; i < t->numel; i++) {
        if (!(value[i] >= 0 && value[i] <= 1)) {
            status = ST_FAIL(ST_ERR_DATA, "bernoulli: the probability %g at element %lld", value[i], (long long)i);
            (void)gd_tensor_unref(t);
            return status;
        }
        value[i] = unit_f64(key, i) < value[i];
    }
    return cast_take(t, p->dtype, t_p);
}

/* ---- multinomial ---- */

typedef struct ticket {
    double time;
    int64_t place;
} ticket_t;

static int ticket_compare(const void *a, const void *b)
{
    const ticket_t *x = a;
    const ticket_t *y = b;
    return x->time < y->time ? -1 : x->time > y->time ? 1 : x->place < y->place ? -1 : x->place > y->place;
}

/* Number of weights that aren't 0; sum[k]: the sum up to and with k. */
static status_t weights_sum(const double *weight, int64_t n, int64_t row, double *sum, int64_t *n_p)
{
    double total = 0;
    *n_p = 0;
    for (int64_t k = 0; k < n; k++) {
        if (!(weight[k] >= 0) || !isfinite(weight[k])) {
            return ST_FAIL(ST_ERR_DATA, "multinomial: the weight %g at place %lld of row %lld", weight[k], (long long)k,
                           (long long)row);
        }
        total += weight[k];
        *n_p += weight[k] > 0;
        sum[k] = total;
    }
    return ST_OK;
}

/* The first k with sum[k] > at. */
static int64_t place_find(const double *sum, int64_t n, double at)
{
    int64_t lo = 0;
    int64_t hi = n - 1;
    while (lo < hi) {
        const int64_t middle = lo + (hi - lo) / 2;
        if (sum[middle] > at) {
            hi = middle;
        } else {
            lo = middle + 1;
        }
    }
    return lo;
}

typedef struct draw {
    const gd_rng_key_t *key;
    int64_t n;
    int64_t n_samples;
    bool with_replacement;
    double *sum;       /* [n] */
    ticket_t *tickets; /* [n] */
} draw_t;

/*
 * With replacement by the inverse of the distribution function. Without: each place has an exponential time with its
 * weight as rate, and the first n_samples are taken (Efraimidis, Spirakis, "Weighted random sampling", 2006).
 */
static status_t row_draw(const draw_t *draw, const double *weight, int64_t row, int64_t *out)
{
    int64_t n_usable = 0;
    status_t status = weights_sum(weight, draw->n, row, draw->sum, &n_usable);
    if (status != ST_OK) {
        return status;
    }
    const int64_t n_needed = draw->with_replacement ? draw->n_samples > 0 : draw->n_samples;
    if (n_usable < n_needed) {
        return ST_FAIL(ST_ERR_DATA, "multinomial: %lld weights of row %lld aren't 0, %lld are needed",
                       (long long)n_usable, (long long)row, (long long)n_needed);
    }
    if (draw->with_replacement) {
        for (int64_t i = 0; i < draw->n_samples; i++) {
            const double at = unit_f64(draw->key, row * draw->n_samples + i) * draw->sum[draw->n - 1];
            out[i] = place_find(draw->sum, draw->n, at);
        }
        return ST_OK;
    }
    for (int64_t k = 0; k < draw->n; k++) {
        const double time = -log(1 - unit_f64(draw->key, row * draw->n + k));
        draw->tickets[k] = (ticket_t){.time = weight[k] > 0 ? time / weight[k] : HUGE_VAL, .place = k};
    }
    qsort(draw->tickets, (size_t)draw->n, sizeof(*draw->tickets), ticket_compare);
    for (int64_t i = 0; i < draw->n_samples; i++) {
        out[i] = draw->tickets[i].place;
    }
    return ST_OK;
}

static status_t rows_draw(draw_t *draw, const gd_tensor_t *weights, gd_tensor_t *t)
{
    gd_tensor_t *wide = NULL;
    status_t status = wide_copy(weights, &wide);
    if (status != ST_OK) {
        return status;
    }
    draw->sum = mem_calloc((size_t)draw->n + 1, sizeof(*draw->sum));
    draw->tickets = mem_calloc((size_t)draw->n + 1, sizeof(*draw->tickets));
    if (draw->sum == NULL || draw->tickets == NULL) {
        status = ST_FAIL(ST_ERR_NOMEM, "multinomial: %lld weights", (long long)draw->n);
    }
    const int64_t n_rows = weights->n_dims == 2 ? weights->shape[0] : 1;
    for (int64_t row = 0; row < n_rows && status == ST_OK; row++) {
        status = row_draw(draw, (const double *)gd_tensor_data(wide) + row * draw->n, row,
                          (int64_t *)gd_tensor_data(t) + row * draw->n_samples);
    }
    mem_free(draw->sum);
    mem_free(draw->tickets);
    (void)gd_tensor_unref(wide);
    return status;
}

status_t gd_multinomial(const gd_rng_key_t *key, const gd_tensor_t *weights, int64_t n_samples, bool with_replacement,
                        gd_tensor_t **t_p)
{
    const int n_dims = weights->n_dims;
    if ((n_dims != 1 && n_dims != 2) || !gd_dtype_is_float(weights->dtype) || n_samples < 0) {
        return ST_FAIL(ST_ERR_SHAPE,
                       "multinomial: %lld samples of weights with %d dimensions of %s: [K] or [N, K] of "
                       "floats is needed",
                       (long long)n_samples, n_dims, gd_dtype_name(weights->dtype));
    }
    draw_t draw = {
        .key = key, .n = weights->shape[n_dims - 1], .n_samples = n_samples, .with_replacement = with_replacement};
    gd_tensor_t *t = NULL;
    const int64_t shape[2] = {n_dims == 2 ? weights->shape[0] : n_samples, n_samples};
    status_t status = gd_tensor_new(GD_DTYPE_I64, n_dims, shape, &t);
    if (status == ST_OK) {
        status = count_check("multinomial", t->numel > weights->numel ? t->numel : weights->numel);
    }
    if (status == ST_OK) {
        status = rows_draw(&draw, weights, t);
    }
    if (status != ST_OK) {
        (void)gd_tensor_unref(t);
        return status;
    }
    *t_p = t;
    return ST_OK;
}
