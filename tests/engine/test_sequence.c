/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sequence: what only the C interface reaches, against PyTorch: cross-attention, masks and key lengths, decoder layers,
 * first states of recurrent layers. Cases i_* of sequence_modules.safetensors, written by make_sequence_modules.py.
 */
#include <math.h>
#include <stdio.h>

#include "gradd/autograd.h"
#include "gradd/context.h"
#include "gradd/create.h"
#include "gradd/nn.h"
#include "gradd/safetensors.h"
#include "gradd/sequence.h"
#include "tests/support/fixture.h"

typedef struct scene {
    gd_safetensors_t *file;
    const char *name;
} scene_t;

static const gd_safetensors_entry_t *entry_find(const scene_t *s, const char *kind, const char *name)
{
    char key[128];
    (void)snprintf(key, sizeof(key), "%s/%s%s%s", s->name, kind, name[0] != '\0' ? "." : "", name);
    const gd_safetensors_entry_t *entry = gd_safetensors_find(s->file, key);
    if (entry == NULL) {
        fail_msg("no %s", key);
    }
    return entry;
}

static scene_t scene_open(const char *name)
{
    scene_t s = {.name = name};
    assert_ok(gd_safetensors_open(fixture_golden("sequence_modules.safetensors"), &s.file));
    return s;
}

/* An entry as a tensor; floating inputs want gradients. */
static gd_tensor_t *tensor_load(const scene_t *s, const char *kind, const char *name, bool has_gradient)
{
    const gd_safetensors_entry_t *entry = entry_find(s, kind, name);
    gd_tensor_t *t = NULL;
    assert_ok(gd_tensor_from_data(entry->dtype, entry->n_dims, entry->shape, entry->data, &t));
    if (has_gradient) {
        assert_ok(gd_tensor_set_requires_grad(t, true));
    }
    return t;
}

static void compare(const scene_t *s, const char *kind, const char *name, gd_tensor_t *got)
{
    const gd_safetensors_entry_t *entry = entry_find(s, kind, name);
    gd_tensor_t *dense = NULL;
    double squares = 0;
    assert_non_null(got);
    assert_ok(gd_contiguous(got, &dense));
    const float *values = gd_tensor_data(dense);
    const float *expected = entry->data;
    const int64_t n = gd_tensor_numel(dense);
    assert_int_equal(gd_tensor_n_dims(dense), entry->n_dims);
    for (int64_t i = 0; i < n; i++) {
        squares += (double)expected[i] * (double)expected[i];
    }
    for (int64_t i = 0; i < n; i++) {
        const double error = fabs((double)values[i] - (double)expected[i]);
        if (!(error <= 1e-5 * (fabs((double)expected[i]) + sqrt(squares / (double)n)) + 2e-6)) {
            fail_msg("%s/%s %s: element %lld is %.9g, in PyTorch %.9g", s->name, kind, name, (long long)i,
                     (double)values[i], (double)expected[i]);
        }
    }
    (void)gd_tensor_unref(dense);
}

static status_t parameter_load(const char *full_name, gd_parameter_t *parameter, gd_module_t *owner, void *arg)
{
    (void)owner;
    gd_tensor_t *t = tensor_load(arg, "state", full_name, false);
    status_t status = gd_tensor_copy(parameter->tensor, t);
    (void)gd_tensor_unref(t);
    return status;
}

static status_t gradient_compare(const char *full_name, gd_parameter_t *parameter, gd_module_t *owner, void *arg)
{
    (void)owner;
    compare(arg, "grad", full_name, gd_tensor_grad(parameter->tensor));
    return ST_OK;
}

/* Checks y, then the gradients of x and the parameters; module may be NULL. Takes y. */
static void outcome_check(const scene_t *s, gd_tensor_t *y, gd_tensor_t *x, gd_module_t *module)
{
    gd_tensor_t *dy = tensor_load(s, "dy", "", false);
    compare(s, "y", "", y);
    assert_ok(gd_backward(y, dy, false));
    compare(s, "din", "x", gd_tensor_grad(x));
    if (module != NULL) {
        assert_ok(gd_module_visit(module, gradient_compare, (void *)(uintptr_t)s));
    }
    (void)gd_tensor_unref(dy);
    (void)gd_tensor_unref(y);
}

