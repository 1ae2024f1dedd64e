/* SPDX-License-Identifier: Apache-2.0 */
/* image: which decoder, colours, orientation. */
#include "worker/data/image.h"

#include <string.h>

status_t wrk_pixels_check(const char *path, const wrk_pixels_t *pixels)
{
    if (pixels->height < 1 || pixels->width < 1) {
        return ST_FAIL(ST_ERR_CORRUPT, "%s: an image of %lld x %lld pixels", path, (long long)pixels->height,
                       (long long)pixels->width);
    }
    if (pixels->height > WRK_IMAGE_MAX_SIDE || pixels->width > WRK_IMAGE_MAX_SIDE ||
        pixels->height * pixels->width > WRK_IMAGE_MAX_PIXELS) {
        return ST_FAIL(ST_ERR_DATA, "%s: an image of %lld x %lld pixels; at most %d a side and %d in all are read",
                       path, (long long)pixels->height, (long long)pixels->width, (int)WRK_IMAGE_MAX_SIDE,
                       (int)WRK_IMAGE_MAX_PIXELS);
    }
    return ST_OK;
}

status_t wrk_pixels_alloc(const char *path, wrk_scratch_t *scratch, wrk_pixels_t *pixels)
{
    status_t status = wrk_pixels_check(path, pixels);
    if (status != ST_OK) {
        return status;
    }
    size_t size = (size_t)(pixels->height * pixels->width * pixels->n_channels);
    pixels->data = wrk_scratch_get(scratch, WRK_BLOCK_ROWS, size);
    return pixels->data != NULL ? ST_OK : ST_FAIL(ST_ERR_NOMEM, "%s: %zu bytes of pixels", path, size);
}

/* CMYK → RGB without a colour profile. */
static void ink_remove(const wrk_pixels_t *pixels, const uint8_t *in, int rgb[3])
{
    int light = pixels->is_inverted ? in[3] : 255 - in[3];
    for (int c = 0; c < 3; c++) {
        rgb[c] = (pixels->is_inverted ? in[c] : 255 - in[c]) * light / 255;
    }
}

/* Where pixel (y, x) of the file stands when the image is turned; Exif 2.3, tag 274. */
static int64_t place_of(const wrk_pixels_t *pixels, int64_t y, int64_t x)
{
    int64_t h = pixels->height;
    int64_t w = pixels->width;
    switch (pixels->orientation) {
    case 2:
        return y * w + (w - 1 - x);
    case 3:
        return (h - 1 - y) * w + (w - 1 - x);
    case 4:
        return (h - 1 - y) * w + x;
    case 5:
        return x * h + y;
    case 6:
        return x * h + (h - 1 - y);
    case 7:
        return (w - 1 - x) * h + (h - 1 - y);
    case 8:
        return (w - 1 - x) * h + y;
    default:
        return y * w + x;
    }
}

/* The value of each byte. */
static const float *values_of_bytes(float values[256])
{
    for (int i = 0; i < 256; i++) {
        values[i] = (float)i / 255.0F;
    }
    return values;
}

/* An image of colours that isn't turned, which most are: its rows become rows of planes. */
static void colours_store(const wrk_pixels_t *pixels, const float values[256], float *out)
{
    const int64_t plane = pixels->height * pixels->width;
    const uint8_t *in = pixels->data;
    for (int64_t i = 0; i < plane; i++, in += 3) {
        out[i] = values[in[0]];
        out[plane + i] = values[in[1]];
        out[2 * plane + i] = values[in[2]];
    }
}

static void pixels_store(const wrk_pixels_t *pixels, wrk_image_t *image)
{
    float table[256];
    const float *values = values_of_bytes(table);
    int64_t plane = pixels->height * pixels->width;
    const uint8_t *in = pixels->data;
    if (pixels->n_channels == 3 && image->channels == 3 && pixels->orientation <= 1) {
        colours_store(pixels, values, image->data);
        return;
    }
    for (int64_t y = 0; y < pixels->height; y++) {
        for (int64_t x = 0; x < pixels->width; x++, in += pixels->n_channels) {
            float *out = image->data + place_of(pixels, y, x);
            int rgb[3] = {in[0], in[0], in[0]};
            if (pixels->n_channels == 3) {
                rgb[1] = in[1];
                rgb[2] = in[2];
            } else if (pixels->n_channels == 4) {
                ink_remove(pixels, in, rgb);
            }
            if (image->channels == 3) {
                out[0] = values[rgb[0]];
                out[plane] = values[rgb[1]];
                out[2 * plane] = values[rgb[2]];
            } else {
                /* ITU-R 601 in 16-bit fixed point, as Pillow rounds it */
                out[0] = values[(rgb[0] * 19595 + rgb[1] * 38470 + rgb[2] * 7471 + 0x8000) >> 16];
            }
        }
    }
}

status_t wrk_image_decode(const char *path, const uint8_t *bytes, int64_t size, int channels, bool turns,
                          wrk_scratch_t *scratch, wrk_image_t *image)
{
    static const uint8_t jpeg[3] = {0xFF, 0xD8, 0xFF};
    static const uint8_t png[4] = {0x89, 'P', 'N', 'G'};
    wrk_pixels_t pixels = {0};
    status_t status = ST_OK;
    if (size >= 3 && memcmp(bytes, jpeg, sizeof(jpeg)) == 0) {
        status = wrk_jpeg_decode(path, bytes, size, scratch, &pixels);
    } else if (size >= 4 && memcmp(bytes, png, sizeof(png)) == 0) {
        status = wrk_png_decode(path, bytes, size, scratch, &pixels);
    } else if (size == 0) {
        status = ST_FAIL(ST_ERR_CORRUPT, "%s: an empty file", path);
    } else {
        status = ST_FAIL(ST_ERR_CORRUPT, "%s: neither JPEG nor PNG: %lld bytes that begin with %02x %02x", path,
                         (long long)size, bytes[0], size > 1 ? bytes[1] : 0);
    }
    if (status != ST_OK) {
        return status;
    }
    pixels.orientation = turns ? pixels.orientation : 0;
    bool is_turned = pixels.orientation >= 5 && pixels.orientation <= 8;
    size_t n_bytes = (size_t)(channels * pixels.height * pixels.width) * sizeof(float);
    *image = (wrk_image_t){wrk_scratch_get(scratch, WRK_BLOCK_IMAGE, n_bytes), channels,
                           is_turned ? pixels.width : pixels.height, is_turned ? pixels.height : pixels.width};
    if (image->data == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "%s: an image of %zu bytes", path, n_bytes);
    }
    pixels_store(&pixels, image);
    return ST_OK;
}
