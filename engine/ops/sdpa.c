/* SPDX-License-Identifier: Apache-2.0 */
/* ops/sdpa: scaled dot-product attention with separate queries, keys and values, and all that hides or shifts scores.
 */
#include <stdio.h>

#include "ops/helpers.h"

enum { SDPA_Q, SDPA_K, SDPA_V, SDPA_MASK, SDPA_LENGTHS, SDPA_N_IN };
enum { BACK_DY, BACK_Q, BACK_K, BACK_V, BACK_Y, BACK_LSE, BACK_MASK, BACK_LENGTHS, BACK_N_IN };
enum { ATTR_HEADS, ATTR_KEY_HEADS, ATTR_CAUSAL, ATTR_WINDOW, ATTR_ALIBI };
enum { ATTR_SCALE, ATTR_DROPOUT };

static status_t attrs_check(const char *op, const gd_attrs_t *attrs, const gd_tensor_t *q, const gd_tensor_t *k)
{
    const int64_t heads = attrs->i[ATTR_HEADS], key_heads = attrs->i[ATTR_KEY_HEADS];
    if (heads < 1 || key_heads < 1 || heads % key_heads != 0) {
        char why[96];
        (void)snprintf(why, sizeof(why), "%lld heads can't share %lld heads of keys", (long long)heads,
                       (long long)key_heads);
        return gd_op_fail_shapes(ST_ERR_SHAPE, op, q, k, why);
    }
    if (attrs->i[ATTR_WINDOW] < 0 || !(attrs->f[ATTR_SCALE] >= 0) || !(attrs->f[ATTR_DROPOUT] >= 0) ||
        !(attrs->f[ATTR_DROPOUT] <= 1)) {
        return ST_FAIL(ST_ERR_RANGE, "%s: window %lld, scale %g, dropout %g", op, (long long)attrs->i[ATTR_WINDOW],
                       attrs->f[ATTR_SCALE], attrs->f[ATTR_DROPOUT]);
    }
    return ST_OK;
}

/* q[B,T,H·D], k and v[B,S,G·D] */
static status_t shapes_check(const char *op, const gd_attrs_t *attrs, const gd_tensor_t *q, const gd_tensor_t *k,
                             const gd_tensor_t *v)
{
    const int64_t heads = attrs->i[ATTR_HEADS], key_heads = attrs->i[ATTR_KEY_HEADS];
    if (q->n_dims != 3 || q->shape[2] < 1 || q->shape[2] % heads != 0) {
        return gd_op_fail_shapes(ST_ERR_SHAPE, op, q, NULL, "queries [batch, time, heads x width] are needed");
    }
    if (k->n_dims != 3 || k->shape[0] != q->shape[0] || k->shape[2] != q->shape[2] / heads * key_heads) {
        return gd_op_fail_shapes(ST_ERR_SHAPE, op, q, k, "keys [batch, time, heads of keys x width] are needed");
    }
    if (!gd_shape_equal(k->n_dims, k->shape, v->n_dims, v->shape)) {
        return gd_op_fail_shapes(ST_ERR_SHAPE, op, k, v, "keys and values must have one shape");
    }
    return ST_OK;
}

static status_t hiding_check(const char *op, const gd_attrs_t *attrs, const gd_tensor_t *q, const gd_tensor_t *k,
                             const gd_tensor_t *mask, const gd_tensor_t *lengths)
{
    const int64_t scores[4] = {q->shape[0], attrs->i[ATTR_HEADS], q->shape[1], k->shape[1]};
    bool is_fit = mask == NULL || mask->n_dims <= 4;
    for (int d = 0; mask != NULL && is_fit && d < mask->n_dims; d++) {
        is_fit = mask->shape[d] == 1 || mask->shape[d] == scores[4 - mask->n_dims + d];
    }
    if (!is_fit) {
        return gd_op_fail_shapes(ST_ERR_SHAPE, op, mask, q, "the mask doesn't broadcast to [batch, heads, time, keys]");
    }
    if (lengths != NULL && lengths->dtype != GD_DTYPE_I64) {
        return ST_FAIL(ST_ERR_DTYPE, "%s: lengths are %s, i64 is needed", op, gd_dtype_name(lengths->dtype));
    }
    if (lengths != NULL && (lengths->n_dims != 1 || lengths->shape[0] != q->shape[0])) {
        return gd_op_fail_shapes(ST_ERR_SHAPE, op, lengths, q, "a length for each sample is needed");
    }
    return ST_OK;
}

