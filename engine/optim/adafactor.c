/* SPDX-License-Identifier: Apache-2.0 */
/*
 * adafactor: second moments kept as a row's and a column's mean instead of one for each element (Shazeer and Stern,
 * ICML 2018), with PyTorch's formulas:
 *   w = t^beta2_decay;  row += w (mean_c g² - row);  column += w (mean_r g² - column)
 *   v = row column / max(mean_r row, epsilon);  u = g / sqrt(max(v, epsilon²))
 *   p = (1 - lr decay) p - alpha u / max(1, |u| / (sqrt(numel) clip_threshold))
 *   alpha = max(epsilon2, |p| / sqrt(numel)) min(lr, 1 / sqrt(t))
 * over the last two dimensions; a tensor of fewer is one row with a mean for each element. Sums are per row, then over
 * rows in order: no bit depends on threads or layout.
 */
#include <math.h>
#include <string.h>

#include "gradd/context.h"
#include "optim/internal.h"

enum { COLUMNS_PER_BLOCK = 256 };

typedef struct factored {
    const optim_step_t *step;
    const optim_class_t *class;
    int64_t n_batch, rows, columns;
    float *parameters;
    const float *gradients;
    float *row, *column;            /* [n_batch, rows] (NULL: 1 everywhere), [n_batch, columns] */
    double *sum_of_row;             /* [n_batch · rows] */
    double *sum_of_column;          /* [n_batch · columns] */
    double *mean_of_rows;           /* [n_batch], at least epsilon */
    double weight, keep, step_size; /* of the update */
} factored_t;

static void sizes_get(const gd_tensor_t *t, factored_t *f)
{
    bool is_matrix = gd_tensor_n_dims(t) >= 2;
    f->columns = is_matrix ? gd_tensor_dim(t, -1) : gd_tensor_numel(t);
    f->rows = is_matrix ? gd_tensor_dim(t, -2) : 1;
    f->n_batch = f->columns > 0 && f->rows > 0 ? gd_tensor_numel(t) / (f->columns * f->rows) : 0;
}

size_t optim_adafactor_scratch(const gd_optimizer_t *optimizer)
{
    size_t most = 0;
    for (int i = 0; i < optimizer->flat->n_segments; i++) {
        factored_t f = {0};
        sizes_get(optimizer->flat->segments[i].parameter, &f);
        size_t size = (size_t)(f.n_batch * (f.rows + f.columns + 1)) * sizeof(double);
        most = size > most ? size : most;
    }
    return most;
}

static void rows_body(void *arg, int64_t begin, int64_t end)
{
    const factored_t *f = arg;
    for (int64_t i = begin; i < end; i++) {
        f->sum_of_row[i] = f->step->kernels->sum_squares(f->gradients + i * f->columns, f->columns);
    }
}

/* Blocks of columns, all batches: rows in order. */
static void columns_body(void *arg, int64_t begin, int64_t end)
{
    const factored_t *f = arg;
    for (int64_t b = 0; b < f->n_batch; b++) {
        double *sums = f->sum_of_column + b * f->columns + begin;
        memset(sums, 0, (size_t)(end - begin) * sizeof(double));
        for (int64_t r = 0; r < f->rows; r++) {
            f->step->kernels->add_squares(sums, f->gradients + (b * f->rows + r) * f->columns + begin,
                                          (float)f->step->gradient_scale, end - begin);
        }
    }
}

static float lerp(float mean, double value, double weight)
{
    return mean + (float)weight * ((float)value - mean);
}

static void means_update(factored_t *f, int64_t grain)
{
    const gd_optimizer_options_t *options = &f->step->optimizer->options;
    int n_threads = gd_context_n_threads();
    double scale = f->step->gradient_scale * f->step->gradient_scale;
    gd_cpu_parallel(n_threads, f->columns, COLUMNS_PER_BLOCK, columns_body, f);
    for (int64_t i = 0; i < f->n_batch * f->columns; i++) {
        f->column[i] = lerp(f->column[i], f->sum_of_column[i] / (double)f->rows, f->weight);
    }
    if (f->row != NULL) {
        gd_cpu_parallel(n_threads, f->n_batch * f->rows, grain, rows_body, f);
    }
    for (int64_t b = 0; b < f->n_batch; b++) {
        double sum = 0;
        for (int64_t r = b * f->rows; f->row != NULL && r < (b + 1) * f->rows; r++) {
            f->row[r] = lerp(f->row[r], scale * f->sum_of_row[r] / (double)f->columns, f->weight);
            sum += (double)f->row[r];
        }
        double mean = f->row != NULL ? sum / (double)f->rows : 1;
        f->mean_of_rows[b] = mean > options->epsilon ? mean : options->epsilon;
    }
}

