/* SPDX-License-Identifier: Apache-2.0 */
/*
 * init: first values of parameters. Glorot and Bengio, AISTATS 2010 (xavier); He et al., ICCV 2015 (kaiming); fans as
 * PyTorch computes them: weight[out, in, …] has fan-in in·… and fan-out out·….
 */
#include <math.h>
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"
#include "gradd/nn.h"
#include "gradd/rng.h"
#include "tensor/internal.h"

enum { PURPOSE_INIT = 1 };

typedef struct init_fans {
    double in, out;
} init_fans_t;

static init_fans_t fans_get(const gd_tensor_t *tensor)
{
    int n_dims = gd_tensor_n_dims(tensor);
    const int64_t *shape = gd_tensor_shape(tensor);
    double receptive = 1;
    for (int d = 2; d < n_dims; d++) {
        receptive *= (double)shape[d];
    }
    double first = n_dims > 0 ? (double)shape[0] : 1;
    double second = n_dims > 1 ? (double)shape[1] : first;
    return (init_fans_t){.in = fmax(second * receptive, 1), .out = fmax(first * receptive, 1)};
}

double gd_init_gain(gd_gain_t nonlinearity, double slope)
{
    switch (nonlinearity) {
    case GD_GAIN_TANH:
        return 5.0 / 3;
    case GD_GAIN_RELU:
        return sqrt(2);
    case GD_GAIN_LEAKY_RELU:
        return sqrt(2 / (1 + slope * slope));
    case GD_GAIN_SELU:
        return 0.75;
    default:
        return 1;
    }
}

static double kaiming_std(gd_init_t init, init_fans_t fans)
{
    const double gain = init.gain > 0 ? init.gain : gd_init_gain(GD_GAIN_LEAKY_RELU, init.a);
    return gain / sqrt(init.uses_fan_out ? fans.out : fans.in);
}

/* x with normal distribution function p, in (0, 1): bisected to a start, then Newton's steps on erfc. */
static double normal_quantile(double p)
{
    double low = -38, high = 38;
    for (int i = 0; i < 20; i++) {
        const double middle = (low + high) / 2;
        if (0.5 * erfc(-middle / sqrt(2)) < p) {
            low = middle;
        } else {
            high = middle;
        }
    }
    double x = (low + high) / 2;
    for (int i = 0; i < 4; i++) {
        const double density = exp(-0.5 * x * x) / sqrt(2 * acos(-1));
        x -= density > 0 ? (0.5 * erfc(-x / sqrt(2)) - p) / density : 0;
    }
    return x;
}

/* Normal with mean a and deviation b, within [c, d] (Burkardt's inverse method, as PyTorch does). */
static void truncated_fill(const gd_rng_key_t *key, gd_init_t init, float *data, int64_t n)
{
    const double low = 0.5 * erfc(-(init.c - init.a) / init.b / sqrt(2));
    const double high = 0.5 * erfc(-(init.d - init.a) / init.b / sqrt(2));
    gd_rng_fill_uniform(key, 0, 1, data, n);
    for (int64_t i = 0; i < n; i++) {
        const double p = low + (high - low) * ((double)data[i] + 0x1p-25);
        data[i] = (float)fmin(fmax(init.a + init.b * normal_quantile(p), init.c), init.d);
    }
}

/* Rows (columns, where there are fewer) of a normal matrix made orthonormal, twice for the sake of rounding. */
static status_t orthogonal_fill(const gd_rng_key_t *key, double gain, float *data, int64_t rows, int64_t columns)
{
    const bool is_tall = rows > columns;
    const int64_t n = is_tall ? columns : rows, width = is_tall ? rows : columns;
    double *q = mem_calloc((size_t)(n * width) + 1, sizeof(*q));
    if (q == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "%lld numbers for an orthogonal matrix", (long long)(n * width));
    }
    gd_rng_fill_normal(key, 0, 1, data, rows * columns);
    for (int64_t i = 0; i < n * width; i++) {
        q[i] = (double)data[i];
    }
    for (int64_t i = 0; i < n; i++) {
        double *v = q + i * width;
        for (int64_t j = 0; j < 2 * i; j++) {
            const double *u = q + j % i * width;
            double dot = 0;
            for (int64_t k = 0; k < width; k++) {
                dot += u[k] * v[k];
            }
            for (int64_t k = 0; k < width; k++) {
                v[k] -= dot * u[k];
            }
        }
        double squares = 0;
        for (int64_t k = 0; k < width; k++) {
            squares += v[k] * v[k];
        }
        for (int64_t k = 0; k < width; k++) {
            v[k] /= sqrt(squares);
        }
    }
    for (int64_t i = 0; i < rows * columns; i++) {
        const int64_t at = is_tall ? i % columns * width + i / columns : i;
        data[i] = (float)(gain * q[at]);
    }
    mem_free(q);
    return ST_OK;
}

