/* SPDX-License-Identifier: Apache-2.0 */
/* dataset_specs: datasets opened from YAML, as a job has them. */
#ifndef GRADD_TESTS_WORKER_DATASET_SPECS_H
#define GRADD_TESTS_WORKER_DATASET_SPECS_H

#include "tests/worker/data_files.h"
#include "worker/data/dataset.h"

/* Opens what stands under data.train: "csv: {path: t.csv, target: [y]}", paths relative to the test's folder. `like`
 * may be NULL. */
status_t dataset_open(const char *yaml, const wrk_dataset_t *like, wrk_dataset_t **dataset_p);
/* The same for a loss that leaves a label out. */
status_t dataset_open_ignoring(const char *yaml, const wrk_dataset_t *like, int64_t label, wrk_dataset_t **dataset_p);
/* Asserts that it fails so. */
void dataset_refused(const char *yaml, status_t code, const char *message);

#endif
