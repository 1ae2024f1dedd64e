/* SPDX-License-Identifier: Apache-2.0 */
/* storage: header and bytes lie in one block of the pool. */
#include "tensor/storage.h"

enum { STORAGE_HEADER = 64 };
_Static_assert(sizeof(gd_storage_t) <= STORAGE_HEADER, "the bytes after the header must stay aligned");

status_t gd_storage_new(size_t size_bytes, gd_storage_t **storage_p)
{
    unsigned char *block =
        size_bytes <= SIZE_MAX - STORAGE_HEADER ? gd_pool_alloc(gd_context_pool(), STORAGE_HEADER + size_bytes) : NULL;
    if (block == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "a tensor of %zu bytes", size_bytes);
    }
    gd_storage_t *storage = (gd_storage_t *)(void *)block;
    *storage = (gd_storage_t){.n_refs = 1, .data = block + STORAGE_HEADER, .size_bytes = size_bytes};
    *storage_p = storage;
    return ST_OK;
}

status_t gd_storage_wrap(void *data, size_t size_bytes, void (*release)(void *arg), void *arg, gd_storage_t **storage_p)
{
    gd_storage_t *storage = gd_pool_alloc(gd_context_pool(), sizeof(*storage));
    if (storage == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "a tensor header");
    }
    *storage = (gd_storage_t){
        .n_refs = 1, .is_wrapped = true, .data = data, .size_bytes = size_bytes, .release = release, .arg = arg};
    *storage_p = storage;
    return ST_OK;
}

gd_storage_t *gd_storage_ref(gd_storage_t *storage)
{
    (void)atomic_fetch_add_explicit(&storage->n_refs, 1, memory_order_relaxed);
    return storage;
}

gd_storage_t *gd_storage_unref(gd_storage_t *storage)
{
    if (storage != NULL && atomic_fetch_sub_explicit(&storage->n_refs, 1, memory_order_acq_rel) == 1) {
        if (storage->release != NULL) {
            storage->release(storage->arg);
        }
        gd_pool_free(gd_context_pool(), storage);
    }
    return NULL;
}
