/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ops/rnn: a recurrent layer over a whole sequence. The kernel goes back through the steps and gives the gates'
 * gradients; those of the weights are then one product each over all times.
 */
#include <stdio.h>

#include "ops/helpers.h"

enum { RNN_X, RNN_W_HH, RNN_B_HH, RNN_W_HR, RNN_H0, RNN_C0, RNN_N_IN };
enum { RNN_Y, RNN_GATES, RNN_CELLS, RNN_HIDDEN, RNN_N_OUT };
enum { BACK_DY, BACK_W_HH, BACK_GATES, BACK_CELLS, BACK_Y, BACK_W_HR, BACK_H0, BACK_C0, BACK_N_IN };
enum { BACK_DX, BACK_EXTRA, BACK_DH0, BACK_DC0, BACK_N_OUT };

static const int64_t nothing = 0; /* the shape of an output that isn't made */

static int64_t n_gates_of(int64_t kind)
{
    return kind == GD_RNN_LSTM ? 4 : kind == GD_RNN_GRU ? 3 : 1;
}

/* t is NULL or has the shape [rows, columns] ([rows] where columns is -1). */
static status_t part_check(const char *op, const char *what, const gd_tensor_t *t, int64_t rows, int64_t columns)
{
    const int64_t shape[2] = {rows, columns};
    const int n_dims = columns < 0 ? 1 : 2;
    if (t == NULL || gd_shape_equal(t->n_dims, t->shape, n_dims, shape)) {
        return ST_OK;
    }
    char why[128];
    (void)snprintf(why, sizeof(why), columns < 0 ? "%s[%lld] is needed" : "%s[%lld, %lld] is needed", what,
                   (long long)rows, (long long)columns);
    return gd_op_fail_shapes(ST_ERR_SHAPE, op, t, NULL, why);
}

static gd_tensor_t *input_at(gd_tensor_t *const *in, int n_in, int i)
{
    return i < n_in ? in[i] : NULL;
}

static status_t kind_check(const char *op, const gd_attrs_t *attrs, bool has_lstm_parts)
{
    const int64_t kind = attrs->i[0];
    if (kind < 0 || kind >= GD_RNN_COUNT) {
        return ST_FAIL(ST_ERR_INVAL, "%s: %lld is no kind of recurrent layer", op, (long long)kind);
    }
    if (has_lstm_parts && kind != GD_RNN_LSTM) {
        return ST_FAIL(ST_ERR_INVAL, "%s: only lstm has a projection and cells", op);
    }
    return ST_OK;
}

/* Sizes from the gates' [T,B,G·H] and w_hr: fills the dimensions, checks the weights. */
typedef struct sizes {
    int64_t length, batch, gates, width, out;
} sizes_t;

static status_t sizes_get(const char *op, const gd_attrs_t *attrs, const gd_tensor_t *gates, const gd_tensor_t *w_hh,
                          const gd_tensor_t *w_hr, sizes_t *sizes_p)
{
    const int64_t n_gates = n_gates_of(attrs->i[0]);
    if (gates->n_dims != 3 || gates->shape[2] < 1 || gates->shape[2] % n_gates != 0) {
        char why[96];
        (void)snprintf(why, sizeof(why), "[time, batch, %lld widths] is needed", (long long)n_gates);
        return gd_op_fail_shapes(ST_ERR_SHAPE, op, gates, NULL, why);
    }
    const sizes_t s = {
        .length = gates->shape[0],
        .batch = gates->shape[1],
        .gates = gates->shape[2],
        .width = gates->shape[2] / n_gates,
        .out = w_hr != NULL && w_hr->n_dims == 2 ? w_hr->shape[0] : gates->shape[2] / n_gates,
    };
    status_t status = part_check(op, "w_hr", w_hr, s.out, s.width);
    if (status == ST_OK && s.out < 1) {
        status = gd_op_fail_shapes(ST_ERR_SHAPE, op, w_hr, NULL, "a projection to nothing");
    }
    if (status == ST_OK) {
        status = part_check(op, "w_hh", w_hh, s.gates, s.out);
    }
    *sizes_p = s;
    return status;
}

