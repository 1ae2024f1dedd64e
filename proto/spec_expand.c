/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spec_expand: what happens to the nodes before they are read as fields: --set changes them, a model file's layers come
 * in, ${…} is replaced. Afterwards model holds `parameters` (with their final values) and `layers`; `file` and `with`
 * are used up.
 *
 * Names in ${…}: in layers the model's parameters, and everywhere what the client's environment gives. From the
 * daemon's own environment only names that begin with GRADD_ can be read, so that a job can't print its secrets.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "proto/spec_internal.h"

enum { MAX_SETS = 1000, MAX_PATH_WORDS = SPEC_MAX_DEPTH };

/* The names that ${…} knows at one place. */
typedef struct names {
    const spec_source_t *source;
    const char **keys, **values;
    int n_names, n_capacity;
} names_t;

const char *spec_absolute(spec_context_t *context, const char *path)
{
    if (path[0] == '/') {
        return path;
    }
    while (strncmp(path, "./", 2) == 0) {
        path += 2;
    }
    size_t length = strlen(context->directory) + strlen(path) + 2;
    char *absolute = arena_alloc(&context->arena, length);
    if (absolute == NULL) {
        context->report.is_out_of_memory = true;
        return NULL;
    }
    const char *separator = strcmp(context->directory, "/") == 0 ? "" : "/";
    (void)snprintf(absolute, length, "%s%s%s", context->directory, separator, path);
    return absolute;
}

/* ---- --set ---- */

static spec_node_t *node_new(spec_context_t *context, spec_kind_t kind, spec_place_t place)
{
    spec_node_t *node = arena_alloc(&context->arena, sizeof(*node));
    if (node == NULL) {
        context->report.is_out_of_memory = true;
        return NULL;
    }
    node->kind = kind;
    node->place = place;
    return node;
}

/* The child of a map (made when it is missing) or of a list; NULL after a problem. */
static spec_node_t *set_step(spec_context_t *context, spec_node_t *parent, char *word, spec_place_t place)
{
    if (parent->kind == SPEC_NODE_LIST) {
        char *end = NULL;
        long index = strtol(word, &end, 10);
        spec_node_t *child = parent->first;
        for (long i = 0; i < index && child != NULL; i++) {
            child = child->next;
        }
        if (child == NULL || end == word || *end != '\0' || index < 0) {
            spec_report(&context->report, place, "\"%.40s\" isn't the number of an element: 0 to %d", word,
                        parent->n_children - 1);
            return NULL;
        }
        return child;
    }
    if (parent->kind == SPEC_NODE_SCALAR) { /* "optimizer: adamw" becomes {adamw: …} */
        *parent = (spec_node_t){.kind = SPEC_NODE_MAP,
                                .place = parent->place,
                                .key = parent->key,
                                .key_place = parent->key_place,
                                .next = parent->next};
    }
    spec_node_t *child = spec_node_child(parent, word);
    if (child == NULL) {
        child = node_new(context, SPEC_NODE_MAP, place);
        if (child != NULL) {
            child->key = word;
            child->key_place = place;
            spec_node_add(parent, child);
        }
    }
    return child;
}

static spec_node_t *set_value(spec_context_t *context, const char *value, spec_place_t place)
{
    if (value[0] != '\0') {
        return spec_yaml_read(&context->arena, &context->report, value, strlen(value), place.file, false);
    }
    spec_node_t *empty = node_new(context, SPEC_NODE_SCALAR, place);
    if (empty != NULL) {
        empty->text = "";
    }
    return empty;
}

static bool path_is_good(const char *path)
{
    int n_words = 1;
    for (const char *c = path; *c != '\0'; c++) {
        n_words += *c == '.';
        if (*c == '.' && (c == path || c[1] == '.' || c[1] == '\0')) {
            return false;
        }
    }
    return path[0] != '\0' && n_words <= MAX_PATH_WORDS;
}

