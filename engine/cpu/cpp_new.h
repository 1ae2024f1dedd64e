/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cpp_new: C++'s operator new and delete for what oneDNN makes while it computes. Private to engine/cpu.
 *
 * Note [oneDNN's blocks]
 * Each dnnl_primitive_execute builds maps of its arguments and a few std::functions: 5 to 20 blocks of 32 to 320 bytes
 * that live no longer than the call, from operator new. A step must not depend on the heap, so these come from blocks
 * of ours. C++ lets a program replace the operators ([new.delete.single] in the standard); all other forms of new and
 * delete but those of over-aligned types are made of these two in the C++ library. Ours serve small sizes from the
 * thread's own 256 blocks in static memory, but only within gd_cpp_new_begin and _end and in the threads of an OpenMP
 * region, where oneDNN's loops run; everything else, and what finds no free block, goes to the C++ library's own
 * operators, exceptions included. So other C++ code of the process (gRPC's, an embedding program's) keeps its heap, but
 * for the price of asking; and where a program has operators of its own, these stand aside (they are weak), as they do
 * for the sanitizers. Making a primitive and its first run are left to the heap: what they make, compiled code above
 * all, lasts. What this can't reach: oneDNN 2.6's own GEMM ("gemm" in the name of an implementation) gets the memory it
 * packs matrices into from posix_memalign. So whatever it would take that for is ours: matrices with gaps, and below
 * AVX-512 all, go to vec/gemm.c or are copied (gd_onednn_gemm), and convolutions to conv_gemm.c.
 */
#ifndef GRADD_CPU_CPP_NEW_H
#define GRADD_CPU_CPP_NEW_H

#include <stdbool.h>

enum { GD_CPP_BLOCK_SIZE = 512, GD_CPP_N_BLOCKS = 256 };

/* Whether the operators are replaced in this build. */
bool gd_cpp_new_is_replaced(void);

/*
 * Between the two, this thread's small blocks are ours, or, where they will last, all the C++ library's. They may be
 * freed later and by any thread. Not nested.
 */
void gd_cpp_new_begin(bool is_lasting);
void gd_cpp_new_end(void);
/* Whether this thread is between the two. */
bool gd_cpp_new_is_within(void);

/* Whether oneDNN's parallel loops are ours in this build: see Note [A smaller team costs threads]. */
bool gd_cpp_parallel_is_replaced(void);

#endif
