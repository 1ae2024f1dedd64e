/* SPDX-License-Identifier: Apache-2.0 */
/* module: the tree: parameters, buffers, children, names and walks. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "base/hash.h"
#include "base/mem.h"
#include "gradd/autograd.h"
#include "gradd/nn.h"
#include "nn/fail.h"
#include "nn/hooks.h"

status_t gd_module_new(const gd_module_ops_t *ops, size_t size, gd_module_t **module_p)
{
    ASSERT(size >= sizeof(gd_module_t));
    gd_module_t *module = mem_zalloc(size);
    char *path = mem_strdup("");
    if (module == NULL || path == NULL) {
        mem_free(module);
        mem_free(path);
        return ST_FAIL(ST_ERR_NOMEM, "module %s", ops->kind);
    }
    module->ops = ops;
    module->n_refs = 1;
    module->path = path;
    *module_p = module;
    return ST_OK;
}

gd_module_t *gd_module_ref(gd_module_t *module)
{
    module->n_refs++;
    return module;
}

gd_module_t *gd_module_unref(gd_module_t *module)
{
    if (module == NULL || --module->n_refs > 0) {
        return NULL;
    }
    if (module->ops->release != NULL) {
        module->ops->release(module);
    }
    for (int i = 0; i < module->n_parameters; i++) {
        mem_free(module->parameters[i].name);
        (void)gd_tensor_unref(module->parameters[i].tensor);
    }
    for (int i = 0; i < module->n_children; i++) {
        mem_free(module->child_names[i]);
        (void)gd_module_unref(module->children[i]);
    }
    (void)gd_tensor_unref(module->batch_mean);
    (void)gd_tensor_unref(module->batch_var);
    mem_free(module->parameters);
    mem_free(module->child_names);
    mem_free(module->children);
    module_hooks_free(module->hooks);
    mem_free(module->place);
    mem_free(module->path);
    mem_free(module);
    return NULL;
}

static bool name_is_taken(const gd_module_t *module, const char *name)
{
    bool is_taken = false;
    for (int i = 0; i < module->n_parameters; i++) {
        is_taken = is_taken || strcmp(module->parameters[i].name, name) == 0;
    }
    for (int i = 0; i < module->n_children; i++) {
        const char *child = module->child_names[i];
        is_taken =
            is_taken || strcmp(child, name) == 0 || (child[0] == '\0' && name_is_taken(module->children[i], name));
    }
    return is_taken;
}

/* An own name: not taken by a parameter, buffer or child; dots only where allowed, between words. */
static status_t name_check(const gd_module_t *module, const char *name, bool has_dots)
{
    size_t length = strlen(name);
    if (length == 0 || (!has_dots && strchr(name, '.') != NULL)) {
        return ST_FAIL(ST_ERR_INVAL, "%s: \"%s\" can't be a name: it is empty or has a dot", module->ops->kind, name);
    }
    if (name[0] == '.' || name[length - 1] == '.' || strstr(name, "..") != NULL) {
        return ST_FAIL(ST_ERR_INVAL, "%s: \"%s\" can't be a name: it has an empty word", module->ops->kind, name);
    }
    return name_is_taken(module, name) ? ST_FAIL(ST_ERR_EXISTS, "%s: the name \"%s\" is taken", module->ops->kind, name)
                                       : ST_OK;
}

/* See gd_meta_set_enabled. */
static _Thread_local bool is_meta;

bool gd_meta_set_enabled(bool is_enabled)
{
    bool before = is_meta;
    is_meta = is_enabled;
    return before;
}

static status_t storage_new(int n_dims, const int64_t *shape, double value, gd_tensor_t **tensor_p)
{
    if (!is_meta || n_dims == 0) {
        return gd_tensor_full(GD_DTYPE_F32, n_dims, shape, value, tensor_p);
    }
    gd_tensor_t *one = NULL;
    status_t status = gd_tensor_full(GD_DTYPE_F32, 0, NULL, value, &one);
    if (status == ST_OK) {
        status = gd_expand(one, n_dims, shape, tensor_p);
    }
    (void)gd_tensor_unref(one);
    return status;
}

