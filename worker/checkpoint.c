/* SPDX-License-Identifier: Apache-2.0 */
/*
 * checkpoint: the folder of saved states.
 *
 * Note [Fencing]: a rank may be thawed after the daemon gave its attempt up and began another. The file `attempt` holds
 * the newest attempt's number; it only grows. Rank 0 reads it again before each rename and stops when it is not its own
 * any more. Between that look and the rename a newer attempt may still begin; what is renamed then is a complete
 * checkpoint of the same job, whose bits are the ones the new attempt would have written itself. So that a rank thawed
 * there takes nothing away from the newer attempt either, an attempt removes later steps than its own only if it has
 * found them corrupt at its start.
 */
#include "worker/checkpoint.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "gradd/safetensors.h"
#include "worker/files.h"
#include "worker/manifest.h"

struct wrk_checkpoint_store {
    char *directory;
    char *folder; /* directory/checkpoints */
    int attempt;
    int keep;
    int64_t corrupt_step; /* the latest step that wrk_checkpoint_find stepped over, -1: none */
};

static status_t attempt_read(const char *directory, int *attempt_p)
{
    char path[WRK_MAX_PATH];
    (void)snprintf(path, sizeof(path), "%s/attempt", directory);
    char *text = NULL;
    status_t status = wrk_file_read(path, 64, &text, NULL);
    if (status == ST_ERR_NOT_FOUND) {
        *attempt_p = 0;
        return ST_OK;
    }
    if (status == ST_OK) {
        *attempt_p = (int)strtol(text, NULL, 10);
        mem_free(text);
    }
    return status;
}

static status_t attempt_check(const wrk_checkpoint_store_t *store)
{
    int newest = 0;
    status_t status = attempt_read(store->directory, &newest);
    if (status == ST_OK && newest > store->attempt) {
        return ST_FAIL(ST_ERR_STATE, "attempt %d is stale: attempt %d has begun in %s", store->attempt, newest,
                       store->directory);
    }
    return status;
}

static status_t folder_open(const wrk_checkpoint_store_t *store, DIR **dir_p)
{
    DIR *dir = opendir(store->folder);
    if (dir == NULL) {
        int error_number = errno;
        return ST_FAIL(status_from_errno(error_number), "cannot open folder %s: %s", store->folder,
                       strerror(error_number));
    }
    *dir_p = dir;
    return ST_OK;
}

/* What attempts up to this one left unfinished. */
static status_t temporaries_remove(const wrk_checkpoint_store_t *store)
{
    DIR *dir = NULL;
    status_t status = folder_open(store, &dir);
    if (status != ST_OK) {
        return status;
    }
    const struct dirent *entry = NULL;
    while (status == ST_OK && (entry = readdir(dir)) != NULL) {
        if (strncmp(entry->d_name, ".tmp-", 5) != 0 || strtol(entry->d_name + 5, NULL, 10) > store->attempt) {
            continue;
        }
        char path[WRK_MAX_PATH];
        (void)snprintf(path, sizeof(path), "%s/%s", store->folder, entry->d_name);
        status = wrk_tree_remove(path);
    }
    (void)closedir(dir);
    return status;
}

