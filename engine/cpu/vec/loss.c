/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loss: cross-entropy and squared error. Rows are summed in blocks of a fixed number of rows, in f64, and the blocks in
 * order.
 */
#include <stdatomic.h>

#include "cpu/vec/half.h"
#include "cpu/vec/kernels.h"
#include "cpu/vec/scores.h"
#include "cpu/vec/simd.h"
#include "cpu/vec/sums.h"
#include "cpu/vec/vecmath.h"

enum { ROWS_PER_BLOCK = 16, ELEMENTS_PER_BLOCK = 4096 };

typedef struct cross_entropy {
    int64_t n_rows;
    int64_t n_classes;
    const void *logits;
    const void *targets;
    void *logsumexp; /* forward writes it, backward reads it */
    void *dlogits;
    sums_t sums;              /* of the losses, and how many are right */
    const void *class_weight; /* slope: NULL: 1 for each */
    double mean_weight;
    double scale; /* backward: of the loss's gradient */
    double smoothing;
    int64_t ignore_index;
    int32_t target_dtype;
    int32_t dtype; /* of logits and dlogits; the rest is f32 beside 16 bits */
    atomic_bool is_out_of_memory;
} cross_entropy_t;

/* A row of f32 for 16-bit logits; a thread that gets none says so and does nothing. */
static float *row_buffer(cross_entropy_t *c)
{
    static float unused;
    if (!half_is(c->dtype)) {
        return &unused;
    }
    float *buffer = gd_cpu_scratch(GD_CPU_SLOT_WORKER, (size_t)c->n_classes * sizeof(float));
    if (buffer == NULL) {
        atomic_store(&c->is_out_of_memory, true);
    }
    return buffer;
}

static status_t cross_entropy_end(cross_entropy_t *c, const char *op)
{
    return !atomic_load(&c->is_out_of_memory)
               ? ST_OK
               : ST_FAIL(ST_ERR_NOMEM, "%s: scratch memory for rows of %lld", op, (long long)c->n_classes);
}

static int64_t target_get(const cross_entropy_t *c, int64_t row)
{
    return c->target_dtype == GD_DTYPE_I64 ? ((const int64_t *)c->targets)[row] : ((const int32_t *)c->targets)[row];
}

/* Whether logit `target` is the largest, the first of equal ones. */
static bool is_first_f32(const float *x, int64_t target, float most)
{
    if (!(x[target] >= most)) {
        return false;
    }
    for (int64_t i = 0; i < target; i++) {
        if (x[i] >= most) {
            return false;
        }
    }
    return true;
}

static bool is_first_f64(const double *x, int64_t target, double most)
{
    for (int64_t i = 0; i < target; i++) {
        if (x[i] >= most) {
            return false;
        }
    }
    return x[target] >= most;
}

/* sum exp(x - most) over x[n]; a NaN anywhere gives NaN. */
static float row_sum_exp_f32(const float *x, int64_t n, float most)
{
    float sum = 0.0F;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++) {
        sum += vec_exp(x[i] - most);
    }
    return sum;
}

/* sum of w[i] x[i] */
static float row_dot_f32(const float *w, const float *x, int64_t n)
{
    float sum = 0.0F;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++) {
        sum += w[i] * x[i];
    }
    return sum;
}

static void cross_entropy_block_f32(void *arg, int64_t begin, int64_t end)
{
    cross_entropy_t *c = arg;
    const int64_t n = c->n_classes;
    double loss = 0.0;
    int64_t n_correct = 0;
    float *buffer = row_buffer(c);
    if (buffer == NULL) {
        return;
    }
    for (int64_t row = begin; row < end; row++) {
        const float *x = half_row(c->logits, c->dtype, row * n, n, buffer);
        const int64_t target = target_get(c, row);
        const float most = simd_row_max(x, n);
        const double logsumexp = (double)most + (double)logf(row_sum_exp_f32(x, n, most));
        ((float *)c->logsumexp)[row] = (float)logsumexp;
        if (target == c->ignore_index) {
            continue;
        }
        loss += logsumexp - (1.0 - c->smoothing) * (double)x[target];
        if (c->smoothing > 0.0) {
            loss -= c->smoothing * (double)simd_row_sum(x, n) / (double)n;
        }
        n_correct += is_first_f32(x, target, most);
    }
    c->sums.of_block[0][begin / ROWS_PER_BLOCK] = loss;
    c->sums.of_block[1][begin / ROWS_PER_BLOCK] = (double)n_correct;
}

