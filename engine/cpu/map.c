/* SPDX-License-Identifier: Apache-2.0 */
/* map: merging of dimensions and the loop over innermost stretches. */
#include "cpu/map.h"

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
        int64_t stride[3];
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

int64_t gd_cpu_grid_seek(const gd_cpu_grid_t *grid, int n, int64_t index, int64_t offset_p[3])
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
    int64_t element_bytes;
    gd_cpu_run_func_t run;
    const gd_attrs_t *attrs;
} map_t;

static void map_block(void *arg, int64_t begin, int64_t end)
{
    const map_t *map = arg;
    int last = map->grid.n_dims - 1;
    int n = map->b != NULL ? 3 : 2;
    int64_t size = map->element_bytes;
    int64_t sb = map->b != NULL ? map->grid.stride[2][last] : 0;
    while (begin < end) {
        int64_t offset[3];
        int64_t length = gd_cpu_grid_seek(&map->grid, n, begin, offset);
        length = length < end - begin ? length : end - begin;
        map->run(map->a + offset[1] * size, map->grid.stride[1][last],
                 map->b != NULL ? map->b + offset[2] * size : NULL, sb, map->y + begin * size, length, map->attrs);
        begin += length;
    }
}

void gd_cpu_map(const gd_kernel_args_t *args, int n_in, gd_cpu_run_func_t run)
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
    map.element_bytes = (int64_t)gd_dtype_size((gd_dtype_t)args->out[0].dtype);
    map.run = run;
    map.attrs = args->attrs;
    gd_cpu_parallel(args->n_threads, map.grid.numel, GD_CPU_MAP_GRAIN, map_block, &map);
}
