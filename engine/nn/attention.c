/* SPDX-License-Identifier: Apache-2.0 */
/*
 * attention: multi-head attention with its projections, in three layouts of parameters: packed (ours), PyTorch's
 * MultiheadAttention, and separate ones (Llama, BERT). Where nothing but a causal mask is asked for, queries, keys and
 * values stay side by side and go through gd_attention; else through gd_sdpa.
 */
#include <string.h>

#include "gradd/context.h"
#include "nn/sequence.h"

/* Children by layout: packed: qkv, proj; PyTorch's: out_proj (in_proj are parameters of its own); separate: four. */
enum { CHILD_QKV, CHILD_PROJ };
enum { CHILD_OUT };
enum { CHILD_Q, CHILD_K, CHILD_V, CHILD_O };
enum { IN_PROJ_WEIGHT, IN_PROJ_BIAS };

typedef struct multihead {
    gd_module_t base;
    gd_multihead_options_t options; /* .names aren't kept */
    gd_sequence_t *own, *memory;    /* NULL: none */
} multihead_t;

/* What dropout of the weights draws, beside what dropout of the output does. */
enum { WEIGHT_DROPOUT_STREAM = 1 };

static int64_t key_width(const gd_multihead_options_t *o)
{
    return o->n_key_heads * o->head_width;
}

static int64_t query_width(const gd_multihead_options_t *o)
{
    return o->n_heads * o->head_width;
}

/* columns [from, from + n) of the last axis */
static status_t columns_get(gd_tensor_t *x, int64_t from, int64_t n, gd_tensor_t **y_p)
{
    return gd_slice(x, gd_tensor_n_dims(x) - 1, from, from + n, 1, y_p);
}

/* x through rows [from, from + n) of PyTorch's in_proj */
static status_t in_proj_forward(const multihead_t *m, gd_tensor_t *x, int64_t from, int64_t n, gd_tensor_t **y_p)
{
    gd_tensor_t *weight = m->base.parameters[IN_PROJ_WEIGHT].tensor;
    gd_tensor_t *bias = m->options.has_bias ? m->base.parameters[IN_PROJ_BIAS].tensor : NULL;
    if (n == gd_tensor_dim(weight, 0)) {
        return gd_linear(x, weight, bias, y_p);
    }
    gd_tensor_t *w = NULL;
    gd_tensor_t *b = NULL;
    status_t status = gd_slice(weight, 0, from, from + n, 1, &w);
    if (status == ST_OK && bias != NULL) {
        status = gd_slice(bias, 0, from, from + n, 1, &b);
    }
    if (status == ST_OK) {
        status = gd_linear(x, w, b, y_p);
    }
    (void)gd_tensor_unref(w);
    (void)gd_tensor_unref(b);
    return status;
}

/* packed[B,T,(H+2G)D] → q, k, v */
static status_t packed_split(const gd_multihead_options_t *o, gd_tensor_t *packed, gd_tensor_t *qkv[3])
{
    const int64_t q = query_width(o), k = key_width(o);
    status_t status = columns_get(packed, 0, q, &qkv[0]);
    if (status == ST_OK) {
        status = columns_get(packed, q, k, &qkv[1]);
    }
    if (status == ST_OK) {
        status = columns_get(packed, q + k, k, &qkv[2]);
    }
    return status;
}

static status_t packed_project(multihead_t *m, gd_tensor_t *x, gd_tensor_t **packed_p)
{
    return m->options.layout == GD_MULTIHEAD_PACKED
               ? gd_module_forward(m->base.children[CHILD_QKV], x, packed_p)
               : in_proj_forward(m, x, 0, query_width(&m->options) + 2 * key_width(&m->options), packed_p);
}

