/* SPDX-License-Identifier: Apache-2.0 */
/* optimizer: options, groups of parameters and state; the updates are in the files that internal.h names. */
#include <fnmatch.h>
#include <math.h>
#include <string.h>

#include "base/assert.h"
#include "base/mem.h"
#include "gradd/autograd.h"
#include "gradd/context.h"
#include "optim/internal.h"

/* Which parts of a tensor's state there are. */
typedef enum state_extent {
    EXTENT_FULL,    /* the tensor's shape */
    EXTENT_MATRIX,  /* only for matrices that aren't left to AdamW, the tensor's shape */
    EXTENT_REST,    /* only for the others */
    EXTENT_ROWS,    /* [..., R, 1] of tensors of ≥ 2 dimensions */
    EXTENT_COLUMNS, /* [..., 1, C] of tensors of ≥ 2 dimensions */
    EXTENT_VECTORS  /* of tensors of < 2 dimensions */
} state_extent_t;

typedef struct state_row {
    const char *name;
    state_extent_t extent;
} state_row_t;

/* PyTorch's names; the last slot is kept for the average. */
static const state_row_t state_rows[GD_OPTIMIZER_COUNT][OPTIM_MAX_STATES - 1] = {
    [GD_OPTIMIZER_SGD] = {{"momentum_buffer", EXTENT_FULL}},
    [GD_OPTIMIZER_ADAMW] = {{"exp_avg", EXTENT_FULL}, {"exp_avg_sq", EXTENT_FULL}, {"max_exp_avg_sq", EXTENT_FULL}},
    [GD_OPTIMIZER_ADAM] = {{"exp_avg", EXTENT_FULL}, {"exp_avg_sq", EXTENT_FULL}, {"max_exp_avg_sq", EXTENT_FULL}},
    [GD_OPTIMIZER_NADAM] = {{"exp_avg", EXTENT_FULL}, {"exp_avg_sq", EXTENT_FULL}},
    [GD_OPTIMIZER_RADAM] = {{"exp_avg", EXTENT_FULL}, {"exp_avg_sq", EXTENT_FULL}},
    [GD_OPTIMIZER_ADAGRAD] = {{"sum", EXTENT_FULL}},
    [GD_OPTIMIZER_ADADELTA] = {{"square_avg", EXTENT_FULL}, {"acc_delta", EXTENT_FULL}},
    [GD_OPTIMIZER_RMSPROP] = {{"square_avg", EXTENT_FULL}, {"momentum_buffer", EXTENT_FULL}, {"grad_avg", EXTENT_FULL}},
    [GD_OPTIMIZER_LION] = {{"exp_avg", EXTENT_FULL}},
    [GD_OPTIMIZER_LAMB] = {{"exp_avg", EXTENT_FULL}, {"exp_avg_sq", EXTENT_FULL}},
    [GD_OPTIMIZER_LARS] = {{"momentum_buffer", EXTENT_FULL}},
    [GD_OPTIMIZER_ADAFACTOR] = {{"row_var", EXTENT_ROWS}, {"col_var", EXTENT_COLUMNS}, {"variance", EXTENT_VECTORS}},
    [GD_OPTIMIZER_MUON] = {{"momentum_buffer", EXTENT_MATRIX}, {"exp_avg", EXTENT_REST}, {"exp_avg_sq", EXTENT_REST}},
};

static const char *const kind_names[GD_OPTIMIZER_COUNT] = {
    "sgd",     "adamw", "adam", "nadam", "radam",     "adagrad", "adadelta",
    "rmsprop", "lion",  "lamb", "lars",  "adafactor", "muon",
};

