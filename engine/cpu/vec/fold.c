/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fold: reductions that go through the elements in order: the largest, products, norms, places, and sums of integers.
 * Floats are read as f64, integers and bool as i64, a piece at a time. One output of many elements is folded in blocks
 * of WHOLE_CHUNK whose results are joined in order, so that nothing depends on threads. Rows in engine/ops/fold.c.
 */
#include <math.h>
#include <stdalign.h>

#include "cpu/map.h"
#include "cpu/vec/elementwise.h"
#include "gradd/tensor.h"

enum { PIECE = 512, WHOLE_CHUNK = 65536, SERIAL_LIMIT = 16384 };

typedef enum fold_kind {
    FOLD_SUM, /* of integers */
    FOLD_MAX,
    FOLD_MIN,
    FOLD_PROD,
    FOLD_ANY,
    FOLD_ALL,
    FOLD_NORM,
    FOLD_ARGMAX,
    FOLD_ARGMIN
} fold_kind_t;

/* What a fold carries along; place: of the element that f or i is, -1 while there is none. */
typedef struct carry {
    double f;
    int64_t i;
    int64_t place;
} carry_t;

typedef struct fold {
    fold_kind_t kind;
    double p; /* of a norm */
    gd_cpu_grid_t kept;
    gd_cpu_grid_t reduced;
    const unsigned char *x;
    int64_t size_x;
    int is_float;
    gd_cpu_convert_func_t load;
    void *y;
    int32_t y_dtype;
    gd_cpu_convert_func_t store;
    carry_t *partial;
} fold_t;

static carry_t carry_start(const fold_t *fold)
{
    const int is_one = fold->kind == FOLD_PROD || fold->kind == FOLD_ALL;
    return (carry_t){.f = is_one, .i = is_one, .place = -1};
}

/* Whether v takes the place of what is carried: NaN stays, the first of equal ones too. */
static inline int is_better_f64(fold_kind_t kind, double v, const carry_t *carry)
{
    if (carry->place < 0 || v != v) {
        return carry->place < 0 || carry->f == carry->f;
    }
    return kind == FOLD_MAX || kind == FOLD_ARGMAX ? v > carry->f : v < carry->f;
}

static inline int is_better_i64(fold_kind_t kind, int64_t v, const carry_t *carry)
{
    return carry->place < 0 || (kind == FOLD_MAX || kind == FOLD_ARGMAX ? v > carry->i : v < carry->i);
}

/* |x| to the power that is summed, or compared; the largest and smallest keep a NaN. */
static void norm_piece(double p, const double *x, int64_t n, carry_t *carry)
{
    double sum = carry->f;
    if (p == 2) {
        for (int64_t k = 0; k < n; k++) {
            sum += x[k] * x[k];
        }
    } else if (p == 1) {
        for (int64_t k = 0; k < n; k++) {
            sum += fabs(x[k]);
        }
    } else if (p == 0) {
        for (int64_t k = 0; k < n; k++) {
            sum += x[k] != 0;
        }
    } else if (isinf(p)) {
        for (int64_t k = 0; k < n; k++) {
            const double v = fabs(x[k]);
            if (is_better_f64(p > 0 ? FOLD_MAX : FOLD_MIN, v, carry)) {
                carry->f = v;
                carry->place = 0;
            }
        }
        return;
    } else {
        for (int64_t k = 0; k < n; k++) {
            sum += pow(fabs(x[k]), p);
        }
    }
    carry->f = sum;
}

/* x[n], the elements from `place` of the reduced ones on */
static void piece_f64(const fold_t *fold, const double *x, int64_t place, int64_t n, carry_t *carry)
{
    switch (fold->kind) {
    case FOLD_NORM:
        norm_piece(fold->p, x, n, carry);
        break;
    case FOLD_PROD:
        for (int64_t k = 0; k < n; k++) {
            carry->f *= x[k];
        }
        break;
    case FOLD_ANY:
    case FOLD_ALL:
        for (int64_t k = 0; k < n; k++) {
            carry->i = fold->kind == FOLD_ANY ? carry->i | (x[k] != 0) : carry->i & (x[k] != 0);
        }
        break;
    default:
        for (int64_t k = 0; k < n; k++) {
            if (is_better_f64(fold->kind, x[k], carry)) {
                carry->f = x[k];
                carry->place = place + k;
            }
        }
        break;
    }
}

