/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sound_flac: FLAC (RFC 9639), by a decoder of libFLAC that the thread keeps. See Note [A sound file without the heap].
 *
 *   "fLaC"  { kind (1 bit: the last one)  size (3 bytes)  bytes… }…  frames…
 *             STREAMINFO comes first: block sizes, rate, channels, bits, frames; 34 bytes
 *
 * Of the blocks of metadata the decoder is shown STREAMINFO alone, as if it were the last: it allocates for a table of
 * places to seek, and reads through pictures.
 */
#include <string.h>
#include <unistd.h>

#include <FLAC/stream_decoder.h>
#include <FLAC/stream_encoder.h>

#include "base/mem.h"
#include "worker/data/sound.h"

enum { HEAD_BYTES = WRK_SOUND_HEAD_BYTES, MAX_METADATA = 4096, IS_LAST = 0x80 };

/* What the decoder reads: head, then the bytes from an offset on, of a file or of memory. */
typedef struct flac_stream {
    uint8_t head[HEAD_BYTES];
    const wrk_sound_t *sound; /* NULL: bytes */
    const uint8_t *bytes;
    int64_t offset, size_bytes; /* of what comes behind head */
    int64_t at;                 /* head counts */
} flac_stream_t;

typedef struct flac_tool {
    FLAC__StreamDecoder *decoder;
    flac_stream_t stream;
    const char *fault; /* what the decoder said of the stream first; NULL: nothing */
    int32_t n_channels, n_bits;
    float *held; /* frames of a block that aren't given out yet, [n_held, n_channels]; lie in the scratch */
    int64_t n_held, n_given, n_room;
} flac_tool_t;

/* ---- the decoder's side ---- */

static FLAC__StreamDecoderReadStatus stream_read(const FLAC__StreamDecoder *decoder, FLAC__byte *out, size_t *size_p,
                                                 void *arg)
{
    (void)decoder;
    flac_stream_t *stream = &((flac_tool_t *)arg)->stream;
    const int64_t left = HEAD_BYTES + stream->size_bytes - stream->at;
    int64_t n = (int64_t)*size_p < left ? (int64_t)*size_p : left;
    if (n <= 0) {
        *size_p = 0;
        return FLAC__STREAM_DECODER_READ_STATUS_END_OF_STREAM;
    }
    if (stream->at < HEAD_BYTES) {
        n = n < HEAD_BYTES - stream->at ? n : HEAD_BYTES - stream->at;
        memcpy(out, stream->head + stream->at, (size_t)n);
    } else if (stream->sound == NULL) {
        memcpy(out, stream->bytes + stream->at - HEAD_BYTES, (size_t)n);
    } else {
        n = wrk_sound_peek(stream->sound, stream->offset + stream->at - HEAD_BYTES, out, n);
    }
    stream->at += n;
    *size_p = (size_t)n;
    return n > 0 ? FLAC__STREAM_DECODER_READ_STATUS_CONTINUE : FLAC__STREAM_DECODER_READ_STATUS_END_OF_STREAM;
}

static FLAC__StreamDecoderSeekStatus stream_seek(const FLAC__StreamDecoder *decoder, FLAC__uint64 at, void *arg)
{
    (void)decoder;
    flac_stream_t *stream = &((flac_tool_t *)arg)->stream;
    if (at > (FLAC__uint64)(HEAD_BYTES + stream->size_bytes)) {
        return FLAC__STREAM_DECODER_SEEK_STATUS_ERROR;
    }
    stream->at = (int64_t)at;
    return FLAC__STREAM_DECODER_SEEK_STATUS_OK;
}

static FLAC__StreamDecoderTellStatus stream_tell(const FLAC__StreamDecoder *decoder, FLAC__uint64 *at_p, void *arg)
{
    (void)decoder;
    *at_p = (FLAC__uint64)((const flac_tool_t *)arg)->stream.at;
    return FLAC__STREAM_DECODER_TELL_STATUS_OK;
}

static FLAC__StreamDecoderLengthStatus stream_length(const FLAC__StreamDecoder *decoder, FLAC__uint64 *size_p,
                                                     void *arg)
{
    (void)decoder;
    *size_p = (FLAC__uint64)(HEAD_BYTES + ((const flac_tool_t *)arg)->stream.size_bytes);
    return FLAC__STREAM_DECODER_LENGTH_STATUS_OK;
}

