/* SPDX-License-Identifier: Apache-2.0 */
/* rnn_body: the bodies of rnn.c's loops for one type: REAL, FN(name) for its functions, TANH, SIGMOID. */

/* sum[rows][vectors][SIMD_WIDTH] = a[rows, k] times panel `index`; without `a`: zeros. */
static inline void FN(sums_get)(const panel_factor_t *f, const REAL *a, int64_t index, int64_t group, int rows,
                                REAL *sum)
{
    const int vectors = (int)panel_vectors(f);
    if (a == NULL || f->k == 0) {
        memset(sum, 0, (size_t)(rows * vectors * SIMD_WIDTH) * sizeof(REAL));
        return;
    }
    if (sizeof(REAL) == sizeof(float)) {
        panel_product(f, (const float *)(const void *)a, f->k, index, group, rows, (float *)(void *)sum);
        return;
    }
    const REAL *w = f->w;
    for (int r = 0; r < rows; r++) {
        for (int column = 0; column < vectors * SIMD_WIDTH; column++) {
            const int64_t gate = f->n_groups == 1 ? 0 : column / SIMD_WIDTH;
            const int64_t lane = f->n_groups == 1 ? column : column % SIMD_WIDTH;
            const int64_t unit = index * panel_units(f) + lane;
            REAL total = 0;
            for (int64_t k = 0; k < f->k && unit < f->n_units; k++) {
                total += a[r * f->k + k] * w[k * f->k_stride + gate * f->group_stride + unit * f->unit_stride];
            }
            sum[r * vectors * SIMD_WIDTH + column] = total;
        }
    }
}

/* Element (t, row, unit) of [T,B,width]; t < 0: of the given first state, or zeros. */
static inline const REAL *FN(state_at)(const rnn_t *r, const void *states, const void *first, int64_t t, int64_t row,
                                       int64_t width, int64_t unit)
{
    if (t >= 0) {
        return (const REAL *)states + (t * r->batch + row) * width + unit;
    }
    return first != NULL ? (const REAL *)first + row * width + unit : (const REAL *)(const void *)zeros;
}

/* ---- forward: units [unit, unit + n) of one row; sum: the hidden shares ---- */

static inline void FN(plain_units)(const rnn_t *r, int64_t row, int64_t unit, int64_t n, const REAL *sum)
{
    const int64_t at = (r->t * r->batch + row) * r->width + unit;
    const REAL *x = (const REAL *)r->x + at;
    const REAL *bias = r->b_hh != NULL ? (const REAL *)r->b_hh + unit : (const REAL *)(const void *)zeros;
    REAL *gate = (REAL *)r->gates + at;
    REAL *h = (REAL *)r->hidden + at;
    if (r->kind == GD_RNN_TANH) {
#pragma omp simd
        for (int64_t j = 0; j < n; j++) {
            h[j] = gate[j] = TANH(x[j] + (sum[j] + bias[j]));
        }
        return;
    }
#pragma omp simd
    for (int64_t j = 0; j < n; j++) {
        const REAL a = x[j] + (sum[j] + bias[j]);
        h[j] = gate[j] = a < 0 ? 0 : a;
    }
}

static inline void FN(lstm_units)(const rnn_t *r, int64_t row, int64_t unit, int64_t n, const REAL *sum)
{
    const int64_t width = r->width;
    const int64_t at = r->t * r->batch + row;
    const REAL *x = (const REAL *)r->x + at * 4 * width + unit;
    const REAL *bias = r->b_hh != NULL ? (const REAL *)r->b_hh + unit : (const REAL *)(const void *)zeros;
    const int64_t bias_gate = r->b_hh != NULL ? width : 0;
    const REAL *c_before = FN(state_at)(r, r->cells, r->c0, r->before, row, width, unit);
    REAL *gates = (REAL *)r->gates + at * 4 * width + unit;
    REAL *c = (REAL *)r->cells + at * width + unit;
    REAL *h = (REAL *)r->hidden + at * width + unit;
#pragma omp simd
    for (int64_t j = 0; j < n; j++) {
        const REAL i = SIGMOID(x[j] + (sum[j] + bias[j]));
        const REAL f = SIGMOID(x[width + j] + (sum[SIMD_WIDTH + j] + bias[bias_gate + j]));
        const REAL g = TANH(x[2 * width + j] + (sum[2 * SIMD_WIDTH + j] + bias[2 * bias_gate + j]));
        const REAL o = SIGMOID(x[3 * width + j] + (sum[3 * SIMD_WIDTH + j] + bias[3 * bias_gate + j]));
        const REAL cell = f * c_before[j] + i * g;
        gates[j] = i;
        gates[width + j] = f;
        gates[2 * width + j] = g;
        gates[3 * width + j] = o;
        c[j] = cell;
        h[j] = o * TANH(cell);
    }
}

