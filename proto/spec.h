/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spec: YAML ⇄ JobSpec. Everything that is wrong with a job's text is found here, all at once, with file, line and
 * column. The daemon calls it; it reads model files, and nothing else of the system.
 */
#ifndef GRADD_PROTO_SPEC_H
#define GRADD_PROTO_SPEC_H

#include "base/status.h"
#include "base/strbuf.h"
#include "job.pb-c.h"

typedef Gradd__V1__JobSpec spec_job_t;

enum { SPEC_MAX_TEXT_BYTES = 256 * 1024, SPEC_MAX_DEPTH = 32, SPEC_MAX_PROBLEMS = 50 };

typedef struct spec_problem {
    char *file;       /* as the user named it */
    int line, column; /* 1-based; 0: the file as a whole */
    char *message;
} spec_problem_t;

/* Embedded: {0}, spec_problems_release. */
typedef struct spec_problems {
    spec_problem_t *items;
    int n_items;
} spec_problems_t;

void spec_problems_release(spec_problems_t *problems);
/* "file:line:column: message", one a line. */
void spec_problems_format(const spec_problems_t *problems, strbuf_t *text);

typedef struct spec_pair {
    const char *key, *value;
} spec_pair_t;

typedef struct spec_source {
    const char *text;
    size_t text_length;
    const char *file_name;  /* NULL: "job.yaml" */
    const char *directory;  /* NULL: "."; model files and data paths are made absolute against it */
    const spec_pair_t *set; /* "training.steps" = "100"; "null": as if it weren't given */
    int n_set;
    const spec_pair_t *environment; /* for ${NAME}; of this process's own environment only GRADD_* can be read */
    int n_environment;
} spec_source_t;

/*
 * Parses, expands and checks. On success *job_p is complete: paths are absolute; the model file's layers are in
 * model.layers with ${…} replaced, model.parameters holds the final values, model.file and model.with are gone. Never
 * NULL: name, resources, parallel (data set), checkpoint, restart, training.schedule (constant unless given),
 * training.loss (cross_entropy unless given), training.microbatches, and, where there is data.validation, evaluation.
 * Lists with a default (betas, part) are full; text.context is that of the first position_embedding unless given;
 * generate.prompt is "\n" unless given. steps and epochs: exactly one is set. Checkpoint.every and evaluation.every may
 * be unset: only after the last step. A problem of --set stands in the file "--set training.stepz" without a line. Data
 * files that are not there are problems too. ST_ERR_PARSE: problems has at least one entry, and status_message() is the
 * first of them. One definition of what has to hold across fields: proto/spec_check.c.
 */
status_t spec_job_parse(const spec_source_t *source, spec_job_t **job_p, spec_problems_t *problems);
void spec_job_free(spec_job_t *job);

/*
 * Changes one field of a parsed job by path and checks the whole again, without looking for the data files: a resume
 * with other workers (resources.workers takes parallel.data along; microbatches stay). On failure the job is as before.
 */
status_t spec_job_set(spec_job_t *job, const char *path, const char *value, spec_problems_t *problems);

/* Packed JobSpec (at most 1 MB, ST_ERR_RANGE), and back with a limit on depth and size (ST_ERR_PARSE). *bytes_p:
 * mem_free. A job that an older gradd packed becomes today's; one with fields of a newer gradd is refused. */
status_t spec_job_pack(const spec_job_t *job, uint8_t **bytes_p, size_t *size_p);
status_t spec_job_unpack(const uint8_t *bytes, size_t size, spec_job_t **job_p);

/* The job as YAML, every field that is set or has a default; reads back as the same job, by spec_job_parse. */
status_t spec_job_format(const spec_job_t *job, strbuf_t *yaml);

/* Slots a job takes: workers × threads. */
int spec_job_slots(const spec_job_t *job);

/* Help on "training.batch" (type, default, range, unit, text; children for a message); "" lists the top.
 * ST_ERR_NOT_FOUND suggests the nearest path. */
status_t spec_explain(const char *path, strbuf_t *text);
/* JSON Schema (draft 2020-12) of a job file, for editors; the Markdown reference of all fields. */
status_t spec_schema(strbuf_t *json);
status_t spec_reference(strbuf_t *markdown);

#endif
