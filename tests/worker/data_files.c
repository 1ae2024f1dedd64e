/* SPDX-License-Identifier: Apache-2.0 */
/* data_files: writes them. */
#include "tests/worker/data_files.h"

#include <stdio.h>
#include <string.h>
#include <zlib.h>

enum { MAX_PACKED = 1 << 16, N_PATHS = 16 };

const char *file_write(const char *name, const void *bytes, size_t length)
{
    static char path[N_PATHS][256];
    static int next;
    char *own = path[next++ % N_PATHS];
    (void)snprintf(own, sizeof(path[0]), "%s/%s", fixture_folder(), name);
    FILE *file = fopen(own, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, length, file), length);
    assert_int_equal(fclose(file), 0);
    return own;
}

const char *file_write_text(const char *name, const char *text)
{
    return file_write(name, text, strlen(text));
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
