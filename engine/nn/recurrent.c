/* SPDX-License-Identifier: Apache-2.0 */
/*
 * recurrent: RNN, LSTM and GRU as in torch.nn with batch_first. Every window begins from zero states: with windows of
 * a longer text, gradients and states end at their edges (truncated backpropagation without carried states), so a
 * sample's result depends on the sample alone.
 */
#include <math.h>
#include <stdio.h>

#include "gradd/context.h"
#include "gradd/index.h"
#include "nn/fail.h"
#include "nn/sequence.h"

enum { W_IH, W_HH, B_IH, B_HH, W_HR, N_WEIGHTS };

typedef struct recurrent {
    gd_module_t base;
    gd_recurrent_options_t options;
    int64_t input;      /* features of x */
    gd_sequence_t *own; /* NULL: every sample has all T steps */
} recurrent_t;

static int n_directions(const gd_recurrent_options_t *options)
{
    return options->is_bidirectional ? 2 : 1;
}

static int64_t out_width(const gd_recurrent_options_t *options)
{
    return options->projection > 0 ? options->projection : options->width;
}

/* The own parameters of layer and direction, NULL for those that it lacks; they were added in this order. */
static void weights_get(const recurrent_t *r, int layer, int direction, gd_tensor_t *weights[N_WEIGHTS])
{
    const int n_each = 2 + (r->options.has_bias ? 2 : 0) + (r->options.projection > 0 ? 1 : 0);
    const gd_parameter_t *own = r->base.parameters + (layer * n_directions(&r->options) + direction) * n_each;
    int at = 0;
    for (int i = 0; i < N_WEIGHTS; i++) {
        const bool is_there = i < B_IH || (i < W_HR ? r->options.has_bias : r->options.projection > 0);
        weights[i] = is_there ? own[at++].tensor : NULL;
    }
}

/*
 * Packed samples, of other lengths: the second direction is the first one over the steps in reverse within each length.
 * order[T·B]: for step t of sample b the row of its step length - 1 - t, and its own behind the length; applied twice
 * it changes nothing. kept[T,B,1] makes zeros behind the lengths. NULL: nothing is padding.
 */
typedef struct packing {
    gd_tensor_t *order, *kept;
} packing_t;

static void packing_release(packing_t *packing)
{
    (void)gd_tensor_unref(packing->order);
    (void)gd_tensor_unref(packing->kept);
}

static status_t packing_make(const recurrent_t *r, const gd_tensor_t *x, packing_t *packing_p)
{
    status_t status = r->own != NULL ? sequence_check(r->own, x) : ST_OK;
    if (status != ST_OK || r->own == NULL || r->own->lengths == NULL) {
        return status;
    }
    const int64_t n_samples = r->own->batch, n_steps = r->own->length;
    const int64_t n_rows = n_samples * n_steps;
    const int64_t *lengths = gd_tensor_data(r->own->lengths);
    packing_t packing = {0};
    status = gd_tensor_new(GD_DTYPE_I64, 1, &n_rows, &packing.order);
    if (status == ST_OK) {
        status = gd_tensor_new(GD_DTYPE_F32, 3, (const int64_t[3]){n_steps, n_samples, 1}, &packing.kept);
    }
    if (status != ST_OK) {
        packing_release(&packing);
        return status;
    }
    int64_t *order = gd_tensor_data(packing.order);
    float *kept = gd_tensor_data(packing.kept);
    for (int64_t t = 0; t < n_steps; t++) {
        for (int64_t b = 0; b < n_samples; b++) {
            const bool is_inside = t < lengths[b];
            order[t * n_samples + b] = (is_inside ? lengths[b] - 1 - t : t) * n_samples + b;
            kept[t * n_samples + b] = is_inside ? 1.0F : 0.0F;
        }
    }
    *packing_p = packing;
    return ST_OK;
}

/* x[T,B,C] with each sample's steps in reverse; takes x's place. */
static status_t steps_reverse(gd_tensor_t *order, gd_tensor_t **x_p)
{
    const int64_t shape[3] = {gd_tensor_dim(*x_p, 0), gd_tensor_dim(*x_p, 1), gd_tensor_dim(*x_p, 2)};
    gd_tensor_t *rows = NULL;
    gd_tensor_t *turned = NULL;
    gd_tensor_t *y = NULL;
    status_t status = gd_reshape(*x_p, 2, (const int64_t[2]){shape[0] * shape[1], shape[2]}, &rows);
    if (status == ST_OK) {
        status = gd_index_select(rows, 0, order, &turned);
    }
    if (status == ST_OK) {
        status = gd_reshape(turned, 3, shape, &y);
    }
    (void)gd_tensor_unref(turned);
    (void)gd_tensor_unref(rows);
    if (status == ST_OK) {
        (void)gd_tensor_unref(*x_p);
        *x_p = y;
    }
    return status;
}

