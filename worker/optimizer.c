/* SPDX-License-Identifier: Apache-2.0 */
/* optimizer: the job's optimizer, schedule and groups of parameters as the engine's. */
#include <string.h>

#include "base/mem.h"
#include "worker/session_internal.h"

/* ---- optimizer ---- */

static void betas_set(size_t n, const double *betas, gd_optimizer_options_t *options)
{
    options->beta1 = n > 0 ? betas[0] : options->beta1;
    options->beta2 = n > 1 ? betas[1] : options->beta2;
}

/* adam, radam and lamb: the same fields. */
static double adam_read(const Gradd__V1__Optimizer__Adam *adam, gd_optimizer_options_t *options)
{
    betas_set(adam->n_betas, adam->betas, options);
    options->epsilon = adam->has_epsilon ? adam->epsilon : options->epsilon;
    options->weight_decay = adam->weight_decay;
    options->decay_matrices_only = adam->decay_matrices_only;
    return adam->lr;
}

static double nadam_read(const Gradd__V1__Optimizer__NAdam *nadam, gd_optimizer_options_t *options)
{
    betas_set(nadam->n_betas, nadam->betas, options);
    options->epsilon = nadam->epsilon;
    options->weight_decay = nadam->weight_decay;
    options->decay_matrices_only = nadam->decay_matrices_only;
    options->momentum_decay = nadam->momentum_decay;
    return nadam->lr;
}

static double adamw_read(const Gradd__V1__Optimizer__AdamW *adamw, gd_optimizer_options_t *options)
{
    betas_set(adamw->n_betas, adamw->betas, options);
    options->epsilon = adamw->epsilon;
    options->weight_decay = adamw->weight_decay;
    options->decay_matrices_only = adamw->decay_matrices_only;
    return adamw->lr;
}

static double sgd_read(const Gradd__V1__Optimizer__Sgd *sgd, gd_optimizer_options_t *options)
{
    options->momentum = sgd->momentum;
    options->is_nesterov = sgd->nesterov;
    options->weight_decay = sgd->weight_decay;
    return sgd->lr;
}

static double adagrad_read(const Gradd__V1__Optimizer__Adagrad *adagrad, gd_optimizer_options_t *options)
{
    options->lr_decay = adagrad->lr_decay;
    options->initial_accumulator = adagrad->initial_accumulator;
    options->epsilon = adagrad->epsilon;
    options->weight_decay = adagrad->weight_decay;
    options->decay_matrices_only = adagrad->decay_matrices_only;
    return adagrad->lr;
}

static double adadelta_read(const Gradd__V1__Optimizer__Adadelta *adadelta, gd_optimizer_options_t *options)
{
    options->rho = adadelta->rho;
    options->epsilon = adadelta->epsilon;
    options->weight_decay = adadelta->weight_decay;
    options->decay_matrices_only = adadelta->decay_matrices_only;
    return adadelta->lr;
}

static double rmsprop_read(const Gradd__V1__Optimizer__RmsProp *rmsprop, gd_optimizer_options_t *options)
{
    options->alpha = rmsprop->alpha;
    options->momentum = rmsprop->momentum;
    options->is_centered = rmsprop->centered;
    options->epsilon = rmsprop->epsilon;
    options->weight_decay = rmsprop->weight_decay;
    options->decay_matrices_only = rmsprop->decay_matrices_only;
    return rmsprop->lr;
}

static double lars_read(const Gradd__V1__Optimizer__Lars *lars, gd_optimizer_options_t *options)
{
    options->momentum = lars->momentum;
    options->trust_coefficient = lars->trust_coefficient;
    options->weight_decay = lars->weight_decay;
    options->decay_matrices_only = lars->decay_matrices_only;
    return lars->lr;
}

static double lion_read(const Gradd__V1__Optimizer__Lion *lion, gd_optimizer_options_t *options)
{
    betas_set(lion->n_betas, lion->betas, options);
    options->weight_decay = lion->weight_decay;
    options->decay_matrices_only = lion->decay_matrices_only;
    return lion->lr;
}

