/* SPDX-License-Identifier: Apache-2.0 */
/*
 * zip: archives as numpy.savez makes them (PKWARE's APPNOTE 6.3): members stored or deflated, zip64 where sizes ask
 * for it, no encryption, one disk. Private to engine/io. Every offset and size is checked against the file; a member
 * is never inflated to more than deflate's greatest ratio allows for its packed size, so that memory is bounded by the
 * file.
 */
#ifndef GRADD_IO_ZIP_H
#define GRADD_IO_ZIP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef struct zip_member {
    char *name;
    const uint8_t *packed; /* in the archive's bytes */
    uint64_t packed_size;
    uint64_t size;
    uint32_t crc;
    bool is_deflated;
} zip_member_t;

/* Embedded; the bytes are borrowed. where: the archive's name, for messages. */
typedef struct zip {
    const char *where;
    const uint8_t *bytes;
    size_t size;
    zip_member_t *members;
    int n_members;
} zip_t;

status_t zip_init(zip_t *zip, const char *where, const uint8_t *bytes, size_t size);
void zip_release(zip_t *zip);
/* The member's bytes, checksum verified: in place where it is stored, else in memory handed out through owned_p
 * (mem_free). */
status_t zip_member_read(const zip_t *zip, const zip_member_t *member, const uint8_t **bytes_p, void **owned_p);

/* Writing: embedded; members are appended, then the directory closes the archive. */
typedef struct zip_writer {
    const char *where;
    int fd;
    uint64_t offset;
    uint8_t *directory;
    size_t directory_size;
    size_t directory_capacity;
    int n_members;
} zip_writer_t;

void zip_writer_init(zip_writer_t *writer, const char *where, int fd);
void zip_writer_release(zip_writer_t *writer);
/* A member of two pieces (a header and the elements); elements of stored members lie at multiples of 64 bytes where
 * piece[0] is a multiple of 64 long. */
status_t zip_writer_add(zip_writer_t *writer, const char *name, const void *const piece[2], const size_t length[2],
                        bool is_deflated);
status_t zip_writer_finish(zip_writer_t *writer);

#endif
