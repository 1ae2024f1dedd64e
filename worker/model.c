/* SPDX-License-Identifier: Apache-2.0 */
/* model: walks the Layer messages: names, containers, limits. What each kind of layer needs is in model_layers.c. */
#include "worker/model.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "gradd/state.h"
#include "worker/model_build.h"

enum { MAX_DEPTH = 64 };

/* The message in the layer's oneof: all its members are pointers to messages. */
static const ProtobufCMessage *layer_fields(const Gradd__V1__Layer *layer)
{
    return layer->kind_case != GRADD__V1__LAYER__KIND__NOT_SET ? &layer->linear->base : NULL;
}

const char *model_layer_kind(const Gradd__V1__Layer *layer)
{
    const ProtobufCFieldDescriptor *field =
        protobuf_c_message_descriptor_get_field(&gradd__v1__layer__descriptor, (unsigned)layer->kind_case);
    return field != NULL ? field->name : "layer";
}

const char *model_layer_name(const Gradd__V1__Layer *layer)
{
    const ProtobufCMessage *fields = layer_fields(layer);
    const ProtobufCFieldDescriptor *field =
        fields != NULL ? protobuf_c_message_descriptor_get_field_by_name(fields->descriptor, "name") : NULL;
    if (field == NULL) {
        return NULL;
    }
    const char *name = NULL;
    memcpy(&name, (const char *)fields + field->offset, sizeof(name));
    return name != NULL && name[0] != '\0' ? name : NULL;
}

/* Appends 'linear "head"', then its place as " at gpt.yaml:12" where asked. */
static void layer_label(strbuf_t *text, const Gradd__V1__Layer *layer, bool has_place)
{
    strbuf_append(text, model_layer_kind(layer));
    if (model_layer_name(layer) != NULL) {
        strbuf_appendf(text, " \"%s\"", model_layer_name(layer));
    }
    if (has_place && layer->file != NULL) {
        strbuf_appendf(text, " at %s:%d", layer->file, layer->line);
    }
}

void model_shape_format(const wrk_shape_t *shape, strbuf_t *text)
{
    strbuf_append(text, "[B");
    for (int d = 0; d < shape->n_dims; d++) {
        strbuf_appendf(text, ", %lld", (long long)shape->size[d]);
    }
    strbuf_append(text, "]");
    if (shape->dtype != GD_DTYPE_F32) {
        strbuf_appendf(text, " %s", gd_dtype_name(shape->dtype));
    }
}

/* The engine's constructors name their kind themselves: it is said once, with the layer's name. */
status_t model_add_place(status_t status, const Gradd__V1__Layer *layer)
{
    strbuf_t text = {0};
    const char *kind = model_layer_kind(layer);
    const size_t n_kind = strlen(kind);
    if (strncmp(status_message(), kind, n_kind) == 0 && strncmp(status_message() + n_kind, ": ", 2) == 0) {
        strbuf_append(&text, status_message() + n_kind + 2);
        status = ST_FAIL(status, "%s", strbuf_text(&text));
        strbuf_clear(&text);
    }
    if (layer->file != NULL) {
        strbuf_appendf(&text, "%s:%d: ", layer->file, layer->line);
    }
    layer_label(&text, layer, false);
    status = status_add_context(status, "%s", strbuf_text(&text));
    strbuf_release(&text);
    return status;
}

status_t model_fail(status_t code, const Gradd__V1__Layer *layer, const char *format, ...)
{
    char message[512];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(message, sizeof(message), format, args);
    va_end(args);
    return model_add_place(ST_FAIL(code, "%s", message), layer);
}

status_t model_fail_input(const model_build_t *build, const Gradd__V1__Layer *layer, const wrk_shape_t *in,
                          const char *format, ...)
{
    char message[512];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(message, sizeof(message), format, args);
    va_end(args);
    strbuf_t text = {0};
    if (build->before != NULL) {
        layer_label(&text, build->before, true);
    } else {
        strbuf_append(&text, "the data");
    }
    strbuf_append(&text, " gives ");
    model_shape_format(in, &text);
    status_t status = model_add_place(ST_FAIL(ST_ERR_SHAPE, "%s, but %s", message, strbuf_text(&text)), layer);
    strbuf_release(&text);
    return status;
}