status_t wrk_checkpoint_store_open(const char *directory, int attempt, int keep, wrk_checkpoint_store_t **store_p)
{
    status_t status = ST_ERR_NOMEM;
    if (strlen(directory) > WRK_MAX_PATH - 256) {
        return ST_FAIL(ST_ERR_INVAL, "job directory of %zu bytes", strlen(directory));
    }
    wrk_checkpoint_store_t *store = mem_zalloc(sizeof(*store));
    if (store == NULL) {
        return ST_FAIL(status, "checkpoint store");
    }
    store->attempt = attempt;
    store->corrupt_step = -1;
    store->keep = keep < 1 ? 1 : keep > WRK_MAX_CHECKPOINTS / 2 ? WRK_MAX_CHECKPOINTS / 2 : keep;
    store->directory = mem_strdup(directory);
    store->folder = mem_alloc(strlen(directory) + sizeof("/checkpoints"));
    if (store->directory == NULL || store->folder == NULL) {
        status = ST_FAIL(ST_ERR_NOMEM, "checkpoint store");
        goto err_close;
    }
    (void)sprintf(store->folder, "%s/checkpoints", directory);
    status = wrk_folder_make(store->folder);
    if (status == ST_OK) {
        status = attempt_check(store);
    }
    if (status == ST_OK) {
        char path[WRK_MAX_PATH];
        char text[32];
        (void)snprintf(path, sizeof(path), "%s/attempt", directory);
        int n = snprintf(text, sizeof(text), "%d\n", attempt);
        status = wrk_file_replace(path, text, (size_t)n);
    }
    if (status == ST_OK) {
        status = temporaries_remove(store);
    }
    if (status != ST_OK) {
        goto err_close;
    }
    *store_p = store;
    return ST_OK;

err_close:
    wrk_checkpoint_store_close(store);
    return status;
}

void wrk_checkpoint_store_close(wrk_checkpoint_store_t *store)
{
    if (store == NULL) {
        return;
    }
    mem_free(store->directory);
    mem_free(store->folder);
    mem_free(store);
}

void wrk_checkpoint_path(const wrk_checkpoint_store_t *store, int64_t step, char *path_p)
{
    (void)snprintf(path_p, WRK_MAX_PATH, "%s/step-%08lld", store->folder, (long long)step);
}

/* ---- which there are ---- */

