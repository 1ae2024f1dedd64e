/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sound: a sound file that is read from its beginning or any frame on. Internal to worker/data/.
 *
 * Three readers, asked in this order, each for what it knows by the file's content: sound_pcm.c (WAV and RF64 of whole,
 * floating-point or G.711's numbers), sound_flac.c (FLAC, by libFLAC) and sound_other.c (libsndfile: ADPCM, Wave64,
 * AIFF and more). All give the same values for the same samples.
 *
 * Note [A sound file without the heap]
 *   A training step allocates nothing. libsndfile takes its memory from the heap for each file, without a hook, so the
 *   two kinds that data sets come in are read without it: plain numbers by code of ours, and FLAC by a decoder that
 *   each thread keeps from file to file. The others cost four calls of the heap a file, in the reader's thread.
 */
#ifndef GRADD_WORKER_DATA_SOUND_H
#define GRADD_WORKER_DATA_SOUND_H

#include "worker/data/source.h"

enum { WRK_SOUND_MAX_CHANNELS = 64, WRK_SOUND_HEAD_BYTES = 42 };

typedef struct wrk_sound wrk_sound_t;
typedef struct wrk_sound_coding wrk_sound_coding_t; /* sound_pcm.c */
typedef struct wrk_sound_ops {
    /* frame < n_frames */
    status_t (*seek)(wrk_sound_t *sound, int64_t frame);
    /* frames[n, n_channels], all of them; they follow each other, or the last seek. */
    status_t (*read)(wrk_sound_t *sound, int64_t n, float *frames);
    void (*close)(wrk_sound_t *sound);
} wrk_sound_ops_t;

/* Embedded, of one thread. */
struct wrk_sound {
    const wrk_sound_ops_t *ops;
    const char *path; /* borrowed */
    wrk_scratch_t *scratch;
    int descriptor;
    int64_t size_bytes;
    uint8_t head[WRK_SOUND_HEAD_BYTES]; /* the file's first bytes, zeroes behind its end */
    int32_t rate, n_channels;
    int64_t n_frames, at;
    void *state;                      /* a reader's own */
    int64_t offset;                   /* sound_pcm.c: of the first frame */
    const wrk_sound_coding_t *coding; /* and how values are written */
    bool is_forward;                  /* sound_other.c: it can only be read on */
};

/* Opens a file of at least one frame and at most WRK_SOUND_MAX_CHANNELS, for wrk_sound_close. Errors name the path:
 * dataset.h's, ST_ERR_CORRUPT also for one that is shorter than its header says. */
status_t wrk_sound_open(const char *path, wrk_scratch_t *scratch, wrk_sound_t *sound);
void wrk_sound_close(wrk_sound_t *sound);

/* ---- the readers: each sets the sound's ops if the file is one of its kind ---- */
status_t wrk_sound_open_pcm(wrk_sound_t *sound);
status_t wrk_sound_open_flac(wrk_sound_t *sound);
/* Takes the descriptor: it is closed after a failure. */
status_t wrk_sound_open_other(wrk_sound_t *sound);

/* Reads up to size bytes at an offset; how many: fewer at the end of the file, or where it can't be read. */
int64_t wrk_sound_peek(const wrk_sound_t *sound, int64_t offset, void *bytes, int64_t size_bytes);
/* A number of n bytes, the lowest first; at most INT64_MAX - 8. */
int64_t wrk_sound_number(const uint8_t *bytes, int n);
/* Whether a size of 32 bits in a header stands for one that its writer, to a pipe, didn't know: all ones, or SoX's
 * 0x7FFFF000 (with the header's bytes behind it, in the file's own size). */
bool wrk_sound_is_unsaid(int64_t size);
/* ST_ERR_CORRUPT: the file ends at frame sound->at, before its n_frames. */
status_t wrk_sound_fail_short(const wrk_sound_t *sound);

#endif
