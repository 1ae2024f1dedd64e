/* SPDX-License-Identifier: Apache-2.0 */
/* loss_arrays: jobs that train on x.npy and y.npy in the test's folder, for tests of losses. */
#ifndef GRADD_TESTS_WORKER_LOSS_ARRAYS_H
#define GRADD_TESTS_WORKER_LOSS_ARRAYS_H

#include "gradd/tensor.h"
#include "tests/support/job_text.h"

/* 30 steps of 16 samples in 4 microbatches on the first three quarters of the arrays, evaluated every 10 on the last;
 * inputs are tokens where the model has an embedding. set: pairs "path=value", NULL-terminated, may be NULL. */
spec_job_t *array_job(const char *model, const char *loss, const char *const *set);
/* data as an array of that dtype. */
void array_write(const char *name, gd_dtype_t dtype, int n_dims, const int64_t *shape, const float *data);
/* The next of a row of numbers in [-1, 1). */
float noise(uint32_t *state);

#endif
