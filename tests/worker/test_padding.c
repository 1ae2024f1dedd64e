/* SPDX-License-Identifier: Apache-2.0 */
/* Models with a padding token, and encoders with decoders: what is refused and how it is said, initial weights. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gradd/context.h"
#include "tests/worker/model_jobs.h"
#include "worker/model.h"

static const wrk_shape_t tokens = {.dtype = GD_DTYPE_I64, .n_dims = 1, .size = {8}};
static const wrk_shape_t vectors = {.dtype = GD_DTYPE_F32, .n_dims = 2, .size = {8, 6}};

/* Builds `model`, the members of a job's model; the first of them is on line 2. */
static status_t build(const char *model, const wrk_shape_t *input, gd_module_t **root_p)
{
    spec_job_t *job = model_job_parse(NULL, model);
    status_t status = wrk_model_build_layers(job->model, input, root_p, NULL);
    spec_job_free(job);
    return status;
}

#define PADDED "  padding: 0\n  layers:\n    - embedding: {count: 9, width: 6}\n"
#define PLAIN "  layers:\n    - embedding: {count: 9, width: 6}\n"
#define PAIR "  layers:\n    - encoder_decoder:\n        source: 5\n"

static const struct {
    const wrk_shape_t *input;
    status_t code;
    const char *model, *text;
} misfits[] = {
    {&vectors, ST_ERR_SHAPE, "  padding: 0\n  layers:\n    - linear: {out: 3}\n",
     "model.padding: wants tokens [B, T] i64, but the data gives [B, 8, 6]"},
    {&tokens, ST_ERR_SHAPE,
     PADDED "    - prepend_parameter: {name: cls}\n    - transformer_encoder_layer: {name: e, heads: 2}\n",
     "job.yaml:6: transformer_encoder_layer \"e\": wants the 8 places of the tokens, of which model.padding says "
     "which "
     "are padding, but prepend_parameter \"cls\" at job.yaml:5 gives [B, 9, 6]"},
    {&tokens, ST_ERR_SHAPE, PADDED "    - prepend_parameter: {name: cls}\n    - multihead_attention: {heads: 2}\n",
     "job.yaml:6: multihead_attention: wants the 8 places"},
    {&tokens, ST_ERR_SHAPE, PADDED "    - prepend_parameter: {name: cls}\n    - attention: {heads: 2}\n",
     "job.yaml:6: attention: wants the 8 places"},
    {&tokens, ST_ERR_SHAPE,
     PADDED "    - linear: {out: 18}\n    - prepend_parameter: {name: cls}\n    - attend: {heads: 2}\n",
     "job.yaml:7: attend: wants the 8 places"},
    {&tokens, ST_ERR_SHAPE, PADDED "    - prepend_parameter: {name: cls}\n    - lstm: {width: 2, packed: true}\n",
     "job.yaml:6: lstm: wants the 8 places"},
    {&tokens, ST_ERR_SHAPE,
     PADDED "    - prepend_parameter: {name: cls}\n    - mean: {axes: [1], skip_padding: true}\n",
     "job.yaml:6: mean: wants the 8 places"},
    {&tokens, ST_ERR_INVAL, PLAIN "    - gru: {width: 2, packed: true}\n",
     "job.yaml:4: gru: packed: the model names no padding token"},
    {&tokens, ST_ERR_INVAL, PLAIN "    - select: {index: -1, skip_padding: true}\n",
     "job.yaml:4: select: skip_padding: the model names no padding token"},
    {&tokens, ST_ERR_INVAL, PADDED "    - mean: {axes: [2], skip_padding: true}\n",
     "job.yaml:5: mean: skip_padding: the mean is over axis 1, the tokens"},
    {&tokens, ST_ERR_INVAL, PADDED "    - transpose: {axes: [1, 2], skip_padding: true}\n",
     "job.yaml:5: transpose: skip_padding is for mean"},
    {&tokens, ST_ERR_INVAL, PLAIN "    - transformer_decoder_layer: {name: d, heads: 2}\n",
     "job.yaml:4: transformer_decoder_layer \"d\": attends to an encoder's result: it stands in no "
     "encoder_decoder's "
     "decoder"},
    {&tokens, ST_ERR_INVAL, PLAIN "    - multihead_attention: {heads: 2, memory: true}\n",
     "job.yaml:4: multihead_attention: attends to an encoder's result"},
    {&tokens, ST_ERR_SHAPE, PLAIN "    - transformer_encoder_layer: {heads: 4}\n",
     "job.yaml:4: transformer_encoder_layer: wants a width that its 4 heads divide, but embedding at job.yaml:3 "
     "gives "
     "[B, 8, 6]"},
    {&vectors, ST_ERR_SHAPE, PAIR "        encoder: [relu]\n        decoder: [relu]\n",
     "job.yaml:3: encoder_decoder: wants tokens [B, T] i64, more than the 5 of its source, but the data gives [B, "
     "8, 6]"},
    {&tokens, ST_ERR_SHAPE,
     "  layers:\n    - encoder_decoder: {name: t, source: 8, encoder: [relu], decoder: [relu]}\n",
     "job.yaml:3: encoder_decoder \"t\": wants tokens [B, T] i64, more than the 8 of its source, but the data "
     "gives [B, "
     "8] i64"},
    {&tokens, ST_ERR_SHAPE,
     PAIR "        encoder: [{embedding: {count: 9, width: 6}}, {select: {index: 0}}]\n        decoder: [relu]\n",
     "job.yaml:3: encoder_decoder: wants its encoder to give vectors [B, 5, C], but select at job.yaml:5 gives [B, "
     "6]"},
    {&tokens, ST_ERR_SHAPE,
     PAIR "        encoder: [{embedding: {count: 9, width: 6}}]\n"
          "        decoder: [{embedding: {count: 9, width: 4}}, {transformer_decoder_layer: {heads: 2}}]\n",
     "job.yaml:6: transformer_decoder_layer: wants the width 6 of the encoder's result [B, 5, 6], but embedding at "
     "job.yaml:6 gives [B, 3, 4]"},
    {&tokens, ST_ERR_INVAL,
     PAIR "        encoder: [{embedding: {count: 9, width: 6}}]\n"
          "        decoder: [{embedding: {count: 9, width: 6}}, {attention: {heads: 2, memory: true}}]\n",
     "job.yaml:6: attention: with memory its projections need names"},
    {&tokens, ST_ERR_INVAL,
     PAIR "        encoder: [{embedding: {count: 9, width: 6}}, {transformer_decoder_layer: {heads: 2}}]\n"
          "        decoder: [{embedding: {count: 9, width: 6}}]\n",
     "job.yaml:5: transformer_decoder_layer: attends to an encoder's result"},
    {&vectors, ST_ERR_NOT_FOUND, "  layers:\n    - rms_norm: {name: n, weight: false, init: {normal: {}}}\n",
     "job.yaml:3: rms_norm \"n\": "},
    {&vectors, ST_ERR_RANGE, "  layers:\n    - rrelu: {name: r, lower: 0.5, upper: 0.25}\n",
     "job.yaml:3: rrelu \"r\": slopes from 0.5 to 0.25"},
    {&vectors, ST_ERR_INVAL, "  layers:\n    - softmax: {gate: gelu}\n", "job.yaml:3: softmax: gate is for glu"},
    {&vectors, ST_ERR_SHAPE, "  layers:\n    - linear: {out: 5}\n    - glu: {gate: gelu}\n",
     "job.yaml:4: glu: wants two halves along axis 2, but linear at job.yaml:3 gives [B, 8, 5]"},
    {&vectors, ST_ERR_SHAPE, "  layers:\n    - softmax2d\n",
     "job.yaml:3: softmax2d: wants images [B, C, H, W], but the data gives [B, 8, 6]"},
    {&vectors, ST_ERR_RANGE,
     "  layers:\n    - attention: {heads: 1, rope: {scaling: {factor: 8, low_freq_factor: 4, high_freq_factor: "
     "1}}}\n",
     "job.yaml:3: attention: rope.scaling: high_freq_factor 1 is not above low_freq_factor 4"},
};

