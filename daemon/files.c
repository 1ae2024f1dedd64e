/* SPDX-License-Identifier: Apache-2.0 */
/* files: durable small files and folders. */
#include "daemon/files.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/mem.h"

static status_t path_fail(const char *what, const char *path)
{
    int error = errno;
    return ST_FAIL(status_from_errno(error), "%s %s: %s", what, path, strerror(error));
}

char *dmn_format(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    va_list again;
    va_copy(again, args);
    int length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    char *text = length < 0 ? NULL : mem_alloc((size_t)length + 1);
    if (text != NULL) {
        (void)vsnprintf(text, (size_t)length + 1, format, again);
    }
    va_end(again);
    return text;
}

static status_t all_write(int fd, const char *path, const void *bytes, size_t size)
{
    const char *next = bytes;
    while (size > 0) {
        ssize_t n = write(fd, next, size);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return path_fail("writing", path);
        }
        next += n;
        size -= (size_t)n;
    }
    return ST_OK;
}

status_t dmn_folder_sync(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return path_fail("opening folder", path);
    }
    status_t status = fsync(fd) == 0 ? ST_OK : path_fail("syncing folder", path);
    (void)close(fd);
    return status;
}

status_t dmn_room_check(const char *path, int64_t bytes)
{
    enum { MIB = 1 << 20 };
    struct statvfs info;
    if (statvfs(path, &info) != 0) {
        return path_fail("looking at the disk of", path);
    }
    const int64_t left = (int64_t)info.f_bavail * (int64_t)info.f_frsize;
    return left >= bytes ? ST_OK
                         : ST_FAIL(ST_ERR_NOSPACE, "the disk of %s has %.1f MiB left, %.1f MiB are needed", path,
                                   (double)left / MIB, (double)bytes / MIB);
}

static status_t parent_sync(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *parent = slash == NULL   ? mem_strdup(".")
                   : slash == path ? mem_strdup("/")
                                   : mem_strndup(path, (size_t)(slash - path));
    if (parent == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "folder of %s", path);
    }
    status_t status = dmn_folder_sync(parent);
    mem_free(parent);
    return status;
}

status_t dmn_file_write_durable(const char *path, const void *bytes, size_t size)
{
    char *temp = dmn_format("%s.%d.tmp", path, (int)getpid());
    if (temp == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "writing %s", path);
    }
    int fd = open(temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) {
        status_t status = path_fail("creating", temp);
        mem_free(temp);
        return status;
    }
    status_t status = all_write(fd, temp, bytes, size);
    if (status == ST_OK && fsync(fd) != 0) {
        status = path_fail("syncing", temp);
    }
    if (close(fd) != 0 && status == ST_OK) {
        status = path_fail("closing", temp);
    }
    if (status == ST_OK && rename(temp, path) != 0) {
        status = path_fail("renaming to", path);
    }
    if (status != ST_OK) {
        (void)unlink(temp);
        mem_free(temp);
        return status;
    }
    mem_free(temp);
    return parent_sync(path);
}

status_t dmn_file_read(const char *path, size_t max_bytes, char **text_p, size_t *size_p)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        return path_fail("opening", path);
    }
    struct stat info;
    status_t status = ST_OK;
    char *text = NULL;
    if (fstat(fd, &info) != 0) {
        status = path_fail("reading", path);
    } else if (!S_ISREG(info.st_mode) && !S_ISCHR(info.st_mode)) {
        status = ST_FAIL(ST_ERR_INVAL, "%s is not a regular file", path);
    } else if (info.st_size < 0 || (size_t)info.st_size > max_bytes) {
        status =
            ST_FAIL(ST_ERR_RANGE, "%s has %lld bytes, at most %zu are read", path, (long long)info.st_size, max_bytes);
    } else if ((text = mem_alloc((size_t)info.st_size + 1)) == NULL) {
        status = ST_FAIL(ST_ERR_NOMEM, "reading %s", path);
    }
    size_t size = 0;
    while (status == ST_OK && size < (size_t)info.st_size) {
        ssize_t n = read(fd, text + size, (size_t)info.st_size - size);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            status = path_fail("reading", path);
        }
        if (n <= 0) {
            break;
        }
        size += (size_t)n;
    }
    (void)close(fd);
    if (status != ST_OK || text == NULL) {
        mem_free(text);
        return status;
    }
    text[size] = '\0';
    *text_p = text;
    if (size_p != NULL) {
        *size_p = size;
    }
    return ST_OK;
}

status_t dmn_folder_make(const char *path, mode_t mode)
{
    char *part = mem_strdup(path);
    if (part == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "making folder %s", path);
    }
    status_t status = ST_OK;
    for (char *slash = strchr(part + 1, '/');; slash = strchr(slash + 1, '/')) {
        if (slash != NULL) {
            *slash = '\0';
        }
        if (mkdir(part, mode) != 0 && errno != EEXIST) {
            status = path_fail("making folder", part);
            break;
        }
        if (slash == NULL) {
            break;
        }
        *slash = '/';
    }
    mem_free(part);
    struct stat info;
    if (status == ST_OK && (stat(path, &info) != 0 || !S_ISDIR(info.st_mode))) {
        status = ST_FAIL(ST_ERR_IO, "%s is not a folder", path);
    }
    return status;
}

static int entry_remove(const char *path, const struct stat *info, int type, struct FTW *ftw)
{
    (void)info;
    (void)type;
    (void)ftw;
    return remove(path) == 0 || errno == ENOENT ? 0 : -1;
}

status_t dmn_tree_remove(const char *path)
{
    if (nftw(path, entry_remove, 16, FTW_DEPTH | FTW_PHYS) != 0 && errno != ENOENT) {
        return path_fail("removing", path);
    }
    return ST_OK;
}
