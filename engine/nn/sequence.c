/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sequence: padding and memory of the tokens in hand, and the modules that fill and pool them. Padding behind the last
 * token, the usual case, is hidden by lengths, which spares the work; only padding before it takes a mask.
 */
#include "nn/sequence.h"

#include <math.h>

#include "base/mem.h"
#include "gradd/context.h"
#include "nn/fail.h"

status_t gd_sequence_new(int64_t padding, gd_sequence_t **sequence_p)
{
    gd_sequence_t *s = mem_zalloc(sizeof(*s));
    if (s == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "sequence");
    }
    s->n_refs = 1;
    s->padding = padding < 0 ? -1 : padding;
    s->batch = -1;
    *sequence_p = s;
    return ST_OK;
}

gd_sequence_t *gd_sequence_ref(gd_sequence_t *sequence)
{
    sequence->n_refs++;
    return sequence;
}

static void look_forget(gd_sequence_t *s)
{
    s->lengths = gd_tensor_unref(s->lengths);
    s->mask = gd_tensor_unref(s->mask);
    s->kept = gd_tensor_unref(s->kept);
    s->batch = -1;
}

gd_sequence_t *gd_sequence_unref(gd_sequence_t *sequence)
{
    if (sequence != NULL && --sequence->n_refs == 0) {
        look_forget(sequence);
        (void)gd_tensor_unref(sequence->memory);
        mem_free(sequence);
    }
    return NULL;
}

/* ---- looking ---- */

/* Where padding is: whether there is any, and whether some of it lies before a token. */
static void padding_find(const gd_sequence_t *s, const int64_t *tokens, int64_t batch, int64_t length, bool *is_any_p,
                         bool *is_inside_p)
{
    for (int64_t b = 0; b < batch; b++) {
        bool is_behind = true;
        for (int64_t t = length - 1; t >= 0; t--) {
            const bool is_padding = tokens[b * length + t] == s->padding;
            *is_any_p |= is_padding;
            *is_inside_p |= is_padding && !is_behind;
            is_behind = is_behind && is_padding;
        }
    }
}

static void padding_fill(const gd_sequence_t *s, const int64_t *tokens)
{
    int64_t *lengths = gd_tensor_data(s->lengths);
    float *kept = gd_tensor_data(s->kept);
    float *mask = s->mask != NULL ? gd_tensor_data(s->mask) : NULL;
    for (int64_t b = 0; b < s->batch; b++) {
        lengths[b] = 0;
        for (int64_t t = 0; t < s->length; t++) {
            const int64_t i = b * s->length + t;
            const bool is_token = tokens[i] != s->padding;
            lengths[b] = is_token ? t + 1 : lengths[b];
            kept[i] = is_token ? 1.0F : 0.0F;
            if (mask != NULL) {
                mask[i] = is_token ? 0.0F : -INFINITY;
            }
        }
    }
}

static status_t look_take(gd_sequence_t *s, gd_tensor_t *tokens)
{
    const int64_t batch = gd_tensor_dim(tokens, 0), length = gd_tensor_dim(tokens, 1);
    bool is_any = false;
    bool is_inside = false;
    padding_find(s, gd_tensor_data(tokens), batch, length, &is_any, &is_inside);
    status_t status = ST_OK;
    if (is_any) {
        status = gd_tensor_new(GD_DTYPE_I64, 1, &batch, &s->lengths);
        if (status == ST_OK) {
            status = gd_tensor_new(GD_DTYPE_F32, 2, (const int64_t[2]){batch, length}, &s->kept);
        }
    }
    if (status == ST_OK && is_inside) {
        status = gd_tensor_new(GD_DTYPE_F32, 4, (const int64_t[4]){batch, 1, 1, length}, &s->mask);
    }
    if (status == ST_OK) {
        s->batch = batch;
        s->length = length;
    }
    if (status == ST_OK && is_any) {
        padding_fill(s, gd_tensor_data(tokens));
    }
    return status;
}