static int step_compare(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a;
    int64_t y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* Steps of all step-… folders, ascending. *steps_p: mem_free. */
static status_t steps_list(const wrk_checkpoint_store_t *store, int64_t **steps_p, int *n_p)
{
    int n = 0;
    int capacity = 0;
    int64_t *steps = NULL;
    DIR *dir = NULL;
    status_t status = folder_open(store, &dir);
    if (status != ST_OK) {
        return status;
    }
    const struct dirent *entry = NULL;
    while ((entry = readdir(dir)) != NULL) {
        char *end = NULL;
        long long step = strncmp(entry->d_name, "step-", 5) == 0 ? strtoll(entry->d_name + 5, &end, 10) : -1;
        if (step < 0 || end == entry->d_name + 5 || *end != '\0') {
            continue;
        }
        if (n == capacity) {
            capacity = capacity == 0 ? 16 : 2 * capacity;
            int64_t *grown = mem_realloc(steps, (size_t)capacity * sizeof(*steps));
            if (grown == NULL) {
                mem_free(steps);
                (void)closedir(dir);
                return ST_FAIL(ST_ERR_NOMEM, "list of checkpoints");
            }
            steps = grown;
        }
        steps[n++] = step;
    }
    (void)closedir(dir);
    if (n > 0) {
        qsort(steps, (size_t)n, sizeof(*steps), step_compare);
    }
    *steps_p = steps;
    *n_p = n;
    return ST_OK;
}

int wrk_checkpoint_list(wrk_checkpoint_store_t *store, wrk_checkpoint_t *list_p, int max)
{
    int64_t *steps = NULL;
    int n_steps = 0;
    int n = 0;
    if (steps_list(store, &steps, &n_steps) != ST_OK) {
        return 0;
    }
    for (int i = n_steps > max ? n_steps - max : 0; i < n_steps; i++) {
        char folder[WRK_MAX_PATH];
        char path[WRK_MAX_PATH + 32];
        wrk_checkpoint_path(store, steps[i], folder);
        (void)snprintf(path, sizeof(path), "%s/manifest.json", folder);
        n += wrk_manifest_read(path, &list_p[n]) == ST_OK;
    }
    mem_free(steps);
    return n;
}

static status_t file_verify(const char *folder, const char *name, const char *expected)
{
    char path[WRK_MAX_PATH + 64];
    char hex[HASH_SHA256_HEX_SIZE];
    (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
    status_t status = wrk_file_sha256(path, hex, NULL);
    if (status == ST_OK && strcmp(hex, expected) != 0) {
        return ST_FAIL(ST_ERR_CORRUPT, "%s: SHA-256 is %.16s…, the manifest says %.16s…", name, hex, expected);
    }
    return status;
}

static status_t checkpoint_verify(const wrk_checkpoint_store_t *store, int64_t step, wrk_checkpoint_t *checkpoint_p)
{
    char folder[WRK_MAX_PATH];
    char path[WRK_MAX_PATH + 64];
    wrk_checkpoint_path(store, step, folder);
    (void)snprintf(path, sizeof(path), "%s/manifest.json", folder);
    wrk_checkpoint_t checkpoint;
    status_t status = wrk_manifest_read(path, &checkpoint);
    if (status == ST_OK && checkpoint.step != step) {
        status = ST_FAIL(ST_ERR_CORRUPT, "manifest.json is of step %lld", (long long)checkpoint.step);
    }
    if (status == ST_OK) {
        status = file_verify(folder, "model.safetensors", checkpoint.model_sha256);
    }
    if (status == ST_OK) {
        status = file_verify(folder, "optimizer.safetensors", checkpoint.optimizer_sha256);
    }
    if (status == ST_OK) {
        *checkpoint_p = checkpoint;
    }
    return status;
}

status_t wrk_checkpoint_find(wrk_checkpoint_store_t *store, wrk_note_func_t note, void *arg,
                             wrk_checkpoint_t *checkpoint_p, bool *is_found_p)
{
    int64_t *steps = NULL;
    int n = 0;
    bool is_found = false;
    status_t status = steps_list(store, &steps, &n);
    if (status != ST_OK) {
        return status;
    }
    for (int i = n - 1; i >= 0 && !is_found; i--) {
        status = checkpoint_verify(store, steps[i], checkpoint_p);
        is_found = status == ST_OK;
        if (status == ST_ERR_NOMEM || status == ST_ERR_PERMISSION) { /* says nothing about the checkpoint */
            status = status_add_context(status, "checkpoint step-%lld", (long long)steps[i]);
            break;
        }
        status = ST_OK;
        if (!is_found && store->corrupt_step < 0) {
            store->corrupt_step = steps[i];
        }
        if (is_found || note == NULL) {
            continue;
        }
        char text[1024];
        char next[64] = "the start";
        if (i > 0) {
            (void)snprintf(next, sizeof(next), "step-%lld", (long long)steps[i - 1]);
        }
        (void)snprintf(text, sizeof(text), "checkpoint step-%lld is corrupt (%.800s); falling back to %s",
                       (long long)steps[i], status_message(), next);
        note(arg, text);
    }
    mem_free(steps);
    if (status == ST_OK) {
        *is_found_p = is_found;
    }
    return status;
}

/* ---- tensors ---- */

#define PLATEAU_FORMAT "%.17g %.17g %lld %lld"
#define SCALER_FORMAT "%.17g %lld %lld"

typedef struct entry_list {
    gd_safetensors_entry_t *items;
    int n;
    int capacity;
} entry_list_t;

static status_t entry_add(entry_list_t *list, const char *name, gd_dtype_t dtype, int n_dims, const int64_t *shape,
                          const void *data)
{
    if (list->n == list->capacity) {
        int capacity = list->capacity == 0 ? 64 : 2 * list->capacity;
        gd_safetensors_entry_t *grown = mem_realloc(list->items, (size_t)capacity * sizeof(*grown));
        if (grown == NULL) {
            return ST_FAIL(ST_ERR_NOMEM, "list of %d tensors", capacity);
        }
        list->items = grown;
        list->capacity = capacity;
    }
    gd_safetensors_entry_t *entry = &list->items[list->n];
    *entry = (gd_safetensors_entry_t){.dtype = dtype, .n_dims = n_dims, .data = data};
    memcpy(entry->shape, shape, (size_t)n_dims * sizeof(int64_t));
    entry->name = mem_strdup(name);
    if (entry->name == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "name of %s", name);
    }
    list->n++;
    return ST_OK;
}

static void entries_release(entry_list_t *list)
{
    for (int i = 0; i < list->n; i++) {
        mem_free((void *)(uintptr_t)list->items[i].name);
    }
    mem_free(list->items);
}

static status_t parameter_add(const char *full_name, gd_parameter_t *parameter, gd_module_t *owner, void *arg)
{
    (void)owner;
    const gd_tensor_t *t = parameter->tensor;
    return entry_add(arg, full_name, gd_tensor_dtype(t), gd_tensor_n_dims(t), gd_tensor_shape(t),
                     gd_tensor_data(parameter->tensor));
}

static status_t model_write(const char *path, gd_module_t *model, char hex_p[HASH_SHA256_HEX_SIZE])
{
    entry_list_t list = {0};
    const char *const metadata[][2] = {{"format", "pt"}, {"producer", "gradd " GRADD_VERSION}};
    status_t status = gd_module_visit(model, parameter_add, &list);
    if (status == ST_OK) {
        status = gd_safetensors_write(path, list.items, list.n, metadata, 2, hex_p);
    }
    entries_release(&list);
    return status;
}

typedef status_t (*slot_func_t)(void *arg, const char *name, const gd_optimizer_slot_t *slot);

/* Each tensor of the optimizer's state, as "<state>.<parameter>". */
static status_t slots_each(const wrk_checkpoint_state_t *of, slot_func_t func, void *arg)
{
    status_t status = ST_OK;
    for (int i = 0; i < gd_optimizer_n_states(of->optimizer); i++) {
        const char *state_name = NULL;
        (void)gd_optimizer_state(of->optimizer, i, &state_name);
        for (int k = 0; k < of->flat->n_segments && status == ST_OK; k++) {
            gd_optimizer_slot_t slot;
            if (gd_optimizer_slot(of->optimizer, i, k, &slot)) {
                strbuf_t name = {0};
                strbuf_appendf(&name, "%s.%s", state_name, of->flat->segments[k].name);
                status = func(arg, strbuf_text(&name), &slot);
                strbuf_release(&name);
            }
        }
    }
    return status;
}

static status_t slot_add(void *arg, const char *name, const gd_optimizer_slot_t *slot)
{
    return entry_add(arg, name, GD_DTYPE_F32, slot->n_dims, slot->shape, slot->data);
}

static status_t optimizer_write(const char *path, const wrk_checkpoint_state_t *of, char hex_p[HASH_SHA256_HEX_SIZE])
{
    entry_list_t list = {0};
    char steps[32];
    char plateau[128];
    char scaler[128];
    const bool has_plateau = of->plateau != NULL;
    const char *const metadata[][2] = {{"step_count", steps},
                                       {"producer", "gradd " GRADD_VERSION},
                                       {has_plateau ? "plateau" : "loss_scale", has_plateau ? plateau : scaler},
                                       {"loss_scale", scaler}};
    const int n_metadata = 2 + has_plateau + (of->scaler != NULL);
    if (of->plateau != NULL) {
        (void)snprintf(plateau, sizeof(plateau), PLATEAU_FORMAT, of->plateau->scale, of->plateau->best,
                       (long long)of->plateau->n_bad, (long long)of->plateau->cooldown);
    }
    if (of->scaler != NULL) {
        (void)snprintf(scaler, sizeof(scaler), SCALER_FORMAT, of->scaler->scale, (long long)of->scaler->n_good,
                       (long long)of->scaler->n_skipped);
    }
    (void)snprintf(steps, sizeof(steps), "%lld", (long long)gd_optimizer_step_count(of->optimizer));
    status_t status = slots_each(of, slot_add, &list);
    if (status == ST_OK) {
        status = gd_safetensors_write(path, list.items, list.n, metadata, n_metadata, hex_p);
    }
    entries_release(&list);
    return status;
}

/* The model as it is with averaged parameters. */
static status_t average_write(const char *path, const wrk_checkpoint_state_t *state)
{
    char hex[HASH_SHA256_HEX_SIZE];
    gd_optimizer_swap_average(state->optimizer);
    status_t status = model_write(path, state->model, hex);
    gd_optimizer_swap_average(state->optimizer);
    return status;
}

/* ---- saving ---- */

static status_t folder_fill(const wrk_checkpoint_store_t *store, const char *folder,
                            const wrk_checkpoint_state_t *state, wrk_checkpoint_t *checkpoint)
{
    char path[WRK_MAX_PATH + 64];
    struct stat model_info;
    struct stat optimizer_info;
    checkpoint->attempt = store->attempt;
    checkpoint->unix_ns = clock_wall_ns();
    status_t status = gd_flat_sha256(state->flat, checkpoint->parameters_sha256);
    if (status == ST_OK) {
        status = wrk_folder_make(folder);
    }
    if (status == ST_OK) {
        (void)snprintf(path, sizeof(path), "%s/model.safetensors", folder);
        status = model_write(path, state->model, checkpoint->model_sha256);
    }
    if (status == ST_OK && stat(path, &model_info) != 0) {
        status = ST_FAIL(status_from_errno(errno), "cannot look at %s", path);
    }
    if (status == ST_OK) {
        (void)snprintf(path, sizeof(path), "%s/optimizer.safetensors", folder);
        status = optimizer_write(path, state, checkpoint->optimizer_sha256);
    }
    if (status == ST_OK && stat(path, &optimizer_info) != 0) {
        status = ST_FAIL(status_from_errno(errno), "cannot look at %s", path);
    }
    if (status == ST_OK && state->has_average_file) {
        (void)snprintf(path, sizeof(path), "%s/average.safetensors", folder);
        status = average_write(path, state);
    }
    if (status == ST_OK) {
        checkpoint->size_bytes = (int64_t)model_info.st_size + (int64_t)optimizer_info.st_size;
        (void)snprintf(path, sizeof(path), "%s/manifest.json", folder);
        status = wrk_manifest_write(path, checkpoint, model_info.st_size, optimizer_info.st_size);
    }
    return status == ST_OK ? wrk_folder_sync(folder) : status;
}

/* Puts the finished folder in its place; one of the same step that is there already changes places with it. */
static status_t folder_publish(const wrk_checkpoint_store_t *store, const char *temporary, const char *path)
{
    status_t status = attempt_check(store);
    if (status != ST_OK) {
        return status;
    }
    if (rename(temporary, path) != 0) {
        int error_number = errno;
        if (error_number != ENOTEMPTY && error_number != EEXIST) {
            return ST_FAIL(status_from_errno(error_number), "cannot rename %s to %s: %s", temporary, path,
                           strerror(error_number));
        }
        if (renameat2(AT_FDCWD, temporary, AT_FDCWD, path, RENAME_EXCHANGE) != 0) {
            /* a file system without exchange: for a moment the step has no checkpoint */
            status = wrk_tree_remove(path);
            if (status == ST_OK && rename(temporary, path) != 0) {
                error_number = errno;
                status = ST_FAIL(status_from_errno(error_number), "cannot rename %s to %s: %s", temporary, path,
                                 strerror(error_number));
            }
        }
    }
    if (status == ST_OK) {
        status = wrk_folder_sync(store->folder);
    }
    if (status == ST_OK) {
        (void)wrk_tree_remove(temporary); /* what was exchanged; only now is the new one sure to stay */
    }
    return status;
}

/* Removes the oldest beyond keep, each renamed first, so that a half-removed one is never seen. See Note [Fencing]. */
static void old_remove(const wrk_checkpoint_store_t *store, int64_t newest)
{
    int64_t *steps = NULL;
    int n = 0;
    if (steps_list(store, &steps, &n) != ST_OK) {
        return;
    }
    int n_kept = 0;
    for (int i = n - 1; i >= 0; i--) {
        if (steps[i] > newest && steps[i] > store->corrupt_step) {
            continue; /* a newer attempt's */
        }
        /* what else lies after the step just saved is corrupt, and was stepped over at the start */
        if (steps[i] <= newest && n_kept < store->keep) {
            n_kept++;
            continue;
        }
        char path[WRK_MAX_PATH];
        char temporary[WRK_MAX_PATH + 64];
        wrk_checkpoint_path(store, steps[i], path);
        (void)snprintf(temporary, sizeof(temporary), "%s/.tmp-%d-remove-%08lld", store->folder, store->attempt,
                       (long long)steps[i]);
        if (rename(path, temporary) == 0) {
            (void)wrk_tree_remove(temporary);
        }
    }
    mem_free(steps);
}

/* Clean-up after a failure, whose recorded message must stay. */
static void temporary_discard(const char *temporary)
{
    char message[1024];
    (void)snprintf(message, sizeof(message), "%s", status_message());
    if (wrk_tree_remove(temporary) != ST_OK) {
        (void)ST_FAIL(ST_ERR_IO, "%s", message);
    }
}

status_t wrk_checkpoint_save(wrk_checkpoint_store_t *store, const wrk_checkpoint_state_t *state,
                             wrk_checkpoint_t *checkpoint)
{
    char path[WRK_MAX_PATH];
    char temporary[WRK_MAX_PATH];
    wrk_checkpoint_path(store, checkpoint->step, path);
    (void)snprintf(temporary, sizeof(temporary), "%s/.tmp-%d-step-%08lld", store->folder, store->attempt,
                   (long long)checkpoint->step);
    status_t status = wrk_tree_remove(temporary);
    if (status == ST_OK) {
        status = folder_fill(store, temporary, state, checkpoint);
    }
    if (status == ST_OK) {
        status = folder_publish(store, temporary, path);
    }
    if (status != ST_OK) {
        temporary_discard(temporary);
        return status;
    }
    old_remove(store, checkpoint->step);
    return ST_OK;
}

/* ---- loading ---- */

typedef struct load {
    const gd_safetensors_t *file;
    const char *file_name;
} load_t;

static void shape_append(strbuf_t *text, int n_dims, const int64_t *shape)
{
    strbuf_append_char(text, '[');
    for (int i = 0; i < n_dims; i++) {
        strbuf_appendf(text, "%s%lld", i > 0 ? ", " : "", (long long)shape[i]);
    }
    strbuf_append_char(text, ']');
}

static status_t tensor_load(const load_t *load, const char *name, gd_dtype_t dtype, int n_dims, const int64_t *shape,
                            void *data)
{
    const gd_safetensors_entry_t *entry = gd_safetensors_find(load->file, name);
    if (entry == NULL) {
        return ST_FAIL(ST_ERR_STATE, "the checkpoint's %s has no tensor %s: it is of another model", load->file_name,
                       name);
    }
    int64_t numel = 1;
    for (int i = 0; i < n_dims; i++) {
        numel *= shape[i];
    }
    if (entry->dtype != dtype || entry->n_dims != n_dims ||
        memcmp(entry->shape, shape, (size_t)n_dims * sizeof(int64_t)) != 0) {
        strbuf_t text = {0};
        shape_append(&text, n_dims, shape);
        strbuf_appendf(&text, " in the model, ");
        shape_append(&text, entry->n_dims, entry->shape);
        status_t status =
            ST_FAIL(ST_ERR_STATE, "tensor %s is %s %s %s in the checkpoint's %s", name, gd_dtype_name(dtype),
                    strbuf_text(&text), gd_dtype_name(entry->dtype), load->file_name);
        strbuf_release(&text);
        return status;
    }
    memcpy(data, entry->data, (size_t)numel * gd_dtype_size(entry->dtype));
    return ST_OK;
}

static status_t parameter_load(const char *full_name, gd_parameter_t *parameter, gd_module_t *owner, void *arg)
{
    (void)owner;
    const gd_tensor_t *t = parameter->tensor;
    return tensor_load(arg, full_name, gd_tensor_dtype(t), gd_tensor_n_dims(t), gd_tensor_shape(t),
                       gd_tensor_data(parameter->tensor));
}

static status_t plateau_load(const load_t *load, gd_plateau_t *plateau)
{
    const char *text = gd_safetensors_metadata(load->file, "plateau");
    gd_plateau_t read = {0};
    long long n_bad = 0;
    long long cooldown = 0;
    if (text == NULL || sscanf(text, "%lg %lg %lld %lld", &read.scale, &read.best, &n_bad, &cooldown) != 4) {
        return ST_FAIL(ST_ERR_STATE, "the checkpoint's %s has no state of the plateau schedule", load->file_name);
    }
    read.n_bad = n_bad;
    read.cooldown = cooldown;
    *plateau = read;
    return ST_OK;
}

/* A checkpoint of a job without a loss scale, resumed with one: the scale is the initial one. */
static status_t scaler_load(const load_t *load, gd_grad_scaler_t *scaler)
{
    const char *text = gd_safetensors_metadata(load->file, "loss_scale");
    double scale = 0;
    long long n_good = 0;
    long long n_skipped = 0;
    if (text == NULL) {
        return ST_OK;
    }
    if (sscanf(text, "%lg %lld %lld", &scale, &n_good, &n_skipped) != 3 || !(scale > 0) || n_good < 0 ||
        n_skipped < 0) {
        return ST_FAIL(ST_ERR_CORRUPT, "the checkpoint's %s has \"%s\" as its loss scale", load->file_name, text);
    }
    *scaler = (gd_grad_scaler_t){.scale = scale, .n_good = n_good, .n_skipped = n_skipped};
    return ST_OK;
}

static status_t slot_load(void *arg, const char *name, const gd_optimizer_slot_t *slot)
{
    return tensor_load(arg, name, GD_DTYPE_F32, slot->n_dims, slot->shape, slot->data);
}

static status_t optimizer_load(const load_t *load, int64_t step, const wrk_checkpoint_state_t *of)
{
    gd_optimizer_t *optimizer = of->optimizer;
    status_t status = slots_each(of, slot_load, (void *)(uintptr_t)load);
    if (status != ST_OK) {
        return status;
    }
    const char *steps = gd_safetensors_metadata(load->file, "step_count");
    char *end = NULL;
    long long n_steps = steps != NULL ? strtoll(steps, &end, 10) : -1;
    if (n_steps < 0 || n_steps > step || end == steps || *end != '\0') {
        return ST_FAIL(ST_ERR_CORRUPT, "the checkpoint's %s has \"%s\" as its step_count, at step %lld",
                       load->file_name, steps != NULL ? steps : "", (long long)step);
    }
    gd_optimizer_set_step_count(optimizer, n_steps);
    if (of->scaler != NULL) {
        status = scaler_load(load, of->scaler);
    }
    return status == ST_OK && of->plateau != NULL ? plateau_load(load, of->plateau) : status;
}

status_t wrk_checkpoint_load(wrk_checkpoint_store_t *store, const wrk_checkpoint_t *checkpoint,
                             const wrk_checkpoint_state_t *state)
{
    char folder[WRK_MAX_PATH];
    char path[WRK_MAX_PATH + 64];
    gd_safetensors_t *file = NULL;
    wrk_checkpoint_path(store, checkpoint->step, folder);
    (void)snprintf(path, sizeof(path), "%s/model.safetensors", folder);
    status_t status = gd_safetensors_open(path, &file);
    if (status != ST_OK) {
        return status;
    }
    load_t load = {file, "model.safetensors"};
    status = gd_module_visit(state->model, parameter_load, &load);
    gd_safetensors_close(file);
    if (status != ST_OK) {
        return status;
    }
    (void)snprintf(path, sizeof(path), "%s/optimizer.safetensors", folder);
    status = gd_safetensors_open(path, &file);
    if (status != ST_OK) {
        return status;
    }
    load = (load_t){file, "optimizer.safetensors"};
    status = optimizer_load(&load, checkpoint->step, state);
    gd_safetensors_close(file);
    return status;
}
