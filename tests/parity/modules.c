/* SPDX-License-Identifier: Apache-2.0 */
/* modules: a case's job is parsed, its layers are built for x, given the state, and run forward and backward. */
#include "tests/parity/modules.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/strbuf.h"
#include "gradd/amp.h"
#include "gradd/context.h"
#include "gradd/nn.h"
#include "gradd/ops.h"
#include "gradd/safetensors.h"
#include "proto/spec.h"
#include "worker/model.h"

enum { MAX_KEY = 256 };

typedef struct entry_list {
    gd_safetensors_entry_t *entries; /* names and data are owned */
    int n, n_room;
} entry_list_t;

typedef struct module_case {
    const gd_safetensors_t *file;
    const char *path; /* of it: a job must name some file as its data */
    char name[MAX_KEY];
    entry_list_t *out;
} module_case_t;

static status_t entry_add(entry_list_t *list, const gd_safetensors_entry_t *entry, size_t size_bytes)
{
    if (list->n == list->n_room) {
        const int n_room = list->n_room * 2 + 64;
        void *grown = mem_realloc(list->entries, (size_t)n_room * sizeof(*list->entries));
        if (grown == NULL) {
            return ST_FAIL(ST_ERR_NOMEM, "list of results");
        }
        list->entries = grown;
        list->n_room = n_room;
    }
    gd_safetensors_entry_t added = *entry;
    char *name = mem_strdup(entry->name);
    void *data = mem_alloc(size_bytes + 1);
    if (name == NULL || data == NULL) {
        mem_free(name);
        mem_free(data);
        return ST_FAIL(ST_ERR_NOMEM, "result %s", entry->name);
    }
    memcpy(data, entry->data, size_bytes);
    added.name = name;
    added.data = data;
    list->entries[list->n++] = added;
    return ST_OK;
}

static const gd_safetensors_entry_t *input_find(const module_case_t *c, const char *key)
{
    char full[2 * MAX_KEY];
    (void)snprintf(full, sizeof(full), "%s/%s", c->name, key);
    return gd_safetensors_find(c->file, full);
}

/* As f32, under NAME/KIND.NAME_OF, or NAME/KIND. */
static status_t tensor_add(module_case_t *c, const char *kind, const char *name_of, gd_tensor_t *t)
{
    char key[3 * MAX_KEY];
    gd_tensor_t *wide = NULL;
    gd_tensor_t *dense = NULL;
    status_t status =
        t != NULL ? gd_cast(t, GD_DTYPE_F32, &wide) : ST_FAIL(ST_ERR_STATE, "%s %s: there is none", kind, name_of);
    if (status == ST_OK) {
        status = gd_contiguous(wide, &dense);
    }
    if (status == ST_OK) {
        (void)snprintf(key, sizeof(key), "%s/%s%s%s", c->name, kind, name_of[0] != '\0' ? "." : "", name_of);
        gd_safetensors_entry_t entry = {
            .name = key, .dtype = GD_DTYPE_F32, .n_dims = gd_tensor_n_dims(t), .data = gd_tensor_data(dense)};
        memcpy(entry.shape, gd_tensor_shape(t), (size_t)entry.n_dims * sizeof(int64_t));
        status = entry_add(c->out, &entry, (size_t)gd_tensor_numel(dense) * sizeof(float));
    }
    (void)gd_tensor_unref(dense);
    (void)gd_tensor_unref(wide);
    return status;
}

static status_t error_add(const module_case_t *c, const char *message)
{
    char key[2 * MAX_KEY];
    (void)snprintf(key, sizeof(key), "%s/error", c->name);
    const gd_safetensors_entry_t entry = {
        .name = key, .dtype = GD_DTYPE_U8, .n_dims = 1, .shape = {(int64_t)strlen(message)}, .data = message};
    return entry_add(c->out, &entry, strlen(message));
}

static status_t input_load(const gd_safetensors_entry_t *entry, const char *key, gd_tensor_t **t_p)
{
    return entry != NULL ? gd_tensor_from_data(entry->dtype, entry->n_dims, entry->shape, entry->data, t_p)
                         : ST_FAIL(ST_ERR_NOT_FOUND, "the case has no %s", key);
}