static void cross_entropy_block_f64(void *arg, int64_t begin, int64_t end)
{
    const cross_entropy_t *c = arg;
    const int64_t n = c->n_classes;
    double loss = 0.0;
    int64_t n_correct = 0;
    for (int64_t row = begin; row < end; row++) {
        const double *x = (const double *)c->logits + row * n;
        const int64_t target = target_get(c, row);
        double most = x[0], sum_exp = 0.0, sum = 0.0;
        for (int64_t i = 1; i < n; i++) {
            most = x[i] > most ? x[i] : most;
        }
        for (int64_t i = 0; i < n; i++) {
            sum_exp += exp(x[i] - most);
            sum += x[i];
        }
        const double logsumexp = most + log(sum_exp);
        ((double *)c->logsumexp)[row] = logsumexp;
        if (target == c->ignore_index) {
            continue;
        }
        loss += logsumexp - (1.0 - c->smoothing) * x[target] - c->smoothing * sum / (double)n;
        n_correct += is_first_f64(x, target, most);
    }
    c->sums.of_block[0][begin / ROWS_PER_BLOCK] = loss;
    c->sums.of_block[1][begin / ROWS_PER_BLOCK] = (double)n_correct;
}

static status_t targets_check(const char *op, const cross_entropy_t *c)
{
    for (int64_t row = 0; row < c->n_rows; row++) {
        const int64_t target = target_get(c, row);
        if ((target < 0 || target >= c->n_classes) && target != c->ignore_index) {
            return ST_FAIL(ST_ERR_DATA, "%s: label %lld of row %lld is outside 0 … %lld", op, (long long)target,
                           (long long)row, (long long)c->n_classes - 1);
        }
    }
    return ST_OK;
}

/* Checks dtype and targets. */
static status_t cross_entropy_init(const char *op, const gd_view_t *logits, const gd_view_t *targets,
                                   const gd_attrs_t *attrs, cross_entropy_t *c)
{
    if (!gd_dtype_is_float((gd_dtype_t)logits->dtype)) {
        return gd_cpu_fail_dtype(op, logits->dtype);
    }
    c->n_rows = gd_view_numel(targets);
    c->n_classes = logits->shape[logits->n_dims - 1];
    c->logits = logits->data;
    c->targets = targets->data;
    c->scale = attrs->f[0];
    c->smoothing = attrs->f[1];
    c->ignore_index = attrs->i[0];
    c->target_dtype = targets->dtype;
    c->dtype = logits->dtype;
    return targets_check(op, c);
}

/* Works the rows off block by block, and sums what the blocks leave, in order. */
static status_t cross_entropy_run(const gd_kernel_args_t *args, cross_entropy_t *c, const char *op,
                                  gd_cpu_bodies_t blocks, gd_view_t *loss_p, gd_view_t *n_correct_p)
{
    status_t status = sums_run(op, args->n_threads, c->n_rows, ROWS_PER_BLOCK,
                               c->dtype == GD_DTYPE_F64 ? blocks.f64 : blocks.f32, c, 2, &c->sums);
    if (status == ST_OK) {
        status = cross_entropy_end(c, op);
    }
    if (status != ST_OK) {
        return status;
    }
    number_put(loss_p, 0, c->sums.total[0] * c->scale);
    *(int64_t *)n_correct_p->data = (int64_t)c->sums.total[1];
    return ST_OK;
}

/* in: logits[…,V], targets[…]; out: loss[], logsumexp[N], n_correct[] (i64). */
CPU_KERNEL(cross_entropy)
{
    cross_entropy_t c = {.logsumexp = args->out[1].data};
    status_t status = cross_entropy_init("cross_entropy", &args->in[0], &args->in[1], args->attrs, &c);
    if (status != ST_OK) {
        return status;
    }
    return cross_entropy_run(args, &c, "cross_entropy",
                             (gd_cpu_bodies_t){cross_entropy_block_f32, cross_entropy_block_f64}, &args->out[0],
                             &args->out[2]);
}

