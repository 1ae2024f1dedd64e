/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conv: what the rows of convolutions share. Attributes of n spatial axes: stride, padding and dilation with a number
 * for each axis, then the groups.
 */
#ifndef GRADD_OPS_CONV_H
#define GRADD_OPS_CONV_H

#include "ops/helpers.h"

/* The largest stride, padding or dilation: keeps all sums of sizes far from overflow. */
enum { CONV_MOST_STEP = 1 << 20 };

/* The attributes and dtypes of a call over n axes; ST_ERR_RANGE, ST_ERR_DTYPE. */
status_t gd_conv_check_call(const char *op, gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, int n);
/* The attributes alone. */
status_t gd_conv_check_attrs(const char *op, const gd_attrs_t *attrs, int n);

#endif
