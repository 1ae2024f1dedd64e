/* SPDX-License-Identifier: Apache-2.0 */
/* elementwise: one pass of a vector kernel over the flat buffers, in runs of elements of the same class. */
#include <math.h>

#include "gradd/context.h"
#include "optim/internal.h"

/* Length of RAdam's approximated simple moving average, and its factor (Liu et al., ICLR 2020): 0 for none. */
static double radam_factor(double beta2, double t, double correction2)
{
    const double longest = 2 / (1 - beta2) - 1;
    const double length = longest - 2 * t * pow(beta2, t) / correction2;
    if (!(length > 5)) {
        return 0;
    }
    return sqrt((length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length));
}

/* Of kinds that have both: the weight decay is left to one of two. */
static void decay_place(bool is_decoupled, gd_cpu_update_t *args)
{
    args->decay = is_decoupled ? 0 : args->decay;
    args->keep = is_decoupled ? args->keep : 1;
}

/* What a kind sees otherwise than the rest; lr: the class's own. */
static void kind_coefficients(const gd_optimizer_t *optimizer, double lr, gd_cpu_update_t *args)
{
    const gd_optimizer_options_t *options = &optimizer->options;
    const double t = (double)optimizer->n_steps;
    const double correction2 = 1 - pow(options->beta2, t);
    switch (options->kind) {
    case GD_OPTIMIZER_SGD:
    case GD_OPTIMIZER_LARS:
        args->beta1 = (float)options->momentum;
        args->undamped = (float)(optimizer->n_steps > 1 ? 1 - options->dampening : 1); /* the buffer begins as g */
        break;
    case GD_OPTIMIZER_NADAM: {
        const double mu = options->beta1 * (1 - 0.5 * pow(0.96, t * options->momentum_decay));
        const double mu_next = options->beta1 * (1 - 0.5 * pow(0.96, (t + 1) * options->momentum_decay));
        decay_place(options->is_decoupled, args);
        args->gradient_step = (float)(lr * (1 - mu) / (1 - optimizer->mu_product));
        args->step_size = (float)(lr * mu_next / (1 - optimizer->mu_product * mu_next));
        break;
    }
    case GD_OPTIMIZER_RADAM:
        decay_place(options->is_decoupled, args);
        args->root_scale = (float)(radam_factor(options->beta2, t, correction2) * sqrt(correction2));
        break;
    case GD_OPTIMIZER_ADAGRAD:
        args->lr = (float)(lr / (1 + (t - 1) * options->lr_decay));
        break;
    case GD_OPTIMIZER_ADADELTA:
        args->beta1 = (float)options->rho;
        args->one_minus_beta1 = (float)(1 - options->rho);
        break;
    case GD_OPTIMIZER_RMSPROP:
        args->beta1 = (float)options->momentum;
        args->beta2 = (float)options->alpha;
        args->one_minus_beta2 = (float)(1 - options->alpha);
        args->state[1] = options->momentum > 0 ? args->state[1] : NULL;
        break;
    case GD_OPTIMIZER_LAMB:
        args->step_size = (float)(1 / (1 - pow(options->beta1, t)));
        break;
    default:
        break;
    }
}

void optim_coefficients(const gd_optimizer_t *optimizer, const optim_class_t *class, double lr, double gradient_scale,
                        const float *gradients, gd_cpu_update_t *args_p)
{
    /* As PyTorch: all of this in double, rounded once. */
    const gd_optimizer_options_t *options = &optimizer->options;
    const double t = (double)optimizer->n_steps;
    const double correction1 = 1 - pow(options->beta1, t);
    const double correction2 = 1 - pow(options->beta2, t);
    lr *= class->lr_scale * (class->is_adamw ? options->adamw_lr_scale : 1);
    gd_cpu_update_t args = {.parameters = optimizer->flat->parameters,
                            .gradients = gradients,
                            .gradient_scale = (float)gradient_scale,
                            .lr = (float)lr,
                            .decay = (float)class->decay,
                            .keep = (float)(1 - lr * class->decay),
                            .beta1 = (float)options->beta1,
                            .one_minus_beta1 = (float)(1 - options->beta1),
                            .beta2 = (float)options->beta2,
                            .one_minus_beta2 = (float)(1 - options->beta2),
                            .step_size = (float)(lr / correction1),
                            .root_scale = (float)(1 / sqrt(correction2)),
                            .epsilon = (float)options->epsilon,
                            .is_nesterov = options->is_nesterov,
                            .is_centered = options->is_centered};
    for (int i = 0; i < 3 && i < optimizer->n_states; i++) {
        args.state[i] = i == optimizer->average ? NULL : optimizer->states[i].data;
    }
    kind_coefficients(optimizer, lr, &args);
    *args_p = args;
}

