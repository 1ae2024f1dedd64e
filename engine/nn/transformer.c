/* SPDX-License-Identifier: Apache-2.0 */
/*
 * transformer: encoder and decoder layers as in torch.nn (Vaswani et al., 2017), gated feed-forward blocks (Shazeer,
 * 2020), sinusoidal positions.
 *   post-norm  x = norm1(x + attention(x)), y = norm2(x + feedforward(x))
 *   pre-norm   x = x + attention(norm1(x)), y = x + feedforward(norm2(x))
 * The decoder has attention to the encoder's result, the memory, between the two.
 */
#include <math.h>

#include "gradd/context.h"
#include "gradd/op.h"
#include "nn/fail.h"
#include "nn/sequence.h"

/* ---- encoder and decoder layers ---- */

enum { PART_SELF, PART_CROSS, PART_LINEAR1, PART_LINEAR2, PART_NORM1, PART_NORM2, PART_NORM3, N_PARTS };

typedef struct transformer {
    gd_module_t base;
    gd_transformer_options_t options;
    gd_module_t *part[N_PARTS];  /* children, NULL for what an encoder lacks */
    gd_sequence_t *own, *memory; /* NULL: none */
} transformer_t;

/* What a branch adds to x. */
typedef struct branch {
    int part; /* PART_SELF, PART_CROSS, or PART_LINEAR1 for the feed-forward */
    gd_tensor_t *memory;
    gd_multihead_masks_t masks;
} branch_t;

/* Dropout number `stream` of the layer; takes x's place. */
static status_t drop(const transformer_t *t, uint32_t stream, gd_tensor_t **x_p)
{
    if (t->options.dropout <= 0 || !gd_training_is_on()) {
        return ST_OK;
    }
    gd_tensor_t *y = NULL;
    status_t status = gd_dropout(*x_p, t->options.dropout, gd_rng_key(t->base.layer + stream, 0), &y);
    if (status == ST_OK) {
        (void)gd_tensor_unref(*x_p);
        *x_p = y;
    }
    return status;
}

/* x isn't read again: y may lie in its memory. */
static status_t activate(gd_activation_t activation, gd_tensor_t *x, gd_tensor_t **y_p)
{
    switch (activation) {
    case GD_ACTIVATION_GELU:
        return gd_gelu_last(x, false, y_p);
    case GD_ACTIVATION_GELU_TANH:
        return gd_gelu_last(x, true, y_p);
    case GD_ACTIVATION_SILU:
        return gd_silu(x, y_p);
    default:
        return gd_op_apply_reusing(GD_OP_RELU, &x, 1, NULL, x, y_p);
    }
}

static status_t feedforward(const transformer_t *t, gd_tensor_t *x, gd_tensor_t **y_p)
{
    gd_tensor_t *hidden = NULL;
    gd_tensor_t *active = NULL;
    status_t status = gd_module_forward(t->part[PART_LINEAR1], x, &hidden);
    if (status == ST_OK) {
        status = activate(t->options.activation, hidden, &active);
    }
    if (status == ST_OK) {
        status = drop(t, PART_LINEAR1, &active);
    }
    if (status == ST_OK) {
        status = gd_module_forward(t->part[PART_LINEAR2], active, y_p);
    }
    (void)gd_tensor_unref(hidden);
    (void)gd_tensor_unref(active);
    return status;
}

static status_t branch_forward(const transformer_t *t, const branch_t *b, gd_tensor_t *x, gd_tensor_t **y_p)
{
    gd_tensor_t *y = NULL;
    status_t status = b->part == PART_LINEAR1 ? feedforward(t, x, &y)
                                              : gd_multihead_attend(t->part[b->part], x, b->memory, &b->masks, &y);
    if (status == ST_OK) {
        status = drop(t, (uint32_t)(N_PARTS + b->part), &y);
    }
    if (status != ST_OK) {
        (void)gd_tensor_unref(y);
        return status;
    }
    *y_p = y;
    return ST_OK;
}

