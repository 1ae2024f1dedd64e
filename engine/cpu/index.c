/* SPDX-License-Identifier: Apache-2.0 */
/*
 * index: joining, gathering, scattering, padding. Compiled once: memory decides here, not the instruction set.
 *
 * Note [Lines]: gather and scatter along an axis work on lines, the elements that differ in that axis only. Lines
 * don't touch each other, so they may be dealt to threads; inside a line the index is followed in order. Neighbouring
 * lines are walked together, in whichever order runs along memory.
 */
#include <string.h>

#include "cpu/kernels.h"
#include "cpu/map.h"
#include "cpu/vec/half.h"
#include "gradd/tensor.h"

/* y = x converted and broadcast, through the kernel behind gd_tensor_copy. */
static status_t view_copy(const gd_kernel_args_t *args, const gd_view_t *x, const gd_view_t *y)
{
    gd_view_t out = *y;
    const gd_attrs_t attrs = {.i = {y->dtype}};
    const gd_kernel_args_t copy = {
        .in = x, .n_in = 1, .out = &out, .n_out = 1, .attrs = &attrs, .n_threads = args->n_threads};
    return gd_cpu_kernel(GD_OP_CAST)(&copy);
}

static void view_advance(gd_view_t *v, int axis, int64_t by)
{
    v->data = (unsigned char *)v->data + by * v->stride[axis] * (int64_t)gd_dtype_size((gd_dtype_t)v->dtype);
}

status_t gd_cpu_cat(const gd_kernel_args_t *args)
{
    const int axis = (int)args->attrs->i[0];
    gd_view_t part = args->out[0];
    for (int i = 0; i < args->n_in && args->in[i].data != NULL; i++) {
        part.shape[axis] = args->in[i].shape[axis];
        status_t status = view_copy(args, &args->in[i], &part);
        if (status != ST_OK) {
            return status;
        }
        view_advance(&part, axis, part.shape[axis]);
    }
    return ST_OK;
}

status_t gd_cpu_pad(const gd_kernel_args_t *args)
{
    gd_view_t part = args->out[0];
    double value = args->attrs->f[0];
    const gd_view_t filling = {.data = &value, .dtype = GD_DTYPE_F64};
    status_t status = view_copy(args, &filling, &part);
    for (int i = 0; i < part.n_dims; i++) {
        view_advance(&part, i, args->attrs->i[i]);
        part.shape[i] = args->in[0].shape[i];
    }
    return status == ST_OK ? view_copy(args, &args->in[0], &part) : status;
}

/* attrs i0: the diagonal, i1: above it; x is contiguous. */
status_t gd_cpu_triangle(const gd_kernel_args_t *args)
{
    const gd_view_t *x = &args->in[0];
    const int64_t rows = x->shape[x->n_dims - 2];
    const int64_t columns = x->shape[x->n_dims - 1];
    const int64_t size = (int64_t)gd_dtype_size((gd_dtype_t)x->dtype);
    const int64_t n = columns > 0 ? gd_view_numel(x) / columns : 0;
    for (int64_t row = 0; row < n; row++) {
        const unsigned char *from = (const unsigned char *)x->data + row * columns * size;
        unsigned char *to = (unsigned char *)args->out[0].data + row * columns * size;
        /* columns below `cut` are on or below the diagonal (for the upper triangle: below it) */
        int64_t cut = row % rows + args->attrs->i[0] + (args->attrs->i[1] == 0);
        cut = cut < 0 ? 0 : cut > columns ? columns : cut;
        const int64_t begin = args->attrs->i[1] != 0 ? cut : 0;
        const int64_t end = args->attrs->i[1] != 0 ? columns : cut;
        memset(to, 0, (size_t)(columns * size));
        memcpy(to + begin * size, from + begin * size, (size_t)((end - begin) * size));
    }
    return ST_OK;
}

/* ---- lines: see Note [Lines] ---- */

typedef struct lines {
    gd_cpu_grid_t grid; /* of the lines: table (x of gather, y of scatter), values (y of gather, source), index */
    unsigned char *table;
    unsigned char *values;
    const int64_t *index;
    int64_t n;         /* elements a line, of index */
    int64_t stride[3]; /* along the axis: table, values, index */
    int64_t size;      /* bytes an element */
    int32_t dtype;
    bool is_add;
    bool is_scatter;
} lines_t;

