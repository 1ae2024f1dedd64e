/* SPDX-License-Identifier: Apache-2.0 */
/* file: maps, and writes that don't stop half-way. */
#include "io/file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

status_t io_file_map(const char *path, uint8_t **map_p, size_t *size_p)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return ST_FAIL(status_from_errno(errno), "%s: %s", path, strerror(errno));
    }
    status_t status = ST_OK;
    struct stat info;
    void *map = NULL;
    if (fstat(fd, &info) != 0) {
        status = ST_FAIL(status_from_errno(errno), "%s: %s", path, strerror(errno));
    } else if (!S_ISREG(info.st_mode)) {
        status = ST_FAIL(ST_ERR_INVAL, "%s: not a regular file", path);
    } else if (info.st_size > 0) {
        map = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (map == MAP_FAILED) {
            status = ST_FAIL(status_from_errno(errno), "%s: mmap: %s", path, strerror(errno));
        }
    }
    (void)close(fd);
    if (status == ST_OK) {
        *map_p = map;
        *size_p = map != NULL ? (size_t)info.st_size : 0;
    }
    return status;
}

status_t io_file_write(int fd, const char *path, const void *bytes, size_t length, hash_sha256_t *hash)
{
    enum { PIECE = 1 << 20 }; /* hashed while it is in the cache */
    const uint8_t *from = bytes;
    while (length > 0) {
        size_t piece = length < PIECE ? length : PIECE;
        if (hash != NULL) {
            hash_sha256_update(hash, from, piece);
        }
        while (piece > 0) {
            ssize_t n = write(fd, from, piece);
            if (n < 0 && errno == EINTR) {
                continue;
            }
            if (n < 0) {
                return ST_FAIL(status_from_errno(errno), "%s: %s", path, strerror(errno));
            }
            from += n;
            piece -= (size_t)n;
            length -= (size_t)n;
        }
    }
    return ST_OK;
}

status_t io_file_create(const char *path, int *fd_p)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0) {
        return ST_FAIL(status_from_errno(errno), "%s: %s", path, strerror(errno));
    }
    *fd_p = fd;
    return ST_OK;
}

status_t io_file_finish(int fd, const char *path, status_t status)
{
    if (status == ST_OK && fsync(fd) != 0) {
        status = ST_FAIL(status_from_errno(errno), "%s: fsync: %s", path, strerror(errno));
    }
    if (close(fd) != 0 && status == ST_OK) {
        status = ST_FAIL(status_from_errno(errno), "%s: close: %s", path, strerror(errno));
    }
    return status;
}
