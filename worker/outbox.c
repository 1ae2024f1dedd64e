/* SPDX-License-Identifier: Apache-2.0 */
/* outbox: a ring of points, a short queue of numbered messages over it. */
#include "worker/outbox.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/arena.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "worker/text.h"

static const size_t MAX_TEXT_BYTES = (size_t)256 * 1024;
static const size_t MAX_NOTE_BYTES = 2048;

/* A message that was made: points [first, last) of the ring, by running index. */
typedef struct frame {
    int64_t sequence;
    uint64_t first;
    uint64_t last;
    char *note; /* owned, NULL: none */
    char *text;
} frame_t;

struct wrk_outbox {
    pthread_mutex_t lock;
    wrk_point_t *points; /* ring: index modulo WRK_OUTBOX_POINTS */
    uint64_t tail;       /* oldest kept */
    uint64_t framed;     /* first not yet in a message */
    uint64_t head;       /* next to be written */
    frame_t frames[WRK_OUTBOX_IN_FLIGHT];
    int n_frames;
    int n_sent; /* of frames, on this connection */
    int64_t next_sequence;
    char *notes[WRK_OUTBOX_NOTES];
    int n_notes;
    char *text;
    int64_t step;
    int64_t steps_total;
    const char *phase;
    bool is_changed; /* since the newest message */
    char fingerprint[WRK_MAX_FINGERPRINT];
    wrk_checkpoint_t *checkpoints;
    int n_checkpoints;
    char directory[1024];
    int64_t n_dropped;
    /* the message handed out last */
    arena_t arena;
    Gradd__V1__Telemetry message;
    Gradd__V1__MetricPoint message_points[WRK_OUTBOX_MESSAGE_POINTS];
    Gradd__V1__MetricPoint *message_point_list[WRK_OUTBOX_MESSAGE_POINTS];
    Gradd__V1__CheckpointInfo message_checkpoints[WRK_MAX_CHECKPOINTS];
    Gradd__V1__CheckpointInfo *message_checkpoint_list[WRK_MAX_CHECKPOINTS];
};

status_t wrk_outbox_open(wrk_outbox_t **outbox_p)
{
    wrk_outbox_t *outbox = mem_zalloc(sizeof(*outbox));
    if (outbox == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "telemetry outbox");
    }
    outbox->points = mem_calloc(WRK_OUTBOX_POINTS, sizeof(*outbox->points));
    outbox->checkpoints = mem_calloc(WRK_MAX_CHECKPOINTS, sizeof(*outbox->checkpoints));
    if (outbox->points == NULL || outbox->checkpoints == NULL) {
        mem_free(outbox->points);
        mem_free(outbox->checkpoints);
        mem_free(outbox);
        return ST_FAIL(ST_ERR_NOMEM, "telemetry outbox of %d points", WRK_OUTBOX_POINTS);
    }
    (void)pthread_mutex_init(&outbox->lock, NULL);
    arena_init(&outbox->arena, 0);
    outbox->next_sequence = 1;
    *outbox_p = outbox;
    return ST_OK;
}

void wrk_outbox_close(wrk_outbox_t *outbox)
{
    if (outbox == NULL) {
        return;
    }
    for (int i = 0; i < outbox->n_frames; i++) {
        mem_free(outbox->frames[i].note);
        mem_free(outbox->frames[i].text);
    }
    for (int i = 0; i < outbox->n_notes; i++) {
        mem_free(outbox->notes[i]);
    }
    mem_free(outbox->text);
    mem_free(outbox->points);
    mem_free(outbox->checkpoints);
    arena_release(&outbox->arena);
    (void)pthread_mutex_destroy(&outbox->lock);
    mem_free(outbox);
}

/* ---- putting in ---- */

bool wrk_outbox_progress(wrk_outbox_t *outbox, int64_t step, int64_t steps_total, const char *phase)
{
    (void)pthread_mutex_lock(&outbox->lock);
    /* the first step finished is a new phase too */
    bool is_urgent = outbox->phase == NULL || strcmp(outbox->phase, phase) != 0;
    outbox->step = step;
    outbox->steps_total = steps_total;
    outbox->phase = phase;
    outbox->is_changed = true;
    (void)pthread_mutex_unlock(&outbox->lock);
    return is_urgent;
}

bool wrk_outbox_points(wrk_outbox_t *outbox, const wrk_point_t *points, int n)
{
    (void)pthread_mutex_lock(&outbox->lock);
    for (int i = 0; i < n; i++) {
        if (outbox->head - outbox->tail == WRK_OUTBOX_POINTS) {
            outbox->tail++;
            outbox->n_dropped++;
            outbox->framed = outbox->framed < outbox->tail ? outbox->tail : outbox->framed;
        }
        outbox->points[outbox->head % WRK_OUTBOX_POINTS] = points[i];
        outbox->head++;
    }
    (void)pthread_mutex_unlock(&outbox->lock);
    return false;
}

