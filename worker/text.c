/* SPDX-License-Identifier: Apache-2.0 */
/* text: what isn't UTF-8 is replaced. */
#include "worker/text.h"

#include "worker/data/utf8.h"

void wrk_text_append(strbuf_t *text, const char *bytes, size_t size)
{
    for (size_t i = 0; i < size;) {
        size_t n = bytes[i] != 0 ? wrk_utf8_length(bytes + i, size - i) : 0;
        if (n == 0) {
            strbuf_append(text, "\xEF\xBF\xBD");
            i++;
        } else {
            strbuf_append_bytes(text, bytes + i, n);
            i += n;
        }
    }
}
