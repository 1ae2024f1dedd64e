/* SPDX-License-Identifier: Apache-2.0 */
/* run: the loop over steps and what stands between them. */
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "worker/session_internal.h"

static const int64_t LOG_EVERY_NS = 10 * CLOCK_NS_PER_S;

static void progress_log(wrk_session_t *session, bool is_now)
{
    int64_t now = clock_now_ns();
    if (session->rank != 0 || (!is_now && now - session->logged_ns < LOG_EVERY_NS)) {
        return;
    }
    double seconds = (double)(now - session->opened_ns) * 1e-9;
    int64_t n_steps = session->step - session->first_step;
    log_info("step %lld of %lld, loss %.5g, %.3g s a step", (long long)session->step, (long long)session->steps_total,
             session->last_loss, n_steps > 0 ? seconds / (double)n_steps : 0.0);
    session->logged_ns = now;
}

static bool is_due(int64_t step, int64_t every)
{
    return every > 0 && step % every == 0;
}

/* Checkpoint and evaluation after a step, as the schedule and the command want them. */
static status_t boundary_run(wrk_session_t *session, wrk_command_t command)
{
    const spec_job_t *job = session->job;
    bool is_last = session->step == session->steps_total;
    bool is_saved_now = is_last || command == WRK_COMMAND_PAUSE || command == WRK_COMMAND_CHECKPOINT ||
                        (job->checkpoint != NULL && is_due(session->step, job->checkpoint->every));
    bool is_evaluated = session->validation != NULL && command != WRK_COMMAND_STOP &&
                        (is_last || (job->evaluation != NULL && is_due(session->step, job->evaluation->every)));
    status_t status = ST_OK;
    int64_t start = clock_now_ns();
    /* first the evaluation: whoever resumes from this step's checkpoint need not repeat it */
    if (is_evaluated) {
        status = wrk_session_evaluate(session);
        progress_log(session, true);
    }
    if (status == ST_OK && is_saved_now) {
        status = wrk_session_save(session, is_last || command == WRK_COMMAND_PAUSE);
    }
    /* time between steps is not a step's time */
    session->window_ns += clock_now_ns() - start;
    if (status == ST_OK && (is_saved_now || is_evaluated)) {
        wrk_session_progress(session, "training");
    }
    return status;
}

static status_t steps_run(wrk_session_t *session, wrk_outcome_t *outcome_p)
{
    while (session->step < session->steps_total) {
        if (session->options.last_step > 0 && session->step >= session->options.last_step) {
            return ST_FAIL(ST_ERR_CANCELLED, "left after step %lld", (long long)session->step);
        }
        wrk_command_t command = WRK_COMMAND_NONE;
        status_t status = wrk_session_train_step(session, &command);
        if (status != ST_OK) {
            return status;
        }
        wrk_session_progress(session, "training");
        progress_log(session, false);
        bool is_last = session->step == session->steps_total;
        status = boundary_run(session, is_last ? WRK_COMMAND_NONE : command);
        if (status != ST_OK) {
            return status;
        }
        if (!is_last && (command == WRK_COMMAND_PAUSE || command == WRK_COMMAND_STOP)) {
            *outcome_p = command == WRK_COMMAND_PAUSE ? WRK_OUTCOME_PAUSED : WRK_OUTCOME_CANCELLED;
            return ST_OK;
        }
    }
    *outcome_p = WRK_OUTCOME_SUCCEEDED;
    return ST_OK;
}

/* A job that was killed between its last checkpoint and its goodbye comes back with all steps done; whether its last
 * evaluation was told is not known. */
static status_t end_run(wrk_session_t *session)
{
    status_t status = ST_OK;
    if (session->validation != NULL && session->evaluated_step != session->step) {
        status = wrk_session_evaluate(session);
    }
    if (status != ST_OK || session->rank != 0 || session->job->generate == NULL || !session->is_text) {
        return status;
    }
    char *text = NULL;
    status = wrk_session_generate(session, &text);
    if (status == ST_OK) {
        if (session->options.events.text != NULL) {
            session->options.events.text(session->options.events.arg, text);
        }
        mem_free(text);
    }
    return status;
}

status_t wrk_session_run(wrk_session_t *session, wrk_result_t *result_p)
{
    wrk_outcome_t outcome = WRK_OUTCOME_FAILED;
    session->window_ns = clock_now_ns();
    session->logged_ns = session->window_ns;
    status_t status = steps_run(session, &outcome);
    if (status == ST_OK && outcome == WRK_OUTCOME_SUCCEEDED) {
        status = wrk_agree(session->group, end_run(session));
    }
    char hex[HASH_SHA256_HEX_SIZE] = "";
    if (status == ST_OK) {
        status = gd_flat_sha256(session->flat, hex);
    }
    result_p->step = session->step;
    if (status != ST_OK) {
        return status;
    }
    result_p->outcome = outcome;
    memcpy(result_p->parameters_sha256, hex, sizeof(hex));
    if (session->rank == 0) {
        log_info("%s after step %lld, parameters %s",
                 outcome == WRK_OUTCOME_SUCCEEDED ? "finished"
                 : outcome == WRK_OUTCOME_PAUSED  ? "paused"
                                                  : "cancelled",
                 (long long)session->step, hex);
        log_info("memory: %.1f MB of parameters, %.1f MB of copies of them in fewer bits, %.1f MB of activations",
                 (double)session->flat->numel * 4e-6, (double)gd_flat_copies_bytes(session->flat) * 1e-6,
                 (double)session->activation_bytes * 1e-6);
    }
    return ST_OK;
}
