/* SPDX-License-Identifier: Apache-2.0 */
/*
 * muon: momentum whose matrices are orthogonalised by Newton-Schulz iterations (Jordan et al., 2024), PyTorch's
 * formulas, but the products in f32 where PyTorch has bf16. A tensor of more than two dimensions is the matrix
 * [its first, the rest]; tensors of fewer, and groups that say so, get AdamW.
 *   b += (1 - momentum) (g - b);  x = nesterov ? g + momentum (b - g) : b;  x /= |x|
 *   ns_steps times, with x's rows not more than its columns: a = x xᵀ;  x = 3.4445 x + (-4.7750 a + 2.0315 a²) x
 *   p = (1 - lr decay) p - lr scale x
 */
#include <math.h>

#include "cpu/gemm.h"
#include "gradd/context.h"
#include "optim/internal.h"

static const double EPSILON = 1e-7;

typedef struct matrix {
    int64_t rows, columns; /* as the parameter has them */
    int64_t m, n;          /* of x: m ≤ n */
} matrix_t;

static matrix_t matrix_get(const gd_tensor_t *t)
{
    matrix_t matrix = {.rows = gd_tensor_dim(t, 0)};
    matrix.columns = matrix.rows > 0 ? gd_tensor_numel(t) / matrix.rows : 0;
    bool is_tall = matrix.rows > matrix.columns;
    matrix.m = is_tall ? matrix.columns : matrix.rows;
    matrix.n = is_tall ? matrix.rows : matrix.columns;
    return matrix;
}

static int64_t rounded(int64_t n)
{
    return (n + GD_FLAT_ALIGN - 1) / GD_FLAT_ALIGN * GD_FLAT_ALIGN;
}

size_t optim_muon_scratch(const gd_optimizer_t *optimizer)
{
    int64_t most = 0;
    for (int i = 0; i < optimizer->flat->n_segments; i++) {
        if (!optimizer->classes[optimizer->class_of[i]].is_adamw) {
            const matrix_t matrix = matrix_get(optimizer->flat->segments[i].parameter);
            int64_t numel = 2 * rounded(matrix.m * matrix.n) + 2 * rounded(matrix.m * matrix.m);
            most = numel > most ? numel : most;
        }
    }
    return (size_t)most * sizeof(float);
}

/* c[m,n] = a[m,k] b + c where is_accumulating; b is [k,n], or [n,k] read as its transpose. */
static status_t product(const float *a, const float *b, float *c, int64_t m, int64_t n, int64_t k, bool is_transposed,
                        bool is_accumulating)
{
    const gd_gemm_t gemm = {.n_batch = 1,
                            .m = m,
                            .n = n,
                            .k = k,
                            .a = a,
                            .b = b,
                            .c = c,
                            .a_row = k,
                            .a_col = 1,
                            .b_row = is_transposed ? 1 : n,
                            .b_col = is_transposed ? k : 1,
                            .c_row = n,
                            .is_accumulating = is_accumulating,
                            .n_threads = gd_context_n_threads()};
    return gd_gemm_run(&gemm);
}

static void transpose(const float *x, float *y, int64_t rows, int64_t columns)
{
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t c = 0; c < columns; c++) {
            y[c * rows + r] = x[r * columns + c];
        }
    }
}

/* x[m,n] in place; a[m,m], b[m,m], y[m,n]: scratch. */
static status_t orthogonalise(const gd_cpu_optim_t *kernels, const matrix_t *matrix, int n_steps, float *x, float *y,
                              float *a, float *b)
{
    const int64_t m = matrix->m;
    const int64_t n = matrix->n;
    double norm = sqrt(kernels->sum_squares(x, m * n));
    norm = norm > EPSILON ? norm : EPSILON;
    kernels->combine(x, x, (float)(1 / norm), 0, m * n);
    status_t status = ST_OK;
    for (int i = 0; i < n_steps && status == ST_OK; i++) {
        status = product(x, x, a, m, m, n, true, false);
        if (status == ST_OK) {
            status = product(a, a, b, m, m, m, false, false);
        }
        if (status == ST_OK) {
            kernels->combine(b, a, 2.0315F, -4.7750F, m * m);
            status = product(b, x, y, m, n, m, false, false);
        }
        if (status == ST_OK) {
            kernels->combine(x, y, 3.4445F, 1, m * n);
        }
    }
    return status;
}

static status_t matrix_update(const optim_step_t *step, int segment, const optim_class_t *class)
{
    gd_optimizer_t *optimizer = step->optimizer;
    const gd_optimizer_options_t *options = &optimizer->options;
    const gd_flat_segment_t *of = &optimizer->flat->segments[segment];
    const matrix_t matrix = matrix_get(of->parameter);
    if (matrix.m == 0) {
        return ST_OK;
    }
    float *x = optimizer->scratch;
    float *y = x + rounded(matrix.m * matrix.n);
    float *a = y + rounded(matrix.m * matrix.n);
    float *b = a + rounded(matrix.m * matrix.m);
    bool is_tall = matrix.rows > matrix.columns;
    float *buffer = optimizer->states[0].data + optimizer->states[0].offset[segment];
    step->kernels->momentum(buffer, step->gradients + of->offset, is_tall ? y : x, (float)step->gradient_scale,
                            (float)(1 - options->momentum), options->is_nesterov, of->numel);
    if (is_tall) {
        transpose(y, x, matrix.rows, matrix.columns);
    }
    status_t status = orthogonalise(step->kernels, &matrix, options->ns_steps, x, y, a, b);
    if (status != ST_OK) {
        return status;
    }
    if (is_tall) {
        transpose(x, y, matrix.columns, matrix.rows);
        x = y;
    }
    const double lr = step->lr * class->lr_scale;
    const double rows = (double)matrix.rows;
    const double columns = (double)matrix.columns;
    const double scale = options->matches_adamw ? 0.2 * sqrt(rows > columns ? rows : columns)
                         : rows > columns       ? sqrt(rows / columns)
                                                : 1;
    step->kernels->combine(optimizer->flat->parameters + of->offset, x, (float)(1 - lr * class->decay),
                           (float)(-lr * scale), of->numel);
    return ST_OK;
}

/* One tensor by AdamW; its states are where the segment's slots lie. */
static void adamw_update(const optim_step_t *step, int segment)
{
    gd_optimizer_t *optimizer = step->optimizer;
    int64_t offset = optimizer->flat->segments[segment].offset;
    gd_cpu_update_t args = step->of_class[optimizer->class_of[segment]];
    args.parameters += offset;
    args.gradients += offset;
    args.state[0] = optimizer->states[1].data + optimizer->states[1].offset[segment];
    args.state[1] = optimizer->states[2].data + optimizer->states[2].offset[segment];
    args.state[2] = NULL;
    step->kernels->adamw(&args, 0, optim_segment_end(optimizer->flat, segment) - offset);
}

status_t optim_muon(const optim_step_t *step, int from, int to)
{
    const gd_optimizer_t *optimizer = step->optimizer;
    status_t status = ST_OK;
    for (int i = from; i < to && status == ST_OK; i++) {
        const optim_class_t *class = &optimizer->classes[optimizer->class_of[i]];
        if (class->is_frozen) {
            continue;
        }
        if (class->is_adamw) {
            adamw_update(step, i);
        } else {
            status = matrix_update(step, i, class);
        }
    }
    return status;
}
