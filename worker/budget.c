/* SPDX-License-Identifier: Apache-2.0 */
/*
 * budget: training.memory_budget: which layers are checkpointed so that a step's activations fit.
 *
 * Before the first step the rank with the most microbatches runs forward and backward of one, on the first samples, and
 * drops what comes out: parameters, running statistics and the order of the data stay as they are. What its tensors
 * take decides; all ranks get the decision. Checkpointed layers give the same bits, so nothing else depends on it.
 */
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "gradd/autograd.h"
#include "worker/session_internal.h"

enum { N_NAMED = 12 };

/* A layer that may be checkpointed. */
typedef struct candidate {
    wrk_session_t *session;
    gd_module_t *module;
    gd_hook_t *hooks[2];
    int64_t before_bytes; /* in use when its forward began */
    int64_t saved_bytes;  /* what its forward leaves for its backward, which a checkpointed one wouldn't */
} candidate_t;

typedef struct budget {
    wrk_session_t *session;
    int64_t limit_bytes;
    candidate_t *candidates;
    int n_candidates;
    int64_t *decision; /* [2 + n_candidates]: bytes before and after; each one's place among the chosen, 0: not one */
} budget_t;

/* ---- candidates ---- */

static bool is_kind(const gd_module_t *module, const char *kind)
{
    return strcmp(module->ops->kind, kind) == 0 && module->n_children > 0;
}

static bool is_repeat(const gd_module_t *module)
{
    bool is_it = is_kind(module, "sequential");
    for (int i = 0; i < module->n_children && is_it; i++) {
        is_it = is_kind(module->children[i], "sequential");
    }
    return is_it;
}

/*
 * Whether the layers in it are better candidates than it is as a whole, which would hold all that they save at once
 * when it runs again: a list with layers of parts in it (transformer layers, residuals, lists), the two sides of an
 * encoder_decoder.
 */
static bool is_opened(const gd_module_t *module)
{
    bool has_blocks = is_kind(module, "encoder_decoder");
    for (int i = 0; i < module->n_children && is_kind(module, "sequential"); i++) {
        has_blocks |= module->children[i]->n_children > 0;
    }
    return has_blocks;
}

/* The model's layers, without those that the job itself has checkpointed; of `repeat`, a sequential of sequentials, the
 * repetitions; of what is opened, its layers. Counts, and fills in where there is room for them already. */
static void candidates_walk(budget_t *budget, gd_module_t *module)
{
    const bool are_repetitions = is_repeat(module) && module != budget->session->model;
    for (int i = 0; i < module->n_children; i++) {
        gd_module_t *child = module->children[i];
        if (child->is_checkpointed) {
            continue;
        }
        if (is_repeat(child) || (is_opened(child) && !are_repetitions)) {
            candidates_walk(budget, child);
            continue;
        }
        if (budget->candidates != NULL) {
            budget->candidates[budget->n_candidates] = (candidate_t){.session = budget->session, .module = child};
        }
        budget->n_candidates++;
    }
}

static status_t candidates_find(budget_t *budget)
{
    candidates_walk(budget, budget->session->model);
    const size_t n = (size_t)budget->n_candidates;
    budget->candidates = mem_calloc(n + 1, sizeof(*budget->candidates));
    budget->decision = mem_calloc(n + 2, sizeof(*budget->decision));
    if (budget->candidates == NULL || budget->decision == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "training.memory_budget: %zu layers", n);
    }
    budget->n_candidates = 0;
    candidates_walk(budget, budget->session->model);
    return ST_OK;
}

/* ---- measuring ---- */

static int64_t in_use_bytes(const wrk_session_t *session)
{
    return gd_memory_get_stats().in_use_bytes - gd_flat_copies_bytes(session->flat);
}

static status_t forward_begins(gd_module_t *module, gd_tensor_t *x, gd_tensor_t **x_p, void *arg)
{
    (void)module;
    (void)x;
    (void)x_p;
    candidate_t *candidate = arg;
    candidate->before_bytes = in_use_bytes(candidate->session);
    return ST_OK;
}

/* The next layer holds y in either case. */
static status_t forward_ends(gd_module_t *module, gd_tensor_t *x, gd_tensor_t *y, gd_tensor_t **y_p, void *arg)
{
    (void)module;
    (void)x;
    (void)y_p;
    candidate_t *candidate = arg;
    int64_t y_bytes = gd_tensor_numel(y) * (int64_t)gd_dtype_size(gd_tensor_dtype(y));
    candidate->saved_bytes = in_use_bytes(candidate->session) - candidate->before_bytes - y_bytes;
    return ST_OK;
}

