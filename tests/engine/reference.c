/* SPDX-License-Identifier: Apache-2.0 */
/* reference: the table, and the loops of the ops in engine/ops/{shape,elementwise,reduce,activation,matmul}.c. */
#include "tests/engine/reference.h"

#include <math.h>
#include <string.h>

#include "gradd/rng.h"
#include "tests/engine/reference_image.h"
#include "tests/engine/reference_loss.h"
#include "tests/engine/reference_nn.h"
#include "tests/engine/reference_sequence.h"
#include "tests/engine/reference_tensor.h"

void ref_index(const ref_tensor_t *t, int64_t flat, int64_t *index_p)
{
    for (int d = t->n_dims - 1; d >= 0; d--) {
        index_p[d] = flat % t->shape[d];
        flat /= t->shape[d];
    }
}

double ref_at(const ref_tensor_t *t, int n_dims, const int64_t *index)
{
    int64_t flat = 0;
    for (int d = 0; d < t->n_dims; d++) {
        int64_t i = t->shape[d] == 1 ? 0 : index[d + n_dims - t->n_dims];
        flat = flat * t->shape[d] + i;
    }
    return t->data[flat];
}

/* reshape, contiguous, and cast between floats */
static void ref_same(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    (void)attrs;
    if (out->numel > 0) {
        memcpy(out->data, in->data, (size_t)out->numel * sizeof(double));
    }
}

static void ref_permute(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    for (int64_t flat = 0; flat < out->numel; flat++) {
        int64_t index[GD_MAX_DIMS];
        int64_t from[GD_MAX_DIMS] = {0};
        ref_index(out, flat, index);
        for (int d = 0; d < out->n_dims; d++) {
            from[attrs->i[d]] = index[d];
        }
        out->data[flat] = ref_at(in, in->n_dims, from);
    }
}

static void ref_slice(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    int64_t axis = attrs->i[0] < 0 ? attrs->i[0] + in->n_dims : attrs->i[0];
    int64_t start = attrs->i[1] < 0 ? attrs->i[1] + in->shape[axis] : attrs->i[1];
    for (int64_t flat = 0; flat < out->numel; flat++) {
        int64_t index[GD_MAX_DIMS];
        ref_index(out, flat, index);
        index[axis] = start + index[axis] * attrs->i[3];
        out->data[flat] = ref_at(in, in->n_dims, index);
    }
}

static void ref_expand(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    (void)attrs;
    for (int64_t flat = 0; flat < out->numel; flat++) {
        int64_t index[GD_MAX_DIMS];
        ref_index(out, flat, index);
        out->data[flat] = ref_at(in, out->n_dims, index);
    }
}

double ref_as(gd_dtype_t dtype, double value)
{
    return dtype == GD_DTYPE_BOOL ? value != 0 : dtype == GD_DTYPE_U8 ? value - 256 * floor(value / 256) : value;
}

/* A reference of an elementwise op: a and b are the operands (b is 0 for one), f the attributes. */
#define REF_MAP(name_x, n_in_x, expression_x)                                                                          \
    static void ref_##name_x(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)                       \
    {                                                                                                                  \
        const double *f = attrs->f;                                                                                    \
        (void)f;                                                                                                       \
        for (int64_t flat = 0; flat < out->numel; flat++) {                                                            \
            int64_t index[GD_MAX_DIMS];                                                                                \
            ref_index(out, flat, index);                                                                               \
            const double a = ref_at(&in[0], out->n_dims, index);                                                       \
            const double b = (n_in_x) > 1 ? ref_at(&in[1], out->n_dims, index) : 0;                                    \
            (void)b;                                                                                                   \
            out->data[flat] = ref_as(out->dtype, (expression_x));                                                      \
        }                                                                                                              \
    }

static double phi(double x)
{
    return 0.5 * (1 + erf(x / sqrt(2.0)));
}

static const double pi = 3.14159265358979323846;

