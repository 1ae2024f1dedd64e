/* SPDX-License-Identifier: Apache-2.0 */
/*
 * amp: mixed precision. Parameters, their gradients and the optimizer's states stay f32; activations, and the factors
 * of matrix products, are of 16 bits where the rows of the ops (gd_op_t.autocast) say so; statistics, softmax, losses
 * and sums are f32 inside.
 *
 * bf16 has f32's range and needs no more than this. f16 needs a gd_grad_scaler_t besides (see below). On the CPU bf16
 * products run on AMX or AVX512_BF16 where the processor has them; elsewhere, and for f16 everywhere, 16 bits are what
 * is stored, and the arithmetic is f32's: less memory, not less time.
 *
 * Note [Parameters are cast once]: an f32 leaf that requires a gradient is cast at its first use, and the copy is kept
 * with it until its storage changes (gd_tensor_version): all microbatches of a step, the second run of a checkpointed
 * segment and evaluation share it. The copy stands for the leaf in the graph: a weight's gradient is summed in f32
 * straight into the leaf's own buffer and is never rounded to 16 bits.
 */
#ifndef GRADD_AMP_H
#define GRADD_AMP_H

#include "gradd/tensor.h"

/*
 * Autocast of this thread: GD_DTYPE_BF16 or GD_DTYPE_F16; anything else is off, which is the default. Returns what was
 * before (GD_DTYPE_F32: off), to be put back by the caller: scopes nest. Affects ops that run from now on; a backward
 * follows the dtypes that its forward had, whatever the mode is then, and checkpointed segments run again in theirs.
 */
gd_dtype_t gd_autocast_set(gd_dtype_t dtype);
gd_dtype_t gd_autocast_get(void);

/*
 * Dynamic loss scale, PyTorch's torch.amp.GradScaler. The loss is multiplied by `scale` before the backward, so that
 * small gradients don't become 0 in f16; a step whose gradients aren't finite is skipped and the scale shrinks; after
 * growth_interval good steps in a row it grows.
 *
 *   gd_scale(loss, scaler.scale, 0, &scaled);  gd_backward(scaled, …);
 *   norm = gd_flat_norm(gradients, numel) / scaler.scale;
 *   gradient_scale = gd_clip_scale(norm, max_norm) / scaler.scale;      the unscaling costs no pass of its own
 *   if (gd_grad_scaler_update(&scaler, &options, isfinite(norm))) {
 *       gd_optimizer_next(optimizer);
 *       gd_optimizer_update(optimizer, gradients, lr, gradient_scale, 0, numel);
 *   }
 */
typedef struct gd_grad_scaler_options {
    double init_scale;
    double growth_factor;  /* > 1 */
    double backoff_factor; /* in (0, 1) */
    int64_t growth_interval;
} gd_grad_scaler_options_t;

/* Plain memory: a checkpoint saves it. */
typedef struct gd_grad_scaler {
    double scale;   /* an f32 value, as in PyTorch */
    int64_t n_good; /* steps taken since the scale last changed */
    int64_t n_skipped;
} gd_grad_scaler_t;

/* PyTorch's: 65536, 2, 0.5, 2000. */
void gd_grad_scaler_defaults(gd_grad_scaler_options_t *options_p);
/* ST_ERR_RANGE names the option that is out of range. */
status_t gd_grad_scaler_init(gd_grad_scaler_t *scaler_p, const gd_grad_scaler_options_t *options);
/* Once a step, before the optimizer's: whether the step is to be taken. Adapts the scale for the next one. */
bool gd_grad_scaler_update(gd_grad_scaler_t *scaler, const gd_grad_scaler_options_t *options, bool is_finite);

#endif
