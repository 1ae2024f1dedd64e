/* SPDX-License-Identifier: Apache-2.0 */
/* ops/losses: the loss functions of gradd/loss.h that are one call of pointwise_loss, or a composition of ops. */
#include "gradd/loss.h"
#include "ops/helpers.h"

/* ---- elementwise ---- */

static status_t pointwise(gd_tensor_t *x, gd_tensor_t *y, gd_tensor_t *weight, gd_tensor_t *pos_weight,
                          const gd_pointwise_loss_options_t *options, gd_reduction_t reduction, gd_tensor_t **loss_p)
{
    const double scale = reduction == GD_REDUCTION_MEAN ? 1.0 / (double)x->numel : 1.0;
    return gd_pointwise_loss(x, y, weight, pos_weight, options, reduction != GD_REDUCTION_NONE, scale, loss_p);
}

status_t gd_l1_loss(gd_tensor_t *x, gd_tensor_t *y, gd_reduction_t reduction, gd_tensor_t **loss_p)
{
    return pointwise(x, y, NULL, NULL, &(gd_pointwise_loss_options_t){.kind = GD_LOSS_L1}, reduction, loss_p);
}

status_t gd_mse_loss(gd_tensor_t *x, gd_tensor_t *y, gd_reduction_t reduction, gd_tensor_t **loss_p)
{
    return pointwise(x, y, NULL, NULL, &(gd_pointwise_loss_options_t){.kind = GD_LOSS_MSE}, reduction, loss_p);
}

status_t gd_smooth_l1_loss(gd_tensor_t *x, gd_tensor_t *y, double beta, gd_reduction_t reduction, gd_tensor_t **loss_p)
{
    if (!(beta >= 0)) {
        return ST_FAIL(ST_ERR_RANGE, "smooth_l1: beta %g is negative", beta);
    }
    const gd_pointwise_loss_options_t options = {.kind = GD_LOSS_SMOOTH_L1, .a = beta};
    return pointwise(x, y, NULL, NULL, &options, reduction, loss_p);
}

status_t gd_huber_loss(gd_tensor_t *x, gd_tensor_t *y, double delta, gd_reduction_t reduction, gd_tensor_t **loss_p)
{
    if (!(delta > 0)) {
        return ST_FAIL(ST_ERR_RANGE, "huber: delta %g is not positive", delta);
    }
    const gd_pointwise_loss_options_t options = {.kind = GD_LOSS_HUBER, .a = delta};
    return pointwise(x, y, NULL, NULL, &options, reduction, loss_p);
}

status_t gd_bce_loss(gd_tensor_t *x, gd_tensor_t *y, gd_tensor_t *weight, gd_reduction_t reduction,
                     gd_tensor_t **loss_p)
{
    return pointwise(x, y, weight, NULL, &(gd_pointwise_loss_options_t){.kind = GD_LOSS_BCE}, reduction, loss_p);
}

status_t gd_bce_with_logits_loss(gd_tensor_t *x, gd_tensor_t *y, gd_tensor_t *weight, gd_tensor_t *pos_weight,
                                 gd_reduction_t reduction, gd_tensor_t **loss_p)
{
    const gd_pointwise_loss_options_t options = {.kind = GD_LOSS_BCE_WITH_LOGITS};
    return pointwise(x, y, weight, pos_weight, &options, reduction, loss_p);
}

status_t gd_kl_div_loss(gd_tensor_t *x, gd_tensor_t *y, bool has_log_target, gd_reduction_t reduction,
                        gd_tensor_t **loss_p)
{
    const gd_pointwise_loss_options_t options = {.kind = GD_LOSS_KL_DIV, .option = has_log_target};
    return pointwise(x, y, NULL, NULL, &options, reduction, loss_p);
}