static double gelu(double x, bool is_tanh)
{
    return is_tanh ? 0.5 * x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x * x * x))) : x * phi(x);
}

static double gelu_derivative(double x, bool is_tanh)
{
    if (!is_tanh) {
        return phi(x) + x * exp(-0.5 * x * x) / sqrt(2 * pi);
    }
    double t = tanh(sqrt(2 / pi) * (x + 0.044715 * x * x * x));
    return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * sqrt(2 / pi) * (1 + 3 * 0.044715 * x * x);
}

static double logistic(double x)
{
    return 1 / (1 + exp(-x));
}

REF_MAP(add, 2, a + b)
REF_MAP(sub, 2, a - b)
REF_MAP(mul, 2, a *b)
REF_MAP(div, 2, a / b)
REF_MAP(scale, 1, f[0] * a + f[1])
REF_MAP(neg, 1, -a)
REF_MAP(exp, 1, exp(a))
REF_MAP(log, 1, log(a))
REF_MAP(sqrt, 1, sqrt(a))
REF_MAP(pow, 1, pow(a, f[0]))
REF_MAP(relu, 1, fmax(a, 0))
REF_MAP(relu_backward, 2, b > 0 ? a : 0)
REF_MAP(gelu, 1, gelu(a, attrs->i[0] != 0))
REF_MAP(gelu_backward, 2, a *gelu_derivative(b, attrs->i[0] != 0))

static void ref_gelu_with_slope(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    for (int64_t i = 0; i < in[0].numel; i++) {
        out[0].data[i] = gelu(in[0].data[i], attrs->i[0] != 0);
        out[1].data[i] = gelu_derivative(in[0].data[i], attrs->i[0] != 0);
    }
}

REF_MAP(tanh, 1, tanh(a))
REF_MAP(tanh_backward, 2, a *(1 - b * b))
REF_MAP(sigmoid, 1, logistic(a))
REF_MAP(sigmoid_backward, 2, a *b *(1 - b))
REF_MAP(silu, 1, a *logistic(a))
REF_MAP(silu_backward, 2, a *(logistic(b) + b * logistic(b) * (1 - logistic(b))))

static void reduce(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out, bool is_mean)
{
    double n = 1;
    for (int d = 0; d < in->n_dims; d++) {
        n *= (attrs->i[0] >> d & 1) != 0 ? (double)in->shape[d] : 1;
    }
    for (int64_t flat = 0; flat < out->numel; flat++) {
        out->data[flat] = 0;
    }
    for (int64_t flat = 0; flat < in->numel; flat++) {
        int64_t index[GD_MAX_DIMS];
        int64_t to = 0;
        ref_index(in, flat, index);
        for (int d = 0; d < in->n_dims; d++) {
            if ((attrs->i[0] >> d & 1) == 0) {
                to = to * in->shape[d] + index[d];
            }
        }
        out->data[to] += in->data[flat] / (is_mean ? n : 1);
    }
}

static void ref_sum(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    reduce(in, attrs, out, false);
}

static void ref_mean(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    reduce(in, attrs, out, true);
}

static void ref_log_softmax(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    (void)attrs;
    int64_t n = in->shape[in->n_dims - 1];
    for (int64_t row = 0; row < in->numel; row += n) {
        double sum = 0;
        for (int64_t i = 0; i < n; i++) {
            sum += exp(in->data[row + i]);
        }
        for (int64_t i = 0; i < n; i++) {
            out->data[row + i] = in->data[row + i] - log(sum);
        }
    }
}

static void ref_softmax(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    ref_log_softmax(in, attrs, out);
    for (int64_t i = 0; i < out->numel; i++) {
        out->data[i] = exp(out->data[i]);
    }
}

