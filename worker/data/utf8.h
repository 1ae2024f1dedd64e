/* SPDX-License-Identifier: Apache-2.0 */
/* utf8: where a character ends, and its bytes. */
#ifndef GRADD_WORKER_DATA_UTF8_H
#define GRADD_WORKER_DATA_UTF8_H

#include <stddef.h>
#include <stdint.h>

enum { WRK_UTF8_MAX = 4 };

/* Length of the UTF-8 sequence (RFC 3629) at bytes[left > 0]; 0: none. */
size_t wrk_utf8_length(const char *bytes, size_t left);
/* The same, and the sequence's code point. */
size_t wrk_utf8_decode(const char *bytes, size_t left, int32_t *code_point_p);
/* The code point as bytes; their number. */
int wrk_utf8_encode(int32_t code_point, char bytes[WRK_UTF8_MAX]);

#endif
