/* SPDX-License-Identifier: Apache-2.0 */
/* scaler: the loss scale of f16; arithmetic in f32, as PyTorch's _amp_update_scale_. */
#include <math.h>

#include "gradd/amp.h"

void gd_grad_scaler_defaults(gd_grad_scaler_options_t *options_p)
{
    *options_p = (gd_grad_scaler_options_t){
        .init_scale = 65536, .growth_factor = 2, .backoff_factor = 0.5, .growth_interval = 2000};
}

status_t gd_grad_scaler_init(gd_grad_scaler_t *scaler_p, const gd_grad_scaler_options_t *options)
{
    const float scale = (float)options->init_scale;
    if (!(scale > 0) || !isfinite(scale)) {
        return ST_FAIL(ST_ERR_RANGE, "loss scale: the initial scale %g is not a positive f32", options->init_scale);
    }
    if (!(options->growth_factor > 1) || !isfinite(options->growth_factor)) {
        return ST_FAIL(ST_ERR_RANGE, "loss scale: growth factor %g is not above 1", options->growth_factor);
    }
    if (!(options->backoff_factor > 0 && options->backoff_factor < 1)) {
        return ST_FAIL(ST_ERR_RANGE, "loss scale: backoff factor %g is not in (0, 1)", options->backoff_factor);
    }
    if (options->growth_interval < 1) {
        return ST_FAIL(ST_ERR_RANGE, "loss scale: a growth interval of %lld steps",
                       (long long)options->growth_interval);
    }
    *scaler_p = (gd_grad_scaler_t){.scale = (double)scale};
    return ST_OK;
}

bool gd_grad_scaler_update(gd_grad_scaler_t *scaler, const gd_grad_scaler_options_t *options, bool is_finite)
{
    if (!is_finite) {
        scaler->scale = (double)(float)(scaler->scale * options->backoff_factor);
        scaler->n_good = 0;
        scaler->n_skipped++;
        return false;
    }
    scaler->n_good++;
    if (scaler->n_good >= options->growth_interval) {
        const float grown = (float)(scaler->scale * options->growth_factor);
        scaler->scale = isfinite(grown) ? (double)grown : scaler->scale;
        scaler->n_good = 0;
    }
    return true;
}
