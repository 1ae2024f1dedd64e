/* SPDX-License-Identifier: Apache-2.0 */
/* heap_jobs: models and settings whose steps allocate nothing, for test_heap.c. */
#ifndef GRADD_TESTS_WORKER_HEAP_JOBS_H
#define GRADD_TESTS_WORKER_HEAP_JOBS_H

enum { HEAP_JOB_MAX_SET = 4 };

/* A model, as a YAML list of layers, and pairs "path=value"; model NULL: the end of a list. */
typedef struct heap_job {
    const char *model;
    const char *set[HEAP_JOB_MAX_SET];
} heap_job_t;

extern const heap_job_t heap_convolutions[]; /* of 1 to 3 axes: groups, dilation, strides, transposed, few channels */
extern const heap_job_t heap_image_layers[];
extern const heap_job_t heap_sequence_layers[];
extern const heap_job_t heap_losses[];   /* of x.npy [N,20], and y.npy [N,1] of ±1, labels.npy or values.npy [N,5] */
extern const heap_job_t heap_settings[]; /* optimizers, schedules, precision, what else a step may do */
extern const heap_job_t heap_readers[];  /* of PNG and JPEG files in pictures/CLASS/ too */

#endif
