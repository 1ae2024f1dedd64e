/* SPDX-License-Identifier: Apache-2.0 */
/* layers_sequence: recurrent layers, attention with options, and what transformers are made of. */
#include "worker/model_build.h"

static status_t vectors_check(const model_build_t *build, const Gradd__V1__Layer *layer, const wrk_shape_t *shape)
{
    if (shape->dtype != GD_DTYPE_F32 || shape->n_dims != 2) {
        return model_fail_input(build, layer, shape, "wants vectors [B, T, C]");
    }
    return model_range_check(layer, "its input's width", shape->size[1], 1, WRK_MODEL_MAX_WIDTH);
}

/* ---- recurrent ---- */

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
    status_t status = vectors_check(build, layer, shape);
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
        status = gd_recurrent_new(shape->size[1], &options, module_p);
        status = status == ST_OK ? ST_OK : model_add_place(status, layer);
    }
    if (status == ST_OK) {
        shape->size[1] = out * directions;
    }
    return status;
}

status_t model_sequence_build(model_build_t *build, const Gradd__V1__Layer *layer, wrk_shape_t *shape,
                              gd_module_t **module_p)
{
    switch (layer->kind_case) {
    default:
        return recurrent_build(build, layer, shape, module_p);
    }
}
