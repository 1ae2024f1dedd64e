/* SPDX-License-Identifier: Apache-2.0 */
/* zip_write: writing side; see zip.h and zip.c. Times are 1980-01-01, so that equal tensors give equal files. */
#include <string.h>
#include <zlib.h>

#include "base/mem.h"
#include "io/file.h"
#include "io/zip.h"

enum { ALIGN = 64, LOCAL_SIZE = 30, ENTRY_SIZE = 46, ZIP64_EXTRA = 28, MAX_EXTRA = 4 + 16 + 4 + ALIGN, DOS_DATE = 33 };

static const uint64_t u32_max = 0xFFFFFFFFu;

static uint8_t *bytes_put(uint8_t *at, uint64_t value, int n)
{
    for (int i = 0; i < n; i++) {
        *at++ = (uint8_t)value;
        value >>= 8;
    }
    return at;
}

void zip_writer_init(zip_writer_t *writer, const char *where, int fd)
{
    *writer = (zip_writer_t){.where = where, .fd = fd};
}

void zip_writer_release(zip_writer_t *writer)
{
    mem_free(writer->directory);
    writer->directory = NULL;
}

static status_t writer_put(zip_writer_t *writer, const void *bytes, size_t length)
{
    status_t status = io_file_write(writer->fd, writer->where, bytes, length, NULL);
    writer->offset += length;
    return status;
}

/* Both pieces as one raw deflate stream: mem_free. */
static status_t pieces_deflate(const zip_writer_t *writer, const void *const piece[2], const size_t length[2],
                               uint8_t **packed_p, size_t *packed_size_p)
{
    enum { PIECE = 1 << 30 };
    z_stream stream = {0};
    if (deflateInit2(&stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, -MAX_WBITS, 8, Z_DEFAULT_STRATEGY) != Z_OK) {
        return ST_FAIL(ST_ERR_NOMEM, "%s: deflating", writer->where);
    }
    size_t total = length[0] + length[1];
    size_t capacity = total + total / 1000 + 4096;
    uint8_t *packed = mem_alloc(capacity);
    size_t used = 0;
    int result = packed != NULL ? Z_OK : Z_MEM_ERROR;
    for (int i = 0; i < 2 && result == Z_OK; i++) {
        size_t left = length[i];
        stream.next_in = (Bytef *)(uintptr_t)piece[i];
        do {
            stream.avail_in = left > PIECE ? PIECE : (uInt)left;
            left -= stream.avail_in;
            stream.next_out = packed + used;
            stream.avail_out = capacity - used > PIECE ? PIECE : (uInt)(capacity - used);
            const uInt room = stream.avail_out;
            const uInt given = stream.avail_in;
            result = deflate(&stream, i == 1 && left == 0 ? Z_FINISH : Z_NO_FLUSH);
            used += room - stream.avail_out;
            left += stream.avail_in;
            if (given == stream.avail_in && room == stream.avail_out) {
                break;
            }
        } while (result == Z_OK && (left > 0 || i == 1));
    }
    (void)deflateEnd(&stream);
    if (result != Z_STREAM_END) {
        mem_free(packed);
        return ST_FAIL(packed == NULL ? ST_ERR_NOMEM : ST_ERR_INTERNAL, "%s: deflating %zu bytes", writer->where,
                       total);
    }
    *packed_p = packed;
    *packed_size_p = used;
    return ST_OK;
}

static status_t directory_reserve(zip_writer_t *writer, size_t n)
{
    if (writer->directory_capacity - writer->directory_size < n) {
        size_t capacity = 2 * writer->directory_capacity + n + 1024;
        uint8_t *grown = mem_realloc(writer->directory, capacity);
        if (grown == NULL) {
            return ST_FAIL(ST_ERR_NOMEM, "%s: directory of %d members", writer->where, writer->n_members);
        }
        writer->directory = grown;
        writer->directory_capacity = capacity;
    }
    return ST_OK;
}

typedef struct member {
    const char *name;
    size_t n_name;
    uint64_t size;
    uint64_t packed_size;
    uint64_t offset;
    uint32_t crc;
    bool is_deflated;
} member_t;

/* What the local header and the directory's entry have in common, from the version needed on. */
static uint8_t *member_put(const member_t *m, uint8_t *at)
{
    bool is_64 = m->size >= u32_max || m->packed_size >= u32_max;
    at = bytes_put(at, is_64 ? 45 : 20, 2);
    at = bytes_put(at, 1u << 11, 2); /* names are UTF-8 */
    at = bytes_put(at, m->is_deflated ? 8 : 0, 2);
    at = bytes_put(at, 0, 2);
    at = bytes_put(at, DOS_DATE, 2);
    at = bytes_put(at, m->crc, 4);
    at = bytes_put(at, is_64 ? u32_max : m->packed_size, 4);
    at = bytes_put(at, is_64 ? u32_max : m->size, 4);
    return bytes_put(at, m->n_name, 2);
}

