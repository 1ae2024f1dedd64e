/* SPDX-License-Identifier: Apache-2.0 */
/*
 * zip: reading side.
 *
 *   member ▶ local header, name, extra, packed bytes      the end record is searched backwards from the file's end;
 *   …                                                     it says where the central directory is, whose entries say
 *   central directory: one entry a member                 where the local headers are, which say where their bytes
 *   (zip64 end record, its locator) end record, comment   begin
 */
#include "io/zip.h"

#include <string.h>
#include <zlib.h>

#include "base/mem.h"

enum {
    LOCAL_SIZE = 30,
    ENTRY_SIZE = 46,
    END_SIZE = 22,
    LOCATOR_SIZE = 20,
    END64_SIZE = 56,
    MAX_COMMENT = 65535,
    MAX_MEMBERS = 1 << 20,
    DEFLATE_RATIO = 1032
};

static uint64_t bytes_get(const uint8_t *at, int n)
{
    uint64_t value = 0;
    for (int i = 0; i < n; i++) {
        value |= (uint64_t)at[i] << (8 * i);
    }
    return value;
}

static bool is_signature(const uint8_t *at, uint32_t signature)
{
    return bytes_get(at, 4) == signature;
}

/* Where the central directory is. */
typedef struct directory {
    uint64_t n_members;
    uint64_t size;
    uint64_t offset;
} directory_t;

static status_t end_find(const zip_t *zip, directory_t *directory_p)
{
    size_t lowest = zip->size > END_SIZE + MAX_COMMENT ? zip->size - END_SIZE - MAX_COMMENT : 0;
    for (size_t at = zip->size >= END_SIZE ? zip->size - END_SIZE + 1 : 0; at-- > lowest;) {
        const uint8_t *end = zip->bytes + at;
        if (!is_signature(end, 0x06054b50) || at + END_SIZE + bytes_get(end + 20, 2) != zip->size) {
            continue;
        }
        if (bytes_get(end + 4, 2) != 0 || bytes_get(end + 6, 2) != 0) {
            return ST_FAIL(ST_ERR_UNSUPPORTED, "%s: an archive in several parts", zip->where);
        }
        *directory_p = (directory_t){bytes_get(end + 10, 2), bytes_get(end + 12, 4), bytes_get(end + 16, 4)};
        if (at >= LOCATOR_SIZE && is_signature(end - LOCATOR_SIZE, 0x07064b50)) {
            uint64_t end64 = bytes_get(end - LOCATOR_SIZE + 8, 8);
            if (zip->size < END64_SIZE || end64 > zip->size - END64_SIZE ||
                !is_signature(zip->bytes + end64, 0x06064b50)) {
                return ST_FAIL(ST_ERR_CORRUPT, "%s: its zip64 end record isn't where it should be", zip->where);
            }
            const uint8_t *record = zip->bytes + end64;
            *directory_p =
                (directory_t){bytes_get(record + 32, 8), bytes_get(record + 40, 8), bytes_get(record + 48, 8)};
        }
        return ST_OK;
    }
    return ST_FAIL(ST_ERR_CORRUPT, "%s: not a zip archive: no end record (truncated?)", zip->where);
}

/* The 64-bit values that stand in the entry's extra field instead of those that are all ones. */
static bool extra_apply(const uint8_t *extra, size_t n, uint64_t *const value[3])
{
    size_t at = 0;
    while (n - at >= 4) {
        size_t length = (size_t)bytes_get(extra + at + 2, 2);
        if (length > n - at - 4) {
            return false;
        }
        if (bytes_get(extra + at, 2) == 1) {
            size_t used = 0;
            for (int i = 0; i < 3; i++) {
                if (*value[i] == 0xFFFFFFFFu) {
                    if (length - used < 8) {
                        return false;
                    }
                    *value[i] = bytes_get(extra + at + 4 + used, 8);
                    used += 8;
                }
            }
        }
        at += 4 + length;
    }
    return true;
}

