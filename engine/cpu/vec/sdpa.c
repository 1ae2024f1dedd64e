/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sdpa: softmax(scale q kᵀ + bias) v with separate queries q[B,T,H·D], keys and values k, v[B,S,G·D], and what
 * attention.c leaves out: heads that share keys (H / G query heads to one of keys), other lengths of q and k, causal or
 * sliding windows, key lengths, an additive mask, ALiBi, dropout of the weights. The same blocks as there: T × S scores
 * are never held, backward computes them again from the saved logsumexp. A head of keys, with all its query heads, is
 * one thread's, so that sums over them have one order.
 *
 * Query t sees keys lo(t) … hi(t) - 1: from the causal mask, the window and the sample's length. Groups of TILE_ROWS
 * queries read the union of their ranges, from a whole vector on; what a row doesn't see is zero in P and dS. A query
 * that sees nothing gives zeros, and its logsumexp is 0.
 *   s = scale q·k + mask - slope |t - u|,  P = exp(s - lse),  y = (P M) v,  M: dropout's mask over 1 - p
 *   dP = M (dy vᵀ),  dS = scale P (dP - dy·y),  dq = dS k,  dk = dSᵀ q,  dv = (P M)ᵀ dy
 */
#include <stdatomic.h>

#include "cpu/vec/kernels.h"
#include "cpu/vec/mask.h"
#include "cpu/vec/scores.h"
#include "cpu/vec/tile.h"

typedef struct sdpa {
    int64_t n_heads, n_key_heads;
    int64_t queries, keys; /* T, S */
    int64_t width;         /* D */
    bool is_causal;
    bool has_alibi;
    int64_t window; /* 0: none */
    double scale, dropout;
    uint32_t threshold;
    gd_rng_key_t key;
    const void *q, *k, *v, *dy;
    const void *mask;
    int64_t mask_stride[4]; /* of B, H, T, S */
    const int64_t *lengths;
    void *y, *logsumexp; /* [B,H,T] */
    void *dq, *dk, *dv;
    int64_t padded_keys, padded_width; /* S and D in whole vectors */
    atomic_bool is_out_of_memory;
} sdpa_t;

/* The keys [lo, hi) that query t of sample b sees. */
static void range_get(const sdpa_t *a, int64_t b, int64_t t, int64_t *lo_p, int64_t *hi_p)
{
    int64_t lo = 0;
    int64_t hi = a->keys;
    if (a->lengths != NULL) {
        hi = a->lengths[b] < hi ? a->lengths[b] : hi;
    }
    if (a->is_causal) {
        hi = t + 1 < hi ? t + 1 : hi;
    }
    if (a->window > 0) {
        lo = t - a->window + 1 > 0 ? t - a->window + 1 : 0;
        lo = lo < a->keys ? lo : a->keys;
        hi = t + a->window < hi ? t + a->window : hi;
    }
    *lo_p = lo;
    *hi_p = hi > lo ? hi : lo;
}

/* Slope of head h of n: 2^(-8 (h+1) / n) for a power of two, otherwise as Press et al. fill up the rest. */
static double alibi_slope(int64_t h, int64_t n)
{
    int64_t power = 1;
    while (2 * power <= n) {
        power *= 2;
    }
    if (h < power) {
        return exp2(-8.0 * (double)(h + 1) / (double)power);
    }
    return exp2(-4.0 * (double)(2 * (h - power) + 1) / (double)power);
}

/* Index of the dropout mask's first element of a row of scores; a multiple of 4. */
static int64_t mask_row(const sdpa_t *a, int64_t b, int64_t h, int64_t t)
{
    return ((b * a->n_heads + h) * a->queries + t) * ((a->keys + 3) / 4 * 4);
}

/* Index of the additive mask's first element of a row of scores. */
static int64_t bias_row(const sdpa_t *a, int64_t b, int64_t h, int64_t t)
{
    return b * a->mask_stride[0] + h * a->mask_stride[1] + t * a->mask_stride[2];
}

