/* SPDX-License-Identifier: Apache-2.0 */
/* files: folders and small files that must be complete or absent. Used by gradd and grad-shim; depends on base only. */
#ifndef GRADD_DAEMON_FILES_H
#define GRADD_DAEMON_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/status.h"

/*
 * Replaces path by these bytes: temp file beside it, fsync, rename, fsync of the folder. After ST_OK the file is
 * durable; after a failure the old content (or none) is there. Errors name the path and the cause.
 */
status_t dmn_file_write_durable(const char *path, const void *bytes, size_t size);
/* The whole of a file of at most max_bytes, NUL-terminated. *text_p: mem_free; *size_p may be NULL. ST_ERR_NOT_FOUND,
 * ST_ERR_RANGE when it is larger. */
status_t dmn_file_read(const char *path, size_t max_bytes, char **text_p, size_t *size_p);
/* Makes a folder with its parents; an existing one is fine. */
status_t dmn_folder_make(const char *path, mode_t mode);
/* Makes the folder's entries durable. */
status_t dmn_folder_sync(const char *path);
/* Whether the disk of path has so many bytes left. ST_ERR_NOSPACE names both figures. */
status_t dmn_room_check(const char *path, int64_t bytes);
/* Removes a file or a folder with all below, not following links; absent is fine. */
status_t dmn_tree_remove(const char *path);
/* printf into a new string; NULL when memory is out. mem_free it. */
char *dmn_format(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