status_t model_add_parameters(model_build_t *build, const Gradd__V1__Layer *layer, int64_t rows, int64_t columns)
{
    int64_t n = 0;
    if (__builtin_mul_overflow(rows, columns, &n) || n > WRK_MODEL_MAX_PARAMETERS - build->n_parameters) {
        return model_fail(ST_ERR_RANGE, layer, "the model has more than %lld parameters",
                          (long long)WRK_MODEL_MAX_PARAMETERS);
    }
    build->n_parameters += n;
    return ST_OK;
}

static status_t layer_count(model_build_t *build, const Gradd__V1__Layer *layer)
{
    if (++build->n_layers > WRK_MODEL_MAX_LAYERS) {
        return model_fail(ST_ERR_RANGE, layer, "the model has more than %d layers", WRK_MODEL_MAX_LAYERS);
    }
    return ST_OK;
}

/* Adds the layers to parent; those without a name are numbered from `first`. */
static status_t children_build(model_build_t *build, Gradd__V1__Layer *const *layers, size_t n_layers, size_t first,
                               wrk_shape_t *shape, gd_module_t *parent);

/* A sequential of the layers, as a child of parent. name NULL: inline. */
static status_t block_build(model_build_t *build, Gradd__V1__Layer *const *layers, size_t n_layers,
                            bool is_checkpointed, wrk_shape_t *shape, gd_module_t *parent, const char *name)
{
    gd_module_t *block = NULL;
    status_t status = gd_sequential_new(&block);
    if (status == ST_OK) {
        gd_module_set_checkpoint(block, is_checkpointed);
        status = children_build(build, layers, n_layers, 0, shape, block);
    }
    if (status == ST_OK) {
        status = name != NULL ? gd_module_add_child(parent, name, block) : gd_module_add_inline_child(parent, block);
    }
    (void)gd_module_unref(block);
    return status;
}

/* `repeat`: `times` sequentials of its layers, each with parameters of its own. */
static status_t repeat_build(model_build_t *build, const Gradd__V1__Layer *layer, wrk_shape_t *shape,
                             gd_module_t *parent)
{
    const Gradd__V1__Layer__Repeat *repeat = layer->repeat;
    for (int32_t i = 0; i < repeat->times; i++) {
        char name[16];
        (void)snprintf(name, sizeof(name), "%d", repeat->first + i);
        status_t status = layer_count(build, layer);
        if (status == ST_OK) {
            status = block_build(build, repeat->layers, repeat->n_layers, repeat->checkpoint, shape, parent, name);
        }
        if (status != ST_OK) {
            return status;
        }
    }
    return ST_OK;
}

static bool shapes_are_equal(const wrk_shape_t *a, const wrk_shape_t *b)
{
    bool is_equal = a->dtype == b->dtype && a->n_dims == b->n_dims;
    for (int d = 0; is_equal && d < a->n_dims; d++) {
        is_equal = a->size[d] == b->size[d];
    }
    return is_equal;
}