static void ref_softmax_backward(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    (void)attrs;
    int64_t n = in->shape[in->n_dims - 1];
    const double *dy = in[0].data;
    const double *y = in[1].data;
    for (int64_t row = 0; row < in->numel; row += n) {
        for (int64_t i = row; i < row + n; i++) {
            out->data[i] = 0;
            for (int64_t j = row; j < row + n; j++) {
                out->data[i] += dy[j] * y[j] * ((i == j) - y[i]);
            }
        }
    }
}

static void ref_log_softmax_backward(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    (void)attrs;
    int64_t n = in->shape[in->n_dims - 1];
    const double *dy = in[0].data;
    const double *y = in[1].data;
    for (int64_t row = 0; row < in->numel; row += n) {
        for (int64_t i = row; i < row + n; i++) {
            out->data[i] = 0;
            for (int64_t j = row; j < row + n; j++) {
                out->data[i] += dy[j] * ((i == j) - exp(y[i]));
            }
        }
    }
}

static void ref_dropout(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    for (int64_t i = 0; i < in->numel; i++) {
        uint32_t word[4];
        int64_t draw = attrs->i[0] > 1 ? i / attrs->i[0] : i;
        gd_philox(&attrs->rng, (uint32_t)(draw / 4), word);
        bool is_kept = (double)gd_rng_unit(word[draw % 4]) >= attrs->f[0];
        out->data[i] = is_kept ? in->data[i] / (1 - attrs->f[0]) : 0;
        if (attrs->i[1] != 0) {
            out->data[i] = is_kept ? in->data[i] * attrs->f[1] + attrs->f[2] : attrs->f[3];
        }
    }
}

static void ref_matmul(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    (void)attrs;
    const ref_tensor_t *a = &in[0];
    const ref_tensor_t *b = &in[1];
    int n = out->n_dims;
    for (int64_t flat = 0; flat < out->numel; flat++) {
        int64_t index[GD_MAX_DIMS];
        int64_t index_a[GD_MAX_DIMS];
        int64_t index_b[GD_MAX_DIMS];
        ref_index(out, flat, index);
        memcpy(index_a, index, sizeof(index));
        memcpy(index_b, index, sizeof(index));
        out->data[flat] = 0;
        for (int64_t k = 0; k < a->shape[a->n_dims - 1]; k++) {
            index_a[n - 1] = k;
            index_b[n - 2] = k;
            out->data[flat] += ref_at(a, n, index_a) * ref_at(b, n, index_b);
        }
    }
}

static void ref_linear(const ref_tensor_t *in, const gd_attrs_t *attrs, ref_tensor_t *out)
{
    bool is_turned = attrs->i[1] != 0;
    int64_t n_out = in[1].shape[is_turned];
    int64_t n_in = in[1].shape[!is_turned];
    for (int64_t flat = 0; flat < out->numel; flat++) {
        int64_t row = flat / n_out;
        int64_t column = flat % n_out;
        double sum = in[2].data != NULL ? in[2].data[column] : 0;
        for (int64_t k = 0; k < n_in; k++) {
            sum += in[0].data[row * n_in + k] * in[1].data[is_turned ? k * n_out + column : column * n_in + k];
        }
        out->data[flat] = sum;
    }
}

