/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ops: the ops as functions, thin wrappers over gd_op_apply. Each records a graph where gradients are enabled.
 * y_p receives a new reference. Binary ops broadcast and promote dtypes by PyTorch's rules: see gradd/pointwise.h.
 * Shape letters: B batch, T time, C channels, V vocabulary, H heads (height for images), W width, N rows, K inner.
 * Axes below 0 count from the end.
 *
 * Errors, whose messages name the op: ST_ERR_SHAPE, naming the shapes that don't fit; ST_ERR_RANGE: an axis or an
 * option outside of what is possible; ST_ERR_INVAL: NULL where a tensor is needed; ST_ERR_DTYPE: operands of different
 * dtypes where they aren't promoted;
 * ST_ERR_UNSUPPORTED: a dtype that the op doesn't have (integers, where floats are said); ST_ERR_NOMEM.
 */
#ifndef GRADD_OPS_H
#define GRADD_OPS_H

#include "gradd/create.h"
#include "gradd/index.h"
#include "gradd/pointwise.h"
#include "gradd/reduce.h"
#include "gradd/tensor.h"

/* Views (reshape copies when it must). One size of reshape may be -1. permute: order[n_dims] of x. slice: negative
 * start/stop count from the end and are clamped; step ≥ 1. expand: size -1 keeps. */
status_t gd_reshape(gd_tensor_t *x, int n_dims, const int64_t *shape, gd_tensor_t **y_p);
status_t gd_permute(gd_tensor_t *x, const int *order, gd_tensor_t **y_p);
status_t gd_transpose(gd_tensor_t *x, int axis_a, int axis_b, gd_tensor_t **y_p);
status_t gd_slice(gd_tensor_t *x, int axis, int64_t start, int64_t stop, int64_t step, gd_tensor_t **y_p);
status_t gd_expand(gd_tensor_t *x, int n_dims, const int64_t *shape, gd_tensor_t **y_p);
status_t gd_squeeze(gd_tensor_t *x, int axis, gd_tensor_t **y_p);
status_t gd_unsqueeze(gd_tensor_t *x, int axis, gd_tensor_t **y_p);
status_t gd_contiguous(gd_tensor_t *x, gd_tensor_t **y_p); /* x itself when it is */
status_t gd_cast(gd_tensor_t *x, gd_dtype_t dtype, gd_tensor_t **y_p);

/* With broadcasting; div: integers give f32. */
status_t gd_add(gd_tensor_t *a, gd_tensor_t *b, gd_tensor_t **y_p);
/* a + b for a b that the caller lets go of and doesn't read again: y may lie in its memory. */
status_t gd_add_last(gd_tensor_t *a, gd_tensor_t *b, gd_tensor_t **y_p);
status_t gd_sub(gd_tensor_t *a, gd_tensor_t *b, gd_tensor_t **y_p);
status_t gd_mul(gd_tensor_t *a, gd_tensor_t *b, gd_tensor_t **y_p);
status_t gd_div(gd_tensor_t *a, gd_tensor_t *b, gd_tensor_t **y_p);
status_t gd_scale(gd_tensor_t *x, double factor, double offset, gd_tensor_t **y_p); /* y = factor x + offset; floats */
/* Of each element. exp, log, sqrt: integers give f32. pow: x^exponent, floats. */
status_t gd_neg(gd_tensor_t *x, gd_tensor_t **y_p);
status_t gd_exp(gd_tensor_t *x, gd_tensor_t **y_p);
status_t gd_log(gd_tensor_t *x, gd_tensor_t **y_p);
status_t gd_sqrt(gd_tensor_t *x, gd_tensor_t **y_p);
status_t gd_pow(gd_tensor_t *x, double exponent, gd_tensor_t **y_p);

/* Over the n_axes axes (0: all of them; ST_ERR_INVAL: one given twice); keep_dims leaves them with size 1. sum: bool
 * and integers give i64. mean: of floats, NaN over nothing. */