extern const gd_op_t gd_op_sdpa;

static status_t sdpa_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    const gd_tensor_t *q = in[SDPA_Q];
    status_t status = attrs_check("sdpa", attrs, q, in[SDPA_K]);
    if (status == ST_OK) {
        status = gd_op_check_mixed(&gd_op_sdpa, in, n_in < SDPA_LENGTHS ? n_in : SDPA_LENGTHS);
    }
    if (status == ST_OK) {
        status = shapes_check("sdpa", attrs, q, in[SDPA_K], in[SDPA_V]);
    }
    if (status == ST_OK) {
        status = hiding_check("sdpa", attrs, q, in[SDPA_K], n_in > SDPA_MASK ? in[SDPA_MASK] : NULL,
                              n_in > SDPA_LENGTHS ? in[SDPA_LENGTHS] : NULL);
    }
    if (status != ST_OK) {
        return status;
    }
    gd_meta_set(&out[0], q->dtype, 3, q->shape);
    gd_meta_set(&out[1], gd_dtype_widen(q->dtype), 3,
                (const int64_t[3]){q->shape[0], attrs->i[ATTR_HEADS], q->shape[1]});
    return ST_OK;
}

static status_t sdpa_gradient(gd_node_t *node, gd_tensor_t *dy, gd_tensor_t **dx)
{
    if (node->n_in > SDPA_MASK && node->needs[SDPA_MASK]) {
        return ST_FAIL(ST_ERR_UNSUPPORTED, "sdpa: its mask has no gradient; detach it");
    }
    gd_tensor_t *in[BACK_N_IN] = {dy,
                                  node->in[SDPA_Q],
                                  node->in[SDPA_K],
                                  node->in[SDPA_V],
                                  node->out[0],
                                  node->out[1],
                                  node->n_in > SDPA_MASK ? node->in[SDPA_MASK] : NULL,
                                  node->n_in > SDPA_LENGTHS ? node->in[SDPA_LENGTHS] : NULL};
    gd_tensor_t *gradient[3] = {NULL};
    status_t status = gd_op_apply(GD_OP_SDPA_BACKWARD, in, BACK_N_IN, &node->attrs, gradient);
    if (status == ST_OK) {
        gd_node_hand_out(node, gradient, 3, dx);
    }
    return status;
}

#define ABSENT .is_absent = true
#define LENGTHS(b_x, limit_x)                                                                                          \
    {                                                                                                                  \
        1, {b_x}, .dtype = GD_DTYPE_I64, .int_limit = (limit_x), .no_grad = true                                       \
    }
#define MASK(n_x, ...)                                                                                                 \
    {                                                                                                                  \
        n_x, __VA_ARGS__, .no_grad = true                                                                              \
    }

