/* SPDX-License-Identifier: Apache-2.0 */
/* text: UTF-8 by the table of RFC 3629. */
#include "worker/text.h"

/* Length of the UTF-8 sequence at text (RFC 3629), 0 when there is no valid one. */
static size_t utf8_length(const unsigned char *text, size_t left)
{
    size_t n = text[0] < 0x80 ? 1 : text[0] >= 0xC2 && text[0] < 0xE0 ? 2 : (text[0] & 0xF0) == 0xE0 ? 3 : 4;
    if (text[0] == 0 || n > left || (n == 4 && (text[0] < 0xF0 || text[0] > 0xF4))) {
        return 0;
    }
    for (size_t i = 1; i < n; i++) {
        if ((text[i] & 0xC0) != 0x80) {
            return 0;
        }
    }
    bool is_overlong = (text[0] == 0xE0 && text[1] < 0xA0) || (text[0] == 0xF0 && text[1] < 0x90);
    bool is_outside = (text[0] == 0xED && text[1] >= 0xA0) || (text[0] == 0xF4 && text[1] >= 0x90);
    return is_overlong || is_outside ? 0 : n;
}

void wrk_text_append(strbuf_t *text, const char *bytes, size_t size)
{
    const unsigned char *byte = (const unsigned char *)bytes;
    for (size_t i = 0; i < size;) {
        size_t n = utf8_length(byte + i, size - i);
        if (n == 0) {
            strbuf_append(text, "\xEF\xBF\xBD");
            i++;
        } else {
            strbuf_append_bytes(text, bytes + i, n);
            i += n;
        }
    }
}
