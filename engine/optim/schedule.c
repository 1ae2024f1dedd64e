/* SPDX-License-Identifier: Apache-2.0 */
/* schedule: learning rate by step, gradient clipping, reduction on a plateau. Functions without state of their own. */
#include <math.h>
#include <string.h>

#include "gradd/context.h"
#include "optim/internal.h"

static const double PI = 3.14159265358979323846;

double gd_clip_scale(double norm, double max_norm)
{
    if (max_norm <= 0) {
        return 1;
    }
    double scale = max_norm / (norm + 1e-6);
    return scale < 1 ? scale : 1;
}

typedef struct clip_args {
    float *x;
    float limit;
    const gd_cpu_optim_t *kernels;
} clip_args_t;

static void clip_body(void *arg, int64_t begin, int64_t end)
{
    const clip_args_t *args = arg;
    args->kernels->clip(args->x + begin, args->limit, end - begin);
}

void gd_clip_value(float *gradients, int64_t numel, double limit)
{
    if (limit > 0) {
        clip_args_t args = {.x = gradients, .limit = (float)limit, .kernels = gd_cpu_optim()};
        gd_cpu_parallel(gd_context_n_threads(), numel, OPTIM_GRAIN, clip_body, &args);
    }
}

/* What is left of a fall from 1 to 0 after `ratio` of it. */
static double fall(gd_decay_shape_t shape, double ratio)
{
    switch (shape) {
    case GD_DECAY_COSINE:
        return 0.5 * (1 + cos(PI * ratio));
    case GD_DECAY_SQRT:
        return 1 - sqrt(ratio);
    default:
        return 1 - ratio;
    }
}

static double restarts_share(const gd_schedule_t *schedule, int64_t t)
{
    double length = (double)(schedule->every > 0 ? schedule->every : 1);
    double at = (double)t;
    if (!(schedule->factor >= 2)) {
        at = fmod(at, length);
    }
    while (at >= length) {
        at -= length;
        length *= schedule->factor;
    }
    return fall(GD_DECAY_COSINE, at / length);
}

/* PyTorch's OneCycleLR with two phases. */
static double one_cycle_lr(const gd_schedule_t *schedule, double t, double length)
{
    const double first = schedule->lr / schedule->factor;
    const double last = first / schedule->final_factor;
    const double top = schedule->rise * length - 1;
    const double end = length - 1;
    if (t <= top) {
        return schedule->lr + fall(schedule->shape, top > 0 ? t / top : 1) * (first - schedule->lr);
    }
    double ratio = end > top ? (t - top) / (end - top) : 1;
    return last + fall(schedule->shape, ratio < 1 ? ratio : 1) * (schedule->lr - last);
}

static int milestones_reached(const gd_schedule_t *schedule, int64_t step)
{
    int n = 0;
    while (n < schedule->n_milestones && step >= schedule->milestones[n]) {
        n++;
    }
    return n;
}

static double parts_lr(const gd_schedule_t *schedule, int64_t step)
{
    if (schedule->kind == GD_SCHEDULE_SEQUENCE) {
        int i = milestones_reached(schedule, step);
        i = i < schedule->n_parts ? i : schedule->n_parts - 1;
        return i < 0 ? schedule->lr
                     : gd_schedule_lr(&schedule->parts[i], i > 0 ? step - schedule->milestones[i - 1] : step);
    }
    double lr = schedule->lr;
    for (int i = 0; i < schedule->n_parts; i++) {
        lr *= gd_schedule_lr(&schedule->parts[i], step) / schedule->parts[i].lr;
    }
    return lr;
}

double gd_schedule_lr(const gd_schedule_t *schedule, int64_t step)
{
    const double lr = schedule->lr;
    const int64_t warmup = schedule->warmup_steps > 0 ? schedule->warmup_steps : 0;
    if (step < warmup) {
        return lr * (double)(step + 1) / (double)(warmup + 1);
    }
    const int64_t t = step - warmup;
    const int64_t length = schedule->total_steps - warmup;
    double ratio = length > 0 ? (double)t / (double)length : 1;
    ratio = ratio < 1 ? ratio : 1;
    double share = 1;
    switch (schedule->kind) {
    case GD_SCHEDULE_COSINE:
        share = fall(GD_DECAY_COSINE, ratio);
        break;
    case GD_SCHEDULE_LINEAR:
        share = fall(GD_DECAY_LINEAR, ratio);
        break;
    case GD_SCHEDULE_POLYNOMIAL:
        share = pow(1 - ratio, schedule->power);
        break;
    case GD_SCHEDULE_COSINE_RESTARTS:
        share = restarts_share(schedule, t);
        break;
    case GD_SCHEDULE_STABLE_DECAY: {
        const int64_t decay = schedule->decay_steps < length ? schedule->decay_steps : length;
        const double at = decay > 0 ? (double)(t - (length - decay)) / (double)decay : -1;
        share = at > 0 ? fall(schedule->shape, at < 1 ? at : 1) : 1;
        break;
    }
    case GD_SCHEDULE_STEP: {
        const int64_t n_reductions = t / (schedule->every > 0 ? schedule->every : 1);
        return lr * pow(schedule->gamma, (double)n_reductions);
    }
    case GD_SCHEDULE_MULTI_STEP:
        return lr * pow(schedule->gamma, (double)milestones_reached(schedule, step));
    case GD_SCHEDULE_EXPONENTIAL:
        return lr * pow(schedule->gamma, (double)t);
    case GD_SCHEDULE_ONE_CYCLE:
        return one_cycle_lr(schedule, (double)t, (double)length);
    case GD_SCHEDULE_PRODUCT:
    case GD_SCHEDULE_SEQUENCE:
        return parts_lr(schedule, step);
    default:
        return lr;
    }
    return schedule->final_lr + share * (lr - schedule->final_lr);
}

void gd_plateau_init(gd_plateau_t *plateau)
{
    *plateau = (gd_plateau_t){.scale = 1, .best = INFINITY};
}

void gd_plateau_update(gd_plateau_t *plateau, const gd_plateau_options_t *options, double value)
{
    if (value < plateau->best * (1 - options->threshold)) {
        plateau->best = value;
        plateau->n_bad = 0;
    } else {
        plateau->n_bad++;
    }
    if (plateau->cooldown > 0) {
        plateau->cooldown--;
        plateau->n_bad = 0;
    }
    if (plateau->n_bad > options->patience) {
        /* a min_scale above the scale raises nothing */
        const double reduced = fmax(plateau->scale * options->factor, options->min_scale);
        plateau->scale = fmin(plateau->scale, reduced);
        plateau->cooldown = options->cooldown;
        plateau->n_bad = 0;
    }
}
