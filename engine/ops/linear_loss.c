/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ops/linear_loss: a linear layer and cross-entropy over its outputs without all of them at once.
 *
 * Note [Logits come in pieces]: rows are taken piece by piece. A piece's logits are made, turned into their slope where
 * they stand (see Note [A row is read once]), and used for both gradients before the next piece takes their place: each
 * of the three products runs once, and one piece is all that is ever there. So the forward makes the gradients, for an
 * upstream gradient of 1; the backward scales them by the one that comes. The pieces depend on the shapes alone. (As
 * Liger-Kernel does, Hsu et al. 2024.)
 *
 * Where the caller says that the upstream gradient will be 1, the weight's goes straight into its buffer; otherwise it
 * is kept in memory of its own until the backward.
 */
#include "autograd/anomaly.h"
#include "autograd/node.h"
#include "gradd/amp.h"
#include "gradd/loss.h"
#include "ops/autocast.h"
#include "ops/helpers.h"

enum { PIECE_BYTES = 1 << 27, ROWS_STEP = 64 };
enum { IN_X, IN_WEIGHT, IN_TARGETS, IN_CLASS_WEIGHT, N_IN };
enum { OUT_LOSS, OUT_DX, OUT_DWEIGHT, N_OUT };
enum { ATTR_IS_DELIVERED }; /* the weight's gradient has been added to its buffer */

static const char NAME[] = "linear_cross_entropy";

/* dx = dy · what the forward made. */
static status_t fused_backward(gd_node_t *node, gd_tensor_t *dy, gd_tensor_t **dx)
{
    double factor = 0;
    status_t status = gd_tensor_item(dy, &factor);
    const bool is_delivered = node->attrs.i[ATTR_IS_DELIVERED] != 0;
    if (status == ST_OK && is_delivered && node->needs[IN_WEIGHT] && factor != 1) {
        return ST_FAIL(ST_ERR_STATE, "%s: the weight's gradient was made for an upstream gradient of 1, not %g", NAME,
                       factor);
    }
    for (int i = IN_X; i <= IN_WEIGHT && status == ST_OK; i++) {
        gd_tensor_t *made = node->out[OUT_DX + i];
        if (!node->needs[i] || made == NULL) {
            continue;
        }
        if (factor == 1) {
            dx[i] = gd_tensor_ref(made);
        } else {
            status = gd_scale(made, factor, 0, &dx[i]);
        }
    }
    return status;
}

/* Not in the table of ops, as it has no kernel: it stands in a node's place for what the walk takes from a row. */
static const gd_op_t fused_row = {.name = NAME,
                                  .n_in = N_IN,
                                  .n_in_required = N_IN - 1,
                                  .n_out = N_OUT,
                                  .saves = GD_SAVE_OUTPUTS,
                                  .backward = fused_backward};

typedef struct fused {
    gd_tensor_t *x;      /* [n,C], with its graph */
    gd_tensor_t *weight; /* [V,C], with its graph */
    gd_tensor_t *dense;  /* the weight, contiguous */
    gd_tensor_t *targets;
    gd_tensor_t *logits; /* of a piece, then their slope */
    gd_tensor_t *dx;
    gd_tensor_t *dweight;
    gd_tensor_t *leaf; /* borrowed: whose gradient buffer dweight is; NULL: it isn't */
    const gd_linear_cross_entropy_options_t *options;
    bool has_gradient; /* one is wanted */
    bool is_added;     /* dweight has something that the next product is added to */
    double loss;
    int64_t n_correct;
} fused_t;

static void fused_release(fused_t *f)
{
    (void)gd_tensor_unref(f->x);
    (void)gd_tensor_unref(f->weight);
    (void)gd_tensor_unref(f->dense);
    (void)gd_tensor_unref(f->targets);
    (void)gd_tensor_unref(f->logits);
    (void)gd_tensor_unref(f->dx);
    (void)gd_tensor_unref(f->dweight);
}

