/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sound_pcm: WAV files of plain numbers: whole ones of 8 bits (without a sign), 16, 24 or 32, floating-point ones of 32
 * or 64, and the telephone's logarithmic ones of 8 bits (ITU-T G.711, A-law and mu-law). Values are libsndfile's: whole
 * numbers over their largest, so -1 … 1.
 *
 *   "RIFF" size  "WAVE"  { name size bytes… (padding to an even number) }…
 *                         "fmt "  code, channels, rate, bytes a second, bytes a frame, bits a value, more
 *                         "data"  the frames
 *
 * RF64 (EBU Tech 3306) is the same with sizes of 64 bits in a chunk "ds64", for a "data" whose own size is all ones.
 * Anything else makes it another reader's file. See Note [A sound file without the heap].
 */
#include <string.h>
#include <unistd.h>

#include "worker/data/sound.h"

enum {
    CODE_EXTENSIBLE = 0xFFFE, /* the code stands behind: 24 bytes into the chunk, before 14 bytes that never change */
    SIZE_PLAIN = 16,
    SIZE_EXTENSIBLE = 40,
    MAX_CHUNKS = 1000,
    BLOCK_BYTES = 1 << 16
};

/* ---- codings: out[n] of the values in bytes ---- */

static void u8_convert(const uint8_t *bytes, int64_t n, float *out)
{
    for (int64_t i = 0; i < n; i++) {
        out[i] = (float)(bytes[i] - 128) * (1.0F / 128);
    }
}

static void s16_convert(const uint8_t *bytes, int64_t n, float *out)
{
    for (int64_t i = 0; i < n; i++) {
        out[i] = (float)(int16_t)(bytes[2 * i] | bytes[2 * i + 1] << 8) * (1.0F / (1 << 15));
    }
}

static void s24_convert(const uint8_t *bytes, int64_t n, float *out)
{
    for (int64_t i = 0; i < n; i++) {
        const uint32_t high =
            (uint32_t)bytes[3 * i] << 8 | (uint32_t)bytes[3 * i + 1] << 16 | (uint32_t)bytes[3 * i + 2] << 24;
        out[i] = (float)(int32_t)high * (1.0F / (1U << 31));
    }
}

static void s32_convert(const uint8_t *bytes, int64_t n, float *out)
{
    for (int64_t i = 0; i < n; i++) {
        int32_t value = 0;
        memcpy(&value, bytes + 4 * i, sizeof(value));
        out[i] = (float)value * (1.0F / (1U << 31));
    }
}

static void f32_convert(const uint8_t *bytes, int64_t n, float *out)
{
    memcpy(out, bytes, (size_t)n * sizeof(float));
}

static void f64_convert(const uint8_t *bytes, int64_t n, float *out)
{
    for (int64_t i = 0; i < n; i++) {
        double value = 0;
        memcpy(&value, bytes + 8 * i, sizeof(value));
        out[i] = (float)value;
    }
}

/* Every other bit is turned; then a sign, three bits of exponent and four of mantissa, whose steps' middles are meant.
 */
static void a_law_convert(const uint8_t *bytes, int64_t n, float *out)
{
    for (int64_t i = 0; i < n; i++) {
        const int byte = bytes[i] ^ 0x55;
        const int exponent = byte >> 4 & 7;
        const int step = ((byte & 15) << 4) + 8;
        const int size = exponent > 0 ? (step + 0x100) << (exponent - 1) : step;
        out[i] = (float)((byte & 0x80) != 0 ? size : -size) * (1.0F / (1 << 15));
    }
}

/* All bits are turned; the scale is moved by 33 steps, so that it begins at 0. */
static void mu_law_convert(const uint8_t *bytes, int64_t n, float *out)
{
    enum { MOVED = 33 << 2 };
    for (int64_t i = 0; i < n; i++) {
        const int byte = bytes[i] ^ 0xFF;
        const int size = ((((byte & 15) << 3) + MOVED) << (byte >> 4 & 7)) - MOVED;
        out[i] = (float)((byte & 0x80) != 0 ? -size : size) * (1.0F / (1 << 15));
    }
}

struct wrk_sound_coding {
    int64_t code, bits;
    void (*convert)(const uint8_t *bytes, int64_t n, float *out);
};

static const wrk_sound_coding_t codings[] = {
    {1, 8, u8_convert},   {1, 16, s16_convert}, {1, 24, s24_convert},  {1, 32, s32_convert},
    {3, 32, f32_convert}, {3, 64, f64_convert}, {6, 8, a_law_convert}, {7, 8, mu_law_convert},
};

static const wrk_sound_coding_t *coding_find(int64_t code, int64_t bits)
{
    for (size_t i = 0; i < sizeof(codings) / sizeof(codings[0]); i++) {
        if (codings[i].code == code && codings[i].bits == bits) {
            return &codings[i];
        }
    }
    return NULL;
}

/* ---- chunks ---- */

/* What the chunks before "data" say. */
typedef struct pcm_format {
    const wrk_sound_coding_t *coding; /* NULL: not known here */
    int64_t n_channels, rate, frame_bytes;
    int64_t data_size; /* of "ds64"; 0: there is none */
} pcm_format_t;