static void expand_set(spec_context_t *context, const spec_pair_t *pair)
{
    char *name = arena_alloc(&context->arena, strlen(pair->key) + 8);
    char *path = arena_strdup(&context->arena, pair->key);
    if (name == NULL || path == NULL) {
        context->report.is_out_of_memory = true;
        return;
    }
    (void)sprintf(name, "--set %s", pair->key);
    spec_place_t place = {name, 0, 0};
    spec_node_t *node = context->root;
    spec_node_t *parent = NULL;
    if (!path_is_good(path)) {
        spec_report(&context->report, place, "expected a path of names with points between, such as training.steps");
        return;
    }
    for (char *word = path; word != NULL && node != NULL;) {
        char *dot = strchr(word, '.');
        if (dot != NULL) {
            *dot = '\0';
        }
        parent = node;
        node = set_step(context, node, word, place);
        word = dot != NULL ? dot + 1 : NULL;
    }
    spec_node_t *value = node != NULL ? set_value(context, pair->value, place) : NULL;
    if (value != NULL && !value->is_null) {
        value->key = node->key;
        value->key_place = place;
        value->next = node->next;
        *node = *value;
    } else if (node != NULL) {
        spec_node_remove(parent,
                         node); /* "null": as if it weren't given; or reported: no complaint of an empty value */
    }
}

/* ---- ${…} ---- */

static const char *names_lookup(void *arg, const char *name)
{
    const names_t *names = arg;
    for (int i = 0; i < names->n_names; i++) {
        if (strcmp(names->keys[i], name) == 0) {
            return names->values[i];
        }
    }
    for (int i = 0; i < names->source->n_environment; i++) {
        if (strcmp(names->source->environment[i].key, name) == 0) {
            return names->source->environment[i].value;
        }
    }
    return strncmp(name, "GRADD_", 6) == 0 ? getenv(name) : NULL;
}

static void expand_scalar(spec_context_t *context, names_t *names, spec_node_t *node)
{
    if (strstr(node->text, "${") == NULL) {
        return;
    }
    spec_scope_t scope = {names_lookup, names, names->keys, names->n_names};
    strbuf_t text = {0};
    bool is_whole = false;
    status_t status = spec_expr_substitute(node->text, &scope, &text, &is_whole);
    char *copy = status == ST_OK ? arena_strdup(&context->arena, strbuf_text(&text)) : NULL;
    strbuf_release(&text);
    if (status == ST_ERR_NOMEM || (status == ST_OK && copy == NULL)) {
        context->report.is_out_of_memory = true;
        return;
    }
    if (status != ST_OK) {
        spec_report(&context->report, node->place, "%s", status_message());
        node->is_bad = true;
        return;
    }
    node->text = copy;
    node->is_plain = is_whole;
    node->is_null = false;
}

static void expand_node(spec_context_t *context, names_t *names, spec_node_t *node)
{
    if (node->kind == SPEC_NODE_SCALAR) {
        expand_scalar(context, names, node);
        return;
    }
    for (spec_node_t *child = node->first; child != NULL; child = child->next) {
        expand_node(context, names, child);
    }
}

/* Parameters in their order: a later one may use an earlier one. `with` (may be NULL) replaces values. */
static void names_fill(spec_context_t *context, names_t *names, spec_node_t *parameters, const spec_node_t *with)
{
    if (parameters == NULL || parameters->kind != SPEC_NODE_MAP) {
        return;
    }
    names->keys = arena_alloc(&context->arena, (size_t)parameters->n_children * sizeof(*names->keys));
    names->values = arena_alloc(&context->arena, (size_t)parameters->n_children * sizeof(*names->values));
    if (names->keys == NULL || names->values == NULL) {
        context->report.is_out_of_memory = true;
        return;
    }
    for (spec_node_t *entry = parameters->first; entry != NULL; entry = entry->next) {
        const spec_node_t *replacement = spec_node_child(with, entry->key);
        if (replacement != NULL) {
            entry->kind = replacement->kind;
            entry->place = replacement->place;
            entry->text = replacement->text;
            entry->is_plain = replacement->is_plain;
            entry->is_null = replacement->is_null;
            entry->is_bad = replacement->is_bad;
            entry->first = replacement->first;
        } else {
            expand_node(context, names, entry);
        }
        if (entry->kind == SPEC_NODE_SCALAR) {
            names->keys[names->n_names] = entry->key;
            names->values[names->n_names++] = entry->text;
        }
    }
}

