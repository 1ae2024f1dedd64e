/* SPDX-License-Identifier: Apache-2.0 */
/*
 * attention: softmax(q kᵀ scale) v of all heads over packed qkv[B,T,3C], without the T × T matrix: a block of query
 * rows is finished before the next begins, and backward computes it again from the saved logsumexp (after Dao et al.,
 * "FlashAttention", 2022). A head is one thread's; nothing depends on the number of threads.
 *
 * Per head, D wide (ld: 3C):
 *   forward    S = q kᵀ, P = exp(scale S - lse), y = P v
 *   backward   dP = dy vᵀ, dS = scale P (dP - delta), delta = rowsum(dy y),
 *              dq = dS k, dk = dSᵀ q, dv = Pᵀ dy
 * Rows go in groups of TILE_ROWS; with a causal mask a group reads keys up to its own last row, rounded up to vectors,
 * and what lies past a row's own position is zero in P and dS. A head of 16 bits is copied to f32 at the beginning.
 * Where D is whole vectors of f32, dq, dk and dv are summed in place, in dqkv.
 */
#include <stdatomic.h>

#include "cpu/vec/half.h"
#include "cpu/vec/kernels.h"
#include "cpu/vec/scores.h"
#include "cpu/vec/tile.h"
#include "gradd/tensor.h"

typedef struct attention {
    int64_t n_heads;
    int64_t length;  /* T */
    int64_t width;   /* D */
    int64_t row;     /* 3C: from one position to the next in qkv */
    int64_t out_row; /* C */
    bool is_causal;
    int32_t dtype; /* of all but logsumexp, which is f32 beside 16 bits */
    const void *qkv;
    const void *dy;
    void *y;
    void *logsumexp; /* [B,H,T] */
    void *dqkv;
    int64_t padded_length; /* T and D in whole vectors */
    int64_t padded_width;
    atomic_bool is_out_of_memory;
} attention_t;

/* One head's arrays. k, v, q and dy as right factors: with rows of whole vectors, copied only where D isn't whole. */
typedef struct head {
    const float *q, *k, *v, *dy, *y;
    int64_t row;   /* of q, k, v */
    int64_t y_row; /* of dy, y */
    const float *q_right, *k_right, *v_right, *dy_right;
    int64_t right_row;
    int64_t dy_right_row;
    float *k_turned, *v_turned; /* [D, padded T] */
    float *scores;              /* [QUERY_ROWS, padded T]: S, then P */
    float *dscores;             /* dP, then dS */
    float *dq, *dk, *dv;        /* [T, padded D]; NULL dq: group by group in `out` */
    int64_t d_row;              /* of dq, dk, dv */
    float *out;                 /* [TILE_ROWS, padded D] */
} head_t;

static attention_t attention_init(const gd_view_t *qkv, const gd_attrs_t *attrs)
{
    const int64_t n_heads = attrs->i[0];
    const int64_t width = qkv->shape[2] / 3 / n_heads;
    return (attention_t){
        .n_heads = n_heads,
        .length = qkv->shape[1],
        .width = width,
        .row = qkv->shape[2],
        .out_row = qkv->shape[2] / 3,
        .is_causal = attrs->i[1] != 0,
        .dtype = qkv->dtype,
        .qkv = qkv->data,
        .padded_length = round_up(qkv->shape[1]),
        .padded_width = round_up(width),
    };
}

/* First element of head h of sample b in qkv / in y. */
static int64_t qkv_offset(const attention_t *a, int64_t index)
{
    return index / a->n_heads * a->length * a->row + index % a->n_heads * a->width;
}

static int64_t y_offset(const attention_t *a, int64_t index)
{
    return index / a->n_heads * a->length * a->out_row + index % a->n_heads * a->width;
}

/* Rows of whole vectors: the given ones, or a copy padded with zeros at *free_p, which moves on. */
static const float *right_factor(const attention_t *a, const float *from, int64_t row, float **free_p)
{
    if (a->width == a->padded_width) {
        return from;
    }
    float *to = *free_p;
    for (int64_t t = 0; t < a->length; t++) {
        memcpy(to + t * a->padded_width, from + t * row, (size_t)a->width * sizeof(float));
        memset(to + t * a->padded_width + a->width, 0, (size_t)(a->padded_width - a->width) * sizeof(float));
    }
    *free_p += a->length * a->padded_width;
    return to;
}