/* x[T,B,I] through one layer in one direction: y[T,B,R] */
static status_t direction_forward(const recurrent_t *r, const packing_t *packing, int layer, int direction,
                                  gd_tensor_t *x, gd_tensor_t **y_p)
{
    gd_tensor_t *w[N_WEIGHTS];
    weights_get(r, layer, direction, w);
    const gd_rnn_weights_t weights = {.w_hh = w[W_HH], .b_hh = w[B_HH], .w_hr = w[W_HR]};
    const bool is_turned = direction == 1 && packing->order != NULL;
    gd_tensor_t *in = gd_tensor_ref(x);
    gd_tensor_t *gates = NULL;
    gd_tensor_t *y = NULL;
    status_t status = is_turned ? steps_reverse(packing->order, &in) : ST_OK;
    if (status == ST_OK) {
        status = gd_linear(in, w[W_IH], w[B_IH], &gates);
    }
    if (status == ST_OK) {
        status = gd_rnn(r->options.kind, direction == 1 && !is_turned, gates, &weights, NULL, NULL, &y, NULL);
    }
    if (status == ST_OK && is_turned) {
        status = steps_reverse(packing->order, &y);
    }
    if (status == ST_OK) {
        status = packing->kept != NULL ? gd_mul(y, packing->kept, y_p) : ST_OK;
    }
    if (status == ST_OK && packing->kept == NULL) {
        *y_p = gd_tensor_ref(y);
    }
    (void)gd_tensor_unref(y);
    (void)gd_tensor_unref(gates);
    (void)gd_tensor_unref(in);
    return status;
}

static status_t layer_forward(const recurrent_t *r, const packing_t *packing, int layer, gd_tensor_t *x,
                              gd_tensor_t **y_p)
{
    gd_tensor_t *both[2] = {NULL};
    status_t status = direction_forward(r, packing, layer, 0, x, &both[0]);
    if (status != ST_OK || !r->options.is_bidirectional) {
        *y_p = both[0];
        return status;
    }
    status = direction_forward(r, packing, layer, 1, x, &both[1]);
    if (status == ST_OK) {
        status = gd_cat(both, 2, -1, y_p);
    }
    (void)gd_tensor_unref(both[0]);
    (void)gd_tensor_unref(both[1]);
    return status;
}

/* x[B,T,I] → y[B,T,R or 2R] */
static status_t recurrent_forward(gd_module_t *self, gd_tensor_t *x, gd_tensor_t **y_p)
{
    const recurrent_t *r = (const recurrent_t *)self;
    static const int time_first[3] = {1, 0, 2};
    if (gd_tensor_n_dims(x) != 3 || gd_tensor_dim(x, 2) != r->input) {
        return module_fail_shape(x, ", not [B, T, %lld]", (long long)r->input);
    }
    gd_tensor_t *y = NULL;
    packing_t packing = {0};
    status_t status = packing_make(r, x, &packing);
    if (status == ST_OK) {
        status = gd_permute(x, time_first, &y);
    }
    for (int layer = 0; layer < r->options.layers && status == ST_OK; layer++) {
        gd_tensor_t *next = NULL;
        if (layer > 0 && r->options.dropout > 0 && gd_training_is_on()) {
            status = gd_dropout(y, r->options.dropout, gd_rng_key(self->layer + (uint32_t)layer, 0), &next);
            (void)gd_tensor_unref(y);
            y = next;
            next = NULL;
        }
        if (status == ST_OK) {
            status = layer_forward(r, &packing, layer, y, &next);
            (void)gd_tensor_unref(y);
            y = next;
        }
    }
    if (status == ST_OK) {
        status = gd_permute(y, time_first, y_p);
    }
    packing_release(&packing);
    (void)gd_tensor_unref(y);
    return status;
}

static void recurrent_describe(const gd_module_t *self, strbuf_t *text)
{
    const recurrent_t *r = (const recurrent_t *)self;
    strbuf_appendf(text, "in %lld, width %lld, layers %d%s%s", (long long)r->input, (long long)r->options.width,
                   r->options.layers, r->options.is_bidirectional ? ", bidirectional" : "",
                   r->options.has_bias ? "" : ", no bias");
    if (r->options.projection > 0) {
        strbuf_appendf(text, ", projection %lld", (long long)r->options.projection);
    }
    if (r->options.dropout > 0) {
        strbuf_appendf(text, ", dropout %g", r->options.dropout);
    }
}