status_t gd_sum(gd_tensor_t *x, int n_axes, const int *axes, bool keep_dims, gd_tensor_t **y_p);
status_t gd_mean(gd_tensor_t *x, int n_axes, const int *axes, bool keep_dims, gd_tensor_t **y_p);

status_t gd_relu(gd_tensor_t *x, gd_tensor_t **y_p);
/* tanh_approximation: as GPT-2 uses it; otherwise the exact erf form. */
status_t gd_gelu(gd_tensor_t *x, bool tanh_approximation, gd_tensor_t **y_p);
/* gd_gelu of an x that the caller lets go of and doesn't read again: y may lie in its memory. */
status_t gd_gelu_last(gd_tensor_t *x, bool tanh_approximation, gd_tensor_t **y_p);
status_t gd_tanh(gd_tensor_t *x, gd_tensor_t **y_p);
status_t gd_sigmoid(gd_tensor_t *x, gd_tensor_t **y_p);
status_t gd_silu(gd_tensor_t *x, gd_tensor_t **y_p);
/* PyTorch's functions of these names; corners have its derivatives. */
status_t gd_leaky_relu(gd_tensor_t *x, double slope, gd_tensor_t **y_p);
status_t gd_elu(gd_tensor_t *x, double alpha, gd_tensor_t **y_p);
status_t gd_selu(gd_tensor_t *x, gd_tensor_t **y_p);
status_t gd_celu(gd_tensor_t *x, double alpha, gd_tensor_t **y_p);
status_t gd_hardtanh(gd_tensor_t *x, double low, double high, gd_tensor_t **y_p); /* relu6: 0, 6 */
status_t gd_hardsigmoid(gd_tensor_t *x, gd_tensor_t **y_p);
status_t gd_hardswish(gd_tensor_t *x, gd_tensor_t **y_p);
status_t gd_softplus(gd_tensor_t *x, double beta, double threshold, gd_tensor_t **y_p);
status_t gd_softsign(gd_tensor_t *x, gd_tensor_t **y_p);
status_t gd_softshrink(gd_tensor_t *x, double width, gd_tensor_t **y_p);
status_t gd_hardshrink(gd_tensor_t *x, double width, gd_tensor_t **y_p);
status_t gd_tanhshrink(gd_tensor_t *x, gd_tensor_t **y_p);
status_t gd_log_sigmoid(gd_tensor_t *x, gd_tensor_t **y_p);
status_t gd_mish(gd_tensor_t *x, gd_tensor_t **y_p);
status_t gd_threshold(gd_tensor_t *x, double threshold, double value, gd_tensor_t **y_p);
/* The first half along the axis times the sigmoid of the second. */
status_t gd_glu(gd_tensor_t *x, int axis, gd_tensor_t **y_p);
/* x[B,C,…]; weight[1], or one slope for each channel. */
status_t gd_prelu(gd_tensor_t *x, gd_tensor_t *weight, gd_tensor_t **y_p);
/* Along the axis, of floats: exp(x) over its sum, that of -x, and its logarithm; sums of exponentials are of x less its
 * largest value. */
status_t gd_softmin(gd_tensor_t *x, int axis, gd_tensor_t **y_p);
status_t gd_softmax(gd_tensor_t *x, int axis, gd_tensor_t **y_p);
status_t gd_log_softmax(gd_tensor_t *x, int axis, gd_tensor_t **y_p);
/* y = x · mask / (1 - p), mask from key; x itself when p = 0. The caller decides on training or evaluation. */
status_t gd_dropout(gd_tensor_t *x, double p, gd_rng_key_t key, gd_tensor_t **y_p);
/* The same with one draw for each index of the first n_axes axes: 1: whole samples (stochastic depth), 2: channels. */
status_t gd_dropout_leading(gd_tensor_t *x, int n_axes, double p, gd_rng_key_t key, gd_tensor_t **y_p);
/* Leaky ReLU, the slope of each element drawn from [lower, upper) (RReLU); in evaluation use leaky_relu with the mean.
 */
