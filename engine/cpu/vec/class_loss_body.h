/* SPDX-License-Identifier: Apache-2.0 */
/* class_loss_body: losses over rows of classes for one type; included by class_loss.c with T and NAME(name). */

/* -(1 - s) w[t] x[t] - s / C sum_v w[v] x[v]; the row's weight is w[t]. */
static double NAME(nll_row)(const class_loss_t *c, int64_t row, const T *x, double *weight_p)
{
    const T *w = c->weight;
    const int64_t target = target_get(c, row);
    if (target == c->ignore_index) {
        *weight_p = 0;
        return 0;
    }
    *weight_p = w != NULL ? (double)w[target] : 1;
    double loss = -(1 - c->parameter) * *weight_p * (double)x[target];
    if (c->parameter > 0) {
        double sum = 0;
        for (int64_t v = 0; v < c->n_classes; v++) {
            sum += (w != NULL ? (double)w[v] : 1) * (double)x[v];
        }
        loss -= c->parameter * sum / (double)c->n_classes;
    }
    return loss;
}

static void NAME(nll_row_slope)(const class_loss_t *c, int64_t row, double factor, T *dx)
{
    const T *w = c->weight;
    const int64_t target = target_get(c, row);
    const bool is_ignored = target == c->ignore_index;
    const double spread = is_ignored ? 0 : factor * c->parameter / (double)c->n_classes;
    for (int64_t v = 0; v < c->n_classes; v++) {
        dx[v] = (T)(-spread * (w != NULL ? (double)w[v] : 1));
    }
    if (!is_ignored) {
        dx[target] -= (T)(factor * (1 - c->parameter) * (w != NULL ? (double)w[target] : 1));
    }
}

/* w[t] / C sum_{i ≠ t} max(0, margin - x[t] + x[i])^power */
static double NAME(margin_row)(const class_loss_t *c, int64_t row, const T *x)
{
    const int64_t target = target_get(c, row);
    double loss = 0;
    for (int64_t i = 0; i < c->n_classes; i++) {
        const double gap = c->parameter - (double)x[target] + (double)x[i];
        if (i != target && !(gap <= 0)) {
            loss += c->power == 1 ? gap : gap * gap;
        }
    }
    return loss * (c->weight != NULL ? (double)((const T *)c->weight)[target] : 1) / (double)c->n_classes;
}

static void NAME(margin_row_slope)(const class_loss_t *c, int64_t row, double factor, const T *x, T *dx)
{
    const int64_t target = target_get(c, row);
    double of_target = 0;
    factor *= (c->weight != NULL ? (double)((const T *)c->weight)[target] : 1) / (double)c->n_classes;
    for (int64_t i = 0; i < c->n_classes; i++) {
        const double gap = c->parameter - (double)x[target] + (double)x[i];
        const double slope = i == target || gap <= 0 ? 0 : c->power == 1 ? factor : 2 * factor * gap;
        dx[i] = (T)slope;
        of_target -= slope;
    }
    dx[target] = (T)of_target;
}

/* 1 / C sum over labels j and others i of max(0, 1 - x[j] + x[i]); dx NULL: the value alone. */
static double NAME(labels_row)(const class_loss_t *c, int64_t row, double factor, const T *x, T *dx)
{
    const int64_t n = c->n_classes;
    double loss = 0;
    factor /= (double)n;
    for (int64_t i = 0; dx != NULL && i < n; i++) {
        dx[i] = 0;
    }
    for (int64_t i = 0; i < n; i++) {
        bool is_label = false;
        for (int64_t k = 0; k < n && label_get(c, row, k) >= 0 && !is_label; k++) {
            is_label = label_get(c, row, k) == i;
        }
        for (int64_t k = 0; k < n && label_get(c, row, k) >= 0 && !is_label; k++) {
            const int64_t j = label_get(c, row, k);
            const double gap = 1 - (double)x[j] + (double)x[i];
            if (!(gap <= 0)) {
                loss += gap;
                if (dx != NULL) {
                    dx[i] += (T)factor;
                    dx[j] -= (T)factor;
                }
            }
        }
    }
    return loss / (double)n;
}

static void NAME(forward_body)(void *arg, int64_t begin, int64_t end)
{
    const class_loss_t *c = arg;
    double loss = 0;
    double total = 0;
    for (int64_t row = begin; row < end; row++) {
        const T *x = (const T *)c->x + row * c->n_classes;
        double weight = 1;
        double value = c->kind == GD_CLASS_LOSS_NLL            ? NAME(nll_row)(c, row, x, &weight)
                       : c->kind == GD_CLASS_LOSS_MULTI_MARGIN ? NAME(margin_row)(c, row, x)
                                                               : NAME(labels_row)(c, row, 1, x, NULL);
        if (c->out != NULL) {
            ((T *)c->out)[row] = (T)(c->scale * value);
        }
        loss += value;
        total += weight;
    }
    c->sums.of_block[0][begin / ROWS_PER_BLOCK] = loss;
    c->sums.of_block[1][begin / ROWS_PER_BLOCK] = total;
}

static void NAME(backward_body)(void *arg, int64_t begin, int64_t end)
{
    const class_loss_t *c = arg;
    for (int64_t row = begin; row < end; row++) {
        const T *x = (const T *)c->x + row * c->n_classes;
        T *dx = (T *)c->out + row * c->n_classes;
        const double factor = c->dy != NULL ? c->scale * (double)((const T *)c->dy)[row] : c->scale;
        if (c->kind == GD_CLASS_LOSS_NLL) {
            NAME(nll_row_slope)(c, row, factor, dx);
        } else if (c->kind == GD_CLASS_LOSS_MULTI_MARGIN) {
            NAME(margin_row_slope)(c, row, factor, x, dx);
        } else {
            (void)NAME(labels_row)(c, row, factor, x, dx);
        }
    }
}
