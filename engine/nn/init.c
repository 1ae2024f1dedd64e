/* SPDX-License-Identifier: Apache-2.0 */
/*
 * init: first values of parameters. Glorot and Bengio, AISTATS 2010 (xavier); He et al., ICCV 2015 (kaiming); fans as
 * PyTorch computes them: weight[out, in, …] has fan-in in·… and fan-out out·….
 */
#include <math.h>

#include "base/hash.h"
#include "gradd/nn.h"
#include "gradd/rng.h"

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

static double kaiming_std(double slope, init_fans_t fans)
{
    return sqrt(2 / (1 + slope * slope)) / sqrt(fans.in);
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
    const gd_init_t init = parameter->init;
    const init_fans_t fans = fans_get(parameter->tensor);
    float *data = gd_tensor_data(parameter->tensor);
    int64_t n = gd_tensor_numel(parameter->tensor);
    double bound = 0;
    switch (init.kind) {
    case GD_INIT_ZEROS:
        return gd_tensor_fill(parameter->tensor, 0);
    case GD_INIT_ONES:
        return gd_tensor_fill(parameter->tensor, 1);
    case GD_INIT_CONSTANT:
        return gd_tensor_fill(parameter->tensor, init.a);
    case GD_INIT_NORMAL:
        gd_rng_fill_normal(&key, (float)init.a, (float)init.b, data, n);
        return ST_OK;
    case GD_INIT_UNIFORM:
        gd_rng_fill_uniform(&key, (float)init.a, (float)init.b, data, n);
        return ST_OK;
    case GD_INIT_XAVIER_UNIFORM:
        bound = init.a * sqrt(6 / (fans.in + fans.out));
        gd_rng_fill_uniform(&key, (float)-bound, (float)bound, data, n);
        return ST_OK;
    case GD_INIT_XAVIER_NORMAL:
        gd_rng_fill_normal(&key, 0, (float)(init.a * sqrt(2 / (fans.in + fans.out))), data, n);
        return ST_OK;
    case GD_INIT_KAIMING_UNIFORM:
        bound = sqrt(3) * kaiming_std(init.a, fans);
        gd_rng_fill_uniform(&key, (float)-bound, (float)bound, data, n);
        return ST_OK;
    case GD_INIT_KAIMING_NORMAL:
        gd_rng_fill_normal(&key, 0, (float)kaiming_std(init.a, fans), data, n);
        return ST_OK;
    case GD_INIT_COUNT:
        break;
    }
    return ST_FAIL(ST_ERR_INVAL, "parameter \"%s\": %d is no initialisation", full_name, (int)init.kind);
}

status_t gd_module_initialise(gd_module_t *root, uint64_t seed)
{
    return gd_module_visit(root, parameter_draw, &seed);
}
