/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random programs of engine calls, replayed against what PyTorch answered; tests/golden/make_replay.py writes them.
 *
 *   case NAME                        a program begins; its tensors are numbered from 0
 *   x DTYPE SHAPE GRAD HEX           a contiguous tensor; SHAPE 2,3 or - ; GRAD 0/1; HEX its bytes, repeated to fill it
 *   do OP TENSORS ; INTS ; DOUBLES   a row of OP_LIST; what it gives are the next tensors; -1: an absent one
 *   err | maybe [CODE]               about the line before: it must fail, or may (PyTorch lacks it, or can do more)
 *   val T DTYPE SHAPE TOL HEX        tensor T's dtype, shape and values; relative tolerance 0: exactly these
 *   back T HEX                       gd_backward from T with this gradient; err and maybe may follow
 *   grad T TOL HEX                   T's .grad; HEX "none": there is none
 *   str T TEXT                       as gd_tensor_format prints it, \n for a new line
 *
 * TOL is "relative,absolute". Each program runs with one thread and with two, whose results must have the same bits but
 * where oneDNN multiplies.
 * test_replay [-v] [FILE]; -v prints what failing calls say.
 */
#include "tests/support/fixture.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "gradd/autograd.h"
#include "gradd/context.h"
#include "gradd/inplace.h"
#include "gradd/loss.h"
#include "gradd/ops.h"

enum { MAX_TENSORS = 64, MAX_ARGS = 24, MAX_FAILURES = 100000 };

typedef struct args {
    gd_tensor_t *x[MAX_ARGS]; /* borrowed */
    int n_x;
    int64_t i[MAX_ARGS];
    int n_i;
    double f[MAX_ARGS];
    int n_f;
    int axes[MAX_ARGS]; /* the ints from the second on */
    int n_y;            /* results; 1 unless the row says otherwise */
} args_t;

typedef struct program {
    const char *name;
    int line;
    gd_tensor_t *t[MAX_TENSORS];
    int n;
    status_t status; /* of the last call */
    bool is_over;    /* a call failed, as it should */
    bool has_failed;
    bool is_checked; /* compare with what the file says */
    bool is_of_onednn;
    uint64_t hash;
} program_t;

static bool is_verbose;
static int n_failures;

/* ---- the ops: X(name, call), of arguments a->x, a->i, a->f ---- */

#define X(k) (a->x[k])
#define I(k) (a->i[k])
#define INT(k) ((int)a->i[k])
#define B(k) (a->i[k] != 0)
#define F(k) (a->f[k])
#define SHAPE(k) (a->n_i - (k)), (a->i + (k))
#define AXES (a->n_i - 1), (a->axes)
#define PAIR(call_x) (a->n_y = 2, (call_x))
#define NONE(call_x) (a->n_y = 0, (call_x))

static status_t number_call(gd_binary_func_t function, args_t *a, gd_tensor_t **y)
{
    const gd_number_t number = B(0) ? gd_float(F(0)) : gd_int(I(2));
    return B(1) ? gd_number_with(function, number, X(0), y) : gd_with_number(function, X(0), number, y);
}

static status_t pad_call(args_t *a, gd_tensor_t **y)
{
    const int n = a->n_i / 2;
    return gd_pad(X(0), a->i, a->i + n, F(0), y);
}

static status_t pad_with_call(args_t *a, gd_tensor_t **y)
{
    const int n = (a->n_i - 1) / 2;
    return gd_pad_with(X(0), n, a->i + 1, a->i + 1 + n, (gd_pad_mode_t)I(0), F(0), y);
}

/* groups, then stride, padding, dilation, output padding of n axes each */
static status_t conv_call(args_t *a, bool is_transposed, gd_tensor_t **y)
{
    const int n = (a->n_i - 1) / 4;
    gd_conv_options_t options = {.groups = INT(0)};
    for (int d = 0; d < n && d < 3; d++) {
        options.stride[d] = INT(1 + d);
        options.padding[d] = INT(1 + n + d);
        options.dilation[d] = INT(1 + 2 * n + d);
        options.output_padding[d] = INT(1 + 3 * n + d);
    }
    return is_transposed ? gd_conv_transpose(X(0), X(1), X(2), &options, y) : gd_conv(X(0), X(1), X(2), &options, y);
}

