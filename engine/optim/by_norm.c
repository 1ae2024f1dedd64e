/* SPDX-License-Identifier: Apache-2.0 */
/*
 * by_norm: LAMB and LARS, whose steps are scaled by norms of each tensor. Norms are sums over the tensor's own blocks
 * of GD_NORM_BLOCK elements, in order: their bits don't depend on where the tensor lies or on threads.
 *
 * LAMB (You et al., ICLR 2020, algorithm 2, phi the identity):
 *   u = m̂ / (sqrt(v̂) + epsilon) + decay p;   p -= lr |p| / |u| u
 * LARS (You et al., 2017, algorithm 1):
 *   local = trust_coefficient |p| / (|g| + decay |p| + epsilon);   b = momentum b + lr local (g + decay p);   p -= b
 * A ratio of a zero norm is 1; tensors that decay_matrices_only spares have ratio 1, as both authors' code has.
 */
#include <math.h>

#include "gradd/context.h"
#include "optim/internal.h"

typedef struct by_norm {
    const optim_step_t *step;
    int64_t first_block;
} by_norm_t;

static const optim_class_t *class_at(const gd_optimizer_t *optimizer, int segment)
{
    return &optimizer->classes[optimizer->class_of[segment]];
}

static void sums_body(void *arg, int64_t begin, int64_t end)
{
    const by_norm_t *work = arg;
    const optim_step_t *step = work->step;
    gd_optimizer_t *optimizer = step->optimizer;
    for (int64_t i = begin + work->first_block; i < end + work->first_block; i++) {
        const optim_block_t *block = &optimizer->blocks[i];
        const optim_class_t *class = class_at(optimizer, block->segment);
        double *sums = optimizer->sums + 2 * i;
        if (class->is_frozen) {
            continue;
        }
        if (optimizer->options.kind == GD_OPTIMIZER_LAMB) {
            step->kernels->lamb_moments(&step->of_class[optimizer->class_of[block->segment]], block->begin, block->end,
                                        sums);
        } else if (!class->has_no_norm) {
            int64_t n = block->end - block->begin;
            sums[0] = step->kernels->sum_squares(optimizer->flat->parameters + block->begin, n);
            sums[1] = step->kernels->sum_squares(step->gradients + block->begin, n);
        }
    }
}

static double ratio_of(const optim_step_t *step, int segment)
{
    const gd_optimizer_t *optimizer = step->optimizer;
    const optim_class_t *class = class_at(optimizer, segment);
    double sums[2] = {0, 0};
    for (int64_t i = optimizer->first_block[segment]; i < optimizer->first_block[segment + 1]; i++) {
        sums[0] += optimizer->sums[2 * i];
        sums[1] += optimizer->sums[2 * i + 1];
    }
    if (class->has_no_norm || !(sums[0] > 0) || !(sums[1] > 0)) {
        return 1;
    }
    const double of_parameters = sqrt(sums[0]);
    if (optimizer->options.kind == GD_OPTIMIZER_LAMB) {
        return of_parameters / sqrt(sums[1]);
    }
    const double of_gradients = fabs(step->gradient_scale) * sqrt(sums[1]);
    return optimizer->options.trust_coefficient * of_parameters /
           (of_gradients + class->decay * of_parameters + optimizer->options.epsilon);
}

static void apply_body(void *arg, int64_t begin, int64_t end)
{
    const by_norm_t *work = arg;
    const optim_step_t *step = work->step;
    const gd_optimizer_t *optimizer = step->optimizer;
    for (int64_t i = begin + work->first_block; i < end + work->first_block; i++) {
        const optim_block_t *block = &optimizer->blocks[i];
        const optim_class_t *class = class_at(optimizer, block->segment);
        if (class->is_frozen) {
            continue;
        }
        gd_cpu_update_t args = step->of_class[optimizer->class_of[block->segment]];
        args.lr = (float)(step->lr * class->lr_scale * optimizer->ratio[block->segment]);
        if (optimizer->options.kind == GD_OPTIMIZER_LAMB) {
            step->kernels->lamb(&args, block->begin, block->end);
        } else {
            step->kernels->lars(&args, block->begin, block->end);
        }
    }
}

void optim_by_norm(const optim_step_t *step, int from, int to)
{
    gd_optimizer_t *optimizer = step->optimizer;
    by_norm_t work = {.step = step, .first_block = optimizer->first_block[from]};
    int64_t n_blocks = optimizer->first_block[to] - work.first_block;
    gd_cpu_parallel(gd_context_n_threads(), n_blocks, 1, sums_body, &work);
    for (int i = from; i < to; i++) {
        optimizer->ratio[i] = ratio_of(step, i);
    }
    gd_cpu_parallel(gd_context_n_threads(), n_blocks, 1, apply_body, &work);
}
