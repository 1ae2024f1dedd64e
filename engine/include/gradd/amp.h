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

#endif