/* ---- the module ---- */

static status_t job_parse(const module_case_t *c, spec_job_t **job_p)
{
    const gd_safetensors_entry_t *model = input_find(c, "model");
    strbuf_t text = {0};
    strbuf_append(&text, "model:\n  ");
    for (int64_t i = 0; i < model->shape[0]; i++) {
        const char *at = (const char *)model->data + i;
        strbuf_append_bytes(&text, at, 1);
        if (*at == '\n') {
            strbuf_append(&text, "  ");
        }
    }
    strbuf_appendf(&text, "\ndata: {train: {text: {path: %s, context: 8}}}\n", c->path);
    strbuf_append(&text, "training: {steps: 1, batch: 2, optimizer: {sgd: {lr: 1}}}\n");
    const spec_source_t source = {
        .text = strbuf_text(&text), .text_length = text.length, .file_name = "job.yaml", .directory = "."};
    spec_problems_t problems = {0};
    status_t status = spec_job_parse(&source, job_p, &problems);
    spec_problems_release(&problems);
    strbuf_release(&text);
    return status;
}

static status_t parameter_load(const char *full_name, gd_parameter_t *parameter, gd_module_t *owner, void *arg)
{
    (void)owner;
    char key[2 * MAX_KEY];
    gd_tensor_t *t = NULL;
    (void)snprintf(key, sizeof(key), "state.%s", full_name);
    status_t status = input_load(input_find(arg, key), key, &t);
    if (status == ST_OK) {
        status = gd_tensor_copy(parameter->tensor, t);
    }
    (void)gd_tensor_unref(t);
    return status;
}

static status_t model_build(module_case_t *c, const gd_safetensors_entry_t *x, gd_module_t **root_p,
                            wrk_shape_t *output_p)
{
    spec_job_t *job = NULL;
    wrk_shape_t input = {.dtype = x->dtype, .n_dims = x->n_dims - 1};
    memcpy(input.size, x->shape + 1, (size_t)input.n_dims * sizeof(int64_t));
    status_t status = job_parse(c, &job);
    if (status == ST_OK) {
        status = wrk_model_build_layers(job->model, &input, root_p, output_p);
    }
    spec_job_free(job);
    if (status == ST_OK) {
        status = gd_module_set_paths(*root_p);
    }
    return status == ST_OK ? gd_module_visit(*root_p, parameter_load, c) : status;
}

static status_t result_add(const char *full_name, gd_parameter_t *parameter, gd_module_t *owner, void *arg)
{
    (void)owner;
    return parameter->is_buffer ? tensor_add(arg, "after", full_name, parameter->tensor)
                                : tensor_add(arg, "grad", full_name, gd_tensor_grad(parameter->tensor));
}

static status_t statistics_apply(gd_module_t *root)
{
    float *record = mem_calloc((size_t)gd_module_statistics_size(root) + 1, sizeof(*record));
    if (record == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "statistics");
    }
    status_t status = gd_module_statistics_export(root, record);
    if (status == ST_OK) {
        status = gd_module_statistics_apply(root, record);
    }
    mem_free(record);
    return status;
}

/* What building promised of y is what came. */
static status_t output_check(const wrk_shape_t *promised, const gd_tensor_t *y)
{
    bool is_equal = gd_tensor_n_dims(y) == promised->n_dims + 1;
    for (int d = 0; is_equal && d < promised->n_dims; d++) {
        is_equal = gd_tensor_dim(y, d + 1) == promised->size[d];
    }
    return is_equal ? ST_OK : ST_FAIL(ST_ERR_STATE, "y hasn't the shape that was promised when the model was built");
}

static status_t backward_run(module_case_t *c, gd_module_t *root, gd_tensor_t *x, gd_tensor_t *y)
{
    gd_tensor_t *dy = NULL;
    gd_tensor_t *cast = NULL;
    status_t status = input_load(input_find(c, "dy"), "dy", &dy);
    if (status == ST_OK) {
        status = gd_cast(dy, gd_tensor_dtype(y), &cast);
    }
    if (status == ST_OK && y != x) { /* else the input itself: identity */
        status = gd_backward(y, cast, false);
    }
    if (status == ST_OK && gd_dtype_is_float(gd_tensor_dtype(x))) {
        status = tensor_add(c, "dx", "", y != x ? gd_tensor_grad(x) : dy);
    }
    (void)gd_tensor_unref(cast);
    (void)gd_tensor_unref(dy);
    if (status == ST_OK && gd_training_is_on()) {
        status = statistics_apply(root);
    }
    return status == ST_OK ? gd_module_visit(root, result_add, c) : status;
}

