/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench-step: gradd's side of scripts/bench.sh: trains a job in this process and times its steps (protocol.h).
 *
 * The session's progress callback is where it waits for the next "run": the steps in between are the product's own
 * loop, data and telemetry points included.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "gradd/context.h"
#include "tests/bench/protocol.h"
#include "tests/support/job_file.h"
#include "worker/session.h"

enum { MAX_SET = 32 };

typedef struct bench {
    int64_t n_left;
    int64_t n_done;
    int64_t start_ns;
    double *times_ms;
    bool is_quit;
    double activation_bytes; /* of the first step, when it is reported */
} bench_t;

/* Answers with the finished run's times and waits for the next one. */
static void bench_wait(bench_t *bench)
{
    if (bench->n_done > 0) {
        protocol_answer(bench->times_ms, bench->n_done);
    }
    bench->n_done = 0;
    protocol_word_t word = protocol_next(&bench->n_left);
    while (word == PROTOCOL_MEMORY) {
        const gd_memory_stats_t memory = gd_memory_get_stats();
        protocol_answer(&(double){(double)(memory.peak_bytes - memory.in_use_bytes)}, 1);
        word = protocol_next(&bench->n_left);
    }
    bench->is_quit = word == PROTOCOL_QUIT;
    gd_memory_reset_peak();
}

static void bench_progress(void *arg, int64_t step, int64_t steps_total, const char *phase)
{
    (void)steps_total;
    bench_t *bench = arg;
    if (strcmp(phase, "training") != 0 || step == 0 || bench->is_quit) {
        bench->start_ns = clock_now_ns();
        return;
    }
    bench->times_ms[bench->n_done++] = (double)(clock_now_ns() - bench->start_ns) * 1e-6;
    if (--bench->n_left <= 0) {
        bench_wait(bench);
    }
    bench->start_ns = clock_now_ns();
}

static void bench_points(void *arg, const wrk_point_t *points, int n)
{
    bench_t *bench = arg;
    for (int i = 0; i < n; i++) {
        if (strcmp(points[i].name, "activation_bytes") == 0) {
            bench->activation_bytes = points[i].value;
        }
    }
}

static wrk_command_t bench_take_command(void *arg)
{
    const bench_t *bench = arg;
    return bench->is_quit ? WRK_COMMAND_STOP : WRK_COMMAND_NONE;
}

static status_t bench_run(const spec_job_t *job, bench_t *bench)
{
    char folder[] = "/tmp/gradd-bench-XXXXXX";
    if (mkdtemp(folder) == NULL) {
        return ST_FAIL(ST_ERR_IO, "no temporary folder");
    }
    coll_group_t *group = NULL;
    status_t status = coll_loopback_open(1, &group);
    if (status != ST_OK) {
        return status;
    }
    wrk_session_options_t options = {
        .directory = folder,
        .attempt = 1,
        .events = {
            .arg = bench, .progress = bench_progress, .points = bench_points, .take_command = bench_take_command}};
    wrk_session_t *session = NULL;
    status = wrk_session_open(job, group, &options, &session);
    if (status == ST_OK) {
        wrk_result_t result;
        bench_wait(bench);
        bench->start_ns = clock_now_ns();
        status = wrk_session_run(session, &result);
        wrk_session_close(session);
    }
    coll_group_close(group);
    char command[64];
    (void)snprintf(command, sizeof(command), "rm -rf %s", folder);
    return system(command) == 0 ? status : ST_FAIL(ST_ERR_IO, "%s can't be removed", folder);
}

static void usage(FILE *out)
{
    (void)fputs("usage: bench-step NAME|JOB.yaml [--threads N] [--memory] [--set KEY=VALUE]...\n"
                "NAME: gpt-recipe mnist-cnn, or a file of tests/bench/jobs/ without its .yaml\n"
                "--memory: at the end a line on stderr says what a step's activations took\n",
                out);
}

int main(int argc, char **argv)
{
    log_set_level(LOG_LEVEL_WARN);
    spec_pair_t set[MAX_SET] = {{"training.steps", "1000000000"},   {"training.microbatches", "1"},
                                {"resources.workers", "1"},         {"parallel.data", "1"},
                                {"checkpoint.every", "1000000000"}, {"evaluation.every", "1000000000"},
                                {"training.log_every", "1000000"},  {"resources.threads", "1"}};
    int n_set = 8;
    bool has_memory = false;
    const char *path = NULL;
    char known[512];
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--memory") == 0) {
            has_memory = true;
        } else if (strcmp(argv[i], "--threads") == 0 && i + 1 < argc) {
            set[7].value = argv[++i];
        } else if (strcmp(argv[i], "--set") == 0 && i + 1 < argc && n_set < MAX_SET) {
            if (job_file_pair(argv[++i], &set[n_set++]) != ST_OK) {
                usage(stderr);
                return 2;
            }
        } else if (argv[i][0] == '-' || path != NULL) {
            usage(argv[i][0] == '-' ? stdout : stderr);
            return 2;
        } else {
            path = argv[i];
        }
    }
    if (path != NULL && strcmp(path, "mnist-cnn") == 0) {
        set[0] = (spec_pair_t){"training.epochs", "1000000"}; /* the job counts epochs */
    }
    if (path != NULL && strchr(path, '/') == NULL) {
        const bool is_example = strcmp(path, "gpt-recipe") == 0 || strcmp(path, "mnist-cnn") == 0;
        (void)snprintf(known, sizeof(known), "%s/jobs/%s.yaml", is_example ? "configs" : "tests/bench",
                       strcmp(path, "gpt-recipe") == 0 ? "shakespeare-char" : path);
        path = known;
    }
    if (path == NULL) {
        usage(stderr);
        return 2;
    }
    bench_t bench = {.times_ms = mem_calloc(PROTOCOL_MAX_STEPS, sizeof(double))};
    spec_job_t *job = NULL;
    status_t status =
        bench.times_ms != NULL ? job_file_read(path, set, n_set, &job) : ST_FAIL(ST_ERR_NOMEM, "step times");
    if (status == ST_OK) {
        status = bench_run(job, &bench);
        if (status == ST_OK && has_memory) {
            (void)fprintf(stderr, "activations of a step: %.1f MB\n", bench.activation_bytes * 1e-6);
        }
    }
    if (status != ST_OK) {
        (void)fprintf(stderr, "bench-step: %s: %s\n", status_text(status), status_message());
    }
    spec_job_free(job);
    mem_free(bench.times_ms);
    return status == ST_OK ? 0 : 1;
}