static double adafactor_read(const Gradd__V1__Optimizer__Adafactor *adafactor, gd_optimizer_options_t *options)
{
    options->beta2_decay = adafactor->beta2_decay;
    options->epsilon2 = adafactor->scale_floor;
    options->clip_threshold = adafactor->clip_threshold;
    options->weight_decay = adafactor->weight_decay;
    options->decay_matrices_only = adafactor->decay_matrices_only;
    return adafactor->lr;
}

static double muon_read(const Gradd__V1__Optimizer__Muon *muon, gd_optimizer_options_t *options)
{
    betas_set(muon->n_betas, muon->betas, options);
    options->momentum = muon->momentum;
    options->is_nesterov = muon->nesterov;
    options->ns_steps = muon->iterations;
    options->matches_adamw = muon->match_adamw;
    options->epsilon = muon->epsilon;
    options->weight_decay = muon->weight_decay;
    options->decay_matrices_only = muon->decay_matrices_only;
    options->adamw_lr_scale = muon->has_adamw_lr ? muon->adamw_lr / muon->lr : 1;
    return muon->lr;
}

static bool kind_find(int kind_case, gd_optimizer_kind_t *kind_p)
{
    static const struct {
        int kind_case;
        gd_optimizer_kind_t kind;
    } kinds[] = {
        {GRADD__V1__OPTIMIZER__KIND_SGD, GD_OPTIMIZER_SGD},
        {GRADD__V1__OPTIMIZER__KIND_ADAMW, GD_OPTIMIZER_ADAMW},
        {GRADD__V1__OPTIMIZER__KIND_ADAM, GD_OPTIMIZER_ADAM},
        {GRADD__V1__OPTIMIZER__KIND_NADAM, GD_OPTIMIZER_NADAM},
        {GRADD__V1__OPTIMIZER__KIND_RADAM, GD_OPTIMIZER_RADAM},
        {GRADD__V1__OPTIMIZER__KIND_ADAGRAD, GD_OPTIMIZER_ADAGRAD},
        {GRADD__V1__OPTIMIZER__KIND_ADADELTA, GD_OPTIMIZER_ADADELTA},
        {GRADD__V1__OPTIMIZER__KIND_RMSPROP, GD_OPTIMIZER_RMSPROP},
        {GRADD__V1__OPTIMIZER__KIND_LAMB, GD_OPTIMIZER_LAMB},
        {GRADD__V1__OPTIMIZER__KIND_LARS, GD_OPTIMIZER_LARS},
        {GRADD__V1__OPTIMIZER__KIND_LION, GD_OPTIMIZER_LION},
        {GRADD__V1__OPTIMIZER__KIND_ADAFACTOR, GD_OPTIMIZER_ADAFACTOR},
        {GRADD__V1__OPTIMIZER__KIND_MUON, GD_OPTIMIZER_MUON},
    };
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        if (kinds[i].kind_case == kind_case) {
            *kind_p = kinds[i].kind;
            return true;
        }
    }
    return false;
}