static status_t rnn_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    gd_tensor_t *w_hr = input_at(in, n_in, RNN_W_HR);
    gd_tensor_t *c0 = input_at(in, n_in, RNN_C0);
    sizes_t s;
    status_t status = kind_check("rnn", attrs, w_hr != NULL || c0 != NULL);
    if (status == ST_OK) {
        status = gd_op_check_dtypes("rnn", in, n_in);
    }
    if (status == ST_OK) {
        status = sizes_get("rnn", attrs, in[RNN_X], in[RNN_W_HH], w_hr, &s);
    }
    if (status == ST_OK) {
        status = part_check("rnn", "b_hh", input_at(in, n_in, RNN_B_HH), s.gates, -1);
    }
    if (status == ST_OK) {
        status = part_check("rnn", "h0", input_at(in, n_in, RNN_H0), s.batch, s.out);
    }
    if (status == ST_OK) {
        status = part_check("rnn", "c0", c0, s.batch, s.width);
    }
    if (status != ST_OK) {
        return status;
    }
    const gd_dtype_t dtype = in[RNN_X]->dtype;
    const bool has_cells = attrs->i[0] == GD_RNN_LSTM || attrs->i[0] == GD_RNN_GRU;
    const int64_t cells[3] = {s.length, s.batch, s.width};
    gd_meta_set(&out[RNN_Y], dtype, 3, (const int64_t[3]){s.length, s.batch, s.out});
    gd_meta_set(&out[RNN_GATES], dtype, 3, in[RNN_X]->shape);
    gd_meta_set(&out[RNN_CELLS], dtype, has_cells ? 3 : 1, has_cells ? cells : &nothing);
    gd_meta_set(&out[RNN_HIDDEN], dtype, w_hr != NULL ? 3 : 1, w_hr != NULL ? cells : &nothing);
    return ST_OK;
}

/* t[T,B,C] as rows [(times)·B, C] from time `from` on, without a copy; t is contiguous. */
static status_t rows_alias(gd_tensor_t *t, int64_t from, int64_t times, gd_tensor_t **rows_p)
{
    const int64_t batch = t->shape[1], width = t->shape[2];
    return gd_tensor_alias(t, from * batch * width, 2, (const int64_t[2]){times * batch, width}, rows_p);
}

/* The state before each step, [T·B,R], where the first one was given. */
static status_t states_shift(const gd_node_t *node, gd_tensor_t *y, gd_tensor_t *h0, gd_tensor_t **rows_p)
{
    const bool is_reverse = node->attrs.i[1] != 0;
    const int64_t length = y->shape[0];
    gd_tensor_t *states = NULL;
    gd_tensor_t *from = NULL;
    gd_tensor_t *to = NULL;
    gd_tensor_t *first = NULL;
    status_t status = gd_tensor_new(y->dtype, 3, y->shape, &states);
    if (status == ST_OK) {
        status = rows_alias(y, is_reverse ? 1 : 0, length - 1, &from);
    }
    if (status == ST_OK) {
        status = rows_alias(states, is_reverse ? 0 : 1, length - 1, &to);
    }
    if (status == ST_OK) {
        status = gd_tensor_copy(to, from);
    }
    if (status == ST_OK) {
        status = rows_alias(states, is_reverse ? length - 1 : 0, 1, &first);
    }
    if (status == ST_OK) {
        status = gd_tensor_copy(first, h0);
    }
    if (status == ST_OK) {
        status = rows_alias(states, 0, length, rows_p);
    }
    (void)gd_tensor_unref(first);
    (void)gd_tensor_unref(to);
    (void)gd_tensor_unref(from);
    (void)gd_tensor_unref(states);
    return status;
}

/* left[N,C]ᵀ right[N,D] is the gradient of input i. */
static status_t weight_gradient(gd_node_t *node, int i, gd_tensor_t *left, gd_tensor_t *right, gd_tensor_t **dx)
{
    gd_tensor_t *turned = NULL;
    status_t status = gd_transpose(left, 0, 1, &turned);
    if (status == ST_OK) {
        status = gd_node_product(node, i, turned, right, dx);
    }
    (void)gd_tensor_unref(turned);
    return status;
}

/* dw_hh[G·H,R] = dgatesᵀ (the states before), over all steps at once */
static status_t hidden_gradient(gd_node_t *node, gd_tensor_t *dgates, gd_tensor_t **dx)
{
    gd_tensor_t *y = node->out[RNN_Y];
    gd_tensor_t *h0 = input_at(node->in, node->n_in, RNN_H0);
    const bool is_reverse = node->attrs.i[1] != 0;
    const int64_t length = y->shape[0];
    gd_tensor_t *left = NULL;
    gd_tensor_t *right = NULL;
    status_t status = ST_OK;
    if (h0 != NULL && length > 0) {
        status = states_shift(node, y, h0, &right);
        if (status == ST_OK) {
            status = rows_alias(dgates, 0, length, &left);
        }
    } else {
        const int64_t times = length > 0 ? length - 1 : 0;
        status = rows_alias(y, is_reverse && times > 0 ? 1 : 0, times, &right);
        if (status == ST_OK) {
            status = rows_alias(dgates, is_reverse || times == 0 ? 0 : 1, times, &left);
        }
    }
    if (status == ST_OK) {
        status = weight_gradient(node, RNN_W_HH, left, right, dx);
    }
    (void)gd_tensor_unref(left);
    (void)gd_tensor_unref(right);
    return status;
}

