/* SPDX-License-Identifier: Apache-2.0 */
/* loss: the terms of training.loss; see loss.h. Elementwise losses compare with values, or with one-hot labels (1 and
 * -1 where that is what they want), and are averaged over the last dimension. */
#include "worker/loss.h"

#include <math.h>
#include <string.h>

#include "gradd/ops.h"
#include "worker/loss_pairs.h"
#include "worker/session_internal.h"

/* ---- which is which ---- */

typedef enum family { FAMILY_POINTWISE, FAMILY_CLASSES, FAMILY_GAUSSIAN, FAMILY_DICE, FAMILY_PAIRS } family_t;

/* Elementwise losses of the engine; parameters come from the job. */
typedef struct kind_row {
    int kind_case;
    family_t family;
    gd_pointwise_loss_kind_t pointwise;
    bool is_signed; /* labels are 1 and -1 */
} kind_row_t;

static const kind_row_t kinds[] = {
    {GRADD__V1__LOSS__KIND_CROSS_ENTROPY, FAMILY_CLASSES, GD_LOSS_POINTWISE_COUNT, false},
    {GRADD__V1__LOSS__KIND_NLL, FAMILY_CLASSES, GD_LOSS_POINTWISE_COUNT, false},
    {GRADD__V1__LOSS__KIND_MULTI_MARGIN, FAMILY_CLASSES, GD_LOSS_POINTWISE_COUNT, false},
    {GRADD__V1__LOSS__KIND_MSE, FAMILY_POINTWISE, GD_LOSS_MSE, false},
    {GRADD__V1__LOSS__KIND_L1, FAMILY_POINTWISE, GD_LOSS_L1, false},
    {GRADD__V1__LOSS__KIND_SMOOTH_L1, FAMILY_POINTWISE, GD_LOSS_SMOOTH_L1, false},
    {GRADD__V1__LOSS__KIND_HUBER, FAMILY_POINTWISE, GD_LOSS_HUBER, false},
    {GRADD__V1__LOSS__KIND_BCE_WITH_LOGITS, FAMILY_POINTWISE, GD_LOSS_BCE_WITH_LOGITS, false},
    {GRADD__V1__LOSS__KIND_BCE, FAMILY_POINTWISE, GD_LOSS_BCE, false},
    {GRADD__V1__LOSS__KIND_POISSON_NLL, FAMILY_POINTWISE, GD_LOSS_POISSON_NLL, false},
    {GRADD__V1__LOSS__KIND_SOFT_MARGIN, FAMILY_POINTWISE, GD_LOSS_SOFT_MARGIN, true},
    {GRADD__V1__LOSS__KIND_HINGE_EMBEDDING, FAMILY_POINTWISE, GD_LOSS_HINGE_EMBEDDING, true},
    {GRADD__V1__LOSS__KIND_FOCAL, FAMILY_POINTWISE, GD_LOSS_FOCAL, false},
    {GRADD__V1__LOSS__KIND_KL_DIV, FAMILY_POINTWISE, GD_LOSS_KL_DIV, false},
    {GRADD__V1__LOSS__KIND_GAUSSIAN_NLL, FAMILY_GAUSSIAN, GD_LOSS_GAUSSIAN_NLL, false},
    {GRADD__V1__LOSS__KIND_DICE, FAMILY_DICE, GD_LOSS_POINTWISE_COUNT, false},
    {GRADD__V1__LOSS__KIND_MULTILABEL_SOFT_MARGIN, FAMILY_POINTWISE, GD_LOSS_BCE_WITH_LOGITS, false},
    {GRADD__V1__LOSS__KIND_COSINE_EMBEDDING, FAMILY_PAIRS, GD_LOSS_POINTWISE_COUNT, false},
    {GRADD__V1__LOSS__KIND_MARGIN_RANKING, FAMILY_PAIRS, GD_LOSS_POINTWISE_COUNT, false},
    {GRADD__V1__LOSS__KIND_TRIPLET_MARGIN, FAMILY_PAIRS, GD_LOSS_POINTWISE_COUNT, false},
    {GRADD__V1__LOSS__KIND_INFO_NCE, FAMILY_PAIRS, GD_LOSS_POINTWISE_COUNT, false},
    {GRADD__V1__LOSS__KIND_MULTILABEL_MARGIN, FAMILY_PAIRS, GD_LOSS_POINTWISE_COUNT, false},
    {GRADD__V1__LOSS__KIND_CTC, FAMILY_PAIRS, GD_LOSS_POINTWISE_COUNT, false},
};

static const kind_row_t *row_find(const Gradd__V1__Loss *spec)
{
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        if (kinds[i].kind_case == (int)spec->kind_case) {
            return &kinds[i];
        }
    }
    return NULL;
}

