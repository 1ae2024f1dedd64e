/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctc: connectionist temporal classification in the logarithmic domain, f64 inside (Graves et al., ICML 2006, §4.1).
 * A target of S labels stands for the states blank, label, blank, …, blank: 2 S + 1 of them. One sample a thread.
 */
#include <math.h>

#include "cpu/vec/kernels.h"
#include "cpu/vec/sums.h"

typedef struct ctc {
    int64_t n_times, n_batch, n_classes, n_labels, blank;
    bool is_zero_infinity;
    gd_view_t x;
    const int64_t *targets, *input_lengths, *target_lengths;
    double *alpha; /* [N, T, 2 S + 1], logarithms */
    const gd_view_t *loss, *dloss, *dx;
} ctc_t;

/* log(exp a + exp b); NaN if one of them is. */
static double log_add(double a, double b)
{
    const double most = a > b ? a : b;
    const double least = a > b ? b : a;
    return most == -(double)INFINITY ? most + least : most + log1p(exp(least - most));
}

/* log probability of state s's label at time t. */
static double emission(const ctc_t *c, int64_t n, int64_t t, int64_t s)
{
    const int64_t label = s % 2 == 0 ? c->blank : c->targets[n * c->n_labels + s / 2];
    return number_get(&c->x, (t * c->n_batch + n) * c->n_classes + label);
}

/* Whether state s may follow s - 2: a label unlike the one before. */
static bool can_skip(const ctc_t *c, int64_t n, int64_t s)
{
    const int64_t *target = c->targets + n * c->n_labels;
    return s % 2 == 1 && s >= 3 && target[s / 2] != target[s / 2 - 1];
}

/* Of a target, from the alphas of the last time: it ends with its last label or the blank behind it. */
static double likelihood_of(const double *last, int64_t n_states)
{
    return n_states > 1 ? log_add(last[n_states - 1], last[n_states - 2]) : last[n_states - 1];
}

static void forward_body(void *arg, int64_t begin, int64_t end)
{
    const ctc_t *c = arg;
    const int64_t width = 2 * c->n_labels + 1;
    for (int64_t n = begin; n < end; n++) {
        const int64_t n_states = 2 * c->target_lengths[n] + 1;
        const int64_t n_times = c->input_lengths[n];
        double *alpha = c->alpha + n * c->n_times * width;
        for (int64_t i = 0; i < c->n_times * width; i++) {
            alpha[i] = -(double)INFINITY;
        }
        for (int64_t s = 0; s < n_states && s < 2 && n_times > 0; s++) {
            alpha[s] = emission(c, n, 0, s);
        }
        for (int64_t t = 1; t < n_times; t++) {
            const double *before = alpha + (t - 1) * width;
            for (int64_t s = 0; s < n_states; s++) {
                double sum = before[s];
                sum = s > 0 ? log_add(sum, before[s - 1]) : sum;
                sum = can_skip(c, n, s) ? log_add(sum, before[s - 2]) : sum;
                alpha[t * width + s] = sum + emission(c, n, t, s);
            }
        }
        const double likelihood = n_times > 0     ? likelihood_of(alpha + (n_times - 1) * width, n_states)
                                  : n_states == 1 ? 0
                                                  : -(double)INFINITY;
        number_put(c->loss, n, isinf(likelihood) && c->is_zero_infinity ? 0 : -likelihood);
    }
}

/* d(-log p) / dx[t,c] = -sum over states s of label c of exp(alpha + beta - emission - log p) */
static void backward_body(void *arg, int64_t begin, int64_t end)
{
    const ctc_t *c = arg;
    const int64_t width = 2 * c->n_labels + 1;
    for (int64_t n = begin; n < end; n++) {
        const int64_t n_states = 2 * c->target_lengths[n] + 1;
        const int64_t n_times = c->input_lengths[n];
        double *alpha = c->alpha + n * c->n_times * width;
        double *beta = c->alpha + (c->n_batch * c->n_times + 2 * n) * width; /* two rows behind all alphas */
        double *after = beta + width;
        for (int64_t i = 0; i < c->n_times * c->n_classes; i++) {
            number_put(c->dx, (i / c->n_classes * c->n_batch + n) * c->n_classes + i % c->n_classes, 0);
        }
        if (n_times == 0) {
            continue;
        }
        const double likelihood = likelihood_of(alpha + (n_times - 1) * width, n_states);
        if (isinf(likelihood) && c->is_zero_infinity) {
            continue;
        }
        for (int64_t t = n_times - 1; t >= 0; t--) {
            for (int64_t s = 0; s < n_states; s++) {
                double sum = t == n_times - 1 ? (s >= n_states - 2 ? 0 : -(double)INFINITY) : after[s];
                if (t < n_times - 1) {
                    sum = s + 1 < n_states ? log_add(sum, after[s + 1]) : sum;
                    sum = s + 2 < n_states && can_skip(c, n, s + 2) ? log_add(sum, after[s + 2]) : sum;
                }
                beta[s] = sum + emission(c, n, t, s);
                const int64_t label = s % 2 == 0 ? c->blank : c->targets[n * c->n_labels + s / 2];
                const int64_t at = (t * c->n_batch + n) * c->n_classes + label;
                const double share = exp(alpha[t * width + s] + sum - likelihood);
                number_put(c->dx, at, number_get(c->dx, at) - share * number_get(c->dloss, n));
            }
            double *swap = beta;
            beta = after;
            after = swap;
        }
    }
}