static void attention_to_another_sequence_with_a_mask_and_lengths(void **state)
{
    (void)state;
    scene_t s = scene_open("i_cross");
    const gd_multihead_options_t options = {.layout = GD_MULTIHEAD_TORCH, .width = 16, .n_heads = 4, .has_bias = true};
    gd_module_t *module = NULL;
    gd_tensor_t *y = NULL;
    assert_ok(gd_multihead_new(&options, &module));
    assert_ok(gd_module_visit(module, parameter_load, &s));
    gd_tensor_t *x = tensor_load(&s, "in", "x", true);
    gd_tensor_t *memory = tensor_load(&s, "in", "memory", true);
    const gd_multihead_masks_t masks = {.mask = tensor_load(&s, "in", "mask", false),
                                        .lengths = tensor_load(&s, "in", "lengths", false)};

    assert_ok(gd_multihead_attend(module, x, memory, &masks, &y));

    outcome_check(&s, y, x, module);
    compare(&s, "din", "memory", gd_tensor_grad(memory));
    (void)gd_tensor_unref(masks.mask);
    (void)gd_tensor_unref(masks.lengths);
    (void)gd_tensor_unref(memory);
    (void)gd_tensor_unref(x);
    (void)gd_module_unref(module);
    gd_safetensors_close(s.file);
}

static const gd_transformer_options_t small = {
    .width = 8, .n_heads = 2, .feedforward = 12, .has_bias = true, .is_causal = false};

static void an_encoder_layer_with_lengths(void **state)
{
    (void)state;
    scene_t s = scene_open("i_encoder");
    gd_module_t *module = NULL;
    gd_tensor_t *y = NULL;
    assert_ok(gd_transformer_encoder_layer_new(&small, &module));
    assert_ok(gd_module_visit(module, parameter_load, &s));
    gd_tensor_t *x = tensor_load(&s, "in", "x", true);
    const gd_multihead_masks_t masks = {.lengths = tensor_load(&s, "in", "lengths", false)};

    assert_ok(gd_transformer_encoder_layer_run(module, x, &masks, &y));

    outcome_check(&s, y, x, module);
    (void)gd_tensor_unref(masks.lengths);
    (void)gd_tensor_unref(x);
    (void)gd_module_unref(module);
    gd_safetensors_close(s.file);
}

static void decoder_check(const char *name, bool is_norm_first, gd_activation_t activation)
{
    scene_t s = scene_open(name);
    gd_transformer_options_t options = small;
    options.is_causal = true;
    options.is_norm_first = is_norm_first;
    options.activation = activation;
    gd_module_t *module = NULL;
    gd_tensor_t *y = NULL;
    assert_ok(gd_transformer_decoder_layer_new(&options, &module));
    assert_ok(gd_module_visit(module, parameter_load, &s));
    gd_tensor_t *x = tensor_load(&s, "in", "x", true);
    gd_tensor_t *memory = tensor_load(&s, "in", "memory", true);
    const gd_multihead_masks_t masks = {.lengths = tensor_load(&s, "in", "lengths", false)};

    assert_ok(gd_transformer_decoder_layer_run(module, x, memory, NULL, &masks, &y));

    outcome_check(&s, y, x, module);
    compare(&s, "din", "memory", gd_tensor_grad(memory));
    assert_fails(gd_module_forward(module, x, &y), ST_ERR_INVAL, "needs a memory");
    (void)gd_tensor_unref(masks.lengths);
    (void)gd_tensor_unref(memory);
    (void)gd_tensor_unref(x);
    (void)gd_module_unref(module);
    gd_safetensors_close(s.file);
}

static void a_decoder_layer_with_lengths_of_the_memory(void **state)
{
    (void)state;
    decoder_check("i_decoder", false, GD_ACTIVATION_RELU);
    decoder_check("i_decoder_pre", true, GD_ACTIVATION_GELU);
}

static void recurrent_check(const char *name, gd_rnn_kind_t kind, bool is_projected)
{
    static const char *const names[5] = {"weight_ih_l0", "bias_ih_l0", "weight_hh_l0", "bias_hh_l0", "weight_hr_l0"};
    scene_t s = scene_open(name);
    gd_tensor_t *w[5] = {NULL};
    for (int i = 0; i < (is_projected ? 5 : 4); i++) {
        w[i] = tensor_load(&s, "state", names[i], true);
    }
    gd_tensor_t *x = tensor_load(&s, "in", "x", true);
    gd_tensor_t *h0 = tensor_load(&s, "in", "h0", true);
    gd_tensor_t *c0 = kind == GD_RNN_LSTM ? tensor_load(&s, "in", "c0", true) : NULL;
    gd_tensor_t *gates = NULL;
    gd_tensor_t *y = NULL;
    gd_tensor_t *cells = NULL;
    const gd_rnn_weights_t weights = {.w_hh = w[2], .b_hh = w[3], .w_hr = w[4]};

    assert_ok(gd_linear(x, w[0], w[1], &gates));
    assert_ok(gd_rnn(kind, false, gates, &weights, h0, c0, &y, &cells));

    outcome_check(&s, y, x, NULL);
    compare(&s, "din", "h0", gd_tensor_grad(h0));
    if (c0 != NULL) {
        compare(&s, "din", "c0", gd_tensor_grad(c0));
        assert_int_equal(gd_tensor_dim(cells, 0), 4);
    }
    for (int i = 0; i < 5; i++) {
        if (w[i] != NULL) {
            compare(&s, "grad", names[i], gd_tensor_grad(w[i]));
        }
        (void)gd_tensor_unref(w[i]);
    }
    (void)gd_tensor_unref(cells);
    (void)gd_tensor_unref(gates);
    (void)gd_tensor_unref(c0);
    (void)gd_tensor_unref(h0);
    (void)gd_tensor_unref(x);
    gd_safetensors_close(s.file);
}