static status_t residual_build(model_build_t *build, const Gradd__V1__Layer *layer, wrk_shape_t *shape,
                               gd_module_t *module)
{
    const Gradd__V1__Layer__Residual *residual = layer->residual;
    const Gradd__V1__Layer *before = build->before;
    wrk_shape_t sum = *shape;
    if (sum.dtype != GD_DTYPE_F32) {
        return model_fail_input(build, layer, &sum, "wants numbers to add to");
    }
    status_t status = children_build(build, residual->layers, residual->n_layers, 0, shape, module);
    const Gradd__V1__Layer *last = build->before;
    if (status == ST_OK && residual->n_shortcut > 0) {
        gd_residual_begin_shortcut(module);
        build->before = before;
        status = children_build(build, residual->shortcut, residual->n_shortcut, residual->n_layers, &sum, module);
    }
    build->before = last;
    if (status != ST_OK) {
        return status;
    }
    if (!shapes_are_equal(&sum, shape)) {
        strbuf_t text = {0};
        model_shape_format(&sum, &text);
        status = residual->n_shortcut > 0
                     ? model_fail_input(build, layer, shape, "wants its layers to give the shortcut's shape %s",
                                        strbuf_text(&text))
                     : model_fail_input(build, layer, shape, "wants its layers to keep the input's shape %s",
                                        strbuf_text(&text));
        strbuf_release(&text);
        return status;
    }
    build->before = layer;
    return ST_OK;
}

/* What the branches so far give together with another one. */
static status_t branch_combine(model_build_t *build, const Gradd__V1__Layer *layer, const wrk_shape_t *branch,
                               size_t index, wrk_shape_t *total)
{
    const Gradd__V1__Layer__Parallel *parallel = layer->parallel;
    if (index == 0) {
        *total = *branch;
        return ST_OK;
    }
    wrk_shape_t fit = *total;
    bool is_concat = parallel->combine == GRADD__V1__LAYER__PARALLEL__COMBINE__concat;
    int axis = parallel->axis - 1;
    if (is_concat && axis < fit.n_dims && axis < branch->n_dims) {
        fit.size[axis] = branch->size[axis];
    }
    if (!shapes_are_equal(&fit, branch)) {
        strbuf_t text = {0};
        model_shape_format(total, &text);
        status_t status = model_fail_input(
            build, layer, branch, "branch %zu wants to give what fits those before it, %s", index, strbuf_text(&text));
        strbuf_release(&text);
        return status;
    }
    if (is_concat) {
        total->size[axis] += branch->size[axis];
    }
    return ST_OK;
}

static status_t parallel_build(model_build_t *build, const Gradd__V1__Layer *layer, wrk_shape_t *shape,
                               gd_module_t *module)
{
    const Gradd__V1__Layer__Parallel *parallel = layer->parallel;
    const Gradd__V1__Layer *before = build->before;
    wrk_shape_t total = *shape;
    for (size_t i = 0; i < parallel->n_branches; i++) {
        const Gradd__V1__Layer__Group *branch = parallel->branches[i];
        wrk_shape_t given = *shape;
        char place[24];
        (void)snprintf(place, sizeof(place), "%zu", i);
        const char *name = branch->name != NULL && branch->name[0] != '\0' ? branch->name : place;
        build->before = before;
        status_t status = block_build(build, branch->layers, branch->n_layers, branch->checkpoint, &given, module,
                                      branch->inline_ ? NULL : name);
        if (status == ST_OK && (given.dtype != GD_DTYPE_F32 || parallel->axis > given.n_dims)) {
            status = model_fail_input(build, layer, &given, "branch %zu wants to give numbers with an axis %d", i,
                                      parallel->axis);
        }
        if (status == ST_OK) {
            status = branch_combine(build, layer, &given, i, &total);
        }
        if (status != ST_OK) {
            return status;
        }
    }
    *shape = total;
    build->before = layer;
    return ST_OK;
}

/* Of a container as a whole; a repeat's repetitions are segments each. */
static bool layer_is_checkpointed(const Gradd__V1__Layer *layer)
{
    switch (layer->kind_case) {
    case GRADD__V1__LAYER__KIND_SEQUENTIAL:
        return layer->sequential->checkpoint;
    case GRADD__V1__LAYER__KIND_RESIDUAL:
        return layer->residual->checkpoint;
    case GRADD__V1__LAYER__KIND_PARALLEL:
        return layer->parallel->checkpoint;
    default:
        return false;
    }
}

/* ---- tokens and their padding ---- */

