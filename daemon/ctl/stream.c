/* SPDX-License-Identifier: Apache-2.0 */
/* stream: events and logs as they come. */
#include <string.h>

#include "base/clock.h"
#include "daemon/ctl/ctl.h"

enum { TAIL_BYTES = 16 * 1024, TAIL_MAX_BYTES = 16 * 1024 * 1024 };

/* ---- watch ---- */

static void event_write(const ctl_t *ctl, const Gradd__V1__Event *event)
{
    if (ctl->format != CTL_TABLE) {
        json_t *object =
            json_pack("{s:I, s:o, s:o, s:s, s:o, s:i, s:I}", "number", (json_int_t)event->number, "job",
                      ctl_text(event->job_id), "time", ctl_time(event->unix_ns), "state", ctl_state_name(event->state),
                      "reason", ctl_text(event->reason), "attempt", event->attempt, "step", (json_int_t)event->step);
        ctl_render_line(object);
        json_decref(object);
        return;
    }
    char time[32];
    ctl_time_format(event->unix_ns, time);
    (void)printf("%s  job %s  %s%-10s%s  step %lld", time, event->job_id, ctl_state_color(ctl, event->state),
                 ctl_state_name(event->state), ctl_color_end(ctl), (long long)event->step);
    if (event->attempt > 1) {
        (void)printf("  attempt %d", event->attempt);
    }
    if (event->reason != NULL && event->reason[0] != '\0') {
        (void)fputs("  ", stdout);
        ctl_write_clean(stdout, event->reason, false);
    }
    (void)fputc('\n', stdout);
    (void)fflush(stdout);
}

int ctl_watch(ctl_t *ctl)
{
    const char *id = ctl->n_args > 0 ? ctl->args[0] : NULL;
    ProtobufCMessage *message = NULL;
    if (id == NULL) { /* an absent daemon is told at once, not after the stream's patience */
        Gradd__V1__InfoRequest info = GRADD__V1__INFO_REQUEST__INIT;
        int result = ctl_call(ctl, "GetInfo", &info.base, &gradd__v1__info__descriptor, &message);
        if (result != CTL_OK) {
            return result;
        }
        ctl_message_free(message);
    } else {
        ctl_job_t *job = NULL;
        int result = ctl_get(ctl, id, &job);
        if (result != CTL_OK) {
            return result;
        }
        ctl_message_free(job);
    }
    ctl_catch_interrupts();
    Gradd__V1__WatchRequest request = GRADD__V1__WATCH_REQUEST__INIT;
    request.id = (char *)(uintptr_t)id;
    request.has_after = 1;
    ctl_feed_t feed = {
        .ctl = ctl, .method = "Watch", .request = &request.base, .response = &gradd__v1__event__descriptor};
    Gradd__V1__State last = GRADD__V1__STATE__QUEUED;
    status_t status = ST_OK;
    bool is_end = false;
    while (!is_end && !ctl_is_interrupted() && (status == ST_OK || status == ST_ERR_TIMEOUT)) {
        status = ctl_feed_read(&feed, CTL_TICK_MS, &message);
        if (status != ST_OK) {
            continue;
        }
        is_end = message == NULL;
        const Gradd__V1__Event *event = (const Gradd__V1__Event *)message;
        if (event != NULL && event->number > request.after) {
            request.after = event->number;
            last = event->state;
            event_write(ctl, event);
        }
        ctl_message_free(message);
    }
    ctl_feed_close(&feed);
    if (ctl_is_interrupted()) {
        return CTL_INTERRUPTED;
    }
    if (!is_end) {
        return ctl_fail(ctl, status, feed.code);
    }
    return id == NULL || last == GRADD__V1__STATE__SUCCEEDED || !ctl_state_is_final(last) ? CTL_OK : CTL_JOB_FAILED;
}

/* ---- logs ---- */

typedef struct log_reader {
    ctl_feed_t feed;
    Gradd__V1__LogsRequest request;
} log_reader_t;

static void log_reader_init(log_reader_t *reader, ctl_t *ctl, int64_t offset, bool is_follow)
{
    *reader = (log_reader_t){0};
    gradd__v1__logs_request__init(&reader->request);
    reader->request.id = ctl->args[0];
    reader->request.has_rank = 1;
    reader->request.rank = (int32_t)ctl->rank;
    reader->request.has_offset = 1;
    reader->request.offset = offset;
    reader->request.has_follow = 1;
    reader->request.follow = is_follow;
    reader->feed = (ctl_feed_t){
        .ctl = ctl, .method = "Logs", .request = &reader->request.base, .response = &gradd__v1__log_chunk__descriptor};
}

