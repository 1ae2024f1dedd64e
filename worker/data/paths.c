/* SPDX-License-Identifier: Apache-2.0 */
/* paths: a file, a folder or a pattern → sorted list of files. */
#include "worker/data/paths.h"

#include <dirent.h>
#include <errno.h>
#include <glob.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "base/strbuf.h"
#include "worker/data/dataset.h"

static int item_compare(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static status_t item_add(wrk_paths_t *paths, const char *path)
{
    if (paths->n_items == WRK_DATASET_MAX_FILES) {
        return ST_FAIL(ST_ERR_DATA, "%s: more than %d files", path, (int)WRK_DATASET_MAX_FILES);
    }
    if ((paths->n_items & (paths->n_items - 1)) == 0) { /* a power of two, or 0: full */
        size_t n = paths->n_items > 0 ? (size_t)paths->n_items * 2 : 1;
        char **grown = mem_realloc(paths->item, n * sizeof(*grown));
        if (grown == NULL) {
            return ST_FAIL(ST_ERR_NOMEM, "%s: list of files", path);
        }
        paths->item = grown;
    }
    char *copy = mem_strdup(path);
    if (copy == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "%s: list of files", path);
    }
    paths->item[paths->n_items++] = copy;
    return ST_OK;
}

void wrk_paths_release(wrk_paths_t *paths)
{
    for (int i = 0; i < paths->n_items; i++) {
        mem_free(paths->item[i]);
    }
    mem_free(paths->item);
    *paths = (wrk_paths_t){0};
}

static bool is_regular(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISREG(info.st_mode);
}

bool wrk_path_is_folder(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

static status_t folder_list(const char *folder, wrk_paths_t *paths)
{
    DIR *dir = opendir(folder);
    if (dir == NULL) {
        return ST_FAIL(status_from_errno(errno), "%s: %s", folder, strerror(errno));
    }
    status_t status = ST_OK;
    strbuf_t path = {0};
    const struct dirent *entry = NULL;
    while (status == ST_OK && (entry = readdir(dir)) != NULL) {
        strbuf_clear(&path);
        strbuf_appendf(&path, "%s/%s", folder, entry->d_name);
        if (path.is_failed) {
            status = ST_FAIL(ST_ERR_NOMEM, "%s: list of files", folder);
        } else if (entry->d_name[0] != '.' && is_regular(strbuf_text(&path))) {
            status = item_add(paths, strbuf_text(&path));
        }
    }
    strbuf_release(&path);
    (void)closedir(dir);
    if (status == ST_OK && paths->n_items == 0) {
        status = ST_FAIL(ST_ERR_NOT_FOUND, "%s: no files in this folder", folder);
    }
    return status;
}

/* glob(3) knows [sets] and backslashes too: here they stand for themselves. */
static status_t pattern_list(const char *pattern, wrk_paths_t *paths)
{
    strbuf_t escaped = {0};
    for (const char *c = pattern; *c != '\0'; c++) {
        if (*c == '[' || *c == '\\') {
            strbuf_append_char(&escaped, '\\');
        }
        strbuf_append_char(&escaped, *c);
    }
    glob_t found = {0};
    status_t status = ST_OK;
    int result = escaped.is_failed ? GLOB_NOSPACE : glob(strbuf_text(&escaped), GLOB_NOSORT, NULL, &found);
    if (result == GLOB_NOSPACE) {
        status = ST_FAIL(ST_ERR_NOMEM, "%s: list of files", pattern);
    }
    for (size_t i = 0; status == ST_OK && result == 0 && i < found.gl_pathc; i++) {
        if (is_regular(found.gl_pathv[i])) {
            status = item_add(paths, found.gl_pathv[i]);
        }
    }
    globfree(&found);
    strbuf_release(&escaped);
    if (status == ST_OK && paths->n_items == 0) {
        status = ST_FAIL(ST_ERR_NOT_FOUND, "%s: no file matches", pattern);
    }
    return status;
}

status_t wrk_paths_find(const char *path, wrk_paths_t *paths)
{
    struct stat info;
    status_t status = ST_OK;
    if (stat(path, &info) == 0) { /* a file whose own name has a star is that file */
        status = S_ISDIR(info.st_mode) ? folder_list(path, paths) : item_add(paths, path);
    } else if (strpbrk(path, "*?") != NULL) {
        status = pattern_list(path, paths);
    } else {
        status = ST_FAIL(status_from_errno(errno), "%s: %s", path, strerror(errno));
    }
    if (status != ST_OK) {
        wrk_paths_release(paths);
        return status;
    }
    if (paths->n_items > 1) {
        qsort(paths->item, (size_t)paths->n_items, sizeof(*paths->item), item_compare);
    }
    return ST_OK;
}
