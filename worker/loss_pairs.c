/* SPDX-License-Identifier: Apache-2.0 */
/* loss_pairs: losses of pairs, triplets, sets of labels and sequences; see loss_pairs.h. */
#include "worker/loss_pairs.h"

#include "gradd/ops.h"
#include "worker/loss.h"

enum { MAX_MEMBERS = 3 };

/* ---- shapes ---- */

static status_t outputs_refuse(const gd_tensor_t *x, const char *wanted)
{
    strbuf_t shape = {0};
    gd_tensor_format_shape(x, &shape);
    status_t status = ST_FAIL(ST_ERR_SHAPE, "the model's outputs are %s; %s is needed", strbuf_text(&shape), wanted);
    strbuf_release(&shape);
    return status;
}

static void members_release(gd_tensor_t **members)
{
    for (int i = 0; i < MAX_MEMBERS; i++) {
        (void)gd_tensor_unref(members[i]);
    }
}

/* members[n], each [N, D], of x[N, n, D]. */
static status_t members_take(gd_tensor_t *x, int n, const char *wanted, gd_tensor_t **members)
{
    if (gd_tensor_n_dims(x) != 3 || gd_tensor_dim(x, 1) != n) {
        return outputs_refuse(x, wanted);
    }
    const int64_t shape[2] = {gd_tensor_dim(x, 0), gd_tensor_dim(x, 2)};
    status_t status = ST_OK;
    for (int i = 0; i < n && status == ST_OK; i++) {
        gd_tensor_t *member = NULL;
        status = gd_slice(x, 1, i, i + 1, 1, &member);
        if (status == ST_OK) {
            status = gd_reshape(member, 2, shape, &members[i]);
        }
        (void)gd_tensor_unref(member);
    }
    return status;
}

/* ---- targets ---- */

/* What row `row` is called in errors. */
static long long sample_of(const wrk_samples_t *of, int64_t row)
{
    return (long long)(of->indices != NULL ? of->indices[row] : row);
}

/* The labels of all n samples, at least one each: labels[n · *width_p]. */
static status_t labels_take(const wrk_samples_t *of, int64_t n, int64_t *width_p, gd_tensor_t **labels_p)
{
    gd_tensor_t *y = of->y;
    if (gd_tensor_numel(y) < n || gd_tensor_numel(y) % n != 0) {
        return ST_FAIL(ST_ERR_SHAPE, "%lld labels for %lld samples: as many for each are needed",
                       (long long)gd_tensor_numel(y), (long long)n);
    }
    *width_p = gd_tensor_numel(y) / n;
    if (gd_tensor_dtype(y) == GD_DTYPE_F32) {
        return wrk_loss_labels(y, n, of->indices, labels_p);
    }
    *labels_p = gd_tensor_ref(y);
    return ST_OK;
}

/* One 1 or -1 for each of n samples, signs[n]; the labels 1 and 0 stand for them. */
static status_t signs_new(const wrk_samples_t *of, int64_t n, gd_tensor_t **signs_p)
{
    const bool has_values = gd_tensor_dtype(of->y) == GD_DTYPE_F32;
    gd_tensor_t *labels = NULL;
    gd_tensor_t *signs = NULL;
    int64_t width = 0;
    status_t status = labels_take(of, n, &width, &labels);
    if (status == ST_OK && width != 1) {
        status = ST_FAIL(ST_ERR_SHAPE, "%lld targets a sample; one is needed, 1 or -1", (long long)width);
    }
    if (status == ST_OK) {
        status = gd_tensor_new(GD_DTYPE_F32, 1, &n, &signs);
    }
    for (int64_t i = 0; i < n && status == ST_OK; i++) {
        const int64_t label = ((const int64_t *)gd_tensor_data(labels))[i];
        if (label != 1 && label != (has_values ? -1 : 0)) {
            status = ST_FAIL(ST_ERR_DATA, "the target %lld of sample %lld is neither 1 nor %d", (long long)label,
                             sample_of(of, i), has_values ? -1 : 0);
        } else {
            ((float *)gd_tensor_data(signs))[i] = label == 1 ? 1.0F : -1.0F;
        }
    }
    (void)gd_tensor_unref(labels);
    if (status != ST_OK) {
        (void)gd_tensor_unref(signs);
        return status;
    }
    *signs_p = signs;
    return ST_OK;
}

