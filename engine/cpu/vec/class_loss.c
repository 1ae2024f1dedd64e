/* SPDX-License-Identifier: Apache-2.0 */
/* class_loss: losses over rows of classes, in f64 inside a row; rows are summed in blocks, the blocks in order. */
#include "cpu/vec/kernels.h"
#include "cpu/vec/sums.h"
#include "ops/loss_kinds.h"

enum { ROWS_PER_BLOCK = 16 };

typedef struct class_loss {
    int kind, power;
    int32_t target_dtype;
    int64_t n_rows, n_classes, ignore_index;
    const void *x, *targets, *weight;
    const void *dy;          /* a row each, or NULL */
    void *out;               /* a row each, or NULL; backward: dx */
    sums_t sums;             /* of the losses, and of what they are divided by */
    double scale, parameter; /* smoothing or margin */
} class_loss_t;

static int64_t target_at(const class_loss_t *c, int64_t i)
{
    return c->target_dtype == GD_DTYPE_I64 ? ((const int64_t *)c->targets)[i] : ((const int32_t *)c->targets)[i];
}

static int64_t target_get(const class_loss_t *c, int64_t row)
{
    return target_at(c, row);
}

static int64_t label_get(const class_loss_t *c, int64_t row, int64_t k)
{
    return target_at(c, row * c->n_classes + k);
}

#define T float
#define NAME(name_x) name_x##_f32
#include "cpu/vec/class_loss_body.h"
#undef T
#undef NAME
#define T double
#define NAME(name_x) name_x##_f64
#include "cpu/vec/class_loss_body.h"

static class_loss_t class_loss_init(const gd_view_t *x, const gd_view_t *targets, const gd_view_t *weight,
                                    const gd_attrs_t *attrs)
{
    const int64_t n_classes = x->shape[x->n_dims - 1];
    return (class_loss_t){.kind = (int)attrs->i[0],
                          .ignore_index = attrs->i[2],
                          .power = (int)attrs->i[3],
                          .target_dtype = targets->dtype,
                          .n_rows = gd_view_numel(x) / n_classes,
                          .n_classes = n_classes,
                          .x = x->data,
                          .targets = targets->data,
                          .weight = weight != NULL ? weight->data : NULL,
                          .scale = attrs->f[0],
                          .parameter = attrs->f[1]};
}

/* Every label within the classes; several a row end at the first negative one. */
static status_t labels_check(const class_loss_t *c)
{
    const bool is_many = c->kind == GD_CLASS_LOSS_MULTI_LABEL_MARGIN;
    const int64_t n = is_many ? c->n_classes : 1;
    for (int64_t row = 0; row < c->n_rows; row++) {
        for (int64_t k = 0; k < n; k++) {
            const int64_t target = target_at(c, row * n + k);
            if (is_many && target < 0) {
                break;
            }
            const bool is_ignored = c->kind == GD_CLASS_LOSS_NLL && target == c->ignore_index;
            if ((target < 0 || target >= c->n_classes) && !is_ignored) {
                return ST_FAIL(ST_ERR_DATA, "class_loss: label %lld of row %lld is outside 0 … %lld", (long long)target,
                               (long long)row, (long long)c->n_classes - 1);
            }
        }
    }
    return ST_OK;
}

/* in: x[…,C], targets[…] or […,C], weight[C] or none; out: loss[] or [rows], total[]. attrs: see the row. */
CPU_KERNEL(class_loss)
{
    const int32_t dtype = args->in[0].dtype;
    if (dtype != GD_DTYPE_F32 && dtype != GD_DTYPE_F64) {
        return gd_cpu_fail_dtype("class_loss", dtype);
    }
    class_loss_t c = class_loss_init(&args->in[0], &args->in[1], args->n_in > 2 ? &args->in[2] : NULL, args->attrs);
    status_t status = labels_check(&c);
    if (status != ST_OK) {
        return status;
    }
    const int64_t reduction = args->attrs->i[1];
    c.out = reduction == GD_CLASS_EACH ? args->out[0].data : NULL;
    status = sums_run("class_loss", args->n_threads, c.n_rows, ROWS_PER_BLOCK,
                      dtype == GD_DTYPE_F32 ? forward_body_f32 : forward_body_f64, &c, 2, &c.sums);
    if (status != ST_OK) {
        return status;
    }
    const double loss = c.sums.total[0];
    const double total = c.sums.total[1];
    number_put(&args->out[1], 0, total);
    if (reduction != GD_CLASS_EACH) {
        number_put(&args->out[0], 0, c.scale * (reduction == GD_CLASS_MEAN ? loss / total : loss));
    }
    return ST_OK;
}

/* in: dloss[] or [rows], x[…,C], targets, total[], weight[C] or none; out: dx[…,C]. */
CPU_KERNEL(class_loss_backward)
{
    const int32_t dtype = args->in[1].dtype;
    if (dtype != GD_DTYPE_F32 && dtype != GD_DTYPE_F64) {
        return gd_cpu_fail_dtype("class_loss_backward", dtype);
    }
    class_loss_t c = class_loss_init(&args->in[1], &args->in[2], args->n_in > 4 ? &args->in[4] : NULL, args->attrs);
    status_t status = labels_check(&c);
    if (status != ST_OK) {
        return status;
    }
    c.out = args->out[0].data;
    if (args->attrs->i[1] == GD_CLASS_EACH) {
        c.dy = args->in[0].data;
    } else {
        c.scale *= number_get(&args->in[0], 0);
        c.scale /= args->attrs->i[1] == GD_CLASS_MEAN ? number_get(&args->in[3], 0) : 1;
    }
    gd_cpu_parallel(args->n_threads, c.n_rows, ROWS_PER_BLOCK,
                    dtype == GD_DTYPE_F32 ? backward_body_f32 : backward_body_f64, &c);
    return ST_OK;
}
