/* SPDX-License-Identifier: Apache-2.0 */
/* image: JPEG and PNG files → f32 [channels, height, width], 0 … 1. Internal to worker/data/. */
#ifndef GRADD_WORKER_DATA_IMAGE_H
#define GRADD_WORKER_DATA_IMAGE_H

#include "worker/data/source.h"

/* What an image may ask of us. */
enum { WRK_IMAGE_MAX_SIDE = 1 << 15, WRK_IMAGE_MAX_PIXELS = 1 << 26, WRK_IMAGE_MAX_BYTES = 1 << 28 };

/* Bytes of pixels, rows of interleaved channels: 1 (grey), 3 (RGB) or 4 (CMYK). In the scratch's WRK_BLOCK_ROWS. */
typedef struct wrk_pixels {
    uint8_t *data;
    int64_t height, width;
    int n_channels;
    bool is_inverted; /* CMYK: 255 is no ink */
    int orientation;  /* Exif's, 1 … 8; 0: not said */
} wrk_pixels_t;

/*
 * bytes[size] is a whole JPEG or PNG file. channels: 1 or 3; colours become grey by ITU-R 601, alpha is dropped, 16
 * bits become 8. turns: as Exif's orientation says. image->data lies in WRK_BLOCK_IMAGE. ST_ERR_CORRUPT: no such file,
 * damaged or truncated; ST_ERR_DATA: larger than the limits. Each names the path.
 */
status_t wrk_image_decode(const char *path, const uint8_t *bytes, int64_t size, int channels, bool turns,
                          wrk_scratch_t *scratch, wrk_image_t *image);

/* jpeg.c, png.c: the pixels alone. */
status_t wrk_jpeg_decode(const char *path, const uint8_t *bytes, int64_t size, wrk_scratch_t *scratch,
                         wrk_pixels_t *pixels);
status_t wrk_png_decode(const char *path, const uint8_t *bytes, int64_t size, wrk_scratch_t *scratch,
                        wrk_pixels_t *pixels);
/* Whether their size is within the limits. */
status_t wrk_pixels_check(const char *path, const wrk_pixels_t *pixels);
/* Takes memory for the pixels, once their size is known and within the limits. */
status_t wrk_pixels_alloc(const char *path, wrk_scratch_t *scratch, wrk_pixels_t *pixels);

#endif
