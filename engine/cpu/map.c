/* SPDX-License-Identifier: Apache-2.0 */
/* map: merging of dimensions and the loop over innermost stretches. */
#include "cpu/map.h"

#include <stdalign.h>

#include "gradd/tensor.h"

/* Stride of view along dimension i of a shape with n_dims dimensions; 0 where it is broadcast. */
static int64_t aligned_stride(const gd_view_t *view, int n_dims, int i)
{
    int own = i - (n_dims - view->n_dims);
    return own < 0 || view->shape[own] == 1 ? 0 : view->stride[own];
}

void gd_cpu_grid_make(const gd_view_t *const *views, int n, gd_cpu_grid_t *grid_p)
{
    const gd_view_t *shape = views[0];
    int last = -1;
    grid_p->numel = 1;
    for (int i = 0; i < shape->n_dims; i++) {
        int64_t size = shape->shape[i];
        grid_p->numel *= size;
        if (size == 1) {
            continue;
        }
        int64_t stride[GD_CPU_GRID_VIEWS];
        int is_merged = last >= 0;
        for (int k = 0; k < n; k++) {
            stride[k] = aligned_stride(views[k], shape->n_dims, i);
            is_merged = is_merged && grid_p->stride[k][last] == stride[k] * size;
        }
        if (is_merged) {
            grid_p->size[last] *= size;
        } else {
            grid_p->size[++last] = size;
        }
        for (int k = 0; k < n; k++) {
            grid_p->stride[k][last] = stride[k];
        }
    }
    if (last < 0) {
        last = 0;
        grid_p->size[0] = 1;
        for (int k = 0; k < n; k++) {
            grid_p->stride[k][0] = 1;
        }
    }
    grid_p->n_dims = last + 1;
}

void gd_cpu_grid_split(const gd_view_t *x, int64_t axes, gd_cpu_grid_t *kept_p, gd_cpu_grid_t *reduced_p)
{
    gd_view_t kept = {.data = x->data, .dtype = x->dtype};
    gd_view_t reduced = kept;
    for (int i = 0; i < x->n_dims; i++) {
        gd_view_t *part = (axes >> i & 1) != 0 ? &reduced : &kept;
        part->shape[part->n_dims] = x->shape[i];
        part->stride[part->n_dims++] = x->stride[i];
    }
    gd_cpu_grid_make((const gd_view_t *const[]){&kept}, 1, kept_p);
    gd_cpu_grid_make((const gd_view_t *const[]){&reduced}, 1, reduced_p);
}

int64_t gd_cpu_grid_seek(const gd_cpu_grid_t *grid, int n, int64_t index, int64_t *offset_p)
{
    int last = grid->n_dims - 1;
    int64_t left = 0;
    for (int k = 0; k < n; k++) {
        offset_p[k] = 0;
    }
    for (int d = last; d >= 0; d--) {
        int64_t at = d > 0 ? index % grid->size[d] : index;
        index = d > 0 ? index / grid->size[d] : 0;
        left = d == last ? grid->size[d] - at : left;
        for (int k = 0; k < n; k++) {
            offset_p[k] += at * grid->stride[k][d];
        }
    }
    return left;
}

typedef struct map {
    gd_cpu_grid_t grid;
    const unsigned char *a;
    const unsigned char *b;
    unsigned char *y;
    int64_t size_a, size_b, size_y; /* bytes an element */
    gd_cpu_run_func_t run;
    const gd_attrs_t *attrs;
    gd_cpu_casts_t casts;
} map_t;

static void map_block(void *arg, int64_t begin, int64_t end)
{
    const map_t *map = arg;
    int last = map->grid.n_dims - 1;
    int n = map->b != NULL ? 3 : 2;
    int64_t sb = map->b != NULL ? map->grid.stride[2][last] : 0;
    while (begin < end) {
        int64_t offset[3];
        int64_t length = gd_cpu_grid_seek(&map->grid, n, begin, offset);
        length = length < end - begin ? length : end - begin;
        map->run(map->a + offset[1] * map->size_a, map->grid.stride[1][last],
                 map->b != NULL ? map->b + offset[2] * map->size_b : NULL, sb, map->y + begin * map->size_y, length,
                 map->attrs);
        begin += length;
    }
}