/* One head of keys and the query head in hand. */
typedef struct head {
    int64_t b, h;
    const float *q, *k, *v, *dy, *y;
    const float *q_right, *k_right, *v_right, *dy_right; /* with rows of whole vectors */
    int64_t q_right_row, k_right_row;
    float *q_copy, *dy_copy;    /* where D isn't whole */
    float *k_turned, *v_turned; /* [D, padded S] */
    float *scores, *dscores;    /* [QUERY_ROWS, padded S] */
    float *dk, *dv;             /* [S, padded D] */
    float *out;                 /* [TILE_ROWS, padded D] */
    float slope;
} head_t;

static const float *rows_pad(const sdpa_t *a, const float *from, int64_t n, int64_t row, float *to)
{
    if (a->width == a->padded_width) {
        return from;
    }
    for (int64_t t = 0; t < n; t++) {
        memcpy(to + t * a->padded_width, from + t * row, (size_t)a->width * sizeof(float));
        memset(to + t * a->padded_width + a->width, 0, (size_t)(a->padded_width - a->width) * sizeof(float));
    }
    return to;
}

/* Lays head `index` of keys out over the thread's scratch; false: out of memory. */
static bool keys_init(sdpa_t *a, int64_t index, bool is_backward, head_t *h)
{
    const bool is_whole = a->width == a->padded_width;
    const int64_t turned = a->width * a->padded_keys;
    const int64_t scores = QUERY_ROWS * a->padded_keys + SIMD_WIDTH;
    const int64_t key_rows = a->keys * a->padded_width;
    const int64_t query_copy = is_whole ? 0 : a->queries * a->padded_width;
    const int64_t longest = a->keys > a->queries ? a->keys : a->queries;
    const size_t size = (size_t)scores_scratch(a->width, longest) * sizeof(float);
    float *scratch = gd_cpu_scratch(GD_CPU_SLOT_WORKER, size);
    if (scratch == NULL) {
        atomic_store(&a->is_out_of_memory, true);
        return false;
    }
    const int64_t row = a->n_key_heads * a->width;
    h->b = index / a->n_key_heads;
    h->scores = scratch;
    h->dscores = h->scores + scores;
    h->k_turned = h->dscores + scores;
    h->v_turned = h->k_turned + turned;
    h->dk = h->v_turned + turned;
    h->dv = h->dk + key_rows;
    h->out = h->dv + key_rows;
    float *copy = h->out + TILE_ROWS * a->padded_width;
    h->q_copy = copy + (is_whole ? 0 : key_rows);
    h->dy_copy = h->q_copy + query_copy;
    const int64_t first = h->b * a->keys * row + index % a->n_key_heads * a->width;
    h->k = (const float *)a->k + first;
    h->v = (const float *)a->v + first;
    h->k_right_row = is_whole ? row : a->padded_width;
    tile_transpose(h->k, row, a->keys, a->width, h->k_turned, a->padded_keys);
    if (is_backward) {
        tile_transpose(h->v, row, a->keys, a->width, h->v_turned, a->padded_keys);
        h->k_right = rows_pad(a, h->k, a->keys, row, copy);
        memset(h->dk, 0, (size_t)key_rows * 2 * sizeof(float));
    } else {
        h->v_right = rows_pad(a, h->v, a->keys, row, copy);
    }
    return true;
}

/* Goes to query head `query_head` of the sample. */
static void query_init(const sdpa_t *a, int64_t query_head, bool is_backward, head_t *h)
{
    const int64_t row = a->n_heads * a->width;
    const int64_t first = h->b * a->queries * row + query_head * a->width;
    h->h = query_head;
    h->slope = a->has_alibi ? (float)alibi_slope(query_head, a->n_heads) : 0.0F;
    h->q = (const float *)a->q + first;
    h->q_right_row = a->width == a->padded_width ? row : a->padded_width;
    if (is_backward) {
        h->dy = (const float *)a->dy + first;
        h->y = (const float *)a->y + first;
        h->q_right = rows_pad(a, h->q, a->queries, row, h->q_copy);
        h->dy_right = rows_pad(a, h->dy, a->queries, row, h->dy_copy);
    }
}

