/* SPDX-License-Identifier: Apache-2.0 */
/* model: walks the Layer messages: names, containers, limits. What each kind of layer needs is in model_layers.c. */
#include "worker/model.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
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

/* NULL: none given. */
static const char *layer_name(const Gradd__V1__Layer *layer)
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
    if (layer_name(layer) != NULL) {
        strbuf_appendf(text, " \"%s\"", layer_name(layer));
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

status_t model_add_place(status_t status, const Gradd__V1__Layer *layer)
{
    strbuf_t text = {0};
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

static status_t children_build(model_build_t *build, Gradd__V1__Layer *const *layers, size_t n_layers,
                               wrk_shape_t *shape, gd_module_t *parent);

/* `repeat`: `times` sequentials of its layers, each with parameters of its own. */
static status_t repeat_build(model_build_t *build, const Gradd__V1__Layer *layer, wrk_shape_t *shape,
                             gd_module_t *parent)
{
    const Gradd__V1__Layer__Repeat *repeat = layer->repeat;
    for (int32_t i = 0; i < repeat->times; i++) {
        status_t status = layer_count(build, layer);
        if (status != ST_OK) {
            return status;
        }
        gd_module_t *block = NULL;
        status = gd_sequential_new(&block);
        if (status == ST_OK) {
            status = children_build(build, repeat->layers, repeat->n_layers, shape, block);
        }
        if (status == ST_OK) {
            char name[16];
            (void)snprintf(name, sizeof(name), "%d", i);
            status = gd_module_add_child(parent, name, block);
        }
        (void)gd_module_unref(block);
        if (status != ST_OK) {
            return status;
        }
    }
    return ST_OK;
}

static status_t residual_build(model_build_t *build, const Gradd__V1__Layer *layer, wrk_shape_t *shape,
                               gd_module_t *module)
{
    const wrk_shape_t in = *shape;
    if (in.dtype != GD_DTYPE_F32) {
        return model_fail_input(build, layer, &in, "wants numbers to add to");
    }
    status_t status = children_build(build, layer->residual->layers, layer->residual->n_layers, shape, module);
    if (status != ST_OK) {
        return status;
    }
    bool is_equal = in.dtype == shape->dtype && in.n_dims == shape->n_dims;
    for (int d = 0; is_equal && d < in.n_dims; d++) {
        is_equal = in.size[d] == shape->size[d];
    }
    if (!is_equal) {
        strbuf_t text = {0};
        model_shape_format(&in, &text);
        status =
            model_fail_input(build, layer, shape, "wants its layers to keep the input's shape %s", strbuf_text(&text));
        strbuf_release(&text);
        return status;
    }
    build->before = layer;
    return ST_OK;
}

static status_t container_build(model_build_t *build, const Gradd__V1__Layer *layer, wrk_shape_t *shape,
                                gd_module_t **module_p)
{
    if (build->depth >= MAX_DEPTH) {
        return model_fail(ST_ERR_RANGE, layer, "layers nest deeper than %d", MAX_DEPTH);
    }
    build->depth++;
    gd_module_t *module = NULL;
    status_t status =
        layer->kind_case == GRADD__V1__LAYER__KIND_RESIDUAL ? gd_residual_new(&module) : gd_sequential_new(&module);
    if (status == ST_OK && layer->kind_case == GRADD__V1__LAYER__KIND_RESIDUAL) {
        status = residual_build(build, layer, shape, module);
    } else if (status == ST_OK && layer->kind_case == GRADD__V1__LAYER__KIND_REPEAT) {
        status = repeat_build(build, layer, shape, module);
    } else if (status == ST_OK) {
        status = children_build(build, layer->sequential->layers, layer->sequential->n_layers, shape, module);
    }
    build->depth--;
    if (status != ST_OK) {
        (void)gd_module_unref(module);
        return status;
    }
    *module_p = module;
    return ST_OK;
}

static status_t layer_build(model_build_t *build, const Gradd__V1__Layer *layer, wrk_shape_t *shape,
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
        return container_build(build, layer, shape, module_p);
    default:
        break;
    }
    status = model_leaf_build(build, layer, shape, module_p);
    if (status == ST_OK) {
        build->before = layer;
    }
    return status;
}

static status_t children_build(model_build_t *build, Gradd__V1__Layer *const *layers, size_t n_layers,
                               wrk_shape_t *shape, gd_module_t *parent)
{
    for (size_t i = 0; i < n_layers; i++) {
        gd_module_t *child = NULL;
        status_t status = layer_build(build, layers[i], shape, &child);
        if (status != ST_OK) {
            return status;
        }
        char index[24];
        (void)snprintf(index, sizeof(index), "%zu", i);
        const char *name = layer_name(layers[i]);
        status = gd_module_add_child(parent, name != NULL ? name : index, child);
        (void)gd_module_unref(child);
        if (status != ST_OK) {
            return model_add_place(status, layers[i]);
        }
    }
    return ST_OK;
}

status_t wrk_model_build_layers(const Gradd__V1__Model *model, const wrk_shape_t *input, gd_module_t **root_p,
                                wrk_shape_t *output_p)
{
    if (model == NULL || model->n_layers == 0) {
        return ST_FAIL(ST_ERR_INVAL, "the model has no layers");
    }
    model_build_t build = {0};
    wrk_shape_t shape = *input;
    gd_module_t *root = NULL;
    status_t status = gd_sequential_new(&root);
    if (status == ST_OK) {
        status = children_build(&build, model->layers, model->n_layers, &shape, root);
    }
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

status_t wrk_model_build(const spec_job_t *job, int n_dims, const int64_t *shape, gd_module_t **model_p)
{
    wrk_shape_t input = {.dtype = n_dims == 1 ? GD_DTYPE_I64 : GD_DTYPE_F32, .n_dims = n_dims};
    if (n_dims < 0 || n_dims >= GD_MAX_DIMS) {
        return ST_FAIL(ST_ERR_SHAPE, "samples of %d dimensions", n_dims);
    }
    for (int d = 0; d < n_dims; d++) {
        input.size[d] = shape[d];
    }
    return wrk_model_build_layers(job->model, &input, model_p, NULL);
}

static int64_t context_find(Gradd__V1__Layer *const *layers, size_t n_layers, int depth)
{
    for (size_t i = 0; i < n_layers && depth < MAX_DEPTH; i++) {
        const Gradd__V1__Layer *layer = layers[i];
        int64_t count = 0;
        if (layer->kind_case == GRADD__V1__LAYER__KIND_POSITION_EMBEDDING) {
            count = layer->position_embedding->count;
        } else if (layer->kind_case == GRADD__V1__LAYER__KIND_SEQUENTIAL ||
                   layer->kind_case == GRADD__V1__LAYER__KIND_RESIDUAL) {
            count = context_find(layer->sequential->layers, layer->sequential->n_layers, depth + 1);
        } else if (layer->kind_case == GRADD__V1__LAYER__KIND_REPEAT) {
            count = context_find(layer->repeat->layers, layer->repeat->n_layers, depth + 1);
        }
        if (count > 0) {
            return count;
        }
    }
    return 0;
}

int64_t wrk_model_context(const spec_job_t *job)
{
    return job->model != NULL ? context_find(job->model->layers, job->model->n_layers, 0) : 0;
}