status_t model_padding_check(const model_build_t *build, const Gradd__V1__Layer *layer, const wrk_shape_t *shape)
{
    return !build->own.has_padding || shape->size[0] == build->own.n_places
               ? ST_OK
               : model_fail_input(build, layer, shape,
                                  "wants the %lld places of the tokens, of which model.padding says which are padding",
                                  (long long)build->own.n_places);
}

status_t model_memory_check(const model_build_t *build, const Gradd__V1__Layer *layer, const wrk_shape_t *shape)
{
    if (build->source.sequence == NULL) {
        return model_fail(ST_ERR_INVAL, layer,
                          "attends to an encoder's result: it stands in no encoder_decoder's decoder");
    }
    return shape->size[1] == build->memory_width
               ? ST_OK
               : model_fail_input(build, layer, shape, "wants the width %lld of the encoder's result [B, %lld, %lld]",
                                  (long long)build->memory_width, (long long)build->source.n_places,
                                  (long long)build->memory_width);
}

/* The encoder on the first tokens, and the decoder, which knows its result, on the others. */
static status_t encoder_decoder_parts(model_build_t *build, const Gradd__V1__Layer *layer, const wrk_shape_t *in,
                                      gd_module_t *module, wrk_shape_t *shape)
{
    const Gradd__V1__Layer__EncoderDecoder *parts = layer->encoder_decoder;
    const Gradd__V1__Layer *before = build->before;
    const bool has_padding = build->padding >= 0;
    wrk_shape_t memory = *in;
    wrk_shape_t given = *in;
    memory.size[0] = parts->source;
    given.size[0] -= parts->source;
    build->own = (model_tokens_t){gd_encoder_decoder_source(module), has_padding, memory.size[0]};
    build->source = (model_tokens_t){0};
    status_t status = block_build(build, parts->encoder, parts->n_encoder, false, &memory, module, "encoder");
    if (status == ST_OK &&
        (memory.dtype != GD_DTYPE_F32 || memory.n_dims != 2 || memory.size[0] != build->own.n_places)) {
        status = model_fail_input(build, layer, &memory, "wants its encoder to give vectors [B, %lld, C]",
                                  (long long)build->own.n_places);
    }
    if (status == ST_OK) {
        build->source = build->own;
        build->own = (model_tokens_t){gd_encoder_decoder_target(module), has_padding, given.size[0]};
        build->memory_width = memory.size[1];
        build->before = before;
        status = block_build(build, parts->decoder, parts->n_decoder, false, &given, module, "decoder");
    }
    *shape = given;
    return status;
}

static status_t encoder_decoder_build(model_build_t *build, const Gradd__V1__Layer *layer, wrk_shape_t *shape,
                                      gd_module_t *module)
{
    const int64_t n_source = layer->encoder_decoder->source;
    const model_tokens_t own = build->own, source = build->source;
    const int64_t memory_width = build->memory_width;
    const wrk_shape_t in = *shape;
    if (in.dtype != GD_DTYPE_I64 || in.n_dims != 1 || in.size[0] <= n_source) {
        return model_fail_input(build, layer, &in, "wants tokens [B, T] i64, more than the %lld of its source",
                                (long long)n_source);
    }
    status_t status = encoder_decoder_parts(build, layer, &in, module, shape);
    if (status != ST_OK) {
        build->own = own;
    } /* else layers behind it work on the target's tokens */
    build->source = source;
    build->memory_width = memory_width;
    build->before = status == ST_OK ? layer : build->before;
    return status;
}

/* Looks at the tokens before any layer does. */
static status_t padding_build(model_build_t *build, const wrk_shape_t *input, gd_module_t *root)
{
    if (build->padding < 0) {
        return ST_OK;
    }
    if (input->dtype != GD_DTYPE_I64 || input->n_dims != 1) {
        strbuf_t text = {0};
        model_shape_format(input, &text);
        status_t status =
            ST_FAIL(ST_ERR_SHAPE, "model.padding: wants tokens [B, T] i64, but the data gives %s", strbuf_text(&text));
        strbuf_release(&text);
        return status;
    }
    gd_module_t *module = NULL;
    gd_sequence_t *sequence = NULL;
    status_t status = gd_sequence_new(build->padding, &sequence);
    if (status == ST_OK) {
        status = gd_padding_new(sequence, &module);
    }
    if (status == ST_OK) {
        status = gd_module_add_inline_child(root, module);
    }
    build->own = (model_tokens_t){sequence, true, input->size[0]};
    (void)gd_module_unref(module);
    (void)gd_sequence_unref(sequence); /* the module's reference is the one that stays */
    return status;
}

