/* SPDX-License-Identifier: Apache-2.0 */
/* resume: saving and restoring a session. Rank 0 alone reads and writes files; the restored state goes to the other
 * ranks by broadcast, so the job's folder need not be shared and all ranks agree on what was restored. */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "worker/model.h"
#include "worker/session_internal.h"

/* What the ranks are told about the restored state. */
typedef struct restored {
    int64_t is_found;
    int64_t optimizer_steps;
    gd_plateau_t plateau;
    gd_grad_scaler_t scaler;
    wrk_checkpoint_t checkpoint;
} restored_t;

static void note_send(void *arg, const char *text)
{
    wrk_session_note(arg, text);
}

static wrk_checkpoint_state_t session_state(wrk_session_t *session)
{
    const Gradd__V1__Average *average = session->job->training->average;
    return (wrk_checkpoint_state_t){.model = session->model,
                                    .flat = session->flat,
                                    .optimizer = session->optimizer,
                                    .plateau = session->has_plateau ? &session->plateau : NULL,
                                    .scaler = session->has_scaler ? &session->scaler : NULL,
                                    .has_average_file = average != NULL && average->save};
}

static status_t fingerprint_check(const wrk_session_t *session, const wrk_checkpoint_t *checkpoint)
{
    if (strcmp(checkpoint->fingerprint, session->fingerprint) == 0) {
        return ST_OK;
    }
    const Gradd__V1__Checkpoint *options = session->job->checkpoint;
    if (options == NULL || !options->allow_fingerprint_change) {
        return ST_FAIL(
            ST_ERR_STATE,
            "checkpoint step-%lld was made under the numerics \"%s\", this is \"%s\": the bits would differ; "
            "checkpoint.allow_fingerprint_change: true resumes all the same",
            (long long)checkpoint->step, checkpoint->fingerprint, session->fingerprint);
    }
    char text[2 * WRK_MAX_FINGERPRINT + 64];
    (void)snprintf(text, sizeof(text), "the numerics changed from \"%s\" to \"%s\"", checkpoint->fingerprint,
                   session->fingerprint);
    wrk_session_note(session, text);
    return ST_OK;
}

/* Rank 0: finds, checks and loads. */
static status_t root_restore(wrk_session_t *session, restored_t *restored)
{
    bool is_found = false;
    wrk_checkpoint_state_t state = session_state(session);
    status_t status = wrk_checkpoint_find(session->store, note_send, session, &restored->checkpoint, &is_found);
    if (status != ST_OK || !is_found) {
        return status;
    }
    if (restored->checkpoint.seed != session->job->seed) {
        return ST_FAIL(ST_ERR_STATE, "checkpoint step-%lld is of seed %llu, the job has seed %llu",
                       (long long)restored->checkpoint.step, (unsigned long long)restored->checkpoint.seed,
                       (unsigned long long)session->job->seed);
    }
    status = fingerprint_check(session, &restored->checkpoint);
    if (status == ST_OK) {
        status = wrk_checkpoint_load(session->store, &restored->checkpoint, &state);
        if (status != ST_OK) {
            status = status_add_context(status, "checkpoint step-%lld", (long long)restored->checkpoint.step);
        }
    }
    char hex[HASH_SHA256_HEX_SIZE];
    if (status == ST_OK) {
        status = gd_flat_sha256(session->flat, hex);
    }
    if (status == ST_OK && strcmp(hex, restored->checkpoint.parameters_sha256) != 0) {
        status =
            ST_FAIL(ST_ERR_CORRUPT, "checkpoint step-%lld: its parameters hash to %.16s…, its manifest says %.16s…",
                    (long long)restored->checkpoint.step, hex, restored->checkpoint.parameters_sha256);
    }
    restored->is_found = 1;
    restored->optimizer_steps = gd_optimizer_step_count(session->optimizer);
    restored->plateau = session->plateau;
    restored->scaler = session->scaler;
    return status;
}

static status_t buffer_broadcast(const char *full_name, gd_parameter_t *parameter, gd_module_t *owner, void *arg)
{
    (void)full_name;
    (void)owner;
    if (!parameter->is_buffer) {
        return ST_OK;
    }
    int64_t size_bytes =
        gd_tensor_numel(parameter->tensor) * (int64_t)gd_dtype_size(gd_tensor_dtype(parameter->tensor));
    return coll_broadcast(arg, gd_tensor_data(parameter->tensor), size_bytes, 0);
}

static status_t state_broadcast(wrk_session_t *session)
{
    int64_t size_bytes = session->flat->numel * (int64_t)sizeof(float);
    status_t status = coll_broadcast(session->group, session->flat->parameters, size_bytes, 0);
    for (int i = 0; i < gd_optimizer_n_states(session->optimizer) && status == ST_OK; i++) {
        int64_t state_bytes = gd_optimizer_state_numel(session->optimizer, i) * (int64_t)sizeof(float);
        status = coll_broadcast(session->group, gd_optimizer_state(session->optimizer, i, NULL), state_bytes, 0);
    }
    return status == ST_OK ? gd_module_visit(session->model, buffer_broadcast, session->group) : status;
}

