/* SPDX-License-Identifier: Apache-2.0 */
/* state: named parameters and buffers to and from files. */
#include "gradd/state.h"

#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "gradd/safetensors.h"

/* ---- listing ---- */

static status_t entry_add(const char *full_name, gd_parameter_t *parameter, gd_module_t *owner, void *arg)
{
    (void)owner;
    gd_state_t *state = arg;
    const int n = state->n_entries;
    if ((n & (n - 1)) == 0) { /* 0, 1, 2, 4 …: full */
        gd_state_entry_t *entries = mem_realloc(state->entries, (size_t)(n > 0 ? 2 * n : 1) * sizeof(*entries));
        if (entries == NULL) {
            return ST_FAIL(ST_ERR_NOMEM, "list of parameters");
        }
        state->entries = entries;
    }
    char *name = mem_strdup(full_name);
    if (name == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "list of parameters: \"%s\"", full_name);
    }
    state->entries[state->n_entries++] = (gd_state_entry_t){.name = name,
                                                            .tensor = parameter->tensor,
                                                            .is_buffer = parameter->is_buffer,
                                                            .is_shared = parameter->is_shared};
    return ST_OK;
}

status_t gd_module_list_state(gd_module_t *root, gd_state_t *state_p)
{
    gd_state_t state = {0};
    status_t status = gd_module_visit_shared(root, entry_add, &state);
    if (status != ST_OK) {
        gd_state_release(&state);
        return status;
    }
    *state_p = state;
    return ST_OK;
}

void gd_state_release(gd_state_t *state)
{
    for (int i = 0; i < state->n_entries; i++) {
        mem_free(state->entries[i].name);
    }
    mem_free(state->entries);
    *state = (gd_state_t){0};
}

/* ---- writing ---- */

status_t gd_module_save(gd_module_t *root, const char *path)
{
    gd_state_t state = {0};
    gd_safetensors_entry_t *entries = NULL;
    status_t status = gd_module_list_state(root, &state);
    if (status == ST_OK) {
        entries = mem_calloc((size_t)state.n_entries + 1, sizeof(*entries));
        status = entries != NULL ? ST_OK : ST_FAIL(ST_ERR_NOMEM, "%s: list of %d tensors", path, state.n_entries);
    }
    int n = 0;
    for (int i = 0; i < state.n_entries && status == ST_OK; i++) {
        const gd_state_entry_t *from = &state.entries[i];
        if (from->is_shared) {
            continue;
        }
        if (!gd_tensor_is_contiguous(from->tensor)) {
            status = ST_FAIL(ST_ERR_STATE, "%s: \"%s\" has no memory of its own", path, from->name);
            break;
        }
        gd_safetensors_entry_t *entry = &entries[n++];
        entry->name = from->name;
        entry->dtype = gd_tensor_dtype(from->tensor);
        entry->n_dims = gd_tensor_n_dims(from->tensor);
        memcpy(entry->shape, gd_tensor_shape(from->tensor), (size_t)entry->n_dims * sizeof(int64_t));
        entry->data = gd_tensor_data(from->tensor);
    }
    static const char *const METADATA[1][2] = {{"format", "pt"}}; /* what Hugging Face's readers ask for */
    if (status == ST_OK) {
        status = gd_safetensors_write(path, entries, n, METADATA, 1, NULL);
    }
    mem_free(entries);
    gd_state_release(&state);
    return status;
}

/* ---- reading ---- */

typedef struct load_target {
    const gd_state_entry_t *state;
    const gd_safetensors_entry_t *found;
} load_target_t;

typedef struct load {
    const char *path;
    const gd_load_options_t *options;
    load_target_t *targets; /* sorted by name */
    int n_targets;
    strbuf_t missing, unexpected, misfit; /* a line each */
    int n_missing, n_unexpected, n_misfit;
} load_t;

static int target_compare(const void *a, const void *b)
{
    return strcmp(((const load_target_t *)a)->state->name, ((const load_target_t *)b)->state->name);
}

static load_target_t *target_find(const load_t *load, const char *name)
{
    const gd_state_entry_t key_state = {.name = (char *)(uintptr_t)name};
    const load_target_t key = {.state = &key_state};
    return bsearch(&key, load->targets, (size_t)load->n_targets, sizeof(key), target_compare);
}

static void shape_append(strbuf_t *text, const gd_safetensors_entry_t *entry)
{
    strbuf_append(text, "[");
    for (int d = 0; d < entry->n_dims; d++) {
        strbuf_appendf(text, "%s%lld", d > 0 ? ", " : "", (long long)entry->shape[d]);
    }
    strbuf_appendf(text, "] %s", gd_dtype_name(entry->dtype));
}

static bool is_ignored(const gd_load_options_t *options, const char *name)
{
    static const char COUNTER[] = "num_batches_tracked";
    const char *dot = strrchr(name, '.');
    if (strcmp(dot != NULL ? dot + 1 : name, COUNTER) == 0) {
        return true;
    }
    for (int i = 0; i < options->n_ignore; i++) {
        if (fnmatch(options->ignore[i], name, 0) == 0) {
            return true;
        }
    }
    return false;
}

