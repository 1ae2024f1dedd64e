/* SPDX-License-Identifier: Apache-2.0 */
/* npy_format: the header of NumPy's array files. Private to engine/io; see gradd/npy.h for the format. */
#ifndef GRADD_IO_NPY_FORMAT_H
#define GRADD_IO_NPY_FORMAT_H

#include "gradd/npy.h"

enum { NPY_MAX_HEADER_BYTES = 1 << 20, NPY_ALIGN = 64, NPY_MAX_WRITTEN_HEADER = 320 };

/* How an element lies in the file. */
typedef enum npy_item {
    NPY_ITEM_SAME, /* as the dtype itself */
    NPY_ITEM_I8,
    NPY_ITEM_I16,
    NPY_ITEM_U16,
    NPY_ITEM_U32
} npy_item_t;

typedef struct npy_header {
    gd_dtype_t dtype;
    npy_item_t item;
    size_t item_bytes;
    bool is_swapped; /* big-endian */
    bool is_fortran;
    int n_dims;
    int64_t shape[GD_MAX_DIMS];
    int64_t numel;
    size_t data_offset;
} npy_header_t;

/* Reads and checks the header of the file bytes[size], and that all elements are there and nothing else. where: the
 * file's name, for messages. */
status_t npy_header_parse(const char *where, const uint8_t *bytes, size_t size, npy_header_t *header_p);
/* The header of a file to be written, a multiple of 64 bytes long. ST_ERR_UNSUPPORTED: bf16. */
status_t npy_header_format(const char *where, const gd_tensor_t *t, uint8_t out[NPY_MAX_WRITTEN_HEADER],
                           size_t *length_p);

/* npy.c. The array in bytes[size], borrowed; owned: freed with mem_free at close (also on failure), may be NULL. */
status_t npy_open_bytes(const char *where, const uint8_t *bytes, size_t size, void *owned, gd_npy_t **npy_p);

/* npy.c. t's elements row-major: t itself (a new reference) or a copy. */
status_t npy_tensor_dense(const gd_tensor_t *t, gd_tensor_t **dense_p);

#endif
