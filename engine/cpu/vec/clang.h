/* SPDX-License-Identifier: Apache-2.0 */
/*
 * clang: GCC's shuffle of vectors, for clang, which lacks it: element i of v (of a followed by b) for each i of index.
 * Included in front of every source when clang compiles (the fuzz preset); correct, not fast.
 */
#ifndef GRADD_CPU_VEC_CLANG_H
#define GRADD_CPU_VEC_CLANG_H

#define CLANG_SHUFFLE(width_x)                                                                                         \
    typedef float clang_f##width_x __attribute__((vector_size(4 * (width_x))));                                        \
    typedef int clang_i##width_x __attribute__((vector_size(4 * (width_x))));                                          \
    static inline __attribute__((overloadable, always_inline, unused)) clang_f##width_x __builtin_shuffle(             \
        clang_f##width_x v, clang_i##width_x index)                                                                    \
    {                                                                                                                  \
        clang_f##width_x y = v;                                                                                        \
        for (int i = 0; i < (width_x); i++) {                                                                          \
            y[i] = v[index[i] & ((width_x)-1)];                                                                        \
        }                                                                                                              \
        return y;                                                                                                      \
    }                                                                                                                  \
    static inline __attribute__((overloadable, always_inline, unused)) clang_f##width_x __builtin_shuffle(             \
        clang_f##width_x a, clang_f##width_x b, clang_i##width_x index)                                                \
    {                                                                                                                  \
        clang_f##width_x y = a;                                                                                        \
        for (int i = 0; i < (width_x); i++) {                                                                          \
            int k = index[i] & (2 * (width_x)-1);                                                                      \
            y[i] = k < (width_x) ? a[k] : b[k - (width_x)];                                                            \
        }                                                                                                              \
        return y;                                                                                                      \
    }

CLANG_SHUFFLE(2)
CLANG_SHUFFLE(4)
CLANG_SHUFFLE(8)
CLANG_SHUFFLE(16)

#undef CLANG_SHUFFLE

#endif
