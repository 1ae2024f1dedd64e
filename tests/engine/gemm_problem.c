/* SPDX-License-Identifier: Apache-2.0 */
/* gemm_problem: see gemm_problem.h. */
#include "tests/engine/gemm_problem.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "gradd/rng.h"
#include "tests/support/fixture.h"

void gemm_problem_fill(float *x, int64_t n, uint32_t layer)
{
    gd_rng_fill_uniform(&(gd_rng_key_t){.seed = 7, .layer = layer}, -1, 1, x, n);
}

static float *floats_new(int64_t n)
{
    float *x = mem_calloc((size_t)(n > 0 ? n : 1), sizeof(float));
    assert_non_null(x);
    return x;
}

gemm_problem_t gemm_problem_new(int64_t n_batch, int64_t m, int64_t n, int64_t k, unsigned layout)
{
    const int64_t gap = layout & GEMM_GAPS ? 3 : 0;
    gemm_problem_t p = {.n_c = n_batch * m * (n + gap)};
    gd_gemm_t *g = &p.gemm;
    *g = (gd_gemm_t){.n_batch = n_batch, .m = m, .n = n, .k = k, .n_threads = 1};
    g->a_row = layout & GEMM_A_TURNED ? 1 : k + gap;
    g->a_col = layout & GEMM_A_TURNED ? m + gap : 1;
    g->b_row = layout & GEMM_B_TURNED ? 1 : n + gap;
    g->b_col = layout & GEMM_B_TURNED ? k + gap : 1;
    g->c_row = n + gap;
    g->a_batch = layout & GEMM_A_TURNED ? k * (m + gap) : m * (k + gap);
    g->b_batch = layout & GEMM_B_TURNED ? n * (k + gap) : k * (n + gap);
    g->c_batch = m * g->c_row;
    g->is_accumulating = (layout & GEMM_ADDING) != 0;
    p.a = floats_new(n_batch * g->a_batch);
    p.b = floats_new(n_batch * g->b_batch);
    p.c = floats_new(p.n_c);
    p.bias = floats_new(n);
    gemm_problem_fill(p.a, n_batch * g->a_batch, 1);
    gemm_problem_fill(p.b, n_batch * g->b_batch, 2);
    gemm_problem_fill(p.bias, n, 3);
    g->a = p.a;
    g->b = p.b;
    g->c = p.c;
    g->bias = layout & GEMM_BIAS ? p.bias : NULL;
    return p;
}

void gemm_problem_release(gemm_problem_t *p)
{
    mem_free(p->a);
    mem_free(p->b);
    mem_free(p->c);
    mem_free(p->bias);
}

gemm_error_t gemm_error_measure(const gd_gemm_t *g, const float *before, int64_t every)
{
    gemm_error_t error = {0};
    int64_t n = 0;
    for (int64_t at = 0; at < g->n_batch * g->m * g->n; at += every, n++) {
        const int64_t batch = at / (g->m * g->n), row = at / g->n % g->m, column = at % g->n;
        const float *a = g->a + batch * g->a_batch + row * g->a_row;
        const float *b = g->b + batch * g->b_batch + column * g->b_col;
        const int64_t place = batch * g->c_batch + row * g->c_row + column;
        double sum = g->bias != NULL ? (double)g->bias[column] : 0;
        double size = fabs(sum);
        if (g->is_accumulating) {
            sum += (double)before[place];
            size += fabs((double)before[place]);
        }
        for (int64_t k = 0; k < g->k; k++) {
            const double term = (double)a[k * g->a_col] * (double)b[k * g->b_row];
            sum += term;
            size += fabs(term);
        }
        const double off = size > 0 ? fabs((double)g->c[place] - sum) / size : fabs((double)g->c[place] - sum);
        error.most = off > error.most || !isfinite(off) ? off : error.most;
        error.mean_square += off * off;
    }
    error.mean_square /= (double)n;
    return error;
}

void gemm_problem_spread(gemm_problem_t *p, int most)
{
    for (int64_t k = 0; k < p->gemm.k; k++) {
        const int power = (int)(k * 37 % (2 * most + 1)) - most;
        for (int64_t i = 0; i < p->gemm.m; i++) {
            p->a[i * p->gemm.a_row + k] = ldexpf(p->a[i * p->gemm.a_row + k], power);
        }
        for (int64_t j = 0; j < p->gemm.n; j++) {
            p->b[k * p->gemm.b_row + j] = ldexpf(p->b[k * p->gemm.b_row + j], k % 3 == 0 ? power / 2 : -power);
        }
    }
}

void gemm_problem_cancel(gemm_problem_t *p)
{
    const int64_t half = p->gemm.k / 2;
    for (int64_t k = 0; k < half; k++) {
        for (int64_t i = 0; i < p->gemm.m; i++) {
            p->a[i * p->gemm.a_row + half + k] = -p->a[i * p->gemm.a_row + k] * (1 + 3 * FLT_EPSILON);
        }
        memcpy(p->b + (half + k) * p->gemm.b_row, p->b + k * p->gemm.b_row, (size_t)p->gemm.n * sizeof(float));
    }
}