static status_t local_write(zip_writer_t *writer, const member_t *m, size_t align_from)
{
    uint8_t header[LOCAL_SIZE];
    uint8_t extra[MAX_EXTRA];
    uint8_t *end = extra;
    if (m->size >= u32_max || m->packed_size >= u32_max) {
        end = bytes_put(bytes_put(bytes_put(bytes_put(end, 1, 2), 16, 2), m->size, 8), m->packed_size, 8);
    }
    if (!m->is_deflated) {
        /* a field that readers pass over, as long as aligned elements need it */
        uint64_t begin = writer->offset + LOCAL_SIZE + m->n_name + (size_t)(end - extra) + 4 + align_from;
        size_t pad = (size_t)(ALIGN - begin % ALIGN) % ALIGN;
        end = bytes_put(bytes_put(end, 0xD935, 2), pad, 2);
        memset(end, 0, pad);
        end += pad;
    }
    uint8_t *at = member_put(m, bytes_put(header, 0x04034b50, 4));
    (void)bytes_put(at, (uint64_t)(end - extra), 2);
    status_t status = writer_put(writer, header, sizeof(header));
    if (status == ST_OK) {
        status = writer_put(writer, m->name, m->n_name);
    }
    return status == ST_OK ? writer_put(writer, extra, (size_t)(end - extra)) : status;
}

static status_t entry_append(zip_writer_t *writer, const member_t *m)
{
    status_t status = directory_reserve(writer, ENTRY_SIZE + m->n_name + ZIP64_EXTRA);
    if (status != ST_OK) {
        return status;
    }
    uint8_t *begin = writer->directory + writer->directory_size;
    uint8_t extra[ZIP64_EXTRA];
    uint8_t *end = extra + 4;
    if (m->size >= u32_max || m->packed_size >= u32_max) {
        end = bytes_put(bytes_put(end, m->size, 8), m->packed_size, 8);
    }
    if (m->offset >= u32_max) {
        end = bytes_put(end, m->offset, 8);
    }
    size_t n_extra = end > extra + 4 ? (size_t)(end - extra) : 0;
    (void)bytes_put(bytes_put(extra, 1, 2), n_extra > 4 ? n_extra - 4 : 0, 2);
    uint8_t *at = bytes_put(bytes_put(begin, 0x02014b50, 4), n_extra > 0 ? 45 : 20, 2);
    at = member_put(m, at);
    at = bytes_put(at, n_extra, 2);
    at = bytes_put(at, 0, 2 + 2 + 2 + 4); /* comment, disk, attributes */
    at = bytes_put(at, m->offset >= u32_max ? u32_max : m->offset, 4);
    memcpy(at, m->name, m->n_name);
    memcpy(at + m->n_name, extra, n_extra);
    writer->directory_size += (size_t)(at - begin) + m->n_name + n_extra;
    writer->n_members++;
    return ST_OK;
}

status_t zip_writer_add(zip_writer_t *writer, const char *name, const void *const piece[2], const size_t length[2],
                        bool is_deflated)
{
    member_t m = {.name = name,
                  .n_name = strlen(name),
                  .size = length[0] + length[1],
                  .packed_size = length[0] + length[1],
                  .offset = writer->offset,
                  .is_deflated = is_deflated};
    if (m.n_name == 0 || m.n_name > 65535) {
        return ST_FAIL(ST_ERR_INVAL, "%s: a member's name of %zu bytes", writer->where, m.n_name);
    }
    m.crc = (uint32_t)crc32_z(crc32_z(0, piece[0], length[0]), length[1] > 0 ? piece[1] : piece[0], length[1]);
    uint8_t *packed = NULL;
    status_t status = ST_OK;
    if (is_deflated) {
        size_t packed_size = 0;
        status = pieces_deflate(writer, piece, length, &packed, &packed_size);
        m.packed_size = packed_size;
    }
    if (status == ST_OK) {
        status = local_write(writer, &m, length[0]);
    }
    if (status == ST_OK && is_deflated) {
        status = writer_put(writer, packed, (size_t)m.packed_size);
    }
    for (int i = 0; i < 2 && status == ST_OK && !is_deflated; i++) {
        status = writer_put(writer, piece[i], length[i]);
    }
    mem_free(packed);
    return status == ST_OK ? entry_append(writer, &m) : status;
}

status_t zip_writer_finish(zip_writer_t *writer)
{
    uint64_t offset = writer->offset;
    uint64_t size = writer->directory_size;
    uint64_t n = (uint64_t)writer->n_members;
    uint8_t end[56 + 20 + 22];
    uint8_t *at = end;
    if (offset >= u32_max || size >= u32_max || n >= 65535) {
        at = bytes_put(bytes_put(at, 0x06064b50, 4), 44, 8);
        at = bytes_put(bytes_put(bytes_put(at, 45, 2), 45, 2), 0, 8);
        at = bytes_put(bytes_put(bytes_put(bytes_put(at, n, 8), n, 8), size, 8), offset, 8);
        at = bytes_put(bytes_put(bytes_put(at, 0x07064b50, 4), 0, 4), offset + size, 8);
        at = bytes_put(at, 1, 4);
    }
    at = bytes_put(bytes_put(at, 0x06054b50, 4), 0, 4);
    at = bytes_put(bytes_put(at, n < 65535 ? n : 65535, 2), n < 65535 ? n : 65535, 2);
    at = bytes_put(at, size < u32_max ? size : u32_max, 4);
    at = bytes_put(bytes_put(at, offset < u32_max ? offset : u32_max, 4), 0, 2);
    status_t status = writer_put(writer, writer->directory, writer->directory_size);
    return status == ST_OK ? writer_put(writer, end, (size_t)(at - end)) : status;
}