static gd_pointwise_loss_options_t options_of(const Gradd__V1__Loss *spec, const kind_row_t *row)
{
    gd_pointwise_loss_options_t options = {.kind = row->pointwise};
    switch (row->pointwise) {
    case GD_LOSS_SMOOTH_L1:
        options.a = spec->smooth_l1->beta;
        break;
    case GD_LOSS_HUBER:
        options.a = spec->huber->delta;
        break;
    case GD_LOSS_POISSON_NLL:
        options.option = spec->poisson_nll->log_input | spec->poisson_nll->full << 1;
        options.a = spec->poisson_nll->epsilon;
        break;
    case GD_LOSS_HINGE_EMBEDDING:
        options.a = spec->hinge_embedding->margin;
        break;
    case GD_LOSS_FOCAL:
        options.a = spec->focal->alpha;
        options.b = spec->focal->gamma;
        break;
    case GD_LOSS_KL_DIV:
        options.option = spec->kl_div->log_target;
        break;
    case GD_LOSS_GAUSSIAN_NLL:
        options.option = spec->gaussian_nll->full << 1;
        options.a = spec->gaussian_nll->epsilon;
        break;
    default:
        break;
    }
    return options;
}

static const char *kind_name(const Gradd__V1__Loss *spec)
{
    const ProtobufCFieldDescriptor *field =
        protobuf_c_message_descriptor_get_field(&gradd__v1__loss__descriptor, (unsigned)spec->kind_case);
    return field != NULL ? field->name : "nothing";
}

/* ---- opening ---- */

static status_t list_take(size_t n, const double *list, gd_tensor_t **t_p)
{
    const int64_t size = (int64_t)n;
    gd_tensor_t *t = NULL;
    if (n == 0) {
        return ST_OK;
    }
    status_t status = gd_tensor_new(GD_DTYPE_F32, 1, &size, &t);
    if (status == ST_OK) {
        for (size_t i = 0; i < n; i++) {
            ((float *)gd_tensor_data(t))[i] = (float)list[i];
        }
        *t_p = t;
    }
    return status;
}

static void class_options_take(const Gradd__V1__Training *training, wrk_loss_term_t *term)
{
    const Gradd__V1__Loss *spec = term->spec;
    bool has_ignored = false;
    if (spec->kind_case == GRADD__V1__LOSS__KIND_CROSS_ENTROPY) {
        const Gradd__V1__Loss__CrossEntropy *own = spec->cross_entropy;
        term->smoothing = own->has_label_smoothing ? own->label_smoothing : training->label_smoothing;
        term->class_weight = own->weight;
        term->n_class_weight = own->n_weight;
        has_ignored = own->has_ignore_index;
        term->ignore_index = has_ignored ? own->ignore_index : term->ignore_index;
    } else if (spec->kind_case == GRADD__V1__LOSS__KIND_NLL) {
        term->class_weight = spec->nll->weight;
        term->n_class_weight = spec->nll->n_weight;
        has_ignored = spec->nll->has_ignore_index;
        term->ignore_index = has_ignored ? spec->nll->ignore_index : term->ignore_index;
    } else {
        term->class_weight = spec->multi_margin->weight;
        term->n_class_weight = spec->multi_margin->n_weight;
        return; /* its mean is over the targets, whatever their weights */
    }
    term->is_counted = has_ignored || term->n_class_weight > 0;
}

static status_t term_add(wrk_loss_t *loss, const Gradd__V1__Training *training, const Gradd__V1__Loss *spec,
                         const Gradd__V1__Loss__Part *part)
{
    const kind_row_t *row = spec != NULL ? row_find(spec) : NULL;
    if (row == NULL || loss->n_terms == WRK_MAX_LOSS_TERMS) {
        return ST_FAIL(ST_ERR_INVAL, "training.loss: %s can't be a term, or more than %d",
                       spec != NULL ? kind_name(spec) : "nothing", (int)WRK_MAX_LOSS_TERMS);
    }
    wrk_loss_term_t *term = &loss->terms[loss->n_terms++];
    *term = (wrk_loss_term_t){.spec = spec,
                              .kind = (int)(row - kinds),
                              .share = part != NULL ? part->weight : 1,
                              .outputs = {0, -1},
                              .targets = {0, -1},
                              .has_classes = row->family == FAMILY_CLASSES,
                              .is_of_samples = row->family == FAMILY_PAIRS,
                              .ignore_index = -100}; /* PyTorch's default; no data has it unasked */
    if (part != NULL && part->n_outputs == 2) {
        memcpy(term->outputs, part->outputs, sizeof(term->outputs));
        term->is_part = true;
    }
    if (part != NULL && part->n_targets == 2) {
        memcpy(term->targets, part->targets, sizeof(term->targets));
        term->is_part = true;
    }
    if (term->has_classes) {
        class_options_take(training, term);
    } else if (row->pointwise == GD_LOSS_BCE) {
        term->class_weight = spec->bce->weight;
        term->n_class_weight = spec->bce->n_weight;
    } else if (spec->kind_case == GRADD__V1__LOSS__KIND_MULTILABEL_SOFT_MARGIN) {
        term->class_weight = spec->multilabel_soft_margin->weight;
        term->n_class_weight = spec->multilabel_soft_margin->n_weight;
    } else if (row->pointwise == GD_LOSS_BCE_WITH_LOGITS) {
        term->class_weight = spec->bce_with_logits->weight;
        term->n_class_weight = spec->bce_with_logits->n_weight;
    }
    if (spec->kind_case == GRADD__V1__LOSS__KIND_CTC && spec->ctc->reduction == GRADD__V1__LOSS__CTC__REDUCTION__sum) {
        term->share *= training->batch; /* of the mean over the samples */
    }
    loss->is_counted |= term->is_counted;
    status_t status = list_take(term->n_class_weight, term->class_weight, &term->weight);
    if (status == ST_OK && spec->kind_case == GRADD__V1__LOSS__KIND_BCE_WITH_LOGITS) {
        status = list_take(spec->bce_with_logits->n_pos_weight, spec->bce_with_logits->pos_weight, &term->pos_weight);
    }
    return status;
}