/* Which target the file's entry is for. */
static status_t entry_place(load_t *load, const gd_safetensors_entry_t *entry)
{
    const gd_load_options_t *options = load->options;
    const char *name = entry->name;
    if (is_ignored(options, name)) {
        return ST_OK;
    }
    size_t n_strip = options->strip != NULL ? strlen(options->strip) : 0;
    if (n_strip > 0 && strncmp(name, options->strip, n_strip) == 0) {
        name += n_strip;
    }
    strbuf_t full = {0};
    strbuf_append(&full, options->add != NULL ? options->add : "");
    strbuf_append(&full, name);
    load_target_t *target = target_find(load, strbuf_text(&full));
    status_t status = full.is_failed ? ST_FAIL(ST_ERR_NOMEM, "%s: name \"%s\"", load->path, name) : ST_OK;
    if (status == ST_OK && target == NULL) {
        strbuf_appendf(&load->unexpected, "unexpected: \"%s\" ", entry->name);
        shape_append(&load->unexpected, entry);
        strbuf_append(&load->unexpected, "\n");
        load->n_unexpected++;
    } else if (status == ST_OK && target->found != NULL) {
        status = ST_FAIL(ST_ERR_EXISTS, "%s: both \"%s\" and \"%s\" are for \"%s\"", load->path, target->found->name,
                         entry->name, target->state->name);
    } else if (status == ST_OK) {
        target->found = entry;
    }
    strbuf_release(&full);
    return status;
}

static bool entry_fits(const gd_safetensors_entry_t *entry, const gd_tensor_t *tensor)
{
    return gd_dtype_is_float(entry->dtype) && entry->n_dims == gd_tensor_n_dims(tensor) &&
           memcmp(entry->shape, gd_tensor_shape(tensor), (size_t)entry->n_dims * sizeof(int64_t)) == 0;
}

static void fit_check(load_t *load, const load_target_t *target)
{
    if (entry_fits(target->found, target->state->tensor)) {
        return;
    }
    strbuf_appendf(&load->misfit, "doesn't fit: \"%s\" is ", target->state->name);
    shape_append(&load->misfit, target->found);
    strbuf_append(&load->misfit, " in the file, ");
    gd_tensor_format_shape(target->state->tensor, &load->misfit);
    strbuf_append(&load->misfit, " in the model\n");
    load->n_misfit++;
}

static int64_t entry_size(const gd_safetensors_entry_t *entry)
{
    int64_t n = (int64_t)gd_dtype_size(entry->dtype);
    for (int d = 0; d < entry->n_dims; d++) {
        n *= entry->shape[d];
    }
    return n;
}

/* A shared parameter's other names: they stand in for its own, and must not contradict it. */
static void shared_resolve(load_t *load, load_target_t *owner)
{
    for (int i = 0; i < load->n_targets; i++) {
        const load_target_t *other = &load->targets[i];
        if (!other->state->is_shared || other->state->tensor != owner->state->tensor || other->found == NULL) {
            continue;
        }
        if (owner->found == NULL) {
            owner->found = other->found;
            continue;
        }
        const gd_safetensors_entry_t *a = owner->found;
        const gd_safetensors_entry_t *b = other->found;
        if (a->dtype != b->dtype || entry_size(a) != entry_size(b) ||
            memcmp(a->data, b->data, (size_t)entry_size(a)) != 0) {
            strbuf_appendf(&load->misfit,
                           "doesn't fit: \"%s\" and \"%s\" are one parameter in the model and differ in the file\n",
                           owner->state->name, other->state->name);
            load->n_misfit++;
        }
    }
}

static void targets_check(load_t *load)
{
    for (int i = 0; i < load->n_targets; i++) {
        load_target_t *target = &load->targets[i];
        if (target->state->is_shared) {
            continue;
        }
        shared_resolve(load, target);
        if (target->found != NULL) {
            fit_check(load, target);
            continue;
        }
        strbuf_appendf(&load->missing, "missing: \"%s\" ", target->state->name);
        gd_tensor_format_shape(target->state->tensor, &load->missing);
        strbuf_append(&load->missing, "\n");
        load->n_missing++;
    }
}

/* At most `most` lines of text, joined by "; ". */
static void lines_join(strbuf_t *to, const strbuf_t *lines, int n, int most)
{
    const char *at = strbuf_text(lines);
    for (int i = 0; i < n && i < most; i++) {
        size_t length = strcspn(at, "\n");
        strbuf_append(to, "; ");
        strbuf_append_bytes(to, at, length);
        at += length + 1;
    }
    if (n > most) {
        strbuf_appendf(to, "; and %d more", n - most);
    }
}