status_t gd_cpu_index_check(const char *op, const gd_view_t *index, int axis, int64_t size)
{
    gd_cpu_grid_t grid;
    gd_view_t once = *index; /* what is expanded is looked at once */
    for (int d = 0; d < once.n_dims; d++) {
        once.shape[d] = once.stride[d] == 0 && once.shape[d] > 1 ? 1 : once.shape[d];
    }
    const gd_view_t *views[1] = {&once};
    gd_cpu_grid_make(views, 1, &grid);
    const int64_t stride = grid.stride[0][grid.n_dims - 1];
    for (int64_t i = 0; i < grid.numel;) {
        int64_t offset = 0;
        const int64_t n = gd_cpu_grid_seek(&grid, 1, i, &offset);
        const int64_t *at = (const int64_t *)index->data + offset;
        for (int64_t j = 0; j < n; j++) {
            if (at[j * stride] < 0 || at[j * stride] >= size) {
                return ST_FAIL(ST_ERR_RANGE, "%s: index %lld (element %lld of the index) for axis %d of size %lld", op,
                               (long long)at[j * stride], (long long)(i + j), axis, (long long)size);
            }
        }
        i += n;
    }
    return ST_OK;
}

/* table[t] += value, as the dtype computes it */
static void element_add(int32_t dtype, unsigned char *table, int64_t t, const unsigned char *values, int64_t v)
{
    switch (dtype) {
    case GD_DTYPE_F32:
        ((float *)(void *)table)[t] += ((const float *)(const void *)values)[v];
        break;
    case GD_DTYPE_F64:
        ((double *)(void *)table)[t] += ((const double *)(const void *)values)[v];
        break;
    case GD_DTYPE_BF16: {
        uint16_t *to = (uint16_t *)(void *)table + t;
        *to = bf16_from_f32(bf16_to_f32(*to) + bf16_to_f32(((const uint16_t *)(const void *)values)[v]));
        break;
    }
    case GD_DTYPE_F16: {
        uint16_t *to = (uint16_t *)(void *)table + t;
        *to = f16_from_f32(f16_to_f32(*to) + f16_to_f32(((const uint16_t *)(const void *)values)[v]));
        break;
    }
    case GD_DTYPE_I64:
        ((uint64_t *)(void *)table)[t] += ((const uint64_t *)(const void *)values)[v];
        break;
    case GD_DTYPE_I32:
        ((uint32_t *)(void *)table)[t] += ((const uint32_t *)(const void *)values)[v];
        break;
    case GD_DTYPE_BOOL:
        table[t] = table[t] != 0 || values[v] != 0;
        break;
    default:
        table[t] = (unsigned char)(table[t] + values[v]);
        break;
    }
}

/* n elements with the same place in the index: rows of table and values. */
static void row_move(const lines_t *l, unsigned char *table, int64_t st, unsigned char *values, int64_t sv, int64_t n)
{
    if (l->is_add) {
        if (l->dtype == GD_DTYPE_F32 && st == 1 && sv == 1) {
            float *to = (float *)(void *)table;
            const float *from = (const float *)(const void *)values;
            for (int64_t i = 0; i < n; i++) {
                to[i] += from[i];
            }
            return;
        }
        for (int64_t i = 0; i < n; i++) {
            element_add(l->dtype, table, i * st, values, i * sv);
        }
        return;
    }
    unsigned char *to = l->is_scatter ? table : values;
    const unsigned char *from = l->is_scatter ? values : table;
    const int64_t s_to = (l->is_scatter ? st : sv) * l->size;
    const int64_t s_from = (l->is_scatter ? sv : st) * l->size;
    if (s_to == l->size && s_from == l->size) {
        memcpy(to, from, (size_t)(n * l->size));
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        memcpy(to + i * s_to, from + i * s_from, (size_t)l->size);
    }
}

static void lines_block(void *arg, int64_t begin, int64_t end)
{
    const lines_t *l = arg;
    const int last = l->grid.n_dims - 1;
    const int64_t st = l->grid.stride[0][last];
    const int64_t sv = l->grid.stride[1][last];
    const int64_t si = l->grid.stride[2][last];
    while (begin < end) {
        int64_t offset[3];
        int64_t n_lines = gd_cpu_grid_seek(&l->grid, 3, begin, offset);
        n_lines = n_lines < end - begin ? n_lines : end - begin;
        unsigned char *table = l->table + offset[0] * l->size;
        unsigned char *values = l->values + offset[1] * l->size;
        const int64_t *index = l->index + offset[2];
        if (si == 0) { /* one index for all of these lines */
            for (int64_t j = 0; j < l->n; j++) {
                row_move(l, table + index[j * l->stride[2]] * l->stride[0] * l->size, st,
                         values + j * l->stride[1] * l->size, sv, n_lines);
            }
        } else {
            for (int64_t line = 0; line < n_lines; line++) {
                for (int64_t j = 0; j < l->n; j++) {
                    const int64_t to = line * st + index[line * si + j * l->stride[2]] * l->stride[0];
                    row_move(l, table + to * l->size, 0, values + (line * sv + j * l->stride[1]) * l->size, 0, 1);
                }
            }
        }
        begin += n_lines;
    }
}

