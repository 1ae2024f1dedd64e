/* SPDX-License-Identifier: Apache-2.0 */
/* schedule: learning rate by step, gradient clipping. Pure functions. */
#include <math.h>

#include "gradd/optim.h"

double gd_clip_scale(double norm, double max_norm)
{
    if (max_norm <= 0) {
        return 1;
    }
    double scale = max_norm / (norm + 1e-6);
    return scale < 1 ? scale : 1;
}

double gd_schedule_lr(const gd_schedule_t *schedule, int64_t step)
{
    const double lr = schedule->lr;
    const int64_t warmup = schedule->warmup_steps > 0 ? schedule->warmup_steps : 0;
    if (step < warmup) {
        return lr * (double)(step + 1) / (double)(warmup + 1);
    }
    if (schedule->kind == GD_SCHEDULE_CONSTANT) {
        return lr;
    }
    int64_t length = schedule->total_steps - warmup;
    double ratio = length > 0 ? (double)(step - warmup) / (double)length : 1;
    ratio = ratio < 1 ? ratio : 1;
    double share = schedule->kind == GD_SCHEDULE_COSINE ? 0.5 * (1 + cos(3.14159265358979323846 * ratio)) : 1 - ratio;
    return schedule->final_lr + share * (lr - schedule->final_lr);
}
