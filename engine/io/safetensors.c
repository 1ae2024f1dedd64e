/* SPDX-License-Identifier: Apache-2.0 */
/*
 * safetensors: reading side: maps a file and believes nothing in its header.
 * Format: see gradd/safetensors.h. A tensor whose bytes aren't aligned for its dtype (a foreign file) is copied.
 */
#include "gradd/safetensors.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/mem.h"
#include "io/file.h"
#include "io/safetensors_format.h"

typedef struct safetensors_pair {
    char *key;
    char *value;
} safetensors_pair_t;

/* Where a tensor's bytes are, for the check that they touch. */
typedef struct safetensors_extent {
    int64_t begin, end;
    const char *name;
} safetensors_extent_t;

struct gd_safetensors {
    uint8_t *map;
    size_t map_size;
    gd_safetensors_entry_t *entries; /* sorted by name */
    void **copies;                   /* of misaligned data, n_entries slots */
    int n_entries;
    safetensors_pair_t *metadata;
    int n_metadata;
};

static const struct {
    const char *name;
    gd_dtype_t dtype;
} dtype_names[] = {
    {"F32", GD_DTYPE_F32}, {"F64", GD_DTYPE_F64}, {"BF16", GD_DTYPE_BF16}, {"F16", GD_DTYPE_F16},
    {"I64", GD_DTYPE_I64}, {"I32", GD_DTYPE_I32}, {"U8", GD_DTYPE_U8},     {"BOOL", GD_DTYPE_BOOL},
};
enum { N_DTYPE_NAMES = sizeof(dtype_names) / sizeof(dtype_names[0]) };

const char *safetensors_dtype_name(gd_dtype_t dtype)
{
    for (int i = 0; i < N_DTYPE_NAMES; i++) {
        if (dtype_names[i].dtype == dtype) {
            return dtype_names[i].name;
        }
    }
    return NULL;
}

status_t safetensors_size(const gd_safetensors_entry_t *entry, int64_t *size_p)
{
    int64_t size = (int64_t)gd_dtype_size(entry->dtype);
    for (int d = 0; d < entry->n_dims; d++) {
        if (entry->shape[d] < 0 || __builtin_mul_overflow(size, entry->shape[d], &size)) {
            return ST_ERR_RANGE;
        }
    }
    *size_p = size;
    return ST_OK;
}

static status_t dtype_parse(const char *name, gd_dtype_t *dtype_p)
{
    for (int i = 0; i < N_DTYPE_NAMES; i++) {
        if (strcmp(dtype_names[i].name, name) == 0) {
            *dtype_p = dtype_names[i].dtype;
            return ST_OK;
        }
    }
    return ST_ERR_UNSUPPORTED;
}

/* Fills *entry and *extent from one member of the header; n_bytes: size of the data section. */
static status_t entry_parse(const char *path, const char *name, const json_t *member, int64_t n_bytes,
                            gd_safetensors_entry_t *entry, safetensors_extent_t *extent)
{
    const json_t *dtype = json_object_get(member, "dtype");
    const json_t *shape = json_object_get(member, "shape");
    const json_t *offsets = json_object_get(member, "data_offsets");
    if (!json_is_string(dtype) || !json_is_array(shape) || !json_is_array(offsets) || json_array_size(offsets) != 2 ||
        !json_is_integer(json_array_get(offsets, 0)) || !json_is_integer(json_array_get(offsets, 1))) {
        return ST_FAIL(ST_ERR_CORRUPT, "%s: tensor \"%s\": needs dtype, shape and data_offsets [begin, end]", path,
                       name);
    }
    if (dtype_parse(json_string_value(dtype), &entry->dtype) != ST_OK) {
        return ST_FAIL(ST_ERR_UNSUPPORTED, "%s: tensor \"%s\": dtype %s is not one of F32 F64 BF16 F16 I64 I32 U8 BOOL",
                       path, name, json_string_value(dtype));
    }
    if (json_array_size(shape) > GD_MAX_DIMS) {
        return ST_FAIL(ST_ERR_UNSUPPORTED, "%s: tensor \"%s\": %zu dimensions, more than %d", path, name,
                       json_array_size(shape), GD_MAX_DIMS);
    }
    entry->n_dims = (int)json_array_size(shape);
    for (int d = 0; d < entry->n_dims; d++) {
        const json_t *size = json_array_get(shape, (size_t)d);
        if (!json_is_integer(size) || json_integer_value(size) < 0) {
            return ST_FAIL(ST_ERR_CORRUPT, "%s: tensor \"%s\": dimension %d of its shape is not a size", path, name, d);
        }
        entry->shape[d] = json_integer_value(size);
    }
    int64_t begin = json_integer_value(json_array_get(offsets, 0));
    int64_t end = json_integer_value(json_array_get(offsets, 1));
    if (begin < 0 || end < begin || end > n_bytes) {
        return ST_FAIL(ST_ERR_CORRUPT,
                       "%s: tensor \"%s\": data_offsets [%lld, %lld] are not inside the file's %lld data bytes", path,
                       name, (long long)begin, (long long)end, (long long)n_bytes);
    }
    int64_t size = 0;
    if (safetensors_size(entry, &size) != ST_OK) {
        return ST_FAIL(ST_ERR_CORRUPT, "%s: tensor \"%s\": its shape overflows", path, name);
    }
    if (size != end - begin) {
        return ST_FAIL(ST_ERR_CORRUPT, "%s: tensor \"%s\": its shape and dtype need %lld bytes, data_offsets give %lld",
                       path, name, (long long)size, (long long)(end - begin));
    }
    *extent = (safetensors_extent_t){.begin = begin, .end = end, .name = name};
    return ST_OK;
}

