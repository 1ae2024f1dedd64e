/* SPDX-License-Identifier: Apache-2.0 */
/* manifest: JSON of a checkpoint, strictly checked when read: it may come from a damaged disk. */
#include "worker/manifest.h"

#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "worker/files.h"

enum { MAX_MANIFEST_BYTES = 64 * 1024 };

status_t wrk_manifest_write(const char *path, const wrk_checkpoint_t *checkpoint, int64_t model_bytes,
                            int64_t optimizer_bytes)
{
    /* a seed is 64 bits without sign, a JSON integer here 63: text */
    char seed[24];
    (void)snprintf(seed, sizeof(seed), "%llu", (unsigned long long)checkpoint->seed);
    json_t *root = json_pack(
        "{s:i, s:s, s:I, s:s, s:i, s:I, s:f, s:{s:I}, s:{s:s, s:I, s:i}, s:s, s:s, s:{s:{s:s, s:I}, s:{s:s, s:I}}}",
        "format", WRK_CHECKPOINT_FORMAT, "version", GRADD_VERSION, "step", (json_int_t)checkpoint->step, "seed", seed,
        "attempt", checkpoint->attempt, "unix_ns", (json_int_t)checkpoint->unix_ns, "wall_seconds",
        checkpoint->wall_seconds, "data", "samples", (json_int_t)checkpoint->samples, "rng", "seed", seed, "step",
        (json_int_t)checkpoint->step, "microbatch", 0, "fingerprint", checkpoint->fingerprint, "parameters_sha256",
        checkpoint->parameters_sha256, "files", "model.safetensors", "sha256", checkpoint->model_sha256, "size_bytes",
        (json_int_t)model_bytes, "optimizer.safetensors", "sha256", checkpoint->optimizer_sha256, "size_bytes",
        (json_int_t)optimizer_bytes);
    char *text = root != NULL ? json_dumps(root, JSON_INDENT(2)) : NULL;
    json_decref(root);
    if (text == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "text of %s", path);
    }
    status_t status = wrk_file_write(path, text, strlen(text));
    free(text);
    return status;
}

static bool text_take(const char *text, char *out, size_t size)
{
    if (text == NULL || strlen(text) >= size) {
        return false;
    }
    memcpy(out, text, strlen(text) + 1);
    return true;
}

/* A number of 64 bits without sign, as it is written. */
static bool seed_take(const char *text, uint64_t *seed_p)
{
    const size_t length = strlen(text);
    if (length == 0 || length > 20 || strspn(text, "0123456789") != length) {
        return false;
    }
    errno = 0;
    *seed_p = strtoull(text, NULL, 10);
    return errno == 0;
}

static status_t root_read(const char *path, json_t *root, wrk_checkpoint_t *checkpoint_p)
{
    json_int_t format = 0; /* 32 bits would be cut off */
    json_int_t attempt = 0;
    json_int_t step = -1;
    json_int_t unix_ns = 0;
    json_int_t samples = 0;
    json_int_t model_bytes = 0;
    json_int_t optimizer_bytes = 0;
    double wall_seconds = 0;
    const char *seed = NULL;
    const char *fingerprint = NULL;
    const char *parameters = NULL;
    const char *model = NULL;
    const char *optimizer = NULL;
    wrk_checkpoint_t checkpoint = {0};
    json_error_t error;
    if (json_unpack_ex(root, &error, 0,
                       "{s:I, s:I, s:s, s:I, s:I, s:F, s:{s:I}, s:s, s:s, s:{s:{s:s, s:I}, s:{s:s, s:I}}}", "format",
                       &format, "step", &step, "seed", &seed, "attempt", &attempt, "unix_ns", &unix_ns, "wall_seconds",
                       &wall_seconds, "data", "samples", &samples, "fingerprint", &fingerprint, "parameters_sha256",
                       &parameters, "files", "model.safetensors", "sha256", &model, "size_bytes", &model_bytes,
                       "optimizer.safetensors", "sha256", &optimizer, "size_bytes", &optimizer_bytes) != 0) {
        return ST_FAIL(ST_ERR_CORRUPT, "%s: %s", path, error.text);
    }
    if (format != WRK_CHECKPOINT_FORMAT) {
        return ST_FAIL(ST_ERR_CORRUPT, "%s: format %lld, this version reads %d", path, (long long)format,
                       WRK_CHECKPOINT_FORMAT);
    }
    const struct {
        const char *name;
        bool is_good;
    } members[] = {
        {"step", step >= 0},
        {"seed", seed_take(seed, &checkpoint.seed)},
        {"attempt", attempt >= 0 && attempt <= INT_MAX},
        {"data.samples", samples >= 0},
        {"fingerprint", text_take(fingerprint, checkpoint.fingerprint, sizeof(checkpoint.fingerprint))},
        {"parameters_sha256",
         text_take(parameters, checkpoint.parameters_sha256, sizeof(checkpoint.parameters_sha256))},
        {"files[model.safetensors].sha256", text_take(model, checkpoint.model_sha256, sizeof(checkpoint.model_sha256))},
        {"files[model.safetensors].size_bytes", model_bytes >= 0},
        {"files[optimizer.safetensors].sha256",
         text_take(optimizer, checkpoint.optimizer_sha256, sizeof(checkpoint.optimizer_sha256))},
        {"files[optimizer.safetensors].size_bytes",
         optimizer_bytes >= 0 && optimizer_bytes <= INT64_MAX - (model_bytes > 0 ? model_bytes : 0)},
    };
    for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++) {
        if (!members[i].is_good) {
            return ST_FAIL(ST_ERR_CORRUPT, "%s: %s is out of range", path, members[i].name);
        }
    }
    checkpoint.attempt = (int)attempt;
    checkpoint.step = step;
    checkpoint.unix_ns = unix_ns;
    checkpoint.samples = samples;
    checkpoint.size_bytes = model_bytes + optimizer_bytes;
    checkpoint.wall_seconds = wall_seconds;
    *checkpoint_p = checkpoint;
    return ST_OK;
}

status_t wrk_manifest_read(const char *path, wrk_checkpoint_t *checkpoint_p)
{
    char *text = NULL;
    size_t size = 0;
    status_t status = wrk_file_read(path, MAX_MANIFEST_BYTES, &text, &size);
    if (status != ST_OK) {
        return status;
    }
    json_error_t error;
    json_t *root = json_loadb(text, size, 0, &error);
    mem_free(text);
    if (root == NULL) {
        return ST_FAIL(ST_ERR_CORRUPT, "%s:%d:%d: %s", path, error.line, error.column, error.text);
    }
    status = root_read(path, root, checkpoint_p);
    json_decref(root);
    return status;
}