void gd_optimizer_defaults(gd_optimizer_kind_t kind, gd_optimizer_options_t *options_p)
{
    *options_p = (gd_optimizer_options_t){.kind = kind,
                                          .beta1 = 0.9,
                                          .beta2 = 0.999,
                                          .epsilon = 1e-8,
                                          .momentum_decay = 4e-3,
                                          .alpha = 0.99,
                                          .rho = 0.9,
                                          .trust_coefficient = 1e-3,
                                          .beta2_decay = -0.8,
                                          .epsilon2 = 1e-3,
                                          .clip_threshold = 1,
                                          .ns_steps = 5,
                                          .adamw_lr_scale = 1};
    switch (kind) {
    case GD_OPTIMIZER_ADAMW:
        options_p->weight_decay = 0.01;
        break;
    case GD_OPTIMIZER_ADAGRAD:
        options_p->epsilon = 1e-10;
        break;
    case GD_OPTIMIZER_ADADELTA:
        options_p->epsilon = 1e-6;
        break;
    case GD_OPTIMIZER_LION:
        options_p->beta2 = 0.99;
        break;
    case GD_OPTIMIZER_LAMB:
        options_p->epsilon = 1e-6;
        break;
    case GD_OPTIMIZER_LARS:
        options_p->momentum = 0.9;
        break;
    case GD_OPTIMIZER_ADAFACTOR:
        options_p->epsilon = 0x1p-23; /* of f32 */
        break;
    case GD_OPTIMIZER_MUON:
        options_p->momentum = 0.95;
        options_p->is_nesterov = true;
        options_p->weight_decay = 0.1;
        break;
    default:
        break;
    }
}

bool optim_is_by_tensor(gd_optimizer_kind_t kind)
{
    return kind == GD_OPTIMIZER_LAMB || kind == GD_OPTIMIZER_LARS || kind == GD_OPTIMIZER_ADAFACTOR ||
           kind == GD_OPTIMIZER_MUON;
}

/* ---- options ---- */

static bool is_share(double x)
{
    return x >= 0 && x < 1;
}

/* The fields that a kind reads beyond momentum, betas and epsilon. */
static status_t special_check(const gd_optimizer_options_t *options, const char *name)
{
    switch (options->kind) {
    case GD_OPTIMIZER_NADAM:
        return options->momentum_decay >= 0
                   ? ST_OK
                   : ST_FAIL(ST_ERR_RANGE, "%s: momentum decay %g is negative", name, options->momentum_decay);
    case GD_OPTIMIZER_RMSPROP:
        return is_share(options->alpha) ? ST_OK
                                        : ST_FAIL(ST_ERR_RANGE, "%s: alpha %g is not in [0, 1)", name, options->alpha);
    case GD_OPTIMIZER_ADADELTA:
        return is_share(options->rho) ? ST_OK
                                      : ST_FAIL(ST_ERR_RANGE, "%s: rho %g is not in [0, 1)", name, options->rho);
    case GD_OPTIMIZER_ADAGRAD:
        return options->lr_decay >= 0 && options->initial_accumulator >= 0
                   ? ST_OK
                   : ST_FAIL(ST_ERR_RANGE, "%s: lr decay %g or initial accumulator %g is negative", name,
                             options->lr_decay, options->initial_accumulator);
    case GD_OPTIMIZER_LARS:
        return options->trust_coefficient > 0 ? ST_OK
                                              : ST_FAIL(ST_ERR_RANGE, "%s: trust coefficient %g is not positive", name,
                                                        options->trust_coefficient);
    case GD_OPTIMIZER_ADAFACTOR:
        return options->beta2_decay <= 0 && options->epsilon2 > 0 && options->clip_threshold >= 1
                   ? ST_OK
                   : ST_FAIL(ST_ERR_RANGE, "%s: beta2 decay %g, epsilon2 %g or clip threshold %g is out of range", name,
                             options->beta2_decay, options->epsilon2, options->clip_threshold);
    case GD_OPTIMIZER_MUON:
        return options->ns_steps >= 1 && options->ns_steps < 100 && options->adamw_lr_scale > 0
                   ? ST_OK
                   : ST_FAIL(ST_ERR_RANGE, "%s: %d iterations or AdamW's rate %g is out of range", name,
                             options->ns_steps, options->adamw_lr_scale);
    default:
        return ST_OK;
    }
}