static int extent_compare(const void *a, const void *b)
{
    const safetensors_extent_t *x = a;
    const safetensors_extent_t *y = b;
    if (x->begin != y->begin) {
        return x->begin < y->begin ? -1 : 1;
    }
    return x->end < y->end ? -1 : x->end > y->end;
}

static int entry_compare(const void *a, const void *b)
{
    const gd_safetensors_entry_t *x = a;
    const gd_safetensors_entry_t *y = b;
    return strcmp(x->name, y->name);
}

/* Sorted by offset the tensors must begin at 0, touch, and end at the end of the file. */
static status_t extents_check(const char *path, safetensors_extent_t *extents, int n, int64_t n_bytes)
{
    qsort(extents, (size_t)n, sizeof(*extents), extent_compare);
    int64_t expected = 0;
    for (int i = 0; i < n; i++) {
        if (extents[i].begin != expected) {
            return ST_FAIL(ST_ERR_CORRUPT, "%s: tensor \"%s\": begins at byte %lld, %s", path, extents[i].name,
                           (long long)extents[i].begin,
                           extents[i].begin < expected ? "inside another tensor" : "after a hole");
        }
        expected = extents[i].end;
    }
    if (expected != n_bytes) {
        return ST_FAIL(ST_ERR_CORRUPT, "%s: tensors end at data byte %lld, the file at %lld", path, (long long)expected,
                       (long long)n_bytes);
    }
    return ST_OK;
}

static status_t metadata_parse(gd_safetensors_t *file, const char *path, json_t *metadata)
{
    if (!json_is_object(metadata)) {
        return ST_FAIL(ST_ERR_CORRUPT, "%s: __metadata__ is not a map", path);
    }
    file->metadata = mem_calloc(json_object_size(metadata) + 1, sizeof(*file->metadata));
    if (file->metadata == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "%s: metadata", path);
    }
    const char *key;
    json_t *value;
    json_object_foreach(metadata, key, value)
    {
        if (!json_is_string(value)) {
            return ST_FAIL(ST_ERR_CORRUPT, "%s: __metadata__ \"%s\" is not a string", path, key);
        }
        safetensors_pair_t *pair = &file->metadata[file->n_metadata++];
        pair->key = mem_strdup(key);
        pair->value = mem_strdup(json_string_value(value));
        if (pair->key == NULL || pair->value == NULL) {
            return ST_FAIL(ST_ERR_NOMEM, "%s: metadata", path);
        }
    }
    return ST_OK;
}

/* Points an entry at its bytes: in the map, or in a copy where the map's address isn't aligned for the dtype. */
static status_t entry_place(gd_safetensors_t *file, const char *path, int index, const uint8_t *data, int64_t size)
{
    gd_safetensors_entry_t *entry = &file->entries[index];
    if ((uintptr_t)data % gd_dtype_size(entry->dtype) == 0) {
        entry->data = data;
        return ST_OK;
    }
    void *copy = mem_alloc_aligned(64, (size_t)size + 1);
    if (copy == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "%s: %lld bytes for tensor \"%s\"", path, (long long)size, entry->name);
    }
    memcpy(copy, data, (size_t)size);
    file->copies[index] = copy;
    entry->data = copy;
    return ST_OK;
}

