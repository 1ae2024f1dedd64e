/* SPDX-License-Identifier: Apache-2.0 */
/* step: one training step. See Note [The bits don't depend on the layout] in session.h. No heap allocation here after
 * the first step: tensors come from the context's pool, messages and sums have buffers of their own. */
#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "gradd/autograd.h"
#include "worker/session_internal.h"

/* Forward and backward of microbatch m; its gradient goes into the tree, the rest into the record. factors: of the
 * loss's terms: a loss is divided once, by the step's count of targets, and after that everything is a sum. */
static status_t microbatch_run(wrk_session_t *session, int64_t m, const double *factors, wrk_record_t *record)
{
    gd_tensor_t *loss = NULL;
    const int64_t slot = session->weights != NULL ? m - session->first : 0;
    gd_rng_set_position(session->job->seed, (uint32_t)session->step, (uint32_t)m);
    status_t status = session->weights != NULL ? ST_OK : wrk_feed_take(session, 0);
    if (status == ST_OK) {
        status = gd_flat_set_gradients(session->flat, coll_tree_slot(session->tree));
    }
    if (status == ST_OK) {
        const wrk_batch_t batch = {session->x[slot], session->y[slot], session->indices + slot * session->micro};
        status = wrk_session_loss(session, &batch, factors, true, &loss, record);
    }
    if (status == ST_OK) {
        status = gd_backward(loss, NULL, false);
    }
    if (status == ST_OK) {
        status = gd_anomaly_check();
    }
    (void)gd_tensor_unref(loss);
    if (status != ST_OK) {
        return status;
    }
    gd_flat_finish_gradients(session->flat);
    status = gd_module_statistics_export(session->model, (float *)(void *)(record + 1));
    return status == ST_OK ? coll_tree_push(session->tree) : status;
}

/* What every rank does alike with the records of all microbatches. */
static status_t records_apply(wrk_session_t *session, double *loss_p, double *accuracy_p)
{
    double loss = 0;
    int64_t n_correct = 0;
    int64_t n_targets = 0;
    for (int64_t m = 0; m < session->n_micro; m++) {
        const wrk_record_t *record = wrk_exchange_get(session->exchange, m);
        for (int i = 0; i < session->loss.n_terms; i++) {
            loss += record->loss[i] / session->scaler.scale;
        }
        n_correct += record->n_correct;
        n_targets += record->n_targets;
        status_t status = gd_module_statistics_apply(session->model, (const float *)(const void *)(record + 1));
        if (status != ST_OK) {
            return status;
        }
    }
    if (!isfinite(loss) && !session->has_scaler) {
        return ST_FAIL(ST_ERR_NONFINITE, "the loss of step %lld is %s (training.anomaly: true names where it begins)",
                       (long long)(session->step + 1), isnan(loss) ? "nan" : "infinite");
    }
    *loss_p = loss;
    *accuracy_p = n_targets > 0 ? (double)n_correct / (double)n_targets : 0;
    return ST_OK;
}

/*
 * The factors of the loss's terms: 1 / (number of targets of the batch); where classes have weights or labels are
 * ignored, 1 / (weights of the batch's targets), for which every rank takes its microbatches now. Collective then.
 */
static status_t factors_set(wrk_session_t *session, double *factors)
{
    double sums[WRK_MAX_LOSS_TERMS] = {0};
    if (session->weights == NULL) {
        wrk_loss_weigh(&session->loss, session->y[0], session->micro, sums);
        for (int i = 0; i < session->loss.n_terms; i++) {
            factors[i] = session->scaler.scale / (sums[i] * (double)session->n_micro);
        }
        return ST_OK;
    }
    status_t own = ST_OK;
    for (int64_t i = 0; i < session->n_own && own == ST_OK; i++) {
        own = wrk_feed_take(session, i);
        if (own == ST_OK) {
            wrk_loss_weigh(&session->loss, session->y[i], session->micro, wrk_exchange_own(session->weights, i));
        }
    }
    status_t status = wrk_exchange_run(session->weights, own, 0, session->step, NULL);
    for (int64_t m = 0; m < session->n_micro && status == ST_OK; m++) {
        const double *weights = wrk_exchange_get(session->weights, m);
        for (int i = 0; i < session->loss.n_terms; i++) {
            sums[i] += weights[i];
        }
    }
    for (int i = 0; i < session->loss.n_terms; i++) {
        factors[i] = sums[i] > 0 ? session->scaler.scale / sums[i] : 0;
    }
    return status;
}

/* Parameters, gradients and optimizer lie outside the pool; what autocast has cast of the parameters doesn't. */
static void memory_measure(wrk_session_t *session)
{
    int64_t size_bytes = gd_memory_get_stats().peak_bytes - gd_flat_copies_bytes(session->flat);
    session->activation_bytes = size_bytes > session->activation_bytes ? size_bytes : session->activation_bytes;
}