/* One branch with its norm and its sum; takes x's place. */
static status_t branch_apply(const transformer_t *t, const branch_t *b, int norm, gd_tensor_t **x_p)
{
    const bool is_first = t->options.is_norm_first;
    gd_tensor_t *normed = NULL;
    gd_tensor_t *y = NULL;
    gd_tensor_t *sum = NULL;
    status_t status = is_first ? gd_module_forward(t->part[norm], *x_p, &normed) : ST_OK;
    if (status == ST_OK) {
        status = branch_forward(t, b, is_first ? normed : *x_p, &y);
    }
    if (status == ST_OK) {
        status = gd_add_last(*x_p, y, &sum);
    }
    (void)gd_tensor_unref(normed);
    (void)gd_tensor_unref(y);
    if (status == ST_OK && !is_first) {
        y = NULL;
        status = gd_module_forward(t->part[norm], sum, &y);
        (void)gd_tensor_unref(sum);
        sum = y;
    }
    if (status == ST_OK) {
        (void)gd_tensor_unref(*x_p);
        *x_p = sum;
    }
    return status;
}

static status_t branches_run(const transformer_t *t, const branch_t *branches, int n, gd_tensor_t *x, gd_tensor_t **y_p)
{
    gd_tensor_t *y = gd_tensor_ref(x);
    for (int i = 0; i < n; i++) {
        status_t status = branch_apply(t, &branches[i], PART_NORM1 + i, &y);
        if (status != ST_OK) {
            (void)gd_tensor_unref(y);
            return status;
        }
    }
    *y_p = y;
    return ST_OK;
}

status_t gd_transformer_encoder_layer_run(gd_module_t *module, gd_tensor_t *x, const gd_multihead_masks_t *masks,
                                          gd_tensor_t **y_p)
{
    const transformer_t *t = (const transformer_t *)module;
    const branch_t branches[2] = {{.part = PART_SELF, .masks = masks != NULL ? *masks : (gd_multihead_masks_t){0}},
                                  {.part = PART_LINEAR1}};
    return branches_run(t, branches, 2, x, y_p);
}

status_t gd_transformer_decoder_layer_run(gd_module_t *module, gd_tensor_t *x, gd_tensor_t *memory,
                                          const gd_multihead_masks_t *masks, const gd_multihead_masks_t *memory_masks,
                                          gd_tensor_t **y_p)
{
    const transformer_t *t = (const transformer_t *)module;
    const gd_multihead_masks_t none = {0};
    const branch_t branches[3] = {
        {.part = PART_SELF, .masks = masks != NULL ? *masks : none},
        {.part = PART_CROSS, .memory = memory, .masks = memory_masks != NULL ? *memory_masks : none},
        {.part = PART_LINEAR1}};
    return branches_run(t, branches, 3, x, y_p);
}

static status_t encoder_forward(gd_module_t *self, gd_tensor_t *x, gd_tensor_t **y_p)
{
    gd_multihead_masks_t masks = {0};
    status_t status = gd_sequence_get_masks(((const transformer_t *)self)->own, x, &masks);
    return status == ST_OK ? gd_transformer_encoder_layer_run(self, x, &masks, y_p) : status;
}

static status_t decoder_forward(gd_module_t *self, gd_tensor_t *x, gd_tensor_t **y_p)
{
    const transformer_t *t = (const transformer_t *)self;
    gd_multihead_masks_t masks = {0};
    gd_multihead_masks_t memory_masks = {0};
    gd_tensor_t *memory = NULL;
    if (t->memory == NULL) {
        return ST_FAIL(ST_ERR_INVAL, "a decoder layer needs a memory: gd_transformer_decoder_layer_run");
    }
    status_t status = gd_sequence_get_masks(t->own, x, &masks);
    if (status == ST_OK) {
        status = gd_sequence_get_memory(t->memory, &memory);
    }
    if (status == ST_OK) {
        status = gd_sequence_get_masks(t->memory, memory, &memory_masks);
    }
    return status == ST_OK ? gd_transformer_decoder_layer_run(self, x, memory, &masks, &memory_masks, y_p) : status;
}

static void transformer_release(gd_module_t *self)
{
    gd_transformer_set_sequences(self, NULL, NULL);
}

static void transformer_describe(const gd_module_t *self, strbuf_t *text)
{
    const gd_transformer_options_t *o = &((const transformer_t *)self)->options;
    strbuf_appendf(text, "width %lld, heads %d, feedforward %lld%s", (long long)o->width, o->n_heads,
                   (long long)o->feedforward, o->is_norm_first ? ", norm first" : "");
}

static const gd_module_ops_t encoder_ops = {.kind = "transformer_encoder_layer",
                                            .forward = encoder_forward,
                                            .release = transformer_release,
                                            .describe = transformer_describe};
static const gd_module_ops_t decoder_ops = {.kind = "transformer_decoder_layer",
                                            .forward = decoder_forward,
                                            .release = transformer_release,
                                            .describe = transformer_describe};