/* Queries of x, keys and values of memory, which may be x itself. */
static status_t project(multihead_t *m, gd_tensor_t *x, gd_tensor_t *memory, gd_tensor_t *qkv[3])
{
    const gd_multihead_options_t *o = &m->options;
    gd_tensor_t *packed = NULL;
    status_t status = ST_OK;
    if (o->layout == GD_MULTIHEAD_SEPARATE) {
        for (int i = 0; i < 3 && status == ST_OK; i++) {
            status = gd_module_forward(m->base.children[CHILD_Q + i], i == 0 ? x : memory, &qkv[i]);
        }
        return status;
    }
    if (x == memory) {
        status = packed_project(m, x, &packed);
        if (status == ST_OK) {
            status = packed_split(o, packed, qkv);
        }
    } else if (o->layout == GD_MULTIHEAD_TORCH) {
        status = in_proj_forward(m, x, 0, query_width(o), &qkv[0]);
        if (status == ST_OK) {
            status = in_proj_forward(m, memory, query_width(o), 2 * key_width(o), &packed);
        }
        if (status == ST_OK) {
            status = columns_get(packed, 0, key_width(o), &qkv[1]);
        }
        if (status == ST_OK) {
            status = columns_get(packed, key_width(o), key_width(o), &qkv[2]);
        }
    } else {
        status = ST_FAIL(ST_ERR_UNSUPPORTED, "a packed projection can't attend to another sequence");
    }
    (void)gd_tensor_unref(packed);
    return status;
}

static status_t rotate(const gd_multihead_options_t *o, int n_heads, gd_tensor_t **x_p)
{
    const gd_rope_options_t rope = {
        .n_heads = n_heads,
        .rotated = o->rope_rotated,
        .is_interleaved = o->is_rope_interleaved,
        .theta = o->rope_theta,
        .scaling = o->rope_scaling,
        .old_context = o->rope_old_context,
        .low_factor = o->rope_low_factor,
        .high_factor = o->rope_high_factor,
    };
    gd_tensor_t *turned = NULL;
    status_t status = gd_rope(*x_p, &rope, &turned);
    if (status == ST_OK) {
        (void)gd_tensor_unref(*x_p);
        *x_p = turned;
    }
    return status;
}

/* Whether gd_attention does all that is asked for. */
static bool is_plain(const gd_multihead_options_t *o, const gd_multihead_masks_t *masks)
{
    const bool drops = o->weight_dropout > 0 && gd_training_is_on();
    return masks->mask == NULL && masks->lengths == NULL && !drops && o->rope_theta <= 0 && !o->has_alibi &&
           o->window == 0 && o->scale <= 0 && o->n_key_heads == o->n_heads && o->layout != GD_MULTIHEAD_SEPARATE;
}

/* What the heads give, [B,T,H·D]. */
static status_t heads_forward(multihead_t *m, gd_tensor_t *x, gd_tensor_t *memory, const gd_multihead_masks_t *masks,
                              gd_tensor_t **y_p)
{
    const gd_multihead_options_t *o = &m->options;
    gd_tensor_t *qkv[3] = {NULL};
    if (x == memory && is_plain(o, masks)) {
        status_t status = packed_project(m, x, &qkv[0]);
        if (status == ST_OK) {
            status = gd_attention(qkv[0], o->n_heads, o->is_causal, y_p);
        }
        (void)gd_tensor_unref(qkv[0]);
        return status;
    }
    status_t status = project(m, x, memory, qkv);
    if (status == ST_OK && o->rope_theta > 0) {
        status = rotate(o, o->n_heads, &qkv[0]);
        if (status == ST_OK) {
            status = rotate(o, o->n_key_heads, &qkv[1]);
        }
    }
    if (status == ST_OK) {
        const gd_sdpa_options_t options = {
            .n_heads = o->n_heads,
            .n_key_heads = o->n_key_heads,
            .is_causal = o->is_causal,
            .has_alibi = o->has_alibi,
            .window = o->window,
            .scale = o->scale,
            .dropout = gd_training_is_on() ? o->weight_dropout : 0,
            .rng = gd_rng_key(m->base.layer + WEIGHT_DROPOUT_STREAM, 0),
            .mask = masks->mask,
            .lengths = masks->lengths,
        };
        status = gd_sdpa(qkv[0], qkv[1], qkv[2], &options, y_p);
    }
    for (int i = 0; i < 3; i++) {
        (void)gd_tensor_unref(qkv[i]);
    }
    return status;
}

