/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shared: one memory region a rank, mapped by all ranks of a group that live on one host.
 *
 * Each rank makes an anonymous file (memfd), and the others open it through /proc/PID/fd/N. Nothing has a name that
 * could stay behind when a rank is killed. That a path really is the peer's region (and not some other process of
 * another host or PID namespace) is known from its link text, which carries the group's random number.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/mem.h"
#include "collectives/backend.h"

typedef struct shared_offer {
    uint64_t nonce;
    int64_t pid;
    int64_t descriptor; /* -1: this rank has no region */
} shared_offer_t;

static void name_format(uint64_t nonce, int rank, char *name, size_t size)
{
    (void)snprintf(name, size, "gradd-%016llx-%d", (unsigned long long)nonce, rank);
}

/* This rank's region and its descriptor; -1 when the system has no room for it. */
static int own_create(coll_group_t *group, uint64_t nonce, int64_t size_bytes, void **region_p)
{
    char name[64];
    name_format(nonce, group->rank, name, sizeof(name));
    int descriptor = memfd_create(name, MFD_CLOEXEC);
    if (descriptor < 0) {
        return -1;
    }
    /* reserves the pages now: later there would be no error, only SIGBUS */
    if (posix_fallocate(descriptor, 0, size_bytes) != 0) {
        (void)close(descriptor);
        return -1;
    }
    void *region = mmap(NULL, (size_t)size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    if (region == MAP_FAILED) {
        (void)close(descriptor);
        return -1;
    }
    *region_p = region;
    return descriptor;
}

static void *peer_map(const shared_offer_t *offer, uint64_t nonce, int peer, int64_t size_bytes)
{
    char path[64];
    char name[64];
    char expected[96];
    char link[96];
    (void)snprintf(path, sizeof(path), "/proc/%lld/fd/%lld", (long long)offer->pid, (long long)offer->descriptor);
    name_format(nonce, peer, name, sizeof(name));
    (void)snprintf(expected, sizeof(expected), "/memfd:%s (deleted)", name);
    ssize_t length = readlink(path, link, sizeof(link) - 1);
    if (length < 0) {
        return NULL;
    }
    link[length] = '\0';
    if (strcmp(link, expected) != 0) {
        return NULL;
    }
    int descriptor = open(path, O_RDWR | O_CLOEXEC);
    if (descriptor < 0) {
        return NULL;
    }
    void *region = mmap(NULL, (size_t)size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    (void)close(descriptor);
    return region == MAP_FAILED ? NULL : region;
}

void coll_shared_close(coll_shared_t *shared)
{
    if (shared == NULL) {
        return;
    }
    for (int r = 0; shared->region != NULL && r < shared->size; r++) {
        if (shared->region[r] != NULL) {
            (void)munmap(shared->region[r], (size_t)shared->size_bytes);
        }
    }
    mem_free(shared->region);
    mem_free(shared);
}

/* Maps all ranks' regions; false when this rank can't. A failure of the group is in *status_p. */
static bool regions_map(coll_group_t *group, coll_shared_t *shared, uint64_t nonce, int own, shared_offer_t *offers,
                        status_t *status_p)
{
    offers[group->rank] = (shared_offer_t){.nonce = nonce, .pid = (int64_t)getpid(), .descriptor = own};
    *status_p = coll_allgather(group, &offers[group->rank], (int64_t)sizeof(*offers), offers);
    if (*status_p != ST_OK || own < 0) {
        return false;
    }
    for (int r = 0; r < group->size; r++) {
        if (r == group->rank) {
            continue;
        }
        if (offers[r].nonce != nonce || offers[r].descriptor < 0) {
            return false;
        }
        shared->region[r] = peer_map(&offers[r], nonce, r, shared->size_bytes);
        if (shared->region[r] == NULL) {
            return false;
        }
    }
    return true;
}

status_t coll_shared_open(coll_group_t *group, int64_t size_bytes, coll_shared_t **shared_p)
{
    uint64_t nonce = 0;
    if (group->rank == 0 && getrandom(&nonce, sizeof(nonce), 0) != (ssize_t)sizeof(nonce)) {
        nonce = (uint64_t)getpid();
    }
    status_t status = coll_broadcast(group, &nonce, (int64_t)sizeof(nonce), 0);
    if (status != ST_OK) {
        return status;
    }
    shared_offer_t *offers = mem_calloc((size_t)group->size, sizeof(*offers));
    coll_shared_t *shared = mem_zalloc(sizeof(*shared));
    void **region = mem_calloc((size_t)group->size, sizeof(*region));
    if (offers == NULL || shared == NULL || region == NULL) {
        mem_free(offers);
        mem_free(shared);
        mem_free(region);
        return ST_FAIL(ST_ERR_NOMEM, "shared memory of %d ranks", group->size);
    }
    *shared = (coll_shared_t){.size = group->size, .size_bytes = size_bytes, .region = region};

    int own = own_create(group, nonce, size_bytes, &region[group->rank]);
    uint8_t is_mapped = regions_map(group, shared, nonce, own, offers, &status) ? 1 : 0;
    if (status == ST_OK) { /* also the moment from which no peer needs the descriptor any more */
        status = coll_allreduce(group, &is_mapped, 1, GD_DTYPE_U8, COLL_OP_MIN);
    }
    if (own >= 0) {
        (void)close(own);
    }
    mem_free(offers);
    if (status != ST_OK || is_mapped == 0) {
        coll_shared_close(shared);
        shared = NULL;
    }
    if (status == ST_OK) {
        *shared_p = shared;
    }
    return status;
}
