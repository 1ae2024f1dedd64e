/* SPDX-License-Identifier: Apache-2.0 */
/* png: libpng, every colour type and depth as 8 bits of grey or RGB. Its errors come back here by longjmp. */
#include <setjmp.h>
#include <stdio.h>
#include <string.h>

#include <png.h>

#include "worker/data/decoder.h"
#include "worker/data/image.h"

enum { MAX_CHUNK_BYTES = 8 << 20, MAX_CHUNKS = 1000 };

typedef struct png_reader {
    const uint8_t *bytes;
    size_t size, at;
    png_structp png;
    png_infop info;
    wrk_decoder_t memory;
    jmp_buf back;
    char message[128];
} png_reader_t;

static void reader_leave(png_structp png, png_const_charp message)
{
    png_reader_t *reader = png_get_error_ptr(png);
    (void)snprintf(reader->message, sizeof(reader->message), "%s", message);
    longjmp(reader->back, 1);
}

static void warning_drop(png_structp png, png_const_charp message)
{
    (void)png;
    (void)message;
}

static png_voidp memory_get(png_structp png, png_alloc_size_t size)
{
    return wrk_decoder_alloc(png_get_mem_ptr(png), size);
}

static void memory_keep(png_structp png, png_voidp pointer)
{
    (void)png;
    (void)pointer;
}

static void bytes_get(png_structp png, png_bytep out, size_t n)
{
    png_reader_t *reader = png_get_io_ptr(png);
    if (n > reader->size - reader->at) {
        png_error(png, "truncated");
    }
    memcpy(out, reader->bytes + reader->at, n);
    reader->at += n;
}

static void transforms_set(png_reader_t *reader)
{
    png_set_expand(reader->png); /* palettes, fewer than 8 bits, transparent colours */
    png_set_scale_16(reader->png);
    png_set_strip_alpha(reader->png);
    (void)png_set_interlace_handling(reader->png);
    png_read_update_info(reader->png, reader->info);
}

static status_t rows_prepare(const char *path, const png_reader_t *reader, wrk_scratch_t *scratch, wrk_pixels_t *pixels,
                             png_bytep **rows_p)
{
    status_t status = wrk_pixels_alloc(path, scratch, pixels);
    if (status != ST_OK) {
        return status;
    }
    size_t stride = (size_t)(pixels->width * pixels->n_channels);
    png_bytep *rows = wrk_scratch_get(scratch, WRK_BLOCK_WEIGHTS, (size_t)pixels->height * sizeof(*rows));
    if (rows == NULL || png_get_rowbytes(reader->png, reader->info) != stride) {
        return rows == NULL ? ST_FAIL(ST_ERR_NOMEM, "%s: rows of an image", path)
                            : ST_FAIL(ST_ERR_CORRUPT, "%s: damaged PNG: rows of another size", path);
    }
    for (int64_t y = 0; y < pixels->height; y++) {
        rows[y] = pixels->data + (size_t)y * stride;
    }
    *rows_p = rows;
    return ST_OK;
}

/* The size stands behind the signature and the first chunk's length and name. libpng would call one that is beyond its
 * limits damaged. */
static status_t size_check(const char *path, const uint8_t *bytes, int64_t size)
{
    enum { WIDTH_AT = 16, HEIGHT_AT = 20, END = 24 };
    if (size < END) {
        return ST_OK; /* truncated, as libpng will say */
    }
    wrk_pixels_t pixels = {0};
    for (int i = 0; i < HEIGHT_AT - WIDTH_AT; i++) {
        pixels.width = pixels.width << 8 | bytes[WIDTH_AT + i];
        pixels.height = pixels.height << 8 | bytes[HEIGHT_AT + i];
    }
    return wrk_pixels_check(path, &pixels);
}

status_t wrk_png_decode(const char *path, const uint8_t *bytes, int64_t size, wrk_scratch_t *scratch,
                        wrk_pixels_t *pixels)
{
    png_reader_t reader = {.bytes = bytes, .size = (size_t)size, .memory = {.scratch = scratch}};
    png_bytep *rows = NULL;
    status_t status = size_check(path, bytes, size);
    if (status != ST_OK) {
        return status;
    }
    reader.png = png_create_read_struct_2(PNG_LIBPNG_VER_STRING, &reader, reader_leave, warning_drop, &reader.memory,
                                          memory_get, memory_keep);
    if (reader.png == NULL) {
        wrk_decoder_finish(&reader.memory);
        return ST_FAIL(ST_ERR_NOMEM, "%s: memory to decode it", path);
    }
    if (setjmp(reader.back) != 0) {
        status = ST_FAIL(ST_ERR_CORRUPT, "%s: damaged PNG: %s (near offset %zu)", path, reader.message, reader.at);
        png_destroy_read_struct(&reader.png, &reader.info, NULL);
        wrk_decoder_finish(&reader.memory);
        return status;
    }
    reader.info = png_create_info_struct(reader.png);
    if (reader.info == NULL) {
        png_error(reader.png, "out of memory");
    }
    png_set_user_limits(reader.png, WRK_IMAGE_MAX_SIDE, WRK_IMAGE_MAX_SIDE);
    png_set_chunk_cache_max(reader.png, MAX_CHUNKS);
    png_set_chunk_malloc_max(reader.png, MAX_CHUNK_BYTES);
    png_set_read_fn(reader.png, &reader, bytes_get);
    png_read_info(reader.png, reader.info);
    transforms_set(&reader);
    *pixels = (wrk_pixels_t){.height = png_get_image_height(reader.png, reader.info),
                             .width = png_get_image_width(reader.png, reader.info),
                             .n_channels = png_get_channels(reader.png, reader.info)};
    status = rows_prepare(path, &reader, scratch, pixels, &rows);
    if (status == ST_OK) {
        png_read_image(reader.png, rows);
        png_read_end(reader.png, NULL);
    }
    png_destroy_read_struct(&reader.png, &reader.info, NULL);
    wrk_decoder_finish(&reader.memory);
    return status;
}