/* scores[i, j] = left row i · right column j for j in [begin, begin + n), n whole vectors */
static void scores_compute(const sdpa_t *a, const float *left, const float *turned, int64_t rows, int64_t begin,
                           int64_t n, float *scores)
{
    const tile_product_t product = {
        .n = n,
        .k = a->width,
        .a = left,
        .a_row = a->n_heads * a->width,
        .a_k = 1,
        .b = turned + begin,
        .b_row = a->padded_keys,
        .c = scores + begin,
        .c_row = a->padded_keys,
    };
    tile_product_run(&product, rows);
}

/* Adds what is added to the scores x[lo … hi) of query t, scaling them; returns the scale that is left. */
static float bias_add(const sdpa_t *a, const head_t *h, int64_t t, int64_t lo, int64_t hi, float *x)
{
    const float scale = (float)a->scale;
    if (a->mask == NULL && !a->has_alibi) {
        return scale;
    }
    const float slope = h->slope;
    if (a->mask == NULL) {
#pragma omp simd
        for (int64_t j = lo; j < hi; j++) {
            x[j] = scale * x[j] - slope * fabsf((float)(int32_t)(t - j));
        }
        return 1.0F;
    }
    const float *mask = (const float *)a->mask + bias_row(a, h->b, h->h, t);
    const int64_t stride = a->mask_stride[3];
    if (stride == 1) {
#pragma omp simd
        for (int64_t j = lo; j < hi; j++) {
            x[j] = scale * x[j] + mask[j] - slope * fabsf((float)(int32_t)(t - j));
        }
        return 1.0F;
    }
    for (int64_t j = lo; j < hi; j++) {
        x[j] = scale * x[j] + mask[j * stride] - slope * fabsf((float)(int32_t)(t - j));
    }
    return 1.0F;
}

/*
 * The weights of query t from its scores x[begin …), begin and end whole vectors: exp(s - offset) for those it sees, 0
 * for the rest. Without an offset (NAN) the largest score is taken. scales_first: see scores.h. Returns the sum and
 * *offset_p.
 */
static float row_weigh(const sdpa_t *a, const head_t *h, int64_t t, int64_t begin, int64_t end, bool scales_first,
                       float *x, float *offset_p)
{
    int64_t lo = 0;
    int64_t hi = 0;
    range_get(a, h->b, t, &lo, &hi);
    float sum = 0.0F;
    if (hi > lo) {
        float scale = bias_add(a, h, t, lo, hi, x);
        if (scales_first) {
            row_scale(x + begin, round_up(hi - begin), scale);
            scale = 1.0F;
        }
        for (int64_t j = begin; j < lo; j++) {
            x[j] = -INFINITY;
        }
        if (isnan(*offset_p)) {
            *offset_p = scale * row_max(x + begin, hi - begin);
        }
        if (*offset_p > -INFINITY) {
            sum = row_exp(x + begin, hi - begin, end - begin, scale, *offset_p);
        } else {
            hi = lo; /* all of them are masked */
        }
    }
    if (hi == lo) {
        memset(x + begin, 0, (size_t)(end - begin) * sizeof(float));
        return 0.0F;
    }
    for (int64_t j = begin; j < lo; j++) {
        x[j] = 0.0F;
    }
    if (a->mask != NULL) { /* row_exp's least number stands for masked keys too */
#pragma omp simd
        for (int64_t j = lo; j < hi; j++) {
            x[j] = x[j] < 1e-37F ? 0.0F : x[j];
        }
    }
    return sum;
}