const gd_op_t gd_op_sdpa = {
    .name = "sdpa",
    .formula = "y[b,t,hd] = sum_u softmax_u(scale q[b,t,h]·k[b,u,g] + mask - slope_h |t - u|) v[b,u,gd], g = h G / H",
    .attrs = "i0 heads H; i1 heads of keys G; i2 causal; i3 window, 0: none; i4 ALiBi; f0 scale, 0: 1/sqrt(D); f1 "
             "dropout of the weights, by rng",
    .n_in = SDPA_N_IN,
    .n_in_required = 3,
    .n_out = 2,
    .dtypes = OPS_DTYPES_FLOAT,
    .by_conversion = OPS_DTYPES_HALF,
    .f32_in = 1 << SDPA_MASK,
    .saves = GD_SAVE_INPUTS | GD_SAVE_OUTPUTS,
    .autocast = GD_AUTOCAST_LOWER,
    .contiguous_in = 31,
    .infer = sdpa_infer,
    .backward = sdpa_gradient,
    .onnx = "Attention",
    .sample = {{.in = {{3, {2, 3, 4}}, {3, {2, 3, 4}}, {3, {2, 3, 4}}}, .n_in = 3, .attrs = {.i = {2, 2, 1}}},
               {.in = {{3, {1, 5, 12}}, {3, {1, 7, 6}}, {3, {1, 7, 6}}}, .n_in = 3, .attrs = {.i = {4, 2}}},
               {.in = {{3, {1, 6, 4}}, {3, {1, 6, 2}}, {3, {1, 6, 2}}},
                .n_in = 3,
                .attrs = {.i = {2, 1, 1, 2, 1}, .f = {0.7}}},
               {.in = {{3, {2, 4, 6}}, {3, {2, 3, 6}}, {3, {2, 3, 6}}, MASK(2, {4, 3})},
                .n_in = 4,
                .attrs = {.i = {2, 2}}},
               {.in = {{3, {2, 3, 6}}, {3, {2, 4, 6}}, {3, {2, 4, 6}}, MASK(4, {2, 3, 1, 4}), LENGTHS(2, 5)},
                .n_in = 5,
                .attrs = {.i = {3, 3, 0, 0, 1}}},
               {.in = {{3, {1, 4, 6}}, {3, {1, 5, 6}}, {3, {1, 5, 6}}, MASK(4, {1, 2, 4, 1})},
                .n_in = 4,
                .attrs = {.i = {2, 2}}},
               {.in = {{3, {3, 4, 4}}, {3, {3, 4, 4}}, {3, {3, 4, 4}}, {ABSENT}, LENGTHS(3, 5)},
                .n_in = 5,
                .attrs = {.i = {1, 1, 1}}},
               {.in = {{3, {2, 5, 4}}, {3, {2, 6, 4}}, {3, {2, 6, 4}}},
                .n_in = 3,
                .attrs = {.i = {2, 2}, .f = {0, 0.4}, .rng = {.seed = 5, .layer = 3}}},
               {.in = {{3, {1, 5, 2}}, {3, {1, 4, 2}}, {3, {1, 4, 2}}}, .n_in = 3, .attrs = {.i = {1, 1, 0, 1}}},
               /* blocks, groups and their edges */
               {.in = {{3, {1, 70, 96}, .lo = -2, .hi = 2}, {3, {1, 70, 48}, .lo = -2, .hi = 2}, {3, {1, 70, 48}}},
                .n_in = 3,
                .attrs = {.i = {4, 2, 1, 0, 1}}},
               {.in = {{3, {1, 75, 34}, .lo = -2, .hi = 2}, {3, {1, 90, 34}, .lo = -2, .hi = 2}, {3, {1, 90, 34}}},
                .n_in = 3,
                .attrs = {.i = {2, 2, 1, 23}, .f = {0, 0.1}, .rng = {.seed = 9}}},
               {.in = {{3, {2, 37, 20}}, {3, {2, 41, 20}}, {3, {2, 41, 20}}, MASK(2, {37, 41}), LENGTHS(2, 42)},
                .n_in = 5,
                .attrs = {.i = {2, 2, 0, 17}}},
               {.in = {{3, {0, 3, 4}}, {3, {0, 3, 4}}, {3, {0, 3, 4}}}, .n_in = 3, .attrs = {.i = {2, 2, 1}}},
               {.in = {{3, {2, 3, 4}}, {3, {2, 0, 4}}, {3, {2, 0, 4}}}, .n_in = 3, .attrs = {.i = {2, 2}}},
               {.in = {{3, {2, 3, 4}}, {3, {2, 3, 4}}, {3, {2, 3, 4}}},
                .n_in = 3,
                .attrs = {.i = {2, 3}},
                .expect = ST_ERR_SHAPE},
               {.in = {{3, {2, 3, 4}}, {3, {2, 3, 2}}, {3, {2, 3, 2}}},
                .n_in = 3,
                .attrs = {.i = {2, 2}},
                .expect = ST_ERR_SHAPE},
               {.in = {{3, {2, 3, 4}}, {3, {2, 3, 4}}, {3, {2, 3, 4}}, MASK(2, {3, 2})},
                .n_in = 4,
                .attrs = {.i = {2, 2}},
                .expect = ST_ERR_SHAPE},
               {.in = {{3, {2, 3, 4}}, {3, {2, 3, 4}}, {3, {2, 3, 4}}, {ABSENT}, LENGTHS(2, 1000)},
                .n_in = 5,
                .attrs = {.i = {2, 2}},
                .expect = ST_ERR_DATA},
               {.in = {{3, {2, 3, 4}}, {3, {2, 3, 4}}, {3, {2, 3, 4}}},
                .n_in = 3,
                .attrs = {.i = {2, 2}, .f = {0, 1.5}},
                .expect = ST_ERR_RANGE}},
};

extern const gd_op_t gd_op_sdpa_backward;

