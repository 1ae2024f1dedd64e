/* SPDX-License-Identifier: Apache-2.0 */
/* file: whole files in and out, as the formats of this folder need them. Private to engine/io. */
#ifndef GRADD_IO_FILE_H
#define GRADD_IO_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "base/hash.h"
#include "base/status.h"

/* A read-only private map of a regular file, munmap'ed by the caller; NULL and 0 for an empty one. */
status_t io_file_map(const char *path, uint8_t **map_p, size_t *size_p);

/* Writes all of bytes[length] at fd's position, adding them to hash (NULL: none). Errors name path. */
status_t io_file_write(int fd, const char *path, const void *bytes, size_t length, hash_sha256_t *hash);

/* Creates or truncates path for writing. */
status_t io_file_create(const char *path, int *fd_p);
/* fsync (where status is still ST_OK) and close; status, or the first error of these. */
status_t io_file_finish(int fd, const char *path, status_t status);

#endif
