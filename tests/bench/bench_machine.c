/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench-machine: what this machine can do at most, as scripts/bench.sh compares with (protocol.h). The five numbers
 * that "run 1" is answered with:
 *
 *   1  GFLOP/s of the engine's own f32 matrix product, the best of 1024, 1536 and 2048 squared
 *   2  GFLOP/s of fused multiply-adds of f32 in registers
 *   3  GFLOP/s of the engine's own bf16 matrix product, 0: it has none here
 *   4  GFLOP/s of bf16 dot products in registers, 0: this processor has none
 *   5  GB/s to and from memory, the best of three loops over arrays of 256 MiB: y = a + s b, 12 bytes an element, with
 *      plain stores and with stores past the caches, and y = y + s, 8 bytes, fetched ahead
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "gradd/context.h"
#include "gradd/ops.h"
#include "tests/bench/machine_loops.h"
#include "tests/bench/protocol.h"

enum { MAX_THREADS = 256, N_FIGURES = 5, N_TRIES = 3, N_SIZES = 3, TRIAD_NUMEL = 1 << 26, FMA_ROUNDS = 1 << 20 };

static const int64_t sizes[N_SIZES] = {1024, 1536, 2048};

/* One thread's share of a loop in registers or over memory. */
typedef struct share {
    pthread_t thread;
    pthread_barrier_t *barrier;
    double (*registers)(float *x, int64_t n);
    void (*memory)(float *y, const float *a, const float *b, float s, int64_t n);
    float *y;
    const float *a, *b;
    int64_t n;
    double bytes;  /* an element, of memory */
    double amount; /* out: operations or bytes */
    double seconds;
} share_t;

static void *share_run(void *arg)
{
    share_t *share = arg;
    float x[64];
    for (int i = 0; i < 64; i++) {
        x[i] = 0.5F;
    }
    (void)pthread_barrier_wait(share->barrier);
    const int64_t start = clock_now_ns();
    if (share->registers != NULL) {
        share->amount = share->registers(x, share->n);
    } else {
        share->memory(share->y, share->a, share->b, 0.5F, share->n);
        share->amount = share->bytes * (double)share->n;
    }
    share->seconds = (double)(clock_now_ns() - start) * 1e-9;
    return NULL;
}

/* All threads at once; amount per second over the slowest thread's time. */
static double shares_run(const share_t *model, int n_threads)
{
    share_t shares[MAX_THREADS];
    pthread_barrier_t barrier;
    (void)pthread_barrier_init(&barrier, NULL, (unsigned)n_threads);
    for (int i = 0; i < n_threads; i++) {
        shares[i] = *model;
        shares[i].barrier = &barrier;
        if (model->memory != NULL) {
            const int64_t first = model->n / n_threads * i;
            shares[i].y += first;
            shares[i].a += first;
            shares[i].b += first;
            shares[i].n = model->n / n_threads;
        }
        if (i > 0 && pthread_create(&shares[i].thread, NULL, share_run, &shares[i]) != 0) {
            (void)fprintf(stderr, "bench-machine: thread %d can't be started\n", i);
            exit(1);
        }
    }
    (void)share_run(&shares[0]);
    double amount = shares[0].amount;
    double seconds = shares[0].seconds;
    for (int i = 1; i < n_threads; i++) {
        (void)pthread_join(shares[i].thread, NULL);
        amount += shares[i].amount;
        seconds = shares[i].seconds > seconds ? shares[i].seconds : seconds;
    }
    (void)pthread_barrier_destroy(&barrier);
    return amount / seconds;
}

static double best_of(const share_t *model, int n_threads)
{
    double best = 0;
    for (int i = 0; i < N_TRIES; i++) {
        const double rate = shares_run(model, n_threads);
        best = rate > best ? rate : best;
    }
    return best;
}

/* GFLOP/s of the engine's product of two square matrices; 0 when it has no kernel for the dtype. */
static double product_rate(gd_tensor_t *a, gd_tensor_t *b, int64_t n)
{
    double best = 0;
    for (int i = 0; i < N_TRIES; i++) {
        gd_tensor_t *y = NULL;
        const int64_t start = clock_now_ns();
        if (gd_matmul(a, b, &y) != ST_OK) {
            return 0;
        }
        const double rate = 2.0 * (double)(n * n * n) / (double)(clock_now_ns() - start);
        (void)gd_tensor_unref(y);
        best = rate > best ? rate : best;
    }
    return best;
}