/* Appends a row; takes the reference to tensor on success. */
static status_t parameter_append(gd_module_t *module, const char *name, gd_tensor_t *tensor, gd_init_t init,
                                 gd_parameter_t **parameter_p)
{
    status_t status = name_check(module, name, false);
    if (status != ST_OK) {
        return status;
    }
    char *copy = mem_strdup(name);
    gd_parameter_t *rows =
        mem_realloc(module->parameters, (size_t)(module->n_parameters + 1) * sizeof(*module->parameters));
    if (rows != NULL) {
        module->parameters = rows;
    }
    if (copy == NULL || rows == NULL) {
        mem_free(copy);
        return ST_FAIL(ST_ERR_NOMEM, "%s: parameter \"%s\"", module->ops->kind, name);
    }
    gd_parameter_t *parameter = &rows[module->n_parameters++];
    *parameter = (gd_parameter_t){.name = copy, .tensor = tensor, .init = init};
    *parameter_p = parameter;
    return ST_OK;
}

status_t gd_module_add_parameter(gd_module_t *module, const char *name, int n_dims, const int64_t *shape,
                                 gd_init_t init, gd_tensor_t **tensor_p)
{
    gd_tensor_t *tensor = NULL;
    status_t status = storage_new(n_dims, shape, 0, &tensor);
    if (status != ST_OK) {
        return status_add_context(status, "%s: parameter \"%s\"", module->ops->kind, name);
    }
    status = gd_tensor_set_requires_grad(tensor, true);
    gd_parameter_t *parameter = NULL;
    if (status == ST_OK) {
        status = parameter_append(module, name, tensor, init, &parameter);
    }
    if (status != ST_OK) {
        (void)gd_tensor_unref(tensor);
        return status;
    }
    if (tensor_p != NULL) {
        *tensor_p = tensor;
    }
    return ST_OK;
}

status_t gd_module_add_buffer(gd_module_t *module, const char *name, int n_dims, const int64_t *shape, double value,
                              gd_tensor_t **tensor_p)
{
    gd_tensor_t *tensor = NULL;
    status_t status = storage_new(n_dims, shape, value, &tensor);
    if (status != ST_OK) {
        return status_add_context(status, "%s: buffer \"%s\"", module->ops->kind, name);
    }
    gd_parameter_t *parameter = NULL;
    status = parameter_append(module, name, tensor, (gd_init_t){.kind = GD_INIT_CONSTANT, .a = value}, &parameter);
    if (status != ST_OK) {
        (void)gd_tensor_unref(tensor);
        return status;
    }
    parameter->is_buffer = true;
    if (tensor_p != NULL) {
        *tensor_p = tensor;
    }
    return ST_OK;
}

status_t gd_module_share_parameter(gd_module_t *module, const char *name, gd_tensor_t *tensor)
{
    gd_parameter_t *parameter = NULL;
    status_t status = parameter_append(module, name, tensor, (gd_init_t){.kind = GD_INIT_ZEROS}, &parameter);
    if (status != ST_OK) {
        return status;
    }
    (void)gd_tensor_ref(tensor);
    parameter->is_shared = true;
    return ST_OK;
}

