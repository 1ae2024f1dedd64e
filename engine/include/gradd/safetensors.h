/* SPDX-License-Identifier: Apache-2.0 */
/*
 * safetensors: named tensors in a file: 8-byte little-endian header length, JSON header {"name": {"dtype", "shape",
 * "data_offsets"}, "__metadata__": {string: string}}, then the bytes. Readers check every offset, overlap and size
 * against the file; ST_ERR_CORRUPT names the file and what is wrong. Headers over 100 MB are refused.
 */
#ifndef GRADD_SAFETENSORS_H
#define GRADD_SAFETENSORS_H

#include "gradd/tensor.h"

typedef struct gd_safetensors_entry {
    const char *name;
    gd_dtype_t dtype;
    int n_dims;
    int64_t shape[GD_MAX_DIMS];
    const void *data; /* contiguous, little-endian; aligned for its dtype */
} gd_safetensors_entry_t;

/*
 * Writes path (created or truncated), in the given order, and fsyncs it. The data section begins at a multiple of 64
 * bytes; the format allows no holes between tensors. metadata: n pairs of key and value. hex_p, when not NULL, receives
 * the file's SHA-256. Errors: ST_ERR_INVAL for a name given twice or a bad shape, ST_ERR_NOSPACE, ST_ERR_IO, … naming
 * path; the file is then incomplete.
 */
status_t gd_safetensors_write(const char *path, const gd_safetensors_entry_t *entries, int n_entries,
                              const char *const (*metadata)[2], int n_metadata, char hex_p[65]);

/* Owned handle; maps the file. Entries are borrowed from it, sorted by name. Errors name path: ST_ERR_CORRUPT (the
 * first thing that is wrong), ST_ERR_UNSUPPORTED (a dtype or number of dimensions we don't have), ST_ERR_NOT_FOUND, …
 */
typedef struct gd_safetensors gd_safetensors_t;
status_t gd_safetensors_open(const char *path, gd_safetensors_t **file_p);
void gd_safetensors_close(gd_safetensors_t *file);
int gd_safetensors_count(const gd_safetensors_t *file);
/* NULL: out of range, no tensor of that name, no such key. */
const gd_safetensors_entry_t *gd_safetensors_at(const gd_safetensors_t *file, int index);
const gd_safetensors_entry_t *gd_safetensors_find(const gd_safetensors_t *file, const char *name);
const char *gd_safetensors_metadata(const gd_safetensors_t *file, const char *key);

#endif