static status_t inputs_check(const gd_tensor_t *x, const gd_tensor_t *weight, const gd_tensor_t *targets)
{
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

/* out = op(in), told to anomaly mode as dispatch does. */
static status_t step_run(gd_op_id_t id, gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_tensor_t **out)
{
    static const gd_attrs_t no_attrs;
    status_t status = gd_op_apply_outputs(id, in, n_in, attrs, out);
    return status == ST_OK && __builtin_expect(gd_anomaly_is_on(), 0)
               ? tape_anomaly_forward(gd_op_get(id), in, n_in, attrs != NULL ? attrs : &no_attrs, out[0])
               : status;
}

/* What a piece's logits [rows,V] add to the loss; they become their slope where a gradient is wanted. */
static status_t piece_loss(fused_t *f, gd_tensor_t *logits, gd_tensor_t *targets)
{
    const gd_linear_cross_entropy_options_t *options = f->options;
    const bool is_in_place = f->has_gradient || options->class_weight != NULL;
    const gd_attrs_t attrs = {.i = {options->ignore_index}, .f = {options->scale, options->label_smoothing}};
    gd_tensor_t *in[3] = {logits, targets, options->class_weight};
    gd_tensor_t *out[3] = {is_in_place ? logits : NULL, NULL, NULL};
    status_t status;
    if (is_in_place) {
        status = step_run(GD_OP_CROSS_ENTROPY_SLOPE, in, options->class_weight != NULL ? 3 : 2, &attrs, out);
    } else {
        status = gd_op_apply(GD_OP_CROSS_ENTROPY, in, 2, &attrs, out);
    }
    double loss = 0;
    double n_correct = 0;
    if (status == ST_OK) {
        status = gd_tensor_item(out[is_in_place], &loss);
    }
    if (status == ST_OK) {
        status = gd_tensor_item(out[2], &n_correct);
    }
    for (int i = is_in_place; i < 3; i++) {
        (void)gd_tensor_unref(out[i]);
    }
    f->loss += loss;
    f->n_correct += (int64_t)n_correct;
    return status;
}

/* slope[rows,V] of rows from `from` on: dx = slope weight, dweight += slopeᵀ x. */
static status_t piece_gradients(fused_t *f, gd_tensor_t *slope, gd_tensor_t *x, int64_t from)
{
    gd_tensor_t *turned = NULL;
    status_t status = ST_OK;
    if (f->dx != NULL) {
        const int64_t width = x->shape[1];
        gd_tensor_t *out = NULL;
        status = gd_tensor_alias(f->dx, from * width, 2, x->shape, &out);
        if (status == ST_OK) {
            status = step_run(GD_OP_MATMUL, (gd_tensor_t *[]){slope, f->dense}, 2, NULL, &out);
        }
        (void)gd_tensor_unref(out);
    }
    if (status == ST_OK && f->dweight != NULL) {
        const gd_attrs_t attrs = {
            .i = {f->is_added, f->dweight->dtype != x->dtype ? gd_attr_of_dtype(f->dweight->dtype) : 0}};
        status = gd_transpose(slope, 0, 1, &turned);
        if (status == ST_OK) {
            status = step_run(GD_OP_MATMUL, (gd_tensor_t *[]){turned, x}, 2, &attrs, &f->dweight);
            f->is_added = true;
        }
        if (f->leaf != NULL) {
            f->leaf->is_grad_fresh = false;
        }
    }
    (void)gd_tensor_unref(turned);
    return status;
}

/* Rows [from, to). */
static status_t piece_run(fused_t *f, int64_t from, int64_t to)
{
    const int64_t shape[2] = {to - from, f->dense->shape[0]};
    gd_tensor_t *x = NULL;
    gd_tensor_t *targets = NULL;
    gd_tensor_t *logits = NULL;
    status_t status = gd_slice(f->x, 0, from, to, 1, &x);
    if (status == ST_OK) {
        status = gd_slice(f->targets, 0, from, to, 1, &targets);
    }
    if (status == ST_OK) {
        status = gd_tensor_alias(f->logits, 0, 2, shape, &logits);
    }
    if (status == ST_OK) {
        status = step_run(GD_OP_LINEAR, (gd_tensor_t *[]){x, f->dense}, 2, NULL, &logits);
    }
    if (status == ST_OK) {
        status = piece_loss(f, logits, targets);
    }
    if (status == ST_OK && f->has_gradient) {
        status = piece_gradients(f, logits, x, from);
    }
    (void)gd_tensor_unref(logits);
    (void)gd_tensor_unref(targets);
    (void)gd_tensor_unref(x);
    return status;
}

/* The leaf behind the weight, if its gradient can be added to now: nobody waits for it to pass by. */
static gd_tensor_t *leaf_find(const fused_t *f)
{
    gd_tensor_t *leaf = f->weight->master != NULL ? f->weight->master : f->weight;
    return f->options->is_root && leaf->node == NULL && leaf->watch == NULL && leaf->grad != NULL &&
                   leaf->grad->is_contiguous
               ? leaf
               : NULL;
}

/* Memory for the gradients that are wanted. */
static status_t gradients_open(fused_t *f)
{
    const bool is_recorded = gd_grad_is_enabled();
    status_t status = ST_OK;
    f->has_gradient = is_recorded && (gd_tensor_tracks(f->x) || gd_tensor_tracks(f->weight));
    if (is_recorded && gd_tensor_tracks(f->x)) {
        status = gd_tensor_new(f->x->dtype, 2, f->x->shape, &f->dx);
    }
    if (status != ST_OK || !is_recorded || !gd_tensor_tracks(f->weight)) {
        return status;
    }
    f->leaf = leaf_find(f);
    if (f->leaf != NULL) {
        f->dweight = gd_tensor_ref(f->leaf->grad);
        f->is_added = !f->leaf->is_grad_fresh;
        return ST_OK;
    }
    return gd_tensor_new(gd_dtype_widen(f->weight->dtype), 2, f->weight->shape, &f->dweight); /* sums are in f32 */
}

/* Rows of a piece: as few pieces as may be, as equal as can be. A product with few rows reads the weight and its
 * gradient for little work. */
static int64_t piece_rows(int64_t n, int64_t n_classes, size_t size)
{
    const int64_t by_size = PIECE_BYTES / (int64_t)size / n_classes / ROWS_STEP * ROWS_STEP;
    const int64_t most = by_size > ROWS_STEP ? by_size : ROWS_STEP;
    const int64_t n_pieces = n > most ? (n + most - 1) / most : 1;
    const int64_t rows = (n + n_pieces - 1) / n_pieces;
    return rows > 0 ? (rows + ROWS_STEP - 1) / ROWS_STEP * ROWS_STEP : ROWS_STEP;
}

/* All pieces, without a graph. */
static status_t pieces_run(fused_t *f)
{
    const int64_t n = f->targets->numel;
    const int64_t n_classes = f->weight->shape[0];
    const int64_t rows = piece_rows(n, n_classes, gd_dtype_size(f->x->dtype));
    status_t status = gd_contiguous(f->weight, &f->dense);
    if (status == ST_OK) {
        status = gd_tensor_new(f->x->dtype, 2, (const int64_t[2]){n < rows ? n : rows, n_classes}, &f->logits);
    }
    for (int64_t from = 0; status == ST_OK && (from < n || from == 0); from += rows) {
        status = piece_run(f, from, from + rows < n ? from + rows : n);
    }
    f->logits = gd_tensor_unref(f->logits);
    return status;
}

/* The loss, with its graph. */
static status_t fused_record(fused_t *f, gd_tensor_t **loss_p)
{
    gd_tensor_t *in[N_IN] = {f->x, f->weight, f->targets, f->options->class_weight};
    gd_tensor_t *out[N_OUT] = {NULL, f->dx, f->leaf == NULL ? f->dweight : NULL};
    const gd_attrs_t attrs = {.i = {[ATTR_IS_DELIVERED] = f->leaf != NULL}};
    status_t status = gd_tensor_scalar(gd_dtype_widen(f->x->dtype), f->loss, &out[OUT_LOSS]);
    if (status == ST_OK && f->has_gradient) {
        status = tape_node_record(GD_OP_COUNT, &fused_row, in, in[IN_CLASS_WEIGHT] != NULL ? N_IN : N_IN - 1, &attrs,
                                  out, N_OUT);
    }
    if (status != ST_OK) {
        (void)gd_tensor_unref(out[OUT_LOSS]);
        return status;
    }
    *loss_p = out[OUT_LOSS];
    return ST_OK;
}

/* x as rows and the weight, cast as a linear layer's are. */
static status_t fused_open(fused_t *f, gd_tensor_t *x, gd_tensor_t *weight, gd_tensor_t *targets)
{
    gd_tensor_t *in[2] = {NULL, weight};
    gd_tensor_t *cast[2] = {NULL};
    unsigned made = 0;
    status_t status = inputs_check(x, weight, targets);
    if (status == ST_OK) {
        status = gd_reshape(x, 2, (const int64_t[2]){targets->numel, weight->shape[1]}, &in[0]);
    }
    if (status == ST_OK) {
        status = gd_reshape(targets, 1, &targets->numel, &f->targets);
    }
    if (status == ST_OK && gd_autocast_get() != GD_DTYPE_F32) {
        status = gd_autocast_inputs(gd_autocast_get(), gd_op_get(GD_OP_LINEAR), in, 2, cast, &made);
    } else {
        cast[0] = in[0];
        cast[1] = in[1];
    }
    if (status == ST_OK) {
        f->x = gd_tensor_ref(cast[0]);
        f->weight = gd_tensor_ref(cast[1]);
        gd_autocast_release(cast, made);
    }
    (void)gd_tensor_unref(in[0]);
    return status == ST_OK ? gradients_open(f) : status;
}

status_t gd_linear_cross_entropy(gd_tensor_t *x, gd_tensor_t *weight, gd_tensor_t *targets,
                                 const gd_linear_cross_entropy_options_t *options, gd_tensor_t **loss_p,
                                 int64_t *n_correct_p)
{
    fused_t f = {.options = options};
    status_t status = fused_open(&f, x, weight, targets);
    if (status == ST_OK) {
        const bool was_recording = gd_grad_set_enabled(false);
        status = pieces_run(&f);
        (void)gd_grad_set_enabled(was_recording);
    }
    if (status == ST_OK) {
        status = fused_record(&f, loss_p);
    }
    if (status == ST_OK && n_correct_p != NULL) {
        *n_correct_p = f.n_correct;
    }
    fused_release(&f);
    return status;
}