/* x[begin … end) times dropout's mask and 1 / (1 - p). */
static void row_drop(const sdpa_t *a, const head_t *h, int64_t t, int64_t begin, int64_t end, float *x)
{
    uint32_t kept[MASK_STRETCH];
    const float factor = (float)(1.0 / (1.0 - a->dropout));
    const int64_t first = mask_row(a, h->b, h->h, t);
    for (int64_t j = begin / 4 * 4; j < end; j += MASK_STRETCH) {
        const int64_t n = end - j < MASK_STRETCH ? end - j : MASK_STRETCH;
        mask_draw(&a->key, a->threshold, first + j, n, kept);
#pragma omp simd
        for (int64_t i = 0; i < n; i++) {
            x[j + i] = kept[i] != 0 ? x[j + i] * factor : 0.0F;
        }
    }
}

/* The keys that queries [row, row + rows) see, in whole vectors. */
static void group_range(const sdpa_t *a, int64_t b, int64_t row, int64_t rows, int64_t *begin_p, int64_t *end_p)
{
    int64_t lo = 0;
    int64_t hi = 0;
    range_get(a, b, row, &lo, &hi);
    int64_t least = lo;
    int64_t most = hi;
    for (int64_t i = 1; i < rows; i++) {
        range_get(a, b, row + i, &lo, &hi);
        least = lo < least ? lo : least;
        most = hi > most ? hi : most;
    }
    *begin_p = least / SIMD_WIDTH * SIMD_WIDTH;
    *end_p = round_up(most);
}

static void forward_group(const sdpa_t *a, const head_t *h, int64_t row, int64_t rows)
{
    float inverse[TILE_ROWS];
    const int64_t q_row = a->n_heads * a->width;
    int64_t begin = 0;
    int64_t end = 0;
    group_range(a, h->b, row, rows, &begin, &end);
    scores_compute(a, h->q + row * q_row, h->k_turned, rows, begin, end - begin, h->scores);
    for (int64_t i = 0; i < rows; i++) {
        float *p = h->scores + i * a->padded_keys;
        float most = NAN;
        const float sum = row_weigh(a, h, row + i, begin, end, false, p, &most);
        float *logsumexp = (float *)a->logsumexp + (h->b * a->n_heads + h->h) * a->queries + row + i;
        *logsumexp = sum > 0.0F ? most + logf(sum) : 0.0F;
        inverse[i] = sum > 0.0F ? 1.0F / sum : 0.0F;
        if (a->dropout > 0.0) {
            row_drop(a, h, row + i, begin, end, p);
        }
    }
    const tile_product_t product = {
        .n = a->padded_width,
        .k = (end < a->keys ? end : a->keys) - begin,
        .a = h->scores + begin,
        .a_row = a->padded_keys,
        .a_k = 1,
        .b = h->v_right + begin * h->k_right_row,
        .b_row = h->k_right_row,
        .c = h->out,
        .c_row = a->padded_width,
    };
    tile_product_run(&product, rows);
    float *y = (float *)a->y + (h->b * a->queries + row) * q_row + h->h * a->width;
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t d = 0; d < a->width; d++) {
            y[i * q_row + d] = h->out[i * a->padded_width + d] * inverse[i];
        }
    }
}

static void forward_keys_f32(void *arg, int64_t index, int64_t end)
{
    (void)end;
    sdpa_t *a = arg;
    head_t h = {0};
    if (!keys_init(a, index, false, &h)) {
        return;
    }
    const int64_t n_shared = a->n_heads / a->n_key_heads;
    for (int64_t i = 0; i < n_shared; i++) {
        query_init(a, index % a->n_key_heads * n_shared + i, false, &h);
        for (int64_t row = 0; row < a->queries; row += TILE_ROWS) {
            forward_group(a, &h, row, a->queries - row < TILE_ROWS ? a->queries - row : TILE_ROWS);
        }
    }
}

