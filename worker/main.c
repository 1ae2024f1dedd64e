/* SPDX-License-Identifier: Apache-2.0 */
/*
 * grad-worker: one rank of one attempt of a job. Started by mpirun; everything it needs to know is in the environment:
 *   GRADD_ADDRESS GRADD_JOB GRADD_ATTEMPT GRADD_TOKEN   where the daemon is, and who this is
 *   GRADD_LOG_DIR                                       rank-<r>.log there gets stdout and stderr, appended
 *   OMPI_COMM_WORLD_RANK                                from the launcher; none: a world of one
 * Exit codes: 0 succeeded, paused or cancelled; 1 failed, another attempt may help; 2 failed for good; 3 refused by the
 * daemon: this attempt is not the job's newest.
 *
 * Note [Who ends a rank]: a rank must not outlive its launcher (mpirun, or orted on another host). PR_SET_PDEATHSIG
 * would do, but it fires when the launcher's *thread* that forked us ends, and Open MPI's launcher may fork from
 * helper threads. So a thread waits on a pidfd of the parent process and ends this one at once.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "worker/attach.h"
#include "worker/data/tokenizer.h"
#include "worker/files.h"
#include "worker/goodbye.h"
#include "worker/probe.h"
#include "worker/session.h"

enum { EXIT_OK = 0, EXIT_RETRY = 1, EXIT_PERMANENT = 2, EXIT_REFUSED = 3, EXIT_USAGE = 64 };

static const int64_t JOB_TIMEOUT_MS = 60000;
static const int64_t GOODBYE_TIMEOUT_MS = 60000;
/* How long another rank waits, on failure, for rank 0 to end the job with its own word. */
static const int64_t ABORT_DELAY_MS = 3000;

typedef struct worker {
    int rank;
    int attempt;
    char host[256];
    wrk_attach_t *attach;
    coll_group_t *group;
    spec_job_t *job;
    char *directory;
} worker_t;

static int usage_print(FILE *out, int code)
{
    (void)fprintf(out,
                  "usage: mpirun … grad-worker     a rank of a job; started by gradd, with its environment\n"
                  "       grad-worker --probe     this host's devices as JSON\n"
                  "       grad-worker --tokenize tokenizer.json [FILE]   FILE's tokens, or standard input's; one a "
                  "line\n"
                  "       grad-worker --detokenize tokenizer.json [FILE]   and back\n"
                  "       grad-worker --version | --help\n");
    return code;
}

static int environment_int(const char *name, int fallback)
{
    const char *text = getenv(name);
    if (text == NULL || text[0] == '\0') {
        return fallback;
    }
    char *end = NULL;
    long value = strtol(text, &end, 10);
    return *end == '\0' && value >= 0 && value <= INT32_MAX ? (int)value : -1;
}

/* ---- text and tokens ---- */

static status_t input_read(const char *path, strbuf_t *text)
{
    FILE *file = path != NULL ? fopen(path, "rb") : stdin;
    char piece[65536];
    size_t n = 0;
    if (file == NULL) {
        return ST_FAIL(status_from_errno(errno), "%s: %s", path, strerror(errno));
    }
    while ((n = fread(piece, 1, sizeof(piece), file)) > 0) {
        strbuf_append_bytes(text, piece, n);
    }
    status_t status = ferror(file) != 0 ? ST_FAIL(ST_ERR_IO, "%s: %s", path != NULL ? path : "stdin", strerror(errno))
                      : text->is_failed ? ST_FAIL(ST_ERR_NOMEM, "the text")
                                        : ST_OK;
    if (path != NULL) {
        (void)fclose(file);
    }
    return status;
}

static status_t tokens_print(const wrk_tokenizer_t *tokenizer, const strbuf_t *text)
{
    int64_t *tokens = NULL;
    int64_t n = 0;
    status_t status = wrk_tokens_encode(tokenizer, strbuf_text(text), text->length, &tokens, &n);
    for (int64_t i = 0; i < n; i++) {
        (void)printf("%lld\n", (long long)tokens[i]);
    }
    mem_free(tokens);
    return status;
}