/* rounds_up, excludes_padding, then kernel, stride, padding, dilation of n axes each (and fold's two sizes) */
static gd_pool_options_t pool_options(const args_t *a, int n)
{
    gd_pool_options_t options = {.rounds_up = B(0), .excludes_padding = B(1)};
    for (int d = 0; d < n && d < 3; d++) {
        options.kernel[d] = INT(2 + d);
        options.stride[d] = INT(2 + n + d);
        options.padding[d] = INT(2 + 2 * n + d);
        options.dilation[d] = INT(2 + 3 * n + d);
    }
    return options;
}

#define POOL(function_x) function_x(X(0), &(gd_pool_options_t[]){pool_options(a, (a->n_i - 2) / 4)}[0], y)

static status_t adaptive_call(status_t (*function)(gd_tensor_t *, const int *, gd_tensor_t **), args_t *a,
                              gd_tensor_t **y)
{
    const int size[3] = {INT(0), a->n_i > 1 ? INT(1) : 0, a->n_i > 2 ? INT(2) : 0};
    return function(X(0), size, y);
}

static status_t fold_call(args_t *a, gd_tensor_t **y)
{
    const gd_pool_options_t options = pool_options(a, 2);
    return gd_fold(X(0), &options, a->i + 10, y);
}

static status_t sdpa_call(args_t *a, gd_tensor_t **y)
{
    const gd_sdpa_options_t options = {.n_heads = INT(0),
                                       .n_key_heads = INT(1),
                                       .is_causal = B(2),
                                       .window = I(3),
                                       .scale = F(0),
                                       .mask = a->n_x > 3 ? X(3) : NULL};
    return gd_sdpa(X(0), X(1), X(2), &options, y);
}

static status_t pointwise_loss_call(args_t *a, gd_tensor_t **y)
{
    const gd_pointwise_loss_options_t options = {
        .kind = (gd_pointwise_loss_kind_t)I(0), .option = INT(1), .a = F(0), .b = F(1)};
    return gd_pointwise_loss(X(0), X(1), a->n_x > 2 ? X(2) : NULL, a->n_x > 3 ? X(3) : NULL, &options, B(2), F(2), y);
}