static status_t container_new(const model_build_t *build, const Gradd__V1__Layer *layer, gd_module_t **module_p)
{
    static const gd_combine_t combines[] = {
        [GRADD__V1__LAYER__PARALLEL__COMBINE__concat] = GD_COMBINE_CAT,
        [GRADD__V1__LAYER__PARALLEL__COMBINE__add] = GD_COMBINE_ADD,
        [GRADD__V1__LAYER__PARALLEL__COMBINE__multiply] = GD_COMBINE_MUL,
    };
    switch (layer->kind_case) {
    case GRADD__V1__LAYER__KIND_RESIDUAL:
        return gd_residual_new(module_p);
    case GRADD__V1__LAYER__KIND_PARALLEL:
        return gd_parallel_new(combines[layer->parallel->combine], layer->parallel->axis, module_p);
    case GRADD__V1__LAYER__KIND_ENCODER_DECODER:
        return gd_encoder_decoder_new(layer->encoder_decoder->source, build->padding, module_p);
    default:
        return gd_sequential_new(module_p);
    }
}

static status_t container_build(model_build_t *build, const Gradd__V1__Layer *layer, wrk_shape_t *shape,
                                gd_module_t **module_p)
{
    if (build->depth >= MAX_DEPTH) {
        return model_fail(ST_ERR_RANGE, layer, "layers nest deeper than %d", MAX_DEPTH);
    }
    build->depth++;
    gd_module_t *module = NULL;
    status_t status = container_new(build, layer, &module);
    if (status == ST_OK && layer->kind_case == GRADD__V1__LAYER__KIND_RESIDUAL) {
        status = residual_build(build, layer, shape, module);
    } else if (status == ST_OK && layer->kind_case == GRADD__V1__LAYER__KIND_REPEAT) {
        status = repeat_build(build, layer, shape, module);
    } else if (status == ST_OK && layer->kind_case == GRADD__V1__LAYER__KIND_PARALLEL) {
        status = parallel_build(build, layer, shape, module);
    } else if (status == ST_OK && layer->kind_case == GRADD__V1__LAYER__KIND_ENCODER_DECODER) {
        status = encoder_decoder_build(build, layer, shape, module);
    } else if (status == ST_OK) {
        status = children_build(build, layer->sequential->layers, layer->sequential->n_layers, 0, shape, module);
    }
    build->depth--;
    if (status != ST_OK) {
        (void)gd_module_unref(module);
        return status;
    }
    gd_module_set_checkpoint(module, layer_is_checkpointed(layer));
    *module_p = module;
    return ST_OK;
}

/* Whether the names in it are those of the list around it. */
static bool layer_is_inline(const Gradd__V1__Layer *layer)
{
    switch (layer->kind_case) {
    case GRADD__V1__LAYER__KIND_SEQUENTIAL:
        return layer->sequential->inline_;
    case GRADD__V1__LAYER__KIND_RESIDUAL:
        return layer->residual->inline_;
    case GRADD__V1__LAYER__KIND_REPEAT:
        return layer->repeat->inline_;
    case GRADD__V1__LAYER__KIND_PARALLEL:
        return layer->parallel->inline_;
    case GRADD__V1__LAYER__KIND_ENCODER_DECODER:
        return layer->encoder_decoder->inline_;
    case GRADD__V1__LAYER__KIND_PREPEND_PARAMETER: /* their name is the parameter's */
    case GRADD__V1__LAYER__KIND_ADD_PARAMETER:
        return true;
    default:
        return false;
    }
}