/* One group of the block that begins at `block` and reads keys [block_begin, block_end): P M, dS and dq. */
static void backward_group(const sdpa_t *a, const head_t *h, int64_t block, int64_t block_begin, int64_t block_end,
                           int64_t row, int64_t rows)
{
    const int64_t q_row = a->n_heads * a->width;
    const float scale = (float)a->scale;
    float *scores = h->scores + (row - block) * a->padded_keys;
    float *dscores = h->dscores + (row - block) * a->padded_keys;
    int64_t begin = 0;
    int64_t end = 0;
    group_range(a, h->b, row, rows, &begin, &end);
    scores_compute(a, h->q + row * q_row, h->k_turned, rows, begin, end - begin, scores);
    scores_compute(a, h->dy + row * q_row, h->v_turned, rows, begin, end - begin, dscores);
    for (int64_t i = 0; i < rows; i++) {
        float *p = scores + i * a->padded_keys;
        float *ds = dscores + i * a->padded_keys;
        float delta = 0.0F;
#pragma omp simd reduction(+ : delta)
        for (int64_t d = 0; d < a->width; d++) {
            delta += h->dy[(row + i) * q_row + d] * h->y[(row + i) * q_row + d];
        }
        float offset = ((const float *)a->logsumexp)[(h->b * a->n_heads + h->h) * a->queries + row + i];
        const bool is_large = fabsf(offset) > LOGSUMEXP_MOST;
        offset = is_large ? NAN : offset;
        const float sum = row_weigh(a, h, row + i, begin, end, is_large, p, &offset);
        if (is_large) {
            row_divide(p + begin, end - begin, sum);
        }
        if (a->dropout > 0.0) {
            row_drop(a, h, row + i, begin, end, ds);
        }
        delta = is_large ? row_dot(p + begin, ds + begin, end - begin) : delta;
#pragma omp simd
        for (int64_t j = begin; j < end; j++) {
            ds[j] = p[j] * (ds[j] - delta) * scale;
        }
        if (a->dropout > 0.0) {
            row_drop(a, h, row + i, begin, end, p);
        }
        for (int64_t j = block_begin; j < block_end; j += SIMD_WIDTH) {
            if (j < begin || j >= end) {
                simd_store(p + j, (simd_f32_t){0});
                simd_store(ds + j, (simd_f32_t){0});
            }
        }
    }
    const tile_product_t product = {
        .n = a->padded_width,
        .k = (end < a->keys ? end : a->keys) - begin,
        .a = dscores + begin,
        .a_row = a->padded_keys,
        .a_k = 1,
        .b = h->k_right + begin * h->k_right_row,
        .b_row = h->k_right_row,
        .c = h->out,
        .c_row = a->padded_width,
    };
    tile_product_run(&product, rows);
    float *dq = (float *)a->dq + (h->b * a->queries + row) * q_row + h->h * a->width;
    for (int64_t i = 0; i < rows; i++) {
        memcpy(dq + i * q_row, h->out + i * a->padded_width, (size_t)a->width * sizeof(float));
    }
}

/* dk and dv of keys [key, key + rows) from the query rows [begin, end) of the block at `block`. */
static void backward_rows(const sdpa_t *a, const head_t *h, int64_t block, int64_t begin, int64_t end, int64_t key,
                          int64_t rows)
{
    tile_product_t product = {
        .n = a->padded_width,
        .k = end - begin,
        .a = h->dscores + (begin - block) * a->padded_keys + key,
        .a_row = 1,
        .a_k = a->padded_keys,
        .b = h->q_right + begin * h->q_right_row,
        .b_row = h->q_right_row,
        .c = h->dk + key * a->padded_width,
        .c_row = a->padded_width,
        .is_adding = true,
    };
    tile_product_run(&product, rows);
    product.a = h->scores + (begin - block) * a->padded_keys + key;
    product.b = h->dy_right + begin * h->q_right_row;
    product.c = h->dv + key * a->padded_width;
    tile_product_run(&product, rows);
}