/* A point of each curve, every training.log_every steps, at the first step and at the last. */
static void step_report(wrk_session_t *session, double loss, double accuracy, double lr, double norm)
{
    int64_t now = clock_now_ns();
    int64_t every = session->job->training->log_every > 0 ? session->job->training->log_every : 1;
    session->window_steps++;
    session->last_loss = loss;
    memory_measure(session);
    bool is_due =
        session->step % every == 0 || session->step == session->first_step + 1 || session->step == session->steps_total;
    if (!is_due || session->rank != 0) {
        return;
    }
    double seconds = (double)(now - session->window_ns) * 1e-9 / (double)session->window_steps;
    double rate = seconds > 0 ? (double)session->batch / seconds : 0;
    int64_t step = session->step;
    int64_t wall = clock_wall_ns();
    const struct {
        bool is_left_out;
        wrk_point_t point;
    } rows[] = {
        {!isfinite(loss), {"loss", step, loss, wall}},
        {false, {"learning_rate", step, lr, wall}},
        {!isfinite(norm), {"gradient_norm", step, norm, wall}},
        {false, {"step_seconds", step, seconds, wall}},
        {false,
         {session->is_stream ? "tokens_per_second" : "samples_per_second", step,
          session->is_stream ? rate * (double)session->n_targets : rate, wall}},
        {session->is_stream || !session->has_accuracy, {"training_accuracy", step, accuracy, wall}},
        {false, {"activation_bytes", step, (double)session->activation_bytes, wall}},
        {!session->has_scaler, {"loss_scale", step, session->scaler.scale, wall}},
        {!session->has_scaler, {"skipped_steps", step, (double)session->scaler.n_skipped, wall}},
    };
    wrk_point_t points[sizeof(rows) / sizeof(rows[0])];
    int n_points = 0;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (!rows[i].is_left_out) {
            points[n_points++] = rows[i].point;
        }
    }
    wrk_session_points(session, points, n_points);
    session->window_ns = now;
    session->window_steps = 0;
}

/*
 * The norm of the gradients, unscaled, with what training.clip_value does to them; infinite or NaN where one of them
 * isn't finite, before clipping, which would hide it.
 */
static double gradients_measure(const wrk_session_t *session, float *gradients)
{
    const int64_t numel = session->flat->numel;
    const double clip_value = session->job->training->clip_value;
    double norm = clip_value > 0 && !session->has_scaler ? 0 : gd_flat_norm(gradients, numel);
    if (clip_value > 0 && isfinite(norm)) {
        gd_clip_value(gradients, numel, clip_value * session->scaler.scale);
        norm = gd_flat_norm(gradients, numel);
    }
    return norm / session->scaler.scale;
}

/* Whether the step's gradients are used; an error: never will be. */
static status_t gradients_judge(wrk_session_t *session, double norm, double loss, bool *is_taken_p)
{
    static const double LEAST_SCALE = 1e-10;
    if (!session->has_scaler) {
        *is_taken_p = true;
        return isfinite(norm) ? ST_OK
                              : ST_FAIL(ST_ERR_NONFINITE, "the gradient norm of step %lld is %f (loss %g)",
                                        (long long)(session->step + 1), norm, loss);
    }
    *is_taken_p = gd_grad_scaler_update(&session->scaler, &session->scaler_options, isfinite(norm));
    return session->scaler.scale >= LEAST_SCALE
               ? ST_OK
               : ST_FAIL(ST_ERR_NONFINITE, "at step %lld the gradients aren't finite at any loss scale (loss %g)",
                         (long long)(session->step + 1), loss);
}

/* "step 3, microbatch 1" before the message; anomaly mode has said so already. */
static status_t step_add_context(status_t status, int64_t step, int64_t m)
{
    return strncmp(status_message(), "step ", 5) == 0
               ? status
               : status_add_context(status, "step %lld, microbatch %lld", (long long)step + 1, (long long)m);
}

status_t wrk_session_train_step(wrk_session_t *session, wrk_command_t *command_p)
{
    status_t own = ST_OK;
    double factors[WRK_MAX_LOSS_TERMS];
    status_t status = factors_set(session, factors);
    if (status != ST_OK) {
        return status;
    }
    gd_memory_reset_peak();
    bool was_training = gd_training_set(true);
    bool was_recording = gd_grad_set_enabled(true);
    for (int64_t i = 0; i < session->n_own && own == ST_OK; i++) {
        own = microbatch_run(session, session->first + i, factors, wrk_exchange_own(session->exchange, i));
        own = own == ST_OK ? ST_OK : step_add_context(own, session->step, session->first + i);
    }
    (void)gd_grad_set_enabled(was_recording);
    (void)gd_training_set(was_training);

    uint32_t word = WRK_COMMAND_NONE;
    if (session->rank == 0 && session->options.events.take_command != NULL) {
        word = (uint32_t)session->options.events.take_command(session->options.events.arg);
    }
    double loss = 0;
    double accuracy = 0;
    float *gradients = NULL;
    status = wrk_exchange_run(session->exchange, own, word, session->step, &word);
    if (status == ST_OK) {
        status = records_apply(session, &loss, &accuracy);
    }
    if (status == ST_OK) {
        status = coll_tree_finish(session->tree, &gradients);
    }
    if (status != ST_OK) {
        return status;
    }
    bool is_taken = false;
    double loss_scale = session->scaler.scale;
    double norm = gradients_measure(session, gradients);
    double lr = wrk_optimizer_lr(session);
    status = gradients_judge(session, norm, loss, &is_taken);
    if (status == ST_OK && is_taken) {
        /* what undoes the loss scale and what clips are one factor in the optimizer's only pass */
        double scale = gd_clip_scale(norm, session->job->training->clip_norm) / loss_scale;
        gd_optimizer_next(session->optimizer);
        status = gd_optimizer_update(session->optimizer, gradients, lr, scale, 0, session->flat->numel);
    }
    if (status != ST_OK) {
        return status;
    }
    session->step++;
    *command_p = (wrk_command_t)word;
    step_report(session, loss, accuracy, lr, norm);
    return ST_OK;
}