/* name "": the child's names are the module's own. */
static status_t child_append(gd_module_t *module, const char *name, gd_module_t *child)
{
    if (child->has_parent || child == module) {
        return ST_FAIL(ST_ERR_STATE, "%s: child \"%s\" (%s) has a parent already; share its parameters instead",
                       module->ops->kind, name, child->ops->kind);
    }
    size_t n = (size_t)module->n_children + 1;
    char *copy = mem_strdup(name);
    char **names = mem_realloc(module->child_names, n * sizeof(*names));
    if (names != NULL) {
        module->child_names = names;
    }
    gd_module_t **children = mem_realloc(module->children, n * sizeof(gd_module_t *));
    if (children != NULL) {
        module->children = children;
    }
    if (copy == NULL || names == NULL || children == NULL) {
        mem_free(copy);
        return ST_FAIL(ST_ERR_NOMEM, "%s: child \"%s\"", module->ops->kind, name);
    }
    names[module->n_children] = copy;
    children[module->n_children] = gd_module_ref(child);
    module->n_children++;
    child->has_parent = true;
    return ST_OK;
}

status_t gd_module_add_child(gd_module_t *module, const char *name, gd_module_t *child)
{
    status_t status = name_check(module, name, true);
    return status == ST_OK ? child_append(module, name, child) : status;
}

/* Each of the child's names, those of its own inline children included, against the module's. */
static status_t inline_check(const gd_module_t *module, const gd_module_t *child)
{
    status_t status = ST_OK;
    for (int i = 0; i < child->n_parameters && status == ST_OK; i++) {
        status = name_check(module, child->parameters[i].name, false);
    }
    for (int i = 0; i < child->n_children && status == ST_OK; i++) {
        status = child->child_names[i][0] == '\0' ? inline_check(module, child->children[i])
                                                  : name_check(module, child->child_names[i], true);
    }
    return status;
}

status_t gd_module_add_inline_child(gd_module_t *module, gd_module_t *child)
{
    status_t status = inline_check(module, child);
    return status == ST_OK ? child_append(module, "", child) : status;
}

status_t gd_module_set_place(gd_module_t *module, const char *file, int line)
{
    strbuf_t text = {0};
    strbuf_appendf(&text, "%s:%d", file, line);
    char *place = mem_strdup(strbuf_text(&text));
    strbuf_release(&text);
    if (place == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "%s: its place in %s", module->ops->kind, file);
    }
    mem_free(module->place);
    module->place = place;
    return ST_OK;
}

status_t module_fail_shape(const gd_tensor_t *x, const char *format, ...)
{
    char rest[256];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(rest, sizeof(rest), format, args);
    va_end(args);
    strbuf_t shape = {0};
    gd_tensor_format_shape(x, &shape);
    status_t status = ST_FAIL(ST_ERR_SHAPE, "x is %s%s", strbuf_text(&shape), rest);
    strbuf_release(&shape);
    return status;
}

status_t module_add_context(status_t status, const gd_module_t *module)
{
    if (status == ST_ERR_NONFINITE && strncmp(status_message(), "step ", 5) == 0) {
        return status; /* anomaly mode has named step, module and place */
    }
    return status_add_context(status, "%s (%s)%s%s", module->path[0] != '\0' ? module->path : "model",
                              module->ops->kind, module->place != NULL ? " at " : "",
                              module->place != NULL ? module->place : "");
}

/* How many contexts gd_module_forward has put before messages: only the innermost module names itself. */
static _Thread_local uint64_t n_contexts;

static status_t module_run(gd_module_t *module, bool is_last, gd_tensor_t *x, gd_tensor_t **y_p)
{
    if (module == NULL || x == NULL) {
        return ST_FAIL(ST_ERR_INVAL, "gd_module_forward: the %s is missing", module == NULL ? "module" : "input");
    }
    uint64_t n_before = n_contexts;
    bool is_special = module->hooks != NULL || module->is_checkpointed || gd_anomaly_is_on();
    is_last = is_last && module->ops->forward_last != NULL;
    status_t status = is_special ? module_hooks_forward(module, x, y_p)
                      : is_last  ? module->ops->forward_last(module, x, y_p)
                                 : module->ops->forward(module, x, y_p);
    if (status != ST_OK && n_contexts == n_before) {
        n_contexts++;
        return module_add_context(status, module);
    }
    return status;
}