bool wrk_outbox_checkpoints(wrk_outbox_t *outbox, const wrk_checkpoint_t *list, int n, const char *directory)
{
    (void)pthread_mutex_lock(&outbox->lock);
    outbox->n_checkpoints = n < WRK_MAX_CHECKPOINTS ? n : WRK_MAX_CHECKPOINTS;
    memcpy(outbox->checkpoints, list + n - outbox->n_checkpoints,
           (size_t)outbox->n_checkpoints * sizeof(*outbox->checkpoints));
    (void)snprintf(outbox->directory, sizeof(outbox->directory), "%s", directory);
    outbox->is_changed = true;
    (void)pthread_mutex_unlock(&outbox->lock);
    return true;
}

bool wrk_outbox_fingerprint(wrk_outbox_t *outbox, const char *fingerprint)
{
    (void)pthread_mutex_lock(&outbox->lock);
    (void)snprintf(outbox->fingerprint, sizeof(outbox->fingerprint), "%s", fingerprint);
    outbox->is_changed = true;
    (void)pthread_mutex_unlock(&outbox->lock);
    return true;
}

bool wrk_outbox_note(wrk_outbox_t *outbox, const char *text)
{
    size_t length = strlen(text);
    strbuf_t clean = {0};
    wrk_text_append(&clean, text, length < MAX_NOTE_BYTES ? length : MAX_NOTE_BYTES);
    char *copy = strbuf_detach(&clean);
    (void)pthread_mutex_lock(&outbox->lock);
    if (copy != NULL && outbox->n_notes < WRK_OUTBOX_NOTES) {
        outbox->notes[outbox->n_notes++] = copy;
        copy = NULL;
    }
    (void)pthread_mutex_unlock(&outbox->lock);
    mem_free(copy);
    return true;
}

bool wrk_outbox_text(wrk_outbox_t *outbox, const char *text)
{
    size_t length = strlen(text);
    strbuf_t clean = {0};
    wrk_text_append(&clean, text, length < MAX_TEXT_BYTES ? length : MAX_TEXT_BYTES);
    char *copy = strbuf_detach(&clean);
    (void)pthread_mutex_lock(&outbox->lock);
    char *before = outbox->text;
    outbox->text = copy;
    (void)pthread_mutex_unlock(&outbox->lock);
    mem_free(before);
    return true;
}

void wrk_outbox_touch(wrk_outbox_t *outbox)
{
    (void)pthread_mutex_lock(&outbox->lock);
    outbox->is_changed = true;
    (void)pthread_mutex_unlock(&outbox->lock);
}

/* ---- taking out ---- */

static bool outbox_has_more(const wrk_outbox_t *outbox)
{
    return outbox->is_changed || outbox->framed < outbox->head || outbox->n_notes > 0 || outbox->text != NULL;
}

/* Makes a numbered message of what waits. */
static void frame_make(wrk_outbox_t *outbox)
{
    frame_t *frame = &outbox->frames[outbox->n_frames++];
    uint64_t n = outbox->head - outbox->framed;
    n = n < WRK_OUTBOX_MESSAGE_POINTS ? n : WRK_OUTBOX_MESSAGE_POINTS;
    *frame = (frame_t){
        .sequence = outbox->next_sequence++, .first = outbox->framed, .last = outbox->framed + n, .text = outbox->text};
    outbox->framed += n;
    outbox->text = NULL;
    if (outbox->n_notes > 0) {
        frame->note = outbox->notes[0];
        outbox->n_notes--;
        memmove(outbox->notes, outbox->notes + 1, (size_t)outbox->n_notes * sizeof(outbox->notes[0]));
    }
    outbox->is_changed = false;
}

static void message_points_fill(wrk_outbox_t *outbox, const frame_t *frame)
{
    size_t n = 0;
    for (uint64_t at = frame->first < outbox->tail ? outbox->tail : frame->first; at < frame->last; at++) {
        const wrk_point_t *point = &outbox->points[at % WRK_OUTBOX_POINTS];
        Gradd__V1__MetricPoint *out = &outbox->message_points[n];
        gradd__v1__metric_point__init(out);
        out->name = arena_strdup(&outbox->arena, point->name);
        out->has_step = 1;
        out->step = point->step;
        out->has_value = 1;
        out->value = point->value;
        out->has_unix_ns = 1;
        out->unix_ns = point->unix_ns;
        outbox->message_point_list[n] = out;
        n++;
    }
    outbox->message.n_points = n;
    outbox->message.points = outbox->message_point_list;
}