static void backward_head(const sdpa_t *a, const head_t *h)
{
    for (int64_t block = 0; block < a->queries; block += QUERY_ROWS) {
        const int64_t end = a->queries - block < QUERY_ROWS ? a->queries : block + QUERY_ROWS;
        int64_t first_key = 0;
        int64_t last_key = 0;
        group_range(a, h->b, block, end - block, &first_key, &last_key);
        for (int64_t row = block; row < end; row += TILE_ROWS) {
            backward_group(a, h, block, first_key, last_key, row, end - row < TILE_ROWS ? end - row : TILE_ROWS);
        }
        last_key = last_key < a->keys ? last_key : a->keys;
        for (int64_t key = first_key; key < last_key; key += TILE_ROWS) {
            const int64_t begin = a->is_causal && key > block ? key : block;
            if (begin < end) {
                backward_rows(a, h, block, begin, end, key, last_key - key < TILE_ROWS ? last_key - key : TILE_ROWS);
            }
        }
    }
}

static void backward_keys_f32(void *arg, int64_t index, int64_t end)
{
    (void)end;
    sdpa_t *a = arg;
    head_t h = {0};
    if (!keys_init(a, index, true, &h)) {
        return;
    }
    const int64_t n_shared = a->n_heads / a->n_key_heads;
    for (int64_t i = 0; i < n_shared; i++) {
        query_init(a, index % a->n_key_heads * n_shared + i, true, &h);
        backward_head(a, &h);
    }
    const int64_t row = a->n_key_heads * a->width;
    const int64_t first = h.b * a->keys * row + index % a->n_key_heads * a->width;
    for (int64_t s = 0; s < a->keys; s++) {
        memcpy((float *)a->dk + first + s * row, h.dk + s * a->padded_width, (size_t)a->width * sizeof(float));
        memcpy((float *)a->dv + first + s * row, h.dv + s * a->padded_width, (size_t)a->width * sizeof(float));
    }
}

/* ---- f64: the definition, row by row ---- */

static double dot_f64(const double *a, const double *b, int64_t n)
{
    double sum = 0.0;
    for (int64_t i = 0; i < n; i++) {
        sum += a[i] * b[i];
    }
    return sum;
}

/* p[S]: the scores of query t of head h of sample b, -INFINITY where it doesn't see; m[S]: dropout's factors. */
static void row_scores_f64(const sdpa_t *a, int64_t b, int64_t h, int64_t t, double *p, double *m)
{
    const int64_t key_head = h / (a->n_heads / a->n_key_heads);
    const double *q = (const double *)a->q + ((b * a->queries + t) * a->n_heads + h) * a->width;
    const double slope = a->has_alibi ? alibi_slope(h, a->n_heads) : 0.0;
    int64_t lo = 0;
    int64_t hi = 0;
    range_get(a, b, t, &lo, &hi);
    for (int64_t s = 0; s < a->keys; s++) {
        const double *k = (const double *)a->k + ((b * a->keys + s) * a->n_key_heads + key_head) * a->width;
        p[s] = -INFINITY;
        if (s >= lo && s < hi) {
            p[s] = a->scale * dot_f64(q, k, a->width) - slope * fabs((double)(t - s));
            p[s] += a->mask != NULL ? ((const double *)a->mask)[bias_row(a, b, h, t) + s * a->mask_stride[3]] : 0.0;
        }
        m[s] = 1.0;
    }
    for (int64_t s = 0; s < a->keys && a->dropout > 0.0; s += MASK_STRETCH) {
        uint32_t kept[MASK_STRETCH];
        const int64_t n = a->keys - s < MASK_STRETCH ? a->keys - s : MASK_STRETCH;
        mask_draw(&a->key, a->threshold, mask_row(a, b, h, t) + s, n, kept);
        for (int64_t i = 0; i < n; i++) {
            m[s + i] = kept[i] != 0 ? 1.0 / (1.0 - a->dropout) : 0.0;
        }
    }
}

