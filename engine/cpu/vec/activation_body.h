/* SPDX-License-Identifier: Apache-2.0 */
/*
 * activation_body: activations and their derivatives for one type; included by activation.c with T, NAME(name) and
 * functions EXP, EXPM1, LOG1P (of 0 … 1), TANH, ABS of that type without branches. a and b are the attributes f0, f1.
 * At corners the derivatives are PyTorch's; where x isn't a number they are 0 where PyTorch's are only: hardsigmoid.
 */
#define ACTIVATION(name_x, value_x, derivative_x)                                                                      \
    static inline T NAME(name_x)(T x, T a, T b)                                                                        \
    {                                                                                                                  \
        (void)a;                                                                                                       \
        (void)b;                                                                                                       \
        return (value_x);                                                                                              \
    }                                                                                                                  \
    static inline T NAME(name_x##_derivative)(T x, T a, T b)                                                           \
    {                                                                                                                  \
        (void)a;                                                                                                       \
        (void)b;                                                                                                       \
        return (derivative_x);                                                                                         \
    }
#define SELU_SCALE (T)1.0507009873554804934193349852946
#define SELU_ALPHA (T)1.6732632423543772848170429916717
#define LOGISTIC(x_x) (1 / (1 + EXP(-(x_x))))

/* tanh(log(1 + e)) = w / (w + 2), w = e (e + 2), e = exp(x); beyond 15 it is 1 */
static inline T NAME(mish_tanh)(T x)
{
    const T e = EXP(x < 15 ? x : (T)15);
    const T w = e * (e + 2);
    return w / (w + 2);
}

static inline T NAME(mish_slope)(T x)
{
    const T t = NAME(mish_tanh)(x);
    return t + x * (1 - t * t) * LOGISTIC(x);
}

/* log(1 + exp(x)) without overflow */
static inline T NAME(log_one_plus_exp)(T x)
{
    return (x > 0 ? x : 0) + LOG1P(EXP(-ABS(x)));
}

static inline T NAME(square)(T x)
{
    return x * x;
}

ACTIVATION(leaky_relu, x > 0 ? x : a * x, x > 0 ? (T)1 : a)
ACTIVATION(elu, x > 0 ? x : a * EXPM1(x), x > 0 ? (T)1 : a * EXP(x))
ACTIVATION(selu, SELU_SCALE *(x > 0 ? x : SELU_ALPHA * EXPM1(x)), SELU_SCALE *(x > 0 ? (T)1 : SELU_ALPHA * EXP(x)))
ACTIVATION(celu, x > 0 ? x : a * EXPM1(x / a), x > 0 ? (T)1 : EXP(x / a))
ACTIVATION(hardtanh, x<a ? a : x> b ? b : x, x <= a || x >= b ? (T)0 : (T)1)
ACTIVATION(hardsigmoid, x <= -3 ? (T)0 : x >= 3 ? (T)1 : x / 6 + (T)0.5, x > -3 && x < 3 ? (T)1 / 6 : (T)0)
ACTIVATION(hardswish,
           x <= -3  ? x * (T)0
           : x >= 3 ? x
                    : x * (x / 6 + (T)0.5),
           x <= -3  ? (T)0
           : x >= 3 ? (T)1
                    : x / 3 + (T)0.5)
ACTIVATION(softplus, a *x > b ? x : NAME(log_one_plus_exp)(a * x) / a, a *x > b ? (T)1 : LOGISTIC(a * x))
ACTIVATION(softsign, x / (1 + ABS(x)), 1 / NAME(square)(1 + ABS(x)))
ACTIVATION(softshrink, x > a ? x - a : x < -a ? x + a : x * (T)0, x >= -a && x <= a ? (T)0 : (T)1)
ACTIVATION(hardshrink, x > a || x < -a ? x : x * (T)0, x >= -a && x <= a ? (T)0 : (T)1)
ACTIVATION(tanhshrink, x - TANH(x), NAME(square)(TANH(x)))
ACTIVATION(log_sigmoid, -NAME(log_one_plus_exp)(-x), LOGISTIC(-x))
ACTIVATION(mish, x *NAME(mish_tanh)(x), NAME(mish_slope)(x))
ACTIVATION(threshold, x <= a ? b : x, x <= a ? (T)0 : (T)1)

#undef ACTIVATION
#undef SELU_SCALE
#undef SELU_ALPHA
#undef LOGISTIC
