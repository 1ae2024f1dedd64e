/* SPDX-License-Identifier: Apache-2.0 */
/* npz: archives of NumPy's arrays. */
#include <string.h>
#include <sys/mman.h>

#include "base/mem.h"
#include "gradd/npy.h"
#include "io/file.h"
#include "io/npy_format.h"
#include "io/zip.h"

struct gd_npz {
    char *path;
    uint8_t *map;
    size_t map_size;
    zip_t zip;
    int *arrays; /* members that are arrays; their names have lost ".npy" */
    int n_arrays;
};

static const char suffix[] = ".npy";

static status_t arrays_find(gd_npz_t *npz)
{
    npz->arrays = mem_calloc((size_t)npz->zip.n_members + 1, sizeof(*npz->arrays));
    if (npz->arrays == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "%s: %d members", npz->path, npz->zip.n_members);
    }
    for (int i = 0; i < npz->zip.n_members; i++) {
        char *name = npz->zip.members[i].name;
        size_t n = strlen(name);
        if (n > strlen(suffix) && strcmp(name + n - strlen(suffix), suffix) == 0) {
            name[n - strlen(suffix)] = '\0';
            npz->arrays[npz->n_arrays++] = i;
        }
    }
    return ST_OK;
}

status_t gd_npz_open(const char *path, gd_npz_t **npz_p)
{
    gd_npz_t *npz = mem_zalloc(sizeof(*npz));
    if (npz == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "%s: reader", path);
    }
    npz->path = mem_strdup(path);
    status_t status =
        npz->path != NULL ? io_file_map(path, &npz->map, &npz->map_size) : ST_FAIL(ST_ERR_NOMEM, "%s: reader", path);
    if (status == ST_OK) {
        status = zip_init(&npz->zip, npz->path, npz->map, npz->map_size);
    }
    if (status == ST_OK) {
        status = arrays_find(npz);
    }
    if (status != ST_OK) {
        gd_npz_close(npz);
        return status;
    }
    *npz_p = npz;
    return ST_OK;
}

void gd_npz_close(gd_npz_t *npz)
{
    if (npz == NULL) {
        return;
    }
    zip_release(&npz->zip);
    mem_free(npz->arrays);
    if (npz->map != NULL) {
        (void)munmap(npz->map, npz->map_size);
    }
    mem_free(npz->path);
    mem_free(npz);
}

int gd_npz_count(const gd_npz_t *npz)
{
    return npz->n_arrays;
}

const char *gd_npz_name(const gd_npz_t *npz, int index)
{
    return index >= 0 && index < npz->n_arrays ? npz->zip.members[npz->arrays[index]].name : NULL;
}

static status_t unknown_fail(const gd_npz_t *npz, const char *name)
{
    enum { SHOWN = 12 };
    strbuf_t text = {0};
    for (int i = 0; i < npz->n_arrays && i < SHOWN; i++) {
        strbuf_appendf(&text, i > 0 ? ", %s" : "%s", gd_npz_name(npz, i));
    }
    strbuf_append(&text, npz->n_arrays > SHOWN ? ", …" : "");
    status_t status = ST_FAIL(ST_ERR_NOT_FOUND, "%s: no array \"%s\"; it has: %s", npz->path, name, strbuf_text(&text));
    strbuf_release(&text);
    return status;
}

status_t gd_npz_get(const gd_npz_t *npz, const char *name, gd_npy_t **npy_p)
{
    for (int i = 0; i < npz->n_arrays; i++) {
        const zip_member_t *member = &npz->zip.members[npz->arrays[i]];
        if (strcmp(member->name, name) != 0) {
            continue;
        }
        const uint8_t *bytes = NULL;
        void *owned = NULL;
        status_t status = zip_member_read(&npz->zip, member, &bytes, &owned);
        if (status != ST_OK) {
            return status;
        }
        strbuf_t where = {0};
        strbuf_appendf(&where, "%s: %s", npz->path, name);
        status = npy_open_bytes(strbuf_text(&where), bytes, (size_t)member->size, owned, npy_p);
        strbuf_release(&where);
        return status;
    }
    return unknown_fail(npz, name);
}

static status_t names_check(const char *path, const char *const *names, int n)
{
    for (int i = 0; i < n; i++) {
        for (int j = 0; j < i; j++) {
            if (strcmp(names[i], names[j]) == 0) {
                return ST_FAIL(ST_ERR_INVAL, "%s: array \"%s\" is given twice", path, names[i]);
            }
        }
        if (names[i][0] == '\0') {
            return ST_FAIL(ST_ERR_INVAL, "%s: array %d has an empty name", path, i);
        }
    }
    return ST_OK;
}

static status_t array_add(zip_writer_t *writer, const char *name, const gd_tensor_t *t, bool is_compressed)
{
    uint8_t header[NPY_MAX_WRITTEN_HEADER];
    size_t length[2] = {0, (size_t)gd_tensor_numel(t) * gd_dtype_size(gd_tensor_dtype(t))};
    gd_tensor_t *dense = NULL;
    strbuf_t member = {0};
    strbuf_appendf(&member, "%s%s", name, suffix);
    status_t status = npy_header_format(writer->where, t, header, &length[0]);
    if (status != ST_OK) {
        status = status_add_context(status, "array \"%s\"", name);
    } else {
        status = npy_tensor_dense(t, &dense);
    }
    if (status == ST_OK) {
        const void *const piece[2] = {header, gd_tensor_data(dense)};
        status = zip_writer_add(writer, strbuf_text(&member), piece, length, is_compressed);
    }
    (void)gd_tensor_unref(dense);
    strbuf_release(&member);
    return status;
}

status_t gd_npz_save(const char *path, const char *const *names, gd_tensor_t *const *tensors, int n, bool is_compressed)
{
    int fd = -1;
    status_t status = names_check(path, names, n);
    if (status == ST_OK) {
        status = io_file_create(path, &fd);
    }
    if (status != ST_OK) {
        return status;
    }
    zip_writer_t writer;
    zip_writer_init(&writer, path, fd);
    for (int i = 0; i < n && status == ST_OK; i++) {
        status = array_add(&writer, names[i], tensors[i], is_compressed);
    }
    if (status == ST_OK) {
        status = zip_writer_finish(&writer);
    }
    zip_writer_release(&writer);
    return io_file_finish(fd, path, status);
}