status_t gd_poisson_nll_loss(gd_tensor_t *x, gd_tensor_t *y, bool has_log_input, bool is_full, double epsilon,
                             gd_reduction_t reduction, gd_tensor_t **loss_p)
{
    if (is_full && gd_tensor_tracks(y)) {
        return ST_FAIL(ST_ERR_UNSUPPORTED, "poisson_nll: no gradient with respect to the target of the full loss");
    }
    const gd_pointwise_loss_options_t options = {
        .kind = GD_LOSS_POISSON_NLL, .option = has_log_input | is_full << 1, .a = epsilon};
    return pointwise(x, y, NULL, NULL, &options, reduction, loss_p);
}

status_t gd_gaussian_nll_loss(gd_tensor_t *x, gd_tensor_t *y, gd_tensor_t *variance, bool is_full, double epsilon,
                              gd_reduction_t reduction, gd_tensor_t **loss_p)
{
    const gd_pointwise_loss_options_t options = {.kind = GD_LOSS_GAUSSIAN_NLL, .option = is_full << 1, .a = epsilon};
    return pointwise(x, y, variance, NULL, &options, reduction, loss_p);
}

status_t gd_hinge_embedding_loss(gd_tensor_t *x, gd_tensor_t *y, double margin, gd_reduction_t reduction,
                                 gd_tensor_t **loss_p)
{
    const gd_pointwise_loss_options_t options = {.kind = GD_LOSS_HINGE_EMBEDDING, .a = margin};
    return pointwise(x, y, NULL, NULL, &options, reduction, loss_p);
}

status_t gd_soft_margin_loss(gd_tensor_t *x, gd_tensor_t *y, gd_reduction_t reduction, gd_tensor_t **loss_p)
{
    return pointwise(x, y, NULL, NULL, &(gd_pointwise_loss_options_t){.kind = GD_LOSS_SOFT_MARGIN}, reduction, loss_p);
}

status_t gd_focal_loss(gd_tensor_t *x, gd_tensor_t *y, double alpha, double gamma, gd_reduction_t reduction,
                       gd_tensor_t **loss_p)
{
    if (!(gamma >= 0) || !(alpha <= 1)) {
        return ST_FAIL(ST_ERR_RANGE, "focal: alpha %g is more than 1 or gamma %g is negative", alpha, gamma);
    }
    const gd_pointwise_loss_options_t options = {.kind = GD_LOSS_FOCAL, .a = alpha, .b = gamma};
    return pointwise(x, y, NULL, NULL, &options, reduction, loss_p);
}

/* ---- compositions ---- */

/*
 * A composition is a list of steps, each taking over its inputs: after the first failure the rest does nothing, and
 * every tensor is let go of in chain_end.
 */
enum { MAX_CHAIN = 32 };

typedef struct chain {
    status_t status;
    gd_tensor_t *kept[MAX_CHAIN];
    int n_kept;
} chain_t;

/* t_p: what the call that returned status made. */
static gd_tensor_t *chain_keep(chain_t *chain, status_t status, gd_tensor_t **t_p)
{
    chain->status = status;
    if (status != ST_OK) {
        return NULL;
    }
    chain->kept[chain->n_kept++] = *t_p;
    return *t_p;
}

/* The last tensor goes to loss_p, reduced. */
static status_t chain_end(chain_t *chain, gd_tensor_t *each, gd_reduction_t reduction, gd_tensor_t **loss_p)
{
    if (chain->status == ST_OK) {
        if (reduction == GD_REDUCTION_NONE) {
            *loss_p = gd_tensor_ref(each);
        } else if (reduction == GD_REDUCTION_SUM) {
            chain->status = gd_sum(each, 0, NULL, false, loss_p);
        } else {
            chain->status = gd_mean(each, 0, NULL, false, loss_p);
        }
    }
    for (int i = 0; i < chain->n_kept; i++) {
        (void)gd_tensor_unref(chain->kept[i]);
    }
    return chain->status;
}

typedef status_t (*binary_func_t)(gd_tensor_t *a, gd_tensor_t *b, gd_tensor_t **y_p);
typedef status_t (*unary_func_t)(gd_tensor_t *x, gd_tensor_t **y_p);

static gd_tensor_t *binary(chain_t *chain, binary_func_t apply, gd_tensor_t *a, gd_tensor_t *b)
{
    gd_tensor_t *y = NULL;
    return chain->status != ST_OK ? NULL : chain_keep(chain, apply(a, b, &y), &y);
}

