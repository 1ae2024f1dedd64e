/* SPDX-License-Identifier: Apache-2.0 */
/*
 * index_put: places from several indices, and values brought together at places along an axis. Compiled once. Lines
 * (see Note [Lines] in index.c) are dealt to threads; inside a line the index is followed in order, in f64.
 */
#include <math.h>
#include <stdatomic.h>
#include <string.h>

#include "cpu/kernels.h"
#include "gradd/index.h"
#include "gradd/tensor.h"

/* in: index[n], i64, broadcast against each other; attrs: i[k] the size that index k counts in. out: the place of each
 * tuple among those of all sizes, row by row. */
status_t gd_cpu_index_places(const gd_kernel_args_t *args)
{
    const gd_view_t *y = &args->out[0];
    const int64_t n = gd_view_numel(y);
    int64_t *to = y->data;
    memset(to, 0, (size_t)n * sizeof(int64_t));
    for (int k = 0; k < args->n_in && args->in[k].data != NULL; k++) {
        const gd_view_t *index = &args->in[k];
        const int64_t size = args->attrs->i[k];
        const int first = y->n_dims - index->n_dims;
        for (int64_t i = 0; i < n; i++) {
            int64_t rest = i;
            int64_t offset = 0;
            for (int d = y->n_dims - 1; d >= first; d--) {
                offset += index->shape[d - first] > 1 ? rest % y->shape[d] * index->stride[d - first] : 0;
                rest /= y->shape[d];
            }
            const int64_t at = ((const int64_t *)index->data)[offset];
            if (at < -size || at >= size) {
                return ST_FAIL(ST_ERR_RANGE,
                               "index_places: index %lld (element %lld of index %d) for an axis of size %lld",
                               (long long)at, (long long)i, k, (long long)size);
            }
            to[i] = to[i] * size + (at < 0 ? at + size : at);
        }
    }
    return ST_OK;
}

/* ---- scatter_reduce; all contiguous ---- */

typedef struct reduce {
    int kind;
    bool has_self;
    bool is_f64;
    int axis;
    int64_t n;       /* elements a line: of index and source */
    int64_t size;    /* of x, y */
    int64_t step[2]; /* between a line's elements: index and source, x and y */
    const gd_view_t *index_view;
    const gd_view_t *x_view;
    const int64_t *index;
    const void *source, *x;
    void *y;
    const void *dy; /* backward */
    void *dsource, *dx;
    atomic_bool is_out_of_memory;
} reduce_t;

static inline double value_get(const reduce_t *r, const void *base, int64_t i)
{
    return r->is_f64 ? ((const double *)base)[i] : (double)((const float *)base)[i];
}

static inline void value_put(const reduce_t *r, void *base, int64_t i, double value)
{
    if (r->is_f64) {
        ((double *)base)[i] = value;
    } else {
        ((float *)base)[i] = (float)value;
    }
}

/* Where the line begins in index and source, and in x and y. */
static void line_find(const reduce_t *r, int64_t line, int64_t *of_index_p, int64_t *of_x_p)
{
    int64_t step[2] = {1, 1};
    int64_t offset[2] = {0, 0};
    for (int d = r->index_view->n_dims - 1; d >= 0; d--) {
        if (d != r->axis) {
            const int64_t at = line % r->index_view->shape[d];
            line /= r->index_view->shape[d];
            offset[0] += at * step[0];
            offset[1] += at * step[1];
        }
        step[0] *= r->index_view->shape[d];
        step[1] *= r->x_view->shape[d];
    }
    *of_index_p = offset[0];
    *of_x_p = offset[1];
}

static double combine(int kind, double a, double b)
{
    switch (kind) {
    case GD_SCATTER_PROD:
        return a * b;
    case GD_SCATTER_MAX:
        return isnan(a) || a > b ? a : b;
    case GD_SCATTER_MIN:
        return isnan(a) || a < b ? a : b;
    default:
        return a + b;
    }
}

static void reduce_block(void *arg, int64_t begin, int64_t end)
{
    reduce_t *r = arg;
    double *sum = gd_cpu_scratch(GD_CPU_SLOT_WORKER, (size_t)r->size * 2 * sizeof(double));
    if (sum == NULL) {
        atomic_store(&r->is_out_of_memory, true);
        return;
    }
    double *count = sum + r->size;
    for (int64_t line = begin; line < end; line++) {
        int64_t from = 0, to = 0;
        line_find(r, line, &from, &to);
        memset(count, 0, (size_t)r->size * sizeof(double));
        for (int64_t j = 0; j < r->n; j++) {
            const int64_t t = r->index[from + j * r->step[0]];
            const double value = value_get(r, r->source, from + j * r->step[0]);
            if (count[t] == 0 && r->has_self) {
                sum[t] = value_get(r, r->x, to + t * r->step[1]);
                count[t] = 1;
            }
            sum[t] = count[t] == 0 ? value : combine(r->kind, sum[t], value);
            count[t]++;
        }
        for (int64_t t = 0; t < r->size; t++) {
            if (count[t] > 0) {
                value_put(r, r->y, to + t * r->step[1], r->kind == GD_SCATTER_MEAN ? sum[t] / count[t] : sum[t]);
            }
        }
    }
}

/* What a place keeps for its gradient: of a product, that of the values that aren't 0, and how many are; of the largest
 * and smallest, how many are the result; of a mean, how many there are. */
typedef struct share {
    double product;
    double count;
    double n; /* that came here, x apart */
} share_t;

