/* SPDX-License-Identifier: Apache-2.0 */
/* spec: the way from a job's text to a JobSpec. */
#include "proto/spec.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "proto/spec_internal.h"

typedef struct parse_options {
    const char *fixed_place; /* every problem stands here; NULL: where it is */
    bool has_data_files;     /* look whether the data is there */
    Gradd__V1__Model *model; /* borrowed: used in place of a model in the text */
} parse_options_t;

static status_t directory_resolve(spec_context_t *context)
{
    const char *directory = context->source->directory != NULL ? context->source->directory : ".";
    if (directory[0] == '/') {
        context->directory = directory;
        return ST_OK;
    }
    char *here = getcwd(NULL, 0);
    if (here == NULL) {
        return ST_FAIL(ST_ERR_IO, "the current folder can't be read");
    }
    context->directory = arena_strdup(&context->arena, here);
    free(here);
    if (context->directory != NULL && strcmp(directory, ".") != 0) {
        context->directory = spec_absolute(context, directory);
    }
    return context->directory != NULL ? ST_OK : ST_FAIL(ST_ERR_NOMEM, "a job's folder");
}

static status_t report_to_status(spec_report_t *report)
{
    if (report->is_out_of_memory) {
        return ST_FAIL(ST_ERR_NOMEM, "%s: out of memory while reading it", report->main_file);
    }
    spec_report_finish(report);
    if (report->problems->n_items == 0) {
        return ST_OK;
    }
    const spec_problem_t *first = &report->problems->items[0];
    if (first->line == 0) {
        return ST_FAIL(ST_ERR_PARSE, "%s: %s", first->file, first->message);
    }
    return ST_FAIL(ST_ERR_PARSE, "%s:%d:%d: %s", first->file, first->line, first->column, first->message);
}

static void job_read(spec_context_t *context, spec_job_t *job, const parse_options_t *options)
{
    spec_node_t *borrowed = NULL;
    if (options->model != NULL && context->root->kind == SPEC_NODE_MAP) {
        /* a stand-in, so that "model" and its layers count as given */
        borrowed = arena_alloc(&context->arena, sizeof(*borrowed));
        context->report.is_out_of_memory |= borrowed == NULL;
        if (borrowed != NULL) {
            *borrowed = (spec_node_t){.kind = SPEC_NODE_MAP, .key = "model", .place = context->root->place};
            spec_node_add(context->root, borrowed);
        }
    }
    spec_read(context, &gradd__v1__job_spec__descriptor, context->root, &job->base);
    if (options->model != NULL) {
        spec_message_free((ProtobufCMessage *)job->model);
        job->model = options->model;
    }
    spec_check(context, job, options->has_data_files);
    if (options->model == NULL && gradd__v1__job_spec__get_packed_size(job) > SPEC_MAX_PACKED_BYTES) {
        spec_report(&context->report, (spec_place_t){0}, "the job is larger than %d KB with its model's layers",
                    SPEC_MAX_PACKED_BYTES / 1000);
    }
}

static status_t source_parse(const spec_source_t *source, const parse_options_t *options, spec_job_t **job_p,
                             spec_problems_t *problems)
{
    spec_job_t *job = mem_zalloc(sizeof(*job));
    if (job == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "a job");
    }
    const char *name = options->fixed_place != NULL ? options->fixed_place : source->file_name;
    spec_context_t context = {.source = source};
    context.report = (spec_report_t){.problems = problems, .main_file = name != NULL ? name : "job.yaml"};
    arena_init(&context.arena, 0);
    status_t status = directory_resolve(&context);
    if (status != ST_OK) {
        mem_free(job);
        goto out;
    }
    gradd__v1__job_spec__init(job);
    context.root = spec_yaml_read(&context.arena, &context.report, source->text, source->text_length,
                                  context.report.main_file, options->fixed_place == NULL);
    if (context.root != NULL) {
        spec_expand(&context);
        job_read(&context, job, options);
    }
    status = context.path.is_failed ? ST_FAIL(ST_ERR_NOMEM, "a job") : report_to_status(&context.report);
    if (status == ST_OK) {
        *job_p = job;
    } else {
        job->model = options->model != NULL ? NULL : job->model;
        spec_job_free(job);
    }
out:
    strbuf_release(&context.path);
    arena_release(&context.arena);
    return status;
}

status_t spec_job_parse(const spec_source_t *source, spec_job_t **job_p, spec_problems_t *problems)
{
    return source_parse(source, &(parse_options_t){.has_data_files = true}, job_p, problems);
}

void spec_message_free(ProtobufCMessage *message)
{
    if (message != NULL) {
        protobuf_c_message_free_unpacked(message, &spec_allocator);
    }
}

void spec_job_free(spec_job_t *job)
{
    if (job != NULL) {
        spec_message_free(&job->base);
    }
}

/*
 * The job is written out, changed as text and read again, so that the one way of checking does it all. The model's
 * layers are long and rarely meant: they stay as they are unless the path is in them.
 */
status_t spec_job_set(spec_job_t *job, const char *path, const char *value, spec_problems_t *problems)
{
    spec_pair_t set = {path, value};
    bool has_size = job->parallel != NULL && job->parallel->has_data;
    bool follows = has_size && strcmp(path, "resources.workers") == 0; /* the data-parallel size is that number */
    Gradd__V1__Model *model = job->model;
    bool keeps_model = strncmp(path, "model", 5) != 0 && model != NULL;
    strbuf_t text = {0};
    strbuf_t place = {0};
    job->model = keeps_model ? NULL : model;
    if (follows) {
        job->parallel->has_data = 0;
    }
    status_t status = spec_job_format(job, &text);
    job->model = model;
    if (follows) {
        job->parallel->has_data = 1;
    }
    strbuf_appendf(&place, "--set %s", path);
    if (status == ST_OK && (place.is_failed || text.is_failed)) {
        status = ST_FAIL(ST_ERR_NOMEM, "--set %s", path);
    }
    spec_job_t *changed = NULL;
    if (status == ST_OK) {
        spec_source_t source = {
            .text = strbuf_text(&text), .text_length = text.length, .directory = "/", .set = &set, .n_set = 1};
        parse_options_t options = {.fixed_place = strbuf_text(&place), .model = keeps_model ? model : NULL};
        status = source_parse(&source, &options, &changed, problems);
    }
    if (status == ST_OK && changed != NULL) {
        spec_job_t old = *job;
        *job = *changed;
        *changed = old;
        changed->model = keeps_model ? NULL : changed->model;
        spec_job_free(changed);
    }
    strbuf_release(&text);
    strbuf_release(&place);
    return status;
}

int spec_job_slots(const spec_job_t *job)
{
    const Gradd__V1__Resources *resources = job->resources;
    return resources != NULL ? resources->workers * resources->threads : 1;
}
