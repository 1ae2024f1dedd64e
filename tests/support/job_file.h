/* SPDX-License-Identifier: Apache-2.0 */
/* job_file: a job out of a file, for programs of the tests that take one on their command line. */
#ifndef GRADD_TESTS_SUPPORT_JOB_FILE_H
#define GRADD_TESTS_SUPPORT_JOB_FILE_H

#include "proto/spec.h"

/* "KEY=VALUE" taken apart in place. ST_ERR_INVAL. */
status_t job_file_pair(char *text, spec_pair_t *pair_p);
/* *job_p: spec_job_free. What is wrong with it, the first problem, is the status's message. */
status_t job_file_read(const char *path, const spec_pair_t *set, int n_set, spec_job_t **job_p);

#endif
