/* SPDX-License-Identifier: Apache-2.0 */
/* sound: finds a file's reader, after the checks that all files get. */
#include "worker/data/sound.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "worker/data/resample.h"

int64_t wrk_sound_number(const uint8_t *bytes, int n)
{
    uint64_t value = 0;
    for (int i = n - 1; i >= 0; i--) {
        value = value << 8 | bytes[i];
    }
    return value <= INT64_MAX - 8 ? (int64_t)value : INT64_MAX - 8;
}

int64_t wrk_sound_peek(const wrk_sound_t *sound, int64_t offset, void *bytes, int64_t size_bytes)
{
    int64_t got = 0;
    while (got < size_bytes) {
        ssize_t n = pread(sound->descriptor, (char *)bytes + got, (size_t)(size_bytes - got), offset + got);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            break;
        }
        got += n;
    }
    return got;
}

bool wrk_sound_is_unsaid(int64_t size)
{
    return size == UINT32_MAX || (size >= 0x7FFFF000 && size <= INT32_MAX);
}

status_t wrk_sound_fail_short(const wrk_sound_t *sound)
{
    return ST_FAIL(ST_ERR_CORRUPT, "%s: ends at frame %lld of %lld: truncated or damaged", sound->path,
                   (long long)sound->at, (long long)sound->n_frames);
}

/* What a header says of its file's size, and where; 0: nothing. RIFF has 32 bits for it, RF64 and Sony's Wave64 have
 * 64. */
static int64_t claim_find(const uint8_t *head, int *offset_p)
{
    static const char w64[16] = "riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1";
    *offset_p = memcmp(head, w64, sizeof(w64)) == 0 ? 16 : 4;
    if (*offset_p == 16) {
        return wrk_sound_number(head + 16, 8);
    }
    if (memcmp(head + 8, "WAVE", 4) != 0) {
        return 0;
    }
    if (memcmp(head, "RIFF", 4) == 0 && !wrk_sound_is_unsaid(wrk_sound_number(head + 4, 4))) {
        return wrk_sound_number(head + 4, 4) + 8;
    }
    *offset_p = 20;
    return memcmp(head, "RF64", 4) == 0 && memcmp(head + 12, "ds64", 4) == 0 ? wrk_sound_number(head + 20, 8) + 8 : 0;
}

/* libsndfile reads what is there of a truncated WAV file; here that is an error. */
static status_t size_check(const wrk_sound_t *sound)
{
    int offset = 0;
    if (sound->size_bytes < 12) {
        return ST_FAIL(ST_ERR_CORRUPT, "%s: truncated: %lld bytes", sound->path, (long long)sound->size_bytes);
    }
    const int64_t claim = claim_find(sound->head, &offset);
    if (claim > sound->size_bytes) {
        return ST_FAIL(ST_ERR_CORRUPT, "%s: truncated: its header (offset %d) says %lld bytes, the file has %lld",
                       sound->path, offset, (long long)claim, (long long)sound->size_bytes);
    }
    return ST_OK;
}

static status_t sound_check(const wrk_sound_t *sound)
{
    if (sound->n_channels < 1 || sound->n_channels > WRK_SOUND_MAX_CHANNELS) {
        return ST_FAIL(ST_ERR_DATA, "%s: %d channels; 1 … %d are read", sound->path, sound->n_channels,
                       (int)WRK_SOUND_MAX_CHANNELS);
    }
    if (sound->n_frames < 1 || sound->n_frames > WRK_RESAMPLE_MAX_FRAMES) {
        return ST_FAIL(ST_ERR_DATA, "%s: %lld frames: %s", sound->path, (long long)sound->n_frames,
                       sound->n_frames < 1 ? "there is no sound in it" : "too many");
    }
    return sound->rate > 0 ? ST_OK : ST_FAIL(ST_ERR_DATA, "%s: a rate of %d values a second", sound->path, sound->rate);
}

status_t wrk_sound_open(const char *path, wrk_scratch_t *scratch, wrk_sound_t *sound)
{
    *sound = (wrk_sound_t){.path = path, .scratch = scratch};
    status_t status = wrk_source_open(path, &sound->descriptor, &sound->size_bytes);
    if (status != ST_OK) {
        return status;
    }
    (void)wrk_sound_peek(sound, 0, sound->head, sizeof(sound->head));
    status = size_check(sound);
    if (status == ST_OK) {
        status = wrk_sound_open_pcm(sound);
    }
    if (status == ST_OK && sound->ops == NULL) {
        status = wrk_sound_open_flac(sound);
    }
    if (status != ST_OK) {
        (void)close(sound->descriptor);
        return status;
    }
    if (sound->ops == NULL) {
        status = wrk_sound_open_other(sound);
    }
    if (status != ST_OK) {
        return status;
    }
    status = sound_check(sound);
    if (status != ST_OK) {
        wrk_sound_close(sound);
    }
    return status;
}

void wrk_sound_close(wrk_sound_t *sound)
{
    sound->ops->close(sound);
}
