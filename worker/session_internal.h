/* SPDX-License-Identifier: Apache-2.0 */
/* session_internal: the session's state, shared by session.c (open, close), optimizer.c, resume.c, step.c, evaluate.c,
 * generate.c and run.c. */
#ifndef GRADD_WORKER_SESSION_INTERNAL_H
#define GRADD_WORKER_SESSION_INTERNAL_H

#include "collectives/tree.h"
#include "gradd/amp.h"
#include "gradd/context.h"
#include "gradd/optim.h"
#include "worker/data/dataset.h"
#include "worker/data/loader.h"
#include "worker/exchange.h"
#include "worker/loss.h"
#include "worker/session.h"

struct wrk_session {
    const spec_job_t *job;
    coll_group_t *group;
    int rank;
    int size;
    wrk_session_options_t options;
    char fingerprint[WRK_MAX_FINGERPRINT];

    gd_context_t *context;
    gd_context_t *context_before;

    wrk_dataset_t *train;
    wrk_dataset_t *validation; /* NULL: none */
    wrk_order_t *order;
    wrk_loader_t *loader;      /* of train; item k: own microbatch k mod n_own of step k / n_own */
    wrk_loader_t *eval_loader; /* of validation, made at the first evaluation; item i: own microbatch i */
    int64_t eval_first;        /* this rank's evaluation microbatches begin there */
    int64_t eval_samples;      /* of an evaluation */
    bool is_text;              /* train's tokens stand for text */
    bool is_stream;            /* train's samples are windows of tokens */
    bool has_accuracy;         /* targets are classes, or shares of classes */

    wrk_loss_t loss;
    gd_module_t *model;
    gd_flat_t *flat;
    gd_optimizer_t *optimizer;
    gd_schedule_t schedule; /* wrk_schedule_release */
    gd_plateau_options_t plateau_options;
    gd_plateau_t plateau;
    bool has_plateau;
    gd_grad_scaler_options_t scaler_options;
    gd_grad_scaler_t scaler;
    bool has_scaler;
    wrk_checkpoint_store_t *store; /* rank 0 only */

    int64_t batch;        /* samples a step */
    int64_t n_micro;      /* microbatches a step */
    int64_t micro;        /* samples a microbatch */
    int64_t eval_micro;   /* samples an evaluation microbatch: micro … batch */
    int64_t n_targets;    /* a sample */
    int64_t n_outputs;    /* width of the model's output: classes */
    int64_t first, n_own; /* this rank's microbatches */

    coll_tree_t *tree;
    wrk_exchange_t *exchange;
    wrk_exchange_t *evaluation; /* made at the first evaluation */
    wrk_exchange_t *weights;    /* of each microbatch's targets, where the loss counts them; NULL: it doesn't */
    gd_tensor_t **x, **y;       /* [n_held] microbatches: one, or all own ones where their targets are counted first */
    int64_t *indices;           /* [n_held, micro] which samples of train those are */
    int64_t n_held;

    int64_t step; /* steps finished */
    int64_t steps_total;
    int64_t evaluated_step; /* -1: none */
    int64_t first_step;     /* where this session began */
    double wall_seconds;    /* of training before this session */
    int64_t opened_ns;
    int64_t window_ns; /* start of the steps not yet reported */
    int64_t window_steps;
    int64_t logged_ns;
    double last_loss;
    int64_t activation_bytes; /* the most that a step took in tensors besides parameters */
};

void wrk_session_progress(const wrk_session_t *session, const char *phase);
void wrk_session_note(const wrk_session_t *session, const char *text);
void wrk_session_points(const wrk_session_t *session, const wrk_point_t *points, int n);
/* feed.c: the reading ahead of both sets. The loader of train begins at session->step. */
status_t wrk_feed_open(wrk_session_t *session);
/* The next own microbatch into x, y and indices of the session's slot. */
status_t wrk_feed_take(wrk_session_t *session, int64_t slot);
/* Reads this rank's n_own microbatches from `first` on, of an evaluation of n_samples. */
status_t wrk_feed_evaluate(wrk_session_t *session, int64_t first, int64_t n_own, int64_t n_samples);
/* New tensors for n samples: x[n, …]; y[targets of all samples] for labels, y[n, …] for values. */
status_t wrk_session_batch_new(const wrk_dataset_t *dataset, int64_t n, gd_tensor_t **x_p, gd_tensor_t **y_p);
/* Forward and the loss: see wrk_loss_compute; the record gets the weights too. */
status_t wrk_session_loss(const wrk_session_t *session, const wrk_batch_t *batch, const double *factors, bool smooths,
                          gd_tensor_t **loss_p, wrk_record_t *record);

/* optimizer.c: the job's optimizer, groups of parameters, schedule and average, over session->flat. */
status_t wrk_optimizer_open(wrk_session_t *session);
/* optimizer.c: training.precision: the mode of all that this thread computes, and the scale of the loss. */
status_t wrk_precision_open(wrk_session_t *session);
/* Learning rate of the step that comes next. */
double wrk_optimizer_lr(const wrk_session_t *session);
/* Frees what a schedule's parts lie in. */
void wrk_schedule_release(gd_schedule_t *schedule);

/* budget.c: training.memory_budget: checkpoints layers until a step's activations fit. Collective. ST_ERR_INVAL: they
 * can't. */
status_t wrk_budget_open(wrk_session_t *session);

/* resume.c: the newest intact checkpoint into model and optimizer of every rank. Collective. */
status_t wrk_session_resume(wrk_session_t *session);
/* resume.c: rank 0 saves; collective. A failure is a note when the step goes on anyway (is_needed false). */
status_t wrk_session_save(wrk_session_t *session, bool is_needed);
/* step.c: one training step; *command_p is the command that all ranks got. Collective. */
status_t wrk_session_train_step(wrk_session_t *session, wrk_command_t *command_p);
/* evaluate.c: validation loss and accuracy of the current parameters. Collective. */
status_t wrk_session_evaluate(wrk_session_t *session);
/* generate.c: whether the data's vocabulary has the job's prompt and the model takes it; text data only. Asked at the
 * start: at the end the training would be lost. */
status_t wrk_session_generate_check(const wrk_session_t *session);
/* generate.c: text sampled from the model; rank 0, text data only. *text_p: mem_free. */
status_t wrk_session_generate(wrk_session_t *session, char **text_p);

#endif
