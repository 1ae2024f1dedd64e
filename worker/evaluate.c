/* SPDX-License-Identifier: Apache-2.0 */
/* evaluate: the validation set in evaluation mode. Its microbatches have the same size whatever the layout is, and
 * their results are summed in order. */
#include "base/clock.h"
#include "base/mem.h"
#include "worker/session_internal.h"

static status_t microbatch_evaluate(wrk_session_t *session, int64_t n, wrk_record_t *record)
{
    gd_tensor_t *x = NULL;
    gd_tensor_t *y = NULL;
    gd_tensor_t *loss = NULL;
    double factors[WRK_MAX_LOSS_TERMS];
    for (int i = 0; i < WRK_MAX_LOSS_TERMS; i++) {
        factors[i] = 1;
    }
    int64_t *indices = mem_calloc((size_t)n, sizeof(*indices));
    status_t status = indices != NULL ? wrk_session_batch_new(session->validation, n, &x, &y)
                                      : ST_FAIL(ST_ERR_NOMEM, "%lld samples", (long long)n);
    if (status == ST_OK) {
        status = wrk_loader_take(session->eval_loader, gd_tensor_data(x), gd_tensor_data(y), indices);
    }
    if (status == ST_OK) {
        const wrk_batch_t batch = {x, y, indices};
        status = wrk_session_loss(session, &batch, factors, false, &loss, record);
        status = status == ST_OK ? ST_OK : status_add_context(status, "data.validation");
    }
    mem_free(indices);
    (void)gd_tensor_unref(loss);
    (void)gd_tensor_unref(y);
    (void)gd_tensor_unref(x);
    return status;
}

/* All of the validation data, or as many batches as the job says. */
static int64_t samples_count(const wrk_session_t *session)
{
    const int64_t n = wrk_dataset_eval_count(session->validation);
    const int64_t batches = session->job->evaluation != NULL ? session->job->evaluation->batches : 0;
    return batches > 0 && batches <= n / session->batch ? batches * session->batch : n;
}

/* This rank's share of the n_micro microbatches, and then the records of all. */
static status_t records_exchange(wrk_session_t *session, int64_t n_samples, int64_t n_micro)
{
    int64_t first = 0;
    int64_t n_own = 0;
    if (session->evaluation == NULL) {
        status_t status = wrk_exchange_open(session->group, n_micro, sizeof(wrk_record_t), &session->evaluation);
        if (status != ST_OK) {
            return status;
        }
    }
    coll_share(n_micro, session->size, session->rank, &first, &n_own);
    status_t own = wrk_feed_evaluate(session, first, n_own, n_samples);
    bool was_training = gd_training_set(false);
    bool was_recording = gd_grad_set_enabled(false);
    for (int64_t i = 0; i < n_own && own == ST_OK; i++) {
        int64_t start = (first + i) * session->eval_micro;
        int64_t n = n_samples - start < session->eval_micro ? n_samples - start : session->eval_micro;
        own = microbatch_evaluate(session, n, wrk_exchange_own(session->evaluation, i));
    }
    (void)gd_grad_set_enabled(was_recording);
    (void)gd_training_set(was_training);
    return wrk_exchange_run(session->evaluation, own, 0, session->step, NULL);
}

/* In order of the microbatches, whoever computed them. Returns the loss. */
static double records_sum(const wrk_session_t *session, int64_t n_micro, double *accuracy_p)
{
    wrk_record_t sums = {0};
    double loss = 0;
    for (int64_t m = 0; m < n_micro; m++) {
        const wrk_record_t *record = wrk_exchange_get(session->evaluation, m);
        for (int i = 0; i < session->loss.n_terms; i++) {
            sums.loss[i] += record->loss[i];
            sums.weight[i] += record->weight[i];
        }
        sums.n_correct += record->n_correct;
        sums.n_targets += record->n_targets;
    }
    for (int i = 0; i < session->loss.n_terms; i++) {
        loss += sums.weight[i] > 0 ? sums.loss[i] / sums.weight[i] : 0;
    }
    *accuracy_p = sums.n_targets > 0 ? (double)sums.n_correct / (double)sums.n_targets : 0;
    return loss;
}

static status_t parameters_evaluate(wrk_session_t *session)
{
    const int64_t n_samples = samples_count(session);
    const int64_t n_micro = (n_samples + session->eval_micro - 1) / session->eval_micro;
    double accuracy = 0;
    wrk_session_progress(session, "evaluating");
    status_t status = records_exchange(session, n_samples, n_micro);
    if (status != ST_OK) {
        return status;
    }
    const double loss = records_sum(session, n_micro, &accuracy);
    int64_t wall = clock_wall_ns();
    wrk_point_t points[] = {{"validation_loss", session->step, loss, wall},
                            {"validation_accuracy", session->step, accuracy, wall}};
    wrk_session_points(session, points, session->has_accuracy ? 2 : 1);
    session->evaluated_step = session->step;
    if (session->has_plateau) {
        gd_plateau_update(&session->plateau, &session->plateau_options, loss);
    }
    return ST_OK;
}

status_t wrk_session_evaluate(wrk_session_t *session)
{
    const Gradd__V1__Average *average = session->job->training->average;
    if (average == NULL || !average->evaluate) {
        return parameters_evaluate(session);
    }
    gd_optimizer_swap_average(session->optimizer);
    status_t status = parameters_evaluate(session);
    gd_optimizer_swap_average(session->optimizer);
    return status;
}
