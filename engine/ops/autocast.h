/* SPDX-License-Identifier: Apache-2.0 */
/* autocast: the casts of dispatch; see gradd/amp.h. */
#ifndef GRADD_OPS_AUTOCAST_H
#define GRADD_OPS_AUTOCAST_H

#include <stdbool.h>

#include "gradd/op.h"

/* Whether an input has to be cast: autocast is on, or a parameter that the kernel wants as f32 has 16 bits. */
bool gd_autocast_is_needed(gd_dtype_t lower, const gd_op_t *op, gd_tensor_t *const *in, int n_in);
/* out[n_in]: what the op gets for in[n_in]; those with a bit in *made_p are new references. */
status_t gd_autocast_inputs(gd_dtype_t lower, const gd_op_t *op, gd_tensor_t *const *in, int n_in, gd_tensor_t **out,
                            unsigned *made_p);
void gd_autocast_release(gd_tensor_t **out, unsigned made);

#endif