status_t wrk_loss_open(const spec_job_t *job, bool has_labels, wrk_loss_t *loss_p)
{
    const Gradd__V1__Training *training = job->training;
    wrk_loss_t loss = {.accuracy_term = -1, .padding = job->model != NULL ? job->model->padding : -1};
    const Gradd__V1__Loss *spec = training->loss;
    status_t status = ST_OK;
    if (spec != NULL && spec->kind_case == GRADD__V1__LOSS__KIND_SUM) {
        for (size_t i = 0; i < spec->sum->n_parts && status == ST_OK; i++) {
            status = term_add(&loss, training, spec->sum->parts[i]->loss, spec->sum->parts[i]);
        }
    } else {
        status = term_add(&loss, training, spec, NULL);
    }
    for (int i = 0; i < loss.n_terms; i++) {
        if (loss.accuracy_term < 0 && loss.terms[i].has_classes) {
            loss.accuracy_term = i;
        }
    }
    for (int i = 0; i < loss.n_terms && loss.accuracy_term < 0 && has_labels; i++) {
        loss.accuracy_term = loss.terms[i].is_of_samples ? -1 : i;
    }
    if (status != ST_OK) {
        wrk_loss_release(&loss);
        return status;
    }
    *loss_p = loss;
    return ST_OK;
}

void wrk_loss_release(wrk_loss_t *loss)
{
    for (int i = 0; i < loss->n_terms; i++) {
        (void)gd_tensor_unref(loss->terms[i].weight);
        (void)gd_tensor_unref(loss->terms[i].pos_weight);
    }
    *loss = (wrk_loss_t){0};
}

/* ---- targets ---- */

/* [from, to) of the last axis; x itself where that is all of it. */
static status_t range_take(gd_tensor_t *x, const int64_t range[2], gd_tensor_t **y_p)
{
    const int64_t width = gd_tensor_n_dims(x) > 0 ? gd_tensor_dim(x, -1) : 1;
    const int64_t to = range[1] < 0 ? width : range[1];
    if (range[0] == 0 && to == width) {
        *y_p = gd_tensor_ref(x);
        return ST_OK;
    }
    if (to > width || gd_tensor_n_dims(x) == 0) {
        return ST_FAIL(ST_ERR_SHAPE, "[%lld, %lld) is beyond the %lld that there are", (long long)range[0],
                       (long long)to, (long long)width);
    }
    return gd_slice(x, gd_tensor_n_dims(x) - 1, range[0], to, 1, y_p);
}

status_t wrk_loss_labels(gd_tensor_t *values, int64_t n_samples, const int64_t *indices, gd_tensor_t **labels_p)
{
    gd_tensor_t *flat = NULL;
    gd_tensor_t *labels = NULL;
    status_t status = gd_contiguous(values, &flat);
    if (status == ST_OK) {
        const int64_t n = gd_tensor_numel(flat);
        status = gd_tensor_new(GD_DTYPE_I64, 1, &n, &labels);
    }
    const float *from = status == ST_OK ? gd_tensor_data(flat) : NULL;
    for (int64_t i = 0; status == ST_OK && i < gd_tensor_numel(flat); i++) {
        if (!(fabsf(from[i]) < 1e9F) || from[i] != rintf(from[i])) {
            const int64_t sample = i / (gd_tensor_numel(flat) / n_samples);
            status = ST_FAIL(ST_ERR_DATA, "the target %g of sample %lld is no label", (double)from[i],
                             (long long)(indices != NULL ? indices[sample] : sample));
            break;
        }
        ((int64_t *)gd_tensor_data(labels))[i] = (int64_t)from[i];
    }
    (void)gd_tensor_unref(flat);
    if (status != ST_OK) {
        (void)gd_tensor_unref(labels);
        return status;
    }
    *labels_p = labels;
    return ST_OK;
}