/* model.weights, read by rank 0: all begin with the same, whatever other hosts have in that file. */
static status_t root_weights_load(const wrk_session_t *session)
{
    strbuf_t report = {0};
    status_t status = wrk_model_load_weights(session->job->model->weights, session->model, &report);
    char *line = report.data;
    while (line != NULL && *line != '\0') { /* the message holds the first few, the log all */
        size_t length = strcspn(line, "\n");
        log_info("model.weights: %.*s", (int)length, line);
        line += length + (line[length] != '\0');
    }
    if (status == ST_OK && report.length > 0) {
        wrk_session_note(session, strbuf_text(&report));
    }
    strbuf_release(&report);
    return status;
}

static status_t weights_load(wrk_session_t *session)
{
    status_t status = wrk_agree(session->group, session->rank == 0 ? root_weights_load(session) : ST_OK);
    if (status == ST_OK) {
        int64_t size_bytes = session->flat->numel * (int64_t)sizeof(float);
        status = coll_broadcast(session->group, session->flat->parameters, size_bytes, 0);
    }
    if (status == ST_OK) {
        status = gd_module_visit(session->model, buffer_broadcast, session->group);
    }
    if (status == ST_OK && session->rank == 0) {
        log_info("initial parameters from %s", session->job->model->weights->file);
    }
    return status;
}

/* One job runs on one kind of machine: ranks whose numerics differ would not repeat their bits elsewhere. */
static status_t fingerprints_compare(wrk_session_t *session)
{
    char root[WRK_MAX_FINGERPRINT];
    memcpy(root, session->fingerprint, sizeof(root));
    status_t status = coll_broadcast(session->group, root, sizeof(root), 0);
    if (status == ST_OK && strcmp(root, session->fingerprint) != 0) {
        status = ST_FAIL(ST_ERR_STATE, "the numerics of host %s are \"%s\", those of rank 0 \"%s\"",
                         session->options.host, session->fingerprint, root);
    }
    return wrk_agree(session->group, status);
}

/* All that are kept. */
static void checkpoints_report(const wrk_session_t *session)
{
    if (session->options.events.checkpoints != NULL) {
        wrk_checkpoint_t list[WRK_MAX_CHECKPOINTS];
        int n = wrk_checkpoint_list(session->store, list, WRK_MAX_CHECKPOINTS);
        session->options.events.checkpoints(session->options.events.arg, list, n, session->options.directory);
    }
}

status_t wrk_session_resume(wrk_session_t *session)
{
    restored_t restored;
    memset(&restored, 0, sizeof(restored));
    status_t status = fingerprints_compare(session);
    if (status != ST_OK) {
        return status;
    }
    if (session->rank == 0) {
        status = root_restore(session, &restored);
    }
    status = wrk_agree(session->group, status);
    if (status == ST_OK && session->rank == 0) {
        checkpoints_report(session);
    }
    if (status == ST_OK) {
        status = coll_broadcast(session->group, &restored, sizeof(restored), 0);
    }
    if (status == ST_OK && !restored.is_found && session->job->model->weights != NULL) {
        return weights_load(session);
    }
    if (status != ST_OK || !restored.is_found) {
        return status;
    }
    status = state_broadcast(session);
    if (status != ST_OK) {
        return status;
    }
    gd_flat_touch(session->flat);
    gd_optimizer_set_step_count(session->optimizer, restored.optimizer_steps);
    session->plateau = restored.plateau;
    session->scaler = restored.scaler;
    session->step = restored.checkpoint.step;
    session->wall_seconds = restored.checkpoint.wall_seconds;
    if (session->rank == 0) {
        log_info("resumed from checkpoint step-%lld of attempt %d, parameters %.16s…", (long long)session->step,
                 restored.checkpoint.attempt, restored.checkpoint.parameters_sha256);
    }
    return ST_OK;
}

static status_t root_save(wrk_session_t *session, bool is_needed)
{
    wrk_checkpoint_t checkpoint = {
        .step = session->step,
        .seed = session->job->seed,
        .samples = session->step * session->batch,
        .wall_seconds = session->wall_seconds + (double)(clock_now_ns() - session->opened_ns) * 1e-9,
    };
    memcpy(checkpoint.fingerprint, session->fingerprint, sizeof(checkpoint.fingerprint));
    wrk_checkpoint_state_t state = session_state(session);
    int64_t start = clock_now_ns();
    status_t status = wrk_checkpoint_save(session->store, &state, &checkpoint);
    if (status == ST_OK) {
        log_info("checkpoint step-%lld: %.1f MB in %.0f ms, parameters %.16s…", (long long)checkpoint.step,
                 (double)checkpoint.size_bytes * 1e-6, (double)(clock_now_ns() - start) * 1e-6,
                 checkpoint.parameters_sha256);
        checkpoints_report(session);
        return ST_OK;
    }
    if (is_needed || status == ST_ERR_STATE) {
        /* whatever the disk's trouble is, it may be gone at the next attempt */
        status = status == ST_ERR_STATE || status == ST_ERR_NOSPACE ? status : ST_ERR_IO;
        return status_add_context(status, "checkpoint step-%lld", (long long)session->step);
    }
    char text[1024];
    (void)snprintf(text, sizeof(text), "checkpoint step-%lld was not written, training goes on: %s",
                   (long long)session->step, status_message());
    log_warn("%s", text);
    wrk_session_note(session, text);
    return ST_OK;
}

status_t wrk_session_save(wrk_session_t *session, bool is_needed)
{
    status_t own = ST_OK;
    wrk_session_progress(session, "checkpointing");
    if (session->rank == 0) {
        own = root_save(session, is_needed);
    }
    return wrk_agree(session->group, own);
}
