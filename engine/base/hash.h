/* SPDX-License-Identifier: Apache-2.0 */
/* hash: SHA-256 (libcrypto) for identities of files and parameters, FNV-1a for tables and random-number keys. */
#ifndef GRADD_BASE_HASH_H
#define GRADD_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

enum { HASH_SHA256_HEX_SIZE = 65 };

/* Owned handle: open, then any number of updates, then close, which writes 64 hex digits and a NUL. */
typedef struct hash_sha256 hash_sha256_t;
status_t hash_sha256_open(hash_sha256_t **hash_p);
void hash_sha256_update(hash_sha256_t *hash, const void *bytes, size_t length);
void hash_sha256_close(hash_sha256_t *hash, char hex_p[HASH_SHA256_HEX_SIZE]);

/* 64-bit FNV-1a (Fowler, Noll, Vo). */
uint64_t hash_fnv1a(const void *bytes, size_t length);
uint64_t hash_fnv1a_text(const char *text);

#endif