/*
 * Reads to the end into a buffer (buffer NULL: to stdout); *start_p: offset of the first byte. Bytes that came already
 * are dropped, so that a resumed stream has no double ones.
 */
static int log_read(log_reader_t *reader, strbuf_t *buffer, int64_t *start_p)
{
    bool is_first = true, is_end = false;
    status_t status = ST_OK;
    *start_p = 0;
    while (!is_end && !ctl_is_interrupted() && (status == ST_OK || status == ST_ERR_TIMEOUT)) {
        ProtobufCMessage *message = NULL;
        status = ctl_feed_read(&reader->feed, CTL_TICK_MS, &message);
        if (status != ST_OK) {
            continue;
        }
        is_end = message == NULL;
        const Gradd__V1__LogChunk *chunk = (const Gradd__V1__LogChunk *)message;
        if (chunk != NULL && chunk->data.len > 0) {
            int64_t known = is_first ? 0 : reader->request.offset - chunk->offset;
            size_t skip = known <= 0 ? 0 : (uint64_t)known > chunk->data.len ? chunk->data.len : (size_t)known;
            *start_p = is_first ? chunk->offset : *start_p;
            is_first = false;
            reader->request.offset = chunk->offset + (int64_t)chunk->data.len;
            if (buffer != NULL) {
                strbuf_append_bytes(buffer, chunk->data.data + skip, chunk->data.len - skip);
            } else {
                (void)fwrite(chunk->data.data + skip, 1, chunk->data.len - skip, stdout);
                (void)fflush(stdout);
            }
        }
        ctl_message_free(message);
    }
    ctl_feed_close(&reader->feed);
    if (ctl_is_interrupted()) {
        return CTL_INTERRUPTED;
    }
    return is_end ? CTL_OK : ctl_fail(reader->feed.ctl, status, reader->feed.code);
}

/* Where the last n lines start in text. */
static size_t tail_find(const strbuf_t *text, int64_t n, bool *is_whole_p)
{
    size_t at = text->length;
    int64_t n_lines = 0;
    *is_whole_p = false;
    if (at > 0 && text->data[at - 1] == '\n') {
        at--;
    }
    while (at > 0) {
        if (text->data[at - 1] == '\n' && ++n_lines == n) {
            *is_whole_p = true;
            return at;
        }
        at--;
    }
    return 0;
}

/* Prints the last lines; *next_p: the offset behind them. */
static int log_tail(ctl_t *ctl, int64_t *next_p)
{
    int result = CTL_OK;
    bool is_done = false;
    for (int64_t window = TAIL_BYTES; !is_done && result == CTL_OK; window *= 8) {
        log_reader_t reader;
        strbuf_t text = {0};
        int64_t start = 0;
        bool is_whole = false;
        log_reader_init(&reader, ctl, -window, false);
        result = log_read(&reader, &text, &start);
        size_t at = ctl->tail > 0 ? tail_find(&text, ctl->tail, &is_whole) : text.length;
        is_done = is_whole || start == 0 || ctl->tail == 0 || window > TAIL_MAX_BYTES;
        if (is_done && result == CTL_OK) {
            (void)fwrite(strbuf_text(&text) + at, 1, text.length - at, stdout);
            (void)fflush(stdout);
        }
        *next_p = start + (int64_t)text.length;
        strbuf_release(&text);
    }
    return result;
}

int ctl_logs(ctl_t *ctl)
{
    ctl_job_t *job = NULL;
    int result = ctl_get(ctl, ctl->args[0], &job);
    if (result != CTL_OK) {
        return result;
    }
    ctl_message_free(job);
    ctl_catch_interrupts();
    int64_t offset = ctl->has_offset ? ctl->offset : 0;
    if (ctl->has_tail) {
        result = log_tail(ctl, &offset);
    }
    if (result == CTL_OK && (!ctl->has_tail || ctl->is_follow)) {
        log_reader_t reader;
        int64_t start;
        log_reader_init(&reader, ctl, offset, ctl->is_follow);
        result = log_read(&reader, NULL, &start);
    }
    return result;
}