static FLAC__bool stream_is_at_end(const FLAC__StreamDecoder *decoder, void *arg)
{
    (void)decoder;
    const flac_stream_t *stream = &((const flac_tool_t *)arg)->stream;
    return stream->at >= HEAD_BYTES + stream->size_bytes;
}

static FLAC__StreamDecoderWriteStatus block_hold(const FLAC__StreamDecoder *decoder, const FLAC__Frame *frame,
                                                 const FLAC__int32 *const *values, void *arg)
{
    (void)decoder;
    flac_tool_t *tool = arg;
    const int64_t n = frame->header.blocksize;
    if ((int32_t)frame->header.channels != tool->n_channels || (int32_t)frame->header.bits_per_sample != tool->n_bits ||
        n > tool->n_room) {
        tool->fault = "a block of other channels, bits or size than the header's";
        return FLAC__STREAM_DECODER_WRITE_STATUS_ABORT;
    }
    const float scale = 1.0F / (float)(UINT32_C(1) << (tool->n_bits - 1));
    for (int c = 0; c < tool->n_channels; c++) {
        for (int64_t i = 0; i < n; i++) {
            tool->held[i * tool->n_channels + c] = (float)values[c][i] * scale;
        }
    }
    tool->n_held = n;
    tool->n_given = 0;
    return FLAC__STREAM_DECODER_WRITE_STATUS_CONTINUE;
}

static void fault_keep(const FLAC__StreamDecoder *decoder, FLAC__StreamDecoderErrorStatus status, void *arg)
{
    (void)decoder;
    flac_tool_t *tool = arg;
    tool->fault = tool->fault != NULL ? tool->fault : FLAC__StreamDecoderErrorStatusString[status];
}

/* ---- the tool ---- */

/* The stream from its beginning, up to the first frame. */
static bool stream_begin(flac_tool_t *tool, int32_t n_channels, int32_t n_bits, float *held, int64_t n_room)
{
    tool->stream.at = 0;
    tool->fault = NULL;
    tool->n_channels = n_channels;
    tool->n_bits = n_bits;
    tool->held = held;
    tool->n_room = n_room;
    tool->n_held = 0;
    tool->n_given = 0;
    return FLAC__stream_decoder_reset(tool->decoder) &&
           FLAC__stream_decoder_process_until_end_of_metadata(tool->decoder) && tool->fault == NULL &&
           FLAC__stream_decoder_get_state(tool->decoder) == FLAC__STREAM_DECODER_SEARCH_FOR_FRAME_SYNC;
}

/* A stream in memory, as the encoder writes it. */
typedef struct flac_sample {
    uint8_t *bytes;
    size_t n, n_max;
} flac_sample_t;

static FLAC__StreamEncoderWriteStatus sample_write(const FLAC__StreamEncoder *encoder, const FLAC__byte *bytes,
                                                   size_t n, uint32_t n_frames, uint32_t frame, void *arg)
{
    (void)encoder;
    (void)n_frames;
    (void)frame;
    flac_sample_t *sample = arg;
    if (n > sample->n_max - sample->n) {
        return FLAC__STREAM_ENCODER_WRITE_STATUS_FATAL_ERROR;
    }
    memcpy(sample->bytes + sample->n, bytes, n);
    sample->n += n;
    return FLAC__STREAM_ENCODER_WRITE_STATUS_OK;
}

/* The largest block that the format's streamable subset has up to 48,000 values a second; of noise, in as many parts
 * as it allows. */
enum { PRIMER_CHANNELS = 8, PRIMER_FRAMES = 4608, PRIMER_ORDER = 8 };

static bool primer_encode(FLAC__StreamEncoder *encoder, FLAC__int32 *values, flac_sample_t *sample)
{
    uint32_t seed = 1;
    for (int i = 0; i < PRIMER_CHANNELS * PRIMER_FRAMES; i++) {
        seed = seed * 1664525 + 1013904223;
        values[i] = (FLAC__int32)(seed >> 20) - 2048;
    }
    return FLAC__stream_encoder_set_channels(encoder, PRIMER_CHANNELS) &&
           FLAC__stream_encoder_set_blocksize(encoder, PRIMER_FRAMES) &&
           FLAC__stream_encoder_set_min_residual_partition_order(encoder, PRIMER_ORDER) &&
           FLAC__stream_encoder_set_max_residual_partition_order(encoder, PRIMER_ORDER) &&
           FLAC__stream_encoder_init_stream(encoder, sample_write, NULL, NULL, NULL, sample) ==
               FLAC__STREAM_ENCODER_INIT_STATUS_OK &&
           FLAC__stream_encoder_process_interleaved(encoder, values, PRIMER_FRAMES) &&
           FLAC__stream_encoder_finish(encoder) && sample->n > HEAD_BYTES;
}

