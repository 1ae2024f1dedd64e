/* SPDX-License-Identifier: Apache-2.0 */
/* resample: libsamplerate, fed part by part; which frames a window of the result needs. */
#include "worker/data/resample.h"

#include <string.h>

#include <samplerate.h>

#include "base/mem.h"

/* Frames of the slower of the two rates that a value's filter reaches to either side: libsamplerate's medium filter
 * ends after 46 (src_sinc.c, mid_qual_coeffs.h: 22,437 coefficients, 491 a frame). */
enum { CONVERTER = SRC_SINC_MEDIUM_QUALITY, REACH = 48, BLOCK_VALUES = 4096 };

struct wrk_resampler {
    SRC_STATE *state;
    wrk_resample_window_t window;
    float *out;
    int64_t n_fed, n_made; /* made: with the skipped ones */
    float block[BLOCK_VALUES];
};

static int64_t divisor_of(int64_t a, int64_t b)
{
    while (b != 0) {
        int64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

/* n · to / from, rounded down, without overflow. */
static int64_t scale(int64_t n, int64_t to, int64_t from)
{
    return n / from * to + n % from * to / from;
}

status_t wrk_resample_check(int32_t from, int32_t to)
{
    if (from > 0 && to > 0 && src_is_valid_ratio((double)to / from)) {
        return ST_OK;
    }
    return ST_FAIL(ST_ERR_DATA, "%d values a second can't become %d: at most 256 times as many or as few", from, to);
}

int64_t wrk_resample_count(int32_t from, int32_t to, int64_t n_frames)
{
    return scale(n_frames, to, from) + (n_frames % from * to % from > 0);
}

wrk_resample_window_t wrk_resample_window(int32_t from, int32_t to, int64_t n_frames, int64_t at, int64_t n)
{
    int64_t reach = REACH * (int64_t)(from > to ? (from + to - 1) / to : 1);
    int64_t period = from / divisor_of(from, to); /* frames from one that a value stands at to the next such */
    int64_t first = scale(at, from, to) - reach;
    first = first > 0 ? first / period * period : 0;
    int64_t end = scale(at + n - 1, from, to) + 2 + reach;
    end = end < n_frames ? end : n_frames;
    return (wrk_resample_window_t){from, to, first, end - first, at - scale(first, to, from), n};
}

static void resampler_close(void *tool)
{
    wrk_resampler_t *resampler = tool;
    (void)src_delete(resampler->state);
    mem_free(resampler);
}

static void *resampler_open(void)
{
    int code = 0;
    wrk_resampler_t *resampler = mem_zalloc(sizeof(*resampler));
    if (resampler == NULL) {
        return NULL;
    }
    resampler->state = src_new(CONVERTER, 1, &code);
    if (resampler->state == NULL) {
        mem_free(resampler);
        return NULL;
    }
    return resampler;
}

static const wrk_tool_ops_t resampler_ops = {.open = resampler_open, .close = resampler_close};

status_t wrk_resampler_begin(const wrk_resample_window_t *window, wrk_scratch_t *scratch, float *out,
                             wrk_resampler_t **resampler_p)
{
    wrk_resampler_t *resampler = wrk_scratch_tool(scratch, WRK_TOOL_RESAMPLER, &resampler_ops);
    if (resampler == NULL || src_reset(resampler->state) != 0) {
        return ST_FAIL(ST_ERR_NOMEM, "resampling");
    }
    resampler->window = *window;
    resampler->out = out;
    resampler->n_fed = 0;
    resampler->n_made = 0;
    memset(out, 0, (size_t)window->n * sizeof(float));
    *resampler_p = resampler;
    return ST_OK;
}

/* Of a block of n values, what lies in the window. */
static void block_keep(wrk_resampler_t *resampler, int64_t n)
{
    int64_t at = resampler->n_made - resampler->window.skip; /* of the block, in the window */
    int64_t from = at < 0 ? -at : 0;
    int64_t end = resampler->window.n - at < n ? resampler->window.n - at : n;
    if (end > from) {
        memcpy(resampler->out + at + from, resampler->block + from, (size_t)(end - from) * sizeof(float));
    }
    resampler->n_made += n;
}

status_t wrk_resampler_feed(wrk_resampler_t *resampler, const float *frames, int64_t n)
{
    resampler->n_fed += n;
    SRC_DATA data = {.data_in = frames,
                     .input_frames = n,
                     .data_out = resampler->block,
                     .output_frames = BLOCK_VALUES,
                     .end_of_input = resampler->n_fed >= resampler->window.n_frames,
                     .src_ratio = (double)resampler->window.to / resampler->window.from};
    do {
        int code = src_process(resampler->state, &data);
        if (code != 0) {
            return ST_FAIL(ST_ERR_DATA, "resampling from %d to %d values a second: %s", resampler->window.from,
                           resampler->window.to, src_strerror(code));
        }
        block_keep(resampler, data.output_frames_gen);
        data.data_in += data.input_frames_used;
        data.input_frames -= data.input_frames_used;
    } while (data.input_frames > 0 || data.output_frames_gen > 0);
    return ST_OK;
}
