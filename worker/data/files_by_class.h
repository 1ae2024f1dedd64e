/* SPDX-License-Identifier: Apache-2.0 */
/* files_by_class: files whose class is the folder that they stand in, or a part of their name. Internal to
 * worker/data/. */
#ifndef GRADD_WORKER_DATA_FILES_BY_CLASS_H
#define GRADD_WORKER_DATA_FILES_BY_CLASS_H

#include "worker/data/source.h"

/* Embedded: {0}, wrk_class_files_release. */
typedef struct wrk_class_files {
    char *root;
    wrk_names_t names; /* the folder's or the name's part: of each class, in order */
    char **path;       /* [n] */
    int32_t *label;    /* [n] place in names, and after wrk_class_files_number of the dataset's classes */
    int64_t n, n_allocated;
} wrk_class_files_t;

/* Which files count: by the ending of their name, whatever its case, and by patterns (* ? [a-z]), none: any. */
typedef struct wrk_name_filter {
    const char *const *endings;
    int n_endings;
    char *const *patterns;
    size_t n_patterns;
    const char *what; /* for messages */
} wrk_name_filter_t;

/* The files of each folder in `root`. ST_ERR_NOT_FOUND: no folders; ST_ERR_DATA: one without such files. */
status_t wrk_class_files_find(const char *root, const wrk_name_filter_t *filter, wrk_class_files_t *files);
/* The files of one folder, or that a pattern fits; the class is the part of the name before the first `_`. */
status_t wrk_class_files_find_named(const char *path, const wrk_name_filter_t *filter, wrk_class_files_t *files);
/* Fills the dataset's count, names and n_classes; by the names of `like` (NULL: own). ST_ERR_DATA names a class that
 * `like` doesn't have. */
status_t wrk_class_files_number(wrk_class_files_t *files, const wrk_dataset_t *like, wrk_dataset_t *dataset);
void wrk_class_files_release(wrk_class_files_t *files);

#endif
