/* SPDX-License-Identifier: Apache-2.0 */
/* pointwise_loss: elementwise losses and their derivatives. Sums are per block, in f64, and the blocks in order. */
#include <math.h>

#include "cpu/vec/kernels.h"
#include "cpu/vec/sums.h"
#include "gradd/loss.h"

enum { ELEMENTS_PER_BLOCK = 4096 };

typedef struct pointwise {
    int kind, option;
    int which; /* 0: the value, i: the derivative by input i - 1 */
    const void *x, *y, *w, *v;
    const void *dy; /* elementwise, or NULL */
    void *out;
    sums_t sums; /* one: of the values */
    double a, b, factor;
} pointwise_t;

#define T float
#define NAME(name_x) name_x##_f32
#define EXP expf
#define LOG logf
#define LOG1P log1pf
#define POW powf
#define ABS fabsf
#include "cpu/vec/pointwise_loss_body.h"
#undef T
#undef NAME
#undef EXP
#undef LOG
#undef LOG1P
#undef POW
#undef ABS

#define T double
#define NAME(name_x) name_x##_f64
#define EXP exp
#define LOG log
#define LOG1P log1p
#define POW pow
#define ABS fabs
#include "cpu/vec/pointwise_loss_body.h"

static pointwise_t pointwise_init(const gd_view_t *in, const gd_attrs_t *attrs)
{
    return (pointwise_t){.kind = (int)attrs->i[0],
                         .option = (int)attrs->i[2],
                         .x = in[0].data,
                         .y = in[1].data,
                         .w = in[2].data,
                         .v = in[3].data,
                         .a = attrs->f[1],
                         .b = attrs->f[2],
                         .factor = attrs->f[0]};
}

/* in: x[…], y[…], weight[…] or none, pos_weight[…] or none; out: loss[] or [...]. attrs: see the row. */
CPU_KERNEL(pointwise_loss)
{
    const int32_t dtype = args->in[0].dtype;
    if (dtype != GD_DTYPE_F32 && dtype != GD_DTYPE_F64) {
        return gd_cpu_fail_dtype("pointwise_loss", dtype);
    }
    const int64_t n = gd_view_numel(&args->in[0]);
    pointwise_t p = pointwise_init(args->in, args->attrs);
    p.out = args->out[0].data;
    if (args->attrs->i[1] == 0) {
        gd_cpu_parallel(args->n_threads, n, ELEMENTS_PER_BLOCK, dtype == GD_DTYPE_F32 ? map_body_f32 : map_body_f64,
                        &p);
        return ST_OK;
    }
    status_t status = sums_run("pointwise_loss", args->n_threads, n, ELEMENTS_PER_BLOCK,
                               dtype == GD_DTYPE_F32 ? sum_body_f32 : sum_body_f64, &p, 1, &p.sums);
    if (status == ST_OK) {
        number_put(&args->out[0], 0, p.sums.total[0] * p.factor);
    }
    return status;
}

/* in: dloss[] or […], then as above; out: the derivative by input i3. */
CPU_KERNEL(pointwise_loss_backward)
{
    const int32_t dtype = args->in[1].dtype;
    if (dtype != GD_DTYPE_F32 && dtype != GD_DTYPE_F64) {
        return gd_cpu_fail_dtype("pointwise_loss_backward", dtype);
    }
    pointwise_t p = pointwise_init(args->in + 1, args->attrs);
    p.out = args->out[0].data;
    p.which = (int)args->attrs->i[3] + 1;
    if (loss_functions_f32[p.kind][p.which] == NULL) {
        return ST_FAIL(ST_ERR_UNSUPPORTED, "pointwise_loss_backward: loss %d has no gradient with respect to input %d",
                       p.kind, p.which - 1);
    }
    if (args->attrs->i[1] == 0) {
        p.dy = args->in[0].data;
    } else {
        p.factor *= number_get(&args->in[0], 0);
    }
    gd_cpu_parallel(args->n_threads, gd_view_numel(&args->in[1]), ELEMENTS_PER_BLOCK,
                    dtype == GD_DTYPE_F32 ? map_body_f32 : map_body_f64, &p);
    return ST_OK;
}