static gd_tensor_t *unary(chain_t *chain, unary_func_t apply, gd_tensor_t *x)
{
    gd_tensor_t *y = NULL;
    return chain->status != ST_OK ? NULL : chain_keep(chain, apply(x, &y), &y);
}

static gd_tensor_t *affine(chain_t *chain, gd_tensor_t *x, double factor, double offset)
{
    gd_tensor_t *y = NULL;
    return chain->status != ST_OK ? NULL : chain_keep(chain, gd_scale(x, factor, offset, &y), &y);
}

static gd_tensor_t *power(chain_t *chain, gd_tensor_t *x, double exponent)
{
    gd_tensor_t *y = NULL;
    return chain->status != ST_OK ? NULL : chain_keep(chain, gd_pow(x, exponent, &y), &y);
}

/* Over all axes but the first, or over the last alone. */
static gd_tensor_t *row_sum(chain_t *chain, gd_tensor_t *x, bool is_last_only)
{
    gd_tensor_t *y = NULL;
    if (chain->status != ST_OK) {
        return NULL;
    }
    int axes[GD_MAX_DIMS];
    int n = 0;
    for (int d = is_last_only ? x->n_dims - 1 : 1; d < x->n_dims; d++) {
        axes[n++] = d;
    }
    if (n == 0) {
        y = gd_tensor_ref(x);
        return chain_keep(chain, ST_OK, &y);
    }
    return chain_keep(chain, gd_sum(x, n, axes, false, &y), &y);
}

static status_t same_check(const char *name, const gd_tensor_t *a, const gd_tensor_t *b, int n_dims_least)
{
    if (a->n_dims < n_dims_least || !gd_shape_equal(a->n_dims, a->shape, b->n_dims, b->shape)) {
        return gd_op_fail_shapes(ST_ERR_SHAPE, name, a, b, "two of one shape are needed");
    }
    return ST_OK;
}

status_t gd_multi_label_soft_margin_loss(gd_tensor_t *x, gd_tensor_t *y, gd_tensor_t *weight, gd_reduction_t reduction,
                                         gd_tensor_t **loss_p)
{
    chain_t chain = {.status = same_check("multi_label_soft_margin", x, y, 1)};
    gd_tensor_t *each = NULL;
    gd_tensor_t *of_rows = NULL;
    if (chain.status == ST_OK) {
        status_t status = gd_bce_with_logits_loss(x, y, weight, NULL, GD_REDUCTION_NONE, &each);
        each = chain_keep(&chain, status, &each);
    }
    if (chain.status == ST_OK) {
        of_rows = chain_keep(&chain, gd_mean(each, 1, (int[]){-1}, false, &of_rows), &of_rows);
    }
    return chain_end(&chain, of_rows, reduction, loss_p);
}

/* max(0, -y (x1 - x2) + margin) */
status_t gd_margin_ranking_loss(gd_tensor_t *x1, gd_tensor_t *x2, gd_tensor_t *y, double margin,
                                gd_reduction_t reduction, gd_tensor_t **loss_p)
{
    chain_t chain = {.status = same_check("margin_ranking", x1, x2, 0)};
    gd_tensor_t *signed_gap = binary(&chain, gd_mul, binary(&chain, gd_sub, x2, x1), y);
    return chain_end(&chain, unary(&chain, gd_relu, affine(&chain, signed_gap, 1, margin)), reduction, loss_p);
}

