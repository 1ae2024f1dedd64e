/* SPDX-License-Identifier: Apache-2.0 */
/* paths: the files that a dataset's path names, in a fixed order. Internal to worker/data/. */
#ifndef GRADD_WORKER_DATA_PATHS_H
#define GRADD_WORKER_DATA_PATHS_H

#include <stdbool.h>

#include "base/status.h"

/* Embedded: {0}, wrk_paths_release. */
typedef struct wrk_paths {
    char **item;
    int n_items;
} wrk_paths_t;

/*
 * A file: itself. A folder: its regular files, without hidden ones and without those of folders in it. Else a pattern
 * with * and ? (also in folder names, never matching a leading dot). In ascending order of bytes, whatever the locale
 * or the file system's own order. ST_ERR_NOT_FOUND when there is nothing.
 */
status_t wrk_paths_find(const char *path, wrk_paths_t *paths);
bool wrk_path_is_folder(const char *path);
void wrk_paths_release(wrk_paths_t *paths);

#endif