static void recurrent_layers_from_given_states(void **state)
{
    (void)state;
    recurrent_check("i_lstm", GD_RNN_LSTM, false);
    recurrent_check("i_lstm_projection", GD_RNN_LSTM, true);
    recurrent_check("i_gru", GD_RNN_GRU, false);
}

/* Dropped weights: the mean over many rows of ones stays 1, and a mask that wants a gradient is refused. */
static void dropped_weights_keep_the_mean_and_a_mask_has_no_gradient(void **state)
{
    (void)state;
    gd_tensor_t *q = NULL, *v = NULL, *y = NULL, *mask = NULL, *dy = NULL;
    assert_ok(gd_tensor_full(GD_DTYPE_F32, 3, (const int64_t[3]){4, 64, 32}, 0.5, &q));
    assert_ok(gd_tensor_full(GD_DTYPE_F32, 3, (const int64_t[3]){4, 64, 32}, 1, &v));
    gd_sdpa_options_t options = {.n_heads = 4, .dropout = 0.25, .rng = {.seed = 1, .layer = 2}};

    assert_ok(gd_sdpa(q, q, v, &options, &y));

    double sum = 0;
    double squares = 0;
    for (int64_t i = 0; i < gd_tensor_numel(y); i += 8) {
        const double value = (double)((const float *)gd_tensor_data(y))[i];
        sum += value;
        squares += (value - 1) * (value - 1);
    }
    const double n = (double)gd_tensor_numel(y) / 8;
    assert_true(fabs(sum / n - 1) < 0.02);
    assert_true(fabs(squares / n - 1.0 / 3 / 64) < 0.002); /* p / (1 - p) of the mean's variance, over 64 keys */
    y = gd_tensor_unref(y);

    assert_ok(gd_tensor_zeros(GD_DTYPE_F32, 2, (const int64_t[2]){64, 64}, &mask));
    assert_ok(gd_tensor_set_requires_grad(mask, true));
    options.mask = mask;
    assert_ok(gd_sdpa(q, q, v, &options, &y));
    assert_ok(gd_tensor_full(GD_DTYPE_F32, 3, gd_tensor_shape(y), 1, &dy));
    assert_fails(gd_backward(y, dy, false), ST_ERR_UNSUPPORTED, "mask has no gradient");
    (void)gd_tensor_unref(dy);
    (void)gd_tensor_unref(y);
    (void)gd_tensor_unref(mask);
    (void)gd_tensor_unref(v);
    (void)gd_tensor_unref(q);
}

/* The second sample is padding throughout: its heads give zeros, so that y is the projection's bias, and its gradients
 * are zeros. */
static void a_sample_of_nothing_but_padding_gives_zeros(void **state)
{
    (void)state;
    static const int64_t ids[2][3] = {{4, 0, 5}, {0, 0, 0}};
    const gd_multihead_options_t options = {.layout = GD_MULTIHEAD_TORCH, .width = 8, .n_heads = 2, .has_bias = true};
    gd_module_t *module = NULL;
    gd_sequence_t *sequence = NULL;
    gd_tensor_t *tokens = NULL, *x = NULL, *y = NULL, *sum = NULL;
    const gd_rng_key_t key = {.seed = 3};
    assert_ok(gd_multihead_new(&options, &module));
    assert_ok(gd_module_set_paths(module));
    assert_ok(gd_module_initialise(module, 5));
    assert_ok(gd_sequence_new(0, &sequence));
    gd_multihead_set_sequences(module, sequence, NULL);
    assert_ok(gd_tensor_from_data(GD_DTYPE_I64, 2, (const int64_t[2]){2, 3}, ids, &tokens));
    assert_ok(gd_randn(&key, GD_DTYPE_F32, 3, (const int64_t[3]){2, 3, 8}, &x));
    assert_ok(gd_tensor_set_requires_grad(x, true));

    assert_ok(gd_sequence_look(sequence, tokens));
    assert_ok(gd_module_forward(module, x, &y));
    assert_ok(gd_sum(y, 0, NULL, false, &sum));
    assert_ok(gd_backward(sum, NULL, false));

    const float *value = gd_tensor_data(y);
    const float *gradient = gd_tensor_data(gd_tensor_grad(x));
    for (int i = 0; i < 24; i++) {
        assert_true(isfinite(value[i]) && isfinite(gradient[i]));
        assert_true(value[24 + i] == 0.0F && gradient[24 + i] == 0.0F); /* the bias begins as zeros */
    }
    (void)gd_tensor_unref(sum);
    (void)gd_tensor_unref(y);
    (void)gd_tensor_unref(x);
    (void)gd_tensor_unref(tokens);
    (void)gd_module_unref(module);
    (void)gd_sequence_unref(sequence);
}