status_t gd_sequence_look(gd_sequence_t *sequence, gd_tensor_t *tokens)
{
    look_forget(sequence);
    if (gd_tensor_n_dims(tokens) != 2) {
        return module_fail_shape(tokens, ", not tokens [B, T]");
    }
    if (gd_tensor_dtype(tokens) != GD_DTYPE_I64) {
        return ST_FAIL(ST_ERR_DTYPE, "tokens are %s, i64 is needed", gd_dtype_name(gd_tensor_dtype(tokens)));
    }
    gd_tensor_t *dense = NULL;
    status_t status = gd_contiguous(tokens, &dense);
    if (status == ST_OK) {
        status = look_take(sequence, dense);
    }
    if (status != ST_OK) {
        look_forget(sequence);
    }
    (void)gd_tensor_unref(dense);
    return status;
}

/* ---- reading ---- */

void gd_sequence_set_memory(gd_sequence_t *sequence, gd_tensor_t *memory)
{
    gd_tensor_t *before = sequence->memory;
    sequence->memory = memory != NULL ? gd_tensor_ref(memory) : NULL;
    (void)gd_tensor_unref(before);
}

status_t gd_sequence_get_memory(const gd_sequence_t *sequence, gd_tensor_t **memory_p)
{
    if (sequence->memory == NULL) {
        return ST_FAIL(ST_ERR_STATE, "no encoder has given a memory");
    }
    *memory_p = sequence->memory;
    return ST_OK;
}

status_t sequence_check(const gd_sequence_t *sequence, const gd_tensor_t *x)
{
    if (sequence->batch < 0) {
        return ST_FAIL(ST_ERR_STATE, "no tokens have been seen, so that which are padding isn't known");
    }
    if (gd_tensor_n_dims(x) >= 2 && gd_tensor_dim(x, 0) == sequence->batch && gd_tensor_dim(x, 1) == sequence->length) {
        return ST_OK;
    }
    return module_fail_shape(x, ", but the tokens that say what is padding are [%lld, %lld]",
                             (long long)sequence->batch, (long long)sequence->length);
}

status_t gd_sequence_get_masks(const gd_sequence_t *sequence, const gd_tensor_t *keys, gd_multihead_masks_t *masks_p)
{
    gd_multihead_masks_t masks = {0};
    if (sequence != NULL && sequence->padding >= 0) {
        status_t status = sequence_check(sequence, keys);
        if (status != ST_OK) {
            return status;
        }
        masks = (gd_multihead_masks_t){.mask = sequence->mask, .lengths = sequence->lengths};
    }
    *masks_p = masks;
    return ST_OK;
}

/* ---- the tokens ---- */

typedef struct padding {
    gd_module_t base;
    gd_sequence_t *sequence;
} padding_t;

static status_t padding_forward(gd_module_t *self, gd_tensor_t *x, gd_tensor_t **y_p)
{
    status_t status = gd_sequence_look(((padding_t *)self)->sequence, x);
    if (status == ST_OK) {
        *y_p = gd_tensor_ref(x);
    }
    return status;
}

static void padding_release(gd_module_t *self)
{
    (void)gd_sequence_unref(((padding_t *)self)->sequence);
}

static void padding_describe(const gd_module_t *self, strbuf_t *text)
{
    strbuf_appendf(text, "token %lld", (long long)((const padding_t *)self)->sequence->padding);
}

static const gd_module_ops_t padding_ops = {
    .kind = "padding", .forward = padding_forward, .release = padding_release, .describe = padding_describe};

status_t gd_padding_new(gd_sequence_t *sequence, gd_module_t **module_p)
{
    status_t status = gd_module_new(&padding_ops, sizeof(padding_t), module_p);
    if (status == ST_OK) {
        ((padding_t *)*module_p)->sequence = gd_sequence_ref(sequence);
    }
    return status;
}

/* ---- pooling ---- */

typedef struct pool_tokens {
    gd_module_t base;
    gd_sequence_t *sequence;
    bool is_mean;
    int64_t index;
} pool_tokens_t;