status_t gd_multihead_attend(gd_module_t *module, gd_tensor_t *x, gd_tensor_t *memory,
                             const gd_multihead_masks_t *masks, gd_tensor_t **y_p)
{
    multihead_t *m = (multihead_t *)module;
    static const gd_multihead_masks_t none = {0};
    static const int out_child[GD_MULTIHEAD_COUNT] = {
        [GD_MULTIHEAD_PACKED] = CHILD_PROJ, [GD_MULTIHEAD_TORCH] = CHILD_OUT, [GD_MULTIHEAD_SEPARATE] = CHILD_O};
    gd_tensor_t *heads = NULL;
    gd_tensor_t *y = NULL;
    status_t status = heads_forward(m, x, memory != NULL ? memory : x, masks != NULL ? masks : &none, &heads);
    if (status == ST_OK) {
        status = gd_module_forward(module->children[out_child[m->options.layout]], heads, &y);
    }
    (void)gd_tensor_unref(heads);
    if (status != ST_OK) {
        return status;
    }
    if (m->options.dropout > 0 && gd_training_is_on()) {
        status = gd_dropout(y, m->options.dropout, gd_rng_key(module->layer, 0), y_p);
        (void)gd_tensor_unref(y);
        return status;
    }
    *y_p = y;
    return ST_OK;
}

static status_t multihead_forward(gd_module_t *self, gd_tensor_t *x, gd_tensor_t **y_p)
{
    const multihead_t *m = (const multihead_t *)self;
    gd_tensor_t *memory = NULL;
    gd_multihead_masks_t masks = {0};
    status_t status = m->memory != NULL ? gd_sequence_get_memory(m->memory, &memory) : ST_OK;
    if (status == ST_OK) {
        status = gd_sequence_get_masks(m->memory != NULL ? m->memory : m->own, memory != NULL ? memory : x, &masks);
    }
    return status == ST_OK ? gd_multihead_attend(self, x, memory, &masks, y_p) : status;
}

static void multihead_release(gd_module_t *self)
{
    gd_multihead_set_sequences(self, NULL, NULL);
}

static void multihead_describe(const gd_module_t *self, strbuf_t *text)
{
    const gd_multihead_options_t *o = &((const multihead_t *)self)->options;
    strbuf_appendf(text, "heads %d%s", o->n_heads, o->is_causal ? ", causal" : "");
    if (o->n_key_heads != o->n_heads) {
        strbuf_appendf(text, ", heads of keys %d", o->n_key_heads);
    }
    if (o->rope_theta > 0) {
        strbuf_appendf(text, ", rope %g", o->rope_theta);
        if (o->rope_scaling > 0) {
            strbuf_appendf(text, " scaled by %g", o->rope_scaling);
        }
    }
    if (o->window > 0) {
        strbuf_appendf(text, ", window %lld", (long long)o->window);
    }
    strbuf_append(text, o->has_alibi ? ", alibi" : "");
    if (o->weight_dropout > 0) {
        strbuf_appendf(text, ", weight dropout %g", o->weight_dropout);
    }
    if (o->dropout > 0) {
        strbuf_appendf(text, ", dropout %g", o->dropout);
    }
}

static const gd_module_ops_t multihead_ops = {
    .kind = "attention", .forward = multihead_forward, .release = multihead_release, .describe = multihead_describe};

void gd_multihead_set_sequences(gd_module_t *module, gd_sequence_t *own, gd_sequence_t *memory)
{
    multihead_t *m = (multihead_t *)module;
    sequence_put(&m->own, own);
    sequence_put(&m->memory, memory);
}