/* y = 1: 1 - cos; y = -1: max(0, cos - margin), with PyTorch's 1e-12 in the squared norms. */
status_t gd_cosine_embedding_loss(gd_tensor_t *x1, gd_tensor_t *x2, gd_tensor_t *y, double margin,
                                  gd_reduction_t reduction, gd_tensor_t **loss_p)
{
    chain_t chain = {.status = same_check("cosine_embedding", x1, x2, 1)};
    gd_tensor_t *product = row_sum(&chain, binary(&chain, gd_mul, x1, x2), true);
    gd_tensor_t *norm1 = affine(&chain, row_sum(&chain, binary(&chain, gd_mul, x1, x1), true), 1, 1e-12);
    gd_tensor_t *norm2 = affine(&chain, row_sum(&chain, binary(&chain, gd_mul, x2, x2), true), 1, 1e-12);
    gd_tensor_t *norms = unary(&chain, gd_sqrt, binary(&chain, gd_mul, norm1, norm2));
    gd_tensor_t *cosine = binary(&chain, gd_div, product, norms);
    gd_tensor_t *alike = affine(&chain, cosine, -1, 1);
    gd_tensor_t *apart = unary(&chain, gd_relu, affine(&chain, cosine, 1, -margin));
    gd_tensor_t *first = binary(&chain, gd_mul, alike, affine(&chain, y, 0.5, 0.5));
    gd_tensor_t *second = binary(&chain, gd_mul, apart, affine(&chain, y, -0.5, 0.5));
    return chain_end(&chain, binary(&chain, gd_add, first, second), reduction, loss_p);
}

status_t gd_pairwise_distance(gd_tensor_t *a, gd_tensor_t *b, double p, double epsilon, gd_tensor_t **distance_p)
{
    chain_t chain = {.status = same_check("pairwise_distance", a, b, 1)};
    if (chain.status == ST_OK && !(p > 0)) {
        chain.status = ST_FAIL(ST_ERR_RANGE, "pairwise_distance: p %g is not positive", p);
    }
    gd_tensor_t *gap = affine(&chain, binary(&chain, gd_sub, a, b), 1, epsilon);
    gd_tensor_t *distance = NULL;
    if (p == 2) {
        distance = unary(&chain, gd_sqrt, row_sum(&chain, binary(&chain, gd_mul, gap, gap), true));
    } else {
        gd_tensor_t *zero = affine(&chain, gap, 0, 0);
        gd_tensor_t *size = NULL;
        if (chain.status == ST_OK) {
            status_t status = gd_l1_loss(gap, zero, GD_REDUCTION_NONE, &size);
            size = chain_keep(&chain, status, &size);
        }
        distance = power(&chain, row_sum(&chain, power(&chain, size, p), true), 1 / p);
    }
    return chain_end(&chain, distance, GD_REDUCTION_NONE, distance_p);
}

/* The default distance: arg is the options. */
static status_t norm_distance(void *arg, gd_tensor_t *a, gd_tensor_t *b, gd_tensor_t **distance_p)
{
    const gd_triplet_options_t *options = arg;
    return gd_pairwise_distance(a, b, options->p > 0 ? options->p : 2, options->epsilon, distance_p);
}

/* max(0, d(anchor, positive) - d(anchor, negative) + margin) */
status_t gd_triplet_margin_loss(gd_tensor_t *anchor, gd_tensor_t *positive, gd_tensor_t *negative,
                                const gd_triplet_options_t *options, gd_reduction_t reduction, gd_tensor_t **loss_p)
{
    chain_t chain = {.status = ST_OK};
    gd_distance_func_t distance = options->distance != NULL ? options->distance : norm_distance;
    void *arg = options->distance != NULL ? options->arg : (void *)(uintptr_t)options;
    gd_tensor_t *to[3] = {NULL}; /* anchor to positive, anchor to negative, positive to negative */
    gd_tensor_t *const from[3] = {anchor, anchor, positive};
    gd_tensor_t *const target[3] = {positive, negative, negative};
    for (int i = 0; i < (options->has_swap ? 3 : 2) && chain.status == ST_OK; i++) {
        status_t status = distance(arg, from[i], target[i], &to[i]);
        to[i] = chain_keep(&chain, status, &to[i]);
    }
    gd_tensor_t *far = to[1];
    if (options->has_swap) { /* min(a, b) = a - max(0, a - b) */
        far = binary(&chain, gd_sub, far, unary(&chain, gd_relu, binary(&chain, gd_sub, far, to[2])));
    }
    gd_tensor_t *gap = affine(&chain, binary(&chain, gd_sub, to[0], far), 1, options->margin);
    return chain_end(&chain, unary(&chain, gd_relu, gap), reduction, loss_p);
}

