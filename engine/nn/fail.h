/* SPDX-License-Identifier: Apache-2.0 */
/* fail: what modules say when something doesn't fit (module.c). */
#ifndef GRADD_NN_FAIL_H
#define GRADD_NN_FAIL_H

#include "gradd/nn.h"

/* ST_ERR_SHAPE: "x is [2, 3]" and what the format says behind it: ", not tokens [B, T]". */
status_t module_fail_shape(const gd_tensor_t *x, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* "path (kind) at FILE:LINE" before the recorded message. */
status_t module_add_context(status_t status, const gd_module_t *module);

#endif
