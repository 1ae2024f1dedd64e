/* SPDX-License-Identifier: Apache-2.0 */
/* model_jobs: the text around a model. */
#include "tests/worker/model_jobs.h"

#include <stdlib.h>

const char *source_folder(void)
{
    const char *source = getenv("GRADD_SOURCE");
    return source != NULL ? source : ".";
}

spec_job_t *model_job_parse(const char *name, const char *model)
{
    strbuf_t text = {0};
    strbuf_appendf(&text, "model:\n%sdata: {train: {text: {path: %s/README.md, context: 8}}}\n", model,
                   source_folder());
    strbuf_append(&text, "training: {steps: 1, batch: 2, optimizer: {sgd: {lr: 1}}}\n");
    spec_source_t source = {.text = strbuf_text(&text), .text_length = text.length, .directory = source_folder()};
    spec_problems_t problems = {0};
    spec_job_t *job = NULL;
    status_t status = spec_job_parse(&source, &job, &problems);
    if (status != ST_OK) {
        strbuf_clear(&text);
        spec_problems_format(&problems, &text);
        print_error("%s: %s", name, strbuf_text(&text));
    }
    assert_int_equal(status, ST_OK);
    spec_problems_release(&problems);
    strbuf_release(&text);
    return job;
}