/* The targets of a term: labels [N], or values. */
static status_t targets_take(const wrk_loss_term_t *term, gd_tensor_t *outputs, const wrk_batch_t *batch,
                             gd_tensor_t **targets_p)
{
    gd_tensor_t *y = batch->y;
    if (gd_tensor_dtype(y) != GD_DTYPE_F32) {
        *targets_p = gd_tensor_ref(y);
        return ST_OK;
    }
    gd_tensor_t *values = NULL;
    status_t status = range_take(y, term->targets, &values);
    if (status == ST_OK && term->has_classes && gd_tensor_numel(values) < gd_tensor_numel(outputs)) {
        status = wrk_loss_labels(values, gd_tensor_dim(y, 0), batch->indices, targets_p);
    } else if (status == ST_OK) {
        status = gd_contiguous(values, targets_p);
    }
    (void)gd_tensor_unref(values);
    return status;
}

static status_t one_hot_new(gd_tensor_t *outputs, gd_tensor_t *y, double elsewhere, gd_tensor_t **one_hot_p)
{
    const int64_t n_classes = gd_tensor_dim(outputs, -1);
    gd_tensor_t *one_hot = NULL;
    status_t status =
        gd_tensor_full(GD_DTYPE_F32, gd_tensor_n_dims(outputs), gd_tensor_shape(outputs), elsewhere, &one_hot);
    if (status != ST_OK) {
        return status;
    }
    const int64_t *target = gd_tensor_data(y);
    float *data = gd_tensor_data(one_hot);
    for (int64_t row = 0; row < gd_tensor_numel(y) && status == ST_OK; row++) {
        if (target[row] < 0 || target[row] >= n_classes) {
            status = ST_FAIL(ST_ERR_DATA, "label %lld of row %lld is outside 0 … %lld", (long long)target[row],
                             (long long)row, (long long)(n_classes - 1));
        } else {
            data[row * n_classes + target[row]] = 1.0F;
        }
    }
    if (status != ST_OK) {
        (void)gd_tensor_unref(one_hot);
        return status;
    }
    *one_hot_p = one_hot;
    return ST_OK;
}

/* Targets as values in the shape of x; one-hot where they are labels. */
static status_t wanted_new(gd_tensor_t *x, gd_tensor_t *y, bool is_signed, gd_tensor_t **wanted_p)
{
    if (gd_tensor_dtype(y) != GD_DTYPE_F32) {
        return one_hot_new(x, y, is_signed ? -1 : 0, wanted_p);
    }
    if (gd_tensor_numel(y) != gd_tensor_numel(x)) {
        strbuf_t text = {0};
        gd_tensor_format_shape(x, &text);
        strbuf_append(&text, " outputs, targets ");
        gd_tensor_format_shape(y, &text);
        status_t status = ST_FAIL(ST_ERR_SHAPE, "%s: as many values are needed", strbuf_text(&text));
        strbuf_release(&text);
        return status;
    }
    return gd_reshape(y, gd_tensor_n_dims(x), gd_tensor_shape(x), wanted_p);
}

/* ---- the families ---- */

static status_t pointwise_loss(const wrk_loss_term_t *term, const kind_row_t *row, gd_tensor_t *x, gd_tensor_t *y,
                               double factor, gd_tensor_t **loss_p)
{
    const gd_pointwise_loss_options_t options = options_of(term->spec, row);
    const bool is_of_rows = row->pointwise == GD_LOSS_KL_DIV && term->spec->kl_div->batch_mean;
    const double scale = is_of_rows ? factor : factor / (double)gd_tensor_dim(x, -1);
    gd_tensor_t *wanted = NULL;
    status_t status = wanted_new(x, y, row->is_signed, &wanted);
    if (status == ST_OK && row->pointwise == GD_LOSS_MSE) {
        status = gd_mse(x, wanted, scale, loss_p);
    } else if (status == ST_OK) {
        status = gd_pointwise_loss(x, wanted, term->weight, term->pos_weight, &options, true, scale, loss_p);
    }
    (void)gd_tensor_unref(wanted);
    return status;
}