/* dw_hr[R,H] = dyᵀ hidden, dy with what later steps add */
static status_t projection_gradient(gd_node_t *node, gd_tensor_t *dy, gd_tensor_t **dx)
{
    gd_tensor_t *left = NULL;
    gd_tensor_t *right = NULL;
    status_t status = rows_alias(dy, 0, dy->shape[0], &left);
    if (status == ST_OK) {
        status = rows_alias(node->out[RNN_HIDDEN], 0, dy->shape[0], &right);
    }
    if (status == ST_OK) {
        status = weight_gradient(node, RNN_W_HR, left, right, dx);
    }
    (void)gd_tensor_unref(left);
    (void)gd_tensor_unref(right);
    return status;
}

static status_t rnn_gradient(gd_node_t *node, gd_tensor_t *dy, gd_tensor_t **dx)
{
    const int n_in = node->n_in;
    gd_tensor_t *in[BACK_N_IN] = {dy,
                                  node->in[RNN_W_HH],
                                  node->out[RNN_GATES],
                                  node->out[RNN_CELLS],
                                  node->out[RNN_Y],
                                  input_at(node->in, n_in, RNN_W_HR),
                                  input_at(node->in, n_in, RNN_H0),
                                  input_at(node->in, n_in, RNN_C0)};
    gd_tensor_t *out[BACK_N_OUT] = {NULL};
    status_t status = gd_op_apply(GD_OP_RNN_BACKWARD, in, BACK_N_IN, &node->attrs, out);
    if (status != ST_OK) {
        return status;
    }
    gd_tensor_t *dgates = node->attrs.i[0] == GD_RNN_GRU ? out[BACK_EXTRA] : out[BACK_DX];
    if (node->needs[RNN_W_HH]) {
        status = hidden_gradient(node, dgates, dx);
    }
    if (status == ST_OK && n_in > RNN_B_HH && node->needs[RNN_B_HH]) {
        status = gd_sum_to(node, RNN_B_HH, dgates, &dx[RNN_B_HH]);
    }
    if (status == ST_OK && n_in > RNN_W_HR && node->needs[RNN_W_HR]) {
        status = projection_gradient(node, out[BACK_EXTRA], dx);
    }
    static const int given[3][2] = {{RNN_X, BACK_DX}, {RNN_H0, BACK_DH0}, {RNN_C0, BACK_DC0}};
    for (int i = 0; i < 3 && status == ST_OK; i++) {
        if (given[i][0] < n_in && node->needs[given[i][0]]) {
            dx[given[i][0]] = gd_tensor_ref(out[given[i][1]]);
        }
    }
    for (int i = 0; i < BACK_N_OUT; i++) {
        (void)gd_tensor_unref(out[i]);
    }
    return status;
}

#define ABSENT .is_absent = true