static status_t groups_check(const gd_optimizer_options_t *options, const char *name)
{
    if (options->n_groups < 0 || options->n_groups > OPTIM_MAX_GROUPS) {
        return ST_FAIL(ST_ERR_RANGE, "%s: %d groups of parameters; at most %d", name, options->n_groups,
                       OPTIM_MAX_GROUPS);
    }
    for (int i = 0; i < options->n_groups; i++) {
        const gd_optimizer_group_t *group = &options->groups[i];
        if (!(group->lr_scale >= 0) || (group->has_weight_decay && !(group->weight_decay >= 0))) {
            return ST_FAIL(ST_ERR_RANGE, "%s: group \"%s\": learning rate's scale %g or weight decay %g is negative",
                           name, group->pattern, group->lr_scale, group->weight_decay);
        }
    }
    return ST_OK;
}

/* Options that only some kinds have. */
static status_t extras_check(const gd_optimizer_options_t *options, const char *name)
{
    const gd_optimizer_kind_t kind = options->kind;
    if (options->is_amsgrad && kind != GD_OPTIMIZER_ADAM && kind != GD_OPTIMIZER_ADAMW) {
        return ST_FAIL(ST_ERR_INVAL, "%s: amsgrad is for adam and adamw", name);
    }
    if (options->is_decoupled && kind != GD_OPTIMIZER_NADAM && kind != GD_OPTIMIZER_RADAM) {
        return ST_FAIL(ST_ERR_INVAL, "%s: decoupled is for nadam and radam%s", name,
                       kind == GD_OPTIMIZER_ADAM ? "; adam with it is adamw" : "");
    }
    if (options->dampening != 0 && kind != GD_OPTIMIZER_SGD) {
        return ST_FAIL(ST_ERR_INVAL, "%s: dampening is for sgd", name);
    }
    if (!(options->dampening >= 0 && options->dampening <= 1)) {
        return ST_FAIL(ST_ERR_RANGE, "%s: dampening %g is not in [0, 1]", name, options->dampening);
    }
    if (options->dampening != 0 && options->is_nesterov) {
        return ST_FAIL(ST_ERR_INVAL, "%s: nesterov needs a dampening of 0", name);
    }
    return ST_OK;
}

static status_t options_check(const gd_optimizer_options_t *options)
{
    if ((unsigned)options->kind >= GD_OPTIMIZER_COUNT) {
        return ST_FAIL(ST_ERR_INVAL, "%d is no optimizer", (int)options->kind);
    }
    const char *name = kind_names[options->kind];
    if (!(options->weight_decay >= 0)) {
        return ST_FAIL(ST_ERR_RANGE, "%s: weight decay %g is negative", name, options->weight_decay);
    }
    if (!is_share(options->average_decay)) {
        return ST_FAIL(ST_ERR_RANGE, "%s: average decay %g is not in [0, 1)", name, options->average_decay);
    }
    if (!(options->momentum >= 0)) {
        return ST_FAIL(ST_ERR_RANGE, "%s: momentum %g is negative", name, options->momentum);
    }
    bool is_sgd = options->kind == GD_OPTIMIZER_SGD;
    if ((is_sgd || options->kind == GD_OPTIMIZER_MUON) && options->is_nesterov && options->momentum == 0) {
        return ST_FAIL(ST_ERR_INVAL, "%s: nesterov needs a momentum", name);
    }
    if (!is_sgd && options->kind != GD_OPTIMIZER_LION && options->kind != GD_OPTIMIZER_LARS &&
        !(options->epsilon > 0)) {
        return ST_FAIL(ST_ERR_RANGE, "%s: epsilon %g is not positive", name, options->epsilon);
    }
    if (!is_sgd && !(is_share(options->beta1) && is_share(options->beta2))) {
        return ST_FAIL(ST_ERR_RANGE, "%s: betas %g and %g are not in [0, 1)", name, options->beta1, options->beta2);
    }
    status_t status = special_check(options, name);
    status = status == ST_OK ? extras_check(options, name) : status;
    return status == ST_OK ? groups_check(options, name) : status;
}

