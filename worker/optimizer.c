/* SPDX-License-Identifier: Apache-2.0 */
/* optimizer: the job's optimizer, schedule and groups of parameters as the engine's. */
#include <stddef.h>
#include <string.h>

#include "base/mem.h"
#include "worker/session_internal.h"

/* ---- optimizer ---- */

/* Fields of the messages in Optimizer, by name, and the options that they are. */
#define OPTION(field_x, member_x)                                                                                      \
    {                                                                                                                  \
        field_x, offsetof(gd_optimizer_options_t, member_x)                                                            \
    }
static const struct {
    const char *field;
    size_t offset;
} members[] = {
    OPTION("alpha", alpha),
    OPTION("amsgrad", is_amsgrad),
    OPTION("beta2_decay", beta2_decay),
    OPTION("centered", is_centered),
    OPTION("clip_threshold", clip_threshold),
    OPTION("dampening", dampening),
    OPTION("decay_matrices_only", decay_matrices_only),
    OPTION("decoupled", is_decoupled),
    OPTION("epsilon", epsilon),
    OPTION("initial_accumulator", initial_accumulator),
    OPTION("iterations", ns_steps),
    OPTION("lr_decay", lr_decay),
    OPTION("match_adamw", matches_adamw),
    OPTION("maximize", is_maximizing),
    OPTION("momentum", momentum),
    OPTION("momentum_decay", momentum_decay),
    OPTION("nesterov", is_nesterov),
    OPTION("rho", rho),
    OPTION("scale_floor", epsilon2),
    OPTION("trust_coefficient", trust_coefficient),
    OPTION("weight_decay", weight_decay),
};

/* A field that isn't given and has no default in the schema leaves the option as it is. */
static void option_read(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field,
                        gd_optimizer_options_t *options)
{
    const char *value = (const char *)message + field->offset;
    const char *quantifier = (const char *)message + field->quantifier_offset;
    if (field->label == PROTOBUF_C_LABEL_REPEATED) {
        size_t n = 0;
        const double *betas = NULL;
        memcpy(&n, quantifier, sizeof(n));
        memcpy((void *)&betas, value, sizeof(betas));
        options->beta1 = n > 0 ? betas[0] : options->beta1;
        options->beta2 = n > 1 ? betas[1] : options->beta2;
        return;
    }
    protobuf_c_boolean is_given = 0;
    memcpy(&is_given, quantifier, sizeof(is_given));
    for (size_t i = 0; i < sizeof(members) / sizeof(members[0]) && (is_given || field->default_value != NULL); i++) {
        char *member = (char *)options + members[i].offset;
        if (strcmp(members[i].field, field->name) != 0) {
            continue;
        }
        if (field->type == PROTOBUF_C_TYPE_BOOL) {
            protobuf_c_boolean flag = 0;
            memcpy(&flag, value, sizeof(flag));
            *(bool *)member = flag != 0;
        } else {
            memcpy(member, value, field->type == PROTOBUF_C_TYPE_DOUBLE ? sizeof(double) : sizeof(int32_t));
        }
    }
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
    const ProtobufCMessage *message = &spec->sgd->base; /* whichever of the union's it is */
    for (unsigned i = 0; i < message->descriptor->n_fields; i++) {
        option_read(message, &message->descriptor->fields[i], options);
    }
    const ProtobufCFieldDescriptor *lr = protobuf_c_message_descriptor_get_field_by_name(message->descriptor, "lr");
    memcpy(lr_p, (const char *)message + lr->offset, sizeof(*lr_p));
    if (kind == GD_OPTIMIZER_MUON) {
        options->adamw_lr_scale = spec->muon->has_adamw_lr ? spec->muon->adamw_lr / *lr_p : 1;
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

/* Ways from lr down to final_lr. */
static void decay_read(const Gradd__V1__Schedule *spec, gd_schedule_t *schedule)
{
    if (spec->kind_case == GRADD__V1__SCHEDULE__KIND_COSINE_RESTARTS) {
        schedule->kind = GD_SCHEDULE_COSINE_RESTARTS;
        schedule->warmup_steps = spec->cosine_restarts->warmup;
        schedule->every = spec->cosine_restarts->length;
        schedule->factor = spec->cosine_restarts->factor;
        schedule->final_lr = spec->cosine_restarts->final_lr;
    } else if (spec->kind_case == GRADD__V1__SCHEDULE__KIND_POLYNOMIAL) {
        schedule->kind = GD_SCHEDULE_POLYNOMIAL;
        schedule->warmup_steps = spec->polynomial->warmup;
        schedule->power = spec->polynomial->power;
        schedule->final_lr = spec->polynomial->final_lr;
    } else {
        const bool is_cosine = spec->kind_case == GRADD__V1__SCHEDULE__KIND_COSINE;
        const Gradd__V1__Schedule__Decay *decay = is_cosine ? spec->cosine : spec->linear;
        schedule->kind = is_cosine ? GD_SCHEDULE_COSINE : GD_SCHEDULE_LINEAR;
        schedule->warmup_steps = decay->warmup;
        schedule->final_lr = decay->final_lr;
    }
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
    case GRADD__V1__SCHEDULE__KIND_LINEAR:
    case GRADD__V1__SCHEDULE__KIND_COSINE_RESTARTS:
    case GRADD__V1__SCHEDULE__KIND_POLYNOMIAL:
        decay_read(spec, schedule);
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
