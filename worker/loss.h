/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loss: what training.loss names, of a model's outputs [N, …, K] and the data's targets: labels, or values. A list of
 * terms, one where the loss isn't a sum. A term is a sum over the targets times a factor, so that microbatches add up;
 * what it is divided by in the end, its weight, is the number of targets of the whole batch, or the sum of their
 * classes' weights without those that are ignored. Embedded in the session.
 */
#ifndef GRADD_WORKER_LOSS_H
#define GRADD_WORKER_LOSS_H

#include "gradd/loss.h"
#include "gradd/nn.h"
#include "proto/spec.h"

enum { WRK_MAX_LOSS_TERMS = 8 };

typedef struct wrk_loss_term {
    const Gradd__V1__Loss *spec;
    int kind;           /* row of loss.c's table */
    double share;       /* its factor in the sum */
    int64_t outputs[2]; /* [from, to) of the last dimension; to -1: the end */
    int64_t targets[2]; /* [from, to) of a target's values */
    bool is_part;       /* of the outputs or targets */
    bool has_classes;   /* cross_entropy, nll, multi_margin */
    bool is_counted;    /* the weight depends on the labels */
    bool is_of_samples; /* one value a sample, of outputs in a shape of its own: see loss_pairs.h */
    int64_t ignore_index;
    double smoothing;
    gd_tensor_t *weight;        /* of the classes, [K]; NULL: 1 */
    gd_tensor_t *pos_weight;    /* bce_with_logits; NULL: 1 */
    const double *class_weight; /* of the job, as weight; NULL: none */
    size_t n_class_weight;
} wrk_loss_term_t;

typedef struct wrk_loss {
    wrk_loss_term_t terms[WRK_MAX_LOSS_TERMS];
    int n_terms;
    int accuracy_term; /* whose hits are counted; -1: none */
    bool is_counted;   /* one of them is */
    int64_t padding;   /* model.padding; -1: none */
    bool is_fused;     /* with the model's last layer, a linear one: see wrk_loss_fuse */
} wrk_loss_t;

/* What a microbatch leaves besides its gradient; batch statistics (gd_module_statistics_size floats) follow. */
typedef struct wrk_record {
    double loss[WRK_MAX_LOSS_TERMS];   /* each term's sum times its factor */
    double weight[WRK_MAX_LOSS_TERMS]; /* what the sum is to be divided by */
    int64_t n_correct;
    int64_t n_targets; /* that could be hit */
} wrk_record_t;

/* What a loss is of. Borrowed. */
typedef struct wrk_batch {
    gd_tensor_t *x;         /* what the model is given; NULL where no term counts its tokens */
    gd_tensor_t *y;         /* the data's targets */
    const int64_t *indices; /* [N] which samples of the data they are, for errors; NULL: they count from 0 */
} wrk_batch_t;

/* Whether all that the loss reads of labels leaves the same one out, *label_p: ignore_index, or what ends a list. */
bool wrk_loss_ignores(const Gradd__V1__Training *training, int64_t *label_p);
/* The loss of a job that has `training`. has_labels: the data's targets are classes. The job is borrowed. */
status_t wrk_loss_open(const spec_job_t *job, bool has_labels, wrk_loss_t *loss_p);
void wrk_loss_release(wrk_loss_t *loss);

/* Whether the terms fit the outputs and the batch of one sample, microbatches of n_micro samples, and their class
 * weights the outputs' width; the message names the term. */
status_t wrk_loss_check(const wrk_loss_t *loss, const wrk_batch_t *batch, gd_tensor_t *outputs, int64_t n_micro);
/* Decides on training.fused_loss: whether the last layer's outputs, [n_rows, n_outputs] of a microbatch, are made in
 * pieces within the loss. ST_ERR_INVAL: `on`, and the model or the loss isn't so. */
status_t wrk_loss_fuse(wrk_loss_t *loss, const Gradd__V1__Training *training, const gd_module_t *model, bool has_labels,
                       int64_t n_rows, int64_t n_outputs);
/* Each term's weight in these targets, weights_p[n_terms], of n samples. */
void wrk_loss_weigh(const wrk_loss_t *loss, const gd_tensor_t *y, int64_t n_samples, double *weights_p);
/*
 * The sum over the terms of factors[i] · share · (sum over the targets). outputs: the model's of batch->x. loss_p: a
 * new reference, 0-d. Fills the record but its weights. smooths: labels are smoothed (not in evaluation). ST_ERR_SHAPE,
 * ST_ERR_DATA: the message names the term, and the sample whose target is bad.
 */
status_t wrk_loss_compute(const wrk_loss_t *loss, const wrk_batch_t *batch, gd_tensor_t *outputs, const double *factors,
                          bool smooths, gd_tensor_t **loss_p, wrk_record_t *record);

#endif