/* ---- pairs and triplets ---- */

static status_t cosine_loss(const wrk_samples_t *of, gd_tensor_t **sum_p)
{
    gd_tensor_t *x = of->x;
    gd_tensor_t *members[MAX_MEMBERS] = {NULL};
    gd_tensor_t *signs = NULL;
    status_t status = members_take(x, 2, "[samples, 2, width]", members);
    if (status == ST_OK) {
        status = signs_new(of, gd_tensor_dim(x, 0), &signs);
    }
    if (status == ST_OK) {
        status = gd_cosine_embedding_loss(members[0], members[1], signs, of->spec->cosine_embedding->margin,
                                          GD_REDUCTION_SUM, sum_p);
    }
    (void)gd_tensor_unref(signs);
    members_release(members);
    return status;
}

static status_t ranking_loss(const wrk_samples_t *of, gd_tensor_t **sum_p)
{
    gd_tensor_t *x = of->x;
    const int n_dims = gd_tensor_n_dims(x);
    if (n_dims < 2 || n_dims > 3 || gd_tensor_dim(x, 1) != 2 || (n_dims == 3 && gd_tensor_dim(x, 2) != 1)) {
        return outputs_refuse(x, "[samples, 2]");
    }
    const int64_t n = gd_tensor_dim(x, 0);
    gd_tensor_t *scores = NULL;
    gd_tensor_t *members[MAX_MEMBERS] = {NULL};
    gd_tensor_t *signs = NULL;
    gd_tensor_t *columns = NULL;
    status_t status = gd_reshape(x, 3, (const int64_t[3]){n, 2, 1}, &scores);
    if (status == ST_OK) {
        status = members_take(scores, 2, "[samples, 2]", members);
    }
    if (status == ST_OK) {
        status = signs_new(of, n, &signs);
    }
    if (status == ST_OK) {
        status = gd_reshape(signs, 2, (const int64_t[2]){n, 1}, &columns);
    }
    if (status == ST_OK) {
        status = gd_margin_ranking_loss(members[0], members[1], columns, of->spec->margin_ranking->margin,
                                        GD_REDUCTION_SUM, sum_p);
    }
    (void)gd_tensor_unref(columns);
    (void)gd_tensor_unref(signs);
    members_release(members);
    (void)gd_tensor_unref(scores);
    return status;
}

static status_t triplet_loss(const wrk_samples_t *of, gd_tensor_t **sum_p)
{
    gd_tensor_t *x = of->x;
    const gd_triplet_options_t options = {.margin = of->spec->triplet_margin->margin,
                                          .p = of->spec->triplet_margin->p,
                                          .epsilon = of->spec->triplet_margin->epsilon,
                                          .has_swap = of->spec->triplet_margin->swap};
    gd_tensor_t *members[MAX_MEMBERS] = {NULL};
    status_t status = members_take(x, 3, "[samples, 3, width]", members);
    if (status == ST_OK) {
        status = gd_triplet_margin_loss(members[0], members[1], members[2], &options, GD_REDUCTION_SUM, sum_p);
    }
    members_release(members);
    return status;
}

static status_t info_nce_loss(const wrk_samples_t *of, gd_tensor_t **sum_p)
{
    gd_tensor_t *x = of->x;
    gd_tensor_t *members[MAX_MEMBERS] = {NULL};
    status_t status = members_take(x, 2, "[samples, 2, width]", members);
    if (status == ST_OK) {
        status = gd_info_nce_loss(members[0], members[1], of->spec->info_nce->temperature, GD_REDUCTION_SUM, sum_p);
    }
    members_release(members);
    return status;
}