static gd_cpu_factored_t row_args(const factored_t *f, int64_t i)
{
    const double epsilon = f->step->optimizer->options.epsilon;
    const int64_t b = i / f->rows;
    return (gd_cpu_factored_t){.parameters = f->parameters + i * f->columns,
                               .gradients = f->gradients + i * f->columns,
                               .column = f->column + b * f->columns,
                               .gradient_scale = (float)f->step->gradient_scale,
                               .row = f->row != NULL ? (float)((double)f->row[i] / f->mean_of_rows[b]) : 1,
                               .floor = (float)(epsilon * epsilon),
                               .keep = (float)f->keep,
                               .step_size = (float)f->step_size};
}

static void update_sums_body(void *arg, int64_t begin, int64_t end)
{
    const factored_t *f = arg;
    for (int64_t i = begin; i < end; i++) {
        const gd_cpu_factored_t args = row_args(f, i);
        f->sum_of_row[i] = f->step->kernels->factored_sum(&args, f->columns);
    }
}

static void apply_body(void *arg, int64_t begin, int64_t end)
{
    const factored_t *f = arg;
    for (int64_t i = begin; i < end; i++) {
        const gd_cpu_factored_t args = row_args(f, i);
        f->step->kernels->factored(&args, f->columns);
    }
}

static void parameter_sums_body(void *arg, int64_t begin, int64_t end)
{
    const factored_t *f = arg;
    for (int64_t i = begin; i < end; i++) {
        f->sum_of_row[i] = f->step->kernels->sum_squares(f->parameters + i * f->columns, f->columns);
    }
}

/* Root mean square, of what the body sums per row. */
static double root_mean_square(factored_t *f, gd_cpu_body_func_t body, int64_t grain)
{
    int64_t n_rows = f->n_batch * f->rows;
    double sum = 0;
    gd_cpu_parallel(gd_context_n_threads(), n_rows, grain, body, f);
    for (int64_t i = 0; i < n_rows; i++) {
        sum += f->sum_of_row[i];
    }
    return sqrt(sum / (double)(n_rows * f->columns));
}

static void tensor_update(const optim_step_t *step, int segment)
{
    gd_optimizer_t *optimizer = step->optimizer;
    const gd_optimizer_options_t *options = &optimizer->options;
    const optim_class_t *class = &optimizer->classes[optimizer->class_of[segment]];
    int64_t offset = optimizer->flat->segments[segment].offset;
    factored_t f = {.step = step,
                    .class = class,
                    .parameters = optimizer->flat->parameters + offset,
                    .gradients = step->gradients + offset};
    sizes_get(optimizer->flat->segments[segment].parameter, &f);
    if (class->is_frozen || f.n_batch == 0) {
        return;
    }
    const int64_t row_offset = optimizer->states[0].offset[segment];
    f.row = row_offset >= 0 ? optimizer->states[0].data + row_offset : NULL;
    const optim_state_t *columns = &optimizer->states[row_offset >= 0 ? 1 : 2];
    f.column = columns->data + columns->offset[segment];
    f.sum_of_row = (double *)(void *)optimizer->scratch;
    f.sum_of_column = f.sum_of_row + f.n_batch * f.rows;
    f.mean_of_rows = f.sum_of_column + f.n_batch * f.columns;
    const double t = (double)optimizer->n_steps;
    const double lr = step->lr * class->lr_scale;
    int64_t grain = OPTIM_GRAIN / f.columns > 0 ? OPTIM_GRAIN / f.columns : 1;
    f.weight = pow(t, options->beta2_decay);
    f.keep = 1 - lr * class->decay;
    means_update(&f, grain);
    const double size = root_mean_square(&f, parameter_sums_body, grain);
    const double excess = root_mean_square(&f, update_sums_body, grain) / options->clip_threshold;
    const double alpha = (size > options->epsilon2 ? size : options->epsilon2) * (lr < 1 / sqrt(t) ? lr : 1 / sqrt(t));
    f.step_size = alpha / (excess > 1 ? excess : 1);
    gd_cpu_parallel(gd_context_n_threads(), f.n_batch * f.rows, grain, apply_body, &f);
}

void optim_adafactor(const optim_step_t *step, int from, int to)
{
    for (int i = from; i < to; i++) {
        tensor_update(step, i);
    }
}