const reference_func_t reference_table[GD_OP_COUNT] = {
    /* clang-format off: one a line */
    [GD_OP_RESHAPE] = ref_same,
    [GD_OP_PERMUTE] = ref_permute,
    [GD_OP_SLICE] = ref_slice,
    [GD_OP_EXPAND] = ref_expand,
    [GD_OP_CONTIGUOUS] = ref_same,
    [GD_OP_CAST] = ref_same,
    [GD_OP_ADD] = ref_add,
    [GD_OP_SUB] = ref_sub,
    [GD_OP_MUL] = ref_mul,
    [GD_OP_DIV] = ref_div,
    [GD_OP_SCALE] = ref_scale,
    [GD_OP_NEG] = ref_neg,
    [GD_OP_EXP] = ref_exp,
    [GD_OP_LOG] = ref_log,
    [GD_OP_SQRT] = ref_sqrt,
    [GD_OP_POW] = ref_pow,
    [GD_OP_SUM] = ref_sum,
    [GD_OP_MEAN] = ref_mean,
    [GD_OP_RELU] = ref_relu,
    [GD_OP_RELU_BACKWARD] = ref_relu_backward,
    [GD_OP_GELU] = ref_gelu,
    [GD_OP_GELU_BACKWARD] = ref_gelu_backward,
    [GD_OP_GELU_WITH_SLOPE] = ref_gelu_with_slope,
    [GD_OP_TANH] = ref_tanh,
    [GD_OP_TANH_BACKWARD] = ref_tanh_backward,
    [GD_OP_SIGMOID] = ref_sigmoid,
    [GD_OP_SIGMOID_BACKWARD] = ref_sigmoid_backward,
    [GD_OP_SILU] = ref_silu,
    [GD_OP_SILU_BACKWARD] = ref_silu_backward,
    [GD_OP_SOFTMAX] = ref_softmax,
    [GD_OP_SOFTMAX_BACKWARD] = ref_softmax_backward,
    [GD_OP_LOG_SOFTMAX] = ref_log_softmax,
    [GD_OP_LOG_SOFTMAX_BACKWARD] = ref_log_softmax_backward,
    [GD_OP_DROPOUT] = ref_dropout,
    [GD_OP_MATMUL] = ref_matmul,
    [GD_OP_LINEAR] = ref_linear,
    [GD_OP_LAYER_NORM] = ref_layer_norm,
    [GD_OP_LAYER_NORM_BACKWARD] = ref_layer_norm_backward,
    [GD_OP_BATCH_NORM] = ref_batch_norm,
    [GD_OP_BATCH_NORM_BACKWARD] = ref_batch_norm_backward,
    [GD_OP_CONV2D] = ref_conv2d,
    [GD_OP_CONV2D_BACKWARD_INPUT] = ref_conv2d_backward_input,
    [GD_OP_CONV2D_BACKWARD_WEIGHT] = ref_conv2d_backward_weight,
    [GD_OP_MAX_POOL2D] = ref_max_pool2d,
    [GD_OP_MAX_POOL2D_BACKWARD] = ref_max_pool2d_backward,
    [GD_OP_AVG_POOL2D] = ref_avg_pool2d,
    [GD_OP_AVG_POOL2D_BACKWARD] = ref_avg_pool2d_backward,
    [GD_OP_ATTENTION] = ref_attention,
    [GD_OP_ATTENTION_BACKWARD] = ref_attention_backward,
    [GD_OP_EMBEDDING] = ref_embedding,
    [GD_OP_EMBEDDING_BACKWARD] = ref_embedding_backward,
    [GD_OP_CROSS_ENTROPY] = ref_cross_entropy,
    [GD_OP_CROSS_ENTROPY_BACKWARD] = ref_cross_entropy_backward,
    [GD_OP_CROSS_ENTROPY_SLOPE] = ref_cross_entropy_slope,
    [GD_OP_MSE] = ref_mse,
    [GD_OP_MSE_BACKWARD] = ref_mse_backward,
    [GD_OP_POINTWISE_LOSS] = ref_pointwise_loss,
    [GD_OP_POINTWISE_LOSS_BACKWARD] = ref_pointwise_loss_backward,
    [GD_OP_CLASS_LOSS] = ref_class_loss,
    [GD_OP_CLASS_LOSS_BACKWARD] = ref_class_loss_backward,
    [GD_OP_CTC] = ref_ctc,
    [GD_OP_CTC_BACKWARD] = ref_ctc_backward,
#define ROW(enum_x, name_x) [GD_OP_##enum_x] = ref_##name_x,
    REFERENCE_TENSOR_LIST(ROW) REFERENCE_IMAGE_LIST(ROW) REFERENCE_SEQUENCE_LIST(ROW)
#undef ROW
    /* clang-format on */
};