/* ---- sets of labels ---- */

/* A row's labels, up to the first -1, into out[n_classes], filled up with -1. */
static status_t set_copy(const wrk_samples_t *of, const int64_t *labels, int64_t width, int64_t row, int64_t *out)
{
    const int64_t n_classes = gd_tensor_dim(of->x, 1);
    int64_t n = 0;
    for (; n < width && labels[n] != -1; n++) {
        if (labels[n] < 0 || labels[n] >= n_classes) {
            return ST_FAIL(ST_ERR_DATA, "label %lld of sample %lld is outside 0 … %lld", (long long)labels[n],
                           sample_of(of, row), (long long)(n_classes - 1));
        }
        if (n == n_classes) {
            return ST_FAIL(ST_ERR_DATA, "sample %lld has more than the %lld labels that there are", sample_of(of, row),
                           (long long)n_classes);
        }
        out[n] = labels[n];
    }
    for (; n < n_classes; n++) {
        out[n] = -1;
    }
    return ST_OK;
}

static status_t set_loss(const wrk_samples_t *of, gd_tensor_t **sum_p)
{
    gd_tensor_t *x = of->x;
    if (gd_tensor_n_dims(x) != 2) {
        return outputs_refuse(x, "[samples, classes]");
    }
    const int64_t n = gd_tensor_dim(x, 0);
    const int64_t n_classes = gd_tensor_dim(x, 1);
    gd_tensor_t *labels = NULL;
    gd_tensor_t *sets = NULL;
    int64_t width = 0;
    status_t status = labels_take(of, n, &width, &labels);
    if (status == ST_OK) {
        status = gd_tensor_new(GD_DTYPE_I64, 2, gd_tensor_shape(x), &sets);
    }
    for (int64_t row = 0; row < n && status == ST_OK; row++) {
        status = set_copy(of, (const int64_t *)gd_tensor_data(labels) + row * width, width, row,
                          (int64_t *)gd_tensor_data(sets) + row * n_classes);
    }
    if (status == ST_OK) {
        status = gd_multi_label_margin_loss(x, sets, GD_REDUCTION_SUM, sum_p);
    }
    (void)gd_tensor_unref(sets);
    (void)gd_tensor_unref(labels);
    return status;
}

/* ---- sequences ---- */

/* One sample's target. */
typedef struct ctc_row {
    const int64_t *labels;
    int64_t room;     /* as many at most */
    int64_t n_labels; /* -1: up to the padding */
    int64_t n_steps;
} ctc_row_t;

/* A target that begins with its lengths. */
static status_t given_take(const wrk_samples_t *of, int64_t row, ctc_row_t *target)
{
    const gd_tensor_t *x = of->x;
    const int64_t n_steps = target->labels[0];
    const int64_t n_labels = target->room > 1 ? target->labels[1] : -1;
    if (target->room < 2) {
        return ST_FAIL(ST_ERR_SHAPE, "lengths: given: 1 number a target: the lengths of steps and labels come first");
    }
    if (n_steps < 0 || n_steps > gd_tensor_dim(x, 1)) {
        return ST_FAIL(ST_ERR_DATA, "the target of sample %lld gives it %lld steps; the outputs have 0 … %lld",
                       sample_of(of, row), (long long)n_steps, (long long)gd_tensor_dim(x, 1));
    }
    if (n_labels < 0 || n_labels > target->room - 2) {
        return ST_FAIL(ST_ERR_DATA, "the target of sample %lld gives it %lld labels; it has room for 0 … %lld",
                       sample_of(of, row), (long long)n_labels, (long long)target->room - 2);
    }
    *target = (ctc_row_t){target->labels + 2, target->room - 2, n_labels, n_steps};
    return ST_OK;
}

