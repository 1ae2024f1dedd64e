/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wav: sound files (WAV, FLAC) through libsndfile, as images [1, 1, length] of values -1 … 1: channels mixed to one,
 * cut or filled with zeroes to one length. The class is the folder, or the name's part before the first `_`. A file is
 * decoded when its sample is read; one of another sample rate is resampled then (resample.h), before it is cut.
 */
#include <math.h>
#include <string.h>
#include <unistd.h>

#include <sndfile.h>

#include "base/mem.h"
#include "worker/data/files_by_class.h"
#include "worker/data/resample.h"

enum { MAX_CHANNELS = 64, BLOCK_FRAMES = 4096 };

typedef struct wav_dataset {
    wrk_dataset_t base;
    wrk_class_files_t files;
    int64_t length;
    int32_t rate;
    bool is_centred;
} wav_dataset_t;

static void wav_close(wrk_dataset_t *dataset)
{
    wav_dataset_t *wav = (wav_dataset_t *)dataset;
    wrk_class_files_release(&wav->files);
    wrk_dataset_release(dataset);
    mem_free(wav);
}

static int64_t number_get(const uint8_t *bytes, int n)
{
    uint64_t value = 0;
    for (int i = n - 1; i >= 0; i--) {
        value = value << 8 | bytes[i];
    }
    return value <= INT64_MAX - 8 ? (int64_t)value : INT64_MAX - 8;
}

/* What a header says of its file's size, and where; 0: nothing. RIFF has 32 bits for it (all of them set by who writes
 * to a pipe), RF64 and Sony's Wave64 have 64. */
static int64_t claim_find(const uint8_t *head, size_t size, int *offset_p)
{
    static const char w64[16] = "riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1";
    *offset_p = size >= 24 && memcmp(head, w64, sizeof(w64)) == 0 ? 16 : 4;
    if (*offset_p == 16) {
        return number_get(head + 16, 8);
    }
    if (size < 12 || memcmp(head + 8, "WAVE", 4) != 0) {
        return 0;
    }
    if (memcmp(head, "RIFF", 4) == 0 && number_get(head + 4, 4) != UINT32_MAX) {
        return number_get(head + 4, 4) + 8;
    }
    *offset_p = 20;
    return memcmp(head, "RF64", 4) == 0 && size >= 28 && memcmp(head + 12, "ds64", 4) == 0
               ? number_get(head + 20, 8) + 8
               : 0;
}

/* libsndfile reads what is there of a truncated WAV file; here that is an error. */
static status_t riff_check(const char *path, int descriptor, int64_t size_bytes)
{
    uint8_t head[28];
    int offset = 0;
    const ssize_t n = pread(descriptor, head, sizeof(head), 0);
    if (n < 12) {
        return ST_FAIL(ST_ERR_CORRUPT, "%s: truncated: %lld bytes", path, (long long)size_bytes);
    }
    const int64_t claim = claim_find(head, (size_t)n, &offset);
    if (claim > size_bytes) {
        return ST_FAIL(ST_ERR_CORRUPT, "%s: truncated: its header (offset %d) says %lld bytes, the file has %lld", path,
                       offset, (long long)claim, (long long)size_bytes);
    }
    return ST_OK;
}

static status_t sound_open(const char *path, SF_INFO *info, SNDFILE **sound_p)
{
    int descriptor = -1;
    int64_t size_bytes = 0;
    status_t status = wrk_source_open(path, &descriptor, &size_bytes);
    if (status != ST_OK) {
        return status;
    }
    status = riff_check(path, descriptor, size_bytes);
    if (status != ST_OK) {
        (void)close(descriptor);
        return status;
    }
    *info = (SF_INFO){0};
    SNDFILE *sound = sf_open_fd(descriptor, SFM_READ, info, SF_TRUE);
    if (sound == NULL) {
        return ST_FAIL(ST_ERR_CORRUPT, "%s: not a sound file that can be read: %s", path, sf_strerror(NULL));
    }
    if (info->channels < 1 || info->channels > MAX_CHANNELS || info->frames < 1 ||
        info->frames > WRK_RESAMPLE_MAX_FRAMES || info->samplerate < 1) {
        status = ST_FAIL(ST_ERR_DATA,
                         "%s: %d channels of %lld frames, %d a second; 1 … %d channels with something in them are read",
                         path, info->channels, (long long)info->frames, info->samplerate, (int)MAX_CHANNELS);
        (void)sf_close(sound);
        return status;
    }
    *sound_p = sound;
    return ST_OK;
}

