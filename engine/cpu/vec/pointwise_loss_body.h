/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pointwise_loss_body: the elementwise losses for one type; included by pointwise_loss.c with T, NAME(name) and the
 * functions EXP, LOG, LOG1P, POW, ABS of that type. Each function fills out[n] with values (VALUE_OF) or with
 * derivatives by x, y or weight (D_X, D_Y, D_W). w and v are NULL where there is none; a and b are the parameters.
 */

#define LOSS_FUNCTION(name_x, expression_x)                                                                            \
    static void NAME(name_x)(const T *x_, const T *y_, const T *w_, const T *v_, T *out, int64_t n, T a, T b,          \
                             int option)                                                                               \
    {                                                                                                                  \
        (void)w_;                                                                                                      \
        (void)v_;                                                                                                      \
        (void)a;                                                                                                       \
        (void)b;                                                                                                       \
        (void)option;                                                                                                  \
        for (int64_t i = 0; i < n; i++) {                                                                              \
            const T x = x_[i];                                                                                         \
            const T y = y_[i];                                                                                         \
            (void)x;                                                                                                   \
            (void)y;                                                                                                   \
            out[i] = (expression_x);                                                                                   \
        }                                                                                                              \
    }
#define W (w_ != NULL ? w_[i] : (T)1)
#define V (v_ != NULL ? v_[i] : (T)1)

static inline T NAME(sign)(T x)
{
    return x > 0 ? (T)1 : x < 0 ? (T)-1 : x; /* NaN stays */
}

/* log(1 + exp(t)), of any t. */
static inline T NAME(softplus)(T t)
{
    return (t > 0 ? t : 0) + LOG1P(EXP(-ABS(t)));
}

static inline T NAME(logistic)(T t)
{
    return 1 / (1 + EXP(-t));
}

static inline T NAME(clamped_log)(T x)
{
    const T y = LOG(x);
    return y < -100 ? -100 : y;
}

LOSS_FUNCTION(l1, ABS(x - y))
LOSS_FUNCTION(l1_dx, NAME(sign)(x - y))
LOSS_FUNCTION(l1_dy, NAME(sign)(y - x))

LOSS_FUNCTION(mse, (x - y) * (x - y))
LOSS_FUNCTION(mse_dx, 2 * (x - y))
LOSS_FUNCTION(mse_dy, 2 * (y - x))

LOSS_FUNCTION(smooth_l1, ABS(x - y) < a ? (T)0.5 * (x - y) * (x - y) / a : ABS(x - y) - (T)0.5 * a)
LOSS_FUNCTION(smooth_l1_dx, ABS(x - y) < a ? (x - y) / a : NAME(sign)(x - y))
LOSS_FUNCTION(smooth_l1_dy, ABS(x - y) < a ? (y - x) / a : NAME(sign)(y - x))

LOSS_FUNCTION(huber, ABS(x - y) < a ? (T)0.5 * (x - y) * (x - y) : a * (ABS(x - y) - (T)0.5 * a))
LOSS_FUNCTION(huber_dx, ABS(x - y) < a ? x - y : a * NAME(sign)(x - y))
LOSS_FUNCTION(huber_dy, ABS(x - y) < a ? y - x : a * NAME(sign)(y - x))

static inline T NAME(bce_value)(T x, T y)
{
    const T of_zero = LOG1P(-x);
    return (y - 1) * (of_zero < -100 ? -100 : of_zero) - y * NAME(clamped_log)(x);
}

static inline T NAME(bce_slope)(T x, T y)
{
    const T variance = (1 - x) * x;
    return (x - y) / (variance > (T)1e-12F ? variance : (T)1e-12F);
}

LOSS_FUNCTION(bce, W *NAME(bce_value)(x, y))
LOSS_FUNCTION(bce_dx, W *NAME(bce_slope)(x, y))
LOSS_FUNCTION(bce_dy, W *(LOG1P(-x) - LOG(x)))

