/* SPDX-License-Identifier: Apache-2.0 */
/* files: durable writes and folder trees. */
#include "worker/files.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"

static status_t path_fail(const char *doing, const char *path)
{
    int error_number = errno;
    return ST_FAIL(status_from_errno(error_number), "cannot %s %s: %s", doing, path, strerror(error_number));
}

status_t wrk_folder_make(const char *path)
{
    char partial[WRK_MAX_PATH];
    size_t length = strlen(path);
    if (length == 0 || length >= sizeof(partial)) {
        return ST_FAIL(ST_ERR_INVAL, "folder path of %zu bytes", length);
    }
    memcpy(partial, path, length + 1);
    for (size_t i = 1; i <= length; i++) {
        if (partial[i] != '/' && partial[i] != '\0') {
            continue;
        }
        char end = partial[i];
        partial[i] = '\0';
        if (mkdir(partial, 0777) != 0 && errno != EEXIST) {
            struct stat info;
            int error_number = errno;
            if (stat(partial, &info) != 0 || !S_ISDIR(info.st_mode)) {
                errno = error_number;
                return path_fail("make folder", partial);
            }
        }
        partial[i] = end;
    }
    struct stat info;
    if (stat(path, &info) != 0) {
        return path_fail("look at", path);
    }
    if (!S_ISDIR(info.st_mode)) {
        errno = ENOTDIR;
        return path_fail("make folder", path);
    }
    return ST_OK;
}

status_t wrk_folder_sync(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return path_fail("open folder", path);
    }
    /* some file systems cannot fsync a folder: EINVAL, and names are durable by themselves there */
    if (fsync(fd) != 0 && errno != EINVAL) {
        status_t status = path_fail("fsync", path);
        (void)close(fd);
        return status;
    }
    (void)close(fd);
    return ST_OK;
}

static int entry_remove(const char *path, const struct stat *info, int type, struct FTW *ftw)
{
    (void)info;
    (void)type;
    (void)ftw;
    return remove(path) != 0 && errno != ENOENT ? -1 : 0;
}

status_t wrk_tree_remove(const char *path)
{
    if (nftw(path, entry_remove, 8, FTW_DEPTH | FTW_PHYS) != 0 && errno != ENOENT) {
        return path_fail("remove", path);
    }
    return ST_OK;
}

status_t wrk_file_write(const char *path, const void *bytes, size_t size)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0) {
        return path_fail("create", path);
    }
    const char *from = bytes;
    while (size > 0) {
        ssize_t n = write(fd, from, size);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            goto err_close;
        }
        from += n;
        size -= (size_t)n;
    }
    if (fsync(fd) != 0) {
        goto err_close;
    }
    if (close(fd) != 0) {
        return path_fail("close", path);
    }
    return ST_OK;

err_close:;
    status_t status = path_fail("write", path);
    (void)close(fd);
    return status;
}

static status_t file_put(const char *path, const void *bytes, size_t size, int may_replace)
{
    char temporary[WRK_MAX_PATH];
    char folder[WRK_MAX_PATH];
    int n = snprintf(temporary, sizeof(temporary), "%s.tmp-%ld", path, (long)getpid());
    if (n < 0 || (size_t)n >= sizeof(temporary)) {
        return ST_FAIL(ST_ERR_INVAL, "path too long: %s", path);
    }
    const char *slash = strrchr(path, '/');
    (void)snprintf(folder, sizeof(folder), "%.*s", slash == NULL ? 1 : (int)(slash - path + 1),
                   slash == NULL ? "." : path);

    status_t status = wrk_file_write(temporary, bytes, size);
    if (status != ST_OK) {
        (void)unlink(temporary);
        return status;
    }
    if (may_replace ? rename(temporary, path) != 0 : link(temporary, path) != 0) {
        status = path_fail(may_replace ? "rename to" : "create", path);
        (void)unlink(temporary);
        return status;
    }
    if (!may_replace) {
        (void)unlink(temporary);
    }
    return wrk_folder_sync(folder);
}

status_t wrk_file_replace(const char *path, const void *bytes, size_t size)
{
    return file_put(path, bytes, size, 1);
}

status_t wrk_file_create(const char *path, const void *bytes, size_t size)
{
    return file_put(path, bytes, size, 0);
}

status_t wrk_file_read(const char *path, size_t max_size, char **text_p, size_t *size_p)
{
    status_t status = ST_OK;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return path_fail("open", path);
    }
    struct stat info;
    if (fstat(fd, &info) != 0) {
        status = path_fail("look at", path);
        goto err_close;
    }
    if (!S_ISREG(info.st_mode) || info.st_size < 0 || (uint64_t)info.st_size > max_size) {
        status = ST_FAIL(ST_ERR_RANGE, "%s: not a file of at most %zu bytes", path, max_size);
        goto err_close;
    }
    size_t size = (size_t)info.st_size;
    char *text = mem_alloc(size + 1);
    if (text == NULL) {
        status = ST_FAIL(ST_ERR_NOMEM, "%zu bytes to read %s", size + 1, path);
        goto err_close;
    }
    size_t at = 0;
    while (at < size) {
        ssize_t n = read(fd, text + at, size - at);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            status = path_fail("read", path);
            goto err_free;
        }
        if (n == 0) {
            break;
        }
        at += (size_t)n;
    }
    text[at] = '\0';
    (void)close(fd);
    *text_p = text;
    if (size_p != NULL) {
        *size_p = at;
    }
    return ST_OK;

err_free:
    mem_free(text);
err_close:
    (void)close(fd);
    return status;
}

status_t wrk_file_sha256(const char *path, char hex_p[HASH_SHA256_HEX_SIZE], int64_t *size_p)
{
    enum { CHUNK = 1 << 18 };
    status_t status = ST_OK;
    int64_t total = 0;
    char *chunk = mem_alloc(CHUNK);
    if (chunk == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "%d bytes to hash %s", CHUNK, path);
    }
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        status = path_fail("open", path);
        goto err_free;
    }
    hash_sha256_t *hash = NULL;
    status = hash_sha256_open(&hash);
    if (status != ST_OK) {
        goto err_close;
    }
    for (;;) {
        ssize_t n = read(fd, chunk, CHUNK);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            status = path_fail("read", path);
        }
        if (n <= 0) {
            break;
        }
        hash_sha256_update(hash, chunk, (size_t)n);
        total += n;
    }
    char hex[HASH_SHA256_HEX_SIZE];
    hash_sha256_close(hash, hex);
    if (status == ST_OK) {
        memcpy(hex_p, hex, sizeof(hex));
        if (size_p != NULL) {
            *size_p = total;
        }
    }

err_close:
    (void)close(fd);
err_free:
    mem_free(chunk);
    return status;
}