status_t gd_dice_loss(gd_tensor_t *x, gd_tensor_t *y, double epsilon, gd_reduction_t reduction, gd_tensor_t **loss_p)
{
    chain_t chain = {.status = same_check("dice", x, y, 1)};
    gd_tensor_t *common = affine(&chain, row_sum(&chain, binary(&chain, gd_mul, x, y), false), 2, epsilon);
    gd_tensor_t *all = affine(&chain, row_sum(&chain, binary(&chain, gd_add, x, y), false), 1, epsilon);
    return chain_end(&chain, affine(&chain, binary(&chain, gd_div, common, all), -1, 1), reduction, loss_p);
}

/* Rows of length 1. */
static gd_tensor_t *rows_normalise(chain_t *chain, gd_tensor_t *x)
{
    gd_tensor_t *squares = binary(chain, gd_mul, x, x);
    gd_tensor_t *norms = NULL;
    if (chain->status == ST_OK) {
        norms = chain_keep(chain, gd_sum(squares, 1, (int[]){-1}, true, &norms), &norms);
    }
    return binary(chain, gd_div, x, unary(chain, gd_sqrt, affine(chain, norms, 1, 1e-24)));
}

status_t gd_info_nce_loss(gd_tensor_t *queries, gd_tensor_t *keys, double temperature, gd_reduction_t reduction,
                          gd_tensor_t **loss_p)
{
    chain_t chain = {.status = same_check("info_nce", queries, keys, 2)};
    if (chain.status == ST_OK && (queries->n_dims != 2 || !(temperature > 0))) {
        chain.status = ST_FAIL(ST_ERR_INVAL,
                               "info_nce: [N, D] and a positive temperature are needed, not %d dimensions "
                               "and %g",
                               queries->n_dims, temperature);
    }
    gd_tensor_t *q = rows_normalise(&chain, queries);
    gd_tensor_t *k = rows_normalise(&chain, keys);
    gd_tensor_t *columns = NULL;
    gd_tensor_t *right = NULL;
    if (chain.status == ST_OK) {
        columns = chain_keep(&chain, gd_transpose(k, 0, 1, &columns), &columns);
    }
    gd_tensor_t *logits = affine(&chain, binary(&chain, gd_matmul, q, columns), 1 / temperature, 0);
    if (chain.status == ST_OK) {
        right = chain_keep(&chain, gd_tensor_new(GD_DTYPE_I64, 1, queries->shape, &right), &right);
    }
    gd_tensor_t *loss = NULL;
    if (chain.status == ST_OK) {
        for (int64_t i = 0; i < queries->shape[0]; i++) {
            ((int64_t *)gd_tensor_data(right))[i] = i;
        }
        status_t status = gd_cross_entropy_loss(logits, right, NULL, -100, 0, reduction, &loss);
        loss = chain_keep(&chain, status, &loss);
    }
    return chain_end(&chain, loss, GD_REDUCTION_NONE, loss_p);
}

status_t gd_weighted_sum_loss(gd_tensor_t *const *losses, const double *weights, int n, gd_tensor_t **loss_p)
{
    gd_tensor_t *sum = NULL;
    status_t status = n > 0 ? gd_scale(losses[0], weights[0], 0, &sum) : ST_FAIL(ST_ERR_INVAL, "no losses to sum");
    for (int i = 1; i < n && status == ST_OK; i++) {
        gd_tensor_t *part = NULL;
        gd_tensor_t *next = NULL;
        status = gd_scale(losses[i], weights[i], 0, &part);
        if (status == ST_OK) {
            status = gd_add(sum, part, &next);
        }
        (void)gd_tensor_unref(part);
        if (status == ST_OK) {
            (void)gd_tensor_unref(sum);
            sum = next;
        }
    }
    if (status != ST_OK) {
        (void)gd_tensor_unref(sum);
        return status;
    }
    *loss_p = sum;
    return ST_OK;
}