/* The outputs' first half are means, the second variances. */
static status_t gaussian_loss(const wrk_loss_term_t *term, const kind_row_t *row, gd_tensor_t *x, gd_tensor_t *y,
                              double factor, gd_tensor_t **loss_p)
{
    const int64_t width = gd_tensor_dim(x, -1);
    const int64_t half = width / 2;
    const gd_pointwise_loss_options_t options = options_of(term->spec, row);
    gd_tensor_t *mean = NULL;
    gd_tensor_t *variance = NULL;
    gd_tensor_t *wanted = NULL;
    status_t status =
        width % 2 == 0 ? ST_OK
                       : ST_FAIL(ST_ERR_SHAPE, "%lld outputs: as many means as variances are needed", (long long)width);
    if (status == ST_OK) {
        status = range_take(x, (const int64_t[2]){0, half}, &mean);
    }
    if (status == ST_OK) {
        status = range_take(x, (const int64_t[2]){half, width}, &variance);
    }
    if (status == ST_OK) {
        status = wanted_new(mean, y, false, &wanted);
    }
    if (status == ST_OK) {
        status = gd_pointwise_loss(mean, wanted, variance, NULL, &options, true, factor / (double)half, loss_p);
    }
    (void)gd_tensor_unref(wanted);
    (void)gd_tensor_unref(variance);
    (void)gd_tensor_unref(mean);
    return status;
}

static status_t scaled(status_t made, gd_tensor_t *sum, double factor, gd_tensor_t **loss_p)
{
    status_t status = made == ST_OK ? gd_scale(sum, factor, 0, loss_p) : made;
    (void)gd_tensor_unref(sum);
    return status;
}

static status_t dice_loss(const wrk_loss_term_t *term, gd_tensor_t *x, gd_tensor_t *y, double factor,
                          gd_tensor_t **loss_p)
{
    gd_tensor_t *wanted = NULL;
    gd_tensor_t *sum = NULL;
    status_t status = wanted_new(x, y, false, &wanted);
    if (status == ST_OK) {
        status = gd_dice_loss(x, wanted, term->spec->dice->epsilon, GD_REDUCTION_SUM, &sum);
    }
    (void)gd_tensor_unref(wanted);
    return scaled(status, sum, factor, loss_p);
}

/* -factor · sum of w y · log p over shares of classes y (PyTorch's cross_entropy of probabilities); the shares are
 * mixed with equal ones by `smoothing`. Log p is the outputs' log_softmax, for nll the outputs. */
static status_t shares_loss(const wrk_loss_term_t *term, gd_tensor_t *x, gd_tensor_t *y, double factor,
                            double smoothing, gd_tensor_t **loss_p)
{
    gd_tensor_t *shares = NULL;
    gd_tensor_t *smooth = NULL;
    gd_tensor_t *weighted = NULL;
    gd_tensor_t *log_p = NULL;
    gd_tensor_t *product = NULL;
    gd_tensor_t *sum = NULL;
    const bool has_logits = term->spec->kind_case == GRADD__V1__LOSS__KIND_CROSS_ENTROPY;
    status_t status = wanted_new(x, y, false, &shares);
    if (status == ST_OK) {
        status = gd_scale(shares, 1 - smoothing, smoothing / (double)gd_tensor_dim(x, -1), &smooth);
    }
    if (status == ST_OK && term->weight != NULL) {
        status = gd_mul(smooth, term->weight, &weighted);
    }
    if (status == ST_OK) {
        status = has_logits ? gd_log_softmax(x, -1, &log_p) : gd_scale(x, 1, 0, &log_p);
    }
    if (status == ST_OK) {
        status = gd_mul(log_p, weighted != NULL ? weighted : smooth, &product);
    }
    if (status == ST_OK) {
        status = gd_sum(product, 0, NULL, false, &sum);
    }
    (void)gd_tensor_unref(product);
    (void)gd_tensor_unref(log_p);
    (void)gd_tensor_unref(weighted);
    (void)gd_tensor_unref(smooth);
    (void)gd_tensor_unref(shares);
    return scaled(status, sum, -factor, loss_p);
}

/* Cross-entropy of labels without weights reads 16 bits as they are and counts the hits itself. */
static bool term_is_plain_cross_entropy(const wrk_loss_term_t *term, const gd_tensor_t *y)
{
    return term->spec->kind_case == GRADD__V1__LOSS__KIND_CROSS_ENTROPY && term->weight == NULL &&
           gd_tensor_dtype(y) != GD_DTYPE_F32;
}

/* *n_correct_p is set where the op counts them itself. */
static status_t class_loss(const wrk_loss_term_t *term, gd_tensor_t *x, gd_tensor_t *y, double factor, bool smooths,
                           gd_tensor_t **loss_p, int64_t *n_correct_p)
{
    const double smoothing = smooths ? term->smoothing : 0;
    gd_tensor_t *sum = NULL;
    status_t status = ST_OK;
    if (gd_tensor_dtype(y) == GD_DTYPE_F32) {
        return term->spec->kind_case == GRADD__V1__LOSS__KIND_MULTI_MARGIN
                   ? ST_FAIL(ST_ERR_INVAL, "multi_margin takes labels; the data's targets are values")
                   : shares_loss(term, x, y, factor, smoothing, loss_p);
    }
    switch (term->spec->kind_case) {
    case GRADD__V1__LOSS__KIND_CROSS_ENTROPY:
        if (term_is_plain_cross_entropy(term, y)) {
            return gd_cross_entropy(x, y, factor, term->ignore_index, smoothing, loss_p, n_correct_p);
        }
        status = gd_cross_entropy_loss(x, y, term->weight, term->ignore_index, smoothing, GD_REDUCTION_SUM, &sum);
        break;
    case GRADD__V1__LOSS__KIND_NLL:
        status = gd_nll_loss(x, y, term->weight, term->ignore_index, GD_REDUCTION_SUM, &sum);
        break;
    default:
        status = gd_multi_margin_loss(x, y, term->weight, term->spec->multi_margin->p, term->spec->multi_margin->margin,
                                      GD_REDUCTION_SUM, &sum);
        break;
    }
    return scaled(status, sum, factor, loss_p);
}