/* In each column a share a of the rows, rounded up, is 0; the rest is normal with deviation b (Martens, ICML 2010). */
static status_t sparse_fill(const gd_rng_key_t *key, gd_init_t init, float *data, int64_t rows, int64_t columns)
{
    const int64_t n_zeros = (int64_t)ceil(init.a * (double)rows);
    uint32_t *order = mem_calloc((size_t)rows + 1, sizeof(*order));
    if (order == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "%lld numbers for a sparse matrix", (long long)rows);
    }
    gd_rng_fill_normal(key, 0, (float)init.b, data, rows * columns);
    for (int64_t column = 0; column < columns; column++) {
        gd_rng_key_t own = *key;
        own.microbatch = (uint32_t)column + 1; /* 0 drew the values */
        gd_rng_permutation(&own, order, (uint32_t)rows);
        for (int64_t i = 0; i < n_zeros; i++) {
            data[(int64_t)order[i] * columns + column] = 0;
        }
    }
    mem_free(order);
    return ST_OK;
}

/* weight[out, in, …]: each output channel of a group passes the input channel of its number on. */
static void dirac_fill(const gd_tensor_t *tensor, int64_t n_groups, float *data)
{
    const int64_t *shape = gd_tensor_shape(tensor);
    const int64_t per_group = shape[0] / n_groups;
    int64_t size = 1, center = 0;
    for (int d = 2; d < gd_tensor_n_dims(tensor); d++) {
        center = center * shape[d] + shape[d] / 2;
        size *= shape[d];
    }
    for (int64_t o = 0; o < shape[0]; o++) {
        const int64_t c = o % per_group;
        if (c < shape[1] && o / per_group < n_groups) {
            data[(o * shape[1] + c) * size + center] = 1;
        }
    }
}

/* Those that are made for matrices or convolutions. */
static status_t shaped_fill(const char *name, const gd_parameter_t *parameter, const gd_rng_key_t *key)
{
    gd_tensor_t *tensor = parameter->tensor;
    const gd_init_t init = parameter->init;
    const int n_dims = gd_tensor_n_dims(tensor);
    const int64_t rows = n_dims > 0 ? gd_tensor_dim(tensor, 0) : 1;
    const int64_t columns = rows > 0 ? gd_tensor_numel(tensor) / rows : 0;
    float *data = gd_tensor_data(tensor);
    const int64_t groups = init.a >= 1 ? (int64_t)init.a : 1;
    if (n_dims < 2 || ((init.kind == GD_INIT_EYE || init.kind == GD_INIT_SPARSE) && n_dims != 2) ||
        (init.kind == GD_INIT_DIRAC && (n_dims < 3 || n_dims > 5 || rows % groups != 0))) {
        strbuf_t text = {0};
        gd_tensor_format_shape(tensor, &text);
        status_t status = ST_FAIL(ST_ERR_SHAPE, "parameter \"%s\" %s: %s", name, strbuf_text(&text),
                                  init.kind == GD_INIT_DIRAC        ? "dirac is for convolutions whose groups divide"
                                  : init.kind == GD_INIT_ORTHOGONAL ? "orthogonal needs two dimensions or more"
                                                                    : "this initialisation is for matrices");
        strbuf_release(&text);
        return status;
    }
    if (init.kind == GD_INIT_ORTHOGONAL) {
        return orthogonal_fill(key, init.a, data, rows, columns);
    }
    if (init.kind == GD_INIT_SPARSE) {
        return sparse_fill(key, init, data, rows, columns);
    }
    status_t status = gd_tensor_fill(tensor, 0);
    if (status == ST_OK && init.kind == GD_INIT_DIRAC) {
        dirac_fill(tensor, groups, data);
    }
    for (int64_t i = 0; status == ST_OK && init.kind == GD_INIT_EYE && i < rows && i < columns; i++) {
        data[i * columns + i] = 1;
    }
    return status;
}

