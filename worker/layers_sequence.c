/* SPDX-License-Identifier: Apache-2.0 */
/* layers_sequence: recurrent layers, attention with options, and what transformers are made of. */
#include <string.h>

#include "worker/model_build.h"

static status_t vectors_check(const model_build_t *build, const Gradd__V1__Layer *layer, const wrk_shape_t *shape)
{
    if (shape->dtype != GD_DTYPE_F32 || shape->n_dims != 2) {
        return model_fail_input(build, layer, shape, "wants vectors [B, T, C]");
    }
    return model_range_check(layer, "its input's width", shape->size[1], 1, WRK_MODEL_MAX_WIDTH);
}

/* What the layer reads of the tokens: their padding, and in a decoder the encoder's result. */
static status_t tokens_check(const model_build_t *build, const Gradd__V1__Layer *layer, const wrk_shape_t *shape,
                             bool has_memory)
{
    status_t status = has_memory ? model_memory_check(build, layer, shape) : ST_OK;
    return status == ST_OK ? model_padding_check(build, layer, shape) : status;
}

static gd_sequence_t *own_tokens(const model_build_t *build)
{
    return build->own.has_padding ? build->own.sequence : NULL;
}

static void multihead_tell(const model_build_t *build, bool has_memory, gd_module_t *module)
{
    gd_multihead_set_sequences(module, own_tokens(build), has_memory ? build->source.sequence : NULL);
}

/* Sets how every matrix in the module begins. */
static status_t matrices_init(gd_module_t *module, const Gradd__V1__Init *init)
{
    status_t status = ST_OK;
    for (int i = 0; i < module->n_parameters && status == ST_OK; i++) {
        if (gd_tensor_n_dims(module->parameters[i].tensor) == 2) {
            status = model_init_apply(module, module->parameters[i].name, init);
        }
    }
    for (int i = 0; i < module->n_children && status == ST_OK; i++) {
        status = matrices_init(module->children[i], init);
    }
    return status;
}

/* ---- recurrent ---- */

typedef struct recurrent_inits {
    bool is_packed;
    const Gradd__V1__Init *input, *recurrent, *bias;
} recurrent_inits_t;

static recurrent_inits_t recurrent_inits(const Gradd__V1__Layer *layer)
{
    if (layer->kind_case == GRADD__V1__LAYER__KIND_RNN) {
        const Gradd__V1__Layer__Rnn *rnn = layer->rnn;
        return (recurrent_inits_t){rnn->packed, rnn->init, rnn->recurrent_init, rnn->bias_init};
    }
    const bool is_lstm = layer->kind_case == GRADD__V1__LAYER__KIND_LSTM;
    const Gradd__V1__Layer__Recurrent *r = is_lstm ? layer->lstm : layer->gru;
    return (recurrent_inits_t){r->packed, r->init, r->recurrent_init, r->bias_init};
}

/* weight_ih_…, weight_hh_… and weight_hr_…, bias_… */
static status_t recurrent_init(gd_module_t *module, const recurrent_inits_t *inits)
{
    status_t status = ST_OK;
    for (int i = 0; i < module->n_parameters && status == ST_OK; i++) {
        const char *name = module->parameters[i].name;
        status = model_init_apply(module, name,
                                  strncmp(name, "bias", 4) == 0        ? inits->bias
                                  : strncmp(name, "weight_ih", 9) == 0 ? inits->input
                                                                       : inits->recurrent);
    }
    return status;
}

/* What the YAML says, as options; rnn and lstm or gru are messages of their own. */
static gd_recurrent_options_t recurrent_options(const Gradd__V1__Layer *layer)
{
    if (layer->kind_case == GRADD__V1__LAYER__KIND_RNN) {
        const Gradd__V1__Layer__Rnn *rnn = layer->rnn;
        return (gd_recurrent_options_t){
            .kind = rnn->activation == GRADD__V1__LAYER__RNN__ACTIVATION__relu ? GD_RNN_RELU : GD_RNN_TANH,
            .width = rnn->width,
            .layers = rnn->depth,
            .is_bidirectional = rnn->bidirectional,
            .has_bias = rnn->bias,
            .dropout = rnn->dropout,
        };
    }
    const bool is_lstm = layer->kind_case == GRADD__V1__LAYER__KIND_LSTM;
    const Gradd__V1__Layer__Recurrent *recurrent = is_lstm ? layer->lstm : layer->gru;
    return (gd_recurrent_options_t){
        .kind = is_lstm ? GD_RNN_LSTM : GD_RNN_GRU,
        .width = recurrent->width,
        .layers = recurrent->depth,
        .is_bidirectional = recurrent->bidirectional,
        .has_bias = recurrent->bias,
        .dropout = recurrent->dropout,
        .projection = recurrent->projection,
    };
}