static inline void FN(gru_units)(const rnn_t *r, int64_t row, int64_t unit, int64_t n, const REAL *sum)
{
    const int64_t width = r->width;
    const int64_t at = r->t * r->batch + row;
    const REAL *x = (const REAL *)r->x + at * 3 * width + unit;
    const REAL *bias = r->b_hh != NULL ? (const REAL *)r->b_hh + unit : (const REAL *)(const void *)zeros;
    const int64_t bias_gate = r->b_hh != NULL ? width : 0;
    const REAL *h_before = FN(state_at)(r, r->y, r->h0, r->before, row, width, unit);
    REAL *gates = (REAL *)r->gates + at * 3 * width + unit;
    REAL *share = (REAL *)r->cells + at * width + unit;
    REAL *h = (REAL *)r->hidden + at * width + unit;
#pragma omp simd
    for (int64_t j = 0; j < n; j++) {
        const REAL reset = SIGMOID(x[j] + (sum[j] + bias[j]));
        const REAL z = SIGMOID(x[width + j] + (sum[SIMD_WIDTH + j] + bias[bias_gate + j]));
        const REAL hidden = sum[2 * SIMD_WIDTH + j] + bias[2 * bias_gate + j];
        const REAL new = TANH(x[2 * width + j] + reset * hidden);
        gates[j] = reset;
        gates[width + j] = z;
        gates[2 * width + j] = new;
        share[j] = hidden;
        h[j] = (1 - z) * new + z *h_before[j];
    }
}

/* One step of the units of panels begin … end - 1. */
static void FN(forward)(void *arg, int64_t begin, int64_t end)
{
    const rnn_t *r = arg;
    const panel_factor_t *f = &r->state;
    const int64_t row_size = panel_vectors(f) * SIMD_WIDTH;
    const int64_t n_groups = (r->batch + panel_max_rows(f) - 1) / panel_max_rows(f);
    const bool has_state = r->before >= 0 || r->h0 != NULL;
    REAL sum[MAX_SUMS] __attribute__((aligned(64)));
    for (int64_t index = begin; index < end; index++) {
        const int64_t unit = index * panel_units(f);
        const int64_t n = r->width - unit < panel_units(f) ? r->width - unit : panel_units(f);
        for (int64_t group = 0; group < n_groups; group++) {
            const int64_t first = r->batch * group / n_groups;
            const int rows = (int)(r->batch * (group + 1) / n_groups - first);
            const REAL *a = has_state ? FN(state_at)(r, r->y, r->h0, r->before, first, r->out, 0) : NULL;
            FN(sums_get)(f, a, index, group, rows, sum);
            for (int i = 0; i < rows; i++) {
                if (r->kind == GD_RNN_LSTM) {
                    FN(lstm_units)(r, first + i, unit, n, sum + i * row_size);
                } else if (r->kind == GD_RNN_GRU) {
                    FN(gru_units)(r, first + i, unit, n, sum + i * row_size);
                } else {
                    FN(plain_units)(r, first + i, unit, n, sum + i * row_size);
                }
            }
        }
    }
}

