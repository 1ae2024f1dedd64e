/* SPDX-License-Identifier: Apache-2.0 */
/* session: opening and closing, and what the steps share. */
#include "worker/session_internal.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "gradd/autograd.h"
#include "gradd/ops.h"
#include "worker/loss_pairs.h"
#include "worker/model.h"

bool wrk_status_is_permanent(status_t status)
{
    switch (status) {
    case ST_ERR_COMM:
    case ST_ERR_PEER:
    case ST_ERR_TIMEOUT:
    case ST_ERR_NOMEM:
    case ST_ERR_IO:
    case ST_ERR_NOSPACE:
    case ST_ERR_DEVICE:
    case ST_ERR_BUSY:
    case ST_ERR_CANCELLED:
    case ST_ERR_INTERNAL:
        return false;
    default:
        return true;
    }
}

int64_t wrk_session_step(const wrk_session_t *session)
{
    return session->step;
}

/* ---- events ---- */

void wrk_session_progress(const wrk_session_t *session, const char *phase)
{
    const wrk_events_t *events = &session->options.events;
    if (events->progress != NULL) {
        events->progress(events->arg, session->step, session->steps_total, phase);
    }
}

void wrk_session_note(const wrk_session_t *session, const char *text)
{
    const wrk_events_t *events = &session->options.events;
    if (session->rank == 0 && events->note != NULL) {
        events->note(events->arg, text);
    }
}

void wrk_session_points(const wrk_session_t *session, const wrk_point_t *points, int n)
{
    const wrk_events_t *events = &session->options.events;
    if (session->rank == 0 && events->points != NULL) {
        events->points(events->arg, points, n);
    }
}

/* ---- a microbatch's tensors ---- */

static status_t field_new(const wrk_dataset_field_t *field, int64_t n, gd_tensor_t **t_p)
{
    int64_t shape[GD_MAX_DIMS + 1] = {n};
    memcpy(shape + 1, field->shape, (size_t)field->n_dims * sizeof(int64_t));
    return gd_tensor_new(field->dtype, field->n_dims + 1, shape, t_p);
}

status_t wrk_session_batch_new(const wrk_dataset_t *dataset, int64_t n, gd_tensor_t **x_p, gd_tensor_t **y_p)
{
    const wrk_dataset_field_t *target = wrk_dataset_target(dataset);
    gd_tensor_t *x = NULL;
    status_t status = field_new(wrk_dataset_input(dataset), n, &x);
    if (status != ST_OK) {
        return status;
    }
    int64_t n_targets = n * target->numel;
    status =
        target->dtype == GD_DTYPE_F32 ? field_new(target, n, y_p) : gd_tensor_new(target->dtype, 1, &n_targets, y_p);
    if (status != ST_OK) {
        (void)gd_tensor_unref(x);
        return status;
    }
    *x_p = x;
    return ST_OK;
}

/* ---- opening ---- */

static status_t sizes_set(wrk_session_t *session)
{
    const Gradd__V1__Training *training = session->job->training;
    if (training == NULL || session->job->data == NULL || session->job->data->train == NULL ||
        session->job->model == NULL) {
        return ST_FAIL(ST_ERR_INVAL, "the job has no training, data.train or model");
    }
    session->batch = training->batch;
    session->n_micro = training->has_microbatches ? training->microbatches : session->size;
    if (session->batch < 1 || session->n_micro < 1 || session->batch % session->n_micro != 0) {
        return ST_FAIL(ST_ERR_INVAL, "training.batch %lld is not divisible by training.microbatches %lld",
                       (long long)session->batch, (long long)session->n_micro);
    }
    session->micro = session->batch / session->n_micro;
    coll_share(session->n_micro, session->size, session->rank, &session->first, &session->n_own);
    return ST_OK;
}