status_t gd_rrelu(gd_tensor_t *x, double lower, double upper, gd_rng_key_t key, gd_tensor_t **y_p);
/* Dropout to selu(-infinity), then scaled so that mean 0 and variance 1 stay (Klambauer et al., NeurIPS 2017). */
status_t gd_alpha_dropout(gd_tensor_t *x, bool by_channel, double p, gd_rng_key_t key, gd_tensor_t **y_p);

/* a[…,M,K] b[…,K,N] → y[…,M,N]; leading axes broadcast; transposed views are taken without a copy. A vector a[K] is one
 * row, b[K] one column, which y hasn't got. */
status_t gd_matmul(gd_tensor_t *a, gd_tensor_t *b, gd_tensor_t **y_p);
/* x[…,K], weight[N,K] (PyTorch's layout), bias[N] or NULL → y[…,N]. */
status_t gd_linear(gd_tensor_t *x, gd_tensor_t *weight, gd_tensor_t *bias, gd_tensor_t **y_p);
/* The same with weight[K,N], as GPT-2's files have it. */
status_t gd_linear_transposed(gd_tensor_t *x, gd_tensor_t *weight, gd_tensor_t *bias, gd_tensor_t **y_p);

/* Norms are of floats, their epsilon above 0 (ST_ERR_RANGE). Over the last axis: x[…,C], weight[C] or NULL, bias[C] or
 * NULL → y[…,C]. */
status_t gd_layer_norm(gd_tensor_t *x, gd_tensor_t *weight, gd_tensor_t *bias, double epsilon, gd_tensor_t **y_p);
/* x[B,C,…]; weight[C], bias[C]. Training: normalises by the batch's mean[C] and biased variance[C] and hands both out
 * (f32, or f64 as x; no graph). Evaluation (is_training false): running_mean[C] and running_var[C] are used; mean_p,
 * var_p NULL. */
status_t gd_batch_norm(gd_tensor_t *x, gd_tensor_t *weight, gd_tensor_t *bias, gd_tensor_t *running_mean,
                       gd_tensor_t *running_var, bool is_training, double epsilon, gd_tensor_t **y_p,
                       gd_tensor_t **mean_p, gd_tensor_t **var_p);

/* x[…,C] / sqrt(mean over C of x² + epsilon) weight[C]; weight may be NULL. */
status_t gd_rms_norm(gd_tensor_t *x, gd_tensor_t *weight, double epsilon, gd_tensor_t **y_p);
/* x[B,C,…] normalised over each of n_groups groups of a sample's channels; weight[C], bias[C] or NULL. */
status_t gd_group_norm(gd_tensor_t *x, int64_t n_groups, gd_tensor_t *weight, gd_tensor_t *bias, double epsilon,
                       gd_tensor_t **y_p);

typedef struct gd_conv2d_options {
    int stride[2]; /* 0: 1 */
    int padding[2];
    int dilation[2]; /* 0: 1 */
    int groups;      /* 0: 1 */
} gd_conv2d_options_t;
/* x[B,C,H,W], weight[O,C/groups,KH,KW], bias[O] or NULL → y[B,O,H',W']; options NULL: stride 1, no padding. */
status_t gd_conv2d(gd_tensor_t *x, gd_tensor_t *weight, gd_tensor_t *bias, const gd_conv2d_options_t *options,
                   gd_tensor_t **y_p);

typedef struct gd_pool2d_options {
    int kernel[2];
    int stride[2]; /* 0: the kernel's size */
    int padding[2];
} gd_pool2d_options_t;
/* x[B,C,H,W] → y[B,C,H',W'], H' = floor((H + 2 padding - kernel) / stride) + 1. */
status_t gd_max_pool2d(gd_tensor_t *x, const gd_pool2d_options_t *options, gd_tensor_t **y_p);
status_t gd_avg_pool2d(gd_tensor_t *x, const gd_pool2d_options_t *options, gd_tensor_t **y_p); /* padding counts */

