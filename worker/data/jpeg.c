/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jpeg: libjpeg-turbo. Its errors come back here by longjmp; its warnings of damaged or missing data are errors too,
 * for it would fill the rest of an image with grey.
 *
 * Note [libjpeg's memory]
 *   libjpeg takes all its memory through jpeg_get_small and jpeg_get_large, which its authors made to be replaced
 *   (jmemsys.h). Ours, which the dynamic linker finds first, serve wrk_jpeg_decode alone, from the thread's scratch;
 * any other caller in the process gets the library's. They are weak, so that a program's own come before them.
 */
#include <dlfcn.h>
#include <setjmp.h>
#include <stdio.h>
#include <string.h>

#include <jpeglib.h>

#include <jerror.h>

#include "base/assert.h"
#include "worker/data/decoder.h"
#include "worker/data/image.h"

enum { MAX_SCANS = 200, EXIF = JPEG_APP0 + 1 };

typedef struct jpeg_reader {
    struct jpeg_decompress_struct info;
    struct jpeg_error_mgr errors;
    struct jpeg_progress_mgr progress;
    jmp_buf back;
    char message[JMSG_LENGTH_MAX];
} jpeg_reader_t;

/* Of the file that this thread decodes; NULL: none. */
static _Thread_local wrk_decoder_t *memory_own;

#ifdef __has_feature
#define HAS_FEATURE(feature_x) __has_feature(feature_x)
#else
#define HAS_FEATURE(feature_x) 0
#endif
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && !HAS_FEATURE(address_sanitizer)
typedef void *(*get_func_t)(j_common_ptr info, size_t size_bytes);
typedef void (*free_func_t)(j_common_ptr info, void *pointer, size_t size_bytes);

/* In the library that comes next; who calls ours has it. */
static void *library_find(const char *name)
{
    void *function = dlsym(RTLD_NEXT, name);
    ASSERT(function != NULL);
    return function;
}

static void *memory_get(j_common_ptr info, size_t size_bytes, const char *name)
{
    if (memory_own != NULL) {
        return wrk_decoder_alloc(memory_own, size_bytes);
    }
    get_func_t function = NULL;
    *(void **)&function = library_find(name);
    return function(info, size_bytes);
}

static void memory_free(j_common_ptr info, void *pointer, size_t size_bytes, const char *name)
{
    if (memory_own == NULL) {
        free_func_t function = NULL;
        *(void **)&function = library_find(name);
        function(info, pointer, size_bytes);
    }
}

__attribute__((weak, visibility("default"))) void *small_get(j_common_ptr info,
                                                             size_t size_bytes) __asm__("jpeg_get_small");
void *small_get(j_common_ptr info, size_t size_bytes)
{
    return memory_get(info, size_bytes, "jpeg_get_small");
}

__attribute__((weak, visibility("default"))) void *large_get(j_common_ptr info,
                                                             size_t size_bytes) __asm__("jpeg_get_large");
void *large_get(j_common_ptr info, size_t size_bytes)
{
    return memory_get(info, size_bytes, "jpeg_get_large");
}

__attribute__((weak, visibility("default"))) void small_free(j_common_ptr info, void *pointer,
                                                             size_t size_bytes) __asm__("jpeg_free_small");
void small_free(j_common_ptr info, void *pointer, size_t size_bytes)
{
    memory_free(info, pointer, size_bytes, "jpeg_free_small");
}

__attribute__((weak, visibility("default"))) void large_free(j_common_ptr info, void *pointer,
                                                             size_t size_bytes) __asm__("jpeg_free_large");
void large_free(j_common_ptr info, void *pointer, size_t size_bytes)
{
    memory_free(info, pointer, size_bytes, "jpeg_free_large");
}
#endif

static void reader_leave(j_common_ptr info)
{
    jpeg_reader_t *reader = info->client_data;
    info->err->format_message(info, reader->message);
    longjmp(reader->back, 1);
}

static void message_take(j_common_ptr info, int level)
{
    int code = info->err->msg_code;
    bool is_harmless = code == JWRN_EXTRANEOUS_DATA || code == JWRN_ADOBE_XFORM || code == JWRN_JFIF_MAJOR;
    if (level < 0 && !is_harmless) {
        reader_leave(info);
    }
}

static void message_drop(j_common_ptr info)
{
    (void)info;
}

/* A progressive file may hold any number of passes over the whole image. */
static void progress_watch(j_common_ptr info)
{
    jpeg_reader_t *reader = info->client_data;
    if (reader->info.input_scan_number > MAX_SCANS) {
        (void)snprintf(reader->message, sizeof(reader->message), "more than %d scans", (int)MAX_SCANS);
        longjmp(reader->back, 1);
    }
}

static unsigned number_get(const uint8_t *bytes, int n, bool is_big)
{
    unsigned value = 0;
    for (int i = 0; i < n; i++) {
        value = value << 8 | bytes[is_big ? i : n - 1 - i];
    }
    return value;
}

/* Tag 274 of the first directory of an Exif segment (TIFF inside); 0: none. */
static int orientation_find(const uint8_t *bytes, size_t size)
{
    if (size < 14 || memcmp(bytes, "Exif\0\0", 6) != 0) {
        return 0;
    }
    const uint8_t *tiff = bytes + 6;
    size -= 6;
    bool is_big = tiff[0] == 'M';
    size_t at = number_get(tiff + 4, 4, is_big);
    unsigned n = at + 2 <= size ? number_get(tiff + at, 2, is_big) : 0;
    for (unsigned i = 0; i < n && at + 2 + 12 * (size_t)(i + 1) <= size; i++) {
        const uint8_t *entry = tiff + at + 2 + 12 * (size_t)i;
        if (number_get(entry, 2, is_big) == 274 && number_get(entry + 2, 2, is_big) == 3) {
            unsigned value = number_get(entry + 8, 2, is_big);
            return value >= 1 && value <= 8 ? (int)value : 0;
        }
    }
    return 0;
}

static void start(jpeg_reader_t *reader, const uint8_t *bytes, int64_t size)
{
    jpeg_create_decompress(&reader->info);
    reader->info.client_data = reader;
    reader->info.progress = &reader->progress;
    reader->progress.progress_monitor = progress_watch;
    jpeg_mem_src(&reader->info, bytes, (unsigned long)size);
    jpeg_save_markers(&reader->info, EXIF, 0xFFFF);
    (void)jpeg_read_header(&reader->info, TRUE);
}

static void rows_read(jpeg_reader_t *reader, const wrk_pixels_t *pixels)
{
    int64_t stride = pixels->width * pixels->n_channels;
    while (reader->info.output_scanline < reader->info.output_height) {
        JSAMPROW row = pixels->data + (int64_t)reader->info.output_scanline * stride;
        (void)jpeg_read_scanlines(&reader->info, &row, 1);
    }
    (void)jpeg_finish_decompress(&reader->info);
}

static status_t decode(const char *path, const uint8_t *bytes, int64_t size, wrk_scratch_t *scratch,
                       wrk_pixels_t *pixels)
{
    jpeg_reader_t reader = {0};
    status_t status = ST_OK;
    reader.info.err = jpeg_std_error(&reader.errors);
    reader.info.client_data = &reader;
    reader.errors.error_exit = reader_leave;
    reader.errors.emit_message = message_take;
    reader.errors.output_message = message_drop;
    if (setjmp(reader.back) != 0) {
        status = ST_FAIL(ST_ERR_CORRUPT, "%s: damaged JPEG: %s (line %u of %u)", path, reader.message,
                         reader.info.output_scanline, reader.info.image_height);
        jpeg_destroy_decompress(&reader.info);
        return status;
    }
    start(&reader, bytes, size);
    bool is_ink = reader.info.jpeg_color_space == JCS_CMYK || reader.info.jpeg_color_space == JCS_YCCK;
    bool is_grey = reader.info.jpeg_color_space == JCS_GRAYSCALE;
    *pixels = (wrk_pixels_t){.height = reader.info.image_height,
                             .width = reader.info.image_width,
                             .n_channels = is_ink    ? 4
                                           : is_grey ? 1
                                                     : 3,
                             .is_inverted = reader.info.saw_Adobe_marker};
    for (jpeg_saved_marker_ptr marker = reader.info.marker_list; marker != NULL; marker = marker->next) {
        if (pixels->orientation == 0 && marker->marker == EXIF) {
            pixels->orientation = orientation_find(marker->data, marker->data_length);
        }
    }
    status = wrk_pixels_alloc(path, scratch, pixels);
    if (status == ST_OK) {
        reader.info.out_color_space = is_ink ? JCS_CMYK : is_grey ? JCS_GRAYSCALE : JCS_RGB;
        (void)jpeg_start_decompress(&reader.info);
        rows_read(&reader, pixels);
    }
    jpeg_destroy_decompress(&reader.info);
    return status;
}

status_t wrk_jpeg_decode(const char *path, const uint8_t *bytes, int64_t size, wrk_scratch_t *scratch,
                         wrk_pixels_t *pixels)
{
    wrk_decoder_t memory = {.scratch = scratch};
    memory_own = &memory;
    const status_t status = decode(path, bytes, size, scratch, pixels);
    memory_own = NULL;
    wrk_decoder_finish(&memory);
    return status;
}