static status_t entries_parse(gd_safetensors_t *file, const char *path, json_t *header, const uint8_t *data,
                              int64_t n_bytes)
{
    size_t n_members = json_object_size(header);
    file->entries = mem_calloc(n_members + 1, sizeof(*file->entries));
    file->copies = mem_calloc(n_members + 1, sizeof(*file->copies));
    safetensors_extent_t *extents = mem_calloc(n_members + 1, sizeof(*extents));
    status_t status = ST_OK;
    if (file->entries == NULL || file->copies == NULL || extents == NULL) {
        status = ST_FAIL(ST_ERR_NOMEM, "%s: %zu tensors", path, n_members);
    }
    const char *name;
    json_t *member;
    for (void *it = json_object_iter(header); status == ST_OK && it != NULL; it = json_object_iter_next(header, it)) {
        name = json_object_iter_key(it);
        member = json_object_iter_value(it);
        if (strcmp(name, "__metadata__") == 0) {
            status = metadata_parse(file, path, member);
            continue;
        }
        int i = file->n_entries;
        gd_safetensors_entry_t *entry = &file->entries[i];
        status = entry_parse(path, name, member, n_bytes, entry, &extents[i]);
        if (status != ST_OK) {
            break;
        }
        char *copy = mem_strdup(name);
        if (copy == NULL) {
            status = ST_FAIL(ST_ERR_NOMEM, "%s: name \"%s\"", path, name);
            break;
        }
        entry->name = copy;
        file->n_entries++;
        status = entry_place(file, path, i, data + extents[i].begin, extents[i].end - extents[i].begin);
    }
    if (status == ST_OK) {
        status = extents_check(path, extents, file->n_entries, n_bytes);
    }
    if (status == ST_OK) {
        qsort(file->entries, (size_t)file->n_entries, sizeof(*file->entries), entry_compare);
    }
    mem_free(extents);
    return status;
}

static status_t header_parse(gd_safetensors_t *file, const char *path)
{
    if (file->map_size < 8) {
        return ST_FAIL(ST_ERR_CORRUPT, "%s: %zu bytes are too few for a safetensors file", path, file->map_size);
    }
    uint64_t length = 0;
    for (int i = 0; i < 8; i++) {
        length |= (uint64_t)file->map[i] << (8 * i);
    }
    if (length > SAFETENSORS_MAX_HEADER_BYTES) {
        return ST_FAIL(ST_ERR_CORRUPT, "%s: header length %llu is over the limit of %d bytes", path,
                       (unsigned long long)length, SAFETENSORS_MAX_HEADER_BYTES);
    }
    if (length > file->map_size - 8) {
        return ST_FAIL(ST_ERR_CORRUPT, "%s: header of %llu bytes does not fit into the file's %zu (truncated?)", path,
                       (unsigned long long)length, file->map_size);
    }
    json_error_t error;
    const char *text = (const char *)file->map + 8;
    json_t *header = json_loadb(text, (size_t)length, JSON_REJECT_DUPLICATES, &error);
    if (header == NULL) {
        return ST_FAIL(ST_ERR_CORRUPT, "%s: header, byte %d: %s", path, error.position, error.text);
    }
    status_t status = ST_OK;
    if (!json_is_object(header) || text[0] != '{') {
        status = ST_FAIL(ST_ERR_CORRUPT, "%s: header is not a JSON map", path);
    } else {
        status = entries_parse(file, path, header, file->map + 8 + length, (int64_t)(file->map_size - 8 - length));
    }
    json_decref(header);
    return status;
}

status_t gd_safetensors_open(const char *path, gd_safetensors_t **file_p)
{
    gd_safetensors_t *file = mem_zalloc(sizeof(*file));
    if (file == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "%s: reader", path);
    }
    status_t status = io_file_map(path, &file->map, &file->map_size);
    if (status == ST_OK) {
        status = header_parse(file, path);
    }
    if (status != ST_OK) {
        gd_safetensors_close(file);
        return status;
    }
    *file_p = file;
    return ST_OK;
}

void gd_safetensors_close(gd_safetensors_t *file)
{
    if (file == NULL) {
        return;
    }
    for (int i = 0; i < file->n_metadata; i++) {
        mem_free(file->metadata[i].key);
        mem_free(file->metadata[i].value);
    }
    for (int i = 0; i < file->n_entries; i++) {
        mem_free((char *)(uintptr_t)file->entries[i].name);
        mem_free(file->copies[i]);
    }
    mem_free(file->metadata);
    mem_free(file->entries);
    mem_free(file->copies);
    if (file->map != NULL) {
        (void)munmap(file->map, file->map_size);
    }
    mem_free(file);
}

int gd_safetensors_count(const gd_safetensors_t *file)
{
    return file->n_entries;
}

const gd_safetensors_entry_t *gd_safetensors_at(const gd_safetensors_t *file, int index)
{
    return index >= 0 && index < file->n_entries ? &file->entries[index] : NULL;
}

const gd_safetensors_entry_t *gd_safetensors_find(const gd_safetensors_t *file, const char *name)
{
    gd_safetensors_entry_t key = {.name = name};
    return bsearch(&key, file->entries, (size_t)file->n_entries, sizeof(*file->entries), entry_compare);
}

const char *gd_safetensors_metadata(const gd_safetensors_t *file, const char *key)
{
    for (int i = 0; i < file->n_metadata; i++) {
        if (strcmp(file->metadata[i].key, key) == 0) {
            return file->metadata[i].value;
        }
    }
    return NULL;
}
