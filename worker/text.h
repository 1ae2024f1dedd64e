/* SPDX-License-Identifier: Apache-2.0 */
/* text: bytes of any origin (sampled tokens, paths in messages, cut strings) as text that protobuf and JSON accept. */
#ifndef GRADD_WORKER_TEXT_H
#define GRADD_WORKER_TEXT_H

#include "base/strbuf.h"

/* Appends the bytes to text; each byte that is not part of a valid UTF-8 sequence (RFC 3629), and NUL, as U+FFFD. */
void wrk_text_append(strbuf_t *text, const char *bytes, size_t size);

#endif
