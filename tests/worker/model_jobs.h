/* SPDX-License-Identifier: Apache-2.0 */
/* model_jobs: a job around a model, for tests that build the model alone. */
#ifndef GRADD_TESTS_WORKER_MODEL_JOBS_H
#define GRADD_TESTS_WORKER_MODEL_JOBS_H

#include "gradd/nn.h"
#include "tests/support/job_text.h"

/* The repository. */
const char *source_folder(void);
/* `model`: the text of its members, indented by two; the first of them is on line 2. file_name: in messages; NULL:
 * job.yaml. */
spec_job_t *model_job_parse(const char *file_name, const char *model);
/* configs/models/<file> with some of its parameters replaced ("vocabulary: 65, …"). */
spec_job_t *model_config_parse(const char *file, const char *with);
/* Of all its parameters. */
int64_t model_numel(gd_module_t *root);

#endif
