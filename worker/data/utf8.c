/* SPDX-License-Identifier: Apache-2.0 */
/* utf8: the table of RFC 3629. */
#include "worker/data/utf8.h"

#include <stdbool.h>

size_t wrk_utf8_length(const char *bytes, size_t left)
{
    const unsigned char *text = (const unsigned char *)bytes;
    size_t n = text[0] < 0x80 ? 1 : text[0] >= 0xC2 && text[0] < 0xE0 ? 2 : (text[0] & 0xF0) == 0xE0 ? 3 : 4;
    if (n > left || (n == 4 && (text[0] < 0xF0 || text[0] > 0xF4))) {
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

size_t wrk_utf8_decode(const char *bytes, size_t left, int32_t *code_point_p)
{
    static const int32_t lead_bits[WRK_UTF8_MAX + 1] = {0, 0x7F, 0x1F, 0x0F, 0x07};
    const size_t n = wrk_utf8_length(bytes, left);
    int32_t code_point = (unsigned char)bytes[0] & lead_bits[n];
    for (size_t i = 1; i < n; i++) {
        code_point = code_point << 6 | (bytes[i] & 0x3F);
    }
    *code_point_p = n > 0 ? code_point : *code_point_p;
    return n;
}

int wrk_utf8_encode(int32_t code_point, char bytes[WRK_UTF8_MAX])
{
    uint32_t c = (uint32_t)code_point;
    if (c < 0x80) {
        bytes[0] = (char)c;
        return 1;
    }
    int n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (int i = n - 1; i > 0; i--, c >>= 6) {
        bytes[i] = (char)(0x80 | (c & 0x3F));
    }
    bytes[0] = (char)((0xF00 >> n) | c);
    return n;
}
