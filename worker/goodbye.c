/* SPDX-License-Identifier: Apache-2.0 */
/* goodbye: goodbye.json. */
#include "worker/goodbye.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/files.h"
#include "worker/text.h"

const char *wrk_outcome_name(wrk_outcome_t outcome)
{
    switch (outcome) {
    case WRK_OUTCOME_SUCCEEDED:
        return "succeeded";
    case WRK_OUTCOME_PAUSED:
        return "paused";
    case WRK_OUTCOME_CANCELLED:
        return "cancelled";
    default:
        return "failed";
    }
}

status_t wrk_goodbye_write(const char *directory, int attempt, int rank, const wrk_goodbye_t *goodbye)
{
    char folder[WRK_MAX_PATH];
    char path[WRK_MAX_PATH + 32];
    (void)snprintf(folder, sizeof(folder), "%s/attempts/%d", directory, attempt);
    (void)snprintf(path, sizeof(path), "%s/goodbye.json", folder);
    status_t status = wrk_folder_make(folder);
    if (status != ST_OK) {
        return status;
    }
    strbuf_t message = {0};
    wrk_text_append(&message, goodbye->message, strlen(goodbye->message));
    json_t *root = json_pack("{s:s, s:s, s:b, s:i, s:I}", "outcome", wrk_outcome_name(goodbye->outcome), "message",
                             strbuf_text(&message), "is_permanent", (int)goodbye->is_permanent, "rank", rank, "step",
                             (json_int_t)goodbye->step);
    strbuf_release(&message);
    if (root != NULL && goodbye->parameters_sha256[0] != '\0') {
        (void)json_object_set_new(root, "parameters_sha256", json_string(goodbye->parameters_sha256));
    }
    char *text = root != NULL ? json_dumps(root, JSON_INDENT(2)) : NULL;
    json_decref(root);
    if (text == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "text of %s", path);
    }
    status = rank == 0 ? wrk_file_replace(path, text, strlen(text)) : wrk_file_create(path, text, strlen(text));
    free(text);
    return rank != 0 && status == ST_ERR_EXISTS ? ST_OK : status;
}