/* ---- groups ---- */

int64_t optim_segment_end(const gd_flat_t *flat, int segment)
{
    return segment + 1 < flat->n_segments ? flat->segments[segment + 1].offset : flat->numel;
}

static int class_find(gd_optimizer_t *optimizer, const optim_class_t *wanted)
{
    for (int i = 0; i < optimizer->n_classes; i++) {
        const optim_class_t *class = &optimizer->classes[i];
        if (class->lr_scale == wanted->lr_scale && class->decay == wanted->decay &&
            class->is_frozen == wanted->is_frozen && class->is_adamw == wanted->is_adamw &&
            class->has_no_norm == wanted->has_no_norm) {
            return i;
        }
    }
    ASSERT(optimizer->n_classes < (int)(sizeof(optimizer->classes) / sizeof(optimizer->classes[0])));
    optimizer->classes[optimizer->n_classes] = *wanted;
    return optimizer->n_classes++;
}

static status_t classes_fill(gd_optimizer_t *optimizer, const gd_optimizer_options_t *options, const gd_flat_t *flat)
{
    bool is_used[OPTIM_MAX_GROUPS] = {false};
    int n_learnt = 0;
    for (int i = 0; i < flat->n_segments; i++) {
        const gd_flat_segment_t *segment = &flat->segments[i];
        bool is_matrix = gd_tensor_n_dims(segment->parameter) >= 2;
        bool is_spared = options->decay_matrices_only && !is_matrix;
        optim_class_t class = {.lr_scale = 1,
                               .decay = is_spared ? 0 : options->weight_decay,
                               .is_adamw = options->kind == GD_OPTIMIZER_MUON && !is_matrix,
                               .has_no_norm = is_spared};
        bool is_found = false;
        for (int k = 0; k < options->n_groups; k++) {
            const gd_optimizer_group_t *group = &options->groups[k];
            if (fnmatch(group->pattern, segment->name, 0) != 0) {
                continue;
            }
            is_used[k] = true;
            if (is_found) {
                continue;
            }
            is_found = true;
            class.lr_scale = group->lr_scale;
            class.decay = group->has_weight_decay ? group->weight_decay : class.decay;
            class.is_frozen = group->is_frozen;
            class.is_adamw |= options->kind == GD_OPTIMIZER_MUON && group->is_adamw;
        }
        class.is_frozen |= !gd_tensor_requires_grad(segment->parameter);
        optimizer->class_of[i] = class_find(optimizer, &class);
        n_learnt += !class.is_frozen;
    }
    for (int k = 0; k < options->n_groups; k++) {
        if (!is_used[k]) {
            return ST_FAIL(ST_ERR_INVAL, "no parameter's name fits the pattern \"%s\"", options->groups[k].pattern);
        }
    }
    if (n_learnt == 0 && flat->n_segments > 0) {
        return ST_FAIL(ST_ERR_INVAL, "all %d parameters are frozen: nothing is left to learn", flat->n_segments);
    }
    return ST_OK;
}

/* Parameters that aren't learnt need no gradient; those that are, do. */
static status_t frozen_mark(const gd_optimizer_t *optimizer, const gd_flat_t *flat)
{
    status_t status = ST_OK;
    for (int i = 0; i < flat->n_segments && status == ST_OK; i++) {
        if (optimizer->classes[optimizer->class_of[i]].is_frozen) {
            status = gd_tensor_set_requires_grad(flat->segments[i].parameter, false);
        }
    }
    return status;
}

/* Neighbouring segments of the same class become one run; a run includes the gaps behind its segments. */
static void runs_fill(gd_optimizer_t *optimizer, const gd_flat_t *flat)
{
    for (int i = 0; i < flat->n_segments; i++) {
        int class = optimizer->class_of[i];
        int64_t end = optim_segment_end(flat, i);
        if (optimizer->n_runs > 0 && optimizer->runs[optimizer->n_runs - 1].class == class) {
            optimizer->runs[optimizer->n_runs - 1].end = end;
        } else {
            optimizer->runs[optimizer->n_runs++] = (optim_run_t){.end = end, .class = class};
        }
    }
}