status_t gd_module_forward(gd_module_t *module, gd_tensor_t *x, gd_tensor_t **y_p)
{
    return module_run(module, false, x, y_p);
}

status_t gd_module_forward_last(gd_module_t *module, gd_tensor_t *x, gd_tensor_t **y_p)
{
    return module_run(module, true, x, y_p);
}

static status_t path_set(gd_module_t *module, const strbuf_t *prefix)
{
    strbuf_t path = {0};
    strbuf_append(&path, strbuf_text(prefix));
    size_t length = path.length;
    char *copy = mem_strdup(strbuf_text(&path));
    status_t status = ST_OK;
    if (copy == NULL || path.is_failed) {
        mem_free(copy);
        status = ST_FAIL(ST_ERR_NOMEM, "module paths");
    } else {
        mem_free(module->path);
        module->path = copy;
        uint64_t hash = hash_fnv1a_text(copy);
        module->layer = (uint32_t)(hash ^ (hash >> 32));
    }
    for (int i = 0; i < module->n_children && status == ST_OK; i++) {
        strbuf_clear(&path);
        strbuf_append_bytes(&path, module->path, length);
        const char *name = module->child_names[i];
        strbuf_appendf(&path, "%s%s", length > 0 && name[0] != '\0' ? "." : "", name);
        status = path_set(module->children[i], &path);
    }
    strbuf_release(&path);
    return status;
}

status_t gd_module_set_paths(gd_module_t *root)
{
    strbuf_t empty = {0};
    return path_set(root, &empty);
}

static status_t visit_below(gd_module_t *module, strbuf_t *name, bool has_shared, gd_parameter_visit_func_t visit,
                            void *arg)
{
    size_t length = name->length;
    for (int i = 0; i < module->n_parameters; i++) {
        gd_parameter_t *parameter = &module->parameters[i];
        if (parameter->is_shared && !has_shared) {
            continue;
        }
        strbuf_append(name, parameter->name);
        status_t status =
            name->is_failed ? ST_FAIL(ST_ERR_NOMEM, "parameter names") : visit(name->data, parameter, module, arg);
        if (status != ST_OK) {
            return status;
        }
        name->data[name->length = length] = '\0';
    }
    for (int i = 0; i < module->n_children; i++) {
        strbuf_appendf(name, "%s%s", module->child_names[i], module->child_names[i][0] != '\0' ? "." : "");
        status_t status = visit_below(module->children[i], name, has_shared, visit, arg);
        if (status != ST_OK) {
            return status;
        }
        if (name->data != NULL) {
            name->data[name->length = length] = '\0';
        }
    }
    return ST_OK;
}

status_t gd_module_visit(gd_module_t *root, gd_parameter_visit_func_t visit, void *arg)
{
    strbuf_t name = {0};
    status_t status = visit_below(root, &name, false, visit, arg);
    strbuf_release(&name);
    return status;
}

status_t gd_module_visit_shared(gd_module_t *root, gd_parameter_visit_func_t visit, void *arg)
{
    strbuf_t name = {0};
    status_t status = visit_below(root, &name, true, visit, arg);
    strbuf_release(&name);
    return status;
}

status_t gd_module_set_init(gd_module_t *module, const char *name, gd_init_t init)
{
    for (int i = 0; i < module->n_parameters; i++) {
        gd_parameter_t *parameter = &module->parameters[i];
        if (strcmp(parameter->name, name) == 0 && !parameter->is_buffer && !parameter->is_shared) {
            const int64_t zero_row = init.zero_row != 0 ? init.zero_row : parameter->init.zero_row;
            parameter->init = init;
            parameter->init.zero_row = zero_row; /* what is 0 stays so, however the rest is drawn */
            return ST_OK;
        }
    }
    return ST_FAIL(ST_ERR_NOT_FOUND, "%s has no parameter \"%s\"", module->ops->kind, name);
}