static status_t leaf_register(model_build_t *build, const Gradd__V1__Layer *layer, const gd_module_t *module)
{
    if (build->n_leaves == build->max_leaves) {
        int max = build->max_leaves > 0 ? 2 * build->max_leaves : 64;
        model_leaf_t *list = mem_realloc(build->leaves, (size_t)max * sizeof(*list));
        if (list == NULL) {
            return ST_FAIL(ST_ERR_NOMEM, "list of layers");
        }
        build->leaves = list;
        build->max_leaves = max;
    }
    build->leaves[build->n_leaves++] = (model_leaf_t){.layer = layer, .module = module};
    return ST_OK;
}

/* What the layer's fields `init` (of norms, whose constructors know none) and `bias_init` say of its parameters. */
static const Gradd__V1__Init *layer_init(const Gradd__V1__Layer *layer, const char *name)
{
    const ProtobufCMessage *fields = layer_fields(layer);
    const ProtobufCFieldDescriptor *field =
        fields != NULL ? protobuf_c_message_descriptor_get_field_by_name(fields->descriptor, name) : NULL;
    const Gradd__V1__Init *init = NULL;
    if (field != NULL) {
        memcpy(&init, (const char *)fields + field->offset, sizeof(init));
    }
    return init;
}

static bool layer_is_norm(const Gradd__V1__Layer *layer)
{
    return strstr(model_layer_kind(layer), "_norm") != NULL;
}

static status_t biases_init(gd_module_t *module, const Gradd__V1__Init *init)
{
    status_t status = ST_OK;
    for (int i = 0; i < module->n_parameters && status == ST_OK; i++) {
        const gd_parameter_t *parameter = &module->parameters[i];
        if (!parameter->is_buffer && !parameter->is_shared && strstr(parameter->name, "bias") != NULL) {
            status = model_init_apply(module, parameter->name, init);
        }
    }
    for (int i = 0; i < module->n_children && status == ST_OK; i++) {
        status = biases_init(module->children[i], init);
    }
    return status;
}

static status_t leaf_init(const Gradd__V1__Layer *layer, gd_module_t *module)
{
    const Gradd__V1__Init *bias = layer_init(layer, "bias_init");
    const Gradd__V1__Init *weight = layer_is_norm(layer) ? layer_init(layer, "init") : NULL;
    status_t status = bias != NULL ? biases_init(module, bias) : ST_OK;
    if (status == ST_OK && weight != NULL) {
        status = model_init_apply(module, "weight", weight);
        status = status == ST_OK ? ST_OK : model_add_place(status, layer);
    }
    return status;
}

static status_t layer_build_kind(model_build_t *build, const Gradd__V1__Layer *layer, wrk_shape_t *shape,
                                 gd_module_t **module_p)
{
    status_t status = layer_count(build, layer);
    if (status != ST_OK) {
        return status;
    }
    switch (layer->kind_case) {
    case GRADD__V1__LAYER__KIND__NOT_SET:
        return model_fail(ST_ERR_INVAL, layer, "has no kind");
    case GRADD__V1__LAYER__KIND_SEQUENTIAL:
    case GRADD__V1__LAYER__KIND_RESIDUAL:
    case GRADD__V1__LAYER__KIND_REPEAT:
    case GRADD__V1__LAYER__KIND_PARALLEL:
    case GRADD__V1__LAYER__KIND_ENCODER_DECODER:
        return container_build(build, layer, shape, module_p);
    default:
        break;
    }
    gd_module_t *module = NULL;
    status = model_leaf_build(build, layer, shape, &module);
    if (status == ST_OK) {
        status = leaf_init(layer, module);
    }
    if (status == ST_OK) {
        status = leaf_register(build, layer, module);
    }
    if (status != ST_OK) {
        (void)gd_module_unref(module);
        return status;
    }
    build->before = layer;
    *module_p = module;
    return ST_OK;
}