void gd_transformer_set_sequences(gd_module_t *module, gd_sequence_t *own, gd_sequence_t *memory)
{
    transformer_t *t = (transformer_t *)module;
    sequence_put(&t->own, own);
    sequence_put(&t->memory, memory);
}

/* Makes part number `index` and adds it under PyTorch's name. */
static status_t part_add(transformer_t *t, int index)
{
    static const char *const names[N_PARTS] = {"self_attn", "multihead_attn", "linear1", "linear2",
                                               "norm1",     "norm2",          "norm3"};
    const gd_transformer_options_t *o = &t->options;
    const gd_multihead_options_t attention = {
        .layout = GD_MULTIHEAD_TORCH,
        .width = o->width,
        .n_heads = o->n_heads,
        .is_causal = o->is_causal && index == PART_SELF,
        .has_bias = o->has_bias,
        .weight_dropout = o->dropout,
    };
    gd_module_t *part = NULL;
    status_t status = ST_OK;
    switch (index) {
    case PART_SELF:
    case PART_CROSS:
        status = gd_multihead_new(&attention, &part);
        break;
    case PART_LINEAR1:
        status = gd_linear_new(o->width, o->feedforward, o->has_bias, &part);
        break;
    case PART_LINEAR2:
        status = gd_linear_new(o->feedforward, o->width, o->has_bias, &part);
        break;
    default:
        status = gd_layer_norm_new(o->width, o->epsilon, o->has_bias, &part);
        break;
    }
    if (status == ST_OK) {
        status = gd_module_add_child(&t->base, names[index], part);
        t->part[index] = part; /* borrowed from the children */
    }
    (void)gd_module_unref(part);
    return status;
}

static status_t transformer_new(const gd_module_ops_t *ops, const gd_transformer_options_t *options,
                                gd_module_t **module_p)
{
    const gd_activation_t f = options->activation;
    if (f != GD_ACTIVATION_RELU && f != GD_ACTIVATION_GELU && f != GD_ACTIVATION_GELU_TANH && f != GD_ACTIVATION_SILU) {
        return ST_FAIL(ST_ERR_INVAL, "%s: activation %d is none of relu, gelu, silu", ops->kind, (int)f);
    }
    if (options->width < 1 || options->feedforward < 1) {
        return ST_FAIL(ST_ERR_RANGE, "%s: width %lld, feedforward %lld", ops->kind, (long long)options->width,
                       (long long)options->feedforward);
    }
    gd_module_t *module = NULL;
    status_t status = gd_module_new(ops, sizeof(transformer_t), &module);
    if (status != ST_OK) {
        return status;
    }
    transformer_t *t = (transformer_t *)module;
    t->options = *options;
    t->options.epsilon = options->epsilon > 0 ? options->epsilon : 1e-5;
    for (int i = 0; i < N_PARTS && status == ST_OK; i++) {
        const bool is_decoder_only = i == PART_CROSS || i == PART_NORM3;
        status = is_decoder_only && ops == &encoder_ops ? ST_OK : part_add(t, i);
    }
    if (status != ST_OK) {
        (void)gd_module_unref(module);
        return status;
    }
    *module_p = module;
    return ST_OK;
}

status_t gd_transformer_encoder_layer_new(const gd_transformer_options_t *options, gd_module_t **module_p)
{
    return transformer_new(&encoder_ops, options, module_p);
}

status_t gd_transformer_decoder_layer_new(const gd_transformer_options_t *options, gd_module_t **module_p)
{
    return transformer_new(&decoder_ops, options, module_p);
}

/* ---- gated feed-forward ---- */

typedef struct gated_mlp {
    gd_module_t base;
    gd_gate_t gate;
} gated_mlp_t;

enum { GATED_GATE, GATED_UP, GATED_DOWN };

/* down(f(gate(x)) up(x)) */
static status_t gated_mlp_forward(gd_module_t *self, gd_tensor_t *x, gd_tensor_t **y_p)
{
    gd_tensor_t *gate = NULL;
    gd_tensor_t *up = NULL;
    gd_tensor_t *product = NULL;
    status_t status = gd_module_forward(self->children[GATED_GATE], x, &gate);
    if (status == ST_OK) {
        status = gd_module_forward(self->children[GATED_UP], x, &up);
    }
    if (status == ST_OK) {
        status = gd_gated(((const gated_mlp_t *)self)->gate, gate, up, &product);
    }
    if (status == ST_OK) {
        status = gd_module_forward(self->children[GATED_DOWN], product, y_p);
    }
    (void)gd_tensor_unref(product);
    (void)gd_tensor_unref(up);
    (void)gd_tensor_unref(gate);
    return status;
}

