/* SPDX-License-Identifier: Apache-2.0 */
/* storage: counted bytes behind tensors, 64-byte aligned, with the count of in-place changes. */
#ifndef GRADD_TENSOR_STORAGE_H
#define GRADD_TENSOR_STORAGE_H

#include "tensor/internal.h"

/* Uninitialised bytes from the current context's pool. */
status_t gd_storage_new(size_t size_bytes, gd_storage_t **storage_p);
/* The caller's bytes; release(arg) when the storage dies. */
status_t gd_storage_wrap(void *data, size_t size_bytes, void (*release)(void *arg), void *arg,
                         gd_storage_t **storage_p);
gd_storage_t *gd_storage_ref(gd_storage_t *storage);
gd_storage_t *gd_storage_unref(gd_storage_t *storage);

#endif
