/* SPDX-License-Identifier: Apache-2.0 */
/* job_text: changes as pairs, problems as the test's failure. */
#include "tests/support/job_text.h"

#include <stdio.h>
#include <string.h>

enum { MAX_SET = 8, MAX_KEY = 64, MAX_BYTES = 16384 };

spec_job_t *job_text_parse(const char *text, const char *file_name, const char *directory, const char *const *set)
{
    spec_pair_t pairs[MAX_SET];
    char keys[MAX_SET][MAX_KEY];
    int n = 0;
    for (; set != NULL && set[n] != NULL; n++) {
        const char *sign = strchr(set[n], '=');
        assert_true(n < MAX_SET && sign != NULL && sign - set[n] < MAX_KEY);
        (void)snprintf(keys[n], sizeof(keys[n]), "%.*s", (int)(sign - set[n]), set[n]);
        pairs[n] = (spec_pair_t){keys[n], sign + 1};
    }
    const spec_source_t source = {.text = text,
                                  .text_length = strlen(text),
                                  .file_name = file_name,
                                  .directory = directory,
                                  .set = pairs,
                                  .n_set = n};
    spec_problems_t problems = {0};
    spec_job_t *job = NULL;
    if (spec_job_parse(&source, &job, &problems) != ST_OK) {
        strbuf_t report = {0};
        spec_problems_format(&problems, &report);
        fail_msg("%s", strbuf_text(&report));
    }
    spec_problems_release(&problems);
    return job;
}

spec_job_t *job_text_read(const char *directory, const char *name, const char *const *set)
{
    static char text[MAX_BYTES];
    char path[1024];
    (void)snprintf(path, sizeof(path), "%s/%s", directory, name);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    const size_t length = fread(text, 1, sizeof(text) - 1, file);
    assert_int_equal(fclose(file), 0);
    text[length] = '\0';
    return job_text_parse(text, name, directory, set);
}
