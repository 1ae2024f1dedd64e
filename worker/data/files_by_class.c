/* SPDX-License-Identifier: Apache-2.0 */
/* files_by_class: class folders and class names, in a fixed order. */
#include "worker/data/files_by_class.h"

#include <dirent.h>
#include <errno.h>
#include <fnmatch.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "worker/data/paths.h"

static status_t file_add(wrk_class_files_t *files, const char *path, int64_t label)
{
    if (files->n == WRK_DATASET_MAX_FILES) {
        return ST_FAIL(ST_ERR_DATA, "%s: more than %d files", files->root, (int)WRK_DATASET_MAX_FILES);
    }
    if (files->n == files->n_allocated) {
        int64_t n = files->n > 0 ? files->n * 2 : 64;
        char **paths = mem_realloc(files->path, (size_t)n * sizeof(*paths));
        files->path = paths != NULL ? paths : files->path;
        int32_t *labels = paths != NULL ? mem_realloc(files->label, (size_t)n * sizeof(*labels)) : NULL;
        files->label = labels != NULL ? labels : files->label;
        if (labels == NULL) {
            return ST_FAIL(ST_ERR_NOMEM, "%s: list of files", files->root);
        }
        files->n_allocated = n;
    }
    char *copy = mem_strdup(path);
    if (copy == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "%s: list of files", files->root);
    }
    files->path[files->n] = copy;
    files->label[files->n++] = (int32_t)label;
    return ST_OK;
}

/* Names of the folders in a folder. */
static status_t folders_list(const char *root, wrk_names_t *names)
{
    DIR *dir = opendir(root);
    if (dir == NULL) {
        return ST_FAIL(status_from_errno(errno), "%s: %s", root, strerror(errno));
    }
    status_t status = ST_OK;
    strbuf_t path = {0};
    for (const struct dirent *entry = readdir(dir); entry != NULL && status == ST_OK; entry = readdir(dir)) {
        strbuf_clear(&path);
        strbuf_appendf(&path, "%s/%s", root, entry->d_name);
        if (entry->d_name[0] != '.' && wrk_path_is_folder(strbuf_text(&path))) {
            status = wrk_names_add(names, entry->d_name);
        }
    }
    (void)closedir(dir);
    strbuf_release(&path);
    wrk_names_sort(names);
    return status == ST_OK && names->n == 0 ? ST_FAIL(ST_ERR_NOT_FOUND, "%s: no class folders in this folder", root)
                                            : status;
}

static const char *name_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}

static bool is_wanted(const wrk_name_filter_t *filter, const char *name)
{
    const char *dot = strrchr(name, '.');
    bool has_ending = false;
    bool has_pattern = filter->n_patterns == 0;
    for (int i = 0; i < filter->n_endings && dot != NULL; i++) {
        has_ending |= strcasecmp(dot, filter->endings[i]) == 0;
    }
    for (size_t i = 0; i < filter->n_patterns; i++) {
        has_pattern |= fnmatch(filter->patterns[i], name, FNM_PERIOD) == 0;
    }
    return has_ending && has_pattern;
}

/* Behind what is missing. */
static const char *fits_text(const wrk_name_filter_t *filter)
{
    return filter->n_patterns > 0 ? " that `match` fits" : "";
}

static status_t folder_add(wrk_class_files_t *files, int64_t label, const wrk_name_filter_t *filter)
{
    wrk_paths_t paths = {0};
    strbuf_t path = {0};
    int64_t before = files->n;
    strbuf_appendf(&path, "%s/%s", files->root, files->names.item[label]);
    status_t status = wrk_paths_find(strbuf_text(&path), &paths);
    for (int i = 0; i < paths.n_items && status == ST_OK; i++) {
        if (is_wanted(filter, name_of(paths.item[i]))) {
            status = file_add(files, paths.item[i], label);
        }
    }
    if (status == ST_ERR_NOT_FOUND || (status == ST_OK && files->n == before)) {
        status = ST_FAIL(ST_ERR_DATA, "%s: a class folder without %s%s", strbuf_text(&path), filter->what,
                         fits_text(filter));
    }
    wrk_paths_release(&paths);
    strbuf_release(&path);
    return status;
}

status_t wrk_class_files_find(const char *root, const wrk_name_filter_t *filter, wrk_class_files_t *files)
{
    files->root = mem_strdup(root);
    status_t status = files->root != NULL ? folders_list(root, &files->names) : ST_FAIL(ST_ERR_NOMEM, "dataset");
    for (int64_t i = 0; i < files->names.n && status == ST_OK; i++) {
        status = folder_add(files, i, filter);
    }
    return status;
}

/* "7" of "7_jackson_3.wav"; false: the name has no `_`. */
static bool class_of(const char *name, char text[256])
{
    size_t n = strcspn(name, "_");
    if (name[n] != '_' || n == 0 || n >= 256) {
        return false;
    }
    memcpy(text, name, n);
    text[n] = '\0';
    return true;
}

status_t wrk_class_files_find_named(const char *path, const wrk_name_filter_t *filter, wrk_class_files_t *files)
{
    wrk_paths_t paths = {0};
    char text[256];
    files->root = mem_strdup(path);
    status_t status = files->root != NULL ? wrk_paths_find(path, &paths) : ST_FAIL(ST_ERR_NOMEM, "dataset");
    for (int i = 0; i < paths.n_items && status == ST_OK; i++) {
        if (is_wanted(filter, name_of(paths.item[i]))) {
            status = class_of(name_of(paths.item[i]), text)
                         ? wrk_names_add(&files->names, text)
                         : ST_FAIL(ST_ERR_DATA, "%s: the name has no class before a \"_\"", paths.item[i]);
        }
    }
    wrk_names_sort(&files->names);
    for (int i = 0; i < paths.n_items && status == ST_OK; i++) {
        if (is_wanted(filter, name_of(paths.item[i])) && class_of(name_of(paths.item[i]), text)) {
            status = file_add(files, paths.item[i], wrk_names_find(&files->names, text));
        }
    }
    wrk_paths_release(&paths);
    return status == ST_OK && files->n == 0
               ? ST_FAIL(ST_ERR_NOT_FOUND, "%s: no %s there%s", path, filter->what, fits_text(filter))
               : status;
}

status_t wrk_class_files_number(wrk_class_files_t *files, const wrk_dataset_t *like, wrk_dataset_t *dataset)
{
    const wrk_names_t *names = like != NULL && like->names.n > 0 ? &like->names : &files->names;
    for (int64_t i = 0; i < files->n; i++) {
        const char *name = files->names.item[files->label[i]];
        int64_t label = wrk_names_find(names, name);
        if (label < 0) {
            strbuf_t list = {0};
            wrk_names_format(names, &list);
            status_t status = ST_FAIL(ST_ERR_DATA, "%s: class \"%.60s\" is not in the training data, which has %s",
                                      files->root, name, strbuf_text(&list));
            strbuf_release(&list);
            return status;
        }
        files->label[i] = (int32_t)label;
    }
    dataset->count = files->n;
    dataset->n_classes = names->n;
    return wrk_names_copy(names, &dataset->names);
}

void wrk_class_files_release(wrk_class_files_t *files)
{
    for (int64_t i = 0; i < files->n; i++) {
        mem_free(files->path[i]);
    }
    mem_free(files->path);
    mem_free(files->label);
    mem_free(files->root);
    wrk_names_release(&files->names);
    *files = (wrk_class_files_t){0};
}