/* Independent elements of the tensor. */
static status_t random_fill(const char *name, const gd_init_t *init, const gd_rng_key_t *key, gd_tensor_t *tensor)
{
    const init_fans_t fans = fans_get(tensor);
    float *data = gd_tensor_data(tensor);
    const int64_t n = gd_tensor_numel(tensor);
    double bound = 0;
    switch (init->kind) {
    case GD_INIT_NORMAL:
        gd_rng_fill_normal(key, (float)init->a, (float)init->b, data, n);
        return ST_OK;
    case GD_INIT_UNIFORM:
        gd_rng_fill_uniform(key, (float)init->a, (float)init->b, data, n);
        return ST_OK;
    case GD_INIT_XAVIER_UNIFORM:
        bound = init->a * sqrt(6 / (fans.in + fans.out));
        gd_rng_fill_uniform(key, (float)-bound, (float)bound, data, n);
        return ST_OK;
    case GD_INIT_XAVIER_NORMAL:
        gd_rng_fill_normal(key, 0, (float)(init->a * sqrt(2 / (fans.in + fans.out))), data, n);
        return ST_OK;
    case GD_INIT_KAIMING_UNIFORM:
        bound = sqrt(3) * kaiming_std(*init, fans);
        gd_rng_fill_uniform(key, (float)-bound, (float)bound, data, n);
        return ST_OK;
    case GD_INIT_KAIMING_NORMAL:
        gd_rng_fill_normal(key, 0, (float)kaiming_std(*init, fans), data, n);
        return ST_OK;
    case GD_INIT_TRUNC_NORMAL:
        if (!(init->b > 0 && init->c < init->d)) {
            return ST_FAIL(ST_ERR_RANGE, "parameter \"%s\": deviation %g within [%g, %g]", name, init->b, init->c,
                           init->d);
        }
        truncated_fill(key, *init, data, n);
        return ST_OK;
    default:
        return ST_FAIL(ST_ERR_INVAL, "parameter \"%s\": %d is no initialisation", name, (int)init->kind);
    }
}

static status_t parameter_draw(const char *full_name, gd_parameter_t *parameter, gd_module_t *owner, void *arg)
{
    (void)owner;
    if (parameter->is_buffer) {
        return ST_OK;
    }
    uint64_t hash = hash_fnv1a_text(full_name);
    const gd_rng_key_t key = {
        .seed = *(const uint64_t *)arg, .layer = (uint32_t)(hash ^ (hash >> 32)), .purpose = PURPOSE_INIT};
    if (!gd_tensor_is_contiguous(parameter->tensor)) {
        return ST_FAIL(ST_ERR_STATE, "parameter \"%s\" has no memory: made while gd_meta_set_enabled was on",
                       full_name);
    }
    switch (parameter->init.kind) {
    case GD_INIT_ZEROS:
        return gd_tensor_fill(parameter->tensor, 0);
    case GD_INIT_ONES:
        return gd_tensor_fill(parameter->tensor, 1);
    case GD_INIT_CONSTANT:
        return gd_tensor_fill(parameter->tensor, parameter->init.a);
    case GD_INIT_EYE:
    case GD_INIT_DIRAC:
    case GD_INIT_ORTHOGONAL:
    case GD_INIT_SPARSE:
        return shaped_fill(full_name, parameter, &key);
    default:
        return random_fill(full_name, &parameter->init, &key, parameter->tensor);
    }
}

static status_t parameter_fill(const char *full_name, gd_parameter_t *parameter, gd_module_t *owner, void *arg)
{
    status_t status = parameter_draw(full_name, parameter, owner, arg);
    const int64_t row = parameter->init.zero_row - 1;
    if (status == ST_OK && row >= 0 && gd_tensor_n_dims(parameter->tensor) > 0 &&
        row < gd_tensor_dim(parameter->tensor, 0)) {
        const int64_t n = gd_tensor_numel(parameter->tensor) / gd_tensor_dim(parameter->tensor, 0);
        memset((float *)gd_tensor_data(parameter->tensor) + row * n, 0, (size_t)n * sizeof(float));
    }
    if (status == ST_OK && !parameter->is_buffer) {
        gd_tensor_mark_changed(parameter->tensor, "gd_module_initialise");
    }
    return status;
}

status_t gd_module_initialise(gd_module_t *root, uint64_t seed)
{
    return gd_module_visit(root, parameter_fill, &seed);
}