/* Finds the member's bytes by its local header. */
static status_t member_locate(const zip_t *zip, zip_member_t *member, uint64_t offset)
{
    if (zip->size < LOCAL_SIZE || offset > zip->size - LOCAL_SIZE || !is_signature(zip->bytes + offset, 0x04034b50)) {
        return ST_FAIL(ST_ERR_CORRUPT, "%s: member %s: its header isn't where the directory says", zip->where,
                       member->name);
    }
    const uint8_t *local = zip->bytes + offset;
    uint64_t begin = offset + LOCAL_SIZE + bytes_get(local + 26, 2) + bytes_get(local + 28, 2);
    if (begin > zip->size || member->packed_size > zip->size - begin) {
        return ST_FAIL(ST_ERR_CORRUPT, "%s: member %s: its %llu bytes don't fit into the file", zip->where,
                       member->name, (unsigned long long)member->packed_size);
    }
    member->packed = zip->bytes + begin;
    return ST_OK;
}

static status_t member_parse(zip_t *zip, const uint8_t *entry, uint64_t left, uint64_t *length_p)
{
    if (left < ENTRY_SIZE || !is_signature(entry, 0x02014b50)) {
        return ST_FAIL(ST_ERR_CORRUPT, "%s: entry %d of its directory is damaged", zip->where, zip->n_members);
    }
    size_t n_name = (size_t)bytes_get(entry + 28, 2);
    size_t n_extra = (size_t)bytes_get(entry + 30, 2);
    uint64_t length = ENTRY_SIZE + n_name + n_extra + bytes_get(entry + 32, 2);
    if (length > left || n_name == 0 || memchr(entry + ENTRY_SIZE, '\0', n_name) != NULL) {
        return ST_FAIL(ST_ERR_CORRUPT, "%s: entry %d of its directory is damaged", zip->where, zip->n_members);
    }
    zip_member_t *member = &zip->members[zip->n_members];
    member->name = mem_strndup((const char *)entry + ENTRY_SIZE, n_name);
    if (member->name == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "%s: names", zip->where);
    }
    zip->n_members++;
    if ((bytes_get(entry + 8, 2) & 1u) != 0) {
        return ST_FAIL(ST_ERR_UNSUPPORTED, "%s: member %s is encrypted", zip->where, member->name);
    }
    unsigned method = (unsigned)bytes_get(entry + 10, 2);
    if (method != 0 && method != 8) {
        return ST_FAIL(ST_ERR_UNSUPPORTED, "%s: member %s: compression method %u; 0 (stored) and 8 (deflate) are known",
                       zip->where, member->name, method);
    }
    member->is_deflated = method == 8;
    member->crc = (uint32_t)bytes_get(entry + 16, 4);
    member->packed_size = bytes_get(entry + 20, 4);
    member->size = bytes_get(entry + 24, 4);
    uint64_t offset = bytes_get(entry + 42, 4);
    if (!extra_apply(entry + ENTRY_SIZE + n_name, n_extra,
                     (uint64_t *const[3]){&member->size, &member->packed_size, &offset})) {
        return ST_FAIL(ST_ERR_CORRUPT, "%s: member %s: its zip64 sizes are damaged", zip->where, member->name);
    }
    *length_p = length;
    status_t status = member_locate(zip, member, offset);
    if (status == ST_OK && (member->is_deflated ? member->size / DEFLATE_RATIO > member->packed_size
                                                : member->size != member->packed_size)) {
        status = ST_FAIL(ST_ERR_CORRUPT, "%s: member %s: %llu bytes can't be packed into %llu", zip->where,
                         member->name, (unsigned long long)member->size, (unsigned long long)member->packed_size);
    }
    return status;
}