static void forward_keys_f64(void *arg, int64_t index, int64_t end)
{
    (void)end;
    sdpa_t *a = arg;
    double *p = gd_cpu_scratch(GD_CPU_SLOT_WORKER, (size_t)(2 * a->keys) * sizeof(double));
    if (p == NULL) {
        atomic_store(&a->is_out_of_memory, true);
        return;
    }
    double *m = p + a->keys;
    const int64_t n_shared = a->n_heads / a->n_key_heads;
    const int64_t b = index / a->n_key_heads, g = index % a->n_key_heads;
    for (int64_t i = 0; i < n_shared * a->queries; i++) {
        const int64_t h = g * n_shared + i / a->queries, t = i % a->queries;
        double *y = (double *)a->y + ((b * a->queries + t) * a->n_heads + h) * a->width;
        double most = -INFINITY, sum = 0.0;
        row_scores_f64(a, b, h, t, p, m);
        for (int64_t s = 0; s < a->keys; s++) {
            most = p[s] > most ? p[s] : most;
        }
        memset(y, 0, (size_t)a->width * sizeof(double));
        for (int64_t s = 0; s < a->keys && isfinite(most); s++) {
            sum += exp(p[s] - most);
        }
        ((double *)a->logsumexp)[(b * a->n_heads + h) * a->queries + t] = sum > 0.0 ? most + log(sum) : 0.0;
        for (int64_t s = 0; s < a->keys && sum > 0.0; s++) {
            const double *v = (const double *)a->v + ((b * a->keys + s) * a->n_key_heads + g) * a->width;
            for (int64_t d = 0; d < a->width; d++) {
                y[d] += exp(p[s] - most) / sum * m[s] * v[d];
            }
        }
    }
}

static void backward_keys_f64(void *arg, int64_t index, int64_t end)
{
    (void)end;
    sdpa_t *a = arg;
    double *p = gd_cpu_scratch(GD_CPU_SLOT_WORKER, (size_t)(2 * a->keys) * sizeof(double));
    if (p == NULL) {
        atomic_store(&a->is_out_of_memory, true);
        return;
    }
    double *m = p + a->keys;
    const int64_t n_shared = a->n_heads / a->n_key_heads;
    const int64_t b = index / a->n_key_heads, g = index % a->n_key_heads, width = a->width;
    for (int64_t s = 0; s < a->keys; s++) {
        memset((double *)a->dk + ((b * a->keys + s) * a->n_key_heads + g) * width, 0, (size_t)width * sizeof(double));
        memset((double *)a->dv + ((b * a->keys + s) * a->n_key_heads + g) * width, 0, (size_t)width * sizeof(double));
    }
    for (int64_t i = 0; i < n_shared * a->queries; i++) {
        const int64_t h = g * n_shared + i / a->queries, t = i % a->queries;
        const int64_t at = ((b * a->queries + t) * a->n_heads + h) * width;
        const double *q = (const double *)a->q + at, *dy = (const double *)a->dy + at;
        double *dq = (double *)a->dq + at;
        const double delta = dot_f64(dy, (const double *)a->y + at, width);
        const double logsumexp = ((const double *)a->logsumexp)[(b * a->n_heads + h) * a->queries + t];
        row_scores_f64(a, b, h, t, p, m);
        memset(dq, 0, (size_t)width * sizeof(double));
        for (int64_t s = 0; s < a->keys; s++) {
            const int64_t key = ((b * a->keys + s) * a->n_key_heads + g) * width;
            const double weight = exp(p[s] - logsumexp);
            const double dp = dot_f64(dy, (const double *)a->v + key, width) * m[s];
            const double ds = a->scale * weight * (dp - delta);
            for (int64_t d = 0; d < width; d++) {
                dq[d] += ds * ((const double *)a->k)[key + d];
                ((double *)a->dk)[key + d] += ds * q[d];
                ((double *)a->dv)[key + d] += weight * m[s] * dy[d];
            }
        }
    }
}

