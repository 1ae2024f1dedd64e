/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sort: lines along an axis, by merging; stable. Keys are doubles (floats) or 64-bit integers; a NaN is larger than
 * every number. Compiled once.
 */
#include <string.h>

#include "cpu/kernels.h"
#include "cpu/map.h"
#include "cpu/vec/half.h"
#include "gradd/tensor.h"

enum { SHORT_RUN = 16 };

typedef struct item {
    union {
        double f;
        int64_t i;
    } key;
    int64_t place;
} item_t;

typedef struct sorting {
    gd_cpu_grid_t grid; /* of the lines: values, indices, x */
    gd_kernel_args_t args;
    int64_t n;
    int64_t stride[3]; /* along the axis */
    bool is_descending;
    bool is_float;
    bool is_out_of_memory;
} sorting_t;

/* Whether b must come before a, which stood before it. */
static inline bool item_is_after(const sorting_t *s, const item_t *a, const item_t *b)
{
    if (!s->is_float) {
        return s->is_descending ? b->key.i > a->key.i : b->key.i < a->key.i;
    }
    const double x = a->key.f;
    const double y = b->key.f;
    return s->is_descending ? y > x || (y != y && x == x) : y < x || (x != x && y == y);
}

static void run_insert(const sorting_t *s, item_t *items, int64_t n)
{
    for (int64_t i = 1; i < n; i++) {
        const item_t item = items[i];
        int64_t j = i;
        for (; j > 0 && item_is_after(s, &items[j - 1], &item); j--) {
            items[j] = items[j - 1];
        }
        items[j] = item;
    }
}

/* Sorts items[n] by way of other[n]; returns the one of both that holds the result. */
static item_t *items_sort(const sorting_t *s, item_t *items, item_t *other, int64_t n)
{
    for (int64_t i = 0; i < n; i += SHORT_RUN) {
        run_insert(s, items + i, n - i < SHORT_RUN ? n - i : SHORT_RUN);
    }
    for (int64_t width = SHORT_RUN; width < n; width *= 2) {
        for (int64_t i = 0; i < n; i += 2 * width) {
            const int64_t middle = i + width < n ? i + width : n;
            const int64_t end = i + 2 * width < n ? i + 2 * width : n;
            int64_t a = i;
            int64_t b = middle;
            for (int64_t k = i; k < end; k++) {
                const bool is_second = a == middle || (b < end && item_is_after(s, &items[a], &items[b]));
                other[k] = items[is_second ? b++ : a++];
            }
        }
        item_t *sorted = other;
        other = items;
        items = sorted;
    }
    return items;
}

static void item_load(const sorting_t *s, const void *x, int64_t at, item_t *item)
{
    switch (s->args.in[0].dtype) {
    case GD_DTYPE_F32:
        item->key.f = (double)((const float *)x)[at];
        break;
    case GD_DTYPE_F64:
        item->key.f = ((const double *)x)[at];
        break;
    case GD_DTYPE_BF16:
        item->key.f = (double)bf16_to_f32(((const uint16_t *)x)[at]);
        break;
    case GD_DTYPE_F16:
        item->key.f = (double)f16_to_f32(((const uint16_t *)x)[at]);
        break;
    case GD_DTYPE_I64:
        item->key.i = ((const int64_t *)x)[at];
        break;
    case GD_DTYPE_I32:
        item->key.i = ((const int32_t *)x)[at];
        break;
    default:
        item->key.i = ((const uint8_t *)x)[at];
        break;
    }
}

static void lines_sort(void *arg, int64_t begin, int64_t end)
{
    sorting_t *s = arg;
    item_t *items = gd_cpu_scratch(GD_CPU_SLOT_WORKER, (size_t)(2 * s->n) * sizeof(*items));
    if (items == NULL) {
        s->is_out_of_memory = true;
        return;
    }
    const int64_t size = (int64_t)gd_dtype_size((gd_dtype_t)s->args.in[0].dtype);
    for (int64_t line = begin; line < end; line++) {
        int64_t offset[3];
        (void)gd_cpu_grid_seek(&s->grid, 3, line, offset);
        for (int64_t i = 0; i < s->n; i++) {
            item_load(s, s->args.in[0].data, offset[2] + i * s->stride[2], &items[i]);
            items[i].place = i;
        }
        const item_t *sorted = items_sort(s, items, items + s->n, s->n);
        const unsigned char *x = (const unsigned char *)s->args.in[0].data + offset[2] * size;
        unsigned char *values = (unsigned char *)s->args.out[0].data + offset[0] * size;
        int64_t *indices = (int64_t *)s->args.out[1].data + offset[1];
        for (int64_t i = 0; i < s->n; i++) {
            memcpy(values + i * s->stride[0] * size, x + sorted[i].place * s->stride[2] * size, (size_t)size);
            indices[i * s->stride[1]] = sorted[i].place;
        }
    }
}

/* attrs i0 axis, i1 descending */
status_t gd_cpu_sort(const gd_kernel_args_t *args)
{
    const int axis = (int)args->attrs->i[0];
    gd_view_t part[3] = {args->out[0], args->out[1], args->in[0]};
    const gd_view_t *views[3] = {&part[0], &part[1], &part[2]};
    sorting_t s = {.args = *args, .is_descending = args->attrs->i[1] != 0, .n = 1};
    s.is_float = gd_dtype_is_float((gd_dtype_t)args->in[0].dtype);
    for (int k = 0; k < 3; k++) {
        if (part[k].n_dims > 0) {
            s.n = part[k].shape[axis];
            s.stride[k] = part[k].stride[axis];
            part[k].shape[axis] = 1;
        }
    }
    gd_cpu_grid_make(views, 3, &s.grid);
    if (s.grid.numel > 0 && s.n > 0) {
        gd_cpu_parallel(args->n_threads, s.grid.numel, GD_CPU_MAP_GRAIN / s.n + 1, lines_sort, &s);
    }
    return s.is_out_of_memory ? ST_FAIL(ST_ERR_NOMEM, "sort: a line of %lld elements", (long long)s.n) : ST_OK;
}