static status_t options_read(const Gradd__V1__Optimizer *spec, gd_optimizer_options_t *options, double *lr_p)
{
    gd_optimizer_kind_t kind = GD_OPTIMIZER_SGD;
    if (spec == NULL || !kind_find((int)spec->kind_case, &kind)) {
        return ST_FAIL(ST_ERR_INVAL, "training.optimizer names no optimizer");
    }
    gd_optimizer_defaults(kind, options);
    switch (kind) {
    case GD_OPTIMIZER_SGD:
        *lr_p = sgd_read(spec->sgd, options);
        break;
    case GD_OPTIMIZER_ADAMW:
        *lr_p = adamw_read(spec->adamw, options);
        break;
    case GD_OPTIMIZER_NADAM:
        *lr_p = nadam_read(spec->nadam, options);
        break;
    case GD_OPTIMIZER_ADAGRAD:
        *lr_p = adagrad_read(spec->adagrad, options);
        break;
    case GD_OPTIMIZER_ADADELTA:
        *lr_p = adadelta_read(spec->adadelta, options);
        break;
    case GD_OPTIMIZER_RMSPROP:
        *lr_p = rmsprop_read(spec->rmsprop, options);
        break;
    case GD_OPTIMIZER_LARS:
        *lr_p = lars_read(spec->lars, options);
        break;
    case GD_OPTIMIZER_LION:
        *lr_p = lion_read(spec->lion, options);
        break;
    case GD_OPTIMIZER_ADAFACTOR:
        *lr_p = adafactor_read(spec->adafactor, options);
        break;
    case GD_OPTIMIZER_MUON:
        *lr_p = muon_read(spec->muon, options);
        break;
    default:
        *lr_p = adam_read(kind == GD_OPTIMIZER_ADAM    ? spec->adam
                          : kind == GD_OPTIMIZER_RADAM ? spec->radam
                                                       : spec->lamb,
                          options);
        break;
    }
    return ST_OK;
}

/* ---- schedule ---- */

static status_t schedule_read(wrk_session_t *session, const Gradd__V1__Schedule *spec, double lr, int64_t total_steps,
                              gd_schedule_t *schedule);

/* The parts of a product or a sequence; milestones: n_parts - 1 or none. */
static status_t parts_read(wrk_session_t *session, Gradd__V1__Schedule **specs, size_t n, const int64_t *milestones,
                           gd_schedule_t *schedule)
{
    gd_schedule_t *parts = mem_calloc(n > 0 ? n : 1, sizeof(*parts));
    if (parts == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "schedule of %zu parts", n);
    }
    schedule->parts = parts;
    status_t status = ST_OK;
    for (size_t i = 0; i < n && status == ST_OK; i++) {
        int64_t begin = milestones != NULL && i > 0 ? milestones[i - 1] : 0;
        int64_t end = milestones != NULL && i + 1 < n ? milestones[i] : schedule->total_steps;
        status = schedule_read(session, specs[i], schedule->lr, end > begin ? end - begin : 1, &parts[i]);
        schedule->n_parts = (int)i + 1;
    }
    return status;
}

static void plateau_read(wrk_session_t *session, const Gradd__V1__Schedule__Plateau *plateau, gd_schedule_t *schedule)
{
    schedule->warmup_steps = plateau->warmup;
    session->has_plateau = true;
    session->plateau_options = (gd_plateau_options_t){.factor = plateau->factor,
                                                      .patience = plateau->patience,
                                                      .threshold = plateau->threshold,
                                                      .cooldown = plateau->cooldown,
                                                      .min_scale = plateau->min_lr / schedule->lr};
}

static void one_cycle_read(const Gradd__V1__Schedule__OneCycle *cycle, gd_schedule_t *schedule)
{
    bool is_linear = cycle->shape == GRADD__V1__SCHEDULE__ONE_CYCLE__SHAPE__linear;
    schedule->kind = GD_SCHEDULE_ONE_CYCLE;
    schedule->rise = cycle->rise;
    schedule->factor = cycle->divisor;
    schedule->final_factor = cycle->final_divisor;
    schedule->shape = is_linear ? GD_DECAY_LINEAR : GD_DECAY_COSINE;
}

static void stable_decay_read(const Gradd__V1__Schedule__StableDecay *decay, gd_schedule_t *schedule)
{
    schedule->kind = GD_SCHEDULE_STABLE_DECAY;
    schedule->warmup_steps = decay->warmup;
    schedule->decay_steps = decay->decay;
    schedule->final_lr = decay->final_lr;
    schedule->shape = decay->shape == GRADD__V1__SCHEDULE__STABLE_DECAY__SHAPE__cosine ? GD_DECAY_COSINE
                      : decay->shape == GRADD__V1__SCHEDULE__STABLE_DECAY__SHAPE__sqrt ? GD_DECAY_SQRT
                                                                                       : GD_DECAY_LINEAR;
}

