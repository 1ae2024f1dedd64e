/* SPDX-License-Identifier: Apache-2.0 */
/* reserve: disk space kept back. */
#include "daemon/reserve.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

status_t dmn_reserve_open(const char *path, int64_t full_size, dmn_reserve_t *reserve)
{
    struct stat info;
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || fstat(fd, &info) != 0) {
        int error = errno;
        if (fd >= 0) {
            (void)close(fd);
        }
        return ST_FAIL(status_from_errno(error), "opening %s: %s", path, strerror(error));
    }
    const int64_t allocated = (int64_t)info.st_blocks * 512; /* less than the size in a copy with holes */
    *reserve =
        (dmn_reserve_t){.fd = fd, .size = allocated < info.st_size ? allocated : info.st_size, .full_size = full_size};
    return ST_OK;
}

void dmn_reserve_release(dmn_reserve_t *reserve)
{
    if (reserve->fd >= 0) {
        (void)close(reserve->fd);
    }
    *reserve = (dmn_reserve_t){.fd = -1};
}

bool dmn_reserve_fill(dmn_reserve_t *reserve)
{
    if (reserve->fd < 0 || reserve->size >= reserve->full_size) {
        return true;
    }
    int error = posix_fallocate(reserve->fd, 0, reserve->full_size);
    if (error == ENOSPC || error == EDQUOT) {
        (void)!ftruncate(reserve->fd, reserve->size); /* what was allocated before it failed */
        return false;
    }
    reserve->size = reserve->full_size; /* any other error: nothing can be kept back here */
    return true;
}

bool dmn_reserve_give(dmn_reserve_t *reserve, int64_t bytes)
{
    if (reserve->fd < 0 || reserve->size == 0) {
        return false;
    }
    int64_t size = reserve->size > bytes ? reserve->size - bytes : 0;
    if (ftruncate(reserve->fd, size) != 0) {
        return false;
    }
    reserve->size = size;
    return true;
}