static void tokens_that_are_not_those_of_x_are_refused(void **state)
{
    (void)state;
    const gd_transformer_options_t options = {.width = 8, .n_heads = 2, .feedforward = 4};
    gd_module_t *module = NULL, *decoder = NULL, *pair = NULL;
    gd_sequence_t *sequence = NULL;
    gd_tensor_t *tokens = NULL, *x = NULL, *y = NULL;
    assert_ok(gd_transformer_encoder_layer_new(&options, &module));
    assert_ok(gd_transformer_decoder_layer_new(&options, &decoder));
    assert_ok(gd_sequence_new(0, &sequence));
    assert_ok(gd_tensor_zeros(GD_DTYPE_I64, 2, (const int64_t[2]){2, 3}, &tokens));
    assert_ok(gd_tensor_zeros(GD_DTYPE_F32, 3, (const int64_t[3]){2, 5, 8}, &x));
    gd_transformer_set_sequences(module, sequence, NULL);
    gd_transformer_set_sequences(decoder, NULL, sequence);

    assert_fails(gd_module_forward(module, x, &y), ST_ERR_STATE, "no tokens have been seen");
    assert_fails(gd_module_forward(decoder, x, &y), ST_ERR_STATE, "no encoder has given a memory");
    assert_fails(gd_sequence_look(sequence, x), ST_ERR_SHAPE, "x is [2, 5, 8], not tokens [B, T]");
    assert_ok(gd_sequence_look(sequence, tokens));
    assert_fails(gd_module_forward(module, x, &y), ST_ERR_SHAPE,
                 "x is [2, 5, 8], but the tokens that say what is padding are [2, 3]");
    assert_fails(gd_encoder_decoder_new(0, -1, &pair), ST_ERR_RANGE, "a source of 0 tokens");
    assert_ok(gd_encoder_decoder_new(3, -1, &pair));
    assert_fails(gd_module_forward(pair, tokens, &y), ST_ERR_STATE, "0 children");
    (void)gd_tensor_unref(x);
    (void)gd_tensor_unref(tokens);
    (void)gd_module_unref(pair);
    (void)gd_module_unref(decoder);
    (void)gd_module_unref(module);
    (void)gd_sequence_unref(sequence);
}

static void options_that_do_not_fit_are_refused(void **state)
{
    (void)state;
    gd_module_t *module = NULL;
    gd_multihead_options_t attention = {.width = 12, .n_heads = 5};
    assert_fails(gd_multihead_new(&attention, &module), ST_ERR_SHAPE, "5 heads don't divide the width 12");
    attention = (gd_multihead_options_t){.width = 12, .n_heads = 4, .n_key_heads = 3};
    assert_fails(gd_multihead_new(&attention, &module), ST_ERR_SHAPE, "can't share 3 heads of keys");
    attention = (gd_multihead_options_t){.width = 12, .n_heads = 4, .rope_theta = 1e4};
    assert_fails(gd_multihead_new(&attention, &module), ST_ERR_SHAPE, "rope turns pairs");
    attention = (gd_multihead_options_t){.layout = GD_MULTIHEAD_TORCH, .width = 12, .n_heads = 4, .n_key_heads = 2};
    assert_fails(gd_multihead_new(&attention, &module), ST_ERR_SHAPE, "PyTorch's layout");
    gd_recurrent_options_t recurrent = {.kind = GD_RNN_GRU, .width = 8, .projection = 4};
    assert_fails(gd_recurrent_new(4, &recurrent, &module), ST_ERR_INVAL, "only lstm");
    recurrent = (gd_recurrent_options_t){.kind = GD_RNN_LSTM, .width = 8, .projection = 8};
    assert_fails(gd_recurrent_new(4, &recurrent, &module), ST_ERR_RANGE, "below the width");
    assert_null(module);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(attention_to_another_sequence_with_a_mask_and_lengths),
        TEST(an_encoder_layer_with_lengths),
        TEST(a_decoder_layer_with_lengths_of_the_memory),
        TEST(recurrent_layers_from_given_states),
        TEST(dropped_weights_keep_the_mean_and_a_mask_has_no_gradient),
        TEST(a_sample_of_nothing_but_padding_gives_zeros),
        TEST(tokens_that_are_not_those_of_x_are_refused),
        TEST(options_that_do_not_fit_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