static status_t options_check(const gd_multihead_options_t *o)
{
    if (o->width < 1 || o->n_heads < 1 || o->n_key_heads < 1 || o->head_width < 1) {
        return ST_FAIL(ST_ERR_SHAPE, "attention: %d heads don't divide the width %lld", o->n_heads,
                       (long long)o->width);
    }
    if (o->n_heads % o->n_key_heads != 0) {
        return ST_FAIL(ST_ERR_SHAPE, "attention: %d heads can't share %d heads of keys", o->n_heads, o->n_key_heads);
    }
    if (o->layout == GD_MULTIHEAD_TORCH && (o->n_key_heads != o->n_heads || query_width(o) != o->width)) {
        return ST_FAIL(ST_ERR_SHAPE, "attention: PyTorch's layout has heads of width %lld / %d, each with its own keys",
                       (long long)o->width, o->n_heads);
    }
    if (o->rope_theta > 0 && (o->rope_rotated < 2 || o->rope_rotated % 2 != 0 || o->rope_rotated > o->head_width)) {
        return ST_FAIL(ST_ERR_SHAPE, "attention: rope turns pairs: %d features of a head of %lld", o->rope_rotated,
                       (long long)o->head_width);
    }
    if (!(o->dropout >= 0 && o->dropout <= 1) || !(o->weight_dropout >= 0 && o->weight_dropout <= 1)) {
        return ST_FAIL(ST_ERR_RANGE, "attention: dropout %g is not in [0, 1]",
                       o->dropout > 0 ? o->dropout : o->weight_dropout);
    }
    return o->window >= 0 ? ST_OK : ST_FAIL(ST_ERR_RANGE, "attention: a window of %lld", (long long)o->window);
}

static status_t linear_add(gd_module_t *module, const char *name, int64_t n_in, int64_t n_out, bool has_bias)
{
    gd_module_t *linear = NULL;
    status_t status = gd_linear_new(n_in, n_out, has_bias, &linear);
    if (status == ST_OK) {
        status = gd_module_add_child(module, name, linear);
    }
    (void)gd_module_unref(linear);
    return status;
}

static status_t torch_parts_add(gd_module_t *module, const gd_multihead_options_t *o)
{
    const gd_init_t xavier = {.kind = GD_INIT_XAVIER_UNIFORM, .a = 1};
    const gd_init_t zeros = {.kind = GD_INIT_ZEROS};
    const int64_t shape[2] = {3 * o->width, o->width};
    status_t status = gd_module_add_parameter(module, "in_proj_weight", 2, shape, xavier, NULL);
    if (status == ST_OK && o->has_bias) {
        status = gd_module_add_parameter(module, "in_proj_bias", 1, shape, zeros, NULL);
    }
    if (status == ST_OK) {
        status = linear_add(module, "out_proj", o->width, o->width, o->has_bias);
    }
    return status == ST_OK && o->has_bias ? gd_module_set_init(module->children[CHILD_OUT], "bias", zeros) : status;
}

static status_t parts_add(gd_module_t *module, const gd_multihead_options_t *o)
{
    static const char *const llama[4] = {"q_proj", "k_proj", "v_proj", "o_proj"};
    const int64_t q = query_width(o), k = key_width(o);
    if (o->layout == GD_MULTIHEAD_TORCH) {
        return torch_parts_add(module, o);
    }
    if (o->layout == GD_MULTIHEAD_PACKED) {
        status_t status = linear_add(module, "qkv", o->width, q + 2 * k, o->has_bias);
        return status == ST_OK ? linear_add(module, "proj", q, o->width, o->has_bias) : status;
    }
    status_t status = ST_OK;
    for (int i = 0; i < 4 && status == ST_OK; i++) {
        status = linear_add(module, o->names[i] != NULL ? o->names[i] : llama[i], i == CHILD_O ? q : o->width,
                            i == CHILD_O   ? o->width
                            : i == CHILD_Q ? q
                                           : k,
                            o->has_bias);
    }
    return status;
}