static status_t recurrent_build(model_build_t *build, const Gradd__V1__Layer *layer, wrk_shape_t *shape,
                                gd_module_t **module_p)
{
    const gd_recurrent_options_t options = recurrent_options(layer);
    const int64_t directions = options.is_bidirectional ? 2 : 1;
    const int64_t out = options.projection > 0 ? options.projection : options.width;
    const int64_t gates = options.kind == GD_RNN_LSTM ? 4 : options.kind == GD_RNN_GRU ? 3 : 1;
    const recurrent_inits_t inits = recurrent_inits(layer);
    gd_module_t *module = NULL;
    status_t status = vectors_check(build, layer, shape);
    if (status == ST_OK && inits.is_packed) {
        status = build->own.has_padding ? model_padding_check(build, layer, shape)
                                        : model_fail(ST_ERR_INVAL, layer, "packed: the model names no padding token");
    }
    if (status == ST_OK) {
        status = model_range_check(layer, "width", options.width, 1, WRK_MODEL_MAX_WIDTH);
    }
    if (status == ST_OK) {
        status = model_range_check(layer, "depth", options.layers, 1, 1024);
    }
    for (int64_t i = 0; i < directions * options.layers && status == ST_OK; i++) {
        const int64_t in = i < directions ? shape->size[1] : out * directions;
        status = model_add_parameters(build, layer, gates * options.width, in + out + 2);
        if (status == ST_OK && options.projection > 0) {
            status = model_add_parameters(build, layer, options.projection, options.width);
        }
    }
    if (status == ST_OK) {
        status = gd_recurrent_new(shape->size[1], &options, &module);
        status = status == ST_OK ? ST_OK : model_add_place(status, layer);
    }
    if (status == ST_OK && inits.is_packed) {
        gd_recurrent_set_sequence(module, build->own.sequence);
    }
    if (status == ST_OK) {
        status = recurrent_init(module, &inits);
    }
    if (status != ST_OK) {
        (void)gd_module_unref(module);
        return status;
    }
    shape->size[1] = out * directions;
    *module_p = module;
    return ST_OK;
}

/* ---- attention ---- */

static status_t heads_check(const model_build_t *build, const Gradd__V1__Layer *layer, const wrk_shape_t *shape,
                            int64_t heads)
{
    status_t status = vectors_check(build, layer, shape);
    if (status == ST_OK) {
        status = model_range_check(layer, "heads", heads, 1, WRK_MODEL_MAX_WIDTH);
    }
    if (status == ST_OK && shape->size[1] % heads != 0) {
        status = model_fail_input(build, layer, shape, "wants a width that its %lld heads divide", (long long)heads);
    }
    return status;
}

/* No name may be empty; two alike are refused where the parts are added. */
static status_t names_check(const Gradd__V1__Layer *layer, size_t n, char *const *names)
{
    for (size_t i = 0; i < n; i++) {
        if (names[i][0] == '\0') {
            return model_fail(ST_ERR_INVAL, layer, "name %zu of its parts is empty", i);
        }
    }
    return ST_OK;
}

static status_t rope_scaling_set(const Gradd__V1__Layer *layer, const Gradd__V1__Layer__RopeScaling *scaling,
                                 gd_multihead_options_t *o)
{
    if (scaling == NULL || scaling->factor == 1) {
        return ST_OK;
    }
    o->rope_scaling = scaling->factor;
    if (scaling->type == GRADD__V1__LAYER__ROPE_SCALING__TYPE__linear) {
        return ST_OK;
    }
    o->rope_old_context = scaling->original_max_position_embeddings;
    o->rope_low_factor = scaling->low_freq_factor;
    o->rope_high_factor = scaling->high_freq_factor;
    return o->rope_high_factor > o->rope_low_factor
               ? ST_OK
               : model_fail(ST_ERR_RANGE, layer, "rope.scaling: high_freq_factor %g is not above low_freq_factor %g",
                            o->rope_high_factor, o->rope_low_factor);
}