/* Steps up to the last token that isn't padding. */
static int64_t tokens_count(const wrk_samples_t *of, int64_t row)
{
    int64_t n = gd_tensor_dim(of->inputs, 1);
    const int64_t *token = (const int64_t *)gd_tensor_data(of->inputs) + row * n;
    while (n > 0 && token[n - 1] == of->padding) {
        n--;
    }
    return n;
}

static status_t tokens_check(const wrk_samples_t *of)
{
    if (of->padding < 0) {
        return ST_FAIL(ST_ERR_INVAL, "lengths: tokens: the model names no padding token (model.padding)");
    }
    if (of->inputs == NULL || gd_tensor_dtype(of->inputs) != GD_DTYPE_I64 || gd_tensor_n_dims(of->inputs) != 2 ||
        gd_tensor_dim(of->inputs, 1) != gd_tensor_dim(of->x, 1)) {
        return outputs_refuse(of->x, "a step for each token of the input (lengths: tokens)");
    }
    return ST_OK;
}

/* Counts the labels and looks whether they are some, and the steps enough to read them. */
static status_t row_check(const wrk_samples_t *of, int64_t row, ctc_row_t *target)
{
    const Gradd__V1__Loss__Ctc *ctc = of->spec->ctc;
    const int64_t n_classes = gd_tensor_dim(of->x, 2);
    const int64_t *labels = target->labels;
    const bool is_counted = target->n_labels >= 0;
    int64_t n = 0;
    int64_t n_repeats = 0; /* a blank is between equal ones */
    for (; is_counted ? n < target->n_labels : n < target->room && labels[n] != ctc->padding; n++) {
        const bool is_label = labels[n] >= 0 && labels[n] < n_classes;
        if (!is_label && is_counted) {
            return ST_FAIL(ST_ERR_DATA, "label %lld of sample %lld is outside 0 … %lld", (long long)labels[n],
                           sample_of(of, row), (long long)(n_classes - 1));
        }
        if (!is_label) {
            return ST_FAIL(ST_ERR_DATA, "label %lld of sample %lld is outside 0 … %lld, and not the padding, %lld",
                           (long long)labels[n], sample_of(of, row), (long long)(n_classes - 1),
                           (long long)ctc->padding);
        }
        if (labels[n] == ctc->blank) {
            return ST_FAIL(ST_ERR_DATA, "label %lld of sample %lld is the blank, and not the padding, %lld",
                           (long long)labels[n], sample_of(of, row), (long long)ctc->padding);
        }
        n_repeats += n > 0 && labels[n] == labels[n - 1];
    }
    if (n + n_repeats > target->n_steps && !ctc->zero_infinity) {
        return ST_FAIL(
            ST_ERR_DATA,
            "the target of sample %lld has %lld labels and %lld repeats; the outputs have %lld steps: longer "
            "outputs, or zero_infinity, are needed",
            sample_of(of, row), (long long)n, (long long)n_repeats, (long long)target->n_steps);
    }
    target->n_labels = n;
    return ST_OK;
}

typedef struct ctc_targets {
    gd_tensor_t *labels;  /* [N, S], or with the room of lengths that are given */
    gd_tensor_t *lengths; /* [N], of the labels */
    gd_tensor_t *steps;   /* [N], of the outputs */
    gd_tensor_t *shares;  /* [N], of each loss in the sum: 1 / lengths, or 1 */
} ctc_targets_t;

static void ctc_targets_release(ctc_targets_t *targets)
{
    (void)gd_tensor_unref(targets->shares);
    (void)gd_tensor_unref(targets->steps);
    (void)gd_tensor_unref(targets->lengths);
    (void)gd_tensor_unref(targets->labels);
}