/* A head's [T,D] of 16 bits, whose rows are at distance `row`, as f32 at *free_p, which moves on. */
static const float *half_copy(const attention_t *a, const void *from, int64_t first, int64_t row, float **free_p)
{
    float *to = *free_p;
    for (int64_t t = 0; t < a->length; t++) {
        half_read((const uint16_t *)from + first + t * row, a->dtype, to + t * a->width, a->width);
    }
    *free_p += a->length * a->width;
    return to;
}

/* Where the head's operands are read. */
static void head_set_operands(const attention_t *a, int64_t index, bool is_backward, head_t *h, float **free_p)
{
    const int64_t q = qkv_offset(a, index);
    const int64_t y = y_offset(a, index);
    if (!half_is(a->dtype)) {
        h->row = a->row;
        h->y_row = a->out_row;
        h->q = (const float *)a->qkv + q;
        h->k = h->q + a->out_row;
        h->v = h->k + a->out_row;
        h->dy = is_backward ? (const float *)a->dy + y : NULL;
        h->y = is_backward ? (const float *)a->y + y : NULL;
        return;
    }
    h->row = a->width;
    h->y_row = a->width;
    h->q = half_copy(a, a->qkv, q, a->row, free_p);
    h->k = half_copy(a, a->qkv, q + a->out_row, a->row, free_p);
    h->v = half_copy(a, a->qkv, q + 2 * a->out_row, a->row, free_p);
    h->dy = is_backward ? half_copy(a, a->dy, y, a->out_row, free_p) : NULL;
    h->y = is_backward ? half_copy(a, a->y, y, a->out_row, free_p) : NULL;
}

/* Lays a head out over the thread's scratch; false: out of memory. */
static bool head_init(attention_t *a, int64_t index, bool is_backward, head_t *h)
{
    const int64_t turned = a->width * a->padded_length;
    const int64_t scores = QUERY_ROWS * a->padded_length;
    const int64_t rows = a->length * a->padded_width;
    const size_t size = (size_t)scores_scratch(a->width, a->length) * sizeof(float);
    float *scratch = gd_cpu_scratch(GD_CPU_SLOT_WORKER, size);
    if (scratch == NULL) {
        atomic_store(&a->is_out_of_memory, true);
        return false;
    }
    h->scores = scratch;
    h->dscores = h->scores + scores;
    h->k_turned = h->dscores + scores;
    h->v_turned = h->k_turned + turned;
    h->dk = h->v_turned + turned;
    h->dv = h->dk + rows;
    h->out = h->dv + rows;
    float *unused = h->out + TILE_ROWS * a->padded_width;
    const bool is_whole = a->width == a->padded_width;
    head_set_operands(a, index, is_backward, h, &unused);
    h->right_row = is_whole ? h->row : a->padded_width;
    h->dy_right_row = is_whole ? h->y_row : a->padded_width;
    tile_transpose(h->k, h->row, a->length, a->width, h->k_turned, a->padded_length);
    h->dq = NULL;
    h->d_row = a->padded_width;
    if (is_backward) {
        if (is_whole && !half_is(a->dtype)) {
            h->dq = (float *)a->dqkv + qkv_offset(a, index);
            h->dk = h->dq + a->out_row;
            h->dv = h->dk + a->out_row;
            h->d_row = a->row;
        }
        tile_transpose(h->v, h->row, a->length, a->width, h->v_turned, a->padded_length);
        h->q_right = right_factor(a, h->q, h->row, &unused);
        h->k_right = right_factor(a, h->k, h->row, &unused);
        h->dy_right = right_factor(a, h->dy, h->y_row, &unused);
    } else {
        h->v_right = right_factor(a, h->v, h->row, &unused);
    }
    return true;
}

/* to[first … first + D) = from */
static void row_put(const attention_t *a, const float *from, void *to, int64_t first)
{
    if (half_is(a->dtype)) {
        half_write(from, a->dtype, (uint16_t *)to + first, a->width);
    } else {
        memcpy((float *)to + first, from, (size_t)a->width * sizeof(float));
    }
}

/* scores[i - begin, j] = left row i · right column j, for the keys that the group's rows see. */
static void scores_compute(const attention_t *a, const float *left, int64_t left_row, const float *turned, int64_t row,
                           int64_t rows, int64_t n_keys, float *scores)
{
    const tile_product_t product = {
        .n = round_up(n_keys),
        .k = a->width,
        .a = left + row * left_row,
        .a_row = left_row,
        .a_k = 1,
        .b = turned,
        .b_row = a->padded_length,
        .c = scores,
        .c_row = a->padded_length,
    };
    tile_product_run(&product, rows);
}