/* ---- state ---- */

/* Rows of all leading dimensions together, and columns. */
static void matrix_of(const gd_tensor_t *t, int64_t *rows_p, int64_t *columns_p)
{
    *columns_p = gd_tensor_dim(t, -1);
    *rows_p = *columns_p > 0 ? gd_tensor_numel(t) / *columns_p : 0;
}

/* Elements of a state for one tensor; -1: none. */
static int64_t extent_numel(const gd_optimizer_t *optimizer, state_extent_t extent, int segment)
{
    const gd_tensor_t *t = optimizer->flat->segments[segment].parameter;
    int64_t numel = gd_tensor_numel(t);
    int64_t rows = 0;
    int64_t columns = 0;
    bool is_matrix = gd_tensor_n_dims(t) >= 2;
    bool is_adamw = optimizer->classes[optimizer->class_of[segment]].is_adamw;
    if (is_matrix) {
        matrix_of(t, &rows, &columns);
    }
    switch (extent) {
    case EXTENT_FULL:
        return numel;
    case EXTENT_MATRIX:
        return is_adamw ? -1 : numel;
    case EXTENT_REST:
        return is_adamw ? numel : -1;
    case EXTENT_ROWS:
        return is_matrix ? rows : -1;
    case EXTENT_COLUMNS:
        return !is_matrix ? -1 : gd_tensor_dim(t, -2) > 0 ? rows / gd_tensor_dim(t, -2) * columns : 0;
    default:
        return is_matrix ? -1 : numel;
    }
}

static status_t state_add(gd_optimizer_t *optimizer, const char *name, state_extent_t extent, float value)
{
    const gd_flat_t *flat = optimizer->flat;
    optim_state_t *state = &optimizer->states[optimizer->n_states++];
    state->name = name;
    state->offset = mem_calloc((size_t)flat->n_segments + 1, sizeof(*state->offset));
    if (state->offset == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "optimizer: state %s", name);
    }
    for (int i = 0; i < flat->n_segments; i++) {
        int64_t numel = extent_numel(optimizer, extent, i);
        state->offset[i] = numel < 0 ? -1 : state->numel;
        state->numel += numel < 0 ? 0 : (numel + GD_FLAT_ALIGN - 1) / GD_FLAT_ALIGN * GD_FLAT_ALIGN;
    }
    /* an update reads element i of all states at once: they lie apart by other than a power of two, which would make
     * them share banks of the memory */
    const int64_t shift = (int64_t)optimizer->n_states * OPTIM_STATE_SHIFT;
    size_t size = (size_t)state->numel * sizeof(float);
    state->block = mem_alloc_aligned(64, size + (size_t)shift * sizeof(float));
    if (state->block == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "optimizer: state %s of %lld elements", name, (long long)state->numel);
    }
    state->data = state->block + shift;
    memset(state->data, 0, size);
    for (int64_t i = 0; value > 0 && i < state->numel; i++) {
        state->data[i] = value;
    }
    return ST_OK;
}

/* States that the options leave out: buffers of a momentum of 0, the mean of gradients that isn't centred, the largest
 * mean of squares without amsgrad. */
static int n_states_of(const gd_optimizer_options_t *options)
{
    int n = 0;
    while (n < OPTIM_MAX_STATES - 1 && state_rows[options->kind][n].name != NULL) {
        n++;
    }
    if (options->kind == GD_OPTIMIZER_SGD) {
        return options->momentum > 0;
    }
    if (options->kind == GD_OPTIMIZER_RMSPROP) {
        return options->is_centered ? 3 : options->momentum > 0 ? 2 : 1;
    }
    if (options->kind == GD_OPTIMIZER_ADAM || options->kind == GD_OPTIMIZER_ADAMW) {
        return options->is_amsgrad ? 3 : 2;
    }
    return n;
}