static void piece_i64(const fold_t *fold, const int64_t *x, int64_t place, int64_t n, carry_t *carry)
{
    switch (fold->kind) {
    case FOLD_SUM:
        for (int64_t k = 0; k < n; k++) {
            carry->i = wrap_add(carry->i, x[k]);
        }
        break;
    case FOLD_PROD:
        for (int64_t k = 0; k < n; k++) {
            carry->i = wrap_mul(carry->i, x[k]);
        }
        break;
    case FOLD_ANY:
    case FOLD_ALL:
        for (int64_t k = 0; k < n; k++) {
            carry->i = fold->kind == FOLD_ANY ? carry->i | (x[k] != 0) : carry->i & (x[k] != 0);
        }
        break;
    default:
        for (int64_t k = 0; k < n; k++) {
            if (is_better_i64(fold->kind, x[k], carry)) {
                carry->i = x[k];
                carry->place = place + k;
            }
        }
        break;
    }
}

/* Reduced elements [begin, end) of the output whose first element is x. */
static carry_t range_fold(const fold_t *fold, const unsigned char *x, int64_t begin, int64_t end)
{
    alignas(64) unsigned char buffer[PIECE * 8];
    const int64_t stride = fold->reduced.stride[0][fold->reduced.n_dims - 1];
    carry_t carry = carry_start(fold);
    while (begin < end) {
        int64_t offset = 0;
        int64_t n = gd_cpu_grid_seek(&fold->reduced, 1, begin, &offset);
        n = n < end - begin ? n : end - begin;
        n = n < PIECE ? n : PIECE;
        fold->load(x + offset * fold->size_x, stride, buffer, 1, n);
        if (fold->is_float) {
            piece_f64(fold, (const double *)(const void *)buffer, begin, n, &carry);
        } else {
            piece_i64(fold, (const int64_t *)(const void *)buffer, begin, n, &carry);
        }
        begin += n;
    }
    return carry;
}

/* *carry with what a later block found. */
static void carry_join(const fold_t *fold, carry_t *carry, const carry_t *later)
{
    switch (fold->kind) {
    case FOLD_SUM:
        carry->i = wrap_add(carry->i, later->i);
        break;
    case FOLD_PROD:
        carry->f *= later->f;
        carry->i = wrap_mul(carry->i, later->i);
        break;
    case FOLD_ANY:
        carry->i |= later->i;
        break;
    case FOLD_ALL:
        carry->i &= later->i;
        break;
    case FOLD_NORM:
        if (!isinf(fold->p)) {
            carry->f += later->f;
        } else if (is_better_f64(fold->p > 0 ? FOLD_MAX : FOLD_MIN, later->f, carry)) {
            *carry = *later;
        }
        break;
    default:
        if (fold->is_float ? is_better_f64(fold->kind, later->f, carry) : is_better_i64(fold->kind, later->i, carry)) {
            *carry = *later;
        }
        break;
    }
}

static void result_put(const fold_t *fold, int64_t k, const carry_t *carry)
{
    unsigned char *y = (unsigned char *)fold->y + k * (int64_t)gd_dtype_size((gd_dtype_t)fold->y_dtype);
    if (fold->kind == FOLD_ARGMAX || fold->kind == FOLD_ARGMIN) {
        *(int64_t *)(void *)y = carry->place;
    } else if (fold->kind == FOLD_ANY || fold->kind == FOLD_ALL) {
        *y = carry->i != 0;
    } else if (!fold->is_float) {
        fold->store(&carry->i, 1, y, 1, 1);
    } else {
        double value = carry->f;
        if (fold->kind == FOLD_NORM && !isinf(fold->p) && fold->p != 0 && fold->p != 1) {
            value = fold->p == 2 ? sqrt(value) : pow(value, 1.0 / fold->p);
        }
        const float narrow = (float)value;
        if (fold->y_dtype == GD_DTYPE_F64) {
            *(double *)(void *)y = value;
        } else {
            fold->store(&narrow, 1, y, 1, 1);
        }
    }
}

