/* SPDX-License-Identifier: Apache-2.0 */
/* model_build: what model.c (the tree) and model_layers.c (the kinds) share. Private to them. */
#ifndef GRADD_WORKER_MODEL_BUILD_H
#define GRADD_WORKER_MODEL_BUILD_H

#include "gradd/sequence.h"
#include "worker/model.h"

/* An embedding that a later layer may be tied to; borrowed from the tree. */
typedef struct model_embedding {
    const Gradd__V1__Layer *layer;
    gd_module_t *module;
} model_embedding_t;

/* A layer without layers, and what was built of it; borrowed from the tree. */
typedef struct model_leaf {
    const Gradd__V1__Layer *layer;
    const gd_module_t *module;
} model_leaf_t;

/* The tokens that layers work on, for what depends on them: {0} where there are none. Borrowed from the tree. */
typedef struct model_tokens {
    gd_sequence_t *sequence; /* NULL: nothing in the model asks for it */
    bool has_padding;
    int64_t n_places; /* T */
} model_tokens_t;

typedef struct model_build {
    const Gradd__V1__Layer *before; /* which gave the current shape; NULL: the data did */
    int64_t n_layers;
    int64_t n_parameters;
    int depth;
    model_embedding_t *embeddings;
    int n_embeddings;
    model_leaf_t *leaves;
    int n_leaves;
    int max_leaves;
    int64_t padding;       /* model.padding; -1: none */
    model_tokens_t own;    /* of the layers at hand */
    model_tokens_t source; /* whose memory a decoder attends to */
    int64_t memory_width;
} model_build_t;

/* "conv2d" */
const char *model_layer_kind(const Gradd__V1__Layer *layer);
/* Appends "[B, 3, 28, 28]", with the dtype where it isn't f32. */
void model_shape_format(const wrk_shape_t *shape, strbuf_t *text);
/* Puts 'gpt.yaml:12: linear "head": ' before the recorded message. */
status_t model_add_place(status_t status, const Gradd__V1__Layer *layer);
/* 'gpt.yaml:12: linear "head": message' */
status_t model_fail(status_t code, const Gradd__V1__Layer *layer, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* 'gpt.yaml:12: linear "head": message, but layer_norm "ln" at gpt.yaml:11 gives [B, 64, 128]'; ST_ERR_SHAPE. */
status_t model_fail_input(const model_build_t *build, const Gradd__V1__Layer *layer, const wrk_shape_t *in,
                          const char *format, ...) __attribute__((format(printf, 4, 5)));
/* Name given to the layer; NULL: none. */
const char *model_layer_name(const Gradd__V1__Layer *layer);
/* Counts rows × columns parameters before they are allocated; ST_ERR_RANGE beyond the limit. */
status_t model_add_parameters(model_build_t *build, const Gradd__V1__Layer *layer, int64_t rows, int64_t columns);

/* "out 0 is not in 1 … 5"; ST_ERR_RANGE. */
status_t model_range_check(const Gradd__V1__Layer *layer, const char *field, int64_t value, int64_t low, int64_t high);
/* Overrides how the own parameter `name` is initialised, where the job says so. */
status_t model_init_apply(gd_module_t *module, const char *name, const Gradd__V1__Init *init);

/* Whether the padding of the layer's input is that of the tokens at hand, so that it can be told: ST_ERR_SHAPE. */
status_t model_padding_check(const model_build_t *build, const Gradd__V1__Layer *layer, const wrk_shape_t *shape);
/* Whether the layer stands in a decoder and has the memory's width: ST_ERR_INVAL, ST_ERR_SHAPE. */
status_t model_memory_check(const model_build_t *build, const Gradd__V1__Layer *layer, const wrk_shape_t *shape);

/* The gate that a layer names. */
gd_gate_t model_gate(Gradd__V1__Layer__GatedMlp__Gate gate);

/* A layer that holds no layers: checks *shape, builds, and puts what it gives into *shape. */
status_t model_leaf_build(model_build_t *build, const Gradd__V1__Layer *layer, wrk_shape_t *shape,
                          gd_module_t **module_p);
/* model_structure.c: those that change shapes and little else. */
status_t model_shaper_build(model_build_t *build, const Gradd__V1__Layer *layer, wrk_shape_t *shape,
                            gd_module_t **module_p);
/* layers_sequence.c: recurrent layers, attention with options, what transformers are made of. */
status_t model_sequence_build(model_build_t *build, const Gradd__V1__Layer *layer, wrk_shape_t *shape,
                              gd_module_t **module_p);

/* layers_image.c: those for images and general use; NULL: not one of them. */
typedef status_t (*model_build_func_t)(model_build_t *build, const Gradd__V1__Layer *layer, wrk_shape_t *shape,
                                       gd_module_t **module_p);
model_build_func_t model_image_find(Gradd__V1__Layer__KindCase kind);

#endif
