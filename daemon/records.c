/* SPDX-License-Identifier: Apache-2.0 */
/* records: what the shim and the workers left in an attempt's folder. */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "daemon/files.h"
#include "daemon/launch.h"

enum { MAX_RECORD_BYTES = 64 * 1024 };

static status_t record_read(const char *job_folder, int number, const char *name, json_t **record_p)
{
    char *folder = dmn_attempt_folder(job_folder, number);
    char *path = folder == NULL ? NULL : dmn_format("%s/%s", folder, name);
    mem_free(folder);
    if (path == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "reading %s", name);
    }
    char *text = NULL;
    size_t size = 0;
    status_t status = dmn_file_read(path, MAX_RECORD_BYTES, &text, &size);
    if (status == ST_OK) {
        json_error_t error;
        *record_p = json_loadb(text, size, 0, &error);
        if (!json_is_object(*record_p)) {
            json_decref(*record_p);
            status = ST_FAIL(ST_ERR_CORRUPT, "%s:%d: %s", path, error.line, error.text);
        }
    }
    mem_free(text);
    mem_free(path);
    return status;
}

static const char *text_get(const json_t *record, const char *key)
{
    const char *text = json_string_value(json_object_get(record, key));
    return text == NULL ? "" : text;
}

static int64_t number_get(const json_t *record, const char *key)
{
    return (int64_t)json_integer_value(json_object_get(record, key));
}

status_t dmn_shim_read(const char *job_folder, dmn_attempt_t *attempt_p)
{
    json_t *record = NULL;
    status_t status = record_read(job_folder, attempt_p->number, "shim.json", &record);
    if (status != ST_OK) {
        return status;
    }
    attempt_p->pid = number_get(record, "pid");
    attempt_p->starttime = (uint64_t)number_get(record, "starttime");
    (void)snprintf(attempt_p->boot_id, sizeof(attempt_p->boot_id), "%s", text_get(record, "boot_id"));
    json_decref(record);
    return ST_OK;
}

status_t dmn_exit_read(const char *job_folder, int number, dmn_exit_t *exit_p)
{
    json_t *record = NULL;
    status_t status = record_read(job_folder, number, "exit.json", &record);
    if (status != ST_OK) {
        return status;
    }
    *exit_p = (dmn_exit_t){.code = (int)number_get(record, "code"),
                           .signal_number = (int)number_get(record, "signal"),
                           .n_strays = (int)number_get(record, "killed_strays")};
    (void)snprintf(exit_p->error, sizeof(exit_p->error), "%s", text_get(record, "error"));
    json_decref(record);
    return ST_OK;
}

status_t dmn_goodbye_read(const char *job_folder, int number, dmn_goodbye_t *goodbye_p)
{
    static const char *const names[] = {"succeeded", "paused", "cancelled", "failed"};
    json_t *record = NULL;
    status_t status = record_read(job_folder, number, "goodbye.json", &record);
    if (status != ST_OK) {
        return status;
    }
    dmn_goodbye_t goodbye = {.outcome = DMN_OUTCOME_NONE,
                             .is_permanent = json_is_true(json_object_get(record, "is_permanent")),
                             .step = number_get(record, "step")};
    for (int i = 0; i < (int)(sizeof(names) / sizeof(names[0])); i++) {
        if (strcmp(text_get(record, "outcome"), names[i]) == 0) {
            goodbye.outcome = (dmn_outcome_t)i;
        }
    }
    if (goodbye.outcome == DMN_OUTCOME_NONE) {
        status = ST_FAIL(ST_ERR_CORRUPT, "goodbye.json of attempt %d has no outcome", number);
    } else {
        goodbye.message = mem_strdup(text_get(record, "message"));
        goodbye.parameters_sha256 = mem_strdup(text_get(record, "parameters_sha256"));
        if (goodbye.message == NULL || goodbye.parameters_sha256 == NULL) {
            dmn_goodbye_release(&goodbye);
            status = ST_FAIL(ST_ERR_NOMEM, "reading goodbye.json");
        }
    }
    json_decref(record);
    if (status == ST_OK) {
        *goodbye_p = goodbye;
    }
    return status;
}