/* One group of rows: y and logsumexp. */
static void forward_group(const attention_t *a, const head_t *h, int64_t index, int64_t row, int64_t rows)
{
    const int64_t n_keys = a->is_causal ? row + rows : a->length;
    const float scale = 1.0F / sqrtf((float)a->width);
    float most[TILE_ROWS], sum[TILE_ROWS], inverse[TILE_ROWS];
    scores_compute(a, h->q, h->row, h->k_turned, row, rows, n_keys, h->scores);
    for (int64_t i = 0; i < rows; i++) {
        float *p = h->scores + i * a->padded_length;
        const int64_t n = a->is_causal ? row + i + 1 : a->length;
        most[i] = scale * row_max(p, n);
        sum[i] = row_exp(p, n, round_up(n_keys), scale, most[i]);
    }
    for (int64_t i = 0; i < rows; i++) {
        ((float *)a->logsumexp)[index * a->length + row + i] = most[i] + logf(sum[i]);
        inverse[i] = 1.0F / sum[i];
    }
    const tile_product_t product = {
        .n = a->padded_width,
        .k = n_keys,
        .a = h->scores,
        .a_row = a->padded_length,
        .a_k = 1,
        .b = h->v_right,
        .b_row = h->right_row,
        .c = h->out,
        .c_row = a->padded_width,
    };
    tile_product_run(&product, rows);
    const int64_t first = y_offset(a, index) + row * a->out_row;
    for (int64_t i = 0; i < rows; i++) {
        const float *out = h->out + i * a->padded_width;
        float *y = half_row_open(a->y, a->dtype, first + i * a->out_row, h->out + i * a->padded_width);
        for (int64_t d = 0; d < a->width; d++) {
            y[d] = out[d] * inverse[i];
        }
        half_row_put(y, a->y, a->dtype, first + i * a->out_row, a->width);
    }
}

static void forward_head_f32(void *arg, int64_t index, int64_t end)
{
    (void)end;
    attention_t *a = arg;
    head_t h;
    if (!head_init(a, index, false, &h)) {
        return;
    }
    for (int64_t row = 0; row < a->length; row += TILE_ROWS) {
        forward_group(a, &h, index, row, a->length - row < TILE_ROWS ? a->length - row : TILE_ROWS);
    }
}

/* Where the logsumexp is large: neither it nor y is needed; see scores.h. */
static void row_differentiate_large(float *p, float *ds, int64_t n, int64_t end, float scale)
{
    row_scale(p, end, scale);
    row_divide(p, end, row_exp(p, n, end, 1.0F, row_max(p, n)));
    const float delta = row_dot(p, ds, end);
    for (int64_t j = 0; j < end; j += SIMD_WIDTH) {
        simd_store(ds + j, simd_load(p + j) * (simd_load(ds + j) - delta) * scale);
    }
}

/*
 * p[0 … n) = exp(scale p - offset), ds = p (ds - delta) scale, and zeros in both up to end; edges as in row_exp.
 */
static inline void row_differentiate(float *p, float *ds, int64_t n, int64_t end, float scale, float offset,
                                     float delta)
{
    int64_t j = 0;
    for (; j + SIMD_WIDTH <= n; j += SIMD_WIDTH) {
        const simd_f32_t weight = simd_exp_negative(scale * simd_load(p + j) - offset);
        simd_store(p + j, weight);
        simd_store(ds + j, weight * (simd_load(ds + j) - delta) * scale);
    }
    if (j < n) {
        const simd_f32_t weight = simd_first(simd_exp_negative(scale * simd_load(p + j) - offset), n - j, 0.0F);
        simd_store(p + j, weight);
        simd_store(ds + j, simd_first(weight * (simd_load(ds + j) - delta) * scale, n - j, 0.0F));
        j += SIMD_WIDTH;
    }
    for (; j < end; j += SIMD_WIDTH) {
        simd_store(p + j, (simd_f32_t){0});
        simd_store(ds + j, (simd_f32_t){0});
    }
}