/* A row whose target is ignored has the slope 0. */
static bool row_is_ignored(const cross_entropy_t *c, int64_t row, int64_t target)
{
    if (target != c->ignore_index) {
        return false;
    }
    const size_t size = (size_t)c->n_classes * gd_dtype_size((gd_dtype_t)c->dtype);
    memset((char *)c->dlogits + (size_t)row * size, 0, size);
    return true;
}

static void cross_entropy_backward_block_f32(void *arg, int64_t begin, int64_t end)
{
    cross_entropy_t *c = arg;
    const int64_t n = c->n_classes;
    const float scale = (float)c->scale;
    const float spread = (float)(c->scale * c->smoothing / (double)n);
    float *buffer = row_buffer(c);
    for (int64_t row = begin; row < end && buffer != NULL; row++) {
        const int64_t target = target_get(c, row);
        if (row_is_ignored(c, row, target)) {
            continue;
        }
        const float *x = half_row(c->logits, c->dtype, row * n, n, buffer);
        float *dx = half_row_open(c->dlogits, c->dtype, row * n, buffer);
        float offset = ((const float *)c->logsumexp)[row], factor = scale;
        if (fabsf(offset) > LOGSUMEXP_MOST) {
            offset = simd_row_max(x, n);
            factor /= row_sum_exp_f32(x, n, offset);
        }
#pragma omp simd
        for (int64_t i = 0; i < n; i++) {
            dx[i] = factor * vec_exp(x[i] - offset) - spread;
        }
        dx[target] -= (float)(c->scale * (1.0 - c->smoothing));
        half_row_put(dx, c->dlogits, c->dtype, row * n, n);
    }
}

static void cross_entropy_backward_block_f64(void *arg, int64_t begin, int64_t end)
{
    const cross_entropy_t *c = arg;
    const int64_t n = c->n_classes;
    for (int64_t row = begin; row < end; row++) {
        const double *x = (const double *)c->logits + row * n;
        double *dx = (double *)c->dlogits + row * n;
        const int64_t target = target_get(c, row);
        for (int64_t i = 0; i < n; i++) {
            const double onehot = i == target ? 1.0 - c->smoothing : 0.0;
            const double softmax = exp(x[i] - ((const double *)c->logsumexp)[row]);
            dx[i] = target == c->ignore_index ? 0.0 : c->scale * (softmax - onehot - c->smoothing / (double)n);
        }
    }
}

/* in: dloss[], logits[…,V], targets[…], logsumexp[N]; out: dlogits[…,V]. */
CPU_KERNEL(cross_entropy_backward)
{
    cross_entropy_t c = {.logsumexp = args->in[3].data, .dlogits = args->out[0].data};
    status_t status = cross_entropy_init("cross_entropy_backward", &args->in[1], &args->in[2], args->attrs, &c);
    if (status != ST_OK) {
        return status;
    }
    c.scale *= number_get(&args->in[0], 0);
    gd_cpu_parallel(args->n_threads, c.n_rows, ROWS_PER_BLOCK,
                    c.dtype == GD_DTYPE_F64 ? cross_entropy_backward_block_f64 : cross_entropy_backward_block_f32, &c);
    return cross_entropy_end(&c, "cross_entropy_backward");
}

/* ---- value and slope in one pass ---- */

/*
 * Note [A row is read once]: where the gradient that will flow into the loss is known to be 1, a row's loss and slope
 * are made together: exp(x - max) is kept where the slope is to stand, which may be where the logits stand, and scaled
 * when its sum is known; so a row is read from memory once and its exponentials are formed once.
 *   loss_n = (1-s) w[t] (lse - x[t]) + s / V sum_v w[v] (lse - x[v])
 *   slope[v] = share softmax(x)[v] - (1-s) w[t] [v = t] - s / V w[v],  share = (1-s) w[t] + s / V sum_v w[v]
 */
typedef struct row_share {
    double of_target; /* (1-s) w[t] */
    double of_all;    /* s / V */
    double total;     /* what the logsumexp counts */
} row_share_t;

static row_share_t row_share(const cross_entropy_t *c, double target_weight)
{
    const double of_target = (1.0 - c->smoothing) * target_weight;
    return (row_share_t){
        .of_target = of_target,
        .of_all = c->smoothing / (double)c->n_classes,
        .total = of_target + c->smoothing * c->mean_weight,
    };
}