/* What each place counts, one sample's kept[T] (NULL: all of them) → weight[T]. */
static void weights_fill(const pool_tokens_t *p, const float *kept, int64_t length, float *weight)
{
    int64_t n = 0;
    for (int64_t t = 0; t < length; t++) {
        n += kept == NULL || kept[t] > 0.0F;
    }
    const int64_t wanted = p->index < 0 ? n + p->index : p->index;
    int64_t place = 0;
    for (int64_t t = 0; t < length; t++) {
        const bool is_token = kept == NULL || kept[t] > 0.0F;
        const float one = p->is_mean ? 1.0F / (float)n : place == wanted ? 1.0F : 0.0F;
        weight[t] = is_token ? one : 0.0F;
        place += is_token;
    }
}

static status_t weights_make(const pool_tokens_t *p, const gd_tensor_t *x, gd_tensor_t **weight_p)
{
    const gd_sequence_t *s = p->sequence;
    gd_tensor_t *weight = NULL;
    status_t status = sequence_check(s, x);
    if (status == ST_OK) {
        status = gd_tensor_new(GD_DTYPE_F32, 3, (const int64_t[3]){s->batch, s->length, 1}, &weight);
    }
    if (status != ST_OK) {
        return status;
    }
    const float *kept = s->kept != NULL ? gd_tensor_data(s->kept) : NULL;
    float *data = gd_tensor_data(weight);
    for (int64_t b = 0; b < s->batch; b++) {
        weights_fill(p, kept != NULL ? kept + b * s->length : NULL, s->length, data + b * s->length);
    }
    *weight_p = weight;
    return ST_OK;
}

/* y[B,C] = sum_t weight[B,t] x[B,t,C] */
static status_t pool_tokens_forward(gd_module_t *self, gd_tensor_t *x, gd_tensor_t **y_p)
{
    gd_tensor_t *weight = NULL;
    gd_tensor_t *wide = NULL;
    gd_tensor_t *product = NULL;
    const int axis = 1;
    if (gd_tensor_n_dims(x) != 3) {
        return module_fail_shape(x, ", not [B, T, C]");
    }
    status_t status = weights_make((const pool_tokens_t *)self, x, &weight);
    if (status == ST_OK) {
        status = gd_cast(x, GD_DTYPE_F32, &wide);
    }
    if (status == ST_OK) {
        status = gd_mul(wide, weight, &product);
    }
    if (status == ST_OK) {
        status = gd_sum(product, 1, &axis, false, y_p);
    }
    (void)gd_tensor_unref(product);
    (void)gd_tensor_unref(wide);
    (void)gd_tensor_unref(weight);
    return status;
}

static void pool_tokens_release(gd_module_t *self)
{
    (void)gd_sequence_unref(((pool_tokens_t *)self)->sequence);
}

static void pool_tokens_describe(const gd_module_t *self, strbuf_t *text)
{
    const pool_tokens_t *p = (const pool_tokens_t *)self;
    if (p->is_mean) {
        strbuf_append(text, "mean");
    } else {
        strbuf_appendf(text, "number %lld", (long long)p->index);
    }
}

static const gd_module_ops_t pool_tokens_ops = {.kind = "pool_tokens",
                                                .forward = pool_tokens_forward,
                                                .release = pool_tokens_release,
                                                .describe = pool_tokens_describe};

status_t gd_pool_tokens_new(gd_sequence_t *sequence, bool is_mean, int64_t index, gd_module_t **module_p)
{
    status_t status = gd_module_new(&pool_tokens_ops, sizeof(pool_tokens_t), module_p);
    if (status == ST_OK) {
        pool_tokens_t *p = (pool_tokens_t *)*module_p;
        p->sequence = gd_sequence_ref(sequence);
        p->is_mean = is_mean;
        p->index = index;
    }
    return status;
}

/* ---- encoder and decoder ---- */

enum { CHILD_ENCODER, CHILD_DECODER, N_CHILDREN };

typedef struct encoder_decoder {
    gd_module_t base;
    int64_t n_source;
    gd_sequence_t *source, *target;
} encoder_decoder_t;