/* One group of rows of the block that begins at `block`: P, dS and dq. */
static void backward_group(const attention_t *a, const head_t *h, int64_t index, int64_t block, int64_t row,
                           int64_t rows)
{
    const int64_t n_keys = a->is_causal ? row + rows : a->length;
    const float scale = 1.0F / sqrtf((float)a->width);
    float *scores = h->scores + (row - block) * a->padded_length;
    float *dscores = h->dscores + (row - block) * a->padded_length;
    scores_compute(a, h->q, h->row, h->k_turned, row, rows, n_keys, scores);
    scores_compute(a, h->dy, h->y_row, h->v_turned, row, rows, n_keys, dscores);
    for (int64_t i = 0; i < rows; i++) {
        float *p = scores + i * a->padded_length;
        float *ds = dscores + i * a->padded_length;
        const int64_t n = a->is_causal ? row + i + 1 : a->length;
        float delta = 0.0F;
#pragma omp simd reduction(+ : delta)
        for (int64_t d = 0; d < a->width; d++) {
            delta += h->dy[(row + i) * h->y_row + d] * h->y[(row + i) * h->y_row + d];
        }
        const float logsumexp = ((const float *)a->logsumexp)[index * a->length + row + i];
        if (fabsf(logsumexp) > LOGSUMEXP_MOST) {
            row_differentiate_large(p, ds, n, round_up(n_keys), scale);
        } else {
            row_differentiate(p, ds, n, round_up(n_keys), scale, logsumexp, delta);
        }
    }
    const tile_product_t product = {
        .n = a->padded_width,
        .k = n_keys,
        .a = dscores,
        .a_row = a->padded_length,
        .a_k = 1,
        .b = h->k_right,
        .b_row = h->right_row,
        .c = h->dq != NULL ? h->dq + row * h->d_row : h->out,
        .c_row = h->d_row,
    };
    tile_product_run(&product, rows);
    for (int64_t i = 0; i < rows && h->dq == NULL; i++) {
        row_put(a, h->out + i * a->padded_width, a->dqkv, qkv_offset(a, index) + (row + i) * a->row);
    }
}

/* dk and dv of keys [key, key + rows) from the query rows [begin, end) of the block at `block`. */
static void backward_keys(const attention_t *a, const head_t *h, int64_t block, int64_t begin, int64_t end, int64_t key,
                          int64_t rows)
{
    tile_product_t product = {
        .n = a->padded_width,
        .k = end - begin,
        .a = h->dscores + (begin - block) * a->padded_length + key,
        .a_row = 1,
        .a_k = a->padded_length,
        .b = h->q_right + begin * h->right_row,
        .b_row = h->right_row,
        .c = h->dk + key * h->d_row,
        .c_row = h->d_row,
        .is_adding = a->is_causal ? key < block : block > 0, /* not the first rows that see the keys */
    };
    tile_product_run(&product, rows);
    product.a = h->scores + (begin - block) * a->padded_length + key;
    product.b = h->dy_right + begin * h->dy_right_row;
    product.b_row = h->dy_right_row;
    product.c = h->dv + key * h->d_row;
    tile_product_run(&product, rows);
}

static void backward_head_f32(void *arg, int64_t index, int64_t end_index)
{
    (void)end_index;
    attention_t *a = arg;
    head_t h;
    if (!head_init(a, index, true, &h)) {
        return;
    }
    for (int64_t block = 0; block < a->length; block += QUERY_ROWS) {
        const int64_t end = a->length - block < QUERY_ROWS ? a->length : block + QUERY_ROWS;
        for (int64_t row = block; row < end; row += TILE_ROWS) {
            backward_group(a, &h, index, block, row, end - row < TILE_ROWS ? end - row : TILE_ROWS);
        }
        const int64_t n_keys = a->is_causal ? end : a->length;
        for (int64_t key = 0; key < n_keys; key += TILE_ROWS) {
            const int64_t begin = a->is_causal && key > block ? key : block;
            backward_keys(a, &h, block, begin, end, key, n_keys - key < TILE_ROWS ? n_keys - key : TILE_ROWS);
        }
    }
    const int64_t dk = qkv_offset(a, index) + a->out_row;
    for (int64_t t = 0; t < a->length && h.dq == NULL; t++) {
        row_put(a, h.dk + t * a->padded_width, a->dqkv, dk + t * a->row);
        row_put(a, h.dv + t * a->padded_width, a->dqkv, dk + a->out_row + t * a->row);
    }
}

static double dot_f64(const double *a, const double *b, int64_t n)
{
    double sum = 0.0;
    for (int64_t i = 0; i < n; i++) {
        sum += a[i] * b[i];
    }
    return sum;
}

