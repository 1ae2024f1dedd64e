/* SPDX-License-Identifier: Apache-2.0 */
/* cpu: picks the kernel table by instruction set, once; parallel loops and per-thread scratch memory for kernels. */
#include "cpu/cpu.h"

#include <omp.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#ifdef GD_HAS_AMX
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "base/mem.h"

typedef struct isa {
    gd_cpu_isa_t id;
    const char *word; /* in GRADD_ISA */
    const char *name;
    const gd_kernel_func_t *kernel;
} isa_t;

/* From the least to the most demanding. */
static const isa_t isas[] = {
#ifdef __x86_64__
    {GD_CPU_ISA_V2, "v2", "sse4", gd_cpu_kernels_v2},
    {GD_CPU_ISA_V3, "v3", "avx2", gd_cpu_kernels_v3},
    {GD_CPU_ISA_V4, "v4", "avx512", gd_cpu_kernels_v4},
    {GD_CPU_ISA_AMX, "amx", "avx512+amx", gd_cpu_kernels_v4},
#else
    {GD_CPU_ISA_BASE, "base", "generic", gd_cpu_kernels_base},
#endif
};

static pthread_once_t isa_once = PTHREAD_ONCE_INIT;
static const isa_t *isa_chosen;

#ifdef GD_HAS_AMX
/* The processor has AMX's tiles and bf16 products, and the kernel lets this process use them (arch_prctl(2)). */
static bool amx_open(void)
{
    enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18 };
    const unsigned wanted = 1U << 22 | 1U << 24; /* of leaf 7's edx: AMX-BF16, AMX-TILE */
    unsigned a = 0, b = 0, c = 0, d = 0;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (d & wanted) == wanted &&
           syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
}
#endif

static void isa_choose(void)
{
    size_t best = 0;
#ifdef __x86_64__
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
        __builtin_cpu_supports("bmi2")) {
        best = 1;
        if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
            __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
            __builtin_cpu_supports("avx512vl")) {
            best = 2;
        }
    }
#ifdef GD_HAS_AMX
    if (best == 2 && amx_open()) {
        best = 3;
    }
#endif
#endif
    const char *wanted = getenv("GRADD_ISA");
    for (size_t i = 0; wanted != NULL && i < best; i++) {
        if (strcmp(wanted, isas[i].word) == 0) {
            best = i;
        }
    }
    isa_chosen = &isas[best];
}

static const isa_t *isa_get(void)
{
    (void)pthread_once(&isa_once, isa_choose);
    return isa_chosen;
}

gd_kernel_func_t gd_cpu_kernel(gd_op_id_t id)
{
    return (unsigned)id < GD_OP_COUNT ? isa_get()->kernel[id] : NULL;
}

gd_cpu_isa_t gd_cpu_isa(void)
{
    return isa_get()->id;
}

const char *gd_cpu_isa_name(void)
{
    return isa_get()->name;
}

typedef struct loop {
    int64_t n;
    int64_t grain;
    int64_t n_blocks;
    gd_cpu_body_func_t body;
    void *arg;
} loop_t;

static void loop_run(const loop_t *loop, int64_t first_block, int64_t last_block)
{
    for (int64_t block = first_block; block < last_block; block++) {
        const int64_t begin = block * loop->grain;
        loop->body(loop->arg, begin, loop->n - begin < loop->grain ? loop->n : begin + loop->grain);
    }
}

#ifdef __SANITIZE_THREAD__
/* The thread sanitizer doesn't see libgomp's synchronisation: under it a team is made of plain threads, so that what
 * it reports about the bodies is real. */
typedef struct share {
    const loop_t *loop;
    int64_t first_block;
    int64_t last_block;
    pthread_t thread;
    bool is_started;
} share_t;

enum { MAX_SHARES = 64 };

static void *share_run(void *arg)
{
    const share_t *share = arg;
    loop_run(share->loop, share->first_block, share->last_block);
    return NULL;
}