/* ---- kernels ---- */

static sdpa_t sdpa_init(const gd_view_t *q, const gd_view_t *k, const gd_view_t *mask, const gd_view_t *lengths,
                        const gd_attrs_t *attrs)
{
    sdpa_t a = {
        .n_heads = attrs->i[0],
        .n_key_heads = attrs->i[1],
        .queries = q->shape[1],
        .keys = k->shape[1],
        .width = q->shape[2] / attrs->i[0],
        .is_causal = attrs->i[2] != 0,
        .window = attrs->i[3],
        .has_alibi = attrs->i[4] != 0,
        .scale = attrs->f[0],
        .dropout = attrs->f[1],
        .threshold = mask_threshold(attrs->f[1]),
        .key = attrs->rng,
        .q = q->data,
        .k = k->data,
        .mask = mask->data,
        .lengths = lengths->data,
    };
    a.scale = a.scale > 0.0 ? a.scale : 1.0 / sqrt((double)a.width);
    a.padded_keys = round_up(a.keys);
    a.padded_width = round_up(a.width);
    for (int d = 0; d < mask->n_dims; d++) {
        const int axis = 4 - mask->n_dims + d;
        a.mask_stride[axis] = mask->shape[d] > 1 ? mask->stride[d] : 0;
    }
    return a;
}

static status_t sdpa_run(sdpa_t *a, const char *op, const gd_view_t *q, int n_threads, gd_cpu_body_func_t f32,
                         gd_cpu_body_func_t f64)
{
    if (q->dtype != GD_DTYPE_F32 && q->dtype != GD_DTYPE_F64) {
        return gd_cpu_fail_dtype(op, q->dtype);
    }
    for (int64_t b = 0; b < q->shape[0] && a->lengths != NULL; b++) {
        if (a->lengths[b] < 0 || a->lengths[b] > a->keys) {
            return ST_FAIL(ST_ERR_DATA, "%s: sample %lld has %lld keys, of at most %lld", op, (long long)b,
                           (long long)a->lengths[b], (long long)a->keys);
        }
    }
    gd_cpu_parallel(n_threads, q->shape[0] * a->n_key_heads, 1, q->dtype == GD_DTYPE_F32 ? f32 : f64, a);
    if (atomic_load(&a->is_out_of_memory)) {
        return ST_FAIL(ST_ERR_NOMEM, "%s: scratch memory for %lld keys of %lld", op, (long long)a->keys,
                       (long long)a->width);
    }
    return ST_OK;
}

/*
 * in: q[B,T,H·D], k[B,S,G·D], v[B,S,G·D], mask (broadcast to [B,H,T,S]), lengths[B] i64, the last two optional; out:
 * y[B,T,H·D], logsumexp[B,H,T]. attrs: see the row.
 */
CPU_KERNEL(sdpa)
{
    sdpa_t a = sdpa_init(&args->in[0], &args->in[1], &args->in[3], &args->in[4], args->attrs);
    a.v = args->in[2].data;
    a.y = args->out[0].data;
    a.logsumexp = args->out[1].data;
    return sdpa_run(&a, "sdpa", &args->in[0], args->n_threads, forward_keys_f32, forward_keys_f64);
}

/* in: dy, q, k, v, y, logsumexp, mask, lengths; out: dq, dk, dv. */
CPU_KERNEL(sdpa_backward)
{
    sdpa_t a = sdpa_init(&args->in[1], &args->in[2], &args->in[6], &args->in[7], args->attrs);
    a.dy = args->in[0].data;
    a.v = args->in[3].data;
    a.y = args->in[4].data;
    a.logsumexp = args->in[5].data;
    a.dq = args->out[0].data;
    a.dk = args->out[1].data;
    a.dv = args->out[2].data;
    return sdpa_run(&a, "sdpa_backward", &args->in[1], args->n_threads, backward_keys_f32, backward_keys_f64);
}