/* Reductions by gamma. */
static void gamma_read(const Gradd__V1__Schedule *spec, gd_schedule_t *schedule)
{
    if (spec->kind_case == GRADD__V1__SCHEDULE__KIND_STEP) {
        schedule->kind = GD_SCHEDULE_STEP;
        schedule->warmup_steps = spec->step->warmup;
        schedule->every = spec->step->every;
        schedule->gamma = spec->step->gamma;
    } else if (spec->kind_case == GRADD__V1__SCHEDULE__KIND_MULTI_STEP) {
        schedule->kind = GD_SCHEDULE_MULTI_STEP;
        schedule->warmup_steps = spec->multi_step->warmup;
        schedule->milestones = spec->multi_step->milestones;
        schedule->n_milestones = (int)spec->multi_step->n_milestones;
        schedule->gamma = spec->multi_step->gamma;
    } else {
        schedule->kind = GD_SCHEDULE_EXPONENTIAL;
        schedule->warmup_steps = spec->exponential->warmup;
        schedule->gamma = spec->exponential->gamma;
    }
}

static status_t schedule_read(wrk_session_t *session, const Gradd__V1__Schedule *spec, double lr, int64_t total_steps,
                              gd_schedule_t *schedule)
{
    *schedule = (gd_schedule_t){.kind = GD_SCHEDULE_CONSTANT, .lr = lr, .final_lr = lr, .total_steps = total_steps};
    if (spec == NULL) {
        return ST_OK;
    }
    switch (spec->kind_case) {
    case GRADD__V1__SCHEDULE__KIND_CONSTANT:
        schedule->warmup_steps = spec->constant->warmup;
        return ST_OK;
    case GRADD__V1__SCHEDULE__KIND_COSINE:
        schedule->kind = GD_SCHEDULE_COSINE;
        schedule->warmup_steps = spec->cosine->warmup;
        schedule->final_lr = spec->cosine->final_lr;
        return ST_OK;
    case GRADD__V1__SCHEDULE__KIND_LINEAR:
        schedule->kind = GD_SCHEDULE_LINEAR;
        schedule->warmup_steps = spec->linear->warmup;
        schedule->final_lr = spec->linear->final_lr;
        return ST_OK;
    case GRADD__V1__SCHEDULE__KIND_COSINE_RESTARTS:
        schedule->kind = GD_SCHEDULE_COSINE_RESTARTS;
        schedule->warmup_steps = spec->cosine_restarts->warmup;
        schedule->every = spec->cosine_restarts->length;
        schedule->factor = spec->cosine_restarts->factor;
        schedule->final_lr = spec->cosine_restarts->final_lr;
        return ST_OK;
    case GRADD__V1__SCHEDULE__KIND_POLYNOMIAL:
        schedule->kind = GD_SCHEDULE_POLYNOMIAL;
        schedule->warmup_steps = spec->polynomial->warmup;
        schedule->power = spec->polynomial->power;
        schedule->final_lr = spec->polynomial->final_lr;
        return ST_OK;
    case GRADD__V1__SCHEDULE__KIND_STEP:
    case GRADD__V1__SCHEDULE__KIND_MULTI_STEP:
    case GRADD__V1__SCHEDULE__KIND_EXPONENTIAL:
        gamma_read(spec, schedule);
        return ST_OK;
    case GRADD__V1__SCHEDULE__KIND_ONE_CYCLE:
        one_cycle_read(spec->one_cycle, schedule);
        return ST_OK;
    case GRADD__V1__SCHEDULE__KIND_STABLE_DECAY:
        stable_decay_read(spec->stable_decay, schedule);
        return ST_OK;
    case GRADD__V1__SCHEDULE__KIND_PLATEAU:
        plateau_read(session, spec->plateau, schedule);
        return ST_OK;
    case GRADD__V1__SCHEDULE__KIND_CHAINED:
        schedule->kind = GD_SCHEDULE_PRODUCT;
        return parts_read(session, spec->chained->parts, spec->chained->n_parts, NULL, schedule);
    case GRADD__V1__SCHEDULE__KIND_SEQUENCE:
        if (spec->sequence->n_milestones + 1 != spec->sequence->n_parts) {
            return ST_FAIL(ST_ERR_INVAL, "training.schedule.sequence has %zu parts and %zu milestones",
                           spec->sequence->n_parts, spec->sequence->n_milestones);
        }
        schedule->kind = GD_SCHEDULE_SEQUENCE;
        schedule->milestones = spec->sequence->milestones;
        schedule->n_milestones = (int)spec->sequence->n_milestones;
        return parts_read(session, spec->sequence->parts, spec->sequence->n_parts, schedule->milestones, schedule);
    default:
        return ST_OK;
    }
}