static status_t attention_options(const model_build_t *build, const Gradd__V1__Layer *layer, const wrk_shape_t *shape,
                                  gd_multihead_options_t *options_p)
{
    const Gradd__V1__Layer__Attention *attention = layer->attention;
    gd_multihead_options_t o = {
        .layout = attention->n_names > 0 ? GD_MULTIHEAD_SEPARATE : GD_MULTIHEAD_PACKED,
        .width = shape->size[1],
        .n_heads = attention->heads,
        .n_key_heads = attention->kv_heads > 0 ? attention->kv_heads : attention->heads,
        .head_width = attention->head_width,
        .has_bias = attention->bias,
        .is_causal = attention->causal,
        .has_alibi = attention->alibi,
        .window = attention->window,
        .scale = attention->scale,
        .weight_dropout = attention->weight_dropout,
        .dropout = attention->dropout,
    };
    status_t status = model_range_check(layer, "heads", o.n_heads, 1, WRK_MODEL_MAX_WIDTH);
    if (status == ST_OK && o.head_width == 0) {
        status = heads_check(build, layer, shape, o.n_heads);
        o.head_width = shape->size[1] / o.n_heads;
    }
    if (status == ST_OK) {
        status = model_range_check(layer, "head_width", o.head_width, 1, WRK_MODEL_MAX_WIDTH);
    }
    if (status == ST_OK && o.n_heads % o.n_key_heads != 0) {
        status = model_fail(ST_ERR_SHAPE, layer, "its %d kv_heads don't divide its %d heads", o.n_key_heads, o.n_heads);
    }
    if (status == ST_OK && attention->rope != NULL) {
        o.rope_theta = attention->rope->theta;
        status = rope_scaling_set(layer, attention->rope->scaling, &o);
        o.is_rope_interleaved = attention->rope->interleaved;
        o.rope_rotated = (int)(attention->rope->fraction * (double)o.head_width / 2) * 2;
        if (status == ST_OK && o.rope_rotated < 2) {
            status = model_fail(ST_ERR_SHAPE, layer, "rope turns pairs: none in %g of its heads' width %lld",
                                attention->rope->fraction, (long long)o.head_width);
        }
    }
    for (size_t i = 0; i < attention->n_names && i < 4; i++) {
        o.names[i] = attention->names[i];
    }
    *options_p = o;
    return status == ST_OK ? names_check(layer, attention->n_names, attention->names) : status;
}

/* Initialises the projections: all but the last child by init, the last one by proj_init. */
static status_t children_init(gd_module_t *module, const Gradd__V1__Init *init, const Gradd__V1__Init *last_init)
{
    status_t status = ST_OK;
    for (int i = 0; i < module->n_children && status == ST_OK; i++) {
        status = model_init_apply(module->children[i], "weight", i + 1 < module->n_children ? init : last_init);
    }
    return status;
}

static status_t attention_build(model_build_t *build, const Gradd__V1__Layer *layer, wrk_shape_t *shape,
                                gd_module_t **module_p)
{
    const Gradd__V1__Layer__Attention *attention = layer->attention;
    gd_multihead_options_t options;
    status_t status = vectors_check(build, layer, shape);
    if (status == ST_OK) {
        status = tokens_check(build, layer, shape, attention->memory);
    }
    if (status == ST_OK && attention->memory && attention->n_names == 0) {
        status = model_fail(ST_ERR_INVAL, layer, "with memory its projections need names");
    }
    if (status == ST_OK) {
        status = attention_options(build, layer, shape, &options);
    }
    if (status == ST_OK) {
        const int64_t queries = options.n_heads * options.head_width;
        const int64_t keys = options.n_key_heads * options.head_width;
        status = model_add_parameters(build, layer, 2 * (queries + keys), shape->size[1] + 1);
    }
    gd_module_t *module = NULL;
    if (status == ST_OK) {
        status = gd_multihead_new(&options, &module);
        status = status == ST_OK ? ST_OK : model_add_place(status, layer);
    }
    if (status == ST_OK) {
        multihead_tell(build, attention->memory, module);
        status = children_init(module, attention->init, attention->proj_init);
    }
    if (status != ST_OK) {
        (void)gd_module_unref(module);
        return status;
    }
    *module_p = module;
    return ST_OK;
}