/* y[t] = hidden[t] w_hrᵀ, the outputs of panels begin … end - 1. */
static void FN(project)(void *arg, int64_t begin, int64_t end)
{
    const rnn_t *r = arg;
    const panel_factor_t *f = &r->project;
    const int64_t n_groups = (r->batch + panel_max_rows(f) - 1) / panel_max_rows(f);
    REAL sum[MAX_SUMS] __attribute__((aligned(64)));
    for (int64_t index = begin; index < end; index++) {
        const int64_t unit = index * panel_units(f);
        const int64_t n = r->out - unit < panel_units(f) ? r->out - unit : panel_units(f);
        for (int64_t group = 0; group < n_groups; group++) {
            const int64_t first = r->batch * group / n_groups;
            const int rows = (int)(r->batch * (group + 1) / n_groups - first);
            const int64_t at = r->t * r->batch + first;
            FN(sums_get)(f, (const REAL *)r->hidden + at * r->width, index, group, rows, sum);
            for (int i = 0; i < rows; i++) {
                memcpy((REAL *)r->y + (at + i) * r->out + unit, sum + (int64_t)i * panel_units(f),
                       (size_t)n * sizeof(REAL));
            }
        }
    }
}

/* ---- backward: units [unit, unit + n) of one row; dh: the gradient of what the cell gives ---- */

static inline void FN(plain_gradient)(const rnn_t *r, int64_t row, int64_t unit, int64_t n, const REAL *dh)
{
    const int64_t at = (r->t * r->batch + row) * r->width + unit;
    const REAL *h = (const REAL *)r->gates + at;
    REAL *dx = (REAL *)r->dx + at;
    if (r->kind == GD_RNN_TANH) {
#pragma omp simd
        for (int64_t j = 0; j < n; j++) {
            dx[j] = dh[j] * (1 - h[j] * h[j]);
        }
        return;
    }
#pragma omp simd
    for (int64_t j = 0; j < n; j++) {
        dx[j] = h[j] <= 0 ? 0 : dh[j]; /* as relu: what isn't a number is let through */
    }
}

static inline void FN(lstm_gradient)(const rnn_t *r, int64_t row, int64_t unit, int64_t n, const REAL *dh)
{
    const int64_t width = r->width;
    const int64_t at = r->t * r->batch + row;
    const REAL *gates = (const REAL *)r->gates + at * 4 * width + unit;
    const REAL *c = (const REAL *)r->cells + at * width + unit;
    const REAL *c_before = FN(state_at)(r, r->cells, r->c0, r->before, row, width, unit);
    REAL *carry = (REAL *)r->carry + row * width + unit;
    REAL *dx = (REAL *)r->dx + at * 4 * width + unit;
#pragma omp simd
    for (int64_t j = 0; j < n; j++) {
        const REAL i = gates[j], f = gates[width + j], g = gates[2 * width + j], o = gates[3 * width + j];
        const REAL tc = TANH(c[j]);
        const REAL dc = carry[j] + dh[j] * o * (1 - tc * tc);
        dx[j] = dc * g * i * (1 - i);
        dx[width + j] = dc * c_before[j] * f * (1 - f);
        dx[2 * width + j] = dc * i * (1 - g * g);
        dx[3 * width + j] = dh[j] * tc * o * (1 - o);
        carry[j] = dc * f;
    }
}

static inline void FN(gru_gradient)(const rnn_t *r, int64_t row, int64_t unit, int64_t n, const REAL *dh)
{
    const int64_t width = r->width;
    const int64_t at = r->t * r->batch + row;
    const REAL *gates = (const REAL *)r->gates + at * 3 * width + unit;
    const REAL *share = (const REAL *)r->cells + at * width + unit;
    const REAL *h_before = FN(state_at)(r, r->y, r->h0, r->before, row, width, unit);
    REAL *carry = (REAL *)r->carry + row * width + unit;
    REAL *dx = (REAL *)r->dx + at * 3 * width + unit;
    REAL *dhidden = (REAL *)r->extra + at * 3 * width + unit;
#pragma omp simd
    for (int64_t j = 0; j < n; j++) {
        const REAL reset = gates[j], z = gates[width + j], new = gates[2 * width + j];
        const REAL dnew = dh[j] * (1 - z) * (1 - new *new);
        const REAL dz = dh[j] * (h_before[j] - new) * z * (1 - z);
        const REAL dreset = dnew * share[j] * reset * (1 - reset);
        dx[j] = dhidden[j] = dreset;
        dx[width + j] = dhidden[width + j] = dz;
        dx[2 * width + j] = dnew;
        dhidden[2 * width + j] = dnew * reset;
        carry[j] = dh[j] * z;
    }
}