static void lines_run(lines_t *l, const gd_view_t *table, const gd_view_t *values, const gd_view_t *index, int axis,
                      int n_threads)
{
    gd_view_t part[3] = {*table, *values, *index};
    for (int k = 0; k < 3; k++) {
        l->stride[k] = part[k].n_dims > 0 ? part[k].stride[axis] : 0;
        for (int d = 0; d < index->n_dims; d++) {
            part[k].shape[d] = d == axis ? 1 : index->shape[d];
        }
    }
    /* table may be larger than the index off the axis: its lines beyond are left alone */
    const gd_view_t *views[3] = {&part[0], &part[1], &part[2]};
    gd_cpu_grid_make(views, 3, &l->grid);
    l->n = index->n_dims > 0 ? index->shape[axis] : 1;
    l->table = table->data;
    l->values = values->data;
    l->index = index->data;
    l->dtype = table->dtype;
    l->size = (int64_t)gd_dtype_size((gd_dtype_t)table->dtype);
    if (l->grid.numel > 0 && l->n > 0) {
        gd_cpu_parallel(n_threads, l->grid.numel, GD_CPU_MAP_GRAIN / l->n + 1, lines_block, l);
    }
}

status_t gd_cpu_gather(const gd_kernel_args_t *args)
{
    const int axis = (int)args->attrs->i[0];
    const gd_view_t *x = &args->in[0];
    const gd_view_t *index = &args->in[1];
    status_t status = gd_cpu_index_check("gather", index, axis, x->n_dims > 0 ? x->shape[axis] : 1);
    if (status == ST_OK) {
        lines_t l = {.is_scatter = false};
        lines_run(&l, x, &args->out[0], index, axis, args->n_threads);
    }
    return status;
}

/* y = x (absent: 0), then source[…, j, …] into (i1 = 0) or onto (1) y[…, index[…, j, …], …]. */
status_t gd_cpu_scatter(const gd_kernel_args_t *args)
{
    const int axis = (int)args->attrs->i[0];
    const gd_view_t *index = &args->in[1];
    const gd_view_t *y = &args->out[0];
    status_t status = gd_cpu_index_check("scatter", index, axis, y->n_dims > 0 ? y->shape[axis] : 1);
    if (status != ST_OK) {
        return status;
    }
    if (args->in[2].data != NULL) {
        status = view_copy(args, &args->in[2], y);
    } else {
        memset(y->data, 0, (size_t)gd_view_numel(y) * gd_dtype_size((gd_dtype_t)y->dtype));
    }
    if (status == ST_OK) {
        lines_t l = {.is_scatter = true, .is_add = args->attrs->i[1] != 0};
        lines_run(&l, y, &args->in[0], index, axis, args->n_threads);
    }
    return status;
}

/* ---- nonzero; x is contiguous ---- */

static bool element_is_set(int32_t dtype, const void *x, int64_t i)
{
    switch (dtype) {
    case GD_DTYPE_F32:
        return ((const float *)x)[i] != 0;
    case GD_DTYPE_F64:
        return ((const double *)x)[i] != 0;
    case GD_DTYPE_BF16:
    case GD_DTYPE_F16:
        return (((const uint16_t *)x)[i] & 0x7FFF) != 0;
    case GD_DTYPE_I64:
        return ((const int64_t *)x)[i] != 0;
    case GD_DTYPE_I32:
        return ((const int32_t *)x)[i] != 0;
    default:
        return ((const uint8_t *)x)[i] != 0;
    }
}

int64_t gd_cpu_count_nonzero(const gd_view_t *x)
{
    gd_cpu_grid_t grid;
    int64_t n = 0;
    gd_cpu_grid_make(&x, 1, &grid);
    for (int64_t i = 0; i < grid.numel;) {
        int64_t offset = 0;
        const int64_t length = gd_cpu_grid_seek(&grid, 1, i, &offset);
        for (int64_t j = 0; j < length; j++) {
            n += element_is_set(x->dtype, x->data, offset + j * grid.stride[0][grid.n_dims - 1]);
        }
        i += length;
    }
    return n;
}

status_t gd_cpu_nonzero(const gd_kernel_args_t *args)
{
    const gd_view_t *x = &args->in[0];
    const int64_t n = gd_view_numel(x);
    int64_t *y = args->out[0].data;
    for (int64_t i = 0; i < n; i++) {
        if (element_is_set(x->dtype, x->data, i)) {
            int64_t rest = i;
            for (int d = x->n_dims - 1; d >= 0; d--) {
                y[d] = rest % x->shape[d];
                rest /= x->shape[d];
            }
            y += x->n_dims;
        }
    }
    return ST_OK;
}
