/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loss: what training.loss names, of a model's outputs [N, classes] and the data's targets: labels [N], or values of as
 * many elements as the outputs (regression, or shares of classes as mixup makes them). Elementwise losses compare with
 * the values, or with one-hot targets (1 and -1 for soft_margin), and are averaged over the last dimension; all are
 * sums over the targets times `scale`, so that microbatches add up.
 */
#include "gradd/loss.h"
#include "gradd/ops.h"
#include "worker/session_internal.h"

static const int64_t IGNORE_INDEX = -100; /* PyTorch's default */

/* The first of the largest of n values. */
static int64_t largest_find(const float *values, int64_t n)
{
    int64_t best = 0;
    for (int64_t k = 1; k < n; k++) {
        best = values[k] > values[best] ? k : best;
    }
    return best;
}

/* Rows whose largest output is the label's, or where the target's largest share is; the first of equal ones. */
static int64_t hits_count(gd_tensor_t *outputs, gd_tensor_t *y, int64_t n_classes)
{
    bool has_values = gd_tensor_dtype(y) == GD_DTYPE_F32;
    const int64_t *label = has_values ? NULL : gd_tensor_data(y);
    const float *share = has_values ? gd_tensor_data(y) : NULL;
    const float *output = gd_tensor_data(outputs);
    int64_t n_correct = 0;
    for (int64_t row = 0; row < gd_tensor_numel(outputs) / n_classes; row++) {
        int64_t wanted = has_values ? largest_find(share + row * n_classes, n_classes) : label[row];
        n_correct += largest_find(output + row * n_classes, n_classes) == wanted;
    }
    return n_correct;
}

/* Losses whose targets are classes, or shares of classes. */
static bool loss_has_classes(int loss)
{
    return loss == GRADD__V1__TRAINING__LOSS__cross_entropy || loss == GRADD__V1__TRAINING__LOSS__nll ||
           loss == GRADD__V1__TRAINING__LOSS__multi_margin;
}

bool wrk_session_has_accuracy(const wrk_session_t *session)
{
    return wrk_dataset_n_classes(session->train) > 0 || loss_has_classes((int)session->job->training->loss);
}

static status_t one_hot_new(gd_tensor_t *outputs, gd_tensor_t *y, int64_t n_classes, double elsewhere,
                            gd_tensor_t **one_hot_p)
{
    gd_tensor_t *one_hot = NULL;
    status_t status =
        gd_tensor_full(GD_DTYPE_F32, gd_tensor_n_dims(outputs), gd_tensor_shape(outputs), elsewhere, &one_hot);
    if (status != ST_OK) {
        return status;
    }
    const int64_t *target = gd_tensor_data(y);
    float *data = gd_tensor_data(one_hot);
    for (int64_t row = 0; row < gd_tensor_numel(y); row++) {
        data[row * n_classes + target[row]] = 1.0F;
    }
    *one_hot_p = one_hot;
    return ST_OK;
}

/* False: not an elementwise loss. Parameters are PyTorch's defaults, torchvision's for focal. */
static bool pointwise_find(int loss, gd_pointwise_loss_options_t *options_p)
{
    static const struct {
        int loss;
        gd_pointwise_loss_options_t options;
    } rows[] = {
        {GRADD__V1__TRAINING__LOSS__mse, {.kind = GD_LOSS_MSE}},
        {GRADD__V1__TRAINING__LOSS__l1, {.kind = GD_LOSS_L1}},
        {GRADD__V1__TRAINING__LOSS__smooth_l1, {.kind = GD_LOSS_SMOOTH_L1, .a = 1}},
        {GRADD__V1__TRAINING__LOSS__huber, {.kind = GD_LOSS_HUBER, .a = 1}},
        {GRADD__V1__TRAINING__LOSS__bce_with_logits, {.kind = GD_LOSS_BCE_WITH_LOGITS}},
        {GRADD__V1__TRAINING__LOSS__bce, {.kind = GD_LOSS_BCE}},
        {GRADD__V1__TRAINING__LOSS__poisson_nll, {.kind = GD_LOSS_POISSON_NLL, .option = 1}},
        {GRADD__V1__TRAINING__LOSS__soft_margin, {.kind = GD_LOSS_SOFT_MARGIN}},
        {GRADD__V1__TRAINING__LOSS__focal, {.kind = GD_LOSS_FOCAL, .a = 0.25, .b = 2}},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (rows[i].loss == loss) {
            *options_p = rows[i].options;
            return true;
        }
    }
    return false;
}

/* The targets of an elementwise loss, shaped as the outputs. */
static status_t wanted_new(const gd_pointwise_loss_options_t *options, gd_tensor_t *outputs, gd_tensor_t *y,
                           int64_t n_classes, gd_tensor_t **wanted_p)
{
    bool is_signed = options->kind == GD_LOSS_SOFT_MARGIN;
    if (gd_tensor_dtype(y) != GD_DTYPE_F32) {
        return one_hot_new(outputs, y, n_classes, is_signed ? -1 : 0, wanted_p);
    }
    return gd_reshape(y, gd_tensor_n_dims(outputs), gd_tensor_shape(outputs), wanted_p);
}

