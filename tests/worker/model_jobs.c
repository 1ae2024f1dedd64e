/* SPDX-License-Identifier: Apache-2.0 */
/* model_jobs: the text around a model. */
#include "tests/worker/model_jobs.h"

#include <stdlib.h>

const char *source_folder(void)
{
    const char *source = getenv("GRADD_SOURCE");
    return source != NULL ? source : ".";
}

spec_job_t *model_job_parse(const char *file_name, const char *model)
{
    strbuf_t text = {0};
    strbuf_appendf(&text, "model:\n%sdata: {train: {text: {path: %s/README.md, context: 8}}}\n", model,
                   source_folder());
    strbuf_append(&text, "training: {steps: 1, batch: 2, optimizer: {sgd: {lr: 1}}}\n");
    spec_job_t *job = job_text_parse(strbuf_text(&text), file_name, source_folder(), NULL);
    strbuf_release(&text);
    return job;
}

spec_job_t *model_config_parse(const char *file, const char *with)
{
    strbuf_t model = {0};
    strbuf_appendf(&model, "  file: %s/configs/models/%s\n  with: {%s}\n", source_folder(), file, with);
    spec_job_t *job = model_job_parse(file, strbuf_text(&model));
    strbuf_release(&model);
    return job;
}

static status_t numel_add(const char *full_name, gd_parameter_t *parameter, gd_module_t *owner, void *arg)
{
    (void)full_name;
    (void)owner;
    *(int64_t *)arg += parameter->is_buffer ? 0 : gd_tensor_numel(parameter->tensor);
    return ST_OK;
}

int64_t model_numel(gd_module_t *root)
{
    int64_t n = 0;
    assert_ok(gd_module_visit(root, numel_add, &n));
    return n;
}