static status_t data_open(wrk_session_t *session)
{
    const Gradd__V1__Data *data = session->job->data;
    int64_t ignored = 0;
    const bool has_ignored = wrk_loss_ignores(session->job->training, &ignored);
    wrk_dataset_options_t options = {.context = (int32_t)wrk_model_context(session->job),
                                     .ignored = has_ignored ? &ignored : NULL,
                                     .name = "data.train"};
    status_t status = wrk_dataset_open(data->train, &options, &session->train);
    if (status != ST_OK) {
        return status;
    }
    session->is_text = wrk_dataset_is_text(session->train);
    session->is_stream = wrk_dataset_is_stream(session->train);
    session->n_targets = wrk_dataset_n_targets(session->train);
    status = wrk_loss_open(session->job, wrk_dataset_n_classes(session->train) > 0, &session->loss);
    if (status != ST_OK) {
        return status;
    }
    session->has_accuracy = session->loss.accuracy_term >= 0;
    if (data->validation != NULL && data->validation->kind_case != GRADD__V1__DATASET__KIND__NOT_SET) {
        options.name = "data.validation";
        options.like = session->train;
        status = wrk_dataset_open(data->validation, &options, &session->validation);
    }
    if (status == ST_OK && session->validation != NULL) {
        const wrk_dataset_field_t *a = wrk_dataset_input(session->train);
        const wrk_dataset_field_t *b = wrk_dataset_input(session->validation);
        if (a->dtype != b->dtype || a->n_dims != b->n_dims ||
            memcmp(a->shape, b->shape, (size_t)a->n_dims * sizeof(int64_t)) != 0) {
            return ST_FAIL(ST_ERR_DATA, "data.train and data.validation have samples of different shapes");
        }
        if (wrk_dataset_n_targets(session->validation) != session->n_targets) {
            return ST_FAIL(ST_ERR_DATA, "data.train has %lld targets a sample, data.validation %lld",
                           (long long)session->n_targets, (long long)wrk_dataset_n_targets(session->validation));
        }
    }
    if (status == ST_OK) {
        status = wrk_order_open(session->train, session->job->seed, session->batch, &session->order);
        status = status == ST_OK ? ST_OK : status_add_context(status, "data.train");
    }
    if (status != ST_OK) {
        return status;
    }
    const Gradd__V1__Training *training = session->job->training;
    session->steps_total =
        training->has_steps ? training->steps : training->epochs * wrk_order_steps_per_epoch(session->order);
    return session->steps_total > 0 ? ST_OK : ST_FAIL(ST_ERR_INVAL, "neither training.steps nor training.epochs");
}

/* Without a backward there is room for more than a training microbatch, and larger ones are faster: up to a batch,
 * while inputs and outputs are small. A function of the job alone, as the results' bits depend on it. */
static int64_t eval_micro_choose(const wrk_session_t *session)
{
    static const int64_t MAX_INPUT_NUMEL = INT64_C(1) << 16;
    static const int64_t MAX_OUTPUT_NUMEL = INT64_C(1) << 22;
    int64_t by_input = MAX_INPUT_NUMEL / wrk_dataset_input(session->train)->numel;
    int64_t by_output = MAX_OUTPUT_NUMEL / (session->n_targets * session->n_outputs);
    int64_t n = by_input < by_output ? by_input : by_output;
    n = n < session->batch ? n : session->batch;
    return n > session->micro ? n : session->micro;
}

/* Whether every label, or as many values as a target has, fit what the loss takes of the outputs. */
static status_t targets_check(const wrk_session_t *session, gd_tensor_t *x, gd_tensor_t *outputs, gd_tensor_t *y)
{
    const wrk_loss_t *loss = &session->loss;
    const bool is_plain = loss->n_terms == 1 && loss->terms[0].spec->kind_case != GRADD__V1__LOSS__KIND_GAUSSIAN_NLL;
    wrk_dataset_t *const sets[2] = {session->train, session->validation};
    status_t status = ST_OK;
    for (int k = 0; k < 2 && sets[k] != NULL; k++) {
        for (int i = 0; i < loss->n_terms && status == ST_OK; i++) {
            const wrk_loss_term_t *term = &loss->terms[i];
            const int64_t to = term->outputs[1] < 0 ? session->n_outputs : term->outputs[1];
            const bool has_values = wrk_dataset_target(sets[k])->dtype == GD_DTYPE_F32;
            if (term->is_of_samples && (has_values || !wrk_loss_reads_labels(term->spec))) {
                continue; /* the values aren't outputs', and the labels no classes */
            }
            if (!has_values || (is_plain && !term->is_part)) {
                status = wrk_dataset_check_classes(sets[k], to - term->outputs[0]);
                if (status != ST_OK && has_values) {
                    return status_add_context(status, "data.%s, whose targets are values and not classes",
                                              k == 0 ? "train" : "validation");
                }
            }
        }
    }
    return status == ST_OK ? wrk_loss_check(loss, &(const wrk_batch_t){x, y, NULL}, outputs, session->micro) : status;
}

/* Whether a target belongs to each row of the outputs. */
static bool outputs_are_rows(const wrk_loss_t *loss)
{
    bool has_rows = false;
    for (int i = 0; i < loss->n_terms; i++) {
        has_rows |= !loss->terms[i].is_of_samples;
    }
    return has_rows;
}