/* Where frames go: as they are, or through a resampler. */
typedef struct wav_sink {
    float *out;
    wrk_resampler_t *resampler; /* NULL: none */
    float mixed[BLOCK_FRAMES];
} wav_sink_t;

/* Reads n frames from the sound's place on, mixed to one channel. */
static status_t frames_mix(const char *path, SNDFILE *sound, int n_channels, int64_t n, float *block, wav_sink_t *sink)
{
    for (int64_t at = 0; at < n;) {
        int64_t wanted = n - at < BLOCK_FRAMES ? n - at : BLOCK_FRAMES;
        int64_t got = sf_readf_float(sound, block, wanted);
        if (got <= 0) {
            return ST_FAIL(ST_ERR_CORRUPT, "%s: ends at frame %lld of %lld: truncated or damaged", path, (long long)at,
                           (long long)n);
        }
        float *out = sink->resampler != NULL ? sink->mixed : sink->out + at;
        for (int64_t i = 0; i < got; i++) {
            float sum = 0;
            for (int c = 0; c < n_channels; c++) {
                float value = block[i * n_channels + c];
                if (!isfinite(value)) {
                    return ST_FAIL(ST_ERR_DATA, "%s: frame %lld, channel %d is not a finite number", path,
                                   (long long)(at + i), c);
                }
                sum += value;
            }
            out[i] = sum / (float)n_channels;
        }
        status_t status = sink->resampler != NULL ? wrk_resampler_feed(sink->resampler, out, got) : ST_OK;
        if (status != ST_OK) {
            return status_add_context(status, "%s", path);
        }
        at += got;
    }
    return ST_OK;
}

/* The part of the sound that is kept, at the dataset's rate. */
static status_t sound_read(const wav_dataset_t *wav, const char *path, SNDFILE *sound, const SF_INFO *info,
                           wrk_scratch_t *scratch, float *out)
{
    bool is_other = info->samplerate != wav->rate;
    status_t status = is_other ? wrk_resample_check(info->samplerate, wav->rate) : ST_OK;
    if (status != ST_OK) {
        return status_add_context(status, "%s", path);
    }
    int64_t count = is_other ? wrk_resample_count(info->samplerate, wav->rate, info->frames) : info->frames;
    int64_t n = count < wav->length ? count : wav->length;
    int64_t skip = wav->is_centred ? (count - n) / 2 : 0;
    int64_t before = wav->is_centred ? (wav->length - n) / 2 : 0;
    size_t block_bytes = (size_t)BLOCK_FRAMES * (size_t)info->channels * sizeof(float);
    wav_sink_t *sink = wrk_scratch_get(scratch, WRK_BLOCK_ROWS, sizeof(*sink) + block_bytes);
    if (sink == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "%s: %d channels", path, info->channels);
    }
    memset(out, 0, (size_t)wav->length * sizeof(float));
    sink->out = out + before;
    sink->resampler = NULL;
    wrk_resample_window_t window = {.first = skip, .n_frames = n};
    if (is_other) {
        window = wrk_resample_window(info->samplerate, wav->rate, info->frames, skip, n);
        status = wrk_resampler_open(&window, sink->out, &sink->resampler);
    }
    if (status == ST_OK && window.first > 0 && sf_seek(sound, window.first, SF_SEEK_SET) != window.first) {
        status = ST_FAIL(ST_ERR_CORRUPT, "%s: frame %lld can't be reached: %s", path, (long long)window.first,
                         sf_strerror(sound));
    }
    if (status == ST_OK) {
        status = frames_mix(path, sound, info->channels, window.n_frames, (float *)(sink + 1), sink);
    }
    wrk_resampler_close(sink->resampler);
    return status;
}