static inline void FN(gradient_units)(const rnn_t *r, int64_t row, int64_t unit, int64_t n, const REAL *dh)
{
    if (r->kind == GD_RNN_LSTM) {
        FN(lstm_gradient)(r, row, unit, n, dh);
    } else if (r->kind == GD_RNN_GRU) {
        FN(gru_gradient)(r, row, unit, n, dh);
    } else {
        FN(plain_gradient)(r, row, unit, n, dh);
    }
}

/*
 * dy and what the step after says of units [unit, unit + n) of the state, in sum. Without a projection the state is
 * what the cell gave, and its gates' gradients follow at once. t < 0: the first state.
 */
static inline void FN(state_gradient)(const rnn_t *r, int64_t row, int64_t unit, int64_t n, REAL *sum)
{
    const REAL *dy =
        r->t >= 0 ? (const REAL *)r->dy + (r->t * r->batch + row) * r->out + unit : (const REAL *)(const void *)zeros;
    const REAL *carry =
        r->kind == GD_RNN_GRU ? (const REAL *)r->carry + row * r->width + unit : (const REAL *)(const void *)zeros;
#pragma omp simd
    for (int64_t j = 0; j < n; j++) {
        sum[j] = dy[j] + (sum[j] + carry[j]);
    }
    if (r->t < 0) {
        memcpy((REAL *)r->dh0 + row * r->out + unit, sum, (size_t)n * sizeof(REAL));
    } else if (r->project.w != NULL) {
        memcpy((REAL *)r->extra + (r->t * r->batch + row) * r->out + unit, sum, (size_t)n * sizeof(REAL));
    } else {
        FN(gradient_units)(r, row, unit, n, sum);
    }
}

static void FN(backward)(void *arg, int64_t begin, int64_t end)
{
    const rnn_t *r = arg;
    const panel_factor_t *f = &r->state;
    const int64_t n_groups = (r->batch + panel_max_rows(f) - 1) / panel_max_rows(f);
    const REAL *gates = r->kind == GD_RNN_GRU ? r->extra : r->dx;
    REAL sum[MAX_SUMS] __attribute__((aligned(64)));
    for (int64_t index = begin; index < end; index++) {
        const int64_t unit = index * panel_units(f);
        const int64_t n = r->out - unit < panel_units(f) ? r->out - unit : panel_units(f);
        for (int64_t group = 0; group < n_groups; group++) {
            const int64_t first = r->batch * group / n_groups;
            const int rows = (int)(r->batch * (group + 1) / n_groups - first);
            FN(sums_get)
            (f, r->after >= 0 ? gates + (r->after * r->batch + first) * f->k : NULL, index, group, rows, sum);
            for (int i = 0; i < rows; i++) {
                FN(state_gradient)(r, first + i, unit, n, sum + (int64_t)i * panel_units(f));
            }
        }
    }
}

/* dhidden[t] = extra[t] w_hr, and the gates' gradients of the units of panels begin … end - 1. */
static void FN(backward_project)(void *arg, int64_t begin, int64_t end)
{
    const rnn_t *r = arg;
    const panel_factor_t *f = &r->project;
    const int64_t n_groups = (r->batch + panel_max_rows(f) - 1) / panel_max_rows(f);
    REAL sum[MAX_SUMS] __attribute__((aligned(64)));
    for (int64_t index = begin; index < end; index++) {
        const int64_t unit = index * panel_units(f);
        const int64_t n = r->width - unit < panel_units(f) ? r->width - unit : panel_units(f);
        for (int64_t group = 0; group < n_groups; group++) {
            const int64_t first = r->batch * group / n_groups;
            const int rows = (int)(r->batch * (group + 1) / n_groups - first);
            const int64_t at = r->t * r->batch + first;
            FN(sums_get)(f, (const REAL *)r->extra + at * r->out, index, group, rows, sum);
            for (int i = 0; i < rows; i++) {
                FN(gradient_units)(r, first + i, unit, n, sum + (int64_t)i * panel_units(f));
            }
        }
    }
}
