/* SPDX-License-Identifier: Apache-2.0 */
/* feed: which samples the loaders of a session read. See Note [The bits don't depend on the layout] in session.h. */
#include "worker/session_internal.h"

static status_t train_plan(void *arg, int64_t item, wrk_plan_t *plan)
{
    const wrk_session_t *session = arg;
    int64_t step = item / session->n_own;
    int64_t first = (session->first + item % session->n_own) * session->micro;
    plan->n = session->micro;
    plan->seed = session->job->seed;
    plan->epoch = step / wrk_order_steps_per_epoch(session->order);
    status_t status = wrk_order_get(session->order, step, first, session->micro, plan->indices);
    if (status != ST_OK) {
        return status;
    }
    return wrk_order_get(session->order, step, (first + session->micro) % session->batch, 1, &plan->partner);
}

static status_t evaluation_plan(void *arg, int64_t item, wrk_plan_t *plan)
{
    const wrk_session_t *session = arg;
    int64_t first = (session->eval_first + item) * session->eval_micro;
    int64_t left = session->eval_samples - first;
    plan->n = left < session->eval_micro ? left : session->eval_micro;
    plan->seed = session->job->seed;
    plan->epoch = 0;
    for (int64_t i = 0; i < plan->n; i++) {
        plan->indices[i] = wrk_dataset_eval_index(session->validation, first + i, session->eval_samples);
    }
    return ST_OK;
}

static status_t loader_open(wrk_session_t *session, const wrk_dataset_t *dataset, wrk_plan_func_t plan, int64_t n_max,
                            int64_t n_a_step, wrk_loader_t **loader_p)
{
    static const Gradd__V1__Prefetch defaults = GRADD__V1__PREFETCH__INIT;
    const Gradd__V1__Prefetch *prefetch = session->job->data->prefetch;
    prefetch = prefetch != NULL ? prefetch : &defaults;
    wrk_loader_options_t options = {.dataset = dataset,
                                    .plan = plan,
                                    .arg = session,
                                    .n_max = n_max,
                                    .n_threads = prefetch->threads,
                                    .n_ahead = prefetch->batches * n_a_step};
    return wrk_loader_open(&options, loader_p);
}

status_t wrk_feed_open(wrk_session_t *session)
{
    if (session->n_own == 0) {
        return ST_OK;
    }
    status_t status =
        loader_open(session, session->train, train_plan, session->micro, session->n_own, &session->loader);
    if (status == ST_OK) {
        wrk_loader_start(session->loader, session->step * session->n_own, session->steps_total * session->n_own);
    }
    return status;
}

status_t wrk_feed_take(wrk_session_t *session, int64_t slot)
{
    return wrk_loader_take(session->loader, gd_tensor_data(session->x[slot]), gd_tensor_data(session->y[slot]),
                           session->indices + slot * session->micro);
}

status_t wrk_feed_evaluate(wrk_session_t *session, int64_t first, int64_t n_own, int64_t n_samples)
{
    status_t status = ST_OK;
    if (session->eval_loader == NULL) {
        int64_t n_a_batch = (session->batch + session->eval_micro - 1) / session->eval_micro;
        status = loader_open(session, session->validation, evaluation_plan, session->eval_micro, n_a_batch,
                             &session->eval_loader);
    }
    if (status == ST_OK) {
        session->eval_first = first;
        session->eval_samples = n_samples;
        wrk_loader_start(session->eval_loader, 0, n_own);
    }
    return status;
}