static void share_add(const reduce_t *r, share_t *share, double value, double result)
{
    if (r->kind == GD_SCATTER_PROD) {
        share->product *= value != 0 ? value : 1;
        share->count += value == 0;
    } else if (r->kind == GD_SCATTER_MAX || r->kind == GD_SCATTER_MIN) {
        share->count += value == result;
    } else {
        share->count++;
    }
}

/* dresult/dvalue */
static double slope_of(const reduce_t *r, const share_t *share, double value, double result)
{
    switch (r->kind) {
    case GD_SCATTER_PROD:
        return share->count == 0 ? share->product / value : share->count == 1 && value == 0 ? share->product : 0;
    case GD_SCATTER_MEAN:
        return 1 / share->count;
    case GD_SCATTER_MAX:
    case GD_SCATTER_MIN:
        return value == result ? 1 / share->count : 0;
    default:
        return 1;
    }
}

static void reduce_backward_block(void *arg, int64_t begin, int64_t end)
{
    reduce_t *r = arg;
    share_t *shares = gd_cpu_scratch(GD_CPU_SLOT_WORKER, (size_t)r->size * sizeof(share_t));
    if (shares == NULL) {
        atomic_store(&r->is_out_of_memory, true);
        return;
    }
    for (int64_t line = begin; line < end; line++) {
        int64_t from = 0, to = 0;
        line_find(r, line, &from, &to);
        for (int64_t t = 0; t < r->size; t++) {
            const int64_t at = to + t * r->step[1];
            shares[t] = (share_t){.product = 1};
            if (r->has_self) {
                share_add(r, &shares[t], value_get(r, r->x, at), value_get(r, r->y, at));
            }
        }
        for (int64_t j = 0; j < r->n; j++) {
            const int64_t t = r->index[from + j * r->step[0]];
            share_add(r, &shares[t], value_get(r, r->source, from + j * r->step[0]),
                      value_get(r, r->y, to + t * r->step[1]));
            shares[t].n++;
        }
        for (int64_t j = 0; j < r->n; j++) {
            const int64_t s = from + j * r->step[0];
            const int64_t t = r->index[s];
            const int64_t at = to + t * r->step[1];
            const double slope = slope_of(r, &shares[t], value_get(r, r->source, s), value_get(r, r->y, at));
            value_put(r, r->dsource, s, slope * value_get(r, r->dy, at));
        }
        for (int64_t t = 0; t < r->size; t++) {
            const int64_t at = to + t * r->step[1];
            if (shares[t].n > 0) {
                const double slope =
                    r->has_self ? slope_of(r, &shares[t], value_get(r, r->x, at), value_get(r, r->y, at)) : 0;
                value_put(r, r->dx, at, slope * value_get(r, r->dy, at));
            }
        }
    }
}

static status_t reduce_run(reduce_t *r, const char *op, const gd_kernel_args_t *args, const gd_view_t *index,
                           const gd_view_t *x, void (*block)(void *arg, int64_t begin, int64_t end))
{
    if (x->dtype != GD_DTYPE_F32 && x->dtype != GD_DTYPE_F64) {
        return gd_cpu_fail_dtype(op, x->dtype);
    }
    r->axis = (int)args->attrs->i[0];
    r->kind = (int)args->attrs->i[1];
    r->has_self = args->attrs->i[2] != 0;
    r->is_f64 = x->dtype == GD_DTYPE_F64;
    r->index_view = index;
    r->x_view = x;
    r->index = index->data;
    r->x = x->data;
    r->n = index->n_dims > 0 ? index->shape[r->axis] : 1;
    r->size = x->n_dims > 0 ? x->shape[r->axis] : 1;
    r->step[0] = r->step[1] = 1;
    for (int d = index->n_dims - 1; d > r->axis; d--) {
        r->step[0] *= index->shape[d];
        r->step[1] *= x->shape[d];
    }
    status_t status = gd_cpu_index_check(op, index, r->axis, r->size);
    const int64_t n = gd_view_numel(index);
    if (status == ST_OK && n > 0) {
        gd_cpu_parallel(args->n_threads, n / r->n, 4096 / r->n + 1, block, r);
    }
    return status == ST_OK && atomic_load(&r->is_out_of_memory)
               ? ST_FAIL(ST_ERR_NOMEM, "%s: scratch memory for lines of %lld", op, (long long)r->size)
               : status;
}

/* in: source, index, x; out: y. */
status_t gd_cpu_scatter_reduce(const gd_kernel_args_t *args)
{
    const gd_view_t *x = &args->in[2];
    const gd_view_t *y = &args->out[0];
    reduce_t r = {.source = args->in[0].data, .y = y->data};
    memcpy(y->data, x->data, (size_t)gd_view_numel(x) * gd_dtype_size((gd_dtype_t)x->dtype));
    return reduce_run(&r, "scatter_reduce", args, &args->in[1], x, reduce_block);
}

/* in: dy, source, index, x, y; out: dsource, dx. */
status_t gd_cpu_scatter_reduce_backward(const gd_kernel_args_t *args)
{
    const gd_view_t *dy = &args->in[0];
    const gd_view_t *x = &args->in[3];
    reduce_t r = {.source = args->in[1].data,
                  .y = args->in[4].data,
                  .dy = dy->data,
                  .dsource = args->out[0].data,
                  .dx = args->out[1].data};
    memcpy(r.dx, dy->data, (size_t)gd_view_numel(dy) * gd_dtype_size((gd_dtype_t)dy->dtype));
    return reduce_run(&r, "scatter_reduce_backward", args, &args->in[2], x, reduce_backward_block);
}