void wrk_schedule_release(gd_schedule_t *schedule)
{
    for (int i = 0; i < schedule->n_parts; i++) {
        wrk_schedule_release((gd_schedule_t *)(uintptr_t)&schedule->parts[i]);
    }
    mem_free((void *)(uintptr_t)schedule->parts);
    schedule->parts = NULL;
    schedule->n_parts = 0;
}

/* ---- both ---- */

status_t wrk_optimizer_open(wrk_session_t *session)
{
    const Gradd__V1__Training *training = session->job->training;
    gd_optimizer_options_t options;
    double lr = 0;
    status_t status = options_read(training->optimizer, &options, &lr);
    if (status != ST_OK) {
        return status;
    }
    gd_plateau_init(&session->plateau);
    status = schedule_read(session, training->schedule, lr, session->steps_total, &session->schedule);
    if (status != ST_OK) {
        return status;
    }
    gd_optimizer_group_t *groups = mem_calloc(training->n_groups + 1, sizeof(*groups));
    if (groups == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "%zu groups of parameters", training->n_groups);
    }
    for (size_t i = 0; i < training->n_groups; i++) {
        const Gradd__V1__ParameterGroup *group = training->groups[i];
        groups[i] = (gd_optimizer_group_t){.pattern = group->match,
                                           .lr_scale = group->lr_scale,
                                           .has_weight_decay = group->has_weight_decay,
                                           .weight_decay = group->weight_decay,
                                           .is_frozen = group->freeze,
                                           .is_adamw = group->adamw};
    }
    options.groups = groups;
    options.n_groups = (int)training->n_groups;
    options.average_decay = training->average != NULL ? training->average->decay : 0;
    status = gd_optimizer_open(&options, session->flat, &session->optimizer);
    mem_free(groups);
    return status == ST_OK ? ST_OK : status_add_context(status, "training.optimizer");
}

double wrk_optimizer_lr(const wrk_session_t *session)
{
    return gd_schedule_lr(&session->schedule, session->step) * session->plateau.scale;
}

status_t wrk_precision_open(wrk_session_t *session)
{
    static const gd_dtype_t dtypes[] = {[GRADD__V1__TRAINING__PRECISION__f32] = GD_DTYPE_F32,
                                        [GRADD__V1__TRAINING__PRECISION__bf16] = GD_DTYPE_BF16,
                                        [GRADD__V1__TRAINING__PRECISION__f16] = GD_DTYPE_F16};
    const Gradd__V1__Training *training = session->job->training;
    const Gradd__V1__LossScale *scale = training->loss_scale;
    gd_grad_scaler_options_t *options = &session->scaler_options;
    (void)gd_autocast_set(dtypes[training->precision]);
    gd_grad_scaler_defaults(options);
    session->scaler.scale = 1;
    session->has_scaler = scale != NULL || training->precision == GRADD__V1__TRAINING__PRECISION__f16;
    if (scale != NULL) {
        *options = (gd_grad_scaler_options_t){.init_scale = scale->init,
                                              .growth_factor = scale->growth,
                                              .backoff_factor = scale->backoff,
                                              .growth_interval = scale->interval};
    }
    return session->has_scaler ? gd_grad_scaler_init(&session->scaler, options) : ST_OK;
}