const gd_op_t gd_op_rnn = {
    .name = "rnn",
    .formula = "tanh, relu: h = f(x + w_hh h' + b_hh); lstm: c = σ(f) c' + σ(i) tanh(g), h = σ(o) tanh(c) (w_hrᵀ); "
               "gru: h = (1 - z) tanh(x_n + r (w_n h' + b_n)) + z h'",
    .attrs = "i0 kind: tanh, relu, lstm, gru; i1 time runs backwards",
    .n_in = RNN_N_IN,
    .n_in_required = 2,
    .n_out = RNN_N_OUT,
    .saves = GD_SAVE_INPUTS | GD_SAVE_OUTPUTS,
    .autocast = GD_AUTOCAST_F32,
    .contiguous_in = 63,
    .infer = rnn_infer,
    .backward = rnn_gradient,
    .onnx = "LSTM",
    .sample =
        {{.in = {{3, {3, 2, 5}}, {2, {5, 5}}, {1, {5}}}, .n_in = 3, .attrs = {.i = {GD_RNN_TANH, 0}}},
         {.in = {{3, {3, 2, 5}}, {2, {5, 5}}, {ABSENT}, {ABSENT}, {2, {2, 5}}},
          .n_in = 5,
          .attrs = {.i = {GD_RNN_RELU, 1}}},
         {.in = {{3, {3, 2, 12}}, {2, {12, 3}}, {1, {12}}}, .n_in = 3, .attrs = {.i = {GD_RNN_LSTM, 0}}},
         {.in = {{3, {4, 2, 8}}, {2, {8, 2}}, {1, {8}}, {ABSENT}, {2, {2, 2}}, {2, {2, 2}}},
          .n_in = 6,
          .attrs = {.i = {GD_RNN_LSTM, 1}}},
         {.in = {{3, {3, 2, 16}}, {2, {16, 3}}, {1, {16}}, {2, {3, 4}}, {2, {2, 3}}, {2, {2, 4}}},
          .n_in = 6,
          .attrs = {.i = {GD_RNN_LSTM, 0}}},
         {.in = {{3, {3, 2, 9}}, {2, {9, 3}}, {1, {9}}, {ABSENT}, {2, {2, 3}}},
          .n_in = 5,
          .attrs = {.i = {GD_RNN_GRU, 0}}},
         {.in = {{3, {3, 2, 6}}, {2, {6, 2}}}, .n_in = 2, .attrs = {.i = {GD_RNN_GRU, 1}}},
         /* panels, groups of rows and their edges */
         {.in = {{3, {3, 13, 76}}, {2, {76, 19}}, {1, {76}}}, .n_in = 3, .attrs = {.i = {GD_RNN_LSTM, 0}}},
         {.in = {{3, {2, 21, 105}}, {2, {105, 35}}, {1, {105}}}, .n_in = 3, .attrs = {.i = {GD_RNN_GRU, 1}}},
         {.in = {{3, {2, 11, 70}}, {2, {70, 70}}, {1, {70}}}, .n_in = 3, .attrs = {.i = {GD_RNN_TANH, 0}}},
         {.in = {{3, {2, 9, 148}}, {2, {148, 33}}, {1, {148}}, {2, {33, 37}}},
          .n_in = 4,
          .attrs = {.i = {GD_RNN_LSTM, 0}}},
         {.in = {{3, {1, 3, 8}}, {2, {8, 2}}}, .n_in = 2, .attrs = {.i = {GD_RNN_LSTM, 0}}},
         {.in = {{3, {0, 3, 8}}, {2, {8, 2}}}, .n_in = 2, .attrs = {.i = {GD_RNN_LSTM, 0}}},
         {.in = {{3, {3, 0, 8}}, {2, {8, 2}}}, .n_in = 2, .attrs = {.i = {GD_RNN_LSTM, 0}}},
         {.in = {{3, {3, 2, 10}}, {2, {10, 2}}}, .n_in = 2, .attrs = {.i = {GD_RNN_LSTM, 0}}, .expect = ST_ERR_SHAPE},
         {.in = {{3, {3, 2, 8}}, {2, {8, 3}}}, .n_in = 2, .attrs = {.i = {GD_RNN_LSTM, 0}}, .expect = ST_ERR_SHAPE},
         {.in = {{3, {3, 2, 8}}, {2, {8, 2}}, {1, {4}}},
          .n_in = 3,
          .attrs = {.i = {GD_RNN_LSTM, 0}},
          .expect = ST_ERR_SHAPE},
         {.in = {{3, {3, 2, 2}}, {2, {2, 2}}, {ABSENT}, {2, {2, 2}}}, .n_in = 4, .expect = ST_ERR_INVAL},
         {.in = {{3, {3, 2, 2}}, {2, {2, 2}}}, .n_in = 2, .attrs = {.i = {9, 0}}, .expect = ST_ERR_INVAL}},
};