#define UNARY_ROW(name_x) ROW(name_x, gd_##name_x(X(0), y))
#define BINARY_ROW(name_x)                                                                                             \
    ROW(name_x, gd_##name_x(X(0), X(1), y))                                                                            \
    ROW(number_##name_x, number_call(gd_##name_x, a, y))
#define REDUCE_ROW(name_x) ROW(name_x, gd_##name_x(X(0), AXES, B(0), y))

/* clang-format off */
#define MORE_UNARY(X) \
    X(neg) X(exp) X(log) X(sqrt) X(relu) X(tanh) X(sigmoid) X(silu) X(selu) X(hardsigmoid) X(hardswish) X(softsign) \
    X(tanhshrink) X(log_sigmoid) X(mish) X(contiguous) X(channels_last) X(nonzero) X(detach)
#define OP_LIST \
    GD_UNARY_LIST(UNARY_ROW) MORE_UNARY(UNARY_ROW) GD_BINARY_LIST(BINARY_ROW) BINARY_ROW(add) BINARY_ROW(sub) \
    BINARY_ROW(mul) BINARY_ROW(div) \
    ROW(cast, gd_cast(X(0), (gd_dtype_t)I(0), y)) ROW(scale, gd_scale(X(0), F(0), F(1), y)) \
    ROW(pow, gd_pow(X(0), F(0), y)) ROW(clamp, gd_clamp(X(0), F(0), F(1), y)) \
    ROW(where, gd_where(X(0), X(1), X(2), y)) ROW(masked_fill, gd_masked_fill(X(0), X(1), F(0), y)) \
    ROW(lerp, gd_lerp(X(0), X(1), F(0), y)) ROW(addcmul, gd_addcmul(X(0), X(1), X(2), F(0), y)) \
    ROW(addcdiv, gd_addcdiv(X(0), X(1), X(2), F(0), y)) \
    /* activations */ \
    ROW(gelu, gd_gelu(X(0), B(0), y)) ROW(leaky_relu, gd_leaky_relu(X(0), F(0), y)) ROW(elu, gd_elu(X(0), F(0), y)) \
    ROW(celu, gd_celu(X(0), F(0), y)) ROW(hardtanh, gd_hardtanh(X(0), F(0), F(1), y)) \
    ROW(softplus, gd_softplus(X(0), F(0), F(1), y)) ROW(softshrink, gd_softshrink(X(0), F(0), y)) \
    ROW(hardshrink, gd_hardshrink(X(0), F(0), y)) ROW(threshold, gd_threshold(X(0), F(0), F(1), y)) \
    ROW(glu, gd_glu(X(0), INT(0), y)) ROW(prelu, gd_prelu(X(0), X(1), y)) ROW(softmin, gd_softmin(X(0), INT(0), y)) \
    ROW(softmax, gd_softmax(X(0), INT(0), y)) ROW(log_softmax, gd_log_softmax(X(0), INT(0), y)) \
    ROW(gated, gd_gated((gd_gate_t)I(0), X(0), X(1), y)) \
    /* reductions: keep_dims, axes */ \
    REDUCE_ROW(sum) REDUCE_ROW(mean) REDUCE_ROW(amax) REDUCE_ROW(amin) REDUCE_ROW(prod) REDUCE_ROW(any) \
    REDUCE_ROW(all) REDUCE_ROW(argmax) REDUCE_ROW(argmin) REDUCE_ROW(logsumexp) \
    ROW(norm, gd_norm(X(0), F(0), AXES, B(0), y)) ROW(var, gd_var(X(0), F(0), AXES, B(0), y)) \
    ROW(std, gd_std(X(0), F(0), AXES, B(0), y)) ROW(max, PAIR(gd_max(X(0), INT(0), B(1), &y[0], &y[1]))) \
    ROW(min, PAIR(gd_min(X(0), INT(0), B(1), &y[0], &y[1]))) \
    /* views and copies */ \
    ROW(reshape, gd_reshape(X(0), SHAPE(0), y)) ROW(permute, gd_permute(X(0), a->axes, y)) \
    /* the first int is not one of the order */ \
    ROW(transpose, gd_transpose(X(0), INT(0), INT(1), y)) ROW(slice, gd_slice(X(0), INT(0), I(1), I(2), I(3), y)) \
    ROW(expand, gd_expand(X(0), SHAPE(0), y)) ROW(squeeze, gd_squeeze(X(0), INT(0), y)) \
    ROW(unsqueeze, gd_unsqueeze(X(0), INT(0), y)) ROW(select, gd_select(X(0), INT(0), I(1), y)) \
    ROW(narrow, gd_narrow(X(0), INT(0), I(1), I(2), y)) ROW(split, gd_split(X(0), INT(0), I(1), 16, y, &a->n_y)) \
    ROW(chunk, gd_chunk(X(0), INT(0), INT(1), 16, y, &a->n_y)) ROW(unbind, gd_unbind(X(0), INT(0), 16, y, &a->n_y)) \
    ROW(as_strided, gd_as_strided(X(0), INT(0), a->i + 2, a->i + 2 + I(0), I(1), y)) \
    ROW(diagonal, gd_diagonal(X(0), INT(0), INT(1), INT(2), y)) ROW(movedim, gd_movedim(X(0), INT(0), INT(1), y)) \
    ROW(flip, gd_flip(X(0), AXES, y)) ROW(roll, gd_roll(X(0), INT(0), I(1), y)) \
    ROW(repeat, gd_repeat(X(0), SHAPE(0), y)) ROW(pad, pad_call(a, y)) ROW(tril, gd_tril(X(0), I(0), y)) \
    ROW(triu, gd_triu(X(0), I(0), y)) ROW(cat, gd_cat(a->x, a->n_x, INT(0), y)) \
    ROW(stack, gd_stack(a->x, a->n_x, INT(0), y)) \
    /* index */ \
    ROW(gather, gd_gather(X(0), INT(0), X(1), y)) ROW(take_along_dim, gd_take_along_dim(X(0), INT(0), X(1), y)) \
    ROW(scatter, gd_scatter(X(0), INT(0), X(1), X(2), y)) \
    ROW(scatter_add, gd_scatter_add(X(0), INT(0), X(1), X(2), y)) \
    ROW(scatter_reduce, gd_scatter_reduce(X(0), INT(0), X(1), X(2), (gd_scatter_reduction_t)I(1), B(2), y)) \
    ROW(index_select, gd_index_select(X(0), INT(0), X(1), y)) \
    ROW(index_add, gd_index_add(X(0), INT(0), X(1), X(2), F(0), y)) \
    ROW(masked_select, gd_masked_select(X(0), X(1), y)) ROW(masked_scatter, gd_masked_scatter(X(0), X(1), X(2), y)) \
    ROW(index_get, gd_index_get(X(0), a->x + 1, a->n_x - 1, y)) \
    ROW(index_put, gd_index_put(X(0), a->x + 2, a->n_x - 2, X(1), B(0), y)) \
    ROW(sort, PAIR(gd_sort(X(0), INT(0), B(1), &y[0], &y[1]))) ROW(argsort, gd_argsort(X(0), INT(0), B(1), y)) \
    ROW(topk, PAIR(gd_topk(X(0), I(0), INT(1), B(2), &y[0], &y[1]))) ROW(cumsum, gd_cumsum(X(0), INT(0), y)) \
    ROW(cumprod, gd_cumprod(X(0), INT(0), y)) \
    /* creation */ \
    ROW(arange, gd_arange((gd_dtype_t)I(0), F(0), F(1), F(2), y)) \
    ROW(linspace, gd_linspace((gd_dtype_t)I(0), F(0), F(1), I(1), y)) \
    ROW(eye, gd_eye((gd_dtype_t)I(0), I(1), I(2), y)) ROW(full, gd_tensor_full((gd_dtype_t)I(0), SHAPE(1), F(0), y)) \
    /* products, layers */ \
    ROW(matmul, gd_matmul(X(0), X(1), y)) ROW(linear, gd_linear(X(0), X(1), X(2), y)) \
    ROW(linear_transposed, gd_linear_transposed(X(0), X(1), X(2), y)) \
    ROW(bilinear, gd_bilinear(X(0), X(1), X(2), X(3), y)) ROW(layer_norm, gd_layer_norm(X(0), X(1), X(2), F(0), y)) \
    ROW(rms_norm, gd_rms_norm(X(0), X(1), F(0), y)) ROW(group_norm, gd_group_norm(X(0), I(0), X(1), X(2), F(0), y)) \
    ROW(batch_norm, (a->n_y = 3, gd_batch_norm(X(0), X(1), X(2), NULL, NULL, true, F(0), &y[0], &y[1], &y[2]))) \
    ROW(batch_norm_running, gd_batch_norm(X(0), X(1), X(2), X(3), X(4), false, F(0), y, NULL, NULL)) \
    ROW(conv, conv_call(a, false, y)) ROW(conv_transpose, conv_call(a, true, y)) ROW(max_pool, POOL(gd_max_pool)) \
    ROW(avg_pool, POOL(gd_avg_pool)) ROW(unfold, POOL(gd_unfold)) ROW(fold, fold_call(a, y)) \
    ROW(adaptive_max_pool, adaptive_call(gd_adaptive_max_pool, a, y)) \
    ROW(adaptive_avg_pool, adaptive_call(gd_adaptive_avg_pool, a, y)) ROW(pad_with, pad_with_call(a, y)) \
    ROW(upsample, gd_upsample(X(0), (gd_upsample_t)I(0), a->n_i > 2 ? a->i + 2 : NULL, a->n_f > 0 ? a->f : NULL, \
        B(1), y)) \
    ROW(pixel_shuffle, gd_pixel_shuffle(X(0), INT(0), y)) ROW(pixel_unshuffle, gd_pixel_unshuffle(X(0), INT(0), y)) \
    ROW(channel_shuffle, gd_channel_shuffle(X(0), I(0), y)) ROW(embedding, gd_embedding_padded(X(0), X(1), I(0), y)) \
    ROW(embedding_bag, gd_embedding_bag(X(0), X(1), X(2), (gd_bag_t)I(0), I(1), y)) \
    ROW(cosine_similarity, gd_cosine_similarity(X(0), X(1), INT(0), F(0), y)) ROW(sdpa, sdpa_call(a, y)) \
    /* losses */ \
    ROW(pointwise_loss, pointwise_loss_call(a, y)) \
    ROW(nll_loss, gd_nll_loss(X(0), X(1), X(2), I(0), (gd_reduction_t)I(1), y)) \
    ROW(cross_entropy_loss, gd_cross_entropy_loss(X(0), X(1), X(2), I(0), F(0), (gd_reduction_t)I(1), y)) \
    ROW(multi_margin_loss, gd_multi_margin_loss(X(0), X(1), X(2), INT(0), F(0), (gd_reduction_t)I(1), y)) \
    ROW(multi_label_margin_loss, gd_multi_label_margin_loss(X(0), X(1), (gd_reduction_t)I(0), y)) \
    /* in place, and what surrounds it */ \
    ROW(add_, NONE(gd_add_inplace(X(0), X(1)))) ROW(sub_, NONE(gd_sub_inplace(X(0), X(1)))) \
    ROW(mul_, NONE(gd_mul_inplace(X(0), X(1)))) ROW(div_, NONE(gd_div_inplace(X(0), X(1)))) \
    ROW(exp_, NONE(gd_op_apply_inplace(GD_OP_EXP, X(0), NULL, 0, NULL))) \
    ROW(relu_, NONE(gd_op_apply_inplace(GD_OP_RELU, X(0), NULL, 0, NULL))) \
    ROW(sigmoid_, NONE(gd_op_apply_inplace(GD_OP_SIGMOID, X(0), NULL, 0, NULL))) \
    ROW(scale_, NONE(gd_scale_inplace(X(0), F(0), F(1)))) ROW(clamp_, NONE(gd_clamp_inplace(X(0), F(0), F(1)))) \
    ROW(masked_fill_, NONE(gd_masked_fill_inplace(X(0), X(1), F(0)))) \
    ROW(index_add_, NONE(gd_index_add_inplace(X(0), INT(0), X(1), X(2), F(0)))) \
    ROW(scatter_, NONE(gd_scatter_inplace(X(0), INT(0), X(1), X(2)))) \
    ROW(masked_scatter_, NONE(gd_masked_scatter_inplace(X(0), X(1), X(2)))) \
    ROW(index_put_, NONE(gd_index_put_inplace(X(0), a->x + 2, a->n_x - 2, X(1), B(0)))) \
    ROW(fill_, NONE(gd_fill_inplace(X(0), F(0)))) ROW(zero_, NONE(gd_zero_inplace(X(0)))) \
    ROW(copy_, NONE(gd_copy_inplace(X(0), X(1)))) ROW(grad_mode, NONE((gd_grad_set_enabled(B(0)), ST_OK))) \
    ROW(retain_grad, NONE(gd_tensor_retain_grad(X(0)))) \
    ROW(requires_grad_, NONE(gd_tensor_set_requires_grad(X(0), B(0))))
/* clang-format on */

#define ROW(name_x, call_x)                                                                                            \
    static status_t call_##name_x(args_t *a, gd_tensor_t **y)                                                          \
    {                                                                                                                  \
        (void)y;                                                                                                       \
        return call_x;                                                                                                 \
    }
OP_LIST
#undef ROW

static const struct {
    const char *name;
    status_t (*call)(args_t *a, gd_tensor_t **y);
} ops[] = {
#define ROW(name_x, call_x) {#name_x, call_##name_x},
    OP_LIST
#undef ROW
};

/* ---- reading and comparing ---- */

__attribute__((format(printf, 2, 3))) static void complain(program_t *p, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    (void)printf("FAIL %s: line %d: ", p->name, p->line);
    (void)vprintf(format, list);
    (void)printf("\n");
    va_end(list);
    p->has_failed = true;
}

static bool word_next(char **at, char **word_p)
{
    *word_p = strsep(at, " ");
    return *word_p != NULL;
}

static int shape_read(const char *text, int64_t *shape)
{
    int n = 0;
    char *end = NULL;
    for (const char *s = text; *s != '\0' && *s != '-' && n < GD_MAX_DIMS; s = *end == ',' ? end + 1 : end) {
        shape[n++] = strtoll(s, &end, 10);
    }
    return n;
}

static int nibble(char c)
{
    return c <= '9' ? c - '0' : c - 'a' + 10;
}

/* A tensor of the bytes, repeated to fill it. */
static gd_tensor_t *tensor_read(gd_dtype_t dtype, int n_dims, const int64_t *shape, const char *hex)
{
    gd_tensor_t *t = NULL;
    assert_ok(gd_tensor_new(dtype, n_dims, shape, &t));
    const size_t n_hex = strlen(hex) / 2;
    const size_t n_bytes = (size_t)gd_tensor_numel(t) * gd_dtype_size(dtype);
    unsigned char *data = gd_tensor_data(t);
    assert_true(n_hex > 0 || n_bytes == 0);
    for (size_t i = 0; i < n_bytes; i++) {
        const char *at = hex + 2 * (i % n_hex);
        data[i] = (unsigned char)(nibble(at[0]) << 4 | nibble(at[1]));
    }
    return t;
}

static gd_dtype_t dtype_read(const char *name)
{
    gd_dtype_t dtype = GD_DTYPE_F32;
    assert_ok(gd_dtype_from_name(name, &dtype));
    return dtype;
}

static void shape_print(const gd_tensor_t *t, char *text, size_t size)
{
    strbuf_t buf = {0};
    gd_tensor_format_shape(t, &buf);
    (void)snprintf(text, size, "%s %s", gd_dtype_name(gd_tensor_dtype(t)), strbuf_text(&buf));
    strbuf_release(&buf);
}

static gd_tensor_t *wide_copy(const gd_tensor_t *t)
{
    gd_tensor_t *wide = NULL;
    const gd_dtype_t dtype = gd_dtype_is_float(gd_tensor_dtype(t)) ? GD_DTYPE_F64 : GD_DTYPE_I64;
    assert_ok(gd_tensor_new(dtype, gd_tensor_n_dims(t), gd_tensor_shape(t), &wide));
    assert_ok(gd_tensor_copy(wide, t));
    return wide;
}

static bool is_close(double a, double b, const double tolerance[2])
{
    if (tolerance[0] == 0 && tolerance[1] == 0) {
        return (isnan(a) && isnan(b)) || (a == b && signbit(a) == signbit(b));
    }
    return a == b || (isnan(a) && isnan(b)) || fabs(a - b) <= tolerance[0] * fabs(b) + tolerance[1];
}

static void tensor_compare(program_t *p, const char *what, const gd_tensor_t *got, gd_tensor_t *expected,
                           const char *tolerance_text)
{
    char texts[2][128];
    shape_print(got, texts[0], sizeof(texts[0]));
    shape_print(expected, texts[1], sizeof(texts[1]));
    if (strcmp(texts[0], texts[1]) != 0) {
        complain(p, "%s: got %s, PyTorch %s", what, texts[0], texts[1]);
        (void)gd_tensor_unref(expected);
        return;
    }
    double tolerance[2] = {0, 0};
    (void)sscanf(tolerance_text, "%lf,%lf", &tolerance[0], &tolerance[1]);
    gd_tensor_t *wide[2] = {wide_copy(got), wide_copy(expected)};
    const bool is_float = gd_tensor_dtype(wide[0]) == GD_DTYPE_F64;
    for (int64_t i = 0; i < gd_tensor_numel(got); i++) {
        const double *a = gd_tensor_data(wide[0]);
        const double *b = gd_tensor_data(wide[1]);
        const int64_t *a_int = gd_tensor_data(wide[0]);
        const int64_t *b_int = gd_tensor_data(wide[1]);
        if (is_float && !is_close(a[i], b[i], tolerance)) {
            complain(p, "%s of %s: element %lld is %.9g, PyTorch has %.9g (tolerance %s)", what, texts[0], (long long)i,
                     a[i], b[i], tolerance_text);
            break;
        }
        if (!is_float && a_int[i] != b_int[i]) {
            complain(p, "%s of %s: element %lld is %lld, PyTorch has %lld", what, texts[0], (long long)i,
                     (long long)a_int[i], (long long)b_int[i]);
            break;
        }
    }
    (void)gd_tensor_unref(wide[0]);
    (void)gd_tensor_unref(wide[1]);
    (void)gd_tensor_unref(expected);
}

static void hash_add(program_t *p, const gd_tensor_t *t)
{
    gd_tensor_t *flat = NULL;
    assert_ok(gd_tensor_new(gd_tensor_dtype(t), gd_tensor_n_dims(t), gd_tensor_shape(t), &flat));
    assert_ok(gd_tensor_copy(flat, t));
    const unsigned char *data = gd_tensor_data(flat);
    const size_t n = (size_t)gd_tensor_numel(flat) * gd_dtype_size(gd_tensor_dtype(flat));
    for (size_t i = 0; i < n; i++) {
        p->hash = (p->hash ^ data[i]) * 1099511628211U;
    }
    (void)gd_tensor_unref(flat);
}

/* ---- the lines ---- */

static void line_x(program_t *p, char *at)
{
    char *dtype = NULL;
    char *shape_text = NULL;
    char *grad = NULL;
    char *hex = NULL;
    int64_t shape[GD_MAX_DIMS] = {0};
    if (!word_next(&at, &dtype) || !word_next(&at, &shape_text) || !word_next(&at, &grad) || !word_next(&at, &hex) ||
        p->n == MAX_TENSORS) {
        complain(p, "bad line");
        return;
    }
    const int n_dims = shape_read(shape_text, shape);
    gd_tensor_t *t = tensor_read(dtype_read(dtype), n_dims, shape, hex);
    if (grad[0] == '1') {
        assert_ok(gd_tensor_set_requires_grad(t, true));
    }
    p->t[p->n++] = t;
}

static bool args_read(program_t *p, args_t *a, char *at)
{
    char *word = NULL;
    int part = 0;
    while (word_next(&at, &word)) {
        if (strcmp(word, ";") == 0) {
            part++;
        } else if (part == 0) {
            const int index = (int)strtol(word, NULL, 10);
            if (index >= p->n || a->n_x == MAX_ARGS) {
                return false;
            }
            a->x[a->n_x++] = index < 0 ? NULL : p->t[index];
        } else if (part == 1 && a->n_i < MAX_ARGS) {
            a->i[a->n_i++] = strtoll(word, NULL, 10);
            if (a->n_i > 1) {
                a->axes[a->n_i - 2] = (int)a->i[a->n_i - 1];
            }
        } else if (part == 2 && a->n_f < MAX_ARGS) {
            a->f[a->n_f++] = strtod(word, NULL);
        }
    }
    return true;
}

static void line_do(program_t *p, char *at)
{
    args_t a = {.n_y = 1};
    char *name = NULL;
    gd_tensor_t *y[16] = {NULL};
    if (!word_next(&at, &name) || !args_read(p, &a, at)) {
        complain(p, "bad line");
        return;
    }
    p->is_of_onednn = p->is_of_onednn || strncmp(name, "conv", 4) == 0 || strstr(name, "linear") != NULL ||
                      strcmp(name, "matmul") == 0;
    for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
        if (strcmp(ops[i].name, name) == 0) {
            p->status = ops[i].call(&a, y);
            for (int k = 0; k < a.n_y && p->status == ST_OK; k++) {
                assert_in_range(p->n, 0, MAX_TENSORS - 1);
                p->t[p->n++] = y[k];
            }
            return;
        }
    }
    complain(p, "no op %s", name);
}

static void line_back(program_t *p, char *at)
{
    char *word = NULL;
    if (word_next(&at, &word)) {
        gd_tensor_t *root = p->t[strtol(word, NULL, 10)];
        gd_tensor_t *dy = tensor_read(gd_tensor_dtype(root), gd_tensor_n_dims(root), gd_tensor_shape(root), at);
        p->status = gd_backward(root, dy, false);
        (void)gd_tensor_unref(dy);
    }
}

static void line_val(program_t *p, char *at)
{
    char *word[4] = {NULL};
    int64_t shape[GD_MAX_DIMS] = {0};
    for (int i = 0; i < 4; i++) {
        (void)word_next(&at, &word[i]);
    }
    const gd_tensor_t *t = p->t[strtol(word[0], NULL, 10)];
    hash_add(p, t);
    if (p->is_checked && word[3] != NULL && at != NULL) {
        const int n_dims = shape_read(word[2], shape);
        tensor_compare(p, "value", t, tensor_read(dtype_read(word[1]), n_dims, shape, at), word[3]);
    }
}

static void line_grad(program_t *p, char *at)
{
    char *word[3] = {NULL};
    for (int i = 0; i < 3; i++) {
        (void)word_next(&at, &word[i]);
    }
    const gd_tensor_t *t = p->t[strtol(word[0], NULL, 10)];
    const gd_tensor_t *grad = gd_tensor_grad(t);
    const bool is_none = strcmp(word[2], "none") == 0;
    if (grad != NULL) {
        hash_add(p, grad);
    }
    if (!p->is_checked || (is_none && grad == NULL)) {
        return;
    }
    if ((grad == NULL) != is_none) {
        complain(p, "gradient is %s", is_none ? "there, PyTorch has none" : "missing, PyTorch has one");
        return;
    }
    gd_tensor_t *expected = tensor_read(gd_tensor_dtype(t), gd_tensor_n_dims(t), gd_tensor_shape(t), word[2]);
    tensor_compare(p, "gradient", grad, expected, word[1]);
}

static void line_str(program_t *p, char *at)
{
    char *word = NULL;
    strbuf_t text = {0};
    strbuf_t expected = {0};
    (void)word_next(&at, &word);
    for (const char *s = at; *s != '\0'; s++) {
        const bool is_newline = s[0] == '\\' && s[1] == 'n';
        strbuf_append_char(&expected, is_newline ? '\n' : *s);
        s += is_newline;
    }
    gd_tensor_format(p->t[strtol(word, NULL, 10)], &text);
    if (strcmp(strbuf_text(&text), strbuf_text(&expected)) != 0) {
        complain(p, "prints\n%s\nPyTorch\n%s", strbuf_text(&text), strbuf_text(&expected));
    }
    strbuf_release(&text);
    strbuf_release(&expected);
}

/* What a line says about the call before; a failure that no line spoke of is one of the program. */
static void status_settle(program_t *p, const char *line)
{
    const bool must_fail = strcmp(line, "err") == 0;
    if (p->status == ST_OK) {
        if (must_fail) {
            complain(p, "should be an error");
            p->is_over = true;
        }
        return;
    }
    if (is_verbose && p->is_checked) {
        (void)printf("SAYS %s: line %d: %s: %s\n", p->name, p->line, status_name(p->status), status_message());
    }
    const bool may_fail =
        strncmp(line, "maybe", 5) == 0 && (line[5] == '\0' || strcmp(line + 6, status_name(p->status)) == 0);
    if (!must_fail && !may_fail && p->is_checked) {
        complain(p, "%s: %s", status_name(p->status), status_message());
    }
    p->is_over = true;
}

static const struct {
    const char *word;
    void (*run)(program_t *p, char *at);
} lines[] = {{"x", line_x},       {"do", line_do},     {"val", line_val},
             {"back", line_back}, {"grad", line_grad}, {"str", line_str}};

static void line_run(program_t *p, char *line)
{
    status_settle(p, line);
    if (p->is_over || strcmp(line, "err") == 0 || strncmp(line, "maybe", 5) == 0) {
        return;
    }
    char *at = line;
    char *word = NULL;
    (void)word_next(&at, &word);
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        if (strcmp(lines[i].word, word) == 0) {
            lines[i].run(p, at);
            return;
        }
    }
    complain(p, "no line %s", word);
}