status_t gd_multihead_new(const gd_multihead_options_t *options, gd_module_t **module_p)
{
    gd_multihead_options_t o = *options;
    if ((unsigned)o.layout >= GD_MULTIHEAD_COUNT) {
        return ST_FAIL(ST_ERR_INVAL, "attention: %d is no layout", (int)o.layout);
    }
    o.n_key_heads = o.n_key_heads != 0 ? o.n_key_heads : o.n_heads;
    if (o.head_width == 0 && o.n_heads > 0 && o.width % o.n_heads == 0) {
        o.head_width = o.width / o.n_heads;
    }
    o.rope_rotated = o.rope_rotated != 0 ? o.rope_rotated : (int)o.head_width;
    status_t status = options_check(&o);
    if (status != ST_OK) {
        return status;
    }
    gd_module_t *module = NULL;
    status = gd_module_new(&multihead_ops, sizeof(multihead_t), &module);
    if (status != ST_OK) {
        return status;
    }
    status = parts_add(module, &o);
    if (status != ST_OK) {
        (void)gd_module_unref(module);
        return status;
    }
    memset(o.names, 0, sizeof(o.names));
    ((multihead_t *)module)->options = o;
    *module_p = module;
    return ST_OK;
}

status_t gd_attention_new(int64_t width, int n_heads, bool is_causal, bool has_bias, double dropout,
                          gd_module_t **module_p)
{
    const gd_multihead_options_t options = {
        .width = width, .n_heads = n_heads, .is_causal = is_causal, .has_bias = has_bias, .dropout = dropout};
    return gd_multihead_new(&options, module_p);
}

/* ---- attention without its projections ---- */

typedef struct attend {
    gd_module_t base;
    int n_heads;
    bool is_causal;
    gd_sequence_t *own;
} attend_t;

static status_t attend_forward(gd_module_t *self, gd_tensor_t *qkv, gd_tensor_t **y_p)
{
    const attend_t *a = (const attend_t *)self;
    gd_multihead_masks_t masks = {0};
    status_t status = gd_sequence_get_masks(a->own, qkv, &masks);
    if (status != ST_OK) {
        return status;
    }
    if ((masks.mask == NULL && masks.lengths == NULL) || gd_tensor_n_dims(qkv) != 3 || gd_tensor_dim(qkv, 2) % 3 != 0) {
        return gd_attention(qkv, a->n_heads, a->is_causal, y_p);
    }
    const gd_sdpa_options_t options = {
        .n_heads = a->n_heads, .is_causal = a->is_causal, .mask = masks.mask, .lengths = masks.lengths};
    const int64_t width = gd_tensor_dim(qkv, 2) / 3;
    gd_tensor_t *part[3] = {NULL};
    for (int i = 0; i < 3 && status == ST_OK; i++) {
        status = columns_get(qkv, i * width, width, &part[i]);
    }
    if (status == ST_OK) {
        status = gd_sdpa(part[0], part[1], part[2], &options, y_p);
    }
    for (int i = 0; i < 3; i++) {
        (void)gd_tensor_unref(part[i]);
    }
    return status;
}

static void attend_release(gd_module_t *self)
{
    gd_attend_set_sequence(self, NULL);
}

static void attend_describe(const gd_module_t *self, strbuf_t *text)
{
    const attend_t *a = (const attend_t *)self;
    strbuf_appendf(text, "heads %d%s", a->n_heads, a->is_causal ? ", causal" : "");
}

static const gd_module_ops_t attend_ops = {
    .kind = "attend", .forward = attend_forward, .release = attend_release, .describe = attend_describe};

status_t gd_attend_new(int n_heads, bool is_causal, gd_module_t **module_p)
{
    if (n_heads < 1) {
        return ST_FAIL(ST_ERR_RANGE, "attend: %d heads", n_heads);
    }
    status_t status = gd_module_new(&attend_ops, sizeof(attend_t), module_p);
    if (status == ST_OK) {
        ((attend_t *)*module_p)->n_heads = n_heads;
        ((attend_t *)*module_p)->is_causal = is_causal;
    }
    return status;
}

void gd_attend_set_sequence(gd_module_t *module, gd_sequence_t *own)
{
    sequence_put(&((attend_t *)module)->own, own);
}
