/* SPDX-License-Identifier: Apache-2.0 */
/* gated: y = f(a) b, f by the attribute i0 (gd_gate_t): SwiGLU, GEGLU and the others of Shazeer, 2020. */
#include "cpu/map.h"
#include "cpu/vec/kernels.h"
#include "cpu/vec/pointwise.h"
#include "gradd/ops.h"

typedef struct gated {
    const void *dy, *a, *b;
    void *y, *db; /* y: backward's da */
    gd_gate_t gate;
} gated_t;

static inline float relu_f32(float x)
{
    return x < 0.0f ? 0.0f : x;
}

static inline double relu_f64(double x)
{
    return x < 0.0 ? 0.0 : x;
}

static inline float one_f32(float x)
{
    (void)x;
    return 1.0f;
}

static inline double one_f64(double x)
{
    (void)x;
    return 1.0;
}

static inline float step_f32(float x)
{
    return x <= 0.0f ? 0.0f : 1.0f;
}

static inline double step_f64(double x)
{
    return x <= 0.0 ? 0.0 : 1.0;
}

static inline float itself_f32(float x)
{
    return x;
}

static inline double itself_f64(double x)
{
    return x;
}

static inline float silu(float x)
{
    return x * vec_sigmoid(x);
}

static inline double silu_f64(double x)
{
    return x * sigmoid_f64(x);
}

static inline float sigmoid_derivative(float x)
{
    const float s = vec_sigmoid(x);
    return s * (1.0f - s);
}

static inline double sigmoid_derivative_f64(double x)
{
    const double s = sigmoid_f64(x);
    return s * (1.0 - s);
}

/* X(gate, f32 function, its derivative, f64 function, its derivative) */
#define GATES(X)                                                                                                       \
    X(GD_GATE_SIGMOID, vec_sigmoid, sigmoid_derivative, sigmoid_f64, sigmoid_derivative_f64)                           \
    X(GD_GATE_SILU, silu, silu_derivative, silu_f64, silu_derivative_f64)                                              \
    X(GD_GATE_GELU, gelu_exact, gelu_exact_derivative, gelu_exact_f64, gelu_exact_derivative_f64)                      \
    X(GD_GATE_GELU_TANH, gelu_tanh, gelu_tanh_derivative, gelu_tanh_f64, gelu_tanh_derivative_f64)                     \
    X(GD_GATE_RELU, relu_f32, step_f32, relu_f64, step_f64)                                                            \
    X(GD_GATE_LINEAR, itself_f32, one_f32, itself_f64, one_f64)

#define FORWARD_CASE(gate_x, f_x, n_x)                                                                                 \
    case gate_x:                                                                                                       \
        _Pragma("omp simd") for (int64_t i = begin; i < end; i++)                                                      \
        {                                                                                                              \
            y[i] = f_x(a[i]) * b[i];                                                                                   \
        }                                                                                                              \
        return;
#define BACKWARD_CASE(gate_x, f_x, derivative_x)                                                                       \
    case gate_x:                                                                                                       \
        _Pragma("omp simd") for (int64_t i = begin; i < end; i++)                                                      \
        {                                                                                                              \
            db[i] = dy[i] * f_x(a[i]);                                                                                 \
            y[i] = dy[i] * b[i] * derivative_x(a[i]);                                                                  \
        }                                                                                                              \
        return;
#define FORWARD_F32(gate_x, f_x, d_x, f64_x, d64_x) FORWARD_CASE(gate_x, f_x, d_x)
#define FORWARD_F64(gate_x, f_x, d_x, f64_x, d64_x) FORWARD_CASE(gate_x, f64_x, d64_x)
#define BACKWARD_F32(gate_x, f_x, d_x, f64_x, d64_x) BACKWARD_CASE(gate_x, f_x, d_x)
#define BACKWARD_F64(gate_x, f_x, d_x, f64_x, d64_x) BACKWARD_CASE(gate_x, f64_x, d64_x)

#define DEFINE_FORWARD(name_x, type_x, cases_x)                                                                        \
    static void name_x(void *arg, int64_t begin, int64_t end)                                                          \
    {                                                                                                                  \
        const gated_t *g = arg;                                                                                        \
        const type_x *a = g->a, *b = g->b;                                                                             \
        type_x *y = g->y;                                                                                              \
        switch (g->gate) {                                                                                             \
            GATES(cases_x)                                                                                             \
        case GD_GATE_COUNT:                                                                                            \
            break;                                                                                                     \
        }                                                                                                              \
    }
DEFINE_FORWARD(forward_f32, float, FORWARD_F32)
DEFINE_FORWARD(forward_f64, double, FORWARD_F64)

#define DEFINE_BACKWARD(name_x, type_x, cases_x)                                                                       \
    static void name_x(void *arg, int64_t begin, int64_t end)                                                          \
    {                                                                                                                  \
        const gated_t *g = arg;                                                                                        \
        const type_x *dy = g->dy, *a = g->a, *b = g->b;                                                                \
        type_x *y = g->y, *db = g->db;                                                                                 \
        switch (g->gate) {                                                                                             \
            GATES(cases_x)                                                                                             \
        case GD_GATE_COUNT:                                                                                            \
            break;                                                                                                     \
        }                                                                                                              \
    }
DEFINE_BACKWARD(backward_f32, float, BACKWARD_F32)
DEFINE_BACKWARD(backward_f64, double, BACKWARD_F64)

static status_t gated_run(const gd_kernel_args_t *args, const char *op, gated_t *g, gd_cpu_body_func_t f32,
                          gd_cpu_body_func_t f64)
{
    const gd_view_t *y = &args->out[0];
    if (y->dtype != GD_DTYPE_F32 && y->dtype != GD_DTYPE_F64) {
        return gd_cpu_fail_dtype(op, y->dtype);
    }
    g->gate = (gd_gate_t)args->attrs->i[0];
    gd_cpu_parallel(args->n_threads, gd_view_numel(y), GD_CPU_MAP_GRAIN, y->dtype == GD_DTYPE_F32 ? f32 : f64, g);
    return ST_OK;
}

/* in: a, b; out: y, all of one shape. attrs: i0 gate. */
CPU_KERNEL(gated)
{
    gated_t g = {.a = args->in[0].data, .b = args->in[1].data, .y = args->out[0].data};
    return gated_run(args, "gated", &g, forward_f32, forward_f64);
}

/* in: dy, a, b; out: da, db. attrs: i0 gate. */
CPU_KERNEL(gated_backward)
{
    gated_t g = {.dy = args->in[0].data,
                 .a = args->in[1].data,
                 .b = args->in[2].data,
                 .y = args->out[0].data,
                 .db = args->out[1].data};
    return gated_run(args, "gated_backward", &g, backward_f32, backward_f64);
}