static status_t multihead_attention_build(model_build_t *build, const Gradd__V1__Layer *layer, wrk_shape_t *shape,
                                          gd_module_t **module_p)
{
    const Gradd__V1__Layer__MultiheadAttention *attention = layer->multihead_attention;
    const gd_multihead_options_t options = {
        .layout = GD_MULTIHEAD_TORCH,
        .width = shape->size[1],
        .n_heads = attention->heads,
        .has_bias = attention->bias,
        .is_causal = attention->causal,
        .weight_dropout = attention->dropout,
    };
    gd_module_t *module = NULL;
    status_t status = heads_check(build, layer, shape, attention->heads);
    if (status == ST_OK) {
        status = tokens_check(build, layer, shape, attention->memory);
    }
    if (status == ST_OK) {
        status = model_add_parameters(build, layer, 4 * shape->size[1], shape->size[1] + 1);
    }
    if (status == ST_OK) {
        status = gd_multihead_new(&options, &module);
        status = status == ST_OK ? ST_OK : model_add_place(status, layer);
    }
    if (status == ST_OK) {
        multihead_tell(build, attention->memory, module);
        status = model_init_apply(module, "in_proj_weight", attention->init);
    }
    if (status == ST_OK) {
        status = children_init(module, NULL, attention->proj_init);
    }
    if (status != ST_OK) {
        (void)gd_module_unref(module);
        return status;
    }
    *module_p = module;
    return ST_OK;
}

/* ---- transformers ---- */

/* What the YAML says, as options; encoder and decoder layers are messages of their own. */
static gd_transformer_options_t transformer_options(const Gradd__V1__Layer *layer, int64_t width,
                                                    const Gradd__V1__Init **init_p)
{
    static const gd_activation_t activations[] = {
        [GRADD__V1__LAYER__TRANSFORMER_ENCODER_LAYER__ACTIVATION__relu] = GD_ACTIVATION_RELU,
        [GRADD__V1__LAYER__TRANSFORMER_ENCODER_LAYER__ACTIVATION__gelu] = GD_ACTIVATION_GELU,
        [GRADD__V1__LAYER__TRANSFORMER_ENCODER_LAYER__ACTIVATION__gelu_tanh] = GD_ACTIVATION_GELU_TANH,
        [GRADD__V1__LAYER__TRANSFORMER_ENCODER_LAYER__ACTIVATION__silu] = GD_ACTIVATION_SILU,
    };
#define OPTIONS(from_x)                                                                                                \
    {                                                                                                                  \
        .width = width, .n_heads = (from_x)->heads, .feedforward = (from_x)->feedforward,                              \
        .dropout = (from_x)->dropout, .activation = activations[(from_x)->activation],                                 \
        .is_norm_first = (from_x)->norm_first, .has_bias = (from_x)->bias, .is_causal = (from_x)->causal,              \
        .epsilon = (from_x)->epsilon,                                                                                  \
    }
    if (layer->kind_case == GRADD__V1__LAYER__KIND_TRANSFORMER_DECODER_LAYER) {
        *init_p = layer->transformer_decoder_layer->init;
        return (gd_transformer_options_t)OPTIONS(layer->transformer_decoder_layer);
    }
    *init_p = layer->transformer_encoder_layer->init;
    return (gd_transformer_options_t)OPTIONS(layer->transformer_encoder_layer);
#undef OPTIONS
}

static status_t transformer_layer_build(model_build_t *build, const Gradd__V1__Layer *layer, wrk_shape_t *shape,
                                        gd_module_t **module_p)
{
    const bool is_decoder = layer->kind_case == GRADD__V1__LAYER__KIND_TRANSFORMER_DECODER_LAYER;
    const int64_t width = shape->size[1];
    const Gradd__V1__Init *init = NULL;
    const gd_transformer_options_t options = transformer_options(layer, width, &init);
    status_t status = heads_check(build, layer, shape, options.n_heads);
    if (status == ST_OK) {
        status = tokens_check(build, layer, shape, is_decoder);
    }
    if (status == ST_OK) {
        status = model_range_check(layer, "feedforward", options.feedforward, 1, WRK_MODEL_MAX_WIDTH);
    }
    if (status == ST_OK) {
        status = model_add_parameters(build, layer, (is_decoder ? 8 : 4) * width + 2 * options.feedforward, width + 2);
    }
    gd_module_t *module = NULL;
    if (status == ST_OK) {
        status = is_decoder ? gd_transformer_decoder_layer_new(&options, &module)
                            : gd_transformer_encoder_layer_new(&options, &module);
        status = status == ST_OK ? ST_OK : model_add_place(status, layer);
    }
    if (status == ST_OK) {
        gd_transformer_set_sequences(module, own_tokens(build), is_decoder ? build->source.sequence : NULL);
        status = matrices_init(module, init);
    }
    if (status != ST_OK) {
        (void)gd_module_unref(module);
        return status;
    }
    *module_p = module;
    return ST_OK;
}