static status_t ctc_targets_new(int64_t n, int64_t width, ctc_targets_t *targets)
{
    status_t status = gd_tensor_new(GD_DTYPE_I64, 2, (const int64_t[2]){n, width}, &targets->labels);
    if (status == ST_OK) {
        status = gd_tensor_new(GD_DTYPE_I64, 1, &n, &targets->lengths);
    }
    if (status == ST_OK) {
        status = gd_tensor_new(GD_DTYPE_I64, 1, &n, &targets->steps);
    }
    return status == ST_OK ? gd_tensor_new(GD_DTYPE_F32, 1, &n, &targets->shares) : status;
}

static status_t ctc_row_fill(const wrk_samples_t *of, const gd_tensor_t *all, int64_t width, int64_t row,
                             ctc_targets_t *targets)
{
    const Gradd__V1__Loss__Ctc *ctc = of->spec->ctc;
    const bool is_mean = ctc->reduction == GRADD__V1__LOSS__CTC__REDUCTION__mean;
    int64_t *labels = (int64_t *)gd_tensor_data(targets->labels) + row * width;
    ctc_row_t target = {(const int64_t *)gd_tensor_data(all) + row * width, width, -1, gd_tensor_dim(of->x, 1)};
    status_t status = ST_OK;
    if (ctc->lengths == GRADD__V1__LOSS__CTC__LENGTHS__given) {
        status = given_take(of, row, &target);
    } else if (ctc->lengths == GRADD__V1__LOSS__CTC__LENGTHS__tokens) {
        target.n_steps = tokens_count(of, row);
    }
    if (status == ST_OK) {
        status = row_check(of, row, &target);
    }
    if (status != ST_OK) {
        return status;
    }
    for (int64_t i = 0; i < width; i++) {
        labels[i] = i < target.n_labels ? target.labels[i] : 0; /* what is beyond isn't read */
    }
    ((int64_t *)gd_tensor_data(targets->lengths))[row] = target.n_labels;
    ((int64_t *)gd_tensor_data(targets->steps))[row] = target.n_steps;
    ((float *)gd_tensor_data(targets->shares))[row] =
        is_mean ? (float)(1.0 / (double)(target.n_labels > 1 ? target.n_labels : 1)) : 1.0F;
    return ST_OK;
}

static status_t ctc_targets_make(const wrk_samples_t *of, ctc_targets_t *targets)
{
    const int64_t n = gd_tensor_dim(of->x, 0);
    gd_tensor_t *all = NULL;
    int64_t width = 0;
    status_t status = of->spec->ctc->lengths == GRADD__V1__LOSS__CTC__LENGTHS__tokens ? tokens_check(of) : ST_OK;
    if (status == ST_OK) {
        status = labels_take(of, n, &width, &all);
    }
    if (status == ST_OK) {
        status = ctc_targets_new(n, width, targets);
    }
    for (int64_t row = 0; row < n && status == ST_OK; row++) {
        status = ctc_row_fill(of, all, width, row, targets);
    }
    (void)gd_tensor_unref(all);
    return status;
}

static status_t ctc_loss(const wrk_samples_t *of, gd_tensor_t **sum_p)
{
    gd_tensor_t *x = of->x;
    if (gd_tensor_n_dims(x) != 3) {
        return outputs_refuse(x, "[samples, steps, labels and blank]");
    }
    ctc_targets_t targets = {NULL};
    gd_tensor_t *log_p = NULL;
    gd_tensor_t *steps_first = NULL;
    gd_tensor_t *each = NULL;
    gd_tensor_t *shared = NULL;
    status_t status = ctc_targets_make(of, &targets);
    if (status == ST_OK) {
        status = gd_log_softmax(x, -1, &log_p);
    }
    if (status == ST_OK) {
        status = gd_transpose(log_p, 0, 1, &steps_first);
    }
    if (status == ST_OK) {
        status = gd_ctc_loss(steps_first, targets.labels, targets.steps, targets.lengths, of->spec->ctc->blank,
                             of->spec->ctc->zero_infinity, GD_REDUCTION_NONE, &each);
    }
    if (status == ST_OK) {
        status = gd_mul(each, targets.shares, &shared);
    }
    if (status == ST_OK) {
        status = gd_sum(shared, 0, NULL, false, sum_p);
    }
    (void)gd_tensor_unref(shared);
    (void)gd_tensor_unref(each);
    (void)gd_tensor_unref(steps_first);
    (void)gd_tensor_unref(log_p);
    ctc_targets_release(&targets);
    return status;
}