static status_t layer_build(model_build_t *build, const Gradd__V1__Layer *layer, wrk_shape_t *shape,
                            gd_module_t **module_p)
{
    gd_module_t *module = NULL;
    status_t status = layer_build_kind(build, layer, shape, &module);
    if (status == ST_OK && layer->file != NULL) {
        status = gd_module_set_place(module, layer->file, layer->line);
    }
    if (status != ST_OK) {
        (void)gd_module_unref(module);
        return status;
    }
    *module_p = module;
    return ST_OK;
}

static status_t children_build(model_build_t *build, Gradd__V1__Layer *const *layers, size_t n_layers, size_t first,
                               wrk_shape_t *shape, gd_module_t *parent)
{
    for (size_t i = 0; i < n_layers; i++) {
        gd_module_t *child = NULL;
        status_t status = layer_build(build, layers[i], shape, &child);
        if (status != ST_OK) {
            return status;
        }
        char index[24];
        (void)snprintf(index, sizeof(index), "%zu", first + i);
        const char *name = model_layer_name(layers[i]);
        status = layer_is_inline(layers[i]) ? gd_module_add_inline_child(parent, child)
                                            : gd_module_add_child(parent, name != NULL ? name : index, child);
        (void)gd_module_unref(child);
        if (status != ST_OK) {
            return model_add_place(status, layers[i]);
        }
    }
    return ST_OK;
}

/* ---- names ---- */

typedef struct named {
    char *name;
    const gd_module_t *owner;
} named_t;

typedef struct name_list {
    named_t *items;
    int n, max;
} name_list_t;

static status_t name_add(const char *full_name, gd_parameter_t *parameter, gd_module_t *owner, void *arg)
{
    (void)parameter;
    name_list_t *list = arg;
    if (list->n == list->max) {
        int max = list->max > 0 ? 2 * list->max : 64;
        named_t *items = mem_realloc(list->items, (size_t)max * sizeof(*items));
        if (items == NULL) {
            return ST_FAIL(ST_ERR_NOMEM, "names of parameters");
        }
        list->items = items;
        list->max = max;
    }
    char *copy = mem_strdup(full_name);
    if (copy == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "names of parameters");
    }
    list->items[list->n++] = (named_t){.name = copy, .owner = owner};
    return ST_OK;
}

static int named_compare(const void *a, const void *b)
{
    return strcmp(((const named_t *)a)->name, ((const named_t *)b)->name);
}

static bool module_holds(const gd_module_t *module, const gd_module_t *wanted)
{
    bool is_held = module == wanted;
    for (int i = 0; i < module->n_children && !is_held; i++) {
        is_held = module_holds(module->children[i], wanted);
    }
    return is_held;
}

static const Gradd__V1__Layer *owner_layer(const model_build_t *build, const gd_module_t *owner)
{
    for (int i = 0; i < build->n_leaves; i++) {
        if (module_holds(build->leaves[i].module, owner)) {
            return build->leaves[i].layer;
        }
    }
    return NULL;
}

/* Names with dots can meet: "a.b" beside "a" with a "b" in it. */
static status_t names_check(const model_build_t *build, gd_module_t *root)
{
    name_list_t list = {0};
    status_t status = gd_module_visit(root, name_add, &list);
    if (status == ST_OK && list.n > 0) {
        qsort(list.items, (size_t)list.n, sizeof(*list.items), named_compare);
    }
    for (int i = 1; i < list.n && status == ST_OK; i++) {
        if (strcmp(list.items[i - 1].name, list.items[i].name) == 0) {
            const Gradd__V1__Layer *one = owner_layer(build, list.items[i - 1].owner);
            const Gradd__V1__Layer *other = owner_layer(build, list.items[i].owner);
            strbuf_t text = {0};
            if (one != NULL) {
                layer_label(&text, one, true);
            }
            status = ST_FAIL(ST_ERR_EXISTS, "its parameter \"%s\" has the name of one of %s", list.items[i].name,
                             strbuf_text(&text));
            strbuf_release(&text);
            status = other != NULL ? model_add_place(status, other) : status;
        }
    }
    for (int i = 0; i < list.n; i++) {
        mem_free(list.items[i].name);
    }
    mem_free(list.items);
    return status;
}

