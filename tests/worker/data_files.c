/* SPDX-License-Identifier: Apache-2.0 */
/* data_files: writes them. */
#include "tests/worker/data_files.h"

#include <zlib.h>

enum { MAX_PACKED = 1 << 16 };

const char *file_write(const char *name, const void *bytes, size_t length)
{
    return fixture_write(name, bytes, length);
}

const char *file_write_text(const char *name, const char *text)
{
    return fixture_write_text(name, text);
}

const char *file_write_gzip(const char *name, const void *bytes, size_t length, size_t drop)
{
    static unsigned char packed[MAX_PACKED];
    z_stream stream = {.next_in = (unsigned char *)(uintptr_t)bytes,
                       .avail_in = (unsigned)length,
                       .next_out = packed,
                       .avail_out = sizeof(packed)};
    assert_int_equal(deflateInit2(&stream, 6, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY), Z_OK);
    assert_int_equal(deflate(&stream, Z_FINISH), Z_STREAM_END);
    size_t size = (size_t)stream.total_out;
    assert_int_equal(deflateEnd(&stream), Z_OK);
    assert_true(drop < size);
    return file_write(name, packed, size - drop);
}