static void models_that_do_not_fit_their_tokens_are_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(misfits) / sizeof(misfits[0]); i++) {
        gd_module_t *root = NULL;
        assert_fails(build(misfits[i].model, misfits[i].input, &root), misfits[i].code, misfits[i].text);
        assert_null(root);
    }
}

/* The parameter's init is as `wanted` says, whether its name holds `part` or not. */
typedef struct inits {
    const char *part;
    gd_init_kind_t kind, other;
    int n_with, n_without;
} inits_t;

static status_t init_compare(const char *full_name, gd_parameter_t *parameter, gd_module_t *owner, void *arg)
{
    (void)owner;
    inits_t *inits = arg;
    if (parameter->is_buffer) {
        return ST_OK;
    }
    const bool has_part = strstr(full_name, inits->part) != NULL;
    inits->n_with += has_part;
    inits->n_without += !has_part;
    if (parameter->init.kind != (has_part ? inits->kind : inits->other)) {
        fail_msg("%s begins by kind %d", full_name, (int)parameter->init.kind);
    }
    return ST_OK;
}

static void weights_begin_as_the_job_says(void **state)
{
    (void)state;
    static const struct {
        const char *layer;
        inits_t inits;
    } cases[] = {
        {"    - lstm: {width: 4, depth: 2, bidirectional: true, projection: 2, recurrent_init: orthogonal}\n",
         {"weight_h", GD_INIT_ORTHOGONAL, GD_INIT_UNIFORM, 8, 12}},
        {"    - gru: {width: 4, init: xavier_uniform}\n", {"weight_ih", GD_INIT_XAVIER_UNIFORM, GD_INIT_UNIFORM, 1, 3}},
        {"    - rnn: {width: 4, bias_init: {constant: {value: 0}}}\n",
         {"bias", GD_INIT_CONSTANT, GD_INIT_UNIFORM, 2, 2}},
        {"    - multihead_attention: {heads: 2, bias: false, init: {normal: {}}, proj_init: {normal: {}}}\n",
         {"weight", GD_INIT_NORMAL, GD_INIT_COUNT, 2, 0}},
        {"    - multihead_attention: {heads: 2, bias_init: {constant: {value: 1}}, init: {normal: {}}, proj_init: "
         "{normal: {}}}\n",
         {"bias", GD_INIT_CONSTANT, GD_INIT_NORMAL, 2, 2}},
        {"    - attention: {heads: 2, bias_init: {constant: {value: 1}}, init: {normal: {}}, proj_init: {normal: "
         "{}}}\n",
         {"bias", GD_INIT_CONSTANT, GD_INIT_NORMAL, 2, 2}},
        {"    - layer_norm: {init: {constant: {value: 0}}, bias_init: {normal: {}}}\n",
         {"bias", GD_INIT_NORMAL, GD_INIT_CONSTANT, 1, 1}},
        {"    - rms_norm: {init: {constant: {value: 0}}}\n", {"weight", GD_INIT_CONSTANT, GD_INIT_COUNT, 1, 0}},
        {"    - conv1d: {out: 3, kernel: 3, init: {normal: {}}, bias_init: {constant: {value: 0}}}\n",
         {"bias", GD_INIT_CONSTANT, GD_INIT_NORMAL, 1, 1}},
        {"    - batch_norm1d: {init: {constant: {value: 0}}}\n", {"weight", GD_INIT_CONSTANT, GD_INIT_ZEROS, 1, 1}},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char model[512];
        gd_module_t *root = NULL;
        inits_t inits = cases[i].inits;
        (void)snprintf(model, sizeof(model), "  layers:\n%s", cases[i].layer);
        inits.n_with = inits.n_without = 0;

        assert_ok(build(model, &vectors, &root));

        assert_ok(gd_module_visit(root, init_compare, &inits));
        assert_int_equal(inits.n_with, cases[i].inits.n_with);
        assert_int_equal(inits.n_without, cases[i].inits.n_without);
        (void)gd_module_unref(root);
    }
}

/* A recurrent matrix of all gates, drawn as one: its columns are orthonormal. */
static void an_orthogonal_start_is_orthogonal(void **state)
{
    (void)state;
    gd_module_t *root = NULL;
    assert_ok(build("  layers:\n    - lstm: {width: 4, recurrent_init: orthogonal}\n", &vectors, &root));
    assert_ok(gd_module_set_paths(root));
    assert_ok(gd_module_initialise(root, 11));
    const gd_module_t *lstm = root->children[0];
    const float *w = gd_tensor_data(lstm->parameters[1].tensor);
    assert_string_equal(lstm->parameters[1].name, "weight_hh_l0");
    for (int a = 0; a < 4; a++) {
        for (int b = 0; b < 4; b++) {
            double sum = 0;
            for (int row = 0; row < 16; row++) {
                sum += (double)w[row * 4 + a] * (double)w[row * 4 + b];
            }
            assert_true(fabs(sum - (a == b)) < 1e-5);
        }
    }
    (void)gd_module_unref(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(models_that_do_not_fit_their_tokens_are_refused),
        TEST(weights_begin_as_the_job_says),
        TEST(an_orthogonal_start_is_orthogonal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
