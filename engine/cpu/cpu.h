/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cpu: the CPU backend's kernel table and what its kernels share.
 *
 * Files in engine/cpu/vec/ are compiled once per instruction set (x86-64-v2, -v3, -v4; once elsewhere) with GD_ISA
 * defined as v2, v3, v4 (base elsewhere), so every external name in them goes through CPU_FN. vec/table.c makes one
 * kernel table a set; cpu.c picks the table once, by what the processor has. Files in engine/cpu/ itself are compiled
 * once, without special flags.
 *
 * Rule: a kernel's result depends on its arguments only, never on n_threads: split work into blocks of a fixed size
 * (gd_cpu_parallel), and add partial results in block order.
 */
#ifndef GRADD_CPU_CPU_H
#define GRADD_CPU_CPU_H

#include <stddef.h>
#include <stdint.h>

#include "gradd/op.h"

/* In vec/ only: CPU_FN(relu) is gd_cpu_relu_v4 in the x86-64-v4 build. CPU_KERNEL(relu); declares a kernel. */
#define CPU_JOIN_(a, b) a##b
#define CPU_JOIN(a, b) CPU_JOIN_(a, b)
#define CPU_FN(name) CPU_JOIN(gd_cpu_##name##_, GD_ISA)
#define CPU_KERNEL(name) status_t CPU_FN(name)(const gd_kernel_args_t *args)

/* One table an instruction set, from vec/table.c; GD_CPU_ISA_COUNT entries of gd_op_id_t → kernel. */
#ifdef __x86_64__
extern const gd_kernel_func_t gd_cpu_kernels_v2[GD_OP_COUNT];
extern const gd_kernel_func_t gd_cpu_kernels_v3[GD_OP_COUNT];
extern const gd_kernel_func_t gd_cpu_kernels_v4[GD_OP_COUNT];
#else
extern const gd_kernel_func_t gd_cpu_kernels_base[GD_OP_COUNT];
#endif

/* NULL: this backend has no kernel for the op. Kernels check the dtype themselves (ST_ERR_UNSUPPORTED). */
gd_kernel_func_t gd_cpu_kernel(gd_op_id_t id);

/*
 * The instruction set in use: the most that the processor has. The environment's GRADD_ISA=v2|v3|v4, read at first use,
 * asks for a lower one; anything else in it is ignored. AMX is V4's kernel table with matrix products by amx.h.
 */
typedef enum gd_cpu_isa { GD_CPU_ISA_BASE, GD_CPU_ISA_V2, GD_CPU_ISA_V3, GD_CPU_ISA_V4, GD_CPU_ISA_AMX } gd_cpu_isa_t;
gd_cpu_isa_t gd_cpu_isa(void);
/* "generic", "sse4", "avx2", "avx512" or "avx512+amx", for gd_numerics_fingerprint. */
const char *gd_cpu_isa_name(void);

/*
 * Runs body(arg, begin, end) for every block [begin, end) of [0, n): blocks are `grain` long and begin at multiples of
 * it (the last one may be shorter), whatever n_threads is; each thread gets a run of neighbouring blocks. n ≤ grain or
 * n_threads ≤ 1 runs on the calling thread.
 */
typedef void (*gd_cpu_body_func_t)(void *arg, int64_t begin, int64_t end);
void gd_cpu_parallel(int n_threads, int64_t n, int64_t grain, gd_cpu_body_func_t body, void *arg);
/* The same with the body for the dtype; ST_ERR_UNSUPPORTED, naming the op, for another than f32 and f64. */
typedef struct gd_cpu_bodies {
    gd_cpu_body_func_t f32, f64;
} gd_cpu_bodies_t;
status_t gd_cpu_parallel_real(const char *op, int32_t dtype, int n_threads, int64_t n, int64_t grain,
                              gd_cpu_bodies_t bodies, void *arg);
/* The number of blocks that gd_cpu_parallel makes. */
static inline int64_t gd_cpu_n_blocks(int64_t n, int64_t grain)
{
    return (n + grain - 1) / grain;
}

/*
 * Scratch memory of the calling thread: 64-byte aligned, at least size_bytes, uninitialised, valid until the thread's
 * next call with the same slot; kept between calls, so that a steady loop allocates nothing. NULL: out of memory.
 * Threads of gd_cpu_parallel have their own. Slots: who may hold scratch at the same time.
 */
typedef enum gd_cpu_slot {
    GD_CPU_SLOT_KERNEL,  /* a kernel, on the calling thread */
    GD_CPU_SLOT_WORKER,  /* a body of gd_cpu_parallel */
    GD_CPU_SLOT_ONEDNN,  /* oneDNN's scratchpad */
    GD_CPU_SLOT_REORDER, /* oneDNN's blocked copies: four of them */
    GD_CPU_SLOT_REORDER_2,
    GD_CPU_SLOT_REORDER_3,
    GD_CPU_SLOT_REORDER_4,
    GD_CPU_SLOT_CONVERTED, /* f32 copies of 16-bit operands */
    GD_CPU_SLOT_GEMM,      /* packed panels of amx.c and vec/gemm.c */
    GD_CPU_SLOT_COUNT
} gd_cpu_slot_t;
void *gd_cpu_scratch(gd_cpu_slot_t slot, size_t size_bytes);

/* Records "<op>: no CPU kernel for <dtype>" and returns ST_ERR_UNSUPPORTED. */
status_t gd_cpu_fail_dtype(const char *op, int32_t dtype);

/* Elements of a view. */
static inline int64_t gd_view_numel(const gd_view_t *v)
{
    int64_t n = 1;
    for (int i = 0; i < v->n_dims; i++) {
        n *= v->shape[i];
    }
    return n;
}

/* Row-major without gaps (dimensions of size 1 may have any stride). */
static inline int gd_view_is_contiguous(const gd_view_t *v)
{
    int64_t expected = 1;
    for (int i = v->n_dims - 1; i >= 0; i--) {
        if (v->shape[i] != 1 && v->stride[i] != expected) {
            return 0;
        }
        expected *= v->shape[i];
    }
    return 1;
}

#endif
