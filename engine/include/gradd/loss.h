/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loss: loss functions with PyTorch's formulas, defaults and reductions (torch.nn.functional, torchvision for focal).
 * Each records a graph where gradients are enabled; loss_p receives a new reference: 0-d, or one value an element or a
 * row where nothing is reduced. x is the prediction, y the target, of one dtype (f32 or f64) unless said; y, weights
 * and variances are broadcast to x's shape. Gradients flow into x; into y too for l1, mse, smooth_l1, huber, bce,
 * bce_with_logits, kl_div, poisson_nll (not full), gaussian_nll and where a loss is symmetric in its inputs; elsewhere
 * a target that requires a gradient is ST_ERR_UNSUPPORTED. The mean over nothing, or over targets that are all ignored,
 * is NaN as in PyTorch, the sum 0 (a training step divides by the whole batch's targets: its loss is 0 without any).
 * gd_cross_entropy and gd_mse of ops.h are what a training step uses: fused, summed and scaled once.
 */
#ifndef GRADD_LOSS_H
#define GRADD_LOSS_H

#include "gradd/tensor.h"

typedef enum gd_reduction { GD_REDUCTION_MEAN, GD_REDUCTION_SUM, GD_REDUCTION_NONE } gd_reduction_t;

/* ---- elementwise: one kernel each, forward and backward ---- */

typedef enum gd_pointwise_loss_kind {
    GD_LOSS_L1,
    GD_LOSS_MSE,
    GD_LOSS_SMOOTH_L1,       /* a: beta */
    GD_LOSS_HUBER,           /* a: delta */
    GD_LOSS_BCE,             /* weight */
    GD_LOSS_BCE_WITH_LOGITS, /* weight, pos_weight */
    GD_LOSS_KL_DIV,          /* option 1: y is a logarithm too */
    GD_LOSS_POISSON_NLL,     /* option 1: x is a logarithm; option 2: Stirling's term; a: epsilon */
    GD_LOSS_GAUSSIAN_NLL,    /* weight: the variance, needed; option 2: the constant term; a: epsilon */
    GD_LOSS_HINGE_EMBEDDING, /* a: margin */
    GD_LOSS_SOFT_MARGIN,
    GD_LOSS_FOCAL, /* a: alpha, < 0 none; b: gamma */
    GD_LOSS_POINTWISE_COUNT
} gd_pointwise_loss_kind_t;

typedef struct gd_pointwise_loss_options {
    gd_pointwise_loss_kind_t kind;
    int option; /* bits, see the kinds */
    double a, b;
} gd_pointwise_loss_options_t;

/* scale · sum over the elements, or every element times scale (is_reduced false). weight and pos_weight may be NULL.
 * What the functions below stand on; for sums over parts of a batch. */
status_t gd_pointwise_loss(gd_tensor_t *x, gd_tensor_t *y, gd_tensor_t *weight, gd_tensor_t *pos_weight,
                           const gd_pointwise_loss_options_t *options, bool is_reduced, double scale,
                           gd_tensor_t **loss_p);

status_t gd_l1_loss(gd_tensor_t *x, gd_tensor_t *y, gd_reduction_t reduction, gd_tensor_t **loss_p);
status_t gd_mse_loss(gd_tensor_t *x, gd_tensor_t *y, gd_reduction_t reduction, gd_tensor_t **loss_p);
status_t gd_smooth_l1_loss(gd_tensor_t *x, gd_tensor_t *y, double beta, gd_reduction_t reduction, gd_tensor_t **loss_p);
status_t gd_huber_loss(gd_tensor_t *x, gd_tensor_t *y, double delta, gd_reduction_t reduction, gd_tensor_t **loss_p);
/* x: probabilities. */
status_t gd_bce_loss(gd_tensor_t *x, gd_tensor_t *y, gd_tensor_t *weight, gd_reduction_t reduction,
                     gd_tensor_t **loss_p);
status_t gd_bce_with_logits_loss(gd_tensor_t *x, gd_tensor_t *y, gd_tensor_t *weight, gd_tensor_t *pos_weight,
                                 gd_reduction_t reduction, gd_tensor_t **loss_p);
/* x: log probabilities. GD_REDUCTION_MEAN is over all elements; divide a sum by the batch for "batchmean". */
status_t gd_kl_div_loss(gd_tensor_t *x, gd_tensor_t *y, bool has_log_target, gd_reduction_t reduction,
                        gd_tensor_t **loss_p);
status_t gd_poisson_nll_loss(gd_tensor_t *x, gd_tensor_t *y, bool has_log_input, bool is_full, double epsilon,
                             gd_reduction_t reduction, gd_tensor_t **loss_p);
status_t gd_gaussian_nll_loss(gd_tensor_t *x, gd_tensor_t *y, gd_tensor_t *variance, bool is_full, double epsilon,
                              gd_reduction_t reduction, gd_tensor_t **loss_p);
/* y: 1 or -1. */
status_t gd_hinge_embedding_loss(gd_tensor_t *x, gd_tensor_t *y, double margin, gd_reduction_t reduction,
                                 gd_tensor_t **loss_p);
status_t gd_soft_margin_loss(gd_tensor_t *x, gd_tensor_t *y, gd_reduction_t reduction, gd_tensor_t **loss_p);
/* torchvision's sigmoid_focal_loss: alpha 0.25, gamma 2 there; alpha < 0: no weighting. */
status_t gd_focal_loss(gd_tensor_t *x, gd_tensor_t *y, double alpha, double gamma, gd_reduction_t reduction,
                       gd_tensor_t **loss_p);

/* ---- classes: x[…,C] with one target (i64 or i32) a row ---- */

/* x: log probabilities; weight[C] or NULL. The mean is over the targets' weights, targets equal to ignore_index
 * (PyTorch's default: -100) apart. ST_ERR_DATA names the first label outside 0 … C-1. */
status_t gd_nll_loss(gd_tensor_t *x, gd_tensor_t *targets, gd_tensor_t *weight, int64_t ignore_index,
                     gd_reduction_t reduction, gd_tensor_t **loss_p);
/* x: logits. */
status_t gd_cross_entropy_loss(gd_tensor_t *x, gd_tensor_t *targets, gd_tensor_t *weight, int64_t ignore_index,
                               double label_smoothing, gd_reduction_t reduction, gd_tensor_t **loss_p);
typedef struct gd_linear_cross_entropy_options {
    double scale; /* of the sum over the targets */
    int64_t ignore_index;
    double label_smoothing;
    gd_tensor_t *class_weight; /* [V], f32 beside 16 bits; NULL: 1 for each */
    bool is_root;              /* gd_backward will start at the loss, with a gradient of 1, and nowhere else */
} gd_linear_cross_entropy_options_t;
/*
 * 0-d: scale times the sum of the cross-entropies of the logits x weightᵀ, x[…,C], weight[V,C], one target a row, as
 * gd_linear and gd_cross_entropy give, but the logits are made in pieces of rows, 128 MiB of them or 64 rows at a time,
 * and both gradients with them: the forward does the backward's work, which then scales what was made. Without
 * gradients the loss alone is made. The weight's gradient is kept until the backward, f32 [V,C], unless is_root: then
 * the forward adds it to the weight's .grad, if the weight is a leaf that has one and no hooks; a backward with another
 * gradient than 1 is ST_ERR_STATE. n_correct_p (may be NULL): rows whose largest logit is the target's. ST_ERR_SHAPE,
 * ST_ERR_DATA as those two.
 */
status_t gd_linear_cross_entropy(gd_tensor_t *x, gd_tensor_t *weight, gd_tensor_t *targets,
                                 const gd_linear_cross_entropy_options_t *options, gd_tensor_t **loss_p,
                                 int64_t *n_correct_p);
/* power: 1 or 2; weight[C] or NULL. */
status_t gd_multi_margin_loss(gd_tensor_t *x, gd_tensor_t *targets, gd_tensor_t *weight, int power, double margin,
                              gd_reduction_t reduction, gd_tensor_t **loss_p);
/* targets[…,C]: a row's labels, ended by -1. */
status_t gd_multi_label_margin_loss(gd_tensor_t *x, gd_tensor_t *targets, gd_reduction_t reduction,
                                    gd_tensor_t **loss_p);
/* y[…,C]: 0 or 1; weight[C] or NULL. */
status_t gd_multi_label_soft_margin_loss(gd_tensor_t *x, gd_tensor_t *y, gd_tensor_t *weight, gd_reduction_t reduction,
                                         gd_tensor_t **loss_p);

/* ---- sequences ---- */

/*
 * Connectionist temporal classification (Graves et al., ICML 2006). x[T,N,C]: log probabilities; targets[N,S],
 * input_lengths[N], target_lengths[N]: i64. The mean divides each loss by its target's length (at least 1) first.
 * is_zero_infinity: an input too short for its target costs 0 instead of infinity.
 */
status_t gd_ctc_loss(gd_tensor_t *x, gd_tensor_t *targets, gd_tensor_t *input_lengths, gd_tensor_t *target_lengths,
                     int64_t blank, bool is_zero_infinity, gd_reduction_t reduction, gd_tensor_t **loss_p);

/* ---- between vectors: compositions of ops; y[N]: 1 or -1 ---- */

/* x1, x2 of one shape. */
status_t gd_margin_ranking_loss(gd_tensor_t *x1, gd_tensor_t *x2, gd_tensor_t *y, double margin,
                                gd_reduction_t reduction, gd_tensor_t **loss_p);
/* x1[N,D], x2[N,D]. */
status_t gd_cosine_embedding_loss(gd_tensor_t *x1, gd_tensor_t *x2, gd_tensor_t *y, double margin,
                                  gd_reduction_t reduction, gd_tensor_t **loss_p);

/* distance_p[N] of a[N,D] and b[N,D]. */
typedef status_t (*gd_distance_func_t)(void *arg, gd_tensor_t *a, gd_tensor_t *b, gd_tensor_t **distance_p);
/* (sum |a - b + epsilon|^p)^(1/p) over the last axis. */
status_t gd_pairwise_distance(gd_tensor_t *a, gd_tensor_t *b, double p, double epsilon, gd_tensor_t **distance_p);

typedef struct gd_triplet_options {
    double margin;
    double p; /* 0: 2 */
    double epsilon;
    bool has_swap;               /* the negative's distance to the positive counts where it is less */
    gd_distance_func_t distance; /* NULL: gd_pairwise_distance by p and epsilon */
    void *arg;                   /* of distance */
} gd_triplet_options_t;
status_t gd_triplet_margin_loss(gd_tensor_t *anchor, gd_tensor_t *positive, gd_tensor_t *negative,
                                const gd_triplet_options_t *options, gd_reduction_t reduction, gd_tensor_t **loss_p);

/* x, y[N,…]: probabilities and targets; 1 - (2 sum x y + epsilon) / (sum x + sum y + epsilon) for each sample. */
status_t gd_dice_loss(gd_tensor_t *x, gd_tensor_t *y, double epsilon, gd_reduction_t reduction, gd_tensor_t **loss_p);
/* queries[N,D], keys[N,D]: cross-entropy of the cosines over temperature, key n the right one of query n (van den Oord
 * et al., 2018). */
status_t gd_info_nce_loss(gd_tensor_t *queries, gd_tensor_t *keys, double temperature, gd_reduction_t reduction,
                          gd_tensor_t **loss_p);

/* sum of weights[i] · losses[i] of n 0-d losses (several tasks). */
status_t gd_weighted_sum_loss(gd_tensor_t *const *losses, const double *weights, int n, gd_tensor_t **loss_p);

#endif
