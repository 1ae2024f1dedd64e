/* SPDX-License-Identifier: Apache-2.0 */
/* modules: what layers give, case by case, for a script that knows what they should. */
#ifndef GRADD_TESTS_PARITY_MODULES_H
#define GRADD_TESTS_PARITY_MODULES_H

#include "base/status.h"
#include "gradd/tensor.h"

/*
 * Runs every case of the file, as tests/golden/modules.py writes them (NAME/model, training, x, dy, state.*), and
 * writes what it gave: NAME/y, dx, grad.*, after.* (buffers after the step), eval (y in evaluation, afterwards); or
 * NAME/error, the message as bytes. autocast: F32 for none. A case's error is no error here; a file that can't be used
 * is.
 */
status_t modules_run(const char *from, const char *to, int n_threads, gd_dtype_t autocast);

#endif