static void recurrent_release(gd_module_t *self)
{
    gd_recurrent_set_sequence(self, NULL);
}

#define ROW(kind_x)                                                                                                    \
    {                                                                                                                  \
        .kind = (kind_x), .forward = recurrent_forward, .release = recurrent_release, .describe = recurrent_describe   \
    }
static const gd_module_ops_t recurrent_ops[GD_RNN_COUNT] = {
    [GD_RNN_TANH] = ROW("rnn"),
    [GD_RNN_RELU] = ROW("rnn"),
    [GD_RNN_LSTM] = ROW("lstm"),
    [GD_RNN_GRU] = ROW("gru"),
};
#undef ROW

void gd_recurrent_set_sequence(gd_module_t *module, gd_sequence_t *own)
{
    sequence_put(&((recurrent_t *)module)->own, own);
}

static status_t options_check(int64_t input, const gd_recurrent_options_t *options)
{
    if ((unsigned)options->kind >= GD_RNN_COUNT) {
        return ST_FAIL(ST_ERR_INVAL, "recurrent: %d is no kind", (int)options->kind);
    }
    if (input < 1 || options->width < 1 || options->layers < 1 || options->projection < 0) {
        return ST_FAIL(ST_ERR_RANGE, "%s: in %lld, width %lld, layers %d, projection %lld",
                       recurrent_ops[options->kind].kind, (long long)input, (long long)options->width, options->layers,
                       (long long)options->projection);
    }
    if (options->projection > 0 && options->kind != GD_RNN_LSTM) {
        return ST_FAIL(ST_ERR_INVAL, "%s: only lstm has a projection", recurrent_ops[options->kind].kind);
    }
    if (options->projection >= options->width) {
        return ST_FAIL(ST_ERR_RANGE, "lstm: the projection to %lld is not below the width %lld",
                       (long long)options->projection, (long long)options->width);
    }
    if (!(options->dropout >= 0 && options->dropout <= 1)) {
        return ST_FAIL(ST_ERR_RANGE, "%s: dropout %g is not in [0, 1]", recurrent_ops[options->kind].kind,
                       options->dropout);
    }
    return ST_OK;
}

/* PyTorch's names, shapes and order. */
static status_t direction_add(gd_module_t *module, const gd_recurrent_options_t *options, int64_t input, int layer,
                              bool is_reverse)
{
    static const char *const names[N_WEIGHTS] = {"weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr"};
    const int64_t out = out_width(options);
    const int64_t gates = (options->kind == GD_RNN_LSTM ? 4 : options->kind == GD_RNN_GRU ? 3 : 1) * options->width;
    const int64_t shapes[N_WEIGHTS][2] = {{gates, input}, {gates, out}, {gates}, {gates}, {out, options->width}};
    const double bound = 1 / sqrt((double)options->width);
    const gd_init_t init = {.kind = GD_INIT_UNIFORM, .a = -bound, .b = bound};
    status_t status = ST_OK;
    for (int i = 0; i < N_WEIGHTS && status == ST_OK; i++) {
        const bool is_bias = i == B_IH || i == B_HH;
        if (is_bias ? !options->has_bias : i == W_HR && options->projection == 0) {
            continue;
        }
        char name[64];
        (void)snprintf(name, sizeof(name), "%s_l%d%s", names[i], layer, is_reverse ? "_reverse" : "");
        status = gd_module_add_parameter(module, name, is_bias ? 1 : 2, shapes[i], init, NULL);
    }
    return status;
}

status_t gd_recurrent_new(int64_t input, const gd_recurrent_options_t *options, gd_module_t **module_p)
{
    gd_recurrent_options_t filled = *options;
    filled.layers = filled.layers != 0 ? filled.layers : 1;
    status_t status = options_check(input, &filled);
    if (status != ST_OK) {
        return status;
    }
    gd_module_t *module = NULL;
    status = gd_module_new(&recurrent_ops[filled.kind], sizeof(recurrent_t), &module);
    if (status != ST_OK) {
        return status;
    }
    recurrent_t *r = (recurrent_t *)module;
    r->options = filled;
    r->input = input;
    const int64_t inner = out_width(&filled) * n_directions(&filled);
    for (int layer = 0; layer < filled.layers && status == ST_OK; layer++) {
        for (int direction = 0; direction < n_directions(&filled) && status == ST_OK; direction++) {
            status = direction_add(module, &filled, layer == 0 ? input : inner, layer, direction == 1);
        }
    }
    if (status != ST_OK) {
        (void)gd_module_unref(module);
        return status;
    }
    *module_p = module;
    return ST_OK;
}