/* Over one to three spatial axes, as many as x[B,C,…] has; the options' elements are in their order. */
typedef struct gd_conv_options {
    int stride[3]; /* 0: 1 */
    int padding[3];
    int dilation[3];       /* 0: 1 */
    int output_padding[3]; /* of conv_transpose: positions more on the right, fewer than stride or dilation */
    int groups;            /* 0: 1 */
} gd_conv_options_t;
/* weight[O,C/groups,…], bias[O] or NULL → y[B,O,…]; options NULL: stride 1, no padding. */
status_t gd_conv(gd_tensor_t *x, gd_tensor_t *weight, gd_tensor_t *bias, const gd_conv_options_t *options,
                 gd_tensor_t **y_p);
/* weight[C,O/groups,…], bias[O] or NULL → y[B,O,…] of (size - 1) stride - 2 padding + dilation (kernel - 1) + 1 +
 * output padding along an axis. */
status_t gd_conv_transpose(gd_tensor_t *x, gd_tensor_t *weight, gd_tensor_t *bias, const gd_conv_options_t *options,
                           gd_tensor_t **y_p);
typedef struct gd_pool_options {
    int kernel[3];
    int stride[3];         /* 0: the kernel's size */
    int padding[3];        /* at most half the kernel's size */
    int dilation[3];       /* 0: 1; of max_pool */
    bool rounds_up;        /* a last window may reach past the padded image (PyTorch's ceil_mode) */
    bool excludes_padding; /* avg_pool: padding doesn't count (PyTorch's count_include_pad=False) */
} gd_pool_options_t;
/* x[B,C,…] → y[B,C,…], its spatial axes windows of the options' kernel. */
status_t gd_max_pool(gd_tensor_t *x, const gd_pool_options_t *options, gd_tensor_t **y_p);
status_t gd_avg_pool(gd_tensor_t *x, const gd_pool_options_t *options, gd_tensor_t **y_p);
/* To a given size: output i covers floor(i in / out) … ceil((i + 1) in / out) - 1. */
status_t gd_adaptive_max_pool(gd_tensor_t *x, const int *size, gd_tensor_t **y_p);
status_t gd_adaptive_avg_pool(gd_tensor_t *x, const int *size, gd_tensor_t **y_p);

typedef enum gd_pad_mode {
    GD_PAD_CONSTANT,
    GD_PAD_REFLECT,   /* less than the axis' size */
    GD_PAD_REPLICATE, /* the edge */
    GD_PAD_CIRCULAR,  /* at most the axis' size */
    GD_PAD_COUNT
} gd_pad_mode_t;
/* The last n_axes axes (1 … 3) get before[d] positions in front and after[d] behind, both ≥ 0; value of CONSTANT. */
status_t gd_pad_with(gd_tensor_t *x, int n_axes, const int64_t *before, const int64_t *after, gd_pad_mode_t mode,
                     double value, gd_tensor_t **y_p);
/* LINEAR: bilinear over two axes, trilinear over three; CUBIC: bicubic over two. */
typedef enum gd_upsample {
    GD_UPSAMPLE_NEAREST,
    GD_UPSAMPLE_LINEAR,
    GD_UPSAMPLE_CUBIC,
    GD_UPSAMPLE_COUNT
} gd_upsample_t;
/* x[B,C,…] to size[…], or by factors[…] (sizes rounded down) when they aren't NULL, as torch's interpolate. LINEAR
 * copies along an axis whose size a factor leaves as it is; so does NEAREST over two axes, and of twice the size each
 * position comes twice, whatever the factor's digits. */
status_t gd_upsample(gd_tensor_t *x, gd_upsample_t mode, const int64_t *size, const double *factors,
                     bool aligns_corners, gd_tensor_t **y_p);