LOSS_FUNCTION(bce_with_logits, W *((1 - y) * x + (1 + (V - 1) * y) * NAME(softplus)(-x)))
LOSS_FUNCTION(bce_with_logits_dx, W *((1 - y) - (1 + (V - 1) * y) * NAME(logistic)(-x)))
LOSS_FUNCTION(bce_with_logits_dy, W *((V - 1) * NAME(softplus)(-x) - x))

static inline T NAME(entropy)(T y)
{
    return y == 0 ? 0 : y * LOG(y);
}

LOSS_FUNCTION(kl_div, (option & 1) != 0 ? EXP(y) * (y - x) : NAME(entropy)(y) - y * x)
LOSS_FUNCTION(kl_div_dx, (option & 1) != 0 ? -EXP(y) : -y)
LOSS_FUNCTION(kl_div_dy, (option & 1) != 0 ? EXP(y) * (y - x + 1) : LOG(y) + 1 - x)

/* Of log y!, for y > 1. */
static inline T NAME(stirling)(T y)
{
    return y > 1 ? y * LOG(y) - y + (T)0.5 * LOG((T)6.283185307179586477 * y) : 0;
}

LOSS_FUNCTION(poisson_nll,
              ((option & 1) != 0 ? EXP(x) - y * x : x - y * LOG(x + a)) + ((option & 2) != 0 ? NAME(stirling)(y) : 0))
LOSS_FUNCTION(poisson_nll_dx, (option & 1) != 0 ? EXP(x) - y : 1 - y / (x + a))
LOSS_FUNCTION(poisson_nll_dy, (option & 1) != 0 ? -x : -LOG(x + a))

#define VARIANCE (w_[i] > a ? w_[i] : a)
LOSS_FUNCTION(gaussian_nll, (T)0.5 * (LOG(VARIANCE) + (x - y) * (x - y) / VARIANCE) +
                                ((option & 2) != 0 ? (T)0.918938533204672742 : 0))
LOSS_FUNCTION(gaussian_nll_dx, (x - y) / VARIANCE)
LOSS_FUNCTION(gaussian_nll_dy, (y - x) / VARIANCE)
LOSS_FUNCTION(gaussian_nll_dw, (T)0.5 * (1 - (x - y) * (x - y) / VARIANCE) / VARIANCE)
#undef VARIANCE

LOSS_FUNCTION(hinge_embedding, (y != 1 && !(a - x < 0) ? a - x : 0) + (y != -1 ? x : 0))
LOSS_FUNCTION(hinge_embedding_dx, (y != 1 && a - x >= 0 ? (T)-1 : 0) + (y != -1 ? (T)1 : 0))

LOSS_FUNCTION(soft_margin, NAME(softplus)(-y *x))
LOSS_FUNCTION(soft_margin_dx, -y *NAME(logistic)(-y *x))

/* a: alpha, b: gamma; miss = 1 - the probability of the target. */
static inline T NAME(focal_value)(T x, T y, T a, T b)
{
    const T entropy = (1 - y) * x + NAME(softplus)(-x);
    const T miss = y * NAME(logistic)(-x) + (1 - y) * NAME(logistic)(x);
    return (a < 0 ? 1 : a * y + (1 - a) * (1 - y)) * entropy * POW(miss, b);
}

static inline T NAME(focal_slope)(T x, T y, T a, T b)
{
    const T p = NAME(logistic)(x);
    const T q = NAME(logistic)(-x);
    const T entropy = (1 - y) * x + NAME(softplus)(-x);
    const T miss = y * q + (1 - y) * p;
    const T first = (y * -q + (1 - y) * p) * POW(miss, b); /* p - y */
    const T second = miss > 0 && b != 0 ? b * entropy * POW(miss, b - 1) * (1 - 2 * y) * p * q : 0;
    return (a < 0 ? 1 : a * y + (1 - a) * (1 - y)) * (first + second);
}