/* ---- accuracy ---- */

/* The first of the largest of n values. */
static int64_t largest_find(const float *values, int64_t n)
{
    int64_t best = 0;
    for (int64_t k = 1; k < n; k++) {
        best = values[k] > values[best] ? k : best;
    }
    return best;
}

/* Rows whose largest output is the label's, or where the target's largest share is; the first of equal ones. n_correct:
 * known already; < 0: not. */
static void hits_count(const wrk_loss_term_t *term, const gd_tensor_t *x, const gd_tensor_t *y, int64_t n_correct,
                       wrk_record_t *record)
{
    const bool has_values = gd_tensor_dtype(y) == GD_DTYPE_F32;
    const int64_t n_classes = gd_tensor_dim(x, -1);
    const int64_t *label = has_values ? NULL : gd_tensor_data(y);
    const float *share = has_values ? gd_tensor_data(y) : NULL;
    const float *output = gd_tensor_data(x);
    record->n_correct = 0;
    record->n_targets = 0;
    for (int64_t row = 0; row < gd_tensor_numel(x) / n_classes; row++) {
        const int64_t wanted = has_values ? largest_find(share + row * n_classes, n_classes) : label[row];
        if (!has_values && wanted == term->ignore_index) {
            continue;
        }
        record->n_targets++;
        if (n_correct < 0) {
            record->n_correct += largest_find(output + row * n_classes, n_classes) == wanted;
        }
    }
    record->n_correct = n_correct < 0 ? record->n_correct : n_correct;
}

/* ---- terms ---- */

static status_t term_compute(const wrk_loss_term_t *term, const wrk_samples_t *of, double factor, bool smooths,
                             gd_tensor_t **loss_p, int64_t *n_correct_p)
{
    gd_tensor_t *x = of->x;
    gd_tensor_t *y = of->y;
    const kind_row_t *row = &kinds[term->kind];
    switch (row->family) {
    case FAMILY_CLASSES:
        return class_loss(term, x, y, factor, smooths, loss_p, n_correct_p);
    case FAMILY_GAUSSIAN:
        return gaussian_loss(term, row, x, y, factor, loss_p);
    case FAMILY_DICE:
        return dice_loss(term, x, y, factor, loss_p);
    case FAMILY_PAIRS:
        return wrk_loss_of_samples(of, factor, loss_p);
    case FAMILY_POINTWISE:
        break;
    }
    return pointwise_loss(term, row, x, y, factor, loss_p);
}

/* What a term is of, contiguous and, but for plain cross-entropy, in f32 (outputs are bf16 under training.precision):
 * hits are read from it. */
static status_t term_take(const wrk_loss_term_t *term, gd_tensor_t *outputs, const wrk_batch_t *batch,
                          gd_tensor_t **x_p, gd_tensor_t **targets_p)
{
    gd_tensor_t *part = NULL;
    gd_tensor_t *wide = NULL;
    gd_tensor_t *x = NULL;
    gd_tensor_t *targets = NULL;
    status_t status = range_take(outputs, term->outputs, &part);
    if (status == ST_OK) {
        status = targets_take(term, part, batch, &targets);
    }
    if (status == ST_OK && gd_tensor_dtype(part) != GD_DTYPE_F32 && !term_is_plain_cross_entropy(term, targets)) {
        status = gd_cast(part, GD_DTYPE_F32, &wide);
    }
    if (status == ST_OK) {
        status = gd_contiguous(wide != NULL ? wide : part, &x);
    }
    (void)gd_tensor_unref(wide);
    (void)gd_tensor_unref(part);
    if (status != ST_OK) {
        (void)gd_tensor_unref(targets);
        return status;
    }
    *x_p = x;
    *targets_p = targets;
    return ST_OK;
}

static status_t name_add(const wrk_loss_t *loss, int i, status_t status)
{
    return loss->n_terms > 1
               ? status_add_context(status, "training.loss.sum[%d]: %s", i, kind_name(loss->terms[i].spec))
               : status_add_context(status, "training.loss: %s", kind_name(loss->terms[i].spec));
}