static status_t states_fill(gd_optimizer_t *optimizer)
{
    const gd_optimizer_options_t *options = &optimizer->options;
    int n = n_states_of(options);
    status_t status = ST_OK;
    for (int i = 0; i < n && status == ST_OK; i++) {
        const state_row_t *row = &state_rows[options->kind][i];
        double value = options->kind == GD_OPTIMIZER_ADAGRAD ? options->initial_accumulator : 0;
        status = state_add(optimizer, row->name, row->extent, (float)value);
    }
    if (status == ST_OK && options->average_decay > 0) {
        optimizer->average = optimizer->n_states;
        status = state_add(optimizer, "average", EXTENT_FULL, 0);
    }
    return status;
}

/* ---- whole tensors ---- */

static status_t blocks_fill(gd_optimizer_t *optimizer)
{
    const gd_flat_t *flat = optimizer->flat;
    optimizer->first_block = mem_calloc((size_t)flat->n_segments + 1, sizeof(*optimizer->first_block));
    optimizer->ratio = mem_calloc((size_t)flat->n_segments + 1, sizeof(*optimizer->ratio));
    if (optimizer->first_block == NULL || optimizer->ratio == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "optimizer: %d tensors", flat->n_segments);
    }
    int64_t n = 0;
    for (int i = 0; i < flat->n_segments; i++) {
        optimizer->first_block[i] = n;
        n += gd_cpu_n_blocks(optim_segment_end(flat, i) - flat->segments[i].offset, GD_NORM_BLOCK);
    }
    optimizer->first_block[flat->n_segments] = n;
    optimizer->blocks = mem_calloc((size_t)n + 1, sizeof(*optimizer->blocks));
    optimizer->sums = mem_calloc((size_t)n + 1, 2 * sizeof(*optimizer->sums));
    size_t size = optimizer->options.kind == GD_OPTIMIZER_MUON        ? optim_muon_scratch(optimizer)
                  : optimizer->options.kind == GD_OPTIMIZER_ADAFACTOR ? optim_adafactor_scratch(optimizer)
                                                                      : 0;
    optimizer->scratch = mem_alloc_aligned(64, size > 0 ? size : 64);
    if (optimizer->blocks == NULL || optimizer->sums == NULL || optimizer->scratch == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "optimizer: %lld blocks and %zu bytes of scratch", (long long)n, size);
    }
    for (int i = 0; i < flat->n_segments; i++) {
        int64_t end = optim_segment_end(flat, i);
        int64_t at = flat->segments[i].offset;
        for (int64_t b = optimizer->first_block[i]; b < optimizer->first_block[i + 1]; b++, at += GD_NORM_BLOCK) {
            int64_t stop = at + GD_NORM_BLOCK < end ? at + GD_NORM_BLOCK : end;
            optimizer->blocks[b] = (optim_block_t){.segment = i, .begin = at, .end = stop};
        }
    }
    return ST_OK;
}

void optim_segments_in(const gd_flat_t *flat, int64_t first, int64_t last, int *from_p, int *to_p)
{
    int from = 0;
    while (from < flat->n_segments && flat->segments[from].offset < first) {
        from++;
    }
    int to = from;
    while (to < flat->n_segments && flat->segments[to].offset < last) {
        to++;
    }
    *from_p = from;
    *to_p = to;
}

/* ---- opening ---- */