/* Runs the lines after "case", which are copied as they are cut up. */
static void program_run(program_t *p, const char *begin, const char *end, int first_line)
{
    char *copy = mem_zalloc((size_t)(end - begin) + 1);
    assert_non_null(copy);
    memcpy(copy, begin, (size_t)(end - begin));
    char *at = copy;
    p->line = first_line;
    p->hash = 14695981039346656037U;
    for (char *line = strsep(&at, "\n"); line != NULL && !p->is_over; line = strsep(&at, "\n"), p->line++) {
        if (line[0] != '\0') {
            line_run(p, line);
        }
    }
    if (!p->is_over) {
        status_settle(p, "");
    }
    (void)gd_grad_set_enabled(true);
    for (int i = 0; i < p->n; i++) {
        (void)gd_tensor_unref(p->t[i]);
    }
    mem_free(copy);
    if (gd_tensor_live_count() != 0) {
        complain(p, "%lld tensors are left", (long long)gd_tensor_live_count());
        exit(1);
    }
}

static void case_run(const char *name, const char *begin, const char *end, int line)
{
    program_t one = {.name = name, .is_checked = true};
    program_t two = {.name = name, .is_checked = false};
    assert_ok(gd_context_set_n_threads(1));
    program_run(&one, begin, end, line);
    assert_ok(gd_context_set_n_threads(2));
    program_run(&two, begin, end, line);
    if ((one.hash != two.hash && !one.is_of_onednn) || one.is_over != two.is_over) {
        complain(&one, "two threads give other bits than one");
    }
    n_failures += one.has_failed || two.has_failed;
}