/* *sum_p (NULL at first) takes the term in. */
static status_t sum_add(gd_tensor_t **sum_p, gd_tensor_t *term)
{
    gd_tensor_t *next = NULL;
    status_t status = ST_OK;
    if (*sum_p == NULL) {
        next = gd_tensor_ref(term);
    } else {
        status = gd_add(*sum_p, term, &next);
    }
    if (status == ST_OK) {
        (void)gd_tensor_unref(*sum_p);
        *sum_p = next;
    }
    return status;
}

status_t wrk_loss_compute(const wrk_loss_t *loss, const wrk_batch_t *batch, gd_tensor_t *outputs, const double *factors,
                          bool smooths, gd_tensor_t **loss_p, wrk_record_t *record)
{
    gd_tensor_t *sum = NULL;
    status_t status = ST_OK;
    record->n_correct = 0;
    record->n_targets = 0;
    for (int i = 0; i < loss->n_terms && status == ST_OK; i++) {
        const wrk_loss_term_t *term = &loss->terms[i];
        gd_tensor_t *x = NULL;
        gd_tensor_t *targets = NULL;
        gd_tensor_t *one = NULL;
        int64_t n_correct = -1;
        status = term_take(term, outputs, batch, &x, &targets);
        if (status == ST_OK) {
            const wrk_samples_t of = {term->spec, x, targets, batch->x, loss->padding, batch->indices};
            status = term_compute(term, &of, factors[i] * term->share, smooths, &one, &n_correct);
        }
        if (status == ST_OK) {
            status = gd_tensor_item(one, &record->loss[i]);
        }
        if (status == ST_OK && i == loss->accuracy_term) {
            hits_count(term, x, targets, n_correct, record);
        }
        status = status == ST_OK ? sum_add(&sum, one) : name_add(loss, i, status);
        (void)gd_tensor_unref(one);
        (void)gd_tensor_unref(targets);
        (void)gd_tensor_unref(x);
    }
    if (status != ST_OK) {
        (void)gd_tensor_unref(sum);
        return status;
    }
    *loss_p = sum;
    return ST_OK;
}

/* ---- weights ---- */

static double label_weight(const wrk_loss_term_t *term, int64_t label)
{
    if (label == term->ignore_index) {
        return 0;
    }
    const int64_t n = (int64_t)term->n_class_weight;
    return n > 1 && label >= 0 && label < n ? term->class_weight[label] : n == 1 ? term->class_weight[0] : 1;
}

void wrk_loss_weigh(const wrk_loss_t *loss, const gd_tensor_t *y, int64_t n_samples, double *weights_p)
{
    const bool has_values = gd_tensor_dtype(y) == GD_DTYPE_F32;
    const int64_t width = has_values && gd_tensor_n_dims(y) > 1 ? gd_tensor_dim(y, -1) : 1;
    const int64_t n_rows = gd_tensor_numel(y) / width;
    for (int i = 0; i < loss->n_terms; i++) {
        const wrk_loss_term_t *term = &loss->terms[i];
        const int64_t to = term->targets[1] < 0 ? width : term->targets[1];
        const bool has_labels = !has_values || to - term->targets[0] == 1;
        const bool is_of_samples = term->is_of_samples || term->spec->kind_case == GRADD__V1__LOSS__KIND_DICE;
        weights_p[i] = is_of_samples ? (double)n_samples : (double)n_rows;
        if (!term->is_counted || !has_labels) {
            continue; /* PyTorch's means over shares are over the rows, too */
        }
        weights_p[i] = 0;
        for (int64_t row = 0; row < n_rows; row++) {
            const int64_t label = has_values
                                      ? (int64_t)((const float *)gd_tensor_data(y))[row * width + term->targets[0]]
                                      : ((const int64_t *)gd_tensor_data(y))[row];
            weights_p[i] += label_weight(term, label);
        }
    }
}

status_t wrk_loss_check(const wrk_loss_t *loss, const wrk_batch_t *batch, gd_tensor_t *outputs, int64_t n_micro)
{
    double factors[WRK_MAX_LOSS_TERMS];
    wrk_record_t record;
    gd_tensor_t *value = NULL;
    for (int i = 0; i < loss->n_terms; i++) {
        const wrk_loss_term_t *term = &loss->terms[i];
        const int64_t to = term->outputs[1] < 0 ? gd_tensor_dim(outputs, -1) : term->outputs[1];
        const int64_t n = (int64_t)term->n_class_weight;
        if (n > (term->has_classes ? 0 : 1) && n != to - term->outputs[0]) {
            status_t status = ST_FAIL(ST_ERR_SHAPE, "%lld weights for %lld outputs", (long long)n,
                                      (long long)(to - term->outputs[0]));
            return name_add(loss, i, status);
        }
        if (term->spec->kind_case == GRADD__V1__LOSS__KIND_INFO_NCE && n_micro < 2) {
            status_t status = ST_FAIL(ST_ERR_INVAL, "a microbatch of one sample has no other keys to compare with; "
                                                    "give fewer training.microbatches");
            return name_add(loss, i, status);
        }
        factors[i] = 1;
    }
    status_t status = wrk_loss_compute(loss, batch, outputs, factors, true, &value, &record);
    (void)gd_tensor_unref(value);
    return status;
}