/* [B,C·r²,H,W] → [B,C,H·r,W·r] (Shi et al., CVPR 2016), and back. */
status_t gd_pixel_shuffle(gd_tensor_t *x, int factor, gd_tensor_t **y_p);
status_t gd_pixel_unshuffle(gd_tensor_t *x, int factor, gd_tensor_t **y_p);
/* x[B,C,…]: channel i of group g changes places with channel g of i (Zhang et al., CVPR 2018). */
status_t gd_channel_shuffle(gd_tensor_t *x, int64_t n_groups, gd_tensor_t **y_p);
/* The windows of x[B,C,H,W] as columns [B,C·KH·KW,L], 0 outside the image; and columns summed into images of size. The
 * options' kernel, stride (0: 1), padding and dilation count, of two axes. */
status_t gd_unfold(gd_tensor_t *x, const gd_pool_options_t *options, gd_tensor_t **y_p);
status_t gd_fold(gd_tensor_t *x, const gd_pool_options_t *options, const int64_t size[2], gd_tensor_t **y_p);
typedef enum gd_bag { GD_BAG_SUM, GD_BAG_MEAN, GD_BAG_MAX, GD_BAG_COUNT } gd_bag_t;
/* ids[B,T], or ids[N] in bags that begin at offsets[B] (0 first, ascending), weight[V,C] → y[B,C]. Ids equal to
 * padding (-1: none) don't count. ST_ERR_DATA names a bad id or offset. */
status_t gd_embedding_bag(gd_tensor_t *ids, gd_tensor_t *offsets, gd_tensor_t *weight, gd_bag_t mode, int64_t padding,
                          gd_tensor_t **y_p);
/* y[n,o] = x1[n,:] weight[o,:,:] x2[n,:] + bias[o]; x1[N,I], x2[N,J], bias NULL: none. */
status_t gd_bilinear(gd_tensor_t *x1, gd_tensor_t *x2, gd_tensor_t *weight, gd_tensor_t *bias, gd_tensor_t **y_p);
/* a · b / (max(|a|, epsilon) max(|b|, epsilon)) along the axis, which is gone from the result. */
status_t gd_cosine_similarity(gd_tensor_t *a, gd_tensor_t *b, int axis, double epsilon, gd_tensor_t **y_p);

/* qkv[B,T,3C]: queries, keys, values of n_heads heads side by side → y[B,T,C]; scale 1/sqrt(C/n_heads). */
status_t gd_attention(gd_tensor_t *qkv, int n_heads, bool is_causal, gd_tensor_t **y_p);

/* ids[…] (i64, i32 or u8), weight[V,C] → y[…,C]. ST_ERR_DATA names the first id outside 0 … V-1. */
status_t gd_embedding(gd_tensor_t *ids, gd_tensor_t *weight, gd_tensor_t **y_p);
/* The same, but that the row `padding` gets no gradient (-1: all do). */
status_t gd_embedding_padded(gd_tensor_t *ids, gd_tensor_t *weight, int64_t padding, gd_tensor_t **y_p);

/*
 * logits[N,V] (or […,V]), targets[N] (i64 or i32) → 0-d: sum over the targets of -log softmax, times scale. Targets
 * equal to ignore_index don't count. label_smoothing in [0, 1). ST_ERR_DATA names the first label outside 0 … V-1.
 * n_correct_p (may be NULL): number of rows whose largest logit is the target's (the first of equal ones).
 */
status_t gd_cross_entropy(gd_tensor_t *logits, gd_tensor_t *targets, double scale, int64_t ignore_index,
                          double label_smoothing, gd_tensor_t **loss_p, int64_t *n_correct_p);
/* 0-d: scale · sum (x - y)². */
status_t gd_mse(gd_tensor_t *x, gd_tensor_t *y, double scale, gd_tensor_t **loss_p);

