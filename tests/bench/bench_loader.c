/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench-loader: gradd's side of `scripts/bench.sh loader`: batches of a job's training data, read ahead by the loader
 * as a training reads them (protocol.h). A run starts with an empty ring; each of its steps is given the mean time, for
 * what is read ahead doesn't come one by one.
 */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "tests/bench/protocol.h"
#include "tests/support/job_file.h"
#include "worker/data/loader.h"

enum { BATCHES_AHEAD = 4 };

typedef struct bench {
    wrk_dataset_t *dataset;
    wrk_order_t *order;
    wrk_loader_t *loader;
    float *inputs;
    int64_t *targets;
    int64_t batch;
    uint64_t seed;
} bench_t;

static status_t batch_plan(void *arg, int64_t item, wrk_plan_t *plan)
{
    const bench_t *bench = arg;
    plan->n = bench->batch;
    plan->seed = bench->seed;
    plan->epoch = item / wrk_order_steps_per_epoch(bench->order);
    return wrk_order_get(bench->order, item, 0, bench->batch, plan->indices);
}

static status_t bench_open(const spec_job_t *job, int n_threads, bench_t *bench)
{
    bench->batch = job->training->batch;
    bench->seed = job->seed;
    status_t status = wrk_dataset_open(job->data->train, NULL, &bench->dataset);
    if (status == ST_OK) {
        status = wrk_order_open(bench->dataset, bench->seed, bench->batch, &bench->order);
    }
    if (status == ST_OK) {
        wrk_loader_options_t options = {.dataset = bench->dataset,
                                        .plan = batch_plan,
                                        .arg = bench,
                                        .n_max = bench->batch,
                                        .n_threads = n_threads,
                                        .n_ahead = BATCHES_AHEAD};
        status = wrk_loader_open(&options, &bench->loader);
    }
    if (status == ST_OK) {
        bench->inputs = mem_alloc_aligned(64, (size_t)(bench->batch * wrk_dataset_input(bench->dataset)->size_bytes));
        bench->targets = mem_alloc_aligned(64, (size_t)(bench->batch * wrk_dataset_target(bench->dataset)->size_bytes));
        status = bench->inputs != NULL && bench->targets != NULL ? ST_OK : ST_FAIL(ST_ERR_NOMEM, "a batch");
    }
    return status;
}

static void bench_close(bench_t *bench)
{
    wrk_loader_close(bench->loader);
    wrk_order_close(bench->order);
    wrk_dataset_close(bench->dataset);
    mem_free(bench->inputs);
    mem_free(bench->targets);
}

static status_t batches_serve(bench_t *bench, double *times_ms)
{
    int64_t n_done = 0;
    int64_t n_steps = 0;
    for (protocol_word_t word = protocol_next(&n_steps); word != PROTOCOL_QUIT; word = protocol_next(&n_steps)) {
        if (word == PROTOCOL_MEMORY) {
            protocol_answer(&(double){-1}, 1);
            continue;
        }
        const int64_t start = clock_now_ns();
        wrk_loader_start(bench->loader, n_done, n_done + n_steps);
        for (int64_t i = 0; i < n_steps; i++) {
            status_t status = wrk_loader_take(bench->loader, bench->inputs, bench->targets, NULL);
            if (status != ST_OK) {
                return status;
            }
        }
        const double mean_ms = (double)(clock_now_ns() - start) * 1e-6 / (double)n_steps;
        for (int64_t i = 0; i < n_steps; i++) {
            times_ms[i] = mean_ms;
        }
        n_done += n_steps;
        protocol_answer(times_ms, n_steps);
    }
    return ST_OK;
}

int main(int argc, char **argv)
{
    enum { MAX_THREADS = 64 };
    int n_threads = 1;
    const bool is_help = argc == 2 && (strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "--help") == 0);
    if (argc == 4 && strcmp(argv[2], "--threads") == 0) {
        n_threads = protocol_number(argv[3], 0, MAX_THREADS);
    }
    if (is_help || n_threads < 0 || (argc != 2 && argc != 4)) {
        (void)fputs("usage: bench-loader JOB.yaml [--threads N]\n", is_help ? stdout : stderr);
        return is_help ? 0 : 2;
    }
    bench_t bench = {0};
    spec_job_t *job = NULL;
    double *times_ms = mem_calloc(PROTOCOL_MAX_STEPS, sizeof(double));
    status_t status = times_ms != NULL ? job_file_read(argv[1], NULL, 0, &job) : ST_FAIL(ST_ERR_NOMEM, "step times");
    if (status == ST_OK) {
        status = bench_open(job, n_threads, &bench);
    }
    if (status == ST_OK) {
        status = batches_serve(&bench, times_ms);
    }
    if (status != ST_OK) {
        (void)fprintf(stderr, "bench-loader: %s: %s\n", status_text(status), status_message());
    }
    bench_close(&bench);
    spec_job_free(job);
    mem_free(times_ms);
    return status == ST_OK ? 0 : 1;
}
