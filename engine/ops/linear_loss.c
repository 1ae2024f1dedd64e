/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ops/linear_loss: a linear layer and cross-entropy over its outputs without all of them at once.
 *
 * Note [Logits come in pieces]: rows are taken piece by piece, each as a checkpointed segment: the forward keeps the
 * piece's loss alone, and the backward makes its logits once more, uses them and lets them go, while the weight's
 * gradient is added to. So a piece's logits and their gradient are all that is ever there, for one more product of
 * matrices in three. The pieces depend on the shapes alone.
 */
#include "autograd/node.h"
#include "gradd/loss.h"
#include "ops/helpers.h"
#include "tensor/pool.h"

enum { PIECE_LOGITS = 1 << 22, LEAST_ROWS = 64 };

typedef struct piece {
    double scale;
    int64_t ignore_index;
    double label_smoothing;
    int64_t n_correct;
    bool has_weight;
    int n_refs; /* the caller's, and the segment's */
} piece_t;

static void piece_release(void *arg)
{
    piece_t *piece = arg;
    if (--piece->n_refs == 0) {
        gd_pool_free(gd_context_pool(), piece);
    }
}

/* in: x[n,C], weight[V,C], targets[n], and the classes' weights where there are some. */
static status_t piece_run(gd_tensor_t *const *in, int n_in, gd_tensor_t **loss_p, void *arg)
{
    (void)n_in;
    piece_t *piece = arg;
    gd_tensor_t *logits = NULL;
    gd_tensor_t *sum = NULL;
    status_t status = gd_linear(in[0], in[1], NULL, &logits);
    if (status == ST_OK && !piece->has_weight) {
        status = gd_cross_entropy(logits, in[2], piece->scale, piece->ignore_index, piece->label_smoothing, loss_p,
                                  gd_checkpoint_is_recomputing() ? NULL : &piece->n_correct);
    } else if (status == ST_OK) {
        status = gd_cross_entropy_loss(logits, in[2], in[3], piece->ignore_index, piece->label_smoothing,
                                       GD_REDUCTION_SUM, &sum);
        if (status == ST_OK) {
            status = gd_scale(sum, piece->scale, 0, loss_p);
        }
    }
    (void)gd_tensor_unref(sum);
    (void)gd_tensor_unref(logits);
    return status;
}

static status_t inputs_check(const gd_tensor_t *x, const gd_tensor_t *weight, const gd_tensor_t *targets)
{
    static const char NAME[] = "linear_cross_entropy";
    if (x->n_dims < 1 || weight->n_dims != 2 || x->shape[x->n_dims - 1] != weight->shape[1]) {
        return gd_op_fail_shapes(ST_ERR_SHAPE, NAME, x, weight, "x[…,C] and weight[V,C] are needed");
    }
    if (weight->shape[0] < 1 || weight->shape[1] < 1) {
        return gd_op_fail_shapes(ST_ERR_SHAPE, NAME, x, weight, "the weight is empty");
    }
    if (x->numel / weight->shape[1] != targets->numel) {
        return gd_op_fail_shapes(ST_ERR_SHAPE, NAME, x, targets, "one target for each row of x is needed");
    }
    return ST_OK;
}

/* Rows [from, to): *loss_p is added to (NULL: set). */
static status_t piece_add(gd_tensor_t *x, gd_tensor_t *weight, gd_tensor_t *targets, int64_t from, int64_t to,
                          const gd_linear_cross_entropy_options_t *options, gd_tensor_t **loss_p, int64_t *n_correct)
{
    gd_tensor_t *in[4] = {NULL, weight, NULL, options->class_weight};
    gd_tensor_t *loss = NULL;
    gd_tensor_t *sum = NULL;
    piece_t *piece = gd_pool_alloc(gd_context_pool(), sizeof(*piece));
    if (piece == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "linear_cross_entropy");
    }
    *piece = (piece_t){.scale = options->scale,
                       .ignore_index = options->ignore_index,
                       .label_smoothing = options->label_smoothing,
                       .has_weight = options->class_weight != NULL,
                       .n_refs = 1};
    status_t status = gd_slice(x, 0, from, to, 1, &in[0]);
    if (status == ST_OK) {
        status = gd_slice(targets, 0, from, to, 1, &in[2]);
    }
    if (status == ST_OK) {
        piece->n_refs++;
        status = gd_checkpoint(piece_run, piece, piece_release, in, piece->has_weight ? 4 : 3, &loss);
    }
    if (status == ST_OK && *loss_p != NULL) {
        status = gd_add(*loss_p, loss, &sum);
    } else if (status == ST_OK) {
        sum = gd_tensor_ref(loss);
    }
    if (status == ST_OK) {
        (void)gd_tensor_unref(*loss_p);
        *loss_p = sum;
        *n_correct += piece->n_correct;
    }
    (void)gd_tensor_unref(loss);
    (void)gd_tensor_unref(in[0]);
    (void)gd_tensor_unref(in[2]);
    piece_release(piece);
    return status;
}

status_t gd_linear_cross_entropy(gd_tensor_t *x, gd_tensor_t *weight, gd_tensor_t *targets,
                                 const gd_linear_cross_entropy_options_t *options, gd_tensor_t **loss_p,
                                 int64_t *n_correct_p)
{
    gd_tensor_t *rows = NULL;
    gd_tensor_t *flat = NULL;
    gd_tensor_t *loss = NULL;
    int64_t n_correct = 0;
    status_t status = inputs_check(x, weight, targets);
    if (status != ST_OK) {
        return status;
    }
    const int64_t n = targets->numel;
    const int64_t by_size = PIECE_LOGITS / weight->shape[0] / LEAST_ROWS * LEAST_ROWS;
    const int64_t n_rows = by_size > LEAST_ROWS ? by_size : LEAST_ROWS;
    status = gd_reshape(x, 2, (const int64_t[2]){n, weight->shape[1]}, &rows);
    if (status == ST_OK) {
        status = gd_reshape(targets, 1, &n, &flat);
    }
    for (int64_t from = 0; status == ST_OK && (from < n || from == 0); from += n_rows) {
        const int64_t to = from + n_rows < n ? from + n_rows : n;
        status = piece_add(rows, weight, flat, from, to, options, &loss, &n_correct);
    }
    (void)gd_tensor_unref(flat);
    (void)gd_tensor_unref(rows);
    if (status != ST_OK) {
        (void)gd_tensor_unref(loss);
        return status;
    }
    *loss_p = loss;
    if (n_correct_p != NULL && options->class_weight == NULL) {
        *n_correct_p = n_correct;
    }
    return ST_OK;
}