/* The width of what the model puts out, from a forward of one sample, and whether every label fits. */
static status_t outputs_check(wrk_session_t *session)
{
    gd_tensor_t *x = NULL;
    gd_tensor_t *y = NULL;
    gd_tensor_t *outputs = NULL;
    int64_t index = 0;
    status_t status = wrk_session_batch_new(session->train, 1, &x, &y);
    if (status != ST_OK) {
        return status;
    }
    status = wrk_dataset_read(session->train, &index, 1, gd_tensor_data(x), gd_tensor_data(y));
    if (status == ST_OK) {
        bool was_recording = gd_grad_set_enabled(false);
        status = gd_module_forward(session->model, x, &outputs);
        status = status == ST_OK ? ST_OK : status_add_context(status, "before the first step");
        (void)gd_grad_set_enabled(was_recording);
    }
    if (status == ST_OK) {
        int n_dims = gd_tensor_n_dims(outputs);
        session->n_outputs = n_dims > 0 ? gd_tensor_dim(outputs, -1) : 0;
        if (session->n_outputs < 1 ||
            (outputs_are_rows(&session->loss) && gd_tensor_numel(outputs) / session->n_outputs != session->n_targets)) {
            strbuf_t shape = {0};
            gd_tensor_format_shape(outputs, &shape);
            status = ST_FAIL(ST_ERR_SHAPE,
                             "the model makes %s of one sample; the data has %lld targets a sample, so [%lld, classes] "
                             "is needed",
                             strbuf_text(&shape), (long long)session->n_targets, (long long)session->n_targets);
            strbuf_release(&shape);
        }
    }
    if (status == ST_OK) {
        status = targets_check(session, x, outputs, y);
    }
    if (status == ST_OK) {
        const bool has_labels = wrk_dataset_target(session->train)->dtype != GD_DTYPE_F32;
        status = wrk_loss_fuse(&session->loss, session->job->training, session->model, has_labels,
                               session->micro * session->n_targets, session->n_outputs);
    }
    (void)gd_tensor_unref(outputs);
    (void)gd_tensor_unref(y);
    (void)gd_tensor_unref(x);
    return status;
}

/* Where microbatches are read to. */
static status_t batches_make(wrk_session_t *session)
{
    const int64_t n = session->loss.is_counted && session->n_own > 1 ? session->n_own : 1;
    session->x = mem_calloc((size_t)n, sizeof(gd_tensor_t *));
    session->y = mem_calloc((size_t)n, sizeof(gd_tensor_t *));
    session->indices = mem_calloc((size_t)(n * session->micro), sizeof(*session->indices));
    if (session->x == NULL || session->y == NULL || session->indices == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "%lld microbatches", (long long)n);
    }
    session->n_held = n;
    status_t status = ST_OK;
    for (int64_t i = 0; i < n && status == ST_OK; i++) {
        status = wrk_session_batch_new(session->train, session->micro, &session->x[i], &session->y[i]);
    }
    return status;
}

static status_t model_open(wrk_session_t *session)
{
    const wrk_dataset_field_t *input = wrk_dataset_input(session->train);
    status_t status = wrk_model_build(session->job, input->dtype, input->n_dims, input->shape, &session->model);
    if (status != ST_OK) {
        return status;
    }
    status = gd_module_set_paths(session->model);
    if (status == ST_OK) {
        status = gd_module_initialise(session->model, session->job->seed);
    }
    if (status == ST_OK) {
        status = gd_flat_open(session->model, &session->flat);
    }
    if (status == ST_OK) {
        status = wrk_optimizer_open(session);
    }
    if (status != ST_OK) {
        return status;
    }
    status = batches_make(session);
    if (status == ST_OK) {
        status = outputs_check(session);
    }
    if (status == ST_OK) {
        session->eval_micro = eval_micro_choose(session);
    }
    return status;
}

/* What each rank does by itself; an error here is agreed on afterwards. */
static status_t parts_open(wrk_session_t *session)
{
    const Gradd__V1__Resources *resources = session->job->resources;
    gd_context_options_t options = {
        .n_threads = resources != NULL ? resources->threads : 1,
        .device = resources != NULL && resources->device == GRADD__V1__RESOURCES__DEVICE__cuda ? GD_DEVICE_CUDA
                                                                                               : GD_DEVICE_CPU,
    };
    status_t status = sizes_set(session);
    if (status == ST_OK) {
        status = gd_context_open(&options, &session->context);
        status = status == ST_OK
                     ? ST_OK
                     : status_add_context(status, status == ST_ERR_UNSUPPORTED ? "resources.device" : "resources");
    }
    if (status != ST_OK) {
        return status;
    }
    session->context_before = gd_context_set_current(session->context);
    (void)gd_anomaly_set(session->job->training->anomaly);
    status = wrk_precision_open(session);
    strbuf_t text = {0};
    gd_numerics_fingerprint(&text);
    (void)snprintf(session->fingerprint, sizeof(session->fingerprint), "%s gradd-%s", strbuf_text(&text),
                   GRADD_VERSION);
    strbuf_release(&text);
    if (status == ST_OK && session->rank == 0) {
        int keep = session->job->checkpoint != NULL ? session->job->checkpoint->keep : 3;
        status = wrk_checkpoint_store_open(session->options.directory, session->options.attempt, keep, &session->store);
    }
    if (status == ST_OK) {
        status = data_open(session);
    }
    if (status == ST_OK) {
        status = model_open(session);
    }
    if (status == ST_OK && session->job->generate != NULL && session->is_text) {
        status = wrk_session_generate_check(session);
    }
    int64_t record = (int64_t)sizeof(wrk_record_t);
    if (status == ST_OK) {
        record += gd_module_statistics_size(session->model) * (int64_t)sizeof(float);
        status = wrk_exchange_open(session->group, session->n_micro, record, &session->exchange);
    }
    if (status == ST_OK && session->loss.is_counted) {
        const int64_t weights = WRK_MAX_LOSS_TERMS * (int64_t)sizeof(double);
        status = wrk_exchange_open(session->group, session->n_micro, weights, &session->weights);
    }
    return status;
}