static status_t wav_decode(const wrk_dataset_t *dataset, int64_t index, wrk_scratch_t *scratch, wrk_image_t *image,
                           int64_t *label_p)
{
    const wav_dataset_t *wav = (const wav_dataset_t *)dataset;
    const char *path = wav->files.path[index];
    SF_INFO info;
    SNDFILE *sound = NULL;
    *image = (wrk_image_t){wrk_scratch_get(scratch, WRK_BLOCK_IMAGE, (size_t)wav->length * sizeof(float)), 1, 1,
                           wav->length};
    *label_p = wav->files.label[index];
    if (image->data == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "%s: %lld values", path, (long long)wav->length);
    }
    status_t status = sound_open(path, &info, &sound);
    if (status == ST_OK) {
        status = sound_read(wav, path, sound, &info, scratch, image->data);
        (void)sf_close(sound);
    }
    return status;
}

static void wav_locate(const wrk_dataset_t *dataset, int64_t index, strbuf_t *place)
{
    strbuf_append(place, ((const wav_dataset_t *)dataset)->files.path[index]);
}

static status_t wav_check_classes(const wrk_dataset_t *dataset, int64_t n_classes)
{
    const wav_dataset_t *wav = (const wav_dataset_t *)dataset;
    return ST_FAIL(ST_ERR_DATA, "%s: %lld classes; the model has %lld", wav->files.root, (long long)dataset->n_classes,
                   (long long)n_classes);
}

static const wrk_dataset_ops_t wav_ops = {
    .close = wav_close,
    .decode = wav_decode,
    .locate = wav_locate,
    .check_classes = wav_check_classes,
};

/* The first file's sample rate, unless the job names one. */
static status_t rate_find(wav_dataset_t *wav, const Gradd__V1__Wav *spec)
{
    SF_INFO info;
    SNDFILE *sound = NULL;
    wav->rate = spec->rate;
    status_t status = spec->rate > 0 ? ST_OK : sound_open(wav->files.path[0], &info, &sound);
    if (status == ST_OK && sound != NULL) {
        wav->rate = info.samplerate;
        (void)sf_close(sound);
    }
    return status;
}

status_t wrk_wav_open(const Gradd__V1__Wav *spec, const wrk_dataset_options_t *options, wrk_dataset_t **dataset_p)
{
    static const char *const endings[] = {".wav", ".flac"};
    wrk_name_filter_t filter = {endings, 2, spec->match, spec->n_match, "sound files (.wav, .flac)"};
    bool is_named = spec->class_from == GRADD__V1__WAV__CLASS_FROM__name;
    if (spec->path == NULL || spec->length < 1) {
        return ST_FAIL(ST_ERR_INVAL, "wav.%s is missing", spec->path == NULL ? "path" : "length");
    }
    wav_dataset_t *wav = mem_zalloc(sizeof(*wav));
    if (wav == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "dataset");
    }
    wrk_image_t size = {NULL, 1, 1, spec->length};
    wav->base.ops = &wav_ops;
    wav->length = spec->length;
    wav->is_centred = spec->keep == GRADD__V1__WAV__KEEP__middle;
    status_t status = is_named ? wrk_class_files_find_named(spec->path, &filter, &wav->files)
                               : wrk_class_files_find(spec->path, &filter, &wav->files);
    if (status == ST_OK) {
        status = wrk_class_files_number(&wav->files, options->like, &wav->base);
    }
    if (status == ST_OK) {
        status = rate_find(wav, spec);
    }
    if (status == ST_OK) {
        status = wrk_dataset_augment(&wav->base, spec->augment, spec->n_augment, &size);
    }
    if (status != ST_OK) {
        wav_close(&wav->base);
        return status;
    }
    *dataset_p = &wav->base;
    return ST_OK;
}