static const gd_module_ops_t gated_mlp_ops = {.kind = "gated_mlp", .forward = gated_mlp_forward};

status_t gd_gated_mlp_new(int64_t width, int64_t hidden, gd_gate_t gate, bool has_bias, const char *const names[3],
                          gd_module_t **module_p)
{
    static const char *const llama[3] = {"gate_proj", "up_proj", "down_proj"};
    if ((unsigned)gate >= GD_GATE_COUNT || width < 1 || hidden < 1) {
        return ST_FAIL(ST_ERR_INVAL, "gated_mlp: gate %d, width %lld, hidden %lld", (int)gate, (long long)width,
                       (long long)hidden);
    }
    gd_module_t *module = NULL;
    status_t status = gd_module_new(&gated_mlp_ops, sizeof(gated_mlp_t), &module);
    if (status != ST_OK) {
        return status;
    }
    ((gated_mlp_t *)module)->gate = gate;
    for (int i = 0; i < 3 && status == ST_OK; i++) {
        gd_module_t *linear = NULL;
        status = gd_linear_new(i == GATED_DOWN ? hidden : width, i == GATED_DOWN ? width : hidden, has_bias, &linear);
        if (status == ST_OK) {
            status = gd_module_add_child(module, names != NULL ? names[i] : llama[i], linear);
        }
        (void)gd_module_unref(linear);
    }
    if (status != ST_OK) {
        (void)gd_module_unref(module);
        return status;
    }
    *module_p = module;
    return ST_OK;
}

/* ---- sinusoidal positions ---- */

typedef struct sinusoids {
    gd_module_t base;
    gd_tensor_t *table; /* [T,C] of the longest sequence so far; no buffer: it isn't part of the state */
} sinusoids_t;

/* table[t, 2i] = sin(t 10000^(-2i/C)), table[t, 2i+1] = cos of the same */
static status_t sinusoids_make(int64_t length, int64_t width, gd_tensor_t **table_p)
{
    gd_tensor_t *table = NULL;
    status_t status = gd_tensor_new(GD_DTYPE_F32, 2, (const int64_t[2]){length, width}, &table);
    if (status != ST_OK) {
        return status;
    }
    float *value = gd_tensor_data(table);
    for (int64_t i = 0; i < width; i++) {
        const int64_t even = i - i % 2;
        const double rate = pow(10000, -(double)even / (double)width);
        for (int64_t t = 0; t < length; t++) {
            value[t * width + i] = (float)(i % 2 == 0 ? sin((double)t * rate) : cos((double)t * rate));
        }
    }
    *table_p = table;
    return ST_OK;
}

/* y[B,T,C] = x[B,T,C] + table[0 … T-1] */
static status_t sinusoids_forward(gd_module_t *self, gd_tensor_t *x, gd_tensor_t **y_p)
{
    sinusoids_t *s = (sinusoids_t *)self;
    if (gd_tensor_n_dims(x) < 2) {
        return module_fail_shape(x, ", not [B, T, C]");
    }
    const int64_t length = gd_tensor_dim(x, -2), width = gd_tensor_dim(x, -1);
    status_t status = ST_OK;
    if (s->table == NULL || gd_tensor_dim(s->table, 0) < length || gd_tensor_dim(s->table, 1) != width) {
        s->table = gd_tensor_unref(s->table);
        status = sinusoids_make(length, width, &s->table);
    }
    gd_tensor_t *rows = NULL;
    if (status == ST_OK) {
        status = gd_slice(s->table, 0, 0, length, 1, &rows);
    }
    if (status == ST_OK) {
        status = gd_add(x, rows, y_p);
    }
    (void)gd_tensor_unref(rows);
    return status;
}

static void sinusoids_release(gd_module_t *self)
{
    (void)gd_tensor_unref(((sinusoids_t *)self)->table);
}

static const gd_module_ops_t sinusoids_ops = {
    .kind = "sinusoidal_positions", .forward = sinusoids_forward, .release = sinusoids_release};

status_t gd_sinusoidal_positions_new(gd_module_t **module_p)
{
    return gd_module_new(&sinusoids_ops, sizeof(sinusoids_t), module_p);
}
