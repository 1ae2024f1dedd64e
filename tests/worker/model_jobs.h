/* SPDX-License-Identifier: Apache-2.0 */
/* model_jobs: a job around a model, for tests that build the model alone. */
#ifndef GRADD_TESTS_WORKER_MODEL_JOBS_H
#define GRADD_TESTS_WORKER_MODEL_JOBS_H

#include "proto/spec.h"
#include "tests/support/fixture.h"

/* The repository. */
const char *source_folder(void);
/* `model`: the text of its members, indented by two; the first of them is on line 2. The test fails, with the problems
 * printed after `name`, when it isn't one. */
spec_job_t *model_job_parse(const char *name, const char *model);

#endif
