/* SPDX-License-Identifier: Apache-2.0 */
/* safetensors_format: what reading and writing of safetensors share. Private to engine/io. */
#ifndef GRADD_IO_SAFETENSORS_FORMAT_H
#define GRADD_IO_SAFETENSORS_FORMAT_H

#include "gradd/safetensors.h"

/* As the reference implementation. */
enum { SAFETENSORS_MAX_HEADER_BYTES = 100000000, SAFETENSORS_ALIGN = 64 };

/* "F32", … ; NULL when out of range. */
const char *safetensors_dtype_name(gd_dtype_t dtype);
/* Bytes of an entry's data; ST_ERR_RANGE (nothing recorded) for a negative size or one beyond 64 bits. */
status_t safetensors_size(const gd_safetensors_entry_t *entry, int64_t *size_p);

#endif
