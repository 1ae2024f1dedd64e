/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loss_pairs: the terms of training.loss that give one value a sample, of outputs in a shape of their own:
 *   cosine_embedding   [N, 2, D], a target 1 or -1 a sample (or labels 1 and 0)
 *   margin_ranking     [N, 2] or [N, 2, 1], the same
 *   triplet_margin     [N, 3, D]; targets aren't used
 *   info_nce           [N, 2, D]: queries and keys. The negatives are the other keys of these N samples, a microbatch;
 *                      which samples that are depends on the job alone, not on the ranks. An evaluation's microbatches
 *                      may be larger (session.c, eval_micro_choose), and its loss so too. Targets aren't used
 *   multilabel_margin  [N, C], labels ended by -1, at most C a sample
 *   ctc                [N, T, V] logits, labels ended by `padding`; each sample's loss is divided by its labels, but
 * for another reduction. A sample's steps are all T, those up to its last token, or its target's first number, whose
 * second is the number of its labels
 */
#ifndef GRADD_WORKER_LOSS_PAIRS_H
#define GRADD_WORKER_LOSS_PAIRS_H

#include "gradd/loss.h"
#include "proto/spec.h"

/* What such a term is of. */
typedef struct wrk_samples {
    const Gradd__V1__Loss *spec;
    gd_tensor_t *x;         /* f32, contiguous */
    gd_tensor_t *y;         /* i64 labels of all samples one after the other, or f32 values */
    gd_tensor_t *inputs;    /* what the model was given: ctc's lengths may be its tokens' */
    int64_t padding;        /* model.padding; -1: none */
    const int64_t *indices; /* of the samples in the data; NULL: from 0 */
} wrk_samples_t;

/* factor · sum over the samples. ST_ERR_SHAPE, ST_ERR_DATA. */
status_t wrk_loss_of_samples(const wrk_samples_t *of, double factor, gd_tensor_t **loss_p);
/* Whether targets are labels of the last dimension's outputs: multilabel_margin, ctc but for given lengths. */
bool wrk_loss_reads_labels(const Gradd__V1__Loss *spec);

/* loss.c: values, as many of each of n_samples samples, as i64 labels [n]. ST_ERR_DATA names the first that is none,
 * and its sample (indices may be NULL). */
status_t wrk_loss_labels(gd_tensor_t *values, int64_t n_samples, const int64_t *indices, gd_tensor_t **labels_p);

#endif