status_t zip_init(zip_t *zip, const char *where, const uint8_t *bytes, size_t size)
{
    *zip = (zip_t){.where = where, .bytes = bytes, .size = size};
    directory_t directory = {0};
    status_t status = end_find(zip, &directory);
    if (status != ST_OK) {
        return status;
    }
    if (directory.offset > size || directory.size > size - directory.offset ||
        directory.n_members > directory.size / ENTRY_SIZE || directory.n_members > MAX_MEMBERS) {
        return ST_FAIL(ST_ERR_CORRUPT, "%s: a directory of %llu members in %llu bytes at %llu of the file's %zu", where,
                       (unsigned long long)directory.n_members, (unsigned long long)directory.size,
                       (unsigned long long)directory.offset, size);
    }
    zip->members = mem_calloc((size_t)directory.n_members + 1, sizeof(*zip->members));
    if (zip->members == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "%s: %llu members", where, (unsigned long long)directory.n_members);
    }
    const uint8_t *at = bytes + directory.offset;
    uint64_t left = directory.size;
    for (uint64_t i = 0; i < directory.n_members && status == ST_OK; i++) {
        uint64_t length = 0;
        status = member_parse(zip, at, left, &length);
        at += length;
        left -= length;
    }
    if (status != ST_OK) {
        zip_release(zip);
    }
    return status;
}

void zip_release(zip_t *zip)
{
    for (int i = 0; i < zip->n_members; i++) {
        mem_free(zip->members[i].name);
    }
    mem_free(zip->members);
    zip->members = NULL;
    zip->n_members = 0;
}

static uint32_t crc_of(const uint8_t *bytes, uint64_t n)
{
    return (uint32_t)crc32_z(0, bytes, (z_size_t)n);
}

/* bytes[size] from the packed ones; all of them, and not one more. */
static status_t member_inflate(const zip_t *zip, const zip_member_t *member, uint8_t *bytes)
{
    enum { PIECE = 1 << 30 }; /* zlib counts in 32 bits */
    z_stream stream = {0};
    if (inflateInit2(&stream, -MAX_WBITS) != Z_OK) {
        return ST_FAIL(ST_ERR_NOMEM, "%s: member %s: inflating", zip->where, member->name);
    }
    uint64_t in_left = member->packed_size;
    uint64_t out_left = member->size;
    uint8_t beyond = 0;
    stream.next_in = (Bytef *)(uintptr_t)member->packed;
    stream.next_out = bytes;
    int result = Z_OK;
    while (result == Z_OK) {
        if (stream.avail_in == 0) {
            stream.avail_in = in_left > PIECE ? PIECE : (uInt)in_left;
            in_left -= stream.avail_in;
        }
        if (stream.avail_out == 0) {
            if (out_left == 0) {
                stream.next_out = &beyond; /* the stream must end without filling it */
                stream.avail_out = 1;
            } else {
                stream.avail_out = out_left > PIECE ? PIECE : (uInt)out_left;
                out_left -= stream.avail_out;
            }
        }
        result = inflate(&stream, Z_NO_FLUSH);
        if (stream.next_out == &beyond + 1) {
            break;
        }
    }
    bool is_whole = result == Z_STREAM_END && stream.avail_in == 0 && in_left == 0 && out_left == 0 &&
                    (stream.avail_out == 0 || stream.next_out == &beyond);
    (void)inflateEnd(&stream);
    return is_whole
               ? ST_OK
               : ST_FAIL(ST_ERR_CORRUPT, "%s: member %s: its compressed bytes are damaged", zip->where, member->name);
}

status_t zip_member_read(const zip_t *zip, const zip_member_t *member, const uint8_t **bytes_p, void **owned_p)
{
    const uint8_t *bytes = member->packed;
    uint8_t *owned = NULL;
    status_t status = ST_OK;
    if (member->is_deflated) {
        owned = member->size < SIZE_MAX ? mem_alloc_aligned(64, (size_t)member->size + 1) : NULL;
        if (owned == NULL) {
            return ST_FAIL(ST_ERR_NOMEM, "%s: member %s: %llu bytes", zip->where, member->name,
                           (unsigned long long)member->size);
        }
        status = member_inflate(zip, member, owned);
        bytes = owned;
    }
    if (status == ST_OK && crc_of(bytes, member->size) != member->crc) {
        status = ST_FAIL(ST_ERR_CORRUPT, "%s: member %s: its checksum is wrong", zip->where, member->name);
    }
    if (status != ST_OK) {
        mem_free(owned);
        return status;
    }
    *bytes_p = bytes;
    *owned_p = owned;
    return ST_OK;
}