enum { CAST_CHUNK = 512 };

/* x[n] as run takes it: itself, or converted into buffer, one element where it is broadcast. */
static const void *operand_get(gd_cpu_convert_func_t convert, const unsigned char *x, int64_t *stride, int64_t n,
                               void *buffer)
{
    if (convert == NULL || x == NULL) {
        return x;
    }
    convert(x, *stride, buffer, 1, *stride == 0 ? 1 : n);
    *stride = *stride == 0 ? 0 : 1;
    return buffer;
}

static void cast_block(void *arg, int64_t begin, int64_t end)
{
    const map_t *map = arg;
    const int last = map->grid.n_dims - 1;
    const int n_views = map->b != NULL ? 3 : 2;
    alignas(64) unsigned char buffer_a[CAST_CHUNK * 8];
    alignas(64) unsigned char buffer_b[CAST_CHUNK * 8];
    alignas(64) unsigned char buffer_y[CAST_CHUNK * 8];
    while (begin < end) {
        int64_t offset[3] = {0};
        int64_t n = gd_cpu_grid_seek(&map->grid, n_views, begin, offset);
        n = n < end - begin ? n : end - begin;
        n = n < CAST_CHUNK ? n : CAST_CHUNK;
        int64_t sa = map->grid.stride[1][last];
        int64_t sb = map->b != NULL ? map->grid.stride[2][last] : 0;
        const void *a = operand_get(map->casts.in[0], map->a + offset[1] * map->size_a, &sa, n, buffer_a);
        const void *b =
            operand_get(map->casts.in[1], map->b != NULL ? map->b + offset[2] * map->size_b : NULL, &sb, n, buffer_b);
        unsigned char *y = map->y + begin * map->size_y;
        map->run(a, sa, b, sb, map->casts.out != NULL ? (void *)buffer_y : y, n, map->attrs);
        if (map->casts.out != NULL) {
            map->casts.out(buffer_y, 1, y, 1, n);
        }
        begin += n;
    }
}

static void map_run(const gd_kernel_args_t *args, int n_in, gd_cpu_run_func_t run, const gd_cpu_casts_t *casts)
{
    map_t map;
    const gd_view_t *views[3] = {&args->out[0], &args->in[0], n_in > 1 ? &args->in[1] : NULL};
    gd_cpu_grid_make(views, n_in + 1, &map.grid);
    if (map.grid.numel == 0) {
        return;
    }
    map.a = args->in[0].data;
    map.b = n_in > 1 ? args->in[1].data : NULL;
    map.y = args->out[0].data;
    map.size_a = (int64_t)gd_dtype_size((gd_dtype_t)args->in[0].dtype);
    map.size_b = n_in > 1 ? (int64_t)gd_dtype_size((gd_dtype_t)args->in[1].dtype) : 0;
    map.size_y = (int64_t)gd_dtype_size((gd_dtype_t)args->out[0].dtype);
    map.run = run;
    map.attrs = args->attrs;
    if (casts != NULL) {
        map.casts = *casts;
    }
    gd_cpu_parallel(args->n_threads, map.grid.numel, GD_CPU_MAP_GRAIN, casts != NULL ? cast_block : map_block, &map);
}

void gd_cpu_map(const gd_kernel_args_t *args, int n_in, gd_cpu_run_func_t run)
{
    map_run(args, n_in, run, NULL);
}

void gd_cpu_map_cast(const gd_kernel_args_t *args, int n_in, gd_cpu_run_func_t run, const gd_cpu_casts_t *casts)
{
    map_run(args, n_in, run, casts);
}

int32_t gd_cpu_result_dtype(const gd_view_t *views, int n)
{
    gd_dtype_t dtypes[GD_MAX_IN];
    int n_dims[GD_MAX_IN];
    for (int i = 0; i < n; i++) {
        dtypes[i] = (gd_dtype_t)views[i].dtype;
        n_dims[i] = views[i].n_dims;
    }
    return (int32_t)gd_dtype_result(dtypes, n_dims, n);
}
