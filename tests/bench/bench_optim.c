/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench-optim: gradd's side of `scripts/bench.sh adamw-100m`: AdamW's step over 100 million parameters in 25 tensors,
 * through the public interface (protocol.h).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "gradd/context.h"
#include "gradd/optim.h"
#include "tests/bench/protocol.h"

enum { N_TENSORS = 25, SIDE = 2000, MAX_THREADS = 256 };

static status_t model_new(gd_module_t **model_p)
{
    gd_module_t *model = NULL;
    status_t status = gd_sequential_new(&model);
    for (int i = 0; i < N_TENSORS && status == ST_OK; i++) {
        char name[16];
        gd_module_t *layer = NULL;
        (void)snprintf(name, sizeof(name), "%d", i);
        status = gd_linear_new(SIDE, SIDE, false, &layer);
        if (status == ST_OK) {
            status = gd_module_add_child(model, name, layer);
        }
        (void)gd_module_unref(layer);
    }
    if (status == ST_OK) {
        status = gd_module_initialise(model, 1);
    }
    if (status != ST_OK) {
        (void)gd_module_unref(model);
        return status;
    }
    *model_p = model;
    return ST_OK;
}

static status_t steps_serve(gd_optimizer_t *optimizer, const float *gradients, int64_t numel, double *times_ms)
{
    int64_t n_steps = 0;
    for (;;) {
        const protocol_word_t word = protocol_next(&n_steps);
        if (word == PROTOCOL_QUIT) {
            return ST_OK;
        }
        if (word == PROTOCOL_MEMORY) {
            protocol_answer(&(double){-1}, 1);
            continue;
        }
        for (int64_t i = 0; i < n_steps; i++) {
            const int64_t start = clock_now_ns();
            gd_optimizer_next(optimizer);
            status_t status = gd_optimizer_update(optimizer, gradients, 1e-3, 1, 0, numel);
            if (status != ST_OK) {
                return status;
            }
            times_ms[i] = (double)(clock_now_ns() - start) * 1e-6;
        }
        protocol_answer(times_ms, n_steps);
    }
}

static status_t bench_run(double *times_ms)
{
    gd_optimizer_options_t options;
    gd_optimizer_defaults(GD_OPTIMIZER_ADAMW, &options);
    gd_module_t *model = NULL;
    gd_flat_t *flat = NULL;
    gd_optimizer_t *optimizer = NULL;
    status_t status = model_new(&model);
    if (status != ST_OK) {
        return status;
    }
    status = gd_flat_open(model, &flat);
    if (status == ST_OK) {
        status = gd_optimizer_open(&options, flat, &optimizer);
    }
    if (status == ST_OK) {
        float *gradients = mem_alloc_aligned(64, (size_t)flat->numel * sizeof(float));
        status = gradients != NULL ? ST_OK : ST_FAIL(ST_ERR_NOMEM, "gradients");
        for (int64_t i = 0; status == ST_OK && i < flat->numel; i++) {
            gradients[i] = (float)(i * 7919 % 2001 - 1000) * 1e-5F;
        }
        if (status == ST_OK) {
            status = steps_serve(optimizer, gradients, flat->numel, times_ms);
        }
        mem_free(gradients);
    }
    gd_optimizer_close(optimizer);
    gd_flat_close(flat);
    (void)gd_module_unref(model);
    return status;
}

int main(int argc, char **argv)
{
    int code = 0;
    const int n_threads = protocol_threads(argc, argv, "bench-optim", &code);
    if (n_threads < 0) {
        return code;
    }
    double *times_ms = mem_calloc(PROTOCOL_MAX_STEPS, sizeof(double));
    status_t status = times_ms != NULL ? gd_context_set_n_threads(n_threads) : ST_FAIL(ST_ERR_NOMEM, "step times");
    if (status == ST_OK) {
        status = bench_run(times_ms);
    }
    if (status != ST_OK) {
        (void)fprintf(stderr, "bench-optim: %s: %s\n", status_text(status), status_message());
    }
    mem_free(times_ms);
    return status == ST_OK ? 0 : 1;
}