static status_t samples_read(wrk_session_t *session)
{
    for (int64_t i = 0; i < session->micro; i++) {
        session->indices[i] = i % wrk_dataset_count(session->train);
    }
    return wrk_dataset_read(session->train, session->indices, session->micro, gd_tensor_data(session->x[0]),
                            gd_tensor_data(session->y[0]));
}

static status_t microbatch_try(wrk_session_t *session, float *statistics)
{
    double factors[WRK_MAX_LOSS_TERMS] = {0};
    wrk_record_t record = {0};
    gd_tensor_t *loss = NULL;
    wrk_loss_weigh(&session->loss, session->y[0], session->micro, factors);
    for (int i = 0; i < session->loss.n_terms; i++) {
        factors[i] = factors[i] > 0 ? session->scaler.scale / (factors[i] * (double)session->n_micro) : 0;
    }
    gd_rng_set_position(session->job->seed, (uint32_t)session->step, (uint32_t)session->first);
    status_t status = gd_flat_set_gradients(session->flat, coll_tree_slot(session->tree));
    if (status == ST_OK) {
        const wrk_batch_t batch = {session->x[0], session->y[0], session->indices};
        status = wrk_session_loss(session, &batch, factors, true, &loss, &record);
    }
    if (status == ST_OK) {
        status = gd_backward(loss, NULL, false);
    }
    (void)gd_tensor_unref(loss);
    return status == ST_OK ? gd_module_statistics_export(session->model, statistics) : status;
}

/* *peak_p: what a step's metric activation_bytes will be. Values that aren't finite are the steps' concern. */
static status_t dry_run(wrk_session_t *session, int64_t *peak_p)
{
    float *statistics = mem_calloc((size_t)gd_module_statistics_size(session->model) + 1, sizeof(*statistics));
    if (statistics == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "batch statistics");
    }
    gd_memory_reset_peak();
    bool was_watching = gd_anomaly_set(false);
    bool was_training = gd_training_set(true);
    bool was_recording = gd_grad_set_enabled(true);
    status_t status = microbatch_try(session, statistics);
    (void)gd_grad_set_enabled(was_recording);
    (void)gd_training_set(was_training);
    (void)gd_anomaly_set(was_watching);
    mem_free(statistics);
    *peak_p = gd_memory_get_stats().peak_bytes - gd_flat_copies_bytes(session->flat);
    return status;
}

/* The hooks take memory too, so the peak of this run isn't a step's. */
static status_t savings_measure(budget_t *budget)
{
    int64_t peak = 0;
    status_t status = ST_OK;
    for (int i = 0; i < budget->n_candidates && status == ST_OK; i++) {
        candidate_t *candidate = &budget->candidates[i];
        status = gd_module_add_forward_pre_hook(candidate->module, forward_begins, candidate, &candidate->hooks[0]);
        if (status == ST_OK) {
            status = gd_module_add_forward_hook(candidate->module, forward_ends, candidate, &candidate->hooks[1]);
        }
    }
    if (status == ST_OK) {
        status = dry_run(budget->session, &peak);
    }
    for (int i = 0; i < budget->n_candidates; i++) {
        gd_hook_remove(budget->candidates[i].hooks[0]);
        gd_hook_remove(budget->candidates[i].hooks[1]);
    }
    return status;
}

/* ---- choosing ---- */

/* The one that saves the most, of several the first: when its backward runs the forward once more, the layers after it
 * hold nothing any more. -1: none saves anything. */
static int candidate_choose(const budget_t *budget)
{
    int best = -1;
    int64_t most_bytes = 0;
    for (int i = 0; i < budget->n_candidates; i++) {
        if (budget->decision[2 + i] == 0 && budget->candidates[i].saved_bytes > most_bytes) {
            best = i;
            most_bytes = budget->candidates[i].saved_bytes;
        }
    }
    return best;
}

static void candidate_set(budget_t *budget, int i, int ordinal)
{
    budget->decision[2 + i] = ordinal;
    gd_module_set_checkpoint(budget->candidates[i].module, ordinal > 0);
}