static void start_log(const wrk_session_t *session)
{
    int64_t n_parameters = 0;
    for (int i = 0; i < session->flat->n_segments; i++) {
        n_parameters += session->flat->segments[i].numel;
    }
    log_info("%s: %lld parameters in %d tensors; %lld training samples, %lld for validation; %lld steps of %lld "
             "samples in %lld microbatches on %d ranks (%s); %s",
             session->job->name != NULL ? session->job->name : "job", (long long)n_parameters,
             session->flat->n_segments, (long long)wrk_dataset_count(session->train),
             session->validation != NULL ? (long long)wrk_dataset_eval_count(session->validation) : 0LL,
             (long long)session->steps_total, (long long)session->batch, (long long)session->n_micro, session->size,
             coll_group_backend(session->group), session->fingerprint);
}

status_t wrk_session_open(const spec_job_t *job, coll_group_t *group, const wrk_session_options_t *options,
                          wrk_session_t **session_p)
{
    wrk_session_t *session = mem_zalloc(sizeof(*session));
    if (session == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "session");
    }
    session->job = job;
    session->group = group;
    session->rank = coll_group_rank(group);
    session->size = coll_group_size(group);
    session->options = *options;
    if (session->options.host == NULL) {
        session->options.host = "localhost";
    }
    session->evaluated_step = -1;
    session->opened_ns = clock_now_ns();
    wrk_session_progress(session, "starting");

    status_t status = wrk_agree(group, parts_open(session));
    if (status == ST_OK) {
        status = coll_tree_open(group, session->flat->numel, session->n_micro, &session->tree);
    }
    if (status == ST_OK) {
        status = wrk_budget_open(session);
    }
    if (status == ST_OK && session->rank == 0 && session->options.events.fingerprint != NULL) {
        session->options.events.fingerprint(session->options.events.arg, session->fingerprint);
    }
    if (status == ST_OK) {
        status = wrk_session_resume(session);
    }
    if (status != ST_OK) {
        wrk_session_close(session);
        return status;
    }
    session->first_step = session->step;
    status = wrk_agree(group, wrk_feed_open(session));
    if (status != ST_OK) {
        wrk_session_close(session);
        return status;
    }
    if (session->rank == 0) {
        start_log(session);
    }
    /* still starting, with the step that it starts from: "training" says that a step of this attempt is finished */
    wrk_session_progress(session, "starting");
    *session_p = session;
    return ST_OK;
}

void wrk_session_close(wrk_session_t *session)
{
    if (session == NULL) {
        return;
    }
    wrk_loader_close(session->eval_loader);
    wrk_loader_close(session->loader);
    wrk_exchange_close(session->evaluation);
    wrk_exchange_close(session->exchange);
    wrk_exchange_close(session->weights);
    if (session->tree != NULL) {
        coll_tree_close(session->tree);
    }
    if (session->optimizer != NULL) {
        gd_optimizer_close(session->optimizer);
    }
    wrk_schedule_release(&session->schedule);
    for (int64_t i = 0; i < session->n_held; i++) {
        (void)gd_tensor_unref(session->x[i]);
        (void)gd_tensor_unref(session->y[i]);
    }
    mem_free(session->x);
    mem_free(session->y);
    mem_free(session->indices);
    wrk_loss_release(&session->loss);
    if (session->flat != NULL) {
        gd_flat_close(session->flat);
    }
    (void)gd_module_unref(session->model);
    if (session->order != NULL) {
        wrk_order_close(session->order);
    }
    wrk_dataset_close(session->validation);
    wrk_dataset_close(session->train);
    wrk_checkpoint_store_close(session->store);
    if (session->context != NULL) {
        (void)gd_context_set_current(session->context_before);
        gd_context_close(session->context);
    }
    mem_free(session);
}
