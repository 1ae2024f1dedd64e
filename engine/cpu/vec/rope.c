/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rope: rotary position embedding (Su et al., 2021): pairs of a head's features are turned by position · theta^(-2i/R).
 * A block is a position of all samples and heads, so that its sines and cosines are computed once.
 */
#include "cpu/vec/kernels.h"
#include "cpu/vec/simd.h"

enum { MAX_PAIRS = 512 };

typedef struct rope {
    const void *x;
    void *y;
    int64_t batch, length, n_heads, width;
    int64_t n_pairs; /* R / 2 */
    int64_t first;   /* position of the first time */
    bool is_interleaved;
    double sign, theta;
    double scaling, low, high; /* scaling 0: none */
    int64_t old_context;       /* 0: all rates are scaled */
} rope_t;

/*
 * Angle of pair i a position. Scaled as Llama 3.1 does: what turns less than `low` times within the old context is
 * slowed down, what turns more than `high` times is kept, and in between goes over from one to the other.
 */
static double rate_get(const rope_t *r, int64_t i)
{
    const double rate = pow(r->theta, -(double)i / (double)r->n_pairs);
    if (r->scaling <= 0.0) {
        return rate;
    }
    double kept = 0.0;
    if (r->old_context > 0) {
        kept = ((double)r->old_context * rate / (2 * 3.14159265358979323846) - r->low) / (r->high - r->low);
        kept = kept < 0.0 ? 0.0 : kept > 1.0 ? 1.0 : kept;
    }
    return kept * rate + (1.0 - kept) * rate / r->scaling;
}

/* Pair i is (first half, second half)[i], or neighbours. */
#define DEFINE_ROPE(name_x, type_x)                                                                                    \
    static void name_x(void *arg, int64_t begin, int64_t end)                                                          \
    {                                                                                                                  \
        const rope_t *r = arg;                                                                                         \
        const int64_t n = r->n_pairs, width = r->width;                                                                \
        type_x cosine[MAX_PAIRS], sine[MAX_PAIRS];                                                                     \
        for (int64_t t = begin; t < end; t++) {                                                                        \
            for (int64_t i = 0; i < n; i++) {                                                                          \
                const double angle = (double)(r->first + t) * rate_get(r, i);                                          \
                cosine[i] = (type_x)cos(angle);                                                                        \
                sine[i] = (type_x)(r->sign * sin(angle));                                                              \
            }                                                                                                          \
            for (int64_t row = 0; row < r->batch * r->n_heads; row++) {                                                \
                const int64_t b = row / r->n_heads, h = row % r->n_heads;                                              \
                const int64_t at = ((b * r->length + t) * r->n_heads + h) * width;                                     \
                const type_x *x = (const type_x *)r->x + at;                                                           \
                type_x *y = (type_x *)r->y + at;                                                                       \
                if (r->is_interleaved) {                                                                               \
                    for (int64_t i = 0; i < n; i++) {                                                                  \
                        const type_x a = x[2 * i], c = x[2 * i + 1];                                                   \
                        y[2 * i] = a * cosine[i] - c * sine[i];                                                        \
                        y[2 * i + 1] = c * cosine[i] + a * sine[i];                                                    \
                    }                                                                                                  \
                } else {                                                                                               \
                    _Pragma("omp simd") for (int64_t i = 0; i < n; i++)                                                \
                    {                                                                                                  \
                        const type_x a = x[i], c = x[n + i];                                                           \
                        y[i] = a * cosine[i] - c * sine[i];                                                            \
                        y[n + i] = c * cosine[i] + a * sine[i];                                                        \
                    }                                                                                                  \
                }                                                                                                      \
                for (int64_t i = 2 * n; i < width; i++) {                                                              \
                    y[i] = x[i];                                                                                       \
                }                                                                                                      \
            }                                                                                                          \
        }                                                                                                              \
    }
DEFINE_ROPE(rope_f32, float)
DEFINE_ROPE(rope_f64, double)

/* in: x[B,T,H·D]; out: y. attrs: i0 heads; i1 rotated features R; i2 first position; i3 interleaved; i4 back; i5 old
 * context; f0 theta; f1 scaling; f2 low; f3 high */
CPU_KERNEL(rope)
{
    const gd_view_t *x = &args->in[0];
    if (x->dtype != GD_DTYPE_F32 && x->dtype != GD_DTYPE_F64) {
        return gd_cpu_fail_dtype("rope", x->dtype);
    }
    const int64_t *attrs = args->attrs->i;
    rope_t r = {
        .x = x->data,
        .y = args->out[0].data,
        .batch = x->shape[0],
        .length = x->shape[1],
        .n_heads = attrs[0],
        .width = x->shape[2] / attrs[0],
        .n_pairs = attrs[1] / 2,
        .first = attrs[2],
        .is_interleaved = attrs[3] != 0,
        .sign = attrs[4] != 0 ? -1.0 : 1.0,
        .theta = args->attrs->f[0],
        .scaling = args->attrs->f[1],
        .low = args->attrs->f[2],
        .high = args->attrs->f[3],
        .old_context = attrs[5],
    };
    gd_cpu_parallel(args->n_threads, r.length, 1, x->dtype == GD_DTYPE_F32 ? rope_f32 : rope_f64, &r);
    return ST_OK;
}
