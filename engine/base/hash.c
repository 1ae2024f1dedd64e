/* SPDX-License-Identifier: Apache-2.0 */
/* hash: SHA-256 through libcrypto's EVP, FNV-1a by hand. */
#include "base/hash.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

struct hash_sha256 {
    EVP_MD_CTX *context;
};

status_t hash_sha256_open(hash_sha256_t **hash_p)
{
    hash_sha256_t *hash = mem_zalloc(sizeof(*hash));
    if (hash == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "sha-256 state");
    }
    hash->context = EVP_MD_CTX_new();
    if (hash->context == NULL || EVP_DigestInit_ex(hash->context, EVP_sha256(), NULL) != 1) {
        EVP_MD_CTX_free(hash->context);
        mem_free(hash);
        return ST_FAIL(ST_ERR_NOMEM, "sha-256 state");
    }
    *hash_p = hash;
    return ST_OK;
}

void hash_sha256_update(hash_sha256_t *hash, const void *bytes, size_t length)
{
    (void)EVP_DigestUpdate(hash->context, bytes, length);
}

void hash_sha256_close(hash_sha256_t *hash, char hex_p[HASH_SHA256_HEX_SIZE])
{
    unsigned char digest[EVP_MAX_MD_SIZE] = {0};
    (void)EVP_DigestFinal_ex(hash->context, digest, NULL);
    for (int i = 0; i < 32; i++) {
        (void)snprintf(hex_p + 2 * i, 3, "%02x", digest[i]);
    }
    EVP_MD_CTX_free(hash->context);
    mem_free(hash);
}

uint64_t hash_fnv1a(const void *bytes, size_t length)
{
    const unsigned char *byte = bytes;
    uint64_t hash = UINT64_C(14695981039346656037);
    for (size_t i = 0; i < length; i++) {
        hash = (hash ^ byte[i]) * UINT64_C(1099511628211);
    }
    return hash;
}

uint64_t hash_fnv1a_text(const char *text)
{
    return hash_fnv1a(text, strlen(text));
}
