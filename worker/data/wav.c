/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wav: sound files (WAV, FLAC; see sound.h) as images [1, 1, length] of values -1 … 1: channels mixed to one,
 * cut or filled with zeroes to one length. The class is the folder, or the name's part before the first `_`. A file is
 * decoded when its sample is read; one of another sample rate is resampled then (resample.h), before it is cut.
 */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "worker/data/files_by_class.h"
#include "worker/data/resample.h"
#include "worker/data/sound.h"

enum { BLOCK_FRAMES = 4096 };

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

/* Where frames go: as they are, or through a resampler. */
typedef struct wav_sink {
    float *out;
    wrk_resampler_t *resampler; /* NULL: none */
    float mixed[BLOCK_FRAMES];
} wav_sink_t;

/* Reads n frames from the sound's place on, mixed to one channel. */
static status_t frames_mix(wrk_sound_t *sound, int64_t n, float *block, wav_sink_t *sink)
{
    const int n_channels = sound->n_channels;
    for (int64_t at = 0; at < n;) {
        const int64_t got = n - at < BLOCK_FRAMES ? n - at : BLOCK_FRAMES;
        status_t status = sound->ops->read(sound, got, block);
        float *out = sink->resampler != NULL ? sink->mixed : sink->out + at;
        for (int64_t i = 0; i < got && status == ST_OK; i++) {
            float sum = 0;
            for (int c = 0; c < n_channels; c++) {
                float value = block[i * n_channels + c];
                if (!isfinite(value)) {
                    return ST_FAIL(ST_ERR_DATA, "%s: frame %lld, channel %d is not a finite number", sound->path,
                                   (long long)(sound->at - got + i), c);
                }
                sum += value;
            }
            if (!isfinite(sum)) {
                return ST_FAIL(ST_ERR_DATA, "%s: frame %lld: the sum of its channels is beyond 32 bits", sound->path,
                               (long long)(sound->at - got + i));
            }
            out[i] = sum / (float)n_channels;
        }
        if (status != ST_OK) {
            return status;
        }
        status = sink->resampler != NULL ? wrk_resampler_feed(sink->resampler, out, got) : ST_OK;
        if (status != ST_OK) {
            return status_add_context(status, "%s", sound->path);
        }
        at += got;
    }
    return ST_OK;
}

/* The part of the sound that is kept, at the dataset's rate. */
static status_t part_read(const wav_dataset_t *wav, wrk_sound_t *sound, float *out)
{
    bool is_other = sound->rate != wav->rate;
    status_t status = is_other ? wrk_resample_check(sound->rate, wav->rate) : ST_OK;
    if (status != ST_OK) {
        return status_add_context(status, "%s", sound->path);
    }
    int64_t count = is_other ? wrk_resample_count(sound->rate, wav->rate, sound->n_frames) : sound->n_frames;
    int64_t n = count < wav->length ? count : wav->length;
    int64_t skip = wav->is_centred ? (count - n) / 2 : 0;
    int64_t before = wav->is_centred ? (wav->length - n) / 2 : 0;
    size_t block_bytes = (size_t)BLOCK_FRAMES * (size_t)sound->n_channels * sizeof(float);
    wav_sink_t *sink = wrk_scratch_get(sound->scratch, WRK_BLOCK_ROWS, sizeof(*sink) + block_bytes);
    if (sink == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "%s: %d channels", sound->path, sound->n_channels);
    }
    memset(out, 0, (size_t)wav->length * sizeof(float));
    sink->out = out + before;
    sink->resampler = NULL;
    wrk_resample_window_t window = {.first = skip, .n_frames = n};
    if (is_other) {
        window = wrk_resample_window(sound->rate, wav->rate, sound->n_frames, skip, n);
        status = wrk_resampler_begin(&window, sound->scratch, sink->out, &sink->resampler);
    }
    if (status == ST_OK && window.first > 0) {
        status = sound->ops->seek(sound, window.first);
    }
    if (status == ST_OK) {
        status = frames_mix(sound, window.n_frames, (float *)(sink + 1), sink);
    }
    return status;
}

static status_t wav_decode(const wrk_dataset_t *dataset, int64_t index, wrk_scratch_t *scratch, wrk_image_t *image,
                           int64_t *label_p)
{
    const wav_dataset_t *wav = (const wav_dataset_t *)dataset;
    const char *path = wav->files.path[index];
    wrk_sound_t sound;
    *image = (wrk_image_t){wrk_scratch_get(scratch, WRK_BLOCK_IMAGE, (size_t)wav->length * sizeof(float)), 1, 1,
                           wav->length};
    *label_p = wav->files.label[index];
    if (image->data == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "%s: %lld values", path, (long long)wav->length);
    }
    status_t status = wrk_sound_open(path, scratch, &sound);
    if (status == ST_OK) {
        status = part_read(wav, &sound, image->data);
        wrk_sound_close(&sound);
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
    wrk_scratch_t scratch = {0};
    wrk_sound_t sound;
    wav->rate = spec->rate;
    if (spec->rate > 0) {
        return ST_OK;
    }
    status_t status = wrk_sound_open(wav->files.path[0], &scratch, &sound);
    if (status == ST_OK) {
        wav->rate = sound.rate;
        wrk_sound_close(&sound);
    }
    wrk_scratch_release(&scratch);
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
