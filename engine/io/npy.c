/* SPDX-License-Identifier: Apache-2.0 */
/* npy: arrays in NumPy's files, read row by row or whole, and written. */
#include "gradd/npy.h"

#include <string.h>
#include <sys/mman.h>

#include "base/mem.h"
#include "io/file.h"
#include "io/npy_format.h"

struct gd_npy {
    npy_header_t header;
    char *where; /* the file, and in an archive the member */
    const uint8_t *data;
    uint8_t *map; /* unmapped at close; NULL: the bytes are somebody else's */
    size_t map_size;
    void *owned;
};

status_t npy_open_bytes(const char *where, const uint8_t *bytes, size_t size, void *owned, gd_npy_t **npy_p)
{
    gd_npy_t *npy = mem_zalloc(sizeof(*npy));
    status_t status = ST_OK;
    char *copy = mem_strdup(where);
    if (npy == NULL || copy == NULL) {
        status = ST_FAIL(ST_ERR_NOMEM, "%s: reader", where);
    } else {
        status = npy_header_parse(where, bytes, size, &npy->header);
    }
    if (status != ST_OK) {
        mem_free(npy);
        mem_free(copy);
        mem_free(owned);
        return status;
    }
    npy->where = copy;
    npy->data = bytes + npy->header.data_offset;
    npy->owned = owned;
    *npy_p = npy;
    return ST_OK;
}

status_t gd_npy_open(const char *path, gd_npy_t **npy_p)
{
    uint8_t *map = NULL;
    size_t size = 0;
    gd_npy_t *npy = NULL;
    status_t status = io_file_map(path, &map, &size);
    if (status != ST_OK) {
        return status;
    }
    status = npy_open_bytes(path, map, size, NULL, &npy);
    if (status != ST_OK) {
        if (map != NULL) {
            (void)munmap(map, size);
        }
        return status;
    }
    npy->map = map;
    npy->map_size = size;
    *npy_p = npy;
    return ST_OK;
}

void gd_npy_close(gd_npy_t *npy)
{
    if (npy == NULL) {
        return;
    }
    if (npy->map != NULL) {
        (void)munmap(npy->map, npy->map_size);
    }
    mem_free(npy->owned);
    mem_free(npy->where);
    mem_free(npy);
}

gd_dtype_t gd_npy_dtype(const gd_npy_t *npy)
{
    return npy->header.dtype;
}

int gd_npy_n_dims(const gd_npy_t *npy)
{
    return npy->header.n_dims;
}

const int64_t *gd_npy_shape(const gd_npy_t *npy)
{
    return npy->header.shape;
}

/* The file's bytes are the elements in row-major order; a bool may be any byte there, so that it is converted. */
static bool is_plain(const npy_header_t *h)
{
    return h->item == NPY_ITEM_SAME && !h->is_swapped && (!h->is_fortran || h->n_dims < 2) && h->dtype != GD_DTYPE_BOOL;
}

const void *gd_npy_data(const gd_npy_t *npy)
{
    bool is_aligned = (uintptr_t)npy->data % gd_dtype_size(npy->header.dtype) == 0;
    return is_plain(&npy->header) && is_aligned ? npy->data : NULL;
}

/* One element of the file into an element of the dtype. */
static void item_read(const npy_header_t *h, const uint8_t *from, uint8_t *to)
{
    uint8_t item[8];
    size_t n = h->item_bytes;
    for (size_t i = 0; i < n; i++) {
        item[i] = from[h->is_swapped ? n - 1 - i : i];
    }
    int32_t narrow = 0;
    int64_t wide = 0;
    switch (h->item) {
    case NPY_ITEM_I8:
        narrow = (int32_t)(item[0] ^ 0x80U) - 0x80; /* the byte as two's complement */
        memcpy(to, &narrow, sizeof(narrow));
        break;
    case NPY_ITEM_I16:
        narrow = (int16_t)(item[0] | item[1] << 8);
        memcpy(to, &narrow, sizeof(narrow));
        break;
    case NPY_ITEM_U16:
        narrow = item[0] | item[1] << 8;
        memcpy(to, &narrow, sizeof(narrow));
        break;
    case NPY_ITEM_U32:
        wide = (int64_t)(item[0] | (uint32_t)item[1] << 8 | (uint32_t)item[2] << 16 | (uint32_t)item[3] << 24);
        memcpy(to, &wide, sizeof(wide));
        break;
    case NPY_ITEM_SAME:
        if (h->dtype == GD_DTYPE_BOOL) {
            item[0] = item[0] != 0;
        }
        memcpy(to, item, n);
        break;
    }
}