static status_t evaluation_run(module_case_t *c, gd_module_t *root, gd_tensor_t *x)
{
    gd_tensor_t *y = NULL;
    (void)gd_training_set(false);
    (void)gd_grad_set_enabled(false);
    status_t status = gd_module_forward(root, x, &y);
    if (status == ST_OK) {
        status = tensor_add(c, "eval", "", y);
    }
    (void)gd_tensor_unref(y);
    return status;
}

static status_t case_run(module_case_t *c)
{
    const gd_safetensors_entry_t *training = input_find(c, "training");
    const gd_safetensors_entry_t *x_entry = input_find(c, "x");
    gd_module_t *root = NULL;
    gd_tensor_t *x = NULL;
    gd_tensor_t *y = NULL;
    wrk_shape_t promised = {0};
    status_t status = input_load(x_entry, "x", &x);
    if (status == ST_OK) {
        status = model_build(c, x_entry, &root, &promised);
    }
    (void)gd_training_set(training == NULL || ((const uint8_t *)training->data)[0] != 0);
    (void)gd_grad_set_enabled(true);
    if (status == ST_OK && gd_dtype_is_float(x_entry->dtype)) {
        status = gd_tensor_set_requires_grad(x, true);
    }
    if (status == ST_OK) {
        status = gd_module_forward(root, x, &y);
    }
    if (status == ST_OK) {
        status = output_check(&promised, y);
    }
    if (status == ST_OK) {
        status = tensor_add(c, "y", "", y);
    }
    if (status == ST_OK) {
        status = backward_run(c, root, x, y);
    }
    if (status == ST_OK) {
        status = evaluation_run(c, root, x);
    }
    (void)gd_tensor_unref(y);
    (void)gd_tensor_unref(x);
    (void)gd_module_unref(root);
    return status;
}

/* ---- the file ---- */

/* Whether the entry is a case's model; then its case's name. */
static bool case_name(const gd_safetensors_entry_t *entry, char name[MAX_KEY])
{
    const char *suffix = strstr(entry->name, "/model");
    const size_t length = suffix != NULL && suffix[6] == '\0' ? (size_t)(suffix - entry->name) : MAX_KEY;
    if (length >= MAX_KEY) {
        return false;
    }
    memcpy(name, entry->name, length);
    name[length] = '\0';
    return true;
}

status_t modules_run(const char *from, const char *to, int n_threads, gd_dtype_t autocast)
{
    gd_safetensors_t *file = NULL;
    gd_context_t *context = NULL;
    entry_list_t out = {0};
    const gd_context_options_t options = {.n_threads = n_threads};
    status_t status = gd_safetensors_open(from, &file);
    if (status == ST_OK) {
        status = gd_context_open(&options, &context);
    }
    gd_context_t *before = status == ST_OK ? gd_context_set_current(context) : NULL;
    (void)gd_autocast_set(autocast);
    for (int i = 0; status == ST_OK && i < gd_safetensors_count(file); i++) {
        module_case_t c = {.file = file, .path = from, .out = &out};
        if (case_name(gd_safetensors_at(file, i), c.name) && case_run(&c) != ST_OK) {
            status = error_add(&c, status_message());
        }
    }
    if (status == ST_OK) {
        status = gd_safetensors_write(to, out.entries, out.n, NULL, 0, NULL);
    }
    if (context != NULL) {
        (void)gd_context_set_current(before);
        gd_context_close(context);
    }
    for (int i = 0; i < out.n; i++) {
        mem_free((void *)(uintptr_t)out.entries[i].name);
        mem_free((void *)(uintptr_t)out.entries[i].data);
    }
    mem_free(out.entries);
    gd_safetensors_close(file);
    return status;
}