static void kept_block(void *arg, int64_t begin, int64_t end)
{
    const fold_t *fold = arg;
    for (int64_t k = begin; k < end; k++) {
        int64_t offset = 0;
        (void)gd_cpu_grid_seek(&fold->kept, 1, k, &offset);
        const carry_t carry = range_fold(fold, fold->x + offset * fold->size_x, 0, fold->reduced.numel);
        result_put(fold, k, &carry);
    }
}

static void whole_block(void *arg, int64_t begin, int64_t end)
{
    const fold_t *fold = arg;
    fold->partial[begin / WHOLE_CHUNK] = range_fold(fold, fold->x, begin, end);
}

static status_t whole_run(fold_t *fold, const char *op, int n_threads)
{
    const int64_t n_blocks = gd_cpu_n_blocks(fold->reduced.numel, WHOLE_CHUNK);
    fold->partial = gd_cpu_scratch(GD_CPU_SLOT_KERNEL, (size_t)n_blocks * sizeof(*fold->partial));
    if (fold->partial == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "%s: %lld partial results", op, (long long)n_blocks);
    }
    gd_cpu_parallel(n_threads, fold->reduced.numel, WHOLE_CHUNK, whole_block, fold);
    carry_t carry = fold->partial[0];
    for (int64_t i = 1; i < n_blocks; i++) {
        carry_join(fold, &carry, &fold->partial[i]);
    }
    result_put(fold, 0, &carry);
    return ST_OK;
}

static status_t fold_run(const gd_kernel_args_t *args, fold_kind_t kind, const char *op)
{
    const gd_view_t *x = &args->in[0];
    fold_t fold = {.kind = kind, .p = args->attrs->f[0], .x = x->data, .y = args->out[0].data};
    gd_cpu_grid_split(x, args->attrs->i[0], &fold.kept, &fold.reduced);
    fold.size_x = (int64_t)gd_dtype_size((gd_dtype_t)x->dtype);
    fold.is_float = gd_dtype_is_float((gd_dtype_t)x->dtype);
    fold.y_dtype = args->out[0].dtype;
    fold.load = CPU_FN(convert_find)(x->dtype, fold.is_float ? GD_DTYPE_F64 : GD_DTYPE_I64);
    fold.store = CPU_FN(convert_find)(fold.is_float ? GD_DTYPE_F32 : GD_DTYPE_I64, fold.y_dtype);
    const int is_plain = kind == FOLD_ANY || kind == FOLD_ALL || kind == FOLD_ARGMAX || kind == FOLD_ARGMIN;
    if (fold.load == NULL || (fold.store == NULL && !is_plain)) {
        return gd_cpu_fail_dtype(op, x->dtype);
    }
    if (fold.kept.numel == 1 && fold.reduced.numel > WHOLE_CHUNK) {
        return whole_run(&fold, op, args->n_threads);
    }
    const int64_t n = fold.reduced.numel > 0 ? fold.reduced.numel : 1;
    gd_cpu_parallel(args->n_threads, fold.kept.numel, SERIAL_LIMIT / n + 1, kept_block, &fold);
    return ST_OK;
}

#define FOLD_KERNEL(name_x, kind_x)                                                                                    \
    CPU_KERNEL(name_x)                                                                                                 \
    {                                                                                                                  \
        return fold_run(args, kind_x, #name_x);                                                                        \
    }
FOLD_KERNEL(sum_integers, FOLD_SUM)
FOLD_KERNEL(amax, FOLD_MAX)
FOLD_KERNEL(amin, FOLD_MIN)
FOLD_KERNEL(prod, FOLD_PROD)
FOLD_KERNEL(any, FOLD_ANY)
FOLD_KERNEL(all, FOLD_ALL)
FOLD_KERNEL(norm, FOLD_NORM)
FOLD_KERNEL(argmax, FOLD_ARGMAX)
FOLD_KERNEL(argmin, FOLD_ARGMIN)