static status_t sdpa_backward_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    const char *op = "sdpa_backward";
    const gd_tensor_t *q = in[BACK_Q];
    const gd_tensor_t *k = in[BACK_K];
    status_t status = attrs_check(op, attrs, q, k);
    if (status == ST_OK) {
        status = gd_op_check_mixed(&gd_op_sdpa_backward, in, n_in < BACK_LENGTHS ? n_in : BACK_LENGTHS);
    }
    if (status == ST_OK) {
        status = shapes_check(op, attrs, q, k, in[BACK_V]);
    }
    if (status == ST_OK) {
        status = hiding_check(op, attrs, q, k, n_in > BACK_MASK ? in[BACK_MASK] : NULL,
                              n_in > BACK_LENGTHS ? in[BACK_LENGTHS] : NULL);
    }
    if (status != ST_OK) {
        return status;
    }
    const int64_t lse[3] = {q->shape[0], attrs->i[ATTR_HEADS], q->shape[1]};
    if (!gd_shape_equal(3, q->shape, in[BACK_DY]->n_dims, in[BACK_DY]->shape) ||
        !gd_shape_equal(3, q->shape, in[BACK_Y]->n_dims, in[BACK_Y]->shape) ||
        !gd_shape_equal(3, lse, in[BACK_LSE]->n_dims, in[BACK_LSE]->shape)) {
        return gd_op_fail_shapes(ST_ERR_SHAPE, op, in[BACK_DY], q, "the shapes don't belong together");
    }
    gd_meta_set(&out[0], q->dtype, 3, q->shape);
    gd_meta_set(&out[1], q->dtype, 3, k->shape);
    gd_meta_set(&out[2], q->dtype, 3, k->shape);
    return ST_OK;
}

#define LSE(...)                                                                                                       \
    {                                                                                                                  \
        3, __VA_ARGS__, .lo = 3, .hi = 4                                                                               \
    }

const gd_op_t gd_op_sdpa_backward = {
    .name = "sdpa_backward",
    .formula = "ds = scale p (m (dy vᵀ) - rowsum(dy y)), p = exp(s - lse), m dropout's factors; dq = ds k, dk = dsᵀ q, "
               "dv = (p m)ᵀ dy",
    .attrs = "as sdpa",
    .n_in = BACK_N_IN,
    .n_in_required = 6,
    .n_out = 3,
    .dtypes = OPS_DTYPES_FLOAT,
    .by_conversion = OPS_DTYPES_HALF,
    .f32_in = 1 << BACK_LSE | 1 << BACK_MASK,
    .contiguous_in = 255,
    .infer = sdpa_backward_infer,
    .sample = {{.in = {{3, {2, 3, 4}}, {3, {2, 3, 4}}, {3, {2, 3, 4}}, {3, {2, 3, 4}}, {3, {2, 3, 4}}, LSE({2, 2, 3})},
                .n_in = 6,
                .attrs = {.i = {2, 2, 1}}},
               {.in = {{3, {1, 37, 40}},
                       {3, {1, 37, 40}},
                       {3, {1, 41, 20}},
                       {3, {1, 41, 20}},
                       {3, {1, 37, 40}},
                       LSE({1, 4, 37}),
                       MASK(2, {37, 41}),
                       LENGTHS(1, 42)},
                .n_in = 8,
                .attrs = {.i = {4, 2, 1, 20, 1}, .f = {0.3, 0.2}}},
               {.in = {{3, {2, 3, 4}}, {3, {2, 3, 4}}, {3, {2, 3, 4}}, {3, {2, 3, 4}}, {3, {2, 3, 4}}, LSE({2, 3, 2})},
                .n_in = 6,
                .attrs = {.i = {2, 2, 1}},
                .expect = ST_ERR_SHAPE}},
};

status_t gd_sdpa(gd_tensor_t *q, gd_tensor_t *k, gd_tensor_t *v, const gd_sdpa_options_t *options, gd_tensor_t **y_p)
{
    gd_tensor_t *in[SDPA_N_IN] = {q, k, v, options->mask, options->lengths};
    gd_tensor_t *out[2] = {NULL};
    const gd_attrs_t attrs = {
        .i = {options->n_heads, options->n_key_heads != 0 ? options->n_key_heads : options->n_heads, options->is_causal,
              options->window, options->has_alibi},
        .f = {options->scale, options->dropout},
        .rng = options->rng,
    };
    status_t status = gd_op_apply(GD_OP_SDPA, in, SDPA_N_IN, &attrs, out);
    if (status != ST_OK) {
        return status;
    }
    (void)gd_tensor_unref(out[1]);
    *y_p = out[0];
    return ST_OK;
}