/* ---- the model ---- */

static char *file_read(spec_context_t *context, const char *path, size_t *length_p, const char **reason_p)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat info;
    if (fd < 0 || fstat(fd, &info) != 0) {
        *reason_p = strerror(errno);
    } else if (!S_ISREG(info.st_mode)) {
        *reason_p = "not a file";
    } else if (info.st_size > SPEC_MAX_TEXT_BYTES) {
        *reason_p = "larger than 256 KiB";
    }
    char *text = *reason_p == NULL ? arena_alloc(&context->arena, SPEC_MAX_TEXT_BYTES + 1) : NULL;
    *length_p = 0;
    while (text != NULL && *length_p < SPEC_MAX_TEXT_BYTES) {
        ssize_t n = read(fd, text + *length_p, SPEC_MAX_TEXT_BYTES - *length_p);
        if (n < 0 && errno != EINTR) {
            *reason_p = strerror(errno);
            text = NULL;
        }
        if (n <= 0) {
            break;
        }
        *length_p += (size_t)n;
    }
    if (fd >= 0) {
        (void)close(fd);
    }
    return text;
}

static spec_node_t *model_file_read(spec_context_t *context, const spec_node_t *file)
{
    const char *path = spec_absolute(context, file->text);
    const char *reason = NULL;
    size_t length = 0;
    char *text = path != NULL ? file_read(context, path, &length, &reason) : NULL;
    if (text == NULL) {
        spec_report(&context->report, file->place, "model.file: %s: %s", path, reason != NULL ? reason : "no memory");
        return NULL;
    }
    return spec_yaml_read(&context->arena, &context->report, text, length, file->text, true);
}

/* A model file has parameters, layers and perhaps padding, and nothing else. */
static bool model_file_check(spec_context_t *context, const spec_node_t *tree)
{
    static const char *const known[] = {"parameters", "layers", "padding"};
    if (tree->kind != SPEC_NODE_MAP) {
        spec_report(&context->report, tree->place, "the model file: expected a map with layers");
        return false;
    }
    for (const spec_node_t *entry = tree->first; entry != NULL; entry = entry->next) {
        if (strcmp(entry->key, known[0]) != 0 && strcmp(entry->key, known[1]) != 0 &&
            strcmp(entry->key, known[2]) != 0) {
            char hint[128];
            spec_suggest(entry->key, known, 3, hint);
            spec_report(&context->report, entry->key_place, "unknown key \"%.60s\" in the model file%s", entry->key,
                        hint);
        }
    }
    const spec_node_t *parameters = spec_node_child(tree, "parameters");
    if (parameters != NULL && parameters->kind != SPEC_NODE_MAP && !parameters->is_null) {
        spec_report(&context->report, parameters->place,
                    "parameters of the model file: expected a map of names and values");
        return false;
    }
    if (spec_node_child(tree, "layers") == NULL) {
        spec_report(&context->report, tree->place, "missing key \"layers\" in the model file");
        return false;
    }
    return true;
}

static void model_check_with(spec_context_t *context, const spec_node_t *with, const spec_node_t *parameters)
{
    const char *names[SPEC_MAX_KEYS];
    int n_names = 0;
    bool is_map = parameters != NULL && parameters->kind == SPEC_NODE_MAP;
    for (const spec_node_t *entry = is_map ? parameters->first : NULL; entry != NULL; entry = entry->next) {
        names[n_names++] = entry->key;
    }
    if (with->kind != SPEC_NODE_MAP) {
        spec_report(&context->report, with->place, "model.with: expected a map of names and values");
        return;
    }
    for (const spec_node_t *entry = with->first; entry != NULL; entry = entry->next) {
        char hint[128];
        if (spec_node_child(parameters, entry->key) == NULL) {
            spec_suggest(entry->key, names, n_names, hint);
            spec_report(&context->report, entry->key_place, "model.with: the model has no parameter \"%.60s\"%s",
                        entry->key, hint);
        }
    }
}