static double products_best(gd_tensor_t *const *matrix)
{
    double best = 0;
    for (int i = 0; i < N_SIZES; i++) {
        const double rate = product_rate(matrix[i], matrix[i], sizes[i]);
        best = rate > best ? rate : best;
    }
    return best;
}

typedef struct machine {
    int n_threads;
    gd_tensor_t *f32[N_SIZES], *bf16[N_SIZES];
    float *a, *b, *y; /* [TRIAD_NUMEL] */
} machine_t;

static status_t machine_init(machine_t *machine, int n_threads)
{
    *machine = (machine_t){.n_threads = n_threads};
    status_t status = gd_context_set_n_threads(n_threads);
    for (int i = 0; i < N_SIZES && status == ST_OK; i++) {
        const int64_t shape[2] = {sizes[i], sizes[i]};
        status = gd_tensor_new(GD_DTYPE_F32, 2, shape, &machine->f32[i]);
        float *x = status == ST_OK ? gd_tensor_data(machine->f32[i]) : NULL;
        for (int64_t k = 0; x != NULL && k < sizes[i] * sizes[i]; k++) {
            x[k] = (float)(k * 7919 % 2001 - 1000) * 1e-3F;
        }
        if (status == ST_OK) {
            status = gd_cast(machine->f32[i], GD_DTYPE_BF16, &machine->bf16[i]);
        }
    }
    float **arrays[] = {&machine->a, &machine->b, &machine->y};
    for (int i = 0; i < 3 && status == ST_OK; i++) {
        *arrays[i] = mem_alloc_aligned(64, (size_t)TRIAD_NUMEL * sizeof(float));
        if (*arrays[i] == NULL) {
            return ST_FAIL(ST_ERR_NOMEM, "arrays of 256 MiB");
        }
        for (int64_t k = 0; k < TRIAD_NUMEL; k++) {
            (*arrays[i])[k] = 1;
        }
    }
    return status;
}

static void machine_release(machine_t *machine)
{
    for (int i = 0; i < N_SIZES; i++) {
        (void)gd_tensor_unref(machine->f32[i]);
        (void)gd_tensor_unref(machine->bf16[i]);
    }
    mem_free(machine->a);
    mem_free(machine->b);
    mem_free(machine->y);
}

static double memory_rate(const machine_t *machine, const machine_loops_t *loops)
{
    const struct {
        void (*run)(float *y, const float *a, const float *b, float s, int64_t n);
        double bytes;
    } kinds[] = {{loops->triad, 12}, {loops->triad_stream, 12}, {loops->update, 8}};
    double best = 0;
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        const share_t share = {.memory = kinds[i].run,
                               .bytes = kinds[i].bytes,
                               .y = machine->y,
                               .a = machine->a,
                               .b = machine->b,
                               .n = TRIAD_NUMEL};
        const double rate = kinds[i].run != NULL ? 1e-9 * best_of(&share, machine->n_threads) : 0;
        best = rate > best ? rate : best;
    }
    return best;
}

static void figures_measure(const machine_t *machine, double figures_p[N_FIGURES])
{
    const machine_loops_t *loops = machine_loops_get();
    const char *dot_name = "";
    const share_t fma = {.registers = loops->fma, .n = FMA_ROUNDS};
    const share_t dot = {.registers = machine_dot_get(&dot_name), .n = FMA_ROUNDS / 8};
    figures_p[0] = products_best(machine->f32);
    figures_p[1] = 1e-9 * best_of(&fma, machine->n_threads);
    figures_p[2] = products_best(machine->bf16);
    figures_p[3] = dot.registers != NULL ? 1e-9 * best_of(&dot, machine->n_threads) : 0;
    figures_p[4] = memory_rate(machine, loops);
}

int main(int argc, char **argv)
{
    int code = 0;
    const int n_threads = protocol_threads(argc, argv, "bench-machine", &code);
    if (n_threads < 0) {
        return code;
    }
    machine_t machine;
    status_t status = machine_init(&machine, n_threads);
    int64_t n_runs = 0;
    protocol_word_t word = PROTOCOL_QUIT;
    while (status == ST_OK && (word = protocol_next(&n_runs)) != PROTOCOL_QUIT) {
        double figures[N_FIGURES] = {-1};
        if (word == PROTOCOL_RUN) {
            figures_measure(&machine, figures);
        }
        protocol_answer(figures, word == PROTOCOL_RUN ? N_FIGURES : 1);
    }
    if (status != ST_OK) {
        (void)fprintf(stderr, "bench-machine: %s: %s\n", status_text(status), status_message());
    }
    machine_release(&machine);
    return status == ST_OK ? 0 : 1;
}