status_t gd_optimizer_open(const gd_optimizer_options_t *options, gd_flat_t *flat, gd_optimizer_t **optimizer_p)
{
    status_t status = options_check(options);
    if (status != ST_OK) {
        return status;
    }
    gd_optimizer_t *optimizer = mem_zalloc(sizeof(*optimizer));
    if (optimizer == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "optimizer");
    }
    optimizer->options = *options;
    optimizer->options.groups = NULL;
    optimizer->options.n_groups = 0;
    optimizer->flat = flat;
    optimizer->mu_product = 1;
    optimizer->average = -1;
    optimizer->runs = mem_calloc((size_t)flat->n_segments + 1, sizeof(*optimizer->runs));
    optimizer->copies = mem_calloc((size_t)flat->n_segments + 1, sizeof(*optimizer->copies));
    optimizer->class_of = mem_calloc((size_t)flat->n_segments + 1, sizeof(*optimizer->class_of));
    if (optimizer->runs == NULL || optimizer->class_of == NULL || optimizer->copies == NULL) {
        status = ST_FAIL(ST_ERR_NOMEM, "optimizer: %d tensors", flat->n_segments);
    }
    if (status == ST_OK) {
        status = classes_fill(optimizer, options, flat);
    }
    if (status == ST_OK) {
        status = states_fill(optimizer);
    }
    if (status == ST_OK && optim_is_by_tensor(options->kind)) {
        status = blocks_fill(optimizer);
    }
    if (status == ST_OK) {
        status = frozen_mark(optimizer, flat);
    }
    if (status != ST_OK) {
        gd_optimizer_close(optimizer);
        return status;
    }
    runs_fill(optimizer, flat);
    *optimizer_p = optimizer;
    return ST_OK;
}

void gd_optimizer_close(gd_optimizer_t *optimizer)
{
    if (optimizer == NULL) {
        return;
    }
    for (int i = 0; i < optimizer->n_states; i++) {
        mem_free(optimizer->states[i].block);
        mem_free(optimizer->states[i].offset);
    }
    mem_free(optimizer->scratch);
    mem_free(optimizer->sums);
    mem_free(optimizer->ratio);
    mem_free(optimizer->first_block);
    mem_free(optimizer->blocks);
    mem_free(optimizer->class_of);
    mem_free(optimizer->copies);
    mem_free(optimizer->runs);
    mem_free(optimizer);
}

/* ---- steps ---- */

/* mu of step t (1-based), as PyTorch's nadam. */
static double nadam_mu(const gd_optimizer_options_t *options, int64_t t)
{
    return options->beta1 * (1 - 0.5 * pow(0.96, (double)t * options->momentum_decay));
}

void gd_optimizer_next(gd_optimizer_t *optimizer)
{
    optimizer->n_steps++;
    if (optimizer->options.kind == GD_OPTIMIZER_NADAM) {
        optimizer->mu_product *= nadam_mu(&optimizer->options, optimizer->n_steps);
    }
}

void gd_optimizer_set_step_count(gd_optimizer_t *optimizer, int64_t n_steps)
{
    optimizer->n_steps = n_steps;
    optimizer->mu_product = 1;
    for (int64_t t = 1; optimizer->options.kind == GD_OPTIMIZER_NADAM && t <= n_steps; t++) {
        optimizer->mu_product *= nadam_mu(&optimizer->options, t);
    }
}

