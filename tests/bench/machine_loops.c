/* SPDX-License-Identifier: Apache-2.0 */
/* machine_loops: vectors of 16 floats, which the compiler takes apart where registers are narrower. */
#include "tests/bench/machine_loops.h"

#ifdef __x86_64__
#include <immintrin.h>
#endif

#define LOOPS_PASTE(name_x, isa_x) name_x##_##isa_x
#define LOOPS_NAME(name_x, isa_x) LOOPS_PASTE(name_x, isa_x)
#define LOOPS_FN(name_x) LOOPS_NAME(machine_##name_x, GD_ISA)

enum { LANES = 16, UNROLL = 12, INNER = 64 };

typedef float lanes_t __attribute__((vector_size(LANES * sizeof(float)), aligned(64)));

extern const machine_loops_t LOOPS_FN(loops);

/* As many independent chains as hide the latency: 12 of a register of AVX-512, of which others take 2 or 4. Named one
 * by one: an array of them would stay in memory. */
#define EACH(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)
#define BEGIN(i) lanes_t sum##i = term * (float)((i) + 1);
#define ADVANCE(i) sum##i = sum##i * factor + term;
#define COLLECT(i) total += sum##i;

static double fma_run(float *x, int64_t n)
{
    lanes_t factor;
    lanes_t term;
    for (int j = 0; j < LANES; j++) {
        factor[j] = x[j];
        term[j] = x[LANES + j];
    }
    EACH(BEGIN)
    for (int64_t i = 0; i < n * INNER; i++) {
        EACH(ADVANCE)
    }
    lanes_t total = {0};
    EACH(COLLECT)
    for (int j = 0; j < LANES; j++) {
        x[2 * LANES + j] = total[j];
    }
    return 2.0 * LANES * UNROLL * INNER * (double)n;
}

static void triad_run(float *y, const float *a, const float *b, float s, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        y[i] = a[i] + s * b[i];
    }
}

#ifdef __AVX512F__
static void triad_stream_run(float *y, const float *a, const float *b, float s, int64_t n)
{
    const __m512 scale = _mm512_set1_ps(s);
    for (int64_t i = 0; i + LANES <= n; i += LANES) {
        _mm512_stream_ps(y + i, _mm512_fmadd_ps(scale, _mm512_loadu_ps(b + i), _mm512_loadu_ps(a + i)));
    }
    _mm_sfence();
}
#elif defined(__AVX2__)
static void triad_stream_run(float *y, const float *a, const float *b, float s, int64_t n)
{
    const __m256 scale = _mm256_set1_ps(s);
    for (int64_t i = 0; i + 8 <= n; i += 8) {
        _mm256_stream_ps(y + i, _mm256_fmadd_ps(scale, _mm256_loadu_ps(b + i), _mm256_loadu_ps(a + i)));
    }
    _mm_sfence();
}
#else
#define triad_stream_run NULL
#endif

/* Note [Updates read ahead] in engine/cpu/vec/optim.c */
static void update_run(float *y, const float *a, const float *b, float s, int64_t n)
{
    enum { AHEAD = 3072 / sizeof(float) };
    (void)a;
    (void)b;
    for (int64_t i = 0; i + LANES <= n; i += LANES) {
        __builtin_prefetch(i + AHEAD < n ? y + i + AHEAD : y + i, 1, 3);
        for (int j = 0; j < LANES; j++) {
            y[i + j] += s;
        }
    }
}

#define LOOPS_TEXT(isa_x) #isa_x
#define LOOPS_STRING(isa_x) LOOPS_TEXT(isa_x)

const machine_loops_t LOOPS_FN(loops) = {.isa = LOOPS_STRING(GD_ISA),
                                         .fma = fma_run,
                                         .triad = triad_run,
                                         .triad_stream = triad_stream_run,
                                         .update = update_run};