/* The last chunk's 16 bytes of a code, after the first two: {0000-0010-8000-00AA00389B71}. */
static const uint8_t CODE_TAIL[14] = {0, 0, 0, 0, 0x10, 0, 0x80, 0, 0, 0xAA, 0, 0x38, 0x9B, 0x71};

static void format_read(const uint8_t *chunk, int64_t size, pcm_format_t *format)
{
    int64_t code = wrk_sound_number(chunk, 2);
    format->n_channels = wrk_sound_number(chunk + 2, 2);
    format->rate = wrk_sound_number(chunk + 4, 4);
    format->frame_bytes = wrk_sound_number(chunk + 12, 2);
    const int64_t bits = wrk_sound_number(chunk + 14, 2);
    if (code == CODE_EXTENSIBLE && size >= SIZE_EXTENSIBLE && memcmp(chunk + 26, CODE_TAIL, sizeof(CODE_TAIL)) == 0) {
        code = wrk_sound_number(chunk + 24, 2);
    }
    const bool is_plain = format->n_channels > 0 && format->n_channels <= WRK_SOUND_MAX_CHANNELS &&
                          format->rate <= INT32_MAX && format->frame_bytes == format->n_channels * bits / 8;
    format->coding = is_plain ? coding_find(code, bits) : NULL;
}

/* Finds "data" behind a format that is known here. *size_p: of the frames; 0: another reader's file. */
static status_t data_find(const wrk_sound_t *sound, pcm_format_t *format, int64_t *offset_p, int64_t *size_p)
{
    uint8_t chunk[8 + SIZE_EXTENSIBLE];
    int64_t at = 12;
    *size_p = 0;
    for (int i = 0; i < MAX_CHUNKS; i++) {
        const int64_t n = wrk_sound_peek(sound, at, chunk, sizeof(chunk)) - 8;
        if (n < 0) {
            return ST_OK;
        }
        int64_t size = wrk_sound_number(chunk + 4, 4);
        if (memcmp(chunk, "data", 4) == 0) {
            const int64_t left = sound->size_bytes - at - 8;
            if (size == UINT32_MAX || (size > left && wrk_sound_is_unsaid(size))) { /* RF64, or a pipe: up to the end */
                size = format->data_size > 0 ? format->data_size : left;
            }
            if (format->coding != NULL && size > left) {
                return ST_FAIL(ST_ERR_CORRUPT,
                               "%s: truncated: its data (offset %lld) say %lld bytes, the file has %lld", sound->path,
                               (long long)at, (long long)size, (long long)left);
            }
            *offset_p = at + 8;
            *size_p = format->coding != NULL ? size : 0;
            return ST_OK;
        }
        const int64_t n_read = n < size ? n : size;
        if (memcmp(chunk, "fmt ", 4) == 0 && n_read >= SIZE_PLAIN) {
            format_read(chunk + 8, n_read, format);
        } else if (memcmp(chunk, "ds64", 4) == 0 && n_read >= SIZE_PLAIN) {
            format->data_size = wrk_sound_number(chunk + 16, 8);
        }
        at += 8 + size + size % 2;
    }
    return ST_OK;
}

static void pcm_close(wrk_sound_t *sound)
{
    (void)close(sound->descriptor);
}

static status_t pcm_seek(wrk_sound_t *sound, int64_t frame)
{
    sound->at = frame;
    return ST_OK;
}

static status_t pcm_read(wrk_sound_t *sound, int64_t n, float *frames)
{
    const int64_t frame_bytes = sound->coding->bits / 8 * sound->n_channels;
    const int64_t n_block = BLOCK_BYTES / frame_bytes;
    uint8_t *block = wrk_scratch_get(sound->scratch, WRK_BLOCK_FILE, BLOCK_BYTES);
    if (block == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "%s: %d bytes to read it", sound->path, (int)BLOCK_BYTES);
    }
    while (n > 0) {
        const int64_t wanted = n < n_block ? n : n_block;
        const int64_t got =
            wrk_sound_peek(sound, sound->offset + sound->at * frame_bytes, block, wanted * frame_bytes) / frame_bytes;
        sound->coding->convert(block, got * sound->n_channels, frames);
        sound->at += got;
        if (got < wanted) {
            return wrk_sound_fail_short(sound); /* it was cut while it was read */
        }
        frames += got * sound->n_channels;
        n -= got;
    }
    return ST_OK;
}

static const wrk_sound_ops_t pcm_ops = {.seek = pcm_seek, .read = pcm_read, .close = pcm_close};

status_t wrk_sound_open_pcm(wrk_sound_t *sound)
{
    const uint8_t *head = sound->head;
    pcm_format_t format = {0};
    int64_t size = 0;
    if (memcmp(head + 8, "WAVE", 4) != 0 || (memcmp(head, "RIFF", 4) != 0 && memcmp(head, "RF64", 4) != 0)) {
        return ST_OK;
    }
    status_t status = data_find(sound, &format, &sound->offset, &size);
    if (status != ST_OK || size < format.frame_bytes || size == 0) {
        return status;
    }
    sound->rate = (int32_t)format.rate;
    sound->n_channels = (int32_t)format.n_channels;
    sound->coding = format.coding;
    sound->n_frames = size / format.frame_bytes;
    sound->ops = &pcm_ops;
    return ST_OK;
}
