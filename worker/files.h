/* SPDX-License-Identifier: Apache-2.0 */
/*
 * files: what a worker does to the file system: durable writes, folder trees. Every error names the path and the cause.
 * Stateless; thread-safe.
 */
#ifndef GRADD_WORKER_FILES_H
#define GRADD_WORKER_FILES_H

#include <stddef.h>
#include <stdint.h>

#include "base/hash.h"
#include "base/status.h"

enum { WRK_MAX_PATH = 4096 };

/* Makes folder and its missing parents; one that exists is fine. */
status_t wrk_folder_make(const char *path);
/* fsyncs a folder, so that the names in it are durable. */
status_t wrk_folder_sync(const char *path);
/* Removes a file or a whole folder; one that doesn't exist is fine. Symbolic links are removed, not followed. */
status_t wrk_tree_remove(const char *path);

/* path gets exactly these bytes or stays as it was: temp file, fsync, rename, fsync of the folder. */
status_t wrk_file_replace(const char *path, const void *bytes, size_t size);
/* As wrk_file_replace, but ST_ERR_EXISTS when path is there already: the first writer wins. */
status_t wrk_file_create(const char *path, const void *bytes, size_t size);
/* A new file with these bytes, fsynced; its name is not yet durable. */
status_t wrk_file_write(const char *path, const void *bytes, size_t size);
/* The whole of a file of at most max_size bytes, with a NUL behind. *text_p: mem_free. ST_ERR_NOT_FOUND,
 * ST_ERR_RANGE (too big), … */
status_t wrk_file_read(const char *path, size_t max_size, char **text_p, size_t *size_p);
/* Hash and size (size_p may be NULL) of a file. */
status_t wrk_file_sha256(const char *path, char hex_p[HASH_SHA256_HEX_SIZE], int64_t *size_p);

#endif