static void message_checkpoints_fill(wrk_outbox_t *outbox)
{
    for (int i = 0; i < outbox->n_checkpoints; i++) {
        const wrk_checkpoint_t *checkpoint = &outbox->checkpoints[i];
        Gradd__V1__CheckpointInfo *out = &outbox->message_checkpoints[i];
        char path[sizeof(outbox->directory) + 64];
        gradd__v1__checkpoint_info__init(out);
        (void)snprintf(path, sizeof(path), "%s/checkpoints/step-%08lld", outbox->directory,
                       (long long)checkpoint->step);
        out->has_step = 1;
        out->step = checkpoint->step;
        out->path = arena_strdup(&outbox->arena, path);
        out->parameters_sha256 = arena_strdup(&outbox->arena, checkpoint->parameters_sha256);
        out->has_size_bytes = 1;
        out->size_bytes = checkpoint->size_bytes;
        out->has_unix_ns = 1;
        out->unix_ns = checkpoint->unix_ns;
        outbox->message_checkpoint_list[i] = out;
    }
    outbox->message.n_checkpoints = (size_t)outbox->n_checkpoints;
    outbox->message.checkpoints = outbox->message_checkpoint_list;
}

static void message_fill(wrk_outbox_t *outbox, const frame_t *frame)
{
    Gradd__V1__Telemetry *message = &outbox->message;
    arena_reset(&outbox->arena);
    gradd__v1__telemetry__init(message);
    message->has_sequence = 1;
    message->sequence = frame->sequence;
    message->has_step = 1;
    message->step = outbox->step;
    message->has_steps_total = 1;
    message->steps_total = outbox->steps_total;
    message->phase = arena_strdup(&outbox->arena, outbox->phase != NULL ? outbox->phase : "starting");
    if (outbox->fingerprint[0] != '\0') {
        message->fingerprint = arena_strdup(&outbox->arena, outbox->fingerprint);
    }
    if (frame->note != NULL) {
        message->note = arena_strdup(&outbox->arena, frame->note);
    }
    if (frame->text != NULL) {
        message->text = arena_strdup(&outbox->arena, frame->text);
    }
    message_points_fill(outbox, frame);
    message_checkpoints_fill(outbox);
}

const Gradd__V1__Telemetry *wrk_outbox_next(wrk_outbox_t *outbox)
{
    const Gradd__V1__Telemetry *message = NULL;
    (void)pthread_mutex_lock(&outbox->lock);
    if (outbox->n_sent == outbox->n_frames && outbox->n_frames < WRK_OUTBOX_IN_FLIGHT && outbox_has_more(outbox)) {
        frame_make(outbox);
    }
    if (outbox->n_sent < outbox->n_frames) {
        message_fill(outbox, &outbox->frames[outbox->n_sent++]);
        message = &outbox->message;
    }
    (void)pthread_mutex_unlock(&outbox->lock);
    return message;
}

void wrk_outbox_acknowledge(wrk_outbox_t *outbox, int64_t sequence)
{
    (void)pthread_mutex_lock(&outbox->lock);
    int n = 0;
    while (n < outbox->n_frames && outbox->frames[n].sequence <= sequence) {
        mem_free(outbox->frames[n].note);
        mem_free(outbox->frames[n].text);
        outbox->tail = outbox->frames[n].last > outbox->tail ? outbox->frames[n].last : outbox->tail;
        n++;
    }
    outbox->n_frames -= n;
    outbox->n_sent = outbox->n_sent > n ? outbox->n_sent - n : 0;
    memmove(outbox->frames, outbox->frames + n, (size_t)outbox->n_frames * sizeof(outbox->frames[0]));
    (void)pthread_mutex_unlock(&outbox->lock);
}

void wrk_outbox_rewind(wrk_outbox_t *outbox)
{
    (void)pthread_mutex_lock(&outbox->lock);
    outbox->n_sent = 0;
    (void)pthread_mutex_unlock(&outbox->lock);
}

bool wrk_outbox_is_drained(wrk_outbox_t *outbox)
{
    (void)pthread_mutex_lock(&outbox->lock);
    bool is_drained = outbox->n_frames == 0 && !outbox_has_more(outbox);
    (void)pthread_mutex_unlock(&outbox->lock);
    return is_drained;
}

int wrk_outbox_n_unacknowledged(wrk_outbox_t *outbox)
{
    (void)pthread_mutex_lock(&outbox->lock);
    int n = outbox->n_sent;
    (void)pthread_mutex_unlock(&outbox->lock);
    return n;
}

int64_t wrk_outbox_n_dropped(wrk_outbox_t *outbox)
{
    (void)pthread_mutex_lock(&outbox->lock);
    int64_t n = outbox->n_dropped;
    (void)pthread_mutex_unlock(&outbox->lock);
    return n;
}