gd_gate_t model_gate(Gradd__V1__Layer__GatedMlp__Gate gate)
{
    static const gd_gate_t gates[] = {
        [GRADD__V1__LAYER__GATED_MLP__GATE__silu] = GD_GATE_SILU,
        [GRADD__V1__LAYER__GATED_MLP__GATE__gelu] = GD_GATE_GELU,
        [GRADD__V1__LAYER__GATED_MLP__GATE__gelu_tanh] = GD_GATE_GELU_TANH,
        [GRADD__V1__LAYER__GATED_MLP__GATE__relu] = GD_GATE_RELU,
        [GRADD__V1__LAYER__GATED_MLP__GATE__sigmoid] = GD_GATE_SIGMOID,
        [GRADD__V1__LAYER__GATED_MLP__GATE__linear] = GD_GATE_LINEAR,
    };
    return gates[gate];
}

static status_t gated_mlp_build(model_build_t *build, const Gradd__V1__Layer *layer, wrk_shape_t *shape,
                                gd_module_t **module_p)
{
    const Gradd__V1__Layer__GatedMlp *mlp = layer->gated_mlp;
    if (shape->dtype != GD_DTYPE_F32 || shape->n_dims < 1 || shape->n_dims > 2) {
        return model_fail_input(build, layer, shape, "wants vectors [B, C] or [B, T, C]");
    }
    const int64_t width = shape->size[shape->n_dims - 1];
    status_t status = model_range_check(layer, "hidden", mlp->hidden, 1, WRK_MODEL_MAX_WIDTH);
    if (status == ST_OK) {
        status = model_add_parameters(build, layer, 3 * mlp->hidden, width + 1);
    }
    if (status == ST_OK) {
        status = names_check(layer, mlp->n_names, mlp->names);
    }
    gd_module_t *module = NULL;
    if (status == ST_OK) {
        const char *names[3] = {NULL};
        for (size_t i = 0; i < mlp->n_names && i < 3; i++) {
            names[i] = mlp->names[i];
        }
        status = gd_gated_mlp_new(width, mlp->hidden, model_gate(mlp->gate), mlp->bias,
                                  mlp->n_names == 3 ? names : NULL, &module);
        status = status == ST_OK ? ST_OK : model_add_place(status, layer);
    }
    if (status == ST_OK) {
        status = children_init(module, mlp->init, mlp->down_init);
    }
    if (status != ST_OK) {
        (void)gd_module_unref(module);
        return status;
    }
    *module_p = module;
    return ST_OK;
}

status_t model_sequence_build(model_build_t *build, const Gradd__V1__Layer *layer, wrk_shape_t *shape,
                              gd_module_t **module_p)
{
    status_t status = ST_OK;
    switch (layer->kind_case) {
    case GRADD__V1__LAYER__KIND_ATTENTION:
        return attention_build(build, layer, shape, module_p);
    case GRADD__V1__LAYER__KIND_MULTIHEAD_ATTENTION:
        return multihead_attention_build(build, layer, shape, module_p);
    case GRADD__V1__LAYER__KIND_TRANSFORMER_ENCODER_LAYER:
    case GRADD__V1__LAYER__KIND_TRANSFORMER_DECODER_LAYER:
        return transformer_layer_build(build, layer, shape, module_p);
    case GRADD__V1__LAYER__KIND_GATED_MLP:
        return gated_mlp_build(build, layer, shape, module_p);
    case GRADD__V1__LAYER__KIND_SINUSOIDAL_POSITIONS:
        status = vectors_check(build, layer, shape);
        return status == ST_OK ? gd_sinusoidal_positions_new(module_p) : status;
    default:
        return recurrent_build(build, layer, shape, module_p);
    }
}