status_t gd_optimizer_update(gd_optimizer_t *optimizer, const float *gradients, double lr, double gradient_scale,
                             int64_t first, int64_t last)
{
    if (optimizer->n_steps < 1) {
        return ST_FAIL(ST_ERR_STATE, "optimizer: an update before the first gd_optimizer_next");
    }
    if (first < 0 || first > last || last > optimizer->flat->numel || first % GD_FLAT_ALIGN != 0 ||
        last % GD_FLAT_ALIGN != 0) {
        return ST_FAIL(ST_ERR_RANGE,
                       "optimizer: elements %lld to %lld: they must be multiples of %d, in order, of 0 to %lld",
                       (long long)first, (long long)last, GD_FLAT_ALIGN, (long long)optimizer->flat->numel);
    }
    gd_flat_touch(optimizer->flat);
    gradient_scale = optimizer->options.is_maximizing ? -gradient_scale : gradient_scale;
    gd_cpu_update_t of_class[sizeof(optimizer->classes) / sizeof(optimizer->classes[0])];
    for (int i = 0; i < optimizer->n_classes; i++) {
        optim_coefficients(optimizer, &optimizer->classes[i], lr, gradient_scale, gradients, &of_class[i]);
    }
    optim_step_t step = {.optimizer = optimizer,
                         .kernels = gd_cpu_optim(),
                         .gradients = gradients,
                         .lr = lr,
                         .gradient_scale = gradient_scale,
                         .first = first,
                         .of_class = of_class};
    status_t status = ST_OK;
    int from = 0;
    int to = 0;
    switch (optimizer->options.kind) {
    case GD_OPTIMIZER_LAMB:
    case GD_OPTIMIZER_LARS:
        optim_segments_in(optimizer->flat, first, last, &from, &to);
        optim_by_norm(&step, from, to);
        break;
    case GD_OPTIMIZER_ADAFACTOR:
        optim_segments_in(optimizer->flat, first, last, &from, &to);
        optim_adafactor(&step, from, to);
        break;
    case GD_OPTIMIZER_MUON:
        optim_segments_in(optimizer->flat, first, last, &from, &to);
        status = optim_muon(&step, from, to);
        break;
    default:
        if (first == 0 && last == optimizer->flat->numel) {
            gd_flat_copies(optimizer->flat, optimizer->copies);
            step.copies = optimizer->copies;
        }
        optim_elementwise(&step, last);
        if (step.copies != NULL) {
            gd_flat_copies_keep(optimizer->flat, step.copies);
        }
        return ST_OK;
    }
    if (status == ST_OK && optimizer->average >= 0) {
        optim_average(&step, from, to);
    }
    return status;
}

void gd_optimizer_swap_average(gd_optimizer_t *optimizer)
{
    if (optimizer->average < 0 || optimizer->n_steps == 0) {
        return;
    }
    float *average = optimizer->states[optimizer->average].data;
    float *parameters = optimizer->flat->parameters;
    for (int64_t i = 0; i < optimizer->flat->numel; i++) {
        float x = parameters[i];
        parameters[i] = average[i];
        average[i] = x;
    }
    gd_flat_touch(optimizer->flat);
}

/* ---- state, from outside ---- */

int64_t gd_optimizer_step_count(const gd_optimizer_t *optimizer)
{
    return optimizer->n_steps;
}

int gd_optimizer_n_states(const gd_optimizer_t *optimizer)
{
    return optimizer->n_states;
}

float *gd_optimizer_state(gd_optimizer_t *optimizer, int index, const char **name_p)
{
    if (index < 0 || index >= optimizer->n_states) {
        return NULL;
    }
    if (name_p != NULL) {
        *name_p = optimizer->states[index].name;
    }
    return optimizer->states[index].data;
}

int64_t gd_optimizer_state_numel(const gd_optimizer_t *optimizer, int index)
{
    return index < 0 || index >= optimizer->n_states ? 0 : optimizer->states[index].numel;
}

bool gd_optimizer_slot(gd_optimizer_t *optimizer, int index, int segment, gd_optimizer_slot_t *slot_p)
{
    if (index < 0 || index >= optimizer->n_states || optimizer->states[index].offset[segment] < 0) {
        return false;
    }
    const optim_state_t *state = &optimizer->states[index];
    const gd_tensor_t *t = optimizer->flat->segments[segment].parameter;
    *slot_p = (gd_optimizer_slot_t){.data = state->data + state->offset[segment], .n_dims = gd_tensor_n_dims(t)};
    memcpy(slot_p->shape, gd_tensor_shape(t), (size_t)slot_p->n_dims * sizeof(int64_t));
    if (index != optimizer->average) {
        state_extent_t extent = state_rows[optimizer->options.kind][index].extent;
        if (extent == EXTENT_ROWS) {
            slot_p->shape[slot_p->n_dims - 1] = 1;
        } else if (extent == EXTENT_COLUMNS) {
            slot_p->shape[slot_p->n_dims - 2] = 1;
        }
    }
    return true;
}