/* The definition, row by row; the scores of a row are computed where they are needed. */
static void forward_head_f64(void *arg, int64_t index, int64_t end)
{
    (void)end;
    const attention_t *a = arg;
    const double *q = (const double *)a->qkv + qkv_offset(a, index);
    const double *k = q + a->out_row, *v = k + a->out_row;
    double *y = (double *)a->y + y_offset(a, index);
    const double scale = 1.0 / sqrt((double)a->width);
    for (int64_t i = 0; i < a->length; i++) {
        const int64_t n = a->is_causal ? i + 1 : a->length;
        double most = -INFINITY, sum = 0.0;
        for (int64_t j = 0; j < n; j++) {
            const double s = scale * dot_f64(q + i * a->row, k + j * a->row, a->width);
            most = s > most ? s : most;
        }
        for (int64_t j = 0; j < n; j++) {
            sum += exp(scale * dot_f64(q + i * a->row, k + j * a->row, a->width) - most);
        }
        memset(y + i * a->out_row, 0, (size_t)a->width * sizeof(double));
        for (int64_t j = 0; j < n; j++) {
            const double p = exp(scale * dot_f64(q + i * a->row, k + j * a->row, a->width) - most) / sum;
            for (int64_t d = 0; d < a->width; d++) {
                y[i * a->out_row + d] += p * v[j * a->row + d];
            }
        }
        ((double *)a->logsumexp)[index * a->length + i] = most + log(sum);
    }
}

static void backward_head_f64(void *arg, int64_t index, int64_t end)
{
    (void)end;
    const attention_t *a = arg;
    const double *q = (const double *)a->qkv + qkv_offset(a, index);
    const double *k = q + a->out_row, *v = k + a->out_row;
    const double *y = (const double *)a->y + y_offset(a, index);
    const double *dy = (const double *)a->dy + y_offset(a, index);
    double *dq = (double *)a->dqkv + qkv_offset(a, index);
    double *dk = dq + a->out_row, *dv = dk + a->out_row;
    const double scale = 1.0 / sqrt((double)a->width);
    for (int64_t i = 0; i < a->length; i++) {
        memset(dq + i * a->row, 0, (size_t)a->width * sizeof(double));
        memset(dk + i * a->row, 0, (size_t)a->width * sizeof(double));
        memset(dv + i * a->row, 0, (size_t)a->width * sizeof(double));
    }
    for (int64_t i = 0; i < a->length; i++) {
        const double delta = dot_f64(dy + i * a->out_row, y + i * a->out_row, a->width);
        const int64_t n = a->is_causal ? i + 1 : a->length;
        for (int64_t j = 0; j < n; j++) {
            const double s = scale * dot_f64(q + i * a->row, k + j * a->row, a->width);
            const double p = exp(s - ((const double *)a->logsumexp)[index * a->length + i]);
            const double ds = scale * p * (dot_f64(dy + i * a->out_row, v + j * a->row, a->width) - delta);
            for (int64_t d = 0; d < a->width; d++) {
                dq[i * a->row + d] += ds * k[j * a->row + d];
                dk[j * a->row + d] += ds * q[i * a->row + d];
                dv[j * a->row + d] += p * dy[i * a->out_row + d];
            }
        }
    }
}

static status_t attention_run(attention_t *a, const char *op, const gd_view_t *qkv, int n_threads,
                              gd_cpu_body_func_t f32, gd_cpu_body_func_t f64)
{
    if (!gd_dtype_is_float((gd_dtype_t)qkv->dtype)) {
        return gd_cpu_fail_dtype(op, qkv->dtype);
    }
    gd_cpu_parallel(n_threads, qkv->shape[0] * a->n_heads, 1, qkv->dtype == GD_DTYPE_F64 ? f64 : f32, a);
    if (atomic_load(&a->is_out_of_memory)) {
        return ST_FAIL(ST_ERR_NOMEM, "%s: scratch memory for a head of [%lld, %lld]", op, (long long)a->length,
                       (long long)a->width);
    }
    return ST_OK;
}

/* in: qkv[B,T,3C]; out: y[B,T,C], logsumexp[B,H,T]. attrs: i0 heads; i1 causal. */
CPU_KERNEL(attention)
{
    attention_t a = attention_init(&args->in[0], args->attrs);
    a.y = args->out[0].data;
    a.logsumexp = args->out[1].data;
    return attention_run(&a, "attention", &args->in[0], args->n_threads, forward_head_f32, forward_head_f64);
}

/* in: dy[B,T,C], qkv[B,T,3C], y[B,T,C], logsumexp[B,H,T]; out: dqkv[B,T,3C]. attrs: i0 heads; i1 causal. */
CPU_KERNEL(attention_backward)
{
    attention_t a = attention_init(&args->in[1], args->attrs);
    a.dy = args->in[0].data;
    a.y = args->in[2].data;
    a.logsumexp = args->in[3].data;
    a.dqkv = args->out[0].data;
    return attention_run(&a, "attention_backward", &args->in[1], args->n_threads, backward_head_f32, backward_head_f64);
}