LOSS_FUNCTION(focal, NAME(focal_value)(x, y, a, b))
LOSS_FUNCTION(focal_dx, NAME(focal_slope)(x, y, a, b))

#undef W
#undef V
#undef LOSS_FUNCTION

typedef void (*NAME(loss_func_t))(const T *x, const T *y, const T *w, const T *v, T *out, int64_t n, T a, T b,
                                  int option);

/* Values, and derivatives by inputs 0, 1 and 2; NULL: not differentiable. */
static const NAME(loss_func_t) NAME(loss_functions)[GD_LOSS_POINTWISE_COUNT][4] = {
    [GD_LOSS_L1] = {NAME(l1), NAME(l1_dx), NAME(l1_dy)},
    [GD_LOSS_MSE] = {NAME(mse), NAME(mse_dx), NAME(mse_dy)},
    [GD_LOSS_SMOOTH_L1] = {NAME(smooth_l1), NAME(smooth_l1_dx), NAME(smooth_l1_dy)},
    [GD_LOSS_HUBER] = {NAME(huber), NAME(huber_dx), NAME(huber_dy)},
    [GD_LOSS_BCE] = {NAME(bce), NAME(bce_dx), NAME(bce_dy)},
    [GD_LOSS_BCE_WITH_LOGITS] = {NAME(bce_with_logits), NAME(bce_with_logits_dx), NAME(bce_with_logits_dy)},
    [GD_LOSS_KL_DIV] = {NAME(kl_div), NAME(kl_div_dx), NAME(kl_div_dy)},
    [GD_LOSS_POISSON_NLL] = {NAME(poisson_nll), NAME(poisson_nll_dx), NAME(poisson_nll_dy)},
    [GD_LOSS_GAUSSIAN_NLL] = {NAME(gaussian_nll), NAME(gaussian_nll_dx), NAME(gaussian_nll_dy), NAME(gaussian_nll_dw)},
    [GD_LOSS_HINGE_EMBEDDING] = {NAME(hinge_embedding), NAME(hinge_embedding_dx)},
    [GD_LOSS_SOFT_MARGIN] = {NAME(soft_margin), NAME(soft_margin_dx)},
    [GD_LOSS_FOCAL] = {NAME(focal), NAME(focal_dx)},
};

enum { NAME(CHUNK) = 512 };

static void NAME(sum_body)(void *arg, int64_t begin, int64_t end)
{
    const pointwise_t *p = arg;
    T values[NAME(CHUNK)];
    double sum = 0.0;
    for (int64_t i = begin; i < end; i += NAME(CHUNK)) {
        const int64_t n = end - i < NAME(CHUNK) ? end - i : NAME(CHUNK);
        NAME(loss_functions)
        [p->kind][0]((const T *)p->x + i, (const T *)p->y + i, p->w != NULL ? (const T *)p->w + i : NULL,
                     p->v != NULL ? (const T *)p->v + i : NULL, values, n, (T)p->a, (T)p->b, p->option);
        for (int64_t j = 0; j < n; j++) {
            sum += (double)values[j];
        }
    }
    p->sums.of_block[0][begin / ELEMENTS_PER_BLOCK] = sum;
}

/* out = factor · f, or factor · dy · f */
static void NAME(map_body)(void *arg, int64_t begin, int64_t end)
{
    const pointwise_t *p = arg;
    T *out = (T *)p->out + begin;
    const T *dy = p->dy != NULL ? (const T *)p->dy + begin : NULL;
    const T factor = (T)p->factor;
    const int64_t n = end - begin;
    NAME(loss_functions)
    [p->kind][p->which]((const T *)p->x + begin, (const T *)p->y + begin, p->w != NULL ? (const T *)p->w + begin : NULL,
                        p->v != NULL ? (const T *)p->v + begin : NULL, out, n, (T)p->a, (T)p->b, p->option);
    for (int64_t i = 0; i < n; i++) {
        out[i] *= dy != NULL ? factor * dy[i] : factor;
    }
}
