/* SPDX-License-Identifier: Apache-2.0 */
/* machine_loops: what a core can do at most; compiled once per instruction set, as the kernels of engine/cpu/vec/. */
#ifndef GRADD_TESTS_BENCH_MACHINE_LOOPS_H
#define GRADD_TESTS_BENCH_MACHINE_LOOPS_H

#include <stdbool.h>
#include <stdint.h>

typedef struct machine_loops {
    const char *isa;
    /* n rounds of fused multiply-adds in registers; returns their floating-point operations. Results depend on x. */
    double (*fma)(float *x, int64_t n);
    /* y[i] = a[i] + s b[i]; as plain stores and past the caches (NULL: the instruction set hasn't any) */
    void (*triad)(float *y, const float *a, const float *b, float s, int64_t n);
    void (*triad_stream)(float *y, const float *a, const float *b, float s, int64_t n);
    /* y[i] += s, fetched ahead as the optimizers do */
    void (*update)(float *y, const float *a, const float *b, float s, int64_t n);
} machine_loops_t;

/* The loops of the instruction set that the engine uses. */
const machine_loops_t *machine_loops_get(void);
/* The same for bf16 dot products: AMX tiles, or AVX-512's; NULL: this processor has neither. */
typedef double (*machine_dot_func_t)(float *x, int64_t n);
machine_dot_func_t machine_dot_get(const char **name_p);

#endif