/*
 * Decodes one block of the largest usual size: the decoder grows to it, in every thread that opens one, so that the
 * first file that a thread gets in a later step takes nothing from the heap.
 */
static bool decoder_prime(flac_tool_t *tool)
{
    flac_sample_t sample = {.n_max = sizeof(FLAC__int32) * PRIMER_CHANNELS * PRIMER_FRAMES};
    FLAC__StreamEncoder *encoder = FLAC__stream_encoder_new();
    FLAC__int32 *values = mem_alloc(sample.n_max);
    float *held = mem_alloc(sizeof(float) * PRIMER_CHANNELS * PRIMER_FRAMES);
    sample.bytes = mem_alloc(sample.n_max);
    bool is_done = encoder != NULL && values != NULL && held != NULL && sample.bytes != NULL &&
                   primer_encode(encoder, values, &sample);
    if (is_done) {
        tool->stream =
            (flac_stream_t){.bytes = sample.bytes + HEAD_BYTES, .size_bytes = (int64_t)sample.n - HEAD_BYTES};
        memcpy(tool->stream.head, sample.bytes, HEAD_BYTES);
        tool->stream.head[4] |= IS_LAST;
        is_done = stream_begin(tool, PRIMER_CHANNELS, 16, held, PRIMER_FRAMES) &&
                  FLAC__stream_decoder_process_single(tool->decoder) && tool->n_held == PRIMER_FRAMES;
    }
    mem_free(sample.bytes);
    mem_free(held);
    mem_free(values);
    if (encoder != NULL) {
        FLAC__stream_encoder_delete(encoder);
    }
    return is_done;
}

static void tool_close(void *state)
{
    flac_tool_t *tool = state;
    FLAC__stream_decoder_delete(tool->decoder);
    mem_free(tool);
}

static void *tool_open(void)
{
    flac_tool_t *tool = mem_zalloc(sizeof(*tool));
    if (tool == NULL) {
        return NULL;
    }
    tool->decoder = FLAC__stream_decoder_new();
    if (tool->decoder == NULL) {
        mem_free(tool);
        return NULL;
    }
    if (FLAC__stream_decoder_init_stream(tool->decoder, stream_read, stream_seek, stream_tell, stream_length,
                                         stream_is_at_end, block_hold, NULL, fault_keep,
                                         tool) != FLAC__STREAM_DECODER_INIT_STATUS_OK ||
        !decoder_prime(tool)) {
        tool_close(tool);
        return NULL;
    }
    return tool;
}

static const wrk_tool_ops_t tool_ops = {.open = tool_open, .close = tool_close};

/* ---- the sound ---- */

static void flac_close(wrk_sound_t *sound)
{
    (void)close(sound->descriptor);
}

static status_t flac_seek(wrk_sound_t *sound, int64_t frame)
{
    flac_tool_t *tool = sound->state;
    tool->n_held = 0;
    tool->n_given = 0;
    if (!FLAC__stream_decoder_seek_absolute(tool->decoder, (FLAC__uint64)frame) || tool->fault != NULL) {
        return ST_FAIL(ST_ERR_CORRUPT, "%s: frame %lld can't be reached: %s", sound->path, (long long)frame,
                       tool->fault != NULL ? tool->fault
                                           : FLAC__stream_decoder_get_resolved_state_string(tool->decoder));
    }
    sound->at = frame;
    return ST_OK;
}

static status_t flac_read(wrk_sound_t *sound, int64_t n, float *frames)
{
    flac_tool_t *tool = sound->state;
    while (n > 0) {
        if (tool->n_given == tool->n_held) {
            tool->n_held = 0;
            tool->n_given = 0;
            const bool is_read = FLAC__stream_decoder_process_single(tool->decoder);
            if (tool->fault != NULL) {
                return ST_FAIL(ST_ERR_CORRUPT, "%s: damaged behind frame %lld: %s", sound->path, (long long)sound->at,
                               tool->fault);
            }
            if (!is_read || tool->n_held == 0) {
                return wrk_sound_fail_short(sound);
            }
        }
        const int64_t left = tool->n_held - tool->n_given;
        const int64_t got = n < left ? n : left;
        memcpy(frames, tool->held + tool->n_given * sound->n_channels,
               (size_t)(got * sound->n_channels) * sizeof(float));
        tool->n_given += got;
        sound->at += got;
        frames += got * sound->n_channels;
        n -= got;
    }
    return ST_OK;
}

