/* SPDX-License-Identifier: Apache-2.0 */
/* sound_other: whatever else libsndfile knows. */
#include <sndfile.h>

#include "worker/data/sound.h"

enum { BLOCK_VALUES = 4096 };

static status_t other_read(wrk_sound_t *sound, int64_t n, float *frames)
{
    for (int64_t done = 0; done < n;) {
        const int64_t got = sf_readf_float(sound->state, frames + done * sound->n_channels, n - done);
        if (got <= 0) {
            return wrk_sound_fail_short(sound);
        }
        done += got;
        sound->at += got;
    }
    return ST_OK;
}

/* Reads up to a frame ahead and forgets it. */
static status_t frames_drop(wrk_sound_t *sound, int64_t n)
{
    const int64_t n_block = BLOCK_VALUES / sound->n_channels;
    float *block = wrk_scratch_get(sound->scratch, WRK_BLOCK_SOUND, BLOCK_VALUES * sizeof(float));
    status_t status = block != NULL ? ST_OK : ST_FAIL(ST_ERR_NOMEM, "%s: to read through it", sound->path);
    for (int64_t left = n; left > 0 && status == ST_OK; left -= n_block) {
        status = other_read(sound, left < n_block ? left : n_block, block);
    }
    return status;
}

static status_t other_seek(wrk_sound_t *sound, int64_t frame)
{
    if (sound->is_forward && frame >= sound->at) { /* GSM 6.10 in WAV */
        return frames_drop(sound, frame - sound->at);
    }
    if (sf_seek(sound->state, frame, SEEK_SET) != frame) {
        return ST_FAIL(ST_ERR_CORRUPT, "%s: frame %lld can't be reached: %s", sound->path, (long long)frame,
                       sf_strerror(sound->state));
    }
    sound->at = frame;
    return ST_OK;
}

static void other_close(wrk_sound_t *sound)
{
    (void)sf_close(sound->state);
}

static const wrk_sound_ops_t other_ops = {.seek = other_seek, .read = other_read, .close = other_close};

status_t wrk_sound_open_other(wrk_sound_t *sound)
{
    SF_INFO info = {0};
    sound->state = sf_open_fd(sound->descriptor, SFM_READ, &info, SF_TRUE);
    if (sound->state == NULL) {
        return ST_FAIL(ST_ERR_CORRUPT, "%s: not a sound file that can be read: %s", sound->path, sf_strerror(NULL));
    }
    sound->rate = info.samplerate;
    sound->n_channels = info.channels;
    sound->n_frames = info.frames;
    sound->is_forward = info.seekable == SF_FALSE;
    sound->ops = &other_ops;
    return ST_OK;
}