static status_t load_judge(const load_t *load, int n_in_file, strbuf_t *report)
{
    enum { MOST = 5 };
    const bool has_gaps = load->n_missing + load->n_unexpected > 0 && !load->options->allows_gaps;
    if (report != NULL) {
        strbuf_append(report, strbuf_text(&load->misfit));
        strbuf_append(report, strbuf_text(&load->missing));
        strbuf_append(report, strbuf_text(&load->unexpected));
    }
    if (load->n_misfit == 0 && !has_gaps) {
        return ST_OK;
    }
    strbuf_t text = {0};
    strbuf_appendf(&text, "%s (%d tensors): %d missing, %d unexpected, %d that don't fit", load->path, n_in_file,
                   load->n_missing, load->n_unexpected, load->n_misfit);
    lines_join(&text, &load->misfit, load->n_misfit, MOST);
    if (has_gaps) {
        lines_join(&text, &load->missing, load->n_missing, MOST);
        lines_join(&text, &load->unexpected, load->n_unexpected, MOST);
    }
    status_t status = ST_FAIL(load->n_misfit > 0 ? ST_ERR_SHAPE : ST_ERR_NOT_FOUND, "%s", strbuf_text(&text));
    strbuf_release(&text);
    return status;
}

static status_t targets_copy(const load_t *load)
{
    status_t status = ST_OK;
    for (int i = 0; i < load->n_targets && status == ST_OK; i++) {
        const load_target_t *target = &load->targets[i];
        const gd_safetensors_entry_t *from = target->found;
        if (from == NULL || target->state->is_shared) {
            continue;
        }
        gd_tensor_t *source = NULL;
        status =
            gd_tensor_wrap(from->dtype, from->n_dims, from->shape, (void *)(uintptr_t)from->data, NULL, NULL, &source);
        if (status == ST_OK) {
            status = gd_tensor_copy(target->state->tensor, source);
        }
        (void)gd_tensor_unref(source);
    }
    return status;
}

static status_t targets_make(load_t *load, const gd_state_t *state)
{
    load->targets = mem_calloc((size_t)state->n_entries + 1, sizeof(*load->targets));
    if (load->targets == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "%s: list of %d names", load->path, state->n_entries);
    }
    for (int i = 0; i < state->n_entries; i++) {
        if (!gd_tensor_is_contiguous(state->entries[i].tensor)) {
            return ST_FAIL(ST_ERR_STATE, "%s: \"%s\" of the model has no memory of its own", load->path,
                           state->entries[i].name);
        }
        load->targets[i].state = &state->entries[i];
    }
    load->n_targets = state->n_entries;
    qsort(load->targets, (size_t)load->n_targets, sizeof(*load->targets), target_compare);
    return ST_OK;
}

status_t gd_module_load(gd_module_t *root, const char *path, const gd_load_options_t *options, strbuf_t *report)
{
    static const gd_load_options_t defaults = {0};
    load_t load = {.path = path, .options = options != NULL ? options : &defaults};
    gd_state_t state = {0};
    gd_safetensors_t *file = NULL;
    status_t status = gd_module_list_state(root, &state);
    if (status == ST_OK) {
        status = targets_make(&load, &state);
    }
    if (status == ST_OK) {
        status = gd_safetensors_open(path, &file);
    }
    for (int i = 0; status == ST_OK && i < gd_safetensors_count(file); i++) {
        status = entry_place(&load, gd_safetensors_at(file, i));
    }
    if (status == ST_OK) {
        targets_check(&load);
        status = load_judge(&load, gd_safetensors_count(file), report);
    }
    if (status == ST_OK) {
        status = targets_copy(&load);
    }
    gd_safetensors_close(file);
    strbuf_release(&load.missing);
    strbuf_release(&load.unexpected);
    strbuf_release(&load.misfit);
    mem_free(load.targets);
    gd_state_release(&state);
    return status;
}

/* ---- freezing ---- */

typedef struct freeze {
    const char *pattern;
    bool is_frozen;
    int n;
} freeze_t;

static status_t parameter_freeze(const char *full_name, gd_parameter_t *parameter, gd_module_t *owner, void *arg)
{
    (void)owner;
    freeze_t *freeze = arg;
    if (parameter->is_buffer || fnmatch(freeze->pattern, full_name, 0) != 0) {
        return ST_OK;
    }
    freeze->n++;
    return gd_tensor_set_requires_grad(parameter->tensor, !freeze->is_frozen);
}

status_t gd_module_freeze(gd_module_t *root, const char *pattern, bool is_frozen, int *n_p)
{
    freeze_t freeze = {.pattern = pattern, .is_frozen = is_frozen};
    status_t status = gd_module_visit(root, parameter_freeze, &freeze);
    if (status == ST_OK && freeze.n == 0) {
        status = ST_FAIL(ST_ERR_NOT_FOUND, "no parameter's name fits the pattern \"%s\"", pattern);
    }
    if (status == ST_OK && n_p != NULL) {
        *n_p = freeze.n;
    }
    return status;
}
