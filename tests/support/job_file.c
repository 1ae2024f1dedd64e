/* SPDX-License-Identifier: Apache-2.0 */
/* job_file: reading, parsing. */
#include "tests/support/job_file.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"

status_t job_file_pair(char *text, spec_pair_t *pair_p)
{
    char *equals = strchr(text, '=');
    if (equals == NULL) {
        return ST_FAIL(ST_ERR_INVAL, "KEY=VALUE is wanted, not %s", text);
    }
    *equals = '\0';
    *pair_p = (spec_pair_t){text, equals + 1};
    return ST_OK;
}

status_t job_file_read(const char *path, const spec_pair_t *set, int n_set, spec_job_t **job_p)
{
    FILE *file = fopen(path, "r");
    if (file == NULL) {
        return ST_FAIL(ST_ERR_NOT_FOUND, "%s can't be read", path);
    }
    char *text = mem_alloc(SPEC_MAX_TEXT_BYTES);
    const size_t length = text != NULL ? fread(text, 1, SPEC_MAX_TEXT_BYTES, file) : 0;
    (void)fclose(file);
    if (text == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "the text of %s", path);
    }
    char directory[512];
    const char *slash = strrchr(path, '/');
    (void)snprintf(directory, sizeof(directory), "%.*s", slash != NULL ? (int)(slash - path) : 1,
                   slash != NULL ? path : ".");
    const spec_source_t source = {
        .text = text, .text_length = length, .file_name = path, .directory = directory, .set = set, .n_set = n_set};
    spec_problems_t problems = {0};
    status_t status = spec_job_parse(&source, job_p, &problems);
    spec_problems_release(&problems);
    mem_free(text);
    return status;
}
