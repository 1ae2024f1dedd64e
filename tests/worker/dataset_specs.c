/* SPDX-License-Identifier: Apache-2.0 */
/* dataset_specs: a job around the dataset. */
#include "tests/worker/dataset_specs.h"

#include <stdio.h>

#include "tests/support/job_text.h"

static status_t options_open(const char *yaml, const wrk_dataset_options_t *options, wrk_dataset_t **dataset_p)
{
    strbuf_t text = {0};
    strbuf_appendf(&text,
                   "model: {layers: [relu]}\ntraining: {steps: 1, batch: 1, optimizer: {sgd: {lr: 1}}}\n"
                   "data: {train: {%s}}\n",
                   yaml);
    spec_job_t *job = job_text_parse(strbuf_text(&text), NULL, fixture_folder(), NULL);
    strbuf_release(&text);
    status_t status = wrk_dataset_open(job->data->train, options, dataset_p);
    spec_job_free(job);
    return status;
}

status_t dataset_open(const char *yaml, const wrk_dataset_t *like, wrk_dataset_t **dataset_p)
{
    return options_open(yaml, &(wrk_dataset_options_t){.like = like, .name = "data.train"}, dataset_p);
}

status_t dataset_open_ignoring(const char *yaml, const wrk_dataset_t *like, int64_t label, wrk_dataset_t **dataset_p)
{
    return options_open(yaml, &(wrk_dataset_options_t){.like = like, .ignored = &label, .name = "data.train"},
                        dataset_p);
}

void dataset_refused(const char *yaml, status_t code, const char *message)
{
    wrk_dataset_t *dataset = NULL;
    status_t status = dataset_open(yaml, NULL, &dataset);
    if (status == ST_OK) {
        wrk_dataset_close(dataset);
    }
    fixture_assert_fails(status, code, message, yaml, __FILE__, __LINE__);
}