static status_t text_print(const wrk_tokenizer_t *tokenizer, const strbuf_t *numbers)
{
    strbuf_t text = {0};
    strbuf_t tokens = {0}; /* of int64_t */
    const char *at = strbuf_text(numbers);
    for (at += strspn(at, " \t\n"); *at != '\0'; at += strspn(at, " \t\n")) {
        char *end = NULL;
        int64_t token = strtoll(at, &end, 10);
        if (end == at || token < 0 || token >= wrk_tokenizer_size(tokenizer)) {
            strbuf_release(&tokens);
            return ST_FAIL(ST_ERR_DATA, "offset %zu: \"%.*s\" is not a token\'s number, 0 … %lld",
                           (size_t)(at - strbuf_text(numbers)), (int)(strcspn(at, " \t\n") % 40), at,
                           (long long)wrk_tokenizer_size(tokenizer) - 1);
        }
        strbuf_append_bytes(&tokens, &token, sizeof(token));
        at = end;
    }
    wrk_tokenizer_decode(tokenizer, (const int64_t *)(const void *)strbuf_text(&tokens),
                         (int64_t)(tokens.length / sizeof(int64_t)), &text);
    bool is_failed = tokens.is_failed || text.is_failed;
    (void)fwrite(strbuf_text(&text), 1, text.length, stdout);
    strbuf_release(&tokens);
    strbuf_release(&text);
    return is_failed ? ST_FAIL(ST_ERR_NOMEM, "the text") : ST_OK;
}

static int tokenizer_run(const char *path, const char *input, bool is_back)
{
    wrk_tokenizer_t *tokenizer = NULL;
    strbuf_t text = {0};
    status_t status = wrk_tokenizer_open(path, &tokenizer);
    if (status == ST_OK) {
        status = input_read(input, &text);
    }
    if (status == ST_OK) {
        status = is_back ? text_print(tokenizer, &text) : tokens_print(tokenizer, &text);
    }
    if (status != ST_OK) {
        (void)fprintf(stderr, "grad-worker: %s\n", status_message());
    }
    strbuf_release(&text);
    wrk_tokenizer_close(tokenizer);
    return status == ST_OK ? EXIT_OK : EXIT_RETRY;
}

/* ---- who ends a rank ---- */

static void *parent_watch(void *arg)
{
    pid_t parent = (pid_t)(intptr_t)arg;
    int fd = (int)syscall(SYS_pidfd_open, parent, 0);
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    while (getppid() == parent) {
        /* without pidfds (Linux before 5.3): look five times a second */
        (void)poll(fd >= 0 ? &wait : NULL, fd >= 0 ? 1 : 0, fd >= 0 ? -1 : 200);
    }
    static const char TEXT[] = "the launcher is gone: this rank ends\n";
    ssize_t written = write(STDERR_FILENO, TEXT, sizeof(TEXT) - 1);
    (void)written;
    _exit(EXIT_RETRY);
}

static void refused_exit(void *arg, const char *reason)
{
    (void)arg;
    log_error("refused by the daemon: %s", reason);
    _exit(EXIT_REFUSED);
}

/* ---- start ---- */

static status_t log_redirect(int rank)
{
    const char *folder = getenv("GRADD_LOG_DIR");
    if (folder == NULL || folder[0] == '\0') {
        return ST_OK;
    }
    char path[WRK_MAX_PATH];
    (void)snprintf(path, sizeof(path), "%s/rank-%d.log", folder, rank);
    status_t status = wrk_folder_make(folder);
    if (status != ST_OK) {
        return status;
    }
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (fd < 0) {
        return ST_FAIL(status_from_errno(errno), "cannot open %s: %s", path, strerror(errno));
    }
    (void)fflush(NULL);
    if (dup2(fd, STDOUT_FILENO) < 0 || dup2(fd, STDERR_FILENO) < 0) {
        status = ST_FAIL(status_from_errno(errno), "cannot redirect to %s: %s", path, strerror(errno));
    }
    (void)close(fd);
    return status;
}

static status_t worker_start(worker_t *worker)
{
    const char *address = getenv("GRADD_ADDRESS");
    const char *job = getenv("GRADD_JOB");
    const char *token = getenv("GRADD_TOKEN");
    worker->attempt = environment_int("GRADD_ATTEMPT", -1);
    if (address == NULL || job == NULL || token == NULL || worker->attempt < 1) {
        return ST_FAIL(ST_ERR_INVAL, "GRADD_ADDRESS, GRADD_JOB, GRADD_ATTEMPT and GRADD_TOKEN are needed: grad-worker "
                                     "is started by gradd, not by hand");
    }
    /* the connection is made while MPI initialises */
    wrk_attach_options_t options = {
        .address = address,
        .job_id = job,
        .token = token,
        .host = worker->host,
        .attempt = worker->attempt,
        .rank = worker->rank,
        .refused = refused_exit,
    };
    status_t status = wrk_attach_open(&options, &worker->attach);
    if (status == ST_OK) {
        status = coll_mpi_open(&worker->group);
    }
    if (status == ST_OK) {
        status = wrk_attach_wait_job(worker->attach, JOB_TIMEOUT_MS, &worker->job, &worker->directory);
    }
    return status;
}