static const wrk_sound_ops_t flac_ops = {.seek = flac_seek, .read = flac_read, .close = flac_close};

/* Where the frames begin, behind all metadata. */
static status_t frames_find(const wrk_sound_t *sound, int64_t *offset_p)
{
    uint8_t block[4] = {0};
    int64_t at = 4;
    for (int i = 0; (block[0] & IS_LAST) == 0; i++) {
        if (i == MAX_METADATA || wrk_sound_peek(sound, at, block, sizeof(block)) < (int64_t)sizeof(block)) {
            return ST_FAIL(ST_ERR_CORRUPT, "%s: truncated or damaged in its metadata, at byte %lld", sound->path,
                           (long long)at);
        }
        at += (int64_t)sizeof(block) + (block[1] << 16 | block[2] << 8 | block[3]);
    }
    if (at >= sound->size_bytes) {
        return ST_FAIL(ST_ERR_CORRUPT, "%s: truncated: no frame behind its metadata, which end at byte %lld",
                       sound->path, (long long)at);
    }
    *offset_p = at;
    return ST_OK;
}

/* STREAMINFO's fields, from byte 10 of the file on: 2 bytes of block sizes; 20 bits of rate, 3 of channels less 1, 5 of
 * bits less 1, 36 of frames from byte 18 on. */
static status_t info_read(wrk_sound_t *sound, const uint8_t *head, int32_t *n_bits_p, int64_t *n_room_p)
{
    sound->rate = head[18] << 12 | head[19] << 4 | head[20] >> 4;
    sound->n_channels = (head[20] >> 1 & 7) + 1;
    sound->n_frames =
        (int64_t)(head[21] & 15) << 32 | (int64_t)head[22] << 24 | head[23] << 16 | head[24] << 8 | head[25];
    *n_bits_p = ((head[20] & 1) << 4 | head[21] >> 4) + 1;
    *n_room_p = head[10] << 8 | head[11];
    if (*n_room_p == 0) {
        return ST_FAIL(ST_ERR_CORRUPT, "%s: blocks of 0 frames", sound->path);
    }
    if (sound->n_frames == 0) {
        return ST_FAIL(ST_ERR_DATA, "%s: its header doesn't say how many frames it has: write it to a file, not a pipe",
                       sound->path);
    }
    return ST_OK;
}

status_t wrk_sound_open_flac(wrk_sound_t *sound)
{
    static const uint8_t BEGIN[] = {'f', 'L', 'a', 'C', IS_LAST, 0, 0, HEAD_BYTES - 8};
    flac_stream_t stream = {.sound = sound};
    int32_t n_bits = 0;
    int64_t n_room = 0;
    memcpy(stream.head, sound->head, HEAD_BYTES);
    stream.head[4] |= IS_LAST;
    if (memcmp(stream.head, BEGIN, sizeof(BEGIN)) != 0 || sound->size_bytes < HEAD_BYTES) {
        return ST_OK;
    }
    status_t status = info_read(sound, stream.head, &n_bits, &n_room);
    if (status == ST_OK) {
        status = frames_find(sound, &stream.offset);
    }
    if (status != ST_OK) {
        return status;
    }
    stream.size_bytes = sound->size_bytes - stream.offset;
    flac_tool_t *tool = wrk_scratch_tool(sound->scratch, WRK_TOOL_FLAC, &tool_ops);
    float *held =
        wrk_scratch_get(sound->scratch, WRK_BLOCK_SOUND, (size_t)n_room * (size_t)sound->n_channels * sizeof(float));
    if (tool == NULL || held == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "%s: blocks of %lld frames", sound->path, (long long)n_room);
    }
    tool->stream = stream;
    if (!stream_begin(tool, sound->n_channels, n_bits, held, n_room)) {
        return ST_FAIL(ST_ERR_CORRUPT, "%s: not a FLAC file that can be read: %s", sound->path,
                       tool->fault != NULL ? tool->fault
                                           : FLAC__stream_decoder_get_resolved_state_string(tool->decoder));
    }
    sound->state = tool;
    sound->ops = &flac_ops;
    return ST_OK;
}
