/* SPDX-License-Identifier: Apache-2.0 */
/* job_text: jobs for tests, which fail with what is wrong with one. */
#ifndef GRADD_TESTS_SUPPORT_JOB_TEXT_H
#define GRADD_TESTS_SUPPORT_JOB_TEXT_H

#include "proto/spec.h"
#include "tests/support/fixture.h"

/* file_name: of the text in messages; NULL: job.yaml. Paths are below `directory`; NULL: the current one. set: changes
 * "path=value", NULL-terminated; NULL: none. The result: spec_job_free. */
spec_job_t *job_text_parse(const char *text, const char *file_name, const char *directory, const char *const *set);
/* The same of a file in `directory`. */
spec_job_t *job_text_read(const char *directory, const char *name, const char *const *set);

#endif
