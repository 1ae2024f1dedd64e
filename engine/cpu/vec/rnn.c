/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rnn: recurrent layers over a whole sequence, time first: x[T,B,G·H] are the input's shares of the gates, computed
 * before as one product. A step is one parallel loop over blocks of hidden units: a block multiplies the state before
 * with its panel of the hidden weights (panel.h, packed once a call) and finishes its units' gates at once. Backward
 * goes the steps the other way with the weights' other panels. In f64, for gradient checks, the same with plain sums.
 *
 * G gates of H units, in PyTorch's order; R = H but with a projection, h = (o tanh c) w_hrᵀ:
 *   tanh, relu  G = 1
 *   lstm        G = 4: i f g o;  c = f c' + i g, h = o tanh c
 *   gru         G = 3: r z n;    n = tanh(x_n + r (w_n h' + b_n)), h = (1 - z) n + z h'
 * Kept for backward: gates after their functions [T,B,G·H]; cells [T,B,H]: lstm's c, gru's w_n h' + b_n; with a
 * projection hidden [T,B,H] = o tanh c.
 */
#include "cpu/vec/kernels.h"
#include "cpu/vec/panel.h"
#include "cpu/vec/vecmath.h"
#include "gradd/ops.h"

enum { MAX_SUMS = PANEL_MAX_ROWS * PANEL_MAX_VECTORS * SIMD_WIDTH };

typedef struct rnn {
    gd_rnn_kind_t kind;
    bool is_reverse;
    int64_t length, batch;       /* T, B */
    int64_t n_gates, width, out; /* G, H, R */
    const void *x, *b_hh, *h0, *c0;
    void *y, *gates, *cells, *hidden;
    const void *dy;
    void *dx, *extra;       /* extra: gru: gradients of the hidden shares [T,B,G·H]; projection: of y, all of it */
    void *dh0, *dc0;        /* NULL: not wanted */
    void *carry;            /* [B,H]: lstm: dc, gru: z dh, on their way to the step before */
    panel_factor_t state;   /* forward: the state before → gates; backward: gates' gradients → the state's before */
    panel_factor_t project; /* forward: hidden → y; backward: dy → dhidden */
    int64_t t;              /* the step */
    int64_t before;         /* in order of the recurrence; -1: the first */
    int64_t after;          /* -1: the last */
} rnn_t;

/* Stands for a state or bias that isn't there, for the units of a panel. */
static const double zeros[2 * SIMD_WIDTH];

#define REAL float
#define FN(name_x) name_x##_f32
#define TANH vec_tanh
#define SIGMOID vec_sigmoid
#include "cpu/vec/rnn_body.h"
#undef REAL
#undef FN
#undef TANH
#undef SIGMOID

static inline double sigmoid_f64(double x)
{
    return 1.0 / (1.0 + exp(-x));
}

#define REAL double
#define FN(name_x) name_x##_f64
#define TANH tanh
#define SIGMOID sigmoid_f64
#include "cpu/vec/rnn_body.h"
#undef REAL
#undef FN
#undef TANH
#undef SIGMOID

static void factor_pack(void *arg, int64_t begin, int64_t end)
{
    for (int64_t index = begin; index < end; index++) {
        panel_pack(arg, index);
    }
}

/* Packs both factors; extra_bytes of scratch come before them, at *scratch_p. */
static status_t factors_prepare(rnn_t *r, const char *op, bool is_f32, size_t extra_bytes, int n_threads,
                                void **scratch_p)
{
    extra_bytes = (extra_bytes + 63) / 64 * 64;
    const size_t state = is_f32 ? (size_t)(panel_count(&r->state) * panel_size(&r->state)) : 0;
    const size_t project =
        is_f32 && r->project.w != NULL ? (size_t)(panel_count(&r->project) * panel_size(&r->project)) : 0;
    char *scratch = gd_cpu_scratch(GD_CPU_SLOT_KERNEL, extra_bytes + (state + project) * sizeof(float));
    if (scratch == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "%s: scratch memory for weights of %lld and %lld", op, (long long)r->width,
                       (long long)r->out);
    }
    *scratch_p = scratch;
    if (is_f32) {
        r->state.panels = (float *)(void *)(scratch + extra_bytes);
        gd_cpu_parallel(n_threads, panel_count(&r->state), 1, factor_pack, &r->state);
    }
    if (project > 0) {
        r->project.panels = r->state.panels + state;
        gd_cpu_parallel(n_threads, panel_count(&r->project), 1, factor_pack, &r->project);
    }
    return ST_OK;
}

static void step_set(rnn_t *r, int64_t i)
{
    const int64_t last = r->length - 1;
    r->t = r->is_reverse ? last - i : i;
    r->before = i == 0 ? -1 : r->is_reverse ? r->t + 1 : r->t - 1;
    r->after = i == last ? -1 : r->is_reverse ? r->t - 1 : r->t + 1;
}

static int64_t n_gates_of(int64_t kind)
{
    return kind == GD_RNN_LSTM ? 4 : kind == GD_RNN_GRU ? 3 : 1;
}

/*
 * in: x[T,B,G·H], w_hh[G·H,R], b_hh[G·H], w_hr[R,H], h0[B,R], c0[B,H], all but the first two optional; out: y[T,B,R],
 * gates, cells, hidden. attrs: i0 kind; i1 whether time runs backwards.
 */
CPU_KERNEL(rnn)
{
    const gd_view_t *x = &args->in[0];
    if (x->dtype != GD_DTYPE_F32 && x->dtype != GD_DTYPE_F64) {
        return gd_cpu_fail_dtype("rnn", x->dtype);
    }
    const bool is_f32 = x->dtype == GD_DTYPE_F32;
    const int64_t n_gates = n_gates_of(args->attrs->i[0]);
    rnn_t r = {
        .kind = (gd_rnn_kind_t)args->attrs->i[0],
        .is_reverse = args->attrs->i[1] != 0,
        .length = x->shape[0],
        .batch = x->shape[1],
        .n_gates = n_gates,
        .width = x->shape[2] / n_gates,
        .out = args->out[0].shape[2],
        .x = x->data,
        .b_hh = args->in[2].data,
        .h0 = args->in[4].data,
        .c0 = args->in[5].data,
        .y = args->out[0].data,
        .gates = args->out[1].data,
        .cells = args->out[2].data,
        .hidden = args->in[3].data != NULL ? args->out[3].data : args->out[0].data,
    };
    r.state = (panel_factor_t){
        .w = args->in[1].data,
        .k = r.out,
        .n_units = r.width,
        .n_groups = n_gates,
        .k_stride = 1,
        .group_stride = r.width * r.out,
        .unit_stride = r.out,
    };
    r.project = (panel_factor_t){
        .w = args->in[3].data,
        .k = r.width,
        .n_units = r.out,
        .n_groups = 1,
        .k_stride = 1,
        .unit_stride = r.width,
    };
    void *scratch = NULL;
    status_t status = factors_prepare(&r, "rnn", is_f32, 0, args->n_threads, &scratch);
    for (int64_t i = 0; i < r.length && status == ST_OK; i++) {
        step_set(&r, i);
        gd_cpu_parallel(args->n_threads, panel_count(&r.state), 1, is_f32 ? forward_f32 : forward_f64, &r);
        if (r.project.w != NULL) {
            gd_cpu_parallel(args->n_threads, panel_count(&r.project), 1, is_f32 ? project_f32 : project_f64, &r);
        }
    }
    return status;
}

static rnn_t backward_init(const gd_kernel_args_t *args)
{
    const gd_view_t *gates = &args->in[2];
    const int64_t n_gates = n_gates_of(args->attrs->i[0]);
    rnn_t r = {
        .kind = (gd_rnn_kind_t)args->attrs->i[0],
        .is_reverse = args->attrs->i[1] != 0,
        .length = gates->shape[0],
        .batch = gates->shape[1],
        .n_gates = n_gates,
        .width = gates->shape[2] / n_gates,
        .out = args->in[0].shape[2],
        .dy = args->in[0].data,
        .gates = gates->data,
        .cells = args->in[3].data,
        .y = args->in[4].data,
        .h0 = args->in[6].data,
        .c0 = args->in[7].data,
        .dx = args->out[0].data,
        .extra = args->out[1].data,
        .dh0 = args->in[6].data != NULL ? args->out[2].data : NULL,
        .dc0 = args->in[7].data != NULL ? args->out[3].data : NULL,
    };
    r.state = (panel_factor_t){
        .w = args->in[1].data,
        .k = n_gates * r.width,
        .n_units = r.out,
        .n_groups = 1,
        .k_stride = r.out,
        .unit_stride = 1,
    };
    r.project = (panel_factor_t){
        .w = args->in[5].data,
        .k = r.out,
        .n_units = r.width,
        .n_groups = 1,
        .k_stride = r.width,
        .unit_stride = 1,
    };
    return r;
}

/*
 * in: dy[T,B,R], w_hh[G·H,R], gates, cells, y, w_hr, h0, c0, the last three optional; out: dx[T,B,G·H]; gru: gradients
 * of the hidden shares [T,B,G·H], with w_hr: those of y with what later steps add [T,B,R]; dh0[B,R], dc0[B,H]. attrs:
 * as rnn.
 */
CPU_KERNEL(rnn_backward)
{
    const int32_t dtype = args->in[0].dtype;
    if (dtype != GD_DTYPE_F32 && dtype != GD_DTYPE_F64) {
        return gd_cpu_fail_dtype("rnn_backward", dtype);
    }
    const bool is_f32 = dtype == GD_DTYPE_F32;
    rnn_t r = backward_init(args);
    const size_t carry_bytes = (size_t)(r.batch * r.width) * gd_dtype_size((gd_dtype_t)dtype);
    void *scratch = NULL;
    status_t status = factors_prepare(&r, "rnn_backward", is_f32, carry_bytes, args->n_threads, &scratch);
    if (status != ST_OK) {
        return status;
    }
    r.carry = r.dc0 != NULL ? r.dc0 : scratch;
    memset(r.carry, 0, carry_bytes);
    for (int64_t i = r.length - 1; i >= 0; i--) {
        step_set(&r, i);
        gd_cpu_parallel(args->n_threads, panel_count(&r.state), 1, is_f32 ? backward_f32 : backward_f64, &r);
        if (r.project.w != NULL) {
            gd_cpu_parallel(args->n_threads, panel_count(&r.project), 1,
                            is_f32 ? backward_project_f32 : backward_project_f64, &r);
        }
    }
    if (r.dh0 != NULL) { /* one more step: its dy would be nothing */
        r.after = r.length > 0 ? r.t : -1;
        r.t = -1;
        gd_cpu_parallel(args->n_threads, panel_count(&r.state), 1, is_f32 ? backward_f32 : backward_f64, &r);
    }
    return ST_OK;
}
