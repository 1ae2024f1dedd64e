/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_spec: a job's text, and a packed job, from a stranger. tests/proto/test_spec_corpus.c replays the corpus. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/mem.h"
#include "proto/spec.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    spec_source_t source = {.text = (const char *)bytes, .text_length = size, .directory = "/nonexistent"};
    spec_problems_t problems = {0};
    spec_job_t *job = NULL;
    uint8_t *packed = NULL;
    size_t packed_size = 0;
    strbuf_t yaml = {0};
    if (spec_job_parse(&source, &job, &problems) == ST_OK) {
        if (spec_job_format(job, &yaml) != ST_OK || spec_job_pack(job, &packed, &packed_size) != ST_OK) {
            abort(); /* what was accepted can be written */
        }
    } else if (problems.n_items == 0) {
        abort(); /* a refusal says why */
    }
    spec_job_free(job);
    job = NULL;
    if (spec_job_unpack(bytes, size, &job) == ST_OK) {
        strbuf_clear(&yaml);
        (void)spec_job_format(job, &yaml);
        spec_job_free(job);
    }
    mem_free(packed);
    strbuf_release(&yaml);
    spec_problems_release(&problems);
    return 0;
}
