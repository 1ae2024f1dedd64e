/* SPDX-License-Identifier: Apache-2.0 */
/*
 * unary_kinds: X(ENUM, derivative) of the functions whose gradients are dy times an expression of one saved tensor s
 * (the input, or the output where that is cheaper; ops/unary.c says which). The expression is of type T with the
 * functions FN(exp) = expf or exp; f holds the attributes. Shared by the row, the kernel and the reference.
 */
#ifndef GRADD_OPS_UNARY_KINDS_H
#define GRADD_OPS_UNARY_KINDS_H

#define UNARY_KIND_LIST(X, T, FN)                                                                                      \
    X(ABS, (T)((s > 0) - (s < 0)))                                                                                     \
    X(SIN, FN(cos)(s))                                                                                                 \
    X(COS, -FN(sin)(s))                                                                                                \
    X(TAN, 1 + s * s)                                                                                                  \
    X(EXP2, s *(T)0.69314718055994530942)                                                                              \
    X(EXPM1, s + 1)                                                                                                    \
    X(LOG1P, 1 / (1 + s))                                                                                              \
    X(LOG2, 1 / (s * (T)0.69314718055994530942))                                                                       \
    X(LOG10, 1 / (s * (T)2.30258509299404568402))                                                                      \
    X(ERF, (T)1.12837916709551257390 * FN(exp)(-s * s))                                                                \
    X(RSQRT, (T)-0.5 * s * s * s)                                                                                      \
    X(RECIPROCAL, -s *s)                                                                                               \
    X(SQUARE, 2 * s)                                                                                                   \
    X(CLAMP, (T)(s >= (T)f[0] && s <= (T)f[1]))

enum unary_kind {
#define UNARY_KIND_ENUM(name_x, derivative_x) UNARY_##name_x,
    UNARY_KIND_LIST(UNARY_KIND_ENUM, , )
#undef UNARY_KIND_ENUM
        UNARY_KIND_COUNT
};

#endif
