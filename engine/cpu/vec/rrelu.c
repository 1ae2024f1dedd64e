/* SPDX-License-Identifier: Apache-2.0 */
/* rrelu: forward and backward, in stretches whose slopes are drawn together; rows in engine/ops/rrelu.c. */
#include "cpu/map.h"
#include "cpu/vec/half.h"
#include "cpu/vec/kernels.h"
#include "cpu/vec/mask.h"

/* y = v where x > 0, else slope v: v is x itself, or dy. */
typedef struct rrelu {
    const void *v, *x;
    void *y;
    gd_rng_key_t key;
    double lower, width; /* slope = lower + width u */
    int32_t dtype;
} rrelu_t;

static void rrelu_block(void *arg, int64_t begin, int64_t end)
{
    const rrelu_t *r = arg;
    uint32_t word[MASK_STRETCH];
    for (int64_t i = begin; i < end; i += MASK_STRETCH) {
        const int64_t n = end - i < MASK_STRETCH ? end - i : MASK_STRETCH;
        mask_words(&r->key, i, n, word);
        if (r->dtype == GD_DTYPE_F64) {
            const double *v = (const double *)r->v + i;
            const double *x = (const double *)r->x + i;
            double *y = (double *)r->y + i;
            for (int64_t j = 0; j < n; j++) {
                y[j] = x[j] > 0.0 ? v[j] : (r->lower + r->width * ((double)(word[j] >> 8) * 0x1.0p-24)) * v[j];
            }
            continue;
        }
        float v_buffer[MASK_STRETCH], x_buffer[MASK_STRETCH], y_buffer[MASK_STRETCH];
        const float *v = half_row(r->v, r->dtype, i, n, v_buffer);
        const float *x = half_row(r->x, r->dtype, i, n, x_buffer);
        float *y = half_row_open(r->y, r->dtype, i, y_buffer);
        const float lower = (float)r->lower, width = (float)r->width;
#pragma omp simd
        for (int64_t j = 0; j < n; j++) {
            const float slope = lower + width * ((float)(int32_t)(word[j] >> 8) * 0x1.0p-24F);
            y[j] = x[j] > 0.0F ? v[j] : slope * v[j];
        }
        half_row_put(y, r->y, r->dtype, i, n);
    }
}

static status_t run(const gd_kernel_args_t *args, const gd_view_t *v, const gd_view_t *x)
{
    const gd_attrs_t *attrs = args->attrs;
    if (!gd_dtype_is_float((gd_dtype_t)x->dtype)) {
        return gd_cpu_fail_dtype("rrelu", x->dtype);
    }
    rrelu_t r = {.v = v->data,
                 .x = x->data,
                 .y = args->out[0].data,
                 .key = attrs->rng,
                 .lower = attrs->f[0],
                 .width = attrs->f[1] - attrs->f[0],
                 .dtype = x->dtype};
    gd_cpu_parallel(args->n_threads, gd_view_numel(x), GD_CPU_MAP_GRAIN, rrelu_block, &r);
    return ST_OK;
}

/* in: x; out: y */
CPU_KERNEL(rrelu)
{
    return run(args, &args->in[0], &args->in[0]);
}

/* in: dy, x; out: dx */
CPU_KERNEL(rrelu_backward)
{
    return run(args, &args->in[0], &args->in[1]);
}
