/* SPDX-License-Identifier: Apache-2.0 */
/* machine_dot: which loops this processor gets, and bf16 dot products in tiles (AMX) or vectors (AVX-512). */
#include <string.h>

#include "cpu/cpu.h"
#include "tests/bench/machine_loops.h"

#ifdef __x86_64__
#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

extern const machine_loops_t machine_loops_v2;
extern const machine_loops_t machine_loops_v3;
extern const machine_loops_t machine_loops_v4;

const machine_loops_t *machine_loops_get(void)
{
    const gd_cpu_isa_t isa = gd_cpu_isa();
    return isa >= GD_CPU_ISA_V4 ? &machine_loops_v4 : isa == GD_CPU_ISA_V3 ? &machine_loops_v3 : &machine_loops_v2;
}

enum { INNER = 64, TILE_ROWS = 16, TILE_COLUMN_BYTES = 64, TILE_FLOP = 2 * 16 * 16 * 32, VECTOR_FLOP = 2 * 32 };

typedef struct tile_config {
    uint8_t palette;
    uint8_t start_row;
    uint8_t reserved[14];
    uint16_t column_bytes[16];
    uint8_t rows[16];
} tile_config_t;

/* Four tiles of sums, as a kernel has that multiplies 32 × 32 blocks. */
__attribute__((target("amx-tile,amx-bf16"))) static double tiles_run(float *x, int64_t n)
{
    tile_config_t config = {.palette = 1};
    for (int i = 0; i < 8; i++) {
        config.column_bytes[i] = TILE_COLUMN_BYTES;
        config.rows[i] = TILE_ROWS;
    }
    char zero[TILE_ROWS * TILE_COLUMN_BYTES] = {0};
    _tile_loadconfig(&config);
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    _tile_loadd(4, zero, TILE_COLUMN_BYTES);
    _tile_loadd(5, zero, TILE_COLUMN_BYTES);
    _tile_loadd(6, zero, TILE_COLUMN_BYTES);
    _tile_loadd(7, zero, TILE_COLUMN_BYTES);
    for (int64_t i = 0; i < n; i++) {
        for (int k = 0; k < INNER; k++) {
            _tile_dpbf16ps(0, 4, 6);
            _tile_dpbf16ps(1, 4, 7);
            _tile_dpbf16ps(2, 5, 6);
            _tile_dpbf16ps(3, 5, 7);
        }
    }
    _tile_stored(0, zero, TILE_COLUMN_BYTES);
    _tile_release();
    (void)memcpy(x, zero, 16 * sizeof(float));
    return 4.0 * TILE_FLOP * INNER * (double)n;
}

__attribute__((target("avx512f,avx512bf16"))) static double vectors_run(float *x, int64_t n)
{
    enum { UNROLL = 12 };
    __m512 sum[UNROLL];
    const __m512bh a = (__m512bh)_mm512_loadu_ps(x);
    for (int u = 0; u < UNROLL; u++) {
        sum[u] = _mm512_setzero_ps();
    }
    for (int64_t i = 0; i < n; i++) {
        for (int k = 0; k < INNER; k++) {
#pragma GCC unroll 12
            for (int u = 0; u < UNROLL; u++) {
                sum[u] = _mm512_dpbf16_ps(sum[u], a, a);
            }
        }
    }
    for (int u = 1; u < UNROLL; u++) {
        sum[0] = _mm512_add_ps(sum[0], sum[u]);
    }
    _mm512_storeu_ps(x + 32, sum[0]);
    return (double)VECTOR_FLOP * UNROLL * INNER * (double)n;
}

/* The kernel lets a process have tiles when it asks (arch_prctl's ARCH_REQ_XCOMP_PERM, of state 18). */
static bool tiles_allowed(void)
{
    enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18 };
    return syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
}

machine_dot_func_t machine_dot_get(const char **name_p)
{
    unsigned a = 0;
    unsigned b = 0;
    unsigned c = 0;
    unsigned d = 0;
    if (machine_loops_get() != &machine_loops_v4 || __get_cpuid_count(7, 0, &a, &b, &c, &d) == 0) {
        return NULL;
    }
    const bool has_tiles = (d & (1U << 22)) != 0 && (d & (1U << 24)) != 0; /* amx-bf16, amx-tile */
    if (has_tiles && tiles_allowed()) {
        *name_p = "amx";
        return tiles_run;
    }
    const bool has_vectors = __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a & (1U << 5)) != 0;
    *name_p = "avx512-bf16";
    return has_vectors ? vectors_run : NULL;
}
#else
extern const machine_loops_t machine_loops_base;

const machine_loops_t *machine_loops_get(void)
{
    return &machine_loops_base;
}

machine_dot_func_t machine_dot_get(const char **name_p)
{
    (void)name_p;
    return NULL;
}
#endif