/* Rows begin … of the first axis, element by element: an odometer over the row's other axes. */
static void rows_convert(const npy_header_t *h, const uint8_t *data, int64_t begin, int64_t n_out, uint8_t *out)
{
    int64_t stride[GD_MAX_DIMS];
    int64_t index[GD_MAX_DIMS] = {0};
    int64_t product = 1;
    for (int i = 0; i < h->n_dims; i++) {
        int d = h->is_fortran ? i : h->n_dims - 1 - i;
        stride[d] = product;
        product *= h->shape[d];
    }
    const size_t out_bytes = gd_dtype_size(h->dtype);
    int64_t offset = h->n_dims > 0 ? begin * stride[0] : 0;
    for (int64_t i = 0; i < n_out; i++) {
        item_read(h, data + (size_t)offset * h->item_bytes, out + (size_t)i * out_bytes);
        for (int d = h->n_dims - 1; d >= 0; d--) {
            offset += stride[d];
            if (d == 0 || ++index[d] < h->shape[d]) {
                break;
            }
            offset -= index[d] * stride[d];
            index[d] = 0;
        }
    }
}

status_t gd_npy_read_rows(const gd_npy_t *npy, int64_t begin, int64_t end, void *out)
{
    const npy_header_t *h = &npy->header;
    int64_t n_rows = h->n_dims > 0 ? h->shape[0] : 1;
    if (begin < 0 || end < begin || end > n_rows) {
        return ST_FAIL(ST_ERR_RANGE, "%s: rows %lld to %lld of an array of %lld rows", npy->where, (long long)begin,
                       (long long)end, (long long)n_rows);
    }
    int64_t per_row = n_rows > 0 ? h->numel / n_rows : 0;
    int64_t n_out = (end - begin) * per_row;
    if (n_out == 0) {
        return ST_OK;
    }
    if (is_plain(h)) {
        memcpy(out, npy->data + (size_t)(begin * per_row) * h->item_bytes, (size_t)n_out * h->item_bytes);
    } else {
        rows_convert(h, npy->data, begin, n_out, out);
    }
    return ST_OK;
}

status_t gd_npy_read(const gd_npy_t *npy, gd_tensor_t **t_p)
{
    const npy_header_t *h = &npy->header;
    gd_tensor_t *t = NULL;
    status_t status = gd_tensor_new(h->dtype, h->n_dims, h->shape, &t);
    if (status != ST_OK) {
        return status;
    }
    status = gd_npy_read_rows(npy, 0, h->n_dims > 0 ? h->shape[0] : 1, gd_tensor_data(t));
    if (status != ST_OK) {
        (void)gd_tensor_unref(t);
        return status;
    }
    *t_p = t;
    return ST_OK;
}

status_t gd_npy_load(const char *path, gd_tensor_t **t_p)
{
    gd_npy_t *npy = NULL;
    status_t status = gd_npy_open(path, &npy);
    if (status == ST_OK) {
        status = gd_npy_read(npy, t_p);
        gd_npy_close(npy);
    }
    return status;
}

status_t npy_tensor_dense(const gd_tensor_t *t, gd_tensor_t **dense_p)
{
    if (gd_tensor_is_contiguous(t)) {
        *dense_p = gd_tensor_ref((gd_tensor_t *)(uintptr_t)t); /* counting isn't changing */
        return ST_OK;
    }
    gd_tensor_t *dense = NULL;
    status_t status = gd_tensor_new(gd_tensor_dtype(t), gd_tensor_n_dims(t), gd_tensor_shape(t), &dense);
    if (status == ST_OK) {
        status = gd_tensor_copy(dense, t);
    }
    if (status != ST_OK) {
        (void)gd_tensor_unref(dense);
        return status;
    }
    *dense_p = dense;
    return ST_OK;
}

status_t gd_npy_save(const char *path, const gd_tensor_t *t)
{
    uint8_t header[NPY_MAX_WRITTEN_HEADER];
    size_t length = 0;
    gd_tensor_t *dense = NULL;
    int fd = -1;
    status_t status = npy_header_format(path, t, header, &length);
    if (status == ST_OK) {
        status = npy_tensor_dense(t, &dense);
    }
    if (status == ST_OK) {
        status = io_file_create(path, &fd);
    }
    if (status == ST_OK) {
        status = io_file_write(fd, path, header, length, NULL);
        if (status == ST_OK) {
            size_t n_bytes = (size_t)gd_tensor_numel(t) * gd_dtype_size(gd_tensor_dtype(t));
            status = io_file_write(fd, path, gd_tensor_data(dense), n_bytes, NULL);
        }
        status = io_file_finish(fd, path, status);
    }
    (void)gd_tensor_unref(dense);
    return status;
}