static gd_cpu_update_func_t kernel_of(const gd_cpu_optim_t *kernels, gd_optimizer_kind_t kind)
{
    switch (kind) {
    case GD_OPTIMIZER_SGD:
        return kernels->sgd;
    case GD_OPTIMIZER_ADAM:
        return kernels->adam;
    case GD_OPTIMIZER_NADAM:
        return kernels->nadam;
    case GD_OPTIMIZER_RADAM:
        return kernels->radam;
    case GD_OPTIMIZER_ADAGRAD:
        return kernels->adagrad;
    case GD_OPTIMIZER_ADADELTA:
        return kernels->adadelta;
    case GD_OPTIMIZER_RMSPROP:
        return kernels->rmsprop;
    case GD_OPTIMIZER_LION:
        return kernels->lion;
    default:
        return kernels->adamw;
    }
}

/* The average's kernel arguments. At the first step it becomes the parameters, as PyTorch's AveragedModel. */
static gd_cpu_update_t average_args(const gd_optimizer_t *optimizer)
{
    const double weight = optimizer->n_steps == 1 ? 1 : 1 - optimizer->options.average_decay;
    return (gd_cpu_update_t){.parameters = optimizer->flat->parameters,
                             .gradients = optimizer->flat->parameters, /* not read */
                             .state = {optimizer->states[optimizer->average].data},
                             .one_minus_beta1 = (float)weight};
}

/* The last segment that begins at `at` or before. */
static int segment_find(const gd_flat_t *flat, int64_t at)
{
    int low = 0;
    int high = flat->n_segments - 1;
    while (low < high) {
        const int middle = low + (high - low + 1) / 2;
        if (flat->segments[middle].offset <= at) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    return low;
}

/* The run that element `at` lies in. */
static int run_find(const gd_optimizer_t *optimizer, int64_t at)
{
    int low = 0;
    int high = optimizer->n_runs - 1;
    while (low < high) {
        int middle = low + (high - low) / 2;
        if (optimizer->runs[middle].end > at) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return low;
}

/* From so many on, copies leave the caches before the next step's forward reads them: 4 MiB. */
enum { COPIES_NEAR = 2 << 20 };

/* Rounds what lies in [begin, end) for autocast, while it is in the cache. */
static void copies_write(const optim_step_t *step, int64_t begin, int64_t end)
{
    const gd_flat_t *flat = step->optimizer->flat;
    const bool is_far = flat->numel >= COPIES_NEAR;
    for (int i = segment_find(flat, begin); i < flat->n_segments && flat->segments[i].offset < end; i++) {
        const gd_flat_segment_t *segment = &flat->segments[i];
        const int64_t from = segment->offset > begin ? segment->offset : begin;
        const int64_t stop = segment->offset + segment->numel < end ? segment->offset + segment->numel : end;
        if (step->copies[i] != NULL && from < stop) {
            step->kernels->round_bf16(flat->parameters + from, step->copies[i] + (from - segment->offset), stop - from,
                                      is_far);
        }
    }
}

static void update_body(void *arg, int64_t begin, int64_t end)
{
    const optim_step_t *step = arg;
    const gd_optimizer_t *optimizer = step->optimizer;
    gd_cpu_update_func_t update = kernel_of(step->kernels, optimizer->options.kind);
    begin += step->first;
    end += step->first;
    int64_t at = begin;
    for (int i = run_find(optimizer, begin); at < end; i++) {
        const optim_run_t *run = &optimizer->runs[i];
        int64_t stop = run->end < end ? run->end : end;
        if (!optimizer->classes[run->class].is_frozen) {
            update(&step->of_class[run->class], at, stop);
        }
        at = stop;
    }
    if (optimizer->average >= 0) {
        const gd_cpu_update_t args = average_args(optimizer);
        step->kernels->average(&args, begin, end);
    }
    if (step->copies != NULL) {
        copies_write(step, begin, end);
    }
}

void optim_elementwise(const optim_step_t *step, int64_t last)
{
    optim_step_t args = *step;
    gd_cpu_parallel(gd_context_n_threads(), last - step->first, OPTIM_GRAIN, update_body, &args);
}

static void average_body(void *arg, int64_t begin, int64_t end)
{
    const optim_step_t *step = arg;
    const gd_cpu_update_t args = average_args(step->optimizer);
    step->kernels->average(&args, step->first + begin, step->first + end);
}

void optim_average(const optim_step_t *step, int from, int to)
{
    if (from >= to) {
        return;
    }
    const gd_flat_t *flat = step->optimizer->flat;
    optim_step_t args = *step;
    args.first = flat->segments[from].offset;
    gd_cpu_parallel(gd_context_n_threads(), optim_segment_end(flat, to - 1) - args.first, OPTIM_GRAIN, average_body,
                    &args);
}
