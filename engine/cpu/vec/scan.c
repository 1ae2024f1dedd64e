/* SPDX-License-Identifier: Apache-2.0 */
/* scan: sums and products along an axis, each element with all before it; floats in f64. Rows in engine/ops/sort.c. */
#include <stdalign.h>

#include "cpu/map.h"
#include "cpu/vec/elementwise.h"
#include "gradd/tensor.h"

typedef struct scan {
    gd_cpu_grid_t grid; /* of the lines: y, x */
    const unsigned char *x;
    unsigned char *y;
    int64_t size_x, size_y;
    int64_t n;
    int64_t stride[2]; /* y, x */
    int is_reversed;
    int is_product;
    int32_t compute;
    gd_cpu_convert_func_t load, store; /* to and from the type that is computed in */
} scan_t;

enum { PIECE = 512 };

#define SCAN_RUN(type_x, sum_x, add_x, multiply_x)                                                                     \
    static sum_x scan_run_##type_x(const scan_t *s, type_x *line, int64_t n, sum_x sum)                                \
    {                                                                                                                  \
        for (int64_t i = 0; i < n; i++) {                                                                              \
            const sum_x a_ = sum;                                                                                      \
            const sum_x b_ = (sum_x)line[i];                                                                           \
            sum = s->is_product ? multiply_x : add_x;                                                                  \
            line[i] = (type_x)sum;                                                                                     \
        }                                                                                                              \
        return sum;                                                                                                    \
    }
SCAN_RUN(float, double, a_ + b_, a_ *b_)
SCAN_RUN(double, double, a_ + b_, a_ *b_)
SCAN_RUN(int64_t, int64_t, wrap_add(a_, b_), wrap_mul(a_, b_))

static void scan_line(const scan_t *s, const unsigned char *x, unsigned char *y)
{
    alignas(64) unsigned char buffer[PIECE * 8];
    double sum = s->is_product;
    int64_t sum_i64 = s->is_product;
    const int64_t sx = s->is_reversed ? -s->stride[1] : s->stride[1];
    const int64_t sy = s->is_reversed ? -s->stride[0] : s->stride[0];
    if (s->is_reversed) {
        x += (s->n - 1) * s->stride[1] * s->size_x;
        y += (s->n - 1) * s->stride[0] * s->size_y;
    }
    for (int64_t i = 0; i < s->n; i += PIECE) {
        const int64_t n = s->n - i < PIECE ? s->n - i : PIECE;
        s->load(x + i * sx * s->size_x, sx, buffer, 1, n);
        if (s->compute == GD_DTYPE_F32) {
            sum = scan_run_float(s, (float *)(void *)buffer, n, sum);
        } else if (s->compute == GD_DTYPE_F64) {
            sum = scan_run_double(s, (double *)(void *)buffer, n, sum);
        } else {
            sum_i64 = scan_run_int64_t(s, (int64_t *)(void *)buffer, n, sum_i64);
        }
        s->store(buffer, 1, y + i * sy * s->size_y, sy, n);
    }
}

static void scan_block(void *arg, int64_t begin, int64_t end)
{
    const scan_t *s = arg;
    for (int64_t line = begin; line < end; line++) {
        int64_t offset[2];
        (void)gd_cpu_grid_seek(&s->grid, 2, line, offset);
        scan_line(s, s->x + offset[1] * s->size_x, s->y + offset[0] * s->size_y);
    }
}

static status_t scan(const gd_kernel_args_t *args, int is_product, const char *op)
{
    const int axis = (int)args->attrs->i[0];
    gd_view_t part[2] = {args->out[0], args->in[0]};
    const gd_view_t *views[2] = {&part[0], &part[1]};
    scan_t s = {.is_reversed = args->attrs->i[1] != 0, .is_product = is_product, .n = 1};
    for (int k = 0; k < 2; k++) {
        if (part[k].n_dims > 0) {
            s.n = part[k].shape[axis];
            s.stride[k] = part[k].stride[axis];
            part[k].shape[axis] = 1;
        }
    }
    gd_cpu_grid_make(views, 2, &s.grid);
    s.x = args->in[0].data;
    s.y = args->out[0].data;
    s.size_x = (int64_t)gd_dtype_size((gd_dtype_t)args->in[0].dtype);
    s.size_y = (int64_t)gd_dtype_size((gd_dtype_t)args->out[0].dtype);
    s.compute = args->out[0].dtype == GD_DTYPE_F64                  ? GD_DTYPE_F64
                : gd_dtype_is_float((gd_dtype_t)args->out[0].dtype) ? GD_DTYPE_F32
                                                                    : GD_DTYPE_I64;
    s.load = CPU_FN(convert_find)(args->in[0].dtype, s.compute);
    s.store = CPU_FN(convert_find)(s.compute, args->out[0].dtype);
    if (s.load == NULL || s.store == NULL) {
        return gd_cpu_fail_dtype(op, args->in[0].dtype);
    }
    if (s.grid.numel > 0 && s.n > 0) {
        gd_cpu_parallel(args->n_threads, s.grid.numel, GD_CPU_MAP_GRAIN / s.n + 1, scan_block, &s);
    }
    return ST_OK;
}

CPU_KERNEL(cumsum)
{
    return scan(args, 0, "cumsum");
}

CPU_KERNEL(cumprod)
{
    return scan(args, 1, "cumprod");
}