status_t wrk_model_build_layers(const Gradd__V1__Model *model, const wrk_shape_t *input, gd_module_t **root_p,
                                wrk_shape_t *output_p)
{
    if (model == NULL || model->n_layers == 0) {
        return ST_FAIL(ST_ERR_INVAL, "the model has no layers");
    }
    model_build_t build = {.padding = model->padding};
    wrk_shape_t shape = *input;
    gd_module_t *root = NULL;
    status_t status = gd_sequential_new(&root);
    if (status == ST_OK) {
        status = padding_build(&build, input, root);
    }
    if (status == ST_OK) {
        status = children_build(&build, model->layers, model->n_layers, 0, &shape, root);
    }
    if (status == ST_OK) {
        status = names_check(&build, root);
    }
    mem_free(build.leaves);
    mem_free(build.embeddings);
    if (status != ST_OK) {
        (void)gd_module_unref(root);
        return status;
    }
    *root_p = root;
    if (output_p != NULL) {
        *output_p = shape;
    }
    return ST_OK;
}

status_t wrk_model_build(const spec_job_t *job, gd_dtype_t dtype, int n_dims, const int64_t *shape,
                         gd_module_t **model_p)
{
    wrk_shape_t input = {.dtype = dtype, .n_dims = n_dims};
    if (n_dims < 0 || n_dims >= GD_MAX_DIMS) {
        return ST_FAIL(ST_ERR_SHAPE, "samples of %d dimensions", n_dims);
    }
    for (int d = 0; d < n_dims; d++) {
        input.size[d] = shape[d];
    }
    return wrk_model_build_layers(job->model, &input, model_p, NULL);
}

status_t wrk_model_load_weights(const Gradd__V1__Weights *weights, gd_module_t *model, strbuf_t *report)
{
    const gd_load_options_t options = {.strip = weights->strip,
                                       .add = weights->add,
                                       .ignore = (const char *const *)weights->ignore,
                                       .n_ignore = (int)weights->n_ignore,
                                       .allows_gaps = !weights->strict};
    status_t status = gd_module_load(model, weights->file, &options, report);
    return status == ST_OK ? ST_OK : status_add_context(status, "model.weights");
}

/* The first position_embedding's count in what a message holds: lists of layers, and lists of branches. */
static int64_t context_find(const ProtobufCMessage *message, int depth)
{
    for (unsigned i = 0; i < message->descriptor->n_fields && depth < 3 * MAX_DEPTH; i++) {
        const ProtobufCFieldDescriptor *field = &message->descriptor->fields[i];
        if (field->label != PROTOBUF_C_LABEL_REPEATED || field->type != PROTOBUF_C_TYPE_MESSAGE) {
            continue;
        }
        size_t n_items = *(const size_t *)((const char *)message + field->quantifier_offset);
        ProtobufCMessage *const *items = *(void *const *)((const char *)message + field->offset);
        for (size_t k = 0; k < n_items; k++) {
            const ProtobufCMessage *inner = items[k];
            if (field->descriptor == &gradd__v1__layer__descriptor) {
                const Gradd__V1__Layer *layer = (const Gradd__V1__Layer *)items[k];
                if (layer->kind_case == GRADD__V1__LAYER__KIND_POSITION_EMBEDDING) {
                    return layer->position_embedding->count;
                }
                inner = layer_fields(layer);
            }
            int64_t count = inner != NULL ? context_find(inner, depth + 1) : 0;
            if (count > 0) {
                return count;
            }
        }
    }
    return 0;
}

int64_t wrk_model_context(const spec_job_t *job)
{
    return job->model != NULL ? context_find(&job->model->base, 0) : 0;
}