static status_t pointwise_loss(const gd_pointwise_loss_options_t *options, gd_tensor_t *outputs, gd_tensor_t *y,
                               int64_t n_classes, double scale, gd_tensor_t **loss_p)
{
    gd_tensor_t *wanted = NULL;
    status_t status = wanted_new(options, outputs, y, n_classes, &wanted);
    if (status != ST_OK) {
        return status;
    }
    if (options->kind == GD_LOSS_MSE) {
        status = gd_mse(outputs, wanted, scale / (double)n_classes, loss_p);
    } else {
        status = gd_pointwise_loss(outputs, wanted, NULL, NULL, options, true, scale / (double)n_classes, loss_p);
    }
    (void)gd_tensor_unref(wanted);
    return status;
}

/* -scale · sum of y · log p over shares of classes y (PyTorch's cross_entropy of probabilities); the shares are mixed
 * with equal ones by `smoothing`. has_logits: log p is the outputs' log_softmax, else the outputs. */
static status_t shares_loss(gd_tensor_t *outputs, gd_tensor_t *y, bool has_logits, double scale, double smoothing,
                            gd_tensor_t **loss_p)
{
    gd_tensor_t *shares = NULL;
    gd_tensor_t *smooth = NULL;
    gd_tensor_t *log_p = NULL;
    gd_tensor_t *product = NULL;
    gd_tensor_t *sum = NULL;
    status_t status = gd_reshape(y, gd_tensor_n_dims(outputs), gd_tensor_shape(outputs), &shares);
    if (status == ST_OK) {
        status = gd_scale(shares, 1 - smoothing, smoothing / (double)gd_tensor_dim(outputs, -1), &smooth);
    }
    if (status == ST_OK) {
        status = has_logits ? gd_log_softmax(outputs, -1, &log_p) : gd_scale(outputs, 1, 0, &log_p);
    }
    if (status == ST_OK) {
        status = gd_mul(log_p, smooth, &product);
    }
    if (status == ST_OK) {
        status = gd_sum(product, 0, NULL, false, &sum);
    }
    if (status == ST_OK) {
        status = gd_scale(sum, -scale, 0, loss_p);
    }
    (void)gd_tensor_unref(sum);
    (void)gd_tensor_unref(product);
    (void)gd_tensor_unref(log_p);
    (void)gd_tensor_unref(smooth);
    (void)gd_tensor_unref(shares);
    return status;
}

/* Targets that are values [N, …], as many as the outputs. */
static status_t values_loss(int loss, gd_tensor_t *outputs, gd_tensor_t *y, int64_t n_outputs, double scale,
                            double smoothing, gd_tensor_t **loss_p)
{
    gd_pointwise_loss_options_t options;
    if (pointwise_find(loss, &options)) {
        return pointwise_loss(&options, outputs, y, n_outputs, scale, loss_p);
    }
    if (loss == GRADD__V1__TRAINING__LOSS__multi_margin) {
        return ST_FAIL(ST_ERR_INVAL, "training.loss multi_margin takes labels; the data's targets are values");
    }
    return shares_loss(outputs, y, loss == GRADD__V1__TRAINING__LOSS__cross_entropy, scale, smoothing, loss_p);
}

static status_t row_loss(int loss, gd_tensor_t *outputs, gd_tensor_t *y, double scale, gd_tensor_t **loss_p)
{
    gd_tensor_t *sum = NULL;
    status_t status = loss == GRADD__V1__TRAINING__LOSS__nll
                          ? gd_nll_loss(outputs, y, NULL, IGNORE_INDEX, GD_REDUCTION_SUM, &sum)
                          : gd_multi_margin_loss(outputs, y, NULL, 1, 1, GD_REDUCTION_SUM, &sum);
    if (status == ST_OK) {
        status = gd_scale(sum, scale, 0, loss_p);
    }
    (void)gd_tensor_unref(sum);
    return status;
}

status_t wrk_session_loss(const wrk_session_t *session, gd_tensor_t *x, gd_tensor_t *y, double scale, double smoothing,
                          gd_tensor_t **loss_p, int64_t *n_correct_p)
{
    gd_tensor_t *outputs = NULL;
    gd_pointwise_loss_options_t options;
    int loss = (int)session->job->training->loss;
    status_t status = gd_module_forward(session->model, x, &outputs);
    if (status != ST_OK) {
        return status;
    }
    if (gd_tensor_dtype(y) == GD_DTYPE_F32) {
        *n_correct_p = session->has_accuracy ? hits_count(outputs, y, session->n_outputs) : 0;
        status = values_loss(loss, outputs, y, session->n_outputs, scale, smoothing, loss_p);
    } else if (loss == GRADD__V1__TRAINING__LOSS__cross_entropy) {
        status = gd_cross_entropy(outputs, y, scale, IGNORE_INDEX, smoothing, loss_p, n_correct_p);
    } else {
        gd_tensor_t *wide = NULL;
        status = gd_cast(outputs, GD_DTYPE_F32, &wide); /* bf16 under training.precision */
        if (status != ST_OK) {
            (void)gd_tensor_unref(outputs);
            return status;
        }
        (void)gd_tensor_unref(outputs);
        outputs = wide;
        *n_correct_p = hits_count(outputs, y, session->n_outputs);
        status = pointwise_find(loss, &options)
                     ? pointwise_loss(&options, outputs, y, session->n_outputs, scale, loss_p)
                     : row_loss(loss, outputs, y, scale, loss_p);
    }
    (void)gd_tensor_unref(outputs);
    return status;
}