static ctc_t ctc_init(const gd_view_t *in, const gd_attrs_t *attrs)
{
    return (ctc_t){.n_times = in[0].shape[0],
                   .n_batch = in[0].shape[1],
                   .n_classes = in[0].shape[2],
                   .n_labels = in[1].shape[1],
                   .blank = attrs->i[0],
                   .is_zero_infinity = attrs->i[1] != 0,
                   .x = in[0],
                   .targets = in[1].data,
                   .input_lengths = in[2].data,
                   .target_lengths = in[3].data};
}

static status_t lengths_check(const ctc_t *c)
{
    for (int64_t n = 0; n < c->n_batch; n++) {
        const int64_t input = c->input_lengths[n];
        const int64_t target = c->target_lengths[n];
        if (input < 0 || input > c->n_times || target < 0 || target > c->n_labels) {
            return ST_FAIL(ST_ERR_DATA, "ctc: lengths %lld and %lld of sample %lld are outside 0 … %lld and 0 … %lld",
                           (long long)input, (long long)target, (long long)n, (long long)c->n_times,
                           (long long)c->n_labels);
        }
        for (int64_t s = 0; s < target; s++) {
            const int64_t label = c->targets[n * c->n_labels + s];
            if (label < 0 || label >= c->n_classes || label == c->blank) {
                return ST_FAIL(ST_ERR_DATA, "ctc: label %lld of sample %lld is outside 0 … %lld, or the blank %lld",
                               (long long)label, (long long)n, (long long)c->n_classes - 1, (long long)c->blank);
            }
        }
    }
    return ST_OK;
}

/* Room for all alphas, and two rows of betas a sample. */
static status_t alpha_get(ctc_t *c)
{
    const int64_t numel = c->n_batch * (c->n_times + 2) * (2 * c->n_labels + 1);
    c->alpha = gd_cpu_scratch(GD_CPU_SLOT_KERNEL, (size_t)(numel > 0 ? numel : 1) * sizeof(double));
    return c->alpha != NULL ? ST_OK : ST_FAIL(ST_ERR_NOMEM, "ctc: %lld states", (long long)numel);
}

/* in: x[T,N,C], targets[N,S], input_lengths[N], target_lengths[N]; out: loss[N]. */
CPU_KERNEL(ctc)
{
    ctc_t c = ctc_init(args->in, args->attrs);
    status_t status = lengths_check(&c);
    if (status == ST_OK) {
        status = alpha_get(&c);
    }
    if (status == ST_OK) {
        c.loss = &args->out[0];
        gd_cpu_parallel(args->n_threads, c.n_batch, 1, forward_body, &c);
    }
    return status;
}

/* in: dloss[N], then as above; out: dx[T,N,C]. The alphas are computed again: they are cheap beside their memory. */
CPU_KERNEL(ctc_backward)
{
    ctc_t c = ctc_init(args->in + 1, args->attrs);
    status_t status = lengths_check(&c);
    if (status == ST_OK) {
        status = alpha_get(&c);
    }
    if (status != ST_OK) {
        return status;
    }
    /* the losses of this pass are not wanted: they go where the betas are written later */
    gd_view_t nowhere = {.data = c.alpha + c.n_batch * c.n_times * (2 * c.n_labels + 1), .dtype = GD_DTYPE_F64};
    c.loss = &nowhere;
    c.dloss = &args->in[0];
    c.dx = &args->out[0];
    gd_cpu_parallel(args->n_threads, c.n_batch, 1, forward_body, &c);
    gd_cpu_parallel(args->n_threads, c.n_batch, 1, backward_body, &c);
    return ST_OK;
}