static int file_run(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        (void)fprintf(stderr, "%s can't be read\n", path);
        return 2;
    }
    strbuf_t text = {0};
    char block[65536];
    for (size_t n = fread(block, 1, sizeof(block), file); n > 0; n = fread(block, 1, sizeof(block), file)) {
        strbuf_append_bytes(&text, block, n);
    }
    (void)fclose(file);
    int n_cases = 0;
    int line = 1;
    const char *at = strstr(strbuf_text(&text), "case ");
    while (at != NULL && strncmp(at, "case ", 5) == 0) {
        char name[128];
        const char *begin = strchr(at, '\n') + 1;
        const char *next = strstr(begin, "\ncase ");
        const char *end = next != NULL ? next + 1 : begin + strlen(begin);
        (void)snprintf(name, sizeof(name), "%.*s", (int)(begin - 1 - (at + 5)), at + 5);
        case_run(name, begin, end, line + 1);
        for (; at < end; at++) {
            line += *at == '\n';
        }
        n_cases++;
        at = next != NULL ? end : NULL;
    }
    strbuf_release(&text);
    (void)printf("%d of %d programs differ from PyTorch\n", n_failures, n_cases);
    return n_failures > 0 || n_cases == 0;
}

int main(int argc, char **argv)
{
    int first = 1;
    if (argc > 1 && strcmp(argv[1], "-v") == 0) {
        is_verbose = true;
        first = 2;
    }
    return file_run(first < argc ? argv[first] : fixture_golden("replay.txt"));
}
