/* SPDX-License-Identifier: Apache-2.0 */
/* connect: where the daemon is, calls to it, streams that outlive its restart. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "daemon/ctl/ctl.h"

static volatile sig_atomic_t is_interrupted;

static void interrupt_note(int signal_number)
{
    (void)signal_number;
    is_interrupted = 1;
}

void ctl_catch_interrupts(void)
{
    struct sigaction action = {.sa_handler = interrupt_note, .sa_flags = (int)SA_RESETHAND};
    (void)sigemptyset(&action.sa_mask);
    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);
}

bool ctl_is_interrupted(void)
{
    return is_interrupted != 0;
}

/*
 * Where gradd listens when it isn't told otherwise, and where a service puts its socket. Entry i of the list as
 * "unix:…"; false when the variable it needs isn't set.
 */
enum { N_PLACES = 4 };
static bool place_format(int i, strbuf_t *address)
{
    static const struct {
        const char *variable, *rest;
    } places[N_PLACES] = {
        {"XDG_RUNTIME_DIR", "/gradd.sock"},
        {NULL, "/run/gradd/gradd.sock"},
        {"XDG_STATE_HOME", "/gradd/gradd.sock"},
        {NULL, "/var/lib/gradd/gradd.sock"},
    };
    const char *start = places[i].variable != NULL ? getenv(places[i].variable) : "";
    strbuf_clear(address);
    if (start == NULL || (places[i].variable != NULL && start[0] != '/')) {
        return false;
    }
    strbuf_appendf(address, "unix:%s%s", start, places[i].rest);
    return true;
}

/* The first of the places where a socket is; NULL: none. */
static char *address_find(void)
{
    strbuf_t address = {0};
    for (int i = 0; i < N_PLACES; i++) {
        if (place_format(i, &address) && access(strbuf_text(&address) + 5, F_OK) == 0) {
            return strbuf_detach(&address);
        }
    }
    strbuf_release(&address);
    return NULL;
}

static void no_daemon_print(void)
{
    strbuf_t address = {0};
    (void)fprintf(stderr, "gradctl: no daemon found; looked for");
    for (int i = 0; i < N_PLACES; i++) {
        if (place_format(i, &address)) {
            (void)fprintf(stderr, " %s", strbuf_text(&address) + 5);
        }
    }
    strbuf_release(&address);
    (void)fprintf(stderr,
                  "\n"
                  "  start one:      gradd --state-dir DIR --listen unix:DIR/gradd.sock\n"
                  "  or name one:    gradctl --address unix:DIR/gradd.sock, or GRADD_ADDRESS in the environment\n");
}

int ctl_connect(ctl_t *ctl)
{
    const char *given = ctl->address != NULL ? ctl->address : getenv("GRADD_ADDRESS");
    if (given != NULL && given[0] != '\0') {
        ctl->found_address = mem_strdup(given);
    } else {
        ctl->found_address = address_find();
        if (ctl->found_address == NULL) {
            no_daemon_print();
            return CTL_UNREACHABLE;
        }
    }
    status_t status = rpc_channel_open(ctl->found_address, &ctl->channel);
    if (status != ST_OK) {
        (void)fprintf(stderr, "gradctl: %s\n", status_message());
        return CTL_USAGE;
    }
    return CTL_OK;
}

int ctl_fail(const ctl_t *ctl, status_t status, rpc_code_t code)
{
    const char *message = status_message();
    if (code == RPC_UNAVAILABLE) {
        (void)fprintf(stderr, "gradctl: cannot reach the daemon: %s\n", message);
        return CTL_UNREACHABLE;
    }
    if (code == RPC_DEADLINE_EXCEEDED) {
        (void)fprintf(stderr, "gradctl: the daemon at %s doesn't answer in time\n", ctl->found_address);
        return CTL_UNREACHABLE;
    }
    (void)fprintf(stderr, "gradctl: %s\n", message[0] != '\0' ? message : status_text(status));
    return CTL_REFUSED;
}

static void path_make(const char *method, char path_p[64])
{
    (void)snprintf(path_p, 64, "/gradd.v1.Gradd/%s", method);
}

int ctl_call(ctl_t *ctl, const char *method, const ProtobufCMessage *request,
             const ProtobufCMessageDescriptor *response, ProtobufCMessage **response_p)
{
    char path[64];
    rpc_code_t code = RPC_OK;
    path_make(method, path);
    status_t status = rpc_channel_call(ctl->channel, path, request, response, CTL_CALL_MS, response_p, &code);
    return status == ST_OK ? CTL_OK : ctl_fail(ctl, status, code);
}

int ctl_get(ctl_t *ctl, const char *id, ctl_job_t **job_p)
{
    Gradd__V1__JobRequest request = GRADD__V1__JOB_REQUEST__INIT;
    request.id = (char *)(uintptr_t)id;
    ProtobufCMessage *message = NULL;
    int result = ctl_call(ctl, "Get", &request.base, &gradd__v1__job__descriptor, &message);
    if (result == CTL_OK) {
        *job_p = (ctl_job_t *)message;
    }
    return result;
}

void ctl_message_free(void *message)
{
    if (message != NULL) {
        protobuf_c_message_free_unpacked(message, NULL);
    }
}

/* The daemon is away: tries again later, until it has been away too long. */
static status_t feed_lost(ctl_feed_t *feed)
{
    rpc_stream_close(feed->stream);
    feed->stream = NULL;
    int64_t now = clock_now_ns();
    if (feed->away_since_ns == 0) {
        feed->away_since_ns = now;
    }
    if (now - feed->away_since_ns > CTL_RETRY_MS * CLOCK_NS_PER_MS) {
        return ST_FAIL(ST_ERR_PEER, "%s is away for %d s", feed->ctl->found_address, CTL_RETRY_MS / 1000);
    }
    if (!ctl_is_interrupted()) {
        clock_sleep_ms(CTL_TICK_MS);
    }
    return ST_FAIL(ST_ERR_TIMEOUT, "%s is away", feed->ctl->found_address);
}

status_t ctl_feed_read(ctl_feed_t *feed, int64_t timeout_ms, ProtobufCMessage **message_p)
{
    status_t status;
    if (feed->stream == NULL) {
        char path[64];
        path_make(feed->method, path);
        status = rpc_stream_open(feed->ctl->channel, path, feed->request, feed->response, &feed->stream);
        if (status != ST_OK) {
            feed->code = RPC_INTERNAL;
            return status;
        }
        feed->opened_ns = clock_now_ns();
    }
    status = rpc_stream_read(feed->stream, timeout_ms, message_p);
    if (status == ST_OK) {
        feed->away_since_ns = 0;
        return ST_OK;
    }
    if (status == ST_ERR_TIMEOUT) {
        /* An attempt to connect fails sooner than this: the stream is there, only quiet. */
        if (clock_now_ns() - feed->opened_ns > CTL_QUIET_MS * CLOCK_NS_PER_MS) {
            feed->away_since_ns = 0;
        }
        return status;
    }
    feed->code = rpc_stream_code(feed->stream);
    if (feed->code == RPC_UNAVAILABLE) {
        return feed_lost(feed);
    }
    return status;
}

void ctl_feed_close(ctl_feed_t *feed)
{
    rpc_stream_close(feed->stream);
    feed->stream = NULL;
}