static void model_move(spec_node_t *model, spec_node_t *tree, const char *key)
{
    spec_node_t *node = spec_node_child(tree, key);
    if (node != NULL) {
        spec_node_remove(tree, node);
        spec_node_add(model, node);
    }
}

/* Takes model.file and model.with away and puts the file's parameters and layers there. */
static void model_take_file(spec_context_t *context, spec_node_t *model, spec_node_t *file, const spec_node_t *with)
{
    spec_node_t *layers = spec_node_child(model, "layers");
    spec_node_t *parameters = spec_node_child(model, "parameters");
    if (layers != NULL) {
        spec_report(&context->report, layers->key_place, "model: give either file or layers, not both");
        return;
    }
    if (parameters != NULL) {
        spec_report(&context->report, parameters->key_place,
                    "model.parameters: those of a model file stand in it; model.with gives them other values");
        spec_node_remove(model, parameters);
    }
    spec_node_t *tree = model_file_read(context, file);
    context->has_bad_model = tree == NULL || !model_file_check(context, tree);
    if (context->has_bad_model) {
        return;
    }
    if (with != NULL) {
        model_check_with(context, with, spec_node_child(tree, "parameters"));
    }
    model_move(model, tree, "parameters");
    model_move(model, tree, "layers");
    if (spec_node_child(model, "padding") == NULL) { /* the job's own comes first */
        model_move(model, tree, "padding");
    }
}

static void expand_model(spec_context_t *context, spec_node_t *model, names_t *environment)
{
    spec_node_t *file = spec_node_child(model, "file");
    spec_node_t *with = spec_node_child(model, "with");
    if (with != NULL) {
        expand_node(context, environment, with);
    }
    if (file != NULL) {
        expand_node(context, environment, file);
    }
    if (file != NULL && file->is_bad) {
        context->has_bad_model = true;
        spec_node_remove(model, file);
    } else if (file != NULL && file->kind == SPEC_NODE_SCALAR && !file->is_null && file->text[0] != '\0') {
        model_take_file(context, model, file, with);
        spec_node_remove(model, file);
    } else if (with != NULL && file == NULL) {
        spec_report(&context->report, with->key_place, "model.with: only with model.file");
    }
    if (with != NULL) {
        spec_node_remove(model, with);
    }
    names_t names = {.source = context->source};
    spec_node_t *layers = spec_node_child(model, "layers");
    names_fill(context, &names, spec_node_child(model, "parameters"), with);
    if (layers != NULL) {
        expand_node(context, &names, layers);
    }
    spec_node_t *padding = spec_node_child(model, "padding");
    if (padding != NULL) {
        expand_node(context, &names, padding);
    }
}

void spec_expand(spec_context_t *context)
{
    spec_node_t *root = context->root;
    if (root->kind != SPEC_NODE_MAP && context->source->n_set > 0 && !root->is_null) {
        return; /* spec_read says what is wrong */
    }
    if (context->source->n_set > MAX_SETS) {
        spec_report(&context->report, (spec_place_t){0}, "more than %d --set", MAX_SETS);
        return;
    }
    for (int i = 0; i < context->source->n_set; i++) {
        expand_set(context, &context->source->set[i]);
    }
    names_t environment = {.source = context->source};
    for (spec_node_t *child = root->first; child != NULL; child = child->next) {
        if (child->key != NULL && strcmp(child->key, "model") == 0 && child->kind == SPEC_NODE_MAP) {
            expand_model(context, child, &environment);
        } else {
            expand_node(context, &environment, child);
        }
    }
}