/* More and more of them, as many at once as should be enough. */
static status_t choose(budget_t *budget, int *n_chosen_p, int64_t *peak_p)
{
    status_t status = savings_measure(budget);
    int next = candidate_choose(budget);
    while (status == ST_OK && *peak_p > budget->limit_bytes && next >= 0) {
        for (int64_t over = *peak_p - budget->limit_bytes; over > 0 && next >= 0; next = candidate_choose(budget)) {
            candidate_set(budget, next, ++*n_chosen_p);
            over -= budget->candidates[next].saved_bytes;
        }
        status = dry_run(budget->session, peak_p);
    }
    return status;
}

/* A layer that saves little may take more than that when it runs once more: without the last ones, while that takes no
 * more. */
static status_t reconsider(budget_t *budget, int n_chosen, int64_t *peak_p)
{
    int64_t peak = *peak_p;
    status_t status = ST_OK;
    for (; status == ST_OK && peak > budget->limit_bytes && peak <= *peak_p && n_chosen > 0; n_chosen--) {
        *peak_p = peak;
        for (int i = 0; i < budget->n_candidates; i++) {
            if (budget->decision[2 + i] == n_chosen) {
                candidate_set(budget, i, 0);
            }
        }
        status = dry_run(budget->session, &peak);
    }
    *peak_p = peak < *peak_p ? peak : *peak_p;
    return status;
}

static status_t decide(budget_t *budget)
{
    int64_t peak = 0;
    int n_chosen = 0;
    status_t status = samples_read(budget->session);
    if (status == ST_OK) {
        status = dry_run(budget->session, &peak);
    }
    budget->decision[0] = peak;
    if (status == ST_OK && peak > budget->limit_bytes) {
        status = choose(budget, &n_chosen, &peak);
    }
    if (status == ST_OK && peak > budget->limit_bytes) {
        status = reconsider(budget, n_chosen, &peak);
    }
    budget->decision[1] = peak;
    if (status != ST_OK) {
        return status_add_context(status, "training.memory_budget: trying a microbatch");
    }
    return peak <= budget->limit_bytes
               ? ST_OK
               : ST_FAIL(
                     ST_ERR_INVAL,
                     "training.memory_budget is %lld bytes, but a step's activations take at least %lld with layers "
                     "checkpointed, %lld without; more training.microbatches, training.fused_loss or "
                     "training.precision bf16 need less, and `repeat` or `residual` around plain layers lets more "
                     "of them be checkpointed",
                     (long long)budget->limit_bytes, (long long)peak, (long long)budget->decision[0]);
}

static void decision_tell(const budget_t *budget)
{
    strbuf_t text = {0};
    int n_chosen = 0;
    strbuf_appendf(&text, "training.memory_budget of %lld bytes: a step's activations take %lld",
                   (long long)budget->limit_bytes, (long long)budget->decision[0]);
    for (int i = 0; i < budget->n_candidates; i++) {
        if (budget->decision[2 + i] != 0 && n_chosen++ < N_NAMED) {
            strbuf_appendf(&text, "%s%s", n_chosen == 1 ? "; checkpointed: " : ", ",
                           budget->candidates[i].module->path);
        }
    }
    if (n_chosen > N_NAMED) {
        strbuf_appendf(&text, " and %d more", n_chosen - N_NAMED);
    }
    if (n_chosen > 0) {
        strbuf_appendf(&text, "; then %lld", (long long)budget->decision[1]);
    }
    log_info("%s", strbuf_text(&text));
    if (n_chosen > 0) {
        wrk_session_note(budget->session, strbuf_text(&text));
    }
    strbuf_release(&text);
}

status_t wrk_budget_open(wrk_session_t *session)
{
    const Gradd__V1__Training *training = session->job->training;
    budget_t budget = {.session = session, .limit_bytes = training->memory_budget};
    if (!training->has_memory_budget) {
        return ST_OK;
    }
    const int decider = session->size - 1; /* no rank has more microbatches: see coll_share */
    status_t status = candidates_find(&budget);
    if (status == ST_OK && session->rank == decider) {
        status = decide(&budget);
    }
    status = wrk_agree(session->group, status);
    if (status == ST_OK) {
        int64_t size_bytes = (2 + (int64_t)budget.n_candidates) * (int64_t)sizeof(*budget.decision);
        status = coll_broadcast(session->group, budget.decision, size_bytes, decider);
    }
    for (int i = 0; i < budget.n_candidates && status == ST_OK; i++) {
        gd_module_set_checkpoint(budget.candidates[i].module, budget.decision[2 + i] != 0);
    }
    if (status == ST_OK && session->rank == 0) {
        decision_tell(&budget);
    }
    mem_free(budget.decision);
    mem_free(budget.candidates);
    return status;
}