/* Columns [from, to) of tokens[B,·], looked at. */
static status_t part_take(gd_sequence_t *sequence, gd_tensor_t *tokens, int64_t from, int64_t to, gd_tensor_t **part_p)
{
    gd_tensor_t *view = NULL;
    gd_tensor_t *part = NULL;
    status_t status = gd_slice(tokens, 1, from, to, 1, &view);
    if (status == ST_OK) {
        status = gd_contiguous(view, &part);
    }
    if (status == ST_OK) {
        status = gd_sequence_look(sequence, part);
    }
    (void)gd_tensor_unref(view);
    if (status != ST_OK) {
        (void)gd_tensor_unref(part);
        return status;
    }
    *part_p = part;
    return ST_OK;
}

static status_t encoder_decoder_forward(gd_module_t *self, gd_tensor_t *x, gd_tensor_t **y_p)
{
    const encoder_decoder_t *e = (const encoder_decoder_t *)self;
    if (self->n_children != N_CHILDREN) {
        return ST_FAIL(ST_ERR_STATE, "%d children: an encoder and a decoder are needed", self->n_children);
    }
    if (gd_tensor_n_dims(x) != 2 || gd_tensor_dim(x, 1) <= e->n_source) {
        return module_fail_shape(x, ", not tokens [B, T] with more than the source's %lld", (long long)e->n_source);
    }
    gd_tensor_t *source = NULL;
    gd_tensor_t *target = NULL;
    gd_tensor_t *memory = NULL;
    status_t status = part_take(e->source, x, 0, e->n_source, &source);
    if (status == ST_OK) {
        status = part_take(e->target, x, e->n_source, gd_tensor_dim(x, 1), &target);
    }
    if (status == ST_OK) {
        status = gd_module_forward(self->children[CHILD_ENCODER], source, &memory);
    }
    if (status == ST_OK) {
        gd_sequence_set_memory(e->source, memory);
        status = gd_module_forward(self->children[CHILD_DECODER], target, y_p);
    }
    (void)gd_tensor_unref(memory);
    (void)gd_tensor_unref(target);
    (void)gd_tensor_unref(source);
    return status;
}

static void encoder_decoder_release(gd_module_t *self)
{
    encoder_decoder_t *e = (encoder_decoder_t *)self;
    (void)gd_sequence_unref(e->source);
    (void)gd_sequence_unref(e->target);
}

static void encoder_decoder_describe(const gd_module_t *self, strbuf_t *text)
{
    strbuf_appendf(text, "source %lld", (long long)((const encoder_decoder_t *)self)->n_source);
}

static const gd_module_ops_t encoder_decoder_ops = {.kind = "encoder_decoder",
                                                    .forward = encoder_decoder_forward,
                                                    .release = encoder_decoder_release,
                                                    .describe = encoder_decoder_describe};

gd_sequence_t *gd_encoder_decoder_source(const gd_module_t *module)
{
    return ((const encoder_decoder_t *)module)->source;
}

gd_sequence_t *gd_encoder_decoder_target(const gd_module_t *module)
{
    return ((const encoder_decoder_t *)module)->target;
}

status_t gd_encoder_decoder_new(int64_t n_source, int64_t padding, gd_module_t **module_p)
{
    if (n_source < 1) {
        return ST_FAIL(ST_ERR_RANGE, "encoder_decoder: a source of %lld tokens", (long long)n_source);
    }
    gd_module_t *module = NULL;
    status_t status = gd_module_new(&encoder_decoder_ops, sizeof(encoder_decoder_t), &module);
    if (status != ST_OK) {
        return status;
    }
    encoder_decoder_t *e = (encoder_decoder_t *)module;
    e->n_source = n_source;
    status = gd_sequence_new(padding, &e->source);
    if (status == ST_OK) {
        status = gd_sequence_new(padding, &e->target);
    }
    if (status != ST_OK) {
        (void)gd_module_unref(module);
        return status;
    }
    *module_p = module;
    return ST_OK;
}