static void loop_run_team(const loop_t *loop, int n_threads)
{
    share_t shares[MAX_SHARES];
    const int n = n_threads < MAX_SHARES ? n_threads : MAX_SHARES;
    for (int i = 0; i < n; i++) {
        shares[i] =
            (share_t){.loop = loop, .first_block = loop->n_blocks * i / n, .last_block = loop->n_blocks * (i + 1) / n};
        shares[i].is_started = i > 0 && pthread_create(&shares[i].thread, NULL, share_run, &shares[i]) == 0;
    }
    for (int i = 0; i < n; i++) {
        if (!shares[i].is_started) {
            (void)share_run(&shares[i]);
        }
    }
    for (int i = 0; i < n; i++) {
        if (shares[i].is_started) {
            (void)pthread_join(shares[i].thread, NULL);
        }
    }
}
#else
static void loop_run_team(const loop_t *loop, int n_threads)
{
    /* always the full team, even for fewer blocks: libgomp ends the threads that a smaller team leaves over */
#pragma omp parallel for num_threads(n_threads) schedule(static)
    for (int64_t block = 0; block < loop->n_blocks; block++) {
        loop_run(loop, block, block + 1);
    }
}
#endif

void gd_cpu_parallel(int n_threads, int64_t n, int64_t grain, gd_cpu_body_func_t body, void *arg)
{
    const loop_t loop = {.n = n, .grain = grain, .n_blocks = gd_cpu_n_blocks(n, grain), .body = body, .arg = arg};
    if (n_threads <= 1 || loop.n_blocks <= 1) {
        loop_run(&loop, 0, loop.n_blocks);
        return;
    }
    loop_run_team(&loop, n_threads);
}

static const size_t HUGE_PAGE = (size_t)2 << 20;

typedef struct scratch {
    struct {
        void *data;
        size_t size;
    } slot[GD_CPU_SLOT_COUNT];
} scratch_t;

static _Thread_local scratch_t *scratch_own;
static pthread_once_t scratch_once = PTHREAD_ONCE_INIT;
static pthread_key_t scratch_key;

static void scratch_release(void *arg)
{
    scratch_t *scratch = arg;
    for (int i = 0; i < GD_CPU_SLOT_COUNT; i++) {
        free(scratch->slot[i].data);
    }
    free(scratch);
    scratch_own = NULL;
}

static void scratch_key_new(void)
{
    (void)pthread_key_create(&scratch_key, scratch_release);
}

/* Plain malloc, not mem_alloc: the memory lives as long as its thread, which is no leak. */
void *gd_cpu_scratch(gd_cpu_slot_t slot, size_t size_bytes)
{
    if (scratch_own == NULL) {
        (void)pthread_once(&scratch_once, scratch_key_new);
        scratch_own = calloc(1, sizeof(*scratch_own));
        if (scratch_own == NULL) {
            return NULL;
        }
        (void)pthread_setspecific(scratch_key, scratch_own);
    }
    if (scratch_own->slot[slot].data == NULL || scratch_own->slot[slot].size < size_bytes) {
        const size_t page = size_bytes >= HUGE_PAGE / 4 ? HUGE_PAGE : 4096;
        const size_t size = ((size_bytes > page ? size_bytes : page) + page - 1) & ~(page - 1);
        free(scratch_own->slot[slot].data);
        void *data = aligned_alloc(page, size);
        if (data != NULL && page == HUGE_PAGE) {
            (void)madvise(data, size, MADV_HUGEPAGE); /* advice only */
        }
        scratch_own->slot[slot].data = data;
        scratch_own->slot[slot].size = data != NULL ? size : 0;
    }
    return scratch_own->slot[slot].data;
}

status_t gd_cpu_fail_dtype(const char *op, int32_t dtype)
{
    const char *name = gd_dtype_name((gd_dtype_t)dtype);
    return ST_FAIL(ST_ERR_UNSUPPORTED, "%s: no CPU kernel for %s", op, name != NULL ? name : "this dtype");
}

status_t gd_cpu_parallel_real(const char *op, int32_t dtype, int n_threads, int64_t n, int64_t grain,
                              gd_cpu_bodies_t bodies, void *arg)
{
    if (dtype != GD_DTYPE_F32 && dtype != GD_DTYPE_F64) {
        return gd_cpu_fail_dtype(op, dtype);
    }
    gd_cpu_parallel(n_threads, n, grain, dtype == GD_DTYPE_F32 ? bodies.f32 : bodies.f64, arg);
    return ST_OK;
}