static status_t rnn_backward_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    gd_tensor_t *w_hr = input_at(in, n_in, BACK_W_HR);
    gd_tensor_t *h0 = input_at(in, n_in, BACK_H0);
    gd_tensor_t *c0 = input_at(in, n_in, BACK_C0);
    sizes_t s;
    status_t status = kind_check("rnn_backward", attrs, w_hr != NULL || c0 != NULL);
    if (status == ST_OK) {
        status = gd_op_check_dtypes("rnn_backward", in, n_in);
    }
    if (status == ST_OK) {
        status = sizes_get("rnn_backward", attrs, in[BACK_GATES], in[BACK_W_HH], w_hr, &s);
    }
    if (status == ST_OK) {
        status = part_check("rnn_backward", "h0", h0, s.batch, s.out);
    }
    if (status == ST_OK) {
        status = part_check("rnn_backward", "c0", c0, s.batch, s.width);
    }
    if (status != ST_OK) {
        return status;
    }
    const int64_t y[3] = {s.length, s.batch, s.out};
    const int64_t cells[3] = {s.length, s.batch, s.width};
    const bool is_gru = attrs->i[0] == GD_RNN_GRU;
    const bool has_cells = is_gru || attrs->i[0] == GD_RNN_LSTM;
    if (!gd_shape_equal(in[BACK_DY]->n_dims, in[BACK_DY]->shape, 3, y) ||
        !gd_shape_equal(in[BACK_Y]->n_dims, in[BACK_Y]->shape, 3, y) ||
        (has_cells && !gd_shape_equal(in[BACK_CELLS]->n_dims, in[BACK_CELLS]->shape, 3, cells))) {
        return gd_op_fail_shapes(ST_ERR_SHAPE, "rnn_backward", in[BACK_DY], in[BACK_GATES],
                                 "the shapes don't belong together");
    }
    const gd_dtype_t dtype = in[BACK_DY]->dtype;
    gd_meta_set(&out[BACK_DX], dtype, 3, in[BACK_GATES]->shape);
    gd_meta_set(&out[BACK_EXTRA], dtype, 1, &nothing);
    if (is_gru || w_hr != NULL) {
        gd_meta_set(&out[BACK_EXTRA], dtype, 3, is_gru ? in[BACK_GATES]->shape : y);
    }
    gd_meta_set(&out[BACK_DH0], dtype, h0 != NULL ? 2 : 1, h0 != NULL ? h0->shape : &nothing);
    gd_meta_set(&out[BACK_DC0], dtype, c0 != NULL ? 2 : 1, c0 != NULL ? c0->shape : &nothing);
    return ST_OK;
}

const gd_op_t gd_op_rnn_backward = {
    .name = "rnn_backward",
    .formula = "gradients of the gates' shares, step by step from the last; of their hidden part (gru) or of the "
               "projected output; of the first states",
    .attrs = "i0 kind: tanh, relu, lstm, gru; i1 time runs backwards",
    .n_in = BACK_N_IN,
    .n_in_required = 5,
    .n_out = BACK_N_OUT,
    .contiguous_in = 255,
    .infer = rnn_backward_infer,
    .sample = {{.in = {{3, {3, 2, 5}}, {2, {5, 5}}, {3, {3, 2, 5}}, {1, {0}}, {3, {3, 2, 5}}},
                .n_in = 5,
                .attrs = {.i = {GD_RNN_TANH, 0}}},
               {.in = {{3, {3, 13, 19}}, {2, {76, 19}}, {3, {3, 13, 76}}, {3, {3, 13, 19}}, {3, {3, 13, 19}}},
                .n_in = 5,
                .attrs = {.i = {GD_RNN_LSTM, 0}}},
               {.in = {{3, {3, 2, 35}},
                       {2, {105, 35}},
                       {3, {3, 2, 105}},
                       {3, {3, 2, 35}},
                       {3, {3, 2, 35}},
                       {ABSENT},
                       {2, {2, 35}}},
                .n_in = 7,
                .attrs = {.i = {GD_RNN_GRU, 1}}},
               {.in = {{3, {3, 2, 3}},
                       {2, {16, 3}},
                       {3, {3, 2, 16}},
                       {3, {3, 2, 4}},
                       {3, {3, 2, 3}},
                       {2, {3, 4}},
                       {2, {2, 3}},
                       {2, {2, 4}}},
                .n_in = 8,
                .attrs = {.i = {GD_RNN_LSTM, 0}}},
               {.in = {{3, {3, 2, 4}}, {2, {5, 5}}, {3, {3, 2, 5}}, {1, {0}}, {3, {3, 2, 5}}},
                .n_in = 5,
                .attrs = {.i = {GD_RNN_TANH, 0}},
                .expect = ST_ERR_SHAPE}},
};

status_t gd_rnn(gd_rnn_kind_t kind, bool is_reverse, gd_tensor_t *x, const gd_rnn_weights_t *weights, gd_tensor_t *h0,
                gd_tensor_t *c0, gd_tensor_t **y_p, gd_tensor_t **cells_p)
{
    gd_tensor_t *in[RNN_N_IN] = {x, weights->w_hh, weights->b_hh, weights->w_hr, h0, c0};
    gd_tensor_t *out[RNN_N_OUT] = {NULL};
    const gd_attrs_t attrs = {.i = {kind, is_reverse}};
    status_t status = gd_op_apply(GD_OP_RNN, in, RNN_N_IN, &attrs, out);
    if (status != ST_OK) {
        return status;
    }
    *y_p = out[RNN_Y];
    if (cells_p != NULL) {
        *cells_p = gd_tensor_ref(out[RNN_CELLS]);
    }
    for (int i = RNN_GATES; i < RNN_N_OUT; i++) {
        (void)gd_tensor_unref(out[i]);
    }
    return ST_OK;
}