/* ---- end ---- */

/* The word of this rank, first into the file, then to the daemon. */
static void goodbye_say(worker_t *worker, const wrk_goodbye_t *goodbye)
{
    if (worker->directory != NULL && (worker->rank == 0 || goodbye->outcome == WRK_OUTCOME_FAILED)) {
        if (wrk_goodbye_write(worker->directory, worker->attempt, worker->rank, goodbye) != ST_OK) {
            log_warn("goodbye.json: %s", status_message());
        }
    }
    if (worker->attach != NULL &&
        wrk_attach_goodbye(worker->attach, goodbye, worker->rank == 0 ? GOODBYE_TIMEOUT_MS : ABORT_DELAY_MS) != ST_OK) {
        log_warn("%s", status_message());
    }
}

/* Does not return where the group is MPI's: the whole attempt ends. */
static int worker_fail(worker_t *worker, status_t status, int64_t step)
{
    char message[1024];
    (void)snprintf(message, sizeof(message), "%s", status_message());
    bool is_permanent = wrk_status_is_permanent(status);
    int code = is_permanent ? EXIT_PERMANENT : EXIT_RETRY;
    log_error("host %s, step %lld: %s: %s", worker->host, (long long)step, status_text(status), message);
    log_debug("first seen at %s", status_place());
    wrk_goodbye_t goodbye = {WRK_OUTCOME_FAILED, message, is_permanent, step, ""};
    goodbye_say(worker, &goodbye);
    if (worker->group != NULL) {
        if (worker->rank != 0) {
            /* an error of all ranks: rank 0's word is the one to wait for */
            clock_sleep_ms(ABORT_DELAY_MS);
        }
        coll_group_abort(worker->group, code);
    }
    _exit(code);
}

static int worker_run(worker_t *worker)
{
    wrk_session_t *session = NULL;
    wrk_result_t result = {0};
    wrk_session_options_t options = {
        .directory = worker->directory,
        .attempt = worker->attempt,
        .host = worker->host,
        .events = wrk_attach_events(worker->attach),
    };
    status_t status = wrk_session_open(worker->job, worker->group, &options, &session);
    if (status == ST_OK) {
        status = wrk_session_run(session, &result);
    }
    if (status != ST_OK) {
        return worker_fail(worker, status, result.step);
    }
    wrk_goodbye_t goodbye = {result.outcome, "", false, result.step, result.parameters_sha256};
    goodbye_say(worker, &goodbye);
    wrk_session_close(session);
    /* MPI's end waits for all ranks, so for rank 0's goodbye too */
    coll_group_close(worker->group);
    wrk_attach_close(worker->attach);
    spec_job_free(worker->job);
    mem_free(worker->directory);
    return EXIT_OK;
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        (void)printf("grad-worker %s\n", GRADD_VERSION);
        return EXIT_OK;
    }
    if (argc == 2 && strcmp(argv[1], "--help") == 0) {
        return usage_print(stdout, EXIT_OK);
    }
    if (argc == 2 && strcmp(argv[1], "--probe") == 0) {
        strbuf_t json = {0};
        status_t status = wrk_probe(&json);
        (void)fputs(status == ST_OK ? strbuf_text(&json) : status_message(), status == ST_OK ? stdout : stderr);
        strbuf_release(&json);
        return status == ST_OK ? EXIT_OK : EXIT_RETRY;
    }
    if (argc >= 3 && argc <= 4 && (strcmp(argv[1], "--tokenize") == 0 || strcmp(argv[1], "--detokenize") == 0)) {
        return tokenizer_run(argv[2], argc == 4 ? argv[3] : NULL, strcmp(argv[1], "--detokenize") == 0);
    }
    if (argc != 1) {
        return usage_print(stderr, EXIT_USAGE);
    }
    worker_t worker = {.rank = environment_int("OMPI_COMM_WORLD_RANK", 0), .host = "localhost"};
    char name[32];
    pthread_t watch;
    (void)gethostname(worker.host, sizeof(worker.host) - 1);
    (void)snprintf(name, sizeof(name), "rank %d", worker.rank);
    log_set_name(name);
    status_t status = log_redirect(worker.rank);
    if (status != ST_OK) {
        log_error("%s", status_message());
        return EXIT_RETRY;
    }
    (void)signal(SIGPIPE, SIG_IGN);
    if (pthread_create(&watch, NULL, parent_watch, (void *)(intptr_t)getppid()) == 0) {
        (void)pthread_detach(watch);
    }
    status = worker_start(&worker);
    return status == ST_OK ? worker_run(&worker) : worker_fail(&worker, status, 0);
}