static void cross_entropy_slope_block_f32(void *arg, int64_t begin, int64_t end)
{
    cross_entropy_t *c = arg;
    const int64_t n = c->n_classes;
    const float *w = c->class_weight;
    double loss = 0.0;
    int64_t n_correct = 0;
    float *buffer = row_buffer(c);
    for (int64_t row = begin; row < end && buffer != NULL; row++) {
        const int64_t target = target_get(c, row);
        if (row_is_ignored(c, row, target)) {
            continue;
        }
        const float *x = half_row(c->logits, c->dtype, row * n, n, buffer);
        float *dx = half_row_open(c->dlogits, c->dtype, row * n, buffer);
        const row_share_t share = row_share(c, w != NULL ? (double)w[target] : 1.0);
        const float most = simd_row_max(x, n);
        loss -= share.of_target * (double)x[target];
        if (share.of_all > 0.0) {
            loss -= share.of_all * (double)(w != NULL ? row_dot_f32(w, x, n) : simd_row_sum(x, n));
        }
        n_correct += is_first_f32(x, target, most);
        float sum = 0.0F;
#pragma omp simd reduction(+ : sum)
        for (int64_t i = 0; i < n; i++) {
            const float e = vec_exp(x[i] - most);
            dx[i] = e;
            sum += e;
        }
        loss += share.total * ((double)most + (double)logf(sum));
        const float factor = (float)(c->scale * share.total / (double)sum);
        const float spread = (float)(c->scale * share.of_all);
        if (w == NULL || share.of_all <= 0.0) {
#pragma omp simd
            for (int64_t i = 0; i < n; i++) {
                dx[i] = factor * dx[i] - spread;
            }
        } else {
#pragma omp simd
            for (int64_t i = 0; i < n; i++) {
                dx[i] = factor * dx[i] - spread * w[i];
            }
        }
        dx[target] -= (float)(c->scale * share.of_target);
        half_row_put(dx, c->dlogits, c->dtype, row * n, n);
    }
    c->sums.of_block[0][begin / ROWS_PER_BLOCK] = loss;
    c->sums.of_block[1][begin / ROWS_PER_BLOCK] = (double)n_correct;
}

static void cross_entropy_slope_block_f64(void *arg, int64_t begin, int64_t end)
{
    cross_entropy_t *c = arg;
    const int64_t n = c->n_classes;
    const double *w = c->class_weight;
    double loss = 0.0;
    int64_t n_correct = 0;
    for (int64_t row = begin; row < end; row++) {
        const double *x = (const double *)c->logits + row * n;
        double *dx = (double *)c->dlogits + row * n;
        const int64_t target = target_get(c, row);
        if (row_is_ignored(c, row, target)) {
            continue;
        }
        const row_share_t share = row_share(c, w != NULL ? w[target] : 1.0);
        double most = x[0], sum = 0.0;
        for (int64_t i = 1; i < n; i++) {
            most = x[i] > most ? x[i] : most;
        }
        loss -= share.of_target * x[target];
        n_correct += is_first_f64(x, target, most);
        for (int64_t i = 0; i < n; i++) {
            loss -= share.of_all * (w != NULL ? w[i] : 1.0) * x[i];
            dx[i] = exp(x[i] - most);
            sum += dx[i];
        }
        loss += share.total * (most + log(sum));
        for (int64_t i = 0; i < n; i++) {
            dx[i] = c->scale * (share.total * dx[i] / sum - share.of_all * (w != NULL ? w[i] : 1.0));
        }
        dx[target] -= c->scale * share.of_target;
    }
    c->sums.of_block[0][begin / ROWS_PER_BLOCK] = loss;
    c->sums.of_block[1][begin / ROWS_PER_BLOCK] = (double)n_correct;
}

/* The mean of the classes' weights; 1 where there are none. */
static double weight_mean(const gd_view_t *weight, int64_t n)
{
    double sum = 0.0;
    for (int64_t i = 0; i < n && weight->data != NULL; i++) {
        sum += weight->dtype == GD_DTYPE_F64 ? ((const double *)weight->data)[i]
                                             : (double)((const float *)weight->data)[i];
    }
    return weight->data != NULL ? sum / (double)n : 1.0;
}

