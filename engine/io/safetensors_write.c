/* SPDX-License-Identifier: Apache-2.0 */
/*
 * safetensors_write: writing side. The header is padded with spaces so that the data section begins at a multiple of
 * 64; the format allows no holes, so a tensor after that is aligned as the sizes before it allow.
 */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "io/file.h"
#include "io/safetensors_format.h"

static status_t header_add(json_t *header, const char *path, const gd_safetensors_entry_t *entry, int64_t *offset)
{
    int64_t size = 0;
    const char *dtype = safetensors_dtype_name(entry->dtype);
    int64_t end = 0;
    if (dtype == NULL || entry->n_dims < 0 || entry->n_dims > GD_MAX_DIMS || safetensors_size(entry, &size) != ST_OK ||
        __builtin_add_overflow(*offset, size, &end) || (entry->data == NULL && size > 0)) {
        return ST_FAIL(ST_ERR_INVAL, "%s: tensor \"%s\": bad dtype, shape or data", path, entry->name);
    }
    if (strcmp(entry->name, "__metadata__") == 0 || json_object_get(header, entry->name) != NULL) {
        return ST_FAIL(ST_ERR_INVAL, "%s: tensor name \"%s\" is taken", path, entry->name);
    }
    json_t *shape = json_array();
    for (int d = 0; d < entry->n_dims; d++) {
        (void)json_array_append_new(shape, json_integer(entry->shape[d]));
    }
    json_t *member = json_pack("{s:s, s:o, s:[I, I]}", "dtype", dtype, "shape", shape, "data_offsets",
                               (json_int_t)*offset, (json_int_t)end);
    /* json_object_set_new refuses names that aren't UTF-8. */
    if (member == NULL || json_object_set_new(header, entry->name, member) != 0) {
        return ST_FAIL(ST_ERR_INVAL, "%s: tensor name \"%s\" cannot be written as JSON", path, entry->name);
    }
    *offset = end;
    return ST_OK;
}

/* The header's bytes with the length in front: mem_free. */
static status_t header_make(const char *path, const gd_safetensors_entry_t *entries, int n_entries,
                            const char *const (*metadata)[2], int n_metadata, uint8_t **bytes_p, size_t *size_p)
{
    json_t *header = json_object();
    json_t *pairs = json_object();
    status_t status = ST_OK;
    if (header == NULL || pairs == NULL) {
        status = ST_FAIL(ST_ERR_NOMEM, "%s: header", path);
    }
    for (int i = 0; i < n_metadata && status == ST_OK; i++) {
        if (json_object_set_new(pairs, metadata[i][0], json_string(metadata[i][1])) != 0) {
            status = ST_FAIL(ST_ERR_INVAL, "%s: metadata \"%s\" cannot be written as JSON", path, metadata[i][0]);
        }
    }
    if (status == ST_OK && n_metadata > 0) {
        (void)json_object_set(header, "__metadata__", pairs);
    }
    int64_t offset = 0;
    for (int i = 0; i < n_entries && status == ST_OK; i++) {
        status = header_add(header, path, &entries[i], &offset);
    }
    size_t length = status == ST_OK ? json_dumpb(header, NULL, 0, JSON_COMPACT) : 0;
    size_t size = (8 + length + SAFETENSORS_ALIGN - 1) / SAFETENSORS_ALIGN * SAFETENSORS_ALIGN;
    uint8_t *bytes = NULL;
    if (status == ST_OK && size - 8 > SAFETENSORS_MAX_HEADER_BYTES) {
        status = ST_FAIL(ST_ERR_RANGE, "%s: header of %zu bytes is over the limit of %d", path, size - 8,
                         SAFETENSORS_MAX_HEADER_BYTES);
    }
    if (status == ST_OK) {
        bytes = mem_alloc(size);
        if (length == 0 || bytes == NULL) {
            status = ST_FAIL(ST_ERR_NOMEM, "%s: header", path);
        } else {
            memset(bytes, ' ', size);
            (void)json_dumpb(header, (char *)bytes + 8, length, JSON_COMPACT);
            for (int i = 0; i < 8; i++) {
                bytes[i] = (uint8_t)((uint64_t)(size - 8) >> (8 * i));
            }
        }
    }
    json_decref(header);
    json_decref(pairs);
    if (status != ST_OK) {
        mem_free(bytes);
        return status;
    }
    *bytes_p = bytes;
    *size_p = size;
    return ST_OK;
}

/* Closes fd. */
static status_t file_write(int fd, const char *path, const uint8_t *header, size_t header_size,
                           const gd_safetensors_entry_t *entries, int n_entries, hash_sha256_t *hash)
{
    status_t status = io_file_write(fd, path, header, header_size, hash);
    for (int i = 0; i < n_entries && status == ST_OK; i++) {
        int64_t size = 0;
        (void)safetensors_size(&entries[i], &size); /* checked by header_make */
        status = io_file_write(fd, path, entries[i].data, (size_t)size, hash);
    }
    return io_file_finish(fd, path, status);
}

status_t gd_safetensors_write(const char *path, const gd_safetensors_entry_t *entries, int n_entries,
                              const char *const (*metadata)[2], int n_metadata, char hex_p[65])
{
    uint8_t *header = NULL;
    size_t header_size = 0;
    status_t status = header_make(path, entries, n_entries, metadata, n_metadata, &header, &header_size);
    if (status != ST_OK) {
        return status;
    }
    hash_sha256_t *hash = NULL;
    if (hex_p != NULL) {
        status = hash_sha256_open(&hash);
        if (status != ST_OK) {
            goto err_free_header;
        }
    }
    int fd = -1;
    status = io_file_create(path, &fd);
    if (status == ST_OK) {
        status = file_write(fd, path, header, header_size, entries, n_entries, hash);
    }
    if (hash != NULL) {
        char hex[HASH_SHA256_HEX_SIZE];
        hash_sha256_close(hash, hex);
        if (status == ST_OK) {
            memcpy(hex_p, hex, sizeof(hex));
        }
    }
err_free_header:
    mem_free(header);
    return status;
}