/* ---- fused with the last layer ---- */

/* Why the last layer and the loss can't be one; NULL: they can. */
static const char *fuse_obstacle(const wrk_loss_t *loss, const gd_module_t *model, bool has_labels)
{
    const gd_module_t *last = model->n_children > 0 ? model->children[model->n_children - 1] : NULL;
    const wrk_loss_term_t *term = &loss->terms[0];
    if (loss->n_terms != 1 || term->is_part || term->spec->kind_case != GRADD__V1__LOSS__KIND_CROSS_ENTROPY) {
        return "the loss isn't cross_entropy";
    }
    if (!has_labels) {
        return "the targets aren't labels";
    }
    if (last == NULL || strcmp(last->ops->kind, "linear") != 0 || last->n_parameters != 1 ||
        strcmp(last->parameters[0].name, "weight") != 0) {
        return "the model's last layer isn't linear without a bias";
    }
    return gd_module_linear_is_transposed(last) ? "the last layer's weight is stored transposed" : NULL;
}

status_t wrk_loss_fuse(wrk_loss_t *loss, const Gradd__V1__Training *training, const gd_module_t *model, bool has_labels,
                       int64_t n_rows, int64_t n_outputs)
{
    static const int64_t LEAST_BYTES = INT64_C(1) << 20;
    const char *obstacle = fuse_obstacle(loss, model, has_labels);
    if (training->fused_loss == GRADD__V1__TRAINING__FUSE__on && obstacle != NULL) {
        return ST_FAIL(ST_ERR_INVAL, "training.fused_loss: %s", obstacle);
    }
    loss->is_fused = obstacle == NULL && (training->fused_loss == GRADD__V1__TRAINING__FUSE__on ||
                                          (training->fused_loss == GRADD__V1__TRAINING__FUSE__auto &&
                                           n_rows * n_outputs >= LEAST_BYTES / (int64_t)sizeof(float)));
    return ST_OK;
}

/* The model but for its last layer, and that with the loss. */
static status_t fused_compute(const wrk_session_t *session, const wrk_batch_t *batch, double factor, bool smooths,
                              gd_tensor_t **loss_p, wrk_record_t *record)
{
    const gd_module_t *model = session->model;
    const wrk_loss_term_t *term = &session->loss.terms[0];
    gd_tensor_t *h = gd_tensor_ref(batch->x);
    status_t status = ST_OK;
    for (int i = 0; i + 1 < model->n_children && status == ST_OK; i++) {
        gd_tensor_t *next = NULL;
        status = gd_module_forward(model->children[i], h, &next);
        (void)gd_tensor_unref(h);
        h = next;
    }
    const gd_linear_cross_entropy_options_t options = {.scale = factor * term->share,
                                                       .ignore_index = term->ignore_index,
                                                       .label_smoothing = smooths ? term->smoothing : 0,
                                                       .class_weight = term->weight,
                                                       .is_root = true};
    record->n_correct = 0;
    if (status == ST_OK) {
        gd_tensor_t *weight = model->children[model->n_children - 1]->parameters[0].tensor;
        status = gd_linear_cross_entropy(h, weight, batch->y, &options, loss_p, &record->n_correct);
        status = status == ST_OK ? ST_OK : name_add(&session->loss, 0, status);
    }
    (void)gd_tensor_unref(h);
    record->n_targets = 0;
    const int64_t *label = gd_tensor_data(batch->y);
    for (int64_t i = 0; i < gd_tensor_numel(batch->y); i++) {
        record->n_targets += label[i] != term->ignore_index;
    }
    return status == ST_OK ? gd_tensor_item(*loss_p, &record->loss[0]) : status;
}

status_t wrk_session_loss(const wrk_session_t *session, const wrk_batch_t *batch, const double *factors, bool smooths,
                          gd_tensor_t **loss_p, wrk_record_t *record)
{
    gd_tensor_t *outputs = NULL;
    status_t status = ST_OK;
    if (session->loss.is_fused) {
        status = fused_compute(session, batch, factors[0], smooths, loss_p, record);
    } else {
        status = gd_module_forward(session->model, batch->x, &outputs);
    }
    if (status == ST_OK && !session->loss.is_fused) {
        status = wrk_loss_compute(&session->loss, batch, outputs, factors, smooths, loss_p, record);
    }
    (void)gd_tensor_unref(outputs);
    wrk_loss_weigh(&session->loss, batch->y, gd_tensor_dim(batch->x, 0), record->weight);
    return status;
}