/* ---- which is which ---- */

static const struct {
    Gradd__V1__Loss__KindCase kind_case;
    bool reads_labels;
    status_t (*sum)(const wrk_samples_t *of, gd_tensor_t **sum_p);
} kinds[] = {
    {GRADD__V1__LOSS__KIND_COSINE_EMBEDDING, false, cosine_loss},
    {GRADD__V1__LOSS__KIND_MARGIN_RANKING, false, ranking_loss},
    {GRADD__V1__LOSS__KIND_TRIPLET_MARGIN, false, triplet_loss},
    {GRADD__V1__LOSS__KIND_INFO_NCE, false, info_nce_loss},
    {GRADD__V1__LOSS__KIND_MULTILABEL_MARGIN, true, set_loss},
    {GRADD__V1__LOSS__KIND_CTC, true, ctc_loss},
};

bool wrk_loss_reads_labels(const Gradd__V1__Loss *spec)
{
    bool reads = false;
    if (spec->kind_case == GRADD__V1__LOSS__KIND_CTC && spec->ctc->lengths == GRADD__V1__LOSS__CTC__LENGTHS__given) {
        return false; /* lengths stand among them: the loss looks at each label */
    }
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        reads |= kinds[i].kind_case == spec->kind_case && kinds[i].reads_labels;
    }
    return reads;
}

/* Whether one loss leaves a label out. */
static bool kind_ignores(const Gradd__V1__Loss *spec, int64_t *label_p)
{
    switch (spec->kind_case) {
    case GRADD__V1__LOSS__KIND_CROSS_ENTROPY:
        *label_p = spec->cross_entropy->ignore_index;
        return spec->cross_entropy->has_ignore_index;
    case GRADD__V1__LOSS__KIND_NLL:
        *label_p = spec->nll->ignore_index;
        return spec->nll->has_ignore_index;
    case GRADD__V1__LOSS__KIND_CTC:
        *label_p = spec->ctc->padding;
        return true;
    case GRADD__V1__LOSS__KIND_MULTILABEL_MARGIN:
        *label_p = -1;
        return true;
    default:
        return false;
    }
}

bool wrk_loss_ignores(const Gradd__V1__Training *training, int64_t *label_p)
{
    const Gradd__V1__Loss *spec = training->loss;
    const bool is_sum = spec != NULL && spec->kind_case == GRADD__V1__LOSS__KIND_SUM;
    bool ignores = false;
    for (size_t i = 0; i < (is_sum ? spec->sum->n_parts : spec != NULL ? 1 : 0); i++) {
        const Gradd__V1__Loss *one = is_sum ? spec->sum->parts[i]->loss : spec;
        int64_t label = 0;
        if (one == NULL || !kind_ignores(one, &label) || (ignores && label != *label_p)) {
            return false;
        }
        *label_p = label;
        ignores = true;
    }
    return ignores;
}

status_t wrk_loss_of_samples(const wrk_samples_t *of, double factor, gd_tensor_t **loss_p)
{
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        if (kinds[i].kind_case == of->spec->kind_case) {
            gd_tensor_t *sum = NULL;
            status_t status = kinds[i].sum(of, &sum);
            if (status == ST_OK) {
                status = gd_scale(sum, factor, 0, loss_p);
            }
            (void)gd_tensor_unref(sum);
            return status;
        }
    }
    return ST_FAIL(ST_ERR_INVAL, "no loss of samples");
}