/* in: logits[…,V], targets[…], weight[V] or absent; out: dlogits[…,V], which may be the logits' memory, loss[],
 * n_correct[] (i64). */
CPU_KERNEL(cross_entropy_slope)
{
    cross_entropy_t c = {.dlogits = args->out[0].data, .class_weight = args->in[2].data};
    status_t status = cross_entropy_init("cross_entropy_slope", &args->in[0], &args->in[1], args->attrs, &c);
    if (status != ST_OK) {
        return status;
    }
    c.mean_weight = weight_mean(&args->in[2], c.n_classes);
    return cross_entropy_run(args, &c, "cross_entropy_slope",
                             (gd_cpu_bodies_t){cross_entropy_slope_block_f32, cross_entropy_slope_block_f64},
                             &args->out[1], &args->out[2]);
}

/* ---- squared error ---- */

typedef struct mse {
    const void *x;
    const void *y;
    void *dx;
    sums_t sums; /* one: of the squares */
    double factor;
} mse_t;

static void mse_block_f32(void *arg, int64_t begin, int64_t end)
{
    const mse_t *m = arg;
    const float *x = m->x;
    const float *y = m->y;
    double sum = 0.0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = begin; i < end; i++) {
        const double d = (double)x[i] - (double)y[i];
        sum += d * d;
    }
    m->sums.of_block[0][begin / ELEMENTS_PER_BLOCK] = sum;
}

static void mse_block_f64(void *arg, int64_t begin, int64_t end)
{
    const mse_t *m = arg;
    const double *x = m->x;
    const double *y = m->y;
    double sum = 0.0;
    for (int64_t i = begin; i < end; i++) {
        sum += (x[i] - y[i]) * (x[i] - y[i]);
    }
    m->sums.of_block[0][begin / ELEMENTS_PER_BLOCK] = sum;
}

/* in: x[…], y[…] of the same shape; out: loss[]. attrs: f0 scale. */
CPU_KERNEL(mse)
{
    const int32_t dtype = args->in[0].dtype;
    if (dtype != GD_DTYPE_F32 && dtype != GD_DTYPE_F64) {
        return gd_cpu_fail_dtype("mse", dtype);
    }
    const int64_t n = gd_view_numel(&args->in[0]);
    mse_t m = {.x = args->in[0].data, .y = args->in[1].data};
    status_t status = sums_run("mse", args->n_threads, n, ELEMENTS_PER_BLOCK,
                               dtype == GD_DTYPE_F32 ? mse_block_f32 : mse_block_f64, &m, 1, &m.sums);
    if (status == ST_OK) {
        number_put(&args->out[0], 0, m.sums.total[0] * args->attrs->f[0]);
    }
    return status;
}

static void mse_backward_block_f32(void *arg, int64_t begin, int64_t end)
{
    const mse_t *m = arg;
    const float *x = m->x;
    const float *y = m->y;
    float *dx = m->dx;
    const float factor = (float)m->factor;
#pragma omp simd
    for (int64_t i = begin; i < end; i++) {
        dx[i] = factor * (x[i] - y[i]);
    }
}

static void mse_backward_block_f64(void *arg, int64_t begin, int64_t end)
{
    const mse_t *m = arg;
    for (int64_t i = begin; i < end; i++) {
        ((double *)m->dx)[i] = m->factor * (((const double *)m->x)[i] - ((const double *)m->y)[i]);
    }
}

/* in: dloss[], x[…], y[…]; out: dx[…] = 2 scale dloss (x - y). attrs: f0 scale. */
CPU_KERNEL(mse_backward)
{
    const int32_t dtype = args->in[1].dtype;
    mse_t m = {.x = args->in[1].data, .y = args->in[2].data, .dx = args->out[0].data};
    if (dtype == GD_DTYPE_F32 || dtype == GD_DTYPE_F64) {
        m.factor = 2.0 * args->attrs->f[0] * number_get(&args->in[0], 0);
    }
    return gd_cpu_parallel_real("mse_backward", dtype, args->n_threads, gd_view_numel(&args->in[1]), ELEMENTS_PER_BLOCK,
                                (gd_cpu_bodies_t){mse_backward_block_f32, mse_backward_block_f64}, &m);
}
