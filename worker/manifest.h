/* SPDX-License-Identifier: Apache-2.0 */
/* manifest: a checkpoint's manifest.json, see checkpoint.h. Jansson is used here and in goodbye.c only. */
#ifndef GRADD_WORKER_MANIFEST_H
#define GRADD_WORKER_MANIFEST_H

#include "worker/checkpoint.h"

/* Writes path and fsyncs it. */
status_t wrk_manifest_write(const char *path, const wrk_checkpoint_t *checkpoint, int64_t model_bytes,
                            int64_t optimizer_bytes);
/* ST_ERR_CORRUPT says what is wrong; ST_ERR_NOT_FOUND when there is no such file. */
status_t wrk_manifest_read(const char *path, wrk_checkpoint_t *checkpoint_p);

#endif