/* ops/sdpa.c */
typedef struct gd_sdpa_options {
    int n_heads;
    int n_key_heads; /* of k and v; divides n_heads, each serves as many heads one after the other; 0: n_heads */
    bool is_causal;  /* query t sees keys 0 … t */
    bool has_alibi;  /* -slope_h |t - u| is added to the scores (Press et al., 2022) */
    int64_t window;  /* query t sees keys t - window + 1 … t + window - 1 only; 0: all */
    double scale;    /* of q·k; 0: 1/sqrt(D) */
    double dropout;  /* of the weights, with rng; the caller decides on training or evaluation */
    gd_rng_key_t rng;
    gd_tensor_t *mask;    /* is added to the scores, broadcast to [B,H,T,S]; -INFINITY hides; no gradient; or NULL */
    gd_tensor_t *lengths; /* i64 [B]: keys past a sample's length are hidden; or NULL */
} gd_sdpa_options_t;
/* Scaled dot-product attention: q[B,T,H·D], k and v[B,S,G·D] → y[B,T,H·D]. A query that sees no key gets zeros. */
status_t gd_sdpa(gd_tensor_t *q, gd_tensor_t *k, gd_tensor_t *v, const gd_sdpa_options_t *options, gd_tensor_t **y_p);

/* ops/rope.c: turns pairs of features by the position's angle t theta^(-2i/R), as Llama does (pair i: features i and
 * i + R/2) or, interleaved, as GPT-J (2i and 2i+1). */
typedef struct gd_rope_options {
    int n_heads;
    int rotated; /* features of each head, an even number; 0: all of them */
    bool is_interleaved;
    int64_t first_position;
    double theta;        /* 0: 10,000 */
    double scaling;      /* factor of longer contexts; 0: none. With old_context the way of Llama 3.1, else positions /
                            scaling */
    int64_t old_context; /* positions that the model was trained on; 0: all rates are divided */
    double low_factor,
        high_factor; /* rates of fewer turns than low over old_context are divided, of more than high kept */
} gd_rope_options_t;
/* x[B,T,H·D] → y[B,T,H·D] */
status_t gd_rope(gd_tensor_t *x, const gd_rope_options_t *options, gd_tensor_t **y_p);

/* ops/gated.c: y = f(a) b of a and b of one shape: SILU is SwiGLU, GELU GEGLU, SIGMOID GLU, RELU ReGLU, LINEAR the
 * bilinear one. */
typedef enum gd_gate {
    GD_GATE_SIGMOID,
    GD_GATE_SILU,
    GD_GATE_GELU,
    GD_GATE_GELU_TANH,
    GD_GATE_RELU,
    GD_GATE_LINEAR,
    GD_GATE_COUNT
} gd_gate_t;
status_t gd_gated(gd_gate_t gate, gd_tensor_t *a, gd_tensor_t *b, gd_tensor_t **y_p);

/* ops/rnn.c. Gates in PyTorch's order: lstm i f g o, gru r z n. */
typedef enum gd_rnn_kind { GD_RNN_TANH, GD_RNN_RELU, GD_RNN_LSTM, GD_RNN_GRU, GD_RNN_COUNT } gd_rnn_kind_t;
typedef struct gd_rnn_weights {
    gd_tensor_t *w_hh; /* [G·H,R] */
    gd_tensor_t *b_hh; /* [G·H]; NULL: none */
    gd_tensor_t *w_hr; /* [R,H], lstm only: projects the output; NULL: none, and R = H */
} gd_rnn_weights_t;
/*
 * A recurrent layer over time: x[T,B,G·H] holds the input's shares of the gates, gd_linear(input, w_ih, b_ih), with
 * G = 4 for lstm, 3 for gru, 1 for the others → y[T,B,R]. is_reverse: from the last time to the first. h0[B,R], and
 * lstm's c0[B,H]: the states before the first step; NULL: zeros. cells_p (may be NULL): lstm's states [T,B,H], without
 * a graph.
 */
status_t gd_rnn(gd_rnn_kind_t kind, bool is_reverse, gd_tensor_t *x, const gd_rnn_weights_t *weights, gd_tensor_t *h0,
                gd_tensor_t *c0, gd_tensor_t **y_p, gd_tensor_t **cells_p);

#endif
