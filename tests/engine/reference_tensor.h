/* SPDX-License-Identifier: Apache-2.0 */
/* reference_tensor: the loops of the ops in engine/ops/{unary,binary,index,sort,view,fold}.c. */
#ifndef GRADD_TESTS_ENGINE_REFERENCE_TENSOR_H
#define GRADD_TESTS_ENGINE_REFERENCE_TENSOR_H

#include "tests/engine/reference.h"

/* X(ENUM, name) */
#define REFERENCE_TENSOR_LIST(X)                                                                                       \
    X(CAT, cat)                                                                                                        \
    X(GATHER, gather)                                                                                                  \
    X(SCATTER, scatter)                                                                                                \
    X(NONZERO, nonzero)                                                                                                \
    X(INDEX_PLACES, index_places)                                                                                      \
    X(SCATTER_REDUCE, scatter_reduce)                                                                                  \
    X(SCATTER_REDUCE_BACKWARD, scatter_reduce_backward)                                                                \
    X(SORT, sort)                                                                                                      \
    X(CUMSUM, cumsum)                                                                                                  \
    X(CUMPROD, cumprod)                                                                                                \
    X(AS_STRIDED, as_strided)                                                                                          \
    X(DIAGONAL, diagonal)                                                                                              \
    X(FLIP, flip)                                                                                                      \
    X(PAD, pad)                                                                                                        \
    X(TRIL, tril)                                                                                                      \
    X(TRIU, triu)                                                                                                      \
    X(ABS, abs)                                                                                                        \
    X(SIGN, sign)                                                                                                      \
    X(SQUARE, square)                                                                                                  \
    X(FLOOR, floor)                                                                                                    \
    X(CEIL, ceil)                                                                                                      \
    X(ROUND, round)                                                                                                    \
    X(TRUNC, trunc)                                                                                                    \
    X(SIN, sin)                                                                                                        \
    X(COS, cos)                                                                                                        \
    X(TAN, tan)                                                                                                        \
    X(EXP2, exp2)                                                                                                      \
    X(EXPM1, expm1)                                                                                                    \
    X(LOG1P, log1p)                                                                                                    \
    X(LOG2, log2)                                                                                                      \
    X(LOG10, log10)                                                                                                    \
    X(ERF, erf)                                                                                                        \
    X(RSQRT, rsqrt)                                                                                                    \
    X(RECIPROCAL, reciprocal)                                                                                          \
    X(ISNAN, isnan)                                                                                                    \
    X(ISINF, isinf)                                                                                                    \
    X(ISFINITE, isfinite)                                                                                              \
    X(LOGICAL_NOT, logical_not)                                                                                        \
    X(CLAMP, clamp)                                                                                                    \
    X(UNARY_BACKWARD, unary_backward)                                                                                  \
    X(MAXIMUM, maximum)                                                                                                \
    X(MINIMUM, minimum)                                                                                                \
    X(POWER, power)                                                                                                    \
    X(FMOD, fmod)                                                                                                      \
    X(REMAINDER, remainder)                                                                                            \
    X(ATAN2, atan2)                                                                                                    \
    X(EQ, eq)                                                                                                          \
    X(NE, ne)                                                                                                          \
    X(LT, lt)                                                                                                          \
    X(LE, le)                                                                                                          \
    X(GT, gt)                                                                                                          \
    X(GE, ge)                                                                                                          \
    X(LOGICAL_AND, logical_and)                                                                                        \
    X(LOGICAL_OR, logical_or)                                                                                          \
    X(LOGICAL_XOR, logical_xor)                                                                                        \
    X(WHERE, where)                                                                                                    \
    X(AMAX, amax)                                                                                                      \
    X(AMIN, amin)                                                                                                      \
    X(PROD, prod)                                                                                                      \
    X(NORM, norm)                                                                                                      \
    X(ANY, any)                                                                                                        \
    X(ALL, all)                                                                                                        \
    X(ARGMAX, argmax)                                                                                                  \
    X(ARGMIN, argmin)

#define REFERENCE_DECLARE(enum_x, name_x)                                                                              \
    void ref_##name_x(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out);
REFERENCE_TENSOR_LIST(REFERENCE_DECLARE)
#undef REFERENCE_DECLARE

#endif
